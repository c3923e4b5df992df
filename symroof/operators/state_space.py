"""Recurrences over the tokens: short causal convolutions, state-space scans, the gated delta rule.

Each keeps a state per sequence whose size does not grow with the context. It is read and written once per step,
for any number of tokens, and stays on chip in between. FLOPs are those of the token-by-token recurrence; kernels
that process chunks of tokens do more.
"""

from __future__ import annotations

from sympy import Expr

from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor
from symroof.symbols import k_c


def state(name: str, axes: Axes, like: Tensor) -> Tensor:
    """A state that persists between steps, at the width of the cache."""
    return Tensor(name, axes, Storage.KV_CACHE, like.space)


def causal_convolution(name: str, x: Tensor, channels: str, *, bias: bool, activated: bool = True) -> Operator:
    """A depthwise convolution of ``k_c`` taps along the tokens, followed by SiLU unless it is not *activated*.

    For ``d_i`` channels with a bias; the last ``k_c`` inputs of each channel are stored for the next step. An
    implementation that computes outputs which it discards computes ``s_c`` of them, not s (`convolved`).

    ========= ===================================================================
    FLOPs     ``2 b s d_i k_c + 4 b s d_i``
    traffic   ``(2 b s d_i a + d_i (k_c + 1) w + 2 b d_i k_c c) / 8``
    ========= ===================================================================
    """
    space = x.space
    rows: Axes = ("b", "s", channels)
    kept = Access(state(f"{name}_state", ("b", channels, "k_c"), x))
    learned = [Access(Tensor(f"{name}.weight", (channels, "k_c"), Storage.WEIGHT, space, parameter=Parameter.FILTER))]
    if bias:
        learned.append(Access(Tensor(f"{name}.bias", (channels,), Storage.WEIGHT, space, parameter=Parameter.BIAS)))
    work = (Work(("b", "s_c", channels, "k_c"), 2, contraction=True), *((Work(rows, 4),) if activated else ()))
    out = Tensor(name, rows, Storage.ACTIVATION, space)
    return Operator(name, Kind.CONVOLUTION, space, work, (Access(x, rows), kept, *learned), (Access(out), kept), role=Role.RECURRENCE)


def convolved(queries: Expr, causal: bool) -> Expr:
    """The number of outputs of a causal convolution that a step computes: ``s``, one per token.

    Without exploiting causality, as in PyTorch, a prompt is padded at both ends and gives ``s + k_c - 1``
    outputs; one token with its state of ``k_c`` inputs gives two.

    >>> from symroof.symbols import s
    >>> convolved(s, causal=False)
    k_c + s - 1
    """
    if causal:
        return queries
    return queries + 1 if queries == 1 else queries + k_c - 1


def selective_scan(name: str, x: Tensor, steps: Tensor, parameters: tuple[Access, Access], gate: Access) -> Operator:
    """Mamba: ``H = exp(dt A) H + dt B x``, ``y = C H + D x``, times ``silu(z)``; each channel has its own step size.

    Per channel and state: an exponential, five products and sums, and the contraction with C (2); per channel:
    softplus (3), ``D x`` (2) and the gate (5).

    ========= ===============================================================================
    FLOPs     ``8 b s d_i d_s + 10 b s d_i``
    traffic   ``(4 b s d_i a + 2 b s d_s a + (d_i d_s + d_i) w + 2 b d_i d_s c) / 8``
    ========= ===============================================================================

    Parameters
    ----------
    parameters : B and C of every token, ``b s d_s`` each.

    Source: Gu and Dao (2023), arXiv:2312.00752, algorithm 2.
    """
    space = x.space
    rows, points = ("b", "s", "d_i"), ("b", "s", "d_i", "d_s")
    decay = Tensor("A_log", ("d_i", "d_s"), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)
    skip = Tensor("D", ("d_i",), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)
    kept = Access(state("ssm_state", ("b", "d_i", "d_s"), x))
    out = Tensor(name, rows, Storage.ACTIVATION, space)
    work = (Work(points, 6), Work(points, 2, contraction=True), Work(rows, 10))
    reads = (Access(x), Access(steps), *parameters, gate, Access(decay), Access(skip), kept)
    return Operator(name, Kind.SCAN, space, work, reads, (Access(out), kept), role=Role.RECURRENCE)


