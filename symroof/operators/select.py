"""Selection of operators by match objects that combine with ``&``, ``|`` and ``~``.

>>> import symroof
>>> graph = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).symbolic
>>> [operator.name for operator in select(graph, by_role(Role.PROJECTION) & ~reads(routed))]
['q_proj', 'k_proj', 'v_proj', 'out_proj']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from symroof.operators.block import Block
from symroof.operators.facts import ATTENTION_ROLES, BlockRole, Kind, Parameter, Role
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Storage

AccessTest = Callable[[Access], bool]


@dataclass(frozen=True)
class Match:
    """A condition on an operator and its block."""

    test: Callable[[Operator, Block], bool]

    def __call__(self, operator: Operator, block: Block) -> bool:
        """Whether the operator satisfies the condition."""
        return self.test(operator, block)

    def __and__(self, other: Match) -> Match:
        return Match(lambda operator, block: self(operator, block) and other(operator, block))

    def __or__(self, other: Match) -> Match:
        return Match(lambda operator, block: self(operator, block) or other(operator, block))

    def __invert__(self) -> Match:
        return Match(lambda operator, block: not self(operator, block))


def select(graph: Graph, match: Match) -> tuple[Operator, ...]:
    """The operators of a graph that match, in execution order."""
    return tuple(operator for block in graph.blocks for operator in block.operators if match(operator, block))


def by_role(*roles: Role) -> Match:
    """Operators of these roles, and fused groups whose members all have these roles."""
    return Match(lambda operator, _: all(part.role in roles for part in operator.members or (operator,)))


def by_kind(*kinds: Kind) -> Match:
    """Operators of these kinds."""
    return Match(lambda operator, _: operator.kind in kinds)


def by_name(name: str) -> Match:
    """Operators that a name refers to: the operator itself, those that techniques derived from it, groups of only such members.

    Several names joined by + refer to the operators of each name, and to the group they form.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(symroof.technique("low-rank"))
    >>> [operator.name for operator in select(step.symbolic, by_name("up_proj"))]
    ['up_proj.first', 'up_proj.second']
    """
    wanted = {name, *name.split("+")}
    return Match(lambda operator, _: operator.name in wanted or all(part.answers_to & wanted for part in operator.members or (operator,)))


def containing(name: str) -> Match:
    """Operators that a name refers to, and groups with such a member."""
    return Match(lambda operator, _: any(name in part.answers_to for part in (operator, *operator.members)))


def in_blocks(*roles: BlockRole) -> Match:
    """Operators in blocks of these roles."""
    return Match(lambda _, block: block.role in roles)


def reads(test: AccessTest) -> Match:
    """Operators that read an operand satisfying *test*."""
    return Match(lambda operator, _: any(test(access) for access in operator.reads))


def writes(test: AccessTest) -> Match:
    """Operators that write a result satisfying *test*."""
    return Match(lambda operator, _: any(test(access) for access in operator.writes))


def routed(access: Access) -> bool:
    """Whether the operand is a weight of routed experts."""
    return access.tensor.storage is Storage.WEIGHT and "X" in access.axes


def weight(*parameters: Parameter) -> AccessTest:
    """Whether an operand is a weight with one of these parameters."""
    return lambda access: access.tensor.parameter in parameters


def at(level: Level) -> AccessTest:
    """Whether an operand is stored at this level."""
    return lambda access: access.tensor.level is level


attention = by_role(*ATTENTION_ROLES)
"""Attention, unfused or fused."""


def exchanges(block: Block) -> tuple[Operator, Operator] | None:
    """The collectives that take tokens to the routed experts of a block and their results back; None without these.

    >>> import symroof
    >>> graph = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).apply("expert-parallel").symbolic
    >>> [operator.name for operator in exchanges(graph.blocks[1])]
    ['expert_gate_proj.all_to_all', 'expert_down_proj.all_to_all']
    """
    experts = [operator for operator in block.operators if any(routed(access) for access in operator.reads)]
    taken = {access.tensor for operator in experts for access in operator.reads}
    given = {access.tensor for operator in experts for access in operator.writes}
    collectives = [operator for operator in block.operators if operator.kind is Kind.COLLECTIVE]
    there = [operator for operator in collectives if any(access.tensor in taken for access in operator.writes)]
    back = [operator for operator in collectives if any(access.tensor in given for access in operator.reads)]
    return (there[0], back[-1]) if there and back else None
