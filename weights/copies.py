"""Our own copies of trained files: safetensors under our keys that say what they were made from.

The same tensors and the same origin give the same bytes, on any machine.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zoo import __version__

if TYPE_CHECKING:
    from torch import Tensor

ENDING = ".safetensors"
"""How their names end."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy was made from.

    Attributes:
        card: Name of the system.
        member: Name of the member.
        fold: The fold.
        stage: The card's stage; empty where the card has none.
        source: Name of the original file.
        source_sha256: Its SHA-256.
        source_layout: Name of its key mapping.
        layout: Name of the copy's own key mapping.
        tool: What wrote it.
    """

    card: str
    member: str
    fold: int
    stage: str
    source: str
    source_sha256: str
    source_layout: str
    layout: str = "ours"
    tool: str = f"melanoma-zoo {__version__}"


def origin(path: Path) -> Origin | None:
    """What a file of safetensors says of itself; None where it is not a copy of ours, or is broken."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            said = file.metadata()
    except (SafetensorError, OSError):
        return None
    try:
        return msgspec.convert(said, Origin, strict=False)
    except msgspec.ValidationError:
        return None


def write(path: Path, tensors: dict[str, Tensor], made_from: Origin) -> None:
    """Writes a copy.

    The library writes metadata in an order that changes from run to run; here it is sorted.
    """
    from safetensors.torch import save

    content = memoryview(save(tensors))
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(bytes(content[8 : 8 + length]))
    said = {key: str(value) for key, value in sorted(msgspec.to_builtins(made_from).items())}
    text = json.dumps({"__metadata__": said, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    with path.open("wb") as file:
        file.writelines((struct.pack("<Q", len(text)), text, content[8 + length :]))
