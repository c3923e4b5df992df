"""Early exit, layers left out, contextual sparsity: what they change, and nothing else."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from sympy import Integer, Rational

import symroof
from symroof.operators.facts import Role
from symroof.symbols import LAYERS, L, L_x, P, X, n_x
from tests.techniques.decoding_steps import DENSE, FAMILIES, apply, costs, decode, memory, seconds


def split(step) -> tuple[set[str], set[str]]:
    """Names of the operators of layers, and of all others."""
    inside = {operator.name for block in step.graph.blocks if block.name in LAYERS for operator in block.operators}
    return inside, {operator.name for operator, _ in step.graph} - inside


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("text", ["early-exit:skipped_kv=none,depth=1/2", "skip-layers:depth=1/2"])
def test_fewer_layers_and_nothing_else(model, text):
    step = decode(model, batch=3, seq_len=100)
    if model in ("deepseek-v2-lite",) and text.startswith("skip"):
        text = "skip-layers:depth=2/3"  # 27 layers
    share = Rational(text.rpartition("=")[2])
    before, after = costs(step.graph), costs(apply(step, text).graph)
    inside, outside = split(step)
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in outside)
    for name in inside:
        assert after[name] == (*before[name][:2], before[name][2] * share)


KEYS = {
    **dict.fromkeys(("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1"), frozenset(("attn_norm", "k_proj", "v_proj", "k_rotary"))),
    "opt-125m": {"attn_norm", "k_proj", "v_proj"},
    "gemma-2-2b": {"attn_norm", "k_proj", "v_proj", "k_rotary"},
    "deepseek-v2-lite": {"attn_norm", "kv_down_proj", "kv_down_norm", "k_rotary_proj", "k_rotary"},
    "olmo-2-1124-7b": {"k_proj", "v_proj", "k_norm", "k_rotary"},
}
"""What makes a token's keys and values from the hidden state: latents where attention is latent."""


@pytest.mark.parametrize("model", KEYS)
@pytest.mark.parametrize("exits", ["together", "independent"])
def test_keys_and_values_of_all_tokens_in_all_layers(model, exits):
    """In the layers that run, and alone in those that do not: every token of every layer; the rest as without them."""
    step, text = decode(model, batch=3, seq_len=100), f"early-exit:depth=1/3,exits={exits}"
    before, bare, after = costs(step.graph), costs(apply(step, f"{text},skipped_kv=none").graph), costs(apply(step, text).graph)
    made = {name.removesuffix(".skipped") for name in after if name.endswith(".skipped")}
    assert {name.rpartition(".")[2] for name in made} == KEYS[model]
    assert after.keys() == before.keys() | {f"{name}.skipped" for name in made}
    for name in before:
        if name in made:
            assert after[name][:2] == after[f"{name}.skipped"][:2] == before[name][:2]
            assert after[name][2] + after[f"{name}.skipped"][2] == before[name][2]
            assert after[name][2] == bare[name][2]
        else:
            assert after[name] == bare[name]
    assert memory(apply(step, text)) == memory(step)


def test_the_state_of_a_recurrent_layer_needs_all_that_leads_to_it():
    after = apply(decode("mamba-130m", batch=3, seq_len=100), "early-exit:depth=1/2")
    skipped = {operator.name for operator, _ in after.graph if operator.name.endswith(".skipped")}
    assert "in_proj.skipped" in skipped
    assert "out_proj.skipped" not in skipped
    assert any(operator.role is Role.RECURRENCE and operator.name in skipped for operator, _ in after.graph)


@pytest.mark.parametrize("model", FAMILIES)
def test_what_stays_in_memory(model):
    step = decode(model, batch=3, seq_len=100)
    for text in ("early-exit:depth=1/3", "early-exit:depth=1/3,exits=independent"):
        assert memory(apply(step, text)) == memory(step)
    layers = symroof.load_model(model).layers
    half = apply(step, f"skip-layers:depth={layers - 1}/{layers}")
    ends = sum(
        block.resident * tensor.byte_count
        for block in step.graph.blocks
        if block.name not in LAYERS
        for tensor in block.tensors()
        if tensor.storage == "weight"
    )
    tied = {t for block in step.graph.blocks if block.name == "embedding" for t in block.tensors()} & {
        t for block in step.graph.blocks if block.name == "head" for t in block.tensors() if t.storage == "weight"
    }
    ends -= sum(t.byte_count for t in tied)
    assert memory(half)[0] - ends == Rational(layers - 1, layers) * (memory(step)[0] - ends)
    assert memory(half)[1] == Rational(layers - 1, layers) * memory(step)[1]


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("text", ["early-exit:depth=1", "early-exit:depth=1,exits=independent", "skip-layers:depth=1"])
def test_limit_is_the_untouched_step(model, text):
    step = decode(model, batch=3, seq_len=100)
    changed = apply(step, text)
    assert costs(changed.graph) == costs(step.graph)
    assert memory(changed) == memory(step)
    assert seconds(changed) == seconds(step)


