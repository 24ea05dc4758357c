"""The audit: what could make a comparison wrong.

Every check is a pure function of the evidence; what it looked at and did not find is said as
plainly as what it found, and so is why it could not look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import pandas as pd

from evaluate import checks_labels, checks_scores, checks_training
from evaluate.alignment import Aligned, align
from evaluate.copies import originals
from evaluate.development import Development
from evaluate.duplicates import ImageHashes, near_duplicates
from evaluate.findings import SEVERITIES, AuditFinding, Evidence, Outcome
from evaluate.labels import Labels
from evaluate.overlap import TrainingTable, overlap, plain_name, without
from evaluate.power import Detectable, detectable
from evaluate.predictions import Kind, Predictions, card_of, files_of, kind_of, read_predictions, system_of
from evaluate.scored import Scores
from evaluate.scores import score
from evaluate.skipped import image_of, without_skipped
from evaluate.words import many
from zoo.errors import InputError, UsageError

CHECKS: tuple[Callable[[Evidence], Outcome], ...] = (
    checks_training.shared_with_training,
    checks_training.shared_with_development,
    checks_training.images_shared_with_training,
    checks_training.near_duplicate_images,
    checks_training.pseudo_labels,
    checks_training.departing_runs,
    checks_labels.copies_of_an_image,
    checks_labels.repeated_lesions,
    checks_labels.conflicting_labels,
    checks_labels.other_malignancies,
    checks_labels.untrained_diagnoses,
    checks_labels.few_positives,
    checks_labels.power,
    checks_scores.unusable_files,
    checks_scores.skipped_images,
    checks_scores.constant_scores,
    checks_scores.tied_scores,
    checks_scores.rank_scores,
    checks_scores.perfect_scores,
    checks_scores.identical_scores,
    checks_scores.disagreeing_runs,
    checks_scores.chosen_thresholds,
)
"""The checks; the id of each is its function's name, what it looks for the first line of its docstring."""


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a check was run.

    Attributes:
        check: Its id.
        about: What it looks for.
        findings: How many findings it has; None where it could not be run.
        reason: Why it could not be run.
    """

    check: str
    about: str
    findings: int | None
    reason: str = ""


class Rescored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure of a system with and without the lesion images shared with training.

    Attributes:
        system: The system.
        metric: The figure, of the protocol of the scores.
        all: Its value on all lesion images.
        without: Its value without the shared ones; None where it is not defined.
        low: Lower end of the interval of `without`.
        high: Upper end.
    """

    system: str
    metric: str
    all: float | None
    without: float | None
    low: float | None
    high: float | None


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the checks found.

    Attributes:
        findings: From the gravest down.
        checked: Every check, and whether it could be run.
        shared: How many lesion images are shared with training.
        unscored: Why there are no scores without them; empty where there are, or none is shared.
        rescored: Every figure of every system with and without them.
        detectable: For any two systems the smallest difference that the test set can show.
    """

    findings: tuple[AuditFinding, ...]
    checked: tuple[Checked, ...]
    shared: int = 0
    unscored: str = ""
    rescored: tuple[Rescored, ...] = ()
    detectable: tuple[Detectable, ...] = ()


class Found(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Prediction files as an audit reads them.

    Attributes:
        predictions: The first file of each system.
        runs: Further files of a system.
        left_out: Files of no known system, and why they were left out.
        unusable: Files that cannot be read, and why.
    """

    predictions: tuple[Predictions, ...]
    runs: tuple[Predictions, ...]
    left_out: dict[str, str]
    unusable: dict[str, str]


def find_all(
    paths: Sequence[Path | str], *, extra: bool = False, kinds: Mapping[str, Kind] = MappingProxyType({})
) -> Found:
    """Reads every file that `find` would, and goes on where one is broken.

    Args:
        paths: Files, or folders whose `.csv` and `.parquet` files are meant.
        extra: Keep files of no known system too, each under its own name.
        kinds: What scores are, by system (`evaluate.predictions.find`).
    """
    first: dict[str, Predictions] = {}
    runs: list[Predictions] = []
    left_out: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for file in (file for path in paths for file in files_of(Path(path))):
        try:
            if not extra and card_of(name := system_of(file)) is None:
                left_out[str(file)] = f"no system is called {name!r}"
                continue
            each = read_predictions(file, kind=kind_of(file, kinds))
        except InputError as error:
            unusable[str(file)] = str(error)
            continue
        if first.setdefault(each.system, each) is not each:
            runs.append(each)
    return Found(predictions=tuple(first.values()), runs=tuple(runs), left_out=left_out, unusable=unusable)


