"""Drafts that are heads on the target's hidden states: their passes in a step that verifies what they propose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.operators import Block, Graph, Parameter, Storage, Tensor
from symroof.symbols import substitute
from symroof.techniques.decoding.verification import drafted, verified

DRAFT, FIRST = "draft.", "draft.first."
OF_DRAFT = {symbols.X: symbols.X_d, symbols.t_w: symbols.t_d}


def with_head(
    target: Graph, first: Graph, again: Graph, length: Expr, branches: Expr, heads: int, *, own_logits: bool, single: bool
) -> Graph:
    """The step that verifies, with the passes of a head before and behind it.

    ====== ============== =========================== ========== ==========================
    pass   times          tokens of each sequence     logits     context
    ====== ============== =========================== ========== ==========================
    first  1              gamma + 1                   1          ``t + gamma``
    others ``gamma - 1``  k_b                         k_b        ``t - 1 + k_b gamma / 2``
    ====== ============== =========================== ========== ==========================

    The first pass sees the hidden states of the tokens that were verified, accepted or not, and proposes the next step's first token;
    the others, before verification, go on from their own. Their context is the mean: ``t - 1 + k_b`` and ``k_b`` more each time.

    Parameters
    ----------
    target : the step that verifies.
    first, again : one pass of the head over one token, the first of a step and a later one.
    heads : heads in memory, each with weights and a cache of its own; the passes take turns.
    own_logits : whether its LM head is not the target's.
    single : whether gamma is 1, so that the first pass is the only one.

    Sources: vLLM, ``v1/spec_decode/eagle.py`` (the first pass on all verified tokens in padded batches, the others on one) and
    ``models/deepseek_mtp.py`` (the head of a pass is its number modulo their number); SafeAILab/EAGLE, eagle/model/cnets.py,
    ``topK_genrate``.
    """
    last = _sharing(verified(first, length + 1, Integer(1), "snapshots", every_logit=False), target, own_logits=own_logits)
    other = {symbol: meant for symbol, meant in last.definitions.items() if target.definitions.get(symbol) != meant}
    last = replace(last, definitions={}).map(tensor=replace).bind(other) if other else last
    behind = (replace(drafted(block, FIRST), count=Integer(1), copies=Integer(heads)) for block in last.blocks)
    wide = verified(again, branches, Integer(1), "snapshots", tree=True)
    later, definitions = renamed(wide, wide.definitions, {symbols.t: symbols.t + branches * (length / 2 - 1)})
    before = (replace(drafted(block, DRAFT), count=length - 1, copies=Integer(0)) for block in later.blocks)
    blocks: tuple[Block, ...] = (*(() if single else before), *target.blocks, *behind)
    return replace(target, blocks=blocks, definitions={**target.definitions, **definitions})


def _sharing(head: Graph, target: Graph, *, own_logits: bool) -> Graph:
    """The head with the target's embedding and, unless it has its own, LM head."""
    weights = [tensor for block in target.blocks for tensor in block.tensors() if tensor.storage is Storage.WEIGHT]
    table = next(tensor for tensor in weights if tensor.parameter is Parameter.TABLE)
    logits = next((tensor for tensor in weights if tensor.parameter is Parameter.HEAD), table)
    shared: dict[Parameter, Tensor] = {Parameter.TABLE: table} | ({} if own_logits else {Parameter.HEAD: logits})
    return head.map(tensor=lambda tensor: tensor if tensor.parameter is None else shared.get(tensor.parameter, tensor))


def renamed(graph: Graph, definitions: Mapping[Symbol, Expr], values: Mapping[Symbol, Expr]) -> tuple[Graph, dict[Symbol, Expr]]:
    """The draft's graph with renamed symbols where the target defines the same symbol differently, and their definitions."""
    own = {symbol: substitute(meant, values) for symbol, meant in definitions.items()}
    named = {OF_DRAFT[symbol]: meant for symbol, meant in own.items() if symbol in OF_DRAFT}
    inside = {symbol: OF_DRAFT.get(symbol, meant) for symbol, meant in own.items()}
    return replace(graph, definitions={}).map(tensor=replace).bind({**values, **inside}), named
