"""Parallelism: what n devices do together, what crosses the link, where one more device stops paying."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from sympy import Add, Expr, Integer, Max, Rational, simplify

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Target
from symroof.operators.block import Block
from symroof.operators.collective import Group, all_gather, all_reduce, all_to_all, reduce_scatter, send
from symroof.operators.facts import Kind, Role
from symroof.operators.fusion import fuse
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Space, Storage, Tensor
from symroof.questions.payoff import payoff
from symroof.questions.scaling import balanced_degree, best_degree, over_degree, strong_scaling, useful_degree, weak_scaling
from symroof.techniques.registry import chain, technique
from symroof.techniques.system.tensor_parallel import TensorParallel

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
DEVICE = "a100-sxm-80gb"
n = symbols.n_p
MODELS = (
    "llama-2-7b",
    "llama-3-8b",
    "mixtral-8x7b-v0.1",
    "opt-6.7b",
    "gpt-j-6b",
    "gemma-2-9b",
    "deepseek-v2",
    "qwen3-next-80b-a3b-instruct",
)


UNCOPIED = {symbols.k_d: n, symbols.v_p: Integer(0)}
"""As many KV heads as devices or more, and an even vocabulary."""


def letters(model: str, phase: str = "decode", text: str = "", **options: object) -> Step:
    return getattr(symroof.load_model(model), phase)(symbolic=True, **options).apply(*chain([text]))


def numbers(model: str, phase: str = "decode", text: str = "", **inputs: object) -> Step:
    return getattr(symroof.load_model(model), phase)(**SIXTEEN, **{"batch": 16, "seq_len": 512, **inputs}).apply(*chain([text]))


def seconds(step: Step) -> Expr:
    return symroof.analyze(step, DEVICE).total.time_expr


def collectives(step: Step) -> list[str]:
    return [operator.name for operator, _ in step.symbolic if operator.kind is Kind.COLLECTIVE]


def link(operator: Operator) -> Expr:
    return operator.byte_count(level=Level.LINK)


# collectives


def payload() -> tuple[Tensor, Tensor]:
    space = Space({"b": symbols.b, "d": symbols.d})
    return tuple(Tensor(name, ("b", "d"), Storage.ACTIVATION, space) for name in "xy")  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("devices", [1, 2, 3, 8, 17])
def test_ring_all_reduce_step_by_step(devices: int) -> None:
    """Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of workstations", section 3: 2 (n-1)/n."""
    has = [[{(owner, chunk)} for chunk in range(devices)] for owner in range(devices)]
    sent = 0
    for turn in range(devices - 1):  # reduce-scatter
        moving = [(one, (one - turn) % devices) for one in range(devices)]
        parts = [set(has[one][chunk]) for one, chunk in moving]
        for (one, chunk), part in zip(moving, parts, strict=True):
            has[(one + 1) % devices][chunk] |= part
        sent += 1
    for turn in range(devices - 1):  # all-gather
        moving = [(one, (one + 1 - turn) % devices) for one in range(devices)]
        parts = [set(has[one][chunk]) for one, chunk in moving]
        for (one, chunk), part in zip(moving, parts, strict=True):
            has[(one + 1) % devices][chunk] |= part
        sent += 1
    assert all(len(chunk) == devices for device in has for chunk in device)
    x, y = payload()
    operator = all_reduce("r", Access(x), y, Group(Integer(devices), step=symbols.t_l))
    assert simplify(link(operator) - Rational(sent, devices) * x.byte_count) == 0
    assert operator.latency == sent * symbols.t_l


def test_collectives_add_up() -> None:
    x, y = payload()
    group = Group(n, step=symbols.t_l)
    scatter, gather, reduce = (how("o", Access(x), y, group) for how in (reduce_scatter, all_gather, all_reduce))
    assert simplify(link(scatter) + link(gather) - link(reduce)) == 0
    assert simplify(scatter.latency + gather.latency - reduce.latency) == 0
    assert simplify(link(all_to_all("a", Access(x), y, group)) / x.byte_count - (n - 1) / n) == 0
    assert link(send("p", x)) == x.byte_count
    assert all(one.flop_count == 0 and one.byte_count() == 0 for one in (scatter, gather, reduce))


