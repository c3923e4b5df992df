"""Further decoders with experts in all or most of their layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sympy import S, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture
from symroof.architectures.families.dense import NO_BIAS
from symroof.architectures.families.family import DecoderFamily, at_most, only
from symroof.architectures.families.layouts import LAYER_TYPES, MLP_TYPES, dense_first, listed, local_and_global, sparse_steps
from symroof.architectures.families.recipes import TIED, WITH_BIAS, PartReader, activation, attention, biased, experts, flag, latent, mlp
from symroof.architectures.families.sparse import MOE_WIDTH, deepseek_experts
from symroof.architectures.families.tables.variants import HUNYUAN_IGNORED, HUNYUAN_ONLY, scaled_by_position, without_window
from symroof.architectures.fields import LARGEST, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import PER_HEAD_AND_COMPONENT, Attention
from symroof.architectures.parts.blocks import BlockIndexer
from symroof.architectures.parts.mlp import Experts, Mlp
from symroof.architectures.parts.part import ACTIVATIONS, BlockBuilder, Part, residual_stream
from symroof.conventions import Convention
from symroof.operators import Block, Space
from symroof.operators.elementwise import Norm
from symroof.vocabulary import numbered

Reading = tuple[Part, dict[Symbol, int]]


def dots_layers(fields: Fields, count: int) -> list[str]:
    """Windows behind the first ``max_window_layers`` layers, unless ``sliding_window`` is null."""
    first, used = fields.size("max_window_layers", 62, low=0), fields.size("sliding_window", 4096, null=None) is not None
    words = fields.words("layer_types", LAYER_TYPES, count)
    return words or ["sliding" if used and number >= first else "full" for number in range(count)]


def minimax_layers(fields: Fields, count: int) -> list[str]:
    """Full attention in every layer, which a list of switches may say."""
    if not all(fields.switches("attn_type_list", count) or ()):
        raise fields.error("attn_type_list holds 0; only 1 is understood (full attention in every layer)")
    return ["full"] * count


M3_TYPES = {"full_attention": "full", "minimax_m3_sparse": "sparse"}


def _sparse(fields: Fields) -> Fields | None:
    """The object with the fields of block-sparse attention, where the config has it."""
    return fields.nested("sparse_attention_config") if "sparse_attention_config" in fields else None


def m3_layers(fields: Fields, count: int) -> list[str]:
    """What ``layer_types`` lists or switches say, or full attention in every layer."""
    inner, words = _sparse(fields), fields.words("layer_types", M3_TYPES, count)
    switched = inner.switches("sparse_attention_freq", count) if inner and inner.flag("use_sparse_attention", True) else None
    bare = inner.switches("sparse_disable_index_value", count) if inner else None
    if bare and switched and any(on and not alone for on, alone in zip(switched, bare, strict=True)):
        raise fields.error("sparse_attention_config.sparse_disable_index_value holds 0; only 1 is understood (the indexer has no values)")
    return words or ["sparse" if on else "full" for on in switched or [False] * count]


def m3_mlps(fields: Fields, count: int) -> list[str]:
    """What ``mlp_layer_types`` lists or switches say, or experts in every layer."""
    switched, words = fields.switches("moe_layer_freq", count), fields.words("mlp_layer_types", MLP_TYPES, count)
    return words or ["moe" if on else "dense" for on in switched or [True] * count]


def m3_attention(*, sparse: bool) -> PartReader:
    """Grouped attention with norms per head, on all keys or on blocks that an indexer with one query per KV head selects."""
    recipe: dict[str, Any] = {"qk_norm": Norm.RMS} | ({"selection": lambda fields: BlockIndexer()} if sparse else {})
    read_all = attention(kv_heads=4, head_dim=128, turned_in="rotary_dim", **recipe)

    def read(fields: Fields, hidden: int) -> Reading:
        part, sizes = read_all(fields, hidden)
        if not sparse:
            return part, sizes
        inner = _sparse(fields)

        def stated(name: str, legacy: str, absent: int) -> int:
            default = fields.size(name, absent)
            return default if inner is None else inner.size(legacy, default)

        heads, width = stated("index_n_heads", "sparse_num_index_heads", 4), stated("index_head_dim", "sparse_index_dim", 128)
        blocks = stated("index_topk_blocks", "sparse_topk_blocks", 16) * stated("index_block_size", "sparse_block_size", 128)
        if heads != sizes[symbols.k]:
            raise fields.error(f"the indexer has {heads} heads; expected num_key_value_heads, {sizes[symbols.k]}")
        return part, sizes | {symbols.h_i: heads, symbols.e_i: width, symbols.k_i: blocks}

    return read


def exaone_mlps(fields: Fields, count: int) -> list[str]:
    """What a list of words or of switches says, or all but the first."""
    switched = fields.switches("is_moe_layer", count)
    words = fields.words("mlp_layer_types", MLP_TYPES, count)
    return words or (list(dense_first(1)(fields, count)) if switched is None else ["moe" if on else "dense" for on in switched])


def hunyuan_experts(fields: Fields, hidden: int) -> Reading:
    """Experts of the same number and width in every layer, and one shared expert as wide as they are."""
    count = fields.layers("num_hidden_layers")
    width = fields.size("intermediate_size")
    number, chosen = (fields.per_layer(name, count, 1, same=True)[0] for name in ("num_experts", "moe_topk"))
    for name, size in (("moe_intermediate_size", width), ("num_shared_expert", 1)):
        if fields.per_layer(name, count, size, same=True)[0] != size:
            raise fields.error(f"{name} is not {size} in all layers, as the shared expert, of intermediate_size, needs it")
    if chosen > number:
        raise fields.error(f"moe_topk is {chosen}; expected at most num_experts, {number}")
    sizes = {symbols.E: number, symbols.K: chosen, symbols.f_e: width, symbols.f_s: width}
    function = activation()(fields)
    return Experts(function, shared=Mlp(function, width="f_s", name="shared_")), sizes


def dbrx_attention(fields: Fields, hidden: int) -> Reading:
    """Grouped heads that together have the hidden size; the number of KV heads is in ``attn_config``."""
    heads = fields.size("n_heads")
    groups = fields.nested("attn_config").size("kv_n_heads", 1) if "attn_config" in fields else 1
    fields.divides("n_heads", heads, "attn_config.kv_n_heads", groups)
    width = fields.divides("d_model", hidden, "n_heads", heads)
    return Attention(), {symbols.h: heads, symbols.k: groups, symbols.e: width, symbols.r: width}


def dbrx_experts(fields: Fields, hidden: int) -> Reading:
    """Experts from the fields of ``ffn_config``."""
    inner = fields.nested("ffn_config") if "ffn_config" in fields else fields.completed({})
    function = inner.nested("ffn_act_fn").choice("name", ACTIVATIONS, "silu") if "ffn_act_fn" in inner else "silu"
    inner.fixed("hidden_size", hidden, "as d_model")
    number, chosen = inner.size("moe_num_experts", 4), inner.size("moe_top_k", 1)
    if chosen > number:
        raise inner.error(f"moe_top_k is {chosen}; expected at most moe_num_experts, {number}")
    return Experts(function), {symbols.E: number, symbols.K: chosen, symbols.f_e: inner.size("ffn_hidden_size", 3584)}


SWIGLU = activation(known=ACTIVATIONS | {"swigluoai": "silu"})

HUNYUAN_MOE_IGNORED = (
    *(*HUNYUAN_IGNORED, "capacity_factor", "moe_drop_tokens", "moe_random_routing_dropped_token", "use_mixed_mlp_moe"),
    *("anyres_pooling_size", "anyres_vit_max_image_size", "anyres_vit_two_views", "kv_lora_rank", "q_lora_rank"),
    *("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "group_limited_greedy", "skip_cls_token", "unified_norm_topk"),
    *("vit_input_resolution", "vit_mapping_type", "vit_norm_type", "vit_patch", "vit_path", "vit_token", "vit_type", "vit_used_rms_norm"),
    *("vit_add_patchemb_bias", "vit_remove_prenorm", "max_image_size", "min_image_size", "use_decoder", "num_media_embeds"),
)

OF_IMAGES = numbered(symbols.f_e, 2)
"""The intermediate size of experts for the tokens of images."""


@dataclass(frozen=True)
class TwoModalities(Architecture):
    """A decoder whose layers have further experts for the tokens of images: a step over text leaves them in memory."""

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        *before, head = super().blocks(space, options)
        x = residual_stream(replace(space, sizes={**space.sizes, "f_e": OF_IMAGES}))
        for layer in self.layers:
            if isinstance(layer.mlp, Experts):
                record = BlockBuilder("images.")
                replace(layer.mlp, shared=None)(record, x, x.space, options)
                held = record.layers(layer.kind)
                before.append(replace(held, name="images", kind="images", count=S.Zero, copies=held.count))
        return *before, head

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        text = "a step over text: the experts for the tokens of images stay in memory and are not read"
        return (*super().conventions(options), Convention("modalities", text))


def ernie_vl_experts(fields: Fields, hidden: int) -> Reading:
    """Experts for text and as many for images, in a list of two widths; shared ones as wide as those for text."""
    widths = fields.listed("moe_intermediate_size") or [1536, 512]
    fits = len(widths) == 2 and all(type(width) is int and 1 <= width <= LARGEST for width in widths)
    fields.require(fits, "moe_intermediate_size", widths, "a list of two whole numbers, for text and for images")
    number, chosen = (fields.size(fields.named(*names), absent) for names, absent in ERNIE_COUNTS)
    if chosen > number:
        raise fields.error(f"moe_k is {chosen}; expected at most moe_num_experts, {number}")
    function, shared = activation()(fields), fields.size("moe_num_shared_experts", 2, low=0) * widths[0]
    common = Mlp(function, bias=fields.flag("use_bias", False), width="f_s", name="shared_") if shared else None
    sizes = {symbols.E: number, symbols.K: chosen, symbols.f_e: widths[0], OF_IMAGES: widths[1]}
    return Experts(function, correction=True, shared=common), sizes | ({symbols.f_s: shared} if shared else {})


ERNIE_COUNTS = (("moe_num_experts", "num_experts"), 64), (("moe_k", "num_experts_per_tok"), 6)

MINIMAX_M3 = DecoderFamily(
    "minimax_m3",
    "MiniMax (2026), huggingface.co/MiniMaxAI/MiniMax-M3; Transformers' MiniMaxM3VLTextConfig",
    {
        "full": m3_attention(sparse=False),
        "sparse": m3_attention(sparse=True),
        "dense": mlp(width="dense_intermediate_size", absent=12288, activation=SWIGLU),
        "moe": experts(count=128, chosen=4, activation=SWIGLU, shared=lambda fields, width: fields.size("shared_intermediate_size", 3072)),
    },
    mixers=m3_layers,
    mlps=m3_mlps,
    only_understood={
        "use_qk_norm": (True, "queries and keys are normed"),
        "qk_norm_type": ("per_head", "the heads of a token share a norm's weights"),
        "attention_output_gate": (False, "attention is not gated"),
        "n_shared_experts": (1, "one expert is shared"),
    },
    ignored=(
        *("use_routing_bias", "use_gemma_norm", "swiglu_alpha", "swiglu_limit", "first_k_dense_replace", "moe_intermediate_size"),
        *("dense_intermediate_size", "index_local_blocks", "sparse_init_block", "sparse_local_block", "sparse_score_type"),
    ),
)

ROUTED = (
    MINIMAX_M3,
    DecoderFamily(
        "qwen3_vl_moe",
        "Qwen team (2025), arXiv:2511.21631; Transformers' Qwen3VLMoeTextConfig",
        {
            "full": attention(kv_heads=16, qk_norm=Norm.RMS, **WITH_BIAS),
            "moe": experts(width=MOE_WIDTH, named="num_experts", count=60, chosen=4),
            "dense": mlp(),
        },
        mlps=sparse_steps,
        attributes={"tied": TIED},
    ),
    DecoderFamily(
        "ernie4_5_vl_moe",
        "Baidu (2025), ERNIE 4.5 technical report; Transformers' Ernie4_5_VLMoeTextConfig",
        {
            "full": attention(kv_heads=4, **biased("use_bias", False)),
            "dense": mlp(bias=flag("use_bias", False)),
            "moe": ernie_vl_experts,
        },
        mlps=listed(lambda fields, count: ["dense"] + ["moe"] * (count - 1), "mlp_layer_types", MLP_TYPES),
        attributes={"tied": TIED},
        made=TwoModalities,
        ignored=("moe_norm_min",),
    ),
    DecoderFamily(
        "mistral4",
        "Mistral AI (2026), huggingface.co/mistralai/Mistral-Small-4-119B-2603; Transformers' Mistral4Config",
        {
            "full": latent(1024, {"scaled": scaled_by_position}, rank=256, nope=64),
            "dense": mlp(),
            "moe": deepseek_experts(1, count=128, chosen=4),
        },
        mlps=dense_first(0),
        ignored=("qk_head_dim", "head_dim", "num_key_value_heads"),
    ),
    DecoderFamily(
        "minimax_m2",
        "MiniMax (2025), huggingface.co/MiniMaxAI/MiniMax-M2; Transformers' MiniMaxM2Config",
        {
            "full": attention(kv_heads=8, head_dim=128, turned_in="rotary_dim", qk_norm=Norm.RMS, qk_weights=PER_HEAD_AND_COMPONENT),
            "moe": experts(count=256, chosen=8),
        },
        mixers=minimax_layers,
        mlps=only("moe"),
        only_understood={
            "use_qk_norm": (True, "queries and keys are normed"),
            "qk_norm_type": ("per_layer", "all heads of a token share a norm"),
            "shared_intermediate_size": (0, "no expert is shared"),
        },
        ignored=("use_routing_bias", "use_mtp", "mtp_transformer_layers"),
    ),
    DecoderFamily(
        "hunyuan_v1_moe",
        "Tencent (2025), Hunyuan-A13B; Transformers' HunYuanMoEV1Config",
        {"full": attention(qk_norm=Norm.RMS, **WITH_BIAS), "moe": hunyuan_experts},
        mlps=only("moe"),
        only_understood={**HUNYUAN_ONLY, "moe_layer_num_skipped": (0, "every layer has experts"), "use_mla": (False, "grouped attention")},
        ignored=HUNYUAN_MOE_IGNORED,
    ),
    DecoderFamily(
        "dots1",
        "rednote-hilab (2025), dots.llm1, arXiv:2506.05767; Transformers' Dots1Config",
        {
            "full": attention(kv_heads=32, qk_norm=Norm.RMS, **WITH_BIAS),
            "dense": mlp(),
            "moe": deepseek_experts(0),
        },
        mixers=dots_layers,
        mlps=dense_first(0),
        window=4096,
        only_understood={"moe_layer_freq": (1, "every layer behind the dense ones has experts")},
    ),
    DecoderFamily(
        "dbrx",
        "Databricks (2024), databricks.com/blog/introducing-dbrx-new-state-art-open-llm; Transformers' DbrxConfig",
        {"full": dbrx_attention, "moe": dbrx_experts},
        hidden=("d_model", "hidden_size"),
        layers=("n_layers", "num_hidden_layers"),
        positions=at_most("max_seq_len"),
        mlps=only("moe"),
        norms=NO_BIAS,
        only_understood={"tie_word_embeddings": (False, "the LM head has weights of its own")},
        ignored=(
            *("emb_pdrop", "num_key_value_heads", "clip_qkv", "is_encoder_decoder", "moe_jitter_eps", "moe_loss_weight"),
            *("moe_normalize_expert_weights", "uniform_expert_assignment"),
        ),
    ),
    DecoderFamily(
        "exaone_moe",
        "LG AI Research (2025), K-EXAONE; Transformers' ExaoneMoeConfig",
        {
            "full": attention(kv_heads=32, rotary=without_window, qk_norm=Norm.RMS),
            "sliding": attention(kv_heads=32, qk_norm=Norm.RMS),
            "dense": mlp(),
            "moe": experts(
                width=MOE_WIDTH,
                named="num_experts",
                count=64,
                chosen=8,
                shared=lambda fields, width: fields.size("num_shared_experts", 1, low=0) * width,
            ),
        },
        mixers=local_and_global(4096),
        mlps=exaone_mlps,
        window=4096,
        ignored=("first_k_dense_replace", "first_last_k_dense_replace"),
    ),
)
