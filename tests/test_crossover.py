"""Crossovers: against scans over whole numbers, the survey's own checks, and textbook answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import groupby, pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Expr, Integer, Rational, Symbol, oo, simplify, sqrt

import symroof
from symroof.algebra.piecewise import Piece, piecewise
from symroof.algebra.polynomial import Polynomial, polynomial
from symroof.algebra.signs import Solution, intensity_supremum, solve_symbolic
from symroof.architectures.config import catalogue
from symroof.architectures.llm_viewer import FAMILIES
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.hardware.loader import catalogue as devices
from symroof.hardware.loader import load_hardware
from symroof.operators.fusion import fuse
from symroof.operators.graph import Graph
from symroof.questions.crossover import Crossover, crossover_of
from symroof.roof.costs import variable_of
from symroof.symbols import BW, P, a, b, c, d, e, f, h, k, t, w
from tests.steps import two_roofs

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}


def partition(low: object, high: object, slack: Polynomial) -> tuple[Piece, ...]:
    """The stretches on which the slack has one sign."""
    return piecewise(b, [(low, high, slack.as_expr(), None)]).signs().pieces


DIMENSIONS = ("hidden_size", "intermediate_size", "head_dim", "vocab_size")


MODELS = tuple(name for name in catalogue() if symroof.load_model(name).architecture.family in ("llama", "opt", "gptj", "chatglm"))
DEVICES = tuple(two_roofs(name) for name in devices() if {"fp16", "int8"} <= set(load_hardware(name).peaks))


@dataclass(frozen=True)
class Case:
    """A step on a device, one of its operators, and a variable that occurs in its formulas."""

    step: Step
    device: Device
    operator: str
    over: str

    def bound(self, answer: Crossover, value: int) -> str | None:
        """By the roofline itself: F / P against B / BW at that value."""
        values = dict(self.step.values) | {answer.over.symbol: Integer(value)}
        values |= {symbol: definition.xreplace(values) for symbol, definition in self.step.symbolic.definitions.items()}
        operator = self.step.symbolic[self.operator]
        graph = self.step.symbolic.bind(values) if answer.over.unit == "bit" else self.graph
        try:
            peak = self.device.machine.fastest(graph.data_types(graph[self.operator]))[1]
        except symroof.SymroofError:
            return None  # wider than any type of the device
        compute = operator.flop_count.xreplace(values) / peak
        memory = operator.byte_count().xreplace(values) / self.device.bandwidth_figure.value
        return "memory" if compute < memory else "compute"

    @cached_property
    def graph(self) -> Graph:
        return self.step.symbolic.bind(self.step.values)


def random_case(draw: random.Random) -> Case:
    while True:
        inputs = {
            "batch": draw.choice([1, 2, 7, 64, 300]),
            "seq_len": draw.choice([1, 16, 500, 4096]),
            **{name: draw.choice([2, 4, 8, 16]) for name in ("weight_bits", "activation_bits", "kv_bits")},
        }
        over = draw.choice([*inputs, "batch", "seq_len", *DIMENSIONS])
        inputs.pop(over, None)
        model = symroof.load_model(draw.choice(MODELS))
        accountings = ["exact", "exact", "llm-viewer"] if model.architecture.family in FAMILIES else ["exact"]
        step = getattr(model, draw.choice(["prefill", "decode"]))(accounting=draw.choice(accountings), **inputs)
        name = draw.choice([operator.name for operator, _ in step.symbolic])
        letters = step.symbolic[name].flop_count.free_symbols | step.symbolic[name].byte_count().free_symbols
        letters |= {letter for symbol in letters for letter in step.symbolic.definitions.get(symbol, symbol).free_symbols}
        if variable_of(step, over).symbol in letters:
            return Case(step, draw.choice(DEVICES), name, over)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_random_cases_agree_with_a_scan(block: int) -> None:
    """Around every boundary, on both sides, and at random points: the closed form against the roofline, exactly."""
    draw = random.Random(block)
    for _ in range(100):
        case = random_case(draw)
        answer = symroof.crossover(case.step, case.operator, over=case.over, hardware=case.device)
        limit = 64 if answer.over.unit == "bit" else 10**9
        edges = {int(edge) + step for one in answer.pieces for edge in (one.low, one.high) if edge.is_finite for step in (-1, 0, 1, 2)}
        points = {1, 2, limit, *(draw.randint(1, min(limit, 10**5)) for _ in range(3)), *edges}
        for point in sorted(point for point in points if 1 <= point <= limit):
            found = answer.bound_at(point)
            assert found == case.bound(answer, point), (case, point)
            assert found is None or found in {one.bound for one in answer.pieces if one.low <= point <= one.high}
        if answer.first_integer is not None:
            assert answer.bound_at(answer.first_integer) == answer.above
            assert answer.first_integer == 1 or answer.bound_at(answer.first_integer - 1) == answer.below


@pytest.mark.parametrize(
    ("bits", "firsts"),
    # reference figures of the survey: the first batch at which linear layers turn compute-bound
    [(16, (214, 219)), (8, (107, 110)), (4, (54, 55)), (2, (27, 28)), (1, (14, 14))],
)
def test_first_compute_bound_batch_in_the_survey(bits: int, firsts: tuple[int, int]) -> None:
    step = symroof.load_model("llama-2-13b").decode(seq_len=1024, weight_bits=bits, activation_bits=16, kv_bits=16, accounting="survey")
    found = [
        answer for answer in symroof.crossovers(step, over="batch", hardware="survey/nvidia_A6000") if answer.operator.endswith("_proj")
    ]
    assert len(found) == 7
    assert (min(one.first_integer for one in found), max(one.first_integer for one in found)) == firsts


@pytest.mark.slow
@given(st.lists(st.fractions(-50, 50, max_denominator=9), min_size=1, max_size=4), st.integers(1, 3))
@settings(max_examples=200)
def test_partitions_of_random_polynomials(numbers: list[Fraction], low: int) -> None:
    """Signs by interval agree with the polynomial at every half up to 60; intervals cover the range."""
    coefficients = [Rational(one.numerator, one.denominator) for one in numbers]
    while len(coefficients) > 1 and coefficients[-1] == 0:
        coefficients.pop()
    slack = Polynomial(b, tuple(coefficients))
    intervals = partition(low, 60, slack)
    assert (intervals[0].low, intervals[-1].high) == (low, 60)
    assert all(left.high == right.low for left, right in pairwise(intervals))
    for half in range(2 * low, 121):
        point = Rational(half, 2)
        expected = "memory" if slack(point) < 0 else "compute"
        assert expected in {one.bound for one in intervals if one.low <= point <= one.high}


def test_two_boundaries_are_two_intervals() -> None:
    slack = Polynomial(b, (Integer(-12), Integer(7), Integer(-1)))  # zero at 3 and 4
    assert [(one.low, one.high, one.bound) for one in partition(1, 9, slack)] == [
        (1, 3, "memory"),
        (3, 4, "compute"),
        (4, 9, "memory"),
    ]


def test_a_root_that_only_touches_zero_is_a_point_of_its_own() -> None:
    """-(b - 3)^2: FLOPs and bytes take equally long at 3 and nowhere else."""
    slack = Polynomial(b, (Integer(-9), Integer(6), Integer(-1)))
    assert [(one.low, one.high, one.bound) for one in partition(1, 9, slack)] == [
        (1, 3, "memory"),
        (3, 3, "compute"),
        (3, 9, "memory"),
    ]


def test_blocks_whose_root_is_a_whole_number() -> None:
    """8 - 2 n is zero at n = 4, the last compute-bound block: 13 to 16 of blocks of 4."""
    from sympy import ceiling

    from symroof.algebra.tile_counting import counted_intervals
    from symroof.symbols import s

    found = counted_intervals(s, Integer(1), oo, [Integer(8)], [2 * ceiling(s / 4)])
    assert [(one.low, str(one.high), one.bound) for one in found] == [(1, "16", "compute"), (17, "oo", "memory")]


def test_irrational_crossings_are_exact() -> None:
    slack = Polynomial(b, (Integer(-2), Integer(0), Integer(1)))
    first, second = partition(1, 9, slack)
    assert first.high == second.low == sqrt(2)


LETTERS = {
    "rises from below": (b * d * BW - P, "crosses", "memory"),
    "never": (-b * P - d * BW, "always-memory", None),
    "always": (b * P + d * BW, "always-compute", None),
    "falls from above": (d * BW - b * P, "crosses", "compute"),
    "a parabola from below": (b**2 * BW - b * P - d * P, "crosses", "memory"),
    "independent": (BW - P, "always-memory", None),
}


@pytest.mark.parametrize("case", LETTERS)
def test_signs_in_letters(case: str) -> None:
    expression, verdict, below = LETTERS[case]
    answer = solve_symbolic(polynomial(expression, b))
    assert (answer.verdict, answer.below) == (verdict, below)
    if answer.formula is not None:
        assert simplify(expression.subs(b, answer.formula)) == 0
        assert answer.formula.subs({d: 2, P: 3, BW: 5}) > 0, "a crossing at a batch there is"


@pytest.mark.slow
@given(st.tuples(*(st.integers(1, 9) for _ in range(6))))
@settings(max_examples=60, deadline=None)
def test_letters_and_numbers_agree(numbers: tuple[int, ...]) -> None:
    """A symbolic answer, with numbers put in, says what the numeric one says."""
    values = dict(zip((d, f, w, a, P, BW), map(Integer, numbers), strict=True))
    flops, traffic = 2 * b * d * f, (b * d * a + b * f * a + d * f * w) / 8
    answer = crossover_of("linear", b, (flops, traffic, P, BW), values, low=Rational(0))
    holds = bool(answer.condition.xreplace(values))
    assert answer.verdict == (answer.solution.verdict if holds else answer.solution.otherwise)
    if holds:
        assert answer.value_expr == answer.formula.xreplace(values)
        slack = (flops * BW - traffic * P).xreplace(values)
        assert slack.subs(b, answer.value_expr) == 0
        assert slack.subs(b, answer.value_expr / 2) < 0 < slack.subs(b, answer.value_expr * 2)


def test_what_a_linear_layer_tends_to() -> None:
    answer = symroof.crossover(symroof.load_model("llama-2-7b").decode(), "up_proj", over="batch")
    assert simplify(answer.tends_to(d, f) - P / BW * w / 16) == 0


def test_supremum_of_the_intensity_of_decode_attention() -> None:
    graph = symroof.load_model("llama-2-70b").decode(symbolic=True).graph
    group, _ = fuse(graph, ["qk_matmul", "sv_matmul", "softmax"])
    contractions = graph["qk_matmul"].flop_count + graph["sv_matmul"].flop_count
    assert simplify(intensity_supremum(contractions, group.byte_count(), t) - 16 * (h / k) / c) == 0
    alone = graph["qk_matmul"]
    assert simplify(intensity_supremum(alone.flop_count, alone.byte_count(), t) - 16 * e * h / (a * h + c * e * k)) == 0


# The JAX scaling book (jax-ml.github.io/scaling-book), with its own constants: TPU v5e bf16 1.97e14 FLOP/s and
# int8 3.94e14 OP/s, HBM 8.2e11 B/s (8.1e11 in the exercises), ICI 4.5e10 B/s one way.
BF16, INT8, HBM, HBM_EXERCISE, ICI = (Integer(10) ** 9 * n for n in (197000, 394000, 820, 810, 45))


@pytest.mark.parametrize(
    ("peak", "bandwidth", "bits", "printed"),
    [
        (BF16, HBM, 16, 240),  # "Rooflines": B > 1.97e14 / 8.20e11 = 240
        (INT8, HBM_EXERCISE, 8, 243),  # question 1: int8 matmul, B > 243
        (BF16, HBM, 8, 120),  # question 2: int8 weights, bf16 compute, B > 120
    ],
)
def test_critical_batch_of_the_scaling_book(peak: Integer, bandwidth: Integer, bits: int, printed: int) -> None:
    answer = symroof.crossover(symroof.load_model("llama-2-7b").decode(), "up_proj", over="batch")
    tends_to = answer.tends_to(d, f).xreplace({P: peak, BW: bandwidth, w: Integer(bits)})
    assert int(tends_to) == printed


def test_two_chips_of_the_scaling_book() -> None:
    """ "Rooflines", network communication: T_math = B D F / 1.97e14, T_comms = 2 B F / 4.5e10; D > 8755."""
    answer = crossover_of("two chips", d, (b * d * f, 2 * b * f, P, BW), {P: BF16, BW: ICI})
    assert answer.verdict == "crosses"
    assert int(answer.value_expr) == 8755
    assert (answer.below, answer.above) == ("memory", "compute")


def test_prefill_attention_of_the_scaling_book() -> None:
    """ "Inference": with one pass over K and V the intensity is S T / (S + T), S / 2 in prefill: about 480 tokens."""
    graph = symroof.load_model("llama-2-7b").prefill(symbolic=True, causal=False).graph
    group, _ = fuse(graph, ["qk_matmul", "softmax", "sv_matmul"])
    contractions = graph["qk_matmul"].flop_count + graph["sv_matmul"].flop_count
    values = {P: BF16, BW: HBM, a: Integer(16), c: Integer(16), h: Integer(32), k: Integer(32), e: Integer(128), b: Integer(1)}
    from symroof.symbols import s

    answer = crossover_of("attention", s, (contractions, group.byte_count(), P, BW), values)
    assert answer.value_expr == 2 * BF16 / HBM
    assert round(float(answer.value_expr)) == 480


def test_group_size_and_fused_groups() -> None:
    step = symroof.load_model("llama-2-13b").decode(batch=1, seq_len=10**6, **WIDTHS)
    answer = symroof.crossover(step, "qk_matmul+softmax+sv_matmul", over="group_size", hardware="a100-sxm-80gb")
    peak, bandwidth, context = 312 * 10**12, 2039 * 10**9, 10**6
    # per KV head: 4 e g t FLOPs on the matrix units, the softmax's beside them; 2 t e elements of K and V, 2 g e of queries and
    # results, e = 128, 2 bytes each
    assert answer.value_expr == Rational(peak * 4 * context * 128, bandwidth * 512 * context - peak * 4 * 128)
    assert answer.verdict == "crosses"


@pytest.mark.slow
def test_flash_attention_over_the_prompt_counts_blocks() -> None:
    alone = symroof.technique("flash-attention:rows=64,reread=memory")
    step = symroof.load_model("opt-125m").prefill(batch=1, **WIDTHS).apply(alone)
    answer = symroof.crossover(step, "fused_attention", over="seq_len", hardware="t4")
    assert any("whole blocks" in line for line in answer.statements)
    for length in (1, 63, 64, 65, 127, 128, 129, 1000, 5000):
        here = symroof.load_model("opt-125m").prefill(batch=1, seq_len=length, **WIDTHS).apply(alone)
        assert answer.bound_at(length) == symroof.analyze(here, "t4")["fused_attention"].bound, length


@pytest.mark.slow
def test_a_width_changes_the_peak_in_steps() -> None:
    """Over the activation width an A100 goes from INT4 to INT8 to FP16 to FP32: the answer is piecewise."""
    step = symroof.load_model("llama-2-13b").prefill(batch=1, seq_len=300, weight_bits=4, kv_bits=16)
    answer = symroof.crossover(step, "up_proj", over="activation_bits", hardware="a100-sxm-80gb")
    assert [piece.high for piece in answer.seconds.pieces] == [4, 6, 8, 16, 32, 64]
    assert [piece.low for piece in answer.seconds.pieces] == [0, 4, 6, 8, 16, 32], "widths between whole numbers are covered too"
    assert answer.bound_at(Rational(9, 2)) in ("memory", "compute")
    for bits in range(1, 65):
        here = symroof.load_model("llama-2-13b").prefill(batch=1, seq_len=300, weight_bits=4, kv_bits=16, activation_bits=bits)
        assert answer.bound_at(bits) == symroof.analyze(here, "a100-sxm-80gb")["up_proj"].bound, bits


WRONG = {
    ("up_proj", "bacth"): "'bacth' is not a symbol of the library: did you mean batch?",
    ("up_proj", "seq_len"): "'seq_len' (t) does not occur in up_proj of llama-2-7b in decode; known: activation_bits, batch",
    ("up_prj", "batch"): "'up_prj' is not an operator of this step: did you mean up_proj",
    ("up_proj+qk_matmull", "batch"): "'qk_matmull' is not an operator of the block of up_proj: did you mean qk_matmul",
    ("up_proj", "__import__('os')"): "is not a symbol of the library",
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_questions(case: tuple[str, str]) -> None:
    operator, over = case
    with pytest.raises(symroof.SymroofError) as error:
        symroof.crossover(symroof.load_model("llama-2-7b").decode(**WIDTHS), operator, over=over, hardware="a100")
    assert WRONG[case] in str(error.value)
    assert "\n" not in str(error.value)


def test_the_derivation_is_told_line_by_line() -> None:
    answer = symroof.crossover(symroof.load_model("llama-2-7b").decode(**WIDTHS), "up_proj", over="batch", hardware="a100")
    words = [line.words for line in answer.reasoning()]
    assert words[:4] == ["FLOPs of up_proj", "its bytes", "memory-bound where", "sign of the slack, as a polynomial in batch"]
    assert words[-1] == "in numbers"
    assert answer.latex().startswith("\\begin{align*}\n& \\text{FLOPs of up\\_proj:} \\\\ & \\qquad F = 2 b d f")
    assert answer.latex().count("{") == answer.latex().count("}")
    assert answer._repr_latex_().startswith("$$\\begin{aligned}")


def test_models_without_kv_groups_have_no_group_size() -> None:
    for name in ("gpt-j-6b", "opt-125m", "dit-s-2"):
        step = symroof.load_model(name).decode(batch=1, seq_len=64, **WIDTHS)
        with pytest.raises(symroof.SymroofError, match="one KV head per query head"):
            symroof.crossover(step, "qk_matmul+softmax+sv_matmul", over="group_size", hardware="h100-sxm")


def test_a_common_factor_decides_for_every_value() -> None:
    """Softmax in prefill: the slack is (20 BW - P a) (s + 1), so the prompt's length changes nothing."""
    answer = symroof.crossover(symroof.load_model("llama-2-7b").prefill(), "softmax", over="seq_len")
    assert (answer.verdict, answer.formula, answer.solution.otherwise) == ("always-memory", None, "always-compute")
    assert str(answer.condition) == "20*BW < P*a"


