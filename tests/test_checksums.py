"""The manifest of trained files, and the commands around them."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import tomli_w
import torch
from click.testing import CliRunner, Result

import cli
import weights
import zoo
from weights.checksums import Manifest, text, write_new
from weights.naming import file_name, slots
from zoo.card import System
from zoo.errors import CheckpointError, InputError, UsageError
from zoo.files import sha256
from zoo.reading import parse

ROOT = Path(__file__).parents[1]
CARD = """\
schema = 1
name = "small_ones"
title = "Small ones"
group = "own"
summary = "Small enough to be trained files in a test."
folds = 2

[defaults]
classes = ["NV", "MEL"]
melanoma = 1
backbone = "test_efficientnet"
size = 32

[[members]]
name = "plain"

[[members]]
name = "attentive"
attention = [{ module = "cbam", after = [2], options = { kernel_size = 49 } }]

[checkpoints]
layout = "enet"
pattern = "{member}/{stage}_fold{fold}.pth"
stages = ["best", "final"]
source = "our own laboratory"

[[assumptions]]
about = "kernel"
text = "49x49."
option = "cbam.kernel_size"
"""


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["weights", *(str(arg) for arg in args)], env={"COLUMNS": "250"})


def systems() -> list[System]:
    return [zoo.card(name) for name in zoo.systems()]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """A system of two small networks."""
    yield zoo.register(parse(CARD))
    zoo.unregister("small_ones")


@pytest.fixture
def trained(system: System, tmp_path: Path) -> Path:
    """A folder with all trained files of the small networks; their CBAM has a kernel of 49."""
    folder = tmp_path / "trained"
    for slot in slots(system):
        network = zoo.build(system.name, slot.member, seed=slot.fold)
        state = network.state_dict()
        path = folder / file_name(system, slot)
        path.parent.mkdir(parents=True, exist_ok=True)
        names = weights.official_keys(network, "enet")
        torch.save({name: state[ours].clone() for name, ours in names.items()}, path)
    return folder


def states(folder: Path, known: Manifest, of: System | None = None) -> dict[str, str]:
    return {check.name: check.state for check in weights.verify(folder, known, of)}


# The manifest


def test_the_manifest_lists_nothing_that_is_not_known_and_says_so() -> None:
    known = weights.manifest()
    assert known.files == {}
    assert "No checksum of an official file is known" in known.note


def test_a_folder_is_as_it_was_pinned(system: System, trained: Path, tmp_path: Path) -> None:
    pinned = weights.pin(trained, [system])
    assert set(pinned.files) == {file_name(system, slot) for slot in slots(system)}
    entry = pinned.files["attentive/best_fold1.pth"]
    assert (entry.system, entry.member, entry.fold) == ("small_ones", "attentive", 1)
    assert entry.source == "our own laboratory"
    assert entry.sha256 == sha256(trained / "attentive" / "best_fold1.pth")
    write_new(tmp_path / "pinned.toml", pinned)
    assert weights.manifest(tmp_path / "pinned.toml") == pinned
    assert set(states(trained, pinned).values()) == {"ok"}


def test_each_file_is_ok_changed_unknown_or_missing(system: System, trained: Path) -> None:
    pinned = weights.pin(trained, [system])
    changed = trained / "plain" / "best_fold0.pth"
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    (trained / "plain" / "best_fold1.pth").unlink()
    (trained / "plain" / "final_fold1.pth").write_bytes(b"new")
    (trained / "notes.txt").write_text("not a trained file", encoding="utf-8")
    assert states(trained, pinned) == {
        "attentive/best_fold0.pth": "ok",
        "attentive/best_fold1.pth": "ok",
        "plain/best_fold0.pth": "changed",
        "plain/final_fold1.pth": "unknown",
        "plain/best_fold1.pth": "missing",
    }


def test_a_pinned_file_is_known_wherever_the_download_put_it(
    system: System, trained: Path, tmp_path: Path
) -> None:
    pinned = weights.pin(trained, [system])
    moved = tmp_path / "cache" / "versions" / "3"
    moved.parent.mkdir(parents=True)
    trained.rename(moved)
    assert set(states(tmp_path / "cache", pinned).values()) == {"ok"}
    assert set(states(moved / "plain", pinned).values()) == {"ok", "missing"}


def test_two_files_of_one_name_are_pinned_apart(system: System, trained: Path) -> None:
    again = trained / "again" / "plain" / "best_fold0.pth"
    again.parent.mkdir(parents=True)
    again.write_bytes(b"another")
    pinned = weights.pin(trained, [system])
    assert {"again/plain/best_fold0.pth", "plain/best_fold0.pth"} <= set(pinned.files)
    assert len(pinned.files) == 5
    assert set(states(trained, pinned).values()) == {"ok"}


def test_files_of_one_system_can_be_checked_alone(system: System, trained: Path) -> None:
    (trained / "bee508").mkdir()
    (trained / "bee508" / "fold0.PTH").write_bytes(b"any")
    second = zoo.card("second_place")
    pinned = weights.pin(trained, [system, second])
    assert pinned.files["bee508/fold0.PTH"].source == "Kaggle dataset vaillant/melanoma-checkpoints"
    assert states(trained, pinned, second) == {"bee508/fold0.PTH": "ok"}
    assert states(trained, weights.manifest(), second) == {"bee508/fold0.PTH": "unknown"}
    assert set(weights.pin(trained, [system, second], second).files) == {"bee508/fold0.PTH"}


def test_a_file_that_no_card_names_is_pinned_by_its_path(trained: Path) -> None:
    odd = 'a "quoted" [name] = é 漢 \\ # no comment.pth'
    (trained / odd).write_bytes(b"any")
    pinned = weights.pin(trained, [])
    assert pinned.files[odd].system == ""
    assert states(trained, pinned)[odd] == "ok"


def test_systems_without_trained_files_are_no_hindrance(system: System, trained: Path) -> None:
    bare = msgspec.structs.replace(system, name="bare", checkpoints=None)
    assert weights.pin(trained, [bare, system]) == weights.pin(trained, [system])


def test_a_name_that_is_no_text_is_refused(trained: Path) -> None:
    (trained / "a\nb.pth").write_bytes(b"any")
    with pytest.raises(InputError, match="a name with such characters cannot stand in a manifest"):
        weights.pin(trained, [])


def test_an_empty_or_absent_folder_has_nothing_to_pin(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no trained files in it"):
        weights.pin(tmp_path, [])
    with pytest.raises(CheckpointError, match="there is no such folder"):
        weights.pin(tmp_path / "absent", [])


def test_a_manifest_is_never_overwritten_by_another(system: System, trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "pinned.toml"
    pinned = weights.pin(trained, [system])
    write_new(target, pinned)
    write_new(target, pinned)
    with pytest.raises(UsageError, match="there is another file"):
        write_new(target, Manifest(note="other"))
    assert weights.manifest(target) == pinned


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[weights", "not a manifest: Expected"),
        (b"\xff\xfe", "cannot be read as a manifest"),
        (b"weights = 3", "not a manifest: Expected `object`"),
        (
            b'[weights.files."a.pth"]\nsha256 = "abc"\nbytes = 1',
            "not a manifest: Expected `str` matching regex",
        ),
        (b'[weights.files."a.pth"]\nbytes = 1', "not a manifest: Object missing required field `sha256`"),
        (b"[weights]\nfile = 1", "not a manifest: Object contains unknown field `file`"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        weights.manifest(tmp_path / "bad.toml")
    assert str(caught.value).startswith(str(tmp_path / "bad.toml"))


def test_what_else_a_manifest_holds_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text(
        tomli_w.dumps({"data": {"x": 1}}) + text(Manifest(note="n")), encoding="utf-8"
    )
    assert weights.manifest(tmp_path / "more.toml") == Manifest(note="n")


# The commands


@pytest.mark.parametrize("command", sorted(cli.weights.commands))
def test_every_command_has_help_with_an_example(command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert re.search(rf"Examples?:\s+melanoma-zoo weights {command}", shown.output)
    assert "--debug" in shown.output


@pytest.mark.parametrize("args", [["list", "first_place"], ["verify"]])
def test_names_and_checksums_need_no_torch(args: list[str], tmp_path: Path) -> None:
    if args == ["verify"]:
        (tmp_path / "any.pth").write_bytes(b"any")
        args = [*args, str(tmp_path)]
    code = f"import sys, cli\ntry: cli.main(['weights', *{args!r}])\nexcept SystemExit as end: assert not end.code\nprint('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.splitlines()[-1] == "False"


def test_list_shows_every_file_of_a_system() -> None:
    shown = run("list", "first_place").output
    assert all(file_name(zoo.card("first_place"), slot) in shown for slot in slots(zoo.card("first_place")))
    assert "boliu0/melanoma-winning-models" in shown
    assert "by preference: best, best_20, final" in shown


def test_list_says_what_is_there_and_what_the_files_settle(trained: Path) -> None:
    (trained / "plain" / "best_fold1.pth").unlink()
    shown = run("list", "small_ones", "--weights", trained)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"plain/best_fold0.pth +yes", shown.output)
    assert re.search(r"plain/best_fold1.pth +missing", shown.output)
    assert "3 of 4 are in" in shown.output
    assert "kernel: cbam.kernel_size is 49 in the trained files (was assumed: 49x49.)" in shown.output
    rows = json.loads(run("list", "small_ones", "--weights", trained, "--json").stdout)
    assert [row["path"] is None for row in rows] == [False, True, False, False]
    assert (rows[1]["member"], rows[1]["fold"], rows[1]["stage"]) == ("plain", 1, "best")


def test_list_goes_on_where_a_file_is_broken(trained: Path) -> None:
    (trained / "attentive" / "best_fold1.pth").write_bytes(b"broken")
    shown = run("list", "small_ones", "--weights", trained)
    assert shown.exit_code == 0
    assert "attentive/best_fold1.pth: damaged" in shown.output


def test_convert_writes_all_files_of_a_folder(trained: Path, tmp_path: Path) -> None:
    shown = run("convert", "small_ones", trained, "--output", tmp_path / "out")
    assert shown.exit_code == 0, shown.output
    written = [Path(line) for line in shown.stdout.splitlines()]
    assert len(written) == 4
    assert all(path.suffix == ".safetensors" and path.is_file() for path in written)
    assert weights.find(zoo.card("small_ones"), tmp_path / "out")


def test_convert_takes_single_files_and_says_what_it_must_be_told(trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pth"
    mine.write_bytes((trained / "plain" / "best_fold0.pth").read_bytes())
    told = run("convert", "small_ones", mine, "--output", tmp_path / "out")
    assert told.exit_code == 2
    assert (
        "one member (--member or --members), one fold (--fold or --folds), one stage (--stage)" in told.stderr
    )
    named = run("convert", "small_ones", mine, "--output", tmp_path / "out", "--member", "plain", "--fold", "1", "--stage", "final")  # fmt: skip
    assert named.exit_code == 0, named.output
    assert (tmp_path / "out" / "plain" / "final_fold1.safetensors").is_file()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--fold", "7"], 2, "there is no fold 7"),
        (["--member", "other"], 2, "small_ones has no member 'other'"),
        (["--stage", "other"], 2, "no stage 'other'"),
        (["--layout", "other"], 2, "no layout is called 'other'; layouts: ours"),
        (["--layout", "gem"], 3, "under layout 'gem'"),
        (
            ["--stage", "final"],
            3,
            "4 of 4 files of small_ones are missing: plain/final_fold0.pth; plain/final",
        ),
    ],
)
def test_convert_fails_with_one_line(
    args: list[str], code: int, message: str, trained: Path, tmp_path: Path
) -> None:
    shown = run("convert", "small_ones", trained, "--output", tmp_path / "out", *args)
    assert shown.exit_code == code, shown.output
    error = [line for line in shown.stderr.splitlines() if not line.startswith("converting")]
    assert len(error) == 1
    assert message in error[0]
    assert not list(tmp_path.glob("out/**/*.safetensors"))


def test_convert_keeps_a_file_that_differs_unless_forced(trained: Path, tmp_path: Path) -> None:
    there = tmp_path / "out" / "plain" / "best_fold0.safetensors"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    only = ("--member", "plain", "--fold", "0")
    shown = run("convert", "small_ones", trained, "--output", tmp_path / "out", *only)
    assert (shown.exit_code, there.read_bytes()) == (2, b"mine")
    assert "use --force" in shown.stderr
    assert (
        run("convert", "small_ones", trained, "--output", tmp_path / "out", *only, "--force").exit_code == 0
    )
    assert there.stat().st_size > 1000


def test_verify_exits_with_3_where_a_file_is_changed_or_missing(trained: Path, tmp_path: Path) -> None:
    pinned = tmp_path / "pinned.toml"
    shown = run("verify", trained, "--write", pinned)
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "4 files" in shown.stderr
    assert run("verify", trained, "--manifest", pinned).exit_code == 0
    assert run("verify", trained).exit_code == 0
    (trained / "plain" / "best_fold0.pth").write_bytes(b"changed")
    (trained / "more.pth").write_bytes(b"more")
    shown = run("verify", trained, "--manifest", pinned)
    assert shown.exit_code == 3
    assert re.search(r"plain/best_fold0.pth +changed +small_ones", shown.output)
    assert re.search(r"more.pth +unknown", shown.output)
    found = run("verify", trained, "--manifest", pinned, "--json")
    assert found.exit_code == 3
    assert {each["name"]: each["state"] for each in json.loads(found.stdout)}[
        "plain/best_fold0.pth"
    ] == "changed"
    (trained / "plain" / "best_fold0.pth").unlink()
    assert run("verify", trained, "--manifest", pinned).exit_code == 3


def test_verify_without_a_pinned_manifest_says_that_nothing_is_known(trained: Path, tmp_path: Path) -> None:
    shown = run("verify", trained)
    assert "No checksum of an official file is known" in shown.output
    assert "4 unknown" in shown.output


def test_verify_says_that_there_was_nothing_to_verify(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, of in (
        ((tmp_path / "empty",), ""),
        ((trained, "--system", "second_place"), " of second_place"),
    ):
        shown = run("verify", *words)
        assert (shown.exit_code, shown.stdout) == (3, "")
        assert f"no trained files{of} in it, so nothing was verified" in " ".join(shown.stderr.split())
        told = run("verify", *words, "--json")
        assert (told.exit_code, json.loads(told.stdout)) == (3, [])


def test_verify_takes_write_or_manifest_and_overwrites_nothing(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("mine = 1\n", encoding="utf-8")
    both = run("verify", trained, "--write", tmp_path / "a.toml", "--manifest", tmp_path / "mine.toml")
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
    assert run("verify", trained, "--write", tmp_path / "mine.toml").exit_code == 2
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8") == "mine = 1\n"


def test_debug_shows_where_a_command_of_the_group_failed(tmp_path: Path) -> None:
    shown = run("list", "small", "--debug")
    assert isinstance(shown.exception, zoo.MelanomaZooError)
    assert run("list", "small").stderr.startswith("Error: no system is called 'small'")


def test_names_from_files_cannot_move_the_cursor(trained: Path, tmp_path: Path) -> None:
    (trained / "\x1b[2Jgone.pth").write_bytes(b"any")
    for args in (("verify", trained), ("verify", trained, "--write", tmp_path / "a.toml")):
        assert "\x1b[2J" not in run(*args).output


def test_a_file_that_may_not_be_read_is_one_line(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> str:  # an administrator may read anything, so permissions prove nothing
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(weights.checksums, "sha256", deny)
    shown = run("verify", trained)
    assert shown.exit_code == 4
    assert shown.stderr.splitlines()[-1].endswith("best_fold0.pth: Permission denied")
