"""DeLong against its definition, against another implementation, and where it must refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from evaluate import find, read_labels
from evaluate.alignment import align
from evaluate.delong import DeLong


def by_definition(scores, melanoma):
    """Areas and covariance from all pairs of a melanoma and another image, O(mn) (DeLong 1988)."""
    ill, well = scores[:, melanoma], scores[:, ~melanoma]
    wins = (ill[:, :, None] > well[:, None, :]) + 0.5 * (ill[:, :, None] == well[:, None, :])
    areas = wins.mean(axis=(1, 2))
    of_ill, of_well = (wins.mean(axis=axis) - areas[:, None] for axis in (2, 1))
    m, n = wins.shape[1:]
    return areas, of_ill @ of_ill.T / (m - 1) / m + of_well @ of_well.T / (n - 1) / n


@st.composite
def studies(draw):
    """Scores of one to four systems, with ties, and at least two images of each class."""
    m, n, systems = draw(st.integers(2, 12)), draw(st.integers(2, 12)), draw(st.integers(1, 4))
    values = draw(st.lists(st.integers(-5, 5), min_size=(m + n) * systems, max_size=(m + n) * systems))
    melanoma = np.array(draw(st.permutations([True] * m + [False] * n)))
    return np.array(values, dtype=float).reshape(systems, m + n) / 7, melanoma


@given(studies())
def test_areas_and_covariance_are_those_of_the_definition(study):
    scores, melanoma = study
    found = DeLong(scores, melanoma)
    areas, covariance = by_definition(scores, melanoma)
    assert found.aucs == pytest.approx(areas, abs=1e-12)
    assert found.aucs == pytest.approx([roc_auc_score(melanoma, each) for each in scores], abs=1e-12)
    assert found.covariance == pytest.approx(covariance, abs=1e-12)
    for a in range(len(scores)):
        assert found.auc(a).variance == pytest.approx(covariance[a, a], abs=1e-12)
        for b in range(len(scores)):
            expected = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
            assert found.difference(a, b).variance == pytest.approx(expected, abs=1e-12)
            assert found.difference(a, b).value == pytest.approx(areas[a] - areas[b], abs=1e-12)


@given(studies())
def test_only_the_order_of_scores_matters(study):
    scores, melanoma = study
    one, other = DeLong(scores, melanoma), DeLong(np.exp(3 * scores) - 1, melanoma)
    assert np.array_equal(one.aucs, other.aucs)
    assert np.array_equal(one.covariance, other.covariance)


@given(studies())
def test_systems_that_rank_alike_have_no_variance(study):
    scores, melanoma = study
    found = DeLong(np.vstack([scores[0], 2 * scores[0] + 1]), melanoma).difference(0, 1)
    assert (found.value, found.variance, found.p) == (0, 0, 1)
    assert found.low is found.high is None
    assert found.reason.startswith("degenerate")


def test_areas_without_variance_are_told():
    melanoma = np.arange(20) < 5
    best, worst = np.where(melanoma, 1.0, 0.0), np.where(melanoma, 0.0, 1.0)
    found = DeLong(np.vstack([best, worst]), melanoma)
    assert found.aucs.tolist() == [1, 0]
    assert found.auc(0).low is None
    assert found.difference(0, 1).value == 1
    assert found.difference(0, 1).p is None


@pytest.mark.parametrize("positives", [0, 1, 19, 20])
def test_fewer_than_two_of_a_class_are_told(positives):
    scores = np.random.default_rng(0).normal(size=(2, 20))
    found = DeLong(scores, np.arange(20) < positives)
    assert np.isnan(found.aucs).all() == (positives in (0, 20))
    assert found.difference(0, 1).p is None
    assert found.auc(0).reason == "needs two images of each class"


def test_intervals_and_p_values_are_those_of_the_normal_distribution():
    """Two systems whose figures can be worked out by hand."""
    melanoma = np.array([True, True, True, False, False])
    scores = np.array([[3, 3, 3, 1, 2], [2, 0, 2, 1, 1]], dtype=float)
    found = DeLong(scores, melanoma)
    assert found.aucs == pytest.approx([1, 2 / 3])
    # Components of the second system: melanomas 1, 0, 1; others 2/3, 2/3.
    variance = np.var([1, 0, 1], ddof=1) / 3
    assert found.auc(1).variance == pytest.approx(variance)
    assert found.auc(1).high == pytest.approx(2 / 3 + 1.959964 * variance**0.5)
    assert found.difference(0, 1).p == pytest.approx(2 * (1 - 0.841345), abs=1e-5)  # z = 1
    assert found.difference(1, 0).p == found.difference(0, 1).p


def obuchowski(scores, melanoma, clusters):
    """Variance of clustered areas as in the paper, cluster by cluster (Obuchowski 1997, equations 3 to 7)."""
    ill, well = scores[:, melanoma], scores[:, ~melanoma]
    wins = (ill[:, :, None] > well[:, None, :]) + 0.5 * (ill[:, :, None] == well[:, None, :])
    areas = wins.mean(axis=(1, 2))
    m, n = wins.shape[1:]
    found = np.zeros((len(scores), len(scores)))
    units = np.unique(clusters)
    with_ill = [u for u in units if (clusters[melanoma] == u).any()]
    with_well = [u for u in units if (clusters[~melanoma] == u).any()]

    def part(components, own, unit):
        return (components[:, own == unit] - areas[:, None]).sum(axis=1)

    v10, v01 = wins.mean(axis=2), wins.mean(axis=1)
    of_ill, of_well = clusters[melanoma], clusters[~melanoma]
    for unit in with_ill:
        each = part(v10, of_ill, unit)
        found += len(with_ill) / ((len(with_ill) - 1) * m) * np.outer(each, each) / m
    for unit in with_well:
        each = part(v01, of_well, unit)
        found += len(with_well) / ((len(with_well) - 1) * n) * np.outer(each, each) / n
    for unit in units:
        cross = np.outer(part(v10, of_ill, unit), part(v01, of_well, unit))
        found += len(units) / (len(units) - 1) * (cross + cross.T) / (m * n)
    return found


@given(studies(), st.integers(0, 2**32))
def test_with_clusters_the_covariance_is_that_of_obuchowski(study, seed):
    scores, melanoma = study
    _, clusters = np.unique(np.random.default_rng(seed).integers(6, size=len(melanoma)), return_inverse=True)
    found = DeLong(scores, melanoma, clusters)
    if min(len(set(clusters[melanoma])), len(set(clusters[~melanoma]))) < 2:
        assert found.auc(0).reason == "needs two patients of each class"
        return
    assert found.aucs == pytest.approx(DeLong(scores, melanoma).aucs)
    assert found.covariance == pytest.approx(obuchowski(scores, melanoma, clusters), abs=1e-12)


@given(studies())
def test_clusters_of_single_images_change_only_the_quantile(study):
    scores, melanoma = study
    plain, single = DeLong(scores, melanoma), DeLong(scores, melanoma, np.arange(len(melanoma)))
    assert single.covariance == pytest.approx(plain.covariance, abs=1e-15)
    degrees = min(melanoma.sum(), (~melanoma).sum()) - 1
    if plain.auc(0).low is not None:
        reach = stats.t.ppf(0.975, degrees) * plain.auc(0).variance ** 0.5
        assert single.auc(0).high == pytest.approx(plain.aucs[0] + reach)


def test_the_published_scores_as_another_program_has_them(proveai):
    """What mlstatkit 0.1.91 gives for the published scores of SGE-B3 and Second_place."""
    labels = read_labels(proveai / "test.csv")
    read = {each.system: each for each in find(proveai / "predictions")[0]}
    scores = np.stack([align(read[name], labels).scores for name in ("sge_b3", "second_place")])
    found = DeLong(scores, labels.table["melanoma"].to_numpy())
    assert found.aucs == pytest.approx([0.815209283050145, 0.7867074181516784], abs=1e-12)
    assert found.auc(0)[2:4] == pytest.approx((0.7631174190763147, 0.8673011470239752), abs=1e-9)
    assert found.auc(1)[2:4] == pytest.approx((0.7344271505297931, 0.8389876857735638), abs=1e-9)
    assert found.difference(0, 1).variance == pytest.approx(0.0005144306033298733, abs=1e-15)
    assert found.difference(0, 1).p == pytest.approx(0.20888507264191358, abs=1e-9)
