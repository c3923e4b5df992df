"""symroof: symbolic roofline models of transformer inference.

>>> import symroof
>>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
>>> print(on.crossover("up_proj", over="batch").first_integer)
162
>>> step = symroof.load_model("llama-2-7b").decode(batch=1, symbolic=True)
>>> print(step["q_proj"].intensity)
2*d*e*h/(a*d/8 + a*e*h/8 + d*e*h*w/8) FLOP/byte
"""

import re as _re
from importlib import import_module as _import_module
from pathlib import Path as _Path

__version__ = "0.2.0"

_HOMES = {
    public: (home, name)
    for home, name, public in _re.findall(r"^from (\S+) import (\w+) as (\w+)$", (_Path(__file__).with_suffix(".pyi")).read_text(), _re.M)
}
"""The public names, each with its module and its name there, as `symroof/__init__.pyi` tells them to type checkers and editors."""

__all__ = sorted(_HOMES)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    """Load a public name when it is first asked for: `symroof --help` need not wait for sympy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'symroof' has no attribute {name!r}")
    home, known = _HOMES[name]
    members = vars(_import_module(home))
    found = members[known] if known in members else _import_module(f"{home}.{known}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
