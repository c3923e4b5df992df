"""Numerators, factors and quotients in letters, against their values at random points."""

from __future__ import annotations

import random

import pytest
from sympy import Add, Expr, Mul, Rational, ceiling, log, oo, sqrt

from symroof.algebra.polynomial import open_factors, polynomial, ratio
from symroof.errors import InputError
from symroof.symbols import R, b, d, f, n_p, s

LETTERS = (b, d, f, n_p)


def form(draw: random.Random, *, positive: bool = False) -> Expr:
    """A sum of a few monomials."""
    terms = [
        Rational(draw.randint(1, 9), draw.randint(1, 4)) * Mul(*(x ** draw.randint(0, 1) for x in LETTERS))
        for _ in range(draw.randint(1, 3))
    ]
    return Add(*(term if positive or draw.random() < 0.7 else -term for term in terms))


def point(draw: random.Random) -> dict[Expr, Expr]:
    return {x: Rational(draw.randint(1, 40), draw.randint(1, 40)) for x in LETTERS}


def sign(value: Expr) -> int:
    return int(bool(value > 0)) - int(bool(value < 0))


@pytest.mark.parametrize("seed", range(40))
def test_factors_and_numerators_have_the_sign_of_what_they_are_of(seed: int) -> None:
    draw = random.Random(seed)
    expression = form(draw) / form(draw, positive=True) - form(draw) / (form(draw, positive=True) * b)
    expression *= form(draw) ** draw.randint(1, 2)
    numerator = polynomial(expression, b).as_expr()
    known, factors = open_factors(expression, b)
    for _ in range(12):
        at = point(draw)
        value = expression.xreplace(at)
        assert sign(numerator.xreplace(at)) == sign(value)
        assert known * sign(Mul(*(factor**power for factor, power in factors)).xreplace(at)) == sign(value)


@pytest.mark.parametrize("seed", range(20))
def test_a_quotient_is_in_lowest_terms(seed: int) -> None:
    draw = random.Random(seed)
    common, over, under = form(draw), form(draw) + 7 * b**2, form(draw) + 5 * d**2
    quotient = ratio(common * over / n_p, common * under / n_p)
    for _ in range(6):
        at = point(draw)
        if under.xreplace(at) != 0:
            assert quotient.xreplace(at) == (over / under).xreplace(at)
    assert quotient.count_ops() <= (over / under).together().expand(numer=True, denom=True).count_ops() + 8


def test_factors_without_a_linear_letter_and_of_one_sign() -> None:
    assert open_factors((b**2 - d**2) * (b + d), b) == (1, ((b - d, 1),))
    assert open_factors(-(b**2) - d**2, b) == (-1, ())
    assert open_factors((1 - b * d) * (b + f) ** 2 / f, d) == (1, ((1 - b * d, 1),))


def test_irrational_numbers_and_counted_blocks_are_letters_of_their_own() -> None:
    assert polynomial(log(Rational(9, 10)) * b - log(Rational(9, 10)) * d, b).coefficients == (
        -d * log(Rational(9, 10)),
        log(Rational(9, 10)),
    )
    assert polynomial((b**2 - sqrt(2)) / (b + 1), b).coefficients == (-sqrt(2), 0, 1)
    assert polynomial(ceiling(s / R) * b - d / b, b).coefficients == (-d, 0, ceiling(s / R))
    with pytest.raises(InputError, match="counts blocks"):
        polynomial(ceiling(s / R) - s, s)
    with pytest.raises(InputError, match="b is an exponent"):
        polynomial(2**b - b, b)
    with pytest.raises(InputError, match="not a polynomial in b"):
        polynomial(sqrt(b) - 1, b)


@pytest.mark.parametrize(("expression", "expected"), [(3 - b, -1), (b**2 - 5 * b, 1), (7 - b**3 + 9 * b**2, -1), (5 * b - 3, 1)])
def test_the_sign_of_all_large_values(expression: Expr, expected: int) -> None:
    found = polynomial(expression, b)
    assert found.sign(oo) == expected == found.sign(10**6)
