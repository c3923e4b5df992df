"""Multi-head latent attention: keys and values of all heads from one compressed vector per token.

The cache keeps ``r_kv`` compressed components and ``r`` rotary ones per token, for all heads together.
*Decompressed*, every step expands the whole context to keys and values per head; *absorbed*, the two
expansions are moved into the queries and the output, and attention runs on the compressed vectors, as
multi-query attention with heads of ``r_kv + r`` components does.

Source: DeepSeek-AI (2024), DeepSeek-V2, arXiv:2405.04434, section 2.1 and appendix C.
"""

from __future__ import annotations

from symroof.operators.attention import FUSED, answers, cache_passes, softmax
from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor, axes_of

PAIRS = axes_of("b h s t")
LATENT, ROTATED = axes_of("b t r_kv"), axes_of("b t r")


def absorbed(q: Tensor, q_rotary: Tensor, latent: Tensor, keys_rotary: Tensor, *, fused: bool) -> tuple[Operator, ...]:
    """Attention on the compressed vectors: every head reads the same ``r_kv + r`` components per token.

    Without a mask, the scores through memory:

    ========= ==========================================================================
    FLOPs     ``2 b h s t (2 r_kv + r) + 5 b h s t``
    traffic   ``(b s h (2 r_kv + r) a + b t (2 r_kv + r) c + 4 b h s t a) / 8``
    ========= ==========================================================================

    Fused, the scores stay on chip and the compressed vectors are read once, as keys and as values.
    """
    space = latent.space
    scores = Tensor("scores", PAIRS, Storage.ACTIVATION, space)
    work = (_pairs("r_kv"), _pairs("r"))
    qk = Operator(
        "qk_matmul",
        Kind.MATMUL,
        space,
        work,
        (Access(q), Access(q_rotary), Access(latent, LATENT), Access(keys_rotary, ROTATED)),
        (Access(scores),),
        role=Role.SCORES,
    )
    probabilities = softmax("softmax", scores)
    context = Tensor("latent_context", axes_of("b s h r_kv"), Storage.ACTIVATION, space)
    reads = (Access(probabilities.result), Access(latent, LATENT))
    sv = Operator("sv_matmul", Kind.MATMUL, space, (_pairs("r_kv"),), reads, (Access(context),), role=Role.WEIGHTED_SUM)
    if not fused:
        return qk, probabilities, sv
    passes = cache_passes(space)
    cached = (Access(latent, LATENT, passes), Access(keys_rotary, ROTATED, passes))
    return (_fused((qk, probabilities, sv), (Access(q), Access(q_rotary), *cached), context),)


def decompressed(q: Tensor, q_rotary: Tensor, keys: Tensor, keys_rotary: Tensor, values: Tensor, *, fused: bool) -> tuple[Operator, ...]:
    """Attention on keys of ``e_n + r`` and values of ``e_v`` components per head, expanded from the cache.

    Without a mask, the scores through memory:

    ========= ============================================================================================
    FLOPs     ``2 b h s t (e_n + r + e_v) + 5 b h s t``
    traffic   ``(b s h (e_n + r + e_v) a + b t h (e_n + e_v) a + b t r c + 4 b h s t a) / 8``
    ========= ============================================================================================
    """
    space = keys.space
    scores = Tensor("scores", PAIRS, Storage.ACTIVATION, space)
    reads = (Access(q), Access(q_rotary), Access(keys), Access(keys_rotary, ROTATED))
    qk = Operator("qk_matmul", Kind.MATMUL, space, (_pairs("e_n"), _pairs("r")), reads, (Access(scores),), role=Role.SCORES)
    probabilities = softmax("softmax", scores)
    context = Tensor("context", axes_of("b s h e_v"), Storage.ACTIVATION, space)
    read = (Access(probabilities.result), Access(values))
    sv = Operator("sv_matmul", Kind.MATMUL, space, (_pairs("e_v"),), read, (Access(context),), role=Role.WEIGHTED_SUM)
    if not fused:
        return qk, probabilities, sv
    passes = cache_passes(space)
    # A block of a prompt holds rows of one head: the rotary components, which all heads share, pass by once for each.
    shared = ROTATED if space.sizes["s"] == 1 else axes_of("b t h r")
    cached = (Access(keys, repeats=passes), Access(keys_rotary, shared, passes), Access(values, repeats=passes))
    return (_fused((qk, probabilities, sv), (Access(q), Access(q_rotary), *cached), context),)


def _pairs(component: str) -> Work:
    axes: Axes = (*PAIRS, component)
    return Work(axes, 2, contraction=True)


def _fused(steps: tuple[Operator, ...], reads: tuple[Access, ...], context: Tensor) -> Operator:
    work = tuple(work for step in steps for work in step.work)
    return Operator(
        FUSED, Kind.FUSED_ATTENTION, context.space, work, reads, (Access(context),), role=Role.ATTENTION, answers_to=answers(steps)
    )
