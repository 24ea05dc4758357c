"""What trained files are called: by a card, and by what our own copies say of themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from weights import copies
from zoo.card import System
from zoo.errors import CheckpointError, UsageError

ENDINGS = (".pth", ".pt", ".safetensors", ".h5")
"""How the names of trained files end, in lower case."""


class Slot(NamedTuple):
    """One fold of one member at one stage, of which there is a file or not."""

    member: str
    fold: int
    stage: str


Names = dict[str, list[tuple[Slot, PurePosixPath]]]
"""Every file that a system may have, by its name without folders and ending."""


def file_name(system: System, slot: Slot) -> str:
    """What the card calls a file, with `/` between a folder and it."""
    assert system.checkpoints is not None
    return system.checkpoints.pattern.format(member=slot.member, fold=slot.fold, stage=slot.stage)


def slots(system: System, folds: Sequence[int] | None = None, stage: str | None = None) -> list[Slot]:
    """All folds of all members, at the first stage of the card or another.

    Raises:
        CheckpointError: The card names no files.
        UsageError: There is no such fold or stage.
    """
    first = stages_of(system, stage)[0]
    return [Slot(member.name, fold, first) for member in system.members for fold in folds_of(system, folds)]


def folds_of(system: System, folds: Sequence[int] | None) -> list[int]:
    """The folds asked for, sorted; all where None or empty."""
    for fold in folds or ():
        if not 0 <= fold < system.folds:
            only = f"folds 0 to {system.folds - 1}" if system.folds > 1 else "fold 0 alone"
            raise UsageError(f"there is no fold {fold}: {system.name} has {only}")
    return sorted(set(folds or range(system.folds)))


def stages_of(system: System, stage: str | None) -> tuple[str, ...]:
    """The stages that will do; one empty name where the card has none."""
    if system.checkpoints is None:
        if all(member.complete for member in system.members):
            why = "its network is a file, weights and all" if system.members else "it has no network"
            raise CheckpointError(f"{system.name}: there are no trained files of it: {why}")
        raise CheckpointError(
            f"{system.name}: its card does not say what its trained files are called; add [checkpoints]"
        )
    stages = system.checkpoints.stages
    if stage is None:
        return stages or ("",)
    if stage not in stages:
        choices = f"stages: {', '.join(stages)}" if stages else "its files have no stages"
        raise UsageError(f"{system.name} has no stage {stage!r}; {choices}")
    return (stage,)


def identify(system: System, path: Path) -> list[Slot]:
    """What a file is by its name and the folders it lies in, or by what a copy of ours says of itself.

    Nothing where neither tells.

    Raises:
        CheckpointError: Its name and what it says of itself disagree.
    """
    return identify_by(system, names_of(system), path.absolute())


def identify_by(system: System, names: Names, path: Path) -> list[Slot]:
    """`identify` of an absolute path by the system's names (`names_of`)."""
    ending = path.suffix.lower()
    found = [
        slot
        for slot, name in names.get(path.stem, ())
        if ending in (name.suffix.lower(), copies.ENDING)
        and _lies_in(path.parts[:-1], name.parts[:-1], names)
    ]
    origin = copies.origin(path) if ending == copies.ENDING else None
    if origin is None:
        return found
    said = (system.name, origin.member, origin.fold, origin.stage)
    own = [slot for each in names.values() for slot, _ in each if (origin.card, *slot) == said]
    if found and own != found:
        raise CheckpointError(
            f"{path}: by its name it is fold {found[0].fold} of {found[0].member}, but it says that it was "
            f"made from fold {origin.fold} of {origin.member} of {origin.card}; rename it, or take it away"
        )
    return own


def names_of(system: System) -> Names:
    """The names of all files that a system may have."""
    names: Names = {}
    for member in system.members:
        for fold in range(system.folds):
            for stage in stages_of(system, None):
                slot = Slot(member.name, fold, stage)
                name = PurePosixPath(file_name(system, slot))
                names.setdefault(name.stem, []).append((slot, name))
    return names


def _lies_in(folders: Sequence[str], wanted: Sequence[str], names: Names) -> bool:
    """Whether a file lies where its card wants it; other folders may stand before, between and after.

    Of the folders that are some member's own, the innermost counts.
    """
    if not wanted:
        return True
    members = {name.parts[-2] for each in names.values() for _, name in each if len(name.parts) > 1}
    innermost = next((name for name in reversed(folders) if name in members), None)
    rest = iter(folders)
    return innermost == wanted[-1] and all(name in rest for name in wanted)


def trained_files(folder: Path) -> Iterator[Path]:
    """All files in a folder and inside it that end as trained files do, sorted; hidden ones are left out.

    Links to folders are followed last, and a folder that is met again is not entered again: files
    have the folders that they lie in, whatever else leads there.

    Raises:
        CheckpointError: There is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: " + ("is not a folder" if folder.exists() else "there is no such folder")
        )
    seen: set[tuple[int, int]] = set()
    tops = [folder]
    for top in tops:
        for root, folders, names in os.walk(top):
            status = Path(root).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            tops += [link for name in folders if (link := Path(root, name)).is_symlink()]
            for name in sorted(names):
                path = Path(root, name)
                if not name.startswith(".") and name.lower().endswith(ENDINGS) and path.is_file():
                    yield path
