"""Formulas that count whole blocks of the variable, as FlashAttention does: solved on whole numbers, exactly.

With blocks of R and ``s = R n - j``, ``0 <= j < R``, the number of blocks is n and the slack a polynomial in n
for each j. Beyond its largest root no sign changes any more; up to there every s is looked at.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from sympy import Expr, Integer, Symbol, ceiling, nan, oo

from symroof.algebra.piecewise import COMPUTE, MEMORY, Piece
from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.algebra.reals import value_at
from symroof.errors import InputError
from symroof.symbols import replaced, substitute

LONGEST = 500_000


def counted_intervals(slack: Expr, x: Symbol, block: Expr) -> tuple[Piece, ...]:
    """The stretches of whole numbers with one bound each; there is no formula on them.

    >>> from symroof.symbols import s
    >>> [(piece.low, piece.high, piece.bound) for piece in counted_intervals(2 * s - 5 * ceiling(s / 4), s, Integer(4))]
    [(1, 2, 'memory'), (3, oo, 'compute')]

    Raises
    ------
    InputError
        The bound still changes beyond half a million.
    """
    size = int(block)
    residues = [_residue(slack, x, block, rest) for rest in range(size)]
    last = max((int(ceiling(root)) for residue in residues for root in residue.roots(Integer(0))), default=0) + 1
    if last * size > LONGEST:
        raise InputError(f"the bound still changes beyond {LONGEST} in {x}")
    numbers = [[int(coefficient) for coefficient in residue.coefficients] for residue in residues]
    values = (value_at(numbers[-position % size], Fraction(-(-position // size))) for position in range(1, last * size + 1))
    bounds = [MEMORY if value < 0 else COMPUTE for value in values]
    changes = [place for place, (left, right) in enumerate(pairwise(bounds), 1) if left != right]
    ends = zip((0, *changes), (*map(Integer, changes), oo), strict=True)
    return tuple(Piece(Integer(before + 1), high, nan, bounds[before]) for before, high in ends)


def _residue(slack: Expr, x: Symbol, block: Expr, rest: int) -> Polynomial:
    """The slack at ``x = block n - rest`` as a polynomial in n, with whole coefficients."""
    n = Symbol("n_", positive=True)
    written = substitute(replaced(slack, ceiling, lambda _: n), {x: block * n - rest})
    return polynomial(written, n)
