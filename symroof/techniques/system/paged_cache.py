"""A KV cache in pages, against one that reserves the longest sequence in one piece."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Mul, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.operators import Access, Graph, Operator, Storage, Tensor
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

ENTRY_BITS = 32
"""A page's number in the block table."""

KEPT = "z"
"""The axis of what is kept in the cache."""


@dataclass(frozen=True)
class PagedCache(Technique):
    """The cache in pages of p_b tokens, found through a block table of 4 bytes per page; or contiguous, l_max tokens reserved.

    The last page of a sequence is part empty. Over the p_b lengths of a page its mean waste is ``(p_b - 1) / 2`` tokens (no
    waste with pages of one token), so a sequence of t tokens keeps ``t + (p_b - 1) / 2`` and its table
    ``(t + (p_b - 1) / 2) / p_b`` entries.

    ============ ===================================== ============================ ====================
    .            paged                                 contiguous                   without
    ============ ===================================== ============================ ====================
    memory       ``b (t + (p_b-1)/2) (kv + 4/p_b)``    ``b l_max kv``               ``b t kv``
    reads        ``b t (kv + 4/p_b)``                  ``b t kv``                   ``b t kv``
    ============ ===================================== ============================ ====================

    per layer, with ``kv = 2 k e c / 8`` bytes of a token. Time gets no shorter at a given batch; what grows is the largest batch,
    by ``l_max kv / ((t + (p_b-1)/2) (kv + 4/p_b))`` over the contiguous cache, activations left out. The page that takes least
    memory has ``p_b^2 = 4 (2 t - 1) / kv``.

    Parameters
    ----------
    page : p_b.
    reserved : l_max, of a contiguous cache; a layer with a sliding window reserves its window.
    layout : "paged", or "contiguous" to compare with.

    Errors: no cache grows with the context, it has pages already, or the context is longer than what is reserved.

    >>> import symroof
    >>> from symroof.operators.tensor import Storage
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(PagedCache())
    >>> print(step["qk_matmul"].byte_count(Storage.KV_CACHE).expand())
    b*c*e*k*t/8 + 4*b*t/p_b

    Source: Kwon et al. (2023), PagedAttention, arXiv:2309.06180, sections 3 and 4.
    """

    name = "paged-cache"
    summary = "the KV cache in pages, as much as a sequence needs"
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
            raise self.refused(f"{asked} belongs to layout={other}, this is layout={self.layout}")
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
            cached = [one for one in every if one.storage is Storage.KV_CACHE and not {"t", KEPT}.isdisjoint(one.axes)]
            if any(tensor.index != 0 for tensor in cached):
                raise self.refused("the cache has pages already")
            tables = [] if self.layout == "contiguous" else cached[:1]
            made |= {tensor: _kept(tensor, given, tensor in tables) for tensor in cached if tensor not in made}
        if not made:
            raise self.refused("this step keeps no KV cache that grows with the context")

        def moved(old: Access, new: Access, _: Operator) -> Access:
            return replace(new, axes=old.touched) if old.tensor in made else new

        return graph.map(tensor=lambda tensor: made.get(tensor, tensor), access=moved)

    def statements(self, given: Given) -> tuple[str, ...]:
        if self.layout == "contiguous":
            return (f"paged-cache: contiguous, {self.reserved} tokens reserved for every sequence, a sliding window's layers their window",)
        return (
            f"paged-cache: pages of {self.page} tokens, the last of a sequence half empty on average, (p_b - 1)/2 tokens; 4 bytes of block "
            "table per page and layer; what a kernel loses by gathering pages is not counted",
        )


def _kept(tensor: Tensor, given: Given, table: bool) -> Tensor:
    """The cache with the axis of what is kept; the first of a layer's has the block table beside it."""
    sizes = tensor.space.sizes
    axes = tuple(KEPT if axis == "t" else axis for axis in tensor.axes)
    now = sizes.get(KEPT, sizes["t"])
    if now == symbols.l_max:  # pages in the place of a reservation
        now = sizes["t"]
    reserved = symbols.W if now == symbols.t_w else given.get("reserved")
    kept = now + (given["page"] - 1) / 2 if "page" in given else reserved
    index = S.Zero
    if table:
        token = Mul(*(sizes[axis] for axis in tensor.axes if axis not in ("b", "t", KEPT)))
        index = ENTRY_BITS / (given["page"] * token)
    return replace(tensor, axes=axes, space=replace(tensor.space, sizes={**sizes, KEPT: kept}), index=index)
