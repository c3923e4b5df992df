"""Sliding windows and experts touched: every answer against the roofline of the step with that number, exactly."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from sympy import Add, Expr, Integer, Min, Rational, ceiling, floor, oo, simplify

import symroof
from symroof import symbols
from symroof.algebra.piecewise import piecewise
from symroof.algebra.reals import order
from symroof.algebra.saturation import branches
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.proof.claims import Case, decide, merge_cases
from symroof.questions.capacity import cache_passes_weights, hyperbola, memory_of, memory_parts
from symroof.questions.crossover import Crossover
from symroof.questions.required import required
from symroof.roof.analysis import Analysis
from symroof.roof.costs import variable_of
from symroof.symbols import BW, E, K, P, S, T, W, X, b, n, s, substitute, t, w
from tests.steps import EVERYTHING, one_of_each_type, phases, two_roofs

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100 = two_roofs("a100-sxm-80gb")
HIGHEST = {"weight_bits": 64, "activation_bits": 64, "kv_bits": 64}


def step(name: str, phase: str = "decode", **inputs: object) -> Step:
    """The step; an input that is None is left a letter."""
    given = {key: value for key, value in (WIDTHS | inputs).items() if value is not None}
    return getattr(symroof.load_model(name), phase)(**given)


def at(free: Step, over: str, value: Expr | int, device: Device = A100) -> Analysis:
    """The roofline with a number for the variable that was left free."""
    if over == "bandwidth":
        return symroof.analyze(free, replace(device, bandwidth_figure=replace(device.bandwidth_figure, value=value)))
    return symroof.analyze(replace(free, values={**free.values, variable_of(free, over).symbol: Integer(value)}), device)


def around(ends: set[Expr], over: str) -> list[Expr]:
    """The ends themselves, both sides of each, and a scatter."""
    ends = ends - {Integer(0), oo}
    if over == "bandwidth":
        return [share * end for end in ends for share in (Rational(99, 100), Integer(1), Rational(101, 100))]
    draw, most = random.Random(str(ends)), HIGHEST.get(over, 10**7)
    near = {side(end) + shift for end in ends for side in (floor, ceiling) for shift in (-1, 0, 1)}
    near |= {Integer(int(most ** draw.random())) for _ in range(6)} | {Integer(1), Integer(most)}
    points = [point for point in near if 1 <= point <= most]
    return draw.sample(sorted(points), min(len(points), 30))


def edges(answers: tuple[Crossover, ...]) -> set[Expr]:
    return {
        end
        for answer in answers
        for end in (
            *(end for part in answer.intervals for end in (part.low_expr, part.high_expr)),
            *(end for part in (answer.seconds.pieces if answer.seconds else ()) for end in (part.low, part.high)),
        )
    }


CASES = [
    *[("gemma-2-9b", "decode", over, {"batch": 3, "seq_len": 5000}) for over in ("batch", "seq_len", "kv_bits")],
    *[
        ("mixtral-8x7b-v0.1", "decode", over, {"batch": 3, "seq_len": 70})
        for over in ("batch", "weight_bits", "activation_bits", "bandwidth")
    ],
    *[("gemma-3-1b-pt", "prefill", over, {"batch": 2, "seq_len": 700}) for over in ("batch", "seq_len", "sliding_window")],
    *[
        ("olmoe-1b-7b-0924", "prefill", over, {"batch": 2, "seq_len": 3})
        for over in ("batch", "seq_len", "num_experts", "experts_per_token")
    ],
    ("qwen3-30b-a3b", "decode", "batch", {"seq_len": 300}),
    ("jamba-v0.1", "decode", "batch", {"seq_len": 300}),
    ("nvidia-nemotron-3-nano-30b-a3b-bf16", "prefill", "seq_len", {"batch": 1}),
    ("phi-3.5-moe-instruct", "prefill", "seq_len", {"batch": 1, "activation_bits": 8, "weight_bits": 4}),
    ("mistral-7b-v0.1", "decode", "seq_len", {"batch": 64}),
    ("mistral-7b-v0.1", "decode", "sliding_window", {"batch": 2, "seq_len": 700}),
    ("c4ai-command-r7b-12-2024", "prefill", "seq_len", {"batch": 1}),
    ("deepseek-v2-lite", "prefill", "batch", {"seq_len": 8, "flash_attention": True}),
    ("olmo-3-1025-7b", "prefill", "batch", {"seq_len": 7000, "flash_attention": True}),
    ("olmo-3-1025-7b", "decode", "bandwidth", {"batch": 3, "seq_len": 7000}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase", "over", "inputs"), CASES)
def test_every_operator_has_the_bound_of_the_roofline_and_the_step_its_time(
    name: str, phase: str, over: str, inputs: dict[str, int]
) -> None:
    free = step(name, phase, **(inputs | {over: None}))
    answers = symroof.crossovers(free, over=over, hardware=A100)
    whole = symroof.regimes(free, over=over, hardware=A100)
    for point in around(edges(answers) | set(whole.knees_expr), over):
        here = at(free, over, point)
        assert {answer.operator: answer.bound_at(point) for answer in answers} == {one.name: one.bound for one in here}, point
        assert whole.time_expr(point) == here.total.time_expr, point
    for left, right in pairwise(whole.regimes):
        if over not in WIDTHS:  # where the peak changes, time jumps
            x = whole.over.symbol
            end = left.high_expr
            assert end == right.low_expr
            assert order(substitute(left.time_expr, {x: end}), substitute(right.time_expr, {x: end})) == 0


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 300])
def test_a_step_whose_prompt_counts_blocks_and_touches_experts(batch: int) -> None:
    """The whole step of a mixture of experts with FlashAttention, on both sides of the 81,920 tokens that fit the cache."""
    free = step("mixtral-8x7b-v0.1", "prefill", batch=batch, flash_attention=True)
    answer = symroof.crossover(free, "total", over="seq_len", hardware=A100)
    for point in (1, 2, 3, 4, 5, 127, 128, 129, 1000, 81920, 81921, 99999):
        here = at(free, "seq_len", point)
        compute, memory = (Add(*(one.count_expr * part(one) for one in here)) for part in (_compute, _memory))
        assert answer.bound_at(point) == ("memory" if compute < memory else "compute"), point


def _compute(one) -> Expr:
    return one.operator.flop_count / one.peak_expr


def _memory(one) -> Expr:
    return one.operator.byte_count() / one.bandwidth_expr


LETTERS = [
    ("mixtral-8x7b-v0.1", "decode", "expert_up_proj", "batch", "K*b >= E", "a100-sxm-80gb"),
    ("qwen3-30b-a3b", "prefill", "expert_down_proj", "batch", "K*b*s >= E", "h100-sxm"),
]


@pytest.fixture
def slow(tmp_path) -> Device:
    path = tmp_path / "slow.toml"
    path.write_text('[peak.fp16]\ndense = "7 TFLOP/s"\n[memory]\nbandwidth = "1 TB/s"\n')
    return symroof.load_hardware(path)


@pytest.mark.parametrize(("name", "phase", "part", "over", "where", "device"), LETTERS)
def test_the_formula_is_that_of_the_branch_on_which_the_numbers_cross(name, phase, part, over, where, device) -> None:
    others = {"seq_len": 3} if over == "batch" and phase == "prefill" else {}
    others["experts"] = "at-most"
    answer = symroof.crossover(step(name, phase, **others), part, over=over, hardware=device)
    assert (str(answer.where), answer.verdict) == (where, "crosses")
    peak = symroof.load_hardware(device).machine.fastest(["fp16", "bf16"])[1]
    values = {**answer.values, P: peak}
    assert substitute(answer.formula, values) == answer.value_expr
    assert answer.where.xreplace({**values, answer.over.symbol: answer.value_expr})
    assert X not in answer.formula.free_symbols


def test_a_crossing_in_letters_below_the_window(slow: Device) -> None:
    """Where numbers cross before the window is full, the letters are those of t <= W, and the other branch is told beside."""
    part = "sliding.qk_matmul+sliding.softmax+sliding.sv_matmul"
    free = step("gemma-3-1b-pt", kv_bits=2, activation_bits=16)
    answer = symroof.crossover(free, part, over="seq_len", hardware=slow)
    assert (answer.verdict, str(answer.where)) == ("crosses", "t <= W")
    assert answer.value_expr < 512
    assert substitute(answer.formula, {**answer.values, P: Integer(7 * 10**12)}) == answer.value_expr
    assert [str(one.where) for one in answer.others] == ["t >= W"]
    assert any(line.words == "where" and line.plain == "t <= W" for line in answer.reasoning())
    assert any(line.words == "and where t >= W" for line in answer.reasoning())


def test_letters_alone_claim_nothing_of_all_branches_that_one_does_not_say() -> None:
    sliding = symroof.crossover(step("mistral-7b-v0.1"), "qk_matmul", over="seq_len")
    assert (str(sliding.where), sliding.verdict, sliding.solution.verdict) == ("t >= W", "depends", "always-memory")
    assert [(str(one.where), one.solution.verdict) for one in sliding.others] == [("t <= W", "crosses")]
    assert sliding.sentence.startswith("where t >= W, qk_matmul is memory-bound at every seq_len if")
    assert "; where t <= W, qk_matmul is memory-bound below seq_len P*a*e*h/" in sliding.sentence
    experts = symroof.crossover(step("mixtral-8x7b-v0.1", experts="at-most"), "expert_up_proj", over="batch")
    assert (experts.verdict, str(experts.where)) == ("crosses", "K*b >= E")
    assert simplify(experts.large_layer - E * P * w / (16 * BW * K)) == 0
    plain = symroof.crossover(step("mixtral-8x7b-v0.1", experts="at-most"), "q_proj", over="batch")
    assert (plain.where, plain.others) == (None, ())


@pytest.mark.parametrize("seed", range(12))
def test_each_branch_in_letters_is_true_of_numbers_on_it(seed: int) -> None:
    """At random sizes: the slack of the branch whose condition holds has the sign of the roofline's."""
    draw = random.Random(seed)
    name, phase, part, over = draw.choice(
        [
            ("mixtral-8x7b-v0.1", "prefill", "expert_up_proj", "seq_len"),
            ("olmoe-1b-7b-0924", "decode", "expert_gate_proj", "batch"),
            ("gemma-2-9b", "prefill", "sliding.sv_matmul", "seq_len"),
            ("gemma-3-1b-pt", "decode", "sliding.softmax", "seq_len"),
        ]
    )
    free = getattr(symroof.load_model(name), phase)(symbolic=True, experts="at-most")
    answer = symroof.crossover(free, part, over=over)
    branches = [(answer.where, answer.slack), *((one.where, one.slack) for one in answer.others)]
    assert len(branches) == 2
    operator, definitions = free.symbolic[part], free.symbolic.definitions
    letters = (operator.flop_count + operator.byte_count()).free_symbols | {P, BW, b, s, t, W, E, K}
    for _ in range(40):
        values = {letter: Integer(draw.choice([1, 2, 3, 7, 40])) for letter in sorted(letters, key=str)}
        values |= {symbol: definition.xreplace(values) for symbol, definition in definitions.items()}
        exact = substitute(operator.flop_count * BW - operator.byte_count() * P, values)
        for where, slack in branches:
            if where.xreplace(values):
                found = substitute(slack.as_expr(), values)
                assert (found > 0, found < 0) == (exact > 0, exact < 0)


