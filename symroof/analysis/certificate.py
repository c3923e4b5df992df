"""Proofs of claims "memory-bound (or compute-bound) for all b >= 1, t >= 1, ...".

A claim is a sign of the slack ``F BW - B P`` on a corner of the space. It is *proved* by a shift: with
``x = low + y`` for every variable, if all coefficients of the expanded slack have one sign, the slack has it
for all y >= 0, which a reader can check by eye. It is *refuted* by a point, checked by substitution. Where
neither succeeds and the extra ``prove`` is installed, z3 is asked. What is left is *unknown*; nothing is
ever concluded from samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from sympy import Expr, Integer, Poly, Rational, Symbol, ceiling, floor, fraction, latex, oo, together

from symroof import symbols
from symroof.analysis import smt
from symroof.analysis.costs import WIDTHS, costs, counts_blocks, device_of, grouped_costs, known_values, needed, require, variable_of
from symroof.analysis.crossover import lowest
from symroof.analysis.intervals import COMPUTE, MEMORY, Interval, Piece, partition
from symroof.analysis.polynomial import polynomial
from symroof.analysis.solve import numeric_slack
from symroof.architectures.step import Step
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.symbols import VOCABULARY, Variable, substitute
from symroof.tabular import latex_text

PROVED, REFUTED, UNKNOWN = "proved", "refuted", "unknown"
CLAIMS = {"memory-bound": MEMORY, "compute-bound": COMPUTE}
SHIFT, ROOTS, Z3, SUBSTITUTION = "shift", "roots", "z3", "substitution"


@dataclass(frozen=True)
class Certificate:
    """The answer to a claim.

    Attributes
    ----------
    claim : in words.
    verdict : "proved", "refuted" or "unknown".
    by : "shift", "roots", "z3", or for a refutation "substitution"; None where unknown.
    slack : the polynomial whose sign decides: negative is memory-bound.
    certificate : the proof, or the value at the counterexample, in a line.
    counterexample : the point at which the claim fails.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, t
    >>> decide("b t > 5", "compute", b * t - 5, {b: Integer(3), t: Integer(2)}).certificate
    'with b = 3 + y_b, t = 2 + y_t: y_b*y_t + 2*y_b + 3*y_t + 1 is zero or above term by term'
    """

    claim: str
    verdict: str
    by: str | None
    slack: Expr
    certificate: str | None
    counterexample: Mapping[Symbol, Expr] | None

    def latex(self) -> str:
        """The claim, the polynomial and the certificate as a LaTeX align environment."""
        lines = [
            rf"& \text{{{latex_text(self.claim)}: {self.verdict}}}",
            rf"& F\,BW - B\,P \ \text{{has the sign of}}\ {latex(self.slack)}",
            *([rf"& \text{{{latex_text(self.certificate)}}}"] if self.certificate else []),
        ]
        return "% needs \\usepackage{amsmath}\n\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def prove(
    step: Step,
    claim: str,
    operator: str,
    *,
    for_all: Sequence[str],
    at_least: Mapping[str, int | Rational] | None = None,
    hardware: Device | str | Path | None = None,
) -> Certificate:
    """Decide whether an operator has one bound for all values of some variables.

    Parameters
    ----------
    claim : "memory-bound" or "compute-bound".
    operator : as for `crossover`.
    for_all : the variables that range; every other one must be a number.
    at_least : where each starts; 1 where it counts, 0 (left out) where it measures.
    hardware : the device; without one, peak and bandwidth are variables.

    Raises
    ------
    InputError
        The claim or a variable is unknown, does not occur, or a letter is left over.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> answer = symroof.prove(step, "memory-bound", "qk_matmul", for_all=["batch", "seq_len"], hardware="a100-sxm-80gb")
    >>> answer.verdict, answer.by
    ('proved', 'shift')
    >>> symroof.prove(step, "memory-bound", "up_proj", for_all=["batch"], hardware="a100-sxm-80gb").counterexample
    {b: 162}
    """
    if claim not in CLAIMS:
        raise InputError(f"claim {quote(claim)}: {nearest(claim, CLAIMS)}")
    for_all = [for_all] if isinstance(for_all, str) else for_all
    if not for_all:
        raise InputError("name at least one variable to range over")
    variables = tuple(dict.fromkeys(variable_of(step, name) for name in for_all))
    lows = _lows(step, variables, at_least or {})
    device = device_of(hardware)
    slack = _slack(step, operator, variables, for_all, device)
    if device is None:
        variables += tuple(VOCABULARY[symbol] for symbol in (symbols.P, symbols.BW) if VOCABULARY[symbol] not in variables)
        lows = {symbols.P: Integer(0), symbols.BW: Integer(0)} | lows
    ranging = tuple(variable for variable in variables if variable.symbol in slack.free_symbols)
    ranges = ", ".join(_range(one, lows[one.symbol]) for one in variables)
    words = f"{operator} of {step.model} in {step.options.phase} is {claim} for all {ranges}"
    if device:
        words += f" on {device.title}"
    answer = decide(words, CLAIMS[claim], slack, {one.symbol: lows[one.symbol] for one in ranging})
    if answer.counterexample is None:
        return answer
    anywhere = {one.symbol: lows[one.symbol] or Integer(1) for one in variables}  # the bound does not depend on these
    return replace(answer, counterexample=anywhere | dict(answer.counterexample))


def decide(words: str, bound: str, slack: Expr, lows: Mapping[Symbol, Expr]) -> Certificate:
    """The answer to a claim about the sign of a polynomial where every symbol is at least its low.

    >>> from sympy import Integer
    >>> from symroof.symbols import b, t
    >>> decide("b t < b + t", "memory", b * t - b - t, {b: Integer(1), t: Integer(1)}).counterexample
    {b: 2, t: 2}
    """
    found = (
        by_shift(bound, slack, lows)
        or by_roots(bound, slack, lows)
        or by_search(bound, slack, lows)
        or smt.decide(bound, slack, lows, {symbol: VOCABULARY[symbol].domain == "integer" for symbol in lows})
        or (UNKNOWN, None, None, None)
    )
    verdict, by, proof, point = found
    if point is not None and holds(bound, slack, point):
        raise AssertionError(f"{point} is no counterexample to {words}")
    return Certificate(words, verdict, by, slack, proof, point)


Answer = tuple[str, str | None, str | None, Mapping[Symbol, Expr] | None]


def holds(bound: str, slack: Expr, point: Mapping[Symbol, Expr]) -> bool:
    """Whether the claim holds at a point, exactly."""
    value = substitute(slack, point)
    return bool(value < 0) if bound == MEMORY else bool(value >= 0)


def by_shift(bound: str, slack: Expr, lows: Mapping[Symbol, Expr]) -> Answer | None:
    """The shift certificate: all coefficients of the slack at ``low + y`` have one sign."""
    shifted = shift(slack, lows)
    numbers = [coefficient for _, coefficient in shifted.terms()]
    if bound == COMPUTE and not all(number >= 0 for number in numbers):
        return None
    # Below zero also where every y that can be zero is: some term has none of these.
    closed = [place for place, low in enumerate(lows.values()) if low > 0]
    kept = any(number < 0 and not any(powers[place] for place in closed) for powers, number in shifted.terms())
    if bound == MEMORY and not (kept and all(number <= 0 for number in numbers)):
        return None
    sense = "below zero" if bound == MEMORY else "zero or above"
    shifts = ", ".join(f"{symbol} = {_shifted_name(symbol, low)}" for symbol, low in lows.items())
    start = f"with {shifts}: " if lows else "whatever the variables: "
    return PROVED, SHIFT, f"{start}{shifted.as_expr()} is {sense} term by term", None


def shift(slack: Expr, lows: Mapping[Symbol, Expr]) -> Poly:
    """The slack with ``x = low + y`` in every variable."""
    moved = {symbol: low + Symbol(f"y_{symbol}", nonnegative=True) for symbol, low in lows.items()}
    gens = [Symbol(f"y_{symbol}", nonnegative=True) for symbol in lows] or [Symbol("y_", nonnegative=True)]
    return Poly(substitute(slack, moved).expand(), *gens)


def by_roots(bound: str, slack: Expr, lows: Mapping[Symbol, Expr]) -> Answer | None:
    """In one variable the roots decide: a counterexample is a point of a stretch with the other bound."""
    if len(lows) != 1:
        return None
    (x, low), *_ = lows.items()
    intervals = partition([Piece(low, oo, polynomial(slack, x))])
    whole = VOCABULARY[x].domain == "integer"
    for interval in intervals:
        if interval.bound != bound:
            inside = _member(interval, whole, bound, slack, x)
            if inside is not None:
                return REFUTED, SUBSTITUTION, f"F BW - B P ~ {substitute(slack, {x: inside})} at {x} = {inside}", {x: inside}
    return PROVED, ROOTS, f"the roots leave no {'whole number' if whole else 'value'} of {x} from {low} with the other bound", None


def _member(interval: Interval, whole: bool, bound: str, slack: Expr, x: Symbol) -> Expr | None:
    candidates = [ceiling(interval.low), floor(interval.low) + 1] if whole else []
    if not whole:
        candidates = [interval.low, (interval.low + interval.high) / 2 if interval.high != oo else interval.low + 1]
    inside = [one for one in candidates if interval.low <= one <= interval.high and (one != 0)]
    return next((one for one in inside if not holds(bound, slack, {x: one})), None)


def by_search(bound: str, slack: Expr, lows: Mapping[Symbol, Expr]) -> Answer | None:
    """Look for a counterexample on corners far and near; what is found is checked exactly."""
    for point in _corners(lows):
        if not holds(bound, slack, point):
            shown = ", ".join(f"{symbol} = {value}" for symbol, value in point.items())
            return REFUTED, SUBSTITUTION, f"F BW - B P ~ {substitute(slack, point)} at {shown}", point
    return None


def _corners(lows: Mapping[Symbol, Expr]) -> Iterator[dict[Symbol, Expr]]:
    steps = (0, 1, 15, 255, 4095, 65535, 2**24, 2**40, 2**60)
    used = steps if len(lows) <= 3 else steps[::4]
    for offsets in product(used, repeat=len(lows)):
        point = {symbol: low + offset for (symbol, low), offset in zip(lows.items(), offsets, strict=True)}
        if all(value > 0 for value in point.values()):
            yield point


def _lows(step: Step, variables: Sequence[Variable], at_least: Mapping[str, int | Rational]) -> dict[Symbol, Expr]:
    lows = {variable.symbol: lowest(variable) for variable in variables}
    for name, value in at_least.items():
        if isinstance(value, bool) or not isinstance(value, int | Rational):
            raise InputError(f"at least {name}={quote(value)}: expected a number")
        symbol = variable_of(step, name).symbol
        if symbol not in lows:
            raise InputError(f"at least {name}={value}: {quote(name)} is not among the variables that range over all")
        if value < lowest(VOCABULARY[symbol]):
            raise InputError(f"at least {name}={value}: expected {lowest(VOCABULARY[symbol])} or more")
        lows[symbol] = ceiling(Rational(value)) if VOCABULARY[symbol].domain == "integer" else Rational(value)
    return lows


def _slack(step: Step, operator: str, variables: Sequence[Variable], typed: Sequence[str], device: Device | None) -> Expr:
    cost = costs(step, operator)
    ranging = {variable.symbol for variable in variables}
    for variable, name in zip(variables, typed, strict=False):
        require(step, operator, cost, variable, name)
        if device and variable.symbol in WIDTHS:
            raise InputError(f"{quote(name)} decides which peak of {device.name} applies: give it as a number, or leave the device out")
        cost = grouped_costs(cost, variable.symbol)
    known = known_values(step, device, *ranging)
    if symbols.g in ranging:
        known.pop(symbols.h, None)
    roofless = device is None or symbols.P in ranging
    graph = step.letters.bind(known)
    if any(counts_blocks(cost, symbol) for symbol in (*ranging, symbols.R)):
        raise InputError(f"{operator} counts blocks of R rows of the prompt: no proof over these variables; leave FlashAttention out")
    slack = _lowest_terms(numeric_slack(graph, operator, cost, known, None if roofless else device, variables[0].symbol))
    allowed = ranging | ({symbols.P, symbols.BW} if device is None else set())
    left = slack.free_symbols - allowed
    if left:
        raise InputError(f"{needed(left)}, or be among the variables that range over all")
    return slack


def _lowest_terms(slack: Expr) -> Expr:
    numerator = fraction(together(slack))[0]
    gens = sorted(numerator.free_symbols, key=str)
    if not gens:
        return numerator
    whole = Poly(numerator, *gens).terms_gcd()[1]
    return whole.primitive()[1].as_expr()


def _range(variable: Variable, low: Expr) -> str:
    return f"{variable.symbol} > 0" if low == 0 else f"{variable.symbol} >= {low}"


def _shifted_name(symbol: Symbol, low: Expr) -> str:
    return f"{low} + y_{symbol}" if low != 0 else f"y_{symbol}"
