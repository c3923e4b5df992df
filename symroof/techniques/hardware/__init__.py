"""Hardware: another device, or a unit beside it."""

ORDER = ("scale-hardware", "data-format", "pim", "resident-weights")
"""The techniques as lists show them; one that is not named here stands behind them."""

HELPERS: tuple[str, ...] = ()
"""Modules of no technique; every other is one's, and has its name with underscores."""
