"""The catalogue of operators: every row symbolically, in numbers, with units, and against its docstring."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sympy import Expr, Integer, ceiling, diff, simplify

from symroof import symbols
from symroof.errors import EinsumError
from symroof.operators import attention, elementwise, experts, latent_attention, linear, state_space
from symroof.operators.attention import CACHE, QUERY, SCORES
from symroof.operators.facts import Kind
from symroof.operators.operator import Direction, Operator
from symroof.operators.query_blocks import QueryBlocks, cache_passes
from symroof.operators.tensor import Access, Space, Storage, Tensor, axes_of
from symroof.symbols import R, a, b, c, d, e, f, h, k, r, s, t, v, w
from symroof.units import BYTE, FLOP, INTENSITY

SIZES = {"b": b, "s": s, "t": t, "d": d, "f": f, "k": k, "g": h / k, "e": e, "v": v, "r": r, "h": h, "s_c": s}
SIZES |= {symbol.name: symbol for symbol in symbols.VOCABULARY if "_" in symbol.name or symbol.name in "EKX"}
SIZES |= {
    "mixed": 2 * symbols.k_l * symbols.e_k + symbols.h_l * symbols.e_l,
    "gates": 2 * symbols.h_l,
    "shared": 2 * symbols.g_s * symbols.d_s,
}
SPACE = Space(SIZES)


def tensor(name: str, axes: str, storage: Storage = Storage.ACTIVATION, space: Space = SPACE) -> Tensor:
    return Tensor(name, axes_of(axes), storage, space)


def _attention(space: Space = SPACE) -> tuple[Tensor, Tensor, Tensor]:
    q = Tensor("q", QUERY, Storage.ACTIVATION, space)
    return q, Tensor("keys", CACHE, Storage.KV_CACHE, space), Tensor("values", CACHE, Storage.KV_CACHE, space)


def _scores(space: Space = SPACE) -> Operator:
    q, keys, _ = _attention(space)
    return attention.scores(q, keys)


def _weighted_sum() -> Operator:
    probabilities = Tensor("probabilities", linear.parse(SCORES)[1], Storage.ACTIVATION, SPACE)
    return attention.weighted_sum(probabilities, _attention()[2])


def _latent(width: str) -> tuple[Tensor, Tensor]:
    return tensor("q", f"b s h {width}"), tensor("q_rotary", "b s h r")


def _cached() -> tuple[Tensor, Tensor]:
    return tensor("latent", "b t r_kv", Storage.KV_CACHE), tensor("k_rotary", "b t r", Storage.KV_CACHE)


def _expanded() -> tuple[Tensor, Tensor, Tensor]:
    return tensor("keys", "b t h e_n"), _cached()[1], tensor("values", "b t h e_v")


def _selective_scan() -> Operator:
    x, steps, gate = (tensor(name, "b s d_i") for name in ("x", "steps", "gate"))
    both = Access(tensor("B", "b s d_s")), Access(tensor("C", "b s d_s"))
    return state_space.selective_scan("scan", x, steps, both, Access(gate))


def _together(steps: tuple[Operator, ...]) -> Operator:
    """Several operators as one, with all that they move."""
    first, *rest = steps
    work, reads, writes = (tuple(part for step in steps for part in getattr(step, name)) for name in ("work", "reads", "writes"))
    assert rest
    return replace(first, work=work, reads=reads, writes=writes)


@dataclass(frozen=True)
class Row:
    """One operator of the catalogue, built as its docstring has it."""

    documented: Callable[..., object]
    operator: Operator
    kind: Kind


CATALOGUE = {
    "linear": Row(linear.linear, linear.linear("up_proj", "b s d, d f -> b s f", tensor("x", "b s d")), Kind.MATMUL),
    "scores": Row(attention.scores, _scores(), Kind.MATMUL),
    "weighted_sum": Row(attention.weighted_sum, _weighted_sum(), Kind.MATMUL),
    "flash": Row(attention.flash, attention.attention(*_attention(), fused=True)[0], Kind.FUSED_ATTENTION),
    "softmax": Row(attention.softmax, attention.softmax("softmax", _scores().result), Kind.SOFTMAX),
    "norm": Row(elementwise.norm, elementwise.norm("norm", tensor("x", "b s d"), elementwise.Norm.RMS), Kind.NORM),
    "add": Row(elementwise.add, elementwise.add("add", tensor("x", "b s d"), tensor("y", "b s d")), Kind.ELEMENTWISE),
    "activation": Row(
        elementwise.activation,
        elementwise.activation("act", "silu", tensor("up", "b s f"), tensor("gate", "b s f")),
        Kind.ELEMENTWISE,
    ),
    "rotary": Row(attention.rotary, attention.rotary("turn", _attention()[0], tensor("table", "s r")), Kind.ROTARY),
    "absorbed": Row(
        latent_attention.absorbed, _together(latent_attention.absorbed(*_latent("r_kv"), *_cached(), fused=False)), Kind.MATMUL
    ),
    "decompressed": Row(
        latent_attention.decompressed,
        _together(latent_attention.decompressed(*_latent("e_n"), *_expanded(), fused=False)),
        Kind.MATMUL,
    ),
    "expert_linear": Row(
        experts.expert_linear,
        experts.expert_linear("expert_up_proj", "b s K d, E d f_e -> b s K f_e", tensor("x", "b s d")),
        Kind.MATMUL,
    ),
    "combine": Row(experts.combine, experts.combine("combine", tensor("y", "b s K d"), tensor("scores", "b s E")), Kind.ELEMENTWISE),
    "convolution": Row(
        state_space.causal_convolution,
        state_space.causal_convolution("conv", tensor("x", "b s d_i"), "d_i", bias=True),
        Kind.CONVOLUTION,
    ),
    "selective_scan": Row(state_space.selective_scan, _selective_scan(), Kind.SCAN),
    "head_scan": Row(
        state_space.head_scan,
        state_space.head_scan("scan", *(Access(tensor(axes, f"b s {axes}")) for axes in ("h_s e_s", "shared", "h_s"))),
        Kind.SCAN,
    ),
    "delta_rule": Row(
        state_space.delta_rule, state_space.delta_rule("delta", tensor("mixed", "b s mixed"), tensor("gates", "b s gates")), Kind.SCAN
    ),
    "embedding": Row(
        linear.embedding,
        linear.embedding("embedding", tensor("table", "v d", Storage.WEIGHT), axes_of("b s d")),
        Kind.EMBEDDING,
    ),
}

rows = pytest.mark.parametrize("row", CATALOGUE.values(), ids=CATALOGUE.keys())


def read_formula(text: str) -> Expr:
    """A docstring's formula: letters, whole numbers, + - / ( ), and a space for a product."""
    letters = {symbol.name: symbol for symbol in symbols.VOCABULARY} | {"n": ceiling(s / R)}
    tokens = re.findall(r"[A-Za-z]+(?:_[a-z]+)?|[0-9]+|[-+/()]", text)
    assert "".join(tokens) == text.replace(" ", ""), text

    def total() -> Expr:
        value = product()
        while tokens and tokens[0] in "+-":
            value = value + product() if tokens.pop(0) == "+" else value - product()
        return value

    def product() -> Expr:
        value = atom()
        while tokens and tokens[0] not in "+-)":
            if tokens[0] == "/":
                tokens.pop(0)
                value = value / atom()
            else:
                value = value * atom()
        return value

    def atom() -> Expr:
        token = tokens.pop(0)
        if token == "(":
            value = total()
            assert tokens.pop(0) == ")"
            return value
        return Integer(token) if token.isdigit() else letters[token]

    value = total()
    assert not tokens
    return value


