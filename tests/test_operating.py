"""Operating points and decision curves: what locks a threshold, what is n/a, and what prevalence changes."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from evaluate import (
    Labels,
    OperatingPoint,
    Predictions,
    decision_curves,
    operating_points,
    read_development,
    read_labels,
    score,
)
from evaluate.audit import audit
from evaluate.development import shared
from evaluate.estimate import estimate
from evaluate.points import FIGURES, POINTS, read_point
from evaluate.resampling import effective_clusters, interval
from evaluate.textbook import mcnemar_clustered
from zoo.errors import InputError, UsageError

RANDOM = np.random.default_rng(8)
TRUTH = np.arange(160) % 4 == 0
SCORES = np.clip(0.35 + 0.25 * TRUTH + 0.15 * RANDOM.normal(size=160), 0.01, 0.99)
AT_90 = OperatingPoint(by="sensitivity", value=0.9)


def labels(truth=TRUTH, prefix="I") -> Labels:
    images = [f"{prefix}{i}" for i in range(len(truth))]
    patients = [f"P{i // 2}" for i in range(len(truth))]
    table = pd.DataFrame({"melanoma": truth, "patient": patients, "lesion": None}, index=images)
    return Labels(
        table=table, image_of=pd.Series(images, index=images), without_patient=0, path="l.csv", sha256=""
    )


def predictions(scores=SCORES, system="sge_b3", kind="probability") -> Predictions:
    table = pd.DataFrame({"image": [f"I{i}" for i in range(len(scores))], "score": scores})
    return Predictions(system=system, kind=kind, table=table)


@pytest.fixture
def development(tmp_path):
    """Writes development predictions, of melanomas that score 0.01, 0.02 ... 1 unless told otherwise."""

    def write(name="SGE-B3.csv", prefix="D", scores=None, **more):
        scores = np.arange(1, 101) / 100 if scores is None else scores
        table = pd.DataFrame({"image_name": [f"{prefix}{i}" for i in range(len(scores) + 10)]})
        table["target"] = [*scores, *np.full(10, 0.005)]
        table["y_true"] = [1] * len(scores) + [0] * 10
        table.assign(**more).to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def test_a_threshold_chosen_on_the_test_set_says_so_and_is_chosen_anew_in_every_resample():
    (row,) = operating_points([predictions()], labels(), [AT_90]).rows
    assert row.threshold_from == "test set"
    assert row.threshold == np.sort(SCORES[TRUTH])[::-1][35]  # 36 of 40 melanomas
    assert {metric.threshold_from for metric in row.metrics.values()} == {"test set"}
    assert {metric.threshold for metric in row.metrics.values()} == {row.threshold}
    assert row.metrics["sensitivity"].value == 0.9
    assert row.metrics["sensitivity"].low >= 0.9


def test_a_locked_threshold_is_that_of_the_development_set_and_stays(development):
    locked = read_development([development()])
    point = OperatingPoint(by="sensitivity", value=0.5)
    (row,) = operating_points([predictions()], labels(), [point], development=locked).rows
    called = SCORES >= 0.51
    assert (row.threshold, row.threshold_from) == (0.51, "development")
    assert {metric.threshold_from for metric in row.metrics.values()} == {"development"}
    assert row.metrics["sensitivity"].value == called[TRUTH].mean()
    assert row.metrics["specificity"].value == pytest.approx(1 - called[~TRUTH].mean())
    assert row.metrics["ppv"].value == pytest.approx(TRUTH[called].mean())
    assert row.metrics["npv"].value == pytest.approx(1 - TRUTH[~called].mean())
    assert row.metrics["number_needed_to_biopsy"].value == pytest.approx(1 / TRUTH[called].mean())
    low, high = row.metrics["sensitivity"].low, row.metrics["sensitivity"].high
    shares = []
    for drawn in np.random.default_rng(0).integers(80, size=(10_000, 80)):
        times = np.bincount(drawn, minlength=80)[np.arange(160) // 2]
        shares.append(times[TRUTH & called].sum() / times[TRUTH].sum())
    assert (low, high) == pytest.approx(
        interval(np.array(shares), effective_clusters(TRUTH, np.arange(160) // 2)), abs=1e-12
    )


def test_systems_without_development_predictions_are_marked_beside_those_with(development):
    locked = read_development([development()])
    found = operating_points([predictions(), predictions(system="b")], labels(), POINTS, development=locked)
    assert [(row.system, row.threshold_from) for row in found.rows] == [
        *[("sge_b3", "development")] * 3,
        *[("b", "test set")] * 3,
    ]


def test_labels_of_development_predictions_may_be_a_table_of_their_own(development, tmp_path):
    path = development()
    own = pd.read_csv(path)
    own.rename(columns={"y_true": "melanoma"}).drop(columns="target").to_csv(tmp_path / "t.csv", index=False)
    own.drop(columns="y_true").to_csv(path, index=False)
    with pytest.raises(InputError, match="has no column y_true"):
        read_development([path])
    found = read_development([path], tmp_path / "t.csv")
    assert operating_points([predictions()], labels(), [AT_90], development=found).rows[0].threshold == 0.11


def test_a_threshold_that_does_not_carry_over_is_refused_or_told(development):
    locked = read_development([development()])
    with pytest.raises(InputError, match="'probability', those of predictions are of kind 'rank'"):
        operating_points([predictions(kind="rank")], labels(), [AT_90], development=locked)
    ranks = read_development([development("mine.csv")])  # of no known system, so taken as ranks
    mine = predictions(system="mine", kind="rank")
    found = operating_points([mine], labels(), [AT_90], development=ranks)
    assert "its scores are ranks within their own set" in found.notes[0]
    known = read_development([development(prefix="I")])
    with pytest.raises(InputError, match="110 of its images are test images"):
        operating_points([predictions()], labels(), [AT_90], development=known)
    for ending in ("_downsampled", ".jpg", "_0"):
        images = [f"I{i}{ending}" for i in range(110)]
        renamed = read_development([development(image_name=images)])
        copies = pd.Series([f"I{i}" for i in range(160)], index=[f"I{i}_0" for i in range(160)])
        with pytest.raises(InputError, match="110 of its images are test images"):
            operating_points(
                [predictions()],
                msgspec.structs.replace(labels(), image_of=pd.concat([labels().image_of, copies])),
                [AT_90],
                development=renamed,
            )
    with pytest.raises(UsageError, match="of sge_b3, which is not scored"):
        operating_points([mine], labels(), [AT_90], development=locked)


def test_what_is_not_defined_says_why(development):
    never = read_development([development(scores=[1.0] * 10)])
    (row,) = operating_points([predictions()], labels(), [AT_90], development=never).rows
    assert row.metrics["sensitivity"].value == 0
    assert row.metrics["sensitivity"].reason == "no interval: the same in every resample"
    for name in ("ppv", "likelihood_ratio_positive", "number_needed_to_biopsy"):
        assert row.metrics[name].value is None
        assert row.metrics[name].reason == FIGURES[name].undefined
    perfect = operating_points([predictions(TRUTH * 0.5 + 0.2)], labels(), [AT_90]).rows[0].metrics
    assert perfect["likelihood_ratio_positive"].value is None
    assert perfect["likelihood_ratio_positive"].reason == "no lesion but melanomas is called"
    assert perfect["ppv"].value == 1
    backwards = np.where(TRUTH, 0.1, 0.9)
    (row,) = operating_points(
        [predictions(backwards)], labels(), [OperatingPoint(by="specificity", value=0.9)]
    ).rows
    assert row.threshold is None
    assert row.metrics["sensitivity"].value == 0
    assert row.metrics["sensitivity"].threshold is None


def test_an_infinite_end_of_an_interval_is_not_hidden():
    values = np.linspace(1, 2, 1000)
    values[:40] = np.inf
    found = estimate(1.5, values, "no melanoma is called")
    assert found.low == pytest.approx(np.quantile(values, 0.025), abs=0.002)
    assert found.high is None
    assert found.reason == "no upper end: no melanoma is called in too many resamples"
    values[:40] = np.nan
    assert estimate(1.5, values, "").high == pytest.approx(np.nanquantile(values, 0.975))
    values[:60] = np.nan
    assert estimate(1.5, values, "no call").reason == "no interval: no call in 60 of 1000 resamples"
    assert estimate(1.5, values, "no call").low is None
    with pytest.raises(UsageError, match="at least 40"):
        estimate(1.5, values[:39], "")


def test_prevalence_moves_predictive_values_and_is_recorded():
    plain, weighted = (
        operating_points([predictions()], labels(), [AT_90], prevalence=share) for share in (None, 0.02)
    )
    assert (plain.prevalence, plain.test_prevalence, weighted.prevalence) == (None, 0.25, 0.02)
    before, after = plain.rows[0].metrics, weighted.rows[0].metrics
    se, sp = before["sensitivity"].value, before["specificity"].value
    assert after["ppv"].value == pytest.approx(se * 0.02 / (se * 0.02 + (1 - sp) * 0.98))
    assert after["number_needed_to_biopsy"].value == pytest.approx(1 / after["ppv"].value)
    for name, figure in FIGURES.items():
        assert (after[name].value == pytest.approx(before[name].value)) != figure.of_prevalence


def test_wrong_words():
    for text in ("auc=0.9", "sensitivity", "sensitivity=90%", "sensitivity=x"):
        with pytest.raises(UsageError, match="write it as sensitivity"):
            read_point(text)
    with pytest.raises(UsageError, match="at most 1"):
        operating_points([predictions()], labels(), [read_point("sensitivity=90")])
    for prevalence in (0, 1, 2):
        with pytest.raises(UsageError, match="above 0 and below 1"):
            operating_points([predictions()], labels(), [AT_90], prevalence=prevalence)
        with pytest.raises(UsageError, match="above 0 and below 1"):
            decision_curves([predictions()], labels(), prevalence=prevalence)
    with pytest.raises(UsageError, match="too few"):
        operating_points([predictions()], labels(), [AT_90], resamples=10)


@pytest.mark.parametrize("prevalence", [None, 0.02])
def test_net_benefit_by_hand(prevalence):
    thresholds = (0.05, 0.3, 0.5)
    found = decision_curves([predictions()], labels(), thresholds, prevalence=prevalence)
    share = prevalence or 0.25
    for t, treat_all, metric in zip(thresholds, found.treat_all, found.systems[0].net_benefit, strict=True):
        called = t <= SCORES
        expected = share * called[TRUTH].mean() - (1 - share) * called[~TRUTH].mean() * t / (1 - t)
        assert metric.value == pytest.approx(expected)
        assert treat_all == pytest.approx(share - (1 - share) * t / (1 - t))
        if metric.low is not None:
            assert metric.low < metric.value < metric.high
    assert found.systems[0].net_benefit[1].low is not None


def test_net_benefit_needs_probabilities():
    (system,) = decision_curves([predictions(kind="rank")], labels()).systems
    assert {metric.value for metric in system.net_benefit} == {None}
    assert {metric.reason for metric in system.net_benefit} == {
        "the scores are ranks, or not known to be probabilities"
    }


def test_systems_are_compared_at_locked_thresholds_by_mcnemar_and_in_resamples(development):
    """Against the definition: net lesions that one system alone gets right, patient by patient."""
    other = np.clip(SCORES + 0.12 * np.random.default_rng(4).normal(size=160), 0.01, 0.99)
    locked = read_development(
        [
            development(scores=np.linspace(0.3, 0.8, 100)),
            development("Spatial-B3.csv", scores=np.linspace(0.35, 0.9, 100)),
        ]
    )
    found = operating_points(
        [predictions(), predictions(other, "spatial_b3")], labels(), POINTS, development=locked, resamples=500
    )
    assert [each.wanted for each in found.comparisons] == list(POINTS)
    rows = {(row.system, row.wanted): row for row in found.rows}
    for comparison in found.comparisons:
        one, two = (rows[name, comparison.wanted] for name in ("sge_b3", "spatial_b3"))
        assert [each.metric for each in comparison.differences] == ["sensitivity", "specificity"]
        for each in comparison.differences:
            of = TRUTH if each.metric == "sensitivity" else ~TRUTH
            right = [(scores >= row.threshold) == TRUTH for scores, row in ((SCORES, one), (other, two))]
            only = [np.sum(of & right[0] & ~right[1]), np.sum(of & right[1] & ~right[0])]
            net = (of * (right[0].astype(int) - right[1])).reshape(80, 2).sum(axis=1)
            assert each.value == pytest.approx((only[0] - only[1]) / of.sum())
            assert [each.textbook.only_a, each.textbook.only_b] == only
            assert each.textbook.p == each.textbook.p_adjusted == pytest.approx(mcnemar_clustered(net))
            assert each.textbook.reason == ""
            assert bool(set(one.metrics[each.metric].group) & set(two.metrics[each.metric].group)) == (
                not each.separable
            )


def test_development_predictions_lock_the_scores_too(development):
    """The clinical protocol's own thresholds; those of the paper protocol stay as the authors chose them."""
    dev = np.linspace(0.3, 0.8, 100)
    locked = read_development([development(scores=dev), development("Spatial-B3.csv", scores=dev)])
    both = [predictions(), predictions(SCORES[::-1], "spatial_b3")]
    found = score(both, labels(), resamples=200, development=locked)
    cut = dev[5]  # 95 of 100
    for each, scores in zip(found.systems, (SCORES, SCORES[::-1]), strict=True):
        assert {m.threshold_from for m in each.metrics.values()} == {None, "development"}
        assert each.metrics["specificity"].threshold == cut
        assert each.metrics["specificity"].value == pytest.approx(np.mean(scores[~TRUTH] < cut))
        assert each.metrics["sensitivity"].value == pytest.approx(np.mean(scores[TRUTH] >= cut))
    (test,) = [each.textbook for each in found.differences if each.metric == "specificity"]
    assert 0 < test.p <= 1
    assert found.notes == ("SGE-B3, Spatial-B3: thresholds are locked on development predictions.",)
    chosen = score(both, labels(), resamples=200, development={"sge_b3": locked["sge_b3"]})
    assert [each.metrics["f1"].threshold_from for each in chosen.systems] == ["development", "test set"]
    assert chosen.notes[0].startswith(
        "Spatial-B3: thresholds that reach a sensitivity or specificity are chosen"
    )
    (test,) = [each.textbook for each in chosen.differences if each.metric == "specificity"]
    assert test.p is None
    paper = score(both, labels(), "paper", resamples=200, development=locked)
    assert paper == score(both, labels(), "paper", resamples=200)


