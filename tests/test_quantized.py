"""Quantized checkpoints: their weight bytes against published sizes, and the format of every module."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sympy import Integer, Rational

import symroof
from symroof.architectures.config import catalogue, variants
from symroof.architectures.families import MODEL_TYPES, multimodal
from symroof.architectures.quantization.modules import PATHS, Modules
from symroof.operators import BlockRole, Role
from symroof.symbols import w
from tests.conftest import DATA, Run

ROWS = list(csv.DictReader((DATA / "quantized_checkpoints.csv").read_text().splitlines()))
CONFIGS = {line["name"]: line for line in map(json.loads, (DATA / "quantized_configs.jsonl").read_text().splitlines())}
LLAMA = json.loads(catalogue()["llama-3-8b"].read_text())
LINEAR = {"q_proj": 4096**2, "k_proj": 4096 * 1024, "v_proj": 4096 * 1024, "out_proj": 4096**2}
LINEAR |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), 4096 * 14336)


def load(folder: Path, config: dict[str, Any], beside: object = None) -> symroof.Model:
    (folder / "config.json").write_text(json.dumps(config))
    if beside is not None:
        (folder / "hf_quant_config.json").write_text(json.dumps(beside))
    return symroof.load_model(folder)


def weight_bytes(model: symroof.Model, **inputs: Any) -> Rational:
    return model.decode(batch=1, seq_len=1, **inputs).with_widths().graph.weight_memory()


@pytest.mark.parametrize("row", ROWS, ids=[row["checkpoint"] for row in ROWS])
def test_weight_bytes_are_the_published_checkpoint_s(tmp_path: Path, row: dict[str, str]) -> None:
    """Within 1 % of its files, its index or its card: the source stands in the row."""
    changes, quantization = (json.loads(row[name] or "{}") for name in ("changes", "quantization"))
    beside = quantization.pop("hf_quant_config", None)
    model = load(tmp_path, json.loads(catalogue()[row["base"]].read_text()) | changes | quantization, beside)
    assert model.unread == ()
    assert model.weight_bits < 16
    assert float(weight_bytes(model)) + int(row["beside"]) == pytest.approx(int(row["bytes"]), rel=0.01)


def test_all_methods_are_among_the_published_checkpoints() -> None:
    assert len(ROWS) >= 25
    text = (DATA / "quantized_checkpoints.csv").read_text()
    for method in ("gptq", "awq", "mxfp4", "bitsandbytes", "compressed-tensors", "fp8", "hf_quant_config", "mlx", "pack-quantized"):
        assert method in text, method
    assert {row["stated"] for row in ROWS} == {"index", "file size", "listing", "card"}
    assert all(row["source"] for row in ROWS)


READ: dict[str, tuple[int, int | None, str]] = {
    # bits of most weights and of the cache, and what is said
    "llama-3-8b-mlx-4bit": (4, None, "quantization_config (MLX, 4 bits)"),
    "llama-3-8b-modelopt-nvfp4": (4, 8, "8 bits of scale for every 16"),
    "qwen3-235b-nvfp4-with-hf_quant_config": (4, 8, "hf_quant_config.json (modelopt, 4 bits)"),
    "qwen3-32b-fp8-modelopt-without-quant_method": (8, 8, "quantization_config (modelopt, 8 bits)"),
    "Qwen--Qwen3-32B-FP8-Static-PerTensor": (8, 8, "per-row and per-tensor scales not counted"),
    "Qwen--Qwen3-32B-FP8": (8, None, "32 bits of scale for every 16384"),
    "openai--gpt-oss-20b": (4, None, "8 bits of scale for every 32"),
    "deepseek-ai--DeepSeek-V3.2": (8, None, "32 bits of scale for every 16384"),
    "nvidia--Qwen3.6-35B-A3B-NVFP4": (4, None, "8 bits for model.language_model.layers.0.linear_attn.out_proj"),
    "zai-org--GLM-5.1-FP8": (8, None, "32 bits of scale for every 16384"),
    "MiniMaxAI--MiniMax-M2.5": (8, None, "32 bits of scale for every 16384"),
    "nvidia--MiniMax-M2.5-NVFP4": (4, 8, "8 bits of scale for every 16"),
    "nvidia--Gemma-4-26B-A4B-NVFP4": (4, 8, "8 bits of scale for every 16"),
    "moonshotai--Kimi-K2.5": (4, None, "16 bits of scale for every 32"),
    "moonshotai--Kimi-K3": (4, None, "8 bits of scale for every 32"),
    "deepseek-ai--DeepSeek-V4-Flash": (4, None, "8 bits and 32 bits of scale for every 16384 for the linear weights that are not named"),
    "sgl-project--DeepSeek-V4-Flash-FP8": (8, None, "32 bits of scale for every 16384"),
}


def refusal(folder: Path, line: dict[str, Any]) -> str:
    try:
        load(folder, line["config"], line.get("hf_quant_config"))
    except symroof.SymroofError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("name", "experts"), [("deepseek-v4-flash", Rational(17, 4)), ("deepseek-v4-flash-nvfp4", Rational(9, 2)), ("deepseek-v4-flash-fp8", 8)]
)
def test_experts_in_a_format_of_their_own(name: str, experts: Rational) -> None:
    """The rest stays in blocks of FP8, also where modelopt lists it as left out when it quantized the experts again."""
    step = symroof.load_model(name).decode(batch=1, seq_len=1).with_widths()
    stored = {operator.name: access.tensor.stored_bits for operator, _ in step for access in operator.reads if access.tensor.parameter}
    blocks = 8 + Rational(32, 128**2)
    assert stored["heavy.q_proj"] == stored["sliding.shared_up_proj"] == blocks
    assert stored["compressed.expert_down_proj"] == (blocks if experts == 8 else experts)
    assert stored["lm_head"] == 16


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_config_is_read_or_refused_by_name(tmp_path: Path, name: str) -> None:
    """Never silently at 16 bits: either the widths that it states, or one line that names what is not known."""
    line = CONFIGS[name]
    kind = line["config"]["model_type"]
    inner = line["config"].get("text_config", {}).get("model_type", kind)
    refused = refusal(tmp_path, line)
    if refused:
        unknown = f"'{inner if kind in multimodal.FAMILIES else kind}' is not a family known here"
        known = {*MODEL_TYPES, *multimodal.FAMILIES} >= {kind, inner}
        assert any(field in refused for field in line["config"]) if known else unknown in refused
        return
    model = load(tmp_path, line["config"], line.get("hf_quant_config"))
    if name in READ:
        bits, cache, said = READ[name]
        assert (model.weight_bits, model.published.get("kv_bits")) == (bits, cache)
        assert any(said in note for note in model.notes), model.notes
    else:
        assert model.quantization is None
    assert not any("not understood" in note for note in model.notes), model.notes


def formats(model: symroof.Model) -> dict[str, Rational]:
    """Bits per weight that each operator's matrix takes, as published."""
    step = model.decode(symbolic=True)
    read = ((operator, access.tensor) for operator, _ in step.symbolic for access in operator.reads)
    sizes = {operator.name: tensor.stored_bits for operator, tensor in read if tensor.parameter in ("matrix", "router", "head", "table")}
    return {name: bits.subs(w, model.weight_bits) for name, bits in sizes.items()}


