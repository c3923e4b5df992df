"""Random configs of each model_type, with what Transformers and PyTorch's FLOP counter count for them.

    python transformers_random.py --check         # the harness against torch_counts.csv
    python transformers_random.py [TYPE ...]      # writes transformers_random.jsonl (all types, or only those to stdout)

Each line: model_type, config (hub spelling), parameters (tied tensors once), prefill_matmul_flops (batch 2, prompt 64,
no cache, eager attention, mask of ones, LM head on every token), decode_matmul_flops (batch 2, one new token after 64
cached), note. State-space and hybrid models carry *_flops_outside_mixers too: every counted matmul but what a
Mamba or delta-net mixer computes itself (its convolution, its scan, Mamba-1's dt_proj).
torch 2.13.0 and transformers 5.23.0. The committed file keeps the keys the tests read, and no llama4_text.
Seeds depend on the model_type and the index alone. Everything is built on the meta device.
"""

from __future__ import annotations

import csv
import json
import math
import random
import sys
import warnings
from pathlib import Path

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity(50)
# Without a mask the position ids are searched for packed sequences, by value; there are none here, and no values on meta.
transformers.masking_utils.find_packed_sequence_indices = lambda position_ids: None
BATCH, PROMPT, COUNT = 2, 64, 12
ABSENT = object()
HERE = Path(__file__).parent
OUTPUT = HERE / "transformers_random.jsonl"


class Draw(random.Random):
    """A config being drawn: fields in order, ABSENT ones left out."""

    def __init__(self, model_type: str, index: int):
        super().__init__(f"{model_type}/{index}")
        self.index = index
        self.config: dict = {"model_type": model_type}

    def put(self, **fields):
        for name, value in fields.items():
            if value is not ABSENT:
                self.config[name] = value

    def pick(self, name: str, *values):
        """Puts one of the values (ABSENT possible) and returns it: each value in its share of the rows."""
        turns = [i % len(values) for i in range(COUNT)]
        random.Random(f"{self.config['model_type']}.{name}").shuffle(turns)
        value = values[turns[self.index]]
        self.put(**{name: value})
        return value

    def chance(self, p: float = 0.5) -> bool:
        return self.random() < p

    def size(self, low: int, high: int, step: int = 8) -> int:
        return self.randrange(low, high, step)

    def divisor(self, n: int) -> int:
        return self.choice([k for k in range(1, n + 1) if n % k == 0])

    def vocabulary(self):
        self.put(vocab_size=self.choice([self.size(300, 3000, 1), self.size(8000, 60000, 1), 32000, 50257]))

    def tie(self):
        self.pick("tie_word_embeddings", ABSENT, True, False)

    def layers(self, low: int = 1, high: int = 6) -> int:
        return self.randint(low, high)

    def window(self, *more):
        return self.pick("sliding_window", 8, 16, 40, 65, 4096, *more)


def transformer(
    g: Draw,
    kv="H",
    hd="derived",
    heads_multiple=1,
    inter=True,
    act="hidden_act",
    eps="rms_norm_eps",
    hd_null=True,
    kv_null=True,
    layers=(1, 6),
):
    """d, L, H, K, head_dim, I. kv: the default K ("H": same as heads; None: no such field); hd: the default head_dim
    ("derived": d // H, and an explicit one is honoured; "fixed": no such field; a number: that class default)."""
    g.vocabulary()
    width = g.choice([16, 24, 32, 48, 64])
    kv_absent = kv is not None and g.chance(0.3)
    heads = g.choice([2, 4, 6, 8, 12])
    if isinstance(kv, int) and kv_absent:
        heads = kv * g.choice([1, 2])
        width = g.choice([16, 32])
    d = heads * width
    g.put(hidden_size=d, num_hidden_layers=g.layers(*layers), num_attention_heads=heads)
    if kv is not None and not kv_absent:
        g.put(num_key_value_heads=None if kv_null and g.chance(0.15) else g.divisor(heads))
    if hd == "derived":
        options = [ABSENT, ABSENT, width, width * 2, 16, 40] + ([None] if hd_null else [])
        g.pick("head_dim", *options)
    elif hd != "fixed":
        options = [ABSENT, width, width * 2, 24, 96] + ([None] if hd_null else [])
        g.pick("head_dim", *options)
    if inter:
        g.put(intermediate_size=g.size(40, 1600, 4))
    if act:
        g.pick(act, ABSENT, "silu", "gelu", "relu", "gelu_pytorch_tanh")
    if eps:
        g.pick(eps, ABSENT, 1e-5, 1e-6)
    g.pick("max_position_embeddings", ABSENT, 128, 2048, 8192)
    return d, heads


def rope(g: Draw):
    g.pick("rope_theta", ABSENT, 10000.0, 500000.0)


def pattern(g: Draw, first="sliding_attention", second="full_attention", p=0.4):
    if g.chance(p):
        g.put(layer_types=[g.choice([first, second]) for _ in range(g.config["num_hidden_layers"])])


def bias(g: Draw, *names):
    for name in names:
        g.pick(name, ABSENT, True, False)


# ------------------------------------------------------------------------------------------------ dense families


def llama(g):
    transformer(g, hd="derived")
    bias(g, "attention_bias", "mlp_bias")
    g.tie()
    rope(g)


def mistral(g):
    transformer(g, kv=8, kv_null=False)
    g.window(ABSENT, None)
    g.tie()
    rope(g)


