"""Units of work: one training of one member on one shard of images, kept as soon as it is done.

A unit is kept under a name made of everything that decides its result, so a run that was killed
goes on where it was, two runs may share a folder, and whatever changes is computed again.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

import zoo
from evaluate.jobs import Training
from evaluate.testset import TestImage
from evaluate.views import Floats
from zoo import cache
from zoo.card import System
from zoo.engines import Library, versions
from zoo.kinds import origin

SHARD = 16
"""Images of a unit: what a killed run loses at most."""

_CODE = (
    "evaluate.forward",
    "evaluate.images",
    "evaluate.loading",
    "evaluate.preprocess",
    "evaluate.views",
    "weights.checkpoint",
    "weights.keras",
    "weights.layouts",
    "weights.untrained",
    "zoo.attention",
    "zoo.engines",
    "zoo.export",
    "zoo.exported",
    "zoo.kinds",
    "zoo.networks",
    "zoo.onnx_file",
    "zoo.runtime",
    "zoo.sessions",
    "zoo.whole",
)
_PACKAGES = ("numpy", "opencv-python-headless", "timm", "torch")


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A training and the images of a shard, as a range of indexes; `name` is what its result is kept under."""

    training: Training
    start: int
    stop: int
    name: str


class Result(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a unit came to.

    Attributes:
        probabilities: Of each class, shape (images, classes).
        batch_size: Views that were computed at a time.
    """

    probabilities: Floats
    batch_size: int


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A result as a file has it."""

    probabilities: list[list[float]]
    batch_size: int


def unit(
    card: System,
    training: Training,
    images: Sequence[TestImage],
    features: npt.NDArray[np.float32] | None,
    start: int,
    **settings: Any,
) -> Unit:
    """The unit that starts at an image.

    Args:
        card: Whose views are taken.
        training: Which network, and its weights.
        images: All images of the test set.
        features: Their metadata, for members that read them.
        start: Index of the first image; up to `SHARD` belong to the unit.
        settings: Precision, device, batch size, and the engine with its version.
    """
    stop = min(start + SHARD, len(images))
    rows = None if features is None else features[start:stop].tolist()
    described = msgspec.structs.replace(training, path=None)
    name = cache.key(
        "probabilities",
        described,
        card.views,
        _builder(card),
        origin(training.member),
        [image.sha256 for image in images[start:stop]],
        rows,
        settings,
        code=_CODE,
        packages=_PACKAGES,
    )
    return Unit(training=training, start=start, stop=stop, name=name)


def recall(unit: Unit) -> Result | None:
    """The kept result; None where there is none that fits."""
    kept = cache.load(unit.name, _Kept)
    if kept is None:
        return None
    found = np.array(kept.probabilities, dtype=np.float64)
    if found.shape != (unit.stop - unit.start, len(unit.training.member.classes)):
        return None
    return Result(probabilities=found, batch_size=kept.batch_size)


def keep(unit: Unit, result: Result) -> None:
    """Keeps a result on disk at once."""
    cache.keep(unit.name, _Kept(probabilities=result.probabilities.tolist(), batch_size=result.batch_size))


def software(engine: Library = "torch") -> dict[str, str]:
    """Versions of the packages that decide results."""
    return {package: version(package) for package in _PACKAGES} | versions(engine)


def _builder(card: System) -> str:
    """What makes the networks, and a digest of its source; empty for the standard assembly."""
    build = zoo.builder(card.name) if zoo.systems(card.name) else None
    if build is None:
        return ""
    module = inspect.getmodule(build)
    source = Path(inspect.getfile(module)).read_bytes() if module else b""
    return f"{build.__module__}:{build.__qualname__}:{sha256(source).hexdigest()}"
