"""The second prover: z3, if the extra ``prove`` is installed. A claim becomes a problem of real arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from sympy import Expr, Integer, Poly, Rational, Symbol, ceiling, fraction

from symroof.algebra.unions import Untouched

TIMEOUT_MS = 2000


def decide(
    bound: str, slack: Expr, lows: Mapping[Symbol, Expr], whole: Mapping[Symbol, bool], margins: Sequence[Expr] = ()
) -> tuple[str, str, str, Mapping[Symbol, Expr] | None] | None:
    """Search with z3 for a point at which the claim fails; None if z3 is not installed or does not decide.

    A proof over the reals implies one over the integers; a real counterexample does not refute a claim about
    integers, so that case is decided again over the integers. Margins are nonnegative at the point.
    """
    if find_spec("z3") is None or not slack.free_symbols or slack.has(Untouched):
        return None
    import z3

    for integers in (False, True):
        variables = {symbol: (z3.Int if integers and whole[symbol] else z3.Real)(str(symbol)) for symbol in lows}
        solver = z3.Solver()
        solver.set("timeout", TIMEOUT_MS)
        for symbol, low in lows.items():
            solver.add(variables[symbol] >= _number(low) if low > 0 else variables[symbol] > 0)
        for margin in margins:
            solver.add(_polynomial(margin, variables) >= 0)
        value = _polynomial(slack, variables)
        solver.add(value >= 0 if bound == "memory" else value < 0)
        answer = solver.check()
        if answer == z3.unsat:
            return "proved", "z3", f"z3 {z3.get_version_string()}: no point with a slack {'>= 0' if bound == 'memory' else '< 0'}", None
        if answer == z3.unknown:
            return None
        point = _point(solver.model(), variables)
        if point is not None and all(value == ceiling(value) for symbol, value in point.items() if whole[symbol]):
            return "refuted", "z3", "the slack has the other sign at the point", point
    return None


def _polynomial(slack: Expr, variables: Mapping[Symbol, Any]) -> Any:
    total: Any = 0
    gens = tuple(variables)
    for powers, coefficient in Poly(slack, *gens).terms():
        term: Any = _number(coefficient)
        for symbol, power in zip(gens, powers, strict=True):
            for _ in range(power):
                term = term * variables[symbol]
        total = total + term
    return total


def _number(value: Expr) -> Any:
    import z3

    numerator, denominator = fraction(value)
    return z3.Q(int(numerator), int(denominator))


def _point(model: Any, variables: Mapping[Symbol, Any]) -> dict[Symbol, Expr] | None:
    """The model's point, if its coordinates are rational."""
    import z3

    point: dict[Symbol, Expr] = {}
    for symbol, variable in variables.items():
        value = model.eval(variable, model_completion=True)
        if z3.is_int_value(value):
            point[symbol] = Integer(value.as_long())
        elif z3.is_rational_value(value):
            point[symbol] = Rational(value.numerator_as_long(), value.denominator_as_long())
        else:
            return None
    return point
