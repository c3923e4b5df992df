"""What every family of models provides: its dimensions, its axes, and the blocks of one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures.options import Options
from symroof.conventions import Convention
from symroof.operators.attention import block_rows
from symroof.operators.block import Block
from symroof.operators.facts import BlockRole
from symroof.operators.operator import Operator
from symroof.operators.tensor import Space, Storage, Tensor, axes_of


class BlockBuilder:
    """Collects the operators of a block in the order they run; a call hands back the result.

    With a *prefix* the operators' names get it in front, where several kinds of layers have the same operators.

    >>> from symroof.operators.norm import Norm, norm
    >>> space = Space({"b": symbols.b, "s": symbols.s, "d": symbols.d})
    >>> record = BlockBuilder()
    >>> record(norm("attn_norm", residual_stream(space), Norm.RMS)).name
    'attn_norm'
    >>> [operator.name for operator in record.operators]
    ['attn_norm']
    """

    def __init__(self, prefix: str = "") -> None:
        self.operators: list[Operator] = []
        self.prefix = prefix

    def __call__(self, operator: Operator) -> Tensor:
        """Record the operator and hand back the tensor it produces."""
        self.operators.append(operator.prefixed(self.prefix) if self.prefix else operator)
        return operator.result

    def block(self, name: str, into: Tensor | None = None) -> Block:
        """What was recorded, as an end of the model; the last operator writes *into* a tensor that is there."""
        if into is not None:
            last = self.operators.pop()
            self.operators.append(replace(last, writes=(replace(last.written, tensor=into),)))
        return Block(name, tuple(self.operators))

    def layers(self, kind: str = "layer", into: Tensor | None = None) -> Block:
        """What was recorded, as the layers of a kind."""
        return replace(self.block(kind, into), count=symbols.LAYERS[kind], role=BlockRole.LAYER, kind=kind)


@dataclass(frozen=True)
class Architecture(ABC):
    """A family's structure, as far as one config decides it, with its dimensions.

    Attributes
    ----------
    dimensions : the number every dimension symbol stands for in this model.
    max_positions : the longest sequence it was published for, if the config says.
    """

    dimensions: Mapping[Symbol, int]
    max_positions: int | None

    family: str = field(default="", kw_only=True)
    """The name of the family, as in `symroof.architectures.families`."""
    generative: ClassVar[bool] = True
    """Whether the model predicts the next token of a vocabulary, under a causal mask."""

    @property
    def layer_count(self) -> int:
        """Number of layers, of all kinds."""
        return sum(self.dimensions.get(count, 0) for count in symbols.LAYERS.values())

    @abstractmethod
    def axes(self) -> dict[str, Expr]:
        """The size of every axis that does not depend on the step, as symbols."""

    @abstractmethod
    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        """The operators of one step."""

    def definitions(self, options: Options) -> dict[Symbol, Expr]:
        """The symbols of a step that stand for a longer formula."""
        if not options.flash_attention or options.decode:
            return {}
        sizes = self.axes()
        return {symbols.R: block_rows(sizes["e"], sizes["g"])}

    @property
    def routed(self) -> bool:
        """Whether tokens choose among experts."""
        return False

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        """What a reader should know of how this family is counted."""
        del options
        return ()

    def space(self, options: Options) -> Space:
        """The axes of one step, all of them symbols."""
        return Space(self.axes() | options.token_sizes(), causal=self.generative and options.causal)


def attention_axes(grouped: bool = True) -> dict[str, Expr]:
    """KV heads, query heads of a group, head dimension: ``h = k g``."""
    if grouped:
        return {"k": symbols.k, "g": symbols.h / symbols.k, "e": symbols.e}
    return {"k": symbols.h, "g": Integer(1), "e": symbols.e}


def residual_stream(space: Space) -> Tensor:
    """The activations that run through all blocks."""
    return Tensor("hidden", axes_of("b s d"), Storage.ACTIVATION, space)
