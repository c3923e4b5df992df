"""Ceilings beyond two: efficiencies, launches, no overlap, on-chip memory."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer, Min, Mul, Rational, Symbol, simplify, solve

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError
from symroof.operators.facts import Kind
from symroof.operators.tensor import Level, Storage
from symroof.questions.payoff import SAME, payoff
from symroof.questions.regimes import work_exceeds
from symroof.roof.ledger import WORK
from symroof.techniques.registry import chain, technique

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m")
A100 = "a100-sxm-80gb"
TEXTS = {
    "efficiency": "efficiency:compute=0.7,memory=0.9,link=0.8",
    "launch-overhead": "launch-overhead:launch=5us",
    "no-overlap": "no-overlap",
    "memory-levels": "memory-levels:tile=16,bandwidth=19.5TB/s",
    "energy": "energy:flop=1pJ,byte=30pJ,power=100W",
}
SMALL = "opt-125m"


def step_of(model: str = SMALL, phase: str = "decode", **inputs: int) -> Step:
    return getattr(symroof.load_model(model), phase)(**{**WIDTHS, "batch": 1, "seq_len": 128, **inputs})


def open_step(model: str = SMALL, phase: str = "decode", **inputs: int) -> Step:
    return getattr(symroof.load_model(model), phase)(**{**WIDTHS, "seq_len": 128, **inputs})


def seconds(step: Step, part: str | None = None):
    placed = symroof.analyze(step, A100)
    return placed.total.time_expr if part is None else placed[part].time_expr


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", TEXTS)
def test_work_traffic_and_memory_stay_as_they_were(model: str, phase: str, name: str) -> None:
    before = getattr(symroof.load_model(model), phase)(symbolic=True)
    after = before.apply(technique(TEXTS[name]))
    for (old, count), (new, again) in zip(before.symbolic, after.symbolic, strict=True):
        assert (old.name, old.kind, count) == (new.name, new.kind, again)
        assert old.flop_count == new.flop_count
        for storage in (None, *Storage):
            assert old.byte_count(storage) == new.byte_count(storage)
        assert old.operand_bits == new.operand_bits
        if name != "memory-levels":
            assert old is new
    for size in ("weight_memory", "kv_memory", "activation_memory", "parameter_count"):
        assert getattr(before.symbolic, size)() == getattr(after.symbolic, size)(), size
    assert before.symbolic.tokens == after.symbolic.tokens


# efficiency

shares = st.fractions(Rational(1, 100), 1, max_denominator=1000).map(lambda one: Rational(one.numerator, one.denominator))


@pytest.mark.slow
@settings(max_examples=15)
@given(shares, shares)
def test_efficiency_slows_an_operator_by_the_factor_of_the_ceiling_that_decides(compute: Rational, memory: Rational) -> None:
    step = step_of(batch=64)
    ideal = symroof.analyze(step, A100)
    slower = symroof.analyze(step.apply(technique(f"efficiency:compute={compute},memory={memory}")), A100)
    for old, new in zip(ideal, slower, strict=True):
        assert new.seconds_exprs == {name: value / (compute if name in WORK else memory) for name, value in old.seconds_exprs.items()}
        assert old.time_expr <= new.time_expr <= old.time_expr / min(compute, memory)


def test_efficiencies_multiply_and_one_is_none() -> None:
    step = step_of()
    twice = step.apply(*chain(["efficiency:memory=0.5,compute=0.8 efficiency:memory=0.4"]))
    assert twice.symbolic.ceilings.factor(Level.MEMORY) == symbols.eta_BW * Rational(2, 5)
    assert seconds(twice) == seconds(step.apply(technique("efficiency:memory=0.2,compute=0.8")))
    assert seconds(step.apply(technique("efficiency:memory=1,compute=1,link=1"))) == seconds(step)
    for text in ("efficiency", "efficiency:memory=0", "efficiency:memory=1.01", "efficiency:link=2"):
        with pytest.raises(InputError, match=r"^efficiency: "):
            technique(text)


def test_the_crossover_moves_with_the_ratio_of_efficiencies() -> None:
    step = open_step("llama-2-7b")
    ideal = symroof.crossover(step, "up_proj", over="batch", hardware=A100)
    same = symroof.crossover(step.apply(technique("efficiency:compute=0.6,memory=0.6")), "up_proj", over="batch", hardware=A100)
    assert same.value == ideal.value
    moved = symroof.crossover(step.apply(technique("efficiency:compute=0.6,memory=0.9")), "up_proj", over="batch", hardware=A100)
    ratio = {symbols.P: symbols.P * Rational(3, 5), symbols.BW: symbols.BW * Rational(9, 10)}
    numbers = {**ideal.values, symbols.P: Integer(312 * 10**12)}
    assert ideal.formula.xreplace(ratio).xreplace(numbers) == moved.value != ideal.value
    total = symroof.crossover(step.apply(technique("efficiency:compute=0.6")), "weights-and-kv", over="batch", hardware=A100)
    plain = symroof.crossover(step, "weights-and-kv", over="batch", hardware=A100)
    assert total.value_expr < plain.value_expr


def test_an_efficiency_is_asked_over_like_any_variable() -> None:
    """Slower than before below 1; the number the technique has gives way to the variable."""
    step = step_of("llama-2-7b")
    for text in ("efficiency:memory", "efficiency:memory=0.5"):
        answer = payoff(step, step.apply(technique(text)), over="memory_efficiency", hardware=A100, operator="up_proj")
        assert [one.bound for one in answer.intervals] == ["loses"]
        assert answer.intervals[0].high == 1
        assert answer.speedup_expr(Rational(1, 3)) == Rational(1, 3)


# launch overhead


def test_launches_count_once_per_occurrence() -> None:
    step = step_of("llama-2-7b")
    after = step.apply(technique("launch-overhead:launch=5us"))
    occurrences = sum(count for _, count in step.graph)
    assert seconds(after) == seconds(step) + occurrences * Rational(5, 10**6)
    assert seconds(step.apply(technique("launch-overhead:launch=0"))) == seconds(step)
    assert seconds(step.apply(*chain(["launch-overhead:launch=5us launch-overhead:launch=2us"]))) == seconds(step) + occurrences * Rational(
        7, 10**6
    )
    assert not any("no launch overhead" in line for line in symroof.analyze(after, A100).statements)


def test_a_fused_step_has_fewer_launches() -> None:
    plain, fused = (
        symroof.load_model(SMALL).prefill(batch=1, seq_len=128, flash_attention=flash, **WIDTHS).apply(technique(TEXTS["launch-overhead"]))
        for flash in (False, True)
    )
    layers = 12
    assert sum(count for _, count in plain.graph) - sum(count for _, count in fused.graph) == 2 * layers


def test_overhead_is_the_bound_of_an_operator_that_it_outlasts() -> None:
    step = step_of().apply(technique("launch-overhead:launch=5us"))
    for placed in symroof.analyze(step, A100):
        assert (placed.bound == "overhead") == (Rational(5, 10**6) > max(placed.seconds_exprs.values()))


@pytest.mark.parametrize(("model", "part"), [(SMALL, "total"), ("llama-2-7b", "qk_matmul"), (SMALL, "fc1")])
def test_work_exceeds_launches_where_brute_force_says(model: str, part: str) -> None:
    text = "launch-overhead:launch=20us"
    before = open_step(model)
    part = part if part == "total" else next(op.name for op, _ in before.symbolic if part in op.name or op.name == "up_proj")
    found = work_exceeds(before.apply(technique(text)), over="batch", hardware=A100, operator=part)
    assert {one.bound for one in found} == {"work", "launches"}
    (edge,) = [one.high for one in found[:-1]]
    for batch in {1, int(edge) - 1, int(edge), int(edge) + 1, int(edge) + 2, 5 * int(edge)} - {0}:
        step = step_of(model, batch=batch)
        work = seconds(step) if part == "total" else seconds(step, part)
        count = sum(count for _, count in step.graph) if part == "total" else 1
        assert (work > count * Rational(20, 10**6)) == (batch > edge), batch


def test_work_exceeds_needs_launches() -> None:
    with pytest.raises(InputError, match="launch-overhead:launch=5us"):
        work_exceeds(open_step(), over="batch", hardware=A100)


def test_launches_are_asked_over() -> None:
    step = step_of()
    answer = payoff(step, step.apply(technique("launch-overhead:launch=7us")), over="launch_overhead", hardware=A100)
    assert [one.bound for one in answer.intervals] == ["loses"]
    occurrences = sum(count for _, count in step.graph)
    assert answer.speedup_expr(Rational(1, 1000)) == seconds(step) / (seconds(step) + occurrences * Rational(1, 1000))


# no overlap


@pytest.mark.parametrize("batch", [1, 50, 161, 162, 400])
def test_without_overlap_an_operator_takes_the_sum_of_its_ceilings(batch: int) -> None:
    step = step_of("llama-2-7b", batch=batch)
    after = step.apply(technique("no-overlap"))
    for old, new in zip(symroof.analyze(step, A100), symroof.analyze(after, A100), strict=True):
        taken = old.seconds_exprs.values()
        slowdown = new.time_expr / old.time_expr
        assert slowdown == sum(taken) / max(taken)
        assert 1 <= slowdown <= len(taken)
        assert old.bound == new.bound
    assert seconds(after.apply(technique("no-overlap"))) == seconds(after)


def test_at_the_crossover_the_slowdown_is_two() -> None:
    step = open_step("llama-2-7b")
    crossing = symroof.crossover(step, "up_proj", over="batch", hardware=A100).value_expr
    answer = payoff(step, step.apply(technique("no-overlap")), over="batch", hardware=A100, operator="up_proj")
    assert answer.speedup_expr(crossing) == Rational(1, 2)
    assert answer.speedup_expr(crossing + 1) > Rational(1, 2) < answer.speedup_expr(crossing - 1)


def test_three_ceilings_without_overlap_are_at_most_thrice_as_slow() -> None:
    step = step_of("llama-2-7b", batch=200).apply(technique("memory-levels:tile=32,bandwidth=5TB/s"))
    ideal, after = symroof.analyze(step, A100)["up_proj"], symroof.analyze(step.apply(technique("no-overlap")), A100)["up_proj"]
    assert len(ideal.seconds_exprs) == 3
    assert ideal.time_expr < after.time_expr == sum(ideal.seconds_exprs.values()) <= 3 * ideal.time_expr


# memory levels


SHAPES = {
    "q_proj": ("d", "k g e"),
    **dict.fromkeys(("k_proj", "v_proj"), ("d", "k e")),
    "out_proj": ("k g e", "d"),
    **dict.fromkeys(("gate_proj", "up_proj"), ("d", "f")),
    "down_proj": ("f", "d"),
    "lm_head": ("d", "v"),
    "router": ("d", "E"),
    **dict.fromkeys(("expert_gate_proj", "expert_up_proj"), ("d", "f_e")),
    "expert_down_proj": ("f_e", "d"),
}
"""Rows and columns of the weights, as the models have them."""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("tile", [1, 16, 128, 10**6])
def test_on_chip_traffic_is_what_a_tiled_product_reads(model: str, phase: str, tile: int) -> None:
    """Counted once more from the sizes alone: for each tile of the result, a strip of either operand."""
    step = step_of(model, phase, batch=3, seq_len=64).apply(technique(f"memory-levels:tile={tile},bandwidth=1TB/s"))
    seen = 0
    for operator, _ in step.graph:
        moved, sizes = operator.byte_count(level=Level.CHIP), operator.space.sizes
        if operator.kind is not Kind.MATMUL or operator.name in ("qk_matmul", "sv_matmul"):
            assert moved == 0
            continue
        seen += 1
        tokens = 3 if operator.name == "lm_head" else 3 * sizes["s"]
        routed = operator.name.startswith("expert")
        matrices = sizes["X"] if routed else Integer(1)
        rows = tokens * (sizes["K"] if routed else 1) / matrices
        inner, width = SHAPES[operator.name]
        inner, width = (Mul(*(sizes[axis] for axis in axes.split())) for axes in (inner, width))
        assert operator.flop_count == 2 * matrices * rows * inner * width
        high, wide = Min(rows, tile), Min(width, tile)
        strips = matrices * (rows / high) * (width / wide) * (high + wide) * inner
        assert moved == strips * 2, operator.name
    assert seen >= 6


def test_a_tile_as_large_as_the_matrices_reads_every_operand_once() -> None:
    step = step_of("llama-2-7b", batch=4).apply(technique("memory-levels:tile=1000000,bandwidth=1TB/s"))
    up = step.graph["up_proj"]
    assert up.byte_count(level=Level.CHIP) == up.byte_count(None, "read")


@pytest.mark.slow
def test_the_tile_from_which_the_chip_ceiling_no_longer_binds() -> None:
    """``B_t = P (a + w) / (16 BW_c)``, in letters from the crossover and in numbers against a grid."""
    symbolic = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(technique("memory-levels"))
    up = symbolic.symbolic["up_proj"]
    whole = up.byte_count(level=Level.CHIP).xreplace(dict.fromkeys(up.byte_count(level=Level.CHIP).atoms(Min), symbols.B_t))
    (tile,) = solve(whole / symbols.BW_c - up.flop_count / symbols.P, symbols.B_t)
    assert simplify(tile - symbols.P * (symbols.a + symbols.w) / (16 * symbols.BW_c)) == 0

    step = step_of("llama-2-7b", "prefill", seq_len=2048)
    after = step.apply(technique("memory-levels:bandwidth=7TB/s"))
    answer = payoff(step, after, over="tile", hardware=A100, operator="up_proj")
    edge = Rational(312 * 32, 16 * 7)
    assert [(one.low, one.high, one.bound) for one in answer.intervals[:1]] == [(1, edge, "loses")]
    assert answer.intervals[1].bound == SAME
    for side in (1, 8, 64, 89, 90, 128, 4096, 20000):
        fixed = step.apply(technique(f"memory-levels:tile={side},bandwidth=7TB/s"))
        assert seconds(fixed, "up_proj") / seconds(step, "up_proj") == 1 / answer.speedup_expr(side)
        assert (seconds(fixed, "up_proj") > seconds(step, "up_proj")) == (side < edge)
    free = step.apply(technique("memory-levels:tile=128"))
    faster = payoff(step, free, over="chip_bandwidth", hardware=A100, operator="up_proj")
    assert faster.edges_expr == (Rational(312 * 10**12 * 32, 16 * 128),)


@pytest.mark.slow
def test_tiles_of_experts_follow_the_experts_that_are_touched() -> None:
    """Rows per expert saturate twice over the batch: until all experts are touched, and until a tile is full."""
    free = open_step("mixtral-8x7b-v0.1")
    change = technique("memory-levels:tile=4,bandwidth=1TB/s")
    answer = payoff(free, free.apply(change), over="batch", hardware=A100, operator="expert_up_proj")
    for batch in (1, 3, 4, 5, 9, 15, 16, 17, 40, 1000):
        step = step_of("mixtral-8x7b-v0.1", batch=batch)
        assert answer.speedup_expr(batch) == seconds(step, "expert_up_proj") / seconds(step.apply(change), "expert_up_proj"), batch
    assert answer.speedup_expr(1000) < 1


def test_a_sweep_over_a_parameter_takes_the_place_of_its_number() -> None:
    found = symroof.sweep(
        SMALL, A100, {"memory_efficiency": [0.25, 1.0]}, batch=1, seq_len=128, techniques=(technique("efficiency:memory=0.5"),), **WIDTHS
    )
    for share in (0.25, 1.0):
        wanted = seconds(step_of().apply(technique(f"efficiency:memory={share}")))
        assert abs(float(found.time.sel(memory_efficiency=share).item()) / float(wanted) - 1) < 1e-12


def test_on_chip_ceilings_refuse_what_does_not_fit() -> None:
    step = step_of()
    once = step.apply(technique(TEXTS["memory-levels"]))
    with pytest.raises(InputError, match="apply it once"):
        once.apply(technique(TEXTS["memory-levels"]))
    with pytest.raises(DeviceError, match="chip_bandwidth"):
        symroof.analyze(step.apply(technique("memory-levels:tile=16")), A100)
    for text in ("memory-levels:tile=0", "memory-levels:tile=1.5", "memory-levels:tile=128,bandwidth=0", "memory-levels:bandwidth=1us"):
        with pytest.raises(InputError):
            technique(text)


def test_quantized_weights_are_read_from_the_chip_as_narrow() -> None:
    step = step_of("llama-2-7b", batch=64).apply(*chain(["quantize:weights=4,group=128 memory-levels:tile=64,bandwidth=19.5TB/s"]))
    up = step.graph["up_proj"]
    strips = 11008 // 64
    assert up.byte_count(Storage.WEIGHT, level=Level.CHIP) == up.byte_count(Storage.WEIGHT) == 4096 * 11008 * (4 + Rational(16, 128)) / 8
    assert up.byte_count(Storage.ACTIVATION, level=Level.CHIP) == 64 * 4096 * 2 * strips


# all of them together, over random chains


@pytest.mark.slow
def test_random_chains_agree_with_points_in_between() -> None:
    """The time in closed form over the batch is the time of the engine at that batch, whatever ceilings there are."""
    draw = random.Random(6)
    for _ in range(6):
        model = draw.choice(("opt-125m", "mixtral-8x7b-v0.1"))
        texts = draw.sample([*TEXTS.values()], draw.randint(1, 5))
        before = open_step(model)
        found = payoff(before, before.apply(*chain(texts)), over="batch", hardware=A100)
        for low, high in pairwise([1, 7, 60, 300, 5000]):
            batch = draw.randint(low, high)
            single = step_of(model, batch=batch)
            assert found.speedup_expr(batch) == seconds(single) / seconds(single.apply(*chain(texts)))


def test_symbols_of_the_family_have_letters_of_their_own() -> None:
    every = [*(technique(name) for name in TEXTS if name not in ("efficiency", "no-overlap")), technique("efficiency:compute,memory,link")]
    letters = [letter for one in every for letter in one.free]
    assert len(letters) == len(set(letters)) == 9
    assert all(isinstance(letter, Symbol) and letter in symbols.VOCABULARY for letter in letters)
