"""From images and networks to predictions: what is computed, kept, shared and noticed."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import albumentations
import cv2
import msgspec
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from timm.models.mlp_mixer import MlpMixer
from torch import nn

import weights
import zoo
from evaluate import compute, decoding, forward, loading, portions, results
from evaluate.forward import Forward, largest_batch
from evaluate.jobs import Job, trained, untrained
from evaluate.labels import read_labels
from evaluate.predict import Settings, predict
from evaluate.predictions import Predictions, read_predictions, write_predictions
from evaluate.published import write_published
from evaluate.scores import score
from evaluate.testset import TestSet, read_test_set
from weights.untrained import enliven
from zoo.card import VIEWS, Assumption, Attention, Checkpoints, Member, Metadata, Preprocess, System, Views
from zoo.errors import CheckpointError, InputError, MachineError, UsageError
from zoo.runtime import out_of_memory

CLASSES = ("BKL", "MEL", "NV")
TEN = Views(transforms=VIEWS, weights=(1, 1, 1, 1, 2, 2, 1, 1))


def member(name: str = "small", size: int = 48, **more: object) -> Member:
    return Member(name=name, backbone="test_efficientnet", size=size, classes=CLASSES, melanoma=1, **more)


def system(name: str = "tiny", *members: Member, **more: object) -> System:
    return System(
        schema=1, name=name, title=name.title(), group="test", summary="A tiny one.",
        **{"folds": 2, "members": members or (member(),), "views": TEN, **more},
        checkpoints=Checkpoints(layout="ours", pattern="{member}_fold{fold}.pth"),
    )  # fmt: skip


@pytest.fixture
def tiny() -> Iterator[System]:
    yield zoo.register(system())
    zoo.unregister("tiny")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kept results of its own for each test."""
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 JPEG images of different shapes, and their table in the layout of Kaggle."""
    place = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(5)
    for number in range(36):
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((80 + 4 * (number % 5), 60), Image.Resampling.BICUBIC)
        picture.save(place / f"ISIC_{number:07d}.jpg", quality=95)
    table = pd.DataFrame(
        {
            "image_name": [f"ISIC_{number:07d}" for number in range(36)],
            "target": [int(number % 3 == 0) for number in range(36)],
            "patient_id": [f"IP_{number // 2:07d}" for number in range(36)],
            "sex": ["male", "female", None] * 12,
            "age_approx": [40, None, 65] * 12,
            "anatom_site_general_challenge": ["torso", "head/neck", None] * 12,
        }
    )
    table.to_csv(place / "labels.csv", index=False)
    return place


@pytest.fixture
def test_set(folder: Path) -> TestSet:
    return read_test_set(folder)


def trained_files(card: System, place: Path) -> dict[str, nn.Module]:
    """Trained files of a system, and the networks that they were written from."""
    place.mkdir(exist_ok=True)
    networks = {}
    for each in card.members:
        for fold in range(card.folds):
            network = zoo.build(card.name, each.name, seed=10 + fold)
            enliven(network, 10 + fold, each.metadata.features if each.metadata else 0)
            torch.save(network.state_dict(), place / f"{each.name}_fold{fold}.pth")
            networks[f"{each.name}/{fold}"] = network
    return networks


def job(card: System, place: Path, **more: object) -> Job:
    return trained(card, weights.find(card, place), **more)


def authors_loop(network: nn.Module, files: list[Path], size: int) -> np.ndarray:
    """Mean class probabilities over ten views one after another, as the published script has them."""
    pipeline = albumentations.Compose([albumentations.Resize(size, size), albumentations.Normalize()])
    batch = torch.stack(
        [
            torch.tensor(
                pipeline(image=cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB))["image"].transpose(
                    2, 0, 1
                )
            )
            for file in files
        ]
    )
    total = torch.zeros(len(files), len(CLASSES))
    with torch.no_grad():
        for number in range(10):
            view = batch.transpose(2, 3) if number >= 4 else batch
            flips = {0: (), 1: (2,), 2: (3,), 3: (2, 3)}[number % 4]
            total += network(view.flip(flips) if flips else view).softmax(1)
    return (total / 10).numpy()


def test_predictions_are_those_of_the_published_loop(tiny: System, test_set: TestSet, tmp_path: Path) -> None:
    networks = trained_files(tiny, tmp_path / "w")
    (found,) = predict([job(tiny, tmp_path / "w")], test_set)
    assert found.kind == "probability"
    assert found.table["score"].std() > 0.01, "a test that any constant would pass"
    files = [image.path for image in test_set.images]
    for fold in range(2):
        expected = authors_loop(networks[f"small/{fold}"], files, 48)[:, 1]
        rows = found.table[found.table["fold"] == fold]
        assert rows["image"].tolist() == [image.id for image in test_set.images]
        assert np.abs(rows["score"].to_numpy() - expected).max() < 1e-5


def test_a_file_of_predictions_tells_how_they_were_made(
    tiny: System, test_set: TestSet, tmp_path: Path
) -> None:
    trained_files(tiny, tmp_path / "w")
    (found,) = predict(
        [job(tiny, tmp_path / "w", number_of_views=4)], test_set, Settings(precision="bf16", drift=0)
    )
    write_predictions(found, tmp_path / "tiny.parquet")
    read = read_predictions(tmp_path / "tiny.parquet")
    assert read.system == "tiny"
    assert read.metadata["test_set"] == {
        "images": 36,
        "digest": test_set.digest,
        "table_sha256": test_set.table_sha256,
    }
    assert [(each["fold"], each["file"]) for each in read.metadata["weights"]] == [
        (0, "small_fold0.pth"),
        (1, "small_fold1.pth"),
    ]
    assert read.metadata["precision"] == "bf16"
    assert read.notes == found.notes == (
        "Computed in bf16, not in single precision.",
        "4 of 10 views of the published procedure.",
    )  # fmt: skip
    assert read.table["patient"].tolist()[:3] == ["IP_0000000", "IP_0000000", "IP_0000001"]
    assert str(tmp_path) not in str(read.metadata)


def test_without_training_a_head_of_zeros_is_drawn() -> None:
    heads = []
    for seed in (0, 1):
        network = MlpMixer(num_classes=2, img_size=64, patch_size=16, num_blocks=1, embed_dim=32).eval()
        assert not network.head.weight.any(), "what timm begins to train with"
        enliven(network, seed, side=64)
        heads.append(network.head.weight.detach())
        with torch.inference_mode():
            assert float(network(torch.randn(8, 3, 64, 64)).std(0).min()) > 0.01
    assert not torch.equal(*heads)


def test_untrained_weights_are_seeded_differ_by_fold_and_say_so(tiny: System, test_set: TestSet) -> None:
    first, again, other = (predict([untrained(tiny, seed)], test_set)[0] for seed in (0, 0, 7))
    assert first.table.equals(again.table)
    assert not np.allclose(first.table["score"], other.table["score"])
    by_fold = first.table.pivot(index="image", columns="fold", values="score")
    assert (by_fold[0] - by_fold[1]).abs().max() > 0.01
    assert first.notes == ("Untrained weights (seed 0): the scores mean nothing.",)
    scores = score([first], read_labels(test_set.table_path), resamples=40)
    assert "Untrained weights" in " ".join(scores.systems[0].notes)


class Decodes(list[str]):
    """Counts what is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decode = decoding.decode
        monkeypatch.setattr(
            decoding, "decode", lambda path, data: (self.append(path.name), decode(path, data))[1]
        )


