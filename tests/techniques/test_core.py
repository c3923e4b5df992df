"""Techniques as such: their texts, their letters, chains of them, and where they pay against brute force."""

from __future__ import annotations

import builtins
import pkgutil
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sympy import Float, Integer, Rational, Symbol, oo

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import DeviceError, EinsumError, InputError, SymroofError
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import SYMBOLIC
from symroof.operators.ceilings import IDEAL, Ceilings
from symroof.operators.facts import Resource
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level
from symroof.questions.payoff import LOSES, PAYS, SAME, counted, payoff
from symroof.questions.scaling import strong_scaling
from symroof.roof.costs import rate_values
from symroof.roof.ledger import binding, combined, machine_of, overhead, seconds_of
from symroof.techniques.compression.quantize import Quantize
from symroof.techniques.registry import FAMILIES, chain, families, family_of, names, technique, technique_class
from symroof.techniques.technique import Example, Technique, exact, number, refuse_graph, word

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100 = "a100-sxm-80gb"
SMALL = "opt-125m"


def step_of(model: str = SMALL, phase: str = "decode", **inputs: int) -> Step:
    return getattr(symroof.load_model(model), phase)(**{**WIDTHS, "seq_len": 128, **inputs})


def seconds(step: Step, device: str = A100):
    return symroof.analyze(step, device).total.time_expr / step.graph.tokens


# texts

PIECES = st.sampled_from(
    [
        *("quantize", "efficiency", "launch-overhead", "no-overlap", "energy", ":", ",", "=", " ", "weights", "group", "keep", "memory"),
        *(
            "launch",
            "4",
            "0",
            "-1",
            "1e400",
            "1/0",
            "0x10",
            "∞",
            "４",
            "٣",
            "nan",
            "inf",
            "GB/s",
            "GiB/s",
            "us",
            "µs",
            "pJ",
            "W",
            "1" * 100,
        ),
        *("__import__('os')", "\n", "\x00", "\ud800", "e", "E9", ".", "/", "/3", "128", "free", "counted", "dequantize", "1_0", "True"),
    ]
)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(PIECES, max_size=9).map("".join),
        st.lists(PIECES, max_size=6).map(lambda parts: "quantize:weights=" + "".join(parts)),
    )
)
@example("quantize:weights=1/0")
@example("quantize:weights=" + "9" * 100)
@example("quantize:weights=" + "9" * 5000)
@example("quantize:weights=1e-99999")
@example("quantize:weights=4,weights=4")
@example("quantize:weights=0NAN")
@example("efficiency:memory=" + "0." + "0" * 59 + "1")
def test_any_text_is_a_technique_or_one_line(text: str) -> None:
    try:
        made = technique(text)
    except InputError as error:
        (line,) = str(error).splitlines() or [""]
        assert 0 < len(line) < 500
        return
    assert isinstance(made, Technique)
    assert technique(made.text) == made
    assert hash(made) == hash(technique(made.text))


def test_no_text_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def caught(*_: object, **__: object) -> None:
        raise AssertionError("evaluated")

    technique("quantize:weights=4")  # its module is imported by now
    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(builtins, name, caught)
    for value in ("__import__('os').system('true')", "2**10", "1+1", "(4)", "4 ", "w", "q_w", "0x10", "4,5"):
        if value == "4 ":
            assert technique(f"quantize:weights={value}").weights == 4
            continue
        with pytest.raises(InputError):
            technique(f"quantize:weights={value}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("launch-overhead:launch=5us", Rational(5, 10**6)),
        ("launch-overhead:launch=5µs", Rational(5, 10**6)),
        ("launch-overhead:launch=0.005ms", Rational(5, 10**6)),
        ("launch-overhead:launch=1/200000", Rational(5, 10**6)),
        ("launch-overhead:launch=1/200us", Rational(5, 10**9)),
        ("launch-overhead:launch=5e-6", Rational(5, 10**6)),
        ("launch-overhead:launch=0", Integer(0)),
        ("memory-levels:bandwidth=25GB/s", Integer(25 * 10**9)),
        ("memory-levels:bandwidth=25GiB/s", Integer(25 * 2**30)),
        ("memory-levels:bandwidth=25 GB/s", Integer(25 * 10**9)),
        ("memory-levels:bandwidth=25000MB/s", Integer(25 * 10**9)),
        ("energy:flop=0.5pJ", Rational(1, 2 * 10**12)),
        ("energy:power=1kW", Integer(1000)),
        ("quantize:weights=0.1", Rational(1, 10)),
        ("quantize:weights=1.58", Rational(158, 100)),
    ],
)
def test_numbers_and_units_are_read_exactly(text: str, value) -> None:
    key = text.partition(":")[2].partition("=")[0]
    assert getattr(technique(text), key) == value


