"""Every family against its implementation in Transformers, and every model against what its publisher says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from sympy import Integer, Rational

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.families import MODEL_TYPES as KNOWN
from symroof.architectures.families import multimodal
from symroof.errors import ConfigError
from symroof.symbols import c, t, t_w
from tests.conftest import DATA, rows
from tests.steps import ENCODERS, sampled, step

RANDOM = [json.loads(line) for path in sorted(DATA.glob("transformers_*.jsonl")) for line in path.read_text().splitlines()]
MODEL_TYPES = tuple(dict.fromkeys(row["model_type"] for row in RANDOM))
INSIDE = {row["config"].get("text_config", {}).get("model_type") for row in RANDOM}
VISION = ("vit", "clip_vision_model", "siglip_vision_model")
CONVENTION: dict[str, Any] = {"batch": 2, "causal": False, "lm_head": "all", "mla": "decompressed"}
MIXERS = ("conv", "selective_scan", "head_scan", "delta_rule", "dt_proj", "head_x_proj", "head_dt_proj", "matrix_memory")
REFUSED = {
    "gpt2": "add_cross_attention is True",
    "gpt_bigcode": "add_cross_attention is True",
    "vit": "pooler_output_size is ",
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), "tie_word_embeddings is False; only True is understood"),
}
"""What is not understood is refused by name; every other config is counted."""


def load(config: dict[str, Any], folder: Path, part: str = "") -> symroof.Model:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return symroof.load_model(f"{path}{part}")


def loaded(config: dict[str, Any], folder: Path) -> tuple[symroof.Model | None, str]:
    """The model, or what was said in the place of it."""
    try:
        return load(config, folder), ""
    except symroof.SymroofError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_random_configs_against_transformers(model_type: str, tmp_path: Path) -> None:
    """Parameters exactly, and matmul FLOPs of prefill and decode exactly, wherever PyTorch counts them; as drawn, and as saved."""
    checked = 0
    kind = [(row, row[form]) for row in RANDOM for form in ("config", "saved") if row["model_type"] == model_type and form in row]
    drawn = sampled(kind, max(len(kind) // 12, 1))
    for row, config in drawn:
        model, refusal = loaded(config, tmp_path)
        if model is None:
            assert REFUSED[model_type] in refusal
            continue
        checked += 1
        assert model.unread == (), row["config"]
        if "text_parameters" in row:
            assert model.parameters == row["text_parameters"], row["config"]
        elif model_type in multimodal.FAMILIES:
            assert model.parameters < row["parameters"] or model_type == "mistral3"
        else:
            assert model.parameters == row["parameters"], row["config"]
        assert sum(model.parameters_per_part.values()) == model.parameters
        if model_type == "deepseek_v4":
            assert load(config | {"model_type": "deepseek_ref"}, tmp_path).architecture == model.architecture, "another name of the same"
        if model_type in VISION:
            step = model.prefill(batch=2, seq_len=model.architecture.max_positions)
            assert step.graph.contraction_flop_count == row["prefill_matmul_flops"], row["config"]
            continue
        for phase, length in (("prefill", 64), ("decode", 65)):
            if phase == "decode" and not model.architecture.decodes:
                continue
            graph = getattr(model, phase)(seq_len=length, **CONVENTION).graph
            if f"{phase}_matmul_flops" in row:
                assert graph.contraction_flop_count == row[f"{phase}_matmul_flops"], row["config"]
            if phase == "decode" and "kept_elements" in row:
                assert model.decode(batch=2, seq_len=64, kv_bits=8).graph.kv_memory() == row["kept_elements"], row["config"]
            if f"{phase}_flops_outside_mixers" in row:
                outside = sum(
                    count * operator.contraction_flop_count for operator, count in graph if operator.name.rsplit(".", 1)[-1] not in MIXERS
                )
                assert outside == row[f"{phase}_flops_outside_mixers"], row["config"]
    assert checked >= 8


KEPT = rows("cache_elements.csv")


@pytest.mark.parametrize("model_type", dict.fromkeys(row["model_type"] for row in KEPT))
def test_what_is_kept_of_a_prompt_against_transformers(model_type: str, tmp_path: Path) -> None:
    """Keys and values with and without windows, shared ones once, keys of an indexer, states: as many elements as in its cache."""
    paths = (DATA / f"transformers_{name}.jsonl" for name in ("decoders", "hybrids"))
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    configs = [line["config"] for line in lines if line["model_type"] == model_type]
    for row in KEPT:
        if row["model_type"] == model_type:
            step = load(configs[int(row["place"])], tmp_path).decode(batch=2, seq_len=64, kv_bits=8)
            assert step.graph.kv_memory() == int(row["elements"]), row


def test_the_weights_of_a_prompt_are_those_of_a_token() -> None:
    """Of a model of every family: nothing that is learned grows with the tokens."""
    by_family = {symroof.load_model(row["model"]).architecture.family: row["model"] for row in rows("catalogue_counts.csv")}
    for name in (name for family, name in by_family.items() if family not in ENCODERS):
        prompt, token = (step(name, phase, batch=2, seq_len=64).graph.weight_memory() for phase in ("prefill", "decode"))
        assert prompt == token, name


def test_every_family_is_compared() -> None:
    without = {"chatglm", "kimi_k2", "deepseek", "DiTTransformer2DModel", "Transformer2DModel", "RefinedWeb", "RefinedWebModel"}
    without |= {"deepseek_ref", "mimo", "exaone4_5_text", "internlm", "internlm2", "baichuan", "step3p7_text", "minimax_m3"}
    without |= {"bailing_moe", "bailing_moe_v2", "bailing_moe_linear"}  # no class of their own there
    assert set(KNOWN) - without <= {*MODEL_TYPES, *INSIDE}
    assert {"gemma3", "llava", "mistral3"} <= set(MODEL_TYPES)


@pytest.mark.parametrize("row", rows("catalogue_counts.csv"), ids=lambda row: row["model"])
def test_published_sizes(row: dict[str, str]) -> None:
    """The count of the implementation, to the parameter."""
    model, total = symroof.load_model(row["model"]), int(row["parameters"])
    kind = json.loads(Path(model.origin).read_text())["model_type"]
    if kind not in multimodal.FAMILIES:
        assert model.parameters == total
    elif kind in PROJECTORS:
        vision = symroof.load_model(f"{row['model']}@vision")
        assert model.parameters + vision.parameters + projector(kind, model, vision) == total
    elif row["model"] in WITH_ENCODERS:
        assert model.parameters < total
    else:
        assert model.parameters == total


PROJECTORS = ("gemma3", "llava")
WITH_ENCODERS = ("mistral-small-3.1-24b-instruct-2503", "clip-vit-large-patch14", "siglip-so400m-patch14-384")
"""Nested configs whose count holds all parts; of the others it is that of the text decoder."""


def projector(kind: str, text: symroof.Model, vision: symroof.Model) -> int:
    """Parameters between the parts: a matrix and a norm (Gemma 3), or two linear layers with biases (LLaVA)."""
    d = next(symbol for symbol in text.dimensions if str(symbol) == "d")
    inside, outside = int(vision.dimensions[d]), int(text.dimensions[d])
    return inside * outside + inside if kind == "gemma3" else inside * outside + outside + outside * outside + outside


@pytest.mark.parametrize("row", rows("active_counts.csv"), ids=lambda row: row["model"])
def test_active_parameters_as_published(row: dict[str, str]) -> None:
    """Within the printed digits, counted as the publisher counts."""
    model = symroof.load_model(row["model"])
    head = model.parameters_per_part["lm_head"] if row["counted"].endswith("head") else 0
    found = model.active_parameters if row["counted"] == "all" else model.active_parameters_without_embedding - head
    digits = len(row["published"].partition("e")[0].replace(".", ""))
    printed = float(row["published"])
    unit = 10 ** (math.floor(math.log10(printed)) - digits + 1)
    low = printed if row["digits"] == "cut" else printed - unit / 2
    assert low <= found < low + unit


def test_a_dense_model_is_active_as_a_whole() -> None:
    model = symroof.load_model("llama-2-7b")
    assert model.active_parameters == model.parameters
    assert model.active_parameters_without_embedding == model.parameters - 32000 * 4096
    tied = symroof.load_model("gpt2")
    assert tied.active_parameters_without_embedding == tied.parameters


def at_16_bits(value: Any) -> int:
    return int(value.xreplace({c: Integer(16)}))


@pytest.mark.parametrize(
    ("name", "growth"),
    # bytes per token at 16 bits: 2 x layers x KV heads x head dimension x 2; latent attention keeps 512 + 64 per layer
    [
        ("llama-3-8b", 131072),
        ("llama-2-7b", 524288),
        ("deepseek-v3", 70272),
        ("deepseek-v2", 69120),
        ("qwen3-30b-a3b", 98304),
        ("falcon-7b", 8192),
        ("jamba-v0.1", 16384),
        ("qwen3-next-80b-a3b-instruct", 24576),
        ("mamba-2.8b", 0),
        ("mamba2-2.7b", 0),
    ],
)
def test_cache_per_token(name: str, growth: int) -> None:
    cache = symroof.load_model(name).cache
    assert at_16_bits(cache.growth) == at_16_bits(cache.beyond) == growth
    assert cache.window == 0


@pytest.mark.parametrize(
    ("name", "layers", "full", "per_layer", "window"),
    [
        ("gemma-3-27b-pt", 62, 10, 8192, 1024),
        ("gpt-oss-120b", 36, 18, 2048, 128),
        ("gpt-oss-20b", 24, 12, 2048, 128),
        ("gemma-2-9b", 42, 21, 8192, 4096),
    ],
)
def test_cache_with_windows(name: str, layers: int, full: int, per_layer: int, window: int) -> None:
    """All layers grow up to the window, the full ones alone beyond it; at any context the sum is what it should be."""
    model = symroof.load_model(name)
    assert (model.layers, at_16_bits(model.cache.growth), at_16_bits(model.cache.beyond)) == (layers, layers * per_layer, full * per_layer)
    for context in (1, window - 1, window, window + 1, 131072):
        kept = model.cache.bytes.xreplace({t: Integer(context), t_w: Integer(min(context, window))})
        assert at_16_bits(kept) == per_layer * (full * context + (layers - full) * min(context, window))
        step = model.decode(batch=3, seq_len=context, weight_bits=16, activation_bits=16, kv_bits=16)
        assert step.graph.kv_memory() == 3 * at_16_bits(kept)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("mamba-2.8b", 64 * 5120 * (16 + 4) * 2),  # layers x channels x (states + taps) x 2 bytes
        ("mamba2-2.7b", 64 * (80 * 64 * 128 + (5120 + 2 * 128) * 4) * 2),
        ("jamba-v0.1", 28 * 8192 * (16 + 4) * 2),
        ("qwen3-next-80b-a3b-instruct", 36 * (32 * 128 * 128 + (2 * 16 * 128 + 32 * 128) * 4) * 2),
    ],
)
def test_recurrent_state_is_constant(name: str, state: int) -> None:
    assert at_16_bits(symroof.load_model(name).cache.state) == state


def test_the_two_forms_of_latent_attention_keep_the_same() -> None:
    model = symroof.load_model("deepseek-v2-lite")
    forms = [model.decode(batch=2, seq_len=300, kv_bits=16, mla=form) for form in ("absorbed", "decompressed", "auto")]
    assert len({step.graph.kv_memory() for step in forms}) == 1
    assert len({step.symbolic.bind(dict(step.values)).parameter_count() for step in forms}) == 1
    assert forms[0].graph.flop_count == forms[2].graph.flop_count < forms[1].graph.flop_count
    prompts = [model.prefill(batch=2, seq_len=300, mla=form).graph.flop_count for form in ("absorbed", "decompressed", "auto")]
    assert prompts[1] == prompts[2] < prompts[0]


def test_quantized_weights_are_as_wide_as_the_config_says() -> None:
    """GPT-OSS: the experts at 4 bits, attention, router, embedding and head at 16."""
    model = symroof.load_model("gpt-oss-20b")
    step = model.decode(batch=1, seq_len=1, weight_bits=model.weight_bits, activation_bits=16, kv_bits=16)
    widths: dict[str, set[int]] = {}
    for operator, _ in step:
        widths[operator.name] = {int(access.tensor.bits) for access in operator.reads if access.tensor.storage == "weight"}
    assert model.weight_bits == 4
    assert widths["full.expert_up_proj"] == widths["sliding.expert_down_proj"] == {4, 16}  # the biases are not quantized
    assert widths["full.q_proj"] == widths["full.router"] == widths["lm_head"] == widths["embedding"] == widths["final_norm"] == {16}
    plain = symroof.load_model("qwen2.5-7b-instruct-awq"), symroof.load_model("qwen2.5-7b")
    assert [model.weight_bits for model in plain] == [4, 16]
    assert plain[0].parameters == plain[1].parameters
    assert any("awq, 4 bits" in line for line in plain[0].decode().statements)


@pytest.mark.parametrize(
    ("name", "operator", "flops"),
    # per element of the result: what a counter of contractions does not see
    [
        ("granite-3.1-2b-base", "attn_add", 2),  # x + m y
        ("llama-3-8b", "attn_add", 1),
        ("granite-3.1-2b-base", "embedding_scale", 1),
        ("granite-3.1-2b-base", "logits_scale", 1),
        ("gemma-2-9b", "logits_softcap", 3),
        ("gemma-2-9b", "full.scores_softcap", 3),
        ("bloom-7b1", "softmax", 6),  # ALiBi adds its bias
        ("bloom-7b1", "embedding_norm", 7),
        ("gemma-3n-e4b", "sliding_sparse.mlp_cutoff", 6),  # mean, deviation, cutoff
        ("gemma-3n-e4b", "full_dense.altup_correct", 2),  # a product and a sum for every stream
        ("qwen3-next-80b-a3b-instruct", "full.attn_gate", 5),  # a sigmoid and a product
        ("c4ai-command-r7b-12-2024", "sliding.attn_norm", 6),  # mean, subtract, square, sum, scale, and a weight without bias
    ],
)
def test_work_that_is_no_contraction(name: str, operator: str, flops: int) -> None:
    found = symroof.load_model(name).decode(batch=2, seq_len=10)[operator]
    assert found.flop_count == flops * found.result.elements
    assert found.contraction_flop_count == 0


QUANTIZED: dict[str, tuple[dict[str, Any], int, set[str], str]] = {
    # the config, its width, the operators left at 16 bits, and what is said
    "single layers": (
        {"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["model.layers.0.mlp.down_proj"]},
        4,
        set(),
        "their mean size per weight",
    ),
    "all layers": (
        {"quant_method": "fbgemm_fp8", "modules_to_not_convert": [f"model.layers.{layer}.self_attn.o_proj" for layer in range(32)]},
        8,
        {"out_proj"},
        "self_attn.o_proj",
    ),
    "a pattern": (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"0": {"weights": {"num_bits": 8}}},
            "ignore": ["re:.*self_attn.*", "lm_head"],
        },
        8,
        {"q_proj", "k_proj", "v_proj", "out_proj"},
        "re:.*self_attn.*",
    ),
    "norms alone": ({"quant_method": "fp8", "ignore": ["model.layers.3.self_attn.q_norm", "mlp.shared_expert_gate"]}, 8, set(), "LM head"),
    "bitsandbytes": ({"load_in_4bit": True, "llm_int8_skip_modules": ["lm_head", "up_proj"]}, 4, {"up_proj"}, "up_proj"),
    "unknown": ({"quant_method": "fp8", "ignore": ["some.other_thing"]}, 8, set(), "some.other_thing"),
    "cache and activations": (
        {
            "quant_method": "compressed-tensors",
            "kv_cache_scheme": {"num_bits": 8},
            "config_groups": {"0": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}},
        },
        8,
        set(),
        "the config keeps the KV cache at 8 bits",
    ),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, 4, set(), "modelopt, 4 bits"),
}


@pytest.mark.parametrize("case", QUANTIZED)
def test_what_a_quantized_checkpoint_leaves(tmp_path: Path, case: str) -> None:
    inner, bits, left, told = QUANTIZED[case]
    config = json.loads(catalogue()["llama-3-8b"].read_text())
    model = load(config | {"quantization_config": inner}, tmp_path)
    assert (model.weight_bits, model.unread) == (bits, ())
    assert any(told in line for line in model.decode().statements)
    wide = {operator.name for operator, _ in model.decode() for access in operator.reads if access.tensor.bits == 16}
    linear = {"q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj"}
    assert wide & linear == left
    assert wide - linear == {"embedding", "attn_norm", "mlp_norm", "final_norm", "lm_head"}


def groups(**scheme: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}}}


MODELOPT = {"quant_method": "modelopt"}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized", "ignore": ["lm_head"]}
STORED: dict[str, tuple[dict[str, Any], Rational]] = {
    # configs as published checkpoints have them, and bits of a weight with its share of the scales
    "AWQ": ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 4 + Rational(16 + 4, 128)),
    "AWQ without zero points": ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": False}, 4 + Rational(16, 64)),
    "AWQ that says nothing of zero points": ({"quant_method": "awq", "bits": 4, "group_size": 128}, 4 + Rational(16 + 4, 128)),
    "GPTQ, which stores them always": ({"quant_method": "gptq", "bits": 4, "group_size": 128}, 4 + Rational(16 + 4, 128)),
    "GPTQ as Marlin has it": ({"quant_method": "gptq", "bits": 4, "group_size": 128, "checkpoint_format": "marlin"}, 4 + Rational(16, 128)),
    "AWQ of modelopt": ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, 4 + Rational(16, 128)),
    "GPTQ, symmetric": ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 4 + Rational(16 + 4, 128)),
    "GPTQ of 3 bits": ({"quant_method": "gptq", "bits": 3, "group_size": 32, "sym": False}, 3 + Rational(16 + 3, 32)),
    "GPTQ by rows": ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, Rational(8)),
    "MXFP4": ({"quant_method": "mxfp4"}, Rational(17, 4)),
    "NVFP4": ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, Rational(9, 2)),
    "NVFP4 in groups": ({**MODELOPT, "quant_algo": "NVFP4", **groups(num_bits=4, type="float", group_size=16)}, Rational(9, 2)),
    "FP8 of modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8", **groups(num_bits=8, type="float")}, Rational(8)),
    "FP8 in blocks": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 8 + Rational(32, 128**2)),
    "FP8 by tensors": ({"quant_method": "fp8", "activation_scheme": "static"}, Rational(8)),
    "INT4 packed": ({**PACKED, **groups(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True)}, Rational(9, 2)),
    "INT4 with zeros": (
        {**PACKED, **groups(num_bits=4, type="int", strategy="group", group_size=128, symmetric=False)},
        4 + Rational(16 + 4, 128),
    ),
    "MXFP4 packed": (
        {**PACKED, **groups(num_bits=4, type="float", strategy="group", group_size=32, scale_dtype="torch.uint8")},
        Rational(17, 4),
    ),
    "NVFP4 packed": ({**PACKED, **groups(num_bits=4, type="float", strategy="tensor_group", group_size=16)}, Rational(9, 2)),
    "INT8 by channels": ({**PACKED, **groups(num_bits=8, type="int", strategy="channel", symmetric=True)}, Rational(8)),
    "FP8 in packed blocks": (
        {**PACKED, **groups(num_bits=8, type="float", strategy="block", block_structure=[128, 128], scale_dtype="torch.float32")},
        8 + Rational(32, 128**2),
    ),
    "NF4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Rational(9, 2)),
    "NF4, scales quantized": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
        4 + Rational(8, 64) + Rational(32, 64 * 256),
    ),
    "a group of nonsense": ({**PACKED, **groups(num_bits=4, type="int", strategy="group", group_size="many")}, Rational(4)),
}


@pytest.mark.parametrize("case", STORED)
def test_scales_of_groups_are_moved_and_kept(tmp_path: Path, case: str) -> None:
    """Every linear weight of a layer takes them along, in memory and in traffic; its width, which decides the peak, stays."""
    inner, stored = STORED[case]
    config = json.loads(catalogue()["llama-3-8b"].read_text())
    model = load(config | {"quantization_config": inner}, tmp_path)
    linear = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    step = model.decode(batch=1, seq_len=64).with_widths()
    assert step.graph.weight_memory() == linear * stored / 8 + 2 * (model.parameters - linear)
    assert step["up_proj"].byte_count("weight") == 4096 * 14336 * stored / 8
    assert model.quantization is not None
    assert model.quantization.stored_bits == stored
    assert {access.tensor.bits for access in step["up_proj"].reads if access.tensor.storage == "weight"} == {model.weight_bits}
    wide = model.decode(batch=1, seq_len=64, weight_bits=16).with_widths()
    assert wide.graph.weight_memory() == 2 * model.parameters, "another width has no published scales"
    assert any("per-row and per-tensor scales" in line for line in step.statements) == (stored == model.weight_bits)


def test_a_group_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    config = json.loads(catalogue()["llama-3-8b"].read_text())
    with pytest.raises(ConfigError, match="group_size is 'many'; expected a whole number from 1 to 1e12"):
        load(config | {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": "many"}}, tmp_path)


def test_checkpoints_are_as_large_as_their_model_cards_say() -> None:
    """OpenAI (2025), gpt-oss model card, arXiv:2508.10925, table 1: 60.8 and 12.8 GiB."""
    for name, gibibytes in (("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)):
        assert round(int(symroof.load_model(name).decode(batch=1, seq_len=1).with_widths().graph.weight_memory()) / 2**30, 1) == gibibytes


def test_a_vision_encoder_is_left_alone_where_the_list_names_it(tmp_path: Path) -> None:
    config = json.loads(catalogue()["gemma-3-4b-pt"].read_text())
    config["quantization_config"] = {"quant_method": "fp8", "ignore": ["vision_tower.layers.0.self_attn.k_proj", "lm_head"]}
    text, vision = load(config, tmp_path), load(config, tmp_path, "@vision")
    assert (text.weight_bits, vision.weight_bits) == (8, 16)
    assert text.unread == vision.unread == ()
    assert all(operator.reads[1].tensor.bits == symroof.symbols.w for operator, _ in text.decode() if operator.role == "projection")
