"""The step as a line: its parts add up to the analysis of any point on the piece, and its pieces to the analysis of any point."""

from __future__ import annotations

import pytest
from sympy import Add, Integer, Rational, oo
from sympy import floor as whole

import symroof
from symroof import symbols
from symroof.algebra.unions import Untouched
from symroof.serving.step_line import RATES, _piece, collected, step_line
from tests.steps import one_of_each_type, phases, sampled

b, t = symbols.b, symbols.t

PREFIX = "prefix-cache:share=1/2,read=once"
PLACES = [
    ("llama-3-8b", "h100-sxm", ""),
    ("opt-6.7b", "a100-sxm-80gb", ""),
    ("mistral-7b-v0.1", "a100-sxm-80gb", ""),
    ("mixtral-8x7b-v0.1", "h200-sxm", ""),
    ("deepseek-v3", "h200-sxm", ""),
    ("gpt-oss-20b", "mi300x", ""),
    ("gemma-3-27b-pt", "h100-sxm", ""),
    ("mamba-2.8b", "l4", ""),
    ("jamba-v0.1", "h100-sxm", ""),
    ("qwen3-next-80b-a3b-instruct", "h200-sxm", ""),
    ("glm-5", "h200-sxm", ""),
    ("llama-3-8b", "h100-sxm", "quantize:weights=4,group=128"),
    ("llama-3-8b", "h100-sxm", "tensor-parallel:degree=4"),
    ("llama-3-8b", "h100-sxm", "tensor-parallel:degree=4,link=450GB/s,latency=5us launch-overhead:launch=5us"),
    ("llama-3-8b", "h100-sxm", PREFIX),
    ("llama-3-8b", "h100-sxm", "speculative:acceptance=0.7,draft_cost=0.1,length=4"),
    ("llama-3-8b", "h100-sxm", "no-overlap"),
    ("llama-3-8b", "h100-sxm", "offload:share=1/2"),
    ("llama-3-8b", "h100-sxm", "offload:share=1/4,overlap=operator"),
    ("llama-3-8b", "h100-sxm", "contextual-sparsity:share=1/4"),
    ("gemma-2-9b", "h100-sxm", "mixed-batch:chunk=64"),
    ("llama-3-8b", "h100-sxm", "efficiency:compute=0.7,memory=0.8"),
    ("llama-3-8b", "h100-sxm", "flash-attention quantize:kv=8"),
    ("llama-3-8b", "h100-sxm", "pim:peak=1PFLOP/s,bandwidth=20TB/s"),
    ("mixtral-8x7b-v0.1", "h100-sxm", "expert-parallel:degree=4"),
]
POINTS = ((1, 64), (8, 2048), (300, 6000), (1024, 257))


def made(model: str, techniques: str, batch: int, context: int) -> symroof.Step:
    return symroof.load_model(model).decode(batch=batch, seq_len=context).apply(*techniques.split())


def splits(techniques: str, batch: int) -> bool:
    """Whether expert parallelism over four devices takes the batch."""
    return not techniques.startswith("expert-parallel") or batch % 4 == 0


@pytest.mark.parametrize("ceilings", ["stated", "classic"])
@pytest.mark.parametrize(("model", "device", "techniques"), PLACES)
def test_the_parts_add_up_to_the_step(model: str, device: str, techniques: str, ceilings: str) -> None:
    for batch, context in sampled([one for one in POINTS if splits(techniques, one[0])], 1 if ceilings == "stated" else 3):
        step = made(model, techniques, batch, context)
        line = step_line(step, hardware=device, ceilings=ceilings)
        assert line.time_at_expr(batch, context) == symroof.analyze(step, device, ceilings=ceilings).total.time_expr
        assert (Add(*(part.seconds_expr for part in line.parts)) - line.time_expr).expand(power_exp=False) == 0


@pytest.mark.parametrize(("model", "device", "techniques"), sampled(PLACES, 3))
def test_the_line_holds_on_its_whole_piece_and_not_beyond(model: str, device: str, techniques: str) -> None:
    """At the last whole batch of the piece the line is the step; at the first of the next it is not."""
    line = step_line(made(model, techniques, 8, 2048), hardware=device)
    pieces = line.lines("batch")
    here = pieces.at(8)
    assert here.time_expr.xreplace({b: Integer(8)}) == line.time_at_expr(8, 2048)
    last = int(whole(here.high_expr)) if here.high_expr.is_finite else 4096
    ends = (last,) if not here.high_expr.is_finite else (last, last + 1)
    for batch in (each for each in ends if splits(techniques, each)):
        brute = symroof.analyze(made(model, techniques, batch, 2048), device).total.time_expr
        assert (line.time_at_expr(batch, 2048) == brute) == (batch <= last), batch


@pytest.mark.parametrize(("model", "device", "techniques"), sampled(PLACES, 3))
@pytest.mark.parametrize("over", ["batch", "seq_len"])
def test_the_pieces_are_the_step_over_the_whole_range(model: str, device: str, techniques: str, over: str) -> None:
    pieces = step_line(made(model, techniques, 8, 2048), hardware=device).lines(over)
    for value in (1, 5, 132, 900, 20000):
        batch, context = (value, 2048) if over == "batch" else (8, value)
        if not splits(techniques, batch):
            continue
        if (context, techniques) == (1, PREFIX):
            with pytest.raises(symroof.InputError, match="leaves no token"):
                made(model, techniques, batch, context)
            continue
        found = pieces.at(value)
        time = found.time_expr.xreplace({pieces.over.symbol: Integer(value)})
        brute = symroof.analyze(made(model, techniques, batch, context), device).total.time_expr
        assert time == brute, value
        if found.kind == "line":
            assert found.intercept_expr + found.slope_expr * value == brute


