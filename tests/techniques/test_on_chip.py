"""What tiled products read from on-chip memory after other techniques and before them: counted by hand, and the same either way."""

from __future__ import annotations

import pytest
from sympy import Add, Expr, Integer, Min, Rational

from symroof.architectures.step import Step
from symroof.operators.select import by_name, select
from symroof.operators.tensor import Level, Storage
from tests.steps import apply, step

TILE = 64
TILED = f"memory-levels:tile={TILE},bandwidth=19TB/s"
SIXTEEN = Integer(16)
INNER, WIDTH = 4096, 14336
"""The up projection of Llama 3 8B and of an expert of Mixtral."""


def on_chip(made: Step, name: str = "up_proj", storage: Storage | None = None) -> Expr:
    """Bytes of an operator with what was made of it, in all layers."""
    counts = dict(made.graph)
    return Add(*(counts[one] * one.byte_count(storage, level=Level.CHIP) for one in select(made.graph, by_name(name))))


def product(
    rows: int,
    inner: int = INNER,
    width: int = WIDTH,
    *,
    matrices: int = 1,
    passes: int = 1,
    stored: Expr = SIXTEEN,
    bits: Expr = SIXTEEN,
) -> Expr:
    """Bytes of both operands of so many products, tile by tile, in 32 layers."""
    left = rows * inner * bits * Rational(width, Min(width, TILE))
    right = inner * width * stored * Rational(rows, Min(rows, TILE))
    return 32 * passes * matrices * (left + right) / 8


PROMPTS = {
    "chunked-prefill:chunk=256": product(4 * 256, passes=4),
    "chunked-prefill:chunk=8": product(4 * 8, passes=128),
    "pipeline-parallel:degree=2,micro_batches=2": product(2 * 1024, passes=2) / 2,
    "tensor-parallel:degree=4": product(4096, width=WIDTH // 4),
    "prune-channels:share=1/2": product(4096, width=WIDTH // 2),
    "low-rank:rank=32": product(4096, width=32) + product(4096, inner=32),
    "quantize:weights=4,group=64": product(4096, stored=Rational(17, 4)),
    "data-format:bits=4,group=32,peak=1PFLOP/s": product(4096, stored=Rational(17, 4), bits=Rational(17, 4)),
    "sparsify:density=1/4,index=4": product(4096, stored=Integer(5)),
    "sparsify:density=1/4,index=4,zeros=skipped": product(4096, stored=Integer(5)),
    "sparsify:pattern=2:4": product(4096, stored=Integer(9)),
    "offload:share=1/2,link=50GB/s": product(4096),
    "resident-weights:bandwidth=19TB/s": product(4096),
    "fuse:preset=engine": Integer(0),
}


@pytest.mark.parametrize("text", PROMPTS)
def test_prompts_in_both_orders(text: str) -> None:
    plain = step("llama-3-8b", "prefill", batch=4, seq_len=1024)
    assert on_chip(apply(plain, TILED)) == product(4096) == 481036337152
    assert on_chip(apply(plain, TILED, text)) == on_chip(apply(plain, text, TILED)) == PROMPTS[text]


DECODING = {
    "speculative:length=3,acceptance=4/5,draft_cost=0": product(128 * 4),
    "medusa:heads=4,nodes=7,acceptance=3/5": product(128 * 8),
    "mixed-batch:chunk=128": product(128 + 128),
}


@pytest.mark.parametrize("text", DECODING)
def test_more_tokens_than_one_in_both_orders(text: str) -> None:
    plain = step("llama-3-8b", batch=128, seq_len=1024)
    assert on_chip(apply(plain, TILED, text)) == on_chip(apply(plain, text, TILED)) == DECODING[text]


MISSED = 32 * 2 * 8 * INNER * WIDTH * Rational(3, 4) ** 16
"""Sixteen tokens choose two experts of eight: four rows for each; of the uniform choice, eight with a probability (3/4)^16 each of none."""
EXPERTS = {
    "expert-parallel:degree=4": ((product(4, matrices=8) - MISSED) / 4, product(4, matrices=8) / 4),
    "sparsify:density=1/4,index=4,zeros=skipped": (
        product(4, matrices=8, stored=Integer(5)) - MISSED * Rational(5, 16),
        product(4, matrices=8, stored=Integer(5)),
    ),
    "offload:share=1/2,link=50GB/s": (product(4, matrices=8) - MISSED, product(4, matrices=8)),
    "expert-routing": (product(4, matrices=8) - MISSED, product(4, matrices=8) - MISSED),
}
"""With the experts that are expected, and with the most there can be."""


@pytest.mark.parametrize("text", EXPERTS)
def test_experts_in_both_orders(text: str) -> None:
    for place, (experts, missed) in enumerate((("expected", MISSED), ("at-most", 0))):
        plain = step("mixtral-8x7b-v0.1", batch=16, seq_len=1024, experts=experts)
        assert on_chip(apply(plain, TILED), "expert_up_proj") == product(4, matrices=8) - missed
        for texts in ((TILED, text), (text, TILED)):
            assert on_chip(apply(plain, *texts), "expert_up_proj") == EXPERTS[text][place]


def test_weights_that_live_on_chip_are_read_there_once_for_one_row_of_tiles() -> None:
    made = apply(step("llama-3-8b", batch=1, seq_len=1024), "resident-weights:bandwidth=80TB/s", "memory-levels:tile=64,bandwidth=80TB/s")
    assert on_chip(made, storage=Storage.WEIGHT) == 32 * 2 * INNER * WIDTH
