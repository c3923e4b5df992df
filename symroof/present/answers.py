"""Reports of crossovers, proofs, inverse design and generation: their sections for people, their records for JSON.

Scripts depend on the names in the records; they are kept stable.
"""

from __future__ import annotations

from typing import Any

from sympy import Add, Expr

from symroof import symbols
from symroof.architectures.step import Step
from symroof.hardware.device import Device
from symroof.present.crossover_views import LONG, certificate_lines, limit_words
from symroof.present.formats.sections import Lines, Section
from symroof.present.records import certificate_record, exact_text, text_of
from symroof.present.report import Report
from symroof.present.step_views import band_statement, capacity_text, cautions, conventions_of, letters_used
from symroof.present.tabular import Column, Formula, Table, Words, amount, in_units, number
from symroof.questions.capacity import Largest
from symroof.questions.context_limit import ContextLimit
from symroof.questions.generation import Generation
from symroof.questions.payoff import BreakEven
from symroof.questions.proofs import Certificate
from symroof.questions.required import Requirement
from symroof.questions.sensitivity import Sensitivity
from symroof.symbols import option_name
from symroof.units import quantity, unit_of


def requirement_record(answer: Requirement) -> dict[str, Any]:
    """The record of `symroof solve --format json`."""
    step = answer.step
    return {
        "model": step.model,
        "hardware": answer.device.name,
        "phase": step.options.phase,
        "techniques": list(step.techniques),
        "for": symbols.option_name(answer.variable.symbol),
        "relation": answer.relation,
        "value": float(answer.value_expr),
        "exact": exact_text(answer.value_expr),
        "least": None if answer.least_expr is None else float(answer.least_expr),
        "unit": answer.variable.unit,
        "integer": answer.integer,
        "formula": text_of(answer.formula),
        "time": float(answer.time_expr),
        "by_time": number(answer.by_time_expr),
        "by_memory": None if answer.by_memory_expr is None else number(answer.by_memory_expr),
        "memory_relation": answer.memory_relation,
        "binding": answer.binding,
        "allowed": None if answer.allowed_expr is None else number(answer.allowed_expr),
        "capacity": None if answer.room is None else number(answer.room.capacity_expr),
        "devices": str(step.symbolic.devices),
        **({"misfit": answer.misfit} if answer.misfit else {}),
        "statements": list(step.statements),
    }


def generation_record(found: Generation) -> dict[str, Any]:
    """The record of `symroof generate --format json`."""
    batch = _batch(found)
    return {
        "model": found.step.model,
        "hardware": found.device.name,
        "batch": batch,
        "prompt": found.prompt,
        "tokens": found.tokens,
        "prefill": {"time": float(found.prefill_time_expr), "bytes": number(found.prefill_traffic_expr)},
        "decode": {
            "time": float(found.decode_time_expr),
            "bytes": number(found.decode_traffic_expr),
            "regimes": [
                {"first": part.first, "last": part.last, "step_time": str(part.step_time_expr), "time": float(part.time_expr)}
                for part in found.parts
            ],
        },
        "total": {"time": float(found.time_expr), "exact": str(found.time_expr), "bytes": number(found.traffic_expr)},
        "time_per_token": float(found.decode_time_expr / (found.tokens - 1)) if found.tokens > 1 else None,
        "tokens_per_second": float(batch * (found.tokens - 1) / found.decode_time_expr) if found.tokens > 1 else None,
        "formulas": {"decode_bytes": str(found.traffic_formula)},
        "units": {"time": "s", "bytes": "byte", "step_time": "s, t the context length"},
        "statements": list(found.statements),
        **({"band": [float(end) for end in found.band_exprs]} if found.band_exprs else {}),
        "memory": {
            phase: {"bytes": number(one.needed_expr), "fits": one.fits, "largest_batch": one.largest_batch}
            for phase, one in found.memory.items()
        },
        "capacity": next((number(one.capacity_expr) for one in found.memory.values() if one.capacity_expr is not None), None),
        "fits": found.fits,
        "largest_batch": found.largest_batch,
    }


