"""Pools for prefill and decode, against sums over steps, simulated queues and scans over whole batches."""

from __future__ import annotations

import functools

import pytest
from sympy import Add, Expr, Integer, Rational

import symroof
from symroof import symbols

H100 = "h100-sxm"
CASES = [
    ("llama-3.1-8b", H100, 2048, 64, 32),
    ("mistral-7b-v0.1", "a100-sxm-80gb", 4090, 24, 8),  # the window fills on the way
    ("mamba-130m", H100, 512, 40, 16),
]


@functools.cache
def provided(model: str, device: str, prompt: int, output: int, batch: int, **asked: object) -> symroof.Provision:
    return symroof.provision(symroof.load_model(model), prompt=prompt, output=output, batch=batch, hardware=device, **asked)


@functools.cache
def seconds(model: str, device: str, phase: str, batch: int, length: int) -> Expr:
    return symroof.analyze(getattr(symroof.load_model(model), phase)(batch=batch, seq_len=length), device).total.time_expr


def summed(model: str, device: str, prompt: int, output: int, batch: int) -> Expr:
    """Prefill devices for a decode device, from every step by itself."""
    steps = Add(*(seconds(model, device, "decode", batch, prompt + i) for i in range(1, output)))
    return seconds(model, device, "prefill", 1, prompt) * batch / steps


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_the_ratio_is_that_of_summed_steps(case: tuple) -> None:
    model, device, prompt, output, batch = case
    found = provided(*case)
    assert found.ratio_expr == summed(*case)
    assert found.formula is not None
    near = {symbols.S: prompt + 3, symbols.n: output + 2, symbols.b: batch}
    assert found.formula.subs(near) == summed(model, device, prompt + 3, output + 2, batch)
    more = {symbols.S: prompt, symbols.n: output, symbols.b: batch + 1}
    assert found.formula.subs(more) == summed(model, device, prompt, output, batch + 1)


def test_elasticities_are_those_of_small_changes() -> None:
    model, device, prompt, output, batch = case = CASES[0]
    found, base = provided(*case), float(summed(*case))
    sides = {
        symbols.S: (prompt - 1, prompt + 1, prompt, lambda size: summed(model, device, size, output, batch)),
        symbols.n: (output - 1, output + 1, output, lambda size: summed(model, device, prompt, size, batch)),
        symbols.b: (batch - 1, batch + 1, batch, lambda size: summed(model, device, prompt, output, size)),
    }
    for symbol, (low, high, here, ratio) in sides.items():
        slope = float(ratio(high) - ratio(low)) / 2
        assert float(found.elasticity_exprs[symbol]) == pytest.approx(slope * here / base, rel=2e-3)
    assert found.elasticity_exprs[symbols.P] == -found.elasticity_exprs[symbols.BW], "nothing but these two binds"
    chip = symroof.load_hardware(device)
    from dataclasses import replace

    figure = chip.bandwidth_figure
    faster = replace(chip, bandwidth_figure=replace(figure, value=figure.value * Rational(1001, 1000)))
    changed = symroof.provision(symroof.load_model(model), prompt=prompt, output=output, batch=batch, hardware=faster)
    assert float(found.elasticity_exprs[symbols.BW]) == pytest.approx((float(changed.ratio_expr) / base - 1) * 1000, rel=2e-3)


def busy(readers: float, prefill: float, step: float, batch: int, steps: int, rounds: int = 20000) -> tuple[float, float]:
    """Shares of the time that prefill and a decode device work, simulated step by step: a pool of readers is one that many times as fast.

    A prompt that was read waits for a slot; prefill stops while a batch of prompts waits.
    """
    slots, waiting, left_to_read = [0] * batch, 0, prefill / readers
    reading = decoding = 0.0
    for _ in range(rounds):
        for place, left in enumerate(slots):
            if left == 0 and waiting:
                slots[place], waiting = steps, waiting - 1
        decoding += sum(left > 0 for left in slots) / batch
        slots = [max(left - 1, 0) for left in slots]
        time = step
        while time > 0 and waiting < batch:
            spent = min(time, left_to_read)
            time, left_to_read, reading = time - spent, left_to_read - spent, reading + spent
            if left_to_read <= 0:
                waiting, left_to_read = waiting + 1, prefill / readers
    return reading / (rounds * step), decoding / rounds


