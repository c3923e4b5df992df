"""Techniques of inference optimization as rewrites of graphs and steps.

>>> import symroof
>>> from symroof.techniques import Quantize
>>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
>>> print(graph.apply(Quantize(weights=4))["up_proj"].traffic)
a*b*d/8 + a*b*f/8 + d*f*q_w/8 byte
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """A technique's class, loaded when it is first asked for."""
    if name[:1].isupper():
        from symroof.techniques.registry import FAMILIES, technique_class

        for family in FAMILIES.values():
            for text, kind in family.items():
                if kind == name:
                    return technique_class(text)
    raise AttributeError(f"module 'symroof.techniques' has no attribute {name!r}")
