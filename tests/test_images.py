"""Images are decoded to the pixels OpenCV reads, and what is no whole image is told before anything is computed."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from evaluate import images
from evaluate.images import ImageError, check, decode

RAMP = np.stack(np.meshgrid(np.arange(80) * 3, np.arange(60) * 4), axis=-1).astype(np.uint8)
PIXELS = np.dstack([RAMP, RAMP.sum(axis=-1, dtype=np.uint8)])
PICTURE = Image.fromarray(PIXELS)
SIXTEEN = PIXELS.astype(np.uint16) * 256 + np.random.default_rng(0).integers(0, 256, PIXELS.shape, np.uint16)
SEE_THROUGH = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))


def saved(picture: Image.Image, style: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, style, **options)
    return file.getvalue()


def sixteen(pixels: np.ndarray) -> bytes:
    done, file = cv2.imencode(".png", pixels)
    assert done
    return file.tobytes()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4]) :]


def before_the_rest(jpeg: bytes, *segments: bytes) -> bytes:
    app1 = [b"\xff\xe1" + (len(each) + 2).to_bytes(2) + each for each in segments]
    return jpeg[:2] + b"".join(app1) + jpeg[2:]


def exif_of(orientation: int, order: str) -> bytes:
    """An Exif segment with an Orientation after another entry."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    entries = struct.pack(f"{order}HHIHH", 0x0103, 3, 1, 6, 0)
    entries += struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + head + struct.pack(f"{order}IH", 8, 2) + entries + bytes(4)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    return png[:33] + chunk(kind, content) + png[33:]


