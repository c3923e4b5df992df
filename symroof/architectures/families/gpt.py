"""Decoders with a plain MLP: the GPTs, BLOOM, Falcon, OPT, StarCoder2."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from symroof import symbols
from symroof.architectures.architecture import Norms
from symroof.architectures.families.dense import SIDE_BY_SIDE
from symroof.architectures.families.family import LAYER_NORM, DecoderFamily, at_most, learned
from symroof.architectures.families.layouts import windowed
from symroof.architectures.families.recipes import TIED, PartReader, activation, attention, biased, flag, plain_mlp, resolved
from symroof.architectures.fields import Fields
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.part import Part
from symroof.operators.elementwise import Norm

GPT_ACTIVATION = activation("gelu_new", "activation_function")
HIDDEN, HEADS, LAYERS = ("n_embd", "hidden_size"), ("n_head", "num_attention_heads"), ("n_layer", "num_hidden_layers")
"""Spellings of the GPTs."""
ROWS = ("n_positions", "max_position_embeddings")
POSITIONS = learned(*ROWS, absent=1024)
GPT2: dict[str, Any] = {"hidden": HIDDEN, "layers": LAYERS, "positions": POSITIONS, "norms": LAYER_NORM, "attributes": {"tied": TIED}}
GPT_IGNORED = ("scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")


def gpt_attention(
    *, hidden_size: tuple[str, ...] = HIDDEN, heads: tuple[str, ...] = HEADS, kv_heads: Any = None, **recipe: Any
) -> PartReader:
    """Heads that together have the hidden size, with any of the fields' spellings.

    Parameters
    ----------
    kv_heads : the number of KV heads as a function of the config's fields and the number of heads; by default as many as heads.
    """

    def read(fields: Fields, hidden: int) -> tuple[Part, dict[Symbol, int]]:
        name, many = fields.named(*hidden_size), fields.named(*heads)
        count = fields.size(many)
        width = fields.divides(name, hidden, many, count)
        groups = kv_heads(fields, count) if kv_heads else None
        part = Attention(**resolved(fields, {"bias": True, "out_bias": True, "rotary": False, "grouped": groups is not None} | recipe))
        sizes = {symbols.h: count} | ({symbols.k: groups} if groups else {}) | {symbols.e: width}
        return part, sizes | ({symbols.r: _gptj_turned(fields, width) if groups is None else width} if part.rotary else {})

    return read


def _gptj_turned(fields: Fields, head_dim: int) -> int:
    turned = fields.size("rotary_dim", 64, null=head_dim)
    if turned > head_dim:
        raise fields.error(f"rotary_dim {turned} is larger than the head dimension {head_dim}")
    return turned


def _falcon_kv_heads(fields: Fields, heads: int) -> int:
    single, name = fields.flag("multi_query", True), fields.named("num_kv_heads", "n_head_kv")
    stated = fields.size(name, heads)
    if fields.flag("new_decoder_architecture", False):
        fields.divides("num_attention_heads", heads, name, stated)
        return stated
    if not single and stated != heads:
        raise fields.error(f"{name} is {stated}; expected {heads}, as many as query heads, where multi_query is false")
    return 1 if single else heads


def _falcon_shared_norm(fields: Fields) -> bool:
    new, parallel = fields.flag("new_decoder_architecture", False), fields.flag("parallel_attn", True)
    norms = fields.size("num_ln_in_parallel_attn", 2 if new else 1, high=2)
    if norms == 2 and parallel and not new:
        raise fields.error("num_ln_in_parallel_attn is 2; only 1 is understood without new_decoder_architecture")
    if new and not parallel:
        raise fields.error("parallel_attn is false; only true is understood with new_decoder_architecture")
    return norms == 1


def opt_norms(fields: Fields) -> Norms:
    """Before each half of a layer, or on its sum."""
    before, learned = fields.flag("do_layer_norm_before", True), fields.flag("layer_norm_elementwise_affine", True)
    return Norms(Norm.LAYER, weight=learned, bias=learned, before=before, behind=not before)


def _opt_final_norm(fields: Fields) -> bool:
    return opt_norms(fields).before and not fields.flag("_remove_final_layer_norm", False)


def bigcode_kv_heads(fields: Fields, heads: int) -> int | None:
    """One with ``multi_query``; what Transformers 5 saves beside it has to agree."""
    shared = fields.flag("multi_query", True)
    fields.fixed("num_key_value_heads", 1 if shared else heads, "that of multi_query")
    return 1 if shared else None


PLAIN_MLP = (
    DecoderFamily(
        "gpt2",
        "Radford et al. (2019), Language models are unsupervised multitask learners; Transformers' GPT2Config",
        {"full": gpt_attention(), "dense": plain_mlp(width="n_inner", times=4, activation=GPT_ACTIVATION)},
        ignored=GPT_IGNORED,
        **GPT2,
    ),
    DecoderFamily(
        "gpt_bigcode",
        "Li et al. (2023), StarCoder, arXiv:2305.06161; Transformers' GPTBigCodeConfig",
        {
            "full": gpt_attention(kv_heads=bigcode_kv_heads),
            "dense": plain_mlp(width="n_inner", times=4, activation=activation("gelu_pytorch_tanh", "activation_function")),
        },
        ignored=(
            *GPT_IGNORED,
            *("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner", "validate_runner_input"),
            *("pre_allocate_kv_cache", "max_sequence_length", "max_batch_size", "pad_key_length"),
        ),
        **GPT2,
    ),
    DecoderFamily(
        "gptj",
        "Wang and Komatsuzaki (2021), GPT-J-6B; Transformers' GPTJConfig",
        {
            "full": gpt_attention(bias=False, out_bias=False, rotary=True),
            "dense": plain_mlp(width="n_inner", times=4, activation=GPT_ACTIVATION),
        },
        hidden=HIDDEN,
        layers=LAYERS,
        positions=at_most(*ROWS),
        norms=LAYER_NORM,
        attributes={"head_bias": True, **SIDE_BY_SIDE},
        ignored=(*GPT_IGNORED, "rotary"),
    ),
    DecoderFamily(
        "gpt_neox",
        "Black et al. (2022), arXiv:2204.06745; Biderman et al. (2023), Pythia, arXiv:2304.01373; Transformers' GPTNeoXConfig",
        {
            "full": attention(turned="0.25", filled=True, **biased("attention_bias", True), grouped=False),
            "dense": plain_mlp(activation=activation("gelu")),
        },
        norms=LAYER_NORM,
        attributes={"parallel": flag("use_parallel_residual", True)},
    ),
    DecoderFamily(
        "bloom",
        "BigScience (2022), arXiv:2211.05100; Transformers' BloomConfig, whose BloomMLP fixes the 4",
        {
            "full": gpt_attention(hidden_size=("hidden_size", "n_embed"), biased=True),
            "dense": plain_mlp(width="", times=4, activation="gelu_tanh"),
        },
        hidden=("hidden_size", "n_embed"),
        layers=LAYERS,
        positions=at_most(),
        norms=LAYER_NORM,
        attributes={"tied": TIED, "embedding_norm": True},
        ignored=(
            *("apply_residual_connection_post_layernorm", "attention_softmax_in_fp32", "n_inner", "unk_token"),
            *("skip_bias_add", "skip_bias_add_qkv"),
        ),
    ),
    DecoderFamily(
        "falcon",
        "Almazrouei et al. (2023), arXiv:2311.16867; Transformers' FalconConfig",
        {
            "full": gpt_attention(
                hidden_size=("hidden_size", "n_embed"),
                heads=("num_attention_heads", "n_head"),
                kv_heads=_falcon_kv_heads,
                **biased("bias", False),
                rotary=lambda fields: not fields.flag("alibi", False),
                biased=flag("alibi", False),
            ),
            "dense": plain_mlp(width="ffn_hidden_size", times=4, activation=activation("gelu", "activation"), bias=flag("bias", False)),
        },
        hidden=("hidden_size", "n_embed"),
        layers=("num_hidden_layers", "n_layer"),
        norms=LAYER_NORM,
        attributes={"tied": TIED, "parallel": flag("parallel_attn", True), "shared_norm": _falcon_shared_norm},
        ignored=("ff_factor", "apply_residual_connection_post_layernorm"),
    ),
    DecoderFamily(
        "opt",
        "Zhang et al. (2022), arXiv:2205.01068; Transformers' OPTConfig; opt-350m has its norms behind and projects a narrower embedding",
        {
            "full": gpt_attention(hidden_size=("hidden_size",), heads=("num_attention_heads",), **biased("enable_bias", True)),
            "dense": plain_mlp(width="ffn_dim", activation=activation("relu", "activation_function"), bias=flag("enable_bias", True)),
        },
        embedded="word_embed_proj_dim",
        positions=learned("max_position_embeddings", absent=2048, beside=2),  # the padding index takes two rows
        attributes={"tied": TIED, "norms": opt_norms, "final_norm": _opt_final_norm},
        ignored=("activation_dropout", "layerdrop"),
    ),
    DecoderFamily(
        "starcoder2",
        "Lozhkov et al. (2024), arXiv:2402.19173; Transformers' Starcoder2Config",
        {
            "full": attention(kv_heads=2, **biased("use_bias", True)),
            "dense": plain_mlp(activation=activation("gelu_pytorch_tanh"), bias=flag("use_bias", True)),
        },
        mixers=windowed(),
        norms=LAYER_NORM,
        attributes={"tied": TIED},
        ignored=("mlp_type", "norm_type"),
    ),
)
