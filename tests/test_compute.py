"""Units in one process: a device that is given work ahead of its results gives the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from evaluate import compute, timings
from evaluate.compute import Computed, Computer
from evaluate.forward import Forward
from evaluate.jobs import untrained
from evaluate.portions import portions
from evaluate.stores import Store
from evaluate.testset import TestSet, read_test_set
from evaluate.units import SHARD, How, Unit, networks
from evaluate.work import Work
from zoo.errors import MachineError

HOW = How(device="cpu", device_name="cpu", precision="fp32", batch_size=4, engine="torch")


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    for number in range(40):
        draw(tmp_path / "images" / f"I_{number:02d}.png")
    return read_test_set(tmp_path / "images")


def every(card: Any, test_set: TestSet) -> list[Unit]:
    made = tuple(networks(untrained(card, 0), HOW))
    work = Work(images=test_set.images, networks=made, features=(None,) * len(made))
    return [unit for index in range(len(made)) for unit in work.units(index)]


def probabilities(computed: Sequence[Computed]) -> dict[str, list[list[float]]]:
    return {each.unit.name: each.result.probabilities.tolist() for each in computed if each.result}


class Calls(list[str]):
    """What is begun and what is waited for, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = Forward.start

        def begun(own: Forward, *given: Any) -> Any:
            self.append("begin")
            wait = start(own, *given)
            return lambda: (self.append("wait"), wait())[1]

        monkeypatch.setattr(Forward, "start", begun)


def test_the_next_unit_is_begun_before_the_last_is_waited_for(
    small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = portions(every(small_system(), test_set), 1)
    calls = Calls(monkeypatch)
    expected = list(Computer(1)(work))
    assert calls == ["begin", "wait"] * 6, "on a CPU each result is handed out when it is there"
    calls.clear()
    monkeypatch.setitem(compute.AHEAD, "cpu", 1)
    found = list(Computer(1)(work))
    # Two networks with three units each; nothing of the first is left when the second is made.
    assert calls == ["begin", "begin", "wait", "begin", "wait", "wait"] * 2
    assert [each.unit.name for each in found] == [each.unit.name for each in expected]
    assert probabilities(found) == probabilities(expected)


def test_a_batch_is_no_larger_than_what_a_unit_has(
    small_system: Callable[..., Any], test_set: TestSet
) -> None:
    """A compiled network would be filled up to it."""
    (network, *_) = networks(untrained(small_system(), 0), msgspec.structs.replace(HOW, batch_size=1000))
    found = list(
        Computer(1)(
            portions(list(Work(images=test_set.images, networks=(network,), features=(None,)).units(0)), 1)
        )
    )
    assert {each.result.batch_size for each in found if each.result} == {SHARD * network.views.distinct}


def test_times_of_compiled_networks_are_kept_apart(small_system: Callable[..., Any]) -> None:
    job = untrained(small_system(), 0)
    names = {
        timings.name(networks(job, msgspec.structs.replace(HOW, compiled=compiled))[0])
        for compiled in (False, True)
    }
    assert len(names) == 2


def test_a_run_does_not_fail_for_want_of_its_times(
    small_system: Callable[..., Any], test_set: TestSet
) -> None:
    class Full(Store):
        def read(self, name: str) -> bytes | None:
            raise MachineError("no such bucket")

    gathered = timings.Timings()
    for each in Computer(1)(portions(every(small_system(), test_set), 1)):
        assert each.result
        gathered.add(each.unit, each.result.took)
    gathered.keep(Full())


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_unit_that_fails_takes_no_other_with_it(
    ahead: int, small_system: Callable[..., Any], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setitem(compute.AHEAD, "cpu", ahead)
    Image.new("RGB", (16, 12), "white").save(tmp_path / "images" / "I_20.png")
    work = portions(every(small_system(fails=True), read_test_set(tmp_path / "images")), 1)
    found = list(Computer(1)(work))
    assert [bool(each.error) for each in found] == [False, True, False] * 2
    assert all("does not like white images" in str(each.error) for each in found if each.error)


def test_an_error_that_shows_when_a_result_is_waited_for_is_the_units(
    small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, count = Forward.start, 0

    def late(own: Forward, *given: Any) -> Any:
        nonlocal count
        count += 1
        wait, broken = start(own, *given), count == 2
        return (lambda: 1 / 0) if broken else wait

    monkeypatch.setattr(Forward, "start", late)
    monkeypatch.setitem(compute.AHEAD, "cpu", 1)
    found = list(Computer(1)(portions(every(small_system(), test_set), 1)))
    assert [isinstance(each.error, ZeroDivisionError) for each in found] == [False, True, *[False] * 4]
