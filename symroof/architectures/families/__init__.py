"""One file per family of models: what its config's fields say, in parts."""

from __future__ import annotations

from symroof.architectures.architecture import Architecture
from symroof.architectures.families.bloom import Bloom
from symroof.architectures.families.cohere import Cohere, Cohere2
from symroof.architectures.families.deepseek import Deepseek, DeepseekV2, DeepseekV3
from symroof.architectures.families.dit import DiT
from symroof.architectures.families.falcon import Falcon
from symroof.architectures.families.gemma import Gemma, Gemma2, Gemma3
from symroof.architectures.families.glm import ChatGLM, Glm, Glm4, Glm4Moe
from symroof.architectures.families.gpt import GPT2, GPTJ, GPTBigCode, GPTNeoX
from symroof.architectures.families.granite import Granite, GraniteMoe, GraniteMoeHybrid
from symroof.architectures.families.jamba import Jamba, NemotronH
from symroof.architectures.families.llama import Llama, Mistral, Phi3, SmolLM3
from symroof.architectures.families.mamba import FalconMamba, Mamba, Mamba2
from symroof.architectures.families.mixtral import Ernie45Moe, GptOss, Mixtral
from symroof.architectures.families.olmo import Olmo, Olmo2, Olmo3, Olmoe
from symroof.architectures.families.opt import OPT
from symroof.architectures.families.phi import Phi, PhiMoe
from symroof.architectures.families.qwen import Qwen2, Qwen2Moe, Qwen3, Qwen3Moe
from symroof.architectures.families.qwen_next import Qwen3Next
from symroof.architectures.families.starcoder import StableLm, Starcoder2
from symroof.architectures.families.vision import VisionTransformer

FAMILIES: tuple[type[Architecture], ...] = (
    *(Llama, Mistral, Phi3, SmolLM3, Qwen2, Qwen3, Phi, Gemma, Gemma2, Gemma3),
    *(GPT2, GPTBigCode, GPTJ, GPTNeoX, OPT, Bloom, Falcon, Starcoder2, StableLm),
    *(Cohere, Cohere2, Olmo, Olmo2, Olmo3, Granite, ChatGLM, Glm, Glm4),
    *(Mixtral, Qwen2Moe, Qwen3Moe, Olmoe, GptOss, PhiMoe, GraniteMoe, Glm4Moe, Ernie45Moe),
    *(Deepseek, DeepseekV2, DeepseekV3),
    *(Mamba, FalconMamba, Mamba2, Jamba, Qwen3Next, NemotronH, GraniteMoeHybrid),
    *(VisionTransformer, DiT),
)
BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}
