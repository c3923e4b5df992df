"""The feed-forward layers of a step, what crosses between them and the rest, and the link that carries it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sympy import Add, Expr, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.hardware.device import Device
from symroof.operators import Block, BlockRole, Graph, Operator, Resource, Storage, Tensor
from symroof.operators.facts import COMMUNICATION
from symroof.symbols import VOCABULARY
from symroof.units import BANDWIDTH, number

CHANNELS = frozenset({"f", "f_e", "f_s", "d_e", "E", "K", "X"})
"""The axes that only feed-forward layers have: intermediate sizes, and those of routed experts."""


def feed_forward(graph: Graph) -> tuple[tuple[Operator, Expr], ...]:
    """The operators of feed-forward layers and how often they run: those over their axes, and those that read nothing but their results.

    >>> import symroof
    >>> graph = symroof.load_model("deepseek-moe-16b-base").decode(symbolic=True).symbolic
    >>> [operator.name for operator, _ in feed_forward(graph)][:5]
    ['dense.gate_proj', 'dense.up_proj', 'dense.mlp_act', 'dense.down_proj', 'moe.router']
    """
    return tuple((operator, block.count) for block in graph.blocks if block.role is BlockRole.LAYER for operator in _of_block(block))


def _of_block(block: Block) -> Iterator[Operator]:
    made: set[Tensor] = set()
    for operator in block.operators:
        if operator.kind in COMMUNICATION and not {access.tensor for access in operator.reads} & made:
            continue
        inputs = {access.tensor for access in operator.reads if access.tensor.storage is Storage.ACTIVATION}
        axes = {axis for access in (*operator.reads, *operator.writes) for axis in access.tensor.axes}
        if axes & CHANNELS or (inputs and inputs <= made):
            made |= {access.tensor for access in operator.writes}
            yield operator


def crossing(step: Step) -> tuple[Expr, Expr]:
    """Bytes that a step sends to the feed-forward layers, and back, as far as its inputs have numbers.

    What several operators read is sent once; of experts on several devices, that is one copy of a token for all of them.

    >>> import symroof
    >>> crossing(symroof.load_model("llama-3.1-8b").decode(batch=1, seq_len=1024, activation_bits=16))
    (262144, 262144)
    """
    sent, returned = S.Zero, S.Zero
    for symbolic, block in zip(step.symbolic.blocks, step.graph.blocks, strict=True):
        names = {operator.name for operator in _of_block(symbolic)} if symbolic.role is BlockRole.LAYER else set()
        inside = [operator for operator in block.operators if operator.name in names]
        outside = [operator for operator in block.operators if operator.name not in names]
        made = {access.tensor for operator in inside for access in operator.writes}
        read = {access.tensor for operator in inside for access in operator.reads if access.tensor.storage is Storage.ACTIVATION}
        wanted = {access.tensor for operator in outside for access in operator.reads}
        sent += block.count * Add(*(tensor.byte_count for tensor in read - made))
        returned += block.count * Add(*(tensor.byte_count for tensor in made & wanted))
    return sent, returned


def weights_apart(step: Step) -> tuple[Expr, Expr]:
    """Bytes of the weights of the feed-forward layers, and of all others.

    >>> import symroof
    >>> inside, outside = weights_apart(symroof.load_model("llama-3.1-8b").decode(weight_bits=16))
    >>> inside == 32 * 3 * 4096 * 14336 * 2, inside + outside == 2 * symroof.load_model("llama-3.1-8b").parameters
    (True, True)
    """
    inside = S.Zero
    for symbolic, block in zip(step.symbolic.blocks, step.graph.blocks, strict=True):
        names = {operator.name for operator in _of_block(symbolic)} if symbolic.role is BlockRole.LAYER else set()
        read = (access.tensor for operator in block.operators if operator.name in names for access in operator.reads)
        inside += Add(*(block.copies_of(one) * one.byte_count for one in dict.fromkeys(read) if one.storage is Storage.WEIGHT))
    return inside, step.graph.weight_memory() - inside


def decoding(step: Step) -> Step:
    """The step with widths, if it is a numeric decode step."""
    if not step.options.decode:
        raise InputError(f"attention apart from feed-forward layers serves decode; this is a {step.options.phase} step")
    step = step.with_widths()
    if missing := [VOCABULARY[symbol].name for symbol in (symbols.b, symbols.t) if symbol not in step.values]:
        raise InputError(f"give {' and '.join('seq_len' if name == 'context_len' else name for name in missing)}: stages are numeric")
    return step


def link_of(device: Device, link: Any) -> Expr:
    """Bandwidth of a link, one way, in byte/s: as given, or the device's own."""
    if link is not None:
        return number(link, BANDWIDTH, "link")
    own = device.machine.rates.get(Resource.LINK)
    if own is None:
        raise InputError(f"device {device.name} states no link: give its bandwidth, one way, as link='50 GB/s'")
    return own
