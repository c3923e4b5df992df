"""The graph of one step: repeated blocks of operators, and their totals."""

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
from symroof.operators.ceilings import IDEAL, WHOLE_MEMORY, Ceilings, Energy, Reserve
from symroof.operators.experts import Routing
from symroof.operators.facts import CONTRACTIONS, Structure, wide_enough
from symroof.operators.liveness import largest, sizes_alive
from symroof.operators.operator import Direction, Operator
from symroof.operators.query_blocks import QueryBlocks, counts_passes, with_blocks
from symroof.operators.tensor import Access, Level, Space, Storage, Tensor, widest
from symroof.symbolic import Symbolic
from symroof.symbols import Values, substitute
from symroof.units import BYTE, FLOP, in_unit

KEPT = 8
"""The number of bound graphs that a graph caches: questions about one step on one device bind it alike."""


def of_name(operators: Iterable[Any], name: str) -> Any:
    """The operator, or the result about an operator, of this name.

    Raises
    ------
    EinsumError
        There is no such operator.
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
    blocks : the blocks, in execution order.
    definitions : symbols that abbreviate a formula or have a value (R, the query positions of a FlashAttention pass).
    conventions : the assumptions behind the counts.
    tokens : expected number of tokens that the step completes per sequence; the whole prompt in prefill.
    prompt_tokens : tokens of prompts that the step also processes, per decoding sequence.
    ceilings : factors on the ceilings, launch overhead, overlap.
    energy : energy per FLOP and byte and constant power, if modelled.
    reserve : what an engine keeps of a device's memory.
    pass_tokens : tokens that share one read of a layer's weights, the exponent of every union over tokens.
    routing : how these tokens choose experts; None for a dense model.
    tile : side of the tiles of products with weights; None if on-chip traffic is not counted.
    query_blocks : the query blocks of fused attention; None for accountings with their own count.
    devices : the number of devices that the step runs on; all figures are per device.
    linked : the number of devices in one node, which share a link.
    applied : the techniques applied, in order.
    decode : whether the step is decode, over a context of t positions; otherwise prefill, of s tokens.
    unknown : what the graph does not say about its axes.

    The order of the operators and the tensors they share *are* the data dependencies.
    """

    blocks: tuple[Block, ...]
    definitions: Mapping[Symbol, Expr] = field(default_factory=dict)
    conventions: tuple[Convention, ...] = ()
    tokens: Expr = S.One
    ceilings: Ceilings = IDEAL
    energy: Energy | None = None
    reserve: Reserve = WHOLE_MEMORY
    prompt_tokens: Expr = S.Zero
    pass_tokens: Expr = S.One
    routing: Routing | None = None
    tile: Expr | None = None
    query_blocks: QueryBlocks | None = None
    devices: Expr = S.One
    linked: Expr = S.One
    applied: tuple[Any, ...] = ()
    decode: bool = True
    unknown: frozenset[Structure] = frozenset()
    _bound: dict[frozenset[tuple[Symbol, Expr]], Self] = field(default_factory=dict, repr=False, init=False)

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the counts, one sentence each."""
        return tuple([convention.text for convention in self.conventions])

    def apply(self, *techniques: Callable[[Graph], Graph]) -> Graph:
        """The graph after these techniques, applied in order."""
        return functools.reduce(lambda graph, technique: technique(graph), techniques, self)

    def __iter__(self) -> Iterator[tuple[Operator, Expr]]:
        """Every operator that the step runs, with its number of occurrences."""
        return iter(self._counted)

    @functools.cached_property
    def _counted(self) -> tuple[tuple[Operator, Expr], ...]:
        return tuple([(operator, block.count) for block in self.blocks if block.count != 0 for operator in block.operators])

    def __getitem__(self, name: str) -> Operator:
        """The operator of this name."""
        return of_name([operator for operator, _ in self], name)

    @property
    def token_count(self) -> Expr:
        """Tokens that a step completes for all sequences on all devices: a formula in b, in prefill in b and s."""
        return symbols.b * (S.One if self.decode else symbols.s) * self.tokens

    @functools.cached_property
    def levels(self) -> tuple[Level, ...]:
        """The levels over which operators move bytes."""
        touched = set().union(*[operator.bytes_by_level for operator, _ in self])
        return tuple([level for level in Level if level in touched])

    @property
    def flop_count(self) -> Expr:
        """FLOPs of the step: sum of count x value."""
        return Add(*[count * operator.flop_count for operator, count in self])

    @property
    def contraction_flop_count(self) -> Expr:
        """FLOPs of the step's contractions only, as the counters of frameworks report them."""
        return Add(*[count * operator.contraction_flop_count for operator, count in self])

    def byte_count(self, storage: Storage | None = None, direction: Direction | None = None, level: Level = Level.MEMORY) -> Expr:
        """Bytes moved over a level in the step: sum of count x value."""
        return Add(*[count * operator.byte_count(storage, direction, level) for operator, count in self])

    def resident(self, storage: Storage) -> dict[Tensor, Expr]:
        """Every tensor of this storage that persists, with the number of its copies."""
        kept: dict[Tensor, Expr] = {}
        for block in self.blocks:
            for tensor in block.tensors():
                if tensor.storage is storage:
                    kept.setdefault(tensor, block.copies_of(tensor))
        return kept

    def parameter_count(self) -> Expr:
        """Elements of all weights; shared weights count once."""
        return Add(*(count * tensor.elements for tensor, count in self.resident(Storage.WEIGHT).items()))

    def weight_memory(self) -> Expr:
        """Bytes of all weights in the device's memory, shared weights once; without weights in host memory or on chip."""
        return self._stored_bytes(Storage.WEIGHT, Level.MEMORY)

    def kv_memory(self) -> Expr:
        """Bytes of the KV cache of all layers in the device's memory at the end of the step."""
        return self._stored_bytes(Storage.KV_CACHE, Level.MEMORY)

    def memory_exprs(self) -> dict[str, Expr]:
        """Bytes of weights, KV cache and activations, as bare expressions."""
        return {"weight": self.weight_memory(), "kv_cache": self.kv_memory(), "activation": self.activation_memory()}

    flops = in_unit(lambda graph: graph.flop_count, FLOP, "FLOPs of one pass, as a Quantity.")
    traffic = in_unit(lambda graph: graph.byte_count(), BYTE, "Memory traffic of one pass, as a Quantity in bytes.")
    memory = in_unit(lambda graph: graph.memory_exprs(), BYTE, "`memory_exprs`, as Quantities in bytes.")

    def host_memory(self) -> Expr:
        """Bytes of weights and KV cache in host memory."""
        return Add(*(self._stored_bytes(storage, Level.HOST) for storage in (Storage.WEIGHT, Storage.KV_CACHE)))

    def _stored_bytes(self, storage: Storage, level: Level) -> Expr:
        return Add(*[count * tensor.byte_count for tensor, count in self.resident(storage).items() if tensor.level is level])

    def activation_memory(self) -> Expr:
        """The largest number of bytes of activations alive at once, from the data dependencies.

        A value is alive from the operator that writes it to the last that reads it; no operator
        works in place. An engine's reserve replaces it where that is larger, and what its runtime takes is added.
        """
        alive = sizes_alive([(block.operators, block.count != 1) for block in self.blocks])
        kept = [self.reserve.activations] if self.reserve.activations != 0 else []
        return largest([size + self.reserve.runtime for size in (*alive, *kept)])

    def room(self, capacity: Expr) -> Expr:
        """Bytes that the step may use of a device's memory of *capacity* bytes."""
        return capacity * substitute(self.reserve.share, self.definitions)

    def data_types(self, operator: Operator) -> tuple[str, ...]:
        """The data types that the operator can run in: wide enough for every operand it reads.

        Weight-only quantization therefore keeps the 16-bit peak. Operators other than contractions
        run in at least 16 bits.

        Raises
        ------
        EinsumError
            A width is still a symbol.
        """
        widths = [*operator.operand_bits] + ([] if operator.kind in CONTRACTIONS else [Integer(16)])
        return wide_enough(widest(operator.name, widths))

    def bind(self, values: Values) -> Self:
        """The same graph with numbers (or other expressions) for symbols; recent results are cached.

        A defined symbol takes the value of its definition once that is a number.
        """
        key = frozenset(values.items())
        if key not in self._bound:
            known = dict(values)
            for _ in self.definitions:  # definitions may depend on each other
                for symbol, definition in self.definitions.items():
                    value = substitute(definition, known)
                    if symbol not in known and value.is_number:
                        known[symbol] = value
            if len(self._bound) == KEPT:
                self._bound.pop(next(iter(self._bound)))
            self._bound[key] = self.replaced(known)
        return self._bound[key]

    def replaced(self, values: Values) -> Self:
        """The same graph with expressions substituted for symbols; definitions are substituted too, and kept.

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
        """The graph with functions applied to its parts; tensors that were shared stay shared.

        Parameters
        ----------
        space : maps the space of every operator, and of every tensor unless *tensor* is given.
        tensor : maps a tensor; called once per tensor, so operators that share a tensor still share it.
        access : maps (old access, access to the new tensor, old operator) to the new access or accesses.
        operator : maps (old operator, operator after the other functions, block) to the new operator or operators in order.
        blocks : selects the blocks to change; all by default.

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
            for before in accesses:
                moved = replace(before, tensor=tensor_of(before.tensor))
                new = moved if access is None else access(before, moved, old)
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
        """The graph whose layers process *tokens* tokens per pass; unions over tokens and the touched experts follow.

        Parameters
        ----------
        routed : whether experts see these tokens too; with expert parallelism they see those of all devices.
        """
        old = self.pass_tokens

        def unions(expression: Expr) -> Expr:
            untouched = (atom for atom in expression.atoms(Untouched) if atom.tokens.free_symbols & old.free_symbols)
            ratios = {atom: cancel(atom.tokens / old) for atom in untouched}
            now = {atom: Untouched(atom.share, ratio * tokens) for atom, ratio in ratios.items() if ratio.is_number}
            return cast(Expr, expression.xreplace(now))

        graph = replace(self.rewritten(unions, {}), pass_tokens=tokens)
        if self.routing is None or graph.routing is None:
            return graph
        now = self.routing.tokens
        choosing = now if not routed else tokens if now == old else cast(Expr, cancel(now * tokens / old))
        return graph.with_routing(replace(graph.routing, tokens=choosing))

    def completed(self) -> Graph:
        """The graph with everything derived from its final operators: tiles, and the query blocks of fused attention."""
        graph, tile = self, self.tile
        if tile is not None and any(operator.tile is None for operator, _ in graph):
            graph = graph.each(lambda operator, _: replace(operator, tile=tile))
        if (blocks := graph.query_blocks) is None:
            return graph
        counting = [operator for operator, _ in graph if counts_passes(operator)]
        if not counting:
            return graph
        graph = graph.each(lambda operator, _: with_blocks(operator, blocks))
        others = {symbol: meaning for symbol, meaning in graph.definitions.items() if symbol != symbols.R}  # R may depend on them
        return replace(graph, definitions={symbols.R: blocks.positions_of(counting), **others})

    def with_routing(self, routing: Routing) -> Graph:
        """The graph with this routing of tokens to experts."""
        return replace(self, routing=routing, definitions={**self.definitions, symbols.X: routing.touched})

    def without_values(self, *free: Symbol) -> Graph:
        """The same graph with these symbols free, without the numbers that techniques set for them."""
        numbers = {symbol for symbol in free if symbol in self.definitions and self.definitions[symbol].is_number}
        if not numbers:
            return self
        kept = {symbol: meaning for symbol, meaning in self.definitions.items() if symbol not in numbers}
        return replace(self, definitions=kept, applied=tuple(technique.without_values(*free) for technique in self.applied))

    @functools.cached_property
    def free_symbols(self) -> set[Symbol]:
        """The symbols of its formulas and definitions."""
        parts = [part for op, count in self for part in (op.flop_count, *op.bytes_by_level.values(), count, op.latency, op.occupancy)]
        held = [(block, tensor) for block in self.blocks for tensor in block.tensors()]
        parts += [part for block, tensor in held for part in (block.resident, tensor.copies or S.One, tensor.bits)]
        parts += [self.ceilings.compute, self.ceilings.launch, *self.ceilings.levels.values(), self.tokens, self.prompt_tokens]
        parts += [self.devices, self.reserve.share, self.reserve.activations, self.reserve.runtime]
        parts += [self.energy.flop, self.energy.byte, self.energy.constant] if self.energy else []
        return cast(set[Symbol], set().union(*[part.free_symbols for part in (*parts, *self.definitions.values())], self.definitions))

    def each(self, change: Callable[[Operator, Block], Operator | tuple[Operator, ...]]) -> Graph:
        """The graph with *change* applied to every operator; it returns one operator or several in order."""
        return self.map(operator=lambda operator, _, block: change(operator, block))