def qwen2(g):
    transformer(g, kv=32, hd_null=False)
    g.pick("use_sliding_window", ABSENT, False, True, True)
    if g.config.get("use_sliding_window"):
        g.window(ABSENT)
        g.pick("max_window_layers", ABSENT, 0, 1, 2, 3)
        pattern(g)
    g.tie()
    rope(g)


def qwen3(g):
    transformer(g, kv=32, hd=128, hd_null=False)
    bias(g, "attention_bias")
    g.pick("use_sliding_window", ABSENT, False, True, True)
    if g.config.get("use_sliding_window"):
        g.window(ABSENT)
        g.pick("max_window_layers", ABSENT, 0, 1, 2, 3)
        pattern(g)
    g.tie()
    rope(g)


def phi3(g):
    transformer(g, kv="H", hd_null=False)
    g.window(ABSENT, None)
    g.tie()
    rope(g)
    g.pick("original_max_position_embeddings", ABSENT, 4096)


def phi(g):
    transformer(g, kv="H", hd="fixed", eps="layer_norm_eps", act=None)
    g.pick("hidden_act", ABSENT, "gelu_new", "relu")
    bias(g, "qk_layernorm")
    g.tie()
    g.pick("partial_rotary_factor", ABSENT, 0.5, 0.25)
    rope(g)


def gemma(g):
    transformer(g, kv=16, hd=256, hd_null=False, kv_null=False, act=None)
    g.pick("hidden_act", ABSENT, "gelu", "gelu_pytorch_tanh")
    bias(g, "attention_bias")
    g.tie()
    rope(g)


def gemma2(g):
    transformer(g, kv=4, hd=256, hd_null=False, kv_null=False, act="hidden_activation")
    bias(g, "attention_bias")
    g.window(ABSENT)
    pattern(g)
    g.tie()
    rope(g)
    g.pick("query_pre_attn_scalar", ABSENT, 224)
    g.pick("attn_logit_softcapping", ABSENT, 50.0, None)
    g.pick("final_logit_softcapping", ABSENT, 30.0, None)


def gemma3_text(g):
    transformer(g, kv=4, hd=256, hd_null=False, kv_null=False, act="hidden_activation", layers=(1, 8))
    bias(g, "attention_bias")
    g.window(ABSENT)
    pattern(g, p=0.3)
    if "layer_types" not in g.config:
        g.pick("sliding_window_pattern", ABSENT, 2, 3, 6)
    g.tie()
    g.pick("rope_theta", ABSENT, 1000000.0)
    g.pick("rope_local_base_freq", ABSENT, 10000.0)


def _gpt(g, rotary=False):
    heads, width = g.choice([2, 3, 4, 8, 12]), g.choice([16, 24, 32, 64])
    long = g.chance(0.25)
    d = heads * width
    g.vocabulary()
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads") if long else ("n_embd", "n_layer", "n_head")
    g.put(**dict(zip(names, (d, g.layers(), heads))))
    g.put(**{"max_position_embeddings" if long else "n_positions": g.choice([77, 128, 1024, 2048])})
    g.pick("n_inner", ABSENT, None, g.size(40, 1500, 4), 4 * d)
    g.pick("layer_norm_epsilon", ABSENT, 1e-5)
    g.tie()
    return width


def gpt2(g):
    _gpt(g)
    g.pick("activation_function", ABSENT, "gelu_new", "relu")
    g.pick("add_cross_attention", ABSENT, ABSENT, False, True)
    g.pick("scale_attn_by_inverse_layer_idx", ABSENT, True)
    g.pick("reorder_and_upcast_attn", ABSENT, False)


def gpt_neox(g):
    d, _ = transformer(g, kv=None, hd="fixed", act=None, eps="layer_norm_eps")
    g.pick("hidden_act", ABSENT, "gelu", "relu")
    bias(g, "attention_bias", "use_parallel_residual")
    g.tie()
    g.pick("rotary_pct", ABSENT, 0.25, 1.0)
    g.pick("rotary_emb_base", ABSENT, 10000)


def gptj(g):
    width = _gpt(g)
    g.pick("rotary_dim", ABSENT if width == 64 else 8, 8, 16, width)
    g.pick("activation_function", ABSENT, "gelu_new")


