"""The load of the fullest of several devices if every token chooses its experts at random: expectations, and bounds of them.

T tokens choose K of E experts each, uniformly and independently of each other; n devices have ``g = E / n`` experts each. Device j gets
``L_j`` token-expert pairs and reads the weights of ``D_j`` experts. Means are ``T K / n`` and ``X / n``; a step waits for the largest.

**Experts.** Given how many experts are touched, every set of as many is equally likely, so ``P(max D_j <= m)`` is the share of sets with at
most m on each device, ``[z^x] (sum_{k <= m} C(g, k) z^k)^n / C(E, x)``, and the number of touched experts has the distribution of
coupon collecting in groups: ``P(x) = C(E, x) sum_j (-1)^j C(x, j) (C(x - j, K) / C(E, K))^T``. The expectation is computed at every size.

**Pairs.** ``L`` is a sum of T multivariate hypergeometric vectors. Its distribution is followed token by token, devices in order of their
load, while that has at most `MOST` outcomes.

**A bound.** The moment-generating function of L_j is at most that of a binomial of T K trials (Hoeffding 1963, theorem 4), so with
``v = T K (n - 1) / n^2`` ``E max <= T K / n + sqrt(2 v ln n) + ln(n) / 3`` (Bernstein; Boucheron, Lugosi and Massart 2013,
theorem 2.10 and corollary 2.6). From the variance ``V = v (E - K) / (E - 1)`` alone, ``E max <= T K / n + sqrt((n - 1) V)`` (Aven 1985):
deviations sum to zero, so the largest is at most ``sqrt((n - 1) / n)`` of their norm. The lesser counts, and no device has more than
``T min(K, g)`` pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from fractions import Fraction
from math import comb, isqrt, prod
from typing import Any

from sympy import Function, Integer, Rational, log

from symroof.errors import InputError

MOST = 300_000
"""The largest number of outcomes, over all tokens, for which the expectation of pairs is computed."""
SHORT = 2**14
"""Bits of ``C(E, K)^T`` up to which the expectation of experts is exact."""
ROUNDED = 128
"""Binary digits after the point of rounded roots, logarithms and powers; bounds are rounded up."""


class FullestPairs(Function):
    """Token-expert pairs of the fullest device in expectation, or a bound of that, of (T, K, E, n, 0 or 1 for the bound).

    >>> FullestPairs(1, 2, 8, 4, 0), FullestPairs(2, 2, 8, 2, 0), round(FullestPairs(64, 2, 8, 8, 1), 2)
    (8/7, 131/49, 24.32)
    """

    is_real = is_positive = True

    @classmethod
    def eval(cls, *given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number, where all arguments are whole numbers."""
        return _evaluated(given[:4], pairs_bound if given[4] == 1 else expected_pairs)


