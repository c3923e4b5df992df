"""Random configs of sparse attention, of further hybrids and of encoders, drawn, built and counted as `transformers_random.py` does it.

    python transformers_hybrids.py [TYPE ...]    # writes transformers_hybrids.jsonl (all types, or only those to stdout)

Each line has the keys of that script's, and `saved`, what `to_json_string` of Transformers makes of the config.
torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
import transformers_random as base
from transformers_random import ABSENT, Draw, _dense_first, _grouped, bias, rope, transformer

OUTPUT = Path(__file__).parent / "transformers_hybrids.jsonl"
LONGEST = base.PROMPT + 1

# ------------------------------------------------------------------------------------------------ sparse attention


def _latent(g: Draw, *ranks: Any) -> None:
    g.put(num_key_value_heads=g.config["num_attention_heads"])
    g.pick("q_lora_rank", *ranks)
    g.put(kv_lora_rank=g.choice([16, 32, 64]), qk_nope_head_dim=g.choice([16, 24, 32]), v_head_dim=g.choice([16, 24, 48]))
    g.put(qk_rope_head_dim=g.choice([8, 16, 32]))
    bias(g, "attention_bias")


def _mlps(g: Draw, default: int) -> None:
    if g.chance(0.4):
        g.put(mlp_layer_types=[g.choice(["dense", "sparse"]) for _ in range(g.config["num_hidden_layers"])])
    elif default:
        _dense_first(g, default)
    _grouped(g, 2)
    g.pick("n_shared_experts", ABSENT, 1, 2)
    g.put(moe_intermediate_size=g.size(24, 300, 4))


def _indexer(g: Draw) -> None:
    turned = g.config["qk_rope_head_dim"]
    g.pick("index_topk", ABSENT, 65, 100, 16)
    g.put(index_n_heads=g.choice([1, 2, 4, 8]), index_head_dim=turned + g.choice([0, 8, 24]))


def deepseek_v32(g: Draw) -> None:
    transformer(g, kv="H", hd="fixed")
    _latent(g, ABSENT, 24, 96)
    _mlps(g, 3)
    _indexer(g)
    g.tie()
    rope(g)


def glm_moe_dsa(g: Draw) -> None:
    deepseek_v32(g)
    n, how = g.config["num_hidden_layers"], g.choice(["", "types", "pattern", "period"])
    letters = "F" + "".join(g.choice("FS") for _ in range(n - 1))
    if how == "types":
        g.put(indexer_types=[{"F": "full", "S": "shared"}[letter] for letter in letters])
    elif how == "pattern":
        g.put(index_topk_pattern=letters)
    elif how == "period":
        g.pick("index_topk_freq", 1, 2, 3)
        g.pick("index_skip_topk_offset", ABSENT, 1, 2, 3)


def deepseek_v4(g: Draw) -> None:
    """Rates of compression that divide the prompt, and selections of all its entries: else Transformers masks, and counts what it masks."""
    g.vocabulary()
    heads, groups = g.choice([4, 8]), g.choice([1, 2, 4])
    g.put(hidden_size=g.size(64, 400), num_hidden_layers=g.layers(2, 6), num_attention_heads=heads, num_key_value_heads=1)
    g.put(head_dim=g.choice([64, 96]), q_lora_rank=g.choice([24, 48]), o_groups=groups, o_lora_rank=g.choice([16, 40]))
    g.put(index_n_heads=g.choice([2, 4]), index_head_dim=g.choice([32, 64]), moe_intermediate_size=g.size(24, 300, 4))
    g.put(qk_rope_head_dim=g.choice([8, 16]))
    g.pick("index_topk", ABSENT, 40, 600)
    g.pick("hc_mult", ABSENT, 2, 3)
    g.pick("hc_sinkhorn_iters", ABSENT, 3)
    g.pick("sliding_window", ABSENT, 80)
    base.experts(g, "n_routed_experts")
    bias(g, "mlp_bias")
    n, how = g.config["num_hidden_layers"], g.choice(["", "ratios", "types"])
    if how == "ratios":
        g.put(compress_ratios=[g.choice([0, 4, 128]) for _ in range(n + 1)])
    elif how == "types":
        kinds = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
        g.put(layer_types=[g.choice(kinds) for _ in range(n)])
    if g.chance():
        g.put(compress_rates={"compressed_sparse_attention": g.choice([2, 4, 8]), "heavily_compressed_attention": g.choice([16, 32])})
    else:
        g.put(compress_rate_hca=g.choice([16, 64]))
        g.pick("compress_rate_csa", ABSENT, 8)
    g.pick("num_nextn_predict_layers", ABSENT, 1)
    g.tie()


def glm4_moe_lite(g: Draw) -> None:
    transformer(g, kv="H", hd="fixed")
    _latent(g, ABSENT, 24, 96, None)
    _mlps(g, 0)
    g.tie()
    rope(g)


# ------------------------------------------------------------------------------------------------ hybrids


def nemotron_h_2026(g: Draw) -> None:
    """Nemotron-H with compressed experts, and its number of layers from the list alone."""
    base.nemotron_h(g)
    g.config["model_type"] = "nemotron_h"
    g.put(moe_latent_size=g.choice([24, 40, None]))
    if g.index % 2 and "hybrid_override_pattern" not in g.config:
        del g.config["num_hidden_layers"]


def lfm2(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False, hd_null=False, act=None, eps="norm_eps")
    bias(g, "conv_bias", "block_auto_adjust_ff_dim")
    g.pick("conv_L_cache", ABSENT, 2, 4)
    g.pick("block_multiple_of", ABSENT, 8, 64)
    g.pick("block_ffn_dim_multiplier", ABSENT, 1.0, 1.3)
    if g.chance():
        g.put(block_ff_dim=g.config.pop("intermediate_size"))
    n = g.config["num_hidden_layers"]
    attending = sorted(g.sample(range(n), g.randint(0, n)))
    if g.chance():
        g.put(full_attn_idxs=attending)
    elif g.chance():
        g.put(layer_types=["full_attention" if number in attending else "conv" for number in range(n)])
    g.pick("tie_embedding", ABSENT, True, False)
    rope(g)


def lfm2_moe(g: Draw) -> None:
    transformer(g, kv=8, kv_null=False, hd_null=False, act=None, eps="norm_eps")
    bias(g, "conv_bias", "use_expert_bias")
    g.pick("conv_L_cache", ABSENT, 2, 4)
    g.put(layer_types=[g.choice(["full_attention", "conv"]) for _ in range(g.config["num_hidden_layers"])])
    g.pick("num_dense_layers", ABSENT, 0, 1, 3)
    g.put(moe_intermediate_size=g.size(24, 300, 4))
    base.experts(g, "num_experts")
    g.tie()


def _mamba2(g: Draw, inner: int) -> None:
    heads = base._heads_of(g, inner)
    g.put(mamba_n_heads=heads, mamba_d_head=g.choice([ABSENT, "auto", inner // heads]))
    g.put(mamba_n_groups=g.choice([ABSENT] + [number for number in (1, 2) if heads % number == 0]))
    g.pick("mamba_d_state", ABSENT, 16, 32)
    g.pick("mamba_d_conv", ABSENT, 3, 4)
    bias(g, "mamba_conv_bias", "mamba_proj_bias", "attention_bias", "mlp_bias")


def bamba(g: Draw) -> None:
    d, _ = transformer(g, kv=8, hd_null=False)
    expand = g.pick("mamba_expand", ABSENT, 1, 2, 3)
    _mamba2(g, d * (2 if expand is ABSENT else expand))
    n = g.config["num_hidden_layers"]
    g.put(attn_layer_indices=g.choice([ABSENT, None, [0], sorted(g.sample(range(n), g.randint(0, n)))]))
    g.tie()


def falcon_h1(g: Draw) -> None:
    d, _ = transformer(g, kv=8, hd_null=False)
    inner = g.choice([48, 96, 192, None])
    expand = g.pick("mamba_expand", ABSENT, 1, 3)
    g.put(mamba_d_ssm=inner)
    _mamba2(g, inner or d * (2 if expand is ABSENT else expand))
    bias(g, "mamba_rms_norm", "projectors_bias", "mamba_norm_before_gate")
    g.pick("embedding_multiplier", ABSENT, 2.0)
    g.tie()


# ------------------------------------------------------------------------------------------------ encoders


def _encoder(g: Draw, prefix: str, *heads: str) -> None:
    head = g.pick("architectures", ABSENT, *([f"{prefix}{head}"] for head in heads))
    if head is not ABSENT and "Classification" in head[0] and g.chance():
        g.put(id2label={str(number): f"LABEL_{number}" for number in range(g.randint(2, 5))})


BERT_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def bert(g: Draw) -> None:
    transformer(g, kv=None, hd="fixed", eps="layer_norm_eps")
    g.pick("type_vocab_size", ABSENT, 1, 3)
    g.tie()
    name = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}[g.config["model_type"]]
    _encoder(g, name, *BERT_HEADS, *(["ForPreTraining"] if name == "Bert" else []))


def modernbert(g: Draw) -> None:
    transformer(g, kv=None, hd="fixed", act=None, eps="norm_eps", layers=(1, 8))
    g.pick("hidden_activation", ABSENT, "gelu", "silu")
    bias(g, "attention_bias", "mlp_bias", "norm_bias", "decoder_bias", "classifier_bias")
    g.pick("local_attention", ABSENT, 8, 20, 200)
    if g.chance(0.3):
        n = g.config["num_hidden_layers"] - 1
        g.put(layer_types=["full_attention", *(g.choice(["full_attention", "sliding_attention"]) for _ in range(n))])
    else:
        g.pick("global_attn_every_n_layers", ABSENT, 1, 2)
    g.tie()
    _encoder(g, "ModernBert", *BERT_HEADS)


# ------------------------------------------------------------------------------------------------ encoders with a decoder


def t5(g: Draw) -> None:
    g.vocabulary()
    heads, width = g.choice([2, 4, 6]), g.choice([16, 24, 32])
    g.put(d_model=g.choice([heads * width, 48, 80]), num_heads=heads, d_kv=width, d_ff=g.size(40, 900, 4), num_layers=g.layers())
    g.pick("num_decoder_layers", ABSENT, None, 1, 3)
    g.pick("feed_forward_proj", ABSENT, "relu", "gated-gelu", "gated-silu", "gelu")
    g.pick("relative_attention_num_buckets", ABSENT, 8, 20)
    g.pick("tie_word_embeddings", ABSENT, True)


def whisper(g: Draw) -> None:
    g.vocabulary()
    heads, width, mlp = g.choice([2, 4, 6]), g.choice([16, 24, 32]), g.size(40, 900, 4)
    g.put(d_model=heads * width, encoder_attention_heads=heads, decoder_attention_heads=heads, encoder_ffn_dim=mlp, decoder_ffn_dim=mlp)
    g.put(encoder_layers=g.layers(), decoder_layers=g.layers(), max_source_positions=g.choice([20, 32, 64]))
    g.pick("num_mel_bins", ABSENT, 16, 128)
    g.pick("max_target_positions", ABSENT, 40)
    bias(g, "scale_embedding")
    g.tie()


# ------------------------------------------------------------------------------------------------ counting

base.MIXERS = (*base.MIXERS, "Lfm2ShortConv", "Lfm2MoeShortConv", "BambaMixer", "FalconH1Mixer")
SPARSE: dict[str, Any] = {
    "deepseek_v32": deepseek_v32,
    "glm_moe_dsa": glm_moe_dsa,
    "deepseek_v4": deepseek_v4,
    "glm4_moe_lite": glm4_moe_lite,
}
STATE: dict[str, Any] = {
    "nemotron_h": nemotron_h_2026,
    "lfm2": lfm2,
    "lfm2_moe": lfm2_moe,
    "bamba": bamba,
    "falcon_h1": falcon_h1,
}
ENCODERS: dict[str, Any] = {"bert": bert, "roberta": bert, "xlm-roberta": bert, "modernbert": modernbert}
BOTH: dict[str, Any] = {"t5": t5, "whisper": whisper}
FAMILIES = SPARSE | STATE | ENCODERS | BOTH


def build(config: dict[str, Any]) -> tuple[Any, Any]:
    """The model on the meta device, and its config."""
    settings = base.CONFIG_MAPPING[config["model_type"]].from_dict(json.loads(json.dumps(config)))
    saved = json.loads(settings.to_json_string())
    settings.pad_token_id = None if config["model_type"] not in ENCODERS else 1
    if config["model_type"] in BOTH:
        made = {"t5": transformers.T5ForConditionalGeneration, "whisper": transformers.WhisperForConditionalGeneration}[
            config["model_type"]
        ]
        settings.decoder_start_token_id, settings._attn_implementation = 1, "eager"
        with torch.device("meta"):
            return made(settings).eval(), saved
    if config["model_type"] in ENCODERS:
        named = config.get("architectures")
        with torch.device("meta"):
            made = getattr(transformers, named[0]) if named else base.AutoModel._model_mapping[type(settings)]
            settings._attn_implementation = "eager"
            return made(settings).eval(), saved
    with torch.device("meta"):
        model = base.AutoModelForCausalLM.from_config(settings, attn_implementation="eager", experts_implementation="batched_mm").eval()
    return model, saved


def distinct(model: Any) -> int:
    """Parameters, tied ones once."""
    return sum({id(tensor): tensor.numel() for tensor in model.parameters()}.values())


def generated(model: Any, config: dict[str, Any]) -> dict[str, int]:
    """FLOPs of the encoder with the first token of the decoder, and of its second token alone."""
    with torch.device("meta"):
        token = torch.zeros((base.BATCH, 1), dtype=torch.long)
        ids = torch.zeros((base.BATCH, base.PROMPT), dtype=torch.long)
        frames = torch.zeros((base.BATCH, config.get("num_mel_bins", 80), 2 * config.get("max_source_positions", 1500)))
        given = {"input_features": frames} if "encoder_layers" in config else {"input_ids": ids}
        first = base.count(model, **given, decoder_input_ids=token, use_cache=True)
        past, encoded = first[3].past_key_values, (first[3].encoder_last_hidden_state,)
    second = base.count(model, encoder_outputs=encoded, decoder_input_ids=token, past_key_values=past, use_cache=True)
    return {"first_token_matmul_flops": first[0], "second_token_matmul_flops": second[0]}


def row(kind: str, index: int) -> dict[str, Any]:
    g = Draw(kind, index)
    FAMILIES[kind](g)
    model, saved = build(g.config)
    result: dict[str, Any] = {"model_type": kind, "config": g.config, "saved": saved, "parameters": distinct(model)}
    if kind == "deepseek_v4":
        with torch.device("meta"):
            given = (torch.zeros((base.BATCH, base.PROMPT), dtype=torch.long), torch.ones((base.BATCH, base.PROMPT), dtype=torch.long))
        result["prefill_matmul_flops"] = base.count(model, input_ids=given[0], attention_mask=given[1], use_cache=False)[0]
        return result
    if getattr(model.config, "index_topk", LONGEST) < LONGEST:  # Transformers masks the keys that are not selected, and counts them
        return result
    if kind in ENCODERS:
        with torch.device("meta"):
            ids = torch.zeros((base.BATCH, base.PROMPT), dtype=torch.long)
            positions = {} if kind == "modernbert" else {"position_ids": torch.zeros((1, base.PROMPT), dtype=torch.long)}
        result["prefill_matmul_flops"] = base.count(model, input_ids=ids, **positions)[0]
        return result
    if kind in BOTH:
        return result | generated(model, g.config)
    recurrent = kind in STATE
    base.STATE = FAMILIES if recurrent else {}
    found = base.measure(model, kind)
    for phase in ("prefill", "decode"):
        key = f"{phase}_flops_outside_mixers" if recurrent else f"{phase}_matmul_flops"
        value = found[f"{phase}_outside"] if recurrent else found[phase]
        if value is not None:
            result[key] = value
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
