"""Per-image scores of a system: finding, reading and writing them.

A file is Parquet (one row per lesion image, member and fold) or CSV of the published shape
(`image_name`, `target` and perhaps `y_true`, in any order: one row per image or test-time copy). A
target of `n/a` is an image that was skipped; a column `skipped` may say why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from natsort import natsorted

import zoo
from evaluate.labels import COLUMNS
from evaluate.prediction_file import SCHEMA, read_header, write_rows
from evaluate.provenance import UNTRAINED, notes
from evaluate.tables import ids, numbers, read_csv, spelled, truth
from evaluate.words import many
from zoo.card import System
from zoo.errors import InputError, UnknownNameError, UsageError
from zoo.files import sha256
from zoo.references import scores_file

Kind = Literal["probability", "rank"]

UNSTATED = (
    "Nothing says whether the scores are probabilities, so nothing is computed that only probabilities allow; "
    "say it with --kind NAME=probability or --kind NAME=rank."
)
"""Note of scores of which neither a card nor the user says what they are."""


class Predictions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Scores of one system, checked when made.

    Attributes:
        system: Name of the system.
        kind: Whether `score` is a probability of melanoma or a rank.
        table: One row per image (or test-time copy), member and fold; the index is the row in
            the file. Columns: `image`, `score`; where known `lesion`, `patient`, `member`,
            `fold`, and `y_true` (what the file takes for the truth). The `score` of a skipped
            image is missing.
        path: The file, or what to call the scores in an error message.
        sha256: Checksum of the file; empty where it was not read from one.
        metadata: What else a Parquet file says of itself; `skipped` in it are ids of images
            without a score, and why.
        notes: What a reader of its scores must know.
        title: What to call the system in tables; by its card where empty.

    Raises:
        InputError: An image is there twice for a member and fold, or a score is not a number,
            or is a probability outside [0, 1]; or a skipped image has a score.
    """

    system: str
    kind: Kind
    table: pd.DataFrame
    path: str = "predictions"
    sha256: str = ""
    metadata: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        table = self.table
        score = table["score"]
        skipped = table["image"].isin(list(self.skipped))
        if (skipped & score.notna()).any():
            row = table.index[skipped & score.notna()][0]
            raise InputError(
                f"{self.path}: row {row}: {table['image'][row]} was skipped ({self.skipped[table['image'][row]]}) and "
                "has a score; remove the one or the other"
            )
        wrong = ~np.isfinite(score) & ~skipped
        what = "is not a finite number"
        if not wrong.any() and self.kind == "probability":
            wrong = (score < 0) | (score > 1)
            what = "is outside [0, 1], so not a probability; correct it, or say in the card's predictions (kind) that they are ranks"
        if wrong.any():
            row = table.index[wrong][0]
            raise InputError(
                f"{self.path}: row {row}: the score {score[row]} of {table['image'][row]} {what} "
                f"({many(int(wrong.sum()), 'such row')})"
            )
        keys = [column for column in ("image", "member", "fold") if column in table]
        twice = table.duplicated(keys)
        if twice.any():
            row = table.index[twice][0]
            raise InputError(
                f"{self.path}: row {row} repeats {', '.join(str(table[key][row]) for key in keys)}; "
                "keep one row for an image, member and fold"
            )

    @property
    def called(self) -> str:
        """What to call the system in tables."""
        return self.title or system_title(self.system)

    @property
    def skipped(self) -> dict[str, str]:
        """Images without a score, and why.

        Raises:
            InputError: The metadata says it in another form.
        """
        try:
            return msgspec.convert(self.metadata.get("skipped", {}), dict[str, str])
        except msgspec.ValidationError as error:
            raise InputError(
                f"{self.path}: its metadata must give a reason for each skipped image: {error}"
            ) from error


