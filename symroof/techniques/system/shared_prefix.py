"""The operators of a step whose sequences share a prefix: attention over its two parts, caches that hold it once."""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr, ceiling

from symroof import symbols
from symroof.operators.attention import cache_passes
from symroof.operators.facts import CONTRACTIONS, Kind
from symroof.operators.graph import Block
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Space, Storage, Tensor
from symroof.techniques.system.token_axes import attends, paired


def looked_at(operator: Operator, _: Block) -> Operator:
    """Fused attention of a prompt's own tokens: the blocks that see the whole prefix."""
    if operator.kind is not Kind.FUSED_ATTENTION:
        return operator
    alone = operator.space.resized({"t": operator.space.sizes["s"]})
    factor = cache_passes(operator.space) / cache_passes(alone)
    return replace(
        operator, reads=tuple(replace(one, repeats=one.repeats * factor) if "t" in one.tensor.axes else one for one in operator.reads)
    )


class SharedPrefix:
    """Caches that hold the prefix once, and attention over its two parts."""

    def __init__(self, share: Expr, once: bool) -> None:
        self.share, self.once = share, once
        self.tensors: dict[tuple[int, str], Tensor] = {}

    def operator(self, operator: Operator, _: Block) -> Operator | tuple[Operator, ...]:
        if not attends(operator):
            reads, writes = (tuple(self._kept(one, self._whole(one)) for one in side) for side in (operator.reads, operator.writes))
            return replace(operator, reads=reads, writes=writes)
        if not self.once:
            return replace(operator, reads=tuple(self._kept(one, self._whole(one)) for one in operator.reads))
        prefix, suffix = (self._part(operator, part) for part in ("prefix", "suffix"))
        if operator.kind not in CONTRACTIONS or paired(operator.result.axes):
            return prefix, suffix
        partial = self._own(operator.result, operator.result.space, "partial")
        prefix = replace(prefix, writes=tuple(replace(one, tensor=partial) for one in prefix.writes))
        return prefix, replace(suffix, reads=(*suffix.reads, Access(partial)))

    def _part(self, operator: Operator, part: str) -> Operator:
        space = self._space(operator.space, part)

        def moved(access: Access) -> Access:
            axes = access.axes or access.tensor.axes
            if paired(access.tensor.axes):
                return replace(access, tensor=self._own(access.tensor, self._space(access.tensor.space, part), part))
            if "t" not in axes:
                return access
            times, stacked = space.sizes["t"] / operator.space.sizes["t"], part == "prefix" and access.tensor.storage is Storage.KV_CACHE
            if stacked:
                times /= space.sizes["b"]
            if operator.kind is Kind.FUSED_ATTENTION:
                times *= self._passes(space, stacked) / cache_passes(operator.space)
            return self._kept(replace(access, repeats=access.repeats * times), self._whole(access))

        reads, writes = (tuple(map(moved, side)) for side in (operator.reads, operator.writes))
        return replace(operator, name=f"{operator.name}.{part}", space=space, reads=reads, writes=writes)

    @staticmethod
    def _passes(space: Space, stacked: bool) -> Expr:
        """How often a row is read; of a prefix in the cache, for the blocks of all sequences' queries."""
        queries = space.sizes["s"]
        if not stacked or queries == 1:
            return cache_passes(space)
        return ceiling(space.sizes["b"] * queries / symbols.R)

    def _space(self, space: Space, part: str) -> Space:
        context = space.sizes["t"]
        if part == "prefix":  # every query sees all of it
            return replace(space.resized({"t": self.share * context}), causal=False)
        return space.resized({"t": (1 - self.share) * context})

    def _own(self, tensor: Tensor, space: Space, part: str) -> Tensor:
        if (id(tensor), part) not in self.tensors:
            self.tensors[id(tensor), part] = replace(tensor, space=space)
        return self.tensors[id(tensor), part]

    def _whole(self, access: Access) -> Expr:
        """How much of what all sequences would hold is kept: the prefix once."""
        return 1 - self.share + self.share / access.tensor.space.sizes["b"]

    def _kept(self, access: Access, whole: Expr) -> Access:
        tensor = access.tensor
        if tensor.storage is not Storage.KV_CACHE or "t" not in tensor.axes:
            return access
        made = self._own(tensor, tensor.space.resized({"t": tensor.space.sizes["t"] * whole}), "kept")
        axes = access.axes or tensor.axes
        return replace(access, tensor=made, repeats=access.repeats / whole if "t" in axes else access.repeats)
