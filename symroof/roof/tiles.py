"""Whether the tiles of FlashAttention fit on chip."""

from __future__ import annotations

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.operators.attention import tile_bytes
from symroof.operators.facts import Role
from symroof.operators.operator import Operator
from symroof.symbols import Values, substitute


def on_chip(step: Step) -> dict[Operator, Expr]:
    """Bytes of on-chip memory that the tiles of every fused attention take, in letters; none where no tile was given.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(symroof.technique("flash-attention:rows=128,keys=64"))
    >>> [str(need) for need in on_chip(step).values()]
    ['B_c*c*e/4 + B_r*a*e/4']
    """
    definitions = step.symbolic.definitions
    used = set(definitions).union(*(definition.free_symbols for definition in definitions.values()))
    if symbols.B_r not in used:
        return {}
    attention = (operator for operator, _ in step.symbolic if operator.role is Role.ATTENTION)
    return {operator: tile_bytes(operator, symbols.B_r, symbols.B_c).expand() for operator in attention}


def check_tiles(step: Step, device: Device | None, values: Values) -> None:
    """Raise where the tiles take more than the device's on-chip memory, as far as the numbers are known.

    Raises
    ------
    InputError
        They do; the message says how much, and the most rows that fit.
    """
    if device is None or device.buffer is None:
        return
    known = {symbols.B_c: Integer(1), **step.symbolic.definitions, **values}  # a row of keys is the least there can be
    for operator, formula in on_chip(step).items():
        need = substitute(formula, known)
        if need.is_number and need > device.buffer:
            sides = " x ".join(str(substitute(side, known)) for side in (symbols.B_r, symbols.B_c) if side in formula.free_symbols)
            raise InputError(
                f"{operator.name}: tiles of {sides} rows take {need} byte = {formula} on chip; {device.name} has {device.buffer}: expected "
                "fewer rows or keys"
            )
