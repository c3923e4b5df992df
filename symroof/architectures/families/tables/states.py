"""Decoders without any attention whose state is not a state space's: RWKV-4 and xLSTM."""

from __future__ import annotations

from fractions import Fraction

from symroof import symbols
from symroof.architectures.families.family import LAYER_NORM, DecoderFamily, at_most, only
from symroof.architectures.families.recurrent import Reading
from symroof.architectures.fields import Fields
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.rwkv import ChannelMix, TimeMix
from symroof.architectures.parts.xlstm import MatrixMemory


def time_mix(fields: Fields, hidden: int) -> Reading:
    """RWKV-4's first half, whose channels are as many as the hidden size unless the config says otherwise."""
    return TimeMix(), {symbols.d_i: fields.size("attention_hidden_size", hidden)}


def channel_mix(fields: Fields, hidden: int) -> Reading:
    """RWKV-4's MLP."""
    return ChannelMix(), {symbols.f: fields.size("intermediate_size", 4 * hidden)}


def _part_of(fields: Fields, name: str, absent: str, hidden: int, heads: int) -> int:
    """Components of a head: of a multiple of the hidden size, rounded down."""
    product = fields.multiple(name, Fraction(absent), of=hidden)
    return fields.divides(f"{name} x hidden_size", product, "num_heads", heads)


def matrix_memory(fields: Fields, hidden: int) -> Reading:
    """Heads of xLSTM."""
    heads = fields.size("num_heads", 8)
    keys, values = (_part_of(fields, f"{name}_dim_factor", absent, hidden, heads) for name, absent in (("qk", "0.5"), ("v", "1")))
    return MatrixMemory(), {symbols.h_l: heads, symbols.e_k: keys, symbols.e_l: values}


def xlstm_mlp(fields: Fields, hidden: int) -> Reading:
    """A gated MLP, as wide as a multiple of the hidden size, rounded up."""
    wide, step = fields.multiple("ffn_proj_factor", Fraction("2.667"), of=hidden), fields.size("ffn_round_up_to_multiple_of", 64)
    return Mlp("silu"), {symbols.f: -(-wide // step) * step}


STATES = (
    DecoderFamily(
        "rwkv",
        "Peng et al. (2023), RWKV, arXiv:2305.13048; Transformers' RwkvConfig, which is RWKV-4",
        {"time": time_mix, "channel": channel_mix},
        mixers=only("time"),
        mlps=only("channel"),
        norms=LAYER_NORM,
        positions=at_most(),
        attributes={"embedding_norm": True},
        ignored=("rescale_every", "context_length", "max_position_embeddings"),
    ),
    DecoderFamily(
        "xlstm",
        "Beck et al. (2025), xLSTM 7B, arXiv:2503.13427; Transformers' xLSTMConfig, which never ties the LM head",
        {"memory": matrix_memory, "dense": xlstm_mlp},
        mixers=only("memory"),
        hidden=("hidden_size", "embedding_dim"),
        layers=("num_hidden_layers", "num_blocks"),
        positions=at_most(),
        attributes={"tied": False, "final_softcap": True},
        only_understood={
            "use_bias": (False, "only the gates have biases"),
            "add_out_norm": (True, "a norm follows the last layer"),
        },
        ignored=(
            *("tie_word_embeddings", "norm_reduction_force_float32", "chunkwise_kernel", "sequence_kernel", "step_kernel", "mode", "eps"),
            *("chunk_size", "return_last_states", "autocast_kernel_dtype", "inference_state_dtype", "gate_soft_cap", "weight_mode"),
            *("output_logit_soft_cap", "max_inference_chunksize"),
        ),
    ),
)
