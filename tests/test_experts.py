"""Experts that a step reads in expectation, the default: against brute force, integer scans and single analyses, over every question."""

from __future__ import annotations

import functools
import json
import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest
from sympy import Add, Expr, Integer, Rational, oo

import symroof
from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.operators.tensor import Storage
from symroof.questions.comparison import compare
from symroof.questions.crossovers import token_budget
from symroof.questions.required import required
from symroof.questions.speculation import best_length
from symroof.roof.analysis import Analysis
from symroof.techniques.registry import chain

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
H100 = symroof.load_hardware("h100-sxm")
SPARSE = {"mixtral-8x7b-v0.1": "", "deepseek-v3": "moe.", "qwen3-30b-a3b": "", "gpt-oss-120b": "full."}
"""Models of experts, and what stands before the names of an expert's operators."""


def step(name: str, phase: str = "decode", **inputs: object) -> Step:
    return getattr(symroof.load_model(name), phase)(**WIDTHS, **inputs)


def at(name: str, phase: str = "decode", techniques: str = "", **inputs: object) -> Analysis:
    return symroof.analyze(step(name, phase, **inputs).apply(*chain([techniques] if techniques else [])), H100)


def sizes(name: str) -> tuple[int, int]:
    values = step(name).values
    return int(values[symbols.E]), int(values[symbols.K])


@functools.cache
def occupied(experts: int, routed: int, tokens: int) -> float:
    """Mean number of distinct experts, token by token: with m in use already a token finds j new ones hypergeometrically."""
    ways = math.comb(experts, routed)
    chance = [0.0] * (experts + 1)
    chance[0] = 1.0
    for _ in range(tokens):
        after = [0.0] * (experts + 1)
        for used, here in enumerate(chance):
            for new in range(min(routed, experts - used) + 1) if here else ():
                if routed - new <= used:
                    after[used + new] += here * math.comb(used, routed - new) * math.comb(experts - used, new) / ways
        chance = after
    return sum(used * here for used, here in enumerate(chance))


@pytest.mark.parametrize("name", SPARSE)
def test_experts_against_the_walk_of_their_number(name: str) -> None:
    experts, routed = sizes(name)
    for tokens in (1, 2, 5, 32, 100):
        touched = step(name, batch=tokens, seq_len=64).graph.definitions[symbols.X]
        assert float(touched) == pytest.approx(occupied(experts, routed, tokens), rel=1e-10)
        prompt = step(name, "prefill", batch=1, seq_len=tokens).graph.definitions[symbols.X]
        assert prompt == touched, "T is every token of the step"
    assert step(name, batch=1, seq_len=64).graph.definitions[symbols.X] == routed
    assert step(name, batch=10**9, seq_len=64).graph.definitions[symbols.X] == experts


def test_deepseek_at_batch_32_against_tokens_that_choose_at_random() -> None:
    """402 ms with every expert, of which 32 tokens leave a third unread: the step without these, by drawing who goes where."""
    draw = random.Random(32)
    drawn = [len({one for _ in range(32) for one in draw.sample(range(256), 8)}) for _ in range(4000)]
    mean = sum(drawn) / len(drawn)
    one_expert = 3 * 7168 * 2048 * 2  # gate, up and down projection at 16 bits
    whole = float(at("deepseek-v3", batch=32, seq_len=1024, experts="at-most").total.time_expr)
    expected = whole - 58 * (256 - mean) * one_expert / 3.35e12
    found = float(at("deepseek-v3", batch=32, seq_len=1024).total.time_expr)
    assert whole == pytest.approx(0.4030, rel=1e-3)
    assert found == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(0.260, rel=1e-2)


