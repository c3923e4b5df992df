"""Closed forms for the times of measured kernels: the terms that a roofline lacks, from facts of the operator.

Vendor figures: S processors, clock f, peak P, bandwidth BW, exponentials P_x per second; the other constants are fitted
(`symroof.hardware.calibration.CONSTANTS`). ``|x, y|_p = (x^p + y^p)^(1/p)``. F and B are the operator's FLOPs and bytes.

=================== ====================================================================================================
GEMM                ``t_0g + |F / (e_1g P), B / (e_2g BW), K tau_g / f|_p_g``, K the inner dimension: one tile's serial loop
attention, decode   ``t_0d + t_cd [n > 1] + |B / (e_2d BW), ceil(b k n / S) t_1d|_p_d``, with n splits of the context,
                    ``n = min(ceil(t / 128), max(1, floor(S / (b k))))``: one sequence and KV head is a work item
attention, prefill  ``t_0p + B / (e_2p BW) + max(F / (e_1p P) + x_e X / P_x + ceil(b i / S) t_1p, a tile's own + t_1p)``,
                    with X exponentials and i tiles of 128 query rows a sequence
without contraction ``t_0v + max(B / (e_2v BW), ...)``
=================== ====================================================================================================

No time falls below the roofline's: shares are at most 1, and every other ceiling of the operator is in the maximum or the
norm. A norm of roofs leaves their crossovers where they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import cast

from sympy import Add, Expr, Float, Integer, Max, Min, Mul, S, Symbol, ceiling, floor

from symroof import symbols
from symroof.errors import DeviceError
from symroof.hardware.calibration import Kernel, KernelConstants, Trait
from symroof.hardware.machine import Machine
from symroof.operators import Operator, Resource, Role, Storage
from symroof.operators.facts import COMMUNICATION, Kind
from symroof.operators.on_chip import operands, summed_axes

TILE = Integer(128)
"""Query rows of a tile of attention in prefill, and the fewest keys of a split in decode."""

IN_FLIGHT = Integer(15)
"""Bytes per clock that one thread block streams if a context is not split, limited by its bytes in flight (FlashAttention 2)."""

SHARES: Mapping[Kernel, Mapping[Resource, Symbol]] = {
    Kernel.GEMM: {Resource.COMPUTE: symbols.e_1g, Resource.MEMORY: symbols.e_2g},
    Kernel.DECODE: {Resource.MEMORY: symbols.e_2d},
    Kernel.PREFILL: {Resource.COMPUTE: symbols.e_1p, Resource.MEMORY: symbols.e_2p},
    Kernel.VECTOR: {Resource.MEMORY: symbols.e_2v},
}
"""The symbols of the shares of rates that kernels of a class reach."""


def kernel_of(operator: Operator) -> Kernel | None:
    """The class of kernels that runs an operator; None if no such kernel was measured.

    Measured are products of an activation with one whole matrix, and fused attention over separate contexts: one query
    over a whole context, or a whole prompt under a causal mask. Fused products of the same activation count as one product;
    operators fused after it add only their bytes and FLOPs.

    >>> import symroof
    >>> step = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True, flash_attention=True)
    >>> [str(kernel_of(step[name])) for name in ("attn_norm", "q_proj", "fused_attention", "expert_up_proj")]
    ['vector', 'gemm', 'attention-decode', 'None']
    """
    elsewhere = operator.unit is not None or operator.kind in COMMUNICATION or operator.latency != 0
    if elsewhere or operator.occupancy != 1 or operator.passes != 1 or operator.sparse:
        return None
    if operator.contraction_flop_count == 0:
        return Kernel.VECTOR
    if _one_product(operator):
        return Kernel.GEMM
    return _attention(operator) if operator.role is Role.ATTENTION and operator.kind is Kind.FUSED_ATTENTION else None


def _products(operator: Operator) -> tuple[Operator, ...]:
    """The contractions of an operator, or of a fused group."""
    return tuple(member for member in operator.members or (operator,) if member.contraction_flop_count != 0)


def _one_product(operator: Operator) -> bool:
    """Whether the contractions are products of one activation with whole matrices, not a batch of them (by head, by expert)."""
    inputs = set()
    for product in _products(operator):
        pair = operands(product)
        if pair is None or len(pair[1]) != 1:
            return False
        summed, (x, (weight,)) = summed_axes(product), pair
        kept = set(weight.touched) - summed
        if not kept.isdisjoint(x.touched) or not kept <= set(product.written.touched):
            return False
        inputs.add(x.tensor)
    return len(inputs) == 1


def _attention(operator: Operator) -> Kernel | None:
    """The class of attention of an operator whose keys and values are rows of one head, separate for every sequence."""
    space = operator.space
    cached = [access for access in operator.reads if access.tensor.storage is Storage.KV_CACHE]
    if len(cached) != 2 or any(set(access.touched) != {"b", "t", "k", "e"} for access in cached):
        return None
    if space.sizes["s"] == 1:
        return Kernel.DECODE
    return Kernel.PREFILL if space.causal and space.sizes["s"] == space.sizes["t"] and space.band is None else None


@functools.lru_cache(maxsize=1024)
def constants_of(operator: Operator, machine: Machine) -> KernelConstants | None:
    """The constants of the kernel that runs an operator on a calibrated machine; None if none was fitted."""
    if machine.calibration is None:
        return None
    kernel = kernel_of(operator)
    return None if kernel is None else machine.calibration.of(kernel, operator.operand_bits)


def share(constants: KernelConstants | None, resource: Resource) -> Expr:
    """The share of a rate that a kernel reaches; 1 if none was fitted."""
    letter = SHARES[constants.kernel].get(resource) if constants else None
    return constants[letter] if constants and letter else S.One


def latency(operator: Operator, machine: Machine, constants: KernelConstants) -> Expr:
    """Seconds of dependent steps that no rate shortens: a GEMM's loop over its inner dimension, attention's work items.

    Raises
    ------
    DeviceError
        The device states no processors or no clock.
    """
    sizes = operator.space.sizes
    if constants.kernel is Kernel.GEMM:
        product = _products(operator)[0]
        inner = Mul(*(product.space.sizes[axis] for axis in sorted(summed_axes(product))))
        steps = inner * constants[symbols.tau_g]
        return steps / _stated(machine, machine.clock, "clock") if steps != 0 else S.Zero
    if constants.kernel is Kernel.VECTOR:
        return S.Zero
    processors = _stated(machine, machine.processors, "number of processors")
    if constants.kernel is Kernel.DECODE:
        return ceiling(sizes["b"] * sizes["k"] * splits(operator, machine, constants) / processors) * constants[symbols.t_1d]
    return ceiling(sizes["b"] * tiles(operator, constants) / processors) * constants[symbols.t_1p]


def splits(operator: Operator, machine: Machine, constants: KernelConstants) -> Expr:
    """The number of parts into which attention in decode splits a context, to keep all processors busy."""
    sizes = operator.space.sizes
    busy = floor(_stated(machine, machine.processors, "number of processors") / (sizes["b"] * sizes["k"]))
    most = Min(ceiling(sizes["t"] / TILE), Max(1, busy))
    return 1 + _beyond_one(sizes["g"]) * (most - 1) if Trait.GROUPED in constants.traits else most


def tiles(operator: Operator, constants: KernelConstants) -> Expr:
    """Tiles of queries of one sequence, of all heads."""
    sizes = operator.space.sizes
    queries, heads, group = sizes["s"], sizes["k"], sizes["g"]
    if Trait.PACKED in constants.traits:
        return heads * ceiling(queries * group / TILE)
    apart = heads * group * ceiling(queries / TILE)
    if Trait.GROUPED not in constants.traits:
        return apart
    return heads + _beyond_one(queries) * (apart - heads)


def overhead_of(operator: Operator, machine: Machine, constants: KernelConstants) -> Expr:
    """Seconds in addition to work and latency: a launch, and a second kernel if there is one."""
    sizes = operator.space.sizes
    if constants.kernel is Kernel.GEMM:
        return constants[symbols.t_0g]
    if constants.kernel is Kernel.VECTOR:
        return constants[symbols.t_0v]
    copied: Expr = S.Zero
    if Trait.GROUPED in constants.traits:
        copied = Mul(*(_beyond_one(sizes[axis]) for axis in ("b", "k", "g")))
    if constants.kernel is Kernel.DECODE:
        merged = _beyond_one(splits(operator, machine, constants))
        return constants[symbols.t_0d] + constants[symbols.t_cd] * (merged + copied)
    return constants[symbols.t_0p] + constants[symbols.t_cp] * copied * (1 - _beyond_one(sizes["s"]))


def joined(operator: Operator, machine: Machine, constants: KernelConstants, seconds: Mapping[Resource, Expr]) -> Expr:
    """The time of a kernel without its overhead, from its seconds per resource and its latency."""
    if constants.kernel is Kernel.GEMM:
        return norm(constants[symbols.p_g], seconds.values())
    roofs = [taken for resource, taken in seconds.items() if resource is not Resource.LATENCY]
    if constants.kernel is Kernel.VECTOR:
        return largest(roofs)
    sizes, waiting = operator.space.sizes, seconds[Resource.LATENCY]
    if constants.kernel is Kernel.DECODE:
        if Trait.GROUPED in constants.traits:  # one block streams a whole context unless it is split
            blocks = sizes["b"] * sizes["k"] * IN_FLIGHT * _stated(machine, machine.clock, "clock")
            cached = Add(*(access.byte_count for access in operator.reads if access.tensor.storage is Storage.KV_CACHE))
            roofs.append((1 - _beyond_one(sizes["g"])) * cached / blocks)
        return norm(constants[symbols.p_d], (largest(roofs), waiting))
    moved, matrix = seconds.get(Resource.MEMORY, S.Zero), seconds.get(Resource.COMPUTE, S.Zero)
    exposed = constants[symbols.x_e] * seconds.get(Resource.EXPONENTIAL, S.Zero)
    pairs = largest((matrix, exposed)) if Trait.OVERLAPPED in constants.traits else matrix + exposed
    last = TILE * _stated(machine, machine.processors, "number of processors") * sizes["s"] / _pairs(operator)
    others = [taken for resource, taken in seconds.items() if resource not in (Resource.MEMORY, Resource.COMPUTE, Resource.LATENCY)]
    return moved + largest((pairs + waiting, pairs * last + constants[symbols.t_1p], *others))


def _pairs(operator: Operator) -> Expr:
    """Query-key pairs of all heads."""
    return operator.space.points(("b", "k", "g", "s", "t"))


def _beyond_one(count: Expr) -> Expr:
    """1 if a count is more than one, otherwise 0."""
    return Min(1, count - 1)


def _stated(machine: Machine, figure: Expr | None, what: str) -> Expr:
    if figure is None:
        raise DeviceError(f"{machine.described} states no {what}; the forms of calibrated kernels need it")
    return figure


def largest(entries: Iterable[Expr]) -> Expr:
    """The largest entry; a number if all are numbers."""
    known = [*entries]
    numbers = all(entry.is_number for entry in known)
    return max(known) if numbers else Max(*known, evaluate=False)


def norm(exponent: Expr, entries: Iterable[Expr]) -> Expr:
    """``(sum of entry^p)^(1/p)``; numbers are rounded to floats, as the constants are.

    >>> norm(Integer(2), [Integer(3), Integer(4)])
    5.00000000000000
    >>> norm(symbols.p_g, [symbols.T])
    T
    """
    known = [entry for entry in entries if entry != 0]
    if len(known) == 1:
        return known[0]
    if not exponent.is_number:
        return Add(*(entry**exponent for entry in known)) ** (1 / exponent)
    power = float(exponent)
    if all(entry.is_number for entry in known):
        most = float(max(known))
        return cast(Expr, Float(most * sum((float(entry) / most) ** power for entry in known) ** (1 / power)))
    return Add(*(Float(float(entry) ** power) if entry.is_number else entry ** Float(power) for entry in known)) ** Float(1 / power)
