"""Mamba, Falcon-Mamba and Mamba-2: a state of fixed size in the place of a cache that grows, and no MLP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer
from symroof.architectures.families.llama import RMS
from symroof.architectures.fields import Fields
from symroof.architectures.ignored_fields import COMMON
from symroof.architectures.parts import recurrent

MAMBA_COMMON = (
    *COMMON,
    *("time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor", "time_step_limit"),
    *("rescale_prenorm_residual", "residual_in_fp32", "fused_add_norm", "rms_norm", "mixer_rms_eps", "use_mambapy"),
    *("use_associative_scan", "ssm_cfg", "d_model", "n_layer", "d_inner", "pad_vocab_size_multiple", "hidden_act", "dt_rank"),
)


def time_step_rank(fields: Fields, name: str, hidden: int) -> int:
    """The rank of the time steps; "auto" or absent is a sixteenth of the hidden size, rounded up."""
    automatic = -(-hidden // 16)
    return automatic if fields.says(name, "auto") else fields.size(name, automatic)


@dataclass(frozen=True)
class Mamba(Decoder):
    """A norm and a selective scan in every layer.

    Source: Gu and Dao (2023), arXiv:2312.00752; config fields as in Transformers' MambaConfig.
    """

    family = "mamba"
    ignored_fields = MAMBA_COMMON

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_selective(fields, inner_norms=None))


@dataclass(frozen=True)
class FalconMamba(Decoder):
    """Mamba with norms, without weights, on the time steps, B and C.

    Source: Zuo et al. (2024), arXiv:2410.05355; config fields as in Transformers' FalconMambaConfig.
    """

    family = "falcon_mamba"
    ignored_fields = (*MAMBA_COMMON, "use_falcon_mambapy")

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(**_selective(fields, inner_norms=False))


def _selective(fields: Fields, *, inner_norms: bool | None) -> dict[str, Any]:
    hidden = fields.size("hidden_size")
    inner = fields.multiple("expand", 2, of=hidden)
    mixer = recurrent.Mamba(fields.flag("use_bias", False), fields.flag("use_conv_bias", True), inner_norms)
    sizes = {
        symbols.d: hidden,
        symbols.d_i: fields.size("intermediate_size", inner),
        symbols.d_s: fields.size("state_size", 16),
        symbols.k_c: fields.size("conv_kernel", 4),
        symbols.r_t: time_step_rank(fields, "time_step_rank", hidden),
        symbols.v: fields.size("vocab_size"),
        symbols.L: fields.layers(fields.named("num_hidden_layers", "n_layer")),
    }
    return {
        "dimensions": sizes,
        "max_positions": None,
        "layers": (Layer("layer", mixer, None),),
        "norms": RMS,
        "tied": fields.flag("tie_word_embeddings", True),
    }


@dataclass(frozen=True)
class Mamba2(Decoder):
    """Heads with one decay each, B and C shared by groups of them, a gated norm.

    Source: Dao and Gu (2024), arXiv:2405.21060; config fields as in Transformers' Mamba2Config.
    """

    family = "mamba2"
    ignored_fields = (
        *MAMBA_COMMON,
        "chunk_size",
        "time_step_rank",
        "norm_before_gate",
        "use_mem_eff_path",
        "A_initializer_range",
        "intermediate_size",
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        hidden = fields.size("hidden_size")
        inner, heads = fields.multiple("expand", 2, of=hidden), fields.size("num_heads", 128)
        width, groups = fields.size("head_dim", 64), fields.size("n_groups", 8)
        if heads * width != inner:
            raise fields.error(f"num_heads {heads} x head_dim {width} is {heads * width}; expected expand x hidden_size, {inner}")
        fields.divides("num_heads", heads, "n_groups", groups)
        return cls(
            {
                symbols.d: hidden,
                symbols.h_s: heads,
                symbols.e_s: width,
                symbols.g_s: groups,
                symbols.d_s: fields.size("state_size", 128),
                symbols.k_c: fields.size("conv_kernel", 4),
                symbols.v: fields.size("vocab_size"),
                symbols.L: fields.layers("num_hidden_layers"),
            },
            None,
            (Layer("layer", recurrent.Mamba2(fields.flag("use_bias", False), fields.flag("use_conv_bias", True)), None),),
            RMS,
            tied=fields.flag("tie_word_embeddings", False),
        )
