from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo
from evaluate import Predictions, align, find, read_labels, read_predictions, write_predictions
from zoo.errors import InputError, MachineError

LABELS = "isic_id,target,patient_id\nA,1,P\nB,0,P\nC,0,Q\n"
COPIES = "isic_id,target\nA,1\nA_0,1\nA_1,1\nB,0\nB_0,0\nB_1,0\nC,0\nC_0,0\nC_1,0\n"
SCORES = "image_name,target,y_true\nC,0.3,0\nA,0.9,1\nB,0.25,0\n"


@pytest.fixture
def write(tmp_path):
    def to(name: str, text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode(encoding))
        return path

    return to


def predictions(rows: list[dict], system: str = "sge_b3", **fields) -> Predictions:
    frame = pd.DataFrame(rows)
    frame.index = frame.index + 1
    return Predictions(system=system, kind=fields.pop("kind", "probability"), table=frame, **fields)


# Reading and writing


@pytest.mark.parametrize(
    "text",
    [
        SCORES,
        "image_name,y_true,target\nC,0,0.3\nA,1,0.9\nB,0,0.25\n",
        "y_true,target,image_name\r\n0,0.3,C\r\n1,0.9,A\r\n0,0.25,B\r\n",
        "isic_id,score\nC,0.3\nA,0.9\nB,0.25\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_columns_come_in_any_order(write, text, encoding):
    read = read_predictions(write("SGE-B3.csv", text, encoding))
    assert (read.system, read.kind) == ("sge_b3", "probability")
    assert align(read, read_labels(write("labels.csv", LABELS))).scores.tolist() == [0.9, 0.25, 0.3]


@pytest.mark.parametrize(
    ("file", "system", "kind"),
    [
        ("First_place.csv", "first_place", "probability"),
        ("Second_place.csv", "second_place", "rank"),
        ("Third_place.csv", "third_place", "rank"),
        ("3rd-place.csv", "third_place", "rank"),
        ("baseline_b3.csv", "baseline_b3", "probability"),
        ("S2-CBAM-B3.csv", "s2_cbam_b3", "probability"),
        ("spatial_b3.csv", "spatial_b3", "probability"),
    ],
)
def test_a_csv_file_is_of_the_system_it_is_called_after(write, file, system, kind):
    read = read_predictions(write(file, SCORES))
    assert (read.system, read.kind) == (system, kind)
    assert read_predictions(write(file, SCORES), kind="rank").kind == "rank"


def test_notes_of_a_published_file_reach_the_reader(write):
    assert "ranks" in read_predictions(write("Second_place.csv", SCORES)).notes[0]


def test_scores_that_nothing_is_known_of_are_not_taken_for_probabilities(write):
    read = read_predictions(write("mine.csv", SCORES))
    assert (read.system, read.kind) == ("mine", "rank")
    assert "Nothing says" in read.notes[0]
    stated = read_predictions(write("mine.csv", SCORES), kind="probability")
    assert (stated.kind, stated.notes) == ("probability", ())


CELLS = {
    "image": st.text(min_size=1, max_size=5),
    "lesion": st.none() | st.text(min_size=1, max_size=3),
    "patient": st.none() | st.text(min_size=1, max_size=3),
    "member": st.sampled_from(["a", "b"]),
    "fold": st.integers(0, 4),
    "score": st.floats(0, 1),
}


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8, unique_by=lambda row: (row["image"], row["member"], row["fold"])),
    kind=st.sampled_from(["probability", "rank"]),
)  # fmt: skip
def test_parquet_round_trip(tmp_path, rows, kind):
    written = predictions(rows, kind=kind, metadata={"views": 8, "weights": "abc"})
    write_predictions(written, tmp_path / "x.parquet")
    read = read_predictions(tmp_path / "x.parquet")
    assert (read.system, read.kind, read.metadata) == ("sge_b3", kind, {"views": 8, "weights": "abc"})
    frame = read.table.astype(object).where(read.table.notna(), None)
    assert frame.to_dict("records") == rows
    assert len(read.sha256) == 64


