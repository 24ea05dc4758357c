"""Copies to a device and back that nothing waits for.

On a GPU they go through pinned memory: those to it on a stream of their own, beside the passes that are
under way, and those from it behind the passes that make them. On a CPU there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """That of all copies to a device: memory of one stream is not given to copies on another."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Transfers:
    """Copies between the host and one device.

    Args:
        device: Where the other end is.
    """

    def __init__(self, device: Literal["cpu", "cuda"]) -> None:
        self._stream = _stream(torch.cuda.current_device()) if device == "cuda" else None

    def there(self, arrays: Sequence[npt.NDArray[Any]]) -> list[Tensor]:
        """The rows of some arrays, one after another, on the device.

        Args:
            arrays: Each (rows, ...); they may differ in their number of rows.
        """
        if self._stream is None:
            return [row for array in arrays for row in torch.from_numpy(array)]
        rows = sum(map(len, arrays))
        pinned = torch.empty(
            (rows, *arrays[0].shape[1:]), dtype=torch.from_numpy(arrays[0]).dtype, pin_memory=True
        )
        np.concatenate(arrays, out=pinned.numpy())
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._stream):
            moved = pinned.to("cuda", non_blocking=True)
        computing.wait_stream(self._stream)
        # Its memory may be given to another copy when what computes with it is through, not before.
        moved.record_stream(computing)
        return list(moved)

    def back(self, tensor: Tensor) -> Callable[[], npt.NDArray[Any]]:
        """Begins to copy a tensor to the host; what is returned waits for its numbers."""
        if self._stream is None:
            return tensor.numpy
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> npt.NDArray[Any]:
            done.synchronize()
            return host.numpy()

        return wait
