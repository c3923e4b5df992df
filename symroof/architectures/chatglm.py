"""ChatGLM3: RMSNorm, half-rotary embedding, multi-query groups with QKV bias, gated MLP."""

from __future__ import annotations

from dataclasses import dataclass

from symroof import symbols
from symroof.architectures.fields import COMMON, Fields
from symroof.architectures.llama import Llama


@dataclass(frozen=True)
class ChatGLM(Llama):
    """Llama's block with two KV groups, biases on q, k and v, and half of each head turned.

    The published code fuses q, k, v and gate, up into one matrix each; they are counted apart here,
    which moves the same weights and reads the input once for each.

    Source: THUDM/chatglm3-6b, modeling_chatglm.py and config.json on the hub.
    """

    family = "chatglm"
    model_types = ("chatglm",)
    harmless = (
        *COMMON,
        *(
            "apply_query_key_layer_scaling",
            "attention_dropout",
            "attention_softmax_in_fp32",
            "bias_dropout_fusion",
            "fp32_residual_connection",
        ),
        *("hidden_dropout", "layernorm_epsilon", "rope_ratio", "classifier_dropout", "interleaved_qkv"),
        *("vocab_size",),
    )

    @classmethod
    def read(cls, fields: Fields) -> ChatGLM:
        heads, head_dim = fields.size("num_attention_heads"), fields.size("kv_channels", 128)
        groups = fields.size("multi_query_group_num", 1) if fields.flag("multi_query_attention", False) else heads
        fields.divides("num_attention_heads", heads, "multi_query_group_num", groups)
        fields.fixed("rmsnorm", True, "the published models use RMSNorm")
        fields.fixed("post_layer_norm", True, "a norm follows the last layer")
        fields.fixed("apply_residual_connection_post_layernorm", False, "the residual is taken before the norm")
        fields.fixed("original_rope", True, "half of each head is turned")
        fields.fixed("pre_seq_len", None, "no prefix encoder")
        dimensions = {
            symbols.d: fields.size("hidden_size"),
            symbols.f: fields.size("ffn_hidden_size"),
            symbols.h: heads,
            symbols.k: groups,
            symbols.e: head_dim,
            symbols.r: fields.divides("kv_channels", head_dim, "the turned share", 2),
            symbols.v: fields.size("padded_vocab_size"),
            symbols.L: fields.size("num_layers"),
        }
        bias = fields.flag("add_bias_linear", False)
        return cls(
            dimensions,
            fields.size("seq_length", None),
            tied=fields.flag("tie_word_embeddings", False),
            qkv_bias=bias or fields.flag("add_qkv_bias", False),
            out_bias=bias,
            mlp_bias=bias,
            activation="silu",
        )
