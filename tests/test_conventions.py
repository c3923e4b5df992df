"""Which conventions every model is told, by their keys, against lists made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import symroof
from symroof.architectures.config import catalogue
from symroof.symbols import W
from tests.steps import ENCODERS

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
RECURRENT = {
    "bamba",
    "falcon_h1",
    "mamba",
    "falcon_mamba",
    "mamba2",
    "jamba",
    "kimi_k3",
    "kimi_linear",
    "granitemoehybrid",
    "nemotron_h",
    "qwen3_next",
    "qwen3_5",
    "qwen3_5_moe",
    "bailing_hybrid",
    "bailing_moe_linear",
    "rwkv",
    "xlstm",
    "zamba",
    "zamba2",
}
HALVES = {"t5", "whisper"}
IMAGES = {"vit", "DiTTransformer2DModel", "Transformer2DModel", "clip", "siglip"}
EVERY_MODEL = ["operands", "embedding", "flops", "peak"]
WINDOWED = (
    "gemma-2-9b",
    "gemma-3-27b-pt",
    "gpt-oss-20b",
    "c4ai-command-r7b-12-2024",
    "mistral-7b-v0.1",
    "starcoder2-7b",
    "phi-3.5-moe-instruct",
)
FULL = ("llama-3-8b", "mixtral-8x7b-v0.1", "mistral-7b-v0.3", "qwen2.5-7b", "opt-125m", "deepseek-v3", "jamba-v0.1")


def keys(step: symroof.Step) -> list[str]:
    return [convention.key for convention in step.symbolic.conventions]


def has_experts(config: dict) -> bool:
    layers = config.get("hybrid_override_pattern", config.get("layers_block_type", "E"))
    config = config | config.get("ffn_config", {})
    return any((config.get(name) or 0) > 1 for name in EXPERTS) and ("E" in layers or "moe" in layers or "attention" in layers)


@pytest.mark.parametrize("name", catalogue())
def test_conventions_of_every_model(name: str) -> None:
    """No more and no fewer than belong to what the model is made of, in both phases."""
    model = symroof.load_model(name)
    config = json.loads(Path(model.origin).read_text())
    kind = config.get("model_type") or config["_class_name"]
    inner = config.get("text_config", config) if kind not in IMAGES else config
    quantized = "quantization" in json.dumps(config) or (Path(model.origin).parent / "hf_quant_config" / f"{name}.json").exists()
    marks = {
        "routing": has_experts(inner),
        "latent-attention": "kv_lora_rank" in inner,
        "sparse-attention": "index_topk" in inner or "sparse_attention_config" in inner,
        "compressed": "compress_ratios" in inner,
        "depth-attention": "attn_res_block_size" in inner,
        "recurrence": kind in RECURRENT,
        "left-out": any(one["attention"]["no_op"] and one["ffn"]["no_op"] for one in inner.get("block_configs", [])),
        "shared-cache": inner.get("num_kv_shared_layers", 0) > 0,
        "modalities": kind == "ernie4_5_vl_moe",
        "shared-blocks": kind in ("zamba", "zamba2"),
        "zero-experts": "zero_expert_num" in inner,
        "window": W in model.architecture.dimensions and kind not in ENCODERS,
        "quantization": quantized,
        "weight-width": not quantized,
        "lm-head": kind not in IMAGES,
    }
    halves, encodes = kind in HALVES, kind in ENCODERS
    for phase in ("prefill",) if encodes else ("prefill", "decode"):
        both = {"phase", "halves"} if halves else {"mask", "phase"} if kind in IMAGES or encodes else {"mask"}
        of_phase = {"phase"} if phase == "decode" and not halves and kind not in IMAGES else both
        expected = {*EVERY_MODEL, *of_phase, *(key for key, there in marks.items() if there)}
        step = getattr(model, phase)()
        assert set(keys(step)) == expected
        assert [line for line in step.statements if "None" in line or " oo" in line] == []


@pytest.mark.parametrize(("names", "windowed"), [(WINDOWED, True), (FULL, False)])
def test_models_with_a_window(names: tuple[str, ...], windowed: bool) -> None:
    assert {("window" in keys(symroof.load_model(name).decode())) for name in names} == {windowed}


def test_sentences_belong_to_their_keys() -> None:
    """The sentence of each key says what the key is about; other models do not hear it."""
    told = {
        ("mixtral-8x7b-v0.1", "routing"): "mixture of experts",
        ("deepseek-v3", "latent-attention"): "latent attention, absorbed",
        ("mamba-130m", "recurrence"): "recurrent layers",
        ("gemma-3-27b-pt", "window"): "sliding window",
        ("gpt-oss-20b", "quantization"): "quantization_config (mxfp4, 4 bits)",
    }
    llama = symroof.load_model("llama-3-8b").decode().statements
    for (name, key), words in told.items():
        texts = [line.text for line in symroof.load_model(name).decode().symbolic.conventions if line.key == key]
        assert words in texts[0]
        assert [line for line in llama if words.partition(" (")[0] in line] == []


@pytest.mark.parametrize(
    ("options", "key", "words"),
    [
        ({"phase": "prefill"}, "mask", "causal: s(s+1)/2"),
        ({"phase": "prefill", "causal": False}, "mask", "no causal discount"),
        ({"phase": "prefill", "lm_head": "all"}, "lm-head", "every token"),
        ({"phase": "decode"}, "lm-head", "the last token"),
        ({"phase": "decode", "flash_attention": True}, "flash-attention", "scores stay on chip"),
        ({"phase": "decode", "accounting": "survey"}, "accounting", "94ab17b"),
        ({"phase": "decode", "accounting": "llm-viewer"}, "accounting", "472f71f"),
    ],
)
def test_conventions_of_options(options: dict, key: str, words: str) -> None:
    phase = options.pop("phase")
    step = getattr(symroof.load_model("llama-2-7b"), phase)(**options)
    assert [words in line.text for line in step.symbolic.conventions if line.key == key] == [True]


def test_padding_of_a_convolution_without_the_mask() -> None:
    model = symroof.load_model("mamba-130m")
    assert ["padding" in keys(model.prefill(causal=causal)) for causal in (True, False)] == [False, True]


def test_latent_attention_says_its_form() -> None:
    texts = {form: symroof.load_model("deepseek-v3").decode(mla=form).statements for form in ("absorbed", "decompressed")}
    assert any("latent attention, absorbed" in line for line in texts["absorbed"])
    assert any("latent attention, decompressed" in line for line in texts["decompressed"])
