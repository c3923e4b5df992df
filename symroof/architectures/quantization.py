"""The ``quantization_config`` of a checkpoint: the width of its weights, and the modules that are not quantized."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sympy import Expr, Integer, Max

from symroof.architectures.exact import WEIGHT_WIDTH
from symroof.architectures.fields import Fields, listing
from symroof.architectures.group_scales import GroupScales, read_scales, stored_bits
from symroof.conventions import Convention, without
from symroof.operators import ATTENTION_ROLES, Block, BlockRole, Graph, Operator, Parameter, Role, Storage, Tensor
from symroof.operators.select import Match, by_role, in_blocks, select
from symroof.symbols import w

UNQUANTIZED_BITS = 16
"""Bits of the weights that a quantized checkpoint does not quantize."""

WIDTHS = {"fp8": 8, "fbgemm_fp8": 8, "finegrained_fp8": 8, "eetq": 8, "mxfp4": 4, "nvfp4": 4}
"""Methods whose name determines the width."""

STATED = ("gptq", "awq", "auto-round", "autoround", "intel/auto-round", "marlin", "gptq_marlin", "awq_marlin")
"""Methods whose config states the width, as ``bits``, ``w_bit`` or ``nbits``."""

BITSANDBYTES = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
"""The method where none is named, and its other names; it says whether it loads in 4 or 8 bits."""

ALGORITHMS = {"FP8": 8, "INT8_SQ": 8, "NVFP4": 4, "W4A16_AWQ": 4, "W4A8_AWQ": 4}
"""Of modelopt."""

NOT_CONVERTED = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules")
"""Fields in which methods list modules that are not quantized."""

SINGLE_MODULES = ("dynamic", "extra_config")
"""Fields in which methods give individual modules their own width."""


ALWAYS_KEPT = ("router", "shared_router")
ATTENTION = (
    *("q_proj", "q_gate_proj", "k_proj", "v_proj", "out_proj"),
    *("q_down_proj", "q_rotary_proj", "kv_down_proj", "k_up_proj", "v_up_proj", "k_rotary_proj"),
)
DENSE = ("gate_proj", "up_proj", "down_proj")
SHARED, EXPERTS = (tuple(f"{whose}_{name}" for name in DENSE) for whose in ("shared", "expert"))
RECURRENT = ("in_proj", "gates_proj", "x_proj", "dt_proj", "mixer_out_proj")

OPERATORS = {
    **dict.fromkeys(("self_attn", "attention", "attn", "self_attention"), ATTENTION),
    "q_proj": ("q_proj", "q_gate_proj"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    **{name: (name,) for name in ("k_proj", "v_proj", *DENSE, "in_proj", "x_proj", "dt_proj")},
    "o_proj": ("out_proj",),
    "q_a_proj": ("q_down_proj",),
    "q_b_proj": ("q_proj", "q_rotary_proj"),
    "kv_a_proj_with_mqa": ("kv_down_proj", "k_rotary_proj"),
    "kv_b_proj": ("k_up_proj", "v_up_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "mlp": (*DENSE, *SHARED, *EXPERTS),
    "experts": EXPERTS,
    **dict.fromkeys(("shared_expert", "shared_experts", "shared_mlp"), SHARED),
    **dict.fromkeys(("gate", "router", "shared_expert_gate"), ALWAYS_KEPT),
    **dict.fromkeys(("linear_attn", "mamba", "mixer"), RECURRENT),
    "in_proj_qkvz": ("in_proj",),
    "in_proj_ba": ("gates_proj",),
}
"""The operators that the last word of a module's name refers to."""

NO_OPERATOR = re.compile(r".*norm|lm_head|embed.*|wte|wpe|conv1d|rotary_emb|sinks|A_log|dt_bias|D")
"""Modules whose weights have 16 bits anyway."""

