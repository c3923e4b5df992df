"""The step as a line: seconds that no sequence adds to, seconds of each sequence, seconds of each token of its context.

Every operator of a decode step takes the seconds of the resource that binds it there, an amount over a rate; an amount is
what no sequence adds to, what every sequence adds, and what every token of its context adds. So on the piece of (batch,
context) on which no operator changes its bound, the step takes ``tau_w + b (tau_b + tau_t t)``, exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from sympy import Add, Expr, Integer, Max, Min, S, Symbol, ceiling, floor, oo
from sympy import Piecewise as Cases

from symroof import symbols
from symroof.algebra.unions import Untouched
from symroof.algebra.univariate import is_exponential
from symroof.answers import Answer, Answers, Interval
from symroof.architectures.step import Step
from symroof.errors import InputError, member
from symroof.hardware.device import Device
from symroof.hardware.machine import CALIBRATED, RATE_SYMBOLS, STATED, UNITS
from symroof.operators.facts import Resource
from symroof.questions.regimes import regimes
from symroof.roof.analysis import Analysis, analyze
from symroof.roof.costs import TOTAL, costs, needed, occurs
from symroof.roof.ledger import OVERHEAD, own, quotients, require_device
from symroof.symbols import Values, Variable, lookup, substitute
from symroof.units import COUNT, SECOND, in_unit, number

b, t = symbols.b, symbols.t
RATES: Mapping[Resource, Symbol] = {Resource.COMPUTE: symbols.P, **RATE_SYMBOLS, **UNITS}
"""The symbol of every resource's rate."""

LINE, CURVE, SECANT, ASYMPTOTE = "line", "curve", "secant", "asymptote"
WHOLE = "step"
"""The only part of a step whose kernels are calibrated."""


@dataclass(frozen=True)
class LinePart(Answer):
    """What one resource of one operator adds to the step, on the piece of the point asked about.

    Attributes
    ----------
    operator : its name.
    resource : the resource that takes the seconds: "memory", "compute", "vector", "link", ..., or "overhead".
    seconds_expr : seconds of all its occurrences as a function of b and t, bare.
    formula : the same in symbols: bytes over a bandwidth, FLOPs over a peak; None for calibrated kernels.
    """

    operator: str
    resource: str
    seconds_expr: Expr
    formula: Expr | None = field(default=None, repr=False)

    @functools.cached_property
    def taus_exprs(self) -> tuple[Expr, Expr, Expr, Expr]:
        """Seconds that no sequence adds to, of a sequence, of a token of its context, and what is of no such form, bare."""
        return collected(self.seconds_expr)

    weight_time = in_unit(lambda part: part.taus_exprs[0], SECOND, "What no sequence adds to, as a Quantity in seconds.")
    sequence_time = in_unit(lambda part: part.taus_exprs[1], SECOND, "What every sequence adds, as a Quantity in seconds.")
    context_token_time = in_unit(lambda part: part.taus_exprs[2], SECOND, "What every token of a context adds, as a Quantity in seconds.")


@dataclass(frozen=True)
class LinePiece(Interval):
    """The time of a step on one piece of batch or context.

    Attributes
    ----------
    label : the operators that are compute-bound on it.
    intercept_expr, slope_expr : seconds, and seconds of each further sequence or token of context, bare.
    kind : "line": the step takes exactly that; "secant": through the two ends of a curve; "asymptote": what a curve tends to.
    time_expr : seconds of the step on it, exactly, as a function of the variable, bare.
    """

    intercept_expr: Expr = S.Zero
    slope_expr: Expr = S.Zero
    kind: str = LINE
    time_expr: Expr = S.Zero

    intercept = in_unit(lambda piece: piece.intercept_expr, SECOND, "`intercept_expr`, as a Quantity in seconds.")
    slope = in_unit(lambda piece: piece.slope_expr, SECOND, "`slope_expr`, as a Quantity in seconds.")
    time = in_unit(lambda piece: piece.time_expr, SECOND, "`time_expr`, as a Quantity in seconds.")


