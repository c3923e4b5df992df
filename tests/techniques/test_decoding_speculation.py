"""Speculative decoding and Medusa: against the literature, enumeration, and brute force over lengths and batches."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from sympy import Integer, Rational, cancel, sign

import symroof
from symroof.operators.operator import Direction
from symroof.operators.tensor import Storage
from symroof.questions.payoff import break_even
from symroof.questions.speculation import best_length, least_acceptance, pays_at_all
from symroof.symbols import X, alpha, b, gamma
from tests.techniques.decoding_steps import DENSE, DEVICE, FAMILIES, WIDTHS, apply, costs, decode, memory, seconds

LEVIATHAN = [
    ("0.6", 2, 1.53, 1.96),
    ("0.7", 3, 1.58, 2.53),
    ("0.8", 2, 1.23, 2.44),
    ("0.8", 5, 1.63, 3.69),
    ("0.9", 2, 1.11, 2.71),
    ("0.9", 10, 1.60, 6.86),
]
"""Acceptance, length, and the factors on operations and on speed: Leviathan et al. (2023), arXiv:2211.17192, Table 1 (c = 0)."""


@pytest.mark.parametrize(("accepted", "length", "operations", "speed"), LEVIATHAN)
def test_leviathan_table_1(accepted, length, operations, speed):
    step = decode("llama-2-7b", batch=1, seq_len=128)
    after = apply(step, f"speculative:acceptance={accepted},length={length},draft_cost=0")
    tokens = after.graph.tokens
    assert round(float(tokens), 2) == speed
    assert round(float(after["up_proj"].flop_count / step["up_proj"].flop_count / tokens), 2) == operations
    # memory-bound: the verification takes the time of one step, but for the activations of its tokens
    assert 0.97 * speed < seconds(step) / seconds(after) < 1.005 * speed


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("cost", ["1/20", "1/3"])
def test_leviathan_theorem_38(length, cost):
    """(1 - a^(g+1)) / ((1 - a)(g c + 1)), and the factor on operations (theorem 3.11), of one linear layer.

    Where weights are all that is moved the first is exact; activations take a little of it.
    """
    accepted, c = Rational(7, 10), Rational(cost)
    step = decode("llama-2-7b", batch=1, seq_len=128)
    after = apply(step, f"speculative:acceptance=0.7,length={length},draft_cost={cost}")
    improvement = (1 - accepted ** (length + 1)) / ((1 - accepted) * (length * c + 1))
    read = {
        graph: sum(n * op.byte_count(Storage.WEIGHT) for op, n in graph if op.name.endswith("up_proj"))
        for graph in (step.graph, after.graph)
    }
    assert read[step.graph] / read[after.graph] * after.graph.tokens == improvement
    flops = {graph: sum(n * op.flop_count for op, n in graph if op.name.endswith("up_proj")) for graph in (step.graph, after.graph)}
    increase = (1 - accepted) * (length * c + length + 1) / (1 - accepted ** (length + 1))
    assert flops[after.graph] / after.graph.tokens / flops[step.graph] == increase
    assert Rational(97, 100) * improvement < seconds(step) / seconds(after) < improvement


@pytest.mark.parametrize("length", [1, 2, 4])
def test_expected_tokens_by_enumeration(length):
    accepted = Fraction(2, 3)
    mean = Fraction(0)
    for way in itertools.product((True, False), repeat=length):
        chance = Fraction(1)
        for hit in way:
            chance *= accepted if hit else 1 - accepted
        mean += chance * (1 + (way.index(False) if False in way else length))
    tokens = apply(decode("opt-125m", batch=1, seq_len=64), f"speculative:acceptance=2/3,length={length},draft_cost=0").graph.tokens
    assert tokens == Rational(mean.numerator, mean.denominator)


def test_expected_tokens_in_letters():
    step = symroof.load_model("opt-125m").decode(symbolic=True)
    for length in (1, 3, 6):
        known = apply(step, f"speculative:length={length}").symbolic.tokens
        assert known.is_polynomial(alpha)
        open_length = apply(step, "speculative").symbolic.tokens
        assert cancel(open_length.subs(gamma, length) - known) == 0
    assert [apply(step, f"speculative:acceptance={end},length=5").graph.tokens for end in (0, 1)] == [1, 6]
    assert apply(step, "speculative:acceptance=1").symbolic.tokens == gamma + 1


@pytest.mark.parametrize("model", FAMILIES)
def test_verification_is_a_step_on_more_tokens(model):
    """Every operator: FLOPs of the tokens at their contexts, weights once, the new rows of the cache written."""
    length, context = 3, 100
    step = decode(model, batch=2, seq_len=context)
    after = apply(step, f"speculative:acceptance=0.8,length={length},draft_cost=0")
    alone = [decode(model, batch=2, seq_len=context + place) for place in range(length + 1)]
    assert costs(after.graph).keys() == costs(step.graph).keys()
    for operator, count in after.graph:
        single = [one[operator.name] for one in alone]
        assert operator.flop_count == sum(one.flop_count for one in single)
        assert operator.byte_count(Storage.ACTIVATION) == sum(one.byte_count(Storage.ACTIVATION) for one in single)
        assert operator.byte_count(Storage.KV_CACHE, Direction.WRITE) == sum(
            one.byte_count(Storage.KV_CACHE, Direction.WRITE) for one in single
        )
        assert operator.byte_count(Storage.KV_CACHE, Direction.READ) == single[-1].byte_count(Storage.KV_CACHE, Direction.READ)
        if not any(access.axes and "X" in access.axes for access in operator.reads) and "embedding" not in operator.name:
            assert operator.byte_count(Storage.WEIGHT) == step[operator.name].byte_count(Storage.WEIGHT)
        assert count == costs(step.graph)[operator.name][2]
    assert memory(after)[0] == memory(step)[0]
    assert memory(after)[1] == memory(alone[-1])[1]


def test_draft_model_is_its_own_steps():
    length = 3
    step = decode("llama-2-7b", batch=2, seq_len=100)
    after = apply(step, f"speculative:acceptance=0.8,length={length},draft=tinyllama-1.1b-chat-v1.0")
    drafts = [decode("tinyllama-1.1b-chat-v1.0", batch=2, seq_len=100 + place) for place in range(length)]
    mine = [(operator, count) for operator, count in after.graph if operator.name.startswith("draft.")]
    assert sum(n * op.flop_count for op, n in mine) == sum(one.graph.flop_count for one in drafts)
    assert sum(n * op.byte_count() for op, n in mine) == sum(one.graph.byte_count() for one in drafts)
    assert memory(after)[0] == memory(step)[0] + memory(drafts[0])[0]
    assert seconds(after, "draft.") * after.graph.tokens == sum(seconds(one) for one in drafts)


RECURRENT = {  # layers, elements of a state, channels of a convolution with its taps, per-token inputs: from the configs
    "mamba-130m": (24, 1536 * 16, 1536, 4, 3 * 1536 + 2 * 16),
    "mamba2-2.7b": (64, 80 * 64 * 128, 5120 + 2 * 128, 4, 5120 + 2 * 128 + 80),
    "qwen3-next-80b-a3b-instruct": (36, 32 * 128 * 128, 2 * 16 * 128 + 32 * 128, 4, 2 * 16 * 128 + 32 * 128 + 2 * 32),
    "nvidia-nemotron-3-nano-30b-a3b-bf16": (23, 64 * 64 * 128, 64 * 64 + 2 * 8 * 128, 4, 64 * 64 + 2 * 8 * 128 + 64),
    "falcon-h1-7b-base": (44, 24 * 128 * 256, 24 * 128 + 2 * 256, 4, 24 * 128 + 2 * 256 + 24),
}


def moved_by_an_engine(elements: int, inputs: int, length: int, rollback: str, tree: bool = False) -> tuple[Fraction, Fraction, Fraction]:
    """Elements read, written and kept per sequence and layer, token by token, as kernels do it; with acceptance 1/2 in expectation."""
    read, written = Fraction(0), Fraction(0)
    slots = {0}
    for token in range(length + 1):
        if token == 0 or (tree and rollback != "replay"):
            read += elements
        if rollback != "replay":
            written, slots = written + elements, slots | {token + (rollback == "buffer")}
        else:
            written += inputs
    if rollback == "buffer":  # the accepted one goes to the sequence's own state
        read, written = read + elements, written + elements
    if rollback == "replay":
        written += elements
        read += inputs * sum(Fraction(1, 2**place) for place in range(length + 1))
    return read, written, len(slots) * elements + (inputs * (length + 1) if rollback == "replay" else Fraction(0))


@pytest.mark.parametrize("rollback", ["snapshots", "buffer", "replay"])
@pytest.mark.parametrize("model", RECURRENT)
def test_states_that_rejected_tokens_need(model, rollback):
    length, batch = 3, 2
    layers, elements, channels, taps, inputs = RECURRENT[model]
    step = decode(model, batch=batch, seq_len=100)
    after = apply(step, f"speculative:acceptance=1/2,length={length},draft_cost=0,rollback={rollback}")
    read, written, kept = moved_by_an_engine(elements, inputs, length, rollback)
    scan = next(operator for operator, _ in after.graph if operator.kind == "scan")
    window = next(operator for operator, _ in after.graph if operator.kind == "convolution")
    assert sum(count for operator, count in after.graph if operator.kind == "scan") == layers
    assert scan.byte_count(Storage.KV_CACHE, Direction.READ) == 2 * batch * read
    assert scan.byte_count(Storage.KV_CACHE, Direction.WRITE) == 2 * batch * written
    for way in Direction:
        assert window.byte_count(Storage.KV_CACHE, way) == 2 * batch * channels * (taps + length)
    single = {operator.name: operator for operator, _ in step.graph}
    again = Rational(15, 8) if rollback == "replay" else 0
    assert scan.flop_count == (length + 1 + again) * single[scan.name].flop_count
    assert window.flop_count == (length + 1) * single[window.name].flop_count
    grown = memory(after)[1] - memory(step)[1]
    attention = sum(
        count * 2 * batch * length * access.tensor.elements / access.tensor.space.sizes["t"] / batch
        for operator, count in step.graph
        for access in operator.writes
        if access.tensor.storage == "kv_cache" and "t" in access.tensor.axes
    )
    assert grown == attention + 2 * batch * layers * (kept - elements + channels * length)
    assert "recurrent layers" in " ".join(after.symbolic.statements)


def test_states_of_a_tree_and_of_a_draft():
    nodes, batch = 7, 2
    _, elements, *_ = RECURRENT["mamba2-2.7b"]
    step = decode("mamba2-2.7b", batch=batch, seq_len=100)
    for rollback in ("snapshots", "buffer"):
        after = apply(step, f"medusa:heads=3,nodes={nodes},acceptance=1/2,rollback={rollback}")["head_scan"]
        read, written, _ = moved_by_an_engine(elements, 0, nodes, rollback, tree=True)
        assert after.byte_count(Storage.KV_CACHE, Direction.READ) == 2 * batch * read
        assert after.byte_count(Storage.KV_CACHE, Direction.WRITE) == 2 * batch * written
    small = decode("mamba2-130m", batch=batch, seq_len=100)
    alone = apply(step, "speculative:length=3,acceptance=1/2,draft_cost=0")
    drafted = apply(step, "speculative:length=3,acceptance=1/2,draft=mamba2-130m")
    assert memory(drafted)[1] - memory(alone)[1] == 4 * memory(small)[1]
    mine = [(operator, count) for operator, count in drafted.graph if operator.name.startswith("draft.")]
    assert sum(n * op.byte_count() for op, n in mine) == 3 * small.graph.byte_count()


def test_batch_up_to_which_snapshots_pay():
    """``W (N - 1) / (S (q + 1 - 2 N))`` sequences, and with a buffer of snapshots ``q + 3`` for ``q + 1``: weights and states alone."""
    symbolic = symroof.load_model("mamba2-2.7b").decode(**{**WIDTHS, "seq_len": 100})
    kept = RECURRENT["mamba2-2.7b"]
    state = Rational(2 * kept[0] * kept[1])

    def moved(step):
        weights = sum(n * op.byte_count(Storage.WEIGHT) for op, n in step.graph if op.role != "embedding")
        return weights + sum(n * op.byte_count(Storage.KV_CACHE) for op, n in step.graph if op.kind == "scan")

    tokens, weights = Rational(31, 16), moved(symbolic).subs(b, 0)
    for rollback, more in (("snapshots", 6), ("buffer", 8)):
        after = apply(symbolic, f"speculative:acceptance=1/2,length=4,draft_cost=0,rollback={rollback}")
        edge = weights * (tokens - 1) / (state * (more - 2 * tokens))
        assert [sign((moved(after) / tokens - moved(symbolic)).subs(b, edge + step)) for step in (-1, 0, 1)] == [-1, 0, 1]


def test_a_draft_has_the_widths_of_its_own_checkpoint():
    small = symroof.load_model("llama-3.2-1b")
    for target in ("meta-llama-3.1-8b-instruct-awq-int4", "llama-3.1-8b"):
        step = symroof.load_model(target).decode(batch=1, seq_len=100)
        for given in (step, step.with_widths()):
            after = apply(given, "speculative:length=2,draft=llama-3.2-1b").with_widths()
            assert after.graph.weight_memory() - step.with_widths().graph.weight_memory() == 2 * small.parameters


def test_windows_and_experts_of_target_and_draft_are_apart():
    step = decode("gemma-2-9b", batch=1, seq_len=9000)
    after = apply(step, "speculative:acceptance=0.8,length=1,draft=gemma-2-2b")
    draft = decode("gemma-2-2b", batch=1, seq_len=9000)
    assert sum(n * op.flop_count for op, n in after.graph if op.name.startswith("draft.")) == draft.graph.flop_count
    mixture = decode("mixtral-8x7b-v0.1", batch=1, seq_len=64)
    priced = apply(mixture, "speculative:acceptance=0.8,length=2,draft_cost=1/2")
    assert sum(n * op.byte_count() for op, n in priced.graph if op.name.startswith("draft.")) == mixture.graph.byte_count()
    most = apply(decode("mixtral-8x7b-v0.1", batch=1, seq_len=64, experts="at-most"), "speculative:acceptance=0.8,length=2,draft_cost=1/2")
    assert most.graph.definitions[X] == 6
    for chain in ([], ["expert-routing"], ["expert-routing", "early-exit:depth=1/2"]):
        routed = apply(mixture, *chain, "speculative:acceptance=0.8,length=2,draft_cost=1/2")
        plain = apply(mixture, *chain)
        assert sum(n * op.byte_count() for op, n in routed.graph if op.name.startswith("draft.")) == plain.graph.byte_count()
        assert routed.graph.definitions[X] == 8 * (1 - Rational(3, 4) ** 3)


@pytest.mark.parametrize("model", DENSE)
def test_order_of_a_chain_does_not_matter(model):
    step = decode(model, batch=2, seq_len=64)
    chain = ["speculative:acceptance=0.8,length=2,draft_cost=0", "contextual-sparsity:share=1/3", "skip-layers:depth=1/2"]
    every = [costs(apply(step, *order).graph) for order in itertools.permutations(chain)]
    assert all(one == every[0] for one in every)


def test_nothing_drafted_nothing_accepted():
    step = decode("llama-2-7b", batch=1, seq_len=64)
    lost = apply(step, "speculative:acceptance=0,length=4,draft_cost=1/10")
    assert lost.graph.tokens == 1
    assert memory(lost)[0] == memory(step)[0]  # a draft that is a cost alone has no memory
    assert seconds(lost) > seconds(step) * Rational(14, 10)
    won = apply(step, "speculative:acceptance=1,length=4,draft_cost=0")
    assert seconds(won) == seconds(lost, "") * 0 + seconds(apply(step, "speculative:acceptance=0,length=4,draft_cost=0")) / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accepted", "batch", "cost"), [("0.5", 1, "0.1"), ("0.8", 1, "0.05"), ("0.8", 100, "0.1"), ("0.3", 160, "0.2"), ("1", 64, "0.1")]
)
def test_best_length_by_brute_force(accepted, batch, cost):
    step = decode("llama-2-7b", batch=batch, seq_len=64)
    best = best_length(step, symroof.technique(f"speculative:acceptance={accepted},draft_cost={cost}"), DEVICE)
    tried = [seconds(step)]
    for length in range(1, max(best.length, 3) + 6):
        tried += [seconds(apply(step, f"speculative:acceptance={accepted},length={length},draft_cost={cost}"))]
    assert best.time_expr == min(tried)
    assert best.length == tried.index(min(tried))
    assert best.plain_expr == tried[0]
    falls = [bool(right < left) for left, right in itertools.pairwise(tried)]
    assert falls == sorted(falls, reverse=True), "it falls, then rises"


@pytest.mark.slow
def test_best_length_with_experts():
    """Experts saturate, so that time per token may rise, fall and rise: every length is gone through."""
    step = decode("mixtral-8x7b-v0.1", batch=1, seq_len=64)
    for chain in ([], ["expert-routing"]):
        one = apply(step, *chain)
        best = best_length(one, symroof.technique("speculative:acceptance=0.6,draft_cost=0.05"), DEVICE)
        tried = [seconds(one)] + [seconds(apply(one, f"speculative:acceptance=0.6,length={n},draft_cost=0.05")) for n in range(1, 12)]
        assert (best.length, best.time_expr) == (tried.index(min(tried)), min(tried))


@pytest.mark.parametrize("batch", [1, 32, 128])
def test_least_acceptance(batch):
    """alpha > T(1)/T(0) - 1: a length of 1 pays just above it, and no length just below."""
    step = decode("llama-2-7b", batch=batch, seq_len=64)
    least = least_acceptance(step, symroof.technique("speculative:draft_cost=0.05"), DEVICE).exact
    assert least > Rational(1, 20)
    above, below = (Rational(int(least * 10**6) + more, 10**6) for more in (1, 0))
    if least < 1:
        assert seconds(apply(step, f"speculative:acceptance={above},length=1,draft_cost=0.05")) < seconds(step)
        assert best_length(step, symroof.technique(f"speculative:acceptance={below},draft_cost=0.05"), DEVICE).length == 0


@pytest.mark.slow
def test_batch_where_it_turns_into_a_loss():
    step = decode("llama-2-7b", seq_len=64)
    found = pays_at_all(step, symroof.technique("speculative:acceptance=0.7,draft_cost=0.1"), DEVICE)
    assert [one.bound for one in found.intervals] == ["pays", "loses"]
    edge = int(found.edges_expr[0])
    for batch, pays in ((edge, True), (edge + 1, False)):
        one = decode("llama-2-7b", batch=batch, seq_len=64)
        assert (best_length(one, symroof.technique("speculative:acceptance=0.7,draft_cost=0.1"), DEVICE).length > 0) == pays
    fixed = symroof.payoff(step, apply(step, "speculative:acceptance=0.7,length=5,draft_cost=0.1"), over="batch", hardware=DEVICE)
    assert fixed.edges[0] < found.edges_expr[0]
    for batch in (1, int(fixed.edges[0]), int(fixed.edges[0]) + 1, 300):
        one = decode("llama-2-7b", batch=batch, seq_len=64)
        ratio = seconds(one) / seconds(apply(one, "speculative:acceptance=0.7,length=5,draft_cost=0.1"))
        assert fixed.speedup_expr(batch) == ratio
        assert (ratio > 1) == (batch < fixed.edges[0])


def test_at_which_acceptance():
    step = decode("llama-2-7b", batch=16, seq_len=64)
    found = symroof.payoff(step, apply(step, "speculative:length=4,draft_cost=1/10"), over="acceptance", hardware=DEVICE)
    assert [one.bound for one in found.intervals] == ["loses", "pays"]
    for share in (Rational(1, 10), Rational(9, 10)):
        after = apply(step, f"speculative:length=4,draft_cost=1/10,acceptance={share}")
        assert (seconds(after) < seconds(step)) == (share > found.edges_expr[0])


@pytest.mark.parametrize(("rows", "tokens"), [("all", 2 * 8), ("last", 2)])
@pytest.mark.parametrize("model", [*DENSE, "mixtral-8x7b-v0.1", "opt-350m"])
def test_medusa(model, rows, tokens):
    heads, nodes, context = 3, 7, 50
    step = decode(model, batch=2, seq_len=context)
    after = apply(step, f"medusa:heads={heads},nodes={nodes},acceptance=1/2,rows={rows}")
    sizes = symroof.load_model(model).dimensions
    width = step["lm_head"].space.sizes[step["lm_head"].reads[0].tensor.axes[-1]]
    vocabulary = sizes[symroof.load_model(model).decode(symbolic=True)["lm_head"].space.sizes["v"]]
    assert after.graph.tokens == Rational(15, 8)
    assert memory(after)[0] - memory(step)[0] == 2 * heads * (width**2 + width * vocabulary)
    extra = {name: cost for name, cost in costs(after.graph).items() if name.startswith("medusa.")}
    assert all(count == heads for _, _, count in extra.values())
    assert extra["medusa.lm_head"][0] == 2 * tokens * width * vocabulary
    assert extra["medusa.linear"][0] == 2 * tokens * width**2
    assert extra["medusa.linear"][1] == 2 * (width**2 + 2 * tokens * width)
    assert extra["medusa.lm_head"][1] == 2 * (width * vocabulary + tokens * (width + vocabulary))
    assert extra["medusa.add"] == (tokens * width, 2 * 3 * tokens * width, heads)
    assert (
        after["up_proj" if "mixtral" not in model else "router"].flop_count
        == (nodes + 1) * step["up_proj" if "mixtral" not in model else "router"].flop_count
    )
    pairs = (nodes + 1) * (context + nodes)
    assert after["qk_matmul"].flop_count * context == pairs * step["qk_matmul"].flop_count


def test_medusa_limits_and_loss():
    step = decode("llama-2-7b", seq_len=64)
    one = decode("llama-2-7b", batch=1, seq_len=64)
    assert [apply(one, f"medusa:heads=4,nodes=4,acceptance={end}").graph.tokens for end in (0, 1)] == [1, 5]
    chain = apply(one, "medusa:heads=4,nodes=4,acceptance=0.6")
    drafted = apply(one, "speculative:length=4,acceptance=0.6,draft_cost=0")
    assert {name: cost for name, cost in costs(chain.graph).items() if name in costs(drafted.graph)}.keys() == costs(drafted.graph).keys()
    assert all(costs(chain.graph)[name] == costs(drafted.graph)[name] for name in ("up_proj", "lm_head", "final_norm", "embedding"))
    found = symroof.payoff(step, apply(step, "medusa:heads=4,nodes=20,acceptance=0.6"), over="batch", hardware=DEVICE)
    assert [interval.bound for interval in found.intervals] == ["pays", "loses"]
    for batch in (int(found.edges_expr[0]), int(found.edges_expr[0]) + 1):
        here = decode("llama-2-7b", batch=batch, seq_len=64)
        assert (seconds(apply(here, "medusa:heads=4,nodes=20,acceptance=0.6")) < seconds(here)) == (batch < found.edges_expr[0])


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("llama-2-70b", "speculative:draft=opt-125m", "vocabulary of 50272 tokens, llama-2-70b of 32000"),
        ("llama-2-70b", "speculative:draft=llama-2-7b,draft_cost=0.1", "not both"),
        ("llama-2-70b", "speculative:draft=dit-xl-2", "dit-xl-2 generates no tokens"),
        ("llama-2-7b", "speculative:rollback=replay", "no layer of this model keeps a state"),
        ("mamba-130m", "speculative:rollback=redo", "known: snapshots, buffer, replay"),
        ("mamba-130m", "medusa:rollback=replay", "known: snapshots, buffer"),
        ("mamba-130m", "speculative:draft_cost=0 mixed-batch", "states for every token that is verified"),
        ("llama-2-7b", "speculative medusa", "tokens per sequence; expected one"),
        ("llama-2-7b", "speculative:acceptance=1.1", "at most 1"),
        ("llama-2-7b", "speculative:length=0", "from 1 on"),
        ("llama-2-7b", "medusa:heads=5,nodes=4", "at least 5 nodes"),
    ],
)
def test_refusals(model, text, message):
    with pytest.raises(symroof.SymroofError, match=message) as told:
        apply(decode(model, batch=2, seq_len=64), *text.split())
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_refusals_of_steps_and_questions():
    prompt = symroof.load_model("llama-2-7b").prefill(batch=1, seq_len=64)
    viewer = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, accounting="llm-viewer")
    for name in ("speculative", "medusa"):
        with pytest.raises(symroof.SymroofError, match="this is a prefill step; expected decode"):
            apply(prompt, name)
        with pytest.raises(symroof.SymroofError, match="needs accounting exact"):
            apply(viewer, name)
    step = decode("mixtral-8x7b-v0.1", batch=1, seq_len=64)
    with pytest.raises(symroof.SymroofError, match="saturate with the length"):
        least_acceptance(step, symroof.technique("speculative:draft_cost=0.1"), DEVICE)
    with pytest.raises(symroof.SymroofError, match="length 4 is given"):
        best_length(step, symroof.technique("speculative:length=4"), DEVICE)
    with pytest.raises(symroof.SymroofError, match="acceptance as a number"):
        best_length(step, symroof.technique("speculative"), DEVICE)
    with pytest.raises(symroof.SymroofError, match="no length up to 1024 is proved best"):
        best_length(step, symroof.technique("speculative:acceptance=1,draft_cost=0"), DEVICE)
    assert Integer(1) == apply(step, "speculative:acceptance=0").symbolic.tokens


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b-v0.1"])
def test_unions_are_over_all_tokens_that_are_verified(model):
    """Speculation behind a union over tokens: as many more tokens in it."""
    step = decode(model, batch=2, seq_len=64)
    drafted = "speculative:acceptance=0.8,length=2,draft_cost=0"
    exits = apply(step, "early-exit:depth=1/3,exits=independent", drafted)
    plain = apply(step, drafted)
    before, after = costs(plain.graph), costs(exits.graph)
    assert after["k_proj"][:2] == after["k_proj.skipped"][:2] == before["k_proj"][:2]
    assert after["k_proj.skipped"][2] == before["k_proj"][2] * Rational(2, 3) ** 6
    for name in ("q_proj", "qk_matmul", "out_proj", "mlp_norm"):
        assert after[name][0] * after[name][2] == before[name][0] * before[name][2] / 3
        read = exits[name].byte_count(Storage.WEIGHT) * after[name][2]
        assert read == plain[name].byte_count(Storage.WEIGHT) * before[name][2] * (1 - Rational(2, 3) ** 6)
    with pytest.raises(symroof.SymroofError, match="skip layers first"):
        apply(step, "early-exit:exits=geometric,exit=1/3", "skip-layers:layers=1")
    skipped = apply(step, "skip-layers:layers=8", "early-exit:exits=geometric,exit=1/3")
    assert skipped.graph.weight_memory() == apply(step, "skip-layers:layers=8").graph.weight_memory()
    assert symroof.analyze(skipped, DEVICE).total.time_expr.is_Rational


def test_break_even_compares_traffic_per_token():
    """A step that makes N tokens may move N times as many bytes."""
    step = decode("llama-2-7b", seq_len=1024)
    after = apply(step, "speculative:acceptance=0.8,length=4,draft_cost=0.1")
    even = break_even(step, after, over="batch").traffic_expr
    numbers = {**step.symbolic.definitions, **after.symbolic.definitions, **after.values, **step.values}
    batch = even.subs(numbers)
    assert batch.is_Rational
    moved = [one.symbolic.byte_count().subs(one.symbolic.definitions).subs({**one.values, b: batch}) for one in (step, after)]
    assert moved[1] == moved[0] * sum(Rational(4, 5) ** count for count in range(5))
