"""From an image file to a network's input: decode, resize, normalise.

make bench ARGS="-k images"
"""

from __future__ import annotations

import pytest

import zoo
from reports import pixels

SYSTEM = zoo.systems(group="baseline")[0]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A JPEG of 1024x768 px."""
    return pixels.made_up(tmp_path_factory.mktemp("images"), seed=0)[0]


def test_images(benchmark, image):
    """One file."""
    pytest.importorskip("evaluate.images", reason="needs the decoding of evaluate")
    member = zoo.card(SYSTEM).member()
    found = benchmark(pixels.read, image, member)
    assert found.shape == (3, member.size, member.size)
