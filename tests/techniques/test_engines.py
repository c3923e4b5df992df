"""Deployment as engines do it, each against a count rank by rank that is written here from the published config."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from sympy import Add, Expr, Integer, Rational

import symroof
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError
from symroof.operators.facts import Kind
from symroof.operators.tensor import Level, Storage
from symroof.questions.scaling import over_degree
from symroof.techniques import expert_load
from symroof.techniques.expert_load import FullestExperts, FullestPairs

MODELS = Path(symroof.__file__).parent.parent / "models"
BATCH, CONTEXT, WIDTH = 16, 4096, 2
DEVICE = "h100-sxm"


def config(name: str) -> dict[str, Any]:
    return json.loads((MODELS / f"{name}.json").read_text())


def decoding(name: str, *texts: str, batch: int = BATCH, seq_len: int = CONTEXT) -> Step:
    model = symroof.load_model(name)
    return model.decode(batch=batch, seq_len=seq_len, weight_bits=16, activation_bits=16, kv_bits=16).apply(*texts)


def seconds(step: Step) -> Expr:
    return symroof.analyze(step, DEVICE).total.time_expr


# tensor parallelism above the KV heads


def rank_of(name: str, degree: int, rank: int) -> dict[str, Expr]:
    """What one rank of vLLM holds and computes in a decode step, counted from the config, its heads one by one."""
    sizes = config(name)
    d, layers, v = sizes["hidden_size"], sizes.get("num_hidden_layers") or sizes["num_layers"], sizes.get("vocab_size", 0)
    v = sizes.get("padded_vocab_size", v)
    h, e = sizes["num_attention_heads"], sizes.get("head_dim") or sizes.get("kv_channels") or d // sizes["num_attention_heads"]
    k = sizes.get("num_key_value_heads") or sizes["multi_query_group_num"]
    own = range(rank * h // degree, (rank + 1) * h // degree)
    kept = {head // (h // k) for head in own}  # a rank has the KV heads that its query heads read
    padded = -(-v // 64) * 64
    if padded % degree:
        padded = -(-v // (64 * degree)) * 64 * degree
    rows, q, kv = padded // degree, len(own) * e, len(kept) * e
    biases = q + 2 * kv if sizes.get("attention_bias") or sizes.get("add_qkv_bias") else 0
    own_norms = 2 * e if name.startswith("qwen3") else 0
    gate = q if "next" in name else 0
    full = d * (q + gate + 2 * kv) + q * d
    mixers = {"full": (full + biases + own_norms, full * BATCH + 2 * BATCH * CONTEXT * q, 2 * kv * CONTEXT * BATCH)}
    counts = {"full": layers, "linear": 0}
    if "next" in name:
        keys, values = (sizes[f"linear_num_{of}_heads"] // degree for of in ("key", "value"))
        wide, out, taps = keys * sizes["linear_key_head_dim"], values * sizes["linear_value_head_dim"], sizes["linear_conv_kernel_dim"]
        inner = d * (2 * wide + 2 * out + 2 * values) + out * d
        weights = inner + taps * (2 * wide + out) + 2 * values + sizes["linear_value_head_dim"]
        state = values * sizes["linear_key_head_dim"] * sizes["linear_value_head_dim"] + taps * (2 * wide + out)
        mixers["linear"] = (weights, inner * BATCH, state * BATCH)
        counts = {"full": layers // sizes["full_attention_interval"], "linear": layers - layers // sizes["full_attention_interval"]}
    if "num_experts" in sizes:
        width, experts = sizes["moe_intermediate_size"] // degree, sizes["num_experts"]
        shared = 3 * d * sizes.get("shared_expert_intermediate_size", 0) // degree + (d if "next" in name else 0)
        mlp = (
            experts * 3 * d * width + d * experts + shared,
            BATCH * (sizes["num_experts_per_tok"] * 3 * d * width + d * experts + shared),
        )
    else:
        width = (sizes.get("intermediate_size") or sizes["ffn_hidden_size"]) // degree
        mlp = (3 * d * width, BATCH * 3 * d * width)
    weights = layers * (2 * d + mlp[0]) + sum(counts[kind] * mixers[kind][0] for kind in mixers) + 2 * rows * d + d
    products = layers * mlp[1] + sum(counts[kind] * mixers[kind][1] for kind in mixers) + BATCH * rows * d
    cache = sum(counts[kind] * mixers[kind][2] for kind in mixers)
    reduced = Rational(2 * (degree - 1), degree) * BATCH * d * (1 + 2 * layers)
    gathered = Rational(degree - 1, degree) * BATCH * padded
    return {
        "weights": Integer(weights * WIDTH),
        "products": Integer(2 * products),
        "cache": Integer(cache * WIDTH),
        "link": (reduced + gathered) * WIDTH,
        "kv heads": Integer(len(kept)),
    }


def counted(step: Step) -> dict[str, Expr]:
    """The same of a step; scans and convolutions, which are no products of matrices, are left out."""
    graph = step.graph
    products = Add(*(count * op.contraction_flop_count for op, count in graph if op.kind in (Kind.MATMUL, Kind.FUSED_ATTENTION)))
    return {
        "weights": graph.weight_memory(),
        "products": products,
        "cache": graph.kv_memory(),
        "link": graph.byte_count(level=Level.LINK),
    }


ABOVE: Mapping[str, tuple[int, ...]] = {
    "qwen3-235b-a22b": (2, 8),
    "qwen3-30b-a3b": (8, 16),
    "qwen3-next-80b-a3b-instruct": (8,),
    "glm-4-9b": (4, 8),
    "llama-3-70b": (8, 16, 64),
}


@pytest.mark.parametrize("name", ABOVE)
def test_a_rank_above_the_kv_heads_has_one_of_them(name: str) -> None:
    for degree in ABOVE[name]:
        step = counted(decoding(name, f"tensor-parallel:degree={degree}"))
        for rank in {0, 1, degree - 1}:
            expected = rank_of(name, degree, rank)
            assert expected.pop("kv heads") == max(1, decoding(name).values[symroof.symbols.k] // degree)
            assert step == expected, (degree, rank)


def test_copies_over_the_degree_are_those_of_whole_steps() -> None:
    """One formula for every degree: the KV heads of a device fall to one and stay there."""
    free = over_degree(decoding("llama-3-8b", "tensor-parallel:node=8"), DEVICE).pieces_expr
    for degree in (1, 2, 8, 16, 32):
        assert free(degree) == seconds(decoding("llama-3-8b", f"tensor-parallel:node=8,degree={degree}")), degree


@pytest.mark.parametrize(
    ("name", "degree", "rows"), [("gpt2", 2, 50304), ("opt-13b", 5, 50560), ("opt-6.7b", 4, 50304), ("llama-2-7b", 8, 32000)]
)
def test_an_uneven_vocabulary_is_padded(name: str, degree: int, rows: int) -> None:
    """50272 rows are 50304 = 786 x 64, which 5 does not divide: 50560 = 158 x 64 x 5."""
    whole, step = decoding(name), decoding(name, f"tensor-parallel:degree={degree}", seq_len=512)
    assert degree * step.graph["lm_head"].contraction_flop_count == 2 * BATCH * rows * whole.values[symroof.symbols.d]
    gathered = step.graph["lm_head.all_gather"].byte_count(level=Level.LINK)
    assert gathered == Rational(degree - 1, degree) * BATCH * rows * WIDTH


def test_a_single_group_of_a_state_space_layer_is_copied() -> None:
    """Mamba-2's B and C of one group are on every device: rows of the input projection, channels of the convolution, its state."""
    sizes = symroof.load_model("mamba2-130m").dimensions
    d, heads, width, states, taps = (int(sizes[getattr(symroof.symbols, name)]) for name in ("d", "h_s", "e_s", "d_s", "k_c"))
    step = decoding("mamba2-130m", "tensor-parallel:degree=8")
    own = heads // 8
    channels = own * width + 2 * states
    assert step.graph["in_proj"].contraction_flop_count == 2 * BATCH * d * (channels + own * width + own)
    layer = BATCH * (own * width * states + taps * channels)
    assert step.graph.kv_memory() == layer * WIDTH * sizes[symroof.symbols.L]


