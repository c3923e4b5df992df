"""symroof: symbolic roofline models of transformer inference.

>>> import symroof
>>> step = symroof.load_model("llama-2-7b").decode(batch=1, symbolic=True)
>>> print(step["q_proj"].intensity)
2*d*e*h/(a*d/8 + a*e*h/8 + d*e*h*w/8) FLOP/byte
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symroof.architectures.model import Model, load_model
    from symroof.errors import SymroofError
    from symroof.hardware.device import Device
    from symroof.hardware.loader import load_hardware
    from symroof.questions.capacity import largest
    from symroof.questions.context_limit import context_limit
    from symroof.questions.crossover import Crossover
    from symroof.questions.crossovers import crossover, crossovers
    from symroof.questions.generation import generation
    from symroof.questions.payoff import payoff
    from symroof.questions.proofs import Certificate, prove
    from symroof.questions.regimes import regimes
    from symroof.questions.required import required
    from symroof.questions.sensitivity import sensitivity
    from symroof.roof.analysis import Analysis, analyze
    from symroof.sweeps.compile import compiled
    from symroof.sweeps.reduce import best, pareto
    from symroof.sweeps.sweep import sweep
    from symroof.techniques.registry import technique
    from symroof.units import Quantity, ureg

__version__ = "0.2.0"

_HOMES = {
    "Analysis": "symroof.roof.analysis",
    "Certificate": "symroof.questions.proofs",
    "Crossover": "symroof.questions.crossover",
    "Device": "symroof.hardware.device",
    "Model": "symroof.architectures.model",
    "Quantity": "symroof.units",
    "SymroofError": "symroof.errors",
    "analyze": "symroof.roof.analysis",
    "best": "symroof.sweeps.reduce",
    "compiled": "symroof.sweeps.compile",
    "context_limit": "symroof.questions.context_limit",
    "crossover": "symroof.questions.crossovers",
    "crossovers": "symroof.questions.crossovers",
    "generation": "symroof.questions.generation",
    "largest": "symroof.questions.capacity",
    "load_hardware": "symroof.hardware.loader",
    "load_model": "symroof.architectures.model",
    "pareto": "symroof.sweeps.reduce",
    "payoff": "symroof.questions.payoff",
    "prove": "symroof.questions.proofs",
    "regimes": "symroof.questions.regimes",
    "required": "symroof.questions.required",
    "sensitivity": "symroof.questions.sensitivity",
    "sweep": "symroof.sweeps.sweep",
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
