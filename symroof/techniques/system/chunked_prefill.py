"""Chunked prefill: a prompt in pieces, each of which reads the weights and the keys and values of what came before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Integer, ceiling

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.attention import cache_passes
from symroof.operators.facts import Kind
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Storage, Tensor
from symroof.techniques.system.token_axes import attends, refuse_windows, require_phase, touched
from symroof.techniques.technique import Example, Fact, Number, Technique, number

ROWS = ("s", "u", "s_c")


@dataclass(frozen=True)
class ChunkedPrefill(Technique):
    """A prompt of s tokens in ``n = s / s_k`` chunks: the same FLOPs, the weights read n times, the prefix once per chunk.

    ================= ====================================================================
    FLOPs             as before
    weights read      ``n`` times
    keys and values   ``s_k (1 + ... + n) = s (n + 1) / 2`` rows instead of ``s``
    fused attention   as before where a chunk is whole blocks of R query rows
    activations       those of one chunk
    ================= ====================================================================

    Parameters
    ----------
    chunk : s_k, which divides the prompt.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True)
    >>> print(step.apply(ChunkedPrefill())["up_proj"].traffic)
    a*b*d*s/8 + a*b*f*s/8 + d*f*s*w/(8*s_k) byte

    Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4 (chunked prefills and their overhead).
    """

    name = "chunked-prefill"
    summary = "a prompt in chunks, each of which reads the weights and the prefix's keys and values again"
    survey = "5.3"
    source = "arXiv:2308.16369"
    phases = ("prefill",)
    requires = frozenset({Fact.WHOLE_PROMPT})
    removes = frozenset({Fact.ONE_CONTEXT})
    example = Example(phase="prefill", part="up_proj", over="chunk", inputs={"seq_len": 2048}, at=512)

    chunk: Number = number(symbols.s_k)

    def check(self, step: Step) -> None:
        require_phase(self.name, step, "prefill")
        length, chunk = step.values.get(symbols.s), cast(Expr, self.chunk)
        if length is None or not chunk.is_number:
            return
        if chunk > length:
            raise InputError(f"{self.name}: a chunk of {chunk} tokens is longer than the prompt of {length}")
        if length % chunk:
            raise InputError(f"{self.name}: a prompt of {length} tokens does not divide into chunks of {chunk}; expected a divisor")

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        refuse_windows(self.name, graph)
        spaces = [operator.space for operator, _ in graph]
        if not all(space.causal for space in spaces):
            raise InputError(f"{self.name}: without a causal mask a chunk would have to look at chunks after it")
        return replace(graph.each(_Chunks(given["chunk"]).operator), definitions=touched(graph, {symbols.s: given["chunk"]}))

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        return (
            "chunked-prefill: s / s_k chunks, each an operator's part under one roof with the others: exact for linear operators, for "
            "attention a lower bound of its time",
            "chunked-prefill: logits after the last chunk alone; a launch is counted once per operator, not per chunk",
        )


class _Chunks:
    """One chunk's tensors, with accesses that add up to those of all chunks."""

    def __init__(self, chunk: Expr) -> None:
        self.chunk = chunk
        self.tensors: dict[int, Tensor] = {}

    def operator(self, operator: Operator, _: Block) -> Operator:
        space = operator.space
        count = space.sizes["s"] / self.chunk
        again = (count + 1) / 2
        last = any("u" in access.tensor.axes for access in operator.writes) and space.sizes["u"] == 1

        def moved(access: Access) -> Access:
            axes = access.axes or access.tensor.axes
            made = self._tensor(access.tensor)
            if {*ROWS} & {*axes}:
                times = access.tensor.space.points(axes) / made.space.points(axes)
            elif "t" in axes:
                times = self._passes(operator, count) if operator.kind is Kind.FUSED_ATTENTION else again
            else:
                times = Integer(1) if last else count
            return replace(access, tensor=made, repeats=access.repeats * times)

        if any("t" in piece.axes for piece in operator.work) and not attends(operator):  # keys expanded from the whole context
            space = space.resized({"t": space.sizes["t"] * again})
        return replace(operator, space=space, reads=tuple(map(moved, operator.reads)), writes=tuple(map(moved, operator.writes)))

    def _passes(self, operator: Operator, count: Expr) -> Expr:
        """How often all chunks read a row, over how often one prompt at once would: block by block, up to its own last row."""
        blocks = ceiling(self.chunk / symbols.R)
        rows = symbols.R * blocks * (blocks - 1) / 2 + self.chunk
        total = count * rows + blocks * self.chunk * count * (count - 1) / 2
        return total / (operator.space.sizes["t"] * cache_passes(operator.space))

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.storage is not Storage.ACTIVATION or not {*ROWS} & {*tensor.axes}:
            return tensor
        if id(tensor) not in self.tensors:
            sizes = {axis: self.chunk for axis in ROWS if tensor.space.sizes.get(axis) == tensor.space.sizes["s"]}
            self.tensors[id(tensor)] = replace(tensor, space=tensor.space.resized(sizes))
        return self.tensors[id(tensor)]
