"""Formats of quantized weights: bits, and the scales and zero points of groups of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, S

from symroof.architectures.fields import LARGEST

HALF, SINGLE, BYTE = Integer(16), Integer(32), Integer(8)
"""Widths of scales: FP16 or BF16, FP32, and one byte (E4M3 or E8M0)."""


@dataclass(frozen=True)
class GroupScales:
    """A scale, and optionally a zero point, for every group of weights.

    Attributes
    ----------
    group : the number of weights in a group.
    scale, zero : bits of a scale and of a zero point.

    >>> awq = GroupScales(Integer(128), Integer(16), Integer(4))
    >>> awq.per_weight, awq.described
    (5/32, '16 bits of scale and 4 of zero point for every 128')
    """

    group: Expr
    scale: Expr
    zero: Expr = S.Zero

    @property
    def per_weight(self) -> Expr:
        """Bits of scale and zero point per weight: ``(q_s + q_z) / G``."""
        return (self.scale + self.zero) / self.group

    @property
    def described(self) -> str:
        """In words."""
        zero = f" and {self.zero} of zero point" if self.zero != 0 else ""
        return f"{float(self.scale):g} bits of scale{zero} for every {self.group}"


@dataclass(frozen=True)
class Format:
    """How a weight is stored.

    Attributes
    ----------
    bits : nominal width, which decides the peak.
    scales : the scales of groups of weights; None for one scale per row or tensor, which is not counted.

    >>> MXFP4.stored_bits, NVFP4.stored_bits, Format(8).stored_bits
    (17/4, 9/2, 8)
    """

    bits: int
    scales: GroupScales | None = None

    @property
    def beside(self) -> Expr:
        """Bits of scale and zero point per weight."""
        return self.scales.per_weight if self.scales else S.Zero

    @property
    def stored_bits(self) -> Expr:
        """Bits per weight, with its share of the scales."""
        return self.bits + self.beside

    @property
    def described(self) -> str:
        """In words."""
        return f"{self.bits} bits" + (f" and {self.scales.described}" if self.scales else "")


UNQUANTIZED = Format(16)
"""The weights that a quantized checkpoint does not quantize."""

MXFP4, MXFP8 = (Format(bits, GroupScales(Integer(32), BYTE)) for bits in (4, 8))
"""E8M0 scales of 32 elements: OCP Microscaling Formats (MX) Specification, version 1.0 (2023), section 5.2."""

NVFP4 = Format(4, GroupScales(Integer(16), BYTE))
"""E4M3 scales of 16 elements; the FP32 scale of a tensor is not counted. NVIDIA, "Introducing NVFP4 for efficient and accurate
low-precision inference", developer.nvidia.com/blog, 2025."""

NF4_BLOCK = Integer(64)
"""Weights that share a scale in bitsandbytes' 4-bit formats."""

DOUBLE_QUANTIZED = BYTE + SINGLE / 256
"""Bits of such a scale quantized to 8 bits itself, in blocks of 256 with an FP32 scale: Dettmers et al. (2023), QLoRA, arXiv:2305.14314,
section 3."""

AWQ_GROUP = 128
"""The group size of modelopt's AWQ formats if the config does not state it: its INT4_AWQ_CFG."""

DTYPES = {
    **dict.fromkeys(("float8_e4m3fn", "float8_e8m0fnu", "uint8"), BYTE),
    **dict.fromkeys(("bfloat16", "float16"), HALF),
    "float32": SINGLE,
}
"""Widths of the types that compressed-tensors names."""


def is_group(size: Any) -> bool:
    """Whether it is a number of weights that can share a scale."""
    return type(size) is int and 1 <= size <= LARGEST


def grouped(bits: int, size: Any, scale: Expr = HALF, *, zero: bool = False) -> Format:
    """Groups of so many weights; by rows or tensors if the size is none."""
    return Format(bits, GroupScales(Integer(size), scale, Integer(bits if zero else 0)) if is_group(size) else None)


def blocks(bits: int, sides: Any, scale: Expr = SINGLE) -> Format:
    """Blocks of rows and columns with a scale, as DeepSeek-V3's ``weight_scale_inv``; by rows or tensors if there are no sides."""
    two = isinstance(sides, list) and len(sides) == 2 and all(map(is_group, sides))
    return grouped(bits, sides[0] * sides[1] if two else None, scale)


def compressed(scheme: Mapping[str, Any]) -> Format | None:
    """A scheme of compressed-tensors: groups of so many, or blocks of rows and columns; None without a width."""
    bits = scheme.get("num_bits")
    if type(bits) is not int or not 1 <= bits <= UNQUANTIZED.bits:
        return None
    narrow = scheme.get("type") == "float" and bits == NVFP4.bits
    scale = DTYPES.get(str(scheme.get("scale_dtype") or "").rpartition(".")[2], BYTE if narrow else HALF)
    if scheme.get("strategy") == "block":
        return blocks(bits, scheme.get("block_structure"), scale)
    return grouped(bits, scheme.get("group_size"), scale, zero=scheme.get("symmetric") is False)


def _awq(group: Any) -> Format:
    return grouped(4, group if is_group(group) else AWQ_GROUP)


def _nvfp4(group: Any) -> Format:
    return grouped(4, group, BYTE) if is_group(group) else NVFP4


ALGORITHMS = {
    **dict.fromkeys(("FP8", "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PC_PT", "INT8_SQ", "W8A8_SQ_PER_CHANNEL", "W8A16"), lambda _: Format(8)),
    **dict.fromkeys(("FP8_PB_WO", "FP8_PB_REAL", "FP8_BLOCK_SCALES"), lambda _: blocks(8, [128, 128])),
    **dict.fromkeys(("NVFP4", "NVFP4_AWQ", "NVFP4_SVDQUANT", "W4A16_NVFP4", "W4A8_NVFP4_FP8"), _nvfp4),
    **dict.fromkeys(("W4A16", "W4A16_AWQ", "W4A8_AWQ", "INT4_AWQ"), _awq),
    **dict.fromkeys(("MXFP4", "W4A16_MXFP4", "W4A8_MXFP4_FP8"), lambda _: MXFP4),
    **dict.fromkeys(("MXFP8", "W8A8_MXFP8"), lambda _: MXFP8),
}
"""Of NVIDIA's modelopt, by the size of a group. Names: modelopt.torch.export and TensorRT-LLM's QuantAlgo."""
