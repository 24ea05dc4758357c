"""Images of a test set, hundreds of thousands of them in little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from operator import index
from pathlib import Path
from typing import overload

import msgspec

from zoo.urls import place


class TestImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image of a test set.

    Attributes:
        id: As the table has it; the file's name without ending where there is no table.
        path: The file.
        sha256: Its checksum.
        size: Its bytes.
    """

    __test__ = False  # pytest takes the name for a test.

    id: str
    path: Path
    sha256: str
    size: int


class Images(Sequence[TestImage]):
    """Images in about 150 bytes each, made when they are asked for; an object that stays takes five times as much.

    Args:
        images: They are taken one after another.
    """

    def __init__(self, images: Iterable[TestImage] = ()) -> None:
        self._ids, self._paths = _Texts(), _Texts()
        self._digests, self._sizes = bytearray(), array("Q")
        for image in images:
            self.append(image)

    def append(self, image: TestImage) -> None:
        """One more image."""
        self._ids.append(image.id)
        self._paths.append(str(image.path))
        self._digests += bytes.fromhex(image.sha256)
        self._sizes.append(image.size)

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, at: int) -> TestImage: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[TestImage, ...]: ...

    def __getitem__(self, at: int | slice) -> TestImage | tuple[TestImage, ...]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(len(self))))
        at = range(len(self))[index(at)]
        digest = self._digests[32 * at : 32 * at + 32]
        return TestImage(
            id=self._ids[at], path=place(self._paths[at]), sha256=digest.hex(), size=self._sizes[at]
        )


class _Texts:
    """Strings, one after another in one piece of memory."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q", [0])

    def append(self, text: str) -> None:
        # A file's name may hold bytes that are no text.
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __getitem__(self, at: int) -> str:
        return self._bytes[self._ends[at] : self._ends[at + 1]].decode("utf-8", "surrogatepass")
