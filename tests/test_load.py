"""Load: Little's law on the exact step, saturation, and a simulated queue over the same step times."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sympy import Integer, Rational

import symroof
from symroof import symbols
from symroof.serving.load import Load, under_load
from symroof.serving.requests.sharing import resident_context
from symroof.serving.step_line import step_line

b, t = symbols.b, symbols.t


def load_of(model: str, device: str, rate: object, **asked: object) -> Load:
    given = {"prompt": 512, "output": 65, **asked}
    return under_load(symroof.load_model(model).decode(), rate=rate, hardware=device, **given)  # type: ignore[arg-type]


def seconds_of(model: str, device: str, context: int) -> Callable[[int, int], float]:
    """Seconds of a decode step of so many sequences with so many tokens of context together, on the piece of small batches."""
    line = step_line(symroof.load_model(model).decode(batch=4, seq_len=context), hardware=device)
    assert line.lines().at(1).label == line.lines().at(90).label, "one piece up to batch 90"
    weights, sequence, token, rest = line.taus_exprs
    w, s, c = float(weights), float(sequence), float(token)
    if rest == 0:
        return lambda batch, tokens: w + s * batch + c * tokens
    beside = [float(rest.xreplace({b: Integer(batch), t: Integer(context)})) for batch in range(200)]
    return lambda batch, tokens: w + s * batch + c * tokens + beside[batch]


def simulated(
    seconds: Callable[[int, int], float], rate: float, prompt: int, steps: Callable[[random.Random], int], count: int, seed: int
) -> tuple[float, float, float]:
    """Continuous batching: requests join when a step begins, each step gives every sequence a token; nothing is averaged.

    Mean latency from joining to the last token, mean latency from arrival, and mean requests present over time.
    """
    draw = random.Random(seed)
    now, arrival, taken, tokens = 0.0, draw.expovariate(rate), 0, 0
    batch = waited = stayed = area = 0.0
    running: list[tuple[int, float, float, int]] = []  # the step after which it ends, when it joined, when it came, its context then
    pending: list[float] = []
    done = 0
    while done < count:
        if not running and not pending:
            now = arrival
        while arrival <= now:
            pending.append(arrival)
            arrival += draw.expovariate(rate)
        for came in pending:
            need = steps(draw)
            heapq.heappush(running, (taken + need, now, came, prompt + need))
            tokens += prompt  # its first step below adds the token that this step writes
        pending.clear()
        batch = len(running)
        tokens += batch
        took = seconds(batch, tokens)
        area += batch * took
        now, taken = now + took, taken + 1
        while running and running[0][0] == taken:
            _, joined, came, context = heapq.heappop(running)
            tokens -= context
            stayed, waited, done = stayed + now - joined, waited + now - came, done + 1
    return stayed / done, waited / done, area / now


def fixed(output: int) -> tuple[Callable[[random.Random], int], int]:
    return (lambda _: output - 1), 0


def geometric(output: int) -> tuple[Callable[[random.Random], int], int]:
    """Decode steps of mean N = n - 1 from 1 on: variance N (N - 1)."""
    mean = output - 1
    return (lambda draw: 1 + int(math.log(1 - draw.random()) / math.log(1 - 1 / mean))), mean * (mean - 1)


def two_lengths(output: int) -> tuple[Callable[[random.Random], int], int]:
    mean, spread = output - 1, (output - 1) // 2
    return (lambda draw: mean + (spread if draw.random() < 0.5 else -spread)), spread**2


QUEUES = [
    ("llama-3-8b", "h100-sxm", fixed, 40.0),
    ("llama-3-8b", "h100-sxm", geometric, 60.0),
    ("mixtral-8x7b-v0.1", "h200-sxm", two_lengths, 12.0),
    ("mixtral-8x7b-v0.1", "h200-sxm", fixed, 25.0),
    ("qwen3-30b-a3b", "h100-sxm", geometric, 20.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "device", "lengths", "rate"), QUEUES)
def test_the_load_curve_is_that_of_a_simulated_queue(model: str, device: str, lengths: Callable, rate: float) -> None:
    """Poisson arrivals, whole batches, each sequence with its own context: the processor-sharing mean within four standard errors.

    What the model leaves out is known: a request that arrives within a step waits for its end, by less than one step of 64.
    """
    drawn, variance = lengths(65)
    load = load_of(model, device, rate, output_variance=variance)
    seconds = seconds_of(model, device, 544)
    runs = [simulated(seconds, rate, 512, drawn, 3000, seed) for seed in range(8)]
    (stayed, waited, present), errors = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / np.sqrt(len(runs))
    shared, mean_field, step = float(load.fluctuating_latency_expr), float(load.latency_expr), float(load.token_time_expr)
    assert errors[0] < 0.02 * stayed, "the simulation is sharp enough to tell"
    assert shared - 4 * errors[0] - step < stayed < shared + 4 * errors[0] + step
    assert stayed < waited < stayed + 1.5 * step
    assert float(load.sharing.mean_expr) == pytest.approx(present, rel=0.1)
    if model == "llama-3-8b":
        assert mean_field < shared, "on a line the mean batch leaves out a sequence's own share of the step"


def test_the_mean_batch_is_off_by_a_sequence_s_own_share_of_the_step() -> None:
    """On a line the two latencies differ by the factor (C1 + C2) / C1 exactly, whatever the rate."""
    for rate in (10, 50, 200):
        load = load_of("llama-3-8b", "h100-sxm", rate)
        intercept, slope = load.line_exprs
        assert float(load.fluctuating_latency_expr / load.latency_expr) == pytest.approx(float((intercept + slope) / intercept), rel=1e-9)
        assert float(load.latency_expr) == pytest.approx(float(64 * intercept / (1 - rate * 64 * slope)), rel=1e-12)
    few = load_of("mixtral-8x7b-v0.1", "h200-sxm", Rational(1, 10))
    assert few.batch_expr < 1
    alone = symroof.analyze(symroof.load_model("mixtral-8x7b-v0.1").decode(batch=1, seq_len=545), "h200-sxm").total.time_expr
    assert float(few.token_time_expr) == pytest.approx(float(alone), rel=1e-3), "a request that is alone takes the steps of one sequence"
    concave = load_of("mixtral-8x7b-v0.1", "h200-sxm", 10)
    assert float(concave.fluctuating_latency_expr / concave.latency_expr) < 1, "a fluctuating batch touches fewer experts in the mean"


@pytest.mark.parametrize("prefill", ["elsewhere", "here"])
@pytest.mark.parametrize(
    ("model", "device"), [("llama-3-8b", "h100-sxm"), ("mistral-7b-v0.1", "a100-sxm-80gb"), ("gpt-oss-20b", "h100-sxm")]
)
def test_the_batch_satisfies_little_s_law_exactly(model: str, device: str, prefill: str) -> None:
    """At the batch of the answer, the rate is the batch over the time that a request stays, from the analysis of a step."""
    for share in (Rational(1, 50), Rational(1, 2), Rational(19, 20)):
        load = load_of(model, device, load_of(model, device, Rational(1, 100), prefill=prefill).saturation_expr * share, prefill=prefill)
        whole = load.context_expr
        assert whole == 544 + Rational(1, 2)
        batch = load.batch_expr.evalf(30)
        stays = 64 * load.times.at(load.batch_expr).value.xreplace({b: batch}).evalf(30)
        assert abs(batch / stays / load.rate_expr.evalf(30) - 1) < 1e-15


def test_times_are_those_of_the_analysis() -> None:
    load = load_of("llama-3-8b", "h100-sxm", 30, prefill="here", output=64)  # N = 63, so the mean context is whole
    assert load.context_expr == 544
    model = symroof.load_model("llama-3-8b")
    read = symroof.analyze(model.prefill(batch=1, seq_len=512), "h100-sxm").total.time_expr
    assert load.prompt_time_expr == read
    for batch in (1, 7, 200, 900):
        step = symroof.analyze(model.decode(batch=batch, seq_len=544), "h100-sxm").total.time_expr
        assert load.times(batch) == step + batch * read / 63


def test_the_mean_context_is_that_of_all_steps() -> None:
    """Length-biased: over all steps of requests of these lengths, one by one."""
    lengths = [3, 9, 9, 40, 200]
    contexts = [100 + i for length in lengths for i in range(1, length)]
    mean = Rational(sum(lengths), len(lengths))
    variance = sum((length - mean) ** 2 for length in lengths) / len(lengths)
    assert resident_context(Integer(100), mean, variance) == Rational(sum(contexts), len(contexts))
    assert resident_context(Integer(100), mean, Integer(0)) < Rational(sum(contexts), len(contexts))


def test_saturation_is_where_memory_is_full_or_where_no_batch_helps() -> None:
    load = load_of("llama-3-8b", "h100-sxm", 1, output=64)
    model = symroof.load_model("llama-3-8b")
    most = symroof.largest(model.decode(seq_len=544), hardware="h100-sxm").integer
    assert (load.saturated_by, load.largest_batch) == ("memory", most)
    assert load.saturation_expr == most / (63 * symroof.analyze(model.decode(batch=most, seq_len=544), "h100-sxm").total.time_expr)

    device = replace(symroof.load_hardware("h100-sxm"), reported_figure=None, capacity_figure=None)
    free = under_load(model.decode(), rate=1, prompt=512, output=64, hardware=device)
    assert free.saturated_by == "throughput"
    ever = symroof.regimes(model.decode(seq_len=544), over="batch", hardware=device).asymptote_expr / 63
    assert free.saturation_expr == ever > load.saturation_expr
    assert free.curve[-1].high_expr == ever


def test_the_curve_is_continuous_and_every_piece_agrees_with_the_answer_on_it() -> None:
    load = load_of("llama-3-8b", "h100-sxm", 1)
    assert load.curve[0].low_expr == 0
    assert load.curve[-1].high_expr == load.saturation_expr
    letter = symbols.lambda_a
    for left, right in zip(load.curve, load.curve[1:], strict=False):
        assert left.high_expr == right.low_expr
        assert (left.latency_expr - right.latency_expr).xreplace({letter: left.high_expr}) == 0
    for piece in load.curve:
        middle = (piece.low_expr + piece.high_expr) / 2
        there = load_of("llama-3-8b", "h100-sxm", middle)
        assert there.latency_expr == piece.latency_expr.xreplace({letter: middle})
        assert there.batch_expr == piece.batch_expr.xreplace({letter: middle})
    ((rate, latency),) = load.points([10])
    assert (load_of("llama-3-8b", "h100-sxm", rate).batch_expr, load_of("llama-3-8b", "h100-sxm", rate).latency_expr) == (10, latency)


def test_latency_rises_with_the_rate_and_percentiles_with_their_share() -> None:
    loads = [load_of("mixtral-8x7b-v0.1", "h200-sxm", rate) for rate in (1, 10, 50)]
    assert [load.latency_expr.evalf() for load in loads] == sorted(load.latency_expr.evalf() for load in loads)
    shared = loads[1].sharing
    assert shared.batch_percentile("0.5") < shared.batch_percentile("0.9") < shared.batch_percentile("0.99")
    assert sum(float(shared.probability(k)) for k in range(300)) == pytest.approx(1, abs=1e-9)
    assert shared.probability(0) == shared.idle
    assert "processor sharing" in shared.model


def test_beyond_saturation_is_refused_in_a_line() -> None:
    load = load_of("llama-3-8b", "h100-sxm", 1)
    for rate in (load.saturation_expr, 10**6, "1 MHz"):
        with pytest.raises(symroof.InputError) as refused:
            load_of("llama-3-8b", "h100-sxm", rate)
        said = str(refused.value)
        assert f"saturation at {load.saturation:.4g}" in said
        assert f"memory holds batch {load.largest_batch}" in said
        assert "\n" not in said
    assert load_of("llama-3-8b", "h100-sxm", load.saturation_expr * Rational(999, 1000)).utilization_expr == Rational(999, 1000)


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"rate": 0}, "rate '0': expected a number above 0"),
        ({"rate": "3 s"}, "'3 s' is not in"),
        ({"output": 1}, "output '1': expected at least 2 tokens"),
        ({"output_variance": -1}, "output_variance '-1'"),
        ({"prefill": "there"}, "'there'"),
        ({"ceilings": "calibrated"}, "calibrated kernels have no closed form"),
    ],
)
def test_bad_input_is_quoted(asked: dict, match: str) -> None:
    with pytest.raises(symroof.InputError, match=match):
        load_of("llama-3-8b", "h100-sxm", **({"rate": 1} | asked))


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(symroof.InputError, match="does not fit the memory of NVIDIA L4"):
        load_of("llama-3-70b", "l4", 1)


@pytest.mark.parametrize(
    "techniques", ["speculative:acceptance=0.7,draft_cost=0.1,length=4", "tensor-parallel:degree=2 quantize:weights=4,group=128"]
)
def test_techniques_count_in_steps_and_prompts(techniques: str) -> None:
    """A step that completes several tokens of a sequence counts for each by its share."""
    model = symroof.load_model("llama-3-8b")
    load = under_load(model.decode().apply(*techniques.split()), rate=3, prompt=512, output=64, hardware="h100-sxm", prefill="here")
    there = symroof.analyze(model.decode(batch=9, seq_len=544).apply(*techniques.split()), "h100-sxm")
    assert load.times(9) == there.total.time_expr / there.graph.tokens + 9 * load.prompt_time_expr / 63
    prefills = [each for each in techniques.split() if not each.startswith("speculative")]
    read = symroof.analyze(model.prefill(batch=1, seq_len=512).apply(*prefills), "h100-sxm").total.time_expr
    assert load.prompt_time_expr == read
