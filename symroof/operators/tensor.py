"""Tensors over named axes that know where they live and how wide their elements are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sympy import Expr, Mul, Rational, S

from symroof import symbols
from symroof.errors import EinsumError, nearest, quote
from symroof.symbols import Values, substitute
from symroof.units import BYTE, quantity

Axes = tuple[str, ...]


class Storage(StrEnum):
    """Where a tensor lives; its traffic is booked under this name."""

    WEIGHT = "weight"
    ACTIVATION = "activation"
    KV_CACHE = "kv_cache"


DEFAULT_BITS = {Storage.WEIGHT: symbols.w, Storage.ACTIVATION: symbols.a, Storage.KV_CACHE: symbols.c}


@dataclass(frozen=True, eq=False)
class Space:
    """The sizes of the axes of one step, and whether queries may look ahead.

    Query positions ``s`` and context positions ``t`` are coupled under a causal mask: the last
    ``s`` of ``t`` positions ask, and each sees itself and what came before, so the pairs are
    ``s (2 t - s + 1) / 2`` instead of ``s t``. With ``t = s`` that is ``s (s + 1) / 2``; one query
    (``s = 1``, decode) sees all ``t``.

    >>> from sympy import Integer
    >>> Space({"s": symbols.s, "t": symbols.s}, causal=True).points(("s", "t"))
    s*(s + 1)/2
    >>> Space({"s": Integer(1), "t": symbols.t}, causal=True).points(("s", "t"))
    t
    """

    sizes: Mapping[str, Expr]
    causal: bool = False
    _points: dict[Axes, Expr] = field(default_factory=dict, repr=False)

    def points(self, axes: Axes) -> Expr:
        """Number of points of the index space over *axes* (each axis counted once).

        Raises
        ------
        EinsumError
            An axis has no size here.
        """
        known = self._points.get(axes)
        if known is None:
            known = self._points[axes] = Mul(*self._factors(axes))
        return known

    def _factors(self, axes: Axes) -> list[Expr]:
        unknown = [axis for axis in axes if axis not in self.sizes]
        if unknown:
            raise EinsumError(f"axis {quote(unknown[0])} has no size: {nearest(unknown[0], self.sizes)}")
        coupled = self.causal and "s" in axes and "t" in axes
        factors = [self.sizes[axis] for axis in dict.fromkeys(axes) if not (coupled and axis in "st")]
        if coupled:
            queries, context = self.sizes["s"], self.sizes["t"]
            factors += [Rational(1, 2), queries, 2 * context - queries + 1]
        return factors

    def bind(self, values: Values) -> Space:
        """The same space with numbers (or other expressions) for symbols."""
        return Space({axis: substitute(size, values) for axis, size in self.sizes.items()}, self.causal)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: its name, its axes, where it lives, its bits per element.

    Two tensors are the same only if they are the same object: a tied embedding is one tensor that
    two operators read.

    ========= ============================================
    formula   ``size = (product of the axes) x bits / 8``
    unit      byte
    ========= ============================================

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

    def __post_init__(self) -> None:
        repeated = [axis for axis in self.axes if self.axes.count(axis) > 1]
        if repeated:
            raise EinsumError(f"tensor {quote(self.name)} has axis {quote(repeated[0])} twice")
        self.space.points(self.axes)
        if self.bits == 0:
            object.__setattr__(self, "bits", DEFAULT_BITS[self.storage])

    @property
    def elements(self) -> Expr:
        """Number of elements."""
        return self.space.points(self.axes)

    @property
    def byte_count(self) -> Expr:
        """Size in bytes, as a bare expression."""
        return self.elements * self.bits / 8

    @property
    def size(self):
        """Size as a Quantity in bytes."""
        return quantity(self.byte_count, BYTE)


@dataclass(frozen=True, eq=False)
class Access:
    """One operand of an operator: which part of a tensor it touches, and how often.

    Attributes
    ----------
    tensor : the tensor that is read or written.
    axes : the axes touched, when that is not the whole tensor: a gather reads ``b s d`` of a
        ``v d`` table, a decode step writes ``b s k e`` of a ``b t k e`` cache.
    times : how often every element of them crosses the memory interface.
    """

    tensor: Tensor
    axes: Axes = ()
    times: Expr = S.One

    @property
    def byte_count(self) -> Expr:
        """Bytes moved, as a bare expression."""
        return self.tensor.space.points(self.axes or self.tensor.axes) * self.times * self.tensor.bits / 8


def axes_of(text: str) -> Axes:
    """``"b s d"`` as the axes ``("b", "s", "d")``."""
    return tuple(text.split())
