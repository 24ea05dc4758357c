"""Differences and their p-values: the laws of each, against statsmodels, and on the published scores."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from evaluate import Labels, Predictions, find, read_labels, score
from evaluate.measure import measure
from evaluate.paired import against, holm
from evaluate.protocols import PROTOCOLS
from evaluate.ranking import Ranking
from evaluate.resampling import bootstrap, effective_clusters, interval, p_value
from evaluate.textbook import mcnemar, mcnemar_clustered

RANDOM = np.random.default_rng(5)
TRUTH = np.arange(160) % 4 == 0
PATIENTS = np.arange(160) // 2
COMMON = RANDOM.normal(size=160)
SCORES = {
    name: 1 / (1 + np.exp(-gain * TRUTH - COMMON - 0.6 * RANDOM.normal(size=160)))
    for name, gain in {"best": 2.2, "good": 1.6, "like good": 1.6, "poor": 0.3}.items()
}


def labels(truth=TRUTH, patients=PATIENTS):
    images = [f"I{i}" for i in range(len(truth))]
    table = pd.DataFrame({"melanoma": truth, "patient": patients, "lesion": None}, index=images)
    return Labels(
        table=table,
        image_of=pd.Series(images, index=images),
        without_patient=0,
        path="labels.csv",
        sha256="0",
    )


def predictions(name, scores):
    table = pd.DataFrame({"image": [f"I{i}" for i in range(len(scores))], "score": scores})
    return Predictions(system=name, kind="probability", table=table)


def scored(protocol="clinical", **options):
    return score([predictions(*each) for each in SCORES.items()], labels(), protocol, **options)


@pytest.fixture(scope="module")
def clinical():
    return scored()


def test_every_figure_of_every_pair_is_there_once(clinical):
    expected = [
        (a, b, column.name) for column in PROTOCOLS["clinical"].columns for a, b in combinations(SCORES, 2)
    ]
    assert [(each.a, each.b, each.metric) for each in clinical.differences] == expected


def test_a_difference_is_that_of_both_systems_in_the_same_resamples(clinical):
    """Against resamples made of repeated rows, one by one."""
    columns = PROTOCOLS["clinical"].columns
    (weights,) = bootstrap(PATIENTS.max() + 1, 60, seed=3, chunk=60)
    drawn = np.empty((2, len(columns), 60))
    for resample, times in enumerate(weights[PATIENTS].T):
        rows = np.repeat(np.arange(160), times)
        for system, name in enumerate(["best", "poor"]):
            ranking = Ranking(SCORES[name][rows], TRUTH[rows], np.zeros(len(rows), dtype=np.intp))
            drawn[system, :, resample] = measure(ranking, columns, ranking.unweighted)[:, 0]
    found = {
        each.metric: each
        for each in scored(resamples=60, seed=3).differences
        if (each.a, each.b) == ("best", "poor")
    }
    metrics = {each.system: each.metrics for each in clinical.systems}
    size = effective_clusters(TRUTH, PATIENTS)
    for figure, column in enumerate(columns):
        difference = found[column.name]
        a, b = (metrics[name][column.name].value for name in ("best", "poor"))
        assert difference.value == a - b
        assert (difference.low, difference.high) == pytest.approx(
            interval(drawn[0, figure] - drawn[1, figure], size)
        )
        expected = p_value(drawn[0, figure] - drawn[1, figure], size, difference.value)
        assert difference.p == pytest.approx(expected)
        assert (difference.resamples, difference.seed) == (60, 3)


def test_letters_say_what_the_differences_say(clinical):
    for column in PROTOCOLS["clinical"].columns:
        group = {each.system: set(each.metrics[column.name].group) for each in clinical.systems}
        assert all(group.values())
        for each in clinical.differences:
            if each.metric == column.name:
                assert bool(group[each.a] & group[each.b]) == (not each.separable)
    auc = {each.system: each.metrics["roc_auc"].group for each in clinical.systems}
    assert "a" in auc["best"]
    assert auc["good"] == auc["like good"]
    assert not set(auc["best"]) & set(auc["poor"])


def test_one_system_has_no_letters():
    alone = score([predictions("best", SCORES["best"])], labels())
    assert alone.differences == ()
    assert alone.systems[0].metrics["roc_auc"].group == ""


def test_means_over_resamples_are_not_compared():
    found = scored("paper")
    compared = {each.metric for each in found.differences}
    assert compared == {column.name for column in PROTOCOLS["paper"].columns if not column.mean}
    assert found.systems[0].metrics["specificity_bootstrap_mean"].group == ""


def test_few_resamples_still_tell_many_pairs_apart():
    """Where counting runs out the p-values go on, so that Holm over many pairs has something to work with."""
    found = {(d.a, d.b): d for d in scored(resamples=100).differences if d.metric == "roc_auc"}
    assert found["best", "poor"].p < 2 / 101
    assert found["best", "poor"].separable is True
    assert found["good", "like good"].separable is False
    assert not any(each.reason for each in found.values())


def test_against_a_reference_only_its_own_pairs_count(clinical):
    found = against(clinical.differences, "good")
    assert {each.b for each in found} == {"good"}
    assert [each.a for each in found if each.metric == "f1"] == ["best", "like good", "poor"]
    pairs = {(each.a, each.b, each.metric): each for each in clinical.differences}
    for each in found:
        if each.a == "best":
            straight = pairs["best", "good", each.metric]
            assert (each.value, each.low, each.high) == (straight.value, straight.low, straight.high)
        else:
            turned = pairs["good", each.a, each.metric]
            assert (each.value, each.low, each.high) == (-turned.value, -turned.high, -turned.low)
            assert each.p == turned.p
            assert each.p_adjusted <= turned.p_adjusted
            if each.textbook and each.textbook.test == "DeLong":
                assert each.textbook.low == -turned.textbook.high
            elif each.textbook:
                assert each.textbook.only_a == turned.textbook.only_b
    aucs = [each for each in found if each.metric == "roc_auc"]
    assert [each.p_adjusted for each in aucs] == holm([each.p for each in aucs])


def test_the_textbook_tests_stand_beside(clinical):
    tests = {(each.metric, each.textbook and each.textbook.test) for each in clinical.differences}
    assert tests == {
        ("roc_auc", "DeLong"), ("average_precision", None), ("sensitivity", "McNemar"), ("partial_auc", None),
        ("specificity", "McNemar"), ("balanced_accuracy", None), ("f1", None),
    }  # fmt: skip


def test_mcnemar_needs_thresholds_that_were_fixed_beforehand(clinical):
    for each in clinical.differences:
        if each.textbook and each.textbook.test == "McNemar":
            assert each.textbook.p is each.textbook.p_adjusted is None
            assert each.textbook.reason == "thresholds chosen on this test set"
    fixed = [each for each in scored("paper").differences if each.metric == "accuracy"]
    assert len(fixed) == 6
    for each in fixed:
        right = [(SCORES[name] >= 0.5) == TRUTH for name in (each.a, each.b)]
        table = pd.crosstab(right[0], right[1]).to_numpy()
        test = each.textbook
        assert (test.only_a, test.only_b) == (table[1, 0], table[0, 1])
        assert each.value == pytest.approx((test.only_a - test.only_b) / 160)
        assert test.p == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    assert [each.textbook.p_adjusted for each in fixed] == holm([each.textbook.p for each in fixed])


def test_a_handful_of_images_is_not_more_than_mcnemar_makes_of_it():
    """Six images that one system alone gets right: 0.031 by McNemar, far less by resamples of them."""
    truth = np.arange(200) % 2 == 0
    one = np.where(truth, 0.9, 0.1)
    other = np.where(np.arange(200) < 12, np.where(truth, 0.2, 0.1), one)
    found = score([predictions("a", one), predictions("b", other)], labels(truth, np.arange(200)), "paper")
    (each,) = [each for each in found.differences if each.metric == "accuracy"]
    assert (each.textbook.only_a, each.textbook.only_b) == (6, 0)
    assert each.p == each.textbook.p == pytest.approx(2 / 64)


def test_shares_of_one_class_count_only_that_class(clinical):
    threshold = {each.system: each.metrics["specificity"].threshold for each in clinical.systems}
    for each in clinical.differences:
        if each.metric in ("sensitivity", "specificity"):
            of = TRUTH if each.metric == "sensitivity" else ~TRUTH
            change = (each.textbook.only_a - each.textbook.only_b) / of.sum()
            assert each.value == pytest.approx(change)
            passed = [(SCORES[name][of] >= threshold[name]) == TRUTH[of] for name in (each.a, each.b)]
            assert each.textbook.only_a == np.sum(passed[0] & ~passed[1])


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_that_of_statsmodels(only_a, only_b):
    table = [[3, only_a], [only_b, 4]]
    assert mcnemar(only_a, only_b) == pytest.approx(reference_mcnemar(table, exact=True).pvalue, abs=1e-12)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@settings(max_examples=20)  # Each call of the reference takes a noticeable time.
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-12)


@given(st.lists(st.none() | st.floats(0, 1), max_size=12))
def test_holm_leaves_out_what_is_missing(p):
    known = [each for each in p if each is not None]
    assert [each for each in holm(p) if each is not None] == holm(known)
    assert [each is None for each in holm(p)] == [each is None for each in p]


def by_enumeration(net):
    """All ways to change the systems' places cluster by cluster."""
    sums = [
        sum(sign * each for sign, each in zip(signs, net, strict=True))
        for signs in product((1, -1), repeat=len(net))
    ]
    return np.mean(np.abs(sums) >= abs(sum(net)))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_clustered_mcnemar_is_the_randomisation_test_of_clusters(net):
    assert mcnemar_clustered(np.array(net)) == pytest.approx(by_enumeration(net), abs=1e-12)