@pytest.mark.parametrize(("devices", "rounds"), [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (1024, 10)])
def test_trees_take_log_steps_and_as_many_bytes(devices: int, rounds: int) -> None:
    """Sanders, Speck and Träff (2009): two trees of n - 1 edges, each with half of the payload up and down."""
    x, y = payload()
    tree = all_reduce("r", Access(x), y, Group(Integer(devices), step=Integer(1), algorithm="tree"))
    assert tree.latency == 2 * rounds
    edges = 2 * (devices - 1) * 2 * x.byte_count / 2
    assert simplify(link(tree) - edges / devices) == 0


# tensor parallelism


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("name", MODELS)
def test_devices_together_do_the_work_of_one(name: str, phase: str) -> None:
    """An operator is cut n ways in FLOPs and weights, or is on every device as it was; copies and padding apart, there is no third case."""
    for fused in (False, True):
        before, after = (letters(name, phase, text, flash_attention=fused) for text in ("", "tensor-parallel"))
        after = after.symbolic.replaced(UNCOPIED)
        of = {operator.name: operator for operator, _ in after}
        kinds = set()
        for old, _ in before.symbolic:
            new = of[old.name]
            if old.flop_count != 0:
                ratio = simplify(new.flop_count / old.flop_count)
                assert ratio in (1, 1 / n), (old.name, ratio)
                kinds.add((old.kind, ratio))
                uncut = old.name.endswith(("norm", "_add", "router", "router_softmax", "correction"))
                assert old.kind is not Kind.MATMUL or ratio == 1 / n or uncut or name == "deepseek-v2", old.name
            for access in old.reads:
                if access.tensor.storage is Storage.WEIGHT:
                    (same,) = [one.tensor for one in new.reads if one.tensor.name == access.tensor.name]
                    share = simplify(same.elements / access.tensor.elements)
                    assert share in (1, 1 / n)
                    if len(access.tensor.axes) > 1 and old.flop_count != 0 and old.kind is Kind.MATMUL:
                        assert share == simplify(new.flop_count / old.flop_count), old.name
        assert (Kind.MATMUL, 1 / n) in kinds
        extra = set(of) - {operator.name for operator, _ in before.symbolic}
        assert extra == {operator.name for operator, _ in after if operator.kind is Kind.COLLECTIVE}


def test_weights_are_held_once() -> None:
    for name in ("llama-2-7b", "opt-6.7b", "mixtral-8x7b-v0.1"):
        before, after = numbers(name), numbers(name, text="tensor-parallel:degree=4")
        own = after.symbolic.bind({**after.values, symbols.v_p: Integer(0)})
        kept = Integer(0)
        for tensor, count in before.graph.resident(Storage.WEIGHT).items():
            kept += count * tensor.byte_count if not {"k", "f", "f_e", "v"} & {*tensor.axes} else 0
        assert 4 * (own.weight_memory() - kept) == before.graph.weight_memory() - kept
        assert 4 * after.graph.kv_memory() == before.graph.kv_memory()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-2-7b", ["out_proj", "down_proj"]),
        ("gpt-j-6b", ["attn_add"]),
        ("mixtral-8x7b-v0.1", ["out_proj", "expert_combine"]),
        ("deepseek-moe-16b-base", ["moe.out_proj", "moe.shared_add"]),
        ("mamba-130m", ["x_proj", "out_proj"]),
        ("opt-350m", ["out_proj", "down_proj"]),
        ("gemma-2-9b", ["full.out_proj", "full.down_proj"]),
        ("vit-base-patch16-224", ["out_proj", "down_proj"]),
    ],
)
def test_all_reduces_of_a_layer(name: str, expected: list[str]) -> None:
    """Two in the forward pass of a layer: Shoeybi et al. (2019), Megatron-LM, arXiv:1909.08053, section 3 and figure 4.

    One where attention and MLP run side by side: Wang and Komatsuzaki (2021), GPT-J.
    """
    step = letters(name, "prefill", "tensor-parallel")
    found = [op.name for op in step.symbolic.blocks[-2].operators if op.kind is Kind.COLLECTIVE]
    assert found == [f"{one}.all_reduce" for one in expected]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen2-57b-a14b", ["embedding", "out_proj", "shared_add", "lm_head"]),
        (
            "qwen3-next-80b-a3b-instruct",
            ["embedding", "linear.out_proj", "linear.shared_add", "full.out_proj", "full.shared_add", "lm_head"],
        ),
        ("deepseek-v2-lite", ["embedding", "dense.out_proj", "dense.down_proj", "moe.out_proj", "moe.shared_add", "lm_head"]),
    ],
)
def test_shared_experts_are_summed_with_the_others(name: str, expected: list[str]) -> None:
    """All collectives of a step: gated shared experts are added to the routed ones before the one all-reduce of the layer."""
    found = collectives(numbers(name, text="tensor-parallel:degree=2"))
    *reduced, last = expected
    assert found == [*(f"{operator}.all_reduce" for operator in reduced), f"{last}.all_gather"]


