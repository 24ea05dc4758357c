"""Near-duplicate images: found however they were copied, and not where lesions only look alike."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate import Predictions, read_labels
from evaluate.audit import audit
from evaluate.duplicates import hash_images, near_duplicates
from zoo.errors import InputError, MachineError

pytest.importorskip(
    "imagehash", reason="needs the optional package ImageHash: pip install 'melanoma-zoo[images]'"
)
from PIL import Image

SYMMETRY = Image.Transpose
CHOSEN = 24

COPIES = {
    "low quality": lambda image: image,
    "smaller": lambda image: image.resize((300, 225)),
    "larger": lambda image: image.resize((1024, 768)),
    "flipped": lambda image: image.transpose(SYMMETRY.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(SYMMETRY.ROTATE_90),
    "turned and flipped": lambda image: image.transpose(SYMMETRY.TRANSVERSE).resize((384, 384)),
    "brighter": lambda image: image.point(lambda value: min(255, int(1.15 * value))),
}


@pytest.fixture(scope="module")
def photographs(proveai: Path) -> Path:
    folder = proveai.parent / "isic2017" / "images"
    if not folder.is_dir():
        pytest.skip(
            "needs the ISIC 2017 images in ../shared/data/isic2017, which are not part of the project"
        )
    return folder


@pytest.fixture(scope="module")
def some(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the images."""
    folder = tmp_path_factory.mktemp("some")
    for file in sorted(photographs.iterdir())[::27][:CHOSEN]:
        shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_found_each_with_its_original(some: Path, tmp_path: Path, how: str) -> None:
    for file in some.iterdir():
        with Image.open(file) as image:
            COPIES[how](image).save(
                tmp_path / f"{file.stem}_copy.jpg", quality=30 if how == "low quality" else 80
            )
    originals, copies = hash_images(some), hash_images(tmp_path)
    found = near_duplicates(originals, copies)
    assert {(pair.a, pair.b) for pair in found} == {(name, f"{name}_copy") for name in originals.names}
    assert [pair.distance for pair in found] == sorted(pair.distance for pair in found)
    assert {(pair.b, pair.a) for pair in near_duplicates(copies, originals)} == {(p.a, p.b) for p in found}


@pytest.mark.slow
def test_the_photographs_of_isic_2017_are_different_but_for_two_pairs(photographs: Path) -> None:
    hashes = hash_images(photographs)
    assert hashes.bits.shape == (650, 8, 256)
    pairs = [("ISIC_0012222", "ISIC_0016003"), ("ISIC_0015986", "ISIC_0015987")]
    assert [(pair.a, pair.b) for pair in near_duplicates(hashes)] == pairs
    nearly = near_duplicates(hashes, distance=48)
    assert len(nearly) == 2, "no pair is anywhere near the limit"
    assert all(pair.distance <= 2 for pair in nearly)


def test_made_up_patterns_are_told_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(12):
        coarse = Image.fromarray(random.integers(0, 255, (12, 12), dtype=np.uint8))
        coarse.resize((200, 160), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    assert near_duplicates(hash_images(tmp_path)) == []


def given(some: Path, folder: Path, melanoma: dict[str, int]):
    names = [file.stem for file in sorted(some.iterdir())]
    truth = [melanoma.get(name, number % 2) for number, name in enumerate(names)]
    pd.DataFrame({"image_name": names, "target": truth}).to_csv(folder / "labels.csv", index=False)
    scores = pd.DataFrame({"image": names, "score": np.random.default_rng(0).random(len(names))})
    return [Predictions(system="mine", kind="probability", table=scores)], read_labels(folder / "labels.csv")


def outcome(found, check: str):
    (checked,) = (each for each in found.checked if each.check == check)
    return checked.findings, [finding for finding in found.findings if finding.check == check]


def test_the_audit_reports_one_image_under_two_names(some: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(some, folder)
    first = min(folder.iterdir())
    for label, severity in ((0, "warning"), (1, "error")):
        shutil.copy(first, folder / "again.jpg")
        found = audit(
            *given(folder, tmp_path, {first.stem: 0, "again": label}),
            resamples=40,
            images=hash_images(folder),
        )
        count, (finding,) = outcome(found, "near_duplicate_images")
        assert (count, finding.severity) == (1, severity)
        assert finding.figures == {"pairs": 1, "different labels": label}
        assert finding.examples == (f"{first.stem} and again",)
    clean = audit(*given(some, tmp_path, {}), resamples=40, images=hash_images(some))
    assert outcome(clean, "near_duplicate_images") == (0, [])


def test_the_audit_scores_without_test_images_found_among_training_images(some: Path, tmp_path: Path) -> None:
    seen = sorted(some.iterdir())[:3]
    folder = tmp_path / "train"
    folder.mkdir()
    for number, file in enumerate(seen):
        with Image.open(file) as image:
            image.transpose(SYMMETRY.FLIP_TOP_BOTTOM).resize((200, 200)).save(folder / f"{number}.png")
    predictions, labels = given(some, tmp_path, {})
    hashes = hash_images(some)
    found = audit(predictions, labels, resamples=40, images=hashes, train_images=hash_images(folder))
    count, (finding,) = outcome(found, "images_shared_with_training")
    assert (count, finding.severity, finding.figures) == (1, "error", {"images": 3, "pairs": 3})
    assert found.shared == 3
    assert found.rescored[0].metric == "roc_auc"
    for number in range(3):
        (folder / f"{number}.png").unlink()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(folder / "other.png")
    clean = audit(predictions, labels, resamples=40, images=hashes, train_images=hash_images(folder))
    assert outcome(clean, "images_shared_with_training") == (0, [])


def test_folders_without_images_and_broken_images_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        hash_images(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8not an image")
    with pytest.raises(InputError, match=r"broken\.jpg: cannot be read as an image") as caught:
        hash_images(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_picture_with_a_damaged_header_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow has an error of another kind for each way in which a PNG file is damaged."""
    file = tmp_path / "broken.png"
    Image.effect_noise((80, 60), 50).save(file)
    whole = file.read_bytes()
    data = whole.index(b"IDAT")
    for damaged in (whole[:data] + b"\xe2j-v" + whole[data + 4 :], whole[:8] + b"\0\0\0\1" + whole[12:]):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"broken\.png: cannot be read as an image"):
            hash_images(tmp_path)
    file.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80 * 60 // 3)
    with pytest.raises(InputError, match=r"broken\.png: cannot be read as an image: Image size"):
        hash_images(tmp_path)


def test_images_of_folders_below_are_taken_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.png", "melanoma/a.PNG", "nevus/2019/c.png", ".thumbnails/d.png", "nevus/._c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60)).save(tmp_path / name, "PNG")
    (tmp_path / "folder.png").mkdir()
    assert hash_images(tmp_path).names == ("a", "b", "c")


def test_without_the_package_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MachineError, match=r"melanoma-zoo\[images\]"):
        hash_images(tmp_path)


def test_images_whose_name_is_no_text_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "fine.png")
    (tmp_path / "fine.png").rename(tmp_path / os.fsdecode(b"b\xff.png"))
    with pytest.raises(InputError, match="no text in UTF-8; rename the file"):
        hash_images(tmp_path)
