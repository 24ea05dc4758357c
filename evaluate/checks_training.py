"""Checks of what systems have seen before: in tables, in images, and by what their cards say.

Each takes the evidence and returns what it finds, or why it could not look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from evaluate.development import shared
from evaluate.duplicates import NearDuplicate, near_duplicates
from evaluate.findings import AuditFinding, Evidence, Outcome, listed
from evaluate.overlap import ROLES, Overlap, TrainingTable, overlap
from evaluate.predictions import card_of
from evaluate.words import many

_RESCORED = "Every system is scored without them too."


def shared_with_training(evidence: Evidence) -> Outcome:
    """Images, lesions and patients of the test set that are in a training table."""
    if not evidence.training:
        return "no training table; give one with --train-table FILE"
    return [
        finding
        for table in evidence.training
        for finding in _shared(table, overlap(evidence.labels, table), evidence)
    ]


def _shared(table: TrainingTable, found: Overlap, evidence: Evidence) -> list[AuditFinding]:
    name = Path(table.path).name
    blind = [role for role in ROLES if not table.ids[role]]
    if not found.all_images:
        return [_unseen(table, blind)] if blind else []
    images = list(found.all_images)
    melanomas = int(evidence.labels.table.loc[images, "melanoma"].sum())
    return [
        AuditFinding(
            check="shared_with_training",
            severity="error" if found.ids["image"] or found.ids["lesion"] else "warning",
            title=f"Test set shared with {name}",
            found=f"{found.said} of the test set also in {name} ({table.rows:,} rows): {many(len(images), 'lesion image')} of "
            f"{len(evidence.labels.table):,}, {many(melanomas, 'melanoma')}.{_blind(blind)}",
            done=_RESCORED,
            figures={
                **{f"{role}s": found.ids[role] for role in ROLES},
                "lesion images": len(images),
                "melanomas": melanomas,
            },
            examples=listed(images),
        )
    ]


def _unseen(table: TrainingTable, blind: list[str]) -> AuditFinding:
    return AuditFinding(
        check="shared_with_training",
        severity="note",
        title=f"Nothing known to be shared with {Path(table.path).name}",
        found=f"No image id of the test set in its {table.rows:,} rows.{_blind(blind)}",
        done="Nothing.",
        figures={"lesion images": 0},
    )


def _blind(roles: list[str]) -> str:
    return f" The table names no {' and no '.join(roles)}, so none can be compared." if roles else ""


def shared_with_development(evidence: Evidence) -> Outcome:
    """Lesions and patients of the test set among the development images that locked a threshold."""
    if not evidence.development:
        return (
            "no development predictions; give them with --threshold-from FILE to score, compare or reproduce"
        )
    by_ties: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for system, dev in evidence.development.items():
        if system in evidence.aligned and (ties := shared(dev, evidence.labels)).all_images:
            by_ties.setdefault((ties.said, ties.all_images), []).append(system)
    return [
        AuditFinding(
            check="shared_with_development",
            severity="warning",
            title="Test set shared with development",
            found=f"{said} of the test set also among the development images: {many(len(images), 'lesion image')} of "
            f"{len(evidence.labels.table):,}.",
            done="Thresholds are locked all the same: a threshold that has seen a patient is not wholly locked. "
            "Leave these patients out of the development set.",
            figures={"lesion images": len(images)},
            examples=listed(images),
            systems=tuple(systems),
            metrics=_locked(evidence, systems),
        )
        for (said, images), systems in by_ties.items()
    ]


def _locked(evidence: Evidence, systems: Collection[str]) -> tuple[str, ...]:
    """Figures of some systems at thresholds that development predictions locked."""
    found = {
        name: None
        for each in (evidence.scores.systems if evidence.scores else ())
        if each.system in systems
        for name, metric in each.metrics.items()
        if metric.threshold_from == "development"
    }
    return tuple(found)


def images_shared_with_training(evidence: Evidence) -> Outcome:
    """Test images that are nearly the same as a training image."""
    if evidence.images is None or evidence.train_images is None:
        return "no images of both sets; give --images DIR and --train-images DIR"
    found = near_duplicates(evidence.images, evidence.train_images)
    if not found:
        return []
    # Several files of one lesion image are like the same training image, and that is one pair.
    pairs = list({(pair.a, pair.b): pair for pair in found}.values())
    test = list(dict.fromkeys(pair.a for pair in pairs))
    return [
        AuditFinding(
            check="images_shared_with_training",
            severity="error",
            title="Test images among the training images",
            found=f"{many(len(test), 'test image')} of {len(set(evidence.images.names)):,} nearly the same as one of "
            f"{len(evidence.train_images.names):,} in {evidence.train_images.path}.",
            done=_RESCORED
            if evidence.labels.table.index.isin(test).any()
            else "Nothing: the labels have none of them.",
            figures={"images": len(test), "pairs": len(pairs)},
            examples=listed([_pair(pair) for pair in pairs]),
        )
    ]


def near_duplicate_images(evidence: Evidence) -> Outcome:
    """Test images that are nearly the same as another one."""
    if evidence.images is None:
        return "no images; give --images DIR"
    pairs = _of_two_images(near_duplicates(evidence.images))
    if not pairs:
        return []
    melanoma = evidence.labels.table["melanoma"].to_dict()
    differ = [
        pair
        for pair in pairs
        if pair.a in melanoma and melanoma[pair.a] != melanoma.get(pair.b, melanoma[pair.a])
    ]
    return [
        AuditFinding(
            check="near_duplicate_images",
            severity="error" if differ else "warning",
            title="Nearly the same image twice",
            found=f"{many(len(pairs), 'pair')} among {len(set(evidence.images.names)):,} images in {evidence.images.path}; "
            f"{len(differ)} with different labels.",
            done="Kept: each image counts once. Remove one of each pair, or give both one lesion id.",
            figures={"pairs": len(pairs), "different labels": len(differ)},
            examples=listed([_pair(pair) for pair in pairs]),
        )
    ]


def _of_two_images(pairs: Sequence[NearDuplicate]) -> list[NearDuplicate]:
    """Each two images once, though they may have several files: test-time copies of one image are no pair."""
    closest: dict[frozenset[str], NearDuplicate] = {}
    for pair in pairs:
        if pair.a != pair.b:
            closest.setdefault(frozenset((pair.a, pair.b)), pair)
    return list(closest.values())


def _pair(pair: NearDuplicate) -> str:
    return f"{pair.a} and {pair.b}"


def pseudo_labels(evidence: Evidence) -> Outcome:
    """Systems trained on a test set's images through pseudo-labels, as far as their cards say so."""
    findings = []
    for each in evidence.predictions:
        card = card_of(each.system)
        for trained in card.trained_on if card else ():
            if trained.labels == "pseudo":
                findings.append(
                    AuditFinding(
                        check="pseudo_labels",
                        severity="warning",
                        title=f"Trained on the images of the {trained.name}",
                        found=f"With pseudo-labels{f' ({trained.note})' if trained.note else ''}: on that set its scores are "
                        "those of a system that has seen the images.",
                        done="Nothing: whether a lesion of this test set is among them only a table of that set can "
                        "tell (--train-table).",
                        systems=(each.system,),
                    )
                )
    return findings


def departing_runs(evidence: Evidence) -> Outcome:
    """Published scores of a run that was not the system as its authors describe it."""
    findings = []
    for each in evidence.predictions:
        card = card_of(each.system)
        published = [file for file in card.predictions if file.file == Path(each.path).name] if card else []
        for file in published:
            if file.departures:
                findings.append(
                    AuditFinding(
                        check="departing_runs",
                        severity="warning",
                        title=f"{file.file} departs from the system",
                        found=" ".join(file.departures),
                        done="Scored as published: the scores may be weaker than the system is.",
                        systems=(each.system,),
                    )
                )
    return findings
