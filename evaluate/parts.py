"""Groups of lesion images, each with its rest, and what each is too small for."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.attributes import Attribute
from evaluate.resampling import effective_number
from evaluate.words import many

Kind = Literal["ranking", "sensitivity", "specificity"]
"""What a figure is of: a ranking of both classes, melanomas alone, or other lesions alone."""

_MIRROR = "the same difference as above, turned round"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Lesion images that have something in common.

    Attributes:
        attribute: Name of what they were divided by.
        title: That in tables.
        group: What they have in common.
        n: How many images are scored: those of the group, and for an attribute that only
            melanomas have, all other lesions too.
        positives: How many of them are melanomas.
        negatives: Whose other lesions are scored: those of the `group`, or `all`.
    """

    attribute: str
    title: str
    group: str
    n: int
    positives: int
    negatives: Literal["group", "all"]


class Part(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Images of a group and those of the rest, as masks.

    Attributes:
        group: What it is.
        inside: Its images.
        rest: All images that are known to be in another group of the attribute.
        alone: Why it is not compared with the rest, whatever the figure; empty where it is.
    """

    group: Group
    inside: npt.NDArray[np.bool_]
    rest: npt.NDArray[np.bool_]
    alone: str

    def too_few(self, kind: Kind, melanoma: npt.NDArray[np.bool_], fewest: int) -> str:
        """Why there is no figure of the group; empty where there is one."""
        if kind == "specificity" and self.group.negatives == "all":
            return "only melanomas are divided by it"
        return _too_few(self.inside, kind, melanoma, fewest)

    def no_gap(self, kind: Kind, melanoma: npt.NDArray[np.bool_], fewest: int) -> str:
        """Why there is no gap to the rest; empty where there is one."""
        if reason := self.too_few(kind, melanoma, fewest):
            return reason
        if self.alone and self.alone != _MIRROR:
            return self.alone
        lacking = _too_few(self.rest, kind, melanoma, fewest)
        return f"the rest has {lacking}" if lacking else self.alone

    def images(self, kind: Kind, melanoma: npt.NDArray[np.bool_]) -> tuple[int, int] | None:
        """Images of group and rest that a share is of; None for a figure that is no share."""
        if kind == "ranking":
            return None
        of = melanoma if kind == "sensitivity" else ~melanoma
        return int(np.count_nonzero(self.inside & of)), int(np.count_nonzero(self.rest & of))

    def size(
        self, kind: Kind, melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp]
    ) -> tuple[float, float]:
        """What the group, and the smaller of group and rest, are worth in equally large clusters."""
        inside, rest = (
            min(
                effective_number(clusters[mask & of])
                for of, needed in zip((melanoma, ~melanoma), _NEEDED[kind], strict=True)
                if needed
            )
            for mask in (self.inside, self.rest)
        )
        return inside, min(inside, rest)


_NEEDED: dict[Kind, tuple[bool, bool]] = {
    "ranking": (True, True), "sensitivity": (True, False), "specificity": (False, True),
}  # fmt: skip
"""Whether a figure needs melanomas, and other lesions."""


def parts(
    attribute: Attribute, values: pd.Series[pd.CategoricalDtype[str]], melanoma: npt.NDArray[np.bool_]
) -> list[Part]:
    """The groups of an attribute.

    Args:
        attribute: What lesions are divided by.
        values: The group of each image (`evaluate.attributes.groups`).
        melanoma: Whether an image is of a melanoma, shape (images,).
    """
    names = [name for name in values.cat.categories if (values == name).any()]
    known = values.notna().to_numpy()
    always = ~melanoma if attribute.of_melanoma else np.zeros_like(melanoma)
    found = []
    for name in names:
        inside = (values == name).fillna(False).to_numpy(dtype=bool)
        here, there = inside | always, known & ~inside | always
        alone = "there is no other group" if len(names) == 1 else ""
        if len(names) == 2 and name == names[1]:
            alone = _MIRROR
        group = Group(
            attribute=attribute.name,
            title=attribute.title,
            group=str(name),
            n=int(here.sum()),
            positives=int((here & melanoma).sum()),
            negatives="all" if attribute.of_melanoma else "group",
        )
        found.append(Part(group=group, inside=here, rest=there, alone=alone))
    return found


def _too_few(mask: npt.NDArray[np.bool_], kind: Kind, melanoma: npt.NDArray[np.bool_], fewest: int) -> str:
    of_melanoma, of_others = _NEEDED[kind]
    positives, negatives = int((mask & melanoma).sum()), int((mask & ~melanoma).sum())
    if of_melanoma and positives < fewest:
        return f"{many(positives, 'melanoma')}, fewer than {fewest}"
    return f"{negatives} other lesions, fewer than {fewest}" if of_others and negatives < fewest else ""
