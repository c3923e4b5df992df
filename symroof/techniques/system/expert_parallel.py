"""Expert parallelism: the routed experts are spread over devices, and tokens are sent to them and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Mul, S, Symbol, binomial, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import quote
from symroof.operators import Access, Block, Graph, Operator, Space, Storage, Structure, Tensor
from symroof.operators.collective import Group, all_to_all
from symroof.operators.experts import UNIFORM
from symroof.operators.select import routed
from symroof.symbols import substitute
from symroof.techniques.expert_load import FullestExperts, FullestPairs
from symroof.techniques.system.parallelism import Linked, axis_sizes, counted_per_device, expert_tensors, touched
from symroof.techniques.technique import Example, Fact, Given, Number, number, word

EVEN, ANY = "even", "any"


@dataclass(frozen=True)
class ExpertParallel(Linked):
    """``E / n`` experts on every device; everything else is replicated, with ``b / n`` sequences per device.

    Before a layer's experts an all-to-all sends every token's input to the devices of its K experts, after them another sends the
    sums of their results back; ``(n - 1) / n`` of the payload goes to other devices. A token is sent once to each of the ``K_d``
    devices that have some of its experts. Of any K experts of a token, a device has none with probability
    ``C(E - E/n, K) / C(E, K)`` if experts are placed at random (of K_z choices among E experts and E_z without weights
    ``C(E + E_z - E/n, K_z) / C(E + E_z, K_z)``), so

    ============== ================================================================
    K_d            ``n (1 - C(E - E/n, K) / C(E, K))``; K if n = E, and 1 if n = 1
    expert_up_proj ``F = 2 b s K d f_e / n``, weights read ``X d f_e w / 8 n``
    all-to-all     ``(n - 1) / n x b s K_d d a / 8 n`` byte over the link, twice
    ============== ================================================================

    Experts get ``b s K / n`` token-expert pairs and read ``X / n`` of the X experts that the whole batch touches, on average; the
    device with most of them takes longer. With sequences "any" the batch need not be a multiple of n: the device with
    ``b_d = ceil(b / n)`` sequences decides.

    A step waits for the fullest device. If T tokens choose their experts at random it has ``i_p b s K / n`` pairs and reads ``i_x X / n``
    experts in expectation, with imbalance "expected" exactly: ``i_x`` at every size, ``i_p`` for few tokens; with "bound" ``i_p`` is
    an upper bound, ``1 + min(sqrt(2 (n - 1) ln(n) / (T K)) + n ln(n) / (3 T K), (n - 1) sqrt((E - K) / ((E - 1) T K)))``. Times of both
    maxima are a lower bound on the expected time; the exchange is that of the mean device.

    Parameters
    ----------
    degree, link, node, network : n, byte/s one way, devices of a node, byte/s one way of a device's network to other nodes.
    sequences : "even", ``b / n`` per device; or "any".
    imbalance : "none", devices with the mean of pairs and experts; "expected" or "bound", the fullest device for random routing,
        which asks for a number as batch.
    overhead, latency, network_latency : seconds per all-to-all, per further device, and once if the devices span nodes.

    Raises
    ------
    InputError
        There are no routed experts, they are fused with other operators or spread already, or the degree does not divide them;
        or it does not divide the batch with sequences "even"; or routing is not uniform, or has too many outcomes, for imbalance.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).apply(ExpertParallel())
    >>> print(step["expert_up_proj"].flops, step["expert_down_proj.all_to_all"].byte_count(level=Level.LINK))
    2*K*b*d*f_e/n_p FLOP K_d*a*b*d*(n_p - 1)/(8*n_p**2)

    Sources: Lepikhin et al. (2020), GShard, arXiv:2006.16668; Rajbhandari et al. (2022), DeepSpeed-MoE, arXiv:2201.05596; tokens sent
    once per device: DeepSeek-AI (2024), DeepSeek-V3, arXiv:2412.19437, section 3.2.2, and DeepEP.
    """

    name = "expert-parallel"
    summary = "routed experts spread over devices, with an all-to-all before and after"
    survey = "5.3"
    source = "arXiv:2006.16668"
    structure = frozenset({Structure.BATCH})
    requires = frozenset({Fact.EXPERTS_TOGETHER})
    removes = frozenset({Fact.WHOLE_BATCH, Fact.UNSENT, Fact.EXPERTS_TOGETHER})
    divides = (symbols.b, "degree")
    example = Example(model="mixtral-8x7b-v0.1", part="total", settings={"degree": 8}, inputs={"batch": 64})

    latency: Number = number(symbols.t_x, zero=True, optional=True)
    overhead: Number = number(symbols.l_x, zero=True, optional=True)

    sequences: str = word(EVEN, (EVEN, ANY), "whether the degree divides the batch, or the device with most sequences is counted")

    imbalance: str = word("none", ("none", "expected", "bound"), "whether experts have the mean load, or that of the fullest device")

    def multiple(self, symbol: Symbol) -> Expr:
        return super().multiple(symbol) if self.sequences == EVEN else S.One

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, group = given["degree"], self.group(given)
        experts = {access.tensor for operator, _ in graph for access in operator.reads if routed(access)}
        if not experts:
            raise self.refused("this step has no routed experts; expected a mixture of experts")
        pool, chosen = _choices(graph)
        uniform = graph.routing is not None and graph.routing.shares == UNIFORM and len(graph.routing.reach) == 1 and pool == symbols.E
        if self.imbalance != "none" and not uniform:
            raise self.refused("imbalance: only for tokens that choose among experts with weights uniformly, in expectation")
        own = symbols.b_d / symbols.b
        pairs, reads = (S.One, S.One) if self.imbalance == "none" else (symbols.i_p, symbols.i_x)
        computed = expert_tensors(graph)
        returned = {tensor for operator, _ in graph if "K" not in operator.result.axes for tensor in touched(operator)}

        def share(space: Space) -> Space:
            fullest = {"b": pairs, "E": S.One, "X": reads}
            return space.resized({axis: space.sizes[axis] * most / n for axis, most in fullest.items() if axis in space.sizes})

        def sequences(space: Space) -> Space:
            return space.resized({"b": space.sizes["b"] * own}) if "b" in space.sizes else space

        def spread(tensor: Tensor) -> Tensor:
            return replace(tensor, space=(share if tensor in computed - returned else sequences)(tensor.space))

        def placed(old: Operator, new: Operator, _: Block) -> Operator:
            at_experts = old.result in computed or not computed.isdisjoint(access.tensor for access in old.reads if routed(access))
            return replace(new, space=(share if at_experts else sequences)(old.space))

        cut = graph.map(tensor=spread, operator=placed).with_pass_tokens(graph.pass_tokens * own, routed=False)
        blocks = tuple(self._exchanged(block, group) for block in cut.blocks)
        E, K = symbols.E, symbols.K
        meant = {symbols.K_d: n * (1 - binomial(pool - E / n, chosen) / binomial(pool, chosen)), symbols.b_d: ceiling(symbols.b / n)}
        if self.imbalance != "none" and graph.routing is not None:
            tokens = graph.routing.tokens
            most = FullestPairs(tokens, K, E, n, int(self.imbalance == "bound"))
            meant |= {symbols.i_p: n * most / (tokens * K), symbols.i_x: n * FullestExperts(tokens, K, E, n) / symbols.X}
        return replace(cut, blocks=blocks, definitions={**counted_per_device(cut.definitions, {symbols.b: symbols.b_d}), **meant})

    def on_graph(self, graph: Graph) -> Graph:
        spread = super().on_graph(graph)
        return spread if spread is graph else self._settled(graph, spread, {})

    def on_step(self, step: Step) -> Step:
        self.check(step)
        spread = super().on_graph(step.symbolic)
        return step if spread is step.symbolic else replace(step, symbolic=self._settled(step.symbolic, spread, step.values))

    def _settled(self, graph: Graph, spread: Graph, values: Mapping[Symbol, Expr]) -> Graph:
        """The graph with ``b / n`` sequences per device for an even batch, and K_d as a fraction where K is known."""
        n, meant = self.parameters(graph)[0]["degree"], dict(spread.definitions)
        pool, choices = _choices(graph)
        if (chosen := substitute(choices, values)).is_Integer:
            none = Mul(*((pool - symbols.E / n - place) / (pool - place) for place in range(int(chosen))))
            meant[symbols.K_d] = n * (1 - none)
        for fullest in {symbols.i_p, symbols.i_x} & {*meant}:  # refused here rather than in an answer
            substitute(meant[fullest], {**values, **{symbol: size for symbol, size in meant.items() if size.is_number}})
        if self.sequences == ANY:
            return replace(spread, definitions=meant)
        del meant[symbols.b_d]
        return replace(spread, definitions=meant).replaced({symbols.b_d: symbols.b / n})

    def _exchanged(self, block: Block, group: Group) -> Block:
        """The block with an all-to-all before its experts and one after."""
        experts = [operator for operator in block.operators if any(routed(access) for access in operator.reads)]
        if not experts:
            return block
        first, last = experts[0], experts[-1]
        inputs = [access for access in first.reads if access.tensor.storage is Storage.ACTIVATION]
        rows, result = inputs[0], last.written
        if len(inputs) > 1 or "K" not in rows.touched or "K" not in last.result.axes:
            raise self.refused(f"apply it before fusion, which would span an all-to-all: {quote(first.name)}")
        taken = replace(rows.tensor, name=f"{first.name}.all_to_all", axes=rows.touched, space=_at(first, rows))
        given = replace(result, tensor=replace(result.tensor, name=f"{last.name}.partial", space=_at(last, result)))
        once = symbols.K_d / symbols.K  # a token is sent once to each of its K_d devices
        sent = replace(rows, repeats=rows.repeats * once * rows.tensor.space.points(rows.touched) / taken.elements)

        def across(operator: Operator) -> Operator:
            reads = (replace(access, tensor=taken) if access.tensor is rows.tensor else access for access in operator.reads)
            return replace(operator, reads=tuple(reads), writes=(given,) if operator is last else operator.writes)

        made = [across(operator) if operator in experts else operator for operator in block.operators]
        summed = replace(given, repeats=given.repeats * once)
        back = all_to_all(f"{last.name}.all_to_all", summed, result.tensor, group).made_from(last)
        made.insert(block.operators.index(last) + 1, back)
        made.insert(block.operators.index(first), all_to_all(f"{first.name}.all_to_all", sent, taken, group).made_from(first))
        return replace(block, operators=tuple(made))

    def check(self, step: Step) -> None:
        sizes = axis_sizes(step)
        if "E" in sizes:
            self.even({"experts": sizes["E"]})
            if self.sequences == EVEN or sizes["b"] != step.values.get(symbols.b, symbols.b):
                self.even({"sequences": sizes["b"]}, f"give a batch that is a multiple of {self.degree}, or sequences=any")

    def statements(self, given: Given) -> tuple[str, ...]:
        n = given["degree"]
        load = "tokens spread evenly over experts"
        if self.imbalance != "none":
            how = "in expectation" if self.imbalance == "expected" else "in expectation, its pairs by an upper bound"
            load = f"the experts are those of the fullest device {how}, for tokens that choose them at random"
        return (
            f"expert-parallel: one of {n} devices, with E/{n} experts, the rest of the model and its share of the b sequences; "
            f"{load}, experts at random over devices, and a token is sent to a device once",
            f"expert-parallel: ({n} - 1)/{n} of the experts' inputs and results cross {self.crossing(given)}",
        )


def _choices(graph: Graph) -> tuple[Expr, Expr]:
    """How many experts a token chooses among, and how many it chooses; experts without weights, which no device has, are among them."""
    meant = graph.definitions.get(symbols.K, symbols.K)
    return (symbols.E + symbols.E_z, symbols.K_z) if symbols.E_z in meant.free_symbols else (symbols.E, meant)


def _at(operator: Operator, access: Access) -> Space:
    """The space of an expert's input or result: as many rows at a time as the tensor holds, such as those of a chunk."""
    held = access.tensor.space.sizes
    return operator.space.resized({axis: held[axis] for axis in access.touched if axis in ("s", "u") and axis in held})
