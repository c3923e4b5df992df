"""What a newcomer adds in one file: an operator of their own, used by a part of a layer, under every question and technique."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest
from sympy import Expr, Integer

import symroof
from symroof.architectures.options import Options
from symroof.architectures.parts.mlp import Mlp
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Direction, Operator, Work
from symroof.operators.state_space import state
from symroof.operators.tensor import Access, Space, Storage, Tensor
from symroof.symbols import a, b, c, d, w
from symroof.techniques.registry import technique

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}


# --- the newcomer's file: symroof/operators/token_shift.py ---------------------------------------------------------
def token_shift(name: str, x: Tensor) -> Operator:
    """RWKV's token shift, ``y = m x + (1 - m) x_before`` per component; the last token of every sequence is kept.

    ========= ================================
    FLOPs     ``3 b s d``
    traffic   ``(2 b s d a + d w + 2 b d c) / 8``
    ========= ================================

    Source: Peng et al. (2023), RWKV, arXiv:2305.13048, section 3.1.
    """
    kept = Access(state(f"{name}_state", ("b", "d"), x))
    mix = Access(Tensor(f"{name}.weight", ("d",), Storage.WEIGHT, x.space, parameter=Parameter.RECURRENCE))
    y = Tensor(name, x.axes, Storage.ACTIVATION, x.space)
    return Operator(name, Kind.ELEMENTWISE, x.space, (Work(x.axes, 3),), (Access(x), mix, kept), (Access(y), kept), role=Role.RECURRENCE)


# --- its use: a part of a layer ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ShiftedMlp:
    """An MLP behind a token shift."""

    mlp: Mlp

    def axes(self) -> dict[str, Expr]:
        return self.mlp.axes()

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        return self.mlp(record, record(token_shift("token_shift", x)), space, options)


def shifted() -> symroof.Model:
    model = symroof.load_model("llama-3-8b")
    decoder = model.architecture
    (layer,) = decoder.layers
    assert isinstance(layer.mlp, Mlp)
    return replace(model, name="shifted", architecture=replace(decoder, layers=(replace(layer, mlp=ShiftedMlp(layer.mlp)),)))


def test_an_operator_of_ones_own_has_formulas_and_counts() -> None:
    operator = shifted().decode(symbolic=True)["token_shift"]
    assert operator.flop_count == 3 * b * d
    assert (operator.byte_count() - (2 * b * d * a + d * w + 2 * b * d * c) / 8).expand() == 0
    plain, own = symroof.load_model("llama-3-8b"), shifted()
    assert own.parameters == plain.parameters + 32 * 4096


def test_every_question_takes_it() -> None:
    step = shifted().decode(seq_len=1024, **WIDTHS)
    answer = symroof.crossover(step, "token_shift", over="batch", hardware="a100-sxm-80gb")
    assert answer.verdict == "always-memory"
    assert symroof.prove(step, "memory-bound", "token_shift", for_all=["batch"], hardware="a100-sxm-80gb").verdict == "proved"
    over_batch = symroof.regimes(step, over="batch", hardware="a100-sxm-80gb")
    for batch in (1, 7, 300):
        whole = symroof.analyze(shifted().decode(batch=batch, seq_len=1024, **WIDTHS), "a100-sxm-80gb").total
        assert whole.time_expr == over_batch.time_expr(batch)


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        ("quantize:weights=4", 1),
        ("tensor-parallel:degree=4,link=300GB/s", 1),
        ("data-parallel:degree=4", Integer(1) / 4),
        ("skip-layers:layers=8", Integer(3) / 4),
        ("flash-attention", 1),
    ],
)
def test_techniques_do_to_it_what_they_do_to_its_like(text: str, factor: Expr) -> None:
    before = shifted().decode(batch=16, seq_len=1024, **WIDTHS)
    after = before.apply(technique(text))
    flops = [sum(count * op.flop_count for op, count in step.graph if "token_shift" in op.answers_to) for step in (before, after)]
    assert flops[1] == factor * flops[0]


def test_a_state_is_kept_for_every_token_that_may_be_rejected() -> None:
    """Its role says that it is a recurrence: nobody had to name it."""
    step = shifted().decode(batch=16, seq_len=1024, **WIDTHS)
    state = step["token_shift"].byte_count(Storage.KV_CACHE, Direction.WRITE)
    for text, tokens, states in (
        ("speculative:acceptance=0.8,length=4,draft_cost=0.05", 5, 1),
        ("medusa:heads=4,nodes=20,acceptance=0.6", 21, 21),
    ):
        after = step.apply(technique(text))["token_shift"]
        assert after.byte_count(Storage.KV_CACHE, Direction.WRITE) == tokens * state
        assert after.byte_count(Storage.KV_CACHE, Direction.READ) == states * state


def test_chains_of_techniques_hold_their_invariants() -> None:
    step = shifted().decode(batch=16, seq_len=1024, **WIDTHS)
    texts = ("quantize:weights=8", "tensor-parallel:degree=2", "launch-overhead:launch=5us", "paged-cache:page=16")
    for first, second in product(texts, texts):
        if first == second:
            continue
        after = symroof.analyze(step.apply(technique(first), technique(second)), "a100-sxm-80gb")
        point = after["token_shift"]
        assert point.operator.byte_count() <= point.bandwidth_expr * point.time_expr
        assert after.total.byte_count() == sum(one.count * one.operator.byte_count() for one in after)
