"""Reading trained files and putting them into networks. No code in a file is ever run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from weights import keras
from weights.layouts import detect, official_keys
from zoo.attention import SpatialGate
from zoo.errors import CheckpointError, MelanomaZooError

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_SHOWN = 3  # how many differing keys an error names


def load(network: AnyModule, path: Path | str, layout: str | None = None) -> AnyModule:
    """Puts a trained file into a network, in place; nothing is changed where it does not fit.

    Every key and every shape must match. Numbers take the network's type (half precision in
    the file becomes single precision in a network of single precision). A network on the
    meta device gets the file's tensors on the CPU.

    Args:
        network: The network.
        path: A file of PyTorch (`.pth`, `.pt`), `.safetensors`, or Keras (`.h5`).
        layout: Name of the file's key mapping; told from its keys where None.

    Returns:
        The network.

    Raises:
        CheckpointError: The file cannot be read, needs code to be read, is not for this
            network, or has values that are not finite.
        UsageError: There is no such layout.
        MachineError: The file needs h5py, which is not installed.
    """
    found = read(path)
    try:
        layout = layout or detect(network, found)
        names = official_keys(network, layout)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    state = network.state_dict()
    if differences := _differences(found, names, state):
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckpointError(
            f"{path}: does not fit this network under layout {layout!r}: "
            f"{'; '.join(differences[:_SHOWN])}{more}; {_mend(network, found, names)}"
        )
    values = {ours: _checked(found[key], state[ours].dtype, f"{path}: {key}") for key, ours in names.items()}
    counters = {key: torch.zeros((), dtype=torch.int64) for key in state.keys() - values.keys()}
    meta = any(tensor.is_meta for tensor in state.values())
    network.load_state_dict({**values, **counters}, assign=meta)
    return network


def read(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a trained file on the CPU, under the file's own keys.

    A state_dict may stand bare or under `state_dict` or `model`; a leading `module.` that
    all keys share (training on several GPUs) is taken off.

    Raises:
        CheckpointError: There is no such file, it is damaged, needs code to be read, or
            holds no state_dict.
        MachineError: The file needs h5py, which is not installed.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if not path.is_file():
        raise CheckpointError(f"{path}: " + ("is not a file" if path.exists() else "there is no such file"))
    if reader is None:
        raise CheckpointError(f"{path}: a trained file ends in {', '.join(_READERS)}")
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: the file is empty; fetch it again")
    try:
        return _state_dict(reader(path), path)
    except MelanomaZooError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path}: may not be read; change its permissions") from error
    except Exception as error:  # the parsers fail in their own ways, and a broken file may fail anywhere
        raise CheckpointError(
            f"{path}: damaged, cut short, or not the kind of file that its name says; fetch it again"
        ) from error


def _read_torch(path: Path) -> Any:
    # torch.load does not compare the checksums that its archives carry.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
    try:
        with warnings.catch_warnings(action="ignore"):  # on kinds of files and tensors refused just below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        if code := re.search(r"GLOBAL (\S+)|(TorchScript)", str(error)):
            raise CheckpointError(
                f"{path}: needs code to be read ({code[1] or code[2]}), which is never run; "
                "save it again as a plain state_dict: torch.save(network.state_dict(), path)"
            ) from error
        raise


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(path)
    return tensors


_READERS: dict[str, Callable[[Path], Any]] = {
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".safetensors": _read_safetensors,
    ".h5": keras.read,
}


def _state_dict(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, dict):
        found = next(
            (found[key] for key in ("state_dict", "model") if isinstance(found.get(key), dict)), found
        )
    if not isinstance(found, dict) or not found or not all(isinstance(key, str) for key in found):
        raise CheckpointError(f"{path}: holds no state_dict, neither bare nor under 'state_dict' or 'model'")
    for key, value in found.items():
        plain = isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
        if not plain or value.is_complex():
            raise CheckpointError(f"{path}: {key} is not a plain tensor of real numbers")
    if all(key.startswith("module.") for key in found):
        return {key.removeprefix("module."): value for key, value in found.items()}
    return dict(found)


def _differences(
    found: Mapping[str, Tensor], names: Mapping[str, str], state: Mapping[str, Tensor]
) -> list[str]:
    """What differs between a file and a network, in the network's order, then what is only in the file."""
    wanted = {key: _described(state[ours]) for key, ours in names.items()}
    given = {key: _described(tensor) for key, tensor in found.items()}
    return [
        f"{key} is {given.get(key, 'absent')} in the file, {wanted.get(key, 'absent')} in the network"
        for key in {**wanted, **given}
        if given.get(key) != wanted.get(key)
    ]


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}" if tensor.is_floating_point() else f"{tuple(tensor.shape)} of integers"


def _mend(network: nn.Module, found: Mapping[str, Tensor], names: Mapping[str, str]) -> str:
    """What to do about a file that does not fit."""
    gates = {
        f"{name}.conv.weight": module
        for name, module in network.named_modules()
        if isinstance(module, SpatialGate)
    }
    for key, ours in names.items():
        if ours in gates and key in found and found[key].ndim == 4:
            side = found[key].shape[-1]
            if found[key].shape != gates[ours].conv.weight.shape:
                return f"set options.kernel_size = {side} for that attention in the card"
    return "check the card's backbone, attention, classes and metadata, or name another layout"


def _checked(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    tensor = tensor.to(dtype)
    if tensor.is_floating_point() and not (finite := tensor.isfinite()).all():
        count = int((~finite).sum())
        raise CheckpointError(
            f"{where}: {count} of {tensor.numel()} values are NaN or infinite as {dtype}; "
            "the training diverged or the file is damaged"
        )
    return tensor
