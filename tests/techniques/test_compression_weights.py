"""Sparsity, channel pruning, low rank, distillation: what they change, where they pay, what they refuse."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sympy import Expr, Integer, Rational, cancel, simplify

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.block import Block
from symroof.operators.facts import BlockRole, Role
from symroof.operators.graph import Graph
from symroof.operators.linear import linear
from symroof.operators.tensor import Space, Storage, Tensor
from symroof.questions.payoff import break_even, payoff
from symroof.symbols import a, b, d, f, q_i, rho, sigma, w
from symroof.techniques.compression.distill import Distill
from symroof.techniques.compression.low_rank import LowRank
from symroof.techniques.compression.prune_channels import PruneChannels
from symroof.techniques.compression.selectors import linears, matrices, matrix
from symroof.techniques.compression.sparsify import Sparsify
from symroof.techniques.registry import technique
from symroof.techniques.technique import refuse_graph

MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m", "deepseek-v2-lite", "gpt-oss-20b", "jamba-v0.1")
SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
DEVICE = "a100-sxm-80gb"
UP = symroof.load_model("llama-2-7b").decode(symbolic=True)


def numbers(model: str, phase: str = "decode", **inputs: object) -> Step:
    return getattr(symroof.load_model(model), phase)(**{**SIXTEEN, "batch": 3, "seq_len": 64, **inputs})


def time(step: Step, part: str, device: str = DEVICE) -> Expr:
    """Seconds of an operator with what was made of it."""
    placed = [one for one in symroof.analyze(step, device) if one.name == part or one.name.startswith(f"{part}.")]
    assert placed
    return sum((one.time_expr for one in placed), Integer(0))


def read_of(step: Step, name: str) -> Expr:
    """Bytes of the matrix that is read, without a bias."""
    return sum((access.byte_count for access in matrices(step[name])), Integer(0))


# sparsity


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", ["density=1/4,index=6", "density=1/4,index=6,zeros=skipped", "pattern=2:4"])
def test_sparsity_changes_the_matrices_and_nothing_else(text: str, name: str, phase: str) -> None:
    step = numbers(name, phase)
    after = step.apply(technique(f"sparsify:{text}"))
    chosen = {one.name for one in linears(step.symbolic)}
    stored = Rational(1, 2) * 18 if "2:4" in text else Rational(1, 4) * 22
    for (old, count), (new, again) in zip(step.graph, after.graph, strict=True):
        assert (old.name, count) == (new.name, again)
        if old.name not in chosen:
            assert (new.flop_count, new.byte_count(), new.sparse) == (old.flop_count, old.byte_count(), False)
            continue
        assert new.flop_count == old.flop_count / (4 if "skipped" in text else 1)
        assert new.sparse == ("2:4" in text)
        assert old.byte_count() - new.byte_count() == read_of(step, old.name) * (1 - stored / 16)
        assert new.operand_bits == old.operand_bits
    assert after.graph.kv_memory() == step.graph.kv_memory()
    assert after.graph.activation_memory() == step.graph.activation_memory()
    kept = sum(count * matrix(step[one]).weight.tensor.byte_count for one, count in ((one.name, n) for one, n in step) if one in chosen)
    assert step.graph.weight_memory() - after.graph.weight_memory() == kept * (1 - stored / 16)


@pytest.mark.slow
def test_full_density_without_index_gives_the_step_back() -> None:
    for name in MODELS:
        step = numbers(name)
        for zeros in ("multiplied", "skipped"):
            after = step.apply(Sparsify(density=1, index=0, zeros=zeros))
            assert [(one.flop_count, one.byte_count()) for one, _ in after] == [(one.flop_count, one.byte_count()) for one, _ in step]
            assert after.memory == step.memory


@pytest.mark.parametrize(("bits", "stored"), [(16, 36), (8, 20)])
def test_what_two_of_four_stores(bits: int, stored: int) -> None:
    """Mishra et al. (2021), arXiv:2104.08378: of four values two are kept, each with a 2-bit index: 2 (16 + 2) bits for four of 16."""
    step = numbers("llama-2-7b", weight_bits=bits)
    assert read_of(step.apply(Sparsify(pattern="2:4")), "up_proj") / read_of(step, "up_proj") == Rational(stored, 4 * bits)


def test_two_of_four_of_four_bits() -> None:
    """Sparse-Marlin (Frantar et al. 2024, arXiv:2408.11743) states up to 5.3 times FP16: 16 bits over 3, of 2:4 at 4 bits."""
    step = numbers("llama-2-7b")
    both = [technique("quantize:weights=4"), technique("sparsify:pattern=2:4")]
    for order in (both, both[::-1]):
        speedup = read_of(step, "up_proj") / read_of(step.apply(*order), "up_proj")
        assert speedup == Rational(16, 3)
        assert round(float(speedup), 1) == 5.3


def test_sparsity_and_groups_commute() -> None:
    step = numbers("mixtral-8x7b-v0.1")
    both = [technique("quantize:weights=4,group=128"), technique("sparsify:density=1/2,index=4"), technique("prune-channels:share=1/2")]
    tables = [step.apply(*order).graph for order in (both, both[::-1], [both[1], both[0], both[2]])]
    for graph in tables[1:]:
        assert graph.byte_count() == tables[0].byte_count()
        assert graph.weight_memory() == tables[0].weight_memory()
        assert graph.flop_count == tables[0].flop_count


def test_two_of_four_runs_under_the_sparse_peak_in_half_the_time() -> None:
    """NVIDIA A100 datasheet: 624 TFLOP/s sparse, 312 dense in FP16; compute-bound layers take half the time, not a quarter."""
    step = numbers("llama-2-7b", "prefill", seq_len=4096)
    after = step.apply(Sparsify(pattern="2:4"))
    placed = symroof.analyze(after, DEVICE)["up_proj"]
    assert placed.peak_expr == 624 * 10**12
    assert time(step, "up_proj") / time(after, "up_proj") == 2
    assert step["up_proj"].flop_count == after["up_proj"].flop_count


def test_break_even_density_in_letters() -> None:
    after = UP.apply(Sparsify(index=q_i))
    even = break_even(UP, after, over="density", operator="up_proj")
    assert even.flops_expr is None
    assert simplify(even.traffic_expr - w / (w + q_i)) == 0
    assert break_even(UP, UP.apply(Sparsify(index=q_i, zeros="skipped")), over="density", operator="up_proj").flops_expr == 1


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 2, 5, 16, 32])
@pytest.mark.parametrize("name", ["llama-3-8b", "opt-125m", "mixtral-8x7b-v0.1"])
def test_break_even_density_against_a_grid(name: str, index: int) -> None:
    step = numbers(name)
    part = "expert_down_proj" if name.startswith("mixtral") else "down_proj"
    even = Rational(16, 16 + index)
    found = payoff(step, step.apply(Sparsify(index=index)), over="density", hardware=DEVICE, operator=part)
    assert [one.bound for one in found.intervals] == (["pays", "loses"] if index else ["pays"])
    assert found.edges_expr == ((even,) if index else ())
    for parts in range(1, 33):
        density = Rational(parts, 32)
        new, old = time(step.apply(Sparsify(density=density, index=index)), part), time(step, part)
        assert ((new < old), (new > old)) == (density < even, density > even)


# channels


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("of", ["mlp", "heads", "both"])
def test_pruning_shrinks_what_it_names_and_nothing_else(of: str, name: str, phase: str) -> None:
    step = numbers(name, phase, flash_attention=name == "deepseek-v2-lite")
    half = step.apply(PruneChannels(share=Fraction(1, 2), of=of))
    axes = {"mlp": {"f", "f_e", "f_s"}, "heads": {"k", "h"}, "both": {"f", "f_e", "f_s", "k", "h"}}[of]
    for (old, count), (new, again) in zip(step.graph, half.graph, strict=True):
        assert (old.name, count) == (new.name, again)
        touched = any(axes & {*one.axes, *one.tensor.axes} for one in (*old.reads, *old.writes))
        if not touched:
            assert (new.flop_count, new.byte_count()) == (old.flop_count, old.byte_count())
            continue
        shrunk = [axes & set(piece.axes) for piece in old.work]
        if all(shrunk):
            assert new.flop_count == old.flop_count / 2
        if "fused" not in old.name:
            for before, after in zip((*old.reads, *old.writes), (*new.reads, *new.writes), strict=True):
                smaller = bool(axes & set(before.axes or before.tensor.axes))
                assert after.byte_count == before.byte_count / (2 if smaller else 1)
    cached = any(axes & set(tensor.axes) for tensor in step.graph.resident(Storage.KV_CACHE))
    if cached and name not in ("jamba-v0.1",):
        assert half.graph.kv_memory() == step.graph.kv_memory() / 2
    if not cached:
        assert half.graph.kv_memory() == step.graph.kv_memory()


def test_all_channels_give_the_step_back() -> None:
    for name in MODELS:
        step = numbers(name)
        after = step.apply(PruneChannels(share=1, of="both"))
        assert [(one.flop_count, one.byte_count()) for one, _ in after] == [(one.flop_count, one.byte_count()) for one, _ in step]
        assert after.memory == step.memory


def test_pruned_sizes_are_those_of_a_smaller_model(tmp_path) -> None:
    """A config with half the intermediate size, and half the heads of both kinds, gives the same step."""
    import json

    from symroof.architectures.config import locate

    content = json.loads(locate("llama-3-8b")[1].read_text())
    content |= {"intermediate_size": 7168, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128}
    path = tmp_path / "half.json"
    path.write_text(json.dumps(content))
    for phase in ("prefill", "decode"):
        for fused in (False, True):
            small = numbers(str(path), phase, flash_attention=fused)
            pruned = numbers("llama-3-8b", phase, flash_attention=fused).apply(PruneChannels(share=Fraction(1, 2), of="both"))
            table = [(one.name, one.flop_count, one.byte_count()) for one, _ in symroof.analyze(small, DEVICE).step.graph]
            assert [(one.name, one.flop_count, one.byte_count()) for one, _ in symroof.analyze(pruned, DEVICE).step.graph] == table
            assert pruned.graph.weight_memory() == small.graph.weight_memory()
            assert pruned.graph.kv_memory() == small.graph.kv_memory()


def test_blocks_of_flash_attention_follow_the_heads() -> None:
    """Absorbed latent attention shares its keys among all heads, so that blocks have twice the rows with half of the heads."""
    step = numbers("deepseek-v2-lite", "prefill", flash_attention=True, mla="absorbed", seq_len=4096)
    half = step.apply(PruneChannels(share=Fraction(1, 2), of="heads"))
    own = {**step.values, symbols.M_L: Integer(2**20), symbols.n_c: Integer(2)}
    rows = [one.symbolic.bind({**one.symbolic.definitions, **own}).definitions[symbols.R].xreplace(own) for one in (step, half)]
    fewer = {**own, symbols.h: Integer(8)}
    assert rows[0] == step.symbolic.definitions[symbols.R].xreplace(own)
    assert rows[1].doit() == step.symbolic.definitions[symbols.R].xreplace(fewer).doit() != rows[0].doit()


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-125m"])
def test_pruning_always_pays(name: str) -> None:
    step = numbers(name)
    found = payoff(step, step.apply(PruneChannels()), over="kept_channels", hardware=DEVICE, operator="up_proj")
    assert [one.bound for one in found.intervals] == ["pays"]
    for parts in range(1, 8):
        after = step.apply(PruneChannels(share=Fraction(parts, 8)))
        speedup = time(step, "up_proj") / time(after, "up_proj")
        assert 1 < speedup < Rational(8, parts)


# low rank


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
def test_low_rank_splits_the_matrices_and_nothing_else(name: str, phase: str) -> None:
    step = numbers(name, phase)
    after = step.apply(LowRank(rank=8))
    chosen = linears(step.symbolic)
    names = {one.name for one in chosen}
    made = {one.name for one, _ in after}
    assert made == ({one.name for one, _ in step} - names) | {f"{one}.{half}" for one in names for half in ("first", "second")}
    for old, _ in step.graph:
        if old.name not in names:
            assert (after[old.name].flop_count, after[old.name].byte_count()) == (old.flop_count, old.byte_count())
            continue
        own = matrix(old)
        inputs, outputs = own.shape
        first, second = after[f"{old.name}.first"], after[f"{old.name}.second"]
        assert first.flop_count == old.flop_count * 8 / outputs
        assert second.flop_count == old.flop_count * 8 / inputs
        weight = read_of(step, old.name)
        assert (read_of(after, first.name), read_of(after, second.name)) == (weight * 8 / outputs, weight * 8 / inputs)
        between = old.flop_count / (2 * inputs * outputs) * 8 * 2
        assert first.writes[0].byte_count == second.reads[0].byte_count == between
        thin = weight * 8 * (inputs + outputs) / (inputs * outputs)
        assert first.byte_count() + second.byte_count() - old.byte_count() == thin - weight + 2 * between
    assert after.graph.kv_memory() == step.graph.kv_memory()


def test_full_rank_costs_the_known_formula() -> None:
    after = UP.apply(LowRank())
    parts = [after[f"up_proj.{half}"] for half in ("first", "second")]
    flops = sum(one.flop_count for one in parts)
    assert simplify(flops / UP["up_proj"].flop_count - rho * (d + f) / (d * f)) == 0
    assert cancel(flops.xreplace({rho: d}) / UP["up_proj"].flop_count) == cancel((d + f) / f)


def test_largest_rank_in_letters() -> None:
    decode = break_even(UP, UP.apply(LowRank()), over="rank", operator="up_proj")
    assert simplify(decode.flops_expr - d * f / (d + f)) == 0
    assert simplify(decode.traffic_expr - d * f * w / ((d + f) * w + 2 * a * b)) == 0
    prompt = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    prefill = break_even(prompt, prompt.apply(LowRank()), over="rank", operator="up_proj")
    assert prefill.flops_expr == decode.flops_expr
    assert simplify(prefill.traffic_expr - d * f * w / ((d + f) * w + 2 * a * b * symbols.s)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize(("name", "part"), [("llama-3-8b", "k_proj"), ("opt-125m", "up_proj"), ("mixtral-8x7b-v0.1", "expert_up_proj")])
def test_largest_rank_against_a_grid(name: str, part: str, phase: str) -> None:
    for batch in (1, 16, 300):
        step = numbers(name, phase, batch=batch)
        found = payoff(step, step.apply(LowRank(operators=part)), over="rank", hardware=DEVICE, operator=part)
        assert found.intervals[0].bound == "pays"
        paying = [(one.low, one.high) for one in found.intervals if one.bound == "pays"]
        low, high = (int(min(end for pair in paying for end in pair)), int(max(end for pair in paying for end in pair)))
        most = int(min(matrix(step[part]).shape))
        for rank in {1, max(low, 1), high // 2, high - 1, high, min(high + 1, most), most} & set(range(1, most + 1)):
            new, old = time(step.apply(LowRank(rank=rank, operators=part)), part), time(step, part)
            assert (new < old) == any(start <= rank < stop for start, stop in paying), (batch, rank)


# distillation


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("llama-2-13b", "llama-2-7b"), ("llama-3.1-8b", "llama-3.2-1b"), ("mixtral-8x7b-v0.1", "mistral-7b-v0.1"), ("opt-6.7b", "opt-125m")],
)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_step_becomes_the_students(teacher: str, student: str, phase: str) -> None:
    after, own = numbers(teacher, phase).apply(Distill(model=student)), numbers(student, phase)
    assert [(one.name, one.flop_count, one.byte_count()) for one, _ in after] == [
        (one.name, one.flop_count, one.byte_count()) for one, _ in own
    ]
    assert after.memory == own.memory


@pytest.mark.slow
def test_students_pay_at_every_batch() -> None:
    """Llama 3.2 1B was distilled from Llama 3.1 8B among others (Meta's model card), which has 6.5 times as many parameters."""
    teacher, student = symroof.load_model("llama-3.1-8b"), symroof.load_model("llama-3.2-1b")
    assert (round(teacher.parameters / 1e9, 2), round(student.parameters / 1e9, 2)) == (8.03, 1.24)
    step = teacher.decode(seq_len=64, **SIXTEEN)
    found = payoff(step, step.apply(Distill(model="llama-3.2-1b")), over="batch", hardware=DEVICE)
    assert [one.bound for one in found.intervals] == ["pays"]
    for batch in (1, 8, 200, 1000):
        old, new = (symroof.analyze(numbers(one, batch=batch), DEVICE).total.time_expr for one in ("llama-3.1-8b", "llama-3.2-1b"))
        assert found.speedup_expr(batch) == old / new


def test_a_student_goes_on_through_the_chain() -> None:
    step = numbers("llama-3.1-8b")
    after = step.apply(Distill(model="llama-3.2-1b"), technique("quantize:weights=4,group=128"), technique("low-rank:rank=64"))
    own = numbers("llama-3.2-1b").apply(technique("quantize:weights=4,group=128"), technique("low-rank:rank=64"))
    assert after.graph.byte_count() == own.graph.byte_count()
    letters = symroof.load_model("llama-3.1-8b").decode(symbolic=True).apply(Distill(model="llama-3.2-1b"))
    assert letters["up_proj"].flop_count == UP["up_proj"].flop_count


# together


CHAINS = [
    ("quantize:weights=4,group=8", "low-rank:rank=8"),
    ("low-rank:rank=8", "quantize:weights=4"),
    ("sparsify:pattern=2:4", "low-rank:rank=8"),
    ("low-rank:rank=8", "sparsify:pattern=2:4"),
    ("low-rank:rank=16", "low-rank:rank=8"),
    ("prune-channels:share=1/2", "prune-channels:share=1/2,of=heads", "low-rank:rank=8", "quantize:weights=4,keep_layers=1,kind={}"),
    ("quantize:weights=4,dequantize=counted,keep_layers=1,kind={}", "sparsify:density=1/2,zeros=skipped", "low-rank:rank=8"),
]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_chains_give_numbers(chain: tuple[str, ...], name: str, phase: str) -> None:
    step = numbers(name, phase)
    kind = next(block.name for block in step.graph.blocks if block.count > 1)
    after = step.apply(*(technique(text.format(kind)) for text in chain))
    assert after.graph.flop_count.is_number
    assert after.graph.byte_count() < step.graph.byte_count()
    assert after.graph.weight_memory() < step.graph.weight_memory()
    assert after.graph.activation_memory().is_number
    assert symroof.analyze(after, DEVICE).total.time_expr > 0


@pytest.mark.parametrize(("experts", "read"), [("at-most", Integer(6)), ("expected", 8 * (1 - Rational(3, 4) ** 3))])
@pytest.mark.parametrize("zeros", ["multiplied", "skipped"])
def test_stored_weights_alone_are_dequantized(zeros: str, experts: str, read: Expr) -> None:
    """Three sequences go to two experts of eight each: six at most, and each of the eight is missed by (3/4)^3."""
    step = numbers("mixtral-8x7b-v0.1", experts=experts)
    both = [technique("quantize:weights=4,dequantize=counted"), Sparsify(density=Fraction(1, 4), zeros=zeros)]
    one, other = step.apply(*both).graph, step.apply(*both[::-1]).graph
    assert [part.flop_count for part, _ in one] == [part.flop_count for part, _ in other]
    part = one["expert_up_proj"]
    products = step["expert_up_proj"].flop_count / (4 if zeros == "skipped" else 1)
    assert part.flop_count == products + 2 * Rational(1, 4) * read * 4096 * 14336


def test_a_weight_of_two_operators_stays_one() -> None:
    space = Space({"b": b, "s": symbols.s, "d": d, "f": f})
    x = Tensor("x", ("b", "s", "d"), Storage.ACTIVATION, space)
    one = linear("one", "b s d, d f -> b s f", x)
    other = linear("other", "b s d, d f -> b s f", x, weight=one.reads[1].tensor)
    graph = Graph((Block("layer", (one, other), role=BlockRole.LAYER),))
    for text, memory in (
        ("quantize:weights=4", d * f / 2),
        ("sparsify:density,index", d * f * sigma * (w + q_i) / 8),
        ("low-rank", rho * (d + f) * w / 8),
    ):
        changed = graph.apply(technique(text))
        known = {letter: value for letter, value in changed.definitions.items() if letter not in (sigma, q_i)}
        assert simplify(changed.weight_memory().xreplace(known) - memory) == 0


def test_low_rank_of_quantized_is_quantized_low_rank() -> None:
    step = numbers("mixtral-8x7b-v0.1")
    both = [technique("quantize:weights=4,group=8,dequantize=counted"), technique("low-rank:rank=8")]
    one, other = step.apply(*both).graph, step.apply(*both[::-1]).graph
    assert one.byte_count() == other.byte_count()
    assert one.flop_count == other.flop_count


REFUSED = {
    "sparsify:density=1/4,pattern=2:4": "density 1/4: pattern 2:4 keeps 1/2",
    "sparsify:index=4,pattern=2:4": "index 4: pattern 2:4 takes 2 bits",
    "sparsify:pattern=2:4,zeros=skipped": "the sparse peak of pattern 2:4 already accounts for skipped zeros",
    "sparsify:operators=softmax": "'softmax' is not a linear operator of this step",
    "sparsify:density=3/2": "density 3/2: expected a number above 0, at most 1",
    "sparsify:operators=lm_head": "lm_head shares its weight with the embedding",
    "prune-channels:share=1/5": "a share 1/5 of the intermediate size 3072 is not a whole number: try 307/1536",
    "prune-channels:share=1/8,of=heads": "a share 1/8 of the 12 KV heads is not a whole number: try 1/12",
    "low-rank:rank=769": "rank 769 is above the 768 x 768 matrix of q_proj: expected at most 768",
    "low-rank:rank=8,operators=mlp_act": "'mlp_act' is not a linear operator of this step",
    "distill": "name the student, as model=",
    "distill:model=opt-1.3b": "the student opt-1.3b has 1315758080 parameters, opt-125m 125239296: expected fewer",
    "distill:model=opt-125m": "the student opt-125m has 125239296 parameters, opt-125m 125239296: expected fewer",
    "distill:model=dit-s-2": "dit-s-2 predicts no tokens, opt-125m predicts tokens",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text: str) -> None:
    with pytest.raises(InputError) as raised:
        numbers("opt-125m").apply(technique(text))
    assert REFUSED[text] in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_said_of_zeros_is_what_is_counted() -> None:
    plain = numbers("opt-125m")
    for zeros, words in (("multiplied", "zeros are multiplied, so FLOPs stay"), ("skipped", "zeros are skipped")):
        after = plain.apply(Sparsify(density=Fraction(1, 2), index=0, zeros=zeros))
        assert any(words in text for text in after.statements)
        assert (after["q_proj"].flop_count == plain["q_proj"].flop_count) is (zeros == "multiplied")


def test_a_student_of_experts_routes_as_it_does_itself() -> None:
    """Qwen3-235B-A22B and its student of 30B, four sequences: 5.35 ms with every expert that tokens can touch, 4.96 with those expected."""
    most = {"batch": 4, "seq_len": 2048, "experts": "at-most"}
    student, teacher = (numbers(name, **most) for name in ("qwen3-30b-a3b", "qwen3-235b-a22b"))
    stands_in, routed = technique("distill:model=qwen3-30b-a3b"), technique("expert-routing")
    for techniques, plain in (((stands_in,), student), ((stands_in, routed), student.apply(routed))):
        found, expected = (symroof.analyze(made, "h100-sxm").total.time_expr for made in (teacher.apply(*techniques), plain))
        assert found == expected
    assert round(1000 * float(symroof.analyze(teacher.apply(stands_in), "h100-sxm").total.time_expr), 2) == 5.35
    assert round(1000 * float(symroof.analyze(teacher.apply(stands_in, routed), "h100-sxm").total.time_expr), 2) == 4.96
    assert teacher.apply(stands_in, routed).techniques == ("distill:model=qwen3-30b-a3b", "expert-routing")
    with pytest.raises(InputError, match="distill replaces the model: put it before expert-routing"):
        teacher.apply(routed, stands_in)


DRAFTED = "speculative:draft=llama-3.2-1b,acceptance=4/5,length=4"
GUESSED = "medusa:heads=4,nodes=20,acceptance=3/5,rows=last"
LAYERS = 32 * (4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336)
"""Weights of the matrices of the layers of Llama 3.1 8B."""
DRAFT_LAYERS = 16 * (2048 * (2048 + 512 + 512 + 2048) + 3 * 2048 * 8192)
"""And of Llama 3.2 1B."""


SAVED = {
    "quantize:weights=4": Rational(3, 2),
    "sparsify:density=1/4,index=4": Rational(11, 8),
    "data-format:bits=4,peak=1PFLOP/s": Rational(3, 2),
}
"""Bytes that a weight of 16 bits saves."""


@pytest.mark.parametrize("text", SAVED)
def test_heads_of_drafts_and_of_medusa_keep_their_weights(text: str) -> None:
    """A draft's layers and Medusa's d x d matrices are narrow after it; the LM heads and embeddings are not, as is said."""
    step = numbers("llama-3.1-8b", batch=1, seq_len=2048)
    for first, narrowed in ((DRAFTED, LAYERS + DRAFT_LAYERS), (GUESSED, LAYERS + 4 * 4096**2)):
        before = step.apply(technique(first))
        after = before.apply(technique(text))
        assert before.graph.weight_memory() - after.graph.weight_memory() == SAVED[text] * narrowed
        heads = [operator for operator, _ in after if operator.role is Role.HEAD]
        assert len(heads) == 2
        for head in heads:
            rows = 2048 if head.prefix == "draft." else 4096
            assert [access.tensor.byte_count for access in matrices(head)] == [2 * 128256 * rows]


def test_low_rank_leaves_the_heads_of_drafts_and_of_medusa() -> None:
    step = numbers("llama-3.1-8b", batch=1, seq_len=2048)
    thin = 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    after = step.apply(technique(GUESSED), technique("low-rank:rank=64"))
    ends = 5 * 128256 * 4096 + 128256 * 4096 + 65 * 4096
    assert after.graph.parameter_count() == 64 * (thin + 4 * (4096 + 4096)) + ends
    drafted = step.apply(technique(DRAFTED), technique("low-rank:rank=64"))
    draft = 64 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 512) + 3 * (2048 + 8192)) + 128256 * 2048 + 33 * 2048
    assert drafted.graph.parameter_count() == 64 * thin + 2 * 128256 * 4096 + 65 * 4096 + draft


