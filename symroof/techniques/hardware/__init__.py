"""Hardware: another device, or an attached unit."""

ORDER = ("scale-hardware", "data-format", "pim", "resident-weights")
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ()
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
