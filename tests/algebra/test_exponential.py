"""Sums of exponentials: signs, roots and closed forms, against Lambert's W, high precision and plain evaluation."""

from __future__ import annotations

import pickle
from fractions import Fraction
from itertools import combinations, pairwise

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Expr, Integer, LambertW, Max, Pow, Rational, Symbol, ceiling, floor, latex, log, oo, pi, sqrt

from symroof.algebra.enclosure import Enclosure, _artanh_series, _series, add, enclose, exponential, logarithm, multiply, power
from symroof.algebra.envelope import envelope, total
from symroof.algebra.exponential import Exponential
from symroof.algebra.isolation import Root, bound, grid_bracket
from symroof.algebra.piecewise import piecewise
from symroof.algebra.reals import coprime_base, exact, order, primitive_root, rational_radical
from symroof.algebra.univariate import limit, signed
from symroof.errors import InputError

x = Symbol("x", positive=True)
q = Rational(3, 4)
MIXTRAL = 2 * x * 2 * 4096 * 14336 / (Rational(312) * 10**12) - (16 * (1 - q**x) * 4096 * 14336 + 4 * x * (4096 + 14336)) / (
    Rational(2039) * 10**9
)
"""Seconds of FLOPs less seconds of bytes of an up projection of the experts, on an A100."""


def roots(expression: Expr, low: object = 0, high: Expr = oo) -> list[Expr]:
    return signed(expression, x).roots(exact(low), high)


def value(terms: list, point: Fraction) -> mpmath.mpf:
    """The sum of ``(a + b x) base^(k x)`` to 80 decimals."""
    with mpmath.workdps(80):
        at = mpmath.mpf(point.numerator) / point.denominator
        return mpmath.fsum((a + b * at) * (mpmath.mpf(base.p) / base.q) ** (k * at) for a, b, base, k in terms)


def test_mixtral_as_measured() -> None:
    assert [str(root) for root in roots(MIXTRAL)] == ["0", "642.946100320033"]
    (root,) = roots(MIXTRAL, 1)
    assert isinstance(root, Root)
    assert root.high - root.low < Fraction(1, 10**30) * root.low
    assert abs(root.closed_form.evalf(60) - root.evalf(60)) < Rational(1, 10**50)
    assert root.closed_form.has(LambertW)
    assert (floor(root), ceiling(root)) == (642, 643)
    saturated = signed(MIXTRAL.subs(q**x, 0), x).roots(Integer(1), oo)[0]
    assert 0 < saturated - root < Rational(1, 10**70)
    assert order(root, saturated) == -1


def test_a_root_lies_between_its_neighbours_on_every_grid() -> None:
    function = signed(MIXTRAL, x)
    assert isinstance(function, Exponential)
    for bits in range(1, 140):
        low, high = grid_bracket(function, Fraction(1), Fraction(1000), bits)
        assert (function.sign_at(low), function.sign_at(high)) == (-1, 1)
        assert high - low == Fraction(2) ** (9 - bits), "642.9 is from 2^9 to 2^10"
        assert (low / (high - low)).denominator == 1


@pytest.mark.parametrize(
    ("A", "C", "ratio"), [(1, 8, "3/4"), (Fraction(1, 80), 8, "3/4"), (1, 2, "1/2"), (Fraction(1, 2), 99, "127/128"), (1, 3, "1/10")]
)
def test_expected_experts_have_their_closed_form(A: Fraction, C: int, ratio: str) -> None:
    """A T - C (1 - q^T): T* = C / A - W0((C ln q / A) q^(C / A)) / ln q."""
    a, base = exact(A), Rational(ratio)
    found = [root for root in roots(a * x - C * (1 - base**x)) if root != 0]
    z = C * log(base) / a * base ** (C / a)
    expected = C / a - LambertW(z) / log(base)
    assert len(found) == 1
    assert abs((found[0] - expected).evalf(30, maxn=400, chop=True)) < 1e-25 * expected.evalf()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (2**x - x**2, [2, 4]),
        ((Rational(1, 2) ** x - Rational(1, 4)) ** 2 * (x - 3), [2, 3]),
        ((Rational(1, 2) ** x - Rational(1, 4)) * (x**2 - 2) * (x - 2), [sqrt(2), 2]),
        (Rational(1, 4) ** x - Rational(1, 2), [Rational(1, 2)]),
        (4**x - 3 * 2**x + 2, [0, 1]),
        (2**x * 3**x - 36, [2]),
        (q**x, []),
        (q**x - 2, []),
        (1 / (2 - q**x) - Rational(16, 23), [2]),
        (1 / (q**x - 2) + Rational(16, 23), [2]),
        (x * q**x - 3 * q**x, [3]),
        (Pow(Rational(1, 8), x / 3 + Rational(1, 3)) - Rational(1, 8), [2]),
        (Rational(1, 2) ** (x + Rational(1, 2)) - Rational(1, 4), [Rational(3, 2)]),
        (Rational(1, 2) ** (x / 2) / 4 - Rational(1, 2) ** (3 * x / 2), [2]),
        (2 ** (128 * x) - 2**129, [Rational(129, 128)]),
        (Rational(1, 2) ** (2 * x + 1) + 3 * Rational(1, 4) ** x / 2 - Rational(1, 8), [2]),  # two terms of one base add up
        (Rational(1, 2) ** x * Rational(1, 2) ** (x + 1) + 3 * Rational(1, 4) ** x / 2 - Rational(1, 8), [2]),
    ],
)
def test_rational_roots_are_rational(expression: Expr, expected: list) -> None:
    assert roots(expression) == expected


