"""All figures of a record, in the order of the page."""

from __future__ import annotations

from reports.charts.clinic import clinic_charts
from reports.charts.costs import cost_charts
from reports.charts.curves import curve_charts
from reports.charts.forest import forest_chart
from reports.charts.model import Chart
from reports.record import Record


def charts(record: Record) -> list[Chart]:
    """Every figure; one that cannot be drawn says why."""
    return [
        *cost_charts(record),
        *curve_charts(record),
        forest_chart(record),
        *clinic_charts(record),
    ]