def scanned(name: str, part: str, device: symroof.Device, last: int) -> list[str]:
    """The bound of an expert's layer at batches from 1 on, in whole numbers throughout: (1 - K/E)^b is ``over / under``."""
    free = step(name)
    operator = free.symbolic[part].bind({symbol: value for symbol, value in free.values.items() if symbol != symbols.b})
    flops = int(operator.flop_count.coeff(symbols.b))
    each = int(operator.byte_count(Storage.WEIGHT).coeff(symbols.X))
    moved = int(operator.byte_count(Storage.ACTIVATION).coeff(symbols.b))
    experts, routed = sizes(name)
    base = 1 - Fraction(routed, experts)
    peak, rate = int(device.peak("fp16").magnitude), int(device.bandwidth.magnitude)
    over, under, bounds = 1, 1, []
    for batch in range(1, last + 1):
        over, under = over * base.numerator, under * base.denominator
        work = flops * batch * rate * under
        traffic = (each * experts * (under - over) + moved * batch * under) * peak
        bounds.append("compute" if work >= traffic else "memory")
    return bounds


@pytest.mark.parametrize("device", ["h100-sxm", "l4"])
@pytest.mark.parametrize("name", SPARSE)
def test_crossovers_against_integer_scans(name: str, device: str) -> None:
    machine, part = symroof.load_hardware(device), f"{SPARSE[name]}expert_up_proj"
    answer = symroof.crossover(step(name), part, over="batch", hardware=machine, ceilings="classic")
    first = int(answer.first_integer)
    bounds = scanned(name, part, machine, first + 50)
    assert bounds == ["memory"] * (first - 1) + ["compute"] * 51
    most = symroof.crossover(step(name, experts="at-most"), part, over="batch", hardware=machine, ceilings="classic")
    assert most.value_expr > answer.value_expr
    peak = machine.fastest(["fp16", "bf16"])[1].exact
    formula = answer.formula.xreplace({**answer.values, symbols.P: peak})
    exact = answer.value_expr.closed_form
    for told in (formula, formula if exact is None else exact):
        assert abs(told.evalf(40) - answer.value_expr.evalf(40)) < Rational(1, 10**30)


@pytest.mark.parametrize("name", SPARSE)
def test_a_whole_step_crosses_where_its_numbers_do(name: str) -> None:
    """Its FLOPs at the peaks against all its bytes, by adding up single operators on both sides."""
    answer = symroof.crossover(step(name, seq_len=1), "total", over="batch", hardware=H100, ceilings="classic")
    knees = {int(end) + shift for one in answer.intervals for end in (one.low, one.high) if end != oo for shift in (0, 1)}
    for batch in sorted({1, 7, 100, 10**5, *knees} - {0}):
        here = symroof.analyze(step(name, seq_len=1, batch=batch), H100, ceilings="classic")
        work = Add(*(one.count_expr * one.operator.flop_count / one.peak_expr for one in here))
        moved = Add(*(one.count_expr * one.operator.byte_count() / one.bandwidth_expr for one in here))
        assert answer.bound_at(batch) == ("compute" if work >= moved else "memory")


@pytest.mark.parametrize("batch", [20, 2000])
@pytest.mark.parametrize(("over", "letter"), [("num_experts", symbols.E), ("experts_per_token", symbols.K)])
@pytest.mark.parametrize("name", SPARSE)
def test_crossovers_over_the_numbers_of_experts(name: str, over: str, letter, batch: int) -> None:
    part, free = f"{SPARSE[name]}expert_up_proj", step(name, batch=batch, seq_len=64)
    answer = symroof.crossover(free, part, over=over, hardware=H100)
    whole = symroof.regimes(free, over=over, hardware=H100)
    edges = {int(end) + shift for one in answer.intervals for end in (one.low, one.high) if end != oo for shift in (-1, 0, 1)}
    for value in sorted(one for one in {1, 2, 9, 60, *edges} if one > 0 and (letter == symbols.E or one <= free.values[symbols.E])):
        here = symroof.analyze(replace(free, values={**free.values, letter: Integer(value)}), H100)
        assert answer.bound_at(value) == here[part].bound, value
        assert whole.time_expr(value) == here.total.time_expr, value


