"""Contractions of a traced module as einsums over axes: products of matrices, convolutions, attention."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sympy import Integer

from symroof.operators.attention import FLOPS_PER_SCORE
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.tensor import Storage
from symroof.tracing.counts import CONVOLUTIONS, TRANSPOSED
from symroof.tracing.dimensions import Dim, align, dim_of, divided, keep_apart, resolved, size_of
from symroof.tracing.exported import Node, Value
from symroof.tracing.sketch import Count, Touch, View, aligned, like, used_as

if TYPE_CHECKING:
    from symroof.tracing.reading import Reader


def contract(reader: Reader, node: Node, spec: str, operands: Sequence[View], bias: View | None = None) -> None:
    """An einsum of tensors whose dimensions have these characters; a dimension of size 1 is repeated along what it meets."""
    inputs, _, output = spec.partition("->")
    labelled = list(zip(inputs.split(","), operands, strict=True))
    dims: dict[str, Dim] = {}
    for label, view in labelled:
        for character, dim in zip(label, view.dims, strict=True):
            if dims.get(character):
                align(dims[character], dim)
            else:
                dims[character] = dim
    order = [*output, *(character for character in dims if character not in output)]
    space = dict(zip(order, keep_apart([dims[character] for character in order]), strict=True))
    result = reader.result(node, [space[character] for character in output])
    reads = [Touch(view.memory, aligned(view, [space[character] for character in label])) for label, view in labelled]
    weighted = any(view.memory.storage is Storage.WEIGHT for view in operands)
    used_as(Parameter.MATRIX, *operands)
    if bias is not None:
        used_as(Parameter.BIAS, bias)
        reads.append(Touch(bias.memory, aligned(bias, result.dims)))
    facts = {"role": Role.PROJECTION, "linear_in": 1} if weighted else {}
    reader.sketch(node, Kind.MATMUL, [Count(_flat(space.values()), 2, contraction=True)], reads, result, **facts)


def linear(reader: Reader, node: Node, operands: list[View]) -> None:
    """``x W^T + bias``."""
    rows = string.ascii_lowercase[: len(operands[0].dims) - 1]
    contract(reader, node, f"{rows}Z,YZ->{rows}Y", operands[:2], operands[2] if len(operands) > 2 else None)


def matmul(reader: Reader, node: Node, operands: list[View], bias: View | None = None) -> None:
    """Products of vectors, matrices and batches of them."""
    first, second = (len(view.dims) for view in operands)
    every = string.ascii_lowercase[: max(first, second, 2) - 2]
    left = "Z" if first == 1 else f"{every[len(every) - first + 2 :]}XZ"
    right = "Z" if second == 1 else f"{every[len(every) - second + 2 :]}ZY"
    contract(reader, node, f"{left},{right}->{every}{'X' * (first > 1)}{'Y' * (second > 1)}", operands, bias)


def addmm(reader: Reader, node: Node, operands: list[View]) -> None:
    """A product of matrices onto a third tensor, its bias."""
    matmul(reader, node, operands[1:], operands[0])


def einsum(reader: Reader, node: Node, operands: list[View]) -> None:
    """As written; ``...`` are the dimensions that have no character."""
    inputs, arrow, output = node.args[0].replace(" ", "").partition("->")
    labels = inputs.split(",")
    free = [character for character in string.ascii_uppercase if character not in node.args[0]]
    counts = [len(view.dims) - len(label) + 3 if "..." in label else 0 for label, view in zip(labels, operands, strict=True)]
    every = "".join(free[: max(counts)])
    labels = [label.replace("...", every[len(every) - count :]) for label, count in zip(labels, counts, strict=True)]
    if not arrow:
        joined = "".join(labels)
        output = "..." * ("..." in inputs) + "".join(sorted(one for one in {*joined} - {*every} if joined.count(one) == 1))
    contract(reader, node, f"{','.join(labels)}->{output.replace('...', every)}", operands)


def grouped(reader: Reader, node: Node, operands: list[View]) -> None:
    """Rows in the order of their experts, each multiplied by its own expert's matrix; the matrices of all experts are read."""
    rows, experts = operands[:2]
    align(rows.dims[-1], experts.dims[-2])
    space = keep_apart([rows.dims[0], experts.dims[-1], rows.dims[-1]])
    result = reader.result(node, space[:2])
    used_as(Parameter.MATRIX, experts)
    own = aligned(View(experts.memory, experts.dims[1:]), [space[2], space[1]])
    reads = [Touch(rows.memory, rows.touched), Touch(experts.memory, (*resolved(experts.dims[0]), *own))]
    work = [Count(_flat(space), 2, contraction=True)]
    reader.sketch(node, Kind.MATMUL, work, reads, result, role=Role.PROJECTION, linear_in=1)


