"""Expert parallelism: the routed experts are spread over devices, and tokens are sent to them and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import quote
from symroof.operators import Block, Graph, Operator, Storage, Structure, Tensor
from symroof.operators.collective import Group, all_to_all
from symroof.operators.select import routed
from symroof.techniques.system.parallelism import Linked, axis_sizes, counted_per_device, divided
from symroof.techniques.technique import Example, Fact, Given, Number, number


@dataclass(frozen=True)
class ExpertParallel(Linked):
    """``E / n`` experts on every device; everything else is replicated, with ``b / n`` sequences per device.

    Before a layer's experts an all-to-all sends every token's input to its K experts, after them another all-to-all sends
    the results back; ``(n - 1) / n`` of the payload goes to other devices. Valid for evenly spread tokens: a device computes
    ``b s K / n`` token-expert pairs and reads ``X / n`` of the X experts that the whole batch touches. A token that goes to
    two experts of one device is sent twice.

    ============== ==============================================================
    expert_up_proj ``F = 2 b s K d f_e / n``, weights read ``X d f_e w / 8 n``
    all-to-all     ``(n - 1) / n x b s K d a / 8 n`` byte over the link, twice
    ============== ==============================================================

    Parameters
    ----------
    degree, link, node, network : n, byte/s one way, devices of a node, byte/s one way of a device's network to other nodes.
    overhead, latency, network_latency : seconds per all-to-all, per further device, and once if the devices span nodes.

    Raises
    ------
    InputError
        There are no routed experts, they are fused with other operators, or the degree does not divide them or the batch.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).apply(ExpertParallel())
    >>> print(step["expert_up_proj"].flops, step["expert_down_proj.all_to_all"].byte_count(level=Level.LINK))
    2*K*b*d*f_e/n_p FLOP K*a*b*d*(n_p - 1)/(8*n_p**2)

    Sources: Lepikhin et al. (2020), GShard, arXiv:2006.16668; Rajbhandari et al. (2022), DeepSpeed-MoE, arXiv:2201.05596.
    """

    name = "expert-parallel"
    summary = "routed experts spread over devices, with an all-to-all before and after"
    survey = "5.3"
    source = "arXiv:2006.16668"
    structure = frozenset({Structure.BATCH})
    removes = frozenset({Fact.WHOLE_BATCH, Fact.UNSENT})
    divides = (symbols.b, "degree")
    example = Example(model="mixtral-8x7b-v0.1", part="total", settings={"degree": 8}, inputs={"batch": 64})

    latency: Number = number(symbols.t_x, zero=True, optional=True)
    overhead: Number = number(symbols.l_x, zero=True, optional=True)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, group = given["degree"], self.group(given)
        experts = {access.tensor for operator, _ in graph for access in operator.reads if routed(access)}
        if not experts:
            raise self.refused("this step has no routed experts; expected a mixture of experts")
        sequences, share = divided(("b",), n), divided(("b", "E", "X"), n)

        def spread(tensor: Tensor) -> Tensor:
            return replace(tensor, space=(share if tensor in experts else sequences)(tensor.space))

        cut = graph.map(space=sequences, tensor=spread).with_pass_tokens(graph.pass_tokens / n, routed=False)
        blocks = tuple(self._exchanged(block, group) for block in cut.blocks)
        return replace(cut, blocks=blocks, definitions=counted_per_device(cut.definitions, {symbols.b: symbols.b / n}))

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
        taken = replace(rows.tensor, name=f"{first.name}.all_to_all", axes=rows.touched)
        given = replace(result, tensor=replace(result.tensor, name=f"{last.name}.partial"))

        def across(operator: Operator) -> Operator:
            reads = (replace(access, tensor=taken) if access.tensor is rows.tensor else access for access in operator.reads)
            return replace(operator, reads=tuple(reads), writes=(given,) if operator is last else operator.writes)

        made = [across(operator) if operator in experts else operator for operator in block.operators]
        back = all_to_all(f"{last.name}.all_to_all", given, result.tensor, group).made_from(last)
        made.insert(block.operators.index(last) + 1, back)
        made.insert(block.operators.index(first), all_to_all(f"{first.name}.all_to_all", rows, taken, group).made_from(first))
        return replace(block, operators=tuple(made))

    def check(self, step: Step) -> None:
        sizes = axis_sizes(step)
        if "E" in sizes:
            self.even({"experts": sizes["E"]})
            self.even({"sequences": sizes["b"]})

    def statements(self, given: Given) -> tuple[str, ...]:
        n = given["degree"]
        return (
            f"expert-parallel: one of {n} devices, with E/{n} experts, the rest of the model and its share of the b sequences; "
            "tokens spread evenly over devices and experts",
            f"expert-parallel: ({n} - 1)/{n} of the experts' inputs and results cross {self.crossing(given)}",
        )
