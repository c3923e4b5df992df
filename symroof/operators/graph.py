"""The graph of one step: blocks of operators, each repeated, and what they add up to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from sympy import Add, Expr, Integer, S, Symbol, cancel

from symroof import symbols
from symroof.algebra.unions import Untouched
from symroof.conventions import Convention
from symroof.errors import EinsumError, nearest, quote
from symroof.operators.block import Block
from symroof.operators.ceilings import IDEAL, Ceilings, Energy
from symroof.operators.experts import Routing
from symroof.operators.facts import CONTRACTIONS, wide_enough
from symroof.operators.liveness import largest, sizes_alive
from symroof.operators.operator import Direction, Operator
from symroof.operators.query_blocks import QueryBlocks, counts_passes, with_blocks
from symroof.operators.tensor import Access, Level, Space, Storage, Tensor
from symroof.symbolic import Symbolic
from symroof.symbols import Values, substitute

KEPT = 4
"""How many bound graphs a graph keeps: all questions about one step on one device bind it alike."""


def of_name(operators: Iterable[Any], name: str) -> Any:
    """The operator of that name, or what is told of it.

    Raises
    ------
    EinsumError
        None has it.
    """
    named = {operator.name: operator for operator in operators}
    if name not in named:
        raise EinsumError(f"{quote(name)} is not an operator of this step: {nearest(name, named)}")
    return named[name]


@dataclass(frozen=True, eq=False)
class Graph(Symbolic):
    """One step of a model: prefill or decode.

    Attributes
    ----------
    blocks : in the order they run.
    definitions : symbols that stand for a longer formula (the query positions of a pass of FlashAttention).
    conventions : what was assumed, a record each.
    tokens : tokens of every sequence that the step generates, in expectation; prefill completes its prompt.
    prompt_tokens : tokens of prompts that it works on besides, for every sequence that generates.
    ceilings : factors on the roofs, launch overhead, overlap.
    energy : what its work, its traffic and its time cost in joules, where that is asked for.
    pass_tokens : tokens that share one read of a layer's weights; every union over tokens has them in its exponent.
    routing : how many experts of a layer these tokens touch; None for a dense model.
    tile : side of the tiles that products with weights are computed in; None where no on-chip traffic is counted.
    query_blocks : the blocks of queries of fused attention; None where another accounting has its own.
    devices : how many devices the step runs on; its figures are those of one of them.
    linked : how many of them, in one node, share a link.
    applied : the techniques it went through, in order.
    decode : whether it generates over a context of t positions; else it reads prompts of s tokens.

    The order of the operators and the tensors they share *are* the data dependencies.
    """

    blocks: tuple[Block, ...]
    definitions: Mapping[Symbol, Expr] = field(default_factory=dict)
    conventions: tuple[Convention, ...] = ()
    tokens: Expr = S.One
    ceilings: Ceilings = IDEAL
    energy: Energy | None = None
    prompt_tokens: Expr = S.Zero
    pass_tokens: Expr = S.One
    routing: Routing | None = None
    tile: Expr | None = None
    query_blocks: QueryBlocks | None = None
    devices: Expr = S.One
    linked: Expr = S.One
    applied: tuple[Any, ...] = ()
    decode: bool = True

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions that were followed, one sentence each."""
        return tuple(convention.text for convention in self.conventions)

    def apply(self, *techniques: Callable[[Graph], Graph]) -> Graph:
        """The graph after these techniques, one after the other."""
        return functools.reduce(lambda graph, technique: technique(graph), techniques, self)

    def __iter__(self) -> Iterator[tuple[Operator, Expr]]:
        """Every operator of the step, with the number of times it occurs."""
        return ((operator, block.count) for block in self.blocks for operator in block.operators)

    def __getitem__(self, name: str) -> Operator:
        """The operator of that name."""
        return of_name((operator for operator, _ in self), name)

    @property
    def token_count(self) -> Expr:
        """Tokens that all sequences generate in a step on all devices, in b; in prefill those of their prompts, in b and s."""
        return symbols.b * (S.One if self.decode else symbols.s) * self.tokens

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

    def memory(self) -> dict[str, Expr]:
        """Bytes of weights, KV cache and activations, bare."""
        return {"weight": self.weight_memory(), "kv_cache": self.kv_memory(), "activation": self.activation_memory()}

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
        return wide_enough(self._widest(operator.name, widths))

    @staticmethod
    def _widest(what: str, widths: list[Expr]) -> float:
        symbolic = [str(width) for width in widths if not width.is_number]
        if symbolic:
            raise EinsumError(f"{what}: which peak applies depends on {', '.join(symbolic)}; give the bits as numbers")
        return float(max(widths))

    def bind(self, values: Values) -> Self:
        """The same graph with numbers (or other expressions) for symbols; the last few are kept.

        A defined symbol takes the value of its definition once everything in it is known.
        """
        key = frozenset(values.items())
        if key not in self._bound:
            known = dict(values)
            for _ in self.definitions:  # one may need another
                for symbol, definition in self.definitions.items():
                    value = substitute(definition, known)
                    if symbol not in known and value.is_number:
                        known[symbol] = value
            if len(self._bound) == KEPT:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = self.replaced(known)
        return self._bound[key]

    @functools.cached_property
    def _bound(self) -> dict[frozenset[tuple[Symbol, Expr]], Self]:
        return {}

    def replaced(self, values: Values) -> Self:
        """The same graph with expressions in the place of letters; what a letter is defined as stays beside it.

        >>> import symroof
        >>> from symroof.symbols import b
        >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
        >>> graph.replaced({b: 3 * b})["up_proj"].flop_count
        6*b*d*f
        """
        return super().bind(values)

    def map(
        self,
        *,
        space: Callable[[Space], Space] | None = None,
        tensor: Callable[[Tensor], Tensor] | None = None,
        access: Callable[[Access, Access, Operator], Access | tuple[Access, ...]] | None = None,
        operator: Callable[[Operator, Operator, Block], Operator | tuple[Operator, ...]] | None = None,
        blocks: Callable[[Block], bool] | None = None,
    ) -> Graph:
        """The graph with each part replaced by what a function makes of it; what was shared before is shared after.

        Parameters
        ----------
        space : of every operator, and of every tensor unless *tensor* is given: what it changes is then its own affair.
        tensor : each tensor once, so that two operators that share one go on sharing it.
        access : from an access, the same over the new tensor, and its operator as it was, the new one or several.
        operator : from an operator, what the others made of it, and its block, the new one or several in order.
        blocks : whether a block is changed at all; every one without it.

        >>> import symroof
        >>> from sympy import Integer
        >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).symbolic
        >>> halved = graph.map(tensor=lambda tensor: tensor.at(tensor.bits / 2))
        >>> print(halved["up_proj"].traffic)
        (a*b*d + a*b*f + d*f*w)/16 byte
        """
        space_of = functools.cache(space or (lambda same: same))

        @functools.cache
        def tensor_of(old: Tensor) -> Tensor:
            if tensor is not None:
                return tensor(old)
            moved = space_of(old.space)
            return old if moved is old.space else replace(old, space=moved)

        def side(accesses: tuple[Access, ...], old: Operator) -> tuple[Access, ...]:
            made: list[Access] = []
            for one in accesses:
                moved = replace(one, tensor=tensor_of(one.tensor))
                new = moved if access is None else access(one, moved, old)
                made += [new] if isinstance(new, Access) else new
            return tuple(made)

        def operators_of(old: Operator, block: Block) -> tuple[Operator, ...]:
            new = replace(old, space=space_of(old.space), reads=side(old.reads, old), writes=side(old.writes, old))
            result = new if operator is None else operator(old, new, block)
            return (result,) if isinstance(result, Operator) else result

        def block_of(block: Block) -> Block:
            if blocks is not None and not blocks(block):
                return block
            return replace(block, operators=tuple(new for old in block.operators for new in operators_of(old, block)))

        return replace(self, blocks=tuple(map(block_of, self.blocks)))

    def with_pass_tokens(self, tokens: Expr, *, routed: bool = True) -> Graph:
        """The graph whose layers run on other tokens at a time: every union over tokens, and the experts they touch, follow.

        Parameters
        ----------
        routed : whether the experts see these tokens too; devices that share out the others see those of all.
        """
        old = self.pass_tokens

        def unions(expression: Expr) -> Expr:
            found = (one for one in expression.atoms(Untouched) if one.tokens.free_symbols & old.free_symbols)
            ratios = {one: cancel(one.tokens / old) for one in found}
            now = {one: Untouched(one.share, ratio * tokens) for one, ratio in ratios.items() if ratio.is_number}
            return cast(Expr, expression.xreplace(now))

        graph = replace(self.rewritten(unions, {}), pass_tokens=tokens)
        if self.routing is None or graph.routing is None:
            return graph
        now = self.routing.tokens
        choosing = now if not routed else tokens if now == old else cast(Expr, cancel(now * tokens / old))
        return graph.with_routing(replace(graph.routing, tokens=choosing))

    def completed(self) -> Graph:
        """The graph with what follows from its operators as they are: its tile on each, and the blocks of fused attention."""
        graph, tile = self, self.tile
        if tile is not None and any(operator.tile is None for operator, _ in graph):
            graph = graph.each(lambda operator, _: replace(operator, tile=tile))
        counting = [operator for operator, _ in graph if counts_passes(operator)]
        blocks = graph.query_blocks
        if blocks is None or not counting:
            return graph
        graph = graph.each(lambda operator, _: with_blocks(operator, blocks))
        others = {symbol: meaning for symbol, meaning in graph.definitions.items() if symbol != symbols.R}  # R may depend on them
        return replace(graph, definitions={symbols.R: blocks.positions_of(counting), **others})

    def with_routing(self, routing: Routing) -> Graph:
        """The graph whose tokens choose their experts so."""
        return replace(self, routing=routing, definitions={**self.definitions, symbols.X: routing.touched})

    def without_values(self, *letters: Symbol) -> Graph:
        """The same graph with these letters free again: without the numbers that techniques were given for them."""
        kept = {symbol: meaning for symbol, meaning in self.definitions.items() if symbol not in letters or not meaning.is_number}
        if len(kept) == len(self.definitions):
            return self
        return replace(self, definitions=kept, applied=tuple(technique.without_values(*letters) for technique in self.applied))

    @functools.cached_property
    def free_symbols(self) -> set[Symbol]:
        """Every symbol of its formulas and definitions."""
        parts = [part for op, count in self for part in (op.flop_count, count, op.latency, op.occupancy)]
        parts += [block.resident for block in self.blocks]
        parts += [op.byte_count(level=level) for op, _ in self for level in op.levels]
        parts += [tensor.bits for block in self.blocks for tensor in block.tensors()]
        factors = (self.ceilings.compute, self.ceilings.launch, *self.ceilings.levels.values())
        parts += [self.tokens, self.prompt_tokens, self.devices, *factors]
        parts += [self.energy.flop, self.energy.byte, self.energy.constant] if self.energy else []
        found = set().union(*(part.free_symbols for part in (*parts, *self.definitions.values())), self.definitions)
        return cast(set[Symbol], found)

    def each(self, change: Callable[[Operator, Block], Operator | tuple[Operator, ...]]) -> Graph:
        """The graph with every operator replaced by what *change* makes of it: one operator, or several in order."""
        return self.map(operator=lambda operator, _, block: change(operator, block))
