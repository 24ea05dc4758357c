"""Forward passes over many views: batches filled across images, halved where memory ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from evaluate.images import Pixels
from evaluate.preprocess import normalise
from evaluate.views import Floats, transform
from zoo.card import Member
from zoo.engines import Library, prepare
from zoo.errors import MachineError
from zoo.runtime import Precision, arithmetic, out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

_Batch = tuple[Sequence[tuple["Tensor", str]], "Tensor | None"]

CPU_PIXELS: dict[Library, int] = {"torch": 2 * 384**2, "onnxruntime": 384**2, "openvino": 384**2}
"""Pixels of a batch on a CPU: larger ones leave its caches, take memory and are not faster."""

MOST_STREAMS = 8
"""Batches that run at once on a CPU, at most: each takes memory, and more are seldom faster."""

CUDA_MOST = 256
"""The largest batch that is tried on a GPU; larger ones are not faster."""

_CUDA_SHARE = 0.8


class Forward:
    """A network on a device, ready to run.

    On a CPU several batches run at once, each on its share of the cores: cores that share one operation
    wait for each other at its end, and a network has hundreds of small ones.

    Args:
        network: In eval mode, on the CPU.
        member: Its card's entry.
        device: Where it runs.
        precision: What it computes in.
        batch_size: Views at a time; chosen by device and memory where None.
        engine: What runs it.

    Attributes:
        batch_size: What is in use; smaller than what was asked for where memory did not suffice.
        streams: Batches that run at once.
    """

    def __init__(
        self,
        network: nn.Module,
        member: Member,
        *,
        device: Literal["cpu", "cuda"],
        precision: Precision,
        batch_size: int | None,
        engine: Library = "torch",
    ) -> None:
        import torch

        self.member = member
        self.device = device
        self.precision = precision
        self.streams = 1 if device == "cuda" else min(torch.get_num_threads(), MOST_STREAMS)
        threads = max(1, torch.get_num_threads() // self.streams)
        self._pool = ThreadPoolExecutor(
            self.streams, "forward", initializer=torch.set_num_threads, initargs=(threads,)
        )
        try:
            self.network = prepare(network, member, engine, precision, device, self.streams)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise self._too_large() from error
        self.batch_size = batch_size or self._automatic(engine)

    def __call__(
        self,
        images: Sequence[Pixels],
        views: Sequence[str],
        features: npt.NDArray[np.float32] | None = None,
    ) -> list[Floats]:
        """Logits of all views of some images.

        Args:
            images: Pixels of each, (crops, side, side, 3).
            views: Symmetries of each crop.
            features: Metadata, (images, features), for a network that reads them.

        Returns:
            For each image, (crops × views, classes), crops outermost.

        Raises:
            MachineError: Memory does not suffice for a single view.
        """
        import torch

        counts = [len(crops) * len(views) for crops in images]
        crops = [self._moved(torch.from_numpy(each)) for each in images]
        squares = [(crop, view) for each in crops for crop in each for view in views]
        metadata = None
        if features is not None:
            metadata = self._moved(torch.from_numpy(np.repeat(features, counts, axis=0)))
        parts = [slice(at, at + self.batch_size) for at in range(0, len(squares), self.batch_size)]
        batches = [(squares[part], None if metadata is None else metadata[part]) for part in parts]
        with arithmetic(self.device, self.precision):
            outputs = list(self._pool.map(self._in_thread, batches))
        logits: Floats = torch.cat(outputs).cpu().numpy().astype(np.float64)
        return np.split(logits, np.cumsum(counts)[:-1])

    def _in_thread(self, batch: _Batch) -> Tensor:
        # A thread has its own mode, and its own precision.
        with arithmetic(self.device, self.precision):
            return self._logits_of(*batch)

    def _logits_of(self, squares: Sequence[tuple[Tensor, str]], metadata: Tensor | None) -> Tensor:
        """Logits of a batch, in halves where memory does not suffice for it."""
        import torch

        output = self._attempt(squares, metadata)
        if output is not None:
            return output
        if len(squares) == 1:
            raise self._too_large()
        half = len(squares) // 2
        self.batch_size = min(self.batch_size, half)
        if self.device == "cuda":
            torch.cuda.empty_cache()
        first, second = (None, None) if metadata is None else (metadata[:half], metadata[half:])
        return torch.cat([self._logits_of(squares[:half], first), self._logits_of(squares[half:], second)])

    def _attempt(self, squares: Sequence[tuple[Tensor, str]], metadata: Tensor | None) -> Tensor | None:
        """Logits in fp32; None where memory ended. The failed pass is freed when this returns."""
        try:
            return self._logits(squares, metadata)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _logits(self, squares: Sequence[tuple[Tensor, str]], metadata: Tensor | None) -> Tensor:
        import torch

        pixels = torch.stack([transform(square, view) for square, view in squares])
        image = normalise(pixels, self.member.preprocess)
        output: Tensor = self.network(image) if metadata is None else self.network(image, metadata)
        return output.float()

    def _too_large(self) -> MachineError:
        return MachineError(
            f"{self.member.name}: memory does not suffice for one image of {self.member.size} px on "
            f"{self.device}; free some, choose another device, or leave this member out (--members)"
        )

    def _moved(self, tensor: Tensor) -> Tensor:
        """On the device; without waiting for the copy where there is a GPU."""
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device == "cuda" else tensor

    def _automatic(self, engine: Library) -> int:
        """A power of two, the same at every run on a machine."""
        if self.device == "cpu":
            return _power_of_two(CPU_PIXELS[engine] / self.member.size**2)
        import torch

        peaks = {}
        blank = torch.zeros(self.member.size, self.member.size, 3, dtype=torch.uint8, device=self.device)
        for size in (2, 4):
            metadata = None
            if self.member.metadata:
                metadata = torch.zeros(size, self.member.metadata.features, device=self.device)
            torch.cuda.reset_peak_memory_stats()
            with arithmetic(self.device, self.precision):
                if self._attempt([(blank, "identity")] * size, metadata) is None:
                    return 1
            peaks[size] = torch.cuda.max_memory_allocated()
        total = torch.cuda.get_device_properties(0).total_memory
        return largest_batch(peaks, _CUDA_SHARE * total)


def largest_batch(peaks: dict[int, int], limit: float) -> int:
    """The largest power of two, up to `CUDA_MOST`, that memory allows.

    Args:
        peaks: Peak memory in bytes at two batch sizes; it grows in proportion from there.
        limit: Bytes that may be used.

    >>> largest_batch({2: 120, 4: 140}, 400)
    16
    """
    (small, least), (large, most) = sorted(peaks.items())
    each = max((most - least) / (large - small), 1)
    return _power_of_two(min((limit - least) / each + small, CUDA_MOST))


def _power_of_two(most: float) -> int:
    return 1 << math.floor(math.log2(max(most, 1)))
