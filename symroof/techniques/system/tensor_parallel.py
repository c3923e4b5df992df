"""Tensor parallelism: heads, MLP and vocabulary are split over devices, and all-reduces add partial sums."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Integer, Min, S, Symbol, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import quote
from symroof.operators import Access, Block, Graph, Kind, Operator, Parameter, Space, Storage, Structure, Tensor
from symroof.operators.collective import ALGORITHMS, RING, Group, all_gather, all_reduce, reduce_scatter
from symroof.operators.select import by_kind, reads, select
from symroof.techniques.memo import once
from symroof.techniques.system.parallelism import Linked, axis_sizes, counted_per_device, divided, expert_tensors, touched
from symroof.techniques.technique import Example, Fact, Given, word
from symroof.techniques.token_regions import split_tokens
from symroof.vocabulary import numbered

SPLIT, WHOLE = "split", "whole"

EVEN = {
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
"""The axes that are split evenly, with their names in error messages; KV heads and groups may have copies instead."""

PADDING = Integer(64)
"""Rows of the vocabulary are padded to a multiple of this. Source: vLLM's `DEFAULT_VOCAB_PADDING_SIZE`, which demands that the degree
divides the result; SGLang's `VocabParallelEmbedding` pads to a multiple of 64 n where it does not."""

FOLLOWING = ("v", "both", "mixed", "shared", "all", "gates")
"""The vocabulary, which is padded, and axes derived from those above."""

