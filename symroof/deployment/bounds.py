"""What binds: crossovers, regimes, proofs, elasticities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sympy import Rational, Symbol

from symroof.answers import Intervals
from symroof.deployment.core import Core
from symroof.proof.claims import Certificate
from symroof.questions import context_limit, crossovers, proofs, regimes, sensitivity
from symroof.questions.context_limit import ContextLimit, SparseContexts
from symroof.questions.crossover import Crossover, Crossovers
from symroof.questions.regimes import Regimes
from symroof.questions.sensitivity import Sensitivity


@dataclass(frozen=True, repr=False, eq=False)
class Bounds(Core):
    """Questions about what binds."""

    def crossover(self, operator: str = "total", *, over: str | Symbol) -> Crossover:
        """Where the bound of an operator changes in one variable; see `symroof.crossover`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb")
        >>> answer = on.crossover("up_proj", over="batch")
        >>> answer.first_integer, answer.statements[-1]
        (162, 'over batch: the given batch 1 is ignored')
        """
        return crossovers.crossover(self._open(over), operator, over=over, hardware=self.device, ceilings=self.ceilings)

    def crossovers(self, over: str | Symbol) -> Crossovers:
        """The crossover of every operator, in order and by name; see `symroof.crossovers`.

        >>> import symroof
        >>> answers = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb").crossovers("batch")
        >>> answers
        <Crossovers of 20 operators over batch: 8 cross, 12 always memory-bound>
        >>> [answer.operator for answer in answers if answer.first_integer == 162], answers["out_proj"].first_integer
        (['gate_proj', 'up_proj', 'down_proj'], 166)
        """
        return crossovers.crossovers(self._open(over), over=over, hardware=self.device, ceilings=self.ceilings)

    def regimes(self, over: str | Symbol) -> Regimes:
        """The time of the step over one variable, piece by piece, exactly; see `symroof.regimes`.

        >>> import symroof
        >>> over_batch = symroof.load_model("opt-125m").decode(seq_len=64).on("t4").regimes("batch")
        >>> len(over_batch.regimes) > 1
        True
        """
        return regimes.regimes(self._open(over), over=over, hardware=self._given(), ceilings=self.ceilings)

    def prove(
        self,
        claim: str,
        operator: str,
        *,
        for_all: str | Symbol | Sequence[str | Symbol],
        at_least: Mapping[str, int | Rational] | Mapping[Symbol, int | Rational] | None = None,
    ) -> Certificate:
        """Decide whether an operator has one bound for all values of some variables; see `symroof.prove`.

        >>> import symroof
        >>> on = symroof.load_model("llama-2-7b").decode().on("a100-sxm-80gb")
        >>> on.prove("memory-bound", "qk_matmul", for_all=["batch", "seq_len"]).verdict
        'proved'
        """
        names = [for_all] if isinstance(for_all, str | Symbol) else for_all
        return proofs.prove(
            self._open(*names), claim, operator, for_all=names, at_least=at_least, hardware=self.device, ceilings=self.ceilings
        )

    def context_limit(self) -> ContextLimit:
        """The context length beyond which no batch makes decode compute-bound; see `symroof.context_limit`."""
        return context_limit.context_limit(self._open("batch", "seq_len"), self.device, ceilings=self.ceilings)

    def sparse_contexts(self) -> SparseContexts:
        """From which context on sparse attention is faster, and its indexer takes longer; see `symroof.sparse_contexts`."""
        return context_limit.sparse_contexts(self._open("seq_len"), self._given(), ceilings=self.ceilings)

    def token_budget(self, operator: str = "total") -> Crossover:
        """The tokens from which linear operators are compute-bound; see `symroof.token_budget`.

        >>> import symroof
        >>> symroof.load_model("llama-2-7b").decode(seq_len=1024).on("a100-sxm-80gb").token_budget().first_integer
        163
        """
        return crossovers.token_budget(self._open("batch"), operator, hardware=self.device, ceilings=self.ceilings)

    def sensitivity(self) -> Sensitivity:
        """By how many percent the time changes with one percent of anything; see `symroof.sensitivity`.

        >>> import symroof
        >>> symroof.load_model("llama-2-7b").decode(batch=1, seq_len=2048).on("a100-sxm-80gb").sensitivity().buy
        'bandwidth'
        """
        return sensitivity.sensitivity(self.step, self._given(), ceilings=self.ceilings)

    def work_exceeds(self, over: str | Symbol, operator: str = "total") -> Intervals:
        """Where work takes longer than launches, and where launches do; see `symroof.work_exceeds`.

        >>> import symroof
        >>> on = symroof.load_model("opt-125m").decode(seq_len=128).on("a100-sxm-80gb")
        >>> [piece.bound for piece in on.apply("launch-overhead:launch=5us").work_exceeds("batch")]
        ['launches', 'work']
        """
        return regimes.work_exceeds(self._open(over), over=over, hardware=self._given(), operator=operator, ceilings=self.ceilings)
