"""An exported module becomes a step: axes, FLOPs, bytes, layers, caches. The modules here are written as torch.export writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sympy import Expr, Integer, Mul, sympify

import symroof
from symroof.cli.main import cli
from symroof.cli.options import OF_MODULES
from symroof.errors import InputError
from symroof.operators import BlockRole, Kind, Parameter, Role, Storage, Structure
from symroof.symbols import BW, P, a, b, c, s, t, w
from symroof.tracing import program
from symroof.tracing.dimensions import align, dim_of, divided, keep_apart, resolved, size_of
from symroof.tracing.exported import Exported, Input, Node, Ref, Source, Value
from symroof.tracing.trace import TracedModel, model_of, traced_of

A100 = "a100-sxm-80gb"
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}


@dataclass
class Module:
    """A module, written operator by operator; a call gives what the operator makes."""

    inputs: list[Input] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    path: str = ""

    def given(self, name: str, shape: Sequence[Any], source: Source = Source.INPUT, **value: Any) -> Ref:
        self.inputs.append(Input(name, source, Value(tuple(map(sympify, shape)), **value)))
        return Ref(name)

    def weight(self, name: str, *shape: Any) -> Ref:
        return self.given(f"{self.path}.{name}".strip("."), shape, Source.PARAMETER)

    def __call__(self, operator: str, *args: Any, shape: Sequence[Any], at: str = "", view: bool = False, **facts: Any) -> Ref:
        name = f"{operator}_{len(self.nodes)}"
        module = ".".join(filter(None, (self.path, at)))
        known = {"keywords": facts.pop("keywords", {}), "pointwise": facts.pop("pointwise", False)}
        value = Value(tuple(map(sympify, shape)), **facts)
        self.nodes.append(Node(name, operator, args, (value,), shares=view, module=module, line="own.py:7", **known))
        return Ref(name)

    def linear(self, x: Ref, rows: Sequence[Any], inside: int, outside: int, at: str) -> Ref:
        return self("linear", x, self.weight(f"{at}.weight", outside, inside), shape=(*rows, outside), at=at)

    def model(self, phase: str = "prefill", **options: Any) -> TracedModel:
        return model_of("own", "own.py", {phase: traced_of(Exported(tuple(self.inputs), tuple(self.nodes)), phase, **options)})

    def step(self, phase: str = "prefill", by: str = "operator", **inputs: Any) -> symroof.Step:
        return getattr(self.model(phase, by=by), phase)(**inputs)


def attention(build: Module, x: Ref, width: int = 64, heads: int = 4) -> Ref:
    """Keys are values: one projection for both."""
    each = width // heads
    q, k = (build.linear(x, (b, s), width, width, name) for name in ("q", "kv"))
    q, k = (build("view", one, shape=(b, s, heads, each), view=True) for one in (q, k))
    q, k = (build("transpose", one, 1, 2, shape=(b, heads, s, each), view=True) for one in (q, k))
    turned = build("transpose", k, -2, -1, shape=(b, heads, each, s), view=True)
    scores = build("matmul", q, turned, shape=(b, heads, s, s))
    scaled = build("mul", scores, 0.25, shape=(b, heads, s, s), pointwise=True)
    weights = build("softmax", scaled, -1, shape=(b, heads, s, s))
    context = build("matmul", weights, k, shape=(b, heads, s, each))
    context = build("transpose", context, 1, 2, shape=(b, s, heads, each), view=True)
    return build.linear(build("reshape", context, (), shape=(b, s, width)), (b, s), width, width, "out")


def layer(build: Module, x: Ref, wide: int = 96) -> Ref:
    y = build("add", x, attention(build, x), shape=(b, s, 64), pointwise=True)
    up = build.linear(y, (b, s), 64, wide, "mlp.up")
    act = build("gelu", up, shape=(b, s, wide), at="mlp", pointwise=True, keywords={"approximate": "tanh"})
    return build("add", y, build.linear(act, (b, s), wide, 64, "mlp.down"), shape=(b, s, 64), pointwise=True)


def decoder(widths: Sequence[int] = (96, 96, 96)) -> Module:
    build = Module()
    tokens = build.given("tokens", (b, s), floating=False, bits=64)
    x = build("embedding", build.weight("embedding.weight", 128, 64), tokens, shape=(b, s, 64), at="embedding")
    for number, wide in enumerate(widths):
        build.path = f"layers.{number}"
        x = layer(build, x, wide)
    build.path = ""
    build.linear(x, (b, s), 64, 128, "head")
    return build


# --- axes ------------------------------------------------------------------------------------------------------------
def test_a_view_as_heads_reaches_the_weight() -> None:
    build = Module()
    attention(build, build.given("x", (b, s, 64)))
    graph = build.step().symbolic
    axes = {operator.name: operator.reads[-1].tensor.axes for operator, _ in graph if operator.role is Role.PROJECTION}
    assert axes == {"q": ("n4", "n16", "n64"), "kv": ("n4", "n16", "n64"), "out": ("n64.2", "n4", "n16")}
    scores, context = graph["matmul"], graph["matmul_2"]
    assert set(scores.work[0].axes) == set(context.work[0].axes) == {"b", "n4", "n16", "s", "t"}
    assert [access.touched for access in context.reads] == [("b", "n4", "s", "t"), ("b", "n4", "t", "n16")]
    assert context.reads[1].tensor is scores.reads[1].tensor  # the cache-to-be of keys that are values


def test_axes_split_merge_and_stay_apart() -> None:
    heads, groups, each = dim_of(Integer(8)), dim_of(Integer(2)), dim_of(Integer(4))
    align(heads, (*groups, *each))
    assert list(resolved(heads)) == [*groups, *each]
    row, column = keep_apart([dim_of(Integer(6)), dim_of(Integer(6))])
    align(row, column)
    assert row != column
    assert [size_of(dim) for dim in divided([dim_of(3 * b * s)], [3 * b, s])] == [3 * b, s]
    assert [size_of(dim) for dim in divided([dim_of(Integer(6))], [Integer(4), Integer(2)])] == [4, 2]  # new axes: 4 does not divide 6
    empty = dim_of(Integer(0))
    assert divided([empty], [Integer(0)])


# --- formulas --------------------------------------------------------------------------------------------------------
def test_own_attention_has_the_formulas_of_its_einsums() -> None:
    build = Module()
    attention(build, build.given("x", (b, s, 64)))
    graph = build.step().symbolic
    expected: dict[str, tuple[Expr, Expr]] = {
        "q": (2 * b * s * 64 * 64, (2 * 64 * b * s * a + 64 * 64 * w) / 8),
        "matmul": (2 * b * s**2 * 64, (2 * 64 * b * s + 4 * b * s**2) * a / 8),
        "mul": (4 * b * s**2, 8 * b * s**2 * a / 8),
        "softmax": (20 * b * s**2, 8 * b * s**2 * a / 8),
        "matmul_2": (2 * b * s**2 * 64, (2 * 64 * b * s + 4 * b * s**2) * a / 8),
        "reshape": (Integer(0), 2 * 64 * b * s * a / 8),
    }
    for name, (flops, traffic) in expected.items():
        assert (graph[name].flop_count - flops).expand() == 0, name
        assert (graph[name].byte_count() - traffic).expand() == 0, name
    roles = {operator.name: operator.role for operator, _ in graph if operator.role is not Role.PROJECTION}
    capped = {"mul": Role.SCORE_CAP, "matmul": Role.SCORES, "softmax": Role.SOFTMAX, "matmul_2": Role.WEIGHTED_SUM, "reshape": Role.OTHER}
    assert roles == capped
    assert graph.parameter_count() == 3 * 64 * 64


def test_its_crossover_is_that_of_an_integer_scan() -> None:
    build = Module()
    attention(build, build.given("x", (b, s, 1024)), 1024, 8)
    model = build.model()
    for operator in ("q", "matmul"):
        found = symroof.crossover(model.prefill(batch=2, **WIDTHS), operator, over="seq_len", hardware=A100)
        bounds = [symroof.analyze(model.prefill(batch=2, seq_len=length, **WIDTHS), A100)[operator].bound for length in range(90, 130)]
        first = next((length for length, bound in zip(range(90, 130), bounds, strict=True) if bound == "compute"), None)
        assert found.first_integer == first, operator
    formula = symroof.crossover(model.prefill(batch=2), "q", over="seq_len").formula
    assert formula is not None
    at = {b: 2, s: formula.subs(b, 2)}
    assert (model.prefill(batch=2).symbolic["q"].intensity.subs(at).exact - P / BW).simplify() == 0


def contracted(operator: str, *shapes: Sequence[Any], to: Sequence[Any], first: Sequence[Any] = (), **facts: Any) -> Expr:
    build = Module()
    build(operator, *first, *(build.given(f"x{number}", shape) for number, shape in enumerate(shapes)), shape=to, **facts)
    ((one, _),) = build.step().symbolic
    assert (one.byte_count() - sum(Mul(*shape) for shape in (*shapes, to)) * a / 8).expand() == 0
    assert one.flop_count == one.contraction_flop_count
    return one.flop_count


def test_contractions_are_twice_their_axes() -> None:
    assert contracted("mm", (b, 8), (8, 12), to=(b, 12)) == 2 * b * 8 * 12
    assert contracted("bmm", (b, 5, 7), (b, 7, 3), to=(b, 5, 3)) == 2 * b * 5 * 7 * 3
    assert contracted("matmul", (b, s, 8), (8,), to=(b, s)) == 2 * b * s * 8
    assert contracted("matmul", (8,), (8, 3), to=(3,)) == 2 * 8 * 3
    assert contracted("matmul", (b, 1, s, 8), (4, 8, s), to=(b, 4, s, s)) == 2 * b * 4 * s * 8 * s  # repeated along what it meets
    assert contracted("addmm", (12,), (b, 8), (8, 12), to=(b, 12)) == 2 * b * 8 * 12  # the bias is free
    assert contracted("einsum", (b, s, 4, 16), (b, s, 4, 16), to=(b, 4, s, s), first=("bqhe,bkhe->bhqk",)) == 2 * b * 4 * 16 * s**2
    assert contracted("einsum", (b, s, 8), (8, 3), to=(b, s, 3), first=("...i,ij->...j",)) == 2 * b * s * 8 * 3
    assert contracted("einsum", (5, 8), (8, 3), to=(5, 3), first=("zi,ia",)) == 2 * 5 * 8 * 3
    assert contracted("conv2d", (b, 3, s, s), (16, 3, 5, 5), (16,), to=(b, 16, s, s)) == 2 * b * 16 * s**2 * 3 * 25
    assert contracted("conv1d", (b, 8, s), (8, 1, 4), to=(b, 8, s)) == 2 * b * 8 * s * 4  # a group per channel
    assert contracted("conv_transpose2d", (b, 16, s, s), (16, 3, 2, 2), to=(b, 3, 2 * s, 2 * s)) == 2 * b * 16 * s**2 * 3 * 4


def test_experts_in_groups_read_every_matrix() -> None:
    build = Module()
    rows, experts = build.given("rows", (2 * b * s, 8)), build.weight("up", 6, 8, 12)
    build("_grouped_mm", rows, experts, build.given("ends", (6,), floating=False, bits=32), shape=(2 * b * s, 12))
    graph = build.step().symbolic
    ((operator, _),) = graph
    assert operator.flop_count == 2 * 2 * b * s * 8 * 12
    assert operator.byte_count(Storage.WEIGHT) == 6 * 8 * 12 * w / 8
    assert graph.unknown == {Structure.PARTS, Structure.BATCH, Structure.TOKENS}  # tokens are within the 2 b s rows


def test_fused_attention_shares_keys_in_groups_and_heeds_its_mask() -> None:
    def step(causal: bool) -> symroof.Step:
        build = Module()
        q, k, v = (build.given(name, (b, heads, s, 16)) for name, heads in (("q", 8), ("k", 2), ("v", 2)))
        build("scaled_dot_product_attention", q, k, v, shape=(b, 8, s, 16), keywords={"is_causal": causal, "enable_gqa": True})
        return build.step()

    full, half = (step(causal).symbolic["scaled_dot_product_attention"] for causal in (False, True))
    assert full.kind is Kind.FUSED_ATTENTION
    assert (full.flop_count - (4 * 16 + 5) * 8 * b * s**2).expand() == 0
    assert (half.flop_count - (4 * 16 + 5) * 8 * b * s * (s + 1) / 2).expand() == 0
    assert full.demands[symroof.Resource.EXPONENTIAL] == 8 * b * s**2
    once = full.byte_count().subs({atom: 1 for access in full.reads for atom in access.repeats.free_symbols - {s}})
    assert full.byte_count() != once  # keys are read in passes
    family = symroof.load_model("llama-3-8b").prefill(symbolic=True, causal=False, flash_attention=True).symbolic
    assert {str(symbol) for symbol in family.definitions} == {str(symbol) for symbol in step(False).symbolic.definitions} == {"R"}


def test_what_only_moves_has_no_flops_and_views_move_nothing() -> None:
    build = Module()
    x = build.given("x", (b, s, 64))
    flat = build("view", x, shape=(b * s, 64), view=True)
    first, second = (build("slice", flat, 1, low, low + 32, shape=(b * s, 32), view=True) for low in (0, 32))
    joined = build("cat", (second, first), 1, shape=(b * s, 64))
    build("dropout", joined, 0.1, False, shape=(b * s, 64))
    graph = build.step().symbolic
    assert [operator.name for operator, _ in graph] == ["cat"]
    assert graph.flop_count == 0
    assert graph.byte_count() == 2 * 64 * b * s * a / 8


def test_an_expanded_tensor_is_read_once_and_copied_if_it_is_copied() -> None:
    def step(copied: bool) -> symroof.Step:
        build = Module()
        q, k = build.given("q", (b, 8, s, 16)), build.given("k", (b, 2, s, 16))
        one = build("unsqueeze", k, 2, shape=(b, 2, 1, s, 16), view=True)
        four = build("expand", one, (), shape=(b, 2, 4, s, 16), view=True)
        k = build("reshape", four, (), shape=(b, 8, s, 16), view=not copied)
        build("matmul", q, build("transpose", k, -2, -1, shape=(b, 8, 16, s), view=True), shape=(b, 8, s, s))
        return build.step()

    product = step(False).symbolic["matmul"]
    assert (product.byte_count() - (8 * 16 * b * s + 2 * 16 * b * s + 8 * b * s**2) * a / 8).expand() == 0
    graph = step(True).symbolic
    assert (graph["reshape"].byte_count() - (2 + 8) * 16 * b * s * a / 8).expand() == 0
    assert (graph["matmul"].byte_count() - (2 * 8 * 16 * b * s + 8 * b * s**2) * a / 8).expand() == 0


def test_rows_elements_and_reductions() -> None:
    build = Module()
    x, scale, shift = build.given("x", (b, s, 8)), build.weight("norm.weight", 8), build.weight("norm.bias", 8)
    y = build("layer_norm", x, (8,), scale, shift, shape=(b, s, 8), at="norm")
    z = build("mul", build("silu", y, shape=(b, s, 8), pointwise=True), y, shape=(b, s, 8), pointwise=True)
    mean = build("mean", z, (-1,), shape=(b, s))
    build("exp", mean, shape=(b, s), pointwise=True)
    build("topk", z, 2, shape=(b, s, 2))
    build("add_", z, 1, shape=(b, s, 8), pointwise=True)
    build("gt", z, 0, shape=(b, s, 8), pointwise=True, floating=False, bits=8)
    graph = build.step().symbolic
    counted = {operator.name: operator.flop_count for operator, _ in graph}
    every = b * s * 8
    assert counted == {"norm": 7 * every, "silu": 4 * every, "mul": every, "mean": every, "exp": b * s, "topk": 0, "add": every, "gt": 0}
    assert graph["exp"].demands[symroof.Resource.EXPONENTIAL] == b * s
    assert [access.tensor.parameter for access in graph["norm"].reads] == [None, Parameter.NORM, Parameter.BIAS]
    assert graph["add"].result is graph["mul"].result
    assert graph["gt"].byte_count() == (every * a + every * 8) / 8  # a boolean takes a byte, whatever the width of activations


def test_rows_looked_up_are_read_once_each() -> None:
    build = Module()
    table, at = build.given("table", (500, 8)), build.given("at", (b, s), floating=False, bits=64)
    build("index", table, (at,), shape=(b, s, 8))
    build("index_add_", table, 0, at, build.given("new", (b, s, 8)), shape=(500, 8))
    looked, added = (operator for operator, _ in build.step().symbolic)
    assert looked.byte_count() == 2 * 8 * b * s * a / 8
    assert added.flop_count == 8 * b * s
    assert added.writes[0].byte_count == 8 * b * s * a / 8


# --- layers ----------------------------------------------------------------------------------------------------------
def test_equal_layers_are_one_block_with_a_count() -> None:
    graph = decoder().step().symbolic
    assert [(block.name, block.count, block.role) for block in graph.blocks] == [
        ("module", 1, BlockRole.END),
        ("layers.0", 3, BlockRole.LAYER),
        ("module_2", 1, BlockRole.END),
    ]
    assert graph.parameter_count() == 128 * 64 * 2 + 3 * (3 * 64 * 64 + 2 * 64 * 96)
    per_layer = 2 * b * s * (3 * 64 * 64 + 2 * 64 * 96) + 4 * b * s**2 * 64
    assert (graph.contraction_flop_count - 3 * per_layer - 2 * b * s * 64 * 128).expand() == 0
    assert graph["mlp.gelu"].flop_count == 9 * b * s * 96  # of tanh
    stream = graph["embedding"].result
    assert graph["add_2"].result is stream is graph["head"].reads[0].tensor  # what layers pass on is one tensor


def test_unequal_layers_stay_and_have_names_of_their_own() -> None:
    graph = decoder((96, 128, 96)).step().symbolic
    assert [(block.name, block.count) for block in graph.blocks] == [("module", 1), ("layers.0", 2), ("layers.1", 1), ("module_2", 1)]
    assert graph["layers.1.mlp.up"].flop_count == 2 * b * s * 64 * 128
    whole = decoder((96,)).step().symbolic.flop_count, decoder((128,)).step().symbolic.flop_count
    ends = decoder(()).step().symbolic.flop_count
    assert (graph.flop_count - 2 * (whole[0] - ends) - (whole[1] - ends) - ends).expand() == 0


def test_layers_with_other_work_on_equal_tensors_are_not_one() -> None:
    """One einsum contracts over the axis that both operands have, the other over one of each."""
    build = Module()
    x = build.given("x", (b, s, 64))
    for number, equation in enumerate(("bsd,de->bse", "bsd,de->bse", "bsd,fe->bse")):
        build.path = f"layers.{number}"
        x = build("einsum", equation, (x, build.weight("w", 64, 64)), shape=(b, s, 64), at="mix")
    graph = build.step().symbolic
    assert [block.count for block in graph.blocks] == [2, 1]
    assert graph.contraction_flop_count == 2 * (2 * b * s * 64**2) + 2 * b * s * 64**3


def test_layers_that_share_weights_are_not_one() -> None:
    build = Module()
    x, shared = build.given("x", (b, s, 64)), build.weight("shared", 64, 64)
    for number in range(3):
        build.path = f"layers.{number}"
        x = build("linear", x, shared, shape=(b, s, 64), at="proj")
    graph = build.step().symbolic
    assert graph.parameter_count() == 64 * 64
    assert len(graph.blocks) == 3
    assert (graph.flop_count - 3 * 2 * b * s * 64 * 64).expand() == 0


def test_layers_within_stages_are_found() -> None:
    build = Module()
    x = build.given("x", (b, s, 64))
    for stage, depth in enumerate((2, 3)):
        build.path = f"stages.{stage}"
        x = build("relu", x, shape=(b, s, 64), at="entry" if stage else "", pointwise=True)
        for number in range(depth):
            build.path = f"stages.{stage}.blocks.{number}"
            x = build.linear(x, (b, s), 64, 64, "proj")
    graph = build.step().symbolic
    assert [(block.name, block.count) for block in graph.blocks if block.count != 1] == [("stages.0.blocks.0", 2), ("stages.1.blocks.0", 3)]
    assert graph.parameter_count() == 5 * 64 * 64


def test_by_module_only_traffic_differs() -> None:
    by_operator, by_module = (decoder().step(by=by).symbolic for by in ("operator", "module"))
    assert (by_operator.flop_count - by_module.flop_count).expand() == 0
    assert by_operator.parameter_count() == by_module.parameter_count()
    names = [operator.name for operator in by_module.blocks[1].operators]
    assert names == ["q", "kv", "layers.0", "out", "add", "mlp.up", "mlp", "mlp.down", "add_2"] or names[:2] == ["q", "kv"]
    assert len(names) == 9
    group = next(operator for operator in by_module.blocks[1].operators if operator.is_group)
    assert (group.byte_count() - 3 * 64 * b * s * a / 8).expand() == 0  # q, the keys that are values, and the result


def test_a_module_whose_products_read_nothing_from_memory_has_a_peak() -> None:
    build = Module()
    x = build.given("x", (b, s, 8))
    turned = build("cos", x, shape=(b, s, 8), at="own", pointwise=True)
    scores = build("matmul", turned, build("transpose", turned, 1, 2, shape=(b, 8, s), at="own", view=True), shape=(b, s, s), at="own")
    build("neg", scores, shape=(b, s, s), at="own", pointwise=True)
    (point,) = symroof.analyze(build.step(by="module", batch=2, seq_len=64, **WIDTHS), A100)
    assert (point.name, point.data_type) == ("own", "fp16")


# --- decode ----------------------------------------------------------------------------------------------------------
def cached() -> Module:
    build = Module()
    x, kept = build.given("x", (b, 1, 64)), build.given("cache", (b, 4, t - 1, 16), Source.CACHE)
    start = build("cat", (build.given("nothing", (0,), Source.BUFFER), kept), 2, shape=(b, 4, t - 1, 16))
    q, k = (build.linear(x, (b, 1), 64, 64, name) for name in ("q", "kv"))
    q, k = (build("view", one, shape=(b, 1, 4, 16), view=True) for one in (q, k))
    q, k = (build("transpose", one, 1, 2, shape=(b, 4, 1, 16), view=True) for one in (q, k))
    k = build("cat", (start, k), 2, shape=(b, 4, t, 16))
    scores = build("matmul", q, build("transpose", k, -2, -1, shape=(b, 4, 16, t), view=True), shape=(b, 4, 1, t))
    build("matmul", build("softmax", scores, -1, shape=(b, 4, 1, t)), k, shape=(b, 4, 1, 16))
    return build


def test_what_is_joined_to_a_cache_is_appended() -> None:
    graph = cached().step("decode").symbolic
    assert (graph["cat"].byte_count() - 64 * b * (a + c) / 8).expand() == 0  # one row read and written, nothing copied
    assert graph.kv_memory() == 64 * b * t * c / 8
    assert graph["matmul"].byte_count(Storage.KV_CACHE) == graph["matmul_2"].byte_count(Storage.KV_CACHE) == 64 * b * t * c / 8
    assert graph["matmul"].flop_count == 2 * 64 * b * t
    answer = symroof.prove(cached().step("decode", **WIDTHS), "memory-bound", "matmul", for_all=["batch", "seq_len"], hardware=A100)
    assert answer.verdict == "proved"


# --- what a traced step takes and refuses ----------------------------------------------------------------------------
def test_an_operator_without_a_count_is_refused_with_its_line() -> None:
    build = Module()
    build("stft", build.given("x", (b, s)), shape=(b, s))
    with pytest.raises(InputError, match=r"^not traced: own.py:7: 'stft' is an operator without a count$"):
        build.step()


def test_conventions_that_the_code_decides_are_refused() -> None:
    with pytest.raises(InputError, match="lm_head 'all': what a traced module computes, its code decides"):
        decoder().model().prefill(lm_head="all")
    with pytest.raises(InputError, match="own was traced in prefill, not in decode"):
        decoder().model().decode()


def test_a_trace_holds_where_the_code_takes_the_same_path() -> None:
    build = Module()
    build.linear(build.given("x", (b, s, 64)), (b, s), 64, 64, "proj")
    exported = Exported(tuple(build.inputs), tuple(build.nodes), {s: (1, 300)})
    model = model_of("own", "own.py", {"prefill": traced_of(exported, "prefill")})
    assert "traced for seq_len from 1 to 300: elsewhere the module does something else" in model.prefill(seq_len=300).statements
    with pytest.raises(InputError, match="seq_len 301: the module does something else there"):
        model.prefill(seq_len=301)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tensor-parallel:degree=2,link=100GB/s", "needs heads, MLP channels and vocabulary as axes"),
        ("distill:model=llama-3.2-1b", "needs heads, MLP channels and vocabulary as axes"),
        ("prune-channels:share=1/2", "this step has no MLP"),
        ("expert-routing", "this model is dense"),
    ],
)
def test_techniques_that_need_more_are_refused_in_a_line(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        decoder().step().apply(text)


@pytest.mark.parametrize("text", ["speculative:acceptance=0.8,length=4,draft_cost=0.05", "mixed-batch:chunk=8,prompt=64"])
def test_a_decode_step_has_its_token_nowhere(text: str) -> None:
    with pytest.raises(InputError, match="needs the tokens of a step as an axis of their own, which a traced module does not say"):
        cached().step("decode").apply(text)


def test_techniques_that_fit_do_what_they_do_elsewhere() -> None:
    step = decoder().step()
    narrow = step.apply("quantize:weights=4,group=16").graph
    matrices = 3 * (3 * 64 * 64 + 2 * 64 * 96)
    assert narrow.weight_memory().subs(w, 16) == (matrices * (4 + Integer(16) / 16) + 2 * 128 * 64 * 16) / 8
    flash = step.apply("flash-attention").graph
    assert flash["fused_attention"].byte_count(Storage.ACTIVATION) != 0
    assert (flash.flop_count - step.graph.flop_count).expand() == 0
    spread = step.apply("data-parallel:degree=4").graph
    assert (spread.flop_count - step.graph.flop_count / 4).expand() == 0
    assert (step.apply("skip-layers:depth=1/3").graph.parameter_count() - 128 * 64 * 2 - matrices / Integer(3)) == 0


def test_questions_take_a_traced_step() -> None:
    model = decoder().model()
    on = model.prefill(batch=1, seq_len=512).on(A100)
    assert on.regimes("seq_len").time_expr(512) == on.time.exact
    assert on.sweep({"batch": [1, 64]}).time.values.ravel()[0] == pytest.approx(float(on.time.exact))
    assert model.parameters == decoder().step().symbolic.parameter_count()
    assert on.largest("batch").integer > 1


# --- files -----------------------------------------------------------------------------------------------------------
def test_only_the_explicit_form_names_a_file_to_run(tmp_path: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('this file was run')\n")
    assert not program.is_program(str(trap))
    result = run("analyze", trap, "--hardware", A100, "--phase", "decode", "--seq-len", 8)
    assert result.status == 2
    assert "was run" not in result.err
    monkeypatch.setattr(program, "torch_module", lambda: None)
    loaded = program.load_module(f"{trap}:build")  # named, but not run before a step is asked for
    assert loaded.name == "trap:build"


WITH_A_MODEL = {name for name, command in cli.commands.items() if any(param.name == "model" for param in command.params)}


TOKENS = ("--prompt", 8, "--output", 8, "--hardware", A100)
NEEDED: dict[str, tuple[Any, ...]] = {
    "plan": TOKENS,
    "promises": TOKENS,
    "load": (*TOKENS, "--rate", 1),
    "provision": (*TOKENS, "--batch", 1),
    "export": ("--phase", "decode", "--hardware", A100, "--batch", 1, "--seq-len", 8, "--to", "js"),
}
"""Options without which a command asks for them first."""


@pytest.mark.parametrize("command", sorted(WITH_A_MODEL - {*OF_MODULES}))
def test_commands_for_other_models_say_which_take_a_module(run: Callable[..., Any], command: str) -> None:
    result = run(command, "own.py:build", *NEEDED.get(command, ()))
    assert result.status == 2
    assert result.err.endswith(f"a module of torch is for {', '.join(OF_MODULES)}\n")


OWN, STEP = "own.py:build", ("--phase", "decode", "--hardware", A100, "--batch", 1, "--seq-len", 8)
ASKED: dict[str, tuple[Any, ...]] = {
    "ablate": (OWN, *STEP[:4], "--seq-len", 8, "--with", "quantize:weights=4", "--with", "quantize:kv=8"),
    "analyze": (OWN, *STEP),
    "cost": (OWN, *STEP, "--price", 2),
    "regimes": (OWN, "--over", "batch", *STEP[:4], "--seq-len", 8),
    "compare": (OWN, *STEP, "--with", "quantize:weights=4"),
    "crossover": (OWN, "--operator", "up", "--over", "batch", *STEP[:4], "--seq-len", 8),
    "generate": (OWN, "--hardware", A100, "--prompt", 8, "--tokens", 8),
    "largest": (OWN, "--for", "batch", *STEP[:4], "--seq-len", 8),
    "prove": ("memory-bound", OWN, "--operator", "up", "--for-all", "batch", *STEP[:4], "--seq-len", 8),
    "solve": (OWN, "--for", "bandwidth", *STEP, "--target-time", "1 ms"),
    "sweep": (OWN, "--over", "batch=1:4", *STEP[:4], "--seq-len", 8),
}


@pytest.mark.parametrize("command", OF_MODULES)
def test_commands_that_take_a_module_look_for_its_file(run: Callable[..., Any], command: str) -> None:
    result = run(command, *ASKED[command])
    assert (result.status, result.err) == (2, "symroof: module 'own.py:build': there is no file 'own.py'\n")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1\ny = x / 0\n", "own.py:2: ZeroDivisionError: division by zero"),
        ("def build(phase):\n    return 1\n", "own.py:build returns 1; expected a dictionary with module, args and axes"),
        ("def built(phase):\n    return 1\n", "'own.py' has no function 'build': did you mean built?"),
        ("def build(phase):\n    return {'axis': {}}\n", "own.py:build returns 'axis': did you mean axes?"),
        ("def build(phase):\n    return {'axes': {}}\n", "own.py:build returns no 'module'"),
        ("def build(:\n", "own.py:1: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "torch_module", lambda: None)
    with pytest.raises(InputError) as raised:
        program.load_module("own.py:build").prefill()
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_torch_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any], tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (tmp_path / "own.py").write_text("")
    result = run("analyze", f"{tmp_path / 'own.py'}:build", "--hardware", A100, "--phase", "decode", "--seq-len", 8)
    assert (result.status, result.err) == (2, "symroof: tracing a module needs torch: pip install 'symroof[torch]'\n")
    with pytest.raises(InputError, match="needs torch"):
        symroof.trace(object(), axes={})


def test_sizes_are_what_the_tensors_are() -> None:
    """What an operator writes has as many elements as torch says, through every split of axes."""
    build = decoder((96, 128, 96))
    graph = build.step().symbolic
    shapes = {node.name: Mul(*node.results[0].shape) for node in build.nodes}
    tensors = {access.tensor for operator, _ in graph for access in (*operator.reads, *operator.writes)}
    own = [tensor for tensor in tensors if tensor.name in shapes]
    assert len(own) > 20
    assert all((tensor.elements - shapes[tensor.name]).expand() == 0 for tensor in own)
    assert replace(build.step(), notes=()).graph.bind({b: Integer(2), s: Integer(8)}).flop_count.is_Integer
