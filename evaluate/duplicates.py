"""Near-duplicate images: the same photograph resized, re-encoded, flipped or turned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from zoo.errors import InputError, MachineError

SIDE = 16
"""Side of the hash: 16 × 16 = 256 bits. With the usual 64, dermoscopic images are too alike."""

NEAR = 32
"""Bits that may differ. Of 650 images of ISIC 2017, copies made smaller, larger, darker, flipped or of
low quality differed in at most 16 bits, different lesions in at least 50."""

_SMALL = 64


class ImageHashes(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Hashes of the images in a folder and those below.

    Attributes:
        path: The folder.
        names: Of the images: file names without ending, in order.
        bits: Shape (images, 8, 256): of each image's eight symmetries, the image itself first.
    """

    path: str
    names: tuple[str, ...]
    bits: npt.NDArray[np.bool_]


class NearDuplicate(msgspec.Struct, frozen=True):
    """Two images that are nearly the same, and how many of 256 bits differ."""

    a: str
    b: str
    distance: int


def hash_images(folder: Path | str) -> ImageHashes:
    """Perceptual hashes of all JPEG and PNG images in a folder and those below.

    The hash holds the signs, about their median, of the low frequencies of the image's cosine
    transform (pHash: Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010), by the package ImageHash.

    Raises:
        MachineError: ImageHash is not installed.
        InputError: There is no image, or one cannot be read.
    """
    try:
        import imagehash
        from PIL import Image
    except ImportError as error:
        raise MachineError(
            "images cannot be compared: ImageHash is not installed; run: pip install 'melanoma-zoo[images]'"
        ) from error
    from evaluate.folder import images_in

    files = images_in(Path(folder))
    bits = np.empty((len(files), 8, SIDE * SIDE), dtype=bool)
    for each, file in zip(bits, files, strict=True):
        try:
            with Image.open(file) as image:
                # JPEG decodes to a small size at once, which is most of the time saved.
                image.draft("L", (2 * _SMALL, 2 * _SMALL))
                small = image.convert("L").resize((_SMALL, _SMALL), Image.Resampling.LANCZOS)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{file}: cannot be read as an image: {error}") from error
        turned = [small, *(small.transpose(symmetry) for symmetry in Image.Transpose)]
        each[:] = [imagehash.phash(view, hash_size=SIDE).hash.ravel() for view in turned]
    return ImageHashes(path=str(folder), names=tuple(file.stem for file in files), bits=bits)


def near_duplicates(
    a: ImageHashes, b: ImageHashes | None = None, *, distance: int = NEAR
) -> list[NearDuplicate]:
    """Pairs of images that are nearly the same, up to flips and quarter turns.

    Args:
        a: Images.
        b: Other images; where None, pairs within `a`.
        distance: Bits that may differ.

    Returns:
        The pairs in order of their distance.
    """
    other = a if b is None else b
    found = [
        NearDuplicate(a.names[i], other.names[j], int(bits))
        for i, j, bits in _pairs(a, other, distance)
        if b is not None or i < j
    ]
    return sorted(found, key=lambda pair: (pair.distance, pair.a, pair.b))


def _pairs(a: ImageHashes, b: ImageHashes, distance: int) -> Iterator[tuple[int, int, float]]:
    """Indexes and distance of near pairs, from the scalar product of hashes as -1 and +1."""
    ours = _signs(a.bits[:, 0])
    chunk = max(1, 2**22 // len(ours))
    for start in range(0, len(b.bits), chunk):
        part = _signs(b.bits[start : start + chunk])
        alike = np.max([ours @ part[:, view].T for view in range(8)], axis=0)
        differ = (SIDE * SIDE - alike) / 2
        for i, j in zip(*np.nonzero(differ <= distance), strict=True):
            yield int(i), start + int(j), float(differ[i, j])


def _signs(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    return np.where(bits, np.float32(1), np.float32(-1))
