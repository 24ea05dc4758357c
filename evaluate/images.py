"""Dermoscopic images: their pixels by one rule, and whether a file holds them whole.

The rule is what the scripts that the published scores come from do: the colour pixels of OpenCV
(`cv2.imread`), as RGB. They are decoded here by libjpeg-turbo and Pillow, to the same values, since
OpenCV fills what a damaged JPEG lacks with grey, and prints to the terminal.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from zoo.errors import InputError
from zoo.urls import is_url, read_content

Pixels = npt.NDArray[np.uint8]

ENDINGS = (".jpg", ".jpeg", ".png")
"""How the name of an image ends, in any case. What the file holds decides how it is read."""

LARGEST = 89_478_485
"""Most pixels of an image: a quarter of a GiB as 8-bit RGB, Pillow's own bound against files that
are small and decode to more than the machine holds."""

LARGEST_FILE = 2**30
"""Most bytes of an image's file."""

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_FETCH = "fetch it again, or leave it out with --on-error skip"
_CONVERT = "convert it to JPEG or PNG, or leave it out with --on-error skip"

_ORIENTED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""How stored pixels are turned upright, by the Orientation of Exif (2.3, section 4.6.4)."""


class ImageError(InputError):
    """A file is not an image that can be read.

    Attributes:
        reason: What is wrong with it, without its name.
    """

    def __init__(self, path: Path, reason: str, mend: str) -> None:
        super().__init__(f"{path}: {reason}; {mend}")
        self.reason = reason


class _FlawError(Exception):
    """What is wrong with the content of a file, and the mend."""

    def __init__(self, reason: str, mend: str = _FETCH) -> None:
        super().__init__(reason)
        self.reason, self.mend = reason, mend


def decode(path: Path, data: bytes | None = None) -> Pixels:
    """The pixels of a JPEG or PNG image.

    * Orientation: turned upright as Exif says, in JPEG and in PNG (and where other segments come
      before it, which OpenCV 4.10 overlooks).
    * Greyscale: repeated to three channels.
    * CMYK and YCCK (JPEG): the values are taken as inverted (255 is no ink), as Adobe's programs
      store them and as OpenCV, Pillow and browsers read them, with Adobe's marker or without:
      red is `C·K / 255`, and so on, in OpenCV's rounding.
    * 16 bit: the upper eight.
    * Alpha and transparent colours: dropped; the colours below are taken as they are stored.
    * Colour profiles and gamma: not applied.
    * Pictures after the first of a JPEG file (previews of cameras): not read.

    Args:
        path: The file; its content decides what it is, not its name.
        data: What it holds, where that was read already.

    Returns:
        RGB of shape (height, width, 3).

    Raises:
        ImageError: There is no such file, or it is not an image, cut short, damaged, an
            animation, or larger than `LARGEST`. A single wrong bit inside the coded pixels of a JPEG
            may stay unseen: only a checksum of the file can tell it.
    """
    return _decoded(path, read(path) if data is None else data, whole=True)


def check(path: Path, data: bytes | None = None) -> None:
    """Checks that `decode` can read an image, at about a fifth of its cost for a JPEG.

    Args:
        path: The file.
        data: What it holds, where that was read already.

    Raises:
        ImageError: As `decode`.
    """
    _decoded(path, read(path) if data is None else data, whole=False)


def read(path: Path) -> bytes:
    """What an image's file holds.

    Raises:
        ImageError: It cannot be read, is empty, or is larger than `LARGEST_FILE`.
    """
    try:
        # A URL is asked once: for what it holds.
        if not is_url(path):
            if path.exists() and not path.is_file():
                raise ImageError(path, "is not a file", _FETCH)
            size = path.stat().st_size
            if size > LARGEST_FILE:
                raise ImageError(
                    path, f"{size:,} bytes, more than an image of {LARGEST:,} pixels holds", _FETCH
                )
        data = read_content(path)
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror or error})", _FETCH) from error
    if not data:
        raise ImageError(path, "empty file", _FETCH)
    return data


def _decoded(path: Path, data: bytes, *, whole: bool) -> Pixels:
    try:
        if data.startswith(_JPEG):
            return _jpeg(data, whole=whole)
        if data.startswith(_PNG):
            return _png(data)
        if _JPEG.startswith(data[:3]) or _PNG.startswith(data[:8]):
            raise _FlawError("cut short")
        raise _FlawError(f"neither a JPEG nor a PNG image (it begins with {data[:8]!r})", _CONVERT)
    except _FlawError as flaw:
        raise ImageError(path, flaw.reason, flaw.mend) from flaw


def _jpeg(data: bytes, *, whole: bool) -> Pixels:
    """The pixels; where not `whole`, a small grey version, for which all of the file is read too."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        into = "CMYK" if colours in ("CMYK", "YCCK") else "RGB" if whole else "GRAY"
        least = 0 if whole else 1
        # Strict: what libjpeg only warns of (data that end early, or make no sense) is an error.
        pixels: Pixels = simplejpeg.decode_jpeg(data, into, min_height=least, min_width=least, strict=True)
    except ValueError as error:
        cut = "Premature end" in str(error) or b"\xff\xd9" not in data
        raise _FlawError("cut short" if cut else f"damaged ({error})") from error
    if not whole:
        return pixels
    if into == "CMYK":
        black = pixels[..., 3:].astype(np.int32)
        pixels = (black - ((255 - pixels[..., :3]) * black >> 8)).astype(np.uint8)
    return _upright(pixels, _exif(data))


