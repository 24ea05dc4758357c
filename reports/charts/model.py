"""What a figure shows, without how it is drawn."""

from __future__ import annotations

from typing import Literal

import msgspec


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """An axis.

    Attributes:
        title: What it measures, with the unit.
        log: Whether it is logarithmic.
        low: Where it begins; chosen by the drawing where None.
        high: Where it ends.
        categories: Names instead of numbers, from the top down.
    """

    title: str
    log: bool = False
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()


def share(title: str) -> Axis:
    """An axis of shares, from 0 to 1."""
    return Axis(title=title, low=0.0, high=1.0)


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Points that belong together.

    Attributes:
        name: Its name in the legend.
        x: Where the points are; on an axis of categories their names.
        y: The same upwards.
        low: Lower end of each interval; None where there is none. Empty for a series without.
        high: Upper end.
        along: The axis of the intervals.
        look: Single points, a line, or a line with a band of its intervals.
        style: Which colour, marker and line: the same number in all figures for the same system.
        hollow: Whether it is what the others are measured against.
        labelled: Whether its name stands beside its last point.
        listed: Whether it stands in the legend, where it is not labelled.
        notes: What is shown when a point is pointed at, beside its figures.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float | str, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    along: Literal["x", "y"] = "y"
    look: Literal["points", "line", "steps", "dotted", "band"] = "points"
    style: int
    hollow: bool = False
    labelled: bool = False
    listed: bool = True
    notes: tuple[str, ...] = ()


class Guide(msgspec.Struct, frozen=True, kw_only=True):
    """A thin line to read the points by, such as that of guessing.

    Attributes:
        name: What it stands for.
        x: Two or more places.
        y: As many.
        listed: Whether it stands in the legend.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float | str, ...]
    listed: bool = False


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of axes.

    Attributes:
        title: What stands above it; empty where the chart's own title says it.
        x: The axis across.
        y: The axis upwards.
        series: What is drawn.
        guides: Lines to read it by.
        empty: Why nothing is drawn.
    """

    title: str = ""
    x: Axis
    y: Axis
    series: tuple[Series, ...] = ()
    guides: tuple[Guide, ...] = ()
    empty: str = ""


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of one or more panels.

    Attributes:
        name: What its file is called.
        title: What it shows, in a line.
        about: The same in words, for a reader who does not see it.
        panels: Its panels.
        notes: What a reader must know to read it right.
        table: Title of the table that has its figures.
    """

    name: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    table: str = ""

    @property
    def empty(self) -> str:
        """Why nothing of it is drawn; empty where something is."""
        return "; ".join(dict.fromkeys(panel.empty for panel in self.panels)) if self.blank else ""

    @property
    def blank(self) -> bool:
        """Whether no panel shows anything."""
        return all(panel.empty for panel in self.panels)
