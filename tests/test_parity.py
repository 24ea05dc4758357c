"""Our networks against reference logits of the authors' own code, through real files.

Every network is filled under its *official* names by the rule of the reference material, saved
as the authors' tools save it, read with `weights.load`, and must give the authors' logits.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import weights
import zoo
from zoo.networks import assemble

PARITY = Path(__file__).parents[2] / "shared" / "parity"

pytestmark = pytest.mark.skipif(
    not PARITY.is_dir(), reason="the reference logits (../shared/parity) are not here"
)

# Reference file, system and member (the only one where None).
NETWORKS = {
    "attention-sge_b3": ("sge_b3", None),
    "attention-spatial_b3": ("spatial_b3", None),
    "attention-s2_mlp_b3": ("s2_mlp_b3", None),
    "attention-s2_cbam_b3-k49": ("s2_cbam_b3", None),
    "baseline-b3": ("baseline_b3", None),
    "first-b3_meta": ("first_place", "9c_meta_b3_768_512_ext_18ep"),
    "first-b4_ns": ("first_place", "9c_b4ns_448_ext_15ep-newfold"),
    "first-b5_ns_4c": ("first_place", "4c_b5ns_1.5e_640_ext_15ep"),
    "first-b5_ns_meta128_32": ("first_place", "9c_meta128_32_b5ns_384_ext_15ep"),
    "first-b6_ns": ("first_place", "9c_b6ns_448_ext_15ep-newfold"),
    "first-b7_ns": ("first_place", "9c_b7ns_1e_576_ext_15ep_oldfold"),
    "first-resnest101": ("first_place", "9c_nest101_2e_640_ext_15ep"),
    "first-seresnext101": ("first_place", "9c_se_x101_640_ext_15ep"),
    "second-b6_ns": ("second_place", "bee508"),
    "second-b7": ("second_place", "bee517"),
}
KERAS = "third-b6"


def reference(name: str) -> dict[str, Any]:
    return json.loads((PARITY / f"{name}.json").read_text(encoding="utf-8"))


def normal(seed: int, shape: list[int]) -> np.ndarray:
    values = np.random.RandomState(seed % 2**32).standard_normal(shape)
    return np.asarray(values, dtype=np.float32)


def fill(key: str, shape: list[int], seed: int, gain: float) -> np.ndarray:
    """The reference material's value of a tensor of PyTorch."""
    z = normal(zlib.crc32(key.encode()) + seed, shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    if key.endswith("running_var"):
        filled = 0.5 + 0.5 * np.abs(z)
    elif key.endswith("running_mean"):
        filled = 0.1 * z
    elif len(shape) >= 2:
        filled = z * np.sqrt(gain / np.prod(shape[1:]))
    elif key.endswith("bias"):
        filled = 0.1 * z
    elif key.endswith(".p"):
        filled = 3 + 0.1 * z
    else:
        filled = 1 + 0.1 * z
    return np.asarray(filled, dtype=np.float32)


def fill_keras(name: str, shape: list[int], seed: int, gain: float) -> np.ndarray:
    """The reference material's value of a weight of Keras."""
    z = normal(zlib.crc32(name.encode()) + seed, shape)
    if name.endswith("moving_variance:0"):
        filled = 0.5 + 0.5 * np.abs(z)
    elif name.endswith("moving_mean:0"):
        filled = 0.1 * z
    elif name.endswith("depthwise_kernel:0"):
        filled = z * np.sqrt(gain / (shape[0] * shape[1]))
    elif len(shape) >= 2:
        filled = z * np.sqrt(gain / np.prod(shape[:-1]))
    elif name.endswith(("bias:0", "beta:0")):
        filled = 0.1 * z
    else:
        filled = 1 + 0.1 * z
    return np.asarray(filled, dtype=np.float32)


def unfilled(system: str, member: str | None) -> nn.Module:
    """A network that has no values until a file gives it all of them."""
    with torch.device("meta"):
        return assemble(zoo.card(system).member(member)).eval()


def layout_of(system: str) -> str:
    checkpoints = zoo.card(system).checkpoints
    assert checkpoints is not None
    return checkpoints.layout


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def assert_same_logits(ours: torch.Tensor, theirs: list[Any]) -> None:
    wanted = torch.tensor(theirs)
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() <= 1e-4 * max(1, wanted.abs().max())


@pytest.fixture
def emptied(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files go with the test: they would add up to gigabytes."""
    yield tmp_path
    for file in tmp_path.iterdir():
        file.unlink()


def test_every_reference_is_tested() -> None:
    assert {file.stem for file in PARITY.glob("*.json")} == {*NETWORKS, KERAS}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_official_keys_shapes_and_parameters(name: str) -> None:
    known = reference(name)
    system, member = NETWORKS[name]
    network = unfilled(system, member)
    state = network.state_dict()
    names = weights.official_keys(network, layout_of(system))
    assert sorted(names.values()) == sorted(state)
    assert {key: list(state[ours].shape) for key, ours in names.items()} == dict(known["state_dict"])
    assert parameters(network) == known["parameters"]


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_an_official_file_gives_the_official_logits(name: str, emptied: Path) -> None:
    known = reference(name)
    seed = known["seed"]
    state = {
        key: torch.from_numpy(fill(key, shape, seed, known["gain"])) for key, shape in known["state_dict"]
    }
    torch.save(state, emptied / "official.pth")
    network = weights.load(unfilled(*NETWORKS[name]), emptied / "official.pth")
    inputs = [torch.from_numpy(normal(seed, known["input_size"]))]
    if features := known.get("metadata_features"):
        inputs.append(torch.from_numpy(normal(seed + 1000, [len(inputs[0]), features])))
    assert_same_logits(network(*inputs), known["logits"])


@pytest.fixture(scope="module")
def keras_weights() -> dict[str, np.ndarray]:
    """Third place's weights by their paths below `model_weights/`."""
    known = reference(KERAS)
    return {
        path: fill_keras("/".join(path.split("/")[-2:]), shape, known["seed"], known["gain"])
        for path, shape in known["hdf5"]
    }


def write_keras(group: Any, arrays: dict[str, np.ndarray]) -> None:
    """What `save_weights` of Keras 2 writes into a group of an HDF5 file."""
    layers = {path.split("/")[0]: None for path in arrays}
    group.attrs["layer_names"] = [layer.encode() for layer in layers]
    for layer in layers:
        inside = [path for path in arrays if path.startswith(f"{layer}/")]
        group.create_group(layer).attrs["weight_names"] = [
            path.removeprefix(f"{layer}/").encode() for path in inside
        ]
        for path in inside:
            group[layer].create_dataset(path.removeprefix(f"{layer}/"), data=arrays[path])


def write_whole_model(file: Any, arrays: dict[str, np.ndarray]) -> None:
    """What `model.save` writes: the weights in a group, and beside them the state of the training."""
    file.attrs["keras_version"] = b"2.4.0"
    write_keras(file.create_group("model_weights"), arrays)
    slots = file.create_group("optimizer_weights").create_group("Adam")
    for path, array in list(arrays.items())[:3]:
        slots.create_dataset(f"{path.removesuffix(':0')}/m:0", data=np.zeros_like(array))


@pytest.mark.parametrize("write", [write_whole_model, write_keras])
@torch.inference_mode()
def test_a_keras_file_gives_the_official_logits(
    write: Callable[[Any, dict[str, np.ndarray]], None], keras_weights: dict[str, np.ndarray], emptied: Path
) -> None:
    h5py = pytest.importorskip("h5py")
    known = reference(KERAS)
    with h5py.File(emptied / "official.h5", "w") as file:
        write(file, keras_weights)
    network = weights.load(unfilled("third_place", None), emptied / "official.h5")
    image = torch.from_numpy(normal(known["seed"], known["input_size_nhwc"])).permute(0, 3, 1, 2)
    logits = network(image)
    assert_same_logits(logits[:, 0], known["logit"])
    np.testing.assert_allclose(logits.sigmoid()[:, 0], known["probability"], rtol=0, atol=1e-6)


def test_the_keras_names_are_the_official_ones() -> None:
    known = reference(KERAS)
    network = unfilled("third_place", None)
    names = weights.official_keys(network, layout_of("third_place"))
    assert set(names) == {"/".join(path.split("/")[-2:]) for path, _ in known["hdf5"]}
    kept = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    assert sorted(names.values()) == sorted(kept)
    assert parameters(network) == known["parameters"]
