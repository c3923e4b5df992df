"""A model: a name, a family's structure, and the steps it can take."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures import exact, llm_viewer
from symroof.architectures.architecture import Architecture
from symroof.architectures.chatglm import ChatGLM
from symroof.architectures.config import catalogue, locate, parse
from symroof.architectures.dit import DiT
from symroof.architectures.fields import Fields
from symroof.architectures.gptj import GPTJ
from symroof.architectures.llama import Llama
from symroof.architectures.opt import OPT
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.errors import nearest, quote
from symroof.operators.graph import Graph
from symroof.operators.operator import Direction
from symroof.operators.tensor import Storage
from symroof.units import BYTE, quantity

FAMILIES: tuple[type[Architecture], ...] = (Llama, OPT, GPTJ, ChatGLM, DiT)
BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


@dataclass(frozen=True)
class Model:
    """A published model.

    >>> model = load_model("llama-2-7b")
    >>> model.parameters
    6738415616
    >>> print(model.decode(batch=1, seq_len=2048, weight_bits=16, activation_bits=16, kv_bits=16)["q_proj"].traffic)
    33570816 byte
    """

    name: str
    architecture: Architecture
    origin: str
    unread: tuple[str, ...] = ()

    @property
    def dimensions(self) -> dict[Symbol, Expr]:
        """The number every dimension symbol stands for in this model."""
        return {symbol: Integer(value) for symbol, value in self.architecture.dimensions.items()}

    def step(self, options: Options, *, symbolic: bool = False) -> Step:
        """One step as *options* say; see `prefill` and `decode`."""
        if options.accounting == "exact":
            letters: Graph = exact.graph(self.architecture, options)
        else:
            letters = llm_viewer.graph(self.architecture, options, self.catalogue_name())
        values = options.inputs() | ({} if symbolic else self.dimensions)
        return Step(self.name, options, letters, values, self._notes(options))

    def prefill(self, *, symbolic: bool = False, **options: Any) -> Step:
        """The step that reads a prompt of ``seq_len`` tokens per sequence.

        Parameters
        ----------
        symbolic : keep every dimension of the model a letter.
        options : any of `Options` but the phase; a number left out stays a symbol.

        >>> print(load_model("llama-2-7b").prefill(symbolic=True)["up_proj"].flops)
        2*b*d*f*s flop
        """
        return self.step(Options("prefill", **options), symbolic=symbolic)

    def decode(self, *, symbolic: bool = False, **options: Any) -> Step:
        """The step that generates one token per sequence; ``seq_len`` is the context length.

        Parameters are those of `prefill`.

        >>> print(load_model("llama-2-7b").decode()["qk_matmul"].flops)
        8192*b*t flop
        """
        return self.step(Options("decode", **options), symbolic=symbolic)

    @functools.cached_property
    def _reference(self) -> Graph:
        """The exact graph of one decode step, bound to the model's dimensions."""
        return exact.graph(self.architecture, Options("decode")).bind(self.dimensions)

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters, a tied tensor once."""
        return int(self._reference.parameter_count())

    @property
    def parameters_per_part(self) -> dict[str, int]:
        """Parameters of each operator that owns weights, over all layers."""
        parts: dict[str, int] = {}
        for tensor, count in self._reference.resident(Storage.WEIGHT).items():
            part = tensor.name.rsplit(".", 1)[0]
            parts[part] = parts.get(part, 0) + int(count * tensor.elements)
        return parts

    @property
    def weight_bytes(self):
        """Bytes of all weights, as a Quantity in w."""
        return quantity(self._reference.weight_memory(), BYTE)

    @property
    def kv_bytes_per_token(self):
        """Bytes the KV cache grows by with every token of a sequence, as a Quantity in c."""
        return quantity(self._kv_per_token(self._reference), BYTE)

    @property
    def kv_formula(self):
        """The same with every dimension a letter."""
        return quantity(self._kv_per_token(exact.graph(self.architecture, Options("decode"))), BYTE)

    def _kv_per_token(self, graph: Graph) -> Expr:
        written = graph.byte_count(Storage.KV_CACHE, Direction.WRITE) if self.architecture.generative else Integer(0)
        return symbols.substitute(written, {symbols.b: Integer(1)})

    def catalogue_name(self) -> str:
        """The name under which models/ holds the same dimensions, or the model's own name."""
        if self.name in catalogue():
            return self.name
        return next((name for name in catalogue() if load_model(name).architecture == self.architecture), self.name)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of this config."""
        return (f"config fields not understood, and so not counted: {', '.join(self.unread)}",) if self.unread else ()

    def _notes(self, options: Options) -> tuple[str, ...]:
        limit = self.architecture.max_positions
        if options.seq_len is None or limit is None or options.seq_len <= limit:
            return self.notes
        return (*self.notes, f"{options.seq_len} tokens are more than the {limit} positions the model was published for")


def load_model(name_or_path: str | Path) -> Model:
    """The model of that name in models/, of that hub name, or of the config.json at that path.

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
    name, path = locate(name_or_path)
    content = parse(path)
    fields = Fields(content, str(path))
    kind = content.get("model_type", content.get("_class_name"))
    if not isinstance(kind, str) or kind not in BY_MODEL_TYPE:
        hint = nearest(kind, BY_MODEL_TYPE) if isinstance(kind, str) else f"known: {', '.join(BY_MODEL_TYPE)}"
        raise fields.error(
            f"model_type {quote(kind)} is not a family known here; {hint}" if kind is not None else f"model_type is missing; {hint}"
        )
    family = BY_MODEL_TYPE[kind]
    architecture = family.read(fields)
    return Model(name, architecture, str(path), tuple(fields.unread(family.harmless)))