def test_where_the_test_set_chose_one_of_two_thresholds_mcnemar_has_no_p_value(development):
    both = [predictions(), predictions(SCORES[::-1], "spatial_b3")]
    locked = read_development([development()])
    found = operating_points(both, labels(), [AT_90], development=locked, resamples=100)
    for each in found.comparisons[0].differences:
        assert each.textbook.p is None
        assert each.textbook.reason == "thresholds chosen on this test set"
        assert each.p is None


def test_one_system_is_compared_with_nothing():
    found = operating_points([predictions()], labels(), POINTS, resamples=100)
    assert found.comparisons == ()
    assert not any(metric.group for row in found.rows for metric in row.metrics.values())


def test_two_systems_that_are_one_are_never_told_apart(development):
    locked = read_development([development(), development("Spatial-B3.csv")])
    both = [predictions(), predictions(system="spatial_b3")]
    for dev in (locked, None):
        found = operating_points(both, labels(), POINTS, development=dev, resamples=100)
        for each in (each for comparison in found.comparisons for each in comparison.differences):
            assert (each.value, each.low, each.high, each.p, each.separable) == (0, 0, 0, 1, False)


@pytest.mark.slow
def test_mcnemar_at_locked_thresholds_keeps_its_word():
    """Equally good systems at a threshold locked beforehand: told apart in no more than 5% of studies.

    Patients have four lesions each, or one. The exact test is discrete, so that it may stay below.
    """
    random = np.random.default_rng(0)
    truth, studies, alarms = np.arange(400) % 4 == 0, 400, {"clustered": 0, "single": 0}
    gap = 1.2
    for _ in range(studies):
        for design, per_patient in (("clustered", 4), ("single", 1)):
            patients = np.arange(400) // per_patient
            noise = random.normal(size=400) + random.normal(size=400)[patients]
            scores = [
                gap * truth + (noise + random.normal(size=400) + random.normal(size=400)[patients]) / 2
                for _ in range(2)
            ]
            passed = [each[~truth] < gap - 0.84 for each in scores]
            net = np.bincount(patients[~truth], passed[0].astype(float) - passed[1]).astype(int)
            alarms[design] += mcnemar_clustered(net) < 0.05
    error = (0.05 * 0.95 / studies) ** 0.5
    assert all(each / studies < 0.05 + 2.5 * error for each in alarms.values()), alarms
    assert all(each > 0 for each in alarms.values()), alarms


