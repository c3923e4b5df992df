"""Further decoders that mix linear and full attention."""

from __future__ import annotations

from typing import Any

from symroof.architectures.families.family import DecoderFamily, only
from symroof.architectures.families.layouts import last_of_each
from symroof.architectures.families.recipes import WITH_BIAS, attention, experts, mlp
from symroof.architectures.families.recurrent import gated_delta
from symroof.architectures.families.sparse import MOE_WIDTH, qwen_shared
from symroof.operators.elementwise import Norm

QWEN3_5: dict[str, Any] = {
    "mixers": last_of_each(4, "full_attention_interval", others="linear", words={"full_attention": "full", "linear_attention": "linear"}),
    "only_understood": {"attn_output_gate": (True, "attention is gated"), "mlp_only_layers": ([], "all layers have the same MLP")},
    "ignored": ("mamba_ssm_dtype", "mtp_use_dedicated_embeddings"),
}


def qwen3_5_mixers(kv_heads: int) -> dict[str, Any]:
    """Gated attention and the gated delta rule."""
    full = attention(kv_heads=kv_heads, head_dim=256, turned="0.25", qk_norm=Norm.RMS, gated=True, **WITH_BIAS)
    return {"full": full, "linear": gated_delta}


HYBRIDS = (
    DecoderFamily(
        "qwen3_5",
        "Qwen team (2026), huggingface.co/Qwen/Qwen3.5-27B; Transformers' Qwen3_5TextConfig",
        {**qwen3_5_mixers(4), "dense": mlp()},
        **QWEN3_5,
    ),
    DecoderFamily(
        "qwen3_5_moe",
        "Qwen team (2026), huggingface.co/Qwen/Qwen3.5-35B-A3B; Transformers' Qwen3_5MoeTextConfig",
        {
            **qwen3_5_mixers(2),
            "moe": experts(width=MOE_WIDTH, named="num_experts", count=256, chosen=8, shared=qwen_shared, shared_gate=True),
        },
        mlps=only("moe"),
        **QWEN3_5,
    ),
)
