"""A quantized checkpoint: the widths of its weights in a graph, and what is said of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from sympy import Add, Expr, Integer, Max, Rational, S

from symroof import symbols
from symroof.architectures import exact
from symroof.architectures.architecture import Architecture
from symroof.architectures.fields import listing
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention, LatentAttention
from symroof.architectures.parts.mlp import Matrix
from symroof.architectures.quantization.formats import UNQUANTIZED, Format, GroupScales
from symroof.architectures.quantization.methods import Scheme
from symroof.architectures.quantization.modules import BESIDE, HEAD, PREDICTING, ROUTER, SHARED_ROUTER, TABLE, Modules, Reach
from symroof.conventions import Convention, without
from symroof.errors import quote
from symroof.operators import ATTENTION_ROLES, Block, BlockRole, Graph, Operator, Parameter, Role, Storage, Tensor
from symroof.symbols import w

ENDS = {Parameter.HEAD: HEAD, Parameter.TABLE: TABLE}
QUANTIZABLE = frozenset({Parameter.MATRIX, Parameter.ROUTER, *ENDS})
"""Weights that a checkpoint can quantize: no norms, biases, filters, states of a recurrence."""

USUALLY_KEPT = frozenset({HEAD, TABLE, ROUTER, SHARED_ROUTER})

Shares = Mapping[Format, Fraction]


@dataclass(frozen=True)
class Quantization:
    """The weights of a checkpoint in the formats that its config states, all others at 16 bits.

    ``w`` is the width of the format that most weights have; other formats have the width that the config states. Where the formats
    of an operator's weights differ between layers of a kind, or between experts, its weights have their mean size.

    Attributes
    ----------
    source : where the config states it.
    scheme : what it states.
    architecture : the model.
    """

    source: str
    scheme: Scheme
    architecture: Architecture = field(repr=False)

    @property
    def method(self) -> str:
        """The method's name in the config."""
        return self.scheme.method

    @functools.cached_property
    def _resolved(self) -> tuple[tuple[tuple[Format, Mapping[str, Reach]], ...], tuple[tuple[Format, str], ...], tuple[str, ...]]:
        """What the named modules of each format reach, the names that matter, and those that are not understood."""
        modules = Modules(self.architecture.layer_count)
        reached: list[tuple[Format, Mapping[str, Reach]]] = []
        named: list[tuple[Format, str]] = []
        missed: list[str] = []
        for fmt, names in self.scheme.named:
            reach: dict[str, Reach] = {}
            for name in names:
                places = modules.places(name, exactly=self.scheme.exactly)
                if places is None:
                    missed.append(name)
                for place in places or ():
                    if fmt != UNQUANTIZED or not place.operators <= USUALLY_KEPT:
                        named.append((fmt, name))
                    for operator in place.operators:
                        reach.setdefault(operator, Reach()).add(place)
            reached.append((fmt, reach))
        return tuple(reached), tuple(dict.fromkeys(named)), tuple(dict.fromkeys(missed))

    @functools.cached_property
    def nominal(self) -> Format:
        """The format that most weights have."""
        formats = dict.fromkeys(fmt for fmt in (*(fmt for fmt, _ in self.scheme.named), self.scheme.default) if fmt != UNQUANTIZED)
        if len(formats) == 1:
            return next(iter(formats))
        weights = dict.fromkeys(formats, Fraction(0))
        dimensions = {symbol: Integer(value) for symbol, value in self.architecture.dimensions.items()}
        for tensor, (shares, block) in self._shares(exact.graph(self.architecture, Options("decode"))).items():
            count = symbols.substitute(tensor.elements * block.count, dimensions)
            for fmt, share in shares.items():
                if fmt in weights:
                    weights[fmt] += share * Fraction(int(count))
        return max(weights, key=lambda fmt: weights[fmt], default=UNQUANTIZED)

    @property
    def bits(self) -> int:
        """The width of most weights."""
        return self.nominal.bits

    @property
    def scales(self) -> GroupScales | None:
        """Their scales."""
        return self.nominal.scales

    @property
    def kv_bits(self) -> int | None:
        """The width of the KV cache, if the config states it; of a model with recurrent layers none, whose states have the same ``c``."""
        return self.scheme.kv_bits if self._attends_throughout else None

    @property
    def _attends_throughout(self) -> bool:
        return all(isinstance(layer.mixer, Attention | LatentAttention | Matrix | None) for layer in self.architecture.layers)

    @property
    def leaves_predicting(self) -> bool:
        """Whether layers that predict further tokens are kept at 16 bits as a whole."""
        return any(fmt == UNQUANTIZED and any(map(PREDICTING.fullmatch, names)) for fmt, names in self.scheme.named)

    @property
    def stored_bits(self) -> Expr:
        """Bits per weight of that format, with its share of the scales: 4.25 in MXFP4."""
        return self.nominal.stored_bits

    def _shares(self, graph: Graph) -> dict[Tensor, tuple[Shares, Block]]:
        """The formats of every weight that can be quantized, as shares of its elements."""
        shares: dict[Tensor, tuple[Shares, Block]] = {}
        for block in graph.blocks:
            attending = {operator.prefix for operator in block.operators if operator.role in ATTENTION_ROLES}
            dense = any(operator.name == f"{operator.prefix}up_proj" for operator in block.operators)
            for operator in block.operators:
                for tensor in (access.tensor for access in operator.reads):
                    if tensor.parameter in QUANTIZABLE and tensor not in shares:
                        shares[tensor] = (
                            self._formats(_name(operator, tensor, attends=operator.prefix in attending, dense=dense), operator, block),
                            block,
                        )
        return shares

    def _formats(self, name: str, operator: Operator, block: Block) -> Shares:
        left, shares, reached = Fraction(1), dict[Format, Fraction](), Reach()
        for fmt, reach in self._resolved[0]:
            if own := reach.get(name):
                reached = reached.union(own)
                share = self._share(reached, block.kind) - (1 - left)
                shares[fmt] = shares.get(fmt, Fraction(0)) + share
                left -= share
        inside = operator.role is Role.PROJECTION and (block.role is BlockRole.LAYER or operator.prefix != "")  # an encoder's have one too
        default = self.scheme.default if inside or name in self.scheme.also else UNQUANTIZED
        shares[default] = shares.get(default, Fraction(0)) + left
        return {fmt: share for fmt, share in shares.items() if share}

    def apply(self, graph: Graph, width: int | None = None, *, swept: bool = False) -> Graph:
        """The graph with the checkpoint's formats; ``w`` is the width of the nominal one.

        Parameters
        ----------
        width : the requested width of these weights; the published scales apply only to the published width.
        swept : whether w ranges over whole numbers, which may include the published width.
        """
        published = swept or width in (None, self.bits)
        beside = self.nominal.beside if published else S.Zero
        if swept and beside != 0:
            beside *= Max(0, 1 - (w - self.bits) ** 2)
        shares = {tensor: of_formats for tensor, (of_formats, _) in self._shares(graph).items()}

        def stored(tensor: Tensor) -> Tensor:
            if tensor.storage is not Storage.WEIGHT:
                return tensor
            of_formats = shares.get(tensor, {UNQUANTIZED: Fraction(1)})
            main = self.nominal if self.nominal in of_formats else max(of_formats, key=lambda fmt: of_formats[fmt])
            bits = tensor.bits if main is self.nominal else Integer(main.bits)
            rest = (
                Rational(share.numerator, share.denominator)
                * ((beside if main is self.nominal else main.beside) if fmt == main else fmt.stored_bits - bits)
                for fmt, share in of_formats.items()
            )
            return replace(tensor, bits=bits, overhead=Add(*rest))

        applied = graph.map(tensor=stored)
        return replace(applied, conventions=(*without(applied.conventions, exact.WEIGHT_WIDTH), *self.conventions(published=published)))

    def conventions(self, *, published: bool = True) -> tuple[Convention, ...]:
        """The conventions of a quantized checkpoint."""
        return tuple(Convention("quantization", line) for line in self._lines(published=published))

    def _lines(self, *, published: bool) -> Iterator[str]:
        reached, named, missed = self._resolved
        beside = "per-row and per-tensor scales not counted"
        if self.scales:
            counted = f"plus {self.scales.described}, {float(self.stored_bits):.6g} bits per weight"
            beside = counted if published else f"scales counted only at {self.bits} bits"
        kept = tuple(name[:60] for fmt, name in named if fmt == UNQUANTIZED)
        formats = self.scheme.also.union(*(reach for fmt, reach in reached if fmt != UNQUANTIZED))
        ends = (word for word, end in _WORDS.items() if end not in formats)
        wide = ["norms", "biases", *ends, *([listing(kept)] if kept else [])]
        what = "the linear weights of the layers" if not self.scheme.also else "the linear weights"
        what = f"most of {what}" if self.scheme.default != self.nominal else what
        yield (
            f"{self.source} ({self.method}, {self.bits} bits): w is the width of {what}, {beside}; "
            f"{UNQUANTIZED.bits} bits for {', '.join(wide[:-1])} and {wide[-1]}"
        )
        others = {fmt: [name[:60] for other, name in named if other == fmt] for fmt, _ in named if fmt not in (UNQUANTIZED, self.nominal)}
        for fmt, names in others.items():
            yield f"{fmt.described} for {listing(names)}"
        if self.scheme.default not in (UNQUANTIZED, self.nominal, *others):
            yield f"{self.scheme.default.described} for the linear weights that are not named"
        if self._mixed:
            yield "formats that differ between layers of a kind, or between experts: their mean size per weight"
        if missed:
            shown = tuple(name[:60] if name.isprintable() else quote(name) for name in missed)
            yield f"names of modules that are not understood, and counted like all others: {listing(shown)}"
        if self.scheme.kv_bits:
            default = "the default of kv_bits; its scales are not counted" if self.kv_bits else "its states at more: give kv_bits for both"
            yield f"the config keeps the KV cache at {self.scheme.kv_bits} bits, {default}"
        yield from self.scheme.remarks

    @property
    def _mixed(self) -> bool:
        """Whether some name covers a part of an operator's weights over the layers of a kind."""
        reaches = (reach for _, named in self._resolved[0] for name, reach in named.items() if name not in USUALLY_KEPT)
        shares = (self._share(reach, kind) for reach in reaches for kind in self._layers)
        return any(0 < share < 1 for share in shares)

    def _share(self, reach: Reach, kind: str) -> Fraction:
        """The share of an operator's weights in all layers of a kind."""
        every = frozenset(range(self.architecture.layer_count))
        return reach.share(self._layers.get(kind, every), self.architecture.dimensions.get(symbols.E, 1))

    @functools.cached_property
    def _layers(self) -> dict[str, frozenset[int]]:
        """The numbers of the layers of each kind."""
        order = self.architecture.order or ("layer",) * self.architecture.layer_count
        layers: dict[str, set[int]] = {}
        for number, kind in enumerate(order):
            layers.setdefault(kind, set()).add(number)
        return {kind: frozenset(numbers) for kind, numbers in layers.items()}


_WORDS = {"embedding": TABLE, "LM head": HEAD, "router": ROUTER}


def _name(operator: Operator, tensor: Tensor, *, attends: bool, dense: bool) -> str:
    """The operator's name in `PATHS`, in a layer that attends, or has a dense MLP, or not."""
    if tensor.parameter is not None and tensor.parameter in ENDS:
        return ENDS[tensor.parameter]
    name = operator.name.removeprefix(operator.prefix)
    if name == "out_proj" and not attends:
        return "mixer_out_proj"
    return BESIDE + name if dense and name.startswith("expert_") else name
