"""Ten thousand broken configs, and files that are none: each gives a graph that adds up, or one line that names the field."""

from __future__ import annotations

import json
import os
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sympy import nan, oo, zoo

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.families import MODEL_TYPES as KNOWN
from symroof.architectures.families import multimodal
from symroof.errors import quote
from tests.steps import EVERYTHING

CONFIGS, CALLS, MEGABYTES = 10_000, 500_000, 200
"""So many configs are read, each within so many calls and returns and so many megabytes, however busy the machine is."""

Config = dict[str, Any]
PUBLISHED: dict[str, Config] = {}
for _path in catalogue().values():
    _content = json.loads(_path.read_text())
    PUBLISHED.setdefault(_content.get("model_type") or _content["_class_name"], _content)
ALL_FIELDS = sorted({(name, json.dumps(value)) for config in PUBLISHED.values() for name, value in config.items() if name[0] != "_"})


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 7, -1, 1.5, 1e-300, 10**12, 10**13, 10**30, 10**900, -(10**30)),
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "4096",
        "auto",
        "silu",
        "x" * 5000,
        "größe\u2028",
        "two\nlines",
        "\x1b[31mred\x07",
        "\ud800",
    ),
    *([], [[]], [1, 2], ["full_attention"], [None, {}], [0] * 10**4, ["x" * 1000] * 3, deep(15)),
    *({}, {"": None}, {"rope_type": []}, {"a": {"b": deep(10)}}, {"factor": float("nan"), "partial_rotary_factor": "x"}),
    deep(100),
)
DEEP = 1
"""So many at the end of it are refused wherever they stand."""

METHODS = (
    *("gptq", "awq", "fp8", "mxfp4", "bitsandbytes", "compressed-tensors", "hqq", "quanto", "unheard", "\x1b[2J\n"),
    *(None, 8, [], {}, ["gptq"]),
)
PARTS = ("text_config", "vision_config")


def replaced(rng: random.Random, config: Config) -> set[str]:
    names = set(rng.sample(sorted(config), rng.randint(1, min(3, len(config)))))
    config.update({name: rng.choice(JUNK) for name in names})
    return names


def dropped(rng: random.Random, config: Config) -> set[str]:
    names = set(rng.sample(sorted(config), rng.randint(1, min(4, len(config)))))
    for name in names:
        del config[name]
    return names


def scaled(rng: random.Random, config: Config) -> set[str]:
    numbers = [name for name, value in config.items() if type(value) in (int, float)]
    if not numbers:
        return set()
    name = rng.choice(numbers)
    config[name] = type(config[name])(config[name] * rng.choice((-1, 2, 3, 10**9, 10**15)) + rng.choice((0, 1)))
    return {name}


def flipped(rng: random.Random, config: Config) -> set[str]:
    flags = [name for name, value in config.items() if isinstance(value, bool)]
    name = rng.choice(flags or ["tie_word_embeddings"])
    config[name] = not config.get(name)
    return {name}


def added(rng: random.Random, config: Config) -> set[str]:
    """Fields that some other family has."""
    fields = dict(rng.sample(ALL_FIELDS, 3))
    config.update({name: json.loads(text) for name, text in fields.items()})
    return set(fields)


def listed(rng: random.Random, config: Config) -> set[str]:
    lists = [name for name, value in config.items() if isinstance(value, list) or "pattern" in name]
    name = rng.choice(lists or ["layer_types", "no_rope_layers", "mlp_only_layers", "architectures", "hybrid_override_pattern"])
    value = config.get(name)
    value = value if isinstance(value, list | str) else []
    ways: tuple[Callable[[], Any], ...] = (
        *(lambda: value[:-1], lambda: value + value, lambda: value[::-1], lambda: value * (500 if len(str(value)) < 5000 else 50)),
        *(lambda: [*value, rng.choice(JUNK)], lambda: [rng.choice(JUNK) for _ in value], lambda: "M*-E" * 10),
    )
    config[name] = rng.choice(ways)()
    return {name}


