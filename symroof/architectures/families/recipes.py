"""Readers of parts: a function that turns a config's fields into a part of a layer, with the sizes that part needs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import Attention, LatentAttention
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import ACTIVATIONS, Part

Recipe = Mapping[str, Any]
"""Attributes of a part: constants, or functions of the config's fields."""

PartReader = Callable[[Fields, int], tuple[Part, dict[Symbol, int]]]
"""From a config's fields and its hidden size to a part and its sizes; called only if a layer has the part."""


def resolved(fields: Fields, recipe: Recipe) -> dict[str, Any]:
    """The recipe with every function replaced by the config's value."""
    return {name: value(fields) if callable(value) else value for name, value in recipe.items()}


def flag(name: str, absent: bool) -> Callable[[Fields], bool]:
    """The field, true or false."""
    return lambda fields: fields.flag(name, absent)


def when(name: str, value: Any, absent: bool = False) -> Callable[[Fields], Any]:
    """The value if the flag of this name is set, otherwise None."""
    return lambda fields: value if fields.flag(name, absent) else None


def activation(absent: str = "silu", name: str = "hidden_act", known: Mapping[str, str] = ACTIVATIONS) -> Callable[[Fields], str]:
    """The activation function that a field names."""
    return lambda fields: fields.choice(name, known, absent)


def capped(name: str, absent: bool) -> Callable[[Fields], bool]:
    """Whether there is a cap or a multiplier."""
    return lambda fields: fields.measured(name, absent)


def biased(name: str, absent: bool) -> dict[str, Any]:
    """Biases of all four projections or of none, by a single field."""
    return {"bias": flag(name, absent), "out_bias": flag(name, absent)}


BIAS = flag("attention_bias", False)
WITH_BIAS = biased("attention_bias", False)
TIED = flag("tie_word_embeddings", True)


def attention(
    *,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    turned: str = "1",
    turned_in: str = "",
    kind: str = "",
    kv_named: tuple[str, ...] = ("num_key_value_heads",),
    filled: Any = False,
    **recipe: Any,
) -> PartReader:
    """Attention with sizes from the common fields.

    Parameters
    ----------
    kv_heads : what an absent ``num_key_value_heads`` means; None for as many as query heads, which null always means.
    head_dim : what an absent ``head_dim`` means; None for hidden size / heads.
    turned : the share of a head that the rotary embedding turns, where the config does not say.
    kv_named : the fields of the number of KV heads.
    kind : the key of the layer's rotary parameters, where there are several.
    turned_in : a field with the number of components that it turns, which stands in for the share.
    filled : whether a ``head_dim`` other than hidden size / heads is refused, which the published code would not read.
    recipe : attributes of `Attention`; without an ``out_bias`` the output projection has none.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        part = Attention(**resolved(fields, recipe))
        heads, of_groups = fields.size("num_attention_heads"), fields.named(*kv_named)
        groups = fields.size(of_groups, kv_heads or heads, null=heads)
        fields.divides("num_attention_heads", heads, of_groups, groups)
        if not part.grouped and groups != heads:
            raise fields.error("num_key_value_heads is not num_attention_heads; this family has one KV head per query head")
        width = fields.size("head_dim", head_dim, null=None) or fields.divides("hidden_size", hidden, "num_attention_heads", heads)
        if filled(fields) if callable(filled) else filled:
            even = fields.divides("hidden_size", hidden, "num_attention_heads", heads)
            fields.fixed("head_dim", even, "hidden_size / num_attention_heads")
        components = turned_components(fields, width, turned, turned_in, kind)
        sizes = {symbols.h: heads} | ({symbols.k: groups} if part.grouped else {}) | {symbols.e: width}
        return part, sizes | ({symbols.r: components} if part.rotary else {})

    return read


def window_attention(
    *,
    heads: Callable[[Fields, int], int],
    kv_heads: Callable[[Fields, int], int],
    head_dim: Callable[[Fields, int], int],
    named: tuple[str, str],
    read_as: PartReader,
    turned: str = "1",
    turned_in: str = "",
) -> PartReader:
    """Attention of layers with a window whose heads have sizes of their own, each a function of the fields and the other layers' size.

    Parameters
    ----------
    named : the fields with the numbers of query and KV heads.
    read_as : the same attention with the sizes of the other layers.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        part, others = read_as(fields, hidden)
        assert isinstance(part, Attention)
        count, groups = heads(fields, others[symbols.h]), kv_heads(fields, others[symbols.k])
        fields.divides(named[0], count, named[1], groups)
        width = head_dim(fields, others[symbols.e])
        components = turned_components(fields, width, turned, turned_in, "sliding_attention")
        own = {symbols.h_w: count, symbols.k_w: groups, symbols.e_w: width} | ({symbols.r_w: components} if part.rotary else {})
        return replace(part, own_sizes=True), own | ({symbols.e_v: others[symbols.e_v]} if part.wide_values else {})

    return read


