"""Labelled sweeps: models x devices x phases x any variables, on one machine or many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from symroof.errors import InputError
from symroof.sweeps import run
from symroof.sweeps.arguments import Devices, Fixed, Models, Over
from symroof.sweeps.dataset import dataset, dtype, lazily, need
from symroof.sweeps.plan import Plan

if TYPE_CHECKING:
    import xarray

MEMORY_LIMIT = 4 * 10**9
"""Bytes of a result that is kept in memory, unless more is allowed."""


def sweep(
    models: Models,
    hardware: Devices,
    over: Over,
    *,
    phase: str | Sequence[str] = "decode",
    metrics: Sequence[str] | None = None,
    per: str = "total",
    points: bool = False,
    engine: str = "auto",
    scheduler: Any = None,
    lazy: bool = False,
    output: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    **fixed: Unpack[Fixed],
) -> xarray.Dataset | Path:
    """Evaluate steps of models on devices over all values of some variables.

    Parameters
    ----------
    models, hardware : one or several: names, paths or objects. Without hardware (None), peak and bandwidth
        must be given.
    over : values by name or symbol: batch, seq_len, a width, peak [FLOP/s] or bandwidth [byte/s] instead of the
        device's, or a dimension of the model such as hidden_size.
    phase : "decode", "prefill", or both.
    metrics : of `symroof.sweeps.metrics.METRICS`: time, bound, intensity, throughput, memory, fits unless others are requested.
    per : "total", the whole step, or "operator", each with all its occurrences, so that they add up.
    points : the values are those of points, one after the other, and not of a grid.
    engine : "numpy", "numba", or "auto" (numba where it is installed and worth its second of compiling).
    scheduler : None, this thread; "threads"; "processes"; the address of a `distributed` scheduler
        ("tcp://..."), or its Client.
    lazy : a Dataset of Dask arrays; nothing is computed until asked for.
    output : write there, by the ending .nc, .zarr, .parquet or .csv, in memory that does not grow with the sweep.
    resume : take up a sweep that was interrupted while writing to the same output.
    progress : a progress bar on standard error.
    memory_limit : bytes that a result in memory may take.
    ceilings : "stated", every rate a device states, "classic", matrix peak and memory bandwidth, or "calibrated", what measured
        kernels reach at the widths given, as in `symroof.analyze`.
    fixed : inputs that stay (batch 1, widths as published, else 16, unless given), and
        conventions, as in `Model.decode`; `techniques` that are applied to every step.

    Returns
    -------
    xarray.Dataset
        Dimensions model, hardware, phase, then every variable (or "point"), then operator; every coordinate
        and variable has its unit. With *output*, the file opened lazily (for .parquet and .csv: its path).

    Raises
    ------
    SymroofError
        Some request makes no sense, or would not fit; before any work.

    >>> found = sweep("llama-2-7b", "a100-sxm-80gb", {"batch": [1, 64], "seq_len": [512, 2048]})
    >>> found.time.dims
    ('model', 'hardware', 'phase', 'batch', 'seq_len')
    >>> float(found.time.sel(batch=1, seq_len=2048).item())  # doctest: +ELLIPSIS
    0.00702139...
    """
    need("xarray")
    planned = Plan(models, hardware, over, phase=phase, per=per, points=points, engine=engine, **fixed).sweep(metrics)
    if lazy and (output is not None or scheduler is not None):
        raise InputError("lazy=True: nothing is computed yet, so it goes with neither output nor scheduler")
    if output is not None:
        from symroof.sweeps.store import write

        return write(planned, Path(output), resume=resume, scheduler=scheduler, progress=progress)
    if resume:
        raise InputError("resume=True: there is nothing to resume without an output")
    if lazy:
        return lazily(planned)
    if planned.nbytes > memory_limit:
        raise InputError(
            f"{planned.size} points take {planned.nbytes / 1e9:.3g} GB, more than the {memory_limit / 1e9:.3g} GB allowed in memory: "
            "write them (-o out.zarr), or reduce them (--minimize, --maximize, --pareto)"
        )
    shape = (*planned.inner, *planned.tail)
    arrays = {name: np.empty((*planned.outer, *shape), dtype=dtype(planned, name)) for name in planned.metrics}
    by_scenario = {name: array.reshape(len(planned.scenarios), *shape) for name, array in arrays.items()}
    for chunk, pieces in run.evaluated(planned.chunks(), planned.size, run.evaluate_chunk, scheduler=scheduler, progress=progress):
        for name, piece in pieces.items():
            by_scenario[name][(chunk.place, *chunk.slices)] = piece
    return dataset(planned, arrays)
