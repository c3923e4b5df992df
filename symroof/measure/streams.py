"""STREAM-like passes over memory as operators, with bytes and FLOPs derived from their tensors.

========= =============== ================ ==========
copy      ``a = b``       1 read, 1 write  0 FLOP
scale     ``a = c b``     1 read, 1 write  1 FLOP
add       ``a = b + d``   2 read, 1 write  1 FLOP
triad     ``a = b + c d`` 2 read, 1 write  2 FLOP
read      ``max(b)``      1 read           1 FLOP
========= =============== ================ ==========

per element. Write-allocate reads are not counted, as in STREAM.

Source: McCalpin (1995), "Memory bandwidth and machine balance in current high performance computers", IEEE TCCA Newsletter.
"""

from __future__ import annotations

from sympy import Integer

from symroof.operators import Storage
from symroof.operators.facts import Kind
from symroof.operators.linear import linear
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Space, Tensor, axes_of

ARRAYS = {"copy": (1, 1, 0), "scale": (1, 1, 1), "add": (2, 1, 1), "triad": (2, 1, 2), "read": (1, 0, 1)}
"""Arrays read and written, and FLOPs per element."""


def stream(function: str, elements: int, bits: int, passes: int = 1) -> Operator:
    """An operator of *passes* passes over arrays of *elements* elements.

    >>> triad = stream("triad", 1000, 32)
    >>> triad.flop_count, triad.byte_count()
    (2000, 12000)
    >>> stream("read", 1000, 64, passes=3).byte_count()
    24008
    """
    reads, writes, flops = ARRAYS[function]
    space = Space({"n": Integer(elements), "p": Integer(passes)})
    width, often = Integer(bits), Integer(passes)
    arrays = [Access(Tensor(f"array_{place}", ("n",), Storage.ACTIVATION, space, width), repeats=often) for place in range(reads + writes)]
    result = arrays[reads:] or [Access(Tensor("largest", (), Storage.ACTIVATION, space, width))]
    work = (Work(axes_of("p n"), flops),)
    return Operator(function, Kind.ELEMENTWISE, space, work, tuple(arrays[:reads]), tuple(result), function=function)


def working_set(operator: Operator) -> int:
    """Bytes of all tensors that an operator touches, each counted once."""
    tensors = dict.fromkeys(access.tensor for access in (*operator.reads, *operator.writes))
    return int(sum(tensor.byte_count for tensor in tensors))


def elements_for(function: str, bytes_: int, bits: int) -> int:
    """Elements per array such that all arrays together take at most *bytes_* bytes."""
    reads, writes, _ = ARRAYS[function]
    return max(1, (8 * bytes_ // bits - (writes == 0)) // (reads + writes))


def square_product(size: int, bits: int) -> Operator:
    """The product of two square matrices.

    >>> square_product(10, 64).flop_count
    2000
    """
    space = Space({axis: Integer(size) for axis in "sdf"})
    x = Tensor("x", axes_of("s d"), Storage.ACTIVATION, space, Integer(bits))
    y = Tensor("y", axes_of("s f"), Storage.ACTIVATION, space, Integer(bits))
    weight = Tensor("weight", axes_of("d f"), Storage.WEIGHT, space, Integer(bits))
    return linear("product", "s d, d f -> s f", x, weight=weight, into=y)
