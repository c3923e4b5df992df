"""The settings of the survey's figures (arXiv 2402.16363v6 and its notebooks), each once."""

from __future__ import annotations

from typing import Any

from symroof.architectures.model import load_model
from symroof.architectures.step import Step

A6000 = "survey/nvidia_A6000"
MODEL = "llama-2-13b"

WIDTHS = {
    "FP16": (16, 16, 16),
    "W8": (8, 16, 16),
    "W4": (4, 16, 16),
    "W2": (2, 16, 16),
    "W1": (1, 16, 16),
    "KV4": (16, 16, 4),
    "KV2": (16, 16, 2),
    "W4KV4": (4, 16, 4),
    "W4A4": (4, 4, 4),
    "W8A8": (8, 8, 8),
}
"""Bits of weights, activations and KV cache; in Figure 7 W4A4 has its KV cache at 4 bits too."""


def step(phase: str, accounting: str, widths: str = "FP16", model: str = MODEL, **inputs: Any) -> Step:
    """One step in the survey's terms."""
    bits = dict(zip(("weight_bits", "activation_bits", "kv_bits"), WIDTHS[widths], strict=True))
    return getattr(load_model(model), phase)(accounting=accounting, **bits, **inputs)
