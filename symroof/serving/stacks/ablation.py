"""Ablation: what each technique of a stack brings alone, what its absence costs, and its share of the gain; which pairs help each other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from sympy import Expr, Mul, Pow, Rational, S, Symbol

from symroof.algebra.envelope import envelope, weighted
from symroof.algebra.piecewise import Piecewise
from symroof.algebra.reals import between
from symroof.answers import Answers, Intervals, intervals
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.operators import Graph, Storage
from symroof.questions.regimes import timeline
from symroof.questions.scaling import Curve
from symroof.roof.costs import in_full, variable_of
from symroof.roof.ledger import require_device
from symroof.serving.stacks.contributions import Contribution, Interaction, Refused, ShareAt, Shares
from symroof.serving.stacks.orders import joining, orders
from symroof.symbols import Variable, substitute
from symroof.techniques.registry import family_of, names, techniques_of
from symroof.techniques.technique import Technique
from symroof.units import SECOND, number_of

MOST = 8
"""The most members of a stack; every subset of them is timed."""
OWN, MIXED = "own", "mixed"
"""The family of techniques outside the library, and of members whose techniques are of several families."""

Member = str | Technique | Iterable[str | Technique]


@dataclass(frozen=True)
class Ablation(Answers[Contribution]):
    """What the members of a stack bring: an immutable sequence, also by the techniques' text.

    Attributes
    ----------
    step, device : what was asked about.
    over : the variable.
    per_device : whether times are device-seconds.
    times_exprs : seconds per generated token of every accepted subset, bare, by the subset's number: bit i for the i-th member.
    interactions : of all pairs whose subsets are accepted.
    refused : the subsets that are not.
    order_count : in how many orders the members can join, every stack on the way accepted; the shares are means over these.
    """

    _AMONG = "a member of the stack"

    step: Step
    device: Device
    over: Variable
    per_device: bool
    times_exprs: Mapping[int, Piecewise] = field(repr=False)
    interactions: tuple[Interaction, ...]
    refused: tuple[Refused, ...]
    order_count: int

    def at(self, value: Any) -> Shares:
        """The contributions at a value of the variable, a number, a Quantity or text with a unit.

        Raises
        ------
        InputError
            The value is outside the range.
        """
        return self.at_expr(number_of(value, self.over))

    def at_expr(self, value: Expr) -> Shares:
        """The same for a bare value."""
        times = {subset: time(value) for subset, time in self.times_exprs.items()}
        before, after = times[0], times[2 ** len(self) - 1]
        made: list[ShareAt] = []
        for place, member in enumerate(self):
            weights = joining(len(self), times.keys(), place)
            pairs = [(Rational(share), times[subset], times[subset | 1 << place]) for subset, share in weights.items()]
            share = sum((weight * (old - new) for weight, old, new in pairs), start=S.Zero)
            factor = _geometric_mean([(weight, old / new) for weight, old, new in pairs])
            alone, last = (None if curve is None else curve.pieces_expr(value) for curve in (member.alone, member.last))
            part = None if before == after else share / (before - after)
            made.append(ShareAt(member.name, member.family, alone, last, share, part, factor))
        return Shares(tuple(made), self.over, value, before, after)

    @functools.cached_property
    def gain(self) -> Curve:
        """What the whole stack saves over the variable."""
        return Curve(self.over, SECOND, weighted([(S.One, self.times_exprs[0]), (S.NegativeOne, self.times_exprs[2 ** len(self) - 1])]))

    @functools.cached_property
    def leaders(self) -> Intervals:
        """The intervals of the variable by the member with the largest share, the first of equals."""
        shares = [(member.name, member.share.pieces_expr) for member in self]
        ends = weighted([(S.Zero, share) for _, share in shares], merge=False)
        pieces = [
            part
            for piece in ends.pieces
            for part in envelope(
                ends.x, piece.low, piece.high, {name: share.at(between(piece.low, piece.high)).value for name, share in shares}
            ).pieces
        ]
        return intervals(self.over, Piecewise(ends.x, tuple(pieces)).merged().pieces)


def _geometric_mean(ratios: Iterable[tuple[Expr, Expr]]) -> Expr:
    """The product of ratios to the power of their weights, exact and not multiplied out."""
    bases: dict[Expr, Expr] = {}
    for weight, ratio in ratios:
        bases[weight] = bases.get(weight, S.One) * ratio
    powers = [Pow(base, weight, evaluate=False) for weight, base in bases.items() if base != 1]
    return Mul(*powers, evaluate=False) if powers else S.One


def ablate(
    step: Step,
    techniques: Sequence[Member],
    over: str | Symbol = "batch",
    *,
    hardware: Device | str | Path,
    ceilings: str = STATED,
    per_device: bool = False,
) -> Ablation:
    """What each member of a stack of techniques brings over a variable, exactly: alone, last, and as its Shapley share.

    The game is the time saved, which is additive: shares are exact, piece by piece, and add up to what the stack saves. Factors of the
    speedup (`ShareAt.factor_expr`) are the same means of ratios instead of differences. Members are applied in the order given;
    a subset that is refused takes part in no order, and the means are over the orders of joining that are left.

    Parameters
    ----------
    step : a step with numbers for all other inputs.
    techniques : the members in the order in which they are applied: a technique each, or a text of several.
    over : the variable.
    ceilings : the ceiling set, as in `symroof.analyze`.
    per_device : times of all devices that share the step together.

    Raises
    ------
    InputError
        There are no members, more than 8, the same twice, the whole stack is refused, no order leads to it, or another input is a symbol.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=2048)
    >>> found = ablate(step, ["quantize:weights=4,group=128", "quantize:kv=8"], hardware="a100-sxm-80gb")
    >>> at = found.at(16)
    >>> print(at["quantize:kv=8"].share, at.gain, at.speedup)
    4.215 ms 8.929 ms 2.441

    Source: L. S. Shapley, A value for n-person games, 1953; orders through accepted subsets: U. Faigle and W. Kern, 1992.
    """
    device = require_device(hardware, "what techniques bring is compared in numbers")
    if isinstance(techniques, str | Technique):
        raise InputError(f"techniques {quote(str(techniques))}: expected a list, with one entry for each member of the stack")
    members = [techniques_of(cast(Any, member)) for member in techniques]
    texts = [" ".join(technique.text for technique in member) for member in members]
    _check(texts)
    variable = variable_of(step, over, *(technique for member in members for technique in member))
    found = _Stack(step.without(variable.symbol), members, texts, variable, device, ceilings, per_device)
    accepted, whole = found.steps.keys(), 2 ** len(members) - 1
    if whole not in accepted:
        raise InputError(f"the whole stack is refused: {found.reasons[whole]}")
    ways = orders(len(members), accepted)[0].get(whole, 0)
    if not ways:
        reasons = "; ".join(dict.fromkeys(found.reasons.values()))
        raise InputError(f"there is no order in which the members can join one by one: {reasons}")
    times = {subset: found.time(subset) for subset in accepted}
    made = tuple(found.contribution(place, times) for place in range(len(members)))
    pairs = tuple(
        found.interaction(i, j, times) for i, j in combinations(range(len(members)), 2) if {1 << i, 1 << j, 1 << i | 1 << j} <= accepted
    )
    refused = tuple(Refused(found.name(subset), reason) for subset, reason in found.reasons.items())
    return Ablation(made, found.step, device, variable, per_device, times, pairs, refused, ways)


def _check(texts: Sequence[str]) -> None:
    """Raise an InputError if there are no members, too many, or the same twice."""
    if not all(texts) or not texts:
        raise InputError("give the techniques of the stack, as quantize:weights=4")
    if len(texts) > MOST:
        hint = "join some to one member, as 'quantize:weights=4 quantize:kv=8'"
        raise InputError(f"{len(texts)} members have {2 ** len(texts)} subsets, each of which is timed: at most {MOST}; {hint}")
    if twice := [text for place, text in enumerate(texts) if text in texts[:place]]:
        raise InputError(f"{quote(twice[0])} is given twice")


@dataclass(frozen=True)
class _Stack:
    """The subsets of a stack, those that are accepted as steps."""

    step: Step
    members: list[tuple[Technique, ...]]
    texts: list[str]
    over: Variable
    device: Device
    ceilings: str
    per_device: bool
    steps: dict[int, Step] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for subset in range(2 ** len(self.members)):
            chain = [technique for place, member in enumerate(self.members) if subset >> place & 1 for technique in member]
            try:
                self.steps[subset] = self.step.apply(*chain).without(self.over.symbol)
            except SymroofError as error:
                self.reasons[subset] = str(error)

    def name(self, subset: int) -> str:
        """The members of a subset, as typed."""
        return " ".join(text for place, text in enumerate(self.texts) if subset >> place & 1) or "unchanged"

    def time(self, subset: int) -> Piecewise:
        """Seconds, or device-seconds, per generated token."""
        step = self.steps[subset]
        try:
            time = timeline(step, self.over, self.device, ceilings=self.ceilings)
        except SymroofError as error:
            raise type(error)(f"{self.name(subset)}: {error}") from None
        if not self.per_device:
            return time
        devices = self._numeric(step, lambda graph: graph.devices)
        return time.map(lambda value: devices * value)

    def _numeric(self, step: Step, formula: Callable[[Graph], Expr]) -> Expr:
        """A formula of a step's graph with numbers for all but the variable."""
        step = step.with_widths(self.over.symbol)
        graph = step.symbolic.bind({symbol: value for symbol, value in step.values.items() if symbol != self.over.symbol})
        known = {symbol: value for symbol, value in graph.definitions.items() if value.is_number}
        return in_full(substitute(formula(graph), known), graph.definitions)

    def contribution(self, place: int, times: Mapping[int, Piecewise]) -> Contribution:
        """What one member brings."""
        whole, bit = 2 ** len(self.members) - 1, 1 << place

        def saved(without: int) -> Curve | None:
            if not {without, without | bit} <= times.keys():
                return None
            return Curve(self.over, SECOND, weighted([(S.One, times[without]), (S.NegativeOne, times[without | bit])]))

        weights = joining(len(self.members), times.keys(), place)
        terms: dict[int, Expr] = {}
        for subset, share in weights.items():
            terms[subset] = terms.get(subset, S.Zero) + Rational(share)
            terms[subset | bit] = terms.get(subset | bit, S.Zero) - Rational(share)
        share = Curve(self.over, SECOND, weighted([(weight, times[subset]) for subset, weight in terms.items()]))
        kinds = {family_of(one.name) if one.name in names() else OWN for one in self.members[place]}
        return Contribution(self.texts[place], kinds.pop() if len(kinds) == 1 else MIXED, saved(0), saved(whole ^ bit), share)

    def interaction(self, i: int, j: int, times: Mapping[int, Piecewise]) -> Interaction:
        """What two members do to each other."""
        signs = {1 << i | 1 << j: S.One, 1 << i: S.NegativeOne, 1 << j: S.NegativeOne, 0: S.One}
        time = weighted([(sign, times[subset]) for subset, sign in signs.items()])
        moved: dict[str, Expr] = {}
        for storage in Storage:
            each = (sign * self._moved(self.steps[subset], storage) for subset, sign in signs.items())
            if (difference := sum(each, start=S.Zero).expand()) != 0:
                moved[str(storage)] = difference
        return Interaction(self.texts[i], self.texts[j], self.over, Curve(self.over, SECOND, time), moved)

    def _moved(self, step: Step, storage: Storage) -> Expr:
        """Bytes of memory traffic of one kind per generated token."""
        return self._numeric(step, lambda graph: graph.byte_count(storage) / graph.tokens)