def head_scan(name: str, x: Access, parameters: Access, steps: Access) -> Operator:
    """Mamba-2: the same recurrence with one decay per head; the heads of a group share B and C.

    Per channel and state: three products and a sum (4) and the contraction with C (2); per channel: ``D x`` (2);
    per head: softplus and the decay (6).

    ========= ======================================================================================================
    FLOPs     ``6 b s h_s e_s d_s + 2 b s h_s e_s + 6 b s h_s``
    traffic   ``((2 b s h_s e_s + 2 b s g_s d_s + b s h_s) a + 3 h_s w + 2 b h_s e_s d_s c) / 8``
    ========= ======================================================================================================

    Source: Dao and Gu (2024), arXiv:2405.21060, listing 1 (its recurrent form).
    """
    tensor = x.tensor
    space = tensor.space
    rows, points = ("b", "s", "h_s", "e_s"), ("b", "s", "h_s", "e_s", "d_s")
    learned = tuple(
        Access(Tensor(part, ("h_s",), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)) for part in ("dt_bias", "A_log", "D")
    )
    kept = Access(state("ssm_state", ("b", "h_s", "e_s", "d_s"), tensor))
    out = Tensor(name, rows, Storage.ACTIVATION, space)
    work = (Work(points, 4), Work(points, 2, contraction=True), Work(rows, 2), Work(("b", "s", "h_s"), 6))
    return Operator(name, Kind.SCAN, space, work, (x, parameters, steps, *learned, kept), (Access(out), kept), role=Role.RECURRENCE)


def delta_rule(name: str, mixed: Tensor, gates: Tensor) -> Operator:
    """The gated delta rule: ``S = a S``, ``S = S + k (b (v - S^T k))^T``, ``o = S^T q``, per value head.

    The decay takes 1 FLOP per element of the state; ``S^T k``, the outer product's sum and ``S^T q`` take 2 each;
    queries and keys are normalized (4 each), the values corrected (2).

    ========= ==========================================================================================================
    FLOPs     ``7 b s h_l e_k e_l + 8 b s k_l e_k + 2 b s h_l e_l + 9 b s h_l``
    traffic   ``(b s (2 k_l e_k + 2 h_l e_l + 2 h_l) a + 2 h_l w + 2 b h_l e_k e_l c) / 8``
    ========= ==========================================================================================================

    Parameters
    ----------
    mixed : queries, keys and values of every token.
    gates : the decay and the strength of every value head.

    Source: Yang, Kautz and Hatamizadeh (2024), Gated Delta Networks, arXiv:2412.06464, equation 10.
    """
    space = mixed.space
    points = ("b", "s", "h_l", "e_k", "e_l")
    learned = tuple(Access(Tensor(part, ("h_l",), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)) for part in ("dt_bias", "A_log"))
    kept = Access(state("delta_state", ("b", "h_l", "e_k", "e_l"), mixed))
    out = Tensor(name, ("b", "s", "h_l", "e_l"), Storage.ACTIVATION, space)
    work = (
        Work(points, 1),
        Work(points, 6, contraction=True),
        Work(("b", "s", "k_l", "e_k"), 8),
        Work(("b", "s", "h_l", "e_l"), 2),
        Work(("b", "s", "h_l"), 9),
    )
    return Operator(name, Kind.SCAN, space, work, (Access(mixed), Access(gates), *learned, kept), (Access(out), kept), role=Role.RECURRENCE)