def context_limit_report(found: ContextLimit) -> Report:
    """The limit, as a formula and on a device."""
    step, condition = found.step, found.condition
    title = f"{step.title} on {found.device.title if found.device else 'any device'}: the longest context of a compute-bound batch"
    record = {
        "model": step.model,
        "hardware": found.device.name if found.device else None,
        "formula": str(found.formula),
        "condition": text_of(condition),
        "value": None if found.value_expr is None else float(found.value_expr),
        "exact": exact_text(found.value_expr),
        "statements": list(step.statements),
    }
    used = letters_used([found.formula, *([] if condition is None else [condition])])
    return Report((Lines((limit_words(found),), title), used, conventions_of(step, step.statements)), record=lambda: record)


def break_even_report(found: BreakEven) -> Report:
    """The values of equal FLOPs and of equal traffic, and what each decides."""
    name, after = symbols.option_name(found.over.symbol), found.after
    decides = {"FLOPs": (found.flops_expr, "compute-bound under one peak"), "traffic": (found.traffic_expr, "memory-bound")}
    lines = [
        Words((f"{what}: equal at {name} = ", Formula(value), f", which decides where both are {where}"))
        if value is not None
        else f"{what}: {name} does not decide which takes more"
        for what, (value, where) in decides.items()
    ]
    title = f"{found.part} of {found.before.title} and of {after.title}, {after.options.phase}: break-even over {name}"
    values = [value for value, _ in decides.values() if value is not None]
    record = {
        "model": after.model,
        "operator": found.part,
        "techniques": list(after.techniques),
        "over": name,
        "unit": found.over.unit,
        "flops": text_of(found.flops_expr),
        "traffic": text_of(found.traffic_expr),
        "statements": list(after.statements),
    }
    return Report((Lines(tuple(lines), title), letters_used(values), conventions_of(after, after.statements)), record=lambda: record)


def certificate_report(answer: Certificate) -> Report:
    """The claim, the verdict, and the proof or the counterexample."""
    status = {"proved": 0, "refuted": 1}.get(answer.verdict, 3)
    sections = (Lines(certificate_lines(answer)), letters_used([answer.slack, *(case.slack for case in answer.cases)]))
    return Report(sections, record=lambda: certificate_record(answer), status=status)


def capacity_report(step: Step, needed: Expr, device: Device) -> Report:
    """The memory a step needs, and whether the device has it."""
    capacity = device.usable_figure
    record = {"model": step.model, "hardware": device.name, "for": "capacity", "relation": ">=", "value": number(needed), "unit": "byte"}
    record["fits"] = None if capacity is None else bool(needed <= capacity.value)
    verdict = "" if capacity is None else f"; {'fits' if needed <= capacity.value else 'does not fit'} the {capacity_text(device)}"
    line = f"capacity >= {in_units(needed, 'B', 4)} ({number(needed):,} bytes){verdict}"
    return Report((Lines((line,)), conventions_of(step, step.statements)), record=lambda: record)


def largest_report(answer: Largest) -> Report:
    """The most of a variable that fits, and what the memory of a device holds there."""
    step, device = answer.step, answer.device
    name, several = symbols.option_name(answer.variable.symbol), answer.devices != 1
    share = f" on {answer.devices} devices together" if several else ""
    at = max(answer.integer, answer.multiple)
    held = Add(*answer.memory_exprs.values())
    parts = {
        "weights": answer.memory_exprs["weight"],
        "KV cache": answer.memory_exprs["kv_cache"],
        "activations": answer.memory_exprs["activation"],
    }
    columns = (Column("part"), Column("memory", "byte", f"memory at {name} {at}{', of one device' if several else ''}", numeric=True))
    totals = (("total", held), ("usable", answer.capacity_expr), ("free", answer.capacity_expr - held))
    fits = f"{name} {at} is the largest that fits{share}" if answer.integer else f"not even {name} {at} fits{share}"
    fits += f"; the techniques take multiples of {answer.multiple}" if answer.multiple != 1 else ""
    record = {
        "model": step.model,
        "hardware": device.name if device else None,
        "phase": step.options.phase,
        "techniques": list(step.techniques),
        "for": name,
        "value": float(answer.value_expr),
        "exact": exact_text(answer.value_expr),
        "integer": answer.integer,
        "capacity": number(answer.capacity_expr),
        "memory": {part: number(size) for part, size in answer.memory_exprs.items()} | {"total": number(held)},
        "devices": answer.devices,
        "units": {"capacity": "byte", "memory": "byte"},
        "statements": list(step.statements),
    }
    given = ", ".join(f"{key} {value}" for key in ("batch", "seq_len") if key != name and (value := getattr(step.options, key)) is not None)
    title = ", ".join(filter(None, (f"{step.title}{f' on {device.title}' if device else ''}", step.options.phase, given)))
    table = Table("", columns, tuple(parts.items()), totals=totals)
    return Report((Lines((fits,), title), table, conventions_of(step, step.statements)), record=lambda: record)


