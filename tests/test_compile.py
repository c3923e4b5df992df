"""Compiled formulas against exact rationals, engine against engine, and what they refuse."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Expr, Integer, Max, Symbol, ceiling, sin

import symroof
from symroof import symbols
from symroof.architectures.options import Options
from symroof.sweeps.compile import compiled, program
from symroof.sweeps.engines import engine_for
from symroof.sweeps.inputs import by_letter
from symroof.symbols import a, b, s, t, w

MODELS = ("llama-2-7b", "mixtral-8x7b-v0.1", "gemma-2-9b", "deepseek-v2-lite", "jamba-v0.1", "dit-xl-2")
SIZES = {"batch": 4096, "seq_len": 2**17, "weight_bits": 64, "activation_bits": 64, "kv_bits": 64}


QUANTITIES = ("time", "memory", "energy", "full", "attention")
NAMES = tuple(
    sorted(
        f"{name} {phase} {flash}{quantity}"
        for name in MODELS
        for phase in ("prefill", "decode")
        for flash in ("", "flash ")
        for quantity in QUANTITIES
    )
)


def formula(name: str) -> tuple[Expr, Mapping[Symbol, Expr]]:
    """Traffic of every kind of operator, a time, memory, an energy or a capacity test, and the definitions it needs."""
    model, phase, *flash, quantity = name.split()
    formulas, definitions = formulas_of(model, phase, bool(flash))
    return formulas[quantity], definitions


@cache
def formulas_of(model: str, phase: str, flash: bool) -> tuple[dict[str, Expr], Mapping[Symbol, Expr]]:
    analysis = symroof.analyze(symroof.load_model(model).step(Options(phase, flash_attention=flash)))
    memory, time = analysis.memory_exprs["total"], analysis.total.time_expr
    attention = next(point for point in reversed(analysis.operators) if "attention" in point.name or "matmul" in point.name)
    energy = time * symbols.P / 10**12 + analysis.total.byte_count() / 7
    return dict(zip(QUANTITIES, (time, memory, energy, memory / symbols.M, attention.intensity), strict=True)), analysis.graph.definitions


@st.composite
def points(draw: st.DrawFn) -> dict[str, int]:
    found = {name: draw(st.integers(1, high)) for name, high in SIZES.items()}
    found |= {"P": draw(st.integers(10**9, 10**16)), "BW": draw(st.integers(10**9, 10**14)), "M": draw(st.integers(2**10, 2**26))}
    return found | {"M_L": draw(st.integers(2**10, 2**30)), "n_c": draw(st.integers(1, 1000))}


def used(function, point: dict[str, object]) -> dict[str, object]:
    figures = {"M", "M_L", "n_c"} - {*function.program.inputs}
    return {name: value for name, value in point.items() if name not in figures}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), points())
def test_numpy_is_the_exact_value(name: str, point: dict[str, int]) -> None:
    expression, definitions = formula(name)
    fast = compiled(expression, engine="numpy", definitions=definitions)
    exact = compiled(expression, engine="exact", definitions=definitions)(**used(fast, point))
    assert isinstance(exact, Fraction)
    assert abs(Fraction(float(fast(**used(fast, point)))) / exact - 1) < Fraction(1, 10**12)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(NAMES), points())
def test_the_exact_value_is_sympy_s(name: str, point: dict[str, int]) -> None:
    """The engines run the same program: this is held against the formula itself."""
    expression, definitions = formula(name)
    exact = compiled(expression, engine="exact", definitions=definitions)
    bare = getattr(expression, "magnitude", expression)
    for symbol, definition in definitions.items():
        bare = bare.xreplace({symbol: definition})
    letters = by_letter(used(exact, point), exact.program.inputs)
    by_sympy = bare.xreplace({symbol: Integer(letters[str(symbol)]) for symbol in bare.free_symbols})
    assert exact(**used(exact, point)) == Fraction(int(by_sympy.p), int(by_sympy.q))


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in NAMES if one.endswith((" time", " memory"))][::4])
def test_numba_is_numpy(name: str) -> None:
    pytest.importorskip("numba")
    expression, definitions = formula(name)
    rng = np.random.default_rng(7)
    point = {key: rng.integers(1, high, 10_000) for key, high in SIZES.items()}
    point |= {"P": rng.uniform(1e9, 1e16, 10_000), "BW": rng.uniform(1e9, 1e14, 10_000), "M": rng.integers(2**10, 2**26, 10_000)}
    by_numpy, by_numba = (compiled(expression, engine=engine, definitions=definitions) for engine in ("numpy", "numba"))
    left, right = by_numpy(**used(by_numpy, point)), by_numba(**used(by_numba, point))
    assert np.max(np.abs(left / right - 1)) < 1e-12
    mixed = used(by_numpy, point) | {"batch": 3, "seq_len": point["seq_len"].astype(np.float32)[:100, None], "P": 1e12}
    mixed = {key: value[:50] if isinstance(value, np.ndarray) and value.shape == (10_000,) else value for key, value in mixed.items()}
    assert by_numpy(**mixed).shape == by_numba(**mixed).shape == (100, 50)
    assert np.max(np.abs(by_numpy(**mixed) / by_numba(**mixed) - 1)) < 1e-12


def test_whole_steps_are_those_of_the_analysis() -> None:
    model = symroof.load_model("llama-2-7b")
    widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 8}
    time = compiled(symroof.analyze(model.decode(**widths), "h100-sxm").total.time)
    for batch, length in ((1, 1), (7, 4096), (256, 131072)):
        step = model.decode(batch=batch, seq_len=length, **widths)
        assert time(batch=batch, seq_len=length) == pytest.approx(float(symroof.analyze(step, "h100-sxm").total.time_expr), rel=1e-14)


@pytest.mark.parametrize("engine", ["numpy", "numba"])
def test_integers_do_not_overflow(engine: str) -> None:
    if engine == "numba":
        pytest.importorskip("numba")
    scores = compiled(b * s**2 * t**2 * 2**20, engine=engine)
    found = scores(batch=np.array([256], dtype=np.int64), seq_len=np.array([131072]), context_len=np.array([131072], dtype=np.int32))
    assert found.tolist() == [float(256 * 131072**4 * 2**20)]


@settings(max_examples=100)
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 64))
def test_rounding_is_exact(tokens: int, rows: int, bits: int) -> None:
    """A product with a rounded reciprocal would pass the whole number now and then."""
    blocks = compiled(ceiling(s / (symbols.R * a)), engine="numpy")
    assert blocks(seq_len=tokens, positions_per_read=rows, activation_bits=bits) == -(-tokens // (rows * bits))
    assert blocks(seq_len=rows * bits * 3, positions_per_read=rows, activation_bits=bits) == 3


def test_a_constant_takes_the_full_shape() -> None:
    memory, traffic = compiled([w / w * 7, b * w])(batch=np.ones((3, 1)), weight_bits=np.ones(5), seq_len=np.ones((2, 1, 1)))
    assert memory.shape == traffic.shape == (2, 3, 5)
    assert (memory == 7).all()


@pytest.mark.slow
def test_blocks_do_not_show() -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(1, 100, 3 * 4096 + 17)
    function = compiled(Max(b * t, 3 * b + w / t), engine="numpy")
    whole = function(batch=values, context_len=values[::-1], weight_bits=7)
    single = [function(batch=x, context_len=y, weight_bits=7) for x, y in zip(values, values[::-1], strict=True)]
    assert whole.tolist() == single
    assert function(batch=values[:0:-2], context_len=2, weight_bits=7).tolist() == [
        function(batch=x, context_len=2, weight_bits=7) for x in values[:0:-2]
    ]


@pytest.mark.slow
def test_compiled_once_and_picklable() -> None:
    expression, _ = formula("llama-2-7b decode time")
    function = compiled(expression, engine="numpy")
    assert function is compiled(expression, engine="numpy")
    there = pickle.loads(pickle.dumps(function))
    point = {"batch": np.arange(1, 100), "seq_len": 77, "weight_bits": 4, "activation_bits": 16, "kv_bits": 8, "P": 3e14, "BW": 2e12}
    assert (there(**point) == function(**point)).all()
    assert there.program == function.program
    script = "import pickle, sys; f, point = pickle.load(sys.stdin.buffer); print(f(**point)[2].hex())"
    run = subprocess.run([sys.executable, "-c", script], input=pickle.dumps((function, point)), capture_output=True, check=True)
    assert run.stdout.decode().strip() == function(**point)[2].hex()


def test_a_constant_is_not_a_value_of_that_number() -> None:
    """Constants 0 to 9 beside values 0 to 9."""
    expression = sum((number * b * t**number for number in range(2, 10)), start=b + t)
    expected = sum((number * 3 * 5**number for number in range(2, 10)), start=8)
    assert compiled(expression, engine="numpy")(batch=[3, 3], context_len=[5, 5]).tolist() == [expected, expected]


def test_what_is_shared_is_computed_once() -> None:
    both = program([b * t * w, b * t * w + 1])
    assert "".join((*both.lines, *both.outputs)).count("*") == 2


@pytest.mark.parametrize("engine", ["numpy", "numba", "exact"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch": float("nan")}, "batch nan: expected positive, finite numbers"),
        ({"batch": [1, float("nan")]}, "batch nan at position 1: expected positive"),
        ({"batch": [1, 2, -3.0]}, "batch -3.0 at position 2"),
        ({"batch": 0}, "batch 0"),
        ({"batch": [float("inf"), 1]}, "batch inf at position 0"),
        ({"batch": []}, "there are no values"),
        ({"batch": "8"}, "batch '8': expected positive numbers"),
        ({"batch": True}, "batch True"),
        ({"batch": 1j}, "batch 1j"),
        ({"batch": [[1], [1, 2]]}, "ragged"),
        ({"batch": None}, "batch None"),
        ({"batch": 10**400}, "larger than a float64"),
        ({"bacth": 1}, "'bacth' is not a symbol of the library: did you mean batch"),
        ({}, r"batch \(b\) is missing; the formula needs batch, weight_bits"),
        ({"batch": 1, "b": 2}, "batch is given twice"),
        ({"batch": [1, 2, 3], "seq_len": [1, 2]}, r"shapes do not broadcast: weight_bits \(\), batch \(3,\), seq_len \(2,\)"),
    ],
)
def test_bad_values_are_named(engine: str, values: dict[str, object], message: str) -> None:
    if engine == "numba":
        pytest.importorskip("numba")
    function = compiled(Max(b, 2) * w, engine=engine)
    with pytest.raises(symroof.SymroofError, match=message):
        function(weight_bits=4, **values)


def test_exact_numbers_go_in() -> None:
    assert compiled(b * w, engine="numpy")(batch=Fraction(1, 4), weight_bits=[Fraction(1, 2), 2]).tolist() == [0.125, 0.5]
    assert compiled(b * w, engine="exact")(batch=Fraction(1, 3), weight_bits=[3, 0.5]).tolist() == [1, Fraction(1, 6)]


def test_bad_expressions_are_named() -> None:
    for wrong, message in (
        ("b*w", "text is not evaluated"),
        (Symbol("b"), "is not one of symroof.symbols"),
        (sin(b), "sin is not compiled"),
        (b ** (w / 2), "not a whole number"),
        ([], "there are no expressions"),
    ):
        with pytest.raises(symroof.SymroofError, match=message):
            compiled(wrong)
    with pytest.raises(symroof.SymroofError, match="did you mean numpy"):
        compiled(b, engine="numpi")
    with pytest.raises(symroof.SymroofError, match="larger than a float64"):
        compiled(b**40, engine="numpy")(batch=1e10)


def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symroof.sweeps.engines.has_numba", lambda: False)
    assert engine_for("auto", 10**9) == "numpy"
    with pytest.raises(symroof.SymroofError, match=r"pip install -e '.*\[fast\]'"):
        engine_for("numba", 1)


@pytest.mark.slow
def test_rates_of_two_runs_are_not_compared() -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "speed.py"
    run = subprocess.run([sys.executable, script, "--against", "old.txt"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "refused" in run.stderr
    assert run.stdout == ""