def channel_delta_rule(name: str, mixed: Tensor, decay: Tensor, strength: Tensor) -> Operator:
    """The delta rule with a decay per channel of a key: ``S = diag(a) S``, ``S = S + k (b (v - S^T k))^T``, ``o = S^T q``, per head.

    As for `delta_rule`, with as many key heads as value heads; a decay takes 7 more (a bias, softplus, a product, an exponential).

    ========= ==========================================================================================================
    FLOPs     ``7 b s h_l e_k e_l + 15 b s h_l e_k + 2 b s h_l e_l + 4 b s h_l``
    traffic   ``(b s h_l (3 e_k + 2 e_l + 1) a + h_l (e_k + 1) w + 2 b h_l e_k e_l c) / 8``
    ========= ==========================================================================================================

    Parameters
    ----------
    mixed : queries, keys and values of every token.
    decay, strength : of every channel and head, before their functions.

    Source: Kimi team (2025), Kimi Linear, arXiv:2510.26692, equation 1.
    """
    space = mixed.space
    channels, values = ("b", "s", "h_l", "e_k"), ("b", "s", "h_l", "e_l")
    bias = Tensor("dt_bias", ("h_l", "e_k"), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)
    rate = Tensor("A_log", ("h_l",), Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)
    kept = Access(state("delta_state", ("b", "h_l", "e_k", "e_l"), mixed))
    out = Tensor(name, values, Storage.ACTIVATION, space)
    points = (*channels, "e_l")
    work = (Work(points, 1), Work(points, 6, contraction=True), Work(channels, 15), Work(values, 2), Work(("b", "s", "h_l"), 4))
    reads = (Access(mixed), Access(decay), Access(strength), Access(bias), Access(rate), kept)
    return Operator(name, Kind.SCAN, space, work, reads, (Access(out), kept), role=Role.RECURRENCE)


def decayed_sum(name: str, q: Tensor, k: Tensor, v: Tensor) -> Operator:
    """Linear attention with a fixed decay per head: ``S = a S + k v^T``, ``o = S^T q``.

    The decay takes 1 FLOP per element of the state, the outer product's sum and ``S^T q`` take 2 each; queries are scaled (1).

    ========= =====================================================================
    FLOPs     ``5 b s h_l e_k e_l + b s h_l e_k``
    traffic   ``(b s h_l (2 e_k + 2 e_l) a + 2 b h_l e_k e_l c) / 8``
    ========= =====================================================================

    Source: Qin et al. (2024), Lightning Attention-2, arXiv:2401.04658, equation 5.
    """
    kept = Access(state("decayed_state", ("b", "h_l", "e_k", "e_l"), v))
    points = ("b", "s", "h_l", "e_k", "e_l")
    work = (Work(points, 1), Work(points, 4, contraction=True), Work(q.axes, 1))
    out = Access(Tensor(name, v.axes, Storage.ACTIVATION, v.space))
    return Operator(name, Kind.SCAN, v.space, work, (Access(q), Access(k), Access(v), kept), (out, kept), role=Role.RECURRENCE)


