"""What docstrings declare is read back: units, and that every public name has one with an example."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from types import SimpleNamespace

import pytest

import symroof
from symroof.architectures.model import Model
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.operators.operator import Operator
from symroof.operators.tensor import Tensor
from symroof.roof.analysis import Analysis, Total
from symroof.roof.roofline import RooflinePoint
from symroof.units import ureg

STEP = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)
ANALYSIS = symroof.analyze(STEP, "a100-sxm-80gb")

OBJECTS = {
    Operator: STEP["q_proj"],
    Tensor: STEP["q_proj"].result,
    Step: STEP,
    Model: symroof.load_model("llama-2-7b"),
    Device: ANALYSIS.device,
    RooflinePoint: ANALYSIS["q_proj"],
    Total: ANALYSIS.total,
    Analysis: ANALYSIS,
}

UNIT = re.compile(r"Quantit(?:y|ies) in ([A-Za-z/]+)")
BY_WORD = {"bytes": "byte", "seconds": "second", "watts": "watt", "w": None, "c": None}


def declared() -> list[tuple[type, str, str]]:
    found = []
    for owner in OBJECTS:
        for name, member in inspect.getmembers(owner, lambda member: isinstance(member, property)):
            match = UNIT.search(member.__doc__ or "")
            if match:
                found.append((owner, name, match[1]))
    return found


@pytest.mark.parametrize(("owner", "name", "unit"), declared(), ids=str)
def test_units_in_docstrings(owner: type, name: str, unit: str) -> None:
    value = getattr(OBJECTS[owner], name)
    quantities = list(value.values()) if isinstance(value, dict) else [value]
    assert quantities
    wanted = BY_WORD.get(unit, unit)
    for quantity in quantities:
        if wanted is None:  # "a Quantity in w": bytes, as a formula in that letter
            assert str(quantity.units) == "byte"
            assert {str(symbol) for symbol in quantity.magnitude.free_symbols} == {unit}
        else:
            assert quantity.units == ureg.parse_units(wanted)


def test_enough_is_declared() -> None:
    assert len(declared()) >= 18


QUESTIONS = [name for name in symroof.__all__ if inspect.isfunction(getattr(symroof, name))]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_public_function_has_an_example(name: str) -> None:
    assert ">>>" in (getattr(symroof, name).__doc__ or "")


@pytest.mark.parametrize("name", [name for name in symroof.__all__ if name not in QUESTIONS and name not in ("ureg", "Quantity")])
def test_every_public_name_says_what_it_is(name: str) -> None:
    doc = getattr(symroof, name).__doc__ or ""
    assert doc.strip()
    assert not doc.startswith(f"{name}("), "dataclasses write their own where there is none"


def test_the_public_surface_is_all_there_and_nothing_else() -> None:
    for name in symroof.__all__:
        assert getattr(symroof, name) is not None
    assert set(dir(symroof)) == {*symroof.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = symroof.nothing


def test_answers_are_public() -> None:
    """What a public function returns has a public name, so that a user can annotate with it."""
    for name in QUESTIONS:
        hidden = {"xarray": SimpleNamespace(Dataset=object), "Figure": object}  # what is imported for type checkers alone
        returned = typing.get_type_hints(getattr(symroof, name), localns=hidden).get("return")
        for kind in {returned, *typing.get_args(returned)}:
            if inspect.isclass(kind) and kind.__module__.startswith("symroof."):
                assert getattr(symroof, kind.__name__, None) is kind, f"{name} returns {kind.__name__}"


def test_the_surface_is_loaded_when_asked_for() -> None:
    script = "import sys, symroof; assert not {'sympy', 'pint', 'numpy'} & set(sys.modules), 'import symroof waits for them'"
    subprocess.run([sys.executable, "-c", script], check=True)
