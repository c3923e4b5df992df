"""From operators over nameless axes to blocks of operators: identical layers as one with a count, and names for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from sympy import Expr, Integer

from symroof import symbols
from symroof.operators import Access, Block, BlockRole, Graph, Kind, Operator, Role, Space, Storage, Tensor, Work
from symroof.operators.fusion import fused
from symroof.operators.query_blocks import cache_passes
from symroof.tracing.dimensions import Axis, resolved, size_of
from symroof.tracing.sketch import Memory, Sketch, Touch

_NUMBERED = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


@dataclass(eq=False)
class Segment:
    """Operators of one numbered module, a layer, or of what is between two; equal ones follow as `others`."""

    path: str
    sketches: list[Sketch]
    others: list[Segment] = field(default_factory=list)

    @property
    def memories(self) -> list[Memory]:
        """What its operators touch, in order."""
        touched = (touch.memory for sketch in self.sketches for touch in (*sketch.reads, *sketch.writes))
        return list(dict.fromkeys(touched))

    def signature(self) -> tuple[Any, ...]:
        """What two layers have in common that are one block: operators, sizes, and which tensors are the same."""
        places = {memory: place for place, memory in enumerate(self.memories)}

        def touched(touches: Iterable[Touch]) -> tuple[Any, ...]:
            return tuple((places[one.memory], one.memory.storage, one.memory.bits, size_of(one.axes), one.passes) for one in touches)

        return tuple(
            (
                *(sketch.node.operator, sketch.kind, sketch.role, sketch.function, sketch.causal, sketch.node.module[len(self.path) :]),
                tuple((size_of(count.axes), count.flops, count.contraction) for count in sketch.work),
                *(touched(sketch.reads), touched(sketch.writes)),
            )
            for sketch in self.sketches
        )


def segments(sketches: Sequence[Sketch]) -> list[Segment]:
    """The layers of a step in order of first appearance, equal ones together."""
    every = list(_segments(sketches, 0))
    weights = Counter(memory for part in every for memory in part.memories if memory.storage is Storage.WEIGHT)
    kept: dict[Any, Segment] = {}
    for part in every:
        shared = any(weights[memory] > 1 for memory in part.memories)  # one set of weights, run several times
        key = id(part) if shared or not part.path else (_list_of(part.path), part.signature())
        if key in kept:
            kept[key].others.append(part)
        else:
            kept[key] = part
    return list(kept.values())


def _list_of(path: str) -> str:
    return path.rpartition(".")[0]


def _segments(sketches: Sequence[Sketch], depth: int) -> Iterator[Segment]:
    parts: list[Segment] = []
    for sketch in sketches:
        numbers = list(_NUMBERED.finditer(sketch.node.module))
        path = sketch.node.module[: numbers[depth].end()] if len(numbers) > depth else ""
        if not parts or parts[-1].path != path:
            parts.append(Segment(path, []))
        parts[-1].sketches.append(sketch)
    alike = Counter((_list_of(part.path), part.signature()) for part in parts if part.path)
    for part in parts:
        alone = part.path and alike[_list_of(part.path), part.signature()] == 1
        deeper = alone and any(len(_NUMBERED.findall(sketch.node.module)) > depth + 1 for sketch in part.sketches)
        inner = list(_segments(part.sketches, depth + 1)) if deeper else []
        if any(one.path for one in inner):
            yield from (one if one.path else Segment(part.path, one.sketches) for one in inner)
        else:
            yield part


def carried(parts: Sequence[Segment]) -> dict[Memory, Memory]:
    """The tensor that replaces one of a layer that is not kept: its like in the layer that is; the output of a layer, its input."""
    stands: dict[Memory, Memory] = {}
    written = [{touch.memory for sketch in part.sketches for touch in sketch.writes} for part in parts]
    for part, own in zip(parts, written, strict=True):
        for other in part.others:
            stands |= {its: mine for mine, its in zip(part.memories, other.memories, strict=True) if mine in own}
    read = [{touch.memory for sketch in part.sketches for touch in sketch.reads} for part in parts]
    for number, part in enumerate(parts):
        outside = set[Memory]().union(*(read[other] for other in range(len(parts)) if other != number))
        for mine, its in zip(part.memories, part.others[0].memories if part.others else (), strict=False):
            made = stands.get(its, its)
            if mine is not made and mine not in outside and any(made in own for own in written) and mine not in written[number]:
                stands[made] = mine
    return stands


def mark_attention(sketches: Sequence[Sketch]) -> None:
    """Roles of unfused attention: a softmax between two contractions of activations, and what is done to the scores before it."""
    makers = {touch.memory: sketch for sketch in sketches for touch in sketch.writes}
    for sketch in sketches:
        if sketch.kind is not Kind.SOFTMAX:
            continue
        between: list[Sketch] = []
        before = makers.get(sketch.reads[0].memory)
        while before is not None and before.kind is Kind.ELEMENTWISE and before.reads:
            between.append(before)
            before = makers.get(max(before.reads, key=lambda touch: len(touch.axes)).memory)
        behind, result = [sketch], sketch
        while True:
            users = [user for user in sketches if any(touch.memory is result.writes[0].memory for touch in user.reads)]
            if len(users) != 1 or users[0].kind is not Kind.ELEMENTWISE:
                break
            behind.append(result := users[0])
        product = users[0] if len(users) == 1 else None
        if before is None or product is None or {before.kind, product.kind} != {Kind.MATMUL}:
            continue
        if any(touch.memory.storage is Storage.WEIGHT for part in (before, product) for touch in part.reads):
            continue
        before.role, product.role, sketch.role = Role.SCORES, Role.WEIGHTED_SUM, Role.SOFTMAX
        for part in (*between, *behind[1:]):
            part.role = Role.SCORE_CAP


class Names:
    """Names of axes and operators, and the tensors over them."""

    def __init__(self, parts: Sequence[Segment], decode: bool) -> None:
        self.parts, self.decode = parts, decode
        self.stands = carried(parts)
        self.named: dict[Axis, str] = {}
        self.modules: dict[Operator, str] = {}
        context = symbols.t if decode else symbols.s
        self.sizes: dict[str, Expr] = {"b": symbols.b, "s": Integer(1) if decode else symbols.s, "t": context}
        self.free = {"b": symbols.b, "t": context} | ({} if decode else {"s": symbols.s})
        self.tensors: dict[Memory, Tensor] = {}
        touches = [touch for part in parts for sketch in part.sketches for touch in (*sketch.reads, *sketch.writes)]
        counts = [count for part in parts for sketch in part.sketches for count in sketch.work]
        for axes in (*(count.axes for count in counts), *(touch.axes for touch in touches)):
            self.axes(axes)
        for touch in touches:
            self.axes(axis for dim in touch.memory.dims for axis in dim)
        self.space = Space(self.sizes)
        self.causal = Space(self.sizes, causal=True)

    @property
    def tensors_read(self) -> set[Memory]:
        """What the operators read, those of layers that are not kept included."""
        every = [*self.parts, *(other for part in self.parts for other in part.others)]
        return {touch.memory for part in every for sketch in part.sketches for touch in sketch.reads}

    def axes(self, dim: Iterable[Axis]) -> tuple[str, ...]:
        """The names of these axes, each once."""
        names: list[str] = []
        for axis in resolved(dim):
            name = self.named.get(axis) or self._name(axis)
            if name in names:  # found to be one axis only later
                name = self._new(axis.size)
            names.append(name)
        return tuple(names)

    def _name(self, axis: Axis) -> str:
        for name in ("b", "s", "t"):
            if self.free.get(name) == axis.size:
                del self.free[name]
                self.named[axis] = name
                return name
        self.named[axis] = self._new(axis.size)
        return self.named[axis]

    def _new(self, size: Expr) -> str:
        text = f"n{size}" if size.is_Integer else re.sub(r"\W+", "_", str(size)).strip("_")
        name = next(
            one for number in range(1, len(self.sizes) + 2) if (one := text if number == 1 else f"{text}.{number}") not in self.sizes
        )
        self.sizes[name] = size
        return name

    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the step."""
        layered = any(part.path for part in self.parts)
        kinds = Counter(_list_of(part.path) for part in self.parts if part.path)
        taken: Counter[str] = Counter()
        made: list[Block] = []
        for part in self.parts:
            several = kinds[_list_of(part.path)] > 1
            prefix = f"{part.path}." if part.path and several else ""
            alone = Counter(path for sketch in part.sketches for path in _with_parents(sketch.node.module))
            operators = []
            for sketch in part.sketches:
                own = sketch.node.module[len(part.path) :].removeprefix(".")
                whole = own if own and alone[sketch.node.module] == 1 else ".".join(filter(None, (own, sketch.node.operator.strip("_"))))
                taken[prefix + whole] += 1
                again = taken[prefix + whole]
                operators.append(self._operator(sketch, whole if again == 1 else f"{whole}_{again}", prefix))
                self.modules[operators[-1]] = sketch.node.module
            around = sum(not block.kind for block in made)
            name = part.path or (f"module_{around + 1}" if around else "module")
            role = BlockRole.LAYER if part.path or not layered else BlockRole.END
            made.append(Block(name, tuple(operators), Integer(1 + len(part.others)), role=role, kind=part.path))
        return tuple(made)

    def _operator(self, sketch: Sketch, name: str, prefix: str) -> Operator:
        space = self.causal if sketch.causal else self.space
        passes = cache_passes(space) if "s" in self.axes(sketch.writes[0].axes) else Integer(1)
        reads = tuple(self._access(touch, passes if touch.passes else Integer(1)) for touch in sketch.reads)
        writes = tuple(self._access(touch, Integer(1)) for touch in sketch.writes)
        work = tuple(
            Work(self.axes(count.axes), count.flops, count.contraction, count.exponentials) for count in sketch.work if count.flops
        )
        facts = {"role": sketch.role, "function": sketch.function, "linear_in": sketch.linear_in}
        operator = Operator(name, sketch.kind, space, work, reads, writes, **facts)
        return operator.prefixed(prefix) if prefix else operator

    def _access(self, touch: Touch, repeats: Expr) -> Access:
        memory = touch.memory
        while memory in self.stands:
            memory = self.stands[memory]
        tensor = self.tensors.get(memory)
        if tensor is None:
            axes = self.axes(axis for dim in memory.dims for axis in dim)
            bits = Integer(0 if memory.bits is None else memory.bits)
            tensor = Tensor(memory.name, axes, memory.storage, self.space, bits, parameter=memory.parameter)
            self.tensors[memory] = tensor
        touched = self.axes(touch.axes)
        return Access(tensor, () if touched == tensor.axes else touched, repeats)


def per_module(graph: Graph, modules: Mapping[Operator, str]) -> Graph:
    """The graph with one operator per innermost module: neighbours of one module are fused, with the values between them on chip."""

    def joined(block: Block) -> Block:
        made: list[Operator] = []
        for path, members in groupby(block.operators, modules.__getitem__):
            run = tuple(members)
            if len(run) == 1:
                made += run
                continue
            group = fused(graph, block, run)
            if not group.operand_bits:  # its products have values on chip for operands, as wide as what they are made from
                group = replace(group, reads=tuple(replace(access, aside=False) for access in group.reads))
            own = path[len(block.kind) :].removeprefix(".") or path.rpartition(".")[2] or block.name
            again = sum(own == other.name.removeprefix(other.prefix).rpartition("_")[0] or own == other.name for other in made)
            made.append(group.named(own if not again else f"{own}_{again + 1}"))
        return replace(block, operators=tuple(made))

    return replace(graph, blocks=tuple(map(joined, graph.blocks)))


def _with_parents(path: str) -> Iterator[str]:
    """A path and those of the modules that it is within."""
    parts = path.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))
