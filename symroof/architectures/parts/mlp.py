"""The MLP of a layer: dense, or a mixture of experts with or without shared ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Parameter, Role, Space, Storage, Tensor, axes_of
from symroof.operators.attention import softmax
from symroof.operators.elementwise import ACTIVATION_FLOPS, Norm, activation, add, elementwise, norm
from symroof.operators.experts import combine, expert_linear
from symroof.operators.linear import linear

READ = {
    "expected": "a step of T tokens reads the weights of X = E (1 - (1 - K/E)^T) experts per layer, the expected value for independent "
    "uniform routing; real routers are correlated, and X = min(E, K T) is an upper bound (experts at-most)",
    "at-most": "a step of T tokens reads the weights of X = min(E, K T) experts per layer, an upper bound; independent uniform routing "
    "reads E (1 - (1 - K/E)^T) in expectation (experts expected)",
}
"""The convention on the experts that a step reads."""

ZERO_EXPERTS = {
    "expected": "experts without weights: of the K_z choices of a token K = K_z E / (E + E_z) are experts with weights, the mean of "
    "uniform routing",
    "at-most": "experts without weights: all K_z choices of a token count as experts with weights, an upper bound",
}
"""The convention on experts without weights, which return their input."""

CUTOFF_FLOPS = 6
"""Of an activation: a sum for the mean, three for the deviation, subtract the cutoff, compare with 0."""


@dataclass(frozen=True)
class Mlp:
    """``down(act(up(x)))``, or with a gate ``down(act(gate(x)) * up(x))``.

    Attributes
    ----------
    activation : a name of `symroof.operators.elementwise.ACTIVATION_FLOPS`.
    width : the axis of the intermediate size.
    size : that size, where layers differ in it.
    sparse : whether activations below a cutoff, from the mean and deviation of a token's, are set to 0, as in Gemma 3n.
    name : the prefix of the operators' names.
    """

    activation: str
    gated: bool = True
    bias: bool = False
    width: str = "f"
    name: str = ""
    size: Expr | None = None
    sparse: bool = False

    def axes(self) -> dict[str, Expr]:
        named: dict[str, Expr] = {} if self.size is not None else {self.width: getattr(symbols, self.width)}
        return named | ({"two": Integer(2)} if self.activation == "xielu" else {})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        f, name = self.width, self.name
        sized = x.space if self.size is None else replace(x.space, sizes={**x.space.sizes, f: self.size})
        gate = record(linear(f"{name}gate_proj", f"b s d, d {f} -> b s {f}", x, bias=self.bias, space=sized)) if self.gated else None
        if self.sparse and gate is not None:
            gate = record(elementwise(f"{name}mlp_cutoff", (gate,), gate.axes, CUTOFF_FLOPS))
        up = record(linear(f"{name}up_proj", f"b s d, d {f} -> b s {f}", x, bias=self.bias, space=sized))
        scalars = (
            Tensor(f"{name}xielu", ("two",), Storage.WEIGHT, space, parameter=Parameter.SCALAR) if self.activation == "xielu" else None
        )
        active = record(activation(f"{name or 'mlp_'}act", self.activation, up, gate, learned=scalars))
        return record(linear(f"{name}down_proj", f"b s {f}, {f} d -> b s d", active, bias=self.bias))


@dataclass(frozen=True)
class Matrix:
    """One matrix in place of attention or of an MLP.

    Attributes
    ----------
    name : of its operator.
    """

    name: str

    def axes(self) -> dict[str, Expr]:
        return {"o": symbols.d}

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        return record(linear(self.name, "b s d, d o -> b s o", x))


@dataclass(frozen=True)
class Experts:
    """A router, the ``K`` experts of each token, their weighted sum, and the shared experts.

    Attributes
    ----------
    bias, router_bias : whether the experts, and the router, have biases.
    correction : whether the router has a load-balancing bias per expert, which does not enter the weighted sum.
    shared : the shared experts, as one MLP.
    shared_gate : whether a sigmoid of one logit scales the output of the shared experts.
    latent : whether the projections to and from compressed tokens of ``d_e`` components, which routed experts work on, have a bias; None if
        experts work on whole tokens.
    latent_norm : whether a norm precedes the projection from compressed tokens.
    scaled : whether a learned number per expert scales its output.
    identity : whether some experts have no weights and return their input; ``K`` is then the mean number of choices of the others.
    """

    activation: str
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    correction: bool = False
    shared: Mlp | None = None
    shared_gate: bool = False
    latent: bool | None = None
    scaled: bool = False
    latent_norm: bool = False
    identity: bool = False

    def axes(self) -> dict[str, Expr]:
        named = {axis: getattr(symbols, axis) for axis in ("E", "K", "X", "f_e", *([] if self.latent is None else ["d_e"]))}
        named |= {"E_all": symbols.E + symbols.E_z} if self.identity else {}
        return named | {"one": Integer(1)} | (self.shared.axes() if self.shared else {})

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options, *, routed: Tensor | None = None) -> Tensor:
        """Record the operators; *routed* is what the router sees, if not the experts' input."""
        every = "E_all" if self.identity else "E"
        logits = record(linear("router", f"b s d, d {every} -> b s {every}", routed or x, bias=self.router_bias, role=Role.ROUTER))
        scores = record(softmax("router_softmax", logits, role=Role.ROUTING))
        if self.correction:
            learned = Tensor("router_correction", ("E",), Storage.WEIGHT, space, parameter=Parameter.ROUTER)
            record(elementwise("router_correction", (scores, Access(learned)), axes_of("b s E"), 1, role=Role.ROUTING))
        if self.scaled:
            factors = Tensor("expert_scale", ("E",), Storage.WEIGHT, space, parameter=Parameter.ROUTER)
            record(elementwise("expert_scale", (Access(scores, axes_of("b s K")), Access(factors)), axes_of("b s K"), 1, role=Role.ROUTING))
        given, d = x, "d"
        if self.latent is not None:
            given, d = record(linear("latent_down_proj", "b s d, d d_e -> b s d_e", x, bias=self.latent)), "d_e"
        up_spec = f"b s K {d}, E {d} f_e -> b s K f_e"
        gate = record(expert_linear("expert_gate_proj", up_spec, given, bias=self.bias)) if self.gated else None
        up = record(expert_linear("expert_up_proj", up_spec, given, bias=self.bias))
        active = record(activation("expert_act", self.activation, up, gate))
        down = record(expert_linear("expert_down_proj", f"b s K f_e, E f_e {d} -> b s K {d}", active, bias=self.bias))
        total = record(combine("expert_combine", down, scores))
        if self.latent is not None:
            total = record(norm("latent_norm", total, Norm.RMS, over=("d_e",))) if self.latent_norm else total
            total = record(linear("latent_up_proj", "b s d_e, d_e d -> b s d", total, bias=self.latent))
        if self.identity:
            kept = Access(scores, axes_of("b s E_all"))
            total = record(elementwise("identity_add", (total, x, kept), axes_of("b s d"), 2, role=Role.ADD, linear_in=2))
        if self.shared is None:
            return total
        common = self.shared(record, x, space, options)
        if not self.shared_gate:
            return record(add("shared_add", total, common))
        gate = record(linear("shared_router", "b s d, d one -> b s one", x, role=Role.ROUTER))
        flops = 2 + ACTIVATION_FLOPS["sigmoid"]
        return record(elementwise("shared_add", (total, common, gate), axes_of("b s d"), flops, role=Role.ADD, linear_in=2))
