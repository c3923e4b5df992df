"""Ceilings beyond compute and memory: efficiencies, launch overhead, memory levels, energy."""

ORDER = ("efficiency", "launch-overhead", "no-overlap", "memory-levels", "energy")
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ()
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
