"""Whole steps over one variable: regimes, inverse design, elasticities, sums over generation, capacity, S_max."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Add, Expr, Integer, Max, Rational, expand, simplify

import symroof
from symroof import symbols
from symroof.algebra.univariate import sum_over
from symroof.questions.capacity import cache_passes_weights, hyperbola, memory_of
from symroof.questions.required import ImpossibleError, required, required_capacity
from symroof.roof.analysis import Analysis
from symroof.symbols import BW, P, S, T, b, n, t
from tests import steps

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
EIGHT = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 8}
SLOW = """
[peak.fp16]
dense = "10 TFLOP/s"
[memory]
capacity = "1 GB"
bandwidth = "1 TB/s"
"""


def model(name: str = "llama-2-7b") -> symroof.Model:
    return symroof.load_model(name)


def analysis(device: str = "a100-sxm-80gb", name: str = "llama-2-7b", phase: str = "decode", **inputs: object) -> Analysis:
    return symroof.analyze(getattr(model(name), phase)(**(WIDTHS | inputs)), device)


REGIMES = [
    *[("llama-2-7b", "decode", "batch", {"seq_len": 700}), ("llama-2-70b", "decode", "seq_len", {"batch": 400})],
    *[("opt-125m", "prefill", "batch", {"seq_len": 9}), ("llama-3.1-8b", "prefill", "seq_len", {"batch": 2})],
    *[
        ("gpt-j-6b", "decode", "weight_bits", {"seq_len": 70, "batch": 100}),
        ("llama-2-7b", "decode", "kv_bits", {"seq_len": 70, "batch": 100}),
    ],
]


@pytest.mark.parametrize(("name", "phase", "over", "inputs"), REGIMES)
def test_regimes_give_the_time_of_the_step(name: str, phase: str, over: str, inputs: dict[str, int]) -> None:
    """At knees, beside them and elsewhere: exactly the sum over operators."""
    others = {key: value for key, value in (WIDTHS | inputs).items() if key != over}
    found = symroof.regimes(getattr(model(name), phase)(**others), over=over, hardware="h100-sxm")
    limit = 32 if over.endswith("bits") else 10**6
    points = {1, 2, limit} | {int(knee) + step for knee in found.knees_expr for step in (0, 1)}
    for point in sorted(point for point in points if 1 <= point <= limit):
        here = symroof.analyze(getattr(model(name), phase)(**(others | {over: point})), "h100-sxm")
        assert found.time_expr(point) == here.total.time_expr
        names = {placed.name for placed in here if placed.bound == "compute"}
        assert any(regime.compute_bound == names for regime in found.regimes)


def test_neighbouring_regimes_agree_at_their_knee_and_bend_there() -> None:
    found = symroof.regimes(model("llama-2-13b").decode(seq_len=1024, **WIDTHS), over="batch", hardware="rtx-a6000")
    assert len(found.regimes) > 3
    for left, right in pairwise(found.regimes):
        assert left.high == right.low
        assert left.time.subs(b, left.high) == right.time.subs(b, left.high)
        assert left.time.diff(b) < right.time.diff(b), "turning compute-bound, an operator starts to cost more per sequence"
    assert found.knee_expr in found.knees_expr


def test_throughput_s_asymptote_and_the_batch_that_reaches_a_share_of_it() -> None:
    found = symroof.regimes(model("llama-2-13b").decode(seq_len=256, **WIDTHS), over="batch", hardware="rtx-a6000")
    nine_tenths = found.batch_reaching_expr(Rational(9, 10))
    assert nine_tenths / found.time_expr(nine_tenths) == found.asymptote_expr * Rational(9, 10)
    below = nine_tenths - Rational(1, 1000)
    assert below / found.time_expr(below) < found.asymptote_expr * Rational(9, 10)
    huge = Integer(10) ** 12
    assert found.asymptote_expr * (1 - Rational(1, 10**6)) < huge / found.time_expr(huge) < found.asymptote_expr
    with pytest.raises(symroof.SymroofError, match="share '2': expected a number between 0 and 1"):
        found.batch_reaching_expr(Integer(2))


@pytest.mark.parametrize(
    ("name", "device", "peak", "tokens"),
    [
        ("llama-2-7b", "a100-sxm-80gb", None, "165.8"),
        ("llama-3.1-8b", "h100-sxm", 989 * 10**12, "393.2"),
        ("llama-3.1-8b", "h100-sxm", None, "393.0"),
    ],
)
def test_context_limit(name: str, device: str, peak: int | None, tokens: str) -> None:
    """S_max, with the vendor's 989.4 TFLOP/s and with the rounded 989 that the printed 393.2 tokens rest on."""
    limit = symroof.context_limit(model(name).decode(**WIDTHS), device)
    value = limit.value_expr
    if peak is not None:
        values = dict(model(name).decode(**WIDTHS).values) | {P: Integer(peak), BW: symroof.load_hardware(device).bandwidth_figure.value}
        value = limit.formula.xreplace(values)
    assert f"{float(value):.1f}" == tokens
    narrow = symroof.context_limit(model(name).decode(**(WIDTHS | {"weight_bits": 4})), device)
    assert narrow.value == limit.value_expr, "it does not move with the weight width"
    assert symbols.w not in limit.formula.free_symbols