def test_an_unfinished_file_is_never_seen(tmp_path, monkeypatch):
    path = tmp_path / "x.parquet"
    write_predictions(predictions([{"image": "A", "score": 0.5}]), path)

    def breaks(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", breaks)
    with pytest.raises(MachineError, match=r"x\.parquet: cannot be written: No space left"):
        write_predictions(predictions([{"image": "A", "score": 0.9}]), path)
    assert list(tmp_path.iterdir()) == [path]
    assert read_predictions(path).table["score"].tolist() == [0.5]


def parquet(tmp_path, change=lambda table: table) -> Path:
    path = tmp_path / "x.parquet"
    write_predictions(predictions([{"image": "A", "score": 0.5}, {"image": "B", "score": 0.6}]), path)
    pq.write_table(change(pq.read_table(path)), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("fold"), "no column 'fold'"),
        (lambda t: t.replace_schema_metadata({}), "does not say what its scores are of"),
        (lambda t: t.replace_schema_metadata({b"melanoma_zoo": b"[]"}), "does not say what"),
        (lambda t: t.replace_schema_metadata({b"melanoma_zoo": b'{"schema": 2, "system": "a"}'}), "version 2 of the format"),
        (lambda t: t.set_column(6, "kind", [["rank", "probability"]]), "kind is 'rank', 'probability'"),
        (lambda t: t.set_column(6, "kind", [["logit", "logit"]]), "kind is 'logit'"),
        (lambda t: t.set_column(5, "score", [["high", "low"]]), "cannot be read as predictions"),
        (lambda t: t.set_column(5, "score", [[0.5, None]]), "row 2: the score nan of B is not a finite number"),
    ],
)  # fmt: skip
def test_a_parquet_file_that_is_not_ours(tmp_path, change, message):
    path = parquet(tmp_path, change)
    with pytest.raises(InputError) as error:
        read_predictions(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_broken_parquet_file(tmp_path):
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_predictions(path)
    with pytest.raises(InputError, match="no such file"):
        read_predictions(tmp_path / "absent.parquet")


def test_a_parquet_file_knows_its_kind(tmp_path):
    with pytest.raises(InputError, match="kind 'probability', not 'rank'"):
        read_predictions(parquet(tmp_path), kind="rank")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_name,target\nA,0.5\nB,\n", "row 3: the score nan of B is not a finite number"),
        ("image_name,target\nA,0.5\nB,inf\n", "row 3: the score inf of B is not a finite number"),
        ("image_name,target\nA,0.5\nB,high\n", "row 3: target is 'high'; it must be a number"),
        ("image_name,target\nA,1.5\nB,0.5\n", "row 2: the score 1.5 of A is outside [0, 1]"),
        ("image_name,target\nA,-0.1\nB,0.5\n", "row 2: the score -0.1 of A is outside [0, 1]"),
        ("image_name,target\nA,0.5\nB,0.4\nA,0.5\n", "row 4 repeats A of row 2"),
        ("image_name,target,y_true\nA,0.5,1\nB,0.4,2\n", "row 3: y_true is '2'"),
        ("image_name,melanoma\nA,0.5\n", "not a table of predictions"),
        ("name,target\nA,0.5\n", "not a table of predictions"),
    ],
)
def test_a_csv_file_with_wrong_rows(write, text, message):
    path = write("SGE-B3.csv", text)
    with pytest.raises(InputError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_scores_are_the_numbers_nearest_to_their_text(write):
    """Two of the published ranks differ in the last bit only, which decides a threshold."""
    texts = ["0.2730099502487562", "0.27300995024875624", "0.1", "1e-3"]
    rows = "".join(f"I{i},{text}\n" for i, text in enumerate(texts))
    read = read_predictions(write("SGE-B3.csv", "image_name,target\n" + rows))
    assert read.table["score"].tolist() == [float(text) for text in texts]


def test_ranks_may_exceed_one(write):
    assert read_predictions(write("Second_place.csv", "image_name,target\nA,17\nB,3\n")).kind == "rank"


def test_a_member_and_fold_has_one_row_for_an_image():
    rows = [{"image": "A", "member": "m", "fold": fold, "score": 0.5} for fold in (0, 1, 1)]
    with pytest.raises(InputError, match="row 3 repeats A, m, 1"):
        predictions(rows)


# Finding


def test_the_published_files_are_found(proveai):
    found, left_out = find(proveai / "predictions")
    assert {each.system for each in found} == {
        "sge_b3", "spatial_b3", "s2_mlp_b3", "s2_cbam_b3", "first_place", "second_place", "third_place",
    }  # fmt: skip
    assert [Path(path).name for path in left_out] == ["final-SA6.csv"]
    with_extra, left_out = find([proveai / "predictions"], extra=True)
    assert {each.system for each in with_extra} - {each.system for each in found} == {"final-SA6"}
    assert not left_out


def test_files_are_found_in_natural_order_and_by_any_spelling(write, tmp_path):
    for name in ("run10.csv", "run2.csv", "sge-B3.CSV.txt", "s2_mlp-b3.csv", "notes.md"):
        write(name, SCORES)
    found, _ = find(tmp_path, extra=True)
    assert [each.system for each in found] == ["run2", "run10", "s2_mlp_b3"]


def test_a_file_of_no_system_is_not_read(write, tmp_path):
    write("SGE-B3.csv", SCORES)
    odd = write("metadata.csv", LABELS.replace("target", "diagnosis"))
    found, left_out = find(tmp_path)
    assert [each.system for each in found] == ["sge_b3"]
    assert "its name matches no card" in left_out[str(odd)]


def test_a_parquet_file_names_its_system_itself(tmp_path):
    write_predictions(predictions([{"image": "A", "score": 0.5}], system="SGE-B3"), tmp_path / "7.parquet")
    write_predictions(predictions([{"image": "A", "score": 0.5}], system="mine"), tmp_path / "8.parquet")
    found, left_out = find(tmp_path)
    assert [each.system for each in found] == ["sge_b3"]
    assert [Path(path).name for path in left_out] == ["8.parquet"]


def test_two_files_of_one_system(write):
    one, two = write("SGE-B3.csv", SCORES), write("sge_b3.csv", SCORES)
    with pytest.raises(InputError, match=r"sge_b3\.csv: holds scores of sge_b3, as .*SGE-B3\.csv does"):
        find([one, two])


def test_nothing_found(write, tmp_path):
    with pytest.raises(InputError, match=r"no \.csv or \.parquet file"):
        find(tmp_path)
    with pytest.raises(InputError, match="its name matches no card"):
        find(write("mine.csv", SCORES))
    with pytest.raises(InputError, match="no such file"):
        find(tmp_path / "SGE-B3.csv")


# Joining to labels


@pytest.fixture
def labels(write):
    return read_labels(write("labels.csv", LABELS))


@pytest.fixture
def labels_with_copies(write):
    return read_labels(write("copies.csv", COPIES))


COPY_SCORES = {
    "A": 0.9,
    "A_0": 0.6,
    "A_1": 0.3,
    "B": 0.1,
    "B_0": 0.2,
    "B_1": 0.3,
    "C": 0.0,
    "C_0": 0.5,
    "C_1": 1.0,
}


@given(order=st.permutations(list(COPY_SCORES)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@pytest.mark.parametrize("which", ["labels", "labels_with_copies"])
def test_copies_are_averaged_by_id_whatever_their_order(request, which, order):
    aligned = align(
        predictions([{"image": image, "score": COPY_SCORES[image]} for image in order]),
        request.getfixturevalue(which),
    )
    assert aligned.scores == pytest.approx([0.6, 0.2, 0.5])
    assert aligned.rows_per_image == 3


def test_one_row_per_image_is_enough(labels_with_copies):
    rows = [{"image": image, "score": COPY_SCORES[image]} for image in "CAB"]
    aligned = align(predictions(rows), labels_with_copies)
    assert aligned.scores.tolist() == [0.9, 0.1, 0.0]
    assert aligned.rows_per_image == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_name,target\nA,0.5\nB,0.4\n", "no score for C of"),
        ("image_name,target\nA,0.5\nB,0.4\nC,0.1\nD,0.1\n", "row 5: D is not in"),
        ("image_name,target\nA,0.5\nB,0.4\nC,0.1\nD_0,0.1\n", "row 5: D_0 is not in"),
        ("image_name,target\nA,0.5\nB,0.4\nC,0.1\nA_0,0.1\n", "row 3: B has 1 of 2 rows, B_0 is missing"),
        ("image_name,target,y_true\nA,0.5,1\nB,0.4,1\nC,0.1,0\n", "row 3: y_true of B is 1"),
    ],
)
def test_predictions_that_do_not_fit(write, labels, text, message):
    path = write("SGE-B3.csv", text)
    with pytest.raises(InputError) as error:
        align(read_predictions(path), labels)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def rows_of(scores: dict) -> list[dict]:
    """Rows from {(member, fold): scores of A, B, C}."""
    return [
        {"image": image, "member": member, "fold": fold, "score": score}
        for (member, fold), values in scores.items()
        for image, score in zip("ABC", values, strict=True)
    ]


def test_members_and_folds_are_blended_as_the_card_says(labels):
    scores = {
        ("bee508", 0): (0.9, 0.2, 0.1), ("bee508", 1): (0.1, 0.4, 0.3),
        ("bee517", 0): (0.5, 0.6, 0.7), ("bee517", 1): (0.5, 0.6, 0.7),
    }  # fmt: skip
    assert zoo.card("second_place").blend.members == "rank_mean"
    aligned = align(predictions(rows_of(scores), system="second_place"), labels)
    assert aligned.kind == "rank"
    assert aligned.scores == pytest.approx([(3 / 3 + 1 / 3) / 2, (2 / 3 + 2 / 3) / 2, (1 / 3 + 3 / 3) / 2])
    assert aligned.notes == ("Blend of 2 of 3 members, 2 of 5 folds: not the whole system.",)

    third = zoo.card("third_place")
    assert third.blend.members == "mean"
    scores = {
        (third.members[0].name, 0): (0.5, 0.3, 0.2),
        (third.members[1].name, 0): (0.5, 0.6, 0.7),
    }
    aligned = align(predictions(rows_of(scores), system="third_place"), labels)
    assert aligned.kind == "probability"
    assert aligned.scores == pytest.approx([0.5, 0.45, 0.45])


def test_members_and_folds_that_the_system_does_not_have_are_refused(labels):
    strange = {("bee508", 0): (0.9, 0.2, 0.1), ("nope", 0): (0.5, 0.6, 0.7)}
    with pytest.raises(InputError, match="second_place has no member 'nope'; its members are bee508, bee517"):
        align(predictions(rows_of(strange), system="second_place"), labels)
    six = {("bee508", fold): (0.9, 0.2, 0.1) for fold in range(6)}
    with pytest.raises(InputError, match="second_place has 5 folds, the file has more"):
        align(predictions(rows_of(six), system="second_place"), labels)


def test_a_whole_system_carries_no_note(labels):
    card = zoo.card("sge_b3")
    scores = {(card.members[0].name, fold): (fold / 10, 0.1, 0.2) for fold in range(card.folds)}
    aligned = align(predictions(rows_of(scores)), labels)
    assert aligned.notes == ()
    assert aligned.scores == pytest.approx([0.2, 0.1, 0.2])


def test_a_member_of_too_few_folds_is_told(labels):
    name = zoo.card("sge_b3").members[0].name
    aligned = align(predictions(rows_of({(name, 0): (0.1, 0.2, 0.3), (name, 1): (0.1, 0.2, 0.3)})), labels)
    assert aligned.notes == ("Blend of 1 of 1 members, 2 of 5 folds: not the whole system.",)


def test_members_of_an_unknown_system_are_averaged(labels):
    scores = {("a", 0): (0.2, 0.4, 0.6), ("b", None): (0.4, 0.6, 0.8)}
    aligned = align(predictions(rows_of(scores), system="mine"), labels)
    assert aligned.scores == pytest.approx([0.3, 0.5, 0.7])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of({("a", 0): (0.1, 0.2, 0.3), ("a", 1): (0.1, 0.2, 0.3)})[:-1], "(member a, fold 1): no score for C"),
        (rows_of({("a", 0): (0.1, 0.2, 0.3), (None, None): (0.1, 0.2, 0.3)}), "only some rows name a member"),
        (
            rows_of({("a", 0): (0.1, 0.2, 0.3), ("a", 1): (0.1, 0.2, 0.3)})
            + [{"image": f"{image}_0", "member": "a", "fold": 1, "score": 0.5} for image in "ABC"],
            "differ in rows per image ([1, 2])",
        ),
    ],
)  # fmt: skip
def test_nothing_is_averaged_over_a_gap(labels, rows, message):
    with pytest.raises(InputError) as error:
        align(predictions(rows), labels)
    assert message in str(error.value)


def test_scores_come_in_the_order_of_the_labels(labels):
    scores = {"C": 0.1, "B": 0.2, "A": 0.3}
    aligned = align(predictions([{"image": i, "score": s} for i, s in scores.items()]), labels)
    assert aligned.scores.dtype == np.float64
    assert aligned.scores.tolist() == [scores[image] for image in labels.table.index]
