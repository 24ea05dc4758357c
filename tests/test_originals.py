"""Files written by the libraries that the authors used: found, loaded into ours, the same outputs.

The networks are built from geffnet, resnest and pretrainedmodels with the authors' heads, filled
with seeded random values, and saved under the official names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import weights
import zoo
from weights.naming import Slot, file_name

pytestmark = pytest.mark.slow


def library(name: str) -> ModuleType:
    with warnings.catch_warnings(action="ignore"):  # they are old, and use what is deprecated today
        return pytest.importorskip(name, reason=f"{name} is of the extra 'dev'")


class FirstPlace(nn.Module):
    """The head of first place, and of the baseline: five dropouts averaged, metadata beside the image."""

    def __init__(
        self, enet: nn.Module, width: int, classes: int, meta: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.enet = enet
        self.dropouts = nn.ModuleList([nn.Dropout(0.5) for _ in range(5)])
        if meta:
            hidden, out = meta
            self.meta = nn.Sequential(
                nn.Linear(14, hidden), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Dropout(p=0.3),
                nn.Linear(hidden, out), nn.BatchNorm1d(out), nn.SiLU(),
            )  # fmt: skip
            width += out
        self.myfc = nn.Linear(width, classes)

    def forward(self, x: Tensor, x_meta: Tensor | None = None) -> Tensor:
        x = self.enet(x).squeeze(-1).squeeze(-1)
        if x_meta is not None:
            x = torch.cat((x, self.meta(x_meta)), dim=1)
        return sum(self.myfc(dropout(x)) for dropout in self.dropouts) / len(self.dropouts)


class SecondPlace(nn.Module):
    """The head of second place: generalised mean pooling inside the backbone, then a linear layer."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x).flatten(1))


class Gem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x.clamp(min=1e-6).pow(self.p), x.shape[2:]).pow(1.0 / self.p)


class Enhance(nn.Module):
    """SGE with the groups in the batch, as it was published."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, groups, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = x.reshape(batch * self.groups, -1, height, width)
        t = (x * functional.adaptive_avg_pool2d(x, 1)).sum(1).flatten(1)
        t = t - t.mean(1, keepdim=True)
        t = t / (t.std(1, keepdim=True) + 1e-5)
        t = t.view(batch, self.groups, height, width) * self.weight + self.bias
        return (x * t.reshape(-1, 1, height, width).sigmoid()).reshape(batch, -1, height, width)


class Gate(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, side, padding=side // 2)

    def forward(self, x: Tensor) -> Tensor:
        maximum, average = x.max(dim=1, keepdim=True)[0], torch.mean(x, dim=1, keepdim=True)
        return self.conv(torch.cat([maximum, average], 1)).sigmoid()


class Spatial(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.sa = Gate(side)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.sa(x)


def geffnet(name: str) -> tuple[nn.Module, int]:
    enet = library("geffnet").create_model(name, pretrained=False)
    width = enet.classifier.in_features
    enet.classifier = nn.Identity()
    return enet, width


def first(name: str, classes: int = 9, meta: tuple[int, int] | None = None) -> nn.Module:
    return FirstPlace(*geffnet(name), classes, meta)


def resnest101() -> nn.Module:
    enet = library("resnest.torch").resnest101(pretrained=False)
    width = enet.fc.in_features
    enet.fc = nn.Identity()
    return FirstPlace(enet, width, 9)


def seresnext101() -> nn.Module:
    enet = library("pretrainedmodels").se_resnext101_32x4d(num_classes=1000, pretrained=None)
    enet.avg_pool = nn.AdaptiveAvgPool2d((1, 1))
    width = enet.last_linear.in_features
    enet.last_linear = nn.Identity()
    return FirstPlace(enet, width, 9)


def second(name: str) -> nn.Module:
    backbone, width = geffnet(name)
    backbone.global_pool = Gem()
    return SecondPlace(backbone, width)


def attention(make: Callable[[], nn.Module]) -> nn.Module:
    enet, width = geffnet("tf_efficientnet_b3")
    between = [[stage] if index == 0 else [stage, make()] for index, stage in enumerate(enet.blocks)]
    enet.blocks = nn.Sequential(*(module for modules in between for module in modules))
    enet.classifier = nn.Linear(width, 8)
    return enet


ORIGINALS: dict[tuple[str, str], Callable[[], nn.Module]] = {
    ("baseline_b3", "9c_b3_384_384_35ep"): lambda: first("tf_efficientnet_b3", classes=8),
    ("first_place", "9c_meta_b3_768_512_ext_18ep"): lambda: first("efficientnet_b3", meta=(512, 128)),
    ("first_place", "9c_b4ns_448_ext_15ep-newfold"): lambda: first("tf_efficientnet_b4_ns"),
    ("first_place", "4c_b5ns_1.5e_640_ext_15ep"): lambda: first("tf_efficientnet_b5_ns", classes=4),
    ("first_place", "9c_nest101_2e_640_ext_15ep"): resnest101,
    ("first_place", "9c_se_x101_640_ext_15ep"): seresnext101,
    ("second_place", "bee508"): lambda: second("tf_efficientnet_b6_ns"),
    ("sge_b3", "9c_SGE-b3_384_384_35ep"): lambda: attention(lambda: Enhance(8)),
    ("spatial_b3", "9c_Spatial-b3_384_384_35ep"): lambda: attention(lambda: Spatial(9)),
}


def fill(network: nn.Module) -> nn.Module:
    """Random values under which no layer is a constant."""
    random = torch.Generator().manual_seed(3)
    for key, value in network.state_dict().items():
        z = torch.randn(value.shape, generator=random)
        if key.endswith("num_batches_tracked"):
            value.fill_(1000)
        elif key.endswith("running_var"):
            value.copy_(0.5 + 0.5 * z.abs())
        elif key.endswith(("running_mean", "bias")):
            value.copy_(0.1 * z)
        elif value.ndim >= 2:
            value.copy_(z * (1.6 / value[0].numel()) ** 0.5)
        else:
            value.copy_((3 if key.endswith(".p") else 1) + 0.1 * z)
    return network.eval()


@pytest.mark.parametrize(("system", "member"), ORIGINALS, ids=lambda value: value)
@torch.inference_mode()
def test_an_original_file_gives_the_original_logits(system: str, member: str, tmp_path: Path) -> None:
    card = zoo.card(system)
    original = fill(ORIGINALS[system, member]())
    # Trained on several GPUs, all keys begin with `module.`: one half of the files is saved so.
    parallel = list(ORIGINALS).index((system, member)) % 2
    state: Any = (nn.DataParallel(original) if parallel else original).state_dict()
    stage = card.checkpoints.stages[0] if card.checkpoints and card.checkpoints.stages else ""
    path = tmp_path / "versions" / "1" / file_name(card, Slot(member, 2, stage))
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    try:
        (file,) = weights.find(card, tmp_path, members=[member], folds=[2])
        settled = weights.settled(card, [file])
        with torch.device("meta"):
            ours = zoo.build(system, member)
        weights.load(ours, file.path)
    finally:
        path.unlink()
    inputs = [torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(4))]
    if card.member(member).metadata:
        inputs.append(torch.randn(2, 14, generator=torch.Generator().manual_seed(5)))
    wanted = original(*inputs)
    assert wanted.std() > 0.01
    assert (ours(*inputs) - wanted).abs().max() <= 1e-4 * max(1, wanted.abs().max())
    kernels = {a.options["kernel_size"] for a in settled.member(member).attention if a.module == "spatial"}
    assert kernels == ({9} if system == "spatial_b3" else set())
