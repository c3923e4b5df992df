"""`symroof measure`: this machine as a device, and steps that run on it, compared with their predictions."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symroof.cli import completion
from symroof.cli.options import SIZE, configured_model, with_options
from symroof.cli.output import Output, output_options
from symroof.cli.values import Whole, Word, one_of

if TYPE_CHECKING:
    from symroof.architectures.step import Step
    from symroof.measure.backend import Backend
    from symroof.measure.session import Session
    from symroof.measure.step import StepTime
    from symroof.present.report import Report

DEVICE_FILE = ".toml"
TYPES = ("fp32", "fp64", "bf16", "fp16")
SIZES = (
    click.option("--phase", multiple=True, type=Word(("prefill", "decode")), help="Default: both."),
    click.option("--batch", type=SIZE, default=1, show_default=True, help="Sequences in the batch."),
    click.option("--seq-len", type=SIZE, default=512, show_default=True, help="Prompt length (prefill) or context length (decode)."),
    click.option("--flash-attention", is_flag=True, help="Attention as one operator whose scores stay on chip; torch has it."),
    click.option("--causal/--no-causal", default=True, show_default=True, help="Count only the pairs a causal mask leaves."),
)


@click.command(short_help="This machine as a device; steps that run on it.")
@click.argument("model", required=False, type=completion.MODEL)
@output_options("Write the device there (.toml, its constants beside it), or the report.")
@click.option("--device-file", metavar="FILE", help="A device measured earlier, instead of a new measurement.")
@one_of("--backend", ("numpy", "torch"), "What runs the kernels; torch needs the extra `measure`.")
@click.option("--on", type=Word(("cpu", "gpu")), show_default="the GPU where torch sees one", help="Which processor.")
@click.option("--threads", type=Whole(4096), show_default="all cores", help="Threads on the CPU.")
@click.option("--cpu-time", is_flag=True, help="Measure CPU time instead of wall time: with one thread, on a busy machine.")
@click.option("--type", "data_type", type=Word(TYPES), show_default="fp32, on a GPU bf16", help="The data type of kernels and steps.")
@click.option("--repeat", type=Whole(10_000), show_default="10, 3 with --quick", help="Timings of each benchmark and step.")
@click.option("--quick", is_flag=True, help="Three timings each, smaller products; attention only a MODEL's, with --flash-attention.")
@with_options(*SIZES)
@click.option("--figures", "folder", metavar="DIR", help="Draw the measured roofline, and bandwidth by working set, there.")
def measure(
    model: str | None,
    output: Output,
    device_file: str | None,
    backend: str,
    on: str | None,
    threads: int | None,
    cpu_time: bool,
    data_type: str | None,
    repeat: int | None,
    quick: bool,
    folder: str | None,
    **options: Any,
) -> int:
    """Measure this machine: bandwidth by level, peaks by data type, constants of kernels. With MODEL, attention with its heads; then run
    the operators of its steps and compare them with the prediction of the measured device.
    """
    if device_file is not None and model is None:
        raise click.UsageError("--device-file: name the MODEL to run; without one the machine is measured again")
    file = output.path
    to_device = file is not None and file.suffix.lower() == DEVICE_FILE
    if to_device and device_file is not None:
        raise click.UsageError("-o: a device that was measured before is not written again; leave --device-file out, or name a report")
    report_to = replace(output, path=None) if to_device else output
    form = report_to.form
    _check(file, to_device)
    from symroof.measure.backend import open_backend

    runs = open_backend(backend, on or "", threads=threads, cpu_time=cpu_time)
    chosen = data_type or ("bf16" if runs.system.kind == "gpu" else "fp32")
    runs.require(chosen)
    steps = [] if model is None else _steps(model, chosen, **options)
    session = None if device_file else _session(runs, chosen, repeat, quick, steps)
    if session is not None and to_device and file is not None:
        _write(session, file)
    if session is not None and not steps:
        _draw(folder, session, [])
        return report_to.deliver(_machine_report(session), form)
    from symroof.hardware.loader import load_hardware
    from symroof.measure.step import measure_step
    from symroof.present.measured.machine import step_report

    device = load_hardware(device_file or "") if session is None else session.device
    times = [measure_step(step, device, runs, chosen, repeat or (3 if quick else 10)) for step in steps]
    _draw(folder, session, times)
    return report_to.deliver(step_report(times, session, _command()), form)


def _check(output: Path | None, to_device: bool) -> None:
    from symroof.files import check_writable
    from symroof.hardware.loader import constants_beside

    if output is not None:
        check_writable(output)
        if to_device:
            check_writable(constants_beside(output))


def _session(runs: Backend, data_type: str, repeat: int | None, quick: bool, steps: list[Step]) -> Session:
    """Measure the machine; attention with the heads of the steps, where there are some."""
    from symroof.hardware.calibration import Kernel
    from symroof.measure.kernels import HEADS
    from symroof.measure.machine import FULL, QUICK
    from symroof.measure.session import BRIEFLY, measure_machine
    from symroof.measure.step import heads_of

    effort = QUICK if quick else FULL
    effort = effort if repeat is None else replace(effort, repeat=repeat)
    types = dict.fromkeys((data_type, *(runs.types[:2] if quick else runs.types)))
    fused = any(step.options.flash_attention for step in steps)
    classes = BRIEFLY if quick and not fused else tuple(Kernel)
    heads = heads_of(steps[0]) if steps else ()
    return measure_machine(runs, effort, tuple(types), data_type, classes=classes, command=_command(), heads=heads or HEADS)


def _command() -> str:
    return f"symroof {shlex.join(sys.argv[1:])}"


def _write(session: Session, output: Path) -> None:
    """The device's file, and its constants beside it."""
    from symroof import __version__
    from symroof.files import writing
    from symroof.hardware.calibration import written
    from symroof.hardware.loader import constants_beside

    with writing(output) as path:
        path.write_text(session.text, encoding="utf-8")
    click.echo(f"wrote {output}", err=True)
    if session.calibration is not None:
        with writing(constants_beside(output)) as path:
            path.write_text(written(session.calibration, f"symroof {__version__}"), encoding="utf-8")
        click.echo(f"wrote {constants_beside(output)}", err=True)


def _machine_report(session: Session) -> Report:
    from symroof.present.measured.machine import machine_report

    return machine_report(session)


def _steps(model: str, data_type: str, phase: tuple[str, ...], **options: Any) -> list[Step]:
    """The steps of a model that the options describe, all of one width."""
    from symroof.architectures.options import Options
    from symroof.operators.facts import BITS

    loaded, bits = configured_model(model), BITS[data_type]
    chosen = dict.fromkeys(phase or ("decode", "prefill"))
    return [loaded.step(Options(one, weight_bits=bits, activation_bits=bits, kv_bits=bits, **options)) for one in chosen]


def _draw(folder: str | None, session: Session | None, steps: list[StepTime]) -> None:
    if folder is None:
        return
    from symroof.present.measured.machine_figures import save

    for path in save(session, steps, Path(folder)):
        click.echo(f"wrote {path}", err=True)
