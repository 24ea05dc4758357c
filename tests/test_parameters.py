from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo
from benchmarks.parameters import RULES, parameters, protocol_macs, reduction, weight_bytes
from benchmarks.results import Operations
from zoo.card import Member, System, Views
from zoo.errors import UnknownNameError
from zoo.networks import assemble


def sized(parameters: int, macs: int = 1) -> Operations:
    return Operations(
        size=64, parameters=parameters, buffers=0, weight_bytes=4 * parameters, macs=macs, counters={}
    )


@cache
def published(name: str) -> tuple[System, tuple[Operations, ...]]:
    """A system with the parameters of its networks; nothing else is counted."""
    system = zoo.card(name)
    with torch.device("meta"):
        networks = [assemble(member) for member in system.members]
    return system, tuple(sized(sum(p.numel() for p in network.parameters())) for network in networks)


def ensemble(*members: tuple[str, int], folds: int = 5, views: Views | None = None) -> System:
    return System(
        schema=1,
        name="made_up",
        title="Made up",
        group="own",
        summary="Not a real one.",
        folds=folds,
        views=views or Views(),
        members=tuple(
            Member(name=f"{i}", backbone=backbone, size=size, classes=("MEL",), melanoma=0)
            for i, (backbone, size) in enumerate(members)
        ),
    )


# The published facts say "about 618 million" for first place's 18 networks, which is (rounded down) their
# backbones without heads and metadata branches, 618.50; with them it is the sum of the official networks.
@pytest.mark.parametrize(
    ("name", "rule", "millions"),
    [
        ("sge_b3", "networks", 10.71),
        ("first_place", "networks", 619.06),
        ("first_place", "architectures", 254.44),
        ("second_place", "networks", 145.28),
        ("third_place", "networks", 325.9),
    ],
)
def test_the_published_systems_have_their_known_sizes(name: str, rule: str, millions: float) -> None:
    assert round(parameters(*published(name), rule) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("rule", "reference", "percent"),
    [
        ("networks", "first_place", 98.3),
        ("networks", "second_place", 92.6),
        ("networks", "third_place", 96.7),
        ("architectures", "first_place", 95.8),
        ("weights", "third_place", 83.6),
    ],
)
def test_the_known_reductions_of_sge_b3(rule: str, reference: str, percent: float) -> None:
    own, other = parameters(*published("sge_b3"), rule), parameters(*published(reference), rule)
    assert round(100 * reduction(own, other), 1) == percent


def test_each_rule_counts_what_it_says() -> None:
    system = ensemble(("resnet18", 64), ("resnet18", 96), ("resnet34", 64))
    operations = [sized(10), sized(12), sized(21)]
    assert {rule: parameters(system, operations, rule) for rule in RULES} == {
        "networks": 43,
        "weights": 215,
        "architectures": 31,
    }
    assert weight_bytes(system, operations, "weights") == 860


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 10**9)), min_size=1, max_size=20))
def test_the_rules_are_ordered(members: list[tuple[str, int]]) -> None:
    system = ensemble(*((backbone, 64) for backbone, _ in members))
    operations = [sized(parameters) for _, parameters in members]
    total = [parameters(system, operations, rule) for rule in ("architectures", "networks", "weights")]
    assert total == sorted(total)
    assert total[2] == 5 * total[1]


@pytest.mark.parametrize("figure", [parameters, weight_bytes])
def test_an_unknown_rule_is_refused(figure: Callable[[System, list[Operations], str], int]) -> None:
    with pytest.raises(UnknownNameError, match=r"'sum'; rules: networks, weights, architectures$"):
        figure(ensemble(("a", 64)), [sized(1)], "sum")


@given(st.integers(1, 10**12), st.integers(1, 10**12))
def test_a_reduction_is_negative_only_where_the_system_is_larger(own: int, reference: int) -> None:
    assert (reduction(own, reference) < 0) == (own > reference)
    assert reduction(reference, reference) == 0


def test_a_protocol_costs_members_times_folds_times_distinct_views() -> None:
    views = Views(transforms=("identity", "rows"), weights=(1, 4), crops=10)
    system = ensemble(("resnet18", 64), ("resnet34", 64), folds=3, views=views)
    assert protocol_macs(system, [sized(1, macs=100), sized(1, macs=11)]) == 111 * 3 * 20


def test_rules_say_what_they_count_in_one_sentence() -> None:
    for rule in RULES.values():
        assert rule.title
        assert rule.definition.endswith(".")
        assert rule.definition.count(".") == 1
