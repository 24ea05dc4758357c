"""Large runs: what is kept of each image and each unit while they are worked off, and the file that comes of it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

import zoo
from benchmarks import simulate_rows
from evaluate import drifting, outcome, prediction_file, testimages
from evaluate.jobs import untrained
from evaluate.launchers.local import Local
from evaluate.predict import predict, predict_to_file
from evaluate.prediction_file import write_rows
from evaluate.predictions import Predictions, read_predictions, write_predictions
from evaluate.published import write_published
from evaluate.stores import Store
from evaluate.testimages import Images, TestImage
from evaluate.testset import TestSet, read_test_set
from evaluate.units import How, networks
from evaluate.work import Missing, Work
from zoo.card import System

HOW = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")


def image(number: int) -> TestImage:
    name = f"I_{number:07d}"
    return TestImage(id=name, path=Path("images") / f"{name}.jpg", sha256=f"{number:064x}", size=number)


@given(
    names=some.lists(some.text(some.characters(exclude_characters="/\0"), min_size=1), max_size=20),
    start=some.integers(-5, 25),
    stop=some.integers(-5, 25),
)
def test_images_in_little_memory_are_those_that_were_put_in(names: list[str], start: int, stop: int) -> None:
    plain = tuple(
        TestImage(id=name, path=Path("a b") / f"{name}.jpg", sha256=f"{number:064x}", size=number**9)
        for number, name in enumerate(names)
    )
    found = Images(plain)
    assert tuple(found) == plain
    assert found[start:stop] == plain[start:stop]
    if plain:
        assert found[np.int64(len(plain) - 1)] == found[-1] == plain[-1]
    with pytest.raises(IndexError):
        found[len(plain)]


def test_a_file_name_that_is_no_text_is_kept() -> None:
    odd = msgspec.structs.replace(image(1), path=Path("a\udcff.jpg"))
    assert Images([odd])[0] == odd


def traced(count: int) -> int:
    """Peak bytes while a run of so many images finds out what is missing, and hands it out.

    All have one path: Python keeps a table of the parts of paths, whose growth would count too.
    """
    path = image(0).path
    (network,) = networks(untrained(zoo.card("sge_b3"), 0, folds=[0]), HOW)
    every = (
        TestImage(id=f"I_{number:07d}", path=path, sha256=f"{number:064x}", size=1) for number in range(count)
    )
    tracemalloc.start()
    try:
        work = Work(images=Images(every), networks=(network,), features=(None,))
        missing = Missing(work, Store(), lambda *_: None)
        units = sum(len(portion) for portion in missing.portions(2))
        assert units == missing.count == -(-count // 16)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("kept")
def test_an_image_more_is_some_bytes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object for each image or unit would be more than 500."""
    path = image(0).path
    monkeypatch.setattr(testimages, "place", lambda _: path)
    traced(100)

    def each() -> float:
        few, many = traced(10_000), traced(30_000)
        return (many - few) / 20_000

    # Some table of the whole process may happen to grow once, by megabytes; not at each try.
    assert any(each() < 200 for _ in range(3))


@pytest.mark.usefixtures("kept")
def test_units_that_are_the_same_are_missing_once(
    small_system: Callable[..., System], tmp_path: Path, draw: Callable[..., None]
) -> None:
    """Two systems have a network in common, and the first two shards the same images."""
    for number in range(33):
        draw(tmp_path / "images" / f"I_{number:03d}.png", number % 16)
    test_set = read_test_set(tmp_path / "images")
    first, second = small_system("first", folds=1), small_system("second", folds=2)
    seen: list[int] = []
    found = predict(
        [untrained(first, 0), untrained(second, 0)], test_set, progress=lambda _, done, __: seen.append(done)
    )
    own = [networks(untrained(card, 0), HOW) for card in (first, second)]
    assert own[0][0].key == own[1][0].key
    assert seen[0] == 0
    assert seen[-1] == 3 * 33
    assert len(seen) == 1 + 2 * 2, "two distinct shards of two distinct networks"
    shared = found[1].table.query("fold == 0")["score"].to_numpy()
    assert (found[0].table["score"].to_numpy() == shared).all()
    assert (shared[:16] == shared[16:32]).all()


