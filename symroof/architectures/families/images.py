"""Models over the patches of an image: ViT, the encoders of CLIP and SigLIP, and DiT with adaptive layer norm (adaLN-Zero)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.families.family import LAYER_NORM
from symroof.architectures.fields import IGNORED, Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import ACTIVATIONS, BlockBuilder, residual_stream
from symroof.conventions import Convention
from symroof.operators import Access, Block, Kind, Operator, Parameter, Role, Space, Storage, Tensor, Work, axes_of
from symroof.operators.elementwise import Norm, activation, add, elementwise
from symroof.operators.linear import embedding, linear

TANH_FLOPS = 1


@dataclass(frozen=True, kw_only=True)
class VisionTransformer(Architecture):
    """Patches of an image as tokens, layer norms before each half, a plain MLP, biases; no mask, nothing is generated.

    Attributes
    ----------
    class_token : whether a learned token precedes the patches.
    patch_bias : whether the projection of the patches has a bias.
    first_norm : whether a norm precedes the layers.
    pooler : what follows the last norm: "" nothing, "dense" a projection of the class token, "attention" a
        learned query over all tokens, "classes" a classifier.

    Source: Dosovitskiy et al. (2020), arXiv:2010.11929; Radford et al. (2021), CLIP, arXiv:2103.00020; Zhai et
    al. (2023), SigLIP, arXiv:2303.15343; config fields as in Transformers' ViTConfig, CLIPVisionConfig and
    SiglipVisionConfig.
    """

    class_token: bool
    patch_bias: bool
    first_norm: bool
    pooler: str
    family: str = "vit"
    generative = False
    ignored_fields = (
        *(*IGNORED, "encoder_stride", "pooler_act", "projection_dim", "num_image_tokens", "pooler_output_size", "vision_use_head"),
        "vocab_size",
    )

    @classmethod
    def read(cls, fields: Fields) -> Self:
        kind = fields.text("model_type") or "vit"
        hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
        sides, patch = fields.sides("image_size", 224), fields.size("patch_size", 32 if kind.startswith("clip") else 16)
        if patch > min(sides):
            raise fields.error(f"patch_size is {patch}; expected at most image_size, {min(sides)}")
        classed = not kind.startswith("siglip")
        bias = fields.flag("qkv_bias", True) if kind == "vit" else True
        pooler, classes = _head(fields, kind)
        dimensions = {
            symbols.d: hidden,
            symbols.f: fields.size("intermediate_size"),
            symbols.h: heads,
            symbols.e: fields.divides("hidden_size", hidden, "num_attention_heads", heads),
            symbols.L: fields.layers("num_hidden_layers"),
            symbols.m: (sides[0] // patch) * (sides[1] // patch) + int(classed),
            symbols.p: patch,
            symbols.C: fields.size("num_channels", 3),
        }
        activation = {"vit": "gelu", "clip_vision_model": "quick_gelu"}.get(kind, "gelu_pytorch_tanh")
        attention = Attention(bias=bias, out_bias=True, rotary=False, grouped=False, cached=False)
        mlp = Mlp(fields.choice("hidden_act", ACTIVATIONS, activation), gated=False, bias=True)
        return cls(
            dimensions | ({symbols.N: classes} if classes else {}),
            dimensions[symbols.m],
            (Layer("layer", attention, mlp),),
            LAYER_NORM,
            tied=False,
            class_token=classed,
            patch_bias=not kind.startswith("clip"),
            first_norm=kind.startswith("clip"),
            pooler=pooler,
        )

    def axes(self) -> dict[str, Expr]:
        # i and j run over a patch, o over the hidden size a second time.
        return super().axes() | {"C": symbols.C, "N": symbols.N, "i": symbols.p, "j": symbols.p, "o": symbols.d}

    def space(self, options: Options) -> Space:
        plain = super().space(options)
        tokens = plain.sizes["s"]
        patches = tokens - 1 if self.class_token and not options.decode else tokens
        return replace(plain, sizes={**plain.sizes, "u": Integer(1), "patches": patches})

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        x = residual_stream(space)
        return self._patches(x), self._layer(self.layers[0], x, options), self._end(x)

    def _patches(self, x: Tensor) -> Block:
        record, space = BlockBuilder(), x.space
        pixels = Tensor("pixels", axes_of("b patches C i j"), Storage.ACTIVATION, space)
        rows = record(linear("patch_embedding", "b patches C i j, C i j d -> b patches d", pixels, bias=self.patch_bias))
        learned = [Access(Tensor("position_embedding", axes_of("m d"), Storage.WEIGHT, space, parameter=Parameter.TABLE), axes_of("s d"))]
        if self.class_token:
            learned.append(Access(Tensor("class_token", ("d",), Storage.WEIGHT, space)))
        placed = record(elementwise("position_add", (rows, *learned), x.axes, 1))
        if self.first_norm:
            record(self.norms("first_norm", placed))
        return record.block("embedding", x)

    def _end(self, x: Tensor) -> Block:
        record = BlockBuilder()
        final = record(self.norms("final_norm", x))
        if self.pooler == "dense":
            pooled = record(linear("pooler", "b u d, d o -> b u o", final, bias=True))
            record(elementwise("pooler_act", (pooled,), pooled.axes, TANH_FLOPS))
        elif self.pooler == "classes":
            record(linear("classifier", "b u d, d N -> b u N", final, bias=True))
        elif self.pooler == "attention":
            self._attention_pooling(record, final)
        return record.block("head")

    def _attention_pooling(self, record: BlockBuilder, x: Tensor) -> None:
        """One learned query over all tokens, then an MLP (SigLIP)."""
        space = x.space
        probe = Tensor("probe", ("d",), Storage.WEIGHT, space)
        learned = elementwise("probe_broadcast", (Access(probe),), axes_of("b u d"), 0)
        q = record(linear("pool_q_proj", "b u d, d k e -> b u k e", record(learned), bias=True))
        keys = record(linear("pool_k_proj", "b t d, d k e -> b t k e", _as_context(x), bias=True))
        values = record(linear("pool_v_proj", "b t d, d k e -> b t k e", _as_context(x), bias=True))
        out = Tensor("pool_context", axes_of("b u k e"), Storage.ACTIVATION, space)
        pairs = axes_of("b u k t")
        work = (Work((*pairs, "e"), 4, contraction=True), Work(pairs, 5))
        reads = (Access(q), Access(keys), Access(values))
        attended = record(Operator("pool_attention", Kind.FUSED_ATTENTION, space, work, reads, (Access(out),), role=Role.ATTENTION))
        pooled = record(linear("pool_out_proj", "b u k e, k e d -> b u d", attended, bias=True))
        normed = record(self.norms("pool_norm", pooled))
        up = record(linear("pool_up_proj", "b u d, d f -> b u f", normed, bias=True))
        active = record(elementwise("pool_act", (up,), up.axes, 9))
        down = record(linear("pool_down_proj", "b u f, f d -> b u d", active, bias=True))
        record(add("pool_add", pooled, down))

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        single = "all tokens are encoded at once; decode means one token against kept keys and values of the others"
        return unmasked("a vision transformer", single, options)


def unmasked(model: str, decoding: str, options: Options) -> tuple[Convention, ...]:
    """The conventions of a model that attends to all tokens at once, and the meaning of decode for it."""
    no_mask = f"{model} has no causal mask and no LM head: --causal and --lm-head change nothing"
    phase = decoding if options.decode else "keys and values are activations: nothing is cached"
    return Convention("mask", no_mask), Convention("phase", phase)


def _as_context(x: Tensor) -> Tensor:
    return Tensor(x.name, axes_of("b t d"), x.storage, x.space)


def _head(fields: Fields, kind: str) -> tuple[str, int | None]:
    """The part after the last norm, and the number of classes of a classifier."""
    named: Any = fields.peek("architectures")
    if kind == "siglip_vision_model":
        return ("attention" if fields.flag("vision_use_head", True) else ""), None
    if kind != "vit":
        return "", None
    if isinstance(named, list) and any("ForImageClassification" in str(one) for one in named):
        labels = fields.peek("id2label")
        listed = len(labels) if isinstance(labels, Mapping) and labels else 2
        return "classes", fields.size("num_labels", listed)
    width, hidden = fields.size("pooler_output_size", None), fields.size("hidden_size")
    if width not in (None, hidden):
        raise fields.error(f"pooler_output_size is {width}; expected hidden_size, {hidden}")
    return "dense", None


MLP_RATIO = 4
TIMESTEP_FEATURES = 256
"""Both as in facebookresearch/DiT, models.py (DiT's mlp_ratio, TimestepEmbedder's frequency_embedding_size)."""

LAYER = Layer(
    "layer", Attention(bias=True, out_bias=True, rotary=False, grouped=False, cached=False), Mlp("gelu_tanh", gated=False, bias=True)
)

_ONE_SEQUENCE = axes_of("b d")


def _modulate(name: str, x: Tensor, modulation: Tensor) -> Operator:
    """``x (1 + scale) + shift``: 2 FLOPs per element and 1 per image and component; scale and shift read once."""
    both = (x, Access(modulation, _ONE_SEQUENCE), Access(modulation, _ONE_SEQUENCE))
    operator = elementwise(name, both, x.axes, 2)
    return replace(operator, work=(*operator.work, Work(_ONE_SEQUENCE, 1)))


@dataclass(frozen=True)
class DiT(Architecture):
    """Attention and MLP, each after a norm that timestep and class modulate.

    All tokens are denoised at once, without a mask. A "decode" step is one token against the
    keys and values of the others kept from before; it exists here because LLM-Viewer counts it.

    Source: Peebles and Xie (2022), arXiv:2212.09748; facebookresearch/DiT, models.py; config fields as
    in Diffusers' DiTTransformer2DModel.
    """

    family: str = field(default="dit", kw_only=True)
    generative = False
    ignored_fields = ("_class_name", "_diffusers_version", "dropout", "norm_eps", "norm_num_groups", "upcast_attention")

    @classmethod
    def read(cls, fields: Fields) -> DiT:
        fields.fixed("norm_type", "ada_norm_zero", "DiT's adaLN-Zero")
        fields.fixed("attention_bias", True, "DiT's projections have biases")
        fields.fixed("activation_fn", "gelu-approximate", "DiT's MLP")
        fields.fixed("cross_attention_dim", None, "DiT has no cross-attention")
        fields.fixed("num_vector_embeds", None, "DiT's patches are not quantized")
        fields.fixed("only_cross_attention", False, "DiT has no cross-attention")
        fields.fixed("double_self_attention", False, "DiT has one attention per layer")
        fields.fixed("use_linear_projection", False, "DiT has no input projection")
        fields.fixed("norm_elementwise_affine", False, "adaLN takes the place of weight and bias")
        heads, head_dim = fields.size("num_attention_heads"), fields.size("attention_head_dim")
        patch, side = fields.size("patch_size"), fields.size("sample_size")
        fields.divides("sample_size", side, "patch_size", patch)
        channels = fields.size("in_channels")
        dimensions = {
            symbols.d: heads * head_dim,
            symbols.f: MLP_RATIO * heads * head_dim,
            symbols.h: heads,
            symbols.e: head_dim,
            symbols.L: fields.layers("num_layers"),
            symbols.m: (side // patch) ** 2,
            symbols.p: patch,
            symbols.C: channels,
            symbols.D: fields.size("out_channels", channels),
            symbols.N: fields.size("num_embeds_ada_norm") + 1,
            symbols.F: TIMESTEP_FEATURES,
        }
        return cls(dimensions, dimensions[symbols.m], (LAYER,), Norms(Norm.LAYER, weight=False), tied=False)

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in "CDNF"}
        # i and j run over a patch, o over the hidden size a second time, x over adaLN's vectors.
        extra = {"i": symbols.p, "j": symbols.p, "o": symbols.d, "x": Integer(6), "y": Integer(2)}
        return super().axes() | named | extra

    def blocks(self, space: Space, options: Options) -> tuple[Block, ...]:
        x = residual_stream(space)
        condition = Tensor("condition", axes_of("b o"), Storage.ACTIVATION, space)
        return self._inputs(x, condition), self._modulated(x, condition, options), self._end(x, condition)

    @staticmethod
    def _inputs(x: Tensor, condition: Tensor) -> Block:
        record, space = BlockBuilder(), x.space
        patches = Tensor("patches", axes_of("b s C i j"), Storage.ACTIVATION, space)
        features = Tensor("timestep_features", axes_of("b F"), Storage.ACTIVATION, space)
        positions = Tensor("position_embedding", axes_of("m d"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        classes = Tensor("class_embedding.weight", axes_of("N o"), Storage.WEIGHT, space, parameter=Parameter.TABLE)
        embedded = record(linear("patch_embedding", "b s C i j, C i j d -> b s d", patches, bias=True))
        record(elementwise("position_add", (embedded, Access(positions, axes_of("s d"))), x.axes, 1, into=x))
        time = record(linear("timestep_in", "b F, F d -> b d", features, bias=True))
        time = record(activation("timestep_act", "silu", time))
        time = record(linear("timestep_out", "b d, d o -> b o", time, bias=True))
        label = record(embedding("class_embedding", classes, axes_of("b o")))
        record(add("condition_add", time, label))
        return record.block("embedding", condition)

    def _modulated(self, x: Tensor, condition: Tensor, options: Options) -> Block:
        record, stream = BlockBuilder(), x
        active = record(activation("adaln_act", "silu", condition))
        modulation = record(linear("adaln_proj", "b o, o x d -> b x d", active, bias=True))
        for name, part in LAYER.halves:
            normed = record(_modulate(f"{name}_modulate", record(self.norms(f"{name}_norm", stream)), modulation))
            both = (stream, part(record, normed, x.space, options), Access(modulation, _ONE_SEQUENCE))  # x + gate y
            stream = record(elementwise(f"{name}_add", both, x.axes, 2, role=Role.ADD, linear_in=2))
        return record.layers(into=x)

    def _end(self, x: Tensor, condition: Tensor) -> Block:
        record = BlockBuilder()
        active = record(activation("final_act", "silu", condition))
        modulation = record(linear("final_adaln", "b o, o y d -> b y d", active, bias=True))
        normed = record(_modulate("final_modulate", record(self.norms("final_norm", x)), modulation))
        record(linear("final_proj", "b s d, d i j D -> b s i j D", normed, bias=True))
        return record.block("head")

    def conventions(self, options: Options) -> tuple[Convention, ...]:
        single = "DiT denoises all tokens at once; decode means one token against cached keys and values of the others"
        return unmasked("DiT", single, options)
