"""What stands between a roof and the work: factors on the ceilings, a launch, and whether they overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sympy import Expr, S

from symroof.operators.tensor import Level
from symroof.symbolic import Symbolic


@dataclass(frozen=True)
class Ceilings(Symbolic):
    """How the times of an operator under its ceilings make up its time.

    ``time = max(F / (c P), B / (c_m BW), ...) + launch``, or with the sum in the place of the maximum.

    Attributes
    ----------
    compute : the factor c on the peak.
    levels : the factor on the bandwidth of a level, where it is not 1.
    launch : seconds every operator takes besides.
    overlap : whether an operator computes while it moves bytes.
    ahead : whether weights and cache at the host are fetched ahead, under the work of other operators: a step then takes the
        longer of all its work and all its transfers, ``max(sum of work, sum of B_host / BW_h)``.
    """

    compute: Expr = S.One
    levels: Mapping[Level, Expr] = field(default_factory=dict)
    launch: Expr = S.Zero
    overlap: bool = True
    ahead: bool = False

    @property
    def fetches_ahead(self) -> bool:
        """Whether transfers from the host run under the work of other operators: not where nothing overlaps."""
        return self.ahead and self.overlap

    def factor(self, level: Level) -> Expr:
        """The factor on a level's bandwidth."""
        return self.levels.get(level, S.One)


IDEAL = Ceilings()
"""The roofline as it is: two ceilings, perfect overlap, no overhead."""


@dataclass(frozen=True)
class Energy(Symbolic):
    """Energy of a floating-point operation, of a byte of memory traffic, and the power drawn whatever runs.

    >>> from symroof.symbols import eps_B, eps_F, pi_0
    >>> from sympy import Integer
    >>> Energy(eps_F, eps_B, pi_0).joules(Integer(2), Integer(8), Integer(3))
    8*eps_B + 2*eps_F + 3*pi_0

    Attributes
    ----------
    flop, byte : joules.
    constant : watts.

    Source: Choi, Bedard, Fowler, Vuduc (2013), doi:10.1109/IPDPS.2013.77.
    """

    flop: Expr
    byte: Expr
    constant: Expr = S.Zero

    def joules(self, flops: Expr, traffic: Expr, seconds: Expr) -> Expr:
        """``F eps_F + B eps_B + pi_0 T``, bare."""
        return flops * self.flop + traffic * self.byte + seconds * self.constant
