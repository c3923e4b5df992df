"""The forms a sweep is written in, each from finished chunks in bounded memory, each appearing in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from symroof.errors import InputError, quote
from symroof.files import check_writable, is_readable, replacing, writing
from symroof.sweeps.dataset import coordinates, described, dtype, lazily, need
from symroof.sweeps.grid import Sweep

DIGEST = "request_sha256"

Load = Callable[[int], Mapping[str, np.ndarray]]

FORMS = {".nc": ("dask", "netCDF4"), ".zarr": ("dask", "zarr"), ".parquet": ("pyarrow",), ".csv": ("pyarrow",)}
"""What each form needs installed."""


def save(sweep: Sweep, load: Load, path: Path, form: str) -> None:
    """Put the chunks together; *load* gives one by its number."""
    with replacing(path) as temporary:
        if form in (".nc", ".zarr"):
            import dask.config

            labelled = lazily(sweep, load)
            labelled.attrs[DIGEST] = sweep.digest
            with dask.config.set(scheduler="synchronous"):
                _save_arrays(labelled, temporary, form)
            return
        import pyarrow.csv
        import pyarrow.parquet

        kind = pyarrow.parquet.ParquetWriter if form == ".parquet" else pyarrow.csv.CSVWriter
        with temporary.open("wb") as stream, kind(stream, _schema(sweep)) as writer:
            for table in _tables(sweep, load):
                writer.write_table(table)


def _save_arrays(labelled: Any, path: Path, form: str) -> None:
    if form == ".nc":
        labelled.to_netcdf(path, engine="netcdf4")
        return
    for name, coordinate in labelled.coords.items():
        if coordinate.dtype.kind == "U":  # a text of one length is no type of Zarr 3
            labelled[name] = coordinate.astype(object)
    labelled.to_zarr(path, mode="w", consolidated=False, zarr_format=3)


def _tables(sweep: Sweep, load: Load) -> Iterator[Any]:
    """The chunks as Arrow tables: a row a point (and operator), coordinates in front."""
    import pyarrow

    schema = _schema(sweep)
    for chunk in sweep.chunks():
        scenario, metrics = chunk.scenario, load(chunk.number)
        shape = metrics[sweep.metrics[0]].shape
        columns: list[Any] = [[value] * int(np.prod(shape)) for value in (scenario.model, scenario.hardware, scenario.phase)]
        values = (one[..., None] if sweep.operators else one for one in chunk.values.values())
        columns += [np.broadcast_to(one, shape).reshape(-1) for one in values]
        if sweep.operators:
            columns.append(list(np.broadcast_to(np.array(sweep.operators), shape).reshape(-1)))
        columns += [metrics[name].reshape(-1).astype(dtype(sweep, name)) for name in sweep.metrics]
        yield pyarrow.table([pyarrow.array(column, type=known.type) for column, known in zip(columns, schema, strict=True)], schema=schema)


def _schema(sweep: Sweep) -> Any:
    import pyarrow

    fields = [pyarrow.field(name, pyarrow.string()) for name in ("model", "hardware", "phase")]
    known = coordinates(sweep)
    fields += [pyarrow.field(one.name, pyarrow.from_numpy_dtype(one.values.dtype), metadata=known[one.name][2]) for one in sweep.axes]
    if sweep.operators:
        fields.append(pyarrow.field("operator", pyarrow.string()))
    for name in sweep.metrics:
        notes = {key: str(value) for key, value in described(sweep, name).items()}
        fields.append(pyarrow.field(name, pyarrow.from_numpy_dtype(dtype(sweep, name)), metadata=notes))
    return pyarrow.schema(fields, metadata={**sweep.attributes, "engine": sweep.engine, DIGEST: sweep.digest})


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
    if form not in FORMS:
        raise InputError(f"output {quote(str(path))}: the ending {quote(path.suffix)} names no format; known: {', '.join(FORMS)}")
    for module in FORMS[form]:
        need(module)
    if form == ".zarr" and is_readable(path):
        raise InputError(f"output {quote(str(path))} is a file; a Zarr store is a folder")
    what = "new Zarr store" if form == ".zarr" else "file"
    check_writable(path, what, replaces_folder=form == ".zarr" and is_readable(path / "zarr.json"))
    return form


def write_points(points: Any, path: Path) -> None:
    """Write the few points that a reduction leaves.

    Raises
    ------
    InputError
        The ending names no format, or the place cannot be written.
    """
    form = form_of(path)
    with writing(path) as temporary:
        if form in (".nc", ".zarr"):
            _save_arrays(points, temporary, form)
        elif form == ".csv":
            points.to_dataframe().to_csv(temporary, index=False)
        else:
            points.to_dataframe().to_parquet(temporary, index=False)