GENERATED = [
    ("gemma-3-1b-pt", 500, 30),
    ("gemma-3-1b-pt", 3, 20),
    ("gemma-3-1b-pt", 512, 9),
    ("gemma-3-1b-pt", 503, 9),
    ("gemma-3-1b-pt", 700, 5),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "prompt", "tokens"), [*GENERATED, ("mixtral-8x7b-v0.1", 5, 9), ("mistral-7b-v0.1", 4090, 12)])
def test_generation_across_the_window_equals_adding_up_its_steps(name: str, prompt: int, tokens: int) -> None:
    found = symroof.generation(symroof.load_model(name), prompt=prompt, tokens=tokens, hardware="l4", batch=3, **WIDTHS)
    steps = [symroof.analyze(step(name, batch=3, seq_len=prompt + one), "l4").total for one in range(1, tokens)]
    assert found.decode_time_expr == Add(*(one.time_expr for one in steps))
    assert found.decode_traffic_expr == Add(*(one.byte_count() for one in steps))
    assert substitute(found.traffic_formula, {S: Integer(prompt), n: Integer(tokens)}) == found.decode_traffic_expr


@pytest.mark.slow
def test_the_formula_of_traffic_says_where_it_holds() -> None:
    def told(prompt: int, tokens: int) -> list[str]:
        model = symroof.load_model("gemma-3-1b-pt")
        found = symroof.generation(model, prompt=prompt, tokens=tokens, hardware="l4", batch=1, **WIDTHS)
        return [line.removeprefix("the formula of decode traffic is for ") for line in found.statements if "formula of" in line]

    assert told(500, 13) == ["S + n - 1 <= 512"]
    assert told(500, 14) == ["S <= 512 <= S + n - 1"]
    assert told(512, 2) == ["S >= 512"]


