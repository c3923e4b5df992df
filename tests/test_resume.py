"""A sweep that is killed is finished without recomputing what is whole; nothing half-written ever shows."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import symroof

pytest.importorskip("xarray")
pytest.importorskip("dask")
pytest.importorskip("netCDF4")
pytest.importorskip("zarr")
import xarray

from symroof.sweeps import run
from symroof.sweeps.plan import Plan
from symroof.sweeps.store import Parts, write
from symroof.sweeps.sweep import sweep

ARGUMENTS = ("llama-2-7b", ["a100-sxm-80gb", "l4"], {"batch": range(1, 9), "seq_len": range(1, 51)})
CHUNKS = 48
NO_OVERLAP = {"techniques": [symroof.technique("no-overlap")]}

SCRIPT = """
import sys, time
import symroof.sweeps.grid, symroof.sweeps.run as run
from symroof.sweeps.sweep import sweep
symroof.sweeps.grid.CHUNK = 20
original = run.evaluate_chunk
def slowly(chunk):
    print(chunk.number, flush=True)
    time.sleep(0.02)
    return original(chunk)
run.evaluate_chunk = slowly
sweep("llama-2-7b", ["a100-sxm-80gb", "l4"], {"batch": range(1, 9), "seq_len": range(1, 51)}, output=sys.argv[1])
"""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symroof.sweeps.grid.CHUNK", 20)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the chunks that are computed, as they are."""
    numbers: list[int] = []
    original = run.evaluate_chunk

    def counted(chunk):
        numbers.append(chunk.number)
        return original(chunk)

    monkeypatch.setattr(run, "evaluate_chunk", counted)
    return numbers


def killed(output: Path, after: int) -> None:
    """A process that sweeps into *output*, killed when it has begun that many chunks."""
    environment = os.environ | {"PYTHONPATH": str(Path(symroof.__file__).parent.parent)}
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(output)], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for _ in itertools.islice(process.stdout, after):
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def read(path: Path) -> xarray.Dataset:
    """What was written, in memory, without what is added to the attributes."""
    opened = xarray.open_zarr(path, consolidated=False) if path.suffix == ".zarr" else xarray.open_dataset(path)
    with opened:
        return opened.load().drop_attrs()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.nc", "out.zarr"])
def test_killed_and_resumed(name: str, tmp_path: Path, computed: list[int]) -> None:
    output = tmp_path / name
    killed(output, 17)
    assert not output.exists(), "nothing under the final name before it is whole"
    parts = Parts(output, Plan(*ARGUMENTS).sweep(None))
    whole = {number for number in range(CHUNKS) if parts.is_whole(number)}
    assert 15 <= len(whole) <= 17
    with pytest.raises(symroof.SymroofError, match="holds an interrupted sweep: add --resume"):
        sweep(*ARGUMENTS, output=output)
    damaged, truncated = sorted(whole)[3], sorted(whole)[5]
    content = bytearray(parts.path(damaged).read_bytes())
    content[len(content) // 2] ^= 1
    parts.path(damaged).write_bytes(content)
    os.truncate(parts.path(truncated), parts.path(truncated).stat().st_size - 9)
    (parts.folder / ".chunk-00000030.npz.1.partial").write_bytes(b"half")
    sweep(*ARGUMENTS, output=output, resume=True).close()
    assert sorted(computed) == sorted(set(range(CHUNKS)) - whole | {damaged, truncated}), "whole chunks are not recomputed, others are"
    assert not parts.folder.exists()
    assert names(tmp_path) == [name]
    xarray.testing.assert_identical(read(output), sweep(*ARGUMENTS).drop_attrs())
    computed.clear()
    sweep(*ARGUMENTS, output=output, resume=True).close()
    assert computed == [], "what is complete is not computed again"


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"seq_len": range(1, 51), "batch": range(2, 10)},
        {"batch": range(1, 9), "seq_len": range(1, 51), "kv_bits": [16]},
    ],
)
def test_another_sweep_is_not_resumed(other: dict[str, object], tmp_path: Path) -> None:
    output = tmp_path / "out.nc"
    killed(output, 3)
    before = names(tmp_path / "out.nc.parts")
    for arguments, options in (
        ((*ARGUMENTS[:2], other), {}),
        (ARGUMENTS, {"metrics": ["time"]}),
        (ARGUMENTS, {"kv_bits": 8}),
        (ARGUMENTS, NO_OVERLAP),
    ):
        with pytest.raises(symroof.SymroofError, match="belongs to another sweep"):
            sweep(*arguments, output=output, resume=True, **options)
    assert names(tmp_path / "out.nc.parts") == before
    (tmp_path / "out.nc.parts" / "manifest.json").write_text("{")
    with pytest.raises(symroof.SymroofError, match="nothing to resume"):
        sweep(*ARGUMENTS, output=output, resume=True)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.nc", Plan(*ARGUMENTS).sweep(None))
    with parts.opened(False), pytest.raises(symroof.SymroofError, match="being written by another process"):
        sweep(*ARGUMENTS, output=tmp_path / "out.nc", resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.nc", "out.zarr", "out.parquet", "out.csv"])
@pytest.mark.parametrize("per", ["total", "operator"])
def test_every_form_holds_the_same(name: str, per: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symroof.sweeps.grid.CHUNK", 2000)
    there = sweep(["llama-2-7b", "opt-125m"], *ARGUMENTS[1:], per=per)
    (tmp_path / "out.nc").write_text("an older file, replaced when the new one is whole")
    found = sweep(["llama-2-7b", "opt-125m"], *ARGUMENTS[1:], per=per, output=tmp_path / name)
    if name.endswith(("nc", "zarr")):
        found.close()
        xarray.testing.assert_identical(read(tmp_path / name), there.drop_attrs())
        return
    import pandas as pd

    rows = pd.read_parquet(tmp_path / name) if name.endswith("parquet") else pd.read_csv(tmp_path / name)
    expected = there.to_dataframe().reset_index()
    if name.endswith("csv"):
        words = there.bound.attrs["flag_meanings"].split()
        expected["bound"] = ["" if number != number else words[int(number)] for number in expected["bound"]]
        rows["bound"] = rows["bound"].fillna("")
    for column in expected.columns:
        left, right = rows[column].to_numpy(), expected[column].to_numpy()
        assert (left == right).all() if left.dtype == object or left.dtype.kind not in "f" else np.array_equal(left, right, equal_nan=True)


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]) -> None:
    """The error says what is kept; with room again the sweep is finished."""
    output = tmp_path / "out.nc"
    original = Parts.keep

    def full(self, number, arrays):
        if number == 12:
            with self.path(number).with_name(".chunk.npz.1.partial").open("wb") as stream:
                stream.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, number, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "keep", full)
        with pytest.raises(symroof.SymroofError, match=r"No space left on device; 12 of 48 chunks are whole in .*run again with --resume"):
            sweep(*ARGUMENTS, output=output)
    assert not output.exists()
    computed.clear()
    sweep(*ARGUMENTS, output=output, resume=True).close()
    assert sorted(computed) == list(range(12, CHUNKS))
    xarray.testing.assert_identical(read(output), sweep(*ARGUMENTS).drop_attrs())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.nc", "out.zarr", "out.csv"])
