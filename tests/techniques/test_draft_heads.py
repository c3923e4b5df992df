"""Heads that draft for their own model: published sizes, and every pass of a step counted by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sympy import Rational, cancel

import symroof
from symroof.architectures.prediction import eagle_head, mtp_head, own_parameters
from symroof.operators.operator import Direction
from symroof.operators.tensor import Storage
from symroof.questions.speculation import best_length
from symroof.symbols import X_d, gamma
from symroof.techniques.registry import names
from tests.techniques.decoding_steps import DEVICE, apply, decode, memory, seconds
from tests.techniques.pairs import Pair, difference

CHECKPOINTS = {
    # elements of all tensors of the checkpoint, as its safetensors index has them on the hub, without scales of FP8; parameters of the
    # main model; elements that the checkpoint has twice, embedding and LM head among them; biases of the router, which do not take part
    "deepseek-v3": (684_489_845_504, 2 * 129280 * 7168, 256),
    "glm-4.5": (358_337_791_296, 2 * 151552 * 5120, 160),
    "glm-4.5-air": (110_468_824_832, 2 * 151552 * 4096, 128),
    "qwen3-next-80b-a3b-instruct": (81_324_862_720, 0, 0),
}
BIASES = {"deepseek-v3": 58 * 256, "glm-4.5": 89 * 160, "glm-4.5-air": 45 * 128, "qwen3-next-80b-a3b-instruct": 0}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_layer_beside_the_main_model_is_the_rest_of_the_checkpoint(name):
    whole, twice, correction = CHECKPOINTS[name]
    model = symroof.load_model(name)
    assert model.predicting == 1
    assert model.parameters + BIASES[name] + twice + correction + own_parameters(mtp_head(model)) == whole


def test_published_sizes_of_heads():
    """DeepSeek-V3: 11.5B of its own and 14B with both tables (README_WEIGHTS.md, README.md); MiMo-V2-Flash: three of 0.33B (model card)."""
    deepseek = symroof.load_model("deepseek-v3")
    own = own_parameters(mtp_head(deepseek))
    assert abs(own - 11.5e9) < 0.12e9  # 11.61: the projection of 0.1 is not in the published figure
    assert 13 < (own + 2 * 129280 * 7168) / 1e9 < 14
    flash = symroof.load_model("mimo-v2-flash")
    assert (flash.predicting, round(own_parameters(mtp_head(flash)) / 1e9, 2)) == (3, 0.33)


EAGLE = {"llama-2-7b": 0.24, "llama-2-13b": 0.37, "llama-2-70b": 0.99, "llama-3-8b": 0.25, "llama-3-70b": 0.99, "qwen2-7b": 0.26}
"""Billions of parameters of the heads in the table of github.com/SafeAILab/EAGLE, README.md at cb7e084. Those of Vicuna-33B and Mixtral
have other KV heads than their models (eagle/train/vicuna_33B_config.json, Mixtral_8x7B_config.json)."""


@pytest.mark.parametrize("name", EAGLE)
def test_published_sizes_of_eagle(name):
    assert round(own_parameters(eagle_head(symroof.load_model(name), third=False)) / 1e9, 2) == EAGLE[name]


def test_eagle_of_other_kv_heads(tmp_path):
    """Vicuna-33B's head has 13 KV heads, Mixtral's 32: with their own configs the table's sizes follow."""
    for hidden, width, heads, kv_heads, billions in ((6656, 17920, 52, 13, 0.56), (4096, 14336, 32, 32, 0.28)):
        fields = {"hidden_size": hidden, "intermediate_size": width, "num_attention_heads": heads, "num_key_value_heads": kv_heads}
        config = tmp_path / f"{heads}.json"
        config.write_text(
            '{"model_type": "llama", "num_hidden_layers": 1, "vocab_size": 32000, '
            + ", ".join(f'"{field}": {size}' for field, size in fields.items())
            + "}"
        )
        assert round(own_parameters(eagle_head(symroof.load_model(config), third=False)) / 1e9, 2) == billions


