"""Hybrids of attention and state space: Jamba, Nemotron-H."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from symroof import symbols
from symroof.architectures.decoder import Decoder, Layer, layer_counts
from symroof.architectures.families.llama import RMS, silu_by_default
from symroof.architectures.families.mamba import MAMBA_COMMON, time_step_rank
from symroof.architectures.families.schema import by_period, expert_sizes, positions, stack, transformer_sizes
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import ACTIVATIONS
from symroof.architectures.parts.recurrent import Mamba, Mamba2


@dataclass(frozen=True)
class Jamba(Decoder):
    """Seven layers of Mamba to one of attention; experts in every other layer.

    Source: Lieber et al. (2024), arXiv:2403.19887; config fields as in Transformers' JambaConfig.
    """

    family = "jamba"
    ignored_fields = (
        *(*MAMBA_COMMON, "use_mamba_kernels", "num_logits_to_keep", "calc_logits_for_entire_prompt", "mamba_inner_layernorms"),
        *("mamba_expand", "mamba_d_state", "mamba_d_conv", "mamba_dt_rank", "num_experts_per_tok"),  # read where they are used
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        fields.fixed("sliding_window", None, "the published models have no sliding window")
        count = fields.layers("num_hidden_layers")
        mixers = _periodic(fields, count, "attn_layer", (8, 4), "full", "mamba")
        mlps = _periodic(fields, count, "expert_layer", (2, 1), "moe", "dense")
        if fields.size(fields.named("num_experts", "num_local_experts"), 16) == 1:
            mlps = ["dense"] * count
        sizes = transformer_sizes(fields, kv_heads=8)
        sizes.pop(symbols.r)  # no rotary embedding
        hidden, activation = sizes[symbols.d], silu_by_default(fields)
        if "mamba" in mixers:
            sizes |= {
                symbols.d_i: fields.multiple("mamba_expand", 2, of=hidden),
                symbols.d_s: fields.size("mamba_d_state", 16),
                symbols.k_c: fields.size("mamba_d_conv", 4),
                symbols.r_t: time_step_rank(fields, "mamba_dt_rank", hidden),
            }
        if "dense" in mlps:
            sizes |= {symbols.f: fields.size("intermediate_size")}
        if "moe" in mlps:
            sizes |= expert_sizes(fields, width="intermediate_size", defaults={"experts": 16, "chosen": 2})
        parts = {
            "full": Attention(rotary=False),
            "mamba": Mamba(fields.flag("mamba_proj_bias", False), fields.flag("mamba_conv_bias", True), inner_norms=True),
            "dense": Mlp(activation),
            "moe": Experts(activation),
        }
        counts, layers = stack(mixers, mlps, parts)
        return cls(sizes | dict(counts), positions(fields), layers, RMS, tied=fields.flag("tie_word_embeddings", False))


def _periodic(fields: Fields, count: int, name: str, defaults: tuple[int, int], inside: str, outside: str) -> list[str]:
    period, offset = fields.size(f"{name}_period", defaults[0]), fields.size(f"{name}_offset", defaults[1], low=0)
    if offset >= period:
        raise fields.error(f"{name}_offset is {offset}; expected less than {name}_period, {period}")
    return by_period(count, period, offset, inside, outside)


LETTERS = {"M": "mamba", "*": "full", "-": "mlp", "E": "moe"}
WORDS = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "full",
    "full_attention": "full",
    "mlp": "mlp",
    "moe": "moe",
}


@dataclass(frozen=True)
class NemotronH(Decoder):
    """Layers of one part each, behind a norm: Mamba-2, attention, a plain MLP or experts, in the order of a pattern.

    Source: NVIDIA (2025), arXiv:2504.03624; config fields as in Transformers' NemotronHConfig, which lets the
    pattern decide how many layers there are and never ties the LM head.
    """

    family = "nemotron_h"
    ignored_fields = (
        *(*MAMBA_COMMON, "chunk_size", "expand", "mamba_proj_bias", "attention_bias", "attention_head_dim", "mamba_ssm_cache_dtype"),
        *("use_mamba_kernels", "num_logits_to_keep", "tie_word_embeddings", "mamba_hidden_act", "mamba_dt_min", "mamba_dt_max"),
        *("mamba_dt_floor", "mamba_dt_init", "mamba_dt_limit", "mamba_num_groups", "rescale_prenorm_residual", "sliding_window"),
        *("time_step_rank", "n_shared_experts", "num_nextn_predict_layers", "mtp_hybrid_override_pattern", "mlp_hidden_act"),
        # read where a layer of their kind stands in the pattern
        *("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "moe_intermediate_size", "moe_latent_size"),
        *("moe_shared_expert_intermediate_size", "n_routed_experts", "num_experts_per_tok", "mamba_num_heads", "mamba_head_dim"),
        *("n_groups", "mamba_n_groups", "ssm_state_size", "conv_kernel", "mamba_d_conv"),
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        fields.plain()
        kinds = cls._pattern(fields)
        bias, conv_bias = fields.flag("use_bias", False), fields.flag(fields.named("use_conv_bias", "mamba_conv_bias"), True)
        activation = fields.choice("mlp_hidden_act", ACTIVATIONS, "relu2")
        mlp_bias = fields.flag("mlp_bias", False)
        shared = Mlp(activation, gated=False, bias=mlp_bias, width="f_s", name="shared_")
        made: dict[str, Layer] = {
            "mamba": Layer("mamba", Mamba2(bias, conv_bias), None),
            "full": Layer("full", Attention(rotary=False), None),
            "mlp": Layer("mlp", None, Mlp(activation, gated=False, bias=mlp_bias)),
            "moe": Layer("moe", None, Experts(activation, gated=False, shared=shared)),
        }
        counts = layer_counts(kinds)
        return cls(
            cls._sizes(fields, kinds) | dict(counts),
            positions(fields),
            tuple(made[kind] for kind in dict.fromkeys(kinds)),
            RMS,
            tied=False,
        )

    @staticmethod
    def _pattern(fields: Fields) -> list[str]:
        count = fields.layers("num_hidden_layers")
        listed = fields.words(fields.named("layers_block_type", "layer_types"), WORDS, count)
        letters = fields.pattern("hybrid_override_pattern", LETTERS)
        if listed is None and letters is None:
            raise fields.error("hybrid_override_pattern is missing; expected a letter per layer, M, *, - or E")
        if letters is not None and len(letters) != count:
            raise fields.error(f"hybrid_override_pattern has {len(letters)} letters; expected num_hidden_layers, {count}")
        if listed is not None and letters is not None and listed != letters:
            raise fields.error("layers_block_type and hybrid_override_pattern disagree, but they mean the same")
        return listed or letters or []

    @staticmethod
    def _sizes(fields: Fields, kinds: list[str]) -> dict[Any, int]:
        sizes: dict[Any, int] = {symbols.d: fields.size("hidden_size"), symbols.v: fields.size("vocab_size")}
        if "full" in kinds:
            sizes |= transformer_sizes(fields, kv_heads=8, head_dim=128)
            sizes.pop(symbols.r)  # no rotary embedding
        if "mlp" in kinds:
            sizes |= {symbols.f: fields.size("intermediate_size", 21504)}
        if "moe" in kinds:
            fields.fixed("moe_latent_size", None, "experts work on the whole hidden size")
            sizes |= expert_sizes(fields, width="moe_intermediate_size", defaults={"experts": 8, "chosen": 2})
            sizes |= {symbols.f_s: fields.size("moe_shared_expert_intermediate_size")}
        if "mamba" in kinds:
            heads = fields.size("mamba_num_heads", 128)
            groups = fields.size(fields.named("n_groups", "mamba_n_groups"), 8)
            fields.divides("mamba_num_heads", heads, "n_groups", groups)
            sizes |= {
                symbols.h_s: heads,
                symbols.e_s: fields.size("mamba_head_dim", 64),
                symbols.g_s: groups,
                symbols.d_s: fields.size("ssm_state_size", 128),
                symbols.k_c: fields.size(fields.named("conv_kernel", "mamba_d_conv"), 4),
            }
        return sizes
