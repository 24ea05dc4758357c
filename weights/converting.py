"""Converting: a trained file of any layout as safetensors under our keys."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from weights import copies
from weights.checkpoint import load, shapes
from weights.copies import Origin
from weights.files import WeightFile
from weights.layouts import detect
from weights.naming import Slot, file_name
from zoo import registry
from zoo.card import System
from zoo.errors import CheckpointError, UsageError
from zoo.files import replacing, sha256


def convert(
    system: System, file: WeightFile, output: Path, *, layout: str | None = None, force: bool = False
) -> Path:
    """Writes a trained file as safetensors: our keys, the network's types, and where it comes from.

    What was written is read again and compared before it takes its place. The same file gives
    the same bytes on any machine.

    Args:
        system: The card.
        file: The trained file.
        output: The folder to write to; the copy's name is the card's with another ending.
        layout: Name of the file's key mapping; told from its keys where None.
        force: Replace a file that is there and differs.

    Returns:
        The path of the copy.

    Raises:
        CheckpointError: The file cannot be read or does not fit the member, or the copy is not what was read.
        UsageError: Another file is in its place.
        MachineError: It cannot be written.
    """
    target = output / PurePosixPath(file_name(system, Slot(file.member, file.fold, file.stage))).with_suffix(
        copies.ENDING
    )
    with torch.device("meta"):
        network = registry.build(system.name, file.member)
    before = sha256(file.path)
    tensors = {
        key: value.clone(memory_format=torch.contiguous_format)
        for key, value in load(network, file.path, layout).state_dict().items()
    }
    made_from = Origin(
        card=system.name,
        member=file.member,
        fold=file.fold,
        stage=file.stage,
        source=file.path.name,
        source_sha256=before,
        source_layout=layout or detect(network, shapes(file.path)),
    )
    if target.exists():
        if _same(target, tensors, made_from):
            return target
        if target.samefile(file.path):
            raise UsageError(
                f"{target}: a copy would replace the file that it is made from; choose another folder"
            )
        if not force:
            raise UsageError(
                f"{target}: there is another file of that name; choose another folder, or use --force"
            )
    with replacing(target) as temporary:
        copies.write(temporary, tensors, made_from)
        if not _same(temporary, tensors, made_from) or sha256(file.path) != before:
            raise CheckpointError(
                f"{file.path}: the file changed while it was read, or its copy did not come back as written"
            )
    return target


def _same(path: Path, tensors: dict[str, Tensor], made_from: Origin) -> bool:
    """Whether a file is the copy that would be written, by whatever version of this tool."""
    from msgspec.structs import replace
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    said = copies.origin(path)
    if said is None or replace(said, tool="") != replace(made_from, tool=""):
        return False
    try:
        found = load_file(path)
    except (SafetensorError, OSError):
        return False
    return found.keys() == tensors.keys() and all(
        found[key].dtype == value.dtype and torch.equal(found[key], value) for key, value in tensors.items()
    )