@pytest.mark.parametrize(("asked", "elsewhere"), [((3, 5), (100, 7)), ((510, 4), (500, 30)), ((512, 4), (700, 9))])
def test_the_formula_of_traffic_holds_for_all_contexts_on_the_same_sides(asked: tuple[int, int], elsewhere: tuple[int, int]) -> None:
    model = symroof.load_model("gemma-3-1b-pt")
    here, there = (
        symroof.generation(model, prompt=prompt, tokens=tokens, hardware="l4", batch=2, **WIDTHS) for prompt, tokens in (asked, elsewhere)
    )
    prompt, tokens = map(Integer, elsewhere)
    assert substitute(here.traffic_formula, {S: prompt, n: tokens}) == there.decode_traffic_expr


def test_a_zero_where_two_branches_meet_is_compute_bound() -> None:
    """FLOPs and bytes take equally long at 4 and nowhere else: memory-bound on both sides of it."""
    found = piecewise(b, [(1, 4, b - 4, None), (4, oo, 4 - b, None)]).signs().pieces
    assert [(one.low, one.high, one.bound) for one in found] == [(1, 4, "memory"), (4, 4, "compute"), (4, oo, "memory")]


@pytest.mark.parametrize(
    ("name", "over", "inputs"),
    [
        ("gemma-2-9b", "seq_len", {"batch": 8}),
        ("gemma-2-9b", "seq_len", {"batch": 800}),
        ("gemma-2-9b", "batch", {"seq_len": 9000}),
        ("mistral-7b-v0.1", "seq_len", {"batch": 400}),
        ("jamba-v0.1", "batch", {"seq_len": 4000, "weight_bits": 8}),
        ("nemotron-h-8b-base-8k", "seq_len", {"batch": 30}),
        ("mamba-130m", "batch", {"seq_len": 50}),
        ("qwen3-next-80b-a3b-instruct", "batch", {"seq_len": 4000, "weight_bits": 4}),
        ("gemma-2-9b", "seq_len", {"batch": 1, "phase": "prefill"}),
        ("mistral-7b-v0.1", "seq_len", {"batch": 1, "phase": "prefill"}),
        ("mistral-7b-v0.1", "seq_len", {"batch": 90, "phase": "prefill"}),
    ],
)
def test_the_largest_fits_and_one_more_does_not(name: str, over: str, inputs: dict[str, object]) -> None:
    most = symroof.largest(step(name, **inputs), over=over, hardware=A100).integer
    room = A100.usable_figure.value
    assert most > 1
    assert memory_of(step(name, **(inputs | {over: int(most)}))) <= room < memory_of(step(name, **(inputs | {over: int(most) + 1})))


