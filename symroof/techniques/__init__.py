"""Techniques of inference optimization as rewrites of graphs and steps.

>>> import symroof
>>> from symroof.techniques import Quantize
>>> graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
>>> print(graph.apply(Quantize(weights=4))["up_proj"].traffic)
(a*b*d + a*b*f + d*f*q_w)/8 byte
"""

from pathlib import Path as _Path

from symroof.lazy import attach as _attach

__getattr__, __all__ = _attach("symroof.techniques", _Path(__file__).with_suffix(".pyi"))


def __dir__() -> list[str]:
    return __all__
