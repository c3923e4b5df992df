"""Compression: fewer bits, fewer weights, smaller models."""

ORDER = ("quantize", "sparsify", "prune-channels", "distill", "low-rank")
"""The techniques as lists show them; one that is not named here stands behind them."""

HELPERS: tuple[str, ...] = ("narrow_inputs", "selectors")
"""Modules of no technique; every other is one's, and has its name with underscores."""
