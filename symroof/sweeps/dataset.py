"""The labelled form of a sweep: an `xarray.Dataset` whose coordinates and variables carry units; and the files it is written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from symroof.errors import InputError, quote
from symroof.files import check_writable, installation, is_readable, replacing, writing
from symroof.sweeps.grid import OUTER, Chunk, Sweep
from symroof.sweeps.metrics import METRICS

POINT = "point"
DIGEST = "request_sha256"

FORMS = {".nc": ("dask", "netCDF4"), ".zarr": ("dask", "zarr"), ".parquet": ("pyarrow",), ".csv": ("pyarrow",)}
"""What each form of a file needs installed."""

Load = Callable[[int], Mapping[str, np.ndarray]]
"""Gives a chunk's metrics by its number."""


def need(module: str, extra: str = "sweep") -> None:
    """Raise unless an optional library is installed.

    Raises
    ------
    InputError
        It names the extra to install.
    """
    if find_spec(module) is None:
        raise InputError(f"{module} is not installed; {installation(extra)}")


def dtype(sweep: Sweep, name: str) -> np.dtype:
    """The type of a metric; a float where an operator is missing in a model, which shows as not a number."""
    missing = any(len(scenario.programs) < len(scenario.operators or ()) for scenario in sweep.scenarios)
    return np.dtype(np.float64) if missing else METRICS[name].dtype


def described(sweep: Sweep, name: str) -> dict[str, Any]:
    """Unit, meaning and, where they are short, the formula of a variable."""
    metric = METRICS[name]
    meaning = metric.meaning + (", of all occurrences of the operator" if sweep.tail and metric.adds_up else "")
    attributes: dict[str, Any] = {"units": metric.unit, "long_name": meaning}
    if metric.words:
        attributes |= {"flag_values": np.arange(len(metric.words), dtype=np.int8), "flag_meanings": " ".join(metric.words)}
    return attributes | ({"formula": sweep.formulas[name]} if name in sweep.formulas else {})


def dataset(sweep: Sweep, arrays: Mapping[str, Any]) -> Any:
    """The arrays, of numpy or of Dask, under their labels, with meaning and unit."""
    need("xarray")
    import xarray

    outer = {name: (name, known) for name, known in sweep.labels.items()}
    operators = {name: outer.pop(name) for name in [*outer][len(OUTER) :]}
    along = {axis.name: (POINT if sweep.points else axis.name, axis.values, axis.notes) for axis in sweep.axes}
    dimensions = [*outer, *dict.fromkeys(where for where, *_ in along.values()), *operators]
    variables = {name: (dimensions, array, described(sweep, name)) for name, array in arrays.items()}
    return xarray.Dataset(variables, {**outer, **along, **operators}, {**sweep.attributes, "engine": sweep.engine})


def lazily(sweep: Sweep, fetch: Load | None = None) -> Any:
    """The Dataset of a sweep as Dask arrays, with nothing computed yet: one task a chunk.

    Parameters
    ----------
    fetch : gives a chunk's metrics by its number; left out, they are computed.

    >>> from symroof.sweeps.plan import Plan
    >>> lazy = lazily(Plan("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 9)}, seq_len=1024).sweep(None))
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


def save(sweep: Sweep, load: Load, path: Path, form: str) -> None:
    """Write a sweep from finished chunks, in bounded memory; the file appears in one step."""
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
        with temporary.open("wb") as stream, kind(stream, _schema(sweep, form)) as writer:
            for table in _tables(sweep, load, form):
                writer.write_table(table)


def _save_arrays(labelled: Any, path: Path, form: str) -> None:
    if form == ".nc":
        labelled.to_netcdf(path, engine="netcdf4")
        return
    for name, coordinate in labelled.coords.items():
        if coordinate.dtype.kind == "U":  # a text of one length is no type of Zarr 3
            labelled[name] = coordinate.astype(object)
    labelled.to_zarr(path, mode="w", consolidated=False, zarr_format=3)


def _tables(sweep: Sweep, load: Load, form: str) -> Iterator[Any]:
    """The chunks as Arrow tables: a row a point (and operator), coordinates in front."""
    import pyarrow

    schema, notes = _schema(sweep, form), notes_of(sweep) if form == ".csv" else {}
    for chunk in sweep.chunks():
        columns = columns_of(sweep, chunk, load(chunk.number)).items()
        yield pyarrow.table({name: spelled(column, notes[name]) if name in notes else column for name, column in columns}, schema=schema)


def columns_of(sweep: Sweep, chunk: Chunk, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The points of a chunk as columns: a row a point (and operator), coordinates in front, metrics behind."""
    shape = metrics[sweep.metrics[0]].shape
    columns: dict[str, Any] = {name: getattr(chunk.scenario, name) for name in OUTER}
    columns |= {name: array[..., None] if sweep.tail else array for name, array in chunk.values.items()}
    columns |= {"operator": sweep.labels["operator"]} if sweep.tail else {}
    columns |= {name: metrics[name].astype(dtype(sweep, name)) for name in sweep.metrics}
    return {name: np.broadcast_to(column, shape).reshape(-1) for name, column in columns.items()}


def plain(values: np.ndarray) -> list[Any]:
    """A column as Python's own values; None where it is not a number."""
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124


def spelled(values: np.ndarray, about: Mapping[str, Any]) -> list[Any]:
    """The same, with words for numbers that encode them; truth values stay."""
    words = about.get("flag_meanings", "").split()
    if not words or values.dtype.kind == "b":
        return plain(values)
    return [None if value is None else words[int(value)] for value in plain(values)]


def notes_of(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Unit and meaning of every column that has some."""
    return {axis.name: axis.notes for axis in sweep.axes} | {name: described(sweep, name) for name in sweep.metrics}


def _schema(sweep: Sweep, form: str) -> Any:
    import pyarrow

    fields: dict[str, Any] = {name: (pyarrow.string(), None) for name in OUTER}
    fields |= {axis.name: (pyarrow.from_numpy_dtype(axis.values.dtype), axis.notes) for axis in sweep.axes}
    fields |= {"operator": (pyarrow.string(), None)} if sweep.tail else {}
    for name in sweep.metrics:
        named = form == ".csv" and METRICS[name].words and METRICS[name].dtype.kind != "b"
        kind = pyarrow.string() if named else pyarrow.from_numpy_dtype(dtype(sweep, name))
        fields[name] = (kind, {key: str(value) for key, value in described(sweep, name).items()})
    metadata = {**sweep.attributes, "engine": sweep.engine, DIGEST: sweep.digest}
    return pyarrow.schema([pyarrow.field(name, kind, metadata=notes) for name, (kind, notes) in fields.items()], metadata=metadata)


def open_result(path: Path, form: str) -> Any:
    """What was written, opened lazily; the path of a table."""
    import xarray

    if form == ".nc":
        return xarray.open_dataset(path, engine="netcdf4", chunks={})
    if form == ".zarr":
        return xarray.open_zarr(path, consolidated=False)
    return path


def complete(path: Path, form: str, digest: str) -> bool:
    """Whether this very sweep is there already, whole; a CSV file does not show it."""
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
            words = {name: array.attrs for name, array in points.data_vars.items() if "flag_meanings" in array.attrs}
            named = {name: spelled(points[name].values, about) for name, about in words.items()}
            points.to_dataframe().assign(**named).to_csv(temporary, index=False)
        else:
            points.to_dataframe().to_parquet(temporary, index=False)
