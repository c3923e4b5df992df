"""Rates and capacities of a device, and the constants of its calibrated kernels."""

from __future__ import annotations

from symroof.vocabulary import factor as _factor
from symroof.vocabulary import share as _share
from symroof.vocabulary import variable as _variable

P = _variable("P", "peak", "peak performance that applies", "FLOP/second", "real")
BW = _variable("BW", "bandwidth", "memory bandwidth", "byte/second", "real")
M = _variable("M", "buffer", "on-chip memory that holds one kernel's tiles", "byte", "real")
R = _variable("R", "positions_per_read", "query positions of FlashAttention that share a read of keys and values", domain="real")
P_v = _variable("P_v", "vector_peak", "peak performance of the vector units", "FLOP/second", "real")
P_x = _variable("P_x", "exponential_rate", "exponentials per second", "1/second", "real")
BW_L = _variable("BW_L", "cache_bandwidth", "bandwidth of the last-level cache", "byte/second", "real")
M_L = _variable("M_L", "last_level_cache", "last-level cache that all processors of a device share", "byte", "real")

# of calibrated kernels: GEMM (g), attention in decode (d) and in prefill (p), operators without a contraction (v)
f_c = _variable("f_c", "clock", "clock behind the stated peaks", "1/second", "real")
t_0g = _variable("t_0g", "gemm_overhead", "time a GEMM takes in addition to its work", "second", "real")
e_1g = _share("e_1g", "gemm_compute_share", "share of the peak that a GEMM reaches")
e_2g = _share("e_2g", "gemm_memory_share", "share of the memory bandwidth that a GEMM reaches")
tau_g = _factor("tau_g", "gemm_step_clocks", "clocks that a step of a GEMM's inner dimension takes one tile")
p_g = _factor("p_g", "gemm_exponent", "exponent of the norm that joins the times of a GEMM")
t_0d = _variable("t_0d", "decode_overhead", "time attention takes in decode in addition to its work", "second", "real")
e_2d = _share("e_2d", "decode_memory_share", "share of the memory bandwidth that attention reaches in decode")
t_1d = _variable("t_1d", "decode_item_time", "time a KV head of a sequence takes a processor in decode, however short", "second", "real")
t_cd = _variable("t_cd", "decode_second_kernel", "time of a second kernel of attention in decode: it merges or copies", "second", "real")
p_d = _factor("p_d", "decode_exponent", "exponent of the norm that joins the times of attention in decode")
t_0p = _variable("t_0p", "prefill_overhead", "time attention takes in prefill in addition to its work", "second", "real")
e_1p = _share("e_1p", "prefill_compute_share", "share of the peak that attention reaches in prefill")
e_2p = _share("e_2p", "prefill_memory_share", "share of the memory bandwidth that attention reaches in prefill")
x_e = _factor("x_e", "exposed_exponentials", "share of the time of exponentials that matrix products do not hide, in prefill")
t_1p = _variable("t_1p", "prefill_item_time", "time a tile of queries takes a processor in prefill, however short", "second", "real")
t_cp = _variable("t_cp", "prefill_second_kernel", "time of a second kernel of attention in prefill: it copies", "second", "real")
t_0v = _variable("t_0v", "vector_overhead", "time an operator without a contraction takes in addition to its work", "second", "real")
e_2v = _share("e_2v", "vector_memory_share", "share of the memory bandwidth that an operator without a contraction reaches")
