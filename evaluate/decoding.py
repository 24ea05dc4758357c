"""Decoding in the background: each image once, for all networks that need its pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256

from evaluate.images import Pixels, decode, read
from evaluate.preprocess import Geometry, shape
from evaluate.testset import TestImage
from zoo.errors import InputError

Decoded = dict[Geometry, Pixels]
"""An image's pixels in each geometry that was asked for."""


@contextmanager
def decoding(
    images: Sequence[TestImage], geometries: Sequence[Collection[Geometry]], workers: int
) -> Iterator[Callable[[int], Decoded]]:
    """Starts decoding images in order, on threads of its own, and stops with the block.

    OpenCV and Pillow let other threads run while they work, so compute goes on beside them.

    Args:
        images: The images. One that is no longer what was checked ends the run: its result would be kept
            under the checksum of another.
        geometries: What each of them becomes; nothing is decoded where that is empty.
        workers: Number of threads.

    Yields:
        What waits for the pixels of an image, by its index.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        futures: list[Future[Decoded]] = [
            pool.submit(_decoded, image, wanted) for image, wanted in zip(images, geometries, strict=True)
        ]
        yield lambda index: futures[index].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(image: TestImage, geometries: Collection[Geometry]) -> Decoded:
    if not geometries:
        return {}
    data = read(image.path)
    if sha256(data).hexdigest() != image.sha256:
        raise InputError(f"{image.path}: has changed since it was checked; run again")
    pixels = decode(image.path, data)
    return {geometry: shape(pixels, geometry) for geometry in geometries}
