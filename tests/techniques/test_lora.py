"""A technique whose author knows no other one: adapters of low rank beside the matrices of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from sympy import Expr, Rational

import symroof
from symroof.errors import InputError
from symroof.operators.facts import BlockRole, Kind, Parameter, Role
from symroof.operators.graph import Graph
from symroof.operators.operator import Operator, Work
from symroof.operators.select import by_role, in_blocks, reads, routed, weight
from symroof.operators.tensor import Access, Axes, Level, Space, Storage
from symroof.symbols import rho
from symroof.techniques.registry import chain, names, technique
from symroof.techniques.technique import Fact, Number, Technique, number
from tests.steps import A100, step
from tests.techniques.pairs import INPUTS, applied, difference, made

MATRICES = by_role(Role.PROJECTION) & in_blocks(BlockRole.LAYER) & reads(weight(Parameter.MATRIX)) & ~reads(routed)
GROUPS = in_blocks(BlockRole.LAYER) & reads(weight(Parameter.MATRIX))


@dataclass(frozen=True)
class Lora(Technique):
    """``y = x W + (x A) B`` with A of d x rho and B of rho x f.

    Source: Hu et al. (2021), LoRA, arXiv:2106.09685, section 4.1.
    """

    name = "lora"
    summary = "adapters of low rank beside the matrices of the layers"
    source = "arXiv:2106.09685"
    requires = frozenset({Fact.WHOLE_MATRICES, Fact.OWN_STEP, Fact.ALL_LAYERS})

    rank: Number = number(rho)  # noqa: RUF009

    def rewrite(self, graph: Graph, given: Mapping[str, Expr]) -> Graph:
        def adapted(operator: Operator, block) -> Operator | tuple[Operator, ...]:
            if operator.is_group and GROUPS(operator, block):
                raise InputError(f"{self.name}: adapt {operator.name} before fusing it")
            return adapters(operator, given["rank"]) if MATRICES(operator, block) else operator

        return graph.each(adapted)


def adapters(operator: Operator, rank: Expr) -> Operator | tuple[Operator, ...]:
    """The product, the two of the adapter, and their sum, which goes where the product went."""
    x, y = operator.reads[0], operator.written
    matrices = [access for access in operator.reads if access.tensor.parameter is Parameter.MATRIX]
    inner = tuple(axis for axis in matrices[0].touched if axis not in y.touched)
    outer = tuple(axis for axis in matrices[0].touched if axis not in x.touched)
    if len(matrices) > 1:
        raise InputError(f"lora: the weight of {operator.name} is in two places: adapt it before")
    if {*matrices[0].touched} != {*inner, *outer}:  # a matrix for every head
        return operator

    def wide(space: Space) -> Space:
        return replace(space, sizes={**space.sizes, "rho": rank})

    def like(access: Access, name: str, axes: Axes, **changes) -> Access:
        return replace(access, tensor=replace(access.tensor, name=name, axes=axes, space=wide(access.tensor.space), **changes), axes=())

    def product(name: str, gone: Axes, given: Access, factor: Axes, result: Access) -> Operator:
        work = tuple(Work((*(axis for axis in piece.axes if axis not in gone), "rho"), 2, contraction=True) for piece in operator.work)
        thin = like(matrices[0], f"{operator.name}.{name}.weight", factor)
        return replace(
            operator, name=f"{operator.name}.{name}", space=wide(operator.space), work=work, reads=(given, thin), writes=(result,)
        )

    of_x = {"storage": Storage.ACTIVATION, "bits": x.tensor.bits, "overhead": x.tensor.overhead, "index": x.tensor.index}
    plain, change = (like(y, f"{operator.name}.{name}", y.touched, **of_x) for name in ("plain", "change"))
    low = like(x, f"{operator.name}.low", (*(axis for axis in x.touched if axis not in inner), "rho"))
    total = replace(
        operator,
        name=f"{operator.name}.sum",
        kind=Kind.ELEMENTWISE,
        work=(Work(y.touched, 1),),
        reads=(plain, change),
        writes=operator.writes,
        role=Role.ADD,
        linear_in=2,
    )
    return (
        replace(operator, writes=(plain,)),
        product("a", outer, x, (*inner, "rho"), low),
        product("b", inner, low, ("rho", *outer), change),
        total,
    )


RANK = 16
REFUSED = {
    "tensor-parallel": "needs weight matrices that are not split",
    "fuse": "before fusing it",
    "offload": "is in two places",
    "speculative": "a step without a draft model",
    "contextual-sparsity": "tokens that run through whole layers",
    "low-rank": "has axis 'rho' twice",
}
"""What refuses adapters behind a technique; in front of it they go with every one."""

UNFIT = {"quantize": "does not divide the 16 inputs", "low-rank": "rank 64 is above", "distill": "put it before lora"}
"""What is refused behind adapters."""


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_adapters_add_what_a_hand_counts(phase: str) -> None:
    plain = step("llama-2-7b", phase, **INPUTS[phase])
    with_lora = plain.apply(Lora(RANK))
    tokens, d, f = 16 if phase == "decode" else 8 * 512, 4096, 11008
    shapes = [(d, d)] * 4 + [(d, f)] * 2 + [(f, d)]
    sizes = [RANK * (rows + columns) for rows, columns in shapes]
    flops = 32 * sum(2 * tokens * size + tokens * columns for size, (_, columns) in zip(sizes, shapes, strict=True))
    assert with_lora.graph.flop_count - plain.graph.flop_count == flops
    assert with_lora.graph.weight_memory() - plain.graph.weight_memory() == 32 * 2 * sum(sizes)
    assert with_lora.graph.byte_count(Storage.WEIGHT) - plain.graph.byte_count(Storage.WEIGHT) == 32 * 2 * sum(sizes)
    assert with_lora.graph.kv_memory() == plain.graph.kv_memory()
    # x again, low written and read; the change written, it and the product read, and the product written beside the sum
    moved = 32 * 2 * tokens * sum(rows + 2 * RANK + 4 * columns for rows, columns in shapes)
    per_kind = {kind: with_lora.graph.byte_count(kind) - plain.graph.byte_count(kind) for kind in (Storage.ACTIVATION, Storage.KV_CACHE)}
    assert per_kind == {Storage.ACTIVATION: moved, Storage.KV_CACHE: 0}


@pytest.mark.parametrize("model", ["llama-2-7b", "mixtral-8x7b-v0.1"])
@pytest.mark.parametrize("name", names())
def test_adapters_go_with_every_technique_in_both_orders_or_one_line_says_why_not(model: str, name: str) -> None:
    other = made(name, model)
    for phase in other.phases:
        before = step(model, phase, **INPUTS[phase])
        alone = applied(before, other)
        if isinstance(alone, str):  # of another kind of model
            continue
        first, second = applied(before.apply(Lora(RANK)), other), applied(alone, Lora(RANK))
        assert (UNFIT[name] in first) if name in UNFIT else not isinstance(first, str)
        assert (REFUSED[name] in second) if name in REFUSED else not isinstance(second, str)
        assert not difference(first, second)


def test_devices_sum_each_result_once_and_what_is_between_the_factors() -> None:
    plain = step("llama-2-7b", "decode", **INPUTS["decode"])
    parallel = technique("tensor-parallel:degree=4")
    link = [made.apply(parallel).graph.byte_count(level=Level.LINK) for made in (plain, plain.apply(Lora(RANK)))]
    assert link[1] - link[0] == 32 * 2 * Rational(3, 2) * 16 * RANK * 2  # out_proj and down_proj, 2 (n - 1) / n of b rho elements


@pytest.mark.parametrize("texts", [["chunked-prefill:chunk=512", "memory-levels:tile=128,bandwidth=19TB/s", "data-parallel:degree=2"]])
def test_it_goes_into_a_chain_anywhere(texts: list[str]) -> None:
    plain = step("llama-2-7b", "prefill", **INPUTS["prefill"])
    others = chain(texts)
    steps = [plain.apply(*others[:place], Lora(RANK), *others[place:]) for place in range(len(others) + 1)]
    assert not any(difference(steps[0], other) for other in steps[1:])
    times = {symroof.analyze(made, A100).total.time_expr for made in steps}
    assert len(times) == 1
