"""Multi-head latent attention: keys and values of all heads from one compressed vector per token.

The cache stores ``r_kv`` compressed and ``r`` rotary components per token, shared by all heads.
*Decompressed*, every step expands the whole context to keys and values per head; *absorbed*, the two
expansions are moved into the queries and the output, and attention runs on the compressed vectors, as
multi-query attention with heads of ``r_kv + r`` components does.

Source: DeepSeek-AI (2024), DeepSeek-V2, arXiv:2405.04434, section 2.1 and appendix C.
"""

from __future__ import annotations

from dataclasses import replace

from symroof.operators.attention import as_one, positions, softmax
from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.query_blocks import cache_passes
from symroof.operators.tensor import Access, Axes, Storage, Tensor, axes_of

PAIRS = axes_of("b h s t")
LATENT, ROTATED = axes_of("b t r_kv"), axes_of("b t r")


def absorbed(
    q: Tensor, q_rotary: Tensor, latent: Tensor, keys_rotary: Tensor, *, fused: bool, selected: Tensor | None = None
) -> tuple[Operator, ...]:
    """Attention on the compressed vectors: every head reads the same ``r_kv + r`` components per token.

    Without a mask, the scores through memory:

    ========= ==========================================================================
    FLOPs     ``2 b h s t (2 r_kv + r) + 5 b h s t``
    traffic   ``(b s h (2 r_kv + r) a + b t (2 r_kv + r) c + 4 b h s t a) / 8``
    ========= ==========================================================================

    Fused, the scores stay on chip and the compressed vectors are read once, as keys and as values.

    Parameters
    ----------
    selected : the positions that each query attends to; its rows are then read for each query.
    """
    read, turned = _rows(latent, LATENT, selected), _rows(keys_rotary, ROTATED, selected)
    steps = _steps((q, q_rotary), (read, turned), ("r_kv", "r"), read, "latent_context", "r_kv", selected)
    if not fused:
        return steps
    if selected is not None:
        return (as_one(steps, (Access(q), Access(q_rotary), read, turned, positions(selected))),)
    passes = cache_passes(latent.space)
    return (as_one(steps, (Access(q), Access(q_rotary), *(replace(access, repeats=passes) for access in (read, turned)))),)


def decompressed(
    q: Tensor, q_rotary: Tensor, keys: Tensor, keys_rotary: Tensor, values: Tensor, *, fused: bool, selected: Tensor | None = None
) -> tuple[Operator, ...]:
    """Attention on keys of ``e_n + r`` and values of ``e_v`` components per head, expanded from the cache.

    Without a mask, the scores through memory:

    ========= ============================================================================================
    FLOPs     ``2 b h s t (e_n + r + e_v) + 5 b h s t``
    traffic   ``(b s h (e_n + r + e_v) a + b t h (e_n + e_v) a + b t r c + 4 b h s t a) / 8``
    ========= ============================================================================================
    """
    reads = (_rows(keys, axes_of("b t h e_n"), selected), _rows(keys_rotary, ROTATED, selected))
    values_read = _rows(values, axes_of("b t h e_v"), selected)
    steps = _steps((q, q_rotary), reads, ("e_n", "r"), values_read, "context", "e_v", selected)
    if not fused:
        return steps
    if selected is not None:
        return (as_one(steps, (Access(q), Access(q_rotary), *reads, values_read, positions(selected))),)
    passes = cache_passes(keys.space)
    # A block of a prompt contains rows of one head, so the rotary components, which all heads share, are read once per head.
    shared = ROTATED if keys.space.sizes["s"] == 1 else axes_of("b t h r")
    cached = (Access(keys, repeats=passes), Access(keys_rotary, shared, passes), Access(values, repeats=passes))
    return (as_one(steps, (Access(q), Access(q_rotary), *cached)),)


def _rows(cached: Tensor, rows: Axes, selected: Tensor | None) -> Access:
    """The rows of a cache that attention reads: all of them once, or for each query those that were selected for it."""
    return Access(cached, rows) if selected is None else Access(cached, (rows[0], "s", *rows[1:]))


def _steps(
    queries: tuple[Tensor, Tensor],
    keys: tuple[Access, Access],
    components: tuple[str, str],
    values: Access,
    out: str,
    width: str,
    selected: Tensor | None,
) -> tuple[Operator, ...]:
    """Scores over two kinds of components, their softmax, and the weighted sum of values of size *width*."""
    where = () if selected is None else (positions(selected),)
    space = values.tensor.space
    scores = Access(Tensor("scores", PAIRS, Storage.ACTIVATION, space))
    of_keys, of_values = ([Work((*PAIRS, axis), 2, contraction=True) for axis in axes] for axes in (components, (width,)))
    reads = (*(Access(part) for part in queries), *keys, *where)
    qk = Operator("qk_matmul", Kind.MATMUL, space, tuple(of_keys), reads, (scores,), role=Role.SCORES)
    probabilities = softmax("softmax", qk.result)
    context = Access(Tensor(out, axes_of(f"b s h {width}"), Storage.ACTIVATION, space))
    reads = (Access(probabilities.result), values, *where)
    return qk, probabilities, Operator("sv_matmul", Kind.MATMUL, space, tuple(of_values), reads, (context,), role=Role.WEIGHTED_SUM)
