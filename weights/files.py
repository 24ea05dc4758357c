"""Finding the trained files of a system: its card and a folder are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from weights import copies
from weights.naming import (
    Slot,
    file_name,
    folds_of,
    identify,
    identify_by,
    names_of,
    stages_of,
    trained_files,
)
from zoo.card import System
from zoo.errors import CheckpointError, UsageError
from zoo.files import sha256


class WeightFile(msgspec.Struct, frozen=True, kw_only=True):
    """The trained file of one fold of one member.

    Attributes:
        member: The member's name.
        fold: The fold, from 0; 0 where the system has no folds.
        path: Where the file is.
        stage: Which of the card's stages it is; empty where the card has none.
    """

    member: str
    fold: int
    path: Path
    stage: str = ""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a system in a folder.

    Attributes:
        slots: What was looked for; of each member one stage.
        files: The files that were found, where it is certain which one is meant.
        missing: Names, as the card has them, of files that are not there.
        problems: What else stands in the way: two files of one name, folds of different stages.
    """

    slots: tuple[Slot, ...]
    files: Mapping[Slot, Path]
    missing: tuple[str, ...]
    problems: tuple[str, ...]


def find(
    system: System,
    folder: Path | str,
    *,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    stage: str | None = None,
) -> list[WeightFile]:
    """All trained files of a system in a folder, and in folders inside it.

    The folds of a member are all of one stage: the first of the card's that is complete. Copies
    by `weights.convert` count as the files that they were made from; where both are there, the
    original is taken.

    Args:
        system: The card.
        folder: Where to look.
        members: Names of the members wanted; all where None or empty.
        folds: Folds wanted; all where None or empty.
        stage: The only stage that will do.

    Returns:
        A file per member and fold, in the order of the card.

    Raises:
        CheckpointError: Files are missing, or two files of one name differ; one message lists all.
        UsageError: There is no such member, fold or stage.
    """
    if complete := whole(system, members):
        return complete
    found = search(system, folder, members=members, folds=folds, stage=stage)
    said = list(found.problems)
    if found.missing:
        stages = system.checkpoints.stages if system.checkpoints and not stage else ()
        others = f" (any one stage of {', '.join(stages)} will do)" if len(stages) > 1 else ""
        said.append(
            f"{len(found.missing)} of {len(found.slots)} files of {system.name} are missing{others}: "
            + "; ".join(found.missing)
        )
    if said:
        raise CheckpointError(f"{folder}: {'; '.join(said)}")
    return found_files(found)


def whole(system: System, members: Sequence[str] | None = None) -> list[WeightFile]:
    """The files of a system whose networks come whole, weights and all; nothing of any other system.

    Raises:
        CheckpointError: One of them is not there.
        UsageError: There is no such member.
    """
    chosen = [system.member(name) for name in members] if members else list(system.members)
    if not chosen or not all(member.complete for member in chosen):
        return []
    if missing := [member.file for member in chosen if not Path(member.file).is_file()]:
        raise CheckpointError(f"{system.name}: there is no file {', '.join(missing)}")
    return [WeightFile(member=member.name, fold=0, path=Path(member.file)) for member in chosen]


def found_files(found: Search) -> list[WeightFile]:
    """The files that a search found, without those that are missing."""
    return [
        WeightFile(member=slot.member, fold=slot.fold, stage=slot.stage, path=found.files[slot])
        for slot in found.slots
        if slot in found.files
    ]


def given(
    system: System,
    paths: Sequence[Path],
    *,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    stage: str | None = None,
) -> list[WeightFile]:
    """The trained files that a user means by paths of files and folders.

    A folder stands for all files of the system in it. A file is what its name says, or what the
    other arguments say where its name is not the card's.

    Args:
        system: The card.
        paths: Files, or folders.
        members: Names of the members wanted.
        folds: Folds wanted.
        stage: The only stage wanted.

    Raises:
        CheckpointError: As of `find`, and where a file is not of what is wanted.
        UsageError: As of `find`, and where it cannot be told what a file is.
    """
    found: list[WeightFile] = []
    for path in paths:
        if path.is_dir():
            found += find(system, path, members=members, folds=folds, stage=stage)
            continue
        slot = _given(system, path, members, folds, stage)
        found.append(WeightFile(member=slot.member, fold=slot.fold, stage=slot.stage, path=path))
    return found


