"""Analyses, crossovers, proofs and models as plain records for JSON: bytes, FLOPs, seconds, plain numbers.

Scripts depend on the names; they are kept stable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sympy import Basic, Expr, Integer, S, nan, oo

from symroof import symbols
from symroof.algebra.isolation import Root
from symroof.algebra.piecewise import Piece
from symroof.algebra.signs import Solution
from symroof.architectures.model import Model
from symroof.errors import InputError
from symroof.operators.tensor import Level
from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.step_views import conventions_of, formula_table, headline
from symroof.present.tabular import Column, Table, number
from symroof.questions.crossover import Crossover
from symroof.questions.proofs import Certificate
from symroof.roof.analysis import Analysis, Total
from symroof.roof.costs import needed
from symroof.roof.energy import energy_of
from symroof.roof.roofline import TRAFFIC, RooflinePoint

UNITS = {
    "flops": "FLOP",
    "bytes": "byte",
    **dict.fromkeys(TRAFFIC, "byte"),
    "intensity": "FLOP/byte",
    "performance": "FLOP/s",
    "time": "s",
    "memory": "byte",
    "weight_bits": "bit",
    "activation_bits": "bit",
    "kv_bits": "bit",
}


INPUTS = ("batch", "seq_len", "weight_bits", "activation_bits", "kv_bits")
CONVENTIONS = ("causal", "lm_head", "flash_attention", "mla", "experts")


def context(analysis: Analysis) -> dict[str, Any]:
    """What every row of a data file should say of itself: model, device, inputs, conventions."""
    options = analysis.step.options
    shown = ("phase", "accounting", *CONVENTIONS, *INPUTS)
    techniques = {"techniques": " ".join(analysis.step.techniques)} if analysis.step.techniques else {}
    named = techniques | {"model": analysis.step.model, "hardware": analysis.device.name if analysis.device else ""}
    return named | {name: getattr(options, name) for name in shown}


def analysis_record(analysis: Analysis) -> dict[str, Any]:
    """The record of `symroof analyze --format json`.

    Raises
    ------
    InputError
        A parameter of a technique is still a symbol.
    """
    if left := (analysis.total.time_expr + analysis.memory_exprs["total"]).free_symbols:
        raise InputError(f"{needed(left)} in a data file")
    options, capacity = analysis.step.options, analysis.device.usable_figure if analysis.device else None
    return {
        "model": analysis.step.model,
        "hardware": analysis.device.name if analysis.device else None,
        "phase": options.phase,
        "accounting": options.accounting,
        "techniques": list(analysis.step.techniques),
        "conventions": {**{name: getattr(options, name) for name in CONVENTIONS}, "statements": list(analysis.statements)},
        "inputs": {name: getattr(options, name) for name in INPUTS},
        "units": UNITS,
        "symbols": _symbols(analysis),
        "operators": [_operator(placed, analysis.total) for placed in analysis],
        "total": _total(analysis.total),
        "devices": number(analysis.graph.devices),
        "memory": numbers({**analysis.memory_exprs, "capacity": capacity.value if capacity else None, "fits": analysis.fits}),
        **_energy(analysis),
        **_calibration(analysis),
    }


def _calibration(analysis: Analysis) -> dict[str, Any]:
    """The band of a calibrated time, and the operators that no measured kernel stands behind."""
    if analysis.machine.calibration is None:
        return {}
    low, high = analysis.band_exprs
    return {"calibration": {"band": [number(low), number(high)], "uncalibrated": list(analysis.uncalibrated)}}


def _energy(analysis: Analysis) -> dict[str, Any]:
    """Joules of one device, by operator with all its occurrences and in all; per step and per token, of one device and of all."""
    if analysis.graph.energy is None:
        return {}
    spent = energy_of(analysis)
    joules = {one.name: number(one.joules_expr) for one in (*spent.operators, spent.total)}
    sides = {"per_step": (spent.total, spent.system), "per_token": (spent.token, spent.system_token)}
    energies = {name: {"device": number(one.joules_expr), "system": number(every.joules_expr)} for name, (one, every) in sides.items()}
    power = {name: number(one.joules_expr / one.seconds_expr) for name, one in (("power", spent.total), ("system_power", spent.system))}
    counts = {"devices": number(spent.devices_expr), "tokens": number(spent.tokens_expr)}
    return {"energy": {"joules": joules, **energies, **power, **counts, "units": {"joules": "J", "power": "W"}}}


def analysis_report(analysis: Analysis, *, formulas: bool = False) -> Report:
    """The roofline table, with *formulas* the formulas and their symbols, memory, and energy where a technique asks for it."""

    def sections() -> tuple[Section, ...]:
        table = analysis.table()
        return (
            Lines(tuple(headline(analysis)), table.title),
            replace(table, title="", notes=()),
            *((formula_table(analysis),) if formulas else ()),
            *(() if analysis.graph.energy is None else (energy_of(analysis).table(),)),
            conventions_of(analysis.step, analysis.statements),
        )

    return Report(
        sections,
        record=lambda: analysis_record(analysis),
        data=lambda: _rows(analysis_record(analysis), formulas),
        context=context(analysis),
    )


def _rows(record: dict[str, Any], formulas: bool) -> Table:
    """The operators and the total of the JSON record, unrounded."""
    rows = [*record["operators"], {"name": "total", **record["total"]}]
    keys = [key for key in dict.fromkeys(key for row in record["operators"] for key in row) if key not in ("formulas", "seconds")]
    extra = ("flops", "bytes") if formulas else ()
    columns = (*(Column(key) for key in keys), *(Column(f"formula_{key}") for key in extra))
    return Table("", columns, tuple((*map(row.get, keys), *(row.get("formulas", {}).get(key, "") for key in extra)) for row in rows))


def numbers(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record whose formulas, all of them numbers, are as data files hold these (`number`); what else it has stays.

    >>> from sympy import Integer
    >>> numbers({"name": "up_proj", "count": Integer(32), "share": Integer(1) / 8, "peak": None})
    {'name': 'up_proj', 'count': 32, 'share': 0.125, 'peak': None}
    """
    plain = dict(record)
    for name, value in record.items():
        if isinstance(value, Expr):
            plain[name] = int(value) if value.is_Integer else float(value)
    return plain


