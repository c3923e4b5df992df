"""Text for Markdown, LaTeX and HTML: what each would take for markup, escaped; and the frame of a page."""

from __future__ import annotations

import re

PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"/><title>{title}</title>
<style>body{{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222}} table{{border-collapse:collapse;margin:1em 0}}
caption{{text-align:left;font-weight:600;padding:.4em 0}} th{{border-bottom:1px solid #888}} td,th{{padding:.25em .8em}}
tfoot td{{border-top:1px solid #888;font-weight:600}} ul{{color:#555;font-size:.9em}}</style></head>
<body>
{body}
</body>
</html>"""


_LATEX = str.maketrans(
    {"_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
    | {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "µ": r"$\mu$", "<": "$<$", ">": "$>$", "|": "$|$", "`": r"\textasciigrave{}"}
)


def markdown_text(value: str) -> str:
    r"""Text with what Markdown or HTML would take for markup escaped.

    >>> print(markdown_text("2*M/(a*e) | <i>"))
    2\*M/(a\*e) \| &lt;i>
    """
    return re.sub(r"([*|`\\])", r"\\\1", value).replace("<", "&lt;")


def latex_text(value: str) -> str:
    """Text with LaTeX's own characters escaped."""
    return value.translate(_LATEX)