def test_the_context_limit_of_drafted_tokens_within_a_window() -> None:
    """The window is wider by the drafted tokens, so where it ends is a number only if theirs is."""
    model, chain = symroof.load_model("mistral-7b-v0.1"), "speculative:acceptance=0.8,draft_cost=0.1"
    assert symroof.context_limit(model.decode(batch=8, **WIDTHS).apply(chain), "a100-sxm-80gb").value_expr is None
    limit = symroof.context_limit(model.decode(batch=8, **WIDTHS).apply(f"{chain},length=4"), "a100-sxm-80gb").value_expr
    assert limit is not None
    for length, verdict in ((int(limit), "crosses"), (int(limit) + 1, "always-memory")):
        step = model.decode(seq_len=length, **WIDTHS).apply(f"{chain},length=4")
        assert symroof.crossover(step, "weights-and-kv", over="batch", hardware="a100-sxm-80gb").verdict == verdict


def test_beyond_the_context_limit_no_batch_helps() -> None:
    def bound(batch: int, context: int) -> str | None:
        step = model().decode(seq_len=context, **WIDTHS)
        return symroof.crossover(step, "weights-and-kv", over="batch", hardware="a100-sxm-80gb").bound_at(batch)

    assert bound(10**9, 165) == "compute"
    assert bound(10**15, 166) == "memory"
    proof = symroof.prove(
        model().decode(**WIDTHS),
        "memory-bound",
        "weights-and-kv",
        for_all=["batch", "seq_len"],
        at_least={"seq_len": 166},
        hardware="a100-sxm-80gb",
    )
    assert proof.verdict == "proved"


TARGETS = [
    ("bandwidth", Rational(6, 1000)),
    ("batch", Rational(15, 1000)),
    ("seq_len", Rational(12, 1000)),
    ("weight_bits", Rational(9, 1000)),
]


@pytest.mark.parametrize(("over", "target"), TARGETS)
def test_inverse_design_meets_its_target_and_no_more(over: str, target: Rational) -> None:
    inputs = {key: value for key, value in (WIDTHS | {"batch": 8, "seq_len": 1500}).items() if key != over}
    step = model().decode(**inputs)
    answer = required(step, over=over, hardware="a100-sxm-80gb", target_time=target)
    found = symroof.regimes(step, over=over, hardware="a100-sxm-80gb")
    assert found.time_expr(answer.value_expr) == answer.time_expr <= target
    beyond = answer.value_expr * (Rational(999, 1000) if answer.relation == ">=" else Rational(1001, 1000))
    assert found.time_expr(beyond) > target
    assert simplify(answer.formula.subs(T, target) - answer.value_expr) == 0
    if answer.integer is not None:
        assert found.time_expr(answer.integer) <= target < found.time_expr(answer.integer + 1)


@pytest.mark.parametrize(("over", "inputs"), [("batch", {"seq_len": 1500}), ("seq_len", {"batch": 8})])
def test_the_time_of_the_least_value_is_a_target_that_it_meets(over: str, inputs: dict[str, int]) -> None:
    target = steps.analysis(**inputs, **{over: 1}).total.time_expr
    answer = required(steps.step(**inputs), over=over, hardware="a100-sxm-80gb", target_time=target)
    assert (answer.relation, answer.integer) == ("<=", 1)
    with pytest.raises(ImpossibleError):
        required(steps.step(**inputs), over=over, hardware="a100-sxm-80gb", target_time=target * Rational(999, 1000))


def test_a_target_that_is_a_float_is_the_decimal_that_it_prints_as() -> None:
    """A hundredth of the root of a half, to as many digits as a float has, is no root."""
    free = steps.step(batch=1, seq_len=2048)
    by_float, by_decimal = (
        required(free, over="bandwidth", hardware="a100-sxm-80gb", target_time=target)
        for target in (0.00707106781186547, Rational("0.00707106781186547"))
    )
    assert by_float.value_expr == by_decimal.value_expr
    assert by_float.value_expr.is_Rational


