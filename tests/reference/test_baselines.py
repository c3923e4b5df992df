"""A handful of figures against pictures that were looked at: shapes and colours, without text, which fonts would change.

After a change that is meant: ``pytest tests/reference/test_baselines.py --mpl-generate-path=tests/baseline``, and look.
"""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from symroof.present import figure_index as gallery


@pytest.mark.slow
@pytest.mark.mpl_image_compare(baseline_dir="../baseline", remove_text=True, tolerance=8, savefig_kwargs={"dpi": 60}, style="default")
@pytest.mark.parametrize(("name", "accounting"), [("fig06", "survey"), ("fig08", "exact"), ("fig16", "survey"), ("fig19", "survey")])
def test_baseline(name: str, accounting: str):
    figure = gallery.load(name).draw(accounting)
    FigureCanvasAgg(figure)
    return figure
