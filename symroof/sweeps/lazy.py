"""A sweep as Dask arrays: one task a chunk, and a cheap one for each metric of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from symroof.sweeps.dataset import dataset, dtype, need
from symroof.sweeps.request import Request

Fetch = Callable[[int], Mapping[str, np.ndarray]]


def lazily(request: Request) -> Any:
    """The Dataset of a sweep with nothing computed yet.

    >>> from symroof.sweeps.plan import request
    >>> found = lazily(request("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 9)}, seq_len=1024))
    >>> found.time.chunks is not None, round(float(found.time.sel(batch=8).compute().item()), 6)
    (True, 0.008665)
    """
    return dataset(request, stacked(request, _Evaluated(request)))


class _Evaluated:
    """Computes a chunk by its number; travels to the workers."""

    def __init__(self, request: Request) -> None:
        self.request = request

    def __call__(self, number: int) -> Mapping[str, np.ndarray]:
        return self.request.evaluate(self.request.chunk(number))


def stacked(request: Request, fetch: Fetch) -> dict[str, Any]:
    """Every metric as a Dask array whose blocks *fetch* gives by number."""
    need("dask")
    import dask.array

    tail = () if request.operators is None else ((len(request.operators),),)
    blocks = (*(((1,) * length) for length in request.outer), *request.blocks, *tail)
    counts = tuple(len(lengths) for lengths in blocks)

    def block(block_id: tuple[int, ...] | None = None) -> np.ndarray:
        assert block_id is not None
        found = fetch(int(np.ravel_multi_index(block_id[1:], counts)))
        layers = [np.asarray(found[name], dtype=np.float64)[None, None, None] for name in request.metrics]
        return np.stack(layers)

    chunks = ((len(request.metrics),), *blocks)
    every = dask.array.map_blocks(block, chunks=chunks, dtype=np.float64, meta=np.empty((0,) * len(chunks)))
    return {name: every[place].astype(dtype(request, name)) for place, name in enumerate(request.metrics)}
