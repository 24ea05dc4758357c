"""Bytes that a network's operators read and write in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.cells import Cell
from benchmarks.subject import member_of
from benchmarks.worker import imported

_HALF = 0.5
"""Half precision moves half the bytes of fp32."""


def traffic_bytes(cell: Cell, batch: int) -> int | None:
    """Bytes of all operands and results of the operators of one pass, weights included.

    Each operator is taken to read its operands from memory and to write its result there, as eager
    execution does where caches hold neither; views move nothing. Counted on the meta device: no
    memory, no arithmetic.

    Args:
        cell: Whose network.
        batch: Images in the pass.

    Returns:
        The bytes; None where the network cannot run on the meta device.
    """
    member = cell.members[0]
    try:
        with torch.device("meta"), torch.inference_mode():
            network = imported(cell.builder)(member_of(member, cell.builder)).eval()
            inputs = [torch.empty(batch, 3, member["size"], member["size"])]
            if member.get("metadata"):
                inputs.append(torch.empty(batch, member["metadata"]["features"]))
            with _Traffic() as traffic:
                network(*inputs)
    except Exception:  # The network may be somebody else's, and fails in its own way.
        return None
    half = cell.variant.precision in ("bf16", "fp16")
    return int(traffic.bytes * (_HALF if half else 1))


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += _bytes(tree_leaves((args, kwargs))) + _bytes(tree_leaves(out))
        return out


def _bytes(values: Iterable[Any]) -> int:
    return sum(each.numel() * each.element_size() for each in values if isinstance(each, torch.Tensor))