CUT = ("k", *EVEN, *FOLLOWING)


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

    With sequence_parallel "yes" a device computes norms and residual adds for ``b s / n`` of the tokens alone: a reduce-scatter and an
    all-gather take the place of an all-reduce, with as many bytes and one overhead more, and the rows between take 1/n of the memory.
    Tokens that n does not divide count as their mean; engines pad them.

    Norms, routers, residual adds, and the compressed vectors of latent attention are replicated. Above the KV heads every device
    has one of them: it stores and reads ``k / k_d`` KV heads, with ``k_d = min(k, n)``, and has ``h / n`` query heads. A single
    group of a state-space layer is copied in the same way. A device has ``(v + v_p) / n`` rows of the vocabulary and looks up a share
    1/n of the tokens; v_p rows pad v to a multiple of 64, or of 64 n if n does not divide that.

    Parameters
    ----------
    degree, link, latency, overhead, node, network, network_latency : as for every technique over devices (`Linked`).
    collective : "ring" or "tree".
    sequence_parallel : "yes" as Megatron's and vLLM's flags of that name.
    experts : "split" divides every routed expert; "whole" gives every device ``E / n`` whole experts on the same n devices, as
        engines do with expert parallelism beside tensor parallelism: all devices have all tokens, each computes for its
        experts, and the all-reduce after the MLP adds their sums.

    Raises
    ------
    InputError
        The degree does not divide the heads or an intermediate size, it is neither a divisor nor a multiple of the KV heads,
        or an operator is fused across an all-reduce.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(TensorParallel())
    >>> print(step["up_proj"].flops, [operator.name for operator, _ in step if operator.kind == "collective"])
    2*b*d*f/n_p FLOP ['embedding.all_reduce', 'out_proj.all_reduce', 'down_proj.all_reduce', 'lm_head.all_gather']

    Sources: Shoeybi et al. (2019), Megatron-LM, arXiv:1909.08053, section 3; copies of KV heads and of a single group as in vLLM
    (`QKVParallelLinear`, `extra_groups_for_head_shards`); sequence parallelism: Korthikanti et al. (2022), arXiv:2205.05198, section 4.2.2.
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
    sequence_parallel: str = word("no", ("no", "yes"), "whether a device computes norms and adds of its own tokens alone")
    experts: str = word(SPLIT, (SPLIT, WHOLE), "whether every expert is split over the devices, or whole on one of them")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, group = given["degree"], self.group(given, self.collective)

        parts = copied(graph)
        meant: dict[Symbol, Expr] = {part: Min(symbol, n) for symbol, part in parts.items()}
        held = {symbol: symbol * n / part for symbol, part in parts.items()}
        if symbols.v in graph.free_symbols:
            meant[symbols.v_p] = padding(symbols.v)
            held[symbols.v] = symbols.v + symbols.v_p * Min(1, n - 1)
        graph = graph.replaced(held)
        graph = replace(graph, definitions={**graph.definitions, **meant})
        whole = self.experts == WHOLE
        routed = expert_tensors(graph) if whole else frozenset[Tensor]()
        space_of = functools.cache(lambda space, of_experts=False: _of_one_device(space, n, whole, of_experts))

        def shared(old: Access, new: Access, operator: Operator) -> Access:
            looked_up = operator.kind is Kind.EMBEDDING and "v" in old.tensor.axes
            chosen = whole and old.tensor not in routed and "K" in old.touched and not routed.isdisjoint(touched(operator))
            return replace(new, repeats=new.repeats / n) if looked_up or chosen else new

        def part(tensor: Tensor) -> Tensor:
            """One device's part; every device has the whole block table of a cache."""
            own = replace(tensor, space=space_of(tensor.space, tensor in routed))
            tables = tensor.storage is Storage.KV_CACHE and tensor.index != 0
            return replace(own, index=tensor.index * tensor.elements / own.elements) if tables else own

        def placed(old: Operator, new: Operator, _: Block) -> Operator:
            return new if routed.isdisjoint(touched(old)) else replace(new, space=space_of(old.space, True))

        cut = graph.map(space=space_of, tensor=part, access=shared, operator=placed)
        heads = {symbols.h: symbols.h / n, symbols.k: symbols.k / n} | {symbol: symbol / n for symbol in parts}
        cut = replace(cut, definitions={**counted_per_device(graph.definitions, heads), **meant})
        scattered: set[Tensor] | None = set() if self.sequence_parallel == "yes" else None
        summed = reduced(self, cut, group, scattered)
        summed = summed if scattered is None else split_tokens(summed, frozenset(scattered), group)
        heads = reads(lambda access: access.tensor.parameter is Parameter.NORM and not {*CUT}.isdisjoint(access.tensor.axes))
        if norms := ", ".join(operator.name for operator in select(summed, by_kind(Kind.NORM) & heads)):
            text = f"tensor-parallel: {norms}: computed per head; the sum over heads, one number per row, is not counted"
            summed = replace(summed, conventions=(*summed.conventions, Convention(self.name, text)))
        return _gathered(summed, group)

    @property
    def required(self) -> frozenset[Fact]:
        return frozenset({Fact.EXPERTS_TOGETHER}) if self.experts == WHOLE else frozenset()

    @property
    def removed(self) -> frozenset[Fact]:
        return self.removes | self.required | (frozenset({Fact.WHOLE_BATCH}) if self.sequence_parallel == "yes" else frozenset())

    def on_step(self, step: Step) -> Step:
        """The step after it; of a known model, without the symbols of copies and padding where there are none."""
        after = super().on_step(step)
        if self.degree == 1:
            return after
        graph, n = after.symbolic, self.parameters(step.symbolic)[0]["degree"]
        known = step.source.dimensions if step.source else step.values
        groups, rows = known.get(symbols.g_s), known.get(symbols.v)
        meant, settled = dict(graph.definitions), dict[Symbol, Expr]()
        for symbol, part in copied(step.symbolic).items():
            if symbol in known and known[symbol] == known.get(symbols.h):
                settled[part] = n
        if groups is not None:
            settled[symbols.g_d] = S.One if groups == 1 else n
        if rows is not None and symbols.v_p in meant:
            if self.degree.is_Integer and (rows + padding(rows)) % self.degree != 0:
                meant[symbols.v_p] = padding(symbols.v, n)
            elif padding(rows) == 0:
                settled[symbols.v_p] = S.Zero
        meant = {symbol: meaning for symbol, meaning in meant.items() if symbol not in settled}
        key = (*meant.items(), *settled.items())
        return replace(after, symbolic=once(graph, key, lambda: replace(graph, definitions=meant).replaced(settled)))

    def check(self, step: Step) -> None:
        sizes = axis_sizes(step)
        for k, g in {(space.sizes["k"], space.sizes["g"]) for operator, _ in step if {"k", "g"} <= (space := operator.space).sizes.keys()}:
            self.even({"heads": k * g})
            if k.is_Integer and self.degree.is_Integer and k % self.degree != 0 and self.degree % k != 0:
                raise self.refused(f"degree {self.degree} neither divides {k} KV heads nor is a multiple of them")
        even = {axis: what for axis, what in EVEN.items() if axis in sizes and (axis, sizes[axis]) != ("g_s", 1)}
        if self.experts == WHOLE:
            if "E" not in sizes:
                raise self.refused("this step has no routed experts; expected a mixture of experts")
            even = {axis: what for axis, what in even.items() if axis != "f_e"} | {"E": "experts"}
        self.even({what: sizes[axis] for axis, what in even.items()})

    def statements(self, given: Given) -> tuple[str, ...]:
        n, i = given["degree"], self.inside(given)
        moved = f"2 ({i} - 1)/{i} of a payload over the link and 2 ({n} - {i})/({n} {i}) over the network" if self.tiers else ""
        experts = f"E/{n} whole experts per device compute for all tokens, which spread evenly over them" if self.experts == WHOLE else ""
        rows = f"; norms and adds are of b s/{n} tokens, between reduce-scatters and all-gathers that move as much as the all-reduces"
        return (
            f"tensor-parallel: one of {n} devices; norms, routers and adds are replicated; above the KV heads each device has a copy of "
            "one; the vocabulary is padded if necessary",
            f"tensor-parallel: {self.collective} all-reduces take {moved or f'2 ({n} - 1)/{n} of a payload'}, additions not counted: "
            + self.crossing(given)
            + (rows if self.sequence_parallel == "yes" else ""),
            *([f"tensor-parallel: {experts}"] if experts else []),
        )


