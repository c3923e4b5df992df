"""Compiler and system: fusion, memory management, batching, parallelism."""

ORDER = (
    "fuse",
    "flash-attention",
    "flash-decoding",
    "paged-cache",
    "offload",
    "mixed-batch",
    "chunked-prefill",
    "ragged-batch",
    "prefix-cache",
    "tensor-parallel",
    "pipeline-parallel",
    "expert-parallel",
    "sequence-parallel",
    "data-parallel",
)
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ("parallelism", "token_axes")
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
