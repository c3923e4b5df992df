"""Write a sweep to a file while it is computed, chunk by chunk, so that an interrupted one can be taken up again.

Finished chunks lie beside the output, written whole or not at all, and are checked when a sweep is taken up again.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symroof.errors import InputError, quote
from symroof.files import replacing
from symroof.sweeps import run
from symroof.sweeps.dataset import complete, form_of, open_result, save
from symroof.sweeps.grid import Sweep

if TYPE_CHECKING:
    import xarray

TEXT_BYTES = 25
"""Bytes of a number as text, about."""

MANIFEST = "manifest.json"
FORMAT = 1


class Parts:
    """The folder ``out.nc.parts`` with a manifest, which names the request by its hash, and a file per finished chunk.

    A file is written under another name, flushed to the disk and renamed, and has a checksum of every array
    in it: what is there under its own name and adds up is whole.
    """

    def __init__(self, output: Path, sweep: Sweep) -> None:
        self.output, self.sweep = output, sweep
        self.folder = output.with_name(f"{output.name}.parts")

    @contextlib.contextmanager
    def opened(self, resume: bool) -> Iterator[set[int]]:
        """The numbers of the chunks that are whole; no other process writes to the folder meanwhile.

        Raises
        ------
        InputError
            There is an interrupted sweep but resume is not given, it is another one, or another process
            is at it.
        """
        manifest = self.folder / MANIFEST
        content = {"format": FORMAT, "request": self.sweep.digest, "chunks": self.sweep.chunk_count}
        if manifest.exists() or (self.folder.is_dir() and any(self.folder.iterdir())):
            if not resume:
                raise InputError(f"{quote(str(self.folder))} holds an interrupted sweep: add --resume to finish it, or delete the folder")
            self._refuse_another(manifest, content)
        else:
            self.folder.mkdir(exist_ok=True)
            with replacing(manifest) as temporary:
                temporary.write_text(json.dumps(content), encoding="utf-8")
        with self._locked():
            for leftover in (*self.folder.glob(".*.partial"), *self.output.parent.glob(f".{self.output.name[:100]}.*.partial")):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            yield {number for number in range(self.sweep.chunk_count) if self.is_whole(number)} if resume else set()

    def _refuse_another(self, manifest: Path, content: object) -> None:
        try:
            there = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(f"{quote(str(manifest))} cannot be read: nothing to resume; delete the folder to start again") from None
        if there != content:
            raise InputError(
                f"{quote(str(self.folder))} belongs to another sweep (other models, values, metrics, engine or version): "
                "repeat the interrupted one, or delete the folder"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        with (self.folder / MANIFEST).open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{quote(str(self.folder))} is being written by another process") from None
            yield

    def path(self, number: int) -> Path:
        """Where a chunk is kept."""
        return self.folder / f"chunk-{number:08d}.npz"

    def is_whole(self, number: int) -> bool:
        """Whether the chunk is there, complete, and as it was written."""
        try:
            return bool(self.load(number))
        except InputError:
            return False

    def keep(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a chunk."""
        with replacing(self.path(number)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    def load(self, number: int) -> dict[str, np.ndarray]:
        """Read a chunk.

        Raises
        ------
        InputError
            It is damaged.
        """
        try:
            with self.path(number).open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                return {name: archive[name] for name in self.sweep.metrics}
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):
            raise InputError(f"{quote(str(self.path(number)))} is damaged: run again with --resume") from None


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
            save(sweep, parts.load, path, form)
            shutil.rmtree(parts.folder, ignore_errors=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: how netCDF reports a full disk
        state = f"; {kept} of {sweep.chunk_count} chunks are whole in {quote(str(parts.folder))}: run again with --resume"
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"output {quote(str(path))} could not be written: {why}{state if kept else ''}") from None
    return open_result(path, form)


def _refuse_full(path: Path, form: str, sweep: Sweep, parts: Parts) -> None:
    """Raise where the disk has no room for the chunks and the file."""
    there = sum(file.stat().st_size for file in parts.folder.glob("*.npz")) if parts.folder.is_dir() else 0
    cells = sweep.size * math.prod(sweep.tail) * (len(sweep.metrics) + len(sweep.axes) + 3)
    final = cells * TEXT_BYTES if form == ".csv" else sweep.nbytes
    wanted, free = sweep.nbytes - there + final, shutil.disk_usage(path.parent).free
    if wanted > free:
        raise InputError(
            f"output {quote(str(path))}: {sweep.size} points take about {wanted / 1e9:.3g} GB while they are written, "
            f"and {free / 1e9:.3g} GB are free there"
        )
