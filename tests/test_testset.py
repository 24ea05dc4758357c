"""A folder of images and its table become a test set, or one clear error."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate import Predictions, TestSet, align, images, read_test_set
from zoo.errors import InputError, UsageError

ARCHIVE = (
    "isic_id,attribution,diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4,diagnosis_5,fitzpatrick_skin_type,sex,age_approx,"
    "anatom_site_general,patient_id,lesion_id\n"
    "ISIC_3,MSK,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma in situ,,,II,male,50,head/neck,IP_1,IL_1\n"
    "ISIC_1,MSK,Benign,Benign melanocytic proliferations,Nevus,,,,female,45,,IP_2,\n"
    "ISIC_2,MSK,Malignant,Malignant epidermal proliferations,\"Squamous cell carcinoma, Invasive\",,,,,,torso,IP_2,IL_2\n"
)  # fmt: skip
OLDER = (
    "isic_id,age_approx,anatom_site_general,benign_malignant,diagnosis,lesion_id,patient_id,sex\n"
    "ISIC_3,50,head/neck,malignant,melanoma,IL_1,IP_1,male\n"
    "ISIC_1,45,,benign,nevus,,IP_2,female\n"
    "ISIC_2,,torso,malignant,squamous cell carcinoma,IL_2,IP_2,\n"
)
KAGGLE = (
    "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
    "ISIC_3,IP_1,male,50.0,head/neck,melanoma,malignant,1\n"
    "ISIC_1,IP_2,female,45.0,,unknown,benign,0\n"
    "ISIC_2,IP_2,,,torso,seborrheic keratosis,benign,0\n"
)
LAYOUTS = {"archive": ARCHIVE, "older archive": OLDER, "Kaggle": KAGGLE}
NAMES = ("ISIC_1", "ISIC_2", "ISIC_3")


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[..., None]) -> Callable[..., Path]:
    def make(table: str | None = None, files: Iterable[str] = tuple(f"{n}.jpg" for n in NAMES)) -> Path:
        for name in files:
            draw(tmp_path / "set" / name)
        if table is not None:
            (tmp_path / "set" / "metadata.csv").write_text(table)
        return tmp_path / "set"

    return make


def names(found: TestSet) -> list[str]:
    return [image.id for image in found.images]


@pytest.mark.parametrize("table", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_layout_loads(folder, table):
    place = folder(table)
    found = read_test_set(place)
    assert names(found) == list(found.table.index) == ["ISIC_3", "ISIC_1", "ISIC_2"]
    assert found.labels.table["melanoma"].to_dict() == {"ISIC_3": True, "ISIC_1": False, "ISIC_2": False}
    assert found.table["patient"].to_dict() == {"ISIC_3": "IP_1", "ISIC_1": "IP_2", "ISIC_2": "IP_2"}
    assert found.table[found.columns["age"]].tolist()[:2] == [50, 45]
    assert found.table[found.columns["site"]]["ISIC_2"] == "torso"
    assert found.table_path == str(place / "metadata.csv")
    assert found.table_sha256 == hashlib.sha256(table.encode()).hexdigest()
    for image in found.images:
        content = image.path.read_bytes()
        assert (image.path.stem, image.size) == (image.id, len(content))
        assert image.sha256 == hashlib.sha256(content).hexdigest()
    assert found.skipped == {}


def test_the_table_of_the_authors_has_twenty_rows_per_lesion(proveai, tmp_path, draw):
    frame = pd.read_csv(proveai / "test.csv", dtype=str)
    lesions = frame["isic_id"].str.extract(r"^(ISIC_\d+)")[0]
    few = frame[lesions.isin([*lesions.unique()[:3], lesions[frame["diagnosis"] == "nevus"].iloc[0]])]
    few.to_csv(tmp_path / "test.csv", index=False)
    place = tmp_path / "images"
    originals = [name for name in few["isic_id"] if name.count("_") == 1]
    for name in originals:
        draw(place / f"{name}.jpg")
    alone = read_test_set(place, tmp_path / "test.csv")
    assert names(alone) == list(alone.table.index) == originals
    assert alone.labels.table["lesion"].notna().all()
    for name in few["isic_id"]:
        draw(place / f"{name}.jpg")
    copies = read_test_set(place, tmp_path / "test.csv")
    assert names(copies) == few["isic_id"].tolist()
    assert len(copies.images) == 20 * len(originals)
    scores = np.linspace(0, 1, len(copies.images))
    predictions = Predictions(
        system="mine", kind="probability", table=pd.DataFrame({"image": names(copies), "score": scores})
    )
    aligned = align(predictions, copies.labels)
    assert aligned.rows_per_image == 20
    np.testing.assert_allclose(aligned.scores, scores.reshape(-1, 20).mean(axis=1))


def test_the_real_set_is_read_whole(proveai):
    place = proveai.parent / "isic2017"
    seen = []
    found = read_test_set(place, progress=lambda *step: seen.append(step))
    assert found.table_path == str(place / "labels.csv")
    assert len(found.images) == 650
    assert found.labels.table["melanoma"].sum() == 138
    assert [image.sha256 for image in found.images] == found.table["sha256"].tolist()
    assert seen[0] == ("checking images", 1, 650)
    assert seen[-1] == ("checking images", 650, 650)


def test_copies_need_no_rows_and_come_after_their_image(folder):
    files = [f"{name}{copy}.jpg" for name in NAMES for copy in ("", "_0", "_10", "_2")]
    found = read_test_set(folder(KAGGLE, files))
    assert names(found)[:5] == ["ISIC_3", "ISIC_3_0", "ISIC_3_2", "ISIC_3_10", "ISIC_1"]
    assert found.table.loc["ISIC_3_10", "patient"] == "IP_1"
    assert len(found.labels.table) == 3


def test_all_images_have_the_same_copies(folder):
    files = ["ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.jpg", "ISIC_2_0.jpg"]
    with pytest.raises(InputError, match="ISIC_3 has 1 of 2 test-time copies, ISIC_3_0 is missing"):
        read_test_set(folder(KAGGLE, files))


@pytest.mark.parametrize(
    "row", ["ISIC_3.jpg", "ISIC_3_downsampled", "ISIC_3.JPEG", " ISIC_3"], ids=["ending", "smaller", "other ending", "space"]
)  # fmt: skip
def test_a_row_finds_its_file_by_its_plain_name(folder, row):
    found = read_test_set(folder(KAGGLE.replace("ISIC_3", row)))
    assert names(found)[0] == row.strip()
    assert found.images[0].path.name == "ISIC_3.jpg"
    assert found.labels.table.index[0] == row.strip()


def test_a_file_of_the_archive_may_be_called_downsampled(folder):
    files = ["ISIC_3_downsampled.jpg", "ISIC_1.jpg", "ISIC_2.png"]
    assert names(read_test_set(folder(KAGGLE, files))) == ["ISIC_3", "ISIC_1", "ISIC_2"]


def test_images_lie_in_folders_below_and_other_files_are_left_alone(folder, draw):
    place = folder(KAGGLE, ["a/ISIC_1.jpg", "a/b/ISIC_2.PNG", "ISIC_3.jpeg"])
    (place / "attribution.txt").write_text("by")
    (place / "other.csv").write_text("a,b\n1,2\n")
    (place / "broken.csv").write_bytes(b"\xff\xfe\x00")
    (place / ".thumbnails").mkdir()
    draw(place / ".thumbnails" / "ISIC_1.jpg")
    (place / "._ISIC_1.jpg").write_bytes(b"Mac")
    assert sorted(names(read_test_set(place))) == list(NAMES)


def test_without_a_table_ids_are_names_in_natural_order(folder):
    found = read_test_set(folder(None, ["b10.jpg", "b9.png", "a.jpg"]))
    assert names(found) == ["a", "b9", "b10"]
    assert (found.table, found.labels, found.table_path, found.table_sha256) == (None, None, "", "")


def test_a_name_that_is_no_text_is_told(folder):
    place = folder(None, ["a.jpg"])
    (place / "a.jpg").rename(place / os.fsdecode(b"b\xff.jpg"))
    with pytest.raises(
        InputError, match=r"the file name 'b\\udcff.jpg' is no text in UTF-8; rename the file"
    ):
        read_test_set(place)


def test_a_way_to_read_a_table_needs_one(folder, tmp_path):
    place, own = folder(None, ["a.jpg"]), tmp_path / "own.toml"
    own.write_text('melanoma = ["wen"]\n')
    for more in ({"columns": {"target": "mel"}}, {"diagnoses": own}):
        with pytest.raises(
            UsageError, match="say how a table is read, and there is none; give it with --labels"
        ):
            read_test_set(place, **more)


def test_a_table_may_say_nothing_of_melanoma(folder):
    assert read_test_set(folder("image_name,patient_id\nISIC_1,P\nISIC_2,P\nISIC_3,Q\n")).labels is None
    place = folder("isic_id,diagnosis,diagnosis_1\nISIC_1,,\nISIC_2,,\nISIC_3,,\n")
    assert read_test_set(place).labels is None


def test_a_table_may_be_of_one_class(folder):
    found = read_test_set(folder("image_name,target\nISIC_1,0\nISIC_2,0\nISIC_3,0\n"))
    assert found.labels.table["melanoma"].sum() == 0


def test_unknown_diagnoses_are_listed_and_can_be_told(folder, tmp_path):
    place = folder("isic_id,diagnosis\nISIC_1,blob\nISIC_2,melanoma\nISIC_3,other\n")
    with pytest.raises(InputError, match=r"2 rows, the first is row 2: .*: blob; other; .*--diagnoses FILE"):
        read_test_set(place)
    own = tmp_path / "own.toml"
    own.write_text('not_melanoma = ["blob", "Other"]')
    assert read_test_set(place, diagnoses=own).labels.table["melanoma"].sum() == 1


def test_columns_of_ones_own(folder):
    place = folder("file,cancer,who,where\nISIC_1.jpg,1,P,torso\nISIC_2.jpg,0,P,\nISIC_3.jpg,0,Q,\n")
    with pytest.raises(InputError, match="no column of image ids; name it with --column image=NAME"):
        read_test_set(place)
    own = {"image": "file", "target": "cancer", "patient": "who", "site": "where"}
    found = read_test_set(place, columns=own)
    assert found.table["patient"].tolist() == ["P", "P", "Q"]
    assert found.table[found.columns["site"]].tolist()[0] == "torso"
    assert found.labels.patients == 2
    with pytest.raises(UsageError, match="no role 'colour'; roles are image, target"):
        read_test_set(place, columns={"colour": "who"})


def test_which_table_is_meant(folder, tmp_path):
    place = folder(None)
    (place / "a.csv").write_text(KAGGLE)
    (place / "b.csv").write_text(OLDER)
    with pytest.raises(
        InputError, match=r"several tables name its images: .*a.csv, .*b.csv; .*--labels TABLE"
    ):
        read_test_set(place)
    assert read_test_set(place, place / "b.csv").table_path == str(place / "b.csv")
    (place / "metadata.csv").write_text(ARCHIVE)
    assert read_test_set(place).table_path == str(place / "metadata.csv")


def test_a_table_of_other_images_is_told(folder):
    place = folder(KAGGLE, ["x.jpg", "y.jpg"])
    with pytest.raises(InputError, match=r"no table names its images: .*its image_name names no image.*move"):
        read_test_set(place)
    with pytest.raises(InputError, match=r"2 of 2 images have no row in .*: .*x.jpg, .*y.jpg; complete"):
        read_test_set(place, place / "metadata.csv")


def test_rows_without_a_file_are_listed(folder):
    place = folder(KAGGLE, ["ISIC_1.jpg"])
    with pytest.raises(InputError, match="2 of 3 images cannot be used: ISIC_3: missing; ISIC_2: missing; "):
        read_test_set(place)
    found = read_test_set(place, on_error="skip")
    assert names(found) == ["ISIC_1"]
    assert found.skipped == {"ISIC_3": "missing", "ISIC_2": "missing"}
    assert len(found.table) == len(found.labels.table) == 3


def test_many_missing_files_are_counted(folder):
    rows = [f"X{number},{number % 2}" for number in range(100)]
    place = folder("image_name,target\n" + "\n".join(rows) + "\n", ["X0.jpg"])
    with pytest.raises(
        InputError, match=r"99 of 100 images cannot be used: X1: missing; .* X20: missing and 79 more; "
    ):
        read_test_set(place)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["ISIC_1.jpg", "ISIC_1.png"], "ISIC_1.jpg and .*ISIC_1.png are of one name; keep one"),
        (["a/ISIC_1.jpg", "b/ISIC_1.jpg"], "are of one name"),
        (["ISIC_9.jpg", "ISIC_1.jpg"], "1 of 2 images have no row in .*ISIC_9.jpg"),
        (["ISIC_1.jpg", "ISIC_1_downsampled.jpg"], "1 of 2 images have no row in"),
    ],
)
def test_files_and_rows_that_do_not_fit(folder, files, message):
    with pytest.raises(InputError, match=message):
        read_test_set(folder(KAGGLE, files))


def test_rows_that_mean_one_file(folder):
    with pytest.raises(InputError, match=r"row 4 repeats ISIC_3 of row 2"):
        read_test_set(folder(KAGGLE.replace("ISIC_2", "ISIC_3")))
    table = "image_name,target\nISIC_1.jpg,1\nISIC_1_downsampled,0\n"
    with pytest.raises(InputError, match=r"ISIC_1.jpg and ISIC_1_downsampled mean the same file"):
        read_test_set(folder(table, ["ISIC_1.jpg"]))


def test_folders_without_images(tmp_path, draw):
    with pytest.raises(InputError, match="there is no such folder"):
        read_test_set(tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no image \(.jpg, .jpeg, .png\)"):
        read_test_set(tmp_path)
    draw(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="there is no such file"):
        read_test_set(tmp_path, tmp_path / "absent.csv")


def spoil(place: Path) -> None:
    whole = (place / "ISIC_1.jpg").read_bytes()
    (place / "ISIC_1.jpg").write_bytes(whole[: len(whole) // 2])
    (place / "ISIC_3.jpg").write_text("not found")


def test_all_damaged_files_are_told_at_once(folder):
    place = folder(KAGGLE)
    spoil(place)
    with pytest.raises(InputError) as told:
        read_test_set(place)
    text = str(told.value)
    assert text.startswith(
        f"{place}: 2 of 3 images cannot be used: {place / 'ISIC_3.jpg'}: neither a JPEG nor a PNG"
    )
    assert f"; {place / 'ISIC_1.jpg'}: cut short; " in text
    assert text.endswith("--on-error skip")


def test_damaged_files_can_be_skipped(folder):
    place = folder(KAGGLE)
    spoil(place)
    found = read_test_set(place, on_error="skip")
    assert names(found) == ["ISIC_2"]
    assert list(found.skipped) == ["ISIC_3", "ISIC_1"]
    assert found.skipped["ISIC_1"] == "cut short"
    (place / "ISIC_2.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"3 of 3 images cannot be used.*ISIC_2.jpg: empty file"):
        read_test_set(place, on_error="skip")


def test_a_limit_takes_the_first_lesion_images_with_their_copies(folder):
    files = [f"{name}{copy}.jpg" for name in NAMES for copy in ("", "_0")]
    place = folder(KAGGLE, files)
    (place / "ISIC_2.jpg").write_bytes(b"")
    found = read_test_set(place, limit=2)
    assert names(found) == ["ISIC_3", "ISIC_3_0", "ISIC_1", "ISIC_1_0"]
    assert found.labels.table.index.tolist() == ["ISIC_3", "ISIC_1"]
    assert len(found.table) == 6
    assert names(read_test_set(place, limit=99, on_error="skip"))[-1] == "ISIC_2_0"
    with pytest.raises(UsageError, match="a limit of 0"):
        read_test_set(place, limit=0)
    with pytest.raises(UsageError, match="0 workers"):
        read_test_set(place, workers=0)
    with pytest.raises(UsageError, match="on_error is 'ignore'"):
        read_test_set(place, on_error="ignore")


def test_ctrl_c_reads_no_further_files(folder, monkeypatch):
    place = folder(None, [f"x{number}.png" for number in range(300)])
    looked = []
    monkeypatch.setattr(images, "check", lambda path, data: looked.append(path))

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_test_set(place, progress=stop)
    assert len(looked) < 300


def test_patients_of_a_part_are_counted_anew(folder):
    place = folder("image_name,target,patient_id\nISIC_1,1,\nISIC_2,0,P\nISIC_3,0,\n")
    assert read_test_set(place).labels.without_patient == 2
    assert read_test_set(place, limit=2).labels.without_patient == 1


@settings(max_examples=20)
@given(count=st.integers(1, 5), workers=st.integers(1, 4), seed=st.integers(0, 3), data=st.data())
def test_the_digest_is_of_ids_pixels_and_order_and_of_nothing_else(
    tmp_path_factory, draw, count, workers, seed, data
):
    place = tmp_path_factory.mktemp("here") / "set"
    for number in range(count):
        draw(place / f"I{number}.png", seed=seed * 100 + number)
    rows = [f"I{number},{number % 2}" for number in range(count)]
    (place / "metadata.csv").write_text("\n".join(["image_name,target", *rows]) + "\n")
    digest = read_test_set(place, workers=workers).digest
    moved = tmp_path_factory.mktemp("there") / "other"
    shutil.copytree(place, moved)
    assert read_test_set(moved).digest == digest
    shuffled = data.draw(st.permutations(rows))
    (moved / "metadata.csv").write_text("\n".join(["image_name,target", *shuffled]) + "\n")
    assert (read_test_set(moved).digest == digest) == (shuffled == rows)
    draw(place / "I0.png", seed=seed * 100 + 50)
    assert read_test_set(place).digest != digest