IMPOSSIBLE = {
    "bandwidth": "compute alone takes",
    "peak": "memory traffic alone takes",
    "batch": "at the least batch, 1, the step takes",
    "seq_len": "at the least seq_len, 1, the step takes",
}


@pytest.mark.parametrize("over", IMPOSSIBLE)
def test_an_impossible_target_says_why(over: str) -> None:
    inputs = {key: value for key, value in (WIDTHS | {"batch": 8, "seq_len": 1500}).items() if key != over}
    with pytest.raises(ImpossibleError, match=IMPOSSIBLE[over]):
        required(model().decode(**inputs), over=over, hardware="a100-sxm-80gb", target_time=Rational(1, 10**6))


@pytest.mark.parametrize(
    ("over", "text", "target", "relation"),
    [
        ("chip_bandwidth", "resident-weights", Rational(1, 1000), ">="),
        ("host_bandwidth", "offload:share=1", Rational(1, 2), ">="),
        ("bandwidth_factor", "scale-hardware:bandwidth", Rational(3, 1000), ">="),
        ("memory_efficiency", "efficiency:memory", Rational(8, 1000), ">="),
        ("acceptance", "speculative:length=4,draft_cost=0.1", Rational(5, 1000), ">="),
        ("degree", "tensor-parallel:latency=5us", Rational(4, 1000), "<="),
        ("rank", "low-rank", Rational(5, 1000), "<="),
    ],
)
def test_more_of_a_techniques_parameter_may_help_or_hurt_or_both(over: str, text: str, target: Rational, relation: str) -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=1024, **WIDTHS).apply(symroof.technique(text))
    answer = required(step, over=over, hardware="a100-sxm-80gb", target_time=target)
    found = symroof.regimes(step, over=over, hardware="a100-sxm-80gb")
    assert answer.relation == relation
    more, less = Rational(1001, 1000), Rational(999, 1000)
    value = Rational(str(answer.value_expr.evalf(30)))
    assert found.time_expr(value * (less if relation == ">=" else more)) > target
    assert found.time_expr(value * (more if relation == ">=" else less)) <= target
    assert (answer.least is not None) is (over == "degree")
    if answer.least is not None:
        least = Rational(str(answer.least_expr.evalf(30)))
        assert found.time_expr(least * less) > target >= found.time_expr(least * more)
        with pytest.raises(ImpossibleError, match="at the best degree, 3"):
            required(step, over=over, hardware="a100-sxm-80gb", target_time=target / 4)


def test_a_target_rate() -> None:
    step = model().decode(seq_len=100, **WIDTHS)
    answer = required(step, over="batch", hardware="a100-sxm-80gb", target_rate=Integer(5000))
    found = symroof.regimes(step, over="batch", hardware="a100-sxm-80gb")
    assert answer.value_expr / found.time_expr(answer.value_expr) == 5000
    with pytest.raises(ImpossibleError, match="throughput stays below"):
        required(step, over="batch", hardware="a100-sxm-80gb", target_rate=Integer(10**7))
    with pytest.raises(symroof.SymroofError, match="give one target"):
        required(step, over="batch", hardware="a100-sxm-80gb")


