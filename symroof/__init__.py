"""symroof: symbolic roofline models of transformer inference.

>>> import symroof
>>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
>>> print(on.crossover("up_proj", over="batch").first_integer)
162
>>> step = symroof.load_model("llama-2-7b").decode(batch=1, symbolic=True)
>>> print(step["q_proj"].intensity)
2*d*e*h/(a*d/8 + a*e*h/8 + d*e*h*w/8) FLOP/byte
"""

from pathlib import Path as _Path

from symroof.lazy import attach as _attach

__version__ = "0.3.0"

__getattr__, __all__ = _attach("symroof", _Path(__file__).with_suffix(".pyi"))  # `symroof --help` need not wait for sympy


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
