"""The scales of a quantized checkpoint: their widths and group sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Integer, S

from symroof.architectures.fields import LARGEST, Fields

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


MXFP4 = GroupScales(Integer(32), BYTE)
"""E8M0 scales of 32 elements: OCP Microscaling Formats (MX) Specification, version 1.0 (2023), section 5.2."""

NVFP4 = GroupScales(Integer(16), BYTE)
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


def read_scales(fields: Fields, method: str, bits: int) -> GroupScales | None:
    """The scales that a config's quantization implies; None for one scale per row or tensor, or if not stated.

    Parameters
    ----------
    fields : the fields of ``quantization_config``.
    method : the method's name, one with known widths.
    bits : bits of a weight.

    Raises
    ------
    ConfigError
        The group size is invalid.
    """
    if method in FORMATS:
        return FORMATS[method]
    if method in READERS:
        return READERS[method](fields, bits)
    name = fields.named("group_size", "q_group_size")
    if fields.peek(name) in (-1, 0):
        return None
    group = fields.size(name, None)
    return None if group is None else GroupScales(Integer(group), HALF, Integer(bits if _has_zeros(fields, method) else 0))


def _bitsandbytes(fields: Fields, bits: int) -> GroupScales | None:
    scale = DOUBLE_QUANTIZED if fields.peek("bnb_4bit_use_double_quant") is True else SINGLE
    return GroupScales(NF4_BLOCK, scale) if bits == 4 else None


def _fp8(fields: Fields, _: int) -> GroupScales | None:
    """Blocks of rows and columns with an FP32 scale, as DeepSeek-V3's ``weight_scale_inv``."""
    return _block(fields.peek("weight_block_size"), SINGLE)


def _has_zeros(fields: Fields, method: str) -> bool:
    """Whether groups have a zero point: yes unless the config says symmetric, or for AWQ that there is none."""
    return fields.peek("zero_point") is not False if "awq" in method else fields.peek("sym") is False


def _modelopt(fields: Fields, _: int) -> GroupScales | None:
    algorithm = str(fields.peek("quant_algo"))
    stated = fields.peek("group_size") or next((scheme.get("group_size") for scheme in _weight_schemes(fields)), None)
    if algorithm == "NVFP4":
        return GroupScales(Integer(stated), BYTE) if _is_group(stated) else NVFP4
    if "AWQ" in algorithm:
        return GroupScales(Integer(stated if _is_group(stated) else AWQ_GROUP), HALF)
    return None


def _compressed(fields: Fields, bits: int) -> GroupScales | None:
    """Of compressed-tensors: groups of so many, or blocks of rows and columns."""
    scheme = next(iter(_weight_schemes(fields)), {})
    narrow = scheme.get("type") == "float" and bits == 4
    stated = str(scheme.get("scale_dtype") or "").rpartition(".")[2]
    scale = DTYPES.get(stated, BYTE if narrow else HALF)
    if scheme.get("strategy") == "block":
        return _block(scheme.get("block_structure"), scale)
    group = scheme.get("group_size")
    zero = Integer(bits if scheme.get("symmetric") is False else 0)
    return GroupScales(Integer(group), scale, zero) if _is_group(group) else None


def _weight_schemes(fields: Fields) -> list[Mapping[str, Any]]:
    groups = fields.peek("config_groups")
    schemes = [group.get("weights") for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    return [scheme for scheme in schemes if isinstance(scheme, dict)]


def _block(sides: Any, scale: Expr) -> GroupScales | None:
    if not isinstance(sides, list) or len(sides) != 2 or not all(map(_is_group, sides)):
        return None
    return GroupScales(Integer(sides[0] * sides[1]), scale)


def _is_group(size: Any) -> bool:
    return type(size) is int and 1 <= size <= LARGEST


FORMATS = {"mxfp4": MXFP4, "nvfp4": NVFP4}
"""Methods that are one format."""

READERS = {
    **dict.fromkeys(("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"), _bitsandbytes),
    **dict.fromkeys(("fp8", "fbgemm_fp8", "finegrained_fp8"), _fp8),
    "modelopt": _modelopt,
    "compressed-tensors": _compressed,
    "eetq": lambda *_: None,
}
"""Methods whose configs say it each in their own way; a scale per row in eetq. All others name the size of a group."""


def stored_bits(bits: int, scales: GroupScales | None) -> Expr:
    """Bits per weight, with its share of the scales.

    >>> stored_bits(4, MXFP4), stored_bits(4, NVFP4), stored_bits(8, None)
    (17/4, 9/2, 8)
    """
    return Integer(bits) + (scales.per_weight if scales else 0)
