"""From a record to the page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from reports.charts.all import charts
from reports.charts.board import board_charts
from reports.charts.interactive import HEIGHT, figure
from reports.charts.model import Chart
from reports.charts.systems import main_scores
from reports.leaderboard import Board
from reports.page.headline import headline
from reports.page.sections import sections
from reports.page.table import sortable
from reports.record import Record
from reports.render import printable

_INTERVAL = re.compile(r"\([−+]?[\d.,]+ to [−+]?(?:[\d.,]+|∞)\)(?: (?:[a-z]{1,3}|†|\*)(?![\w]))*")


def page(record: Record) -> str:
    """The page of a record, as HTML.

    It has its own scripts and styles in it and may run no other: its content security policy names
    them by their checksums, and allows no connection.
    """
    drawn = {chart.name: chart for chart in charts(record)}
    scores = main_scores(record)
    hero = drawn["auc_by_parameters"]
    figures: dict[str, Any] = {}
    found = sections(record, list(drawn.values()))
    return render(
        "page.html.j2",
        figures,
        record=record,
        scores=scores,
        headline=headline(record),
        hero=_placed(hero, figures, 500),
        sections=[(each, [_placed(chart, figures, _tall(chart)) for chart in each.charts]) for each in found],
        table=sortable(record),
        thumbnails={each.image: each.thumbnail for each in record.disagreements.lesions if each.thumbnail}
        if record.disagreements
        else {},
    )


def board_page(board: Board) -> str:
    """A leaderboard as a page: its tables can be sorted, and each ranking of scores has a figure."""
    figures: dict[str, Any] = {}
    drawn = {chart.table: chart for chart in board_charts(board)}
    ranked = [
        (table, _placed(drawn[table.title], figures) if table.title in drawn else None)
        for table in board.tables
    ]
    return render("board.html.j2", figures, names=board.names, ranked=ranked)


def _tall(chart: Chart) -> int:
    """A figure of one panel may be as tall as it is read: it stands alone."""
    return HEIGHT if len(chart.panels) > 1 else 500


def _placed(chart: Chart, figures: dict[str, Any], height: int = HEIGHT) -> dict[str, Any]:
    """A chart with a key for each panel that is drawn; the script finds its figure by that key."""
    panels = []
    for number, panel in enumerate(chart.panels):
        key = f"{chart.name}-{number}"
        if not panel.empty:
            figures[key] = figure(panel, height)
        panels.append(
            {"key": key, "panel": panel, "height": figures[key]["layout"]["height"] if not panel.empty else 0}
        )
    missing = list(dict.fromkeys(panel.empty for panel in chart.panels if panel.empty))
    return {"chart": chart, "panels": panels, "missing": missing}


def render(template: str, figures: dict[str, Any], **values: Any) -> str:
    """A template of the page with its scripts, and the policy that lets no other run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and type(value) is str else value,
    )
    environment.filters["figures"] = intervals
    scripts = [*([plotly()] if figures else []), _own("page.js")]
    # "<" is escaped, so that no text of a record can end the element that holds the figures.
    data = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_allowed, scripts))}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        scripts=scripts, style=_own("page.css"), figures=data, policy=policy, **values
    )


def intervals(text: str) -> Any:
    """Text as HTML, in which an interval stays on one line and steps back behind its figure.

    >>> str(intervals("0.815 (0.766 to 0.860) <b>"))
    '0.815 <span class="ci">(0.766 to 0.860)</span> &lt;b&gt;'
    """
    from markupsafe import Markup, escape

    safe = str(escape(printable(text)))
    return Markup(_INTERVAL.sub(r'<span class="ci">\g<0></span>', safe))  # noqa: S704 (escaped just above)


def plotly() -> str:
    """The script of plotly.js (MIT), as the plotly package ships it, with its licence at its head."""
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script.replace("</script", "<\\/script")


def _own(name: str) -> str:
    return (resources.files("reports") / "page" / name).read_text(encoding="utf-8")


def _allowed(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
