"""A number of devices as they would serve: what a plan says of them, and why they do not do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sympy import Add, Expr, S, Symbol, oo

from symroof import symbols
from symroof.answers import Answer
from symroof.hardware.device import Device
from symroof.techniques.technique import Technique
from symroof.units import BANDWIDTH, BYTE, COUNT, PER_SECOND, RATE, SECOND, TOKEN_RATE, Quantity, in_unit, quantity, ureg

DOLLAR_PER_TOKEN = ureg.Unit("dollar/token")
REMEDIES = {"bandwidth": BANDWIDTH, "peak": RATE, "devices": COUNT}
UNITS = {"ttft": SECOND, "tpot": SECOND, "memory": BYTE, "rate": PER_SECOND}


@dataclass(frozen=True)
class Miss(Answer):
    """Why a deployment does not do.

    Attributes
    ----------
    promise : what is missed: "ttft", "tpot", "memory", "rate"; or "technique" where a technique or a device refuses.
    value_expr, limit_expr : what it takes and what is allowed, bare.
    resource : what binds there; None for memory and rates.
    meets_exprs : what would meet it: values of "bandwidth" or "peak", or the number of "devices" in all, bare.
    why : the message of what refuses.
    """

    promise: str
    value_expr: Expr = S.Zero
    limit_expr: Expr = S.Zero
    resource: str | None = None
    meets_exprs: Mapping[str, Expr] = field(default_factory=dict)
    why: str = ""

    value = in_unit(lambda miss: miss.value_expr, lambda miss: UNITS.get(miss.promise), "What it takes, as a Quantity.")
    limit = in_unit(lambda miss: miss.limit_expr, lambda miss: UNITS.get(miss.promise), "What is allowed, as a Quantity.")

    @property
    def meets(self) -> dict[str, Quantity]:
        """`meets_exprs`, as Quantities."""
        return {name: quantity(value, REMEDIES[name]) for name, value in self.meets_exprs.items()}

    factor = in_unit(lambda miss: miss.factor_expr, COUNT, "What it takes over what is allowed, as a Quantity.")

    @property
    def factor_expr(self) -> Expr:
        """What it takes over what is allowed, bare; oo where a technique refuses."""
        return self.value_expr / self.limit_expr if self.limit_expr != 0 else oo


@dataclass(frozen=True)
class Planned(Answer):
    """A number of devices of one kind as they would serve.

    Attributes
    ----------
    hardware, devices : the device, and how many there are.
    parallelism : the techniques that share a replica's work between its devices; none where one device is a replica.
    degree, replicas : devices of a replica, and the replicas that decode.
    prefill_replicas : replicas that read prompts alone; 0 where all do both.
    batch : sequences of a replica; 0 where a promise is missed.
    batch_by_time, batch_by_memory : the largest batches that time and memory allow; None without a limit.
    binding : "time" or "memory"; with devices of their own for prefill also "prefill".
    formula, formula_values : the limit that decided, and the values of its symbols; no formula where experts are expected, whose time
        is no line in the batch.
    ttft_expr, tpot_expr : seconds to the first token on an idle replica, and per output token at the batch, bare.
    max_rate_expr : requests per second, of all devices, beyond which the promises break, bare.
    price_expr : dollars per hour of one device, bare; None if not given.
    memory_exprs : bytes of one device at the batch by use, and its capacity, bare.
    steady_expr, tpot_at_rate_expr : at the rate asked about: sequences in a replica's batch, and seconds per output token, bare.
    transfer_expr : seconds in which the cache of the prompts read together reaches the devices that decode, bare; None where it stays.
    miss : why it does not do; None if it does.
    """

    hardware: Device = field(repr=False)
    devices: int
    parallelism: tuple[Technique, ...] = ()
    degree: int = 1
    replicas: int = 0
    prefill_replicas: int = 0
    batch: int = 0
    batch_by_time: int | None = None
    batch_by_memory: int | None = None
    binding: str | None = None
    formula: Expr | None = None
    formula_values: Mapping[Symbol, Expr] = field(default_factory=dict, repr=False)
    output: int = 0
    ttft_expr: Expr | None = None
    tpot_expr: Expr | None = None
    max_rate_expr: Expr = S.Zero
    price_expr: Expr | None = None
    memory_exprs: Mapping[str, Expr] = field(default_factory=dict)
    steady_expr: Expr | None = None
    tpot_at_rate_expr: Expr | None = None
    rate_expr: Expr | None = None
    transfer_expr: Expr | None = None
    miss: Miss | None = None

    ttft = in_unit(lambda planned: planned.ttft_expr, SECOND, "Time to first token on an idle replica, as a Quantity in seconds.")
    tpot = in_unit(lambda planned: planned.tpot_expr, SECOND, "Time per output token at the batch, as a Quantity in seconds.")
    throughput = in_unit(lambda planned: planned.throughput_expr, TOKEN_RATE, "Generated tokens per second of all devices.")
    throughput_per_device = in_unit(lambda planned: planned.throughput_expr / planned.devices, TOKEN_RATE, "The same per device.")
    max_rate = in_unit(lambda planned: planned.max_rate_expr, PER_SECOND, "Requests per second beyond which the promises break.")
    cost_per_token = in_unit(lambda planned: planned.cost_expr, DOLLAR_PER_TOKEN, "Price of a generated token, as a Quantity, or None.")
    memory = in_unit(lambda planned: planned.memory_exprs, BYTE, "`memory_exprs`, as Quantities in bytes.")
    tpot_at_rate = in_unit(lambda planned: planned.tpot_at_rate_expr, SECOND, "Time per output token at the rate, as a Quantity, or None.")
    transfer = in_unit(lambda planned: planned.transfer_expr, SECOND, "Time of moving the cache of the prompts read together, or None.")

    @property
    def name(self) -> str:
        """The device's name and the number of devices: ``h100-sxm x4``."""
        return f"{self.hardware.name} x{self.devices}"

    @property
    def fits(self) -> bool:
        """Whether memory holds at least one batch."""
        return self.batch_by_memory != 0 and (self.miss is None or self.miss.promise != "technique")

    @property
    def throughput_expr(self) -> Expr:
        """Generated tokens per second of all devices, bare."""
        return self.max_rate_expr * self.output

    @property
    def cost_expr(self) -> Expr | None:
        """Dollars per generated token, bare: at the rate asked about, otherwise at the largest that keeps the promises."""
        rate = self.max_rate_expr if self.rate_expr is None else self.rate_expr
        return None if self.price_expr is None or self.miss else self.price_expr * self.devices / 3600 / (rate * self.output)

    @property
    def headroom(self) -> Mapping[str, float]:
        """By how much each promise is kept: the share left of time, of memory, and of the rate."""
        return {} if self.miss else {name: 1 - float(share) for name, share in self._shares() if share is not None}

    def _shares(self) -> Iterator[tuple[str, Expr | None]]:
        capacity = self.memory_exprs.get("capacity")
        used = Add(*(size for use, size in self.memory_exprs.items() if use != "capacity"))
        yield "memory", used / capacity if capacity else None
        yield "rate", None if self.rate_expr is None else self.rate_expr / self.max_rate_expr
        for name in ("ttft", "tpot"):
            limit = self.formula_values.get(symbols.T_f if name == "ttft" else symbols.T_p)
            value = getattr(self, f"{name}_expr")
            yield name, None if limit is None or value is None else value / limit
