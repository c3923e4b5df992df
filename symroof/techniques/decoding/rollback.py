"""What recurrent layers keep so that rejected tokens can be undone: a state per token, or the inputs from which it is computed again."""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr, Integer, S

from symroof.conventions import Convention, without
from symroof.operators import Access, Axes, Graph, Kind, Operator, Role, Storage, Tensor
from symroof.operators.state_space import convolved

ROLLBACK = ("snapshots", "buffer", "replay")
"""How an engine returns to the state behind the last accepted token. With q tokens of which N are accepted, of each sequence:

========= =========================== ============= ================== ==================================
rollback  states read                 written       kept               recurrence over
========= =========================== ============= ================== ==================================
snapshots 1 (of a tree q)             q             q                  q tokens
buffer    2 (of a tree q + 1)         q + 1         q + 1              q tokens
replay    1, and the inputs of N      1             1, and q inputs    q tokens, and the N accepted again
========= =========================== ============= ================== ==================================

*snapshots*: a slot per token, of which the next step starts from the accepted one; each node of a tree starts from its parent's.
*buffer*: the same slots, but the accepted one is copied to the sequence's own state. *replay*: the state behind the last step's first
token is kept with everything the recurrence reads per token, and moved over the accepted ones (an upper bound: neither the queries nor
the output are needed for that). A convolution keeps ``k_c + q - 1`` inputs in place of ``k_c``.

Sources: vLLM, ``fla/ops/fused_recurrent.py`` (a state stored per token, read at ``num_accepted_tokens - 1``, at the parent's for trees),
``causal_conv1d_update`` (the window) and ``MambaSpec.num_speculative_blocks``; SGLang, ``mem_cache/memory_pool.py``
(``intermediate_ssm_state_cache`` of all draft tokens beside the state); Wang et al. (2024), The Mamba in the Llama, arXiv:2408.15237,
section 4, and vLLM's ``gdn_replayssm_spec_decode.py`` (inputs instead of states).
"""


def with_rollback(graph: Graph, queries: Expr, accepted: Expr, rollback: str, *, tree: bool = False) -> Graph:
    """The step on *queries* tokens per sequence with what its recurrent layers keep; unchanged where there are none."""
    if not any(_keeps(operator) for operator, _ in graph):
        return graph
    how = {
        "snapshots": "a state per token is written, and the next step starts from that of the last accepted one",
        "buffer": "a state per token is written to a buffer, and that of the last accepted one copied",
        "replay": "the state is read and written once and moved over the accepted tokens, whose inputs are kept",
    }[rollback]
    text = f"recurrent layers: FLOPs of the recurrence, token by token; {how}; a scan runs at the matrix peak, so its compute time is a "
    text += "lower bound"

    def rolled(operator: Operator) -> Operator:
        if not _keeps(operator):
            return operator
        if operator.kind is Kind.CONVOLUTION:
            return _window(operator, queries)
        return _replayed(operator, accepted) if rollback == "replay" else _snapshots(operator, queries, rollback == "buffer", tree)

    conventions = (*without(graph.conventions, "recurrence"), Convention("recurrence", text))
    return replace(graph.each(lambda operator, _: rolled(operator)), conventions=conventions)


def with_slots(graph: Graph, slots: Expr) -> Graph:
    """The steps of a draft whose recurrent layers write the state behind every token to a slot of its own."""

    def kept(operator: Operator) -> Operator:
        if not _keeps(operator):
            return operator
        state = _state(operator)
        slot = Access(_slots(state, slots), state.axes)
        return _with_state(operator, state, slot, slot)

    return graph.each(lambda operator, _: kept(operator))


def _slots(state: Tensor, slots: Expr) -> Tensor:
    return replace(state, axes=(*state.axes, "n_v"), space=replace(state.space, sizes={**state.space.sizes, "n_v": slots}))


def _with_state(operator: Operator, state: Tensor, read: Access, written: Access) -> Operator:
    """The operator with other accesses to its state."""

    def moved(side: tuple[Access, ...], instead: Access) -> tuple[Access, ...]:
        return tuple(instead if access.tensor is state else access for access in side)

    return replace(operator, reads=moved(operator.reads, read), writes=moved(operator.writes, written))


def _keeps(operator: Operator) -> bool:
    return operator.role is Role.RECURRENCE and any(access.tensor.storage is Storage.KV_CACHE for access in operator.writes)


def _state(operator: Operator) -> Tensor:
    return next(access.tensor for access in operator.writes if access.tensor.storage is Storage.KV_CACHE)


def _window(operator: Operator, queries: Expr) -> Operator:
    state, sizes = _state(operator), operator.space.sizes
    axes = tuple("k_v" if axis == "k_c" else axis for axis in state.axes)
    kept = Access(replace(state, axes=axes, space=replace(state.space, sizes={**sizes, "k_v": sizes["k_c"] + queries - 1})))
    outputs = convolved(queries, operator.space.causal)
    whole = replace(operator, space=operator.space.resized({"s_c": outputs}))
    return _with_state(whole, state, kept, kept)


def _snapshots(operator: Operator, queries: Expr, buffered: bool, tree: bool) -> Operator:
    state, copied = _state(operator), Integer(buffered)
    kept = Access(_slots(state, queries + copied), state.axes)
    read, written = replace(kept, repeats=(queries if tree else S.One) + copied), replace(kept, repeats=queries + copied)
    return _with_state(operator, state, read, written)


def _replayed(operator: Operator, accepted: Expr) -> Operator:
    """The recurrence with the inputs of its tokens kept, and over the accepted ones again."""
    space = replace(operator.space, sizes={**operator.space.sizes, "n_a": accepted})

    def again(axes: Axes) -> Axes:
        return tuple("n_a" if axis == "s" else axis for axis in axes)

    rows = (access for access in operator.reads if access.tensor.storage is Storage.ACTIVATION and "s" in access.touched)
    kept = [Tensor(f"{access.tensor.name}_kept", access.touched, Storage.KV_CACHE, space) for access in rows]
    return replace(
        operator,
        space=space,
        work=(*operator.work, *(replace(work, axes=again(work.axes)) for work in operator.work)),
        reads=(*operator.reads, *(Access(tensor, again(tensor.axes)) for tensor in kept)),
        writes=(*operator.writes, *map(Access, kept)),
    )
