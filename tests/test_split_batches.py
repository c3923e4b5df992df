"""Answers about service where techniques split a batch, or complete several tokens of a sequence in a step."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from sympy import Integer

import symroof

LLAMA = symroof.load_model("llama-3-8b")
STAGES = "pipeline-parallel:degree=4,micro_batches=4"
OPEN = "pipeline-parallel:degree=2"
DRAFTS = "speculative:acceptance=0.7,length=3,draft_cost=0.05"
LENGTHS: dict[str, Any] = {"prompt": 512, "output": 65}


def decode(batch: int, *chain: str) -> symroof.Total:
    """A decode step at the mean context of the lengths."""
    step = LLAMA.decode(batch=batch, seq_len=545).with_widths().apply(*chain)
    return symroof.analyze(step, "h100-sxm").total


def read(batch: int, *chain: str) -> Any:
    """Seconds in which so many prompts are read at once."""
    return symroof.analyze(LLAMA.prefill(batch=batch, seq_len=512).with_widths().apply(*chain), "h100-sxm").total.time_expr


def test_an_open_number_of_parts_is_asked_for() -> None:
    """In one line, by every question that fills a batch."""
    step = LLAMA.decode(seq_len=512).apply(OPEN)
    message = "micro_batches must be given as a number"
    found = symroof.plan(LLAMA, **LENGTHS, hardware="h100-sxm", techniques=[OPEN], devices=[2])[0]
    assert found.miss is not None
    assert message in found.miss.why
    with pytest.raises(symroof.InputError, match=message):
        symroof.promises(LLAMA, **LENGTHS, hardware="h100-sxm", techniques=[OPEN])
    for prefill in ("here", "elsewhere"):
        with pytest.raises(symroof.InputError, match="micro_batches"):
            step.on("h100-sxm").under_load(rate=1, **LENGTHS, prefill=prefill)


def test_a_front_has_batches_that_can_be_split() -> None:
    front = symroof.price_of_speed(
        LLAMA.decode(seq_len=544), "h100-sxm", price="2 USD/h", degrees=(4,), techniques="pipeline-parallel:micro_batches=4"
    )
    assert {point.batch % 4 for point in front} == {0}
    for point in (front[0], front[-1]):
        step = LLAMA.decode(batch=point.batch, seq_len=544).with_widths().apply(STAGES)
        assert point.time_expr == symroof.analyze(step, "h100-sxm").total.time_expr


def test_below_the_least_batch_load_and_plan_say_the_same() -> None:
    """A request on its own takes the steps of the least batch there is."""
    step = LLAMA.decode(seq_len=512).apply(STAGES)
    load = step.on("h100-sxm").under_load(rate="0.1/s", **LENGTHS, prefill="here")
    plan = symroof.plan(LLAMA, **LENGTHS, hardware="h100-sxm", techniques=[STAGES], devices=[4], rate="0.1/s")[0]
    hand = decode(4, STAGES).time_expr + 4 * (read(4, STAGES) / 4) / 64
    mean = (LLAMA.decode(batch=4, seq_len=544).with_widths().apply(STAGES), LLAMA.decode(batch=4, seq_len=545).with_widths().apply(STAGES))
    low, high = (symroof.analyze(one, "h100-sxm").total.time_expr for one in mean)
    middle = (low + high) / 2 + 4 * (read(4, STAGES) / 4) / 64  # the mean context is 544.5
    assert load.token_time_expr == plan.tpot_at_rate_expr == middle < hand
    assert load.batch_expr == plan.steady_expr < 4
    with pytest.raises(symroof.InputError, match="batch 3: expected a multiple of 4"):
        symroof.promises(LLAMA, **LENGTHS, batch=3, hardware="h100-sxm", techniques=[STAGES])


@pytest.mark.parametrize("chain", [STAGES, "data-parallel:degree=2"])
def test_prompts_are_read_as_many_at_once_as_a_step_is_split_into(chain: str) -> None:
    found = symroof.provision(LLAMA, prompt=512, output=64, batch=8, hardware="h100-sxm", techniques=[chain])
    several = 4 if chain == STAGES else 2
    assert found.prefill_time_expr == read(several, chain) / several
    steps = [LLAMA.decode(batch=8, seq_len=512 + each).with_widths().apply(chain) for each in range(1, 64)]
    seconds = sum(symroof.analyze(step, "h100-sxm").total.time_expr for step in steps)
    assert found.ratio_expr == found.prefill_time_expr * 8 / seconds


@pytest.mark.parametrize("chain", [DRAFTS, "speculative:acceptance=0.8,length=4,draft=eagle", "medusa:heads=4,nodes=16,acceptance=0.6"])
def test_steps_that_complete_several_tokens_read_more_of_prompts(chain: str) -> None:
    found = symroof.provision(LLAMA, prompt=512, output=64, batch=8, hardware="h100-sxm", techniques=[chain])
    step = LLAMA.decode(batch=8, seq_len=544).with_widths().apply(chain)
    tokens = step.graph.tokens
    assert tokens > 1
    assert found.decode_time_expr > 0
    if found.mixed is not None:
        read_in_a_step = Fraction(str(tokens)) * Fraction(8 * 512, 63)
        assert found.mixed.chunk * found.mixed.prompts >= read_in_a_step > (found.mixed.chunk - 1) * found.mixed.prompts
    assert Integer(8) == found.batch
