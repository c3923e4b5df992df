"""How crossovers, payoffs, elasticities and proofs look: sentences, and derivations line by line."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from sympy import Basic, Expr, oo

from symroof.algebra.isolation import Root
from symroof.algebra.lambert import of_the_line
from symroof.algebra.piecewise import Piece
from symroof.algebra.signs import Solution
from symroof.hardware.machine import RATE_SYMBOLS
from symroof.notation import Sentence, compact, latex
from symroof.present.tabular import Column, Derivation, Formula, Table, Words, aligned_lines, latex_text, listed, spelled, words_of
from symroof.proof.claims import Certificate
from symroof.proof.provers import SHIFT
from symroof.questions.context_limit import ContextLimit, SparseContexts
from symroof.questions.crossover import Crossover
from symroof.questions.payoff import LOSES, PAYS, SAME, Payoff
from symroof.questions.required import Requirement
from symroof.roof.analysis import Total
from symroof.roof.roofline import RooflinePoint
from symroof.symbols import Variable, option_name
from symroof.units import quantity, unit_of

LONG = 120
"""Characters of a formula in a table; `symroof crossover --operator` of one shows it in full."""


@dataclass(frozen=True)
class Line:
    """One step of a derivation: what it is, as text, as LaTeX, and as a cell of a table.

    >>> print(Line("FLOPs of up_proj", "F = 2*b*d*f", "F = 2 b d f"))
    FLOPs of up_proj: F = 2*b*d*f
    """

    words: str
    plain: str
    latex: str
    cell: object = None

    def __str__(self) -> str:
        return f"{self.words}: {self.plain}"


def inequality(answer: Crossover) -> Line:
    """Which side binds where, with the rates that the answer compares: a link's bandwidth for bytes of a link."""
    bandwidth, peak = answer.bandwidth_expr, answer.peak_expr
    resource = next(resource for resource, rate in RATE_SYMBOLS.items() if rate in bandwidth.free_symbols)
    slow, fast = latex(bandwidth), latex(peak)
    return Line(
        f"{resource}-bound where",
        f"F/{_factor(peak)} < B/{_factor(bandwidth)}, so F*{bandwidth} - B*{peak} < 0",
        rf"\frac{{F}}{{{fast}}} < \frac{{B}}{{{slow}}} \iff F\,{slow} - B\,{fast} < 0",
    )


def _factor(rate: Expr) -> str:
    return str(rate) if rate.is_Symbol else f"({rate})"


def reasoning(answer: Crossover) -> tuple[Line, ...]:
    """Every step: F, B, the inequality, the polynomial, the root, the condition, the numbers."""
    x, solution = answer.over.symbol, answer.solution
    steps = [
        _line(f"FLOPs of {answer.operator}", compact(answer.flops_expr), "F"),
        _line("its bytes", compact(answer.traffic_expr), "B"),
        *([_line("where", answer.where)] if answer.where is not None else []),
        inequality(answer),
        *(
            [_line(f"sign of the slack, as a polynomial in {option_name(x)}", answer.slack.as_expr().expand().collect(x))]
            if answer.is_symbolic
            else []
        ),
    ]
    below, above = answer.resource_of(solution.below), answer.resource_of(solution.above)
    sides = f"{below}-bound below, {above}-bound above"
    if solution.shortened is not None:
        steps.append(_line("if everything were read, the crossover would be at", solution.shortened[2], str(solution.shortened[1])))
    if solution.formula is not None:
        shown = solution.shortened[0] if solution.shortened else solution.formula
        steps.append(_line("the slack is zero at" if solution.below is None or solution.cases else sides, shown, f"{x}^*"))
    elif solution.verdict == "crosses":
        steps.append(_said(sides, "a root without a closed form, enclosed by exact arithmetic"))
    else:
        steps.append(_said("no crossing", said_of(solution.verdict)))
    if solution.lower is not None:
        steps.append(_line("and at", solution.lower, f"{x}^-"))
    if solution.cases:
        steps += [_line(f"{case.verdict} if", case.condition) for case in solution.cases]
    elif solution.condition is not None:
        steps.append(_line(f"this holds where (otherwise {said_of(solution.otherwise)})", solution.condition))
    if answer.large_layer is not None and not answer.verdict.startswith("always"):
        grow = "grow together" if len(answer.layer_sizes) > 1 else "grows"
        steps.append(_line(f"as {listed(answer.layer_sizes)} {grow} it tends to", answer.large_layer, f"{x}^*"))
    steps += [_said(f"and where {other.where}", _symbolic(other.solution, answer)) for other in answer.others]
    return (*steps, _numbers(answer)) if answer.pieces else tuple(steps)


