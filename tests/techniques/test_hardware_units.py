"""Scaled hardware, data formats, processing in memory, resident weights: what moves, what stays, and when it pays."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from sympy import Expr, Integer, Rational, ceiling

import symroof
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError
from symroof.operators.tensor import Level, Storage
from symroof.questions.placement import best_split
from symroof.roof.ledger import WORK
from symroof.symbols import M, R, b, f_M
from symroof.techniques.hardware.data_format import DataFormat
from symroof.techniques.hardware.resident_weights import ResidentWeights
from symroof.techniques.registry import chain, technique

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-6.7b")
A100, A6000 = "a100-sxm-80gb", "survey/nvidia_A6000"
EVERY = ("scale-hardware:peak=1,bandwidth=1,buffer=1", "pim:units=100", "resident-weights:bandwidth=80TB/s")


def step(name: str, phase: str = "decode", **options: object) -> Step:
    return getattr(symroof.load_model(name), phase)(**WIDTHS, **options)


def work(one: Step) -> tuple:
    graph = one.graph
    return graph.flop_count, graph.parameter_count(), graph.kv_memory(), graph.activation_memory()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", EVERY)
def test_hardware_leaves_the_work_alone(name: str, text: str) -> None:
    plain = step(name, batch=4, seq_len=256)
    after = plain.apply(technique(text))
    assert work(after) == work(plain)
    assert after.graph.weight_memory() == (0 if text.startswith("resident") else plain.graph.weight_memory())
    for (operator, _), (had, _) in zip(after.graph, plain.graph, strict=True):
        assert operator.name == had.name
        for storage in Storage:
            moved = sum(operator.byte_count(storage, level=level) for level in Level)
            assert moved == had.byte_count(storage)


# scale-hardware


def test_factors_of_one_are_the_device() -> None:
    plain = step("llama-2-7b", "prefill", batch=2, seq_len=512, flash_attention=True)
    after = plain.apply(technique("scale-hardware:peak=1,bandwidth=1,buffer=1"))
    times = [[placed.time_expr for placed in symroof.analyze(one, A100)] for one in (plain, after)]
    assert times[0] == times[1]


@pytest.mark.parametrize(("peak", "bandwidth"), [("2", "1"), ("1", "3"), ("3/2", "5/4"), ("1/10", "10")])
def test_factors_are_another_device(peak: str, bandwidth: str) -> None:
    plain = step("llama-3-8b", batch=32, seq_len=512)
    after = symroof.analyze(plain.apply(technique(f"scale-hardware:peak={peak},bandwidth={bandwidth}")), A100)
    for had, has in zip(symroof.analyze(plain, A100), after, strict=True):
        factors = {resource: Rational(peak if resource in WORK else bandwidth) for resource in had.seconds_exprs}
        assert has.time_expr == max(taken / factors[resource] for resource, taken in had.seconds_exprs.items())


def test_the_survey_s_figure_20() -> None:
    """Three times the bandwidth of the A6000: the knee from 201.6 to 67.2, and intensity 50 gains three times."""
    plain = step("llama-2-13b", batch=50, seq_len=1024)
    edges = {}
    for factor in (1, 3):
        scaled = plain.apply(technique(f"scale-hardware:bandwidth={factor}"))
        placed = symroof.analyze(scaled, A6000)["q_proj"]
        edges[factor] = placed.peak_expr / (placed.bandwidth_expr * placed.ceilings.factor(Level.MEMORY))
    assert [f"{float(edges[factor]):.1f}" for factor in (1, 3)] == ["201.6", "67.2"]
    times = [symroof.analyze(one, A6000)["q_proj"] for one in (plain, plain.apply(technique("scale-hardware:bandwidth=3")))]
    assert 48 < times[0].intensity_expr < 50
    assert times[0].time_expr == 3 * times[1].time_expr


def test_the_critical_batch_goes_with_peak_over_bandwidth() -> None:
    plain = step("llama-2-13b", seq_len=1024)
    value = {text: symroof.crossover(plain.apply(technique(text)), "up_proj", over="batch", hardware=A6000).value_expr for text in (
        "scale-hardware:bandwidth=1", "scale-hardware:bandwidth=3", "scale-hardware:peak=3", "scale-hardware:peak=3,bandwidth=3",
    )}  # fmt: skip
    one, fast, strong, both = value.values()
    assert both == one
    assert fast < one / 3 < one < 3 * one < strong
    found = symroof.payoff(step("llama-2-13b", batch=16, seq_len=64), step("llama-2-13b", batch=16, seq_len=64).apply(
        technique("scale-hardware:bandwidth")), over="bandwidth_factor", hardware=A6000, operator="up_proj",
    )  # fmt: skip
    assert found.edges_expr == (1,)


def test_the_buffer_is_in_the_blocks_alone() -> None:
    plain = step("llama-2-7b", "prefill", batch=1, seq_len=2048).apply(technique("flash-attention:reread=memory"))
    scaled = plain.apply(technique("scale-hardware:buffer"))
    assert {M, f_M} <= scaled.symbolic.definitions[R].free_symbols
    small = symroof.analyze(plain.apply(technique("scale-hardware:buffer=1/8")), A100)
    had = symroof.analyze(plain, A100)
    assert small["fused_attention"].operator.byte_count() > had["fused_attention"].operator.byte_count()
    assert {one.name for one, other in zip(small, had, strict=True) if one.time_expr != other.time_expr} <= {"fused_attention"}
    assert small.values[R] < had.values[R]


# data-format


@pytest.mark.parametrize("name", MODELS)
def test_a_format_narrows_its_operands_alone(name: str) -> None:
    plain = step(name, batch=4, seq_len=256)
    after = plain.apply(technique("data-format:bits=4,group=32,peak=1248TFLOP/s"))
    assert after.graph.flop_count == plain.graph.flop_count
    assert after.graph.kv_memory() == plain.graph.kv_memory()
    assert after.graph.byte_count(Storage.KV_CACHE) == plain.graph.byte_count(Storage.KV_CACHE)
    assert after.graph.byte_count(Storage.ACTIVATION) == plain.graph.byte_count(Storage.ACTIVATION) * Rational(17, 64)
    assert after["lm_head"].byte_count(Storage.WEIGHT) == plain["lm_head"].byte_count(Storage.WEIGHT)
    for operator, _ in after.graph:
        weights = [one.tensor for one in operator.reads if one.tensor.storage is Storage.WEIGHT and one.tensor.name.endswith(".weight")]
        narrow = bool(weights) and all(one.bits == 4 for one in weights)
        assert (operator.unit is not None) == narrow, operator.name
    assert after["qk_matmul"].unit is None


def test_the_microscaling_format_takes_four_and_a_quarter_bits() -> None:
    """OCP microscaling formats, arXiv:2310.10537: 8-bit scales for 32 elements; 4.25, 6.25 and 8.25 bits."""
    plain = step("llama-2-7b", batch=1, seq_len=64)
    for bits in (4, 6, 8):
        after = plain.apply(technique(f"data-format:bits={bits},group=32,peak=1PFLOP/s".replace("1PFLOP/s", "1000TFLOP/s")))
        assert after["up_proj"].byte_count() / plain["up_proj"].byte_count() == (Rational(bits) + Rational(1, 4)) / 16


def test_sixteen_bits_at_the_same_peak_change_nothing() -> None:
    plain = step("llama-3-8b", batch=300, seq_len=64)
    after = plain.apply(technique("data-format:bits=16,operands=all,peak=312TFLOP/s"))
    times = [[placed.time_expr for placed in symroof.analyze(one, A100)] for one in (plain, after)]
    assert times[0] == times[1]


def test_the_example_runs_at_a_peak_that_its_device_states() -> None:
    example = DataFormat.example
    assert example.settings["peak"] == symroof.load_hardware(example.hardware).peaks[f"int{example.settings['bits']}"].dense.value


@pytest.mark.parametrize("peak", [100, 312, 1248])
def test_a_format_pays_where_the_closed_form_says(peak: int) -> None:
    text = f"data-format:bits=4,group=32,peak={peak}TFLOP/s"
    d, f = Integer(4096), Integer(11008)
    # its compute time against the old bytes
    edge = 2 * d * f / (2 * d * f * 2039 * Integer(10) ** 9 / (peak * Integer(10) ** 12) - 2 * (d + f))
    for batch in (1, 10, 49, 50, 150, 161, 162, 400):
        plain = step("llama-2-7b", batch=batch, seq_len=64)
        had, has = (symroof.analyze(one, A100)["up_proj"].time_expr for one in (plain, plain.apply(technique(text))))
        if peak < 312:
            assert (has < had) == (batch < edge)
        elif peak == 312:
            assert (has < had, has == had) == (batch < edge, batch > edge)
        else:
            assert has < had


# processing in memory


def test_the_survey_s_figures_of_hbm_pim() -> None:
    """The survey, section 6.2: 2 TB/s inside against 307 GB/s for a cube, 1.2 TFLOP/s; it pays at 1 to 2 FLOP/byte."""
    cube, aim, upmem = (symroof.load_hardware(name) for name in ("hbm-pim", "aim", "upmem"))
    peak, inside = cube.machine.fastest(("fp16",))[1], cube.machine.memory_bandwidth
    assert (peak, inside) == (Rational(12, 10) * 10**12, 2 * 10**12)
    assert peak / inside == Rational(3, 5)
    interface = Integer(307 * 10**9)
    assert f"{float(peak / interface):.1f}" == "3.9"
    fast = symroof.load_hardware(A100)  # whatever computes behind the interface: its peak is out of the way
    behind = replace(fast, bandwidth_figure=replace(fast.bandwidth_figure, value=interface))
    plain = symroof.load_model("llama-2-7b").decode(seq_len=1024, **WIDTHS)
    found = symroof.payoff(plain, plain.apply(technique("pim:operators=up_proj")), over="batch", hardware=behind, operator="up_proj")
    assert [one.bound for one in found.intervals] == ["pays", "loses"]

    def intensity(batch: Integer) -> Expr:
        operator = plain.symbolic.bind({**plain.values, b: batch})["up_proj"]
        return operator.flop_count / operator.byte_count()

    assert intensity(found.edges_expr[0]) == peak / interface, "it pays while the intensity is below 3.9 FLOP/byte"
    for batch in (1, 2):  # at 1 to 2 FLOP/byte
        assert 0 < batch - intensity(Integer(batch)) < Rational(1, 500)
        assert found.speedup_expr(batch) == peak / (intensity(Integer(batch)) * interface) > Rational(19, 10)
    assert (aim.machine.fastest(("bf16",))[1], aim.machine.memory_bandwidth) == (10**12, 10**12)
    assert upmem.machine.memory_bandwidth == Rational(17, 10) * 10**12
    assert upmem.machine.fastest(("int8",))[1] == 2556 * 350 * 10**6  # one operation per DPU and cycle


@pytest.mark.parametrize("name", MODELS)
def test_only_the_chosen_operators_move(name: str) -> None:
    plain = step(name, batch=2, seq_len=256)
    after = plain.apply(technique("pim:units=5"))
    assert {one.name for one, _ in after.graph if one.unit is not None} == {"qk_matmul", "sv_matmul"}
    had, has = (symroof.analyze(one, A100) for one in (plain, after))
    for one, other in zip(had, has, strict=True):
        if one.name in ("qk_matmul", "sv_matmul"):
            flops, moved = one.operator.flop_count, one.operator.byte_count()
            assert other.time_expr == max(flops / Rational(6 * 10**12), moved / Rational(10**13))
        else:
            assert other.time_expr == one.time_expr


@pytest.mark.slow
def test_a_unit_pays_below_its_peak_over_the_device_s_bandwidth() -> None:
    edge = Rational(6 * 10**12, 2039 * 10**9)
    for batch in range(1, 9):
        plain = step("llama-2-7b", batch=batch, seq_len=256)
        after = plain.apply(technique("pim:units=5,operators=up_proj+lm_head"))
        for part in ("up_proj", "lm_head"):
            had, has = (symroof.analyze(one, A100)[part] for one in (plain, after))
            assert (has.time_expr < had.time_expr) == (had.intensity_expr < edge)
    plain = step("llama-2-7b", seq_len=256)
    found = symroof.payoff(plain, plain.apply(technique("pim:units=5,operators=up_proj")), over="batch", hardware=A100, operator="up_proj")
    d, f = Integer(4096), Integer(11008)
    assert found.edges_expr == (edge * 2 * d * f / (2 * d * f - edge * 2 * (d + f)),)


def test_its_figures_may_be_letters() -> None:
    plain = step("llama-2-7b", batch=1, seq_len=256)
    for parameter, over in (("peak", "unit_peak"), ("bandwidth", "unit_bandwidth"), ("units", "degree")):
        after = plain.apply(technique(f"pim:operators=up_proj,{parameter}"))
        found = symroof.payoff(plain, after, over=over, hardware=A100, operator="up_proj")
        assert [one.bound for one in found.intervals] in (["loses", "pays"], ["loses"])
    given = plain.apply(technique("pim:operators=up_proj,peak=3TFLOP/s,bandwidth=4TB/s"))
    flops, moved = plain["up_proj"].flop_count, plain["up_proj"].byte_count()
    assert symroof.analyze(given, A100)["up_proj"].time_expr == max(flops / Rational(3 * 10**12), moved / Rational(4 * 10**12))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-6.7b"])
def test_the_best_split_is_the_best_of_all(name: str) -> None:
    five = symroof.load_hardware("hbm-pim").machine.scaled(Integer(5))
    for batch in (1, 2, 3, 5):
        plain = step(name, batch=batch, seq_len=512)
        split = best_split(plain, A100, five)
        chosen = technique(f"pim:units=5,operators={'+'.join(split.operators)}")
        assert symroof.analyze(plain.apply(chosen), A100).total.time_expr == split.time_expr
        for width in (1, 2):  # no change of one operator or two is better
            for changed in combinations(split.places, width):
                other = split.time_expr + sum((one.on_device_expr if one.moves else one.on_unit_expr) - one.time_expr for one in changed)
                assert other >= split.time_expr
        assert split.time_expr == sum(min(one.on_device_expr, one.on_unit_expr) for one in split.places)
        assert split.speedup >= 1
    alone = best_split(step(name, batch=1, seq_len=512), A100, "upmem")
    assert (alone.operators, alone.speedup) == ((), 1)  # integers alone
    with pytest.raises(InputError, match="depends on b"):
        best_split(step(name, seq_len=512), A100, five)


# resident weights


@pytest.mark.parametrize("name", MODELS)
def test_weights_cross_the_chip_and_nothing_else_does(name: str) -> None:
    plain = step(name, batch=3, seq_len=256)
    after = plain.apply(technique("resident-weights:bandwidth=80TB/s"))
    for (operator, _), (had, _) in zip(after.graph, plain.graph, strict=True):
        assert operator.byte_count(level=Level.CHIP) == had.byte_count(Storage.WEIGHT)
        assert operator.byte_count() == had.byte_count() - had.byte_count(Storage.WEIGHT)
    for placed, had in zip(symroof.analyze(after, A100), symroof.analyze(plain, A100), strict=True):
        assert placed.data_type == had.data_type
        weights, moved = had.operator.byte_count(Storage.WEIGHT), had.operator.byte_count()
        parts = [weights / Rational(80 * 10**12), (moved - weights) / had.bandwidth_expr, had.seconds_exprs.get("compute", 0)]
        assert placed.time_expr == max(parts)


def test_the_width_of_resident_weights_still_decides_the_peak() -> None:
    plain = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, weight_bits=16, activation_bits=8, kv_bits=8)
    after = plain.apply(technique("resident-weights:bandwidth=80TB/s"))
    assert symroof.analyze(after, A100)["up_proj"].data_type == "fp16"


def test_how_many_chips_hold_a_model() -> None:
    for name, bits in (("llama-2-7b", 16), ("llama-2-70b", 8), ("mixtral-8x7b-v0.1", 16)):
        whole = symroof.load_model(name).decode(weight_bits=bits, batch=1, seq_len=64, activation_bits=16, kv_bits=16)
        size = symroof.load_model(name).parameters * bits // 8
        chips = ResidentWeights(capacity=230 * 10**6).chips_for(whole)
        assert chips == ceiling(Rational(size, 230 * 10**6))
        whole.apply(technique(f"resident-weights:bandwidth=80TB/s,capacity=230MB,chips={chips}"))
        with pytest.raises(InputError, match=f"expected chips={chips} or more"):
            whole.apply(technique(f"resident-weights:bandwidth=80TB/s,capacity=230MB,chips={chips - 1}"))


@pytest.mark.parametrize("batch", [1, 8, 64, 200])
def test_resident_weights_pay_from_the_bandwidth_the_formula_says(batch: int) -> None:
    plain = step("llama-2-7b", batch=batch, seq_len=64)
    up = symroof.analyze(plain, A100)["up_proj"]
    found = symroof.payoff(plain, plain.apply(technique("resident-weights")), over="chip_bandwidth", hardware=A100, operator="up_proj")
    weights = up.operator.byte_count(Storage.WEIGHT)
    assert found.edges_expr == (weights / up.time_expr,)
    for factor in (Rational(1, 2), Rational(2)):
        value = found.edges_expr[0] * factor
        after = plain.apply(ResidentWeights(bandwidth=value))
        gain = up.time_expr - symroof.analyze(after, A100)["up_proj"].time_expr
        assert (gain > 0, gain < 0) == (factor > 1 and up.bound == "memory", factor < 1)


# refusals and chains


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("scale-hardware", InputError, "give a factor for peak, bandwidth or buffer"),
        ("pim:unit=hbmpim", DeviceError, "did you mean hbm-pim?"),
        ("pim:operators=up_prj", InputError, "did you mean up_proj"),
        ("pim:unit=upmem", DeviceError, "states no peak for any of fp16, bf16, fp32, fp64; it has int8"),
        ("pim", InputError, "expected units=2 or more"),
        ("resident-weights:bandwidth=0", InputError, "expected a number above 0"),
        ("data-format:bits=4,operands=weights", InputError, "weights+activations"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        step("llama-2-7b", batch=8, seq_len=2048).apply(technique(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_attention_names_what_moves() -> None:
    with pytest.raises(InputError, match="has no attention; name the operators"):
        step("mamba-130m", batch=1, seq_len=64).apply(technique("pim"))


def test_integer_units_run_what_is_narrow_enough() -> None:
    narrow = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, weight_bits=8, activation_bits=8, kv_bits=8)
    placed = symroof.analyze(narrow.apply(technique("pim:unit=upmem")), A100)["qk_matmul"]
    assert (placed.data_type, placed.peak_expr) == ("int8", Rational(8946, 10) * 10**9)


def test_they_chain_with_one_another() -> None:
    plain = step("llama-2-7b", batch=2, seq_len=128)
    texts = ["quantize:weights=4", "pim:units=5", "scale-hardware:bandwidth=2", "resident-weights:bandwidth=80TB/s"]
    first, second = (symroof.analyze(plain.apply(*chain(order)), A100).total.time_expr for order in (texts, texts[::-1]))
    assert first == second
    mixed = plain.apply(*chain(["mixed-batch:chunk=16 pim:units=5"]))
    assert {one.name for one, _ in mixed.graph if one.unit is not None} == {
        "qk_matmul", "qk_matmul.chunk", "sv_matmul", "sv_matmul.chunk",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["pim:units=5", "data-format:bits=4,group=32,peak=1248TFLOP/s", "resident-weights:bandwidth=80TB/s"])
def test_sweeps_see_the_same_units(text: str) -> None:
    found = symroof.sweep("llama-3-8b", A100, {"batch": [1, 4], "seq_len": [512]}, metrics=["time"], techniques=chain([text]), **WIDTHS)
    exact = symroof.analyze(step("llama-3-8b", batch=4, seq_len=512).apply(technique(text)), A100).total.time_expr
    assert float(found["time"].sel(batch=4).values.ravel()[0]) == pytest.approx(float(exact), rel=1e-12)


def test_a_unit_without_structured_sparsity_is_refused() -> None:
    sparse = step("llama-2-7b", batch=1, seq_len=256).apply(technique("sparsify:pattern=2:4"))
    with pytest.raises(DeviceError, match="states no peak for structured sparsity"):
        sparse.apply(technique("pim:operators=up_proj"))
