"""`symroof plan`: for each device the best deployment that keeps the promises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from symroof.cli import completion
from symroof.cli.options import CEILINGS, CONVENTIONS, WIDTHS, WITH, Variadic, configured_model, with_options
from symroof.cli.output import reports_with_tokens
from symroof.cli.questions import SIZE, TIME
from symroof.cli.values import Exact, exact, option
from symroof.errors import quote

if TYPE_CHECKING:
    from symroof.present.report import Report

RATE = Exact("requests per second, such as 4 or 4/s", "1/second")


class Counts(click.ParamType):
    """Whole numbers with commas between them."""

    name = "integers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, or a usage error."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"[1-9][0-9]{0,3}(,[1-9][0-9]{0,3}){0,63}", value, re.ASCII):
            raise click.UsageError(f"{option(param)} {quote(value)}: expected numbers of devices from 1 to 4096, such as 1,2,4,8")
        return tuple(dict.fromkeys(map(int, value.split(","))))


@click.command(cls=Variadic, short_help="The best deployment on each device, under promises.")
@click.argument("model", type=completion.MODEL)
@click.option("--prompt", type=SIZE, required=True, help="Tokens of every request's prompt.")
@click.option("--output", "generated", type=SIZE, required=True, help="Tokens generated for every request, 2 or more.")
@click.option("--ttft", type=TIME, metavar="TIME", help="Promise: the time to the first token, such as 1s, on an idle replica.")
@click.option("--tpot", type=TIME, metavar="TIME", help="Promise: the time per output token, such as 50ms, under a full batch.")
@click.option("--rate", type=RATE, metavar="RATE", help="Requests per second to serve, such as 4.")
@click.option("--hardware", multiple=True, required=True, type=completion.DEVICE, metavar="DEVICE ...", help="Devices to compare.")
@click.option("--devices", type=Counts(), default="1", show_default=True, metavar="N,N...", help="Numbers of devices to try.")
@click.option("--price", multiple=True, metavar="DEVICE=PRICE ...", help="Dollars per hour of a device, such as h100-sxm=2.5.")
@click.option("--split", is_flag=True, help="Read prompts on devices of their own.")
@with_options(*WIDTHS, *CONVENTIONS, WITH, CEILINGS)
@reports_with_tokens
def plan(model: str, generated: int, price: tuple[str, ...], techniques: tuple[str, ...], **asked: Any) -> Report:
    """For each number of each device: the parallelism and the batch that keep the promises with the most tokens per device.

    Time to first token, time per output token, tokens per second and device, the rate at which a promise breaks, and with --price what
    a million tokens cost.
    """
    from symroof.serving.plan import plan as planned
    from symroof.techniques.registry import chain

    own = {**asked, "techniques": chain(techniques), "price": _prices(price)}
    return planned(configured_model(model), output=generated, **own).report()


def _prices(texts: Sequence[str]) -> dict[str, Any]:
    """``("h100-sxm=2.5",)`` as exact numbers by device."""
    found: dict[str, Any] = {}
    for text in texts:
        name, _, typed = text.rpartition("=")
        number = exact(typed)
        if not name or not number:
            raise click.UsageError(f"--price {quote(text)}: expected a device and dollars per hour, such as h100-sxm=2.5")
        if name in found:
            raise click.UsageError(f"--price of {quote(name)} is given twice")
        found[name] = number
    return found
