"""Tensors over named axes, with their storage and the width of their elements."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import attrgetter

from sympy import Expr, Mul, Rational, S

from symroof import symbols
from symroof.errors import EinsumError, InputError, nearest, quote
from symroof.operators.facts import NOT_AN_OPERAND, Parameter
from symroof.symbolic import Symbolic
from symroof.units import BYTE, COUNT, in_unit, number

Axes = tuple[str, ...]


class Storage(StrEnum):
    """What a tensor holds: a weight, the KV cache, or an activation. Traffic is counted by storage."""

    WEIGHT = "weight"
    ACTIVATION = "activation"
    KV_CACHE = "kv_cache"


class Level(StrEnum):
    """The memory or link that a tensor's traffic crosses; each level has its own bandwidth."""

    MEMORY = "memory"
    HOST = "host"
    LINK = "link"
    NETWORK = "network"
    CHIP = "chip"


DEFAULT_BITS = {Storage.WEIGHT: symbols.w, Storage.ACTIVATION: symbols.a, Storage.KV_CACHE: symbols.c}


def within_band(band: Expr, sizes: Mapping[str, Expr]) -> Expr:
    """The number of queries whose past lies within the band, ``band - (t - s)``; of a whole prompt as many as the band is wide."""
    return band - (sizes["t"] - sizes["s"])


