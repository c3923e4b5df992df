"""What a technique is: parameters that may stay symbols, and a rewrite of a graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, ClassVar, cast, overload

from sympy import Expr, Rational, Symbol, oo

from symroof import symbols
from symroof.architectures.options import PHASES
from symroof.architectures.step import Step
from symroof.conventions import Convention
from symroof.errors import InputError, nearest, quote
from symroof.operators import Graph
from symroof.symbols import VOCABULARY

Number = Any
"""What a user gives is a number; a technique has it exact, as an `Expr`: a parameter without a default stays its own symbol, an optional
one that is left out is None."""

Given = Mapping[str, Expr]
"""The letter or the number of every numeric parameter by its name; one that is absent is not in it."""

MOST = Rational(10) ** 30
BANDWIDTHS = (symbols.BW_l, symbols.BW_n, symbols.BW_h, symbols.BW_c)
"""Letters that a level has, and not a technique: two numbers for one would be one too many."""


def number(symbol: Symbol, default: Number = None, *, zero: bool = False, optional: bool = False) -> Any:
    """A parameter that is a number, with its symbol.

    Parameters
    ----------
    default : what it is when it is not given; None leaves the symbol.
    zero : whether 0 is allowed, as for an overhead.
    optional : whether it is absent, and not a symbol, when it is not given.
    """
    return field(default=default, metadata={"symbol": symbol, "zero": zero, "optional": optional})


def word(default: str, choices: Sequence[str] = (), meaning: str = "") -> Any:
    """A parameter that is a word: one of the choices, or any name where there are none."""
    return field(default=default, metadata={"choices": tuple(choices), "meaning": meaning})


def exact(what: str, value: Any, symbol: Symbol, zero: bool) -> Expr:
    """The number a user gave, as an exact rational within the symbol's range; the symbol itself stays.

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
    """On what the effect of a technique is told, in the table of techniques and in the gallery.

    Attributes
    ----------
    model, phase, inputs : the step.
    part : an operator with what the technique makes of it, or "total".
    over : the variable whose range shows where it pays.
    settings : the technique's parameters in numbers, where those it has by default do not say enough.
    hardware : where numbers are told.
    at : the value of the variable at which the roofline is drawn and long formulas are told, where it is one of the
        technique's own; what the step has otherwise.
    before : techniques that the step has already, as the command line spells them, apart by spaces.
    against : techniques of what it is compared with, where that is not the step as it is.
    """

    model: str = "llama-2-7b"
    phase: str = "decode"
    part: str = "up_proj"
    over: str = "batch"
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = "a100-sxm-80gb"
    at: Number = None
    before: str = ""
    against: str = ""


class Fact(StrEnum):
    """What holds on a step as a model gives it, and may hold no more after a technique; a technique requires some of it."""

    WHOLE_STEP = "a step that no pipeline has cut into slots"
    WHOLE_BATCH = "all sequences of the batch on the device"
    ONE_CONTEXT = "attention of every sequence over one context of its own"
    OWN_CONTEXT = "contexts of which no two sequences share a part"
    ONE_PART = "attention over each context in one part"
    NO_CHUNK = "a step without chunks of prompts"
    ONE_LENGTH = "sequences of one length"
    WHOLE_MATRICES = "weights that are whole on every device"
    NO_PAGES = "a cache that is not in pages yet"
    WHOLE_PROMPT = "prompts that are on one device"
    ALL_LAYERS = "tokens that run through whole layers"
    OWN_STEP = "a step of which no draft's cost is a share"
    WHOLE_CACHE = "sequences that read all heads of their cache"
    UNFUSED = "operators that are not fused yet"
    UNSENT = "tokens that are not sent to experts yet"
    OWN_INPUTS = "linear operators that read what others write, and no narrow copies of it"
    OWN_WIDTHS = "operands whose width no technique gave"
    NO_FORMAT = "operands that are in no format of their own"


