"""Where units are computed: whichever it is, nothing is lost, nothing is done twice, and the file is the same."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as some
from PIL import Image

import cli
from evaluate import portions, run, units
from evaluate.compute import Computed, Computer
from evaluate.jobs import untrained
from evaluate.launchers.base import Failure, Launcher, finished
from evaluate.launchers.local import Local
from evaluate.launchers.processes import Processes
from evaluate.launchers.queue import Queue
from evaluate.launchers.slurm import Slurm, Task, code_of
from evaluate.predict import predict
from evaluate.predictions import write_predictions
from evaluate.results import Result
from evaluate.stores import Store
from evaluate.testset import TestSet, read_test_set
from evaluate.units import How, code, networks
from evaluate.work import Work
from reports import inputs
from zoo.card import System
from zoo.errors import InputError, MachineError, MelanomaZooError, UsageError

pytestmark = pytest.mark.usefixtures("kept")


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    """100 images: seven shards, the last of four; image 40 is white."""
    for number in range(100):
        draw(tmp_path / "images" / f"I_{number:03d}.png", number)
    Image.new("RGB", (16, 12), "white").save(tmp_path / "images" / "I_040.png")
    return read_test_set(tmp_path / "images")


def written(card: System, test_set: TestSet, place: Path, launcher: Launcher) -> bytes:
    seen: list[tuple[int, int]] = []
    (found,) = predict(
        [untrained(card, 0)], test_set, progress=lambda _, done, total: seen.append((done, total)),
        launcher=launcher,
    )  # fmt: skip
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(found.table), len(found.table))
    write_predictions(found, place / "found.parquet")
    return (place / "found.parquet").read_bytes()


def names(kept: Path) -> set[str]:
    return {file.name for file in kept.glob("probabilities-*.json")}


@pytest.fixture
def local(small_system: Callable[..., System], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:  # fmt: skip
    """What this process alone writes, in a folder of its own."""
    with monkeypatch.context() as patch:
        patch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "local"))
        return written(small_system(), test_set, tmp_path, Local(1))


@given(
    sizes=some.lists(some.integers(1, 4), min_size=1, max_size=20),
    retries=some.integers(0, 3),
    ahead=some.none() | some.integers(1, 4),
    data=some.data(),
)
def test_the_queue_hands_out_every_unit_until_it_is_finished_or_given_up(sizes, retries, ahead, data) -> None:
    """Workers take, finish some, and die or not, in any order."""

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    every = [[Named(f"{number}.{unit}") for unit in range(size)] for number, size in enumerate(sizes)]
    taken = 0

    def coming() -> Iterator[tuple[Named, ...]]:
        nonlocal taken
        for portion in every:
            taken += 1
            yield tuple(portion)

    queue = Queue(coming(), retries, ahead)
    handed_out = 0
    finished: list[str] = []
    given_up: list[str] = []
    begun: dict[str, int] = {}
    at_work: dict[int, list[str]] = {}
    in_vain = 0
    most = math.inf if ahead is None else 10 * (retries + 1)
    while not queue.empty:
        if queue.waiting and len(at_work) < 9 and (not at_work or data.draw(some.booleans())):
            worker = data.draw(some.sampled_from([each for each in range(9) if each not in at_work]))
            at_work[worker] = [unit.name for unit in queue.take(worker)]
            handed_out += 1
            if ahead is not None:
                promised = [unit.name for unit in queue.promise(worker)]
                assert not set(promised) & {name for mine in at_work.values() for name in mine}
                assert taken - handed_out <= ahead + 9, "of a long run little waits"
            continue
        worker = data.draw(some.sampled_from(sorted(at_work)))
        mine = at_work.pop(worker)
        count = data.draw(some.integers(-1, len(mine)))
        in_vain = 0 if count > 0 else in_vain + 1
        if in_vain > most:
            with pytest.raises(
                MachineError, match=f"^{in_vain} processes in a row computed nothing: the last died"
            ):
                queue.back(worker, "died") if count < 0 else queue.died(worker, (), "died")
            return
        if count < 0:
            queue.back(worker, "died")
            assert queue.waiting, "it was gone before it began: that is no death of any unit"
            continue
        finished += mine[:count]
        if count == len(mine):
            queue.done(worker)
            continue
        begun[mine[count]] = begun.get(mine[count], 0) + 1
        given_up += [each.name for each in queue.died(worker, mine[:count], "died")]
    assert sorted(finished + given_up) == sorted(unit.name for portion in every for unit in portion)
    assert all(count <= retries + 1 for count in begun.values())
    assert all(begun[name] == retries + 1 for name in given_up)


def test_what_is_promised_goes_to_a_worker_that_has_nothing_else() -> None:
    first, second, third, fourth = (object(),), (object(),), (object(),), (object(),)
    queue = Queue([first, second, third, fourth], 0, ahead=2)
    assert queue.take(1) is first
    assert queue.promise(1) is second
    assert queue.take(2) is third
    assert queue.promise(2) is fourth
    queue.done(2)
    assert queue.take(2) is fourth, "its own"
    queue.done(2)
    assert queue.take(2) is second, "another's, which would wait"
    assert not queue.promise(2)
    queue.done(2)
    assert not queue.waiting
    queue.done(1)
    assert queue.empty
    few = Queue([first, second], 0, ahead=2)
    assert few.take(1) is first
    assert not few.promise(1), "there is a worker that has none"


@pytest.mark.slow
def test_a_process_decodes_the_next_portion_while_it_computes_this_one(
    small_system: Callable[..., System], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the second portion go when the first one is nearly through: their pixels are there by then."""
    monkeypatch.setattr(portions, "MOST_SHARDS", 4)
    removed: list[Path] = []

    class Removing(Processes):
        def run(self, portions, store) -> Iterator:
            for number, each in enumerate(super().run(portions, store)):
                if number == 6:
                    removed.extend(image.path for image in test_set.images[64:])
                    for path in removed:
                        path.unlink()
                yield each

    written(small_system(waits=0.1), test_set, tmp_path, Removing(1))
    assert len(removed) == 36


