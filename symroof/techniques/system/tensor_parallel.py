"""Tensor parallelism: heads, MLP and vocabulary are split over devices, and all-reduces add partial sums."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import quote
from symroof.operators import Access, Block, Graph, Kind, Operator, Parameter, Storage, Structure, Tensor
from symroof.operators.collective import ALGORITHMS, RING, Group, all_gather, all_reduce
from symroof.operators.select import by_kind, reads, select
from symroof.techniques.system.parallelism import Linked, axis_sizes, counted_per_device, divided
from symroof.techniques.technique import Example, Fact, Given, Technique, word

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
"""The axes that are split evenly, with their names in error messages."""

FOLLOWING = ("v", "both", "mixed", "shared", "all", "gates")
"""The vocabulary, which is padded, and axes derived from those above."""

CUT = (*WHOLE, *FOLLOWING)


@dataclass(frozen=True)
class TensorParallel(Linked):
    """Every linear layer of attention and MLP split over n devices: first by columns, then by rows.

    The axes h, k, f, f_e, f_s, v and the channels and heads of recurrent layers are divided by n; g = h/k is unchanged. An
    operator that sums over one of them yields a partial sum, and so does an operator that is linear in partial sums. Before
    the first operator that is not linear, an all-reduce sends ``2 (n - 1) / n`` of the payload over the link: two per layer,
    one if attention and MLP run in parallel. The rows of the embedding are also reduced, and the logits gathered.

    ============== ===================================================
    up_proj        ``F = 2 b s d f / n``, weights ``d f w / 8 n``
    all-reduce     ``2 (n - 1) / n x b s d a / 8`` byte over the link
    ============== ===================================================

    With A seconds of divided work, C of all payloads over the link, O of overheads and H of steps per device, the step is
    faster if ``(A - C) (1 - 1 / n) > O + H (n - 1)``, and one more device helps if ``n (n + 1) < (A - C) / H``
    (`symroof.questions.scaling`). With i devices per node an all-reduce runs within nodes, across, and within again:
    ``2 (i - 1) / i`` of the payload over the link and ``2 (n - i) / (n i)`` over the network.

    Norms, routers, residual adds, and the compressed vectors of latent attention are replicated. A device has ``v / n`` rows
    of the vocabulary and looks up that share; if n does not divide v, the padding (less than n rows) is not counted.

    Parameters
    ----------
    degree, link, latency, overhead, node, network, network_latency : as for every technique over devices (`Linked`).
    collective : "ring" or "tree".

    Raises
    ------
    InputError
        The degree does not divide the heads or an intermediate size, or an operator is fused across an all-reduce.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(TensorParallel())
    >>> print(step["up_proj"].flops, [operator.name for operator, _ in step if operator.kind == "collective"])
    2*b*d*f/n_p FLOP ['embedding.all_reduce', 'out_proj.all_reduce', 'down_proj.all_reduce', 'lm_head.all_gather']

    Source: Shoeybi et al. (2019), Megatron-LM, arXiv:1909.08053, section 3.
    """

    name = "tensor-parallel"
    summary = "heads, MLP and vocabulary split over devices, with all-reduces of partial sums"
    survey = "5.3"
    source = "arXiv:1909.08053"
    structure = frozenset({Structure.PARTS})
    removes = frozenset({Fact.WHOLE_MATRICES})
    once = True
    example = Example(part="total", over="degree", settings={"node": 8}, inputs={"batch": 16})

    collective: str = word(RING, ALGORITHMS, "how the devices sum and gather")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, group = given["degree"], self.group(given, self.collective)

        def shared(old: Access, new: Access, operator: Operator) -> Access:
            looked_up = operator.kind is Kind.EMBEDDING and "v" in old.tensor.axes
            return replace(new, repeats=new.repeats / n) if looked_up else new

        space_of = functools.cache(divided(CUT, n))

        def part(tensor: Tensor) -> Tensor:
            """One device's part; every device has the whole block table of a cache."""
            own = replace(tensor, space=space_of(tensor.space))
            tables = tensor.storage is Storage.KV_CACHE and tensor.index != 0
            return replace(own, index=tensor.index * tensor.elements / own.elements) if tables else own

        cut = graph.map(space=space_of, tensor=part, access=shared)
        own = {symbols.h: symbols.h / n, symbols.k: symbols.k / n}
        cut = replace(cut, definitions=counted_per_device(graph.definitions, own))
        whole = reduced(self, cut, group)
        heads = reads(lambda access: access.tensor.parameter is Parameter.NORM and not {*CUT}.isdisjoint(access.tensor.axes))
        if norms := ", ".join(operator.name for operator in select(whole, by_kind(Kind.NORM) & heads)):
            text = f"tensor-parallel: {norms}: computed per head; the sum over heads, one number per row, is not counted"
            whole = replace(whole, conventions=(*whole.conventions, Convention(self.name, text)))
        return _gathered(whole, group)

    def check(self, step: Step) -> None:
        sizes = axis_sizes(step)
        self.even({what: sizes[axis] for axis, what in WHOLE.items() if axis in sizes})

    def statements(self, given: Given) -> tuple[str, ...]:
        n, i = given["degree"], self.inside(given)
        moved = f"2 ({i} - 1)/{i} of a payload over the link and 2 ({n} - {i})/({n} {i}) over the network" if self.tiers else ""
        return (
            f"tensor-parallel: one of {n} devices; norms, routers and adds are replicated, the vocabulary is padded if necessary",
            f"tensor-parallel: {self.collective} all-reduces take {moved or f'2 ({n} - 1)/{n} of a payload'}, additions not counted: "
            + self.crossing(given),
        )


