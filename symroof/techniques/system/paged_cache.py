"""Paged KV caches, and contiguous caches that reserve the longest sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Mul, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Graph, Operator, Storage, Tensor
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

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

    Parameters
    ----------
    page : p_b in tokens.
    reserved : l_max in tokens, of a contiguous cache; a layer with a sliding window reserves its window.
    layout : "paged", or "contiguous" as a baseline.

    Raises
    ------
    InputError
        No cache grows with the context, the cache is paged already, or the context exceeds the reservation.

    >>> import symroof
    >>> from symroof.operators.tensor import Storage
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(PagedCache())
    >>> print(step["qk_matmul"].byte_count(Storage.KV_CACHE).expand())
    b*c*e*k*t/8 + 4*b*t/p_b

    Source: Kwon et al. (2023), PagedAttention, arXiv:2309.06180, sections 3 and 4.
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

    def __post_init__(self) -> None:
        paged = self.layout == "paged"
        if (self.reserved if paged else self.page) is not None:
            asked, other = ("reserved", "contiguous") if paged else ("page", "paged")
            raise self.refused(f"{asked} belongs to layout={other}; this is layout={self.layout}")
        asked, symbol = ("page", symbols.p_b) if paged else ("reserved", symbols.l_max)
        if getattr(self, asked) is None:
            object.__setattr__(self, asked, symbol)
        super().__post_init__()

    def check(self, step: Step) -> None:
        context = step.values.get(symbols.t if step.options.decode else symbols.s)
        if isinstance(self.reserved, Expr) and self.reserved.is_number and context is not None and context > self.reserved:
            raise self.refused(f"reserved {self.reserved}: the sequences have {context} tokens; expected at least {context}")

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

        return graph.map(tensor=lambda tensor: made.get(tensor, tensor), access=moved)

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.layout == "contiguous":
            return (f"paged-cache: contiguous, {self.reserved} tokens reserved per sequence, the window in layers with a sliding window",)
        return (
            f"paged-cache: pages of {self.page} tokens, of which (p_b - 1)/2 per sequence are empty on average; 4 bytes of block table per "
            "page and layer; losses of kernels that gather pages are not counted",
        )


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