@dataclass(frozen=True)
class Technique(ABC):
    """A rewrite of a graph, or of a step where it needs the model too.

    A parameter that is not given stays a symbol, and one can ask over it. One that is given keeps its letter in the
    formulas, with its number among the graph's definitions; where the letter is taken already, as by the same technique
    twice in a chain, the number itself stands in the formulas. A letter stands for one number throughout a chain: left out
    a second time, the parameter is what it was the first time.

    Attributes
    ----------
    name : on the command line.
    summary : what it does, in a phrase.
    survey : the section of the survey that treats it.
    source : where its cost model comes from.
    phases : those it is of.
    exact : why it is of the accounting "exact" alone, with {} for the name of another; empty where it is of all.
    requires : facts of the step that it builds on.
    removes : facts that hold no more after it.
    once : whether it is applied once at most.
    example : on what its effect is told.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    survey: ClassVar[str] = ""
    source: ClassVar[str] = ""
    phases: ClassVar[tuple[str, ...]] = PHASES
    exact: ClassVar[str] = ""
    requires: ClassVar[frozenset[Fact]] = frozenset()
    removes: ClassVar[frozenset[Fact]] = frozenset()
    once: ClassVar[bool] = False
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
            It does not fit; the message says why.
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
        changed = replace(after.symbolic.completed(), applied=(*what.symbolic.applied, self))
        return replace(after, symbolic=changed, unchanged=what.unchanged or what)

    @abstractmethod
    def rewrite(self, graph: Graph, given: Given) -> Graph:
        """The rewritten graph."""

    def check(self, step: Step) -> None:  # noqa: B027 - most fit every step
        """Raise an InputError where it does not fit the numbers of a step: a rank above the matrix, a degree that does not divide."""

    def check_order(self, graph: Graph) -> None:
        """Raise an InputError where an earlier technique has removed a fact that this one requires."""
        for earlier in graph.applied:
            if self.once and earlier.name == self.name:
                raise self.refused("is applied already, and once is all")
            way = "does not go with" if earlier.required & self.removed else "must come before"
            self._refuse_removed(earlier, self.required, way)

    def require(self, graph: Graph, *facts: Fact) -> None:
        """Raise an InputError where an earlier technique has removed a fact that this one requires on this very graph."""
        for earlier in graph.applied:
            self._refuse_removed(earlier, frozenset(facts), "cannot follow")

    def _refuse_removed(self, earlier: Technique, facts: frozenset[Fact], way: str) -> None:
        for fact in sorted(facts & earlier.removed):
            raise self.refused(f"{way} {earlier.name} in a chain: it needs {fact}")

    def refused(self, why: str) -> InputError:
        """The error of a technique that does not fit."""
        return InputError(f"{self.name}: {why}")

    @property
    def required(self) -> frozenset[Fact]:
        """The facts that this very one builds on: `requires`, or fewer where that depends on its parameters."""
        return self.requires

    @property
    def removed(self) -> frozenset[Fact]:
        """The facts that hold no more after this very one: `removes`, or fewer where that depends on its parameters."""
        return self.removes

    def prefills(self, prompt: Step) -> tuple[Step, ...]:
        """Further steps that a prompt takes because of the technique, as the prefill of a draft model; none for most."""
        del prompt
        return ()

    def on_graph(self, graph: Graph) -> Graph:
        """The graph after the technique; for one that needs the model, an error."""
        return self.recorded(graph, *self.parameters(graph))

    def recorded(self, graph: Graph, given: Given, defined: Mapping[Symbol, Expr]) -> Graph:
        """The rewritten graph with the numbers of the technique's letters, and what is said of it."""
        changed = self.rewrite(graph, given)
        lines = tuple(Convention(self.name, text, self.source) for text in self.statements(given))
        # numbers first: what the technique defines (the experts touched, say) may depend on them
        return replace(changed, definitions={**defined, **changed.definitions}, conventions=(*changed.conventions, *lines))

    def on_step(self, step: Step) -> Step:
        """The step after the technique."""
        self.check(step)
        return replace(step, symbolic=self.on_graph(step.symbolic))

    def statements(self, given: Given) -> tuple[str, ...]:
        """What a reader of the numbers should know."""
        return (f"{self.name}: {self.summary}",)

    def parameters(self, graph: Graph) -> tuple[dict[str, Expr], dict[Symbol, Expr]]:
        """Letter or number of every numeric parameter, and the numbers behind the letters."""
        taken = graph.free_symbols
        given: dict[str, Expr] = {}
        defined: dict[Symbol, Expr] = {}
        for parameter in fields(self):
            symbol, value = parameter.metadata.get("symbol"), getattr(self, parameter.name)
            if symbol is None or value is None:
                continue
            before, level = graph.definitions.get(symbol), symbol in BANDWIDTHS
            if level and before is not None and value not in (symbol, before):
                what = f"an earlier technique said {before} byte/s, and a step has one {VOCABULARY[symbol].name}"
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

    @property
    def text(self) -> str:
        """The technique as the command line spells it."""
        given = ((one.name, value) for one in fields(self) if (value := getattr(self, one.name)) not in (one.default, None, ""))
        settings = ",".join(name if isinstance(value, Symbol) else f"{name}={value}" for name, value in given)
        return f"{self.name}:{settings}" if settings else self.name


def refuse_graph(technique: Technique) -> InputError:
    """The error of a technique that needs a model beside the graph."""
    return InputError(f"{technique.name} needs the model: apply it to a step, not to a bare graph")
