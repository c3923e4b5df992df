"""A technique's text has its numbers as people type them, and gives the same technique back."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Rational

import symroof
from symroof.techniques.registry import names, technique_class
from symroof.units import BANDWIDTH, BYTE, SECOND, figure, parsed, typed

FRACTIONS = st.fractions(min_value=Fraction(1, 10**12), max_value=10**18)
UNITS = {"second": SECOND, "byte": BYTE, "byte/second": BANDWIDTH}


@given(value=FRACTIONS)
def test_a_plain_number_reads_back_exactly(value: Fraction) -> None:
    assert parsed(typed(Rational(value))) == (value, "")


@given(value=FRACTIONS, unit=st.sampled_from(sorted(UNITS)))
def test_a_number_with_a_unit_reads_back_exactly(value: Fraction, unit: str) -> None:
    text = typed(Rational(value), unit)
    assert figure(text, UNITS[unit]) == value
    assert " " not in text


@given(acceptance=st.fractions(Fraction(1, 1000), 1), length=st.integers(1, 64), cost=st.floats(1e-9, 1, allow_subnormal=False))
def test_a_text_gives_its_technique_back(acceptance: Fraction, length: int, cost: float) -> None:
    made = technique_class("speculative")(acceptance=acceptance, length=length, draft_cost=cost)  # pyright: ignore[reportCallIssue]
    assert symroof.technique(made.text) == made


@given(launch=st.fractions(Fraction(1, 10**9), 1))
def test_a_time_gives_its_technique_back(launch: Fraction) -> None:
    made = symroof.techniques.LaunchOverhead(launch=launch)
    assert symroof.technique(made.text) == made


@pytest.mark.parametrize("name", names())
def test_the_example_of_every_technique_gives_itself_back(name: str) -> None:
    kind = technique_class(name)
    made = kind(**kind.example.settings)
    assert symroof.technique(made.text) == made


@pytest.mark.parametrize(
    "text",
    [
        "speculative:acceptance=0.7,length=4,draft_cost=0.05",
        "launch-overhead:launch=5us",
        "energy:flop=1pJ,byte=30pJ,power=100W",
        "tensor-parallel:degree=4,link=450GB/s,latency=1.5us",
        "offload:share=0.5,link=25GiB/s",
        "contextual-sparsity:share=1/3",
        "quantize:weights=4,group=128",
    ],
)
def test_a_text_is_what_was_typed(text: str) -> None:
    assert symroof.technique(text).text == text


def test_numbers_that_do_not_end_stay_fractions() -> None:
    assert typed(Rational(2, 3)) == "2/3"
    assert typed(Integer(0)) == "0"
    assert typed(Rational(1, 2**90)) == str(Rational(1, 2**90))


def test_conventions_have_the_numbers_that_were_typed() -> None:
    on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64).on("a100-sxm-80gb")
    statements = on.apply("launch-overhead:launch=5us speculative:acceptance=0.7,length=2,draft_cost=0.1").analysis.statements
    assert {"t_0 = 5us", "alpha = 0.7", "kappa_d = 0.1"} <= set(statements)