@pytest.mark.parametrize(("name", "batch"), [("gemma-2-9b", 9), ("gemma-2-9b", 40), ("mistral-7b-v0.1", 100), ("jamba-v0.1", 5)])
def test_the_context_at_which_the_cache_passes_the_weights(name: str, batch: int) -> None:
    passes = cache_passes_weights(step(name, batch=batch)).exact
    in_letters = substitute(cache_passes_weights(step(name)).exact, {b: Integer(batch)})
    assert simplify(passes - in_letters) == 0
    for length in (floor(passes), ceiling(passes) + 1):
        weights, cache, _ = memory_parts(step(name, batch=batch, seq_len=int(length)).graph)
        assert (cache > weights) == (length > passes)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["gemma-2-9b", "gemma-3-1b-pt", "mixtral-8x7b-v0.1", "mistral-7b-v0.1", "jamba-v0.1", "nemotron-h-8b-base-8k"]
)
@pytest.mark.parametrize("device", ["a100-sxm-80gb", "groq-lpu", "b200-sxm"])
def test_context_limits_against_a_huge_batch(name: str, device: str) -> None:
    limit = symroof.context_limit(step(name), device)

    def bound(context: int) -> str | None:
        return symroof.crossover(step(name, seq_len=context), "weights-and-kv", over="batch", hardware=device).bound_at(10**15)

    if limit.value_expr is None:
        assert {bound(context) for context in (10**3, 10**6, 10**9)} == {"compute"}
        return
    whole = int(limit.value_expr)
    assert bound(whole + 1) == "memory"
    assert whole == 0 or bound(whole) == "compute"
    assert {bound(whole * 10 + 10), bound(10**10)} == {"memory"}
    if whole:
        values = {**step(name).values, P: symroof.load_hardware(device).machine.fastest(["fp16", "bf16"])[1]}
        values[BW] = symroof.load_hardware(device).bandwidth_figure.value
        assert substitute(limit.formula, values) == limit.value_expr
        assert limit.condition.xreplace(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "over", "inputs"), [("mixtral-8x7b-v0.1", "batch", {"seq_len": 500}), ("gemma-2-9b", "seq_len", {"batch": 64})]
)
def test_required_over_branches(name: str, over: str, inputs: dict[str, int]) -> None:
    free = step(name, **inputs)
    whole = symroof.regimes(free, over=over, hardware=A100)
    for point in (2, 3, 5, 700, 4095, 4097, 90000):
        target = at(free, over, point).total.time_expr
        answer = required(free, over=over, hardware=A100, target_time=target)
        assert answer.value_expr == point
        assert whole.time_expr(point + 1) > target
        assert answer.formula is None or substitute(answer.formula, {T: target}) == point


