"""Models of one's own, from einsums: tensors, operators, and layers of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sympy import Expr, Integer, S, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture, Norms
from symroof.architectures.exact import OPERANDS, PEAK
from symroof.architectures.model import Model
from symroof.architectures.options import Options, whole
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import EinsumError, InputError, member, quote
from symroof.operators import Access, Axes, Block, BlockRole, Graph, Kind, Operator, Parameter, Role, Space, Storage, Tensor, Work, axes_of
from symroof.operators.elementwise import Norm
from symroof.operators.linear import check, contraction, parse

DECIDED = {"accounting": "exact", "flash_attention": False, "lm_head": "last", "mla": "auto", "experts": "expected"}
"""Conventions that are about the library's own models, with their defaults."""

UNTOLD = Architecture({}, None, (), Norms(Norm.RMS), tied=False, family="own")
"""The architecture of a model about which nothing but its operators is known."""


def refuse_conventions(options: Options, what: str) -> None:
    """Raise an InputError for a convention that is about the library's own models; *what* decides it instead."""
    for name, default in DECIDED.items():
        if getattr(options, name) != default:
            raise InputError(f"{name} {quote(getattr(options, name))}: {what}")


def tensor(name: str, axes: str, storage: str = "activation", *, bits: Expr | int | None = None) -> Tensor:
    """A tensor over axes that are symbols of the library, or declared: ``"b t k e"``.

    Parameters
    ----------
    storage : "activation", "weight" or "kv_cache".
    bits : per element; left out, the symbol of its storage: a, w or c.

    Raises
    ------
    InputError
        An axis is no symbol, or the storage is none of these.

    >>> print(tensor("cache", "b t k e", "kv_cache").size)
    b*c*e*k*t/8 byte
    >>> tensor("cache", "b t k q")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: tensor 'cache': axis 'q' is not a symbol of the library: make it with symroof.symbols.declare
    """
    member("storage", storage, [str(one) for one in Storage])
    parameter = Parameter.MATRIX if storage == Storage.WEIGHT else None
    width = S.Zero if bits is None else Integer(bits) if isinstance(bits, int) else bits
    return Tensor(name, axes_of(axes), Storage(storage), _space(axes_of(axes), f"tensor {quote(name)}"), width, parameter=parameter)


def _space(axes: Axes, what: str) -> Space:
    sizes: dict[str, Expr] = {}
    for axis in ("b", "s", "t", *axes):
        try:
            sizes[axis] = symbols.lookup(axis).symbol
        except InputError:
            message = f"{what}: axis {quote(axis)} is not a symbol of the library: make it with symroof.symbols.declare"
            raise InputError(message) from None
    return Space(sizes)


def operator(
    einsum: str,
    *operands: Tensor | Operator | str,
    name: str,
    role: str = "other",
    flops: int | None = None,
    exponentials: int = 0,
    into: Tensor | None = None,
) -> Operator:
    """An operator from its einsum: a contraction of two tensors, or anything that does some FLOPs per point.

    ========= ====================================================================
    FLOPs     ``2 x product of all axes``; with *flops*, ``flops x product of all axes``
    traffic   ``sum of the operands' sizes + size of the result``
    ========= ====================================================================

    Parameters
    ----------
    einsum : axes of the operands and of the result; ``s`` counts the tokens of a step and ``t`` its context. Sizes are those of the
        operands' axes; of an axis that only a new tensor has, its symbol.
    operands : tensors, operators whose result is read, or names of new activations.
    name : of the operator, and of its result.
    role : of `symroof.Role`: "scores", "softmax", "weighted_sum", "projection", ...; what techniques look for.
    flops : per point; left out, it is a contraction.
    exponentials : among these FLOPs.
    into : the tensor to write, such as a cache, of which the new rows are written; left out, a new activation.

    Raises
    ------
    EinsumError
        The einsum is malformed, or does not fit the operands.
    InputError
        An axis is no symbol, or the role is none.

    >>> cache = tensor("cache", "b t k e", "kv_cache")
    >>> qk = operator("b s k g e, b t k e -> b k g s t", "query", cache, name="qk", role="scores")
    >>> print(qk.flops, "|", qk.traffic)
    2*b*e*g*k*s*t FLOP | (a*b*e*g*k*s + a*b*g*k*s*t + b*c*e*k*t)/8 byte
    >>> print(operator("b k g s t -> b k g s t", qk, name="softmax", role="softmax", flops=5, exponentials=1).flops)
    5*b*g*k*s*t FLOP
    """
    inputs, result = parse(einsum)
    member("role", role, [str(one) for one in Role])
    if len(operands) != len(inputs):
        raise EinsumError(f"{name}: {quote(einsum)} has {len(inputs)} operands, and {len(operands)} are given")
    given = [one.result if isinstance(one, Operator) else one for one in operands if not isinstance(one, str)]
    space = _space(tuple(dict.fromkeys(axis for axes in (*inputs, result) for axis in axes)), name)
    sizes = {axis: one.space.sizes[axis] for one in given for axis in one.axes}
    space = replace(given[0].space if given else space, sizes={**space.sizes, **sizes})
    reads = tuple(_read(name, operand, axes, space) for operand, axes in zip(operands, inputs, strict=True))
    written = Access(Tensor(name, result, Storage.ACTIVATION, space)) if into is None else _part(name, into, result)
    if flops is None:
        if len(reads) != 2:
            raise EinsumError(f"{name}: a contraction has two operands, {quote(einsum)} has {len(reads)}; give flops for anything else")
        made = contraction(name, einsum, (reads[0], reads[1]), written, Role(role))
        return replace(made, space=space, linear_in=1 if role == Role.PROJECTION else 0)
    every = tuple(dict.fromkeys(axis for axes in inputs for axis in axes))
    kind = Kind.SOFTMAX if role == Role.SOFTMAX else Kind.NORM if role == Role.NORM else Kind.ELEMENTWISE
    work = (Work(every, flops, exponentials=exponentials),) if flops else ()
    return Operator(name, kind, space, work, reads, (written,), role=Role(role))