def test_a_locked_and_a_chosen_threshold_are_not_compared(development):
    """The chosen one is flattered: at one sensitivity it reaches it, and the other may not."""
    good = np.clip(0.2 + 0.6 * TRUTH + 0.05 * np.random.default_rng(1).normal(size=160), 0.01, 0.99)
    three = [predictions(good), predictions(good, "b"), predictions(system="c")]
    locked = read_development([development(scores=[0.95] * 10)])  # Far too high: nothing is called.
    (comparison,) = operating_points(three, labels(), [AT_90], development=locked).comparisons
    by_pair = {(each.a, each.b, each.metric): each for each in comparison.differences}
    for other in ("b", "c"):
        found = by_pair["sge_b3", other, "sensitivity"]
        assert (found.p, found.p_adjusted, found.separable) == (None, None, None)
        assert found.reason == "one threshold locked, one chosen on this test set"
        assert found.value is not None
        assert found.low is not None
        assert found.high < 0
    assert by_pair[
        "b", "c", "specificity"
    ].separable  # Both chosen: compared as ever, and Holm over this pair.
    assert by_pair["b", "c", "specificity"].p_adjusted == by_pair["b", "c", "specificity"].p
    rows = operating_points(three, labels(), [AT_90], development=locked).rows
    assert set(rows[0].metrics["specificity"].group) == {
        *rows[1].metrics["specificity"].group, *rows[2].metrics["specificity"].group
    }  # fmt: skip
    two = operating_points(three[:2], labels(), [AT_90], development=locked)
    assert {metric.group for row in two.rows for metric in row.metrics.values()} == {""}
    own = {each.metric: each for each in score(three[:2], labels(), development=locked).differences}
    assert own["sensitivity"].mixed
    assert own["specificity"].separable is None
    assert own["specificity"].p is None
    assert own["roc_auc"].p is not None
    assert not own["roc_auc"].mixed


