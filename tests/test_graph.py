"""Graphs: sums, dependencies, live activations, binding."""

from __future__ import annotations

import pytest
from sympy import Integer, Max, Rational

import symroof
from symroof import symbols
from symroof.errors import EinsumError
from symroof.operators.block import Block
from symroof.operators.elementwise import add
from symroof.operators.graph import Graph
from symroof.operators.linear import linear
from symroof.operators.liveness import largest
from symroof.operators.tensor import Space, Storage, Tensor, axes_of
from symroof.symbols import b, d, f, s
from symroof.techniques.registry import chain
from tests.steps import step

SPACE = Space({"b": b, "s": s, "d": d, "f": f})


def mlp(repeats: int = 1) -> Graph:
    """x + down(up(x)), as a block that is repeated."""
    x = Tensor("x", axes_of("b s d"), Storage.ACTIVATION, SPACE)
    up = linear("up", "b s d, d f -> b s f", x)
    down = linear("down", "b s f, f d -> b s d", up.result)
    return Graph((Block("layer", (up, down, add("residual", x, down.result, into=x)), Integer(repeats)),))


def elements(graph: Graph, **sizes: int) -> int:
    """Peak live activations in elements (of one byte)."""
    from symroof import symbols

    values = {getattr(symbols, name): Integer(size) for name, size in sizes.items()}
    return int(graph.bind(values | {symbols.a: Integer(8)}).activation_memory())


def test_peak_is_at_the_operator_that_holds_most() -> None:
    # up: x + up; down: x + up + down; residual: x + down + the new x.
    assert elements(mlp(), b=1, s=1, d=10, f=40) == 10 + 40 + 10
    assert elements(mlp(), b=1, s=1, d=10, f=5) == 30
    assert elements(mlp(3), b=2, s=3, d=10, f=40) == 6 * 60


def test_a_symbolic_peak_keeps_only_what_can_be_the_maximum() -> None:
    peak = mlp().activation_memory()
    assert peak.func is Max
    assert {argument.expand() for argument in peak.args} == {
        (b * s * (2 * d + f) * Tensor("x", ("b",), Storage.ACTIVATION, SPACE).bits / 8).expand(),
        (3 * b * s * d * Tensor("x", ("b",), Storage.ACTIVATION, SPACE).bits / 8).expand(),
    }


def test_a_value_needed_later_stays_alive() -> None:
    x = Tensor("x", axes_of("b s d"), Storage.ACTIVATION, SPACE)
    first, second = (linear(name, "b s d, d f -> b s f", x) for name in ("first", "second"))
    chain = linear("chain", "b s f, f d -> b s d", second.result)
    last = add("last", first.result, second.result)
    graph = Graph((Block("one", (first, second, chain, last)),))
    # at chain: x is given and never freed, first waits for last, second is read, chain is written.
    assert elements(graph, b=1, s=1, d=10, f=40) == max(10 + 40 + 40 + 10, 10 + 40 + 40 + 40)


def test_blocks_pass_on_what_later_blocks_need() -> None:
    x = Tensor("x", axes_of("b s d"), Storage.ACTIVATION, SPACE)
    kept = linear("kept", "b s d, d f -> b s f", x)
    idle = add("idle", x, x)
    use = linear("use", "b s f, f d -> b s d", kept.result)
    graph = Graph((Block("first", (kept,)), Block("second", (idle,)), Block("third", (use,))))
    assert elements(graph, b=1, s=1, d=10, f=40) == 10 + 40 + 10


def test_largest_of_incomparable_sizes() -> None:
    assert largest([b * d, b * f]) == Max(b * d, b * f)
    assert largest([b * d, 2 * b * d, b * d + 1]) in (Max(2 * b * d, b * d + 1), Max(b * d + 1, 2 * b * d))
    half = Rational(1, 2)
    assert largest([b * d, b * d * (1 - half**b)]) == b * d
    assert {*largest([b * d, 3 * b * d * (1 - half**b) - b]).args} == {b * d, 3 * b * d * (1 - half**b) - b}, "it depends on b"
    assert largest([b * d, b * d / (1 + f)]) == b * d
    assert largest([Integer(3), Integer(7)]) == 7
    assert largest([]) == 0


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["llama-2-7b", "opt-125m", "opt-350m", "gpt-j-6b", "chatglm3-6b", "dit-s-2"])
def test_totals_are_sums_over_operators(name: str, phase: str) -> None:
    graph = getattr(symroof.load_model(name), phase)(batch=3, seq_len=17, weight_bits=4, activation_bits=16, kv_bits=8).graph
    assert graph.flop_count == sum(count * operator.flop_count for operator, count in graph)
    parts = [graph.byte_count(storage) for storage in Storage]
    assert graph.byte_count() == sum(parts)
    assert graph.weight_memory() == graph.parameter_count() * 4 / 8


