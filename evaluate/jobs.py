"""Jobs: a system, the trainings of its members that take part, and the views that are taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

import weights
from evaluate.views import first
from weights.files import WeightFile
from zoo.card import Member, System
from zoo.errors import UsageError
from zoo.files import sha256

_SEEDS = 2**64
"""Seeds that torch takes are below."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One training of one member.

    Attributes:
        member: The network, as its file has it.
        fold: Its number.
        path: The trained file; None for random weights.
        sha256: Checksum of the file.
        seed: Seed of random weights, where there is no file.
    """

    member: Member
    fold: int
    path: Path | None = None
    sha256: str = ""
    seed: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A system to run.

    Attributes:
        card: Its card as its trained files have it; its views are taken.
        trainings: Of its members, in the card's order.
    """

    card: System
    trainings: tuple[Training, ...]

    @property
    def untrained(self) -> bool:
        """Whether its weights are random."""
        return any(training.path is None for training in self.trainings)


def trained(card: System, files: Sequence[WeightFile], *, number_of_views: int | None = None) -> Job:
    """A system with its trained files.

    Args:
        card: The system.
        files: What `weights.find` found.
        number_of_views: Take the first of the published sequence only; all where None.

    Raises:
        CheckpointError: A file cannot be read, or folds of a member disagree.
        UsageError: There are not so many views.
    """
    settled = weights.settled(card, files)
    return Job(
        card=_seen(settled, number_of_views),
        trainings=tuple(
            Training(
                member=settled.member(file.member), fold=file.fold, path=file.path, sha256=sha256(file.path)
            )
            for file in files
        ),
    )


def untrained(
    card: System,
    seed: int,
    *,
    members: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    number_of_views: int | None = None,
) -> Job:
    """A system with seeded random weights, for trials: its scores mean nothing.

    Args:
        card: The system.
        seed: Of the random weights; those of fold n are seeded with `seed + n`.
        members: Members that take part; all where None or empty.
        folds: Folds that take part; all where None or empty.
        number_of_views: As of `trained`.

    Raises:
        UsageError: There is no such member or fold, there are not so many views, or torch takes no such seed.
    """
    if seed + card.folds > _SEEDS:
        raise UsageError(f"seed {seed}: the largest is {_SEEDS - card.folds}")
    for fold in folds or ():
        if not 0 <= fold < card.folds:
            raise UsageError(f"{card.name} has no fold {fold}; its folds are 0 to {card.folds - 1}")
    chosen = {card.member(name).name for name in members} if members else None
    return Job(
        card=_seen(card, number_of_views),
        trainings=tuple(
            Training(member=member, fold=fold, seed=seed)
            for member in card.members
            if chosen is None or member.name in chosen
            for fold in (sorted(set(folds)) if folds else range(card.folds))
        ),
    )


def _seen(card: System, number_of_views: int | None) -> System:
    if number_of_views is None:
        return card
    return msgspec.structs.replace(card, views=first(card.views, number_of_views))
