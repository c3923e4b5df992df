"""Further decoders with state spaces or short convolutions beside attention: LFM2, Bamba, Falcon-H1."""

from __future__ import annotations

from typing import Any

from symroof import symbols
from symroof.architectures.families.family import DecoderFamily, only
from symroof.architectures.families.recipes import WITH_BIAS, PartReader, attention, capped, experts, flag, mlp
from symroof.architectures.families.recurrent import MAMBA_IGNORED, Reading, granite_mamba, scan_sizes
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.architectures.fields import Fields
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.recurrent import Mamba2, ShortConvolution, SideBySide
from symroof.operators.elementwise import Norm

# ---- LFM2

CONVOLUTIONS = {"full_attention": "full", "conv": "conv"}


def short_convolution(fields: Fields, hidden: int) -> Reading:
    """A short convolution over the hidden size."""
    return ShortConvolution(fields.flag("conv_bias", False)), {symbols.d_i: hidden, symbols.k_c: fields.size("conv_L_cache", 3)}


def lfm2_mixers(fields: Fields, count: int) -> list[str]:
    """Attention in the layers that a list names, in all without one, and short convolutions in the others."""
    listed = fields.words("layer_types", CONVOLUTIONS, count)
    attending = fields.indices("full_attn_idxs", count)
    named = ["full" if attending is None or number in attending else "conv" for number in range(count)]
    if listed and attending is not None and listed != named:
        raise fields.error("layer_types and full_attn_idxs disagree, but they mean the same")
    return listed or named


