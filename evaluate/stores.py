"""Where results are kept: the user's cache folder, another folder, or any URL that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from zoo import cache
from zoo.errors import MachineError
from zoo.files import write
from zoo.urls import file_system, is_url, reason


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A place for results by name. It is a plain value: any process can be handed it.

    Attributes:
        location: A folder, or a URL such as `s3://bucket/folder`; the user's cache folder where empty.
    """

    location: str = ""

    @property
    def remote(self) -> bool:
        """Whether it is a URL: the same place from every machine."""
        return is_url(self.location)

    def here(self) -> Store:
        """The same place by its full name, for processes that have another environment."""
        return self if self.remote else Store(location=str(self._folder.absolute()))

    def read(self, name: str) -> bytes | None:
        """What is kept under a name; None where there is nothing.

        Raises:
            MachineError: A URL cannot be reached.
        """
        if not self.remote:
            try:
                return (self._folder / f"{name}.json").read_bytes()
            except OSError:
                return None
        try:
            content: bytes = self._files.cat_file(self._url(name))
        except FileNotFoundError:
            return None
        except Exception as error:  # Packages have errors of their own: no credentials, no such host.
            raise self._unreachable(error) from error
        return content

    def write(self, name: str, content: bytes) -> bool:
        """Keeps something under a name, whole or not at all; whether it could be done.

        A folder that cannot be written costs one line on the log.

        Raises:
            MachineError: A URL cannot be written to.
        """
        if not self.remote:
            try:
                write(self._folder / f"{name}.json", content)
            except MachineError:
                if self.location:
                    cache.warn_unwritable(self._folder, "with --results")
                else:
                    cache.warn_unwritable()
                return False
            return True
        try:
            # An object store shows an object when all of it is there.
            self._files.pipe_file(self._url(name), content)
        except Exception as error:  # Packages have errors of their own: no credentials, no such host.
            raise self._unreachable(error) from error
        return True

    @property
    def _folder(self) -> Path:
        return Path(self.location) if self.location else cache.folder()

    @property
    def _files(self) -> Any:
        return file_system(self.location)

    def _url(self, name: str) -> str:
        return f"{self.location.rstrip('/')}/{name}.json"

    def _unreachable(self, error: Exception) -> MachineError:
        return MachineError(f"{self.location}: results cannot be kept there: {reason(error)}")
