"""A test set: a folder of images and the table that says what is known of them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import pandas as pd

from evaluate import images
from evaluate.copies import originals
from evaluate.folder import Source, check_copies, files_of, find_table, joined, listed
from evaluate.images import ImageError
from evaluate.labels import Labels, only, read_labels
from evaluate.testimages import Images, TestImage
from zoo.errors import InputError, UsageError
from zoo.files import sha256
from zoo.urls import place

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


_AT_A_TIME = 1024
"""Images that threads have been given to check."""


class TestSet(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Images that were found whole, and what a table says of them.

    Attributes:
        path: The folder.
        images: In the order of the table, a copy after its image; without a table in natural order
            of their names.
        table: One row per image of the set, indexed by id in the same order: those that were
            skipped and those beyond a `limit` too. The table's columns as they are, `lesion` and
            `patient` as text or missing. None where there is no table.
        columns: The column of `table` that plays a role (`evaluate.labels.COLUMNS`), where one does.
        table_path: The table's file; empty where there is none.
        table_sha256: Its checksum.
        labels: Which lesion images are melanomas, of those within the limit; None where the table
            says nothing about it. They may all be of one class.
        skipped: Images that were left out, and why.
        limit: How many lesion images were asked for; all where None.
    """

    __test__ = False

    path: str
    images: Sequence[TestImage]
    table: pd.DataFrame | None = None
    columns: dict[str, str] = {}
    table_path: str = ""
    table_sha256: str = ""
    labels: Labels | None = None
    skipped: dict[str, str] = {}
    limit: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the images' ids and checksums, in their order; wherever the folder lies."""
        found = hashlib.sha256()
        for image in self.images:
            found.update(f"{image.id}\0{image.sha256}\n".encode())
        return found.hexdigest()


def read_test_set(
    folder: Path | str,
    table: Path | str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | str | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    limit: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> TestSet:
    """Finds the images of a folder and the rows of its table, and checks that each image is whole.

    A file belongs to the row of its name, without ending and without the archive's `_downsampled`.
    Test-time copies (`X_0`, `X_1` ... of the image `X`) are images of their own where their files
    are there; a copy needs no row, and rows of copies need no files, as long as that holds for all.

    Args:
        folder: Its `.jpg`, `.jpeg` and `.png` files, also in folders below; hidden ones are not looked at.
            A path, or a URL that fsspec knows (`s3://bucket/folder`).
        table: The table, by path or URL. Where None, the CSV file of the folder with ids of its images:
            `metadata.csv` if it is one of several. A folder without CSV files needs none.
        columns: Names of your own for the table's columns, by role (`evaluate.labels.COLUMNS`).
        diagnoses: A table of your own that says which diagnoses are melanoma.
        on_error: What becomes of images that are missing or cannot be read: `stop`, or `skip`.
        limit: Take the first lesion images only, with their copies.
        workers: Threads that read and check the files.
        progress: Called as files are checked.

    Raises:
        InputError: There is no image or no such table; it is not clear which table or which file
            is meant; rows and files do not belong together; or images cannot be read (all of
            them are named).
        UsageError: `columns` names a role that does not exist, or it or `diagnoses` is given without a table, `limit` or `workers` is below 1, or
            `on_error` is neither.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images leaves none; take at least 1")
    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error is {on_error!r}; it must be 'stop' or 'skip'")
    if workers < 1:
        raise UsageError(f"{workers} workers cannot check images; take at least 1")
    folder, given = place(folder), dict(columns or {})
    found = files_of(folder)
    source = Source.of(place(table), given) if table else find_table(folder, found, given)
    if source is None and (given or diagnoses):
        raise UsageError(
            f"{folder}: --column and --diagnoses say how a table is read, and there is none; give it with --labels TABLE"
        )
    frame, files = joined(source, found, folder) if source else (None, dict(found))
    image_of = dict(zip(files, originals(pd.Series(list(files)), pd.Index(list(files))), strict=True))
    if source:
        check_copies(image_of, folder)
    if limit is not None:
        wanted = set(list(dict.fromkeys(image_of.values()))[:limit])
        files = {name: file for name, file in files.items() if image_of[name] in wanted}
    whole, skipped = _checked(files, folder, on_error, workers, progress)
    return TestSet(
        path=str(folder),
        images=whole,
        table=frame,
        columns=source.columns if source else {},
        table_path=str(source.path) if source else "",
        table_sha256=sha256(source.path) if source else "",
        labels=_labels(source, given, diagnoses, {image_of[name] for name in files}) if source else None,
        skipped=skipped,
        limit=limit,
    )


def _checked(
    files: Mapping[str, Path | None], folder: Path, on_error: str, workers: int, progress: Progress | None
) -> tuple[Images, dict[str, str]]:
    """The images that are whole, and why the others are not."""

    def look(name: str) -> TestImage | str:
        path = files[name]
        if path is None:
            return "missing"
        try:
            data = images.read(path)
            images.check(path, data)
        except ImageError as error:
            return error.reason
        return TestImage(id=name, path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    found = Images()
    wrong: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, (name, seen) in enumerate(
                zip(files, _in_turn(pool, look, files), strict=True), start=1
            ):
                if isinstance(seen, TestImage):
                    found.append(seen)
                else:
                    wrong[name] = seen
                if progress:
                    progress("checking images", number, len(files))
        except BaseException:  # Ctrl-C too: files that nobody waits for any more are not read.
            pool.shutdown(cancel_futures=True)
            raise
    if wrong and (on_error == "stop" or not found):
        reasons = listed([f"{files[name] or name}: {reason}" for name, reason in wrong.items()], "; ")
        raise InputError(
            f"{folder}: {len(wrong)} of {len(files)} images cannot be used: {reasons}; fetch or convert "
            "them again" + (", or leave them out with --on-error skip" if found else "")
        )
    return found, wrong


def _in_turn(
    pool: Executor, look: Callable[[str], TestImage | str], names: Iterable[str]
) -> Iterator[TestImage | str]:
    """As `pool.map`, which would begin with all: hundreds of thousands of images would wait in memory."""
    waiting: deque[Future[TestImage | str]] = deque()
    for name in names:
        waiting.append(pool.submit(look, name))
        if len(waiting) == _AT_A_TIME:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _labels(
    source: Source, given: Mapping[str, str], diagnoses: Path | str | None, wanted: set[str]
) -> Labels | None:
    """The labels of the wanted lesion images; None where no column says anything of melanoma."""
    told = source.frame[[*source.roles["target"], *source.roles["diagnosis"]]]
    if told.isna().all(axis=None):
        return None
    labels = read_labels(source.path, columns=given, diagnoses=diagnoses, both_classes=False)
    return only(labels, wanted)
