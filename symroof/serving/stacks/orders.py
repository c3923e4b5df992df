"""The orders in which techniques can join a stack, counted over the subsets that are accepted, and the weights of Shapley's value.

Subsets are numbers in binary: technique i is in the subset if bit i is set.
"""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction


def orders(count: int, accepted: Collection[int]) -> tuple[dict[int, int], dict[int, int]]:
    """For every accepted subset the number of orders in which it can be reached, and completed, through accepted subsets alone.

    >>> before, after = orders(3, range(8))
    >>> before[7], before[3], after[3]
    (6, 2, 1)
    """
    whole = 2**count - 1
    before, after = {0: 1}, {whole: 1}
    for subset in sorted(accepted, key=int.bit_count):
        if subset:
            before[subset] = sum(before.get(subset ^ 1 << place, 0) for place in range(count) if subset >> place & 1)
    for subset in sorted(accepted, key=int.bit_count, reverse=True):
        if subset != whole:
            after[subset] = sum(after.get(subset | 1 << place, 0) for place in range(count) if not subset >> place & 1)
    return before, after


def joining(count: int, accepted: Collection[int], place: int) -> dict[int, Fraction]:
    """The share of all orders in which a technique joins just after a subset, by that subset; the shares add up to 1.

    If every subset is accepted, ``|S|! (n - |S| - 1)! / n!``: the weights of Shapley (1953). Otherwise the mean is over the orders in
    which every stack on the way is accepted.

    >>> {subset: str(share) for subset, share in joining(2, range(4), 0).items()}
    {0: '1/2', 2: '1/2'}
    >>> joining(2, [0, 2, 3], 0)
    {2: Fraction(1, 1)}
    """
    before, after = orders(count, accepted)
    ways = before.get(2**count - 1, 0)
    every = sorted(subset for subset in accepted if not subset >> place & 1 and subset | 1 << place in accepted)
    found = {subset: Fraction(before[subset] * after[subset | 1 << place], ways) for subset in every} if ways else {}
    return {subset: share for subset, share in found.items() if share}
