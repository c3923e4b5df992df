"""Run the chunks of a sweep: here, or by Dask on threads, on processes or on the workers of a scheduler."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np

from symroof.answers import view
from symroof.errors import InputError, quote
from symroof.sweeps.dataset import need
from symroof.sweeps.engines import cores
from symroof.sweeps.grid import Chunk

IN_FLIGHT = 8
"""Chunks per worker that are handed out at a time: more would only fill memory."""


def evaluate_chunk(chunk: Chunk) -> dict[str, np.ndarray]:
    """One chunk, in whatever process this is."""
    return chunk.evaluate()


def evaluated(
    chunks: Iterable[Chunk], points: int, work: Callable[[Chunk], Any], *, scheduler: Any = None, progress: bool = False
) -> Iterator[tuple[Chunk, Any]]:
    """Every chunk with what *work* makes of it, in order, while the next ones are under way.

    Raises
    ------
    InputError
        There is no such scheduler, it cannot be reached, or its workers died.
    """
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(view("progress_bar")(points)) if progress else (lambda points: None)
        try:
            results = ((chunk, work(chunk)) for chunk in chunks)
            if scheduler is not None:
                results = _by_dask(chunks, work, *stack.enter_context(_workers(scheduler)))
            for chunk, result in results:
                yield chunk, result
                advance(int(np.prod(chunk.shape)))
        except OverflowError as error:
            raise InputError(f"{error}; are the values in base units?") from None
        except BrokenProcessPool:
            raise InputError("a worker process died; finished chunks are kept where there is an output: run again with --resume") from None


def _by_dask(chunks: Iterable[Chunk], work: Callable[[Chunk], Any], workers: int, options: dict[str, Any]) -> Iterator[tuple[Chunk, Any]]:
    import dask

    remaining = iter(chunks)
    while batch := list(itertools.islice(remaining, workers * IN_FLIGHT)):
        tasks = [dask.delayed(functools.partial(work, chunk), pure=False, traverse=False)() for chunk in batch]  # pyright: ignore[reportPrivateImportUsage]
        yield from zip(batch, dask.compute(*tasks, optimize_graph=False, **options), strict=True)  # pyright: ignore[reportPrivateImportUsage]


@contextlib.contextmanager
def _workers(scheduler: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """How many workers there are, and the settings that pass them to Dask."""
    by_address = isinstance(scheduler, str) and "://" in scheduler
    if isinstance(scheduler, str) and scheduler in ("threads", "processes"):
        need("dask")
        spawned = functools.partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
        with (ThreadPoolExecutor if scheduler == "threads" else spawned)(cores()) as pool:
            yield cores(), {"scheduler": scheduler, "pool": pool}
        return
    if not by_address and not hasattr(scheduler, "scheduler_info"):
        known = "known: threads, processes, an address such as tcp://host:8786, or a distributed.Client"
        raise InputError(f"scheduler {quote(scheduler)}: {known}")
    need("distributed")
    from distributed import Client

    with contextlib.ExitStack() as stack:
        client: Any = scheduler
        if by_address:
            try:
                client = stack.enter_context(Client(client, timeout="10s", set_as_default=False))
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(f"scheduler {quote(scheduler)} cannot be reached: {error}") from None
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if count == 0:
            raise InputError(f"scheduler {quote(str(scheduler))} has no workers")
        yield count, {"scheduler": client}
