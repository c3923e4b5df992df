"""What a terminal and a notebook show of every public object: one line, and attributes with units that format."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest
from sympy import Basic, Expr

import symroof
from symroof import symbols
from symroof.notation import Brief
from symroof.present.tabular import in_units

LONGEST = 400
MODEL = symroof.load_model("llama-3-8b")
DEVICE = symroof.load_hardware("h100-sxm")
ON = MODEL.decode(batch=8, seq_len=2048).on(DEVICE)
LETTERS = MODEL.decode(symbolic=True).on()
MIXTURE = symroof.load_model("mixtral-8x7b-v0.1").decode(batch=64, seq_len=2048).on("h200-sxm")
SPLIT = "tensor-parallel:degree=4,link=450GB/s,latency=5us"
SPENT = "energy:flop=1pJ,byte=30pJ,power=100W"
STACK = ("quantize:weights=4", "quantize:kv=8", "flash-attention")
DRAFT = "speculative:acceptance=0.7,draft_cost=0.1"

ASKED = {
    "deployment": lambda: ON,
    "analysis": lambda: (ON.analysis, ON["up_proj"], ON.total, ON.table(), ON.memory),
    "analysis in letters": lambda: (LETTERS.analysis, LETTERS["up_proj"], LETTERS.total),
    "crossover": lambda: (ON.crossover("up_proj", over="batch"), ON.crossover("up_proj", over="bandwidth"), ON.crossovers("batch")),
    "crossover in letters": lambda: LETTERS.crossover("up_proj", over="batch"),
    "crossover of a mixture": lambda: symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True).on().crossovers("batch"),
    "crossover of a window": lambda: (
        symroof.load_model("mistral-7b-v0.1").decode(symbolic=True).on().crossover("qk_matmul", over="seq_len")
    ),
    "regimes": lambda: (ON.regimes("batch"), ON.regimes("seq_len")),
    "regime map": lambda: (ON.regime_map(), ON.regime_map(tpot="20 ms")),
    "ablation": lambda: ((found := ON.ablate(STACK)), found.at(8), ON.ablate(["launch-overhead:launch=5us"]), symroof.Refused("a", "b")),
    "proof": lambda: ON.prove("memory-bound", "qk_matmul", for_all="batch"),
    "context limit": lambda: (ON.context_limit(), LETTERS.context_limit()),
    "sparse contexts": lambda: (symroof.load_model("glm-5").decode(batch=8).on("h200-sxm").sparse_contexts(),),
    "token budget": ON.token_budget,
    "sensitivity": ON.sensitivity,
    "work exceeds": lambda: ON.apply("launch-overhead:launch=5us").work_exceeds("batch"),
    "required": lambda: (ON.required("batch", target_time="50 ms"), ON.required("bandwidth", target_time="2 ms"), ON.required_capacity()),
    "largest": lambda: (ON.largest("batch"), ON.hyperbola(), ON.cache_passes_weights()),
    "room": lambda: ON.required("batch", target_time="50 ms").room,
    "generation": lambda: ON.generation(prompt=512, tokens=128),
    "payoff": lambda: (ON.payoff("quantize:weights=4", over="batch"), ON.apply(SPENT).greenup("quantize:weights=4")),
    "compare": lambda: ON.compare("quantize:weights=4,group=128", f"{DRAFT},length=4"),
    "break-even": lambda: LETTERS.break_even("low-rank", over="rank", operator="up_proj"),
    "degree": lambda: (ON.apply(SPLIT).best_degree((1, 2, 4, 8)), ON.apply(SPLIT).communication_degree(), ON.strong_scaling(SPLIT)),
    "split": lambda: ON.best_split("a100-sxm-80gb"),
    "drafting": lambda: (ON.best_length(DRAFT), ON.least_acceptance("speculative:length=4,draft_cost=0.1")),
    "energy": lambda: ON.apply(SPENT).energy(),
    "pools": lambda: (
        ON.provision(prompt=512, output=64, link="50 GB/s", tpot="20 ms"),
        ON.attention_split(),
        ON.two_dimensional(devices=64),
    ),
    "dead zone": lambda: ON.dead_zone(attention_devices=8),
    "experts": lambda: (
        MIXTURE.expert_batch(),
        MIXTURE.apply("expert-parallel:degree=8").exchange_bound(),
        MIXTURE.apply("expert-parallel:degree=8").ping_pong(),
        MIXTURE.sparse_against_dense(quality=3),
        MIXTURE.speculation_peak(f"{DRAFT},length=4", dense=symroof.active_twin(MIXTURE.step)),
    ),
    "money": lambda: (ON.token_cost(price="2 USD/h"), ON.price_of_speed(price="2 USD/h", degrees=(1, 2))),
    "plan": lambda: (found := symroof.plan(MODEL, prompt=512, output=64, hardware="h100-sxm", devices=[1], tpot="20 ms"), found[0]),
    "missed promise": lambda: symroof.plan(MODEL, prompt=512, output=64, hardware="h100-sxm", tpot="1 ms")[0].miss,
    "exported": lambda: symroof.exported(ON.step, DEVICE),
    "optimum": lambda: symroof.optimum("llama-2-7b", "a100-sxm-80gb", {"batch": range(1, 9)}, minimize="latency", seq_len=2048),
    "step line": lambda: (ON.step_line(), ON.step_line().lines(), ON.step_line().lines("seq_len")),
    "load": lambda: (ON.under_load(rate=4, prompt=2048, output=257, prefill="here"), ON.under_load(rate=4, prompt=2048, output=257).curve),
    "full memory": ON.at_full_memory,
    "promises": lambda: ON.promises(prompt=2048, output=257, ttft="1 ms", tpot="30 ms", degrees=(1, 2)),
    "costs": lambda: symroof.costs_of(ON.step, "up_proj"),
    "compiled": lambda: symroof.compiled(LETTERS["up_proj"].operator.traffic),
    "model": lambda: (MODEL, MODEL.cache, ON.step, ON.step.options, ON.step.graph, LETTERS.step.graph),
    "operators": lambda: [operator for operator, _ in ON.step.graph],
    "device": lambda: (DEVICE, DEVICE.machine, DEVICE.links),
    "devices": symroof.devices,
    "models": symroof.models,
    "vocabulary": lambda: list(symbols.VOCABULARY.values()),
    "techniques": lambda: [symroof.technique(text) for text in (SPLIT, SPENT, DRAFT, "quantize:weights=4,group=128")],
}


@functools.cache
def asked(question: str) -> tuple[Any, ...]:
    """What a question is answered with, and all that its attributes hold, each once, of every class a few."""
    met: dict[int, Any] = {}
    several: dict[type, int] = {}

    def walk(value: Any) -> None:
        if isinstance(value, Mapping | list | tuple | frozenset):
            for one in (*value, *(value.values() if isinstance(value, Mapping) else ())):
                walk(one)
        elif (type(value).__module__.startswith("symroof") or isinstance(value, symroof.Quantity)) and not isinstance(value, Basic | Enum):
            several[type(value)] = several.get(type(value), 0) + 1
            if several[type(value)] <= 12 and id(value) not in met:
                met[id(value)] = value
                for _, held in attributes(value):
                    walk(held)

    walk(ASKED[question]())
    return tuple(met.values())


ANSWERS = ("symroof.answers", "symroof.questions", "symroof.proof", "symroof.serving")
FORMATTED = re.compile(r"-?([0-9]{1,15}(\.[0-9]{1,5})?(e-[0-9]{2})?|inf)( [A-Za-z]+(/[A-Za-z]+)?|/s)?")
BARE = {
    "error_formula",
    "replicas_formula",
    "rule_formula",
    "formula",
    "traffic_formula",
    "condition",
    "slack",
    "where",
    "large_layer",
    "label",
    "limit_unit",
    "unit",
}
"""Attributes of answers that are formulas in letters, and conditions."""


def attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The public attributes that an object has: fields, and properties that do not refuse."""
    kind = type(value)
    fields = getattr(kind, "__dataclass_fields__", ())
    made = [name for name, what in inspect.getmembers(kind) if isinstance(what, property | functools.cached_property)]
    for name in sorted({*fields, *made}):
        if not name.startswith("_"):
            try:
                yield name, getattr(value, name)
            except (symroof.SymroofError, AttributeError):
                continue


