"""What an ablation says: of every member of a stack, of every pair, and of subsets that are refused."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sympy import Expr, S

from symroof.answers import Answer, Answers, Intervals, intervals
from symroof.questions.scaling import Curve
from symroof.symbols import Variable
from symroof.units import COUNT, SECOND, in_unit

HELP, COMPETE, INDEPENDENT = "help each other", "compete", "independent"


@dataclass(frozen=True)
class Contribution(Answer):
    """What one member of the stack brings, in seconds per generated token saved, over a variable.

    Attributes
    ----------
    name : its techniques, as typed.
    family : of its techniques: "compression", "decoding", "system", "hardware", "ceilings"; "mixed" if there are several.
    alone : saved by it on the unchanged step; None if that is refused.
    last : saved by it on top of all others, which is what leaving it out costs; None if the stack is refused without it.
    share : its Shapley share of all that the stack saves.
    """

    name: str
    family: str
    alone: Curve | None
    last: Curve | None
    share: Curve


@dataclass(frozen=True)
class ShareAt(Answer):
    """The contribution of one member at a value of the variable.

    Attributes
    ----------
    alone_expr, last_expr, share_expr : seconds as in `Contribution`, bare.
    part_expr : the share of the gain, bare; None if the stack saves nothing.
    factor_expr : its factor of the speedup: the factors of all members multiply to the speedup of the stack; bare.
    """

    name: str
    family: str
    alone_expr: Expr | None
    last_expr: Expr | None
    share_expr: Expr
    part_expr: Expr | None
    factor_expr: Expr

    alone = in_unit(lambda at: at.alone_expr, SECOND, "Saved alone, as a Quantity in seconds, or None.")
    last = in_unit(lambda at: at.last_expr, SECOND, "Saved on top of all others, as a Quantity in seconds, or None.")
    share = in_unit(lambda at: at.share_expr, SECOND, "Its Shapley share, as a Quantity in seconds.")
    part = in_unit(lambda at: at.part_expr, COUNT, "Its part of the gain, as a Quantity without a unit, or None.")
    factor = in_unit(lambda at: at.factor_expr, COUNT, "Its factor of the speedup, as a Quantity without a unit.")


@dataclass(frozen=True)
class Shares(Answers[ShareAt]):
    """The contributions of all members at a value of the variable; their shares add up to the gain.

    Attributes
    ----------
    over, value_expr : the variable, and its value, bare.
    before_expr, after_expr : seconds per generated token of the unchanged step and of the whole stack, bare.
    """

    _AMONG = "a member of the stack"

    over: Variable
    value_expr: Expr
    before_expr: Expr
    after_expr: Expr

    before = in_unit(lambda at: at.before_expr, SECOND, "Time per generated token of the unchanged step, as a Quantity in seconds.")
    after = in_unit(lambda at: at.after_expr, SECOND, "Time per generated token of the whole stack, as a Quantity in seconds.")
    gain = in_unit(lambda at: at.before_expr - at.after_expr, SECOND, "What the stack saves, as a Quantity in seconds.")
    speedup = in_unit(lambda at: at.before_expr / at.after_expr, COUNT, "Time before over time after, as a Quantity without a unit.")
    additive = in_unit(lambda at: at.additive_expr, SECOND, "`additive_expr`, as a Quantity in seconds, or None.")

    @property
    def additive_expr(self) -> Expr | None:
        """The sum of what every member saves alone, bare; the gain differs from it by interactions. None if one is refused alone."""
        alone = [member.alone_expr for member in self]
        return None if None in alone else sum(cast(list[Expr], alone), start=S.Zero)

    def by_family_exprs(self) -> dict[str, Expr]:
        """The shares of every family together, bare."""
        found: dict[str, Expr] = {}
        for member in self:
            found[member.family] = found.get(member.family, S.Zero) + member.share_expr
        return found


@dataclass(frozen=True)
class Interaction(Answer):
    """What two members do to each other, over a variable: ``time(both) - time(first) - time(second) + time(neither)``.

    Below 0 both together save more than the sum of what each saves alone, above 0 they save some of the same.

    Attributes
    ----------
    time : that difference, in seconds per generated token.
    bytes_exprs : the same difference of memory traffic per generated token, by what is moved, bare; without those that are 0.
    """

    first: str
    second: str
    over: Variable
    time: Curve
    bytes_exprs: Mapping[str, Expr]

    @functools.cached_property
    def signs(self) -> Intervals:
        """The intervals on which the pair helps each other, competes, or is independent."""
        return intervals(self.over, self.time.pieces_expr.signs(below=HELP, above=COMPETE, zero=INDEPENDENT).merged().pieces)


@dataclass(frozen=True)
class Refused(Answer):
    """A subset of the stack that a technique refuses, and why."""

    name: str
    reason: str
