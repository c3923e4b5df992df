"""Widths that are left out: the published one of weights, else 16 bits; the same numbers through every door that gives numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sympy import Rational

import symroof
from symroof.architectures.model import Model
from symroof.conventions import BITS
from symroof.questions.comparison import compare
from symroof.questions.crossovers import token_budget
from symroof.questions.placement import best_split
from symroof.questions.regimes import work_exceeds
from symroof.questions.required import required_capacity
from symroof.questions.technique_effect import effect_of
from symroof.roof.energy import energy
from symroof.symbols import a, c, w

DEVICE = "h100-sxm"
MODELS = {"llama-2-7b": 16, "gpt-oss-20b": 4}
"""The second is published in MXFP4."""

SHARED = symroof.technique("tensor-parallel:degree=2,latency=1us")
LAUNCH = symroof.technique("launch-overhead:launch=5us")
ENERGY = symroof.technique("energy:flop=1pJ,byte=30pJ,power=100W")
Widths = dict[str, int]


def at(model: Model, widths: Widths, **inputs: int) -> symroof.Step:
    return model.decode(**{"batch": 4, "seq_len": 512, **inputs}, **widths)


def over_batch(model: Model, widths: Widths) -> symroof.Step:
    return model.decode(seq_len=512, **widths)


def swept(found: Any) -> Any:
    return {name: found[name].values.tolist() for name in found.data_vars}


PYTHON: dict[str, Callable[[Model, Widths], object]] = {
    "analyze": lambda model, widths: symroof.analyze(at(model, widths), DEVICE).total.time_expr,
    "analyze.memory": lambda model, widths: symroof.analyze(at(model, widths), DEVICE).memory_exprs,
    "analyze.statements": lambda model, widths: symroof.analyze(at(model, widths), DEVICE).statements,
    "analyze.options": lambda model, widths: symroof.analyze(at(model, widths), DEVICE).step.options,
    "energy": lambda model, widths: energy(at(model, widths).apply(ENERGY), DEVICE).total.joules_expr,
    "sensitivity": lambda model, widths: symroof.sensitivity(at(model, widths), DEVICE).values,
    "crossover": lambda model, widths: symroof.crossover(over_batch(model, widths), "lm_head", over="batch", hardware=DEVICE).value_expr,
    "crossovers": lambda model, widths: [
        answer.intervals for answer in symroof.crossovers(over_batch(model, widths), over="batch", hardware=DEVICE)
    ],
    "crossover over activation_bits": lambda model, widths: (
        symroof.crossover(
            at(model, {name: bits for name, bits in widths.items() if name != "activation_bits"}),
            "lm_head",
            over="activation_bits",
            hardware=DEVICE,
        ).intervals
    ),
    "regimes": lambda model, widths: symroof.regimes(over_batch(model, widths), over="batch", hardware=DEVICE).times,
    "payoff": lambda model, widths: (
        symroof.payoff(over_batch(model, widths), over_batch(model, widths).apply(SHARED), over="batch", hardware=DEVICE).intervals
    ),
    "work_exceeds": lambda model, widths: work_exceeds(over_batch(model, widths).apply(LAUNCH), over="batch", hardware=DEVICE),
    "required": lambda model, widths: (
        symroof.required(at(model, widths), over="bandwidth", hardware=DEVICE, target_time=Rational(1, 2)).value_expr
    ),
    "required_capacity": lambda model, widths: required_capacity(at(model, widths)).exact,
    "largest": lambda model, widths: symroof.largest(over_batch(model, widths), capacity=10**13).value_expr,
    "context_limit": lambda model, widths: symroof.context_limit(model.decode(**widths), DEVICE).value_expr,
    "generation": lambda model, widths: symroof.generation(model, prompt=64, tokens=9, hardware=DEVICE, batch=2, **widths).time,
    "prove": lambda model, widths: (
        symroof.prove(over_batch(model, widths), "memory-bound", "lm_head", for_all="batch", hardware=DEVICE).counterexample
    ),
    "token_budget": lambda model, widths: token_budget(over_batch(model, widths), "lm_head", hardware=DEVICE).value_expr,
    "best_split": lambda model, widths: best_split(at(model, widths), hardware=DEVICE, unit="a100-sxm-80gb").places,
    "compare": lambda model, widths: [
        (one.analysis.total.time_expr, one.payoff and one.payoff.intervals)
        for one in compare(at(model, widths), over_batch(model, widths), [[SHARED]], over="batch", hardware=DEVICE)
    ],
    "sweep": lambda model, widths: swept(symroof.sweep(model, DEVICE, {"batch": [1, 4]}, seq_len=512, **widths)),
    "sweep of operators": lambda model, widths: swept(
        symroof.sweep(model, DEVICE, {"batch": [1, 4]}, seq_len=512, per="operator", metrics=["time", "bound"], **widths)
    ),
    "best": lambda model, widths: swept(symroof.best(model, DEVICE, {"batch": [1, 4]}, seq_len=512, minimize="time", **widths)),
    "pareto": lambda model, widths: swept(symroof.pareto(model, DEVICE, {"batch": [1, 4]}, seq_len=512, **widths)),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return symroof.load_model(request.param)


def explicit(model: Model) -> Widths:
    """What is the default, written out; not read from where the library has it."""
    return {"weight_bits": MODELS[model.name], "activation_bits": 16, "kv_bits": 16}


@pytest.mark.slow
@pytest.mark.parametrize("door", PYTHON)
def test_left_out_is_the_default_in_python(door: str, model: Model) -> None:
    pytest.importorskip("xarray")
    assert PYTHON[door](model, {}) == PYTHON[door](model, explicit(model))


SIZES = ("--hardware", DEVICE, "--phase", "decode")
COMMANDS: dict[str, tuple[str, ...]] = {
    "analyze": ("--batch", "4", "--seq-len", "512", *SIZES),
    "crossover": ("--operator", "all", "--over", "batch", "--seq-len", "512", *SIZES),
    "crossover in letters": ("--operator", "lm_head", "--over", "batch", "--phase", "decode"),
    "prove": ("--operator", "lm_head", "--for-all", "batch", *SIZES),
    "solve": ("--for", "bandwidth", "--target-time", "0.5", "--batch", "4", "--seq-len", "512", *SIZES),
    "solve for capacity": ("--for", "capacity", "--batch", "4", "--seq-len", "512", *SIZES),
    "solve with a technique": ("--for", "batch", "--target-time", "0.5", "--seq-len", "512", "--with", "expert-parallel:degree=2", *SIZES),
    "generate": ("--prompt", "64", "--tokens", "9", "--hardware", DEVICE),
    "compare": ("--seq-len", "512", "--with", "launch-overhead:launch=5us", *SIZES),
    "compare over kv_bits": ("--seq-len", "512", "--with", "launch-overhead:launch=5us", "--over", "kv_bits", *SIZES),
}


def written_out(widths: Widths) -> list[str]:
    return [part for name, bits in widths.items() for part in (f"--{name.replace('_', '-')}", str(bits))]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_left_out_is_the_default_of_the_command(command: str, model: Model, run) -> None:
    name, *_ = command.split()
    claim = ("memory-bound",) if name == "prove" else ()
    arguments = (name, *claim, model.name, *COMMANDS[command], "--format", "json")
    widths = {key: bits for key, bits in explicit(model).items() if key not in command}
    left_out, given = run(*arguments), run(*arguments, *written_out(widths))
    assert (left_out.out, left_out.err, left_out.status) == (given.out, given.err, given.status)


def test_describe_and_sweep_and_analyze_say_the_same(model: Model, run) -> None:
    widths = explicit(model)
    described = json.loads(run("describe", model.name, "--format", "json").out)
    assert (described["weight_bits"], described["kv_bits"]) == (widths["weight_bits"], widths["kv_bits"])
    sweep = ("sweep", model.name, "--hardware", DEVICE, "--over", "batch=4", "--seq-len", "512", "--metric", "time", "memory")
    last = [
        line.split() for line in (run(*sweep).out, run(*sweep, *written_out(widths)).out) for line in line.splitlines() if DEVICE in line
    ]
    assert last[0] == last[-1]
    analyzed = json.loads(run("analyze", model.name, *COMMANDS["analyze"], "--format", "json").out)
    assert {name: analyzed["inputs"][name] for name in widths} == widths
    assert analyzed["total"]["time"] == float(PYTHON["analyze"](model, {}))  # type: ignore[arg-type]
    assert analyzed["total"]["time"] == pytest.approx(PYTHON["sweep"](model, {})["time"][0][0][0][1], rel=1e-14)  # type: ignore[index]


def test_the_default_is_said_once() -> None:
    assert BITS == 16
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=8)
    assert {a, c, w} <= symroof.analyze(step).total.time_expr.free_symbols, "without a device they stay symbols"
    assert step.with_widths(c).options.kv_bits is None
    given = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=8, weight_bits=4, activation_bits=8, kv_bits=2)
    assert given.with_widths() is given
    effect = effect_of(type(symroof.technique("quantize:weights=4")))
    assert effect.step(over=False).options.activation_bits == BITS


@pytest.mark.slow
def test_a_sweep_over_the_width_has_the_published_scales_at_the_published_width() -> None:
    pytest.importorskip("xarray")
    model = symroof.load_model("gpt-oss-20b")
    found = symroof.sweep(model, DEVICE, {"weight_bits": [2, 4, 8, 16]}, seq_len=512, metrics=["time", "memory"])
    for bits in (2, 4, 8, 16):
        step = model.decode(batch=1, seq_len=512, weight_bits=bits).with_widths()
        here = found.sel(weight_bits=bits)
        assert float(here["memory"].squeeze()) == pytest.approx(float(symroof.analyze(step, DEVICE).memory_exprs["total"]), rel=1e-14)
        assert float(here["time"].squeeze()) == pytest.approx(float(symroof.analyze(step, DEVICE).total.time_expr), rel=1e-12)
