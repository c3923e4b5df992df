"""Mixed batches, chunked prefill, ragged batches, prefix caches: what they change, what they leave, and when they pay."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import product

import pytest
from sympy import Integer, Rational, sqrt

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.operators.tensor import Storage
from symroof.questions.crossovers import token_budget
from symroof.symbols import c_v
from symroof.techniques.registry import chain, technique
from symroof.techniques.system.ragged_batch import RaggedBatch

WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-6.7b")
A100 = "a100-sxm-80gb"


def step(name: str, phase: str = "decode", **options: object) -> Step:
    return getattr(symroof.load_model(name), phase)(**WIDTHS, **options)


def counts(one: Step) -> tuple:
    graph = one.graph
    return (
        graph.flop_count,
        graph.byte_count(),
        graph.weight_memory(),
        graph.kv_memory(),
        graph.activation_memory(),
        graph.tokens,
        tuple((operator.name, operator.flop_count, operator.byte_count()) for operator, _ in graph),
    )


# mixed batches


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, "mamba-130m", "deepseek-v2-lite"])
@pytest.mark.parametrize("flash", [False, True])
def test_a_mixed_step_is_a_decode_and_a_prefill_step_that_share_the_weights(name: str, flash: bool) -> None:
    form = {"mla": "absorbed"} if name.startswith("deepseek") else {}
    for batch, prompts, chunk in ((5, 1, 64), (3, 2, 160)):
        decode = step(name, batch=batch, seq_len=200, flash_attention=flash, **form)
        prefill = step(name, "prefill", batch=prompts, seq_len=chunk, flash_attention=flash, **form)
        mixed = decode.apply(technique(f"mixed-batch:chunk={chunk},prompts={prompts}"))
        both = (symroof.analyze(one, A100).graph for one in (decode, prefill, mixed))
        first, second, together = both
        assert together.flop_count == first.flop_count + second.flop_count
        for storage in (Storage.ACTIVATION, Storage.KV_CACHE):
            assert together.byte_count(storage) == first.byte_count(storage) + second.byte_count(storage)
        assert together.kv_memory() == first.kv_memory() + second.kv_memory()
        assert together.weight_memory() == first.weight_memory()
        assert together.activation_memory() >= max(first.activation_memory(), second.activation_memory())
        assert (together.tokens, together.prompt_tokens) == (1, Rational(prompts * chunk, batch))
        # what a part alone reads of the weights is read once, but for experts that only one of the parts touches
        weights = [graph.byte_count(Storage.WEIGHT) for graph in (first, second, together)]
        assert max(weights[:2]) <= weights[2] < sum(weights[:2])
        if name in ("llama-2-7b", "llama-3-8b", "opt-6.7b"):
            table = 2 * symroof.load_model(name).dimensions[symroof.symbols.d]
            rows = table * (2 if name == "opt-6.7b" else 1)
            assert weights[2] == weights[0] + prompts * chunk * rows


@pytest.mark.parametrize("name", MODELS)
def test_the_decoding_part_of_attention_and_the_graph_in_letters_stay(name: str) -> None:
    plain = symroof.load_model(name).decode(symbolic=True)
    mixed = plain.apply(technique("mixed-batch"))
    for part in ("qk_matmul", "softmax", "sv_matmul"):
        assert mixed[part].flop_count == plain[part].flop_count
        assert (mixed[part].byte_count() - plain[part].byte_count()).simplify() == 0
    assert [one.name for one, _ in mixed.graph if not one.name.endswith(".chunk")] == [one.name for one, _ in plain.graph]
    assert mixed.graph.weight_memory() == plain.graph.weight_memory()


def test_a_later_chunk_attends_to_the_prompt_before_it() -> None:
    """The chunks of a prompt, one after the other beside the same sequences, are the prompt at once."""
    decode, prompt, chunk = step("llama-2-7b", batch=4, seq_len=100), 512, 128
    parts = [
        decode.apply(technique(f"mixed-batch:chunk={chunk},prompt={so_far},logits=none")) for so_far in range(chunk, prompt + 1, chunk)
    ]
    whole = step("llama-2-7b", "prefill", batch=1, seq_len=prompt)
    for name in ("qk_matmul", "softmax", "sv_matmul"):
        assert sum(part[f"{name}.chunk"].flop_count for part in parts) == whole[name].flop_count
    for part in ("qk_matmul", "sv_matmul"):  # the prefix's keys are read again for every chunk: as chunked prefill says
        again = whole.apply(technique(f"chunked-prefill:chunk={chunk}"))[part].byte_count()
        assert sum(one[f"{part}.chunk"].byte_count() for one in parts) == again


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-6.7b"])
def test_the_token_budget_is_where_a_mixed_step_turns_compute_bound(name: str) -> None:
    decode = step(name, batch=16, seq_len=256)
    for part in ("q_proj", "down_proj"):
        edge = token_budget(step(name, seq_len=256), part, hardware=A100).value_expr
        for tokens in range(150, 190, 3):
            placed = symroof.analyze(decode.apply(technique(f"mixed-batch:chunk={tokens - 16}")), A100)[part]
            assert (placed.bound == "compute") == (tokens >= edge), (part, tokens)
        letters = symroof.crossover(decode.apply(technique("mixed-batch:prompts=2")), part, over="chunk", hardware=A100)
        assert letters.value == (edge - 16) / 2
    total = token_budget(step(name, seq_len=256), hardware=A100).value_expr
    parts = [token_budget(step(name, seq_len=256), part, hardware=A100).value_expr for part in ("q_proj", "lm_head", "down_proj")]
    assert min(parts) < total < max(parts)


def test_a_chunk_of_one_token_is_one_more_sequence() -> None:
    one_more = step("llama-2-7b", batch=9, seq_len=64)
    mixed = step("llama-2-7b", batch=8, seq_len=64).apply(technique("mixed-batch:chunk=1,prompt=64"))
    assert mixed.graph.flop_count == one_more.graph.flop_count
    for storage in (Storage.WEIGHT, Storage.KV_CACHE):
        assert mixed.graph.byte_count(storage) == one_more.graph.byte_count(storage)
    assert mixed.graph.kv_memory() == one_more.graph.kv_memory()
    assert mixed["up_proj"].byte_count() == one_more["up_proj"].byte_count()


# chunked prefill


@pytest.mark.parametrize("name", [*MODELS, "mamba-130m"])
@pytest.mark.parametrize("flash", [False, True])
def test_chunks_do_the_same_work_and_read_more(name: str, flash: bool) -> None:
    whole = step(name, "prefill", batch=2, seq_len=512, flash_attention=flash)
    once = whole.apply(technique("chunked-prefill:chunk=512"))
    bound = [symroof.analyze(one, A100).step for one in (whole, once)]
    assert counts(bound[0])[0] == counts(bound[1])[0]
    assert [value.simplify() for value in map(lambda a, b: a - b, counts(whole)[1:6], counts(once)[1:6])] == [0] * 5
    before = whole.graph
    for chunk in (256, 128, 64):
        after = whole.apply(technique(f"chunked-prefill:chunk={chunk}")).graph
        assert after.flop_count == before.flop_count
        assert after.weight_memory() == before.weight_memory()
        assert after.kv_memory() == before.kv_memory()
        assert after.activation_memory() < before.activation_memory()
        assert (after.byte_count(Storage.ACTIVATION) - before.byte_count(Storage.ACTIVATION)).simplify() == 0
        assert after["lm_head"].byte_count() == before["lm_head"].byte_count()
        if "mamba" not in name:
            assert after["q_proj"].byte_count(Storage.WEIGHT) == before["q_proj"].byte_count(Storage.WEIGHT) * 512 / chunk


def test_chunks_read_the_prefix_of_every_chunk_before() -> None:
    length, chunk = 1024, 256
    whole = step("llama-3-8b", "prefill", batch=2, seq_len=length)
    rows = sum(range(chunk, length + 1, chunk))
    after = whole.apply(technique(f"chunked-prefill:chunk={chunk}"))["qk_matmul"]
    assert after.byte_count(Storage.KV_CACHE) == rows * 2 * 8 * 128 * 2


@pytest.mark.slow
def test_chunks_are_free_from_the_token_budget_on() -> None:
    for batch in (1, 3):
        whole = step("llama-2-7b", "prefill", batch=batch, seq_len=1024)
        found = symroof.payoff(whole, whole.apply(technique("chunked-prefill")), over="chunk", hardware=A100, operator="up_proj")
        assert found.edges_expr == (token_budget(step("llama-2-7b", seq_len=1), "up_proj", hardware=A100).value_expr / batch,)
        for chunk in (2**power for power in range(11)):
            after = symroof.analyze(whole.apply(technique(f"chunked-prefill:chunk={chunk}")), A100)["up_proj"].time_expr
            assert (after > symroof.analyze(whole, A100)["up_proj"].time_expr) == (chunk < found.edges_expr[0])


def test_latent_attention_expands_the_prefix_again_for_every_chunk() -> None:
    whole = step("deepseek-v2-lite", "prefill", batch=1, seq_len=512)
    after = whole.apply(technique("chunked-prefill:chunk=128"))
    name = next(one.name for one, _ in whole.graph if one.name.endswith("k_up_proj"))
    assert after[name].flop_count == whole[name].flop_count * Rational(5, 2)


# ragged batches


def test_lengths_are_told_in_the_letter_of_the_phase() -> None:
    for phase, letter in (("prefill", symbols.s), ("decode", symbols.t)):
        graph = getattr(symroof.load_model("llama-2-7b"), phase)(symbolic=True).symbolic
        assert graph.decode == (phase == "decode")
        half = graph.apply(technique("ragged-batch:mean=1/2,variation=0"))
        numbers = {letter: Integer(64), symbols.mu: Rational(1, 2)}
        assert half.flop_count.xreplace(numbers) == graph.flop_count.xreplace({letter: Integer(32)})
        with pytest.raises(InputError, match="context is not a symbol"):
            graph.bind({letter: Integer(64)}).apply(technique("ragged-batch:mean=1/2,variation=0"))


def test_a_state_has_no_length() -> None:
    plain = step("mamba-2.8b", "decode", batch=4, seq_len=256)
    assert counts(plain.apply(technique("ragged-batch:mean=1/2,variation=1/2"))) == counts(plain)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_equal_lengths_change_nothing(name: str, phase: str) -> None:
    for flash in (False, True):
        plain = step(name, phase, batch=4, seq_len=256, flash_attention=flash)
        assert counts(plain.apply(technique("ragged-batch:mean=1,variation=0"))) == counts(plain)
        half = step(name, phase, batch=4, seq_len=128, flash_attention=flash)
        assert counts(plain.apply(technique("ragged-batch:mean=1/2,variation=0"))) == counts(half)


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-6.7b"])
def test_ragged_batches_are_the_sum_of_their_sequences(name: str) -> None:
    draw = random.Random(7)
    for _ in range(4):
        lengths = [draw.randrange(1, 400) for _ in range(draw.randrange(2, 6))]
        most, mean = max(lengths), Fraction(sum(lengths), len(lengths))
        spread = Fraction(sum(one * one for one in lengths), len(lengths)) / mean**2 - 1
        for phase in ("prefill", "decode"):
            batch = step(name, phase, batch=len(lengths), seq_len=most)
            alone = [step(name, phase, batch=1, seq_len=one) for one in lengths]
            # the coefficient of variation is a root: put in as the value of its letter
            ragged = batch.apply(RaggedBatch(mean=mean / most)).symbolic.bind({**batch.values, c_v: sqrt(Rational(spread))})
            assert ragged.flop_count == sum(one.graph.flop_count for one in alone)
            for storage in (Storage.ACTIVATION, Storage.KV_CACHE):
                assert moved(ragged, storage) == sum(moved(one.graph, storage) for one in alone)
            assert ragged.kv_memory() == sum(one.graph.kv_memory() for one in alone)


def moved(graph: Graph, storage: Storage):
    """Bytes without those of the rotary tables, which a batch reads once and sequences apart read each."""
    return sum(
        count * access.byte_count
        for operator, count in graph
        for access in (*operator.reads, *operator.writes)
        if access.tensor.storage is storage and access.tensor.name != "cos_sin"
    )


def test_decode_sees_the_mean_alone() -> None:
    plain = step("llama-3-8b", batch=8, seq_len=1000)
    texts = [f"ragged-batch:mean=1/4,variation={spread}" for spread in ("0", "1", "3/2")]
    found = [counts(plain.apply(technique(text))) for text in texts]
    assert found[0] == found[1] == found[2]
    touched = {"qk_matmul", "softmax", "sv_matmul"}
    for (name, flops, moved), (_, had_flops, had_moved) in zip(found[0][-1], counts(plain)[-1], strict=True):
        assert ((flops, moved) == (had_flops, had_moved)) == (name not in touched)


def test_spread_changes_attention_of_a_prompt_alone() -> None:
    plain = step("llama-3-8b", "prefill", batch=8, seq_len=1000)
    even, spread = (counts(plain.apply(technique(f"ragged-batch:mean=1/2,variation={one}"))) for one in ("0", "1/2"))
    changed = {one[0] for one, other in zip(even[-1], spread[-1], strict=True) if one != other}
    assert changed == {"qk_matmul", "softmax", "sv_matmul"}
    m = 500
    for name, flops, _ in spread[-1]:
        if name == "qk_matmul":
            assert flops == 2 * 8 * 32 * 128 * (Rational(m * m * 5, 4) + m) / 2


# prefix caches


@pytest.mark.parametrize("name", [*MODELS, "deepseek-v2-lite"])
@pytest.mark.parametrize("flash", [False, True])
def test_a_prefix_is_kept_once_and_read_once(name: str, flash: bool) -> None:
    batch, context, share = 6, 640, Rational(3, 4)
    plain = step(name, batch=batch, seq_len=context, flash_attention=flash)
    once, each = (plain.apply(technique(f"prefix-cache:share=3/4,read={how}")) for how in ("once", "each"))
    left = (batch * (1 - share) + share) / batch
    for after in (once, each):
        assert after.graph.kv_memory() == plain.graph.kv_memory() * left
        assert after.graph.flop_count == plain.graph.flop_count
        assert after.graph.weight_memory() == plain.graph.weight_memory()
    assert counts(each)[-1] == counts(plain)[-1]

    def read(one: Step):
        return sum(
            count * access.byte_count
            for operator, count in one.graph
            for access in operator.reads
            if access.tensor.storage is Storage.KV_CACHE and "t" in (access.axes or access.tensor.axes)
        )

    assert read(once) == read(plain) * left
    attention = ("qk_matmul", "softmax", "sv_matmul", "fused_attention")
    for operator, _ in plain.graph:
        if operator.name.split(".")[-1] not in attention:
            assert (operator.flop_count, operator.byte_count()) == (once[operator.name].flop_count, once[operator.name].byte_count())


@pytest.mark.parametrize("name", MODELS)
def test_a_prompt_computes_what_its_prefix_leaves(name: str) -> None:
    batch, length, share = 2, 512, Rational(1, 4)
    plain = step(name, "prefill", batch=batch, seq_len=length)
    own = int(length * (1 - share))
    for how in ("once", "each"):
        after = plain.apply(technique(f"prefix-cache:share=1/4,read={how}"))
        assert after["q_proj"].flop_count == step(name, "prefill", batch=batch, seq_len=own)["q_proj"].flop_count
        pairs = sum(one.flop_count for one, _ in after.graph if one.name.startswith("qk_matmul"))
        prefix = step(name, "prefill", batch=batch, seq_len=length - own)["qk_matmul"].flop_count
        assert pairs == plain["qk_matmul"].flop_count - prefix
        assert after.graph.kv_memory() == plain.graph.kv_memory() * (1 - share + share / batch)
        assert after["lm_head"].byte_count() == plain["lm_head"].byte_count()


@pytest.mark.slow
def test_the_prefix_pays_from_the_length_the_formula_says() -> None:
    for name, batch in product(("llama-2-7b", "llama-3-8b"), (2, 4)):
        plain = step(name, batch=batch, seq_len=2048, flash_attention=True)
        group = 1 if name == "llama-2-7b" else 4
        edge = Rational(3 * batch * group, 2 * (batch - 1) * 2048)
        found = symroof.payoff(plain, plain.apply(technique("prefix-cache")), over="prefix_share", hardware=A100)
        assert found.edges_expr == (edge,)
        for share in (edge / 2, edge, edge * 2, Rational(1, 2)):
            after = symroof.analyze(plain.apply(technique(f"prefix-cache:share={share}")), A100).total.time_expr
            had = symroof.analyze(plain, A100).total.time_expr
            assert (after < had, after == had) == (share > edge, share == edge)


# refusals and chains


@pytest.mark.parametrize(
    ("name", "phase", "text", "message"),
    [
        ("llama-2-7b", "prefill", "mixed-batch:chunk=8", "mixed-batch: this is a prefill step; expected decode"),
        ("llama-2-7b", "decode", "chunked-prefill:chunk=8", "chunked-prefill: this is a decode step; expected prefill"),
        ("llama-2-7b", "prefill", "chunked-prefill:chunk=300", "chunks of 300 tokens do not divide a prompt of 1024; expected a divisor"),
        ("llama-2-7b", "prefill", "chunked-prefill:chunk=2048", "a chunk of 2048 tokens is longer than the prompt of 1024"),
        ("llama-2-7b", "decode", "mixed-batch:chunk=8,prompt=4", "prompt 4 is shorter than its chunk of 8 tokens"),
        ("llama-2-7b", "decode", "ragged-batch:mean=1/2,variation=2", "variation 2: with mean 1/2 of the longest, expected at most"),
        ("llama-2-7b", "decode", "prefix-cache:share=1", "leaves no token of a sequence's own"),
        ("llama-2-7b", "prefill", "prefix-cache:share=1023.5/1024", "leaves no token of a sequence's own; expected at most 1023/1024"),
        ("mamba-130m", "decode", "prefix-cache:share=1/2", "has no attention"),
        ("mistral-7b-v0.1", "decode", "ragged-batch:mean=1/2", "sliding window"),
        ("vit-base-patch16-224", "prefill", "chunked-prefill:chunk=8", "without a causal mask"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name: str, phase: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        step(name, phase, batch=2, seq_len=1024).apply(technique(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_chunk_is_carried_once_and_other_accountings_are_refused() -> None:
    with pytest.raises(InputError, match="mixed-batch: is applied already"):
        step("llama-2-7b", batch=2, seq_len=64).apply(*chain(["mixed-batch:chunk=8 mixed-batch:chunk=8"]))
    with pytest.raises(InputError, match="expected 'exact'"):
        step("llama-2-7b", batch=2, seq_len=64, accounting="survey").apply(technique("mixed-batch:chunk=8"))
    with pytest.raises(InputError, match="decode step"):
        token_budget(step("llama-2-7b", "prefill"))
    with pytest.raises(InputError, match="is not a contraction with a weight"):
        token_budget(step("llama-2-7b"), "softmax")


def test_they_chain_with_quantization_in_either_order() -> None:
    for text in ("mixed-batch:chunk=64", "ragged-batch:mean=1/2,variation=0", "prefix-cache:share=1/2"):
        plain = step("llama-3-8b", batch=4, seq_len=256)
        orders = [plain.apply(*chain(texts)) for texts in ([text, "quantize:weights=4,kv=8"], ["quantize:weights=4,kv=8", text])]
        assert counts(orders[0]) == counts(orders[1])
        assert symroof.analyze(orders[0], A100).total.time_expr == symroof.analyze(orders[1], A100).total.time_expr


FOUND = [
    ("opt-6.7b", "prefill", {"batch": 1, "seq_len": 16}, "contextual-sparsity:share=1/10", "chunked-prefill:chunk=4", 4, 4),
    ("opt-6.7b", "decode", {"batch": 8, "seq_len": 16}, "contextual-sparsity:share=1/10", "mixed-batch:chunk=4", 1, 12),
]


@pytest.mark.parametrize(("model", "phase", "inputs", "first", "second", "reads", "tokens"), FOUND)
def test_neurons_are_those_of_the_tokens_that_share_a_read(
    model: str, phase: str, inputs: dict[str, int], first: str, second: str, reads: int, tokens: int
) -> None:
    """Own count: ``32 n (d + 1) f w / 8``, biases with the weights, times ``1 - (9/10)^T``: a chunk's 4 tokens four times, 8 + 4 once."""
    for texts in ([first, second], [second, first]):
        found = step(model, phase, **inputs).apply(*chain(texts)).graph["up_proj"].byte_count(Storage.WEIGHT) * 32
        assert found == 32 * 2 * 16384 * (4096 + 1) * reads * (1 - Rational(9, 10) ** tokens), "weights and biases of the neurons"


