"""A step's formulas as JavaScript, C and Python: one function of named inputs, with what it needs and nothing else.

All three run the lines of one program in one order. What a line calls (a maximum, a minimum, a power, rounding, a choice) is defined in
front of it, so the lines are the same text in every language; only names are put in, and they are identifiers of the library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

from symroof import __version__
from symroof.deployment.exported import Exported, Input
from symroof.present.export.expressions import translated

_WORDS = """
auto break case catch char class const continue def default delete do double elif else enum except export extern false
finally float for from function global goto if import in inf int is lambda let long new nonlocal not null or pass raise
register return short signed sizeof static struct super switch this throw true try typedef union unsigned var void
volatile while with yield
"""
RESERVED = frozenset(_WORDS.split())
"""Words that are no names in one of the languages."""


def identifier(known: Input) -> str:
    """The name of an input in a program."""
    name = re.sub(r"\W", "_", known.name)
    return f"{name}_" if name in RESERVED else name


def _comment(exported: Exported) -> list[str]:
    """What a reader of the file needs, line by line, without anything that would end a comment."""
    step, device = exported.step, exported.device
    lines = [
        f"{step.title} in {step.options.phase} on {device.title}, ceilings {exported.ceilings}; by symroof {__version__}",
        "FLOPs, bytes of memory traffic and seconds of every operator, all its occurrences together, and of the whole step.",
        *exported.statements,
    ]
    return [re.sub(r"\s+", " ", line).replace("*/", "* /") for line in lines]


def _body(exported: Exported, line: Callable[[str, str], str]) -> tuple[list[str], list[str]]:
    """The constants and lines as statements, and the results as expressions."""
    names = {known.symbol: identifier(known) for known in exported.inputs}
    constants = [line(f"_c{place}", repr(float(value))) for place, value in enumerate(exported.program.constants)]
    lines = []
    for text in exported.program.lines:
        target, _, value = text.partition(" = ")
        lines.append(line(target, translated(value, names)))
    return constants + lines, [translated(output, names) for output in exported.program.outputs]


def _operators(exported: Exported, results: Sequence[str], bound: str) -> Iterator[str]:
    """The metrics of every operator and of the step, as an entry that JavaScript and Python write alike."""
    metrics: dict[str, list[str]] = {}
    seconds: dict[str, list[str]] = {}
    for output, result in zip(exported.outputs, results, strict=True):
        kept = seconds if output.resource else metrics
        kept.setdefault(output.operator, []).append(f"{json.dumps(output.resource or output.metric)}: {result}")
    for name, own in metrics.items():
        yield f'    {json.dumps(name)}: {bound}({{{", ".join(own)}, "seconds": {{{", ".join(seconds.get(name, []))}}}}}),'


def javascript(exported: Exported) -> str:
    """An ES module: ``inputs``, and ``formulas({batch: 8})`` with the metrics of every operator and of "total"."""
    body, results = _body(exported, lambda name, value: f"  const {name} = {value};")
    inputs = {
        identifier(known): {"value": known.value_expr, "unit": known.unit, "symbol": known.symbol, "meaning": known.meaning}
        for known in exported.inputs
    }
    names = ", ".join(f"{name} = inputs.{name}.value" for name in inputs)
    return "\n".join(
        [
            *(f"// {line}" for line in _comment(exported)),
            "",
            f"export const inputs = {json.dumps(inputs, indent=2)};",
            "",
            "const maximum = Math.max, minimum = Math.min, power = Math.pow, ceil = Math.ceil, floor = Math.floor;",
            "const select = (x, most, within, beyond) => (x <= most ? within : beyond);",
            "// What binds an operator: the resource that takes longest; of equals, memory is last.",
            "function bound(operator) {",
            "  let longest = -1;",
            "  const entries = Object.entries(operator.seconds), memory = entries.filter(([one]) => one === 'memory');",
            "  for (const [resource, time] of [...entries.filter(([one]) => one !== 'memory'), ...memory])",
            "    if (time > longest) [operator.bound, longest] = [resource, time];",
            "  return operator;",
            "}",
            "",
            f"export function formulas({{ {names} }} = {{}}) {{",
            *body,
            "  return {",
            *_operators(exported, results, "bound"),
            "  };",
            "}",
            "",
        ]
    )


def python(exported: Exported) -> str:
    """A module of Python's own: ``formulas(batch=8)`` gives a dictionary by operator."""
    body, results = _body(exported, lambda name, value: f"    {name} = {value}")
    arguments = ", ".join(f"{identifier(known)}={known.value_expr!r}" for known in exported.inputs)
    legend = [f"    {identifier(known)} : {known.symbol}, {known.meaning} [{known.unit}]" for known in exported.inputs]
    return "\n".join(
        [
            *(f"# {line}" for line in _comment(exported)),
            "from math import ceil, floor",
            "",
            "maximum, minimum, power = max, min, pow",
            "",
            "",
            "def select(x, most, within, beyond):",
            "    return within if x <= most else beyond",
            "",
            "",
            "def _bound(operator):",
            "    seconds = operator['seconds']",
            "    if seconds:  # of equals, memory is last",
            "        operator['bound'] = max(sorted(seconds, key='memory'.__eq__), key=seconds.get)",
            "    return operator",
            "",
            "",
            f"def formulas({arguments}):",
            '    """FLOPs, bytes and seconds by operator.',
            "",
            *legend,
            '    """',
            *body,
            "    return {",
            *_operators(exported, results, "_bound"),
            "    }",
            "",
            "",
            "if __name__ == '__main__':",
            "    for name, metrics in formulas().items():",
            "        print(name, metrics)",
            "",
        ]
    )


