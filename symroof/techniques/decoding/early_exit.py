"""Early exit: a token leaves the model before its last layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Pow, S

from symroof import symbols
from symroof.algebra.unions import Untouched, union
from symroof.architectures.step import Step
from symroof.operators import Access, Block, BlockRole, Graph, Operator, Storage, Structure, Tensor
from symroof.techniques.decoding.expected_distinct import each_layer, layers
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word

SKIPPED = "skipped"
"""The suffix of operators that fill the cache of layers that no token runs through."""


@dataclass(frozen=True)
class EarlyExit(Technique):
    """A token runs through a share lambda of the layers on average; a layer's weights are read if any sequence runs it.

    With S_l the share of tokens that reach layer l, the mean depth is ``lambda L = sum S_l``, and a batch of b reads the
    weights of ``L_x = sum 1 - (1 - S_l)^b`` layers, between ``lambda L`` and ``L (1 - (1 - lambda)^b)``.

    ============ ==================== ==========================
    exits        lambda L             L_x
    together     ``lambda L``         ``lambda L``
    independent  ``lambda L``         ``L (1 - (1 - lambda)^b)``
    geometric    ``(1-(1-p)^L) / p``  ``sum 1-(1-(1-p)^l)^b``
    ============ ==================== ==========================

    ``L_x`` layers run with ``b lambda L / L_x`` sequences each. FLOPs and bytes are expected values; the time is that of
    this mean layer, a lower bound for every distribution over layers, because time is convex in the batch.

    Later tokens attend to keys and values of every layer, so the operators that fill the cache (norm, projections, rotary
    embedding of the keys; in a recurrent layer its state) run in all L layers for all b sequences, using the hidden state
    at exit for sequences that have left. In the ``L - L_x`` layers that no token runs, only these operators run
    (``<operator>.skipped``). *skipped_kv* "none" leaves them out, a lower bound on time.

    Parameters
    ----------
    depth : lambda, for exits "together" (all sequences of a batch leave at the same layer) or "independent" (each token
        runs each layer with this probability; no other distribution of this mean reads more layers).
    exit : p_x, for geometric exits: the probability of leaving after each layer. Requires a numeric number of layers.
    skipped_kv : "computed", the keys and values of layers that a token skips, or "none".

    Raises
    ------
    InputError
        The parameter does not match *exits*, or geometric exits meet several kinds of layers; the step is a prefill.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(EarlyExit(exits="independent")).symbolic.blocks[1].count)
    L*(1 - (1 - lambda_l)**b)
    >>> [operator.name for operator in step.apply(EarlyExit()).symbolic.blocks[2].operators]
    ['attn_norm.skipped', 'k_proj.skipped', 'v_proj.skipped', 'k_rotary.skipped']

    Sources: Schuster et al. (2022), CALM, arXiv:2207.07061, section 3.2 (skipped layers get the hidden state at exit for
    their keys and values); Elbayad et al. (2020), arXiv:1910.10073; Teerapittayanon et al. (2016), BranchyNet, arXiv:1709.01686.
    """

    name = "early-exit"
    summary = "tokens leave before the last layer"
    survey = "4.1"
    source = "arXiv:2207.07061"
    structure = frozenset({Structure.BATCH})
    phases = ("decode",)
    requires = frozenset({Fact.WHOLE_STEP, Fact.WHOLE_BATCH, Fact.OWN_STEP, Fact.UNFUSED})
    example = Example(part="total", over="batch", settings={"depth": S.One / 2, "exits": "independent"})

    depth: Number = number(symbols.lambda_l, optional=True)
    exit: Number = number(symbols.p_x, optional=True)
    exits: str = word("together", ("together", "independent", "geometric"))
    skipped_kv: str = word("computed", ("computed", "none"))

    def __post_init__(self) -> None:
        super().__post_init__()
        own, other = ("exit", "depth") if self.exits == "geometric" else ("depth", "exit")
        if getattr(self, other) is not None:
            raise self.refused(f"exits={self.exits} takes {own}, not {other}")
        if getattr(self, own) is None:
            object.__setattr__(self, own, symbols.p_x if own == "exit" else symbols.lambda_l)

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
            raise self.refused(f"exits=geometric needs a number of layers; here it is the symbol {total}")
        graph = super().on_graph(step.symbolic)
        stay = 1 - (symbols.p_x if symbols.p_x in graph.free_symbols else self.exit)
        reach = tuple(stay**behind for behind in range(int(total)))  # the probability that a token is in each layer
        run = Add(*(union(part, graph.pass_tokens) for part in reach))
        graph = replace(graph, definitions={**graph.definitions, symbols.L_x: run})
        routed = graph if graph.routing is None else graph.with_routing(replace(graph.routing, reach=reach))
        return replace(step, symbolic=routed)

    def _single(self, graph: Graph) -> Block:
        kinds = layers(graph)
        if len(kinds) != 1:
            raise self.refused(f"exits=geometric needs layers of one kind, and this model has {len(kinds)}: give a mean depth")
        return kinds[0]

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
        """The graph with this share of its layers run; the others compute keys and values, unless skipped_kv is "none"."""
        ran = each_layer(graph, lambda block: replace(block, count=block.count * share, copies=block.resident))
        if self.depth == 1:
            return ran
        blocks: list[Block] = []
        for old, new in zip(graph.blocks, ran.blocks, strict=True):
            blocks.append(new)
            filling = tuple(operator.suffixed(SKIPPED) for operator in self._filling(old)) if old.role is BlockRole.LAYER else ()
            if filling:
                name, count = f"{old.name}.{SKIPPED}", old.count * (1 - share)
                blocks.append(replace(old, name=name, operators=filling, count=count, copies=Integer(0), split=True))
        return replace(ran, blocks=tuple(blocks))

    def _filling(self, block: Block) -> tuple[Operator, ...]:
        """The operators that run for every token in every layer: those that write the cache, and those that these depend on."""
        filling: list[Operator] = []
        needed: set[Tensor] = set()
        for operator in reversed(block.operators if self.skipped_kv == "computed" else ()):
            written = {access.tensor for access in operator.writes}
            if written & needed or any(tensor.storage is Storage.KV_CACHE for tensor in written):
                filling.append(operator)
                needed |= {access.tensor for access in operator.reads if access.tensor.storage is Storage.ACTIVATION}
        return tuple(reversed(filling))

    def statements(self, given: Given) -> tuple[str, ...]:
        how = {
            "together": "all sequences of a batch leave at the same layer, after a share lambda of the layers",
            "independent": "each token runs each layer with probability lambda; a layer's weights are read if any sequence runs it",
            "geometric": "a token leaves after each layer with probability p_x; a layer's weights are read if any sequence still runs",
        }[self.exits]
        kept = "weights and cache of all layers stay in memory"
        filled = "computes and writes no keys or values, a lower bound on time"
        if self.skipped_kv == "computed":
            filled = f"computes and writes its keys and values from the token's hidden state at exit (.{SKIPPED})"
        rest = "a layer that runs reads the whole context; the exit decision is not counted"
        return (f"early-exit: {how}; {kept}; a skipped layer {filled}; {rest}",)
