"""Mixed batches: a decode step includes chunks of prompts and reads the weights once for both."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from sympy import Expr, Integer, Min

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Block, Graph, Kind, Operator, Role, Space, Structure, Tensor
from symroof.operators.query_blocks import cache_passes
from symroof.operators.state_space import convolved
from symroof.techniques.system.token_axes import EXACT, attends, paired, refuse_other_windows
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

PER_TOKEN = ("t", "z", "u", "s_c")
"""Axes whose size differs between the two parts: context, what a window keeps of it, rows of the LM head, outputs of a convolution."""


@dataclass(frozen=True)
class MixedBatch(Technique):
    """b sequences decode while s_k tokens of b_p prompts are prefilled: linear operators process b + b_p s_k tokens.

    Weights are read once for both parts. Attention runs separately, that of the prompts as ``<operator>.chunk``, causal
    over the S tokens up to the end of the chunk. A linear operator becomes compute-bound at the same number of tokens as
    in decode, so a chunk of ``s_k = (b* - b) / b_p`` tokens fills the step up to the ridge point.

    ============== ==================================================
    linear FLOPs   ``2 (b + b_p s_k) d f``
    linear bytes   ``((b + b_p s_k) (d + f) a + d f w) / 8``
    pairs          ``b t + b_p s_k (2 S - s_k + 1) / 2``
    KV memory      of ``b t + b_p S`` tokens
    ============== ==================================================

    In a layer with a sliding window of W tokens the queries of a chunk see ``min(S, s_k + W - 1)`` positions and ``min(S, W)`` of them
    stay in the cache; with ``j = min(S, W) - min(S, s_k + W - 1) + s_k`` queries that see their whole past, there are
    ``s_k min(S, W) - j (j - 1) / 2`` pairs per prompt.

    Parameters
    ----------
    chunk : s_k, tokens of each prompt in this step.
    prompts : b_p.
    prompt : S, tokens of the prompt up to the end of the chunk; by default the chunk is the first one, S = s_k.
    logits : tokens of each prompt that the LM head processes: the "last" one, "all" of the chunk, or "none".
    together : "no" runs the same tokens as two successive steps that each read the weights, as a baseline.

    Raises
    ------
    InputError
        The prompt is shorter than its chunk, or attention is sparse.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(MixedBatch(chunk=512))["up_proj"].flops)
    2*d*f*(b + 512) FLOP

    Source: Agrawal et al. (2023), SARATHI, arXiv:2308.16369, section 4 (decode-maximal batching).
    """

    name = "mixed-batch"
    summary = "a decode step includes a chunk of a prompt, and both share the reads of the weights"
    survey = "5.3"
    source = "arXiv:2308.16369"
    structure = frozenset({Structure.TOKENS})
    phases = ("decode",)
    exact = EXACT
    requires = frozenset({Fact.WHOLE_BATCH, Fact.WHOLE_STEP, Fact.OWN_CONTEXT, Fact.ONE_PART, Fact.WHOLE_CACHE, Fact.NO_PAGES})
    removes = frozenset({Fact.ONE_CONTEXT, Fact.NO_CHUNK})
    once = True
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
        prompt, chunk = self.prompt, self.chunk
        if prompt is not None and prompt.is_number and chunk.is_number and prompt < chunk:
            raise self.refused(f"prompt {prompt} is shorter than its chunk of {chunk} tokens; give a prompt of {chunk} or more")

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        refuse_other_windows(self.name, graph)
        space = graph.blocks[0].operators[0].space
        if space.sizes["s"] != 1 and any(operator.role is Role.RECURRENCE for operator, _ in graph):
            raise self.refused("recurrent layers keep states for every token that is verified, and one for a prompt: not supported")
        carried = given["prompts"] * given["chunk"]
        graph = replace(graph, prompt_tokens=graph.prompt_tokens + carried / space.sizes["b"])
        if self.together == "yes":
            return graph.each(_Parts(given, self.logits).shared).with_pass_tokens(graph.pass_tokens + carried)
        behind = graph.with_pass_tokens(carried)
        parts = _Parts(given, self.logits, None if behind.routing is None else behind.routing.touched)
        of_chunk = iter([operator for operator, _ in behind])
        return graph.each(lambda operator, _: parts.in_succession(operator, next(of_chunk)))

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.together == "no":
            return ("mixed-batch: the chunk runs as a separate step after the decode step and reads the weights again",)
        rows = {"last": "the last token of each chunk", "all": "every token of a chunk", "none": "no token of a chunk"}[self.logits]
        return (
            f"mixed-batch: b + b_p s_k tokens share the weights; attention of the chunk is separate, over {given.get('prompt', 's_k')} "
            f"tokens; LM head also on {rows}",
            "mixed-batch: time per token counts generated tokens; decode latency is the time of the whole step, chunk included",
        )


class _Parts:
    """The two parts of a mixed step, and the tensors that they share.

    Parameters
    ----------
    experts : the experts that the chunk touches, if it reads their weights separately.
    """

    def __init__(self, given: Given, logits: str, experts: Expr | None = None) -> None:
        self.prompts, self.chunk = given["prompts"], given["chunk"]
        rows = {"last": Integer(1), "all": self.chunk, "none": Integer(0)}[logits]
        self.sizes = {
            "b": self.prompts,
            "s": self.chunk,
            "t": given.get("prompt", self.chunk),
            "u": rows,
            "s_c": convolved(self.chunk, True),
        }
        self.sizes |= {} if experts is None else {"X": experts}
        self.both = functools.cache(self._both)
        self.own = functools.cache(lambda tensor: replace(tensor, space=self._alone(tensor.space)))
        """The chunk's own tensor over queries and contexts."""

    def shared(self, operator: Operator, _: Block) -> Operator | tuple[Operator, ...]:
        """Per-token operators on the tokens of both parts; attention for each part separately."""
        if attends(operator):
            return self.in_succession(operator, operator)
        sides = (operator.reads, operator.writes)
        reads, writes = (tuple(replace(access, tensor=self.both(access.tensor)) for access in side) for side in sides)
        return replace(operator, space=self._mean(operator.space), reads=reads, writes=writes)

    def in_succession(self, operator: Operator, behind: Operator) -> tuple[Operator, Operator]:
        """The operator on the decoding sequences, followed by the operator on the chunk with separate reads of weights."""
        chunk = self._part(behind, self._alone(operator.space), operator)
        return self._part(operator, operator.space, operator), replace(chunk, name=f"{operator.name}.chunk")

    def _part(self, part: Operator, space: Space, operator: Operator) -> Operator:
        of_chunk = space is not operator.space

        def moved(access: Access, tensor: Tensor) -> Access:
            own = self._alone(tensor.space) if of_chunk else tensor.space
            if paired(tensor.axes):
                return replace(access, tensor=self.own(tensor) if of_chunk else tensor)
            axes, both = access.touched, self.both(tensor)
            times = access.repeats * own.points(axes) / both.space.points(axes)
            if of_chunk and operator.kind is Kind.FUSED_ATTENTION and "t" in axes:
                times *= cache_passes(space) / cache_passes(operator.space)
            return replace(access, tensor=both, repeats=times)

        reads, writes = (
            tuple(moved(access, whole.tensor) for access, whole in zip(side, other, strict=True))
            for side, other in ((part.reads, operator.reads), (part.writes, operator.writes))
        )
        return replace(operator, space=space, reads=reads, writes=writes)

    def _alone(self, space: Space) -> Space:
        window = self._window(space)
        return replace(space.resized(self.sizes | window), one_block=False, band=window.get("z", space.band))

    def _window(self, space: Space) -> dict[str, Expr]:
        """Of a layer with a sliding window, the positions in sight of the chunk's queries, and those that stay in the cache."""
        if "z" not in space.sizes:
            return {}
        prompt, window = self.sizes["t"], symbols.W
        return {"t": Min(prompt, self.chunk + window - 1), "z": Min(prompt, window)}

    def _both(self, tensor: Tensor) -> Tensor:
        """The tensor of both parts: rows of all tokens, caches of all sequences, weights unchanged."""
        space, axes = tensor.space, tensor.axes
        if "b" in axes and not {"s", *PER_TOKEN} & {*axes}:  # a state, one per sequence
            space = space.resized({"b": space.sizes["b"] + self.prompts})
        elif "s" in axes and "b" not in axes:  # one row per position
            space = space.resized({"s": space.sizes["s"] + self.chunk})
        else:
            space = self._mean(space)
        return replace(tensor, space=space)

    def _mean(self, space: Space) -> Space:
        """The space as if all tokens were sequences of equal length: other axes are means over them, so products are exact."""
        sizes, chunk = space.sizes, self.sizes | self._window(space)
        batch = sizes["b"] + self.prompts * self.chunk / sizes["s"]
        means = {axis: (sizes["b"] * sizes[axis] + self.prompts * chunk[axis]) / batch for axis in PER_TOKEN if axis in sizes}
        return space.resized({"b": batch, **means})