@given(st.integers(0, 300), st.integers(0, 300))
def test_clustered_mcnemar_of_single_images_is_mcnemar(only_a, only_b):
    net = np.repeat([1, -1, 0], [only_a, only_b, 5])
    assert mcnemar_clustered(net) == mcnemar(only_a, only_b)
    doubled = mcnemar_clustered(2 * net)  # Pairs of images that always go together are no news.
    assert doubled == pytest.approx(mcnemar(only_a, only_b), abs=1e-12)


def test_clustered_mcnemar_of_many_clusters():
    """Far more than could be enumerated: near a normal with the sum of squares for its variance."""
    net = np.random.default_rng(0).integers(-3, 5, size=20_000)
    net = net - round(net.mean())
    z = (abs(net.sum()) - 1) / np.sqrt((net.astype(float) ** 2).sum())
    assert mcnemar_clustered(net) == pytest.approx(2 * norm.sf(z), abs=2e-3)


def test_the_published_scores(proveai):
    """Which systems can be told apart by their ROC-AUC, and what each has of letters."""
    read, _ = find(proveai / "predictions")
    found = score(read, read_labels(proveai / "test.csv"), resamples=10_000)
    group = {each.system: each.metrics["roc_auc"].group for each in found.systems}
    assert set(group["sge_b3"]) & set(group["second_place"])
    assert not set(group["first_place"]) & set(group["second_place"])
    assert not set(group["first_place"]) & set(group["third_place"])
    assert {each.metrics["specificity"].group for each in found.systems} == {"a"}
    apart = {
        each.a
        for each in against(found.differences, "third_place")
        if each.metric == "roc_auc" and each.separable
    }
    assert apart == group.keys() - {"third_place"}