def test_embedding_and_logits() -> None:
    step = letters("llama-2-7b", text="tensor-parallel")
    assert collectives(step)[0] == "embedding.all_reduce"
    assert collectives(step)[-1] == "lm_head.all_gather"
    b, d, v, a = symbols.b, symbols.d, symbols.v, symbols.a
    assert simplify(link(step.symbolic["embedding.all_reduce"]) - 2 * (n - 1) / n * b * d * a / 8) == 0
    assert simplify(link(step.symbolic["lm_head.all_gather"]) - (n - 1) / n * b * v * a / 8) == 0


def test_a_device_looks_up_its_share_of_the_rows() -> None:
    before, after = numbers("llama-2-7b"), numbers("llama-2-7b", text="tensor-parallel:degree=4")
    old, new = before.graph["embedding"], after.graph["embedding"]
    assert 4 * new.byte_count(Storage.WEIGHT) == old.byte_count(Storage.WEIGHT)
    assert new.byte_count(Storage.ACTIVATION) == old.byte_count(Storage.ACTIVATION)


def test_what_crosses_a_link_takes_no_memory() -> None:
    for name, phase, text in (("llama-2-7b", "decode", "tensor-parallel:degree=2"), ("gpt2", "prefill", "context-parallel:degree=2")):
        after = numbers(name, phase, text).graph

        def kept(operator: Operator, _: Block) -> Operator:
            reads, writes = (tuple(one for one in part if one.tensor.level is Level.MEMORY) for part in (operator.reads, operator.writes))
            return replace(operator, reads=reads, writes=writes)

        bare = after.each(kept)
        assert bare.activation_memory() == after.activation_memory()
        assert bare.kv_memory() == after.kv_memory()
        assert bare.byte_count(level=Level.LINK) == 0 != after.byte_count(level=Level.LINK)


def test_all_reduces_read_what_was_written_and_hand_it_on() -> None:
    for name in MODELS:
        step = letters(name, text="tensor-parallel")
        for block in step.symbolic.blocks:
            for one, next_one in pairwise(block.operators):
                if next_one.name.endswith(".all_reduce"):
                    assert next_one.reads[0].tensor is one.result
                    assert any(access.tensor is next_one.result for op, _ in step.symbolic for access in op.reads)


@pytest.mark.parametrize("name", MODELS)
def test_one_device_is_the_untouched_graph(name: str) -> None:
    for phase, text in (("decode", "tensor-parallel"), ("decode", "data-parallel"), ("prefill", "context-parallel")):
        if phase == "prefill" and "qwen3-next" in name:
            continue
        step = numbers(name, phase)
        assert step.apply(technique(f"{text}:degree=1")).symbolic.blocks is step.symbolic.blocks
        free = step.apply(technique(text))  # the limit of the letter
        at = free.symbolic.bind({n: Integer(1), **step.values})
        assert Add(*(count * link(operator) for operator, count in at)) == 0
        for old, _ in step.graph:
            new = at[old.name]
            assert (new.flop_count, new.byte_count(), new.latency) == (old.flop_count, old.byte_count(), 0), old.name
    if "8x7b" in name:
        step = numbers(name)
        assert step.apply(technique("expert-parallel:degree=1")).symbolic.blocks is step.symbolic.blocks
        at = step.apply(technique("expert-parallel")).symbolic.bind({n: Integer(1), **step.values})
        assert (at.flop_count, at.byte_count(), at.weight_memory()) == (
            step.graph.flop_count,
            step.graph.byte_count(),
            step.graph.weight_memory(),
        )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("llama-3-8b", "tensor-parallel:degree=64", "does not divide 32 heads; one of 2, 4, 8, 16, 32 does"),
        ("falcon-7b", "tensor-parallel:degree=2", "does not divide 71 heads; one of 71 does"),
        ("mamba2-130m", "tensor-parallel:degree=5", "1536 channels of a state-space layer"),
        ("llama-2-7b", "expert-parallel:degree=2", "no routed experts"),
        ("mixtral-8x7b-v0.1", "expert-parallel:degree=16", "does not divide 8 experts; one of 2, 4, 8 does"),
        ("llama-2-7b", "pipeline-parallel:degree=33,micro_batches=2", "33 stages of 32 layers: expected at most 32"),
        ("llama-2-7b", "pipeline-parallel:degree=4,micro_batches=3", "micro_batches 3 does not divide a batch of 16"),
        ("llama-2-7b", "data-parallel:degree=3", "does not divide 16 sequences"),
        ("llama-2-7b", "context-parallel:degree=2", "this is a decode step; expected prefill"),
        ("llama-2-7b", "pipeline-parallel:degree=2,micro_batches=2 tensor-parallel:degree=2", "put it before pipeline-parallel"),
        ("llama-2-7b", "tensor-parallel data-parallel", "n_p is the degree of an earlier technique"),
        ("llama-2-7b", "tensor-parallel:degree=2,link=300GB/s pipeline-parallel:degree=2,link=25GB/s", "a step has one link"),
        ("llama-2-7b", "tensor-parallel:degree=2,collective=star", "ring, tree"),
        ("llama-2-7b", "tensor-parallel:degree=0", "from 1 on"),
    ],
)
def test_refusals(name: str, text: str, said: str) -> None:
    with pytest.raises(InputError) as told:
        numbers(name, text=text)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_refusals_of_a_prompt() -> None:
    for name, text, said in (
        ("llama-2-7b", "context-parallel:degree=3", "512 tokens"),
        ("mamba-130m", "context-parallel", "a recurrence"),
    ):
        with pytest.raises(InputError, match=said):
            numbers(name, "prefill", text)