@rows
def test_the_docstring_s_formulas_are_the_operator_s(row: Row) -> None:
    declared = dict(re.findall(r"^ *(FLOPs|traffic) +``(.+)``$", row.documented.__doc__ or "", re.MULTILINE))
    assert set(declared) == {"FLOPs", "traffic"}
    assert simplify(read_formula(declared["FLOPs"]) - row.operator.flop_count) == 0
    assert simplify(read_formula(declared["traffic"]) - row.operator.byte_count()) == 0


@rows
def test_kind_units_and_books(row: Row) -> None:
    operator = row.operator
    assert operator.kind is row.kind
    assert operator.flops.units == FLOP
    assert operator.traffic.units == BYTE
    assert operator.intensity.units == INTENSITY
    assert simplify(operator.intensity.magnitude * operator.byte_count() - operator.flop_count) == 0
    booked = [operator.byte_count(place, way) for place in Storage for way in Direction]
    assert simplify(sum(booked) - operator.byte_count()) == 0
    both = operator.byte_count(direction=Direction.READ) + operator.byte_count(direction=Direction.WRITE)
    assert simplify(both - operator.byte_count()) == 0


@rows
def test_monotone(row: Row) -> None:
    """More batch is never less work or traffic; wider elements are never less traffic, and never other work."""
    operator = row.operator
    assert diff(operator.flop_count, b).is_nonnegative
    assert diff(operator.byte_count(), b).is_positive
    for bits in (w, a, c):
        assert diff(operator.byte_count(), bits).is_nonnegative
        assert diff(operator.flop_count, bits) == 0


