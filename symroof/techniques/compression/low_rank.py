"""Low-rank factorization: a weight matrix becomes the product of two thin ones, one operator becomes two."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Min, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Axes, Graph, Operator, Storage, Tensor
from symroof.operators.tensor import DEFAULT_BITS
from symroof.techniques.compression.selectors import EVERY, Wider, linears, matrix, shapes
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word


@dataclass(frozen=True)
class LowRank(Technique):
    """``y = x W`` becomes ``z = x U`` (``<name>.first``) and ``y = z V`` (``<name>.second``) with U and V of rank rho.

    ========= ============================================== =============================================================
    .         before                                         after, both operators
    ========= ============================================== =============================================================
    FLOPs     ``2 b s d f``                                  ``2 b s rho (d + f)``
    traffic   ``(d f w + b s (d + f) a) / 8``                ``(rho (d + f) w + b s (d + f) a + 2 b s rho a) / 8``
    ========= ============================================== =============================================================

    FLOPs fall if ``rho < d f / (d + f)``; bytes fall if ``rho < d f w / ((d + f) w + 2 b s a)``, a stricter condition,
    because the rank-rho vector between the two products is written and read. Valid for every width and phase.

    Parameters
    ----------
    rank : rho, at most the smaller side of every matrix.
    operators : linear operators joined by +; by default those of the layers and of Medusa's residual blocks. Experts and
        per-head matrices are factorized one by one.

    Raises
    ------
    InputError
        The rank exceeds a matrix, or an operator is not linear.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(LowRank())
    >>> print(step["up_proj.first"].traffic, "and", step["up_proj.second"].flops)
    (a*b*d + a*b*rho + d*rho*w)/8 byte and 2*b*f*rho FLOP

    Source: Hsu et al. (2022), Language model compression with weighted low-rank factorization, arXiv:2207.00112.
    """

    name = "low-rank"
    summary = "each weight matrix becomes the product of two thin ones"
    survey = "3.4"
    source = "arXiv:2207.00112"
    requires = frozenset({Fact.WHOLE_MATRICES, Fact.ALL_LAYERS, Fact.OWN_INPUTS})
    example = Example(over="rank", at=1024)

    rank: Number = number(symbols.rho)
    operators: str = word("", meaning="linear operators, joined by +")

    def check(self, step: Step) -> None:
        chosen = linears(step.symbolic, self.operators)
        if not chosen:
            raise self.refused(f"{step.model} has no linear operator in its layers")
        for name, (inputs, outputs) in shapes(step.symbolic, step.values, chosen).items():
            most = Min(inputs, outputs)
            if self.rank.is_number and most.is_number and self.rank > most:
                raise self.refused(
                    f"rank {self.rank} is above the {inputs} x {outputs} matrix of {name}: "
                    f"expected at most {most}, or operators=... that leaves it out"
                )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        wider, chosen = Wider(graph, "rho", given["rank"]), linears(graph, self.operators)
        return graph.each(lambda operator, _: _factorized(operator, wider) if operator in chosen else operator)

    def statements(self, given: Given) -> tuple[str, ...]:
        which = f"{self.operators or EVERY} as two matrices of rank {self.rank}"
        return (f"low-rank: {which}; the vector between the two products goes through memory; biases are unchanged",)


def _factorized(operator: Operator, wider: Wider) -> tuple[Operator, Operator]:
    whole = matrix(operator)
    x, weight = whole.x, whole.weight

    def without(axes: Axes, gone: Axes) -> Axes:
        """The axes with the rank axis replacing those of *gone*."""
        place = next((number for number, axis in enumerate(axes) if axis in gone), len(axes))
        left = [axis for axis in axes if axis not in gone]
        return (*left[:place], wider.axis, *left[place:])

    def thin(part: str, gone: Axes) -> Access:
        tensor = wider.tensor(weight.tensor, f"{weight.tensor.name}.{part}", without(weight.tensor.axes, gone))
        return replace(weight, tensor=tensor, axes=without(weight.axes, gone) if weight.axes else ())

    space = wider.space(operator.space)
    like = next((access.tensor for access in (x, operator.written) if access.tensor.storage is Storage.ACTIVATION), None)
    bits, beside = (DEFAULT_BITS[Storage.ACTIVATION], S.Zero) if like is None else (like.bits, like.overhead)
    between = Access(Tensor(f"{operator.name}.first", without(x.touched, whole.inner), Storage.ACTIVATION, space, bits, beside))
    others = tuple(access for access in operator.reads if access not in (x, weight))

    def half(part: str, gone: Axes, reads: tuple[Access, ...], writes: tuple[Access, ...]) -> Operator:
        work = tuple(replace(piece, axes=without(piece.axes, gone)) for piece in operator.work)
        return replace(operator.suffixed(part), space=space, work=work, reads=reads, writes=writes)

    return (
        half("first", whole.outer, (x, thin("first", whole.outer)), (between,)),
        half("second", whole.inner, (between, thin("second", whole.inner), *others), operator.writes),
    )
