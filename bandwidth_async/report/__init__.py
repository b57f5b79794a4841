"""The report of a run: its figures, from one or more journals, and a page that shows them.

::

    from bandwidth_async.report import figures_of, to_html

    figures = figures_of(["shard-0.journal", "shard-1.journal"])
    Path("report.html").write_text(to_html(figures), encoding="utf-8")

The page needs jinja2, which the extra ``cli`` brings. The figures need nothing.
"""

from bandwidth_async.report.figures import Figures, figures_of
from bandwidth_async.report.page import to_html, to_json

__all__ = ["Figures", "figures_of", "to_html", "to_json"]