def header(png: bytes, width: int, height: int) -> bytes:
    return png[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


JPEG, PNG = saved(PICTURE, "JPEG"), saved(PICTURE, "PNG")
CMYK = saved(PICTURE.convert("CMYK"), "JPEG")
PALETTE = PICTURE.quantize(64)

AS_OPENCV = {
    "JPEG": JPEG,
    "JPEG progressive": saved(PICTURE, "JPEG", progressive=True),
    "JPEG 4:4:4": saved(PICTURE, "JPEG", subsampling="4:4:4"),
    "JPEG 4:2:2": saved(PICTURE, "JPEG", subsampling="4:2:2"),
    "JPEG 4:1:1": saved(PICTURE, "JPEG", subsampling="4:1:1"),
    "JPEG greyscale": saved(PICTURE.convert("L"), "JPEG"),
    "JPEG RGB": saved(PICTURE, "JPEG", keep_rgb=True),
    "JPEG CMYK": CMYK,
    "JPEG CMYK without Adobe's marker": without_adobe(CMYK),
    "JPEG YCCK": simplejpeg.encode_jpeg(
        np.ascontiguousarray(np.dstack([PIXELS, 255 - PIXELS[..., 0] // 3])), colorspace="CMYK"
    ),
    "JPEG with two Exif blocks": before_the_rest(JPEG, exif_of(6, "<"), exif_of(3, "<")),
    "JPEG with Exif cut short": before_the_rest(JPEG, exif_of(6, "<")[:18]),
    "JPEG with a picture after it": JPEG + saved(PALETTE.convert("L"), "JPEG"),
    "PNG": PNG,
    "PNG greyscale": saved(PICTURE.convert("L"), "PNG"),
    "PNG black and white": saved(PICTURE.convert("1"), "PNG"),
    "PNG palette": saved(PALETTE, "PNG"),
    "PNG palette of 2 bits": saved(PICTURE.quantize(4), "PNG", bits=2),
    "PNG palette, transparent": saved(PALETTE, "PNG", transparency=bytes(range(64))),
    "PNG alpha": saved(SEE_THROUGH, "PNG"),
    "PNG grey and alpha": saved(SEE_THROUGH.convert("LA"), "PNG"),
    "PNG transparent colour": saved(PICTURE, "PNG", transparency=(0, 0, 0)),
    "PNG transparent grey": saved(PICTURE.convert("L"), "PNG", transparency=3),
    "PNG 16 bit": sixteen(SIXTEEN),
    "PNG 16 bit greyscale": sixteen(SIXTEEN[..., 0]),
    "PNG 16 bit alpha": sixteen(np.dstack([SIXTEEN, SIXTEEN[..., 0]])),
    "PNG gamma": with_chunk(PNG, b"gAMA", struct.pack(">I", 100_000)),
    **{f"JPEG turned {o}": saved(PICTURE, "JPEG", exif=turned(o)) for o in range(10)},
    **{f"PNG turned {o}": saved(PICTURE, "PNG", exif=turned(o)) for o in range(10)},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("content", AS_OPENCV.values(), ids=AS_OPENCV.keys())
def test_pixels_are_those_of_opencv(file, content):
    path = file(content)
    check(path)
    found = decode(path)
    np.testing.assert_array_equal(found, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    assert found.flags.c_contiguous
    assert found.dtype == np.uint8


@pytest.mark.parametrize("style", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(file, style, orientation):
    content = saved(PICTURE, style, exif=turned(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode(file(content)), np.asarray(upright))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_in_both_byte_orders(file, order):
    assert decode(file(before_the_rest(JPEG, exif_of(8, order)))).shape == (80, 60, 3)


def test_exif_is_found_behind_another_segment_of_its_kind(file):
    """OpenCV 4.10 does not look there."""
    behind = before_the_rest(JPEG, b"http://ns.adobe.com/xap/1.0/\0<x/>", exif_of(6, ">"))
    np.testing.assert_array_equal(decode(file(behind)), decode(file(before_the_rest(JPEG, exif_of(6, ">")))))


def test_cmyk_comes_out_in_its_colours(file):
    found = decode(file(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)))
    np.testing.assert_allclose(found[8, 8], (255, 0, 0), atol=2)


def test_alpha_is_dropped_and_16_bits_lose_the_lower_eight(file):
    np.testing.assert_array_equal(decode(file(saved(SEE_THROUGH, "PNG"))), PIXELS)
    np.testing.assert_array_equal(decode(file(sixteen(SIXTEEN))), (SIXTEEN >> 8)[..., ::-1])


@given(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))), st.integers(0, 9))
def test_a_lossless_image_comes_back_as_it_was(tmp_path_factory, pixels, level):
    path = tmp_path_factory.mktemp("lossless") / "image.png"
    path.write_bytes(saved(Image.fromarray(pixels), "PNG", compress_level=level))
    check(path)
    np.testing.assert_array_equal(decode(path), pixels)


def interlaced(pixels: np.ndarray) -> bytes:
    """A PNG in Adam7's seven passes, which Pillow does not write."""
    height, width, _ = pixels.shape
    lines = bytearray()
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):  # fmt: skip
        for line in pixels[y::dy, x::dx]:
            if line.size:
                lines += b"\0" + line.tobytes()
    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return PNG[:8] + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(bytes(lines))) + chunk(b"IEND", b"")


def test_interlaced_png(file):
    path = file(interlaced(PIXELS))
    np.testing.assert_array_equal(decode(path), PIXELS)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], PIXELS)