@pytest.mark.slow
@rows
@given(data=st.data())
def test_numbers_equal_the_formula(row: Row, data: st.DataObject) -> None:
    """A graph bound to numbers gives what the formula gives at those numbers."""
    from symroof.operators.block import Block
    from symroof.operators.graph import Graph

    group, kv_heads = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    free = {symbol: Integer(data.draw(st.integers(1, 64), str(symbol))) for symbol in (b, s, t, d, f, e, v, r, w, a, c, R)}
    values = free | {k: Integer(kv_heads), h: Integer(group * kv_heads)}
    bound = Graph((Block("one", (row.operator,)),)).bind(values)[row.operator.name]
    assert bound.flop_count == row.operator.flop_count.xreplace(values)
    assert bound.byte_count() == row.operator.byte_count().xreplace(values)


def test_causal_pairs() -> None:
    causal = Space(SIZES, causal=True)
    pairs = causal.points(("s", "t"))
    assert simplify(pairs - (s * t - s * (s - 1) / 2)) == 0
    assert _scores(causal).flop_count == 2 * b * h * e * pairs
    for queries, context in [(1, 1), (1, 9), (4, 4), (3, 7)]:
        counted = sum(position <= context - queries + query for query in range(queries) for position in range(context))
        assert pairs.xreplace({s: Integer(queries), t: Integer(context)}) == counted


@pytest.mark.parametrize("causal", [True, False])
def test_flash_attention_reads_the_rows_its_blocks_need(causal: bool) -> None:
    """Against a loop over blocks that counts every row of the cache it streams."""
    for queries, context, block in [(1, 5, 4), (8, 8, 4), (9, 9, 4), (5, 12, 2), (7, 7, 16), (6, 6, 1)]:
        space = Space(SIZES | {"s": Integer(queries), "t": Integer(context)}, causal=causal)
        counted = 0
        for start in range(0, queries, block):
            last = min(start + block, queries) + context - queries
            counted += last if causal else context
        passes = cache_passes(space).xreplace({R: Integer(block)})
        assert passes * context == counted


def test_flash_attention_with_one_block_is_the_fused_minimum() -> None:
    """A block of all queries: Q, K, V and the output once each, and no score in memory."""
    (fused,) = attention.attention(*_attention(Space(SIZES, causal=False)), fused=True)
    qk, smax, sv = attention.attention(*_attention(), fused=False)
    scores_moved = qk.writes[0].byte_count + smax.byte_count() + sv.reads[0].byte_count
    assert simplify(qk.byte_count() + smax.byte_count() + sv.byte_count() - scores_moved - fused.byte_count().subs(R, s)) == 0
    assert simplify(qk.flop_count + smax.flop_count + sv.flop_count - fused.flop_count) == 0


def test_block_rows_on_published_chips() -> None:
    """164 KiB of shared memory, FP16, heads of 128: ceil(2 M / (a e)) = 164 rows, capped at 128, shared by the group."""
    values = {symbols.M: Integer(164 * 1024), a: Integer(16), e: Integer(128), h: Integer(64)}
    (fused,) = attention.attention(*_attention(Space(SIZES | {"g": h / k})), fused=True)
    rows_of = QueryBlocks(rows=None, shared=False).positions_of([fused])
    assert rows_of.xreplace(values | {k: Integer(64)}) == 128
    assert rows_of.xreplace(values | {k: Integer(8)}) == 16
    assert rows_of.xreplace(values | {k: Integer(1), h: Integer(512)}) == 1


