"""The number of layers of each kind."""

from __future__ import annotations

from symroof.symbols.models import L as _L
from symroof.vocabulary import layers_with as _layers_with

_MIXERS = {
    "full": "full attention",
    "nope": "attention without rotary embedding",
    "first": "full attention, the first, without a norm before it",
    "encoder": "an encoder's attention",
    "decoder": "attention to themselves and to an encoder's output",
    "sliding": "a sliding window",
    "nope_sliding": "a sliding window and no rotary embedding",
    "shared": "full attention to keys and values of an earlier layer",
    "shared_sliding": "a sliding window over keys and values of an earlier layer",
    "sparse": "sparse attention",
    "compressed": "a window and selected compressed entries",
    "heavy": "a window and heavily compressed entries",
    "reused": "sparse attention to the keys that an earlier layer selected",
    "linear": "linear attention",
    "mamba": "a state space",
    "conv": "a short convolution",
    "both": "attention beside a state space",
    "hybrid": "a shared block of attention and MLP before a state space",
}
_MLPS = {"dense": "a dense MLP", "moe": "a mixture of experts", "wide": "a wider MLP", "mlp": "an MLP alone"}
_PAIRS = {f"{mixer}_{mlp}": f"{how} and {what}" for mixer, how in _MIXERS.items() for mlp, what in _MLPS.items() if mlp != "mlp"}

LAYERS = {"layer": _L} | {kind: _layers_with(kind, meaning) for kind, meaning in (_MIXERS | _MLPS | _PAIRS).items()}
"""The number of layers of each kind, where a model has several."""