@pytest.mark.parametrize("name", SPARSE)
def test_the_questions_agree_with_single_analyses(name: str) -> None:
    """Time over the batch, what a time and a rate ask for, a sweep, a generation, and bounds of every operator."""
    free = step(name, seq_len=1024)
    whole = symroof.regimes(free, over="batch", hardware=H100)
    knees = {int(knee) + shift for knee in whole.knees_expr for shift in (0, 1)}
    answers = symroof.crossovers(free, over="batch", hardware=H100)
    for batch in sorted({1, 2, 31, 900, *random.Random(name).sample(sorted(knees), min(3, len(knees)))}):
        here = at(name, batch=batch, seq_len=1024)
        assert whole.time_expr(batch) == here.total.time_expr
        assert {one.operator: one.bound_at(batch) for one in answers} == {
            one.name: one.bound for one in here if one.name in {a.operator for a in answers}
        }
    target = Rational(round(at(name, batch=50, seq_len=1024).total.time_expr * 10**6), 10**6)
    most = int(required(free, over="batch", hardware=H100, target_time=target).integer)
    assert at(name, batch=most, seq_len=1024).total.time_expr <= target < at(name, batch=most + 1, seq_len=1024).total.time_expr
    assert required(free, over="batch", hardware=H100, target_time=target).time_expr == target
    rate = Rational(int(50 / at(name, batch=50, seq_len=1024).total.time_expr))
    least = int(required(free, over="batch", hardware=H100, target_rate=rate).integer)
    rates = [Integer(batch) / at(name, batch=batch, seq_len=1024).total.time_expr for batch in (least - 1, least)]
    assert rates[0] < rate <= rates[1]
    swept = symroof.sweep(name, H100, {"batch": [1, 32, 4096, 10**6]}, seq_len=1024, **WIDTHS)
    for batch in (1, 32, 4096, 10**6):
        found = float(swept["time"].sel(batch=batch).squeeze())
        assert found == pytest.approx(float(at(name, batch=batch, seq_len=1024).total.time_expr), rel=1e-13)
    spent = symroof.generation(symroof.load_model(name), prompt=100, tokens=4, hardware=H100, batch=3, **WIDTHS)
    steps = [at(name, batch=3, seq_len=100 + place).total.time_expr for place in (1, 2, 3)]
    assert spent.time_expr == Add(at(name, "prefill", batch=3, seq_len=100).total.time_expr, *steps)


@pytest.mark.parametrize("name", SPARSE)
def test_elasticities_are_slopes_of_time(name: str) -> None:
    """To the batch, to E and to K, by differences of a time whose exponential is taken apart in floats."""
    here = step(name, batch=20, seq_len=1024)
    found = symroof.sensitivity(here, H100)
    assert found.values[symbols.P] + found.values[symbols.BW] == -1
    experts, routed = sizes(name)
    plain = replace(here, symbolic=here.symbolic.without_values())
    time = float(symroof.analyze(here, H100).total.time_expr)

    def seconds(batch: float, count: float, each: float) -> float:
        touched = count * (1 - (1 - each / count) ** batch)
        values = {symbols.b: Rational(batch), symbols.E: Rational(count), symbols.K: Rational(each), symbols.X: Rational(touched)}
        graph = replace(plain.symbolic, definitions={})
        changed = replace(plain, symbolic=graph.bind({symbols.X: Rational(touched), **_windows(plain)}), values={**plain.values, **values})
        return float(symroof.analyze(changed, H100).total.time_expr)

    for letter, place in ((symbols.b, 0), (symbols.E, 1), (symbols.K, 2)):
        point = [20.0, float(experts), float(routed)]
        ends = []
        for side in (1e-4, -1e-4):
            moved = list(point)
            moved[place] *= 1 + side
            ends.append(seconds(*moved))
        assert float(found.values[letter]) == pytest.approx((ends[0] - ends[1]) / 2e-4 / time, abs=2e-5)


def _windows(free: Step) -> dict[object, Expr]:
    """The context of a layer with a window, which is no matter here."""
    return {symbols.t_w: min(Integer(1024), free.values[symbols.W])} if symbols.W in free.values else {}


