"""Certificates: proofs that hold, counterexamples that are ones, and two provers that never contradict each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Add, Expr, Integer, Mul, Poly

import symroof
from symroof.operators import Resource
from symroof.proof import smt
from symroof.proof.claims import decide
from symroof.proof.provers import by_roots, by_search, by_shift, holds, shift
from symroof.symbols import BW, P, b, d, substitute, t, w

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}


def decode(name: str = "llama-2-7b", **inputs: int):
    return symroof.load_model(name).decode(**(WIDTHS | inputs))


CLAIMS = [
    ("memory-bound", "qk_matmul", ["batch", "seq_len"], {}, "proved"),
    ("memory-bound", "qk_matmul+softmax+sv_matmul", ["batch", "seq_len", "head_dim"], {}, "proved"),
    ("memory-bound", "qk_matmul+softmax+sv_matmul", ["batch", "seq_len", "group_size"], {}, "refuted"),
    ("memory-bound", "up_proj", ["batch"], {}, "refuted"),
    ("compute-bound", "up_proj", ["batch"], {"batch": 162}, "proved"),
    ("compute-bound", "up_proj", ["batch"], {"batch": 161}, "refuted"),
    ("memory-bound", "up_proj", ["batch", "hidden_size"], {}, "refuted"),
    (
        "compute-bound",
        "up_proj",
        ["batch", "hidden_size", "intermediate_size"],
        {"batch": 300, "hidden_size": 2000, "intermediate_size": 2000},
        "proved",
    ),
    ("memory-bound", "attn_add", ["batch"], {}, "proved"),
    ("memory-bound", "weights-and-kv", ["batch", "seq_len"], {"seq_len": 166}, "proved"),
    ("memory-bound", "weights-and-kv", ["batch", "seq_len"], {"seq_len": 165}, "refuted"),
]


@pytest.mark.parametrize(("claim", "operator", "for_all", "at_least", "verdict"), CLAIMS)
def test_claims(claim: str, operator: str, for_all: list[str], at_least: dict[str, int], verdict: str) -> None:
    answer = symroof.prove(decode(), claim, operator, for_all=for_all, at_least=at_least, hardware="a100-sxm-80gb")
    assert answer.verdict == verdict
    assert answer.certificate
    assert claim in answer.claim
    if verdict == "refuted":
        point = {symbol: int(value) for symbol, value in answer.counterexample.items()}
        assert {symbol.name for symbol in point} == {symroof.roof.costs.variable_of(decode(), name).symbol.name for name in for_all}
        bound = {"memory-bound": "memory", "compute-bound": "compute"}[claim]
        assert not holds(bound, answer.slack, answer.counterexample)


def test_a_counterexample_is_one_on_the_roofline() -> None:
    answer = symroof.prove(decode(), "memory-bound", "up_proj", for_all=["batch"], hardware="a100-sxm-80gb")
    batch = int(answer.counterexample[b])
    assert symroof.analyze(decode(batch=batch, seq_len=1), "a100-sxm-80gb")["up_proj"].bound == "compute"
    assert symroof.analyze(decode(batch=batch - 1, seq_len=1), "a100-sxm-80gb")["up_proj"].bound == "memory"


def test_without_a_device_peak_and_bandwidth_range_too() -> None:
    answer = symroof.prove(decode(), "memory-bound", "softmax", for_all=["batch", "seq_len"])
    assert answer.verdict == "refuted"
    assert {P, BW} <= set(answer.counterexample)


def test_the_shift_certificate_can_be_checked_by_eye() -> None:
    answer = symroof.prove(decode(), "memory-bound", "qk_matmul", for_all=["batch", "seq_len"], hardware="a100-sxm-80gb")
    assert answer.certificate == "with t = 1 + y_t: -624797*y_t - 1248797 is negative term by term"
    shifted = shift(answer.slack, {t: Integer(1)})
    assert all(number < 0 for number in shifted.coeffs())


def test_every_part_of_a_certificate_says_what_it_is_against() -> None:
    """On an H100 the bytes of decode attention take longer than its matrix work, its vector work and its exponentials."""
    on = decode().on("h100-sxm")
    proof = on.prove("memory-bound", "qk_matmul+softmax+sv_matmul", for_all=["batch", "seq_len"])
    ceilings = [case.against.ceiling for case in proof.cases]
    assert ceilings == ["matrix peak", "vector peak", "exponential rate"]
    assert [part.partition(":")[0] for part in proof.certificate.split("; ")] == [f"against the {ceiling}" for ceiling in ceilings]
    for batch, context in ((1, 1), (3, 1000)):  # each slack has the sign of a difference of the times of the roofline
        fused = decode(batch=batch, seq_len=context, flash_attention=True).on("h100-sxm")["fused_attention"].seconds_exprs
        for case in proof.cases:
            slack = case.slack.subs({b: batch, t: context})
            assert slack < 0
            assert (fused[case.against] < fused[Resource.MEMORY]) == (slack < 0)
    classic = decode().on("h100-sxm", ceilings="classic").prove("memory-bound", "qk_matmul", for_all="seq_len")
    assert "against" not in classic.certificate
    assert "saturates" not in proof.certificate + classic.certificate


def test_the_branches_of_a_window_and_the_ceilings_are_both_said() -> None:
    proof = decode("mistral-7b-v0.1").on("h100-sxm").prove("memory-bound", "qk_matmul+softmax+sv_matmul", for_all="seq_len")
    assert proof.certificate.count("where t <= W, against the ") == proof.certificate.count("where t >= W, against the ") == 3
    assert len({case.slack for case in proof.cases if str(case.where) == "t <= W"}) == 3


def test_a_refutation_shows_the_slack_that_refutes_it() -> None:
    """FlashAttention's matrix work always takes longer than its vector work, and not always longer than its bytes."""
    prompt = symroof.load_model("llama-3-8b").prefill(batch=1, flash_attention=True).on("h100-sxm")
    answer = prompt.prove("compute-bound", "fused_attention", for_all="seq_len")
    assert answer.certificate.startswith("where c*e*s/4 <= M_L, against the memory bandwidth: ")
    assert substitute(answer.slack, answer.counterexample) < 0
    assert answer.sentence.endswith(f"not at seq_len = {next(iter(answer.counterexample.values()))}")
    assert {case.order[0] for case in answer.cases} == {Resource.COMPUTE}


