"""Saturating symbols, and the branches into which they divide the range of a variable.

The context of a sliding window is ``t_w = min(t, W)``; the upper bound on touched experts is ``min(E, K b)``. On each side
of the point where the two arguments are equal, the symbol equals one of them and every formula is a polynomial; at the
point both sides agree. The expected number of experts, ``E (1 - (1 - K/E)^b)``, is a single formula over b; over E or K it
has a second branch below ``E = K``, where every token touches all experts. A definition by a condition also has two
branches, such as the queries served by one read of keys and values, depending on whether these fit the cache; at the
boundary the first applies.
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
    """One branch of a formula with `min`: the active argument of each minimum and the condition under which it is active.

    Attributes
    ----------
    active : the formula or the active argument for every saturating symbol, and for every minimum in the formulas.
    where : the symbolic condition, ends included; true if nothing saturates.
    low, high : the ends of the branch in a variable, set by `over`; numeric where values are known.
    """

    active: Mapping[Any, Expr]
    where: Boolean
    low: Expr = S.Zero
    high: Expr = oo

    @property
    def margins(self) -> tuple[Expr, ...]:
        """Expressions that are all nonnegative exactly on this branch."""
        return tuple(margin for margin, _ in self._margins)

    @property
    def _margins(self) -> tuple[tuple[Expr, bool], ...]:
        """The margins, and whether each must be positive."""
        sides = (condition for condition in cast(tuple[Any, ...], And.make_args(self.where)) if condition != true)
        return tuple((cast(Expr, condition.gts - condition.lts), isinstance(condition, StrictGreaterThan)) for condition in sides)

    def over(self, x: Symbol, values: Values | None = None) -> Branch:
        """The branch with its ends in a variable, for positive values of the other symbols.

        >>> from symroof.symbols import E, K, X, b
        >>> [(branch.over(b).low, branch.over(b).high) for branch in branches({X: Min(E, K * b)}, [b])]
        [(0, E/K), (E/K, oo)]
        """
        if self.where == true:
            return self
        low, high, known = self.low, self.high, {symbol: value for symbol, value in (values or {}).items() if symbol != x}
        for margin, strict in self._margins:
            low, high = within(substitute(margin, known), x, low, high, strict=strict)
        return replace(self, low=low, high=high)

    @property
    def has_room(self) -> bool:
        """Whether it ends after it starts, or may do so if symbols are left."""
        return (self.low < self.high) != False  # noqa: E712 - with symbols left it is neither


def within(margin: Expr, x: Symbol, low: Expr, high: Expr, *, strict: bool = False) -> tuple[Expr, Expr]:
    """The ends of the interval within *low* to *high* on which a margin is nonnegative.

    The margin is linear in the variable, or a number of tokens minus the number of parts that they touch.

    Parameters
    ----------
    strict : whether it must be positive if it does not depend on the variable.

    Raises
    ------
    InputError
        The margin is of another form, or is not linear and has further symbols.

    >>> from symroof.symbols import b
    >>> within(b - 8 * (1 - Untouched(Integer(1) / 4, b)), b, Integer(1), oo)
    (6.90140667405207, oo)
    """
    if not margin.has(Untouched) or x not in margin.free_symbols:
        margin = margin if margin.is_polynomial(x) else cast(Any, together(margin)).as_numer_denom()[0]  # symbols are positive
        rest, slope = substitute(margin, {x: Integer(0)}), cast(Expr, margin.diff(x))
        if slope.is_zero and (rest.is_extended_negative or (strict and rest == 0)):  # independent of the variable, and never satisfied
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
    raise InputError(f"{margin} is nonnegative on several intervals of {x}")


def formulas(definitions: Values) -> dict[Symbol, Expr]:
    """The definitions that are single formulas over their whole range, with other definitions substituted.

    >>> from symroof.algebra.unions import union
    >>> from symroof.symbols import E, K, X, b, alpha
    >>> formulas({X: E * union(K / E, b), alpha: Integer(1) / 2}), formulas({X: Min(E, K * b)})
    ({X: E*(1 - (1 - K/E)**b)}, {})
    """
    several = (ceiling, floor, Min, Max, Piecewise)
    single = {symbol: formula for symbol, formula in definitions.items() if formula.free_symbols and not formula.has(*several)}
    for _ in single:  # definitions may depend on each other
        single = {symbol: substitute(formula, single) for symbol, formula in single.items()}
    return single


def saturating(definitions: Mapping[Symbol, Expr], used: Iterable[object]) -> dict[Symbol, Any]:
    """The definitions of used symbols that are single formulas, minima of two products, or conditional; not those that count blocks."""
    if not definitions:
        return {}
    wanted, single = set(used), formulas(definitions)
    divided = {
        symbol: substitute(formula, single)
        for symbol, formula in definitions.items()
        if isinstance(formula, Min | Piecewise) and not formula.has(ceiling, floor)
    }
    known = {**divided, **single}
    return {symbol: known[symbol] for symbol in definitions if symbol in wanted and symbol in known}


def minima(used: Iterable[Expr]) -> dict[Expr, Min]:
    """The minima of two products within the formulas, each mapped to itself.

    >>> from symroof.symbols import B_t, b, d
    >>> minima([2 * b * d, b * d / Min(b, B_t)])
    {Min(B_t, b): Min(B_t, b)}
    """
    atoms = frozenset().union(*map(_minima, used))
    fitting = sorted((atom for atom in atoms if len(atom.args) == 2 and not atom.has(ceiling, floor)), key=str)
    return {atom: atom for atom in fitting if not any(arg.has(Min, Max) for arg in atom.args)}


@functools.lru_cache(4096)  # all questions about a step search the same formulas
def _minima(formula: Expr) -> frozenset[Min]:
    return frozenset(formula.atoms(Min))


def _divided(branch: Branch, symbol: Expr, definition: Any, moving: set[Symbol]) -> list[Branch]:
    """A branch divided where another minimum changes its active argument, with the branch's own arguments substituted."""
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
    """A branch divided where a share that is a quotient reaches 1, beyond which nothing is untouched; a symbolic share ends there."""
    formula = branch.active[symbol]
    shares = sorted({atom.share for atom in formula.atoms(Untouched) if atom.share.free_symbols & moving}, key=str)
    quotients = [(share, *cast(tuple[Any, Any], share.as_numer_denom())) for share in shares if not share.is_Symbol]
    if not quotients:
        return [branch]
    share, part, whole = quotients[0]
    none_left = substitute(formula, {cast(Any, atom): Integer(0) for atom in formula.atoms(Untouched) if atom.share == share})
    inside = Branch(branch.active, cast(Boolean, And(branch.where, Le(part, whole))))
    beyond = Branch({**branch.active, symbol: none_left}, cast(Boolean, And(branch.where, Ge(part, whole))))
    divided = [inside, *_within_shares(beyond, symbol, moving)]
    return divided if part.free_symbols & moving else divided[::-1]