CLAIMS = [
    ("memory-bound", "expert_up_proj", ["batch"], {}, "refuted"),
    ("compute-bound", "expert_up_proj", ["batch"], {"batch": 1}, "refuted"),
    ("compute-bound", "expert_up_proj", ["batch"], {"batch": None}, "proved"),
    ("memory-bound", "total", ["batch", "seq_len"], {"seq_len": 4096}, "proved"),
]


@pytest.mark.parametrize(("claim", "part", "over", "lows", "verdict"), CLAIMS)
@pytest.mark.parametrize("name", SPARSE)
def test_claims(name: str, claim: str, part: str, over: list[str], lows: dict[str, int | None], verdict: str) -> None:
    part = SPARSE[name] + part if part != "total" else part
    free = step(name) if "seq_len" in over or part == "total" else step(name, seq_len=64)
    first = None
    if None in lows.values():
        first = int(symroof.crossover(free, part, over="batch", hardware=H100).first_integer)
    at_least = {key: first if value is None else value for key, value in lows.items()}
    answer = symroof.prove(free, claim, part, for_all=over, at_least=at_least, hardware=H100)
    assert answer.verdict == verdict
    if first is not None:
        closer = symroof.prove(free, claim, part, for_all=over, at_least={"batch": first - 1}, hardware=H100)
        assert (closer.verdict, closer.counterexample) == ("refuted", {symbols.b: first - 1})
    if verdict == "refuted":
        batch = int(answer.counterexample[symbols.b])
        assert at(name, batch=batch, seq_len=64)[part].bound != claim.removesuffix("-bound")


def test_a_claim_over_the_batch_and_the_prompt_is_proved_by_bounds() -> None:
    free = step("qwen3-30b-a3b", "prefill")
    answer = symroof.prove(
        free, "compute-bound", "expert_up_proj", for_all=["batch", "seq_len"], at_least={"seq_len": 10029}, hardware=H100
    )
    assert (answer.verdict, answer.by) == ("proved", "bounds")
    assert answer.certificate.startswith("with y = (15/16)**(b*s), y >= 0: ")
    closer = symroof.prove(
        free, "compute-bound", "expert_up_proj", for_all=["batch", "seq_len"], at_least={"seq_len": 10028}, hardware=H100
    )
    assert closer.verdict == "refuted"


SPECULATIVE = "speculative:acceptance=0.7,length=2,draft_cost=1/20"


@pytest.mark.parametrize(("name", "batch"), [("deepseek-v3", 8), ("deepseek-v3", 32), ("qwen3-30b-a3b", 8), ("qwen3-30b-a3b", 16)])
def test_verdicts_of_speculation_follow_the_experts(name: str, batch: int) -> None:
    """Three tokens of a sequence are verified at once, 2.19 of them kept, each drafted at a twentieth of a step; experts by the walk."""
    one, three, prefix = batch, 3 * batch, SPARSE[name]
    experts, routed = sizes(name)
    plain = at(name, batch=batch, seq_len=1024, experts="at-most")
    verifying = at(name, techniques="speculative:acceptance=0.7,length=2,draft_cost=0", batch=batch, seq_len=1024, experts="at-most")
    seconds = {}
    for tokens, found in ((one, plain), (three, verifying)):
        most, expected = min(experts, routed * tokens), occupied(experts, routed, tokens)
        less = 0.0
        for matrix in ("gate", "up", "down"):
            part = found[f"{prefix}expert_{matrix}_proj"]
            less += float(part.count) * float(part.operator.byte_count(Storage.WEIGHT)) / most * (most - expected) / 3.35e12
        seconds[tokens] = float(found.total.time_expr) - less
    speedup = 2.19 / (seconds[three] / seconds[one] + 2 / 20)
    after = at(name, techniques=SPECULATIVE, batch=batch, seq_len=1024)
    told = at(name, batch=batch, seq_len=1024).total.time_expr / (after.total.time_expr / after.graph.tokens)
    assert float(told) == pytest.approx(speedup, rel=1e-6)
    as_published = {("deepseek-v3", 8): 0.94, ("deepseek-v3", 32): 1.38, ("qwen3-30b-a3b", 8): 1.13, ("qwen3-30b-a3b", 16): 1.42}
    assert round(float(told), 2) == pytest.approx(as_published[name, batch], abs=0.011)


