"""What tokens leave untouched: numbers against exact powers, roots and signs against scans, closed forms against enclosures."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer, Rational, Symbol, log, oo, sign, simplify

from symroof.algebra.lambert import LineAndWave, line_and_wave, of_the_line
from symroof.algebra.piecewise import piecewise
from symroof.algebra.reals import order
from symroof.algebra.shares import Shares, shares
from symroof.algebra.signs import solve_symbolic
from symroof.algebra.unions import EXACT, ROUNDED, Untouched, enclosed, union, untouched
from symroof.algebra.univariate import limit, signed
from symroof.errors import InputError
from symroof.proof.bounds import by_bounds
from symroof.symbols import BW, E, K, P, b, d, w

x = Symbol("x", positive=True)
SHARES = st.fractions(min_value=Fraction(1, 300), max_value=Fraction(299, 300), max_denominator=300)


@settings(max_examples=60, deadline=None)
@given(share=SHARES, tokens=st.integers(1, 4000))
def test_numbers_are_exact_or_rounded_down_by_less_than_they_say(share: Fraction, tokens: int) -> None:
    exact, told = (1 - share) ** tokens, untouched(share, Fraction(tokens))
    if tokens * ((1 - share).denominator - 1).bit_length() <= EXACT:
        assert told == exact
        assert enclosed(Rational(share.numerator, share.denominator), Integer(tokens)) == (Rational(exact.numerator, exact.denominator),)
        return
    assert 0 <= exact - told < Fraction(2, 2**ROUNDED)
    low, high = enclosed(Rational(share.numerator, share.denominator), Integer(tokens))
    assert low <= Rational(exact.numerator, exact.denominator) <= high


@pytest.mark.parametrize(
    ("share", "tokens"), [(Fraction(1, 4), Fraction(3, 2)), (Fraction(1, 3), Fraction(7, 5)), (Fraction(3, 4), Fraction(1, 2))]
)
def test_a_part_of_a_token_is_rounded_down(share: Fraction, tokens: Fraction) -> None:
    told = untouched(share, tokens)
    base, over, under = 1 - share, tokens.numerator, tokens.denominator
    assert told**under <= base**over < (told + Fraction(2, 2**ROUNDED)) ** under


def test_rounding_keeps_the_order_of_numbers_of_tokens() -> None:
    """Across the number from which on powers are rounded, and to where they are nothing."""
    values = [untouched(Fraction(1, 32), Fraction(tokens)) for tokens in (800, 818, 819, 820, 821, 1000, 5000, 10**4, 10**12)]
    assert values == sorted(values, reverse=True)
    assert values[2] == Fraction(31, 32) ** 819
    assert values[-1] == 0


def test_what_it_is_in_letters() -> None:
    assert Untouched(K / E, b).doit() == (1 - K / E) ** b
    assert Untouched(K / E, b).diff(b).doit() == ((1 - K / E) ** b).diff(b)
    assert simplify((Untouched(K / E, b).diff(E) - ((1 - K / E) ** b).diff(E)).doit()) == 0
    assert (Untouched(K / E, Integer(1)), Untouched(K / E, Integer(0)), Untouched(Integer(1), b)) == (1 - K / E, 1, 0)
    assert union(K / E, b).subs({K: 8, E: 8}) == 1
    assert Untouched(Rational(9, 8), Integer(5)) == 0, "more experts for a token than there are leave none untouched"


@pytest.mark.parametrize("seed", range(12))
def test_signs_and_roots_over_a_share_against_a_scan(seed: int) -> None:
    """a + c x + e x (1 - (1 - k/x)^T), and the same over k with x in its place: signs at whole numbers, changes where roots are."""
    draw = random.Random(seed)
    tokens, other, below = draw.choice([2, 3, 17, 64, 1000]), draw.choice([2, 8, 30]), seed % 2 == 0
    a, c, e = (Rational(draw.randint(-2000, 2000), draw.randint(1, 40)) for _ in range(3))
    c = Rational(0) if seed % 4 == 0 else c
    share, experts = (other / x, x) if below else (x / 200, Integer(200))
    formula = a + c * x / 50 + e * experts * (1 - Untouched(share, Integer(tokens)))
    if seed % 3 == 0:  # and tokens that are in a layer by chance
        formula += c * experts * (1 - Untouched(share / 3, Integer(tokens)))
    function = signed(formula, x)
    assert isinstance(function, Shares)
    low, high = (Integer(other), oo) if below else (Integer(1), Integer(200))
    points = range(int(low), 700) if below else range(1, 201)
    values = [formula.xreplace({x: Integer(point)}) for point in points]
    assert [function.sign(Integer(point)) for point in points] == [int(sign(value)) for value in values]
    roots = function.roots(low, high)
    changes = [point for point, left, right in zip(points, values, values[1:], strict=False) if left * right < 0]
    inside = [root for root in roots if order(root, Integer(points[-1])) < 0 and not root.is_Integer]
    assert [int(root) for root in inside] == changes
    if below:
        far = Integer(10**15)
        assert function.sign(oo) == function.sign(far)
        assert order(abs(formula.xreplace({x: far}) / far - limit(formula / x, x)), Rational(1, 10**4)) < 0


def test_forms_over_a_share_that_are_refused() -> None:
    for formula in (Untouched(2 / x, b), Untouched(2 / x, Integer(3)) + Untouched(x / 30, Integer(3)), Untouched(2 / (x + 1), Integer(3))):
        with pytest.raises(InputError):
            shares(formula, x)


@pytest.mark.parametrize("beside", [0, 1])
def test_cases_in_letters_are_what_a_scan_of_numbers_says(beside: int) -> None:
    """The slack of a layer of experts at random sizes and rates, with and without weights that are read besides."""
    draw = random.Random(beside)
    letters = 2 * K * b * d * BW - P * (E * d * w * union(K / E, b) + b * w + beside * d) / 8
    slack = line_and_wave(letters, b)
    assert isinstance(slack, LineAndWave)
    solution = solve_symbolic(slack)
    seen = set()
    for _ in range(60):
        numbers = {E: draw.choice([8, 64, 256]), K: draw.choice([1, 2, 4]), d: draw.choice([3, 40, 900]), w: draw.choice([4, 16])}
        numbers |= {P: draw.choice([1, 3, 4, 5, 30, 300, 3000, 90000]), BW: draw.choice([1, 2, 7])}
        values = {letter: Integer(value) for letter, value in numbers.items()}
        pieces = piecewise(b, [(0, oo, letters.xreplace(values), None)]).signs().pieces
        told = tuple(piece.bound for piece in pieces if not piece.is_point)
        seen.add(told)
        if solution.cases:
            holds = [case.verdict for case in solution.cases if bool(case.condition.xreplace(values))]
            assert holds == [VERDICTS[told]]
        elif bool(solution.condition.xreplace(values)):
            assert told == ("memory", "compute")
        else:
            assert told == (solution.otherwise.removeprefix("always-"),)
        if told == ("memory", "compute"):
            root = pieces[-1].low
            for formula in filter(None, (solution.formula.xreplace(values), root.closed_form)):
                assert abs(formula.evalf(30) - root.evalf(30)) < Rational(1, 10**20) * root
            line, off = of_the_line(root)
            assert 0 <= (line - root).evalf(5, maxn=2000) <= Rational(10) ** off
    assert len(seen) == 3 - beside


VERDICTS = {
    ("memory", "compute"): "memory-bound below it, compute-bound above",
    ("memory",): "always memory-bound",
    ("compute",): "always compute-bound",
}


def test_tokens_that_are_there_besides() -> None:
    """16 x - 100 (1 - (7/8)^(3 x + 5)): the power of the first five tokens is part of the factor."""
    formula = 16 * x - 100 * union(Rational(1, 8), 3 * x + 5)
    slack = line_and_wave(formula, x)
    (root,) = signed(formula, x).roots(Integer(0), oo)
    assert abs((slack.root - root).evalf(30)) < 1e-25
    assert abs(float(formula.xreplace({x: root}).evalf(20))) < 1e-15


@pytest.mark.parametrize("low", [1, 5])
def test_bounds_prove_nothing_that_is_false(low: int) -> None:
    """y <= v for all b from low on is true of v above (3/4)^low alone, and y >= v of none above 0; of products of it likewise."""
    start = Rational(3, 4) ** low
    y, lows = Untouched(Rational(1, 4), b), {b: Integer(low), d: Integer(1)}
    for value, true in ((start + Rational(1, 10**4), True), (start - Rational(1, 10**9), False), (start / 2, False)):
        assert bool(by_bounds("memory", y - value, lows)) == true
        assert bool(by_bounds("memory", d * y - d * value, lows)) == true
        assert bool(by_bounds("compute", value - y, lows)) == true
    assert by_bounds("compute", y, lows)
    assert not by_bounds("compute", y - Rational(1, 10**9), lows)
    tangent = y - 1 + b / 4  # Bernoulli
    assert by_bounds("compute", tangent, lows)
    assert not by_bounds("compute", tangent - Rational(1, 100), {b: Integer(1)})


def test_a_form_with_two_exponents_has_no_formula() -> None:
    with pytest.raises(InputError, match="b is an exponent, in"):
        line_and_wave(b - union(K / E, b) - union(w / E, b), b)
    with pytest.raises(InputError, match="b is an exponent, in"):
        line_and_wave(b**2 - union(K / E, b), b)


def test_a_function_and_its_negative_have_the_same_roots() -> None:
    formula = x - 80 * union(Rational(1, 4), x)
    assert signed(formula, x).roots(Integer(1), oo) == signed(-formula, x).roots(Integer(1), oo)


@pytest.mark.parametrize("tokens", [1, 3000, 10**6, 10**9])
def test_many_tokens_per_step_of_the_variable(tokens: int) -> None:
    """(31/32)^(10^9 x) is not written out: x - 80 (1 - ...) crosses where it would with nothing untouched, but for tokens = 1."""
    (_, root) = signed(x - 80 * union(Rational(1, 32), tokens * x), x).roots(Integer(0), oo)
    scanned = next(point for point in range(1, 100) if point >= 80 * (1 - (31 / 32) ** (tokens * point)))
    assert math.ceil(float(root)) == scanned
    assert abs(float((root - 80 * union(Rational(1, 32), tokens * root)).evalf(15, maxn=100))) < 1e-12


def test_what_is_nothing_decides_where_all_else_vanishes() -> None:
    """x - 300000 + (3/4)^x: at 300000 the power alone is left, of 124,500 binary places; the root is below it, and next to it."""
    function = signed(x - 300000 + Untouched(Rational(1, 4), x), x)
    assert (function.sign(Integer(300000)), function.sign(Integer(299999))) == (1, -1)
    root = function.roots(Integer(100), oo)[-1]
    assert order(root, Integer(300000)) < 0 < order(root, 300000 - Rational(1, 10**25))


def test_the_slope_of_time_over_tokens_that_are_untouched_has_a_logarithm() -> None:
    assert union(Rational(1, 4), x).diff(x) == -log(Rational(3, 4)) * Untouched(Rational(1, 4), x)


def test_shares_that_grow_have_roots_below_one() -> None:
    """(1 - x / 2)^3 = 1/2 at x = 2 - 2^(2/3), about 0.41."""
    x = Symbol("x", positive=True)
    (root,) = shares(Rational(1, 2) - Untouched(x / 2, Integer(3)), x).roots(Integer(0), oo)
    assert root.low <= 2 - 2 ** Rational(2, 3) <= root.high
