from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import platformdirs
import pytest

from evaluate.stores import Store
from zoo import cache
from zoo.card import Attention, Member, Metadata, Preprocess

MEMBER = Member(name="a", backbone="resnet18", size=64, classes=("MEL", "NV"), melanoma=0)


class Result(msgspec.Struct, frozen=True):
    value: int


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "cache"))
    cache._warn_once.cache_clear()
    return tmp_path / "cache"


def named(member: Member) -> str:
    return cache.key(
        "operations", cache.specification(member), code=("benchmarks.explain",), packages=("timm",)
    )


def squares(names: list[str]) -> Iterator[tuple[str, Result]]:
    for name in reversed(names):
        yield name, Result(int(name) ** 2)


def test_the_folder_is_the_users_own_unless_told_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.folder() == folder
    monkeypatch.delenv("MELANOMA_ZOO_CACHE")
    assert cache.folder() == platformdirs.user_cache_path("melanoma-zoo")


def test_what_is_kept_is_found_again() -> None:
    assert cache.load("a", Result) is None
    cache.keep("a", Result(3))
    assert cache.load("a", Result) == Result(3)


def test_what_cannot_be_kept_costs_one_line_that_names_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "a file, no folder"
    place.write_text("")
    store = Store(location=str(place))
    assert [store.write(name, b"1") for name in ("a", "b")] == [False, False]
    (said,) = caplog.messages
    assert said.startswith(f"{place} cannot be written, so results are not kept")
    assert said.endswith("name another folder with --results")
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(place / "below"))
    assert not Store().write("a", b"1")
    assert caplog.messages[1].endswith("name another folder in MELANOMA_ZOO_CACHE")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"value": "3"}', b"\xff\xfe"])
def test_a_broken_file_is_ignored_and_written_again(folder: Path, content: bytes) -> None:
    cache.keep("a", Result(3))
    (folder / "a.json").write_bytes(content)
    assert cache.load("a", Result) is None
    cache.keep("a", Result(4))
    assert cache.load("a", Result) == Result(4)


def test_nothing_else_is_left_in_the_folder(folder: Path) -> None:
    cache.keep("a", Result(3))
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_written_costs_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file is in the way")
    with caplog.at_level(logging.WARNING):
        for name in ("1", "2", "3"):
            assert cache.recall([name], Result, squares) == [Result(int(name) ** 2)]
    assert len(caplog.records) == 1
    assert "\n" not in caplog.text.strip()
    assert str(folder) in caplog.text


def test_each_result_is_computed_once_and_reported_once_per_name() -> None:
    cache.keep("2", Result(-1))
    done: list[int] = []
    assert cache.recall(["3", "2", "3"], Result, squares, done=done.append) == [
        Result(9),
        Result(-1),
        Result(9),
    ]
    assert sorted(done) == [0, 1, 2]
    assert cache.load("3", Result) == Result(9)


def test_fresh_results_replace_what_was_kept() -> None:
    cache.keep("2", Result(-1))
    assert cache.recall(["2"], Result, squares, fresh=True) == [Result(4)]
    assert cache.load("2", Result) == Result(4)


def test_what_does_not_last_is_not_kept() -> None:
    assert cache.recall(["2"], Result, squares, lasting=lambda _: False) == [Result(4)]
    assert cache.load("2", Result) is None


def test_what_was_finished_before_an_error_is_kept() -> None:
    def interrupted(names: list[str]) -> Iterator[tuple[str, Result]]:
        yield names[0], Result(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.recall(["5", "6"], Result, interrupted)
    assert cache.load("5", Result) == Result(1)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet34"},
        {"size": 96},
        {"classes": ("MEL",)},
        {"pool": "gem"},
        {"attention": (Attention(module="sge", after=(1,)),)},
        {"metadata": Metadata(features=14, hidden=512, out=128)},
    ],
    ids=str,
)
def test_whatever_changes_the_network_changes_its_key(change: dict[str, object]) -> None:
    assert named(msgspec.structs.replace(MEMBER, **change)) != named(MEMBER)


@pytest.mark.parametrize(
    "change",
    [{"name": "b"}, {"classes": ("NV", "MEL"), "melanoma": 1}, {"preprocess": Preprocess(resize=80)}],
    ids=str,
)
def test_nothing_else_does(change: dict[str, object]) -> None:
    assert named(msgspec.structs.replace(MEMBER, **change)) == named(MEMBER)


def test_no_field_of_a_member_is_forgotten() -> None:
    # A new field of the card either makes another network or is listed here.
    irrelevant = {"name", "melanoma", "preprocess", "file"}  # What a file holds is its origin.
    assert set(cache.specification(MEMBER)) - {"origin"} | irrelevant == set(Member.__struct_fields__)


def test_code_and_packages_and_kind_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cache.key("a", 1, code=("zoo.card",), packages=("timm",))
    assert plain == cache.key("a", 1, code=("zoo.card",), packages=("timm",))
    others = {
        cache.key("b", 1, code=("zoo.card",), packages=("timm",)),
        cache.key("a", 2, code=("zoo.card",), packages=("timm",)),
        cache.key("a", 1, code=("zoo.errors",), packages=("timm",)),
    }
    monkeypatch.setattr(cache, "version", lambda _: "0")
    others.add(cache.key("a", 1, code=("zoo.card",), packages=("timm",)))
    assert len(others - {plain}) == 4


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_kept_files_are_as_readable_as_any(folder: Path) -> None:
    cache.keep("a", Result(1))
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o666 & ~umask
