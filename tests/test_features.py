"""Metadata features are made from a test set's table as the card describes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest

import zoo
from evaluate import read_test_set
from evaluate.features import metadata_features
from zoo.card import System
from zoo.errors import CardError, InputError
from zoo.reading import parse

TABLE = (
    "image_name,patient_id,sex,age_approx,anatom_site_general_challenge\n"
    "A,P,male,45,torso\n"
    "B,P,female,90,\n"
    "C,-1,,,head/neck\n"
    "D,,Unknown,0,Upper Extremity\n"
    "E,P,FEMALE,30.0,unknown\n"
)


@pytest.fixture(scope="module")
def reader() -> System:
    """The one system that reads metadata."""
    return next(card for card in map(zoo.card, zoo.systems()) if card.metadata)


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[..., None]) -> Callable[[str], Path]:
    def make(table: str) -> Path:
        for line in table.splitlines()[1:]:
            draw(tmp_path / f"{line.partition(',')[0]}.jpg")
        (tmp_path / "metadata.csv").write_text(table)
        return tmp_path

    return make


def test_every_card_says_how_its_features_are_made():
    for card in map(zoo.card, zoo.systems()):
        assert all(feature.kind for feature in card.metadata), card.name


def test_a_patient_is_known_by_another_image_of_the_lesion(reader, folder):
    table = (
        "image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge\n"
        "A,P,L1,male,45,torso\nB,,L1,male,45,torso\nC,P,L2,male,45,torso\nD,-1,,male,45,torso\n"
    )
    found = read_test_set(folder(table))
    assert found.table is not None
    assert found.table["patient"].dropna().to_dict() == dict.fromkeys("ABC", "P")
    np.testing.assert_allclose(metadata_features(reader, found)[:, 2], np.log([4, 4, 4, 2]), rtol=1e-6)


def test_features_by_hand(reader, folder):
    found = read_test_set(folder(TABLE))
    features = metadata_features(reader, found)
    assert features.shape == (5, 14)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features[:, 0], [1, 0, -1, -1, 0])
    np.testing.assert_allclose(features[:, 1], [0.5, 1, 0, 0, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(features[:, 2], np.log([4, 4, 2, 2, 4]), rtol=1e-6)
    sizes = [image.path.stat().st_size for image in found.images]
    np.testing.assert_allclose(features[:, 3], np.log(sizes), rtol=1e-6)
    assert features[:, 4:].argmax(axis=1).tolist() == [7, 9, 1, 8, 9]
    np.testing.assert_array_equal(features[:, 4:].sum(axis=1), 1)


def test_sites_are_those_of_the_training_tables_in_order(reader, proveai):
    tables = [pd.read_csv(path) for path in sorted((proveai.parent / "training_sets").glob("*.csv"))]
    assert len(tables) == 2
    names = sorted({name for each in tables for name in each["anatom_site_general_challenge"].dropna()})
    assert list(next(f for f in reader.metadata if f.kind == "one_hot").categories) == names


def test_the_original_code_on_the_training_table(reader, proveai, tmp_path, draw):
    """As the winner's scripts do it with pandas: get_dummies with a column for NaN, map, fillna, log1p."""
    frame = pd.read_csv(proveai.parent / "training_sets" / "isic2020_train.csv").iloc[:300]
    for name in frame["image_name"]:
        draw(tmp_path / f"{name}.jpg")
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    found = read_test_set(tmp_path)
    sites = next(f for f in reader.metadata if f.kind == "one_hot").categories
    values = pd.Categorical(frame["anatom_site_general_challenge"], categories=sites)
    counts = frame["patient_id"].map(frame.groupby("patient_id")["image_name"].count())
    expected = np.column_stack(
        [
            frame["sex"].map({"male": 1, "female": 0}).fillna(-1),
            (frame["age_approx"] / 90).fillna(0),
            np.log1p(counts),
            np.log([image.size for image in found.images]),
            pd.get_dummies(values, dummy_na=True).to_numpy(),
        ]
    )
    np.testing.assert_array_equal(metadata_features(reader, found), expected.astype(np.float32))


