"""HTML: the frame of a page, and formulas that browsers typeset by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from symroof.present.tabular import Formula, compact

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>
:root{{color-scheme:light dark;--ink:#1c1c1e;--soft:#5b5b62;--line:#d0d0d7;--back:#fff;--stripe:#f5f5f8}}
@media (prefers-color-scheme:dark){{:root{{--ink:#e8e8ed;--soft:#a3a3ad;--line:#45454d;--back:#161618;--stripe:#202024}}}}
body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;padding:0 1.2em;max-width:76em;color:var(--ink);background:var(--back)}}
h1{{font-size:1.15em}} div{{overflow-x:auto}}
table{{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}}
caption{{text-align:left;font-weight:600;padding:.4em 0}}
th{{border-bottom:1px solid var(--soft);font-weight:600;vertical-align:bottom}} td,th{{padding:.25em .8em}}
td[style*=right],tbody td:first-child{{white-space:nowrap}}
tbody tr:nth-child(even){{background:var(--stripe)}} tfoot td{{border-top:1px solid var(--soft);font-weight:600}}
ul,details{{color:var(--soft);font-size:.9em}} pre{{background:var(--stripe);padding:.8em;overflow-x:auto}}
</style></head>
<body>
{body}
</body>
</html>"""


def page(title: str, parts: Iterable[str]) -> str:
    """A page of its own, readable on light and on dark screens."""
    return PAGE.format(title=escape(title), body="\n".join(parts))


def mathml(formula: Formula) -> str:
    """A formula as MathML."""
    from sympy.printing.mathml import mathml as printed

    body = "".join(f"<mi>{name}</mi><mo>=</mo>" for name in [formula.name.replace("^*", "*")] if name)
    body += printed(compact(formula.expression), printer="presentation")
    body = body.replace("<mi>eps</mi>", "<mi>ε</mi>").replace("&InvisibleTimes;", "\u2062").replace("&ApplyFunction;", "\u2061")
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" displaystyle="true">{body}</math>'
