"""Compression: fewer bits, fewer weights, smaller models."""

TECHNIQUES: dict[str, str] = {
    "quantize": "Quantize",
    "sparsify": "Sparsify",
    "prune-channels": "PruneChannels",
    "distill": "Distill",
    "low-rank": "LowRank",
}
"""Name on the command line, and its class; the module is the name with underscores."""
