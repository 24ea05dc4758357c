"""EfficientNets of Keras: HDF5 files of tf.keras (Keras 2) and the package `efficientnet`.

A weight is called `<layer>/<weight>:0`, for example `block2b_project_conv/kernel:0`. Files of
whole models keep `<group>/<layer>/<weight>:0` under `model_weights`, files of weights at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from zoo.errors import CheckpointError, MachineError

if TYPE_CHECKING:
    from torch import Tensor

# Our modules and the layers of Keras. Block n (from 0) of stage s is `block{s + 1}{letter of n}_`;
# blocks that expand their input first and blocks that do not number their modules differently.
_LAYERS = {
    "backbone.conv_stem": "stem_conv",
    "backbone.bn1": "stem_bn",
    "backbone.conv_head": "top_conv",
    "backbone.bn2": "top_bn",
    "head": "dense",
}
_SQUEEZE = {"se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand"}
_PLAIN_BLOCK = {
    "conv_dw": "dwconv",
    "bn1": "bn",
    **_SQUEEZE,
    "conv_pw": "project_conv",
    "bn2": "project_bn",
}
_EXPANDING_BLOCK = {
    "conv_pw": "expand_conv",
    "bn1": "expand_bn",
    "conv_dw": "dwconv",
    "bn2": "bn",
    **_SQUEEZE,
    "conv_pwl": "project_conv",
    "bn3": "project_bn",
}
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_DEPTHWISE = {"weight": "depthwise_kernel"}
_LINEAR = {"weight": "kernel", "bias": "bias"}

_UNSTORED = 2**28
"""Bytes that an array may claim beyond what is stored of it: more is no compression of weights."""

_BLOCK_KEY = re.compile(r"backbone\.blocks\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<module>.+)")


def names(ours: Iterable[str]) -> dict[str, str | None]:
    """What Keras calls our keys; None where it has no such weight.

    Batch counters (`num_batches_tracked`), which Keras does not keep, are left out.

    >>> names(["backbone.blocks.0.1.bn2.running_var", "head.weight", "meta.0.weight"])
    {'backbone.blocks.0.1.bn2.running_var': 'block1b_project_bn/moving_variance:0', \
'head.weight': 'dense/kernel:0', 'meta.0.weight': None}
    """
    ours = list(ours)
    expanding = {key.removesuffix("conv_pwl.weight") for key in ours if key.endswith(".conv_pwl.weight")}
    return {key: _name(key, expanding) for key in ours if not key.endswith(".num_batches_tracked")}


def _name(key: str, expanding: set[str]) -> str | None:
    module, _, parameter = key.rpartition(".")
    if block := _BLOCK_KEY.fullmatch(module):
        start = key[: block.start("module")]
        part = (_EXPANDING_BLOCK if start in expanding else _PLAIN_BLOCK).get(block["module"])
        letter = ascii_lowercase[int(block["block"])]
        layer = part and f"block{int(block['stage']) + 1}{letter}_{part}"
    else:
        layer = _LAYERS.get(module)
    if layer is None:
        return None
    weights = _NORM if layer.endswith("bn") else _DEPTHWISE if layer.endswith("dwconv") else _LINEAR
    return f"{layer}/{weights[parameter]}:0" if parameter in weights else None


def read(path: Path) -> dict[str, Tensor]:
    """The weights of an HDF5 file by Keras' names, with dimensions in the order of PyTorch.

    Args:
        path: A file of `model.save` or `model.save_weights`.

    Raises:
        MachineError: h5py is not installed.
        CheckpointError: The file has weights that cannot be told apart or are not plain numbers.
        OSError: The file is not HDF5, or damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise MachineError(
            f"{path}: reading HDF5 needs h5py; install it with: pip install melanoma-zoo[hdf5]"
        ) from error

    found: dict[str, Tensor] = {}

    def visit(place: str, entry: Any) -> None:
        if not isinstance(entry, h5py.Dataset):
            return
        # Keras counts on where a session has made a layer of that name before: dense_1, dense_2.
        name = re.sub(r"^dense_\d+/", "dense/", "/".join(place.split("/")[-2:]))
        if name in found:
            raise CheckpointError(f"{path}: two weights are called {name}")
        if entry.dtype.kind != "f" or entry.external or entry.is_virtual:
            raise CheckpointError(f"{path}: {place} is not a plain array of numbers in this file")
        if entry.nbytes > entry.id.get_storage_size() + _UNSTORED:
            raise CheckpointError(
                f"{path}: {place} claims {entry.nbytes:,} bytes, but the file does not hold them"
            )
        found[name] = _arranged(name, entry)

    with h5py.File(path, "r") as file:
        file.get("model_weights", file).visititems(visit)
    return found


def _arranged(name: str, dataset: Any) -> Tensor:
    """Depthwise kernels HWC1 → C1HW, other kernels HWIO → OIHW, dense ones transposed."""
    import torch

    tensor = torch.from_numpy(dataset.astype(dataset.dtype.newbyteorder("="))[()])
    if tensor.ndim == 4:
        tensor = tensor.permute((2, 3, 0, 1) if name.endswith("/depthwise_kernel:0") else (3, 2, 0, 1))
    return (tensor.T if tensor.ndim == 2 else tensor).contiguous()