def contraction_flops(passes, sizes, *, fused, projected, logits, gates=3):
    """Multiply-accumulates of a head's passes, each with its tokens, rows of logits, query-key pairs; twice, for one sequence."""
    d, f, h, k, e = sizes
    total = 0
    for place, (tokens, rows, pairs) in enumerate(passes):
        linear = d * (h + k + k) * e * projected + h * e * d + gates * d * f
        linear += fused * d if fused == 2 * d or place == 0 else 0
        total += 2 * (tokens * linear + 2 * h * e * pairs + rows * d * logits)
    return total


def passes_of(length, context, branches=1):
    """Tokens, rows of logits, and query-key pairs of every pass: the first on all tokens that were verified, the others one by one."""
    verified = length + 1
    first = (verified, 1, sum(context + place for place in range(verified)))
    cached, others = context - 1, []
    for _ in range(length - 1):
        cached += branches
        others.append((branches, branches, branches * cached))
    return [first, *others]


LLAMA = (4096, 14336, 32, 8, 128)
HEADS = {
    "draft=mtp": ("mimo-7b-base", (4096, 11008, 32, 8, 128), 2 * 4096, 1, 151680),
    "draft=eagle": ("llama-3.1-8b", LLAMA, 2 * 4096, 1, 128256),
    "draft=eagle3": ("llama-3.1-8b", LLAMA, 3 * 4096, 2, 128256),
    "draft=eagle3,vocabulary=32000": ("llama-3.1-8b", LLAMA, 3 * 4096, 2, 32000),
}


@pytest.mark.parametrize("length", [1, 2, 4])
@pytest.mark.parametrize("text", HEADS)
def test_passes_of_a_head_by_hand(text, length):
    name, sizes, fused, projected, logits = HEADS[text]
    d, f, h, k, e = sizes
    batch, context = 2, 100
    step = decode(name, batch=batch, seq_len=context)
    after = apply(step, f"speculative:acceptance=0.8,length={length},{text}")
    plain = apply(step, f"speculative:acceptance=0.8,length={length},draft_cost=0")
    mine = [(operator, count) for operator, count in after.graph if operator.name.startswith("draft.")]
    target = {operator.name: (operator.flop_count, operator.byte_count()) for operator, _ in after.graph if "draft." not in operator.name}
    assert target == {operator.name: (operator.flop_count, operator.byte_count()) for operator, _ in plain.graph}
    passes = passes_of(length, context)
    flops = contraction_flops(passes, sizes, fused=fused, projected=projected, logits=logits)
    assert sum(count * operator.contraction_flop_count for operator, count in mine) == batch * flops
    head = mtp_head(step.source) if text == "draft=mtp" else eagle_head(step.source, third="eagle3" in text)
    own = own_parameters(head)
    later = own - (fused * d if "eagle3" in text else 0)  # EAGLE-3 projects the target's hidden states alone
    rows = sum(tokens for tokens, _, _ in passes)
    read = own + (length - 1) * later + length * logits * d + batch * rows * d
    assert sum(count * operator.byte_count(Storage.WEIGHT) for operator, count in mine) == 2 * read
    cached = sum(count * operator.byte_count(Storage.KV_CACHE, Direction.READ) for operator, count in mine)
    assert cached == 2 * batch * 2 * k * e * (context + length + sum(pairs for _, _, pairs in passes[1:]))
    written = sum(count * operator.byte_count(Storage.KV_CACHE, Direction.WRITE) for operator, count in mine)
    assert written == 2 * batch * 2 * k * e * rows
    more = own + (logits * d if "eagle3" in text else 0)
    assert memory(after)[0] - memory(step)[0] == 2 * more
    assert memory(after)[1] - memory(plain)[1] == 2 * batch * 2 * k * e * (context + length)
    assert f < own
    assert h > k


def test_a_tree_of_eagle_by_hand():
    length, branches, nodes, batch, context = 4, 5, 20, 2, 100
    step = decode("llama-3.1-8b", batch=batch, seq_len=context)
    after = apply(step, f"speculative:acceptance=0.8,length={length},draft=eagle3,vocabulary=32000,nodes={nodes},branches={branches}")
    mine = [(operator, count) for operator, count in after.graph if operator.name.startswith("draft.")]
    flops = contraction_flops(passes_of(length, context, branches), LLAMA, fused=3 * 4096, projected=2, logits=32000)
    assert sum(count * operator.contraction_flop_count for operator, count in mine) == batch * flops
    medusa = apply(step, f"medusa:heads={length},nodes={nodes},acceptance=0.8")
    assert after.graph.tokens == medusa.graph.tokens
    for name in ("up_proj", "qk_matmul", "lm_head"):
        assert after[name].flop_count == medusa[name].flop_count
        assert after[name].byte_count() == medusa[name].byte_count()


