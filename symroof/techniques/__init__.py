"""Techniques of inference optimization as rewrites of graphs and steps.

>>> import symroof
>>> from symroof.techniques import Quantize
>>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
>>> print(graph.apply(Quantize(weights=4))["up_proj"].traffic)
(a*b*d + a*b*f + d*f*q_w)/8 byte
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """A technique's class, imported on first access."""
    if name[:1].isupper():
        from symroof.techniques.registry import names, technique_class

        # the module usually has the name of the class
        likely = [text for text in names() if text.replace("-", "") == name.lower()]
        for text in (*likely, *names()):
            if (kind := technique_class(text)).__name__ == name:
                return kind
    raise AttributeError(f"module 'symroof.techniques' has no attribute {name!r}")
