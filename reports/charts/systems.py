"""Systems in figures: each has one style, the same in all of them."""

from __future__ import annotations

import msgspec

from evaluate.scored import Scores
from reports.record import Record


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A system in figures: its name, its title, its style, and whether others are measured against it."""

    name: str
    title: str
    style: int
    winner: bool


def shown(record: Record) -> dict[str, Shown]:
    """The systems of a record by name, in its order; the same system has the same style in every figure."""
    return {
        entry.card.name: Shown(
            name=entry.card.name, title=entry.card.title, style=place, winner=entry.card.group == "winner"
        )
        for place, entry in enumerate(record.entries)
    }


def main_scores(record: Record) -> Scores | None:
    """The scores under the protocol that was asked for."""
    return next((s for s in record.scores if s.protocol == record.settings.protocol), None)
