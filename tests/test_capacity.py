"""What memory allows beside what time allows, against brute force: steps put together one by one and held against the device's bytes."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from sympy import Integer

import symroof
from symroof.questions.capacity import fit_of, memory_of
from symroof.questions.required import Requirement, required
from symroof.techniques.registry import names, technique_class

H100 = symroof.load_hardware("h100-sxm")
USABLE = H100.usable_figure.value


def requirement(model: str, over: str, techniques: str = "", *, hardware: str = "h100-sxm", **options) -> Requirement:
    target = {key: options.pop(key) for key in ("target_time", "target_rate") if key in options}
    step = symroof.load_model(model).decode(**options)
    for text in techniques.split():
        step = step.apply(symroof.technique(text))
    return required(step, over=over, hardware=hardware, **target)


def largest_by_trying(step_at, usable=USABLE) -> int:
    """The largest number at which a step's weights, cache and activations fit, by doubling and halving; memory grows with it."""
    low, high = 0, 1
    while memory_of(step_at(high)) <= usable:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if memory_of(step_at(middle)) <= usable else (low, middle)
    return low


CASES = {
    "published widths": ("qwen3-32b", "batch", "", {"seq_len": 4096}),
    "weights of 4 bits": ("qwen3-32b", "batch", "", {"seq_len": 4096, "weight_bits": 4}),
    "quantized in groups": ("qwen3-32b", "batch", "quantize:weights=4,group=128", {"seq_len": 4096}),
    "a cache of 8 bits": ("qwen3-32b", "batch", "", {"seq_len": 4096, "kv_bits": 8}),
    "over the context": ("qwen3-32b", "seq_len", "", {"batch": 8}),
    "a cache with windows": ("gemma-2-27b", "seq_len", "", {"batch": 4}),
    "on several devices": ("qwen3-32b", "batch", "tensor-parallel:degree=4", {"seq_len": 4096}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_memory_allows_is_what_steps_one_by_one_fit(case: str) -> None:
    model, over, techniques, options = CASES[case]
    answer = requirement(model, over, techniques, target_time="50 ms", **options)
    chain = [symroof.technique(text) for text in techniques.split()]
    most = largest_by_trying(lambda number: symroof.load_model(model).decode(**options, **{over: number}).with_widths().apply(*chain))
    assert answer.by_memory == most > 0
    assert answer.by_time == answer.integer
    assert answer.binding == ("memory" if most < answer.by_time else "time")
    assert answer.allowed == min(most, answer.by_time)


def test_the_friction_that_asked_for_it() -> None:
    answer = requirement("qwen3-32b", "batch", seq_len=4096, target_time="50 ms")
    assert (answer.by_time, answer.by_memory, answer.binding, answer.allowed) == (82, 18, "memory", 18)


def test_a_width_may_be_what_does_not_fit() -> None:
    answer = requirement("qwen3-32b", "weight_bits", batch=8, seq_len=4096, target_time="50 ms")
    fits = [
        memory_of(symroof.load_model("qwen3-32b").decode(batch=8, seq_len=4096, weight_bits=bits).with_widths()) <= USABLE
        for bits in (18, 19)
    ]
    assert fits == [True, False]
    assert (answer.by_memory, answer.binding) == (18, "memory")


def test_a_step_that_is_too_large_at_any_bandwidth() -> None:
    large = requirement("llama-3-70b", "bandwidth", batch=8, seq_len=4096, target_time="60 ms")
    assert (large.by_memory, large.binding, large.allowed, large.room.fits) == (0, "memory", None, False)
    small = requirement("llama-3-8b", "bandwidth", batch=8, seq_len=4096, target_time="60 ms")
    assert (small.by_memory, small.binding, small.allowed) == (None, "time", small.value)


@pytest.mark.parametrize(("rate", "allowed", "binding"), [(200, 5, "time"), (1000, None, "memory")])
def test_a_rate_needs_a_batch_that_may_not_fit(rate: int, allowed: int | None, binding: str) -> None:
    answer = requirement("qwen3-32b", "batch", seq_len=4096, target_rate=rate)
    assert (answer.relation, answer.memory_relation, answer.by_memory) == (">=", "<=", 18)
    assert (answer.allowed, answer.binding) == (allowed, binding)


DEGREES = {
    "time alone would take 3, which the heads do not allow": ("llama-3-70b", "tensor-parallel", 8, "20 ms"),
    "memory needs 2": ("llama-3-70b", "tensor-parallel", 8, "60 ms"),
    "more devices are slower again": ("llama-2-7b", "tensor-parallel:latency=5us", 1, "4 ms"),
    "experts over devices": ("mixtral-8x22b-v0.1", "expert-parallel", 8, "50 ms"),
}


@pytest.mark.parametrize("case", DEGREES)
def test_the_degree_is_the_fewest_devices_that_heads_memory_and_time_take(case: str) -> None:
    """Of degrees 1, 2, 3, ... tried one by one, on the whole step with that number."""
    model, technique, batch, target = DEGREES[case]
    options = {"batch": batch, "seq_len": 4096}
    answer = requirement(model, "degree", technique, target_time=target, **options)
    name, _, settings = technique.partition(":")
    allowed = []
    for degree in range(1, 9):
        text = f"{name}:degree={degree}" + (f",{settings}" if settings else "")
        try:
            step = symroof.load_model(model).decode(**options).apply(symroof.technique(text))
        except symroof.SymroofError:
            continue
        analysis = symroof.analyze(step, "h100-sxm")
        if analysis.fits and float(analysis.total.time_expr) <= float(target.split()[0]) / 1000:
            allowed.append(degree)
    assert answer.integer == answer.allowed == allowed[0]
    assert answer.fewest


SPLIT = {
    "by memory": ("expert-parallel:degree=8", 6, "5 ms"),
    "by time": ("expert-parallel:degree=8", 6, "1600 us"),
    "stages": ("pipeline-parallel:degree=2,micro_batches=3", 12, "100 ms"),
    "both": ("expert-parallel:degree=8 data-parallel:degree=2", 4, "100 ms"),
}


@pytest.mark.parametrize("case", SPLIT)
def test_the_whole_number_is_one_that_the_techniques_accept(case: str) -> None:
    """Of all batches, tried one by one: refused, too large, too slow, or allowed."""
    techniques, gigabytes, target = SPLIT[case]
    small = replace(H100, reported_figure=replace(H100.usable_figure, value=Integer(gigabytes * 10**9)))
    model, limit = symroof.load_model("olmoe-1b-7b-0924"), symroof.units.number(target, symroof.units.SECOND, "target")
    taken, fitting, fast = [], [], []
    for batch in range(1, 140):
        try:
            analysis = symroof.analyze(model.decode(batch=batch, seq_len=4096).apply(techniques), small)
        except symroof.SymroofError:
            continue
        taken.append(batch)
        fitting += [batch] * analysis.fits
        fast += [batch] * bool(analysis.total.time_expr <= limit)
    step = model.decode(seq_len=4096).apply(techniques)
    answer = required(step, over="batch", hardware=small, target_time=target)
    assert 0 < fitting[-1] < taken[-1], "brute force must see the limit"
    assert (answer.by_memory, answer.allowed) == (fitting[-1], min(fitting[-1], fast[-1]))
    assert answer.misfit == ""
    if fast[-1] < taken[-1]:
        assert answer.by_time == answer.integer == fast[-1]
    assert (
        answer.allowed_time_expr
        == symroof.analyze(model.decode(batch=answer.allowed, seq_len=4096).apply(techniques), small).total.time_expr
    )
    assert symroof.largest(step, hardware=small).integer == fitting[-1]
    assert fit_of(model.decode(batch=fitting[0], seq_len=4096).apply(techniques), small).largest_batch == fitting[-1]
    swept = symroof.sweep(model, small, {"seq_len": [4096]}, batch=fitting[0], techniques=techniques, metrics=["largest_batch"])
    assert int(swept["largest_batch"].values.flat[0]) == fitting[-1]


@pytest.mark.parametrize("name", [name for name in names() if technique_class(name).divides])
def test_what_a_technique_divides_is_what_it_refuses_to_divide_unevenly(name: str) -> None:
    kind = technique_class(name)
    symbol, parameter = kind.divides
    phase = "decode" if symbol == symroof.symbols.b else "prefill"
    model = symroof.load_model("mixtral-8x7b-v0.1" if name == "expert-parallel" else "llama-2-7b")
    text = f"{name}:{parameter}=4" + (",degree=2" if parameter == "micro_batches" else "")

    def accepted(number: int) -> bool:
        sizes = {"batch": number, "seq_len": 64} if phase == "decode" else {"batch": 1, "seq_len": number}
        try:
            getattr(model, phase)(**sizes).apply(text)
        except symroof.SymroofError:
            return False
        return True

    assert [number for number in range(2, 18) if accepted(number)] == [4, 8, 12, 16]


def test_a_target_between_two_multiples_is_impossible() -> None:
    with pytest.raises(symroof.SymroofError, match="no multiple of 8, as the techniques need, lies from 1 to"):
        requirement("olmoe-1b-7b-0924", "batch", "expert-parallel:degree=8", seq_len=4096, target_time="600 us")


def test_what_a_technique_does_not_take_is_said_and_allowed_by_nothing() -> None:
    free = requirement("llama-3-8b", "rank", "low-rank", batch=1, seq_len=1024, target_time="60 ms")
    assert (free.misfit.startswith("low-rank: rank"), free.allowed) == (True, None)


def test_a_device_without_a_capacity_leaves_memory_open() -> None:
    bare = replace(H100, capacity_figure=None, reported_figure=None)
    answer = requirement("llama-3-8b", "batch", seq_len=64, target_time="50 ms", hardware=bare)
    assert (answer.room, answer.by_memory, answer.binding, answer.allowed) == (None, None, None, None)


def test_the_command_says_both(run) -> None:
    asked = (
        "solve",
        "qwen3-32b",
        "--phase",
        "decode",
        "--seq-len",
        "4096",
        "--hardware",
        "h100-sxm",
        "--for",
        "batch",
        "--target-time",
        "50ms",
    )
    assert run(*asked).out.splitlines()[2] == "batch 18: 82 by time, 18 by memory (85.52 GB usable); memory is the limit"
    record = json.loads(run(*asked, "--format", "json").out)
    new = ("by_time", "by_memory", "memory_relation", "binding", "allowed", "capacity")
    assert [record[name] for name in new] == [82, 18, "<=", "memory", 18, int(USABLE)]
    assert (record["integer"], record["relation"]) == (82, "<="), "what scripts read before"


# --- generate


@pytest.mark.parametrize("techniques", ["", "flash-attention", "quantize:weights=4,group=128", "tensor-parallel:degree=2"])
def test_generation_says_the_largest_batch_of_prefill_and_of_decode_at_its_longest_context(techniques: str) -> None:
    model, prompt, tokens = symroof.load_model("qwen3-32b"), 4096, 512
    chain = [symroof.technique(text) for text in techniques.split()]
    found = symroof.generation(model, prompt=prompt, tokens=tokens, hardware="h100-sxm", techniques=chain, batch=9)
    phases = {
        "prefill": lambda batch: model.prefill(batch=batch, seq_len=prompt).with_widths().apply(*chain),
        "decode": lambda batch: model.decode(batch=batch, seq_len=prompt + tokens - 1).with_widths().apply(*chain),
    }
    for phase, step_at in phases.items():
        assert found.memory[phase].needed_expr == memory_of(step_at(9))
        assert found.memory[phase].largest_batch == largest_by_trying(step_at) > 0
    assert found.largest_batch == min(one.largest_batch for one in found.memory.values())
    assert found.fits is (found.largest_batch >= 9)


def test_a_draft_models_weights_and_cache_are_in_the_memory_of_the_prompt() -> None:
    model, draft = symroof.load_model("llama-3-8b"), symroof.load_model("llama-3.2-1b")
    chain = [symroof.technique("speculative:draft=llama-3.2-1b,length=4,acceptance=0.8")]
    found = symroof.generation(model, prompt=1000, tokens=10, hardware="h100-sxm", techniques=chain, batch=2)
    alone, beside = (one.prefill(batch=2, seq_len=1000).with_widths() for one in (model, draft))
    assert found.memory["prefill"].needed_expr == memory_of(alone) + beside.graph.weight_memory() + beside.graph.kv_memory()


def test_a_prompt_with_one_token_has_no_decode_to_fit() -> None:
    found = symroof.generation(symroof.load_model("llama-3-8b"), prompt=64, tokens=1, hardware="h100-sxm", batch=1)
    assert [*found.memory] == ["prefill"]
    bare = replace(H100, capacity_figure=None, reported_figure=None)
    open_ = symroof.generation(symroof.load_model("llama-3-8b"), prompt=64, tokens=4, hardware=bare, batch=1)
    assert (open_.fits, open_.largest_batch) == (None, None)


def test_the_command_generate_says_whether_the_batch_fits(run) -> None:
    asked = ("generate", "qwen3-32b", "--prompt", "4096", "--tokens", "512", "--hardware", "h100-sxm", "--batch", "64")
    said = next(line for line in run(*asked).out.splitlines() if line.startswith("batch 64"))
    assert "does not fit in 85.52 GB of usable memory; the largest that fits is 6: prefill of all prompts at once fits 6" in said
    record = json.loads(run(*asked, "--format", "json").out)
    assert (record["fits"], record["largest_batch"], record["capacity"]) == (False, 6, int(USABLE))
    assert record["memory"]["decode"]["largest_batch"] == 16
    assert " token/s in decode (all 64 sequences); " in " ".join(run(*asked).out.split()), "the prompt's tokens are not in that rate"


def test_a_single_token_has_no_decode_to_tabulate(run) -> None:
    asked = ("generate", "llama-3-8b", "--prompt", "64", "--hardware", "h100-sxm", "--tokens")
    assert ["decode by regime" in run(*asked, tokens).out for tokens in ("1", "2")] == [False, True]
    banded = run(*asked, "512", "--batch", "8", "--ceilings", "calibrated").out
    total, low, high = re.search(r"; (\S+ \S+) in total\nband: (.*) to (.*), from", banded).groups()
    assert symroof.Quantity(low) < symroof.Quantity(total) < symroof.Quantity(high)
    assert {text.split()[1] for text in (total, low, high)} == {"s"}


# --- largest


@pytest.mark.parametrize("techniques", ["", "tensor-parallel:degree=2", "flash-attention"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_command_largest_against_steps_one_by_one(run, phase: str, techniques: str) -> None:
    chained = ("--with", techniques) if techniques else ()
    asked = ("largest", "llama-3-8b", "--phase", phase, "--seq-len", 2048, "--hardware", "l40s", *chained, "--format", "json")
    record = json.loads(run(*asked).out)
    model, usable = symroof.load_model("llama-3-8b"), symroof.load_hardware("l40s").usable_figure.value
    chain = [symroof.technique(text) for text in techniques.split()]
    step_at = lambda batch: getattr(model, phase)(batch=batch, seq_len=2048).with_widths().apply(*chain)  # noqa: E731
    assert record["integer"] == largest_by_trying(step_at, usable) > 0
    full = symroof.analyze(step_at(record["integer"]), "l40s")
    assert record["memory"] == {name: float(size) for name, size in full.memory_exprs.items()}
    assert (record["capacity"], record["devices"]) == (float(usable), 2 if "parallel" in techniques else 1)


def test_largest_says_what_the_memory_holds_and_who_shares_it(run) -> None:
    asked = ("largest", "qwen3-32b", "--seq-len", 4096, "--hardware", "h100-sxm")
    lines = run(*asked, "--with", "tensor-parallel:degree=2").out.splitlines()
    assert lines[2] == "batch 98 is the largest that fits on 2 devices together"
    assert "of one device" in run(*asked, "--with", "tensor-parallel:degree=2").out
    assert run("largest", "llama-3-70b", "--seq-len", 9, "--hardware", "h100-sxm").out.splitlines()[2].startswith("not even batch 1 fits")
    assert run("largest", "llama-3-8b", "--for", "seq_len", "--capacity", "24GB").out.splitlines()[2].startswith("seq_len ")


WRONG = {
    ("--hardware", "t4", "--capacity", "1GB"): "--hardware or --capacity: give one of them",
    ("--seq-len", "8"): "--hardware or --capacity: give one of them",
    ("--hardware", "t4"): "seq_len must be given as a number",
    ("--capacity", "3bananas"): "'bananas' is not a unit known here",
    ("--for", "bandwidth", "--seq-len", "1", "--batch", "1", "--hardware", "t4"): "memory does not depend on bandwidth",
    ("--for", "seq_len", "--seq-len", "3", "--capacity", "1GB"): "--seq-len is given as a number, but --for seq_len asks over it",
    (
        "--for",
        "degree",
        "--seq-len",
        "1",
        "--batch",
        "1",
        "--hardware",
        "h200",
        "--with",
        "tensor-parallel",
    ): "memory falls as degree grows",
}


@pytest.mark.parametrize("asked", WRONG, ids=" ".join)
def test_what_largest_cannot_answer_is_one_line(run, asked: tuple[str, ...]) -> None:
    refused = run("largest", "llama-3-8b", *asked)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert WRONG[asked] in refused.err


# --- compare


def test_compare_says_the_largest_batch_of_every_variant(run) -> None:
    texts = ("quantize:weights=4,group=128", "tensor-parallel:degree=2", "flash-attention")
    asked = ("compare", "qwen3-32b", "--phase", "decode", "--batch", 4, "--seq-len", 4096, "--hardware", "h100-sxm")
    chosen = [word for text in texts for word in ("--with", text)]
    record = json.loads(run(*asked, *chosen, "--format", "json").out)
    model = symroof.load_model("qwen3-32b")
    for variant, text in zip(record["variants"], ("", *texts), strict=True):
        chain = [symroof.technique(text)] if text else []
        tried = largest_by_trying(lambda batch, chain=chain: model.decode(batch=batch, seq_len=4096).with_widths().apply(*chain))
        assert variant["largest_batch"] == tried
    assert "largest batch" in run(*asked, *chosen, "--wide").out


def test_where_formulas_count_blocks_numbers_are_tried_up_to_the_one_that_was_asked_for(run) -> None:
    asked = ("compare", "opt-125m", "--phase", "prefill", "--batch", 1, "--seq-len", 1000, "--hardware", "t4", "--over", "seq_len")
    said = run(*asked, "--with", "flash-attention:reread=memory", "--wide").out
    assert "of the whole numbers from 1 to 1000 tried)" in said


@pytest.mark.parametrize(("turns", "last"), [((137,), 8192), ((70, 5000), 8192), ((), 8192), ((3,), 9), ((65,), 65)])
def test_numbers_to_try_show_both_sides_of_every_turn(turns: tuple[int, ...], last: int) -> None:
    from symroof.questions.payoff import _tried

    numbers = _tried(last, lambda number: (-1) ** sum(number >= turn for turn in turns))
    assert numbers == sorted(set(numbers))
    assert {1, last, *range(1, min(last, 64) + 1), *turns, *(turn - 1 for turn in turns)} <= {*numbers}
    assert len(numbers) < 160