@pytest.mark.parametrize(
    ("name", "degree", "said"),
    [
        ("llama-3-8b", 64, "does not divide 32 heads; one of 2, 4, 8, 16, 32 does"),
        ("gpt2", 5, "does not divide 12 heads"),
        ("falcon-7b", 2, "71 heads; one of 71 does"),
        ("gemma-3-27b-pt", 3, "does not divide 32 heads"),
        ("llama-3.2-3b", 6, "degree 6 neither divides 8 KV heads nor is a multiple of them"),
    ],
)
def test_degrees_that_do_not_fit(name: str, degree: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        decoding(name, f"tensor-parallel:degree={degree}", seq_len=512)


# experts beside tensor parallelism, and expert parallelism with any batch


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "gpt-oss-20b", "deepseek-v2-lite"])
def test_whole_experts_on_the_devices_of_tensor_parallelism(name: str) -> None:
    """Eight devices, as `--tensor-parallel-size 8 --enable-expert-parallel`: a rank's experts are counted one by one."""
    plain, split, whole = (
        decoding(name, *text) for text in ((), ("tensor-parallel:degree=8",), ("tensor-parallel:degree=8,experts=whole",))
    )
    known = plain.source.dimensions  # pyright: ignore[reportOptionalMemberAccess]
    experts, chosen, d, width = (int(known[getattr(symroof.symbols, letter)]) for letter in ("E", "K", "d", "f_e"))
    assert whole.graph.devices == split.graph.devices == 8
    for operator, _ in plain.graph:
        new, old = whole.graph[operator.name], split.graph[operator.name]
        if ".expert_" not in f".{operator.name}":
            assert (new.flop_count, new.byte_count()) == (old.flop_count, old.byte_count()), operator.name
            continue
        assert 8 * new.flop_count == operator.flop_count, operator.name
    own = [expert for expert in range(experts) if expert * 8 // experts == 3]  # of the fourth device
    (up,) = {op.name for op, _ in plain.graph if op.name.endswith("expert_up_proj")} - {"full.expert_up_proj"}
    (matrix,) = [access.tensor for access in whole.graph[up].reads if access.tensor.name.endswith("up_proj.weight")]
    assert matrix.byte_count == len(own) * d * width * WIDTH
    missed = Rational(experts - chosen, experts) ** BATCH
    (read,) = [access.byte_count for access in whole.graph[up].reads if access.tensor is matrix]
    assert read == len(own) * (1 - missed) * d * width * WIDTH
    assert whole.graph[up].contraction_flop_count == 2 * Rational(BATCH * chosen, 8) * d * width
    assert whole.graph.byte_count(level=Level.LINK) == split.graph.byte_count(
        level=Level.LINK
    )  # no all-to-all: every device has every token
    assert any("16 experts" in line or f"E/{symroof.symbols.n_p} whole experts" in line for line in whole.statements)


def test_a_chain_states_its_devices() -> None:
    both = decoding("mixtral-8x7b-v0.1", "tensor-parallel:degree=2", "expert-parallel:degree=4")
    assert both.graph.devices == 8
    assert any("2 of tensor-parallel x 4 of expert-parallel" in line for line in both.statements)
    for chained in (
        ("tensor-parallel:degree=8,experts=whole", "expert-parallel:degree=8"),
        ("expert-parallel", "tensor-parallel:experts=whole"),
    ):
        with pytest.raises(InputError, match="routed experts that are not spread"):
            decoding("mixtral-8x7b-v0.1", *chained)
    with pytest.raises(InputError, match="no routed experts"):
        decoding("llama-2-7b", "tensor-parallel:degree=2,experts=whole")


@pytest.mark.parametrize(
    ("name", "degree"), [("mixtral-8x7b-v0.1", 2), ("mixtral-8x7b-v0.1", 4), ("mixtral-8x7b-v0.1", 8), ("gpt-oss-20b", 8)]
)
def test_a_token_is_sent_to_a_device_once(name: str, degree: int) -> None:
    """The mean over all choices of K of E experts of the number of devices that they are on, choice by choice."""
    step = decoding(name, f"expert-parallel:degree={degree}")
    experts, chosen, d = (int(step.values[getattr(symroof.symbols, letter)]) for letter in ("E", "K", "d"))
    choices = [*combinations(range(experts), chosen)]
    devices = Rational(sum(len({expert * degree // experts for expert in choice}) for choice in choices), len(choices))
    sent = Rational(BATCH, degree) * devices * Rational(degree - 1, degree) * d * WIDTH
    exchanges = [op for op, _ in step.graph if op.name.endswith("all_to_all")]
    assert {op.byte_count(level=Level.LINK) for op in exchanges} == {sent}
    assert step.graph[exchanges[0].name.removesuffix(".all_to_all")].byte_count() > 0


@pytest.mark.parametrize("batch", [1, 3, 8, 10, 13])
def test_experts_of_any_batch(batch: int) -> None:
    """The fullest of four devices by counting sequences out one by one; experts see the tokens of all devices."""
    step = decoding("mixtral-8x7b-v0.1", "expert-parallel:degree=4,sequences=any", batch=batch)
    alone = decoding("mixtral-8x7b-v0.1", batch=batch)
    fullest = max(sum(sequence % 4 == device for sequence in range(batch)) for device in range(4))
    of_fullest = decoding("mixtral-8x7b-v0.1", batch=fullest)
    for operator, _ in alone.graph:
        new = step.graph[operator.name]
        if operator.name.startswith("expert_") and operator.name != "expert_combine":
            assert 4 * new.flop_count == operator.flop_count, operator.name
        else:
            same = of_fullest.graph[operator.name]
            assert (new.flop_count, new.byte_count()) == (same.flop_count, same.byte_count()), operator.name
    assert step.graph.kv_memory() == of_fullest.graph.kv_memory()
    if batch % 4:
        with pytest.raises(InputError, match=f"does not divide {batch} sequences"):
            decoding("mixtral-8x7b-v0.1", "expert-parallel:degree=4", batch=batch)
    moved = step.graph["expert_up_proj"].byte_count() - alone.graph["expert_up_proj"].byte_count() / 4
    assert moved == 0


def test_any_batch_over_a_range_is_that_of_whole_steps() -> None:
    text = "expert-parallel:degree=4,sequences=any"
    swept = symroof.sweep("olmoe-1b-7b-0924", DEVICE, {"batch": [1, 6, 8]}, seq_len=512, techniques=[text], metrics=["time"])
    assert not isinstance(swept, Path)
    model = symroof.load_model("olmoe-1b-7b-0924")
    for batch, time in zip((1, 6, 8), swept["time"].values.ravel(), strict=True):
        assert time == pytest.approx(float(seconds(model.decode(batch=batch, seq_len=512).apply(text))), rel=1e-12)
    with pytest.raises(InputError, match="b_d = ceiling"):
        symroof.crossovers(model.decode(seq_len=512).apply(text), over="batch", hardware=DEVICE)


# the fullest device of expert parallelism


def loads(tokens: int, chosen: int, experts: int, devices: int, routings: Iterable[Sequence[Sequence[int]]]) -> tuple[Rational, Rational]:
    """The mean over routings of the most pairs on a device, and of the most experts touched on one."""
    pairs = touched = count = 0
    for routing in routings:
        places = [expert * devices // experts for choice in routing for expert in choice]
        distinct = [expert * devices // experts for expert in set().union(*routing)]
        pairs += max(places.count(device) for device in range(devices))
        touched += max(distinct.count(device) for device in range(devices))
        count += 1
    return Rational(pairs, count), Rational(touched, count)


SMALL_LOADS = [(1, 2, 8, 4), (2, 2, 8, 2), (2, 2, 8, 8), (3, 2, 6, 3), (3, 1, 4, 4), (1, 4, 8, 2), (2, 3, 6, 1)]


@pytest.mark.parametrize("sizes", SMALL_LOADS)
def test_the_fullest_device_by_enumeration(sizes: tuple[int, int, int, int]) -> None:
    tokens, chosen, experts, _ = sizes
    choices = [*combinations(range(experts), chosen)]
    pairs, touched = loads(*sizes, product(choices, repeat=tokens))
    assert (FullestPairs(*sizes, 0), FullestExperts(*sizes)) == (pairs, touched)
    assert pairs <= FullestPairs(*sizes, 1) <= tokens * min(chosen, experts // sizes[3])


@pytest.mark.parametrize("sizes", [(8, 8, 128, 8), (64, 4, 32, 4), (32, 8, 256, 32), (12, 2, 8, 4)])
def test_the_fullest_device_by_simulation(sizes: tuple[int, int, int, int]) -> None:
    """400 routings: expectations within five standard errors, of maxima whose variance is at most that of a binomial; bounds above."""
    tokens, chosen, experts, devices = sizes
    draw = random.Random(sum(sizes))
    routings = [[draw.sample(range(experts), chosen) for _ in range(tokens)] for _ in range(400)]
    pairs, touched = loads(*sizes, routings)
    error = 5 * (tokens * chosen / devices / 400) ** 0.5
    assert abs(FullestExperts(*sizes) - touched) < error
    assert pairs - error < FullestPairs(*sizes, 1) < 1.35 * pairs
    if sizes == (12, 2, 8, 4):
        assert abs(FullestPairs(*sizes, 0) - pairs) < error
    else:
        with pytest.raises(InputError, match="outcomes; give imbalance=bound"):
            FullestPairs(*sizes, 0)


@pytest.mark.parametrize("sizes", [(2, 2, 8, 4), (9, 4, 32, 8), (40, 1, 48, 4), (3, 6, 64, 64)])
def test_long_powers_are_rounded_within_their_error(sizes: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    exact = expert_load.expected_experts.__wrapped__(*sizes)
    monkeypatch.setattr(expert_load, "SHORT", 0)
    rounded = expert_load.expected_experts.__wrapped__(*sizes)
    assert abs(exact - rounded) <= Fraction(1, 2**expert_load.ROUNDED)
    assert rounded.denominator.bit_count() == 1
    assert FullestExperts(10**6, *sizes[1:]) == sizes[2] // sizes[3]


@pytest.mark.parametrize("imbalance", ["expected", "bound"])
def test_a_step_of_the_fullest_device(imbalance: str) -> None:
    even, fullest = (decoding("mixtral-8x7b-v0.1", f"expert-parallel:degree=4{more}", batch=8) for more in ("", f",imbalance={imbalance}"))
    pairs, experts = FullestPairs(8, 2, 8, 4, int(imbalance == "bound")), FullestExperts(8, 2, 8, 4)
    for operator, _ in even.graph:
        new = fullest.graph[operator.name]
        if operator.name.startswith("expert_") and not operator.name.endswith(("combine", "all_to_all")):
            assert new.flop_count == operator.flop_count * pairs / 4, operator.name
            read = operator.byte_count(Storage.WEIGHT)
            assert new.byte_count(Storage.WEIGHT) == read * experts / (8 * (1 - Rational(3, 4) ** 8) / 4), operator.name
        else:
            assert new.flop_count == operator.flop_count, operator.name
            assert new.byte_count(level=Level.LINK) == operator.byte_count(level=Level.LINK), operator.name
    assert fullest.graph.weight_memory() == even.graph.weight_memory()
    assert seconds(fullest) > seconds(even)
    assert decoding("mixtral-8x7b-v0.1", f"expert-parallel:degree=1,imbalance={imbalance}", batch=8).graph.flop_count == (
        decoding("mixtral-8x7b-v0.1", batch=8).graph.flop_count
    )
    assert any("fullest device in expectation" in line for line in fullest.statements)


def test_imbalance_over_a_batch_and_what_is_refused() -> None:
    model = symroof.load_model("qwen3-30b-a3b")
    with pytest.raises(InputError, match="256 tokens on 8 devices have more than"):
        model.decode(batch=256, seq_len=512).apply("expert-parallel:degree=8,imbalance=expected")
    bound = model.decode(batch=256, seq_len=512).apply("expert-parallel:degree=8,imbalance=bound")
    assert seconds(bound) > seconds(model.decode(batch=256, seq_len=512).apply("expert-parallel:degree=8"))
    with pytest.raises(SymroofError) as caught:  # no closed form: one line, and no number of another batch
        symroof.crossover(bound, "expert_up_proj", over="batch", hardware=DEVICE)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="multiple of 8, or sequences=any"):
        model.decode(batch=3, seq_len=512).apply("expert-parallel:degree=8")
    with pytest.raises(InputError, match="uniformly, in expectation"):
        decoding("mixtral-8x7b-v0.1", "expert-routing:skew=1", "expert-parallel:degree=8,imbalance=bound", batch=8)


# pipelines of unequal stages


@pytest.mark.parametrize(("name", "degree"), [("llama-3.1-405b", 8), ("llama-3.1-405b", 7), ("llama-2-7b", 3), ("llama-3.2-3b", 5)])
def test_the_slowest_of_unequal_stages_decides(name: str, degree: int) -> None:
    """Stage by stage: the layers that are left go to the stages before the last, one each; 126 on 8 are 15, six times 16, and 15."""
    pieces = 4
    model = config(name)
    layers = model["num_hidden_layers"]
    stages = [layers // degree] * degree
    for place in range(layers % degree):
        stages[degree - 2 - place] += 1
    assert sum(stages) == layers
    d, h, f, v = (model[name] for name in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"))
    k, e = model.get("num_key_value_heads", h), d // h
    held = 2 * d * h * e + 2 * d * k * e + 3 * d * f + 2 * d
    small = symroof.analyze(decoding(name, batch=BATCH // pieces), DEVICE)
    layer = sum(placed.time_expr for placed in small if placed.count_expr == layers)
    ends = [placed for placed in small if placed.count_expr == 1]
    first, last = (sum(one.time_expr for one in ends if (one.name == "embedding") == front) for front in (True, False))
    times = [count * layer + (first if place == 0 else 0) + (last if place == degree - 1 else 0) for place, count in enumerate(stages)]
    slots, found = pieces + degree - 1, {}
    for stage in ("first", "middle", "last", "any"):
        step = decoding(name, f"pipeline-parallel:degree={degree},micro_batches={pieces},stage={stage}")
        placed = symroof.analyze(step, DEVICE)
        found[stage] = sum(one.time_expr * one.count_expr for one in placed if one.name != "stage.send")
        place = {"first": 0, "middle": degree - 2, "last": degree - 1}.get(stage)
        if place is not None:
            rows = v * d * ((place == 0) + (place == degree - 1))
            assert step.graph.weight_memory() == WIDTH * (stages[place] * held + rows + (d if place == degree - 1 else 0)), stage
            assert step.graph.kv_memory() == WIDTH * stages[place] * 2 * k * e * CONTEXT * BATCH, stage
            assert step.graph["stage.send"].byte_count(level=Level.LINK) == WIDTH * BATCH * d, stage
            assert found[stage] == slots * times[place], stage
    assert max(found["first"], found["middle"], found["last"]) == slots * max(times)
    assert slots * max(times) <= found["any"] == slots * (max(stages) * layer + first + last)


def test_even_stages_are_as_they_were() -> None:
    even = decoding("llama-2-7b", "pipeline-parallel:degree=4,micro_batches=2")
    assert symroof.symbols.L_d not in even.symbolic.definitions
    assert {block.count for block in even.symbolic.blocks} == {Integer(1), symroof.symbols.L / symroof.symbols.n_p}
    for text, said in (("degree=33,micro_batches=2", "33 stages of 32 layers"), ("degree=2,micro_batches=2,stage=middle", "no middle")):
        with pytest.raises(InputError, match=said):
            decoding("llama-2-7b", f"pipeline-parallel:{text}")


# mixed batches over sliding windows


@pytest.mark.parametrize(
    ("name", "chunk", "prompt"),
    [
        ("gpt-oss-20b", 64, 64),
        ("gpt-oss-20b", 64, 100),
        ("gpt-oss-20b", 96, 4000),
        ("gpt-oss-20b", 700, 700),
        ("gemma-3-4b-pt", 300, 1200),
        ("gemma-3-4b-pt", 1500, 1700),
        ("mistral-7b-v0.1", 5000, 6000),
    ],
)
def test_a_chunk_beside_decoding_under_a_sliding_window(name: str, chunk: int, prompt: int) -> None:
    """Positions one by one: what the chunk's queries see, what is read for them, what stays in the cache."""
    prompts, width = 2, WIDTH
    plain = decoding(name)
    step = plain.apply(f"mixed-batch:chunk={chunk},prompt={prompt},prompts={prompts}")
    size = {letter: int(plain.values[getattr(symroof.symbols, letter)]) for letter in ("h", "k", "e", "W")}
    for block, old in zip(step.graph.blocks, plain.graph.blocks, strict=True):
        named = {op.name: op for op in block.operators}
        before = {op.name: op for op in old.operators}
        for scores in [name for name in named if name.endswith("qk_matmul")]:
            window = prompt if scores.startswith("full") else size["W"]
            seen = [range(max(0, place - window + 1), place + 1) for place in range(prompt - chunk, prompt)]
            in_sight = len(set().union(*seen))
            pairs = sum(map(len, seen))
            part = named[f"{scores}.chunk"]
            assert part.flop_count == 2 * prompts * size["h"] * size["e"] * pairs
            assert part.byte_count(Storage.KV_CACHE) == prompts * in_sight * size["k"] * size["e"] * width
            assert part.byte_count(Storage.ACTIVATION) == prompts * (chunk * size["h"] * size["e"] + pairs * size["h"]) * width
            assert (named[scores].flop_count, named[scores].byte_count()) == (before[scores].flop_count, before[scores].byte_count())
            kept = {tensor.name: tensor.byte_count for tensor in block.tensors() if tensor.storage is Storage.KV_CACHE}
            stored = {tensor.name: tensor.byte_count for tensor in old.tensors() if tensor.storage is Storage.KV_CACHE}
            rows = len(range(max(0, prompt - window), prompt))
            assert kept == {cache: held + prompts * rows * size["k"] * size["e"] * width for cache, held in stored.items()}
    for operator, _ in plain.graph:
        if operator.name.endswith(("q_proj", "out_proj")):
            assert step.graph[operator.name].flop_count * BATCH == operator.flop_count * (BATCH + prompts * chunk)


@pytest.mark.parametrize(("chunk", "prompt"), [(64, 64), (300, 1200), (1500, 1700), (5000, 6000)])
def test_passes_of_a_chunk_under_a_sliding_window(chunk: int, prompt: int) -> None:
    """FlashAttention's blocks of R positions, one by one: each reads from the first row in sight of its first query to its own last."""
    step = decoding("gpt-oss-20b").source.decode(  # pyright: ignore[reportOptionalMemberAccess]
        batch=BATCH, seq_len=CONTEXT, weight_bits=16, activation_bits=16, kv_bits=16, flash_attention=True
    )
    mixed = step.apply(f"mixed-batch:chunk={chunk},prompt={prompt}")
    together, sizes = Integer(96), step.values
    window = int(sizes[symroof.symbols.W])
    part = mixed.symbolic.bind({**mixed.values, symroof.symbols.R: together})["sliding.fused_attention.chunk"]
    rows = 0
    for start in range(prompt - chunk, prompt, int(together)):
        last = min(start + int(together), prompt)
        rows += last - max(0, start - window + 1)
    assert part.byte_count(Storage.KV_CACHE) == 2 * rows * sizes[symroof.symbols.k] * sizes[symroof.symbols.e] * WIDTH
