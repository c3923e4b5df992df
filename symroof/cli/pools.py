"""`symroof provision, cost`: devices for prefill and for decode; money, energy and carbon of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from symroof.cli import completion
from symroof.cli.options import CEILINGS, CONVENTIONS, GIVEN, WIDTHS, WITH, Request, configured_model, step_options, with_options
from symroof.cli.output import reports, reports_with_tokens
from symroof.cli.plan import Counts
from symroof.cli.questions import SIZE, TIME
from symroof.cli.values import Exact

if TYPE_CHECKING:
    from symroof.present.report import Report

LINK = Exact("a bandwidth above 0, such as 50GB/s", "byte/second", bare=False)
PRICE = Exact("dollars per hour, such as 2.5", "dollar/hour")
POWER = Exact("watts, such as 700 or 700W", "watt")
CARBON = Exact("grams per kilowatt hour, such as 400", "gram/kilowatt_hour")
SHARE, FACTOR = Exact("a share above 0, at most 1"), Exact("a number from 1 on")


@click.command(short_help="How many devices for prefill, how many for decode.")
@click.argument("model", type=completion.MODEL)
@click.option("--prompt", type=SIZE, required=True, help="Tokens of every request's prompt.")
@click.option("--output", "generated", type=SIZE, required=True, help="Tokens generated for every request, 2 or more.")
@click.option("--batch", type=SIZE, required=True, help="Sequences of a decode step.")
@click.option("--hardware", type=completion.DEVICE, required=True, metavar="DEVICE", help="The decode device.")
@click.option("--prefill-hardware", type=completion.DEVICE, metavar="DEVICE", help="The prefill device, where it is another.")
@click.option("--link", type=LINK, metavar="BANDWIDTH", help="Bandwidth between the pools, one way, such as 50GB/s.")
@click.option("--tpot", type=TIME, metavar="TIME", help="Promise: the time per output token, at which one pool is compared with two.")
@with_options(*WIDTHS, *CONVENTIONS, WITH, CEILINGS)
@reports_with_tokens
def provision(model: str, generated: int, techniques: tuple[str, ...], **asked: Any) -> Report:
    """Prefill devices for every decode device, in closed form; the cache's transfer; and whether one pool for both is better."""
    from symroof.serving.provision import provision as provided
    from symroof.techniques.registry import chain

    return provided(configured_model(model), output=generated, techniques=chain(techniques), **asked).report()


@click.command(short_help="Money, energy and carbon of a token.")
@click.option("--price", type=PRICE, metavar="USD", help="Dollars per hour of one device, such as 2.5.")
@click.option("--power", type=POWER, metavar="WATTS", help="Power that one device draws, on average, such as 700W.")
@click.option("--utilization", type=SHARE, default="1", show_default=True, help="Share of the time that devices spend on such steps.")
@click.option("--pue", type=FACTOR, help="Energy of the data centre over that of its devices, such as 1.2.")
@click.option("--carbon", type=CARBON, metavar="GRAMS", help="Carbon dioxide of a kilowatt hour, such as 400.")
@click.option("--degrees", type=Counts(), metavar="N,N...", help="Instead: price against speed over these degrees and every batch.")
@step_options(sizes=GIVEN, phase="decode")
@reports
def cost(request: Request, degrees: tuple[int, ...] | None, price: object, **figures: Any) -> Report:
    """What a token of a step of MODEL costs, as numbers or as formulas in what is left out; with --degrees, the price of speed."""
    from symroof.serving.money import price_of_speed, token_cost

    assert request.device is not None
    if degrees is None:
        return token_cost(request.step(), request.device, price=price, ceilings=request.ceilings, **figures).report()
    typed = [name for name in (*figures, "batch") if request.ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if typed:
        raise click.UsageError(f"--{typed[0]} is given, but --degrees asks for price and speed over every batch: leave one of the two out")
    if price is None:
        raise click.UsageError("--degrees compares prices: give --price too, dollars per hour of one device, such as 2.5")
    step = request.step().without("batch")
    return price_of_speed(step, request.device, price=price, degrees=degrees, ceilings=request.ceilings).report()