@pytest.mark.usefixtures("kept")
def test_a_file_that_is_written_in_parts_is_that_of_the_whole(
    small_system: Callable[..., System], tmp_path: Path, draw: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Row groups end within networks, parts within row groups; one image is skipped, and a table knows patients."""
    for number in range(70):
        draw(tmp_path / "images" / f"I_{number:03d}.png", number)
    (tmp_path / "images" / "I_020.png").write_bytes(b"no image")
    known = {
        "image": [f"I_{number:03d}" for number in range(70)],
        "patient": [f"P{number // 3}" for number in range(70)],
        "target": [int(number % 7 == 0) for number in range(70)],
    }
    pd.DataFrame(known).to_csv(tmp_path / "images" / "metadata.csv", index=False)
    test_set: TestSet = read_test_set(tmp_path / "images", on_error="skip")
    job = untrained(small_system(folds=3), 0)
    monkeypatch.setattr(outcome, "AT_A_TIME", 32)
    monkeypatch.setattr(prediction_file, "ROW_GROUP", 50)
    metadata = predict_to_file(tmp_path / "parts.parquet", job, test_set, launcher=Local(1))
    (whole,) = predict([job], test_set, launcher=Local(1))
    write_predictions(whole, tmp_path / "whole.parquet")
    assert (tmp_path / "parts.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert metadata == whole.metadata
    read = read_predictions(tmp_path / "parts.parquet")
    write_published(tmp_path / "parts.parquet", test_set.labels, tmp_path / "parts.csv")
    monkeypatch.setattr(prediction_file, "ROW_GROUP", 2**16)
    write_published(tmp_path / "whole.parquet", test_set.labels, tmp_path / "whole.csv")
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    published = pd.read_csv(tmp_path / "parts.csv", index_col="image_name")
    mean = read.table.groupby("image")["score"].mean()
    pd.testing.assert_series_equal(published["target"].sort_index(), mean, check_names=False)
    assert published.loc["I_020", "skipped"].startswith("neither a JPEG nor a PNG image")
    assert published["skipped"].notna().sum() == 1
    assert (published["y_true"] == [int(int(name[2:]) % 7 == 0) for name in published.index]).all()
    assert len(read.table) == 3 * 70
    assert read.table["score"].isna().sum() == 3
    assert (read.table["patient"] == [f"P{int(name[2:]) // 3}" for name in read.table["image"]]).all()


@given(cuts=some.lists(some.integers(0, 100), max_size=6), size=some.integers(1, 120))
def test_a_file_does_not_depend_on_how_its_rows_come(cuts: list[int], size: int, tmp_path_factory: pytest.TempPathFactory) -> None:  # fmt: skip
    table = pd.DataFrame(
        {
            "image": [f"I_{number}" for number in range(100)],
            "lesion": None,
            "member": "one",
            "fold": 0,
            "score": np.linspace(0, 1, 100),
        }
    )
    ends = [0, *sorted(cuts), 100]
    parts = [table.iloc[start:stop] for start, stop in pairwise(ends)]
    place = tmp_path_factory.mktemp("cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_file, "ROW_GROUP", size)
        for name, given in (("parts", parts), ("whole", [table])):
            write_rows(given, place / name, system="s", kind="rank", metadata={})
    assert (place / "parts").read_bytes() == (place / "whole").read_bytes()


def scored(count: int) -> pd.DataFrame:
    """Two members with two folds each; every tenth image was skipped."""
    random = np.random.default_rng(8)
    own = [
        pd.DataFrame(
            {
                "image": [f"I_{number:07d}" for number in range(count)],
                "member": member,
                "fold": fold,
                "score": np.where(np.arange(count) % 10, random.random(count), np.nan),
            }
        )
        for member in ("a", "b")
        for fold in (0, 1)
    ]
    return pd.concat(own, ignore_index=True)


@given(cuts=some.lists(some.integers(0, 160), max_size=8))
def test_drift_does_not_depend_on_how_rows_come(cuts: list[int]) -> None:
    whole = scored(40)
    rows = whole[whole["image"].isin([f"I_{number:07d}" for number in (1, 12, 23, 39)])]
    exact = Predictions(
        system="s", kind="probability", table=rows.assign(score=rows["score"] * 0.9).reset_index(drop=True)
    )
    ends = sorted({0, *cuts, 160})
    parts = [whole.iloc[start:stop] for start, stop in pairwise(ends)]
    found, at_once = (drifting.measure(each, exact, None) for each in (parts, [whole]))
    assert found == at_once
    assert found.images == 4
    assert found.max_difference == pytest.approx(0.1 * rows["score"].max())
    score = rows.groupby("image")["score"].mean()
    assert found.changed == ((score >= 0.5) != (0.9 * score >= 0.5)).sum()


def written_peak(count: int, place: Path) -> int:
    """Peak bytes while the published layout is written of so many images."""
    card = zoo.card("sge_b3")
    table = scored(count).query("member == 'a'").assign(member=card.members[0].name)
    write_rows([table], place / "a.parquet", system=card.name, kind="probability", metadata={})
    del table
    tracemalloc.start()
    try:
        write_published(place / "a.parquet", None, place / "a.csv")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_published_layout_of_an_image_more_is_some_bytes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its score, in a few copies. All rows at once would be several hundred bytes."""
    monkeypatch.setattr(prediction_file, "ROW_GROUP", 1000)
    written_peak(2000, tmp_path)
    few, many = (written_peak(count, tmp_path) for count in (5_000, 25_000))
    assert (many - few) / 20_000 < 64


@pytest.mark.slow
def test_the_benchmark_of_rows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    simulate_rows.main(["--images", "48"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [[f"| {what}", "48"] for what in ("csv", "drift", "scores", "folder")]
