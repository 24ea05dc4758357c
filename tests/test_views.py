"""Views: symmetries, crops, and how their outputs become one probability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, softmax

from evaluate.views import average, crops, first, probabilities, transform
from zoo.card import VIEWS, Views
from zoo.errors import UsageError

TEN = Views(transforms=VIEWS, weights=(1, 1, 1, 1, 2, 2, 1, 1))
"""The attention networks' ten views as eight distinct ones."""


def published(pixels: np.ndarray, number: int) -> np.ndarray:
    """View `number` of the published scripts, of (rows, columns, channels)."""
    if number >= 4:
        pixels = pixels.swapaxes(0, 1)
    flips = {0: (), 1: (0,), 2: (1,), 3: (0, 1)}[number % 4]
    return np.flip(pixels, flips) if flips else pixels


@pytest.mark.parametrize(("number", "view"), list(enumerate(VIEWS)))
def test_views_are_those_of_the_published_scripts(number: int, view: str) -> None:
    pixels = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    assert np.array_equal(transform(torch.from_numpy(pixels), view).numpy(), published(pixels, number))


def test_the_eight_views_are_all_symmetries_of_the_square() -> None:
    pixels = torch.arange(9, dtype=torch.uint8).reshape(3, 3, 1)
    assert len({bytes(transform(pixels, view).contiguous().numpy()) for view in VIEWS}) == 8


@given(logits=hnp.arrays(np.float32, (8, 5), elements=st.floats(-30, 30, width=32)))
def test_eight_distinct_views_equal_the_published_ten(logits: np.ndarray) -> None:
    ten = softmax(logits[[0, 1, 2, 3, 4, 5, 6, 7, 4, 5]].astype(np.float64), axis=1).mean(axis=0)
    assert np.abs(average([logits], TEN)[0] - ten).max() < 1e-6


@given(
    logits=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-50, 50)
    )
)
def test_probabilities_are_softmax_or_sigmoid(logits: np.ndarray) -> None:
    expected = expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)
    np.testing.assert_allclose(probabilities(logits), expected, atol=1e-12)


def test_extreme_logits_give_numbers() -> None:
    assert probabilities(np.array([[-1e30, 1e30]])).tolist() == [[0.0, 1.0]]
    assert probabilities(np.array([[-1e4], [1e4]])).tolist() == [[0.0], [1.0]]


def test_logits_are_averaged_before_the_softmax_where_the_card_says_so() -> None:
    views = Views(transforms=("identity",), crops=10, average="logits")
    images = [np.array([[0.0, 4.0], [2.0, 0.0], [1.0, 1.0]]), np.array([[1.0, 3.0]])]
    found = average(images, views)
    np.testing.assert_allclose(found, [softmax([1.0, 5 / 3]), softmax([1.0, 3.0])])
    by_probability = average(images, Views(transforms=("identity",), crops=10))
    assert np.abs(found - by_probability).max() > 0.01


@given(height=st.integers(1, 400), width=st.integers(1, 400), most=st.integers(1, 12))
def test_crops_are_squares_of_the_short_side_from_end_to_end(height: int, width: int, most: int) -> None:
    found = crops(height, width, most)
    side = min(height, width)
    assert 1 <= len(found) == len(set(found)) <= most
    assert all(s == side and top + s <= height and left + s <= width for top, left, s in found)
    assert found[0][:2] == (0, 0)
    if most > 1:
        assert (found[-1][0] + side, found[-1][1] + side) == (height, width)
    if most > 1 and abs(height - width) >= most - 1:
        assert len(found) == most
    assert found == sorted(found)


def test_the_first_views_follow_the_published_sequence() -> None:
    assert first(TEN, 10) == TEN
    assert first(TEN, 8).weights == (1,) * 8
    assert first(TEN, 9) == Views(transforms=VIEWS, weights=(1, 1, 1, 1, 2, 1, 1, 1))
    assert first(TEN, 3).transforms == VIEWS[:3]
    assert first(Views(crops=10, average="logits"), 1) == Views(crops=10, average="logits", weights=(1,))
    for number in (0, 11):
        with pytest.raises(UsageError, match="1 to 10"):
            first(TEN, number)
