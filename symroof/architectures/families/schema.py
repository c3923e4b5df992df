"""What most configs spell alike: the sizes of a transformer, the kinds of its layers, and how many of each there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.decoder import Layer, layer_counts
from symroof.architectures.fields import Fields
from symroof.architectures.parts.part import Part

LAYER_TYPES = {"full_attention": "full", "sliding_attention": "sliding"}
"""Words of `layer_types`, and what the kinds of layers are called here."""

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Spellings of the number of experts."""


def transformer_sizes(fields: Fields, *, kv_heads: int | None = None, head_dim: int | None = None, rotary: str = "1") -> dict[Symbol, int]:
    """Hidden size, heads, head dimension and its turned part, vocabulary.

    Parameters
    ----------
    kv_heads : what an absent ``num_key_value_heads`` means; None for as many as query heads, which null always means.
    head_dim : what an absent ``head_dim`` means; None for hidden size / heads.
    rotary : the share of a head that the rotary embedding turns, where the config does not say.
    """
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    groups = fields.size("num_key_value_heads", kv_heads or heads, null=heads)
    fields.divides("num_attention_heads", heads, "num_key_value_heads", groups)
    width = fields.size("head_dim", head_dim, null=None) or fields.divides("hidden_size", hidden, "num_attention_heads", heads)
    return {
        symbols.d: hidden,
        symbols.h: heads,
        symbols.k: groups,
        symbols.e: width,
        symbols.r: turned(fields, width, rotary),
        symbols.v: fields.size("vocab_size"),
    }


def turned(fields: Fields, head_dim: int, default: str) -> int:
    """Components of a head that the rotary embedding turns: a share of them, under any of its names."""
    sources = [fields, *([fields.nested("rope_parameters")] if "rope_parameters" in fields else [])]
    named = [(source, source.named("partial_rotary_factor", "rotary_pct", "rope_pct")) for source in sources]
    shares = [source.share(name, default) for source, name in named if name in source] or [Fraction(default)]
    if shares[0] != shares[-1]:
        raise fields.error(f"{named[0][1]} is {float(shares[0])}, but rope_parameters.{named[1][1]} is {float(shares[-1])}")
    return max(int(shares[0] * head_dim), 1)


def heads_fill(fields: Fields, sizes: Mapping[Symbol, int]) -> None:
    """Refuse a ``head_dim`` other than hidden size / heads, which the family's published code does not read.

    Raises
    ------
    ConfigError
        The config states another.
    """
    width = fields.divides("hidden_size", sizes[symbols.d], "num_attention_heads", sizes[symbols.h])
    fields.fixed("head_dim", width, "hidden_size / num_attention_heads")


def positions(fields: Fields) -> int | None:
    """The longest sequence the model was published for, if the config says."""
    return fields.size("max_position_embeddings", None)


def by_period(count: int, period: int, offset: int, inside: str, outside: str) -> list[str]:
    """Every *period*-th layer, counted from *offset*, of one kind, the rest of another.

    >>> by_period(4, 2, 1, "full", "sliding")
    ['sliding', 'full', 'sliding', 'full']
    """
    return [inside if number % period == offset else outside for number in range(count)]


def last_of_each(count: int, period: int, inside: str, outside: str) -> list[str]:
    """The last of every *period* layers of one kind, the rest of another."""
    return by_period(count, period, period - 1, inside, outside)


def sparse_layers(fields: Fields, count: int) -> list[str]:
    """Which layers are mixtures of experts, as the Qwen families say it."""
    step = fields.size("decoder_sparse_step", 1)
    dense = fields.indices("mlp_only_layers", count) or frozenset()
    return ["moe" if number not in dense and (number + 1) % step == 0 else "dense" for number in range(count)]


def expert_sizes(
    fields: Fields, *, width: str, defaults: Mapping[str, int] | None = None, inline_definitions: str = "num_local_experts"
) -> dict[Symbol, int]:
    """Experts, experts per token, their intermediate size, under any of the spellings.

    Parameters
    ----------
    width : the field of the experts' intermediate size.
    defaults : what absent fields mean: "experts", "chosen".
    inline_definitions : the field of the number of experts that a message on its absence names.
    """
    known: Mapping[str, Any] = defaults or {}
    experts = fields.named(inline_definitions, *EXPERTS)
    chosen = fields.named("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk")
    sizes = {
        symbols.E: fields.size(experts, known["experts"]) if "experts" in known else fields.size(experts),
        symbols.K: fields.size(chosen, known["chosen"]) if "chosen" in known else fields.size(chosen),
        symbols.f_e: fields.size(width),
    }
    if sizes[symbols.K] > sizes[symbols.E]:
        raise fields.error(f"{chosen} is {sizes[symbols.K]}; expected at most {experts}, {sizes[symbols.E]}")
    return sizes


def stack(mixers: Sequence[str], mlps: Sequence[str], parts: Mapping[str, Part]) -> tuple[Mapping[Symbol, int], tuple[Layer, ...]]:
    """How many layers there are of each kind, and what each kind is made of.

    Kinds are told apart by what differs between them: the mixer, the MLP, or both.

    Parameters
    ----------
    mixers, mlps : of every layer, names in *parts*; a mixer "sliding" looks at a window.

    >>> from symroof.architectures.parts.mlp import Mlp
    >>> stack(["sliding", "full"], ["dense", "dense"], {"sliding": Mlp("silu"), "full": Mlp("silu"), "dense": Mlp("silu")})[0]
    {L_sliding: 1, L_full: 1}
    """
    differ = [place for place, names in enumerate((mixers, mlps)) if len(set(names)) > 1]
    kinds = ["_".join(names[place] for place in differ) or "layer" for names in zip(mixers, mlps, strict=True)]
    layers: dict[str, Layer] = {}
    for kind, mixer, mlp in zip(kinds, mixers, mlps, strict=True):
        if kind not in layers:
            layers[kind] = Layer(kind, parts[mixer], parts[mlp], window=mixer == "sliding")
    return layer_counts(kinds), tuple(layers.values())