def requirement_report(answer: Requirement) -> Report:
    """What a resource must be, by time and by memory."""
    step = answer.step
    name = symbols.option_name(answer.variable.symbol)
    whole = "" if answer.integer is None or answer.fewest else f"; rounded to a whole number: {answer.integer}"
    least = "" if answer.least_expr is None else f"{_in_unit(answer.least_expr, answer)} <= "
    exact = f" (exactly {answer.value_expr})" if answer.value_expr.is_Rational and not answer.value_expr.is_Integer else ""
    unit, both = "a token" if step.symbolic.tokens != 1 else "the step", _both_limits(step, answer)
    limit = f"{least}{name} {answer.relation} {_in_unit(answer.value_expr, answer)}{exact}"
    by_time = f"{limit}, where {unit} takes {in_units(answer.time_expr, 's', 4)}{whole}"
    if answer.allowed_time_expr is not None and answer.allowed_expr != answer.value_expr:
        by_time += f"; at {name} {_in_unit(answer.allowed_expr, answer)} it takes {in_units(answer.allowed_time_expr, 's', 4)}"
    alone = answer.by_memory_expr is None and (answer.room is None or answer.room.fits)
    lines: list[str | Words] = [
        *((by_time, *both) if alone else (*both, f"by time: {by_time}")),
        *([f"but that does not fit: {answer.misfit}"] if answer.misfit else []),
    ]
    if answer.formula is not None:
        words = ("in this regime ", Formula(answer.formula, answer.variable.symbol), ", T the target time in seconds")
        lines.append(Words(words))
    title = f"{step.title} on {answer.device.title}, {step.options.phase}: {name} for a target"
    sections = (Lines(tuple(lines), title), conventions_of(step, step.statements))
    return Report(sections, record=lambda: requirement_record(answer))


def _in_unit(value: Any, answer: Requirement) -> str:
    """A value of the variable, with its unit where it has one."""
    return str(value) if isinstance(value, int) else format(quantity(value, unit_of(answer.variable)), ".6g")


def _both_limits(step: Step, answer: Requirement) -> list[str]:
    """What time and memory allow, side by side, and which is the limit."""
    name, room = symbols.option_name(answer.variable.symbol), answer.room
    if room is None:
        return []
    size, each = in_units(room.capacity_expr, "B", 4), " on each device" if step.symbolic.devices != 1 else ""
    memory = f"{size} of usable memory{each}"
    if not room.fits:
        return [f"{name}: the step does not fit in {memory} at any value; memory is the limit"]
    if answer.by_memory_expr is None:
        return [f"{name}: the step fits in {memory} at any value, so memory is no limit"]

    def limit_text(value: Any, relation: str | None) -> str:
        return ("at least " if relation == ">=" else "") + _in_unit(value, answer)

    both = f"no {name} meets both" if answer.allowed_expr is None else f"{name} {limit_text(answer.allowed_expr, None)}"
    by_time = limit_text(answer.by_time_expr, ">=" if answer.fewest else answer.relation)
    by_memory = limit_text(answer.by_memory_expr, answer.memory_relation)
    split = f"; the techniques take multiples of {answer.multiple}" if answer.multiple != 1 else ""
    return [f"{both}: {by_time} by time, {by_memory} by memory ({size} usable{each}); {answer.binding} is the limit{split}"]


def _batch(found: Generation) -> int:
    return found.step.options.batch or 1


