"""Decoders with a dense MLP whose block is Llama's or Qwen's, changed in a place or two."""

from __future__ import annotations

from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.layouts import used_windows
from symroof.architectures.families.recipes import WITH_BIAS, attention, mlp
from symroof.operators.elementwise import Norm

VARIANTS = (
    DecoderFamily(
        "qwen2_5_vl",
        "Qwen team (2025), arXiv:2502.13923; Transformers' Qwen2_5_VLTextConfig, and Qwen2VLTextConfig before it",
        {"full": attention(kv_heads=8, filled=True, bias=True), "dense": mlp()},
        mixers=used_windows(lambda number, first: number >= first, absent=80),
        window=4096,
    ),
    DecoderFamily(
        "qwen3_vl",
        "Qwen team (2025), arXiv:2511.21631; Transformers' Qwen3VLTextConfig; features of images are added to the first layers' outputs",
        {"full": attention(kv_heads=32, head_dim=128, qk_norm=Norm.RMS, **WITH_BIAS), "dense": mlp()},
    ),
)
