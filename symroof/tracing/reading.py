"""The operators of an exported module, one by one: what each reads, writes and computes, over axes without names yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sympy import Mul

from symroof.errors import InputError, quote
from symroof.operators.elementwise import ACTIVATION_FLOPS
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.tensor import Storage
from symroof.tracing import counts
from symroof.tracing.contractions import CONTRACT
from symroof.tracing.dimensions import Dim, align, dim_of, divided, keep_apart, resolved, size_of
from symroof.tracing.exported import Exported, Node, Ref, Source, Value
from symroof.tracing.sketch import Count, Memory, Sketch, Touch, View, aligned, broadcast, like, used_as


@dataclass
class Reader:
    """Reads the nodes of an exported module in order; `sketches` has the operators."""

    sketches: list[Sketch] = field(default_factory=list)
    views: dict[Ref, View] = field(default_factory=dict)

    def read(self, exported: Exported) -> list[Sketch]:
        """The operators.

        Raises
        ------
        InputError
            An operator has no count; the message names the line.
        """
        storages = {Source.PARAMETER: Storage.WEIGHT, Source.CACHE: Storage.KV_CACHE}
        for entry in exported.inputs:
            dims = keep_apart(tuple(map(dim_of, entry.value.shape)))
            memory = Memory(entry.name, dims, storages.get(entry.source, Storage.ACTIVATION), entry.value.bits)
            self.views[Ref(entry.name)] = View(memory, dims, entry.value.floating)
        for node in exported.nodes:
            self._node(node)
        return self.sketches

    def _node(self, node: Node) -> None:
        operands = [self.views[ref] for ref in node.tensors if ref in self.views]
        name = node.operator if node.operator.startswith("__") else node.operator.rstrip("_")
        if operands and (node.shares or name in counts.IDENTITIES):
            self._views(node, name, operands[0])
        elif not any(view.floating for view in operands) and not any(result.floating for result in node.results):
            self._silent(node, operands)
        elif name != node.operator and operands:
            self._in_place(node, name, operands)
        else:
            self._made(node, name, operands)

    def _made(self, node: Node, name: str, operands: list[View]) -> None:
        if name in CONTRACT:
            CONTRACT[name](self, node, operands)
        elif name == "cat":
            self._cat(node, operands)
        elif name in counts.GATHERS:
            self._gather(node, name, operands)
        elif name in counts.MOVED:
            self._moved(node, name, operands)
        elif name in counts.SOFTMAX:
            self._rows(node, operands, Kind.SOFTMAX, counts.SOFTMAX[name], exponentials=1, role=Role.SOFTMAX)
        elif name in counts.NORMS:
            learned = [view for view in operands[1:] if view.memory.storage is Storage.WEIGHT]
            for view, parameter in zip(learned, (Parameter.NORM, Parameter.BIAS), strict=False):
                used_as(parameter, view)
            function = "rms" if name == "rms_norm" else "layer"
            self._rows(node, operands, Kind.NORM, counts.NORMS[name] + len(learned), role=Role.NORM, function=function)
        elif name in counts.REDUCTIONS and not node.pointwise:
            self._reduced(node, name, operands)
        elif name in counts.ELEMENTWISE or node.pointwise:
            self._pointwise(node, name, operands)
        else:
            raise InputError(f"not traced: {node.line}: {quote(node.operator)} is an operator without a count")

    # --- results -----------------------------------------------------------------------------------------------------
    def result(self, node: Node, dims: Sequence[Dim], index: int = 0, value: Value | None = None) -> View:
        """A new tensor in memory."""
        value = value or node.results[index]
        apart = keep_apart(dims)
        view = View(Memory(node.name if not index else f"{node.name}.{index}", apart, bits=value.bits), apart, value.floating)
        self.views[Ref(node.name, index)] = view
        return view

    def sketch(self, node: Node, kind: Kind, work: list[Count], reads: Iterable[View | Touch], result: View, **facts: Any) -> None:
        """Note an operator with one result in memory."""
        taken = [read if isinstance(read, Touch) else Touch(read.memory, read.touched) for read in reads]
        self.sketches.append(Sketch(node, kind, work, taken, [Touch(result.memory, result.touched)], **facts))

    def _silent(self, node: Node, operands: list[View]) -> None:
        """An operator on indices or masks: its results have dimensions, and it is not counted."""
        for index, value in enumerate(node.results):
            self.result(node, like(value, operands), index)

    # --- views -------------------------------------------------------------------------------------------------------
    def _views(self, node: Node, name: str, source: View) -> None:
        for index, value in enumerate(node.results):
            dims, repeated = _seen(node, name, source, value)
            self.views[Ref(node.name, index)] = View(source.memory, dims, value.floating, (*source.repeated, *repeated))

    def _moved(self, node: Node, name: str, operands: list[View]) -> None:
        for index, value in enumerate(node.results):
            dims = _seen(node, name, operands[0], value)[0] if operands and name in VIEWS else like(value, operands)
            result = self.result(node, dims, index)
            if index == 0 and size_of(result.touched) != 1:
                floating = [view for view in operands if view.floating or view.memory.storage is not Storage.ACTIVATION]
                self.sketch(node, Kind.ELEMENTWISE, [], [*floating], result, function=name)

    def _cat(self, node: Node, operands: list[View]) -> None:
        """Joined tensors; what is joined to a cache is appended to it, and only that is written."""
        parts = [view for view in operands if size_of(axis for dim in view.dims for axis in dim) != 0]
        number = (node.args[1] if len(node.args) > 1 else node.keywords.get("dim", 0)) % len(node.results[0].shape)
        if len(parts) == 1:
            self.views[Ref(node.name)] = parts[0]
            return
        dims = list(like(node.results[0], parts[:1]))
        for part in parts[1:]:
            for place, (dim, other) in enumerate(zip(dims, part.dims, strict=True)):
                if place != number:
                    align(dim, other)
        first, result = parts[0].memory, self.result(node, dims)
        if first.storage is not Storage.KV_CACHE:
            self.sketch(node, Kind.ELEMENTWISE, [], parts, result, function="cat")
            return
        result.memory.storage, result.memory.bits = Storage.KV_CACHE, first.bits
        for new in parts[1:]:
            rows = tuple(axis for place, dim in enumerate(result.dims) for axis in resolved(new.dims[place] if place == number else dim))
            written = [Touch(result.memory, rows)]
            self.sketches.append(Sketch(node, Kind.ELEMENTWISE, [], [Touch(new.memory, new.touched)], written, function="append"))

    def _gather(self, node: Node, name: str, operands: list[View]) -> None:
        """Rows looked up: as much is read as is written."""
        source, value = operands[0], node.results[0]
        dims = like(value, operands)
        if name == "embedding":
            dims = (*operands[1].dims, source.dims[-1])
            used_as(Parameter.TABLE, source)
        elif name == "index_select":
            dims = tuple(operands[1].dims[0] if place == node.args[1] % len(value.shape) else dim for place, dim in enumerate(source.dims))
        elif name == "index" and None not in node.args[1][next(i for i, ref in enumerate(node.args[1]) if ref) :]:
            before = sum(ref is None for ref in node.args[1])
            looked_up = value.shape[before : len(value.shape) - len(source.dims) + len(node.args[1])]
            dims = (*source.dims[:before], *like(Value(looked_up), operands[1:]), *source.dims[len(node.args[1]) :])
        result = self.result(node, dims)
        table = name == "embedding"
        facts = {"role": Role.EMBEDDING} if table else {"function": name}
        self.sketch(node, Kind.EMBEDDING if table else Kind.ELEMENTWISE, [], [Touch(source.memory, result.touched)], result, **facts)

    def _in_place(self, node: Node, name: str, operands: list[View]) -> None:
        """An operator that changes its first tensor; only what is put there is written."""
        target, others = operands[0], [view for view in operands[1:] if view.floating]
        self.views[Ref(node.name)] = target
        if name in counts.MOVED:
            part = others[-1].touched if others and name in ("copy", "index_copy", "index_put") else target.touched
            reads = [*others] if name != "masked_fill" else [target, *others]
            written = [Touch(target.memory, part)]
            touches = [Touch(view.memory, view.touched) for view in reads]
            self.sketches.append(Sketch(node, Kind.ELEMENTWISE, [], touches, written, function=name))
            return
        self._made(node, name, operands)
        self.sketches[-1].writes = [Touch(target.memory, others[-1].touched if name in counts.SUMMED_INTO else target.touched)]
        self.views[Ref(node.name)] = target

    # --- element by element, row by row ------------------------------------------------------------------------------
    def _pointwise(self, node: Node, name: str, operands: list[View]) -> None:
        result = self.result(node, broadcast(node.results[0], operands))
        flops = counts.ELEMENTWISE.get(name, 1) if node.results[0].floating else 0
        facts: dict[str, Any] = {}
        if name == "gelu" and node.keywords.get("approximate") == "tanh":
            flops = ACTIVATION_FLOPS["gelu_tanh"]
        if name in ACTIVATION_FLOPS:
            facts = {"role": Role.ACTIVATION, "function": "gelu_tanh" if flops == ACTIVATION_FLOPS["gelu_tanh"] else name}
        elif name in ("add", "sub") and len(operands) == 2:
            facts = {"role": Role.ADD, "linear_in": 2}
        used_as({"mul": Parameter.NORM, "add": Parameter.BIAS}.get(name, Parameter.RECURRENCE), *operands)
        reads = [Touch(view.memory, aligned(view, result.dims)) for view in operands if view.floating or not view.memory.bits]
        work = [Count(result.touched, flops, exponentials=int(name == "exp"))]
        self.sketch(node, Kind.ELEMENTWISE, work, reads, result, **facts)

    def _rows(self, node: Node, operands: list[View], kind: Kind, flops: int, *, exponentials: int = 0, **facts: Any) -> None:
        result = self.result(node, operands[0].dims)
        reads = [Touch(view.memory, aligned(view, result.dims)) for view in operands]
        self.sketch(node, kind, [Count(result.touched, flops, exponentials=exponentials)], reads, result, **facts)
        for index in range(1, len(node.results)):
            self.result(node, like(node.results[index], operands), index)

    def _reduced(self, node: Node, name: str, operands: list[View]) -> None:
        source = operands[-1] if name in counts.SUMMED_INTO else operands[0]
        dims = like(node.results[0], operands)
        lost = node.args[1] if len(node.args) > 1 and name not in counts.SUMMED_INTO else None
        if isinstance(lost, int) or (isinstance(lost, tuple) and lost and all(isinstance(number, int) for number in lost)):
            gone = {number % len(source.dims) for number in (lost if isinstance(lost, tuple) else (lost,))}
            kept = [dim for place, dim in enumerate(source.dims) if place not in gone]
            if len(kept) == len(node.results[0].shape):
                dims = tuple(kept)
        result = self.result(node, dims)
        every = tuple(axis for dim in source.dims for axis in resolved(dim))
        self.sketch(node, Kind.ELEMENTWISE, [Count(every, counts.REDUCTIONS[name])], operands, result, function=name)
        for index in range(1, len(node.results)):
            self.result(node, like(node.results[index], operands), index)


VIEWS = frozenset({"transpose", "swapaxes", "t", "numpy_T", "mT", "permute", "expand", "expand_as", "view_as", "slice", "narrow", "select"})
VIEWS |= {
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "contiguous",
    "to",
    "clone",
    "_to_copy",
    "unbind",
}
"""Operators that show the same elements in another order, or some of them; whether they move them, strides decide."""


def _seen(node: Node, name: str, source: View, value: Value) -> tuple[tuple[Dim, ...], Dim]:
    """The dimensions of a view, and the axes along which it repeats what it shows."""
    dims, rank = list(source.dims), len(source.dims)
    if name in ("transpose", "swapaxes", "t", "mT", "numpy_T"):
        one, other = node.args[1:3] if len(node.args) > 2 else (-2, -1)
        if rank > 1:
            dims[one], dims[other] = dims[other], dims[one]
        return tuple(dims), ()
    if name == "permute":
        return tuple(dims[number] for number in node.args[1]), ()
    if name in ("select", "unbind"):
        number = node.args[1] if len(node.args) > 1 else 0
        del dims[number % rank]
        return tuple(dims), ()
    if name in ("expand", "expand_as"):
        new = like(value, [source])
        own = [*((),) * (len(new) - rank), *dims]
        return new, tuple(axis for dim, before in zip(new, own, strict=True) if not before for axis in dim)
    total = Mul(*(size_of(resolved(dim)) for dim in dims))
    if total == Mul(*value.shape):
        return divided(dims, value.shape), ()
    return like(value, [source]), ()
