"""The graph of one step: blocks of operators, each repeated, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sympy import Add, Expr, Integer, S, Symbol

from symroof.errors import EinsumError, nearest, quote
from symroof.operators import data_types
from symroof.operators.liveness import largest, sizes_alive
from symroof.operators.operator import Direction, Kind, Operator
from symroof.operators.tensor import Space, Storage, Tensor
from symroof.symbols import Values, substitute

CONTRACTIONS = frozenset({Kind.MATMUL, Kind.FUSED_ATTENTION})


@dataclass(frozen=True, eq=False)
class Block:
    """Operators in the order they run, and how often the model repeats them."""

    name: str
    operators: tuple[Operator, ...]
    count: Expr = S.One

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

    The order of the operators and the tensors they share *are* the data dependencies.
    """

    blocks: tuple[Block, ...]
    definitions: Mapping[Symbol, Expr] = field(default_factory=dict)
    statements: tuple[str, ...] = ()

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

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None) -> Expr:
        """Bytes moved in the step: sum of count x value."""
        return Add(*(count * operator.byte_count(storage, direction) for operator, count in self))

    def resident(self, storage: Storage) -> dict[Tensor, Expr]:
        """Every tensor kept there, and how many copies of it the model has."""
        kept: dict[Tensor, Expr] = {}
        for block in self.blocks:
            for tensor in block.tensors():
                if tensor.storage is storage:
                    kept.setdefault(tensor, block.count)
        return kept

    def parameter_count(self) -> Expr:
        """Elements of all weights, a shared one once."""
        return Add(*(count * tensor.elements for tensor, count in self.resident(Storage.WEIGHT).items()))

    def weight_memory(self) -> Expr:
        """Bytes of all weights, a shared one once."""
        return Add(*(count * tensor.byte_count for tensor, count in self.resident(Storage.WEIGHT).items()))

    def kv_memory(self) -> Expr:
        """Bytes of the KV cache of all layers at the end of the step."""
        return Add(*(count * tensor.byte_count for tensor, count in self.resident(Storage.KV_CACHE).items()))

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
        for symbol, definition in self.definitions.items():
            value = substitute(definition, known)
            if symbol not in known and value.is_number:
                known[symbol] = value
        spaces: dict[int, Space] = {}
        tensors: dict[int, Tensor] = {}

        def space_of(space: Space) -> Space:
            if id(space) not in spaces:
                spaces[id(space)] = space.bind(known)
            return spaces[id(space)]

        def tensor_of(tensor: Tensor) -> Tensor:
            if id(tensor) not in tensors:
                tensors[id(tensor)] = replace(tensor, space=space_of(tensor.space), bits=substitute(tensor.bits, known))
            return tensors[id(tensor)]

        return self._rebuilt(tensor_of, space_of, known)

    def over(self, tensors: Callable[[Tensor], Tensor]) -> Graph:
        """The same graph over other tensors."""
        return self._rebuilt(tensors, lambda space: space, {})

    def _rebuilt(self, tensors: Callable[[Tensor], Tensor], spaces: Callable[[Space], Space], values: Values) -> Graph:
        blocks = tuple(
            Block(
                block.name,
                tuple(operator.rebuild(tensors, spaces, values) for operator in block.operators),
                substitute(block.count, values),
            )
            for block in self.blocks
        )
        definitions = {symbol: substitute(definition, values) for symbol, definition in self.definitions.items()}
        return replace(self, blocks=blocks, definitions=definitions)
