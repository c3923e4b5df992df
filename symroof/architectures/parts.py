"""Parts that several families share to the letter: self-attention, the LM head, the names of activation functions."""

from __future__ import annotations

from symroof.architectures.architecture import Recorder
from symroof.operators.attention import CACHE, attention
from symroof.operators.linear import linear
from symroof.operators.rotary import rotary
from symroof.operators.tensor import Storage, Tensor, axes_of

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu": "gelu", "relu": "relu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
"""Names that configs give to activation functions, and what they are called here."""


def self_attention(
    record: Recorder,
    x: Tensor,
    *,
    fused: bool,
    bias: bool = False,
    out_bias: bool = False,
    turned: bool = False,
    cached: bool = True,
) -> Tensor:
    """Projections, rotary embedding, attention over the context, output projection.

    The new keys and values are written to the cache, where attention reads the whole context, the
    new rows included.

    Parameters
    ----------
    bias, out_bias : whether the q, k, v projections, and the output projection, have one.
    turned : whether queries and keys get a rotary embedding.
    cached : False keeps keys and values as activations (nothing is generated from them).
    """
    space = x.space
    place = Storage.KV_CACHE if cached else Storage.ACTIVATION
    keys, values = Tensor("k_cache", CACHE, place, space), Tensor("v_cache", CACHE, place, space)
    q = record(linear("q_proj", "b s d, d k g e -> b s k g e", x, bias=bias))
    new_keys = record(linear("k_proj", "b s d, d k e -> b s k e", x, bias=bias, into=None if turned else keys))
    record(linear("v_proj", "b s d, d k e -> b s k e", x, bias=bias, into=values))
    if turned:
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        q = record(rotary("q_rotary", q, table))
        record(rotary("k_rotary", new_keys, table, into=keys))
    context = q
    for operator in attention(q, keys, values, fused=fused):
        context = record(operator)
    return record(linear("out_proj", "b s k g e, k g e d -> b s d", context, bias=out_bias))


def lm_head(record: Recorder, x: Tensor, *, tied_to: Tensor | None = None, bias: bool = False, features: str = "d") -> Tensor:
    """Logits of the last token of each sequence, or of all tokens: ``u`` rows."""
    spec = f"b u {features}, v {features} -> b u v"
    return record(linear("lm_head", spec, x, weight=tied_to, bias=bias))