@dataclass(frozen=True, eq=False)
class Space(Symbolic):
    """The sizes of the axes of one step, and whether attention is causal.

    Query positions ``s`` and context positions ``t`` are coupled under a causal mask: the queries are
    the last ``s`` of ``t`` positions, and each attends to itself and all earlier ones, so the pairs are
    ``s (2 t - s + 1) / 2`` instead of ``s t``. With ``t = s`` that is ``s (s + 1) / 2``; one query
    (``s = 1``, decode) attends to all ``t``.

    >>> Space({"s": symbols.s, "t": symbols.s}, causal=True).points(("s", "t"))
    s*(s + 1)/2
    >>> Space({"s": 1, "t": symbols.t}, causal=True).points(("s", "t"))
    t

    If a query attends to at most the latest ``band`` positions of its own sequence (a sliding window over a
    prompt, ``t = s``), the pairs are ``band s - band (band - 1) / 2``, which agrees with the above for ``band = s``. Of the last s
    queries of a longer prompt only ``j = band - (t - s)`` have a past that the band holds whole: ``band s - j (j - 1) / 2``, with
    ``t = min(S, s + band - 1)`` positions in sight of any of them.

    >>> Space({"s": symbols.s, "t": symbols.s}, causal=True, band=symbols.W).points(("s", "t"))
    W*s - W*(W - 1)/2

    FlashAttention processes the queries of a prompt in blocks, those of a decode step in a single block (*one_block*). Where a
    query attends to other positions than those up to its own (*chosen*: of its own choice, or of an encoder's output), axis t counts those.
    """

    sizes: Mapping[str, Expr]
    causal: bool = False
    band: Expr | None = None
    one_block: bool = False
    chosen: bool = False
    chunked: bool = False
    _points: dict[Axes, Expr] = field(default_factory=dict, repr=False, init=False)

    def __post_init__(self) -> None:
        exact = dict(self.sizes)
        for axis, size in self.sizes.items():
            if isinstance(size, str):
                raise InputError(f"size of axis {axis} {quote(size)}: expected a number or a symbol")
            if not isinstance(size, Expr):
                exact[axis] = number(size, COUNT, f"size of axis {axis}")
        object.__setattr__(self, "sizes", exact)

    def points(self, axes: Axes) -> Expr:
        """Number of points of the index space over *axes* (each axis counted once).

        Raises
        ------
        EinsumError
            An axis has no size here.
        """
        known = self._points.get(axes)
        if known is None:
            if not self.sizes.keys() >= set(axes):
                unknown = next(axis for axis in axes if axis not in self.sizes)
                raise EinsumError(f"axis {quote(unknown)} has no size: {nearest(unknown, self.sizes)}")
            coupled = "s" in axes and "t" in axes and (self.band is not None or (self.causal and not self.chosen))
            factors = [self.sizes[axis] for axis in dict.fromkeys(axes) if not (coupled and axis in "st")]
            known = self._points[axes] = Mul(*factors, *self._pairs()) if coupled else Mul(*factors)
        return known

    def _pairs(self) -> tuple[Expr, ...]:
        """The factors of the number of query-key pairs that a mask leaves."""
        queries, context = self.sizes["s"], self.sizes["t"]
        if self.band is not None and self.chunked:
            return queries, (self.band + 1) / 2
        if self.band is not None:
            whole = within_band(self.band, self.sizes)
            one_side = self.band * queries - whole * (whole - 1) / 2
            return (one_side if self.causal else 2 * one_side - queries,)
        return Rational(1, 2), queries, 2 * context - queries + 1

    def resized(self, sizes: Mapping[str, Expr]) -> Space:
        """The same space with new sizes for some axes."""
        return replace(self, sizes={**self.sizes, **{axis: size for axis, size in sizes.items() if axis in self.sizes}})

    def windowed(self, window: Expr, *, chunked: bool = False) -> Space:
        """The same step with a sliding window: only the latest *window* positions are attended to and cached.

        One query attends to ``window`` positions; the queries of a prompt attend to a band of that width, while
        the keys of the whole prompt (axis t) are read. Axis z counts the positions that remain in the cache.

        With *chunked*, a query attends to the earlier positions of its own chunk of ``window`` positions, to half of them on average.

        >>> Space({"s": symbols.s, "t": symbols.s}, causal=True).windowed(symbols.t_w, chunked=True).points(("s", "t"))
        s*(t_w/2 + 1/2)
        """
        if self.sizes["s"] == 1:
            return Space({**self.sizes, "t": window, "z": window}, self.causal)
        return Space({**self.sizes, "z": window}, self.causal, window if self.causal else None, chunked=chunked)

    def surrounded(self, reach: Expr) -> Space:
        """The same prompt where every query attends to the *reach* nearest positions before it and behind it, its own in both.

        >>> Space({"s": symbols.s, "t": symbols.s}).surrounded(symbols.t_w).points(("s", "t"))
        2*s*t_w - s - t_w*(t_w - 1)
        """
        return replace(self, causal=False, band=reach)

    def selected(self, kept: Expr) -> Space:
        """The same step where every query attends to *kept* positions of its own choice, or to all if there are fewer.

        Axis t counts the positions that a query attends to, axis z those that remain in the cache: all of them. The queries of
        a prompt attend to as many positions as in a sliding window of that width, but no two to the same ones.

        >>> space = Space({"s": symbols.s, "t": symbols.s}, causal=True).selected(symbols.t_i)
        >>> space.points(("s", "t")), space.points(("z",))
        (s*t_i - t_i*(t_i - 1)/2, s)
        """
        context = self.sizes["t"]
        if self.causal and self.sizes["s"] != 1:
            return Space({**self.sizes, "z": context}, self.causal, kept, chosen=True)
        return Space({**self.sizes, "t": kept, "z": context}, self.causal, chosen=True)