SEQUENCES = {
    "crossovers": (
        lambda: ON.crossovers("batch"),
        "up_proj",
        symroof.EinsumError,
        "'up_prj' is not an operator of this step: did you mean up_proj",
    ),
    "comparison": (lambda: ON.compare("quantize:weights=4"), "quantize:weights=4", symroof.InputError, "is not one of the variants"),
    "ablation": (lambda: ON.ablate(STACK), "quantize:kv=8", symroof.InputError, "'up_prj' is not a member of the stack"),
    "intervals": (lambda: ON.crossover("up_proj", over="batch").intervals, "memory", symroof.InputError, "is not the label of an interval"),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_several_answers_are_an_immutable_sequence_with_names(name: str) -> None:
    make, known, refused, match = SEQUENCES[name]
    answers = make()
    assert isinstance(answers, symroof.Answers)
    assert len(repr(answers)) < LONGEST
    assert [*answers] == [answers[place] for place in range(len(answers))] == [*reversed([*reversed(answers)])]
    assert answers[known] is answers[answers.names.index(known)]
    assert known in answers
    assert answers[known] in answers
    assert answers[1:] == answers.members[1:]
    assert answers.index(answers[1]) == 1
    with pytest.raises(refused, match=match):
        answers["up_prj"]
    with pytest.raises(IndexError):
        answers[len(answers)]
    with pytest.raises((TypeError, AttributeError)):
        answers[0] = answers[1]  # type: ignore[index]
    with pytest.raises(AttributeError):
        answers.members = ()  # type: ignore[misc]


def test_no_question_hands_out_a_bare_sequence_of_answers() -> None:
    """What a method of a deployment returns has a repr of its own: tuples are of names and texts alone."""
    methods = inspect.getmembers(symroof.Deployment, inspect.isfunction)
    kinds = [inspect.signature(method).return_annotation for name, method in methods if not name.startswith("_")]
    assert "Crossovers" in kinds
    assert [kind for kind in kinds if "tuple[" in str(kind) and "tuple[str" not in str(kind)] == []


REPORTED = {
    "crossover": lambda: ON.crossover("up_proj", over="batch"),
    "crossovers": lambda: ON.crossovers("batch"),
    "comparison": lambda: ON.compare("quantize:weights=4"),
    "requirement": lambda: ON.required("batch", target_time="50 ms"),
    "largest": lambda: ON.largest("batch"),
    "generation": lambda: ON.generation(prompt=64, tokens=16),
    "context limit": ON.context_limit,
    "break-even": lambda: LETTERS.break_even("low-rank", over="rank", operator="up_proj"),
    "certificate": lambda: ON.prove("memory-bound", "qk_matmul", for_all="batch"),
    "analysis": lambda: ON.analysis,
    "energy": lambda: ON.apply(SPENT).energy(),
    "regimes": lambda: ON.regimes("batch"),
    "regime map": ON.regime_map,
    "ablation": lambda: ON.ablate(STACK),
    "shares": lambda: ON.ablate(STACK).at(8),
    "room": lambda: ON.required("batch", target_time="50 ms").room,
    "interval": lambda: ON.regimes("batch").regimes[0],
    "intervals": lambda: ON.apply("launch-overhead:launch=5us").work_exceeds("batch"),
    "sensitivity": ON.sensitivity,
    "provision": lambda: ON.provision(prompt=512, output=64, link="50 GB/s"),
    "mixed pool": lambda: ON.provision(prompt=512, output=64).mixed,
    "attention split": ON.attention_split,
    "dead zone": lambda: ON.dead_zone(attention_devices=8),
    "two dimensions": lambda: ON.two_dimensional(devices=64),
    "token cost": lambda: ON.token_cost(price="2 USD/h"),
    "price of speed": lambda: ON.price_of_speed(price="2 USD/h", degrees=(1, 2)),
    "price": lambda: ON.price_of_speed(price="2 USD/h", degrees=(1, 2)).fastest,
    "expert batch": MIXTURE.expert_batch,
    "exchange bound": lambda: MIXTURE.apply("expert-parallel:degree=8").exchange_bound(),
    "ping-pong": lambda: MIXTURE.apply("expert-parallel:degree=8").ping_pong(),
    "sparse against dense": lambda: MIXTURE.sparse_against_dense(quality=3),
    "speculation peak": lambda: MIXTURE.speculation_peak(f"{DRAFT},length=4"),
    "operator": lambda: ON["up_proj"],
    "operator in letters": lambda: LETTERS["up_proj"],
    "total": lambda: ON.total,
    "curve": lambda: ON.apply(SPLIT).over_degree(),
}


def test_one_spelling_of_micro_on_screens_and_in_quantities() -> None:
    time = symroof.Quantity(symroof.units.number("44.24 us", symroof.units.SECOND, "time"), "second")
    assert in_units(time.exact, "s", 4) == str(time) == "44.24 us"
    assert symroof.Quantity("44.24 µs") == time  # both are read


@pytest.mark.parametrize("question", REPORTED)
def test_an_answer_has_every_view(question: str) -> None:
    answer = REPORTED[question]()
    assert answer.sentence
    assert "object at 0x" not in answer.sentence
    assert answer.table().rows
    assert str(answer.report()).strip()
    assert answer.latex().strip()
    assert answer._repr_html_() or answer._repr_latex_()
    assert answer.to_dict() == json.loads(answer.report().render("json"))


@pytest.mark.parametrize("question", ASKED)
def test_a_repr_is_one_line(question: str) -> None:
    for value in asked(question):
        shown = repr(value)
        assert len(shown) < LONGEST, (type(value), shown)
        assert "\n" not in shown
        assert "object at 0x" not in shown


def test_every_public_class_is_among_the_answers() -> None:
    public = {kind for name in dir(symroof) if inspect.isclass(kind := getattr(symroof, name)) and not issubclass(kind, Enum | Exception)}
    seen = {kind for question in ASKED for value in asked(question) for kind in type(value).__mro__}
    assert {kind.__name__ for kind in public - seen} == set()


@pytest.mark.parametrize("question", ASKED)
def test_attributes_have_units_and_format(question: str) -> None:
    """What an answer of the upper rooms tells is a quantity, a count, a word or another answer; a bare expression says so in its name."""
    plain = (int, str, bool, type(None), Brief, tuple, frozenset, Mapping, symroof.Quantity, symroof.Variable)
    for value in asked(question):
        for name, held in attributes(value):
            if isinstance(held, symroof.Quantity) and held.is_number:
                assert FORMATTED.fullmatch(f"{held:.3g}"), (type(value), name, f"{held:.3g}")
            if type(value).__module__.startswith(ANSWERS) and not name.endswith(("_expr", "_exprs")):
                assert isinstance(held, plain) or name in BARE, (type(value), name, type(held))


BUILDING_BLOCKS = {
    **dict.fromkeys(("Tensor", "Access", "Space", "Block", "Routing", "Work"), "what operators are made of: bare formulas by design"),
    **dict.fromkeys(
        ("Operator", "Graph", "Cost", "Ceilings", "Reserve", "Energy"),
        "formulas to compute with; `flops`, `traffic`, `memory` are Quantities",
    ),
    **dict.fromkeys(
        ("Piece", "Piecewise", "LineAndWave", "Polynomial", "Solution", "Cell", "Column", "Section"),
        "algebra, which knows no units: the bare side of a Curve or an answer",
    ),
    **dict.fromkeys(("Machine", "Figure", "KernelConstants", "Cache"), "bare numbers in the unit that the docstring states, by symbol"),
    "Table": "cells of a table, in the unit of its heading",
    "Errors": "percent, as the docstring says",
}
"""Classes whose attributes are bare expressions, and why; answers are none of them."""
PURE = {
    **dict.fromkeys(("values", "symbol_values", "formula_values", "dimensions", "settings"), "numbers by symbol, to substitute"),
    **dict.fromkeys(("used_symbols", "symbol", "free", "x"), "symbols"),
    **dict.fromkeys(
        ("formula", "formulas", "traffic_formula", "rule_formula", "error_formula", "replicas_formula", "large_layer", "slack"),
        "formulas in symbols, asked for as such",
    ),
    **dict.fromkeys(("condition", "where"), "truth values"),
    **dict.fromkeys(("headroom",), "shares, which have no unit"),
    **dict.fromkeys(
        ("flop_count", "byte_count", "contraction_flop_count"), "counts, bare by their name; the Quantities are `flops`, `traffic`"
    ),
    **dict.fromkeys(("exact", "m", "magnitude", "highest"), "of a Quantity, or of a variable, in its unit"),
}
"""Attributes that are rightly bare wherever they occur, and why."""


def bare(value: Any) -> bool:
    """Whether it is a number or a formula without a unit, or holds one."""
    parts = (*value, *value.values()) if isinstance(value, Mapping) else value if isinstance(value, tuple | list | frozenset) else ()
    return any(map(bare, parts)) if parts else isinstance(value, float | Expr)


@pytest.mark.parametrize("question", ASKED)
def test_no_public_attribute_is_a_bare_number(question: str) -> None:
    for value in asked(question):
        kind = type(value).__name__
        if kind in BUILDING_BLOCKS or isinstance(value, symroof.Technique):
            continue
        for name, held in attributes(value):
            if not name.endswith(("_expr", "_exprs")) and name not in PURE:
                assert not bare(held), (kind, name, held)


def test_a_bare_number_would_be_found() -> None:
    found = [name for name, held in attributes(symroof.Piece(1, 2, symbols.b, "")) if bare(held)]
    assert found == ["value"]
    assert bare({"memory": 1.5})
    assert bare((symbols.b * 2,))
    assert not bare({"memory": symroof.Quantity(1, "second")})
    assert not bare((8, "batch", None))


def test_sizes_of_axes_are_whole_numbers_or_symbols() -> None:
    assert symroof.Space({"s": 1, "t": symbols.t}).points(("s", "t")) == symbols.t
    assert symroof.Space({"s": 3}).sizes["s"].is_Integer
    for wrong, match in (
        ("x", "size of axis s 'x': expected a number or a symbol"),
        (0, "size of axis s '0': expected a number above 0"),
        (True, "size of axis s"),
    ):
        with pytest.raises(symroof.InputError, match=match):
            symroof.Space({"s": wrong})  # type: ignore[dict-item]


def test_functions_that_answer_with_a_dimension_answer_with_quantities() -> None:
    device = symroof.load_hardware("a100-sxm-80gb")
    energy = symroof.Energy(*(symbols.declare(f"zeta_{name}", f"zeta_{name}", "an energy") for name in ("flop", "byte")))
    line = (100, device.peak("fp16"), device.bandwidth, energy)
    made = {
        "FLOP/joule": symroof.arch_line(*line),
        "watt": symroof.power_line(*line),
        "FLOP/byte": symroof.effective_balance(energy, *line[1:3]),
        "dimensionless": symroof.balanced_degree("90 us", 0, "1 us"),
        "byte": device.buffer,
        "byte/second": device.links[0].one_way,
        "FLOP/second": device.fastest(("fp16",))[1],
        "second": ON.apply(SPLIT).over_degree()(4),
    }
    for unit, value in made.items():
        assert isinstance(value, symroof.Quantity), unit
        assert value.is_compatible_with(unit), (unit, value)
    assert made["dimensionless"] == 10
    assert f"{made['second']:.3g}".endswith(" ms")
