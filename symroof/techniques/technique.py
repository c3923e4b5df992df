"""The base class of techniques: parameters that may stay symbols, and a rewrite of a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, overload

from sympy import Expr, Rational, S, Symbol, oo

from symroof import symbols
from symroof.architectures.options import PHASES
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import InputError, nearest, quote
from symroof.notation import Brief
from symroof.operators import Graph, Structure
from symroof.symbols import VOCABULARY
from symroof.techniques.memo import once
from symroof.units import typed

if TYPE_CHECKING:

    class Number:
        """What a parameter takes, and what it is once it is checked."""

        def __get__(self, instance: object, owner: type | None = None, /) -> Expr: ...
        def __set__(self, instance: object, value: int | float | Fraction | Expr | None, /) -> None: ...

else:
    Number = Any
"""A user gives a number; the technique stores it as an exact `Expr`. An omitted parameter without a default stays its own symbol, an
omitted optional parameter is None."""

Given = Mapping[str, Expr]
"""The symbol or the number of every numeric parameter by name; parameters that are None are left out."""

MOST = Rational(10) ** 30
BANDWIDTHS = (symbols.BW_l, symbols.BW_n, symbols.BW_h, symbols.BW_c)
"""Bandwidths of a memory or link level, of which a step has one value each, whichever techniques set it."""


def number(symbol: Symbol, default: Any = None, *, zero: bool = False, optional: bool = False) -> Any:
    """A parameter that is a number, with its symbol.

    Parameters
    ----------
    default : the value if the parameter is omitted; None leaves the symbol.
    zero : whether 0 is allowed, as for an overhead.
    optional : whether an omitted parameter is None instead of a symbol.
    """
    if symbol not in VOCABULARY:
        raise InputError(f"{quote(str(symbol))} is not a symbol of the library: make it with symroof.symbols.declare")
    return field(default=default, metadata={"symbol": symbol, "zero": zero, "optional": optional})


def word(default: str, choices: Sequence[str] = (), meaning: str = "") -> Any:
    """A text parameter: one of the choices, or any name if there are no choices."""
    return field(default=default, metadata={"choices": tuple(choices), "meaning": meaning})


def exact(what: str, value: Any, symbol: Symbol, zero: bool) -> Expr:
    """A user's number as an exact rational, checked against the symbol's range; the symbol itself passes through.

    Raises
    ------
    InputError
        *value* is no number, or outside the range.

    >>> from symroof.symbols import alpha
    >>> exact("acceptance", 0.7, alpha, False)
    7/10
    >>> exact("acceptance", 2, alpha, False)
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: acceptance 2: expected a number above 0, at most 1
    """
    if value == symbol:
        return symbol
    known = VOCABULARY[symbol]
    kind = "a whole number" if known.domain == "integer" else "a number"
    least = "from 0 on" if zero else "from 1 on" if known.domain == "integer" else "above 0"
    expected = f"expected {kind} {least}" + (f", at most {known.highest}" if known.highest != oo else "")
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction | Rational):
        raise InputError(f"{what} {quote(value)}: {expected}")
    if isinstance(value, float) and not abs(value) < 1e30:
        raise InputError(f"{what} {quote(value)}: {expected}")
    given = Rational(str(value)) if isinstance(value, float) else Rational(value)
    fits = (given > 0 or (zero and given == 0)) and given <= min(known.highest, MOST)
    if not fits or (known.domain == "integer" and not given.is_integer):
        short = max(abs(part) for part in given.as_numer_denom()) < 10**40
        shown = str(given) if short else "that large" if abs(given) > 1 else "that small"
        raise InputError(f"{what} {shown}: {expected}")
    return given


@dataclass(frozen=True)
class Example:
    """The step and operator that show a technique's effect in the table of techniques and in the gallery.

    Attributes
    ----------
    model, phase, inputs : the step.
    part : an operator, including whatever the technique turns it into, or "total".
    over : the variable over which speedup is shown.
    settings : numbers for the technique's parameters, where its defaults are not enough.
    hardware : the device for which numbers are shown.
    at : the value of the variable at which the roofline is drawn and long formulas are evaluated, if the variable is
        a parameter of the technique; None takes the step's own value.
    before : techniques applied to the step first, as on the command line, separated by spaces.
    against : techniques of the step to compare with; empty compares with the step before this technique.
    """

    model: str = "llama-2-7b"
    phase: str = "decode"
    part: str = "up_proj"
    over: str = "batch"
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = "a100-sxm-80gb"
    at: Any = None
    before: str = ""
    against: str = ""


class Fact(StrEnum):
    """What holds for the step of a plain model and may stop holding after a technique. Techniques state the facts they require."""

    WHOLE_STEP = "a step that is not pipelined yet"
    WHOLE_BATCH = "the whole batch on one device"
    ONE_CONTEXT = "attention of every sequence over a single context of its own"
    OWN_CONTEXT = "contexts without shared prefixes"
    ONE_PART = "attention over each context in one part"
    NO_CHUNK = "a step without chunks of prompts"
    ONE_LENGTH = "sequences of equal length"
    WHOLE_MATRICES = "weight matrices that are not split over devices"
    NO_PAGES = "a cache that is not paged yet"
    WHOLE_PROMPT = "whole prompts on one device"
    ALL_LAYERS = "tokens that run through whole layers"
    OWN_STEP = "a step without a draft model"
    WHOLE_CACHE = "sequences that read all heads of their cache"
    UNFUSED = "operators that are not fused yet"
    EXPERTS_TOGETHER = "routed experts that are not spread over devices yet"
    UNSENT = "tokens that are not sent to experts yet"
    OWN_INPUTS = "linear operators that read their inputs directly, not from narrow copies"
    OWN_WIDTHS = "operands whose width no technique has changed"
    NO_FORMAT = "operands without a data format of their own"


@dataclass(frozen=True)
class Technique(Brief, ABC):
    """A rewrite of a graph, or of a step if it needs the model too.

    An omitted parameter stays a symbol and can be swept or solved for. A given parameter keeps its symbol in the formulas
    and has its number among the graph's definitions; if the symbol is already in use, for example because a chain applies
    the technique twice, the number itself appears in the formulas. A symbol has one value per chain: if a later technique
    omits a parameter that an earlier one set, the earlier value applies.

    Attributes
    ----------
    name : the name on the command line.
    summary : what the technique does, in a phrase.
    survey : the section of the survey that covers it.
    source : the source of its cost model.
    phases : the phases it supports.
    exact : why it supports only accounting "exact", with {} for the name of the other one; empty if it supports all.
    requires : facts of the step that it relies on.
    removes : facts that no longer hold after it.
    structure : what the graph must say about its axes.
    once : whether a chain may apply it only once.
    divides : the input that it divides evenly, and the parameter of which that must be a multiple; None if it divides none.
    example : the step that shows its effect.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    survey: ClassVar[str] = ""
    source: ClassVar[str] = ""
    phases: ClassVar[tuple[str, ...]] = PHASES
    exact: ClassVar[str] = ""
    requires: ClassVar[frozenset[Fact]] = frozenset()
    removes: ClassVar[frozenset[Fact]] = frozenset()
    structure: ClassVar[frozenset[Structure]] = frozenset()
    once: ClassVar[bool] = False
    divides: ClassVar[tuple[Symbol, str] | None] = None
    example: ClassVar[Example] = Example()

    def __post_init__(self) -> None:
        for parameter in fields(self):
            value, meta = getattr(self, parameter.name), parameter.metadata
            if "symbol" in meta:
                if value is None and not meta["optional"]:
                    value = meta["symbol"]
                if value is not None:
                    value = exact(f"{self.name}: {parameter.name}", value, meta["symbol"], meta["zero"])
                object.__setattr__(self, parameter.name, value)
            elif "choices" in meta and (not isinstance(value, str) or (meta["choices"] and value not in meta["choices"])):
                raise self.refused(f"{parameter.name} {quote(value)}: {nearest(str(value), meta['choices'])}")

    @overload
    def __call__(self, what: Graph) -> Graph: ...
    @overload
    def __call__(self, what: Step) -> Step: ...
    def __call__(self, what: Graph | Step) -> Graph | Step:
        """The graph, or the step, after the technique.

        Raises
        ------
        InputError
            The technique does not fit the graph or the step; the message says why.
        """
        if not isinstance(what, Step):
            self.check_order(what)
            graph = self.on_graph(what)
            return what if graph is what else replace(graph.completed(), applied=(*what.applied, self))
        if what.options.phase not in self.phases:
            raise self.refused(f"this is a {what.options.phase} step; expected {' or '.join(self.phases)}")
        if self.exact and what.options.accounting != "exact":
            raise InputError(self.name + self.exact.format(what.options.accounting))
        self.check_order(what.symbolic)
        after = self.on_step(what)
        applied, rewritten = (*what.symbolic.applied, self), after.symbolic
        changed = once(rewritten, applied, lambda: replace(rewritten.completed(), applied=applied))
        return replace(after, symbolic=changed, unchanged=what.unchanged or what)

    @abstractmethod
    def rewrite(self, graph: Graph, given: Given) -> Graph:
        """The rewritten graph."""

    def check(self, step: Step) -> None:
        """Raise an InputError if a parameter does not fit the step: a rank above the matrix size, a degree that does not divide."""

    def check_order(self, graph: Graph) -> None:
        """Raise an InputError if the graph lacks what this one requires, or an earlier technique removed it or is the same."""
        for unknown in sorted(self.structure & graph.unknown):
            raise self.refused(f"needs {unknown}, which a traced module does not say")
        for earlier in graph.applied:
            if self.once and earlier.name == self.name:
                raise self.refused("is applied already, and can be applied only once")
            way = "does not go with" if earlier.required & self.removed else "must come before"
            self._refuse_removed(earlier, self.required, way)

    def require(self, graph: Graph, *facts: Fact) -> None:
        """Raise an InputError if an earlier technique removed a fact that this one requires for this particular graph."""
        for earlier in graph.applied:
            self._refuse_removed(earlier, frozenset(facts), "cannot follow")

    def _refuse_removed(self, earlier: Technique, facts: frozenset[Fact], way: str) -> None:
        for fact in sorted(facts & earlier.removed):
            raise self.refused(f"{way} {earlier.name} in a chain: it needs {fact}")

    def refused(self, why: str) -> InputError:
        """The error for a technique that does not fit."""
        return InputError(f"{self.name}: {why}")

    @property
    def required(self) -> frozenset[Fact]:
        """The facts that this instance relies on: `requires`, or fewer depending on its parameters."""
        return self.requires

    @property
    def removed(self) -> frozenset[Fact]:
        """The facts that no longer hold after this instance: `removes`, or fewer depending on its parameters."""
        return self.removes

    def multiple(self, symbol: Symbol) -> Expr:
        """What this input must be a multiple of; 1 if the technique does not divide it."""
        return cast(Expr, getattr(self, self.divides[1])) if self.divides and self.divides[0] == symbol else S.One

    def prefills(self, prompt: Step) -> tuple[Step, ...]:
        """Additional prefill steps that the technique causes, such as the draft model's; none for most techniques."""
        del prompt
        return ()

    def on_graph(self, graph: Graph) -> Graph:
        """The graph after the technique; an InputError if the technique needs the model."""
        return self.recorded(graph, *self.parameters(graph))

    def recorded(self, graph: Graph, given: Given, defined: Mapping[Symbol, Expr]) -> Graph:
        """The rewritten graph with the definitions of the technique's symbols, and its conventions."""
        changed = self.rewrite(graph, given)
        lines = tuple(Convention(self.name, text, self.source) for text in self.statements(given))
        # numbers first: what the technique defines (the experts touched, say) may depend on them
        return replace(changed, definitions={**defined, **changed.definitions}, conventions=(*changed.conventions, *lines))

    def on_step(self, step: Step) -> Step:
        """The step after the technique."""
        self.check(step)
        return replace(step, symbolic=once(step.symbolic, self, lambda: self.on_graph(step.symbolic)))

    def statements(self, given: Given) -> tuple[str, ...]:
        """The technique's modelling assumptions, one sentence each."""
        return (f"{self.name}: {self.summary}",)

    def parameters(self, graph: Graph) -> tuple[dict[str, Expr], dict[Symbol, Expr]]:
        """The symbol or number of every numeric parameter, and the definitions of these symbols."""
        taken = graph.free_symbols
        given: dict[str, Expr] = {}
        defined: dict[Symbol, Expr] = {}
        for parameter in fields(self):
            symbol, value = parameter.metadata.get("symbol"), getattr(self, parameter.name)
            if symbol is None or value is None:
                continue
            before, level = graph.definitions.get(symbol), symbol in BANDWIDTHS
            if level and before is not None and value not in (symbol, before):
                what = f"an earlier technique set {before} byte/s, and a step has one {VOCABULARY[symbol].name}"
                raise self.refused(f"{parameter.name} {value}: {what}")
            if value == symbol or level or (symbol not in taken and value != 0):
                given[parameter.name] = symbol
                if value != symbol:
                    defined[symbol] = value
            else:
                given[parameter.name] = cast(Expr, value)
        return given, defined

    @property
    def free(self) -> tuple[Symbol, ...]:
        """The symbols of the parameters that have no number."""
        own = ((parameter.metadata.get("symbol"), getattr(self, parameter.name)) for parameter in fields(self))
        return tuple(symbol for symbol, value in own if symbol is not None and value == symbol)

    def without_values(self, *free: Symbol) -> Self:
        """The same technique with these parameters as symbols, without numbers."""
        names = {own.name: symbol for own in fields(self) if (symbol := own.metadata.get("symbol")) in free}
        return replace(self, **{name: symbol for name, symbol in names.items() if getattr(self, name) is not None})

    @property
    def text(self) -> str:
        """The technique as written on the command line."""
        given = ((own.name, value) for own in fields(self) if (value := getattr(self, own.name)) not in (own.default, None, ""))
        units = {own.name: VOCABULARY[own.metadata["symbol"]].unit for own in fields(self) if "symbol" in own.metadata}
        numbers = {name: typed(value, units[name]) if name in units else value for name, value in given}
        settings = ",".join(name if isinstance(getattr(self, name), Symbol) else f"{name}={value}" for name, value in numbers.items())
        return f"{self.name}:{settings}" if settings else self.name


def refuse_graph(technique: Technique) -> InputError:
    """The error for a technique that needs a model in addition to the graph."""
    return InputError(f"{technique.name} needs the model: apply it to a step, not to a bare graph")
