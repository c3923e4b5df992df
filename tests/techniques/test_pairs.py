"""Any two techniques, in both orders: the same numbers, one line that refuses, or a row of the table of orders that matter."""

from __future__ import annotations

import random

import pytest

from symroof.techniques.registry import names
from tests.steps import EVERYTHING
from tests.techniques.pairs import FORMS, MODELS, PHASES, Pair, difference, pairs, table


def orders_matter(pair: Pair) -> bool:
    """Whether the two orders give different numbers; every refusal is one line."""
    both = pair.steps
    for line in both:
        assert not isinstance(line, str) or (0 < len(line) < 400 and "\n" not in line), (pair, line)
    return bool(difference(*both))


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("model", MODELS)
def test_two_orders_give_one_answer_or_stand_in_the_table(model: str, phase: str) -> None:
    place = MODELS.index(model) * len(PHASES) + PHASES.index(phase)
    every = 1 if EVERYTHING else 4  # each pair in two of the eight; which two differs from pair to pair
    wrong = [pair for at, pair in enumerate(pairs(model, phase)) if (at + place) % every == 0 and orders_matter(pair) != pair.expected]
    assert not wrong


@pytest.mark.slow
def test_some_pairs_in_both_orders() -> None:
    draw = random.Random(12)
    for model, phase in (("llama-2-7b", "decode"), ("mixtral-8x7b-v0.1", "prefill")):
        some = draw.sample(names(), 5)
        wrong = [pair for pair in pairs(model, phase) if {pair.first, pair.second} <= {*some} and orders_matter(pair) != pair.expected]
        assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("model", "phase"), [("llama-2-7b", "decode"), ("mixtral-8x7b-v0.1", "decode"), ("deepseek-v2-lite", "prefill")])
def test_other_forms_in_both_orders(model: str, phase: str, form: str) -> None:
    others = (name for name in names() if name != form.partition(":")[0])
    every = (Pair(model, phase, *sorted((form, other))) for other in others)
    assert not [pair for pair in every if orders_matter(pair) != pair.expected]


def test_the_table_has_pairs_in_order_with_reasons() -> None:
    known = sorted(names())
    assert list(table()) == sorted(table())
    for (first, second), rows in table().items():
        assert first in known
        assert second in known
        assert first < second
        assert all(row["steps"] and len(row["reason"]) > 20 for row in rows)