def test_a_touching_root_that_is_no_rational() -> None:
    (root,) = roots((Rational(1, 2) ** x - Rational(1, 3)) ** 2)
    assert str(root.closed_form) == "log(3)/log(2)"
    assert piecewise(x, [(1, oo, (Rational(1, 2) ** x - Rational(1, 3)) ** 2, None)]).signs().labels == ("compute",)
    low = piecewise(x, [(1, oo, -((Rational(1, 2) ** x - Rational(1, 3)) ** 2), None)]).signs()
    assert (low.labels, low.pieces[1].is_point) == (("memory", "compute", "memory"), True)


def test_both_branches_of_lambert() -> None:
    low, high = roots(x * q**x - Rational(1, 2))
    assert (low.closed_form, high.closed_form) == (LambertW(log(q) / 2) / log(q), LambertW(log(q) / 2, -1) / log(q))
    for root in (low, high):
        assert abs((root.closed_form - root).evalf(40, maxn=60, chop=True)) < 1e-35


def test_radicals_in_the_constants() -> None:
    (root,) = roots(Rational(1, 2) ** (x + Rational(1, 3)) - x)
    assert abs((root - root.closed_form).evalf(30, maxn=60, chop=True)) < 1e-28
    assert roots(Rational(1, 2) ** (x + Rational(1, 3)) - Rational(1, 4), 1) == [Rational(5, 3)]


def test_roots_are_in_order_with_all_numbers() -> None:
    low, high = roots(2**x - x**10)
    other = roots(MIXTRAL, 1)[0]
    below, above = exact(high.low), exact(high.high)
    assert low < high < other
    assert below < high < above
    assert not high < below
    assert high <= above
    assert below <= high
    assert above >= high
    assert (high > 58, high >= 59, high < 59, high <= 58) == (True, False, True, False)
    assert (low < sqrt(2), low < pi, Max(low, high), sorted([other, Integer(3), high, low])) == (True, True, high, [low, 3, high, other])
    assert low == roots(2**x - x**10, 1, Integer(40))[0]
    assert hash(low) == hash(roots(2**x - x**10, 1, Integer(2))[0])
    assert low != high
    assert order(high, high + 0) == 0
    assert pickle.loads(pickle.dumps(high)) == high
    assert (latex(high), int(high)) == ("58.7701059379214", 58)
    assert abs(float(high) - 58.7701059379214) < 1e-12
    assert (high.is_positive, high.is_integer, high.is_zero) == (True, False, False)


def test_floors_next_to_a_whole_number() -> None:
    """The root is 1e-43 below 342: no float sees it, the signs do."""
    expression = x / 342 - (1 - q**x)
    (root,) = [one for one in roots(expression, 1) if one != 0]
    assert 342 - root < Rational(1, 10**40)
    assert (floor(root), ceiling(root), root < 342) == (341, 342, True)
    raised = x / 342 - (1 + q**x)
    (root,) = roots(raised, 1)
    assert (floor(root), ceiling(root), root > 342) == (342, 343, True)


def test_signs_at_rationals() -> None:
    decider = signed(q**x - Rational(9, 16), x)
    assert [decider.sign(Rational(point)) for point in ("2", "1999999999999999999999999/1000000000000000000000000", "5/2")] == [0, 1, -1]
    surd = signed(2 ** (x / 2) + 2 ** (x / 2 + 1) - 3 * 2 ** (x / 2) + 3**x - 3 * 3 ** (x - 1), x)
    assert surd.is_zero
    assert signed(log(2) * log(4) * x - q**x, x).sign(Integer(1)) == 1, "two logarithms of powers of 2: 0.96 - 0.75"
    halves = signed(8**x - 2 * 2**x + 4**x - 2 - 0 * x, x)
    assert halves.sign(Rational(1, 2)) == 0
    far = signed(x - 10**12 + Rational(7, 8) ** x, x)
    assert (far.sign(Integer(10**12)), far.sign(Integer(10**12 - 1))) == (1, -1)
    assert signed(q**x - x, x).sign(oo) == -1