@pytest.mark.parametrize("name", ["llama-2-7b", "opt-350m", "gpt-j-6b", "chatglm3-6b", "dit-s-2"])
def test_every_activation_is_written_before_it_is_read(name: str) -> None:
    """Data dependencies: what a step reads it has computed, but for what comes from outside."""
    graph = symroof.load_model(name).prefill(symbolic=True).graph
    outside = {"cos_sin", "patches", "timestep_features"}
    written: set[Tensor] = set()
    for operator, _ in graph:
        for access in operator.reads:
            tensor = access.tensor
            assert tensor.storage is Storage.WEIGHT or tensor in written or tensor.name in outside, (operator.name, tensor.name)
        written |= {access.tensor for access in operator.writes}


def test_every_result_is_used() -> None:
    """Nothing is computed for nobody, but for the last operator."""
    for name in ("llama-2-7b", "opt-350m", "gpt-j-6b", "dit-s-2"):
        graph = symroof.load_model(name).prefill(symbolic=True).graph
        read = {access.tensor for operator, _ in graph for access in operator.reads}
        unused = [operator.name for operator, _ in graph if operator.result not in read]
        assert unused in (["lm_head"], ["final_proj"]), (name, unused)


def test_kv_cache_by_hand() -> None:
    model = symroof.load_model("llama-2-70b")
    step = model.decode(batch=2, seq_len=100, weight_bits=16, activation_bits=16, kv_bits=8)
    assert step.memory["kv_cache"].magnitude == 2 * 100 * 80 * 2 * 8 * 128
    assert step.graph.byte_count("kv_cache", "write") == 2 * 80 * 2 * 8 * 128
    assert step.graph.byte_count("kv_cache", "read") == 2 * 100 * 80 * 2 * 8 * 128


def test_an_unknown_operator_names_the_nearest() -> None:
    with pytest.raises(EinsumError, match=r"'q_prj' is not an operator of this step: did you mean q_proj"):
        symroof.load_model("llama-2-7b").decode()["q_prj"]


@pytest.mark.parametrize(
    "techniques", ["", "contextual-sparsity:share=1/10", "early-exit:depth=1/2,exits=independent", "memory-levels:tile=128"]
)
@pytest.mark.parametrize("name", ["opt-125m", "mixtral-8x7b-v0.1", "deepseek-v2-lite", "jamba-v0.1", "gemma-2-9b"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_what_is_alive_at_once_is_the_same_in_letters_and_in_numbers(phase: str, name: str, techniques: str) -> None:
    made = step(name, phase, batch=3, seq_len=50)
    try:
        made = made.apply(*chain([techniques])) if techniques else made
    except symroof.SymroofError:
        return
    for batch, length in ((1, 1), (3, 50), (700, 9), (2, 9000)):
        values = {**made.values, symbols.b: Integer(batch), symbols.s if phase == "prefill" else symbols.t: Integer(length)}
        graph = made.symbolic.bind(values)
        known = {**graph.definitions, **values}
        assert made.symbolic.activation_memory().xreplace(known).xreplace(known) == graph.activation_memory(), (batch, length)


def test_selectors_combine_as_sets_do() -> None:
    import symroof
    from symroof.operators.facts import Kind
    from symroof.operators.select import by_kind, by_name, select

    graph = symroof.load_model("llama-2-7b").decode(symbolic=True).symbolic
    norms, ups = ({one.name for one in select(graph, match)} for match in (by_kind(Kind.NORM), by_name("up_proj")))
    every = {one.name for one, _ in graph}
    assert norms == {"attn_norm", "mlp_norm", "final_norm"}
    assert {one.name for one in select(graph, by_kind(Kind.NORM) | by_name("up_proj"))} == norms | ups
    assert {one.name for one in select(graph, by_kind(Kind.NORM) & by_name("attn_norm"))} == {"attn_norm"}
    assert {one.name for one in select(graph, ~by_kind(Kind.NORM))} == every - norms
