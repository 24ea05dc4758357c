"""Forward passes over many views: batches filled across images, halved where memory ends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

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

    from zoo.export import Kept

_View = tuple["Tensor", str, "Tensor | None"]
"""A square of 8-bit pixels, the symmetry of it that is meant, and the image's metadata where some are read."""

Logits = Callable[[], list[Floats]]
"""Waits for the logits of some images: for each of them (crops × views, classes), crops outermost."""

CPU_PIXELS: dict[Library, int] = {"torch": 2 * 384**2, "onnxruntime": 384**2, "openvino": 384**2}
"""Pixels of a batch on a CPU: larger ones leave its caches, take memory and are not faster."""

MOST_STREAMS = 8
"""Batches that run at once on a CPU, at most: each takes memory, and more are seldom faster."""

CUDA_MOST = 256
"""The largest batch that is tried on a GPU; larger ones are not faster."""

ONE_SHAPE: dict[Literal["cpu", "cuda"], bool] = {"cpu": False, "cuda": True}
"""Whether every batch is filled up to the same size. A GPU has other kernels for other sizes, which round
differently: results would tell what else was left to compute. On a CPU it would cost passes."""

_CUDA_SHARE = 0.8


class _TooLargeError(MachineError):
    """Memory does not suffice for what cannot be done in smaller parts."""


