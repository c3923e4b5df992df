"""Encoders with a decoder that attends to their output: T5 and Whisper. Prefill is the encoder, decode one token of the decoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from sympy import Expr, Integer, S

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.families.family import LAYER_NORM
from symroof.architectures.families.recipes import activation
from symroof.architectures.families.tables.encoders import EncoderFamily
from symroof.architectures.fields import IGNORED, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS, BlockBuilder, Part
from symroof.conventions import Convention
from symroof.operators import Access, Block, Kind, Operator, Parameter, Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import attention
from symroof.operators.elementwise import Norm, elementwise
from symroof.operators.elementwise import activation as activate
from symroof.operators.linear import embedding, linear

TAPS = 3
"""Taps of Whisper's two convolutions, the second of which takes every other frame. Source: Transformers' WhisperEncoder."""


@dataclass(frozen=True)
class CrossAttention:
    """Queries of the decoder over keys and values of the encoder's output, which are computed once and kept.

    Attributes
    ----------
    bias : whether queries, values and the output have a bias; keys have none.
    """

    bias: bool

    def axes(self) -> dict[str, Expr]:
        return {}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        source = replace(space, sizes={**space.sizes, "t": symbols.t_e}, chosen=True)
        keys, values = (Tensor(f"cross_{kind}_cache", axes_of("b t k e"), Storage.KV_CACHE, source) for kind in "kv")
        q = record(linear("q_proj", "b s d, d k g e -> b s k g e", x, bias=self.bias).prefixed("cross."))
        for operator in attention(q, keys, values, fused=options.flash_attention):
            q = record(operator.prefixed("cross."))
        return record(linear("out_proj", "b s k g e, k g e d -> b s d", q, bias=self.bias).prefixed("cross."))

    def keep(self, record: BlockBuilder, x: Tensor) -> None:
        """Keys and values of the whole output of the encoder, for one layer of the decoder."""
        for kind in "kv":
            cache = Tensor(f"cross_{kind}_cache", axes_of("b s k e"), Storage.KV_CACHE, x.space)
            bias = self.bias and kind == "v"
            record(linear(f"{kind}_proj", "b s d, d k e -> b s k e", x, bias=bias, into=cache).prefixed("cross."))


@dataclass(frozen=True, kw_only=True)
class EncoderDecoder(Architecture):
    """An encoder over the input, and a decoder with attention to itself and to the encoder's output.

    The prefill step encodes ``s`` tokens (of Whisper two frames each) and computes the keys and values that the decoder's layers
    attend to. A decode step reads ``t`` positions of the decoder and ``t_e`` of the input. The weights of the half that does not run
    stay in memory.

    Attributes
    ----------
    layers : of the encoder, and of the decoder.
    cross : the attention to the encoder's output.
    spectrogram : whether the input are frames of a spectrogram, which two convolutions turn into tokens.
    """

    cross: CrossAttention
    spectrogram: bool = False
    encodes: ClassVar[bool] = True

    def axes(self) -> dict[str, Expr]:
        # i runs over the taps of a convolution, o over the hidden size a second time
        return super().axes() | {"C": symbols.C, "m_x": symbols.m_x, "n_r": symbols.n_r, "i": Integer(TAPS), "o": symbols.d}

    def space(self, options: Options) -> Space:
        plain = super().space(options)
        return replace(plain, sizes={**plain.sizes, "frames": 2 * plain.sizes["s"]})

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        table = Tensor("embedding.weight", axes_of("v d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        x, y = (
            Tensor("hidden", axes_of("b s d"), Storage.ACTIVATION, where) for where in (replace(space, causal=False, chosen=True), space)
        )
        encoder, decoder = self.layers
        encoded, crossing = BlockBuilder("encoder."), BlockBuilder("decoder.")
        self.cross.keep(crossing, encoded(self.norms("final_norm", x)))
        reading = (
            self._frames(x) if self.spectrogram else self._words(table, x, "encoder."),
            *self._stack(encoder, x, options),
            encoded.block("encoded"),
            replace(crossing.block("crossing"), count=symbols.LAYERS["decoder"]),
        )
        entry = self._entry(table, y) if self.spectrogram else self._words(table, y, "")
        writing = (entry, *self._stack(decoder, y, options), self._head(table, y))
        return (*map(idle, reading), *writing) if options.decode else (*reading, *map(idle, writing))

    def _words(self, table: Tensor, x: Tensor, prefix: str) -> Block:
        record = BlockBuilder(prefix)
        record(embedding("embedding", table, x.axes))
        return record.block(f"{prefix.rstrip('.')}_embedding".lstrip("_"), x)

    def _frames(self, x: Tensor) -> Block:
        record, space = BlockBuilder("encoder."), x.space
        frames = Tensor("spectrogram", axes_of("b frames C"), Storage.ACTIVATION, space)
        wide = record(linear("conv1", "b frames C, C i d -> b frames d", frames, bias=True))
        wide = record(activate("conv1_act", "gelu", wide))
        every_other = linear("conv2", "b s d, d i o -> b s o", wide, bias=True)
        rows = record(replace(every_other, reads=(Access(wide), *every_other.reads[1:])))
        rows = record(activate("conv2_act", "gelu", rows))
        places = Tensor("encoder_positions.weight", axes_of("m_x d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        record(elementwise("position_add", (rows, Access(places, axes_of("s d"))), x.axes, 1, role=Role.ADD))
        return record.block("encoder_embedding", x)

    def _stack(self, layer: Layer, x: Tensor, options: Options) -> tuple[Block, ...]:
        """The layers of one half; before them the biases by distance, where there are some, which every layer adds to its scores."""
        record = BlockBuilder(f"{layer.kind}.")
        first, second = layer.halves
        between: tuple[tuple[str, Part], ...] = (("cross", self.cross),) if layer.kind == "decoder" else ()
        self._in_turn(record, (first, *between, second), x, x.space, options)
        block = record.layers(layer.kind, x)
        if symbols.n_r not in self.dimensions:
            return (block,)
        learned = Tensor(f"{layer.kind}_distances.weight", axes_of("n_r k"), Storage.WEIGHT, x.space, parameter=Parameter.TABLE)
        bias = Tensor(f"{layer.kind}_distances", axes_of("k s t"), Storage.ACTIVATION, replace(x.space, causal=False))
        looked_up = Operator(bias.name, Kind.EMBEDDING, x.space, (), (Access(learned),), (Access(bias),), role=Role.EMBEDDING)

        def biased(operator: Operator) -> Operator:
            own = operator.role in (Role.SOFTMAX, Role.ATTENTION) and not operator.answers_to & {"cross.softmax", "cross.fused_attention"}
            return replace(operator, reads=(*operator.reads, Access(bias, aside=True))) if own else operator

        return Block(bias.name, (looked_up,)), replace(block, operators=tuple(map(biased, block.operators)))

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        step = (
            "decode: one token of the decoder, whose context of t positions includes it, and t_e positions of the encoder's output"
            if options.decode
            else "prefill: the encoder, without a mask, and the keys and values that the decoder will attend to"
        )
        texts = {"phase": step, "halves": "the weights of the encoder and of the decoder are both in memory"}
        return tuple(Convention(key, text) for key, text in texts.items())


def idle(block: Block) -> Block:
    """A block that the step does not run: its weights stay in memory."""

    def kept(operator: Operator) -> Operator:
        weights = tuple(access for access in operator.reads if access.tensor.storage is Storage.WEIGHT)
        nothing = Access(Tensor(operator.name, ("b",), Storage.ACTIVATION, operator.space))
        return replace(operator, work=(), reads=weights, writes=(nothing,))

    holding = (operator for operator in block.operators if any(access.tensor.storage is Storage.WEIGHT for access in operator.reads))
    return Block(block.name, tuple(map(kept, holding)), count=S.Zero, copies=block.resident)


GATED = {f"gated-{name}": ("gelu_tanh" if name == "gelu" else known, True) for name, known in ACTIVATIONS.items()}
PROJECTIONS = {name: (known, False) for name, known in ACTIVATIONS.items()} | GATED
"""Of T5's ``feed_forward_proj``: the activation, and whether it is gated; gated-gelu has the tanh form, as in T5Config."""


