import subprocess
import sys

import msgspec
import numpy as np
import pandas as pd
import pytest

import evaluate
from evaluate import PROTOCOLS, Labels, Predictions, Scores, difference, score
from evaluate.metrics import AT_POINT, OF_CURVE
from evaluate.resampling import FEWEST_RESAMPLES
from reports.tables import scored
from zoo.errors import InputError, UnknownNameError, UsageError


def labels(truth, patients=None, without_patient=0) -> Labels:
    images = [f"I{i}" for i in range(len(truth))]
    patients = images if patients is None else [f"P{p}" for p in patients]
    table = pd.DataFrame({"melanoma": truth, "patient": patients, "lesion": None}, index=images)
    image_of = pd.Series(images, index=images)
    return Labels(
        table=table, image_of=image_of, without_patient=without_patient, path="labels.csv", sha256="0"
    )


def predictions(scores, system="mine", kind="probability") -> Predictions:
    table = pd.DataFrame({"image": [f"I{i}" for i in range(len(scores))], "score": scores})
    return Predictions(system=system, kind=kind, table=table)


TRUTH = np.arange(120) % 4 == 0
RANDOM = np.random.default_rng(2)
GOOD, FAIR = (np.clip(0.2 * RANDOM.normal(size=120) + gain * TRUTH + 0.4, 0, 1) for gain in (0.4, 0.1))
LABELS = labels(TRUTH, np.arange(120) // 3)


def test_figures_of_a_small_set_by_hand():
    truth, scores = [True, False, True, False, False], [0.9, 0.8, 0.5, 0.5, 0.1]
    metrics = score([predictions(scores)], labels(truth)).systems[0].metrics
    assert metrics["roc_auc"].value == pytest.approx((3 + 1.5) / 6)
    assert metrics["average_precision"].value == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 4)
    assert metrics["sensitivity"].value == 1
    assert metrics["specificity"].value == pytest.approx(1 / 3)
    assert metrics["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert metrics["f1"].value == pytest.approx(2 * 2 / (2 * 2 + 2))
    assert metrics["specificity"].threshold == 0.5
    paper = score([predictions(scores)], labels(truth), "paper").systems[0].metrics
    assert paper["accuracy"].value == pytest.approx(3 / 5)
    assert paper["f1_weighted"].value == pytest.approx((2 * 4 / 6 + 3 * 2 / 4) / 5)


def test_what_a_score_says_of_itself():
    scores = score([predictions(GOOD), predictions(FAIR, "sge_b3")], LABELS, resamples=200, seed=4)
    assert (scores.n, scores.positives, scores.patients) == (120, 30, 40)
    assert (scores.protocol, scores.cluster, scores.level) == ("clinical", "patient", 0.95)
    assert (scores.resamples, scores.seed, scores.labels) == (200, 4, "labels.csv")
    assert [(each.system, each.title) for each in scores.systems] == [("mine", "mine"), ("sge_b3", "SGE-B3")]
    assert msgspec.json.decode(msgspec.json.encode(scores), type=Scores) == scores


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_says_what_its_figures_are(protocol):
    plan = PROTOCOLS[protocol]
    metrics = score([predictions(GOOD)], LABELS, protocol).systems[0].metrics
    assert plan.name == protocol
    assert list(metrics) == [column.name for column in plan.columns]
    assert len({column.title for column in plan.columns}) == len(plan.columns)
    for column in plan.columns:
        assert column.metric in (AT_POINT if column.point else OF_CURVE)
        assert column.definition.endswith(".")
        metric = metrics[column.name]
        assert 0 <= metric.value <= 1
        assert not metric.reason
        chosen = "each resample" if column.mean else "test set"
        expected = {None: None, "threshold": "fixed", "sensitivity": chosen}[column.point and column.point.by]
        assert metric.threshold_from == expected
        assert (metric.threshold is None) == (expected in (None, "each resample"))
        if column.mean:
            assert metric.low is metric.high is None
        else:
            assert metric.low <= metric.high


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_threshold_chosen_on_the_test_set_is_told(protocol):
    assert "optimistic" in score([predictions(GOOD)], LABELS, protocol).notes[0]


def test_images_without_a_patient_are_told():
    (_, note) = score([predictions(GOOD)], labels(TRUTH, without_patient=7)).notes
    assert note.startswith("The patient of 7 of 120 images is not known")


def test_ranks_at_a_fixed_threshold_carry_a_note():
    ranks, probabilities = score(
        [predictions(GOOD, "a", "rank"), predictions(GOOD, "b")], LABELS, "paper"
    ).systems
    assert (ranks.kind, probabilities.kind) == ("rank", "probability")
    assert {name for name, metric in ranks.metrics.items() if metric.note} == {"accuracy", "f1_weighted"}
    assert not any(metric.note for metric in probabilities.metrics.values())
    assert {n: m.value for n, m in ranks.metrics.items()} == {
        n: m.value for n, m in probabilities.metrics.items()
    }


def test_images_of_one_patient_are_drawn_together():
    """Ten alike images of each patient: the interval is that of the patients, not of the images."""
    truth, scores = np.repeat(TRUTH, 10), np.repeat(FAIR, 10)

    def width(patients):
        auc = score([predictions(scores)], labels(truth, patients)).systems[0].metrics["roc_auc"]
        return auc.high - auc.low

    alone = score([predictions(FAIR)], labels(TRUTH)).systems[0].metrics["roc_auc"]
    assert width(np.repeat(np.arange(120), 10)) == pytest.approx(alone.high - alone.low)
    assert width(np.arange(1200)) < 0.5 * (alone.high - alone.low)


def test_the_paper_protocol_draws_single_images():
    paired = np.arange(120) // 2
    one = score([predictions(FAIR)], labels(TRUTH, paired), "paper", resamples=100)
    two = score([predictions(FAIR)], labels(TRUTH), "paper", resamples=100)
    assert one.systems == two.systems
    assert one.cluster == "image"


def test_same_seed_same_scores():
    one, again, other = (score([predictions(FAIR)], LABELS, resamples=100, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one.systems[0].metrics["roc_auc"].low != other.systems[0].metrics["roc_auc"].low


def test_a_figure_that_is_the_same_in_every_resample_has_no_interval():
    """All melanomas score highest in every resample too; that is no certainty."""
    found = score([predictions(TRUTH / 2), predictions(np.full(120, 0.5), "b")], LABELS, resamples=200)
    metric = found.systems[0].metrics["roc_auc"]
    assert (metric.value, metric.low, metric.high) == (1, None, None)
    assert metric.reason == "no interval: the same in every resample"
    assert found.systems[1].metrics["partial_auc"].low is None  # 0.02, but for rounding
    (gap,) = [each for each in found.differences if each.metric == "roc_auc"]
    assert (gap.value, gap.low, gap.high, gap.reason) == (0.5, None, None, metric.reason)
    assert gap.separable is True
    first, differences, _ = scored(found)
    assert "No interval: the same in every resample." in first.notes
    assert any(note.endswith("no interval: the same in every resample.") for note in differences.notes)


def test_an_interval_of_too_many_undefined_resamples_is_not_given():
    truth = np.arange(30) == 0
    only = predictions(np.linspace(0, 1, 30))
    metric = score([only], labels(truth), resamples=1000).systems[0].metrics["roc_auc"]
    assert metric.value == 0
    assert metric.low is metric.high is None
    assert 300 < metric.undefined < 430  # (29/30)**30 = 36% of the resamples miss the one melanoma
    assert metric.reason == f"undefined in {metric.undefined} of 1000 resamples, which lack a class"

    means = score([only], labels(truth), "paper", resamples=1000).systems[0].metrics
    assert means["specificity_bootstrap_mean"].value is None
    assert means["specificity_bootstrap_mean"].reason.startswith("undefined in 3")
    assert means["specificity"].value == 0
    assert means["specificity"].low is None

    pair = predictions(GOOD[:30], "a"), predictions(FAIR[:30], "b")
    unknown = difference(*pair, "f1", labels(truth), resamples=1000)
    assert unknown.low is unknown.high is unknown.separable is None
    assert unknown.reason.startswith("undefined in 3")


def test_a_few_undefined_resamples_are_counted():
    truth = np.arange(30) < 4
    scores = np.random.default_rng(0).random(30)
    metric = score([predictions(scores)], labels(truth), resamples=1000).systems[0].metrics["roc_auc"]
    assert 0 < metric.undefined <= 50  # (26/30)**30 = 1.4%
    assert metric.low is not None
    assert metric.reason == ""


def test_differences_are_paired():
    a, b = predictions(GOOD, "a"), predictions(FAIR, "b")
    found = difference(a, b, "roc_auc", LABELS, resamples=1000)
    one, two = (each.metrics["roc_auc"] for each in score([a, b], LABELS).systems)
    assert found.value == one.value - two.value
    assert found.separable is True
    assert 0 < found.low < found.value < found.high
    assert (found.a, found.b, found.metric, found.resamples, found.seed) == ("a", "b", "roc_auc", 1000, 0)

    turned = difference(b, a, "roc_auc", LABELS, resamples=1000)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert turned.separable is True

    same = difference(a, predictions(GOOD**2, "squared"), "specificity", LABELS)
    assert (same.value, same.low, same.high, same.separable) == (0, 0, 0, False)


def test_wrong_words():
    with pytest.raises(UnknownNameError, match="no protocol 'lab'; protocols are clinical, paper"):
        score([predictions(GOOD)], LABELS, "lab")
    with pytest.raises(UnknownNameError, match="no metric 'auc'; its metrics are roc_auc,"):
        difference(predictions(GOOD), predictions(FAIR), "auc", LABELS)
    with pytest.raises(UsageError, match=f"at least {FEWEST_RESAMPLES}"):
        score([predictions(GOOD)], LABELS, resamples=FEWEST_RESAMPLES - 1)
    with pytest.raises(UsageError, match="no predictions"):
        score([], LABELS)
    with pytest.raises(InputError, match="I119"):
        score([predictions(GOOD[:-1])], LABELS)


def test_a_frame_has_a_row_of_each_system_where_two_have_one_title(tmp_path):
    names = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "mine.csv").touch()
        names.append(f"csv:{folder}/mine.csv")
    given = [predictions(GOOD, names[0]), predictions(FAIR, names[1]), predictions(FAIR, "sge_b3")]
    scores = score(given, LABELS, resamples=100)
    assert [each.title for each in scores.systems] == ["csv:mine.csv", "csv:mine.csv", "SGE-B3"]
    frame = scores.frame()
    assert frame.index.tolist() == [*names, "SGE-B3"]
    for (_, row), system in zip(frame.iterrows(), scores.systems, strict=True):
        assert row.to_dict() == {name: metric.value for name, metric in system.metrics.items()}


def test_import_is_light():
    code = "import sys, evaluate; print(*{'numpy', 'pandas', 'scipy', 'pyarrow', 'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_public_names_are_there():
    for name in evaluate.__all__:
        assert getattr(evaluate, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'scores_of'"):
        evaluate.scores_of  # noqa: B018