def test_every_table_layout_gives_the_same_features(reader, folder):
    kaggle = metadata_features(reader, read_test_set(place := folder(TABLE)))
    (place / "metadata.csv").write_text(TABLE.replace("anatom_site_general_challenge", "anatom_site_general"))
    np.testing.assert_array_equal(metadata_features(reader, read_test_set(place)), kaggle)
    header, _, rows = TABLE.partition("\n")
    (place / "metadata.csv").write_text(f"image_name,who,gender,years,where\n{rows}")
    own = {"patient": "who", "sex": "gender", "age": "years", "site": "where"}
    np.testing.assert_array_equal(metadata_features(reader, read_test_set(place, columns=own)), kaggle)
    assert header


def test_an_image_has_the_same_features_whatever_is_left_out(reader, folder):
    place = folder(TABLE)
    whole = metadata_features(reader, read_test_set(place))
    np.testing.assert_array_equal(metadata_features(reader, read_test_set(place, limit=2)), whole[:2])
    (place / "B.jpg").write_bytes(b"")
    np.testing.assert_array_equal(
        metadata_features(reader, read_test_set(place, on_error="skip")), whole[[0, 2, 3, 4]]
    )


def test_what_is_missing_is_said(reader, folder, tmp_path):
    with pytest.raises(InputError) as told:
        metadata_features(reader, read_test_set(folder("image_name,sex,age\nA,male,4\n")))
    assert (
        "no column of: patient (patient_id or patient), site (anatom_site_general_challenge or anatom_site_general"
        in str(told.value)
    )
    assert "its columns are image_name, sex, age; " in str(told.value)
    assert str(told.value).endswith("name them with --column patient=NAME --column site=NAME")
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(InputError, match=r"reads metadata of each image: sex \(sex\), age .*--labels TABLE"):
        metadata_features(reader, read_test_set(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("A,P,male,45", "A,P,male,old", r"the age of A is 'old' \(1 such rows\); it must be a number"),
        ("A,P,male,45", "A,P,male,inf", "the age of A is 'inf'"),
        ("A,P,male", "A,P,m", "1 images have a sex that the system does not know: 'm'; write male, female, or leave"),
        ("torso", "trunk", "1 images have a site that the system does not know: 'trunk'; write anterior torso, head/neck"),
    ],
)  # fmt: skip
def test_values_that_mean_nothing_are_refused(reader, folder, old, new, message):
    with pytest.raises(InputError, match=message):
        metadata_features(reader, read_test_set(folder(TABLE.replace(old, new))))


def test_a_system_without_metadata_has_no_features(reader, tmp_path, draw):
    draw(tmp_path / "a.jpg")
    card = msgspec.structs.replace(reader, metadata=(), members=())
    assert metadata_features(card, read_test_set(tmp_path)).shape == (1, 0)


def test_a_card_that_only_has_words_is_told(reader, folder):
    wordy = msgspec.structs.replace(reader.metadata[0], kind=None)
    card = msgspec.structs.replace(reader, metadata=(wordy, *reader.metadata[1:]))
    with pytest.raises(InputError, match="does not say how sex is made; give its metadata a kind"):
        metadata_features(card, read_test_set(folder(TABLE)))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "scaled"', "needs its role"),
        ('kind = "log_file_size"\nrole = "age"', "needs its role"),
        ('kind = "code"\nrole = "sex"', "needs codes"),
        ('kind = "scaled"\nrole = "age"\ncodes = { a = 1.0 }', "no other kind has them"),
        (
            'kind = "one_hot"\nrole = "site"\ncategories = ["a"]',
            "width is 1, its categories and unknown make 2",
        ),
        (
            'kind = "one_hot"\nrole = "site"\nwidth = 3\ncategories = ["a", "a"]',
            "two categories are the same",
        ),
        ('kind = "square"\nrole = "age"', "Invalid enum value 'square'"),
    ],
)
def test_a_feature_must_be_consistent(lines, message):
    text = (
        'schema = 1\nname = "a"\ntitle = "A"\ngroup = "g"\nsummary = "s"\nfolds = 1\n'
        f'[[metadata]]\nname = "x"\ndefinition = "y"\n{lines}\n'
    )
    with pytest.raises(CardError, match=message):
        parse(text)