def said_of(verdict: str | None) -> str:
    """A verdict in words: "always memory-bound"."""
    return {"always-memory": "always memory-bound", "always-compute": "always compute-bound"}.get(verdict or "", verdict or "open")


def _line(words: str, value: Basic, name: str = "") -> Line:
    equals = f"{name} = " if name else ""
    return Line(words, f"{equals.replace('^', '')}{value}", f"{equals}{latex(value)}", Formula(value, name))


def _said(words: str, value: object) -> Line:
    return Line(words, str(value), spelled(value, lambda text: rf"\text{{{latex_text(text)}}}", Formula.latex), value)


def _numbers(answer: Crossover) -> Line:
    x = answer.over.symbol
    pieces = answer.resource_pieces or answer.pieces
    texts = [f"{plain(one.low)} <= {x} <= {plain(one.high)}: {one.bound}" for one in pieces]
    if isinstance(answer.value_expr, Root) and (line := of_the_line(answer.value_expr)) is not None:
        texts.append(f"{x}* is within 1e{line[1]} of {line[0]}, the crossover if everything were read")
    shown = [rf"{_short(one.low)} \le {latex(x)} \le {_short(one.high)}:\ \text{{{one.bound}}}" for one in pieces]
    return Line("in numbers", ", ".join(texts), r",\quad ".join(shown))


def _short(value: Expr) -> str:
    return r"\infty" if value == oo else latex(value) if value.is_Integer else f"{float(value):.6g}"


def derivation(answer: Crossover) -> Derivation:
    """The derivation as a table."""
    lines = tuple((line.words, line.plain if line.cell is None else line.cell) for line in reasoning(answer))
    return Derivation("why", (Column("step"), Column("formula")), lines, align=align(answer))


def align(answer: Crossover) -> str:
    """The derivation as an align environment, words above every line."""
    from symroof.present.formats.breaking import broken

    return aligned_lines(
        rf"& \text{{{latex_text(line.words)}:}} \\ & \qquad " + r" \\ & \qquad\quad {}".join(broken(line.latex))
        for line in reasoning(answer)
    )


def crossover_sentence(answer: Crossover) -> str:
    """The answer in words, with numbers where there are.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb").sentence
    'up_proj is memory-bound below batch 161.283 and compute-bound above it; 162 is the first whole number there'
    >>> symroof.crossover(step, "qk_matmul", over="batch").sentence
    'qk_matmul is memory-bound at every batch if 16*BW*e*h*t < P*a*e*h + P*a*h*t + P*c*e*k*t, otherwise compute-bound'
    """
    return str(crossover_words(answer))


def crossover_brief(answer: Crossover) -> tuple[str, ...]:
    """The value and what binds on its sides, else the sentence."""
    if answer.value is None:
        return "", crossover_sentence(answer)
    below, above = answer.resource_of(answer.below), answer.resource_of(answer.above)
    return f"of {answer.operator} over {answer.over.name}", f"{answer.value}; {below}-bound below, {above}-bound above"


def requirement_brief(answer: Requirement) -> tuple[str, ...]:
    """What time asks for, and what memory allows."""
    memory = [] if answer.by_memory_expr is None else [f"{answer.memory_relation} {answer.by_memory} by memory"]
    return f"of {answer.variable.name}", f"{answer.relation} {answer.value} for {answer.time}", *memory


def bounded(timed: Total | RooflinePoint) -> tuple[str, ...]:
    """The time, and what binds it."""
    return str(timed.time), *([f"{timed.bound}-bound"] if timed.bound else [])


