"""Mixtures of experts in service: batch, exchange, micro-batches, speculation, and a dense model instead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from symroof.architectures.step import Step
from symroof.deployment.changes import Changes
from symroof.serving.experts import exchange_bound, expert_batch, ping_pong, sparse_against_dense, speculation_peak
from symroof.serving.experts.exchange_bound import ExchangeBound
from symroof.serving.experts.expert_batch import ExpertBatch
from symroof.serving.experts.ping_pong import PingPong
from symroof.serving.experts.sparse_against_dense import SparseAgainstDense
from symroof.serving.experts.speculation_peak import SpeculationPeak
from symroof.techniques.technique import Technique


@dataclass(frozen=True, repr=False, eq=False)
class Mixtures(Changes):
    """Questions about a mixture of experts as a service."""

    def expert_batch(self) -> ExpertBatch:
        """The pooled batch from which experts are compute-bound, and the replicas that supply it; see `symroof.expert_batch`.

        >>> import symroof
        >>> on = symroof.load_model("mixtral-8x22b-v0.1").decode(batch=64, seq_len=730).on("a100-sxm-80gb")
        >>> on.expert_batch().first_integer, on.expert_batch().replicas
        (634, 10)
        """
        return expert_batch.expert_batch(self.step, self.device, ceilings=self.ceilings)

    def exchange_bound(self, *, dispatch_bits: Any = None, combine_bits: Any = None) -> ExchangeBound:
        """The least time of a step by what expert parallelism exchanges; see `symroof.exchange_bound`.

        >>> import symroof
        >>> on = symroof.load_model("deepseek-v3").decode(batch=16384, seq_len=4096).on("h800-sxm").apply("expert-parallel:degree=256")
        >>> print(on.exchange_bound(dispatch_bits=8, combine_bits=16).balance)
        27.44 GB/s
        """
        asked = {"dispatch_bits": dispatch_bits, "combine_bits": combine_bits}
        return exchange_bound.exchange_bound(self.step, self.device, ceilings=self.ceilings, **asked)

    def ping_pong(self, *, apart: bool = True) -> PingPong:
        """How many micro-batches hide the links between attention and experts; see `symroof.ping_pong`."""
        return ping_pong.ping_pong(self.step, self._given(), apart=apart, ceilings=self.ceilings)

    def sparse_against_dense(self, *, quality: Any = None, dense: Step | None = None, devices: int = 1) -> SparseAgainstDense:
        """Throughput against a dense model's under one memory; see `symroof.sparse_against_dense`.

        >>> import symroof
        >>> on = symroof.load_model("qwen3-235b-a22b").decode(seq_len=32768).on("h200-sxm")
        >>> found = on.sparse_against_dense(quality=4, devices=4)
        >>> found.rule, found.faster
        ('dense', 'dense')
        """
        asked = {"quality": quality, "dense": dense, "devices": devices}
        return sparse_against_dense.sparse_against_dense(self.step, self._given(), ceilings=self.ceilings, **asked)

    def speculation_peak(self, technique: str | Technique, *, dense: Step | None = None) -> SpeculationPeak:
        """The batch with the largest speedup of speculation; see `symroof.speculation_peak`.

        >>> import symroof
        >>> on = symroof.load_model("mixtral-8x7b-v0.1").decode(seq_len=512).on("a100-sxm-80gb")
        >>> on.speculation_peak("speculative:acceptance=0.8,length=4,draft_cost=0.02").batch
        20
        """
        return speculation_peak.speculation_peak(
            self.step, self._drafting(technique), self._given(), dense=dense, ceilings=self.ceilings
        )  # fmt: skip