@pytest.mark.parametrize(("claim", "place"), [("memory-bound", 0), ("compute-bound", 1)])
def test_a_refutation_shows_the_slack_of_its_own_ceiling(claim: str, place: int) -> None:
    """A fused activation never waits for the vector units; matrix peak and memory bandwidth refute, be they first or last."""
    answer = symroof.load_model("llama-3-8b").decode(seq_len=1024).on("h100-sxm").prove(claim, "up_proj+mlp_act", for_all="batch")
    refuting, vector = answer.cases[place], answer.cases[1 - place]
    assert vector.against is Resource.VECTOR is not refuting.against
    assert answer.slack == refuting.slack != vector.slack
    assert holds(claim.removesuffix("-bound"), vector.slack, answer.counterexample)
    assert not holds(claim.removesuffix("-bound"), answer.slack, answer.counterexample)


def test_zero_is_not_below_zero() -> None:
    """At b = 1 the slack is zero there: compute-bound, so the claim is refuted and not proved."""
    slack = 1 - b
    assert by_shift("memory", slack, {b: Integer(1)}) is None
    assert decide("", "memory", slack, {b: Integer(1)}).counterexample == {b: 1}
    assert by_shift("memory", P * (1 - b), {b: Integer(1), P: Integer(0)}) is None
    assert by_shift("memory", -P * b, {b: Integer(1), P: Integer(0)}) is not None
    assert by_shift("compute", b - 1, {b: Integer(1)}) is not None


def test_between_two_whole_numbers_nothing_is_refuted() -> None:
    """Negative only between 5/2 and 14/5: no whole number lies there, so the claim over whole numbers holds."""
    slack = (2 * b - 5) * (5 * b - 14)
    answer = decide("", "compute", slack.expand(), {b: Integer(1)})
    assert (answer.verdict, answer.by) == ("proved", "roots")
    over_reals = decide("", "compute", slack.expand().subs(b, w), {w: Integer(1)})
    assert over_reals.verdict == "refuted"


coefficients = st.integers(-6, 6)


