"""Names, patterns, aliases and systems of other packages."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

import zoo
from zoo.card import Member
from zoo.errors import CardError, UnknownNameError, UsageError

CARD = """\
schema = 1
name = "{name}"
title = "{title}"
group = "own"
summary = "Small."
folds = 1
aliases = {aliases}

[[members]]
name = "net"
backbone = "resnet10t"
size = 64
classes = ["MEL", "NV"]
melanoma = 0
"""


def write(folder: Path, name: str = "own_10", title: str = "Own 10", aliases: str = "[]") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(CARD.format(name=name, title=title, aliases=aliases), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _registry_as_it_was() -> Iterator[None]:
    yield
    for name in ("own_2", "own_10", "sge_b3"):
        with contextlib.suppress(UnknownNameError):
            zoo.unregister(name)


def test_names_are_listed_by_pattern_and_group_in_natural_order(tmp_path: Path) -> None:
    zoo.register(write(tmp_path, "own_10", "Own 10"))
    zoo.register(write(tmp_path, "own_2", "Own 2"))
    assert zoo.systems("own*") == ["own_2", "own_10"]
    assert zoo.systems(group="own") == ["own_2", "own_10"]
    assert zoo.systems(group="nobody") == []
    assert len(zoo.systems()) == 10


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("SGE-B3", "sge_b3"),
        ("SGE_B3", "sge_b3"),
        ("S2MLP_CBAM", "s2_cbam_b3"),
        ("s2-cbam-b3", "s2_cbam_b3"),
        ("First_place", "first_place"),
        (" third  place ", "third_place"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert zoo.card(alias).name == name


def test_an_unknown_name_comes_with_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"'sge_b4'; did you mean sge_b3"):
        zoo.card("sge_b4")
    with pytest.raises(UnknownNameError, match="systems: baseline_b3, first_place"):
        zoo.card("?")


def test_every_name_and_alias_finds_its_own_system() -> None:
    for name in zoo.systems():
        card = zoo.card(name)
        assert all(zoo.card(spelling) is card for spelling in (card.title, *card.aliases))


def test_a_card_registered_by_path_builds_at_once(tmp_path: Path) -> None:
    zoo.register(write(tmp_path))
    network = zoo.build("Own 10")
    assert not network.training
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_an_own_builder_is_used(tmp_path: Path) -> None:
    def build(member: Member) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(len(member.classes)))

    zoo.register(write(tmp_path), build=build)
    assert zoo.build("own_10")(torch.zeros(2, 3, 8, 8)).shape == (2, 2)


def test_weights_are_seeded_and_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    zoo.register(write(tmp_path))
    state = torch.random.get_rng_state()
    first, again, other = (zoo.build("own_10", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(("title", "aliases"), [("SGE B3", "[]"), ("Own", '["2nd-place"]')])
def test_taken_names_are_refused(tmp_path: Path, title: str, aliases: str) -> None:
    with pytest.raises(UsageError, match="is taken by"):
        zoo.register(write(tmp_path, "own_2", title, aliases))
    assert "own_2" not in zoo.systems()


def test_a_card_changed_in_code_is_validated_too(tmp_path: Path) -> None:
    system = zoo.register(write(tmp_path))
    with pytest.raises(CardError, match="X Y: not a valid card"):
        zoo.register(msgspec.structs.replace(system, name="X Y", title="Another"))


def test_taking_back_what_is_not_there_is_told() -> None:
    with pytest.raises(UnknownNameError, match="no system is called 'nothing'"):
        zoo.unregister("nothing")


def test_replacing_needs_to_be_said_and_can_be_taken_back(tmp_path: Path) -> None:
    path = write(tmp_path, "sge_b3", "SGE-B3")
    with pytest.raises(UsageError, match="taken by sge_b3"):
        zoo.register(path)
    zoo.register(path, replace=True)
    assert zoo.card("sge_b3").group == "own"
    zoo.unregister("sge_b3")
    assert zoo.card("sge_b3").group == "attention"


def test_names_and_cards_need_no_torch() -> None:
    code = "import sys, zoo; zoo.card('sge_b3'); assert zoo.systems(); print([m for m in ('torch', 'timm', 'pandas') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
