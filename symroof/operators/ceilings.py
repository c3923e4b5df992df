"""Ceilings: factors on peak and bandwidths, launch overhead, and overlap; and the energy model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from sympy import Expr, S

from symroof.operators.tensor import Level
from symroof.symbolic import Symbolic


@dataclass(frozen=True)
class Reserve(Symbolic):
    """What an engine keeps of a device's memory.

    Attributes
    ----------
    share : the share of the memory that it uses.
    activations : bytes that it keeps for activations, whatever the step needs of them.
    runtime : bytes that hold neither weights nor cache nor activations.
    """

    share: Expr = S.One
    activations: Expr = S.Zero
    runtime: Expr = S.Zero


WHOLE_MEMORY = Reserve()


@dataclass(frozen=True)
class Ceilings(Symbolic):
    """How an operator's times under its ceilings combine.

    ``time = max(F / (c P), B / (c_m BW), ...) + launch``, or the sum instead of the maximum without overlap.

    Attributes
    ----------
    compute : the factor c on the peak.
    levels : the factor on the bandwidth of each level, if not 1.
    launch : seconds added to every operator.
    overlap : whether an operator computes while it moves bytes.
    ahead : whether weights and cache in host memory are prefetched during the work of other operators. A step then takes the
        longer of all its work and all its transfers, ``max(sum of work, sum of B_host / BW_h)``.
    """

    compute: Expr = S.One
    levels: Mapping[Level, Expr] = field(default_factory=dict)
    launch: Expr = S.Zero
    overlap: bool = True
    ahead: bool = False

    @functools.cached_property
    def fetches_ahead(self) -> bool:
        """Whether transfers from the host overlap with other operators; never without overlap."""
        return self.ahead and self.overlap

    def factor(self, level: Level) -> Expr:
        """The factor on a level's bandwidth."""
        return self.levels.get(level, S.One)


IDEAL = Ceilings()
"""The plain roofline: no factors, perfect overlap, no overhead."""


@dataclass(frozen=True)
class Energy(Symbolic):
    """Energy per floating-point operation and per byte of memory traffic, and constant power.

    >>> from symroof.symbols import eps_B, eps_F, pi_0
    >>> from sympy import Integer
    >>> Energy(eps_F, eps_B, pi_0).joules(Integer(2), Integer(8), Integer(3))
    8*eps_B + 2*eps_F + 3*pi_0

    Attributes
    ----------
    flop, byte : joules per FLOP and per byte.
    constant : watts.

    Source: Choi, Bedard, Fowler, Vuduc (2013), doi:10.1109/IPDPS.2013.77.
    """

    flop: Expr
    byte: Expr
    constant: Expr = S.Zero

    def joules(self, flops: Expr, traffic: Expr, seconds: Expr) -> Expr:
        """``F eps_F + B eps_B + pi_0 T`` in joules, as a bare expression."""
        return flops * self.flop + traffic * self.byte + seconds * self.constant
