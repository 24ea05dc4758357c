"""Panels as figures for plotly.js: plain JSON, drawn by the library's own script on the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from reports.charts.model import Axis, Guide, Panel, Series
from reports.charts.style import spread, style_of

HEIGHT = 380
"""Height of a panel in pixels; its width is the page's to give."""

_MARGIN = {"l": 58, "r": 16, "t": 34, "b": 52}
_LINE = 15.0
"""Height of a label in pixels."""

_DASHES = {"dotted": "dot", "steps": "solid"}


def figure(panel: Panel, height: int = HEIGHT) -> dict[str, Any]:
    """A panel as plotly.js takes it; colours of text and lines are left to the page's theme."""
    if panel.y.categories:
        height = max(220, 110 + 24 * len(panel.y.categories))
    named: set[str] = set()
    traces = [
        trace for guide in panel.guides for trace in _guide(guide)
    ] + [trace for series in panel.series for trace in _traces(series, named)]  # fmt: skip
    layout: dict[str, Any] = {
        "height": height,
        "margin": {**_MARGIN, "l": 12 if panel.y.categories else _MARGIN["l"]},
        "xaxis": _axis(panel.x, panel, "x"),
        "yaxis": _axis(panel.y, panel, "y"),
        "showlegend": any(trace["showlegend"] for trace in traces) and len(named) > 1,
        "legend": {"orientation": "h", "y": -80 / (height - _MARGIN["t"] - _MARGIN["b"]), "yanchor": "top"},
        "hovermode": "closest",
        "annotations": list(_labels(panel, height)),
    }
    if panel.title:
        layout["title"] = {"text": _text(panel.title), "x": 0, "xref": "paper", "font": {"size": 14}}
    return {"data": traces, "layout": layout}