def test_at_the_ratio_both_pools_are_busy_and_beside_it_one_waits() -> None:
    found = provided(*CASES[0])
    prefill, step, ratio = (float(value) for value in (found.prefill_time_expr, found.step_time_expr, found.ratio_expr))
    steps = found.output - 1
    at, fewer, more = (busy(factor * ratio, prefill, step, found.batch, steps) for factor in (1, 0.8, 1.25))
    assert min(at) > 0.98
    assert fewer == pytest.approx((1, 0.8), abs=0.02), "slots are empty"
    assert more == pytest.approx((0.8, 1), abs=0.02), "prompts wait for slots"


def test_the_published_ratio_and_the_tokens_that_leave_the_cache() -> None:
    assert f"{symroof.saturated_ratio('0.91 s', '19 ms', 32, 512):.2f}" == "2.99"
    assert symroof.released_tokens(32, 8192, 4096) == 96
    batch, prompt, output = 8, 30, 12
    ages = [place * output // batch for place in range(batch)]
    left = 0
    for _ in range(12 * output):
        ages = [age + 1 for age in ages]
        left += sum(prompt + output for age in ages if age == output)
        ages = [age % output for age in ages]
    assert Rational(left, 12 * output) == symroof.released_tokens(batch, prompt, output).exact


def test_the_cache_of_a_prompt_crosses_the_link() -> None:
    found = provided(*CASES[0], link="5 GB/s")
    model = symroof.load_model("llama-3.1-8b")
    heads, width, layers = (model.dimensions[symbol] for symbol in (symbols.k, symbols.e, symbols.L))
    assert found.transfer.size_expr == 2 * layers * heads * width * 2 * 2048
    assert found.transfer.time == symroof.Quantity(found.transfer.size_expr / Integer(5 * 10**9), "second")
    assert not found.transfer.hidden
    assert provided(*CASES[0], link=found.transfer.needed).transfer.hidden, "at the bandwidth that it says is needed"
    shared = provided(*CASES[0], link="5 GB/s", techniques=("tensor-parallel:degree=2",)).transfer
    assert shared.size_expr == found.transfer.size_expr, "each of two devices sends half"


@pytest.mark.parametrize(("batch", "output", "prompt"), [(32, 256, 2048), (300, 100, 2048), (2, 600, 100)])
def test_chunks_keep_the_batch_full(batch: int, output: int, prompt: int) -> None:
    """Played through: in as many steps as have chunks, a request's share of the prompts is read."""
    pool = provided("llama-3.1-8b", H100, prompt, output, batch).mixed
    assert 0 < pool.share_expr <= 1
    assert pool.chunk <= prompt
    read = pool.share_expr * pool.chunk * pool.prompts * (output - 1)
    assert read == batch * prompt, "all prompts of the batch in the steps that it takes"
    assert pool.chunk * pool.prompts - pool.share_expr * pool.chunk * pool.prompts < pool.prompts, "rounded up by less than a token each"
    assert pool.interference_expr > 1
    with_chunk = pool.share_expr * (output - 1)
    seconds = with_chunk * pool.step_time_expr + (output - 1 - with_chunk) * pool.plain_time_expr
    assert pool.device_time_expr == seconds / batch


def test_re_read_contexts_can_make_one_pool_lose_at_the_same_batch() -> None:
    """A batch of one with a very long prompt reads the prompt's context once more for every small chunk."""
    assert provided("llama-3.1-8b", H100, 131072, 1024, 1).splitting_pays is True
    assert provided("llama-3.1-8b", H100, 131072, 1024, 8).splitting_pays is False


def best_device_time(promise: Expr, mixed: bool) -> Expr | None:
    """The least device-seconds of a request over all batches whose step meets a promise, from mixed batches by themselves."""
    model, times = symroof.load_model("llama-3.1-8b"), []
    for batch in range(1, 24 if mixed else 32):
        step = model.decode(batch=batch, seq_len=2048 + 128)
        if mixed:
            chunk = -(-batch * 2048 // 255)
            alone = symroof.analyze(step, H100).total.time_expr
            step = step.apply(symroof.techniques.MixedBatch(chunk=chunk, prompts=1, prompt=-(-(2048 + chunk) // 2)))
        time = symroof.analyze(step, H100).total.time_expr
        if time <= promise and mixed:
            some = Rational(batch * 2048, 255 * chunk)
            times.append((some * time + (1 - some) * alone) * 255 / batch)
        elif time <= promise:
            times.append(time * 255 / batch + seconds("llama-3.1-8b", H100, "prefill", 1, 2048))
    return min(times, default=None)


@pytest.mark.parametrize(("promise", "pays"), [("6 ms", True), ("7 ms", False)])
def test_a_tight_promise_is_what_makes_splitting_pay(promise: str, pays: bool) -> None:
    found = provided("llama-3.1-8b", H100, 2048, 256, 1, tpot=promise)
    wanted = symroof.units.number(promise, symroof.units.SECOND, "promise")
    two, one = (best_device_time(wanted, mixed) for mixed in (False, True))
    assert (found.device_time_within_expr, found.mixed_within.device_time_expr) == (two, one)
    assert found.splitting_pays is bool(two < one) is pays


def test_what_a_mixed_step_has_to_hide() -> None:
    """Against the two costs themselves, on both sides of the threshold."""
    for target, w, beta, p in ((50, 10, 1, 2), (20, 15, 3, 1), (100, 1, 7, 40)):
        needed = symroof.hidden_needed(*(Rational(time, 1000) for time in (target, w, beta, p))).exact
        split = Rational(p, 1000) + Rational(target, 1000) * beta / (target - w)
        for hidden, pays in ((needed * Rational(99, 100), True), (needed * Rational(101, 100), False)):
            batch = (Rational(target - w, 1000) + hidden) / Rational(beta + p, 1000)
            assert bool(split < Rational(target, 1000) / batch) is pays
        assert needed < Rational(w, 1000)
    with pytest.raises(symroof.InputError, match="expected more than 10 ms"):
        symroof.hidden_needed("9 ms", "10 ms", "1 ms", "1 ms")


def test_with_a_promise_both_pools_have_to_fit() -> None:
    found = provided("llama-3.1-8b", H100, 8192, 64, 1, tpot="1 s")
    for more, fits in ((0, True), (1, False)):
        batch = found.mixed_within.batch + more
        step = symroof.load_model("llama-3.1-8b").decode(batch=batch, seq_len=8192 + 32)
        prompts = -(-batch // 63)
        chunk = -(-batch * 8192 // (63 * prompts))
        mixed = step.apply(symroof.techniques.MixedBatch(chunk=chunk, prompts=prompts, prompt=max(chunk, -(-(8192 + chunk) // 2))))
        longest = symroof.analyze(symroof.load_model("llama-3.1-8b").decode(batch=batch, seq_len=8192 + 63), H100)
        assert (symroof.analyze(mixed, H100).fits and longest.fits) is fits
    with pytest.raises(symroof.InputError, match=r"not even batch 1 of llama-3\.1-405b fits h100-sxm"):
        provided("llama-3.1-405b", H100, 512, 16, 1, tpot="1 s")


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"output": 1}, "output 1: prefill yields the only token"),
        ({"batch": None}, "give batch"),
        ({"tpot": "1 ms"}, "tpot '1 ms': a decode step at batch 8 takes 5.193 ms"),
        ({"tpot": "1 m"}, "'m' is not a unit known here"),
        ({"link": 0}, "link '0': expected a number above 0"),
        ({"ceilings": "calibrated"}, "no closed form for calibrated kernels"),
        ({"prompt": 0}, "prompt 0"),
    ],
)
def test_bad_input_is_one_line(asked: dict, match: str) -> None:
    given = {"prompt": 2048, "output": 16, "batch": 8, "hardware": H100} | asked
    with pytest.raises(symroof.InputError, match=match) as error:
        symroof.provision(symroof.load_model("llama-3.1-8b"), **given)
    assert "\n" not in str(error.value)