def _symbols(analysis: Analysis) -> dict[str, Any]:
    """The meaning of every symbol in the formulas, and its value here."""
    values, definitions = analysis.symbol_values, analysis.step.symbolic.definitions
    entries: dict[str, Any] = {}
    for symbol in analysis.used_symbols:
        variable = symbols.VOCABULARY[symbol]
        entry = {"name": variable.name, "meaning": variable.meaning, "unit": variable.unit, "value": values.get(symbol)}
        formula = {"formula": str(definitions[symbol])} if symbol in definitions else {}
        entries[str(symbol)] = numbers(entry | formula)
    return entries


def _operator(placed: RooflinePoint, total: Total) -> dict[str, Any]:
    """One operator; bytes over links, on the chip and of the last-level cache where it moves any."""
    operator, intensity = placed.operator, placed.intensity_expr
    record = {
        "name": operator.name,
        "kind": str(operator.kind),
        "count": placed.count_expr,
        "flops": operator.flop_count,
        "bytes": operator.byte_count(),
        **{name: operator.ledger.get((*kind, Level.MEMORY), S.Zero) for name, kind in TRAFFIC.items()},
        **{f"{level}_bytes": moved for level, moved in operator.bytes_by_level.items() if level is not Level.MEMORY},
        **({"cache_bytes": operator.cache_bytes} if operator.cache_bytes != 0 else {}),
        "intensity": None if intensity in (oo, nan) else intensity,
        "data_type": placed.data_type,
        "peak": placed.peak_expr if placed.peak_expr.is_number else None,  # none bounds what computes nothing
        "performance": placed.performance_expr,
        "bound": placed.bound,
        "time": placed.time_expr,
        "seconds": numbers({str(resource): taken for resource, taken in placed.seconds_exprs.items()}),
        "contraction_flops": operator.contraction_flop_count,
        "formulas": {"flops": str(placed.symbolic.flop_count), "bytes": str(placed.symbolic.byte_count())},
        "share": total.share(placed),
    }
    return numbers(record)