def test_one_sequence_reads_what_it_runs():
    step = decode("llama-3-8b", batch=1, seq_len=100)
    assert costs(apply(step, "early-exit:depth=1/3,exits=independent").graph) == costs(apply(step, "early-exit:depth=1/3").graph)
    assert apply(step, "early-exit:exits=geometric,exit=1").graph.definitions[L_x] == 1


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_geometric_exits_by_enumeration(batch):
    """All ways in which the sequences of a batch leave an OPT of 12 layers, cut to the number of layers that run."""
    leave, layers = Fraction(1, 3), 12
    depths = {depth: (1 - leave) ** (depth - 1) * leave for depth in range(1, layers)} | {layers: (1 - leave) ** (layers - 1)}
    assert sum(depths.values()) == 1
    run = sum(max(way) * math.prod(depths[one] for one in way) for way in itertools.product(depths, repeat=batch))
    mean = sum(depth * chance for depth, chance in depths.items())
    step = apply(decode("opt-125m", batch=batch, seq_len=100), "early-exit:exits=geometric,exit=1/3")
    plain = decode("opt-125m", batch=batch, seq_len=100)
    assert step.graph.definitions[L_x] == Rational(run.numerator, run.denominator)
    up, before = step["up_proj"], plain["up_proj"]
    assert step.graph.definitions[L_x] * up.flop_count == Rational(mean.numerator, mean.denominator) * before.flop_count
    weights = {graph: graph["up_proj"].byte_count("weight") for graph in (step.graph, plain.graph)}
    assert weights[step.graph] == weights[plain.graph]
    moved = step.graph.definitions[L_x] * up.byte_count("activation")
    assert moved == Rational(mean.numerator, mean.denominator) * before.byte_count("activation")


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_a_mean_depth_bounds_what_a_batch_reads(batch):
    """Together is the least and independent the most; geometric exits of the same mean lie between, exactly."""
    step = decode("opt-125m", batch=batch, seq_len=100)
    geometric = apply(step, "early-exit:exits=geometric,exit=1/4")
    depth = (1 - Rational(3, 4) ** 12) * 4 / 12
    independent = 12 * (1 - (1 - depth) ** batch)
    assert 12 * depth < geometric.graph.definitions[L_x] < independent


@pytest.mark.slow
def test_no_batch_makes_early_exit_slower():
    for batch in (1, 2, 8, 64, 300):
        step = decode("llama-3-8b", batch=batch, seq_len=64)
        times = [seconds(apply(step, f"early-exit:depth=1/2,exits={exits}")) for exits in ("together", "independent")]
        assert times[0] <= times[1] < seconds(step)


@pytest.mark.parametrize("model", DENSE)
@pytest.mark.parametrize("where", ["mlp", "heads", "both"])
def test_sparsity_touches_what_it_names(model, where):
    step = decode(model, batch=2, seq_len=100)
    before, after = costs(step.graph), costs(apply(step, f"contextual-sparsity:share=1/4,where={where}").graph)
    neurons = {"gate_proj", "up_proj", "mlp_act", "down_proj"}
    heads = {"q_proj", "q_rotary", "qk_matmul", "softmax", "sv_matmul", "out_proj"}
    expected = {"mlp": neurons, "heads": heads, "both": neurons | heads}[where] & set(before)
    assert {name for name in before if after[name] != before[name]} == expected
    for name in expected:
        assert after[name][0] == before[name][0] / 4
        assert after[name][1] < before[name][1]
        assert after[name][2] == before[name][2]
    assert memory(apply(step, f"contextual-sparsity:share=1/4,where={where}"))[:2] == memory(step)[:2]
    assert costs(apply(step, f"contextual-sparsity:share=1,where={where}").graph) == before


def test_union_by_enumeration():
    for batch in (1, 2, 3, 4):
        step = apply(decode("opt-125m", batch=batch, seq_len=100), "contextual-sparsity:share=2/7")
        chosen = itertools.product((Fraction(2, 7), Fraction(5, 7)), repeat=batch)
        touched = sum(math.prod(way) for way in chosen) - Fraction(5, 7) ** batch
        weight = decode("opt-125m", batch=batch, seq_len=100)["up_proj"].byte_count("weight")
        assert step["up_proj"].byte_count("weight") == weight * Rational(touched.numerator, touched.denominator)


