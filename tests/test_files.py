"""Files are written whole, and nothing but a file is replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.errors import MachineError
from zoo.files import write


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    for text in ("first", "second"):
        write(tmp_path / "in" / "a.txt", text)
    assert (tmp_path / "in" / "a.txt").read_text(encoding="utf-8") == "second"
    assert list((tmp_path / "in").iterdir()) == [tmp_path / "in" / "a.txt"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_left_alone(tmp_path: Path, make) -> None:
    make(tmp_path / "here")
    (tmp_path / "link").symlink_to("here")
    for name in ("here", "link"):
        with pytest.raises(MachineError, match="is not a file"):
            write(tmp_path / name, "text")
    assert not (tmp_path / "here").is_file()
    assert {each.name for each in tmp_path.iterdir()} == {"here", "link"}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_leads_to_the_new_file(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    if there:
        write(tmp_path / "far" / "a.txt", "old")
    (tmp_path / "link").symlink_to("far/a.txt")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text(encoding="utf-8") == "new"


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    write(tmp_path / "file", "text")
    with pytest.raises(MachineError, match=r"file/a.txt: cannot be written"):
        write(tmp_path / "file" / "a.txt", "text")
