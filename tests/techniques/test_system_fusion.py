"""Fusion, FlashAttention, FlashDecoding: what they change and nothing else, their limits, where they pay, what they refuse."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from sympy import Integer, Rational, ceiling, limit, oo, simplify

import symroof
from symroof.errors import EinsumError, InputError
from symroof.operators.block import Block
from symroof.operators.facts import Kind
from symroof.operators.graph import Graph
from symroof.operators.operator import Direction, Operator, Work
from symroof.operators.tensor import Access, Space, Storage, Tensor
from symroof.questions.payoff import payoff
from symroof.questions.regimes import regimes
from symroof.roof.costs import on_chip
from symroof.symbols import B_c, B_r, M, R, a, b, c, e, h, k, n_c, n_s, s, t
from symroof.techniques.registry import chain, technique
from symroof.techniques.system.flash_attention import least_traffic

MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m", "gemma-2-2b", "deepseek-v2-lite")
SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100, CPU = "a100-sxm-80gb", "survey/intel_13900k"
GATED = "gate_proj+up_proj+mlp_act"


def numbers(model: str, phase: str = "decode", **inputs):
    return getattr(symroof.load_model(model), phase)(**SIXTEEN, **{"batch": 3, "seq_len": 64, **inputs})


def booked(operator: Operator) -> dict:
    return {(place, way): operator.byte_count(place, way) for place in Storage for way in Direction}


def same(one: Operator, other: Operator) -> bool:
    return (one.name, one.kind, one.flop_count, booked(one)) == (other.name, other.kind, other.flop_count, booked(other))


# fusion


def needed(block, members) -> Operator | None:
    """An operator outside the group on a path through it, by following values one by one."""
    inside = [id(one) for one in members]
    tainted: set[int] = set()
    for place, operator in enumerate(block.operators):
        before = block.operators[:place]
        touched = {access.tensor for access in operator.reads} | {access.tensor for access in operator.writes}
        waits = [
            one
            for one in before
            if {access.tensor for access in one.writes} & touched
            or {access.tensor for access in one.reads} & {access.tensor for access in operator.writes}
        ]
        through = any(id(one) in tainted for one in waits)
        if id(operator) in inside:
            if through:
                return next(one for one in waits if id(one) in tainted)
        elif through or any(id(one) in inside for one in waits):
            tainted.add(id(operator))
    return None


def bytes_of_group(graph, block, members) -> int:
    """What a group moves, tensor by tensor: what comes from outside once, and what somebody else wants."""
    outside = [one for one, _ in graph if all(one is not each for each in members)]
    wanted = {access.tensor for one in outside for access in one.reads}
    read: dict = {}
    written: dict = {}
    for operator in members:
        for access in operator.reads:
            if access.tensor not in written or access.tensor.storage is Storage.KV_CACHE:
                read[access.tensor] = max(read.get(access.tensor, 0), access.byte_count)
        for access in operator.writes:
            written[access.tensor] = access.byte_count
    stays = wanted | set(read) | {members[-1].result}
    return sum(read.values()) + sum(size for tensor, size in written.items() if tensor in stays or tensor.storage is Storage.KV_CACHE)


@pytest.mark.parametrize("name", MODELS)
def test_any_connected_group_fuses_and_nothing_else_changes(name: str) -> None:
    step = numbers(name)
    draw = random.Random(name)
    fused_groups = refused = 0
    for _ in range(25):
        block = draw.choice([one for one in step.graph.blocks if one.count != 1])
        start = draw.randrange(len(block.operators) - 1)
        window = block.operators[start : start + draw.randint(2, 6)]
        members = [one for one in window if draw.random() < 0.8]
        if len(members) < 2:
            continue
        made = technique("fuse:operators=" + "+".join(draw.sample([one.name for one in members], len(members))))
        touched = [{access.tensor for access in (*one.reads, *one.writes)} for one in members]
        parts = [[one] for one in touched]
        while joined := next(((x, y) for x in parts for y in parts if x is not y and set().union(*x) & set().union(*y)), None):
            parts = [one for one in parts if one is not joined[0] and one is not joined[1]] + [joined[0] + joined[1]]
        if len(parts) > 1:
            with pytest.raises(InputError, match=r"share no tensor"):
                made(step)
            refused += 1
            continue
        if needed(block, members) is not None:
            with pytest.raises(InputError, match="must run before"):
                made(step)
            refused += 1
            continue
        after = step.apply(made)
        fused_groups += 1
        own = "+".join(one.name for one in members)
        kept = {one.name: one for one, _ in step.graph if all(one is not each for each in members)}
        assert {one.name for one, _ in after.graph} == {*kept, own}
        assert all(same(one, kept[one.name]) for one, _ in after.graph if one.name != own)
        assert after[own].flop_count == sum(one.flop_count for one in members)
        assert after[own].byte_count() == bytes_of_group(step.graph, block, members)
        for side in ("weight_memory", "kv_memory"):
            assert getattr(after.graph, side)() == getattr(step.graph, side)()
        in_order(after.graph, step.graph)
    assert fused_groups >= 3
    assert refused >= 1


def in_order(after, before) -> None:
    """Every value that a block reads and an earlier operator of the block gave is still given before it is read."""
    for new, old in zip(after.blocks, before.blocks, strict=True):
        given: set[str] = set()
        late = {one.result.name for one in new.operators}
        first: dict[str, bool] = {}
        for operator in old.operators:
            for access in operator.reads:
                first.setdefault(access.tensor.name, access.tensor.name in given)
            given |= {access.tensor.name for access in operator.writes}
        seen: set[str] = set()
        for operator in new.operators:
            seen |= {access.tensor.name for access in operator.writes}
            for access in operator.reads:
                if first.get(access.tensor.name) and access.tensor.name in late:
                    assert access.tensor.name in seen, (operator.name, access.tensor.name)


@pytest.mark.parametrize("name", MODELS)
def test_presets(name: str) -> None:
    step = numbers(name)
    none = step.apply(technique("fuse:preset=none"))
    assert all(same(one, other) for (one, _), (other, _) in zip(step.graph, none.graph, strict=True))
    flash, engine = step.apply(technique("fuse:preset=flash-attention")), step.apply(technique("fuse:preset=engine"))
    plain = step.apply(technique("flash-attention"))
    assert all(same(one, other) for (one, _), (other, _) in zip(plain.graph, flash.graph, strict=True))
    assert engine.graph.flop_count == step.graph.flop_count
    assert engine.graph.byte_count() < flash.graph.byte_count() < step.graph.byte_count()
    names = {one.name.split(".", 1)[-1] if "." in one.name.split("+")[0] else one.name for one, _ in engine.graph}
    assert any("attn_add" in one and "mlp_norm" in one for one in names)
    assert any("act" in one and "up_proj" in one for one in names)
    assert ("opt" in name) or any("q_rotary" in one and "proj" in one for one in names)
    assert engine.graph.weight_memory() == step.graph.weight_memory()
    for before, after in pairwise((step, flash, engine)):
        assert symroof.analyze(after, A100).total.time_expr <= symroof.analyze(before, A100).total.time_expr


def test_a_residual_from_outside_is_read_and_one_for_the_next_layer_written() -> None:
    """A whole layer as one operator: the residual stream is read and written, the weights and the cache move, nothing else."""
    step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    layer = next(block for block in step.symbolic.blocks if block.count != 1)
    whole = step.apply(technique("fuse:operators=" + "+".join(one.name for one in layer.operators)))
    (only,) = next(block for block in whole.symbolic.blocks if block.count != 1).operators
    moved = {access.tensor.name for access in only.reads if access.tensor.storage is Storage.ACTIVATION}
    assert (moved, {access.tensor.name for access in only.writes}) == ({"hidden", "cos_sin"}, {"k_cache", "v_cache", "hidden"})


def by_hand(*steps: tuple[str, str, str], count: int = 1) -> Graph:
    """Operators by name, tensors read and tensors written."""
    space = Space({"b": b})
    tensors = {name: Tensor(name, ("b",), Storage.ACTIVATION, space) for _, reads, writes in steps for name in reads + writes}

    def touch(names: str) -> tuple[Access, ...]:
        return tuple(Access(tensors[name]) for name in names)

    made = (Operator(name, Kind.ELEMENTWISE, space, (Work(("b",), 1),), touch(reads), touch(writes)) for name, reads, writes in steps)
    return Graph((Block("one", tuple(made), Integer(count)),))


def test_what_the_next_repetition_reads_is_written() -> None:
    for count, written in ((1, "z"), (4, "xz")):
        graph = by_hand(("first", "x", "y"), ("second", "y", "x"), ("third", "y", "z"), count=count)
        (whole,) = graph.apply(technique("fuse:operators=first+second+third")).blocks[0].operators
        assert [access.tensor.name for access in whole.reads] == ["x"]
        assert "".join(access.tensor.name for access in whole.writes) == written


def test_what_overwrites_an_operand_runs_after_the_group() -> None:
    graph = by_hand(("first", "x", "v"), ("writer", "w", "x"), ("second", "v", "z"))
    names = [one.name for one, _ in graph.apply(technique("fuse:operators=first+second"))]
    assert names == ["first+second", "writer"]
    again = by_hand(("first", "x", "v"), ("writer", "w", "v"), ("second", "x", "z"))
    assert [one.name for one, _ in again.apply(technique("fuse:operators=first+second"))] == ["first+second", "writer"]


def test_where_fusion_pays_against_brute_force() -> None:
    step = numbers("llama-2-7b", batch=None)
    after = step.apply(technique(f"fuse:operators={GATED}"))
    found = payoff(step, after, over="batch", hardware=A100, operator=GATED)
    for batch in (1, 10, 150, 156, 157, 158, 1000, 10**6):
        one, two = (
            symroof.analyze(numbers("llama-2-7b", batch=batch).apply(*made), A100) for made in ((), (technique(f"fuse:operators={GATED}"),))
        )
        ratio = sum(one[name].time_expr for name in GATED.split("+")) / two[GATED].time_expr
        assert found.speedup_expr(batch) == ratio > 1
    first = symroof.crossover(after, GATED, over="batch", hardware=A100).first_integer
    bounds = [
        symroof.analyze(step_at.apply(technique(f"fuse:operators={GATED}")), A100)[GATED].bound
        for step_at in (numbers("llama-2-7b", batch=first - 1), numbers("llama-2-7b", batch=first))
    ]
    assert bounds == ["memory", "compute"]
    assert first == 158, "the activation's FLOPs run beside the matrix units"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fuse:operators=q_proj+down_proj", "q_proj and down_proj share no tensor"),
        ("fuse:operators=attn_norm+attn_add", "q_proj needs the result of attn_norm and must run before attn_add"),
        ("fuse:operators=q_proj+lm_head", "'lm_head' is not an operator of the block of q_proj"),
        ("fuse:operators=q_proj+q_prj", "'q_prj' is not an operator of the block of q_proj: did you mean q_proj"),
        ("fuse:operators=q_proj", "expected two or more"),
        ("fuse", "give either operators"),
        ("fuse:operators=q_proj+k_proj,preset=engine", "give either operators"),
        ("fuse:preset=engin", "did you mean engine"),
        ("flash-attention:keys=64", "keys without rows"),
        ("flash-attention:rows=0", "expected a whole number from 1 on"),
        ("flash-attention:rows=3", "rows 3: a position has 4 query rows"),
        ("flash-attention flash-attention", "attention is one operator already"),
        ("flash-decoding:splits=65", "splits 65: the context has 64 tokens"),
        ("flash-decoding:splits=2 flash-decoding:splits=2", "attention is split already"),
        ("fuse:preset=flash-attention fuse:preset=flash-attention", "attention is one operator already"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises((InputError, EinsumError)) as error:
        numbers("llama-3-8b").apply(*chain([text]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_models_and_steps_that_cannot() -> None:
    for text in ("flash-attention", "flash-decoding"):
        with pytest.raises(InputError, match="no attention"):
            numbers("mamba-130m").apply(technique(text))
    with pytest.raises(InputError, match="accounting 'exact'"):
        numbers("llama-2-7b", accounting="survey").apply(technique("flash-attention"))
    with pytest.raises(InputError, match="this is a prefill step; expected decode"):
        numbers("llama-2-7b", "prefill").apply(technique("flash-decoding:splits=2"))


# FlashAttention


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", [*MODELS, "gpt-oss-20b", "bloom-560m"])
def test_the_technique_is_the_option(name: str, phase: str) -> None:
    made = getattr(symroof.load_model(name), phase)
    option, after = made(symbolic=True, flash_attention=True).symbolic, made(symbolic=True).apply(technique("flash-attention")).symbolic
    assert dict(option.definitions) == dict(after.definitions)
    for (one, count), (other, again) in zip(option, after, strict=True):
        assert (one.name, one.kind, one.flop_count, count, one.operand_bits) == (
            other.name,
            other.kind,
            other.flop_count,
            again,
            other.operand_bits,
        )
        assert all(old == new or (old - new).expand() == 0 for old, new in zip(booked(one).values(), booked(other).values(), strict=True))
    held = [
        (graph.activation_memory(), graph.kv_memory(), graph.weight_memory())
        for graph in (numbers(name, phase, flash_attention=True).graph, numbers(name, phase).apply(technique("flash-attention")).graph)
    ]
    assert held[0] == held[1]
    before = {one.name: one for one, _ in made(symbolic=True).symbolic}
    assert all(same(one, before[one.name]) for one, _ in after if "fused_attention" not in one.name)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("rows", [4, 8, 20, 64, 10**6])
def test_blocks_of_rows_read_what_a_loop_over_blocks_reads(rows: int, causal: bool) -> None:
    """Llama-3-8b: 4 query heads share keys, so a tile of B_r rows holds B_r / 4 positions."""
    for length in (1, 5, 17, 50):
        text = f"flash-attention:rows={rows},reread=memory"
        step = numbers("llama-3-8b", "prefill", batch=1, seq_len=length, causal=causal).apply(technique(text))
        size = rows // 4
        seen = sum(min(start + size, length) if causal else length for start in range(0, length, size))
        assert step["fused_attention"].byte_count(Storage.KV_CACHE) == 2 * seen * 8 * 128 * 2
    assert step["fused_attention"].byte_count(Storage.ACTIVATION) == 2 * 50 * 4096 * 2


def test_a_block_of_everything_reads_keys_and_values_once() -> None:
    step = symroof.load_model("llama-3-8b").prefill(symbolic=True).apply(technique("flash-attention:rows,reread=memory"))
    moved = step["fused_attention"].byte_count().subs(R, s)
    assert simplify(moved - (2 * b * s * e * h * a + 2 * b * s * k * e * c) / 8) == 0


def test_traffic_of_dao_et_al() -> None:
    """Dao et al. (2022), arXiv:2205.14135, Theorem 2: Theta(N d + N^2) elements apart, Theta(N^2 d^2 / M) fused, d <= M <= N d.

    Proposition 3 there, and Saha and Ye (2024), arXiv:2402.07443, bound any exact algorithm from below by the same order.
    """
    one = {b: Integer(1), h: Integer(1), k: Integer(1), a: Integer(8), c: Integer(8)}
    step = symroof.load_model("llama-2-7b").prefill(symbolic=True, causal=False)
    flash = step.apply(technique("flash-attention:reread=memory"))
    apart = sum(step.symbolic[name].byte_count() for name in ("qk_matmul", "softmax", "sv_matmul")).xreplace(one)
    assert simplify(apart - 4 * s * e - 4 * s**2) == 0
    fused = flash.symbolic["fused_attention"].byte_count().xreplace(one).xreplace({ceiling(s / R): s / R})
    assert limit(fused.subs(R, M / (4 * e)) * M / (s**2 * e**2), s, oo) == 8
    sizes = {e: Integer(64), a: Integer(8), c: Integer(8), b: Integer(1), h: Integer(1), k: Integer(1)}
    N = 64 * 640
    for buffer, rows in ((64 * 4, 1), (64 * 4 * 8, 8), (64 * 4 * 64, 64), (64 * 4 * 640, 640)):
        tile = step.apply(technique(f"flash-attention:rows={rows},reread=memory")).symbolic
        here = sizes | {s: Integer(N), t: Integer(N), M: Integer(buffer), R: tile.definitions.get(R, R), B_r: Integer(rows)}
        moved = tile["fused_attention"].byte_count().xreplace(here).xreplace(here).doit()
        assert moved == 2 * N * 64 + 2 * N * 64 * Rational(N, rows)
        least = Rational(N**2 * 64**2, buffer)
        assert least_traffic().xreplace(here) == 4 * least
        assert 4 * least < moved <= 8 * least * (1 + Rational(rows, N)), "within twice the least of any tile, at every M from d to N d"
        chosen = flash.symbolic.definitions[R].xreplace(sizes | {M: Integer(buffer)})
        assert chosen == min(rows, 64), "without rows it is Algorithm 1's B_r, never more than d rows: beyond M = 4 d^2 it moves more"


def test_tiles_must_fit_on_chip() -> None:
    """An A100 has 167936 byte in one multiprocessor: 2 (B_r + B_c) 128 elements of 2 byte fit up to B_r + B_c = 328."""
    buffer = symroof.load_hardware(A100).buffer_expr
    most = int(buffer) // (4 * 128)
    step = numbers("llama-2-7b", "prefill")
    need = next(iter(on_chip(step.apply(technique("flash-attention:rows,keys"))).values()))
    assert simplify(need - (2 * B_r * e * a + 2 * B_c * e * c) / 8) == 0
    for rows, keys, fits in (
        (most - 64, 64, True),
        (most - 63, 64, False),
        (64, most - 64, True),
        (64, most, False),
        (most - 1, None, True),
    ):
        text = f"flash-attention:rows={rows},reread=memory" + (f",keys={keys}" if keys else "")
        after = step.apply(technique(text))
        if fits:
            symroof.analyze(after, A100)
        else:
            with pytest.raises(InputError, match=rf"take {(rows + keys) * 512} byte .* {A100} has {buffer}"):
                symroof.analyze(after, A100)
            with pytest.raises(InputError, match="on chip"):
                regimes(numbers("llama-2-7b", "prefill", batch=None).apply(technique(text)), over="batch", hardware=A100)


def test_where_flash_attention_pays_against_the_closed_form() -> None:
    """Fewer bytes up to s = R c e / (c e - 2 a g R) on whole blocks without a mask; memory-bound, so is time."""
    for rows in (1, 3, 40):
        edge = Rational(rows * 128, 128 - 2 * rows)
        for blocks in {1, max(1, int(edge) // rows), int(edge) // rows + 1, int(edge) // rows + 3}:
            step = numbers("llama-2-7b", "prefill", batch=2, seq_len=rows * blocks, causal=False)
            old, new = (
                symroof.analyze(step, A100),
                symroof.analyze(step.apply(technique(f"flash-attention:rows={rows},reread=memory")), A100),
            )
            gain = sum(old[name].time_expr for name in ("qk_matmul", "softmax", "sv_matmul")) - new["fused_attention"].time_expr
            assert (gain > 0) == (rows * blocks < edge), (rows, blocks)


# FlashDecoding


@pytest.mark.parametrize("name", MODELS)
def test_splitting_adds_partial_outputs_and_nothing_else(name: str) -> None:
    step = numbers(name)
    flash = {one.name: one for one, _ in step.apply(technique("flash-attention")).graph}
    single = step.apply(technique("flash-decoding:splits=1"))
    assert all(same(one, flash[one.name]) for one, _ in single.graph)
    parts = 5
    after = step.apply(technique(f"flash-decoding:splits={parts}"))
    combined = 0
    for operator, _ in after.graph:
        if operator.name.endswith("fused_attention"):
            old, rows = flash[operator.name], flash[operator.name].result.elements
            e_out = old.space.sizes[(old.writes[0].axes or old.result.axes)[-1]]
            partial = 4 * parts * (rows + 2 * rows / e_out)
            assert operator.byte_count() == old.byte_count() - old.result.byte_count + partial
            assert operator.flop_count == old.flop_count
            combine = after[f"{operator.name}.combine"]
            assert combine.byte_count() == partial + old.result.byte_count
            assert combine.flop_count == parts * (2 * rows + 5 * rows / e_out) + rows
            combined += 1
        elif "combine" not in operator.name:
            assert same(operator, flash[operator.name])
    assert combined == sum("fused_attention" in one for one in flash)
    narrow = after.apply(technique("quantize:activations=8,kv=8,scope=all"))
    name = next(one.name for one, _ in after.graph if one.name.endswith("combine"))
    written = after[name].result.byte_count
    assert narrow[name].byte_count() == after[name].byte_count() - written / 2, "sums stay in 32 bits"


@pytest.mark.slow
def test_occupancy_by_hand_and_over_the_batch() -> None:
    """b k n_s tiles on 108 processors; the step between idle and busy is at b k n_s = 108."""
    device, model, context = symroof.load_hardware(A100), symroof.load_model("llama-3-8b"), 4096
    bandwidth = device.bandwidth_figure.value
    before = numbers("llama-3-8b", batch=None, seq_len=context).apply(technique("flash-decoding:splits=1,processors=108"))
    for parts in (2, 5, 16):
        text = f"flash-decoding:splits={parts},processors=108"
        found = payoff(before, before.apply(technique(text)), over="batch", hardware=A100, operator="attention")
        for batch in (1, 2, 6, 7, 13, 14, 40):
            cache, row, partial = batch * context * 2 * 1024 * 2, batch * 4096 * 2, 4 * parts * batch * 32 * 130

            def busy(n: int, batch: int = batch) -> Rational:
                return Rational(min(108, batch * 8 * n), 108)

            old = (cache + 2 * row) / (busy(1) * bandwidth)
            new = (cache + row + partial) / (busy(parts) * bandwidth) + (partial + row) / bandwidth
            assert found.speedup_expr(batch) == old / new, (parts, batch)
            assert (old > new) == any(one.bound == "pays" and one.low <= batch <= one.high for one in found.intervals)
            step = model.decode(batch=batch, seq_len=context, **SIXTEEN).apply(technique(text))
            placed = symroof.analyze(step, A100)
            assert placed["fused_attention"].time_expr + placed["fused_attention.combine"].time_expr == new
    assert found.edges_expr[0] < Rational(108, 8)


def test_the_number_of_parts_may_stay_a_letter() -> None:
    step = symroof.load_model("llama-3-8b").decode(symbolic=True).apply(technique("flash-decoding"))
    assert n_c not in step.symbolic.definitions, "without processors every operator fills the device"
    assert step["fused_attention"].occupancy == 1
    extra = step["fused_attention.combine"].byte_count() - b * h * e * a / 8
    assert simplify(extra - 4 * b * h * n_s * (e + 2)) == 0
    free = numbers("llama-3-8b", batch=1, seq_len=32768).apply(technique("flash-decoding:processors=108"))
    base = numbers("llama-3-8b", batch=1, seq_len=32768).apply(technique("flash-decoding:splits=1,processors=108"))
    found = payoff(base, free, over="splits", hardware=A100, operator="attention")
    times = {parts: found.speedup_expr(parts) for parts in range(1, 60)}
    assert max(times, key=times.__getitem__) == 14, "108 / 8 = 13.5 parts fill the device"


@pytest.mark.slow
def test_techniques_of_kernels_compose() -> None:
    step = numbers("llama-3-8b", batch=8, seq_len=2048)
    for one, other in (
        ("flash-attention", "quantize:weights=4,kv=8"),
        (f"fuse:operators={GATED}", "quantize:weights=4,activations=8,scope=all"),
        ("offload:share=1/4,link=25GB/s", "quantize:weights=4,group=128"),
        ("flash-attention", f"offload:what=kv,link=25GB/s,compute=cpu,unit={CPU}"),
        ("flash-decoding:splits=4", f"offload:what=kv,link=25GB/s,compute=cpu,unit={CPU}"),
        ("fuse:preset=engine", "quantize:kv=8"),
        ("fuse:operators=q_proj+q_rotary", "offload:share=1/4,link=25GB/s"),
        ("flash-decoding:splits=4,processors=108", "paged-cache:page=16"),
        ("flash-attention", "offload:what=kv,share=1/4,link=25GB/s"),
    ):
        times = []
        for order in ((one, other), (other, one)):
            after = step.apply(*chain(order))
            times.append((symroof.analyze(after, A100).total.time_expr, after.graph.kv_memory(), after.graph.weight_memory()))
        assert times[0] == times[1], (one, other)
    fused = step.apply(technique(f"fuse:operators={GATED}"))
    with pytest.raises(InputError, match="fuse after compressing its weights"):
        fused.apply(technique("low-rank:rank=64"))
    with pytest.raises(InputError, match="partly offloaded already"):
        step.apply(*chain(["offload:share=1/2,link=25GB/s", "low-rank:rank=64"]))
    with pytest.raises(EinsumError):
        fused.apply(technique("fuse:operators=up_proj+mlp_act"))
    assert step.symbolic.bind({t: Integer(5)})["qk_matmul"].flop_count.free_symbols <= {h, k, e, b}
