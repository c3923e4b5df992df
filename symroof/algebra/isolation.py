"""Isolation of all roots of sums of exponentials, each proved to be the only root in its bracket.

An interval is bisected until on every part the values exclude zero, or the slopes do and the signs at its ends show whether
there is a root. Beyond a bound the polynomial of the largest base dominates. That bisection terminates for an irreducible sum
follows from Schanuel's conjecture; the results are proved without it.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, isqrt
from typing import TYPE_CHECKING, Any, cast

from sympy import Expr, Float, Integer, NumberSymbol, Rational, oo
from sympy import ceiling as next_whole
from sympy import floor as whole_below
from sympy.core.expr import AtomicExpr
from sympy.multipledispatch import dispatch

from symroof.algebra.enclosure import ZERO, Enclosure, add, enclose, logarithm, multiply, power
from symroof.algebra.reals import exact
from symroof.errors import InputError, quote

if TYPE_CHECKING:
    from symroof.algebra.exponential import Enclosed, Exponential

PRECISION = 101
"""Binary digits of a root's enclosure: ``2^-101 < 1e-30``."""
PARTS = 20_000
"""The largest number of parts into which a range is divided."""
DENOMINATORS = 64
"""The largest denominator for which a root is tested for being rational."""
Bracket = tuple[Fraction, Fraction]


class Root(NumberSymbol):
    """An irrational root of an exponential sum: a real number with a proved enclosure, ordered exactly with rationals and other roots.

    The enclosure, from *low* to *high*, is narrower than 1e-30 of the root.

    >>> from sympy.abc import x
    >>> from symroof.algebra.exponents import exponential
    >>> root = exponential(x / 3 - 8 * (1 - Rational(3, 4) ** x), x).roots(Integer(1), oo)[0]
    >>> whole_below(root), root > Rational(239757, 10000), root
    (23, True, 23.9757500233615)
    """

    __slots__ = ("_bracket", "function", "high", "low")
    is_real = True
    is_integer = False
    is_zero = False
    function: Enclosed
    low: Fraction
    high: Fraction
    _bracket: Bracket

    def __new__(cls, function: Enclosed, low: Fraction, high: Fraction, bracket: Bracket) -> Root:
        """The only root in a bracket, with neighbours *low* and *high* on the grid of `PRECISION`."""
        root = cast(Root, AtomicExpr.__new__(cls))
        root.function, root.low, root.high, root._bracket = function, low, high, bracket
        return root

    def __reduce__(self) -> tuple[Any, ...]:
        return (Root, (self.function, self.low, self.high, self._bracket))

    def _hashable_content(self) -> tuple[Any, ...]:
        return (self.function, self.low, self.high)

    __eq__, __hash__ = Expr.__eq__, Expr.__hash__

    def __int__(self) -> int:
        return ceil(self.high) if self.high <= 0 else floor(self.low)

    @property
    def closed_form(self) -> Expr | None:
        """The root in terms of logarithms or Lambert's W, if it has such a form."""
        from symroof.algebra.lambert import closed_form

        return closed_form(self)

    def refined(self, bits: int) -> Bracket:
        """An enclosure of this many binary digits."""
        self._bracket = narrowed(self.function, *self._bracket, bits)
        return self._bracket

    def _eval_is_positive(self) -> bool:
        return self.low >= 0

    def _eval_is_negative(self) -> bool:
        return self.high <= 0

    def _as_mpf_val(self, prec: int) -> Any:
        low, high = self.refined(prec + 2)
        return cast(Any, exact((low + high) / 2))._as_mpf_val(prec)

    def approximation_interval(self, number_cls: Any) -> tuple[Expr, Expr] | None:
        """The integers on both sides, for sympy's floor and ceiling."""
        if number_cls is not Integer:
            return None
        below = floor(self.low)  # integers are on the grid, so none is inside
        return Integer(below), Integer(below + 1)

    def _sympystr(self, printer: Any) -> str:
        return str(Float(self, 15))

    _latex = _sympystr