def crossover_words(answer: Crossover) -> Words:
    """The answer in words and formulas."""
    name = option_name(answer.over.symbol)
    if not answer.pieces:
        solutions = {answer.where: answer.solution} | {other.where: other.solution for other in answer.others}
        parts: list[object] = []
        for where, solution in solutions.items():
            parts += [*(["; "] if parts else []), *(["where ", Formula(where), ", "] if where is not None else [])]
            parts += _symbolic(solution, answer).parts
        return Words(tuple(parts))
    if answer.verdict == "intervals":
        spans = [f"{answer.resource_of(one.bound)}-bound from {plain(one.low)} to {plain(one.high)}" for one in answer.pieces]
        return Words((f"{answer.operator} over {name}: {', '.join(spans)}",))
    if answer.value_expr is None:
        return Words((f"{answer.operator} is {answer.resource_of(answer.below)}-bound at every {name}",))
    below, above = answer.resource_of(answer.below), answer.resource_of(answer.above)
    text = f"{answer.operator} is {below}-bound below {name} {answer.value:.6g} and {above}-bound above it"
    first = answer.first_integer
    return Words((text if first is None else f"{text}; {first} is the first whole number there",))


def _symbolic(solution: Solution, answer: Crossover) -> Words:
    """What a solution says, in words and formulas."""
    operator, name = answer.operator, option_name(answer.over.symbol)
    if solution.cases:
        zero = (f", with {answer.over.symbol}* = ", *formula_parts(solution)) if solution.verdict == "crosses" else ()
        cases = [part for case in solution.cases for part in ("; ", f"{case.verdict}, if ", Formula(case.condition))][1:]
        return Words((f"{operator} over {name}", *zero, ": ", *cases))
    bound = solution.verdict.removeprefix("always-")
    otherwise = solution.otherwise or ""
    if solution.verdict == "crosses":
        below = (f"{operator} is {solution.below}-bound below {name} ", *formula_parts(solution))
        words = (*below, f" and {solution.above}-bound above it")
        otherwise = f", otherwise it is {otherwise.replace('-', ' ')}-bound" if otherwise else ""
    elif solution.verdict == "intervals":
        words, otherwise = (f"{operator} is {solution.below}-bound outside the two crossings in {name}",), ""
    else:
        words, otherwise = (f"{operator} is {bound}-bound at every {name}",), f", otherwise {otherwise.removeprefix('always-')}-bound"
    return Words(words if solution.condition is None else (*words, " if ", Formula(solution.condition), otherwise))


def formula_parts(solution: Solution) -> tuple[object, ...]:
    """The symbolic crossover; a long one with a symbol for the value it would have if every expert were read.

    >>> import symroof
    >>> answer = symroof.crossover(symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True), "router+expert_up_proj", over="batch")
    >>> print(formula_parts(answer.solution)[0])
    b_E - LambertW(...)
    """
    if solution.shortened is None:
        return (Formula(solution.formula),) if solution.formula is not None else ("-",)
    shown, letter, meant = solution.shortened
    return Formula(shown), ", ", Formula(letter), " = ", Formula(meant)


def formula_cell(solution: Solution) -> object:
    """The same as a cell of a table."""
    parts = formula_parts(solution)
    return parts[0] if len(parts) == 1 else Words(parts)


def plain(value: Expr) -> str:
    """A number in few digits, a formula as it is."""
    return "infinity" if value == oo else str(value) if value.is_Integer or not value.is_number else f"{float(value):.6g}"


def limit_words(found: ContextLimit) -> Words:
    """The limit, and the condition under which it is one."""
    value = "" if found.value_expr is None else f" = {float(found.value_expr):.1f} tokens"
    words = ("any batch is compute-bound only below a context of S_max = ", Formula(found.formula), value)
    return Words((*words, *(() if found.condition is None else (", if ", Formula(found.condition)))))


def aligned(answer: Crossover) -> str:
    """The derivation for a notebook."""
    lines = [rf"\text{{{latex_text(line.words)}}}:\quad & {line.latex}" for line in reasoning(answer)]
    return "$$\\begin{aligned}" + r" \\ ".join(lines) + "\\end{aligned}$$"


EFFECTS = {PAYS: "faster", LOSES: "slower", SAME: "no effect"}