@st.composite
def polynomials(draw: st.DrawFn) -> Expr:
    terms = [
        (draw(coefficients), draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(st.integers(0, 1)))
        for _ in range(draw(st.integers(1, 5)))
    ]
    return Add(*(Mul(number, b**i, t**j, d**k) for number, i, j, k in terms))


@pytest.mark.slow
@given(polynomials(), st.sampled_from(["memory", "compute"]))
@settings(max_examples=150, deadline=None)
def test_the_provers_agree_wherever_both_answer(slack: Expr, bound: str) -> None:
    lows = {symbol: Integer(1) for symbol in sorted(slack.free_symbols, key=str)}
    if not lows:
        return
    answers = [by_shift(bound, slack, lows), by_roots(bound, slack, lows), by_search(bound, slack, lows)]
    answers.append(smt.decide(bound, slack, lows, dict.fromkeys(lows, True)))
    verdicts = {answer[0] for answer in answers if answer is not None}
    assert len(verdicts) <= 1, answers
    for answer in answers:
        if answer is not None and answer[3] is not None:
            assert not holds(bound, slack, answer[3])
    if verdicts == {"proved"}:  # a grid cannot prove, but it can refute
        grid = [dict(zip(lows, map(Integer, (x, y, z)), strict=False)) for x in (1, 2, 7) for y in (1, 3, 50) for z in (1, 9)]
        assert all(holds(bound, slack, point) for point in grid)


def test_z3_takes_a_lower_end_of_zero_as_open() -> None:
    """-P is below zero for every positive P, though not at P = 0; from 1 on the end itself counts."""
    assert smt.decide("memory", -P, {P: Integer(0)}, {P: False})[0] == "proved"
    assert smt.decide("memory", 1 - b, {b: Integer(1)}, {b: True})[0] == "refuted"


def test_z3_answers_where_the_shift_does_not() -> None:
    """b^2 - 2 b t + t^2 + 1 is a square and one: positive, though not term by term."""
    slack = (b - t) ** 2 + 1
    lows = {b: Integer(1), t: Integer(1)}
    assert by_shift("compute", slack.expand(), lows) is None
    answer = decide("", "compute", slack.expand(), lows)
    assert (answer.verdict, answer.by) == ("proved", "z3")
    assert "no point with a slack < 0" in str(answer.certificate)
    below = decide("", "memory", -slack.expand(), lows)
    assert "no point with a slack >= 0" in str(below.certificate)


def test_without_z3_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smt, "find_spec", lambda _: None)
    slack = ((b - t) ** 2 + 1).expand()
    assert decide("", "compute", slack, {b: Integer(1), t: Integer(1)}).verdict == "unknown"


@pytest.mark.slow
@given(polynomials())
@settings(max_examples=60, deadline=None)
def test_shifting_moves_the_corner_to_zero(slack: Expr) -> None:
    lows = {b: Integer(3), t: Integer(2), d: Integer(5)}
    shifted: Poly = shift(slack, lows)
    assert shifted.eval(dict.fromkeys(shifted.gens, 0)) == slack.subs(lows)


