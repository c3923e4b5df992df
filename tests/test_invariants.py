"""What holds of every answer of every command, whatever the techniques: no rate above the machine's, totals that are sums."""

from __future__ import annotations

import csv
import json
import random
from math import prod

import pytest

import symroof
from symroof.techniques.registry import names
from tests.steps import step
from tests.techniques.pairs import FITTING, SETTINGS, applied, made

DEVICES = ("a100-sxm-80gb", "h100-sxm")
SIZES = {"prefill": {"batch": 8, "seq_len": 512}, "decode": {"batch": 16, "seq_len": 2048}}
CUBES, PIM = 5, symroof.load_hardware("hbm-pim").machine
PEAKS = {"data-format": 1248e12, "pim": CUBES * float(max(PIM.peaks.values()))}
BANDWIDTHS = {"pim": CUBES * float(PIM.memory_bandwidth)}
"""What hardware of the chain's own reaches, as `SETTINGS` gives it; all else is the device's, as its data sheet has it."""
DEGREES = {"tensor-parallel": 2, "pipeline-parallel": 2, "expert-parallel": 4, "context-parallel": 8, "data-parallel": 8}
SLACK = 1 + 1e-12
"""Answers are floats of exact numbers: a rate may be above the machine's by their rounding alone."""

Case = tuple[str, str, str, tuple[str, ...]]


def cases(number: int) -> list[Case]:
    """Models, phases, devices and chains of up to three techniques that go together."""
    draw, found = random.Random(7), []
    while len(found) < number:
        model, phase = draw.choice(("llama-2-7b", "mixtral-8x7b-v0.1", "gemma-2-9b")), draw.choice(("prefill", "decode"))
        chain = draw.sample(names(), draw.choice((1, 2, 2, 3)))
        after = step(model, phase, **SIZES[phase])
        for name in chain:
            after = after if isinstance(after, str) else applied(after, made(name, model))
        if not isinstance(after, str):
            found.append((model, phase, draw.choice(DEVICES), tuple(chain)))
    return found


CASES = cases(40)
CHAINS = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join((*case[:3], *case[3])))


def options(case: Case) -> list[str]:
    """The chain as a user types it."""
    model, _, _, chain = case
    settings = [FITTING.get((name, model), SETTINGS.get(name, "")) for name in chain]
    return [part for name, text in zip(chain, settings, strict=True) for part in ("--with", f"{name}:{text}" if text else name)]


def rates(case: Case) -> tuple[float, float]:
    """The most FLOP/s and byte/s of memory that anything of the chain's machine reaches."""
    device, chain = symroof.load_hardware(case[2]), case[3]
    peaks = [float(figure.value) for peak in device.peaks.values() for figure in (peak.dense, peak.sparse) if figure]
    peak = max(*peaks, *(PEAKS.get(name, 0) for name in chain))
    bandwidth = max(float(device.bandwidth_figure.value), *(BANDWIDTHS.get(name, 0) for name in chain))
    return peak, bandwidth * (3 if "scale-hardware" in chain else 1)


def answer(run, command: str, case: Case, *more: object) -> dict:
    """The JSON of a command on a case."""
    model, phase, device, _ = case
    asked = (command, model, "--hardware", device, "--phase", phase, *options(case), "--format", "json", *more)
    said = run(*asked)
    assert said.status == 0, said.err
    return json.loads(said.out)


def sizes(case: Case) -> tuple[object, ...]:
    given = SIZES[case[1]]
    return "--batch", given["batch"], "--seq-len", given["seq_len"]


@pytest.mark.slow
@CHAINS
def test_analyses_stay_below_the_roofs_and_add_up(run, case: Case) -> None:
    told = answer(run, "analyze", case, *sizes(case))
    peak, bandwidth = rates(case)
    total, operators = told["total"], told["operators"]
    assert operators
    for one in (*operators, total):
        assert one["flops"] <= peak * one["time"] * SLACK, one
        assert one["bytes"] <= bandwidth * one["time"] * SLACK, one
        assert sum(value for key, value in one.items() if key.endswith(("_read", "_write"))) == pytest.approx(one["bytes"], rel=1e-12)
    for what in ("flops", "bytes", "contraction_flops"):
        assert sum(one["count"] * one[what] for one in operators) == pytest.approx(total[what], rel=1e-12), what
    if any(text.startswith("offload") for text in case[3]):  # fetched ahead: all transfers beside all work
        ahead = sum(one["count"] * one["seconds"].get("host", 0) for one in operators)
        work = sum(one["count"] * max((one["seconds"] | {"host": 0}).values()) for one in operators)
        assert total["time"] == pytest.approx(max(work, ahead), rel=1e-12)
    else:
        assert sum(one["count"] * one["time"] for one in operators) == pytest.approx(total["time"], rel=1e-12)
    assert total["time_per_token"] * total["tokens_per_sequence"] == pytest.approx(total["time"], rel=1e-12)
    assert told["devices"] == prod(DEGREES.get(name, 1) for name in case[3])
    assert sum(value for key, value in told["memory"].items() if key in ("weight", "kv_cache", "activation")) == told["memory"]["total"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: "-".join((*case[:3], *case[3])))
