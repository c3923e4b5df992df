"""An operator: the work it does over an index space, and the tensors it reads and writes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from sympy import Add, Expr, Min, S, cancel

from symroof.answers import Answer
from symroof.operators.facts import Kind, Resource, Role
from symroof.operators.on_chip import on_chip_reads
from symroof.operators.tensor import Access, Axes, Level, Space, Storage, Tensor
from symroof.symbolic import Symbolic
from symroof.units import BYTE, FLOP, INTENSITY, in_unit


class Direction(StrEnum):
    """Whether bytes are read or written."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Work:
    """A number of floating-point operations at every point of an index space.

    A multiply-accumulate counts as two. The bias of a contraction is free: n products take n - 1
    additions to sum, and the bias is the n-th.

    Attributes
    ----------
    contraction : whether these are the multiply-accumulates of a contraction (a matmul, a convolution).
    exponentials : exponentials among the operations per point.
    """

    axes: Axes
    flops_per_point: int
    contraction: bool = False
    exponentials: int = 0


class Unit(Protocol):
    """A machine that runs an operator instead of the step's device."""

    @property
    def title(self) -> str:
        """Its name."""
        ...


@dataclass(frozen=True, eq=False)
class Operator(Answer, Symbolic):
    """One operator of a step: ``FLOPs = sum(work)``, ``traffic = sum(reads) + sum(writes)``.

    Traffic is what crosses the memory interface; `byte_count` gives the bytes of other levels, links and on-chip memory.

    Attributes
    ----------
    sparse : whether it runs on the units for structured sparsity, under their peak.
    unit : the machine that runs it, if not the step's device; host memory is then that unit's own memory.
    latency : seconds in addition to work and bytes (the steps of a collective).
    peers : the number of devices that it sends to at once, equal shares of what crosses the link.
    occupancy : the share of the device's processors that have work, and thus of peak and memory bandwidth.
    passes : the number of passes that its figures sum up, each of which reads the weights again (chunks, micro-batches).
    tile : side of the square tiles of a product with a weight; None if on-chip traffic is not counted.
    cache_bytes : bytes read from the last-level cache by concurrent blocks that read the same rows of memory.
    role : its role in the model.
    function : the function computed, if kind and role leave a choice: silu, gelu_tanh, rms, layer.
    linear_in : the result is linear in this many of its first activations; 0 if it is not linear.
    prefix : the prefix of its name if several kinds of layers have the same operators.
    answers_to : the names that refer to it, including those of the operators it was derived from.
    members : the operators it was fused from.

    ============ ========================================= ==========
    flops        sum of FLOPs per point x points           FLOP
    traffic      sum of elements x times x bits / 8        byte
    intensity    flops / traffic                           FLOP/byte
    ============ ========================================= ==========

    Examples
    --------
    >>> from symroof.operators.linear import linear
    >>> from symroof.operators.tensor import Space, Storage, Tensor, axes_of
    >>> from symroof.symbols import b, s, d, f
    >>> space = Space({"b": b, "s": s, "d": d, "f": f})
    >>> x = Tensor("x", axes_of("b s d"), Storage.ACTIVATION, space)
    >>> up = linear("up_proj", "b s d, d f -> b s f", x)
    >>> print(up.flops)
    2*b*d*f*s FLOP
    >>> print(up.traffic)
    (a*b*d*s + a*b*f*s + d*f*w)/8 byte

    Source: Williams, Waterman, Patterson (2009), "Roofline: an insightful visual performance model
    for multicore architectures", doi:10.1145/1498765.1498785.
    """

    name: str
    kind: Kind
    space: Space
    work: tuple[Work, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    sparse: bool = False
    unit: Unit | None = None
    latency: Expr = S.Zero
    peers: Expr = S.One
    occupancy: Expr = S.One
    passes: Expr = S.One
    tile: Expr | None = None
    cache_bytes: Expr = S.Zero
    role: Role = Role.OTHER
    function: str = ""
    linear_in: int = 0
    prefix: str = ""
    answers_to: frozenset[str] = frozenset()
    members: tuple[Operator, ...] = ()

    def __post_init__(self) -> None:
        if not self.answers_to:
            object.__setattr__(self, "answers_to", frozenset({self.name}))

    def named(self, name: str) -> Operator:
        """The same operator with a new name; its previous names still refer to it."""
        full = self.prefix + name
        return replace(self, name=full, answers_to=self.answers_to | {name, full})

    def made_from(self, *others: Operator) -> Operator:
        """The same operator; the names of the operators it was derived from also refer to it."""
        return replace(self, answers_to=self.answers_to.union(*(other.answers_to for other in others)))

    def suffixed(self, part: str) -> Operator:
        """A part of the operator, named ``<operator>.<part>``; the whole operator's names, with and without the suffix, refer to it."""
        return replace(self, name=f"{self.name}.{part}", answers_to=self.answers_to | {f"{name}.{part}" for name in self.answers_to})

    def prefixed(self, prefix: str) -> Operator:
        """The same operator with a prefix for its kind of layer or its draft model; names with and without prefix refer to it."""
        names = {prefix + name for name in self.answers_to}
        return replace(self, name=prefix + self.name, prefix=prefix + self.prefix, answers_to=self.answers_to | names)

    @property
    def result(self) -> Tensor:
        """The tensor that the operator produces, the first it writes; of a cache only the rows `written` are new."""
        return self.writes[0].tensor

    @property
    def written(self) -> Access:
        """The rows of its result that the operator writes, which the next operator should read."""
        return self.writes[0]

    @functools.cached_property
    def flop_count(self) -> Expr:
        """FLOPs as a bare expression."""
        products, others, _ = self._operations
        return products + others

    @property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of contractions only, as the counters of frameworks report them, as a bare expression."""
        return self._operations[0]

    @functools.cached_property
    def _operations(self) -> tuple[Expr, Expr, Expr]:
        """FLOPs of contractions, all other FLOPs, and exponentials."""
        products, others, exponentials = list[Expr](), list[Expr](), list[Expr]()
        for piece in self.work:
            points = self.space.points(piece.axes)
            (products if piece.contraction else others).append(piece.flops_per_point * points)
            exponentials.append(piece.exponentials * points)
        return Add(*products), Add(*others), Add(*exponentials)

    @functools.cached_property
    def ledger(self) -> Mapping[tuple[Storage, Direction, Level], Expr]:
        """Bytes moved by storage, direction and level; entries without traffic are absent."""
        return {key: total for key, amounts in self._crossings.items() if (total := Add(*amounts)) != 0}

    @functools.cached_property
    def bytes_by_level(self) -> Mapping[Level, Expr]:
        """Bytes moved over each level that its operands cross, even if these are zero."""
        crossing: dict[Level, list[Expr]] = {}
        for (_, _, level), amounts in self._crossings.items():
            crossing.setdefault(level, []).extend(amounts)
        return {level: Add(*crossing[level]) for level in Level if level in crossing}

    @functools.cached_property
    def _crossings(self) -> Mapping[tuple[Storage, Direction, Level], list[Expr]]:
        """The bytes of every access, on-chip reads included, by storage, direction and level.

        For an operator on a unit of its own, host memory is that unit's main memory.
        """
        chip = () if self.tile is None else on_chip_reads(self)
        moved: dict[tuple[Storage, Direction, Level], list[Expr]] = {}
        for accesses, way in (((*self.reads, *chip), Direction.READ), (self.writes, Direction.WRITE)):
            for access in accesses:
                level = access.level or access.tensor.level
                level = Level.MEMORY if self.unit is not None and level is Level.HOST else level
                moved.setdefault((access.tensor.storage, way, level), []).append(access.byte_count)
        return moved

    @functools.cached_property
    def demands(self) -> Mapping[Resource, Expr]:
        """The operator's demand on every resource: FLOPs, exponentials, bytes; resources without demand are absent."""
        products, others, exponentials = self._operations
        amounts = {Resource.COMPUTE: products, Resource.VECTOR: others, Resource.EXPONENTIAL: exponentials}
        for level, moved in self.bytes_by_level.items():
            amounts[Resource(level)] = moved
        amounts[Resource.CACHE] = self.cache_bytes
        if sent := amounts.get(Resource.LINK, S.Zero):
            # zero without peers
            amounts[Resource.PEER] = sent if self.peers == 1 else Min(S.One, self.peers) * cancel(sent / self.peers)
        return {resource: amount for resource, amount in amounts.items() if amount != 0}

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None, level: Level = Level.MEMORY) -> Expr:
        """Bytes moved over a level, of one storage and one direction or of all, as a bare expression."""
        if storage is None and direction is None:
            return self.bytes_by_level.get(level, S.Zero)
        return Add(
            *[
                amount
                for (place, way, crossed), amount in self.ledger.items()
                if crossed is level and storage in (None, place) and direction in (None, way)
            ]
        )

    flops = in_unit(lambda operator: operator.flop_count, FLOP, "Floating-point operations, as a Quantity in FLOP.")
    traffic = in_unit(lambda operator: operator.byte_count(), BYTE, "Memory traffic, as a Quantity in bytes.")
    intensity = in_unit(
        lambda operator: operator.flop_count / operator.byte_count(), INTENSITY, "Arithmetic intensity, as a Quantity in FLOP/byte."
    )

    @property
    def is_group(self) -> bool:
        """Whether it is a fused group of operators."""
        return bool(self.members)

    @functools.cached_property
    def operand_bits(self) -> frozenset[Expr]:
        """The widths of the operands; the widest decides the peak.

        Biases and sinks do not count: a bias is added to a wider sum of products, a sink takes part in a softmax.
        """
        return frozenset([access.tensor.bits for access in self.reads if access.operand])
