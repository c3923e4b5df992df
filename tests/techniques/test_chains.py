"""Chains: which order is refused, and numbers that do not fit wherever they come from."""

from __future__ import annotations

import itertools
import json
import random

import pytest

import symroof
from symroof.errors import InputError
from symroof.questions.technique_effect import effect_of
from symroof.techniques.registry import chain, names, technique, technique_class, with_number
from tests.steps import one_of_each_type

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
DECODE = ("llama-2-7b", "--hardware", "a100-sxm-80gb", "--phase", "decode", "--seq-len", "2048")

ORDERS = [
    ("decode", "prefix-cache:share=3/4", "flash-attention"),
    ("decode", "mixed-batch:chunk=128", "flash-attention"),
    ("decode", "prefix-cache:share=3/4", "fuse:preset=engine"),
    ("prefill", "context-parallel:degree=2", "flash-attention"),
    ("prefill", "chunked-prefill:chunk=512", "flash-attention"),
    ("decode", "contextual-sparsity:share=1/2", "prune-channels:share=1/2"),
    ("decode", "pipeline-parallel:degree=2,micro_batches=2", "launch-overhead:launch=5us"),
    ("decode", "pipeline-parallel:degree=2,micro_batches=2", "skip-layers:layers=2"),
    ("decode", "pipeline-parallel:degree=2,micro_batches=2", "speculative:acceptance=0.8,length=4,draft_cost=1/20"),
    ("prefill", "context-parallel:degree=2", "prefix-cache:share=3/4"),
    ("prefill", "context-parallel:degree=2", "chunked-prefill:chunk=512"),
    ("prefill", "context-parallel:degree=2", "data-format:bits=4,peak=1PFLOP/s"),
    ("decode", "data-parallel:degree=2", "mixed-batch:chunk=128,prompts=2"),
    ("decode", "tensor-parallel:degree=2", "tensor-parallel:degree=2"),
    ("decode", "tensor-parallel:degree=2", "tensor-parallel:degree=4"),
]


@pytest.mark.parametrize(("phase", "first", "second"), ORDERS)
def test_an_order_that_would_count_wrongly_is_refused_and_the_other_is_not(phase: str, first: str, second: str) -> None:
    step = getattr(symroof.load_model("llama-2-7b"), phase)(batch=16, seq_len=2048, **WIDTHS)
    with pytest.raises(InputError, match=r"must come before|is applied already"):
        step.apply(*chain([first, second]))
    if first.partition(":")[0] != second.partition(":")[0]:
        found = step.apply(*chain([second, first]))
        assert symroof.analyze(found, "a100-sxm-80gb").total.time_expr > 0


@pytest.mark.parametrize(
    "texts", [("mixed-batch:chunk=128", "flash-decoding:splits=4"), ("flash-decoding:splits=4", "mixed-batch:chunk=128")]
)
def test_a_chunk_beside_a_split_context_is_not_modelled(texts: tuple[str, str]) -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=16, seq_len=2048, **WIDTHS)
    with pytest.raises(InputError, match=r"does not go with|must come before"):
        step.apply(*chain(texts))


SETTINGS = {
    "sparsify": "density=1/2",
    "low-rank": "rank=64",
    "chunked-prefill": "chunk=512",
    "ragged-batch": "mean=1/2,variation=1/2",
    "memory-levels": "tile=128,bandwidth=19TB/s",
    "tensor-parallel": "degree=2",
    "pipeline-parallel": "degree=2,micro_batches=2",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "phase"), [("llama-2-7b", "decode"), ("mixtral-8x7b-v0.1", "decode"), ("gemma-2-2b", "prefill"), ("jamba-v0.1", "decode")]
)
def test_any_two_give_a_step_or_one_clear_line(name: str, phase: str) -> None:
    every = {
        each: technique(f"{each}:{SETTINGS[each]}") if each in SETTINGS else effect_of(technique_class(each)).technique(symbolic=False)
        for each in names()
    }
    step = getattr(symroof.load_model(name), phase)(batch=16, seq_len=2048, **WIDTHS)
    done, refusals = 0, []
    for first, second in random.Random(name).sample([*itertools.permutations(every, 2)], 120):
        try:
            found = symroof.analyze(step.apply(every[first], every[second]), "a100-sxm-80gb")
        except symroof.SymroofError as error:
            refusals.append(str(error))
            continue
        done += 1
        assert 0 < found.total.time_expr / found.graph.tokens < 10**4, (first, second)
        assert all(size >= 0 for size in found.memory_exprs.values())
    assert done > 30
    assert not [line for line in refusals if "\n" in line or len(line) > 400]