def read_predictions(path: Path | str, *, kind: Kind | None = None) -> Predictions:
    """Scores of one system from a Parquet or CSV file.

    A Parquet file says what system and kind its scores are of. For a CSV file its name tells the
    system (`zoo.card` of the stem), and that system's card the kind; where neither `kind` nor a
    card says, scores are not known to be probabilities: they are kept as ranks, from which nothing is
    claimed that only probabilities allow.

    Raises:
        InputError: The file cannot be read, lacks a column, or its rows are wrong (see
            `Predictions`); or `kind` contradicts a Parquet file.
    """
    path = Path(path)
    return _read_parquet(path, kind) if path.suffix == ".parquet" else _read_csv(path, kind)


def write_predictions(predictions: Predictions, path: Path | str) -> None:
    """Writes a Parquet file that `read_predictions` reads; a reader never sees half of it.

    Raises:
        MachineError: The file cannot be written.
    """
    write_rows(
        [predictions.table],
        Path(path),
        system=predictions.system,
        kind=predictions.kind,
        metadata=predictions.metadata,
    )


def read_elsewhere(system: System) -> Predictions:
    """Scores of a system that has no network, from the file that its name (`csv:PATH`) gives.

    Raises:
        InputError: As of `read_predictions`.
        UsageError: The system has a network.
    """
    path = scores_file(system)
    if path is None:
        raise UsageError(f"{system.name} has networks, and no file of scores in its name")
    (published,) = system.predictions
    found = read_predictions(path, kind=published.kind)
    return msgspec.structs.replace(
        found, system=system.name, notes=tuple(filter(None, [*found.notes, published.note]))
    )


def find(
    paths: Iterable[Path | str] | Path | str,
    *,
    extra: bool = False,
    kinds: Mapping[str, Kind] = MappingProxyType({}),
) -> tuple[list[Predictions], dict[str, str]]:
    """Reads the files that hold scores of a known system.

    Args:
        paths: Files, or folders whose `.csv` and `.parquet` files are meant.
        extra: Keep files of no known system too, each under its own name.
        kinds: What scores are, by the name of the system or of the CSV file; a card's word where there is none.

    Returns:
        The predictions in the order of their files (natural order in a folder), and for each file
        that was left out, why.

    Raises:
        InputError: There is no such file, two files are of one system, or nothing was found.
    """
    paths = [paths] if isinstance(paths, Path | str) else list(paths)
    found: dict[str, Predictions] = {}
    left_out: dict[str, str] = {}
    for file in (file for path in paths for file in files_of(Path(path))):
        try:
            zoo.card(system_of(file))
        except UnknownNameError:
            if not extra:
                left_out[str(file)] = (
                    "its name matches no card (compare it as csv:FILE, or score it with --extra)"
                )
                continue
        predictions = read_predictions(file, kind=kind_of(file, kinds))
        if other := found.get(predictions.system):
            raise InputError(
                f"{file}: holds scores of {predictions.system}, as {other.path} does; give one of them"
            )
        found[predictions.system] = predictions
    if not found:
        reasons = "; ".join(dict.fromkeys(left_out.values())) or "no .csv or .parquet file"
        raise InputError(f"{', '.join(map(str, paths))}: no scores of a known system: {reasons}")
    return list(found.values()), left_out


def kind_of(file: Path, kinds: Mapping[str, Kind]) -> Kind | None:
    """What the user says of a file's scores, by the name of its system, an alias, or the file; None where nothing."""
    name = system_of(file)
    card = card_of(name)
    own = {name, card.name if card else name}
    return next(
        (kind for given, kind in kinds.items() if given in own or ((c := card_of(given)) and c.name in own)),
        None,
    )


def check_kinds(kinds: Mapping[str, Kind], systems: Collection[str]) -> None:
    """Checks that each kind is said of a system that is there.

    Raises:
        UsageError: There are no scores of one of them.
    """
    for name in kinds:
        card = card_of(name)
        if (card.name if card else name) not in systems:
            raise UsageError(
                f"--kind {name}={kinds[name]}: no scores of {name!r}; there are scores of {', '.join(systems) or 'no system'} "
                "(--extra keeps files that match no card)"
            )