def test_experts_of_passes_and_of_several_heads():
    """The first pass reads those of b (gamma + 1) tokens, the others those of b; three heads are in memory, one runs."""
    length, batch = 3, 2
    step = decode("deepseek-v3", batch=batch, seq_len=100, weight_bits=16)
    after = apply(step, f"speculative:acceptance=0.8,length={length},draft=mtp")
    for name, tokens in (("draft.first.expert_up_proj", batch * (length + 1)), ("draft.expert_up_proj", batch)):
        touched = 256 * (1 - Fraction(248, 256) ** tokens)
        assert after[name].byte_count(Storage.WEIGHT) == 2 * 7168 * 2048 * Rational(touched.numerator, touched.denominator)
    assert after.graph.definitions[X_d] == 256 * (1 - Rational(31, 32) ** batch)
    flash = decode("mimo-v2-flash", batch=batch, seq_len=100, weight_bits=16)
    heads = apply(flash, "speculative:acceptance=0.8,length=2,draft=mtp")
    assert memory(heads)[0] - memory(flash)[0] == 3 * 2 * own_parameters(mtp_head(flash.source))
    assert [count for operator, count in heads.graph if operator.name.endswith("eh_proj")] == [1, 1]


def test_formats_of_heads_in_quantized_checkpoints():
    """As the model's last layers: with its tables once, DeepSeek-V3's files. Where the config leaves them at 16 bits, that."""
    files = 688_574_839_360 - 2 * 2 * 129280 * 7168  # bytes of all tensors, without the second embedding and LM head
    deepseek = symroof.load_model("deepseek-v3").decode(batch=1, seq_len=100, activation_bits=16, kv_bits=16)
    whole = apply(deepseek.with_widths(), "speculative:acceptance=0.8,length=1,draft=mtp").graph.weight_memory()
    assert abs(whole / files - 1) < Rational(1, 10000)
    narrow = symroof.load_model("qwen3.6-35b-a3b-nvfp4")
    step = narrow.decode(batch=1, seq_len=100).with_widths()
    after = apply(step, "speculative:acceptance=0.8,length=1,draft=mtp")
    assert after.graph.weight_memory() - step.graph.weight_memory() == 2 * own_parameters(mtp_head(narrow))


def test_lengths_that_stay_symbols():
    step = symroof.load_model("mimo-7b-base").decode(batch=2, seq_len=100, weight_bits=16, activation_bits=16, kv_bits=16)
    whole = apply(step, "speculative:acceptance=1/2,draft=mtp").graph
    for length in (1, 2, 5):
        known = apply(step, f"speculative:acceptance=1/2,length={length},draft=mtp").graph
        assert cancel(whole.flop_count.subs(gamma, length) - known.flop_count) == 0
        assert cancel(whole.byte_count().subs(gamma, length) - known.byte_count()) == 0
    fused = symroof.load_model("mimo-7b-base").decode(batch=2, seq_len=100, flash_attention=True)
    assert "draft.first.fused_attention" in {operator.name for operator, _ in apply(fused, "speculative:length=2,draft=mtp").graph}


@pytest.mark.slow
def test_best_length_of_a_head_by_brute_force():
    step = decode("mimo-7b-base", batch=4, seq_len=1000)
    best = best_length(step, symroof.technique("speculative:acceptance=0.7,draft=mtp"), DEVICE)
    tried = [seconds(step)] + [seconds(apply(step, f"speculative:acceptance=0.7,length={n},draft=mtp")) for n in range(1, best.length + 4)]
    assert (best.length, best.time_expr) == (tried.index(min(tried)), min(tried))
    assert best.length > 0


