"""The graph of one step: blocks of operators, each repeated, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from sympy import Add, Expr, Integer, S, Symbol

from symroof.errors import EinsumError, nearest, quote
from symroof.operators import data_types
from symroof.operators.ceilings import IDEAL, Ceilings
from symroof.operators.energy import Energy
from symroof.operators.liveness import largest, sizes_alive
from symroof.operators.operator import Direction, Kind, Operator
from symroof.operators.tensor import Level, Space, Storage, Tensor
from symroof.symbols import Values, substitute

CONTRACTIONS = frozenset({Kind.MATMUL, Kind.FUSED_ATTENTION})


@dataclass(frozen=True, eq=False)
class Block:
    """Operators in the order they run, and how often the model repeats them.

    Attributes
    ----------
    count : how often a step runs them.
    copies : how many of the block are in memory, where that is not how often it runs (a layer that a token leaves out).
    """

    name: str
    operators: tuple[Operator, ...]
    count: Expr = S.One
    copies: Expr | None = None

    @property
    def resident(self) -> Expr:
        """Copies of its weights and its cache in memory."""
        return self.count if self.copies is None else self.copies

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor the block touches, each once."""
        touched = (access.tensor for operator in self.operators for access in (*operator.reads, *operator.writes))
        return iter(dict.fromkeys(touched))


