"""Tensor parallelism: heads, MLP and vocabulary cut over devices, partial sums brought together by all-reduces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.operators.collective import ALGORITHMS, RING, all_gather
from symroof.operators.facts import Kind
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Storage
from symroof.techniques.system.parallelism import Linked, axis_sizes, divided, redefined, respaced
from symroof.techniques.system.partial_sums import reduced
from symroof.techniques.technique import Example, word

WHOLE = {
    "k": "KV heads",
    "h": "heads",
    "f": "of the intermediate size",
    "f_e": "of an expert's intermediate size",
    "f_s": "of the shared experts' intermediate size",
    "d_i": "channels of a state-space layer",
    "h_s": "heads of a state-space layer",
    "g_s": "groups of a state-space layer",
    "k_l": "key heads of linear attention",
    "h_l": "value heads of linear attention",
}
"""The axes that are cut into equal parts, as errors call them."""

FOLLOWING = ("v", "both", "mixed", "shared", "all", "gates")
"""The vocabulary, which is padded, and axes that are sums and multiples of those above."""

CUT = (*WHOLE, *FOLLOWING)


@dataclass(frozen=True)
class TensorParallel(Linked):
    """Every linear layer of attention and MLP on n devices: first by columns, then by rows.

    The axes h, k, f, f_e, f_s, v and the channels and heads of recurrent layers are divided by n; g = h/k stays. An operator
    that sums over one of them has a partial sum, and so has an operator that is linear in partial sums. In front of the
    first that is not, an all-reduce takes ``2 (n - 1) / n`` of the payload over the link: two per layer, one where attention
    and MLP run side by side. The rows of the embedding are summed too, and the logits gathered.

    ============== ===================================================
    up_proj        ``F = 2 b s d f / n``, weights ``d f w / 8 n``
    all-reduce     ``2 (n - 1) / n x b s d a / 8`` byte over the link
    ============== ===================================================

    With A seconds of shared work, C of all payloads crossing the link and H of latency per round it pays while
    ``n < (A - C) / H``, and one more device while ``n (n + 1) < (A - C) / H`` (`symroof.questions.scaling`).

    Norms, routers, residual adds, and the compressed vectors of latent attention are on every device in full. A device has
    the rows of ``v / n`` tokens of the vocabulary and looks up that share; where n does not divide v, the padding (less
    than n rows) is not counted.

    Parameters
    ----------
    degree, link, latency : n, byte/s one way, seconds of a step of a collective.
    collective : "ring" or "tree".

    Errors
    ------
    InputError
        The degree does not divide the heads or an intermediate size, or an operator is fused across a sum.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(TensorParallel())
    >>> print(step["up_proj"].flops, [operator.name for operator, _ in step if operator.kind == "collective"])
    2*b*d*f/n_p flop ['embedding.all_reduce', 'out_proj.all_reduce', 'down_proj.all_reduce', 'lm_head.all_gather']

    Source: Shoeybi et al. (2019), Megatron-LM, arXiv:1909.08053, section 3.
    """

    name = "tensor-parallel"
    summary = "heads, MLP and vocabulary cut over devices, with all-reduces of partial sums"
    survey = "5.3"
    source = "arXiv:1909.08053"
    once = True
    example = Example(part="total", over="degree", settings={"latency": 5e-06}, inputs={"batch": 16})

    collective: str = word(RING, ALGORITHMS, "how the devices sum and gather")

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        n, link = given["degree"], (given["degree"], given["latency"], self.collective)
        cut = respaced(graph, divided(CUT, n))
        cut = redefined(cut, symbols.R, {symbols.h: symbols.h / n, symbols.k: symbols.k / n})

        def shared(operator: Operator, _: Block) -> Operator:
            if operator.kind is not Kind.EMBEDDING or "v" not in operator.reads[0].tensor.axes:
                return operator
            return replace(operator, reads=tuple(replace(access, repeats=access.repeats / n) for access in operator.reads))

        whole = reduced(self, cut.each(shared), CUT, *link)
        norms = [op.name for op, _ in whole if op.kind is Kind.NORM and any({*CUT} & {*one.tensor.axes} for one in _weights(op))]
        if norms:
            told = f"tensor-parallel: {', '.join(norms)}: taken per head; a norm over all heads would sum a number per row, not counted"
            whole = replace(whole, conventions=(*whole.conventions, Convention(self.name, told)))
        return _gathered(whole, *link)

    def check(self, step: Step) -> None:
        sizes = axis_sizes(step)
        self.even({what: sizes[axis] for axis, what in WHOLE.items() if axis in sizes})

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        n = given["degree"]
        return (
            f"tensor-parallel: one of {n} devices; norms, routers and adds in full on each, the vocabulary padded where need be",
            f"tensor-parallel: {self.collective} all-reduces take 2 ({n} - 1)/{n} of a payload, additions not counted, over "
            + self.crossing(given),
        )


def _weights(operator: Operator) -> list[Access]:
    return [access for access in operator.reads if access.tensor.storage is Storage.WEIGHT]


def _gathered(graph: Graph, devices: Expr, latency: Expr, algorithm: str) -> Graph:
    """The graph with the results that nothing reads, such as logits, put together where they are cut."""
    wanted = {id(access.tensor) for operator, _ in graph for access in operator.reads}

    def gathered(operator: Operator, _: Block) -> Operator | tuple[Operator, ...]:
        part = operator.writes[0]
        axes = [axis for axis in CUT if axis in part.tensor.axes]
        if not axes or id(part.tensor) in wanted or part.tensor.storage is not Storage.ACTIVATION:
            return operator
        space = part.tensor.space.resized({axis: part.tensor.space.sizes[axis] * devices for axis in axes})
        into = replace(part.tensor, name=f"{part.tensor.name}.all_gather", space=space)
        whole = all_gather(f"{operator.name}.all_gather", part, into, devices, latency, algorithm)
        return operator, whole.made_from(operator)

    return graph.each(gathered)
