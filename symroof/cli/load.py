"""`symroof load, promises`: what requests see that arrive at a rate, and what keeps promises to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from symroof.cli import completion
from symroof.cli.options import CEILINGS, CONVENTIONS, WIDTHS, WITH, configured_model, with_options
from symroof.cli.output import reports_with_tokens
from symroof.cli.plan import RATE, Counts
from symroof.cli.questions import SIZE, TIME
from symroof.cli.values import Exact

if TYPE_CHECKING:
    from symroof.present.report import Report

LENGTH = Exact("a number of tokens of at least 2, such as 256 or 256.5")
VARIANCE = Exact("a variance above 0, such as 10000")


@click.command(short_help="Latency of requests that arrive at a rate.")
@click.argument("model", type=completion.MODEL)
@click.option("--rate", type=RATE, required=True, metavar="RATE", help="Requests per second, such as 4.")
@click.option("--prompt", type=SIZE, required=True, help="Tokens of every request's prompt.")
@click.option(
    "--output", "generated", type=LENGTH, required=True, metavar="N", help="Tokens generated for a request, in the mean, 2 or more."
)
@click.option("--output-variance", type=VARIANCE, metavar="V", help="Their variance, where they differ.")
@click.option("--prefill", type=click.Choice(("elsewhere", "here")), default="elsewhere", show_default=True, help="Where prompts are read.")
@click.option("--hardware", type=completion.DEVICE, required=True, metavar="DEVICE", help="The device that decodes.")
@with_options(*WIDTHS, *CONVENTIONS, WITH, CEILINGS)
@reports_with_tokens
def load(model: str, generated: object, techniques: tuple[str, ...], **asked: Any) -> Report:
    """Batch, time per token and latency by Little's law on the exact step; saturation; percentiles of processor sharing."""
    from symroof.serving.load import under_load
    from symroof.techniques.registry import chain

    own = {name: asked.pop(name) for name in ("rate", "prompt", "prefill", "hardware", "ceilings")}
    own["output_variance"] = asked.pop("output_variance") or 0
    return under_load(configured_model(model).decode(**asked).apply(*chain(techniques)), output=generated, **own).report()


@click.command(short_help="What keeps promises: batch, context, chunk, degree.")
@click.argument("model", type=completion.MODEL)
@click.option("--prompt", type=SIZE, required=True, help="Tokens of every request's prompt.")
@click.option("--output", "generated", type=SIZE, required=True, help="Tokens generated for every request, 2 or more.")
@click.option("--ttft", type=TIME, metavar="TIME", help="Promise: the time to the first token, such as 1s, on an idle replica.")
@click.option("--tpot", type=TIME, metavar="TIME", help="Promise: the time per output token, such as 50ms.")
@click.option("--batch", type=SIZE, help="The batch to answer for; without it the largest that keeps the promises.")
@click.option("--degrees", type=Counts(), default=None, metavar="N,N...", help="Devices to try tensor parallelism over, such as 1,2,4.")
@click.option("--hardware", type=completion.DEVICE, required=True, metavar="DEVICE", help="The device.")
@click.option("--split", is_flag=True, help="Read prompts on devices of their own.")
@with_options(*WIDTHS, *CONVENTIONS, WITH, CEILINGS)
@reports_with_tokens
def promises(model: str, generated: int, degrees: tuple[int, ...] | None, techniques: tuple[str, ...], **asked: Any) -> Report:
    """Times and rates of a request, what each promise and the memory allow, and what would meet a promise that is missed."""
    from symroof.serving.requests.promises import promises as promised
    from symroof.techniques.registry import chain

    return promised(configured_model(model), output=generated, degrees=degrees or (), techniques=chain(techniques), **asked).report()
