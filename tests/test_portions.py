"""How units are grouped: nothing lost, nothing twice, memory bounded, every process busy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

import zoo
from evaluate import portions as package
from evaluate.jobs import untrained
from evaluate.portions import portions, size
from evaluate.testimages import TestImage
from evaluate.units import SHARD, How, Network, Unit, networks
from evaluate.work import Work

HOW = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")


def images(count: int) -> list[TestImage]:
    return [
        TestImage(id=f"I_{number}", path=Path(f"{number}.jpg"), sha256=f"{number:064d}", size=1)
        for number in range(count)
    ]


def units(networks: list[Network], images: list[TestImage]) -> list[Unit]:
    work = Work(images=images, networks=tuple(networks), features=(None,) * len(networks))
    return [unit for index in range(len(networks)) for unit in work.units(index)]


def made(folds: int) -> list[Network]:
    (first,) = networks(untrained(zoo.card("sge_b3"), 0, folds=[0]), HOW)
    return [msgspec.structs.replace(first, key=f"{number}") for number in range(folds)]


@given(
    count=some.integers(1, 400),
    folds=some.integers(1, 7),
    slots=some.integers(1, 9),
    shard_fit=some.integers(1, 30),
    seed=some.randoms(use_true_random=False),
)
def test_every_unit_is_in_one_portion_and_memory_is_bounded(count, folds, slots, shard_fit, seed) -> None:
    every = units(made(folds), images(count))
    left = seed.sample(every, seed.randint(1, len(every)))
    pixels = SHARD * left[0].network.geometry.bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "PORTION_BYTES", shard_fit * pixels)
        found = portions(left, slots)
    assert sorted(id(unit) for portion in found for unit in portion) == sorted(map(id, left))
    for portion in found:
        assert len({unit.start for unit in portion}) <= shard_fit
    if slots > 1:
        assert len(found) >= min(slots, len(left) // folds)


@given(
    shards=some.integers(1, 10**5),
    networks=some.integers(1, 90),
    pixels=some.integers(1, 10**10),
    slots=some.integers(2, 500),
)
def test_a_portion_fits_in_memory_and_there_are_enough(shards, networks, pixels, slots) -> None:
    cut = size(shards, networks, pixels, slots)
    assert cut.shards == 1 or cut.shards * pixels <= package.PORTION_BYTES
    assert cut.shards <= package.MOST_SHARDS
    assert 1 <= cut.parts <= networks
    assert -(-shards // cut.shards) * cut.parts >= min(slots * package.PER_SLOT, shards * networks) // 2


def test_an_image_is_in_one_portion_where_there_are_enough_of_them() -> None:
    every = units(made(5), images(640))
    found = portions(every, 2)
    starts = [{unit.start for unit in portion} for portion in found]
    assert sum(map(len, starts)) == len(set.union(*starts)), "an image would be decoded twice"
    assert len(found) >= 8


def test_the_name_of_a_unit_says_what_decides_its_result(tmp_path: Path) -> None:
    card = zoo.card("sge_b3")

    def name(images: list[TestImage], how: How = HOW, seed: int = 0, fold: int = 0, views: int = 10) -> str:
        (network,) = networks(untrained(card, seed, folds=[fold], number_of_views=views), how)
        return units([network], images)[0].name

    usual = name(images(3))
    moved = [msgspec.structs.replace(image, path=tmp_path / "x.jpg", id="other") for image in images(3)]
    assert name(moved) == usual, "where an image lies does not decide it"
    others = [
        name(images(2)),
        name(images(3), seed=1),
        name(images(3), fold=1),
        name(images(3), views=2),
        *(name(images(3), msgspec.structs.replace(HOW, **change)) for change in (
            {"precision": "bf16"}, {"batch_size": 3}, {"device_name": "other"}
        )),
    ]  # fmt: skip
    assert len({usual, *others}) == len(others) + 1
