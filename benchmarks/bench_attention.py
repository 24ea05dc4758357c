"""The attention modules alone, on the feature map that they meet after stage 5 of EfficientNet-B3 at 384 px.

make bench ARGS="-k attention"
"""

from __future__ import annotations

import pytest
import torch

from zoo.attention import MODULES

SHAPE = (1, 232, 12, 12)


@pytest.mark.parametrize("name", MODULES)
def test_attention(benchmark, name):
    """One module, batch 1."""
    torch.manual_seed(0)
    module, maps = MODULES[name](SHAPE[1]).eval(), torch.rand(SHAPE)
    with torch.inference_mode():
        out = benchmark(module, maps)
    assert out.shape == SHAPE