def card_of(name: str) -> System | None:
    """The card of a system, or None where there is none: predictions may be of any classifier."""
    try:
        return zoo.card(name)
    except UnknownNameError:
        return None


def system_title(name: str) -> str:
    """What a system is called in tables: by its card, or by its name where it has none."""
    card = card_of(name)
    return card.title if card else name


def files_of(path: Path) -> list[Path]:
    """The path itself, or the files of a folder that can hold predictions, in natural order."""
    if not path.is_dir():
        return [path]
    return natsorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", ".parquet"))


def system_of(path: Path) -> str:
    """The name of a system, as a Parquet file says or a CSV file is called."""
    return read_header(path).system if path.suffix == ".parquet" else path.stem


def _read_csv(path: Path, kind: Kind | None) -> Predictions:
    names, scores = COLUMNS["image"], ("target", "score")
    frame = read_csv(path, [*names, *scores, "y_true", "skipped", "weights"])
    name = next((column for column in names if column in frame), None)
    score = next((column for column in scores if column in frame), None)
    if name is None or score is None:
        raise InputError(
            f"{path}: not a table of predictions: it needs a column of image ids ({', '.join(names)}) "
            f"and one of scores ({', '.join(scores)})"
        )
    columns: dict[str, pd.Series[Any]] = {
        "image": ids(frame, name, str(path)),
        "score": numbers(frame[score], str(path)),
    }
    if "y_true" in frame:
        columns["y_true"] = truth(frame["y_true"], str(path))
    metadata = _said(frame, path, score, columns)
    card = card_of(path.stem)
    published = [file for file in card.predictions if file.file == path.name] if card else []
    said = [*(file.note for file in published if file.note), *notes(path.stem, metadata)]
    if kind is None and card is None:
        said.append(UNSTATED)
    stated = next((file.kind for file in published or card.predictions), card.output) if card else "rank"
    return Predictions(
        system=card.name if card else path.stem,
        kind=kind or stated,
        table=pd.DataFrame(columns),
        path=str(path),
        sha256=sha256(path),
        metadata=metadata,
        notes=tuple(said),
    )


def _said(
    frame: pd.DataFrame, path: Path, score: str, columns: Mapping[str, pd.Series[Any]]
) -> dict[str, Any]:
    """What a CSV file says beside its scores: images that were skipped, and random weights."""
    found: dict[str, Any] = {}
    if columns["score"].isna().any():
        skipped = spelled(path, score, "n/a").reindex(frame.index)
        why = frame["skipped"].fillna("") if "skipped" in frame else pd.Series("", index=frame.index)
        reasons = why[skipped].where(why[skipped] != "", "n/a in the file")
        found["skipped"] = dict(zip(columns["image"][skipped], reasons, strict=True))
    if "weights" in frame and (frame["weights"] == UNTRAINED).any():
        found["weights"] = [{"untrained_seed": None}]
    return found


def _read_parquet(path: Path, kind: Kind | None) -> Predictions:
    header = read_header(path)
    try:
        table = pq.read_table(path, columns=SCHEMA.names).select(SCHEMA.names).cast(SCHEMA).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as predictions: {error}") from error
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    kinds = table.pop("kind").unique().tolist()
    if len(kinds) != 1 or kinds[0] not in get_args(Kind):
        raise InputError(
            f"{path}: kind is {', '.join(map(repr, kinds))}; it must be one of {get_args(Kind)} in all rows"
        )
    if kind not in (None, kinds[0]):
        raise InputError(f"{path}: its scores are of kind {kinds[0]!r}, not {kind!r}")
    card = card_of(header.system)
    return Predictions(
        system=card.name if card else header.system,
        kind=kinds[0],
        table=table,
        path=str(path),
        sha256=sha256(path),
        metadata=header.metadata,
        notes=notes(card.name if card else header.system, header.metadata),
    )
