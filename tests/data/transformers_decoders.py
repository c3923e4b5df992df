"""Random configs of further types of decoders, drawn, built and counted as `transformers_random.py` does it.

    python transformers_decoders.py [TYPE ...]    # writes transformers_decoders.jsonl (all types, or only those to stdout)

Each line has the keys of that script's, and two more: `saved`, what `to_json_string` of Transformers makes of the config, the
vision encoder left out, and, where
a config nests several models, `text_parameters`, those of the language model and its head. torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
import transformers_random as base
from transformers.models.llama import modeling_llama as llama
from transformers_random import ABSENT, Draw, bias, experts, pattern, rope, sparse_layers, transformer

OUTPUT = Path(__file__).parent / "transformers_decoders.jsonl"
torch.distributions.Distribution.set_default_validate_args(False)  # which would look at values, and meta tensors have none
base.MIXERS = (*base.MIXERS, "Qwen3_5GatedDeltaNet", "Qwen3_5MoeGatedDeltaNet", "KimiLinearDeltaAttention")


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


# ------------------------------------------------------------------------------------------------ experts


def minimax_m2(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False, hd=128, hd_null=False)
    experts(g)
    g.tie()
    rope(g)
    width = g.config.get("head_dim", 128)
    g.pick("rotary_dim", ABSENT, width // 2, width)


def hunyuan_v1_moe(g: Draw) -> None:
    transformer(g)
    with_head_dim(g)
    number, chosen = experts(g, "num_experts", "moe_topk")
    if g.chance(0.3):
        g.put(moe_topk=[chosen] * g.config["num_hidden_layers"])
    bias(g, "attention_bias")
    g.tie()
    rope(g)


def dots1(g: Draw) -> None:
    transformer(g, kv=32, hd_null=False)
    base._grouped(g, 2)
    g.pick("first_k_dense_replace", ABSENT, 0, 1, 2)
    g.put(n_shared_experts=g.choice([1, 2]), moe_intermediate_size=g.size(24, 300, 4))
    bias(g, "attention_bias")
    g.window(ABSENT, None)
    if g.config.get("sliding_window", 1):
        g.pick("max_window_layers", ABSENT, 0, 1, 3)
    g.tie()
    rope(g)


def dbrx(g: Draw) -> None:
    heads, width = g.choice([2, 4, 8]), g.choice([16, 24, 32, 64])
    g.vocabulary()
    g.put(d_model=heads * width, n_layers=g.layers(), n_heads=heads)
    number = g.choice([2, 4, 8])
    g.pick("attn_config", ABSENT, {"clip_qkv": 6}, {"kv_n_heads": heads // 2})
    g.put(attn_config={"rope_theta": 10000.0, "clip_qkv": 8, **g.config.get("attn_config", {})})
    g.put(ffn_config={"ffn_hidden_size": g.size(24, 300, 4), "moe_num_experts": number, "moe_top_k": g.randint(1, number)})
    g.pick("max_seq_len", ABSENT, 128)


def exaone_moe(g: Draw) -> None:
    exaone4(g)
    experts(g, "num_experts")
    n = g.config["num_hidden_layers"]
    g.pick("first_k_dense_replace", ABSENT, 0, 1, 2)
    if g.chance(0.3):
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(n)])
    g.pick("num_shared_experts", ABSENT, 1, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4), n_group=1, topk_group=1)


def llama4_text(g: Draw) -> None:
    base.llama4_text(g)


def mimo_v2_flash(g: Draw) -> None:
    transformer(g, kv=4, kv_null=False, hd=192, hd_null=False, layers=(1, 8))
    heads = g.config["num_attention_heads"]
    g.put(num_key_value_heads=g.choice([k for k in (1, 2, 3, 4) if heads % (2 * k) == 0]))
    g.pick("v_head_dim", ABSENT, 16, 24, 64)
    base._grouped(g, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    bias(g, "attention_bias")
    pattern(g)
    n = g.config["num_hidden_layers"]
    if g.chance(0.4):
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(n)])
    g.window(ABSENT)
    g.pick("sliding_window_size", ABSENT, ABSENT, 16)
    g.pick("attention_value_scale", ABSENT, 0.5, None)
    g.tie()


def step3p5(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False, hd=128, hd_null=False, layers=(1, 8))
    heads, n = g.config["num_attention_heads"], g.config["num_hidden_layers"]
    if "num_key_value_heads" in g.config and g.chance():
        g.put(num_attention_groups=g.config.pop("num_key_value_heads"))
    g.window(512)
    pattern(g, p=0.8)
    groups = g.config.get("num_attention_groups") or g.config.get("num_key_value_heads") or 8
    g.pick("num_sliding_attention_heads", ABSENT, groups * 2, groups)
    if "num_sliding_attention_heads" not in g.config and g.chance():
        g.put(attention_other_setting={"attention_type": "sliding_attention", "num_attention_heads": groups * 3})
    number = g.choice([2, 4, 8])
    g.put(n_routed_experts=number, num_experts_per_tok=g.randint(1, number), moe_intermediate_size=g.size(24, 300, 4))
    g.put(share_expert_dim=g.size(24, 300, 4))
    way = g.choice(["", "list", "enum"])
    if way == "list":
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(n)])
    elif way == "enum":
        g.put(moe_layers_enum=",".join(str(i) for i in range(n) if g.chance()))
    bias(g, "attention_bias")
    if g.chance(0.4) and "layer_types" in g.config:
        shares = {"full_attention": 0.5, "sliding_attention": 1.0}
        g.put(partial_rotary_factors=[shares[kind] for kind in g.config["layer_types"]])


def gemma4_text(g: Draw) -> None:
    transformer(g, kv=4, kv_null=False, hd=256, hd_null=False, act="hidden_activation", layers=(2, 9))
    n = g.config["num_hidden_layers"]
    groups = g.config.get("num_key_value_heads", 4)
    if g.chance(0.5):
        kinds = [g.choice(["sliding_attention", "full_attention"]) for _ in range(n)]
        g.put(layer_types=[*kinds[:-1], "full_attention"])
    g.window(ABSENT)
    g.pick("global_head_dim", ABSENT, 32, 64)
    bias(g, "attention_bias", "attention_k_eq_v", "use_double_wide_mlp")
    g.pick("num_global_key_value_heads", ABSENT, None, max(groups // 2, 1) if groups % 2 == 0 else groups)
    kinds = g.config.get("layer_types") or [["sliding_attention"] * 5 + ["full_attention"]][0] * 2
    kinds = [*kinds[: n - 1], "full_attention"]
    shared = [k for k in range(n) if set(kinds[: n - k]) == set(kinds)]
    g.put(num_kv_shared_layers=g.choice(shared) if shared else 0)
    g.put(hidden_size_per_layer_input=g.choice([0, 16, 24]), vocab_size_per_layer_input=g.choice([300, 5000]))
    if g.chance(0.4):
        g.put(enable_moe_block=True, use_double_wide_mlp=False)
        number = g.choice([2, 4, 8])
        g.put(num_experts=number, top_k_experts=g.randint(1, number), moe_intermediate_size=g.size(24, 300, 4))
    g.tie()
    g.pick("final_logit_softcapping", ABSENT, 30.0, None)


def gemma3n_text(g: Draw) -> None:
    transformer(g, kv=2, kv_null=False, hd=256, hd_null=False, act="hidden_activation", layers=(2, 12))
    n, width = g.config["num_hidden_layers"], g.config["intermediate_size"]
    if g.chance(0.5):
        g.put(intermediate_size=[g.choice([width, width + 32, 2 * width]) for _ in range(n)])
    pattern(g, p=0.5)
    kinds = g.config.get("layer_types") or [["sliding_attention"] * 4 + ["full_attention"]][0] * 3
    shared = [k for k in range(n) if set(kinds[: n - k]) == set(kinds[:n])]
    g.put(num_kv_shared_layers=g.choice(shared))
    if g.chance():
        g.put(activation_sparsity_pattern=[g.choice([0.95, 0.0, 0.5]) for _ in range(n)])
    g.window(ABSENT)
    g.pick("altup_num_inputs", ABSENT, 2, 3)
    g.pick("laurel_rank", ABSENT, 8, 24)
    g.put(hidden_size_per_layer_input=g.choice([16, 24]), vocab_size_per_layer_input=g.choice([300, 5000]))
    bias(g, "attention_bias")
    g.tie()
    g.pick("final_logit_softcapping", ABSENT, 30.0)


def gemma3n(g: Draw) -> None:
    text = base._sub(g, "gemma3n_text", gemma3n_text)
    base._tie_above(g, text)
    g.put(text_config=text)


GEMMA_VISION = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
GEMMA_VISION |= {"head_dim": 16, "global_head_dim": 16}


def kimi_linear(g: Draw) -> None:
    transformer(g, kv=None, hd="fixed", layers=(1, 8))
    n = g.config["num_hidden_layers"]
    g.put(num_key_value_heads=g.config["num_attention_heads"])
    g.pick("q_lora_rank", ABSENT, None, 24)
    g.put(
        kv_lora_rank=g.choice([16, 32, 64]),
        qk_nope_head_dim=g.choice([16, 24, 32]),
        qk_rope_head_dim=g.choice([8, 16]),
        v_head_dim=g.choice([16, 24, 48]),
    )
    if g.chance(0.6):
        full = sorted(g.sample(range(1, n + 1), g.randint(0, n)))
        kda = [i for i in range(1, n + 1) if i not in full]
        sizes = {"num_heads": g.choice([2, 3, 4]), "head_dim": g.choice([8, 16]), "short_conv_kernel_size": g.choice([3, 4])}
        g.put(linear_attn_config={"full_attn_layers": full, "kda_layers": kda, **sizes})
    else:
        g.put(linear_num_heads=g.choice([2, 3, 4]), linear_head_dim=g.choice([8, 16]))
        pattern(g, "linear_attention", p=0.5)
    number = g.choice([2, 4, 8])
    g.put(num_experts=number, num_experts_per_token=g.randint(1, number), moe_intermediate_size=g.size(24, 300, 4))
    g.put(num_expert_group=1, topk_group=1)
    g.pick("num_shared_experts", ABSENT, 1, 2)
    g.pick("first_k_dense_replace", ABSENT, 0, 1, 2)
    g.tie()


def minimax_m3_vl_text(g: Draw) -> None:
    transformer(g, kv=4, kv_null=False, hd=128, hd_null=False, inter=False, act=None)
    n, groups = g.config["num_hidden_layers"], g.config.get("num_key_value_heads", 4)
    g.put(intermediate_size=g.size(24, 300, 4), dense_intermediate_size=g.size(40, 600, 4), shared_intermediate_size=g.size(24, 300, 4))
    experts(g)
    width = g.config.get("head_dim", 128)
    g.put(rotary_dim=width // 2)
    if g.chance(0.6):
        inner = {"sparse_attention_freq": [g.choice([0, 1]) for _ in range(n)], "sparse_num_index_heads": groups, "sparse_index_dim": width}
        g.put(sparse_attention_config=inner)
    elif g.chance():
        g.put(layer_types=[g.choice(["full_attention", "minimax_m3_sparse"]) for _ in range(n)], index_n_heads=groups)
        g.put(index_head_dim=width)
    if g.chance():
        g.put(moe_layer_freq=[g.choice([0, 1]) for _ in range(n)])
    g.tie()


def mistral4(g: Draw) -> None:
    transformer(g, kv="H", hd="fixed")
    base._mla(g)
    g.put(num_key_value_heads=g.config["num_attention_heads"])
    g.put(qk_nope_head_dim=g.config["qk_rope_head_dim"] * g.choice([1, 3]))  # a share of the head that a float says exactly
    base._grouped(g, 2)
    base._dense_first(g, 0)
    g.pick("n_shared_experts", ABSENT, 1, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.tie()
    turned = {"rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 8192, "llama_4_scaling_beta": 0.1}
    g.pick("rope_parameters", ABSENT, turned | {"type": "yarn"}, turned | {"rope_type": "yarn"})


def nemotron_nas(g: Draw) -> None:
    """Layers of a few kinds, repeated: with other KV heads and widths, with one matrix in place of a half, or without it."""
    transformer(g, hd_null=False, layers=(2, 9), inter=False, act=None)
    g.config["num_key_value_heads"] = g.config["intermediate_size"] = None
    heads, n = g.config["num_attention_heads"], g.config["num_hidden_layers"]
    kinds = []
    for _ in range(g.choice([1, 2, 4])):
        halves = [g.choice(["", "", "", "no_op", "replace_with_linear"]) for _ in range(2)]
        flags = [{name: name == half for name in ("no_op", "replace_with_linear")} for half in halves]
        each = None if halves[0] else g.divisor(heads)
        times = None if halves[1] else g.choice([0.5, 1.0, 1.3125, 2.625, 3.28125, 0.4875])
        kinds.append({"attention": {"n_heads_in_group": each, "window_length": None, **flags[0]}, "ffn": {"ffn_mult": times, **flags[1]}})
    plain = {"attention": {"n_heads_in_group": heads}, "ffn": {"ffn_mult": 1.0}}
    g.put(block_configs=[plain, *(g.choice(kinds) for _ in range(n - 1))])
    bias(g, "attention_bias", "mlp_bias")
    g.tie()
    rope(g)


class Chosen(torch.nn.Module):
    """A layer of DeciLM, from Llama's attention and MLP: either may be left out, or be one matrix."""

    def __init__(self, settings: Any, block: dict[str, Any], place: int) -> None:
        super().__init__()
        attends, mixes = block["attention"], block["ffn"]
        d, own = settings.hidden_size, copy.copy(settings)
        if not mixes.get("no_op") and not mixes.get("replace_with_linear"):
            width = int(2 * mixes["ffn_mult"] * d / 3)
            own.intermediate_size = width if width % 256 == 0 else width + 256 - width % 256
        self.half_norms, self.halves, self.attends = torch.nn.ModuleList(), torch.nn.ModuleList(), []
        for half, made in ((attends, llama.LlamaAttention), (mixes, llama.LlamaMLP)):
            if half.get("no_op"):
                continue
            self.half_norms.append(llama.LlamaRMSNorm(d))
            self.attends.append(made is llama.LlamaAttention and not half.get("replace_with_linear"))
            if half.get("replace_with_linear"):
                self.halves.append(torch.nn.Linear(d, d, bias=False))
            elif made is llama.LlamaAttention:
                own.num_key_value_heads = settings.num_attention_heads // half["n_heads_in_group"]
                self.halves.append(made(own, place))
            else:
                self.halves.append(made(own))

    def forward(self, x: torch.Tensor, **more: Any) -> torch.Tensor:
        for normed, half, attends in zip(self.half_norms, self.halves, self.attends, strict=True):
            x = x + (half(hidden_states=normed(x), **more)[0] if attends else half(normed(x)))
        return x


