"""Mixture of experts: every token goes to ``K`` of ``E`` experts, and a step reads the weights of ``X`` of them.

The weights of all ``E`` experts are kept; ``X`` of them cross the memory interface (`symroof.operators.routing.Routing`).
"""

from __future__ import annotations

from symroof.operators.facts import Kind, Parameter, Role
from symroof.operators.linear import parse
from symroof.operators.operator import Operator, Work
from symroof.operators.tensor import Access, Axes, Storage, Tensor, axes_of

ROUTED = axes_of("b s K")


def expert_linear(name: str, spec: str, x: Tensor, *, bias: bool = False) -> Operator:
    """A linear layer of every token's ``K`` experts; each token's input is read once for each of them.

    For ``b s K d, E d f_e -> b s K f_e``:

    ========= =============================================================
    FLOPs     ``2 b s K d f_e``
    traffic   ``(b s K d a + X d f_e w + b s K f_e a) / 8``
    ========= =============================================================

    Parameters
    ----------
    spec : the einsum; the axis ``E`` of the weight is no axis of the work.
    bias : whether each expert has one.
    """
    (x_axes, w_axes), y_axes = parse(spec)
    space = x.space
    weight = Tensor(f"{name}.weight", w_axes, Storage.WEIGHT, space, parameter=Parameter.MATRIX)
    reads = [Access(x, x_axes), Access(weight, _touched(w_axes))]
    if bias:
        learned = tuple(axis for axis in w_axes if axis == "E" or axis in y_axes)
        reads.append(Access(Tensor(f"{name}.bias", learned, Storage.WEIGHT, space, parameter=Parameter.BIAS), _touched(learned)))
    axes = tuple(dict.fromkeys(axis for axis in (*x_axes, *w_axes) if axis != "E"))
    out = Tensor(name, y_axes, Storage.ACTIVATION, space)
    return Operator(name, Kind.MATMUL, space, (Work(axes, 2, contraction=True),), tuple(reads), (Access(out),), role=Role.PROJECTION)


def _touched(axes: Axes) -> Axes:
    return tuple("X" if axis == "E" else axis for axis in axes)


def combine(name: str, outputs: Tensor, scores: Tensor) -> Operator:
    """The sum of a token's ``K`` expert outputs, each times its routing weight.

    ========= ===========================================
    FLOPs     ``2 b s K d``
    traffic   ``(b s K d + b s K + b s d) a / 8``
    ========= ===========================================
    """
    space = outputs.space
    out = Tensor(name, axes_of("b s d"), Storage.ACTIVATION, space)
    reads = (Access(outputs), Access(scores, ROUTED))
    return Operator(name, Kind.ELEMENTWISE, space, (Work(outputs.axes, 2),), reads, (Access(out),), role=Role.COMBINE, linear_in=1)
