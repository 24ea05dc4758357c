"""Which file of a folder belongs to which row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pandas as pd
from natsort import natsorted

from evaluate import images
from evaluate.copies import originals
from evaluate.labels import optional, patients, read_roles
from evaluate.overlap import plain_name
from evaluate.tables import ids
from zoo.errors import InputError
from zoo.urls import files, is_url

_LISTED = 20


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Names for a message: the first, and how many more there are.

    >>> listed(["a", "b"])
    'a, b'
    >>> listed([str(number) for number in range(100)]).endswith("18, 19 and 80 more")
    True
    """
    more = len(names) - _LISTED
    return separator.join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


class Source(msgspec.Struct, frozen=True, eq=False):
    """A table as it is, and which of its columns play which role."""

    path: Path
    frame: pd.DataFrame
    roles: dict[str, list[str]]

    @classmethod
    def of(cls, path: Path, given: Mapping[str, str]) -> Source:
        """The table at a path; `given` names columns by role."""
        return cls(path, *read_roles(path, given))

    @property
    def columns(self) -> dict[str, str]:
        """The column of `rows` that plays a role, where one does."""
        found = {role: names[0] for role, names in self.roles.items() if names}
        return found | {role: role for role in ("lesion", "patient") if role in found}

    def rows(self) -> pd.DataFrame:
        """The rows, indexed by image id, with `lesion` and `patient`."""
        names = ids(self.frame, self.roles["image"][0], str(self.path))
        known = {role: optional(self.frame, self.roles[role]) for role in ("lesion", "patient")}
        frame = self.frame.assign(**known)
        return frame.assign(patient=patients(frame)).set_index(pd.Index(names, name="image"))


def files_of(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without ending, in natural order."""
    found: dict[str, Path] = {}
    for file in images_in(folder):
        if other := found.get(file.stem):
            raise InputError(f"{folder}: {other} and {file} are of one name; keep one of them")
        found[file.stem] = file
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder and of those in it, in natural order of their names; hidden ones are left out.

    Raises:
        InputError: There is no such folder, it holds no image, or the name of one is no text.
    """
    if not is_url(folder) and not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    found = [file for file in _visible(folder) if file.suffix.lower() in images.ENDINGS]
    if not found:
        raise InputError(f"{folder}: holds no image ({', '.join(images.ENDINGS)})")
    for file in found:
        if not _is_text(file.stem):  # It becomes an id, in a file of predictions or a finding.
            raise InputError(f"{folder}: the file name {file.name!a} is no text in UTF-8; rename the file")
    return natsorted(found, key=lambda path: (path.stem, str(path)))


def _is_text(name: str) -> bool:
    """Whether the bytes of a file's name are characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _visible(folder: Path) -> list[Path]:
    if is_url(folder):
        return files(folder)
    return [
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not path.is_dir()
    ]


def find_table(folder: Path, files: Mapping[str, Path], given: Mapping[str, str]) -> Source | None:
    """The CSV file with ids of the images; None where there is no CSV file."""
    names = set(plain_name(pd.Series(list(files))))
    names |= {name.rpartition("_")[0] for name in names}
    fitting: list[Source] = []
    others: list[str] = []
    for path in natsorted(path for path in _visible(folder) if path.suffix.lower() == ".csv"):
        try:
            source = Source.of(path, given)
        except InputError as error:
            others.append(str(error))
            continue
        if names.isdisjoint(plain_name(source.frame[source.roles["image"][0]].dropna())):
            others.append(f"{path}: its {source.roles['image'][0]} names no image of the folder")
        else:
            fitting.append(source)
    usual = [source for source in fitting if source.path == folder / "metadata.csv"]
    if len(fitting) > 1 and not usual:
        raise InputError(
            f"{folder}: several tables name its images: {listed([str(source.path) for source in fitting])}; "
            "say which is meant with --labels TABLE"
        )
    if others and not fitting:
        raise InputError(
            f"{folder}: no table names its images: {listed(others, '; ')}; give a table with --labels TABLE, "
            "name its column with --column image=NAME, or move files that are no table away"
        )
    return next(iter(usual or fitting), None)


def joined(
    source: Source, files: Mapping[str, Path], folder: Path
) -> tuple[pd.DataFrame, dict[str, Path | None]]:
    """One row and one file (or None) per image, in the table's order, copies without a row after their image."""
    frame, table = source.rows(), source.path
    file_of = _matched(frame.index, files, folder, table)
    used = set(file_of.values())
    strangers = [name for name in files if files[name] not in used]
    copy_of = originals(pd.Series(strangers, dtype=str), frame.index)
    copies = {name: image for name, image in zip(strangers, copy_of, strict=True) if name != image}
    if unknown := [str(files[name]) for name in strangers if name not in copies]:
        raise InputError(
            f"{folder}: {len(unknown)} of {len(files)} images have no row in {table}: {listed(unknown)}; "
            "complete the table, or move them away"
        )
    is_copy = pd.Series(originals(frame.index.to_series(), frame.index) != frame.index, index=frame.index)
    if not any(is_copy[name] for name in file_of):
        frame = frame[~is_copy]
    behind: dict[str, list[str]] = {}
    for name in natsorted(copies):
        behind.setdefault(copies[name], []).append(name)
        file_of[name] = files[name]
    more = frame.loc[list(copies.values())].set_axis(pd.Index(list(copies), name="image"))
    order = [each for name in frame.index for each in (name, *behind.get(name, []))]
    frame = pd.concat([frame, more]).loc[order] if copies else frame
    return frame, {name: file_of.get(name) for name in frame.index}


def _matched(rows: pd.Index[str], files: Mapping[str, Path], folder: Path, table: Path) -> dict[str, Path]:
    """The file of each row that has one: of its very name, or of its plain name."""
    found = {name: files[name] for name in rows if name in files}
    left = [name for name in rows if name not in found]
    free = {name: path for name, path in files.items() if name not in found}
    plain: dict[str, Path] = {}
    for name, path in zip(plain_name(pd.Series(list(free), dtype=str)), free.values(), strict=True):
        if name in plain:
            raise InputError(f"{folder}: {plain[name]} and {path} are of one name; keep one of them")
        plain[name] = path
    taken: dict[Path, str] = {}
    for row, name in zip(left, plain_name(pd.Series(left, dtype=str)), strict=True):
        if name not in plain:
            continue
        if other := taken.get(plain[name]):
            raise InputError(f"{table}: {other} and {row} mean the same file {plain[name]}; keep one of them")
        taken[plain[name]] = row
        found[row] = plain[name]
    return found


def check_copies(image_of: Mapping[str, str], folder: Path) -> None:
    """Checks that all images have the same test-time copies."""
    copies: dict[str, set[str]] = {}
    for name, image in image_of.items():
        copies.setdefault(image, set()).add(name.removeprefix(image))
    wanted = set().union(*copies.values())
    for image, there in copies.items():
        if missing := natsorted(wanted - there):
            raise InputError(
                f"{folder}: {image} has {len(there)} of {len(wanted)} test-time copies, {image}{missing[0]} is "
                "missing; give every image the same copies, or none"
            )