def _gathered(graph: Graph, group: Group) -> Graph:
    """The graph with an all-gather after split results that no operator reads, such as logits."""
    wanted = {access.tensor for operator, _ in graph for access in operator.reads}

    def gathered(operator: Operator, _: Block) -> Operator | tuple[Operator, ...]:
        part = operator.writes[0]
        axes = [axis for axis in CUT if axis in part.tensor.axes]
        if not axes or part.tensor in wanted or part.tensor.storage is not Storage.ACTIVATION:
            return operator
        space = part.tensor.space.resized({axis: part.tensor.space.sizes[axis] * group.devices for axis in axes})
        into = replace(part.tensor, name=f"{part.tensor.name}.all_gather", space=space)
        whole = all_gather(f"{operator.name}.all_gather", part, into, group)
        return operator, whole.made_from(operator)

    return graph.each(gathered)


def reduced(technique: Technique, graph: Graph, group: Group) -> Graph:
    """The graph with an all-reduce before every operator that needs a complete sum."""

    @functools.cache
    def ends(block: Block) -> set[Operator]:
        others = (operator for other in graph.blocks if other is not block for operator in other.operators)
        return _to_be_summed(technique, block, {access.tensor for operator in others for access in operator.reads})

    def summed(operator: Operator, block: Block) -> Operator | tuple[Operator, ...]:
        if operator not in ends(block):
            return operator
        into = operator.result
        partial = replace(operator.writes[0], tensor=replace(into, name=f"{into.name}.partial"))
        whole = all_reduce(f"{operator.name}.all_reduce", partial, into, group)
        return replace(operator, writes=(partial, *operator.writes[1:])), whole.made_from(operator)

    return graph.each(summed)


def _sums(technique: Technique, operator: Operator) -> bool:
    """Whether an operator sums over a split axis: a contraction's axis absent from the result, or the rows of a look-up table."""
    given = operator.result.axes
    axes = {axis for piece in operator.work if piece.contraction for axis in piece.axes}
    if operator.kind is Kind.EMBEDDING:
        axes = {axis for access in operator.reads for axis in access.tensor.axes}
    lost = {axis for axis in axes if axis in CUT and axis not in given}
    if not lost or operator.kind in (Kind.SCAN, Kind.CONVOLUTION):
        return False
    if operator.is_group and (len(lost) > 1 or {*given} & {*CUT} or not operator.work[-1].contraction):
        raise technique.refused(f"apply it before fusion, which would span an all-reduce: {quote(operator.name)}")
    return True


def _to_be_summed(technique: Technique, block: Block, outside: set[Tensor]) -> set[Operator]:
    """The operators whose partial result is needed complete, within the block or outside."""
    maker: dict[Tensor, Operator] = {}
    taken: dict[Operator, list[Operator | None]] = {}
    for operator in block.operators:
        taken[operator] = [maker.get(access.tensor) for access in operator.reads if access.tensor.storage is Storage.ACTIVATION]
        maker |= {access.tensor: operator for access in operator.writes}
    sums = {operator for operator in block.operators if _sums(technique, operator)}
    whole: set[Operator] = set()
    while True:
        partial: set[Operator | None] = set()
        adds: dict[Operator, set[Operator | None]] = {}
        for operator, makers in taken.items():
            addends = {*makers[: operator.linear_in]}
            adds[operator] = addends if addends and addends <= partial - whole else set()
            if operator in sums or adds[operator]:
                partial.add(operator)
        needed = {user for user in taken if user in partial and (user.result in outside or _used_whole(user, taken, adds))}
        if needed <= whole:
            return {operator for operator in whole if operator in partial}
        whole |= needed


def _used_whole(operator: Operator, taken: Mapping[Operator, list[Operator | None]], adds: Mapping[Operator, set[Operator | None]]) -> bool:
    """Whether an operator other than a sum of partial sums reads the result, or none does."""
    users = [user for user, makers in taken.items() if operator in makers]
    return not users or any(operator not in adds[user] for user in users)
