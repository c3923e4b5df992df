"""The registry: bits are not bytes, GB are not GiB, and a slip raises."""

from __future__ import annotations

import copy
import keyword
import pickle
from fractions import Fraction

import pint
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Rational, Symbol

import symroof
from symroof.errors import InputError
from symroof.symbols import BW, VOCABULARY, b, d
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
    """Sympy would evaluate text as code, and leave a foreign symbol alone without a word."""
    with pytest.raises(InputError, match="subs of"):
        quantity(8 * b, BYTE).subs(*arguments)


@pytest.mark.parametrize("target", ["5 ms", Quantity(5, "ms"), Quantity(Rational(1, 200), "s"), 0.005, Rational(1, 200)])
def test_a_target_is_a_number_a_quantity_or_text(target: object) -> None:
    step = symroof.load_model("opt-125m").decode(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    answer = symroof.required(step, over="bandwidth", hardware="t4", target_time=target)
    assert answer.time_expr == Rational(1, 200)


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


WRITTEN = {
    "44.24 us": Quantity(Rational(176187, 3982421875), "s"),
    "1 ms": Quantity(Rational(99999, 10**8), "s"),
    "0 s": Quantity(0, "s"),
    "3600 s": Quantity(3600, "s"),
    "7.008 ms": Quantity(0.0070076, "s"),
    "312 TFLOP/s": Quantity(312 * 10**12, "FLOP/s"),
    "13.21 GB": Quantity(13210000000, "byte"),
    "512 B": Quantity(512, "byte"),
    "0.5 B": Quantity(Rational(1, 2), "byte"),
    "295.2 FLOP/byte": Quantity(Rational(19780, 67), "FLOP/byte"),
    "5461 FLOP/byte": Quantity(Rational(16384, 3), "FLOP/byte"),
    "64 KiB": Quantity(64, "KiB"),
    "12.31 GiB": Quantity(13215000000, "byte").to("GiB"),
    "80000 MB": Quantity(80000, "MB"),
    "400 W": Quantity(400, "W"),
    "30 pJ/byte": Quantity(Rational(30, 10**12), "J/byte"),
    "142.7/s": Quantity(142.7, "1/s"),
    "16 bit": Quantity(16, "bit"),
    "161.3": Quantity(Rational(1613, 10)),
    "138135": Quantity(138135),
    "8755.6": Quantity(Rational(78800, 9)),
    "141.4 FLOP": Quantity(100 * sympy.sqrt(2), "FLOP"),
    "(b + d)/8 byte": Quantity(b / 8 + d / 8, "byte"),
    "(2*b + 4*d) byte": Quantity(2 * b + 4 * d, "byte"),
    "inf FLOP/byte": Quantity(sympy.oo, "FLOP/byte"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_quantities_print_as_people_write_them(text: str) -> None:
    assert str(WRITTEN[text]) == f"{WRITTEN[text]}" == text
    assert repr(WRITTEN[text]) == f"<Quantity {text}>"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        *((".3g", "44.2 us"), (".2f", "44.24 us"), (".0f", "44 us"), (">10.3g", "   44.2 us"), ("+.1f", "+44.2 us"), (".2e", "4.42e-05 s")),
        *(("~P", "176187/3982421875 s"), (".3f~P", "0.000 s"), ("C", "176187/3982421875 second")),
    ],
)
def test_quantities_take_the_formats_of_numbers_and_of_pint(spec: str, text: str) -> None:
    assert format(Quantity(Rational(176187, 3982421875), "s"), spec) == text


@pytest.mark.parametrize(("value", "spec"), [(Quantity(3, "s"), "%"), (Quantity(Rational(1, 2)), "d"), (Quantity(3, "s"), "q")])
def test_a_format_that_makes_no_sense_is_refused_in_a_line(value, spec: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*expected|none$"):
        format(value, spec)


@given(st.fractions(min_value=Fraction(1, 10**12), max_value=10**18), st.sampled_from(["s", "byte", "FLOP/s", "W", "1/s"]))
def test_what_is_printed_is_the_value_to_four_digits(number: Fraction, unit: str) -> None:
    text = str(Quantity(number, unit))
    digits, _, symbol = text.replace("/s", " 1/s", 1).partition(" ") if unit == "1/s" and " " not in text else text.partition(" ")
    if unit == "1/s" and symbol[0] in "kMGTPE":
        digits, symbol = str(float(digits) * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}[symbol[0]]), "1/s"
    read = Quantity(Fraction(digits), symbol).to(unit).magnitude
    assert abs(read - number) <= number / 1900, text


def test_a_pickled_or_copied_quantity_is_one_of_the_same_registry() -> None:
    for value in WRITTEN.values():
        for twin in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value), value * 2 / 2, +value):
            assert type(twin) is type(value)
            assert twin == value
            assert twin + value == 2 * value


def test_magnitudes_are_exact_on_request() -> None:
    time = Quantity(Rational(176187, 3982421875), "s")
    assert (time.exact, time.to("us").exact, Quantity(0.1, "s").exact) == (
        time.magnitude,
        time.magnitude * 10**6,
        Rational(1, 10),
    )
    assert time < Quantity(1, "ms")
    assert (time < Quantity(1, "ms")) is True
    assert (float(Quantity(Rational(1, 4))), int(Quantity(162)), round(Quantity(Rational(22, 7), "s"), 2)) == (
        0.25,
        162,
        Quantity(Rational(157, 50), "s"),
    )
    with pytest.raises(pint.DimensionalityError):
        float(time)


def test_a_notebook_typesets_quantities() -> None:
    assert Quantity(2 * b * d / BW, "byte")._repr_latex_() == r"$\displaystyle \frac{2 b d}{\mathrm{BW}}\ \mathrm{byte}$"
    assert Quantity(Rational(1, 4000), "s")._repr_latex_() == r"$250\ \mathrm{\mu s}$"
    assert Quantity(162)._repr_latex_() == "$162$"
    assert Quantity(10**20)._repr_latex_() == r"$1\times 10^{20}$"
    assert Quantity(1, "s")._repr_html_ is None, "HTML would win over LaTeX"


def test_a_repr_is_short_and_says_how_long_the_formula_is() -> None:
    long = Quantity(sympy.Add(*(sympy.Symbol(f"x_{place}") for place in range(400))), "byte")
    assert len(repr(long)) < 400 < len(str(long))
    assert repr(long).endswith(f"... ({len(str(long))} characters)>")


def test_no_symbol_is_a_word_of_python() -> None:
    """Formulas are compiled with their symbols as names."""
    assert [str(symbol) for symbol in symroof.symbols.VOCABULARY if keyword.iskeyword(str(symbol))] == []
