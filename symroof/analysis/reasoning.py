"""A crossover for people: the derivation line by line, and a sentence in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sympy import Expr, latex, oo

from symroof.tabular import latex_text

if TYPE_CHECKING:
    from symroof.analysis.crossover import Crossover

INEQUALITY = r"\frac{F}{P} < \frac{B}{BW} \iff F\,BW - B\,P < 0"


def reasoning(answer: Crossover) -> tuple[tuple[str, str], ...]:
    """Words and LaTeX of every step: F, B, the inequality, the polynomial, the root, the condition, the numbers."""
    x = latex(answer.over.symbol)
    solution = answer.solution
    steps = [
        ("FLOPs", f"F = {latex(answer.flops)}"),
        ("bytes", f"B = {latex(answer.traffic)}"),
        ("memory-bound where", INEQUALITY),
        (f"the sign in {answer.over.name}", latex(_collected(answer))),
    ]
    if solution.formula is not None:
        steps.append((f"{solution.below}-bound below, {solution.above}-bound above", f"{x}^* = {latex(solution.formula)}"))
        if solution.lower is not None:
            steps.append(("the other crossing", f"{x}_- = {latex(solution.lower)}"))
    else:
        steps.append((f"no crossing: {solution.verdict}", latex(answer.slack.as_expr())))
    if solution.condition is not None:
        steps.append((f"if, and else {solution.otherwise or 'see the signs'}", latex(solution.condition)))
    if answer.intervals:
        steps.append(("in numbers", r",\quad ".join(_interval_latex(answer, place) for place in range(len(answer.intervals)))))
    return tuple(steps)


def _collected(answer: Crossover) -> Expr:
    return answer.slack.as_expr().expand().collect(answer.over.symbol)


def _interval_latex(answer: Crossover, place: int) -> str:
    interval = answer.intervals[place]
    return rf"{_short(interval.low)} \le {latex(answer.over.symbol)} \le {_short(interval.high)}:\ \text{{{interval.bound}}}"


def _short(value: Expr) -> str:
    if value == oo:
        return r"\infty"
    return latex(value) if value.is_Integer else f"{float(value):.6g}"


def align(answer: Crossover) -> str:
    """The derivation as an align environment, words beside every line."""
    lines = [rf"& {formula} && \text{{{latex_text(words)}}}" for words, formula in reasoning(answer)]
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def sentence(answer: Crossover) -> str:
    """The answer in words, with numbers where there are.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(weight_bits=16, activation_bits=16, kv_bits=16)
    >>> symroof.crossover(step, "up_proj", over="batch", hardware="a100-sxm-80gb").sentence
    'up_proj is memory-bound below batch 161.283 and compute-bound above it; 162 is the first whole number there'
    >>> symroof.crossover(step, "qk_matmul", over="batch").sentence
    'qk_matmul is memory-bound at every batch if 16*BW*e*h*t < P*a*e*h + P*a*h*t + P*c*e*k*t, and else compute-bound'
    """
    name = answer.over.name
    if answer.verdict == "intervals" and answer.intervals:
        parts = [f"{one.bound}-bound from {_plain(one.low)} to {_plain(one.high)}" for one in answer.intervals]
        return f"{answer.operator} over {name}: {', '.join(parts)}"
    if answer.verdict == "crosses":
        return _crossing(answer, name)
    bound = answer.verdict.removeprefix("always-")
    if answer.intervals or answer.condition is None:
        return f"{answer.operator} is {bound}-bound at every {name}"
    if answer.verdict == "intervals":
        return f"{answer.operator} is {answer.below}-bound outside the two crossings in {name} if {answer.condition}"
    other = (answer.solution.otherwise or "").removeprefix("always-")
    return f"{answer.operator} is {bound}-bound at every {name} if {answer.condition}, and else {other}-bound"


def _crossing(answer: Crossover, name: str) -> str:
    if answer.value is None:
        text = f"{answer.operator} is {answer.below}-bound below {name} {answer.formula} and {answer.above}-bound above it"
        if answer.condition is None:
            return text
        otherwise = answer.solution.otherwise
        return f"{text} if {answer.condition}" + (f", and else {otherwise.replace('-', ' ')}-bound" if otherwise else "")
    text = f"{answer.operator} is {answer.below}-bound below {name} {_plain(answer.value)}"
    unit = "" if answer.over.unit == "dimensionless" else f" {answer.over.unit}"
    text = f"{text}{unit} and {answer.above}-bound above it"
    first = answer.first_integer
    return text if first is None else f"{text}; {first} is the first whole number there"


def _plain(value: Expr) -> str:
    return "infinity" if value == oo else f"{float(value):.6g}"
