"""Experts that a step reads: against enumeration, against the most there can be, and on the critical batch."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from sympy import Integer, Min, Rational

import symroof
from symroof.operators.tensor import Storage
from symroof.questions.payoff import counted
from symroof.symbols import X, lookup
from symroof.techniques.decoding.expert_routing import shares
from tests.techniques.decoding_steps import DEVICE, WIDTHS, apply, costs, decode, memory, seconds

MIXTURES = ("mixtral-8x7b-v0.1", "deepseek-v2-lite", "olmoe-1b-7b-0924")
READING = ("expert_gate_proj", "expert_up_proj", "expert_down_proj")


def touched(model, text="expert-routing", **inputs):
    return apply(decode(model, **{"seq_len": 64, **inputs}), text).graph.definitions[X]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_uniform_by_enumeration(tokens):
    """Every way in which tokens choose 2 of 8 experts."""
    pairs = list(itertools.combinations(range(8), 2))
    distinct = [len(set().union(*way)) for way in itertools.product(pairs, repeat=tokens)]
    assert touched("mixtral-8x7b-v0.1", batch=tokens) == Rational(sum(distinct), len(distinct))


def test_the_statement_says_how_experts_are_chosen():
    for skew, how in (("0", "independently and uniformly"), ("1/2", "independently and by Zipf's law with exponent 1/2")):
        after = apply(decode("mixtral-8x7b-v0.1", batch=4, seq_len=64), f"expert-routing:skew={skew}")
        assert sum(how in line for line in after.statements) == 1


def test_skewed_by_enumeration():
    """Two tokens that choose every expert independently with its probability: the expected number of distinct ones."""
    likely = [Fraction(int(one.p), int(one.q)) for one in shares(Rational(1), 4, 2)]
    mean = Fraction(0)
    for choices in itertools.product((False, True), repeat=8):
        chance = Fraction(1)
        for place, chosen in enumerate(choices):
            chance *= likely[place % 4] if chosen else 1 - likely[place % 4]
        mean += chance * len({place % 4 for place, chosen in enumerate(choices) if chosen})
    formula = sum(1 - (1 - one) ** 2 for one in likely)
    assert mean == formula


@pytest.mark.parametrize(("experts", "routed"), [(8, 2), (64, 6), (256, 8), (4, 4), (128, 1)])
@pytest.mark.parametrize("skew", [Rational(0), Rational(1, 2), Rational(1), Rational(7, 3), Rational(8)])
def test_probabilities(experts, routed, skew):
    found = shares(skew, experts, routed)
    assert len(found) == experts
    assert sum(found) == routed
    assert all(0 <= one <= 1 for one in found)
    assert list(found) == sorted(found, reverse=True)
    inside = [(place, one) for place, one in enumerate(found, 1) if 0 < one < 1]
    for (i, high), (j, low) in itertools.pairwise(inside):
        ratio = (j / i) ** float(skew)
        assert abs(float(high) - float(low) * ratio) < (1 + ratio) / 65536


@pytest.mark.parametrize("model", MIXTURES)
def test_between_its_bounds(model):
    experts, routed = (decode(model, seq_len=64).values[lookup(name).symbol] for name in ("E", "K"))
    for tokens in (1, 2, 7, 64):
        uniform = touched(model, batch=tokens)
        skewed = [touched(model, f"expert-routing:skew={skew}", batch=tokens) for skew in ("1/2", "1", "2")]
        assert routed <= skewed[2] <= skewed[1] <= skewed[0] <= uniform <= min(experts, routed * tokens)
        assert tokens > 1 or {uniform, *skewed} == {routed}
    assert touched(model, "expert-routing:skew=0", batch=5) == touched(model, batch=5)
    ratio = min(experts, routed * (experts // routed)) / touched(model, batch=int(experts // routed))
    assert 1 < ratio < Rational(1582, 1000)  # 1 / (1 - 1/e), where K T = E


@pytest.mark.parametrize("model", MIXTURES)
@pytest.mark.parametrize("text", ["expert-routing", "expert-routing:skew=1"])
def test_it_changes_the_experts_read_and_nothing_else(model, text):
    step = decode(model, batch=4, seq_len=64, experts="at-most")
    after = apply(step, text)
    before, now = costs(step.graph), costs(after.graph)
    prefixes = tuple(name for name in before if name.split(".")[-1] in READING)
    assert {name for name in before if now[name] != before[name]} == set(prefixes)
    ratio = after.graph.definitions[X] / step.graph.definitions[X]
    for name in prefixes:
        assert now[name][0] == before[name][0]
        assert after[name].byte_count(Storage.WEIGHT) == ratio * step[name].byte_count(Storage.WEIGHT)
        assert after[name].byte_count(Storage.ACTIVATION) == step[name].byte_count(Storage.ACTIVATION)
    assert memory(after) == memory(step)


def test_mixtrals_active_parameters():
    """12.9e9 (Jiang et al. 2024, arXiv:2401.04088, section 1): what one token meets, the embedding table in full."""
    step = apply(decode("mixtral-8x7b-v0.1", batch=1, seq_len=64), "expert-routing")
    model = symroof.load_model("mixtral-8x7b-v0.1")
    read = step.graph.byte_count(Storage.WEIGHT) / 2
    table = 32000 * 4096
    assert read + table - 4096 == model.active_parameters  # one row of the table is read
    assert round(float(model.active_parameters) / 1e9, 1) == 12.9


@pytest.mark.parametrize("model", MIXTURES)
def test_one_critical_batch_at_most(model):
    """FLOP/byte rises with the batch, so an operator turns compute-bound once: brute force, and where the bound says."""
    names = [operator.name for operator, _ in decode(model, seq_len=64) if operator.name.endswith("expert_up_proj")]
    plain = decode(model, seq_len=64, experts="at-most")
    critical = int(symroof.crossover(plain, names[0], over="batch", hardware=DEVICE).first_integer)
    last = 0
    for batch in (1, 2, 3, 5, 8, 13, 40, 200, critical - 1, critical):
        placed = symroof.analyze(apply(decode(model, batch=batch, seq_len=64), "expert-routing"), DEVICE)[names[0]]
        assert placed.intensity_expr > last
        last = placed.intensity_expr
        if batch in (critical - 1, critical):
            assert placed.bound == ("memory" if batch < critical else "compute")


def test_pays_where_tokens_share():
    step = decode("mixtral-8x7b-v0.1", seq_len=64, experts="at-most")
    found = counted(step, apply(step, "expert-routing"), over="batch", hardware=DEVICE, last=12, operator="expert_up_proj")
    assert [(one.low, one.bound) for one in found.intervals] == [(1, "the same"), (2, "pays")]
    for batch in (2, 4, 11):
        one = decode("mixtral-8x7b-v0.1", batch=batch, seq_len=64, experts="at-most")
        assert found.speedup_expr(batch) == seconds(one, "expert_up_proj") / seconds(apply(one, "expert-routing"), "expert_up_proj")


def test_over_another_letter_it_is_a_polynomial():
    """Over K with four tokens: E (1 - (1 - K/E)^4)."""
    step = apply(decode("mixtral-8x7b-v0.1", batch=4, seq_len=64), "expert-routing")
    found = symroof.regimes(step, over="experts_per_token", hardware=DEVICE)
    assert found.time_expr(Integer(2)) == seconds(step)


@pytest.mark.parametrize("over", ["batch"])
def test_time_over_a_batch_in_an_exponent_is_exact(over):
    plain = decode("mixtral-8x7b-v0.1", seq_len=64, experts="at-most")
    step = apply(plain, "expert-routing")
    found = symroof.regimes(step, over=over, hardware=DEVICE)
    for batch in (1, 2, 7, 300, 642, 643, 1000):
        assert found.time_expr(batch) == seconds(apply(decode("mixtral-8x7b-v0.1", batch=batch, seq_len=64), "expert-routing"))
    gain = symroof.payoff(plain, step, over=over, hardware=DEVICE, operator="expert_up_proj")
    (knee,) = gain.edges
    assert [one.bound for one in gain.intervals] == ["pays", "the same"]
    for batch, faster in ((int(knee), True), (int(knee) + 1, False)):  # on both sides of it, by analysis in numbers
        times = [
            symroof.analyze(one, DEVICE)["expert_up_proj"].time_expr
            for one in (
                decode("mixtral-8x7b-v0.1", batch=batch, seq_len=64, experts="at-most"),
                apply(decode("mixtral-8x7b-v0.1", batch=batch, seq_len=64), "expert-routing"),
            )
        ]
        assert (times[0] > times[1]) == faster
    assert (
        symroof.crossover(step, "q_proj", over=over, hardware=DEVICE).value_expr
        == symroof.crossover(decode("mixtral-8x7b-v0.1", seq_len=64, experts="at-most"), "q_proj", over=over, hardware=DEVICE).value_expr
    )


def test_sweep_and_prefill():
    chain = [symroof.technique("expert-routing:skew=1")]
    swept = symroof.sweep("mixtral-8x7b-v0.1", DEVICE, {"batch": [1, 4, 50]}, seq_len=64, techniques=chain)
    for batch in (1, 4, 50):
        exact = seconds(decode("mixtral-8x7b-v0.1", batch=batch, seq_len=64).apply(*chain))
        assert float(swept["time"].sel(batch=batch).squeeze()) == pytest.approx(float(exact), rel=1e-12)
    prompt = symroof.load_model("mixtral-8x7b-v0.1").prefill(batch=2, seq_len=3, **WIDTHS)
    assert apply(prompt, "expert-routing").graph.definitions[X] == 8 * (1 - Rational(3, 4) ** 6)
    letters = apply(symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True), "expert-routing").symbolic
    assert not letters.definitions[X].has(Min)


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("llama-2-7b", "expert-routing", "this model is dense"),
        ("mixtral-8x7b-v0.1", "expert-routing:skew", "skew must be a number"),
        ("mixtral-8x7b-v0.1", "expert-routing:skew=9", "at most 8"),
        ("mixtral-8x7b-v0.1", "expert-routing:skew=1/17", "denominator of at most 16"),
        ("mixtral-8x7b-v0.1", "expert-routing expert-routing", "only once"),
    ],
)
def test_refusals(model, text, message):
    with pytest.raises(symroof.SymroofError, match=message) as told:
        apply(decode(model, batch=2, seq_len=64), *text.split())
    assert "\n" not in str(told.value)


def test_uniform_routing_is_what_a_step_has_anyway():
    for model in MIXTURES:
        for inputs in ({"batch": 7}, {"batch": 10**12}, {}):
            plain = decode(model, seq_len=64, **inputs)
            assert apply(plain, "expert-routing").symbolic.definitions == plain.symbolic.definitions


def test_a_skew_needs_numbers():
    symbolic = symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True)
    with pytest.raises(symroof.SymroofError, match="they are symbols"):
        apply(symbolic, "expert-routing:skew=1")
