"""Linear layers: a contraction of an activation with a weight."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from symroof.errors import EinsumError, quote
from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Space, Storage, Tensor, axes_of

PARAMETER = {Role.ROUTER: Parameter.ROUTER, Role.HEAD: Parameter.HEAD}
"""The parameter of a linear operator's weight by role, if it is not an ordinary matrix."""


@cache
def parse(spec: str) -> tuple[tuple[Axes, ...], Axes]:
    """``"b s d, d f -> b s f"`` as the axes of the operands and of the result.

    >>> parse("b s d, d f -> b s f")
    ((('b', 's', 'd'), ('d', 'f')), ('b', 's', 'f'))
    """
    operands, arrow, result = spec.partition("->")
    inputs = tuple(axes_of(operand) for operand in operands.split(","))
    known = {axis for axes in inputs for axis in axes}
    lost = [axis for axis in axes_of(result) if axis not in known]
    if not arrow or lost:
        raise EinsumError(f"{quote(spec)} is not an einsum: write it like 'b s d, d f -> b s f'")
    return inputs, axes_of(result)


def check(name: str, tensor: Tensor, axes: Axes) -> None:
    """Raise an EinsumError unless *tensor* has exactly these axes, in any order.

    >>> from symroof.operators.tensor import Space
    >>> from symroof.symbols import b, s, d
    >>> x = Tensor("x", ("b", "s"), Storage.ACTIVATION, Space({"b": b, "s": s, "d": d}))
    >>> check("q_proj", x, ("b", "s", "d"))
    Traceback (most recent call last):
        ...
    symroof.errors.EinsumError: q_proj: the einsum needs axes 'b s d', tensor 'x' has 'b s'
    """
    if set(axes) != set(tensor.axes):
        raise EinsumError(
            f"{name}: the einsum needs axes {quote(' '.join(axes))}, tensor {quote(tensor.name)} has {quote(' '.join(tensor.axes))}"
        )


def contraction(name: str, spec: str, reads: tuple[Access, Access], writes: Access, role: Role = Role.OTHER) -> Operator:
    """The contraction of two tensors: FLOPs = 2 x product of all axes.

    The einsum names the index space; the operands determine the traffic. If the result has no axis ``E``, that axis counts
    experts, and each row is multiplied by its own experts only.

    >>> from symroof.operators import Space
    >>> from symroof.symbols import b, d, f
    >>> space = Space({"b": b, "d": d, "f": f})
    >>> x, y, z = (Access(Tensor(axes, tuple(axes), Storage.ACTIVATION, space)) for axes in ("bd", "df", "bf"))
    >>> contraction("product", "b d, d f -> b f", (x, y), z).flop_count
    2*b*d*f
    """
    inputs, result = parse(spec)
    axes = tuple(dict.fromkeys([axis for operand in inputs for axis in operand if axis != "E" or axis in result]))
    for access, wanted in zip((*reads, writes), (*inputs, result), strict=True):
        if not access.axes:
            check(name, access.tensor, wanted)
    return Operator(name, Kind.MATMUL, writes.tensor.space, (Work(axes, 2, contraction=True),), reads, (writes,), role=role)


def linear(
    name: str,
    spec: str,
    x: Tensor,
    *,
    bias: bool = False,
    weight: Tensor | None = None,
    into: Tensor | None = None,
    role: Role = Role.PROJECTION,
    space: Space | None = None,
) -> Operator:
    """A linear layer, ``y = x W (+ bias)``.

    For ``b s d, d f -> b s f``; in general FLOPs are twice the product of all axes. A bias adds no
    FLOP (n products take n - 1 additions to sum; the bias makes it n), and ``w / 8`` bytes per output.

    ========= =======================================
    FLOPs     ``2 b s d f``
    traffic   ``(b s d a + d f w + b s f a) / 8``
    ========= =======================================

    Parameters
    ----------
    name : name of the operator; its weight is called ``<name>.weight``.
    spec : the einsum, as ``"b s d, d f -> b s f"``.
    x : the input. If the einsum names axes that it does not have (``b u d`` of a ``b s d``), only
        those rows are read.
    bias : whether a bias is added.
    weight : a weight that other operators read too (a tied embedding).
    into : the tensor to write, if not a new activation: a KV cache, of which only the new rows are
        written.
    role : its role in the model; compression techniques leave routers and heads unchanged.
    space : the space of weight and result, if some of their axes have other sizes than in the input's.

    Raises
    ------
    EinsumError
        The einsum is malformed, or does not fit the tensors.

    >>> from symroof.operators.tensor import Space
    >>> from symroof.symbols import b, s, d, v
    >>> from sympy import Integer
    >>> space = Space({"b": b, "s": s, "d": d, "v": v, "u": Integer(1)})
    >>> hidden = Tensor("hidden", axes_of("b s d"), Storage.ACTIVATION, space)
    >>> print(linear("lm_head", "b u d, d v -> b u v", hidden).traffic)
    (a*b*d + a*b*v + d*v*w)/8 byte
    """
    (x_axes, w_axes), y_axes = parse(spec)
    own, space = space, space or x.space
    if weight is None:
        weight = Tensor(f"{name}.weight", w_axes, Storage.WEIGHT, space, parameter=PARAMETER.get(role, Parameter.MATRIX))
    else:
        check(name, weight, w_axes)
    y = into or Tensor(name, y_axes, Storage.ACTIVATION, space)
    product = contraction(name, spec, (_part(x, x_axes), _part(weight, _touched(w_axes, y_axes))), _part(y, y_axes), role)
    product = product if own is None else replace(product, space=own)
    if not bias:
        return product
    bias_axes = tuple(axis for axis in w_axes if axis in (*y_axes, "E"))
    learned = Tensor(f"{name}.bias", bias_axes, Storage.WEIGHT, space, parameter=Parameter.BIAS)
    return replace(product, reads=(*product.reads, _part(learned, _touched(bias_axes, y_axes))))


def _touched(axes: Axes, result: Axes) -> Axes:
    """The axes touched: of the weights of E experts those of the X that a step reads, unless the result has one row per expert."""
    return tuple(["X" if axis == "E" and axis not in result else axis for axis in axes])


def _part(tensor: Tensor, axes: Axes) -> Access:
    return Access(tensor) if set(tensor.axes) == set(axes) else Access(tensor, axes)


def embedding(name: str, table: Tensor, rows: Axes) -> Operator:
    """Read one row of *table* per index and write it; the indices (a few bytes per token) are not counted.

    ========= =======================
    FLOPs     ``0``
    traffic   ``b s d (w + a) / 8``
    ========= =======================
    """
    out = Tensor(name, rows, Storage.ACTIVATION, table.space)
    return Operator(name, Kind.EMBEDDING, table.space, (), (Access(table, rows),), (Access(out),), role=Role.EMBEDDING)