class FullestExperts(Function):
    """Experts whose weights the fullest device reads in expectation, of (T, K, E, n).

    >>> FullestExperts(1, 2, 8, 4), FullestExperts(10**6, 2, 8, 4)
    (8/7, 2)
    """

    is_real = is_positive = True

    @classmethod
    def eval(cls, *given: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number, where all arguments are whole numbers."""
        return _evaluated(given, expected_experts)


def _evaluated(given: tuple[Any, ...], of_numbers: Any) -> Any:
    if not all(size.is_number for size in given):
        return None
    tokens, _, experts, devices = given
    if not tokens.is_Integer or not (experts / devices).is_Integer:
        raise InputError(
            f"{tokens} tokens, {experts} experts, {devices} devices: an expectation over routings needs whole tokens and shares"
        )
    value = of_numbers(*map(int, given))
    return Rational(value.numerator, value.denominator)


@functools.lru_cache(512)
def expected_pairs(tokens: int, chosen: int, experts: int, devices: int) -> Fraction:
    """``E max L_j``, exactly.

    Raises
    ------
    InputError
        There are more than `MOST` outcomes.
    """
    if tokens == 1:
        return _expected_draws(experts, devices)[chosen]
    each = experts // devices
    digits = 16 * devices  # ways of one token: a coefficient of (1 + z + ... + z^g)^n
    ways = (sum(1 << (part * digits) for part in range(each + 1)) ** devices >> (chosen * digits)) & ((1 << digits) - 1)
    shares = [(parts, prod(comb(each, part) for part in parts)) for parts in _divided(chosen, devices, each)] if ways <= MOST else []
    loads, work = {(0,) * devices: 1}, 0
    for _ in range(tokens):
        work += len(loads) * ways
        if work > MOST:
            raise InputError(f"pairs of {tokens} tokens on {devices} devices have more than {MOST:,} outcomes; give imbalance=bound")
        after: dict[tuple[int, ...], int] = {}
        for load, count in loads.items():
            for parts, weight in shares:
                reached = tuple(sorted(map(sum, zip(load, parts, strict=True))))
                after[reached] = after.get(reached, 0) + count * weight
        loads = after
    return Fraction(sum(load[-1] * count for load, count in loads.items()), comb(experts, chosen) ** tokens)


def _divided(total: int, devices: int, most: int) -> Iterator[tuple[int, ...]]:
    """Every way to divide a total over devices, at most so many on each."""
    if devices == 1:
        yield from ((total,),) if total <= most else ()
        return
    for part in range(max(0, total - most * (devices - 1)), min(total, most) + 1):
        yield from ((part, *others) for others in _divided(total - part, devices - 1, most))


@functools.lru_cache(32)
def _expected_draws(experts: int, devices: int) -> tuple[Fraction, ...]:
    """The largest number on one device of 0, 1, ... different experts, in expectation."""
    each, digits = experts // devices, experts + devices + 8  # no coefficient has more
    totals, mask = [Fraction(0)] * (experts + 1), (1 << digits) - 1
    for most in range(each):
        packed = sum(comb(each, part) << (part * digits) for part in range(most + 1)) ** devices
        for drawn in range(most + 1, experts + 1):
            totals[drawn] += 1 - Fraction((packed >> (drawn * digits)) & mask, comb(experts, drawn))
    return tuple(totals)


@functools.lru_cache(512)
def expected_experts(tokens: int, chosen: int, experts: int, devices: int) -> Fraction:
    """``E max D_j``: exact up to `SHORT` bits, otherwise within ``2^-ROUNDED``."""
    each, every = experts // devices, comb(experts, chosen)
    exact = tokens * every.bit_length() <= SHORT
    bits = 0 if exact else 2 * experts + ROUNDED + 96  # alternating sums cancel as many
    powers = [comb(part, chosen) ** tokens if exact else _power(comb(part, chosen), every, tokens, bits) for part in range(experts + 1)]
    scale = every**tokens if exact else 1 << bits
    total, draws = Fraction(0), _expected_draws(experts, devices)
    for touched in range(chosen, experts + 1):
        ways = sum((-1) ** left * comb(touched, left) * powers[touched - left] for left in range(touched - chosen + 1))
        total += draws[touched] * Fraction(comb(experts, touched) * ways, scale)
    return total if exact else min(Fraction(round(total * 2**ROUNDED), 2**ROUNDED), Fraction(each))


def _power(part: int, whole: int, tokens: int, bits: int) -> int:
    """``(part / whole)^tokens`` in units of ``2^-bits``, rounded."""
    base, result = (part << bits) // whole, 1 << bits
    while tokens:
        if tokens & 1:
            result = result * base >> bits
        base, tokens = base * base >> bits, tokens >> 1
    return result


def pairs_bound(tokens: int, chosen: int, experts: int, devices: int) -> Fraction:
    """A bound of ``E max L_j``, exceeded by none: the least of those above, rounded up."""
    pairs, each = tokens * chosen, experts // devices
    spread = Fraction(pairs, devices) * (1 - Fraction(1, devices))
    without_return = Fraction(experts - chosen, experts - 1) if experts > 1 else Fraction(0)
    return min(_bound(Fraction(pairs, devices), spread, spread * without_return, devices), Fraction(tokens * min(chosen, each)))


def _bound(mean: Fraction, proxy: Fraction, variance: Fraction, devices: int) -> Fraction:
    logarithm = Fraction(str(log(Integer(devices)).evalf(60))) + Fraction(1, 10**50) if devices > 1 else Fraction(0)
    return mean + min(_root(2 * proxy * logarithm) + logarithm / 3, _root((devices - 1) * variance))


def _root(value: Fraction) -> Fraction:
    """A square root, rounded up; that of a square exactly."""
    scaled = value * 4**ROUNDED
    root = isqrt(scaled.numerator // scaled.denominator)
    return Fraction(root if root * root == scaled else root + 1, 2**ROUNDED)
