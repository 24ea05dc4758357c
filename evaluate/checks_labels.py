"""Checks of the test set: what its lesions are, and whether there are enough of them.

Each takes the evidence and returns what it finds, or why it could not look.
"""

from __future__ import annotations

import pandas as pd

from evaluate.classes import closed_classes, diagnoses, most_specific, read_classes, trained_classes
from evaluate.findings import AuditFinding, Evidence, Outcome, listed
from evaluate.predictions import card_of
from evaluate.words import many

FEWEST_EVENTS = 100
"""Of either class: Collins, Ogundimu & Altman, Sample size considerations for the external validation
of a multivariable prognostic model, Statistics in Medicine 35 (2016) 214-226."""

_NO_LESIONS = "the labels have no column of lesions"
_NO_DIAGNOSIS = "the labels have no column of diagnoses"


def copies_of_an_image(evidence: Evidence) -> Outcome:
    """Copies of a lesion image with another label, patient or lesion than the image itself."""
    rows, images = len(evidence.labels.image_of), len(evidence.labels.table)
    if rows == images:
        return "the labels have no rows of test-time copies"
    return [
        AuditFinding(
            check="copies_of_an_image",
            severity="note",
            title="Copies that agree",
            found=f"{rows:,} rows are {images:,} lesion images and their {rows // images - 1} copies each; label, patient "
            "and lesion of all copies are those of their image (a table where they differ is refused).",
            done="Scores of an image and its copies are averaged: each lesion image counts once.",
            figures={"rows": rows, "lesion images": images},
        )
    ]


def repeated_lesions(evidence: Evidence) -> Outcome:
    """Several images of one lesion, which are not independent of each other."""
    lesions = evidence.labels.table["lesion"].dropna()
    if lesions.empty:
        return _NO_LESIONS
    again = lesions[lesions.duplicated(keep=False)]
    if again.empty:
        return []
    count = again.nunique()
    return [
        AuditFinding(
            check="repeated_lesions",
            severity="warning",
            title="Several images of one lesion",
            found=f"{many(count, 'lesion')} with {len(again):,} images of the {len(evidence.labels.table):,} that are scored.",
            done="Each image counts once; intervals keep the images of a patient together.",
            figures={"lesions": count, "images": len(again)},
            examples=listed(again.unique()),
        )
    ]


def conflicting_labels(evidence: Evidence) -> Outcome:
    """Images of one lesion of which some are labelled melanoma and some not."""
    table = evidence.labels.table.dropna(subset=["lesion"])
    if table.empty:
        return _NO_LESIONS
    labels = table.groupby("lesion", sort=False)["melanoma"].nunique()
    both = labels.index[labels > 1]
    if both.empty:
        return []
    return [
        AuditFinding(
            check="conflicting_labels",
            severity="error",
            title="One lesion with different labels",
            found=f"{many(len(both), 'lesion')} of {labels.size:,} called melanoma in one image and not in another.",
            done="Nothing: every image keeps its own label. Correct the table.",
            figures={"lesions": len(both)},
            examples=listed(both),
        )
    ]


def other_malignancies(evidence: Evidence) -> Outcome:
    """Cancers that are not melanoma and so count as negatives."""
    levels = diagnoses(evidence.labels)
    if levels is None:
        return _NO_DIAGNOSIS
    names = _named(levels)
    classes = trained_classes(levels, evidence.labels.table["melanoma"])
    found = names[classes.isin(read_classes().malignant)]
    if found.empty:
        return []
    counts = found.value_counts()
    return [
        AuditFinding(
            check="other_malignancies",
            severity="note",
            title="Cancers that count as negatives",
            found=f"{len(found):,} lesions are malignant but not melanoma: {_counted(counts)}. "
            "A system that flags them is charged with false positives.",
            done="Counted as negatives: the target is melanoma, not malignancy.",
            figures={"lesions": len(found), **{str(name): int(count) for name, count in counts.items()}},
            examples=listed(found.index),
        )
    ]


