"""Fast decoding: fewer layers, fewer neurons, several tokens per step."""

ORDER = ("early-exit", "skip-layers", "contextual-sparsity", "expert-routing", "speculative", "medusa")
"""The order of the techniques in lists; techniques not named here come last."""

HELPERS: tuple[str, ...] = ("expected_distinct", "own_heads", "rollback", "verification")
"""Helper modules. Every other module is named after the technique it defines, with underscores."""
