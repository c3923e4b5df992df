"""Medusa: additional heads predict the next tokens, and one step verifies a tree of candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Rational

from symroof import symbols
from symroof.operators import Access, Block, BlockRole, Graph, Operator, Role, Structure
from symroof.operators.elementwise import activation, add
from symroof.operators.linear import linear
from symroof.techniques.decoding.rollback import ROLLBACK
from symroof.techniques.decoding.verification import EXACT, expected, require_verifiable, verified
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word


@dataclass(frozen=True)
class Medusa(Technique):
    """h_m heads predict the h_m tokens after the next one; a step verifies n_t candidates and the token already accepted.

    A head is a residual block ``x + SiLU(x W)`` with ``W`` of d x d, and its own LM head, d x v.

    ================= ================================================================================
    tokens per step   ``1 + alpha + ... + alpha^h_m``
    verification      the step with ``n_t + 1`` query tokens, which attend to ``t + n_t`` positions each
    heads             on all of them, ``h_m (n_t + 1) (2 b d^2 + 2 b d v + ...)`` FLOPs
    memory            ``h_m (d^2 + d v)`` additional weights
    ================= ================================================================================

    Compared with a draft model, drafting costs ``h_m (d^2 + d v)`` weights. Medusa is faster per token if the tokens per
    step exceed the ratio of the two steps' times; never if compute-bound. Valid for independent acceptance.

    Parameters
    ----------
    heads : h_m.
    nodes : n_t, candidate tokens of the tree without the accepted one; at least one per head.
    acceptance : alpha, the probability that the true token is among a head's candidates, given that earlier heads were right.
    rows : the tokens that the heads run on: "all" of the tree, as in the published implementation; or the "last" accepted
        one, whose hidden state the engine must keep until verification ends.
    rollback : what recurrent layers keep to undo rejected tokens, "snapshots" of the state behind every node of the tree, or the same in
        a "buffer" (`symroof.techniques.decoding.rollback`).

    Raises
    ------
    InputError
        There are fewer nodes than heads, no LM head, or the step verifies several tokens already.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(Medusa(heads=4, nodes=63, acceptance=0.6)).symbolic["medusa.lm_head"].flops)
    2*b*d*v*(n_t + 1) FLOP

    Sources: Cai et al. (2024), arXiv:2401.10774, sections 2.1 and 2.3; their implementation, github.com/FasterDecoding/Medusa,
    medusa/model/medusa_model.py (heads on the hidden states of the whole tree).
    """

    name = "medusa"
    summary = "additional heads predict tokens, one step verifies a tree of candidates"
    survey = "4.2"
    source = "arXiv:2401.10774"
    structure = frozenset({Structure.TOKENS})
    phases = ("decode",)
    exact = EXACT
    requires = frozenset({Fact.WHOLE_STEP, Fact.ONE_CONTEXT, Fact.WHOLE_CACHE, Fact.WHOLE_MATRICES})
    example = Example(part="total", over="batch", settings={"heads": 4, "nodes": 20, "acceptance": Rational(3, 5)}, inputs={"seq_len": 256})

    heads: Number = number(symbols.h_m)
    nodes: Number = number(symbols.n_t)
    acceptance: Number = number(symbols.alpha, zero=True)
    rows: str = word("all", ("all", "last"))
    rollback: str = word("snapshots", ROLLBACK[:2])

    def __post_init__(self) -> None:
        super().__post_init__()
        heads, nodes = self.heads, self.nodes
        if heads.is_number and nodes.is_number and nodes < heads:
            raise self.refused(f"nodes {nodes}: each of the {heads} heads needs a candidate; expected at least {heads} nodes")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        require_verifiable(self.name, graph, self.rollback)
        if not any(operator.role is Role.HEAD for operator, _ in graph):
            raise self.refused("this model has no LM head")
        tokens = expected(given["acceptance"], self.acceptance, given["heads"], self.heads)
        after = verified(graph, given["nodes"] + 1, tokens, self.rollback, tree=True)
        head = next(operator for operator, _ in after if operator.role is Role.HEAD)
        block = Block("medusa", _head(head, every=self.rows == "all"), given["heads"], role=BlockRole.GUESSES)
        return replace(after, blocks=(*after.blocks, block))

    def statements(self, given: Given) -> tuple[str, ...]:
        del given
        where = "all of them" if self.rows == "all" else "only the last accepted token"
        return (
            "medusa: one step verifies the tree with n_t + 1 tokens of every sequence, each attending to the whole context and, "
            f"masked, to the whole tree; the heads run on {where}",
            "times are per expected token; a head's token is accepted with probability alpha, independently",
        )


def _head(lm_head: Operator, *, every: bool) -> tuple[Operator, ...]:
    """A head on the input of the model's LM head: on every row, or on one."""
    x, width = lm_head.reads[0].tensor, lm_head.reads[0].touched[-1]
    sizes = lm_head.space.sizes
    space = replace(lm_head.space, sizes={**sizes, "o": sizes[width]})  # a second axis, so that a square weight has two
    rows = ("b", "u") if every else ("b",)
    there = " ".join(rows)
    row = replace(x, axes=(*rows, width), space=space)
    first = linear("medusa.linear", f"{there} {width}, {width} o -> {there} o", row)
    act = activation("medusa.act", "silu", first.result)
    added = add("medusa.add", act.result, replace(row, axes=(*rows, "o")))
    logits = linear("medusa.lm_head", f"{there} o, v o -> {there} v", added.result, role=Role.HEAD)
    read = Access(x, row.axes)
    return replace(first, reads=(read, *first.reads[1:])), act, replace(added, reads=(added.reads[0], read)), logits
