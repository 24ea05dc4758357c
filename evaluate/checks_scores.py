"""Checks of the scores: whether they can be what they are taken for.

Each takes the evidence and returns what it finds, or why it could not look.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from evaluate.alignment import align
from evaluate.findings import AuditFinding, Evidence, Outcome, listed
from evaluate.labels import Labels, only
from evaluate.power import area
from evaluate.predictions import UNSTATED, Predictions, system_title
from evaluate.ranking import Floats
from evaluate.scored import CHOSEN_HERE
from evaluate.skipped import BEYOND, image_of, listed_by_reason
from evaluate.words import many
from zoo.errors import InputError

LARGEST_TIED_SHARE = 0.01
"""Of the pairs of a melanoma and another lesion: as much ROC-AUC rests on how ties are counted."""

PERFECT = 0.99
"""ROC-AUC from which a result is suspicious: the best of the ISIC 2020 challenge had 0.949."""

ALIKE = 0.95
"""Rank correlation from which two runs of a system are taken to agree."""

_NO_SCORES = "no file of predictions can be scored"


def unusable_files(evidence: Evidence) -> Outcome:
    """Files with lesions missing, twice or unknown, or with other labels than the table."""
    return [
        AuditFinding(
            check="unusable_files",
            severity="error",
            title="Predictions that cannot be scored",
            found=reason,
            done="Left out of the comparison and of every other check.",
            examples=(file,),
        )
        for file, reason in evidence.unusable.items()
    ]


def skipped_images(evidence: Evidence) -> Outcome:
    """Lesion images that a system has no score of, since their file was missing or damaged."""
    skipped = evidence.labels.skipped
    if not skipped:
        return []
    total = len(evidence.labels.table) + len(skipped)
    return [
        AuditFinding(
            check="skipped_images",
            severity="warning",
            title="Lesion images without a score",
            found=f"{many(len(skipped), 'lesion image')} of {total:,}: "
            f"{'; '.join(listed(listed_by_reason(skipped)))}.",
            done="Left out for all systems, so that they are compared on the same lesions. "
            + (
                "The first images of a table may be unlike the others: predict all."
                if all(reason.startswith(BEYOND) for reason in skipped.values())
                else "Images that cannot be read may be unlike the others: mend or fetch them."
            ),
            figures={"skipped": len(skipped), "lesion images": total},
            examples=listed(skipped),
        )
    ]


def constant_scores(evidence: Evidence) -> Outcome:
    """The same score for every lesion."""
    found = [name for name, each in evidence.aligned.items() if np.ptp(each.scores) == 0]
    return _no_scores(evidence) or [
        AuditFinding(
            check="constant_scores",
            severity="error",
            title="All scores are the same",
            found=f"Every lesion scores {evidence.aligned[name].scores[0]:g}: the ROC-AUC is 0.5 whatever the network can do.",
            done="Scored as it is. Look for a head with random weights or a column read wrongly.",
            systems=(name,),
        )
        for name in found
    ]


def tied_scores(evidence: Evidence) -> Outcome:
    """So many equal scores that the ROC-AUC rests on how ties are counted."""
    findings = []
    for name, each in evidence.aligned.items():
        share = tied_share(each.scores[evidence.melanoma], each.scores[~evidence.melanoma])
        if share <= LARGEST_TIED_SHARE or np.ptp(each.scores) == 0:
            continue
        auc = area(each.scores, evidence.melanoma)
        distinct = len(np.unique(each.scores))
        findings.append(
            AuditFinding(
                check="tied_scores",
                severity="warning",
                title="Heavily tied scores",
                found=f"{len(each.scores):,} lesions have {many(distinct, 'distinct score')}; {share:.1%} of the pairs of a "
                f"melanoma and another lesion are tied. The ROC-AUC is {auc:.3f} with ties counted half, and between "
                f"{auc - share / 2:.3f} and {auc + share / 2:.3f} by how they are broken.",
                done="Ties count half. Look for scores that were rounded or are classes.",
                figures={"distinct": distinct, "tied_share": share, "roc_auc": auc},
                systems=(name,),
            )
        )
    return _no_scores(evidence) or findings


def tied_share(melanomas: Floats, others: Floats) -> float:
    """Share of the pairs of a melanoma and another lesion that score the same.

    >>> tied_share(np.array([0.5, 0.9]), np.array([0.1, 0.5]))
    0.25
    """
    ordered = np.sort(others)
    tied = np.searchsorted(ordered, melanomas, "right") - np.searchsorted(ordered, melanomas, "left")
    return float(tied.sum() / (len(melanomas) * len(others)))


def rank_scores(evidence: Evidence) -> Outcome:
    """Ranks, stated or not: their size says nothing, so nothing may be read from it."""
    findings = []
    for each in evidence.predictions:
        scored = evidence.aligned[each.system]
        count = len(scored.scores)
        ranks = are_ranks(scored.scores, count) or are_ranks(scored.scores, count * scored.rows_per_image)
        if scored.kind == "probability" and not ranks:
            continue
        unstated = UNSTATED in each.notes
        stated = "not stated to be ranks or probabilities" if unstated else "stated to be ranks"
        if scored.kind == "probability":
            stated = "taken for probabilities"
        mean = float(scored.scores.mean())
        proof = (
            f"their mean is {mean:.6f}, that of percentile ranks and of any mean of them"
            if ranks
            else f"their mean is {mean:.3f}, which is not that of plain percentile ranks over these lesions"
        )
        findings.append(
            AuditFinding(
                check="rank_scores",
                severity="note" if scored.kind == "rank" else "error",
                title="Scores are ranks"
                if ranks or (scored.kind == "rank" and not unstated)
                else "Scores are not known to be probabilities",
                found=f"The scores are {stated}; {proof}.",
                done="No calibration is computed, and thresholds such as 0.5 are only points on their scale."
                f"{_STATE if unstated and not ranks else ''}"
                if scored.kind == "rank"
                else "Nothing: figures at a fixed threshold and of calibration mean nothing for them. State the kind.",
                figures={"mean": mean},
                systems=(each.system,),
                metrics=() if scored.kind == "probability" else _AT_FIXED,
            )
        )
    return _no_scores(evidence) or findings


_STATE = " Say what they are with --kind NAME=probability or NAME=rank."
_AT_FIXED = ("f1_weighted", "accuracy")


def are_ranks(scores: Floats, count: int) -> bool:
    """Whether scores are percentile ranks among `count` rows, or any mean of such ranks.

    The ranks 1 … n over n have the mean (n + 1) / 2n, ties or not; so has every blend of them.

    >>> are_ranks(np.array([0.25, 1.0, 0.75, 0.5]), 4), are_ranks(np.array([0.2, 0.9, 0.8, 0.4]), 4)
    (True, False)
    """
    return bool(abs(scores.mean() - (count + 1) / (2 * count)) < 1e-6)


def perfect_scores(evidence: Evidence) -> Outcome:
    """A ROC-AUC too good to be true, or too bad: below what guessing gives."""
    findings = []
    for name, each in evidence.aligned.items():
        auc = area(each.scores, evidence.melanoma)
        if auc >= PERFECT:
            what, title = "close to 1", "Suspiciously perfect scores"
            look = "Look for labels that leaked into the scores and for training on these lesions."
        elif auc <= 1 - PERFECT or (
            auc < 0.5 and np.ptp(each.scores) and _clearly_below_chance(auc, evidence)
        ):
            what, title = "below what guessing gives", "Scores the wrong way round"
            look = "Look for scores of another class or a sign that was lost."
        else:
            continue
        findings.append(
            AuditFinding(
                check="perfect_scores",
                severity="error",
                title=title,
                found=f"The ROC-AUC is {auc:.4f}, {what}.",
                done=f"Scored as it is. {look}",
                figures={"roc_auc": auc},
                systems=(name,),
            )
        )
    return _no_scores(evidence) or findings


def _clearly_below_chance(auc: float, evidence: Evidence) -> bool:
    """Whether it is three standard errors below 0.5, under which scores tell nothing (Mann-Whitney)."""
    m, n = int(evidence.melanoma.sum()), int((~evidence.melanoma).sum())
    return 0.5 - auc > 3 * float(np.sqrt((m + n + 1) / (12 * m * n)))


def identical_scores(evidence: Evidence) -> Outcome:
    """Two systems with exactly the same scores: one file given twice."""
    if len(evidence.aligned) < 2:
        return "it takes two systems that can be scored"
    return [
        AuditFinding(
            check="identical_scores",
            severity="error",
            title="Two systems with the same scores",
            found=f"The scores of {a} and {b} are equal for all {len(evidence.melanoma):,} lesions.",
            done="Both are scored. Give each system its own file.",
            systems=(a, b),
        )
        for a, b in itertools.combinations(evidence.aligned, 2)
        if np.array_equal(evidence.aligned[a].scores, evidence.aligned[b].scores)
    ]


def disagreeing_runs(evidence: Evidence) -> Outcome:
    """Files of one system that disagree."""
    if not evidence.runs:
        return "no second file of a system; give one with --run SYSTEM=FILE"
    findings = []
    for run in evidence.runs:
        try:
            findings.append(_against_first(run, evidence))
        except InputError as error:
            findings.append(
                AuditFinding(
                    check="disagreeing_runs",
                    severity="error",
                    title="A second file that cannot be compared",
                    found=f"{error}.",
                    done="Left out of every other check.",
                    systems=(run.system,),
                )
            )
    return findings


def _against_first(run: Predictions, evidence: Evidence) -> AuditFinding:
    """A run compared with the first file of its system.

    Raises:
        InputError: It does not fit the labels, or there is no such file that does.
    """
    title = system_title(run.system)
    if run.system not in evidence.aligned:
        raise InputError(
            f"{run.path}: no other file of {title} can be scored; mend that, or give this one alone"
        )
    second, both = _in_common(run, evidence.labels)
    first, melanoma = evidence.aligned[run.system].scores[both], evidence.melanoma[both]
    correlation = float(spearmanr(first, second).statistic) if np.ptp(first) and np.ptp(second) else 0.0
    auc, other = area(first, melanoma), area(second, melanoma)
    path = next(each.path for each in evidence.predictions if each.system == run.system)
    files = _told_apart(path, run.path)
    furthest = np.argsort(-abs(first - second), kind="stable")
    on = "" if both.all() else f" on the {many(len(first), 'lesion image')} that both have"
    return AuditFinding(
        check="disagreeing_runs",
        severity="note" if correlation >= ALIKE else "warning",
        title="Two runs that agree" if correlation >= ALIKE else "Two runs that disagree",
        found=f"{title}: {files[0]} has ROC-AUC {auc:.4f}, {files[1]} {other:.4f} "
        f"({other - auc:+.4f}){on}; their rank correlation is {correlation:.3f} (Spearman).",
        done=f"{files[0]} is scored; what was published may rest on either.",
        figures={"rank_correlation": correlation, "roc_auc": auc, "roc_auc_of_run": other},
        examples=listed(evidence.labels.table.index[both][furthest]),
        systems=(run.system,),
    )


def _in_common(run: Predictions, labels: Labels) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """A run's scores of the lesion images that it has all scores of, and which of the labels' images these are.

    Raises:
        InputError: They are of one class, or the run does not fit the labels.
    """
    image = image_of(run.table["image"], labels)
    skipped = image.isin(list(image[run.table["score"].isna()]))
    both = labels.table.index.isin(list(image[~skipped]))
    kept = only(labels, labels.table.index[both])
    if kept.table["melanoma"].nunique() < 2:
        raise InputError(
            f"{run.path}: has scores of {len(kept.table):,} of the {len(labels.table):,} lesion images, of at "
            "most one class; complete it, or give a run on this test set"
        )
    return align(msgspec.structs.replace(run, table=run.table[~skipped]), kept).scores, both


def _told_apart(a: str, b: str) -> tuple[str, str]:
    """Names of two files; with their folders where the names are the same."""
    return (a, b) if Path(a).name == Path(b).name else (Path(a).name, Path(b).name)


def chosen_thresholds(evidence: Evidence) -> Outcome:
    """Figures at thresholds that the test set itself chose."""
    if evidence.scores is None:
        return _NO_SCORES
    chosen = {
        name
        for system in evidence.scores.systems
        for name, metric in system.metrics.items()
        if metric.threshold_from in CHOSEN_HERE
    }
    if not chosen:
        return []
    names = tuple(name for name in evidence.scores.systems[0].metrics if name in chosen)
    return [
        AuditFinding(
            check="chosen_thresholds",
            severity="warning",
            title="Thresholds chosen on the test set",
            found=f"{many(len(names), 'figure')} of the {evidence.scores.protocol} protocol at a threshold that the "
            f"test set chose: {', '.join(names)}. On new lesions they will be worse.",
            done="Marked wherever they are shown; every resample of an interval chooses its own.",
            figures={"figures": len(names)},
            metrics=names,
        )
    ]


def _no_scores(evidence: Evidence) -> str:
    """Why scores cannot be looked at; empty where they can."""
    return "" if evidence.aligned else _NO_SCORES
