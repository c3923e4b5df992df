"""An operator: the work it does over an index space, and the tensors it reads and writes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    """Which way a byte crosses the memory interface."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Work:
    """So many floating-point operations at every point of an index space.

    A multiply-accumulate is two. A bias costs none beside a contraction: n products take n - 1
    additions to sum, and the bias makes it n.

    Attributes
    ----------
    contraction : whether these are the multiply-accumulates of a contraction (a matmul, a convolution).
    exponentials : exponentials among the operations of a point.
    """

    axes: Axes
    flops_per_point: int
    contraction: bool = False
    exponentials: int = 0


class Unit(Protocol):
    """What can run an operator in the place of the step's device: a machine of its own."""

    @property
    def title(self) -> str:
        """Its name."""
        ...


@dataclass(frozen=True, eq=False)
class Operator(Answer, Symbolic):
    """One operator of a step: ``FLOPs = sum(work)``, ``traffic = sum(reads) + sum(writes)``.

    Traffic is what crosses the memory interface; what crosses a link or stays on chip is asked for by its level.

    Attributes
    ----------
    sparse : whether it runs on the units for structured sparsity, under their peak.
    unit : the device that runs it, where that is not the step's; what is at the host's level is in that unit's memory.
    latency : seconds it takes besides its work and its bytes (the steps of a collective).
    peers : how many devices it sends to at once, as much to each, of what crosses the link.
    occupancy : the share of the device's processors that have work, and so of peak and memory bandwidth.
    passes : how many passes its figures add up, each of which reads the weights anew (chunks of a prompt, micro-batches).
    tile : side of the square tiles of a product with a weight; None where no on-chip traffic is counted.
    cache_bytes : bytes read from the last-level cache, where blocks that run side by side read the same rows of memory.
    role : what it is in the model.
    function : what it computes, where kind and role leave a choice: silu, gelu_tanh, rms, layer.
    linear_in : how many of its first activations its result is a sum of, each times something else; 0 where it is not linear.
    prefix : what stands before its name where several kinds of layers have the same operators.
    answers_to : the names a user may ask for it by, those of what it was made from included.
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
    space: Space = field(repr=False)
    work: tuple[Work, ...] = field(repr=False)
    reads: tuple[Access, ...] = field(repr=False)
    writes: tuple[Access, ...] = field(repr=False)
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
    members: tuple[Operator, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.answers_to:
            object.__setattr__(self, "answers_to", frozenset({self.name}))

    def named(self, name: str) -> Operator:
        """The same operator under another name of its own; it goes on answering to those it had."""
        full = self.prefix + name
        return replace(self, name=full, answers_to=self.answers_to | {name, full})

    def made_from(self, *others: Operator) -> Operator:
        """The same operator, answering to the names of those that it was made from or for."""
        return replace(self, answers_to=self.answers_to.union(*(other.answers_to for other in others)))

    def suffixed(self, part: str) -> Operator:
        """A part of what the operator was, named after it; it answers to the names of the whole, with the part and without."""
        return replace(self, name=f"{self.name}.{part}", answers_to=self.answers_to | {f"{name}.{part}" for name in self.answers_to})

    def prefixed(self, prefix: str) -> Operator:
        """The same operator of a kind of layer (a draft's, say): its names with a prefix before them, and without."""
        names = {prefix + name for name in self.answers_to}
        return replace(self, name=prefix + self.name, prefix=prefix + self.prefix, answers_to=self.answers_to | names)

    @property
    def result(self) -> Tensor:
        """The tensor the operator produces (the first it writes); of a cache only `written` is new."""
        return self.writes[0].tensor

    @property
    def written(self) -> Access:
        """The rows the operator writes of its result: what an operator behind it should read."""
        return self.writes[0]

    @functools.cached_property
    def flop_count(self) -> Expr:
        """FLOPs as a bare expression."""
        return Add(*(piece.flops_per_point * self.space.points(piece.axes) for piece in self.work))

    @functools.cached_property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of the contractions alone, as the counters of frameworks count them, as a bare expression."""
        return Add(*(piece.flops_per_point * self.space.points(piece.axes) for piece in self.work if piece.contraction))

    @functools.cached_property
    def ledger(self) -> Mapping[tuple[Storage, Direction, Level], Expr]:
        """Bytes moved, by where they live, which way they go and the level they cross; entries without traffic are absent."""
        booked: dict[tuple[Storage, Direction, Level], list[Expr]] = {}
        for access, way, level in self._crossings:
            if access.byte_count != 0:
                booked.setdefault((access.tensor.storage, way, level), []).append(access.byte_count)
        return {key: Add(*amounts) for key, amounts in booked.items()}

    @functools.cached_property
    def _crossings(self) -> tuple[tuple[Access, Direction, Level], ...]:
        """Every access, on-chip reads included, with its direction and the level it crosses."""
        chip = () if self.tile is None else on_chip_reads(self)
        sides = (((*self.reads, *chip), Direction.READ), (self.writes, Direction.WRITE))
        return tuple((access, way, self.level_of(access)) for accesses, way in sides for access in accesses)

    @functools.cached_property
    def demands(self) -> Mapping[Resource, Expr]:
        """What the operator asks of every resource: FLOPs, exponentials, bytes; what it asks nothing of is absent."""
        amounts = {Resource.COMPUTE: self.contraction_flop_count, Resource.VECTOR: self.flop_count - self.contraction_flop_count}
        amounts[Resource.EXPONENTIAL] = Add(
            *(piece.exponentials * self.space.points(piece.axes) for piece in self.work if piece.exponentials)
        )
        amounts |= {Resource(level): self.byte_count(level=level) for level in self.levels}
        amounts[Resource.CACHE] = self.cache_bytes
        if sent := amounts.get(Resource.LINK, S.Zero):
            one = self.peers == 1
            amounts[Resource.PEER] = sent if one else Min(S.One, self.peers) * cancel(sent / self.peers)  # none where no peer is
        return {resource: amount for resource, amount in amounts.items() if amount != 0}

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None, level: Level = Level.MEMORY) -> Expr:
        """Bytes moved over a level, of one storage and one direction or of all, as a bare expression."""
        return Add(
            *(
                amount
                for (place, way, crossed), amount in self.ledger.items()
                if crossed is level and storage in (None, place) and direction in (None, way)
            )
        )

    flops = in_unit(lambda operator: operator.flop_count, FLOP, "Floating-point operations, as a Quantity in FLOP.")
    traffic = in_unit(lambda operator: operator.byte_count(), BYTE, "Memory traffic, as a Quantity in bytes.")
    intensity = in_unit(
        lambda operator: operator.flop_count / operator.byte_count(), INTENSITY, "Arithmetic intensity, as a Quantity in FLOP/byte."
    )

    def level_of(self, access: Access) -> Level:
        """The level an access crosses, as this operator sees it: a unit of its own has the host's memory as its memory."""
        level = access.level or access.tensor.level
        return Level.MEMORY if self.unit is not None and level is Level.HOST else level

    @functools.cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels that its operands cross, be it with no byte."""
        touched = {level for _, _, level in self._crossings}
        return tuple(level for level in Level if level in touched)

    @property
    def is_group(self) -> bool:
        """Whether it is several operators fused."""
        return bool(self.members)

    @property
    def operand_bits(self) -> frozenset[Expr]:
        """The widths of what the operator reads; its peak follows from the widest.

        A bias is added to the sum of the products, which is wider than they are, and a sink to a softmax: neither counts.
        """
        return frozenset(access.tensor.bits for access in self.reads if access.operand)
