"""Pipeline parallelism: layers in stages, which micro-batches pass through in succession."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Add, Expr, Integer, Max, S, Symbol, ceiling, floor

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Block, BlockRole, Graph, Level, Operator, Space, Storage, Structure, Tensor
from symroof.operators.collective import send
from symroof.symbols import substitute
from symroof.techniques.system.parallelism import Linked, axis_sizes
from symroof.techniques.technique import Example, Fact, Given, Number, number, word

FLUSH, STEADY = "flush", "steady"
ANY, FIRST, MIDDLE, LAST = "any", "first", "middle", "last"
OUTER = (BlockRole.END, BlockRole.GUESSES)
"""Blocks of the model's two ends, which belong to the first stage or to the last."""


def _layers(graph: Graph) -> Expr:
    """The layers of all stages together."""
    return Add(*(block.resident for block in graph.blocks if block.role is BlockRole.LAYER and block.count != 0))


@dataclass(frozen=True)
class PipelineParallel(Linked):
    """``L / n`` layers on each of n devices; m micro-batches of ``b / m`` sequences pass through them in succession.

    A device works one slot on every micro-batch, so it reads its weights m times per step, and is idle otherwise. The time
    of a step is that of the whole batch, from the start of the first micro-batch to the end of the last: ``m + n - 1``
    slots, of which m are busy (*flush*: a single step). In *steady* state, with one step after another, a decode step takes
    ``max(m, n)`` slots, because a sequence's next token depends on its previous one, and a prefill step takes m. Throughput
    is ``b / time``; in decode, latency is the same time.

    ============== ==========================================================
    weights        of ``L / n`` layers, read m times
    ceilings       times the busy share, ``m / (m + n - 1)`` or ``m / max(m, n)``
    send           ``b s d a / 8`` byte over the link, within a slot
    ============== ==========================================================

    If n does not divide L, stages before the last have one layer more, the last of them first; the last stage has
    ``L_d = floor(L / n)`` layers and a middle one ``ceil(L / n)``. The slowest of them decides: with stage "any" it is bounded by
    ``ceil(L / n)`` layers with embedding and LM head in full, as if one device had both. Apply it last: later techniques would
    see the whole batch and the launches of a single micro-batch.

    Parameters
    ----------
    degree, link, node, network : n, byte/s one way, devices of a node, byte/s one way of a device's network to other nodes.
    overhead, latency, network_latency : seconds per send, which add up; the last applies between nodes.
    micro_batches : m.
    stage : whose figures they are: those of the "first", with the embedding, of a "middle" one, of the "last", with the LM head;
        or of "any", the bound.
    schedule : "flush" or "steady".

    Raises
    ------
    InputError
        There are more stages than layers, or m does not divide the batch.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(PipelineParallel())
    >>> print(step.symbolic.ceilings.compute, [str(block.count) for block in step.symbolic.blocks])
    m_p/(m_p + n_p - 1) ['1', 'L/n_p', '1', '1']

    Sources: Huang et al. (2018), GPipe, arXiv:1811.06965, section 2; Narayanan et al. (2021), arXiv:2104.04473, section 2.2;
    layers that do not divide evenly as vLLM distributes them (`get_pp_indices`).
    """

    name = "pipeline-parallel"
    summary = "layers in stages on devices, micro-batches in succession"
    survey = "5.3"
    source = "arXiv:1811.06965"
    structure = frozenset({Structure.BATCH})
    removes = frozenset({Fact.WHOLE_STEP})
    divides = (symbols.b, "micro_batches")
    example = Example(part="total", over="micro_batches", settings={"degree": 4}, inputs={"batch": 256})

    latency: Number = number(symbols.t_x, zero=True, optional=True)
    overhead: Number = number(symbols.l_x, zero=True, optional=True)
    micro_batches: Number = number(symbols.m_p)
    stage: str = word(ANY, (ANY, FIRST, MIDDLE, LAST), "the stage that is counted")
    schedule: str = word(FLUSH, (FLUSH, STEADY), "whether a step drains the pipeline or the next one follows")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, m = given["degree"], given["micro_batches"]
        slots = self._slots(graph, n, m)
        piece = {symbols.b: symbols.b / m, symbols.b_p: symbols.b_p / m}

        def of_piece(tensor: Tensor) -> Tensor:
            """Activations of one micro-batch; the cache is that of the whole batch."""
            return replace(tensor, space=tensor.space.bind(piece)) if tensor.storage is Storage.ACTIVATION else tensor

        def in_turn(old: Access, new: Access, _: Operator) -> Access:
            points = old.tensor.space.points(old.touched)
            part = S.One if old.tensor.storage is Storage.ACTIVATION else substitute(points, piece) / points
            return replace(new, repeats=m * substitute(old.repeats, piece) * part)

        def of_all(_: Operator, new: Operator, __: Block) -> Operator:
            return replace(new, latency=new.latency * slots, passes=new.passes * m)

        def turns(space: Space) -> Space:
            return space.resized({"b": substitute(space.sizes["b"], piece) * m})

        def staged(block: Block) -> Block:
            """The layers of one stage, kinds in the model's proportions; the ends of the model are unchanged."""
            share = symbols.L_d / _layers(graph) if block.role is BlockRole.LAYER else S.One
            copies = None if block.copies is None else block.copies * share
            return replace(block, count=substitute(block.count, piece) * share, copies=copies)

        small = graph.map(space=turns, tensor=of_piece, access=in_turn, operator=of_all)
        stages = [*map(staged, small.blocks)]
        last = max(place for place, block in enumerate(stages) if block.role is BlockRole.LAYER)
        out = stages[last].operators[-1].writes[0]
        hop = send("stage.send", out.tensor, out.repeats, self.group(given), slots)
        first = next(place for place, block in enumerate(stages) if block.role is BlockRole.LAYER)
        before = [block for block in stages[:first] if self.stage in (ANY, FIRST) or block.role not in OUTER]
        behind = [block for block in stages[last + 1 :] if self.stage in (ANY, LAST) or block.role not in OUTER]
        blocks = (*before, *stages[first : last + 1], Block("stage", (hop,), role=BlockRole.STAGE), *behind)
        busy = replace(graph.ceilings, compute=graph.ceilings.compute * m / slots, launch=graph.ceilings.launch * slots)
        return replace(
            small,
            blocks=blocks,
            definitions={symbol: substitute(meant, piece) for symbol, meant in graph.definitions.items()} | self._stage(_layers(graph), n),
            pass_tokens=substitute(graph.pass_tokens, piece),
            routing=graph.routing and graph.routing.bind(piece),
            ceilings=replace(busy, levels={level: graph.ceilings.factor(level) * m / slots for level in Level}),
        )

    def _slots(self, graph: Graph, n: Expr, m: Expr) -> Expr:
        """The length of a step in slots of a micro-batch."""
        if self.schedule == FLUSH:
            return m + n - 1
        return Max(m, n) if graph.decode else m

    def _stage(self, layers: Expr, n: Expr) -> dict[Symbol, Expr]:
        """The layers of the stage: of those that do not divide evenly, the stages before the last have one more, the last of them first."""
        fewest, most = floor(layers / n), ceiling(layers / n)
        alone = {ANY: most, MIDDLE: most, LAST: fewest, FIRST: floor((layers + 1) / n)}
        return {symbols.L_d: alone[self.stage]}

    def on_graph(self, graph: Graph) -> Graph:
        staged = super().on_graph(graph)
        return staged if staged is graph else self._settled(graph, staged)

    def on_step(self, step: Step) -> Step:
        self.check(step)
        staged, layers = super().on_graph(step.symbolic), _layers(step.graph)
        if staged is step.symbolic:
            return step
        uneven = layers.is_Integer and self.degree.is_Integer and layers % self.degree != 0
        return replace(step, symbolic=staged if uneven else self._settled(step.symbolic, staged))

    def _settled(self, graph: Graph, staged: Graph) -> Graph:
        """The graph with ``L / n`` layers in every stage."""
        n, meant = self.parameters(graph)[0]["degree"], dict(staged.definitions)
        del meant[symbols.L_d]
        return replace(staged, definitions=meant).replaced({symbols.L_d: _layers(graph) / n})

    def check(self, step: Step) -> None:
        layers = _layers(step.graph)
        if layers.is_Integer and self.degree.is_Integer and self.degree > layers:
            raise self.refused(f"{self.degree} stages of {layers} layers: expected at most {layers}")
        if self.stage == MIDDLE and self.degree == 2:
            raise self.refused("two stages have no middle; expected stage=first or stage=last")
        batch, m = axis_sizes(step)["b"], self.micro_batches
        if isinstance(m, Integer) and batch.is_Integer and batch % m != 0:
            raise self.refused(f"micro_batches {m} does not divide a batch of {batch}")

    def statements(self, given: Given) -> tuple[str, ...]:
        n, m = given["degree"], given["micro_batches"]
        whose, rounded = (f"the {self.stage}", "") if self.stage != ANY else ("any", ", rounded up, with embedding and LM head: a bound")
        how = {
            FLUSH: f"{m} + {n} - 1 slots of a micro-batch, {n} - 1 of them idle",
            STEADY: f"max({m}, {n}) slots in decode, {m} in prefill",
        }
        return (
            f"pipeline-parallel: {whose} of {n} stages of L/{n} layers{rounded}; time is that of the whole batch, "
            f"{how[self.schedule]}, expressed as a factor on every ceiling",
            f"pipeline-parallel: ({n} - 1)/{n} of b s d activations cross {self.crossing(given)}",
        )
