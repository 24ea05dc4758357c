"""Intervals and p-values in simulated studies whose truth is known, within the error of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.simulate_intervals import AUC, Design, Tally, draw, simulate, table, true_figures
from evaluate.delong import DeLong

INDEPENDENT = Design("independent", 300, (1,), 3)
CLUSTERED = Design("clustered", 150, (4,), 3)
STUDIES, RESAMPLES = 250, 400
WITHIN = 3.5
"""How many standard errors of the simulation a share may be off."""


@pytest.fixture(scope="module")
def shares() -> dict[tuple[str, str], Tally]:
    found = [
        each for design in (INDEPENDENT, CLUSTERED) for each in simulate(design, STUDIES, RESAMPLES, seed=1)
    ]
    return {(each.design, each.what): each for each in found}


def off(tally: Tally) -> float:
    """How far a share is from what it should be, in standard errors of the simulation."""
    return (tally.share - tally.nominal) / (tally.nominal * (1 - tally.nominal) / tally.studies) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("design", ["independent", "clustered"])
def test_the_clustered_bootstrap_keeps_its_word(shares: dict[tuple[str, str], Tally], design: str) -> None:
    checked = [
        tally
        for (name, what), tally in shares.items()
        if name == design and "bootstrap" in what and "specificity" not in what and "without" not in what
    ]
    assert len(checked) == 6
    for tally in checked:
        assert abs(off(tally)) < WITHIN, tally


@pytest.mark.slow
def test_delong_and_mcnemar_keep_theirs_where_images_are_independent(
    shares: dict[tuple[str, str], Tally],
) -> None:
    for (design, what), tally in shares.items():
        if design == "independent" and ("DeLong" in what or "fixed" in what):
            assert abs(off(tally)) < WITHIN, tally


@pytest.mark.slow
def test_what_the_documentation_warns_of_is_true(shares: dict[tuple[str, str], Tally]) -> None:
    """DeLong on clustered images, McNemar at chosen thresholds, and many pairs without Holm."""
    assert off(shares["clustered", "interval holds the ROC-AUC: DeLong"]) < -WITHIN
    for design in ("independent", "clustered"):
        assert off(shares[design, "two told apart by specificity: McNemar, chosen on the test set"]) > 10
        assert off(shares[design, "any of 3 told apart by ROC-AUC: bootstrap without Holm"]) > 2


def test_the_truth_is_what_the_studies_are_drawn_from() -> None:
    study = draw(Design("large", 100_000, (1, 3), 2), np.random.default_rng(0))
    assert len(study.melanoma) == 200_000
    assert study.melanoma.mean() == pytest.approx(0.2, abs=0.01)
    assert DeLong(study.scores, study.melanoma).aucs == pytest.approx([AUC, AUC], abs=0.005)
    within = study.scores[:, ~study.melanoma]
    assert within.std(axis=1) == pytest.approx([1, 1], abs=0.01)
    assert np.corrcoef(within)[0, 1] == pytest.approx(0.5, abs=0.01)
    auc, precision, specificity = true_figures(0)
    assert auc == AUC
    assert precision == pytest.approx(0.55, abs=0.05)
    assert specificity == pytest.approx(0.328, abs=0.001)


def test_the_table_shows_every_share_with_its_error() -> None:
    found = [Tally("one", "this", 0.95, 0.9, 100), Tally("two", "this", 0.95, 1.0, 100)]
    assert table(found).splitlines()[-1] == "| this | 0.95 | 0.900 ± 0.030 | 1.000 ± 0.000 |"
