"""How far another engine or a lower precision moves results from single precision in torch.

It is measured on some images of the test set itself, which networks see a second time. On few images
a difference of areas says little, and its interval says how little.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.blend import Floats, blend, blend_in_turn
from evaluate.delong import DeLong
from evaluate.drift import Drift
from evaluate.labels import Labels
from evaluate.prediction_file import trainings
from evaluate.predictions import Predictions
from evaluate.skipped import image_of
from evaluate.testset import TestSet

SENSITIVITY = 0.95
"""Of the operating point at which decisions are compared, where labels are known."""


def sample(test_set: TestSet, count: int) -> TestSet:
    """Some images of a test set, spread evenly over it; half of them melanomas, where that is known.

    Args:
        test_set: Its images.
        count: How many; all where there are no more.
    """
    melanoma = _truth(pd.Series([image.id for image in test_set.images]), test_set.labels)
    positions = np.arange(len(test_set.images))
    ill, other = positions[melanoma == 1], positions[melanoma != 1]
    first = min(len(ill), max(count // 2, count - len(other)))
    chosen = np.sort(np.concatenate([_spread(ill, first), _spread(other, count - first)]))
    return msgspec.structs.replace(
        test_set, images=tuple(test_set.images[position] for position in chosen), skipped={}
    )


def measure(found: Iterable[pd.DataFrame], exact: Predictions, labels: Labels | None) -> Drift:
    """Compares scores with those in single precision.

    Args:
        found: Scores of all images of the test set, some rows at a time: one training after another, each of the
            same images in one order. A score of each image and member is in memory.
        exact: Scores of some of them in single precision, of the same networks.
        labels: What the images are, where it is known.
    """
    reference = system_scores(exact.table)
    seen, truth = [], []
    (member, fold) = exact.table.loc[exact.table.index[0], ["member", "fold"]]

    def passing() -> Iterator[pd.DataFrame]:
        for part in found:
            seen.append(part[part["image"].isin(reference.index)])
            first = part["image"][(part["member"] == member) & (part["fold"] == fold)]
            truth.append(_truth(first, labels))
            yield part

    score = blend_in_turn(trainings(passing()), "mean")
    threshold, source = _threshold(score[np.concatenate(truth) == 1])
    same = pd.concat(seen)
    pairs = exact.table.merge(same, on=["image", "member", "fold"], suffixes=("_exact", "_found"))
    here = system_scores(same).loc[reference.index]
    changed = (here >= threshold) != (reference >= threshold)
    return Drift(
        images=len(reference),
        max_difference=float((pairs["score_found"] - pairs["score_exact"]).abs().max()),
        threshold=threshold,
        threshold_from=source,
        changed=int(changed.sum()),
        **_auc(here, reference, labels),
    )


def system_scores(table: pd.DataFrame) -> pd.Series[float]:
    """The mean over folds, then over members, of each image that has a score; by its id."""
    whole = table.dropna(subset="score")
    members = {
        str(name): rows.pivot_table(index="image", columns="fold", values="score", sort=False)
        for name, rows in whole.groupby("member", sort=False)
    }
    images = next(iter(members.values())).index
    arrays = {name: scores.loc[images].to_numpy() for name, scores in members.items()}
    return pd.Series(blend(arrays, "mean"), index=images)


def _threshold(ill: Floats) -> tuple[float, str]:
    """Of the scores of melanomas, some of which may be missing."""
    ill = ill[~np.isnan(ill)]
    if not len(ill):
        return 0.5, "there are no labels to take an operating point from"
    threshold = float(np.quantile(ill, 1 - SENSITIVITY, method="lower"))
    return threshold, f"sensitivity {SENSITIVITY:.0%} on this test set"


def _auc(here: pd.Series[float], reference: pd.Series[float], labels: Labels | None) -> dict[str, Any]:
    if labels is None:
        return {"auc_reason": "no labels"}
    truth = _truth(here.index.to_series(), labels)
    known = truth >= 0
    if not {0, 1} <= set(truth[known].tolist()):
        return {"auc_reason": "the images are of one class"}
    both = np.stack([here, reference]).astype(np.float64)[:, known]
    found = DeLong(both, truth[known] == 1).difference(0, 1)
    return {
        "auc_difference": found.value,
        "auc_low": found.low,
        "auc_high": found.high,
        "auc_reason": found.reason,
    }


def _truth(images: pd.Series[str], labels: Labels | None) -> npt.NDArray[np.int64]:
    """Of each image 1 for a melanoma, 0 for none, -1 where it is not known."""
    if labels is None:
        return np.full(len(images), -1, np.int64)
    known = labels.table["melanoma"].astype(int).reindex(image_of(images, labels))
    return np.asarray(known.fillna(-1), dtype=np.int64)


def _spread(positions: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """So many of them, evenly; all where there are no more."""
    if count >= len(positions):
        return positions
    return positions[((np.arange(count) + 0.5) * len(positions) / max(count, 1)).astype(np.int64)]
