"""Small pictures of lesions, for a page that opens from disk."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import msgspec

from evaluate.lesions import Disagreement, Disagreements
from zoo.urls import place, read_content

SIDE = 112
"""Longest side in pixels."""

_QUALITY = 70


def with_thumbnails(found: Disagreements, folder: Path | str) -> Disagreements:
    """The lesions with a small picture of each that a folder or URL holds; one that cannot be read has none.

    Raises:
        InputError: There is no such folder, or it holds no images.
        MachineError: The package for its URL is not installed.
    """
    from evaluate.folder import files_of

    files = files_of(place(folder))
    pictured = tuple(_pictured(each, files.get(each.image)) for each in found.lesions)
    return msgspec.structs.replace(found, lesions=pictured)


def _pictured(lesion: Disagreement, file: Path | None) -> Disagreement:
    from PIL import Image

    if file is None:
        return lesion
    try:
        with Image.open(io.BytesIO(read_content(file))) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE))
    except (OSError, ValueError, Image.DecompressionBombError):
        return lesion
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return msgspec.structs.replace(lesion, thumbnail=f"data:image/jpeg;base64,{encoded}")
