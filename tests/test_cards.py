"""Every card of the zoo, and how bad cards are refused."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import timm

import zoo
from zoo.card import VIEWS, Member, System, Views
from zoo.errors import CardError, UnknownNameError
from zoo.reading import parse, read

MINIMAL = """\
schema = 1
name = "mine"
title = "Mine"
group = "own"
summary = "A network."
folds = 1

[defaults]
classes = ["MEL", "NV"]
melanoma = 0

[[members]]
name = "one"
backbone = "resnet18"
size = 64

[[members]]
name = "two"
backbone = "resnet34"
size = 64
"""


@pytest.mark.parametrize("name", zoo.systems())
def test_every_card_is_complete(name: str) -> None:
    card = zoo.card(name)
    assert card.sources, "a card says where its facts come from"
    assert card.checkpoints is not None
    assert card.limits, "no system is without limits"
    for member in card.members:
        assert timm.is_model(member.backbone)
        assert "{" not in member.name
    placeholders = set(re.findall(r"\{(\w+)\}", card.checkpoints.pattern))
    assert "member" in placeholders
    assert ("fold" in placeholders) == (card.folds > 1), "each fold has its own file"
    assert ("stage" in placeholders) == bool(card.checkpoints.stages)


@pytest.mark.parametrize("name", zoo.systems())
def test_a_card_survives_a_round_trip_through_json(name: str) -> None:
    card = zoo.card(name)
    assert msgspec.json.decode(msgspec.json.encode(card), type=System) == card


@pytest.mark.parametrize(
    ("name", "members", "folds", "views", "output"),
    [
        ("sge_b3", 1, 5, 8, "probability"),
        ("baseline_b3", 1, 5, 8, "probability"),
        ("first_place", 18, 5, 8, "rank"),
        ("second_place", 3, 5, 10, "rank"),
        ("third_place", 8, 1, 1, "probability"),
    ],
)
def test_published_protocols(name: str, members: int, folds: int, views: int, output: str) -> None:
    card = zoo.card(name)
    assert (len(card.members), card.folds, card.views.distinct, card.output) == (
        members,
        folds,
        views,
        output,
    )


def test_ten_published_views_are_eight_distinct_ones_two_counted_twice() -> None:
    views = zoo.card("sge_b3").views
    numbered = [VIEWS[4 * (number >= 4) + number % 4] for number in range(10)]
    assert views.published == 10
    assert views.distinct == 8
    assert {view: numbered.count(view) for view in numbered} == dict(
        zip(views.transforms, views.weights, strict=True)
    )


def test_defaults_are_shared_and_a_members_own_keys_win() -> None:
    card = parse(MINIMAL + 'classes = ["NV", "MEL"]\nmelanoma = 1\n')
    assert card.members[0].classes == ("MEL", "NV")
    assert card.members[1].classes == ("NV", "MEL")


def test_first_place_has_one_four_class_member() -> None:
    four = [m for m in zoo.card("first_place").members if len(m.classes) == 4]
    assert [(m.name, m.melanoma) for m in four] == [("4c_b5ns_1.5e_640_ext_15ep", 1)]


@pytest.mark.parametrize(
    ("edit", "line", "reason"),
    [
        (('title = "Mine"', 'titel = "Mine"'), 3, "unknown field `titel`|missing required field `title`"),
        (
            ('backbone = "resnet34"', 'backbonee = "x"\nbackbone = "resnet34"'),
            19,
            "unknown field `backbonee`",
        ),
        (('backbone = "resnet34"', "backbone = 34"), 19, "Expected `str`, got `int`"),
        (("melanoma = 0", "melanoma = 1"), 12, "class 1 is 'NV', not 'MEL'"),
        (("melanoma = 0", "melanoma = 2"), 12, "not an index of 2 classes"),
        (("melanoma = 0", 'melanoma = "0"'), 10, "Expected `int`, got `str`"),
        (("melanoma = 0", "melanoma = 0\nzise = 3"), 11, "unknown field `zise`"),
        (("folds = 1", "folds = 0"), 6, "Expected `int` >= 1"),
        (('name = "two"', 'name = "one"'), 1, "two members have the same name"),
        (("schema = 1", "schema = 2"), 1, "Invalid enum value 2"),
        (
            ("size = 64\n\n", "size = 64\npreprocess = { crop = 32 }\n\n"),
            12,
            "crop = 32 is not the input size 64",
        ),
        (
            ("size = 64\n\n", "size = 64\npreprocess = { resize = 32 }\n\n"),
            12,
            "resize = 32 is less than the input size 64",
        ),
        (
            ("size = 64\n\n", "size = 64\npreprocess = { std = [1.0, 0.0, 1.0] }\n\n"),
            16,
            "std above 0",
        ),
        (
            ("size = 64\n\n", "size = 64\npreprocess = { mean = [nan, 0.0, 1.0] }\n\n"),
            16,
            "must be finite",
        ),
        (('["MEL", "NV"]', '["MEL", "MEL"]'), 12, "two classes are 'MEL'"),
        (("folds = 1", "folds = 1\n[views]\ntransforms = ['mirror']"), 7, "unknown view 'mirror'"),
        (("folds = 1", "folds = "), 6, "not valid TOML"),
    ],
)
def test_a_bad_card_is_refused_with_its_line(edit: tuple[str, str], line: int, reason: str) -> None:
    text = MINIMAL.replace(edit[0], edit[1], 1)
    assert text != MINIMAL
    with pytest.raises(CardError, match=reason) as caught:
        parse(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith(f"mine.toml:{line}:") or f"at line {line}" in message
    assert "\n" not in message


def test_metadata_features_must_add_up() -> None:
    with pytest.raises(CardError, match="reads 3 metadata features, the card's metadata tables describe 0"):
        parse(MINIMAL + "metadata = { features = 3, hidden = 4, out = 2 }\n")


def test_views_count_the_published_procedure() -> None:
    assert Views(transforms=("identity", "rows"), crops=3).distinct == 6
    with pytest.raises(ValueError, match="distinct views"):
        Views(transforms=("identity", "identity"))
    with pytest.raises(ValueError, match="1 weights for 2"):
        Views(transforms=("identity", "rows"), weights=(1,))


def test_an_unreadable_card_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read as a card"):
        read(tmp_path / "absent.toml")


def test_members_are_found_by_index_and_by_name() -> None:
    card = zoo.card("second_place")
    assert card.member().name == "bee508"
    assert card.member(2) == card.member("bee608")
    for key in (3, -1, "bee999"):
        with pytest.raises(UnknownNameError, match="0 bee508, 1 bee517, 2 bee608"):
            card.member(key)


def test_architecture_tells_attention_apart_and_heads_not() -> None:
    plain = Member(name="a", backbone="resnet18", size=64, classes=("MEL",), melanoma=0)
    other = Member(name="b", backbone="resnet18", size=96, classes=("MEL", "NV"), melanoma=0)
    assert plain.architecture == other.architecture
    attention = {zoo.card(name).members[0].architecture for name in zoo.systems(group="attention")}
    assert len(attention | {zoo.card("baseline_b3").members[0].architecture}) == 5
