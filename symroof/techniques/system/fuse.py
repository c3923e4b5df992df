"""Operator fusion: a connected group of a block as one operator, or what engines fuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from symroof.errors import InputError, nearest, quote
from symroof.operators import ATTENTION_STEPS, CONTRACTIONS, Block, BlockRole, Graph, Kind, Operator, Role, Tensor
from symroof.operators.fusion import apart, between, fused, group_of, replace_group
from symroof.techniques.system.flash_attention import FlashAttention
from symroof.techniques.system.flash_decoding import FlashDecoding
from symroof.techniques.technique import Example, Fact, Given, Technique, word

PRESETS = ("none", "engine", "flash-attention", "flash-decoding")


@dataclass(frozen=True)
class Fuse(Technique):
    """The FLOPs of a group stay; tensors that only the group writes and reads leave the traffic, shared ones are read once.

    The fused operator is named after its members, joined by +, and runs in their place.

    ================ =============================================================================================
    preset           what it fuses
    ================ =============================================================================================
    none             nothing
    flash-attention  attention, as `FlashAttention` with its defaults
    flash-decoding   attention, as `FlashDecoding` with the parts of the context a symbol
    engine           attention as ``flash-attention``; a residual addition and the norm beside it; an activation
                     function (and gate) with the matrix products it follows; rotary embedding (and norm of a head)
                     with the projection it follows; the quantization of what a norm or an activation function gives
    ================ =============================================================================================

    With all members and the group memory-bound it pays by ``B / (B - internal)``, B being their traffic apart. Members of both
    kinds pay too, as one's bytes then move beside another's work: at most by the sum of times over the longest. With all of them
    compute-bound under one peak it changes nothing.

    Parameters
    ----------
    operators : operators of one block joined by +, between which shared tensors connect.
    preset : one of the presets.

    Errors: two operators share no tensor, or one outside must run between them, or units of their own run them.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(Fuse("gate_proj+up_proj+mlp_act"))
    >>> print(step["gate_proj+up_proj+mlp_act"].traffic)
    a*b*d/8 + a*b*f/8 + d*f*w/4 byte

    Sources: Aminabadi et al. (2022), DeepSpeed Inference, arXiv:2207.00032, section III; vLLM's fused_add_rms_norm and
    silu_and_mul; TensorRT-LLM's fused gated MLP. Which of these a build has differs; the preset is all of them.
    """

    name = "fuse"
    summary = "a connected group of operators as one"
    survey = "5.1"
    source = "arXiv:2207.00032"
    requires = frozenset({Fact.ONE_CONTEXT, Fact.WHOLE_PROMPT})
    removes = frozenset({Fact.UNFUSED})
    example = Example(part="gate_proj+up_proj+mlp_act", settings={"operators": "gate_proj+up_proj+mlp_act"})

    operators: str = word("", meaning="operators of one block, joined by +")
    preset: str = word("", meaning="|".join(PRESETS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.operators) == bool(self.preset):
            raise self.refused(f"give either operators, as operators=qk_matmul+softmax+sv_matmul, or preset={'|'.join(PRESETS)}")
        if self.preset and self.preset not in PRESETS:
            raise self.refused(f"preset {quote(self.preset)}: {nearest(self.preset, PRESETS)}")

    @property
    def removed(self) -> frozenset[Fact]:
        return frozenset() if self.preset not in ("", "engine") else self.removes

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        if self.operators:
            names = self.operators.split("+")
            if len(set(names)) < 2:
                raise self.refused(f"operators {quote(self.operators)}: expected two or more, joined by +")
            block, members = group_of(graph, names)
            return together(graph, block, members)
        if self.preset == "flash-decoding":
            return FlashDecoding().on_graph(graph)
        engine = self.preset == "engine"
        if self.preset == "flash-attention" or (engine and any(operator.role in ATTENTION_STEPS for operator, _ in graph)):
            graph = FlashAttention().on_graph(graph)
        for place, block in enumerate(graph.blocks if engine else ()):
            for group in groups(block) if block.role is not BlockRole.GUESSES else ():
                graph = together(graph, graph.blocks[place], group)
        return graph

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.operators:
            return (f"fuse: {self.operators} as one operator; what they hand to one another stays on chip, however large it is",)
        also = ""
        if self.preset == "engine":
            also = ": attention, residual + norm within a layer (not across layers), activation and rotary with the product before them"
            also += ", the quantization of inputs with the norm or activation before it"
        return (f"fuse: preset {self.preset}{also}",)


def together(graph: Graph, block: Block, members: Sequence[Operator]) -> Graph:
    """The graph with a group of a block as one operator in its place; an InputError where it cannot be one."""
    if pair := apart(members):
        raise InputError(f"fuse: {pair[0].name} and {pair[1].name} share no tensor, nor does the group connect them")
    if stands := between(block.operators, members):
        raise InputError(
            f"fuse: {stands.name} needs what {members[0].name} gives and must run before {members[-1].name}: expected it in the group"
        )
    units = {None if one.unit is None else one.unit.title for one in members}
    if len(units) > 1 or (members[0].unit is None and len({one.sparse for one in members if one.kind in CONTRACTIONS}) > 1):
        raise InputError(f"fuse: {members[0].name} and {members[-1].name} run on different units")
    placed = replace_group(block, members, [fused(graph, block, members)])
    return replace(graph, blocks=tuple(placed if one is block else one for one in graph.blocks))


def groups(block: Block) -> list[list[Operator]]:
    """What engines fuse of a block, besides attention: groups of operators in the order they run."""
    made = {access.tensor: one for one in block.operators for access in one.writes}
    linked: list[set[Operator]] = []
    for pair in _pairs(block, made):
        joined = {*pair}
        for other in [other for other in linked if other & joined]:
            joined |= other
            linked.remove(other)
        linked.append(joined)
    found = [[one for one in block.operators if one in group] for group in linked]
    return [group for group in found if between(block.operators, group) is None]


def _pairs(block: Block, made: Mapping[Tensor, Operator]) -> Iterator[tuple[Operator, Operator]]:
    """Two operators, one of which takes what the other gives, that belong in one kernel."""
    for one in block.operators:
        if one.is_group:
            continue
        for access in one.reads:
            maker = made.get(access.tensor)
            if maker is None or maker is one or block.operators.index(maker) > block.operators.index(one) or maker.is_group:
                continue
            plain, turned = {maker.kind, one.kind}, one.kind is Kind.ROTARY
            rotated = {read.tensor for other in block.operators if other.kind is Kind.ROTARY for read in other.reads}
            head_norm = one.kind is Kind.NORM and one.result in rotated
            residual = plain == {Kind.ELEMENTWISE, Kind.NORM} and Role.ADD in (one.role, maker.role)
            active = one.kind is Kind.ELEMENTWISE and maker.kind is Kind.MATMUL and one.role is Role.ACTIVATION
            narrowed = one.role is Role.QUANTIZATION and maker.role in (Role.NORM, Role.ACTIVATION, Role.GATE)
            rotated_behind = turned and maker.kind in (Kind.MATMUL, Kind.NORM)
            if residual or active or narrowed or rotated_behind or (head_norm and maker.kind is Kind.MATMUL):
                yield maker, one