WRONG = {
    "claim": (("memory", "up_proj", ["batch"], {}), "claim 'memory': did you mean memory-bound"),
    "variable": (("memory-bound", "up_proj", ["batsch"], {}), "'batsch' is not a symbol of the library: did you mean batch?"),
    "does not occur": (("memory-bound", "up_proj", ["seq_len"], {}), "'seq_len' (t) does not occur in up_proj"),
    "nothing": (("memory-bound", "up_proj", [], {}), "name at least one variable to range over"),
    "low": (("memory-bound", "up_proj", ["batch"], {"batch": 0}), "at least batch=0: expected 1 or more"),
    "not ranging": (
        ("memory-bound", "up_proj", ["batch"], {"hidden_size": 4}),
        "'hidden_size' is not among the variables that range over all",
    ),
    "width": (("memory-bound", "up_proj", ["weight_bits"], {}), "'weight_bits' decides which peak of a100-sxm-80gb applies"),
    "left over": (("memory-bound", "qk_matmul", ["seq_len"], {}), None),
    "letters": (
        ("memory-bound", "total", ["seq_len"], {}),
        "batch must be given as a number, or be among the variables that range over all",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_claims(case: str) -> None:
    (claim, operator, for_all, at_least), message = WRONG[case]
    if message is None:  # the batch cancels: nothing is left over
        assert symroof.prove(decode(), claim, operator, for_all=for_all, hardware="a100-sxm-80gb").verdict == "proved"
        return
    with pytest.raises(symroof.SymroofError) as error:
        symroof.prove(decode(), claim, operator, for_all=for_all, at_least=at_least, hardware="a100-sxm-80gb")
    assert message in str(error.value)


def test_z3_counts_zero_as_compute_bound() -> None:
    """-(b - 2)^2 - (t - 3)^2 is zero at one point: there the claim "memory-bound" fails."""
    lows = {b: Integer(1), t: Integer(1)}
    slack = (-((b - 2) ** 2) - (t - 3) ** 2).expand()
    verdict, by, _, point = smt.decide("memory", slack, lows, dict.fromkeys(lows, True))
    assert (verdict, by, point) == ("refuted", "z3", {b: 2, t: 3})


def test_z3_finds_a_counterexample_that_the_search_does_not() -> None:
    lows = {b: Integer(1), t: Integer(1)}
    slack = (1 - (b - 12345) ** 2 - (t - 777) ** 2).expand()
    assert by_search("memory", slack, lows) is None
    answer = decide("", "memory", slack, lows)
    assert (answer.verdict, answer.by) == ("refuted", "z3")
    assert not holds("memory", slack, answer.counterexample)


def test_a_proof_does_not_rest_on_the_order_of_the_variables() -> None:
    """FlashAttention's block rows depend on the head dimension: refused wherever it stands among the variables."""
    widths = {"weight_bits": 32, "activation_bits": 32, "kv_bits": 32}
    step = symroof.load_model("llama-2-7b").prefill(seq_len=4096, **widths).apply(symroof.technique("flash-attention:reread=memory"))
    for for_all in (["batch", "head_dim"], ["head_dim", "batch"], ["batch", "group_size"]):
        with pytest.raises(symroof.SymroofError, match="R depends on"):
            symroof.prove(step, "compute-bound", "fused_attention", for_all=for_all, hardware="a100-sxm-80gb")


@pytest.mark.parametrize("for_all", [["batch", "seq_len"], ["seq_len"]])
def test_counted_blocks_are_bounded_in_a_proof(for_all: list[str]) -> None:
    """64 rows that read keys and values for themselves: below 4 x 64 + 5/2 x 64 / 128 FLOP/byte at every length, and the ridge is 295."""
    alone = symroof.technique("flash-attention:rows=64,reread=memory")
    step = symroof.load_model("llama-2-7b").prefill(batch=1, **WIDTHS).apply(alone)
    assert symroof.prove(step, "memory-bound", "fused_attention", for_all=for_all, hardware="h100-sxm").verdict == "proved"
    assert symroof.prove(step, "compute-bound", "fused_attention", for_all=for_all, hardware="h100-sxm").verdict == "refuted"


def test_counterexamples_of_counts_are_whole() -> None:
    from sympy import Rational

    for claim in ("memory-bound", "compute-bound"):
        low = {"batch": Rational(3, 2)}
        answer = symroof.prove(decode(), claim, "up_proj", for_all=["batch", "hidden_size"], at_least=low, hardware="h100-sxm")
        assert answer.verdict == "refuted"
        assert all(value.is_Integer for value in answer.counterexample.values())


def test_one_variable_may_be_named_without_a_list() -> None:
    assert symroof.prove(decode(), "memory-bound", "up_proj", for_all="batch", hardware="a100-sxm-80gb").verdict == "refuted"


def test_the_search_goes_through_corners_near_and_far() -> None:
    slack = (b - 10) * (b - 100) + d + t  # below zero for some b between, and no corner of powers far out
    verdict, _, _, point = by_search("compute", slack, {b: Integer(0), d: Integer(1), t: Integer(1)})
    assert verdict == "refuted"
    assert slack.subs(point) < 0


def test_a_counterexample_in_one_variable_is_near_where_the_claim_ends() -> None:
    verdict, _, _, point = by_roots("compute", 5 - BW, {BW: Integer(1)})
    assert (verdict, point) == ("refuted", {BW: 6}), "at 5 both sides are equal, which counts as compute-bound"
