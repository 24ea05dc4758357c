"""The manifest: what trained files must be, and whether the files of a folder are."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from weights.naming import Slot, file_name, identify, trained_files
from zoo import __version__
from zoo.card import System
from zoo.errors import CheckpointError, InputError, UsageError
from zoo.files import sha256, write

Step = Callable[[str, int, int], None]

State = Literal["ok", "changed", "unknown", "missing"]
"""What can become of a file: as listed, not as listed, not listed, or listed and not there."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a trained file must be.

    Attributes:
        sha256: Its SHA-256.
        bytes: Its size.
        system: The system that it is of; empty where its name does not tell.
        member: The member that it is of.
        fold: The fold that it is of.
        source: Where it can be had.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Meta(ge=0)]
    system: str = ""
    member: str = ""
    fold: int | None = None
    source: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of trained files.

    Attributes:
        note: What a reader must know of it.
        files: By their names, with the folders that tell them apart.
    """

    note: str = ""
    files: dict[Annotated[str, Meta(min_length=1)], Entry] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file.

    Attributes:
        name: Its name in the manifest, or in the folder where the manifest does not list it.
        state: What became of it.
        path: Where it is; None where it is missing.
        sha256: What it has; empty where it is missing or cannot be read.
        entry: What the manifest wants.
    """

    name: str
    state: State
    path: Path | None = None
    sha256: str = ""
    entry: Entry | None = None


class _File(msgspec.Struct):
    """A manifest's file; what other kinds of files have in it stands beside."""

    weights: Manifest = Manifest()


def manifest(path: Path | None = None) -> Manifest:
    """What is known of trained files, from a file or (where None) from the one of this package.

    Raises:
        InputError: The file cannot be read, or is not a manifest.
    """
    where = str(path) if path else "weights/manifest.toml"
    try:
        text = (path or resources.files("weights") / "manifest.toml").read_text(encoding="utf-8")
        return msgspec.convert(tomllib.loads(text), _File).weights
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: cannot be read as a manifest: {error}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{where}: not a manifest: {error}") from error


def verify(
    folder: Path, wanted: Manifest, system: System | None = None, *, step: Step = lambda *_: None
) -> Iterator[Check]:
    """Checks the trained files of a folder (and of folders inside it) against a manifest.

    A file is the one that the manifest lists where its path ends with that name.

    Args:
        folder: The folder.
        wanted: The manifest.
        system: Leave out what is not of this system.
        step: Called with what is done, how many files are read, and how many there are.

    Yields:
        Files that are there, in the order of their paths (those behind links last), then those that are missing.

    Raises:
        CheckpointError: There is no such folder.
        OSError: A file cannot be read.
    """
    ours = {name for name, entry in wanted.files.items() if system is None or entry.system == system.name}
    met: set[str] = set()
    paths = list(trained_files(folder))
    for done, path in enumerate(paths):
        step("reading files", done, len(paths))
        place = path.relative_to(folder).as_posix()
        name = listed_as(path, wanted.files)
        if name in ours:
            met.add(name)
            entry, found = wanted.files[name], sha256(path)
            same = (found, path.stat().st_size) == (entry.sha256, entry.bytes)
            yield Check(name=name, state="ok" if same else "changed", path=path, sha256=found, entry=entry)
        elif not name and (system is None or identify(system, path)):
            yield Check(name=place, state="unknown", path=path, sha256=sha256(path))
    if paths:
        step("reading files", len(paths), len(paths))
    for name in wanted.files:
        if name in ours - met:
            yield Check(name=name, state="missing", entry=wanted.files[name])


def listed_as(path: Path, names: Iterable[str]) -> str:
    """The name, with the most folders, that the path of a file ends with; empty where there is none.

    >>> listed_as(Path("/data/a/fold0.pth"), ["fold0.pth", "a/fold0.pth", "b/fold0.pth"])
    'a/fold0.pth'
    """
    whole = path.absolute().as_posix()
    return max((name for name in names if whole.endswith(f"/{name}")), key=len, default="")


def pin(
    folder: Path, systems: Sequence[System], system: System | None = None, *, step: Step = lambda *_: None
) -> Manifest:
    """A manifest of the trained files that are in a folder and in folders inside it.

    Args:
        folder: The folder.
        systems: Systems that the files may be of.
        system: Leave out what is not of this system.
        step: As of `verify`.

    Raises:
        CheckpointError: There is no such folder, or no trained file in it.
        InputError: The name of a file is not text.
        OSError: A file cannot be read.
    """
    paths = [path for path in trained_files(folder) if system is None or identify(system, path)]
    if not paths:
        raise CheckpointError(f"{folder}: no trained files{f' of {system.name}' if system else ''} in it")
    named = [each for each in systems if each.checkpoints]
    of = {path: next(((s, slot) for s in named for slot in identify(s, path)), None) for path in paths}
    short = {path: _short(path, folder, known) for path, known in of.items()}
    taken = Counter(short.values())
    files = {}
    for done, (path, known) in enumerate(of.items()):
        step("reading files", done, len(paths))
        place = path.relative_to(folder).as_posix()
        if not place.isprintable():
            raise InputError(
                f"{path}: a name with such characters cannot stand in a manifest; rename the file"
            )
        files[short[path] if taken[short[path]] == 1 else place] = Entry(
            sha256=sha256(path),
            bytes=path.stat().st_size,
            system=known[0].name if known else "",
            member=known[1].member if known else "",
            fold=known[1].fold if known else None,
            source=known[0].checkpoints.source if known and known[0].checkpoints else "",
        )
    step("reading files", len(paths), len(paths))
    return Manifest(
        note=f"The trained files of one folder, as melanoma-zoo {__version__} found them.", files=files
    )


def _short(path: Path, folder: Path, known: tuple[System, Slot] | None) -> str:
    """The file's path inside the folder, or what a card names of it: folders around that differ between machines."""
    place = PurePosixPath(path.relative_to(folder).as_posix())
    folders = PurePosixPath(file_name(*known)).parts[:-1] if known else place.parts[:-1]
    name = PurePosixPath(*folders, place.name)
    return str(name if place.parts[-len(name.parts) :] == name.parts else place)


def write_new(path: Path, made: Manifest) -> None:
    """Writes a manifest where there is none, or the same.

    Raises:
        UsageError: There is another file.
        MachineError: It cannot be written.
    """
    content = text(made)
    if path.exists() and path.read_bytes() != content.encode():
        raise UsageError(f"{path}: there is another file; choose another name, or take it away first")
    write(path, content)


def text(made: Manifest) -> str:
    """A manifest as TOML."""
    import tomli_w

    return tomli_w.dumps({"weights": msgspec.to_builtins(made)})
