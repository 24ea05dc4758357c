"""Units in one process: a device that is given work ahead of its results gives the same results."""

from __future__ import annotations

import gc
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import zoo
from evaluate import compute, decoding, forward, timings
from evaluate.compute import Computed, Computer
from evaluate.forward import Forward
from evaluate.jobs import untrained
from evaluate.launchers.base import finished
from evaluate.portions import portions
from evaluate.stores import Store
from evaluate.testset import TestSet, read_test_set
from evaluate.units import SHARD, How, Unit, networks
from evaluate.work import Work
from zoo.card import Checkpoints, Member, Metadata, System
from zoo.errors import MachineError

HOW = How(device="cpu", device_name="cpu", precision="fp32", batch_size=4, engine="torch")


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    for number in range(40):
        draw(tmp_path / "images" / f"I_{number:02d}.png")
    return read_test_set(tmp_path / "images")


def every(card: Any, test_set: TestSet, how: How = HOW) -> list[Unit]:
    made = tuple(networks(untrained(card, 0), how))
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


class Decodes(list[str]):
    """What is decoded, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        decode = decoding.decode
        monkeypatch.setattr(
            decoding, "decode", lambda path, data: (self.append(path.name), decode(path, data))[1]
        )


def test_what_comes_after_is_decoded_before_this_is_computed_and_not_again(
    small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = every(small_system(), test_set)
    expected = probabilities(list(Computer(1)(portions(work, 1))))
    parts = [tuple(unit for unit in work if unit.start == start) for start in (0, SHARD, 2 * SHARD)]
    decodes = Decodes(monkeypatch)
    with closing(Computer(1)) as computer:
        computed = computer([parts[0]], after=parts[1])
        found = [next(computed)]
        while (
            len(decodes) < 2 * SHARD
        ):  # No other thread decodes, and nothing of the second part is asked for.
            time.sleep(0.001)
        found += list(computed)
        found += list(computer([parts[1]], after=parts[0]))
        assert decodes[: 2 * SHARD] == [image.path.name for image in test_set.images[: 2 * SHARD]]
        # Another was given the first part once more, so that the third comes.
        found += list(computer([parts[2]]))
    assert probabilities(found) == expected
    assert decodes[-8:] == [image.path.name for image in test_set.images[2 * SHARD :]]


@pytest.mark.parametrize("count", [1, 16, 40, 48, 64, 1000])
def test_a_batch_filled_across_units_gives_each_unit_its_own(
    count: int, small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two views: 32 of a unit, and 80 of all three."""
    how = msgspec.structs.replace(HOW, batch_size=count)
    work = portions(every(small_system(), test_set, how), 1)
    expected = list(Computer(1)(work))
    monkeypatch.setitem(compute.TOGETHER, "cpu", True)
    monkeypatch.setitem(compute.AHEAD, "cpu", 1)
    calls = Calls(monkeypatch)
    found = list(Computer(1)(work))
    assert [each.unit.name for each in found] == [each.unit.name for each in expected]
    assert calls.count("begin") == 2 * {1: 3, 16: 3, 40: 3, 48: 2, 64: 2, 1000: 1}[count]
    for one, other in zip(found, expected, strict=True):
        assert one.result
        assert other.result
        assert one.result.probabilities == pytest.approx(other.result.probabilities, abs=1e-6)
        assert one.result.batch_size == count
        assert one.result.took
        assert one.result.took.seconds > 0
    assert [each.result.took.loading > 0 for each in found] == [True, False, False] * 2