def audit(
    predictions: Sequence[Predictions],
    labels: Labels,
    *,
    scores: Scores | None = None,
    protocol: str = "clinical",
    resamples: int | None = None,
    seed: int = 0,
    training: Sequence[TrainingTable] = (),
    runs: Sequence[Predictions] = (),
    images: ImageHashes | None = None,
    train_images: ImageHashes | None = None,
    unusable: Mapping[str, str] | None = None,
    development: Mapping[str, Development] | None = None,
) -> Audit:
    """Looks for what could make a comparison wrong.

    A file that does not fit the labels is a finding here, not an error.

    Args:
        predictions: One for each system.
        labels: Of the test set.
        scores: Figures of the same systems where they were computed already: their protocol,
            resamples and seed are then used.
        protocol: `clinical` or `paper`, where they were not.
        resamples: Bootstrap resamples; None leaves their number to the protocol.
        seed: Seed of the resamples.
        training: Tables of images that systems were trained on.
        runs: Further predictions of systems in the comparison: each is compared with the first on the lesion
            images that both have, and bears on nothing else.
        images: Hashes of the test images.
        train_images: Hashes of training images.
        unusable: Files that could not be read, and why.
        development: Predictions that lock thresholds, by system.

    Raises:
        InputError: Without the images that a system skipped no image of one of the classes is left.
        UsageError: There is no such protocol, too few resamples are asked for, or a run is of a system that no
            file is of.
    """
    broken = dict(unusable or {})
    if not broken:  # Which system a broken file is of may not be known.
        _check(runs, predictions)
    whole = labels
    predictions, labels = without_skipped(predictions, whole)
    aligned: dict[str, Aligned] = {}
    for each in predictions:
        try:
            aligned[each.system] = align(each, labels)
        except InputError as error:
            broken[each.path] = str(error)
    usable = tuple(each for each in predictions if each.system in aligned)
    if scores is None and usable:
        scores = score(usable, labels, protocol, resamples=resamples, seed=seed, development=development)
    evidence = Evidence(
        labels=labels,
        predictions=usable,
        aligned=aligned,
        unusable=broken,
        scores=scores,
        pairs=detectable(aligned, labels, resamples=scores.resamples, seed=scores.seed)
        if usable and scores
        else (),
        training=tuple(training),
        runs=tuple(_kept(run, whole, labels) for run in runs),
        images=_named(images, whole) if images else None,
        train_images=train_images,
        development=development or {},
    )
    outcomes = {check: check(evidence) for check in CHECKS}
    found = [finding for outcome in outcomes.values() if not isinstance(outcome, str) for finding in outcome]
    shared = _shared(evidence)
    rescored, unscored = _rescored(evidence, shared, development)
    return Audit(
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
        checked=tuple(_checked(check, outcome) for check, outcome in outcomes.items()),
        shared=len(shared),
        unscored=unscored,
        rescored=rescored,
        detectable=evidence.pairs,
    )


def _check(runs: Sequence[Predictions], predictions: Sequence[Predictions]) -> None:
    """Refuses a run that there is no first file of."""
    names = [each.system for each in predictions]
    for run in runs:
        if run.system not in names:
            raise UsageError(
                f"{run.path}: a run of {run.system!r}, but no file is of that system; there are files of "
                f"{', '.join(names) or 'no system'} (--extra keeps files that match no card)"
            )


def _kept(run: Predictions, whole: Labels, labels: Labels) -> Predictions:
    """A run without the lesion images that the systems skipped, of which it may have scores."""
    out = image_of(run.table["image"], whole).isin(list(labels.skipped))
    return msgspec.structs.replace(run, table=run.table[~out])


def _named(images: ImageHashes, labels: Labels) -> ImageHashes:
    """The hashes under the labels' ids: a file may be of a test-time copy, or have the name of an archive's copy."""
    ids = labels.table.index
    files = pd.Series(list(images.names), dtype=str)
    by_plain = dict(zip(plain_name(ids.to_series()), ids, strict=True))
    plain = originals(plain_name(files), pd.Index(list(by_plain)))
    known = set(ids)
    names = tuple(
        own if own in known else by_plain.get(other, file)
        for file, own, other in zip(images.names, image_of(files, labels), plain, strict=True)
    )
    return msgspec.structs.replace(images, names=names)


def _checked(check: Callable[[Evidence], Outcome], outcome: Outcome) -> Checked:
    about = (check.__doc__ or "").partition("\n")[0]
    if isinstance(outcome, str):
        return Checked(check=check.__name__, about=about, findings=None, reason=outcome)
    return Checked(check=check.__name__, about=about, findings=len(outcome))


def _shared(evidence: Evidence) -> frozenset[str]:
    """Test images with a tie to a training set, by table or by picture."""
    by_table = {image for table in evidence.training for image in overlap(evidence.labels, table).all_images}
    by_picture: set[str] = set()
    if evidence.images is not None and evidence.train_images is not None:
        by_picture = {pair.a for pair in near_duplicates(evidence.images, evidence.train_images)}
    return frozenset(by_table | by_picture & set(evidence.labels.table.index))


def _rescored(
    evidence: Evidence, shared: frozenset[str], development: Mapping[str, Development] | None
) -> tuple[tuple[Rescored, ...], str]:
    """Figures with and without the shared lesion images; where there are none, why."""
    if not shared or evidence.scores is None:
        return (), ""
    left, labels = without(evidence.predictions, evidence.labels, shared)
    if labels.table["melanoma"].nunique() < 2:
        return (
            (),
            f"without them {many(len(labels.table), 'lesion image')} of at most one class would be left",
        )
    given = evidence.scores
    again = score(
        left, labels, given.protocol, resamples=given.resamples, seed=given.seed, development=development
    )
    return tuple(
        Rescored(
            system=whole.system,
            metric=name,
            all=whole.metrics[name].value,
            without=metric.value,
            low=metric.low,
            high=metric.high,
        )
        for whole, part in zip(given.systems, again.systems, strict=True)
        for name, metric in part.metrics.items()
    ), ""
