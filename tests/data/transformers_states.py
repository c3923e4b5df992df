"""Random configs of layers with shared weights, of further recurrences and of experts without weights, as `transformers_random.py` draws them.

    python transformers_states.py [TYPE ...]    # writes transformers_states.jsonl (all types, or only those to stdout)

Each line has the keys of that script's, `saved`, what `to_json_string` of Transformers makes of the config, and `kept_elements`, those of
the cache and the states behind a prompt.
Of LongCat-Flash, Transformers holds matrices of the experts without weights, which nothing reads: `parameters` is without them. Its loop
over experts needs the choices of real tokens; here every token takes the mean number of experts with weights, in products of the same
shapes. Without tied embeddings Transformers ties nothing, the shared blocks of Zamba neither: there are none such here. In decode its RWKV
mixes the sequences of a batch, a product per pair: counted is one sequence, times the batch. What xLSTM's kernels count in prefill depends
on their chunks: there, and in the state-space mixers, what is outside is counted.
torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cache_elements
import torch
import transformers_random as base
from transformers.models.longcat_flash import modeling_longcat_flash as longcat
from transformers_random import ABSENT, Draw, bias, rope, transformer

OUTPUT = Path(__file__).parent / "transformers_states.jsonl"
base.MIXERS = ("Zamba2MambaMixer", "ZambaMambaMixer", "BailingHybridDeltaAttention", "xLSTMBackend")

# ------------------------------------------------------------------------------------------------ configs


def longcat_flash(g: Draw) -> None:
    g.vocabulary()
    g.put(hidden_size=g.size(64, 400), num_layers=g.layers(1, 4), num_attention_heads=g.choice([2, 4, 6]))
    g.put(ffn_hidden_size=g.size(40, 900, 4), expert_ffn_hidden_size=g.size(24, 300, 4))
    g.pick("q_lora_rank", ABSENT, 24, 96)
    g.put(kv_lora_rank=g.choice([16, 32, 64]), qk_nope_head_dim=g.choice([16, 24]), v_head_dim=g.choice([16, 24, 48]))
    turned = g.choice([8, 16])
    g.put(qk_rope_head_dim=turned, head_dim=turned)
    count = g.choice([4, 8])
    zero, chosen = g.choice([(0, 3), (count, 2), (count, 4), (count // 2, 3)])
    g.put(n_routed_experts=count, zero_expert_num=zero, moe_topk=chosen)
    bias(g, "attention_bias")
    g.pick("router_bias", ABSENT, True)
    g.pick("zero_expert_type", ABSENT, "identity")
    g.pick("hidden_act", ABSENT, "gelu")
    g.tie()
    rope(g)


def bailing_hybrid(g: Draw) -> None:
    transformer(g, kv=None, hd="fixed")
    heads = g.config["num_attention_heads"]
    g.put(num_key_value_heads=heads)
    g.pick("q_lora_rank", ABSENT, None, 24)
    g.put(kv_lora_rank=g.choice([16, 32]), qk_nope_head_dim=g.choice([16, 24]), v_head_dim=g.choice([16, 24]), qk_rope_head_dim=8)
    g.put(head_dim=g.choice([8, 16, 24]), moe_intermediate_size=g.size(24, 300, 4))
    number = g.choice([4, 8])
    g.put(num_experts=number, num_experts_per_tok=g.randint(1, 4), n_group=2, topk_group=2)
    g.pick("num_shared_experts", ABSENT, 1, 2)
    g.pick("first_k_dense_replace", ABSENT, 0, 1)
    g.pick("layer_group_size", ABSENT, 2, 3)
    g.pick("short_conv_kernel_size", ABSENT, 3)
    n = g.config["num_hidden_layers"]
    if g.chance(0.4):
        g.put(layer_types=[g.choice(["full_attention", "linear_attention"]) for _ in range(n)])
    if g.chance(0.4):
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(n)])
    g.pick("num_nextn_predict_layers", ABSENT, 1)
    bias(g, "kda_safe_gate", "attention_bias")
    rope(g)


def rwkv(g: Draw) -> None:
    g.vocabulary()
    g.put(hidden_size=g.size(24, 500), num_hidden_layers=g.layers(2, 5))
    g.pick("attention_hidden_size", ABSENT, None, 48, 160)
    g.pick("intermediate_size", ABSENT, None, 100, 400)
    g.pick("context_length", ABSENT, 512)
    g.pick("rescale_every", ABSENT, 0, 2)
    g.pick("layer_norm_epsilon", ABSENT, 1e-6)
    g.tie()


def xlstm(g: Draw) -> None:
    g.vocabulary()
    heads = g.choice([2, 4])
    g.put(hidden_size=128 * g.choice([1, 2, 3]), num_heads=heads)
    g.put(**{g.choice(["num_hidden_layers", "num_blocks"]): g.layers(1, 4)})
    if "num_blocks" in g.config:
        g.put(num_hidden_layers=g.config["num_blocks"])
    g.pick("embedding_dim", ABSENT, g.config["hidden_size"])
    g.pick("qk_dim_factor", ABSENT, 0.5, 1.0)
    g.pick("v_dim_factor", ABSENT, 1.0, 2.0)
    g.pick("ffn_proj_factor", ABSENT, 2.0, 1.3)
    g.pick("ffn_round_up_to_multiple_of", ABSENT, 32, 8)
    g.pick("weight_mode", ABSENT, "single", "fused")
    g.pick("chunk_size", ABSENT, 32)
    g.tie()


def _hybrids(g: Draw, first: list[str]) -> None:
    rest = range(g.config["num_hidden_layers"] - len(first) - 1)
    g.put(layers_block_type=[*first, *(g.choice(["mamba", "hybrid"]) for _ in rest), "hybrid"])


def zamba2(g: Draw) -> None:
    g.vocabulary()
    d, n = g.choice([48, 96, 192]), g.layers(3, 8)
    heads = g.choice([2, 4, 6])
    g.put(hidden_size=d, num_hidden_layers=n, num_attention_heads=heads)
    expand = g.pick("mamba_expand", ABSENT, 1, 3)
    inner = d * (2 if expand is ABSENT else expand)
    g.put(n_mamba_heads=g.choice([k for k in (2, 4, 8) if inner % k == 0]))
    g.pick("mamba_ngroups", ABSENT, 1, 2)
    g.pick("mamba_d_state", ABSENT, 16)
    g.pick("mamba_d_conv", ABSENT, 3)
    g.pick("intermediate_size", ABSENT, None, 200)
    g.pick("adapter_rank", ABSENT, 8, 24)
    g.pick("num_mem_blocks", ABSENT, 2, 3)
    g.pick("num_key_value_heads", ABSENT, None, heads)
    bias(g, "use_shared_attention_adapter", "use_mem_rope", "add_bias_linear", "use_conv_bias")
    _hybrids(g, ["mamba", "hybrid"])
    g.pick("tie_word_embeddings", ABSENT, True)


def zamba(g: Draw) -> None:
    g.vocabulary()
    d, n = g.choice([48, 96, 192]), g.layers(8, 10)
    heads = g.choice([2, 4, 6])
    g.put(hidden_size=d, num_hidden_layers=n, num_attention_heads=heads, num_key_value_heads=g.choice([heads, heads // 2]))
    g.pick("mamba_expand", ABSENT, 1, 3)
    g.put(intermediate_size=g.size(40, 900, 4))
    g.pick("n_mamba_heads", ABSENT, 1, 4)
    g.pick("mamba_d_state", ABSENT, 8)
    g.pick("mamba_d_conv", ABSENT, 3)
    g.pick("mamba_dt_rank", ABSENT, "auto", 7)
    g.pick("attn_layer_period", ABSENT, 2)
    if g.config.get("attn_layer_period") == 2:
        g.put(attn_layer_offset=g.choice([0, 1]))
    if g.chance():
        _hybrids(g, ["mamba", "mamba", "hybrid"])  # Transformers ties the others to the third
    bias(g, "mamba_conv_bias", "mamba_proj_bias")
    g.pick("tie_word_embeddings", ABSENT, True)


FAMILIES: dict[str, Any] = {kind.__name__: kind for kind in (longcat_flash, bailing_hybrid, rwkv, xlstm, zamba2, zamba)}

# ------------------------------------------------------------------------------------------------ counting


def _mean_choice(self: Any, hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The products of as many experts per token as have weights, on average."""
    del weights
    rows = index.numel() * self.num_routed_experts // self.total_experts
    given = hidden.new_zeros((rows, 1, self.hidden_size))
    gate, up = torch.bmm(given, hidden.new_zeros((rows, self.hidden_size, 2 * self.intermediate_size))).chunk(2, dim=-1)
    torch.bmm(self.act_fn(gate) * up, hidden.new_zeros((rows, self.intermediate_size, self.hidden_size)))
    return torch.zeros_like(hidden)


