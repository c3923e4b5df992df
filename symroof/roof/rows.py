"""The rows of an analysis: an operator's cells, and where the roof's figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sympy import Expr, nan, oo

from symroof.hardware.device import Device
from symroof.operators.tensor import Level
from symroof.roof.roofline import RooflinePoint
from symroof.tabular import Column, Formula


def provenance(device: Device, data_types: Sequence[str]) -> Iterator[str]:
    """Where the roof's figures come from, with what their files note."""
    figures = {f"{name} peak": device.peaks[name].dense for name in data_types} | {"bandwidth": device.bandwidth_figure}
    for what, figure in figures.items():
        source = f"{figure.source.title}, {figure.source.date}" if figure.source else "source not stated"
        yield f"{what}: {source}" + (f" ({figure.note})" if figure.note else "")


COLUMNS = (
    Column("name", title="operator"),
    Column("count", numeric=True, prefixed=False),
    Column("flops", "FLOP", "FLOPs", numeric=True),
    Column("bytes", "byte", "traffic", numeric=True),
    Column("intensity", "FLOP/byte", numeric=True, prefixed=False),
    Column("performance", "FLOP/s", numeric=True),
    Column("bound", fixed=True),
    Column("time", "s", numeric=True),
)


def row_of(placed: RooflinePoint) -> tuple[object, ...]:
    """An operator's cells under COLUMNS."""
    values = (placed.operator.flop_count, placed.operator.byte_count(), placed.intensity_expr, placed.performance_expr)
    told = (None if value in (oo, nan) else shown(value) for value in values)
    return (placed.name, shown(placed.count), *told, placed.bound or "depends", shown(placed.time_expr))


def levels_beside(placed: Iterable[RooflinePoint]) -> tuple[Level, ...]:
    """The levels other than memory that some operator moves bytes over."""
    touched = {level for one in placed for level in one.operator.levels}
    return tuple(level for level in Level if level in touched and level is not Level.MEMORY)


def formulas_of(placed: RooflinePoint) -> tuple[Formula, Formula]:
    """An operator's FLOPs and bytes in letters."""
    return Formula(placed.symbolic.flop_count), Formula(placed.symbolic.byte_count())


def shown(value: Expr) -> object:
    """A number as it is, an expression as a formula."""
    return value if value.is_number else Formula(value)