@pytest.mark.parametrize("name", ["mixtral-8x7b-v0.1", "deepseek-v3"])
def test_where_techniques_pay(name: str) -> None:
    """On both sides of every edge, by analysis: quantized weights, experts on several devices, speculation."""
    free = step(name, seq_len=1024)
    for text in ("quantize:weights=4,group=64", "expert-parallel:degree=8,link=450GB/s", SPECULATIVE):
        found = symroof.payoff(free, free.apply(*chain([text])), over="batch", hardware=H100)
        for batch in sorted({1, 24, *(8 * (int(edge) // 8 + shift) for edge in found.edges if edge < 10**4 for shift in (0, 1))} - {0}):
            if text.startswith("expert") and batch % 8:
                continue
            old, new = at(name, batch=batch, seq_len=1024), at(name, techniques=text, batch=batch, seq_len=1024)
            assert found.speedup_expr(batch) == old.total.time_expr / (new.total.time_expr / new.graph.tokens)
    told = compare(step(name, batch=8, seq_len=64), step(name, seq_len=64), [chain([SPECULATIVE])], over="batch", hardware=H100)
    assert [one.reasons for one in told] == [(), ()]


@pytest.mark.parametrize(
    ("text", "over", "degrees"), [("data-parallel", "degree", (1, 2, 4, 5, 16)), ("expert-parallel", "degree", (1, 2, 4, 8))]
)
def test_most_experts_over_the_devices_that_share_the_tokens(text: str, over: str, degrees: tuple[int, ...]) -> None:
    """K b / n falls as n grows, from all experts to fewer: pieces on both sides of n = K b / E, in order."""
    here = step("mixtral-8x7b-v0.1", batch=16, seq_len=1024, experts="at-most")
    found = symroof.payoff(here, here.apply(*chain([text])), over=over, hardware=H100)
    assert found.after.low == 1
    for degree in degrees:
        if 16 % degree == 0:
            assert (
                found.after(degree)
                == at("mixtral-8x7b-v0.1", techniques=f"{text}:degree={degree}", batch=16, seq_len=1024, experts="at-most").total.time_expr
            )


@pytest.mark.parametrize("name", SPARSE)
def test_token_budgets_by_adding_up_layers(name: str) -> None:
    """All products with weights together, in numbers on both sides."""
    first = int(token_budget(step(name, seq_len=64), hardware=H100).first_integer)
    for batch, fewer in ((first - 1, True), (first, False)):
        linear = [one for one in at(name, batch=batch, seq_len=64) if _multiplies_weights(one.operator)]
        work, moved = (Add(*(one.count_expr * part(one) for one in linear)) for part in (_work, _moved))
        assert (work < moved) == fewer


def _multiplies_weights(operator) -> bool:
    return operator.kind == "matmul" and any(access.tensor.storage is Storage.WEIGHT for access in operator.reads)


def _work(one) -> Expr:
    return one.operator.flop_count / one.peak_expr


def _moved(one) -> Expr:
    return one.operator.byte_count() / one.bandwidth_expr


def test_the_best_length_of_a_draft_is_that_of_a_scan() -> None:
    here = step("qwen3-30b-a3b", batch=4, seq_len=256)
    best = best_length(here, symroof.technique("speculative:acceptance=0.8,draft_cost=1/50"), H100)
    tried = [symroof.analyze(here, H100).total.time_expr]
    for length in range(1, 12):
        after = symroof.analyze(here.apply(*chain([f"speculative:acceptance=0.8,length={length},draft_cost=1/50"])), H100)
        tried.append(after.total.time_expr / after.graph.tokens)
    assert (best.length, best.time_expr) == (tried.index(min(tried)), min(tried))


@pytest.mark.parametrize("name", SPARSE)
def test_the_most_is_never_less_and_memory_counts_all(name: str) -> None:
    for inputs in ({"batch": 1}, {"batch": 7}, {"batch": 300}):
        expected, most = (step(name, seq_len=64, experts=how, **inputs) for how in ("expected", "at-most"))
        assert expected.graph.weight_memory() == most.graph.weight_memory()
        assert expected.graph.flop_count == most.graph.flop_count
        assert expected.graph.byte_count() <= most.graph.byte_count()
        assert (expected.graph.byte_count() == most.graph.byte_count()) == (inputs["batch"] == 1)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_dense_model_reads_what_it_did(phase: str) -> None:
    one, other = (step("llama-3-8b", phase, batch=3, seq_len=64, experts=how) for how in ("expected", "at-most"))
    assert one.symbolic.definitions == other.symbolic.definitions
    assert one.graph.byte_count() == other.graph.byte_count()
    assert one.statements == other.statements


@pytest.mark.parametrize("name", SPARSE)
def test_huge_numbers_of_tokens_touch_every_expert(name: str) -> None:
    experts, _ = sizes(name)
    for inputs in ({"batch": 64, "seq_len": 32768}, {"batch": 10**6, "seq_len": 10**6}):
        made = step(name, "prefill", **inputs)
        assert made.graph.definitions[symbols.X] == experts
        assert symroof.analyze(made, H100).total.time_expr == at(name, "prefill", experts="at-most", **inputs).total.time_expr
        free = step(name, "prefill", batch=inputs["batch"])
        assert (
            symroof.regimes(free, over="seq_len", hardware=H100).time_expr(inputs["seq_len"]) == symroof.analyze(made, H100).total.time_expr
        )


def test_the_convention_is_in_every_answer() -> None:
    free = step("mixtral-8x7b-v0.1", seq_len=64)
    expected = "X = E (1 - (1 - K/E)^T) experts per layer"
    for statements in (
        at("mixtral-8x7b-v0.1", batch=2, seq_len=64).statements,
        symroof.crossover(free, "expert_up_proj", over="batch", hardware=H100).statements,
        symroof.generation(symroof.load_model("mixtral-8x7b-v0.1"), prompt=9, tokens=2, hardware=H100, batch=1, **WIDTHS).statements,
    ):
        (line,) = (one for one in statements if "mixture of experts" in one)
        assert expected in line
        assert "independent uniform routing" in line
        assert "min(E, K T) is an upper bound" in line


ASKED = ["--phase", "decode", "--hardware", "h100-sxm", "--seq-len", "64"]


def test_from_the_command_line(run) -> None:
    times = {}
    for how in ("expected", "at-most"):
        record = json.loads(run("analyze", "mixtral-8x7b-v0.1", *ASKED, "--batch", 4, "--experts", how, "--format", "json").out)
        assert record["conventions"]["experts"] == how
        times[how] = record["total"]["time"]
    assert times["expected"] == float(at("mixtral-8x7b-v0.1", batch=4, seq_len=64).total.time_expr) < times["at-most"]
    plain = json.loads(run("analyze", "mixtral-8x7b-v0.1", *ASKED, "--batch", 4, "--format", "json").out)
    assert plain["total"]["time"] == times["expected"]
    wrong = run("analyze", "mixtral-8x7b-v0.1", *ASKED, "--experts", "all")
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    assert "'all'" in wrong.err
    over = ("--operator", "expert_up_proj", "--over", "batch", "--format", "json")
    (crossing,) = json.loads(run("crossover", "mixtral-8x7b-v0.1", *ASKED, *over).out)
    assert crossing["first_integer"] == 1303
    assert (crossing["formula"].count("LambertW"), crossing["exact"].count("LambertW")) == (1, 1)


def test_a_word_that_is_none_is_refused_with_what_is_known() -> None:
    with pytest.raises(symroof.SymroofError, match=r"^experts .most.: "):
        Options("decode", experts="most")
    assert Options("decode").experts == "expected"