@dataclass(frozen=True, eq=False)
class Tensor(Symbolic):
    """A tensor: its name, axes, storage, bits per element, and the level that its traffic crosses.

    The overhead is the mean number of additional bits per element, such as its share of a scale; the index is the number of
    bits that locate an element of a sparse tensor. Both are moved with the element, and neither counts towards the width
    that decides the peak.

    A weight's parameter is its function in the operator. A weight that layers share is in memory *copies* times, not once per layer.
    Two tensors are the same only if they are the same object: a tied
    embedding is one tensor that two operators read.

    ========= ==========================================================
    formula   ``size = (product of the axes) x (bits + overhead + index) / 8``
    unit      byte
    ========= ==========================================================

    >>> from symroof.symbols import b, s, d
    >>> space = Space({"b": b, "s": s, "d": d})
    >>> print(Tensor("hidden", ("b", "s", "d"), Storage.ACTIVATION, space).size)
    a*b*d*s/8 byte
    """

    name: str
    axes: Axes
    storage: Storage
    space: Space
    bits: Expr = S.Zero
    overhead: Expr = S.Zero
    level: Level = Level.MEMORY
    index: Expr = S.Zero
    parameter: Parameter | None = None
    copies: Expr | None = None

    def __post_init__(self) -> None:
        axes = set(self.axes)
        if len(axes) < len(self.axes):
            repeated = next(axis for axis in self.axes if self.axes.count(axis) > 1)
            raise EinsumError(f"tensor {quote(self.name)} has axis {quote(repeated)} twice")
        if not self.space.sizes.keys() >= axes:
            self.space.points(self.axes)  # raises if an axis has no size
        if self.bits == 0:
            object.__setattr__(self, "bits", DEFAULT_BITS[self.storage])

    def at(self, bits: Expr) -> Tensor:
        """The same tensor at another width."""
        return replace(self, bits=bits)

    @functools.cached_property
    def elements(self) -> Expr:
        """Number of elements."""
        return self.space.points(self.axes)

    @functools.cached_property
    def byte_count(self) -> Expr:
        """Size in bytes, as a bare expression."""
        return self.space.points(self.axes) * self.stored_bits / 8

    @functools.cached_property
    def stored_bits(self) -> Expr:
        """Bits stored per element, overhead and index included."""
        return self.bits + self.overhead + self.index

    @functools.cached_property
    def takes_memory(self) -> bool:
        """Whether it is an activation in the device's memory, not on chip, on a link or in host memory."""
        return self.storage is Storage.ACTIVATION and self.level is Level.MEMORY

    size = in_unit(lambda tensor: tensor.byte_count, BYTE, "Size as a Quantity in bytes.")


@dataclass(frozen=True, eq=False)
class Access(Symbolic):
    """One operand of an operator: the part of a tensor that it touches, and how often.

    Attributes
    ----------
    tensor : the tensor that is read or written.
    axes : the axes touched, if not the whole tensor: a gather reads ``b s d`` of a ``v d`` table, a
        decode step writes ``b s k e`` of a ``b t k e`` cache.
    repeats : how often each of these elements crosses the interface.
    level : the level this access crosses, if not the tensor's own, for example rereads from on-chip memory.
    aside : in a fused group with products, whether only elementwise members read it.
    """

    tensor: Tensor
    axes: Axes = ()
    repeats: Expr = S.One
    level: Level | None = None
    aside: bool = False

    @property
    def touched(self) -> Axes:
        """The axes touched: its own, or all of the tensor's."""
        return self.axes or self.tensor.axes

    @property
    def operand(self) -> bool:
        """Whether the width of the operand affects the peak; not for a bias, added to wider sums, or a sink, part of a softmax."""
        return not self.aside and self.tensor.parameter not in NOT_AN_OPERAND

    @functools.cached_property
    def byte_count(self) -> Expr:
        """Bytes moved, as a bare expression."""
        if not self.axes and self.repeats == 1:
            return self.tensor.byte_count
        return self.tensor.space.points(self.axes or self.tensor.axes) * self.repeats * self.tensor.stored_bits / 8


def widest(what: str, widths: Sequence[Expr]) -> float:
    """The largest of some numbers of bits, which decides the peak.

    Raises
    ------
    EinsumError
        A width is still a symbol.
    """
    if not all(map(attrgetter("is_number"), widths)):
        symbolic = ", ".join(str(width) for width in widths if not width.is_number)
        raise EinsumError(f"{what}: which peak applies depends on {symbolic}; give the bits as numbers")
    return float(max(widths))


@functools.cache
def axes_of(text: str) -> Axes:
    """``"b s d"`` as the axes ``("b", "s", "d")``."""
    return tuple(text.split())