def test_required_capacity_is_the_memory_of_the_step() -> None:
    assert required_capacity(model().decode(batch=3, seq_len=50, **WIDTHS)).exact == analysis(batch=3, seq_len=50).memory_exprs["total"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "context", "widths"), [(1, 2048, WIDTHS), (256, 2048, WIDTHS), (512, 64, WIDTHS), (512, 64, EIGHT | {"kv_bits": 16})]
)
def test_elasticities(batch: int, context: int, widths: dict[str, int]) -> None:
    found = symroof.sensitivity(model().decode(batch=batch, seq_len=context, **widths), "a100-sxm-80gb")
    here = symroof.analyze(model().decode(batch=batch, seq_len=context, **widths), "a100-sxm-80gb")
    memory = Add(*(placed.count_expr * placed.time_expr for placed in here if placed.bound == "memory")) / here.total.time_expr
    assert found.values[P] + found.values[BW] == -1
    assert found.memory_boundness_expr == memory
    assert found.buy == ("bandwidth" if memory > Rational(1, 2) else "peak")
    assert simplify(found.formulas[P] + found.formulas[BW]) == -1
    if widths is WIDTHS:  # one peak: the formulas in letters have the values at this step's numbers
        assert found.formulas.keys() == found.values.keys() >= {P, BW, b, t}
        numbers = {**here.values, P: here["up_proj"].peak_expr, BW: here["up_proj"].bandwidth_expr}
        assert {x: symbols.substitute(formula, numbers) for x, formula in found.formulas.items()} == found.values
    # Time is linear in the context on a regime: the difference quotient is the derivative.
    near = [
        symroof.analyze(model().decode(batch=batch, seq_len=length, **widths), "a100-sxm-80gb").total.time_expr
        for length in (context - 1, context + 1)
    ]
    assert (near[1] - near[0]) / 2 * context / here.total.time_expr == found.values[t]


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 30), st.sampled_from(["opt-125m", "llama-3.2-1b"]))
@settings(max_examples=15, deadline=None)
def test_generation_equals_adding_up_its_steps(prompt: int, tokens: int, name: str) -> None:
    found = symroof.generation(model(name), prompt=prompt, tokens=tokens, hardware="l4", batch=3, **WIDTHS)
    steps = [analysis("l4", name, batch=3, seq_len=prompt + step).total for step in range(1, tokens)]  # the prompt gives the first token
    prefill = analysis("l4", name, "prefill", batch=3, seq_len=prompt).total
    assert found.decode_time_expr == Add(*(step.time_expr for step in steps))
    assert found.decode_traffic_expr == Add(*(step.byte_count() for step in steps))
    assert found.time_expr == found.decode_time_expr + prefill.time_expr
    assert found.traffic_expr == found.decode_traffic_expr + prefill.byte_count()
    assert found.traffic_formula.xreplace({S: Integer(prompt), n: Integer(tokens)}) == found.decode_traffic_expr


PROMPTED = {"prompt": 512, "tokens": 129, "hardware": "h100-sxm", "batch": 8, **WIDTHS}


@pytest.mark.parametrize(
    ("text", "per_step", "seconds", "traffic"),
    [
        ("mixed-batch:chunk=128", Integer(1), "0.6629", "2.221e+12"),
        ("speculative:acceptance=0.8,length=4,draft_cost=0.05", sum(Rational(4, 5) ** power for power in range(5)), "0.2210", "7.403e+11"),
        ("medusa:heads=4,nodes=20,acceptance=0.6,rows=last", sum(Rational(3, 5) ** power for power in range(5)), "0.3784", "1.268e+12"),
    ],
)
def test_a_generation_counts_generated_tokens(text: str, per_step: Expr, seconds: str, traffic: str) -> None:
    """128 tokens after the prompt's own; a step that generates several is shared by them, in time and in bytes."""
    technique = symroof.technique(text)
    found = symroof.generation(model("llama-3-8b"), techniques=[technique], **PROMPTED)
    assert f"{float(found.decode_time_expr):.4f}" == seconds
    assert f"{float(found.decode_traffic_expr):.4g}" == traffic
    assert found.decode_traffic_expr / found.decode_time_expr <= symroof.load_hardware("h100-sxm").bandwidth_expr
    middle = [model("llama-3-8b").decode(batch=8, seq_len=context, **WIDTHS).apply(technique).graph.byte_count() for context in (576, 577)]
    assert found.decode_traffic_expr == 64 * sum(middle) / per_step, "bytes are linear in the context, which goes from 513 to 640"


def test_a_draft_reads_the_prompt_too() -> None:
    flash = {"flash_attention": True, **WIDTHS}
    asked = {"prompt": 8192, "tokens": 2, "hardware": "h100-sxm", "batch": 1, **flash}
    draft = symroof.technique("speculative:draft=llama-3.2-1b,acceptance=0.8,length=4")
    alone, drafted = (symroof.generation(model("llama-3-8b"), techniques=some, **asked) for some in ((), (draft,)))
    small = symroof.analyze(model("llama-3.2-1b").prefill(batch=1, seq_len=8192, **flash), "h100-sxm").total
    assert drafted.prefill_time_expr == alone.prefill_time_expr + small.time_expr
    assert drafted.prefill_traffic_expr == alone.prefill_traffic_expr + small.byte_count()


def test_the_prompt_gives_the_first_token() -> None:
    found = symroof.generation(model(), prompt=5, tokens=1, hardware="l4", batch=1, **WIDTHS)
    assert (found.parts, found.decode_time_expr, found.decode_traffic_expr) == ((), 0, 0)


