"""Shares of a stack against brute force over orders of joining and analyses of every subset; interactions; what is refused."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, permutations
from math import factorial, isclose
from typing import Any, ClassVar

import pytest
from sympy import Expr, Integer, Rational, S

import symroof
from symroof.operators import Graph
from symroof.serving.stacks.orders import joining, orders
from symroof.techniques.technique import Technique, word
from tests.steps import EVERYTHING, sampled

DRAFT = "speculative:length=4,acceptance=0.8,draft_cost=0.05"
STACKS: dict[str, tuple[str, str, dict[str, int], tuple[str, ...], str]] = {
    "dense": ("llama-2-7b", "decode", {"seq_len": 2048}, ("quantize:weights=4,group=128", "quantize:kv=8"), "a100-sxm-80gb"),
    "drafting": ("llama-3-8b", "decode", {"seq_len": 4096}, ("quantize:weights=4,group=128", "sparsify:pattern=2:4", DRAFT), "h100-sxm"),
    "experts": (
        "mixtral-8x7b-v0.1",
        "decode",
        {"seq_len": 4096},
        ("quantize:weights=4,group=128", "quantize:kv=8", "tensor-parallel:degree=2"),
        "h100-sxm",
    ),
    "prompt": ("llama-2-7b", "prefill", {"seq_len": 1024}, ("flash-attention", "quantize:weights=8,activations=8"), "a100-sxm-80gb"),
    "window": ("mistral-7b-v0.1", "decode", {"seq_len": 8192}, ("quantize:kv=4", "flash-attention", "quantize:weights=8"), "l4"),
}


@functools.cache
def stack(name: str) -> symroof.Ablation:
    model, phase, inputs, techniques, device = STACKS[name]
    step = getattr(symroof.load_model(model), phase)(**inputs)
    return symroof.ablate(step, techniques, hardware=device)


@functools.cache
def seconds(name: str, batch: int, chosen: frozenset[int]) -> Expr:
    """Seconds per generated token after some members, by an analysis."""
    model, phase, inputs, techniques, device = STACKS[name]
    step = getattr(symroof.load_model(model), phase)(batch=batch, **inputs)
    on = step.apply(*(text for place, text in enumerate(techniques) if place in chosen)).on(device)
    return on.total.time_expr / on.analysis.graph.tokens


@pytest.mark.parametrize("name", sampled(STACKS, 2))
@pytest.mark.parametrize("batch", [1, 40, 300, 2000] if EVERYTHING else [3, 300])
def test_shares_are_the_means_over_all_orders(name: str, batch: int) -> None:
    found = stack(name).at(batch)
    count = len(found)
    means, logs = [S.Zero] * count, [1.0] * count
    for order in permutations(range(count)):
        for place, member in enumerate(order):
            before, after = (seconds(name, batch, frozenset(order[:end])) for end in (place, place + 1))
            means[member] += (before - after) / factorial(count)
            logs[member] *= float(before / after) ** (1 / factorial(count))
    assert [member.share_expr for member in found] == means
    assert all(isclose(float(member.factor_expr), log, rel_tol=1e-12) for member, log in zip(found, logs, strict=True))
    everyone = frozenset(range(count))
    assert [member.alone_expr for member in found] == [found.before_expr - seconds(name, batch, frozenset({i})) for i in range(count)]
    assert [member.last_expr for member in found] == [seconds(name, batch, everyone - {i}) - found.after_expr for i in range(count)]


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("batch", [1, 77])
def test_shares_add_up_and_factors_multiply(name: str, batch: int) -> None:
    found = stack(name)
    at = found.at(batch)
    assert sum(member.share_expr for member in at) == at.before_expr - at.after_expr == found.gain.pieces_expr(batch)
    assert sum(member.part_expr for member in at) == 1
    product = 1.0
    for member in at:
        product *= float(member.factor_expr)
    assert isclose(product, float(at.before_expr / at.after_expr), rel_tol=1e-12)
    assert [member.share.pieces_expr(batch) for member in found] == [member.share_expr for member in at]
    assert sum(at.by_family_exprs().values()) == at.before_expr - at.after_expr


@pytest.mark.parametrize("name", sampled(STACKS, 2))
def test_an_interaction_is_what_is_left_of_four_analyses(name: str) -> None:
    found = stack(name)
    members = range(len(found))
    for (i, j), pair in zip(combinations(members, 2), found.interactions, strict=True):
        assert (pair.first, pair.second) == (found[i].name, found[j].name)
        for batch in (1, 60, 500):
            both, one, other, none = (seconds(name, batch, frozenset(chosen)) for chosen in ({i, j}, {i}, {j}, ()))
            left = both - one - other + none
            assert pair.time.pieces_expr(batch) == left
            label = next(each.label for each in pair.signs if each.low_expr < batch + Rational(1, 2) < each.high_expr)
            assert label == ("help each other" if left < 0 else "compete" if left > 0 else "independent") or left == 0


@pytest.mark.parametrize("name", STACKS)
def test_the_leader_has_the_largest_share(name: str) -> None:
    found = stack(name)
    assert found.leaders[0].low_expr == 1
    for interval in found.leaders:
        for batch in {int(interval.low_expr) + 1, min(int(interval.low_expr) * 2 + 1, 10**6)}:
            if interval.low_expr < batch < interval.high_expr:
                shares = {member.name: member.share_expr for member in found.at(batch)}
                assert shares[interval.label] == max(shares.values())


def test_a_pair_on_the_same_bytes_competes_for_the_product_of_what_each_leaves_out() -> None:
    """Bytes after both are ``w a b``, so ``w a b - w a - w b + w = w (1 - a) (1 - b)``, which is never below 0."""
    found = stack("drafting")
    pair = found.interactions[0]
    model, _, inputs, techniques, _ = STACKS["drafting"]
    linear = {"gate_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "out_proj"}
    expected = S.Zero
    base = symroof.load_model(model).decode(batch=1, **inputs, weight_bits=16, activation_bits=16, kv_bits=16)
    chains = ((), techniques[:1], techniques[1:2])
    steps = [base.apply(*chain) for chain in chains]
    for operator, count in steps[0]:
        if operator.name in linear:
            whole, first, second = (step[operator.name].byte_count(symroof.operators.Storage.WEIGHT) for step in steps)
            quantized, stored = first / whole, second / whole - Rational(1, 16)  # the 2-bit index of two kept of four is not quantized
            expected += count * whole * (1 - quantized) * (1 - stored)
    at_1 = next(iter(pair.signs))
    assert at_1.label == "compete"
    assert pair.bytes_exprs["weight"] == expected


@dataclass(frozen=True)
class _Narrow(Technique):
    """The weights of one matrix in half their bits: two of them, on matrices of one size, are symmetric."""

    name: ClassVar[str] = "narrow"
    summary: ClassVar[str] = "one matrix in half its bits"
    matrix: str = word("up_proj")

    def rewrite(self, graph: Graph, given: Any) -> Graph:
        return graph.map(tensor=lambda tensor: replace(tensor, bits=tensor.bits / 2) if tensor.name == f"{self.matrix}.weight" else tensor)


@dataclass(frozen=True)
class _Nothing(Technique):
    """Changes no number."""

    name: ClassVar[str] = "nothing"
    summary: ClassVar[str] = "nothing"

    def rewrite(self, graph: Graph, given: Any) -> Graph:
        return replace(graph, definitions={**graph.definitions})


@dataclass(frozen=True)
class _Second(_Narrow):
    """Needs another one before it."""

    name: ClassVar[str] = "second"

    def rewrite(self, graph: Graph, given: Any) -> Graph:
        if not any(isinstance(applied, _Narrow) for applied in graph.applied):
            raise self.refused("comes after narrow")
        return super().rewrite(graph, given)


STEP = symroof.load_model("llama-2-7b").decode(seq_len=2048)
A100 = {"hardware": "a100-sxm-80gb"}


def test_symmetric_members_have_equal_shares_and_one_without_effect_has_none() -> None:
    found = symroof.ablate(STEP, ["quantize:kv=8", _Narrow("up_proj"), _Nothing(), _Narrow("gate_proj")], **A100)
    for batch in (1, 8, 120, 300):
        cache, up, nothing, gate = found.at(batch)
        assert up.share_expr == gate.share_expr
        assert up.factor_expr == gate.factor_expr
        assert (nothing.share_expr, nothing.alone_expr, nothing.last_expr, nothing.factor_expr) == (0, 0, 0, 1)
        assert cache.share_expr > 0
        assert (up.share_expr > 0) == (batch < 160)
    assert [member.family for member in found] == ["compression", "own", "own", "own"]


def test_a_refused_subset_takes_part_in_no_order_and_is_reported_with_its_reason() -> None:
    found = symroof.ablate(STEP, [_Narrow("up_proj"), _Second("gate_proj"), "quantize:kv=8"], **A100)
    assert {(one.name, one.reason) for one in found.refused} == {
        ("second:matrix=gate_proj", "second: comes after narrow"),
        ("second:matrix=gate_proj quantize:kv=8", "second: comes after narrow"),
    }
    assert found.order_count == 3
    first, second, cache = found.at(4)
    assert (found[1].alone, second.alone_expr, found[0].last, first.last_expr) == (None, None, None, None)
    assert first.share_expr + second.share_expr + cache.share_expr == found.at(4).before_expr - found.at(4).after_expr
    times = {subset: time(4) for subset, time in found.times_exprs.items()}
    orders_left = ((0, 1, 3, 7), (0, 1, 5, 7), (0, 4, 5, 7))  # second after narrow, the cache anywhere
    assert first.share_expr == sum(times[0] - times[1] if 1 in way else times[4] - times[5] for way in orders_left) / Integer(3)
    assert {(pair.first, pair.second) for pair in found.interactions} == {("narrow", "quantize:kv=8")}
    with pytest.raises(symroof.InputError, match="the whole stack is refused: second: comes after narrow"):
        symroof.ablate(STEP, [_Second("gate_proj"), _Narrow("up_proj")], **A100)


@pytest.mark.parametrize("seed", range(20))
def test_weights_of_restricted_orders_against_all_orders(seed: int) -> None:
    """Some subsets are left out; the mean is over the permutations whose prefixes are all left in."""
    draw, count = random.Random(seed), 4
    value = {subset: draw.randint(-20, 20) for subset in range(2**count)}
    accepted = {0, 2**count - 1} | {subset for subset in range(2**count) if draw.random() < 0.7}
    paths = []
    for order in permutations(range(count)):
        prefixes = [sum(1 << one for one in order[:end]) for end in range(count + 1)]
        if accepted.issuperset(prefixes):
            paths.append((order, prefixes))
    assert orders(count, accepted)[0].get(2**count - 1, 0) == len(paths)
    for place in range(count):
        weights = joining(count, accepted, place)
        if not paths:
            assert weights == {}
            continue
        gains = [value[prefixes[order.index(place) + 1]] - value[prefixes[order.index(place)]] for order, prefixes in paths]
        assert sum(share * (value[subset | 1 << place] - value[subset]) for subset, share in weights.items()) == Fraction(
            sum(gains), len(gains)
        )
        assert sum(weights.values()) == 1


REFUSED: dict[str, tuple[Any, str]] = {
    "none": ([], "give the techniques"),
    "a text": ("quantize:weights=4", "expected a list"),
    "unknown": (["quantise:weights=4"], "quantise"),
    "twice": (["quantize:kv=8", "quantize:kv=8"], "'quantize:kv=8.*' is given twice"),
    "nine": ([f"scale-hardware:bandwidth={n}" for n in range(2, 11)], "9 members have 512 subsets.*at most 8; join some"),
    "order": (["tensor-parallel:degree=2", "tensor-parallel:degree=4"], "the whole stack is refused"),
    "a symbol": (["quantize:weights=4", "low-rank"], "rank must be given as a number"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_ablated_is_refused_in_one_line(name: str) -> None:
    techniques, match = REFUSED[name]
    with pytest.raises(symroof.SymroofError, match=match) as refused:
        symroof.load_model("llama-2-7b").decode(seq_len=2048).on("a100-sxm-80gb").ablate(techniques)
    assert "\n" not in str(refused.value)


def test_device_seconds_count_devices() -> None:
    on = symroof.load_model("llama-3-8b").decode(seq_len=4096).on("h100-sxm")
    split = ["tensor-parallel:degree=2", "quantize:weights=4,group=128"]
    alone, together = (on.ablate(split, per_device=each).at(Integer(16)) for each in (False, True))
    assert together.before_expr == alone.before_expr
    assert together.after_expr == 2 * alone.after_expr
    assert alone[0].share_expr > 0 > together[0].share_expr


def test_the_command(run) -> None:
    asked = ("ablate", "llama-2-7b", "--hardware", "a100-sxm-80gb", "--seq-len", "2048", "--with", "quantize:weights=4,group=128")
    whole = (*asked, "--with", "quantize:kv=8", "--at", "16")
    printed = run(*whole).out
    assert "15.13 ms to 6.198 ms per token, 2.44x" in printed
    found = json.loads(run(*whole, "--format", "json").out)
    assert found["at"][0]["members"][0]["part"] == pytest.approx(0.528, abs=1e-3)
    assert [one["they"] for one in found["interactions"][0]["intervals"]] == ["independent", "compete", "independent"]
    assert "is given twice" in run(*asked, *asked[-2:]).err