class Forward:
    """A network on a device, ready to run.

    On a CPU several batches run at once, each on its share of the cores: cores that share one operation
    wait for each other at its end, and a network has hundreds of small ones. On a GPU the host begins one
    batch after another and waits for none; it is to be called by the same thread always.

    Args:
        network: In eval mode, on the CPU; or what is kept of it.
        member: Its card's entry.
        device: Where it runs.
        precision: What it computes in.
        batch_size: Views at a time; chosen by device and memory where None.
        most: Views that it is given at a time, at most; a batch is no larger.
        engine: What runs it.
        compiled: Run it under `torch.compile`. Every batch is then filled up to the same size, as on a GPU.

    Attributes:
        batch_size: What is in use; smaller than what was asked for where memory did not suffice.
        streams: Batches that run at once; one where memory did not suffice for a view in each.
    """

    def __init__(
        self,
        network: nn.Module | Kept,
        member: Member,
        *,
        device: Literal["cpu", "cuda"],
        precision: Precision,
        batch_size: int | None,
        most: int | None = None,
        engine: Library = "torch",
        compiled: bool = False,
    ) -> None:
        import torch

        from evaluate.transfers import Transfers

        self.member = member
        self.device = device
        self.precision = precision
        self.streams = 1 if device == "cuda" else min(torch.get_num_threads(), MOST_STREAMS)
        threads = max(1, torch.get_num_threads() // self.streams)
        self._pool = ThreadPoolExecutor(
            self.streams, "forward", initializer=torch.set_num_threads, initargs=(threads,)
        )
        self._transfers = Transfers(device)
        self._full = self._compiled = False
        if device == "cpu":
            batch_size = batch_size or self._automatic(engine)
        usual = batch_size if most is None or batch_size is None else min(batch_size, most)
        try:
            self.network = prepare(network, member, engine, precision, device, self.streams, usual)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise self._too_large() from error
        self.batch_size = usual or self._automatic(engine)
        if most is not None:
            # Whatever is filled up is so to this.
            self.batch_size = min(self.batch_size, most)
        # Other sizes than this one are never seen by what compiles.
        self._full = compiled or ONE_SHAPE[device]
        self._compiled = compiled
        if compiled:
            from zoo.compiling import Compiled

            self.network = Compiled(self.network, device, member.name)

    def __call__(
        self,
        images: Sequence[Pixels],
        views: Sequence[str],
        features: npt.NDArray[np.float32] | None = None,
    ) -> list[Floats]:
        """Logits of all views of some images; as `start`, and waits for them."""
        return self.start(images, views, features)()

    def start(
        self,
        images: Sequence[Pixels],
        views: Sequence[str],
        features: npt.NDArray[np.float32] | None = None,
    ) -> Logits:
        """Begins to compute logits of all views of some images; on a CPU that is all of the work.

        Args:
            images: Pixels of each, (crops, side, side, 3).
            views: Symmetries of each crop.
            features: Metadata, (images, features), for a network that reads them.

        Returns:
            What waits for them. It keeps nothing of the network in memory.

        Raises:
            MachineError: Memory does not suffice for a single view.
        """
        try:
            return self._started(images, views, features)
        except (RuntimeError, MemoryError) as error:
            # What is copied and put together has no room: smaller batches would not help.
            if not out_of_memory(error):
                raise
            raise self._too_large(len(images)) from error

    def _started(
        self, images: Sequence[Pixels], views: Sequence[str], features: npt.NDArray[np.float32] | None
    ) -> Logits:
        import torch

        counts = [len(crops) * len(views) for crops in images]
        squares = [(crop, view) for crop in self._transfers.there(images) for view in views]
        rows: Sequence[Tensor | None] = [None] * len(squares)
        if features is not None:
            rows = self._transfers.there([np.repeat(features, counts, axis=0)])
        wanted = [(*square, row) for square, row in zip(squares, rows, strict=True)]
        with arithmetic(self.device, self.precision), self._unwarned():
            outputs = self._outputs(self._cut(wanted))
            wait = self._transfers.back(torch.cat(outputs))
        return lambda: np.split(wait().astype(np.float64), np.cumsum(counts)[:-1])

    def _unwarned(self) -> AbstractContextManager[Any]:
        """Without the warnings of a compiler, which say nothing of the network.

        What is caught is of the whole process, and so by the thread that waits for the others.
        """
        return warnings.catch_warnings(action="ignore") if self._compiled else nullcontext()

    def _cut(self, wanted: Sequence[_View]) -> list[Sequence[_View]]:
        """Batches of the size that is in use."""
        size = self.batch_size
        return [wanted[at : at + size] for at in range(0, len(wanted), size)]

    def _outputs(self, batches: Sequence[Sequence[_View]]) -> list[Tensor]:
        if self.streams == 1:
            return [self._logits_of(batch) for batch in batches]
        outputs = list(self._pool.map(self._in_thread, batches))
        if any(output is None for output in outputs):
            # A view alone has the memory that all of them had; those to come would end there too.
            self.streams = 1
        return [
            self._logits_of(batch) if output is None else output
            for batch, output in zip(batches, outputs, strict=True)
        ]

    def _in_thread(self, batch: Sequence[_View]) -> Tensor | None:
        """Logits of a batch; None where memory did not suffice for it beside other batches."""
        # A thread has its own mode, and its own precision.
        with arithmetic(self.device, self.precision):
            try:
                return self._logits_of(batch)
            except _TooLargeError:
                return None

    def _logits_of(self, batch: Sequence[_View]) -> Tensor:
        """Logits of a batch, in smaller ones where memory does not suffice for it."""
        import torch

        if len(batch) > self.batch_size:
            return torch.cat([self._logits_of(part) for part in self._cut(batch)])
        output = self._attempt(batch)
        if output is None and self._compiled:
            if self.streams > 1:  # Alone it may have room, without being compiled anew for a smaller batch.
                raise self._too_large()
            from zoo.compiling import forget

            if forget():
                output = self._attempt(batch)
        if output is not None:
            return output
        tried = max(len(batch), self.batch_size) if self._full else len(batch)
        if tried == 1:
            raise self._too_large()
        self.batch_size = min(self.batch_size, tried // 2)
        if self.device == "cuda":
            torch.cuda.empty_cache()
        return self._logits_of(batch)

    def _attempt(self, batch: Sequence[_View]) -> Tensor | None:
        """Logits in fp32; None where memory ended. The failed pass is freed when this returns."""
        try:
            return self._logits(batch)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _logits(self, batch: Sequence[_View]) -> Tensor:
        import torch

        missing = max(0, self.batch_size - len(batch)) if self._full else 0
        squares, views, rows = zip(*batch, *[batch[-1]] * missing, strict=True)
        pixels = torch.stack([transform(square, view) for square, view in zip(squares, views, strict=True)])
        image = normalise(pixels, self.member.preprocess)
        output: Tensor = self.network(image) if rows[0] is None else self.network(image, torch.stack(rows))
        return output[: len(batch)].float()

    def _too_large(self, images: int = 1) -> _TooLargeError:
        several = f"{images} images" if images > 1 else "one image"
        return _TooLargeError(
            f"{self.member.name}: memory does not suffice for {several} of {self.member.size} px on "
            f"{self.device}; free some, choose another device, or leave this member out (--members)"
        )

    def _automatic(self, engine: Library) -> int:
        """A power of two, the same at every run on a machine."""
        if self.device == "cpu":
            return _power_of_two(CPU_PIXELS[engine] / self.member.size**2)
        import torch

        peaks = {}
        blank = torch.zeros(self.member.size, self.member.size, 3, dtype=torch.uint8, device=self.device)
        row = None
        if self.member.metadata:
            row = torch.zeros(self.member.metadata.features, device=self.device)
        for size in (2, 4):
            torch.cuda.reset_peak_memory_stats()
            with arithmetic(self.device, self.precision):
                if self._attempt([(blank, "identity", row)] * size) is None:
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