def test_a_chunk_is_sized_by_the_time_of_the_step() -> None:
    step = model("llama-3-8b").decode(batch=32, seq_len=2048, **WIDTHS).apply(symroof.technique("mixed-batch"))
    answer = symroof.required(step, over="chunk", hardware="h100-sxm", target_time="20 ms")
    assert answer.integer == 951
    for chunk, within in ((951, True), (952, False)):
        mixed = model("llama-3-8b").decode(batch=32, seq_len=2048, **WIDTHS).apply(symroof.technique(f"mixed-batch:chunk={chunk}"))
        assert (float(symroof.analyze(mixed, "h100-sxm").total.time_expr) <= 0.02) is within


def test_generation_across_a_change_of_regime(tmp_path) -> None:
    """A slow chip with a fast memory: attention turns compute-bound as the context grows."""
    path = tmp_path / "slow.toml"
    path.write_text(SLOW)
    step = model("llama-3.2-1b").decode(batch=1, **(WIDTHS | {"kv_bits": 2}))
    knees = symroof.regimes(step, over="seq_len", hardware=path).knees_expr
    inside = next(int(knee) for knee in knees if knee > 3)
    found = symroof.generation(
        model("llama-3.2-1b"), prompt=max(inside - 5, 1), tokens=12, hardware=path, batch=1, **(WIDTHS | {"kv_bits": 2})
    )
    assert len(found.parts) >= 2
    first = found.prompt + 1
    lengths = range(first, first + 11)
    assert found.parts[0].first == first
    assert all(right.first == left.last + 1 for left, right in pairwise(found.parts))
    steps = [
        symroof.analyze(model("llama-3.2-1b").decode(batch=1, seq_len=length, **(WIDTHS | {"kv_bits": 2})), path).total.time_expr
        for length in lengths
    ]
    assert found.decode_time_expr == Add(*steps)


@pytest.mark.slow
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4), st.integers(-5, 20), st.integers(0, 30))
def test_sums_of_polynomials(coefficients: list[int], low: int, length: int) -> None:
    expression = Add(*(coefficient * t**power for power, coefficient in enumerate(coefficients)))
    high = low + length - 1
    assert sum_over(expression, t, Integer(low), Integer(high)) == Add(*(expression.subs(t, point) for point in range(low, high + 1)))


@pytest.mark.parametrize(("context", "batch"), [(2048, 42), (1024, 84), (512, 168), (256, 336)])
def test_largest_batches_of_the_survey(context: int, batch: int) -> None:
    """Figure 19's setting: Llama-2-13b, all at 8 bits, the 48 GB line."""
    step = model("llama-2-13b").decode(seq_len=context, accounting="survey", **EIGHT)
    assert symroof.largest(step, capacity=Integer(48 * 10**9)).integer == batch


@pytest.mark.parametrize("over", ["batch", "seq_len"])
def test_the_largest_fits_and_one_more_does_not(over: str) -> None:
    inputs = WIDTHS | ({"seq_len": 3000} if over == "batch" else {"batch": 7})
    room = symroof.load_hardware("a100-sxm-80gb").usable_figure.value
    most = int(symroof.largest(model().decode(**inputs), over=over, hardware="a100-sxm-80gb").integer)
    assert memory_of(model().decode(**(inputs | {over: most}))) <= room < memory_of(model().decode(**(inputs | {over: most + 1})))


def test_what_never_fits_is_zero() -> None:
    assert symroof.largest(model("llama-2-70b").decode(seq_len=10, **WIDTHS), hardware="a100-sxm-80gb").integer == 0


def test_cache_against_weights() -> None:
    step = model().decode(**WIDTHS)
    passes = cache_passes_weights(step).exact
    assert passes * b == Rational(6738415616 * 2, 524288)
    pairs = hyperbola(step, hardware="a100-sxm-80gb").exact
    assert pairs == Rational(81920 * 2**20 - 2 * 6738415616, 524288)
    with pytest.raises(symroof.SymroofError, match="keeps no KV cache"):
        cache_passes_weights(model("dit-s-2").prefill(**WIDTHS))


def test_the_longest_prompt_fills_the_memory_in_the_widest_state_of_its_activations() -> None:
    step = model().prefill(batch=1, **WIDTHS)
    assert isinstance(step.graph.activation_memory(), Max)
    full = symroof.largest(step, over="seq_len", hardware="t4")
    memory = step.symbolic.bind({**step.values, symbols.s: full.value_expr}).memory_exprs()
    assert expand(sum(memory.values())) == symroof.load_hardware("t4").usable_figure.value


