"""The registry: bits are not bytes, GB are not GiB, and a slip raises."""

from __future__ import annotations

from fractions import Fraction

import pint
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Rational, Symbol

import symroof
from symroof.errors import InputError
from symroof.symbols import VOCABULARY, b
from symroof.units import BANDWIDTH, BIT, BYTE, FLOP, RATE, SECOND, Quantity, figure, quantity, ureg

SLIPS = {
    "FLOP + byte": lambda: 1 * FLOP + 1 * BYTE,
    "byte + number": lambda: 1 * BYTE + 3,
    "byte/s + byte": lambda: 1 * BANDWIDTH + 1 * BYTE,
    "FLOP/s compared with byte/s": lambda: 1 * RATE < 1 * BANDWIDTH,
    "bits as seconds": lambda: (1 * BIT).to("second"),
    "byte + symbol": lambda: 1 * BYTE + b,
    "symbol + byte": lambda: b + quantity(b, BYTE),
    "symbol x unit": lambda: b * BYTE,
    "token as request": lambda: ureg.Quantity(1, "token").to("request"),
}


@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS.keys())
def test_slips_raise(slip) -> None:
    with pytest.raises(pint.DimensionalityError):
        slip()


LOSSES = {
    "sqrt": sympy.sqrt,
    "simplify": sympy.simplify,
    "expand": sympy.expand,
    "Max": lambda q: sympy.Max(q, b),
    "lambdify": lambda q: sympy.lambdify(b, q)(1),
    "sympify": sympy.sympify,
}


@pytest.mark.parametrize("function", LOSSES.values(), ids=LOSSES.keys())
def test_sympy_may_not_swallow_a_unit(function) -> None:
    with pytest.raises(sympy.SympifyError, match="would drop its unit"):
        function(quantity(8 * b, BYTE))


def test_substitution_keeps_the_unit() -> None:
    assert quantity(8 * b, BYTE).subs(b, 2) == quantity(16, BYTE)


def test_bits_bytes_and_prefixes() -> None:
    assert (1 * BYTE).to("bit").magnitude == 8
    assert ureg.Quantity(1, "GiB").to("byte").magnitude == 2**30
    assert ureg.Quantity(1, "GB").to("byte").magnitude == 10**9
    assert ureg.Quantity(Fraction(1), "GB").to("GiB").magnitude == Fraction(10**9, 2**30)


def test_conversion_is_exact() -> None:
    ridge = quantity(figure("989 TFLOP/s", RATE), RATE) / quantity(figure("3350 GB/s", BANDWIDTH), BANDWIDTH)
    assert ridge.to("FLOP/byte").magnitude == Rational(19780, 67)


@given(st.integers(1, 10**9), st.sampled_from(["kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "bit"]))
def test_figures_are_read_exactly(number: int, unit: str) -> None:
    size = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "bit": Rational(1, 8)}[unit]
    assert figure(f"{number} {unit}", BYTE) == number * size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80", "'80' is not a number and a unit such as '80 GB'"),
        ("80 GBs", "'80 GBs': 'GBs' is not a unit known here; write it like '80 GB'"),
        ("80 GB/s", "'80 GB/s' is not in byte; write it like '80 GB'"),
        ("2**3 GB", "is not a number and a unit"),
        ("-80 GB", "is not a number and a unit"),
        ("nan GB", "is not a number and a unit"),
        (80, "80 is not a number and a unit"),
    ],
)
def test_a_bad_figure_is_quoted(text, message: str) -> None:
    with pytest.raises(InputError) as error:
        figure(text, BYTE)
    assert message in str(error.value)


def test_every_symbol_is_positive_and_has_a_known_unit() -> None:
    assert len({variable.name for variable in VOCABULARY.values()}) == len(VOCABULARY)
    for symbol, variable in VOCABULARY.items():
        assert symbol == Symbol(symbol.name, positive=True)
        assert symbol.is_integer is None, "an integer symbol makes solve drop roots"
        assert ureg.parse_units(variable.unit) is not None
        assert variable.domain in ("integer", "real")


def test_rate_times_time_is_work() -> None:
    assert (3 * RATE * (2 * SECOND)).to("FLOP").magnitude == 6


@pytest.mark.parametrize("arguments", [({"b": 2},), ({Symbol("b"): 2},), (b, "__import__('os').getcwd()"), ("b", 2)])
def test_substitution_takes_no_text_and_no_stranger(arguments: tuple[object, ...]) -> None:
    """Sympy would evaluate text as code, and leave a symbol of another making alone without a word."""
    with pytest.raises(InputError, match="subs of"):
        quantity(8 * b, BYTE).subs(*arguments)


@pytest.mark.parametrize("target", ["5 ms", Quantity(5, "ms"), Quantity(Rational(1, 200), "s"), 0.005, Rational(1, 200)])
def test_a_target_is_a_number_a_quantity_or_text(target: object) -> None:
    step = symroof.load_model("opt-125m").decode(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    answer = symroof.required(step, over="bandwidth", hardware="t4", target_time=target)
    assert answer.time == Rational(1, 200)


@pytest.mark.parametrize("capacity", ["48 GB", Quantity(48, "GB"), Quantity(48 * 10**9, "byte"), 48 * 10**9, Integer(48 * 10**9)])
def test_a_capacity_is_a_number_a_quantity_or_text(capacity: object) -> None:
    step = symroof.load_model("llama-2-13b").decode(seq_len=2048, accounting="survey", weight_bits=8, activation_bits=8, kv_bits=8)
    assert symroof.largest(step, capacity=capacity).integer == 42


@pytest.mark.parametrize("wrong", ["5 GB", Quantity(5, "GB"), "five", True, -1, 0, [5], Quantity(-5, "ms")])
def test_what_is_no_time_is_refused_in_a_line(wrong: object) -> None:
    step = symroof.load_model("opt-125m").decode(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    with pytest.raises(InputError) as caught:
        symroof.required(step, over="bandwidth", hardware="t4", target_time=wrong)
    assert "\n" not in str(caught.value)