def test_times_with_heads_that_keep_their_weights() -> None:
    """One sequence at 2048 tokens: 16-bit LM heads, four times the draft's, or the own and four of Medusa's, are a good part of a step."""
    step = numbers("llama-3.1-8b", batch=1, seq_len=2048)
    drafted, guessed = (step.apply(technique(first), technique("quantize:weights=4")) for first in (DRAFTED, GUESSED))
    times = [1000 * float(symroof.analyze(made, "h100-sxm").total.time_expr) for made in (drafted, guessed)]
    assert [round(time, 3) for time in times] == [2.782, 2.883]
    assert [round(float(made.graph.weight_memory()) / 1e9, 3) for made in (drafted, guessed)] == [6.604, 9.828]
    for made in (drafted, guessed):
        assert sum("LM head (a draft's and Medusa's too)" in line for line in made.statements) == 1


def test_refusals_of_what_came_before() -> None:
    step = numbers("llama-3.1-8b")
    with pytest.raises(InputError, match="put it before quantize"):
        step.apply(technique("quantize:weights=4"), technique("distill:model=llama-3.2-1b"))
    with pytest.raises(InputError, match="has the pattern 2:4 already"):
        step.apply(technique("sparsify:pattern=2:4"), technique("sparsify:pattern=2:4"))
    with pytest.raises(InputError, match="not a multiple of 4"):
        step.apply(technique("low-rank:rank=10"), technique("sparsify:pattern=2:4"))
    with pytest.raises(InputError, match="apply it to a step"):
        step.symbolic.apply(technique("distill:model=llama-3.2-1b"))
    assert str(refuse_graph(Distill(model="x"))).startswith("distill needs the model")
    with pytest.raises(InputError, match="'llm-viewer' counts its own cache"):
        numbers("llama-2-7b", accounting="llm-viewer").apply(PruneChannels(share=Fraction(1, 2), of="heads"))
    with pytest.raises(InputError, match="is already fused: fuse after"):
        numbers("llama-2-7b").apply(technique("fuse:operators=attn_norm+q_proj"), technique("low-rank:rank=8"))
    for of, has in (("mlp", "no MLP"), ("heads", "no attention heads")):
        with pytest.raises(InputError, match=has):
            numbers("mamba-130m").apply(PruneChannels(share=Fraction(1, 2), of=of))
    with pytest.raises(InputError, match="1 KV heads is not a whole number: nothing would be left"):
        numbers("falcon-7b").apply(PruneChannels(share=Fraction(1, 2), of="heads"))


def test_letters_stay_free() -> None:
    assert Sparsify().free == (sigma,)
    assert LowRank().free == (rho,)
    assert PruneChannels().free == (symbols.chi,)
    assert UP.apply(Sparsify(index=q_i)).graph.byte_count().free_symbols >= {sigma, q_i, b}
    twice = UP.apply(PruneChannels(share=Fraction(1, 2)), PruneChannels(share=Fraction(1, 4), of="heads"))
    assert twice["q_proj"].flop_count == UP["q_proj"].flop_count / 4


def test_a_difference_of_higher_degree_has_no_one_break_even() -> None:
    prompt = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    with pytest.raises(InputError, match="degree 2 in it, so there is no single break-even value"):
        break_even(prompt, prompt.apply(PruneChannels(share=Rational(1, 2), of="both")), over="seq_len", operator="total")
