"""How pools of devices look: prefill and decode, attention and feed-forward layers, weights split along both dimensions."""

from __future__ import annotations

from typing import Any

from sympy import Expr

from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, number
from symroof.serving.attention_split import AttentionSplit
from symroof.serving.dead_zone import DeadZone
from symroof.serving.pools import MixedPool
from symroof.serving.provision import Provision
from symroof.serving.two_dimensional import TwoDimensional
from symroof.symbols import option_name


def of_step(step: Step, device: Device | None = None) -> dict[str, Any]:
    """What a record says first: the model, the device, the techniques."""
    where = {} if device is None else {"hardware": device.name}
    return {"model": step.model, **where, "techniques": list(step.techniques)}


def several(count: Expr | int, what: str) -> str:
    """A count and its noun: "1 device", "0.64 devices"."""
    shown = f"{float(count):.4g}"
    return f"{shown} {what}" if shown == "1" else f"{shown} {what}s"


def provision_report(answer: Provision) -> Report:
    """The ratio of the pools, what moves between them, and one pool instead."""
    spent, step = answer.generation, answer.generation.step
    split = f"{several(answer.ratio_expr, 'prefill device')} for every decode device"
    lines: list[str | Words] = [
        f"{split}: prefill takes {answer.prefill_time} a prompt, decode {answer.step_time} a step",
        f"a request takes {answer.device_time} of a device; a step releases {answer.released:.4g} tokens of the cache",
    ]
    if answer.transfer is not None:
        sent = answer.transfer
        hidden = "hidden by the prefill of the next prompt" if sent.hidden else f"which delays prefill: hidden from {sent.needed} on"
        lines.append(f"a prompt's cache, {sent.size}, takes {sent.time} on the link, {hidden}")
    rows: list[tuple[Any, ...]] = [("two pools", answer.batch, None, answer.step_time_expr, answer.device_time_expr)]
    if answer.batch_within and answer.batch_within != answer.batch:
        rows.append(("two pools within the promise", answer.batch_within, None, None, answer.device_time_within_expr))
    kinds = {"one pool": answer.mixed, "one pool within the promise": answer.mixed_within}
    rows += [
        (name, pool.batch, pool.chunk * pool.prompts, pool.step_time_expr, pool.device_time_expr) for name, pool in kinds.items() if pool
    ]
    if answer.splitting_pays is not None:
        fewer, more = ("two pools take", "one pool") if answer.splitting_pays else ("one pool takes", "two pools")
        where = f" within {answer.tpot} a token" if answer.tpot_expr is not None else ""
        lines.append(f"{fewer} less of a device a request than {more}{where}")
    columns = (
        Column("pools"),
        Column("batch", numeric=True, prefixed=False, form="{:,.0f}"),
        Column("prompt_tokens", title="prompt tokens a step", numeric=True, prefixed=False, form="{:,.0f}"),
        Column("step_time", "s", "step", numeric=True),
        Column("device_time", "s", "device time a request", numeric=True),
    )
    record = {
        **of_step(step, spent.device),
        "prompt": answer.prompt,
        "output": answer.output,
        "batch": answer.batch,
        "ratio": float(answer.ratio_expr),
        "exact": str(answer.ratio_expr),
        "formula": None if answer.formula is None else str(answer.formula),
        "elasticities": {option_name(symbol): float(value) for symbol, value in answer.elasticity_exprs.items()},
        "prefill_time": float(answer.prefill_time_expr),
        "step_time": float(answer.step_time_expr),
        "device_time": float(answer.device_time_expr),
        "released_tokens": float(answer.released_expr),
        "transfer": None if answer.transfer is None else {
            "bytes": number(answer.transfer.size_expr), "time": float(answer.transfer.time_expr), "hidden": answer.transfer.hidden
        },
        "one_pool": [pool_record(pool) for pool in kinds.values() if pool],
        "splitting_pays": answer.splitting_pays,
        "statements": list(spent.statements),
    }  # fmt: skip
    title = f"{step.title} on {spent.device.title}: prompts of {answer.prompt} tokens, {answer.output} generated, batch {answer.batch}"
    sections: list[Section] = [Lines(tuple(lines), title), Table("", columns, tuple(rows))]
    if answer.elasticity_exprs:
        cells = tuple((option_name(symbol), value) for symbol, value in answer.elasticity_exprs.items())
        heading = "percent that the ratio changes with one percent of each"
        sections.append(Table(heading, (Column("of"), Column("percent", numeric=True, prefixed=False)), cells))
    return Report((*sections, conventions_of(step, spent.statements)), record=lambda: record)


def pool_record(pool: MixedPool) -> dict[str, Any]:
    """The record of one pool for both."""
    return {
        "batch": pool.batch,
        "chunk": pool.chunk,
        "prompts": pool.prompts,
        "share": float(pool.share_expr),
        "step_time": float(pool.step_time_expr),
        "interference": float(pool.interference_expr),
        "device_time": float(pool.device_time_expr),
    }


def mixed_report(pool: MixedPool) -> Report:
    """One pool for both."""
    waits = f"sequences that decode wait {pool.interference:.3g} times as long as without it"
    where = "every step" if pool.share_expr == 1 else f"{float(pool.share_expr):.1%} of the steps"
    line = f"batch {pool.batch} with {pool.chunk * pool.prompts} tokens of prompts in {where}, {pool.step_time}: {waits}"
    return Report((Lines((line, f"a request takes {pool.device_time} of a device")),), record=lambda: pool_record(pool))


STAGES = {"attention": "attention", "link": "the link", "ffn": "the FFN device"}


