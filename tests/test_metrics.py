"""Every metric equals scikit-learn's on the images repeated as often as they weigh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from evaluate.measure import measure, replicates, threshold
from evaluate.metrics import Ranking
from evaluate.protocols import PROTOCOLS, Column, OperatingPoint
from evaluate.resampling import bootstrap

COLUMNS = {column.name: column for protocol in PROTOCOLS.values() for column in protocol.columns}
EXACT = {"rel": 0, "abs": 1e-12}


def by_scikit_learn(column: Column, truth: np.ndarray, scores: np.ndarray) -> float:
    match column.metric:
        case "roc_auc":
            return reference.roc_auc_score(truth, scores)
        case "average_precision":
            return reference.average_precision_score(truth, scores)
    cut = column.point.value
    if column.point.by == "sensitivity":
        _, reached, cuts = reference.roc_curve(truth, scores, drop_intermediate=False)
        cut = cuts[np.argmax(reached >= column.point.value)]
    called = scores >= cut
    match column.metric:
        case "sensitivity":
            return reference.recall_score(truth, called)
        case "specificity":
            return reference.recall_score(truth, called, pos_label=0)
        case "balanced_accuracy":
            return reference.balanced_accuracy_score(truth, called)
        case "accuracy":
            return reference.accuracy_score(truth, called)
        case "f1":
            return reference.f1_score(truth, called)
        case "f1_weighted":
            return reference.f1_score(truth, called, average="weighted")
    raise AssertionError(column.metric)


@st.composite
def cases(draw):
    """Scores with many ties or none, labels of any balance, clusters, and integer weights of them."""
    n = draw(st.integers(2, 40))
    values = draw(st.sampled_from([st.integers(0, 4).map(lambda k: k / 4), st.floats(0, 1)]))
    scores = draw(arrays(np.float64, n, elements=values))
    truth = draw(arrays(np.bool_, n))
    truth[:2] = draw(st.permutations([True, False]))
    _, clusters = np.unique(draw(arrays(np.int64, n, elements=st.integers(0, n))), return_inverse=True)
    weights = draw(arrays(np.int32, (int(clusters.max()) + 1, 3), elements=st.integers(0, 4)))
    return scores, truth, clusters, weights


@settings(deadline=None)
@given(cases())
def test_metrics_are_those_of_scikit_learn(case):
    scores, truth, clusters, weights = case
    columns = tuple(COLUMNS.values())
    ranking = Ranking(scores, truth, clusters)
    for drawn in (ranking.unweighted, weights):
        values = measure(ranking, columns, drawn)
        for resample in range(drawn.shape[1]):
            times = drawn[clusters, resample]
            repeated, its_scores = np.repeat(truth, times), np.repeat(scores, times)
            if len(set(repeated)) < 2:
                assert np.isnan(values[:, resample]).all()
                continue
            for column, value in zip(columns, values[:, resample], strict=True):
                expected = by_scikit_learn(column, repeated, its_scores)
                assert value == pytest.approx(expected, **EXACT), column.name


@settings(deadline=None)
@given(cases(), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_no_threshold_of_that_sensitivity_has_a_higher_specificity(case, target):
    scores, truth, clusters, _ = case
    ranking = Ranking(scores, truth, clusters)
    point = OperatingPoint(by="sensitivity", value=target)
    best = max(
        np.mean(scores[~truth] < cut) for cut in np.unique(scores) if np.mean(scores[truth] >= cut) >= target
    )
    cut = threshold(ranking, point)
    assert np.mean(scores[truth] >= cut) >= target
    assert np.mean(scores[~truth] < cut) == best


def test_a_score_equal_to_a_fixed_threshold_is_called():
    ranking = Ranking(np.array([0.5, 0.4]), np.array([True, False]), np.arange(2))
    point = OperatingPoint(by="threshold", value=0.5)
    column = Column(name="a", title="a", definition="a", metric="accuracy", point=point)
    assert measure(ranking, (column,), ranking.unweighted).item() == 1
    assert threshold(ranking, point) == 0.5


def rankings(n: int, systems: int, patients: int) -> list[Ranking]:
    random = np.random.default_rng(5)
    truth = np.arange(n) % 6 == 0
    clusters = np.arange(n) % patients
    return [Ranking(random.random(n) + 0.2 * truth, truth, clusters) for _ in range(systems)]


def test_replicates_are_the_metrics_of_the_bootstrap_resamples():
    systems, columns = rankings(60, 2, 25), tuple(COLUMNS.values())
    found = replicates(systems, columns, 50, seed=7)
    (weights,) = bootstrap(25, 50, seed=7)
    assert found.shape == (2, len(columns), 50)
    for ranking, values in zip(systems, found, strict=True):
        assert np.array_equal(values, measure(ranking, columns, weights))


def test_memory_does_not_grow_with_the_number_of_resamples(monkeypatch):
    systems, columns = rankings(60, 2, 25), tuple(COLUMNS.values())
    whole = replicates(systems, columns, 50, seed=7)
    monkeypatch.setattr("evaluate.measure._CELLS", 100)
    widths = []
    counted = Ranking.curve
    monkeypatch.setattr(Ranking, "curve", lambda self, w: widths.append(w.shape[1]) or counted(self, w))
    assert np.array_equal(replicates(systems, columns, 50, seed=7), whole)
    assert set(widths) == {4, 2}