def _order(left: Root, right: Root) -> int:
    if left == right:
        return 0
    bits = PRECISION
    while bits <= 64 * PRECISION:
        mine, theirs = left.refined(bits), right.refined(bits)
        if mine[1] <= theirs[0]:
            return -1
        if theirs[1] <= mine[0]:
            return 1
        bits *= 2
    raise InputError(f"the roots {left} and {right} are too close to separate")


def _eval_is_ge(left: Any, right: Any) -> bool:
    if isinstance(left, Root) and isinstance(right, Root):
        return _order(left, right) >= 0
    if isinstance(left, Root):
        return _side(left.function, *left._bracket, Fraction(right.p, right.q)) >= 0
    low, high = right._bracket
    return _side(right.function, low, high, Fraction(left.p, left.q)) <= 0


for kinds in ((Root, Rational), (Rational, Root), (Root, Root)):  # sympy dispatches on its own name of the relation
    dispatch(*kinds)(_eval_is_ge)


def isolated(function: Enclosed, low: Expr, high: Expr) -> list[Expr]:
    """The roots from *low* to *high*, possibly with some within 1 of the ends, in no particular order.

    Raises
    ------
    InputError
        The range begins at -oo, or roots are too close to separate.
    """
    if not low.is_finite:
        raise InputError(f"roots from {quote(low)} on: expected a finite number")
    start, far = max(Fraction(int(cast(Any, whole_below(low)))), cast(Fraction, function.least)), function.reach()
    end = far if high == oo else min(far, Fraction(int(cast(Any, next_whole(high)))))
    rationals: set[Fraction] = set()
    brackets: list[Bracket] = []
    waiting, parts = [(start, end)] if start <= end else [], 0
    while waiting:
        left, right = waiting.pop()
        parts += 1
        if parts > PARTS:
            raise InputError(f"the roots in {function.x} from {left} are too close to separate")
        narrow = (right - left).denominator.bit_length() - (right - left).numerator.bit_length()
        values, slopes = function.over(left, right, 64 + 2 * max(narrow, 0))
        if values.sign:
            continue
        if slopes.sign or left == right:
            signs = function.sign_at(left), function.sign_at(right)
            rationals |= {point for point, sign in zip((left, right), signs, strict=True) if sign == 0}
            if signs[0] * signs[1] < 0:
                brackets.append((left, right))
            continue
        middle = _middle(left, right)
        waiting += [(left, middle), (middle, right)]
    roots = [*map(exact, rationals), *(_root(function, bracket) for bracket in brackets)]
    if len(set(roots)) < len(roots):
        raise InputError(f"two roots in {function.x} are closer than 1e-30 of themselves")
    return roots


def _middle(left: Fraction, right: Fraction) -> Fraction:
    """The point of bisection: the midpoint, or the geometric mean of distant ends."""
    if left >= 0 and right > 4 * max(left, 1):
        return Fraction(isqrt(floor(max(left, Fraction(1)) * right)))
    return (left + right) / 2


def bound(function: Exponential) -> Fraction:
    """A number beyond which there is no root.

    Beyond twice the sum of its other coefficients over the leading coefficient a, the polynomial of base 1 of degree n exceeds
    ``|a| x^n / 2``. The remaining terms are at most ``S x^k base^x`` with S the sum of their coefficients; divided by ``x^n``,
    this decreases beyond ``(k - n) / -ln base``.

    Raises
    ------
    InputError
        The leading coefficient contains several radicals, and whether they cancel is open.
    """
    degree = max(len(numbers) for key, numbers in function.terms if key.base == 1) - 1
    totals = [_coefficient(function, place) for place in range(degree + 1)]
    if not totals[-1].sign:
        raise InputError(f"the leading coefficient in {function.x} could not be separated from zero: no bound on the roots")
    lead = min(abs(end) for end in totals[-1].fractions)
    far = max(Fraction(1), 2 * sum((_size(total) for total in totals[:-1]), start=Fraction(0)) / lead)
    sizes: list[tuple[Fraction, int, Fraction]] = []
    for key, numbers in function.terms:
        if key.base < 1:
            rate, excess = -logarithm(key.base, 64).fractions[1] * function.rate, len(numbers) - 1 - degree
            far = max(far, excess / rate)
            sizes.append((_size(function.constant(key, 64)) * sum(map(abs, numbers)), excess, key.base))
    reach = Fraction(ceil(far))
    while True:
        parts = (size * reach**excess * _size(power(base, reach * function.rate, 64)) for size, excess, base in sizes)
        if sum(parts, start=Fraction(0)) < lead / 2:
            return reach
        reach *= 2