def test_queries_of_a_decode_step_read_a_shared_prefix_once() -> None:
    plain = step("llama-3-8b", batch=256, seq_len=8192)
    guess = "speculative:acceptance=0.8,length=1,draft_cost=0"
    for texts in ([guess, "flash-attention"], ["flash-attention", guess]):
        made = symroof.analyze(plain.apply(*chain([*texts, "prefix-cache:share=0.875"])), "h100-sxm").graph
        rows = Rational(7, 8) * (8192 + 1)
        assert made["fused_attention.prefix"].byte_count(Storage.KV_CACHE) == rows * 2 * 8 * 128 * 2


def test_a_chunk_behind_a_prefix_sees_all_of_it() -> None:
    """Own count: the prefix's 256 rows for each of 6 chunks of 128, the 768 that follow up to each chunk's last."""
    whole = step("llama-2-7b", "prefill", batch=1, seq_len=1024).apply(*chain(["prefix-cache:share=1/4", "chunked-prefill:chunk=128"]))
    rows = {"prefix": 6 * 256, "suffix": sum(range(128, 769, 128))}
    for part, expected in rows.items():
        assert whole[f"qk_matmul.{part}"].byte_count(Storage.KV_CACHE) == expected * 32 * 128 * 2
    with pytest.raises(InputError, match="must come before chunked-prefill"):
        step("llama-2-7b", "prefill", batch=1, seq_len=1024).apply(*chain(["chunked-prefill:chunk=128", "prefix-cache:share=1/4"]))


def test_devices_of_a_chain_multiply_and_it_says_so() -> None:
    both = step("mixtral-8x7b-v0.1", batch=64, seq_len=64).apply(*chain(["tensor-parallel:degree=8", "expert-parallel:degree=8"]))
    assert both.graph.devices == 64
    assert any("8 of tensor-parallel x 8 of expert-parallel" in line for line in both.statements)
