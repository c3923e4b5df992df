"""Scaled dot-product attention of grouped query heads, unfused and fused (FlashAttention).

``h = k g``: each of ``k`` KV heads serves a group of ``g`` query heads; ``g = 1`` is multi-head and
``k = 1`` multi-query attention. The scale 1/sqrt(e) is folded into the contraction.

In sparse attention a light indexer scores every key for each query, and attention reads only the best ``k_i`` of them. The
indexer has ``h_i`` heads of ``e_i`` components and one key per token, which it keeps in a cache of its own. Attention then runs over
``t_i = min(t, k_i)`` positions instead of ``t``. Source: DeepSeek-AI (2025), DeepSeek-V3.2, arXiv:2512.02556, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sympy import Integer

from symroof.operators.elementwise import elementwise
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.linear import contraction, parse
from symroof.operators.operator import Operator, Work
from symroof.operators.query_blocks import cache_passes
from symroof.operators.tensor import Access, Axes, Space, Storage, Tensor, axes_of

SOFTCAP_FLOPS = 3
"""Divide, tanh, multiply."""

FUSED = "fused_attention"

SCORES = "b s k g e, b t k e -> b k g s t"
WEIGHTED_SUM = "b k g s t, b t k e -> b s k g e"


def scores(q: Tensor, keys: Tensor) -> Operator:
    """``Q K^T``: reads Q once and the keys once per KV head, writes one score per pair and query head.

    Without a mask; a causal mask leaves ``s (2 t - s + 1) / 2`` of the ``s t`` pairs, in FLOPs and in scores.

    ========= ===================================================
    FLOPs     ``2 b h e s t``
    traffic   ``(b s h e a + b t k e c + b h s t a) / 8``
    ========= ===================================================
    """
    (_, read), pairs = parse(SCORES)
    out = Tensor("scores", pairs, Storage.ACTIVATION, keys.space)
    return contraction("qk_matmul", SCORES, (Access(q), Access(keys, read)), Access(out), Role.SCORES)


def weighted_sum(probabilities: Tensor, values: Tensor) -> Operator:
    """``softmax(Q K^T) V``: reads the probabilities and the values once, writes ``s`` rows of ``h e``, or of the values' own width.

    Without a mask, as for `scores`.

    ========= ===================================================
    FLOPs     ``2 b h e s t``
    traffic   ``(b h s t a + b t k e c + b s h e a) / 8``
    ========= ===================================================
    """
    spec = WEIGHTED_SUM.replace("k e", f"k {values.axes[-1]}").replace("g e", f"g {values.axes[-1]}")
    (_, read), rows = parse(spec)
    out = Tensor("context", rows, Storage.ACTIVATION, values.space)
    return contraction("sv_matmul", spec, (Access(probabilities), Access(values, read)), Access(out), Role.WEIGHTED_SUM)


def attention(
    q: Tensor, keys: Tensor, values: Tensor, *, fused: bool, softcap: bool = False, sinks: bool = False, biased: bool = False
) -> tuple[Operator, ...]:
    """Attention as separate operators that pass scores through memory, or as one fused operator that does not.

    The queries attend to the context of the keys' space: all of it, or a window.

    Parameters
    ----------
    softcap : whether ``c tanh(score / c)`` bounds the scores (Gemma 2), 3 FLOPs per score.
    sinks : whether each head adds a learned score to the softmax (GPT-OSS).
    biased : whether a distance bias is added to the scores (ALiBi), 1 FLOP per score.
    """
    steps = [scores(q, keys)]
    if softcap:
        pairs = steps[-1].result
        steps.append(elementwise("scores_softcap", (pairs,), pairs.axes, SOFTCAP_FLOPS, role=Role.SCORE_CAP))
    steps.append(softmax("softmax", steps[-1].result, sinks=sinks, biased=biased))
    steps.append(weighted_sum(steps[-1].result, values))
    return (flash(q, keys, values, tuple(steps)),) if fused else tuple(steps)


def flash(q: Tensor, keys: Tensor, values: Tensor, steps: tuple[Operator, ...]) -> Operator:
    """FlashAttention: the FLOPs of the three operators; Q, K, V are read and the output is written, scores stay on chip.

    Keys and values are read from memory once per pass of ``R`` query positions (`symroof.operators.query_blocks`), ``n = ceil(s / R)``
    times; all s positions are one pass if a head's keys and values fit the last-level cache. Under a causal mask a pass stops
    at its own last row: ``(t - s) n + R n (n - 1) / 2 + s`` rows of K and of V instead of ``n t``; with a sliding window it
    starts at the first row in the window of its first query. Without a mask:

    ========= ===================================================
    FLOPs     ``4 b h e s t + 5 b h s t``
    traffic   ``(2 b s h e a + 2 n b t k e c) / 8``
    ========= ===================================================

    Source: Dao et al. (2022), arXiv:2205.14135; the rescaling of partial sums is not counted.
    """
    passes = cache_passes(keys.space)
    cached = tuple(Access(tensor, (*axes_of("b t k"), tensor.axes[-1]), passes) for tensor in (keys, values))
    return as_one(steps, (Access(q), *cached))


def as_one(steps: Sequence[Operator], reads: tuple[Access, ...]) -> Operator:
    """The operators of attention as one operator with these reads and their weights, and scores on chip; their names refer to it too."""
    work = tuple(work for step in steps for work in step.work)
    weights = tuple(access for step in steps for access in step.reads if access.tensor.storage is Storage.WEIGHT)
    names = frozenset({FUSED}).union(*(step.answers_to for step in steps))
    kind, space, writes = Kind.FUSED_ATTENTION, steps[0].space, steps[-1].writes
    return Operator(FUSED, kind, space, work, (*reads, *weights), writes, role=Role.ATTENTION, answers_to=names)


def as_flash_attention(steps: Sequence[Operator], group: Operator) -> Operator:
    """A fused group of attention operators as FlashAttention: rows of K and V are read once per pass of queries.

    A block contains queries of heads that share keys; components shared by further heads are read once per head.
    """
    space = group.space
    passes = cache_passes(space)
    keys = [key for step in steps if step.role is Role.SCORES for key in _keys(step)]
    one_head = space.sizes["s"] != 1 and not space.one_block and any("h" in (key.axes or key.tensor.axes) for key in keys)

    def again(access: Access) -> Access:
        axes = access.axes or access.tensor.axes
        if "t" not in axes or "s" in axes or access.tensor.storage is Storage.WEIGHT:
            return access  # keys that each query selects are read by that query alone
        if one_head and "h" not in axes:
            place = axes.index("t") + 1
            axes = (*axes[:place], "h", *axes[place:])
        return Access(access.tensor, axes, access.repeats * passes)

    reads = tuple(again(access) for access in group.reads)
    return replace(group, kind=Kind.FUSED_ATTENTION, role=Role.ATTENTION, reads=reads, members=()).named(FUSED)


def _keys(scores: Operator) -> tuple[Access, ...]:
    return tuple(access for access in scores.reads if "t" in (access.axes or access.tensor.axes))


QUERY = axes_of("b s k g e")
CACHE = axes_of("b t k e")


FLOPS_PER_SCORE = 5
"""Maximum, subtraction, exponential, sum, division. LLM-Viewer counts the same five."""


def softmax(name: str, scores: Tensor, *, sinks: bool = False, biased: bool = False, role: Role = Role.SOFTMAX) -> Operator:
    """Softmax of the scores: 5 FLOPs, one read and one write per score.

    Without a mask, as for `symroof.operators.attention.scores`.

    ========= =====================
    FLOPs     ``5 b h s t``
    traffic   ``2 b h s t a / 8``
    ========= =====================

    Parameters
    ----------
    sinks : whether one learned score per head takes part and is dropped afterwards.
    biased : whether a bias is added to each score first, 1 FLOP.
    role : softmax of attention, or of a router.
    """
    space = scores.space
    out = Tensor(name, scores.axes, Storage.ACTIVATION, space)
    work = (Work(scores.axes, FLOPS_PER_SCORE + int(biased), exponentials=1),)
    if not sinks:
        return Operator(name, Kind.SOFTMAX, space, work, (Access(scores),), (Access(out),), role=role)
    rows = tuple(axis for axis in scores.axes if axis != "t")
    learned = Tensor("sinks", tuple(axis for axis in rows if axis not in "bs"), Storage.WEIGHT, space, parameter=Parameter.SINK)
    work = (*work, Work(rows, FLOPS_PER_SCORE, exponentials=1))
    return Operator(name, Kind.SOFTMAX, space, work, (Access(scores), Access(learned)), (Access(out),), role=role)


FLOPS_PER_COMPONENT = 3
"""x cos + rotated(x) sin: two products and a sum."""


def rotary(name: str, x: Tensor, table: Tensor, into: Tensor | None = None) -> Operator:
    """Rotary embedding of the first ``r`` components of every head; the others are copied.

    For queries; the cosines and sines of every position are read once.

    ========= ============================
    FLOPs     ``3 b s h r``
    traffic   ``(2 b s h e + s r) a / 8``
    ========= ============================

    Parameters
    ----------
    table : cosines and sines, ``s r``.
    into : a KV cache, whose new rows are written; by default a new activation.

    Source: Su et al. (2021), arXiv:2104.09864.
    """
    turned: Axes = (*x.axes[:-1], "r")
    out = into or Tensor(name, x.axes, Storage.ACTIVATION, x.space)
    work = (Work(turned, FLOPS_PER_COMPONENT),)
    return Operator(name, Kind.ROTARY, x.space, work, (Access(x), Access(table)), (Access(out, x.axes),), role=Role.ROTARY)


POSITION_BITS = Integer(32)
"""Bits of a selected position. Source: Transformers' DeepseekV32Indexer, which returns int32."""