@pytest.mark.parametrize(("height", "begun"), [(12, 2), (16, 1)])
def test_units_of_crops_fill_a_batch_by_the_crops_that_there_are(
    height: int, begun: int, small_system: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to ten crops: five of an image of 16×12 pixels, and one of a square."""
    random = np.random.default_rng(0)
    (tmp_path / "cut").mkdir()
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (height, 16, 3), np.uint8)).save(
            tmp_path / "cut" / f"I_{number:02d}.png"
        )
    own = small_system(folds=1)
    seen = msgspec.structs.replace(own.views, transforms=("identity",), crops=10)
    how = msgspec.structs.replace(HOW, batch_size=160)
    work = portions(every(msgspec.structs.replace(own, views=seen), read_test_set(tmp_path / "cut"), how), 1)
    expected = probabilities(list(Computer(1)(work)))
    monkeypatch.setitem(compute.TOGETHER, "cpu", True)
    calls = Calls(monkeypatch)
    found = probabilities(list(Computer(1)(work)))
    assert calls.count("begin") == begun
    assert list(found) == list(expected)
    both = [np.concatenate(list(each.values())) for each in (found, expected)]
    assert np.abs(both[0] - both[1]).max() < 1e-6


def test_what_is_left_to_compute_goes_through_in_the_shape_of_all(
    small_system: Callable[..., Any], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: some units of a run that was stopped, and all of one that was not."""
    monkeypatch.setitem(compute.TOGETHER, "cpu", True)
    monkeypatch.setitem(forward.ONE_SHAPE, "cpu", True)
    (tmp_path / "logs").mkdir()
    card = small_system(folds=1, logs=f'"{tmp_path / "logs"}"')
    work = every(card, test_set, msgspec.structs.replace(HOW, batch_size=64))
    whole = probabilities(list(Computer(1)([tuple(work)])))
    for left in ([work[0]], [work[2]], [work[0], work[2]]):
        found = probabilities(list(Computer(1)([tuple(left)])))
        for name, own in found.items():
            assert np.allclose(own, whole[name], atol=1e-6)
    (log,) = (tmp_path / "logs").iterdir()
    passes = [each for each in log.read_text().split() if each != "8"]  # those are of making random weights
    assert passes == ["64"] * 5


def test_the_next_network_is_made_while_this_one_computes(
    small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = portions(every(small_system(folds=3), test_set), 1)
    expected = probabilities(list(Computer(1)(work)))
    monkeypatch.setitem(compute.MADE_AHEAD, "cpu", True)
    made: list[tuple[int, bool]] = []
    make = compute.network

    def noted(training: Any, build: Any) -> Any:
        made.append((training.fold, threading.current_thread() is threading.main_thread()))
        if training.fold == 2:
            raise MachineError("no such file")
        return make(training, build)

    monkeypatch.setattr(compute, "network", noted)
    with closing(Computer(1)) as computer:
        computed = computer(work)
        found = [next(computed) for _ in range(2)]
        while len(made) < 2:  # The second, while the first has a unit to go.
            time.sleep(0.001)
        found += list(computed)
    assert made == [(0, True), (1, False), (2, False)]
    assert probabilities(found) == dict(list(expected.items())[:6])
    assert ["no such file" in str(each.error) for each in found] == [False] * 6 + [True] * 3
    assert not [each for each in threading.enumerate() if each.name.startswith(("make", "decode"))]


def test_metadata_of_several_units_go_with_their_images(
    test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Member(
        name="reads", backbone="test_efficientnet", size=32, classes=("MEL", "NV"), melanoma=0,
        metadata=Metadata(features=14, hidden=4, out=4),
    )  # fmt: skip
    card = System(
        schema=1, name="reads", title="Reads", group="test", summary="Reads.", folds=1, members=(own,),
        checkpoints=Checkpoints(layout="ours", pattern="{member}_fold{fold}.pth"),
        metadata=zoo.card("first_place").metadata,
    )  # fmt: skip
    (network,) = networks(untrained(card, 0), msgspec.structs.replace(HOW, batch_size=64))
    rows = np.random.default_rng(0).normal(size=(len(test_set.images), 14)).astype(np.float32)
    work = [tuple(Work(images=test_set.images, networks=(network,), features=(rows,)).units(0))]
    expected = probabilities(list(Computer(1)(work)))
    monkeypatch.setitem(compute.TOGETHER, "cpu", True)
    found = probabilities(list(Computer(1)(work)))
    assert list(found) == list(expected)
    both = [np.concatenate(list(each.values())) for each in (found, expected)]
    assert np.abs(both[0] - both[1]).max() < 1e-5
    assert np.ptp(both[0][:, 0]) > 1e-3, "a test that any constant would pass"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_unit_that_fails_takes_no_other_with_it(
    ahead: int, together: bool, small_system: Callable[..., Any], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setitem(compute.AHEAD, "cpu", ahead)
    monkeypatch.setitem(compute.TOGETHER, "cpu", together)
    Image.new("RGB", (16, 12), "white").save(tmp_path / "images" / "I_20.png")
    how = msgspec.structs.replace(HOW, batch_size=1000)
    work = portions(every(small_system(fails=True), read_test_set(tmp_path / "images"), how), 1)
    found = list(Computer(1)(work))
    assert [bool(each.error) for each in found] == [False, True, False] * 2
    assert all("does not like white images" in str(each.error) for each in found if each.error)


class Pixels(np.ndarray):
    """An array that can be watched."""


@pytest.mark.parametrize("chained", [False, True])
def test_an_error_that_was_told_holds_no_pixels(
    chained: bool, small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Pixels]] = []

    def ended() -> None:
        pixels = np.zeros(3).view(Pixels)
        held.append(weakref.ref(pixels))
        raise MachineError(f"no memory for {len(pixels)}")

    def broken(own: Forward, *given: Any) -> Any:
        try:
            ended()
        except MachineError as error:
            if not chained:
                raise
            raise MachineError("too large") from error

    monkeypatch.setattr(Forward, "start", broken)
    computed = list(Computer(1)(portions(every(small_system(), test_set), 1)))
    assert len(held) == len(computed) == 6
    told = list(finished(computed))
    assert all(each.failure for each in told)
    gc.collect()
    assert not [each for each in held if each() is not None]


def test_an_error_of_a_network_does_not_grow_by_the_units_that_it_is_told(
    small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> Any:
        raise MachineError("no such file")

    monkeypatch.setattr(compute, "network", missing)
    found = list(Computer(1)(portions(every(small_system(folds=1), test_set), 1)))
    assert len({id(each.error) for each in found}) == 1
    assert found[0].error
    assert len(list(traceback.walk_tb(found[0].error.__traceback__))) == 2, "of the last unit alone"


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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("precision", "said"), [("fp32", "trained file"), ("bf16", "--precision fp32")])
def test_outputs_that_are_no_numbers_are_the_units_fault_and_are_not_kept(
    precision: Any, said: str, value: float, small_system: Callable[..., Any], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    start, count = Forward.start, 0

    def overflowing(own: Forward, *given: Any) -> Any:
        nonlocal count
        count += 1
        wait, broken = start(own, *given), count == 2
        # Of one class alone: as a probability, one of -inf would look like a number.
        return (lambda: [each + np.array([value, 0]) for each in wait()]) if broken else wait

    monkeypatch.setattr(Forward, "start", overflowing)
    how = msgspec.structs.replace(HOW, precision=precision)
    found = list(Computer(1)(portions(every(small_system(), test_set, how), 1)))
    assert [bool(each.error) for each in found] == [False, True, *[False] * 4]
    (error,) = (str(each.error) for each in found if each.error)
    assert error.startswith(f"{found[1].unit.network}: outputs are no numbers")
    assert said in error
