"""FLOPs of ATen operators without a contraction, as the library counts its own; and those that only move data."""

from __future__ import annotations

from symroof.operators.attention import FLOPS_PER_SCORE
from symroof.operators.elementwise import ACTIVATION_FLOPS, FLOPS_PER_ELEMENT, Norm


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ELEMENTWISE = {"addcmul": 2, "addcdiv": 2, "lerp": 3, "softplus": 3, "hardtanh": 2, "clamp": 2, "leaky_relu": 2, "elu": 3}
ELEMENTWISE |= {"hardsigmoid": 4, "hardswish": 5, "mish": 6, "log_sigmoid": 3, "glu": ACTIVATION_FLOPS["sigmoid"] + 1}
ELEMENTWISE |= {name: ACTIVATION_FLOPS[name] for name in ("relu", "silu", "gelu", "sigmoid")}
"""FLOPs per element of the result; any other operator that PyTorch calls pointwise has 1: sums, products, powers, roots, cosines."""

REDUCTIONS = dict.fromkeys(_names("sum mean amax amin max min prod cumsum cumprod norm linalg_vector_norm"), 1)
REDUCTIONS |= dict.fromkeys(_names("avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d max_pool1d max_pool2d"), 1)
REDUCTIONS |= dict.fromkeys(_names("index_add scatter_add scatter_reduce index_reduce"), 1) | dict.fromkeys(_names("var std logsumexp"), 4)
"""FLOPs per element that is read: of the first tensor, or of those added where a sum goes to chosen rows."""

SUMMED_INTO = frozenset({"index_add", "scatter_add", "scatter_reduce", "index_reduce"})
"""Reductions of their last tensor into rows of the first."""

SOFTMAX = dict.fromkeys(_names("softmax _softmax log_softmax _log_softmax _safe_softmax"), FLOPS_PER_SCORE)

NORMS = dict.fromkeys(("layer_norm", "native_layer_norm", "group_norm", "native_group_norm"), sum(FLOPS_PER_ELEMENT[Norm.LAYER].values()))
NORMS |= {"instance_norm": NORMS["layer_norm"], "rms_norm": sum(FLOPS_PER_ELEMENT[Norm.RMS].values())}
NORMS |= {"batch_norm": 2, "_native_batch_norm_legit_no_training": 2}
"""FLOPs per element before weight and bias, which add one each; a batch norm subtracts and divides by what it has stored."""

MOVED = _names("""
    alias arange argmax argmin argsort cat clone column_stack constant_pad_nd contiguous copy diagonal empty empty_like expand expand_as eye
    fill flatten flip full full_like gather hstack index index_copy index_fill index_put index_select linspace masked_fill masked_scatter
    movedim narrow new_empty new_full new_ones new_zeros one_hot ones ones_like pad permute pixel_shuffle pixel_unshuffle repeat
    repeat_interleave reshape roll scalar_tensor scatter select select_scatter slice slice_scatter sort split split_with_sizes squeeze stack
    swapaxes t take_along_dim tile to topk transpose tril triu type_as unbind unflatten unfold unsqueeze upsample_nearest1d
    upsample_nearest2d reflection_pad2d view view_as vstack where zero zeros zeros_like _unsafe_view _to_copy numpy_T mT chunk""")
"""Operators without FLOPs: those that arrange data; comparisons (a sort, the largest k) are not counted."""

GATHERS = _names("index index_select gather take_along_dim embedding")
"""Operators that read, of their first tensor, as many elements as they write."""

IDENTITIES = _names("dropout detach alias lift_fresh_copy feature_dropout alpha_dropout")
"""Operators that do nothing in evaluation."""

PRODUCTS = _names("linear matmul mm bmm addmm baddbmm mv dot einsum scaled_dot_product_attention _grouped_mm grouped_mm_fallback")
CONVOLUTIONS = _names("convolution conv1d conv2d conv3d")
TRANSPOSED = _names("conv_transpose1d conv_transpose2d conv_transpose3d")

COUNTED = MOVED | GATHERS | IDENTITIES | PRODUCTS | CONVOLUTIONS | TRANSPOSED
COUNTED |= {*ELEMENTWISE, *REDUCTIONS, *SOFTMAX, *NORMS}
"""Every operator counted by name; others are pointwise, or decomposed by PyTorch into these, or refused."""
