"""Ceilings beyond two: efficiencies, launches, levels, energy."""

ORDER = ("efficiency", "launch-overhead", "no-overlap", "memory-levels", "energy")
"""The techniques as lists show them; one that is not named here stands behind them."""

HELPERS: tuple[str, ...] = ()
"""Modules of no technique; every other is one's, and has its name with underscores."""
