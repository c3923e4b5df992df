"""How money, energy and carbon of a token look, and the price of speed."""

from __future__ import annotations

from typing import Any

from symroof.present.formats.sections import Lines, Section
from symroof.present.report import Report
from symroof.present.serving.splits import of_step
from symroof.present.step_views import conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words
from symroof.serving.money import MILLION, PriceOfSpeed, PricePoint, TokenCost

SHOWN = 12
"""Points of a front that a table for people shows."""


def token_cost_report(cost: TokenCost) -> Report:
    """Money, energy and carbon of a token, as numbers or as formulas in what was not given."""
    analysis, step = cost.analysis, cost.analysis.step
    parts = {
        "device time": (cost.device_time_expr, "s"),
        "money": (cost.money_expr, "USD"),
        "energy": (cost.energy_expr, "J"),
        "carbon dioxide": (cost.emissions_expr, "g"),
    }
    open_ones = [value for value, _ in parts.values() if not value.is_number]
    columns = (Column("of a token"), Column("amount"), Column("per million"))
    rows = tuple(
        (name, f"{float(value):.4g} {unit}", f"{float(MILLION * value):.4g} {unit}")
        if value.is_number
        else (name, Words((Formula(value), f" {unit}")), None)
        for name, (value, unit) in parts.items()
    )
    record = {
        **of_step(step, analysis.device),
        "devices": str(analysis.graph.devices),
        "units": {"device_time": "s", "money": "USD", "energy": "J", "carbon_dioxide": "g"},
        **{name.replace(" ", "_"): float(value) if value.is_number else str(value) for name, (value, _) in parts.items()},
        "statements": list(step.statements),
    }
    where = analysis.device.title if analysis.device else "any device"
    price = cost.money_per_million
    line = f"{price} for a million tokens" if price.is_number else Words(("money a token: ", Formula(cost.money_expr), " USD"))
    sections: tuple[Section, ...] = (
        Lines((line,), f"{step.title} on {where}"),
        Table("", columns, rows),
        *([letters_used(open_ones)] if open_ones else []),
        conventions_of(step, step.statements),
    )
    return Report(sections, record=lambda: record)


def point_record(point: PricePoint) -> dict[str, Any]:
    """The record of a point of a front."""
    return {
        "devices": point.degree,
        "batch": point.batch,
        "time": float(point.time_expr),
        "speed": float(1 / point.time_expr),
        "money_per_million": float(MILLION * point.money_expr),
    }


def point_line(point: PricePoint) -> str:
    """A point in words."""
    devices = "1 device" if point.degree == 1 else f"{point.degree} devices"
    return f"{devices} at batch {point.batch}: {point.speed} of a sequence, {point.money_per_million} for a million tokens"


def price_of_speed_report(front: PriceOfSpeed) -> Report:
    """The fastest, the cheapest, and some points between them."""
    step = front.step
    columns = (
        Column("devices", numeric=True, prefixed=False, form="{:,.0f}"),
        Column("batch", numeric=True, prefixed=False, form="{:,.0f}"),
        Column("speed", "token/s", "speed of a sequence", numeric=True, prefixed=False),
        Column("time", "s", "time of a token", numeric=True),
        Column("money", "USD", "a million tokens", numeric=True, prefixed=False),
    )
    every = tuple((point.degree, point.batch, 1 / point.time_expr, point.time_expr, MILLION * point.money_expr) for point in front)
    last = len(every) - 1
    chosen = sorted({round(last * place / (SHOWN - 1)) for place in range(SHOWN)})
    some = Table("", columns, tuple(every[place] for place in chosen), tuple(front.left_out))
    record = {
        **of_step(step, front.device),
        "price": float(front.price_expr),
        "units": {"price": "USD/h", "time": "s", "speed": "token/s", "money_per_million": "USD"},
        "points": [point_record(point) for point in front],
        "left_out": list(front.left_out),
        "statements": list(step.statements),
    }
    ends = (f"fastest: {point_line(front.fastest)}", f"cheapest: {point_line(front.cheapest)}")
    title = f"{step.title} on {front.device.title}: {len(front)} deployments that no other beats in speed and price"
    return Report(
        (Lines(ends, title), some, conventions_of(step, step.statements)), record=lambda: record, data=lambda: Table("", columns, every)
    )


def register(report: Any, brief: Any) -> None:
    """Say how these answers look."""
    report.register(TokenCost, token_cost_report)
    report.register(PriceOfSpeed, price_of_speed_report)
    report.register(PricePoint, lambda point: Report((Lines((point_line(point),)),), record=lambda: point_record(point)))
    brief.register(TokenCost, lambda cost: (f"of {cost.analysis.step.title}", str(cost.money), str(cost.energy)))
    brief.register(PriceOfSpeed, lambda front: (f"of {front.step.title}", f"{len(front)} points", front.fastest.name, front.cheapest.name))
    brief.register(PricePoint, lambda point: (point.name, str(point.time), str(point.money_per_million)))