class Runs(list[int]):
    """Counts the views that go through networks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        logits = Forward._logits
        monkeypatch.setattr(
            Forward, "_logits", lambda own, batch: (self.append(len(batch)), logits(own, batch))[1]
        )


def test_an_image_is_decoded_once_for_all_that_need_it(
    test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [
        zoo.register(system("tiny_a", member("p", 32), member("q", 48))),
        zoo.register(system("tiny_b", member("r", 48), folds=1)),
    ]
    try:
        decodes = Decodes(monkeypatch)
        predict([untrained(card, 0) for card in cards], test_set)
    finally:
        for card in cards:
            zoo.unregister(card.name)
    assert sorted(decodes) == sorted(image.path.name for image in test_set.images)


def test_one_network_is_in_memory_at_a_time(
    tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[nn.Module]] = []
    network = compute.network

    def made(*arguments: object) -> nn.Module:
        gc.collect()
        assert not [each for each in alive if each() is not None]
        found = network(*arguments)
        alive.append(weakref.ref(found))
        return found

    monkeypatch.setattr(compute, "network", made)
    predict([untrained(tiny, 0)], test_set)
    assert len(alive) == 2


def test_batches_are_filled_across_views_and_images(
    tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch)
    few = msgspec.structs.replace(test_set, images=test_set.images[:5])
    predict([untrained(tiny, 0, folds=[0])], few, Settings(batch_size=16))
    assert runs == [16, 16, 8]


def test_batch_size_does_not_change_scores(tiny: System, test_set: TestSet) -> None:
    found = [
        predict([untrained(tiny, 0)], test_set, Settings(batch_size=size))[0].table["score"]
        for size in (1, 5, 64)
    ]
    assert np.ptp(np.stack(found), axis=0).max() < 1e-5


def test_memory_is_found_by_halving_and_an_end_is_said(
    tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = predict([untrained(tiny, 0)], test_set)
    fits = 3
    logits = Forward._logits

    def limited(own: Forward, batch: list) -> torch.Tensor:
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits(own, batch)

    monkeypatch.setattr(Forward, "_logits", limited)
    (found,) = predict([untrained(tiny, 0)], test_set, Settings(batch_size=16))
    assert found.metadata["batch_sizes"] == {"small": [2]}
    assert np.abs(found.table["score"] - expected.table["score"]).max() < 1e-5
    fits = 0
    with pytest.raises(MachineError, match="small: memory does not suffice for one image of 48 px on cpu"):
        predict([untrained(tiny, 1)], test_set, Settings(batch_size=16))


def test_other_failures_are_not_taken_for_memory(
    tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Forward, "_logits", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        predict([untrained(tiny, 0)], test_set)


def test_a_real_end_of_memory_on_a_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(raised.value)
    assert not out_of_memory(RuntimeError("expected scalar type Float"))


def test_an_automatic_batch_is_a_power_of_two_that_fits() -> None:
    gib = 2**30
    assert largest_batch({2: 2 * gib, 4: 3 * gib}, 64 * gib) == 64
    assert largest_batch({2: 2 * gib, 4: 3 * gib}, gib) == 1
    assert largest_batch({2: 1, 4: 2}, 64 * gib) == forward.CUDA_MOST


def test_what_is_done_is_kept_and_nothing_is_computed_twice(
    tiny: System, test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = predict([untrained(tiny, 0)], test_set)
    write_predictions(whole, tmp_path / "whole.parquet")
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "other"))
    keep, calls = results.keep, 0

    def stopping(*arguments: object) -> bool:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return keep(*arguments)

    monkeypatch.setattr(results, "keep", stopping)
    with pytest.raises(KeyboardInterrupt):
        predict([untrained(tiny, 0)], test_set)
    monkeypatch.setattr(results, "keep", keep)
    assert not [each for each in threading.enumerate() if each.name.startswith("decode")], (
        "threads outlive the run"
    )
    runs = Runs(monkeypatch)
    seen: list[int] = []
    (resumed,) = predict([untrained(tiny, 0)], test_set, progress=lambda _, done, __: seen.append(done))
    assert sum(runs) == (2 * 36 - 3 * 16 + 12) * 8, "three of six units were kept: 16, 16 and 4 images"
    assert seen[0] == 36
    assert seen[-1] == 72
    write_predictions(resumed, tmp_path / "resumed.parquet")
    assert (tmp_path / "resumed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_broken_kept_file_is_computed_again(
    tiny: System, test_set: TestSet, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = predict([untrained(tiny, 0)], test_set)
    wrong = b'{"probabilities":[[1]],"batch_size":1}', b'{"probabilities":[[1],[0,1]],"batch_size":1}'
    for file, content in zip(sorted(kept.iterdir()), (b"", b"{", *wrong), strict=False):
        file.write_bytes(content)
    runs = Runs(monkeypatch)
    (after,) = predict([untrained(tiny, 0)], test_set)
    assert after.table.equals(before.table)
    assert 0 < sum(runs) < 2 * 36 * 8


@pytest.mark.parametrize("what", ["weights", "card", "views", "image", "precision", "batch size", "nothing"])
def test_whatever_changes_is_noticed(
    what: str, tiny: System, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "set"
    place.mkdir()
    for file in sorted(folder.iterdir())[:4]:
        (place / file.name).write_bytes(file.read_bytes())
    trained_files(tiny, tmp_path / "w")
    card, settings, number = tiny, Settings(), 10
    predict([job(card, tmp_path / "w")], read_test_set(place))
    if what == "weights":
        network = zoo.build("tiny", seed=99)
        torch.save(network.state_dict(), tmp_path / "w" / "small_fold0.pth")
    elif what == "card":
        changed = member(preprocess=Preprocess(mean=(0, 0, 0), std=(1, 1, 1)))
        card = zoo.register(system("tiny", changed), replace=True)
    elif what == "views":
        number = 2
    elif what == "image":
        Image.new("RGB", (60, 60), "brown").save(next(place.glob("*.jpg")))
    elif what == "precision":
        settings = Settings(precision="bf16")
    elif what == "batch size":
        settings = Settings(batch_size=3)
    runs = Runs(monkeypatch)
    predict([job(card, tmp_path / "w", number_of_views=number)], read_test_set(place), settings)
    expected = {"nothing": 0, "weights": 4 * 8, "views": 2 * 4 * 2}.get(what, 2 * 4 * 8)
    assert sum(runs) == expected


def test_portions_bound_the_memory_and_change_nothing(
    tiny: System, test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (expected,) = predict([untrained(tiny, 0)], test_set)
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(portions, "PORTION_BYTES", 16 * 48 * 48 * 3)
    decodes = Decodes(monkeypatch)
    made: list[int] = []
    network = compute.network
    monkeypatch.setattr(
        compute, "network", lambda training, build: (made.append(training.fold), network(training, build))[1]
    )
    (found,) = predict([untrained(tiny, 0)], test_set)
    assert found.table.equals(expected.table)
    assert len(decodes) == 36
    assert made == [0, 1, 0, 1], "a portion begins with the network that the last one ended with"


def test_members_blend_and_the_published_layout_is_written(
    folder: Path, test_set: TestSet, tmp_path: Path
) -> None:
    card = zoo.register(system("tiny", member("p", 32), member("q", 48)))
    try:
        (found,) = predict([untrained(card, 0)], test_set)
        write_predictions(found, tmp_path / "tiny.parquet")
        write_published(tmp_path / "tiny.parquet", test_set.labels, tmp_path / "tiny.csv")
        table = pd.read_csv(tmp_path / "tiny.csv")
        assert list(table) == ["image_name", "target", "y_true", "weights"]
        assert set(table["weights"]) == {"untrained weights"}
        mean = found.table.groupby("image", sort=False)["score"].mean()
        assert np.allclose(table["target"], mean[table["image_name"]])
        assert table["y_true"].tolist() == [int(number % 3 == 0) for number in range(36)]
        read = read_predictions(tmp_path / "tiny.csv")
        assert np.allclose(read.table["score"], mean[read.table["image"]])
    finally:
        zoo.unregister("tiny")


def test_copies_without_rows_have_the_truth_of_their_image(
    tiny: System, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "set"
    place.mkdir()
    for name in ("ISIC_0000000", "ISIC_0000001"):
        for copy in ("", "_0"):
            (place / f"{name}{copy}.jpg").write_bytes((folder / f"{name}.jpg").read_bytes())
    (place / "labels.csv").write_text("image_name,target\nISIC_0000000,1\nISIC_0000001,0\n")
    test_set = read_test_set(place)
    (found,) = predict([untrained(tiny, 0, number_of_views=1, folds=[0])], test_set)
    write_predictions(found, tmp_path / "tiny.parquet")
    write_published(tmp_path / "tiny.parquet", test_set.labels, tmp_path / "tiny.csv")
    assert pd.read_csv(tmp_path / "tiny.csv")["y_true"].tolist() == [1, 1, 0, 0]


def test_skipped_images_have_a_row_without_a_score(tiny: System, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "set"
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    broken = place / "ISIC_0000003.jpg"
    broken.write_bytes(broken.read_bytes()[:400])
    test_set = read_test_set(place, on_error="skip")
    (found,) = predict([untrained(tiny, 0)], test_set)
    write_predictions(found, tmp_path / "tiny.parquet")
    write_published(tmp_path / "tiny.parquet", test_set.labels, tmp_path / "tiny.csv")
    read = read_predictions(tmp_path / "tiny.parquet")
    missing = read.table[read.table["score"].isna()]
    assert missing["image"].tolist() == ["ISIC_0000003"] * 2
    assert read.skipped == {"ISIC_0000003": "cut short"}
    scores = score([read], read_labels(place / "labels.csv"), resamples=40)
    assert scores.n == 35
    assert scores.skipped == {"ISIC_0000003": "cut short"}
    assert "\nISIC_0000003,n/a,1,cut short,untrained weights\n" in (tmp_path / "tiny.csv").read_text()


def test_metadata_reach_the_network(test_set: TestSet, folder: Path) -> None:
    features = zoo.card("first_place").metadata
    reads = member("p", 32, metadata=Metadata(features=14, hidden=8, out=4))
    card = zoo.register(system("tiny", reads, metadata=features))
    try:
        (found,) = predict([untrained(card, 0, folds=[0])], test_set)
        table = pd.read_csv(folder / "labels.csv")
        others = msgspec.structs.replace(test_set, table=test_set.table.assign(age_approx="5"))
        (changed,) = predict([untrained(card, 0, folds=[0])], others)
        assert (found.table["score"] - changed.table["score"]).abs().max() > 1e-4, "the age is not read"
        assert len(found.table) == len(table)
        with pytest.raises(InputError, match="reads metadata"):
            predict([untrained(card, 0)], msgspec.structs.replace(test_set, table=None, columns={}))
    finally:
        zoo.unregister("tiny")


def test_crops_and_averaged_logits(test_set: TestSet) -> None:
    views = Views(transforms=("identity",), crops=3, average="logits")
    card = zoo.register(system("tiny", member("p", 32), views=views, folds=1))
    try:
        (found,) = predict([untrained(card, 0)], test_set)
        network = loading.network(untrained(card, 0).trainings[0], zoo.builder(card.name))
        for image, row in zip(test_set.images[:6], found.table["score"], strict=False):
            pixels = cv2.cvtColor(cv2.imread(str(image.path)), cv2.COLOR_BGR2RGB)
            height, width = pixels.shape[:2]
            logits = []
            for offset in (0, round((width - height) / 2), width - height):
                square = cv2.resize(
                    pixels[:, offset : offset + height], (32, 32), interpolation=cv2.INTER_LINEAR
                )
                scaled = albumentations.Normalize()(image=square)["image"].transpose(2, 0, 1)
                with torch.inference_mode():
                    logits.append(network(torch.tensor(scaled)[None])[0])
            assert torch.stack(logits).mean(0).softmax(0)[1].item() == pytest.approx(row, abs=1e-5)
    finally:
        zoo.unregister("tiny")


def test_lower_precision_is_close_but_not_the_same(tiny: System, test_set: TestSet) -> None:
    exact, bf16, fp16 = (
        predict([untrained(tiny, 0)], test_set, Settings(precision=precision))[0].table["score"]
        for precision in ("fp32", "bf16", "fp16")
    )
    for lower in (bf16, fp16):
        assert 0 < (lower - exact).abs().max() < 0.1


def test_what_is_wrong_is_told_before_anything_runs(
    tiny: System, test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch)
    trained_files(tiny, tmp_path / "w")
    (tmp_path / "w" / "small_fold1.pth").unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 files of tiny are missing: small_fold1\.pth"):
        job(tiny, tmp_path / "w")
    with pytest.raises(UsageError, match="tiny has no fold 2; its folds are 0 to 1"):
        untrained(tiny, 0, folds=[2])
    with pytest.raises(zoo.MelanomaZooError, match="tiny has no member 'large'"):
        untrained(tiny, 0, members=["large"])
    with pytest.raises(MachineError, match="tf32"):
        predict([untrained(tiny, 0)], test_set, Settings(precision="tf32", device="cpu"))
    assert runs == []


def test_all_files_that_do_not_fit_are_named_together(tiny: System, tmp_path: Path) -> None:
    trained_files(tiny, tmp_path / "w")
    for fold, content in enumerate((b"PK\x03\x04 cut short", None)):
        path = tmp_path / "w" / f"small_fold{fold}.pth"
        if content:
            path.write_bytes(content)
        else:
            torch.save({"head.bias": torch.zeros(7)}, path)
    with pytest.raises(CheckpointError) as raised:
        loading.check(job(tiny, tmp_path / "w"))
    said = str(raised.value)
    assert "small_fold0.pth: damaged, cut short" in said
    assert "small_fold1.pth: does not fit this network" in said


def test_a_file_that_changes_during_the_run_is_not_kept_under_the_old_checksum(
    tiny: System, folder: Path, tmp_path: Path, kept: Path
) -> None:
    place = tmp_path / "set"
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    test_set = read_test_set(place)
    Image.new("RGB", (60, 60), "brown").save(place / "ISIC_0000005.jpg")
    with pytest.raises(InputError, match=r"ISIC_0000005\.jpg: has changed since it was checked; run again"):
        predict([untrained(tiny, 0)], test_set)
    trained_files(tiny, tmp_path / "w")
    given = job(tiny, tmp_path / "w")
    torch.save(zoo.build("tiny", seed=99).state_dict(), tmp_path / "w" / "small_fold0.pth")
    with pytest.raises(
        CheckpointError, match=r"small_fold0\.pth: has changed since it was checked; run again"
    ):
        predict([given], read_test_set(place))
    assert not list(kept.glob("probabilities-*"))


def test_memory_that_ends_while_a_network_is_prepared_is_said(
    tiny: System, test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(forward, "prepare", full)
    with pytest.raises(MachineError, match="small: memory does not suffice"):
        predict([untrained(tiny, 0)], test_set)


def test_a_file_that_settles_an_assumption_decides(test_set: TestSet, tmp_path: Path) -> None:
    attention = (Attention(module="spatial", after=(1,), options={"kernel_size": 7}),)
    card = zoo.register(
        system(
            "tiny",
            member(attention=attention),
            folds=1,
            assumptions=(Assumption(about="kernel", text="7.", option="spatial.kernel_size"),),
        )
    )
    try:
        five = (Attention(module="spatial", after=(1,), options={"kernel_size": 5}),)
        zoo.register(system("tiny", member(attention=five), folds=1), replace=True)
        networks = trained_files(zoo.card("tiny"), tmp_path / "w")
        zoo.register(card, replace=True)
        (found,) = predict([job(card, tmp_path / "w")], test_set)
        expected = authors_loop(networks["small/0"], [image.path for image in test_set.images], 48)[:, 1]
        assert np.abs(found.table["score"].to_numpy() - expected).max() < 1e-5
        assert "spatial.kernel_size is 5" in " ".join(found.notes)
    finally:
        zoo.unregister("tiny")


def test_predictions_stay_what_they_are_through_a_file(
    tiny: System, test_set: TestSet, tmp_path: Path
) -> None:
    (found,) = predict([untrained(tiny, 0)], test_set)
    write_predictions(found, tmp_path / "a.parquet")
    read: Predictions = read_predictions(tmp_path / "a.parquet")
    assert read.table["score"].tolist() == found.table["score"].tolist()
    assert read.metadata == msgspec.json.decode(msgspec.json.encode(found.metadata))