def test_cache_is_read_per_sequence():
    """Heads: every sequence has its own cache, so no batch gives the bytes back; in a prompt its tokens share one."""
    for batch in (1, 64):
        step = decode("llama-2-7b", batch=batch, seq_len=100)
        after = apply(step, "contextual-sparsity:share=1/4,where=heads")
        assert after["qk_matmul"].byte_count("kv_cache") == step["qk_matmul"].byte_count("kv_cache") / 4
    prompt = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=2, weight_bits=16, activation_bits=16, kv_bits=16)
    read = apply(prompt, "contextual-sparsity:share=1/4,where=heads")["qk_matmul"].byte_count("kv_cache")
    assert read == prompt["qk_matmul"].byte_count("kv_cache") * (1 - Rational(3, 4) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [16, 400, 2000])
def test_predictor_pays_by_its_formula(rank):
    """n d f (1 - delta)^b against rho (d + f), with the activations of both: exact, against times on a device."""
    step = symroof.load_model("llama-2-7b")
    d, f, share = 4096, 11008, Rational(1, 10)
    told = set()
    for batch in (1, 2, 5, 10, 20, 30, 40):
        before = decode("llama-2-7b", batch=batch, seq_len=64)
        after = apply(before, f"contextual-sparsity:share=0.1,predictor={rank}")
        names = ("gate_proj", "up_proj", "mlp_act", "down_proj", "mlp_predictor")
        gain = sum(seconds(before, name) for name in names) - sum(seconds(after, name) for name in names)
        bytes_saved = 2 * (3 * d * f * (1 - share) ** batch + batch * (1 - share) * f * 6)
        bytes_more = 2 * (rank * (d + f) + batch * (d + 2 * rank + f))
        assert (gain > 0) == (bytes_saved > bytes_more)
        told.add(gain > 0)
    assert rank != 400 or told == {True, False}
    assert (
        step.parameters + 32 * rank * (d + f)
        == apply(decode("llama-2-7b", batch=1, seq_len=64), f"contextual-sparsity:predictor={rank},share=0.1").graph.weight_memory() / 2
    )


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("llama-2-7b", "skip-layers:layers=32", "llama-2-7b has 32 layers, and at least one must remain"),
        ("llama-2-7b", "skip-layers:depth=0.7", "is 112/5 layers; 22/32 is 22"),
        ("llama-2-7b", "skip-layers:layers=2,depth=1/2", "not both"),
        ("llama-2-7b", "early-exit:exit=1/2", "exits=together takes depth, not exit"),
        ("llama-2-7b", "early-exit:exits=geometric,depth=1/2", "takes exit, not depth"),
        ("gemma-2-2b", "early-exit:exits=geometric,exit=1/2", "this model has 2"),
        ("mixtral-8x7b-v0.1", "contextual-sparsity:share=1/2", "no dense MLP"),
        ("deepseek-v2-lite", "contextual-sparsity:share=1/2,where=heads", "no attention over KV heads"),
        ("falcon-7b", "contextual-sparsity:share=1/2,where=heads", "has one KV head"),
        ("llama-2-7b", "contextual-sparsity:share=0", "above 0"),
    ],
)
def test_refusals(model, text, message):
    with pytest.raises(symroof.SymroofError, match=message) as told:
        apply(decode(model, batch=2, seq_len=64), text)
    assert "\n" not in str(told.value)


def test_over_the_batch():
    step = decode("opt-125m", seq_len=64)
    sparse = apply(step, "contextual-sparsity:share=1/10")
    with pytest.raises(symroof.SymroofError, match="b is an exponent"):  # two shares in one step have no closed form in letters
        assert symroof.crossover(apply(sparse, "contextual-sparsity:share=1/7,where=heads"), "total", over="batch").verdict
    answer = symroof.crossover(sparse, "up_proj", over="batch", hardware="a100-sxm-80gb")
    assert answer.verdict == "crosses"
    formula = answer.formula.xreplace({**answer.values, P: Integer(312) * 10**12})
    assert abs((formula - answer.value_expr).evalf(20, maxn=60)) < 1e-20
    for batch, bound in ((answer.first_integer - 1, "memory"), (answer.first_integer, "compute")):
        number = apply(decode("opt-125m", batch=int(batch), seq_len=64), "contextual-sparsity:share=1/10")
        assert symroof.analyze(number, "a100-sxm-80gb")["up_proj"].bound == bound
    found = symroof.payoff(step, sparse, over="batch", hardware="a100-sxm-80gb")
    for batch in (1, 30, 200, 2000):
        before, after = (
            symroof.analyze(one, "a100-sxm-80gb").total.time_expr
            for one in (
                decode("opt-125m", batch=batch, seq_len=64),
                apply(decode("opt-125m", batch=batch, seq_len=64), "contextual-sparsity:share=1/10"),
            )
        )
        assert found.speedup_expr(batch) == before / after
    whole = decode("opt-125m", batch=10**6, seq_len=64)  # (9/10)^(10^6) is no number to write out: every neuron is touched
    assert apply(whole, "contextual-sparsity:share=1/10")["up_proj"].byte_count("weight") == whole["up_proj"].byte_count("weight")
    symbolic = symroof.load_model("opt-125m").decode(symbolic=True)
    with pytest.raises(symroof.SymroofError, match="here it is the symbol L"):
        apply(symbolic, "early-exit:exits=geometric")


