"""Early exit: a token leaves the model before its last layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Pow, S

from symroof import symbols
from symroof.algebra.unions import Untouched, union
from symroof.architectures.step import Step
from symroof.operators import Access, Block, BlockRole, Graph, Operator, Storage, Tensor
from symroof.techniques.decoding.expected_distinct import each_layer, layers
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word

SKIPPED = "skipped"
"""What the names of the operators end on that fill the cache of a layer that no token runs through."""


@dataclass(frozen=True)
class EarlyExit(Technique):
    """A token runs through a share lambda of the layers on average; a layer's weights are read while any sequence still runs.

    With S_l the share of the tokens that reach layer l, the mean depth is ``lambda L = sum S_l`` and the layers whose
    weights a batch of b reads are ``L_x = sum 1 - (1 - S_l)^b``, between ``lambda L`` and ``L (1 - (1 - lambda)^b)``.

    ============ ==================== ==========================
    exits        lambda L             L_x
    together     ``lambda L``         ``lambda L``
    independent  ``lambda L``         ``L (1 - (1 - lambda)^b)``
    geometric    ``(1-(1-p)^L) / p``  ``sum 1-(1-(1-p)^l)^b``
    ============ ==================== ==========================

    A layer that runs does so ``L_x`` times on ``b lambda L / L_x`` sequences: FLOPs and bytes are the expected ones, and
    times are those of this mean layer, which no distribution over layers undercuts (time is convex in the batch).

    Later tokens attend to keys and values of every layer, so what leads to the cache (norm, projections, rotary embedding of
    the keys; of a recurrent layer its state) runs in all L layers on all b sequences, for those that left on the hidden state
    they left with: in the layers that run beside the rest, in the ``L - L_x`` others alone (``<operator>.skipped``). Without
    it (*skipped_kv* "none") a step takes less than any engine can.

    Parameters
    ----------
    depth : lambda, for exits that are together (all sequences of a batch leave at one layer) or independent (each layer
        is run by each token with that probability, the most that a mean depth can make a batch read).
    exit : p_x, for geometric exits: the probability of leaving behind each layer. It needs the number of layers.
    skipped_kv : "computed", the keys and values of layers that a token skips, or "none".

    Errors: depth with geometric exits or exit without, several kinds of layers with geometric exits, a prompt.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(EarlyExit(exits="independent")).symbolic.blocks[1].count)
    L*(1 - (1 - lambda)**b)
    >>> [operator.name for operator in step.apply(EarlyExit()).symbolic.blocks[2].operators]
    ['attn_norm.skipped', 'k_proj.skipped', 'v_proj.skipped', 'k_rotary.skipped']

    Sources: Schuster et al. (2022), CALM, arXiv:2207.07061, section 3.2 (hidden states are handed on to skipped layers, for
    their keys and values); Elbayad et al. (2020), arXiv:1910.10073; Teerapittayanon et al. (2016), BranchyNet, arXiv:1709.01686.
    """

    name = "early-exit"
    summary = "tokens leave before the last layer"
    survey = "4.1"
    source = "arXiv:2207.07061"
    phases = ("decode",)
    requires = frozenset({Fact.WHOLE_STEP, Fact.WHOLE_BATCH, Fact.OWN_STEP, Fact.UNFUSED})
    example = Example(part="total", over="batch", settings={"depth": S.One / 2, "exits": "independent"})

    depth: Number = number(symbols.lambda_x, optional=True)
    exit: Number = number(symbols.p_x, optional=True)
    exits: str = word("together", ("together", "independent", "geometric"))
    skipped_kv: str = word("computed", ("computed", "none"))

    def __post_init__(self) -> None:
        super().__post_init__()
        own, other = ("exit", "depth") if self.exits == "geometric" else ("depth", "exit")
        if getattr(self, other) is not None:
            raise self.refused(f"exits={self.exits} takes {own}, not {other}")
        if getattr(self, own) is None:
            object.__setattr__(self, own, symbols.p_x if own == "exit" else symbols.lambda_x)

    @property
    def required(self) -> frozenset[Fact]:
        return self.requires if self.skipped_kv == "computed" else self.requires - {Fact.UNFUSED}

    def on_graph(self, graph: Graph) -> Graph:
        if self.exits == "geometric" and not all(block.count.is_number for block in layers(graph)):
            raise refuse_graph(self)
        return super().on_graph(graph)

    def on_step(self, step: Step) -> Step:
        self.check(step)
        if self.exits != "geometric":
            return super().on_step(step)
        total = self._single(step.graph).count
        if not total.is_integer:
            raise self.refused(f"exits=geometric needs the number of layers; it is {total} here")
        graph = super().on_graph(step.symbolic)
        stay = 1 - (symbols.p_x if symbols.p_x in graph.free_symbols else self.exit)
        reach = tuple(stay**behind for behind in range(int(total)))  # the probability that a token is in each layer
        run = Add(*(union(part, graph.pass_tokens) for part in reach))
        graph = replace(graph, definitions={**graph.definitions, symbols.L_x: run})
        routed = graph if graph.routing is None else graph.with_routing(replace(graph.routing, reach=reach))
        return replace(step, symbolic=routed)

    def _single(self, graph: Graph) -> Block:
        found = layers(graph)
        if len(found) != 1:
            raise self.refused(f"exits=geometric needs layers of one kind; here are {len(found)} kinds: give a mean depth")
        return found[0]

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if self.exits == "together":
            return self._run_by_some(graph, given["depth"])
        reads = (access for block in layers(graph) for operator in block.operators for access in operator.reads)
        if any(access.repeats.has(Untouched, Pow) for access in reads):
            raise self.refused("cannot follow a technique that models weight reads per batch (contextual sparsity); use exits=together")
        if self.exits == "geometric":
            total, leave = self._single(graph).count, given["exit"]
            runs, share = symbols.L_x / total, (1 - (1 - leave) ** total) / leave / symbols.L_x
        else:
            runs = union(given["depth"], graph.pass_tokens)
            share = given["depth"] / runs

        whole = {operator for block in layers(graph) for operator in self._filling(block)}

        def shared(_: Access, new: Access, operator: Operator) -> Access:
            every = new.tensor.storage is Storage.WEIGHT or operator in whole
            return new if every else replace(new, repeats=new.repeats * share)

        def fewer(old: Operator, new: Operator, _: Block) -> Operator:
            return new if old in whole else replace(new, space=new.space.resized({"b": new.space.sizes["b"] * share}))

        thinned = graph.map(access=shared, operator=fewer, blocks=lambda block: block.role is BlockRole.LAYER)
        fewer_layers = self._run_by_some(thinned, runs)
        if graph.routing is None:
            return fewer_layers
        return fewer_layers.with_routing(replace(graph.routing, reach=(share * runs,), runs=runs))

    def _run_by_some(self, graph: Graph, share: Expr) -> Graph:
        """The graph with that share of its layers run; the others compute keys and values, where these are asked for."""
        ran = each_layer(graph, lambda block: replace(block, count=block.count * share, copies=block.resident))
        if self.depth == 1:
            return ran
        blocks: list[Block] = []
        for old, new in zip(graph.blocks, ran.blocks, strict=True):
            blocks.append(new)
            filling = tuple(operator.suffixed(SKIPPED) for operator in self._filling(old)) if old.role is BlockRole.LAYER else ()
            if filling:
                name, count = f"{old.name}.{SKIPPED}", old.count * (1 - share)
                blocks.append(replace(old, name=name, operators=filling, count=count, copies=Integer(0), apart=True))
        return replace(ran, blocks=tuple(blocks))

    def _filling(self, block: Block) -> tuple[Operator, ...]:
        """What runs for every token in every layer: the operators that write to the cache, and what leads there."""
        found: list[Operator] = []
        needed: set[Tensor] = set()
        for operator in reversed(block.operators if self.skipped_kv == "computed" else ()):
            written = {access.tensor for access in operator.writes}
            if written & needed or any(tensor.storage is Storage.KV_CACHE for tensor in written):
                found.append(operator)
                needed |= {access.tensor for access in operator.reads if access.tensor.storage is Storage.ACTIVATION}
        return tuple(reversed(found))

    def statements(self, given: Given) -> tuple[str, ...]:
        how = {
            "together": "all sequences of a batch leave at one layer, behind lambda of them",
            "independent": "each token runs each layer with probability lambda, a layer's weights are read while any sequence runs it",
            "geometric": "a token leaves behind each layer with probability p_x, a layer's weights are read while any sequence still runs",
        }[self.exits]
        kept = "weights and cache of all layers stay in memory"
        filled = "computes and writes no keys or values, which is a bound"
        if self.skipped_kv == "computed":
            filled = f"computes and writes its keys and values from the hidden state that a token left with (.{SKIPPED})"
        rest = "one that runs reads a whole context; the decision to leave is not counted"
        return (f"early-exit: {how}; {kept}; a skipped layer {filled}; {rest}",)