def quantized(rng: random.Random, config: Config) -> set[str]:
    inner: Any = {
        "quant_method": rng.choice(METHODS),
        rng.choice(("bits", "w_bit", "nbits", "load_in_4bit", "load_in_8bit")): rng.choice((4, 8, 3, 99, True, *JUNK)),
        rng.choice(("modules_to_not_convert", "ignore", "ignored_layers")): rng.choice((["lm_head"], ["self_attn\x1b"] * 99, *JUNK)),
        "config_groups": rng.choice(({"group_0": {"weights": {"num_bits": rng.choice((4, *JUNK))}}}, *JUNK)),
    }
    config["quantization_config"] = rng.choice((inner, inner, inner, inner, rng.choice(JUNK)))
    return {"quantization_config"}


def turned(rng: random.Random, config: Config) -> set[str]:
    name = rng.choice(("rope_parameters", "rope_scaling", "partial_rotary_factor", "rope_theta"))
    config[name] = rng.choice((*JUNK, {"partial_rotary_factor": rng.choice((0.25, 0.5, *JUNK))}))
    return {name, "partial_rotary_factor"}


def swapped(rng: random.Random, config: Config) -> set[str]:
    config["model_type"] = rng.choice((*KNOWN, *multimodal.FAMILIES))
    return {"model_type"}


def nested(rng: random.Random, config: Config) -> set[str]:
    """A part within a part, or a whole model of any type as a part of another."""
    part, inner = rng.choice(PARTS), dict(PUBLISHED[rng.choice(sorted(PUBLISHED))])
    config[part] = rng.choice((inner, {**inner, part: inner}))
    return {part}


MUTATIONS = (replaced, replaced, dropped, dropped, scaled, scaled, flipped, added, listed, quantized, turned, swapped, nested)
RELATED = {
    "architectures": {"tie_word_embeddings"},
    "tie_word_embeddings": {"architectures"},
    "model_type": {name for config in PUBLISHED.values() for name in config},
    "_class_name": {"model_type"},
    "n_embed": {"hidden_size"},
    "embedding_dim": {"hidden_size"},
    "num_blocks": {"num_hidden_layers"},
    "num_attention_heads": {"n_head"},
    "head_dim": {"hidden_size", "rotary_dim"},
    "num_hidden_layers": {
        "layer_types",
        "mlp_layer_types",
        "indexer_types",
        "index_topk_pattern",
        "compress_ratios",
        "layers_block_type",
        "no_rope_layers",
        "mlp_only_layers",
        "hybrid_override_pattern",
        "block_configs",
    },
    "num_local_experts": {"num_experts_per_tok"},
}
"""Fields that a message may name instead: those of another family, other spellings, what would have stood in, lists of as many layers."""


def mutated(seed: int) -> tuple[Config, set[str]]:
    """A published config with something wrong in it, and the names of the fields that were touched."""
    rng = random.Random(seed)
    config = json.loads(json.dumps(PUBLISHED[sorted(PUBLISHED)[seed % len(PUBLISHED)]]))
    touched: set[str] = set()
    for _ in range(rng.choice((1, 1, 1, 2))):
        inside = [name for name in PARTS if isinstance(config.get(name), dict) and config[name] and rng.random() < 0.7][:1]
        touched |= {*inside, *rng.choice(MUTATIONS)(rng, config[inside[0]] if inside else config)}
    return config, touched.union(*(RELATED.get(name, ()) for name in touched))


class TooMuchWorkError(Exception):
    """A config took more calls than any config should."""


@contextmanager
def bounded(calls: int = CALLS, *, memory: bool = False) -> Iterator[None]:
    """Stops what makes more calls of functions and returns; with *memory* also sees that no more was allocated than promised."""
    made = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal made
        del frame, event, argument
        made += 1
        if made > calls:
            sys.setprofile(None)
            raise TooMuchWorkError(f"more than {calls} calls")

    before = sys.getprofile()
    if memory:
        tracemalloc.start()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)
        peak = tracemalloc.get_traced_memory()[1] if memory else 0
        if memory:
            tracemalloc.stop()
    assert peak < MEGABYTES * 10**6


