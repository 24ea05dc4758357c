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
from weights.settling import Change, changes
from zoo.errors import CheckpointError, MelanomaZooError

AnyModule = TypeVar("AnyModule", bound=nn.Module)
T = TypeVar("T")

_SHOWN = 3  # how many differing keys an error names


def load(network: AnyModule, path: Path | str, layout: str | None = None) -> AnyModule:
    """Puts a trained file into a network, in place; nothing is changed where it does not fit.

    Every key and every shape must match, but where a shape tells an option of an attention module
    (the side of its kernel, its groups), the module takes it. Numbers take the network's type
    (half precision in the file becomes single precision in a network of single precision). A
    network on the meta device gets the file's tensors on the CPU.

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
    values, adapted = _fitted(network, Path(path), layout)
    state = network.state_dict()
    meta = any(tensor.is_meta for tensor in state.values())
    for change in adapted:
        change.apply()
    counters = {
        key: torch.zeros((), dtype=torch.int64) for key in network.state_dict().keys() - values.keys()
    }
    network.load_state_dict({**values, **counters}, assign=meta)
    return network


def _fitted(network: nn.Module, path: Path, layout: str | None) -> tuple[dict[str, Tensor], list[Change]]:
    """The values of a trained file by our keys, and what must change in the network to take them."""
    found = read(path)
    try:
        layout = layout or detect(network, found)
        names = official_keys(network, layout)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    state = network.state_dict()
    try:
        adapted = changes(
            network, {ours: tuple(found[key].shape) for key, ours in names.items() if key in found}
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for change in adapted:
        start = f"{change.name}." if change.name else ""
        state |= {f"{start}{key}": value for key, value in change.wanted.state_dict().items()}
    if differences := _differences(found, names, state):
        more = f" and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise CheckpointError(
            f"{path}: does not fit this network under layout {layout!r}: "
            f"{'; '.join(differences[:_SHOWN])}{more}; "
            "check the card's backbone, attention, classes and metadata, or name another layout"
        )
    values = {ours: _checked(found[key], state[ours].dtype, f"{path}: {key}") for key, ours in names.items()}
    return values, adapted


def check(network: nn.Module, path: Path | str, layout: str | None = None) -> None:
    """Makes sure that `load` would put a trained file into a network; nothing is changed.

    Args:
        network: The network; on the meta device too.
        path: As of `load`.
        layout: As of `load`.

    Raises:
        CheckpointError: As of `load`.
        UsageError: As of `load`.
        MachineError: As of `load`.
    """
    _fitted(network, Path(path), layout)


def read(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a trained file on the CPU, under the file's own keys.

    A state_dict may stand bare or under `state_dict` or `model`; a leading `module.` that
    all keys share (training on several GPUs) is taken off.

    Raises:
        CheckpointError: There is no such file, it is damaged, needs code to be read, or
            holds no state_dict.
        MachineError: The file needs h5py, which is not installed.
    """
    return _opened(Path(path), lambda path, ending: _state_dict(_READERS[ending](path), path))


def shapes(path: Path | str) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a trained file, under the file's own keys.

    Values are read only where the kind of file leaves no choice, and are not checked.

    Raises:
        CheckpointError: As of `read`.
        MachineError: As of `read`.
    """
    return _opened(Path(path), _shapes)


def _opened(path: Path, read: Callable[[Path, str], T]) -> T:
    """What `read` makes of a file; whatever is wrong with it is one line."""
    ending = path.suffix.lower()
    if not path.is_file():
        raise CheckpointError(f"{path}: " + ("is not a file" if path.exists() else "there is no such file"))
    if ending not in _READERS:
        raise CheckpointError(f"{path}: a trained file ends in {', '.join(_READERS)}")
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: the file is empty; fetch it again")
    try:
        return read(path, ending)
    except MelanomaZooError:
        raise
    except PermissionError as error:
        raise CheckpointError(f"{path}: may not be read; change its permissions") from error
    except Exception as error:  # the parsers fail in their own ways, and a broken file may fail anywhere
        raise CheckpointError(
            f"{path}: damaged, cut short, or not the kind of file that its name says; fetch it again"
        ) from error


def _shapes(path: Path, ending: str) -> dict[str, tuple[int, ...]]:
    if ending == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        return _without_prefix(found)
    # Archives of today's torch can be mapped into memory, so that values stay on the disk.
    read = _mapped if zipfile.is_zipfile(path) else _READERS[ending]
    return {key: tuple(value.shape) for key, value in _state_dict(read(path), path).items()}


def _read_torch(path: Path) -> Any:
    # torch.load does not compare the checksums that its archives carry.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)
    return _unpickled(path)


def _mapped(path: Path) -> Any:
    return _unpickled(path, mmap=True)


def _unpickled(path: Path, mmap: bool = False) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # on kinds of files and tensors refused just below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError) as error:
        # Instructions below 128 are letters: the file is no pickle but a text.
        if code := re.search(r"GLOBAL (\S+)|(TorchScript)|Unsupported (operand (?:1[3-9]|2)\d)", str(error)):
            named = next(filter(None, code.groups())).replace("operand", "pickle instruction")
            raise CheckpointError(
                f"{path}: needs code to be read ({named}), which is never run; "
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
    return _without_prefix(found)


def _without_prefix(found: Mapping[str, T]) -> dict[str, T]:
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


def _checked(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    tensor = tensor.to(dtype)
    if tensor.is_floating_point() and not (finite := tensor.isfinite()).all():
        count = int((~finite).sum())
        raise CheckpointError(
            f"{where}: {count} of {tensor.numel()} values are NaN or infinite as {dtype}; "
            "the training diverged or the file is damaged"
        )
    return tensor
