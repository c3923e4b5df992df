"""Write a sweep to a file while it is computed, chunk by chunk, so that an interrupted one can be taken up again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symroof.errors import InputError, quote
from symroof.sweeps import run
from symroof.sweeps.checkpoint import Parts
from symroof.sweeps.grid import Sweep
from symroof.sweeps.writers import complete, form_of, open_result, save

if TYPE_CHECKING:
    import xarray

TEXT_BYTES = 25
"""Bytes of a number as text, about."""


def write(sweep: Sweep, path: Path, *, resume: bool = False, scheduler: Any = None, progress: bool = False) -> xarray.Dataset | Path:
    """Compute a sweep into a file of the form that its ending names.

    Finished chunks are kept in ``<path>.parts`` until the file is complete; it appears under its name then and
    not before. Memory is that of a few chunks.

    Parameters
    ----------
    resume : compute only the chunks that an interrupted run of the same sweep did not finish.

    Returns
    -------
    xarray.Dataset or Path
        The file opened lazily, or for .parquet and .csv its path.

    Raises
    ------
    InputError
        The ending is not known, the place cannot be written, the disk is full, or the chunks there belong to
        another sweep.
    """
    form = form_of(path)
    parts = Parts(path, sweep)
    if resume and not parts.folder.exists() and complete(path, form, sweep.digest):
        return open_result(path, form)
    _refuse_full(path, form, sweep, parts)
    kept = 0
    try:
        with parts.opened(resume) as whole:
            kept = len(whole)
            remaining = (chunk for chunk in sweep.chunks() if chunk.number not in whole)
            for chunk, metrics in run.evaluated(remaining, sweep.size, run.evaluate_chunk, scheduler=scheduler, progress=progress):
                parts.keep(chunk.number, metrics)
                kept += 1
            save(sweep, parts, path, form)
            parts.remove()
    except (OSError, RuntimeError) as error:  # RuntimeError: how netCDF tells of a full disk
        state = f"; {kept} of {sweep.chunk_count} chunks are whole in {quote(str(parts.folder))}: run again with --resume"
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"output {quote(str(path))} could not be written: {why}{state if kept else ''}") from None
    return open_result(path, form)


def _refuse_full(path: Path, form: str, sweep: Sweep, parts: Parts) -> None:
    """Raise where the disk has no room for the chunks and the file."""
    there = sum(file.stat().st_size for file in parts.folder.glob("*.npz")) if parts.folder.is_dir() else 0
    columns = len(sweep.metrics) + len(sweep.axes) + 3
    final = sweep.nbytes if form in (".nc", ".zarr") else sweep.size * len(sweep.operators or ("",)) * columns * TEXT_BYTES
    if form == ".parquet":
        final = sweep.nbytes
    wanted, free = sweep.nbytes - there + final, shutil.disk_usage(path.parent).free
    if wanted > free:
        raise InputError(
            f"output {quote(str(path))}: {sweep.size} points take about {wanted / 1e9:.3g} GB while they are written, "
            f"and {free / 1e9:.3g} GB are free there"
        )