@pytest.mark.parametrize("seed", range(40))
def test_what_letters_say_is_true_of_numbers(seed: int) -> None:
    """Of all operators and whole steps: the case whose condition holds at the numbers has the verdict of the numbers."""
    draw = random.Random(seed)
    model = symroof.load_model(draw.choice(["llama-2-7b", "llama-3.2-1b", "opt-125m"]))
    widths = {name: draw.choice([4, 8, 16]) for name in ("weight_bits", "kv_bits")} | {"activation_bits": 16}
    over, part = (
        draw.choice(["batch", "seq_len"]),
        draw.choice(["total", "weights-and-kv", "qk_matmul", "softmax", "up_proj", "k_proj", "attn_norm"]),
    )
    inputs = {name: value for name, value in {"batch": draw.choice([1, 50]), "seq_len": draw.choice([7, 900])}.items() if name != over}
    step = getattr(model, draw.choice(["prefill", "decode"]))(**widths, **inputs)
    device = draw.choice([device for device in DEVICES if device.name in ("h100-sxm", "t4", "a100-sxm-80gb", "groq-lpu")])
    try:
        letters = symroof.crossover(step, part, over=over)
        numbers = symroof.crossover(step, part, over=over, hardware=device)
    except symroof.SymroofError as error:
        assert "does not occur" in str(error)  # noqa: PT017
        return
    if (
        part == "total"
        and len({symroof.analyze(model.decode(batch=1, seq_len=1, **widths), device)[name].peak_expr for name in ("q_proj", "softmax")}) > 1
    ):
        return  # the formula has one peak
    values = dict(numbers.values) | {P: symroof.analyze(model.decode(batch=1, seq_len=1, **widths), device)["q_proj"].peak_expr}
    _agrees(letters.solution, list(letters.slack.coefficients), values)