@dataclass(frozen=True, eq=False)
class Graph:
    """One step of a model: prefill or decode.

    Attributes
    ----------
    blocks : in the order they run.
    definitions : symbols that stand for a longer formula (the block rows of FlashAttention).
    statements : the conventions that were followed, one sentence each.
    tokens : tokens of every sequence that the step completes, in expectation; prefill completes its prompt.
    ceilings : factors on the roofs, launch overhead, overlap.
    energy : what its work, its traffic and its time cost in joules, where that is asked for.

    The order of the operators and the tensors they share *are* the data dependencies.
    """

    blocks: tuple[Block, ...]
    definitions: Mapping[Symbol, Expr] = field(default_factory=dict)
    statements: tuple[str, ...] = ()
    tokens: Expr = S.One
    ceilings: Ceilings = IDEAL
    energy: Energy | None = None

    def apply(self, *techniques: Callable[[Graph], Graph]) -> Graph:
        """The graph after these techniques, one after the other."""
        graph = self
        for technique in techniques:
            graph = technique(graph)
        return graph

    def __iter__(self) -> Iterator[tuple[Operator, Expr]]:
        """Every operator of the step, with the number of times it occurs."""
        return ((operator, block.count) for block in self.blocks for operator in block.operators)

    def __getitem__(self, name: str) -> Operator:
        """The operator of that name."""
        named = {operator.name: operator for operator, _ in self}
        if name not in named:
            raise EinsumError(f"{quote(name)} is not an operator of this step: {nearest(name, named)}")
        return named[name]

    @property
    def flop_count(self) -> Expr:
        """FLOPs of the step: sum of count x value."""
        return Add(*(count * operator.flop_count for operator, count in self))

    @property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of the contractions of the step alone, as the counters of frameworks count them."""
        return Add(*(count * operator.contraction_flop_count for operator, count in self))

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None, level: Level = Level.MEMORY) -> Expr:
        """Bytes moved over a level in the step: sum of count x value."""
        return Add(*(count * operator.byte_count(storage, direction, level) for operator, count in self))

    def resident(self, storage: Storage) -> dict[Tensor, Expr]:
        """Every tensor kept there, and how many copies of it the model has."""
        kept: dict[Tensor, Expr] = {}
        for block in self.blocks:
            for tensor in block.tensors():
                if tensor.storage is storage:
                    kept.setdefault(tensor, block.resident)
        return kept

    def parameter_count(self) -> Expr:
        """Elements of all weights, a shared one once."""
        return Add(*(count * tensor.elements for tensor, count in self.resident(Storage.WEIGHT).items()))

    def weight_memory(self) -> Expr:
        """Bytes of all weights in the device's memory, a shared one once; what lives at the host or on chip is not in it."""
        return self._held(Storage.WEIGHT, Level.MEMORY)

    def kv_memory(self) -> Expr:
        """Bytes of the KV cache of all layers at the end of the step, as far as it is in the device's memory."""
        return self._held(Storage.KV_CACHE, Level.MEMORY)

    def host_memory(self) -> Expr:
        """Bytes of weights and KV cache that live at the host."""
        return Add(*(self._held(storage, Level.HOST) for storage in (Storage.WEIGHT, Storage.KV_CACHE)))

    def _held(self, storage: Storage, level: Level) -> Expr:
        return Add(*(count * tensor.byte_count for tensor, count in self.resident(storage).items() if tensor.level is level))

    def activation_memory(self) -> Expr:
        """The most bytes of activations alive at once, from the data dependencies.

        Each value lives from the operator that writes it to the last that reads it; nothing is
        overwritten in place.
        """
        return largest(sizes_alive([(block.operators, block.count != 1) for block in self.blocks]))

    def data_types(self, operator: Operator) -> tuple[str, ...]:
        """The data types the operator can run in: wide enough for every operand it reads.

        Weight-only quantization therefore keeps the 16-bit roof. What is not a contraction runs in
        at least 16 bits.

        Raises
        ------
        EinsumError
            A width is still a symbol.
        """
        widths = [*operator.operand_bits] + ([] if operator.kind in CONTRACTIONS else [Integer(16)])
        return data_types.wide_enough(self._widest(operator.name, widths))

    @staticmethod
    def _widest(what: str, widths: list[Expr]) -> float:
        symbolic = [str(width) for width in widths if not width.is_number]
        if symbolic:
            raise EinsumError(f"{what}: which peak applies depends on {', '.join(symbolic)}; give the bits as numbers")
        return float(max(widths))

    def bind(self, values: Values) -> Graph:
        """The same graph with numbers (or other expressions) for symbols.

        A defined symbol takes the value of its definition once everything in it is known.
        """
        known = dict(values)
        for _ in self.definitions:  # one may need another
            for symbol, definition in self.definitions.items():
                value = substitute(definition, known)
                if symbol not in known and value.is_number:
                    known[symbol] = value
        return self.replaced(known)

    def replaced(self, values: Values) -> Graph:
        """The same graph with expressions in the place of letters; what a letter is defined as stays beside it.

        >>> import symroof
        >>> from symroof.symbols import b
        >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
        >>> graph.replaced({b: 3 * b})["up_proj"].flop_count
        6*b*d*f
        """
        spaces: dict[int, Space] = {}
        tensors: dict[int, Tensor] = {}

        def space_of(space: Space) -> Space:
            if id(space) not in spaces:
                spaces[id(space)] = space.bind(values)
            return spaces[id(space)]

        def tensor_of(tensor: Tensor) -> Tensor:
            if id(tensor) not in tensors:
                bits, beside, index = (substitute(part, values) for part in (tensor.bits, tensor.overhead, tensor.index))
                tensors[id(tensor)] = replace(tensor, space=space_of(tensor.space), bits=bits, overhead=beside, index=index)
            return tensors[id(tensor)]

        return self._rebuilt(tensor_of, space_of, values)

    def over(self, tensors: Callable[[Tensor], Tensor]) -> Graph:
        """The same graph over other tensors."""
        return self._rebuilt(tensors, lambda space: space, {})

    def resized(self, sizes: Mapping[str, Expr]) -> Graph:
        """The same graph with other sizes of some of its axes, in letters; what they define is left alone."""
        spaces: dict[int, Space] = {}
        tensors: dict[int, Tensor] = {}

        def space_of(space: Space) -> Space:
            return spaces.setdefault(id(space), space.resized(sizes))

        def tensor_of(tensor: Tensor) -> Tensor:
            return tensors.setdefault(id(tensor), replace(tensor, space=space_of(tensor.space)))

        return self._rebuilt(tensor_of, space_of, {})

    def without_values(self, *letters: Symbol) -> Graph:
        """The same graph with these letters free again: without the numbers that techniques were given for them."""
        kept = {symbol: meant for symbol, meant in self.definitions.items() if symbol not in letters or not meant.is_number}
        return replace(self, definitions=kept)

    @property
    def free_symbols(self) -> set[Symbol]:
        """Every symbol of its formulas and definitions."""
        parts = [part for op, count in self for part in (op.flop_count, count, op.latency, op.occupancy)]
        parts += [block.resident for block in self.blocks]
        parts += [op.byte_count(level=level) for op, _ in self for level in op.levels]
        parts += [tensor.bits for block in self.blocks for tensor in block.tensors()]
        parts += [self.tokens, self.ceilings.compute, self.ceilings.launch, *self.ceilings.levels.values()]
        parts += [self.energy.flop, self.energy.byte, self.energy.constant] if self.energy else []
        found = set().union(*(part.free_symbols for part in (*parts, *self.definitions.values())), self.definitions)
        return cast(set[Symbol], found)

    def each(self, change: Callable[[Operator, Block], Operator | tuple[Operator, ...]]) -> Graph:
        """The graph with every operator replaced by what *change* makes of it: one operator, or several in order."""
        blocks = []
        for block in self.blocks:
            made = (change(operator, block) for operator in block.operators)
            blocks.append(replace(block, operators=tuple(op for one in made for op in ([one] if isinstance(one, Operator) else one))))
        return replace(self, blocks=tuple(blocks))

    def _rebuilt(self, tensors: Callable[[Tensor], Tensor], spaces: Callable[[Space], Space], values: Values) -> Graph:
        blocks = tuple(
            Block(
                block.name,
                tuple(operator.rebuild(tensors, spaces, values) for operator in block.operators),
                substitute(block.count, values),
                None if block.copies is None else substitute(block.copies, values),
            )
            for block in self.blocks
        )
        definitions = {symbol: substitute(definition, values) for symbol, definition in self.definitions.items()}
        return replace(
            self,
            blocks=blocks,
            definitions=definitions,
            tokens=substitute(self.tokens, values),
            ceilings=self.ceilings.bind(values),
            energy=self.energy.bind(values) if self.energy else None,
        )
