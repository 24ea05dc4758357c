"""Charts for a paper: matplotlib, legible in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.charts.all import charts
from reports.charts.interactive import across, extent, ticks
from reports.charts.model import Axis, Chart, Panel, Series
from reports.charts.style import spread, style_of
from reports.render import printable
from zoo.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reports.record import Record

FORMATS = ("png", "svg", "pdf")
"""Formats that figures are written in."""

DPI = 300
_WIDTH = 7.0
"""Width of a page's text in inches; one panel takes half of it, or two thirds with a legend."""

_SETTINGS = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "legend.fontsize": 7, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.3, "grid.color": "#cccccc", "svg.fonttype": "path",
    "pdf.fonttype": 42, "svg.hashsalt": "melanoma-zoo", "text.usetex": False, "text.parse_math": False, "axes.axisbelow": True,
}  # fmt: skip


def plots(record: Record) -> dict[str, Figure]:
    """The figures of a record that show something, to look at in a notebook or to change before they are saved.

    Args:
        record: What `compare` measured, or `load` read.

    Returns:
        By the name that `report --format figures` gives its file. They belong to no window, and
        `plt.close` need not be called.
    """
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        return {chart.name: draw(chart) for chart in charts(record) if not chart.blank}


def write_figures(drawable: Sequence[Chart], folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Writes every chart that shows something, in every format; the same record gives the same bytes.

    Args:
        drawable: The charts.
        folder: Where to; made where it is not there.
        formats: Some of `FORMATS`.

    Returns:
        The files written.

    Raises:
        MachineError: The folder cannot be written.
    """
    import matplotlib as mpl

    written = []
    with mpl.rc_context(_SETTINGS):
        for chart in drawable:
            if chart.blank:
                continue
            drawn = draw(chart)
            for ending in formats:
                path = folder / f"{chart.name}.{ending}"
                with replacing(path) as temporary:
                    drawn.savefig(
                        temporary, format=ending, dpi=DPI, metadata=_UNDATED[ending], bbox_inches="tight"
                    )
                written.append(path)
    return written


_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def draw(chart: Chart) -> Figure:
    """A chart as a matplotlib figure, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in chart.panels if not panel.empty]
    # Long lists of the same names stand once for each line of panels, so that a figure fits a page.
    shared = len(panels[0].y.categories) > 10 and len({panel.y.categories for panel in panels}) == 1
    columns = min(len(panels), 4 if shared else 3)
    lines = math.ceil(len(panels) / columns)
    tallest = max(len(panel.y.categories) for panel in panels)
    height = max(2.4, 0.9 + 0.17 * tallest) if tallest else 2.6 if columns > 1 else 3.6
    size = (_WIDTH if columns > 1 else 4.8, height * lines)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for axis, panel in zip(axes, panels, strict=False):
        _panel(axis, panel)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for place, axis in enumerate(axes):
        axis.tick_params(labelleft=not shared or place % columns == 0)
    _legend(figure, axes[: len(panels)], panels)
    return figure


def _legend(figure: Any, axes: Sequence[Any], panels: Sequence[Panel]) -> None:
    """One legend for all panels, where names do not stand beside the points."""
    if any(panel.y.categories for panel in panels):
        return
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found and any(len({each.name for each in panel.series}) > 1 for panel in panels):
        figure.legend(
            found.values(), found.keys(), loc="outside lower center", ncols=min(4, len(found)), frameon=False
        )


def _panel(axis: Any, panel: Panel) -> None:
    axis.set_title(printable(panel.title), loc="left")
    for name, described in (("x", panel.x), ("y", panel.y)):
        _scale(axis, panel, name, described)
    for guide in panel.guides:
        axis.plot(
            _at(guide.x, panel.x), _at(guide.y, panel.y), color="#777777", linewidth=0.8,
            linestyle="--" if len(guide.x) == 2 else ":", zorder=1, label=printable(guide.name) if guide.listed else None,
        )  # fmt: skip
    for series in panel.series:
        _series(axis, panel, series)
    _names(axis, panel)


def _scale(axis: Any, panel: Panel, name: str, described: Axis) -> None:
    getattr(axis, f"set_{name}label")(printable(described.title))
    if described.categories:
        axis.set_yticks(
            range(len(described.categories)), [printable(each) for each in described.categories], fontsize=6.5
        )
        axis.set_ylim(len(described.categories) - 0.5, -0.5)
        return
    if described.log:
        getattr(axis, f"set_{name}scale")("log")
        at = ticks(*extent(described, panel, name))
        getattr(axis, f"set_{name}ticks")(at, [f"{tick:,g}" for tick in at])
    getattr(axis, f"set_{name}lim")(*extent(described, panel, name))


def _at(values: Sequence[float | str], axis: Axis) -> list[float]:
    return [axis.categories.index(each) if isinstance(each, str) else float(each) for each in values]


def _series(axis: Any, panel: Panel, series: Series) -> None:
    style = style_of(series.style)
    x, y = _at(series.x, panel.x), _at(series.y, panel.y)
    label = None if series.labelled or series.along == "x" else printable(series.name)
    if series.look == "points":
        own = x if series.along == "x" else y
        ends = [
            (value if low is None else low, value if high is None else high)
            for value, low, high in zip(own, series.low or own, series.high or own, strict=True)
        ]
        # A percentile interval need not hold its figure, and matplotlib takes no negative reach.
        reach = [
            [max(0.0, value - low) for value, (low, _) in zip(own, ends, strict=True)],
            [max(0.0, high - value) for value, (_, high) in zip(own, ends, strict=True)],
        ]
        axis.errorbar(
            x, y, **{f"{series.along}err": reach}, fmt=style.marker, color=style.colour, markersize=5,
            markerfacecolor="white" if series.hollow else style.colour, elinewidth=0.8, capsize=1.5, zorder=3,
            label=label if len(series.x) > 1 else None,
        )  # fmt: skip
        return
    if series.look == "band":
        known = [
            (at, low, high)
            for at, low, high in zip(x, series.low, series.high, strict=True)
            if low is not None and high is not None
        ]
        if known:
            axis.fill_between(
                *map(list, zip(*known, strict=True)), color=style.colour, alpha=0.08, linewidth=0
            )
    axis.plot(
        x, y, color=style.colour, linewidth=1.2, linestyle=":" if series.look == "dotted" else style.line if series.look == "band" else "-",
        marker=style.marker if series.look == "band" else None, markersize=3.2, markerfacecolor="white" if series.hollow else style.colour,
        markevery=max(1, len(x) // 8), label=label, zorder=2,
    )  # fmt: skip


def _names(axis: Any, panel: Panel) -> None:
    """Names beside points, moved apart where they would overlap."""
    points = [each for each in panel.series if each.labelled]
    if not points:
        return
    low, high = extent(panel.y, panel, "y")
    tall = 72 * axis.get_figure().get_figheight() * (0.7 if len(axis.get_figure().axes) == 1 else 0.35)
    for side in (False, True):
        own = [each for each in points if (across(float(each.x[-1]), panel) > 0.7) == side]
        at = [tall * (float(each.y[-1]) - low) / (high - low) for each in own]
        for each, wanted, found in zip(own, at, spread(at, 8.5), strict=True):
            axis.annotate(
                printable(each.name), (float(each.x[-1]), float(each.y[-1])), fontsize=6.5, xytext=(-10 if side else 10, found - wanted),
                textcoords="offset points", ha="right" if side else "left", va="center",
                bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": style_of(each.style).colour, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
