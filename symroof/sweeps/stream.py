"""The points of a sweep as columns, block after block: the first of them, or all while they are computed; and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from symroof.sweeps import run
from symroof.sweeps.dataset import columns_of
from symroof.sweeps.engines import cores
from symroof.sweeps.grid import Chunk, Sweep

ROWS = 1 << 16
"""Rows of a block, at most."""

Columns = dict[str, np.ndarray]


def blocks(sweep: Sweep, *, rows: int = ROWS, scheduler: Any = None, progress: bool = False) -> Iterator[Columns]:
    """All points as columns, in the order of the grid, so many rows at a time and in that much memory.

    Raises
    ------
    InputError
        As for `symroof.sweeps.run.evaluated`.

    >>> from symroof.sweeps.plan import Plan
    >>> sweep = Plan("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 9)}, seq_len=1024).sweep(["memory"])
    >>> [block["batch"].tolist() for block in blocks(sweep, rows=3)]
    [[1, 2, 3], [4, 5, 6], [7, 8]]
    """
    small = in_blocks(sweep, rows)
    for chunk, metrics in run.evaluated(small.chunks(), small.size, run.evaluate_chunk, scheduler=scheduler, progress=progress):
        yield columns_of(small, chunk, metrics)


def in_blocks(sweep: Sweep, rows: int = ROWS) -> Sweep:
    """The same sweep in chunks of so many rows."""
    return replace(sweep, chunk_points=min(rows, sweep.chunk_points))


def first(sweep: Sweep, rows: int) -> Columns:
    """The first points as columns; only the blocks that they are in are computed."""
    taken: list[Columns] = []
    for block in blocks(sweep, rows=rows):
        taken.append(block)
        if sum(len(one["model"]) for one in taken) >= rows:
            break
    return {name: np.concatenate([one[name] for one in taken])[:rows] for name in taken[0]}


def seconds(sweep: Sweep, scheduler: Any = None, work: Callable[[Chunk], Any] = run.evaluate_chunk) -> float:
    """Seconds that *work* on all points takes, about: a block is timed, after one that compiles what is compiled."""
    block = sweep.chunk(0)
    work(block)
    started = time.perf_counter()
    work(block)
    taken = time.perf_counter() - started
    workers = cores() if scheduler in ("threads", "processes") else 1
    return taken * sweep.size / float(np.prod(block.shape)) / workers
