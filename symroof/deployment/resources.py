"""What a target takes, what fits, whole generations, energy, and many points at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sympy import Symbol

from symroof.architectures.options import StepInputs
from symroof.deployment.core import Core
from symroof.questions import generation, required
from symroof.questions.capacity import Largest, cache_passes_weights, hyperbola, largest
from symroof.questions.generation import Generation
from symroof.questions.required import Requirement
from symroof.roof import energy
from symroof.roof.energy import StepEnergy
from symroof.symbols import option_name

if TYPE_CHECKING:
    from pathlib import Path

    import xarray

    from symroof.architectures.options import Size
    from symroof.sweeps.arguments import Over
    from symroof.sweeps.reduce import Optimum


@dataclass(frozen=True, repr=False, eq=False)
class Resources(Core):
    """Questions about what a step needs and uses."""

    def required(self, over: str | Symbol, *, target_time: Any = None, target_rate: Any = None) -> Requirement:
        """What a variable must be for the step to reach a time or a rate; see `symroof.required`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.required("bandwidth", target_time="5 ms").relation, on.required("batch", target_time="50 ms").integer
        ('>=', 80)
        """
        return required.required(
            self._open(over),
            over=over,
            hardware=self._given(),
            target_time=target_time,
            target_rate=target_rate,
            ceilings=self.ceilings,
        )

    def required_capacity(self) -> Any:
        """The memory that the step needs; see `symroof.required_capacity`."""
        return required.required_capacity(self.step)

    def largest(self, over: str | Symbol = "batch", *, capacity: Any = None) -> Largest:
        """The largest batch or context that fits the device, or a capacity; see `symroof.largest`.

        >>> import symroof
        >>> symroof.load_model("llama-2-7b").decode(seq_len=2048).on("a100-sxm-80gb").largest("batch").integer
        67
        """
        return largest(self._open(over), over=over, hardware=self.device, capacity=capacity)

    def hyperbola(self, *, capacity: Any = None) -> Any:
        """The largest batch x context that fits in addition to the weights; see `symroof.hyperbola`."""
        return hyperbola(self._open("batch", "seq_len"), hardware=self.device, capacity=capacity)

    def cache_passes_weights(self) -> Any:
        """The context length from which the KV cache takes more memory than the weights; see `symroof.cache_passes_weights`."""
        return cache_passes_weights(self._open("seq_len").with_widths())

    def generation(self, *, prompt: Size, tokens: Size) -> Generation:
        """Time and traffic of a prompt and of tokens after it, with the step's batch, techniques and conventions.

        Prefill and decode are built again from the model; see `symroof.generation`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1).on("a100-sxm-80gb")
        >>> len(on.generation(prompt=512, tokens=128).parts)
        1
        """
        return generation.generation(
            self._model(),
            prompt=prompt,
            tokens=tokens,
            hardware=self._given(),
            techniques=self.step.symbolic.applied,
            ceilings=self.ceilings,
            **cast(StepInputs, self._inputs("seq_len")),
        )

    def energy(self) -> StepEnergy:
        """The energy of a step to which the technique "energy" was applied; see `symroof.energy`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> spent = on.apply("energy:flop=1pJ,byte=30pJ,power=100W").energy()
        >>> round(float(spent.total.joules_expr), 2)
        1.15
        """
        return energy.energy_of(self.analysis)

    def race_to_halt(self, operator: str) -> bool | None:
        """Whether compute-bound means half of the best FLOP/J at least, under an operator's peak; see `symroof.race_to_halt`."""
        point = self[operator]
        return energy.race_to_halt(self.energy().model, point.peak_expr, point.bandwidth_expr)

    def sweep(self, over: Over, **options: Any) -> xarray.Dataset | Path:
        """All metrics over all values of some variables; see `symroof.sweep`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.sweep({"batch": [1, 64]}).time.dims
        ('model', 'hardware', 'phase', 'batch')
        """
        from symroof.sweeps.sweep import sweep

        return sweep(self._model(), self.device, over, **self._swept(over, options))

    def best(self, over: Over, *, minimize: str = "", maximize: str = "", where: str = "", **options: Any) -> xarray.Dataset:
        """The point with the least or largest metric among those that satisfy a condition; see `symroof.best`."""
        from symroof.sweeps.reduce import best

        goal = {"minimize": minimize, "maximize": maximize, "where": where}
        return best(self._model(), self.device, over, **goal, **self._swept(over, options))

    def optimum(self, over: Over, **asked: Any) -> Optimum:
        """The best point or the front by branch and bound, with the certificate that no point is better; see `symroof.optimum`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> found = on.optimum({"batch": range(1, 10**6)}, maximize="throughput", where="fits")
        >>> found.points.batch.item(), found.certificate.check() < 40
        (67, True)
        """
        from symroof.sweeps.reduce import optimum

        return optimum(self._model(), self.device, over, **self._swept(over, asked))

    def feasible(self, over: Over, where: str, **options: Any) -> xarray.Dataset:
        """The points that satisfy a condition; see `symroof.feasible`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> on.feasible({"batch": [1, 16, 64, 256]}, "latency < 50 ms and fits").batch.values.tolist()
        [1, 16, 64]
        """
        from symroof.sweeps.reduce import feasible

        return feasible(self._model(), self.device, over, where, **self._swept(over, options))

    def pareto(
        self, over: Over, objectives: Sequence[str] = ("latency", "throughput"), *, where: str = "", **options: Any
    ) -> xarray.Dataset:
        """The points that no other beats in one metric without losing in the other; see `symroof.pareto`."""
        from symroof.sweeps.reduce import pareto

        return pareto(self._model(), self.device, over, objectives, where=where, **self._swept(over, options))

    def _swept(self, over: Mapping[Any, Any], options: Mapping[str, Any]) -> Any:
        """What stays fixed in a sweep, and its other options."""
        fixed = {"phase": self.step.options.phase, "ceilings": self.ceilings, "techniques": self.step.symbolic.applied}
        return fixed | self._inputs(*(option_name(name) if isinstance(name, Symbol) else name for name in over)) | dict(options)