def test_every_module_has_its_own_format(tmp_path: Path) -> None:
    """modelopt's mixed precision: experts and LM head in NVFP4, attention and the delta layers' matrices in FP8, the rest at 16 bits."""
    bits = formats(load(tmp_path, CONFIGS["nvidia--Qwen3.6-35B-A3B-NVFP4"]["config"]))
    narrow, wide = Rational(9, 2), Integer(16)
    assert {
        bits[f"{kind}.{whose}_{which}_proj"] for kind in ("linear", "full") for whose in ("expert", "shared") for which in ("up", "down")
    } == {narrow}
    assert bits["lm_head"] == narrow
    assert {bits[f"full.{name}"] for name in ("q_proj", "q_gate_proj", "k_proj", "v_proj", "out_proj")} == {8}
    assert {bits["linear.in_proj"], bits["linear.out_proj"]} == {8}
    assert {bits["linear.gates_proj"], bits["full.router"], bits["full.shared_router"], bits["embedding"]} == {wide}


def test_single_layers_count_at_their_mean(tmp_path: Path) -> None:
    """Two of 32 layers at 16 bits, one at 8, the others at 4 and their scales."""
    inner = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "extra_config": {}}
    inner["extra_config"] |= {f"model.layers.{layer}.mlp.down_proj": {"bits": 16} for layer in (0, 31)}
    inner["extra_config"] |= {"model.layers.7.mlp.down_proj": {"bits": 8, "group_size": 32}}
    model = load(tmp_path, LLAMA | {"quantization_config": inner})
    stored = 4 + Rational(16 + 4, 128)
    linear = 32 * (sum(LINEAR.values()) - LINEAR["down_proj"]) * stored
    own = LINEAR["down_proj"] * (29 * stored + 2 * 16 + 8 + Rational(16 + 8, 32))
    rest = model.parameters - 32 * sum(LINEAR.values())
    assert weight_bytes(model) == (linear + own) / 8 + 2 * rest
    assert (
        weight_bytes(model, weight_bits=3) == (linear / stored * 3 + LINEAR["down_proj"] * (29 * 3 + 40 + Rational(24, 32))) / 8 + 2 * rest
    )
    assert any("their mean size per weight" in note for note in model.notes)
    assert {access.tensor.bits for access in model.decode()["down_proj"].reads if access.tensor.parameter} == {w}