@pytest.mark.slow
def test_several_processes_write_what_one_does(
    small_system: Callable[..., System], test_set: TestSet, local: bytes, kept: Path, tmp_path: Path
) -> None:
    assert written(small_system(), test_set, tmp_path, Processes(2)) == local
    assert len(names(kept)) == 14
    before = {name: (kept / name).stat().st_mtime_ns for name in names(kept)}
    assert written(small_system(), test_set, tmp_path, Local(1)) == local, "and this process goes on from it"
    assert before == {name: (kept / name).stat().st_mtime_ns for name in names(kept)}
    assert not spawned(), "no process outlives the run"


def running(words: str) -> list[psutil.Process]:
    """Processes below this one that have some words in their command."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # It has just ended.
            if words in " ".join(child.cmdline()):
                found.append(child)
    return found


def spawned() -> list[psutil.Process]:
    return running("spawn_main")


class Killing(Processes):
    """Kills a process as soon as a few units are finished."""

    def run(self, portions, store) -> Iterator:
        for number, each in enumerate(super().run(portions, store)):
            if number == 3:
                children = spawned()
                os.kill(children[0].pid, signal.SIGKILL)
            yield each


@pytest.mark.slow
def test_a_process_that_is_killed_loses_nothing(
    small_system: Callable[..., System], test_set: TestSet, local: bytes, kept: Path, tmp_path: Path
) -> None:
    assert written(small_system(waits=0.02), test_set, tmp_path, Killing(2)) != b""
    assert len(names(kept)) == 14


@pytest.mark.slow
def test_a_unit_that_kills_its_process_is_named_and_the_rest_goes_on(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(MachineError) as raised:
        written(small_system(kills=True), test_set, tmp_path, Processes(2, retries=0))
    said = str(raised.value)
    assert said.startswith("2 of 14 units failed: small small fold ")
    assert (
        "images I_032 to I_047 and 1 more: the process that computed it was killed by signal 9, once" in said
    )
    assert "the others are kept, and the same command computes these alone" in said
    assert len(names(kept)) == 12


@pytest.mark.slow
def test_a_unit_that_fails_is_named_and_the_rest_goes_on(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (60, 60), "brown").save(test_set.images[99].path)
    with pytest.raises(MelanomaZooError) as raised:
        written(small_system(fails=True), test_set, tmp_path, Processes(2))
    said = str(raised.value)
    assert said.startswith("4 of 14 units failed: small small fold ")
    assert (
        "images I_032 to I_047 and 1 more: internal error: RuntimeError: this network does not like" in said
    )
    assert "I_099.png: has changed since it was checked; run again" in said
    assert len(names(kept)) == 10
    with pytest.raises((InputError, RuntimeError), match=r"has changed|does not like white"):
        written(small_system(fails=True), test_set, tmp_path, Local(1))


@pytest.mark.slow
def test_units_of_a_process_that_can_compute_no_more_are_computed_by_another(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """In the first process that meets the white image all units fail from then on, as after an error of CUDA."""
    written(small_system(breaks=f"'{tmp_path / 'met'}'"), test_set, tmp_path, Processes(1, retries=1))
    assert (tmp_path / "met").exists()
    assert len(names(kept)) == 14
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(
        MachineError, match=r"ended after CUDA error: an illegal memory access was enc.*, once"
    ):
        written(small_system(breaks=f"'{tmp_path / 'again'}'"), test_set, tmp_path, Processes(1, retries=0))


def test_only_what_is_wrong_with_the_process_ends_it(
    small_system: Callable[..., System], test_set: TestSet
) -> None:
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (network,) = networks(untrained(small_system(), 0, folds=[0]), how)
    unit = next(Work(images=test_set.images, networks=(network,), features=(None,)).units(0))
    ours = [
        "this network does not",
        "CUDA out of memory. CUDA error",
        "CUDA error: no kernel image is available",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ]
    came = list(finished(Computed(unit=unit, error=RuntimeError(said)) for said in ours))
    assert [each.failure is not None for each in came] == [True] * len(ours)
    for said in ("unspecified launch failure", "CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"):
        with pytest.raises(RuntimeError, match=said):
            list(finished([Computed(unit=unit, error=RuntimeError(f"CUDA error: {said}"))]))


def test_a_store_that_cannot_be_reached_is_the_failure_of_a_unit(
    small_system: Callable[..., System], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end the process: the unit would be begun again, with a traceback each time."""

    def refused(*_: object) -> None:
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (network,) = networks(untrained(small_system(), 0, folds=[0]), how)
    units = list(Work(images=test_set.images, networks=(network,), features=(None,)).units(0))
    result = Result(probabilities=np.zeros((16, 2)), batch_size=1)
    came = list(
        finished([Computed(unit=unit, result=result) for unit in units], Store(location="memory://x"))
    )
    assert [each.failure and each.failure.exit_code for each in came] == [4] * 7
    assert all(each.result is result and not each.kept for each in came), (
        "who takes it may be able to keep it"
    )
    assert came[0].failure
    assert came[0].failure.message == "memory://x: results cannot be kept there: refused"