def t5(fields: Fields) -> EncoderDecoder:
    """Norms without a bias before each part, no positions but learned biases by distance, heads of any width."""
    fields.fixed("is_encoder_decoder", True, "an encoder with a decoder")
    fields.fixed("is_decoder", False, "an encoder with a decoder")
    width, known = fields.size("d_model"), {name: name for name in PROJECTIONS}
    function, gated = PROJECTIONS[fields.choice("feed_forward_proj", known, "relu")]
    heads, head = fields.size(fields.named("num_heads", "num_attention_heads")), fields.size(fields.named("d_kv", "head_dim"), 64)
    layers = fields.layers(fields.named("num_layers", "num_hidden_layers"))
    mixer = Attention(rotary=False, grouped=False, biased=True)
    mlp = Mlp(function, gated=gated)
    dimensions = {
        symbols.d: width,
        symbols.v: fields.size("vocab_size"),
        symbols.h: heads,
        symbols.e: head,
        symbols.f: fields.size("d_ff"),
        symbols.n_r: fields.size("relative_attention_num_buckets", 32),
        symbols.t_e: fields.size("n_positions", 512),
        symbols.LAYERS["encoder"]: layers,
        symbols.LAYERS["decoder"]: fields.size("num_decoder_layers", layers),
    }
    both = Layer("encoder", replace(mixer, cached=False), mlp), Layer("decoder", mixer, mlp)
    tied, norms = fields.flag("tie_word_embeddings", True), Norms(Norm.RMS)
    return EncoderDecoder(dimensions, None, both, norms, tied=tied, family="t5", cross=CrossAttention(bias=False))


