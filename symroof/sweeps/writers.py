"""The forms a sweep is written in, each from finished chunks in bounded memory, each appearing in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from symroof.errors import InputError, quote
from symroof.sweeps.checkpoint import Parts, replacing
from symroof.sweeps.dataset import coordinates, dataset, described, dtype, need
from symroof.sweeps.lazy import stacked
from symroof.sweeps.request import Request

DIGEST = "request_sha256"


@dataclass(frozen=True)
class Writer:
    """A form: what it needs installed, and how it is written."""

    modules: tuple[str, ...]
    write: Callable[[Request, Parts, Path], None]


def _labelled(request: Request, parts: Parts) -> Any:
    found = dataset(request, stacked(request, parts.load))
    found.attrs[DIGEST] = request.digest
    return found


def _netcdf(request: Request, parts: Parts, path: Path) -> None:
    import dask.config

    temporary = path.with_name(f".{path.name}.partial")
    try:
        with dask.config.set(scheduler="synchronous"):
            _labelled(request, parts).to_netcdf(temporary, engine="netcdf4")
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _zarr(request: Request, parts: Parts, path: Path) -> None:
    import dask.config

    temporary, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with dask.config.set(scheduler="synchronous"):
            labelled = _labelled(request, parts)
            for name in ("model", "hardware", "phase", *(("operator",) if request.operators else ())):
                labelled[name] = labelled[name].astype(object)
            labelled.to_zarr(temporary, mode="w", consolidated=False, zarr_format=3)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _tables(request: Request, parts: Parts) -> Iterator[Any]:
    """The chunks as Arrow tables: a row a point (and operator), coordinates in front."""
    import pyarrow

    schema = _schema(request)
    for chunk in request.chunks():
        cell, metrics = request.cells[chunk.cell], parts.load(chunk.number)
        shape = metrics[request.metrics[0]].shape
        columns: list[Any] = [[value] * int(np.prod(shape)) for value in (cell.model, cell.hardware, cell.phase)]
        values = (one[..., None] if request.operators else one for one in request.values(chunk).values())
        columns += [np.broadcast_to(one, shape).reshape(-1) for one in values]
        if request.operators:
            columns.append(list(np.broadcast_to(np.array(request.operators), shape).reshape(-1)))
        columns += [metrics[name].reshape(-1).astype(dtype(request, name)) for name in request.metrics]
        yield pyarrow.table([pyarrow.array(column, type=known.type) for column, known in zip(columns, schema, strict=True)], schema=schema)


def _schema(request: Request) -> Any:
    import pyarrow

    fields = [pyarrow.field(name, pyarrow.string()) for name in ("model", "hardware", "phase")]
    known = coordinates(request)
    fields += [pyarrow.field(one.name, pyarrow.from_numpy_dtype(one.values.dtype), metadata=known[one.name][2]) for one in request.axes]
    if request.operators:
        fields.append(pyarrow.field("operator", pyarrow.string()))
    for name in request.metrics:
        notes = {key: str(value) for key, value in described(request, name).items()}
        fields.append(pyarrow.field(name, pyarrow.from_numpy_dtype(dtype(request, name)), metadata=notes))
    return pyarrow.schema(fields, metadata={**request.attributes, "engine": request.engine, DIGEST: request.digest})


def _parquet(request: Request, parts: Parts, path: Path) -> None:
    import pyarrow.parquet

    with replacing(path) as stream, pyarrow.parquet.ParquetWriter(stream, _schema(request)) as writer:
        for table in _tables(request, parts):
            writer.write_table(table)


def _csv(request: Request, parts: Parts, path: Path) -> None:
    import pyarrow.csv

    with replacing(path) as stream, pyarrow.csv.CSVWriter(stream, _schema(request)) as writer:
        for table in _tables(request, parts):
            writer.write_table(table)


WRITERS = {
    ".nc": Writer(("dask", "netCDF4"), _netcdf),
    ".zarr": Writer(("dask", "zarr"), _zarr),
    ".parquet": Writer(("pyarrow",), _parquet),
    ".csv": Writer(("pyarrow",), _csv),
}


def open_result(path: Path, form: str) -> Any:
    """What was written, opened lazily; the path of a table."""
    import xarray

    if form == ".nc":
        return xarray.open_dataset(path, engine="netcdf4", chunks={})
    if form == ".zarr":
        return xarray.open_zarr(path, consolidated=False)
    return path


def complete(path: Path, form: str, digest: str) -> bool:
    """Whether this very sweep is there already, whole; a CSV file cannot tell."""
    if not path.exists() or form == ".csv":
        return False
    try:
        if form == ".parquet":
            import pyarrow.parquet

            return (pyarrow.parquet.read_schema(path).metadata or {}).get(DIGEST.encode()) == digest.encode()
        with open_result(path, form) as found:
            return found.attrs.get(DIGEST) == digest
    except Exception:
        return False


def form_of(path: Path) -> str:
    """The form that an output's ending names, where it can be written.

    Raises
    ------
    InputError
        The ending names none, a library is missing, or something is in the way of the file.
    """
    form = path.suffix.lower()
    if form not in WRITERS:
        raise InputError(f"output {quote(str(path))}: the ending {quote(path.suffix)} names no format; known: {', '.join(WRITERS)}")
    for module in WRITERS[form].modules:
        need(module)
    _refuse_unwritable(path, form)
    return form


def write_points(found: Any, path: Path) -> None:
    """Write the few points that a reduction leaves.

    Raises
    ------
    InputError
        The ending names no format, or the place cannot be written.
    """
    form = form_of(path)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        if form == ".zarr":
            found.to_zarr(temporary, mode="w", consolidated=False, zarr_format=3)
            shutil.rmtree(path, ignore_errors=True)
        elif form == ".nc":
            found.to_netcdf(temporary, engine="netcdf4")
        elif form == ".csv":
            found.to_dataframe().to_csv(temporary, index=False)
        else:
            found.to_dataframe().to_parquet(temporary, index=False)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: how netCDF tells of a full disk
        why = getattr(error, "strerror", None) or error
        raise InputError(f"output {quote(str(path))} could not be written: {why}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)


def _refuse_unwritable(path: Path, form: str) -> None:
    folder = path.parent
    try:
        exists = path.exists()
    except OSError as error:
        raise InputError(f"output {quote(str(path))}: {error.strerror or error}") from None
    if not folder.is_dir():
        raise InputError(f"output {quote(str(path))}: there is no folder {quote(str(folder))}")
    if not os.access(folder, os.W_OK) or (exists and not os.access(path, os.W_OK)):
        raise InputError(f"output {quote(str(path))}: no permission to write there")
    if path.is_dir() and (form != ".zarr" or not (path / "zarr.json").exists()):
        raise InputError(f"output {quote(str(path))} is a folder; name a {'new Zarr store' if form == '.zarr' else 'file'}")
    if form == ".zarr" and exists and not path.is_dir():
        raise InputError(f"output {quote(str(path))} is a file; a Zarr store is a folder")