BROKEN = {
    "empty": (b"", "empty file"),
    "text": (b"<html>not found</html>", "neither a JPEG nor a PNG image .it begins with b'<html>no'"),
    "GIF": (saved(PICTURE, "GIF"), "neither a JPEG nor a PNG image .*GIF8.*convert it"),
    "TIFF": (saved(PICTURE, "TIFF"), "neither a JPEG nor a PNG"),
    "WebP": (saved(PICTURE, "WEBP"), "neither a JPEG nor a PNG"),
    "two bytes of a JPEG": (JPEG[:2], "cut short"),
    "four bytes of a PNG": (PNG[:4], "cut short"),
    "JPEG without its end": (JPEG[:-2], "cut short"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "cut short"),
    "half a JPEG and an end": (JPEG[: len(JPEG) // 2] + b"\xff\xd9", "damaged"),
    "half a JPEG, filled with zeros": (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), "damaged|cut short"),
    "half a progressive JPEG": (AS_OPENCV["JPEG progressive"][: len(JPEG) // 2], "cut short"),
    "half a CMYK JPEG": (CMYK[: len(CMYK) // 2], "cut short"),
    "JPEG of nothing but its beginning": (JPEG[:20], "cut short"),
    "half a PNG": (PNG[: len(PNG) // 2], "cut short"),
    "PNG without its end": (PNG[:-12], "cut short"),
    "PNG with a wrong bit": (PNG[:100] + bytes([PNG[100] ^ 1]) + PNG[101:], r"wrong checksum at byte 33"),
    "PNG without a header": (PNG[:8] + PNG[33:], "does not begin with a header"),
    "PNG of too few pixels": (PNG[:33] + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b""), "damaged"),
    "PNG of no pixels": (header(PNG, 0, 5), "an image of 0 × 5 pixels"),
    "animated PNG": (
        saved(PICTURE, "PNG", save_all=True, append_images=[ImageOps.mirror(PICTURE)]),
        "an animation of 2 frames; convert it",
    ),
    "PNG of 10 gigapixels": (header(PNG, 100_000, 100_000), "100000 × 100000 pixels, more than the 89,478,485"),
    "JPEG of 4 gigapixels": (with_size(JPEG, 65_000, 65_000), "65000 × 65000 pixels, more than"),
    "JPEG of 12 bit": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "damaged .*precision 12"),
    "JPEG of no pixels": (with_size(JPEG, 0, 60), "damaged|0 ×"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("look", [check, decode])
def test_what_is_no_whole_image_is_told(file, content, message, look, capfd):
    path = file(content)
    with pytest.raises(ImageError, match=message) as told:
        look(path)
    assert str(told.value).startswith(f"{path}: {told.value.reason}; ")
    assert "--on-error skip" in str(told.value)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [JPEG, PNG, CMYK], ids=["JPEG", "PNG", "CMYK"])
def test_a_file_cut_anywhere_is_told(file, content):
    for end in [*range(0, len(content), 37), len(content) - 1]:
        with pytest.raises(ImageError):
            check(file(content[:end]))


def test_damage_is_told_by_the_check_as_by_the_decoding(file):
    """Where a decoder can see it: a wrong bit that leaves the code readable needs a checksum."""
    random = np.random.default_rng(1)
    told = 0
    for _ in range(150):
        damaged = bytearray(JPEG)
        damaged[random.integers(620, len(JPEG))] ^= 1 << random.integers(0, 8)
        path = file(bytes(damaged))
        found = []
        for look in (check, decode):
            try:
                look(path)
            except ImageError as error:
                found.append(str(error))
        assert len(set(found)) < 2
        assert len(found) in (0, 2)
        told += bool(found)
    assert told >= 10


def test_files_that_are_not_there_or_no_files(tmp_path):
    with pytest.raises(ImageError, match=r"absent.jpg: cannot be read \(No such file or directory\)"):
        check(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="is not a file"):
        decode(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is not a file"):
        check(tmp_path / "pipe.jpg")


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.jpg"
    with path.open("wb") as file:
        file.truncate(images.LARGEST_FILE + 1)
    with pytest.raises(ImageError, match="1,073,741,825 bytes"):
        check(path)


def test_real_images_are_whole_and_the_same_by_opencv(proveai):
    files = sorted((proveai.parent / "isic2017" / "images").glob("*.jpg"))
    assert len(files) == 650
    for path in files:
        check(path)
    for path in files[::10]:
        np.testing.assert_array_equal(decode(path), cv2.imread(str(path))[..., ::-1])