def test_a_sum_inside_a_fused_operator_is_refused() -> None:
    graph = letters("llama-2-7b").symbolic

    def merged(*names: str) -> Graph:
        whole, _ = fuse(graph, names)
        layer = graph.blocks[1]
        kept = [operator for operator in layer.operators if operator.name not in names[1:]]
        made = tuple(whole if operator.name == names[0] else operator for operator in kept)
        return replace(graph, blocks=(graph.blocks[0], replace(layer, operators=made), graph.blocks[2]))

    assert merged("gate_proj", "up_proj", "mlp_act", "down_proj").apply(TensorParallel())
    with pytest.raises(InputError, match="span an all-reduce"):
        merged("out_proj", "attn_add").apply(TensorParallel())
    with pytest.raises(InputError, match="span an all-reduce"):
        merged("out_proj", "attn_add", "mlp_norm", "gate_proj").apply(TensorParallel())


# the other four


def test_data_parallel_divides_all_but_weights() -> None:
    for name in ("llama-3-8b", "opt-6.7b", "mixtral-8x7b-v0.1"):
        one, many = numbers(name, batch=1), numbers(name, batch=4, text="data-parallel:degree=4")  # two experts of eight touched
        for (old, _), (new, _) in zip(one.graph, many.graph, strict=True):
            assert (old.name, old.flop_count, old.byte_count()) == (new.name, new.flop_count, new.byte_count())
        assert [one.graph.weight_memory(), one.graph.kv_memory()] == [many.graph.weight_memory(), many.graph.kv_memory()]
        assert seconds(one) == seconds(many)


def test_experts_are_spread_and_nothing_else_is() -> None:
    before, after, copies = (numbers("mixtral-8x7b-v0.1", text=text) for text in ("", "expert-parallel:degree=4", "data-parallel:degree=4"))
    extra = collectives(after)
    assert extra == ["expert_gate_proj.all_to_all", "expert_down_proj.all_to_all"]
    for old, _ in before.graph:
        new = after.graph[old.name]
        assert 4 * new.flop_count == old.flop_count or old.flop_count == 0
        if old.name.startswith("expert_") and old.kind is Kind.MATMUL:
            assert 4 * new.byte_count() == old.byte_count()
        else:  # data parallel
            assert new.byte_count() == copies.graph[old.name].byte_count(), old.name
    experts = Add(
        *(
            count * tensor.byte_count
            for tensor, count in before.graph.resident(Storage.WEIGHT).items()
            if "E" in tensor.axes and "f_e" in tensor.axes
        )
    )
    assert before.graph.weight_memory() - after.graph.weight_memory() == experts * Rational(3, 4)
    dimensions = symroof.load_model("mixtral-8x7b-v0.1").dimensions
    devices = Rational(13, 7)  # of a token: 4 (1 - (6 x 5) / (8 x 7))
    rows = 16 * devices * dimensions[symbols.d] * 2 / 4
    assert {link(after.graph[name]) for name in extra} == {rows * Rational(3, 4)}


