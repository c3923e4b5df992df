"""Fast decoding: fewer layers, fewer neurons, several tokens per step."""

ORDER = ("early-exit", "skip-layers", "contextual-sparsity", "expert-routing", "speculative", "medusa")
"""The techniques as lists show them; one that is not named here stands behind them."""

HELPERS: tuple[str, ...] = ("expected_distinct", "verification")
"""Modules of no technique; every other is one's, and has its name with underscores."""