def branches(definitions: Mapping[Any, Any], free: Iterable[Symbol], values: Values | None = None) -> tuple[Branch, ...]:
    """The branches over the free symbols, in the order of growing values.

    If values are given and a single symbol is free, branches that are empty for these values are left out.

    >>> from symroof.symbols import E, K, W, X, b, t, t_w
    >>> for branch in branches({t_w: Min(t, W), X: Min(E, K * b)}, [b]):
    ...     print(branch.where, branch.active)
    K*b <= E {X: K*b}
    K*b >= E {X: E}
    >>> from symroof.algebra.unions import union
    >>> [branch.active[X] for over in (b, E) for branch in branches({X: E * union(K / E, b)}, [over])]
    [E*(1 - (1 - K/E)**b), E, E*(1 - (1 - K/E)**b)]
    """
    moving = set(free)
    divided = [Branch({}, true)]
    for symbol, definition in definitions.items():
        divided = [further for branch in divided for further in _divided(branch, symbol, definition, moving)]
        if values and len(moving) == 1 and len(divided) > 2:
            divided = [branch for branch in divided if branch.over(next(iter(moving)), values).has_room]
    return tuple(divided)


def spans(every: Iterable[Branch], x: Symbol, start: Expr, values: Values) -> tuple[Branch, ...]:
    """The branches over the range from *start*, with their ends; neighbours share an end.

    >>> from symroof.symbols import E, K, X, b
    >>> mixtral = {E: Integer(8), K: Integer(2)}
    >>> [(branch.low, branch.high) for branch in spans(branches({X: Min(E, K * b)}, [b]), b, Integer(1), mixtral)]
    [(1, 4), (4, oo)]
    """
    placed = [replace(branch, low=start).over(x, values) for branch in every]
    inside = [branch for branch in placed if branch.where == true or branch.has_room]
    if all(branch.low.is_number for branch in inside):  # a falling margin has the branches in reverse order
        inside.sort(key=functools.cmp_to_key(lambda left, right: order(left.low, right.low)))
    return tuple(inside)
