"""Model cards are plain files of their folder, whatever the systems are called."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from reports.modelcard import _file_names, write_cards
from reports.record import Record


def test_cards_of_files_are_plain_files_of_the_folder(record: Record, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mine.csv").write_text("image_name,target\nA,0.5\nB,0.1\n")
    names = (f"csv:{data}/mine.csv", f"csv:{data}//mine.csv", "csv:../of/another/machine.csv")
    entries = tuple(
        msgspec.structs.replace(entry, card=msgspec.structs.replace(entry.card, name=name))
        for name, entry in zip(names, record.entries, strict=False)
    )
    folder = tmp_path / "out" / "cards"
    written = write_cards(msgspec.structs.replace(record, entries=entries), folder)
    assert {path.parent for path in written} == {folder}
    assert sorted(written) == sorted(tmp_path.rglob("*.md"))
    assert len(set(written)) == len(names)


@given(st.lists(st.text(min_size=1)))
def test_file_names_are_plain_and_none_is_there_twice(systems: list[str]) -> None:
    found = _file_names(systems)
    assert len({name.casefold() for name in found}) == len(systems)
    for name in found:
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set("/\\:")
        assert len(name) < 250
