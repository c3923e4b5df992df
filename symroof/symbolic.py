"""Frozen objects that hold formulas, and are rewritten part by part."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Self, cast

from sympy import Expr

from symroof.notation import Brief
from symroof.symbols import Values, substitute


class Symbolic(Brief):
    """A frozen dataclass that holds formulas: expressions, others of its kind, mappings to expressions, tuples of all these.

    What several of its parts share, as operators share a tensor, they share afterwards.
    """

    def bind(self, values: Values) -> Self:
        """The same with numbers (or other expressions) for symbols."""
        return self.rewritten(functools.partial(substitute, values=values), {})

    def rewritten(self, change: Callable[[Expr], Expr], done: dict[int, Any]) -> Self:
        """The same with every formula that is no number changed, itself if none is; *done* has what was met before, by identity."""
        made: dict[str, Any] = {}
        for name in _parts(type(self)):
            part = new = getattr(self, name)
            if isinstance(part, Expr):
                new = part if part.is_number else change(part)
            elif isinstance(part, Symbolic):
                new = done.get(id(part)) or part.rewritten(change, done)
            elif isinstance(part, dict):
                new = part | {key: change(value) for key, value in part.items() if not value.is_number}
            elif isinstance(part, tuple) and part and isinstance(part[0], Symbolic | Expr | tuple):
                new = tuple([one.rewritten(change, done) if isinstance(one, Symbolic) else _changed(one, change) for one in part])
            if new is not part and new != part:
                made[name] = new
        done[id(self)] = new = replace(cast(Any, self), **made) if made else self
        return new


@functools.cache
def _parts(kind: type) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind) if one.init)


def _changed(part: Any, change: Callable[[Expr], Expr]) -> Any:
    return tuple(_changed(one, change) for one in part) if isinstance(part, tuple) else change(part)


def replaced(expression: Expr, kind: type, by: Callable[[Expr], Expr]) -> Expr:
    """The expression with every function of a kind, ``ceiling(x)`` say, replaced by what *by* makes of its argument."""
    return cast(Expr, expression.replace(kind, by))
