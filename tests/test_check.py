"""`new` writes what runs at once; `check` finds every planted defect and names the mend."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import cli
import zoo
from evaluate.jobs import untrained
from evaluate.soundness import sound
from reports.check import check
from reports.check import line as line_of
from zoo import registry
from zoo.card import Checkpoints, System

NETWORK = """\
import os, time
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, classes)
        {init}
    def forward(self, image):
        {first}
        features = self.conv(image).relu().mean((2, 3))
        logits = self.head(features)
        {last}
        return logits
def build(member):
    {build}
    return Net(len(member.classes))
"""


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    yield
    registry._folders.clear()
    for name in set(sys.modules) - modules:
        if name.startswith("net_"):
            del sys.modules[name]


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


def plant(folder: Path, number: str, **defect: str) -> str:
    """A system of one small network with a defect; its name."""
    run("new", f"net_{number}", "--size", 16, "--folder", folder)
    parts = {"init": "pass", "first": "pass", "last": "pass", "build": "pass", **defect}
    (folder / f"net_{number}_network.py").write_text(NETWORK.format(**parts), encoding="utf-8")
    (system,) = [each for each in zoo.add_folder(folder) if each.name == f"net_{number}"]
    return system.name


def states(name: str, **options: object) -> dict[str, str]:
    return states_of(zoo.card(name), **options)


def states_of(card: System, **options: object) -> dict[str, str]:
    return {each.name: each.state for each in check(card, **options)}


def failed(name: str, **options: object) -> set[str]:
    checks = check(zoo.card(name), **options)
    assert all(each.mend for each in checks if each.state == "fail")
    return {each.name for each in checks if each.state == "fail"}


def test_a_sound_network_passes(tmp_path: Path) -> None:
    found = states(plant(tmp_path, "sound"))
    assert {name for name, state in found.items() if state == "n.a."} == {"checkpoint", "checksum", "blend", "training data"}  # fmt: skip
    assert "fail" not in found.values()


@pytest.mark.parametrize(
    ("number", "defect", "fails"),
    [
        ("meta", {"init": "float(self.conv.weight.sum())"}, {"builds on meta"}),
        ("builds", {"build": "raise ValueError('no')"}, {"builds on meta", "builds"}),
        ("shape", {"last": "logits = logits[:, :1]"}, {"output"}),
        ("finite", {"last": "logits = logits / 0 * 0"}, {"output"}),
        ("softmax", {"last": "logits = logits.softmax(1)"}, {"output"}),
        ("batch", {"last": "logits = logits - logits.mean(0)"}, {"batch 1 and 8"}),
        ("again", {"last": "logits = logits + torch.rand(1)"}, {"same again", "batch 1 and 8", "channels last", "second process", "views"}),
        ("strides", {"first": "if not image.is_contiguous(): raise RuntimeError('view size')"}, {"channels last", "views"}),
        ("process", {"last": "logits = logits + os.getpid()"}, {"second process"}),
        ("double", {"init": "self.register_buffer('wide', torch.zeros(2, dtype=torch.float64))"}, {"speed and memory"}),
        ("leak", {"first": "self.kept = [*getattr(self, 'kept', []), torch.ones(2**25)]"}, {"speed and memory"}),
    ],
)  # fmt: skip
def test_each_check_finds_its_defect(
    tmp_path: Path, number: str, defect: dict[str, str], fails: set[str]
) -> None:
    card = zoo.card(plant(tmp_path, number, **defect))
    # Exporting is slow and comes last: it has a test of its own.
    checks = list(
        itertools.takewhile(lambda each: each.name != "exports", sound(untrained(card, 0).trainings[0], card))
    )
    assert {each.name for each in checks if each.state == "fail"} == fails
    assert all(each.mend for each in checks if each.state == "fail")


def test_what_cannot_be_exported_or_counted_is_told(tmp_path: Path) -> None:
    name = plant(tmp_path, "export", first="if float(image.flatten()[0]) > 9e9: raise RuntimeError")
    assert failed(name) == {"exports", "counters"}


def test_a_card_that_says_too_little(tmp_path: Path) -> None:
    name = plant(tmp_path, "facts")
    path = tmp_path / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: text.index("[[sources]]")], encoding="utf-8")
    registry._folders.clear()
    zoo.add_folder(tmp_path)
    assert failed(name) == {"card"}


def test_trained_files_and_their_checksums(tmp_path: Path) -> None:
    name = plant(tmp_path, "trained")
    torch.save(zoo.build(name).state_dict(), tmp_path / "good.pth")
    torch.save(zoo.build("timm:test_resnet").state_dict(), tmp_path / "other.pth")
    assert states(name, weights=tmp_path / "good.pth")["checkpoint"] == "pass"
    assert states(name, weights=tmp_path / "good.pth")["checksum"] == "n.a."
    assert failed(name, weights=tmp_path / "other.pth") == {"checkpoint"}
    run("weights", "verify", tmp_path, "--write", tmp_path / "pinned.toml.txt")
    listed = {"weights": tmp_path / "good.pth", "listed": tmp_path / "pinned.toml.txt"}
    assert states(name, **listed)["checksum"] == "pass"
    torch.save(zoo.build(name, seed=1).state_dict(), tmp_path / "good.pth")
    assert failed(name, **listed) == {"checksum"}


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    card = zoo.card(plant(tmp_path, "folders"))
    (own,) = card.members
    both = msgspec.structs.replace(
        card,
        members=tuple(msgspec.structs.replace(own, name=name) for name in ("one", "two")),
        checkpoints=Checkpoints(layout="ours", pattern="{member}/fold{fold}.pth"),
    )
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        torch.save(zoo.build(card.name, seed=seed).state_dict(), tmp_path / name / "fold0.pth")
    run("weights", "verify", tmp_path, "--write", tmp_path / "pinned.toml.txt")
    given = {"weights": tmp_path, "listed": tmp_path / "pinned.toml.txt", "members": ["one"]}
    assert states_of(both, **given)["checksum"] == "pass"
    (tmp_path / "two" / "fold0.pth").replace(tmp_path / "one" / "fold0.pth")
    assert states_of(both, **given)["checksum"] == "fail"


def test_one_file_of_several_networks_is_that_of_its_own(tmp_path: Path) -> None:
    card = zoo.card(plant(tmp_path, "several"))
    (own,) = card.members
    both = msgspec.structs.replace(
        card,
        members=(own, msgspec.structs.replace(own, name="other")),
        checkpoints=Checkpoints(layout="ours", pattern="{member}.pth"),
    )
    torch.save(zoo.build(card.name).state_dict(), tmp_path / f"{own.name}.pth")
    checks = check(both, weights=tmp_path / f"{own.name}.pth")
    assert {each.state for each in checks if each.name == "checkpoint"} == {"pass"}
    assert {each.member for each in checks if each.name == "output"} == {own.name}


def test_patients_of_a_training_table(tmp_path: Path) -> None:
    labels, training = tmp_path / "labels.csv", tmp_path / "train.csv"
    table = pd.DataFrame(
        {"isic_id": ["a", "b"], "diagnosis": ["melanoma", "nevus"], "patient_id": ["p1", "p2"]}
    )
    table.to_csv(labels, index=False)
    pd.DataFrame({"image_name": ["c"], "patient_id": ["p1"]}).to_csv(training, index=False)
    scores = tmp_path / "mine.csv"
    pd.DataFrame({"image_name": ["a", "b"], "target": [1, 0]}).to_csv(scores, index=False)
    name = f"csv:{scores}"
    assert failed(name, labels=labels, training=[training]) == {"training data"}
    pd.DataFrame({"image_name": ["c"], "patient_id": ["p9"]}).to_csv(training, index=False)
    assert states(name, labels=labels, training=[training])["training data"] == "pass"


def test_the_command_says_it_for_people_and_programs(tmp_path: Path) -> None:
    name = plant(tmp_path, "cli", last="logits = logits[:, :1]")
    found = json.loads(run("check", name, "--json", code=3))
    assert [each["name"] for each in found["checks"] if each["state"] == "fail"] == ["output"]
    text = run("check", name, code=3)
    assert "What to mend" in text
    assert "return logits (N, classes)" in text


def test_each_check_is_told_as_soon_as_it_was_made(tmp_path: Path) -> None:
    name = plant(tmp_path, "told", last="logits = logits[:, :1]")
    result = CliRunner().invoke(cli.main, ["check", name])
    lines = result.stderr.splitlines()
    made = check(zoo.card(name))
    assert lines[0] == "checking networks: 0 of 1"
    assert [line for line in lines if not line.startswith("checking")] == [line_of(each) for each in made]
    failed = next(each for each in made if each.state == "fail")
    assert line_of(failed) == f"fail output, net_told: {failed.detail}"
    seen: list[str] = []
    check(
        zoo.card(name),
        finished=lambda each: seen.append(each.name),
        progress=lambda *step: seen.append(str(step)),
    )
    assert seen.index("card") < seen.index(str(("checking networks", 0, 1))) < seen.index("builds")


def test_a_table_that_cannot_be_read_is_told_before_a_network_is_built(tmp_path: Path) -> None:
    name = plant(tmp_path, "early", build="raise AssertionError('it was built')")
    (tmp_path / "labels.csv").write_text("")
    result = CliRunner().invoke(
        cli.main, ["check", name, "--labels", str(tmp_path / "labels.csv"), "--train-table", str(tmp_path / "labels.csv")]
    )  # fmt: skip
    assert result.exit_code == 3
    assert "pass card" not in result.stderr
    assert "labels.csv" in result.stderr


def test_new_pins_a_trained_file_and_it_runs_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = zoo.build("timm:test_resnet,classes=3,melanoma=1", seed=2)
    torch.save(network.state_dict(), tmp_path / "my.pth")
    run("new", "net_timm", "--backbone", "test_resnet", "--classes", "BCC,MEL,NV", "--weights", tmp_path / "my.pth", "--folder", tmp_path)  # fmt: skip
    found = {each["name"]: each["state"] for each in json.loads(run("check", "net_timm", "--zoo", tmp_path, "--weights", tmp_path / "my.pth", "--json"))["checks"]}  # fmt: skip
    assert (found["checkpoint"], found["checksum"], found["card"]) == ("pass", "pass", "pass")
    assert zoo.card("net_timm").members[0].classes == ("BCC", "MEL", "NV")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sge_b3"], "is taken by sge_b3"),
        (["My-Net"], "small letters"),
        (["net_x", "--classes", "9"], "say which is melanoma"),
        (["net_x", "--classes", "AK,NV"], "call melanoma MEL"),
        (["net_x", "--classes", "9" * 5000, "--melanoma", "0"], "from 1 to 10000"),
        (["net_x", "--backbone", "resnet81"], "did you mean timm:resnet"),
    ],
)
def test_new_refuses_what_makes_no_card(tmp_path: Path, words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli.main, ["new", *words, "--folder", str(tmp_path)])
    assert result.exit_code == 2
    assert said in result.output
    assert not list(tmp_path.iterdir())


def test_new_replaces_nothing_unasked(tmp_path: Path) -> None:
    run("new", "net_twice", "--folder", tmp_path)
    before = (tmp_path / "net_twice.toml").read_text(encoding="utf-8")
    run("new", "net_twice", "--folder", tmp_path, "--size", 64, code=2)
    assert (tmp_path / "net_twice.toml").read_text(encoding="utf-8") == before
    run("new", "net_twice", "--folder", tmp_path, "--size", 64, "--force")
    assert "size = 64" in (tmp_path / "net_twice.toml").read_text(encoding="utf-8")
