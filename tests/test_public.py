"""The public surface: examples import symroof alone, one grammar of arguments, a deployment says what the functions say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sympy import Expr, Symbol

import symroof
from symroof import symbols
from symroof.techniques.registry import names, technique_class

ROOT = Path(__file__).parent.parent
A100 = "a100-sxm-80gb"
STEP = symroof.load_model("llama-2-7b").decode(batch=8, seq_len=2048)
OPEN = symroof.load_model("llama-2-7b").decode(seq_len=2048)
ON = STEP.on(A100)

SCRIPTS = [*(ROOT / "derivations").rglob("*.py"), *(ROOT / "paper_figures").glob("*.py")]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
DEEP = re.compile(r"^(?:>>> )?\s*(?:from symroof\.\S+ import|import symroof\.).*$", re.MULTILINE)


@pytest.mark.parametrize("path", [*SCRIPTS, *PAGES], ids=lambda path: path.stem)
def test_examples_import_symroof_alone(path: Path) -> None:
    text = path.read_text()
    if path.name == "models.md":
        text = text.partition("## Adding a family")[0]  # from there on one writes into the library itself
    assert DEEP.findall(text) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples_leave_out_widths_that_are_the_default(path: Path) -> None:
    assert not re.search(r"weight_bits\W+16\W+activation_bits\W+16\W+kv_bits\W+16", path.read_text())


def test_the_stub_of_techniques_has_every_class() -> None:
    kinds = {technique_class(name) for name in names()}
    assert {kind.__name__ for kind in kinds} <= set(symroof.techniques.__all__)
    for kind in kinds:
        assert getattr(symroof.techniques, kind.__name__) is kind


def test_a_deployment_asks_the_functions() -> None:
    assert ON.analysis is ON.analyze() is ON.roofline()
    assert ON.time == symroof.analyze(STEP, A100).total.time
    assert ON.crossover("up_proj", over="batch").intervals == symroof.crossover(OPEN, "up_proj", over="batch", hardware=A100).intervals
    assert ON.regimes("batch").times == symroof.regimes(OPEN, over="batch", hardware=A100).times
    after = OPEN.apply("quantize:weights=4")
    paid = symroof.payoff(OPEN, after, over="batch", hardware=A100)
    assert ON.payoff("quantize:weights=4", over="batch").edges == paid.edges
    assert ON.required("batch", target_time="50 ms") == symroof.required(OPEN, over="batch", hardware=A100, target_time="50 ms")
    assert ON.largest("batch") == symroof.largest(OPEN, over="batch", hardware=A100)
    made = symroof.generation(
        symroof.load_model("llama-2-7b"), prompt=64, tokens=8, hardware=A100, batch=8, techniques=["quantize:weights=4"]
    )
    assert ON.apply("quantize:weights=4").generation(prompt=64, tokens=8) == made


@pytest.mark.parametrize("ceilings", ["classic", "stated"])
def test_every_question_of_time_heeds_the_ceilings(ceilings: str) -> None:
    """On an H100, whose vector units bind some operators of a prompt, the ceiling sets give other times."""
    device = symroof.load_hardware("h100-sxm")
    step = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=4096, flash_attention=True)
    on = step.on(device, ceilings)
    assert on.time == symroof.analyze(step, device, ceilings=ceilings).total.time
    split = on.best_split("a100-sxm-80gb")
    assert split.time * split.speedup == getattr(on.total, "time_expr" if isinstance(split.time, Expr) else "time")
    spread = on.apply("data-parallel").over_degree()
    assert spread(1) == on.total.time
    assert (on.time == step.on(device).time) is (ceilings == "stated")


def test_a_calibrated_deployment_refuses_what_has_no_closed_form() -> None:
    on = STEP.on(A100, ceilings="calibrated")
    assert on.time > ON.time
    for ask in (
        lambda: on.regimes("batch"),
        lambda: on.payoff("quantize:weights=4", over="batch"),
        on.apply("tensor-parallel").over_degree,
    ):
        with pytest.raises(symroof.SymroofError, match="no closed form in pieces"):
            ask()
    with pytest.raises(symroof.SymroofError, match="has no calibration"):
        STEP.on("t4", ceilings="calibrated")
    with pytest.raises(symroof.SymroofError, match="ceilings 'clasic': did you mean classic"):
        STEP.on(A100, ceilings="clasic")


@pytest.mark.parametrize("over", ["batch", "b", symbols.b, Symbol("b")])
def test_a_variable_is_a_name_a_letter_or_a_symbol(over: str | Symbol) -> None:
    assert ON.crossover("up_proj", over=over).first_integer == 162
    assert symroof.crossover(OPEN, "up_proj", over=over, hardware=A100).first_integer == 162
    assert symroof.regimes(OPEN, over=over, hardware=A100).over.name == "batch"
    assert ON.prove("memory-bound", "qk_matmul", for_all=over).verdict == "proved"
    assert symroof.prove(OPEN, "memory-bound", "qk_matmul", for_all=[over], at_least={over: 2}, hardware=A100).verdict == "proved"


def test_an_answer_says_which_number_it_ignores() -> None:
    said = "over batch: the given batch 8 is ignored"
    assert said in ON.crossover("up_proj", over="batch").statements
    assert said in symroof.crossover(STEP, "up_proj", over="batch", hardware=A100).statements
    assert said in ON.regimes("batch").step.statements
    assert all(said not in answer.statements for answer in symroof.crossovers(OPEN, over="batch", hardware=A100))
    assert said not in ON.crossover("up_proj", over="bandwidth").statements
    parallel = ON.apply("tensor-parallel:degree=4")
    assert "over degree: the given degree 4 is ignored" in parallel.crossover("up_proj", over="degree").statements
    assert parallel.best_degree((1, 2, 4, 8)) == ON.apply("tensor-parallel").best_degree((1, 2, 4, 8))


def test_communication_passes_work_where_whole_steps_say_so() -> None:
    on = symroof.load_model("llama-3-70b").decode(batch=8, seq_len=2048).on(A100)
    degree = on.apply("tensor-parallel:latency=5us").communication_degree().exact
    assert 4 < degree < 8
    for devices in (2, 4, 8):
        points = on.apply(f"tensor-parallel:latency=5us,degree={devices}").analysis
        sends = [point.operator.role is symroof.Role.COMMUNICATION for point in points]
        times = [point.count_expr * point.time_expr for point in points]
        communication = sum(time for time, is_sent in zip(times, sends, strict=True) if is_sent)
        assert bool(2 * communication >= sum(times)) is bool(devices >= degree)


@pytest.mark.parametrize("over", ["batch", "seq_len"])
def test_variants_are_compared_with_a_baseline(over: str) -> None:
    """As the payoff of one over the other has it, and as the times of both have it; the baseline is first."""
    on = symroof.load_model("llama-3-8b").decode(batch=16, seq_len=2048).on(A100)
    eight, four, split = "quantize:weights=8", "quantize:weights=4,group=128", "quantize:weights=8 tensor-parallel:degree=2"
    found = on.compare(four, split, over=over, baseline=eight)
    assert [one.name for one in found] == [eight, four, split]
    assert found[0].payoff is None
    options = {"batch": 16, "seq_len": 2048, over: None}
    before = symroof.load_model("llama-3-8b").decode(**options).apply(eight)
    for one, after in ((found[1], four), (found[2], split)):
        direct = symroof.payoff(before, symroof.load_model("llama-3-8b").decode(**options).apply(*after.split()), over=over, hardware=A100)
        assert [(piece.low, piece.high, piece.bound) for piece in one.payoff.pieces] == [
            (piece.low, piece.high, piece.bound) for piece in direct.pieces
        ]
        assert one.time.exact == on.apply(*after.split()).time.exact
    assert found[1].time < found[0].time < on.time
    assert found[1].device_payoff is None
    assert found[2].device_payoff is not None
    assert {one.bound for one in found[2].device_payoff.pieces} == {"loses"}, "two devices are not twice as fast"
    plain = on.compare(four, over=over)
    assert plain[1].payoff.pieces != found[1].payoff.pieces or over == "seq_len"


def test_techniques_are_texts_or_objects() -> None:
    four, fused = symroof.techniques.Quantize(weights=4), "fuse:preset=engine"
    steps = [STEP.apply(four, fused), STEP.apply("quantize:weights=4", fused), STEP.apply(f"quantize:weights=4 {fused}")]
    assert len({step.techniques for step in steps}) == 1
    found = ON.compare(four, f"quantize:weights=4 {fused}", ["quantize:weights=4", symroof.technique(fused)], over="batch")
    assert [variant.name for variant in found] == ["unchanged", "quantize:weights=4", *2 * [f"quantize:weights=4 {fused}"]]
    with pytest.raises(symroof.SymroofError, match="did you mean quantize"):
        STEP.apply("quantise:weights=4")
    with pytest.raises(symroof.SymroofError, match="expected one such as 'quantize:weights=4'"):
        ON.compare(4)  # type: ignore[arg-type]
    with pytest.raises(symroof.SymroofError, match="expected one such as 'speculative"):
        ON.best_length("quantize:weights=4")


def test_a_techniques_own_name_is_a_variable() -> None:
    draft = "speculative:acceptance=0.8,draft_cost=0.1"
    assert ON.payoff(draft, over="length").over.name == "draft_length"
    assert [variant.payoff.over.name for variant in ON.compare(draft, over="length") if variant.payoff] == ["draft_length"]


def test_without_a_device_questions_of_numbers_say_so() -> None:
    on = OPEN.on()
    assert on.crossover("up_proj", over="batch").formula is not None
    assert repr(on) == "<Deployment: llama-2-7b, decode, seq_len 2048, on no device>"
    with pytest.raises(symroof.SymroofError, match="give a device: the answer is numeric"):
        on.regimes("batch")


def test_symbols_of_ones_own() -> None:
    mine = symbols.declare("psi_mine", "my_factor", "a factor of mine", highest=2)
    assert symbols.lookup("my_factor") is symbols.lookup(mine)
    assert symbols.named("psi_mine, b") == (mine, symbols.b)
    for wrong, match in (
        ({"letter": "b"}, "symbol 'b' is taken: batch"),
        ({"letter": "psi_other", "name": "batch"}, "symbol 'batch' is taken"),
        ({"letter": "2x"}, "letter '2x': expected"),
        ({"name": "My Factor"}, "name 'My Factor': expected"),
        ({"unit": "bytes"}, "unit 'bytes': did you mean byte"),
        ({"domain": "complex"}, "domain 'complex'"),
        ({"meaning": "another"}, "is taken: my_factor, a factor of mine"),
    ):
        with pytest.raises(symroof.SymroofError, match=match):
            symbols.declare(**{"letter": "psi_mine", "name": "my_factor", "meaning": "a factor of mine", "highest": 2} | wrong)
    with pytest.raises(symroof.SymroofError, match="'phi' is not a symbol of the library: make it with"):
        symroof.techniques.number(Symbol("phi"))


def test_a_sweep_of_a_deployment_is_that_of_its_step() -> None:
    pytest.importorskip("xarray")
    found = ON.apply("quantize:weights=4").sweep({"batch": [1, 8]}, metrics=["time"])
    assert float(found["time"].sel(batch=8).squeeze()) == pytest.approx(float(ON.apply("quantize:weights=4").total.time_expr), rel=1e-12)
    best = ON.best({"batch": range(1, 129)}, maximize="throughput", where="fits")
    assert float(found["time"].sel(batch=8).item()) == float(ON.apply("quantize:weights=4").sweep({symbols.b: [8]})["time"].item())
    assert int(best.batch.item()) == ON.largest("batch").integer


@pytest.mark.parametrize("kernel", [False, True])
def test_a_figure_is_shown_in_a_notebook_and_nowhere_without_a_display(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType, SimpleNamespace

    from matplotlib.figure import Figure

    shown = []
    notebook, display = ModuleType("IPython"), ModuleType("IPython.display")
    notebook.version_info = (9, 0)  # type: ignore[attr-defined]
    notebook.get_ipython = lambda: SimpleNamespace(kernel=None) if kernel else None  # type: ignore[attr-defined]
    display.Image, display.display = lambda data, width: (data, width), shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    symroof.show(Figure(figsize=(6, 3)))
    assert [(data[:4], width) for data, width in shown] == ([(b"\x89PNG", 432)] if kernel else [])
