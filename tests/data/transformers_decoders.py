"""Random configs of further types of decoders, drawn, built and counted as `transformers_random.py` does it.

    python transformers_decoders.py [TYPE ...]    # writes transformers_decoders.jsonl (all types, or only those to stdout)

Each line has the keys of that script's, and two more: `saved`, what `to_json_string` of Transformers makes of the config, the
vision encoder left out, and, where
a config nests several models, `text_parameters`, those of the language model and its head. torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers_random as base
from transformers_random import ABSENT, Draw, bias, experts, pattern, rope, sparse_layers, transformer

OUTPUT = Path(__file__).parent / "transformers_decoders.jsonl"
base.MIXERS = (*base.MIXERS, "Qwen3_5GatedDeltaNet", "Qwen3_5MoeGatedDeltaNet")


def nested(text_type: str, draw: Callable[[Draw], None], vision: dict[str, Any], *, tied: bool = True) -> Callable[[Draw], None]:
    """A config with this text decoder inside; *vision*: a small encoder."""

    def function(g: Draw) -> None:
        text = base._sub(g, text_type, draw)
        if tied:
            base._tie_above(g, text)
        g.put(text_config=text, vision_config=dict(vision))

    return function


# ------------------------------------------------------------------------------------------------ Qwen

QWEN_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 16, "num_position_embeddings": 16}


def delta(g: Draw) -> None:
    """Linear attention with three layers of four."""
    keys = g.choice([1, 2, 4])
    g.put(
        linear_num_key_heads=keys,
        linear_num_value_heads=keys * g.choice([1, 2, 3]),
        linear_key_head_dim=g.choice([8, 16, 32]),
        linear_value_head_dim=g.choice([8, 16, 48]),
    )
    g.pick("linear_conv_kernel_dim", ABSENT, 3, 4)
    pattern(g, "linear_attention", p=0.4)
    if "layer_types" not in g.config:
        g.pick("full_attention_interval", ABSENT, 2, 3)
    g.pick("partial_rotary_factor", ABSENT, 0.25)


def qwen3_5_text(g: Draw) -> None:
    transformer(g, kv=4, kv_null=False, hd=256, hd_null=False, layers=(1, 8))
    bias(g, "attention_bias")
    delta(g)
    g.tie()


def qwen3_5_moe_text(g: Draw) -> None:
    transformer(g, kv=2, kv_null=False, hd=256, hd_null=False, inter=False, layers=(1, 8))
    bias(g, "attention_bias")
    delta(g)
    experts(g, "num_experts")
    g.put(moe_intermediate_size=g.size(24, 300, 4), shared_expert_intermediate_size=g.size(24, 300, 4))
    g.tie()


def qwen3_vl_text(g: Draw) -> None:
    transformer(g, kv=32, hd=128, hd_null=False)
    bias(g, "attention_bias")
    rope(g)


def qwen3_vl_moe_text(g: Draw) -> None:
    transformer(g, kv=16, kv_null=False)
    experts(g, "num_experts")
    sparse_layers(g)
    bias(g, "attention_bias")
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.tie()
    rope(g)


def qwen2_vl(g: Draw) -> None:
    """Half of them flat, as on the hub."""
    text = base._sub(g, f"{g.config['model_type']}_text", base.qwen2)
    text["num_key_value_heads"] = text.get("num_key_value_heads") or text["num_attention_heads"]
    text.pop("head_dim", None)
    turns = text["hidden_size"] // text["num_attention_heads"] // 2
    text["rope_scaling"] = {"type": "mrope", "mrope_section": [turns - 2 * (turns // 3), turns // 3, turns // 3]}
    base._tie_above(g, text)
    if g.config["model_type"] == "qwen2_vl":
        g.put(vision_config={"depth": 1, "hidden_size": 16, "embed_dim": 32, "num_heads": 2})
    else:
        g.put(vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 16})
    if g.index % 2:
        g.put(text_config=text)
    else:
        g.put(**{name: value for name, value in text.items() if name != "model_type"})


# ------------------------------------------------------------------------------------------------ dense


def with_head_dim(g: Draw) -> None:
    """Where Transformers has no default that works."""
    if g.config.get("head_dim") is None:
        g.put(head_dim=g.config["hidden_size"] // g.config["num_attention_heads"])


def ministral(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False)
    with_head_dim(g)
    g.window(ABSENT, None)
    if g.config.get("sliding_window", 1):
        pattern(g)
    g.tie()
    rope(g)


def ministral3(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False, hd=128, hd_null=False)
    g.window(ABSENT, None, ABSENT)
    g.tie()
    scaling = {"type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384}
    g.pick("rope_parameters", ABSENT, scaling | {"llama_4_scaling_beta": 0.1}, scaling | {"llama_4_scaling_beta": 0.0})


def exaone(g: Draw) -> None:
    transformer(g, kv=8, act=g.choice(["activation_function", "hidden_act"]), eps="layer_norm_epsilon")
    if g.chance():
        g.put(num_layers=g.config.pop("num_hidden_layers"))
    bias(g, "attention_bias", "mlp_bias")
    g.tie()
    rope(g)


def exaone4(g: Draw) -> None:
    transformer(g, kv=32, kv_null=False, hd_null=False, layers=(1, 8))
    g.window(ABSENT, ABSENT)
    pattern(g)
    if "layer_types" not in g.config:
        g.pick("sliding_window_pattern", ABSENT, 2, 3)
    g.tie()
    rope(g)


def hunyuan_v1_dense(g: Draw) -> None:
    transformer(g)
    with_head_dim(g)
    bias(g, "attention_bias")
    g.tie()
    rope(g)


def ernie4_5(g: Draw) -> None:
    transformer(g, kv=2, hd=128)
    bias(g, "use_bias")
    g.tie()
    rope(g)


def seed_oss(g: Draw) -> None:
    transformer(g, kv=8, hd=128)
    bias(g, "attention_bias", "attention_out_bias", "mlp_bias")
    g.tie()
    rope(g)


def apertus(g: Draw) -> None:
    transformer(g, hd_null=False, act=None)
    g.pick("hidden_act", ABSENT, "xielu", "relu2", "silu")
    bias(g, "attention_bias")
    g.tie()


def internlm3(g: Draw) -> None:
    transformer(g, kv=2, hd=128)
    both = g.pick("qkv_bias", ABSENT, True, False)
    g.put(bias=both)
    g.tie()
    rope(g)


def mpt(g: Draw) -> None:
    heads, width = g.choice([2, 4, 8]), g.choice([16, 24, 32, 64])
    g.vocabulary()
    g.put(d_model=heads * width, n_layers=g.layers(), n_heads=heads)
    g.pick("max_seq_len", ABSENT, 128, 2048)
    g.pick(
        "attn_config", ABSENT, {"attn_impl": "torch", "clip_qkv": 6.0}, {"alibi": True, "qk_ln": False, "attn_type": "multihead_attention"}
    )
    g.pick("expansion_ratio", ABSENT, 4)
    g.pick("no_bias", ABSENT, True)
    g.tie()


PLAIN: dict[str, Any] = {
    **{"ministral": ministral, "ministral3": ministral3, "exaone": exaone, "exaone4": exaone4, "hunyuan_v1_dense": hunyuan_v1_dense},
    **{"ernie4_5": ernie4_5, "seed_oss": seed_oss, "apertus": apertus, "internlm3": internlm3, "mpt": mpt},
}
SPARSE: dict[str, Any] = {}
STATE: dict[str, Any] = {"qwen3_5_text": qwen3_5_text, "qwen3_5_moe_text": qwen3_5_moe_text}
NESTED: dict[str, Any] = {
    "qwen3_5": nested("qwen3_5_text", qwen3_5_text, QWEN_VISION),
    "qwen3_5_moe": nested("qwen3_5_moe_text", qwen3_5_moe_text, QWEN_VISION),
    "qwen3_vl": nested("qwen3_vl_text", qwen3_vl_text, QWEN_VISION | {"deepstack_visual_indexes": [0]}),
    "qwen3_vl_moe": nested("qwen3_vl_moe_text", qwen3_vl_moe_text, QWEN_VISION | {"deepstack_visual_indexes": [0]}),
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_vl,
}
RECURRENT_INSIDE = ("qwen3_5", "qwen3_5_moe")
"""Nested ones whose decoder has recurrent layers: counted outside the mixers."""
FAMILIES = PLAIN | SPARSE | STATE | NESTED


def build(config: dict[str, Any]) -> tuple[Any, Any]:
    """The model on the meta device, and its config."""
    config = json.loads(json.dumps(config))
    kind = config["model_type"]
    settings = base.CONFIG_MAPPING[kind].from_dict(config)
    saved = {name: value for name, value in json.loads(settings.to_json_string()).items() if name != "vision_config"}
    settings.get_text_config().pad_token_id = None
    auto = base.AutoModelForImageTextToText if kind in NESTED else base.AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(settings, attn_implementation="eager", experts_implementation="batched_mm").eval()
    return model, saved


def distinct(*modules: Any) -> int:
    """Parameters, tied ones once."""
    return sum({id(tensor): tensor.numel() for module in modules for tensor in module.parameters()}.values())


def row(kind: str, index: int) -> dict[str, Any]:
    g = Draw(kind, index)
    FAMILIES[kind](g)
    model, saved = build(g.config)
    result: dict[str, Any] = {"model_type": kind, "config": g.config, "saved": saved, "parameters": distinct(model)}
    if kind in NESTED:
        result["text_parameters"] = distinct(model.model.language_model, model.lm_head)
    recurrent = kind in STATE or kind in RECURRENT_INSIDE
    base.STATE = FAMILIES if recurrent else {}
    found = base.measure(model, kind)
    for phase in ("prefill", "decode"):
        result[f"{phase}_flops_outside_mixers" if recurrent else f"{phase}_matmul_flops"] = (
            found[f"{phase}_outside"] if recurrent else found[phase]
        )
    return {name: value for name, value in result.items() if value is not None}


if __name__ == "__main__":
    asked = sys.argv[1:]
    target = sys.stdout if asked else OUTPUT.open("w")
    for kind in asked or FAMILIES:
        for index in range(base.COUNT):
            try:
                print(json.dumps(row(kind, index)), file=target, flush=True)
            except Exception as error:
                print(f"FAILED {kind}/{index}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
