"""Recurrences against loops that count, weights that layers share, and experts without weights against enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
from sympy import Add, Expr, Integer, Rational

import symroof
from symroof import symbols
from symroof.operators import Operator, Space, Storage, Tensor, axes_of
from symroof.operators.state_space import decayed_average, decayed_sum, matrix_memory, token_shift
from symroof.techniques.registry import chain
from tests.steps import step

B, S, H, K, V = 2, 3, 2, 3, 4
SIZES = {"b": B, "s": S, "d": 5, "h_l": H, "e_k": K, "e_l": V, "d_i": 6, "three": 3, "memory": K * V + K + 1}
SPACE = Space({axis: Integer(size) for axis, size in SIZES.items()})


class Counted:
    """A number whose every operation is counted, exponentials besides."""

    flops = exponentials = 0

    def __init__(self, value: float) -> None:
        self.value = value

    @classmethod
    def made(cls, value: float) -> Counted:
        Counted.flops += 1
        return cls(value)

    def __add__(self, other: Any) -> Counted:
        return Counted.made(self.value + _value(other))

    def __sub__(self, other: Any) -> Counted:
        return Counted.made(self.value - _value(other))

    def __mul__(self, other: Any) -> Counted:
        return Counted.made(self.value * _value(other))

    def __truediv__(self, other: Any) -> Counted:
        return Counted.made(self.value / _value(other))

    def __neg__(self) -> Counted:
        return Counted.made(-self.value)


def _value(x: Any) -> float:
    return x.value if isinstance(x, Counted) else x


def exp(x: Counted) -> Counted:
    Counted.exponentials += 1
    return Counted.made(math.exp(x.value))


def of(function: Callable[[float], float], x: Counted) -> Counted:
    return Counted.made(function(x.value))


def largest(x: Counted, y: Counted) -> Counted:
    return Counted.made(max(x.value, y.value))


def dot(xs: Sequence[Counted], ys: Sequence[Counted]) -> Counted:
    total = Counted(0)
    for x, y in zip(xs, ys, strict=True):
        total = total + x * y
    return total


def numbers(count: int, seed: float = 0.3) -> list[Counted]:
    return [Counted(math.sin(seed + place)) for place in range(count)]


def sum_loop() -> None:
    for _ in range(B * H):
        memory, decay = [numbers(V) for _ in range(K)], Counted(0.9)
        for _ in range(S):
            q, k, v = [x * 0.5 for x in numbers(K)], numbers(K), numbers(V)
            memory = [[decay * memory[i][j] + k[i] * v[j] for j in range(V)] for i in range(K)]
            for j in range(V):
                dot([memory[i][j] for i in range(K)], q)


def memory_loop() -> None:
    for _ in range(B * H):
        memory, normalizer, m = [numbers(V) for _ in range(K)], numbers(K), Counted(0)
        for _ in range(S):
            q, k, v = [x * 0.5 for x in numbers(K)], numbers(K), numbers(V)
            put, keep = (of(math.tanh, gate / 15) * 15 for gate in (Counted(0.2), Counted(3.0)))
            held = -of(math.log, exp(-keep) + 1) + m
            m = largest(held, put)
            f, i = exp(held - m), exp(put - m)
            k = [i * x for x in k]
            memory = [[f * memory[row][j] + k[row] * v[j] for j in range(V)] for row in range(K)]
            normalizer = [f * n + x for n, x in zip(normalizer, k, strict=True)]
            below = largest(of(abs, dot(normalizer, q)), exp(-m)) + 1e-6
            for j in range(V):
                dot([memory[row][j] for row in range(K)], q) / below


def average_loop() -> None:
    rates = [-exp(x) for x in numbers(6)]
    for _, channel in itertools.product(range(B), range(6)):
        above, below, m, own = Counted(0), Counted(0), Counted(-9), Counted(0.3)
        for k, v in zip(numbers(S, 1), numbers(S, 2), strict=True):
            here = k + own
            top = largest(m, here)
            e1, e2 = exp(m - top), exp(here - top)
            (e1 * above + e2 * v) / (e1 * below + e2)
            kept = m + rates[channel]
            m = largest(kept, k)
            e1, e2 = exp(kept - m), exp(k - m)
            above, below = e1 * above + e2 * v, e1 * below + e2


def shift_loop() -> None:
    for _ in range(B * 3 * 5):
        before, mixture, rest = Counted(0), Counted(0.4), Counted(0.6)
        for x in numbers(S):
            mixture * x + rest * before
            before = x


def tensor(axes: str) -> Tensor:
    return Tensor(axes, axes_of(axes), Storage.ACTIVATION, SPACE)


QUERIES, VALUES, GATES = tensor("b s h_l e_k"), tensor("b s h_l e_l"), tensor("b s h_l")
CHANNELS = tensor("b s d_i")
LOOPS: dict[str, tuple[Operator, Callable[[], None]]] = {
    "decayed sum": (decayed_sum("x", QUERIES, tensor("b s h_l e_k"), VALUES), sum_loop),
    "matrix memory": (matrix_memory("x", QUERIES, tensor("b s h_l e_k"), VALUES, (GATES, tensor("b s h_l"))), memory_loop),
    "decayed average": (decayed_average("x", CHANNELS, tensor("b s d_i")), average_loop),
    "token shift": (token_shift("x", tensor("b s d"), "three"), shift_loop),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_recurrence_does_what_its_loop_does(name: str) -> None:
    operator, loop = LOOPS[name]
    Counted.flops = Counted.exponentials = 0
    loop()
    assert operator.flop_count == Counted.flops
    assert sum(operator.space.points(piece.axes) * piece.exponentials for piece in operator.work) == Counted.exponentials


@pytest.mark.parametrize("name", LOOPS)
def test_a_recurrence_keeps_one_state(name: str) -> None:
    """What goes back to an earlier state, after rejected drafts say, finds all of it in one tensor."""
    assert sum(access.tensor.storage is Storage.KV_CACHE for access in LOOPS[name][0].writes) == 1


# ------------------------------------------------------------------------------------------------ weights that layers share

ZAMBA = ("zamba2-7b", "zamba2-1.2b", "zamba-7b-v1")


@pytest.mark.parametrize("name", ZAMBA)
def test_shared_weights_are_kept_once_per_block_and_read_once_per_layer(name: str) -> None:
    """Attention over twice the hidden size, a gated MLP and two norms: n_b times in memory, L_hybrid times in traffic."""
    model = symroof.load_model(name)
    sizes = {str(symbol): int(value) for symbol, value in model.dimensions.items()}
    d, f, blocks, layers = sizes["d"], sizes["f"], sizes["n_b"], sizes["L_hybrid"]
    attention = 2 * d * sizes["e"] * (sizes["h"] + 2 * sizes["k"]) + sizes["h"] * sizes["e"] * d
    block = attention + 3 * d * f + 2 * d + d
    decode = step(name, batch=1, seq_len=64)
    assert weights(decode, shared=True) == blocks * block
    reads = [count * access.byte_count for operator, count in decode for access in operator.reads if access.tensor.copies is not None]
    assert sum(reads) == 2 * layers * block
    per_token = 2 * layers * 2 * sizes["k"] * sizes["e"]
    assert model.cache.growth.subs(symbols.c, 16) == per_token


def weights(one: symroof.Step, *, shared: bool) -> Expr:
    """Elements of the weights that layers share, or of all others."""
    kept = one.graph.resident(Storage.WEIGHT).items()
    return Add(*(count * tensor.elements for tensor, count in kept if (tensor.copies is not None) == shared))


def test_two_shared_blocks_stay_in_every_stage_of_a_pipeline() -> None:
    """Of 13 hybrid layers a stage has some, and both blocks with them; of the layers' own weights it has its part."""
    whole, stage = (step("zamba2-7b", batch=4, seq_len=64, techniques=name) for name in ("", "pipeline-parallel:degree=4,micro_batches=4"))
    assert weights(stage, shared=True) == weights(whole, shared=True) > 0
    assert weights(stage, shared=False) < weights(whole, shared=False) / 3


