"""Answers side by side: several ways to run a step, and the crossovers of its operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sympy import Expr, factor_terms, oo

from symroof.algebra.signs import CROSSES, DEPENDS, INTERVALS
from symroof.answers import Interval, Intervals
from symroof.present.crossover_views import LONG, crossover_words, derivation, formula_cell, limit_words, plain, said_of
from symroof.present.formats.sections import Lines, Section
from symroof.present.records import crossover_record
from symroof.present.report import Report
from symroof.present.step_views import analysis_title, conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, number, times
from symroof.questions.comparison import UNCHANGED, Comparison, Variant
from symroof.questions.context_limit import context_limit
from symroof.questions.crossover import Crossover, Crossovers
from symroof.questions.payoff import Payoff
from symroof.questions.regimes import Regimes
from symroof.questions.scaling import Curve
from symroof.roof.analysis import Total
from symroof.roof.costs import WEIGHTS_AND_KV
from symroof.roof.roofline import RooflinePoint
from symroof.symbols import option_name


def comparison_report(variants: Comparison) -> Report:
    """How much faster each variant is and where, in a line; times, bytes, memory; then the crossovers of all operators."""
    over = option_name(variants.over.symbol)
    base = variants[0]
    step, options = base.analysis.step, base.analysis.step.options
    several, carries = any(one.devices_expr != 1 for one in variants), any(one.prompt_tokens_expr != 0 for one in variants)
    columns = (
        Column("variant"),
        Column("time", "s", "step", numeric=True, rank=2),
        Column("time_per_token", "s", "per generated token" if options.decode else "per prompt", numeric=True),
        Column("speedup", title="speed-up", numeric=True, prefixed=False, form=FACTOR),
        *((Column("prompt_tokens", title="prompt tokens", numeric=True, prefixed=False, rank=3),) if carries else ()),
        *(_per_device() if several else ()),
        Column("flops", "FLOP", "FLOPs", numeric=True, rank=5),
        Column("traffic", "byte", numeric=True, rank=4),
        Column("memory", "byte", numeric=True, rank=1),
        Column("fits", rank=1),
        Column("largest_batch", title="largest batch", numeric=True, prefixed=False, form="{:,.0f}"),
    )
    rows = []
    for one in variants:
        time, per_token, *sizes = (_numbers(one)[name] for name in ("time", "time_per_token", "flops", "bytes", "memory"))
        numbers = [time, per_token, _ratio(base.time_per_token_expr, per_token), *([one.prompt_tokens_expr] if carries else [])]
        if several:
            numbers += [one.devices_expr, one.device_throughput_expr, _ratio(one.device_throughput_expr, base.device_throughput_expr)]
        cells = (value if value is not None and value.is_number else None for value in (*numbers, *sizes))
        rows.append((one.name, *cells, {True: "yes", False: "no", None: None}[one.analysis.fits], one.largest_batch))
    payoffs = (Column("payoff", title=f"by latency, over {over}"), Column("device_payoff", title=f"per device, over {over}"))
    sentences = [tuple(gain.sentence if gain else None for gain in (one.payoff, one.device_payoff)) for one in variants]
    data = Table("", (*columns, *payoffs), tuple((*row, *said) for row, said in zip(rows, sentences, strict=True)))
    said = [one.analysis.statements for one in variants]
    shared = [line for line in said[0] if all(line in lines for lines in said)]
    own = ((one.name, tuple(line for line in lines if line not in shared)) for one, lines in zip(variants, said, strict=True))
    title = analysis_title(base.analysis, step.model)
    if step.techniques:
        title += f": variants beside the baseline {base.name}, not on top of it"
    notes = tuple(_measures(base.name, options.decode, several=several, carries=carries))
    return Report(
        (
            Lines(tuple(line for one in variants[1:] for line in _answer(one, base, options.batch)), title),
            Table("", columns, tuple(tuple("-" if cell is None else cell for cell in row) for row in rows), notes),
            *_crossover_table(variants, over),
            conventions_of(step, shared, tuple(own)),
        ),
        record=lambda: comparison_record(variants),
        data=lambda: data,
    )


FACTOR = "{:.3g}x"


def _answer(one: Variant, base: Variant, batch: int | None) -> Iterator[str]:
    """How much faster a variant is, and where; or why that is unknown."""
    gain = _ratio(base.time_per_token_expr, one.time_per_token_expr)
    parts = [f"{times(gain)} at batch {batch}"] if gain is not None and gain.is_number else []
    parts += [found.sentence for found in (one.payoff, one.device_payoff) if found]
    yield f"{one.name}: {'; '.join(parts or one.reasons) or 'no answer'}"
    yield from (f"{one.name}: {reason}" for reason in one.reasons if parts)


def _per_device() -> tuple[Column, ...]:
    return (
        Column("devices", numeric=True, prefixed=False),
        Column("device_throughput", "token/s", "per device", numeric=True, rank=3),
        Column("device_speedup", title="speed-up per device", numeric=True, prefixed=False, form=FACTOR),
    )


def _ratio(above: Expr | None, below: Expr | None) -> Expr | None:
    return above / below if above and below else None


def _measures(base: str, decode: bool, *, several: bool, carries: bool) -> Iterator[str]:
    """What the speed-ups and payoffs are of."""
    what = "time per generated token" if decode else "time per prompt"
    yield f"speed-up: by latency, the {what} of {'the unchanged step' if base == UNCHANGED else base} divided by the variant's"
    yield f"largest batch: sequences that fit the memory{' of all devices together' if several else ''}"
    if carries:
        yield "prompt tokens: those of prompts in the same step; time per token and speed-up are those of generated tokens"
    if several:
        tokens = "tokens that all sequences generate" if decode else "tokens of all prompts"
        yield f"per device: {tokens} in a second over the devices, variant over {base}"
        yield "FLOPs, traffic and memory are those of one device"


def _numbers(one: Variant) -> dict[str, Expr | None]:
    """What a variant takes, by the names in the record."""
    total = one.analysis.total
    sizes = {"flops": total.flop_count, "bytes": total.byte_count(), "memory": one.analysis.memory_exprs["total"]}
    rates = {"throughput": one.throughput_expr, "device_throughput": one.device_throughput_expr}
    return {
        "time": one.time_expr,
        "time_per_token": one.time_per_token_expr,
        **sizes,
        **rates,
        "devices": one.devices_expr,
        "prompt_tokens": one.prompt_tokens_expr,
    }


def _crossover_table(variants: Sequence[Variant], over: str) -> list[Table]:
    cells = [
        {answer.operator: answer.verdict.replace("-", " ") if answer.value_expr is None else answer.value_expr for answer in one.crossovers}
        for one in variants
    ]
    answers = [answer for one in variants for answer in one.crossovers]
    operators = dict.fromkeys(answer.operator for answer in answers if answer.verdict.startswith(("crosses", "intervals")))
    if not operators:
        return []
    headings = (
        Column(f"variant_{place}", title=one.name, numeric=True, prefixed=False, rank=max(place - 1, 0))
        for place, one in enumerate(variants)
    )
    rows = tuple((name, *(one.get(name, "-") for one in cells)) for name in operators)
    return [Table(f"where operators change their bound, over {over}", (Column("operator"), *headings), rows)]


def comparison_record(variants: Comparison) -> dict[str, Any]:
    """The record of `symroof compare --format json`."""
    return {
        "over": option_name(variants.over.symbol),
        "variants": [
            {
                "techniques": list(variant.analysis.step.techniques),
                **{name: number(value) if value is not None and value.is_number else None for name, value in _numbers(variant).items()},
                "fits": variant.analysis.fits,
                "largest_batch": variant.largest_batch,
                "payoff": _intervals(variant.payoff),
                "payoff_per_device": _intervals(variant.device_payoff) if variant.device_payoff else None,
                "crossovers": {
                    answer.operator: None if answer.value_expr is None else float(answer.value_expr) for answer in variant.crossovers
                },
                "statements": list(variant.analysis.statements),
                "reasons": list(variant.reasons),
            }
            for variant in variants
        ],
        "units": {
            **dict.fromkeys(("time", "time_per_token"), "s"),
            "flops": "FLOP",
            **dict.fromkeys(("bytes", "memory"), "byte"),
            **dict.fromkeys(("throughput", "device_throughput"), "token/s"),
        },
    }


def _intervals(payoff: Payoff | None) -> list[dict[str, Any]]:
    return [
        {"low": float(one.low), "high": float(one.high) if one.high.is_finite else None, "verdict": one.bound}
        for one in (payoff.pieces if payoff else ())
    ]


def crossover_report(answers: Crossovers) -> Report:
    """A table of all; of a single one, the derivation line by line."""
    step, over, name = answers[0].step, answers[0].over, option_name(answers[0].over.symbol)
    branched = any(answer.where is not None for answer in answers)
    unit = over.unit if over.unit != "dimensionless" else ""
    columns = (
        *(Column("operator"), Column("verdict")),
        Column("formula", title=f"{over.symbol}* ({name})", fold=LONG),
        Column("condition", fold=LONG, rank=1),
        *((Column("where", title="formula holds where", rank=2),) if branched else ()),
        Column("value", unit, numeric=True, prefixed=over.unit.endswith("second")),
        Column("first", title="first whole number"),
    )
    rows = []
    for answer in answers:
        conditions = (answer.condition, *((answer.where,) if branched else ()))
        cells = (formula_cell(answer.solution), *(Formula(one) if one is not None else "-" for one in conditions))
        rows.append((answer.operator, answer.verdict, *cells, answer.value_expr, answer.first_integer))
    table = Table("", columns, tuple(rows))
    of = f"{step.title}, {step.options.phase}" if step else answers[0].operator
    title = f"{of}: where the bound changes over {name}"
    sections: list[Section] = [Lines((), title), table]
    if len(answers) == 1:
        sections = [Lines((crossover_words(answers[0]),), title), derivation(answers[0]), *_limit(answers[0])]
    formulas = [
        part
        for answer in answers
        for part in (answer.flops_expr, answer.traffic_expr, answer.formula, answer.condition)
        if part is not None
    ]
    values = {x: value for x, value in answers[0].values.items() if all(answer.values.get(x) == value for answer in answers)}
    sections += [letters_used(formulas, values), *([conventions_of(step, answers[0].statements)] if step else [])]
    return Report(tuple(sections), record=lambda: [crossover_record(answer) for answer in answers], data=lambda: table)


def _limit(answer: Crossover) -> list[Section]:
    if answer.operator != WEIGHTS_AND_KV or answer.step is None or not answer.step.options.decode:
        return []
    return [Lines((limit_words(context_limit(answer.step, answer.device)),))]


def crossovers_brief(answers: Crossovers) -> tuple[str, ...]:
    """How many operators change their bound, and how many never do."""
    over = f" over {answers[0].over.name}" if answers else ""
    return f"of {len(answers)} operators{over}", *(f"{len(those)} {verdict}" for verdict, those in _by_verdict(answers).items())


def crossovers_sentence(answers: Crossovers) -> str:
    """Which operators change their bound, each where, and which never do.

    >>> import symroof
    >>> over_batch = symroof.load_model("llama-2-7b").decode(seq_len=2048).on("a100-sxm-80gb").crossovers("batch")
    >>> over_batch.sentence[:82]
    'over batch, of 20 operators 8 cross: q_proj at 165.4, k_proj at 165.4, v_proj at 1'
    """
    name, said = option_name(answers[0].over.symbol) if answers else "nothing", []
    for verdict, those in _by_verdict(answers).items():
        at = ("" if each.value is None else f" at {each.value:.4g}" for each in those)
        listed = ", ".join(f"{each.operator}{where}" for each, where in zip(those, at, strict=True))
        said.append(f"{len(those)} {verdict}: {listed}")
    return f"over {name}, of {len(answers)} operators {'; '.join(said)}"


def _by_verdict(answers: Crossovers) -> dict[str, list[Crossover]]:
    verdicts = sorted({answer.verdict for answer in answers}, key=lambda verdict: ([*VERDICTS, verdict].index(verdict), verdict))
    return {VERDICTS.get(verdict) or said_of(verdict): [answer for answer in answers if answer.verdict == verdict] for verdict in verdicts}


VERDICTS = {CROSSES: "cross", INTERVALS: "cross several times", DEPENDS: "depend on other symbols"}


def interval_sentence(interval: Interval) -> str:
    """From where to where, and what holds there."""
    until = "on" if interval.high_expr == oo else f"to {interval.high}"
    return f"{interval.over.name} from {interval.low} {until}: {_holds(interval)}"


def _holds(interval: Interval) -> str:
    """The label in words: of a regime the operators that are compute-bound."""
    compute_bound = interval.label if isinstance(interval.label, frozenset) else None
    return str(interval.label) if compute_bound is None else f"compute-bound {', '.join(sorted(compute_bound)) or 'nothing'}"


def intervals_table(answer: Intervals) -> Table:
    """Interval by interval, what holds there."""
    columns = (Column("low", title=f"{answer[0].over.name if answer else 'value'} from"), Column("high", title="to"), Column("label"))
    return Table("", columns, tuple((str(each.low), str(each.high), _holds(each)) for each in answer))


def curve_table(answer: Curve) -> Table:
    """The formula on every piece."""
    name, unit = option_name(answer.over.symbol), format(answer.unit, "~") if str(answer.unit) != "dimensionless" else ""
    columns = (Column("low", title=f"{name} from"), Column("high", title="to"), Column("value", unit))
    rows = tuple((plain(piece.low), plain(piece.high), Formula(piece.value)) for piece in answer.pieces_expr.pieces)
    return Table("", columns, rows, (f"{answer.over.symbol}: {answer.over.meaning}",))


def regimes_table(answer: Regimes) -> Table:
    """The time on each regime, and what is compute-bound there."""
    name, symbol = option_name(answer.over.symbol), answer.over.symbol
    columns = (Column("low", title=f"{name} from"), Column("high", title="to"), Column("time", "s"), Column("bound", title="compute-bound"))
    rows = tuple(
        (plain(one.low_expr), plain(one.high_expr), Formula(one.time_expr), ", ".join(sorted(one.compute_bound)) or "-")
        for one in answer.regimes
    )
    title = f"{answer.step.title} on {answer.device.title}, {answer.step.options.phase}: time over {name}"
    return Table(title, columns, rows, (f"{symbol}: {answer.over.meaning}",))


def point_table(point: RooflinePoint | Total) -> Table:
    """What an operator, or the step, amounts to: formulas, numbers, and what binds."""
    symbolic = point.symbolic if isinstance(point, RooflinePoint) else point.analysis.step.symbolic
    flops, traffic = symbolic.flop_count, symbolic.byte_count()
    rows: list[tuple[str, object, str]] = [("FLOPs", Formula(flops), str(point.flops)), ("traffic", Formula(traffic), str(point.traffic))]
    if isinstance(point, RooflinePoint) and traffic != 0:
        rows.append(("intensity", Formula(factor_terms(flops / traffic)), str(point.intensity)))
    rows.append(("time", Formula(point.time_expr) if not point.time_expr.is_number else "-", str(point.time)))
    in_numbers = ((name, formula, value if point.time_expr.is_number else "-") for name, formula, value in rows)
    name = point.name if isinstance(point, RooflinePoint) else "total"
    columns = (Column("quantity"), Column("formula", fold=LONG), Column("value"))
    return Table(name, columns, (*in_numbers, ("bound", "-", point.bound or "depends")))
