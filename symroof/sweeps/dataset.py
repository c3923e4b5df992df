"""The labelled form of a sweep: an `xarray.Dataset` whose coordinates and variables carry units."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from symroof.errors import InputError
from symroof.sweeps.metrics import METRICS
from symroof.sweeps.request import Request

OUTER = ("model", "hardware", "phase")
POINT = "point"


def need(module: str, extra: str = "sweep") -> None:
    """Raise unless an optional library is installed.

    Raises
    ------
    InputError
        It names the extra to install.
    """
    if find_spec(module) is None:
        raise InputError(f"{module} is not installed; pip install 'symroof[{extra}]'")


def dims(request: Request, name: str = "") -> tuple[str, ...]:
    """The names of the dimensions."""
    inner = (POINT,) if request.points else tuple(one.name for one in request.axes)
    return (*OUTER, *inner, *(("operator",) if request.operators else ()))


def dtype(request: Request, name: str) -> np.dtype:
    """The type of a metric; a float where an operator is missing in a model, which shows as not a number."""
    missing = request.operators is not None and any(len(cell.parts) < len(request.operators) for cell in request.cells)
    return np.dtype(np.float64 if missing else {"bound": np.int8, "fits": np.bool_}.get(name, np.float64))


def coordinates(request: Request) -> dict[str, Any]:
    """Coordinates with meaning and unit."""
    found: dict[str, Any] = {
        "model": ("model", list(request.models)),
        "hardware": ("hardware", list(request.hardware)),
        "phase": ("phase", list(request.phases)),
    }
    for one in request.axes:
        found[one.name] = (POINT if request.points else one.name, one.values, {"units": one.unit, "long_name": one.meaning})
    if request.operators:
        found["operator"] = ("operator", list(request.operators))
    return found


def described(request: Request, name: str) -> dict[str, Any]:
    """Unit, meaning and, where they are short, the formula of a variable."""
    metric = METRICS[name]
    meaning = metric.meaning + (", of all occurrences of the operator" if request.operators and name not in ("bound", "intensity") else "")
    found: dict[str, Any] = {"units": metric.unit, "long_name": meaning}
    if name == "bound":
        found |= {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": "memory compute"}
    formulas = {str(part.expressions[part.outputs.index(name)]) for cell in request.cells for part in cell.parts if name in part.outputs}
    if len(formulas) == 1 and len(text := next(iter(formulas))) <= 200:
        found["formula"] = text
    return found


def dataset(request: Request, arrays: Mapping[str, Any]) -> Any:
    """The arrays, of numpy or of Dask, under their labels."""
    need("xarray")
    import xarray

    names = dims(request)
    variables = {name: (names, array, described(request, name)) for name, array in arrays.items()}
    return xarray.Dataset(variables, coordinates(request), {**request.attributes, "engine": request.engine})
