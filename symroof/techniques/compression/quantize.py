"""Quantization: weights, activations and KV cache in fewer bits, with the scales of their groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Storage
from symroof.symbols import substitute
from symroof.techniques.compression.layers import APART, kind_of, split_block
from symroof.techniques.compression.retype import Width, narrow
from symroof.techniques.compression.selectors import linears, shapes, weights_of
from symroof.techniques.technique import Example, Number, Technique, number, word

SCALE = Integer(16)
"""Bits of a scale, where none are given."""

CLASSES = {"weights": (Storage.WEIGHT, "group"), "activations": (Storage.ACTIVATION, ""), "kv": (Storage.KV_CACHE, "cache_group")}
"""What is quantized, where it lives, and what its groups are called."""


@dataclass(frozen=True)
class Quantize(Technique):
    """Linear weights, activations and cache at other widths; which ceiling applies follows from the widest operand.

    A group of G weights shares a scale of q_s bits and a zero point of q_z bits, so a weight takes
    ``q_w + (q_s + q_z) / G`` bits; so does an element of the cache, with groups of G_c. With weights alone quantized an
    operator keeps the roof of its activations (W4A16 computes in 16 bits); with all operands at 8 bits or less it gets that
    roof, attention too only if the cache is as narrow. Dequantization takes two operations per weight (subtract the zero
    point, multiply by the scale) in the registers of the matrix product, if asked for.

    Parameters
    ----------
    weights, activations, kv : bits; what is left out stays as it was.
    group, cache_group : G of the weights and G_c of the cache. Without one, a scale serves a whole tensor, and is not counted.
    scale, zero : q_s, 16 unless given, and q_z.
    keep : operators whose weights stay as they were, joined by +; of a fused group all do.
    keep_layers : n_k, so many layers stay as they were, but for the residual stream they share; their operators are
        called ``<name>.kept``.
    kind : of which kind they are, where a model has several.
    dequantize : "free", or "counted": the two operations per weight are work.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(Quantize(weights=4, group=128))["up_proj"].traffic)
    a*b*d/8 + a*b*f/8 + 33*d*f/64 byte
    >>> print(step.apply(Quantize(weights=4, keep_layers=2)).graph.blocks[2].count)
    L - 2

    Source: Lin et al. (2023), AWQ, arXiv:2306.00978 (groups of 128 with 16-bit scales).
    """

    name = "quantize"
    summary = "weights, activations and KV cache in fewer bits"
    survey = "3.1"
    source = "arXiv:2306.00978"
    example = Example(settings={"weights": 4, "group": 128, "scale": 16})

    weights: Number = number(symbols.q_w, optional=True)
    activations: Number = number(symbols.q_a, optional=True)
    kv: Number = number(symbols.q_c, optional=True)
    group: Number = number(symbols.G, optional=True)
    cache_group: Number = number(symbols.G_c, optional=True)
    scale: Number = number(symbols.q_s, optional=True)
    zero: Number = number(symbols.q_z, 0, zero=True)
    keep: str = word("", meaning="operators whose weights stay as they were, joined by +")
    keep_layers: Number = number(symbols.n_k, 0, zero=True)
    kind: str = word("", meaning="the kind of the layers that are kept")
    dequantize: str = word("free", ("free", "counted"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None and self.activations is None and self.kv is None:
            raise InputError(f"{self.name}: give weights, activations or kv in bits, as weights=4")
        grouped = self.group is not None or self.cache_group is not None
        of_weights = self.group is not None or self.keep or self.dequantize == "counted"
        idle = {
            "group, keep and dequantize=counted are of weights: give weights in bits": self.weights is None and of_weights,
            "cache_group is of the KV cache: give kv in bits": self.kv is None and self.cache_group is not None,
            "kind says which layers are kept: give keep_layers": self.kind and self.keep_layers == 0,
            "scale and zero are of a group: give group or cache_group": not grouped and (self.scale is not None or self.zero != 0),
        }
        for hint, wrong in idle.items():
            if wrong:
                raise InputError(f"{self.name}: {hint}")

    def check(self, step: Step) -> None:
        if step.options.accounting != "exact" and (self.activations, self.kv, self.keep_layers) != (None, None, 0):
            told = f"accounting {step.options.accounting!r} has its own peaks and cache"
            raise InputError(f"{self.name}: {told}: quantize weights alone there, in all layers, or use 'exact'")
        layers, group = cast(Expr, self.keep_layers), cast(Expr | None, self.group)
        if layers != 0 and layers.is_number:
            block = kind_of(step.symbolic, self.kind)
            there = substitute(substitute(block.count, step.symbolic.definitions), step.values)
            if there.is_number and layers >= there:
                raise InputError(f"{self.name}: keep_layers {self.keep_layers}: expected fewer than the {there} of {block.name}")
        if group is None or not group.is_number:
            return
        for name, (inputs, _) in shapes(step.symbolic, step.values, self._chosen(step.symbolic)).items():
            if inputs.is_number and inputs % group != 0:
                fits = next(size for size in range(int(min(group, inputs)), 0, -1) if inputs % size == 0)
                raise InputError(
                    f"{self.name}: group {self.group} does not divide the {inputs} inputs of {name}: {fits} does, or keep={name}"
                )

    def _chosen(self, graph: Graph) -> dict[int, Operator]:
        """The linear operators whose weights change; routers keep theirs, as in quantized checkpoints."""
        kept = linears(graph, self.keep, groups=True) if self.keep else {}
        every = linears(graph, groups=True) if self.weights is not None else {}
        return {key: one for key, one in every.items() if key not in kept}

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        chosen, spared = self._chosen(graph), set[int]()
        if given["keep_layers"] != 0:
            chosen_names = {one.name for one in chosen.values()}
            graph, spared = split_block(graph, self.kind, given["keep_layers"])
            chosen = {id(one): one for one, _ in graph if one.name in chosen_names}
        shared = given.get("scale", SCALE) + given["zero"]
        widths = {}
        for name, (storage, group) in CLASSES.items():
            if name in given:
                widths[storage] = Width(given[name], shared / given[group] if group in given else Integer(0))
        return narrow(graph, widths, weights_of(chosen.values()), spared, counted=self.dequantize == "counted")

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        told = []
        for name, (_, group) in CLASSES.items():
            if name in given:
                told.append(f"{name} {getattr(self, name)}{f' + (q_s + q_z)/{getattr(self, group)}' if group in given else ''} bits")
        grouped = "group" in given or "cache_group" in given
        scales = f"q_s = {self.scale or SCALE}, q_z = {self.zero}" if grouped else "scales of whole tensors not counted"
        also = "embedding, LM head, router, norms and biases keep their weights; " if "weights" in given else ""
        how = "dequantization is free" if self.dequantize == "free" else "two operations per weight dequantize it, at the matrix peak"
        kept = f"; kept: weights of {self.keep}" if self.keep else ""
        apart = f"; {self.keep_layers} layers kept ({APART})" if given["keep_layers"] != 0 else ""
        return (f"quantize: {', '.join(told)}; {scales}; {also}{how}{kept}{apart}",)