def test_patients_shared_with_development_are_told(development):
    """A patient of the test set whose other images locked the threshold: a note and a finding of the audit."""
    patients = ["P0", "P1", *(f"D{i}" for i in range(108))]
    locked = read_development([development(patient_id=patients), development("Spatial-B3.csv")])
    both = [predictions(), predictions(system="spatial_b3")]
    (note,) = operating_points(both, labels(), [AT_90], development=locked, resamples=100).notes
    assert note.startswith(
        "SGE-B3: 2 patients of the test set (4 of 160 lesion images) also in the development"
    )
    assert note in score(both, labels(), development=locked, resamples=100).notes
    found = audit(both, labels(), development=locked, resamples=100).findings
    (finding,) = [each for each in found if each.check == "shared_with_development"]
    assert finding.severity == "warning"
    assert finding.systems == ("sge_b3",)
    assert (
        "2 patients of the test set also among the development images: 4 lesion images of 160"
        in finding.found
    )
    assert "specificity" in finding.metrics
    assert "roc_auc" not in finding.metrics
    clean = audit(both[1:], labels(), development={"spatial_b3": locked["spatial_b3"]}, resamples=100)
    assert next(each.findings for each in clean.checked if each.check == "shared_with_development") == 0


def test_lesions_shared_with_development_are_not_counted_as_patients_too(development, tmp_path):
    """Where no patient is known, a lesion stands for one; that makes it no patient that is shared."""
    locked = read_development([development(lesion_id=["L0", "L1", *(f"D{i}" for i in range(108))])])
    table = pd.DataFrame({"isic_id": [f"I{i}" for i in range(160)], "target": TRUTH.astype(int)})
    table.assign(lesion_id=[f"L{i // 2}" for i in range(160)]).to_csv(tmp_path / "test.csv", index=False)
    test = read_labels(tmp_path / "test.csv")
    assert shared(locked["sge_b3"], test).ids == {"image": 0, "lesion": 2, "patient": 0}
    notes = operating_points([predictions()], test, [AT_90], development=locked, resamples=100).notes
    said = "SGE-B3: 2 lesions of the test set (4 of 160 lesion images) also in the development images"
    assert any(note.startswith(said) for note in notes)


def test_resamples_that_lack_a_class_are_told_from_those_without_a_call():
    values = np.array([np.nan] * 30 + [0.5, 0.6] * 35)
    found = estimate(0.5, values, "no lesion is called", lacking=20)
    assert (
        found.reason == "no interval: no lesion is called in 10 and a class is missing in 20 of 100 resamples"
    )
    found = estimate(0.5, values, "no lesion is called", lacking=30)
    assert found.reason == "no interval: a class is missing in 30 of 100 resamples"
