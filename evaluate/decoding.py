"""Decoding in the background: each image once, for all networks that need its pixels."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from evaluate.images import Pixels, decode
from evaluate.preprocess import Geometry, shape

Decoded = dict[Geometry, Pixels]
"""An image's pixels in each geometry that was asked for."""


@contextmanager
def decoding(
    files: Sequence[Path], geometries: Sequence[Collection[Geometry]], workers: int
) -> Iterator[Callable[[int], Decoded]]:
    """Starts decoding images in order, on threads of its own, and stops with the block.

    OpenCV and Pillow let other threads run while they work, so compute goes on beside them.

    Args:
        files: The images.
        geometries: What each of them becomes; nothing is decoded where that is empty.
        workers: Number of threads.

    Yields:
        What waits for the pixels of an image, by its index.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        futures: list[Future[Decoded]] = [
            pool.submit(_decoded, file, wanted) for file, wanted in zip(files, geometries, strict=True)
        ]
        yield lambda index: futures[index].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decoded(file: Path, geometries: Collection[Geometry]) -> Decoded:
    if not geometries:
        return {}
    image = decode(file)
    return {geometry: shape(image, geometry) for geometry in geometries}