def opt(g):
    heads, width = g.choice([2, 3, 4, 8, 12]), g.choice([16, 24, 32, 64])
    d = heads * width
    g.vocabulary()
    g.put(hidden_size=d, num_hidden_layers=g.layers(), num_attention_heads=heads, ffn_dim=g.size(40, 1500, 4))
    g.pick("max_position_embeddings", ABSENT, 80, 128, 1000)
    g.pick("word_embed_proj_dim", ABSENT, None, d, d // 2, d * 2)
    g.pick("do_layer_norm_before", ABSENT, True, False)
    g.pick("_remove_final_layer_norm", ABSENT, False, True)
    bias(g, "enable_bias", "layer_norm_elementwise_affine")
    g.tie()
    g.pick("activation_function", ABSENT, "relu", "gelu")


def bloom(g):
    heads, width = g.choice([2, 3, 4, 8, 12]), g.choice([16, 24, 32, 64])
    g.vocabulary()
    g.put(
        **{
            g.choice(["hidden_size", "n_embed"]): heads * width,
            g.choice(["n_layer", "num_hidden_layers"]): g.layers(),
            g.choice(["n_head", "num_attention_heads"]): heads,
        }
    )
    g.pick("apply_residual_connection_post_layernorm", ABSENT, True, False)
    g.pick("layer_norm_epsilon", ABSENT, 1e-5)
    g.tie()
    g.pick("pretraining_tp", ABSENT, 2)
    g.pick("slow_but_exact", ABSENT, False)


def falcon(g):
    kind = ["7b", "40b", "rw", "11b", "mha", "40b", "7b", "rw", "11b", "7b-alibi", "mqa-sequential", "40b-1"][g.index]
    heads, width = g.choice([4, 6, 8, 12]), g.choice([16, 32, 64])
    d = heads * width
    g.vocabulary()
    g.put(**{g.choice(["hidden_size", "n_embed"]): d}, num_hidden_layers=g.layers(), num_attention_heads=heads)
    if kind in ("7b", "7b-alibi", "mqa-sequential"):
        g.pick("multi_query", ABSENT, True)
        g.pick("new_decoder_architecture", ABSENT, False)
        g.pick("num_kv_heads", ABSENT, heads, 1)
        g.put(parallel_attn=False) if kind == "mqa-sequential" else g.pick("parallel_attn", ABSENT, True)
        g.pick("num_ln_in_parallel_attn", ABSENT, None)
        g.put(alibi=True) if kind == "7b-alibi" else g.pick("alibi", ABSENT, False)
    elif kind in ("40b", "11b", "40b-1"):
        g.put(new_decoder_architecture=True, num_kv_heads=None if kind == "40b-1" else g.divisor(heads))
        g.pick("multi_query", ABSENT, True, False)
        g.pick("parallel_attn", ABSENT, True)
        if kind == "11b":
            g.put(num_ln_in_parallel_attn=1)
        else:
            g.pick("num_ln_in_parallel_attn", ABSENT, None, 2)
        g.pick("alibi", ABSENT, False)
    else:
        g.put(multi_query=False, parallel_attn=kind == "mha", new_decoder_architecture=False, alibi=kind == "rw")
        g.pick("num_kv_heads", ABSENT, heads)
    bias(g, "bias")
    g.pick("ffn_hidden_size", ABSENT, None, g.size(40, 1500, 4))
    g.pick("activation", ABSENT, "gelu", "relu")
    g.pick("layer_norm_epsilon", ABSENT, 1e-5)
    g.tie()
    if not g.config.get("alibi"):
        rope(g)


def starcoder2(g):
    transformer(g, kv=2, kv_null=False, act=None, eps="norm_epsilon")
    g.pick("hidden_act", ABSENT, "gelu_pytorch_tanh", "relu")
    bias(g, "use_bias")
    g.window(ABSENT, None)
    g.tie()
    rope(g)


def gpt_bigcode(g):
    _gpt(g)
    bias(g, "multi_query")
    g.pick("activation_function", ABSENT, "gelu_pytorch_tanh", "gelu")
    if g.config.get("multi_query") is False:
        g.pick("add_cross_attention", ABSENT, True)


def cohere(g):
    transformer(g, eps="layer_norm_eps", hd_null=False)
    bias(g, "attention_bias", "use_qk_norm")
    g.tie()
    rope(g)
    g.pick("logit_scale", ABSENT, 0.0625)


def cohere2(g):
    transformer(g, eps="layer_norm_eps", hd_null=False, layers=(1, 8))
    bias(g, "attention_bias")
    g.window(ABSENT)
    pattern(g, p=0.3)
    if "layer_types" not in g.config:
        g.pick("sliding_window_pattern", ABSENT, 2, 3, 4)
    g.tie()
    rope(g)
    g.pick("logit_scale", ABSENT, 0.25)


def olmo(g):
    transformer(g, eps=None, hd_null=False)
    bias(g, "attention_bias")
    g.pick("clip_qkv", ABSENT, None, 8.0)
    g.tie()
    rope(g)


def olmo2(g):
    transformer(g, hd_null=False)
    bias(g, "attention_bias")
    g.tie()
    rope(g)


def olmo3(g):
    transformer(g, hd_null=False, layers=(1, 8))
    bias(g, "attention_bias")
    g.window(ABSENT)
    pattern(g)
    g.tie()
    rope(g)


def granite(g):
    transformer(g, hd_null=False)
    bias(g, "attention_bias", "mlp_bias")
    g.tie()
    rope(g)
    for name in ("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"):
        g.pick(name, ABSENT, 0.5, 2.0)


def glm(g):
    transformer(g, kv=2, hd=128, hd_null=False, kv_null=False)
    bias(g, "attention_bias")
    g.tie()
    rope(g)
    g.pick("partial_rotary_factor", ABSENT, 0.5)


glm4 = glm


def smollm3(g):
    transformer(g, kv=4, hd_null=False, layers=(1, 8))
    bias(g, "attention_bias", "mlp_bias")
    n = g.config["num_hidden_layers"]
    if g.chance(0.5):
        g.put(no_rope_layers=[g.choice([0, 1]) for _ in range(n)])
    else:
        g.pick("no_rope_layer_interval", ABSENT, 2, 3)
    g.pick("use_sliding_window", ABSENT, False, True, True)
    if g.config.get("use_sliding_window"):
        g.window(ABSENT)
        if g.config.get("sliding_window"):
            pattern(g, p=0.3)
    g.tie()
    rope(g)


def stablelm(g):
    transformer(g, kv=32, kv_null=False, hd="fixed", eps="layer_norm_eps")
    bias(g, "use_qkv_bias", "qk_layernorm", "use_parallel_residual")
    g.tie()
    rope(g)
    g.pick("partial_rotary_factor", ABSENT, 0.25, 0.5)


# ------------------------------------------------------------------------------------------------ mixture of experts


def experts(g, e="num_local_experts", k="num_experts_per_tok", low=2):
    """Always named: the default numbers of experts are large."""
    number = g.choice([n for n in (2, 3, 4, 6, 8, 16, 32) if n >= low])
    per_token = g.randint(1, min(number, 6))
    g.put(**{e: number, k: per_token})
    return number, per_token


def sparse_layers(g):
    n = g.config["num_hidden_layers"]
    g.pick("decoder_sparse_step", ABSENT, 1, 2, 3)
    g.pick("mlp_only_layers", ABSENT, [], None, sorted(g.sample(range(n), g.randint(1, n))))
    g.pick("norm_topk_prob", ABSENT, True, False)


def mixtral(g):
    transformer(g, kv=8, kv_null=False)
    experts(g, g.choice(["num_local_experts", "num_local_experts", "num_experts"]))
    g.window(ABSENT, None, ABSENT)
    g.tie()
    rope(g)


def qwen2_moe(g):
    transformer(g, kv=16, kv_null=False, hd_null=False)
    experts(g, "num_experts")
    sparse_layers(g)
    bias(g, "qkv_bias")
    g.put(moe_intermediate_size=g.size(24, 300, 4), shared_expert_intermediate_size=g.size(24, 600, 4))
    g.pick("use_sliding_window", ABSENT, False, True)
    if g.config.get("use_sliding_window"):
        g.window(ABSENT)
        g.pick("max_window_layers", ABSENT, 0, 1, 3)
        pattern(g, p=0.3)
    g.tie()
    rope(g)


def qwen3_moe(g):
    transformer(g, kv=4, kv_null=False, hd_null=False)
    experts(g, "num_experts")
    sparse_layers(g)
    bias(g, "attention_bias")
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.pick("use_sliding_window", ABSENT, False, True)
    if g.config.get("use_sliding_window"):
        g.window(ABSENT)
    g.tie()
    rope(g)


def olmoe(g):
    transformer(g, hd="fixed")
    experts(g, "num_experts")
    bias(g, "attention_bias")
    g.pick("clip_qkv", ABSENT, None, 8.0)
    g.tie()
    rope(g)
    g.pick("norm_topk_prob", ABSENT, True)


def gpt_oss(g):
    transformer(g, kv=8, kv_null=False, hd=64, hd_null=False, act=None)
    experts(g)
    bias(g, "attention_bias")
    g.window(ABSENT)
    pattern(g)
    g.tie()
    if g.chance(0.3):
        g.put(experts_per_token=g.config["num_experts_per_tok"])


def _mla(g):
    """Every head has its own keys and values: num_key_value_heads must be num_attention_heads."""
    if g.config["model_type"] == "deepseek_v3" or "num_key_value_heads" in g.config:
        g.put(num_key_value_heads=g.config["num_attention_heads"])
    g.pick("q_lora_rank", ABSENT, None, None, 24, 96)
    g.put(
        kv_lora_rank=g.choice([16, 32, 64, 80]),
        qk_nope_head_dim=g.choice([16, 24, 32, 64]),
        qk_rope_head_dim=g.choice([8, 16, 32]),
        v_head_dim=g.choice([16, 24, 48, 64]),
    )
    bias(g, "attention_bias")


def _grouped(g, low):
    number = g.choice([4, 8, 16, 32])
    groups = g.choice([n for n in (1, 2, 4) if number // n >= low])
    kept = g.randint(1, groups)
    g.put(n_routed_experts=number, n_group=groups, topk_group=kept, num_experts_per_tok=g.randint(1, min(6, kept * (number // groups))))


def _dense_first(g, default):
    n = g.config["num_hidden_layers"]
    g.pick("first_k_dense_replace", ABSENT, 0, 1, 2, n)


def deepseek_v2(g):
    transformer(g, kv="H", hd="fixed")
    _mla(g)
    if g.chance(0.5):
        experts(g, "n_routed_experts")
        g.pick("topk_method", ABSENT, "greedy")
    else:
        _grouped(g, 1)
        g.put(topk_method="group_limited_greedy")
    _dense_first(g, 0)
    g.pick("n_shared_experts", ABSENT, 1, 2, 3)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    bias(g, "mlp_bias")
    g.tie()
    rope(g)
    g.pick("moe_layer_freq", ABSENT, 1)
    g.pick("routed_scaling_factor", ABSENT, 16.0)


def deepseek_v3(g):
    transformer(g, kv="H", hd="fixed")
    _mla(g)
    _grouped(g, 2)
    _dense_first(g, 3)
    g.pick("n_shared_experts", ABSENT, 1, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.tie()
    rope(g)
    g.pick("num_nextn_predict_layers", ABSENT, 1, 0)
    g.pick("moe_layer_freq", ABSENT, 1)
    g.pick("norm_topk_prob", ABSENT, True)
    g.pick("rope_interleave", ABSENT, False)


def granitemoe(g):
    transformer(g, hd_null=False)
    experts(g)
    bias(g, "attention_bias")
    g.tie()
    rope(g)
    for name in ("embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"):
        g.pick(name, ABSENT, 2.0)


def phimoe(g):
    transformer(g, kv=8, kv_null=False, hd_null=False)
    experts(g)
    g.put(num_experts_per_tok=2)
    bias(g, "attention_bias", "lm_head_bias")
    g.window(ABSENT, None, None)
    g.tie()
    rope(g)


def glm4_moe(g):
    transformer(g, kv=8, kv_null=False, hd_null=False)
    _grouped(g, 2)
    _dense_first(g, 1)
    bias(g, "attention_bias", "use_qk_norm")
    g.pick("n_shared_experts", ABSENT, 1, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.tie()
    rope(g)
    g.pick("partial_rotary_factor", ABSENT, 0.5)
    g.pick("num_nextn_predict_layers", ABSENT, 1)


def ernie4_5_moe(g):
    transformer(g, kv=4, kv_null=False, hd_null=False, layers=(1, 8))
    experts(g, g.choice(["moe_num_experts", "num_experts"]), g.choice(["moe_k", "num_experts_per_tok"]))
    n = g.config["num_hidden_layers"]
    bias(g, "use_bias")
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    g.pick("moe_num_shared_experts", ABSENT, 0, 1, 2)
    g.pick("moe_layer_start_index", ABSENT, 0, 1, 2)
    g.pick("moe_layer_end_index", ABSENT, -1, n - 1, max(n - 2, 0))
    g.pick("moe_layer_interval", ABSENT, 1, 2)
    g.tie()
    rope(g)


def llama4_text(g):
    transformer(g, kv=8, kv_null=False, hd=128, hd_null=False, layers=(1, 8))
    number, _ = experts(g)
    if g.chance(0.6):
        g.put(num_experts_per_tok=number)
    n = g.config["num_hidden_layers"]
    g.put(intermediate_size_mlp=g.size(40, 900, 4))
    g.pick("interleave_moe_layer_step", ABSENT, 1, 2, 3)
    g.pick("moe_layers", ABSENT, None, [], sorted(g.sample(range(n), g.randint(1, n))))
    bias(g, "attention_bias", "use_qk_norm")
    g.tie()
    rope(g)
    if g.chance(0.5):
        g.put(no_rope_layers=[g.choice([0, 1]) for _ in range(n - 1)] + [1])
    else:
        g.pick("no_rope_layer_interval", ABSENT, 2)
    pattern(g, "chunked_attention", p=0.3)
    g.pick("attention_chunk_size", ABSENT, 128)


# ------------------------------------------------------------------------------------------------ state space, hybrid


def mamba(g):
    g.vocabulary()
    g.put(hidden_size=g.size(24, 500), num_hidden_layers=g.layers(1, 4))
    g.pick("state_size", ABSENT, 8, 16, 24)
    g.pick("expand", ABSENT, 1, 2, 3)
    g.pick("conv_kernel", ABSENT, 2, 3, 4)
    bias(g, "use_bias", "use_conv_bias")
    g.pick("time_step_rank", ABSENT, "auto", 5, 24)
    g.pick("layer_norm_epsilon", ABSENT, 1e-5)
    g.pick("hidden_act", ABSENT, "silu")
    g.tie()


falcon_mamba = mamba


def _heads_of(g, width):
    return g.choice([n for n in (2, 4, 6, 8, 12, 16) if width % n == 0])


def mamba2(g):
    g.vocabulary()
    expand, d = g.choice([1, 2, 2, 3]), g.choice([48, 96, 192, 384])
    heads = _heads_of(g, expand * d)
    g.put(hidden_size=d, num_hidden_layers=g.layers(1, 4), num_heads=heads, head_dim=expand * d // heads)
    g.put(expand=ABSENT if expand == 2 and g.chance() else expand)
    g.put(n_groups=g.choice([n for n in (1, 2, 4) if heads % n == 0]))
    g.pick("state_size", ABSENT, 16, 32)
    g.pick("conv_kernel", ABSENT, 3, 4)
    bias(g, "use_bias", "use_conv_bias")
    g.pick("chunk_size", ABSENT, 64)
    g.tie()
    g.pick("time_step_rank", ABSENT, "auto", 7)
    g.pick("rms_norm", ABSENT, True)


def jamba(g):
    transformer(g, kv=8, kv_null=False, hd_null=False, layers=(2, 8))
    experts(g, g.choice(["num_experts", "num_experts", "num_local_experts"]))
    if g.chance(0.15):
        g.config.pop("num_local_experts", None)
        g.put(num_experts=1, num_experts_per_tok=1)
    period = g.choice([1, 2, 3, 4])
    g.put(attn_layer_period=period, attn_layer_offset=g.randrange(period))
    period = g.choice([1, 2, 3])
    g.put(expert_layer_period=period, expert_layer_offset=g.randrange(period))
    g.pick("mamba_d_state", ABSENT, 8, 16)
    g.pick("mamba_d_conv", ABSENT, 3, 4)
    g.pick("mamba_expand", ABSENT, 1, 2, 3)
    g.pick("mamba_dt_rank", ABSENT, "auto", 9)
    bias(g, "mamba_conv_bias", "mamba_proj_bias")
    g.tie()


def qwen3_next(g):
    transformer(g, kv=2, kv_null=False, hd=256, hd_null=False, layers=(1, 8))
    bias(g, "attention_bias")
    keys = g.choice([1, 2, 4])
    g.put(
        linear_num_key_heads=keys,
        linear_num_value_heads=keys * g.choice([1, 2, 3]),
        linear_key_head_dim=g.choice([8, 16, 32]),
        linear_value_head_dim=g.choice([8, 16, 48]),
    )
    g.pick("linear_conv_kernel_dim", ABSENT, 3, 4)
    experts(g, "num_experts")
    sparse_layers(g)
    g.put(moe_intermediate_size=g.size(24, 300, 4), shared_expert_intermediate_size=g.size(24, 300, 4))
    pattern(g, "linear_attention", p=0.4)
    if "layer_types" not in g.config:
        g.pick("full_attention_interval", ABSENT, 2, 3)
    g.tie()
    g.pick("partial_rotary_factor", ABSENT, 0.25)


def nemotron_h(g):
    transformer(g, kv=8, kv_null=False, hd=128, hd_null=False, inter=False, act=None, eps="layer_norm_epsilon", layers=(2, 8))
    n = g.config["num_hidden_layers"]
    letters = "".join(g.choice("MM*-E") for _ in range(n))
    if g.chance(0.6):
        g.put(hybrid_override_pattern=letters)
    else:
        words = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
        g.put(**{g.choice(["layers_block_type", "layer_types"]): [words[c] for c in letters]})
    g.put(intermediate_size=g.size(40, 900, 4))
    heads = g.choice([2, 4, 8])
    g.put(mamba_num_heads=heads, mamba_head_dim=g.choice([8, 16, 24]), n_groups=g.choice([m for m in (1, 2, 4) if heads % m == 0]))
    g.pick("ssm_state_size", ABSENT, 16, 32)
    g.pick("conv_kernel", ABSENT, 3, 4)
    g.pick("chunk_size", ABSENT, 64)
    bias(g, "use_bias", "use_conv_bias", "mlp_bias", "attention_bias", "mamba_proj_bias")
    _grouped(g, 2)
    g.pick("n_shared_experts", ABSENT, 1)
    g.put(moe_intermediate_size=g.size(24, 300, 4), moe_shared_expert_intermediate_size=g.size(24, 300, 4))
    g.pick("moe_latent_size", ABSENT, None, 24, 40)
    g.pick("expand", ABSENT, 2)
    g.tie()
    g.pick("mlp_hidden_act", ABSENT, "relu2")


def granitemoehybrid(g):
    d, _ = transformer(g, hd_null=False, layers=(1, 8))
    bias(g, "attention_bias")
    expand = g.choice([1, 2, 2, 3])
    heads = _heads_of(g, expand * d)
    g.put(
        mamba_n_heads=heads,
        mamba_expand=ABSENT if expand == 2 and g.chance() else expand,
        mamba_d_head=g.choice([ABSENT, "auto", expand * d // heads]),
        mamba_n_groups=g.choice([ABSENT] + [m for m in (1, 2) if heads % m == 0]),
    )
    g.pick("mamba_d_state", ABSENT, 16, 32)
    g.pick("mamba_d_conv", ABSENT, 3, 4)
    g.pick("mamba_chunk_size", ABSENT, 64)
    bias(g, "mamba_conv_bias", "mamba_proj_bias")
    g.put(shared_intermediate_size=g.size(24, 600, 4))
    g.put(num_local_experts=0, num_experts_per_tok=0) if g.chance(0.3) else experts(g)
    old = g.chance()
    if g.chance(0.8):
        words = ("mamba", "attention") if old else ("linear_attention", "full_attention")
        pattern(g, *words, p=1.0)
    g.pick("position_embedding_type", ABSENT, None, "rope", "nope")
    g.tie()


# ------------------------------------------------------------------------------------------------ vision, multimodal


def _vision(g, act):
    heads, width = g.choice([2, 3, 4, 8]), g.choice([16, 24, 32, 64])
    patch = g.choice([8, 14, 16, 32])
    g.put(
        hidden_size=heads * width,
        num_hidden_layers=g.layers(),
        num_attention_heads=heads,
        intermediate_size=g.size(40, 1200, 4),
        image_size=patch * g.choice([2, 4, 7]) + g.choice([0, 0, 3]),
        patch_size=patch,
    )
    g.pick("num_channels", ABSENT, 1, 3, 4)
    g.pick("hidden_act", ABSENT, act)
    g.pick("layer_norm_eps", ABSENT, 1e-6)


def vit(g):
    _vision(g, "gelu")
    bias(g, "qkv_bias")
    g.pick("pooler_output_size", ABSENT, None, 40)
    if g.chance(0.2):
        p = g.config["patch_size"]
        g.put(image_size=[p * 4, p * 2])


def clip_vision_model(g):
    _vision(g, "quick_gelu")
    g.pick("projection_dim", ABSENT, 64)


def siglip_vision_model(g):
    _vision(g, "gelu_pytorch_tanh")
    bias(g, "vision_use_head")


def _sub(g, model_type, function, **fields):
    inner = Draw(model_type, g.index)
    inner.seed(f"{g.config['model_type']}/{g.index}/{model_type}")
    function(inner)
    inner.config.update(fields)
    return inner.config


def _tie_above(g, text):
    """The language model's own tie_word_embeddings is dropped, so that only the outer field speaks."""
    text.pop("tie_word_embeddings", None)
    g.tie()


def gemma3(g):
    text = _sub(g, "gemma3_text", gemma3_text)
    _tie_above(g, text)
    vision = _sub(g, "siglip_vision_model", siglip_vision_model, patch_size=14, image_size=14 * 16)
    vision.pop("num_channels", None)
    g.put(text_config=text, vision_config=vision, mm_tokens_per_image=g.choice([16, 64, 256]))


def llava(g):
    kind, function = g.choice([("llama", llama), ("mistral", mistral), ("qwen2", qwen2)])
    text = _sub(g, kind, function)
    _tie_above(g, text)
    kind, function = g.choice([("clip_vision_model", clip_vision_model), ("siglip_vision_model", siglip_vision_model)])
    g.put(text_config=text, vision_config=_sub(g, kind, function))
    bias(g, "multimodal_projector_bias")
    g.pick("vision_feature_layer", ABSENT, -1, -2, [-1, -2])
    g.pick("projector_hidden_act", ABSENT, "gelu")
    g.pick("vision_feature_select_strategy", ABSENT, "default", "full")


def pixtral(g):
    heads, width, patch = g.choice([2, 4, 8]), g.choice([16, 32, 64]), g.choice([14, 16])
    g.put(
        hidden_size=heads * width,
        num_hidden_layers=g.layers(),
        num_attention_heads=heads,
        intermediate_size=g.size(40, 1200, 4),
        patch_size=patch,
        image_size=patch * g.choice([4, 8]),
        hidden_act=g.choice(["gelu", "silu"]),
    )


def mistral3(g):
    text = _sub(g, "mistral", mistral)
    _tie_above(g, text)
    g.put(text_config=text, vision_config=_sub(g, "pixtral", pixtral))
    bias(g, "multimodal_projector_bias")
    g.pick("vision_feature_layer", ABSENT, -1, [-1, -2])
    g.pick("spatial_merge_size", ABSENT, 1, 2, 3)


DENSE = [
    llama,
    mistral,
    qwen2,
    qwen3,
    phi3,
    phi,
    gemma,
    gemma2,
    gemma3_text,
    gpt2,
    gpt_neox,
    gptj,
    opt,
    bloom,
    falcon,
    starcoder2,
    gpt_bigcode,
    cohere,
    cohere2,
    olmo,
    olmo2,
    olmo3,
    granite,
    ("glm", glm),
    ("glm4", glm4),
    smollm3,
    stablelm,
]
SPARSE = [mixtral, qwen2_moe, qwen3_moe, olmoe, gpt_oss, deepseek_v2, deepseek_v3, granitemoe, phimoe, glm4_moe, ernie4_5_moe, llama4_text]
STATE = [("mamba", mamba), ("falcon_mamba", falcon_mamba), mamba2, jamba, qwen3_next, nemotron_h, granitemoehybrid]
VISION = [vit, clip_vision_model, siglip_vision_model]
MULTI = [gemma3, llava, mistral3]
named = lambda items: {(i if isinstance(i, tuple) else (i.__name__, i))[0]: (i if isinstance(i, tuple) else (0, i))[1] for i in items}
DENSE, SPARSE, STATE, VISION, MULTI = map(named, (DENSE, SPARSE, STATE, VISION, MULTI))
FAMILIES = DENSE | SPARSE | STATE | VISION | MULTI
MIXERS = (
    "MambaMixer",
    "FalconMambaMixer",
    "Mamba2Mixer",
    "JambaMambaMixer",
    "Qwen3NextGatedDeltaNet",
    "NemotronHMamba2Mixer",
    "GraniteMoeHybridMambaLayer",
)


# ------------------------------------------------------------------------------------------------ counting


def build(config: dict):
    """The model on the meta device; pad_token_id is only an index into the vocabulary and may exceed a small one."""
    config = dict(config)
    kind = config["model_type"]
    if kind not in VISION and kind not in MULTI:
        config.setdefault("pad_token_id", None)
    if kind in MULTI:
        config["text_config"] = {"pad_token_id": None, **config["text_config"]}
    settings = CONFIG_MAPPING[kind].from_dict(config)
    auto = AutoModel if kind in VISION else AutoModelForImageTextToText if kind in MULTI else AutoModelForCausalLM
    options = {"attn_implementation": "eager"}
    if kind in SPARSE or kind in STATE:
        options["experts_implementation"] = "batched_mm"  # one bmm per token and chosen expert: counted exactly, runs on meta
    with torch.device("meta"):
        return auto.from_config(settings, **options).eval()


def count(model, **inputs):
    """Total matmul FLOPs, those outside the mixers' own code, and by operator; and the output."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        output = model(**inputs)
    counts = {module: sum(ops.values()) for module, ops in counter.get_flop_counts().items()}
    root = type(model).__name__
    own = 0
    for name, module in model.named_modules():
        if type(module).__name__ in MIXERS:
            own += counts.get(f"{root}.{name}", 0)
            own -= sum(counts.get(f"{root}.{name}.{child}", 0) for child, _ in module.named_children())
    by_operator = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()} if counter.get_total_flops() else {}
    return counter.get_total_flops(), counter.get_total_flops() - own, by_operator, output


def measure(model, kind: str) -> dict:
    found: dict = {"prefill": None, "decode": None, "notes": []}
    with torch.device("meta"):
        ids, mask = torch.zeros((BATCH, PROMPT), dtype=torch.long), torch.ones((BATCH, PROMPT), dtype=torch.long)
        token, longer = torch.zeros((BATCH, 1), dtype=torch.long), torch.ones((BATCH, PROMPT + 1), dtype=torch.long)
    masked = kind not in STATE  # the recurrent layers read the mask's values, which meta tensors have not; none means all ones
    first = {"attention_mask": mask} if masked else {}
    second = {"attention_mask": longer} if masked else {}
    found["prefill"], found["prefill_outside"], found["operators"], _ = count(model, input_ids=ids, use_cache=False, **first)
    try:
        with torch.no_grad(), torch.device("meta"):
            past = model(input_ids=ids, use_cache=True, **first)
    except ValueError as error:  # a hybrid drawn without a single attention layer
        assert "get_seq_length" in str(error)
        found["notes"].append("no decode: Transformers' cache wants one attention layer at least")
        found["decode"] = found["decode_outside"] = found["decode_operators"] = None
        return found
    cache = {name: getattr(past, name) for name in ("past_key_values", "cache_params") if getattr(past, name, None) is not None}
    found["decode"], found["decode_outside"], found["decode_operators"], _ = count(
        model, input_ids=token, use_cache=True, **second, **cache
    )
    return found


def picture(model, config) -> int:
    size = config["image_size"]
    height, width = size if isinstance(size, list) else (size, size)
    with torch.device("meta"):
        pixels = torch.zeros((BATCH, config.get("num_channels", 3), height, width))
    return count(model, pixel_values=pixels)[0]


def windows(config: dict, model) -> list[str]:
    settings = model.config.get_text_config()
    span = getattr(settings, "sliding_window", None)
    kinds = getattr(settings, "layer_types", None)
    if span and span < PROMPT + 1 and (kinds is None or "sliding_attention" in kinds):
        which = "all layers" if kinds is None else f"the sliding layers {[i for i, k in enumerate(kinds) if k == 'sliding_attention']}"
        return [f"decode attends {span} keys in {which}; prefill counts the whole 64 x 64 square everywhere"]
    return []


def row(kind: str, index: int) -> dict:
    g = Draw(kind, index)
    FAMILIES[kind](g)
    config = g.config
    model = build(config)
    result = {
        "model_type": kind,
        "config": config,
        "parameters": sum(p.numel() for p in model.parameters()),
        "prefill_matmul_flops": None,
        "decode_matmul_flops": None,
    }
    notes: list[str] = []
    if kind in VISION:
        result["prefill_matmul_flops"] = picture(model, config)
        notes.append("prefill is 2 images of image_size; the patch convolution is counted")
        result["note"] = "; ".join(notes)
        return result
    if kind in MULTI:
        notes.append("FLOPs are of text alone: language model and LM head")
    found = measure(model, kind)
    notes += windows(config, model) + found["notes"]
    prefill, decode = found["prefill"], found["decode"]
    if kind == "llama4_text":
        settings = model.config
        if settings.moe_layers and settings.num_experts_per_tok != settings.num_local_experts:
            prefill = decode = None
            notes.append("no FLOPs: Transformers runs every expert on every token")
    if kind in STATE:
        result["prefill_flops_outside_mixers"], result["decode_flops_outside_mixers"] = found["prefill_outside"], found["decode_outside"]
        if kind in ("mamba", "falcon_mamba"):
            result["prefill_flops_by_operator"], result["decode_flops_by_operator"] = found["operators"], found["decode_operators"]
            notes.append("prefill includes the convolution (by_operator) and the contraction of the state with C")
        elif any(type(m).__name__ in MIXERS for m in model.modules()):
            prefill = decode = None
            notes.append("no total: the reference convolution and scan differ from fused ones")
    if kind.startswith("deepseek"):
        notes.append("decode applies kv_b_proj to all 65 cached latents")
    result["prefill_matmul_flops"], result["decode_matmul_flops"] = prefill, decode
    result["note"] = "; ".join(notes)
    return result


def check() -> None:
    """The harness against the counts filled in the reference."""
    wrong = 0
    for line in csv.DictReader(open(HERE / "torch_counts.csv")):
        config = json.load(open(HERE / "configs" / line["config"]))
        model = build(config)
        names = list(line)
        got = [sum(p.numel() for p in model.parameters())]
        got += [measure(model, config["model_type"])[k] for k in ("prefill", "decode")] if line[names[3]] else []
        want = [int(line[name]) for name in names[2:] if line[name]]
        wrong += got != want
        print("same" if got == want else f"DIFFERS {got} {want}", line["model"], flush=True)
    print(f"{wrong} differ")


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked == ["--check"]:
        check()
        sys.exit()
    target = sys.stdout if asked else open(OUTPUT, "w")
    for kind in asked or FAMILIES:
        for index in range(COUNT):
            try:
                print(json.dumps(row(kind, index)), file=target, flush=True)
            except Exception as error:
                g = Draw(kind, index)
                try:
                    FAMILIES[kind](g)
                finally:
                    print(
                        f"FAILED {kind}/{index}: {type(error).__name__}: {str(error)[:300]} {json.dumps(g.config)}",
                        file=sys.stderr,
                        flush=True,
                    )
