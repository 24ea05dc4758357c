"""Finding the trained files of a system in a folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import weights
import zoo
from weights import copies
from weights.checkpoint import _READERS
from weights.copies import Origin
from weights.files import given as given_files
from weights.files import search
from weights.naming import ENDINGS, Slot, file_name, identify, slots, trained_files
from zoo.card import PublishedPredictions, System
from zoo.errors import CardError, CheckpointError, UnknownNameError, UsageError
from zoo.reading import parse

CARD = """\
schema = 1
name = "mine"
title = "Mine"
group = "own"
summary = "Networks."
folds = 2

[defaults]
classes = ["MEL", "NV"]
melanoma = 0
backbone = "test_efficientnet"
size = 32

[[members]]
name = "one"

[[members]]
name = "two"

[checkpoints]
layout = "enet"
pattern = "{member}_{stage}_fold{fold}.pth"
stages = ["best", "final"]
"""
STAGED = parse(CARD)
NESTED = zoo.card("second_place")


def put(folder: Path, *names: str, content: str = "") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content or path.name, encoding="utf-8")


def all_names(system: System, stage: str | None = None) -> list[str]:
    return [file_name(system, slot) for slot in slots(system, stage=stage)]


def refused(system: System, folder: Path, message: str, **options: Any) -> str:
    with pytest.raises(CheckpointError, match=message) as caught:
        weights.find(system, folder, **options)
    said = str(caught.value)
    assert said.startswith(str(folder))
    assert "\n" not in said
    return said


def copy(path: Path, **changes: Any) -> None:
    said = {"card": "mine", "member": "one", "fold": 0, "stage": "best", "source": "a.pth"}
    said |= {"source_sha256": "0" * 64, "source_layout": "enet", **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    copies.write(path, {"a": torch.zeros(2)}, Origin(**said))


# What is found


@pytest.mark.parametrize("name", zoo.systems())
def test_a_card_and_a_folder_find_every_file_of_a_system(name: str, tmp_path: Path) -> None:
    system = zoo.card(name)
    put(tmp_path, *all_names(system))
    found = weights.find(system, tmp_path)
    assert [(f.member, f.fold) for f in found] == [
        (member.name, fold) for member in system.members for fold in range(system.folds)
    ]
    assert [f.path for f in found] == [tmp_path / each for each in all_names(system)]


def test_the_official_names_are_as_published() -> None:
    first = set(all_names(zoo.card("first_place"), "best_20"))
    assert len(first) == 90
    assert "9c_meta_1.5e-5_b7ns_384_ext_15ep_best_20_fold4.pth" in first
    assert "bee517/fold3.PTH" in all_names(NESTED)
    assert "EfficientNetB6_768x768_2019-2020_epoch10_auc_0.97.h5" in all_names(zoo.card("third_place"))
    assert "9c_SGE-b3_384_384_35ep_epoch20_fold1.pth" in all_names(zoo.card("sge_b3"), "epoch20")
    assert "9c_SGE-b3_384_384_35ep_best_20_fold1.pth" in all_names(zoo.card("sge_b3"), "best_20")


@pytest.mark.parametrize("ending", [".pth", ".PTH", ".Pth"])
@pytest.mark.parametrize("outside", ["", "versions/3/", "a/b/c/"])
@pytest.mark.parametrize("inside", ["", "i0o0/"])
def test_a_download_may_nest_and_spell_endings_as_it_likes(
    ending: str, outside: str, inside: str, tmp_path: Path
) -> None:
    for member in NESTED.members:
        put(tmp_path, *(f"{outside}{member.name}/{inside}fold{fold}{ending}" for fold in range(5)))
    found = weights.find(NESTED, tmp_path)
    assert [f.path for f in found] == [
        tmp_path / f"{outside}{member.name}/{inside}fold{fold}{ending}"
        for member in NESTED.members
        for fold in range(5)
    ]


def test_a_fold_counts_only_in_its_members_folder(tmp_path: Path) -> None:
    put(tmp_path, *(f"fold{fold}.PTH" for fold in range(5)), "bee508/bee517/fold0.PTH")
    put(tmp_path, *(f"bee508/fold{fold}.PTH" for fold in range(5)))
    found = weights.find(NESTED, tmp_path, members=["bee508"])
    assert {f.path.parent for f in found} == {tmp_path / "bee508"}
    assert weights.find(NESTED, tmp_path / "bee508", members=["bee508"], folds=[0])
    refused(NESTED, tmp_path, "missing: bee517/fold1.PTH; .*bee517/fold4.PTH$", members=["bee517"])


def test_members_and_folds_are_selected_in_the_order_of_the_card(tmp_path: Path) -> None:
    put(tmp_path, "two_best_fold1.pth", "one_best_fold1.pth")
    found = weights.find(STAGED, tmp_path, members=["two", "one", "two"], folds=[1, 1])
    assert [(f.member, f.fold) for f in found] == [("one", 1), ("two", 1)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"members": ["three"]},
            UnknownNameError,
            "mine has no member 'three'; its members are: 0 one, 1 two",
        ),
        ({"folds": [2]}, UsageError, "there is no fold 2: mine has folds 0 to 1"),
        ({"folds": [-1]}, UsageError, "there is no fold -1"),
        ({"stage": "last"}, UsageError, "mine has no stage 'last'; stages: best, final"),
    ],
)
def test_unknown_choices_are_refused_with_the_known(
    options: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        weights.find(STAGED, tmp_path, **options)


def test_a_system_without_stages_or_folds_says_so(tmp_path: Path) -> None:
    third = zoo.card("third_place")
    with pytest.raises(UsageError, match="third_place has no stage 'best'; its files have no stages"):
        weights.find(third, tmp_path, stage="best")
    with pytest.raises(UsageError, match="third_place has fold 0 alone"):
        weights.find(third, tmp_path, folds=[1])


# Stages


def test_the_first_complete_stage_is_taken_for_each_member(tmp_path: Path) -> None:
    put(tmp_path, "one_best_fold0.pth", "one_final_fold0.pth", "one_final_fold1.pth")
    put(tmp_path, *(f"two_{stage}_fold{fold}.pth" for stage in ("best", "final") for fold in (0, 1)))
    found = weights.find(STAGED, tmp_path)
    assert [(f.member, f.stage) for f in found] == [("one", "final")] * 2 + [("two", "best")] * 2
    assert {f.stage for f in weights.find(STAGED, tmp_path, stage="final")} == {"final"}
    refused(STAGED, tmp_path, "1 of 4 files of mine are missing: one_best_fold1.pth$", stage="best")


def test_stages_are_never_mixed(tmp_path: Path) -> None:
    put(tmp_path, "one_best_fold0.pth", "one_final_fold1.pth")
    refused(
        STAGED,
        tmp_path,
        r"folds of one are only there in different stages \(best: 0; final: 1\)",
        members=["one"],
    )
    assert weights.find(STAGED, tmp_path, members=["one"], folds=[1])[0].stage == "final"


# What is missing


def test_all_that_is_missing_stands_in_one_message(tmp_path: Path) -> None:
    first = zoo.card("first_place")
    said = refused(first, tmp_path, "90 of 90 files of first_place are missing")
    assert said.partition(" will do): ")[2].split("; ") == all_names(first)


@settings(max_examples=30, deadline=None)
@given(absent=st.sets(st.sampled_from(all_names(NESTED)), min_size=1), nested=st.booleans())
def test_exactly_the_missing_files_are_listed(absent: set[str], nested: bool) -> None:
    with TemporaryDirectory() as name:
        put(Path(name) / "x" if nested else Path(name), *(set(all_names(NESTED)) - absent))
        said = refused(NESTED, Path(name), f"{len(absent)} of 15 files of second_place are missing: ")
        assert set(said.partition("missing: ")[2].split("; ")) == absent


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    put(tmp_path, "file")
    refused(STAGED, tmp_path / "absent", "there is no such folder")
    refused(STAGED, tmp_path / "file", "is not a folder")


def test_a_card_without_checkpoints(tmp_path: Path) -> None:
    card = parse(CARD.partition("[checkpoints]")[0])
    with pytest.raises(CheckpointError, match=r"its card does not say .* add \[checkpoints\]"):
        weights.find(card, tmp_path)
    whole = msgspec.structs.replace(card.members[0], network="torch", file="net.pt2")
    scores = (PublishedPredictions(file="a.csv", kind="rank"),)
    for members, why in (((whole,), "is a file, weights and all"), ((), "has no network")):
        with pytest.raises(CheckpointError, match=f"no trained files of it: it.* {why}"):
            search(msgspec.structs.replace(card, members=members, predictions=scores), tmp_path)


# What could be meant twice


def test_two_files_of_one_name_must_be_the_same(tmp_path: Path) -> None:
    put(tmp_path, *all_names(STAGED))
    put(tmp_path, "again/one_best_fold0.pth")
    assert weights.find(STAGED, tmp_path)[0].path == tmp_path / "one_best_fold0.pth"
    put(tmp_path, "again/one_best_fold0.pth", content="other")
    said = refused(STAGED, tmp_path, "differ, and both could be meant: keep one of them")
    assert str(tmp_path / "again/one_best_fold0.pth") in said
    assert str(tmp_path / "one_best_fold0.pth") in said


def test_problems_and_missing_files_are_told_together(tmp_path: Path) -> None:
    put(tmp_path, "one_best_fold0.pth", "x/one_best_fold0.pth")
    put(tmp_path, "x/one_best_fold0.pth", content="other")
    put(tmp_path, "two_best_fold0.pth", "two_final_fold1.pth")
    said = refused(STAGED, tmp_path, "differ")
    assert "different stages" in said
    assert said.endswith(
        "1 of 4 files of mine are missing (any one stage of best, final will do): one_best_fold1.pth"
    )


def test_loops_of_links_end_and_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", *all_names(STAGED))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path)
    (folder / "broken_best_fold0.pth").symlink_to(tmp_path / "absent")
    (folder / "self.pth").symlink_to(folder / "self.pth")
    found = weights.find(STAGED, folder)
    assert {f.path.resolve() for f in found} == {tmp_path / "elsewhere" / name for name in all_names(STAGED)}
    assert len(list(trained_files(folder))) == 4


def test_a_link_that_comes_first_hides_no_files_of_the_folder_it_leads_to(tmp_path: Path) -> None:
    card = zoo.card("second_place")
    put(tmp_path, *all_names(card))
    (tmp_path / "aaa").mkdir()
    (tmp_path / "aaa" / "link").symlink_to("../bee508")
    (tmp_path / "aab").symlink_to("bee517")
    assert len(weights.find(card, tmp_path)) == 15


def test_hidden_files_and_unfinished_writes_are_no_trained_files(tmp_path: Path) -> None:
    put(tmp_path, *all_names(STAGED))
    put(tmp_path, ".cache/one_best_fold0.pth", ".one_best_fold0.pth", content="half")
    os.mkdir(tmp_path / "two_best_fold9.pth")  # noqa: PTH102 (a folder that is named like a file)
    assert len(weights.find(STAGED, tmp_path)) == 4


# Copies of our own


def test_a_copy_is_found_by_the_name_of_its_original(tmp_path: Path) -> None:
    copy(tmp_path / "one_best_fold0.safetensors")
    (file,) = weights.find(STAGED, tmp_path, members=["one"], folds=[0])
    assert file.path == tmp_path / "one_best_fold0.safetensors"


def test_a_copy_is_found_by_what_it_says_of_itself(tmp_path: Path) -> None:
    copy(tmp_path / "renamed.safetensors", fold=1)
    copy(tmp_path / "other card.safetensors", fold=0, card="other")
    (file,) = weights.find(STAGED, tmp_path, members=["one"], folds=[1])
    assert file.path == tmp_path / "renamed.safetensors"
    refused(STAGED, tmp_path, "one_best_fold0.pth", members=["one"], folds=[0])


@pytest.mark.parametrize("change", [{"member": "two"}, {"fold": 1}, {"card": "other"}, {"stage": "final"}])
def test_a_copy_under_the_name_of_another_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    copy(tmp_path / "one_best_fold0.safetensors", **change)
    refused(STAGED, tmp_path, "by its name it is fold 0 of one, but it says that it was made from", folds=[0])


def test_beside_its_original_a_copy_is_no_second_file(tmp_path: Path) -> None:
    put(tmp_path, "one_best_fold0.pth")
    copy(
        tmp_path / "one_best_fold0.safetensors",
        source_sha256=zoo.files.sha256(tmp_path / "one_best_fold0.pth"),
    )
    (file,) = weights.find(STAGED, tmp_path, members=["one"], folds=[0])
    assert file.path.suffix == ".pth"
    copy(tmp_path / "one_best_fold0.safetensors")
    refused(STAGED, tmp_path, "differ, and both could be meant", members=["one"], folds=[0])


def test_safetensors_of_others_count_by_their_names_alone(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(
        {"a": torch.zeros(1)}, tmp_path / "one_best_fold0.safetensors", {"format": "pt", "member": "two"}
    )
    (tmp_path / "one_best_fold1.safetensors").write_bytes(b"broken, which reading will say")
    assert len(weights.find(STAGED, tmp_path, members=["one"])) == 2


@settings(deadline=None)
@given(data=st.data())
def test_a_name_and_what_it_stands_for_are_one(data: Any) -> None:
    system = zoo.card(data.draw(st.sampled_from(zoo.systems())))
    stages = system.checkpoints.stages if system.checkpoints else ()
    slot = data.draw(
        st.sampled_from(slots(system, stage=data.draw(st.sampled_from(stages)) if stages else None))
    )
    assert identify(system, Path("/any") / file_name(system, slot)) == [slot]
    assert identify(system, (Path("/any") / file_name(system, slot)).with_suffix(".onnx")) == []


# Which systems can run


def test_systems_with_all_their_files_and_reasons_for_the_others(tmp_path: Path) -> None:
    put(tmp_path, *all_names(zoo.card("sge_b3")))
    put(tmp_path / "second_place", *all_names(NESTED))
    put(tmp_path / "third_place", *all_names(zoo.card("third_place"))[1:])
    systems = [zoo.card(name) for name in zoo.systems()]
    complete, reasons = weights.available(systems, tmp_path)
    assert set(complete) == {"sge_b3", "second_place"}
    assert len(complete["second_place"]) == 15
    assert set(complete) | set(reasons) == set(zoo.systems())
    assert all(reason.startswith("weights not found: ") for reason in reasons.values())
    assert reasons["third_place"].endswith(
        "1 of 8 files of third_place are missing: " + all_names(zoo.card("third_place"))[0]
    )
    with pytest.raises(CheckpointError, match="there is no such folder"):
        weights.available(systems, tmp_path / "absent")


def test_a_system_whose_files_lie_half_in_its_own_folder_is_complete(tmp_path: Path) -> None:
    names = all_names(STAGED)
    put(tmp_path / "mine", *names[:2])
    put(tmp_path, *names[2:])
    assert len(weights.available([STAGED], tmp_path)[0]["mine"]) == 4


# What a user gives


def test_given_files_are_what_their_names_say(tmp_path: Path) -> None:
    put(tmp_path, "one_final_fold1.pth", "two_best_fold0.pth", "two_best_fold1.pth")
    paths = [tmp_path / "one_final_fold1.pth", tmp_path / "two_best_fold0.pth"]
    found = given_files(STAGED, paths)
    assert [(f.member, f.fold, f.stage, f.path) for f in found] == [
        ("one", 1, "final", paths[0]),
        ("two", 0, "best", paths[1]),
    ]
    with pytest.raises(CheckpointError, match="is fold 1 of one at stage final, not what was asked for"):
        given_files(STAGED, paths, folds=[0])
    assert len(given_files(STAGED, [tmp_path], members=["two"])) == 2


def test_given_files_of_other_names_are_what_is_said(tmp_path: Path) -> None:
    put(tmp_path, "mine.pth")
    (file,) = given_files(STAGED, [tmp_path / "mine.pth"], members=["two"], folds=[1], stage="final")
    assert (file.member, file.fold, file.stage) == ("two", 1, "final")
    with pytest.raises(UsageError, match=r"say what it is: one member \(--member or --members\), one fold"):
        given_files(STAGED, [tmp_path / "mine.pth"])


# Cards


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("{member}_{fold}.pth", "has {stage} if, and only if, stages are listed"),
        ("{member}_{stage}_{epoch}_{fold}.pth", "may have {member}, {stage} and {fold} and no other braces"),
        ("{member}_{stage}_{fold.pth", "and no other braces"),
        ("{}_{stage}_{fold}{member}.pth", "and no other braces"),
        ("/{member}/{stage}_{fold}.pth", "leads out of the folder"),
        ("../{member}/{stage}_{fold}.pth", "leads out of the folder"),
        ("{stage}_{fold}.pth", "needs {member}, or 2 networks would share a file"),
        ("{member}_{stage}.pth", "needs {fold}, or 2 networks would share a file"),
    ],
)
def test_a_pattern_that_cannot_name_each_file_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(CardError, match=reason):
        parse(CARD.replace("{member}_{stage}_fold{fold}.pth", pattern))


def test_what_is_found_by_name_can_be_read() -> None:
    assert tuple(_READERS) == ENDINGS
    for name in zoo.systems():
        for each in all_names(zoo.card(name)):
            assert PurePosixPath(each).suffix.lower() in ENDINGS


def test_a_search_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "one_best_fold0.pth")
    found = search(STAGED, tmp_path)
    assert found.files == {Slot("one", 0, "best"): tmp_path / "one_best_fold0.pth"}
    assert len(found.missing) == 3