def untrained_diagnoses(evidence: Evidence) -> Outcome:
    """Diagnoses of none of the classes that a system was trained on."""
    levels = diagnoses(evidence.labels)
    if levels is None:
        return _NO_DIAGNOSIS
    classes = trained_classes(levels, evidence.labels.table["melanoma"])
    closed: dict[frozenset[str], list[str]] = {}
    for each in evidence.predictions:
        card = card_of(each.system)
        if card and (trained := closed_classes(card)):
            closed.setdefault(trained, []).append(card.name)
    findings = []
    for trained, systems in closed.items():
        foreign = _named(levels)[classes.notna() & ~classes.isin(trained)]
        if foreign.empty:
            continue
        counts = foreign.value_counts()
        findings.append(
            AuditFinding(
                check="untrained_diagnoses",
                severity="note",
                title="Diagnoses of no trained class",
                found=f"{many(len(foreign), 'lesion')} of {len(classes):,} of none of the classes "
                f"{', '.join(sorted(trained))}: {_counted(counts)}.",
                done="Kept: a melanoma score is asked of every lesion.",
                figures={
                    "lesions": len(foreign),
                    **{str(name): int(count) for name, count in counts.items()},
                },
                examples=listed(foreign.index),
                systems=tuple(systems),
            )
        )
    return [*findings, *_unlisted(levels, classes)]


def _unlisted(levels: pd.DataFrame, classes: pd.Series[str]) -> list[AuditFinding]:
    unlisted = _named(levels)[classes.isna()]
    if unlisted.empty:
        return []
    return [
        AuditFinding(
            check="untrained_diagnoses",
            severity="note",
            title="Diagnoses whose class is not known",
            found=f"{many(len(unlisted), 'lesion')} of {len(classes):,}: {_counted(unlisted.value_counts())}.",
            done="Kept; evaluate/classes.toml does not say what classes they belong to.",
            figures={"lesions": len(unlisted)},
            examples=listed(unlisted.index),
        )
    ]


def few_positives(evidence: Evidence) -> Outcome:
    """Too few melanomas, or too few other lesions, for any system to be validated on."""
    melanoma = evidence.melanoma
    counts = {"melanomas": int(melanoma.sum()), "other lesions": int((~melanoma).sum())}
    few = {name: count for name, count in counts.items() if count < FEWEST_EVENTS}
    if not few:
        return []
    return [
        AuditFinding(
            check="few_positives",
            severity="warning",
            title=f"Few {' and '.join(few)}",
            found=f"{', '.join(f'{count:,} {name}' for name, count in few.items())}; a validation study needs at "
            f"least {FEWEST_EVENTS} (Collins et al. 2016).",
            done="Read every figure with its interval; a subgroup holds fewer still.",
            figures=dict(few),
        )
    ]


def power(evidence: Evidence) -> Outcome:
    """Differences too small for the test set to show."""
    pairs = evidence.pairs
    if not pairs:
        return "it takes two systems that can be scored"
    hidden = [pair for pair in pairs if abs(pair.difference) < pair.smallest]
    low, high = min(pair.smallest for pair in pairs), max(pair.smallest for pair in pairs)
    melanomas = int(evidence.melanoma.sum())
    return [
        AuditFinding(
            check="power",
            severity="warning" if hidden else "note",
            title="Smallest ROC-AUC difference that can be seen",
            found=f"With {many(melanomas, 'melanoma')} a true difference in ROC-AUC is seen with 80% power from {low:.3f} on "
            f"(the most alike pair of systems) to {high:.3f} (the least alike). {len(hidden)} of {len(pairs)} observed "
            "differences are smaller.",
            done="A difference below it that is not separable is no proof of equality.",
            figures={"smallest": low, "largest": high, "pairs": len(pairs), "below": len(hidden)},
            metrics=("roc_auc",),
        )
    ]


def _named(levels: pd.DataFrame) -> pd.Series[str]:
    """The most specific level of each diagnosis; `no diagnosis` where there is none."""
    return most_specific(levels).fillna("no diagnosis")


def _counted(counts: pd.Series[int]) -> str:
    """Diagnoses with their numbers, the most frequent first.

    >>> _counted(pd.Series({"scar": 1, "verruca": 2}))
    'verruca 2, scar 1'
    """
    return ", ".join(
        f"{name} {count}" for name, count in counts.sort_values(ascending=False, kind="stable").items()
    )