def test_signs_of_what_is_divided_out() -> None:
    """Logarithms of numbers below 1 are negative, and so may be what stands under the line."""
    assert signed((x * q**x).diff(x) - q**x, x).sign(Integer(1)) == -1
    assert signed(1 / (q**x - 2) + Rational(16, 23), x).sign(Integer(1)) == -1
    assert signed(1 / (2 - q**x) - Rational(16, 23), x).sign(Integer(1)) == 1


def test_no_root_far_out_is_left_out() -> None:
    """x^3 q^x is small at 1, and beyond 1000 only later."""
    base = Rational(127, 128)
    near, far = roots(1000 - x**3 * base**x)
    assert (floor(near), near < 11, floor(far) > 382) == (10, True, True)
    assert (1000 - floor(far) ** 3 * base ** floor(far) < 0, 1000 - ceiling(far) ** 3 * base ** ceiling(far) > 0) == (True, True)


def test_signs_at_roots_of_others() -> None:
    (root,) = roots(MIXTRAL, 1)
    assert signed(MIXTRAL, x).sign(root) == 0
    assert signed(MIXTRAL * (x - 3), x).sign(root) == 0
    assert signed(q**x - x + 642, x).sign(root) == -1
    assert signed(q**x - x, x).sign(sqrt(2)) == -1
    assert signed(x - 600, x).sign(root) == 1


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (x**x - 2, "base is not a positive rational"),
        (Rational(1, 2) ** (x**2) - x, "not linear"),
        (Rational(1, 2) ** (sqrt(2) * x) - x, "not linear"),
        (q**x - sqrt(2), "not a rational number"),
        (q**x - log(pi), "not the logarithm of a positive rational"),
        (q**x - sqrt(x), "not a polynomial"),
    ],
)
def test_what_is_refused(expression: Expr, message: str) -> None:
    with pytest.raises(InputError, match=message):
        signed(expression, x)


@given(
    st.lists(
        st.tuples(
            st.integers(-9, 9), st.integers(-3, 3), st.sampled_from([Rational(1, 2), q, Rational(1, 10)]), st.sampled_from([0, 1, 2])
        ),
        min_size=2,
        max_size=3,
    ),
    st.integers(0, 3),
)
@settings(max_examples=30)
def test_roots_are_all_sign_changes(terms: list, first: int) -> None:
    """At points close together and far out, the sign is that of the value, and every root is a change of it."""
    expression = sum(((a + b * x) * base ** (k * x) for a, b, base, k in terms), start=Integer(0))
    decider = signed(expression, x)
    found = decider.roots(Integer(first), oo)
    assert all(order(left, right) < 0 for left, right in pairwise(found))
    signs = piecewise(x, [(first, oo, expression, None)]).signs("-", "+")
    for place in range(1, 30):
        point = first + Fraction(place * place, 37)
        near = value(terms, point)
        if abs(near) > 1e-60:
            assert decider.sign(exact(point)) == (1 if near > 0 else -1)
            assert ("+" if near > 0 else "-") in {piece.label for piece in signs.pieces if point in piece}
    for root in found:
        if isinstance(root, Root):
            assert value(terms, root.low) * value(terms, root.high) < 0 or len(decider.factors) > 1  # pyright: ignore
            assert root.high - root.low <= abs(root.low) / 10**30
    for factor in getattr(decider, "factors", ()):
        if isinstance(factor, Exponential):
            assert factor.sign_at(3 * bound(factor)) == factor.sign(oo)


@given(st.fractions(Fraction(1, 99), 99, max_denominator=999), st.fractions(-40, 40, max_denominator=99), st.sampled_from([24, 64, 150]))
@settings(max_examples=60)
def test_enclosures_hold(base: Fraction, exponent: Fraction, bits: int) -> None:
    with mpmath.workprec(400):
        log_base = mpmath.log(mpmath.mpf(base.numerator) / base.denominator)
        for enclosure, expected in (
            (logarithm(base, bits), log_base),
            (power(base, exponent, bits), mpmath.exp(log_base * exponent.numerator / exponent.denominator)),
            (exponential(enclose(exponent, exponent, bits + 10), bits), mpmath.exp(mpmath.mpf(exponent.numerator) / exponent.denominator)),
        ):
            low, high = (mpmath.ldexp(end, enclosure.exponent) for end in enclosure[:2])
            assert low <= expected <= high
            assert high - low <= abs(expected) * mpmath.ldexp(64, -bits)


