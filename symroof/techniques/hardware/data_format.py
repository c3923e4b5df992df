"""A data format with its own peak: narrow operands with shared scales, and the units that multiply them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Integer

from symroof import symbols
from symroof.hardware.machine import EVERY, Machine
from symroof.operators import CONTRACTIONS, Block, Graph, Operator, Storage, Tensor
from symroof.operators.facts import Resource
from symroof.techniques.compression.selectors import linears, weights_of
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word


@dataclass(frozen=True)
class DataFormat(Technique):
    """Operands of q_f bits with a shared scale of q_s bits per G elements; contractions of them run at the peak P_f.

    An element takes ``q_f + q_s / G`` bits: 4.25 in the microscaling formats (4 bits, plus 8 per 32 elements). An operator
    with a wider operand, such as a 16-bit cache or LM head, keeps the device's peak for that width. Compared with operands
    of w bits at peak P, a large layer is ``w / (q_f + q_s / G)`` times faster when memory-bound and ``P_f / P`` times
    faster when compute-bound; the crossover moves by the second ratio over the first. Conversions are not counted.

    Parameters
    ----------
    bits : q_f, bits per element.
    peak : P_f in FLOP/s, as 9000TFLOP/s.
    group, scale : G elements and q_s bits; without a group no scale is counted.
    operands : "weights+activations", or "all", which includes the KV cache.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(DataFormat(bits=4, group=32))["up_proj"].traffic)
    17*(b*d + b*f + d*f)/32 byte

    Source: Rouhani et al. (2023), Microscaling Data Formats for Deep Learning, arXiv:2310.10537, table 1.
    """

    name = "data-format"
    summary = "operands in a narrow format that runs at its own peak"
    survey = "6.3"
    source = "arXiv:2310.10537"
    requires = frozenset({Fact.WHOLE_PROMPT, Fact.OWN_WIDTHS})
    removes = frozenset({Fact.NO_FORMAT})
    example = Example(settings={"bits": 4, "group": 32, "peak": 1248 * 10**12})

    bits: Number = number(symbols.q_f)
    peak: Number = number(symbols.P_f)
    group: Number = number(symbols.G, optional=True)
    scale: Number = number(symbols.q_s, 8)
    operands: str = word("weights+activations", ("weights+activations", "all"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group is None:
            object.__setattr__(self, "scale", Integer(0))

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        beside = given["scale"] / given["group"] if "group" in given else Integer(0)
        weights = weights_of(linears(graph))
        places = {Storage.ACTIVATION, Storage.KV_CACHE} if self.operands == "all" else {Storage.ACTIVATION}
        unit = Machine("data format", {EVERY: given["peak"]}, {Resource.MEMORY: symbols.BW})

        def narrow(tensor: Tensor) -> bool:
            return tensor in weights or tensor.storage in places

        def placed(old: Operator, new: Operator, _: Block) -> Operator:
            fits = old.kind in CONTRACTIONS and all(narrow(access.tensor) for access in old.reads if access.operand)
            return replace(new, unit=unit) if fits and old.unit is None else new

        return graph.map(
            tensor=lambda tensor: replace(tensor, bits=given["bits"], overhead=beside) if narrow(tensor) else tensor, operator=placed
        )

    def statements(self, given: Given) -> tuple[str, ...]:
        stored = " + q_s/G" if "group" in given else ", scales not counted"
        what = "weights, activations and KV cache" if self.operands == "all" else "weights and activations"
        stay = "embedding, routers and LM head (also a draft's and Medusa's) keep their widths"
        return (
            f"data-format: {what} in {given['bits']} bits{stored}; {stay}; conversions are not counted",
            f"data-format: contractions whose operands are all in the format run at {given['peak']}, others at the device's peaks",
        )
