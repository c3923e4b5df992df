"""Batching techniques on models with sliding windows, each against a count position by position that is written here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sympy import Add, Expr, Integer, Rational

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Storage

WIDTH = 2
TOGETHER = 96
"""Query positions that share a pass over keys and values; its symbol is R."""


def step(name: str, phase: str, batch: int, seq_len: int, *, flash: bool = False) -> Step:
    model = symroof.load_model(name)
    inputs = {"batch": batch, "seq_len": seq_len, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    return getattr(model, phase)(**inputs, flash_attention=flash)


def size(made: Step, letter: str) -> int:
    return int(made.values[getattr(symbols, letter)])


def counted(made: Step) -> Graph:
    return made.symbolic.bind({**made.values, symbols.R: Integer(TOGETHER)})


def attention(made: Step, role: str) -> Iterator[tuple[Operator, int | None, tuple[int, int, int]]]:
    """The operators of this name in both kinds of layers, the window or none, and the heads, KV heads and components."""
    sizes = (size(made, "h"), size(made, "k"), size(made, "e"))
    for operator, _ in counted(made):
        if role in operator.name.split(".") or operator.name.endswith(role):
            whole = operator.name.startswith(("full.", "global."))
            yield operator, None if whole else size(made, "W"), sizes


def seen_by(place: int, window: int | None) -> range:
    return range(0 if window is None else max(0, place - window + 1), place + 1)


def cache_of(made: Step) -> Expr:
    return made.graph.kv_memory()


def moved(graph: Graph, storage: Storage) -> Expr:
    """Bytes without those of the rotary tables, which a batch reads once and sequences alone read each."""
    return Add(
        *(
            count * access.byte_count
            for operator, count in graph
            for access in (*operator.reads, *operator.writes)
            if access.tensor.storage is storage and access.tensor.name != "cos_sin"
        )
    )


# ragged batches


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("gpt-oss-20b", (700, 130, 128, 40)),
        ("gemma-3-4b-pt", (1500, 1500, 300)),
        ("mistral-7b-v0.1", (5000, 4096, 1)),
        ("llama-3-8b", (90, 7)),
    ],
)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("flash", [False, True])
def test_ragged_sequences_are_those_steps_one_by_one(name: str, lengths: tuple[int, ...], phase: str, flash: bool) -> None:
    ragged = step(name, phase, len(lengths), max(lengths), flash=flash).apply("ragged-batch:lengths=" + "+".join(map(str, lengths)))
    alone = [step(name, phase, 1, length, flash=flash) for length in lengths]
    assert ragged.graph.flop_count == sum(one.graph.flop_count for one in alone)
    for storage in (Storage.ACTIVATION, Storage.KV_CACHE):
        assert moved(counted(ragged), storage) == sum(moved(counted(one), storage) for one in alone), storage
    assert cache_of(ragged) == sum(map(cache_of, alone))


def test_lengths_and_what_they_say() -> None:
    window = step("gpt-oss-20b", "prefill", 4, 1024)
    tokens, shares, times = (
        window.apply(f"ragged-batch:lengths={text}") for text in ("1024+512+512+256", "1+1/2+0.5+1/4", "1024+2x512+256")
    )
    assert tokens.graph.flop_count == shares.graph.flop_count == times.graph.flop_count
    equal = step("gpt-oss-20b", "prefill", 4, 512).graph
    for text in ("mean=1/2,variation=0", "lengths=1024"):
        made = window.apply(f"ragged-batch:{text}").graph
        assert (made.flop_count, made.kv_memory()) == ((equal if "mean" in text else window.graph).flop_count, made.kv_memory())
    two = symroof.load_model("llama-3-8b").prefill(symbolic=True)  # without windows two lengths are a mean and a variation
    listed, moments = two.apply("ragged-batch:lengths=3+1"), two.apply("ragged-batch:mean=2/3,variation=1/2")
    values = {symbols.mu: Rational(2, 3), symbols.c_v: Rational(1, 2)}
    for part in ("qk_matmul", "softmax", "sv_matmul", "up_proj"):
        assert (listed[part].flop_count - moments[part].flop_count.xreplace(values)).expand() == 0
    for text, said in (
        ("mean=1/2", "a sliding window holds what each sequence fills of it: give lengths="),
        ("lengths=1024+x", "'x' is no length"),
        ("lengths=1024+0", "'0' is no length"),
        ("lengths=1024+1.5x3", "'1.5x3' is no length"),
        ("lengths=2048+1", "the longest of the lengths is 2048, and the step has 1024 tokens"),
        ("lengths=2+1,mean=1/2", "a mean and a variation of their own"),
        ("lengths=" + "+".join(map(str, range(1, 102))), "101 different lengths"),
    ):
        with pytest.raises(InputError, match=said):
            window.apply(f"ragged-batch:{text}")


# chunked prefill


@pytest.mark.parametrize(
    ("name", "length", "chunk"),
    [
        ("gpt-oss-20b", 640, 640),
        ("gpt-oss-20b", 640, 320),
        ("gpt-oss-20b", 640, 128),
        ("gpt-oss-20b", 640, 80),
        ("gpt-oss-20b", 96, 32),
        ("gemma-3-4b-pt", 3000, 500),
        ("gemma-3-4b-pt", 1200, 400),
        ("mistral-7b-v0.1", 6000, 1500),
    ],
)
def test_chunks_read_what_their_windows_show(name: str, length: int, chunk: int) -> None:
    batch, text = 2, f"chunked-prefill:chunk={chunk}"
    plain, whole = step(name, "prefill", batch, length), step(name, "prefill", batch, length, flash=True)
    chunks = [range(start, start + chunk) for start in range(0, length, chunk)]
    assert plain.apply(text).graph.flop_count == plain.graph.flop_count
    assert cache_of(plain.apply(text)) == cache_of(plain)
    found = 0
    for operator, window, (_, k, e) in attention(plain.apply(text), "qk_matmul"):
        rows = sum(len(set().union(*(seen_by(place, window) for place in (queries[0], queries[-1])), queries)) for queries in chunks)
        assert operator.byte_count(Storage.KV_CACHE) == batch * rows * k * e * WIDTH, operator.name
        found += 1
    for operator, window, (_, k, e) in attention(whole.apply(text), "fused_attention"):
        rows = 0
        for queries in chunks:
            for first in range(queries[0], queries[-1] + 1, TOGETHER):
                last = min(first + TOGETHER, queries[-1] + 1)
                rows += last - seen_by(first, window)[0]
        assert operator.byte_count(Storage.KV_CACHE) == 2 * batch * rows * k * e * WIDTH, operator.name
        found += 1
    assert found == (2 if name.startswith("mistral") else 4)


# prefix caches


@pytest.mark.parametrize(
    ("name", "length", "prefix"),
    [
        ("gpt-oss-20b", 640, 480),
        ("gpt-oss-20b", 640, 600),
        ("gpt-oss-20b", 160, 40),
        ("gpt-oss-20b", 96, 64),
        ("gemma-3-4b-pt", 2000, 1500),
        ("gemma-3-4b-pt", 1500, 300),
        ("mistral-7b-v0.1", 5000, 2000),
    ],
)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_prefix_behind_a_window(name: str, length: int, prefix: int, phase: str) -> None:
    """Queries one by one: the keys they see in the prefix and behind it; rows of the prefix are read and stored once."""
    batch, share = 3, Rational(prefix, length)
    plain = step(name, phase, batch, length)
    once, each = (plain.apply(f"prefix-cache:share={share},read={how}") for how in ("once", "each"))
    asked = range(prefix, length) if phase == "prefill" else range(length - 1, length)
    stored = cache = 0
    for part in ("prefix", "suffix"):
        for operator, window, (h, k, e) in attention(once, f"qk_matmul.{part}"):
            seen = [[key for key in seen_by(query, window) if (key < prefix) == (part == "prefix")] for query in asked]
            pairs, rows = sum(map(len, seen)), len(set().union(*seen))
            sequences = 1 if part == "prefix" else batch
            assert operator.flop_count == 2 * batch * h * e * pairs, operator.name
            assert operator.byte_count(Storage.KV_CACHE) == sequences * rows * k * e * WIDTH, operator.name
            assert operator.byte_count(Storage.ACTIVATION) == batch * h * (len(asked) * e + pairs) * WIDTH, operator.name
            left = [key for key in seen_by(length - 1, window) if (key < prefix) == (part == "prefix")]
            layers = next(count for other, count in once.graph if other.name == operator.name)
            cache += 2 * layers * sequences * len(left) * k * e * WIDTH
    for operator, window, (h, k, e) in attention(each, "qk_matmul"):
        seen = [seen_by(query, window) for query in asked]
        assert operator.flop_count == 2 * batch * h * e * sum(map(len, seen)), operator.name
        assert operator.byte_count(Storage.KV_CACHE) == batch * len(set().union(*seen)) * k * e * WIDTH, operator.name
        stored += 1
    assert stored
    assert cache_of(once) == cache_of(each) == cache
    for made in (once, each):
        assert made.graph["out_proj" if name.startswith("mistral") else "full.out_proj"].flop_count * (
            length if phase == "prefill" else 1
        ) == (plain.graph["out_proj" if name.startswith("mistral") else "full.out_proj"].flop_count * len(asked))


@pytest.mark.parametrize(("length", "prefix"), [(640, 480), (640, 600), (160, 40), (96, 64), (480, 96)])
def test_passes_behind_a_prefix(length: int, prefix: int) -> None:
    """Blocks of R queries: each reads from the first row in sight of its first query to its own last."""
    batch = 2
    plain = step("gpt-oss-20b", "prefill", batch, length, flash=True)
    made = plain.apply(f"prefix-cache:share={Rational(prefix, length)},read=each")
    for operator, window, (_, k, e) in attention(made, "fused_attention"):
        rows = 0
        for first in range(prefix, length, TOGETHER):
            rows += min(first + TOGETHER, length) - seen_by(first, window)[0]
        assert operator.byte_count(Storage.KV_CACHE) == 2 * batch * rows * k * e * WIDTH, operator.name


def test_chunks_behind_a_prefix_and_a_window() -> None:
    length, prefix, chunk, batch = 736, 96, 80, 2
    made = step("gpt-oss-20b", "prefill", batch, length).apply(
        f"prefix-cache:share={Rational(prefix, length)},read=each", f"chunked-prefill:chunk={chunk}"
    )
    with pytest.raises(InputError, match="chunks of 92 tokens do not divide a prompt of 640"):
        step("gpt-oss-20b", "prefill", batch, length).apply("prefix-cache:share=3/23,read=each", "chunked-prefill:chunk=92")
    for operator, window, (_, k, e) in attention(made, "qk_matmul"):
        starts = range(prefix, length, chunk)
        rows = sum(start + chunk - seen_by(start, window)[0] for start in starts)
        assert operator.byte_count(Storage.KV_CACHE) == batch * rows * k * e * WIDTH, operator.name


def test_what_windows_leave_refused() -> None:
    for name, phase, texts, said in (
        ("gpt-oss-20b", "prefill", ("prefix-cache:share=1/2", "chunked-prefill:chunk=64"), "give prefix-cache read=each"),
        ("llama-4-scout-17b-16e-instruct", "prefill", ("chunked-prefill:chunk=64",), "within chunks of the model's own"),
        ("llama-4-scout-17b-16e-instruct", "prefill", ("prefix-cache:share=1/2",), "within chunks of the model's own"),
        ("gpt-oss-20b", "decode", ("paged-cache:page=16", "prefix-cache:share=1/2"), "must come before paged-cache"),
    ):
        with pytest.raises(InputError, match=said):
            step(name, phase, 2, 1024).apply(*texts)
