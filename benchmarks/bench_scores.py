"""Resampled scores: our engine against a loop over scikit-learn on the same resamples.

    pytest benchmarks/bench_scores.py --benchmark-only

Made-up scores of the size of the PROVE-AI test set: 603 images of 435 patients, 95 melanomas,
8 systems. Both are measured in one run; their ratio is in the `extra_info` of `--benchmark-json`.

A second set is as large as that of the ISIC 2024 challenge: 400,000 images of as many patients, 393
melanomas, 8 systems, from their CSV files to the scores, and to calibration. Processor time and the
largest memory of the process are in `extra_info`, since a busy machine stretches the time on the clock.
"""

from __future__ import annotations

import resource
import sys
from time import perf_counter, process_time

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn import metrics as reference

from evaluate import calibration_of, find, read_labels, read_predictions, score
from evaluate.measure import replicates
from evaluate.paired import differences
from evaluate.protocols import PROTOCOLS
from evaluate.ranking import Ranking
from evaluate.resampling import bootstrap

IMAGES, PATIENTS, MELANOMAS, SYSTEMS, RESAMPLES = 603, 435, 95, 8, 10_000
COLUMNS = PROTOCOLS["clinical"].columns
MANY, FEW_MELANOMAS = 400_000, 393


@pytest.fixture(scope="module")
def systems():
    """Scores, labels and clusters."""
    random = np.random.default_rng(0)
    truth = np.zeros(IMAGES, dtype=bool)
    truth[random.permutation(IMAGES)[:MELANOMAS]] = True
    clusters = random.permutation(np.arange(IMAGES) % PATIENTS)
    return random.normal(size=(SYSTEMS, IMAGES)) + 1.2 * truth, truth, clusters


def engine(scores, truth, clusters, resamples):
    """Figures of all systems, shape (systems, figures, resamples)."""
    return replicates([Ranking(each, truth, clusters) for each in scores], COLUMNS, resamples, seed=0)


def paired(scores, truth, clusters, resamples):
    """The same, and the differences of all pairs of systems with their intervals and p-values."""
    drawn = engine(scores, truth, clusters, resamples)
    return differences([str(each) for each in range(len(scores))], COLUMNS, drawn[..., 0], drawn, 0)


def partial_auc(y, scores):
    """As the ISIC 2024 challenge computes it: flipped, capped at 20%, and McClish's scaling undone."""
    scaled = reference.roc_auc_score(~y, -scores, max_fpr=0.2)
    return 0.02 + (0.2 - 0.02) / (1.0 - 0.5) * (scaled - 0.5)


def loop(scores, truth, clusters, resamples):
    """The same figures, one resample and system at a time."""
    (weights,) = bootstrap(PATIENTS, resamples, seed=0, chunk=resamples)
    found = np.empty((len(scores), len(COLUMNS), resamples))
    for resample, times in enumerate(weights[clusters].T):
        drawn = np.repeat(np.arange(IMAGES), times)
        y = truth[drawn]
        for system, its_scores in enumerate(scores[:, drawn]):
            _, reached, cuts = reference.roc_curve(y, its_scores, drop_intermediate=False)
            called = its_scores >= cuts[np.argmax(reached >= 0.95)]
            found[system, :, resample] = (
                reference.roc_auc_score(y, its_scores),
                reference.average_precision_score(y, its_scores),
                partial_auc(y, its_scores),
                reference.recall_score(y, called),
                reference.recall_score(y, called, pos_label=0),
                reference.balanced_accuracy_score(y, called),
                reference.f1_score(y, called),
            )
    return found


def test_speedup(benchmark, systems):
    """All clinical figures in 10,000 resamples: the loop's figures, and how many times faster they are there."""
    few = 20
    start = perf_counter()
    expected = loop(*systems, few)
    per_resample = (perf_counter() - start) / few
    assert np.allclose(engine(*systems, few), expected, rtol=0, atol=1e-12)
    benchmark.pedantic(engine, args=(*systems, RESAMPLES), rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:
        speedup = per_resample / (benchmark.stats.stats.median / RESAMPLES)
        benchmark.extra_info["speedup over a loop over scikit-learn"] = round(speedup)


def test_all_pairs(benchmark, systems):
    """All clinical figures in 10,000 resamples, with the differences of all 28 pairs."""
    found = benchmark.pedantic(paired, args=(*systems, RESAMPLES), rounds=3, warmup_rounds=1)
    assert len(found) == len(COLUMNS) * SYSTEMS * (SYSTEMS - 1) // 2


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with labels.csv, and predictions of systems of no card."""
    random = np.random.default_rng(0)
    truth = np.zeros(MANY, dtype=int)
    truth[random.permutation(MANY)[:FEW_MELANOMAS]] = 1
    folder = tmp_path_factory.mktemp("large")
    images = [f"IMAGE_{number:07d}" for number in range(MANY)]
    patients = [f"PATIENT_{number:07d}" for number in range(MANY)]
    pd.DataFrame({"isic_id": images, "target": truth, "patient_id": patients}).to_csv(
        folder / "labels.csv", index=False
    )
    (folder / "predictions").mkdir()
    for system in range(SYSTEMS):
        scores = expit(random.normal(-4, 1, size=MANY) + 1.5 * truth)
        frame = pd.DataFrame({"image_name": images, "target": scores})
        frame.to_csv(folder / "predictions" / f"system_{system}.csv", index=False)
    return folder


def measured(benchmark, run):
    """Runs once, and notes processor time and the largest memory so far."""
    start = process_time()
    found = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["processor seconds"] = round(process_time() - start, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    benchmark.extra_info["peak memory of the process, GiB"] = round(peak, 2)
    return found


def test_many_images(benchmark, large):
    """400,000 images of 8 systems, from files to scores, intervals and differences of all pairs."""

    def run():
        return score(find(large / "predictions", extra=True)[0], read_labels(large / "labels.csv"))

    found = measured(benchmark, run)
    assert (found.n, len(found.systems)) == (MANY, SYSTEMS)
    benchmark.extra_info["resamples"] = found.resamples


def test_calibration_of_many_images(benchmark, large):
    """Calibration of one system with as many images, from its file."""

    def run():
        given = read_predictions(large / "predictions" / "system_0.csv", kind="probability")
        return calibration_of([given], read_labels(large / "labels.csv"))

    found = measured(benchmark, run)
    assert found.systems[0].metrics["slope"].low is not None
