"""A graph as an executable program: tensors become arrays, operators functions on them.

The order of the operators and the tensors they share are the data dependencies, so the program computes the step itself, for
example the logits of GPT-2.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from symroof.errors import InputError
from symroof.measure.backend import Array, Backend, Stopwatch
from symroof.measure.compiler import Cells, Compiler, Instruction, NotRun, shape_of
from symroof.measure.timing import Call
from symroof.operators import Graph, Operator, Storage, Tensor
from symroof.operators.block import Block
from symroof.operators.facts import BITS


@dataclass(frozen=True)
class Program:
    """Blocks of instructions with their number of repetitions per pass.

    Attributes
    ----------
    held : the number of copies of a layer's weights and cache in memory; further layers reuse them in turn.
    """

    blocks: tuple[tuple[tuple[Instruction, ...], int], ...]
    held: int
    cells: Cells = field(repr=False)

    def __iter__(self) -> Iterator[Instruction]:
        return (instruction for instructions, _ in self.blocks for instruction in instructions)

    def run(self, stopwatch: Stopwatch | None = None) -> None:
        """One pass; with a stopwatch, a mark before the first instruction and after each."""
        mark = stopwatch.mark if stopwatch else _no_mark
        mark()
        for instructions, count in self.blocks:
            runs = [one.run for one in instructions if one.run is not None]
            for turn in range(count):
                for run in runs:
                    run(turn)
                    mark()

    def order(self) -> Iterable[int]:
        """The index of the instruction before each mark except the first."""
        first = 0
        for instructions, count in self.blocks:
            ran = sum(one.run is not None for one in instructions)
            for _ in range(count):
                yield from range(first, first + ran)
            first += ran


def _no_mark() -> None:
    return None


def compiled(graph: Graph, backend: Backend, data_type: str, *, most_bytes: float = math.inf) -> Program:
    """A numeric graph as a program.

    Parameters
    ----------
    data_type : the type of all arrays.
    most_bytes : the memory available for its arrays.

    Raises
    ------
    InputError
        The graph has symbols left, or one copy of each layer exceeds the memory.
    """
    counts = [_number(block.count) for block in graph.blocks]
    bits = BITS[data_type]
    layer = sum(_bytes(_kept(block), bits) for block in graph.blocks if block.count != 1)
    fixed = sum(_bytes(_kept(block), bits) for block in graph.blocks if block.count == 1)
    fixed += _bytes({one for block in graph.blocks for one in block.tensors() if one.storage is Storage.ACTIVATION}, bits)
    most = max(counts)
    held = min(most, int((most_bytes - fixed) // layer)) if layer and most_bytes < math.inf else most
    if held < 1:
        needed, free = (f"{one / 1e9:.2f} GB" for one in (fixed + layer, most_bytes))
        raise InputError(f"too little memory: one layer, embeddings and activations take {needed}, and {free} are free for them")
    cells, blocks = Cells(backend, data_type), []
    for block, count in zip(graph.blocks, counts, strict=True):
        for operator in block.operators:
            cells.allocate(operator, min(count, held))
        instructions = tuple(Compiler(cells).instruction(operator) for operator in block.operators)
        for one in instructions:
            if one.run is None:
                cells.fill(one.operator)
        blocks.append((instructions, count))
    return Program(tuple(blocks), held, cells)


def alone(operator: Operator, backend: Backend, data_type: str, copies: int, take: Callable[[Sequence[int]], Array]) -> Call:
    """A call of one numeric operator with *copies* sets of operands in turn.

    Parameters
    ----------
    take : makes an array of a shape.

    Raises
    ------
    NotRun
        The backend does not run it.
    """
    cells = Cells(backend, data_type, take=take)
    cells.allocate(operator, copies, copies)
    instruction = Compiler(cells).instruction(operator)
    run, turns = instruction.run, itertools.count()
    if run is None:
        raise NotRun(instruction.reason)
    return lambda: run(next(turns))


def _number(count: Any) -> int:
    if not count.is_number:
        raise InputError(f"a step with symbols cannot run: give {', '.join(map(str, count.free_symbols))} as a number")
    return int(count)


def _kept(block: Block) -> set[Tensor]:
    return {one for one in block.tensors() if one.storage is not Storage.ACTIVATION}


def _bytes(tensors: Iterable[Tensor], bits: int) -> int:
    return sum(math.prod(shape_of(one)) for one in tensors) * bits // 8