def _coefficient(function: Exponential, place: int) -> Enclosure:
    """The coefficient of this power of x in the terms of base 1."""
    total = ZERO
    for key, numbers in function.terms:
        if key.base == 1 and place < len(numbers):
            total = add(total, multiply(Enclosure(numbers[place], numbers[place], 0), function.constant(key, 128), 128), 128)
    return total


def _size(value: Enclosure) -> Fraction:
    """A short rational upper bound of the absolute value."""
    if value.exponent < -4000:
        return Fraction(1, 2**2000)
    return max(abs(end) for end in value.fractions)


def _root(function: Enclosed, bracket: Bracket) -> Expr:
    """The root between two points with different signs and no zero slope; a rational if the root is rational."""
    low, high = grid_bracket(function, *bracket, PRECISION)
    near = ((low + high) / 2).limit_denominator(DENOMINATORS)
    if low <= near <= high and bracket[0] < near < bracket[1] and function.sign_at(near) == 0:
        return exact(near)
    if low == high:
        return exact(low)
    return Root(function, low, high, (max(low, bracket[0]), min(high, bracket[1])))


def _side(function: Enclosed, low: Fraction, high: Fraction, point: Fraction) -> int:
    """1 if the only root between two points is above a third point, 0 if it is at that point, -1 if it is below."""
    if point <= low:
        return 1
    if point >= high:
        return -1
    here = function.sign_at(point)
    return 0 if here == 0 else 1 if here == function.sign_at(low) else -1


def narrowed(function: Enclosed, low: Fraction, high: Fraction, bits: int) -> Bracket:
    """A bracket of one root to this many binary digits, both ends included: by Newton's method on intervals, or by bisection."""
    first, last, wide = low, high, bits + 32
    while (high - low) * 2**bits > max(abs(low), abs(high)):
        middle = Fraction(0) if low < 0 < high else (low + high) / 2
        slopes, values = function.over(low, high, wide)[1], function.over(middle, middle, wide)[0]
        steps = [value / slope for value in values.fractions for slope in slopes.fractions] if slopes.sign else [high - low, low - high]
        near, far = max(low, middle - max(steps)), min(high, middle - min(steps))
        if 2 * (far - near) < high - low:
            low, high = enclose(near, far, wide).fractions
            continue
        side = _side(function, first, last, middle)
        low, high = (middle, high) if side > 0 else (low, middle) if side < 0 else (middle, middle)
    return low, high


def grid_bracket(function: Enclosed, first: Fraction, last: Fraction, bits: int) -> Bracket:
    """The grid points of this many binary digits next to the only root in a bracket; the root twice if it is a grid point."""
    low, high = narrowed(function, first, last, bits + 8)
    if not high:
        return low, high
    step = _step(min(abs(low), abs(high)), bits)
    point = floor(high / step) * step  # there is no other grid point above low
    if point >= low:
        side = _side(function, first, last, point)
        if side == 0:
            return point, point
        low, high = (point, high) if side > 0 else (low, point)
    step = _step((low + high) / 2, bits)
    below = floor((low + high) / 2 / step) * step
    return below, below + step


def _step(number: Fraction, bits: int) -> Fraction:
    """The unit of the last of this many binary digits of a number."""
    size = abs(number)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    return Fraction(2) ** (exponent - (size < Fraction(2) ** exponent) - bits)
