"""Subgroups: how the three layouts of tables are read, what is compared with what, and what is n/a."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from evaluate import Labels, OperatingPoint, Predictions, by_subgroup, read_development, read_labels
from evaluate.attributes import ATTRIBUTES, Attribute, groups
from evaluate.gaps import in_group
from evaluate.paired import holm
from evaluate.resampling import effective_clusters, effective_number, interval, p_value
from zoo.errors import InputError, UnknownNameError

N = 300
RANDOM = np.random.default_rng(11)
MELANOMA = np.arange(N) % 3 == 0
SCORES = 0.4 * MELANOMA + RANDOM.normal(size=N) * 0.4
SEX = np.where(np.arange(N) % 5 < 2, "female", "male")
LAYOUTS = {
    "older": {
        "isic_id": [f"I{i}" for i in range(N)],
        "patient_id": [f"P{i // 2}" for i in range(N)],
        "diagnosis": np.where(MELANOMA, "melanoma", "nevus"),
        "sex": SEX,
        "age_approx": 5 * (np.arange(N) % 18),
        "anatom_site_general": np.where(np.arange(N) % 7 < 3, "head/neck", "torso"),
        "dermoscopic_type": "contact polarized",
        "mel_class": np.where(
            MELANOMA, np.where(np.arange(N) % 2, "melanoma in situ", "invasive melanoma"), ""
        ),
        "mel_thick_mm": [0.3 + i % 4 / 4 if i % 6 == 0 else None for i in range(N)],
    },
    "archive": {
        "isic_id": [f"I{i}" for i in range(N)],
        "patient_id": [f"P{i // 2}" for i in range(N)],
        "diagnosis_1": np.where(MELANOMA, "Malignant", "Benign"),
        "diagnosis_3": np.where(
            MELANOMA, np.where(np.arange(N) % 2, "Melanoma in situ", "Melanoma Invasive"), "Nevus"
        ),
        "fitzpatrick_skin_type": np.array(["I", "II", "III", "IV", "V", "VI"])[np.arange(N) // 2 % 6],
        "sex": SEX,
        "age_approx": 5 * (np.arange(N) % 18),
        "anatom_site_general": np.where(np.arange(N) % 7 < 3, "head/neck", "torso"),
    },
    "kaggle": {
        "image_name": [f"I{i}" for i in range(N)],
        "patient_id": [f"P{i // 2}" for i in range(N)],
        "target": MELANOMA.astype(int),
        "sex": SEX,
        "age_approx": np.where(np.arange(N) % 18 == 17, np.nan, 5 * (np.arange(N) % 18)),
        "anatom_site_general_challenge": np.where(np.arange(N) % 7 < 3, "head/neck", "torso"),
    },
}


@pytest.fixture
def table(tmp_path):
    def write(layout="older", **changes):
        pd.DataFrame({**LAYOUTS[layout], **changes}).to_csv(tmp_path / "labels.csv", index=False)
        return read_labels(tmp_path / "labels.csv")

    return write


def predictions(scores=SCORES, system="mine") -> Predictions:
    images = [f"I{i}" for i in range(N)]
    return Predictions(system=system, kind="rank", table=pd.DataFrame({"image": images, "score": scores}))


def rows(found, system=0):
    return {
        (group.attribute, group.group): (group, each)
        for group, each in zip(found.groups, found.systems[system].groups, strict=True)
    }


@pytest.mark.parametrize(
    ("layout", "absent"),
    [
        ("older", {"skin_type"}),
        ("archive", {"dermoscopy", "thickness"}),
        ("kaggle", {"dermoscopy", "thickness", "skin_type", "invasion"}),
    ],
)
def test_the_three_layouts_are_read(table, layout, absent):
    found = by_subgroup([predictions()], table(layout), resamples=50)
    assert {attribute.title for attribute in ATTRIBUTES if attribute.name in absent} == set(found.absent)
    assert {group.attribute for group in found.groups} == {a.name for a in ATTRIBUTES} - absent
    names = [group.group for group in found.groups if group.attribute == "age"]
    assert names == [
        "under 40 years", "40 to under 60 years", "60 to under 80 years", "80 years and over",
    ]  # fmt: skip
    if layout != "kaggle":
        assert [g.group for g in found.groups if g.attribute == "invasion"] == ["in situ", "invasive"]


def test_skin_types_are_paired_and_bands_begin_with_their_edge(table):
    labels = table(
        "archive", fitzpatrick_skin_type=[["I", "2", "III", "", "vi", "NA"][i % 6] for i in range(N)]
    )
    by_name = {attribute.name: attribute for attribute in ATTRIBUTES}
    skin = groups(by_name["skin_type"], labels)
    assert [None if pd.isna(value) else value for value in skin[:6]] == [
        "I to II", "I to II", "III to IV", None, "V to VI", None,
    ]  # fmt: skip
    age = groups(by_name["age"], labels)
    assert (age["I7"], age["I8"], age["I15"], age["I16"]) == (
        "under 40 years", "40 to under 60 years", "60 to under 80 years", "80 years and over",
    )  # fmt: skip


def test_a_group_and_its_gap_by_hand(table):
    labels = table()
    group, each = rows(by_subgroup([predictions()], labels, resamples=400))["sex", "female"]
    female = SEX == "female"
    own, rest = (roc_auc_score(MELANOMA[mask], SCORES[mask]) for mask in (female, ~female))
    assert (group.n, group.positives) == (female.sum(), (female & MELANOMA).sum())
    assert each.metric.value == pytest.approx(own)
    assert each.gap.value == pytest.approx(own - rest)
    owns, gaps = [], []
    for drawn in np.random.default_rng(0).integers(150, size=(400, 150)):
        times = np.bincount(drawn, minlength=150)[np.arange(N) // 2]
        one, other = (
            roc_auc_score(MELANOMA[mask], SCORES[mask], sample_weight=times[mask])
            for mask in (female, ~female)
        )
        owns.append(one)
        gaps.append(one - other)
    patients = np.arange(N) // 2
    sizes = [effective_clusters(MELANOMA[mask], patients[mask]) for mask in (female, ~female)]
    owns, gaps = np.array(owns), np.array(gaps)
    assert (each.metric.low, each.metric.high) == pytest.approx(interval(owns, sizes[0]))
    assert (each.gap.low, each.gap.high) == pytest.approx(interval(gaps, min(sizes)))
    assert each.p == pytest.approx(p_value(gaps, min(sizes), own - rest))


POINTS = (OperatingPoint(by="sensitivity", value=0.9), OperatingPoint(by="specificity", value=0.8))


@pytest.fixture
def locked(tmp_path):
    scores = np.linspace(-0.5, 1.5, 200)
    frame = pd.DataFrame(
        {"image_name": [f"D{i}" for i in range(200)], "target": scores, "y_true": scores > 0.4}
    )
    frame.to_csv(tmp_path / "mine.csv", index=False)
    return read_development([tmp_path / "mine.csv"])


def test_sensitivity_and_specificity_of_a_group_at_a_threshold_of_all_images(table, locked):
    for development in (None, locked):
        found = by_subgroup([predictions()], table(), points=POINTS, development=development, resamples=60)
        (system,) = found.systems
        assert [(at.wanted, at.figure) for at in system.at] == [
            (point, figure) for point in POINTS for figure in ("sensitivity", "specificity")
        ]
        female = SEX == "female"
        for at in system.at:
            assert at.threshold_from == ("development" if development else "test set")
            cut = np.sort(SCORES[MELANOMA])[::-1][89]  # 90 of 100 melanomas
            if at.wanted.by == "specificity":
                cuts = [c for c in SCORES[MELANOMA] if np.mean(SCORES[~MELANOMA] < c) >= 0.8]
                cut = max(
                    c for c in cuts if (SCORES[MELANOMA] >= c).sum() == (SCORES[MELANOMA] >= min(cuts)).sum()
                )
            if development:
                scores = development["mine"].ranking.thresholds
                cut = (
                    scores[int(np.ceil(0.9 * len(scores))) - 1]
                    if at.wanted.by == "sensitivity"
                    else scores[-1]
                )
            of = MELANOMA if at.figure == "sensitivity" else ~MELANOMA
            own, rest = (
                np.mean((cut <= SCORES)[of & mask] == MELANOMA[of & mask]) for mask in (female, ~female)
            )
            each = at.groups[0]
            assert found.groups[0].group == "female"
            assert each.metric.value == pytest.approx(own)
            assert each.gap.value == pytest.approx(own - rest)
    # The last was locked on scores: the same threshold in every resample.
    shares = []
    for drawn in np.random.default_rng(0).integers(150, size=(60, 150)):
        times = np.bincount(drawn, minlength=150)[np.arange(N) // 2] * (of & female)
        shares.append(np.average((cut <= SCORES) == MELANOMA, weights=times))
    size = effective_number((np.arange(N) // 2)[of & female])
    assert (each.metric.low, each.metric.high) == pytest.approx(interval(np.array(shares), size))


def test_a_figure_of_one_class_needs_only_that_class(table):
    site = np.where(np.arange(N) < 21, "palms/soles", np.where(np.arange(N) % 2, "torso", "head/neck"))
    found = by_subgroup([predictions()], table(anatom_site_general=site), points=POINTS[:1], resamples=50)
    place = [(group.attribute, group.group) for group in found.groups].index(("site", "palms/soles"))
    (at_sensitivity, at_specificity) = found.systems[0].at
    assert found.groups[place].positives == 7
    assert at_sensitivity.groups[place].metric.reason == "7 melanomas, fewer than 10"
    assert at_specificity.groups[place].metric.value is not None  # of 14 others
    in_situ = [group.group for group in found.groups].index("in situ")
    assert at_specificity.groups[in_situ].metric.reason == "only melanomas are divided by it"
    assert at_sensitivity.groups[in_situ].gap.value is not None


def test_few_lesions_are_no_certainty(table, tmp_path):
    """All melanomas of a small group are called, by chance; resamples of it would never miss one."""
    site = np.where(np.arange(N) < 45, "palms/soles", "torso")
    scores = np.where(MELANOMA, 0.6, 0.4) + 0.2 * SCORES
    scores[:45] = np.where(MELANOMA[:45], 0.9, scores[:45])
    scores[[99, 150, 201]] = 0.1  # melanomas elsewhere that are missed
    dev = pd.DataFrame({"image_name": ["D0", "D1"], "target": [0.5, 0.2], "y_true": [1, 0]})
    dev.to_csv(tmp_path / "mine.csv", index=False)
    found = by_subgroup(
        [predictions(scores)],
        table(anatom_site_general=site),
        points=[OperatingPoint(by="sensitivity", value=0.95)],
        development=read_development([tmp_path / "mine.csv"]),
        resamples=300,
    )
    place = [(group.attribute, group.group) for group in found.groups].index(("site", "palms/soles"))
    sensitivity = found.systems[0].at[0].groups[place]
    assert sensitivity.metric.value == 1
    assert sensitivity.gap.value > 0
    assert (sensitivity.gap.low, sensitivity.p) == (None, None)
    assert sensitivity.gap.reason.startswith(
        "no interval: the figure of the group or of the rest is the same"
    )
    for at in found.systems[0].at:
        of = MELANOMA if at.figure == "sensitivity" else ~MELANOMA
        right = (scores >= 0.5) == MELANOMA
        for group, each in zip(found.groups, at.groups, strict=True):
            if each.p is not None and group.attribute == "sex":
                masks = [of & (group.group == SEX), of & (group.group != SEX)]
                cells = [[np.sum(right[m]), np.sum(~right[m])] for m in masks]
                assert each.p >= fisher_exact(cells).pvalue - 1e-12


def test_a_group_that_hardly_ever_varies_has_no_interval_for_its_gap():
    """A resample or two that differ do not make an interval of a group of which all are called."""
    images = (45, 255)
    point, drawn = np.array([1.0, 0.9]), np.stack([np.ones(1000), np.linspace(0.85, 0.95, 1000)])
    drawn[0, :2] = 0.9
    found = in_group("", "", (40.0, 40.0), images, point, drawn)
    assert (found.metric.low, found.gap.low, found.p) == (None, None, None)
    drawn[0, :200] = 0.9  # A group that varies has one.
    assert in_group("", "", (40.0, 40.0), images, point, drawn).gap.low is not None


def test_holm_is_over_all_figures_that_are_shown(table):
    found = by_subgroup([predictions(), predictions(-SCORES, "b")], table(), points=POINTS, resamples=50)
    shown = [
        each
        for system in found.systems
        for groups_ in (system.groups, *(at.groups for at in system.at))
        for each in groups_
    ]
    raw = [each.p for each in shown if each.p is not None]
    assert found.compared == len(raw) > 30
    assert [each.p_holm for each in shown if each.p is not None] == pytest.approx(
        multipletests(raw, method="holm")[1]
    )


def test_groups_of_melanomas_are_measured_against_all_other_lesions(table):
    found = rows(by_subgroup([predictions()], table(), resamples=50))
    group, each = found["invasion", "in situ"]
    in_situ = MELANOMA & (np.arange(N) % 2 == 1)
    mask = in_situ | ~MELANOMA
    invasive = MELANOMA & ~in_situ | ~MELANOMA
    assert (group.negatives, group.n, group.positives) == ("all", mask.sum(), in_situ.sum())
    assert each.metric.value == pytest.approx(roc_auc_score(MELANOMA[mask], SCORES[mask]))
    assert each.gap.value == pytest.approx(
        each.metric.value - roc_auc_score(MELANOMA[invasive], SCORES[invasive])
    )
    assert found["sex", "male"][0].negatives == "group"


def test_what_is_too_small_or_the_same_says_so(table):
    site = np.where(np.arange(N) % 60 == 0, "palms/soles", np.where(np.arange(N) % 2, "torso", "head/neck"))
    found = rows(by_subgroup([predictions()], table(anatom_site_general=site), resamples=50))
    few = found["site", "palms/soles"][1]
    assert (few.metric.value, few.gap.value, few.p) == (None, None, None)
    assert few.metric.reason == "5 melanomas, fewer than 10"
    assert found["sex", "male"][1].gap.reason == "the same difference as above, turned round"
    assert found["sex", "male"][1].metric.value is not None
    assert found["dermoscopy", "contact polarized"][1].gap.reason == "there is no other group"
    site = np.where(np.arange(N) < 20, "palms/soles", "torso")
    found = rows(by_subgroup([predictions()], table(anatom_site_general=site), resamples=50))
    assert found["site", "torso"][1].gap.reason == "the rest has 7 melanomas, fewer than 10"
    one_class = np.where(MELANOMA, "torso", "head/neck")
    found = rows(by_subgroup([predictions()], table(anatom_site_general=one_class), resamples=50))
    assert found["site", "torso"][1].metric.reason == "0 other lesions, fewer than 10"


def test_holm_is_over_all_gaps_of_all_systems(table):
    found = by_subgroup([predictions(), predictions(-SCORES, "b")], table(), resamples=50)
    raw = [each.p for system in found.systems for each in system.groups if each.p is not None]
    adjusted = [each.p_holm for system in found.systems for each in system.groups if each.p is not None]
    assert found.compared == len(raw) > 4
    assert adjusted == pytest.approx(multipletests(raw, method="holm")[1])
    assert all(each.p_holm is None for system in found.systems for each in system.groups if each.p is None)


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_that_of_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_no_gaps_where_there_are_none():
    """Groups drawn by lot: after Holm, few sets show any gap at all."""
    alarms = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        truth = np.arange(200) % 3 == 0
        images = [f"I{i}" for i in range(200)]
        frame = pd.DataFrame(
            {"melanoma": truth, "patient": images, "lesion": None, "site": random.choice(list("abc"), 200)},
            index=images,
        )
        labels = Labels(
            table=frame, image_of=pd.Series(images, index=images), without_patient=0, path="", sha256=""
        )
        scores = pd.DataFrame({"image": images, "score": random.normal(size=200) + truth})
        given_ = Predictions(system="mine", kind="rank", table=scores)
        lots = Attribute(name="site", title="Site", columns=("site",))
        found = by_subgroup([given_], labels, attributes=[lots], resamples=100)
        alarms += any(each.p_holm < 0.05 for each in found.systems[0].groups)
    assert alarms <= 6  # 5% of 40 is 2; more than 6 would be a chance of 1%


def test_wrong_words(table):
    with pytest.raises(UnknownNameError, match="no metric 'sensitivity' for subgroups; metrics are roc_auc"):
        by_subgroup([predictions()], table(), "sensitivity")
    ages = ["forty", *range(1, N)]
    with pytest.raises(InputError, match=r"labels.csv: age_approx of I0 is 'forty'; it must be a number"):
        by_subgroup([predictions()], table(age_approx=ages))


def test_partial_auc_can_be_asked_for(table):
    found = by_subgroup([predictions()], table(), "partial_auc", resamples=50)
    assert found.title == "Partial AUC above 80% sensitivity"
    assert 0 < rows(found)["sex", "male"][1].metric.value < 0.2


def test_lesions_of_no_known_group_are_in_neither_part(table):
    site = np.array(["torso", "head/neck", "unknown", ""])[np.arange(N) % 4]
    torso, head = (np.arange(N) % 4 == number for number in (0, 1))
    _, each = rows(by_subgroup([predictions()], table(anatom_site_general=site), resamples=50))[
        "site", "head/neck"
    ]
    own, rest = (roc_auc_score(MELANOMA[mask], SCORES[mask]) for mask in (head, torso))
    assert each.gap.value == pytest.approx(own - rest)
