"""Families of decoders: the parts of their layers, the order of layers, and the ends of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sympy import Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Layer, Norms
from symroof.architectures.families.recipes import PartReader, Recipe, flag, resolved
from symroof.architectures.fields import IGNORED, Fields
from symroof.architectures.parts.part import Part
from symroof.errors import ConfigError
from symroof.operators.elementwise import Norm
from symroof.vocabulary import layers_with

RMS = Norms(Norm.RMS)
LAYER_NORM = Norms(Norm.LAYER, bias=True)

LayerRule = Callable[[Fields, int], Sequence[str]]
"""From a config and its number of layers to the name of one part per layer; "" where the layer has none."""


WindowRule = Callable[[Fields, int | None], int | None]
"""From a config and the default of an absent window to the tokens that a layer with a window looks at; None for none."""


def window_width(fields: Fields, absent: int | None) -> int | None:
    """The field ``sliding_window``, where null means none."""
    return fields.size("sliding_window", absent, null=None)


PositionRule = Callable[[Fields], tuple[int | None, int | None]]
"""From a config to the longest sequence and the rows of the position embedding; None if not stated or absent."""


def at_most(*names: str) -> PositionRule:
    """The longest sequence, in one of these fields, if present."""
    return lambda fields: (fields.size(fields.named(*names), None) if names else None, None)


def learned(*names: str, absent: int | None = None, beside: int = 0) -> PositionRule:
    """A position embedding with one row per position and *beside* additional rows."""

    def rule(fields: Fields) -> tuple[int, int]:
        name = fields.named(*names)
        count = fields.size(name) if absent is None else fields.size(name, absent)
        return count, count + beside

    return rule


def only(part: str) -> LayerRule:
    """Every layer has this part."""
    return lambda fields, count: [part] * count


FULL, DENSE = only("full"), only("dense")
MAX_POSITIONS = at_most("max_position_embeddings")


@dataclass(frozen=True, eq=False)
class DecoderFamily:
    """One entry of the table of decoders: an embedding, layers of a mixer and an MLP, a norm, an LM head.

    A value in *attributes* may be a constant or a function of the config's fields, such as ``flag("tie_word_embeddings", True)``.

    Attributes
    ----------
    family : its name.
    source : the description of the block and of the config's fields.
    parts : the reader of each part that `mixers` and `mlps` name; "sliding" may be omitted if it equals "full".
    mixers, mlps : the part of every layer. A mixer "sliding" has a window of ``sliding_window`` tokens.
    norms : the norms of the layers and of the end.
    attributes : further attributes of `Architecture`.
    ignored : fields that do not affect FLOPs and bytes, in addition to the common ones.
    only_understood : fields with a single supported value, and the reason.
    window : the default of an absent ``sliding_window``; None for no window unless the config states its width.
    width : that width from the config's fields and its default; `chunked` whether it is that of chunks whose tokens attend to each other.
    hidden, layers, vocabulary : the fields of these sizes.
    embedded : the field of the token embedding's width, if it may differ from the hidden size.
    positions : the longest sequence, and the rows of the position embedding, if any.
    counted : the number of layers, if it is not simply a field.
    made : the class of the architecture, if its layers are joined in another way.
    predicted : the mixer and the MLP of layers that predict further tokens, if not those of the last layer.
    predicting : how many of them the published checkpoints have, where the config does not say.
    """

    family: str
    source: str
    parts: Mapping[str, PartReader]
    mixers: LayerRule = FULL
    mlps: LayerRule = DENSE
    norms: Norms = RMS
    attributes: Recipe = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    only_understood: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    window: int | None = None
    width: WindowRule = window_width
    chunked: bool = False
    hidden: tuple[str, ...] = ("hidden_size",)
    layers: tuple[str, ...] = ("num_hidden_layers",)
    vocabulary: str = "vocab_size"
    embedded: str = ""
    positions: PositionRule = MAX_POSITIONS
    counted: Callable[[Fields], int] | None = None
    made: type[Architecture] = Architecture
    predicted: tuple[str, str] | None = None
    predicting: int = 0

    generative: ClassVar[bool] = True

    @property
    def ignored_fields(self) -> tuple[str, ...]:
        """All fields that do not affect FLOPs and bytes."""
        return (*IGNORED, *self.ignored)

    def read(self, fields: Fields) -> Architecture:
        """The structure that a config describes.

        Raises
        ------
        ConfigError
            A field is missing or invalid, or would change the structure; the message quotes it.
        """
        fields.plain()
        for name, (value, reason) in self.only_understood.items():
            fields.fixed(name, value, reason)
        hidden = fields.size(fields.named(*self.hidden))
        embedded = fields.size(self.embedded, hidden) if self.embedded else hidden
        count = self.counted(fields) if self.counted else fields.layers(fields.named(*self.layers))
        mixers, mlps = self.mixers(fields, count), self.mlps(fields, count)
        parts: dict[str, Part] = {}
        sizes: dict[Symbol, int] = {symbols.d: hidden} | ({symbols.d_t: embedded} if embedded != hidden else {})
        for names, more in ((mixers, {symbols.v: fields.size(self.vocabulary)}), (mlps, self._window(fields, mixers))):
            for name in filter(None, dict.fromkeys(names)):
                reader = self.parts["full" if name == "sliding" and name not in self.parts else name]
                parts[name], of_part = reader(fields, hidden)
                sizes |= of_part
            sizes |= more
        for name in self.parts.keys() - parts.keys():
            with suppress(ConfigError):  # no layer has the part: its fields do not matter
                self.parts[name](fields, hidden)
        longest, rows = self.positions(fields)
        counts, layers = stack(mixers, mlps, parts, chunked=self.chunked)
        known: dict[str, Any] = {"norms": self.norms, **resolved(fields, {"tied": flag("tie_word_embeddings", False), **self.attributes})}
        sizes |= dict(counts) | ({symbols.m: rows} if rows else {})
        known["predicted"] = self._predicted(mixers, mlps, parts)
        return self.made(sizes, longest, layers, family=self.family, order=kinds_of(mixers, mlps), **known)

    def _predicted(self, mixers: Sequence[str], mlps: Sequence[str], parts: Mapping[str, Part]) -> Layer | None:
        """The layer that predicts a further token, if its parts are known."""
        mixer, mlp = self.predicted or (mixers[-1], mlps[-1])
        names = {*filter(None, (mixer, mlp))}
        if not names or not names <= parts.keys():
            return None
        (layer,) = stack([mixer], [mlp], parts, chunked=self.chunked)[1]
        return replace(layer, kind=kinds_of(mixers, mlps)[-1])

    def _window(self, fields: Fields, mixers: Sequence[str]) -> dict[Symbol, int]:
        sliding = any(mixer.endswith("sliding") for mixer in mixers)
        width = self.width(fields, self.window) if sliding or self.window is not None else None
        if not sliding:
            return {}
        if width is None:
            kind, name = ("chunked", "attention_chunk_size") if self.chunked else ("sliding", "sliding_window")
            raise fields.error(f"layer_types holds '{kind}_attention', but {name} is missing or null")
        return {symbols.W: width}


def kinds_of(mixers: Sequence[str], mlps: Sequence[str], joint: str = "_") -> tuple[str, ...]:
    """The kind of every layer, named after what distinguishes it: the mixer, the MLP, or both with the *joint* between.

    >>> kinds_of(["full", "full"], ["dense", "moe"])
    ('dense', 'moe')
    """
    differ = [place for place, names in enumerate((mixers, mlps)) if len(set(names)) > 1]
    layers = dict.fromkeys(zip(mixers, mlps, strict=True))
    if len(layers) > 1 and not all(any(names[place] for place in differ) for names in layers):
        differ = [0, 1]
    return tuple(joint.join(names[place] for place in differ if names[place]) or "layer" for names in zip(mixers, mlps, strict=True))


def register_kinds(mixers: Sequence[str], mlps: Sequence[str], meanings: Mapping[str, str]) -> tuple[str, ...]:
    """The kinds of layers of a config that has parts with sizes of their own; `symbols.LAYERS` has them from then on.

    Parameters
    ----------
    meanings : what the parts are.
    """
    kinds = kinds_of(mixers, mlps)
    described = kinds_of(*([meanings[name] if name else "" for name in names] for names in (mixers, mlps)), joint=" and ")
    for kind, meaning in zip(kinds, described, strict=True):
        if kind not in symbols.LAYERS:
            symbols.LAYERS[kind] = layers_with(kind, meaning)
    return kinds


def stack(
    mixers: Sequence[str], mlps: Sequence[str], parts: Mapping[str, Part], *, chunked: bool = False
) -> tuple[Mapping[Symbol, int], tuple[Layer, ...]]:
    """The number of layers of each kind, and the parts of each kind.

    Parameters
    ----------
    mixers, mlps : one per layer, names in *parts*, or "" for none; a mixer "sliding" has a window, *chunked* or not.

    >>> from symroof.architectures.parts.mlp import Mlp
    >>> stack(["sliding", "full"], ["dense", "dense"], {"sliding": Mlp("silu"), "full": Mlp("silu"), "dense": Mlp("silu")})[0]
    {L_sliding: 1, L_full: 1}
    """
    kinds = kinds_of(mixers, mlps)
    layers = {
        kind: Layer(kind, parts.get(mixer), parts.get(mlp), window=mixer.endswith("sliding"), chunked=chunked and mixer.endswith("sliding"))
        for kind, mixer, mlp in zip(kinds, mixers, mlps, strict=True)
    }
    return {symbols.LAYERS[kind]: kinds.count(kind) for kind in dict.fromkeys(kinds)}, tuple(layers.values())
