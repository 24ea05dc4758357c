"""Systems of other packages and folders: found without running their code, and never in the way of others."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import cli
import zoo
from reports.page.build import page
from reports.record import load
from reports.rows import rows
from zoo import registry
from zoo.errors import CardError, InputError, UnknownNameError
from zoo.reading import read

CARD = """\
schema = 1
name = "{name}"
title = "{title}"
group = "own"
summary = "Small."
folds = 1

[[members]]
name = "net"
network = "{network}"
size = 16
classes = ["NV", "MEL"]
melanoma = 1
"""
BUILDER = """\
from torch import nn
LOADED = True
def build(member):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * member.size**2, len(member.classes)))
"""


def write(folder: Path, name: str, network: str, title: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, title=title or name.title(), network=network), encoding="utf-8")
    return path


def install(site: Path, package: str, builder: str = BUILDER, value: str = "") -> Path:
    """A package with an entry point, as pip leaves it behind; the folder of its cards."""
    cards = site / package / "cards"
    cards.mkdir(parents=True)
    (site / package / "__init__.py").write_text("", encoding="utf-8")
    (site / package / "nets.py").write_text(builder, encoding="utf-8")
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        f"[melanoma_zoo.systems]\n{package} = {value or f'{package}.cards'}\n", encoding="utf-8"
    )
    return cards


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path whose packages are found; afterwards nothing of it is known."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    modules = set(sys.modules)
    registry._installed.cache_clear()
    yield folder
    registry._installed.cache_clear()
    registry._folders.clear()
    for name in set(sys.modules) - modules:
        if name.partition(".")[0].startswith(("plug_", "own_")):
            del sys.modules[name]


def test_an_installed_package_is_found_and_not_imported(site: Path) -> None:
    write(install(site, "plug_a"), "alien", "plug_a.nets:build")
    assert "alien" in zoo.systems()
    assert zoo.origin("alien") == "plugin plug_a (plug_a.cards), alien.toml"
    assert not [name for name in sys.modules if name.startswith("plug_a")]
    assert zoo.build("alien")(torch.zeros(2, 3, 16, 16)).shape == (2, 2)


def test_a_fresh_process_lists_it_without_torch(site: Path) -> None:
    write(install(site, "plug_b", "raise RuntimeError('must not run')"), "alien", "plug_b.nets:build")
    code = "import sys, zoo; assert 'alien' in zoo.systems(); print([m for m in ('torch', 'plug_b') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert run.stdout.strip() == "[]"
    assert run.stderr == ""


def broken_package(site: Path) -> None:
    install(site, "plug_none")


def broken_toml(site: Path) -> None:
    (install(site, "plug_toml") / "bad.toml").write_text("schema = ", encoding="utf-8")


def broken_value(site: Path) -> None:
    install(site, "plug_gone", value="plug_nowhere.cards")


def broken_field(site: Path) -> None:
    path = write(install(site, "plug_field"), "bad", "plug_field.nets:build")
    path.write_text(path.read_text(encoding="utf-8") + "colour = 3\n", encoding="utf-8")


def shadowing(site: Path) -> None:
    write(install(site, "plug_shadow"), "sge_b3", "plug_shadow.nets:build", title="Mine")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (broken_package, "plugin plug_none (plug_none.cards): no card (.toml) in"),
        (broken_toml, "bad.toml: not valid TOML"),
        (broken_value, "there is no package 'plug_nowhere'"),
        (broken_field, "bad.toml:14: Object contains unknown field `colour`"),
        (shadowing, "sge_b3: the name 'sge_b3' is taken by sge_b3"),
    ],
)
def test_a_broken_plugin_is_named_once_and_the_others_work(site: Path, plant, said: str, caplog) -> None:
    plant(site)
    write(install(site, "plug_z"), "fine", "plug_z.nets:build")
    with caplog.at_level(logging.WARNING):
        assert "fine" in zoo.systems()
        assert zoo.card("sge_b3").group == "attention"
        zoo.systems()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("left out: ")
    assert said in caplog.messages[0]


def test_two_plugins_cannot_have_one_name(site: Path, caplog) -> None:
    write(install(site, "plug_1"), "same", "plug_1.nets:build")
    write(install(site, "plug_2"), "same", "plug_2.nets:build")
    assert zoo.origin("same").startswith("plugin plug_1")
    assert "plugin plug_2 (plug_2.cards), same.toml: same: the name 'same' is taken by same" in caplog.text


def test_debug_shows_where_a_broken_plugin_broke(site: Path, caplog) -> None:
    broken_toml(site)
    with caplog.at_level(logging.DEBUG, logger="zoo.plugins"):
        zoo.systems()
    assert "TOMLDecodeError" in caplog.text


def test_a_folder_is_added_with_its_builder_files(site: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine", "own_net", "own_nets:build")
    (tmp_path / "mine" / "own_nets.py").write_text(BUILDER, encoding="utf-8")
    (tmp_path / "mine" / "pyproject.toml").write_text("[project]\nname = 'x'\n", encoding="utf-8")
    (system,) = zoo.add_folder(tmp_path / "mine")
    assert system.name == "own_net"
    assert zoo.build("own_net")(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert [each.name for each in zoo.add_folder(tmp_path / "mine")] == ["own_net"]


@pytest.mark.parametrize(
    ("make", "said"), [(False, "there is no such folder"), (True, "no card (.toml) in it")]
)
def test_a_folder_without_cards_is_refused(tmp_path: Path, make: bool, said: str) -> None:
    if make:
        (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        zoo.add_folder(tmp_path / "mine")


def test_a_card_finds_its_file_from_its_own_folder(site: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "mine", "own_file", "onnx")
    path.write_text(path.read_text(encoding="utf-8") + 'file = "net.onnx"\n', encoding="utf-8")
    (system,) = zoo.add_folder(tmp_path / "mine")
    assert system.members[0].file == str(tmp_path / "mine" / "net.onnx")
    assert read(path) == system, "and so it is with `zoo.register`"


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("raise RuntimeError('at import')", "cannot be imported: RuntimeError: at import"),
        ("", "cannot be imported: AttributeError"),
        ("build = 3", "is no function"),
        ("def build(member): raise ValueError('no width')", "failed with ValueError: no width"),
        ("def build(member): return 7", "returned int"),
    ],
)
def test_a_broken_builder_is_told_in_one_line(site: Path, builder: str, said: str) -> None:
    write(install(site, "plug_c", builder), "alien", "plug_c.nets:build")
    with pytest.raises(CardError, match=said):
        zoo.build("alien")


def test_a_system_with_a_broken_builder_is_left_out_of_all(site: Path, caplog) -> None:
    write(install(site, "plug_d", "import nothing_of_that_name"), "alien", "plug_d.nets:build")
    assert "alien" in zoo.systems()
    kept = registry.usable(zoo.systems())
    assert "alien" not in kept
    assert len(kept) == 8
    assert "left out: alien: net: its builder plug_d.nets:build cannot be imported" in caplog.text


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(cli.main, [*words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_the_option_stands_before_and_after_the_command(site: Path, tmp_path: Path) -> None:
    write(tmp_path / "mine", "own_net", "own_nets:build")
    assert "own_net" in run("--zoo", str(tmp_path / "mine"), "list", "own*")
    registry._folders.clear()
    assert "own_net" in run("list", "own*", "--zoo", str(tmp_path / "mine"))
    registry._folders.clear()
    assert "no system matches" in run("list", "own*")
    assert "no card (.toml)" in run("list", "--zoo", str(site), code=3)


def test_what_a_builder_imports_decides_what_is_kept(site: Path) -> None:
    from zoo import cache, kinds

    write(install(site, "plug_e"), "alien", "plug_e.nets:build")
    (member,) = zoo.card("alien").members
    before = cache.specification(member)
    (site / "plug_e" / "layers.py").write_text("WIDTH = 3\n", encoding="utf-8")
    kinds._code.cache_clear()
    assert cache.specification(member) != before


def test_counting_and_timing_run_it_in_other_processes(site: Path) -> None:
    from benchmarks.latency import quick_latency
    from benchmarks.operations import count_all

    write(install(site, "plug_f"), "alien", "plug_f.nets:build")
    (member,) = zoo.card("alien").members
    (counted,) = count_all([member], workers=1)
    assert (counted.parameters, counted.macs) == (768 * 2 + 2, 768 * 2)
    (timed,) = quick_latency([member], device="cpu", threads=1)
    assert timed.error == ""
    assert timed.median_ms is not None


def test_an_unknown_name_is_still_told_with_the_nearest(site: Path) -> None:
    write(install(site, "plug_g"), "alien", "plug_g.nets:build")
    with pytest.raises(UnknownNameError, match="did you mean alien"):
        zoo.card("aliens")


def test_the_environment_names_folders_for_every_command(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    write(tmp_path / "one", "own_net", "own_nets:build")
    write(tmp_path / "two", "own_other", "own_others:build")
    folders = [tmp_path / "one", tmp_path / "gone", tmp_path / "two"]
    monkeypatch.setenv("MELANOMA_ZOO_PATH", ":".join(map(str, folders)))
    assert {"own_net", "own_other"} <= set(run("list", "own*").split())
    assert zoo.origin("own_net") == f"{tmp_path / 'one'}, own_net.toml"
    assert next(m for m in caplog.messages if "gone: there is no such folder" in m).startswith("left out: MELANOMA_ZOO_PATH: ")  # fmt: skip
    caplog.clear()
    assert [each.name for each in zoo.add_folder(tmp_path / "one")] == ["own_net"], "named twice is no clash"
    assert not caplog.messages


@pytest.mark.parametrize(
    "builder", ["def build(member): raise ValueError('no width')", "import nothing_of_that_name"]
)
def test_a_builder_that_fails_costs_its_own_system_only(site: Path, tmp_path: Path, builder: str) -> None:
    write(install(site, "plug_h"), "alien", "plug_h.nets:build", title="Alien")
    write(install(site, "plug_i", builder), "broken", "plug_i.nets:build", title="Broken")
    run("compare", "broken", "alien", "second_place", "--no-latency", "--no-predictions", "--output", str(tmp_path / "out"))  # fmt: skip
    record = load(tmp_path / "out" / "record.json")
    found = {row["system"]: row for row in rows(record)}
    assert found["alien"]["macs_pass"] == 768 * 2
    assert found["broken"]["macs_pass"] is None
    for key in ("macs_pass", "parameters_networks", "reduction_networks_second_place"):
        assert "its builder plug_i.nets:build" in found["broken"][f"{key}_reason"]
    assert "n/a (cannot be counted: net: its builder" in (tmp_path / "out" / "comparison.md").read_text()
    assert page(record)
    assert "alien" in run("count", "alien", "broken", "--json")
    assert "its builder plug_i.nets:build" in run("count", "broken", code=3)
    planned = run("plan", "alien", "broken", "--device", "cpu", "--threads", "1")
    assert "Alien" in planned
    assert "Broken" not in planned


def test_a_network_that_cannot_be_made_is_not_run(site: Path, tmp_path: Path, draw) -> None:
    write(install(site, "plug_j"), "alien", "plug_j.nets:build")
    write(install(site, "plug_k", "def build(member): return 7"), "broken", "plug_k.nets:build")
    for number in range(4):
        draw(tmp_path / "photos" / f"I_{number}.jpg", number)
    (tmp_path / "photos" / "labels.csv").write_text("image,target\nI_0,1\nI_1,0\nI_2,1\nI_3,0\n")
    words = ("compare", "--no-latency", "--test-set", str(tmp_path / "photos"), "--untrained", "0", "--resamples", "40")  # fmt: skip
    shown = run(*words, "broken", "alien", "--format", "json")
    answer = json.loads(shown[shown.index("{\n") : shown.rindex("}") + 1])
    found = {row["system"]: row for row in answer["systems"]}
    assert found["alien"]["roc_auc"] is not None
    assert "returned int" in found["broken"]["roc_auc_reason"]
    assert "returned int" in run(*words, "broken", code=3)
