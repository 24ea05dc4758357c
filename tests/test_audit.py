"""The audit: every check finds what it should, and only that; the known figures of the real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import zoo
from evaluate import Labels, Predictions, read_labels, read_predictions
from evaluate.audit import CHECKS, Audit, audit, find_all
from evaluate.blend import blend, percentile_rank
from evaluate.checks_scores import are_ranks, tied_share
from evaluate.duplicates import SIDE, ImageHashes
from evaluate.findings import SEVERITIES, AuditFinding
from evaluate.overlap import read_training_table
from zoo.errors import UsageError

N = 240


@pytest.fixture
def table() -> pd.DataFrame:
    """240 lesions of 200 patients, half of them melanomas; nothing is wrong with them."""
    return pd.DataFrame(
        {
            "isic_id": [f"ISIC_{number:07d}" for number in range(N)],
            "diagnosis": np.where(np.arange(N) % 2 == 0, "melanoma", "nevus"),
            "patient_id": [f"IP_{number % 200:07d}" for number in range(N)],
            "lesion_id": [f"IL_{number:07d}" for number in range(N)],
        }
    )


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[[pd.DataFrame], Labels]:
    def write(table: pd.DataFrame) -> Labels:
        table.to_csv(tmp_path / "labels.csv", index=False)
        return read_labels(tmp_path / "labels.csv")

    return write


def scores(seed: int = 0, strength: float = 1.2) -> np.ndarray:
    random = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-(strength * (np.arange(N) % 2 == 0) + random.normal(size=N))))


def predicted(
    system: str = "mine", values: np.ndarray | None = None, kind: str = "probability", path: str = ""
) -> Predictions:
    images = [f"ISIC_{number:07d}" for number in range(N)]
    values = scores() if values is None else values
    return Predictions(
        system=system,
        kind=kind,
        table=pd.DataFrame({"image": images, "score": values}),
        path=path or f"{system}.csv",
    )


def findings(found: Audit, check: str) -> list[AuditFinding]:
    return [finding for finding in found.findings if finding.check == check]


def only(found: Audit, check: str) -> AuditFinding:
    (finding,) = findings(found, check)
    return finding


def run(predictions: list[Predictions], labels: Labels, **options: object) -> Audit:
    return audit(predictions, labels, resamples=40, **options)  # type: ignore[arg-type]


def training(tmp_path: Path, **columns: list[str]) -> list:
    pd.DataFrame(columns).to_csv(tmp_path / "train.csv", index=False)
    return [read_training_table(tmp_path / "train.csv")]


# What is sound


def test_sound_scores_of_a_sound_test_set_have_only_the_findings_that_always_hold(labelled, table) -> None:
    found = run([predicted(), predicted("other", scores(1))], labelled(table))
    assert {finding.check for finding in found.findings} == {"power", "chosen_thresholds"}
    assert found.rescored == ()


def test_every_check_says_whether_it_was_run_and_why_not(labelled, table) -> None:
    found = run([predicted()], labelled(table[["isic_id", "diagnosis"]]))
    assert [each.check for each in found.checked] == [check.__name__ for check in CHECKS]
    assert all(each.about.endswith(".") for each in found.checked)
    assert all((each.findings is None) == bool(each.reason) for each in found.checked)
    assert {each.check for each in found.checked if each.findings is None} == {
        "shared_with_training", "shared_with_development", "images_shared_with_training", "near_duplicate_images", "copies_of_an_image",
        "repeated_lesions", "conflicting_labels", "power", "identical_scores", "disagreeing_runs",
    }  # fmt: skip


def test_findings_are_sorted_from_the_gravest_down(labelled, table) -> None:
    table.loc[1, "lesion_id"] = table.loc[0, "lesion_id"]
    severities = [each.severity for each in run([predicted(kind="rank")], labelled(table)).findings]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert {"error", "warning", "note"} == set(severities)


def test_an_audit_survives_a_round_trip(labelled, table, tmp_path) -> None:
    found = run([predicted()], labelled(table), training=training(tmp_path, image_name=["ISIC_0000003"]))
    encoded = msgspec.json.encode(found)
    assert msgspec.json.encode(msgspec.json.decode(encoded, type=Audit)) == encoded


# What training has seen


def test_shared_patients_are_found_and_everything_is_scored_without_them(labelled, table, tmp_path) -> None:
    given = training(tmp_path, image_name=["x", "y"], patient_id=["IP_0000004", "-1"])
    found = run([predicted()], labelled(table), training=given)
    finding = only(found, "shared_with_training")
    assert finding.severity == "warning"
    assert finding.figures == {"images": 0, "lesions": 0, "patients": 1, "lesion images": 2, "melanomas": 2}
    assert finding.examples == ("ISIC_0000004", "ISIC_0000204")
    assert found.shared == 2
    auc = next(each for each in found.rescored if each.metric == "roc_auc")
    melanoma, rest = np.arange(N) % 2 == 0, ~np.isin(np.arange(N), [4, 204])
    assert auc.without == pytest.approx(pairwise_auc(scores()[rest], melanoma[rest]))
    assert auc.all == pytest.approx(pairwise_auc(scores(), melanoma))
    assert auc.low < auc.without < auc.high
    assert {each.metric for each in found.rescored} >= {"roc_auc", "sensitivity", "specificity"}


@pytest.mark.parametrize(
    "name", ["ISIC_0000003_downsampled", "ISIC_0000003.jpg", " ISIC_0000003_downsampled.JPG"]
)
def test_a_shared_image_is_an_error_whatever_was_added_to_its_name(labelled, table, tmp_path, name) -> None:
    given = training(tmp_path, image=[name, name], patient_id=["-1", ""])
    finding = only(run([predicted()], labelled(table), training=given), "shared_with_training")
    assert (finding.severity, finding.examples) == ("error", ("ISIC_0000003",))
    assert "names no lesion and no patient" in finding.found


def test_a_shared_lesion_is_an_error(labelled, table, tmp_path) -> None:
    given = training(tmp_path, image=["other"], lesion_id=["IL_0000007"], patient_id=["IP_none"])
    finding = only(run([predicted()], labelled(table), training=given), "shared_with_training")
    assert (finding.severity, finding.examples) == ("error", ("ISIC_0000007",))


def test_unknown_patients_are_never_shared(labelled, table, tmp_path) -> None:
    table["patient_id"] = "-1"
    given = training(tmp_path, image=["a", "b"], patient_id=["-1", "-1.0"])
    found = run([predicted()], labelled(table), training=given)
    assert only(found, "shared_with_training").severity == "note"
    assert found.shared == 0


def test_a_table_that_shares_nothing_and_hides_nothing_is_no_finding(labelled, table, tmp_path) -> None:
    given = training(tmp_path, image=["a"], lesion_id=["b"], patient_id=["c"])
    assert not findings(run([predicted()], labelled(table), training=given), "shared_with_training")


def test_where_no_class_is_left_without_the_shared_ones_it_is_said(labelled, table, tmp_path) -> None:
    given = training(tmp_path, image=table["isic_id"][::2].tolist())
    found = run([predicted()], labelled(table), training=given)
    assert found.rescored == ()
    assert found.unscored == "without them 120 lesion images of at most one class would be left"


def test_a_rank_blend_keeps_the_ranks_it_has_in_the_whole_test_set(labelled, table, tmp_path) -> None:
    members = [
        predicted().table.assign(member=m, fold=0, score=scores(seed))
        for seed, m in enumerate(("bee508", "bee517"))
    ]
    blended = Predictions(
        system="second_place", kind="probability", table=pd.concat(members, ignore_index=True)
    )
    given = training(tmp_path, image=table["isic_id"][:100].tolist())
    found = run([blended], labelled(table), training=given)
    ranks = (percentile_rank(scores(0)) + percentile_rank(scores(1))) / 2
    auc = next(each for each in found.rescored if each.metric == "roc_auc")
    assert auc.without == pytest.approx(pairwise_auc(ranks[100:], np.arange(100, N) % 2 == 0))


def hashes(names: list[str], photographs: list[int]) -> ImageHashes:
    """Hashes of made-up images: files of one photograph are the same, others are nothing alike."""
    drawn = np.random.default_rng(0).random((max(photographs) + 1, 1, SIDE * SIDE)) < 0.5
    return ImageHashes(path="photos", names=tuple(names), bits=np.repeat(drawn[photographs], 8, axis=1))


@pytest.mark.parametrize("ending", ["", "_downsampled", "_0"])
def test_photographs_among_the_training_images_are_left_out_whatever_they_are_called(
    labelled, table, ending
) -> None:
    photos = hashes([f"ISIC_0000003{ending}", f"ISIC_0000004{ending}"], [0, 1])
    found = run([predicted()], labelled(table), images=photos, train_images=hashes(["train"], [0]))
    finding = only(found, "images_shared_with_training")
    assert finding.figures == {"images": 1, "pairs": 1}
    assert finding.examples == ("ISIC_0000003 and train",)
    assert "scored without them" in finding.done
    assert found.shared == 1
    assert found.rescored


def test_copies_of_a_photograph_among_the_training_images_are_one_pair(labelled, table) -> None:
    photos = hashes(["ISIC_0000003", "ISIC_0000003_0", "ISIC_0000004", "ISIC_0000005"], [0, 0, 1, 2])
    training = hashes(["ISIC_0000004", "ISIC_0000003"], [0, 1])
    finding = only(
        run([predicted()], labelled(table), images=photos, train_images=training),
        "images_shared_with_training",
    )
    assert finding.figures == {"images": 2, "pairs": 2}
    assert finding.examples == ("ISIC_0000003 and ISIC_0000004", "ISIC_0000004 and ISIC_0000003")


def test_photographs_of_no_lesion_of_the_labels_leave_nothing_out(labelled, table) -> None:
    photos = hashes(["elsewhere"], [0])
    found = run([predicted()], labelled(table), images=photos, train_images=photos)
    assert only(found, "images_shared_with_training").done == "Nothing: the labels have none of them."
    assert (found.shared, found.rescored) == (0, ())


def test_near_duplicates_are_of_two_lesion_images_whatever_their_files_are_called(labelled, table) -> None:
    names = ["ISIC_0000000_downsampled", "ISIC_0000001_0", "ISIC_0000001_1", "ISIC_0000002"]
    found = run([predicted()], labelled(table), images=hashes(names, [0, 0, 0, 1]))
    finding = only(found, "near_duplicate_images")
    assert finding.severity == "error"
    assert finding.figures == {"pairs": 1, "different labels": 1}
    assert finding.examples == ("ISIC_0000000 and ISIC_0000001",)
    assert "1 pair among 3 images in photos" in finding.found, "four files are of three lesion images"
    copies = hashes(["ISIC_0000001", "ISIC_0000001_0"], [0, 0])
    assert not findings(run([predicted()], labelled(table), images=copies), "near_duplicate_images")


def test_pseudo_labels_and_departures_are_those_of_the_cards(labelled, table) -> None:
    winners = [predicted(name, scores(i), path=file) for i, (name, file) in enumerate(
        [("second_place", "Second_place.csv"), ("third_place", "Third_place.csv"), ("first_place", "First_place.csv")]
    )]  # fmt: skip
    found = run(winners, labelled(table))
    assert only(found, "pseudo_labels").systems == ("second_place",)
    assert "ISIC 2020 test set" in only(found, "pseudo_labels").title
    assert {each.systems for each in findings(found, "departing_runs")} == {
        ("second_place",),
        ("third_place",),
    }
    own = run([predicted("second_place", path="mine.csv")], labelled(table))
    assert not findings(own, "departing_runs"), "only the published file departs"
    sound = run([predicted("sge_b3", path="SGE-B3.csv")], labelled(table))
    assert not findings(sound, "pseudo_labels")


# What the test set is


def test_copies_of_an_image_are_counted(labelled, table) -> None:
    copies = [table, *(table.assign(isic_id=table["isic_id"] + f"_{copy}") for copy in range(2))]
    labels = labelled(pd.concat(copies))
    figures = only(run([predicted()], labels), "copies_of_an_image").figures
    assert figures == {"rows": 3 * N, "lesion images": N}


def test_several_images_of_one_lesion(labelled, table) -> None:
    table.loc[2, ["lesion_id", "patient_id"]] = table.loc[0, ["lesion_id", "patient_id"]]
    found = run([predicted()], labelled(table))
    finding = only(found, "repeated_lesions")
    assert finding.figures == {"lesions": 1, "images": 2}
    assert finding.examples == ("IL_0000000",)
    assert not findings(found, "conflicting_labels")


def test_one_lesion_with_two_labels(labelled, table) -> None:
    table.loc[1, "lesion_id"] = table.loc[0, "lesion_id"]
    finding = only(run([predicted()], labelled(table)), "conflicting_labels")
    assert (finding.severity, finding.examples) == ("error", ("IL_0000000",))


@pytest.mark.parametrize("column", ["diagnosis", "diagnosis_3"])
def test_other_cancers_count_as_negatives(labelled, table, column) -> None:
    table = table.rename(columns={"diagnosis": column})
    table.loc[[1, 3, 5], column] = ["Basal_Cell carcinoma", "squamous cell carcinoma", "basal cell carcinoma"]
    figures = only(run([predicted()], labelled(table)), "other_malignancies").figures
    assert figures["lesions"] == 3


def test_diagnoses_of_no_trained_class_bear_on_systems_with_closed_classes(labelled, table) -> None:
    table.loc[[1, 3, 5], "diagnosis"] = ["verruca", "scar", "lentigo NOS"]
    systems = ["sge_b3", "first_place", "second_place", "third_place"]
    found = run([predicted(name, scores(i)) for i, name in enumerate(systems)], labelled(table))
    finding = only(found, "untrained_diagnoses")
    assert finding.systems == ("sge_b3",)
    assert finding.figures == {"lesions": 2, "verruca": 1, "scar": 1}
    assert finding.examples == ("ISIC_0000001", "ISIC_0000003")


def test_diagnoses_that_the_table_does_not_know_are_said_to_be_unknown(labelled, table) -> None:
    table["target"] = (table["diagnosis"] == "melanoma").astype(int)
    table.loc[1, "diagnosis"] = "unknown"
    finding = only(run([predicted("sge_b3")], labelled(table)), "untrained_diagnoses")
    assert "class is not known" in finding.title
    assert "unknown 1" in finding.found


@pytest.mark.parametrize(
    ("melanomas", "few"), [(99, {"melanomas": 99}), (100, {}), (160, {"other lesions": 80})]
)
def test_few_positives(labelled, table, melanomas, few) -> None:
    table["diagnosis"] = np.where(np.arange(N) < melanomas, "melanoma", "nevus")
    found = findings(run([predicted()], labelled(table)), "few_positives")
    assert [each.figures for each in found] == ([few] if few else [])


def test_power_counts_the_differences_that_cannot_be_seen(labelled, table) -> None:
    close = run([predicted(), predicted("other", scores(1))], labelled(table))
    assert only(close, "power").severity == "warning"
    far = run([predicted(values=scores(0, 3)), predicted("other", scores(0, 0))], labelled(table))
    assert only(far, "power").severity == "note"
    (pair,) = far.detectable
    assert pair.smallest == pytest.approx((1.959964 + 0.841621) * pair.standard_error, rel=1e-6)
    assert pair.difference > pair.smallest


# What the scores are


def test_a_file_that_cannot_be_scored_is_a_finding_and_the_rest_go_on(labelled, table) -> None:
    short = predicted("short")
    short = msgspec.structs.replace(short, table=short.table[:-2])
    found = run([predicted(), short], labelled(table))
    finding = only(found, "unusable_files")
    assert finding.severity == "error"
    assert "(2 such images)" in finding.found
    alone = run([short], labelled(table))
    assert {each.check for each in alone.checked if each.reason} >= {
        "constant_scores",
        "chosen_thresholds",
        "power",
    }


def test_broken_files_are_read_around_and_second_files_are_runs(tmp_path) -> None:
    (tmp_path / "again").mkdir()
    good = predicted().table.rename(columns={"image": "image_name", "score": "target"})
    good.to_csv(tmp_path / "SGE-B3.csv", index=False)
    good.to_csv(tmp_path / "again" / "sge_b3.csv", index=False)
    good.to_csv(tmp_path / "mine.csv", index=False)
    pd.concat([good, good[:1]]).to_csv(tmp_path / "Spatial-B3.csv", index=False)
    found = find_all([tmp_path, tmp_path / "again"])
    assert [each.system for each in found.predictions] == ["sge_b3"]
    assert [Path(each.path).parent.name for each in found.runs] == ["again"]
    assert list(found.left_out) == [str(tmp_path / "mine.csv")]
    ((file, reason),) = found.unusable.items()
    assert file.endswith("Spatial-B3.csv")
    assert "repeats ISIC_0000000" in reason
    assert [each.system for each in find_all([tmp_path], extra=True).predictions] == ["sge_b3", "mine"]


def test_constant_scores(labelled, table) -> None:
    found = run([predicted("flat", np.full(N, 0.3)), predicted()], labelled(table))
    assert only(found, "constant_scores").systems == ("flat",)
    assert not findings(found, "tied_scores"), "said once"
    assert not findings(found, "perfect_scores")


@pytest.mark.parametrize(("decimals", "tied"), [(1, True), (6, False)])
def test_heavy_ties(labelled, table, decimals, tied) -> None:
    found = findings(run([predicted(values=scores().round(decimals))], labelled(table)), "tied_scores")
    assert len(found) == tied
    if tied:
        rounded, melanoma = scores().round(1), np.arange(N) % 2 == 0
        equal = (rounded[melanoma][:, None] == rounded[~melanoma]).mean()
        assert found[0].figures["tied_share"] == pytest.approx(equal)


@pytest.mark.parametrize(
    ("kind", "values", "severity"),
    [
        ("rank", percentile_rank(scores()), "note"),
        ("probability", percentile_rank(scores()), "error"),
        ("rank", scores(), "note"),
        ("probability", scores(), None),
    ],
)
def test_ranks(labelled, table, kind, values, severity) -> None:
    found = findings(run([predicted(values=values, kind=kind)], labelled(table)), "rank_scores")
    assert [each.severity for each in found] == ([severity] if severity else [])


@given(st.integers(2, 30).flatmap(lambda n: hnp.arrays(float, (3, n), elements=st.integers(0, 9).map(float))))
def test_every_blend_of_ranks_has_the_mean_of_ranks(members) -> None:
    blended = blend({str(i): each[:, None] for i, each in enumerate(members)}, "rank_mean")
    assert are_ranks(blended, members.shape[1])


@given(
    hnp.arrays(float, (7,), elements=st.integers(0, 3).map(float)),
    hnp.arrays(float, (5,), elements=st.integers(0, 3).map(float)),
)
def test_tied_share_is_the_share_of_equal_pairs(a, b) -> None:
    assert tied_share(a, b) == pytest.approx((a[:, None] == b).mean())


@pytest.mark.parametrize(
    ("values", "title"),
    [
        (np.where(np.arange(N) % 2 == 0, 0.9, 0.1) + np.linspace(0, 0.05, N), "Suspiciously perfect scores"),
        (1 - scores(), "Scores the wrong way round"),
        (scores(0, 2.5), None),
        (scores(3, 0.0), None),
    ],
)
def test_scores_too_good_or_too_bad(labelled, table, values, title) -> None:
    found = findings(run([predicted(values=values)], labelled(table)), "perfect_scores")
    assert [each.title for each in found] == ([title] if title else [])


def test_two_systems_with_the_same_scores(labelled, table) -> None:
    found = run([predicted("a"), predicted("b"), predicted("c", scores(1))], labelled(table))
    assert only(found, "identical_scores").systems == ("a", "b")


@pytest.mark.parametrize(("again", "severity"), [(scores(0) ** 2, "note"), (scores(1), "warning")])
def test_runs_of_one_system(labelled, table, again, severity) -> None:
    found = run([predicted("sge_b3")], labelled(table), runs=[predicted("sge_b3", again, path="again.csv")])
    finding = only(found, "disagreeing_runs")
    assert finding.severity == severity
    melanoma = np.arange(N) % 2 == 0
    assert finding.figures["roc_auc_of_run"] == pytest.approx(pairwise_auc(again, melanoma))


def test_a_run_with_fewer_lesions_decides_nothing_and_is_compared_on_those(labelled, table) -> None:
    labels = labelled(table)
    again = scores(1)
    whole = predicted("sge_b3", again, path="again.csv")
    short = msgspec.structs.replace(whole, table=whole.table[:100])
    trial = msgspec.structs.replace(short, metadata={"limit": 100})
    holes = msgspec.structs.replace(
        whole,
        table=whole.table.assign(score=whole.table["score"].where(whole.table.index < 100)),
        metadata={"skipped": dict.fromkeys(whole.table["image"][100:], "missing")},
    )
    alone = run([predicted("sge_b3")], labels)
    for fewer in (short, trial, holes):
        found = run([predicted("sge_b3")], labels, runs=[fewer])
        finding = only(found, "disagreeing_runs")
        assert "on the 100 lesion images that both have" in finding.found
        melanoma = np.arange(100) % 2 == 0
        assert finding.figures["roc_auc"] == pytest.approx(pairwise_auc(scores()[:100], melanoma))
        assert finding.figures["roc_auc_of_run"] == pytest.approx(pairwise_auc(again[:100], melanoma))
        others = [each for each in found.findings if each.check != "disagreeing_runs"]
        assert others == list(alone.findings), "a run bears on nothing else"


def test_a_run_of_lesions_that_the_systems_skipped_is_compared_without_them(labelled, table) -> None:
    first = predicted("sge_b3")
    skipped = msgspec.structs.replace(
        first,
        table=first.table.assign(score=first.table["score"].where(first.table.index >= 10)),
        metadata={"skipped": dict.fromkeys(first.table["image"][:10], "missing")},
    )
    found = run([skipped], labelled(table), runs=[predicted("sge_b3", scores(1), path="again.csv")])
    finding = only(found, "disagreeing_runs")
    assert finding.severity == "warning"
    melanoma = np.arange(10, N) % 2 == 0
    assert finding.figures["roc_auc_of_run"] == pytest.approx(pairwise_auc(scores(1)[10:], melanoma))


def test_a_run_that_does_not_fit_is_a_finding(labelled, table) -> None:
    labels = labelled(table)
    good = predicted("sge_b3")
    strange = good.table.assign(image=[*good.table["image"][:-1], "ISIC_9999999"])
    one_class = msgspec.structs.replace(good, table=good.table[::2], path="again.csv")
    for again, reason in (
        (msgspec.structs.replace(good, table=strange, path="again.csv"), "ISIC_9999999 is not in"),
        (one_class, "has scores of 120 of the 240 lesion images, of at most one class"),
    ):
        finding = only(run([good], labels, runs=[again]), "disagreeing_runs")
        assert (finding.severity, finding.systems) == ("error", ("sge_b3",))
        assert "again.csv: " in finding.found
        assert reason in finding.found


def test_a_run_of_a_system_whose_first_file_does_not_fit_is_a_finding(labelled, table) -> None:
    first = predicted("sge_b3")
    short = msgspec.structs.replace(first, table=first.table[:-2])
    found = run([short, predicted()], labelled(table), runs=[predicted("sge_b3", path="again.csv")])
    assert only(found, "unusable_files").examples == ("sge_b3.csv",)
    assert "again.csv: no other file of SGE-B3 can be scored" in only(found, "disagreeing_runs").found


def test_a_run_of_a_system_without_a_file_is_refused(labelled, table) -> None:
    with pytest.raises(UsageError, match=r"again\.csv: a run of 'other', but no file is of that system"):
        run([predicted()], labelled(table), runs=[predicted("other", path="again.csv")])
    broken = run(
        [predicted()], labelled(table), runs=[predicted("other", path="again.csv")], unusable={"x.csv": "no"}
    )
    assert only(broken, "disagreeing_runs").severity == "error"


def test_thresholds_chosen_on_the_test_set(labelled, table) -> None:
    clinical = only(run([predicted()], labelled(table)), "chosen_thresholds")
    assert clinical.metrics == ("sensitivity", "specificity", "balanced_accuracy", "f1")
    paper = only(run([predicted()], labelled(table), protocol="paper"), "chosen_thresholds")
    assert "specificity_bootstrap_mean" in paper.metrics
    assert "f1_weighted" not in paper.metrics


def pairwise_auc(values: np.ndarray, melanoma: np.ndarray) -> float:
    ours, others = values[melanoma][:, None], values[~melanoma]
    return float((ours > others).mean() + (ours == others).mean() / 2)


# The real data


@pytest.fixture(scope="module")
def real(proveai: Path) -> Audit:
    found = find_all([proveai / "predictions"])
    again = msgspec.structs.replace(
        read_predictions(proveai / "predictions" / "final-SA6.csv"), system="sge_b3"
    )
    tables = [proveai.parent / "training_sets" / f"isic{year}_train.csv" for year in (2019, 2020)]
    return audit(
        found.predictions,
        read_labels(proveai / "test.csv"),
        training=[read_training_table(path) for path in tables],
        runs=[again],
        resamples=200,
    )


@pytest.mark.parametrize(
    ("check", "figures"),
    [
        ("shared_with_training", {"images": 0, "lesions": 0, "patients": 21, "lesion images": 29, "melanomas": 8}),
        ("other_malignancies", {"lesions": 22, "squamous cell carcinoma": 13, "basal cell carcinoma": 9}),
        (
            "untrained_diagnoses",
            {"lesions": 5, "verruca": 2, "angiofibroma or fibrous papule": 1, "clear cell acanthoma": 1, "scar": 1},
        ),
        ("few_positives", {"melanomas": 95}),
        ("copies_of_an_image", {"rows": 12060, "lesion images": 603}),
    ],
)  # fmt: skip
def test_the_known_figures_of_the_published_test_set(
    real: Audit, check: str, figures: dict[str, int]
) -> None:
    assert findings(real, check)[0].figures == figures


def test_only_the_two_rank_means_are_ranks(real: Audit) -> None:
    found = findings(real, "rank_scores")
    assert [(each.systems, each.title) for each in found] == [
        (("second_place",), "Scores are ranks"), (("third_place",), "Scores are ranks"),
    ]  # fmt: skip


def test_the_two_published_runs_of_sge_b3_disagree(real: Audit) -> None:
    figures = only(real, "disagreeing_runs").figures
    assert figures == pytest.approx(
        {"rank_correlation": 0.8079, "roc_auc": 0.8152, "roc_auc_of_run": 0.8230}, abs=5e-5
    )


def test_every_figure_of_every_system_is_there_without_the_29_lesions(real: Audit) -> None:
    assert {each.system for each in real.rescored} == set(zoo.systems()) - {"baseline_b3"}
    sge = {each.metric: each for each in real.rescored if each.system == "sge_b3"}
    assert sge["roc_auc"].all == pytest.approx(0.8152, abs=5e-5)
    assert sge["roc_auc"].without == pytest.approx(0.8177, abs=5e-4)


def test_nothing_else_is_wrong_with_the_published_scores(real: Audit) -> None:
    quiet = {"unusable_files", "constant_scores", "tied_scores", "perfect_scores", "identical_scores"}
    assert {each.check for each in real.checked if each.findings == 0} >= quiet


def test_sge_b3_against_second_place_had_not_the_power(real: Audit) -> None:
    pair = next(each for each in real.detectable if {each.a, each.b} == {"sge_b3", "second_place"})
    # A 95% interval from -0.016 to +0.075 (the published figures' bootstrap) is 3.92 standard errors wide.
    assert pair.standard_error == pytest.approx(0.091 / 3.92, rel=0.15)
    assert abs(pair.difference) < pair.smallest


def test_isic_2017_is_in_the_training_table_of_2019(proveai: Path) -> None:
    data = proveai.parent
    if not (data / "isic2017").is_dir():
        pytest.skip(
            "needs the ISIC 2017 labels in ../shared/data/isic2017, which are not part of the project"
        )
    labels = read_labels(data / "isic2017" / "labels.csv")
    table = read_training_table(data / "training_sets" / "isic2019_train.csv")
    random = np.random.default_rng(0)
    scored = Predictions(
        system="mine",
        kind="probability",
        table=pd.DataFrame({"image": labels.table.index, "score": random.random(len(labels.table))}),
    )
    found = run([scored], labels, training=[table])
    finding = only(found, "shared_with_training")
    assert (finding.severity, finding.figures["images"]) == ("error", 649)
    assert found.unscored
