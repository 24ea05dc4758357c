from pathlib import Path

import pandas as pd
import pytest

from evaluate import read_labels
from evaluate.diagnoses import read_diagnoses
from evaluate.labels import only
from zoo.errors import InputError, UsageError


@pytest.fixture
def table(tmp_path):
    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_the_test_set_is_603_lesions_of_435_patients(proveai):
    labels = read_labels(proveai / "test.csv")
    assert len(labels.table) == 603
    assert labels.table["melanoma"].sum() == 95
    assert labels.patients == 435
    assert labels.without_patient == 0
    assert len(labels.image_of) == 12_060
    assert labels.image_of["ISIC_0080539_18"] == labels.image_of["ISIC_0080539"] == "ISIC_0080539"
    assert labels.table.index[0] == "ISIC_0080539"
    assert labels.table.loc["ISIC_0080539", "lesion"] == "IL_6342582"
    assert labels.table.loc["ISIC_0080539", "age_approx"] == 50


@pytest.mark.parametrize(
    ("file", "images", "melanomas", "patients"),
    [
        ("training_sets/isic2019_train.csv", 25_331, 4_522, 25_331),
        ("training_sets/isic2020_train.csv", 33_126, 584, 2_056),
        ("isic2017/labels.csv", 650, 138, 650),
    ],
)
def test_tables_of_the_challenges(proveai, file, images, melanomas, patients):
    labels = read_labels(proveai.parent / file)
    assert (len(labels.table), labels.table["melanoma"].sum(), labels.patients) == (
        images,
        melanomas,
        patients,
    )


@pytest.mark.parametrize("file", ["training_sets/isic2019_train.csv", "proveai/test.csv"])
def test_the_diagnosis_alone_gives_the_same_labels(proveai, file, tmp_path):
    frame = pd.read_csv(proveai.parent / file)
    path = tmp_path / "labels.csv"
    frame.drop(columns=["target", "benign_malignant"], errors="ignore").to_csv(path, index=False)
    pd.testing.assert_series_equal(
        read_labels(path).table["melanoma"], read_labels(proveai.parent / file).table["melanoma"]
    )