@dataclass(frozen=True)
class LinePieces(Answers[LinePiece]):
    """The pieces of a step over one variable, in order."""

    over: Variable = field(default_factory=lambda: lookup("batch"))
    step: Step = field(kw_only=True, repr=False, compare=False)
    device: Device = field(kw_only=True, repr=False, compare=False)

    def at(self, value: Any) -> LinePiece:
        """The first piece that contains a value of the variable.

        Raises
        ------
        InputError
            The value is below the range.
        """
        found = [piece for piece in self if value in piece]
        if not found:
            raise InputError(f"{self.over.name} {value} is outside {self[0].low_expr} to {self[-1].high_expr}")
        return found[0]


@dataclass(frozen=True)
class StepLine(Answer):
    """The time of a decode step around a batch and a context: ``tau_w + b (tau_b + tau_t t)``.

    Attributes
    ----------
    step, device, ceilings : what was asked about.
    batch, context : the point whose piece this is.
    parts : what every operator adds, by the resource that binds it there.
    tokens_expr : tokens that the step completes for each sequence, bare: more than one where it verifies drafted ones.
    """

    step: Step = field(repr=False, compare=False)
    device: Device = field(repr=False, compare=False)
    batch: int
    context: int
    parts: tuple[LinePart, ...] = field(repr=False)
    tokens_expr: Expr = S.One
    ceilings: str = STATED

    @functools.cached_property
    def taus_exprs(self) -> tuple[Expr, Expr, Expr, Expr]:
        """The sums over the parts, as `LinePart.taus_exprs`."""
        return cast(
            tuple[Expr, Expr, Expr, Expr], tuple(Add(*each) for each in zip(*(part.taus_exprs for part in self.parts), strict=True))
        )

    weight_time = in_unit(lambda line: line.taus_exprs[0], SECOND, "tau_w, seconds that no sequence adds to, as a Quantity.")
    sequence_time = in_unit(lambda line: line.taus_exprs[1], SECOND, "tau_b, seconds that every sequence adds, as a Quantity.")
    context_token_time = in_unit(lambda line: line.taus_exprs[2], SECOND, "tau_t, seconds of every token of a context, as a Quantity.")
    time = in_unit(lambda line: line.time_at_expr(line.batch, line.context), SECOND, "Time of the step at the point, as a Quantity.")

    @property
    def rest_expr(self) -> Expr:
        """Seconds of another form as a function of b and t, bare: of experts that are touched in expectation, of shared context."""
        return self.taus_exprs[3]

    @property
    def kind(self) -> str:
        """What it is: "line"; "curve" where `rest_expr` is added; "secant" for calibrated kernels, whose times are norms.

        The secant goes through the point, twice its batch, and twice its context.
        """
        return SECANT if self.ceilings == CALIBRATED else LINE if self.rest_expr == 0 else CURVE

    @property
    def time_expr(self) -> Expr:
        """Seconds of the step as a function of b and t, bare; exact on the piece."""
        weights, sequence, token, rest = self.taus_exprs
        return weights + b * (sequence + token * t) + rest

    def time_at_expr(self, batch: Any, context: Any) -> Expr:
        """Seconds by this line at a batch and a context, bare."""
        return substitute(self.time_expr, {b: number(batch, COUNT, "batch"), t: number(context, COUNT, "context")})

    @functools.cached_property
    def formulas(self) -> Mapping[Symbol, Expr]:
        """tau_w, tau_b and tau_t as formulas, by their symbols: bytes over bandwidths and FLOPs over peaks.

        P is the peak that applies to each operator; empty for calibrated kernels.
        """
        if any(part.formula is None for part in self.parts):
            return {}
        every = [collected(cast(Expr, part.formula)) for part in self.parts]
        sums = (Add(*each) for each in zip(*every, strict=True))
        return dict(zip((symbols.tau_w, symbols.tau_b, symbols.tau_t), sums, strict=False))

    @property
    def tangent_exprs(self) -> tuple[Expr, Expr]:
        """Intercept and slope over the batch of the tangent at the point, bare: of a line the line itself, of a curve in floats."""
        here = {b: Integer(self.batch), t: Integer(self.context)}
        slope = substitute(self.time_expr.diff(b), here).doit()
        return substitute(self.time_expr, here) - slope * self.batch, slope

    def lines(self, over: str | Symbol = "batch") -> LinePieces:
        """All pieces over the batch at this context, or over the context at this batch.

        Raises
        ------
        InputError
            The variable is neither; or the kernels are calibrated, whose times have no pieces.
        """
        variable = lookup("context_len") if lookup(over).symbol in (symbols.s, t) else lookup(over)
        member("over", variable.name, ("batch", "context_len"))
        return _pieces(self, variable)

    @property
    def statements(self) -> tuple[str, ...]:
        """The conventions of the numbers, one sentence each."""
        said = {
            LINE: "exact on the piece of this batch and context, on which no operator changes its bound",
            CURVE: "not a line: what is beside it is added exactly",
            SECANT: "calibrated kernels: not a line, but the secant through this batch and context, twice the batch, and twice the context",
        }
        return (*self.step.statements, f"step: {said[self.kind]}")