def matrix_memory(name: str, q: Tensor, k: Tensor, v: Tensor, gates: tuple[Tensor, Tensor]) -> Operator:
    """The matrix memory of xLSTM: ``C = f C + i k v^T``, ``n = f n + i k``, ``h = C^T q / max(|n^T q|, exp(-m))``, per head.

    Gates are exponential; m, the largest exponent so far, keeps them in range, and is part of the state. The decay takes 1 FLOP per
    element of C, the outer product's sum and ``C^T q`` take 2 each. Per component of a key: queries are scaled (1), keys gated (1), n
    decays and grows (2), ``n^T q`` (2); per component of a value a division. Per head and token two soft caps (6), a log-sigmoid (5),
    the maximum and three exponentials with their sums (8), and the denominator (3).

    ========= ================================================================================================
    FLOPs     ``5 b s h_l e_k e_l + 6 b s h_l e_k + b s h_l e_l + 22 b s h_l``
    traffic   ``(b s h_l (2 e_k + 2 e_l + 2) a + 2 b h_l (e_k e_l + e_k + 1) c) / 8``
    ========= ================================================================================================

    Parameters
    ----------
    gates : input gate and forget gate of every head and token, before their functions. Axis "memory" counts C, n and m of a head.

    Source: Beck et al. (2025), xLSTM 7B, arXiv:2503.13427, equations 2 to 8.
    """
    kept = Access(state("memory_state", ("b", "h_l", "memory"), v))
    points, heads = (*k.axes, "e_l"), ("b", "s", "h_l")
    work = (Work(points, 1), Work(points, 4, contraction=True), Work(k.axes, 4), Work(k.axes, 2, contraction=True))
    work = (*work, Work(v.axes, 1), Work(heads, 22, exponentials=4))
    out = Access(Tensor(name, v.axes, Storage.ACTIVATION, v.space))
    reads = (Access(q), Access(k), Access(v), *map(Access, gates), kept)
    return Operator(name, Kind.SCAN, v.space, work, reads, (out, kept), role=Role.RECURRENCE)


def token_shift(name: str, x: Tensor, mixtures: str) -> Operator:
    """Mixtures of every token with the one before, ``m x + (1 - m) x_before`` with m per channel, for several readers at once.

    The last token of every sequence is stored for the next step.

    ========= ==========================================================
    FLOPs     ``3 b s mixtures d``
    traffic   ``(b s d a + b s mixtures d a + mixtures d w + 2 b d c) / 8``
    ========= ==========================================================

    Source: Peng et al. (2023), RWKV, arXiv:2305.13048, equations 11 to 15.
    """
    kept = Access(state(f"{name}_state", ("b", "d"), x))
    learned = Access(Tensor(f"{name}.weight", (mixtures, "d"), Storage.WEIGHT, x.space, parameter=Parameter.RECURRENCE))
    out = Tensor(name, ("b", "s", mixtures, "d"), Storage.ACTIVATION, x.space)
    return Operator(
        name, Kind.ELEMENTWISE, x.space, (Work(out.axes, 3),), (Access(x), learned, kept), (Access(out), kept), role=Role.RECURRENCE
    )


def decayed_average(name: str, k: Tensor, v: Tensor) -> Operator:
    """RWKV-4's WKV: per channel an average of all earlier values with weights ``exp(k)`` that decay, and one of its own for the last.

    ``wkv = (p + exp(u + k) v) / (q + exp(u + k))``, then ``p = exp(-w) p + exp(k) v``, ``q = exp(-w) q + exp(k)``; the largest exponent
    so far keeps both in range, and is part of the state. Reading takes 12 FLOPs per channel (a sum, a maximum, two exponentials with
    their differences, 3 + 2, a division), the update 11, and every step the decay of a channel 2.

    ========= ================================================================
    FLOPs     ``23 b s d_i + 2 d_i``
    traffic   ``(3 b s d_i a + 2 d_i w + 6 b d_i c) / 8``
    ========= ================================================================

    Source: Peng et al. (2023), RWKV, arXiv:2305.13048, equations 19 to 22; Transformers' rwkv_linear_attention_cpu.
    """
    space, channels = v.space, ("d_i",)
    learned = tuple(
        Access(Tensor(part, channels, Storage.WEIGHT, space, parameter=Parameter.RECURRENCE)) for part in ("time_decay", "time_first")
    )
    kept = Access(state("average_state", ("b", "three", "d_i"), v))
    work = (Work(v.axes, 23, exponentials=4), Work(channels, 2, exponentials=1))
    out = Access(Tensor(name, v.axes, Storage.ACTIVATION, space))
    return Operator(name, Kind.SCAN, space, work, (Access(k), Access(v), *learned, kept), (out, kept), role=Role.RECURRENCE)