def _total(total: Total) -> dict[str, Any]:
    flops, traffic, time = total.flop_count, total.byte_count(), total.time_expr
    record = {
        "flops": flops,
        "contraction_flops": total.contraction_flop_count,
        "bytes": traffic,
        **{name: total.byte_count(*kind) for name, kind in TRAFFIC.items()},
        "intensity": flops / traffic,
        "performance": flops / time,
        "time": time,
        "bound": total.bound,
        "seconds_by_bound": numbers(total.seconds_by_bound_exprs or {}),
        "tokens_per_second": total.throughput_expr if total.throughput_expr.is_number else None,
        "tokens_per_sequence": total.analysis.graph.tokens,
        "time_per_token": time / total.analysis.graph.tokens,
    }
    return numbers(record)


def model_record(model: Model, weight_bits: int | None, kv_bits: int) -> dict[str, Any]:
    """The record of `symroof describe --format json`; at the published width of weights with the scales of their groups."""
    widths = {symbols.w: Integer(weight_bits or model.weight_bits), symbols.c: Integer(kv_bits)}
    weights = model.weight_memory(weight_bits)
    scales = model.quantization.scales if model.quantization and weight_bits in (None, model.weight_bits) else None
    return {
        "model": model.name,
        "family": model.architecture.family,
        "dimensions": {symbols.VOCABULARY[symbol].name: value for symbol, value in model.architecture.dimensions.items()},
        "parameters": {"total": model.parameters, **model.parameters_per_part},
        "active_parameters": model.active_parameters,
        "active_parameters_without_embedding": model.active_parameters_without_embedding,
        "weight_bits": int(widths[symbols.w]),
        "scale_bits": number(scales.per_weight) if scales else 0,
        "weight_bytes": number(symbols.substitute(weights, widths)),
        "kv_bits": kv_bits,
        "kv_bytes_per_token": number(symbols.substitute(model.kv_bytes_per_token.magnitude, widths)),
        "kv_bytes_per_token_beyond_window": number(symbols.substitute(model.cache.beyond, widths)),
        "window_bytes": number(symbols.substitute(model.cache.window, widths | model.dimensions)),
        "state_bytes": number(symbols.substitute(model.cache.state, widths)),
        "formulas": {"weight_bytes": str(weights), "kv_bytes_per_token": str(model.kv_formula.magnitude)},
        "units": {"weight_bytes": "byte", "kv_bytes_per_token": "byte"},
        "notes": list(model.notes),
    }


def crossover_record(answer: Crossover) -> dict[str, Any]:
    """One entry of `symroof crossover --format json`; null where a field does not apply."""
    solution = answer.solution
    return {
        "operator": answer.operator,
        "over": symbols.option_name(answer.over.symbol),
        "verdict": answer.verdict,
        "below": answer.below,
        "above": answer.above,
        **_letters(solution),
        "where": text_of(answer.where),
        "others": [{"where": str(other.where), "verdict": other.solution.verdict, **_letters(other.solution)} for other in answer.others]
        or None,
        "cases": [{"condition": str(case.condition), "verdict": case.verdict} for case in solution.cases] or None,
        "large_layer": text_of(answer.large_layer),
        "latex": answer.latex(),
        "value": None if answer.value_expr is None else float(answer.value_expr),
        "exact": exact_text(answer.value_expr),
        "first_integer": answer.first_integer,
        "intervals": _intervals(answer.pieces),
        "resources": _intervals(answer.resource_pieces),
        "sentence": answer.sentence,
        "statements": list(answer.statements),
    }


def _intervals(pieces: Sequence[Piece]) -> list[dict[str, Any]] | None:
    return [
        {
            "low": float(one.low),
            "high": None if one.high == oo else float(one.high),
            "low_exact": str(one.low),
            "high_exact": str(one.high),
            "bound": str(one.bound),
        }
        for one in pieces
    ] or None


def _letters(solution: Solution) -> dict[str, Any]:
    return {"formula": text_of(solution.formula), "condition": text_of(solution.condition), "otherwise": solution.otherwise}


def exact_text(value: Expr | None) -> str | None:
    """The number, or a root's closed form; without one 15 digits of it."""
    return text_of((value.closed_form or value) if isinstance(value, Root) else value)


def text_of(value: Basic | None) -> str | None:
    """As text; None where there is nothing."""
    return None if value is None else str(value)


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
        "slacks": [{"against": str(case.against), "where": text_of(case.where), "slack": str(case.slack)} for case in answer.cases],
    }
