"""Charts of figures without an interval, or with one that does not hold them; and why a panel is empty."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

from evaluate.clinical import Request, clinical
from evaluate.labels import read_labels
from evaluate.predictions import Kind, Predictions
from reports.charts.clinic import clinic_charts
from reports.charts.costs import cost_charts
from reports.charts.model import Chart, Panel, Series, share
from reports.charts.printed import draw
from reports.record import Record


def chart(series: Series) -> Chart:
    panel = Panel(x=share("Score"), y=share("Share"), series=(series,))
    return Chart(name="one", title="One", about="One series.", panels=(panel,))


def asked(record: Record, made_up: Path, kind: Kind) -> dict[str, Chart]:
    """Charts of the record with decision curves of one system, which calls no lesion."""
    labels = read_labels(made_up / "labels.csv")
    table = pd.DataFrame({"image": labels.table.index, "score": 0.01})
    predictions = Predictions(system="sge_b3", kind=kind, table=table)
    found = clinical([predictions], labels, Request(decision_curves=True), resamples=50)
    return named(msgspec.structs.replace(record, clinical=found))


def named(record: Record) -> dict[str, Chart]:
    return {each.name: each for each in (*cost_charts(record), *clinic_charts(record))}


def test_a_bar_ends_at_a_figure_that_lies_outside_its_interval() -> None:
    """A percentile interval need not hold its figure; any other may miss it by rounding."""
    beside = Series(name="mine", x=(0.5, 0.7), y=(0.3, 0.9), low=(0.4, 0.2), high=(0.6, 0.8), style=0)
    (axis,) = draw(chart(beside)).axes
    (bars,) = axis.containers
    ends = np.array(bars.lines[2][0].get_segments())
    assert np.allclose(ends, [[[0.5, 0.3], [0.5, 0.6]], [[0.7, 0.2], [0.7, 0.9]]])


@pytest.mark.parametrize(("low", "high", "bands"), [(None, None, 0), (0.1, 0.4, 1)])
def test_a_band_is_drawn_where_a_point_has_an_interval(
    low: float | None, high: float | None, bands: int
) -> None:
    ends = {"low": (None, low, low), "high": (None, high, high)}
    line = Series(name="mine", x=(0.1, 0.2, 0.3), y=(0.2, 0.3, 0.3), **ends, look="band", style=0)
    (axis,) = draw(chart(line)).axes
    assert (len(axis.lines), len(axis.collections)) == (1, bands)


def test_a_decision_curve_without_any_interval_is_drawn(record: Record, made_up: Path) -> None:
    curve = asked(record, made_up, "probability")["decision_curves"]
    (series,) = curve.panels[0].series
    assert set(series.low) == {None}
    (axis,) = draw(curve).axes
    assert len(axis.lines) == 3, "excise all, excise none and the system"
    assert len(axis.collections) == 0


def test_an_empty_panel_says_what_was_missing(record: Record, made_up: Path) -> None:
    not_asked = "net benefit was not asked for (compare --decision-curves)"
    without = named(record)
    assert without["decision_curves"].empty == without["net_benefit_by_cost"].empty == not_asked
    ranks = asked(record, made_up, "rank")
    assert ranks["decision_curves"].empty == "no scores are known to be probabilities"
    assert (
        ranks["net_benefit_by_cost"].empty
        == "Net benefit: the scores are ranks, or not known to be probabilities"
    )
    baseline = record.entry("baseline_b3")
    assert baseline is not None
    unscored = named(msgspec.structs.replace(record, entries=(baseline,)))
    assert unscored["auc_by_parameters"].empty == "ROC-AUC: no predictions"
    assert unscored["auc_by_cost"].empty == "ROC-AUC: no predictions"