def test_single_experts_count_at_their_mean(tmp_path: Path) -> None:
    config = json.loads(catalogue()["mixtral-8x7b-v0.1"].read_text())
    kept = [f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w2" for layer in range(32) for expert in (1, 5)]
    bits = formats(load(tmp_path, config | {"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": kept}}))
    assert bits["expert_down_proj"] == Rational(6, 8) * 8 + Rational(2, 8) * 16
    assert bits["expert_up_proj"] == 8
    named = [f"model.layers.{layer}.block_sparse_moe.experts.{expert}.w1" for layer in range(16) for expert in range(8)]
    mixed = {"quant_algo": "MIXED_PRECISION", "quantized_layers": {name: {"quant_algo": "NVFP4"} for name in named}}
    model = load(tmp_path, config, {"producer": {"name": "modelopt"}, "quantization": mixed})
    assert formats(model)["expert_gate_proj"] == Rational(1, 2) * Rational(9, 2) + Rational(1, 2) * 16
    assert formats(model)["expert_up_proj"] == 16


ATTENTION, MLP = ("k_proj", "out_proj", "q_proj", "v_proj"), ("down_proj", "gate_proj", "up_proj")
NAMES: dict[str, tuple[tuple[str, ...], Fraction] | None] = {
    # what a name means in Llama, and in which share of 32 layers
    "model.layers.*.self_attn": (ATTENTION, Fraction(1)),
    "re:.*self_attn.*": (ATTENTION, Fraction(1)),
    "*self_attn*": (ATTENTION, Fraction(1)),
    "model.layers.3.self_attn*": (ATTENTION, Fraction(1, 32)),
    "language_model.model.layers.3.mlp": (MLP, Fraction(1, 32)),
    r"re:.*mlp\.(gate|up|gate_up|down)_proj.*": (MLP, Fraction(1)),
    r"re:model\.layers\.(0|1|2)\.mlp\.down_proj$": (("down_proj",), Fraction(3, 32)),
    r"re:.*layers\.[0-7]\..*down_proj": (("down_proj",), Fraction(8, 32)),
    r"re:^model\.layers\.\d+\.mlp\.up_proj$": (("up_proj",), Fraction(1)),
    r"re:model\.layers\.0\.mlp\.down": (("down_proj",), Fraction(1, 32)),  # a regular expression goes on
    r"re:model\.layers\.0\.mlp\.down$": None,
    r"re:.*\.18\..*gate.*": (("gate_proj",), Fraction(1, 32)),
    "model.layers.2*": (ATTENTION + MLP, Fraction(11, 32)),  # 2 and 20 to 29: modelopt and vLLM match names with fnmatch
    "model.layers.9*": (ATTENTION + MLP, Fraction(1, 32)),
    "model.layers.32*": ((), Fraction(0)),
    "model.layers.4": (ATTENTION + MLP, Fraction(1, 32)),
    "model.layers.77.mlp": ((), Fraction(0)),
    "gate": ((), Fraction(0)),
    "qkv_proj": (("k_proj", "q_proj", "v_proj"), Fraction(1)),
    "transformer.h.0.attn.c_proj": (("out_proj",), Fraction(1, 32)),
    "lm_head": ((), Fraction(0)),
    "model.norm": ((), Fraction(0)),
    "vision_tower.encoder.layers.0.self_attn.q_proj": ((), Fraction(0)),
    "mtp.layers.0*": ((), Fraction(0)),
    "re:(a+)+$": None,
    r"re:.*(?=proj)": None,
    "some.other_thing": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_name_means(tmp_path: Path, name: str) -> None:
    expected = NAMES[name]
    config = LLAMA | {"quantization_config": {"quant_method": "fp8", "ignore": [name]}}
    model = load(tmp_path, config)
    told = any("not understood" in note and name[:20] in note for note in model.notes)
    if not expected:
        assert told
        return
    operators, share = expected
    assert not told
    wide = {operator: (bits - 8) / 8 for operator, bits in formats(model).items() if operator not in ("lm_head", "embedding") and bits != 8}
    assert wide == dict.fromkeys(operators, Rational(share.numerator, share.denominator))


def test_names_in_compressed_tensors_are_those_of_matrices(tmp_path: Path) -> None:
    """There a module that contains others is no linear layer itself: its name leaves nothing out."""
    groups = {"config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 8}}}, "quant_method": "compressed-tensors"}
    kept = ["model.layers.0.self_attn", "model.layers.0.self_attn.q_proj"]
    bits = formats(load(tmp_path, LLAMA | {"quantization_config": {**groups, "ignore": kept}}))
    assert (bits["q_proj"], bits["k_proj"], bits["lm_head"]) == (8 + Rational(8, 32), 8, 8), "and what is not ignored is quantized"


@pytest.mark.parametrize(
    ("inner", "named"),
    [
        ({"quant_method": "torchao", "quant_type": {}}, "quantization_config ('torchao')"),
        ({"quant_method": "modelopt", "quant_algo": "FP3"}, "quantization_config ('modelopt')"),
        ({"group": 64}, "quantization_config (None)"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*up.*": {"bits": "many"}}}, "quantization_config ('gptq')"),
        ({"bits": 4, "group_size": 64, "mode": "wavelet"}, "quantization_config (None)"),
    ],
)
def test_a_quantization_that_is_not_understood_is_named(tmp_path: Path, inner: dict[str, Any], named: str) -> None:
    model = load(tmp_path, LLAMA | {"quantization_config": inner})
    assert model.notes == (f"{named} is not understood: every weight is counted at w bits, 16 unless weight_bits is given",)
    assert model.notes[0] in model.decode().statements
    assert model.weight_bits == 16


def test_the_file_beside_is_found_however_the_model_is_named(tmp_path: Path) -> None:
    line = CONFIGS["qwen3-235b-nvfp4-with-hf_quant_config"]
    folder = load(tmp_path, line["config"], line["hf_quant_config"])
    assert symroof.load_model(tmp_path / "config.json").quantization == folder.quantization is not None
    (tmp_path / "copy.json").write_text(json.dumps(line["config"]))
    assert symroof.load_model(tmp_path / "copy.json").quantization is None, "it belongs to config.json"
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(symroof.SymroofError, match=r"hf_quant_config.json' is not JSON"):
        symroof.load_model(tmp_path)


def test_what_the_config_says_goes_before_the_file_beside(tmp_path: Path) -> None:
    beside = {"quantization": {"quant_algo": "FP8"}}
    assert load(tmp_path, LLAMA | {"quantization_config": {"quant_method": "mxfp4"}}, beside).weight_bits == 4
    assert load(tmp_path, LLAMA | {"quantization_config": {"quant_method": "torchao"}}, beside).weight_bits == 8


def test_the_stated_width_of_the_cache_is_the_default(tmp_path: Path, run: Callable[..., Run]) -> None:
    model = load(tmp_path, CONFIGS["llama-3-8b-modelopt-nvfp4"]["config"])
    step = model.decode(batch=1, seq_len=1000).with_widths()
    assert (step.options.weight_bits, step.options.activation_bits, step.options.kv_bits) == (4, 16, 8)
    assert model.decode(kv_bits=16).with_widths().options.kv_bits == 16
    assert step.graph.kv_memory() == 1000 * 2 * 32 * 1024
    assert "KV cache per token at 8 bits" in run("describe", str(tmp_path)).out


def test_states_of_recurrent_layers_do_not_follow_the_cache(tmp_path: Path) -> None:
    config = json.loads(catalogue()["nvidia-nemotron-nano-9b-v2"].read_text())
    model = load(tmp_path, config, {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}})
    assert model.published == {"weight_bits": 8}
    assert any("give kv_bits for both" in note for note in model.notes)


def test_every_matrix_of_a_layer_has_a_name_in_checkpoints() -> None:
    """Of every decoder of the catalogue: a matrix without a path could not be found in any list."""
    nameless = set()
    for name in catalogue():
        model = symroof.load_model(name)
        for block in model.decode(symbolic=True).symbolic.blocks if model.architecture.generative else ():
            attends = any(operator.role is Role.SCORES for operator in block.operators)
            for operator in block.operators:
                plain = operator.name.removeprefix(operator.prefix)
                plain = "mixer_out_proj" if plain == "out_proj" and not attends else plain
                if block.role is BlockRole.LAYER and operator.role is Role.PROJECTION and plain not in PATHS:
                    nameless.add((model.architecture.family, plain))
    assert nameless == set()


def test_a_pattern_beyond_measure_is_not_understood() -> None:
    modules = Modules(10_000)
    assert modules.places("re:" + "(a|b|c)" * 9) is None
    assert modules.places("model.layers.[9-0].mlp") is None
    assert modules.places(rf"re:.*layers\.({'1|' * 400}1)\.mlp") is None
    assert all(modules.places(f"*unknown{number}*") is None for number in range(1000))
    assert modules.places("*self_attn*") is None, "after a hundred others"


VARIANTS = {name: json.loads(path.read_text()) for name, path in variants().items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_its_model_in_its_own_format(name: str) -> None:
    """Instruct checkpoints are as large as the model they come from; quantized ones have fewer bits, and all answer to their hub names."""
    variant, content = symroof.load_model(name), VARIANTS[name]
    base = symroof.load_model(content["_of"])
    assert content["_source"]
    assert content["_license"]
    assert name not in catalogue()
    assert symroof.load_model(content["_name_or_path"]) is symroof.load_model(name.upper()) is variant
    assert (variant.parameters, variant.unread) == (base.parameters, ())
    assert (variant.weight_bits < 16) == any(word in name for word in ("fp8", "fp4", "awq", "gptq", "bit"))
    assert not any("not understood" in note for note in variant.notes)


def test_variants_are_listed_where_a_part_of_a_name_is_given(run: Callable[..., Run]) -> None:
    assert "nvidia/Llama-3.1-8B-Instruct-FP8" in run("models", "llama-3.1-8b", "--format", "csv").out
    assert f"{len(VARIANTS)} variants of them" in run("models", "opt-125m").out
    assert sum("quant" in json.dumps(content) for content in VARIANTS.values()) >= 20


def test_two_mixers_side_by_side_are_told_apart(tmp_path: Path) -> None:
    """Falcon-H1 has attention and Mamba-2 in one layer, each with an output projection."""
    config = json.loads(catalogue()["falcon-h1-7b-base"].read_text())
    bits = formats(load(tmp_path, config | {"quantization_config": {"quant_method": "fp8", "ignore": ["mamba"]}}))
    assert {name: bits[name] for name in ("out_proj", "mamba.out_proj", "mamba.in_proj")} == {
        "out_proj": 8,
        "mamba.out_proj": 16,
        "mamba.in_proj": 16,
    }


def test_every_half_of_an_encoder_decoder_is_quantized(tmp_path: Path) -> None:
    config = json.loads(catalogue()["t5-base"].read_text()) | {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}
    }
    model = load(tmp_path, config)
    embedding = 32128 * 768
    assert float(weight_bytes(model)) == pytest.approx(model.parameters + embedding, rel=1e-3), "all but embedding, norms and biases"


def test_no_entry_is_named_after_a_width_that_it_does_not_have() -> None:
    narrow = [name for name in catalogue() if re.search(r"fp[48]|int[48]|awq|gptq|[48]-?bit", name)]
    assert narrow
    assert [name for name in narrow if symroof.load_model(name).weight_bits == 16] == []


def test_what_is_said_of_mixed_formats(tmp_path: Path) -> None:
    """Every layer of a kind has the same formats there, and the LM head has one of its own."""
    notes = load(tmp_path, CONFIGS["nvidia--Qwen3.6-35B-A3B-NVFP4"]["config"]).notes
    assert not any("their mean size" in note for note in notes)
    assert any(note.endswith("16 bits for norms, biases, embedding and router") for note in notes)


def test_the_first_of_gptqmodel_s_patterns_counts(tmp_path: Path) -> None:
    dynamic = {"-:.*down.*": {}, "+:.*layers\\.0\\..*": {"bits": 8, "group_size": -1}, "+:.*mlp.*": {"bits": 3}}
    inner = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": dynamic}
    bits = formats(load(tmp_path, LLAMA | {"quantization_config": inner}))
    three, four = 3 + Rational(19, 128), 4 + Rational(20, 128)
    assert bits["down_proj"] == 16
    assert bits["up_proj"] == Rational(1, 32) * 8 + Rational(31, 32) * three
    assert bits["q_proj"] == Rational(1, 32) * 8 + Rational(31, 32) * four
