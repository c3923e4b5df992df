"""Compiler and system: fusion, memory management, batching, parallelism."""

KERNELS = ("fuse", "flash-attention", "flash-decoding", "paged-cache", "offload")
BATCHES = ("mixed-batch", "chunked-prefill", "ragged-batch", "prefix-cache")
PARALLEL = ("tensor-parallel", "pipeline-parallel", "expert-parallel", "context-parallel", "data-parallel")
ORDER = (*KERNELS, *BATCHES, *PARALLEL)
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ("parallelism", "token_axes")
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
