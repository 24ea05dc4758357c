"""HDF5 files of Keras."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import weights
from weights import keras
from weights.checkpoint import read
from zoo.card import Member
from zoo.errors import CheckpointError, MachineError
from zoo.networks import assemble

SMALL_KERAS = Member(name="small", backbone="tf_efficientnet_b0", size=32, classes=("MEL",), melanoma=0)


def in_keras_order(name: str, value: Tensor) -> np.ndarray:
    """PyTorch's order of dimensions back to that of Keras."""
    if name.endswith("depthwise_kernel:0"):
        return value.permute(2, 3, 0, 1).numpy()
    return (value.permute(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value).numpy()


def write(path: Path, arrays: dict[str, Any]) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def test_a_keras_file_comes_back_as_it_was(tmp_path: Path) -> None:
    state = assemble(SMALL_KERAS).state_dict()
    names = weights.official_keys(assemble(SMALL_KERAS), "keras")
    stored = {f"efficientnet-b0/{key}": in_keras_order(key, state[ours]) for key, ours in names.items()}
    loaded = assemble(SMALL_KERAS)
    # Keras keeps no counters of batches: they start at 0, whatever the network had.
    loaded.backbone.bn1.num_batches_tracked.fill_(7)
    weights.load(loaded, write(tmp_path / "a.h5", stored))
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    number=st.sampled_from(["f2", "<f4", ">f4", "f8"]),
)
def test_dimensions_are_put_into_the_order_of_torch(shape: list[int], number: str, tmp_path: Path) -> None:
    height, width, inputs, outputs = shape
    values = np.arange(np.prod(shape)).reshape(shape).astype(number)
    path = write(
        tmp_path / "a.h5",
        {"g/a/kernel:0": values, "g/b/depthwise_kernel:0": values[..., :1], "g/c/kernel:0": values[0, 0]},
    )
    found = read(path)
    assert found["a/kernel:0"].shape == (outputs, inputs, height, width)
    assert found["b/depthwise_kernel:0"].shape == (inputs, 1, height, width)
    for place in np.ndindex(*shape):
        row, column, channel, out = place
        assert found["a/kernel:0"][out, channel, row, column] == values[place]
        assert found["b/depthwise_kernel:0"][channel, 0, row, column] == values[row, column, channel, 0]
        assert found["c/kernel:0"][out, channel] == values[0, 0, channel, out]


def test_a_dense_layer_that_keras_numbered_is_the_head(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"dense_3/dense_3/kernel:0": np.zeros((2, 1), "f4")})
    assert list(read(path)) == ["dense/kernel:0"]


def test_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    zeros = np.zeros(3, "f4")
    path = write(tmp_path / "a.h5", {"one/bn/gamma:0": zeros, "two/bn/gamma:0": zeros})
    with pytest.raises(CheckpointError, match=r"a\.h5: two weights are called bn/gamma:0"):
        read(path)


def test_arrays_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(b"12345678")
    write(tmp_path / "text.h5", {"g/a/kernel:0": "text"})
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("g/a/kernel:0", (2,), "f4", external=[(str(tmp_path / "secret"), 0, 8)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        elsewhere = h5py.VirtualLayout((2,), "f4")
        elsewhere[:] = h5py.VirtualSource(tmp_path / "outside.h5", "g/a/kernel:0", (2,))
        file.create_virtual_dataset("g/a/kernel:0", elsewhere)
    for name in ("text.h5", "outside.h5", "virtual.h5"):
        with pytest.raises(CheckpointError, match=f"{name}: g/a/kernel:0 is not a plain array of numbers"):
            read(tmp_path / name)


def test_an_array_that_claims_more_than_is_stored_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("g/a/kernel:0", (10**6, 10**5), "f4")
        file.create_dataset("g/b/kernel:0", (3,), "f4", compression="gzip")
    with pytest.raises(
        CheckpointError, match=r"g/a/kernel:0 claims 400,000,000,000 bytes, but the file does not"
    ):
        read(tmp_path / "a.h5")


def test_without_h5py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"any")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MachineError, match=r"pip install melanoma-zoo\[hdf5\]"):
        read(tmp_path / "a.h5")


def test_keras_names_tell_blocks_that_expand_from_those_that_do_not() -> None:
    with torch.device("meta"):
        keys = list(assemble(SMALL_KERAS).state_dict())
    names = keras.names(keys)
    assert names["backbone.blocks.0.0.conv_pw.weight"] == "block1a_project_conv/kernel:0"
    assert names["backbone.blocks.1.1.conv_pw.weight"] == "block2b_expand_conv/kernel:0"
    assert names["backbone.blocks.6.0.bn3.running_mean"] == "block7a_project_bn/moving_mean:0"
    assert names["backbone.blocks.2.1.conv_dw.weight"] == "block3b_dwconv/depthwise_kernel:0"
    assert names["backbone.blocks.5.3.se.conv_reduce.bias"] == "block6d_se_reduce/bias:0"
