"""Tables that cannot be read are one line."""

from __future__ import annotations

import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluate.tables import read_csv
from zoo.errors import InputError

TEXT = "image_name,target\n" + "".join(f"ISIC_{number},0.5\n" for number in range(1000))


def two_tables(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, TEXT)


def no_archive(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 and nothing of it")


def cut_short(path: Path) -> None:
    path.write_bytes(gzip.compress(TEXT.encode())[:-100])


def damaged(path: Path) -> None:
    content = bytearray(lzma.compress(TEXT.encode()))
    content[40] ^= 255
    path.write_bytes(content)


def encrypted(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", TEXT)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.zip", two_tables), ("b.zip", no_archive), ("c.csv.gz", cut_short), ("d.csv.xz", damaged),
        ("e.csv.xz", no_archive), ("f.csv.bz2", no_archive), ("g.tar", no_archive), ("h.tar.gz", no_archive),
        ("i.csv.zst", no_archive), ("j.zip", encrypted),
    ],
)  # fmt: skip
def test_an_archive_that_is_no_table_is_one_line(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: cannot be read as a CSV table: ") as met:
        read_csv(tmp_path / name, ["image_name"])
    assert "\n" not in str(met.value)


def test_a_compressed_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert len(read_csv(tmp_path / "a.csv.gz", ["image_name"])) == 1000


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\ufeffimage_name,target,target,note,note\nISIC_1,1,0,,\n")
    with pytest.raises(
        InputError, match=r"a.csv: two columns are called 'target'; keep or rename one of them"
    ):
        read_csv(path, ["image_name", "target"])
    # Nobody reads the notes, and a table that pandas has written may have both of these.
    assert read_csv(path, ["image_name"]).shape == (1, 5)
    path.write_text("image_name,target,target.1\nISIC_1,1,0\n")
    assert read_csv(path, ["image_name", "target"])["target"].tolist() == ["1"]
