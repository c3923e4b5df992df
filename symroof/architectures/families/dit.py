"""DiT: diffusion transformer with adaptive layer norm (adaLN-Zero) over patches of a latent image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.families.vision import unmasked
from symroof.architectures.fields import Fields
from symroof.architectures.options import Options
from symroof.architectures.parts.attention import Attention
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import BlockBuilder, residual_stream
from symroof.conventions import Convention
from symroof.operators import Access, Block, Operator, Parameter, Role, Space, Storage, Tensor, Work, axes_of
from symroof.operators.elementwise import activation, add, elementwise
from symroof.operators.linear import embedding, linear
from symroof.operators.norm import Norm

MLP_RATIO = 4
TIMESTEP_FEATURES = 256
"""Both as in facebookresearch/DiT, models.py (DiT's mlp_ratio, TimestepEmbedder's frequency_embedding_size)."""

LAYER = Layer(
    "layer",
    Attention(bias=True, out_bias=True, rotary=False, grouped=False, cached=False),
    Mlp("gelu_tanh", gated=False, bias=True),
)

_ONE_SEQUENCE = axes_of("b d")


def _modulate(name: str, x: Tensor, modulation: Tensor) -> Operator:
    """``x (1 + scale) + shift``: 2 FLOPs per element and 1 per image and component; scale and shift read once."""
    both = (x, Access(modulation, _ONE_SEQUENCE), Access(modulation, _ONE_SEQUENCE))
    operator = elementwise(name, both, x.axes, 2)
    return replace(operator, work=(*operator.work, Work(_ONE_SEQUENCE, 1)))


@dataclass(frozen=True)
class DiT(Architecture):
    """Attention and MLP, each behind a norm that the timestep and the class modulate.

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
