"""Money, energy and carbon of a token, and the price of speed: the cheapest and the fastest deployments of one model, exactly.

A step of n devices takes ``T`` seconds and completes ``N`` tokens. Devices that spend a share u of their time on such steps cost

``pi n T / (N u)`` dollars, ``e w n T / (N u)`` joules, and ``g`` times that energy of carbon dioxide a token

with pi the price of a device's time, w its mean power, e the PUE of its data centre and g the carbon intensity of its electricity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from sympy import Expr, Integer, Poly, Rational, S, Symbol

from symroof import symbols
from symroof.algebra.piecewise import Piece, Piecewise
from symroof.answers import Answer, Answers
from symroof.architectures.options import whole
from symroof.architectures.step import Step
from symroof.errors import InputError, SymroofError, quote
from symroof.hardware.device import Device
from symroof.hardware.machine import STATED
from symroof.questions.capacity import largest
from symroof.questions.regimes import regimes
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.energy import energy_of
from symroof.roof.ledger import require_device
from symroof.symbols import VOCABULARY, substitute
from symroof.techniques.registry import techniques_of, whole_multiple
from symroof.techniques.technique import Technique
from symroof.units import CARBON, COUNT, DOLLAR, JOULE, PRICE, SECOND, TOKEN_RATE, WATT, counted, in_unit, number, ureg

MILLION, HOUR = Integer(10) ** 6, Integer(3600)
TOKEN = ureg.Unit("token")


@dataclass(frozen=True)
class TokenCost(Answer):
    """Money, energy and carbon of a token.

    Attributes
    ----------
    analysis : the step, and where it runs.
    price_expr, power_expr, utilization_expr, pue_expr, carbon_expr : as given, bare; the symbol of what was not.
    joules_expr : joules of a token on all devices by the step's energy model, bare; None where the power decides.
    """

    analysis: Analysis = field(repr=False)
    price_expr: Expr
    power_expr: Expr
    utilization_expr: Expr
    pue_expr: Expr
    carbon_expr: Expr
    joules_expr: Expr | None = None

    price = in_unit(lambda cost: cost.price_expr, PRICE, "Price of a device's time, as a Quantity in dollar/hour.")
    power = in_unit(lambda cost: cost.power_expr, WATT, "Power that a device draws, as a Quantity in watts.")
    utilization = in_unit(lambda cost: cost.utilization_expr, COUNT, "Share of the time that devices spend on such steps, as a Quantity.")
    pue = in_unit(lambda cost: cost.pue_expr, COUNT, "Energy of the data centre over that of its devices, as a Quantity.")
    carbon = in_unit(lambda cost: cost.carbon_expr, CARBON, "Carbon intensity of electricity, as a Quantity in gram/kWh.")
    devices = counted(lambda cost: cost.analysis.graph.devices, "How many devices share the step.")
    device_time = in_unit(lambda cost: cost.device_time_expr, SECOND / TOKEN, "Device-seconds of a token, as a Quantity in second/token.")
    money = in_unit(lambda cost: cost.money_expr, DOLLAR / TOKEN, "Price of a token, as a Quantity in dollar/token.")
    money_per_million = in_unit(lambda cost: MILLION * cost.money_expr, DOLLAR, "Price of a million tokens, as a Quantity in dollars.")
    energy = in_unit(lambda cost: cost.energy_expr, JOULE / TOKEN, "Energy of a token, as a Quantity in joule/token.")
    emissions = in_unit(
        lambda cost: cost.emissions_expr, ureg.Unit("gram/token"), "Carbon dioxide of a token, as a Quantity in gram/token."
    )

    @property
    def device_time_expr(self) -> Expr:
        """Seconds of a device that a token takes, those without such steps included, bare: ``n T / (N u)``."""
        busy = self.analysis.graph.devices / self.analysis.total.throughput_expr
        return busy / self.utilization_expr

    @property
    def money_expr(self) -> Expr:
        """Dollars of a token, bare."""
        return self.price_expr * self.device_time_expr / HOUR

    @property
    def energy_expr(self) -> Expr:
        """Joules of a token, bare."""
        return self.pue_expr * (self.power_expr * self.device_time_expr if self.joules_expr is None else self.joules_expr)

    @property
    def emissions_expr(self) -> Expr:
        """Grams of carbon dioxide of a token, bare."""
        return self.carbon_expr * self.energy_expr / (1000 * HOUR)


def token_cost(
    step: Step,
    hardware: Device | str | Path | None = None,
    *,
    price: Any = None,
    power: Any = None,
    utilization: Any = 1,
    pue: Any = None,
    carbon: Any = None,
    ceilings: str = STATED,
) -> TokenCost:
    """Money, energy and carbon of a token of a step: ``pi n T / (N u)``, ``e w n T / (N u)`` and ``g`` times that energy.

    No price, power, PUE or carbon intensity is assumed: what is left out stays a symbol of the answer's formulas.

    Parameters
    ----------
    step : a step; of several devices where a technique spreads it over them.
    hardware : the device; None leaves peak and bandwidth symbols.
    price : pi, of one device's time: "2 USD/h", a Quantity, or a number in USD/h.
    power : w, mean power of one device in watts. Without it, the step's energy model decides where the technique "energy" gave it one,
        and that energy is the steps' alone, whatever the utilization.
    utilization : u, the share of the time that the devices spend on such steps; of the rest a token carries its part.
    pue : e, energy of the data centre over that of its devices.
    carbon : g, "400 g/kWh", a Quantity, or a number in g/kWh.
    ceilings : the ceiling set, as in `symroof.analyze`.

    Raises
    ------
    InputError
        A figure is not above 0, or in another unit, a utilization is above 1, or a PUE below 1.

    >>> import symroof
    >>> step = symroof.load_model("llama-3.1-8b").decode(batch=64, seq_len=2048)
    >>> cost = symroof.token_cost(step, "h100-sxm", price="2 USD/h", power="700 W", pue=1.2, carbon="400 g/kWh")
    >>> print(cost.money_per_million, cost.energy, cost.emissions.to("mg/token"), sep=", ")
    0.0882 USD, 133.4 mJ/token, 0.01482 mg/token
    >>> print(symroof.token_cost(step, "h100-sxm", utilization=0.5).money)
    461663*pi_d/5234375000000 USD/token

    Source: price over throughput as in Erdil (2025), arXiv:2506.04645, section 2; PUE: ISO/IEC 30134-2.
    """
    analysis = analyze(step, hardware, ceilings=ceilings)
    given = {
        symbols.pi_d: number(price, PRICE, "price") if price is not None else symbols.pi_d,
        symbols.pi_w: number(power, WATT, "power") if power is not None else symbols.pi_w,
        symbols.u_d: number(utilization, COUNT, "utilization") if utilization is not None else symbols.u_d,
        symbols.e_0: number(pue, COUNT, "pue") if pue is not None else symbols.e_0,
        symbols.g_e: number(carbon, CARBON, "carbon") if carbon is not None else symbols.g_e,
    }
    if given[symbols.u_d].is_number and given[symbols.u_d] > 1:
        raise InputError(f"utilization {quote(str(given[symbols.u_d]))}: expected a share, above 0 and at most 1")
    if given[symbols.e_0].is_number and given[symbols.e_0] < 1:
        raise InputError(f"pue {quote(str(given[symbols.e_0]))}: expected at least 1, all of a data centre's energy over its devices'")
    modelled = None
    if power is None and analysis.graph.energy is not None:
        modelled = energy_of(analysis).system_token.joules_expr
    return TokenCost(
        analysis, given[symbols.pi_d], given[symbols.pi_w], given[symbols.u_d], given[symbols.e_0], given[symbols.g_e], modelled
    )


@dataclass(frozen=True)
class PricePoint(Answer):
    """A deployment that no other beats in both speed and price.

    Attributes
    ----------
    degree, batch : devices of the step, and sequences that it serves.
    time_expr : seconds of a token, bare.
    money_expr : dollars of a token, bare.
    """

    degree: int
    batch: int
    time_expr: Expr
    money_expr: Expr

    time = in_unit(lambda point: point.time_expr, SECOND, "Time of a token, as a Quantity in seconds.")
    speed = in_unit(lambda point: 1 / point.time_expr, TOKEN_RATE, "Tokens a second of one sequence, as a Quantity in token/second.")
    money = in_unit(lambda point: point.money_expr, DOLLAR / TOKEN, "Price of a token, as a Quantity in dollar/token.")
    money_per_million = in_unit(lambda point: MILLION * point.money_expr, DOLLAR, "Price of a million tokens, as a Quantity in dollars.")

    @property
    def name(self) -> str:
        """The degree and the batch."""
        return f"{self.degree} x {self.batch}"


@dataclass(frozen=True)
class PriceOfSpeed(Answers[PricePoint]):
    """The Pareto front of price against speed, fastest first: an immutable sequence; a point by "degree x batch".

    Attributes
    ----------
    step, device : the step of one device without a batch, and the device.
    price_expr : dollars of a device's hour, bare.
    left_out : degrees that the model or the device does not take, and batches beyond the largest that was asked for, with the reason.
    """

    _AMONG = "a point of the front"

    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)
    price_expr: Expr = S.One
    left_out: tuple[str, ...] = ()

    price = in_unit(lambda front: front.price_expr, PRICE, "Price of a device's time, as a Quantity in dollar/hour.")

    @property
    def fastest(self) -> PricePoint:
        """The point with the least time a token."""
        return self.members[0]

    @property
    def cheapest(self) -> PricePoint:
        """The point with the least price a token."""
        return self.members[-1]

    def within(self, tpot: Any) -> PricePoint:
        """The cheapest point whose time a token is at most this promise.

        Raises
        ------
        InputError
            Not even the fastest is as fast.
        """
        promise = number(tpot, SECOND, "tpot")
        met = [point for point in self.members if point.time_expr <= promise]
        if not met:
            best = self.fastest
            raise InputError(f"tpot {quote(str(tpot))}: the fastest, {_devices(best.degree)} at batch {best.batch}, takes {best.time}")
        return met[-1]


def price_of_speed(
    step: Step,
    hardware: Device | str | Path,
    *,
    price: Any,
    degrees: Iterable[int] = (1, 2, 4, 8),
    techniques: str | Technique | Sequence[str | Technique] = "tensor-parallel",
    largest_batch: int = 4096,
    ceilings: str = STATED,
) -> PriceOfSpeed:
    """Price against speed over every whole batch that fits and every degree of parallelism, as an exact Pareto front.

    On one degree the time of a token T(b) never falls over the batch, and ``T(b) / b`` never rises: of a degree, a larger batch is
    cheaper and slower, and no two of its batches beat each other but where the two are equal. So the front is the lower envelope of
    one falling curve a degree: ``pi n T / b`` over T, on a piece ``T = alpha + beta b`` of which ``pi n beta T / (T - alpha)``.
    Every time is a rational number, and comparisons are exact.

    Parameters
    ----------
    step : a decode step of one device with a context; its batch is ignored.
    price : of one device's time, "2 USD/h", a Quantity, or a number in USD/h.
    degrees : the numbers of devices; those that the model or the device does not take are left out, with the reason.
    techniques : what spreads the step over devices, without its degree.
    largest_batch : the batch up to which the front is followed, where memory allows more.

    Raises
    ------
    InputError
        The step is not a decode step, no degree fits, or an input is missing.

    >>> import symroof
    >>> step = symroof.load_model("llama-3.1-8b").decode(seq_len=2048)
    >>> front = symroof.price_of_speed(step, "h100-sxm", price="2 USD/h")
    >>> print(front.fastest.name, front.fastest.speed, front.cheapest.name, front.cheapest.money_per_million, sep=", ")
    8 x 1, 626.1 token/s, 1 x 258, 0.05895 USD
    >>> front.within("10 ms").name
    '4 x 326'
    """
    device = require_device(hardware, "prices are compared in numbers")
    if not step.options.decode:
        raise InputError(f"the price of speed is that of a decode step; this is {step.options.phase}")
    if symbols.t not in step.values:
        raise InputError("give seq_len, the context of a sequence: times are compared in numbers")
    rate, most, degrees = number(price, PRICE, "price"), whole("largest_batch", largest_batch, "sequence"), [*degrees]
    if not degrees:
        raise InputError("degrees: expected at least one number of devices")
    step = step.without("batch").with_widths()
    candidates: list[tuple[Fraction, Fraction, int, int]] = []
    left_out: list[str] = []
    for given in degrees:
        try:
            degree = whole("degree", given, "")
            several = step.apply(*_of_degree(techniques, degree))
            fits, multiple = largest(several, hardware=device).integer, whole_multiple(several.symbolic.applied, symbols.b)
            times = regimes(several, over="batch", hardware=device, ceilings=ceilings).times
        except SymroofError as error:
            left_out.append(f"{_devices(given)}: {error}")
            continue
        if fits < 1:
            left_out.append(f"{_devices(degree)}: not even batch 1 fits {device.name}")
        elif fits > most:
            left_out.append(f"{_devices(degree)}: batches above {most}, of {fits} that fit")
        candidates += [(time, degree * time / batch, degree, batch) for batch, time in _whole(times, min(fits, most), multiple)]
    if not candidates:
        raise InputError(f"no degree serves {step.model} on {device.name}: {'; '.join(left_out)}")
    return PriceOfSpeed(tuple(_front(candidates, rate)), step, device, rate, tuple(left_out))


def _devices(degree: object) -> str:
    return "1 device" if degree == 1 and degree is not True else f"{degree} devices"


def _of_degree(techniques: str | Technique | Sequence[str | Technique], degree: int) -> tuple[Technique, ...]:
    """The techniques with this degree where they leave it open; none for one device."""
    given = techniques_of(techniques)
    if degree == 1:
        return tuple(technique for technique in given if getattr(technique, "degree", None) != symbols.n_p)
    return tuple(
        replace(technique, degree=Integer(degree)) if getattr(technique, "degree", None) == symbols.n_p else technique  # pyright: ignore[reportCallIssue]
        for technique in given
    )


def _whole(times: Piecewise, last: int, multiple: int) -> Iterator[tuple[int, Fraction]]:
    """Every multiple of a batch up to *last*, and its time as a fraction."""
    for piece, first, end in times.counts(1, last):
        of_piece = _fractions(piece, times.x)
        yield from ((batch, of_piece(batch)) for batch in range(-(-int(first) // multiple) * multiple, int(end) + 1, multiple))


def _fractions(piece: Piece, x: Symbol) -> Any:
    """A function from whole numbers to the exact value of a piece."""
    if not piece.value.is_polynomial(x):
        return lambda number: _fraction(substitute(piece.value, {x: Integer(number)}))
    coefficients = [_fraction(value) for value in Poly(piece.value, x).all_coeffs()]

    def value(number: int) -> Fraction:
        total = Fraction(0)
        for coefficient in coefficients:
            total = total * number + coefficient
        return total

    return value


def _fraction(value: Expr) -> Fraction:
    if not isinstance(value, Rational):
        raise InputError(f"{VOCABULARY[symbols.b].name}: times that are not rational have no exact front; give every input a number")
    return Fraction(int(value.p), int(value.q))


def _front(candidates: list[tuple[Fraction, Fraction, int, int]], price: Expr) -> Iterator[PricePoint]:
    """The candidates that none beats, fastest first; of equals in both, that of fewer devices."""
    least: Fraction | None = None
    for time, device_time, degree, batch in sorted(candidates):
        if least is None or device_time < least:
            least = device_time
            seconds, of_devices = (Rational(part.numerator, part.denominator) for part in (time, device_time))
            yield PricePoint(degree, batch, seconds, price * of_devices / HOUR)
