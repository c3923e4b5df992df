"""Models whose config nests others: the text decoder is the model, the vision encoder a part of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from symroof.architectures.fields import IGNORED, Fields

GEMMA3_TEXT = {"vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}

Nested = tuple[str, Mapping[str, Any]]
"""One part of a nested config: its type where it does not say, and absent fields of it, as in that type's class of Transformers."""


@dataclass(frozen=True)
class Multimodal:
    """The parts of a family of nested configs.

    Attributes
    ----------
    text : the decoder; None where the model generates no text.
    vision : the encoder; None where it is of a kind that is not known here.
    tied : whether the LM head is the embedding where the outer config does not say; None leaves it to the inner one.
    flat : whether the decoder's fields may stand in the outer config itself.
    inside : whether only the inner config says whether the LM head is the embedding.
    """

    text: Nested | None
    vision: Nested | None
    tied: bool | None = None
    flat: bool = False
    inside: bool = False


FAMILIES = {
    "gemma3": Multimodal(("gemma3_text", GEMMA3_TEXT), ("siglip_vision_model", VISION), tied=True),
    "llava": Multimodal(("llama", LLAMA), ("clip_vision_model", VISION)),
    "mistral3": Multimodal(("mistral", {}), None),
    "exaone4_5": Multimodal(("exaone4", {}), None, tied=False),
    **dict.fromkeys(("phi4mm", "phi4_multimodal"), Multimodal(("phi3", {"num_key_value_heads": 8}), None, flat=True)),
    "ernie4_5_vl_moe": Multimodal(("ernie4_5_vl_moe_text", {}), None, tied=True),
    "gemma3n": Multimodal(("gemma3n_text", {}), None, tied=True),
    "gemma4": Multimodal(("gemma4_text", {}), None, tied=True),
    "minimax_m3_vl": Multimodal(("minimax_m3_vl_text", {}), None, tied=False),
    "kimi_k3": Multimodal(("kimi_linear", {}), None, tied=False),
    "llama4": Multimodal(("llama4_text", {}), None, inside=True),
    "kimi_k25": Multimodal(("deepseek_v3", {}), None, tied=True),
    "step3p7": Multimodal(("step3p5", {}), None, tied=False, flat=True),
    "qwen2_vl": Multimodal(("qwen2_vl_text", {}), None, flat=True),
    "qwen2_5_vl": Multimodal(("qwen2_5_vl_text", {}), None, flat=True),
    "qwen3_vl": Multimodal(("qwen3_vl_text", {}), None, tied=False),
    "qwen3_vl_moe": Multimodal(("qwen3_vl_moe_text", {}), None, tied=False),
    "qwen3_5": Multimodal(("qwen3_5_text", {}), None, tied=False),
    "qwen3_5_moe": Multimodal(("qwen3_5_moe_text", {}), None, tied=False),
    "clip": Multimodal(None, ("clip_vision_model", VISION)),
    "siglip": Multimodal(None, ("siglip_vision_model", VISION)),
}
"""By model_type. Sources: the config class of that type in Transformers (Gemma3Config, LlavaConfig, Qwen3VLConfig, ...)."""

HARMLESS = (
    *(*IGNORED, "mm_tokens_per_image", "image_seq_length", "vision_feature_layer", "vision_feature_select_strategy"),
    *("multimodal_projector_bias", "projector_hidden_act", "spatial_merge_size", "ignore_index", "projection_dim"),
    *("logit_scale_init_value", "text_config_dict", "vision_config_dict", "text_config", "vision_config", "video_token_index"),
    *("boi_token_index", "eoi_token_index", "image_token_index", "vocab_size", "hidden_size", "image_grid_pinpoints"),
    *("image_start_token_id", "image_end_token_id", "video_start_token_id", "video_end_token_id"),
    *("video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id", "media_placeholder_token_id"),
    *("embd_layer", "img_processor", "audio_processor", "speech_lora", "vision_lora", "audio_config", "full_attn_mod"),
    *("interpolate_factor", "projection_hidden_size", "projection_layer_norm_eps", "use_unified_vision_chunk", "video_placeholder"),
    *("image_placeholder", "projector_bias", "for_llm_compressor", "audio_token_id", "boa_token_id", "boi_token_id", "eoa_token_id"),
    *("eoa_token_index", "eoi_token_id", "vision_soft_tokens_per_image", "audio_soft_tokens_per_image", "img_token_compression_config"),
    *("process_image_mode", "projector_hidden_size", "language_model_only"),
)


def part_of(fields: Fields, kind: str, part: str) -> tuple[str, Fields, str, str]:
    """The part that is meant, its fields and its type, and a sentence on what is left out; no part where the fields are the outer ones.

    Whether the LM head is the embedding is said outside; Transformers 5 also saves the inner class's own, which it does not read.

    Raises
    ------
    ConfigError
        The model has no such part, or it is of a kind that is not known here.
    """
    family = FAMILIES[kind]
    part = part or ("text" if family.text else "vision")
    nested = family.text if part == "text" else family.vision
    if nested is None:
        other = "vision" if part == "text" else "text"
        raise fields.error(f"model_type {kind!r} has no {part} part that is known here; ask for its {other} part: NAME@{other}")
    note = f"the {part} part of a {kind} model; its other parts and the projector between them are not counted, all layers of this one are"
    if part == "text" and family.flat and "text_config" not in fields:
        return "", fields.completed(nested[1]), nested[0], note
    fields.plain()
    tied = fields.flag("tie_word_embeddings", bool(family.tied))
    said = part == "text" and not family.inside and (family.tied is not None or "tie_word_embeddings" in fields)
    absent_type, defaults = nested
    outside = {"tie_word_embeddings": tied} if said else {}
    by_5 = str(fields.peek("transformers_version")).startswith("5.")
    inner = fields.nested(f"{part}_config", {**defaults, **outside}, instead=outside if by_5 else {}, apart=True)
    if said:
        inner.fixed("tie_word_embeddings", tied, "as outside text_config")
    elif family.inside and tied and inner.peek("tie_word_embeddings") is not True:
        raise fields.error("tie_word_embeddings is True; only False is understood (as inside text_config)")
    return part, inner, inner.text("model_type") or absent_type, note
