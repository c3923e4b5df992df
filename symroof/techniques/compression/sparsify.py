"""Sparsity: zero weights are not stored; with the pattern 2:4 they are not multiplied either."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from sympy import Integer, Rational

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Block, Graph, Operator, Work
from symroof.techniques.compression.selectors import EVERY, Wider, linears, matrix, shapes
from symroof.techniques.technique import Example, Given, Number, Technique, number, word
from symroof.units import typed

HALF, METADATA, PERIOD = Rational(1, 2), Integer(2), 4
"""Density, bits of index per kept weight, and inputs per group of the pattern 2:4."""


@dataclass(frozen=True)
class Sparsify(Technique):
    """Keep a share sigma of the weights, each with q_i bits of index.

    A matrix of d f weights moves ``sigma d f (w + q_i) / 8`` bytes. Unstructured sparsity runs under the dense peak:
    tensor cores multiply zeros like any weight (2 b d f FLOPs), and only hardware that skips zeros does
    ``2 sigma b d f``. The pattern 2:4 has sigma = 1/2 and q_i = 2 and runs under the sparse peak, which vendors state in
    dense-equivalent FLOPs: those are counted, and half of them executed.

    ============== ============================================== =========================
    .              bytes of a matrix                              FLOPs, roof
    ============== ============================================== =========================
    multiplied     ``sigma d f (w + q_i) / 8``                    ``2 b d f``, dense
    skipped        ``sigma d f (w + q_i) / 8``                    ``2 sigma b d f``, dense
    pattern=2:4    ``d f (w + 2) / 16``                           ``2 b d f``, sparse
    ============== ============================================== =========================

    Bytes are saved if ``sigma < w / (w + q_i)``.

    Parameters
    ----------
    density : sigma, the share that is kept.
    index : q_i, bits of index per kept weight; 16 for a 16-bit position within a tile (Flash-LLM).
    zeros : "multiplied" as by tensor cores, or "skipped".
    pattern : "none", or "2:4".
    operators : linear operators joined by +; by default those of the layers and of Medusa's residual blocks.

    Raises
    ------
    InputError
        Parameters contradict pattern 2:4, a matrix does not have a multiple of 4 inputs, or is sparse already.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(Sparsify(index=symbols.q_i))["up_proj"].traffic)
    (a*b*d + a*b*f + d*f*sigma*(q_i + w))/8 byte
    >>> print(step.apply(Sparsify(pattern="2:4")).graph["up_proj"].sparse)
    True

    Source: Xia et al. (2023), Flash-LLM, arXiv:2309.10285; Mishra et al. (2021), arXiv:2104.08378 (2:4).
    """

    name = "sparsify"
    summary = "zero weights are not stored"
    survey = "3.2"
    source = "arXiv:2309.10285"
    example = Example(over="density", settings={"index": 16}, at=Fraction(1, 4))

    density: Number = number(symbols.sigma)
    index: Number = number(symbols.q_i, 16, zero=True)
    zeros: str = word("multiplied", ("multiplied", "skipped"))
    pattern: str = word("none", ("none", "2:4"))
    operators: str = word("", meaning="linear operators, joined by +")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern == "none":
            return
        if self.density not in (symbols.sigma, HALF):
            raise self.refused(f"density {self.density}: pattern 2:4 keeps 1/2")
        if self.index not in (16, METADATA):
            raise self.refused(f"index {self.index}: pattern 2:4 takes 2 bits per kept weight")
        if self.zeros == "skipped":
            raise self.refused("zeros=skipped: the sparse peak of pattern 2:4 already accounts for skipped zeros")
        object.__setattr__(self, "density", HALF)
        object.__setattr__(self, "index", METADATA)

    def check(self, step: Step) -> None:
        chosen = linears(step.symbolic, self.operators)
        if not chosen:
            raise self.refused(f"{step.model} has no linear operator in its layers")
        if self.pattern == "none":
            return
        for name, (inputs, _) in shapes(step.symbolic, step.values, chosen).items():
            if inputs.is_number and inputs % PERIOD != 0:
                raise self.refused(f"the {inputs} inputs of {name} are not a multiple of {PERIOD}: pattern 2:4 does not fit")
        if twice := [operator.name for operator in chosen if operator.sparse]:
            raise self.refused(f"{twice[0]} has the pattern 2:4 already")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        chosen = linears(graph, self.operators)
        kept = Wider(graph, "sigma", given["density"])

        def thinned(operator: Operator, _: Block) -> Operator:
            if operator not in chosen:
                return operator
            weight = matrix(operator).weight
            tensor = kept.tensor(weight.tensor, weight.tensor.name, (*weight.tensor.axes, kept.axis), index=given["index"])
            thin = replace(weight, tensor=tensor, axes=(*weight.touched, kept.axis))

            def fewer(piece: Work) -> Work:
                # per-weight work such as dequantization is done for stored weights only
                less = piece.axes == weight.touched or (piece.contraction and self.zeros == "skipped")
                return replace(piece, axes=(*piece.axes, kept.axis)) if less else piece

            return replace(
                operator,
                space=kept.space(operator.space),
                reads=tuple(thin if access is weight else access for access in operator.reads),
                work=tuple(map(fewer, operator.work)),
                sparse=operator.sparse or self.pattern == "2:4",
            )

        return graph.each(thinned)

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.pattern == "2:4":
            stored = "two of every four weights with 2 bits of index each"
            how = "FLOPs are dense-equivalent, as in the sparse peak: half of them are executed"
        else:
            stored = f"a share {typed(self.density)} of the weights with {self.index} bits of index each"
            skipped = "skipped" if self.zeros == "skipped" else "multiplied, so FLOPs stay"
            how = f"zeros are {skipped}; the dense peak applies"
        return (f"sparsify: {stored}; {how}; {self.operators or EVERY}",)