BROKEN = {
    "q: the einsum needs axes 'b s d', tensor 'x' has 'b s f'": lambda: linear.contraction(
        "q", "b s d, d f -> b s f", _access("b s f"), _access("b s f")[0]
    ),
    "'b s d, d f' is not an einsum: write it like 'b s d, d f -> b s f'": lambda: linear.parse("b s d, d f"),
    "'b s d, d f -> b s z' is not an einsum": lambda: linear.parse("b s d, d f -> b s z"),
    "axis 'z' has no size": lambda: tensor("x", "b z"),
    "tensor 'x' has axis 'b' twice": lambda: tensor("x", "b b"),
}


def _access(axes: str):
    from symroof.operators.tensor import Access

    return Access(tensor("x", axes)), Access(tensor("weight", "d f", Storage.WEIGHT))


@pytest.mark.parametrize("message", BROKEN)
def test_a_wrong_einsum_is_refused(message: str) -> None:
    with pytest.raises(EinsumError) as error:
        BROKEN[message]()
    assert message in str(error.value)


def test_the_intensity_of_a_square_product_of_bytes() -> None:
    """2 n^3 FLOPs and 3 n^2 elements of one byte: two thirds of n."""
    n = Integer(96)
    values = {b: Integer(1), s: n, d: n, f: n, a: Integer(8), w: Integer(8)}
    assert CATALOGUE["linear"].operator.intensity.magnitude.xreplace(values) == 2 * n / 3


def test_a_bias_costs_bytes_and_no_flops() -> None:
    x = tensor("x", "b s d")
    plain, biased = (linear.linear("up", "b s d, d f -> b s f", x, bias=bias) for bias in (False, True))
    assert biased.flop_count == plain.flop_count
    assert simplify(biased.byte_count() - plain.byte_count() - f * w / 8) == 0


def test_latex_shows_both_formulas() -> None:
    latex = CATALOGUE["linear"].operator._repr_latex_()
    assert latex == (
        r"$\displaystyle \text{up\_proj}:\quad F = 2 b d f s\ \mathrm{FLOP},"
        r"\quad B = \frac{a b d s + a b f s + d f w}{8}\ \mathrm{byte}$"
    )


def operations(formula: str) -> int:
    """Operations of a formula in x, calls and signs included: the count behind a cost per element."""
    import ast

    nodes = ast.walk(ast.parse(formula, mode="eval"))
    return sum(isinstance(node, ast.BinOp | ast.Call | ast.UnaryOp) for node in nodes)


COSTS = {
    "relu": "max(x, 0)",
    "silu": "x / (1 + exp(-x))",
    "gelu": "half * x * (1 + erf(x * c))",
    "gelu_tanh": "half * x * (1 + tanh(c * (x + k * x * x * x)))",
}


@pytest.mark.parametrize("name", COSTS)
def test_activation_costs_are_the_operations_of_their_formulas(name: str) -> None:
    assert elementwise.ACTIVATION_FLOPS[name] == operations(COSTS[name])


def test_norm_costs_are_the_operations_of_their_formulas() -> None:
    x = tensor("x", "b s d")
    # each element: its square, its share of the sum, the scaling, the weight
    rms = elementwise.norm("n", x, elementwise.Norm.RMS)
    assert rms.flop_count == (operations("total + x * x") + operations("x * scale * weight")) * b * s * d
    # its share of the mean, the subtraction, the square and its share, the scaling, weight and bias
    layer = elementwise.norm("n", x, elementwise.Norm.LAYER, bias=True)
    per_element = operations("total + x") + operations("x - mean") + operations("squares + y * y") + operations("y * scale * weight + bias")
    assert layer.flop_count == per_element * b * s * d


def test_adaptive_norm_of_dit() -> None:
    """``x (1 + scale) + shift``: the 1 is added once per image and component."""
    import symroof

    modulate = symroof.load_model("dit-s-2").prefill(symbolic=True)["attn_modulate"]
    assert simplify(modulate.flop_count - (operations("x * g + shift") * b * s * d + operations("1 + scale") * b * d)) == 0