def _read(name: str, operand: Tensor | Operator | str, axes: Axes, space: Space) -> Access:
    if isinstance(operand, str):
        return Access(Tensor(operand, axes, Storage.ACTIVATION, space))
    return _part(name, operand.result if isinstance(operand, Operator) else operand, axes)


def _part(name: str, whole: Tensor, axes: Axes) -> Access:
    """A tensor, or of a cache over the context ``t`` its rows of the step's tokens ``s``."""
    if {*axes} == {"s" if axis == "t" else axis for axis in whole.axes} != {*whole.axes}:
        return Access(whole, axes)
    check(name, whole, axes)
    return Access(whole)


@dataclass(frozen=True)
class OwnModel(Model):
    """A model from einsums.

    Attributes
    ----------
    operators : of one layer, in execution order.
    count : the number of layers.
    sizes : the numbers of its axes.
    """

    operators: tuple[Operator, ...] = field(default=(), repr=False)
    count: Expr = S.One
    sizes: Mapping[Symbol, Expr] = field(default_factory=dict, repr=False)

    @property
    def dimensions(self) -> dict[Symbol, Expr]:
        return dict(self.sizes)

    def step(self, options: Options, *, symbolic: bool = False, swept: bool = False) -> Step:
        """One step as *options* say; a causal mask is between the axes s and t."""
        refuse_conventions(options, "an einsum says what is computed")
        values = options.inputs() | ({} if symbolic else self.dimensions)
        return Step(self.name, options, self._exact(options, swept=swept), values, source=self)

    def _exact(self, options: Options, *, swept: bool = False) -> Graph:
        del swept
        block = Block("layer", self.operators, self.count, role=BlockRole.LAYER, kind="layer")
        tokens = options.token_sizes()
        einsums = "operators as their einsums say: 2 FLOPs per point of a contraction"
        texts = {"operands": OPERANDS, "einsums": einsums, "peak": PEAK}
        graph = Graph(
            (block,),
            conventions=tuple(Convention(key, text) for key, text in texts.items()),
            pass_tokens=symbols.b * tokens["s"],
            decode=options.decode,
        )
        graph = graph.map(space=lambda space: replace(space, causal=options.causal))
        return graph.replaced({symbols.s: tokens["s"], symbols.t: tokens["t"]}).completed()


def own_model(name: str, operators: Sequence[Operator], *, layers: int = 1, sizes: Mapping[str, int] | None = None) -> Model:
    """A model of equal layers of these operators, in prefill and decode like any other.

    In decode ``s`` is 1 and ``t`` the context; in prefill both are the prompt, and a causal mask leaves ``s (s + 1) / 2`` pairs.

    Parameters
    ----------
    operators : of one layer, in execution order (`symroof.operator`); what one writes and another reads is one tensor.
    layers : how many.
    sizes : numbers for axes, by name or symbol; an axis left out stays a symbol.

    Raises
    ------
    InputError
        A size is none, or of no symbol.

    >>> x = tensor("hidden", "b s d")
    >>> up = operator("b s d, d f -> b s f", x, tensor("up.weight", "d f", "weight"), name="up", role="projection")
    >>> model = own_model("wide", [up], layers=2, sizes={"d": 4096, "intermediate_size": 8192})
    >>> model.parameters
    67108864
    >>> print(model.decode(batch=8)["up"].flops, model.prefill(symbolic=True)["up"].flops)
    536.9 MFLOP 2*b*d*f*s FLOP
    """
    if not operators:
        raise InputError("operators []: give at least one")
    known = {symbols.lookup(axis).symbol: Integer(whole(axis, size, "")) for axis, size in (sizes or {}).items()}
    return OwnModel(name, UNTOLD, "einsums", operators=tuple(operators), count=Integer(whole("layers", layers, "")), sizes=known)
