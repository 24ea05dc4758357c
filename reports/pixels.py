"""A network's input of an image file, as a worker that measures end to end reads it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError
from zoo.files import sha256, write

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.card import Member

READER = "reports.pixels:read"
"""The name by which a worker imports it."""

CODE = ("evaluate.images", "evaluate.preprocess", "evaluate.views")
"""Modules that decode and shape images: readings of other versions of them are others."""

PACKAGES = (
    "numpy",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
)
"""Packages that do so, under every name that OpenCV is installed by."""

MOST = 32
"""Images that are read, at most."""

_MADE_UP = 16
_SIDE = (768, 1024)
_ENDINGS = {".jpg", ".jpeg", ".png"}


def read(path: str, member: Member) -> NDArray[np.float32]:
    """Decodes, resizes and normalises an image as a member's card says: fp32 of shape (3, side, side)."""
    import numpy as np

    from evaluate.images import decode
    from evaluate.preprocess import Geometry, shape
    from zoo.card import Views

    pixels = shape(decode(Path(path)), Geometry.of(member, Views()))[0]
    mean, std = (np.array(each) for each in (member.preprocess.mean, member.preprocess.std))
    normalised = pixels * (1 / (255 * std)).astype(np.float32) + (-mean / std).astype(np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def lacking(*modules: str, what: str = "reading images") -> str:
    """Why no image can be read here, or one of some other modules not be imported; empty where all can.

    Args:
        modules: These others.
        what: What all of them are needed for.
    """
    try:
        for module in ("cv2", "evaluate.preprocess", *modules):
            import_module(module)
    except ImportError as error:  # also a library of the system that a package needs
        missing = isinstance(error, ModuleNotFoundError)
        return f"{what} needs {error.name}, which is not installed" if missing else f"{what}: {error}"
    return ""


def images_in(folder: Path) -> tuple[str, ...]:
    """The first images of a folder, by name.

    Raises:
        InputError: It holds none, or one of them cannot be read.
    """
    from evaluate.images import ImageError, decode

    found = sorted(each for each in folder.iterdir() if each.suffix.lower() in _ENDINGS)[:MOST]
    if not found:
        raise InputError(f"{folder}: holds no .jpg or .png file; name a folder of images")
    for each in found:
        try:
            decode(each)
        except ImageError as error:
            raise InputError(f"{each}: {error.reason}; take it out of the folder") from error
    return tuple(str(each.resolve()) for each in found)


def made_up(folder: Path, seed: int, *, made: bool = True) -> tuple[str, ...]:
    """JPEG files of 1024x768 pixels that look like nothing, for runs without real ones.

    Smooth fields of colour with some noise: about as many bytes as a dermoscopic image has. Where they are
    not to be `made`, nothing is written: these are the names that they would have.

    Raises:
        MachineError: They cannot be written here.
    """
    import cv2
    import numpy as np

    paths = [folder / f"made_up_{seed}_{index:02}.jpg" for index in range(_MADE_UP)]
    random = np.random.default_rng(seed)
    for path in paths if made else ():
        coarse = random.uniform(40, 220, (12, 16, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, _SIDE[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(smooth + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        write(path, cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return tuple(map(str, paths))


def digest(images: Sequence[str]) -> str:
    """One digest of the contents of images, in order; empty where there are none."""
    from hashlib import sha256 as of_text

    return of_text("".join(sha256(Path(each)) for each in images).encode()).hexdigest() if images else ""
