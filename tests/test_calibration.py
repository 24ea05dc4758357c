"""Calibration figures equal those of scikit-learn and statsmodels, and are never computed from ranks."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

from evaluate import Labels, Predictions, calibration_of
from evaluate.calibration import FIGURES, _share, equal_mass_bins
from evaluate.recalibration import MOST_IMAGES, Grouped, recalibration
from evaluate.resampling import bootstrap, effective_clusters, interval

RANDOM = np.random.default_rng(3)
SCORES = expit(RANDOM.normal(-1, 1.5, size=400))
TRUTH = RANDOM.random(400) < expit(0.4 + 0.6 * logit(SCORES))


def labels(truth) -> Labels:
    images = [f"I{i}" for i in range(len(truth))]
    patients = [f"P{i // 2}" for i in range(len(truth))]
    table = pd.DataFrame({"melanoma": truth, "patient": patients, "lesion": None}, index=images)
    return Labels(
        table=table, image_of=pd.Series(images, index=images), without_patient=0, path="l.csv", sha256=""
    )


def system(scores=SCORES, truth=TRUTH, kind="probability", resamples=200):
    table = pd.DataFrame({"image": [f"I{i}" for i in range(len(scores))], "score": scores})
    given = Predictions(system="mine", kind=kind, table=table)
    return calibration_of([given], labels(truth), resamples=resamples).systems[0]


def by_statsmodels(scores, truth, weights, slope=True):
    design = sm.add_constant(logit(scores)) if slope else np.ones((len(scores), 1))
    model = sm.GLM(
        truth.astype(float), design, family=sm.families.Binomial(), freq_weights=weights,
        offset=None if slope else logit(scores),
    )  # fmt: skip
    return model.fit(tol=1e-12).params


@pytest.mark.parametrize("slope", [True, False])
def test_recalibration_is_the_logistic_regression_of_statsmodels(slope):
    weights = RANDOM.integers(0, 4, size=(400, 3))
    found = recalibration(SCORES, TRUTH, weights, slope=slope)
    for resample in range(3):
        expected = by_statsmodels(SCORES, TRUTH, weights[:, resample], slope)
        assert found[: 1 + slope, resample] == pytest.approx(expected, abs=1e-7)
    assert slope or (found[1] == 1).all()


@given(st.floats(0.5, 5), st.floats(-3, 3))
def test_recalibration_undoes_what_was_done_to_the_scores(slope, intercept):
    ones = np.ones((400, 1))
    own = recalibration(SCORES, TRUTH, ones)[:, 0]
    changed = recalibration(expit((logit(SCORES) - intercept) / slope), TRUTH, ones)[:, 0]
    assert changed == pytest.approx([own[0] + own[1] * intercept, own[1] * slope], rel=1e-5, abs=1e-5)


def test_no_finite_recalibration_is_none():
    truth = np.arange(20) < 8
    for scores in (np.where(truth, 0.8, 0.2), np.full(20, 0.4)):
        assert np.isnan(recalibration(scores, truth, np.ones((20, 1)))).all()
    assert np.isnan(recalibration(SCORES, np.ones(400, bool), np.ones((400, 1)), slope=False)).all()


def test_figures_are_those_of_scikit_learn_and_have_intervals():
    found = system()
    metrics = found.metrics
    assert list(metrics) == list(FIGURES)
    assert metrics["brier"].value == pytest.approx(brier_score_loss(TRUTH, SCORES))
    intercept, slope = by_statsmodels(SCORES, TRUTH, np.ones(400))
    assert (metrics["intercept"].value, metrics["slope"].value) == pytest.approx((intercept, slope))
    assert metrics["in_the_large"].value == pytest.approx(
        by_statsmodels(SCORES, TRUTH, np.ones(400), slope=False)[0]
    )
    for name in ("brier", "slope", "intercept", "in_the_large"):
        assert metrics[name].low < metrics[name].value < metrics[name].high
    observed, mean = calibration_curve(TRUTH, SCORES, n_bins=10, strategy="quantile")
    assert [each.score for each in found.bins] == pytest.approx(mean)
    assert [each.observed.value for each in found.bins] == pytest.approx(observed)
    assert [each.n for each in found.bins] == [40] * 10
    assert metrics["ece"].value == pytest.approx(np.abs(observed - mean).mean())
    assert metrics["ece"].low is None
    assert metrics["ece"].reason.startswith("no interval")


def test_large_sets_are_grouped_without_a_difference_that_matters():
    """Resamples of grouped scores against those of single images; melanomas are rare and score high."""
    random = np.random.default_rng(2)
    n = 4 * MOST_IMAGES
    truth = random.random(n) < 0.003
    scores = expit(random.normal(-6, 1.5, size=n) + 2.5 * truth)
    clusters = np.arange(n) // 2
    grouped = Grouped(scores, truth, clusters)
    point = grouped.of_images()
    assert grouped.rows < n / 6
    assert point[:2][::-1] == pytest.approx(recalibration(scores, truth, np.ones((n, 1)))[:, 0])
    (weights,) = bootstrap(n // 2, 25, chunk=25)
    images = weights[clusters]
    found = grouped.of_resamples(weights)
    exact = [recalibration(scores, truth, images, slope=slope) for slope in (True, False)]
    for values, expected in zip(found, (exact[0][1], exact[0][0], exact[1][0]), strict=True):
        assert np.abs(values - expected).max() < 0.02 * expected.std()


def test_the_interval_of_the_brier_score_by_hand():
    metric = system(resamples=200).metrics["brier"]
    (weights,) = bootstrap(200, 200, chunk=200)
    images = weights[np.arange(400) // 2]
    drawn = ((SCORES - TRUTH) ** 2) @ images / images.sum(axis=0)
    size = effective_clusters(TRUTH, np.arange(400) // 2)
    assert (metric.low, metric.high) == pytest.approx(interval(drawn, size))


def test_small_sets_are_not_grouped():
    clusters = np.arange(400) // 2
    grouped = Grouped(SCORES, TRUTH, clusters)
    grouped.of_images()
    (weights,) = bootstrap(200, 10, chunk=10)
    exact = recalibration(SCORES, TRUTH, weights[clusters])
    assert grouped.rows == 400
    assert grouped.of_resamples(weights)[:2][::-1] == pytest.approx(exact, abs=1e-8)


def test_bins_have_wilson_intervals():
    for each in system().bins:
        expected = proportion_confint(each.positives, each.n, method="wilson")
        assert (each.observed.low, each.observed.high) == pytest.approx(expected)


def test_the_interval_of_a_share_holds_it_and_reaches_0_for_none_and_1_for_all():
    """Rounding put the lower end for none of 20 above 0, and the upper end for all of 29 below 1."""
    for n in range(1, 300):
        for positives in {0, 1, n // 2, n - 1, n}:
            found = _share(positives, n)
            assert 0 <= found.low <= found.value <= found.high <= 1
        assert _share(0, n).low == 0
        assert _share(n, n).high == 1


def test_intervals_cover_the_truth():
    """The slope of calibrated scores is 1; 40 sets hold it in all but a few of their intervals."""
    random = np.random.default_rng(1)
    held = []
    for _ in range(40):
        scores = expit(random.normal(-1, 1.5, size=300))
        slope = system(scores, random.random(300) < scores, resamples=100).metrics["slope"]
        held.append(slope.low <= 1 <= slope.high)
    assert 33 <= sum(held) <= 40


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_equal_scores_share_a_bin_and_order_is_kept(values):
    scores = np.array(values) / 6
    bins = equal_mass_bins(scores, 5)
    assert bins.min() == 0
    assert bins.max() < 5
    for one in np.unique(scores):
        assert len(set(bins[scores == one])) == 1
    assert (np.diff(bins[np.argsort(scores)]) >= 0).all()


def test_ranks_are_refused():
    found = system(kind="rank")
    assert found.bins == ()
    assert {metric.value for metric in found.metrics.values()} == {None}
    assert {metric.reason for metric in found.metrics.values()} == {
        "the scores are ranks, or not known to be probabilities"
    }


def test_a_probability_of_0_or_1_has_no_slope_but_a_brier_score():
    scores = np.where(np.arange(400) == 7, 1.0, SCORES)
    metrics = system(scores).metrics
    assert metrics["brier"].value == pytest.approx(brier_score_loss(TRUTH, scores))
    for name in ("slope", "intercept", "in_the_large"):
        assert metrics[name].value is None
        assert metrics[name].reason == "a score is exactly 0 or 1, where the logit is infinite"