def test_every_fact_that_is_required_is_removed_by_some_technique() -> None:
    classes = [technique_class(name) for name in names()]
    required, removed = ({fact for kind in classes for fact in getattr(kind, what)} for what in ("requires", "removes"))
    assert required == removed


def test_numbers_take_the_place_of_symbols() -> None:
    one, other = with_number(chain(["low-rank", "quantize:weights=4"]), symroof.symbols.rho, 64)
    assert (one.text, other.text) == ("low-rank:rank=64", "quantize:weights=4")


@pytest.mark.parametrize(
    ("over", "text", "refused"),
    [
        ("rank=64,4097", "low-rank", "rank 4097: low-rank: rank 4097 is above the 4096 x 4096 matrix"),
        ("degree=1,2,3", "tensor-parallel", "degree 3: tensor-parallel: degree 3 does not divide"),
        ("batch=8,9", "data-parallel:degree=8", "data-parallel: degree 8 does not divide 9 sequences"),
        ("batch=1,2", "low-rank", "rank (rho) is still a symbol"),
    ],
)
def test_a_sweep_refuses_values_that_do_not_fit(run, over: str, text: str, refused: str) -> None:
    result = run("sweep", "llama-2-7b", "--hardware", "a100", "--seq-len", 512, "--over", over, "--with", text, "--metric", "time")
    assert (result.status, result.out) == (2, "")
    assert refused in result.err
    assert result.err.count("\n") == 1


def test_an_answer_that_does_not_fit_says_so(run) -> None:
    asked = ("solve", *DECODE, "--batch", 16, "--with", "low-rank", "--for", "rank", "--target-time", "30ms")
    assert "but that does not fit: low-rank: rank 8635 is above" in run(*asked).out
    assert json.loads(run(*asked, "--format", "json").out)["misfit"].startswith("low-rank: rank 8635")
    fits = ("solve", *DECODE, "--batch", 16, "--with", "low-rank", "--for", "rank", "--target-time", "15ms")
    assert "does not fit" not in run(*fits).out


@pytest.mark.slow
def test_a_technique_s_own_names_are_understood(run) -> None:
    asked = ("compare", *DECODE, "--with", "offload:what=weights", "--format", "json", "--over")
    both = [run(*asked, name).out for name in ("share", "offloaded_share")]
    assert both[0] == both[1]
    assert json.loads(both[0])["variants"][1]["payoff"]


def test_data_files_need_numbers(run) -> None:
    result = run("analyze", *DECODE, "--with", "low-rank", "--format", "json")
    assert (result.status, result.out) == (2, "")
    assert "rank must be given as a number" in result.err


def test_generation_takes_each_technique_in_its_phase(run) -> None:
    asked = ("generate", "llama-2-7b", "--hardware", "a100", "--prompt", 512, "--tokens", 16, "--format", "json")
    plain, chunked = (json.loads(run(*asked, *extra).out) for extra in ((), ("--with", "chunked-prefill:chunk=64")))
    assert plain["decode"]["time"] == chunked["decode"]["time"]
    assert plain["prefill"]["bytes"] < chunked["prefill"]["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_type_of_model_takes_a_technique(phase: str) -> None:
    """Four-bit weights: fewer bytes, the same FLOPs, never slower; the crossovers over the batch come no later."""
    for name in one_of_each_type():
        model = symroof.load_model(name)
        if not model.architecture.generative and phase == "decode":
            continue
        step = getattr(model, phase)(batch=2, seq_len=256, weight_bits=16, activation_bits=16, kv_bits=16)
        after = step.apply(technique("quantize:weights=4"))
        old, new = (symroof.analyze(one, "h100-sxm").total for one in (step, after))
        assert old.flop_count == new.flop_count, name
        assert new.byte_count() < old.byte_count(), name
        assert 0 < new.time_expr <= old.time_expr, name
        part = next(one.name for one, _ in step.symbolic if any(proj in one.name for proj in ("up_proj", "in_proj", "key_proj")))
        free = getattr(model, phase)(seq_len=256, weight_bits=16, activation_bits=16, kv_bits=16)
        found = [
            symroof.crossover(one, part, over="batch", hardware="h100-sxm").first_integer
            for one in (free, free.apply(technique("quantize:weights=4")))
        ]
        if None not in found:
            assert found[1] <= found[0], name