def test_comparisons_and_sweeps_tell_what_the_analysis_tells(run, tmp_path, case: Case) -> None:
    total = answer(run, "analyze", case, *sizes(case))["total"]
    model, phase, device, _ = case
    variant = ("--with", " ".join(options(case)[1::2]))
    after = answer(run, "compare", (model, phase, device, ()), *variant, *sizes(case))["variants"][-1]
    assert {name: after[name] for name in ("time", "flops", "bytes")} == {name: total[name] for name in ("time", "flops", "bytes")}
    given = SIZES[phase]
    metrics = [part for name in ("time", "flops", "traffic", "performance") for part in ("--metric", name)]
    over = ("--over", f"batch={given['batch']},{2 * given['batch']}", "--seq-len", given["seq_len"])
    path = tmp_path / "out.csv"
    assert run("sweep", model, "--hardware", device, "--phase", phase, *options(case), *metrics, *over, "-o", path).status == 0
    points = list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))
    assert len(points) == 2
    peak, bandwidth = rates(case)
    for point in points:
        seconds = float(point["time"])
        assert float(point["flops"]) <= peak * seconds * SLACK
        assert float(point["traffic"]) <= bandwidth * seconds * SLACK
        assert float(point["performance"]) == pytest.approx(float(point["flops"]) / seconds, rel=1e-12)
    first = points[0]
    assert [float(first[name]) for name in ("time", "flops", "traffic")] == pytest.approx([total[n] for n in ("time", "flops", "bytes")])


GENERATIONS = [
    (),
    ("tensor-parallel:degree=2",),
    ("mixed-batch:chunk=128",),
    ("speculative:acceptance=0.8,length=4,draft_cost=0.05",),
    ("medusa:heads=4,nodes=20,acceptance=0.6",),
    ("quantize:weights=4,group=128", "tensor-parallel:degree=2"),
    ("speculative:acceptance=0.8,length=4,draft=llama-3.2-1b",),
]


@pytest.mark.slow
@pytest.mark.parametrize("chain", GENERATIONS, ids="+".join)
def test_generations_stay_below_the_roofs_and_add_up(run, chain: tuple[str, ...]) -> None:
    asked = ("generate", "llama-3-8b", "--hardware", "h100-sxm", "--prompt", 512, "--tokens", 33, "--batch", 8)
    told = json.loads(run(*asked, *(part for text in chain for part in ("--with", text)), "--format", "json").out)
    bandwidth = float(symroof.load_hardware("h100-sxm").bandwidth_figure.value)
    for part in ("prefill", "decode", "total"):
        assert 0 < told[part]["bytes"] <= bandwidth * told[part]["time"] * SLACK, part
    for what in ("time", "bytes"):
        assert told["prefill"][what] + told["decode"][what] == pytest.approx(told["total"][what], rel=1e-12)
    assert sum(regime["time"] for regime in told["decode"]["regimes"]) == pytest.approx(told["decode"]["time"], rel=1e-12)
    assert told["time_per_token"] * 32 == pytest.approx(told["decode"]["time"], rel=1e-12)
    assert told["tokens_per_second"] * told["time_per_token"] == pytest.approx(8, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "chain", [(), ("tensor-parallel:degree=2",), ("mixed-batch:chunk=128,prompt=1024",), ("medusa:heads=4,nodes=20,acceptance=0.6",)]
)
@pytest.mark.parametrize("unknown", ["batch", "bandwidth"])
def test_solutions_reach_their_targets_and_no_more(run, unknown: str, chain: tuple[str, ...]) -> None:
    case = ("llama-3-8b", "decode", "h100-sxm", ())
    given = [part for text in chain for part in ("--with", text)]
    batch = () if unknown == "batch" else ("--batch", 16)
    solved = answer(run, "solve", case, *given, *batch, "--seq-len", 2048, "--for", unknown, "--target-time", "20ms")
    if unknown == "batch":
        totals = [answer(run, "analyze", case, *given, "--batch", solved["integer"] + more, "--seq-len", 2048)["total"] for more in (0, 1)]
        times = [total["time_per_token"] for total in totals]
        assert times[0] <= 0.02 < times[1]
    else:
        total = answer(run, "analyze", case, *given, *batch, "--seq-len", 2048)["total"]
        assert total["bytes"] <= solved["value"] * 0.02 * total["tokens_per_sequence"] * SLACK


@pytest.mark.slow
@pytest.mark.parametrize("over", ["batch", "seq_len"])
def test_crossovers_are_where_the_analysis_changes_its_bound(run, over: str) -> None:
    case, fixed = ("llama-2-7b", "decode", "a100-sxm-80gb", ()), ("--seq-len", 512) if over == "batch" else ("--batch", 64)
    answers = {one["operator"]: one for one in answer(run, "crossover", case, *fixed, "--over", over, "--operator", "all")}
    for size in (1, 159, 161, 163, 166, 5000):
        varied = ("--batch", size) if over == "batch" else ("--seq-len", size)
        for one in answer(run, "analyze", case, *fixed, *varied)["operators"]:
            if one["name"] in answers:
                parts = answers[one["name"]]["intervals"]
                within = [part["bound"] for part in parts if part["low"] <= size <= (part["high"] or size)]
                assert one["bound"] in within, (one["name"], size)


@pytest.mark.parametrize(("technique", "several"), [("quantize:weights=4", False), ("tensor-parallel:degree=2", True)])
def test_a_comparison_says_whose_figures_it_tells(run, technique: str, several: bool) -> None:
    said = run("compare", "opt-125m", "--hardware", "a100-sxm-80gb", "--phase", "decode", "--seq-len", 64, "--with", technique).out
    assert ("FLOPs, traffic and memory are those of one device" in said) is several


def test_a_generation_says_of_which_phase_a_convention_is() -> None:
    told = symroof.generation(symroof.load_model("opt-125m"), prompt=8, tokens=4, hardware="t4", batch=1).statements
    assert "decode: one token per sequence; the context length includes it" in told, "the phase's own has no second name before it"
    assert any(line.startswith("prefill: ") for line in told)
    assert not any(line.startswith(("decode: decode", "prefill: prefill", "prefill: decode")) for line in told)
