"""Trained files as tables: what a system needs and what is there, and what became of a check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from reports.render import Table
from weights.checksums import Check, Manifest
from weights.files import Search, found_files
from weights.naming import Slot, file_name, slots
from weights.settling import settled
from zoo.card import System
from zoo.errors import CheckpointError


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A trained file that a system needs.

    Attributes:
        member: The member that it is of.
        fold: The fold that it is of.
        stage: The stage; empty where the card has none.
        name: What the card calls it.
        path: Where it is; None where it is missing, or was not looked for.
    """

    member: str
    fold: int
    stage: str
    name: str
    path: str | None


def wanted(system: System, found: Search | None) -> list[Wanted]:
    """The files that a system needs, and where they are if they were looked for."""

    def one(slot: Slot) -> Wanted:
        path = found.files.get(slot) if found else None
        return Wanted(**slot._asdict(), name=file_name(system, slot), path=str(path) if path else None)

    return [one(slot) for slot in (found.slots if found else slots(system))]


def listing(system: System, folder: Path | None, found: Search | None) -> Table:
    """A row per file that a system needs."""
    files = wanted(system, found)
    checkpoints = system.checkpoints
    assert checkpoints is not None
    notes = [f"Files from: {checkpoints.source or 'not public'}. Key layout: {checkpoints.layout}."]
    if len(checkpoints.stages) > 1:
        notes.append(
            f"All folds of a network are of one stage, by preference: {', '.join(checkpoints.stages)}."
        )
    if found is None:
        notes.append("--weights DIR shows which of them are there.")
    else:
        notes.append(f"{len(found.files)} of {len(files)} are in {folder}.")
        notes += [*found.problems, *_said(system, found)]
    return Table(
        f"Trained files of {system.title}",
        ("File", "There"),
        tuple((file.name, _place(file, folder)) for file in files),
        tuple(notes),
        align="ll",
    )


def _place(file: Wanted, folder: Path | None) -> str:
    """Where a file is inside the folder, in as few words as will do."""
    if folder is None:
        return "–"
    if file.path is None:
        return "missing"
    place = Path(file.path).relative_to(folder)
    if place.as_posix() == file.name:
        return "yes"
    return f"in {place.parent}" if place.name == Path(file.name).name else str(place)


def _said(system: System, found: Search) -> list[str]:
    """What the files say of what the card assumes."""
    try:
        card = settled(system, found_files(found))
    except CheckpointError as error:
        return [str(error)]
    return [f"{each.about}: {each.statement}" for each in card.assumptions if each.settled]


def verified(checks: Sequence[Check], folder: Path, known: Manifest) -> Table:
    """A row per file that was checked or is missing; there is one at least."""
    states = [check.state for check in checks]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return Table(
        f"Trained files in {folder}",
        ("File", "State", "System", "SHA-256"),
        tuple(
            (check.name, check.state, check.entry.system if check.entry else "", f"{check.sha256[:12]}")
            for check in checks
        ),
        (f"{counts}.", *([known.note] if known.note and "unknown" in states else [])),
        align="llll",
    )
