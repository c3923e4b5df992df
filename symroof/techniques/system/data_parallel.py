"""Data parallelism: every device has the whole model and its share of the sequences."""

from __future__ import annotations

from dataclasses import dataclass

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Graph, Structure
from symroof.techniques.system.parallelism import Parallel, axis_sizes
from symroof.techniques.technique import Example, Fact, Given


@dataclass(frozen=True)
class DataParallel(Parallel):
    """n replicas of the model with ``b / n`` sequences each and no communication.

    Activations, cache and FLOPs are divided by n, reads of weights are not. At a fixed batch per device, n devices have n
    times the throughput; at a fixed total batch, only the part of the time that grows with the batch shrinks.

    ============== ==============================================
    up_proj        ``F = 2 b s d f / n``, weights ``d f w / 8``
    ============== ==============================================

    Parameters
    ----------
    degree : n.

    Raises
    ------
    InputError
        The degree does not divide the batch.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(DataParallel())
    >>> print(step["up_proj"].flops, step["up_proj"].traffic)
    2*b*d*f/n_p FLOP (a*b*d/n_p + a*b*f/n_p + d*f*w)/8 byte

    Source: Pope et al. (2022), arXiv:2211.05102, section 3.1 (weights in full on every chip).
    """

    name = "data-parallel"
    summary = "replicas of the model, each with its share of the batch"
    survey = "5.3"
    source = "arXiv:2211.05102"
    structure = frozenset({Structure.BATCH})
    removes = frozenset({Fact.WHOLE_BATCH})
    divides = (symbols.b, "degree")
    example = Example(part="total", settings={"degree": 8}, inputs={"batch": 64})

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        return graph.replaced({letter: letter / given["degree"] for letter in (symbols.b, symbols.b_p)})

    def check(self, step: Step) -> None:
        prompts = step.symbolic.definitions.get(symbols.b_p)  # of a mixed batch
        sequences = axis_sizes(step)["b"] if prompts is None else step.values.get(symbols.b, symbols.b)
        self.even({"sequences": sequences} | ({"prompts": prompts} if prompts is not None else {}))

    def statements(self, given: Given) -> tuple[str, ...]:
        return (f"data-parallel: one of {given['degree']} replicas with its share of the b sequences and all weights; no communication",)
