"""May the intervals and p-values be believed? Simulated studies whose truth is known.

    python -m benchmarks.simulate_intervals --studies 2000 --seed 0

Prints a Markdown table: how often 95% intervals hold the truth, and how often a test at 0.05 tells
systems apart that are equally good. Each with the standard error of the simulation itself.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from evaluate.delong import DeLong
from evaluate.measure import measure, replicates
from evaluate.metrics import Ranking
from evaluate.paired import bootstrap_p, holm
from evaluate.protocols import PROTOCOLS
from evaluate.resampling import interval
from evaluate.textbook import mcnemar

Floats = npt.NDArray[np.float64]

GAP = 1.2
"""Distance between the classes in standard deviations."""

AUC = float(special.ndtr(GAP / math.sqrt(2)))
"""The true area of every system (binormal, equal variances)."""

FIXED = GAP + float(special.ndtri(0.2))
"""A threshold fixed beforehand, with a true sensitivity of 0.80."""

COLUMNS = tuple(
    PROTOCOLS["clinical"].column(name) for name in ("roc_auc", "average_precision", "specificity")
)


class Design(NamedTuple):
    """A kind of study.

    Attributes:
        name: What it is.
        patients: Number of patients.
        images: How many images the patients have, in turn.
        systems: Number of systems, all equally good.
    """

    name: str
    patients: int
    images: tuple[int, ...]
    systems: int


class Study(NamedTuple):
    """One simulated test set: scores (systems, images), labels and patients."""

    scores: Floats
    melanoma: npt.NDArray[np.bool_]
    patients: npt.NDArray[np.intp]


class Tally(NamedTuple):
    """How often something came about, of how many studies."""

    design: str
    what: str
    nominal: float
    share: float
    studies: int

    @property
    def error(self) -> float:
        """Standard error of the share."""
        return math.sqrt(self.share * (1 - self.share) / self.studies)


DESIGNS = (
    Design("400 patients, 1 image each", 400, (1,), 4),
    Design("435 patients, 609 images", 435, (1, 1, 1, 2, 2), 4),
    Design("100 patients, 4 images each", 100, (4,), 4),
    Design("300 patients, 4 images each", 300, (4,), 4),
)
"""A fifth of the images are of melanomas. The second is as large as the PROVE-AI test set."""


def draw(design: Design, random: np.random.Generator) -> Study:
    """One study. A system's score is `GAP` for a melanoma, and four normal parts with variances of 0.25.

    One part is of the patient and one of the image, which all systems share; one is of the patient
    and one of the image, for each system alone. So images of one patient are alike, and so are the
    systems, and the variance of a score within a class is 1. Patients differ in how likely their images
    are to be of melanoma (beta with mean 0.2).
    """
    patients = np.repeat(np.arange(design.patients), np.resize(design.images, design.patients))
    share = random.beta(0.4, 1.6, size=design.patients)
    melanoma = random.random(len(patients)) < share[patients]
    parts = (
        random.normal(size=(1, design.patients))[:, patients],
        random.normal(size=(1, len(patients))),
        random.normal(size=(design.systems, design.patients))[:, patients],
        random.normal(size=(design.systems, len(patients))),
    )
    return Study(GAP * melanoma + 0.5 * np.asarray(sum(parts)), melanoma, patients)


def simulate(design: Design, studies: int, resamples: int, seed: int) -> list[Tally]:
    """Coverage and type-I errors in studies of one design."""
    random = np.random.default_rng(seed)
    truth = true_figures(seed)
    found: dict[tuple[str, float], list[bool]] = {}
    for number in range(studies):
        for what, nominal, came_about in _judged(draw(design, random), truth, resamples, number):
            found.setdefault((what, nominal), []).append(came_about)
    return [
        Tally(design.name, what, nominal, float(np.mean(each)), len(each))
        for (what, nominal), each in found.items()
    ]


def true_figures(seed: int) -> tuple[float, ...]:
    """The truth of each of `COLUMNS`; average precision has no closed form, so that of 2 million images."""
    large = draw(Design("large", 2_000_000, (1,), 1), np.random.default_rng(seed))
    one = Ranking(large.scores[0], large.melanoma, np.zeros(len(large.patients), dtype=np.intp))
    precision = float(measure(one, COLUMNS[1:2], one.unweighted).item())
    specificity = float(special.ndtr(GAP + special.ndtri(0.05)))
    return AUC, precision, specificity


def _judged(
    study: Study, truth: tuple[float, ...], resamples: int, seed: int
) -> Iterator[tuple[str, float, bool]]:
    """What came about in one study: (what, how often it should, whether it did)."""
    rankings = [Ranking(each, study.melanoma, study.patients) for each in study.scores]
    drawn = replicates(rankings, COLUMNS, resamples, seed)
    delong = DeLong(study.scores, study.melanoma)
    area = delong.auc(0)
    yield "interval holds the ROC-AUC: DeLong", 0.95, _holds((area.low, area.high), AUC)
    for column, values, true in zip(COLUMNS, drawn[0], truth, strict=True):
        yield f"interval holds the {_said(column.title)}: bootstrap", 0.95, _holds(interval(values), true)
    pairs = list(combinations(range(len(rankings)), 2))
    by_delong = [delong.difference(a, b) for a, b in pairs]
    yield "interval holds the ROC-AUC difference: DeLong", 0.95, _holds(by_delong[0][2:4], 0)
    yield (
        "interval holds the ROC-AUC difference: bootstrap",
        0.95,
        _holds(interval(drawn[0, 0] - drawn[1, 0]), 0),
    )
    yield "two told apart by ROC-AUC: DeLong", 0.05, _below(by_delong[0].p)
    for figure, column in enumerate(COLUMNS):
        p = bootstrap_p(drawn[0, figure] - drawn[1, figure])
        yield f"two told apart by {_said(column.title)}: bootstrap", 0.05, _below(p)
    others = study.scores[:, ~study.melanoma]
    ill = study.scores[:, study.melanoma]
    chosen = [np.sort(each)[::-1][math.ceil(0.95 * ill.shape[1]) - 1] for each in ill]
    yield "two told apart by specificity: McNemar, fixed threshold", 0.05, _mcnemar(others, (FIXED, FIXED))
    yield (
        "two told apart by specificity: McNemar, chosen on the test set",
        0.05,
        _mcnemar(others, (chosen[0], chosen[1])),
    )
    bootstrapped = [bootstrap_p(drawn[a, 0] - drawn[b, 0]) for a, b in pairs]
    what = f"any of {len(rankings)} told apart by ROC-AUC"
    yield f"{what}: DeLong with Holm", 0.05, any(map(_below, holm([each.p for each in by_delong])))
    yield f"{what}: bootstrap with Holm", 0.05, any(map(_below, holm(bootstrapped)))
    yield f"{what}: bootstrap without Holm", 0.05, any(map(_below, bootstrapped))


def _holds(ends: tuple[Any, ...], truth: float) -> bool:
    low, high = ends
    return low is not None and bool(low <= truth <= high)


def _below(p: float | None) -> bool:
    return p is not None and p < 0.05


def _mcnemar(others: Floats, thresholds: tuple[float, float]) -> bool:
    passed = [others[system] < thresholds[system] for system in (0, 1)]
    return _below(mcnemar(int(np.sum(passed[0] & ~passed[1])), int(np.sum(passed[1] & ~passed[0]))))


def _said(title: str) -> str:
    return title if title.isupper() or "-" in title else title[0].lower() + title[1:]


def table(found: list[Tally]) -> str:
    """The result as Markdown: a row per figure, a column per design."""
    designs = list(dict.fromkeys(each.design for each in found))
    cells = {(each.design, each.what): f"{each.share:.3f} ± {each.error:.3f}" for each in found}
    nominal = {each.what: each.nominal for each in found}
    lines = [
        f"| share of studies in which | nominal | {' | '.join(designs)} |",
        "|:--|--:|" + "--:|" * len(designs),
    ]
    lines += [
        f"| {what} | {share:.2f} | {' | '.join(cells[design, what] for design in designs)} |"
        for what, share in nominal.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulates all designs and prints the table."""
    parser = argparse.ArgumentParser(description="Coverage of intervals and type-I errors, by simulation.")
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run = partial(simulate, studies=options.studies, resamples=options.resamples, seed=options.seed)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = [each for tallies in pool.map(run, DESIGNS) for each in tallies]
    print(table(found))


if __name__ == "__main__":
    main()
