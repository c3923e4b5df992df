"""The ``quantization_config`` of a checkpoint: how wide its weights are, and which of them are left as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sympy import Integer

from symroof.architectures.exact import ONE_WIDTH
from symroof.architectures.fields import Fields, listing
from symroof.operators.graph import Graph
from symroof.operators.operator import Kind, Operator
from symroof.operators.tensor import Storage, Tensor

UNQUANTIZED_BITS = 16
"""Bits of the weights that a quantized checkpoint leaves as they were."""

WIDTHS = {"fp8": 8, "fbgemm_fp8": 8, "finegrained_fp8": 8, "eetq": 8, "mxfp4": 4, "nvfp4": 4}
"""Methods whose name says the width."""

STATED = ("gptq", "awq", "auto-round", "autoround", "intel/auto-round", "hqq", "quanto", "marlin", "gptq_marlin", "awq_marlin")
"""Methods whose config says the width, as ``bits``, ``w_bit`` or ``nbits``."""

BITSANDBYTES = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
"""The method where none is named, and its other names; it says whether it loads in 4 or 8 bits."""

NOT_CONVERTED = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
"""Where methods list the modules that they leave as they were."""

ALWAYS_KEPT = ("router", "shared_router")
ATTENTION = (
    "q_proj",
    "q_gate_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "q_down_proj",
    "q_rotary_proj",
    "kv_down_proj",
    "k_up_proj",
    "v_up_proj",
)
SHARED = ("shared_gate_proj", "shared_up_proj", "shared_down_proj")
DENSE = ("gate_proj", "up_proj", "down_proj")
KEPT = {
    "self_attn": ATTENTION,
    "shared_expert": SHARED,
    "router": ALWAYS_KEPT,
    "mlp.gate": ALWAYS_KEPT,
    "lm_head": (),
    "embed": (),
    "norm": (),
    "visual": (),
    "vision": (),
    "multi_modal": (),
    **{f"self_attn.{name}": (name,) for name in ("q_proj", "k_proj", "v_proj")},
    "o_proj": ("out_proj",),
    **{name: (name,) for name in DENSE},
}
"""What the modules that are not converted are called here, by the most telling part of their name."""


@dataclass(frozen=True)
class Quantization:
    """The weights of the layers' linear operators at so many bits, all others at 16.

    Attributes
    ----------
    method : as the config names it.
    bits : nominal width; the scales and zero points of groups are not counted.
    kept : operators whose weights are left as they were.
    named : what the config calls them.
    """

    method: str
    bits: int
    kept: frozenset[str]
    named: tuple[str, ...] = ()

    def apply(self, graph: Graph) -> Graph:
        """The graph with every weight that is not quantized at 16 bits; ``w`` is the width of the quantized ones."""
        quantized = {
            id(access.tensor)
            for block in graph.blocks
            if block.name not in ("embedding", "head")
            for operator in block.operators
            if self.converts(operator)
            for access in operator.reads
            if access.tensor.name.endswith(".weight")
        }
        widened: dict[int, Tensor] = {}

        def width(tensor: Tensor) -> Tensor:
            if tensor.storage is not Storage.WEIGHT or id(tensor) in quantized:
                return tensor
            if id(tensor) not in widened:
                widened[id(tensor)] = tensor.at(Integer(UNQUANTIZED_BITS))
            return widened[id(tensor)]

        applied = graph.over(width)
        said = tuple(line for line in applied.statements if line != ONE_WIDTH)
        return replace(applied, statements=(*said, self.statement))

    def converts(self, operator: Operator) -> bool:
        """Whether the operator's weight is quantized."""
        return operator.kind is Kind.MATMUL and operator.name.rsplit(".", 1)[-1] not in self.kept

    @property
    def statement(self) -> str:
        """What a reader should know."""
        also = f" and {listing(self.named)}" if self.named else ""
        return (
            f"quantization_config ({self.method}, {self.bits} bits): w is the width of the linear weights of the layers, scales not "
            f"counted; {UNQUANTIZED_BITS} bits for embedding, norms, biases, router, LM head{also}"
        )


def read_quantization(fields: Fields) -> Quantization | None:
    """The config's quantization; None where there is none, or the method is not known (the field is then unread)."""
    if "quantization_config" not in fields:
        return None
    inner = fields.peek("quantization_config")
    if not isinstance(inner, Mapping):
        fields.nested("quantization_config")  # says what is wrong with it
        return None
    method = inner.get("quant_method") or BITSANDBYTES[0]
    lists = [inner[name] for name in NOT_CONVERTED if inner.get(name) is not None]
    if not isinstance(method, str) or not all(isinstance(one, list) for one in lists):
        return None
    bits = _bits(method, inner)
    listed = [name for one in lists for name in one]
    kept = [_called(name) for name in listed]
    if bits is None or None in kept:
        return None
    fields.nested("quantization_config")
    named = tuple(dict.fromkeys(name[:60] for name in listed))
    return Quantization(method, bits, frozenset(ALWAYS_KEPT).union(*(one for one in kept if one)), named)


def _called(module: Any) -> tuple[str, ...] | None:
    """What the operators of a module are called here; None where that is not known."""
    if not isinstance(module, str) or not module.isprintable():
        return None
    telling = [name for name in KEPT if name in module]
    return KEPT[max(telling, key=len)] if telling else None


def _bits(method: str, inner: Mapping[str, Any]) -> int | None:
    found: Any = None
    if method in WIDTHS:
        found = WIDTHS[method]
    elif method in STATED:
        found = next((inner[name] for name in ("bits", "w_bit", "nbits") if name in inner), None)
    elif method in BITSANDBYTES and (inner.get("load_in_4bit") is True or inner.get("load_in_8bit") is True):
        found = 4 if inner.get("load_in_4bit") is True else 8
    elif method == "compressed-tensors":
        found = _of_groups(inner.get("config_groups"))
    return found if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= 16 else None


def _of_groups(groups: Any) -> Any:
    """The one width of the weights of all groups."""
    weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    widths = {one.get("num_bits") if isinstance(one.get("num_bits"), int) else None for one in weights if isinstance(one, dict)}
    return widths.pop() if len(widths) == 1 else None
