"""The paired test of one system before and after: both records' predictions on the same lesions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.labels import Labels, read_labels
from evaluate.protocols import Column, OperatingPoint, named
from evaluate.ranking import Counts, Floats, Ranking
from evaluate.resampling import effective_clusters, interval, p_value
from evaluate.scored import SystemScores
from evaluate.textbook import tests
from reports.record import InputFile, Record, Role
from zoo.errors import InputError
from zoo.files import sha256


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """The new figure less the old one, on the same lesions.

    Attributes:
        low: Lower end of its 95% interval over paired resamples of whole patients.
        high: Upper end.
        p: Two-sided p-value; None where the predictions are the same and nothing differs.
        resamples: Number of resamples.
    """

    low: float
    high: float
    p: float | None
    resamples: int


class Files:
    """The files that records were made from, found by their checksum.

    Args:
        folders: Where to look, beside the names that the records give.
    """

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self._found: dict[str, Path] = {}
        self._known: dict[Path, str] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
                if path.suffix.lower() in (".csv", ".parquet", ".toml"):
                    self._found.setdefault(self._sha(path), path)
        self._labels: dict[str, Labels] = {}

    def _sha(self, path: Path) -> str:
        if path not in self._known:
            self._known[path] = sha256(path)
        return self._known[path]

    def find(self, file: InputFile, beside: Path | None) -> Path:
        """The file that a record read, with the same bytes.

        Raises:
            InputError: It is not at hand, or has changed.
        """
        if file.sha256 in self._found:
            return self._found[file.sha256]
        changed = False
        named = Path(file.name)
        for path in (named, *([beside / named] if beside else [])):
            if path.is_file():
                if self._sha(path) == file.sha256:
                    return path
                changed = True
        state = "has changed since the record was made" if changed else "is not at hand"
        raise InputError(f"{file.name} {state}")

    def labels(self, record: Record, beside: Path | None) -> Labels:
        """The table of labels that a record was scored against.

        Raises:
            InputError: It is not at hand.
        """
        file = _input(record, "labels", None)
        if file.sha256 not in self._labels:
            own = [each for each in record.inputs if each.role == "diagnoses"]
            self._labels[file.sha256] = read_labels(
                self.find(file, beside),
                columns=record.settings.columns,
                diagnoses=self.find(own[0], beside) if own else None,
            )
        return self._labels[file.sha256]


def predictions_of(record: Record, system: str) -> InputFile:
    """The file of predictions that a system was scored from.

    Raises:
        InputError: It was not scored from one.
    """
    return _input(record, "predictions", system)


def _input(record: Record, role: Role, system: str | None) -> InputFile:
    found = [each for each in record.inputs if each.role == role and each.system == system]
    if not found:
        of = f" of {system}" if system else ""
        raise InputError(f"the record names no file of {role}{of}")
    return found[0]


def paired(
    old: Record, new: Record, system: str, metric: str, protocol: str, files: Files,
    beside: Sequence[Path | None] = (None, None),
) -> Paired:  # fmt: skip
    """Tests the new predictions of a system against the old ones.

    Both are measured in the same resamples of whole patients, so that what makes a lesion hard
    for both cancels. A threshold that development predictions locked stays that of its record.

    Raises:
        InputError: A file is not at hand, or does not fit the labels.
    """
    from evaluate.alignment import align
    from evaluate.measure import measure, resampled
    from evaluate.predictions import read_predictions
    from evaluate.skipped import without_skipped

    plan = named(protocol)
    columns = [_used(plan.column(metric), record.scored(system, protocol)) for record in (old, new)]
    sources = [predictions_of(record, system) for record in (old, new)]
    if sources[0].sha256 == sources[1].sha256 and columns[0] == columns[1]:
        return Paired(low=0.0, high=0.0, p=None, resamples=0)
    read = [read_predictions(files.find(file, folder)) for file, folder in zip(sources, beside, strict=True)]
    given, labels = without_skipped(read, files.labels(new, beside[1]))
    melanoma = labels.table["melanoma"].to_numpy()
    units = labels.table["patient"] if plan.cluster == "patient" else labels.table.index
    clusters, _ = pd.factorize(units)
    scores = np.stack([align(each, labels).scores for each in given])
    rankings = [Ranking(each, melanoma, clusters) for each in scores]

    def figures(weights: Counts) -> Floats:
        return np.stack(
            [
                measure(ranking, [column], weights)[0]
                for ranking, column in zip(rankings, columns, strict=True)
            ]
        )

    scored = next(each for each in new.scores if each.protocol == protocol)
    drawn = resampled(
        figures, len(rankings[0].unweighted), scored.resamples, scored.seed, rows=int(melanoma.sum())
    )
    difference = drawn[1] - drawn[0]
    size = effective_clusters(melanoma, clusters)
    low, high = interval(difference, size)
    if low is None or high is None:
        raise InputError(f"{system}: the resamples give {metric} no interval")
    # Of a handful of lesions that the two differ in, resamples know too little.
    p = max(p_value(difference, size), _mcnemar(columns, scores, melanoma, clusters))
    return Paired(low=low, high=high, p=p, resamples=len(difference))


def _used(column: Column, scored: SystemScores | None) -> Column:
    """The column at the threshold that was locked for a system, where it was."""
    found = scored.metrics.get(column.name) if scored else None
    if found is None or found.threshold is None or found.threshold_from != "development":
        return column
    return msgspec.structs.replace(column, point=OperatingPoint(by="threshold", value=found.threshold))


def _mcnemar(
    columns: Sequence[Column],
    scores: Floats,
    melanoma: npt.NDArray[np.bool_],
    clusters: npt.NDArray[np.intp],
) -> float:
    """The p-value of McNemar's test where both thresholds were fixed beforehand; 0, below all others, where none is."""
    cuts = [[column.point.value] for column in columns if column.point and column.point.by == "threshold"]
    if len(cuts) < len(columns):
        return 0.0
    found = tests(columns[:1], scores, melanoma, cuts, [[True]] * len(cuts), clusters)
    test = found.get((columns[0].name, 0, 1))
    return test.p or 0.0 if test else 0.0
