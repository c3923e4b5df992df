"""The plan of a service: for each device the parallelism and the batch that keep the promises with the most tokens per device.

Of m devices in replicas of d each, the batch of a replica is the largest that time and memory allow:

``b <= (T_p - tau_w) / (tau_s + tau_p / (n - 1))`` by time, where a decode step takes ``tau_w + tau_s b`` at that batch, and
``b <= (M_d - M_w) / M_s`` by memory. `symroof.serving.replica` says what a token takes under a full batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from sympy import Expr

from symroof.answers import Answers
from symroof.architectures.model import Model, load_model
from symroof.architectures.options import Options, Size, StepInputs, whole
from symroof.errors import InputError, member, quote
from symroof.hardware.device import Device
from symroof.hardware.loader import load_hardware
from symroof.hardware.machine import CEILINGS, STATED
from symroof.serving.candidates import Asked
from symroof.serving.planned import Planned
from symroof.serving.replica import Request
from symroof.techniques.registry import techniques_of
from symroof.techniques.technique import Technique
from symroof.units import PER_SECOND, SECOND, in_unit, number, ureg

DOLLAR_PER_HOUR = ureg.Unit("dollar/hour")
MOST_DEVICES = 4096


@dataclass(frozen=True)
class Plan(Answers[Planned]):
    """The best deployment of every number of every device, in the order asked for.

    Attributes
    ----------
    request : what is served.
    ttft_limit_expr, tpot_limit_expr, rate_expr : the promises and the rate, bare; None where not given.
    techniques, ceilings, split : as asked.
    """

    _AMONG = "a deployment of this plan"

    request: Request = field(repr=False)
    ttft_limit_expr: Expr | None = None
    tpot_limit_expr: Expr | None = None
    rate_expr: Expr | None = None
    techniques: tuple[Technique, ...] = ()
    ceilings: str = STATED
    split: bool = False

    ttft_limit = in_unit(lambda plan: plan.ttft_limit_expr, SECOND, "The promised time to first token, as a Quantity, or None.")
    tpot_limit = in_unit(lambda plan: plan.tpot_limit_expr, SECOND, "The promised time per output token, as a Quantity, or None.")
    rate = in_unit(lambda plan: plan.rate_expr, PER_SECOND, "The requests per second asked about, as a Quantity, or None.")

    @property
    def kept(self) -> tuple[Planned, ...]:
        """Those that keep every promise."""
        return tuple(planned for planned in self.members if planned.miss is None)

    def best(self, hardware: str | None = None) -> Planned | None:
        """The one with the most tokens per second and device, of fewest devices where several have it; of one device's name, or of all."""
        own = [planned for planned in self.kept if hardware in (None, planned.hardware.name)]
        return max(own, key=lambda planned: (planned.throughput_expr / planned.devices, -planned.devices), default=None)


def plan(
    model: Model | str,
    *,
    prompt: Size,
    output: Size,
    hardware: Device | str | Path | Iterable[Device | str | Path],
    devices: Iterable[int] = (1,),
    ttft: Any = None,
    tpot: Any = None,
    rate: Any = None,
    price: Mapping[str, Any] | None = None,
    techniques: Sequence[str | Technique] = (),
    ceilings: str = STATED,
    split: bool = False,
    **inputs: Unpack[StepInputs],
) -> Plan:
    """For each number of each device the best deployment that keeps the promises.

    Every way to put m devices to work is tried: replicas of d devices for each divisor d, under tensor parallelism, and for models
    with routed experts under expert parallelism and with whole experts on each device as well. The best has the most generated
    tokens per second and device at the largest batch that time and memory allow.

    Parameters
    ----------
    model : a model, or the name of one.
    prompt, output : tokens of every request's prompt, and those generated, at least 2.
    hardware : one device or several.
    devices : numbers of devices to try.
    ttft, tpot : promises: time to first token on an idle replica, and time per output token under a full batch.
    rate : requests per second to serve; the batch and the time per token then are those of this load.
    price : dollars per hour of a device, by its name.
    techniques : applied to both phases; if they share the work between devices, no further parallelism is tried.
    ceilings : the ceiling set, as in `symroof.analyze`.
    split : whether prefill has devices of its own.
    inputs : widths and conventions, as for `Model.decode`.

    Raises
    ------
    InputError
        A size, a promise, a price or a number of devices is out of range, or a price is of no device asked about.

    >>> import symroof
    >>> found = symroof.plan("qwen3-32b", prompt=2048, output=512, tpot="50 ms", ttft="1 s", hardware="h100-sxm", devices=[1, 2])
    >>> [(one.name, one.batch, one.binding) for one in found]
    [('h100-sxm x1', 28, 'memory'), ('h100-sxm x2', 136, 'time')]
    """
    model = load_model(model) if isinstance(model, str) else model
    member("ceilings", ceilings, CEILINGS)
    output = whole("output", output, "token")
    if output < 2:
        raise InputError("output 1: expected at least 2 tokens; the prompt alone gives the first")
    options = Options.of("decode", inputs)
    if options.batch is not None or options.seq_len is not None:
        raise InputError("batch and seq_len follow from the plan: omit them")
    request = Request(model, whole("prompt", prompt, "token"), output, options)
    limits = {name: None if value is None else number(value, SECOND, name) for name, value in (("ttft", ttft), ("tpot", tpot))}
    wanted = None if rate is None else number(rate, PER_SECOND, "rate")
    several = [hardware] if isinstance(hardware, Device | str | Path) else list(hardware)
    machines = [one if isinstance(one, Device) else load_hardware(one) for one in several]
    asked = Asked(request, limits["ttft"], limits["tpot"], wanted, techniques_of(techniques), ceilings, split)
    prices = _prices(price or {}, machines)
    members = tuple(
        asked.best(device, whole("devices", count, "", MOST_DEVICES), prices.get(device.name)) for device in machines for count in devices
    )
    return Plan(members, request, asked.ttft, asked.tpot, wanted, asked.techniques, ceilings, split)


def _prices(price: Mapping[str, Any], machines: Sequence[Device]) -> dict[str, Expr]:
    """Dollars per hour of a device by its name; a price may be of another name that the device has."""
    given: dict[str, Expr] = {}
    for name, value in price.items():
        if (own := load_hardware(name).name) not in [device.name for device in machines]:
            raise InputError(f"price of {quote(name)}: expected one of the devices asked about, {', '.join(one.name for one in machines)}")
        given[own] = number(value, DOLLAR_PER_HOUR, f"price of {name}")
    return given
