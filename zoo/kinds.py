"""Kinds of networks: what a card's `network` stands for, in one place."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import CardError
from zoo.files import sha256 as digest_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.card import Member

_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]\x01|[\x00-\x7f])")


def make(member: Member) -> nn.Module:
    """The network of a member that is not of the standard assembly, with random weights or its file's.

    Raises:
        CardError: It cannot be made as the card says.
        MachineError: The extra that it needs is not installed.
    """
    if member.network in _KINDS:
        return _KINDS[member.network](member)
    build = imported(member)
    try:
        network = build(member)
    except CardError:
        raise
    except Exception as error:  # The code is somebody else's.
        raise CardError(
            f"{member.name}: its builder {member.network} failed with {_said(error)}; mend the builder"
        ) from error
    from torch import nn

    if not isinstance(network, nn.Module):
        raise CardError(
            f"{member.name}: its builder {member.network} returned {type(network).__name__}; "
            "it must return a torch.nn.Module"
        )
    return network


def imported(member: Member) -> Callable[[Member], Any]:
    """The builder that a card names.

    Raises:
        CardError: It cannot be imported.
    """
    module, _, function = member.network.partition(":")
    try:
        build = getattr(import_module(module), function)
    except Exception as error:  # The code is somebody else's.
        raise CardError(
            f"{member.name}: its builder {member.network} cannot be imported: {_said(error)}"
        ) from error
    if not callable(build):
        raise CardError(f"{member.name}: {member.network} is no function; name one that takes the member")
    return build  # type: ignore[no-any-return]


def origin(member: Member) -> str:
    """A digest of what makes a member's network beside its card: its files, or its builder's code.

    Empty for networks that this package makes.
    """
    if member.complete:
        path = Path(member.file)
        try:
            digests = [digest_of(each) for each in (path, *_weights_of(path, member.network))]
            return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
        except OSError:
            return "missing"
    if member.network in ("assembled", "timm"):
        return ""
    return _code(member.network.partition(":")[0].partition(".")[0])


def _weights_of(path: Path, network: str) -> list[Path]:
    """Files beside an ONNX file that hold its weights, as far as they are there.

    A tensor that lies elsewhere has an entry `location`: two strings of protobuf, each after its length.
    """
    if network != "onnx" or not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        found = set()
        for entry in _LOCATION.finditer(content):
            length = entry[1][0] & 127 | (len(entry[1]) - 1) << 7
            found.add(path.parent / os.fsdecode(content[entry.end() : entry.end() + length]))
    return sorted(each for each in found if "\0" not in str(each) and each.is_file())


def required_file(member: Member) -> Path:
    """The file that holds a member's network.

    Raises:
        CardError: It is not there.
    """
    path = Path(member.file)
    if not path.is_file():
        raise CardError(
            f"{member.name}: {path}: " + ("is not a file" if path.exists() else "there is no such file")
        )
    return path


def _timm(member: Member) -> nn.Module:
    import timm

    from zoo.networks import known_backbone

    known_backbone(member)
    config = timm.get_pretrained_cfg(member.backbone)
    fixed = {"img_size": member.size} if config is not None and config.fixed_input_size else {}
    try:
        network: nn.Module = timm.create_model(
            member.backbone, pretrained=False, num_classes=len(member.classes), **fixed, **member.options
        )
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CardError(
            f"{member.name}: timm cannot make {member.backbone} so: {_said(error)}; see the card's size and options"
        ) from error
    return network


def _torch(member: Member) -> nn.Module:
    from zoo.exported import Exported

    return Exported(required_file(member), probabilities=_probabilities(member))


def _onnx(member: Member) -> nn.Module:
    from zoo.onnx_file import OnnxNetwork

    return OnnxNetwork(required_file(member), probabilities=_probabilities(member))


_KINDS: dict[str, Callable[[Member], nn.Module]] = {"timm": _timm, "torch": _torch, "onnx": _onnx}


def _probabilities(member: Member) -> bool:
    outputs = member.options.get("outputs", "logits")
    if outputs not in ("logits", "probabilities"):
        raise CardError(f"{member.name}: options.outputs is {outputs!r}; it is logits or probabilities")
    return outputs == "probabilities"


@cache
def _code(module: str) -> str:
    """Digest of all Python files of a module or package, read without importing it."""
    found = sys.modules.get(module)
    spec = found.__spec__ if found is not None else find_spec(module)
    if spec is None or spec.origin is None:
        return "missing"
    folders = spec.submodule_search_locations
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.py")) if folders else [Path(spec.origin)]  # fmt: skip
    whole = sha256()
    for path in files:
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