LAYOUTS = {
    "Kaggle": "image_name,patient_id,target\nA,P,1\nB,P,0\nC,Q,0\n",
    "older archive": "isic_id,diagnosis,patient_id\nA,melanoma,P\nB,basal cell carcinoma,P\nC,nevus,Q\n",
    "today's archive": (
        "isic_id,patient_id,diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4\n"
        "A,P,Malignant,Malignant melanocytic proliferations (Melanoma),Melanoma in situ,\n"
        "B,P,Malignant,Malignant epidermal proliferations,A carcinoma that no table lists,\n"
        'C,Q,Benign,Benign melanocytic proliferations,Nevus,"Nevus, of a kind that no table lists"\n'
    ),
    "only level 3 tells": "isic_id,patient_id,diagnosis_1,diagnosis_3\nA,P,Malignant,Melanoma Invasive\nB,P,,Nevus\nC,Q,Benign,\n",
    "codes": "image,patient,diagnosis\nA,P,MEL\nB,P,SCC\nC,Q,NV\n",
    "other spelling": "isic_id,diagnosis,patient_id\nA,Melanoma_In  Situ,P\nB,NEVUS,P\nC,scar ,Q\n",
    "target as text": "isic_id,target,patient_id\nA,True,P\nB,false,P\nC,0.0,Q\n",
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dressing", ["plain", "bom", "crlf", "blank rows"])
def test_layouts_give_the_same_labels(table, text, dressing):
    encoding = "utf-8-sig" if dressing == "bom" else "utf-8"
    if dressing == "crlf":
        text = text.replace("\n", "\r\n")
    if dressing == "blank rows":
        text = text.replace("\nB", "\n\nB") + "\n\n"
    labels = read_labels(table(text, encoding)).table
    assert labels["melanoma"].to_dict() == {"A": True, "B": False, "C": False}
    assert labels["patient"].to_dict() == {"A": "P", "B": "P", "C": "Q"}


def test_malignant_is_not_melanoma():
    known = read_diagnoses()
    assert {"bcc", "scc", "squamous cell carcinoma", "basal cell carcinoma"} <= known.not_melanoma
    assert not {"malignant", "unknown", "other"} & (known.melanoma | known.not_melanoma)


def test_other_columns_are_kept_and_ids_stay_text(table):
    labels = read_labels(table("image_name,target,patient_id,sex,age\n001,1,01,male,50\n002,0,1,female,\n"))
    assert labels.table.index.tolist() == ["001", "002"]
    assert labels.patients == 2
    assert labels.table["sex"].tolist() == ["male", "female"]
    assert labels.table["age"].tolist()[0] == 50
    assert "target" not in labels.table


def test_a_missing_patient_is_one_of_its_own_or_that_of_the_lesion(table):
    labels = read_labels(
        table(
            "isic_id,target,patient_id,lesion_id\nA,1,-1,L\nB,1,,L\nC,0,-1,\nD,0,,\nE,0,P,\nF,0,P,\n",
        )
    )
    patient = labels.table["patient"]
    assert patient["A"] == patient["B"]
    assert patient["E"] == patient["F"] == "P"
    assert labels.patients == 4
    assert labels.without_patient == 4


def test_a_missing_patient_is_that_of_another_image_of_the_lesion(table):
    """Images of one lesion are of one patient: resampled apart they would make intervals too narrow."""
    rows = "A,1,,L\nB,1,P,L\nC,0,-1,M\nD,0,,M\nE,0,P,\nF,0,,\n"
    labels = read_labels(table(f"isic_id,target,patient_id,lesion_id\n{rows}"))
    patient = labels.table["patient"]
    assert patient["A"] == patient["B"] == patient["E"] == "P"
    assert patient["C"] == patient["D"]
    assert labels.patients == 3
    assert labels.without_patient == 3
    assert labels.known_patients.to_dict() == {"A": "P", "B": "P", "E": "P"}
    assert only(labels, ["A", "C"]).without_patient == 1


COPIES = "isic_id,target,patient_id,lesion_id,sex\nA,1,P,L,f\nA_0,1,P,L,f\nA_1,1,P,L,f\nB_0,0,-1,M,m\nB,0,-1,M,m\nB_1,0,,M,m\n"


def test_copies_are_folded_into_their_image(table):
    labels = read_labels(table(COPIES))
    assert labels.table.index.tolist() == ["A", "B"]
    assert labels.image_of.to_dict() == {"A": "A", "A_0": "A", "A_1": "A", "B_0": "B", "B": "B", "B_1": "B"}
    assert labels.without_patient == 1


def test_an_id_that_only_looks_like_a_copy_is_an_image(table):
    labels = read_labels(table("image_name,target\nISIC_1,1\nISIC_2,0\nISIC_3_downsampled,0\n"))
    assert len(labels.table) == 3


REFUSED = {
    "repeated id": ("isic_id,target\nA,1\nB,0\nA,1\n", "row 4 repeats A of row 2"),
    "missing id": ("isic_id,target\nA,1\n,0\n", "row 3 has no isic_id"),
    "missing label": ("isic_id,target\nA,1\nB,\nC,0\n", "row 3: target is missing"),
    "label of another kind": ("isic_id,target\nA,1\nB,0.3\n", "row 3: target is '0.3'"),
    "one class": ("isic_id,target\nA,0\nB,0\n", "all 2 rows are not melanoma"),
    "no label": ("isic_id,benign_malignant\nA,malignant\nB,benign\n", "no column says what is melanoma"),
    "no id": ("name,target\nA,1\nB,0\n", "no column of image ids"),
    "missing diagnosis": ("isic_id,diagnosis\nA,melanoma\nB,\n", "row 3 has no diagnosis"),
    "unknown diagnoses": (
        "isic_id,diagnosis\nA,melanoma\nB,blob\nC,nevus\nD,smudge\nE,blob\n",
        "3 rows, the first is row 3: cannot tell whether these diagnoses are melanoma: blob; smudge",
    ),
    "undecided malignant": (
        "isic_id,diagnosis_1,diagnosis_2\nA,Malignant,\nB,Benign,\nC,Malignant,Collision - At least one malignant proliferation\n",
        "are melanoma: Malignant; Malignant > Collision",
    ),
    "contradicting levels": (
        "isic_id,diagnosis_1,diagnosis_3\nA,Benign,Melanoma in situ\nB,Benign,Nevus\n",
        "row 2: the diagnosis 'Benign > Melanoma in situ' is melanoma by one level",
    ),
    "target means malignant": (
        "isic_id,target,iddx_1,iddx_3\nA,1,Malignant,Melanoma in situ\nB,1,Malignant,Basal cell carcinoma\nC,0,Benign,\n",
        "row 3: target is 1, but the diagnosis 'Malignant > Basal cell carcinoma' is not melanoma",
    ),
    "copy of another class": (COPIES.replace("A_1,1", "A_1,0"), "row 4: melanoma of A_1 is not that of A"),
    "copy of another patient": (COPIES.replace("A_0,1,P", "A_0,1,Q"), "row 3: patient of A_0 is not that of A"),
    "copy of another lesion": (COPIES.replace("B,0,-1,M", "B,0,-1,"), "row 5: lesion of B_0 is not that of B"),
    "missing copy": (COPIES.replace("B_1,0,,M,m\n", ""), "row 5: B has 2 of 3 rows, B_1 is missing"),
    "long row": ("isic_id,target\nA,1\nB,0,5\n", "cannot be read as a CSV table"),
    "all rows long": ("isic_id,target\nA,1,4\nB,0,5\n", "cannot be read as a CSV table"),
    "no rows": ("isic_id,target\n", "the table has no rows"),
    "empty": ("", "the file is empty"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_line_that_names_the_file(table, text, message):
    path = table(text)
    with pytest.raises(InputError) as error:
        read_labels(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "absent.csv")


def test_not_text(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a CSV table"):
        read_labels(path)


def test_columns_of_ones_own(table):
    path = table("file,cancer,case,target\nA,1,P,0\nB,0,P,0\n")
    labels = read_labels(path, columns={"image": "file", "target": "cancer", "patient": "case"})
    assert labels.table["melanoma"].tolist() == [True, False]
    assert labels.patients == 1


def test_a_named_target_or_diagnosis_is_trusted_alone(table):
    path = table("isic_id,target,iddx_1,iddx_3\nA,1,Malignant,Melanoma in situ\nB,1,Malignant,Basal cell carcinoma\nC,0,Benign,\n")  # fmt: skip
    assert read_labels(path, columns={"target": "target"}).table["melanoma"].tolist() == [True, True, False]
    assert read_labels(path, columns={"diagnosis": "iddx"}).table["melanoma"].tolist() == [True, False, False]
    with pytest.raises(InputError, match="row 3: target is 1"):
        read_labels(path, columns={"target": "target", "diagnosis": "iddx"})


def test_columns_that_are_not_there(table):
    path = table("isic_id,target\nA,1\nB,0\n")
    with pytest.raises(InputError, match="no column 'case' for the patient; columns are isic_id, target"):
        read_labels(path, columns={"patient": "case"})
    with pytest.raises(UsageError, match="no role 'colour'; roles are image"):
        read_labels(path, columns={"colour": "sex"})


def test_diagnoses_of_ones_own_win(table, tmp_path):
    path = table("isic_id,diagnosis\nA,melanoma\nB,blob\nC,nevus\nD,AIMP\n")
    own = tmp_path / "own.toml"
    own.write_text('melanoma = ["aimp"]\nnot_melanoma = ["Blob"]\n')
    assert read_labels(path, diagnoses=own).table["melanoma"].tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('melanoma = ["a"]\nnot_melanoma = ["A"]', "'a' is in both lists"),
        ('malignant = ["a"]', "unknown field"),
        ("melanoma = [", "not a table of diagnoses"),
    ],
)
def test_bad_diagnoses_of_ones_own(table, tmp_path, text, message):
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(table("isic_id,target\nA,1\nB,0\n"), diagnoses=own)
    with pytest.raises(InputError, match="cannot be read"):
        read_diagnoses(tmp_path / "absent.toml")