def _exif(data: bytes) -> bytes:
    """The Exif block of a JPEG file; empty where it has none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # Markers may be padded.
            at += 1
            continue
        if marker == 0xDA:  # The pixels begin.
            break
        length = int.from_bytes(data[at + 2 : at + 4])
        content = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            return content[6:]
        at += 2 + length
    return b""


def _png(data: bytes) -> Pixels:
    exif = b""
    for kind, content in _chunks(data):
        if kind == b"IHDR":
            _check_size(*struct.unpack(">II", content[:8]))
        elif kind == b"acTL" and content[:4] != b"\0\0\0\1":
            raise _FlawError(f"an animation of {int.from_bytes(content[:4])} frames", _CONVERT)
        elif kind == b"eXIf":
            exif = content
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.load()
            image.info.pop("transparency", None)
            if image.mode.startswith("I"):
                grey = (np.asarray(image) >> 8).astype(np.uint8)
                pixels = np.repeat(grey[..., None], 3, axis=-1)
            else:
                pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow has no one exception for what may be wrong inside a file.
        raise _FlawError(f"damaged ({' '.join(str(error).split())})") from error
    return _upright(pixels, exif)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG file, type and content, each checked against its checksum."""
    at = len(_PNG)
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise _FlawError("cut short")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise _FlawError(f"damaged (wrong checksum at byte {at})")
        if at == len(_PNG) and (kind, length) != (b"IHDR", 13):
            raise _FlawError("damaged (it does not begin with a header)")
        yield kind, data[at + 8 : end - 4]
        at = end


def _check_size(width: int, height: int) -> None:
    if not width or not height:
        raise _FlawError(f"an image of {width} × {height} pixels", _FETCH)
    if width * height > LARGEST:
        raise _FlawError(f"{width} × {height} pixels, more than the {LARGEST:,} that are read", _CONVERT)


def _upright(pixels: Pixels, exif: bytes) -> Pixels:
    turn = _ORIENTED.get(_orientation(exif))
    return np.ascontiguousarray(turn(pixels) if turn else pixels)


def _orientation(exif: bytes) -> int:
    """The Orientation of an Exif block; 1 (upright) where it says none or cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if (tag, kind) == (0x0112, 3):
                return int(struct.unpack_from(f"{order}H", exif, entry + 8)[0])
    except struct.error:
        pass
    return 1
