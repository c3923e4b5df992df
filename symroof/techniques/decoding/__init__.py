"""Fast decoding: fewer layers, fewer neurons, several tokens per step."""

TECHNIQUES: dict[str, str] = {
    "early-exit": "EarlyExit",
    "skip-layers": "SkipLayers",
    "contextual-sparsity": "ContextualSparsity",
    "expert-routing": "ExpertRouting",
    "speculative": "Speculative",
    "medusa": "Medusa",
}
"""Name on the command line, and its class; the module is the name with underscores."""