@pytest.mark.parametrize("draft", ["mtp", "eagle3,vocabulary=32000"])
def test_prompts_go_through_the_head_too(draft):
    model = symroof.load_model("mimo-7b-base")
    asked = {"prompt": 64, "tokens": 8, "hardware": DEVICE, "batch": 1, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    plain = symroof.generation(model, **asked, techniques="speculative:acceptance=0.5,length=1,draft_cost=0")
    drafted = symroof.generation(model, **asked, techniques=f"speculative:acceptance=0.5,length=1,draft={draft}")
    (head,) = symroof.technique(f"speculative:length=1,draft={draft}").prefills(
        model.prefill(batch=1, seq_len=64, weight_bits=16, activation_bits=16, kv_bits=16)
    )
    assert drafted.prefill_time_expr - plain.prefill_time_expr == symroof.analyze(head, DEVICE).total.time_expr
    assert head["eh_proj" if draft == "mtp" else "fc"].flop_count == 2 * 64 * (2 if draft == "mtp" else 3) * 4096**2


def test_the_main_step_has_no_head():
    model = symroof.load_model("deepseek-v3")
    assert not any("eh_proj" in operator.name for operator, _ in model.decode(batch=1, seq_len=8).graph)
    assert any("draft=mtp counts them" in line for line in model.notes)
    after = model.decode(batch=1, seq_len=8).apply("speculative:length=1,draft=mtp")
    assert [after[f"draft.first.{name}_norm"].reads[0].tensor.name for name in ("hidden", "token")] == ["hidden", "embedding"]


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("llama-2-7b", "speculative:draft=mtp", "llama-2-7b has no layer that predicts further tokens"),
        ("kimi-k2-instruct", "speculative:draft=mtp", "has no layer that predicts"),
        ("deepseek-v4-flash", "speculative:draft=mtp", "is not known here"),
        ("deepseek-v3", "speculative:draft=eagle", "no attention with KV heads"),
        ("mixtral-8x7b-v0.1", "speculative:draft=eagle", "give width"),
        ("llama-2-7b", "speculative:draft=eagle,vocabulary=32000", "vocabulary is for draft=eagle3"),
        ("llama-2-7b", "speculative:draft=eagle3,vocabulary=32001", "llama-2-7b has 32000 tokens"),
        ("llama-2-7b", "speculative:draft_cost=0,nodes=8,branches=2", "nodes is for draft=mtp or draft=eagle or draft=eagle3"),
        ("llama-2-7b", "speculative:draft=eagle,nodes=8", "give both"),
        ("llama-2-7b", "speculative:draft=eagle,length=3,nodes=11,branches=2", "from 3 to 10 nodes"),
        ("llama-2-7b", "quantize:weights=4 speculative:draft=eagle", "must come before quantize"),
        ("llama-2-7b", "data-parallel:degree=2 speculative:draft=opt-125m", "the whole batch on one device"),
        ("qwen3-next-80b-a3b-instruct", "speculative:draft=mtp,nodes=4,branches=2,length=2,rollback=replay", "tokens of a tree"),
    ],
)
def test_refusals(model, text, message):
    with pytest.raises(symroof.SymroofError, match=message) as refusal:
        apply(decode(model, batch=2, seq_len=64), *text.split())
    assert "\n" not in str(refusal.value)


def test_experts_need_a_width_and_a_student_has_its_own_head():
    mixture = apply(decode("mixtral-8x7b-v0.1", batch=2, seq_len=64), "speculative:length=2,draft=eagle,width=14336")
    assert mixture["draft.up_proj"].flop_count == 2 * 2 * 4096 * 14336
    student = apply(decode("qwen3.5-27b", batch=2, seq_len=64), "distill:model=qwen3.5-9b", "speculative:length=2,draft=mtp")
    assert student["draft.eh_proj"].flop_count == 2 * 2 * 2 * 4096**2


@pytest.mark.slow
@pytest.mark.parametrize(("model", "form"), [("llama-2-7b", "draft=eagle3,vocabulary=16000"), ("deepseek-v3", "draft=mtp")])
def test_every_technique_goes_after_a_head_or_is_refused(model, form):
    text = f"speculative:acceptance=1/2,length=3,{form}"
    for other in names():
        pair = Pair(model, "decode", text, other)
        lines = [step for step in pair.steps if isinstance(step, str)]
        assert all(0 < len(line) < 400 and "\n" not in line for line in lines), (other, lines)
        assert lines or not difference(*pair.steps), other
