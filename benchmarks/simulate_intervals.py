"""May the intervals and p-values be believed? Simulated studies whose truth is known.

    python -m benchmarks.simulate_intervals --studies 2500 --resamples 2000 --seed 0

Prints Markdown tables: how often 95% intervals hold the truth, and how often a test at 0.05 tells
systems apart that are equally good, each with the standard error of the simulation itself; and how
wide the intervals of differences are beside what they should be.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
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
from evaluate.paired import holm
from evaluate.protocols import PROTOCOLS
from evaluate.ranking import Ranking
from evaluate.resampling import effective_clusters, interval, p_value
from evaluate.textbook import mcnemar, mcnemar_clustered

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

    @property
    def off(self) -> float:
        """How far the share is from the nominal one, in standard errors of a simulation with that share."""
        return (self.share - self.nominal) / math.sqrt(self.nominal * (1 - self.nominal) / self.studies)


class Width(NamedTuple):
    """How wide the 95% intervals of a difference are: mean half-width over 1.96 true standard deviations."""

    design: str
    what: str
    ratio: float


DESIGNS = (
    Design("400 patients, 1 image each", 400, (1,), 4),
    Design("435 patients, 609 images", 435, (1, 1, 1, 2, 2), 4),
    Design("100 patients, 4 images each", 100, (4,), 4),
    Design("300 patients, 4 images each", 300, (4,), 4),
    Design("60 patients, 4 images each", 60, (4,), 4),
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


def simulate(design: Design, studies: int, resamples: int, seed: int) -> tuple[list[Tally], list[Width]]:
    """Coverage and type-I errors in studies of one design, and the widths of intervals of differences."""
    random = np.random.default_rng(seed)
    truth = true_figures(seed)
    found: dict[tuple[str, float], list[bool]] = {}
    seen: dict[str, list[tuple[float, float]]] = {}
    for number in range(studies):
        judged = _Judged(draw(design, random), truth, resamples, number)
        for what, nominal, came_about in judged.all():
            found.setdefault((what, nominal), []).append(came_about)
        for what, value, half in judged.widths:
            seen.setdefault(what, []).append((value, half))
    tallies = [
        Tally(design.name, what, nominal, float(np.mean(each)), len(each))
        for (what, nominal), each in found.items()
    ]
    widths = []
    for what, pairs in seen.items():
        values, halves = np.array(pairs).T
        widths.append(
            Width(design.name, what, float(halves.mean() / (special.ndtri(0.975) * values.std(ddof=1))))
        )
    return tallies, widths


def true_figures(seed: int) -> tuple[float, ...]:
    """The truth of each of `COLUMNS`; average precision has no closed form, so that of 2 million images."""
    large = draw(Design("large", 2_000_000, (1,), 1), np.random.default_rng(seed))
    one = Ranking(large.scores[0], large.melanoma, np.zeros(len(large.patients), dtype=np.intp))
    precision = float(measure(one, COLUMNS[1:2], one.unweighted).item())
    specificity = float(special.ndtr(GAP + special.ndtri(0.05)))
    return AUC, precision, specificity


Came = tuple[str, float, bool]
"""What came about in one study: what, how often it should, whether it did."""


class _Judged:
    """One study, and what came about in it.

    Attributes:
        widths: For each difference between the first two systems: what, its value and half its interval.
    """

    def __init__(self, study: Study, truth: tuple[float, ...], resamples: int, seed: int) -> None:
        self._study, self._truth = study, truth
        rankings = [Ranking(each, study.melanoma, study.patients) for each in study.scores]
        self._size = effective_clusters(study.melanoma, study.patients)
        self._drawn = replicates(rankings, COLUMNS, resamples, seed)
        self._points = [measure(each, COLUMNS, each.unweighted)[:, 0] for each in rankings]
        self._pairs = list(combinations(range(len(rankings)), 2))
        # By image as DeLong and McNemar take them, and by patient as they are shown.
        self._plain = DeLong(study.scores, study.melanoma)
        self._delong = DeLong(study.scores, study.melanoma, study.patients)
        self.widths: list[tuple[str, float, float]] = []

    def all(self) -> Iterator[Came]:
        yield from self._of_figures()
        yield from self._of_differences()
        yield from self._of_mcnemar()
        yield from self._of_families()

    def _of_figures(self) -> Iterator[Came]:
        for how, delong in (("DeLong, by image", self._plain), ("DeLong", self._delong)):
            area = delong.auc(0)
            yield f"interval holds the ROC-AUC: {how}", 0.95, _holds((area.low, area.high), AUC)
        plain = interval(self._drawn[0, 0])
        yield "interval holds the ROC-AUC: bootstrap, not expanded", 0.95, _holds(plain, AUC)
        for column, values, true in zip(COLUMNS, self._drawn[0], self._truth, strict=True):
            held = _holds(interval(values, self._size), true)
            yield f"interval holds the {_said(column.title)}: bootstrap", 0.95, held

    def _of_differences(self) -> Iterator[Came]:
        for how, delong in (("DeLong, by image", self._plain), ("DeLong", self._delong)):
            found = delong.difference(0, 1)
            yield f"interval holds the ROC-AUC difference: {how}", 0.95, _holds((found.low, found.high), 0)
            yield f"two told apart by ROC-AUC: {how}", 0.05, _below(found.p)
        for figure, column in enumerate(COLUMNS):
            title = _said(column.title)
            value = self._points[0][figure] - self._points[1][figure]
            ends = interval(self._drawn[0, figure] - self._drawn[1, figure], self._size)
            yield f"interval holds the {title} difference: bootstrap", 0.95, _holds(ends, 0)
            yield f"two told apart by {title}: bootstrap", 0.05, _below(self._p(0, 1, figure))
            if ends[0] is not None and ends[1] is not None:
                self.widths.append((f"{title} difference", value, (ends[1] - ends[0]) / 2))

    def _of_mcnemar(self) -> Iterator[Came]:
        well = ~self._study.melanoma
        others, ill = self._study.scores[:, well], self._study.scores[:, self._study.melanoma]
        patients = self._study.patients[well]
        chosen = [np.sort(each)[::-1][math.ceil(0.95 * ill.shape[1]) - 1] for each in ill]
        what = "two told apart by specificity: McNemar"
        for how, cuts in (
            ("fixed threshold", (FIXED, FIXED)),
            ("chosen on the test set", (chosen[0], chosen[1])),
        ):
            passed = [others[system] < cuts[system] for system in (0, 1)]
            by_image = mcnemar(int(np.sum(passed[0] & ~passed[1])), int(np.sum(passed[1] & ~passed[0])))
            net = np.bincount(patients, passed[0].astype(np.float64) - passed[1]).astype(np.int64)
            yield f"{what}, by image, {how}", 0.05, _below(by_image)
            yield f"{what}, {how}", 0.05, _below(mcnemar_clustered(net))

    def _of_families(self) -> Iterator[Came]:
        what = f"any of {len(self._study.scores)} told apart by ROC-AUC"
        yield (
            f"{what}: DeLong with Holm",
            0.05,
            _any(holm([self._delong.difference(*pair).p for pair in self._pairs])),
        )
        found = [self._p(a, b) for a, b in self._pairs]
        yield f"{what}: bootstrap with Holm", 0.05, _any(holm(found))
        few = [self._p(a, b, resamples=100) for a, b in self._pairs]
        yield f"{what}: bootstrap with Holm, 100 resamples", 0.05, _any(holm(few))
        yield f"{what}: bootstrap without Holm", 0.05, _any(found)

    def _p(self, a: int, b: int, figure: int = 0, resamples: int | None = None) -> float:
        values = (self._drawn[a, figure] - self._drawn[b, figure])[:resamples]
        return p_value(values, self._size, float(self._points[a][figure] - self._points[b][figure]))


def _any(found: Sequence[float | None]) -> bool:
    return any(map(_below, found))


def _holds(ends: tuple[Any, ...], truth: float) -> bool:
    low, high = ends
    return low is not None and bool(low <= truth <= high)


def _below(p: float | None) -> bool:
    return p is not None and p < 0.05


def _said(title: str) -> str:
    return title if title.isupper() or "-" in title else title[0].lower() + title[1:]


def table(found: list[Tally]) -> str:
    """The result as Markdown: a row per figure, a column per design; * is off by more than 1.96 errors."""
    designs = list(dict.fromkeys(each.design for each in found))
    cells = {
        (each.design, each.what): f"{each.share:.3f} ± {each.error:.3f}{'*' if abs(each.off) > 1.96 else ''}"
        for each in found
    }
    nominal = {each.what: each.nominal for each in found}
    rows = [
        f"| {what} | {share:.2f} | {' | '.join(cells[design, what] for design in designs)} |"
        for what, share in sorted(nominal.items(), key=lambda each: -each[1])
    ]
    return "\n".join([*_head("share of studies in which | nominal", designs), *rows])


def widths(found: list[Width]) -> str:
    """The widths as Markdown: a row per figure, a column per design."""
    designs = list(dict.fromkeys(each.design for each in found))
    cells = {(each.design, each.what): f"{each.ratio:.2f}" for each in found}
    rows = [
        f"| {what} | 1 | {' | '.join(cells[design, what] for design in designs)} |"
        for what in dict.fromkeys(each.what for each in found)
    ]
    return "\n".join([*_head("half-width over 1.96 true standard deviations | nominal", designs), *rows])


def _head(first: str, designs: list[str]) -> list[str]:
    return [f"| {first} | {' | '.join(designs)} |", "|:--|--:|" + "--:|" * len(designs)]


def main() -> None:
    """Simulates all designs and prints the tables."""
    parser = argparse.ArgumentParser(description="Coverage of intervals and type-I errors, by simulation.")
    parser.add_argument("--studies", type=int, default=2500)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None, help="processes; one per core by default")
    options = parser.parse_args()
    run = partial(simulate, studies=options.studies, resamples=options.resamples, seed=options.seed)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(run, DESIGNS))
    print(table([each for tallies, _ in found for each in tallies]))
    print()
    print(widths([each for _, each_widths in found for each in each_widths]))


if __name__ == "__main__":
    main()