WRONG = {
    "batch 0": (
        lambda: symroof.generation(model(), prompt=0, tokens=1, hardware="t4", batch=1, **WIDTHS),
        "prompt 0: expected a whole number",
    ),
    "no device": (lambda: symroof.largest(model().decode(seq_len=1, **WIDTHS)), "give a device or a capacity in bytes"),
    "letters left": (
        lambda: symroof.largest(model().decode(**WIDTHS), hardware="t4"),
        "seq_len must be given as a number to compute what fits",
    ),
    "open regimes": (
        lambda: symroof.regimes(model().decode(**WIDTHS), over="batch", hardware="t4"),
        "seq_len must be given as a number to follow the time over batch",
    ),
    "prefill": (lambda: symroof.context_limit(model().prefill(**WIDTHS), "t4"), "the context limit applies to decode"),
    "open elasticity": (
        lambda: symroof.sensitivity(model().decode(**WIDTHS), "t4"),
        "batch and seq_len must be given as numbers for the elasticities",
    ),
    "blocks": (
        lambda: symroof.regimes(
            model().prefill(batch=1, **WIDTHS).apply(symroof.technique("flash-attention:reread=memory")), over="seq_len", hardware="t4"
        ),
        "fused_attention counts blocks of rows over seq_len: no partition in closed form",
    ),
    "outside": (
        lambda: symroof.regimes(model().decode(batch=1, **WIDTHS), over="seq_len", hardware="t4").at(0),
        "context_len 0 is outside 1 to oo",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_questions(case: str) -> None:
    ask, message = WRONG[case]
    with pytest.raises(symroof.SymroofError) as error:
        ask()
    assert message in str(error.value)


def test_context_limit_with_every_contraction_under_its_own_peak() -> None:
    """8-bit linear layers beside 16-bit attention: the limit is where the aggregate condition itself changes."""
    widths = {"weight_bits": 8, "activation_bits": 8, "kv_bits": 16}
    limit = symroof.context_limit(model("llama-3.1-8b").decode(**widths), "a100-sxm-80gb").value_expr

    def bound(context: int) -> str | None:
        step = model("llama-3.1-8b").decode(seq_len=context, **widths)
        return symroof.crossover(step, "weights-and-kv", over="batch", hardware="a100-sxm-80gb").bound_at(10**12)

    assert (bound(int(limit)), bound(int(limit) + 1)) == ("compute", "memory")


def test_elasticity_to_the_layers_is_their_share_of_the_time() -> None:
    found = symroof.sensitivity(model().decode(batch=4, seq_len=64, **WIDTHS), "a100-sxm-80gb")
    here = analysis(batch=4, seq_len=64)
    layers = Add(*(placed.count_expr * placed.time_expr for placed in here if placed.count_expr == 32))
    assert found.values[symbols.L] == layers / here.total.time_expr


@pytest.mark.parametrize("accounting", ["exact", "llm-viewer", "survey"])
def test_flash_attention_in_decode_leaves_nothing_open(accounting: str) -> None:
    options = WIDTHS | {"flash_attention": True, "accounting": accounting}
    limit = symroof.context_limit(model().decode(**options), "h100-sxm")
    assert limit.value_expr is not None
    found = symroof.generation(model(), prompt=5, tokens=5, hardware="h100-sxm", batch=1, **options)
    assert found.decode_traffic_expr.is_number


def test_a_formula_gives_its_value_or_is_not_given() -> None:
    """At an edge, where the peak steps or the range ends, no formula in T leads to the value."""
    step = model().decode(batch=400, seq_len=2048, activation_bits=16, kv_bits=16)
    answer = required(step, over="weight_bits", hardware="a100-sxm-80gb", target_time=Rational(240, 1000))
    assert (answer.value_expr, answer.formula) == (16, None)


BAD = {
    "no device": (lambda: symroof.regimes(model().decode(seq_len=1, **WIDTHS), over="batch", hardware=None), "give a device"),
    "text": (
        lambda: required(model().decode(batch=1, seq_len=1, **WIDTHS), over="peak", hardware="t4", target_time="5 parsec"),
        "'5 parsec'",
    ),
    "no matter": (
        lambda: symroof.largest(model().decode(batch=1, **WIDTHS), over="bandwidth", hardware="t4"),
        "memory does not depend on bandwidth",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_more_bad_questions(case: str) -> None:
    ask, message = BAD[case]
    with pytest.raises(symroof.SymroofError) as error:
        ask()
    assert message in str(error.value)