ELSEWHERE = re.compile(r"visual|vision|multi_modal|mm_projector|image|audio|\bmtp\b|eh_proj")
"""Parts of a checkpoint that are not part of a decoder's step."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")
_PLACES = ("model", "language_model", "transformer", "backbone", "decoder", "layers", "h", "blocks", "block_sparse_moe", "feed_forward")


@dataclass(frozen=True)
class UnquantizedModules:
    """The modules that a quantized checkpoint does not quantize.

    Attributes
    ----------
    operators : operators that are unquantized in every layer.
    named : their names in the config.
    passed_over : names that refer to single layers, or are unknown.
    elsewhere : whether modules outside the decoder (a vision encoder) are among them.
    """

    operators: frozenset[str]
    named: tuple[str, ...]
    passed_over: tuple[str, ...]
    elsewhere: bool


def kept(modules: Iterable[str], layers: int) -> UnquantizedModules:
    """The unquantized modules of a list of names, for a model of *layers* layers.

    >>> modules = kept(["model.layers.*.self_attn", "lm_head", "model.layers.0.mlp.down_proj"], 32)
    >>> "q_proj" in modules.operators, modules.named, modules.passed_over
    (True, ('model.layers.*.self_attn',), ('model.layers.0.mlp.down_proj',))
    """
    everywhere: dict[str, list[str]] = {}
    single: dict[str, dict[str, str]] = {}
    unknown: list[str] = []
    elsewhere = False
    for module in modules:
        if ELSEWHERE.search(module):
            elsewhere = True
            continue
        names, place = _called(module), _LAYER.search(module)
        if names is None and not (place and int(place[1]) >= layers):
            unknown.append(module)
        for name in names or ():
            if place:
                single.setdefault(name, {})[place[1]] = module
            else:
                everywhere.setdefault(name, []).append(module)
    for name in [name for name, found in single.items() if len(found) >= layers]:
        everywhere.setdefault(name, []).extend(single.pop(name).values())
    partly = [module for found in single.values() for module in found.values()]
    named = [module for name, found in everywhere.items() if name not in ALWAYS_KEPT for module in found]
    return UnquantizedModules(frozenset(everywhere), tuple(dict.fromkeys(named)), tuple(dict.fromkeys([*unknown, *partly])), elsewhere)


def _called(module: str) -> tuple[str, ...] | None:
    """The names of a module's operators; None if unknown."""
    plain = re.sub(r"^re:|[\^$\\]", "", module).replace(".*", ".").replace("*", "")
    words = [word for word in plain.split(".") if word and not word.isdigit() and word not in _PLACES]
    if not words or not all(re.fullmatch(r"\w+", word, re.ASCII) for word in words):
        return None
    *before, last = words
    if NO_OPERATOR.fullmatch(last):
        return ()
    names = OPERATORS.get(last)
    if names is None:
        return None
    whose = "shared_" if {"shared_expert", "shared_experts", "shared_mlp"} & {*before} else "expert_" if "experts" in before else ""
    return tuple(f"{whose}{name}" if name in DENSE else name for name in names)


