"""What work, traffic and time cost in energy."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, S

from symroof.symbols import Values, substitute


@dataclass(frozen=True)
class Energy:
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

    def bind(self, values: Values) -> Energy:
        """The same with numbers for symbols."""
        return Energy(*(substitute(part, values) for part in (self.flop, self.byte, self.constant)))
