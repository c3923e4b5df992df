"""Crossovers in letters and in numbers, beside the same question put to `sympy.solve`."""

from __future__ import annotations

import pytest
from sympy import Symbol, solve

import symroof
from symroof import symbols

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
STEP = symroof.load_model("llama-2-7b").decode(symbolic=True)
PAIRS = [
    (operator.name, x)
    for operator, _ in STEP
    for x in sorted(operator.flop_count.free_symbols | operator.byte_count().free_symbols | {symbols.P, symbols.BW}, key=str)
    if isinstance(x, Symbol)
]


@pytest.mark.benchmark(group="all operators of Llama-2-7b in all their variables, in letters")
def test_symroof_in_letters(benchmark) -> None:
    def run() -> int:
        return sum(symroof.crossover(STEP, name, over=x.name).solution is not None for name, x in PAIRS)

    assert benchmark(run) == len(PAIRS)


@pytest.mark.benchmark(group="all operators of Llama-2-7b in all their variables, in letters")
def test_sympy_solve_in_letters(benchmark) -> None:
    """The roots alone: `solve` gives no condition, and no word where there is no crossing."""

    def run() -> int:
        slacks = {name: STEP[name].flop_count * symbols.BW - STEP[name].byte_count() * symbols.P for name, _ in PAIRS}
        return sum(solve(slacks[name], x) is not None for name, x in PAIRS)

    assert benchmark.pedantic(run, rounds=3) == len(PAIRS)


@pytest.mark.benchmark(group="one crossover on a device")
def test_symroof_on_a_device(benchmark) -> None:
    step, device = symroof.load_model("llama-2-7b").decode(**WIDTHS), symroof.load_hardware("a100-sxm-80gb")
    assert benchmark(lambda: symroof.crossover(step, "up_proj", over="batch", hardware=device).value_expr) == benchmark_value()


@pytest.mark.benchmark(group="one crossover on a device")
def test_sympy_solve_on_a_device(benchmark) -> None:
    device = symroof.load_hardware("a100-sxm-80gb")
    operator = symroof.load_model("llama-2-7b").decode(**WIDTHS)["up_proj"]
    slack = operator.flop_count * device.bandwidth_figure.value - operator.byte_count() * device.peak("fp16").magnitude
    assert benchmark(lambda: solve(slack, symbols.b)[0]) == benchmark_value()


def benchmark_value():
    return symroof.crossover(
        symroof.load_model("llama-2-7b").decode(**WIDTHS), "up_proj", over="batch", hardware="a100-sxm-80gb"
    ).value_expr