def strings(value: Any) -> list[str] | None:
    """A list of printable texts; None for anything else."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one.isprintable() for one in value):
        return None
    return value


@dataclass(frozen=True)
class Quantization:
    """The weights of the layers' linear operators at *bits* bits, all others at 16.

    Attributes
    ----------
    method : the method's name in the config.
    bits : nominal width, which decides the peak.
    kept : the modules that are not quantized.
    remarks : further information in the config.
    scales : the scales of groups of weights; None for one scale per row or tensor, which is not counted.
    """

    method: str
    bits: int
    kept: UnquantizedModules
    remarks: tuple[str, ...] = ()
    scales: GroupScales | None = None

    @property
    def stored_bits(self) -> Expr:
        """Bits per quantized weight as published, with its share of the scales: 4.25 in MXFP4."""
        return stored_bits(self.bits, self.scales)

    def apply(self, graph: Graph, width: int | None = None, *, swept: bool = False) -> Graph:
        """The graph with unquantized weights at 16 bits; ``w`` is the width of the quantized weights.

        Parameters
        ----------
        width : the requested width of quantized weights; the published scales apply only to the published width.
        swept : whether w ranges over whole numbers, which may include the published width.
        """
        published = swept or width in (None, self.bits)
        beside = self.scales.per_weight if self.scales and published else Integer(0)
        if swept and beside != 0:
            beside *= Max(0, 1 - (w - self.bits) ** 2)
        quantized = {
            access.tensor
            for operator in select(graph, in_blocks(BlockRole.LAYER) & by_role(Role.PROJECTION) & Match(self._converts))
            for access in operator.reads
            if access.tensor.parameter is Parameter.MATRIX
        }

        def stored(tensor: Tensor) -> Tensor:
            if tensor in quantized:
                return replace(tensor, overhead=beside)
            return tensor.at(Integer(UNQUANTIZED_BITS)) if tensor.storage is Storage.WEIGHT else tensor

        applied = graph.map(tensor=stored)
        return replace(applied, conventions=(*without(applied.conventions, WEIGHT_WIDTH), *self.conventions(published=published)))

    def _converts(self, operator: Operator, block: Block) -> bool:
        names = operator.answers_to
        if "out_proj" in names and not any(other.role in ATTENTION_ROLES for other in block.operators):
            names = frozenset({"mixer_out_proj"})
        return not names & self.kept.operators

    def conventions(self, *, published: bool = True) -> tuple[Convention, ...]:
        """The conventions of a quantized checkpoint."""
        beside = "per-row and per-tensor scales not counted"
        if self.scales:
            counted = f"plus {self.scales.described}, {float(self.stored_bits):.6g} bits per weight"
            beside = counted if published else f"scales counted only at {self.bits} bits"
        also = f" and {listing(tuple(name[:60] for name in self.kept.named))}" if self.kept.named else ""
        main = (
            f"quantization_config ({self.method}, {self.bits} bits): w is the width of the linear weights of the layers, {beside}; "
            f"{UNQUANTIZED_BITS} bits for embedding, norms, biases, router, LM head{also}"
        )
        missed = listing(tuple(name[:60] for name in self.kept.passed_over))
        single = f"counted as quantized, though the config excludes them (single layers, or unknown names): {missed}"
        lines = (main, *([single] if self.kept.passed_over else []), *self.remarks)
        return tuple(Convention("quantization", line) for line in lines)


def read_quantization(fields: Fields, layers: int, *, vision: bool = False) -> Quantization | None:
    """The config's quantization; None if there is none, or it is not supported (the field then stays unread).

    Parameters
    ----------
    layers : the number of layers of the model.
    vision : whether the model is the vision encoder of a larger model, which methods usually do not quantize.

    Raises
    ------
    ConfigError
        The method is supported, but its width is missing or invalid.
    """
    if "quantization_config" not in fields:
        return None
    inner = fields.peek("quantization_config")
    if not isinstance(inner, Mapping):
        fields.nested("quantization_config")  # says what is wrong with it
        return None
    method = inner.get("quant_method") or BITSANDBYTES[0]
    lists = [strings(inner[name]) for name in NOT_CONVERTED if inner.get(name) is not None]
    if not isinstance(method, str) or None in lists:
        return None
    bits = _bits(fields, method, inner)
    if bits is None:
        return None
    left = kept([name for one in lists for name in one or ()], layers)
    own = fields.nested("quantization_config")
    if vision and left.elsewhere:
        return None
    return Quantization(method, bits, left, tuple(_remarks(inner)), read_scales(own, method, bits))


def _remarks(inner: Mapping[str, Any]) -> Iterator[str]:
    """Information of the config on cache and activations, which the user has to give."""
    scheme = inner.get("kv_cache_scheme")
    if isinstance(scheme, Mapping) and isinstance(scheme.get("num_bits"), int):
        yield f"the config keeps the KV cache at {scheme['num_bits']} bits: give kv_bits"
    if inner.get("activation_scheme") in ("static", "dynamic") or any(_of_groups(inner, "input_activations")):
        yield "the config quantizes activations too: give activation_bits"
    single = [name for name in (*SINGLE_MODULES, "lm_head") if inner.get(name)]
    if single:
        yield f"ignored fields of quantization_config: {', '.join(single)}"


def _bits(fields: Fields, method: str, inner: Mapping[str, Any]) -> int | None:
    """The width; None if the method is not supported."""
    if method in WIDTHS:
        return WIDTHS[method]
    if method in BITSANDBYTES and (inner.get("load_in_4bit") is True or inner.get("load_in_8bit") is True):
        return 4 if inner.get("load_in_4bit") is True else 8
    if method == "modelopt":
        return ALGORITHMS.get(str(inner.get("quant_algo")))
    if method == "compressed-tensors":
        widths = {*_of_groups(inner, "weights")}
        return widths.pop() if len(widths) == 1 else None
    if method not in STATED:
        return None
    nested = fields.nested("quantization_config")
    return nested.size(nested.named("bits", "w_bit", "nbits"), high=UNQUANTIZED_BITS)


def _of_groups(inner: Mapping[str, Any], what: str) -> list[int]:
    """The widths of weights or activations in the groups of compressed-tensors."""
    groups = inner.get("config_groups")
    schemes = [group.get(what) for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    widths = [scheme.get("num_bits") for scheme in schemes if isinstance(scheme, dict)]
    return [width for width in widths if type(width) is int and 1 <= width <= UNQUANTIZED_BITS]