def copied(graph: Graph) -> dict[Symbol, Symbol]:
    """The numbers of KV heads, in which layers may differ, and of groups of a state-space layer, with the parts that each is divided into.

    Beyond the parts, devices have copies.
    """
    cached = (access.tensor for operator, _ in graph for access in operator.writes if access.tensor.storage is Storage.KV_CACHE)
    of_layers = dict.fromkeys(tensor.space.sizes["k"] for tensor in cached if "k" in tensor.axes)
    heads = [size for size in of_layers if isinstance(size, Symbol) and size != symbols.k]
    first = {symbols.k: symbols.k_d, symbols.g_s: symbols.g_d}
    return {symbol: part for symbol, part in first.items() if symbol in graph.free_symbols} | {
        symbol: numbered(symbols.k_d, number) for number, symbol in enumerate(heads, 2)
    }


def padding(rows: Expr, degree: Expr = S.One) -> Expr:
    """Rows that pad a vocabulary to a multiple of 64 times the degree."""
    return PADDING * degree * ceiling(rows / (PADDING * degree)) - rows


def _of_one_device(space: Space, n: Expr, whole: bool, of_experts: bool) -> Space:
    """The sizes of one device; numbers, of a draft model say, are copied and padded here."""
    sizes = dict(space.sizes)
    if "v" in sizes and sizes["v"].is_Integer:
        sizes["v"] += padding(sizes["v"]) * Min(1, n - 1)
    if "k" in sizes and sizes["k"].is_Integer:
        copies = n / Min(sizes["k"], n)
        sizes |= {"k": sizes["k"] * copies, "g": sizes["g"] / copies}
    axes = [axis for axis in CUT if not (whole and axis == "f_e")]
    return divided((*axes, *(("E", "X", "K") if of_experts else ())), n)(space.resized(sizes))


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


def reduced(technique: TensorParallel, graph: Graph, group: Group, scattered: set[Tensor] | None = None) -> Graph:
    """The graph with an all-reduce before every operator that needs a complete sum, or a reduce-scatter whose result is added to a set."""

    @functools.cache
    def ends(block: Block) -> set[Operator]:
        others = (operator for other in graph.blocks if other is not block for operator in other.operators)
        return _to_be_summed(technique, block, {access.tensor for operator in others for access in operator.reads})

    def summed(operator: Operator, block: Block) -> Operator | tuple[Operator, ...]:
        if operator not in ends(block):
            return operator
        into = operator.result
        partial = replace(operator.writes[0], tensor=replace(into, name=f"{into.name}.partial"))
        if scattered is None:
            whole = all_reduce(f"{operator.name}.all_reduce", partial, into, group)
        else:
            scattered.add(into)
            whole = reduce_scatter(f"{operator.name}.reduce_scatter", partial, into, group)
        return replace(operator, writes=(partial, *operator.writes[1:])), whole.made_from(operator)

    return graph.each(summed)


def _sums(technique: TensorParallel, operator: Operator) -> bool:
    """Whether an operator sums over a split axis: a contraction's axis absent from the result, or the rows of a look-up table."""
    given = operator.result.axes
    axes = {axis for piece in operator.work if piece.contraction for axis in piece.axes}
    if operator.kind is Kind.EMBEDDING:
        axes = {axis for access in operator.reads for axis in access.tensor.axes}
    lost = {axis for axis in axes if axis in CUT and axis not in given}
    if technique.experts == WHOLE and any("K" in piece.axes for piece in operator.work):
        return "K" not in given  # a device adds up the results of its own experts
    if not lost or operator.kind in (Kind.SCAN, Kind.CONVOLUTION):
        return False
    if operator.is_group and (len(lost) > 1 or {*given} & {*CUT} or not operator.work[-1].contraction):
        raise technique.refused(f"apply it before fusion, which would span an all-reduce: {quote(operator.name)}")
    return True


def _to_be_summed(technique: TensorParallel, block: Block, outside: set[Tensor]) -> set[Operator]:
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