def searched(config: dict[str, Any]) -> Any:
    """Llama with these layers in place of its own; those with attention are numbered for the cache."""
    fields = {name: value for name, value in config.items() if name != "block_configs" and value is not None}
    settings = base.CONFIG_MAPPING["llama"].from_dict(fields | {"model_type": "llama", "num_hidden_layers": 1})
    settings.pad_token_id = None
    with torch.device("meta"):
        model = base.AutoModelForCausalLM.from_config(settings, attn_implementation="eager").eval()
        blocks = config["block_configs"]
        attending = [not (block["attention"].get("no_op") or block["attention"].get("replace_with_linear")) for block in blocks]
        layers = [Chosen(settings, block, sum(attending[:number])) for number, block in enumerate(blocks)]
        model.model.layers = torch.nn.ModuleList(layers)
    settings.num_hidden_layers = len(blocks)
    return model.eval()


def ernie4_5_vl_moe_text(g: Draw) -> None:
    transformer(g, kv=4, kv_null=False, hd="fixed")
    experts(g, "moe_num_experts", "moe_k")
    g.put(moe_intermediate_size=[g.size(24, 300, 4), g.size(24, 300, 4)])
    if g.chance():
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(g.config["num_hidden_layers"])])
    g.pick("moe_num_shared_experts", ABSENT, 0, 1)
    bias(g, "use_bias")
    g.tie()
    turns = g.config["hidden_size"] // g.config["num_attention_heads"] // 2
    section = [turns // 3, turns // 3, turns - 2 * (turns // 3)]
    g.put(rope_parameters={"rope_type": "default", "rope_theta": 500000.0, "mrope_section": section})


STEP_VISION = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
ERNIE_VISION = {"depth": 1, "hidden_size": 32, "intermediate_size": 40, "num_heads": 2}
KIMI_VISION = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA4_VISION = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
LLAMA4_VISION |= {"vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}

PLAIN: dict[str, Any] = {
    **{"ministral": ministral, "ministral3": ministral3, "exaone": exaone, "exaone4": exaone4, "hunyuan_v1_dense": hunyuan_v1_dense},
    **{"ernie4_5": ernie4_5, "seed_oss": seed_oss, "apertus": apertus, "internlm3": internlm3, "mpt": mpt},
}
SPARSE: dict[str, Any] = {
    **{"minimax_m2": minimax_m2, "hunyuan_v1_moe": hunyuan_v1_moe, "dots1": dots1, "dbrx": dbrx, "exaone_moe": exaone_moe},
    **{"mistral4": mistral4, "nemotron-nas": nemotron_nas},
    **{"gemma3n_text": gemma3n_text, "gemma4_text": gemma4_text, "llama4_text": llama4_text, "mimo_v2_flash": mimo_v2_flash},
}
STATE: dict[str, Any] = {
    "kimi_linear": kimi_linear,
    "minimax_m3_vl_text": minimax_m3_vl_text,
    **{"qwen3_5_text": qwen3_5_text, "qwen3_5_moe_text": qwen3_5_moe_text},
}
NESTED: dict[str, Any] = {
    "qwen3_5": nested("qwen3_5_text", qwen3_5_text, QWEN_VISION),
    "qwen3_5_moe": nested("qwen3_5_moe_text", qwen3_5_moe_text, QWEN_VISION),
    "qwen3_vl": nested("qwen3_vl_text", qwen3_vl_text, QWEN_VISION | {"deepstack_visual_indexes": [0]}),
    "qwen3_vl_moe": nested("qwen3_vl_moe_text", qwen3_vl_moe_text, QWEN_VISION | {"deepstack_visual_indexes": [0]}),
    "ernie4_5_vl_moe": nested("ernie4_5_vl_moe_text", ernie4_5_vl_moe_text, ERNIE_VISION),
    "gemma3n": gemma3n,
    "gemma4": nested("gemma4_text", gemma4_text, GEMMA_VISION),
    "llama4": nested("llama4_text", llama4_text, LLAMA4_VISION, tied=False),
    "kimi_k25": nested("deepseek_v3", base.deepseek_v3, KIMI_VISION),
    "step3p7": nested("step3p5", step3p5, STEP_VISION, tied=False),
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
    if kind == "nemotron-nas":
        return searched(config), None
    settings = base.CONFIG_MAPPING[kind].from_dict(config)
    saved = {name: value for name, value in json.loads(settings.to_json_string()).items() if name not in ("vision_config", "audio_config")}
    if kind == "gemma3n":  # its encoders need another library: the text decoder alone
        settings, tied = settings.get_text_config(), settings.tie_word_embeddings
        settings.tie_word_embeddings = tied
    settings.get_text_config().pad_token_id = 0 if kind in ("step3p7", "gemma4") else None
    auto = base.AutoModelForImageTextToText if kind in NESTED and kind != "gemma3n" else base.AutoModelForCausalLM
    make = transformers.Mistral4ForCausalLM._from_config if kind == "mistral4" else auto.from_config  # which no auto class knows
    with torch.device("meta"):
        model = make(settings, attn_implementation="eager", experts_implementation="batched_mm").eval()
    return model, saved


def distinct(*modules: Any) -> int:
    """Parameters, tied ones once."""
    return sum({id(tensor): tensor.numel() for module in modules for tensor in module.parameters()}.values())


def row(kind: str, index: int) -> dict[str, Any]:
    g = Draw(kind, index)
    FAMILIES[kind](g)
    model, saved = build(g.config)
    result: dict[str, Any] = {"model_type": kind, "config": g.config, "saved": saved, "parameters": distinct(model)}
    result = {name: value for name, value in result.items() if value is not None}
    if kind == "gemma3n":
        result["text_parameters"] = distinct(model)
    elif kind in NESTED:
        whole = hasattr(model, "language_model") and hasattr(model.language_model, "lm_head")
        result["text_parameters"] = distinct(model.language_model) if whole else distinct(model.model.language_model, model.lm_head)
    recurrent = kind in STATE or kind in RECURRENT_INSIDE
    base.STATE = FAMILIES if recurrent else {}
    try:
        found = base.measure(model, kind)
    except (NotImplementedError, AttributeError):  # experts chosen by value, which meta tensors have not; no forward of text alone
        return result
    text = model.config.get_text_config()
    if text.model_type == "llama4_text" and text.moe_layers and text.num_experts_per_tok != text.num_local_experts:
        found["prefill"] = found["decode"] = None  # Transformers runs every expert on every token
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
