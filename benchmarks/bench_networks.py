"""A forward pass of each network on EfficientNet-B3, batch 1, at its own input size.

make bench ARGS="-k networks"
"""

from __future__ import annotations

import pytest
import torch

import zoo

SYSTEMS = [*zoo.systems(group="baseline"), *zoo.systems(group="attention")]


@pytest.mark.parametrize("name", SYSTEMS)
def test_networks(benchmark, name):
    """One pass."""
    member = zoo.card(name).member()
    network, image = zoo.build(name), torch.rand(1, 3, member.size, member.size)
    with torch.inference_mode():
        out = benchmark.pedantic(network, args=(image,), rounds=20, warmup_rounds=5)
    assert out.shape == (1, len(member.classes))