def _given(
    system: System, path: Path, members: Sequence[str] | None, folds: Sequence[int] | None, stage: str | None
) -> Slot:
    names = [system.member(name).name for name in members or [member.name for member in system.members]]
    numbers, stages = folds_of(system, folds), stages_of(system, stage)
    if named := identify(system, path):
        for slot in named:
            if slot.member in names and slot.fold in numbers and slot.stage in stages:
                return slot
        raise CheckpointError(
            f"{path}: is fold {named[0].fold} of {named[0].member}{_at(named[0].stage)}, not what was asked for"
        )
    choices = {
        "member (--member or --members)": len(names),
        "fold (--fold or --folds)": len(numbers),
        "stage (--stage)": len(stages),
    }
    if missing := [option for option, count in choices.items() if count > 1]:
        raise UsageError(
            f"{path}: its name is not one that the card of {system.name} gives; give it that name, or say what it is: "
            f"one {', one '.join(missing)}"
        )
    return Slot(names[0], numbers[0], stages[0])


def _at(stage: str) -> str:
    return f" at stage {stage}" if stage else ""


def available(
    systems: Sequence[System], folder: Path | str | None
) -> tuple[dict[str, list[WeightFile]], dict[str, str]]:
    """Which systems have all their trained files in a folder, or in a folder inside it of their name.

    A system whose networks come whole has them anyway; without a folder, only such a system has.

    Returns:
        By the system's name its files, and for the others the reason, which begins with
        "weights not found".

    Raises:
        CheckpointError: There is no such folder.
    """
    folder = None if folder is None else Path(folder)
    if folder is not None:
        next(trained_files(folder), None)
    complete: dict[str, list[WeightFile]] = {}
    reasons: dict[str, str] = {}
    for system in systems:
        if not system.members:
            continue
        if files := whole(system):
            complete[system.name] = files
            continue
        if folder is None:
            reasons[system.name] = "weights not found: give their folder with --weights DIR"
            continue
        own = folder / system.name
        for place in ([own] if own.is_dir() else []) + [folder]:
            try:
                complete[system.name] = find(system, place)
                reasons.pop(system.name, None)
                break
            except CheckpointError as error:
                reasons.setdefault(system.name, f"weights not found: {error}")
    return complete, reasons


def search(
    system: System,
    folder: Path | str,
    *,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    stage: str | None = None,
) -> Search:
    """`find` without complaint of what is missing.

    Raises:
        CheckpointError: There is no such folder, or the card names no files.
        UsageError: There is no such member, fold or stage.
    """
    chosen_members = {system.member(name).name for name in members or [m.name for m in system.members]}
    wanted_folds = folds_of(system, folds)
    stages = stages_of(system, stage)
    claims, problems = _claims(system, Path(folder))
    slots: list[Slot] = []
    files: dict[Slot, Path] = {}
    missing: list[str] = []
    for member in (m.name for m in system.members if m.name in chosen_members):
        there = {each: [fold for fold in wanted_folds if (member, fold, each) in claims] for each in stages}
        best = max(stages, key=lambda each: len(there[each]))
        slots += (chosen := [Slot(member, fold, best) for fold in wanted_folds])
        absent = [slot for slot in chosen if slot not in claims]
        if absent and set().union(*there.values()) == set(wanted_folds):
            lists = "; ".join(f"{each}: {', '.join(map(str, at))}" for each, at in there.items() if at)
            problems.append(
                f"the folds of {member} are only there in different stages ({lists}), which are never mixed: "
                "get the others of one stage, or ask for those folds alone"
            )
        else:
            missing += [file_name(system, slot) for slot in absent]
        for slot in chosen:
            if slot in claims:
                one = _only(claims[slot])
                if isinstance(one, Path):
                    files[slot] = one
                else:
                    problems.append(one)
    return Search(slots=tuple(slots), files=files, missing=tuple(missing), problems=tuple(problems))


def _claims(system: System, folder: Path) -> tuple[dict[Slot, list[Path]], list[str]]:
    """The files of a folder by what they are, and what is wrong with others."""
    names = names_of(system)
    claims: dict[Slot, list[Path]] = {}
    problems: list[str] = []
    for path in trained_files(folder.absolute()):
        shown = folder / path.relative_to(folder.absolute())
        try:
            for slot in identify_by(system, names, path):
                claims.setdefault(slot, []).append(shown)
        except CheckpointError as error:
            problems.append(str(error))
    return claims, problems


def _only(candidates: Sequence[Path]) -> Path | str:
    """The one file meant by several of one name, or why it cannot be told."""
    origins = {
        path: copies.origin(path) if path.suffix.lower() == copies.ENDING else None for path in candidates
    }
    originals = [path for path in candidates if origins[path] is None] or list(candidates)
    first = originals[0]
    for other in candidates:
        origin = origins[other]
        same = _same(first, other) or (origin is not None and origin.source_sha256 == sha256(first))
        if not same:
            return f"{first} and {other} differ, and both could be meant: keep one of them"
    return first


def _same(one: Path, other: Path) -> bool:
    return one.samefile(other) or (
        one.stat().st_size == other.stat().st_size and sha256(one) == sha256(other)
    )
