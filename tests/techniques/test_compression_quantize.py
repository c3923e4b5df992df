"""Quantization: what it changes and nothing else, which roof applies, where it pays."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from sympy import Integer, Rational, simplify

import symroof
from symroof import symbols
from symroof.errors import InputError
from symroof.operators.facts import BlockRole, Kind
from symroof.operators.tensor import Level, Storage
from symroof.questions.payoff import break_even, payoff
from symroof.techniques.compression.quantize import Quantize
from symroof.techniques.compression.selectors import linears
from symroof.techniques.registry import chain, technique

MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m", "deepseek-v2-lite", "gpt-oss-20b")
SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
DEVICE = "a100-sxm-80gb"


def numbers(model: str, phase: str = "decode", **inputs: object) -> symroof.architectures.step.Step:
    return getattr(symroof.load_model(model), phase)(**SIXTEEN, **{"batch": 3, "seq_len": 64, **inputs})


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
def test_each_class_changes_its_own_bytes_and_nothing_else(name: str, phase: str) -> None:
    step = numbers(name, phase)
    draw = random.Random(f"{name} {phase}")
    bits = Integer(draw.randint(2, 12))
    routers = {operator.name for operator, _ in step.symbolic if operator.name.endswith("router")}
    for field, storage in (("weights", Storage.WEIGHT), ("activations", Storage.ACTIVATION), ("kv", Storage.KV_CACHE)):
        after = step.apply(Quantize(**{field: int(bits)}, scope="all" if field == "activations" else "linear"))
        changed = {one.name for one in linears(step.symbolic)} if field == "weights" else None
        for (old, count), (new, again) in zip(step.graph, after.graph, strict=True):
            assert (new.name, count, new.flop_count) == (old.name, again, old.flop_count)
            for one in Storage:
                before, moved = old.byte_count(one), new.byte_count(one)
                if one is not storage or (changed is not None and old.name not in changed):
                    assert moved == before, (old.name, one)
                elif field != "weights":
                    assert moved == before * bits / 16
                else:
                    bias = sum(read.byte_count for read in old.reads if read.tensor.name.endswith(".bias"))
                    assert moved == (before - bias) * bits / 16 + bias
        if changed is not None:
            assert not changed & routers
            ends = {operator.name for block in step.symbolic.blocks if block.role is BlockRole.END for operator in block.operators}
            assert not changed & ends


@pytest.mark.parametrize(
    "before", ["offload:share=1/2", "fuse:operators=gate_proj+up_proj+mlp_act", "fuse:preset=engine", "low-rank:rank=64"]
)
def test_what_is_kept_is_kept_whatever_an_earlier_technique_made_of_it(before: str) -> None:
    after = numbers("llama-2-7b").apply(*chain([before, "quantize:weights=4,keep=up_proj"]))
    widths = {
        (operator.name, access.tensor.bits)
        for operator, _ in after.graph
        for access in operator.reads
        if access.tensor.storage is Storage.WEIGHT and "_proj" in operator.name
    }
    assert {bits for name, bits in widths if "up_proj" in name} == {16}
    assert {bits for name, bits in widths if "up_proj" not in name} == {4}


def test_memory_follows() -> None:
    step = numbers("llama-2-7b")
    after = step.apply(technique("quantize:weights=4,group=128,kv=8"))
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    rest = symroof.load_model("llama-2-7b").parameters - linear
    assert after.graph.weight_memory() == Rational(linear) * (4 + Rational(16, 128)) / 8 + 2 * rest
    assert after.graph.kv_memory() == step.graph.kv_memory() / 2
    assert after.graph.activation_memory() == step.graph.activation_memory()


@pytest.mark.parametrize("name", MODELS)
def test_the_widths_a_step_has_give_it_back(name: str) -> None:
    step = numbers(name)
    after = step.apply(technique("quantize:weights=16,activations=16,kv=16"))
    assert [(one.flop_count, one.byte_count()) for one, _ in after] == [(one.flop_count, one.byte_count()) for one, _ in step]
    assert after.memory == step.memory


def test_effective_bits_of_groups() -> None:
    """AWQ and GPTQ: 4 bits in groups of 128 with a 16-bit scale and a 4-bit zero point take 4.15625 bits per weight."""
    step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    own = {"weights": symbols.q_w, "group": symbols.G, "scale": symbols.q_s, "zero": symbols.q_z}
    weight = next(iter(linears(step.apply(Quantize(**own)).symbolic, "up_proj"))).reads[1].tensor
    assert simplify(weight.stored_bits - (symbols.q_w + (symbols.q_s + symbols.q_z) / symbols.G)) == 0
    known = {symbols.q_w: 4, symbols.q_s: 16, symbols.q_z: 4, symbols.G: 128}
    assert weight.stored_bits.xreplace({letter: Integer(value) for letter, value in known.items()}) == Rational(415625, 100000)
    cache = step.apply(technique("quantize:kv=4,cache_group=32,zero=16"))["qk_matmul"].reads[1].tensor
    assert cache.stored_bits == 5
    assert cache.bits == 4


def test_two_groups_in_a_chain_keep_apart() -> None:
    step = numbers("llama-2-7b").apply(technique("quantize:weights=4,group=128"), technique("quantize:kv=4,cache_group=64"))
    assert step["up_proj"].reads[1].tensor.stored_bits == 4 + Rational(16, 128)
    assert step["qk_matmul"].reads[1].tensor.stored_bits == 4 + Rational(16, 64)
    once = numbers("llama-2-7b").apply(technique("quantize:weights=4,group=128,kv=4,cache_group=64"))
    assert [one.byte_count() for one, _ in once] == [one.byte_count() for one, _ in step]


ROOFS = {
    "quantize:weights=4": {"up_proj": "fp16", "qk_matmul": "fp16"},
    "quantize:weights=8,activations=8": {"up_proj": "int8", "qk_matmul": "fp16", "sv_matmul": "fp16"},
    "quantize:weights=8,activations=8,kv=8": {"up_proj": "int8", "qk_matmul": "fp16", "sv_matmul": "fp16", "softmax": "fp16"},
    "quantize:weights=8,activations=8,kv=8,scope=all": {"up_proj": "int8", "qk_matmul": "int8", "sv_matmul": "int8", "softmax": "fp16"},
    "quantize:activations=8,kv=8,scope=all": {"up_proj": "fp16", "qk_matmul": "int8"},
    "quantize:weights=4,activations=4,kv=4": {"up_proj": "int4", "qk_matmul": "fp16", "lm_head": "fp16"},
    "quantize:weights=4,activations=4,kv=4,scope=all": {"up_proj": "int4", "qk_matmul": "int4", "lm_head": "fp16"},
    "quantize:weights=8,activations=8,keep=up_proj": {"up_proj": "fp16", "down_proj": "int8"},
}


@pytest.mark.parametrize("name", ["llama-3-8b", "opt-125m", "qwen2-7b"])
@pytest.mark.parametrize("text", ROOFS)
def test_which_roof_applies(text: str, name: str) -> None:
    """All operands must be narrow, the cache for attention too; a bias is added to the wider sum, and does not count."""
    found = symroof.analyze(numbers(name).apply(technique(text)), DEVICE)
    assert {operator: found[operator].data_type for operator in ROOFS[text]} == ROOFS[text]


# inputs of linear operators: W8A8 as engines run it


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", [*MODELS, "gemma-2-2b", "olmo-2-1124-7b", "mamba-130m"])
def test_products_read_narrow_inputs_and_nothing_else_is_narrow(name: str, phase: str) -> None:
    """Every input is converted once, in 2 operations an element, from 16 bits to fewer; results and all others stay at 16."""
    step = numbers(name, phase)
    after = step.apply(technique("quantize:activations=6"))
    products = {one.name for one in linears(step.symbolic)}
    inputs = {
        read.tensor for one, _ in step.symbolic if one.name in products for read in one.reads if read.tensor.storage is Storage.ACTIVATION
    }
    new = {one.name: (one, count) for one, count in after.graph}
    for old, count in step.graph:
        one, again = new.pop(old.name)
        assert (one.flop_count, again) == (old.flop_count, count)
        read, written = (
            sum(access.byte_count for access in side if access.tensor.storage is Storage.ACTIVATION) for side in (old.reads, old.writes)
        )
        narrow = read * Rational(6, 16) if old.name in products else read
        assert one.byte_count(Storage.ACTIVATION) == narrow + written, old.name
        assert one.byte_count() - one.byte_count(Storage.ACTIVATION) == old.byte_count() - old.byte_count(Storage.ACTIVATION)
    assert all(one.endswith(".quantize") for one in new)
    assert len(new) == len(inputs)
    for one, _ in new.values():
        assert one.byte_count() == one.flop_count / 2 * Rational(16 + 6, 8)
    assert after.graph.weight_memory() == step.graph.weight_memory()


def test_what_several_write_is_converted_by_each_layer_that_multiplies_it() -> None:
    """OLMo 2 has no norm before its projections: each layer converts the residual stream it was handed."""
    after = numbers("olmo-2-1124-7b").apply(technique("quantize:weights=8,activations=8"))
    names = [one.name for block in after.graph.blocks if block.role is BlockRole.LAYER for one in block.operators]
    assert names[:2] == ["q_proj.quantize", "q_proj"]
    copy = after["q_proj.quantize"].result
    assert all(after[name].reads[0].tensor is copy for name in ("q_proj", "k_proj", "v_proj"))


def test_inputs_that_are_narrow_already_stay() -> None:
    step = numbers("llama-2-7b").apply(technique("quantize:weights=8,activations=8"))
    again = step.apply(technique("quantize:activations=8"))
    assert [(one.name, one.byte_count()) for one, _ in again.graph] == [(one.name, one.byte_count()) for one, _ in step.graph]
    eight = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, weight_bits=8, activation_bits=8, kv_bits=16)
    assert [one.name for one, _ in eight.apply(technique("quantize:activations=8"))] == [one.name for one, _ in eight]


def test_kept_products_read_what_they_read() -> None:
    step = numbers("llama-3-8b")
    kept = step.apply(technique("quantize:weights=8,activations=8,keep=up_proj"))
    assert kept["up_proj"].byte_count() == step["up_proj"].byte_count()
    assert kept["gate_proj"].byte_count() < step["gate_proj"].byte_count()
    some = step.apply(technique("quantize:weights=8,activations=8,keep_layers=5"))
    assert not [one.name for one, _ in some if ".kept" in one.name and "quantize" in one.name]
    assert all(some[f"{name}.kept"].byte_count() == step[name].byte_count() for name in ("q_proj", "up_proj", "down_proj"))


def test_engines_make_the_conversion_part_of_the_norm_and_of_the_activation() -> None:
    """The 16-bit value between them is no longer written and read: 4 bytes an element, of inputs behind a norm or SiLU."""
    step = numbers("llama-3-8b", phase="prefill", flash_attention=True)
    alone, fused = (step.apply(*chain([text])) for text in ("quantize:weights=8,activations=8", "fuse:preset=engine"))
    both = step.apply(*chain(["quantize:weights=8,activations=8", "fuse:preset=engine"]))
    assert [one.name for one, _ in both.graph if "quantize" in one.name] == [
        "attn_norm+attn_norm.quantize",
        "fused_attention.quantize",
        "attn_add+mlp_norm+mlp_norm.quantize",
        "gate_proj+up_proj+mlp_act+mlp_act.quantize",
    ]
    tokens = 32 * 3 * 64
    passes = sum(count * one.byte_count() for one, count in alone.graph if one.name.endswith(".quantize"))
    assert passes == tokens * 3 * (3 * 4096 + 14336)
    inputs = tokens * (3 * 4096 + 4096 + 2 * 4096 + 14336)  # of q, k and v; of out; of gate and up; of down: a byte less each
    weights = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    moved = [one.graph.byte_count() for one in (step, alone, fused, both)]
    assert moved[0] - moved[1] == weights + inputs - passes
    saved = tokens * (4 * (2 * 4096 + 14336) - 4096)  # an input that gate and up share has a byte less to save
    assert (moved[1] - moved[3]) - (moved[0] - moved[2]) == saved
    assert both["gate_proj+up_proj+mlp_act+mlp_act.quantize"].operand_bits == {8}
    assert symroof.analyze(both, "h100-sxm")["q_proj+q_rotary"].data_type == "fp8", "the table of the rotary embedding is no operand"


def test_kept_operators_and_layers() -> None:
    step = numbers("llama-3-8b")
    kept = step.apply(technique("quantize:weights=4,keep=k_proj+v_proj"))
    assert kept["k_proj"].byte_count() == step["k_proj"].byte_count()
    assert kept["q_proj"].byte_count() < step["q_proj"].byte_count()
    for count in (1, 5, 31):
        some = step.apply(technique(f"quantize:weights=4,kv=8,keep_layers={count}"))
        every = step.apply(technique("quantize:weights=4,kv=8"))
        for amount in ("flop_count", "byte_count", "weight_memory", "kv_memory"):
            of = [value if not callable(value) else value() for value in (getattr(one.graph, amount) for one in (step, some, every))]
            old, mixed, new = of
            assert mixed - new == (old - new) * Rational(count, 32), amount
        assert some.graph.activation_memory() == step.graph.activation_memory()
        assert some["up_proj.kept"].byte_count() == step["up_proj"].byte_count()
    two = numbers("deepseek-v2-lite").apply(technique("quantize:weights=4,keep_layers=3,kind=moe"))
    assert {block.name: block.count for block in two.graph.blocks}["moe"] == 23


def test_counted_dequantization_is_two_operations_per_weight_read() -> None:
    for name, share in (("llama-2-7b", 1), ("mixtral-8x7b-v0.1", Fraction(2, 8))):
        step = numbers(name, batch=1)
        after = step.apply(technique("quantize:weights=4,dequantize=counted"))
        operator = "up_proj" if share == 1 else "expert_up_proj"
        weight = after[operator].reads[1].tensor
        assert after[operator].flop_count - step[operator].flop_count == 2 * weight.elements * Rational(share)
        assert after[operator].contraction_flop_count == step[operator].contraction_flop_count
        assert after["softmax"].flop_count == step["softmax"].flop_count


@pytest.mark.parametrize("device", [DEVICE, "h100-sxm"])
@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-125m"])
def test_w4_gains_nothing_from_the_crossover_of_sixteen_bits_on(name: str, device: str) -> None:
    step = symroof.load_model(name).decode(seq_len=64, **SIXTEEN)
    four = technique("quantize:weights=4,group=64")
    found = payoff(step, step.apply(four), over="batch", hardware=device, operator="up_proj")
    assert found.edges_expr == (symroof.crossover(step, "up_proj", over="batch", hardware=device).value_expr,)
    assert [one.bound for one in found.intervals] == ["pays", "the same"]
    edge = int(found.edges_expr[0])
    for batch in (1, 2, 17, edge - 1, edge, edge + 1, edge + 2, 2 * edge):
        at = numbers(name, batch=batch)
        old, new = (symroof.analyze(one, device)["up_proj"].time_expr for one in (at, at.apply(four)))
        assert (new < old) == (batch < found.edges_expr[0])


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-125m"])
def test_where_a_narrow_cache_saves_more_than_narrow_weights(name: str) -> None:
    step = symroof.load_model(name).decode(**SIXTEEN)
    w4, kv4 = (step.apply(technique(text)) for text in ("quantize:weights=4,group=64", "quantize:kv=4"))
    even = break_even(w4, kv4, over="context_len").traffic_expr
    assert even is not None
    for batch in (1, 7, 64):
        value = even.xreplace(
            {**step.values, symbols.b: Integer(batch), symbols.G: Integer(64), symbols.q_w: Integer(4), symbols.q_c: Integer(4)}
        )
        assert value.is_number
        for context in {max(1, int(value) + near) for near in (-1, 0, 1, 2)}:
            at = numbers(name, batch=batch, seq_len=context)
            moved = [at.apply(technique(text)).graph.byte_count() for text in ("quantize:weights=4,group=64", "quantize:kv=4")]
            assert (moved[1] < moved[0]) == (context > value)


@pytest.mark.parametrize("name", ["llama-2-7b", "mixtral-8x7b-v0.1", "opt-125m"])
def test_w8a8_against_w4a16_by_batch(name: str) -> None:
    step = symroof.load_model(name).decode(seq_len=64, **SIXTEEN)
    w4, w8 = technique("quantize:weights=4"), technique("quantize:weights=8,activations=8,kv=8")
    part = "expert_up_proj" if name.startswith("mixtral") else "up_proj"
    found = payoff(step.apply(w8), step.apply(w4), over="batch", hardware=DEVICE, operator=part)
    assert [one.bound for one in found.intervals] == ["pays", "loses"]
    edge = int(found.edges_expr[0])
    for batch in (1, edge // 2, edge, edge + 1, 3 * edge):
        at = numbers(name, batch=batch)
        first, second = (symroof.analyze(at.apply(one), DEVICE)[part].time_expr for one in (w4, w8))
        assert (first < second) == (batch < found.edges_expr[0])


REFUSED = {
    "quantize:weights=8,scope=all": "scope concerns activations: give activations in bits",
    "quantize:weights=8,activations=8,scope=every": "scope 'every': known: linear, all",
    "quantize": "give weights, activations or kv in bits",
    "quantize:kv=4,group=32": "group, keep and dequantize=counted concern weights",
    "quantize:activations=8,keep=up_proj": "concern weights",
    "quantize:kv=4,dequantize=counted": "concern weights",
    "quantize:weights=4,cache_group=32": "cache_group concerns the KV cache",
    "quantize:weights=4,kind=layer": "give keep_layers",
    "quantize:weights=4,scale=8": "give group or cache_group",
    "quantize:weights=4,group=100": "group 100 does not divide the 4096 inputs of q_proj: 64 does, or keep=q_proj",
    "quantize:weights=4,keep=softmax": "'softmax' is not a linear operator of this step",
    "quantize:weights=4,keep_layers=32": "expected fewer than the 32 of layer",
    "quantize:weights=4,keep_layers=2,kind=dense": "'dense' is not a kind of layer of this model: known: layer",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text: str) -> None:
    with pytest.raises(InputError) as raised:
        numbers("llama-2-7b").apply(technique(text))
    assert REFUSED[text] in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ("fuse:preset=engine quantize:activations=8", "must come before fuse in a chain: it needs operators that are not fused yet"),
        ("fuse:operators=attn_add+mlp_norm quantize:weights=8,activations=8", "must come before fuse"),
        ("quantize:weights=8,activations=8 low-rank:rank=64", "low-rank: must come before quantize"),
        ("data-format:bits=4,peak=1PFLOP/s quantize:weights=4", "does not go with data-format"),
        ("quantize:weights=4 data-format:bits=4,peak=1PFLOP/s", "does not go with quantize"),
        ("quantize:activations=8 data-format:bits=4,peak=1PFLOP/s", "does not go with quantize"),
    ],
)
def test_what_gives_operands_another_width_stands_in_one_place(texts: str, why: str) -> None:
    with pytest.raises(InputError) as raised:
        numbers("llama-2-7b").apply(*chain([texts]))
    assert why in str(raised.value)


def test_what_has_no_part_in_inputs_goes_with_all() -> None:
    """A cache, weights alone behind a fusion, and every activation: none of them converts inputs."""
    for texts in (
        "data-format:bits=4,peak=1PFLOP/s quantize:kv=8",
        "quantize:kv=8 data-format:bits=4,peak=1PFLOP/s",
        "fuse:preset=engine quantize:weights=4",
        "fuse:preset=engine quantize:activations=8,scope=all",
        "fuse:preset=flash-attention quantize:weights=8,activations=8",
        "quantize:weights=4 low-rank:rank=64",
    ):
        assert len(numbers("llama-2-7b").apply(*chain([texts])).techniques) == 2


def test_tokens_are_sent_to_experts_as_narrow_as_they_are_multiplied() -> None:
    step = numbers("mixtral-8x7b-v0.1", batch=8)
    sent = [
        step.apply(*chain([texts]))["expert_gate_proj.all_to_all"].byte_count(level=Level.LINK)
        for texts in ("expert-parallel:degree=4", "quantize:weights=8,activations=8 expert-parallel:degree=4")
    ]
    assert sent[1] == sent[0] / 2
    with pytest.raises(InputError, match="quantize: must come before expert-parallel"):
        step.apply(*chain(["expert-parallel:degree=4 quantize:activations=8"]))


def test_layers_of_several_kinds_are_asked_for() -> None:
    with pytest.raises(InputError, match="choose with kind=, dense, moe"):
        numbers("deepseek-v2-lite").apply(technique("quantize:weights=4,keep_layers=1"))
    for text in ("quantize:kv=4", "quantize:weights=8,activations=8", "quantize:weights=4,keep_layers=1"):
        with pytest.raises(InputError, match="accounting 'llm-viewer' has its own peaks and cache"):
            numbers("llama-2-7b", accounting="llm-viewer").apply(technique(text))
    once = numbers("llama-2-7b").apply(technique("quantize:weights=4,keep_layers=2"))
    with pytest.raises(InputError, match="are split already"):
        once.apply(technique("quantize:kv=4,keep_layers=2"))


def test_fused_groups_are_quantized_alike() -> None:
    for name in ("llama-2-7b", "mixtral-8x7b-v0.1"):
        step = numbers(name)
        both = [technique("quantize:weights=4,group=128"), technique("fuse:preset=engine")]
        one, other = step.apply(*both).graph, step.apply(*both[::-1]).graph
        assert [(part.name, part.flop_count, part.byte_count()) for part, _ in one] == [
            (part.name, part.flop_count, part.byte_count()) for part, _ in other
        ]
        assert one.weight_memory() == other.weight_memory()


def test_layers_that_some_tokens_leave_out_are_not_kept_apart() -> None:
    with pytest.raises(InputError, match="apply keep_layers before layers are skipped"):
        numbers("llama-2-7b").apply(technique("early-exit:depth=1/2"), technique("quantize:weights=4,keep_layers=1"))


def test_text_comes_back() -> None:
    for text in ("quantize:weights=4", "quantize:weights=4,group=128", "quantize:kv=4,cache_group=32,zero=16", "quantize:weights"):
        assert technique(text).text == text
        assert technique(technique(text).text) == technique(text)


def test_every_matrix_of_a_layer_is_found() -> None:
    for name in MODELS:
        step = numbers(name)
        found = {one.name for one in linears(step.symbolic)}
        matmuls = {one.name for one, _ in step.symbolic if one.kind is Kind.MATMUL and one.byte_count(Storage.WEIGHT) != 0}
        assert {one.split(".")[-1] for one in matmuls - found} <= {"lm_head", "router"}