def test_what_a_process_cannot_keep_is_kept_by_whoever_takes_it(
    small_system: Callable[..., System], test_set: TestSet, local: bytes, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """And where that fails too no more is computed."""
    came: list[str] = []

    class Unkept(Local):
        def run(self, portions, store) -> Iterator:
            for each in super().run(portions, store):
                came.append(each.name)
                yield msgspec.structs.replace(
                    each, kept=False, failure=Failure(message="no credentials", exit_code=4)
                )

    assert written(small_system(), test_set, tmp_path, Unkept(1)) == local
    assert len(came) == len(names(kept)) == 14

    def refused(*_: object) -> None:
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    came.clear()
    with pytest.raises(MachineError, match="memory://y: results cannot be kept there: refused"):
        predict(
            [untrained(small_system(), 0)], test_set, launcher=Unkept(1), store=Store(location="memory://y")
        )
    assert len(came) == 1


def test_a_run_ends_whose_processes_all_die(
    small_system: Callable[..., System], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after all tries of all units, which may be days."""
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (network,) = networks(untrained(small_system(), 0, folds=[0]), how)
    (unit,) = list(Work(images=test_set.images, networks=(network,), features=(None,)).units(0))[:1]
    many = ((msgspec.structs.replace(unit, name=f"{number}"),) for number in range(1000))
    queue = Queue(many, 2, ahead=1)
    for _ in range(30):
        queue.take(0)
        queue.died(0, (), "was killed by signal 9")
    queue.take(0)
    with pytest.raises(
        MachineError, match=r"^31 processes in a row computed nothing: the last was killed by signal 9"
    ):
        queue.died(0, (), "was killed by signal 9")


@pytest.mark.slow
def test_slurm_writes_what_one_process_does_and_goes_on_after_a_task_that_died(
    small_system: Callable[..., System], test_set: TestSet, local: bytes, kept: Path, tmp_path: Path
) -> None:
    """With submitit's own executor for this machine: real files, real processes."""
    card = small_system(waits=0.05)
    killed: list[int] = []
    handed_out: list[str] = []

    class Watched(Slurm):
        def run(self, portions, store) -> Iterator:
            for each in super().run(portions, store):
                handed_out.append(each.name)
                if len(handed_out) == 1:
                    killed.extend(kill_one_task())
                yield each

    written(card, test_set, tmp_path, Watched(2, cluster="local"))
    assert killed
    assert len(handed_out) == len(set(handed_out)) == 14
    assert len(names(kept)) == 14
    assert not list((kept / "slurm").iterdir()), "nothing is left of a run that went well"
    for file in list(kept.glob("probabilities-*")):
        file.unlink()
    assert written(small_system(), test_set, tmp_path, Slurm(2, cluster="local")) == local


def kill_one_task() -> list[int]:
    tasks = running("submitit.core._submit")
    tasks[0].kill()
    return [tasks[0].pid]


@pytest.mark.slow
def test_units_that_fail_under_slurm_are_named(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, tmp_path: Path
) -> None:
    with pytest.raises(MelanomaZooError) as raised:
        written(small_system(fails=True, folds=1), test_set, tmp_path, Slurm(1, cluster="local"))
    assert "1 of 7 units failed: small small fold 0, images I_032 to I_047: internal error: Runtime" in str(
        raised.value
    )
    assert len(names(kept)) == 6


def test_slurm_needs_slurm_and_options_that_it_knows(
    small_system: Callable[..., System], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="there is no sbatch here; run it on a login node"):
        Slurm(2)
    with pytest.raises(UsageError, match=r"--slurm: .*partitoin"):
        written(small_system(), test_set, tmp_path, Slurm(1, cluster="local", options={"partitoin": "gpu"}))


def test_an_array_that_slurm_does_not_take_is_one_line(
    small_system: Callable[..., System], test_set: TestSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sbatch", "srun"):
        (place / name).write_text("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    with pytest.raises(
        MachineError, match="the array job was not taken: sbatch: error: invalid partition; look at --slurm"
    ):
        written(small_system(), test_set, tmp_path, Slurm(1, options={"partition": "wrong"}))


def test_a_task_that_comes_back_after_its_time_limit_goes_on(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (network,) = networks(untrained(small_system(), 0, folds=[0]), how)
    task = Task(
        units=tuple(Work(images=test_set.images, networks=(network,), features=(None,)).units(0)),
        store=Store(location=str(kept)),
        threads=1,
        paths=(),
        code=code("torch"),
    )
    threads: list[int] = []
    monkeypatch.setattr(
        "evaluate.launchers.slurm.Computer", lambda workers: threads.append(workers) or Computer(workers)
    )
    half = msgspec.structs.replace(task, units=task.units[:3], workers=3)
    assert half() == []
    assert threads == [3], "images are decoded by as many as were asked for"
    before = {name: (kept / name).stat().st_mtime_ns for name in names(kept)}
    again = task.checkpoint()
    assert again.function is task
    assert again.result() == []
    assert len(names(kept)) == 7
    assert before == {name: (kept / name).stat().st_mtime_ns for name in before}
    (refused, *_) = msgspec.structs.replace(task, code="other")()
    assert refused.failure
    assert "has another version of melanoma-zoo" in refused.failure.message


def test_a_task_refuses_to_compute_with_another_version_of_the_engine(
    small_system: Callable[..., System], test_set: TestSet, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results would be kept under the name of the version that the run was started with."""
    monkeypatch.setattr(units, "installed", lambda _: True)
    monkeypatch.setattr(units, "versions", lambda engine: {engine: "1.0"})
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="openvino")
    (network,) = networks(untrained(small_system(), 0, folds=[0]), how)
    given = tuple(Work(images=test_set.images, networks=(network,), features=(None,)).units(0))
    task = Task(units=given, store=Store(location=str(kept)), threads=1, paths=(), code=code_of(given))
    try:
        code.cache_clear()
        monkeypatch.setattr(units, "versions", lambda engine: {engine: "2.0"})
        refused = task()
    finally:
        code.cache_clear()
    assert len(refused) == 7
    assert all("or those of the engine" in each.failure.message for each in refused)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--address", "auto"], 2, "--address is that of a Ray cluster; add --launcher ray"),
        (["--slurm", "partition=gpu"], 2, "--slurm is an option of Slurm; add --launcher slurm"),
        (["--cpus", "2"], 2, "--cpus and --gpus are for --launcher ray or slurm; here say --processes"),
        (["--launcher", "slurm", "--gpus", "0.5"], 2, "Slurm gives whole GPUs"),
        (["--launcher", "slurm", "--gpus", "nan"], 2, "'nan' is not a finite number"),
        (["--launcher", "ray", "--gpus", "inf"], 2, "'inf' is not a finite number"),
        (["--results", "gopher://x"], 2, "gopher://x: no file system is known by gopher://"),
        (["--launcher", "slurm", "--slurm", "partition"], 2, "'partition' is not NAME=VALUE"),
        (["--launcher", "slurm"], 4, "launcher slurm: there is no sbatch here"),
        (["--launcher", "ray", "--address", "127.0.0.1:1"], 4, "Ray cluster 127.0.0.1:1: cannot be reached"),
    ],
)
def test_what_a_launcher_does_not_have_is_said(
    words: list[str],
    code: int,
    message: str,
    test_set: TestSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    start = ["predict", "sge_b3", "--untrained", "0", "--folds", "0", "--test-set", test_set.path]
    done = CliRunner().invoke(cli.main, [*start, "--output", str(tmp_path / "a.parquet"), *words])
    assert done.exit_code == code, done.output
    assert message in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("said", "threads"), [("1", 1), ("1,4", 1), (" 1 ", 1), ("", 4), ("0", 4), ("-1", 4), ("many", 4)]
)
def test_processes_hear_what_openmp_hears(said: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.launchers.processes.cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert Processes(2).threads == threads


@pytest.mark.parametrize(
    ("module", "words"),
    [(run, ["predict", "--output", "a.parquet"]), (inputs, ["compare", "--no-latency"])],
    ids=["predict", "compare"],
)
def test_images_are_checked_by_as_many_threads_as_there_are_cores(
    module: ModuleType, words: list[str], test_set: TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def read(*_: object, workers: int, **__: object) -> None:
        asked.append(workers)
        raise InputError("far enough")

    monkeypatch.setattr(module, "cores", lambda: 7)
    monkeypatch.setattr(module, "read_test_set", read)
    start = [words[0], "sge_b3", "--untrained", "0", "--test-set", test_set.path, *words[1:]]
    for more in ([], ["--workers", "3"]):
        done = CliRunner().invoke(cli.main, [*start, *more])
        assert "far enough" in done.stderr, done.output
    assert asked == [7, 3]


def test_compare_takes_a_launcher_only_for_networks_that_it_runs() -> None:
    done = CliRunner().invoke(cli.main, ["compare", "sge_b3", "--no-latency", "--processes", "2"])
    assert done.exit_code == 2
    assert "--processes is about networks that are run: give --test-set and --weights" in done.stderr


@pytest.mark.slow
def test_the_simulation_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.simulate_launchers", "--images", "48"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "| local | 48 | 3 | " in done.stdout
