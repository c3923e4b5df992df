"""From a step to requests: the step as a line, load, promises, full memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from symroof.architectures.options import Size, StepInputs
from symroof.deployment.core import Core
from symroof.serving import load
from symroof.serving.load import Load
from symroof.serving.requests import full_memory, promises
from symroof.serving.requests.full_memory import AtFullMemory
from symroof.serving.requests.promises import Promises
from symroof.serving.step_line import StepLine, step_line


@dataclass(frozen=True, repr=False, eq=False)
class Requests(Core):
    """Questions about the requests that such steps serve."""

    def step_line(self) -> StepLine:
        """The time of the step as a line in batch and context; see `symroof.step_line`.

        >>> import symroof
        >>> line = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048).on("h100-sxm").step_line()
        >>> print(line.weight_time, line.kind)
        4.481 ms line
        """
        return step_line(self.step, hardware=self._given(), ceilings=self.ceilings)

    def under_load(self, *, rate: Any, prompt: Size, output: Any, output_variance: Any = 0, prefill: str = "elsewhere") -> Load:
        """Batch and latency of requests that arrive at a rate; see `symroof.under_load`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3-8b").decode().on("h100-sxm")
        >>> print(on.under_load(rate=4, prompt=2048, output=257, prefill="here").utilization)
        0.269
        """
        return load.under_load(
            self.step,
            rate=rate,
            prompt=prompt,
            output=output,
            output_variance=output_variance,
            hardware=self._given(),
            prefill=prefill,
            ceilings=self.ceilings,
        )

    def at_full_memory(self, *, capacity: Any = None) -> AtFullMemory:
        """The batch that fills the memory, and its step; see `symroof.full_memory`.

        >>> import symroof
        >>> full = symroof.load_model("llama-3-8b").decode(seq_len=8192).on("h100-sxm").at_full_memory()
        >>> print(full.batch, full.period)
        64.63 25.53 ms
        """
        return full_memory.full_memory(self.step, hardware=self._given(), capacity=capacity, ceilings=self.ceilings)

    def promises(self, *, prompt: Size, output: Size, ttft: Any = None, tpot: Any = None, **asked: Any) -> Promises:
        """Times and rates of requests, and what keeps promises, at the step's batch or the largest; see `symroof.promises`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3-8b").decode().on("h100-sxm")
        >>> on.promises(prompt=2048, output=257, tpot="30 ms").allowed_batch.most
        104
        """
        return promises.promises(
            self._model(),
            prompt=prompt,
            output=output,
            hardware=self._given(),
            ttft=ttft,
            tpot=tpot,
            techniques=self.step.symbolic.applied,
            ceilings=self.ceilings,
            **asked,
            **cast(StepInputs, self._inputs("seq_len")),
        )
