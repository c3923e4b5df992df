"""FlashDecoding: a decode step processes parts of the context in parallel and combines the results."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer, Min, Mul, Symbol

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators import ATTENTION_ROLES, Access, Block, Graph, Kind, Operator, Role, Storage, Tensor, Work
from symroof.techniques.system.flash_attention import FlashAttention
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number

COMBINE_FLOPS, SHARE_FLOPS = 2, 5
"""Per component of a partial output: scale, add. Per partial row: maximum, subtract, exponential, scale and add its sum."""

HALF = Integer(16)
"""Bits of a partial sum that decide the peak, and the additional bits stored."""

AXIS = "n_s"
COMBINE = "combine"


@dataclass(frozen=True, eq=False)
class Accumulated(Tensor):
    """A sum in 32 bits at any activation width; like all operators that are no contraction, its operator runs under the 16-bit peak."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", HALF)
        object.__setattr__(self, "overhead", HALF)
        super().__post_init__()


@dataclass(frozen=True)
class FlashDecoding(Technique):
    """Fused attention over n_s parts of the context, and a second operator that combines their partial outputs.

    A part writes an unnormalized output of e components, a maximum and a sum, in 32 bits each, for every query head.

    ========= ============================================ ================================================
    .         ``fused_attention``                          ``fused_attention.combine``
    ========= ============================================ ================================================
    FLOPs     unchanged                                    ``b h s (n_s (2 e + 5) + e)``
    traffic   without the output,                          ``4 b h s n_s (e + 2) + b h s e a / 8``
              plus ``4 b h s n_s (e + 2)``
    ========= ============================================ ================================================

    The gain is parallelism. With *processors*, an operator with one tile per sequence, KV head and part keeps
    ``U = min(n_c, b k n_s)`` of n_c processors busy and reaches this share of peak and memory bandwidth. With one part
    there is nothing to combine: FlashAttention under the same occupancy model. Partial waves are not modelled.

    Parameters
    ----------
    splits : n_s, parts of the context.
    processors : n_c, multiprocessors of the device; by default every operator fills the device, and splitting only adds
        cost. Tiles are counted at this point of the chain: after tensor parallelism, those of one device.

    Raises
    ------
    InputError
        There are more parts than tokens, the step is a prefill, or attention is split already.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(FlashDecoding())
    >>> print(step["fused_attention.combine"].flops)
    (2*b*e*h*n_s + b*e*h + 5*b*h*n_s) FLOP

    Source: Dao, Haziza, Massa, Sizov (2023), Flash-Decoding for long-context inference,
    https://crfm.stanford.edu/2023/10/12/flashdecoding.html.
    """

    name = "flash-decoding"
    summary = "parts of the context in parallel, combined afterwards"
    survey = "5.1"
    source = "https://crfm.stanford.edu/2023/10/12/flashdecoding.html"
    phases = ("decode",)
    requires = frozenset({Fact.ONE_CONTEXT, Fact.WHOLE_PROMPT, Fact.NO_CHUNK})
    removes = frozenset({Fact.ONE_PART})
    example = Example(
        model="llama-3-8b",
        part="attention",
        settings={"splits": 16, "processors": 108},
        inputs={"seq_len": 32768},
        before="flash-decoding:splits=1,processors=108",
    )

    splits: Number = number(symbols.n_s)
    processors: Number = number(symbols.n_c, optional=True)

    def check(self, step: Step) -> None:
        context = step.values.get(symbols.t)
        if context is not None and isinstance(self.splits, Expr) and self.splits.is_number and self.splits > context:
            raise self.refused(f"splits {self.splits}: the context has {context} tokens; expected at most {context}")

    def parameters(self, graph: Graph) -> tuple[dict[str, Expr], dict[Symbol, Expr]]:
        given, defined = super().parameters(graph)
        if self.splits == 1:  # nothing to combine, so no symbol
            defined.pop(symbols.n_s, None)
            given["splits"] = Integer(1)
        return given, defined

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if not graph.decode:
            raise InputError(f"{self.name} splits the context of a decode step; this is a prefill step")
        roles = {operator.role for operator, _ in graph}
        if not roles & ATTENTION_ROLES:
            raise self.refused("this step has no attention")
        if Role.ATTENTION not in roles:
            graph = FlashAttention().on_graph(graph)
        if Role.MERGE in roles:
            raise self.refused("attention is split already")
        definitions = dict(graph.definitions)

        def split(operator: Operator, block: Block) -> Operator | tuple[Operator, ...]:
            if operator.role is not Role.ATTENTION:
                return operator
            if "processors" in given and operator.unit is None:
                definitions[symbols.U] = Min(given["processors"], tiles(operator) * given["splits"], evaluate=False)
                operator = replace(operator, occupancy=symbols.U / given["processors"])
            return operator if given["splits"] == 1 else parts(operator, given["splits"])

        return replace(graph.each(split), definitions=definitions)

    def statements(self, given: Given) -> tuple[str, ...]:
        busy = (
            "every operator fills the device"
            if self.processors is None
            else f"one tile per sequence, KV head and part; each of {self.processors} processors reaches its share of peak and bandwidth, "
            "an upper bound on the gain, because a single processor can draw more than its share; partial waves are not modelled"
        )
        combined = "nothing to combine" if self.splits == 1 else "partial outputs in 32 bits with maximum and sum, combined by an operator"
        return (f"flash-decoding: n_s = {self.splits} parts of the context; {combined}; {busy}",)


def tiles(operator: Operator) -> Expr:
    """Tiles of unsplit attention for one query position: one per sequence and KV head."""
    keys = next(access for access in operator.reads if "t" in access.touched)
    return Mul(*(operator.space.sizes[axis] for axis in keys.touched if axis in ("b", "k", "h")))


def parts(operator: Operator, splits: Expr | Symbol) -> tuple[Operator, Operator]:
    """Attention over parts of the context, and the operator that combines them."""
    space = replace(operator.space, sizes={**operator.space.sizes, AXIS: splits, "stat": Integer(2)})
    output = operator.writes[0]
    *rows, component = output.touched
    partial = Accumulated("partial_outputs", (*rows, AXIS, component), Storage.ACTIVATION, space)
    beside = Accumulated("partial_sums", (*rows, AXIS, "stat"), Storage.ACTIVATION, space)
    between = (Access(partial), Access(beside))
    work = (Work((*rows, AXIS, component), COMBINE_FLOPS), Work((*rows, AXIS), SHARE_FLOPS), Work((*rows, component), 1))
    answers = operator.answers_to | {f"{operator.name}.{COMBINE}"}
    combine = Operator(
        f"{operator.name}.{COMBINE}",
        Kind.ELEMENTWISE,
        space,
        work,
        between,
        (output,),
        unit=operator.unit,
        role=Role.MERGE,
        answers_to=answers,
    )
    return replace(operator, writes=between), combine
