"""What the published per-image scores give, as printed in the sources and computed independently."""

import pytest

from evaluate import difference, find, read_labels, score

TABLE = {
    # ROC-AUC, average precision, weighted F1, sensitivity, specificity, and their bootstrap means
    "sge_b3": (0.8152, 0.5372, 0.8374, 0.958, 0.146, 0.961, 0.209),
    "s2_cbam_b3": (0.8091, 0.5358, 0.8265, 0.958, 0.148, 0.961, 0.223),
    "s2_mlp_b3": (0.7987, 0.5218, 0.8210, 0.958, 0.219, 0.961, 0.203),
    "spatial_b3": (0.7937, 0.4983, 0.8216, 0.958, 0.116, 0.962, 0.153),
    "first_place": (0.8437, 0.5964, 0.8358, 0.958, 0.376, 0.960, 0.377),
    "second_place": (0.7867, 0.4539, 0.6680, 0.958, 0.209, 0.961, 0.251),
    "third_place": (0.6992, 0.3499, 0.6411, 0.958, 0.087, 0.960, 0.192),
}
ACCURACY = {"sge_b3": 0.8690, "second_place": 0.6169}
COLUMNS = {
    "roc_auc": 0.00005,
    "average_precision": 0.00005,
    "f1_weighted": 0.00005,
    "sensitivity": 0.0005,
    "specificity": 0.0005,
    "sensitivity_bootstrap_mean": 0.02,
    "specificity_bootstrap_mean": 0.02,
}


@pytest.fixture(scope="module")
def labels(proveai):
    return read_labels(proveai / "test.csv")


@pytest.fixture(scope="module")
def published(proveai):
    found, _ = find(proveai / "predictions")
    return {each.system: each for each in found}


@pytest.fixture(scope="module")
def paper(published, labels):
    return {each.system: each for each in score(list(published.values()), labels, "paper").systems}


@pytest.mark.parametrize("system", TABLE)
def test_the_paper_protocol_gives_the_published_figures(paper, system):
    metrics = paper[system].metrics
    for (name, tolerance), printed in zip(COLUMNS.items(), TABLE[system], strict=True):
        assert metrics[name].value == pytest.approx(printed, rel=0, abs=tolerance), name


def test_accuracy(paper):
    for system, value in ACCURACY.items():
        assert paper[system].metrics["accuracy"].value == pytest.approx(value, rel=0, abs=0.00005)


def test_rows_averaged_per_lesion(paper):
    assert {name: each.rows_per_image for name, each in paper.items()} == {
        name: 20 if name == "first_place" else 1 for name in TABLE
    }


def test_the_clinical_figures_of_the_test_set_are_those_of_the_paper(published, labels, paper):
    scores = score(list(published.values()), labels)
    assert (scores.n, scores.positives, scores.patients) == (603, 95, 435)
    for each in scores.systems:
        for name in ("roc_auc", "average_precision", "sensitivity", "specificity"):
            metric = each.metrics[name]
            assert metric.value == paper[each.system].metrics[name].value
            assert metric.low < metric.value < metric.high
            assert metric.undefined == 0


def test_sge_b3_and_second_place_cannot_be_told_apart(published, labels):
    found = difference(published["sge_b3"], published["second_place"], "roc_auc", labels, resamples=5000)
    assert found.value == pytest.approx(0.0285, abs=0.00005)
    assert (found.low, found.high) == pytest.approx((-0.016, 0.075), abs=0.004)
    assert found.separable is False


def test_sge_b3_and_third_place_can(published, labels):
    assert difference(published["sge_b3"], published["third_place"], "roc_auc", labels).separable is True