def test_work_and_memory_are_seen() -> None:
    with pytest.raises(TooMuchWorkError), bounded():
        sum(len(text) for text in [""] * CALLS)
    with pytest.raises(AssertionError), bounded(memory=True):
        assert bytearray(MEGABYTES * 10**6 + 1)
    with bounded(memory=True):
        assert symroof.load_model(catalogue()["llama-2-7b"]).unread == ()


def adds_up(model: symroof.Model) -> Iterator[bool]:
    """What holds of every graph."""
    yield model.parameters > 0
    yield sum(model.parameters_per_part.values()) == model.parameters
    yield 0 < model.active_parameters <= model.parameters


def analyzes(model: symroof.Model) -> Iterator[bool]:
    """What takes longer to see, and is looked at in one of twenty."""
    for phase in (model.prefill, *([model.decode] if model.architecture.decodes else [])):
        step = phase(batch=1, seq_len=2)
        yield step.graph.flop_count > 0
        yield all(line.isprintable() and len(line) < 2000 for line in step.statements)
        formula = phase(symbolic=True).graph.flop_count
        yield not formula.has(nan, oo, zoo)
        total = symroof.analyze(phase(batch=1, seq_len=2, weight_bits=16, activation_bits=16, kv_bits=16), "h100-sxm").total
        yield 0 < float(total.time_expr) < float("inf")
    yield not model.cache.growth.has(nan, oo, zoo)


def a_clear_line(message: str, path: Path, touched: set[str]) -> bool:
    short = len(message) < 400 and message.isprintable() and message.startswith(f"{quote(str(path))}: ")
    return short and any(name in message for name in touched)


