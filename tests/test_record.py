"""The record: validated, versioned, and enough to render everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from reports import outputs
from reports.record import VERSION, Record, load, save, schema
from reports.tidy import tidy
from zoo.errors import InputError, MachineError, UsageError
from zoo.files import sha256

ROOT = Path(__file__).parents[1]


def test_a_record_survives_a_round_trip(record: Record, tmp_path: Path) -> None:
    save(record, tmp_path / "record.json")
    assert load(tmp_path / "record.json") == record


def test_a_record_follows_its_published_schema(record: Record, tmp_path: Path) -> None:
    save(record, tmp_path / "record.json")
    published = json.loads((ROOT / "reports" / "record.schema.json").read_bytes())
    written = json.loads((tmp_path / "record.json").read_bytes())
    jsonschema.validate(written, published)
    written["settings"]["rule"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, published)


def meant(part: Any) -> Any:
    """What a schema says: versions of msgspec name other defaults, and have an order of their own."""
    if isinstance(part, list):
        return sorted((meant(each) for each in part), key=json.dumps)
    if not isinstance(part, dict):
        return part
    return {key: meant(value) for key, value in part.items() if key != "default"}


def test_the_published_schema_is_current() -> None:
    current = json.loads((ROOT / "reports" / "record.schema.json").read_bytes())
    assert meant(current) == meant(json.loads(schema())), "run: python -m reports.record"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not a record"),
        (b"{}", "missing required field `schema`"),
        (b'{"schema": 1}', "missing required field"),
        (b"\xff\xfe", "is not a record"),
        (f'{{"schema": {VERSION + 1}, "tool": "9.9"}}'.encode(), "use melanoma-zoo 9.9 or newer"),
    ],
)
def test_what_is_not_a_record_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_an_unknown_field_is_refused(record: Record, tmp_path: Path) -> None:
    content = msgspec.json.decode(msgspec.json.encode(record))
    content["settings"]["extra"] = 1
    (tmp_path / "record.json").write_bytes(msgspec.json.encode(content))
    with pytest.raises(InputError, match="unknown field `extra`"):
        load(tmp_path / "record.json")


def test_a_folder_that_cannot_be_written_is_one_line_and_leaves_the_old_file(
    record: Record, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("here before")
    with pytest.raises(MachineError, match="cannot be written"):
        save(record, tmp_path / "file" / "record.json")
    assert (tmp_path / "file").read_text() == "here before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_parts_of_an_earlier_record_do_not_stay_beside_a_new_one(record: Record, tmp_path: Path) -> None:
    assert list(tidy(record)) == ["differences"]
    (tmp_path / "subgroups.csv").write_text("the user's own")
    outputs.write_all(record, tmp_path, "again")
    assert (tmp_path / "differences.csv").read_text().startswith("protocol,")
    without = tuple(msgspec.structs.replace(each, differences=()) for each in record.scores)
    outputs.write_all(msgspec.structs.replace(record, scores=without), tmp_path, "again")
    assert {path.name for path in tmp_path.glob("*.csv")} == {"again.csv", "subgroups.csv"}
    assert (tmp_path / "subgroups.csv").read_text() == "the user's own"


@pytest.mark.parametrize("name", ["differences.csv", "again.csv"])
def test_no_table_replaces_a_file_that_was_read(record: Record, tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.write_text("isic_id,target")
    read = msgspec.structs.replace(record.inputs[0], sha256=sha256(own))
    with pytest.raises(UsageError, match=f"{name}: was read"):
        outputs.write_all(msgspec.structs.replace(record, inputs=(read,)), tmp_path, "again")
    assert own.read_text() == "isic_id,target"
    assert load(tmp_path / "record.json").scores == record.scores


def test_a_record_renders_without_torch(record: Record, tmp_path: Path) -> None:
    save(record, tmp_path / "record.json")
    code = """
import sys
from pathlib import Path
from typing import Any
from reports import outputs, load
record = load(Path(sys.argv[1]))
outputs.write_all(record, Path(sys.argv[2]), "again")
outputs.tables(record)
print([name for name in ("torch", "timm", "sklearn") if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "record.json"), str(tmp_path / "out")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert run.stdout.strip() == "[]"
    for style, ending in outputs.FORMATS.items():
        assert (tmp_path / "out" / f"again.{ending}").read_text(encoding="utf-8") == outputs.text(
            record, style
        )
