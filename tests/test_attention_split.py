"""Attention apart from feed-forward layers: against scans over ratios, simulated pipelines, and counts of bytes by hand."""

from __future__ import annotations

import functools
from itertools import product

import pytest
from sympy import Add, Expr, Rational

import symroof
from symroof import symbols
from symroof.serving.feed_forward import crossing, feed_forward
from tests.steps import one_of_each_type, phases

H200 = "h200-sxm"
SPLITS = [
    ("llama-3.1-70b", 64, 8192, "450 GB/s"),
    ("llama-3.1-8b", 64, 2048, "1 GB/s"),
    ("gpt2-xl", 4, 1000, "450 GB/s"),
    ("mixtral-8x7b-v0.1", 16, 4096, "450 GB/s"),
]


@functools.cache
def split(model: str, batch: int, context: int, link: str) -> symroof.AttentionSplit:
    return symroof.attention_split(symroof.load_model(model).decode(batch=batch, seq_len=context), H200, link=link)


@functools.cache
def stages(model: str, batch: int, context: int, attention: bool) -> Expr:
    """Seconds of one side of the step, operator by operator."""
    step = symroof.load_model(model).decode(batch=batch, seq_len=context)
    ffn = {operator.name for operator, _ in feed_forward(step.symbolic)}
    analysis = symroof.analyze(step, H200)
    return Add(*(point.count_expr * point.time_expr for point in analysis if (point.name not in ffn) == attention))


@pytest.mark.parametrize("case", SPLITS, ids=lambda case: case[0])
def test_the_best_ratio_is_that_of_a_scan(case: tuple) -> None:
    model, batch, context, _link = case
    found = split(*case)
    attention = stages(model, batch, context, True)
    assert found.attention_time_expr == attention

    def cost(ratio: int) -> Expr:
        longest = max(attention, *found.link_times_expr, stages(model, batch * ratio, context, False))
        return (1 + Rational(1, ratio)) * longest / batch

    near = range(max(1, found.devices - 3), found.devices + 4)
    assert min(near, key=cost) == found.devices
    assert all(cost(ratio) >= cost(found.devices) for ratio in (1, 2, 5, 20, 60))
    assert 1 / cost(found.devices) == found.throughput_expr
    assert found.stage_time_expr == cost(found.devices) * batch * found.devices / (found.devices + 1)


@pytest.mark.parametrize("case", SPLITS[:3], ids=lambda case: case[0])
def test_the_largest_of_three_ratios_is_the_best_on_its_piece(case: tuple) -> None:
    found = split(*case)
    assert {*found.candidates} == {"attention", "link", "peak"}
    piece, best = found.ffn_expr.at(found.ratio_expr), max(found.candidates_exprs.values())
    assert found.ratio_expr == best or best not in piece


def test_each_of_three_decides_somewhere() -> None:
    """Attention with long contexts, the link where it is slow, the fixed cost of a big FFN with little attention."""
    deciding = set()
    for model, context, link in product(("llama-3.1-8b", "llama-3.1-70b"), (16, 512, 16384), ("100 MB/s", "450 GB/s")):
        found = split(model, 8, context, link)
        candidates = found.candidates_exprs
        deciding |= {name for name, ratio in candidates.items() if ratio == found.ratio_expr}
    assert deciding == {"attention", "link", "peak"}


@pytest.mark.parametrize("model", one_of_each_type())
def test_feed_forward_layers_are_found_by_facts(model: str) -> None:
    """Their weights are all but those that other operators read; nothing of attention, no norm before it, no head is among them."""
    for phase in phases(model):
        graph = getattr(symroof.load_model(model), phase)(symbolic=True).symbolic
        chosen = [operator for operator, _ in feed_forward(graph)]
        roles = {operator.role for operator in chosen}
        assert not roles & {
            symroof.Role.HEAD,
            symroof.Role.EMBEDDING,
            symroof.Role.SCORES,
            symroof.Role.WEIGHTED_SUM,
            symroof.Role.ATTENTION,
        }
        wide = {"f", "f_e", "f_s", "E"}
        assert all(
            operator in chosen
            for block in graph.blocks
            if block.role is symroof.operators.BlockRole.LAYER
            for operator in block.operators
            if any(wide & {*access.tensor.axes} for access in operator.reads)
        )


def test_what_crosses_is_a_row_each_way() -> None:
    for model in ("llama-3.1-8b", "mixtral-8x7b-v0.1", "gpt2"):
        loaded = symroof.load_model(model)
        step = loaded.decode(batch=5, seq_len=100, activation_bits=16)
        width, layers = loaded.dimensions[symbols.d], loaded.layers
        assert crossing(step) == (5 * width * 2 * layers,) * 2


def pipeline(times: tuple[float, ...], many: int, rounds: int = 400) -> float:
    """Seconds per micro-batch of stages in a ring, each of which serves one micro-batch at a time, simulated."""
    free, ready = [0.0] * len(times), [0.0] * many
    for _ in range(rounds):
        for batch in range(many):
            for stage, time in enumerate(times):
                begin = max(free[stage], ready[batch])
                free[stage] = ready[batch] = begin + time
    return max(ready) / (rounds * many)


