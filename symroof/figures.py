"""What figures of one's own are drawn with: the library's roofline, its style, tables, and a way to show a figure anywhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from symroof.present.roofline_plot import BINDS, roofline_figure
from symroof.present.series import Number, Series, named
from symroof.present.serving.regime_map_plot import regime_map_figure
from symroof.present.style import COLORS, COMPUTE_COLOR, HATCHES, LINES, MARKERS, MEMORY_COLOR, label, mark, new_figure, stacked
from symroof.present.tabular import Column, Table, si

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BINDS", "COLORS", "COMPUTE_COLOR", "HATCHES", "LINES", "MARKERS", "MEMORY_COLOR", "Column", "Number", "Series", "Table", "label",
    "mark", "named", "new_figure", "regime_map_figure", "roofline_figure", "show", "si", "stacked",
]  # fmt: skip


def show(figure: Figure) -> None:
    """Show a figure: in its place in a notebook, in a window from a script; nothing where there is neither.

    A figure that pyplot did not make has no display hook of its own.

    >>> from matplotlib.figure import Figure
    >>> show(Figure())
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and hasattr(shell, "kernel"):
        from io import BytesIO

        from IPython.display import Image, display  # pyright: ignore[reportMissingImports]

        picture = BytesIO()
        figure.savefig(picture, format="png", dpi=144)
        display(Image(picture.getvalue(), width=round(72 * figure.get_figwidth())))
        return
    from matplotlib import pyplot

    window = pyplot.figure()
    if window.canvas.required_interactive_framework is None or window.canvas.manager is None:
        pyplot.close(window)
        return
    window.canvas.manager.canvas.figure = figure
    figure.set_canvas(window.canvas.manager.canvas)
    pyplot.show()
