"""Development predictions, from which thresholds are taken before the test set is seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import numpy as np
import pandas as pd

from evaluate.alignment import Aligned, align
from evaluate.labels import Labels, read_labels
from evaluate.overlap import Overlap, TrainingTable, ids_of, overlap, plain_name
from evaluate.predictions import UNSTATED, Kind, Predictions, card_of, files_of, find, system_of
from evaluate.ranking import Ranking
from evaluate.skipped import without_skipped
from zoo.errors import InputError


class Development(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Scores of a system on development images, from which its thresholds are taken.

    Attributes:
        ranking: Those scores with their labels.
        images: Their images.
        ids: Of their images, lesions and patients, as those of a training table.
        kind: Whether they are probabilities or ranks.
        path: The file.
        sha256: Its checksum.
        named: Whether the file itself was named: one of a folder is left out where its system is not scored.
    """

    ranking: Ranking
    images: pd.Index[str]
    ids: TrainingTable
    kind: Kind
    path: str
    sha256: str
    named: bool = True


def read_development(
    files: Sequence[Path],
    labels: Path | None = None,
    *,
    systems: Collection[str] | None = None,
    kinds: Mapping[str, Kind] = MappingProxyType({}),
) -> dict[str, Development]:
    """Development predictions by system.

    Args:
        files: Files or folders of predictions, named or matched as those that are scored.
        labels: The table of their labels; None where each is a CSV file with a column `y_true`.
        systems: Those that are scored: files of a folder that are of no other system are not read.
            None reads all.
        kinds: What scores are, by system (`evaluate.predictions.find`).

    Raises:
        InputError: A file is broken, or nothing says which of its images are melanomas.
    """
    named = [file for file in files if not file.is_dir()]
    own = [file for file in files_in(files) if file in named or _is_of(file, systems)]
    if not own and systems is not None:
        return {}
    found, _ = find(own or files, extra=True, kinds=kinds)
    table = read_labels(labels) if labels else None
    development = {}
    for each in found:
        (each,), own_labels = without_skipped([each], table or _own_labels(each))
        aligned = align(each, own_labels)
        melanoma = own_labels.table["melanoma"].to_numpy()
        development[each.system] = Development(
            ranking=Ranking(aligned.scores, melanoma, np.arange(len(melanoma))),
            images=own_labels.table.index,
            ids=_ids(own_labels),
            kind=aligned.kind,
            path=each.path,
            sha256=each.sha256,
            named=Path(each.path) in named,
        )
    return development


def unscored(files: Sequence[Path], systems: Collection[str]) -> dict[str, str]:
    """Files of folders of development predictions that are of no system that is scored, and that they are left out."""
    return {
        str(file): "development predictions of a system that is not scored"
        for file in files_in(files)
        if file not in files and not _is_of(file, systems)
    }


def files_in(paths: Sequence[Path]) -> list[Path]:
    """The files, and those of the folders that can hold predictions."""
    return [file for path in paths for file in files_of(path)]


def _is_of(file: Path, systems: Collection[str] | None) -> bool:
    """Whether a file is of one of some systems; a file that says of none is not."""
    if systems is None:
        return True
    try:
        name = system_of(file)
    except InputError:
        return False
    card = card_of(name)
    return (card.name if card else name) in systems


def _ids(labels: Labels) -> TrainingTable:
    return TrainingTable(
        ids={role: frozenset(values) for role, values in ids_of(labels).items()},
        rows=len(labels.table),
        path=labels.path,
        sha256=labels.sha256,
    )


def shared(dev: Development, labels: Labels) -> Overlap:
    """What the test set shares with the development images: lesions or patients, where both are known."""
    return overlap(labels, dev.ids)


def _own_labels(predictions: Predictions) -> Labels:
    if "y_true" not in predictions.table:
        raise InputError(
            f"{predictions.path}: has no column y_true, so nothing says which development images are "
            "melanomas; add one, or give the table of their labels"
        )
    return read_labels(predictions.path, columns={"target": "y_true"})


def carries_over(dev: Development, aligned: Aligned, given: Predictions, labels: Labels) -> list[str]:
    """Checks that a threshold carries over; what a reader must know where it does so badly.

    Raises:
        InputError: Development images are test images, or the scores are of another kind.
    """
    # By plain name, as for training tables: a copy or a renamed file of a test image is that image.
    known = plain_name(pd.Series([*labels.table.index, *labels.image_of.index]))
    if same := int(plain_name(dev.images.to_series()).isin(known).sum()):
        raise InputError(
            f"{dev.path}: {same} of its images are test images of {labels.path}; a threshold that "
            "knows the test set is not locked: leave them out"
        )
    if dev.kind != aligned.kind:
        raise InputError(
            f"{dev.path}: development scores are of kind {dev.kind!r}, those of {given.path} are of kind "
            f"{aligned.kind!r}; a threshold carries over only between scores of one kind"
        )
    notes = []
    ties = shared(dev, labels)
    if ties.all_images:
        notes.append(
            f"{given.called}: {ties.said} of the test set "
            f"({len(ties.all_images)} of {len(labels.table)} lesion images) also in the development images: a "
            "threshold that has seen a patient is not wholly locked."
        )
    if dev.kind == "rank":
        what = (
            "not known to be probabilities; if they are ranks within their own set of images, a threshold means"
            if UNSTATED in given.notes
            else "ranks within their own set of images, so a threshold means"
        )
        notes.append(f"{given.called}: its scores are {what} another score on another set.")
    return notes