def test_half_of_each_head_is_turned_in_chatglm() -> None:
    import symroof

    step = symroof.load_model("chatglm3-6b").prefill(batch=1, seq_len=1)
    assert step["q_rotary"].flop_count == 3 * 32 * 64
    assert symroof.load_model("gpt-j-6b").prefill(batch=1, seq_len=1)["q_rotary"].flop_count == 3 * 16 * 64


def test_a_group_reads_a_shared_tensor_once() -> None:
    """Two contractions over one latent cache, one of them over a part of it."""
    from symroof.operators.block import Block
    from symroof.operators.fusion import fuse
    from symroof.operators.graph import Graph
    from symroof.operators.operator import Work
    from symroof.operators.tensor import Access

    cache = tensor("cache", "b t e", Storage.KV_CACHE)
    q, scores, out = tensor("q", "b s e"), tensor("scores", "b s t"), tensor("out", "b s e")
    whole = Operator("whole", Kind.MATMUL, SPACE, (Work(axes_of("b s t e"), 2),), (Access(q), Access(cache)), (Access(scores),))
    part = Operator(
        "part", Kind.MATMUL, SPACE, (Work(axes_of("b s t e"), 2),), (Access(scores), Access(cache, axes_of("b t"))), (Access(out),)
    )
    group, _ = fuse(Graph((Block("one", (whole, part)),)), ["whole", "part"])
    assert simplify(group.byte_count(Storage.KV_CACHE) - b * t * e * c / 8) == 0
    assert simplify(group.byte_count(Storage.ACTIVATION) - 2 * b * s * e * a / 8) == 0


def test_a_group_writes_what_others_still_need() -> None:
    """The norm's result goes to q, k and v: fused with q alone it is written all the same."""
    import symroof
    from symroof.operators.fusion import fuse

    graph = symroof.load_model("llama-2-7b").decode(symbolic=True).graph
    group, _ = fuse(graph, ["attn_norm", "q_proj"])
    assert {access.tensor.name for access in group.writes} == {"attn_norm", "q_proj"}
    assert simplify(group.byte_count() - (2 * b * d * a + d * w + d * e * h * w + b * e * h * a) / 8) == 0


@pytest.mark.parametrize("window", [1, 2, 5, 8, 40])
@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize("queries", [1, 2, 7, 8, 9, 33])
def test_pairs_and_passes_of_a_window(queries: int, block: int, window: int) -> None:
    """Against a mask drawn cell by cell, and the rows each block of queries streams."""
    full = Space({"s": s, "t": s}, causal=True)
    banded = full.windowed(symbols.t_w)
    known = {s: Integer(queries), symbols.t_w: Integer(min(queries, window)), R: Integer(block)}
    seen = [[max(0, row - window + 1), row + 1] for row in range(queries)]
    assert banded.points(("s", "t")).xreplace(known) == sum(last - first for first, last in seen)
    as_flash_attention = [range(queries)[start : start + block] for start in range(0, queries, block)]
    rows_read = sum(seen[rows[-1]][1] - seen[rows[0]][0] for rows in as_flash_attention)
    assert cache_passes(banded).xreplace(known) * queries == rows_read
    assert banded.sizes["z"] == symbols.t_w
    one = Space({"s": Integer(1), "t": t}, causal=True).windowed(symbols.t_w)
    assert (one.points(("s", "t")), cache_passes(one)) == (symbols.t_w, 1)


@pytest.mark.parametrize("mla", ["absorbed", "decompressed"])
def test_fused_latent_attention_reads_the_cache_of_a_decode_step_once(mla: str) -> None:
    from symroof.architectures.model import load_model

    steps, fused = (
        load_model("deepseek-v2-lite").decode(symbolic=True, mla=mla, flash_attention=flash).symbolic.byte_count(Storage.KV_CACHE)
        for flash in (False, True)
    )
    shared = b * c * symbols.r_kv * t / 8 * symbols.L if mla == "absorbed" else 0  # one tensor is keys and values
    layers = {symbol: symbols.L / 2 for symbol in steps.free_symbols if symbol.name in ("L_dense", "L_moe")}
    assert simplify((steps - fused).xreplace(layers) - shared) == 0
