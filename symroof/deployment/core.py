"""What a deployment is: a step, a device, a ceiling set, and the roofline that follows from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from sympy import Symbol

from symroof.architectures.model import Model
from symroof.architectures.options import Options
from symroof.architectures.step import Step
from symroof.errors import InputError, member
from symroof.hardware.device import Device
from symroof.hardware.machine import CEILINGS, STATED
from symroof.roof.analysis import Analysis, Total, analyze
from symroof.roof.costs import variable_of
from symroof.roof.ledger import device_of, require_device
from symroof.roof.roofline import RooflinePoint
from symroof.techniques.registry import techniques_of
from symroof.techniques.technique import Technique
from symroof.units import Quantity

Given = str | Technique | Callable[[Step], Step]
"""A technique as a user may give it."""


@dataclass(frozen=True, repr=False, eq=False)
class Core:
    """A step on a device under a ceiling set, and its roofline.

    Attributes
    ----------
    step : with the numbers that it was given.
    device : the device; None leaves peak and bandwidth symbols.
    ceilings : the ceiling set, as in `symroof.analyze`.
    """

    step: Step
    device: Device | None = None
    ceilings: str = STATED

    @classmethod
    def of(cls, step: Step, hardware: Device | str | Path | None = None, ceilings: str = STATED) -> Self:
        """The deployment of a step; see `Step.on`."""
        member("ceilings", ceilings, CEILINGS)
        device = device_of(hardware)
        if device is not None:
            device.machine.with_ceilings(ceilings)  # refuses what it does not state
        return cls(step, device, ceilings)

    def __repr__(self) -> str:
        """In one line: the model, its techniques, the numbers given, the device and its ceilings."""
        where = f"on {self.device.name}, ceilings {self.ceilings}" if self.device else "on no device"
        return f"<{type(self).__name__}: {', '.join((*self.step.given, where))}>"

    def _repr_html_(self) -> str | None:
        return self.analysis._repr_html_()

    def _repr_latex_(self) -> str | None:
        return self.analysis._repr_latex_()

    def __rich__(self) -> Any:
        return self.analysis.__rich__()

    @functools.cached_property
    def analysis(self) -> Analysis:
        """The roofline of the step, made on first use."""
        return analyze(self.step, self.device, ceilings=self.ceilings)

    def analyze(self) -> Analysis:
        """The roofline of the step; the same as `analysis`."""
        return self.analysis

    def roofline(self) -> Analysis:
        """The roofline of the step; the same as `analysis`."""
        return self.analysis

    def __iter__(self) -> Iterator[RooflinePoint]:
        return iter(self.analysis)

    def __getitem__(self, operator: str) -> RooflinePoint:
        return self.analysis[operator]

    @property
    def total(self) -> Total:
        """Sums over the whole step."""
        return self.analysis.total

    @property
    def time(self) -> Quantity:
        """Time of the whole step, as a Quantity in seconds."""
        return self.total.time

    @property
    def throughput(self) -> Quantity:
        """Tokens a second of all sequences, on all devices, as a Quantity; see `Total.throughput_expr`."""
        return self.total.throughput

    @property
    def memory(self) -> dict[str, Quantity]:
        """Memory taken by weights, KV cache and activations, and their sum, as Quantities in bytes."""
        return self.analysis.memory

    @property
    def fits(self) -> bool | None:
        """Whether the memory fits the device; None where the capacity or the size is not known."""
        return self.analysis.fits

    def table(self, **layout: bool) -> Any:
        """The roofline as a table; see `Analysis.table`."""
        return self.analysis.table(**layout)

    def apply(self, *techniques: Given) -> Self:
        """The same deployment after techniques: objects, or texts as the command line takes them.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.apply("quantize:weights=4,group=128").time < on.time
        True
        """
        return type(self)(self.step.apply(*techniques), self.device, self.ceilings)

    def without(self, *over: str | Symbol) -> Self:
        """The same deployment with these variables free; see `Step.without`."""
        return type(self)(self._open(*over), self.device, self.ceilings)

    def _variable(self, name: str | Symbol, *techniques: Technique) -> Symbol:
        """The symbol of a name, of its own text, or of the name that one of the techniques has for it."""
        return variable_of(self.step, name, *techniques).symbol

    def _open(self, *over: str | Symbol) -> Step:
        """The step without numbers for what is asked over."""
        return self.step.without(*(self._variable(name) for name in over))

    def _given(self, why: str = "the answer is numeric") -> Device:
        """The device, where an answer needs one."""
        return require_device(self.device, why)

    def _variant(self, techniques: Given | Iterable[str | Technique]) -> tuple[Technique, ...]:
        """One variant of a comparison: a text of one technique or several, an object, or several of these."""
        return techniques_of(techniques)  # pyright: ignore[reportArgumentType]

    def _model(self) -> Model:
        """The model behind the step.

        Raises
        ------
        InputError
            The step was not made by a model.
        """
        if self.step.source is None:
            raise InputError(f"the step of {self.step.model} was not made by a model: ask from model.decode(...) or model.prefill(...)")
        return self.step.source

    def _inputs(self, *dropped: str) -> dict[str, Any]:
        """The step's numbers and conventions as `Model.decode` takes them, without these."""
        options = self.step.options
        given = {each.name: getattr(options, each.name) for each in fields(Options) if each.name not in ("phase", *dropped)}
        return {name: value for name, value in given.items() if value is not None}
