"""Units of work: one training of one member on one shard of images.

A unit is a plain value that any process can compute (`evaluate.compute`). Its result is kept
(`evaluate.results`) under a name made of everything that decides it, so a run that was killed goes on where it
was, two runs may share a folder, and whatever changes is computed again.
"""

from __future__ import annotations

import inspect
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

import zoo
from evaluate.jobs import Job, Training
from evaluate.preprocess import Geometry
from evaluate.testimages import TestImage
from zoo import cache as kept
from zoo.card import Views
from zoo.engines import Library, installed, versions
from zoo.errors import UsageError
from zoo.kinds import origin
from zoo.runtime import Precision

if TYPE_CHECKING:
    from zoo.registry import Builder

SHARD = 16
"""Images of a unit: what a killed run loses at most on a CPU. On a GPU it is what is in two batches."""

_CODE = (
    "evaluate.forward",
    "evaluate.images",
    "evaluate.loading",
    "evaluate.preprocess",
    "evaluate.transfers",
    "evaluate.views",
    "weights.checkpoint",
    "weights.keras",
    "weights.layouts",
    "weights.untrained",
    "zoo.attention",
    "zoo.compiling",
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
_PACKAGES = ("numpy", "opencv-python-headless", "pillow", "simplejpeg", "timm", "torch")


class How(msgspec.Struct, frozen=True, kw_only=True):
    """How networks are run, as it decides results.

    Attributes:
        device: Where they run.
        device_name: `cpu`, or the name of the GPU.
        precision: What they compute in.
        batch_size: Views at a time; chosen by device and memory where None.
        engine: What runs them.
        compiled: Whether `torch.compile` made them.
    """

    device: Literal["cpu", "cuda"]
    device_name: str
    precision: Precision
    batch_size: int | None
    engine: Library
    compiled: bool = False


class Network(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a unit runs.

    Attributes:
        system: The system's name.
        training: The member, and its trained file or the seed of random weights.
        views: Those that are taken of each image.
        builder: What makes it, as `module:function`; empty where the card says it all.
        how: How it is run.
        key: Digest of all of this, of the code and of the packages.
    """

    system: str
    training: Training
    views: Views
    builder: str
    how: How
    key: str

    @property
    def geometry(self) -> Geometry:
        """The pixels that it needs of an image."""
        return Geometry.of(self.training.member, self.views)

    def __str__(self) -> str:
        return f"{self.system} {self.training.member.name} fold {self.training.fold}"


class Unit(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A network and the images of a shard.

    Attributes:
        network: What is run.
        start: Index of the first image in the test set.
        images: The images.
        features: Their metadata, (images, features), where the member reads them.
        name: What the result is kept under.
    """

    network: Network
    start: int
    images: tuple[TestImage, ...]
    features: npt.NDArray[np.float32] | None
    name: str

    @property
    def stop(self) -> int:
        """Index after the last image."""
        return self.start + len(self.images)

    def __str__(self) -> str:
        ids = dict.fromkeys((self.images[0].id, self.images[-1].id))
        return f"{self.network}, images {' to '.join(ids)}"


def networks(job: Job, how: How) -> list[Network]:
    """The networks of a system, in the order of its trainings.

    Args:
        job: The system, its trainings and views.
        how: How they are run.
    """
    build = zoo.builder(job.card.name) if zoo.systems(job.card.name) else None
    found = []
    for training in job.trainings:
        key = kept.key(
            "network",
            msgspec.structs.replace(training, path=None),
            job.card.views,
            _source(build) if build else "",
            origin(training.member),
            how,
            versions(how.engine),
            code=_CODE,
            packages=_PACKAGES,
        )
        found.append(
            Network(
                system=job.card.name, training=training, views=job.card.views,
                builder=f"{build.__module__}:{build.__qualname__}" if build else "", how=how, key=key,
            )
        )  # fmt: skip
    return found


def identity(network: Network) -> str:
    """A key of what makes a network and its weights, however it is run; empty where code of others makes it.

    What that code calls cannot all be known before it was called.
    """
    member = network.training.member
    if network.builder or ":" in member.network:
        return ""
    training = msgspec.structs.replace(network.training, path=None)
    return kept.key("made", training, origin(member), code=_CODE, packages=_PACKAGES)


def unit(
    network: Network, start: int, shard: tuple[TestImage, ...], features: npt.NDArray[np.float32] | None
) -> Unit:
    """A network and one shard.

    Args:
        network: What is run.
        start: Index of the shard's first image in the test set.
        shard: Its images.
        features: Metadata of all images of the test set, (images, features), for a member that reads them.
    """
    rows = None if features is None else features[start : start + SHARD]
    name = kept.key(
        "probabilities",
        network.key,
        [image.sha256 for image in shard],
        None if rows is None else rows.tolist(),
        code=(),
    )
    return Unit(network=network, start=start, images=shard, features=rows, name=name)


@cache
def code(*engines: Library) -> str:
    """Digest of the code and the packages that decide results: two processes that agree in it compute the same.

    Args:
        engines: Those that are to run networks; what others have is left out.
    """
    theirs = {engine: versions(engine) if installed(engine) else None for engine in engines}
    return kept.key("code", theirs, code=_CODE, packages=_PACKAGES)


def builder(network: Network) -> Builder | None:
    """What makes a network, in any process; None where the card says it all.

    Raises:
        UsageError: It was registered by a program and cannot be imported here.
    """
    if not network.builder:
        return None
    if network.system in zoo.systems(network.system) and (build := zoo.builder(network.system)):
        return build
    module, _, function = network.builder.partition(":")
    try:
        if module == "__main__":
            raise ImportError("it stands in the program that was started")
        found: Builder = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{network.system}: its builder {network.builder} cannot be imported in another process ({error}); "
            "put it into a module, or run it with --launcher local --processes 1"
        ) from error
    return found


def software(engine: Library = "torch") -> dict[str, str]:
    """Versions of the packages that decide results."""
    return {package: version(package) for package in _PACKAGES} | versions(engine)


def _source(build: Builder) -> str:
    """What makes the networks, and a digest of its source."""
    module = inspect.getmodule(build)
    source = Path(inspect.getfile(module)).read_bytes() if module else b""
    return f"{build.__module__}:{build.__qualname__}:{sha256(source).hexdigest()}"
