"""What must hold of Spotnet."""

from __future__ import annotations

import torch

import zoo


def test_it_is_found_by_name() -> None:
    card = zoo.card("Spotnet")
    assert card.members[0].classes[card.members[0].melanoma] == "MEL"
    assert zoo.origin("spotnet").startswith("plugin spotnet")


def test_it_returns_logits() -> None:
    network = zoo.build("spotnet")
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 128, 128)).shape == (2, 3)


def test_the_card_sets_its_width() -> None:
    assert zoo.build("spotnet").blocks[0].point.out_channels == 16
