"""Trained files: found by a card, read safely, checked against a network, and put into it.

    system = zoo.card("sge_b3")
    files = weights.find(system, Path("weights"))
    system = weights.settled(system, files)
    network = weights.load(zoo.build("sge_b3"), files[0].path)

`docs/weights.md` tells of layouts, safety, settling, copies and checksums.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from weights.layouts import official_keys

if TYPE_CHECKING:
    from weights.checkpoint import check, load
    from weights.checksums import manifest, pin, verify
    from weights.converting import convert
    from weights.files import WeightFile, available, find
    from weights.settling import settle, settled

# What is imported with its first use: `import weights` must stay quick, and some of it needs torch.
_HOMES = {
    "WeightFile": "files",
    "available": "files",
    "check": "checkpoint",
    "convert": "converting",
    "find": "files",
    "load": "checkpoint",
    "manifest": "checksums",
    "pin": "checksums",
    "settle": "settling",
    "settled": "settling",
    "verify": "checksums",
}

__all__ = [
    "WeightFile",
    "available",
    "check",
    "convert",
    "find",
    "load",
    "manifest",
    "official_keys",
    "pin",
    "settle",
    "settled",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"weights.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
