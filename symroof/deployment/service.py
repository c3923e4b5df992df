"""From the step to the service: lines, load, pools, money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sympy import Symbol

from symroof.architectures.options import Size, StepInputs
from symroof.deployment.core import Core
from symroof.hardware.device import Device
from symroof.serving import attention_split, dead_zone, money, provision, two_dimensional
from symroof.serving.attention_split import AttentionSplit
from symroof.serving.dead_zone import DeadZone
from symroof.serving.feed_forward import link_of
from symroof.serving.maps import regime_map
from symroof.serving.maps.regime_map import RegimeMap
from symroof.serving.money import PriceOfSpeed, TokenCost
from symroof.serving.provision import Provision
from symroof.serving.stacks import ablation
from symroof.serving.stacks.ablation import Ablation, Member
from symroof.serving.two_dimensional import TwoDimensional
from symroof.techniques.technique import Technique


@dataclass(frozen=True, repr=False, eq=False)
class Service(Core):
    """Questions about a service made of such steps."""

    def provision(self, *, prompt: Size, output: Size, **asked: Any) -> Provision:
        """Prefill devices for every decode device, with the step's batch, techniques and conventions; see `symroof.provision`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3.1-8b").decode(batch=32).on("h100-sxm")
        >>> print(on.provision(prompt=2048, output=256).ratio)
        0.6442
        """
        return provision.provision(
            self._model(),
            prompt=prompt,
            output=output,
            hardware=self._given(),
            techniques=self.step.symbolic.applied,
            ceilings=self.ceilings,
            **asked,
            **cast(StepInputs, self._inputs("seq_len")),
        )

    def attention_split(self, *, ffn_hardware: Device | str | Path | None = None, link: Any = None) -> AttentionSplit:
        """Attention devices for every FFN device; see `symroof.attention_split`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3.1-8b").decode(batch=64, seq_len=4096).on("h200-sxm")
        >>> on.attention_split().devices
        11
        """
        return attention_split.attention_split(
            self.step, self._given(), ffn_hardware=ffn_hardware, link=link, ceilings=self.ceilings
        )  # fmt: skip

    def dead_zone(self, *, attention_devices: int, **asked: Any) -> DeadZone:
        """Where more FFN devices bring nothing; see `symroof.dead_zone`.

        >>> import symroof
        >>> on = symroof.load_model("deepseek-v3").decode(batch=128, seq_len=4096).on("h800-sxm")
        >>> print(on.dead_zone(attention_devices=8, copies=8, link="50 GB/s").threshold)
        8
        """
        return dead_zone.dead_zone(
            self.step, self._given(), attention_devices=attention_devices, ceilings=self.ceilings, **asked
        )  # fmt: skip

    def two_dimensional(self, *, devices: int, link: Any = None, axes: int = 3) -> TwoDimensional:
        """The traffic of weights split along both dimensions; see `symroof.two_dimensional`.

        A ring has the bandwidth that is given, or an equal part of the device's link.

        >>> import symroof
        >>> on = symroof.load_model("opt-66b").decode(batch=64, seq_len=2048).on("tpu-v4")
        >>> on.two_dimensional(devices=64, link="90 GB/s").threshold
        72
        """
        ring = link_of(self._given(), None) / axes if link is None and axes else link
        return two_dimensional.two_dimensional(self.step.with_widths(), devices=devices, link=ring, axes=axes)

    def token_cost(self, **figures: Any) -> TokenCost:
        """Money, energy and carbon of a token; see `symroof.token_cost`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3.1-8b").decode(batch=64, seq_len=2048).on("h100-sxm")
        >>> print(on.token_cost(price="2 USD/h").money_per_million)
        0.0882 USD
        """
        return money.token_cost(self.step, self.device, ceilings=self.ceilings, **figures)

    def price_of_speed(
        self,
        *,
        price: Any,
        degrees: Iterable[int] = (1, 2, 4, 8),
        techniques: str | Technique | Sequence[str | Technique] = "tensor-parallel",
    ) -> PriceOfSpeed:
        """Price against speed over batches and degrees, as an exact Pareto front; see `symroof.price_of_speed`.

        >>> import symroof
        >>> on = symroof.load_model("llama-3.1-8b").decode(seq_len=2048).on("h100-sxm")
        >>> on.price_of_speed(price="2 USD/h").within("10 ms").name
        '4 x 326'
        """
        return money.price_of_speed(
            self.step, self._given(), price=price, degrees=degrees, techniques=techniques, ceilings=self.ceilings
        )  # fmt: skip

    def regime_map(
        self,
        over: tuple[str | Symbol, str | Symbol] = ("batch", "seq_len"),
        *,
        operator: str = "total",
        ranges: Mapping[str, tuple[Any, Any]] | None = None,
        tpot: Any = None,
        ttft: Any = None,
        memory_counts: bool | None = None,
    ) -> RegimeMap:
        """What binds over two variables, or where a promise is met, with exact borders; see `symroof.regime_map`.

        >>> import symroof
        >>> found = symroof.load_model("llama-3-8b").decode().on("h100-sxm").regime_map(operator="up_proj")
        >>> found.at(325, 2048).label, found.at(326, 2048).label, found.borders[0].first_exprs
        ('memory', 'compute', (326, 1))
        """
        asked = {"operator": operator, "ranges": ranges, "tpot": tpot, "ttft": ttft, "memory_counts": memory_counts}
        return regime_map.regime_map(self.step, over, hardware=self._given(), ceilings=self.ceilings, **asked)

    def ablate(self, techniques: Sequence[Member], over: str | Symbol = "batch", *, per_device: bool = False) -> Ablation:
        """What each technique of a stack brings alone, last, and as its Shapley share; see `symroof.ablate`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(seq_len=2048).on("a100-sxm-80gb")
        >>> found = on.ablate(["quantize:weights=4,group=128", "quantize:kv=8"])
        >>> print(found.at(1).speedup, found.at(1)["quantize:kv=8"].part)
        3.436 0.05292
        """
        given = {"hardware": self._given(), "ceilings": self.ceilings, "per_device": per_device}
        return ablation.ablate(self.step, techniques, over, **given)
