"""Answers as plain records for JSON: crossovers, proofs, inverse design, generation.

Scripts depend on the names; they are kept stable.
"""

from __future__ import annotations

from typing import Any

from sympy import Basic, oo

from symroof import symbols
from symroof.algebra.intervals import Interval
from symroof.architectures.step import Step
from symroof.present.tabular import number
from symroof.questions.crossover import Crossover, CrossoverBranch
from symroof.questions.generation import Generation
from symroof.questions.proofs import Certificate
from symroof.questions.required import Answer


def crossover_record(answer: Crossover) -> dict[str, Any]:
    """One entry of `symroof crossover --format json`; null where a field does not apply."""
    solution = answer.solution
    return {
        "operator": answer.operator,
        "over": symbols.option_name(answer.over.symbol),
        "verdict": answer.verdict,
        "below": answer.below,
        "above": answer.above,
        "formula": _text(solution.formula),
        "condition": _text(solution.condition),
        "otherwise": solution.otherwise,
        "where": _text(answer.where),
        "others": [_elsewhere(other) for other in answer.others] or None,
        "cases": [{"condition": str(case.condition), "verdict": case.verdict} for case in solution.cases] or None,
        "large_layer": _text(answer.large_layer),
        "latex": answer.latex(),
        "value": None if answer.value is None else float(answer.value),
        "exact": _text(answer.value),
        "first_integer": None if answer.first_integer is None else int(answer.first_integer),
        "intervals": [_interval(interval) for interval in answer.intervals] or None,
        "sentence": answer.sentence,
        "statements": list(answer.statements),
    }


def _elsewhere(other: CrossoverBranch) -> dict[str, Any]:
    solution = other.solution
    return {
        "where": str(other.where),
        "verdict": solution.verdict,
        "formula": _text(solution.formula),
        "condition": _text(solution.condition),
        "otherwise": solution.otherwise,
    }


def _text(value: Basic | None) -> str | None:
    return None if value is None else str(value)


def _interval(interval: Interval) -> dict[str, Any]:
    high = None if interval.high == oo else float(interval.high)
    return {
        "low": float(interval.low),
        "high": high,
        "low_exact": str(interval.low),
        "high_exact": str(interval.high),
        "bound": interval.bound,
    }


def certificate_record(answer: Certificate) -> dict[str, Any]:
    """The record of `symroof prove --format json`."""
    point = answer.counterexample
    return {
        "claim": answer.claim,
        "verdict": answer.verdict,
        "by": answer.by,
        "certificate": answer.certificate,
        "counterexample": None if point is None else {symbols.option_name(symbol): number(value) for symbol, value in point.items()},
        "slack": str(answer.slack),
    }


def answer_record(answer: Answer, step: Step, device: str) -> dict[str, Any]:
    """The record of `symroof solve --format json`."""
    return {
        "model": step.model,
        "hardware": device,
        "phase": step.options.phase,
        "techniques": list(step.techniques),
        "for": symbols.option_name(answer.variable.symbol),
        "relation": answer.relation,
        "value": float(answer.value),
        "exact": str(answer.value),
        "least": None if answer.least is None else float(answer.least),
        "unit": answer.variable.unit,
        "integer": None if answer.integer is None else int(answer.integer),
        "formula": _text(answer.formula),
        "time": float(answer.time),
        "statements": list(step.statements),
    }


def generation_record(found: Generation, model: str, device: str, batch: int) -> dict[str, Any]:
    """The record of `symroof generate --format json`."""
    return {
        "model": model,
        "hardware": device,
        "batch": batch,
        "prompt": found.prompt,
        "tokens": found.tokens,
        "prefill": {"time": float(found.prefill_time), "bytes": number(found.prefill_traffic)},
        "decode": {
            "time": float(found.decode_time),
            "bytes": number(found.decode_traffic),
            "regimes": [
                {"first": int(part.first), "last": int(part.last), "step_time": str(part.step_time), "time": float(part.time)}
                for part in found.parts
            ],
        },
        "total": {"time": float(found.time), "exact": str(found.time), "bytes": number(found.traffic)},
        "time_per_token": float(found.decode_time / found.tokens),
        "tokens_per_second": float(batch * found.tokens / found.decode_time),
        "formulas": {"decode_bytes": str(found.traffic_formula)},
        "units": {"time": "s", "bytes": "byte", "step_time": "s, t the context length"},
        "statements": list(found.statements),
    }
