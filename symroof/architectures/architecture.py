"""Architectures: layers of one or several kinds, made of parts, between embedding and LM head."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, TypeGuard

from sympy import Add, Expr, Integer, Min, Symbol

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention, LatentAttention
from symroof.architectures.parts.beside import DenseAndExperts, PerLayerInput
from symroof.architectures.parts.compressed import CompressedAttention
from symroof.architectures.parts.mlp import READ, ZERO_EXPERTS, Experts
from symroof.architectures.parts.part import BlockBuilder, Part, residual_stream
from symroof.architectures.parts.recurrent import RECURRENCE, Recurrent
from symroof.conventions import Convention
from symroof.notation import Brief
from symroof.operators import Block, Operator, Parameter, Role, Space, Storage, Tensor, axes_of
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.linear import embedding, linear
from symroof.operators.state_space import convolved

SELECTED = (
    "sparse attention: an indexer scores all keys, and each query reads the rows of the best k_i, without sharing them with other queries; "
    "the scores of the indexer's heads stay on chip, its keys are cached at the width of the cache"
)
"""The convention on selected keys."""

CHUNKED = (
    "chunked attention: a token attends to the earlier ones of its own chunk of W, and W tokens are cached; counted for prompts of whole "
    "chunks, and in decode for the last token of one"
)
"""The convention on chunks, whose exact count would depend on where in a chunk the context ends."""

FINAL_SOFTCAP_FLOPS = 3
"""Divide, tanh, multiply."""

KEYS_AND_VALUES = ("k_cache", "v_cache")


def _selects(part: Part | None) -> TypeGuard[Attention | LatentAttention | CompressedAttention]:
    return isinstance(part, Attention | LatentAttention | CompressedAttention) and part.selection is not None


@dataclass(frozen=True)
class Layer(Brief):
    """One kind of layer: its token mixer, its MLP, and whether attention has a window.

    Attributes
    ----------
    kind : a key of `symroof.symbols.LAYERS`.
    mixer, mlp : the two halves; None if the layer has only the other.
    window : whether attention is limited to the latest ``W`` tokens.
    chunked : whether it is limited to the tokens of the query's own chunk of ``W``.
    own_input : a third half, whose input every layer has of its own.
    """

    kind: str
    mixer: Part | None
    mlp: Part | None
    window: bool = False
    chunked: bool = False
    own_input: PerLayerInput | None = None

    @property
    def halves(self) -> tuple[tuple[str, Part], ...]:
        """The parts of the layer, with the name prefix of their norms and residual additions."""
        mixing = "attn" if isinstance(self.mixer, Attention | LatentAttention | CompressedAttention) else "mixer"
        return tuple([(name, part) for name, part in ((mixing, self.mixer), ("mlp", self.mlp)) if part is not None])

    @property
    def shares(self) -> bool:
        """Whether it has the keys and values of an earlier layer."""
        return isinstance(self.mixer, Attention) and self.mixer.shared


@dataclass(frozen=True)
class Norms:
    """The norms of a layer and their positions.

    Attributes
    ----------
    style, weight, bias : properties of every norm, the final one included.
    before, after : whether a norm precedes each half of a layer, and whether one follows the half before the residual addition.
    behind : whether a norm follows the residual addition.
    """

    style: Norm
    weight: bool = True
    bias: bool = False
    before: bool = True
    after: bool = False
    behind: bool = False

    def __call__(self, name: str, x: Tensor) -> Operator:
        """The norm with this name."""
        return norm(name, x, self.style, weight=self.weight, bias=self.bias)


@dataclass(frozen=True)
class Architecture(Brief):
    """A decoder: ``x = x + mixer(norm(x))``, then ``x = x + mlp(norm(x))``, or both in parallel on the same ``x``.

    Attributes
    ----------
    dimensions : the value of every dimension symbol in this model.
    max_positions : the longest sequence it was published for, if the config states it.
    family : the name of the family, as in `symroof.architectures.families`.
    order : the kind of every layer, from the first to the last; "" for one that has nothing to do.
    generative : whether the model predicts the next token of a vocabulary, under a causal mask.
    decodes : whether it has a step that works on one token per sequence.
    encodes : whether an encoder reads the prompt, to whose output the decoder attends.
    layers : every kind of layer; the symbol of its kind counts the layers.
    norms : the norms of the layers.
    tied : whether the LM head uses the embedding table.
    head_bias : whether the LM head has a bias.
    parallel : whether the two halves of a layer run in parallel, and `shared_norm` whether they share a norm.
    embedding_norm : whether a norm follows the embedding.
    scaled : the positions of multipliers: "embedding", "residual", "logits", or "layer" for one behind each layer.
    final_softcap : whether ``c tanh(logit / c)`` bounds the logits.
    final_norm : whether a norm follows the layers.
    depth_attention : whether every half of a layer weighs the outputs of earlier blocks of layers (attention residuals).
    predicted : the layer of a head that predicts a further token, where the checkpoint has one (`symroof.architectures.prediction`).
    """

    dimensions: Mapping[Symbol, int]
    max_positions: int | None
    layers: tuple[Layer, ...]
    norms: Norms
    tied: bool
    head_bias: bool = False
    parallel: bool = False
    shared_norm: bool = False
    embedding_norm: bool = False
    scaled: frozenset[str] = frozenset()
    final_softcap: bool = False
    final_norm: bool = True
    depth_attention: bool = False
    family: str = field(default="", kw_only=True)
    order: tuple[str, ...] = field(default=(), kw_only=True, repr=False)
    predicted: Layer | None = field(default=None, kw_only=True, repr=False)
    generative: ClassVar[bool] = True
    decodes: ClassVar[bool] = True
    encodes: ClassVar[bool] = False

    @property
    def layer_count(self) -> int:
        """Number of layers, of all kinds and of none."""
        return len(self.order) or sum(self.dimensions.get(count, 0) for count in symbols.LAYERS.values())

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The mixers and MLPs of all kinds of layers."""
        return tuple([part for layer in self.layers for _, part in layer.halves])

    def axes(self) -> dict[str, Expr]:
        """The size of every axis that does not depend on the step, as symbols."""
        sizes: dict[str, Expr] = {"d": symbols.d, "d_t": symbols.d_t, "v": symbols.v, "m": symbols.m}
        for part in (*self.parts, *(layer.own_input for layer in self.layers if layer.own_input is not None)):
            sizes |= part.axes()
        if "d_p" in sizes:
            sizes["n_l"] = Add(*(symbols.LAYERS[layer.kind] for layer in self.layers))
        return sizes

    def space(self, options: Options) -> Space:
        """The axes of one step, all of them symbols."""
        sizes, causal = self.axes() | options.token_sizes(), self.generative and options.causal
        return Space(sizes | ({"s_c": convolved(sizes["s"], causal)} if "k_c" in sizes else {}), causal=causal)

    def definitions(self, options: Options) -> dict[Symbol, Expr]:
        """The definitions of a step's derived symbols."""
        sizes = options.token_sizes()
        defined: dict[Symbol, Expr] = {}
        if any(layer.window or isinstance(layer.mixer, CompressedAttention) for layer in self.layers):
            defined[symbols.t_w] = Min(sizes["t"], symbols.W, evaluate=False)
        if any(_selects(part) and isinstance(part, Attention | LatentAttention) for part in self.parts):
            defined[symbols.t_i] = Min(sizes["t"], symbols.k_i, evaluate=False)
        if symbols.E_z in self.dimensions:
            share = symbols.E / (symbols.E + symbols.E_z) if options.experts == "expected" else Integer(1)
            defined[symbols.K] = symbols.K_z * share
        if any(_selects(part) and isinstance(part, CompressedAttention) for part in self.parts):
            defined[symbols.t_j] = Min(sizes["t"], symbols.k_i * symbols.m_c, evaluate=False)
        return defined

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        """The operators of one step."""
        table = Tensor("embedding.weight", ("v", self._features), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x = self.stream(space)
        entry, layers = self._entry(table, x), list[Block]()
        inputs = entry.operators[-1].result if self._has_own_inputs else None
        stored: dict[bool, tuple[Tensor, Tensor]] = {}
        for layer in (replace(layer, own_input=layer.own_input and replace(layer.own_input, inputs=inputs)) for layer in self.layers):
            mixer = layer.mixer
            if isinstance(mixer, Attention) and mixer.shared:
                mixer = replace(mixer, stored=stored[layer.window])
            layers.append(block := self._layer(replace(layer, mixer=mixer), x, options))
            kept = [access.tensor for operator in block.operators for access in operator.writes if access.tensor.name in KEYS_AND_VALUES]
            if len(kept) == 2:
                stored[layer.window] = kept[0], kept[1]
        return (entry, *layers, self._head(table, x))

    def stream(self, space: Space) -> Tensor:
        """What passes from layer to layer."""
        return residual_stream(space)

    @property
    def _features(self) -> str:
        """The axis of the token embedding."""
        return "d_t" if symbols.d_t in self.dimensions else "d"

    def _entry(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        rows = record(embedding("embedding", table, axes_of(f"b s {self._features}")))
        if self._features != "d":
            rows = record(linear("project_in", "b s d_t, d_t d -> b s d", rows))
        if symbols.m in self.dimensions:
            places = Tensor("position_embedding.weight", axes_of("m d"), Storage.WEIGHT, x.space, parameter=Parameter.TABLE)
            rows = record(add("embedding_add", rows, record(embedding("position_embedding", places, x.axes))))
        if "embedding" in self.scaled:
            into = x if self._has_own_inputs else None
            rows = record(elementwise("embedding_scale", (rows,), x.axes, 1, into, role=Role.SCALE, linear_in=1))
        if self._has_own_inputs:
            self._own_inputs(record, rows)
            return record.block("embedding")
        if self.embedding_norm:
            record(self.norms("embedding_norm", rows))
        return record.block("embedding", x)

    @property
    def _has_own_inputs(self) -> bool:
        return any(layer.own_input is not None for layer in self.layers)

    def _own_inputs(self, record: BlockBuilder, x: Tensor) -> None:
        """The inputs that layers have of their own: an embedding of the token for all of them, and a projection of the other one."""
        axes = axes_of("b s n_l d_p")
        table = Tensor("per_layer_embedding.weight", axes_of("v_l n_l d_p"), Storage.WEIGHT, x.space, parameter=Parameter.TABLE)
        rows = record(embedding("per_layer_embedding", table, axes))
        rows = record(elementwise("per_layer_embedding_scale", (rows,), axes, 1, role=Role.SCALE, linear_in=1))
        projected = record(linear("per_layer_model_proj", "b s d, d n_l d_p -> b s n_l d_p", x))
        projected = record(norm("per_layer_model_norm", projected, Norm.RMS, over=("d_p",)))
        record(elementwise("per_layer_add", (projected, rows), axes, 2, role=Role.ADD, linear_in=2))

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        record = BlockBuilder(f"{layer.kind}." if len(self.layers) > 1 else "")
        context = self.within(x.space, options, layer) if layer.window else x.space
        arrange = self._side_by_side if self.parallel else self._in_turn
        arrange(record, layer.halves, x, context, options)
        if layer.own_input is not None:
            stream = record.operators[-1].result
            given = layer.own_input(record, stream, context, options)
            record(add("per_layer_residual_add", stream, record(self.norms("per_layer_post_norm", given))))
        if "layer" in self.scaled:
            record(elementwise("layer_scale", (record.operators[-1].result,), x.axes, 1, role=Role.SCALE, linear_in=1))
        return record.layers(layer.kind, x)

    def within(self, space: Space, options: Options, layer: Layer) -> Space:
        """The space of a layer with a window."""
        return space.windowed(symbols.t_w, chunked=layer.chunked)

    def _in_turn(self, record: BlockBuilder, halves: Iterable[tuple[str, Part]], x: Tensor, space: Space, options: Options) -> None:
        stream = x
        for name, part in halves:
            normed = self.norms.before and not isinstance(part, DenseAndExperts)
            weighed = self._weighed(record, f"{name}_depth", stream)
            inside = record(self.norms(f"{name}_norm", weighed)) if normed else weighed
            given = part(record, inside, space, options)
            if self.norms.after:
                given = record(self.norms(f"{name}_post_norm", given))
            flops = 2 if "residual" in self.scaled else 1
            stream = record(elementwise(f"{name}_add", (stream, given), x.axes, flops, role=Role.ADD, linear_in=2))
            if self.norms.behind:
                stream = record(self.norms(f"{name}_norm", stream))

    def _weighed(self, record: BlockBuilder, name: str, x: Tensor) -> Tensor:
        """The residual stream times its weight among the outputs of earlier blocks of layers, from the logit of a norm."""
        if not self.depth_attention:
            return x
        logit = record(linear(f"{name}_proj", "b s d, d one -> b s one", record(norm(f"{name}_norm", x, Norm.RMS)), role=Role.ROUTER))
        return record(elementwise(f"{name}_weigh", (x, logit), x.axes, 1, role=Role.SCALE, linear_in=1))

    def _side_by_side(self, record: BlockBuilder, halves: Iterable[tuple[str, Part]], x: Tensor, space: Space, options: Options) -> None:
        given, inside = list[Tensor](), x
        for name, part in halves:
            if not given or not self.shared_norm:
                inside = record(self.norms(f"{name}_norm", x))
            given.append(part(record, inside, space, options))
        record(add("mlp_add", record(add("attn_add", *given)), x))

    def _head(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        x = self._weighed(record, "final_depth", x)
        final, features = record(self.norms("final_norm", x)) if self.final_norm else x, self._features
        if features != "d":
            final = record(linear("project_out", "b s d, d d_t -> b s d_t", final))
        spec, weight = f"b u {features}, v {features} -> b u v", table if self.tied else None
        logits = record(linear("lm_head", spec, final, weight=weight, bias=self.head_bias, role=Role.HEAD))
        if "logits" in self.scaled:
            logits = record(elementwise("logits_scale", (logits,), logits.axes, 1, role=Role.SCALE, linear_in=1))
        if self.final_softcap:
            record(elementwise("logits_softcap", (logits,), logits.axes, FINAL_SOFTCAP_FLOPS))
        return record.block("head")

    @property
    def selects(self) -> bool:
        """Whether queries attend to selected keys."""
        return any(_selects(part) for part in self.parts)

    @property
    def attending_to_all(self) -> Self:
        """The same model without an indexer, with attention to all keys."""
        layers = (replace(layer, mixer=replace(layer.mixer, selection=None)) if _selects(layer.mixer) else layer for layer in self.layers)
        return replace(self, layers=tuple(layers))

    @property
    def routed(self) -> bool:
        """Whether tokens choose among experts."""
        return any(isinstance(part, Experts | DenseAndExperts) for part in self.parts)

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        """The conventions of this family's counts."""
        texts: dict[str, str] = {}
        if any(layer.chunked for layer in self.layers):
            texts["window"] = CHUNKED
        elif symbols.t_w in self.definitions(options):
            texts["window"] = "sliding window: only the latest W tokens are attended to and cached"
        if any(layer.shares for layer in self.layers):
            texts["shared-cache"] = "layers that share keys and values read the cache of an earlier layer and add nothing to it"
        if self.routed:
            texts["routing"] = f"mixture of experts: {READ[options.experts]}; every expert reads its tokens' inputs"
        if symbols.E_z in self.dimensions:
            texts["zero-experts"] = ZERO_EXPERTS[options.experts]
        if latent := [part for part in self.parts if isinstance(part, LatentAttention)]:
            how = "absorbed: attention on" if latent[0].absorbed(options) else "decompressed: keys and values of all heads from"
            texts["latent-attention"] = f"latent attention, {how} the compressed vectors"
        if "" in self.order:
            texts["left-out"] = f"{self.order.count('')} of {len(self.order)} layers have neither attention nor an MLP, and are not counted"
        if self.depth_attention:
            texts["depth-attention"] = "attention residuals: of the earlier outputs that a layer weighs, the latest is counted"
        if self.selects:
            texts["sparse-attention"] = SELECTED
        if any(isinstance(part, Recurrent) for part in self.parts):
            texts["recurrence"] = RECURRENCE
            if not options.causal and "k_c" in self.axes():
                texts["padding"] = "no causal discount: a convolution also computes the outputs of its padding"
        return tuple(Convention(key, text) for key, text in texts.items())
