"""A function on pieces: signs, comparisons, extremes, sums and envelopes, against closed forms and against plain evaluation."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Expr, Integer, Rational, Symbol, expand, log, nan, oo, sqrt, symbols

from symroof.algebra.envelope import counted, envelope, total
from symroof.algebra.piecewise import Piece, Piecewise, piecewise
from symroof.algebra.reals import ascending, between, exact, order
from symroof.algebra.univariate import limit, powers, signed, sum_over
from symroof.errors import InputError

x = Symbol("x", positive=True)
numbers = st.fractions(-9, 9, max_denominator=4)
formulas = st.lists(numbers, min_size=1, max_size=3).map(
    lambda coefficients: sum((exact(number) * x**power for power, number in enumerate(coefficients)), start=Integer(0))
)


@st.composite
def functions(draw: st.DrawFn) -> Piecewise:
    """Random polynomials on up to three pieces from 1 on."""
    edges = [Fraction(1)]
    for width in draw(st.lists(st.fractions("1/3", 4, max_denominator=3), min_size=1, max_size=3)):
        edges.append(edges[-1] + width)
    return piecewise(x, [(low, high, draw(formulas), place) for place, (low, high) in enumerate(pairwise(edges))])


def ends(function: Piecewise) -> list[tuple[str, str, object]]:
    return [(str(piece.low), str(piece.high), piece.label) for piece in function.pieces]


def zeros(function: Piecewise) -> list[Expr]:
    return [root for piece in function.pieces for root in signed(piece.value, x).roots(piece.low, piece.high)]


def summed(function: Piecewise, low: int, high: int) -> Expr:
    return sum((sum_over(piece.value, x, *ends) for piece, *ends in function.counts(low, high)), start=Integer(0))


def samples(function: Piecewise) -> list[Expr]:
    """Rationals over the range, close to both sides of every edge among them."""
    tiny, last = Rational(1, 10**6), function.high if function.high != oo else function.pieces[-1].low + 20
    even = [function.low + (last - function.low) * Rational(place, 12) for place in range(13)]
    near = [edge + side for edge in function.edges if edge.is_Rational for side in (-tiny, tiny)]
    return [point for point in (*even, *near) if order(function.low, point) <= 0 <= order(last, point)]


STEPS = piecewise(x, [(1, 4, 8, "memory"), (4, 6, 2 * x, "compute"), (6, oo, x**2 - 24, "compute")])


def test_a_point_has_a_piece_and_a_value() -> None:
    assert (STEPS(1), STEPS(Fraction(9, 2)), STEPS(5.5), STEPS(10), STEPS(oo)) == (8, 9, 11, 76, oo)
    assert (STEPS.low, STEPS.high, STEPS.edges, STEPS.labels) == (1, oo, (4, 6), ("memory", "compute", "compute"))
    assert STEPS.at(4).label == "memory"
    assert 5 in STEPS.pieces[1]
    assert 7 not in STEPS.pieces[1]


def test_a_point_outside_is_refused() -> None:
    with pytest.raises(InputError, match="x Fraction\\(1, 2\\) is outside 1 to oo"):
        STEPS.at(Fraction(1, 2))
    with pytest.raises(InputError, match="'1': expected a number"):
        STEPS("1")
    with pytest.raises(InputError, match="a must be a number"):
        signed(x - Symbol("a"), x)


def test_a_point_alone_goes_before_its_neighbours() -> None:
    touching = piecewise(x, [(1, 9, -((x - 3) ** 2), None)]).signs()
    assert ends(touching) == [("1", "3", "memory"), ("3", "3", "compute"), ("3", "9", "memory")]
    assert touching.at(3).label == "compute"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(1, oo, 2 * x - 7)], [("1", "7/2", "memory"), ("7/2", "oo", "compute")]),
        ([(1, 9, -(x - 3) * (x - 4))], [("1", "3", "memory"), ("3", "4", "compute"), ("4", "9", "memory")]),
        ([(1, 4, x - 4), (4, oo, 4 - x)], [("1", "4", "memory"), ("4", "4", "compute"), ("4", "oo", "memory")]),
        ([(1, 5, 1 - x)], [("1", "1", "compute"), ("1", "5", "memory")]),
        ([(0, 5, -x)], [("0", "5", "memory")]),
        ([(1, 5, x - 5)], [("1", "5", "memory"), ("5", "5", "compute")]),
        ([(1, 5, 0)], [("1", "5", "compute")]),
        ([(1, 2, -1), (2, 3, 2 - x)], [("1", "3", "memory")]),
        ([(1, 2, -1), (2, 3, x - 2)], [("1", "2", "memory"), ("2", "3", "compute")]),
        ([(1, 2, 0), (2, 3, -1)], [("1", "2", "compute"), ("2", "3", "memory")]),
        ([(1, 9, x**2 - 2)], [("1", "sqrt(2)", "memory"), ("sqrt(2)", "9", "compute")]),
        ([(1, 2, -1), (2, 3, 1), (3, 4, 1)], [("1", "2", "memory"), ("2", "4", "compute")]),
        ([(3, 3, x - 3)], [("3", "3", "compute")]),
        (
            [(1, sqrt(5 + 2 * sqrt(6)), x**4 - 10 * x**2 + 1)],
            [("1", "sqrt(2*sqrt(6) + 5)", "memory"), ("sqrt(2*sqrt(6) + 5)", "sqrt(2*sqrt(6) + 5)", "compute")],
        ),
    ],
)
def test_signs_between_roots(pieces: list, expected: list) -> None:
    assert ends(piecewise(x, [(*piece, None) for piece in pieces]).signs()) == expected


def test_three_ways() -> None:
    """A crossing is an edge; what is zero throughout is a stretch."""
    function = piecewise(x, [(1, 3, 2 - x, "a"), (3, 5, 0, "b"), (5, 7, -((x - 6) ** 2), "c")])
    assert ends(function.signs("less", "more", "same")) == [("1", "2", "more"), ("2", "3", "less"), ("3", "5", "same"), ("5", "7", "less")]


@given(functions())
@settings(max_examples=30)
def test_signs_are_those_of_the_values(function: Piecewise) -> None:
    signs = function.signs()
    assert (signs.low, signs.high) == (function.low, function.high)
    assert all(left.high == right.low for left, right in pairwise(signs.pieces))
    assert all(left.label != right.label for left, right in pairwise(signs.pieces))
    for point in samples(function):  # where pieces meet, the value is that of the first
        told = {piece.label for piece in signs.pieces if point in piece}
        assert ("memory" if function(point) < 0 else "compute") in told
        assert len(told) == 1 or point in signs.edges
    for root in zeros(function):
        if abs(function.at(root).value.subs(x, root).evalf(30, chop=True)) < 1e-20:
            assert "compute" in {piece.label for piece in signs.pieces if root in piece}
        else:
            assert root in function.edges


@given(functions(), functions())
@settings(max_examples=25)
def test_comparing_is_the_sign_of_the_difference(before: Piecewise, after: Piecewise) -> None:
    compared = before.compare(after)
    assert (compared.low, compared.high) == (1, min(before.high, after.high))
    for piece in compared.pieces:
        inner = piece.low if piece.is_point else between(piece.low, piece.high)
        gain = before(inner) - after(inner)
        if inner not in before.edges and inner not in after.edges:
            assert piece.label == ("pays" if gain > 0 else "loses" if gain < 0 else "the same")


def test_arithmetic_is_that_of_the_values() -> None:
    other = piecewise(x, [(2, 5, x, "memory"), (5, 8, 5, "compute")])
    for result, value in (
        (STEPS - other, 5),
        (STEPS.overlay(other, lambda left, right: left / right), 2),
        (STEPS - 1, 9),
        (STEPS + x, 15),
        (STEPS.map(lambda value: 1 / value), Rational(1, 10)),
    ):
        assert result(5) == value
    both = STEPS - other
    assert both.edges == (4, 5, 6)
    assert (both.low, both.high, both.labels) == (2, 8, ("memory", "compute", "compute", "compute"))
    with pytest.raises(InputError, match="no interval in common"):
        STEPS - piecewise(x, [(-3, Rational(1, 2), 0, None)])
    with pytest.raises(InputError, match="no common range"):
        STEPS - Piecewise(Symbol("y"), other.pieces)


def test_an_end_two_ranges_share_is_a_point_of_both() -> None:
    left, right = piecewise(x, [(1, 4, 1, "a")]), piecewise(x, [(4, 9, 2, "b")])
    assert ends(left - right) == [("4", "4", "a")]
    assert ends(STEPS - piecewise(x, [(4, 5, 0, None)])) == [("4", "5", "compute")]
    assert (STEPS - piecewise(x, [(4, 4, 0, None)]))(4) == 8


def test_merging() -> None:
    function = piecewise(x, [(1, 2, x, "a"), (2, 3, x, "a"), (3, 4, 3, "a"), (4, 5, 3, "b")])
    assert ends(function.merged()) == [("1", "4", "a"), ("4", "5", "b")]
    assert function.merged().pieces[0].value is nan
    assert ends(function.merged(value=True)) == [("1", "3", "a"), ("3", "4", "a"), ("4", "5", "b")]
    assert ends(function.merged(value=True, combine=lambda a, b: a + b)) == [("1", "3", "aa"), ("3", "5", "ab")]
    with pytest.raises(InputError, match="merged by label"):
        function.merged()(2)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (7, []),
        (8, [("1", "4")]),
        (10, [("1", "5")]),
        (25, [("1", "7")]),
    ],
)
def test_stretches_within_a_target(target: int, expected: list) -> None:
    assert [(str(part.low), str(part.high)) for part in STEPS.within(target)] == expected


def test_a_touched_target_is_a_point() -> None:
    function = piecewise(x, [(1, 4, (x - 2) ** 2 + 5, "a"), (4, oo, 36 / x, "b")])
    stretches = function.within(5)
    assert [(str(part.low), str(part.high), part.pieces[0].label) for part in stretches] == [("2", "2", "a"), ("36/5", "oo", "b")]
    assert [(part.low, part.high) for part in piecewise(x, [(2, 2, 5, "a")]).within(5)] == [(2, 2)]


@given(functions(), numbers)
@settings(max_examples=25)
def test_within_is_where_the_value_is_at_most_the_target(function: Piecewise, target: Fraction) -> None:
    stretches = function.within(target)
    for point in samples(function):
        values = [piece.value.subs(x, point) for piece in function.pieces if point in piece]
        assert any(point in piece for part in stretches for piece in part.pieces) == any(value <= exact(target) for value in values)


def test_extremes() -> None:
    valley = piecewise(x, [(1, oo, x + 9 / x, "a")])
    assert valley.minimum() == (6, 3)
    assert piecewise(x, [(1, oo, x + 7 / x, "a")]).minimum() == (2 * sqrt(7), sqrt(7))
    assert piecewise(x, [(1, oo, x + 7 / x, "a")]).minimum(whole=True) == (Rational(16, 3), 3)
    assert piecewise(x, [(0, oo, 5 + 1 / x, "a")]).minimum() == (5, oo)
    assert piecewise(x, [(1, 3, x, "a"), (3, 5, 6 - x, "b")]).map(lambda value: -value).minimum() == (-3, 3)
    assert piecewise(x, [(1, 2, 4, "a"), (2, 3, 4, "b")]).minimum() == (4, 1)
    with pytest.raises(InputError, match="finite"):
        piecewise(x, [(0, 0, 1 / x, "a")]).minimum()


@given(functions())
@settings(max_examples=25)
def test_no_value_is_beyond_an_extreme(function: Piecewise) -> None:
    (least, at), (most, _) = function.minimum(), function.map(lambda value: -value).minimum()
    assert any(order(piece.value.subs(x, at), least) == 0 for piece in function.pieces if at in piece)
    for point in samples(function):
        for piece in function.pieces:
            if point in piece:
                value = piece.value.subs(x, point)
                assert order(least, value) <= 0 <= order(-most, value)


def test_sums_in_closed_form() -> None:
    n = symbols("n", positive=True)
    assert expand(sum_over(x**3, x, Integer(1), n) - (n * (n + 1) / 2) ** 2) == 0
    assert summed(STEPS, 2, 7) == 8 + 8 + 8 + 10 + 12 + 25
    assert [(first, last) for _, first, last in STEPS.counts(2, 7)] == [(2, 4), (5, 6), (7, 7)]
    for expression in (1 / x, 2**x):
        with pytest.raises(InputError, match="not a polynomial in x"):
            sum_over(expression, x, Integer(1), Integer(3))


@given(functions())
@settings(max_examples=30)
def test_sums_are_those_of_the_values(function: Piecewise) -> None:
    last = int(function.high)
    assert summed(function, 1, last) == sum(function(point) for point in range(1, last + 1))


@given(st.lists(formulas, min_size=1, max_size=4))
@settings(max_examples=30)
def test_an_envelope_is_the_largest(entries: list[Expr]) -> None:
    roof = envelope(x, 1, 9, dict(enumerate(entries)))
    assert (roof.low, roof.high) == (1, 9)
    for point in samples(roof):
        values = [entry.subs(x, point) for entry in entries]
        assert roof(point) == max(values)
        told = {piece.label for piece in roof.pieces if point in piece}
        assert values.index(max(values)) in told or point in (1, 9, *roof.edges)
    for piece in roof.pieces:
        if not piece.is_point:
            inner = between(piece.low, piece.high)
            assert piece.label == max(range(len(entries)), key=lambda place: entries[place].subs(x, inner))


def test_of_equals_the_first_is_the_largest() -> None:
    assert envelope(x, 1, 5, {"a": x, "b": x}).labels == ("a",)
    assert envelope(x, 1, 5, {}).pieces == (Piece(Integer(1), Integer(5), Integer(0), ""),)
    assert ends(envelope(x, 1, 5, {"a": x, "b": (x - 3) ** 2 + x})) == [("1", "3", "b"), ("3", "3", "a"), ("3", "5", "b")]
    assert ends(envelope(x, 1, 5, {"a": x, "b": (x - 3) ** 2 + x, "c": Integer(-1)})) == [("1", "5", "b")]


def test_a_total_tells_who_is_bound() -> None:
    parts = {
        "q": envelope(x, 1, oo, {"memory": x + 4, "compute": 2 * x}),
        "k": envelope(x, 1, oo, {"memory": x / 2 + 1, "compute": x}),
        "norm": envelope(x, 1, oo, {"memory": 1 / (x + 1)}),
    }
    whole = total([*parts.items()])
    assert [(str(piece.low), sorted(piece.label)) for piece in whole.pieces] == [("1", []), ("2", ["k"]), ("4", ["k", "q"])]
    assert all(whole(point) == sum(part(point) for part in parts.values()) for point in (1, 2, 3, 4, 50))
    with pytest.raises(InputError, match="'k' is defined from 2 to oo"):
        total([("q", parts["q"]), ("k", parts["k"] - piecewise(x, [(2, oo, 0, None)]))])


def test_a_total_joins_what_has_one_sum() -> None:
    parts = {"a": piecewise(x, [(1, 2, x, "compute"), (2, 3, x, "memory")]), "b": piecewise(x, [(1, 3, 1, "compute")])}
    assert [(piece.low, piece.high, piece.label) for piece in total([*parts.items()]).pieces] == [(1, 3, {"b"})]


def test_whole_numbers_one_by_one() -> None:
    blocks = counted(x, range(1, 10), lambda n: (-(-n // 4), None))
    even = counted(x, range(1, 10), lambda n: (2, None))
    assert blocks(5) == 2
    assert ends(blocks.compare(even)) == [("1", "4", "loses"), ("5", "8", "the same"), ("9", "9", "pays")]
    with pytest.raises(InputError, match="outside"):
        blocks(Fraction(3, 2))
    joined = blocks.merged(value=True)
    assert ends(joined) == [("1", "4", None), ("5", "8", None), ("9", "9", None)]
    assert ends(joined.overlay(piecewise(x, [(1, 3, 0, None), (4, 9, 0, None)]), lambda a, _: a))[1] == ("4", "4", None)
    assert summed(blocks, 1, 9) == 4 + 8 + 3


def test_order_is_exact() -> None:
    close = Rational("1.41421356237309504880168872420969807856967187537694")
    assert (order(sqrt(2), close), order(close, sqrt(2)), order(-oo, close)) == (1, -1, -1)
    assert ascending([sqrt(2) + sqrt(3), sqrt(5 + 2 * sqrt(6))]) == [sqrt(2) + sqrt(3)]
    assert log(20) < between(log(20), Integer(3)) < 3


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(-2, 1))
@settings(max_examples=25)
def test_quick_polynomials_are_those_of_sympy(coefficients: list[int], lowest: int) -> None:
    expression = sum((Rational(number, 3) * x ** (lowest + place) for place, number in enumerate(coefficients)), start=Integer(0))
    terms = powers(expression, x)
    assert terms is not None
    assert expand(sum(exact(number) * x**power for power, number in terms.items()) - expression) == 0
    for root in signed(expression, x).roots(Rational(1, 100), Integer(99)):
        assert abs(expression.subs(x, root).evalf(30, chop=True)) < 1e-20
    assert signed(expression - expression, x).is_zero


def test_limits_and_degrees() -> None:
    assert (limit(Integer(3), x), limit((1 - x) / (2 + x**2), x), limit(-(x**2) / (x + 1), x)) == (3, 0, -oo)
    with pytest.raises(InputError, match="degree 16"):
        signed(x**16 - x + 5, x).roots(Integer(0), oo)
    assert signed(x**3 - 6 * x**2 + 11 * x - 6, x).roots(-oo, oo) == [1, 2, 3]