def test_a_time_that_any_context_keeps() -> None:
    free = step("mistral-7b-v0.1", batch=4)
    longest = at(free, "seq_len", 4096).total.time_expr
    assert at(free, "seq_len", 10**9).total.time_expr == longest
    with pytest.raises(symroof.SymroofError, match="any seq_len suffices: from 4096 on the step takes"):
        required(free, over="seq_len", hardware=A100, target_time=longest)
    assert required(free, over="seq_len", hardware=A100, target_time=longest * Rational(9999, 10000)).value_expr < 4096


@pytest.mark.parametrize(
    ("name", "inputs", "x"),
    [
        *[("mixtral-8x7b-v0.1", {"batch": batch, "seq_len": 100, "experts": "at-most"}, b) for batch in (2, 9)],
        *[("gemma-2-9b", {"batch": 4, "seq_len": length}, t) for length in (2000, 9000)],
        *[("gemma-2-9b", {"batch": 4, "seq_len": length}, W) for length in (2000, 9000)],
        ("olmoe-1b-7b-0924", {"batch": 2, "seq_len": 100, "experts": "at-most"}, K),
    ],
)
def test_elasticities_are_difference_quotients(name: str, inputs: dict[str, int], x) -> None:
    """On a branch time is a line in each of these: the quotient is the derivative."""
    here = step(name, **inputs)
    found = symroof.sensitivity(here, A100)
    value = {**here.values, b: Integer(inputs["batch"]), t: Integer(inputs["seq_len"])}[x]
    times = [symroof.analyze(replace(here, values={**here.values, x: value + shift}), A100).total.time_expr for shift in (-1, 0, 1)]
    elasticity = (times[2] - times[0]) / 2 * value / times[1]
    assert found.values.get(x, 0) == elasticity
    assert found.values[P] + found.values[BW] == -1


def test_at_the_break_the_elasticity_is_that_of_the_saturated_side() -> None:
    most = {"seq_len": 100, "experts": "at-most"}
    at_break = symroof.sensitivity(step("mixtral-8x7b-v0.1", batch=4, **most), A100)
    times = [symroof.analyze(step("mixtral-8x7b-v0.1", batch=batch, **most), A100).total.time_expr for batch in (4, 5)]
    assert at_break.values[b] == (times[1] - times[0]) * 4 / times[0]
    assert at_break.values[E] > 0


