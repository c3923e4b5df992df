"""How an ablation looks: shares at values of the variable, who leads where, and which pairs help each other or compete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sympy import Expr, ceiling, oo

from symroof.answers import Interval
from symroof.present.crossover_views import LONG, plain
from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.step_views import conventions_of
from symroof.present.tabular import Column, Formula, Table, in_units, number, times
from symroof.present.techniques import TITLES
from symroof.serving.stacks.ablation import Ablation
from symroof.serving.stacks.contributions import Contribution, Interaction, Refused, ShareAt, Shares
from symroof.symbols import option_name

FACTOR = "{:.3g}x"


def ablation_report(found: Ablation, at: Iterable[Expr] = ()) -> Report:
    """Shares at these values, by default the first whole number of every interval with one leader."""
    name = option_name(found.over.symbol)
    every = tuple(found.at_expr(value) for value in (tuple(at) or _firsts(found)))
    title = f"{found.step.title} on {found.device.title}, {found.step.options.phase}: what each technique of the stack brings"
    lines = tuple(f"at {name} {plain(shares.value_expr)}: {_total(shares)}" for shares in every)
    notes = [
        "alone: time saved on the unchanged step; last: saved on top of all others; share: Shapley's, the mean over orders of joining",
        "factor: the same mean of ratios; the factors of a value multiply to its speedup",
    ]
    if found.per_device:
        notes.append("times are those of all devices that share the step, together")
    tables: list[Section] = [share_table(every, notes), interaction_table(found)] if found.interactions else [share_table(every, notes)]
    if found.refused:
        columns = (Column("stack"), Column("reason"))
        rows = tuple((one.name, one.reason) for one in found.refused)
        why = f"the means are over the {found.order_count} orders in which every stack on the way is accepted"
        tables.append(Table("refused", columns, rows, (why,)))
    leads = tuple(f"largest share from {name} {plain(each.low_expr)}: {each.label}" for each in found.leaders)
    conventions = conventions_of(found.step, found.step.statements)
    return Report(
        (Lines((*lines, *leads), title), *tables, conventions),
        record=lambda: ablation_record(found, every),
        data=lambda: share_table(every),
    )


def _firsts(found: Ablation) -> tuple[Expr, ...]:
    """The first whole number in every interval with one leader, the end itself where the variable is no whole number."""
    whole = found.over.domain == "integer"
    return tuple(ceiling(each.low_expr) if whole else each.low_expr for each in found.leaders if each.low_expr > 0)


def _total(shares: Shares) -> str:
    before, after = (in_units(value, "s", 4) for value in (shares.before_expr, shares.after_expr))
    alone = shares.additive_expr
    gain = shares.before_expr - shares.after_expr
    said = "" if alone is None else f"; alone they save {in_units(alone, 's', 4)} in sum"
    return f"{before} to {after} per token, {times(shares.before_expr / shares.after_expr)}, {in_units(gain, 's', 4)} saved{said}"


def share_table(every: Sequence[Shares], notes: Sequence[str] = ()) -> Table:
    """Members at values of the variable."""
    name = option_name(every[0].over.symbol)
    columns = (
        Column("at", title=name),
        Column("technique"),
        Column("family", rank=2),
        Column("alone", "s", numeric=True, rank=1),
        Column("last", "s", numeric=True, rank=1),
        Column("share", "s", numeric=True),
        Column("part", title="of the gain", numeric=True, prefixed=False, form="{:.1%}"),
        Column("factor", numeric=True, prefixed=False, form=FACTOR),
    )
    rows = tuple(
        (
            plain(shares.value_expr),
            one.name,
            TITLES.get(one.family, one.family),
            one.alone_expr,
            one.last_expr,
            one.share_expr,
            one.part_expr,
            one.factor_expr,
        )
        for shares in every
        for one in shares
    )
    return Table("", columns, rows, tuple(notes))


def interaction_table(found: Ablation) -> Table:
    """Pairs, on each interval with one sign, and the formula of ``time(both) - time(first) - time(second) + time(neither)``."""
    name = option_name(found.over.symbol)
    columns = (
        *(Column("first"), Column("second", title="and")),
        *(Column("low", title=f"{name} from"), Column("high", title="to"), Column("label", title="they")),
        Column("formula", "s", title="both - each + neither", fold=LONG, rank=1),
        Column("bytes", title="the same of bytes", rank=2),
    )
    rows = tuple(
        (pair.first, pair.second, plain(each.low_expr), plain(each.high_expr), each.label, _formula(pair, each), _bytes(pair))
        for pair in found.interactions
        for each in pair.signs
    )
    notes = (
        "above 0 a pair saves some of the same and competes; below 0 both save more together than the sum of each alone",
        "the formula is that at the start of the interval; JSON has all pieces",
    )
    return Table("pairs", columns, rows, notes)


def _formula(pair: Interaction, where: Interval) -> Formula:
    """The difference of times at the start of an interval."""
    pieces = pair.time.pieces_expr.pieces
    return Formula(next(piece.value for piece in pieces if piece.high > where.low_expr))


def _bytes(pair: Interaction) -> str:
    return "; ".join(f"{kind}: {amount if not amount.is_number else in_units(amount, 'B')}" for kind, amount in pair.bytes_exprs.items())


def ablation_sentence(found: Ablation) -> str:
    """The speedup at the start of the range, and who has which part of the gain.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=2048)
    >>> print(symroof.ablate(step, ["quantize:weights=4,group=128", "quantize:kv=8"], hardware="a100-sxm-80gb").sentence)
    at batch 1: 3.44x; quantize:weights=4,group=128 94.7%, quantize:kv=8 5.3%
    """
    shares = found.at_expr(_firsts(found)[0])
    parts = ", ".join(f"{one.name} {float(one.part_expr):.1%}" for one in shares if one.part_expr is not None)
    return f"at {option_name(found.over.symbol)} {plain(shares.value_expr)}: {times(shares.before_expr / shares.after_expr)}; {parts}"


def interaction_sentence(pair: Interaction) -> str:
    """On which intervals a pair helps each other, competes, or is independent."""
    name = option_name(pair.over.symbol)
    said = (f"{each.label} for {name} {plain(each.low_expr)} to {plain(each.high_expr)}" for each in pair.signs)
    return f"{pair.first} and {pair.second}: {', '.join(said)}"


def share_sentence(one: ShareAt) -> str:
    """What a member brings at a value."""
    return f"{one.name}: {in_units(one.share_expr, 's')} saved, {times(one.factor_expr)}"


def shares_sentence(shares: Shares) -> str:
    """What all bring at a value."""
    return f"at {option_name(shares.over.symbol)} {plain(shares.value_expr)}: {_total(shares)}; {'; '.join(map(share_sentence, shares))}"


def ablation_record(found: Ablation, every: Sequence[Shares]) -> dict[str, Any]:
    """The record of ``symroof ablate --format json``."""
    return {
        "model": found.step.model,
        "phase": found.step.options.phase,
        "hardware": found.device.name,
        "over": option_name(found.over.symbol),
        "per_device": found.per_device,
        "orders": found.order_count,
        "at": [_at_record(shares) for shares in every],
        "leaders": [{"low": float(one.low_expr), "high": _end(one.high_expr), "technique": one.label} for one in found.leaders],
        "interactions": [
            {
                "techniques": [pair.first, pair.second],
                "intervals": [{"low": float(one.low_expr), "high": _end(one.high_expr), "they": one.label} for one in pair.signs],
                "formulas": [
                    {"low": float(piece.low), "high": _end(piece.high), "seconds": str(piece.value)}
                    for piece in pair.time.pieces_expr.pieces
                ],
                "bytes": {kind: number(amount) if amount.is_number else str(amount) for kind, amount in pair.bytes_exprs.items()},
            }
            for pair in found.interactions
        ],
        "refused": [{"stack": one.name, "reason": one.reason} for one in found.refused],
        "units": {**dict.fromkeys(("before", "after", "gain", "alone", "last", "share", "seconds"), "s"), "bytes": "byte"},
    }


def _end(value: Expr) -> float | None:
    return None if value == oo else float(value)


def _at_record(shares: Shares) -> dict[str, Any]:
    members = [
        {
            "technique": one.name,
            "family": one.family,
            **{
                name: None if value is None else float(value)
                for name, value in (
                    *(("alone", one.alone_expr), ("last", one.last_expr), ("share", one.share_expr)),
                    *(("part", one.part_expr), ("factor", one.factor_expr)),
                )
            },
        }
        for one in shares
    ]
    before, after = shares.before_expr, shares.after_expr
    return {
        "value": number(shares.value_expr),
        "before": float(before),
        "after": float(after),
        "gain": float(before - after),
        "members": members,
    }


def register(report: Any, sentence: Any, brief: Any) -> None:
    """Register the looks of an ablation and of what it is made of."""
    report.register(Ablation, ablation_report)
    sentence.register(Ablation, ablation_sentence)
    sentence.register(Interaction, interaction_sentence)
    sentence.register(ShareAt, share_sentence)
    sentence.register(Shares, shares_sentence)
    brief.register(Ablation, lambda made: (f"of {len(made)} techniques over {made.over.name}", ablation_sentence(made)))
    brief.register(Contribution, lambda one: (one.name, one.family))
    brief.register(Interaction, lambda pair: ("", interaction_sentence(pair)))
    brief.register(Refused, lambda one: (one.name, one.reason))
    brief.register(ShareAt, lambda one: ("", share_sentence(one)))
    brief.register(Shares, lambda made: (f"of {len(made)} techniques", _total(made)))
