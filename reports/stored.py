"""Fetched data as tables: what there is, what of it is here, and under which terms."""

from __future__ import annotations

from collections.abc import Mapping

from reports.render import Table
from weights.store import Collection, DataSet, State


def listing(sets: Mapping[str, DataSet], states: Mapping[str, State]) -> list[Table]:
    """A table per set that can be fetched."""
    return [
        Table(
            title=f"{name}: {each.title}",
            headers=("", ""),
            rows=(
                ("here", _here(name, states[name])),
                *(("wrong bytes", file) for file in states[name].wrong),
                ("folder", str(states[name].folder)),
                ("size", f"{each.images} images" if isinstance(each, Collection) else f"{each.bytes / 1e6:.1f} MB"),
                ("from", each.origin),
                ("licence", each.licence),
            ),
            align="ll",
        )
        for name, each in sets.items()
    ]  # fmt: skip


def _here(name: str, state: State) -> str:
    if state.complete:
        return "all of it, checked"
    part = f"{state.present} of {state.total} files" if state.present or state.wrong else "no"
    return f"{part}; run: melanoma-zoo data fetch {name}"