def test_a_disk_that_fills_while_the_file_is_put_together(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / name

    def full(self, number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "load", full)
        with pytest.raises(symroof.SymroofError, match="48 of 48 chunks are whole"):
            sweep(*ARGUMENTS, output=output)
    assert names(tmp_path) == [f"{name}.parts"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs here")
    try:
        big = (*ARGUMENTS[:2], {"batch": range(1, 101), "seq_len": range(1, 51)})
        with pytest.raises(symroof.SymroofError, match="GB are free there"):
            sweep(*big, output=small / "out.nc")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("symroof.sweeps.store._refuse_full", lambda *_: None)
            with pytest.raises(symroof.SymroofError, match=r"No space left on device; \d+ of 600 chunks are whole"):
                sweep(*big, output=small / "out.nc")
        assert names(small) == ["out.nc.parts"]
        assert not list((small / "out.nc.parts").glob(".*.partial"))
        for path in (small / "out.nc.parts").iterdir():
            path.unlink()
        (small / "out.nc.parts").rmdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("symroof.sweeps.store._refuse_full", lambda *_: None)
            patch.setattr("symroof.sweeps.grid.CHUNK", 1000)
            half = (*ARGUMENTS[:2], {"batch": range(1, 31), "seq_len": range(1, 51)})
            for name in ("out.nc", "out.zarr", "out.csv"):
                with pytest.raises(symroof.SymroofError, match=r"could not be written: .*; 4 of 4 chunks are whole"):
                    sweep(*half, output=small / name)
                assert names(small) == [f"{name}.parts"], "no half of a file"
                shutil.rmtree(small / f"{name}.parts")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.foo", "the ending '.foo' names no format; known: .nc, .zarr, .parquet, .csv"),
        ("no/out.nc", "there is no folder"),
        ("folder.nc", "is a folder; name a file"),
        ("folder.zarr", "is a folder; name a new Zarr store"),
        ("file.zarr", "is a file; a Zarr store is a folder"),
        ("x" * 300 + ".nc", "File name too long"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_work(name: str, message: str, tmp_path: Path, computed: list[int]) -> None:
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("")
    with pytest.raises(symroof.SymroofError, match=message):
        sweep(*ARGUMENTS, output=tmp_path / name)
    assert computed == []


@pytest.mark.slow
def test_a_sweep_larger_than_the_disk_is_refused(tmp_path: Path, computed: list[int]) -> None:
    huge = (*ARGUMENTS[:2], {"batch": range(1, 10**7), "seq_len": range(1, 10**7)})
    with pytest.raises(symroof.SymroofError, match="GB are free there"):
        sweep(*huge, output=tmp_path / "out.nc")
    assert computed == []
    assert names(tmp_path) == []


@pytest.mark.slow
def test_the_command_resumes(tmp_path: Path, run) -> None:
    output = tmp_path / "out.nc"
    killed(output, 9)
    command = ["sweep", "llama-2-7b", "--hardware", "a100-sxm-80gb", "l4", "--over", "batch=1:8", "seq_len=1:50", "-o", output]
    refused = run(*command)
    assert refused.status == 2
    assert "add --resume" in refused.err
    assert run(*command, "--resume", "--scheduler", "threads").status == 0
    xarray.testing.assert_identical(read(output), sweep(*ARGUMENTS).drop_attrs())


@pytest.mark.slow
def test_processes_that_die_leave_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose workers are killed ends with an error, and the rest is resumed."""
    output = tmp_path / "out.nc"
    original = Parts.keep
    kept: list[int] = []

    def keep(self, number, arrays):
        original(self, number, arrays)
        kept.append(number)
        if number >= 5:
            import multiprocessing

            for child in multiprocessing.active_children():
                with contextlib.suppress(ProcessLookupError):  # it died of itself meanwhile
                    os.kill(child.pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "keep", keep)
        with pytest.raises(symroof.SymroofError, match="a worker process died"):
            write(Plan(*ARGUMENTS).sweep(None), output, scheduler="processes")
    assert len(kept) < CHUNKS, "what the dead would have computed is not computed again elsewhere"
    assert not output.exists()
    sweep(*ARGUMENTS, output=output, resume=True).close()
    xarray.testing.assert_identical(read(output), sweep(*ARGUMENTS).drop_attrs())
