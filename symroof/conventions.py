"""Conventions: what a count assumes, as a record with a key, and the sentence that tells a reader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BITS = 16
"""Bits of a weight that is not published in fewer, of an activation and of an element of the KV cache, where numbers are asked
for and none are given: on a device, from the command line and in a sweep. Without a device a width left out stays a symbol."""


@dataclass(frozen=True)
class Convention:
    """One convention that the numbers follow.

    Attributes
    ----------
    key : what it is about; code looks at the key alone, a later convention of the same key takes the place of an earlier one
        where that is asked for (`without`).
    text : the sentence a reader sees.
    source : where the convention comes from, if it is not the library's own.

    >>> Convention("lm-head", "LM head on the last token of each sequence").key
    'lm-head'
    """

    key: str
    text: str
    source: str = ""


def without(conventions: Iterable[Convention], *keys: str) -> tuple[Convention, ...]:
    """The conventions but those of these keys.

    >>> without((Convention("mask", "causal"), Convention("peak", "dense")), "mask")
    (Convention(key='peak', text='dense', source=''),)
    """
    return tuple(convention for convention in conventions if convention.key not in keys)
