"""Operators as functions of arrays with the shapes of the graph.

Where libraries do more than the formulas count, so does this code: unfused attention computes all pairs and masks some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from symroof.measure.backend import Array, Backend
from symroof.operators import Access, Kind, Operator, Role, Storage, Tensor
from symroof.operators.facts import Parameter
from symroof.operators.tensor import Axes

Run = Callable[[int], None]
"""Runs one occurrence of an operator; the argument is its index, which selects the copy of weights and cache."""


class NotRun(Exception):  # noqa: N818 - not an error: the reason why an operator has no time
    """The reason why an operator is not run."""


@dataclass(frozen=True)
class Instruction:
    """An operator with the function that runs it, or the reason why there is none."""

    operator: Operator
    run: Run | None
    reason: str = ""


@dataclass(frozen=True)
class Cells:
    """The arrays of tensors: one per tensor, or one per copy of a layer in memory."""

    backend: Backend
    data_type: str
    arrays: dict[Tensor, list[Array]] = field(default_factory=dict)
    take: Callable[[Sequence[int]], Array] | None = None

    def allocate(self, operator: Operator, kept: int, read: int = 1) -> None:
        """Allocate arrays for the tensors of an operator that have none.

        Parameters
        ----------
        kept, read : the number of copies of each weight and cache, and of each activation that no operator wrote.
        """
        for access in (*operator.reads, *operator.writes):
            tensor, activation = access.tensor, access.tensor.storage is Storage.ACTIVATION
            if tensor not in self.arrays:
                result = activation and access in operator.writes
                self.arrays[tensor] = [None] if result else self._filled(tensor, operator, read if activation else kept)

    def fill(self, operator: Operator) -> None:
        """Allocate arrays for the results of an operator that is not run."""
        for access in operator.writes:
            if self.arrays[access.tensor][0] is None:
                self.arrays[access.tensor][:] = self._filled(access.tensor, operator, 1)

    def _filled(self, tensor: Tensor, operator: Operator, count: int) -> list[Array]:
        take = self.take or (lambda shape: self.backend.filled(shape, self.data_type))
        order = physical(tensor, operator)
        shape = tuple(shape_of(tensor)[place] for place in order)
        back = tuple(order.index(place) for place in range(len(order)))
        return [self.backend.permuted(take(shape), back) for _ in range(count)]

    def get(self, access: Access) -> Callable[[int], Array]:
        """A getter of the part of an array that an access touches; for differing axes, the last rows."""
        arrays, part = self.arrays[access.tensor], part_of(access)
        if part is None:
            return lambda turn: arrays[turn % len(arrays)]
        return lambda turn: arrays[turn % len(arrays)][part]

    def put(self, access: Access) -> Callable[[int, Array], None]:
        """A setter of a result: it replaces an activation, or writes the last rows of a cache."""
        arrays, part = self.arrays[access.tensor], part_of(access)
        if access.tensor.storage is Storage.ACTIVATION and part is None:

            def replaced(turn: int, result: Array) -> None:
                arrays[turn % len(arrays)] = result

            return replaced
        rows = ... if part is None else part

        def stored(turn: int, result: Array) -> None:
            arrays[turn % len(arrays)][rows] = result

        return stored


def shape_of(tensor: Tensor, axes: Axes | None = None) -> tuple[int, ...]:
    """The sizes of a tensor's axes, or of other axes of its space."""
    return tuple(int(tensor.space.sizes[axis]) for axis in (tensor.axes if axes is None else axes))


def part_of(access: Access) -> tuple[slice, ...] | None:
    """The last rows of a tensor that an access touches, as an index; None for the whole.

    Raises
    ------
    NotRun
        The access touches other parts.
    """
    tensor = access.tensor
    whole, wanted = shape_of(tensor), shape_of(tensor, access.touched)
    if len(access.touched) != len(tensor.axes) or any(part > all_ for part, all_ in zip(wanted, whole, strict=True)):
        raise NotRun(f"{tensor.name} is read by other axes than it has")
    if wanted == whole:
        return None
    return tuple(slice(all_ - part, all_) for part, all_ in zip(wanted, whole, strict=True))


@dataclass(frozen=True)
class Contraction:
    """The axes of an einsum of two operands, classified as in a batched matrix product."""

    batch: Axes
    left: Axes
    summed: Axes
    right: Axes

    @classmethod
    def of(cls, x: Axes, y: Axes, result: Axes) -> Contraction:
        """From the axes of both operands and of the result.

        >>> Contraction.of(("b", "s", "d"), ("d", "f"), ("b", "s", "f"))
        Contraction(batch=(), left=('b', 's'), summed=('d',), right=('f',))
        >>> Contraction.of(tuple("bskge"), tuple("btke"), tuple("bkgst"))
        Contraction(batch=('b', 'k'), left=('g', 's'), summed=('e',), right=('t',))
        """
        shared = set(x) & set(y)
        batch = tuple(axis for axis in result if axis in shared)
        left, right = (tuple(axis for axis in result if axis in one and axis not in shared) for one in (x, y))
        summed = tuple(axis for axis in y if axis in shared and axis not in result)
        if {*batch, *left, *summed} != set(x) or {*batch, *summed, *right} != set(y) or {*batch, *left, *right} != set(result):
            raise NotRun("a contraction of other operands than two matrices or batches of them")
        return cls(batch, left, summed, right)


