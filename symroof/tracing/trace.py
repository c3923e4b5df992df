"""Any torch module as a step: one operator per ATen operator or per module, its FLOPs and bytes as formulas in named axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.architectures.exact import OPERANDS, PEAK
from symroof.architectures.model import Model
from symroof.architectures.options import PHASES, Options, Size, whole
from symroof.architectures.own import UNTOLD, refuse_conventions
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import InputError, member
from symroof.operators import Graph, Structure
from symroof.operators.query_blocks import QueryBlocks
from symroof.symbols import option_name
from symroof.tracing.blocks import Names, mark_attention, per_module, segments
from symroof.tracing.capture import capture
from symroof.tracing.exported import Exported, Source
from symroof.tracing.reading import Reader

BY = ("operator", "module")


@dataclass(frozen=True)
class Traced:
    """A module traced in one phase.

    Attributes
    ----------
    graph : the step, in the symbols of its axes.
    sizes : numbers for axes other than batch and length.
    ranges : the least and the largest value of a symbol for which the module does the same; None where there is no largest.
    """

    graph: Graph
    sizes: Mapping[Symbol, Expr] = field(default_factory=dict)
    ranges: Mapping[Symbol, tuple[int, int | None]] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the trace holds."""
        return tuple(
            f"traced for {option_name(symbol)} from {low}{'' if high is None else f' to {high}'}: elsewhere the module does something else"
            for symbol, (low, high) in self.ranges.items()
        )

    def check(self, options: Options) -> None:
        """Raise an InputError for a length or a batch at which the module does something else."""
        for symbol, (low, high) in self.ranges.items():
            value = options.inputs().get(symbol)
            if value is not None and not (low <= value and (high is None or value <= high)):
                least = f"from {low}" + ("" if high is None else f" to {high}")
                raise InputError(f"{option_name(symbol)} {value}: the module does something else there than where it was traced, {least}")


@dataclass(frozen=True)
class TracedModel(Model):
    """A torch module as a model: its steps are those of the phases in which it was traced."""

    phases: Mapping[str, Traced] = field(default_factory=dict, repr=False)

    def traced(self, phase: str) -> Traced:
        """The module in a phase.

        Raises
        ------
        InputError
            It was not traced in it.
        """
        if phase not in self.phases:
            raise InputError(f"{self.name} was traced in {' and '.join(self.phases)}, not in {phase}")
        return self.phases[phase]

    def step(self, options: Options, *, symbolic: bool = False, swept: bool = False) -> Step:
        """One step as *options* say, whose conventions must be the defaults: what is computed, the code decides."""
        del symbolic, swept  # its dimensions are numbers; no width of its own has scales
        refuse_conventions(options, "what a traced module computes, its code decides")
        traced = self.traced(options.phase)
        traced.check(options)
        values = {**options.inputs(), **traced.sizes}
        return Step(self.name, replace(options, causal=False), traced.graph, values, traced.notes, source=self)

    def _exact(self, options: Options, *, swept: bool = False) -> Graph:
        del options, swept
        try:
            return self.traced("decode").graph
        except InputError:
            return self.traced("prefill").graph