def lfm2_mlp(fields: Fields, hidden: int) -> Reading:
    """Two thirds of the stated size, times a factor, rounded up to a multiple."""
    size = fields.size(fields.named("block_ff_dim", "intermediate_size"), 12288)
    if fields.flag("block_auto_adjust_ff_dim", True):
        size = 2 * size // 3
        if fields.measured("block_ffn_dim_multiplier", True):
            step = fields.size("block_multiple_of", 256)
            size = -(-fields.multiple("block_ffn_dim_multiplier", 1, of=size) // step) * step
    return Mlp("silu"), {symbols.f: size}


def lfm2_dense(fields: Fields, count: int) -> list[str]:
    """A dense MLP in the first layers."""
    dense = min(fields.size("num_dense_layers", 2, low=0), count)
    return ["dense"] * dense + ["moe"] * (count - dense)


def listed_mixers(fields: Fields, count: int) -> list[str]:
    """What the list says, which must be there."""
    listed = fields.words("layer_types", CONVOLUTIONS, count)
    if listed is None:
        raise fields.error(f"layer_types is missing; expected a word per layer, {' or '.join(CONVOLUTIONS)}")
    return listed


def lfm2_tied(fields: Fields) -> bool:
    """Whether the LM head is the embedding, under either name."""
    return fields.flag(fields.named("tie_embedding", "tie_word_embeddings"), True)


LFM2: dict[str, Any] = {
    "attributes": {"tied": lfm2_tied},
    "ignored": (
        *("block_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init"),
        *("conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads", "theta", "use_pos_enc", "use_expert_bias"),
        *("block_multiple_of", "block_ffn_dim_multiplier"),  # read where the MLP is adjusted
    ),
}
LFM2_MIXERS = {"full": attention(kv_heads=8, qk_norm=Norm.RMS), "conv": short_convolution}

# ---- Bamba and Falcon-H1


def bamba_mixers(fields: Fields, count: int) -> list[str]:
    """Attention in the layers that a list names, Mamba-2 in the others."""
    attending = fields.indices("attn_layer_indices", count) or frozenset()
    return ["full" if number in attending else "mamba" for number in range(count)]


def falcon_mamba2(fields: Fields, hidden: int) -> Reading:
    """Mamba-2 with an inner size of its own, with or without a norm behind the gate."""
    inner = fields.size("mamba_d_ssm", 1024, null=None) or fields.multiple("mamba_expand", 2, of=hidden)
    heads, groups = fields.size("mamba_n_heads", 128), fields.size("mamba_n_groups", 1)
    width = fields.divides("mamba_d_ssm", inner, "mamba_n_heads", heads)
    if not fields.says("mamba_d_head", "auto") and (stated := fields.size("mamba_d_head", width)) != width:
        raise fields.error(f"mamba_d_head is {stated}; expected {width}, mamba_d_ssm / mamba_n_heads")
    fields.divides("mamba_n_heads", heads, "mamba_n_groups", groups)
    flags = [fields.flag(*named) for named in (("mamba_proj_bias", False), ("mamba_conv_bias", True), ("projectors_bias", False))]
    part = Mamba2(*flags, normed=fields.flag("mamba_rms_norm", False))
    return part, scan_sizes(heads, width, groups, fields.size("mamba_d_state", 256), fields.size("mamba_d_conv", 4))


def beside(first: PartReader, second: PartReader, name: str) -> PartReader:
    """Two mixers of the same input."""

    def read(fields: Fields, hidden: int) -> Reading:
        (one, sizes), (other, more) = first(fields, hidden), second(fields, hidden)
        return SideBySide(one, other, name), sizes | more

    return read


def falcon_scaled(fields: Fields) -> frozenset[str]:
    """Where activations are multiplied; the multipliers inside a layer are constants that its weights can take up."""
    named = {"embedding": "embedding_multiplier", "logits": "lm_head_multiplier"}
    return frozenset(place for place, name in named.items() if capped(name, True)(fields))


STATE_SPACE = (
    DecoderFamily(
        "lfm2",
        "Liquid AI (2025), LFM2, arXiv:2511.23404; Transformers' Lfm2Config",
        {**LFM2_MIXERS, "dense": lfm2_mlp},
        mixers=lfm2_mixers,
        **LFM2,
    ),
    DecoderFamily(
        "lfm2_moe",
        "Liquid AI (2025), LFM2, arXiv:2511.23404; Transformers' Lfm2MoeConfig",
        {**LFM2_MIXERS, "dense": mlp(), "moe": experts(width=MOE_WIDTH, named="num_experts", count=32, chosen=4)},
        mixers=listed_mixers,
        mlps=lfm2_dense,
        **LFM2,
    ),
    DecoderFamily(
        "bamba",
        "IBM, Princeton, CMU and UIUC (2024), huggingface.co/blog/bamba; Transformers' BambaConfig",
        {"full": attention(kv_heads=8, turned="0.5", **WITH_BIAS), "mamba": granite_mamba, "dense": mlp(bias=flag("mlp_bias", False))},
        mixers=bamba_mixers,
        ignored=(*MAMBA_IGNORED, "mamba_chunk_size", "z_loss_coefficient", "num_logits_to_keep", "attn_rotary_emb", "layer_types"),
    ),
    DecoderFamily(
        "falcon_h1",
        "Zuo et al. (2025), Falcon-H1, arXiv:2507.22448; Transformers' FalconH1Config",
        {"both": beside(attention(kv_heads=8, **WITH_BIAS), falcon_mamba2, "mamba"), "dense": mlp(bias=flag("mlp_bias", False))},
        mixers=only("both"),
        attributes={"scaled": falcon_scaled},
        ignored=(
            *(*MAMBA_IGNORED, "mamba_chunk_size", "num_logits_to_keep", "mamba_norm_before_gate", "mamba_use_mlp", "mlp_expansion_factor"),
            *("mlp_multipliers", "key_multiplier", "attention_out_multiplier", "attention_in_multiplier", "ssm_multipliers"),
            *("ssm_in_multiplier", "ssm_out_multiplier", "attn_layer_indices", "layer_types", "layers_block_type", "mamba_expand"),
            *("num_logits_to_keep", "attn_rotary_emb"),
        ),
    ),
)
