"""What stands between a roof and the work: factors on the ceilings, a launch, and whether they overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sympy import Expr, S

from symroof.operators.tensor import Level
from symroof.symbols import Values, substitute


@dataclass(frozen=True)
class Ceilings:
    """How the times of an operator under its ceilings make up its time.

    ``time = max(F / (c P), B / (c_m BW), ...) + launch``, or with the sum in the place of the maximum.

    Attributes
    ----------
    compute : the factor c on the peak.
    levels : the factor on the bandwidth of a level, where it is not 1.
    launch : seconds every operator takes besides.
    overlap : whether an operator computes while it moves bytes.
    """

    compute: Expr = S.One
    levels: Mapping[Level, Expr] = field(default_factory=dict)
    launch: Expr = S.Zero
    overlap: bool = True

    def factor(self, level: Level) -> Expr:
        """The factor on a level's bandwidth."""
        return self.levels.get(level, S.One)

    def bind(self, values: Values) -> Ceilings:
        """The same with numbers for symbols."""
        levels = {level: substitute(factor, values) for level, factor in self.levels.items()}
        return replace(self, compute=substitute(self.compute, values), levels=levels, launch=substitute(self.launch, values))


IDEAL = Ceilings()
"""The roofline as it is: two ceilings, perfect overlap, no overhead."""