def collected(seconds: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    """Seconds in b and t taken apart: free of both, in b, in b t, and everything else.

    >>> from symroof.symbols import d
    >>> collected(3 + b * (d + 5 * t) + 2 * t)
    (3, d, 5, 2*t)
    """
    found: dict[Expr, list[Expr]] = {S.One: [], b: [], b * t: [], S.Zero: []}
    for term in Add.make_args(seconds.expand(power_exp=False)):
        free, bound = cast(Any, term).as_independent(b, t, as_Add=False)
        found[bound if bound in found else S.Zero].append(free if bound in found else term)
    return cast(tuple[Expr, Expr, Expr, Expr], tuple(Add(*terms) for terms in found.values()))


def step_line(step: Step, *, hardware: Device | str | Path, ceilings: str = STATED) -> StepLine:
    """The time of a decode step as a line in batch and context, ``T = tau_w + b (tau_b + tau_t t)``.

    tau_w is read once for all sequences, mostly weights; tau_b is added by every sequence, tau_t by every token of its context.
    Exact on the piece around the step's own batch and context; `StepLine.lines` gives all pieces over one of them.

    Parameters
    ----------
    step : a decode step with a batch and a context.
    hardware : the device.
    ceilings : the ceiling set, as in `symroof.analyze`; with "calibrated" the line is a secant.

    Raises
    ------
    InputError
        The step is a prefill, or an input is still a symbol, or an operator that binds counts blocks of the batch or the context.

    >>> import symroof
    >>> step = symroof.load_model("llama-3-8b").decode(batch=8, seq_len=2048)
    >>> line = symroof.step_line(step, hardware="h100-sxm")
    >>> print(line.weight_time, line.sequence_time, line.context_token_time)
    4.481 ms 3.61 us 41.57 ns
    >>> line.time == step.on("h100-sxm").time
    True

    Source: the terms of the latency model of Kong et al. (2026), arXiv:2605.15051, derived from the step instead of fitted.
    """
    device = require_device(hardware, "the line is numeric")
    if not step.options.decode:
        raise InputError("a line in batch and context is that of a decode step: ask from model.decode(...)")
    analysis = analyze(step, device, ceilings=ceilings)
    if left := ({b, t} - analysis.values.keys()) | (analysis.total.time_expr.free_symbols - {b, t}):
        raise InputError(f"{needed(left)} to draw the line through it")
    batch, context = int(analysis.values[b]), int(analysis.values[t])
    secant = analysis.machine.calibration is not None
    parts = _secant(step, device, ceilings, batch, context) if secant else tuple(_parts(analysis))
    return StepLine(step, device, batch, context, parts, analysis.graph.tokens, CALIBRATED if secant else ceilings)


def _secant(step: Step, device: Device, ceilings: str, batch: int, context: int) -> tuple[LinePart, ...]:
    """One part: the line through three points of a step of calibrated kernels."""

    def seconds(sequences: int, length: int) -> Expr:
        changed = replace(step, values={**step.values, b: Integer(sequences), t: Integer(length)})
        return analyze(changed, device, ceilings=ceilings).total.time_expr

    here = seconds(batch, context)
    token = (seconds(batch, 2 * context) - here) / (batch * context)
    sequence = (seconds(2 * batch, context) - here) / batch - token * context
    return (LinePart(WHOLE, WHOLE, here - batch * (sequence + token * context) + b * (sequence + token * t)),)


def _parts(analysis: Analysis) -> Iterator[LinePart]:
    """What every operator adds, by the resources that take its time at the point."""
    step, ceilings = analysis.step, analysis.graph.ceilings
    fixed = {symbol: value for symbol, value in analysis.values.items() if symbol not in (b, t)}
    ahead = ceilings.fetches_ahead and analysis.total.time_expr > analysis.total.work_expr  # then transfers take all of the time
    for point, cost in zip(analysis, costs(step, TOTAL, analysis.machine), strict=True):
        seconds = point.seconds_exprs if ahead else own(point.operator, point.seconds_exprs, ceilings)
        taken = [Resource.HOST] if ahead else [*seconds] if not ceilings.overlap else [max(seconds, key=seconds.__getitem__)]
        for resource in (each for each in taken if seconds.get(each, S.Zero) != 0):
            amount = settled(cost.amounts[resource], step.symbolic.definitions, analysis.values)
            if any({b, t} & atom.free_symbols for atom in amount.atoms(ceiling, floor)):
                raise InputError(f"{point.name} counts blocks of the batch or the context, so its time is no line")
            timed = quotients(point.operator, {resource: substitute(amount, fixed)}, point.machine, point.peak_expr)
            yield LinePart(point.name, str(resource), timed[resource], amount / RATES[resource])
        late = cost.count * (cost.operator.latency + step.symbolic.ceilings.launch)
        if late != 0 and not ahead:
            beside = settled(late, step.symbolic.definitions, analysis.values)
            yield LinePart(point.name, OVERHEAD, substitute(beside, fixed), beside)


def settled(formula: Expr, definitions: Values, values: Values) -> Expr:
    """A formula in which what depends on batch or context is written in these, each minimum by the argument that is active at the values.

    >>> from symroof.symbols import W, t_w
    >>> settled(3 * b * t_w, {t_w: Min(t, W)}, {b: Integer(2), t: Integer(9), W: Integer(4)})
    3*W*b
    """
    moving = {b, t}
    for _ in definitions:  # definitions may depend on each other
        moving |= {symbol for symbol, definition in definitions.items() if definition.free_symbols & moving}
    told = {symbol: definitions[symbol] for symbol in moving & definitions.keys()}
    while formula.free_symbols & told.keys():
        formula = substitute(formula, told)

    def active(atom: Any) -> Expr:
        if isinstance(atom, Cases):
            return next(value for value, condition in cast(Any, atom.args) if cast(Any, condition).xreplace(dict(values)) == True)  # noqa: E712
        return (min if isinstance(atom, Min) else max)(cast(Any, atom.args), key=lambda argument: substitute(argument, values))

    return cast(Any, formula).replace(lambda atom: isinstance(atom, Min | Max | Cases) and bool(atom.free_symbols & {b, t}), active)


def _pieces(line: StepLine, variable: Variable) -> LinePieces:
    """The regimes of the step over batch or context, each as a line, or as the secant or asymptote of its curve."""
    if line.kind == SECANT:
        raise InputError(f"times of calibrated kernels have no pieces over {variable.name}; use ceilings stated or classic")
    x, made = variable.symbol, functools.partial(LinePieces, over=variable, step=line.step, device=line.device)
    if not occurs(line.step, costs(line.step, TOTAL), x):
        here = line.time_at_expr(line.batch, line.context)
        return made((LinePiece(variable, Integer(1), oo, frozenset(), here, S.Zero, LINE, here),))
    times = regimes(line.step.without(x), over=x, hardware=line.device, ceilings=line.ceilings).times
    steps = times.map(lambda value: (value * line.tokens_expr).expand(power_exp=False))
    return made(tuple(_piece(variable, piece.low, piece.high, piece.label, piece.value) for piece in steps.pieces))


def _piece(variable: Variable, low: Expr, high: Expr, label: Any, value: Expr) -> LinePiece:
    x = variable.symbol
    if not is_exponential(value, x):
        slope = value.diff(x)
        return LinePiece(variable, low, high, label, value - slope * x, slope, LINE, value)
    if high == oo:
        flat = cast(Expr, value.replace(lambda atom: isinstance(atom, Untouched) and x in atom.free_symbols, lambda _: S.Zero))
        return LinePiece(variable, low, high, label, substitute(flat, {x: S.Zero}), flat.diff(x), ASYMPTOTE, value)
    ends = [substitute(value, {x: end}) for end in (low, high)]
    slope = (ends[1] - ends[0]) / (high - low)
    return LinePiece(variable, low, high, label, ends[0] - slope * low, slope, SECANT, value)
