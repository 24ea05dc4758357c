"""Runs on Weights & Biases: for real, in its offline mode."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.tracking import tracked
from zoo.errors import MachineError

ROOT = Path(__file__).parents[1]

OFFLINE = """
import sys
from pathlib import Path
from reports.tracking import tracked

with tracked(True, config={"system": "sge_b3", "path": Path("weights"), "nested": {"size": 384}}, name="trial") as log:
    print("a result")
    for done in range(3):
        log({"images": done, "images_per_second": 10.0})
    log({"roc_auc": 0.8152}, final=True)
    if sys.argv[1:]:
        raise SystemExit(sys.argv[1])
"""


def test_nothing_happens_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with tracked(False, config={}) as log:
        log({"images": 1})
        log({"roc_auc": 0.8}, final=True)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MachineError, match=r"pip install 'melanoma-zoo\[wandb\]'"), tracked(True, config={}):
        pytest.fail("it must not begin")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that no account of the user's is met."""
    pytest.importorskip("wandb", reason="needs the optional package wandb: pip install 'melanoma-zoo[wandb]'")
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def logged(content: bytes) -> Iterator[bytes]:
    """The records of an offline run's file: a log as LevelDB writes it, after a header of 7 bytes."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        if (rest := -place % 32768) < 7:  # No room for a header: the block is padded.
            place += rest
            continue
        length, part = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if part in (1, 4):  # All of a record, or its last part.
            yield whole
            whole = b""


def read(folder: Path) -> dict[str, object]:
    """What a reader of the offline run's file finds: settings, figures as they came, final ones, exit code."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found: dict[str, object] = {"history": [], "summary": {}, "config": {}}
    for data in logged(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["project"], found["name"] = record.run.project, record.run.display_name
            found["config"] = {i.key: json.loads(i.value_json) for i in record.run.config.update}
        elif kind == "history":
            items = {(i.key or i.nested_key[0]): json.loads(i.value_json) for i in record.history.item}
            found["history"].append(items)  # type: ignore[attr-defined]
        elif kind == "summary":
            found["summary"] |= {
                (i.key or i.nested_key[0]): json.loads(i.value_json) for i in record.summary.update
            }  # type: ignore[operator]
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    return found


@pytest.mark.slow
def test_an_offline_run_holds_settings_progress_and_final_scores(environment: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], capture_output=True, text=True, cwd=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a result\n", "standard output is for results"
    found = read(environment)
    assert (found["project"], found["name"], found["exit"]) == ("melanoma-zoo", "trial", 0)
    settings = {key: value for key, value in found["config"].items() if key != "_wandb"}  # type: ignore[attr-defined]
    assert settings == {"system": "sge_b3", "path": "weights", "nested": {"size": 384}}
    assert [each["images"] for each in found["history"]] == [0, 1, 2]  # type: ignore[attr-defined]
    assert found["summary"]["roc_auc"] == 0.8152  # type: ignore[index]


@pytest.mark.slow
def test_a_run_that_fails_is_marked_so(environment: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "broken"],
        capture_output=True,
        text=True,
        cwd=environment,
        timeout=300,
    )
    assert done.returncode == 1
    assert read(environment)["exit"] == 1


@pytest.mark.slow
def test_nobody_logged_in_is_one_error_with_the_mend(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    code = OFFLINE.replace(
        "with tracked",
        "import zoo.errors\ntry:\n  tracked(True, config={}).__enter__()\nexcept zoo.errors.MachineError as error:\n  sys.exit('one error: ' + str(error))\nwith tracked",
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=environment, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("one error: Weights & Biases cannot be used")
    assert "wandb login" in last
    assert "WANDB_MODE=offline" in last
