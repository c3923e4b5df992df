"""Run the chunks of a sweep: here, on threads, on processes, or on the workers of a `distributed` scheduler."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

import numpy as np

from symroof.answers import view
from symroof.errors import InputError, quote
from symroof.sweeps.dataset import need
from symroof.sweeps.engines import cores
from symroof.sweeps.request import Chunk, Request

Keep = Callable[[Chunk, Mapping[str, np.ndarray]], None]
Work = Callable[[Request, Chunk], Any]

IN_FLIGHT = 4
"""Chunks per worker that are computed or wait to be taken: more would only fill memory."""

LARGE = 1 << 20
"""Bytes of values from which they are not sent with every task."""

SCHEDULERS = "known: threads, processes, an address such as tcp://host:8786, or a distributed.Client"


def evaluate_chunk(request: Request, chunk: Chunk) -> dict[str, np.ndarray]:
    """One chunk, in whatever process this is."""
    return request.evaluate(chunk)


def evaluated(
    request: Request,
    chunks: Iterable[Chunk],
    keep: Callable[[Chunk, Any], None],
    *,
    scheduler: Any = None,
    progress: bool = False,
    work: Work = evaluate_chunk,
) -> None:
    """Hand every chunk's result to *keep*, in this thread, in the order in which they are done.

    Raises
    ------
    InputError
        There is no such scheduler, it cannot be reached, or its workers died.
    """
    with _bar(request, progress) as advance:

        def done(chunk: Chunk, found: Any) -> None:
            keep(chunk, found)
            advance(int(np.prod(chunk.shape)))

        try:
            if scheduler is None:
                for chunk in chunks:
                    done(chunk, work(request, chunk))
                return
            with _executor(scheduler) as (executor, workers, shared):
                _flow(executor, workers, shared(request), iter(chunks), done, work)
        except OverflowError as error:
            raise InputError(f"{error}; are the values in base units?") from None
        except BrokenProcessPool:
            raise InputError("a worker process died; finished chunks are kept where there is an output: run again with --resume") from None


def _flow(executor: Executor, workers: int, request: Any, chunks: Iterator[Chunk], done: Callable[[Chunk, Any], None], work: Work) -> None:
    """A bounded number of chunks under way: the next is handed out when one is done."""
    running: dict[Future[Any], Chunk] = {
        executor.submit(work, request, chunk): chunk for chunk in itertools.islice(chunks, workers * IN_FLIGHT)
    }
    try:
        while running:
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(ready, key=lambda one: running[one].number):
                chunk = running.pop(future)
                done(chunk, future.result())
                following = next(chunks, None)
                if following is not None:
                    running[executor.submit(work, request, following)] = following
    finally:
        for future in running:
            future.cancel()


@contextlib.contextmanager
def _executor(scheduler: Any) -> Iterator[tuple[Executor, int, Callable[[Request], Any]]]:
    """An executor, how many workers it has, and how the request gets to them."""
    count = cores()
    if scheduler == "threads":
        with ThreadPoolExecutor(count) as executor:
            yield executor, count, lambda request: request
        return
    if scheduler == "processes":
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as executor:
            yield executor, count, lambda request: request
        return
    if isinstance(scheduler, str) and "://" not in scheduler:
        raise InputError(f"scheduler {quote(scheduler)}: {SCHEDULERS}")
    need("distributed")
    from distributed import Client

    if not isinstance(scheduler, str | Client):
        raise InputError(f"scheduler {quote(scheduler)}: {SCHEDULERS}")
    with contextlib.ExitStack() as stack:
        if isinstance(scheduler, str):
            try:
                client = stack.enter_context(Client(scheduler, timeout="10s", set_as_default=False))
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(f"scheduler {quote(scheduler)} cannot be reached: {error}") from None
        else:
            client = scheduler
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        if workers == 0:
            raise InputError(f"scheduler {quote(str(scheduler))} has no workers")
        yield client.get_executor(pure=False), workers, lambda request: _shared(client, request)


def _shared(client: Any, request: Request) -> Any:
    """The request with every task, so that no worker's death loses it; a long list of points once to all workers."""
    return request if sum(one.values.nbytes for one in request.axes) < LARGE else client.scatter(request, broadcast=True, hash=False)


@contextlib.contextmanager
def _bar(request: Request, shown: bool) -> Iterator[Callable[[int], None]]:
    if not shown:
        yield lambda points: None
        return
    with view("progress_bar")(request.size) as advance:
        yield advance
