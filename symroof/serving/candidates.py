"""Every way in which devices can serve: replicas of each size under each parallelism, which of them do, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sympy import Expr, Integer, S, Symbol, ceiling

from symroof import symbols
from symroof.algebra.piecewise import Piecewise
from symroof.algebra.univariate import is_exponential
from symroof.errors import SymroofError
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED
from symroof.questions.required import required
from symroof.serving.planned import Miss, Planned
from symroof.serving.replica import BATCH, Replica, Request
from symroof.symbols import substitute
from symroof.techniques.registry import chain
from symroof.techniques.technique import Technique

RESOURCES = ("bandwidth", "peak")
"""What may be raised to keep a promise of time."""

Parallelism = tuple[tuple[Technique, ...], int]


@dataclass(frozen=True)
class Asked:
    """What a plan is asked for: the requests, the promises in seconds, the rate of requests, and how the model is run."""

    request: Request
    ttft: Expr | None
    tpot: Expr | None
    rate: Expr | None
    techniques: tuple[Technique, ...]
    ceilings: str
    split: bool

    replicas: dict[tuple[int, *tuple[str, ...]], Replica] = field(default_factory=dict, repr=False, compare=False)

    def best(self, device: Device, count: int, price: Expr | None) -> Planned:
        """The best deployment of a number of devices: the most tokens of those that keep the promises, on the smallest replicas where
        several have as many; or the one that misses by least.
        """
        blank = Planned(device, count, output=self.request.output, price_expr=price, rate_expr=self.rate)
        tried = [self._tried(blank, parallelism, degree) for parallelism, degree in self._parallelisms(device, count)]
        if kept := [one for one in tried if one.miss is None]:
            return max(kept, key=lambda one: (one.max_rate_expr, -one.degree))
        return min(tried, key=lambda one: (not one.fits, one.miss.factor_expr if one.miss else S.Zero, one.degree))

    def _parallelisms(self, device: Device, count: int) -> Iterator[Parallelism]:
        """The chains of techniques that share a replica's work, with the devices of a replica."""
        own = self._replica(device, ()).degree
        if own > 1:
            yield (), own
            return
        experts = symbols.E in self.request.model.dimensions
        for degree in (degree for degree in range(1, count + 1) if count % degree == 0):
            if degree == 1:
                yield (), 1
                continue
            texts = [f"tensor-parallel:degree={degree}"]
            if experts:
                texts += [f"expert-parallel:degree={degree}", f"tensor-parallel:degree={degree},experts=whole"]
            for text in texts:
                yield tuple(chain([text])), degree

    def _replica(self, device: Device, parallelism: tuple[Technique, ...]) -> Replica:
        """The replica of a device and a parallelism, made once for all numbers of devices."""
        key = (id(device), *(technique.text for technique in parallelism))
        if key not in self.replicas:
            self.replicas[key] = Replica(self.request, device, (*self.techniques, *parallelism), self.ceilings, self.split)
        return self.replicas[key]

    def _tried(self, blank: Planned, parallelism: tuple[Technique, ...], degree: int) -> Planned:
        """The devices under one parallelism."""
        replica = self._replica(blank.hardware, parallelism)
        blank = replace(blank, parallelism=parallelism, degree=degree)
        if blank.devices % degree:
            return replace(blank, miss=Miss("technique", why=f"{blank.devices} devices are not replicas of {degree}"))
        replicas = blank.devices // degree
        if self.split and replicas < 2:
            return replace(blank, miss=Miss("technique", why="prefill apart from decode takes two replicas or more"))
        try:
            return self._filled(replace(blank, replicas=replicas), replica)
        except SymroofError as error:
            return replace(blank, miss=Miss("technique", why=str(error)))

    def _filled(self, planned: Planned, replica: Replica) -> Planned:
        """With the largest batch that keeps the promises."""
        by_memory = replica.most_by_memory
        by_time = None if self.tpot is None else replica.most_by_time(self.tpot)
        planned = replace(planned, batch_by_time=by_time, batch_by_memory=by_memory, ttft_expr=replica.ttft_expr)
        if by_memory == 0:
            least = replica.memory(replica.multiple)
            return replace(planned, miss=Miss("memory", least, replica.capacity_expr))
        if (reads := replica.reading_memory_expr) > replica.capacity_expr:
            return replace(planned, miss=Miss("memory", reads, replica.capacity_expr))
        if self.ttft is not None and replica.ttft_expr > self.ttft:
            return replace(planned, miss=self.late("ttft", replica, replica.ttft_expr, self.ttft))
        if by_time == 0:
            assert self.tpot is not None
            return replace(planned, miss=self.late("tpot", replica, replica.tpot_expr(replica.multiple), self.tpot))
        limits = {"time": by_time, "memory": by_memory}
        known = {name: limit for name, limit in limits.items() if limit is not None}
        if not known:
            return replace(planned, miss=Miss("technique", why="neither time nor memory limits the batch; give --tpot"))
        binding = min(known, key=lambda name: known[name])
        batch = known[binding]
        formula, values = self._decided(replica, binding, batch)
        memory = replica.memory_exprs(batch)
        planned = replace(planned, batch=batch, binding=binding, formula=formula, formula_values=values, memory_exprs=memory)
        return self._loaded(self._pooled(replace(planned, tpot_expr=replica.tpot_expr(batch)), replica), replica)

    def _pooled(self, planned: Planned, replica: Replica) -> Planned:
        """With the rate of all replicas; where prefill has its own, with the split of them that completes most requests."""
        each = replica.request_rate_expr(planned.batch)
        if not self.split:
            return replace(planned, max_rate_expr=planned.replicas * each)
        reads = 1 / replica.read_expr
        total = planned.replicas
        apart = max(range(1, total), key=lambda count: min(count * reads, (total - count) * each))
        rate = min(apart * reads, (total - apart) * each)
        planned = replace(planned, replicas=total - apart, prefill_replicas=apart, max_rate_expr=rate, transfer_expr=replica.transfer_expr)
        return planned if rate < apart * reads else replace(planned, binding="prefill")

    def _loaded(self, planned: Planned, replica: Replica) -> Planned:
        """At the rate that is asked about."""
        if self.rate is None:
            return planned
        if self.rate > planned.max_rate_expr:
            needed = ceiling(self.rate / planned.max_rate_expr * planned.devices / planned.degree) * planned.degree
            return replace(planned, miss=Miss("rate", self.rate, planned.max_rate_expr, meets_exprs={"devices": needed}))
        steady = replica.steady_expr(self.rate / planned.replicas)
        return replace(planned, steady_expr=steady, tpot_at_rate_expr=replica.tpot_at(steady))

    def late(self, promise: str, replica: Replica, value: Expr, limit: Expr) -> Miss:
        """A promise of time that is missed: what binds, and which bandwidth or peak alone would keep it."""
        if promise == "ttft":
            step, target = replica.prefill.step, limit - (replica.ttft_expr - replica.prefill.total.time_expr)
            resource = replica.prefill.total.bound
        else:
            least = replica.multiple
            step, target = replica.decoding(least), limit - least * replica.delay_expr
            resource = replica.decoded(least).total.bound
        meets: dict[str, Expr] = {}
        for name in RESOURCES if target > 0 and self.ceilings != CALIBRATED else ():
            try:
                meets[name] = required(step, over=name, hardware=replica.device, target_time=target, ceilings=self.ceilings).value_expr
            except SymroofError:
                continue
        return Miss(promise, value, limit, resource, meets)

    def _decided(self, replica: Replica, binding: str, batch: int) -> tuple[Expr | None, dict[Symbol, Expr]]:
        """The limit that decided the batch, as a formula and the values of its symbols."""
        promised = {symbols.T_f: self.ttft, symbols.T_p: self.tpot}
        values = {symbol: value for symbol, value in promised.items() if value is not None}
        if binding == "memory":
            shared, each = _line(replica.memory, batch)
            formula = (symbols.M_d - symbols.M_w) / symbols.M_s
            return formula, {**values, symbols.M_d: replica.capacity_expr, symbols.M_w: shared, symbols.M_s: each}
        if self.ceilings == CALIBRATED or is_exponential(replica.tpots.at(batch).value, BATCH.symbol):
            return None, values
        weights, each = _line(replica.tpots, batch)
        steps, delay = symbols.n - 1, replica.delay_expr
        formula = (symbols.T_p - symbols.tau_w) / (symbols.tau_s + (0 if self.split else symbols.tau_p / steps))
        own = {} if self.split else {symbols.tau_p: replica.read_expr, symbols.n: Integer(self.request.output)}
        return formula, {**values, symbols.tau_w: weights, symbols.tau_s: each - delay, **own}


def _line(function: Piecewise, batch: int) -> tuple[Expr, Expr]:
    """Intercept and slope of a function over the batch, where the batch lies."""
    value = function.at(batch).value
    slope = value.diff(function.x)
    return substitute(value - slope * function.x, {function.x: S.Zero}), slope
