"""Predictions as the published ones are laid out: CSV with `image_name` and `target`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import zoo
from evaluate.blend import blend_in_turn
from evaluate.labels import Labels
from evaluate.prediction_file import read_header, read_rows, trainings
from evaluate.provenance import UNTRAINED, untrained
from evaluate.skipped import image_of
from zoo.files import replacing


def write_published(source: Path, labels: Labels | None, path: Path) -> None:
    """Writes one score per image: folds averaged and members blended as the card says.

    Rows are read and written some at a time; a score of each image and member is in memory.

    Args:
        source: What `predict` has written: one training after another, each of the same images in one order.
        labels: The truth (`y_true`), where it is known of all images.
        path: The file. A skipped image has `n/a` in it, and the reason in a column `skipped`. Scores
            of random weights have a column that says so.

    Raises:
        InputError: The source cannot be read.
        MachineError: The file cannot be written.
    """
    header = read_header(source)
    rows = read_rows(source, ["member", "fold", "score"])
    blended = blend_in_turn(trainings(rows), zoo.card(header.system).blend.members)
    truth = None if labels is None else _truth(source, len(blended), labels)
    skipped = header.metadata.get("skipped")
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for first, images in _images(source, len(blended)):
            own = slice(first, first + len(images))
            table = pd.DataFrame({"image_name": images, "target": blended[own]})
            if truth is not None:
                table["y_true"] = truth[own]
            if skipped:
                table["skipped"] = images.map(skipped).fillna("")
            if untrained(header.metadata):
                table["weights"] = UNTRAINED
            table.to_csv(file, index=False, na_rep="n/a", header=first == 0)


def _images(source: Path, count: int) -> Iterator[tuple[int, pd.Series[str]]]:
    """The ids of the first training, some at a time, and the number of the first of them."""
    first = 0
    for part in read_rows(source, ["image"]):
        images = part["image"][: count - first]
        yield first, images
        first += len(images)
        if first == count:
            return


def _truth(source: Path, count: int, labels: Labels) -> npt.NDArray[np.int8] | None:
    """What each image is; None where it is not known of all."""
    found = []
    for _, images in _images(source, count):
        truth = image_of(images, labels).map(labels.table["melanoma"])
        if truth.isna().any():
            return None
        found.append(truth.astype(np.int8).to_numpy())
    return np.concatenate(found)
