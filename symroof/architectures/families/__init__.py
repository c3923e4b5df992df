"""The families of models: a table of decoders by their parts, and classes for other architectures."""

from __future__ import annotations

from symroof.architectures.families import multimodal
from symroof.architectures.families.dense import GATED_MLP
from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.gpt import PLAIN_MLP
from symroof.architectures.families.images import DiT, VisionTransformer
from symroof.architectures.families.recurrent import RECURRENT
from symroof.architectures.families.selective import SELECTIVE
from symroof.architectures.families.sparse import SPARSE
from symroof.architectures.families.tables.bailing import BAILING
from symroof.architectures.families.tables.encoder_decoder import ENCODER_DECODERS
from symroof.architectures.families.tables.encoders import ENCODERS, EncoderFamily
from symroof.architectures.families.tables.gemma import GEMMAS
from symroof.architectures.families.tables.hybrids import HYBRIDS
from symroof.architectures.families.tables.kimi import KIMI
from symroof.architectures.families.tables.longcat import LONGCAT
from symroof.architectures.families.tables.routed import ROUTED
from symroof.architectures.families.tables.searched import SEARCHED
from symroof.architectures.families.tables.state_space import STATE_SPACE
from symroof.architectures.families.tables.states import STATES
from symroof.architectures.families.tables.streams import STREAMS
from symroof.architectures.families.tables.variants import VARIANTS
from symroof.architectures.families.tables.windows import WINDOWS
from symroof.architectures.families.tables.zamba import ZAMBA

__all__ = ["FAMILIES", "MODEL_TYPES", "MODEL_TYPES_OF", "DecoderFamily", "Family", "family_of", "multimodal"]

Family = DecoderFamily | EncoderFamily | type[VisionTransformer | DiT]
FAMILIES: tuple[Family, ...] = (
    *(
        *GATED_MLP,
        *PLAIN_MLP,
        *VARIANTS,
        *SEARCHED,
        *GEMMAS,
        *SPARSE,
        *ROUTED,
        *WINDOWS,
        *SELECTIVE,
        *STREAMS,
        *RECURRENT,
        *STATE_SPACE,
        *HYBRIDS,
        *KIMI,
        *LONGCAT,
        *BAILING,
        *STATES,
        *ZAMBA,
    ),
    *(*ENCODERS, *ENCODER_DECODERS, VisionTransformer, DiT),
)

MODEL_TYPES_OF = {
    "qwen2": ("qwen2", "mimo"),
    "exaone4": ("exaone4", "exaone4_5_text"),
    "gemma3": ("gemma3_text",),
    "falcon": ("falcon", "RefinedWeb", "RefinedWebModel"),
    "deepseek_v3": ("deepseek_v3", "kimi_k2"),
    "deepseek_v4": ("deepseek_v4", "deepseek_ref"),
    "qwen2_5_vl": ("qwen2_5_vl_text", "qwen2_vl_text"),
    "qwen3_vl": ("qwen3_vl_text",),
    "qwen3_vl_moe": ("qwen3_vl_moe_text",),
    "qwen3_5": ("qwen3_5_text",),
    "qwen3_5_moe": ("qwen3_5_moe_text",),
    "ernie4_5_vl_moe": ("ernie4_5_vl_moe_text",),
    "gemma3n": ("gemma3n_text",),
    "gemma4": ("gemma4_text",),
    "llama4": ("llama4_text",),
    "minimax_m3": ("minimax_m3", "minimax_m3_vl_text"),
    "step3p5": ("step3p5", "step3p7_text"),
    "vit": ("vit", "clip_vision_model", "siglip_vision_model"),
    "dit": ("DiTTransformer2DModel", "Transformer2DModel"),
}
"""The model_types that differ from the family's name."""

_BY_MODEL_TYPE = {kind: family for family in FAMILIES for kind in MODEL_TYPES_OF.get(family.family, (family.family,))}
MODEL_TYPES = tuple(_BY_MODEL_TYPE)


def family_of(model_type: str) -> Family:
    """The family of a known model_type.

    >>> family_of("qwen2").family
    'qwen2'
    """
    return _BY_MODEL_TYPE[model_type]