longcat.LongcatFlashExperts.forward = _mean_choice


def without_weights(model: Any) -> int:
    """Rows of matrices that Transformers holds for experts without weights."""
    held = [module for module in model.modules() if type(module).__name__ == "LongcatFlashExperts"]
    return sum(module.zero_expert_num * 2 * module.intermediate_size * module.hidden_size for module in held)


def elements(past: Any) -> int:
    """Elements of the cache and the states of a prompt."""
    if past.get("state") is not None:
        return sum(part.numel() for part in past["state"])
    cache = next(past[name] for name in ("cache", "past_key_values", "cache_params") if past.get(name) is not None)
    if hasattr(cache, "rnn_state"):
        return sum(part.numel() for parts in cache.rnn_state.values() for part in parts)
    return sum(map(cache_elements.kept, cache.layers))


def row(kind: str, index: int) -> dict[str, Any]:
    g = Draw(kind, index)
    FAMILIES[kind](g)
    settings = base.CONFIG_MAPPING[kind].from_dict(json.loads(json.dumps(g.config)))
    saved = json.loads(settings.to_json_string())
    settings.pad_token_id = None
    with torch.device("meta"):
        model = base.AutoModelForCausalLM.from_config(settings, attn_implementation="eager", experts_implementation="batched_mm").eval()
        ids, token = (torch.zeros((base.BATCH, length), dtype=torch.long) for length in (base.PROMPT, 1))
        mask, longer = (torch.ones((base.BATCH, length), dtype=torch.long) for length in (base.PROMPT, base.PROMPT + 1))
    parameters = sum({id(tensor): tensor.numel() for tensor in model.parameters()}.values()) - without_weights(model)
    result: dict[str, Any] = {"model_type": kind, "config": g.config, "saved": saved, "parameters": parameters}
    masked = kind == "longcat_flash"
    total, outside, _, _ = base.count(model, input_ids=ids, use_cache=False, **({"attention_mask": mask} if masked else {}))
    mixing = any(type(module).__name__ in base.MIXERS for module in model.modules())
    result["prefill_flops_outside_mixers" if mixing else "prefill_matmul_flops"] = outside if mixing else total
    try:
        with torch.no_grad(), torch.device("meta"):
            past = model(input_ids=ids, use_cache=True, **({"attention_mask": mask} if masked else {}))
    except ValueError as error:  # a hybrid drawn without a single attention layer
        assert "get_seq_length" in str(error)
        return result
    except RuntimeError:  # states of RWKV as wide as the hidden size, whatever the width of its attention
        assert settings.attention_hidden_size != settings.hidden_size
        return result
    kept = {name: past[name] for name in ("cache", "past_key_values", "cache_params", "state") if past.get(name) is not None}
    result["kept_elements"] = elements(past)
    if kind == "rwkv":
        token, kept = token[:1], {"state": [part[:1] for part in past["state"]]}
    total, outside, _, _ = base.count(model, input_ids=token, use_cache=True, **kept, **({"attention_mask": longer} if masked else {}))
    total *= base.BATCH if kind == "rwkv" else 1
    whole = kind == "xlstm" or not mixing
    result["decode_matmul_flops" if whole else "decode_flops_outside_mixers"] = total if whole else outside
    return result


if __name__ == "__main__":
    asked = sys.argv[1:]
    target = sys.stdout if asked else OUTPUT.open("w")
    for kind in asked or FAMILIES:
        for index in range(base.COUNT):
            try:
                print(json.dumps(row(kind, index)), file=target, flush=True)
            except Exception as error:
                print(f"FAILED {kind}/{index}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr, flush=True)