@pytest.mark.parametrize("case", SPLITS, ids=lambda case: case[0])
def test_so_many_micro_batches_hide_the_rest(case: tuple) -> None:
    found = split(*case)
    times = tuple(map(float, (found.attention_time_expr, found.link_times_expr[0], found.ffn_time_expr, found.link_times_expr[1])))
    assert pipeline(times, found.micro_batches) == pytest.approx(max(times), rel=0.01)
    for fewer in range(1, found.micro_batches):
        assert pipeline(times, fewer) == pytest.approx(sum(times) / fewer, rel=0.01)
        assert sum(times) / fewer > max(times)
    assert found.tpot_expr == found.micro_batches * found.stage_time_expr


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b-v0.1", "falcon-7b"])
def test_each_side_has_its_weights_and_attention_the_cache(model: str) -> None:
    loaded = symroof.load_model(model)
    found = split(model, 16, 1024, "450 GB/s")
    size, sizes = 2, loaded.dimensions
    channels = sizes[symbols.E] * sizes[symbols.f_e] if symbols.E in sizes else sizes[symbols.f]
    matrices = 2 if model == "falcon-7b" else 3
    router = sizes[symbols.d] * sizes.get(symbols.E, 0)
    ffn = loaded.layers * (matrices * sizes[symbols.d] * channels + router) * size
    assert found.memory_exprs["ffn"] == ffn
    cache = found.step.graph.kv_memory()
    assert found.memory_exprs["attention"] == found.step.graph.weight_memory() - ffn + found.micro_batches * cache
    assert found.fits is bool(max(found.memory_exprs.values()) <= symroof.load_hardware(H200).usable_figure.value)
    small = symroof.attention_split(found.step, H200, ffn_hardware="l4", link="450 GB/s")
    assert small.fits is bool(small.memory_exprs["ffn"] <= symroof.load_hardware("l4").usable_figure.value)


def utilization(devices: int, feeding: int, link: Rational, moved: Rational, flops: Rational, peak: Rational) -> Rational:
    """Of FFN devices in a budget of one second, by the tokens that three limits allow."""
    tokens = min(feeding * link / moved, devices * link / moved, devices * peak / flops)
    return tokens * flops / (devices * peak)


@pytest.mark.parametrize("link", ["20 GB/s", "50 GB/s", "200 GB/s", "900 GB/s"])
def test_the_dead_zone_is_that_of_three_limits(link: str) -> None:
    step = symroof.load_model("deepseek-v3").decode(batch=64, seq_len=1000)
    zone = symroof.dead_zone(step, "h800-sxm", attention_devices=6, copies=8, link=link)
    widths = step.with_widths()
    work = [(widths.graph[operator.name], count.subs(widths.values)) for operator, count in feed_forward(step.symbolic)]
    flops = Add(*(count * operator.flop_count for operator, count in work))
    peak = zone.balance_expr * symroof.units.number(link, symroof.units.BANDWIDTH, "link")
    for devices in range(1, 120):
        brute = utilization(devices, 6, peak / zone.balance_expr, 8 * max(crossing(widths)), flops, peak)
        assert zone.utilization(devices).exact == brute
    falling = zone.pieces_expr.pieces[-1]
    assert falling.low == zone.threshold_expr
    assert falling.value.diff(symbols.n_f).subs(symbols.n_f, falling.low) < 0
    assert (falling.value * symbols.n_f).is_number, "as 1 / devices"
    assert zone.bound == ("compute" if zone.plateau_expr == 1 else "link")


def test_a_latency_shortens_the_budget() -> None:
    step = symroof.load_model("deepseek-v3").decode(batch=64, seq_len=1000)
    asked = {"attention_devices": 8, "copies": 8, "link": "50 GB/s"}
    plain = symroof.dead_zone(step, "h800-sxm", **asked)
    late = symroof.dead_zone(step, "h800-sxm", **asked, budget="40 ms", latency="10 ms")
    assert late.plateau_expr == plain.plateau_expr * Rational(3, 4)
    assert late.threshold_expr == plain.threshold_expr == 8


STEP = symroof.load_model("llama-3.1-8b").decode(batch=8, seq_len=1024)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda: symroof.attention_split(symroof.load_model("llama-3.1-8b").decode(batch=8), H200), "give seq_len"),
        (lambda: symroof.attention_split(symroof.load_model("llama-3.1-8b").prefill(batch=1, seq_len=8), H200), "this is a prefill step"),
        (lambda: symroof.attention_split(symroof.load_model("mamba-130m").decode(batch=8, seq_len=9), H200), "no feed-forward layers"),
        (lambda: symroof.attention_split(STEP, "m1-max"), "states no link: give its bandwidth"),
        (lambda: symroof.attention_split(STEP, H200, link="3 km"), "'km'"),
        (lambda: symroof.dead_zone(STEP, H200, attention_devices=0), "attention_devices 0: expected a whole number"),
        (lambda: symroof.dead_zone(STEP, H200, attention_devices=8, latency="1 ms"), "give the budget too"),
        (lambda: symroof.dead_zone(STEP, H200, attention_devices=8, latency="9 ms", budget="8 ms"), "less than the budget of 8 ms"),
    ],
)
def test_bad_input_is_one_line(ask, match: str) -> None:
    with pytest.raises(symroof.InputError, match=match) as error:
        ask()
    assert "\n" not in str(error.value)
