"""Encoders of text: BERT, RoBERTa, XLM-RoBERTa, ModernBERT. All tokens are read at once, without a mask; nothing is generated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.families.family import LAYER_NORM, stack
from symroof.architectures.families.layouts import LAYER_TYPES, by_period
from symroof.architectures.families.recipes import TIED, activation, attention, biased, flag, mlp
from symroof.architectures.fields import IGNORED, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.part import ACTIVATIONS, BlockBuilder, Part
from symroof.conventions import Convention
from symroof.errors import quote
from symroof.operators import Block, Parameter, Role, Space, Storage, Tensor
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.elementwise import activation as activate
from symroof.operators.linear import embedding, linear

TANH_FLOPS = 1
GELU = activation("gelu")
FIRST, ALL = "one", "s"
"""The rows a head works on: the first token of each sequence, or all tokens."""

Steps = tuple[tuple[str, str], ...]
"""What a head does to which rows, in order: "pool", "project", "predict" (logits), "classify", "next" (is this the next sentence)."""

PREDICTED: Steps = (("project", ALL), ("predict", ALL))
BERT_HEADS: Mapping[str, Steps] = {
    "Model": (("pool", FIRST),),
    "ForMaskedLM": PREDICTED,
    "ForPreTraining": (("pool", FIRST), ("next", FIRST), *PREDICTED),
    "ForSequenceClassification": (("pool", FIRST), ("classify", FIRST)),
    "ForTokenClassification": (("classify", ALL),),
    "ForQuestionAnswering": (("classify", ALL),),
}
MODERN_HEADS: Mapping[str, Steps] = {
    "Model": (),
    "ForMaskedLM": PREDICTED,
    "ForSequenceClassification": (("project", FIRST), ("classify", FIRST)),
    "ForTokenClassification": (("project", ALL), ("classify", ALL)),
    "ForQuestionAnswering": (("project", ALL), ("classify", ALL)),
}
"""What follows the layers, by the end of the name in ``architectures``; without one, the model alone."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder(Architecture):
    """Tokens, each attending to all, or to those within a window on both sides; then a head.

    Attributes
    ----------
    steps : what the head does.
    activation, projection_bias : of the projection before logits or classes.
    bare : a kind of layers whose attention has no norm before it.
    """

    steps: Steps
    activation: str
    projection_bias: bool = True
    bare: str = ""
    generative: ClassVar[bool] = False
    decodes: ClassVar[bool] = False

    def axes(self) -> dict[str, Expr]:
        # o runs over the hidden size a second time, y over the two answers on the next sentence
        named = {"n_y": symbols.n_y, "N": symbols.N}
        return super().axes() | named | {"o": symbols.d, "y": Integer(2), FIRST: Integer(1)}

    def space(self, options: Options) -> Space:
        return replace(super().space(options), chosen=True)

    def within(self, space: Space, options: Options, layer: Layer) -> Space:
        return space.surrounded(symbols.t_w) if options.causal else space

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        entry, *layers, _ = super().blocks(space, options)
        return entry, *layers, self._end(entry.operators[0].reads[0].tensor, layers[-1].operators[-1].result)

    def _entry(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        rows = record(embedding("embedding", table, x.axes))
        for name, axis, symbol in (("type", "n_y", symbols.n_y), ("position", "m", symbols.m)):
            if symbol in self.dimensions:
                more = Tensor(f"{name}_embedding.weight", (axis, "d"), Storage.WEIGHT, x.space, parameter=Parameter.TABLE)
                rows = record(add(f"{name}_add", rows, record(embedding(f"{name}_embedding", more, x.axes))))
        record(self.norms("embedding_norm", rows))
        return record.block("embedding", x)

    def _layer(self, layer: Layer, x: Tensor, options: Options) -> Block:
        block = super()._layer(layer, x, options)
        if layer.kind != self.bare:
            return block
        first, *others = block.operators  # the norm, whose input its readers read
        read = {first.result: first.reads[0].tensor}
        operators = (
            replace(one, reads=tuple(replace(access, tensor=read.get(access.tensor, access.tensor)) for access in one.reads))
            for one in others
        )
        return replace(block, operators=tuple(operators))

    def _end(self, table: Tensor, x: Tensor) -> Block:
        record = BlockBuilder()
        final = record(self.norms("final_norm", x)) if self.final_norm else x
        given = final
        for step, rows in self.steps:
            if step == "pool":
                given = record(linear("pooler", f"b {rows} d, d o -> b {rows} o", final, bias=True))
                given = record(elementwise("pooler_act", (given,), given.axes, TANH_FLOPS, role=Role.ACTIVATION))
            elif step == "project":
                given = record(linear("prediction_proj", f"b {rows} d, d o -> b {rows} o", final, bias=self.projection_bias))
                given = record(activate("prediction_act", self.activation, given))
                given = record(norm("prediction_norm", given, self.norms.style, bias=self.norms.bias, over=("o",)))
            elif step == "predict":
                weight = table if self.tied else None
                record(linear("lm_head", "b s d, v d -> b s v", given, weight=weight, bias=self.head_bias, role=Role.HEAD))
            elif step == "next":
                record(linear("next_sentence", f"b {rows} d, d y -> b {rows} y", given, bias=True, role=Role.HEAD))
            else:
                record(linear("classifier", f"b {rows} d, d N -> b {rows} N", given, bias=True, role=Role.HEAD))
        return record.block("head")

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        windows = any(layer.window for layer in self.layers)
        sides = "a sliding window: the W - 1 tokens on each side are attended to" if options.causal else "all pairs, of windows too"
        texts = {
            "mask": "an encoder has no causal mask" + (f"; {sides}" if windows else ": all tokens attend to all"),
            "phase": "all tokens are read at once; nothing is cached",
            "lm-head": "the head that architectures names" if self.steps else "no head",
        }
        return tuple(Convention(key, text) for key, text in texts.items())


def head_of(fields: Fields, heads: Mapping[str, Steps]) -> tuple[Steps, dict[Symbol, int]]:
    """The head that ``architectures`` names, and the number of its classes."""
    named: Any = fields.peek("architectures")
    name = str(named[0]) if isinstance(named, list) and named else "Model"
    steps = next((steps for end, steps in heads.items() if name.endswith(end)), None)
    if steps is None:
        raise fields.error(f"architectures is {quote(named)}; expected a name that ends in {', '.join(heads)}")
    labels: Any = fields.peek("id2label")
    listed = len(labels) if isinstance(labels, Mapping) and labels else 2
    return steps, ({symbols.N: fields.size("num_labels", listed)} if any(step == "classify" for step, _ in steps) else {})


def bert(kind: str, types: int, unused: int) -> Callable[[Fields], TextEncoder]:
    """A norm behind each half of a layer, learned positions, *unused* rows of which belong to no token, and types of tokens."""

    def read(fields: Fields) -> TextEncoder:
        fields.plain()
        fields.fixed("is_decoder", False, "an encoder")
        fields.fixed("position_embedding_type", "absolute", "learned positions")
        hidden, count = fields.size("hidden_size"), fields.layers("num_hidden_layers")
        steps, classes = head_of(fields, BERT_HEADS)
        how: dict[str, Any] = {"rotary": False, "grouped": False, "cached": False, "filled": True, "bias": True, "out_bias": True}
        (mixer, sizes), (dense, more) = (
            attention(**how)(fields, hidden),
            mlp(absent=3072, gated=False, bias=True, activation=GELU)(fields, hidden),
        )
        counts, layers = stack(["full"] * count, ["dense"] * count, {"full": mixer, "dense": dense})
        rows = fields.size("max_position_embeddings", 512)
        own = {symbols.d: hidden, symbols.v: fields.size("vocab_size"), symbols.m: rows, symbols.n_y: fields.size("type_vocab_size", types)}
        norms = replace(LAYER_NORM, before=False, behind=True)
        if steps[-1:] == PREDICTED[-1:]:
            fields.fixed("tie_word_embeddings", True, "the logits are products with the embedding")
        return TextEncoder(
            own | sizes | more | dict(counts) | classes,
            rows - unused,
            layers,
            norms,
            tied=TIED(fields),
            head_bias=True,
            final_norm=False,
            family=kind,
            steps=steps,
            activation=GELU(fields),
        )

    return read


def modern_bert(fields: Fields) -> TextEncoder:
    """Norms before each half but the very first, rotated positions, windows in two of three layers."""
    fields.plain()
    hidden, count = fields.size("hidden_size"), fields.layers("num_hidden_layers")
    steps, classes = head_of(fields, MODERN_HEADS)
    period = fields.size("global_attn_every_n_layers", 3)
    mixers = fields.words("layer_types", LAYER_TYPES, count) or by_period(count, period, 0, "full", "sliding")
    if mixers[0] != "full":
        raise fields.error("layer_types starts with 'sliding_attention'; only a first layer with 'full_attention' is understood")
    bias = biased("attention_bias", False)
    part, sizes = attention(grouped=False, cached=False, filled=True, **bias)(fields, hidden)
    act = activation("gelu", "hidden_activation")
    dense, more = mlp(absent=1152, bias=flag("mlp_bias", False), activation=act)(fields, hidden)
    parts: dict[str, Part] = {"first": part, "full": part, "sliding": part, "dense": dense}
    counts, layers = stack(["first", *mixers[1:]], ["dense"] * count, parts)
    own = {symbols.d: hidden, symbols.v: fields.size("vocab_size")}
    own |= {symbols.W: fields.size("local_attention", 128, low=2) // 2 + 1} if "sliding" in mixers else {}
    return TextEncoder(
        own | sizes | more | dict(counts) | classes,
        fields.size("max_position_embeddings", 8192),
        layers,
        Norms(Norm.LAYER, bias=fields.flag("norm_bias", False)),
        tied=TIED(fields),
        head_bias=fields.flag("decoder_bias", True),
        family="modernbert",
        steps=steps,
        activation=fields.choice("classifier_activation", ACTIVATIONS, "gelu"),
        projection_bias=fields.flag("classifier_bias", False),
        bare=layers[0].kind,
    )


@dataclass(frozen=True, eq=False)
class EncoderFamily:
    """A name, what describes its blocks, how a config is read, fields that leave FLOPs and bytes alone, and whether it has a decoder."""

    family: str
    source: str
    read: Callable[[Fields], Architecture]
    ignored_fields: tuple[str, ...]
    generative: bool = False


IGNORED_OF_BERT = (
    *(*IGNORED, "classifier_dropout", "directionality", "output_past", "cls_token_id", "pooler_fc_size", "num_labels"),
    *("pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type"),
)
IGNORED_OF_MODERN = (
    *(*IGNORED, "cls_token_id", "classifier_dropout", "classifier_pooling", "deterministic_flash_attn", "global_rope_theta", "num_labels"),
    *("initializer_cutoff_factor", "local_rope_theta", "mlp_dropout", "position_embedding_type", "reference_compile", "sparse_prediction"),
    *("sparse_pred_ignore_index", "repad_logits_with_grad", "global_attn_every_n_layers", "sliding_window", "local_attention"),
)

ENCODERS = (
    EncoderFamily("bert", "Devlin et al. (2018), arXiv:1810.04805; Transformers' BertConfig", bert("bert", 2, 0), IGNORED_OF_BERT),
    EncoderFamily("roberta", "Liu et al. (2019), arXiv:1907.11692; Transformers' RobertaConfig", bert("roberta", 2, 2), IGNORED_OF_BERT),
    EncoderFamily(
        "xlm-roberta", "Conneau et al. (2019), arXiv:1911.02116; Transformers' XLMRobertaConfig", bert("xlm-roberta", 2, 2), IGNORED_OF_BERT
    ),
    EncoderFamily("modernbert", "Warner et al. (2024), arXiv:2412.13663; Transformers' ModernBertConfig", modern_bert, IGNORED_OF_MODERN),
)
