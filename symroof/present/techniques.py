"""Tables of techniques: all of them with their conditions, and several ways to run a step side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from sympy import Expr, false, true
from sympy.logic.boolalg import Boolean

from symroof.operators.tensor import Level
from symroof.present.formats.sections import Lines
from symroof.present.report import Report
from symroof.present.tabular import Column, Formula, Table, Words, times
from symroof.questions.technique_effect import Effect, effect_of
from symroof.symbols import VOCABULARY, option_name, substitute
from symroof.techniques.registry import family_of, names, technique_class
from symroof.techniques.technique import Technique

TITLES = {
    "compression": "compression",
    "decoding": "fast decoding",
    "system": "compiler and system",
    "hardware": "hardware",
    "ceilings": "beyond two ceilings",
}


def technique_table() -> Table:
    """Every technique: family, section of the survey, what it does, its parameters."""
    columns = (
        Column("technique", fixed=True),
        *(Column(name, rank=rank) for name, rank in (("family", 1), ("survey", 2))),
        Column("summary", title="what it does"),
        Column("parameters"),
    )
    kinds = {name: technique_class(name) for name in names()}
    rows = tuple((name, TITLES[family_of(name)], kind.survey or "-", kind.summary, parameters(kind)) for name, kind in kinds.items())
    notes = (
        "apply one with --with NAME:PARAMETER=VALUE,...; a parameter in [brackets] may be left out, one with = has that by default, any "
        "other stays a symbol",
        "`symroof techniques NAME` shows what it does to FLOPs, bytes and roofs, and when it is faster",
    )
    return Table("techniques", columns, rows, notes)


def parameters(kind: type[Technique]) -> str:
    """The parameters as the command line spells them."""
    texts = []
    for one in fields(kind):
        if "symbol" in one.metadata:
            text = one.name if one.default is None else f"{one.name}={one.default}"
            texts.append(f"[{one.name}]" if one.metadata["optional"] else text)
        else:
            texts.append(f"{one.name}={one.default or '...'}")
    return ", ".join(texts) or "-"


EFFECT = (
    Column("technique"),
    Column("flops", title="F'/F"),
    Column("bytes", title="B'/B"),
    Column("memory_size", title="memory'/memory"),
    Column("further", title="other ceilings"),
    Column("roof", title="computes in"),
    Column("memory", title="faster, memory-bound"),
    Column("compute", title="faster, compute-bound"),
    Column("where", title="on the example's device"),
    Column("best", title="at best"),
)


def effect_table(wanted: Sequence[str]) -> Table:
    """What techniques do to FLOPs, bytes and ceilings, and when they are faster, each on its example."""
    rows = tuple(effect_row(name) for name in wanted)
    notes = (
        "F' and B': FLOPs and memory traffic per completed token after the technique, of the example's operator or step; per occurrence",
        "memory: weights, KV cache and activations of the whole step at the example's numbers, per device",
        "memory-bound, compute-bound: on both sides; in between, and on other ceilings, the range on the device decides",
        "faster: by latency, seconds per completed token; of steps on several devices also per device, tokens per second and device",
        *example_notes(wanted),
    )
    return Table("what each technique does, and when it is faster", EFFECT, rows, notes)


def effect_row(name: str) -> tuple[object, ...]:
    """The cells of a technique under EFFECT, every one derived from the rewrite."""
    effect = effect_of(technique_class(name))
    roofs = effect.roofs
    further = [(f"{level}: ", factor(effect, value), " byte") for level, value in effect.further.items()]
    others = [*_ceilings(effect), *further]
    memory = effect.memory_factor
    best, at = effect.best
    gain = f"{times(best)} at {option_name(effect.payoff.over.symbol)} {float(at):.4g}"
    if effect.at is not None and effect.at != at:  # what is drawn is not the best
        gain += f"; {times(effect.payoff.speedup(effect.at))} at {effect.point}"
    return (
        name,
        factor(effect, effect.flop_factor),
        factor(effect, effect.byte_factor),
        "1" if memory == 1 else f"{float(memory):.4g}" if memory.is_number else "-",
        Words(tuple(part for place, other in enumerate(others) for part in (*(["; "] if place else []), *other))) if others else "-",
        roofs[0] if roofs[0] == roofs[1] else f"{roofs[0] or '-'} → {roofs[1] or '-'}",
        memory_condition(effect),
        condition(effect, effect.compute_bound, effect.compute_gain),
        "; ".join(found.sentence for found in (effect.payoff, effect.device_payoff) if found),
        gain,
    )


def _ceilings(effect: Effect) -> list[tuple[object, ...]]:
    """What changes on the ceilings, each as words and formulas."""
    ceilings = effect.step(over=True).apply(effect.technique(symbolic=True)).symbolic.ceilings
    changes: list[tuple[object, ...]] = [("peak x ", Formula(ceilings.compute))] if ceilings.compute != 1 else []
    factors = {level: factor for level, factor in ceilings.levels.items() if factor != 1}
    if changes and len(factors) == len(Level) and {*factors.values()} == {ceilings.compute}:
        changes = [("every ceiling x ", Formula(ceilings.compute))]
    else:
        changes += [(f"{level} bandwidth x ", Formula(factor)) for level, factor in factors.items()]
    changes += [("+ ", Formula(ceilings.launch), " per operator")] if ceilings.launch != 0 else []
    return changes if ceilings.overlap else [*changes, ("sum, not maximum",)]


LONGEST = 100
"""Characters of a formula that a table still shows; of a longer one the value at the example's numbers is shown."""