@pytest.mark.parametrize(
    "name", ["llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-6.7b", "deepseek-v2", "mistral-7b-v0.1", "vit-base-patch16-224"]
)
def test_context_parallel_divides_tokens(name: str) -> None:
    for options in ({}, {"flash_attention": True}, {"causal": False}, {"lm_head": "all"}):
        before, after = (letters(name, "prefill", text, **options) for text in ("", "context-parallel"))
        for old, _ in before.symbolic:
            new = after.symbolic[old.name]
            axes = {axis for piece in old.work for axis in piece.axes}
            by_token = axes & {"s", "t", "patches"} or (old.name == "lm_head" and options.get("lm_head") == "all")
            share = 1 / n if by_token else 1  # the rows of the LM head, a classifier
            assert simplify(new.flop_count - old.flop_count * share) == 0, old.name
        assert simplify(after.symbolic.weight_memory() - before.symbolic.weight_memory()) == 0 or "vit" in name
        if before.symbolic.kv_memory() != 0:
            assert simplify(after.symbolic.kv_memory() * n - before.symbolic.kv_memory()) == 0


def test_ring_attention_passes_keys_and_values_once() -> None:
    """Liu et al. (2023), arXiv:2310.01889, section 3: hidden where a block is longer than peak over link bandwidth."""
    for fused in (False, True):
        step = letters("llama-2-7b", "prefill", "context-parallel", flash_attention=fused)
        b, s, k, e, c = symbols.b, symbols.s, symbols.k, symbols.e, symbols.c
        assert simplify(step.symbolic.byte_count(level=Level.LINK) / symbols.L - 2 * (n - 1) / n * b * s * k * e * c / 8) == 0
    peak, bandwidth, devices = 312 * 10**12, 10**9, 4  # blocks of 312000 tokens, without a mask and without softmax
    for block, hidden in ((200_000, False), (320_000, True)):
        whole = numbers(
            "llama-2-7b", "prefill", f"context-parallel:degree={devices},link=1GB/s", batch=1, seq_len=block * devices, causal=False
        )
        times = symroof.analyze(whole, DEVICE)["qk_matmul"].seconds_exprs
        assert bool(times["link"] < times["compute"]) is hidden
        assert hidden is bool(block * devices > (devices - 1) * Rational(peak, bandwidth))


def test_the_steps_of_the_ring_take_their_latency_once_for_keys_and_once_for_values() -> None:
    """n - 1 steps of a ring; scores wait for the keys, the weighted sum for the values."""
    text = "context-parallel:degree=4,link=100GB/s"
    ideal, late = (numbers("llama-2-7b", "prefill", text + more, batch=1, seq_len=512) for more in ("", ",latency=3us"))
    waits = {name: late.graph[name].latency - ideal.graph[name].latency for name in ("qk_matmul", "sv_matmul", "up_proj")}
    assert waits == {"qk_matmul": Rational(9, 10**6), "sv_matmul": Rational(9, 10**6), "up_proj": 0}


def test_memory_of_unfused_attention_is_read_whole() -> None:
    before, after = (numbers("llama-2-7b", "prefill", text, batch=1) for text in ("", "context-parallel:degree=4"))
    old, new = before.graph["qk_matmul"], after.graph["qk_matmul"]
    assert new.byte_count(Storage.KV_CACHE) == old.byte_count(Storage.KV_CACHE)
    assert 4 * new.byte_count(Storage.ACTIVATION) == old.byte_count(Storage.ACTIVATION)


