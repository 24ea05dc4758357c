"""Places that are not folders of this machine: URLs, by way of fsspec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from zoo.errors import MachineError, UsageError

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def is_url(location: object) -> bool:
    """Whether a location is a URL, and not a path of this machine.

    >>> is_url("s3://bucket/images"), is_url("images"), is_url("C:/images")
    (True, False, False)
    """
    return "://" in str(location)


def place(location: Path | str) -> Path:
    """A folder or file by its path or URL. What is at a URL is read as a path is: `open`, `read_bytes`, `/`.

    Raises:
        MachineError: The package for the URL is not installed.
        UsageError: There is no such kind of URL.
    """
    if not is_url(location):
        return Path(location)
    file_system(str(location))
    try:
        from upath import UPath
    except ImportError as error:
        raise MachineError(
            f"{location}: the package universal_pathlib is not installed; pip install 'melanoma-zoo[s3]'"
        ) from error
    # It has the methods of a path, without being one: there is no such file on this machine.
    return cast(Path, UPath(str(location)))


def files(folder: Path) -> list[Path]:
    """All files in and below a URL, without hidden ones, by as few requests as listing takes.

    Raises:
        MachineError: It cannot be reached.
    """
    url = str(folder)
    system = file_system(url)
    try:
        system.invalidate_cache()
        found = system.find(url)
    except FileNotFoundError:
        return []
    except Exception as error:  # Packages have errors of their own: no credentials, no such host.
        raise MachineError(f"{url}: cannot be listed: {reason(error)}") from error
    root = system._strip_protocol(url).rstrip("/") + "/"
    inside = [path.removeprefix(root) for path in found]
    return [folder / name for name in inside if not any(part.startswith(".") for part in name.split("/"))]


def read_content(location: Path) -> bytes:
    """What a file or a URL holds.

    Raises:
        OSError: It cannot be read; also where a package has errors of its own: no credentials, no such host.
    """
    try:
        return location.read_bytes()
    except OSError:
        raise
    except Exception as error:
        raise OSError(reason(error)) from error


def reason(error: Exception) -> str:
    """What a package says of a place that it cannot reach, on one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


def file_system(url: str) -> Any:
    """The file system (`fsspec.AbstractFileSystem`) of a URL.

    Raises:
        MachineError: The package for it is not installed.
        UsageError: There is no such kind of URL.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        mend = f"pip install 'melanoma-zoo[{extra}]'" if extra else str(error)
        raise MachineError(f"{url}: the package for {scheme}:// is not installed; {mend}") from error
    except ValueError as error:
        raise UsageError(f"{url}: no file system is known by {scheme}://") from error