def trace(
    module: Any,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    axes: Mapping[str, Mapping[int, str]],
    phase: str = "prefill",
    by: str = "operator",
    cache: Sequence[str] = ("past_key_values",),
    name: str = "",
    sizes: Mapping[str, int] | None = None,
    batch: Size | None = None,
    seq_len: Size | None = None,
    weight_bits: Size | None = None,
    activation_bits: Size | None = None,
    kv_bits: Size | None = None,
) -> Step:
    """A step of any `torch.nn.Module`, through `torch.export` with symbolic sizes; on the meta device nothing is allocated.

    FLOPs of a contraction are twice the product of its axes; bytes are what its operands and its result take, each once; views move
    nothing. Parameters are weights, the tensors in *cache* the KV cache, equal layers one block with a count. Valid for the sizes for
    which the module's code takes the same path; a note says which.

    Parameters
    ----------
    module : the module; it is traced in evaluation, and is not changed.
    args, kwargs : what to call it with: tensors of any size of at least 2 along named axes.
    axes : for arguments by name, the names of dimensions: ``{"input_ids": {0: "batch", 1: "seq_len"}}``. Names are those of
        `symroof.symbols`, or declared with `symroof.symbols.declare`; also ``"8*batch"`` and ``"seq_len - 1"``. In decode
        ``seq_len`` is the context, the new token included, so that a cache has ``"seq_len - 1"`` rows when the step begins.
    phase : "prefill" or "decode".
    by : "operator", one per ATen operator; or "module", one per innermost module, values within one on chip.
    cache : the arguments that are a KV cache; what is joined to their tensors is appended.
    name : of the model; left out, that of the class.
    sizes : numbers for axes other than batch and length, by name.
    batch, seq_len, weight_bits, activation_bits, kv_bits : as for `symroof.Options`; left out, a symbol.

    Raises
    ------
    InputError
        torch is not installed, the axes do not fit, or the module cannot be traced: a loop over a named axis, a shape or a branch that
        depends on data, an operator without a count. The message names the line of Python.

    >>> from importlib.util import find_spec
    >>> if find_spec("torch"):  # the extra `torch`
    ...     import torch
    ...     with torch.device("meta"):
    ...         step = trace(torch.nn.Linear(64, 96), (torch.empty(2, 64),), axes={"input": {0: "batch"}})
    ...     assert str(step["linear"].flops) == "12288*b FLOP"
    >>> trace(None, axes={}, by="layer")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: by 'layer': known: operator, module

    Source: PyTorch 2 (2024), torch.export, doi:10.1145/3620665.3640366.
    """
    member("phase", phase, PHASES)
    member("by", by, BY)
    exported = capture(module, args, kwargs or {}, axes, cache, phase == "decode")
    traced = traced_of(exported, phase, by=by, sizes=sizes or {})
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits, "kv_bits": kv_bits}
    model = model_of(name or type(module).__name__, f"{type(module).__module__}.{type(module).__qualname__}", {phase: traced})
    return model.step(Options.of(phase, {"batch": batch, "seq_len": seq_len, **widths}))


def model_of(name: str, origin: str, phases: Mapping[str, Traced]) -> TracedModel:
    """A model of these phases, about whose architecture nothing else is known."""
    return TracedModel(name, UNTOLD, origin, phases=phases)


def traced_of(exported: Exported, phase: str, *, by: str = "operator", sizes: Mapping[str, int] | None = None) -> Traced:
    """An exported module as the graph of a step; needs no torch.

    Raises
    ------
    InputError
        An operator has no count, or a size is none.
    """
    decode = phase == "decode"
    sketches = Reader().read(exported)
    mark_attention(sketches)
    names = Names(segments(sketches), decode)
    fused = any(touch.passes for sketch in sketches for touch in sketch.reads)
    causal = any(sketch.causal for sketch in sketches)
    unread = {entry.name for entry in exported.inputs if entry.source is Source.PARAMETER} - {memory.name for memory in names.tensors_read}
    graph = Graph(
        names.blocks(),
        conventions=_conventions(by, decode=decode, causal=causal, unread=len(unread)),
        pass_tokens=symbols.b if decode else symbols.b * symbols.s,
        decode=decode,
        query_blocks=QueryBlocks() if fused else None,
        unknown=_unknown(names, decode),
    )
    if by == "module":
        graph = per_module(graph, names.modules)
    known = {symbols.lookup(name).symbol: Integer(whole(name, size, "")) for name, size in (sizes or {}).items()}
    return Traced(graph.completed(), known, exported.ranges)


def _unknown(names: Names, decode: bool) -> frozenset[Structure]:
    """What the axes do not say: a size such as 3 b s hides tokens, and a decode step has its one token nowhere."""
    hidden = {symbol for size in names.sizes.values() if not size.is_Symbol for symbol in size.free_symbols}
    unknown = {Structure.PARTS}
    if symbols.b in hidden:
        unknown.add(Structure.BATCH)
    if decode or hidden & {symbols.b, symbols.s}:
        unknown.add(Structure.TOKENS)
    return frozenset(unknown)


def _conventions(by: str, *, decode: bool, causal: bool, unread: int) -> tuple[Convention, ...]:
    each = "ATen operator" if by == "operator" else "module, values within it on chip"
    texts = {
        "operands": OPERANDS,
        "trace": f"traced from PyTorch, one operator per {each}; views move nothing, indices and comparisons are not counted",
        "flops": "FLOPs: 2 per multiply-accumulate, 5 per softmax score, 1 per element of any other operator but activations and norms",
        "mask": "masks are added, not skipped: all query-key pairs count, and tokens get logits as the code says",
        "width": "tensors of the module's floating-point type have the widths of weights, activations and cache, others their own",
        "peak": PEAK,
    }
    if causal:
        texts["causal"] = "scaled_dot_product_attention with is_causal counts s(s+1)/2 query-key pairs"
    if decode:
        texts["cache"] = "what a module joins to its KV cache is appended in place"
    if unread:
        texts["unread"] = f"{unread} parameters are never read, and so not counted"
    return tuple(Convention(key, text) for key, text in texts.items())