@pytest.mark.slow
def test_a_parameter_may_be_asked_for():
    """At which depth is a step of eight sequences half as long? On either side of the exact answer, by analysis."""
    step = decode("llama-2-7b", batch=8, seq_len=64)
    free = apply(step, "early-exit:exits=independent")
    found = symroof.payoff(step, free, over="depth", hardware="a100-sxm-80gb")
    assert [one.bound for one in found.intervals] == ["pays"]
    for depth in (Rational(1, 4), Rational(1, 2), Rational(9, 10)):
        assert found.speedup_expr(depth) == seconds(step) / seconds(apply(step, f"early-exit:depth={depth},exits=independent"))


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["time", "flops", "traffic", "memory"])
def test_sweeps_agree_with_analysis(metric):
    chain = [symroof.technique("contextual-sparsity:share=1/10"), symroof.technique("early-exit:depth=1/2")]
    swept = symroof.sweep("opt-125m", "a100-sxm-80gb", {"batch": [1, 3, 17]}, seq_len=64, metrics=[metric], techniques=chain)
    for batch in (1, 3, 17):
        total = symroof.analyze(decode("opt-125m", batch=batch, seq_len=64).apply(*chain), "a100-sxm-80gb")
        exact = {
            "time": total.total.time_expr,
            "flops": total.total.flop_count,
            "traffic": total.total.byte_count(),
            "memory": total.memory_exprs["total"],
        }[metric]
        assert float(swept[metric].sel(batch=batch).squeeze()) == pytest.approx(float(exact), rel=1e-12)


def test_counts_in_letters():
    step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    assert apply(step, "skip-layers:layers").symbolic.blocks[1].count - L + n_x == 0


def test_experts_of_the_sequences_that_run():
    """Three sequences, half of the layers each: a layer that runs has 12/7 of them, which go to 24/7 experts at most."""
    plain = decode("mixtral-8x7b-v0.1", batch=3, seq_len=64, experts="at-most")
    assert apply(plain, "early-exit:depth=1/2,exits=independent").graph.definitions[X] == 2 * Rational(12, 7)
    assert apply(plain, "early-exit:depth=1/2").graph.definitions[X] == 6


PAIRS = list(itertools.combinations(range(8), 2))


def distinct(tokens: int) -> Rational:
    """Distinct experts of Mixtral that so many tokens go to, over every way in which they choose 2 of 8."""
    ways = [len(set().union(*way)) for way in itertools.product(PAIRS, repeat=tokens)]
    return Rational(sum(ways), len(ways))


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_expected_experts_of_the_sequences_that_run(tokens):
    """Every set of sequences that a layer runs for, every way in which they choose: the mean over layers that run."""
    here = decode("mixtral-8x7b-v0.1", batch=tokens, seq_len=64)
    assert apply(here, "early-exit:depth=1/2").graph.definitions[X] == distinct(tokens)
    by_chance = apply(here, "early-exit:depth=1/3,exits=independent")
    assert by_chance.graph.definitions[X] == mean_over_runs(tokens, [Rational(1, 3)])
    leaving = apply(here, "early-exit:exit=1/10,exits=geometric")
    assert leaving.graph.definitions[X] == mean_over_runs(tokens, [Rational(9, 10) ** layer for layer in range(32)])


def mean_over_runs(tokens: int, reach: list[Rational]) -> Rational:
    """Experts that are read over layers that run, each of which every token is in with a probability of its own."""
    read = [
        math.comb(tokens, inside) * here**inside * (1 - here) ** (tokens - inside) * distinct(inside)
        for here in reach
        for inside in range(1, tokens + 1)
    ]
    return sum(read) / sum(1 - (1 - here) ** tokens for here in reach)