def c(exported: Exported) -> str:
    """A C99 file: ``formulas(in, out)``, the names of both, and a program that takes ``name=value`` and prints a line per result."""
    body, results = _body(exported, lambda name, value: f"  const double {name} = {value};")
    outputs = [(one.operator, f"seconds_{one.resource}" if one.resource else one.metric, one.unit) for one in exported.outputs]
    return "\n".join(
        [
            "/*",
            *(f" * {line}" for line in _comment(exported)),
            " * Compile: cc -std=c99 -O2 file.c -lm",
            " */",
            "#include <math.h>",
            "#include <stdio.h>",
            "#include <stdlib.h>",
            "#include <string.h>",
            "",
            f"enum {{ INPUTS = {len(exported.inputs)}, OUTPUTS = {len(outputs)} }};",
            "static const char *const input_names[] = {",
            *(f"  {json.dumps(identifier(known))}, /* {known.symbol}: {known.meaning} [{known.unit}] */" for known in exported.inputs),
            "};",
            f"static const double defaults[] = {{{', '.join(repr(known.value_expr) for known in exported.inputs)}}};",
            "static const char *const output_names[][3] = {",
            *(f"  {{{', '.join(map(json.dumps, texts))}}}," for texts in outputs),
            "};",
            "",
            "static double maximum(double x, double y) { return x > y ? x : y; }",
            "static double minimum(double x, double y) { return x < y ? x : y; }",
            "static double power(double x, double y) { return pow(x, y); }",
            "static double select(double x, double most, double within, double beyond) { return x <= most ? within : beyond; }",
            "",
            "void formulas(const double *in, double *out) {",
            "  (void)maximum, (void)minimum, (void)power, (void)select;",
            *(f"  const double {identifier(known)} = in[{place}];" for place, known in enumerate(exported.inputs)),
            *body,
            *(f"  out[{place}] = {result};" for place, result in enumerate(results)),
            "}",
            "",
            "#ifndef SYMROOF_NO_MAIN",
            "int main(int count, char **arguments) {",
            "  double in[INPUTS], out[OUTPUTS];",
            "  memcpy(in, defaults, sizeof in);",
            "  for (int each = 1; each < count; each++) {",
            "    const char *equals = strchr(arguments[each], '=');",
            "    int place = 0;",
            "    while (equals && place < INPUTS && (strncmp(arguments[each], input_names[place], equals - arguments[each]) ||",
            "                                        input_names[place][equals - arguments[each]]))",
            "      place++;",
            '    if (!equals || place == INPUTS) return fprintf(stderr, "%s: expected name=value\\n", arguments[each]), 2;',
            "    in[place] = strtod(equals + 1, NULL);",
            "  }",
            "  formulas(in, out);",
            "  for (int each = 0; each < OUTPUTS; each++)",
            '    printf("%s,%s,%s,%.17g\\n", output_names[each][0], output_names[each][1], output_names[each][2], out[each]);',
            "  return 0;",
            "}",
            "#endif",
            "",
        ]
    )