CLAIMS = [
    ("mixtral-8x7b-v0.1", "decode", "memory-bound", "expert_up_proj", ["batch"], {}, "refuted"),
    ("mixtral-8x7b-v0.1", "decode", "compute-bound", "expert_up_proj", ["batch"], {"batch": 643}, "proved"),
    ("mixtral-8x7b-v0.1", "decode", "compute-bound", "expert_up_proj", ["batch"], {"batch": 642}, "refuted"),
    ("mixtral-8x7b-v0.1", "prefill", "memory-bound", "expert_up_proj", ["batch", "seq_len"], {}, "refuted"),
    ("mixtral-8x7b-v0.1", "prefill", "compute-bound", "expert_up_proj", ["batch", "seq_len"], {"seq_len": 643}, "proved"),
    ("mistral-7b-v0.1", "decode", "memory-bound", "qk_matmul", ["batch", "seq_len"], {}, "proved"),
    ("mistral-7b-v0.1", "prefill", "compute-bound", "qk_matmul", ["batch", "seq_len"], {}, "refuted"),
    ("mistral-7b-v0.1", "decode", "memory-bound", "weights-and-kv", ["batch", "seq_len"], {"seq_len": 729}, "proved"),
    ("mistral-7b-v0.1", "decode", "memory-bound", "weights-and-kv", ["batch", "seq_len"], {"seq_len": 728}, "refuted"),
    ("mixtral-8x7b-v0.1", "decode", "memory-bound", "total", ["batch", "seq_len"], {"seq_len": 2000}, "proved"),
]


@pytest.mark.parametrize(("name", "phase", "claim", "part", "for_all", "at_least", "verdict"), CLAIMS)
def test_claims(name: str, phase: str, claim: str, part: str, for_all: list[str], at_least: dict[str, int], verdict: str) -> None:
    free = step(name, phase)
    answer = symroof.prove(free, claim, part, for_all=for_all, at_least=at_least, hardware=A100)
    assert answer.verdict == verdict
    bound = claim.removesuffix("-bound")
    if verdict == "refuted" and part not in ("total", "weights-and-kv"):
        point = {"seq_len": 1, "batch": 1} | {{b: "batch"}.get(x, "seq_len"): int(value) for x, value in answer.counterexample.items()}
        assert symroof.analyze(step(name, phase, **point), A100)[part].bound != bound, "a counterexample on the roofline"
    if verdict == "refuted":
        value = substitute(answer.slack, answer.counterexample)
        assert (value < 0) != (bound == "memory")


def test_a_counterexample_off_its_branch_does_not_count() -> None:
    """5 - b is negative from 6 on; where 2 b <= 8 no b gets there, and the branch is not refuted by one that does."""
    assert decide("", "compute", 5 - b, {b: Integer(1)}).verdict == "refuted"
    assert decide("", "compute", 5 - b, {b: Integer(1)}, [8 - 2 * b]).verdict == "proved"
    assert decide("", "memory", 4 - b, {b: Integer(1)}, [2 * b - 8]).counterexample == {b: 4}
    assert decide("", "memory", 5 - b, {b: Integer(1)}, [2 * b - 9]).counterexample == {b: 5}
    both = {b: Integer(1), s: Integer(1)}
    assert decide("", "compute", 5 - b * s, both, [8 - 2 * b * s]).verdict == "proved"
    assert decide("", "compute", 3 - b * s, both, [8 - 2 * b * s]).counterexample[b] <= 4


def test_a_bound_that_is_refuted_off_its_branch_leaves_the_claim_open() -> None:
    """The bound 3 - b is negative at 4, the slack 10 - b only from 11 on, and the branch ends at 8: no number there refutes the claim."""
    lows = {b: Integer(1)}
    inside = Case(None, 3 - b, (8 - b,), exact=10 - b).decide("", "compute", lows)
    assert (inside.verdict, inside.counterexample) == ("unknown", None)
    beyond = Case(None, 3 - b, (18 - b,), exact=10 - b).decide("", "compute", lows)
    assert (beyond.verdict, beyond.counterexample) == ("refuted", {b: 11})


def test_one_refuted_branch_refutes_a_claim_whatever_is_open_on_another() -> None:
    lows = {b: Integer(1)}
    open_, refuted, proved = Case(None, 3 - b, (8 - b,), exact=10 - b), Case(None, 5 - b, ()), Case(None, b + 1, ())
    verdicts = {(0, 1): "refuted", (1, 0): "refuted", (0, 2): "unknown", (2, 1): "refuted", (2, 2): "proved"}
    for places, verdict in verdicts.items():
        assert merge_cases("", "compute", [(open_, refuted, proved)[place] for place in places], lows).verdict == verdict


