"""Inputs of linear operators in fewer bits: a conversion pass writes a narrow copy of each input, which the products read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sympy import Expr

from symroof.operators import Access, Axes, Block, Graph, Kind, Operator, Role, Storage, Tensor, Work
from symroof.symbols import substitute

CONVERSION = 2
"""Operations per element: multiply by the reciprocal of the scale, round."""

ENDING = "quantize"
"""The suffix of the passes' names."""


def with_narrow_inputs(graph: Graph, products: Sequence[Operator], bits: Expr) -> Graph:
    """The graph whose products read their inputs at *bits* bits, from a copy that a separate pass writes.

    The pass follows the operator that writes the input, if that is unique in the block or in the graph. Otherwise it
    precedes the first product of a block that reads the input (the residual stream, which every layer writes at its
    end). Inputs that already have this width, and reads of a cache, are unchanged.

    >>> import symroof
    >>> from symroof.symbols import q_a
    >>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).symbolic
    >>> narrow = with_narrow_inputs(graph, [graph["gate_proj"], graph["up_proj"]], q_a)
    >>> print(narrow["mlp_norm.quantize"].traffic, "and", narrow["up_proj"].traffic)
    (a*b*d + b*d*q_a)/8 byte and (a*b*f + b*d*q_a + d*f*w)/8 byte
    """
    passes = _Passes(graph, {*products}, bits)

    def beside(old: Operator, new: Operator, block: Block) -> tuple[Operator, ...]:
        return (*passes.before.get((block, old), ()), new, *passes.behind.get(old, ()))

    return graph.map(tensor=lambda tensor: tensor, access=passes.access, operator=beside)


@dataclass(frozen=True)
class _Passes:
    """The inputs to convert and the positions of the passes.

    Attributes
    ----------
    behind : the passes after the only operator that writes an input.
    before : the passes before the first product of a block that reads an input with several writers.
    """

    graph: Graph
    products: set[Operator]
    bits: Expr
    behind: dict[Operator, list[Operator]] = field(default_factory=dict)
    before: dict[tuple[Block, Operator], list[Operator]] = field(default_factory=dict)
    _copies: dict[tuple[Tensor, Axes], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        done: set[tuple[Operator | Block, Tensor, Axes]] = set()
        for access, product, block, maker in self._inputs():
            key = maker or block, access.tensor, _copied(access)
            if key not in done:
                self._convert(access, product, block, maker)
            done.add(key)

    def _inputs(self) -> Iterator[tuple[Access, Operator, Block, Operator | None]]:
        """Every input to convert, with its product, the block, and the operator that writes it; None if there are several."""
        makers: dict[Tensor, list[Operator]] = {}
        for operator, _ in self.graph:
            for access in operator.writes:
                makers.setdefault(access.tensor, []).append(operator)
        for block in self.graph.blocks:
            for place, product in enumerate(block.operators):
                for access in filter(self._is_wide, product.reads if product in self.products else ()):
                    every = makers.get(access.tensor, [])
                    own = [maker for maker in every if maker in block.operators[:place]]
                    candidates = own if len(own) == 1 else every
                    yield access, product, block, candidates[0] if len(candidates) == 1 else None

    def _is_wide(self, access: Access) -> bool:
        """Whether the access is to an activation of another width."""
        tensor, known = access.tensor, self.graph.definitions
        return tensor.storage is Storage.ACTIVATION and substitute(tensor.bits, known) != substitute(self.bits, known)

    def _convert(self, access: Access, product: Operator, block: Block, maker: Operator | None) -> None:
        key = tensor, axes = access.tensor, _copied(access)
        copy = self._copies.setdefault(key, replace(tensor, name=f"{tensor.name}.{ENDING}", axes=axes, bits=self.bits))
        if maker is None:
            self.before.setdefault((block, product), []).append(_pass(product, tensor, access.repeats, copy, f"{product.name}.{ENDING}"))
            return
        others = self.behind.setdefault(maker, [])
        name = f"{maker.name}.{ENDING}" + (f"{len(others) + 1}" if others else "")
        others.append(_pass(maker, tensor, maker.written.repeats, copy, name))

    def access(self, old: Access, new: Access, operator: Operator) -> Access:
        """The read of a product, redirected to the narrow copy of its input."""
        copy = self._copies.get((old.tensor, _copied(old))) if operator in self.products and old in operator.reads else None
        return new if copy is None else replace(new, tensor=copy)


def _copied(access: Access) -> Axes:
    """The axes of the copy: those of the whole tensor, or of the rows that are read."""
    whole = access.tensor.axes
    return whole if {*whole} <= {*access.touched} else access.touched


def _pass(like: Operator, tensor: Tensor, repeats: Expr, copy: Tensor, name: str) -> Operator:
    """The conversion of a tensor, or of some of its rows, as often as the operator *like* runs."""
    axes = () if copy.axes == tensor.axes else copy.axes
    named = like.suffixed(ENDING)
    return Operator(
        name,
        Kind.ELEMENTWISE,
        like.space,
        (Work(copy.axes, CONVERSION),),
        (Access(tensor, axes, repeats),),
        (Access(copy, repeats=repeats),),
        passes=like.passes,
        role=Role.QUANTIZATION,
        prefix=named.prefix,
        answers_to=named.answers_to | {name},
    )
