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
"""The techniques as lists show them; one that is not named here stands behind them."""

HELPERS: tuple[str, ...] = ("parallelism", "token_axes")
"""Modules of no technique; every other is one's, and has its name with underscores."""
