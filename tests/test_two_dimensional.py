"""Weights split along both dimensions: against grids of devices that send their parts, and scans over all parts."""

from __future__ import annotations

import functools
import itertools

import pytest
from sympy import Integer, Rational, divisors

import symroof
from symroof import symbols


@functools.cache
def split(model: str, devices: int, axes: int = 3) -> symroof.TwoDimensional:
    context = 512
    step = symroof.load_model(model).decode(batch=64, seq_len=context, activation_bits=16)
    return symroof.two_dimensional(step, devices=devices, axes=axes, link="90 GB/s")


def sent(inputs: int, inner: int, outputs: int, x: int, y: int) -> Rational:
    """Elements that the busiest device of a grid sends, counted one by one over rings.

    Device (i, j) begins with part j of the inputs of row i. It gathers the row's inputs, adds up its inner activations over the
    column, and scatters its outputs over the row.
    """
    gather = sum(Rational(inputs, x * y) for _ in range(y - 1))
    reduce = sum(Rational(inner, y * x) for _ in range(2 * (x - 1)))
    scatter = sum(Rational(outputs, x * y) for _ in range(y - 1))
    return gather + reduce + scatter


@pytest.mark.parametrize(("x", "y"), [(1, 8), (2, 4), (4, 2), (8, 1), (3, 5)])
def test_a_device_sends_what_rings_send(x: int, y: int) -> None:
    found = split("opt-66b", x * y)
    assert found.traffic_expr(x, y) == sent(found.input_expr, found.inner_expr, found.output_expr, x, y)


@pytest.mark.parametrize(("model", "matrices"), [("opt-66b", 1), ("gpt2", 1), ("llama-3-70b", 2)])
def test_the_threshold_is_the_book_s_for_two_matrices_and_twice_that_with_a_gate(model: str, matrices: int) -> None:
    found, loaded = split(model, 64), symroof.load_model(model)
    ratio = Rational(loaded.dimensions[symbols.f], loaded.dimensions[symbols.d])
    assert found.threshold_expr == 32 * matrices * ratio * Rational(3, 4) ** 2
    rows = 64 * loaded.layers * 2
    assert (found.input_expr, found.output_expr) == (rows * loaded.dimensions[symbols.d],) * 2
    assert found.inner_expr == matrices * rows * loaded.dimensions[symbols.f]


@pytest.mark.parametrize("devices", [16, 60, 64, 72, 128, 4096])
def test_the_best_parts_are_those_of_a_scan(devices: int) -> None:
    found = split("opt-66b", devices)
    every = {x: found.time_expr(x, devices // x) for x in divisors(devices)}
    assert every[found.parts[0]] == min(every.values())
    assert found.parts[0] * found.parts[1] == devices
    low, high = (found.time_expr(int(found.input_parts_expr) + more, 10**9) for more in (0, 1))
    assert low > high, "the fewer parts, the more each sends, with the other dimension fixed"


def test_for_many_devices_the_time_tends_to_the_formula_and_halves_with_four_times_as_many() -> None:
    ratios = [float(split("opt-66b", 4**power).time_expr(*split("opt-66b", 4**power).parts)) for power in (8, 9, 10, 11)]
    assert all(second / first == pytest.approx(0.5, rel=0.02) for first, second in itertools.pairwise(ratios))
    far = split("opt-66b", 2 * 4**13)
    assert far.input_parts_expr == Integer(2) ** 12
    assert float(far.time_expr(*far.parts) / far.limit_time_expr) == pytest.approx(1, rel=1e-3)
    assert far.formula.subs(symbols.n_g, far.devices) == far.limit_time_expr


def test_it_pays_from_the_first_power_of_two_and_never_before() -> None:
    found = split("opt-66b", 64)

    def pays(devices: int) -> bool:
        best = min(found.time_expr(x, devices // x) for x in divisors(devices))
        return bool(best < found.one_dimensional_time_expr(devices))

    first = next(devices for devices in range(2, 200) if pays(devices))
    assert [pays(2**power) for power in range(1, 9)] == [2**power >= found.first_power for power in range(1, 9)]
    assert first <= found.first_power == 64 < found.threshold
    assert all(pays(devices) for devices in range(144, 400, 12))


def test_over_one_shared_link_it_pays_from_other_numbers() -> None:
    found = split("opt-66b", 64, axes=1)
    assert found.rings == (1, 1)
    assert found.threshold_expr == 16
    assert found.one_dimensional_time_expr() == 3 * split("opt-66b", 64).one_dimensional_time_expr()


STEP = symroof.load_model("opt-125m").decode(batch=8, seq_len=100, activation_bits=16)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda: symroof.two_dimensional(STEP, devices=0, link="1 GB/s"), "devices 0: expected a whole number from 1 to"),
        (lambda: symroof.two_dimensional(STEP, devices=4, axes=1.5, link="1 GB/s"), r"axes 1.5: expected a whole number"),
        (lambda: symroof.two_dimensional(STEP, devices=4, link=0), "link '0': expected a number above 0"),
        (lambda: symroof.two_dimensional(STEP.without("batch"), devices=4, link=1), "give b: traffic is numeric"),
        (
            lambda: symroof.two_dimensional(symroof.load_model("mixtral-8x7b-v0.1").decode(batch=8, seq_len=9), devices=4, link=1),
            "has routed experts",
        ),
        (lambda: symroof.two_dimensional(STEP.apply("tensor-parallel:degree=2"), devices=4, link=1), "tensor-parallel spreads the step"),
        (lambda: symroof.two_dimensional(symroof.load_model("mamba-130m").decode(batch=8), devices=4, link=1), "no feed-forward layers"),
    ],
)
def test_bad_input_is_one_line(ask, match: str) -> None:
    with pytest.raises(symroof.InputError, match=match) as error:
        ask()
    assert "\n" not in str(error.value)


def test_a_deployment_shares_its_link_among_the_rings() -> None:
    on = STEP.on("h100-sxm")
    link = on.device.links[0].one_way.exact
    assert [on.two_dimensional(devices=8, axes=axes).link_expr for axes in (1, 3)] == [link, link / 3]
    assert on.two_dimensional(devices=8, axes=3, link="5 GB/s").link_expr == 5 * 10**9
