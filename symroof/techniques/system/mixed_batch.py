"""Mixed batches: a decode step that carries a chunk of prompts along, and reads its weights once for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.attention import cache_passes
from symroof.operators.facts import Kind
from symroof.operators.graph import Block, Graph
from symroof.operators.operator import Operator
from symroof.operators.state_space import convolved
from symroof.operators.tensor import Access, Space, Tensor
from symroof.techniques.system.token_axes import attends, paired, refuse_windows, require_phase, rows_of, touched
from symroof.techniques.technique import Example, Fact, Number, Technique, number, word

PER_TOKEN = ("t", "u", "s_c")
"""Axes whose size differs between the two parts: context, rows of the LM head, outputs of a convolution."""


@dataclass(frozen=True)
class MixedBatch(Technique):
    """b sequences decode while b_p prompts have s_k tokens prefilled: linear operators run over b + b_p s_k tokens.

    Weights are read once for both parts. Attention runs apart for each, the prompts' as ``<operator>.chunk``, causal
    over the S tokens up to the chunk's last. A linear operator is compute-bound from the same number of tokens on as in
    decode, so at its ridge a chunk of ``s_k = (b* - b) / b_p`` tokens rides along.

    ============== ==================================================
    linear FLOPs   ``2 (b + b_p s_k) d f``
    linear bytes   ``((b + b_p s_k) (d + f) a + d f w) / 8``
    pairs          ``b t + b_p s_k (2 S - s_k + 1) / 2``
    KV memory      of ``b t + b_p S`` tokens
    ============== ==================================================

    Parameters
    ----------
    chunk : s_k, tokens of each prompt in this step.
    prompts : b_p.
    prompt : S, tokens of the prompt up to the end of the chunk; left out, the chunk is the first one, S = s_k.
    logits : rows of the LM head of each prompt: of its "last" token, of "all" of the chunk, or "none".
    together : "no" runs the same tokens as two steps, one behind the other, that read the weights each: what to compare with.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(MixedBatch(chunk=512))["up_proj"].flops)
    2*d*f*(b + 512) flop

    Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4 (decode-maximal batching).
    """

    name = "mixed-batch"
    summary = "a chunk of a prompt rides along with a decode step and shares its reads of the weights"
    survey = "5.3"
    source = "arXiv:2308.16369"
    phases = ("decode",)
    requires = frozenset({Fact.WHOLE_BATCH, Fact.WHOLE_STEP})
    removes = frozenset({Fact.ONE_CONTEXT})
    example = Example(
        part="up_proj",
        settings={"chunk": 128, "prompts": 1, "prompt": 1024},
        inputs={"seq_len": 1024},
        against="mixed-batch:chunk=128,prompts=1,prompt=1024,together=no",
    )

    chunk: Number = number(symbols.s_k)
    prompts: Number = number(symbols.b_p, 1)
    prompt: Number = number(symbols.S, optional=True)
    logits: str = word("last", ("last", "all", "none"))
    together: str = word("yes", ("yes", "no"))

    def check(self, step: Step) -> None:
        require_phase(self.name, step, "decode")
        prompt, chunk = cast(Expr | None, self.prompt), cast(Expr, self.chunk)
        if prompt is not None and prompt.is_number and chunk.is_number and prompt < chunk:
            raise InputError(f"{self.name}: prompt {prompt} is shorter than its chunk of {chunk} tokens; give a prompt of {chunk} or more")

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        refuse_windows(self.name, graph)
        if any("n_s" in operator.space.sizes for operator, _ in graph):
            raise InputError(f"{self.name} does not go with flash-decoding: the chunk's attention is not split")
        if any(operator.name.endswith(".chunk") for operator, _ in graph):
            raise InputError(f"{self.name}: this step carries a chunk already")
        parts = _Parts(given, self.logits, apart=self.together == "no")
        changed = graph.each(parts.operator)
        space = graph.blocks[0].operators[0].space
        queries = space.sizes["s"]
        carried = given["prompts"] * given["chunk"]
        defined = touched(graph, {symbols.b: symbols.b + carried / queries})
        if symbols.R not in defined and any(operator.kind is Kind.FUSED_ATTENTION for operator, _ in graph):
            defined[symbols.R] = rows_of(space)
        return replace(changed, definitions=defined, tokens=graph.tokens + carried / space.sizes["b"])

    def statements(self, given: Mapping[str, Expr]) -> tuple[str, ...]:
        if self.together == "no":
            return ("mixed-batch: the chunk is a step of its own behind the decode step, and reads the weights again",)
        rows = {"last": "the last token of each chunk", "all": "every token of a chunk", "none": "no token of a chunk"}[self.logits]
        return (
            f"mixed-batch: b + b_p s_k tokens share the weights; attention runs apart for the chunk, over {given.get('prompt', 's_k')} "
            f"tokens; LM head also on {rows}",
            "mixed-batch: time per token is per token worked on, of the prompts or generated; how long decoding waits is the step's time",
        )


class _Parts:
    """The two parts of a mixed step, and what they share."""

    def __init__(self, given: Mapping[str, Expr], logits: str, *, apart: bool) -> None:
        self.apart = apart
        self.prompts, self.chunk = given["prompts"], given["chunk"]
        self.prompt = given.get("prompt", self.chunk)
        self.rows = {"last": Integer(1), "all": self.chunk, "none": Integer(0)}[logits]
        self.tensors: dict[tuple[int, bool], Tensor] = {}

    def operator(self, operator: Operator, _: Block) -> Operator | tuple[Operator, ...]:
        if not self.apart and not attends(operator):
            made = [[replace(access, tensor=self.both(access.tensor)) for access in side] for side in (operator.reads, operator.writes)]
            return replace(operator, space=self._both(operator.space), reads=tuple(made[0]), writes=tuple(made[1]))
        return self._part(operator, operator.space, False), self._part(operator, self._chunk(operator.space), True)

    def _part(self, operator: Operator, space: Space, chunk: bool) -> Operator:
        def moved(access: Access) -> Access:
            if paired(access.tensor.axes):
                return replace(access, tensor=self._own(access.tensor, space, chunk))
            axes, both = access.axes or access.tensor.axes, self.both(access.tensor)
            times = access.repeats * space.points(axes) / both.space.points(axes)
            if chunk and operator.kind is Kind.FUSED_ATTENTION and "t" in axes:
                times *= cache_passes(space) / cache_passes(operator.space)
            return replace(access, tensor=both, repeats=times)

        reads, writes = (tuple(map(moved, side)) for side in (operator.reads, operator.writes))
        return replace(operator, name=operator.name + ".chunk" * chunk, space=space, reads=reads, writes=writes)

    def _own(self, tensor: Tensor, space: Space, chunk: bool) -> Tensor:
        if (id(tensor), chunk) not in self.tensors:
            self.tensors[id(tensor), chunk] = replace(tensor, space=space)
        return self.tensors[id(tensor), chunk]

    def both(self, tensor: Tensor) -> Tensor:
        """The tensor of both parts: rows of all tokens, caches of all sequences, weights as they are."""
        if (id(tensor), False) not in self.tensors:
            space, axes = tensor.space, tensor.axes
            if "b" in axes and not {"s", *PER_TOKEN} & {*axes}:  # a state, one per sequence
                space = space.resized({"b": space.sizes["b"] + self.prompts})
            elif "s" in axes and "b" not in axes:  # one row per position
                space = space.resized({"s": space.sizes["s"] + self.chunk})
            else:
                space = self._both(space)
            self.tensors[id(tensor), False] = replace(tensor, space=space)
        return self.tensors[id(tensor), False]

    def _chunk(self, space: Space) -> Space:
        sizes = {"b": self.prompts, "s": self.chunk, "t": self.prompt, "u": self.rows, "s_c": convolved(self.chunk, True)}
        return space.resized(sizes)

    def _both(self, space: Space) -> Space:
        """As if all tokens were sequences of one length: the other axes are means over them, so that products are exact."""
        sizes, chunk = space.sizes, self._chunk(space).sizes
        batch = sizes["b"] + self.prompts * self.chunk / sizes["s"]
        means = {axis: (sizes["b"] * sizes[axis] + self.prompts * chunk[axis]) / batch for axis in PER_TOKEN if axis in sizes}
        return space.resized({"b": batch, **means})
