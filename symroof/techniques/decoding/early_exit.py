"""Early exit: a token leaves the model before its last layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Expr, Pow, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Block, BlockRole, Graph, Operator, Storage
from symroof.operators.experts import union
from symroof.techniques.decoding.expected_distinct import each_layer, layers, refuse_digits
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word


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

    Parameters
    ----------
    depth : lambda, for exits that are together (all sequences of a batch leave at one layer) or independent (each layer
        is run by each token with that probability, the most that a mean depth can make a batch read).
    exit : p_x, for geometric exits: the probability of leaving behind each layer. It needs the number of layers.

    Errors: depth with geometric exits or exit without, several kinds of layers with geometric exits, a prompt.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(EarlyExit(exits="independent")).symbolic.blocks[1].count)
    L*(1 - (1 - lambda)**b)

    Sources: Schuster et al. (2022), CALM, arXiv:2207.07061; Teerapittayanon et al. (2016), BranchyNet, arXiv:1709.01686.
    """

    name = "early-exit"
    summary = "tokens leave before the last layer"
    survey = "4.1"
    source = "arXiv:2207.07061"
    phases = ("decode",)
    requires = frozenset({Fact.WHOLE_STEP, Fact.WHOLE_BATCH, Fact.OWN_STEP})
    example = Example(part="up_proj", over="batch", settings={"depth": S.One / 2, "exits": "independent"})

    depth: Number = number(symbols.lambda_x, optional=True)
    exit: Number = number(symbols.p_x, optional=True)
    exits: str = word("together", ("together", "independent", "geometric"))

    def __post_init__(self) -> None:
        super().__post_init__()
        own, other = ("exit", "depth") if self.exits == "geometric" else ("depth", "exit")
        if getattr(self, other) is not None:
            raise self.refused(f"exits={self.exits} takes {own}, not {other}")
        if getattr(self, own) is None:
            object.__setattr__(self, own, symbols.p_x if own == "exit" else symbols.lambda_x)

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
        defined = super().on_graph(step.symbolic)
        return replace(step, symbolic=replace(defined, definitions={**defined.definitions, symbols.L_x: self._run(defined, int(total))}))

    def check(self, step: Step) -> None:
        if self.exits == "together":
            return
        share = self.depth if self.exits == "independent" else self.exit
        power = 1 if self.exits == "independent" else step.values.get(symbols.L, S.One)
        refuse_digits(self.name, share, step.values.get(symbols.b, symbols.b) * power)

    def _single(self, graph: Graph) -> Block:
        found = layers(graph)
        if len(found) != 1:
            raise self.refused(f"exits=geometric needs layers of one kind; here are {len(found)} kinds: give a mean depth")
        return found[0]

    def _run(self, graph: Graph, total: int) -> Expr:
        """Layers that some sequence runs through: the expected number of layers with any, over the distribution."""
        stay = 1 - (symbols.p_x if symbols.p_x in graph.free_symbols else self.exit)
        return 1 + Add(*(union(stay**behind, graph.pass_tokens) for behind in range(1, total)))

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if self.exits == "together":
            return each_layer(graph, lambda block: replace(block, count=block.count * given["depth"], copies=block.resident))
        if any(access.repeats.has(Pow) for block in layers(graph) for operator in block.operators for access in operator.reads):
            raise self.refused("cannot follow a technique that models weight reads per batch (contextual sparsity); use exits=together")
        if self.exits == "geometric":
            total, leave = self._single(graph).count, given["exit"]
            runs, share = symbols.L_x / total, (1 - (1 - leave) ** total) / leave / symbols.L_x
        else:
            runs = union(given["depth"], graph.pass_tokens)
            share = given["depth"] / runs

        def shared(_: Access, new: Access, __: Operator) -> Access:
            return new if new.tensor.storage is Storage.WEIGHT else replace(new, repeats=new.repeats * share)

        def fewer(_: Operator, new: Operator, __: Block) -> Operator:
            return replace(new, space=new.space.resized({"b": new.space.sizes["b"] * share}))

        thinned = graph.map(access=shared, operator=fewer, blocks=lambda block: block.role is BlockRole.LAYER)
        fewer_layers = each_layer(thinned, lambda block: replace(block, count=block.count * runs, copies=block.resident))
        return fewer_layers if graph.routing is None else fewer_layers.with_routing(replace(graph.routing, reach=share))

    def statements(self, given: Given) -> tuple[str, ...]:
        how = {
            "together": "all sequences of a batch leave at one layer, behind lambda of them",
            "independent": "each token runs each layer with probability lambda, a layer's weights are read while any sequence runs it",
            "geometric": "a token leaves behind each layer with probability p_x, a layer's weights are read while any sequence still runs",
        }[self.exits]
        kept = "weights and cache of all layers stay in memory"
        return (
            f"early-exit: {how}; {kept}; a skipped layer computes and writes no keys or values, one that runs reads a whole context; "
            "the decision to leave is not counted",
        )
