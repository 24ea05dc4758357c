"""From decoded pixels to a network's input, against the libraries of the published scripts."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import zoo
from evaluate.decoding import Decoder
from evaluate.preprocess import Geometry, normalise, shape
from evaluate.testimages import TestImage
from zoo.card import Member, Preprocess, Views
from zoo.errors import CardError, InputError


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def geometry(size: int, *, crops: int = 1, **options: object) -> Geometry:
    member = Member(
        name="a",
        backbone="resnet18",
        size=size,
        classes=("MEL",),
        melanoma=0,
        preprocess=Preprocess(**options),
    )
    return Geometry.of(member, Views(crops=crops))


@pytest.mark.parametrize("system", ["sge_b3", "first_place", "baseline_b3"])
def test_input_is_that_of_the_published_pipeline(system: str) -> None:
    """Resize and Normalize of albumentations, the library that the authors call, to 1e-6."""
    card = zoo.card(system)
    member = card.member()
    image = photograph(600, 800)
    pipeline = albumentations.Compose(
        [albumentations.Resize(member.size, member.size), albumentations.Normalize()]
    )
    expected = pipeline(image=image)["image"].transpose(2, 0, 1)
    pixels = shape(image, Geometry.of(member, card.views))
    found = normalise(torch.from_numpy(pixels), member.preprocess)
    assert found.shape == (1, 3, member.size, member.size)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(found[0].numpy() - expected).max() < 2e-6


def test_the_resize_does_not_smooth() -> None:
    image = photograph(768, 1024)
    found = shape(image, geometry(384))[0].astype(int)
    assert np.array_equal(found, cv2.resize(image, (384, 384), interpolation=cv2.INTER_LINEAR))
    smoothed = np.asarray(Image.fromarray(image).resize((384, 384), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(found - smoothed).max() > 70


def test_antialias_is_pillows() -> None:
    image = photograph(300, 400)
    for name, how in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        found = shape(image, geometry(96, antialias=True, interpolation=name))[0]
        assert np.array_equal(found, np.asarray(Image.fromarray(image).resize((96, 96), how)))
    with pytest.raises(CardError, match="'area' takes no antialias"):
        shape(image, geometry(96, antialias=True, interpolation="area"))


def test_third_place_takes_the_centre_of_pixels_between_0_and_1() -> None:
    card = zoo.card("third_place")
    member = card.member("EfficientNetB6_256x256_2020_epoch13_auc_0.92")
    image = photograph(400, 500)
    pixels = shape(image, Geometry.of(member, card.views))
    resized = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(pixels[0], resized[4:252, 4:252])
    found = normalise(torch.from_numpy(pixels), member.preprocess)
    assert np.allclose(found[0].permute(1, 2, 0), resized[4:252, 4:252] / 255, atol=1e-7)


def test_second_place_takes_ten_squares_along_the_long_side() -> None:
    card = zoo.card("second_place")
    image = photograph(512, 1024)
    found = shape(image, Geometry.of(card.member(), card.views))
    assert found.shape == (10, 512, 512, 3)
    assert np.array_equal(found[0], image[:, :512])
    assert np.array_equal(found[-1], image[:, 512:])
    assert len(shape(photograph(512, 512), Geometry.of(card.member(), card.views))) == 1


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 24))
def test_any_image_becomes_the_input_size(height: int, width: int, size: int) -> None:
    assert shape(photograph(height, width), geometry(size)).shape == (1, size, size, 3)


def test_members_that_differ_in_normalisation_share_pixels() -> None:
    assert geometry(64) == geometry(64, mean=(0, 0, 0), std=(1, 1, 1))
    assert geometry(64) != geometry(96)
    assert geometry(64) != geometry(64, interpolation="area")
    assert geometry(64, crops=3).bytes == 3 * geometry(64).bytes


def test_a_line_of_pixels_is_not_enlarged_without_end(tmp_path: Path) -> None:
    """Some kilobytes would become gigabytes where the short side decides."""
    path = tmp_path / "line.png"
    Image.fromarray(photograph(1, 3000)).save(path)
    data = path.read_bytes()
    image = TestImage(id="line", path=path, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    square, kept = geometry(256), geometry(256, keep_shape=True)
    decoder = Decoder(1)
    with closing(decoder):
        assert decoder.start({0: (image, [square])})(0)[square].shape == (1, 256, 256, 3)
        with pytest.raises(
            InputError, match=r"line.png: 3000 × 1 pixels would become 768000 × 256, more than"
        ):
            decoder.start({0: (image, [kept])})(0)
