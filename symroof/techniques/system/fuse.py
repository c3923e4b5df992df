"""Operator fusion: a connected group of operators becomes one, or a preset of what inference engines fuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from symroof.errors import InputError, nearest, quote
from symroof.operators import ATTENTION_STEPS, CONTRACTIONS, Block, BlockRole, Graph, Kind, Operator, Role, Tensor
from symroof.operators.fusion import between, disconnected, fused, group_of, replace_group
from symroof.techniques.system.flash_attention import FlashAttention
from symroof.techniques.system.flash_decoding import FlashDecoding
from symroof.techniques.technique import Example, Fact, Given, Technique, word

PRESETS = ("none", "engine", "flash-attention", "flash-decoding")


@dataclass(frozen=True)
class Fuse(Technique):
    """Fuse a group of operators: FLOPs are unchanged, tensors internal to the group cause no traffic, shared inputs are read once.

    The fused operator replaces its members and is named after them, joined by +.

    ================ =============================================================================================
    preset           what it fuses
    ================ =============================================================================================
    none             nothing
    flash-attention  attention, as `FlashAttention` with its defaults
    flash-decoding   attention, as `FlashDecoding` with the parts of the context a symbol
    engine           attention as ``flash-attention``; a residual addition with the next norm; an activation function
                     (and gate) with the preceding matrix products; rotary embedding (and per-head norm) with the
                     preceding projection; the quantization of a norm's or activation function's result
    ================ =============================================================================================

    If all members and the group are memory-bound, the speedup is ``B / (B - internal)`` with B their unfused traffic. A mix
    of memory- and compute-bound members also gains, because transfers and work overlap: at most the sum of their times
    over the longest. If all are compute-bound under the same peak, nothing changes.

    Parameters
    ----------
    operators : operators of one block, joined by + and connected by shared tensors.
    preset : one of the presets.

    Raises
    ------
    InputError
        Operators share no tensor, run on different units, or an operator outside the group must run between them.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(Fuse("gate_proj+up_proj+mlp_act"))
    >>> print(step["gate_proj+up_proj+mlp_act"].traffic)
    (a*b*d + a*b*f + 2*d*f*w)/8 byte

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
            return fuse_group(graph, block, members)
        if self.preset == "flash-decoding":
            return FlashDecoding().on_graph(graph)
        engine = self.preset == "engine"
        if self.preset == "flash-attention" or (engine and any(operator.role in ATTENTION_STEPS for operator, _ in graph)):
            graph = FlashAttention().on_graph(graph)
        for place, block in enumerate(graph.blocks if engine else ()):
            for group in groups(block) if block.role is not BlockRole.GUESSES else ():
                graph = fuse_group(graph, graph.blocks[place], group)
        return graph

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.operators:
            return (f"fuse: {self.operators} as one operator; their intermediate results stay on chip, whatever their size",)
        also = ""
        if self.preset == "engine":
            also = ": attention, residual + norm within a layer (not across layers), activation and rotary with the preceding product"
            also += ", quantization of inputs with the preceding norm or activation"
        return (f"fuse: preset {self.preset}{also}",)


def fuse_group(graph: Graph, block: Block, members: Sequence[Operator]) -> Graph:
    """The graph with a group of operators of a block fused; an InputError if the group cannot be fused."""
    if pair := disconnected(members):
        raise InputError(f"fuse: {pair[0].name} and {pair[1].name} share no tensor, and the group does not connect them")
    if missing := between(block.operators, members):
        raise InputError(
            f"fuse: {missing.name} needs the result of {members[0].name} and must run before {members[-1].name}: add it to the group"
        )
    units = {None if member.unit is None else member.unit.title for member in members}
    if len(units) > 1 or (members[0].unit is None and len({member.sparse for member in members if member.kind in CONTRACTIONS}) > 1):
        raise InputError(f"fuse: {members[0].name} and {members[-1].name} run on different units")
    with_group = replace_group(block, members, [fused(graph, block, members)])
    return replace(graph, blocks=tuple(with_group if other is block else other for other in graph.blocks))


def groups(block: Block) -> list[list[Operator]]:
    """The groups of a block's operators that engines fuse, except attention, each in execution order."""
    made = {access.tensor: operator for operator in block.operators for access in operator.writes}
    linked: list[set[Operator]] = []
    for pair in _pairs(block, made):
        joined = {*pair}
        for other in [other for other in linked if other & joined]:
            joined |= other
            linked.remove(other)
        linked.append(joined)
    ordered = [[operator for operator in block.operators if operator in group] for group in linked]
    return [group for group in ordered if between(block.operators, group) is None]


def _pairs(block: Block, made: Mapping[Tensor, Operator]) -> Iterator[tuple[Operator, Operator]]:
    """Pairs of a producer and a consumer that engines run in one kernel."""
    for user in block.operators:
        if user.is_group:
            continue
        for access in user.reads:
            maker = made.get(access.tensor)
            if maker is None or maker is user or block.operators.index(maker) > block.operators.index(user) or maker.is_group:
                continue
            kinds = {maker.kind, user.kind}
            rotated = {read.tensor for other in block.operators if other.kind is Kind.ROTARY for read in other.reads}
            head_norm = user.kind is Kind.NORM and user.result in rotated
            residual = kinds == {Kind.ELEMENTWISE, Kind.NORM} and Role.ADD in (user.role, maker.role)
            active = user.kind is Kind.ELEMENTWISE and maker.kind is Kind.MATMUL and user.role is Role.ACTIVATION
            narrowed = user.role is Role.QUANTIZATION and maker.role in (Role.NORM, Role.ACTIVATION, Role.GATE)
            rotary = user.kind is Kind.ROTARY and maker.kind in (Kind.MATMUL, Kind.NORM)
            if residual or active or narrowed or rotary or (head_norm and maker.kind is Kind.MATMUL):
                yield maker, user