def test_series_are_bounded_at_few_places() -> None:
    """With few binary places an error of one unit shows."""
    for width in (3, 6, 9):
        for step in range(1 << width):
            low, high = (_series(step, width, upwards=side) for side in (False, True))
            assert low <= mpmath.exp(mpmath.ldexp(step, -width)) * 2**width <= high
            number = Fraction(step, 3 << width)
            low, high = _artanh_series(number, width)
            assert low <= mpmath.atanh(mpmath.mpf(number.numerator) / number.denominator) * 2**width <= high


def test_exponentials_next_to_powers_of_two() -> None:
    with mpmath.workprec(300):
        for bits in (8, 24, 64):
            for twos in (1, 2, 3, 7, 50, 1000):
                for width in range(bits, bits + 40, 3):
                    value = int(mpmath.floor(twos * mpmath.log(2) * 2**width))
                    enclosure = exponential(Enclosure(value, value, -width), bits)
                    low, high = (mpmath.ldexp(end, enclosure.exponent) for end in enclosure[:2])
                    assert low <= mpmath.exp(mpmath.ldexp(value, -width)) <= high


@given(st.lists(st.fractions(-99, 99), min_size=4, max_size=4), st.integers(8, 40))
@settings(max_examples=50)
def test_stretches_hold_sums_and_products(numbers: list[Fraction], bits: int) -> None:
    ends = [sorted(numbers[:2]), sorted(numbers[2:])]
    left, right = (enclose(*pair, bits) for pair in ends)
    for a in ends[0]:
        for b in ends[1]:
            low, high = add(left, right, bits).fractions
            assert low <= a + b <= high
            low, high = multiply(left, right, bits).fractions
            assert low <= a * b <= high


def test_powers_of_rationals() -> None:
    assert primitive_root(Fraction(64, 729)) == (Fraction(2, 3), 6)
    assert primitive_root(Fraction(8)) == (Fraction(1, 2), -3)
    base = coprime_base([72, 108, 1000, 7**5])
    assert all(left % right for left, right in combinations(base, 2))
    assert 7 in base
    assert rational_radical({Fraction(8, 27): 2, Fraction(4): 3}, 6) == Fraction(4, 3)
    assert rational_radical({Fraction(2): 1, Fraction(3): 1}, 2) is None
    with pytest.raises(InputError, match="has too many digits"):
        rational_radical({Fraction(2): 10**9}, 1)


def test_the_classes_use_them() -> None:
    experts, dense = piecewise(x, [(1, oo, 8 * (1 - q**x), "union")]), piecewise(x, [(1, oo, x / 2, "line")])
    assert [str(edge) for edge in experts.compare(dense).edges] == ["15.8316823775184"]
    assert [str(part.low) for part in experts.within(7)] == ["1"]
    assert str(experts.within(7)[0].high.closed_form) in ("3*log(2)/log(4/3)", "log(1/8)/log(3/4)", "-log(8)/log(3/4)")
    assert experts(oo) == 8
    roof = envelope(x, 1, oo, {"compute": x / 2, "memory": 8 * (1 - q**x), "launch": Integer(5)})
    assert roof.labels == ("launch", "memory", "compute")
    assert roof.edges[0].closed_form == log(Rational(3, 8)) / log(q)
    assert str(roof.edges[1]) == "15.8316823775184"
    assert total([("one", roof), ("two", roof)]).edges == roof.edges


def test_extremes_where_logarithms_enter() -> None:
    time = piecewise(x, [(1, 60, (x + 20 * (1 + q**x)) / 1, "a")])
    least, at = time.minimum()
    assert str(at.closed_form) in ("log(-1/(20*log(3/4)))/log(3/4)", "None")
    with mpmath.workdps(30):
        expected = mpmath.log(-1 / (20 * mpmath.log(mpmath.mpf(3) / 4))) / mpmath.log(mpmath.mpf(3) / 4)
        assert abs(mpmath.mpf(at.evalf(25)._mpf_) - expected) < mpmath.mpf(10) ** -24
    assert time.minimum(whole=True)[1] in (floor(at), ceiling(at))
    assert least.evalf() < min(time(floor(at)), time(ceiling(at)))
    least, where = piecewise(x, [(1, oo, -x * q**x, "a")]).minimum()
    assert abs(where.evalf(20) + 1 / log(q).evalf(20)) < 1e-18
    assert abs(-least.evalf() - float(-1 / log(q)) / float(mpmath.e)) < 1e-12


def test_limits() -> None:
    assert (limit(8 * (1 - q**x), x), limit(x * q**x, x), limit((x + q**x) / (2 * x - 1), x)) == (8, 0, Rational(1, 2))
    assert (limit(x - q**x, x), limit(1 - 2**x, x), limit((2**x + 1) / (3 * 2**x - x), x)) == (oo, -oo, Rational(1, 3))
