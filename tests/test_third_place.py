"""Third place's HDF5 files, against a second implementation and against TensorFlow itself.

The second implementation is EfficientNet-B6 written down from its definition (Tan & Le 2019,
https://arxiv.org/abs/1905.11946, and the layers of Keras' `efficientnet` package): it shares no
code with timm or with our reading of the files.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import weights
import zoo
from weights.naming import file_name, slots

pytestmark = pytest.mark.slow

CARD = zoo.card("third_place")
SLOT = slots(CARD)[4]
OTHER_PYTHON = "MELANOMA_ZOO_KERAS_PYTHON"
# Kernel, stride, expansion, input and output channels and repeats of each stage of B0; B6 is 1.8
# times as wide and 2.6 times as deep.
STAGES = (
    (3, 1, 1, 32, 16, 1), (3, 2, 6, 16, 24, 2), (5, 2, 6, 24, 40, 2), (3, 2, 6, 40, 80, 3),
    (5, 1, 6, 80, 112, 3), (5, 2, 6, 112, 192, 4), (3, 1, 6, 192, 320, 1),
)  # fmt: skip
WIDTH, DEPTH = 1.8, 2.6


def wide(channels: int) -> int:
    scaled = channels * WIDTH
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8


class Keras(dict[str, np.ndarray]):
    """Weights by Keras' names and in Keras' order of dimensions, made up as they are asked for."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        if name not in self:
            z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
            if name.endswith("moving_variance:0"):
                z = 0.5 + 0.5 * abs(z)
            elif name.endswith("depthwise_kernel:0"):
                z = z * math.sqrt(1.5 / (shape[0] * shape[1]))
            elif len(shape) > 1:
                z = z * math.sqrt(1.5 / math.prod(shape[:-1]))
            else:
                z = name.endswith("gamma:0") + 0.1 * z
            self[name] = z.astype("float32")
        assert self[name].shape == shape
        return torch.from_numpy(self[name]).double()

    def same(self, x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        """A convolution with TensorFlow's padding: as little as will do, the odd pixel at the end."""
        pads = []
        for size, side in zip(reversed(x.shape[2:]), reversed(kernel.shape[2:]), strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + side - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)

    def conv(self, x: Tensor, layer: str, out: int, side: int = 1, stride: int = 1) -> Tensor:
        kernel = self(f"{layer}/kernel:0", side, side, x.shape[1], out)
        return self.same(x, kernel.permute(3, 2, 0, 1), stride)

    def depthwise(self, x: Tensor, layer: str, side: int, stride: int) -> Tensor:
        kernel = self(f"{layer}/depthwise_kernel:0", side, side, x.shape[1], 1)
        return self.same(x, kernel.permute(2, 3, 0, 1), stride, groups=x.shape[1])

    def norm(self, x: Tensor, layer: str) -> Tensor:
        gamma, beta, mean, variance = (
            self(f"{layer}/{name}:0", x.shape[1]).view(1, -1, 1, 1)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta

    def block(self, x: Tensor, name: str, side: int, stride: int, expansion: int, out: int) -> Tensor:
        before, inside = x, x.shape[1] * expansion
        if expansion != 1:
            x = swish(self.norm(self.conv(x, f"{name}expand_conv", inside), f"{name}expand_bn"))
        x = swish(self.norm(self.depthwise(x, f"{name}dwconv", side, stride), f"{name}bn"))
        hidden = max(1, int(before.shape[1] * 0.25))
        gate = swish(self.squeeze(x.mean((2, 3), keepdim=True), f"{name}se_reduce", hidden))
        x = x * torch.sigmoid(self.squeeze(gate, f"{name}se_expand", inside))
        x = self.norm(self.conv(x, f"{name}project_conv", out), f"{name}project_bn")
        return x + before if stride == 1 and before.shape == x.shape else x

    def squeeze(self, x: Tensor, layer: str, out: int) -> Tensor:
        return self.conv(x, layer, out) + self(f"{layer}/bias:0", out).view(1, -1, 1, 1)

    def logit(self, image: Tensor) -> Tensor:
        x = swish(self.norm(self.conv(image, "stem_conv", wide(32), 3, 2), "stem_bn"))
        for stage, (side, stride, expansion, _, out, repeats) in enumerate(STAGES, start=1):
            for number in range(math.ceil(repeats * DEPTH)):
                name = f"block{stage}{ascii_lowercase[number]}_"
                x = self.block(x, name, side, 1 if number else stride, expansion, wide(out))
        x = swish(self.norm(self.conv(x, "top_conv", wide(1280)), "top_bn")).mean((2, 3))
        return x @ self("dense/kernel:0", x.shape[1], 1) + self("dense/bias:0", 1)


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


@pytest.fixture(scope="module")
def image() -> Tensor:
    """Two inputs that are no square and not alike."""
    random = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 75, 96, generator=random, dtype=torch.float64)
    return image * torch.tensor([0.3, 3]).view(2, 1, 1, 1)


@pytest.fixture(scope="module")
@torch.inference_mode()
def trained(image: Tensor) -> tuple[Keras, Tensor]:
    made = Keras()
    return made, made.logit(image)


def nested(name: str) -> str:
    return f"dense/{name}" if name.startswith("dense/") else f"efficientnet-b6/{name}"


def flat(name: str) -> str:
    return f"{name.partition('/')[0]}/{name}"


def write_weights(group: Any, arrays: dict[str, np.ndarray]) -> None:
    """As `save_weights` of Keras 2 does."""
    layers = {path.partition("/")[0]: None for path in arrays}
    group.attrs["layer_names"] = [layer.encode() for layer in ("input_1", *layers)]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.4.0"
    group.create_group("input_1").attrs["weight_names"] = []
    for layer in layers:
        inside = {
            path.partition("/")[2]: array for path, array in arrays.items() if path.startswith(f"{layer}/")
        }
        group.create_group(layer).attrs["weight_names"] = [name.encode() for name in inside]
        for name, array in inside.items():
            group[layer].create_dataset(name, data=array)


def write_model(file: Any, arrays: dict[str, np.ndarray]) -> None:
    """As `model.save` of Keras 2 does: the weights beside the state of the training."""
    file.attrs["model_config"] = b'{"class_name": "Sequential"}'
    file.attrs["training_config"] = b'{"loss": "binary_crossentropy"}'
    write_weights(file.create_group("model_weights"), arrays)
    slot = file.create_group("optimizer_weights").create_group("Adam")
    slot.create_dataset("iter:0", data=np.int64(3))
    for path, array in list(arrays.items())[:3]:
        slot.create_dataset(f"{path.removesuffix(':0')}/m:0", data=np.zeros_like(array))


@pytest.mark.parametrize("place", [nested, flat])
@pytest.mark.parametrize("write", [write_model, write_weights])
@torch.inference_mode()
def test_a_keras_file_gives_what_its_weights_give_by_definition(
    write: Callable[[Any, dict[str, np.ndarray]], None],
    place: Callable[[str], str],
    trained: tuple[Keras, Tensor],
    image: Tensor,
    tmp_path: Path,
) -> None:
    h5py = pytest.importorskip("h5py")
    made, wanted = trained
    path = tmp_path / "download" / file_name(CARD, SLOT)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        write(file, {place(name): array for name, array in made.items()})
    try:
        (found,) = weights.find(CARD, tmp_path, members=[SLOT.member])
        with torch.device("meta"):
            ours = zoo.build(CARD.name, SLOT.member)
        weights.load(ours, found.path)
    finally:
        path.unlink()
    assert abs(wanted[0] - wanted[1]) > 0.1
    # In double precision, where rounding cannot pass for a small mistake in the mapping.
    torch.testing.assert_close(ours.double()(image), wanted, rtol=0, atol=1e-9)


def test_the_second_implementation_is_b6(trained: tuple[Keras, Tensor]) -> None:
    made, _ = trained
    parameters = sum(array.size for name, array in made.items() if "/moving_" not in name)
    assert parameters == 40_738_009  # as printed by Keras for B6 with one output


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of TensorFlow, and what it computes from them."""
    python = os.environ.get(OTHER_PYTHON, sys.executable)
    has = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('tensorflow', 'tf_keras', 'efficientnet'))))"
    if subprocess.run([python, "-c", has], check=False).returncode:
        pytest.skip(
            f"needs TensorFlow, tf_keras and efficientnet; {OTHER_PYTHON} names a Python that has them"
        )
    folder = tmp_path_factory.mktemp("tensorflow")
    script = Path(__file__).parent / "keras_original.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [python, str(script), str(folder)], capture_output=True, text=True, env=environment, check=False
    )
    assert not run.returncode, run.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", ["whole.h5", "weights.h5"])
@torch.inference_mode()
def test_a_file_of_tensorflow_gives_the_probabilities_of_tensorflow(name: str, written: Path) -> None:
    pytest.importorskip("h5py")
    with torch.device("meta"):
        ours = zoo.build(CARD.name, SLOT.member)
    weights.load(ours, written / name)
    (written / name).unlink()
    expected = np.load(written / "expected.npz")
    found = ours(torch.from_numpy(expected["image"]).permute(0, 3, 1, 2)).sigmoid()
    np.testing.assert_allclose(found, expected["probability"], rtol=0, atol=1e-5)