def test_a_proof_needs_every_branch() -> None:
    """With X = K b the layer is memory-bound at any batch, with X = E at large ones it is not."""
    answer = symroof.prove(step("mixtral-8x7b-v0.1", experts="at-most"), "memory-bound", "expert_up_proj", for_all="batch", hardware=A100)
    assert answer.counterexample == {b: 643}
    assert answer.certificate.startswith("where K*b >= E: ")
    proof = symroof.prove(step("mistral-7b-v0.1"), "memory-bound", "qk_matmul", for_all="seq_len", hardware=A100)
    assert proof.certificate.count("where t") == 2


REFUSED = {
    "flash regimes": (
        lambda: symroof.regimes(
            step("gemma-2-9b", "prefill", batch=1, seq_len=9, flash_attention=True), over="sliding_window", hardware=A100
        ),
        "counts blocks of rows over sliding_window",
    ),
    "open regimes": (
        lambda: symroof.regimes(step("mixtral-8x7b-v0.1", "prefill"), over="batch", hardware=A100),
        "seq_len must be given as a number to follow the time over batch",
    ),
    "hyperbola of windows": (lambda: hyperbola(step("gemma-2-9b"), hardware=A100).exact, "it has windows or states"),
    "hyperbola of states": (lambda: hyperbola(step("jamba-v0.1"), hardware=A100).exact, "it has windows or states"),
    "no growth": (lambda: symroof.largest(step("mamba-130m", batch=1), over="seq_len", hardware=A100), "memory does not depend on seq_len"),
    "full windows": (
        lambda: symroof.largest(step("mistral-7b-v0.1", batch=1), over="seq_len", hardware=A100),
        "any seq_len fits: from 4096 on memory does not grow with it",
    ),
    "never passes": (lambda: cache_passes_weights(step("mistral-7b-v0.1", batch=1)).exact, "stops growing at a context of 4096"),
    "state space": (lambda: cache_passes_weights(step("mamba2-130m", batch=1)).exact, "keeps no KV cache that grows with the context"),
    "no limit": (lambda: symroof.context_limit(step("falcon-mamba-7b"), A100), "its KV cache does not grow with the context"),
    "not there": (
        lambda: symroof.crossover(step("mixtral-8x7b-v0.1"), "expert_up_proj", over="seq_len"),
        "'seq_len' (t) does not occur in expert_up_proj",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_answer_is_refused_in_a_line(case: str) -> None:
    ask, message = REFUSED[case]
    with pytest.raises(symroof.SymroofError) as error:
        ask()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


EITHER = ("prefill", "decode")
ROOFLINES = [(name, phase) for at, name in enumerate(one_of_each_type()) for phase in phases(name) if EVERYTHING or phase == EITHER[at % 2]]
"""A model of every type, in one of its phases or the other."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "phase"), ROOFLINES)
def test_every_model_crosses_where_its_roofline_does(name: str, phase: str) -> None:
    """Every operator of every model over the batch: the bound at one, around each crossing, and far out."""
    free = step(name, phase, seq_len=3000)
    answers = {answer.operator: answer for answer in symroof.crossovers(free, over="batch", hardware=A100)}
    firsts = {int(answer.first_integer) for answer in answers.values() if answer.first_integer is not None}
    for batch in sorted({1, 10**7, *(point for first in sorted(firsts)[:2] for point in (first - 1, first) if point > 0)}):
        analysis = at(free, "batch", batch)
        assert {placed.name: placed.bound for placed in analysis} == {name: answer.bound_at(batch) for name, answer in answers.items()}


def test_branches_that_the_numbers_leave_no_room_for_are_left_out() -> None:
    minima = {symbols.t_w: Min(t, W), X: Min(E, K * t), symbols.B_t: Min(t, n)}
    known = {W: Integer(10), E: Integer(8), K: Integer(2), n: Integer(7)}
    assert len(branches(minima, [t], known)) == 4, "edges at 4, 7 and 10"
    assert len(branches(minima, [t])) > 4
