"""Test-time copies: rows `X_0`, `X_1` ... that belong to the lesion image `X`."""

from __future__ import annotations

import pandas as pd

from zoo.errors import InputError


def originals(names: pd.Series[str], images: pd.Index[str]) -> pd.Series[str]:
    """The image that each id belongs to: itself, or for a copy `X_0`, `X_1` ... the image `X`.

    Args:
        names: Ids, of images and of copies.
        images: Ids among which an `X` must be for `X_0` to be its copy.

    >>> originals(pd.Series(["ISIC_1", "ISIC_1_0", "ISIC_2_0"]), pd.Index(["ISIC_1"])).tolist()
    ['ISIC_1', 'ISIC_1', 'ISIC_2_0']
    """
    found = names.copy()
    # Most ids end otherwise; taking only these apart makes a large table fast.
    stems = names[names.str.contains(r"_\d+$", regex=True)].str.replace(r"_\d+$", "", regex=True)
    stems = stems[images.get_indexer(pd.Index(stems)) >= 0]
    found[stems.index] = stems
    return found


def rows_per_image(names: pd.Series[str], image: pd.Series[str], path: str) -> int:
    """How many rows each image has, after checking that all images have the same copies.

    Args:
        names: Ids of the rows, each there once; indexed by row in the file.
        image: The image that each row belongs to, in the same order.
        path: The file, for the message.

    Raises:
        InputError: An image lacks a copy that another has; names the file and a row.
    """
    copy = pd.Series("", index=names.index)
    copies = names[names != image]
    copy[copies.index] = copies.str.extract(r"(_\d+)$", expand=False).fillna("")
    wanted = set(copy.unique())
    count = image.value_counts(sort=False)
    incomplete = count.index[count < len(wanted)]
    if len(incomplete):
        rows = copy[image == incomplete[0]]
        missing = min(wanted - set(rows), key=lambda name: (len(name), name))
        raise InputError(
            f"{path}: row {rows.index[0]}: {incomplete[0]} has {len(rows)} of {len(wanted)} rows, "
            f"{incomplete[0]}{missing} is missing; give every image the same copies"
        )
    return len(wanted)