def turned_components(fields: Fields, head_dim: int, default: str, name: str = "", kind: str = "") -> int:
    """Components of a head that the rotary embedding rotates: a share, from any of its fields, or their number in the field *name*.

    Where ``rope_parameters`` has an object per kind of layer, that of the *kind* counts, and what stands outside if that says nothing.
    """
    number = fields.size(name, None, high=head_dim) if name else None
    if number is not None:
        default = str(Fraction(number, head_dim))
    sources = [fields, *([fields.nested("rope_parameters")] if "rope_parameters" in fields else [])]
    named = [(source, source.named("partial_rotary_factor", "rotary_pct", "rope_pct")) for source in sources]
    if kind and len(sources) > 1 and kind in sources[1]:
        default = str(fields.share(named[0][1], default))
        named = [(inner := sources[1].nested(kind), inner.named("partial_rotary_factor", "rotary_pct", "rope_pct"))]
    shares = [source.share(name, default) for source, name in named if name in source] or [Fraction(default)]
    if shares[0] != shares[-1]:
        raise fields.error(f"{named[0][1]} is {float(shares[0])}, but rope_parameters.{named[1][1]} is {float(shares[-1])}")
    return max(int(shares[0] * head_dim), 1)


def latent_sizes(fields: Fields, *, rank: int = 512, nope: int = 128, values: int = 128) -> dict[Symbol, int]:
    """The sizes of latent attention but the rank of its queries; *rank*, *nope* and *values* are absent ones of keys and values."""
    return {
        symbols.h: fields.size("num_attention_heads"),
        symbols.r_kv: fields.size("kv_lora_rank", rank),
        symbols.r: fields.size("qk_rope_head_dim", 64),
        symbols.e_n: fields.size("qk_nope_head_dim", nope),
        symbols.e_v: fields.size("v_head_dim", values),
    }


def latent(queries: int | None = 1536, recipe: Recipe | None = None, **absent: int) -> PartReader:
    """DeepSeek's latent attention; queries are compressed, to an absent rank of *queries*, unless ``q_lora_rank`` is null.

    *recipe* has further attributes of `LatentAttention`.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        rank = fields.size("q_lora_rank", queries, null=None)
        part = LatentAttention(compressed_queries=rank is not None, bias=BIAS(fields), **resolved(fields, recipe or {}))
        return part, latent_sizes(fields, **absent) | ({symbols.r_q: rank} if rank else {})

    return read


latent_attention = latent()
"""Latent attention with DeepSeek's defaults."""


def mlp(*, width: str = "intermediate_size", absent: int | None = None, times: int | None = None, **recipe: Any) -> PartReader:
    """A dense MLP.

    Parameters
    ----------
    width : the field of its intermediate size; "" where that is not in the config.
    absent, times : what an absent field means: a number, or so many times the hidden size.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        default = times * hidden if times else absent
        size = default if not width else fields.size(width) if default is None else fields.size(width, default)
        assert size is not None
        return Mlp(**resolved(fields, {"activation": activation()} | recipe)), {symbols.f: size}

    return read


plain_mlp = functools.partial(mlp, gated=False, bias=True)
"""A dense MLP without a gate, with biases."""

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk", "moe_top_k", "top_k_experts")

SharedWidth = Callable[[Fields, int], int]
"""From a config's fields and one expert's intermediate size to that of all shared experts together; 0 if there are none."""


def shared_experts(name: str, absent: int, **null: int) -> SharedWidth:
    """Shared experts in the number of a field, each as wide as a routed expert."""
    return lambda fields, width: fields.size(name, absent, low=0, **null) * width


def experts(
    *,
    width: str = "intermediate_size",
    count: int | None = None,
    chosen: int | None = None,
    named: str = "num_local_experts",
    shared: SharedWidth | None = None,
    shared_bias: Any = False,
    **recipe: Any,
) -> PartReader:
    """A mixture of experts.

    Parameters
    ----------
    width : the field of the experts' intermediate size.
    count, chosen : what absent numbers of experts, and of experts per token, mean.
    named : the field of the number of experts that a message on its absence names.
    shared : the width of the experts that all tokens share, and `shared_bias` whether they have biases.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        of_experts, per_token = fields.named(named, *EXPERT_COUNTS), fields.named(*EXPERTS_PER_TOKEN)
        sizes = {
            symbols.E: fields.size(of_experts) if count is None else fields.size(of_experts, count),
            symbols.K: fields.size(per_token) if chosen is None else fields.size(per_token, chosen),
            symbols.f_e: fields.size(width),
        }
        if sizes[symbols.K] > sizes[symbols.E]:
            raise fields.error(f"{per_token} is {sizes[symbols.K]}; expected at most {of_experts}, {sizes[symbols.E]}")
        known = resolved(fields, {"activation": activation(), "gated": True} | recipe)
        common = shared(fields, sizes[symbols.f_e]) if shared else 0
        if common:
            sizes[symbols.f_s] = common
            bias = resolved(fields, {"bias": shared_bias})
            known["shared"] = Mlp(known["activation"], gated=known["gated"], width="f_s", name="shared_", **bias)
        return Experts(**known), sizes

    return read
