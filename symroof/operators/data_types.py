"""The data types of compute units, and which of them an operator can run in."""

from __future__ import annotations

import functools

BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp6": 6, "fp4": 4, "int4": 4}
"""Bits an operand occupies in memory; tf32 reads operands of 32 bits and multiplies 19 of them."""

REDUCED = frozenset({"tf32"})
"""Types that drop bits of what they read; never chosen unasked."""

WIDEST = max(BITS.values())


@functools.cache
def wide_enough(bits: int | float) -> tuple[str, ...]:
    """The data types that hold operands of so many bits without loss of width, narrowest first.

    >>> wide_enough(16)
    ('fp16', 'bf16', 'fp32', 'fp64')
    >>> wide_enough(5)
    ('fp6', 'fp8', 'int8', 'fp16', 'bf16', 'fp32', 'fp64')
    """
    return tuple(sorted((name for name, width in BITS.items() if width >= bits and name not in REDUCED), key=BITS.__getitem__))
