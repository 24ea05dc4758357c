"""Predictions as the published ones are laid out: CSV with `image_name` and `target`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import zoo
from evaluate.blend import blend
from evaluate.labels import Labels
from evaluate.predictions import Predictions
from evaluate.provenance import UNTRAINED, untrained
from evaluate.skipped import image_of
from zoo.files import write


def write_published(predictions: Predictions, labels: Labels | None, path: Path) -> None:
    """Writes one score per image: folds averaged and members blended as the card says.

    Args:
        predictions: Scores per member and fold.
        labels: The truth (`y_true`), where it is known of all images.
        path: The file. A skipped image has `n/a` in it, and the reason in a column `skipped`. Scores
            of random weights have a column that says so.

    Raises:
        MachineError: The file cannot be written.
    """
    rows = predictions.table
    images = rows["image"].unique()
    members = {
        str(name): own.pivot(index="image", columns="fold", values="score").loc[images].to_numpy()
        for name, own in rows.groupby("member", sort=False)
    }
    blended = blend(members, zoo.card(predictions.system).blend.members)
    table = pd.DataFrame({"image_name": images, "target": blended})
    if labels is not None:
        truth = image_of(table["image_name"], labels).map(labels.table["melanoma"])
        if truth.notna().all():
            table["y_true"] = truth.astype(int)
    if predictions.skipped:
        table["skipped"] = table["image_name"].map(predictions.skipped).fillna("")
    if untrained(predictions.metadata):
        table["weights"] = UNTRAINED
    write(path, table.to_csv(index=False, na_rep="n/a"))
