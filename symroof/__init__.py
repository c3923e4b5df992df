"""symroof: symbolic roofline models of transformer inference.

>>> import symroof
>>> step = symroof.load_model("llama-2-7b").decode(batch=1, symbolic=True)
>>> print(step["q_proj"].intensity)
2*d*e*h/(a*d/8 + a*e*h/8 + d*e*h*w/8) flop / byte
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symroof.analysis.aggregate import context_limit
    from symroof.analysis.analysis import Analysis, analyze
    from symroof.analysis.capacity import largest
    from symroof.analysis.certificate import Certificate, prove
    from symroof.analysis.crossover import Crossover
    from symroof.analysis.generation import generation
    from symroof.analysis.inverse import required
    from symroof.analysis.payoff import payoff
    from symroof.analysis.regimes import regimes
    from symroof.analysis.sensitivity import sensitivity
    from symroof.analysis.solve import crossover, crossovers
    from symroof.architectures.model import Model, load_model
    from symroof.errors import SymroofError
    from symroof.evaluate.compile import compiled
    from symroof.evaluate.reduce import best, pareto
    from symroof.evaluate.sweep import sweep
    from symroof.hardware.device import Device
    from symroof.hardware.loader import load_hardware
    from symroof.techniques.registry import technique
    from symroof.units import Quantity, ureg

__version__ = "0.1.0"

_HOMES = {
    "Analysis": "symroof.analysis.analysis",
    "Certificate": "symroof.analysis.certificate",
    "Crossover": "symroof.analysis.crossover",
    "Device": "symroof.hardware.device",
    "Model": "symroof.architectures.model",
    "Quantity": "symroof.units",
    "SymroofError": "symroof.errors",
    "analyze": "symroof.analysis.analysis",
    "best": "symroof.evaluate.reduce",
    "compiled": "symroof.evaluate.compile",
    "context_limit": "symroof.analysis.aggregate",
    "crossover": "symroof.analysis.solve",
    "crossovers": "symroof.analysis.solve",
    "generation": "symroof.analysis.generation",
    "largest": "symroof.analysis.capacity",
    "load_hardware": "symroof.hardware.loader",
    "load_model": "symroof.architectures.model",
    "pareto": "symroof.evaluate.reduce",
    "payoff": "symroof.analysis.payoff",
    "prove": "symroof.analysis.certificate",
    "regimes": "symroof.analysis.regimes",
    "required": "symroof.analysis.inverse",
    "sensitivity": "symroof.analysis.sensitivity",
    "sweep": "symroof.evaluate.sweep",
    "technique": "symroof.techniques.registry",
    "ureg": "symroof.units",
}

__all__ = [
    "Analysis", "Certificate", "Crossover", "Device", "Model", "Quantity", "SymroofError", "analyze", "best",
    "compiled", "context_limit", "crossover", "crossovers", "generation", "largest", "load_hardware", "load_model", "pareto",
    "payoff", "prove", "regimes", "required", "sensitivity", "sweep", "technique", "ureg",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: `symroof --help` need not wait for sympy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'symroof' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