class Compiler:
    """Makes instructions from a numeric graph's operators."""

    def __init__(self, cells: Cells) -> None:
        self.cells, self.backend = cells, cells.backend
        self.by_kind: dict[Kind, Callable[[Operator], Run]] = {
            Kind.MATMUL: self._product,
            Kind.SOFTMAX: self._softmax,
            Kind.NORM: self._norm,
            Kind.ROTARY: self._rotary,
            Kind.ELEMENTWISE: self._elementwise,
            Kind.EMBEDDING: self._embedding,
            Kind.FUSED_ATTENTION: self._attention,
        }

    def instruction(self, operator: Operator) -> Instruction:
        """The instruction of an operator, or the reason why there is none."""
        try:
            if operator.is_group or operator.kind not in self.by_kind or operator.unit is not None:
                raise NotRun(f"{'groups of operators' if operator.is_group else f'a {operator.kind}'} is not run here")
            return Instruction(operator, self.by_kind[operator.kind](operator))
        except NotRun as reason:
            return Instruction(operator, None, str(reason))

    def _product(self, operator: Operator) -> Run:
        """A contraction as one matrix product, possibly batched; attention scores are scaled."""
        x, y, *rest = operator.reads
        if len(rest) > 1 or (rest and rest[0].tensor.parameter is not Parameter.BIAS):
            raise NotRun("a product of more than two operands")
        get_x, get_y, put = self.cells.get(x), self.cells.get(y), self.cells.put(operator.written)
        how = Contraction.of(x.touched, y.touched, operator.written.touched)
        one, other = self._matrix(x, how.batch, how.left, how.summed), self._matrix(y, how.batch, how.summed, how.right)
        size = operator.space.sizes
        flat = (*how.batch, *how.left, *how.right)
        shape = tuple(int(size[axis]) for axis in flat)
        order = tuple(flat.index(axis) for axis in operator.written.touched)
        ordered = order == tuple(range(len(order)))
        bias = self._row(rest[0]) if rest else _nothing
        if rest and rest[0].touched != how.right:
            raise NotRun("a bias that is not one per output")
        factor = math.prod(int(size[axis]) for axis in how.summed) ** -0.5 if operator.role is Role.SCORES else None
        backend = self.backend

        def run(turn: int) -> None:
            a, b = one(get_x(turn)), other(get_y(turn))
            if factor is not None:
                a = a * factor
            made = (backend.matmul(a, b) if how.batch else backend.linear(a, b, bias(turn))).reshape(shape)
            put(turn, made if ordered else backend.permuted(made, order))

        return run

    def _row(self, access: Access) -> Callable[[int], Array]:
        """A bias as one row."""
        get = self.cells.get(access)
        return lambda turn: get(turn).reshape(-1)

    def _matrix(self, access: Access, batch: Axes, rows: Axes, columns: Axes) -> Callable[[Array], Array]:
        """A function that reshapes an operand to matrices: axes in order, rows and columns merged."""
        axes, backend = access.touched, self.backend
        order = [axes.index(axis) for axis in (*batch, *rows, *columns)]
        size = {axis: int(access.tensor.space.sizes[axis]) for axis in axes}
        shape = [*(size[axis] for axis in batch), *(math.prod(size[axis] for axis in part) for part in (rows, columns))]
        if order == [*range(len(order))]:
            return lambda array: array.reshape(shape)
        return lambda array: backend.permuted(array, order).reshape(shape)

    def _softmax(self, operator: Operator) -> Run:
        """Softmax of attention; masked scores are set to minus infinity first."""
        scores, *sinks = operator.reads
        if sinks or operator.role is not Role.SOFTMAX:
            raise NotRun("a softmax with sinks, or of routing")
        get, put, backend, space = self.cells.get(scores), self.cells.put(operator.written), self.backend, operator.space
        queries, context = (int(space.sizes[axis]) for axis in "st")
        masked = space.causal and queries > 1
        band = context if space.band is None else int(space.band)
        mask = backend.mask(queries, context, band, self.cells.data_type) if masked else None
        if mask is None:
            return lambda turn: put(turn, backend.softmax(get(turn)))
        return lambda turn: put(turn, backend.softmax(get(turn) + mask))

    def _norm(self, operator: Operator) -> Run:
        """A norm over as many of the last axes as its weight has."""
        x, *learned = operator.reads
        get, put, backend = self.cells.get(x), self.cells.put(operator.written), self.backend
        over = len(learned[0].touched) if learned else 1
        weight, bias = (
            next((self.cells.get(one) for one in learned if one.tensor.parameter is kind), _nothing)
            for kind in (Parameter.NORM, Parameter.BIAS)
        )
        return lambda turn: put(turn, backend.norm(operator.function, get(turn), over, weight(turn), bias(turn)))

    def _rotary(self, operator: Operator) -> Run:
        """Rotary embedding of the first half of the components against the second; the table has cosines, then sines."""
        x, table = (self.cells.get(access) for access in operator.reads)
        put, backend = self.cells.put(operator.written), self.backend
        axes, turned = operator.reads[0].touched, int(operator.space.sizes["r"])
        if axes[-1] != "e" or operator.reads[1].touched != ("s", "r"):
            raise NotRun("rotated components that are not last")
        half, rows, between = turned // 2, int(operator.space.sizes["s"]), axes[axes.index("s") + 1 : -1]

        def run(turn: int) -> None:
            heads, angles = x(turn), table(turn).reshape(rows, *(1 for _ in between), turned)
            cos, sin = angles[..., :half], angles[..., half : 2 * half]
            first, second = heads[..., :half], heads[..., half : 2 * half]
            parts = [first * cos - second * sin, second * cos + first * sin]
            put(turn, backend.joined([*parts, heads[..., 2 * half :]] if heads.shape[-1] > 2 * half else parts))

        return run

    def _elementwise(self, operator: Operator) -> Run:
        """A sum, or a function of the first operand times the second if there is one."""
        gets, put = [self.cells.get(access) for access in operator.reads], self.cells.put(operator.written)
        if operator.role is Role.ADD and len(gets) == 2:
            return lambda turn: put(turn, gets[0](turn) + gets[1](turn))
        function = self.backend.elementwise.get(operator.function)
        if function is None or len(gets) > 2:
            what = operator.function or f"an operator that is {operator.role}"
            raise NotRun(f"{self.backend.name} has no {what} here")
        if len(gets) == 1:
            return lambda turn: put(turn, function(gets[0](turn)))
        return lambda turn: put(turn, function(gets[0](turn)) * gets[1](turn))

    def _embedding(self, operator: Operator) -> Run:
        """Random rows of a table."""
        table, put = operator.reads[0], self.cells.put(operator.written)
        arrays = self.cells.arrays[table.tensor]
        rows = shape_of(table.tensor, table.touched[:-1])
        chosen = self.backend.indices(rows, shape_of(table.tensor)[0])
        return lambda turn: put(turn, arrays[turn % len(arrays)][chosen])

    def _attention(self, operator: Operator) -> Run:
        """Fused attention; new keys and values are stored first."""
        if len(operator.reads) != len(operator.writes) + 2 or operator.reads[0].touched != tuple("bskge"):
            raise NotRun("fused attention of other operands than queries, keys and values of heads")
        queries, keys, values = (self.cells.get(access) for access in operator.reads[:3])
        added = [(self.cells.get(new), self.cells.put(cache)) for new, cache in zip(operator.reads[3:], operator.writes[1:], strict=True)]
        put, backend, space = self.cells.put(operator.written), self.backend, operator.space
        b, s, t, k, g, e = (int(space.sizes[axis]) for axis in "bstkge")
        causal = space.causal and s > 1
        if causal and (s != t or space.band is not None):
            raise NotRun("fused attention of several queries over a longer context, or a window")
        try:
            self.backend.attention(*(backend.filled((1, 1, 1, 8), self.cells.data_type) for _ in range(3)), causal=False)
        except NotImplementedError as reason:
            raise NotRun(str(reason)) from None

        def run(turn: int) -> None:
            for new, store in added:
                store(turn, new(turn))
            q = backend.permuted(queries(turn).reshape(b, s, k * g, e), (0, 2, 1, 3))
            cached = (backend.permuted(one(turn), (0, 2, 1, 3)) for one in (keys, values))
            made = backend.attention(q, *cached, causal=causal)
            put(turn, backend.permuted(made, (0, 2, 1, 3)).reshape(b, s, k, g, e))

        return run


def _nothing(turn: int) -> None:
    return None


def physical(tensor: Tensor, operator: Operator) -> Sequence[int]:
    """The order of a tensor's axes in memory: a weight's outputs before its inputs, a cache's heads before its rows.

    >>> import symroof
    >>> graph = symroof.load_model("gpt2").decode(batch=1, seq_len=8).graph
    >>> physical(graph["q_proj"].reads[1].tensor, graph["q_proj"]), physical(graph["k_proj"].result, graph["k_proj"])
    ((1, 2, 3, 0), (0, 2, 1, 3))
    """
    axes = tensor.axes
    if tensor.storage is Storage.WEIGHT and operator.kind is Kind.MATMUL and len(axes) > 1:
        kept = [place for place, axis in enumerate(axes) if axis in operator.written.touched]
        return (*kept, *(place for place in range(len(axes)) if place not in kept))
    if tensor.storage is Storage.KV_CACHE and "t" in axes[:-1]:
        row, last = axes.index("t"), len(axes) - 1
        return (*(place for place in range(last) if place != row), row, last)
    return tuple(range(len(axes)))
