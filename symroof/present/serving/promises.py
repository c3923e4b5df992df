"""How promises look: times and rates of a request, what each promise and the memory allow, what misses and what would meet it."""

from __future__ import annotations

from typing import Any

from symroof.present.crossover_views import LONG
from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.serving.splits import of_step, several
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, listed, number
from symroof.serving.planned import Miss
from symroof.serving.requests.promises import MEMORY, TPOT, TTFT, Allowed, AtDegree, Promises

PROMISED = {TTFT: "time to first token", TPOT: "time per output token", MEMORY: "memory"}


def miss_line(miss: Miss) -> str:
    """By how much a promise is missed, and what would meet it."""
    what = f"{PROMISED[miss.promise]} {miss.value:.4g} exceeds {miss.limit:.4g}, {float(miss.factor_expr):.3g} times as much as is allowed"
    bound = f"; {miss.resource} binds" if miss.resource else ""
    meets = [f"{name} {value:.4g}" for name, value in miss.meets.items()]
    if miss.promise == MEMORY:
        return f"{what}; so much memory would hold one batch, or further devices that share it"
    return f"{what}{bound}" + (f"; {listed(meets)} would meet it" if meets else "; no bandwidth and no peak alone would meet it")


def promises_report(found: Promises) -> Report:
    """What a request gets, and what keeps the promises."""
    replica, step = found.replica, found.replica.decode
    request, device = replica.request, replica.device
    rates = found.rates
    lines = [
        f"batch {found.batch}: first token after {found.ttft:.4g}, then {found.tpot:.4g} a token, {found.latency:.4g} in all",
        f"{rates['user']:.4g} for a user, {rates['replica']:.4g} for {several(replica.degree, 'device')}",
        *map(miss_line, found.misses),
    ]
    kinds = {"batch": found.allowed_batch, "context": found.allowed_prompt, "chunk of a prompt": found.allowed_chunk}
    columns = (Column("over"), *(Column(name, title=title) for name, title in PROMISED.items()), Column("binding"))
    rows = tuple((over, *(_most(allowed, name) for name in PROMISED), allowed.binding or "-") for over, allowed in kinds.items())
    laws = tuple((name, Formula(law)) for name, law in found.formulas.items())
    title = f"{step.title} on {device.title}: {request.prompt} tokens of prompt, {request.output} generated"
    sections: list[Section] = [
        Lines(tuple(lines), title),
        Table("the most that each allows", columns, rows),
        *([degrees_table(found)] if found.degrees else []),
        Table("", (Column("law"), Column("formula", fold=LONG)), laws),
        letters_used(found.formulas.values()),
        conventions_of(step, found.statements),
    ]
    return Report(tuple(sections), record=lambda: promises_record(found))


def _most(allowed: Allowed, name: str) -> object:
    return f"{float(allowed.most_exprs[name]):.6g}" if name in allowed.most_exprs else allowed.refused.get(name, "-")


def degrees_table(found: Promises) -> Table:
    """Devices that share the work."""
    columns = (
        *(Column("degree", title="devices", numeric=True, prefixed=False), Column("ttft", "s", "time to first token", numeric=True)),
        *(Column("tpot", "s", "time per token", numeric=True), Column("batch", title="largest batch"), Column("misses")),
    )
    rows = tuple(
        (at.degree, at.ttft_expr, at.tpot_expr, _batch(at), ", ".join(miss.promise for miss in at.misses) or "-") for at in found.degrees
    )
    return Table("under tensor parallelism", columns, rows)


def _batch(at: AtDegree) -> str:
    return "any" if at.batch is None else str(at.batch)


def allowed_record(allowed: Allowed) -> dict[str, Any]:
    """The record of what is allowed."""
    most = {name: number(value) for name, value in allowed.most_exprs.items()}
    return {"over": allowed.over.name, "most": most, "binding": allowed.binding, "refused": dict(allowed.refused)}


def miss_record(miss: Miss) -> dict[str, Any]:
    """The record of a promise that is missed."""
    return {
        "promise": miss.promise,
        "value": number(miss.value_expr),
        "limit": number(miss.limit_expr),
        "resource": miss.resource,
        "meets": {name: number(value) for name, value in miss.meets_exprs.items()},
    }


def degree_record(at: AtDegree) -> dict[str, Any]:
    """The record of a degree."""
    times = {"ttft": number(at.ttft_expr), "tpot": number(at.tpot_expr)}
    return {"degree": at.degree, **times, "batch": at.batch, "misses": [miss_record(miss) for miss in at.misses]}


def promises_record(found: Promises) -> dict[str, Any]:
    """The record of promises."""
    request = found.replica.request
    return {
        **of_step(found.replica.decode, found.replica.device),
        "prompt": request.prompt,
        "output": request.output,
        "batch": found.batch,
        "kept": found.kept,
        "ttft": number(found.ttft_expr),
        "tpot": number(found.tpot_expr),
        "latency": number(found.latency_expr),
        "rates": {name: float(rate.magnitude) for name, rate in found.rates.items()},
        "allowed": [allowed_record(one) for one in (found.allowed_batch, found.allowed_prompt, found.allowed_chunk)],
        "misses": [miss_record(miss) for miss in found.misses],
        "degrees": [degree_record(at) for at in found.degrees],
        "formulas": {name: str(law) for name, law in found.formulas.items()},
        "units": {**dict.fromkeys(("ttft", "tpot", "latency"), "s"), "rates": "token/s"},
        "statements": list(found.statements),
    }


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(Promises, promises_report)
    report.register(Allowed, lambda one: Report((Lines((_said(one),)),), record=lambda: allowed_record(one)))
    report.register(
        AtDegree, lambda at: Report((Lines((f"{several(at.degree, 'device')}: batch {_batch(at)}",)),), record=lambda: degree_record(at))
    )
    brief.register(Promises, lambda found: (f"of {found.replica.decode.title}", f"batch {found.batch}", str(found.ttft), str(found.tpot)))
    brief.register(Allowed, lambda one: (f"over {one.over.name}", _said(one)))
    brief.register(AtDegree, lambda at: (f"over {several(at.degree, 'device')}", str(at.ttft), str(at.tpot), f"batch {_batch(at)}"))


def _at(at: AtDegree) -> str:
    return f"{several(at.degree, 'device')}: batch {_batch(at)}"


def _said(allowed: Allowed) -> str:
    return ", ".join(f"{name} allows {float(most):.6g}" for name, most in allowed.most_exprs.items()) or "no limit"