def test_an_empty_range_is_said() -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, activation_bits=64, kv_bits=64)
    with pytest.raises(symroof.SymroofError, match="'t4' has no data type as wide as the other operands: no weight_bits to range over"):
        symroof.crossover(step, "up_proj", over="weight_bits", hardware="t4")


def test_large_layers() -> None:
    step = symroof.load_model("llama-2-7b").decode(**WIDTHS)
    for name in ("q_proj", "up_proj", "lm_head"):
        answer = symroof.crossover(step, name, over="batch", hardware="a100-sxm-80gb")
        assert simplify(answer.large_layer - P / BW * w / 16) == 0
        assert any("grow together it tends to" in line.words for line in answer.reasoning())
    assert symroof.crossover(step, "softmax", over="batch").large_layer is None


# Coefficients whose sign is known (one letter, or minus one) and whose sign is open (a difference of two letters).
PARTS = {"+": P, "-": -P, "?": BW - d, "0": Integer(0)}


@pytest.mark.parametrize("pattern", ["".join(signs) for signs in product("+-?", "+-?0", "+-?0")])
def test_every_pattern_of_signs(pattern: str) -> None:
    """Constant, linear and leading coefficient of known and of open sign: what the letters say holds at any numbers."""
    letters = ((P, BW, d), (a, f, h), (w, c, k))
    low_to_high = []
    for sign_of, (first, second, third) in zip(pattern, letters, strict=True):
        low_to_high.append(PARTS[sign_of].subs({P: first, BW: second, d: third}, simultaneous=True))
    while len(low_to_high) > 1 and low_to_high[-1] == 0:
        low_to_high.pop()
    solution = solve_symbolic(Polynomial(b, tuple(low_to_high)))
    draw = random.Random(pattern)
    for _ in range(25):
        values = {symbol: Integer(draw.choice([1, 1, 2, 5, 12, 40])) for group in letters for symbol in group}
        _agrees(solution, low_to_high, values)