@pytest.mark.parametrize(
    "text",
    [
        *("launch-overhead:launch=5GB/s", "launch-overhead:launch=5Kius", "launch-overhead:launch=5MB", "memory-levels:bandwidth=25GB"),
        *("memory-levels:bandwidth=25Gb/s", "quantize:weights=4byte", "quantize:weights=4GB", "energy:flop=1W", "energy:flop=1 p J"),
        *("quantize:weights=1/0", "quantize:weights=-4", "quantize:weights=+4", "quantize:weights=４", "quantize:weights=0", "quantize"),
        *(
            "quantize:weights=4,group=1.5",
            "quantize:weights=1e31",
            "quantize:weights=4,weights=5",
            "quantize:weights=4,keep",
            "no-overlap:x=1",
        ),
        *("", ":", "quantize:", "quantize:,", "quantize:=4", "Quantize:weights=4", "quantize weights=4", "quantize:weights", "x" * 3000),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(text: str) -> None:
    if text == "quantize:weights":  # the width stays a symbol
        assert technique(text).free == (symbols.q_w,)
        return
    with pytest.raises(InputError) as error:
        technique(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "value",
    [10**5000, -(10**5000), Fraction(1, 10**5000), float("nan"), float("inf"), 1e300, True, "4", None, oo, [4]],
    ids=[str(place) for place in range(11)],
)
def test_numbers_from_python_are_checked_too(value: object) -> None:
    if value is None:
        with pytest.raises(InputError, match="give weights"):
            Quantize(weights=None)
        return
    if isinstance(value, Fraction):
        assert Quantize(weights=value).weights > 0
        return
    with pytest.raises(InputError) as error:
        Quantize(weights=value)
    assert len(str(error.value)) < 300


def test_exact_tells_the_range() -> None:
    assert exact("x", Fraction(1, 3), symbols.alpha, False) == Rational(1, 3)
    assert exact("x", 1, symbols.alpha, False) == 1
    assert exact("x", 0, symbols.t_0, True) == 0
    assert exact("x", symbols.alpha, symbols.alpha, False) == symbols.alpha
    for value, symbol, told in (
        (0, symbols.alpha, "above 0, at most 1"),
        (2.5, symbols.G, "a whole number from 1 on"),
        (0, symbols.t_0, "above 0"),
    ):
        with pytest.raises(InputError, match=told):
            exact("x", value, symbol, False)
    with pytest.raises(InputError, match="expected a number"):
        exact("x", symbols.b, symbols.alpha, False)
    with pytest.raises(InputError, match="expected a number"):
        exact("x", Float("0.5"), symbols.alpha, False)


def test_the_registry_is_whole() -> None:
    for package in FAMILIES:
        assert {*package.HELPERS} <= {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert len(set(names())) == len(names()) == sum(len(members) for members in families().values())
    for name in names():
        kind = technique_class(name)
        assert (kind.name, kind.__module__) == (name, f"symroof.techniques.{family_of(name)}.{name.replace('-', '_')}")
        assert kind.summary
        assert isinstance(kind.example, Example)
        made = kind(**kind.example.settings)
        assert technique(made.text) == made
    assert [one.text for one in chain(["quantize:weights=4 no-overlap", "no-overlap", ""])] == [
        "quantize:weights=4",
        "no-overlap",
        "no-overlap",
    ]
    with pytest.raises(InputError, match="did you mean no-overlap"):
        chain(["no-overlp"])


# letters


@dataclass(frozen=True)
class Scaled(Technique):
    """A stand-in: every operator's traffic and the tokens times a factor."""

    name = "scaled"
    summary = "for tests"

    factor: object = number(symbols.f_BW)
    spare: object = number(symbols.f_P, optional=True)
    how: str = word("all", ("all", "some"))

    def rewrite(self, graph: Graph, given) -> Graph:
        def more(operator: Operator, _: object) -> Operator:
            return replace(operator, reads=tuple(replace(one, repeats=one.repeats * given["factor"]) for one in operator.reads))

        return graph.each(more)


@dataclass(frozen=True)
class Changed(Technique):
    """A stand-in for a sweep: any change of a step."""

    name = "changed"
    summary = "for tests"

    how: Callable[[Step], Step] = lambda step: step

    def rewrite(self, graph: Graph, given) -> Graph:
        raise refuse_graph(self)

    def on_step(self, step: Step) -> Step:
        return self.how(step)


def test_a_letter_stands_for_its_number_and_a_second_use_for_itself() -> None:
    step = step_of(batch=1)
    once, twice = step.apply(Scaled(3)), step.apply(Scaled(3), Scaled(5))
    assert once.symbolic.definitions[symbols.f_BW] == 3
    up = next(iter(step.symbolic))[0].name
    reads = lambda one: one.graph[up].byte_count(None, "read")  # noqa: E731
    assert reads(once) == 3 * reads(step)
    assert reads(twice) == 15 * reads(step)
    assert symbols.f_BW in twice.symbolic[up].byte_count().free_symbols
    free_first = step.apply(Scaled(), Scaled(5)).symbolic
    assert symbols.f_BW not in free_first.definitions
    assert free_first[up].byte_count(None, "read") == 5 * symbols.f_BW * step.symbolic[up].byte_count(None, "read")
    shared = step.apply(Scaled(3), Scaled())  # left out a second time, the letter is what it was
    assert reads(shared) == 9 * reads(step)
    assert Scaled(3).free == ()
    assert Scaled().free == (symbols.f_BW,)
    assert Scaled(3, spare=symbols.f_P).free == (symbols.f_P,)
    with pytest.raises(InputError, match="known: all, some"):
        Scaled(3, how="none")
    assert Scaled(Rational(1, 3), how="some").text == "scaled:factor=1/3,how=some"


def test_graphs_and_steps_apply_chains_alike_and_stay_untouched() -> None:
    step = step_of(batch=2)
    before = [operator.byte_count() for operator, _ in step.symbolic]
    several = chain(["quantize:weights=4,group=64", "efficiency:memory=0.5"])
    graph, changed = step.symbolic.apply(*several), step.apply(*several)
    assert [operator.byte_count() for operator, _ in graph] == [operator.byte_count() for operator, _ in changed.symbolic]
    assert graph.definitions == changed.symbolic.definitions
    assert [operator.byte_count() for operator, _ in step.symbolic] == before
    assert step.symbolic.definitions.keys() & {symbols.q_w, symbols.G} == set()
    assert step.apply() is step
    assert step.symbolic.apply() is step.symbolic
    assert len(changed.statements) == len(step.statements) + 2
    assert "needs the model" in str(refuse_graph(several[0]))


def test_binding_puts_definitions_in_and_leaves_what_is_open() -> None:
    letters = (
        symroof.load_model(SMALL)
        .decode(symbolic=True)
        .apply(*chain(["quantize:weights=4,group=64", "launch-overhead", "energy:flop=1pJ"]))
        .symbolic
    )
    bound = letters.bind({symbols.b: Integer(3)})
    used = set().union(*(operator.byte_count().free_symbols for operator, _ in bound))
    assert not used & {symbols.q_w, symbols.G, symbols.q_s, symbols.b}
    assert symbols.d in used
    assert bound.ceilings.launch == symbols.t_0
    assert bound.energy.flop == Rational(1, 10**12)
    assert bound.energy.byte == symbols.eps_B
    assert letters.bind({symbols.q_w: Integer(8)})["fc1" if "fc1" in {o.name for o, _ in letters} else "up_proj"].reads[1].tensor.bits == 8
    freed = letters.without_values(symbols.q_w, symbols.t_0)
    assert symbols.q_w not in freed.definitions
    assert symbols.G in freed.definitions
    assert {symbols.t_0, symbols.eps_B, symbols.q_w} <= letters.free_symbols
    nested = replace(letters, definitions={symbols.f_P: symbols.f_M * symbols.b, **letters.definitions})
    assert nested.bind({symbols.f_M: Integer(2)}).definitions[symbols.f_P] == 2 * symbols.b
    experts = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).symbolic
    assert experts.without_values(symbols.X).definitions == experts.definitions  # a formula is no number that was given


# ceilings


def test_levels_bandwidths_and_their_letters() -> None:
    device = load_hardware(A100)
    step = hosted(step_of(batch=1), Rational(1, 2))
    graph, host = step.symbolic, Resource.HOST
    assert graph.levels == (Level.MEMORY, Level.HOST)
    assert machine_of(graph, None).rate(host) == symbols.BW_h
    assert machine_of(graph, device).rate(host) == 32 * 10**9
    assert rate_values(step, machine_of(graph, device)) == {symbols.BW: device.bandwidth_expr, symbols.BW_h: Integer(32 * 10**9)}
    assert symbols.BW_h not in rate_values(step, machine_of(graph, device), [symbols.BW_h])
    assert machine_of(graph, device, free=[symbols.BW_h]).rate(host) == symbols.BW_h
    given = replace(graph, definitions={symbols.BW_h: Integer(1)})
    assert machine_of(given, device).rate(host) == 1
    assert symbols.BW_h not in rate_values(replace(step, symbolic=given), machine_of(given, device))
    assert device.machine.rate(Resource.LINK) == 300 * 10**9
    with pytest.raises(DeviceError, match="chip_bandwidth"):
        device.machine.rate(Resource.CHIP)
    unlinked = replace(device, links=())
    with pytest.raises(DeviceError, match="states no link"):
        machine_of(graph, unlinked)


def test_seconds_combine_as_the_ceilings_say() -> None:
    up = hosted(step_of(batch=1), Rational(1, 2)).graph[first_matmul()]
    ceilings = Ceilings(Rational(1, 2), {Level.HOST: Rational(1, 4)}, symbols.t_0)
    seconds, ideal = (seconds_of(up, SYMBOLIC, symbols.P, some) for some in (ceilings, IDEAL))
    assert list(seconds) == [Resource.COMPUTE, Resource.MEMORY, Resource.HOST]
    assert [seconds[name] / ideal[name] for name in seconds] == [2, 1, 4]
    assert set().union(*(value.free_symbols for value in seconds.values())) == {symbols.P, symbols.BW, symbols.BW_h}
    assert overhead(up, ceilings) == symbols.t_0
    numbers = {Resource.COMPUTE: Integer(3), Resource.MEMORY: Integer(3), Resource.HOST: Integer(2)}
    assert combined(numbers.values(), IDEAL, Integer(1)) == 4
    assert combined(numbers.values(), replace(IDEAL, overlap=False), Integer(1)) == 9
    assert combined([], IDEAL, Integer(1)) == 1
    assert binding(numbers) == "compute"
    assert binding(numbers, Integer(4)) == "overhead"
    assert binding({Resource.MEMORY: symbols.b}) == "memory"
    assert binding({Resource.MEMORY: symbols.b, Resource.COMPUTE: Integer(1)}) is None


# three ceilings


def first_matmul() -> str:
    return "up_proj" if "up_proj" in {operator.name for operator, _ in step_of().symbolic} else "fc1"


def hosted(step: Step, share: Rational) -> Step:
    """The step with a share of the weights of the first MLP product read over the link to the host."""
    name = first_matmul() if step.model == SMALL else "up_proj"

    def moved(operator: Operator, _: object) -> Operator:
        if operator.name != name:
            return operator
        weight = next(one for one in operator.reads if one.tensor.name.endswith(".weight"))
        parts = (replace(weight, repeats=1 - share), Access(replace(weight.tensor, level=Level.HOST), weight.axes, share))
        return replace(operator, reads=tuple(one for one in operator.reads if one is not weight) + parts)

    return replace(step, symbolic=step.symbolic.each(moved))


@pytest.mark.slow
@pytest.mark.parametrize("model", [SMALL, "llama-3-8b"])
def test_three_ceilings_agree_everywhere(model: str) -> None:
    """Memory, host and compute: analyze, regimes, payoff, crossover and sweep at random batches."""
    share = Rational(1, 32)
    name = first_matmul() if model == SMALL else "up_proj"
    change = lambda step: hosted(step, share)  # noqa: E731
    free = change(step_of(model))
    plain = step_of(model)
    whole = symroof.regimes(free, over="batch", hardware=A100)
    pays = payoff(plain, free, over="batch", hardware=A100, operator=name)
    crossing = symroof.crossover(free, name, over="batch", hardware=A100)
    draw, batches = random.Random(3), {1, 2, 10**6}
    edges = [*whole.knees_expr, *pays.edges_expr, *([crossing.value_expr] if crossing.value_expr else [])]
    batches |= {max(1, int(edge) + shift) for edge in edges for shift in (0, 1)} | {draw.randint(1, 3000) for _ in range(6)}
    seen = set()
    found = symroof.sweep(
        model,
        A100,
        {"batch": sorted(batches)},
        seq_len=128,
        per="operator",
        techniques=(Changed(change),),
        metrics=["time", "bound"],
        **WIDTHS,
    )
    for batch in sorted(batches):
        step = step_of(model, batch=batch)
        old, new = symroof.analyze(step, A100), symroof.analyze(change(step), A100)
        placed = new[name]
        seen.add(placed.bound)
        assert placed.time_expr == max(placed.seconds_exprs.values())
        assert whole.time_expr(batch) == new.total.time_expr
        assert pays.speedup_expr(batch) == old[name].time_expr / placed.time_expr
        assert crossing.bound_at(batch) == ("compute" if placed.bound == "compute" else "memory"), batch
        swept = found.sel(batch=batch, operator=name)
        assert abs(float(swept.time.item()) / float(placed.count_expr * placed.time_expr) - 1) < 1e-12
        slack = placed.seconds_exprs["compute"] - max(placed.seconds_exprs["memory"], placed.seconds_exprs["host"])
        named = found.bound.attrs["flag_meanings"].split()[int(swept.bound.item())]
        assert abs(float(slack / placed.time_expr)) < 1e-9 or named == placed.bound
    assert "compute" in seen
    assert "host" in seen


def test_the_host_bandwidth_is_asked_over_and_given() -> None:
    name = first_matmul()
    free = hosted(step_of(batch=8), Rational(1, 2))
    answer = payoff(step_of(batch=8), free, over="host_bandwidth", hardware=A100, operator=name)
    assert [one.bound for one in answer.intervals] in ([LOSES, PAYS], [LOSES, PAYS, SAME])
    edge = answer.edges_expr[0]
    for value in (edge / 2, edge, edge * 2):
        fixed = replace(free, symbolic=replace(free.symbolic, definitions={symbols.BW_h: value}))
        times = [symroof.analyze(step, A100)[name].time_expr for step in (step_of(batch=8), fixed)]
        assert times[0] / times[1] == answer.speedup_expr(value)
        assert (times[1] < times[0], times[1] == times[0]) == (value > edge, value == edge)
    swept = symroof.sweep(
        SMALL,
        A100,
        {"host_bandwidth": [1e9, 64e9]},
        seq_len=128,
        batch=8,
        techniques=(Changed(lambda step: hosted(step, Rational(1, 2))),),
        **WIDTHS,
    )
    fixed = replace(free, symbolic=replace(free.symbolic, definitions={symbols.BW_h: Integer(64 * 10**9)}))
    assert abs(float(swept.time.sel(host_bandwidth=64e9).item()) / float(seconds(fixed)) - 1) < 1e-12


def test_a_link_has_its_own_bandwidth_and_latency() -> None:
    def reduced(operator: Operator, _: object) -> tuple[Operator, ...]:
        if operator.name != "out_proj":
            return (operator,)
        result = replace(operator.result, level=Level.LINK)
        from symroof.operators.facts import Kind

        collective = Operator(
            "out_proj.all_reduce", Kind.COLLECTIVE, operator.space, (), (Access(result, repeats=Rational(3, 2)),), (), latency=symbols.t_l
        )
        return (operator, collective.made_from(operator))

    def linked(step: Step) -> Step:
        letters = step.symbolic.each(reduced)
        return replace(step, symbolic=replace(letters, definitions={**letters.definitions, symbols.t_l: Rational(1, 10**6)}))

    step = step_of("llama-2-7b", batch=16)
    placed = symroof.analyze(linked(step), A100)["out_proj.all_reduce"]
    assert placed.time_expr == Rational(3, 2) * 16 * 4096 * 2 / (300 * 10**9) + Rational(1, 10**6)
    assert placed.bound == "overhead"
    assert linked(step).graph.activation_memory() == step.graph.activation_memory()
    open_batch = step_of("llama-2-7b")
    whole = symroof.regimes(linked(open_batch), over="batch", hardware=A100)
    answer = payoff(open_batch, linked(open_batch), over="batch", hardware=A100, operator="out_proj")
    assert [one.bound for one in answer.intervals] == [LOSES]
    for batch in (1, 16, 200, 5000):
        single = linked(step_of("llama-2-7b", batch=batch))
        assert whole.time_expr(batch) == symroof.analyze(single, A100).total.time_expr
    found = symroof.sweep("llama-2-7b", A100, {"batch": [16]}, seq_len=128, techniques=(Changed(linked),), **WIDTHS)
    assert abs(float(found.time.item()) / float(seconds(linked(step))) - 1) < 1e-12
    with pytest.raises(InputError, match="only moves bytes over the link"):
        symroof.crossover(linked(open_batch), "out_proj.all_reduce", over="batch", hardware=A100)


# roofs


@pytest.mark.slow
def test_the_sparse_roof_and_another_unit() -> None:
    name = "up_proj"
    other = load_hardware("t4")

    def changed(how):
        return lambda step: replace(step, symbolic=step.symbolic.each(lambda op, _: how(op) if op.name == name else op))

    sparse, moved = changed(lambda op: replace(op, sparse=True)), changed(lambda op: replace(op, unit=other.machine))
    free = step_of("llama-2-7b")
    dense = symroof.crossover(free, name, over="batch", hardware=A100)
    twice = symroof.crossover(sparse(free), name, over="batch", hardware=A100)
    there = symroof.crossover(moved(free), name, over="batch", hardware=A100)
    assert there.value_expr == symroof.crossover(free, name, over="batch", hardware="t4").value_expr
    assert twice.value_expr > 2 * dense.value
    for change, device, factor in ((sparse, A100, 2), (moved, "t4", 1)):
        whole = symroof.regimes(change(free), over="batch", hardware=A100)
        for batch in (1, 100, 163, 400, 5000):
            step = step_of("llama-2-7b", batch=batch)
            new, old = symroof.analyze(change(step), A100), symroof.analyze(step, device)
            assert new[name].seconds_exprs["compute"] * factor == old[name].seconds_exprs["compute"]
            assert new[name].seconds_exprs["memory"] == old[name].seconds_exprs["memory"]
            assert whole.time_expr(batch) == new.total.time_expr
        found = symroof.sweep("llama-2-7b", A100, {"batch": [400]}, seq_len=128, techniques=(Changed(change),), **WIDTHS)
        assert abs(float(found.time.item()) / float(seconds(change(step_of("llama-2-7b", batch=400)))) - 1) < 1e-12
    with pytest.raises(DeviceError, match="structured sparsity"):
        symroof.analyze(sparse(step_of("llama-2-7b", batch=1)), "t4")


# where a technique pays

CHAINS = (
    "quantize:weights=4,group=128",
    "quantize:weights=8,activations=8,kv=8",
    "quantize:kv=4",
    "quantize:weights=4,group=32,zero=4,dequantize=counted",
    "efficiency:compute=0.6 quantize:weights=8",
    "no-overlap quantize:weights=4",
    "launch-overhead:launch=3us",
    "memory-levels:tile=16,bandwidth=8TB/s quantize:weights=4",
)


@pytest.mark.parametrize("model", ["opt-125m", "llama-3-8b", "mixtral-8x7b-v0.1"])
@pytest.mark.parametrize("texts", CHAINS)
def test_intervals_against_brute_force(model: str, texts: str) -> None:
    draw = random.Random(f"{model} {texts}")
    several = chain([texts])
    phase = draw.choice(["prefill", "decode"])
    inputs = {"seq_len": draw.choice([32, 512] if phase == "prefill" else [128, 4096])}
    before = step_of(model, phase, **inputs)
    found = payoff(before, before.apply(*several), over="batch", hardware=A100)
    assert found.intervals[0].low == 1
    assert found.intervals[-1].high == oo
    assert all(
        left.high == right.low and left.bound != right.bound for left, right in zip(found.intervals, found.intervals[1:], strict=False)
    )
    points = {1, 2, draw.randint(3, 100), draw.randint(100, 4000)} | {int(edge) + shift for edge in found.edges_expr for shift in (0, 1)}
    for batch in sorted(points):
        step = step_of(model, phase, batch=batch, **inputs)
        old, new = seconds(step), seconds(step.apply(*several))
        assert found.speedup_expr(batch) == old / new
        told = {one.bound for one in found.intervals if batch in one}
        assert (PAYS if new < old else LOSES if new > old else SAME) in told or (new == old and len(told) == 2)


@pytest.mark.parametrize(
    "texts",
    [
        "tensor-parallel:degree=4,latency=1us",
        "data-parallel:degree=2",
        "tensor-parallel:degree=2 data-parallel:degree=2",
        "quantize:weights=4",
    ],
)
def test_per_device_a_step_costs_its_time_on_every_device(texts: str) -> None:
    """Tokens per second and device, against the analysis on both sides; on one device both measures are the same."""
    several, before = chain([texts]), step_of("llama-2-7b", seq_len=512)
    after = before.apply(*several)
    latency, share = (payoff(before, after, over="batch", hardware=A100, per_device=each) for each in (False, True))
    assert share.sentence == f"per device: {latency.sentence}" or after.symbolic.devices != 1
    for batch in (4, 64, 1024, 4096):
        one = step_of("llama-2-7b", seq_len=512, batch=batch)
        analyses = [symroof.analyze(each, A100) for each in (one, one.apply(*several))]
        rates = [batch * each.graph.tokens / each.total.time_expr / each.graph.devices for each in analyses]
        assert share.speedup_expr(batch) == rates[1] / rates[0]
        told = {piece.bound for piece in share.intervals if batch in piece}
        assert (PAYS if rates[1] > rates[0] else LOSES if rates[1] < rates[0] else SAME) in told
        assert latency.speedup_expr(batch) == share.speedup_expr(batch) * after.graph.devices


def test_per_device_over_the_degree_is_strong_scaling() -> None:
    """T(1) / (n T(n)), and never a gain; counted one by one it is the same."""
    before = step_of("llama-2-7b", seq_len=512, batch=16)
    after = before.apply(technique("tensor-parallel:latency=1us,node=8"))
    found = payoff(before, after, over="degree", hardware=A100, per_device=True)
    efficiency = strong_scaling(before, after, hardware=A100).pieces_expr
    for degree in (1, 2, 4, 8, 16):
        assert found.speedup_expr(degree) == efficiency(degree) <= 1
    assert {piece.bound for piece in found.intervals} == {LOSES}
    one_by_one = counted(before, after, over="degree", hardware=A100, last=4, per_device=True)
    assert [one_by_one.speedup_expr(degree) for degree in (1, 2, 3, 4)] == [found.speedup_expr(degree) for degree in (1, 2, 3, 4)]
    assert one_by_one.sentence.startswith("per device: ")


def test_payoff_over_a_techniques_own_parameter() -> None:
    """The number given gives way to the variable, as a batch given does."""
    step = step_of("llama-2-7b", batch=1)
    for text in ("quantize:weights", "quantize:weights=4"):
        found = payoff(step, step.apply(technique(text)), over="quantized_weight_bits", hardware=A100, operator="up_proj")
        assert found.intervals[0].bound == PAYS
        assert found.edges_expr[0] == 16
        for bits in (1, 3, 8, 15):
            assert found.speedup_expr(bits) == time_of(step, "up_proj") / time_of(
                step.apply(technique(f"quantize:weights={bits}")), "up_proj"
            )


def time_of(step: Step, part: str):
    return symroof.analyze(step, A100)[part].time_expr


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["quantize:weights=4,group=128", "no-overlap", "launch-overhead:launch=3us"])
def test_counting_agrees_with_the_closed_form(texts: str) -> None:
    before = step_of()
    after = before.apply(*chain([texts]))
    last = 12
    one_by_one = counted(before, after, over="batch", hardware=A100, last=last, operator="total")
    closed = payoff(before, after, over="batch", hardware=A100)
    for batch in range(1, last + 1):
        told = [one.bound for one in one_by_one.intervals if batch in one]
        assert told[0] in {one.bound for one in closed.intervals if batch in one}
        assert one_by_one.speedup_expr(batch) == closed.speedup_expr(batch)
    for wrong in ("weight_bits", "bandwidth"):
        with pytest.raises(InputError, match="an integer variable"):
            counted(before, after, over=wrong, hardware=A100, last=3)


@pytest.mark.slow
def test_counting_experts_and_whole_blocks() -> None:
    """What has no closed form: FlashAttention's blocks over the prompt."""
    made = lambda **inputs: symroof.load_model(SMALL).prefill(batch=1, flash_attention=True, **WIDTHS, **inputs)  # noqa: E731
    change = technique("quantize:weights=4")
    found = counted(made(), made().apply(change), over="seq_len", hardware=A100, last=9)
    for length in range(1, 10):
        step = made(seq_len=length)
        assert found.speedup_expr(length) == seconds(step) / seconds(step.apply(change))


def test_payoff_says_what_it_needs() -> None:
    step = step_of()
    with pytest.raises(InputError, match="give a device"):
        payoff(step, step, over="batch", hardware=None)
    with pytest.raises(EinsumError, match="is not an operator of this step"):
        payoff(step, step, over="batch", hardware=A100, operator="nothing")
    with pytest.raises(InputError, match="is not a symbol"):
        payoff(step, step, over="bacth", hardware=A100)
    open_step = symroof.load_model(SMALL).decode(**WIDTHS)
    with pytest.raises(InputError, match="must be given"):
        payoff(open_step, open_step, over="batch", hardware=A100)
    same = payoff(step, step, over="batch", hardware=A100)
    assert same.sentence == "no effect at every batch"
    assert same.edges == ()
    with pytest.raises(InputError, match="is outside"):
        same.speedup_expr(0)
    with pytest.raises(SymroofError):
        payoff(step, step.apply(technique("memory-levels:tile=16")), over="batch", hardware=A100)


def test_tokens_divide_the_time() -> None:
    def quicker(step: Step) -> Step:
        letters = replace(step.symbolic, tokens=1 + symbols.alpha, definitions={**step.symbolic.definitions, symbols.alpha: Rational(1, 2)})
        return replace(step, symbolic=letters)

    step = step_of(batch=1)
    assert payoff(step_of(), quicker(step_of()), over="batch", hardware=A100).speedup_expr(5) == Rational(3, 2)
    over_it = payoff(step, quicker(step), over="acceptance", hardware=A100)
    assert over_it.speedup_expr(Rational(1, 4)) == Rational(5, 4)
    assert isinstance(symbols.alpha, Symbol)
