"""The four attention modules, each alone, against plain restatements of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from zoo.attention import CBAM, MODULES, S2MLPv2, SpatialAttention, SpatialGroupEnhance

EACH = pytest.mark.parametrize("name", MODULES)
CHANNELS = 16


def made(name: str, channels: int = CHANNELS, seed: int = 0) -> nn.Module:
    """A module whose every parameter counts; SGE's start at 0."""
    module = MODULES[name](channels)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def maps(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_sge(module: SpatialGroupEnhance, x: Tensor) -> np.ndarray:
    values = x.double().numpy()
    out = np.empty_like(values)
    width = values.shape[1] // module.groups
    for image in range(len(values)):
        for group in range(module.groups):
            channels = slice(group * width, (group + 1) * width)
            part = values[image, channels]
            similarity = np.einsum("chw,c->hw", part, part.mean(axis=(1, 2)))
            normal = (similarity - similarity.mean()) / (similarity.std(ddof=1) + 1e-5)
            weight, bias = module.weight[0, group].item(), module.bias[0, group].item()
            out[image, channels] = part / (1 + np.exp(-(normal * weight + bias)))
    return out


def plain_spatial_gate(gate: nn.Module, x: Tensor) -> Tensor:
    described = torch.stack((x.max(dim=1).values, x.mean(dim=1)), dim=1)
    side = gate.conv.kernel_size[0]
    return nn.functional.conv2d(described, gate.conv.weight, gate.conv.bias, padding=side // 2).sigmoid()


def plain_cbam(module: CBAM, x: Tensor) -> Tensor:
    squeeze, _, expand = module.ca.se
    narrow, wide = squeeze.weight[:, :, 0, 0], expand.weight[:, :, 0, 0]
    summed = sum((pooled @ narrow.T).relu() @ wide.T for pooled in (x.amax((2, 3)), x.mean((2, 3))))
    scaled = x * summed.sigmoid()[:, :, None, None]
    return x + scaled * plain_spatial_gate(module.sa, scaled)


def plain_s2_mlp_v2(module: S2MLPv2, x: Tensor) -> Tensor:
    _, channels, height, width = x.shape
    projected = module.mlp1(x.permute(0, 2, 3, 1))
    down, up, right, left = (-1, 0), (1, 0), (0, -1), (0, 1)
    # Where each quarter of the channels of the two shifted thirds takes its value from.
    sources = ((down, up, right, left), (right, left, down, up))
    parts = [projected[..., i * channels : (i + 1) * channels] for i in range(3)]
    shifted = [part.clone() for part in parts]
    for third in (0, 1):
        for row in range(height):
            for column in range(width):
                for channel in range(channels):
                    quarter = sum(
                        channel >= edge for edge in (channels // 4, channels // 2, channels * 3 // 4)
                    )
                    step = sources[third][quarter]
                    place = (row + step[0], column + step[1])
                    if 0 <= place[0] < height and 0 <= place[1] < width:
                        shifted[third][:, row, column, channel] = parts[third][:, place[0], place[1], channel]
    split = module.split_attention
    scores = split.mlp2(nn.functional.gelu(split.mlp1(sum(shifted).sum((1, 2)))))
    shares = scores.view(-1, 3, channels).softmax(dim=1)
    mixed = sum(shares[:, i, None, None] * shifted[i] for i in range(3))
    return module.mlp2(mixed).permute(0, 3, 1, 2)


PLAIN = {
    "sge": plain_sge,
    "spatial": lambda module, x: x * plain_spatial_gate(module.sa, x),
    "cbam": plain_cbam,
    "s2_mlp_v2": plain_s2_mlp_v2,
}


@EACH
@torch.no_grad()
def test_it_computes_what_its_paper_says(name: str) -> None:
    module, x = made(name), maps(2, CHANNELS, 4, 5)
    expected = torch.as_tensor(PLAIN[name](module, x), dtype=torch.float32)
    torch.testing.assert_close(module(x), expected)


@torch.no_grad()
def test_a_width_that_four_does_not_divide_is_shifted_in_uneven_quarters() -> None:
    module, x = made("s2_mlp_v2", channels=7), maps(1, 7, 3, 4)
    torch.testing.assert_close(module(x), plain_s2_mlp_v2(module, x))


@EACH
@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_any_size_keeps_its_shape_and_its_input_and_has_gradients(
    name: str, batch: int, height: int, width: int, seed: int
) -> None:
    module, x = made(name), maps(batch, CHANNELS, height, width, seed=seed)
    given_map = x.clone().requires_grad_()
    out = module(given_map)
    out.square().sum().backward()
    assert out.shape == x.shape
    assert torch.equal(given_map.detach(), x)
    assert all(
        tensor.isfinite().all() for tensor in (out, given_map.grad, *(p.grad for p in module.parameters()))
    )


@EACH
def test_every_parameter_and_the_input_get_a_gradient(name: str) -> None:
    module, x = made(name), maps(2, CHANNELS, 5, 3).requires_grad_()
    module(x).square().sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


@EACH
def test_its_gradient_is_that_of_what_it_computes(name: str) -> None:
    module = made(name, channels=8).double()
    assert torch.autograd.gradcheck(module, maps(1, 8, 3, 2).double().requires_grad_(), fast_mode=True)


@EACH
def test_a_constant_map_has_finite_gradients(name: str) -> None:
    x = torch.ones(1, CHANNELS, 3, 3, requires_grad=True)
    made(name)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@EACH
def test_channels_last_memory_gives_the_same_values_and_gradients(name: str) -> None:
    module = made(name)
    outputs, gradients = [], []
    for memory in (torch.contiguous_format, torch.channels_last):
        x = maps(2, CHANNELS, 5, 3).to(memory_format=memory).requires_grad_()
        out = module(x)
        out.square().sum().backward()
        outputs.append(out.detach())
        gradients.append(x.grad)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_half_precision_stays_half_and_comes_close(name: str, dtype: torch.dtype) -> None:
    module, x = made(name), maps(2, CHANNELS, 7, 5)
    expected = module(x)
    out = module.to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    # 40 units in the last place of the largest value: rounding, not another computation.
    bound = 40 * torch.finfo(dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=bound)


@EACH
@torch.no_grad()
def test_it_runs_under_autocast(name: str) -> None:
    module, x = made(name), maps(2, CHANNELS, 7, 5)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    bound = 40 * torch.finfo(torch.bfloat16).eps * expected.abs().max().item()
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=bound)


@EACH
@pytest.mark.parametrize("strict", [False, True])
@torch.no_grad()
def test_it_can_be_exported_with_any_batch_size(name: str, strict: bool) -> None:
    module = made(name).eval()
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    program = torch.export.export(module, (maps(2, CHANNELS, 5, 3),), dynamic_shapes=(batch,), strict=strict)
    x = maps(3, CHANNELS, 5, 3)
    torch.testing.assert_close(program.module()(x), module(x))


def test_sge_starts_as_an_even_half() -> None:
    x = maps(1, CHANNELS, 4, 4)
    torch.testing.assert_close(SpatialGroupEnhance(CHANNELS)(x), x / 2)


def test_cbam_keeps_one_hidden_channel() -> None:
    assert CBAM(3, reduction=16).ca.se[0].weight.shape == (1, 3, 1, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sge", {"groups": 5}, "16 channels cannot be divided into 5 groups"),
        ("sge", {"groups": 0}, "16 channels cannot be divided into 0 groups"),
        ("spatial", {"kernel_size": 6}, "kernel_size = 6 must be odd"),
        ("cbam", {"kernel_size": -7}, "kernel_size = -7 must be odd"),
        ("cbam", {"reduction": 0}, "reduction = 0 must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MODULES[name](CHANNELS, **options)


def test_published_files_find_their_names() -> None:
    assert {name: list(module(16).state_dict()) for name, module in MODULES.items()} == {
        "sge": ["weight", "bias"],
        "spatial": ["sa.conv.weight", "sa.conv.bias"],
        "s2_mlp_v2": [
            "mlp1.weight",
            "mlp1.bias",
            "mlp2.weight",
            "mlp2.bias",
            "split_attention.mlp1.weight",
            "split_attention.mlp2.weight",
        ],
        "cbam": ["ca.se.0.weight", "ca.se.2.weight", "sa.conv.weight", "sa.conv.bias"],
    }


def test_a_kernel_wider_than_the_map_is_no_problem() -> None:
    assert SpatialAttention(4, kernel_size=49)(maps(1, 4, 2, 3)).shape == (1, 4, 2, 3)