def test_slopes_rise_and_secants_lie_below_their_curve() -> None:
    pieces = step_line(made("mixtral-8x7b-v0.1", "", 8, 2048), hardware="h200-sxm").lines()
    assert {piece.kind for piece in pieces} == {"secant", "line"}, "once the experts are compute-bound, it is a line again"
    for piece in (one for one in pieces if one.kind == "secant"):
        batch = (2 * piece.low_expr + piece.high_expr) / 3
        exact = piece.time_expr.xreplace({b: batch}).evalf(40)
        assert (piece.intercept_expr + piece.slope_expr * batch - exact).evalf() < 0
        for end in (piece.low_expr, piece.high_expr):
            assert abs(piece.intercept_expr + piece.slope_expr * end - piece.time_expr.xreplace({b: end})).evalf(30) < 1e-25
    dense = step_line(made("llama-3-8b", "", 8, 2048), hardware="h100-sxm").lines()
    slopes = [piece.slope_expr for piece in dense]
    assert slopes == sorted(slopes)
    assert len(dense) > 2


def test_a_curve_without_end_has_an_asymptote() -> None:
    value = 3 + 2 * b - 2 * Untouched(Rational(1, 4), b)
    piece = _piece(symbols.lookup("batch"), Integer(1), oo, frozenset(), value)
    assert (piece.kind, piece.intercept_expr, piece.slope_expr) == ("asymptote", 3, 2)
    assert 0 < (3 + 2 * Integer(40) - value.xreplace({b: Integer(40)})) < Rational(1, 10**4)


@pytest.mark.parametrize(("model", "device", "techniques"), [place for place in PLACES if place[0] in ("llama-3-8b", "mixtral-8x7b-v0.1")])
def test_the_formulas_in_symbols_are_the_numbers(model: str, device: str, techniques: str) -> None:
    """Every part in symbols, with the step's sizes and the rate that applies to it, is the part in numbers."""
    step = made(model, techniques, 8, 2048)
    analysis = symroof.analyze(step, device)
    line = step_line(step, hardware=device)
    sizes = {symbol: value for symbol, value in analysis.values.items() if symbol not in (b, t)}
    for part in line.parts:
        point = analysis[part.operator]
        rates = {symbols.P: point.peak_expr} | {
            letter: point.machine.rates[resource]
            for resource, letter in RATES.items()
            if resource in point.machine.rates and point.operator.unit is None
        }
        if point.operator.unit is not None:
            rates |= {symbols.BW: point.bandwidth_expr}
        assert (part.formula.xreplace(sizes | rates) - part.seconds_expr).expand() == 0, part


def test_taken_by_hand() -> None:
    """Llama-2-7b in 16 bits on an A100 below any knee: 32 layers, 2 bytes a number, 2039 GB/s."""
    step = symroof.load_model("llama-2-7b").decode(batch=4, seq_len=1000, weight_bits=16, activation_bits=16, kv_bits=16)
    line = step_line(step, hardware="a100-sxm-80gb", ceilings="classic")
    rotation = 32 * 2 * 128  # a row of cosines and sines in every layer
    matrices = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096 + 65 * 4096 + rotation
    assert line.taus_exprs[0] == Rational(2 * matrices, 2039 * 10**9)
    scores = 32 * 32 * 2 * 4  # the scores are written, read, written as shares, and read
    assert line.taus_exprs[2] == Rational(2 * 32 * 4096 * 2 + scores, 2039 * 10**9)
    assert {part.resource for part in line.parts} == {"memory"}


def test_a_calibrated_step_is_a_secant() -> None:
    step = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048)
    line = step_line(step, hardware="h100-sxm", ceilings="calibrated")
    assert line.kind == "secant"
    assert any("not a line" in text for text in line.statements)
    for batch, context in ((8, 2048), (16, 2048), (8, 4096)):
        brute = symroof.analyze(made("llama-3-8b", "", batch, context), "h100-sxm", ceilings="calibrated").total.time_expr
        assert float(line.time_at_expr(batch, context)) == pytest.approx(float(brute), rel=1e-12)
    with pytest.raises(symroof.InputError, match="calibrated kernels have no pieces over batch"):
        line.lines()


def test_what_has_no_line_says_so() -> None:
    model = symroof.load_model("llama-3-8b")
    with pytest.raises(symroof.InputError, match="a decode step: ask from model"):
        step_line(model.prefill(batch=1, seq_len=128), hardware="h100-sxm")
    with pytest.raises(symroof.InputError, match="batch and seq_len must be given as numbers"):
        step_line(model.decode(), hardware="h100-sxm")
    with pytest.raises(symroof.InputError, match="'hidden_size'"):
        step_line(model.decode(batch=1, seq_len=128), hardware="h100-sxm").lines("hidden_size")


def test_a_tangent_touches() -> None:
    line = step_line(made("mixtral-8x7b-v0.1", "", 8, 2048), hardware="h100-sxm")
    intercept, slope = line.tangent_exprs
    assert intercept + 8 * slope == line.time_at_expr(8, 2048)
    assert collected(line.time_expr)[3] == line.rest_expr
    near = Rational(1, 1000)
    for side in (-near, near):  # a concave curve lies below its tangent
        assert (intercept + (8 + side) * slope - line.time_expr.xreplace({b: 8 + side, t: Integer(2048)})).evalf(30) > 0


def test_every_type_of_model_has_its_line() -> None:
    seen = set()
    for name in sampled([name for name in one_of_each_type() if "decode" in phases(name)], 4):
        step = symroof.load_model(name).decode(batch=16, seq_len=5000)
        line = step_line(step, hardware="b200")
        assert line.time_at_expr(16, 5000) == symroof.analyze(step, "b200").total.time_expr, name
        seen.add(line.kind)
    assert seen == {"line", "curve"}
