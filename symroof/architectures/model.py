"""A model: a name, a family's structure, and the steps it can take."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from sympy import Add, Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures import exact, llm_viewer
from symroof.architectures.architecture import Architecture
from symroof.architectures.config import catalogue, locate, parse, published
from symroof.architectures.families import MODEL_TYPES, Family, family_of, multimodal
from symroof.architectures.fields import Fields, listing
from symroof.architectures.options import Options, StepInputs
from symroof.architectures.quantization import Quantization, published_quantization
from symroof.architectures.step import Step
from symroof.conventions import BITS
from symroof.errors import ConfigError, InputError, every_number, nearest, quote
from symroof.files import is_folder, is_readable
from symroof.notation import Brief
from symroof.operators import Graph, Parameter, Role, Storage, Tensor
from symroof.symbols import substitute
from symroof.units import BYTE, Quantity, in_unit, quantity

OPERATORS_OWN = frozenset({Parameter.MATRIX, Parameter.ROUTER, Parameter.HEAD, Parameter.NORM, Parameter.BIAS, Parameter.FILTER})
"""Weights that are named after their operator; others have their own names."""


@dataclass(frozen=True)
class Cache(Brief):
    """The KV cache and the recurrent states of one sequence, in bytes, from the graph of a decode step.

    >>> import symroof
    >>> mistral = symroof.load_model("mistral-7b-v0.1").cache
    >>> mistral.growth, mistral.beyond, mistral.state
    (8192*c, 0, 0)
    >>> symroof.load_model("mamba-130m").cache.state
    92160*c
    """

    graph: Graph
    generative: bool = True

    @property
    def bytes(self) -> Expr:
        """The total, in c, t and t_w."""
        return substitute(self.graph.kv_memory(), {symbols.b: Integer(1)}) if self.generative else Integer(0)

    @property
    def growth(self) -> Expr:
        """Bytes per token of context, while the context is within every window."""
        return substitute(self.bytes, {symbols.t_w: symbols.t}).diff(symbols.t)

    @property
    def beyond(self) -> Expr:
        """Bytes per token of context beyond the window."""
        return self.bytes.diff(symbols.t)

    @property
    def state(self) -> Expr:
        """Bytes that do not grow with the context: states of recurrent layers."""
        return substitute(self.bytes, {symbols.t_w: Integer(0), symbols.t: Integer(0)})

    @property
    def window(self) -> Expr:
        """The largest cache of layers with a window, in bytes."""
        return self.bytes.diff(symbols.t_w) * symbols.W


@dataclass(frozen=True)
class Model(Brief):
    """A published model.

    >>> model = load_model("llama-2-7b")
    >>> model.parameters
    6738415616
    >>> print(model.decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)["q_proj"].traffic)
    33.57 MB
    """

    name: str
    architecture: Architecture
    origin: str
    unread: tuple[str, ...] = ()
    quantization: Quantization | None = None
    remarks: tuple[str, ...] = ()
    predicting: int = 0
    _graphs: dict[tuple[Options, bool], Graph] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def dimensions(self) -> dict[Symbol, Expr]:
        """The value of every dimension symbol in this model."""
        return {symbol: Integer(value) for symbol, value in self.architecture.dimensions.items()}

    @property
    def layers(self) -> int:
        """Number of layers, of all kinds."""
        return self.architecture.layer_count

    def step(self, options: Options, *, symbolic: bool = False, swept: bool = False) -> Step:
        """One step as *options* say; see `prefill`, `decode`. *swept*: over the weight width, with scales at the published one."""
        if options.decode and not self.architecture.decodes:
            raise InputError(f"{self.name} is an encoder, which reads all tokens at once and generates none: ask for phase prefill")
        if options.accounting == "exact":
            letters = self._exact(options, swept=swept)
        else:
            letters = llm_viewer.graph(self.architecture, options, self.catalogue_name())
        values = options.inputs() | ({} if symbolic else self.dimensions)
        return Step(self.name, options, letters, values, (*self._read, *self.beyond(options.seq_len)), self.published, source=self)

    def _exact(self, options: Options, *, swept: bool = False) -> Graph:
        """The exact symbolic graph, made once for all sizes of a step."""
        counted = replace(options, batch=None, seq_len=None, activation_bits=None, kv_bits=None)
        known = self._graphs.get((counted, swept))
        if known is None:
            graph = exact.graph(self.architecture, counted)
            known = graph if self.quantization is None else self.quantization.apply(graph, options.weight_bits, swept=swept)
            self._graphs[counted, swept] = known
        return known

    @property
    def weight_bits(self) -> int:
        """Bits of the weights: those of the config's quantization, otherwise `BITS`."""
        return self.quantization.bits if self.quantization else BITS

    @property
    def published(self) -> dict[str, int]:
        """The widths that the config states, by the names of `Options`; the others are `BITS` on a device."""
        stated = self.quantization and {"weight_bits": self.quantization.bits, "kv_bits": self.quantization.kv_bits}
        return {name: bits for name, bits in (stated or {}).items() if bits is not None}

    def prefill(self, *, symbolic: bool = False, **options: Unpack[StepInputs]) -> Step:
        """The step that reads a prompt of ``seq_len`` tokens per sequence.

        Parameters
        ----------
        symbolic : keep every dimension of the model symbolic.
        options : any of `Options` but the phase; a number left out stays a symbol, but a width on a device (`Options.with_widths`).

        Raises
        ------
        InputError
            There is no such option, or a value makes no sense.

        >>> print(load_model("llama-2-7b").prefill(symbolic=True)["up_proj"].flops)
        2*b*d*f*s FLOP
        """
        return self.step(Options.of("prefill", options), symbolic=symbolic)

    def decode(self, *, symbolic: bool = False, **options: Unpack[StepInputs]) -> Step:
        """The step that generates one token per sequence; ``seq_len`` is the context length.

        Parameters are those of `prefill`.

        >>> print(load_model("llama-2-7b").decode()["qk_matmul"].flops)
        8192*b*t FLOP
        """
        return self.step(Options.of("decode", options), symbolic=symbolic)

    @functools.cached_property
    def _reference(self) -> Graph:
        """The exact graph of one decode step, bound to the model's dimensions."""
        return self._exact(Options("decode")).bind(self.dimensions)

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters; tied tensors count once."""
        return int(self._reference.parameter_count())

    @functools.cached_property
    def active_parameters(self) -> int:
        """Parameters that one token uses: all, but of the routed experts only those it is routed to, and none that are for other tokens.

        The embedding table counts in full. Publishers differ in that; see `active_parameters_without_embedding`.
        """
        read = ((access, block.count) for block in self._reference.blocks for operator in block.operators for access in operator.reads)
        routed = {
            access.tensor: count and access.tensor.space.points(tuple("K" if axis == "X" else axis for axis in access.axes))
            for access, count in read
            if "X" in access.axes
        }
        weights = self._reference.resident(Storage.WEIGHT).items()
        return int(Add(*(count * routed.get(tensor, tensor.elements) for tensor, count in weights)))

    @property
    def active_parameters_without_embedding(self) -> int:
        """The same without the token embedding, of which a token reads one row; a tied one stays, as LM head."""
        table = self._table
        return self.active_parameters - (0 if table is None else int(table.elements))

    @property
    def _table(self) -> Tensor | None:
        """The token embedding, where nothing but the look-up reads it."""
        read = [(operator.role, access.tensor) for operator, _ in self._reference for access in operator.reads]
        table = next((tensor for role, tensor in read if role is Role.EMBEDDING), None)
        alone = self.architecture.generative and sum(tensor is table for _, tensor in read) == 1
        return table if alone else None

    @property
    def parameters_per_part(self) -> dict[str, int]:
        """Parameters of each operator that owns weights, over all layers of its kind."""
        parts: dict[str, int] = {}
        counted: set[Tensor] = set()
        for operator, inside in ((operator, block) for block in self._reference.blocks for operator in block.operators):
            for tensor in (access.tensor for access in operator.reads):
                if tensor.storage is Storage.WEIGHT and tensor not in counted:
                    counted.add(tensor)
                    own = tensor.parameter in OPERATORS_OWN or operator.role is Role.EMBEDDING
                    part = operator.name if own else operator.prefix + tensor.name
                    parts[part] = parts.get(part, 0) + int(inside.copies_of(tensor) * tensor.elements)
        return parts

    @functools.cached_property
    def cache(self) -> Cache:
        """The cache of each sequence, as formulas in c and t."""
        return Cache(self._reference, self.architecture.generative)

    def weight_memory(self, bits: int | None = None) -> Expr:
        """Bytes of all weights in w, bare: at the published width the scales of groups count, at another they do not.

        >>> gpt_oss = load_model("gpt-oss-20b")
        >>> [int(gpt_oss.weight_memory(bits).subs(symbols.w, bits)) for bits in (4, 16)]
        [13761264768, 41829514368]
        """
        graph = self._reference if bits is None else self._exact(Options("decode", weight_bits=bits)).bind(self.dimensions)
        return graph.weight_memory()

    weight_bytes = in_unit(lambda model: model.weight_memory(), BYTE, "Bytes of all weights as published, as a Quantity in w.")
    kv_bytes_per_token = in_unit(
        lambda model: model.cache.growth,
        BYTE,
        "Bytes the cache grows by with every token of a sequence, while it is within every window, as a Quantity in c.",
    )

    @property
    def kv_formula(self) -> Quantity:
        """The same with symbolic dimensions."""
        return quantity(Cache(self._exact(Options("decode")), self.architecture.generative).growth, BYTE)

    def catalogue_name(self) -> str:
        """The name under which models/ holds the same dimensions, or the model's own name."""
        if self.name in catalogue():
            return self.name
        return next((name for name in catalogue() if load_model(name).architecture == self.architecture), self.name)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on this config."""
        return (*self._read, *(line.text for line in (self.quantization.conventions() if self.quantization else ())))

    @property
    def _read(self) -> tuple[str, ...]:
        unread = f"config fields not understood, and so not counted: {listing(self.unread)}"
        return (*self.remarks, *([unread] if self.unread else []))

    def beyond(self, length: int | None) -> tuple[str, ...]:
        """The remark on a length beyond the positions that the model was published for; none within them."""
        limit = self.architecture.max_positions
        within = length is None or limit is None or length <= limit
        return () if within else (f"{length} tokens are more than the {limit} positions the model was published for",)


PART_MARK, PARTS = "@", ("text", "vision")
PREDICTING = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules", "num_mtp_layers")
"""The number of layers that predict further tokens, a draft for speculative decoding; they are no part of a step."""
PREDICTED = "layers that predict further tokens ({} = {}), a draft, are not counted; the technique speculative:draft=mtp counts them"


def load_model(name_or_path: str | Path) -> Model:
    """The model with this name in models/, with this hub name, or of the config.json at this path.

    Of a config that nests several models, the text decoder; with ``@vision`` behind the name, the encoder. A model of the
    catalogue is read once and shared; nothing about it can be changed.

    Raises
    ------
    ConfigError
        There is no such model or file, or its config is not understood; one line says what is wrong.

    >>> load_model("meta-llama/Llama-2-7b-hf").name
    'llama-2-7b'
    >>> load_model("models/none.json")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: model 'models/none.json': there is no such file
    """
    path_given = Path(name_or_path)
    whole_is_path = is_readable(path_given) or is_folder(path_given)  # then a mark in it is part of the path
    text, mark, part = (str(name_or_path), "", "") if whole_is_path else str(name_or_path).partition(PART_MARK)
    if mark and part not in PARTS:
        raise ConfigError(f"model {quote(str(name_or_path))}: after {PART_MARK} expected {' or '.join(PARTS)}")
    name, path = locate(text if mark else name_or_path)
    return _published(name, mark, part) if path == published().get(name) else _read_model(f"{name}{mark}{part}", path, part)


@functools.cache
def _published(name: str, mark: str, part: str) -> Model:
    """A model of the catalogue, whose file does not change; a user's own file is read again each time."""
    return _read_model(f"{name}{mark}{part}", published()[name], part)


