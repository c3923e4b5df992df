"""How crossovers, payoffs, elasticities and proofs look: sentences, and derivations line by line."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Basic, Expr, oo

from symroof import symbols
from symroof.algebra.isolation import Root
from symroof.algebra.lambert import of_the_line
from symroof.algebra.piecewise import Piece
from symroof.algebra.signs import Solution
from symroof.notation import compact, latex
from symroof.present.tabular import Formula, Words, aligned_lines, latex_text
from symroof.proof.claims import Certificate
from symroof.questions.crossover import Crossover
from symroof.questions.payoff import Payoff
from symroof.questions.sensitivity import Sensitivity


@dataclass(frozen=True)
class Line:
    """One step of a derivation: what it is, as text and as LaTeX."""

    words: str
    plain: str
    latex: str


INEQUALITY = Line("memory-bound where", "F/P < B/BW, so F*BW - B*P < 0", r"\frac{F}{P} < \frac{B}{BW} \iff F\,\mathrm{{BW}} - B\,P < 0")


def reasoning(answer: Crossover) -> tuple[Line, ...]:
    """Every step: F, B, the inequality, the polynomial, the root, the condition, the numbers."""
    x, solution = answer.over.symbol, answer.solution
    steps = [
        _line("FLOPs", compact(answer.flops), "F"),
        _line("bytes", compact(answer.traffic), "B"),
        *([_line("where", answer.where)] if answer.where is not None else []),
        INEQUALITY,
        *([_line(f"its sign, in {answer.over.name}", answer.slack.as_expr().expand().collect(x))] if answer.in_letters else []),
    ]
    sides = f"{solution.below}-bound below, {solution.above}-bound above"
    if solution.shortened is not None:
        steps.append(_line("if every part were touched, at", solution.shortened[2], str(solution.shortened[1])))
    if solution.formula is not None:
        shown = solution.shortened[0] if solution.shortened else solution.formula
        steps.append(_line("zero at" if solution.below is None or solution.cases else sides, shown, f"{x}^*"))
    elif solution.verdict == "crosses":
        steps.append(_said(sides, "a root that no formula gives, enclosed by exact arithmetic"))
    else:
        steps.append(_said("no crossing", solution.verdict))
    if solution.lower is not None:
        steps.append(_line("and at", solution.lower, f"{x}^-"))
    if solution.cases:
        steps += [_line(f"{case.verdict}, if", case.condition) for case in solution.cases]
    elif solution.condition is not None:
        steps.append(_line(f"if, and else {solution.otherwise}", solution.condition))
    if answer.large_layer is not None:
        steps.append(_line("as the layer grows it tends to", answer.large_layer, f"{x}^*"))
    steps += [_said(f"and where {other.where}", _in_letters(other.solution, answer)) for other in answer.others]
    return (*steps, _numbers(answer)) if answer.intervals else tuple(steps)


def _line(words: str, value: Basic, name: str = "") -> Line:
    equals = f"{name} = " if name else ""
    return Line(words, f"{equals.replace('^', '')}{value}", f"{equals}{latex(value)}")


def _said(words: str, told: str) -> Line:
    return Line(words, told, rf"\text{{{latex_text(told)}}}")


def _numbers(answer: Crossover) -> Line:
    x = answer.over.symbol
    pieces = answer.resources or answer.intervals
    plain = [f"{_plain(one.low)} <= {x} <= {_plain(one.high)}: {one.bound}" for one in pieces]
    if isinstance(answer.value, Root) and (line := of_the_line(answer.value)) is not None:
        plain.append(f"{x}* is within 1e{line[1]} of {line[0]}, where every part would be touched")
    shown = [rf"{_short(one.low)} \le {latex(x)} \le {_short(one.high)}:\ \text{{{one.bound}}}" for one in pieces]
    return Line("in numbers", ", ".join(plain), r",\quad ".join(shown))


def _short(value: Expr) -> str:
    return r"\infty" if value == oo else latex(value) if value.is_Integer else f"{float(value):.6g}"


def align(answer: Crossover) -> str:
    """The derivation as an align environment, words beside every line."""
    return aligned_lines(rf"& {line.latex} && \text{{{latex_text(line.words)}}}" for line in reasoning(answer))


def crossover_sentence(answer: Crossover) -> str:
    """The answer in words, with numbers where there are.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb").sentence
    'up_proj is memory-bound below batch 161.283 and compute-bound above it; 162 is the first whole number there'
    >>> symroof.crossover(step, "qk_matmul", over="batch").sentence
    'qk_matmul is memory-bound at every batch if 16*BW*e*h*t < P*a*e*h + P*a*h*t + P*c*e*k*t, and else compute-bound'
    """
    if not answer.intervals:
        told = {answer.where: answer.solution} | {other.where: other.solution for other in answer.others}
        wheres = (f"where {where}, " if where is not None else "" for where in told)
        return "; ".join(where + _in_letters(solution, answer) for where, solution in zip(wheres, told.values(), strict=True))
    name = answer.over.name
    if answer.verdict == "intervals":
        parts = [f"{one.bound}-bound from {_plain(one.low)} to {_plain(one.high)}" for one in answer.intervals]
        return f"{answer.operator} over {name}: {', '.join(parts)}"
    if answer.value is None:
        return f"{answer.operator} is {answer.verdict.removeprefix('always-')}-bound at every {name}"
    unit = "" if answer.over.unit == "dimensionless" else f" {answer.over.unit}"
    text = f"{answer.operator} is {answer.below}-bound below {name} {_plain(answer.value)}{unit} and {answer.above}-bound above it"
    first = answer.first_integer
    return text if first is None else f"{text}; {first} is the first whole number there"


def _in_letters(solution: Solution, answer: Crossover) -> str:
    """What a solution says, in words."""
    operator, name = answer.operator, answer.over.name
    if solution.cases:
        zero = f", with {answer.over.symbol}* = {formula_text(solution)}" if solution.verdict == "crosses" else ""
        return f"{operator} over {name}{zero}: " + "; ".join(f"{case.verdict}, if {case.condition}" for case in solution.cases)
    bound = solution.verdict.removeprefix("always-")
    otherwise = solution.otherwise or ""
    if solution.verdict == "crosses":
        text = f"{operator} is {solution.below}-bound below {name} {formula_text(solution)} and {solution.above}-bound above it"
        otherwise = f", and else it is {otherwise.replace('-', ' ')}-bound" if otherwise else ""
    elif solution.verdict == "intervals":
        text, otherwise = f"{operator} is {solution.below}-bound outside the two crossings in {name}", ""
    else:
        text, otherwise = f"{operator} is {bound}-bound at every {name}", f", and else {otherwise.removeprefix('always-')}-bound"
    return text if solution.condition is None else f"{text} if {solution.condition}{otherwise}"


def formula_text(solution: Solution) -> str:
    """The crossover in letters; a long one with a letter for what it would be if every expert were read.

    >>> import symroof
    >>> answer = symroof.crossover(symroof.load_model("mixtral-8x7b-v0.1").decode(symbolic=True), "router+expert_up_proj", over="batch")
    >>> formula_text(answer.solution).split(", ")[0]
    'b_E - LambertW(...)'
    """
    if solution.shortened is None:
        return str(solution.formula)
    shown, letter, meant = solution.shortened
    return f"{shown}, {letter} = {meant}"


def formula_cell(solution: Solution) -> object:
    """The same as a cell of a table."""
    if solution.shortened is None:
        return Formula(solution.formula) if solution.formula is not None else "-"
    shown, letter, meant = solution.shortened
    return Words((Formula(shown), ", ", Formula(letter), " = ", Formula(meant)))


def _plain(value: Expr) -> str:
    return "infinity" if value == oo else str(value) if value.is_Integer else f"{float(value):.6g}"


def aligned(answer: Crossover) -> str:
    """The derivation for a notebook."""
    lines = [rf"\text{{{line.words}}}:\quad & {line.latex}" for line in reasoning(answer)]
    return "$$\\begin{aligned}" + r" \\ ".join(lines) + "\\end{aligned}$$"


def payoff_sentence(payoff: Payoff) -> str:
    """Where a technique pays, in words; said to be per device where it is not by latency."""
    name = symbols.option_name(payoff.over.symbol)
    parts = [
        f"{stretch.bound} {_range(stretch, name)}"
        for stretch in payoff.intervals
        if stretch.low != stretch.high or len(payoff.intervals) == 1
    ]
    measure = "per device: " if payoff.per_device else ""
    last = payoff.intervals[-1].high
    tried = f" ({payoff.tried if payoff.tried < last else 'all'} of the whole numbers from 1 to {last} tried)" if payoff.tried else ""
    return measure + "; ".join(parts) + tried


def _range(stretch: Piece, name: str) -> str:
    low, high = (f"{float(end):.6g}" if end.is_finite else "" for end in (stretch.low, stretch.high))
    return f"for {name} from {low} to {high}" if high else f"for {name} from {low} on"


def purchase_advice(answer: Sensitivity) -> str:
    """What to buy, in words."""
    bandwidth, peak = (float(-answer.values[symbol]) for symbol in (symbols.BW, symbols.P))
    return f"one percent more bandwidth saves {bandwidth:.3f} percent of the time, one percent more peak {peak:.3f}: buy {answer.buy}"


def certificate_latex(answer: Certificate) -> str:
    """The claim, the polynomial and the certificate as a LaTeX align environment."""
    lines = [
        rf"& \text{{{latex_text(answer.claim)}: {answer.verdict}}}",
        rf"& F\,\mathrm{{BW}} - B\,P \ \text{{has the sign of}}\ {latex(answer.slack)}",
        *([rf"& \text{{{latex_text(answer.certificate)}}}"] if answer.certificate else []),
    ]
    return "% needs \\usepackage{amsmath}\n" + aligned_lines(lines)
