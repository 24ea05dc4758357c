"""Trained files: read safely, checked against a network, and put into it.

network = weights.load(zoo.build("sge_b3"), "9c_SGE-b3_384_384_35ep_best_fold0.pth")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weights.layouts import official_keys

if TYPE_CHECKING:
    from weights.checkpoint import load

__all__ = ["load", "official_keys"]


def __getattr__(name: str) -> Any:
    # With the first use, not before: it imports torch, and `import weights` must stay quick.
    if name == "load":
        from weights.checkpoint import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
