"""An audit as tables: the findings, what was checked, and the scores without what training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evaluate.audit import Audit, audit, find_all
from evaluate.duplicates import hash_images
from evaluate.findings import AuditFinding
from evaluate.labels import read_labels
from evaluate.overlap import read_training_table
from evaluate.predictions import Kind, card_of, check_kinds, read_predictions
from evaluate.protocols import title_of
from reports.figures import decimals
from reports.render import Table


def read_and_audit(
    files: Sequence[Path],
    labels: Path,
    *,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | None = None,
    training: Sequence[Path] = (),
    runs: Sequence[tuple[str, Path]] = (),
    images: Path | None = None,
    train_images: Path | None = None,
    extra: bool = False,
    kinds: Mapping[str, Kind] | None = None,
    **settings: Any,
) -> tuple[Audit, dict[str, str]]:
    """Reads all that an audit looks at, and runs it.

    Args:
        files: Predictions: files or folders.
        labels: The table of labels.
        columns: Names of its columns, by role (`evaluate.labels.COLUMNS`).
        diagnoses: A table of your own that says which diagnoses are melanoma.
        training: Tables of images that systems were trained on.
        runs: Further predictions of a system: its name and the file.
        images: Folder of the test images.
        train_images: Folder of training images.
        extra: Keep files that match no card, as systems of their own.
        kinds: Whether scores are probabilities or ranks, by system.
        settings: Protocol, resamples and seed (`evaluate.audit`).

    Returns:
        The audit; and for each file that was left out, why.

    Raises:
        InputError: Labels, a training table, a run or an image cannot be read.
        MachineError: Images are given and the package that compares them is not installed.
    """
    found = find_all(files, extra=extra, kinds=kinds or {})
    if not found.unusable:  # Which system a broken file is of may not be known.
        check_kinds(kinds or {}, [each.system for each in found.predictions])
    named = [msgspec.structs.replace(read_predictions(file), system=system) for system, file in runs]
    done = audit(
        found.predictions,
        read_labels(labels, columns=columns, diagnoses=diagnoses),
        training=[read_training_table(table) for table in training],
        runs=[*found.runs, *named],
        images=hash_images(images) if images else None,
        train_images=hash_images(train_images) if train_images else None,
        unusable=found.unusable,
        **settings,
    )
    return done, found.left_out


def report(found: Audit) -> list[Table]:
    """All tables of an audit alone; systems are named as their cards name them."""
    names = {pair.a for pair in found.detectable} | {pair.b for pair in found.detectable}
    names |= {name for finding in found.findings for name in finding.systems}
    names |= {each.system for each in found.rescored}
    titles = {name: card.title for name in names if (card := card_of(name))}
    return [*audited(found, titles), *powers(found, titles)]


def audited(found: Audit, titles: Mapping[str, str]) -> list[Table]:
    """The tables of an audit.

    Args:
        found: What the checks found.
        titles: Names of systems in tables; where one has none its plain name is shown.
    """
    return [_findings(found, titles), *_rescored(found, titles)]


def powers(found: Audit, titles: Mapping[str, str]) -> list[Table]:
    """The smallest difference that can be seen between any two systems; nothing where there are no two."""
    if not found.detectable:
        return []
    rows = tuple(
        (
            f"{titles.get(pair.a, pair.a)} − {titles.get(pair.b, pair.b)}",
            decimals(pair.difference),
            decimals(pair.standard_error),
            decimals(pair.smallest),
        )
        for pair in found.detectable
    )
    return [
        Table(
            "Smallest difference in ROC-AUC that can be seen",
            ("Systems", "Observed", "Standard error", "Seen with 80% power"),
            rows,
            ("Two-sided test at 5%, without correction for the number of pairs; standard error of the "
             "paired difference over resamples of whole patients.",),
        )
    ]  # fmt: skip


def _findings(found: Audit, titles: Mapping[str, str]) -> Table:
    rows = tuple(
        (
            str(number),
            finding.severity,
            f"{finding.title}. {finding.found}{_examples(finding)}",
            finding.done,
            _scope(finding, titles),
        )
        for number, finding in enumerate(found.findings, start=1)
    )
    quiet = [each.check for each in found.checked if each.findings == 0]
    notes = [f"Checked, nothing found: {', '.join(quiet)}."] if quiet else []
    notes += [f"Not checked: {each.check}: {each.reason}." for each in found.checked if each.findings is None]
    return Table(
        "Audit: what could make these figures wrong",
        ("", "Severity", "What was found", "What was done", "Bears on"),
        rows,
        tuple(notes),
        align="rllll",
    )


def _examples(finding: AuditFinding) -> str:
    return f" E.g. {', '.join(finding.examples)}." if finding.examples else ""


def _scope(finding: AuditFinding, titles: Mapping[str, str]) -> str:
    systems = ", ".join(titles.get(name, name) for name in finding.systems) or "all systems"
    return f"{systems}: {', '.join(map(title_of, finding.metrics))}" if finding.metrics else systems


def _rescored(found: Audit, titles: Mapping[str, str]) -> list[Table]:
    if not found.shared:
        return []
    title = f"Scores with and without the {found.shared} lesion images shared with training"
    if not found.rescored:
        return [Table(title, ("System", "Scores"), (("all", f"n/a ({found.unscored})"),))]
    by_system: dict[str, list[str]] = {}
    for each in found.rescored:
        by_system.setdefault(each.system, []).append(f"{_score(each.all)} → {_score(each.without)}")
    metrics = list(dict.fromkeys(each.metric for each in found.rescored))
    return [
        Table(
            title,
            ("System", *map(title_of, metrics)),
            tuple((titles.get(name, name), *cells) for name, cells in by_system.items()),
            (
                "On all lesion images → without the shared ones, every threshold that the test set chose chosen anew.",
            ),
        )
    ]


def _score(value: float | None) -> str:
    return "n/a" if value is None else decimals(value)
