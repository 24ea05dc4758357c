"""Cards in a notebook, as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.card import System


def html(card: System) -> str:
    """A card as a small table: what it is, and its networks."""
    facts = [
        ("name", card.name),
        ("group", card.group),
        ("folds", str(card.folds)),
        ("views", f"{card.views.distinct} distinct, {card.views.published} computed"),
        ("blend", card.blend.members),
        *(("limit", limit) for limit in card.limits),
        *((f"{each.kind}: {each.about}", each.statement) for each in card.assumptions),
        *(("source", f"{each.title} {each.url}") for each in card.sources),
    ]
    members = [
        (
            each.name,
            each.architecture,
            f"{each.size} px",
            f"{len(each.classes)} classes, MEL at {each.melanoma}",
        )
        for each in card.members
    ]
    return (
        f"<p><b>{escape(card.title)}</b>: {escape(card.summary)}</p>"
        f"<table>{''.join(map(_row, facts))}</table>"
        f"<table>{''.join(map(_row, members))}</table>"
    )


def _row(cells: tuple[str, ...]) -> str:
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
