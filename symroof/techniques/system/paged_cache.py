"""Paged KV caches, and contiguous caches that reserve the longest sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sympy import Expr, Mul, S, Symbol

from symroof import symbols
from symroof.architectures.options import WIDTHS
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators import Access, Graph, Operator, Storage, Tensor
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word

ENTRY_BITS = 32
"""Bytes of a page number in the block table."""

KEPT = "z"
"""The axis of the tokens that the cache stores."""


@dataclass(frozen=True)
class PagedCache(Technique):
    """The cache in pages of p_b tokens with a block table of 4 bytes per page; or contiguous, with l_max tokens reserved.

    The last page of a sequence is partly empty: averaged over lengths, ``(p_b - 1) / 2`` tokens are wasted, so a sequence of
    t tokens takes ``t + (p_b - 1) / 2`` tokens of cache and ``(t + (p_b - 1) / 2) / p_b`` entries of the table.

    ============ ===================================== ============================ ====================
    .            paged                                 contiguous                   neither
    ============ ===================================== ============================ ====================
    memory       ``b (t + (p_b-1)/2) (kv + 4/p_b)``    ``b l_max kv``               ``b t kv``
    reads        ``b t (kv + 4/p_b)``                  ``b t kv``                   ``b t kv``
    ============ ===================================== ============================ ====================

    in bytes per layer, with ``kv = 2 k e c / 8`` bytes per token. A step is no faster at a given batch; the largest batch grows,
    by ``l_max kv / ((t + (p_b-1)/2) (kv + 4/p_b))`` over the contiguous cache, activations neglected. The page size of least
    memory satisfies ``p_b^2 = 4 (2 t - 1) / kv``. Losses of kernels that gather pages are not counted.

    An engine allocates its pages at the start, of what its share u_M of the device's memory leaves: ``u_M C >= weights + cache +
    activations + M_r``, with activations of the largest step that it may run. `symroof.largest` over seq_len at batch 1 is then the size of
    its cache in tokens, and over batch at a context the number of requests of that length at once, which vLLM prints as "GPU KV cache size"
    and "Maximum concurrency".

    Parameters
    ----------
    page : p_b in tokens; 16 in vLLM.
    reserved : l_max in tokens, of a contiguous cache; a layer with a sliding window reserves its window.
    layout : "paged", or "contiguous" as a baseline.
    utilization : u_M, the share of the device's memory that the engine uses, as vLLM's gpu_memory_utilization: 0.9 in version 0.11 and
        0.92 in 0.25. SGLang's mem_fraction_static is that of weights and cache alone.
    profile : s_m, tokens of the step that decides activations, as vLLM's max_num_batched_tokens: they are those of a prefill of one
        sequence of as many tokens with FlashAttention, after the techniques before this one. By default the step's own.
    runtime : M_r in bytes, 0 by default: the device's context, buffers of collectives and samplers, captured graphs.

    Raises
    ------
    InputError
        No cache grows with the context, the cache is paged already, the context exceeds the reservation, or an earlier technique has no
        prefill to profile.

    >>> import symroof
    >>> from symroof.operators.tensor import Storage
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(PagedCache())
    >>> print(step["qk_matmul"].byte_count(Storage.KV_CACHE).expand())
    b*c*e*k*t/8 + 4*b*t/p_b
    >>> step = symroof.load_model("llama-3-8b").decode(batch=1).apply("paged-cache:page=16,utilization=0.9,profile=8192,runtime=1.79GiB")
    >>> symroof.largest(step, over="seq_len", capacity="79.22 GiB").integer  # tokens of the whole cache
    440939

    Sources: Kwon et al. (2023), PagedAttention, arXiv:2309.06180, sections 3 and 4; what an engine keeps: vLLM, vllm/config/cache.py and
    vllm/v1/worker/gpu_worker.py.
    """

    name = "paged-cache"
    summary = "the KV cache in pages, allocated as sequences grow"
    survey = "5.2"
    source = "arXiv:2309.06180"
    removes = frozenset({Fact.NO_PAGES})
    example = Example(part="qk_matmul", settings={"page": 16}, before="paged-cache:layout=contiguous,reserved=4096", inputs={"batch": 16})

    page: Number = number(symbols.p_b, optional=True)
    reserved: Number = number(symbols.l_max, optional=True)
    layout: str = word("paged", ("paged", "contiguous"))
    utilization: Number = number(symbols.u_M, optional=True)
    profile: Number = number(symbols.s_m, optional=True)
    runtime: Number = number(symbols.M_r, zero=True, optional=True)

    def __post_init__(self) -> None:
        paged = self.layout == "paged"
        if (self.reserved if paged else self.page) is not None:
            asked, other = ("reserved", "contiguous") if paged else ("page", "paged")
            raise self.refused(f"{asked} belongs to layout={other}; this is layout={self.layout}")
        asked, symbol = ("page", symbols.p_b) if paged else ("reserved", symbols.l_max)
        if getattr(self, asked) is None:
            object.__setattr__(self, asked, symbol)
        if isinstance(self.profile, Symbol):
            raise self.refused("profile needs a number of tokens, as profile=8192")
        super().__post_init__()

    def check(self, step: Step) -> None:
        context = step.values.get(symbols.t if step.options.decode else symbols.s)
        if isinstance(self.reserved, Expr) and self.reserved.is_number and context is not None and context > self.reserved:
            raise self.refused(f"reserved {self.reserved}: the sequences have {context} tokens; expected at least {context}")

    def on_graph(self, graph: Graph) -> Graph:
        if self.profile is not None:
            raise refuse_graph(self)
        return super().on_graph(graph)

    def on_step(self, step: Step) -> Step:
        if self.profile is None:
            return super().on_step(step)
        self.check(step)
        paged, profiled = super().on_graph(step.symbolic), self._profiled(step)
        return replace(step, symbolic=replace(paged, reserve=replace(paged.reserve, activations=profiled.graph.activation_memory())))

    def _profiled(self, step: Step) -> Step:
        """The prefill of one sequence that decides how much an engine keeps for activations."""
        if step.source is None:
            raise refuse_graph(self)
        inputs: dict[str, Any] = {name: getattr(step.options, name) for name in WIDTHS} | {"batch": 1, "seq_len": int(self.profile)}
        prefills = (step.source.prefill(**inputs, flash_attention=fused) for fused in (True, False))  # a chain may fuse it itself
        try:
            return next(prefills).apply(*step.symbolic.applied)
        except InputError:
            pass
        try:
            return next(prefills).apply(*step.symbolic.applied)
        except InputError as error:
            raise self.refused(f"profile: no prefill after the techniques before it ({error}); give runtime alone") from None

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        made: dict[Tensor, Tensor] = {}
        for block in graph.blocks:
            read = [access.tensor for operator in block.operators for access in operator.reads]
            every = dict.fromkeys([*read, *block.tensors()])
            cached = [tensor for tensor in every if tensor.storage is Storage.KV_CACHE and not {"t", KEPT}.isdisjoint(tensor.axes)]
            if any(tensor.index != 0 for tensor in cached):
                raise self.refused("the cache is paged already")
            tables = [] if self.layout == "contiguous" else cached[:1]
            made |= {tensor: _kept(tensor, given, tensor in tables) for tensor in cached if tensor not in made}
        if not made:
            raise self.refused("this step keeps no KV cache that grows with the context")

        def moved(old: Access, new: Access, _: Operator) -> Access:
            return replace(new, axes=old.touched) if old.tensor in made else new

        share, runtime = given.get("utilization", graph.reserve.share), given.get("runtime", graph.reserve.runtime)
        graph = replace(graph, reserve=replace(graph.reserve, share=share, runtime=runtime))
        return graph.map(tensor=lambda tensor: made.get(tensor, tensor), access=moved)

    def statements(self, given: Given) -> tuple[str, ...]:
        lines = [f"paged-cache: contiguous, {self.reserved} tokens reserved per sequence, the window in layers with a sliding window"]
        if self.layout == "paged":
            lines = [
                f"paged-cache: pages of {self.page} tokens, of which (p_b - 1)/2 per sequence are empty on average; 4 bytes of block table "
                "per page and layer; losses of kernels that gather pages are not counted"
            ]
        if self.utilization is not None or self.profile is not None or self.runtime is not None:
            share = "all" if self.utilization is None else f"{self.utilization}"
            kept = "those of the step" if self.profile is None else f"those of a prefill of {self.profile} tokens"
            other = f" and {self.runtime} bytes of the runtime" if self.runtime is not None else ""
            lines.append(f"paged-cache: {share} of the device's memory holds weights, cache, activations ({kept}){other}")
        return tuple(lines)


def _kept(tensor: Tensor, given: Given, table: bool) -> Tensor:
    """The cache with the axis of stored tokens; the first cache tensor of a layer includes the block table."""
    sizes = tensor.space.sizes
    axes = tuple(KEPT if axis == "t" else axis for axis in tensor.axes)
    now = sizes.get(KEPT, sizes["t"])
    if now == symbols.l_max:  # pages replace a reservation
        now = sizes["t"]
    reserved = symbols.W if now == symbols.t_w else given.get("reserved")
    kept = now + (given["page"] - 1) / 2 if "page" in given else reserved
    index = S.Zero
    if table:
        token = Mul(*(sizes[axis] for axis in tensor.axes if axis not in ("b", "t", KEPT)))
        index = ENTRY_BITS / (given["page"] * token)
    return replace(tensor, axes=axes, space=replace(tensor.space, sizes={**sizes, KEPT: kept}), index=index)
