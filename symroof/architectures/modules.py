"""What the modules of published checkpoints are called here: which operators a name in a config means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

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
"""The last word of a module's name, and the operators it means."""

NO_OPERATOR = re.compile(r".*norm|lm_head|embed.*|wte|wpe|conv1d|rotary_emb|sinks|A_log|dt_bias|D")
"""Modules whose weights are at 16 bits anyway."""

ELSEWHERE = re.compile(r"visual|vision|multi_modal|mm_projector|image|audio|\bmtp\b|eh_proj")
"""Parts of a checkpoint that are not part of a decoder's step."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)")
_PLACES = ("model", "language_model", "transformer", "backbone", "decoder", "layers", "h", "blocks", "block_sparse_moe", "feed_forward")


@dataclass(frozen=True)
class UnquantizedModules:
    """The modules that a quantized checkpoint leaves as they were.

    Attributes
    ----------
    operators : those that are left in every layer.
    named : what the config calls them.
    passed_over : names that mean single layers, or nothing that is known here.
    elsewhere : whether modules beside the decoder (a vision encoder) are among them.
    """

    operators: frozenset[str]
    named: tuple[str, ...]
    passed_over: tuple[str, ...]
    elsewhere: bool


def kept(modules: Iterable[str], layers: int) -> UnquantizedModules:
    """What a list of modules means for a model of so many layers.

    >>> found = kept(["model.layers.*.self_attn", "lm_head", "model.layers.0.mlp.down_proj"], 32)
    >>> "q_proj" in found.operators, found.named, found.passed_over
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
    """What the operators of a module are called here; None where that is not known."""
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
    """A list of printable texts; None where it is something else."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one.isprintable() for one in value):
        return None
    return value