def attention_split_report(split: AttentionSplit) -> Report:
    """The best whole ratio, its stages, and what decides."""
    step, where = split.step, split.device.title
    other = f" and {split.ffn_device.title}" if split.ffn_device != split.device else ""
    lines = (
        f"{several(split.devices, 'attention device')} for every FFN device: {STAGES[split.bound]} takes the longest, {split.stage_time}",
        f"{split.micro_batches} micro-batches keep it busy, at {split.tpot} a token; {split.throughput} and device",
        f"{split.gain:.3g} times the throughput of devices that do both at batch {split.step.options.batch}",
        *(["it does not fit: one side or both need several devices where one is counted"] if split.fits is False else []),
    )
    columns = (
        Column("stage"),
        Column("time", "s", numeric=True),
        Column("ratio", title="equal to the FFN at", numeric=True, prefixed=False),
        Column("memory", "byte", numeric=True),
    )
    equal = split.candidates_exprs
    times = {
        "attention": split.attention_time_expr, "to the FFN": split.link_times_expr[0], "back": split.link_times_expr[1],
        "FFN": split.ffn_time_expr,
    }  # fmt: skip
    crossings = {"attention": equal.get("attention"), "to the FFN": equal.get("link"), "FFN": None}
    taken = {"attention": split.memory_exprs["attention"], "FFN": split.memory_exprs["ffn"]}
    rows = tuple((name, time, crossings.get(name), taken.get(name)) for name, time in times.items())
    record = {
        **of_step(step, split.device),
        "ffn_hardware": split.ffn_device.name,
        "batch": number(step.options.batch or 0),
        "ratio": float(split.ratio_expr),
        "devices": split.devices,
        "bound": split.bound,
        "candidates": {name: float(value) for name, value in equal.items()},
        "times": {name.replace(" ", "_"): float(time) for name, time in times.items()},
        "micro_batches": split.micro_batches,
        "tpot": float(split.tpot_expr),
        "throughput_per_device": float(split.throughput_expr),
        "gain": float(split.gain_expr),
        "memory": {name: number(size) for name, size in split.memory_exprs.items()},
        "fits": split.fits,
        "statements": list(step.statements),
    }
    title = f"{step.title}: attention on {where}{other or ', feed-forward layers on another'}"
    own = "stages over all layers at the best whole ratio; embedding and LM head run with attention"
    return Report(
        (Lines(lines, title), Table("", columns, rows, (own,)), conventions_of(step, step.statements)), record=lambda: record
    )  # fmt: skip


def dead_zone_report(zone: DeadZone) -> Report:
    """The threshold, and the utilization below and above it."""
    below = "they compute at their peak" if zone.bound == "compute" else "their own links limit them"
    lines = (
        f"up to {several(zone.threshold_expr, 'FFN device')} for {several(zone.attention_devices, 'attention device')} the utilization is "
        f"{float(zone.plateau_expr):.1%}: {below}",
        "beyond that it falls as 1 / devices, as the links of the attention devices carry no more tokens",
        f"feed-forward layers do {zone.intensity} of the link, and a device can do {zone.balance}",
    )
    record = {
        "attention_devices": zone.attention_devices,
        "threshold": float(zone.threshold_expr),
        "plateau": float(zone.plateau_expr),
        "bound": zone.bound,
        "intensity": float(zone.intensity_expr),
        "balance": float(zone.balance_expr),
    }
    return Report((Lines(lines, "utilization of FFN devices over their number"),), record=lambda: record)


def two_dimensional_report(split: TwoDimensional) -> Report:
    """The best parts, and splits along one dimension beside them."""
    step, (x, y) = split.step, split.parts
    better = split.time_expr(x, y) < split.one_dimensional_time_expr()
    lines = (
        f"{x} x {y} parts take {split.time} on the links, splits along one dimension {split.one_dimensional_time}",
        Words(
            (
                "for many devices ",
                Formula(split.formula),
                f" s, less than along one dimension above {float(split.threshold_expr):.4g} devices",
            )
        ),
    )
    columns = (
        Column("split"), Column("traffic", "byte", "traffic of a device", numeric=True), Column("time", "s", numeric=True)
    )  # fmt: skip
    moved = split.one_dimensional_time_expr() * split.link_expr * split.axes
    rows = (
        ("both dimensions", split.traffic_expr(x, y), split.time_expr(x, y)),
        ("one dimension", moved, split.one_dimensional_time_expr()),
    )
    record = {
        **of_step(step),
        "devices": split.devices,
        "axes": split.axes,
        "parts": [x, y],
        "time": float(split.time_expr(x, y)),
        "one_dimensional_time": float(split.one_dimensional_time_expr()),
        "threshold": float(split.threshold_expr),
        "first_power": split.first_power,
        "better": bool(better),
        "statements": list(step.statements),
    }
    title = f"{step.title}: feed-forward layers over {split.devices} devices, {several(split.axes, 'ring')} of {split.link}"
    used = letters_used([split.formula])
    return Report((Lines(lines, title), Table("", columns, rows), used, conventions_of(step, step.statements)), record=lambda: record)


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(Provision, provision_report)
    report.register(MixedPool, mixed_report)
    report.register(AttentionSplit, attention_split_report)
    report.register(DeadZone, dead_zone_report)
    report.register(TwoDimensional, two_dimensional_report)
    brief.register(
        Provision,
        lambda answer: (f"of {answer.generation.step.model}", f"{float(answer.ratio_expr):.4g} prefill devices for every decode device"),
    )
    brief.register(
        AttentionSplit, lambda split: (f"of {split.step.model}", f"{split.devices} attention devices for an FFN device", split.bound)
    )  # fmt: skip
    brief.register(
        TwoDimensional, lambda split: (f"of {split.step.model}", f"{split.devices} devices", "{} x {} parts".format(*split.parts))
    )
