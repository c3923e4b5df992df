"""Low-rank factorization: a matrix as the product of two thin ones, one operator as two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Min

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import DEFAULT_BITS, Access, Axes, Storage, Tensor
from symroof.techniques.compression.selectors import Wider, linears, map_operators, matrix, shapes
from symroof.techniques.technique import Example, Number, Technique, number, word


@dataclass(frozen=True)
class LowRank(Technique):
    """``y = x W`` becomes ``z = x U`` (``<name>.first``) and ``y = z V`` (``<name>.second``), U and V of rank rho.

    ========= ============================================== =============================================================
    .         before                                         after, both operators
    ========= ============================================== =============================================================
    FLOPs     ``2 b s d f``                                  ``2 b s rho (d + f)``
    traffic   ``(d f w + b s (d + f) a) / 8``                ``(rho (d + f) w + b s (d + f) a + 2 b s rho a) / 8``
    ========= ============================================== =============================================================

    FLOPs fall where ``rho < d f / (d + f)``; bytes where ``rho < d f w / ((d + f) w + 2 b s a)``, which is less: the
    rank-rho vector between the two is written and read.

    Parameters
    ----------
    rank : rho, at most the smaller side of every matrix.
    operators : linear operators joined by +; without it, those of the layers. Experts, and heads of which each has a matrix of its
        own, are factorized one by one.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(LowRank())
    >>> print(step["up_proj.first"].traffic, "and", step["up_proj.second"].flops)
    a*b*d/8 + a*b*rho/8 + d*rho*w/8 byte and 2*b*f*rho flop

    Source: Hsu et al. (2022), Language model compression with weighted low-rank factorization, arXiv:2207.00112.
    """

    name = "low-rank"
    summary = "each matrix as the product of two thin ones"
    survey = "3.4"
    source = "arXiv:2207.00112"
    example = Example(over="rank", at=1024)

    rank: Number = number(symbols.rho)
    operators: str = word("", meaning="linear operators, joined by +")

    def check(self, step: Step) -> None:
        chosen = linears(step.symbolic, self.operators)
        if not chosen:
            raise InputError(f"{self.name}: {step.model} has no linear operator in its layers")
        rank = cast(Expr, self.rank)
        for name, (inputs, outputs) in shapes(step.symbolic, step.values, chosen).items():
            most = Min(inputs, outputs)
            if rank.is_number and most.is_number and rank > most:
                raise InputError(
                    f"{self.name}: rank {self.rank} is above the {inputs} x {outputs} matrix of {name}: "
                    f"expected at most {most}, or operators=... without it"
                )

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        wider = Wider(graph, "rho", given["rank"])

        def factorized(operator: Operator) -> tuple[Operator, ...]:
            return _factorized(operator, wider)

        return map_operators(graph, factorized, linears(graph, self.operators))

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        which = self.operators or "linear operators of the layers"
        return (f"low-rank: {which} as two matrices of rank {self.rank}; the vector between them goes through memory; biases stay",)


def _factorized(operator: Operator, wider: Wider) -> tuple[Operator, Operator]:
    found = matrix(operator)
    weight, result = found.weight, operator.writes[0]
    x = next(one for one in operator.reads if one is not weight)
    first, second = f"{operator.name}.first", f"{operator.name}.second"

    def without(axes: Axes, gone: Axes) -> Axes:
        """The axes with the rank's in the place of others."""
        place = next((number for number, axis in enumerate(axes) if axis in gone), len(axes))
        left = [axis for axis in axes if axis not in gone]
        return (*left[:place], wider.axis, *left[place:])

    shared = weight.tensor.name.removesuffix(".weight")

    def thin(name: str, gone: Axes) -> Access:
        tensor = wider.tensor(weight.tensor, f"{shared}.{name}.weight", without(weight.tensor.axes, gone))
        return replace(weight, tensor=tensor, axes=without(weight.axes, gone) if weight.axes else ())

    space = wider.space(operator.space)
    like = next((one.tensor for one in (x, result) if one.tensor.storage is Storage.ACTIVATION), None)
    bits = DEFAULT_BITS[Storage.ACTIVATION] if like is None else like.bits
    between = Access(Tensor(first, without(x.axes or x.tensor.axes, found.inner), Storage.ACTIVATION, space, bits))
    others = tuple(one for one in operator.reads if one not in (x, weight))

    def work(gone: Axes) -> tuple:
        return tuple(replace(one, axes=without(one.axes, gone)) for one in operator.work)

    return (
        replace(operator, name=first, space=space, work=work(found.outer), reads=(x, thin("first", found.outer)), writes=(between,)),
        replace(operator, name=second, space=space, work=work(found.inner), reads=(between, thin("second", found.inner), *others)),
    )