INDEX_PAIRS = axes_of("b h_i s t")


def index_scores(q: Tensor, keys: Tensor, weights: Tensor) -> Operator:
    """``sum_j w_j relu(q_j . k)`` for every pair of a query and a key; the scores of the heads stay on chip.

    Without a mask; a causal mask leaves ``s (2 t - s + 1) / 2`` of the ``s t`` pairs.

    ========= ===================================================================
    FLOPs     ``2 b h_i s t e_i + 3 b h_i s t``
    traffic   ``(b s h_i (e_i + 1) a + b t e_i c + b s t a) / 8``
    ========= ===================================================================

    Parameters
    ----------
    q, keys, weights : ``b s h_i e_i``, ``b t e_i`` and ``b s h_i``.
    """
    out = Tensor("index_scores", axes_of("b s t"), Storage.ACTIVATION, keys.space)
    work = (Work((*INDEX_PAIRS, "e_i"), 2, contraction=True), Work(INDEX_PAIRS, 1), Work(INDEX_PAIRS, 2, contraction=True))
    reads = (Access(q), Access(keys, axes_of("b t e_i")), Access(weights))
    return Operator("index_scores", Kind.MATMUL, keys.space, work, reads, (Access(out),), role=Role.INDEX)


def select_keys(scores: Tensor, space: Space) -> Operator:
    """The positions of the highest ``t_i`` scores of each query: one comparison per score.

    ========= =====================================
    FLOPs     ``b s t``
    traffic   ``(b s t a + 32 b s t_i) / 8``
    ========= =====================================

    Parameters
    ----------
    space : the space of the attention that follows, in which each query has ``t_i`` keys.
    """
    out = Tensor("selected_keys", scores.axes, Storage.ACTIVATION, space, POSITION_BITS)
    work = (Work(scores.axes, 1),)
    return Operator("index_topk", Kind.ELEMENTWISE, scores.space, work, (Access(scores),), (Access(out),), role=Role.INDEX)


def positions(selected: Tensor) -> Access:
    """The read of selected positions, which are no operand of the product: their width does not decide the peak."""
    return Access(selected, aside=True)
