"""One file per family of models: what its config's fields say, in parts. A file is loaded when a config asks for it."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from symroof.architectures.architecture import Architecture

_FILES = {
    "llama": {"llama": "Llama", "mistral": "Mistral", "phi3": "Phi3", "smollm3": "SmolLM3"},
    "qwen": {"qwen2": "Qwen2", "qwen3": "Qwen3", "qwen2_moe": "Qwen2Moe", "qwen3_moe": "Qwen3Moe"},
    "phi": {"phi": "Phi", "phimoe": "PhiMoe"},
    "gemma": {"gemma": "Gemma", "gemma2": "Gemma2", "gemma3_text": "Gemma3"},
    "gpt": {"gpt2": "GPT2", "gpt_bigcode": "GPTBigCode", "gptj": "GPTJ", "gpt_neox": "GPTNeoX"},
    "opt": {"opt": "OPT"},
    "bloom": {"bloom": "Bloom"},
    "falcon": {"falcon": "Falcon", "RefinedWeb": "Falcon", "RefinedWebModel": "Falcon"},
    "starcoder": {"starcoder2": "Starcoder2", "stablelm": "StableLm"},
    "cohere": {"cohere": "Cohere", "cohere2": "Cohere2"},
    "olmo": {"olmo": "Olmo", "olmo2": "Olmo2", "olmo3": "Olmo3", "olmoe": "Olmoe"},
    "granite": {"granite": "Granite", "granitemoe": "GraniteMoe", "granitemoehybrid": "GraniteMoeHybrid"},
    "glm": {"chatglm": "ChatGLM", "glm": "Glm", "glm4": "Glm4", "glm4_moe": "Glm4Moe"},
    "mixtral": {"mixtral": "Mixtral", "gpt_oss": "GptOss", "ernie4_5_moe": "Ernie45Moe"},
    "deepseek": {"deepseek": "Deepseek", "deepseek_v2": "DeepseekV2", "deepseek_v3": "DeepseekV3", "kimi_k2": "DeepseekV3"},
    "mamba": {"mamba": "Mamba", "falcon_mamba": "FalconMamba", "mamba2": "Mamba2"},
    "jamba": {"jamba": "Jamba", "nemotron_h": "NemotronH"},
    "qwen_next": {"qwen3_next": "Qwen3Next"},
    "vision": {"vit": "VisionTransformer", "clip_vision_model": "VisionTransformer", "siglip_vision_model": "VisionTransformer"},
    "dit": {"DiTTransformer2DModel": "DiT", "Transformer2DModel": "DiT"},
}
"""For every file the classes of its families, by the model_type that asks for them."""

_HOMES = {model_type: (file, name) for file, families in _FILES.items() for model_type, name in families.items()}
MODEL_TYPES = tuple(_HOMES)


def family_of(model_type: str) -> type[Architecture]:
    """The family of a model_type that is known.

    >>> family_of("qwen2").family
    'qwen2'
    """
    file, name = _HOMES[model_type]
    return cast(type[Architecture], getattr(import_module(f"{__name__}.{file}"), name))


def families() -> tuple[type[Architecture], ...]:
    """Every family, once."""
    return tuple(dict.fromkeys(map(family_of, MODEL_TYPES)))