def whisper(fields: Fields) -> EncoderDecoder:
    """Two convolutions over a spectrogram, learned positions, layer norms before each part, biases but for keys."""
    fields.fixed("is_encoder_decoder", True, "an encoder with a decoder")
    width, heads = fields.size("d_model"), fields.size("encoder_attention_heads")
    fields.fixed("decoder_attention_heads", heads, "as many as encoder_attention_heads")
    fields.fixed("decoder_ffn_dim", fields.size("encoder_ffn_dim"), "as wide as encoder_ffn_dim")
    mlp = Mlp(activation("gelu", "activation_function")(fields), gated=False, bias=True)
    mixer = Attention(bias=True, out_bias=True, rotary=False, grouped=False, key_bias=False)
    dimensions = {
        symbols.d: width,
        symbols.v: fields.size("vocab_size"),
        symbols.h: heads,
        symbols.e: fields.divides("d_model", width, "encoder_attention_heads", heads),
        symbols.f: fields.size("encoder_ffn_dim"),
        symbols.C: fields.size("num_mel_bins", 80),
        symbols.m: fields.size("max_target_positions", 448),
        symbols.m_x: fields.size("max_source_positions", 1500),
        symbols.t_e: fields.size("max_source_positions", 1500),
        symbols.LAYERS["encoder"]: fields.layers("encoder_layers"),
        symbols.LAYERS["decoder"]: fields.layers("decoder_layers"),
    }
    scaled = frozenset({"embedding"}) if fields.flag("scale_embedding", False) else frozenset[str]()
    both = Layer("encoder", replace(mixer, cached=False), mlp), Layer("decoder", mixer, mlp)
    tied, cross = fields.flag("tie_word_embeddings", True), CrossAttention(bias=True)
    return EncoderDecoder(dimensions, None, both, LAYER_NORM, tied=tied, scaled=scaled, family="whisper", cross=cross, spectrogram=True)


IGNORED_OF_T5 = (
    *IGNORED,
    "relative_attention_max_distance",
    "dropout_rate",
    "classifier_dropout",
    "dense_act_fn",
    "is_gated_act",
    "output_past",
    "scale_decoder_outputs",
)
IGNORED_OF_WHISPER = (
    *(*IGNORED, "encoder_layerdrop", "decoder_layerdrop", "activation_dropout", "use_weighted_layer_sum", "classifier_proj_size"),
    *("apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length"),
    *("mask_feature_min_masks", "median_filter_width", "num_hidden_layers", "alignment_heads", "lang_ids", "suppress_ids"),
)

ENCODER_DECODERS = (
    EncoderFamily("t5", "Raffel et al. (2019), arXiv:1910.10683; Transformers' T5Config", t5, IGNORED_OF_T5, generative=True),
    EncoderFamily(
        "whisper", "Radford et al. (2022), arXiv:2212.04356; Transformers' WhisperConfig", whisper, IGNORED_OF_WHISPER, generative=True
    ),
)
