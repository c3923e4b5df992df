"""Symbols that stop growing, and the branches they divide the range of a variable into.

The context of a sliding window is ``t_w = min(t, W)``, the experts a step touches at most are ``min(E, K b)``. On each
side of the point where the two are equal the symbol stands for one of them, and every formula is a polynomial
again; at that point both sides agree. The experts that it touches in expectation, ``E (1 - (1 - K/E)^b)``, are one formula
all along, but over E or K, where every token touches all of them below ``E = K``. Or a symbol stands for another formula where
a condition fails, as the queries that one read of keys and values serves do where these no longer fit the cache; at that point
the first holds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

from sympy import And, Expr, Ge, Integer, Le, Max, Min, Piecewise, S, StrictGreaterThan, Symbol, ceiling, floor, oo, together, true
from sympy.logic.boolalg import Boolean

from symroof.algebra.reals import between, order
from symroof.algebra.unions import Untouched
from symroof.algebra.univariate import signed
from symroof.errors import InputError
from symroof.symbols import Values, substitute


@dataclass(frozen=True)
class Branch:
    """A side to stand on: what each saturating symbol stands for there, and where that is.

    Attributes
    ----------
    active : the formula or the argument of its minimum for every saturating symbol, and for every minimum in the formulas.
    where : the condition in letters, ends included; true where nothing saturates.
    low, high : where it starts and ends in a variable, once that is asked by `over`; numbers as far as the letters have them.
    """

    active: Mapping[Any, Expr]
    where: Boolean
    low: Expr = S.Zero
    high: Expr = oo

    @property
    def margins(self) -> tuple[Expr, ...]:
        """What is zero or above on the branch, and nowhere else all of it."""
        return tuple(margin for margin, _ in self._margins)

    @property
    def _margins(self) -> tuple[tuple[Expr, bool], ...]:
        """The margins, and whether each has to be above zero."""
        sides = (one for one in cast(tuple[Any, ...], And.make_args(self.where)) if one != true)
        return tuple((cast(Expr, one.gts - one.lts), isinstance(one, StrictGreaterThan)) for one in sides)

    def over(self, x: Symbol, values: Values | None = None) -> Branch:
        """The branch with its ends in a variable, the other symbols being positive.

        >>> from symroof.symbols import E, K, X, b
        >>> [(one.over(b).low, one.over(b).high) for one in branches({X: Min(E, K * b)}, [b])]
        [(0, E/K), (E/K, oo)]
        """
        if self.where == true:
            return self
        low, high, known = self.low, self.high, {symbol: value for symbol, value in (values or {}).items() if symbol != x}
        for letters, strict in self._margins:
            low, high = within(substitute(letters, known), x, low, high, strict=strict)
        return replace(self, low=low, high=high)

    @property
    def has_room(self) -> bool:
        """Whether it ends after it starts; with letters left it may."""
        return (self.low < self.high) != False  # noqa: E712 - with letters left it is neither


def within(margin: Expr, x: Symbol, low: Expr, high: Expr, *, strict: bool = False) -> tuple[Expr, Expr]:
    """The ends of the stretch from *low* to *high* on which a margin is zero or above: a line, or a number of tokens over what they touch.

    Parameters
    ----------
    strict : whether it has to be above zero, where the variable has no say.

    Raises
    ------
    InputError
        The margin is neither, or letters are left in one that is no line.

    >>> from symroof.symbols import b
    >>> within(b - 8 * (1 - Untouched(Integer(1) / 4, b)), b, Integer(1), oo)
    (6.90140667405207, oo)
    """
    if not margin.has(Untouched) or x not in margin.free_symbols:
        margin = margin if margin.is_polynomial(x) else cast(Any, together(margin)).as_numer_denom()[0]  # of letters above zero
        rest, slope = substitute(margin, {x: Integer(0)}), cast(Expr, margin.diff(x))
        if slope.is_zero and (rest.is_extended_negative or (strict and rest == 0)):  # the variable has no say, and the branch no room
            return low, low
        start = -rest / slope if slope.is_positive else low
        end = -rest / slope if slope.is_negative else high
        return cast(Expr, Max(low, start)), cast(Expr, Min(high, end))
    decider = signed(margin, x)
    roots = [root for root in decider.roots(low, high) if root not in (low, high)]
    signs = [decider.sign(between(*ends)) for ends in pairwise((low, *roots, high))]
    if signs.count(1) == len(signs):
        return low, high
    if signs.count(1) == 0:
        return low, low
    if len(signs) == 2:
        return (roots[0], high) if signs[1] == 1 else (low, roots[0])
    raise InputError(f"{margin} is zero or above on several stretches of {x}")


def formulas(definitions: Values) -> dict[Symbol, Expr]:
    """The definitions that are one formula over their whole range, told without one another.

    >>> from symroof.algebra.unions import union
    >>> from symroof.symbols import E, K, X, b, alpha
    >>> formulas({X: E * union(K / E, b), alpha: Integer(1) / 2}), formulas({X: Min(E, K * b)})
    ({X: E*(1 - (1 - K/E)**b)}, {})
    """
    found = {symbol: one for symbol, one in definitions.items() if one.free_symbols and not one.has(ceiling, floor, Min, Max, Piecewise)}
    for _ in found:  # one may need another
        found = {symbol: substitute(one, found) for symbol, one in found.items()}
    return found


def saturating(definitions: Mapping[Symbol, Expr], used: Iterable[object]) -> dict[Symbol, Any]:
    """Those of the used symbols that are one formula, the lesser of two products, or one of two formulas by a condition; no blocks."""
    letters, told = set(used), formulas(definitions)
    divided = {
        symbol: substitute(one, told)
        for symbol, one in definitions.items()
        if isinstance(one, Min | Piecewise) and not one.has(ceiling, floor)
    }
    return {symbol: one for symbol in definitions if symbol in letters and (one := told.get(symbol, divided.get(symbol))) is not None}


def minima(used: Iterable[Expr]) -> dict[Expr, Min]:
    """The minima of two products that stand in the formulas themselves, each for itself.

    >>> from symroof.symbols import B_t, b, d
    >>> minima([2 * b * d, b * d / Min(b, B_t)])
    {Min(B_t, b): Min(B_t, b)}
    """
    atoms = frozenset().union(*map(_minima, used))
    fitting = sorted((atom for atom in atoms if len(atom.args) == 2 and not atom.has(ceiling, floor)), key=str)
    return {atom: atom for atom in fitting if not any(arg.has(Min, Max) for arg in atom.args)}


@functools.lru_cache(4096)  # every question about a step looks through the same formulas
def _minima(formula: Expr) -> frozenset[Min]:
    return frozenset(formula.atoms(Min))


def _divided(branch: Branch, symbol: Expr, definition: Any, moving: set[Symbol]) -> list[Branch]:
    """A branch divided where a further minimum changes sides, with what the branch settles put into it."""
    settled = substitute(definition, branch.active)
    if isinstance(settled, Piecewise) and settled.free_symbols & moving:
        (value, condition), (otherwise, _) = cast(Any, settled).args
        beyond = StrictGreaterThan(condition.lhs, condition.rhs)
        sides = ((value, condition), (otherwise, beyond))
        return [Branch({**branch.active, symbol: meant}, cast(Boolean, And(branch.where, side))) for meant, side in sides]
    if not settled.free_symbols & moving:
        return [branch] if settled == definition else [Branch({**branch.active, symbol: settled}, branch.where)]
    if not isinstance(settled, Min):
        return _within_shares(Branch({**branch.active, symbol: settled}, branch.where), symbol, moving)
    growing, limit = sorted(cast(Any, settled).args, key=lambda part: not part.free_symbols & moving)
    return [
        Branch({**branch.active, symbol: argument}, cast(Boolean, And(branch.where, side(growing, limit))))
        for side, argument in ((Le, growing), (Ge, limit))
    ]


def _within_shares(branch: Branch, symbol: Expr, moving: set[Symbol]) -> list[Branch]:
    """A branch divided where a quotient that is a share is 1: beyond, nothing is left untouched. One that is a letter ends there."""
    formula = branch.active[symbol]
    shares = sorted({one.share for one in formula.atoms(Untouched) if one.share.free_symbols & moving}, key=str)
    quotients = [(share, *cast(tuple[Any, Any], share.as_numer_denom())) for share in shares if not share.is_Symbol]
    if not quotients:
        return [branch]
    share, part, whole = quotients[0]
    none_left = substitute(formula, {cast(Any, one): Integer(0) for one in formula.atoms(Untouched) if one.share == share})
    inside = Branch(branch.active, cast(Boolean, And(branch.where, Le(part, whole))))
    beyond = Branch({**branch.active, symbol: none_left}, cast(Boolean, And(branch.where, Ge(part, whole))))
    divided = [inside, *_within_shares(beyond, symbol, moving)]
    return divided if part.free_symbols & moving else divided[::-1]


def branches(definitions: Mapping[Any, Any], free: Iterable[Symbol], values: Values | None = None) -> tuple[Branch, ...]:
    """The branches over the free symbols, in the order in which one that grows goes through them.

    Where values are given, and one symbol alone is free, those that they leave no room for are left out.

    >>> from symroof.symbols import E, K, W, X, b, t, t_w
    >>> for one in branches({t_w: Min(t, W), X: Min(E, K * b)}, [b]):
    ...     print(one.where, one.active)
    K*b <= E {X: K*b}
    K*b >= E {X: E}
    >>> from symroof.algebra.unions import union
    >>> [one.active[X] for over in (b, E) for one in branches({X: E * union(K / E, b)}, [over])]
    [E*(1 - (1 - K/E)**b), E, E*(1 - (1 - K/E)**b)]
    """
    moving = set(free)
    found = [Branch({}, true)]
    for symbol, definition in definitions.items():
        found = [further for one in found for further in _divided(one, symbol, definition, moving)]
        if values and len(moving) == 1 and len(found) > 2:
            found = [one for one in found if one.over(next(iter(moving)), values).has_room]
    return tuple(found)


def spans(found: Iterable[Branch], x: Symbol, start: Expr, values: Values) -> tuple[Branch, ...]:
    """The branches that a range from *start* on goes through, with their ends, which neighbours share.

    >>> from symroof.symbols import E, K, X, b
    >>> mixtral = {E: Integer(8), K: Integer(2)}
    >>> [(one.low, one.high) for one in spans(branches({X: Min(E, K * b)}, [b]), b, Integer(1), mixtral)]
    [(1, 4), (4, oo)]
    """
    placed = [replace(branch, low=start).over(x, values) for branch in found]
    inside = [branch for branch in placed if branch.where == true or branch.has_room]
    if all(branch.low.is_number for branch in inside):  # one that shrinks goes through them the other way
        inside.sort(key=functools.cmp_to_key(lambda left, right: order(left.low, right.low)))
    return tuple(inside)
