"""Context parallelism: the tokens of a prompt are split over devices, keys and values are passed around a ring."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Max, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import quote
from symroof.operators import Access, Block, Graph, Kind, Operator, Space, Storage, Structure, Tensor
from symroof.operators.collective import Group, neighbour
from symroof.techniques.system.parallelism import Linked, axis_sizes
from symroof.techniques.system.token_axes import attends, paired
from symroof.techniques.technique import Example, Fact, Given, Number, number

RECURRENT = (Kind.SCAN, Kind.CONVOLUTION)


@dataclass(frozen=True)
class ContextParallel(Linked):
    """``s / n`` tokens of every prompt on each of n devices: ring attention.

    Per-token operators process ``s / n`` tokens. In attention the queries stay on their device, and keys and values are
    passed around a ring, ``(n - 1) / n`` of them over the link, while the previous ones are processed: an operator takes the
    longest of its compute, memory and link times. Query-key pairs are distributed evenly, also under a causal mask (a device
    has tokens from both ends of the prompt). Megatron's sequence parallelism (Korthikanti et al. 2022, arXiv:2205.05198) is another: it
    divides norms and adds between the operators of tensor parallelism. Every device has all weights. Apply it
    after FlashAttention, whose blocks it distributes, and after a prefix cache.

    ============== ==================================================================
    up_proj        ``F = 2 b s d f / n``, weights ``d f w / 8``
    attention      FLOPs and scores divided by n; each device reads all keys, FlashAttention's blocks together once
    ring           ``(n - 1) / n x b s k e c / 8`` byte over the link for keys, and for values
    ============== ==================================================================

    Parameters
    ----------
    degree, link, node, network : n, byte/s one way, devices of a node, byte/s one way of a device's network to other nodes.
    overhead, latency, network_latency : seconds of the ring and of its steps that attention does not hide; none by default.

    Raises
    ------
    InputError
        The step is decode, a layer is recurrent, or the degree does not divide the prompt.

    >>> import symroof
    >>> from symroof.operators.tensor import Level
    >>> step = symroof.load_model("llama-2-7b").prefill(symbolic=True).apply(ContextParallel())
    >>> print(step["qk_matmul"].flops, step["qk_matmul"].byte_count(level=Level.LINK))
    b*e*h*s*(s + 1)/n_p FLOP b*c*e*k*s*(n_p - 1)/(8*n_p)

    Sources: Liu, Zaharia and Abbeel (2023), Ring Attention, arXiv:2310.01889; Brandon et al. (2023), Striped Attention,
    arXiv:2311.09431 (the balance under a causal mask); the name is that of Megatron Core and vLLM.
    """

    name = "context-parallel"
    summary = "the tokens of a prompt split over devices, keys and values passed around a ring"
    survey = "5.3"
    source = "arXiv:2310.01889"
    structure = frozenset({Structure.TOKENS})
    phases = ("prefill",)
    requires = frozenset({Fact.NO_PAGES})
    removes = frozenset({Fact.WHOLE_PROMPT})
    divides = (symbols.s, "degree")
    example = Example(phase="prefill", part="total", over="seq_len", settings={"degree": 8}, inputs={"batch": 1, "flash_attention": False})

    latency: Number = number(symbols.t_l, 0, zero=True)
    overhead: Number = number(symbols.l_0, 0, zero=True)
    network_latency: Number = number(symbols.t_n, 0, zero=True)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        n, group = given["degree"], self.group(given)
        if any(operator.space.chosen and "z" in operator.space.sizes for operator, _ in graph):
            raise self.refused("each query selects its keys among those of all devices")
        for operator, _ in graph:
            if operator.space.sizes["s"] == 1:
                raise self.refused("a decode step has one token per sequence, which cannot be split; expected a prefill step")
            if operator.kind in RECURRENT:
                raise self.refused(f"a recurrence processes tokens in order and cannot be split: {quote(operator.name)}")

        def placed(old: Operator, new: Operator, _: Block) -> Operator:
            return replace(new, space=_cut(new.space, attends(old), n))

        def tensor_of(tensor: Tensor) -> Tensor:
            return replace(tensor, space=_cut(tensor.space, paired(tensor.axes), n))

        cut = graph.map(tensor=tensor_of, operator=placed).with_pass_tokens(graph.pass_tokens / n)
        passed: set[Tensor] = set()
        alone = graph.query_blocks is None or not graph.query_blocks.shared
        return cut.each(lambda operator, _: _around(operator, group, passed, alone) if attends(operator) else operator)

    def check(self, step: Step) -> None:
        size = axis_sizes(step)["s"]
        if size != 1:
            self.even({"tokens of the prompt": size})

    def statements(self, given: Given) -> tuple[str, ...]:
        n = given["degree"]
        step = self.group(given).step
        late = f"; plus {step} s per step of the ring" if step != 0 else ""
        late += f"; {self.inside(given)} devices per node, and between nodes the network of BW_n" if self.tiers else ""
        return (
            f"context-parallel: one of {n} devices, with s/{n} tokens of every prompt and all weights; the device with the last token "
            "runs the LM head; query-key pairs and blocks of FlashAttention are distributed evenly",
            f"context-parallel: ({n} - 1)/{n} of keys and values cross the link of BW_l one way, overlapped with attention{late}; with a "
            "sliding window all keys are passed",
        )


def _cut(space: Space, pairs: bool, n: Expr) -> Space:
    """The space of one device: its tokens, or its share of the query-key pairs, expressed as a share of the batch."""
    if pairs:
        return space.resized({"b": space.sizes["b"] / n})
    tokens = space.sizes["s"]
    cut = {axis: size / n for axis, size in space.sizes.items() if axis in ("s", "t", "z", "patches") or (axis == "u" and size == tokens)}
    return space.resized(cut)


def _around(operator: Operator, group: Group, passed: set[Tensor], alone: bool) -> Operator:
    """An operator over query-key pairs: it reads the keys of all devices; those of the others cross the link once.

    The query blocks of fused attention are divided already: a device has its share of all reads if every block reads
    *alone*, and reads every key at least once if blocks share a pass.
    """
    n, step = group.devices, group.step + group.leaves * (group.network_step - group.step)
    reads: list[Access] = []
    ring: list[Access] = []
    for access in operator.reads:
        tensor, axes = access.tensor, access.touched
        if tensor.storage is Storage.WEIGHT or "t" not in axes or "s" in axes:
            reads.append(access)
            continue
        if operator.kind is not Kind.FUSED_ATTENTION:
            reads.append(replace(access, repeats=access.repeats * n))
        else:
            reads.append(access if alone else replace(access, repeats=Max(n, access.repeats)))
        if tensor not in passed:
            passed.add(tensor)
            whole = replace(tensor, axes=axes) if "z" in tensor.axes else tensor
            ring += neighbour(whole, n - 1, group)
    late = group.started + (n - 1) * step if ring else S.Zero
    return replace(operator, reads=(*reads, *ring), latency=operator.latency + late)
