"""Units in one process: a device that is given work ahead of its results gives the same results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluate import compute
from evaluate.compute import Computed, Computer
from evaluate.forward import Forward
from evaluate.jobs import untrained
from evaluate.portions import portions
from evaluate.testset import TestSet, read_test_set
from evaluate.units import How, Unit, networks, units

HOW = How(device="cpu", device_name="cpu", precision="fp32", batch_size=4, engine="torch")


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    for number in range(40):
        draw(tmp_path / "images" / f"I_{number:02d}.png")
    return read_test_set(tmp_path / "images")


def every(card: Any, test_set: TestSet) -> list[Unit]:
    made = networks(untrained(card, 0), HOW)
    return [unit for network in made for unit in units(network, test_set.images, None)]


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
    assert calls == ["begin", *["begin", "wait"] * 5, "wait"]
    assert [each.unit.name for each in found] == [each.unit.name for each in expected]
    assert probabilities(found) == probabilities(expected)


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
