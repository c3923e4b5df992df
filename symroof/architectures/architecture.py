"""Architectures: layers of one or several kinds, made of parts, between embedding and LM head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self, TypeGuard

from sympy import Expr, Min, Symbol

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention, LatentAttention
from symroof.architectures.parts.compressed import CompressedAttention
from symroof.architectures.parts.mlp import Experts
from symroof.architectures.parts.part import BlockBuilder, Part, residual_stream
from symroof.architectures.parts.recurrent import GatedDelta, Mamba, Mamba2, SideBySide
from symroof.conventions import Convention
from symroof.notation import Brief
from symroof.operators import Block, Operator, Parameter, Role, Space, Storage, Tensor, axes_of
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.linear import embedding, linear
from symroof.operators.state_space import convolved

READ = {
    "expected": "a step of T tokens reads the weights of X = E (1 - (1 - K/E)^T) experts per layer, the expected value for independent "
    "uniform routing; real routers are correlated, and X = min(E, K T) is an upper bound (experts at-most)",
    "at-most": "a step of T tokens reads the weights of X = min(E, K T) experts per layer, an upper bound; independent uniform routing "
    "reads E (1 - (1 - K/E)^T) in expectation (experts expected)",
}
"""The convention on the experts that a step reads."""

SELECTED = (
    "sparse attention: an indexer scores all keys, and each query reads the rows of the best k_i, without sharing them with other queries; "
    "the scores of the indexer's heads stay on chip, its keys are cached at the width of the cache"
)
"""The convention on selected keys."""

FINAL_SOFTCAP_FLOPS = 3
"""Divide, tanh, multiply."""


def _selects(part: Part | None) -> TypeGuard[LatentAttention | CompressedAttention]:
    return isinstance(part, LatentAttention | CompressedAttention) and part.selection is not None


@dataclass(frozen=True)
class Layer:
    """One kind of layer: its token mixer, its MLP, and whether attention has a window.

    Attributes
    ----------
    kind : a key of `symroof.symbols.LAYERS`.
    mixer, mlp : the two halves; None if the layer has only the other.
    window : whether attention is limited to the latest ``W`` tokens.
    """

    kind: str
    mixer: Part | None
    mlp: Part | None
    window: bool = False

    @property
    def halves(self) -> tuple[tuple[str, Part], ...]:
        """The parts of the layer, with the name prefix of their norms and residual additions."""
        mixing = "attn" if isinstance(self.mixer, Attention | LatentAttention | CompressedAttention) else "mixer"
        return tuple((name, part) for name, part in ((mixing, self.mixer), ("mlp", self.mlp)) if part is not None)


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
    order : the kind of every layer, from the first to the last.
    generative : whether the model predicts the next token of a vocabulary, under a causal mask.
    decodes : whether it has a step that works on one token per sequence.
    encodes : whether an encoder reads the prompt, to whose output the decoder attends.
    layers : every kind of layer; the symbol of its kind counts the layers.
    norms : the norms of the layers.
    tied : whether the LM head uses the embedding table.
    head_bias : whether the LM head has a bias.
    parallel : whether the two halves of a layer run in parallel, and `shared_norm` whether they share a norm.
    embedding_norm : whether a norm follows the embedding.
    scaled : the positions of multipliers: "embedding", "residual", "logits".
    final_softcap : whether ``c tanh(logit / c)`` bounds the logits.
    final_norm : whether a norm follows the layers.
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
    family: str = field(default="", kw_only=True)
    order: tuple[str, ...] = field(default=(), kw_only=True, repr=False)
    generative: ClassVar[bool] = True
    decodes: ClassVar[bool] = True
    encodes: ClassVar[bool] = False

    @property
    def layer_count(self) -> int:
        """Number of layers, of all kinds."""
        return sum(self.dimensions.get(count, 0) for count in symbols.LAYERS.values())

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mixers and MLPs of all kinds of layers."""
        return tuple(part for layer in self.layers for _, part in layer.halves)

    def axes(self) -> dict[str, Expr]:
        """The size of every axis that does not depend on the step, as symbols."""
        sizes: dict[str, Expr] = {"d": symbols.d, "d_t": symbols.d_t, "v": symbols.v, "m": symbols.m}
        for part in self.parts:
            sizes |= part.axes()
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
        if any(_selects(part) and isinstance(part, LatentAttention) for part in self.parts):
            defined[symbols.t_i] = Min(sizes["t"], symbols.k_i, evaluate=False)
        if any(_selects(part) and isinstance(part, CompressedAttention) for part in self.parts):
            defined[symbols.t_j] = Min(sizes["t"], symbols.k_i * symbols.m_c, evaluate=False)
        return defined

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        """The operators of one step."""
        table = Tensor("embedding.weight", ("v", self._features), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x = residual_stream(space)
        return (self._entry(table, x), *(self._layer(layer, x, options) for layer in self.layers), self._head(table, x))

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
            rows = record(elementwise("embedding_scale", (rows,), x.axes, 1, role=Role.SCALE, linear_in=1))
        if self.embedding_norm:
            record(self.norms("embedding_norm", rows))
        return record.block("embedding", x)

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        record = BlockBuilder(f"{layer.kind}." if len(self.layers) > 1 else "")
        context = self.within(x.space, options) if layer.window else x.space
        arrange = self._side_by_side if self.parallel else self._in_turn
        arrange(record, layer.halves, x, context, options)
        return record.layers(layer.kind, x)

    def within(self, space: Space, options: Options) -> Space:
        """The space of a layer with a window."""
        return space.windowed(symbols.t_w)

    def _in_turn(self, record: BlockBuilder, halves: Iterable[tuple[str, Part]], x: Tensor, space: Space, options: Options) -> None:
        stream = x
        for name, part in halves:
            inside = record(self.norms(f"{name}_norm", stream)) if self.norms.before else stream
            given = part(record, inside, space, options)
            if self.norms.after:
                given = record(self.norms(f"{name}_post_norm", given))
            flops = 2 if "residual" in self.scaled else 1
            stream = record(elementwise(f"{name}_add", (stream, given), x.axes, flops, role=Role.ADD, linear_in=2))
            if self.norms.behind:
                stream = record(self.norms(f"{name}_norm", stream))

    def _side_by_side(self, record: BlockBuilder, halves: Iterable[tuple[str, Part]], x: Tensor, space: Space, options: Options) -> None:
        given: list[Tensor] = []
        inside = x
        for name, part in halves:
            if not given or not self.shared_norm:
                inside = record(self.norms(f"{name}_norm", x))
            given.append(part(record, inside, space, options))
        both = record(add("attn_add", *given))
        record(add("mlp_add", both, x))

    def _head(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
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
        return any(isinstance(part, Experts) for part in self.parts)

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        """The conventions of this family's counts."""
        texts: dict[str, str] = {}
        if any(layer.window for layer in self.layers):
            texts["window"] = "sliding window: only the latest W tokens are attended to and cached"
        if self.routed:
            texts["routing"] = f"mixture of experts: {READ[options.experts]}; every expert reads its tokens' inputs"
        if latent := [part for part in self.parts if isinstance(part, LatentAttention)]:
            absorbed = latent[0].absorbed(options)
            how = "absorbed: attention on the compressed vectors" if absorbed else "decompressed: keys and values of all heads"
            texts["latent-attention"] = f"latent attention, {how}"
        if self.selects:
            texts["sparse-attention"] = SELECTED
        alone = (inner for part in self.parts for inner in ((part.first, part.second) if isinstance(part, SideBySide) else (part,)))
        if any(isinstance(part, Mamba | Mamba2 | GatedDelta) for part in alone):
            counted = "FLOPs of the recurrence, token by token; the state is read and written once per step"
            bound = "a scan runs at the matrix peak, so its compute time is a lower bound"
            texts["recurrence"] = f"recurrent layers: {counted}; {bound}"
            if not options.causal:
                texts["padding"] = "no causal discount: a convolution also computes the outputs of its padding"
        return tuple(Convention(key, text) for key, text in texts.items())
