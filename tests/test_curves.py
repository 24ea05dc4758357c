"""Curves against scikit-learn, and what tells lesions and test sets apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from evaluate.curves import calls, curves, precision_at, roc_at
from evaluate.labels import read_labels
from evaluate.lesions import NAMED, disagreements, lesions
from evaluate.predictions import find
from evaluate.ranking import Ranking

images = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: len({melanoma for _, melanoma in rows}) == 2
)


@given(images)
def test_roc_is_that_of_scikit_learn_ties_too(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=float)
    melanoma = np.array([each for _, each in rows])
    ranking = Ranking(scores, melanoma, np.arange(len(rows)))
    rates = np.linspace(0, 1, 101)
    ours = roc_at(ranking.curve(ranking.unweighted), rates)[:, 0]
    across, up, _ = roc_curve(melanoma, scores, drop_intermediate=False)
    # Where the curve jumps, the upper end is meant; beside a jump both agree.
    assert np.allclose(ours, np.interp(rates, across, up), atol=1e-12)
    fine = np.linspace(0, 1, 20001)
    area = np.trapezoid(roc_at(ranking.curve(ranking.unweighted), fine)[:, 0], fine)
    assert area == pytest.approx(roc_auc_score(melanoma, scores), abs=2e-3)


@given(images)
def test_precision_is_one_of_scikit_learns_at_that_recall(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=float)
    melanoma = np.array([each for _, each in rows])
    ranking = Ranking(scores, melanoma, np.arange(len(rows)))
    recalls = np.linspace(0.05, 1, 20)
    ours = precision_at(ranking.curve(ranking.unweighted), recalls)[:, 0]
    precision, recall, _ = precision_recall_curve(melanoma, scores)
    for wanted, found in zip(recalls, ours, strict=True):
        reached = min(each for each in recall if each >= wanted - 1e-12)
        assert any(np.isclose(found, precision[:-1][recall[:-1] == reached]))


@given(images)
def test_calls_count(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], dtype=float)
    melanoma = np.array([each for _, each in rows])
    found = calls(scores, melanoma)
    for threshold, sensitivity, specificity in zip(
        found.thresholds, found.sensitivity, found.specificity, strict=True
    ):
        assert sensitivity == pytest.approx((scores[melanoma] >= threshold).mean(), abs=1e-5)
        assert specificity == pytest.approx((scores[~melanoma] < threshold).mean(), abs=1e-5)


def test_bands_hold_the_curve_and_are_the_same_each_time(made_up: Path) -> None:
    labels = read_labels(made_up / "labels.csv")
    predictions, _ = find([made_up / "predictions"])
    found = curves(predictions, labels, resamples=200, seed=1)
    assert found == curves(predictions, labels, resamples=200, seed=1)
    assert found != curves(predictions, labels, resamples=200, seed=2)
    for system in found.systems:
        inside = [
            low <= value <= high
            for value, low, high in zip(system.roc.value, system.roc.low, system.roc.high, strict=True)
        ]
        assert np.mean(inside) > 0.95
        assert system.roc.value[-1] == 1
        assert list(system.roc.value) == sorted(system.roc.value)


def test_systems_disagree_most_where_their_ranks_do(made_up: Path) -> None:
    labels = read_labels(made_up / "labels.csv")
    predictions, _ = find([made_up / "predictions"])
    found = disagreements(predictions, labels, shown=80)
    assert found is not None
    spreads = [each.spread for each in found.lesions]
    assert spreads == sorted(spreads, reverse=True)
    assert {each.image for each in found.lesions} == set(labels.table.index)
    assert sum(each.melanoma for each in found.lesions) == 20
    for each in found.lesions:
        assert each.spread == pytest.approx(max(each.ranks) - min(each.ranks), abs=2e-4)
    assert disagreements(predictions[:1], labels) is None


def test_a_test_set_is_known_by_its_lesions_not_by_its_table(made_up: Path, tmp_path: Path) -> None:
    whole = (made_up / "labels.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "turned.csv").write_text(
        "\n".join([whole[0] + ",colour", *(row + ",red" for row in reversed(whole[1:]))])
    )
    (tmp_path / "less.csv").write_text("\n".join(whole[:-1]))
    first = lesions(read_labels(made_up / "labels.csv"))
    assert first == lesions(read_labels(tmp_path / "turned.csv"))
    less = lesions(read_labels(tmp_path / "less.csv"))
    assert first.sha256 != less.sha256
    assert len(first.ids) == 80 <= NAMED
    assert set(first.ids) - set(less.ids) == {whole[-1].split(",")[0]}