def _text(text: str) -> str:
    """Text that plotly.js shows as it is: it would read some HTML and LaTeX otherwise."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("$", "&#36;").replace("%{", "%&#123;")


def _axis(axis: Axis, panel: Panel, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": _text(axis.title)}, "automargin": True, "zeroline": False}
    if axis.categories:
        names = [_text(each) for each in axis.categories]
        return {**found, "type": "category", "categoryarray": names, "range": [len(names) - 0.5, -0.5]}
    low, high = extent(axis, panel, name)
    if axis.log:
        at = ticks(low, high)
        return {
            **found, "type": "log", "range": [math.log10(low), math.log10(high)],
            "tickvals": at, "ticktext": [f"{tick:,g}" for tick in at],
        }  # fmt: skip
    return {**found, "range": [low, high]}


def ticks(low: float, high: float) -> list[float]:
    """Round numbers inside an axis: 1, 2 and 5 of each decade, fewer where that were many, evenly spaced in a narrow one.

    >>> ticks(8, 700)
    [10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
    >>> ticks(10.4, 11.5)
    [10.5, 11.0, 11.5]
    """
    steps: tuple[int, ...] = (1, 2, 5) if high / low < 200 else (1, 3) if high / low < 2000 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [tick for decade in decades for step in steps if low <= (tick := step * 10.0**decade) <= high]
    if len(found) > 1:
        return found
    size = 10.0 ** math.floor(math.log10(high - low))
    for step in (size / 2, size, 2 * size, 5 * size):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < 5:
            break
    return [float(f"{each * step:.6g}") for each in range(first, last + 1)]


def extent(axis: Axis, panel: Panel, name: str) -> tuple[float, float]:
    """Where an axis begins and ends: as it says, or around all that is drawn with its intervals."""
    values = [value for each in panel.series for value in (each.x if name == "x" else each.y)]
    values += [
        end
        for each in panel.series
        if each.along == name
        for end in (*each.low, *each.high)
        if end is not None
    ]
    if axis.low is None or axis.high is None:
        values += [value for each in panel.guides for value in (each.x if name == "x" else each.y)]
    numbers = [float(value) for value in values if not isinstance(value, str)] or [0.1, 1.0]
    low, high = min(numbers), max(numbers)
    if axis.log:
        pad = (high / low) ** 0.08 if high > low else 2.0
        low, high = low / pad, high * pad
    else:
        pad = 0.06 * (high - low) or 0.1
        low, high = low - pad, high + pad
    low = low if axis.low is None else axis.low
    high = high if axis.high is None else axis.high
    if (axis.low, axis.high) == (0.0, 1.0):
        low, high = -0.02, 1.02  # Markers at the ends are seen whole.
    return low, high


def across(x: float, panel: Panel) -> float:
    """How far to the right a place is: 0 at the left end of the axis, 1 at the right."""
    left, right = extent(panel.x, panel, "x")
    return math.log(x / left) / math.log(right / left) if panel.x.log else (x - left) / (right - left)


def _guide(guide: Guide) -> Iterator[dict[str, Any]]:
    yield {
        "type": "scatter", "mode": "lines", "name": _text(guide.name), "x": _values(guide.x), "y": _values(guide.y),
        "line": {"width": 1.2, "dash": "dash" if len(guide.x) == 2 else "dot", "color": "#7d8590"},
        "hoverinfo": "name" if len(guide.x) == 2 else "skip", "showlegend": guide.listed, "meta": "guide",
    }  # fmt: skip


def _traces(series: Series, named: set[str]) -> Iterator[dict[str, Any]]:
    style = style_of(series.style)
    common = {
        "type": "scatter", "name": _text(series.name), "x": _values(series.x), "y": _values(series.y),
        "legendgroup": _text(series.name),
        "showlegend": series.listed and not series.labelled and series.name not in named and series.along == "y",
    }  # fmt: skip
    named.add(series.name)
    ends = [(low, high) for low, high in zip(series.low, series.high, strict=True)]
    hover = _hover(series)
    if series.look == "points":
        bars = {}
        if any(low is not None and high is not None for low, high in ends):
            own = series.x if series.along == "x" else series.y
            bars[f"error_{series.along}"] = {
                "type": "data", "symmetric": False, "thickness": 1.4, "width": 3, "color": style.colour,
                "array": [0 if high is None else high - float(value) for value, (_, high) in zip(own, ends, strict=True)],
                "arrayminus": [0 if low is None else float(value) - low for value, (low, _) in zip(own, ends, strict=True)],
            }  # fmt: skip
        symbol = f"{style.symbol}-open" if series.hollow else style.symbol
        marker = {
            "symbol": symbol,
            "size": 10,
            "color": style.colour,
            "line": {"width": 2 if series.hollow else 1},
        }
        yield {**common, "mode": "markers", "marker": marker, **bars, **hover}
        return
    if series.look == "band":
        tone = tuple(int(style.colour[at : at + 2], 16) for at in (1, 3, 5))
        known = [(x, low, high) for x, (low, high) in zip(series.x, ends, strict=True) if low is not None and high is not None]  # fmt: skip
        yield {
            **common, "mode": "lines", "x": _values([x for x, _, _ in known] + [x for x, _, _ in reversed(known)]),
            "y": [high for _, _, high in known] + [low for _, low, _ in reversed(known)], "fill": "toself",
            "fillcolor": f"rgba({tone[0]},{tone[1]},{tone[2]},0.10)", "line": {"width": 0}, "hoverinfo": "skip",
            "showlegend": False, "meta": "band",
        }  # fmt: skip
    dash = _DASHES.get(series.look, style.dash if series.look == "band" else "solid")
    yield {**common, "mode": "lines", "line": {"color": style.colour, "width": 2, "dash": dash}, **hover}


def _hover(series: Series) -> dict[str, Any]:
    ends = list(zip(series.low, series.high, strict=True)) or [(None, None)] * len(series.x)
    notes = series.notes or ("",) * len(series.x)
    own = series.x if series.along == "x" else series.y
    lines = []
    for x, y, value, (low, high), note in zip(series.x, series.y, own, ends, notes, strict=True):
        shown = f"{_number(value)}" + (
            "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
        )
        at = y if series.along == "x" else x
        lines.append(
            f"<b>{_text(series.name)}</b><br>{shown} at {_number(at)}"
            + (f"<br>{_text(note)}" if note else "")
        )
    return {"hovertext": lines, "hoverinfo": "text"}


def _number(value: float | str) -> str:
    return _text(value) if isinstance(value, str) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.4g}"


def _values(values: Sequence[float | str]) -> list[float | str]:
    return [_text(value) if isinstance(value, str) else value for value in values]


def _labels(panel: Panel, height: int) -> Iterator[dict[str, Any]]:
    """Names beside points, moved apart where they would overlap."""
    points = [each for each in panel.series if each.labelled]
    if not points:
        return
    low, high = extent(panel.y, panel, "y")
    tall = height - _MARGIN["t"] - _MARGIN["b"]
    for side in (False, True):
        own = [each for each in points if (across(float(each.x[-1]), panel) > 0.7) == side]
        at = [tall * (float(each.y[-1]) - low) / (high - low) for each in own]
        for each, wanted, found in zip(own, at, spread(at, _LINE), strict=True):
            yield {
                "x": math.log10(float(each.x[-1])) if panel.x.log else each.x[-1], "y": each.y[-1],
                "text": _text(each.name), "showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "standoff": 7,
                "ax": -22 if side else 22, "ay": wanted - found, "xanchor": "right" if side else "left", "font": {"size": 12},
                "arrowcolor": style_of(each.style).colour,
            }  # fmt: skip
