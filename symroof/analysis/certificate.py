"""Proofs of claims "memory-bound (or compute-bound) for all b >= 1, t >= 1, ...".

A claim is a sign of the slack ``F BW - B P`` on a corner of the space. It is *proved* by a shift: with
``x = low + y`` for every variable, if all coefficients of the expanded slack have one sign, the slack has it
for all y >= 0, which a reader can check by eye. It is *refuted* by a point, checked by substitution. Where
neither succeeds and the extra ``prove`` is installed, z3 is asked. What is left is *unknown*; nothing is
ever concluded from samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sympy import Expr, Integer, Poly, Rational, Symbol, ceiling, fraction, latex, together

from symroof import symbols
from symroof.analysis import smt
from symroof.analysis.costs import WIDTHS, costs, counts_blocks, device_of, grouped_costs, known_values, needed, require, variable_of
from symroof.analysis.crossover import lowest
from symroof.analysis.intervals import COMPUTE, MEMORY
from symroof.analysis.provers import UNKNOWN, by_roots, by_search, by_shift, holds
from symroof.analysis.solve import numeric_slack
from symroof.architectures.step import Step
from symroof.errors import InputError, nearest, quote
from symroof.hardware.device import Device
from symroof.markup import latex_text
from symroof.symbols import VOCABULARY, Variable

CLAIMS = {"memory-bound": MEMORY, "compute-bound": COMPUTE}


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
    if {symbols.h, symbols.g} <= {variable.symbol for variable in variables}:
        raise InputError("num_heads and group_size cannot range together: h = g k; let num_kv_heads and group_size do")
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
