"""Heads that propose tokens from a model's hidden states: multi-token-prediction layers, and those of EAGLE."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures import exact
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.model import Model
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import BlockBuilder, residual_stream
from symroof.conventions import BITS
from symroof.errors import InputError
from symroof.operators import Block, Graph, Parameter, Role, Space, Storage, Tensor, axes_of
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.linear import embedding, linear


def _paired(space: Space) -> Tensor:
    """Two vectors of the hidden size side by side."""
    return Tensor("paired", axes_of("b s paired"), Storage.ACTIVATION, space)


@dataclass(frozen=True)
class MtpHead(Architecture):
    """A layer of the model's own behind a projection of the hidden state and the next token's embedding, each behind a norm.

    ========== ======================================================================
    parameters those of the layer, ``2 d^2`` of the projection, ``3 d`` of norms
    shared     the embedding and the LM head, which has a norm of the head's before it
    ========== ======================================================================

    >>> import symroof
    >>> deepseek = symroof.load_model("deepseek-v3")
    >>> print(round(own_parameters(mtp_head(deepseek)) / 10**9, 2))
    11.61

    Sources: DeepSeek-AI (2024), arXiv:2412.19437, section 2.2, equations 21 to 23; vLLM, ``models/deepseek_mtp.py``.
    """

    def axes(self) -> dict[str, Expr]:
        return super().axes() | {"paired": 2 * symbols.d}

    def _entry(self, table: Tensor, x: Tensor) -> Block:
        record, both = BlockBuilder(), _paired(x.space)
        token = record(embedding("embedding", table, x.axes))
        for name, part in (("token_norm", token), ("hidden_norm", x)):
            record(norm(name, part, self.norms.style, weight=self.norms.weight, bias=self.norms.bias, into=both))
        record(linear("eh_proj", "b s paired, paired d -> b s d", both))
        return record.block("embedding", x)


@dataclass(frozen=True)
class EagleHead(Architecture):
    """A Llama layer of the target's sizes on hidden states of the target and the embedding of the next token.

    ========== ================================= ===========================================================
    .          EAGLE, EAGLE-2                    EAGLE-3
    ========== ================================= ===========================================================
    fusion     ``2 d^2 + d``, every pass         ``3 d^2``: three layers' hidden states, in the first pass
    attention  on ``d``, no norm before          on ``2 d``: embedding and hidden state, each behind a norm
    LM head    the target's                      its own, ``d v_d`` behind a norm
    ========== ================================= ===========================================================

    The MLP has ``3 d f`` parameters behind a norm; the embedding is the target's.

    Attributes
    ----------
    third : whether it is that of EAGLE-3.
    fused : whether EAGLE-3's hidden states come from the target; later passes take the head's own.

    Sources: Li et al. (2024), EAGLE, arXiv:2401.15077, section 4.1; Li et al. (2025), EAGLE-3, arXiv:2503.01840, section 3.1;
    github.com/SafeAILab/EAGLE at cb7e084, eagle/model/cnets1.py and cnets.py.
    """

    third: bool = False
    fused: bool = True

    def axes(self) -> dict[str, Expr]:
        return super().axes() | {"paired": 2 * symbols.d, "features": 3 * symbols.d, "v_d": symbols.v_d}

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x, record = residual_stream(space), BlockBuilder()
        token = record(embedding("embedding", table, x.axes))
        if not self.third:
            both = record(elementwise("concat", (token, x), axes_of("b s paired"), 0, _paired(space)))
            record(linear("fc", "b s paired, paired d -> b s d", both, bias=True))
        elif self.fused:
            features = Tensor("target_features", axes_of("b s features"), Storage.ACTIVATION, space)
            record(linear("fc", "b s features, features d -> b s d", features))
        entry = record.block("embedding", None if self.third and not self.fused else x)
        record, (layer,) = BlockBuilder(), self.layers
        assert layer.mixer is not None
        assert layer.mlp is not None
        inside = x
        if self.third:
            inside = _paired(space)
            record(norm("token_norm", token, Norm.RMS, into=inside))
            record(norm("hidden_norm", x, Norm.RMS, into=inside))
        stream = record(add("attn_add", x, layer.mixer(record, inside, space, options)))
        normed = record(self.norms("mlp_norm", stream))
        record(add("mlp_add", stream, layer.mlp(record, normed, space, options)))
        return entry, record.layers("layer", x), self._own_head(x) if self.third else self._head(table, x)

    def _own_head(self, x: Tensor) -> Block:
        record = BlockBuilder()
        record(linear("lm_head", "b u d, v_d d -> b u v_d", record(self.norms("final_norm", x)), role=Role.HEAD))
        return record.block("head")


def mtp_head(model: Model) -> MtpHead:
    """The head that a checkpoint of this model has for multi-token prediction.

    Raises
    ------
    InputError
        It has none, or one that is not described here.
    """
    architecture = model.architecture
    if not model.predicting:
        raise InputError(f"{model.name} has no layer that predicts further tokens (num_nextn_predict_layers)")
    if architecture.predicted is None or type(architecture) is not Architecture:
        raise InputError(f"the layer of {model.name} that predicts further tokens is not known here")
    return MtpHead(**{**_fields(architecture), "layers": (architecture.predicted,)})


def eagle_head(model: Model, *, third: bool, own_width: bool = False) -> EagleHead:
    """A head of EAGLE for this model.

    Parameters
    ----------
    third : whether it is that of EAGLE-3.
    own_width : whether the intermediate size ``f`` of its MLP is not the model's.

    Raises
    ------
    InputError
        The model has no attention with KV heads, or no intermediate size, that a Llama layer could have too.

    >>> import symroof
    >>> llama = symroof.load_model("llama-2-7b")
    >>> print(round(own_parameters(eagle_head(llama, third=False)) / 10**9, 2))
    0.24
    """
    architecture = model.architecture
    attention = next((part for part in architecture.parts if isinstance(part, Attention) and not part.own_sizes), None)
    if attention is None or symbols.e not in architecture.dimensions:
        raise InputError(f"{model.name} has no attention with KV heads, whose sizes the layer of an EAGLE head has too")
    if not own_width and symbols.f not in architecture.dimensions:
        raise InputError(f"{model.name} has no dense MLP whose intermediate size an EAGLE head has too: give width")
    mixer = Attention(rotary=attention.rotary, grouped=attention.grouped, fed="paired" if third else "d")
    layer = Layer("layer", mixer, Mlp("silu"))
    plain = {"norms": Norms(Norm.RMS), "final_norm": False, "parallel": False, "predicted": None, "layers": (layer,)}
    return EagleHead(**{**_fields(architecture), **plain}, third=third)


def own_parameters(head: Architecture) -> int:
    """The parameters of a head without the embedding and the LM head that it shares with its model."""
    shared = (Parameter.TABLE, Parameter.HEAD)
    graph = exact.graph(head, Options("decode")).bind({symbol: Integer(size) for symbol, size in head.dimensions.items()})
    weights = {access.tensor for operator, _ in _once(graph) for access in operator.reads if access.tensor.storage is Storage.WEIGHT}
    return int(sum((tensor.elements for tensor in weights if tensor.parameter not in shared), start=Integer(0)))


def head_graph(model: Model, head: Architecture, options: Options) -> Graph:
    """One pass of a head: in the formats of the model's checkpoint, or those of its last layers, if it is part of it."""
    graph = _once(exact.graph(head, options))
    stored = model.quantization
    if stored is None:
        return graph
    if isinstance(head, MtpHead) and not stored.leaves_predicting:
        return stored.apply(graph, options.weight_bits)
    wide = Integer(BITS if options.weight_bits in (None, stored.bits) else options.weight_bits)
    return graph.map(tensor=lambda tensor: tensor.at(wide) if tensor.storage is Storage.WEIGHT else tensor)


def _once(graph: Graph) -> Graph:
    return replace(graph, blocks=tuple(replace(block, count=Integer(1)) for block in graph.blocks))


def _fields(architecture: Architecture) -> dict[str, Any]:
    return {field.name: getattr(architecture, field.name) for field in fields(Architecture)}
