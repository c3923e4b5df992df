"""Hardware: another device, or a unit beside it."""

TECHNIQUES: dict[str, str] = {
    "scale-hardware": "ScaleHardware",
    "data-format": "DataFormat",
    "pim": "Pim",
    "resident-weights": "ResidentWeights",
}
"""Name on the command line, and its class; the module is the name with underscores."""
