"""A decode step with several tokens per sequence, which verifies proposed tokens."""

from __future__ import annotations

from dataclasses import replace

from sympy import Add, Expr, Integer

from symroof.errors import InputError
from symroof.operators import Block, BlockRole, Graph, Operator, Role, Space
from symroof.techniques.decoding.rollback import with_rollback

EXACT = " needs accounting exact; accounting {} knows one query token per decode step"
"""Why techniques that verify several tokens support only one accounting."""


def verified(graph: Graph, queries: Expr, accepted: Expr, rollback: str, *, tree: bool = False, every_logit: bool = True) -> Graph:
    """The target step with *queries* query tokens per sequence, of which *accepted* are accepted, and logits of all, or as before.

    The context grows by the proposed tokens. Queries attend under the causal mask; those of a tree attend to the whole
    context (an implementation masks the rest). The number of tokens that choose experts grows likewise. Recurrent layers
    keep what *rollback* says.
    """
    more = queries - 1

    def wider(space: Space) -> Space:
        growing = ("z",) if space.chosen else ("t", "z")
        context = {axis: space.sizes[axis] + more for axis in growing if axis in space.sizes}
        wide = space.resized({"s": queries, "s_c": queries, **({"u": queries} if every_logit else {}), **context})
        return replace(wide, causal=space.causal and not tree, one_block=True)

    wide = graph.map(space=wider).with_pass_tokens(graph.pass_tokens * queries)
    return replace(with_rollback(wide, queries, accepted, rollback, tree=tree), tokens=accepted)


def expected(acceptance: Expr, value: Expr, most: Expr, count: Expr) -> Expr:
    """Expected tokens of a chain of proposals that ends at the first rejection: ``1 + alpha + ... + alpha^gamma``.

    Parameters
    ----------
    acceptance, value : alpha in formulas, and its value.
    most, count : gamma in formulas, and its value; for a number the result is a polynomial in alpha.

    >>> from symroof.symbols import alpha, gamma
    >>> expected(alpha, alpha, gamma, Integer(2))
    alpha**2 + alpha + 1
    >>> expected(alpha, alpha, gamma, gamma)
    (1 - alpha**(gamma + 1))/(1 - alpha)
    >>> expected(alpha, Integer(1), gamma, gamma)
    gamma + 1
    """
    if value == 0:
        return Integer(1)
    if count.is_number:
        return Add(*(acceptance**place for place in range(int(count) + 1)))
    return most + 1 if value == 1 else (1 - acceptance ** (most + 1)) / (1 - acceptance)


def require_verifiable(name: str, graph: Graph, rollback: str, *, tree: bool = False) -> None:
    """Raise an InputError if a step verifies several tokens already, or has no state to roll back."""
    if graph.tokens != 1:
        raise InputError(f"{name}: a step already completes {graph.tokens} tokens per sequence; expected one")
    queries = graph.blocks[0].operators[0].space.sizes.get("s")
    if queries != 1:
        raise InputError(f"{name}: the step already has {queries} query tokens per sequence; expected one")
    if rollback != "snapshots" and not any(operator.role is Role.RECURRENCE for operator, _ in graph):
        raise InputError(f"{name}: rollback={rollback}: no layer of this model keeps a state that would have to be rolled back")
    if rollback == "replay" and tree:
        raise InputError(f"{name}: rollback=replay: tokens of a tree start from different states; use rollback=snapshots or buffer")


def drafted(block: Block, prefix: str) -> Block:
    """The block as part of a draft model, with a prefix before its operators' names."""
    operators: tuple[Operator, ...] = tuple(operator.prefixed(prefix) for operator in block.operators)
    return replace(block, name=prefix + block.name, operators=operators, role=BlockRole.DRAFT)
