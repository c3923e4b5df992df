"""The labelled form of a sweep: an `xarray.Dataset` whose coordinates and variables carry units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from symroof.errors import InputError
from symroof.sweeps.grid import Sweep
from symroof.sweeps.metrics import METRICS

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


def dims(sweep: Sweep) -> tuple[str, ...]:
    """The names of the dimensions."""
    inner = (POINT,) if sweep.points else tuple(axis.name for axis in sweep.axes)
    return (*OUTER, *inner, *(("operator",) if sweep.operators else ()))


def dtype(sweep: Sweep, name: str) -> np.dtype:
    """The type of a metric; a float where an operator is missing in a model, which shows as not a number."""
    operators = sweep.operators
    missing = operators is not None and any(len(scenario.programs) < len(operators) for scenario in sweep.scenarios)
    return np.dtype(np.float64) if missing else METRICS[name].dtype


def coordinates(sweep: Sweep) -> dict[str, Any]:
    """Coordinates with meaning and unit."""
    labels: dict[str, Any] = {
        name: (name, list(known)) for name, known in zip(OUTER, (sweep.models, sweep.hardware, sweep.phases), strict=True)
    }
    labels |= {axis.name: (POINT if sweep.points else axis.name, axis.values, axis.notes) for axis in sweep.axes}
    if sweep.operators:
        labels["operator"] = ("operator", list(sweep.operators))
    return labels


def described(sweep: Sweep, name: str) -> dict[str, Any]:
    """Unit, meaning and, where they are short, the formula of a variable."""
    metric = METRICS[name]
    meaning = metric.meaning + (", of all occurrences of the operator" if sweep.operators and metric.adds_up else "")
    attributes: dict[str, Any] = {"units": metric.unit, "long_name": meaning}
    if metric.words:
        attributes |= {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": " ".join(metric.words)}
    formulas = {scenario.formulas.get(name) for scenario in sweep.scenarios}
    if len(formulas) == 1 and (text := formulas.pop()):
        attributes["formula"] = text
    return attributes


def dataset(sweep: Sweep, arrays: Mapping[str, Any]) -> Any:
    """The arrays, of numpy or of Dask, under their labels."""
    need("xarray")
    import xarray

    names = dims(sweep)
    variables = {name: (names, array, described(sweep, name)) for name, array in arrays.items()}
    return xarray.Dataset(variables, coordinates(sweep), {**sweep.attributes, "engine": sweep.engine})


def lazily(sweep: Sweep, fetch: Callable[[int], Mapping[str, np.ndarray]] | None = None) -> Any:
    """The Dataset of a sweep as Dask arrays, with nothing computed yet: one task a chunk.

    Parameters
    ----------
    fetch : gives a chunk's metrics by its number; left out, they are computed.

    >>> from symroof.sweeps.plan import plan
    >>> lazy = lazily(plan("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 9)}, seq_len=1024).sweep(None))
    >>> lazy.time.chunks is not None, round(float(lazy.time.sel(batch=8).compute().item()), 6)
    (True, 0.008665)
    """
    need("dask")
    import dask.array
    from dask.array.core import normalize_chunks

    shape = (len(sweep.metrics), *sweep.outer, *sweep.inner, *sweep.tail)
    chunks = normalize_chunks((-1, 1, 1, 1, *sweep.steps, *sweep.tail), shape)
    counts = [len(lengths) for lengths in chunks]

    def block(block_id: tuple[int, ...] | None = None) -> np.ndarray:
        assert block_id is not None
        number = int(np.ravel_multi_index(block_id, counts))
        metrics = fetch(number) if fetch else sweep.chunk(number).evaluate()
        return np.stack([np.asarray(metrics[name], dtype=np.float64)[None, None, None] for name in sweep.metrics])

    every = dask.array.map_blocks(block, chunks=chunks, dtype=np.float64, meta=np.empty((0,) * len(chunks)))
    return dataset(sweep, {name: every[place].astype(dtype(sweep, name)) for place, name in enumerate(sweep.metrics)})
