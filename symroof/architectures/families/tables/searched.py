"""Decoders whose layers a search chose one by one: Llama-Nemotron, with KV heads and MLP widths of each layer's own, or neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sympy import Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture
from symroof.architectures.families.family import DecoderFamily, register_kinds
from symroof.architectures.families.recipes import WITH_BIAS, PartReader, activation, attention, flag, resolved
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Matrix, Mlp
from symroof.architectures.parts.part import Part
from symroof.errors import quote
from symroof.vocabulary import numbered

MULTIPLE = 256
"""MLP widths are rounded up to a multiple of it. Source: DeciLM's published modeling code, as in vLLM's nemotron_nas.py."""

MOST_SIZES = 32
"""The most numbers of KV heads, and the most MLP widths, of one model; the published ones have 4 and 12."""

MOST_TIMES = 1000
"""The largest multiplier of an MLP."""

NOTHING, MATRIX = "", "matrix"
Choice = int | Literal["", "matrix"]
"""What a layer has in one of its halves: a number of KV heads or a width, a matrix in its place, or nothing."""

KNOWN = ("no_op", "replace_with_linear", "n_heads_in_group", "ffn_mult")
"""Fields of a half."""


def mlp_width(multiplier: float, hidden: int) -> int:
    """The width that a multiplier of the hidden size means, in the floating-point arithmetic of the published code.

    >>> mlp_width(5.25, 8192), mlp_width(3.28125, 8192)
    (28672, 17920)
    """
    width = int(2 * multiplier * hidden / 3)
    return width + -width % MULTIPLE


def _choices(fields: Fields, count: int, hidden: int) -> list[tuple[Choice, Choice]]:
    """What every layer has for attention, and for an MLP."""
    blocks, heads = fields.peek("block_configs"), fields.size("num_attention_heads")
    listed = isinstance(blocks, list) and len(blocks) == count
    stated = f"a list of {len(blocks)}" if isinstance(blocks, list) else quote(blocks)
    if fields.listed("block_configs") is None or not listed:
        raise fields.error(f"block_configs is {stated}; expected a list of {count} objects, one for each of num_hidden_layers")
    read: dict[str, tuple[Choice, Choice]] = {}
    for number, block in enumerate(blocks):
        if repr(block) not in read:
            fields.require(isinstance(block, dict), f"block_configs[{number}]", block, "an object with attention and ffn")
            of_layer = Fields(block, fields.origin, f"block_configs[{number}].")
            of_attention, of_mlp = of_layer.nested("attention"), of_layer.nested("ffn")
            groups, width = _replaced(of_attention), _replaced(of_mlp)
            if groups is None:
                each = of_attention.size("n_heads_in_group")
                groups = fields.divides("num_attention_heads", heads, f"block_configs[{number}].attention.n_heads_in_group", each)
            read[repr(block)] = groups, _width(of_mlp, hidden) if width is None else width
    return [read[repr(block)] for block in blocks]


def _replaced(half: Fields) -> Literal["", "matrix"] | None:
    """What stands in place of a half of a layer, if anything does; features that no published model uses are refused."""
    for name in half.unread(KNOWN):
        value = half.peek(name.rpartition(".")[2])
        if value is not False and value != []:
            raise half.error(f"{name.rpartition('.')[2]} is {quote(value)}; only null is understood")
    nothing, matrix = half.flag("no_op", False), half.flag("replace_with_linear", False)
    return NOTHING if nothing else MATRIX if matrix else None


def _width(ffn: Fields, hidden: int) -> int:
    stated, multiplier = ffn.measured("ffn_mult", absent=False), ffn.peek("ffn_mult")
    ffn.require(stated and multiplier <= MOST_TIMES, "ffn_mult", multiplier, f"a number above 0, at most {MOST_TIMES}")
    return mlp_width(multiplier, hidden)


def _attention(groups: int, symbol: Symbol, *, several: bool) -> PartReader:
    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        part, sizes = attention(**WITH_BIAS)(fields, hidden)
        assert isinstance(part, Attention)
        own = {name: size for name, size in sizes.items() if name != symbols.k}
        return replace(part, groups=symbol if several else None), own | {symbol: groups}

    return read


def _mlp(width: int, symbol: Symbol, *, several: bool) -> PartReader:
    recipe = {"bias": flag("mlp_bias", False), "activation": activation(), "size": symbol if several else None}
    return lambda fields, hidden: (Mlp(**resolved(fields, recipe)), {symbol: width})


@dataclass(frozen=True)
class _Half:
    """What one half of the layers has: the name of every layer's part, their readers, and what they are."""

    names: list[str]
    readers: dict[str, PartReader]
    meanings: dict[str, str]


def _half(
    choices: Sequence[Choice], name: str, meaning: str, symbol: Symbol, reader: Callable[..., PartReader], matrix: str, operator: str
) -> _Half:
    """One half; its sizes are numbered in the order in which they first occur."""
    sizes = [size for size in dict.fromkeys(choices) if isinstance(size, int)]
    names: dict[Choice, str] = {NOTHING: "", MATRIX: matrix}
    readers: dict[str, PartReader] = {matrix: lambda fields, hidden: (Matrix(operator), {})}
    meanings = {matrix: f"one matrix in place of {meaning}"}
    for number, size in enumerate(sizes, 1):
        names[size] = part = name if number == 1 else f"{name}_{number}"
        readers[part] = reader(size, numbered(symbol, number), several=len(sizes) > 1)
        meanings[part] = meaning if number == 1 else f"{meaning} of size number {number}"
    return _Half([names[choice] for choice in choices], readers, meanings)


@dataclass(frozen=True, eq=False)
class SearchedFamily(DecoderFamily):
    """Decoders with a list ``block_configs`` of what every layer has; layers that have nothing are left out, but keep their number."""

    def read(self, fields: Fields) -> Architecture:
        count = fields.layers("num_hidden_layers")
        choices = _choices(fields, count, fields.size("hidden_size"))
        kept = [choice for choice in choices if choice != (NOTHING, NOTHING)]
        for what, sizes in (("numbers of KV heads", {groups for groups, _ in kept}), ("widths of MLPs", {width for _, width in kept})):
            if len(sizes) > MOST_SIZES:
                raise fields.error(f"block_configs has {len(sizes)} {what}; at most {MOST_SIZES} are understood")
        if not kept:
            raise fields.error("block_configs leaves no layer anything to do")
        mixer = _half([groups for groups, _ in kept], "full", "full attention", symbols.k, _attention, "matrix", "linear_attn")
        mlp = _half([width for _, width in kept], "dense", "a dense MLP", symbols.f, _mlp, "matrix_mlp", "linear_mlp")
        kinds = register_kinds(mixer.names, mlp.names, mixer.meanings | mlp.meanings)
        plain = DecoderFamily(
            *(self.family, self.source, mixer.readers | mlp.readers),
            mixers=lambda fields, count: mixer.names,
            mlps=lambda fields, count: mlp.names,
            counted=lambda fields: len(kept),
        )
        places = iter(kinds)
        order = tuple("" if choice == (NOTHING, NOTHING) else next(places) for choice in choices)
        return replace(plain.read(fields), order=order)


SEARCHED = (
    SearchedFamily(
        "nemotron-nas",
        "Bercovich et al. (2025), Llama-Nemotron, arXiv:2505.00949; Puzzle, arXiv:2411.19146; vLLM's nemotron_nas.py",
        {"full": attention(**WITH_BIAS)},
        ignored=("block_configs", "intermediate_size", "num_key_value_heads"),
    ),
)
