"""Resampled scores: our engine against a loop over scikit-learn on the same resamples.

    pytest benchmarks/bench_scores.py --benchmark-only

Made-up scores of the size of the PROVE-AI test set: 603 images of 435 patients, 95 melanomas,
8 systems. Both are measured in one run; their ratio is in the `extra_info` of `--benchmark-json`.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest
from sklearn import metrics as reference

from evaluate.measure import replicates
from evaluate.metrics import Ranking
from evaluate.paired import differences
from evaluate.protocols import PROTOCOLS
from evaluate.resampling import bootstrap

IMAGES, PATIENTS, MELANOMAS, SYSTEMS, RESAMPLES = 603, 435, 95, 8, 10_000
COLUMNS = PROTOCOLS["clinical"].columns
LEAST_SPEEDUP = 50
MOST_SECONDS = 30


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
                reference.recall_score(y, called),
                reference.recall_score(y, called, pos_label=0),
                reference.balanced_accuracy_score(y, called),
                reference.f1_score(y, called),
            )
    return found


def test_speedup(benchmark, systems):
    """All clinical figures in 10,000 resamples: the loop's figures, at least 50 times faster."""
    few = 20
    start = perf_counter()
    expected = loop(*systems, few)
    per_resample = (perf_counter() - start) / few
    assert np.allclose(engine(*systems, few), expected, rtol=0, atol=1e-12)
    benchmark.pedantic(engine, args=(*systems, RESAMPLES), rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:
        speedup = per_resample / (benchmark.stats.stats.median / RESAMPLES)
        benchmark.extra_info["speedup over a loop over scikit-learn"] = round(speedup)
        assert speedup > LEAST_SPEEDUP


def test_all_pairs(benchmark, systems):
    """All clinical figures in 10,000 resamples, with the differences of all 28 pairs: seconds, not minutes."""
    found = benchmark.pedantic(paired, args=(*systems, RESAMPLES), rounds=3, warmup_rounds=1)
    assert len(found) == len(COLUMNS) * SYSTEMS * (SYSTEMS - 1) // 2
    if benchmark.stats is not None:
        assert benchmark.stats.stats.median < MOST_SECONDS
