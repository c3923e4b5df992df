"""HTML: the frame of a page, and formulas that browsers typeset by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from symroof.present.tabular import Formula, compact


def page(title: str, parts: Iterable[str]) -> str:
    """A page of its own, readable on light and on dark screens."""
    frame = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return frame.substitute(title=escape(title), body="\n".join(parts)).rstrip()


def mathml(formula: Formula) -> str:
    """A formula as MathML."""
    from sympy.printing.mathml import mathml as printed

    body = "".join(f"<mi>{name}</mi><mo>=</mo>" for name in [str(formula.name).replace("^*", "*")] if name)
    body += printed(compact(formula.expression), printer="presentation")
    body = body.replace("<mi>eps</mi>", "<mi>ε</mi>").replace("&InvisibleTimes;", "\u2062").replace("&ApplyFunction;", "\u2061")
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" displaystyle="true">{body}</math>'