# ------------------------------------------------------------------------------------------------ experts without weights


@pytest.mark.parametrize(("experts", "zero", "choices", "tokens"), [(3, 1, 2, 2), (2, 2, 2, 3), (4, 2, 3, 2), (2, 1, 1, 4)])
def test_experts_without_weights_against_every_choice(experts: int, zero: int, choices: int, tokens: int) -> None:
    """The mean number of experts with weights per token, and of those that a step reads, over all equally likely choices."""
    ways = list(itertools.combinations(range(experts + zero), choices))
    mean = Fraction(sum(sum(one < experts for one in way) for way in ways), len(ways))
    steps = list(itertools.product(ways, repeat=tokens))
    touched = Fraction(sum(len({one for way in given for one in way if one < experts}) for given in steps), len(steps))
    graph = symroof.load_model("longcat-flash-chat").decode(symbolic=True).symbolic
    sizes = {symbols.E: experts, symbols.E_z: zero, symbols.K_z: choices, symbols.b: tokens}
    bound = graph.bind({symbol: Integer(value) for symbol, value in sizes.items()})
    assert bound.definitions[symbols.K] == mean
    assert bound.definitions[symbols.X].subs(symbols.K, mean) == touched


@pytest.mark.parametrize(("experts", "zero", "choices", "devices"), [(4, 2, 2, 2), (6, 3, 4, 3), (4, 1, 3, 4)])
def test_devices_that_have_some_of_a_token_s_experts(experts: int, zero: int, choices: int, devices: int) -> None:
    """Over all choices; experts without weights are on no device."""
    ways = list(itertools.combinations(range(experts + zero), choices))
    mean = Fraction(sum(len({one * devices // experts for one in way if one < experts}) for way in ways), len(ways))
    spread = symroof.load_model("longcat-flash-chat").decode(symbolic=True).apply(*chain([f"expert-parallel:degree={devices}"]))
    sizes = {symbols.E: experts, symbols.E_z: zero, symbols.K_z: choices}
    assert spread.symbolic.definitions[symbols.K_d].subs({**sizes, symbols.n_p: devices}) == mean


@pytest.mark.parametrize("technique", ["expert-routing:skew=1", "expert-parallel:degree=8,imbalance=expected"])
def test_what_knows_only_experts_with_weights_says_so(technique: str) -> None:
    with pytest.raises(symroof.SymroofError, match="weights"):
        step("longcat-flash-chat", techniques=technique, batch=8, seq_len=64)


def test_longcat_activates_what_its_report_says() -> None:
    """Meituan LongCat team (2025), arXiv:2509.01322: 560B parameters, 18.6B to 31.3B of them active, 27B on average."""
    model = symroof.load_model("longcat-flash-chat")
    per_choice = 3 * 6144 * 2048 * 28
    least = model.active_parameters_without_embedding - 8 * per_choice
    assert round(model.parameters, -9) == 561 * 10**9
    assert round(model.active_parameters_without_embedding / 1e9) == 27
    assert [int(count / 1e8) for count in (least, least + 12 * per_choice)] == [186, 313], "the report cuts its digits"


# ------------------------------------------------------------------------------------------------ techniques

STATELESS = {"paged-cache:page=16": "keeps no KV cache that grows", "flash-attention": "this step has no attention"}
REFUSALS = {
    **{("rwkv-4-169m-pile", name): said for name, said in STATELESS.items()},
    **{("xlstm-7b", name): said for name, said in STATELESS.items()},
    ("xlstm-7b", "quantize:weights=4,group=128"): "group 128 does not divide the 10944 inputs of down_proj",
}
MODELS = ("zamba2-1.2b", "rwkv-4-169m-pile", "xlstm-7b", "longcat-flash-chat", "ring-mini-linear-2.0")
TECHNIQUES = ("tensor-parallel:degree=2", "quantize:weights=4,group=128", "mixed-batch", "pipeline-parallel:degree=2", *STATELESS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_techniques_apply_or_say_why_not(model: str, technique: str) -> None:
    plain = step(model, batch=2, seq_len=64)
    names = [operator.name for operator, _ in plain]
    assert len(names) == len(set(names))
    if said := REFUSALS.get((model, technique)):
        with pytest.raises(symroof.SymroofError, match=said):
            step(model, techniques=technique, batch=2, seq_len=64)
        return
    changed = step(model, techniques=technique, batch=2, seq_len=64)
    before, after = (one.graph.weight_memory() for one in (plain, changed))
    if technique.startswith("tensor"):
        work, part = (one.graph.contraction_flop_count for one in (plain, changed))
        assert before / 2 < after < before * Rational(54, 100)
        assert work / 2 <= part < work * Rational(56, 100)
    elif technique.startswith("quantize"):
        assert after < before * Rational(3, 4)
