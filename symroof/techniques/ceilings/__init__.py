"""Ceilings beyond two: efficiencies, launches, levels, energy."""

TECHNIQUES: dict[str, str] = {
    "efficiency": "Efficiency",
    "launch-overhead": "LaunchOverhead",
    "no-overlap": "NoOverlap",
    "memory-levels": "MemoryLevels",
    "energy": "EnergyModel",
}
"""Name on the command line, and its class; the module is the name with underscores."""