def _read_model(name: str, path: Path, part: str) -> Model:
    outer = Fields(parse(path), str(path))
    model_type = outer.peek("model_type") if "model_type" in outer else outer.peek("_class_name")
    if isinstance(model_type, str) and model_type in multimodal.FAMILIES:
        nested, fields, model_type, remark = multimodal.part_of(outer, model_type, part)
        sources, remarks, harmless = (outer, fields) if nested else (outer,), (remark,), multimodal.HARMLESS
    elif part == "vision":
        raise outer.error(f"model_type {quote(model_type)} has one part; ask for it without {PART_MARK}vision")
    else:
        nested, fields, sources, remarks, harmless = "", outer, (outer,), (), ()
    family = _family(fields, model_type, nested)
    architecture = family.read(fields)
    quantization, unclear = published_quantization(sources, path, architecture, vision=nested == "vision")
    stated = {field: number for field in PREDICTING if type(number := outer.peek(field) or fields.peek(field)) is int and number > 0}
    remarks = (*remarks, *(PREDICTED.format(field, number) for field, number in stated.items()))
    predicting = next(iter(stated.values()), 0 if isinstance(family, type) else getattr(family, "predicting", 0))
    ignored = (*family.ignored_fields, *PREDICTING, "model_type", *(() if nested else harmless))
    unread = (*(outer.unread((*harmless, *PREDICTING)) if nested else ()), *fields.unread(ignored))
    return Model(name, architecture, str(path), tuple(dict.fromkeys(unread)), quantization, (*remarks, *unclear), predicting)


def _family(fields: Fields, model_type: Any, nested: str) -> Family:
    """The family of a model_type, which must be that of a decoder or an encoder where a config nests several models."""
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        known = [*MODEL_TYPES, *([] if nested else multimodal.FAMILIES)]
        inside = multimodal.FAMILIES.get(model_type) if isinstance(model_type, str) else None
        part = (inside.text if nested == "text" else inside.vision) if inside else None
        hint = nearest(model_type if isinstance(model_type, str) else "", known, generation=every_number)
        hint = f"did you mean {part[0]}?" if part else hint
        unknown = "is missing" if model_type is None else f"{quote(model_type)} is not a family known here"
        raise fields.error(f"model_type {unknown}; {hint}")
    family = family_of(model_type)
    if nested and family.generative != (nested == "text"):
        raise fields.error(f"model_type is {quote(model_type)}; expected {'a decoder' if nested == 'text' else 'an encoder'}")
    return family