def generation_report(found: Generation) -> Report:
    """Time to first token, time per token, throughput; a table of prefill and decode; the regimes of decode."""
    step, device, batch = found.step, found.device, _batch(found)
    needs = {phase: one.needed_expr for phase, one in found.memory.items()}
    columns = (
        *(Column("part"), Column("time", "s", numeric=True), Column("traffic", "byte", numeric=True)),
        *((Column("memory", "byte", "memory of a device", numeric=True),) if needs else ()),
    )
    rows = tuple(
        (phase, *totals, *((needs.get(phase),) if needs else ()))
        for phase, *totals in (
            ("prefill", found.prefill_time_expr, found.prefill_traffic_expr),
            ("decode", found.decode_time_expr, found.decode_traffic_expr),
        )
    )
    inputs = f"{found.prompt} tokens of prompt, {found.tokens} generated, batch {batch}"
    title = f"{' + '.join((step.model, *(technique.text for technique in found.techniques)))} on {device.title}: {inputs}"
    total = (("total", found.time_expr, found.traffic_expr, *((max(needs.values()),) if needs else ())),)
    table = Table("", columns, rows, totals=total)
    parts = (Column("contexts"), Column("step_time", "s", "time of a step, t the context", fold=LONG), Column("time", "s", numeric=True))
    regimes = tuple((f"{part.first} to {part.last}", Formula(part.step_time_expr), part.time_expr) for part in found.parts)
    said = "decode traffic, S tokens of prompt, n generated"
    traffic: Section = Lines((Words((Formula(found.traffic_formula, "decode traffic"), f" bytes{said.partition('traffic')[2]}")),))
    if len(str(found.traffic_formula)) > LONG:
        traffic = Table("", (Column("decode_traffic", "byte", said, fold=LONG),), ((Formula(found.traffic_formula),),))
    lines = (*_speeds(found, batch), *([band_statement(found.band_exprs)] if found.band_exprs else []), *_fit_lines(found, batch))
    lines = (*lines, *cautions(step, device, found.prompt + found.tokens - 1))
    by_regime: list[Section] = [Table("decode by regime", parts, regimes), traffic] if regimes else []
    return Report(
        (Lines(lines, title), table, *by_regime, conventions_of(step, found.statements)),
        record=lambda: generation_record(found),
        data=lambda: table,
    )


def _speeds(found: Generation, batch: int) -> list[str]:
    """Time to the first token, time of each further one, and what all sequences generate in a second."""
    best = "" if found.band_exprs else "at best: "
    first = f"{best}time to first token {in_units(found.prefill_time_expr, 's', 4)}"
    if found.tokens == 1:
        return [first]
    each = found.decode_time_expr / (found.tokens - 1)
    whole, share = in_units(found.time_expr, "s", 4), "" if batch == 1 else f" (all {batch} sequences)"
    return [f"{first}; then {in_units(each, 's', 4)} per token, {amount(batch / each)} token/s in decode{share}; {whole} in total"]


def _fit_lines(found: Generation, batch: int) -> list[str]:
    """Whether the batch fits, and the largest that does, in prefill and in decode."""
    capacity = next((one.capacity_expr for one in found.memory.values() if one.capacity_expr is not None), None)
    if capacity is None:
        return []
    line = f"batch {batch} {'fits' if found.fits else 'does not fit'} in {in_units(capacity, 'B', 4)} of usable memory"
    if found.largest_batch is None:
        return [f"{line}; so does any other batch"]
    longest = found.prompt + found.tokens - 1
    stages = {"prefill": "prefill of all prompts at once", "decode": f"decode at the longest context of {longest} tokens"}
    each = (f"{stages[phase]} fits {one.largest_batch}" for phase, one in found.memory.items() if one.largest_batch is not None)
    return [f"{line}; the largest that fits is {found.largest_batch}: {', '.join(each)}"]


def purchase_advice(answer: Sensitivity) -> str:
    """What to buy, in words."""
    bandwidth, peak = (float(-answer.values_expr[symbol]) for symbol in (symbols.BW, symbols.P))
    return f"one percent more bandwidth saves {bandwidth:.3f} percent of the time, one percent more peak {peak:.3f}: buy {answer.buy}"


def sensitivity_table(answer: Sensitivity, *, formulas: bool = True) -> Table:
    """Percent of time that one percent more of each variable adds; the formulas are long, and can be left out."""
    kept = slice(None, None, 1 if formulas else 2)
    rows = tuple((option_name(symbol), Formula(formula), answer.values.get(symbol))[kept] for symbol, formula in answer.formulas.items())
    columns = (Column("variable"), Column("elasticity"), Column("value", numeric=True, prefixed=False))[kept]
    return Table("elasticity of the time", columns, rows, (purchase_advice(answer),))
