"""Conventions: the assumptions behind a count, as records with a key and a sentence for readers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BITS = 16
"""Default bits of weights (unless the checkpoint is quantized), activations and KV cache on a device, on the command line and in a
sweep. Without a device an omitted width stays a symbol."""


@dataclass(frozen=True)
class Convention:
    """An assumption behind the numbers.

    Attributes
    ----------
    key : the subject; code uses only the key, for example to replace an earlier convention (`without`).
    text : the sentence shown to readers.
    source : the source of the convention, if not the library's own.

    >>> Convention("lm-head", "LM head on the last token of each sequence").key
    'lm-head'
    """

    key: str
    text: str
    source: str = ""


def without(conventions: Iterable[Convention], *keys: str) -> tuple[Convention, ...]:
    """The conventions except those with these keys.

    >>> without((Convention("mask", "causal"), Convention("peak", "dense")), "mask")
    (Convention(key='peak', text='dense', source=''),)
    """
    return tuple(convention for convention in conventions if convention.key not in keys)
