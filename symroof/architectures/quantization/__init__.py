"""Quantized checkpoints: the width and the scales of every module, as their configs state them."""

from symroof.architectures.quantization.checkpoint import Quantization
from symroof.architectures.quantization.read import published_quantization

__all__ = ["Quantization", "published_quantization"]