def factor(effect: Effect, value: Expr) -> object:
    """A factor as a formula if that is short enough, otherwise at the example's numbers."""
    if value.is_number:
        return f"{value}" if len(str(value)) < 12 else f"{float(value):.4g}"
    if len(str(value)) <= LONGEST:
        return Formula(value)
    here = substitute(value, effect.numbers)
    return f"{float(here):.4g} at {effect.point}" if here.is_number else f"a formula of {', '.join(sorted(map(str, value.free_symbols)))}"


def condition(effect: Effect, value: Boolean | bool | None, gain: Expr) -> object:
    """A condition as a formula if that is short enough, otherwise whether it holds at the example's numbers."""
    if value is None:
        here = substitute(gain, effect.numbers)
        return f"{'yes' if here > 0 else 'no'}, at {effect.point}" if here.is_number else "depends"
    if isinstance(value, bool):
        return "always" if value else "never"
    if len(str(value)) <= LONGEST:
        return Formula(value)
    holds = value.xreplace(dict(effect.numbers))
    if holds in (true, false):
        return f"{'yes' if holds == true else 'no'}, at {effect.point}"
    return f"a condition on {', '.join(sorted(map(str, value.free_symbols)))}"


def memory_condition(effect: Effect) -> object:
    """When it is faster with both sides memory-bound, and the branch that the formula is for."""
    shown = condition(effect, effect.memory_bound, effect.memory_gain)
    beside = [" (memory only)"] if effect.further else []
    if effect.where is not None:
        beside += [", where ", Formula(effect.where)]
    return Words((shown, *beside)) if beside else shown


def example_notes(wanted: Sequence[str]) -> list[str]:
    """What the examples are."""
    texts = []
    for name in wanted:
        example = technique_class(name).example
        settings = technique_class(name)(**example.settings).text.partition(":")[2]
        after = (f" after {example.before}" if example.before else "") + (f" against {example.against}" if example.against else "")
        inputs = ", ".join(f"{key} {value}" for key, value in example.inputs.items())
        parts = [example.part + after, f"of {example.model} in {example.phase}", *([inputs] if inputs else []), f"on {example.hardware}"]
        texts.append(f"{name}{':' if settings else ''}{settings}: {', '.join(parts)}")
    return texts


def technique_report(name: str) -> Report:
    """Everything there is to say of one technique."""
    kind = technique_class(name)
    parameters = tuple(map(_parameter, fields(kind)))
    columns = (Column("parameter"), Column("symbol"), Column("default"), Column("meaning"))
    effects = effect_table([name])
    headings = (column.heading for column in effects.columns[1:])
    effect = Table("what it does", (Column("quantity"), Column("value")), tuple(zip(headings, effects.rows[0][1:], strict=True)))
    source = [f"source: {kind.source}"] if kind.source else []
    lines = [*source, *([f"survey: section {kind.survey}"] if kind.survey else []), *example_notes([name])]
    return Report(
        (Lines(tuple(lines), f"{name}: {kind.summary}"), Table("parameters", columns, parameters), effect),
        record=effects.records,
        data=lambda: effects,
    )


def _parameter(one: Field[Any]) -> tuple[str, ...]:
    """Name, symbol, default and meaning of a parameter."""
    if "symbol" not in one.metadata:
        return one.name, "-", str(one.default or "-"), " or ".join(one.metadata["choices"]) or one.metadata["meaning"]
    variable = VOCABULARY[one.metadata["symbol"]]
    default = "left as it is" if one.metadata["optional"] else "a symbol" if one.default is None else str(one.default)
    return one.name, f"{variable.symbol} ({variable.name})", default, variable.meaning
