"""Every metric equals scikit-learn's on the images repeated as often as they weigh."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as reference

from evaluate import find, read_labels
from evaluate.alignment import align
from evaluate.measure import measure, replicates, threshold
from evaluate.metrics import AT_POINT
from evaluate.protocols import PROTOCOLS, Column, OperatingPoint
from evaluate.ranking import Ranking
from evaluate.resampling import bootstrap

COLUMNS = {column.name: column for protocol in PROTOCOLS.values() for column in protocol.columns}
AT_POINTS = [
    Column(name=metric, title="", definition="", metric=metric, point=point)
    for metric in AT_POINT
    for point in (
        OperatingPoint(by="sensitivity", value=0.9),
        OperatingPoint(by="specificity", value=0.9),
        OperatingPoint(by="threshold", value=np.inf),
    )
]
EXACT = {"rel": 0, "abs": 1e-12}


def isic_2024(truth: np.ndarray, scores: np.ndarray, least: float = 0.8) -> float:
    """The challenge's published scoring code: labels and scores flipped, capped, and McClish's scaling undone."""
    max_fpr = abs(1 - least)
    scaled = reference.roc_auc_score(1 - truth, -1.0 * scores, max_fpr=max_fpr)
    guess = 0.5 * max_fpr**2
    return guess + (max_fpr - guess) / (1.0 - 0.5) * (scaled - 0.5)


def auc_above_sensitivity(truth: np.ndarray, scores: np.ndarray, least: float = 0.8) -> float:
    """What the archive's own scorer (isic-challenge-scoring 5) computes: the area under the curve to the right
    of where it reaches the sensitivity, down to the axis."""
    passed, reached, _ = reference.roc_curve(truth, scores, drop_intermediate=False)
    index = reached.searchsorted(least, side="left")
    first = np.interp(least, reached[index - 1 : index + 1], passed[index - 1 : index + 1])
    return reference.auc([first, *passed[index:]], [least, *reached[index:]]), first


def by_scikit_learn(column: Column, truth: np.ndarray, scores: np.ndarray) -> float:
    match column.metric:
        case "roc_auc":
            return reference.roc_auc_score(truth, scores)
        case "average_precision":
            return reference.average_precision_score(truth, scores)
        case "partial_auc":
            return isic_2024(truth, scores)
    cut = column.point.value
    if column.point.by == "sensitivity":
        _, reached, cuts = reference.roc_curve(truth, scores, drop_intermediate=False)
        cut = cuts[np.argmax(reached >= column.point.value)]
    if column.point.by == "specificity":
        passed, reached, cuts = reference.roc_curve(truth, scores, drop_intermediate=False)
        # Counts, since 1 - 0.1 is not 0.9.
        kept = np.round((1 - passed) * np.sum(~truth)) / np.sum(~truth) >= column.point.value
        cut = cuts[np.argmax(reached == reached[kept].max())]
    called = scores >= cut
    tp, fp, fn, tn = (np.float64(np.sum(cell)) for cell in (
        truth & called, ~truth & called, truth & ~called, ~truth & ~called
    ))  # fmt: skip
    match column.metric:
        case "sensitivity":
            return reference.recall_score(truth, called)
        case "specificity":
            return reference.recall_score(truth, called, pos_label=0)
        case "ppv":
            return reference.precision_score(truth, called, zero_division=np.nan)
        case "npv":
            return reference.precision_score(truth, called, pos_label=0, zero_division=np.nan)
        case "number_needed_to_biopsy":
            return (tp + fp) / tp
        case "likelihood_ratio_positive":
            return (tp / (tp + fn)) / (fp / (fp + tn))
        case "likelihood_ratio_negative":
            return (fn / (tp + fn)) / (tn / (fp + tn))
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


@given(cases())
def test_metrics_are_those_of_scikit_learn(case):
    agree_with_scikit_learn(case, tuple(COLUMNS.values()))


@settings(max_examples=25)
@given(cases())
def test_metrics_at_points_are_those_of_scikit_learn(case):
    agree_with_scikit_learn(case, AT_POINTS)


def agree_with_scikit_learn(case, columns):
    scores, truth, clusters, weights = case
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
                with np.errstate(divide="ignore", invalid="ignore"):
                    expected = by_scikit_learn(column, repeated, its_scores)
                assert value == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), column


@given(cases())
def test_the_partial_area_and_a_rectangle_are_the_area_of_the_archives_scorer(case):
    """It counts what lies below the line of 80% too: 0.8 high, and as wide as what is right of the crossing."""
    scores, truth, clusters, _ = case
    ranking = Ranking(scores, truth, clusters)
    found = measure(ranking, [COLUMNS["partial_auc"]], ranking.unweighted).item()
    area, first = auc_above_sensitivity(truth, scores)
    assert found + 0.8 * (1 - first) == pytest.approx(area, abs=1e-12)


@given(cases())
def test_the_partial_area_is_that_of_the_archives_scorer_itself(case):
    scorer = pytest.importorskip("isic_challenge_scoring.metrics", reason="needs isic-challenge-scoring")
    scores, truth, clusters, weights = case
    ranking = Ranking(scores, truth, clusters)
    for drawn in (ranking.unweighted, weights[:, :1]):
        times = drawn[clusters, 0]
        if len({*truth[times > 0]}) < 2:
            continue
        found = measure(ranking, tuple(COLUMNS.values())[:3], drawn)[:, 0]
        given_ = (pd.Series(truth.astype(float)), pd.Series(scores), pd.Series(times.astype(float)))
        repeated, its_scores = np.repeat(truth, times), np.repeat(scores, times)
        _, first = auc_above_sensitivity(repeated, its_scores)
        assert found[2] + 0.8 * (1 - first) == pytest.approx(
            scorer.auc_above_sensitivity(*given_, 0.8), abs=1e-9
        )
        assert found[0] == pytest.approx(scorer.auc(*given_), abs=1e-12)
        assert found[1] == pytest.approx(scorer.average_precision(*given_), abs=1e-12)


ARCHIVE_AREA = {
    "first_place": 0.6722337339411522, "s2_cbam_b3": 0.5845627849150435, "s2_mlp_b3": 0.5735598839618732,
    "sge_b3": 0.6094695399917116, "second_place": 0.5595317032739329, "spatial_b3": 0.5807915457936179,
    "third_place": 0.4663282221301285,
}  # fmt: skip
"""What `auc_above_sensitivity` of isic-challenge-scoring 5.6.0 gives for the published scores at 80%."""


def test_the_published_scores_as_the_archives_scorer_has_them(proveai):
    labels = read_labels(proveai / "test.csv")
    truth = labels.table["melanoma"].to_numpy()
    found = {}
    for each in find(proveai / "predictions")[0]:
        scores = align(each, labels).scores
        ranking = Ranking(scores, truth, np.arange(len(truth)))
        partial = measure(ranking, [COLUMNS["partial_auc"]], ranking.unweighted).item()
        assert partial == pytest.approx(isic_2024(truth, scores), abs=1e-12)
        found[each.system] = partial + 0.8 * (1 - auc_above_sensitivity(truth, scores)[1])
    assert found == pytest.approx(ARCHIVE_AREA, abs=1e-12)


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


@given(cases(), st.sampled_from([0.5, 0.9, 1.0]))
def test_no_threshold_of_that_specificity_has_a_higher_sensitivity(case, target):
    scores, truth, clusters, _ = case
    ranking = Ranking(scores, truth, clusters)
    cut = threshold(ranking, OperatingPoint(by="specificity", value=target))
    cuts = [*np.unique(scores), np.inf]
    best = max(np.mean(scores[truth] >= each) for each in cuts if np.mean(scores[~truth] < each) >= target)
    assert np.mean(scores[~truth] < cut) >= target
    assert np.mean(scores[truth] >= cut) == best


@given(cases(), st.floats(0.01, 0.99))
def test_prevalence_follows_bayes_theorem_and_leaves_the_rest(case, prevalence):
    scores, truth, clusters, _ = case
    ranking = Ranking(scores, truth, clusters)
    point = OperatingPoint(by="sensitivity", value=0.9)
    columns = [Column(name=name, title="", definition="", metric=name, point=point) for name in AT_POINT]
    found, plain = (
        dict(zip(AT_POINT, measure(ranking, columns, ranking.unweighted, share)[:, 0], strict=True))
        for share in (prevalence, None)
    )
    se, sp = plain["sensitivity"], plain["specificity"]
    assert found["ppv"] == pytest.approx(se * prevalence / (se * prevalence + (1 - sp) * (1 - prevalence)))
    assert found["number_needed_to_biopsy"] == pytest.approx(1 / found["ppv"])
    if not np.isnan(found["npv"]):
        passed = sp * (1 - prevalence)
        assert found["npv"] == pytest.approx(passed / (passed + (1 - se) * prevalence))
    for name in ("sensitivity", "specificity", "balanced_accuracy", "likelihood_ratio_positive"):
        assert found[name] == pytest.approx(plain[name], nan_ok=True)
    same = measure(ranking, columns, ranking.unweighted, truth.mean())[:, 0]
    assert same == pytest.approx(np.array(list(plain.values())), nan_ok=True)


@given(cases())
def test_a_part_of_the_images_is_counted_at_the_thresholds_of_all(case):
    scores, truth, clusters, weights = case
    mask = np.arange(len(scores)) % 3 > 0
    whole = Ranking(scores, truth, clusters)
    part = whole.within(mask).curve(weights)
    times = weights[clusters]
    for index, cut in enumerate(whole.thresholds):
        called = (mask & (scores >= cut))[:, np.newaxis] * times
        assert part.true_positives[index].tolist() == called[truth].sum(axis=0).tolist()
        assert part.false_positives[index].tolist() == called[~truth].sum(axis=0).tolist()
    if len({*truth[mask]}) == 2:
        alone = Ranking(scores[mask], truth[mask], np.arange(mask.sum()))
        columns = [COLUMNS[name] for name in ("roc_auc", "average_precision", "partial_auc")]
        one = whole.within(mask)
        assert measure(one, columns, one.unweighted) == pytest.approx(
            measure(alone, columns, alone.unweighted), abs=1e-12
        )


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
    monkeypatch.setattr("evaluate.measure._NARROWEST", 1)
    widths = []
    counted = Ranking.curve
    monkeypatch.setattr(Ranking, "curve", lambda self, w: widths.append(w.shape[1]) or counted(self, w))
    assert np.array_equal(replicates(systems, columns, 50, seed=7), whole)
    assert set(widths) == {4, 2}
