"""Intervals and p-values in simulated studies whose truth is known, within the error of the simulation."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import bench_scores
from benchmarks.simulate_intervals import (
    AUC,
    Design,
    Tally,
    Width,
    draw,
    simulate,
    table,
    true_figures,
    widths,
)
from evaluate.delong import DeLong

INDEPENDENT = Design("independent", 300, (1,), 3)
CLUSTERED = Design("clustered", 150, (4,), 3)
STUDIES, RESAMPLES = 250, 400
WITHIN = 3.5
"""How many standard errors of the simulation a share may be off."""

CAUTIOUS = (
    "interval holds the specificity difference: bootstrap",
    "two told apart by specificity: bootstrap",
)
"""What errs on the safe side (docs/methods.md)."""


@pytest.fixture(scope="module")
def shares() -> dict[tuple[str, str], Tally]:
    found = [
        each
        for design in (INDEPENDENT, CLUSTERED)
        for each in simulate(design, STUDIES, RESAMPLES, seed=1)[0]
    ]
    return {(each.design, each.what): each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize("design", ["independent", "clustered"])
def test_what_is_shown_keeps_its_word(shares: dict[tuple[str, str], Tally], design: str) -> None:
    """Clustered bootstrap, DeLong and McNemar with patients kept together: coverage and type-I errors."""
    checked = [
        tally
        for (name, what), tally in shares.items()
        if name == design
        and not any(word in what for word in ("by image", "not expanded", "without", "chosen", *CAUTIOUS))
    ]
    assert len(checked) == 14
    for tally in checked:
        assert abs(tally.off) < WITHIN, tally


@pytest.mark.slow
@pytest.mark.parametrize("design", ["independent", "clustered"])
def test_specificity_at_a_chosen_threshold_errs_on_the_safe_side(
    shares: dict[tuple[str, str], Tally], design: str
) -> None:
    held, apart = (shares[design, what] for what in CAUTIOUS)
    assert held.off > -WITHIN
    assert apart.off < WITHIN


@pytest.mark.slow
def test_what_takes_images_for_independent_keeps_its_word_where_they_are(
    shares: dict[tuple[str, str], Tally],
) -> None:
    checked = [
        tally for (design, what), tally in shares.items() if design == "independent" and "by image" in what
    ]
    assert len(checked) == 5
    for tally in checked:
        assert (abs(tally.off) < WITHIN) == ("chosen" not in tally.what), tally


@pytest.mark.slow
def test_what_the_documentation_warns_of_is_true(shares: dict[tuple[str, str], Tally]) -> None:
    """Images taken for independent, McNemar at chosen thresholds, and many pairs without Holm."""
    assert shares["clustered", "interval holds the ROC-AUC: DeLong, by image"].off < -WITHIN
    assert shares["clustered", "two told apart by specificity: McNemar, by image, fixed threshold"].off > 2
    for design in ("independent", "clustered"):
        assert shares[design, "two told apart by specificity: McNemar, chosen on the test set"].off > 10
        assert shares[design, "any of 3 told apart by ROC-AUC: bootstrap without Holm"].off > 2


def test_the_expanded_interval_is_the_wider() -> None:
    """In few studies too: what holds the truth without being expanded holds it expanded."""
    tallies, found = simulate(Design("small", 30, (4,), 2), 40, 200, seed=3)
    shares = {each.what: each.share for each in tallies}
    plain, expanded = (
        shares[f"interval holds the ROC-AUC: bootstrap{more}"] for more in (", not expanded", "")
    )
    assert plain <= expanded
    assert {each.what for each in found} == {
        f"{figure} difference" for figure in ("ROC-AUC", "average precision", "specificity")
    }
    assert all(0.5 < each.ratio < 2.5 for each in found)


def test_the_benchmark_compares_like_with_like() -> None:
    """The loop over scikit-learn that the benchmark times gives the engine's figures."""
    random = np.random.default_rng(0)
    truth = np.arange(bench_scores.IMAGES) % 6 == 0
    clusters = np.arange(bench_scores.IMAGES) % bench_scores.PATIENTS
    scores = random.normal(size=(2, bench_scores.IMAGES)) + truth
    expected = bench_scores.loop(scores, truth, clusters, 3)
    assert np.allclose(bench_scores.engine(scores, truth, clusters, 3), expected, rtol=0, atol=1e-12)


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
    assert table(found).splitlines()[-1] == "| this | 0.95 | 0.900 ± 0.030* | 1.000 ± 0.000* |"
    assert "0.940 ± 0.024 |" in table([Tally("one", "this", 0.95, 0.94, 100)])
    assert widths([Width("one", "this", 1.034)]).splitlines()[-1] == "| this | 1 | 1.03 |"