def _agrees(solution: Solution, low_to_high: list[Expr], values: dict[Symbol, Expr]) -> None:
    """What the letters say of these numbers is what the numbers say."""
    coefficients = [coefficient.xreplace(values) for coefficient in low_to_high]
    while len(coefficients) > 1 and coefficients[-1] == 0:
        coefficients.pop()
    intervals = partition(Rational(1, 10**12), Rational(10) ** 12, Polynomial(b, tuple(coefficients)))
    # a root that only touches zero is a point of its own, which strict conditions leave out
    bounds = [bound for bound, _ in groupby(one.bound for one in intervals if one.low != one.high)]
    if solution.cases:
        held = [case.verdict for case in solution.cases if bool(case.condition.xreplace(values))]
        assert len(held) <= 1
        if held and held[0].startswith("always"):
            assert bounds == [held[0].removeprefix("always ").removesuffix("-bound")]
        elif held and "below it" in held[0]:
            assert bounds == [held[0].split("-")[0], held[0].split(", ")[1].split("-")[0]]
        elif held:
            assert bounds[-1] == held[0].split("-")[0], "outside the roots"
        return
    holds_here = solution.condition is None or bool(solution.condition.xreplace(values))
    verdict = solution.verdict if holds_here else solution.otherwise
    assert verdict is not None
    if verdict.startswith("always"):
        assert bounds == [verdict.removeprefix("always-")]
    elif verdict == "crosses":
        assert bounds == [solution.below, solution.above]
        assert simplify(solution.formula.xreplace(values) - intervals[0].high) == 0
    else:
        assert (bounds[0], bounds[-1], len(bounds)) == (solution.below, solution.above, 3)
        edges = [one.high for one in intervals[:-1]]
        assert [simplify(root.xreplace(values) - edge) for root, edge in zip((solution.lower, solution.formula), edges, strict=True)] == [
            0,
            0,
        ]
