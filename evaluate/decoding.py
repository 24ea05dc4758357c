"""Decoding in the background: each image once, for all networks that need its pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256

from evaluate.images import Pixels, decode, read
from evaluate.preprocess import Geometry, shape
from evaluate.testimages import TestImage
from zoo.errors import InputError

Decoded = dict[Geometry, Pixels]
"""An image's pixels in each geometry that was asked for."""

Wanted = Mapping[int, tuple[TestImage, Collection[Geometry]]]
"""Images by their index, and what each of them becomes."""

Wait = Callable[[int], Decoded]
"""Waits for the pixels of an image, by its index."""


@contextmanager
def decoding(workers: int) -> Iterator[Callable[[Wanted], Wait]]:
    """Threads of its own that decode images in the order in which they were asked for, and stop with the block.

    OpenCV and Pillow let other threads run while they work, so compute goes on beside them. An image that
    is no longer what was checked is an error: its result would be kept under the checksum of another.

    Args:
        workers: Number of threads.

    Yields:
        What starts decoding some images, and returns what waits for each of them. Pixels are in memory
        until that is dropped.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def start(wanted: Wanted) -> Wait:
        futures = {
            index: pool.submit(_decoded, image, geometries) for index, (image, geometries) in wanted.items()
        }
        return lambda index: futures[index].result()

    try:
        yield start
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(image: TestImage, geometries: Collection[Geometry]) -> Decoded:
    data = read(image.path)
    if sha256(data).hexdigest() != image.sha256:
        raise InputError(f"{image.path}: has changed since it was checked; run again")
    pixels = decode(image.path, data)
    return {geometry: shape(pixels, geometry) for geometry in geometries}