@pytest.mark.parametrize("name", ["llama-2-7b", "llama-3-8b", "opt-6.7b", "mixtral-8x7b-v0.1"])
def test_pipeline_against_micro_batches_one_by_one(name: str) -> None:
    """A stage's slot is a step of b / m sequences; m + n - 1 of them: Huang et al. (2018), GPipe, arXiv:1811.06965, section 2.3."""
    stages, pieces, batch = 4, 2, 4  # half of the experts touched by a piece, all by the batch
    small = symroof.analyze(numbers(name, batch=batch // pieces), DEVICE)
    slot = Add(*(one.time_expr * one.count / (stages if one.count != 1 else 1) for one in small))
    for schedule, slots in (("flush", pieces + stages - 1), ("steady", max(pieces, stages))):
        text = f"pipeline-parallel:degree={stages},micro_batches={pieces},schedule={schedule}"
        after = symroof.analyze(numbers(name, batch=batch, text=text), DEVICE)
        assert after.total.time_expr - after["stage.send"].time_expr == slots * slot
        width = 5120 if name == "llama-2-13b" else 4096
        link = Integer(300 * 10**9)  # NVLink 3, one way
        own = symroof.load_hardware(DEVICE).link(Target.DEVICE)
        hop = Integer(batch // pieces * width * 2) / link + own.exchange_overhead.value + own.exchange_latency.value
        assert after["stage.send"].time_expr == slots * hop, "a stage that is neither first nor last hands on every micro-batch"
    whole = numbers(name, batch=batch)
    layers = whole.graph.blocks[1].count
    for block, part in zip(whole.graph.blocks, [one for one in after.graph.blocks if one.name != "stage"], strict=True):
        assert part.count == (block.count / stages if block.count == layers else block.count)
        for old, new in zip(block.operators, part.operators, strict=True):
            assert old.flop_count == new.flop_count
            assert old.byte_count(Storage.KV_CACHE) == new.byte_count(Storage.KV_CACHE)
            assert old.byte_count(Storage.ACTIVATION) == new.byte_count(Storage.ACTIVATION) or "cos_sin" in str(old.reads)
    assert stages * after.graph.kv_memory() == whole.graph.kv_memory()
    assert after.graph.activation_memory() * pieces <= whole.graph.activation_memory() * Rational(11, 10)


def test_pipeline_bubble() -> None:
    """(n - 1) / (m + n - 1) of a step idle: GPipe, section 2.3; (n - 1) / m of the ideal time: Narayanan et al., arXiv:2104.04473, 2.2."""
    m = symbols.m_p
    busy = letters("llama-2-7b", "prefill", "pipeline-parallel").symbolic.ceilings.compute
    assert simplify(1 - busy - (n - 1) / (m + n - 1)) == 0
    assert simplify((1 / busy - 1) - (n - 1) / m) == 0
    steady = "pipeline-parallel:schedule=steady"
    assert letters("llama-2-7b", "prefill", steady).symbolic.ceilings.compute == 1
    assert letters("llama-2-7b", "decode", steady).symbolic.ceilings.compute == m / Max(m, n)
    guessed = "speculative:length=4,acceptance=1/2,draft_cost=0"  # a guess waits for what was verified before it, however long it is
    assert letters("llama-2-7b", "decode", f"{guessed} {steady}").symbolic.ceilings.compute == m / Max(m, n)
    whole = numbers("llama-2-7b")
    assert whole.apply(technique("pipeline-parallel:degree=1,micro_batches=1")).symbolic.blocks is whole.symbolic.blocks


def test_a_device_sees_its_own_sequences_of_what_came_before() -> None:
    """A layer that some sequence of b needs runs for b / n of them on a replica, for b / m of them in a micro-batch."""
    early = "early-exit:depth=1/2,exits=independent"
    one = numbers("llama-2-7b", batch=2, text=early)
    copies = numbers("llama-2-7b", batch=8, text=f"{early} data-parallel:degree=4")
    assert seconds(one) == seconds(copies)
    assert (one.graph.flop_count, one.graph.weight_memory()) == (copies.graph.flop_count, copies.graph.weight_memory())
    turns = numbers("llama-2-7b", batch=8, text=f"{early} pipeline-parallel:degree=2,micro_batches=4,schedule=steady")
    parts = symroof.analyze(turns, DEVICE)
    small = {placed.name: placed for placed in symroof.analyze(one, DEVICE)}
    for placed in parts:
        if placed.name != "stage.send":
            old = small[placed.name]
            stage = 2 if old.count != 1 else 1
            assert placed.time_expr * placed.count_expr == 4 * old.time_expr * old.count / stage, placed.name
    assert parts.graph.weight_memory() < one.graph.weight_memory()
    both = (early, "tensor-parallel:degree=2")  # an all-reduce has as many rows as what it sums
    assert len({seconds(numbers("llama-2-7b", text=" ".join(chained))) for chained in (both, both[::-1])}) == 1


def test_extra_heads_are_gathered_and_not_staged() -> None:
    medusa = numbers("llama-2-7b", text="medusa:heads=3 tensor-parallel:degree=2")
    assert [name for name in collectives(medusa) if name.endswith("all_gather")] == ["lm_head.all_gather", "medusa.lm_head.all_gather"]
    (block,) = [
        one
        for one in numbers("llama-2-7b", text="medusa:heads=3 pipeline-parallel:degree=2,micro_batches=2").graph.blocks
        if one.name == "medusa"
    ]
    assert block.count == 3


@pytest.mark.slow
def test_orders_of_a_chain_agree() -> None:
    parts = ("tensor-parallel:degree=2,latency=3us", "data-parallel:degree=2", "quantize:weights=4,group=128")
    chains = [" ".join(parts[place] for place in order) for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1))]
    found = [numbers("llama-3-8b", text=f"{one} pipeline-parallel:degree=4,micro_batches=2") for one in chains]
    assert len({seconds(one) for one in found}) == 1
    assert len({one.graph.activation_memory() for one in found}) == 1
    spread = ("tensor-parallel:degree=2", "expert-parallel:degree=4")
    assert len({seconds(numbers("mixtral-8x7b-v0.1", text=" ".join(one))) for one in (spread, spread[::-1])}) == 1


# how far it pays


def test_without_latency_devices_help_where_what_they_share_exceeds_what_crosses() -> None:
    assert [useful_degree(Integer(work), Integer(4), Integer(0)) for work in (5, 4, 3)] == [float("inf"), 1, 1]


def test_closed_form_of_the_useful_degree_against_a_search() -> None:
    for shared in (0, 1, 7, 30, 200, 999):
        for crossing in (0, 3, 50):
            for latency in (1, 2, 9):
                times = [Rational(shared, k) + Rational(crossing * (k - 1), k) + latency * (k - 1) for k in range(1, 80)]
                first = next(k for k in range(1, 79) if times[k] >= times[k - 1])
                assert useful_degree(Integer(shared), Integer(crossing), Integer(latency)) == first


def _takes(step: Step, text: str) -> bool:
    try:
        step.apply(technique(text))
    except InputError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-2-7b", "opt-6.7b", "mixtral-8x7b-v0.1"])
def test_best_degree_is_that_of_whole_steps(name: str) -> None:
    step = numbers(name)
    text = "tensor-parallel:latency=5us,node=8"
    among = (1, 2, 4, 8) + ((16, 32) if name != "mixtral-8x7b-v0.1" else ())
    found = best_degree(step.apply(technique(text)), hardware=DEVICE, among=among)
    times = {}
    for degree in among:
        times[degree] = seconds(step.apply(technique(f"{text},degree={degree}")))
    assert found.integer == min(times, key=lambda one: times[one])
    assert found.time_expr == times[int(found.integer)]
    free = best_degree(step.apply(technique(text)), hardware=DEVICE)
    regimes = over_degree(step.apply(technique(text)), DEVICE).pieces_expr
    at = {k: regimes(k) for k in range(1, 40) if _takes(step, f"{text},degree={k}")}
    assert free.integer == min(at, key=lambda one: at[one])
    assert best_degree(step.apply(technique("tensor-parallel:link=300GB/s")), hardware=DEVICE).integer is None


@pytest.mark.slow
def test_scaling_is_a_ratio_of_whole_steps() -> None:
    step = numbers("llama-3-8b")
    after = step.apply(technique("tensor-parallel:latency=5us"))
    strong, weak = (scaling(step, after, hardware=DEVICE).pieces_expr for scaling in (strong_scaling, weak_scaling))
    for degree in (1, 2, 8):
        text = f"tensor-parallel:degree={degree},latency=5us"
        assert strong(degree) == seconds(step) / (degree * seconds(step.apply(technique(text))))
        assert weak(degree) == seconds(step) / seconds(numbers("llama-3-8b", batch=16 * degree, text=text))
    assert strong(1) == weak(1) == 1


def test_pays_where_the_analysis_says_so() -> None:
    slow = "tensor-parallel:degree=8,link=1GB/s,latency=3us"
    free = symroof.load_model("llama-2-7b").decode(seq_len=512, **SIXTEEN)
    found = payoff(free, free.apply(technique(slow)), over="batch", hardware=DEVICE)
    assert len(found.edges_expr) >= 1
    for edge in found.edges_expr:
        for batch in {int(edge), int(edge) + 1} - {0}:
            gains = seconds(numbers("llama-2-7b", batch=batch)) > seconds(numbers("llama-2-7b", batch=batch, text=slow))
            (place,) = [one for one in found.intervals if one.low <= batch <= one.high][:1]
            assert gains == (place.bound == "pays")


@pytest.mark.parametrize(("work", "crossing", "latency"), [(90, 5, 1), (90, 1, 5), (7, 7, 7), (90, 0, 1), (90, 4, 0)])
def test_at_the_balanced_degree_communication_takes_as_long_as_the_work(work: int, crossing: int, latency: int) -> None:
    degree = balanced_degree(Integer(work), Integer(crossing), Integer(latency)).exact
    assert ((degree - 1) * (crossing + latency * degree)).expand() == work
    assert degree > 1


# Megatron's sequence parallelism


SPLIT_NORMS = [
    ("llama-3-8b", "decode", 8, 2, 2),
    ("gemma-2-9b", "prefill", 4, 2, 2),
    ("opt-6.7b", "prefill", 8, 2, 2),
    ("falcon-7b", "decode", 71, 1, 1),
    ("mixtral-8x7b-v0.1", "decode", 8, 2, 2),
]


@pytest.mark.parametrize(("name", "phase", "n", "sums", "norms"), SPLIT_NORMS)
def test_norms_and_adds_of_own_tokens(name: str, phase: str, n: int, sums: int, norms: int) -> None:
    """Counted by hand per layer: as many reduce-scatters as there were all-reduces, an all-gather of every norm that products read."""
    batch, length, late = 16, 64, "latency=1us,overhead=10us"
    inputs = {"batch": batch, "seq_len": length, "weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
    plain = getattr(symroof.load_model(name), phase)(**inputs)
    whole, split = (plain.apply(f"tensor-parallel:degree={n},{late}{more}") for more in ("", ",sequence_parallel=yes"))
    tokens = batch * (length if phase == "prefill" else 1)
    payload = tokens * plain.values[symbols.d] * 2
    assert whole.graph.contraction_flop_count == split.graph.contraction_flop_count
    assert whole.graph.weight_memory() == split.graph.weight_memory()
    assert whole.graph.kv_memory() == split.graph.kv_memory()
    rowwise = 0
    for operator, _ in whole.graph:
        if operator.kind is Kind.COLLECTIVE:
            continue
        new = split.graph[operator.name]
        own = operator.kind in (Kind.NORM, Kind.ELEMENTWISE) and operator.role in (Role.NORM, Role.ADD) and "k" not in operator.result.axes
        own &= not operator.result.name.endswith(".partial")  # sums of partial sums have all rows
        rowwise += own
        assert new.flop_count * (n if own else 1) == operator.flop_count, operator.name
        if own:
            kept = operator.byte_count(Storage.ACTIVATION)
            assert new.byte_count(Storage.ACTIVATION) * n == kept, operator.name
            assert new.byte_count(Storage.WEIGHT) == operator.byte_count(Storage.WEIGHT), operator.name
    assert rowwise >= 3
    for block in split.graph.blocks:
        moved = [operator for operator in block.operators if operator.kind is Kind.COLLECTIVE]
        if block.count == 1:
            continue
        scattered = [operator for operator in moved if operator.name.endswith("reduce_scatter")]
        gathered = [operator for operator in moved if operator.name.endswith("all_gather")]
        assert (len(scattered), len(gathered), len(moved)) == (sums, norms, sums + norms)
        for operator in moved:
            assert operator.byte_count(level=Level.LINK) == Rational(n - 1, n) * payload, operator.name
            assert operator.latency == Rational(10 + n - 1, 10**6), operator.name
    last = 1 if phase == "decode" else Rational(1, length)
    saved = Rational(n - 1, n) * payload * (1 - last)  # only the last token's row is gathered for the LM head
    assert split.graph.byte_count(level=Level.LINK) == whole.graph.byte_count(level=Level.LINK) - saved
    assert split.graph.activation_memory() <= whole.graph.activation_memory()


def test_sequence_parallelism_in_chains() -> None:
    step, split = numbers("llama-3-8b", "decode"), "tensor-parallel:degree=8,sequence_parallel=yes"
    mixed = step.apply("mixed-batch:chunk=64", split)
    assert mixed.graph["attn_norm"].flop_count * 8 == step.apply("mixed-batch:chunk=64").graph["attn_norm"].flop_count
    with pytest.raises(InputError, match="must come before tensor-parallel"):
        step.apply(split, "mixed-batch:chunk=64")
    both = numbers("mixtral-8x7b-v0.1", "decode").apply(split)
    assert (
        both.graph["router"].flop_count
        == numbers("mixtral-8x7b-v0.1", "decode").apply("tensor-parallel:degree=8").graph["router"].flop_count
    )
    one = step.apply("tensor-parallel:degree=1,sequence_parallel=yes")
    assert one.graph.byte_count() == step.graph.byte_count()
    for text in ("sequence-parallel", "sequence-parallel:degree=4"):
        with pytest.raises(InputError, match="ring attention is context-parallel; for Megatron's, tensor-parallel:sequence_parallel=yes"):
            step.apply(text)
