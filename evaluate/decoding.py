"""Decoding in the background: each image once, for all networks that need its pixels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256

from evaluate.images import LARGEST, Pixels, decode, read
from evaluate.preprocess import Geometry, resized, shape
from evaluate.testimages import TestImage
from zoo.errors import InputError

Decoded = dict[Geometry, Pixels]
"""An image's pixels in each geometry that was asked for."""

Wanted = Mapping[int, tuple[TestImage, Collection[Geometry]]]
"""Images by their index, and what each of them becomes."""


class Decoding:
    """Images that are being decoded. Pixels are in memory until this is dropped.

    Args:
        futures: Each image's, by its index.
    """

    def __init__(self, futures: Mapping[int, Future[Decoded]]) -> None:
        self._futures = futures

    def __call__(self, index: int) -> Decoded:
        """Waits for the pixels of an image."""
        return self._futures[index].result()

    def cancel(self) -> None:
        """Leaves out what no thread has begun with."""
        for future in self._futures.values():
            future.cancel()


class Decoder:
    """Threads that decode images in the order in which they were asked for.

    OpenCV and Pillow let other threads run while they work, so compute goes on beside them. An image that
    is no longer what was checked is an error: its result would be kept under the checksum of another.

    Args:
        workers: Number of threads.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def start(self, wanted: Wanted) -> Decoding:
        """Starts to decode some images."""
        return Decoding(
            {
                index: self._pool.submit(_decoded, image, geometries)
                for index, (image, geometries) in wanted.items()
            }
        )

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _decoded(image: TestImage, geometries: Collection[Geometry]) -> Decoded:
    data = read(image.path)
    if sha256(data).hexdigest() != image.sha256:
        raise InputError(f"{image.path}: has changed since it was checked; run again")
    pixels = decode(image.path, data)
    for geometry in geometries:
        width, height = resized(pixels, geometry)
        # Of a line of pixels the short side is enlarged.
        if geometry.crops == 1 and width * height > LARGEST:
            raise InputError(
                f"{image.path}: {pixels.shape[1]} × {pixels.shape[0]} pixels would become {width} × {height}, more "
                f"than {LARGEST:,}; cut it to its lesion, or move it away"
            )
    return {geometry: shape(pixels, geometry) for geometry in geometries}