def payoff_sentence(payoff: Payoff) -> str:
    """Where a technique is faster and where slower; per device what has more throughput and what less.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(seq_len=1024, weight_bits=16, activation_bits=16, kv_bits=16)
    >>> for technique in ("quantize:weights=4", "speculative:acceptance=0.5,length=4,draft_cost=0.2", "prune-channels:share=0.5"):
    ...     after = step.apply(symroof.technique(technique))
    ...     print(payoff_sentence(symroof.payoff(step, after, over="batch", hardware="a100-sxm-80gb")))
    faster for batch < 165.4; no effect above
    faster for batch < 36.55; slower above
    faster at every batch
    """
    spans = [one for one in payoff.pieces if one.low != one.high or len(payoff.pieces) == 1]
    last = payoff.pieces[-1].high
    tried = f" ({payoff.tried if payoff.tried < last else 'all'} of the whole numbers from 1 to {last} tried)" if payoff.tried else ""
    effects = [_effect(one, place, len(spans), payoff.over) for place, one in enumerate(spans)]
    return ("per device: " if payoff.per_device else "") + "; ".join(effects) + tried


def _effect(span: Piece, place: int, count: int, over: Variable) -> str:
    """One interval: below its end, between its ends, above the one before."""
    name, effect = option_name(over.symbol), EFFECTS[span.bound]
    low, high = (str(quantity(end, unit_of(over))) if end.is_finite else "" for end in (span.low, span.high))
    if count == 1:
        return f"{effect} at every {name}"
    if place == 0:
        return f"{effect} for {name} < {high}"
    return f"{effect} above" if place == count - 1 else f"{effect} for {low} < {name} < {high}"


def certificate_latex(answer: Certificate) -> str:
    """The claim, the counterexample, the certificate and the slacks as LaTeX, one below the other."""
    from symroof.present.formats.latex import breakable, inline

    lines = (spelled(line, breakable, inline) for line in certificate_lines(answer))
    return "\n".join(rf"{{\raggedright\noindent {line}.\par}}" for line in lines)


def certificate_html(answer: Certificate) -> str:
    """The same for a notebook."""
    return "<br>".join(spelled(line, escape, lambda formula: f"${escape(formula.latex())}$") for line in certificate_lines(answer))


def certificate_sentence(answer: Certificate) -> str:
    """The verdict, the claim, and the counterexample if there is one."""
    return str(certificate_lines(answer)[0])


def certificate_lines(answer: Certificate) -> tuple[Words, ...]:
    """The claim, the certificate, why it is one, and every slack."""
    point = ", ".join(f"{option_name(symbol)} = {value}" for symbol, value in (answer.counterexample or {}).items())
    how = f"{answer.verdict}{f', by {answer.by}' if answer.by else ''}: "
    lines = [
        words_of(Sentence(how, answer.claim, f"; not at {point}" if point else "")),
        *([words_of(Sentence("certificate: ", answer.certificate))] if answer.certificate else []),
    ]
    if SHIFT in (answer.by or "").split(", "):
        lines.append(Words(("every coefficient has that sign and no y is negative, so the whole polynomial has that sign",)))
    for case in answer.cases:
        where = (" where ", Formula(case.where)) if case.where is not None else ()
        first, second = case.order
        lines.append(
            Words(("slack", *where, ": ", Formula(case.slack), f"; {second}-bound where it is negative, {first}-bound where positive"))
        )
    return tuple(lines)


def payoff_table(payoff: Payoff) -> Table:
    """Interval by interval, whether a technique is faster."""
    name = option_name(payoff.over.symbol)
    rows = tuple((plain(one.low), plain(one.high), EFFECTS[one.bound]) for one in payoff.pieces)
    title = f"{payoff.part}, {'per device' if payoff.per_device else 'by latency'}"
    columns = (Column("low", title=f"{name} from"), Column("high", title="to"), Column("effect"))
    return Table(title, columns, rows, (f"{name}: {payoff.over.meaning}",))


def sparse_contexts_sentence(found: SparseContexts) -> str:
    """From where on selecting keys is faster, and from where on selecting them takes longer than attending to them."""
    name, first, then = option_name(found.pays.over.symbol), found.first_faster, found.first_indexer
    faster = (
        f"faster than attention to all keys from {name} {plain(first.exact)} on" if first else "never faster than attention to all keys"
    )
    longer = f"takes longer than attention from {name} {plain(then.exact)} on" if then else "takes less time than attention in the end"
    return f"{faster}; the indexer {longer}"
