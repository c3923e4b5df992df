"""Further decoders with experts in all or most of their layers."""

from __future__ import annotations

from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.layouts import sparse_steps
from symroof.architectures.families.recipes import TIED, WITH_BIAS, attention, experts, mlp
from symroof.architectures.families.sparse import MOE_WIDTH
from symroof.operators.elementwise import Norm

ROUTED = (
    DecoderFamily(
        "qwen3_vl_moe",
        "Qwen team (2025), arXiv:2511.21631; Transformers' Qwen3VLMoeTextConfig",
        {
            "full": attention(kv_heads=16, qk_norm=Norm.RMS, **WITH_BIAS),
            "moe": experts(width=MOE_WIDTH, named="num_experts", count=60, chosen=4),
            "dense": mlp(),
        },
        mlps=sparse_steps,
        attributes={"tied": TIED},
    ),
)