def convolution(reader: Reader, node: Node, operands: list[View]) -> None:
    """Twice the taps per element of the result, or, transposed, of the input."""
    x, weight = operands[:2]
    turned = node.operator in TRANSPOSED or (node.operator == "convolution" and bool(node.args[6]))
    channels, taps = weight.dims[0], weight.dims[1:]
    inner = channels if turned else taps[0]
    if size_of(resolved(inner)) == size_of(resolved(x.dims[1])):
        align(x.dims[1], inner)
    made = dim_of(node.results[0].shape[1]) if turned else channels
    result = reader.result(node, (x.dims[0], made, *like(Value(node.results[0].shape[2:]), [View(x.memory, x.dims[2:])])))
    work = [Count(_flat(keep_apart([*(x.dims if turned else result.dims), *taps])), 2, contraction=True)]
    used_as(Parameter.FILTER, weight)
    used_as(Parameter.BIAS, *operands[2:])
    reads = [Touch(view.memory, view.touched) for view in operands]
    reader.sketch(node, Kind.CONVOLUTION, work, reads, result, role=Role.PROJECTION, linear_in=1)


def attention(reader: Reader, node: Node, operands: list[View]) -> None:
    """Scaled dot-product attention, its scores on chip: two contractions and a softmax; query heads may share keys in groups."""
    q, keys, values = operands[:3]
    outer, (heads, shared) = q.dims[:-2], (size_of(_flat(view.dims[:-2][-1:])) for view in (q, keys))
    groups: tuple[Dim, ...] = ()
    if shared not in (heads, 1):
        outer, groups = q.dims[:-3], divided([q.dims[-3]], [shared, heads / shared])
    kept = (*outer, *groups[:1])
    for view in (keys, values):
        for mine, dim in zip(kept, view.dims, strict=False):
            align(mine, dim)
    align(q.dims[-1], keys.dims[-1])
    align(keys.dims[-2], values.dims[-2])
    space = keep_apart([*outer, *groups, q.dims[-2], keys.dims[-2], q.dims[-1], values.dims[-1]])
    *batch, rows, context, inner, out = space
    whole = [*batch[: len(outer)], *([_flat(batch[len(outer) :])] if groups else [])]
    result = reader.result(node, [*whole, rows, out])
    pairs = _flat([*batch, rows, context])
    work = [
        Count((*pairs, *inner), 2, contraction=True),
        Count(pairs, FLOPS_PER_SCORE, exponentials=1),
        Count((*pairs, *out), 2, contraction=True),
    ]
    reads = [Touch(q.memory, aligned(q, [*whole, rows, inner]))]
    for view, last in ((keys, inner), (values, out)):
        reads.append(Touch(view.memory, aligned(view, [*batch[: len(kept)], context, last]), passes=True))
    reads += [Touch(view.memory, view.touched) for view in operands[3:] if view.floating]
    asked = node.keywords.get("is_causal", node.args[5] if len(node.args) > 5 else False)
    causal = bool(asked) and size_of(rows) == size_of(context) != Integer(1)
    reader.sketch(node, Kind.FUSED_ATTENTION, work, reads, result, role=Role.ATTENTION, causal=causal)


def _flat(dims: Iterable[Dim]) -> Dim:
    return tuple(axis for dim in dims for axis in resolved(dim))


CONTRACT: Mapping[str, Callable[[Reader, Node, list[View]], None]] = {
    "linear": linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), matmul),
    **dict.fromkeys(("addmm", "baddbmm"), addmm),
    "einsum": einsum,
    **dict.fromkeys(("_grouped_mm", "grouped_mm_fallback"), grouped),  # the second is of Transformers, with the same operands
    "scaled_dot_product_attention": attention,
    **dict.fromkeys(CONVOLUTIONS | TRANSPOSED, convolution),
}
"""How each is read."""
