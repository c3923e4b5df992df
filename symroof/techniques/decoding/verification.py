"""A decode step that runs on several tokens of every sequence at once, to verify what was guessed."""

from __future__ import annotations

from dataclasses import replace

from sympy import Add, Expr, Integer

from symroof.errors import InputError
from symroof.operators import Block, BlockRole, Graph, Operator, Role, Space

EXACT = " needs accounting exact; accounting {} knows one query token per decode step"
"""Why what verifies several tokens is of one accounting alone."""


def verified(graph: Graph, queries: Expr, *, tree: bool = False) -> Graph:
    """The target step with so many query tokens per sequence, the last one's logits and all others' too.

    The context grows by the guessed tokens; the queries see it under the causal mask, those of a tree all of it (an
    implementation masks the rest). Where tokens touch parts of a weight (experts), they are that many more tokens.
    """
    more = queries - 1

    def wider(space: Space) -> Space:
        context = {axis: space.sizes[axis] + more for axis in ("t", "z") if axis in space.sizes}
        wide = space.resized({"s": queries, "u": queries, "s_c": queries, **context})
        return replace(wide, causal=space.causal and not tree, one_block=True)

    return graph.map(space=wider).with_pass_tokens(graph.pass_tokens * queries)


def expected(acceptance: Expr, value: Expr, most: Expr, count: Expr) -> Expr:
    """Expected tokens of a chain of guesses that ends at the first one rejected: ``1 + alpha + ... + alpha^gamma``.

    Parameters
    ----------
    acceptance, value : alpha as formulas have it, and what it stands for.
    most, count : gamma as formulas have it, and what it stands for; with a number the result is a polynomial in alpha.

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


def require_verifiable(name: str, graph: Graph) -> None:
    """Raise an InputError where a step cannot verify several tokens, or does so already."""
    if graph.tokens != 1:
        raise InputError(f"{name}: a step completes {graph.tokens} tokens of a sequence already; a guess is verified from one at a time")
    queries = graph.blocks[0].operators[0].space.sizes.get("s")
    if queries != 1:
        raise InputError(f"{name}: the step has {queries} query tokens per sequence already; a guess is verified from one at a time")
    for operator, _ in graph:
        if operator.role is Role.RECURRENCE:
            raise InputError(
                f"{name}: {operator.name} keeps a state of all tokens so far, which cannot be taken back when a guess is rejected"
            )


def drafted(block: Block, prefix: str) -> Block:
    """The block as one of a draft model, its operators with a prefix before their names."""
    operators: tuple[Operator, ...] = tuple(operator.prefixed(prefix) for operator in block.operators)
    return replace(block, name=prefix + block.name, operators=operators, role=BlockRole.DRAFT)