@pytest.mark.slow
def test_mutated_configs(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    wrong: list[str] = []
    understood = 0
    checked: set[tuple[str, str]] = set()  # most mutations leave the structure, and so the graph, as it was
    seeds = random.Random(5).sample(range(CONFIGS), CONFIGS if EVERYTHING else CONFIGS // 3)
    for seed in seeds:
        config, touched = mutated(seed)
        path.write_text(json.dumps(config))
        thorough = seed // len(PUBLISHED) % 20 == 0
        try:
            with bounded(memory=thorough and seed % 4 == 0):
                model = symroof.load_model(path)
            if not all(line.isprintable() for line in (*model.notes, *model.unread)):
                wrong.append(f"{seed}: {model.notes}")
            structure, widths = repr(model.architecture), repr(model.quantization)
            for key, check in (((structure, ""), adds_up), *([((structure, widths), analyzes)] if thorough else [])):
                if key not in checked and not all(check(model)):
                    wrong.append(f"{seed}: does not add up")
                checked.add(key)
            understood += 1
        except symroof.SymroofError as error:
            if not a_clear_line(str(error), path, touched):
                wrong.append(f"{seed}: {error}")
        except Exception as error:  # what must not happen is what is looked for
            wrong.append(f"{seed}: {error!r}")
    assert wrong == []
    assert len(seeds) / 10 < understood < len(seeds) * 9 / 10


ABSENT = {
    "mistral": {"num_key_value_heads": 8, "tie_word_embeddings": False},
    "llama": {"num_key_value_heads": 64, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128, "attention_bias": False},
    "gemma": {"num_key_value_heads": 16, "head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True},
    "glm": {"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True},
    "glm4": {"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True},
    "starcoder2": {"num_key_value_heads": 2, "use_bias": True, "tie_word_embeddings": True},
    "stablelm": {"use_qkv_bias": False, "qk_layernorm": False},
    "opt": {"enable_bias": True, "layer_norm_elementwise_affine": True, "max_position_embeddings": 2048},
    "gpt_bigcode": {"multi_query": True},
    "gpt_neox": {"tie_word_embeddings": False, "use_parallel_residual": True},
    "falcon": {"multi_query": True, "bias": False, "parallel_attn": True},
    "mixtral": {"num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2},
    "gpt_oss": {"num_key_value_heads": 8, "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4},
    "phimoe": {"num_key_value_heads": 8, "num_local_experts": 16, "num_experts_per_tok": 2, "lm_head_bias": False},
    "qwen2_moe": {"num_key_value_heads": 16, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "qwen3_moe": {"num_key_value_heads": 4, "decoder_sparse_step": 1},
    "deepseek_v2": {"q_lora_rank": 1536, "kv_lora_rank": 512, "first_k_dense_replace": 0, "n_shared_experts": 2, "n_routed_experts": 64},
    "deepseek_v3": {"q_lora_rank": 1536, "v_head_dim": 128, "first_k_dense_replace": 3, "n_shared_experts": 1, "num_experts_per_tok": 8},
    "deepseek_v4": {"index_topk": 512, "head_dim": 512, "q_lora_rank": 1024, "o_groups": 8, "hc_mult": 4, "sliding_window": 128},
    "mistral4": {"q_lora_rank": 1024, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "n_routed_experts": 128, "num_experts_per_tok": 4},
    "nemotron-nas": {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False, "hidden_act": "silu"},
    "deepseek_v32": {"index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64, "q_lora_rank": 1536, "first_k_dense_replace": 3},
    "glm_moe_dsa": {"index_topk": 2048, "index_n_heads": 32, "q_lora_rank": 2048, "v_head_dim": 256, "qk_nope_head_dim": 192},
    "glm4_moe_lite": {"q_lora_rank": 768, "v_head_dim": 256, "n_routed_experts": 64, "num_experts_per_tok": 4},
    "glm4_moe": {"first_k_dense_replace": 1, "n_shared_experts": 1, "num_experts_per_tok": 8, "use_qk_norm": False},
    "ernie4_5_moe": {"num_key_value_heads": 4, "moe_num_experts": 64, "moe_k": 6, "moe_num_shared_experts": 2, "moe_layer_interval": 1},
    "mamba": {"state_size": 16, "conv_kernel": 4, "use_conv_bias": True, "use_bias": False},
    "mamba2": {"state_size": 128, "n_groups": 8, "conv_kernel": 4, "tie_word_embeddings": False},
    "jamba": {"num_key_value_heads": 8, "num_experts": 16, "attn_layer_period": 8, "mamba_d_state": 16, "mamba_conv_bias": True},
    "qwen3_next": {"num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4, "linear_num_value_heads": 32},
    "granitemoehybrid": {"shared_intermediate_size": 1024, "mamba_d_state": 256, "mamba_n_groups": 1},
    "nemotron_h": {"num_key_value_heads": 8, "ssm_state_size": 128, "n_groups": 8, "mlp_bias": False},
    "ministral3": {"num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False},
    "exaone": {"num_key_value_heads": 8, "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False},
    "exaone4": {"num_key_value_heads": 32, "sliding_window": 4096, "tie_word_embeddings": False},
    "hunyuan_v1_dense": {"num_key_value_heads": 32, "attention_bias": False, "tie_word_embeddings": False},
    "ernie4_5": {"num_key_value_heads": 2, "head_dim": 128, "use_bias": False, "tie_word_embeddings": True},
    "seed_oss": {"num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "attention_out_bias": False, "mlp_bias": False},
    "apertus": {"num_key_value_heads": 32, "hidden_act": "xielu", "attention_bias": False},
    "internlm3": {"num_key_value_heads": 2, "head_dim": 128, "qkv_bias": False, "bias": False},
    "internlm": {"bias": True, "num_key_value_heads": 40},
    "mpt": {"no_bias": True, "expansion_ratio": 4, "tie_word_embeddings": True},
    "longcat_flash": {"q_lora_rank": 1536, "moe_topk": 12, "n_routed_experts": 512, "zero_expert_num": 256, "ffn_hidden_size": 12288},
    "bailing_hybrid": {"num_experts": 512, "layer_group_size": 6, "first_k_dense_replace": 2, "short_conv_kernel_size": 4, "head_dim": 128},
    "bailing_moe_linear": {"layer_group_size": 5, "group_norm_size": 4, "use_qk_norm": True, "head_dim": 128, "num_shared_experts": 1},
    "rwkv": {"tie_word_embeddings": False},
    "xlstm": {"num_heads": 8, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "ffn_proj_factor": 2.667, "ffn_round_up_to_multiple_of": 64},
    "zamba2": {"num_mem_blocks": 1, "adapter_rank": 128, "mamba_d_state": 64, "use_shared_attention_adapter": False, "mamba_ngroups": 1},
    "zamba": {"n_mamba_heads": 2, "mamba_d_state": 16, "attn_layer_period": 6, "attn_layer_offset": 4, "mamba_conv_bias": True},
    "lfm2": {"num_key_value_heads": 8, "conv_L_cache": 3, "conv_bias": False, "tie_embedding": True},
    "lfm2_moe": {"num_key_value_heads": 8, "num_dense_layers": 2, "num_experts": 32, "num_experts_per_tok": 4},
    "bamba": {"num_key_value_heads": 8, "mamba_n_heads": 128, "mamba_expand": 2, "attention_bias": False, "mlp_bias": False},
    "falcon_h1": {"mamba_n_groups": 1, "mamba_d_state": 256, "mamba_rms_norm": False, "mamba_proj_bias": False},
    "t5": {"d_kv": 64, "relative_attention_num_buckets": 32, "feed_forward_proj": "relu", "num_decoder_layers": 24},
    "whisper": {"num_mel_bins": 80, "max_source_positions": 1500, "max_target_positions": 448, "activation_function": "gelu"},
    "bert": {"type_vocab_size": 2, "max_position_embeddings": 512, "intermediate_size": 3072, "hidden_act": "gelu"},
    "modernbert": {"intermediate_size": 1152, "local_attention": 128, "decoder_bias": True, "norm_bias": False, "classifier_bias": False},
    "minimax_m2": {"num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 256, "num_experts_per_tok": 8},
    "minimax_m3": {"num_key_value_heads": 4, "head_dim": 128, "num_local_experts": 128, "num_experts_per_tok": 4},
    "dots1": {"num_key_value_heads": 32, "attention_bias": False, "sliding_window": 4096, "max_window_layers": 62},
    "dbrx": {"tie_word_embeddings": False},
    "mimo_v2_flash": {"head_dim": 192, "v_head_dim": 128, "num_key_value_heads": 4, "swa_num_key_value_heads": 8, "swa_head_dim": 192},
    "vit": {"image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True},
}
"""What fields that are left out mean, as Transformers' config classes have it."""

FITTING = {
    "exaone4": {"num_attention_heads": 32},
    "qwen2": {"num_attention_heads": 32},
    "qwen3": {"num_attention_heads": 32},
    "gemma": {"num_attention_heads": 16},
}
"""As many query heads as the default number of KV heads divides."""


def parameters(path: Path, config: Config) -> tuple[int, int] | str:
    """All and active ones, or what the message says behind the path."""
    path.write_text(json.dumps(config))
    try:
        model = symroof.load_model(path)
        return model.parameters, model.active_parameters
    except symroof.SymroofError as error:
        return str(error).split(": ", 1)[1]


@pytest.mark.parametrize("kind", ABSENT)
def test_a_field_left_out_means_its_default(tmp_path: Path, kind: str) -> None:
    for name, value in ABSENT[kind].items():
        without = {key: other for key, other in (PUBLISHED[kind] | FITTING.get(kind, {})).items() if key != name}
        counted = parameters(tmp_path / "config.json", without)
        assert counted == parameters(tmp_path / "config.json", {**without, name: value})
        assert isinstance(counted, tuple)


IDLE = (
    "torch_dtype",
    "transformers_version",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "rms_norm_eps",
    "rope_theta",
    "use_cache",
)


@pytest.mark.parametrize("kind", sorted(PUBLISHED))
def test_fields_without_a_use_change_nothing(tmp_path: Path, kind: str) -> None:
    config = PUBLISHED[kind]
    junk = {name: JUNK[(number * 7 + len(kind)) % (len(JUNK) - DEEP)] for number, name in enumerate(IDLE)}
    assert parameters(tmp_path / "config.json", {**config, **junk}) == parameters(tmp_path / "config.json", config)


SAME = {
    "llama": ({"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor is 0.5, but rope"),
    "gpt2": ({"hidden_size": 512}, "n_embd is 1280 and hidden_size is 512, but they mean the same"),
    "mixtral": ({"num_experts": 9}, "num_local_experts is 8 and num_experts is 9, but they mean the same"),
    "cohere2": ({"layer_switch": 9}, "sliding_window_pattern is 4 and layer_switch is 9, but they mean the same"),
    "nemotron_h": (
        {"layers_block_type": ["mamba"] * 118},
        "layers_block_type and hybrid_override_pattern disagree, but they mean the same",
    ),
    "deepseek_v4": ({"compress_ratios": [0, 4, 8] * 20}, "compress_ratios is [0, 4, 8, "),
    "nemotron-nas": ({"num_hidden_layers": 79}, "block_configs is a list of 80; expected a list of 79 objects, one for each of"),
    "deepseek_v32": ({"index_head_dim": 32}, "index_head_dim is 32; expected at least qk_rope_head_dim, 64"),
    "glm_moe_dsa": ({"indexer_types": ["shared"] + ["full"] * 77}, "the first layer takes the selection of an earlier one"),
    "bert": ({"is_decoder": True}, "is_decoder is True; only False is understood (an encoder)"),
    "t5": ({"feed_forward_proj": "gated-sillu"}, "feed_forward_proj is 'gated-sillu'; did you mean gated-silu"),
    "whisper": ({"decoder_attention_heads": 10}, "decoder_attention_heads is 10; only 20 is understood (as many as"),
    "roberta": ({"architectures": ["RobertaForCausalLM"]}, "architectures is ['RobertaForCausalLM']; expected a name that ends in Model, "),
    "modernbert": ({"layer_types": ["sliding_attention"] * 22}, "layer_types starts with 'sliding_attention'; only a first layer"),
    "gemma3": (
        {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}},
        "text_config.tie_word_embeddings is True; only",
    ),
    "gpt_neox": ({"head_dim": 7}, "head_dim is 7; only 96 is understood (hidden_size / num_attention_heads)"),
    "stablelm": ({"head_dim": 7}, "head_dim is 7; only 64 is understood"),
    "olmoe": ({"head_dim": 7}, "head_dim is 7; only 128 is understood"),
    "DiTTransformer2DModel": ({"num_vector_embeds": 8}, "num_vector_embeds is 8; only None is understood"),
    "mpt": ({"attn_config": {"attn_type": "multiquery_attention"}}, "attn_config.attn_type is 'multiquery_attention'; only"),
    "exaone4": ({"sliding_window": None}, "layer_types holds 'sliding_attention', but sliding_window is missing or null"),
    "hunyuan_v1_dense": ({"use_cla": True}, "use_cla is True; only False is understood (every layer has keys and values of its own)"),
    "minimax_m3": ({"num_key_value_heads": 8}, "the indexer has 4 heads; expected num_key_value_heads, 8"),
    "kimi_k3": ({"text_config": {**PUBLISHED["kimi_k3"]["text_config"], "mla_use_nope": False}}, "mla_use_nope is False; only True"),
    "minimax_m2": ({"attn_type_list": [0] * 62}, "attn_type_list holds 0; only 1 is understood"),
    "mimo_v2_flash": ({"swa_v_head_dim": 64}, "swa_v_head_dim is 64; only v_head_dim, 128, is understood"),
    "ernie4_5_vl_moe": ({"text_config": {**PUBLISHED["ernie4_5_vl_moe"]["text_config"], "moe_k": 65}}, "moe_k is 65; expected at most"),
    "gemma3n": ({"text_config": {**PUBLISHED["gemma3n"]["text_config"], "altup_num_inputs": 1}}, "altup_num_inputs is 1; expected a whole"),
    "gemma4": ({"text_config": {**PUBLISHED["gemma4"]["text_config"], "num_kv_shared_layers": 30}}, "num_kv_shared_layers is 30; no layer"),
    "llama4": ({"tie_word_embeddings": True}, "tie_word_embeddings is True; only False is understood (as inside text_config)"),
    "step3p7": ({"attention_other_setting": {"head_dim": 64}}, "attention_other_setting.head_dim is 64; only 128 is understood"),
    "qwen3_5": ({"text_config": {"attn_output_gate": False}}, "text_config.attn_output_gate is False; only True is understood"),
    "llava": ({"text_config": PUBLISHED["vit"]}, "text_config.model_type is 'vit'; expected a decoder"),
    "clip": ({"vision_config": PUBLISHED["llama"]}, "vision_config.model_type is 'llama'; expected an encoder"),
    "mistral3": (
        {"text_config": PUBLISHED["gemma3"]},
        "text_config.model_type 'gemma3' is not a family known here; did you mean gemma3_text?",
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_fields_that_disagree_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    changes, message = SAME[kind]
    assert message in str(parameters(tmp_path / "config.json", {**PUBLISHED[kind], **changes}))


@pytest.mark.slow
def test_fields_of_another_family_are_told(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**PUBLISHED["llama"], "num_experts": 8, "x\x1b[2J": 1, "\ud800": 2}))
    model = symroof.load_model(path)
    assert set(model.unread) == {"num_experts", r"'x\x1b[2J'", r"'\ud800'"}
    assert any("num_experts" in line and line.isprintable() for line in model.decode().statements)
    path.write_text(json.dumps(PUBLISHED["llama"] | {f"field{number}": 1 for number in range(10**5)}))
    assert all(len(line) < 400 for line in symroof.load_model(path).notes)


@pytest.mark.parametrize(
    "inner", [{"quant_method": []}, {"quant_method": "torchao", "bits": 4}, {"quant_method": "fp8", "ignore": "lm_head"}]
)
def test_a_quantization_that_is_not_understood_is_told(tmp_path: Path, inner: Config) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**PUBLISHED["llama"], "quantization_config": inner}))
    (line,) = symroof.load_model(path).notes
    assert "quantization_config" in line
    assert "is not understood: every weight is counted at w bits" in line


def test_a_long_list_of_kept_modules_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    kept = [f"model.layers.{number}.mlp.gate_proj" for number in range(10**4)]
    path.write_text(json.dumps({**PUBLISHED["llama"], "quantization_config": {"quant_method": "fp8", "ignore": kept}}))
    model = symroof.load_model(path)
    (line,) = [line for line in model.decode().statements if "quantization_config" in line]
    assert f"model.layers.7.mlp.gate_proj, ... ({model.layers} in all)" in line, "of those that the model has"


@pytest.mark.parametrize(("bits", "told"), [(99, "99"), ("four", "'four'"), (None, "null")])
def test_a_width_that_makes_no_sense_is_told(tmp_path: Path, bits: object, told: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**PUBLISHED["llama"], "quantization_config": {"quant_method": "gptq", "bits": bits}}))
    with pytest.raises(symroof.SymroofError, match=rf"quantization_config.bits is {told}; expected a whole number from 1 to 16"):
        symroof.load_model(path)


DIGITS = b"9" * 10**6
FAULTS: dict[str, tuple[bytes, str]] = {
    "truncated": (json.dumps(PUBLISHED["llama"]).encode()[:200], " is not JSON: "),
    "not UTF-8": (b'{"model_type": "\xff"}', " is not UTF-8 text (byte 16)"),
    "UTF-16": (json.dumps(PUBLISHED["llama"]).encode("utf-16"), " is not UTF-8 text (byte 0)"),
    "UTF-16 without a mark": (json.dumps(PUBLISHED["llama"]).encode("utf-16-le"), " is not JSON: "),
    "NUL": (b"\0" * 1000, " is not JSON: "),
    "NUL inside": (b'{"model_type": "lla\0ma"}', " is not JSON: "),
    "a number": (b"7", " contains 7; expected one JSON object of fields"),
    "text": (b'"\\u001b[2J"', r" contains '\x1b[2J'; expected one JSON object"),
    "a list": (b"[" + b"{}," * 2 * 10**5 + b"{}]", " contains [{}, {}, "),
    "deep": (b"[" * 10**5, " is nested too deeply"),
    "deep inside": (b'{"rope_scaling": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", " is nested too deeply"),
    "deep in a field": (b'{"rope_scaling": ' + b"[" * 100 + b"]" * 100 + b"}", ": 'rope_scaling' is nested too deeply"),
    "deep objects": (b'{"a":' * 10**5, " is nested too deeply"),
    "digits": (b'{"hidden_size": ' + DIGITS + b"}", ": 'hidden_size' contains a number with too many digits"),
    "negative digits": (b'{"hidden_size": -' + DIGITS + b"}", ": 'hidden_size' contains a number with too many digits"),
    "digits in a list": (b'{"layer_types": [[' + DIGITS + b"]]}", ": 'layer_types' contains a number with too many digits"),
    "digits among others": (b'{"layer_types": [1, {"a": [2, ' + DIGITS + b"]}]}", ": 'layer_types' contains a number with too many digits"),
    "digits alone": (DIGITS, " contains a number with too many digits"),
    "a field twice": (b'{"model_type": "llama", "model_type": "opt"}', ": field 'model_type' occurs twice"),
    "twice inside": (b'{"rope_scaling": {"factor": 1, "factor": 2}}', ": field 'factor' occurs twice"),
    "twice among many": (
        b"{" + b",".join(b'"%d":0' % min(number, 29_998) for number in range(30_000)) + b"}",
        ": field '29998' occurs twice",
    ),
}


def refused(path: Path | str, length: int = 0) -> str:
    """The message, which takes few calls, or a few per character of the file, and little memory to come to."""
    with bounded(CALLS + 6 * length, memory=True), pytest.raises(symroof.SymroofError) as error:
        symroof.load_model(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    return str(error.value)


@pytest.mark.parametrize("case", FAULTS)
def test_a_file_that_is_no_config_is_told(tmp_path: Path, case: str) -> None:
    content, message = FAULTS[case]
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert refused(path, len(content)).startswith(f"{quote(str(path))}{message}")


@pytest.mark.parametrize("number", [DIGITS + b".5", b"1e999999999", b"-1e999999999", b"NaN"])
def test_a_number_beyond_floats_is_named(tmp_path: Path, number: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(json.dumps({**PUBLISHED["llama"], "hidden_size": "N"}).encode().replace(b'"N"', number))
    assert "': hidden_size is " in refused(path)


def test_a_mark_at_the_start_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PUBLISHED["llama"]).encode())
    assert symroof.load_model(path).unread == ()


def test_a_path_may_hold_the_mark_of_a_part(tmp_path: Path) -> None:
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(PUBLISHED["llama"]))
    assert symroof.load_model(folder).parameters == symroof.load_model(folder / "config.json").parameters > 0


def test_a_null_tie_inside_is_that_outside(tmp_path: Path) -> None:
    path, config = tmp_path / "config.json", PUBLISHED["gemma3"]
    inner = {"text_config": {**config["text_config"], "tie_word_embeddings": None}}
    assert parameters(path, {**config, **inner, "tie_word_embeddings": False}) > parameters(path, {**config, **inner})


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    sparse, pipe, loop = tmp_path / "sparse.json", tmp_path / "pipe.json", tmp_path / "loop.json"
    sparse.touch()
    os.truncate(sparse, 10**9)
    assert refused(sparse) == f"{quote(str(sparse))} is larger than 4000000 bytes: not a config.json"
    os.mkfifo(pipe)
    assert refused(pipe) == f"{quote(str(pipe))} is not a regular file"
    assert refused("/dev/zero") == "'/dev/zero' is not a regular file"
    loop.symlink_to(loop)
    assert "there is no such file" in refused(loop)
    assert "is a folder without a config.json" in refused(tmp_path)
    assert "neither a name in models/ nor a file" in refused("x/" * 50_000)
    assert "there is no such file" in refused("x" * 10**5 + ".json")
    assert "neither a name in models/ nor a file" in refused("a\0b")
