"""Compression: fewer bits, fewer weights, smaller models."""

ORDER = ("quantize", "sparsify", "prune-channels", "distill", "low-rank")
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ("narrow_inputs", "selectors")
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
