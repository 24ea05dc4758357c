"""Plans of a run of `predict`: the arithmetic, where times come from, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from click.testing import Result as Done
from hypothesis import given
from hypothesis import strategies as some

import cli
import zoo
from benchmarks import worker
from benchmarks.lines import lines
from benchmarks.results import Row
from evaluate.jobs import untrained
from evaluate.launchers.local import Local
from evaluate.launchers.processes import Processes
from evaluate.planning import Machines, Networks, Overhead, longest, planned, result_bytes
from evaluate.portions import portions
from evaluate.predict import predict
from evaluate.preprocess import Geometry
from evaluate.results import Result, Took, encoded
from evaluate.testimages import TestImage
from evaluate.testset import TestSet, read_test_set
from evaluate.units import SHARD, How, Unit, networks
from evaluate.work import Work
from reports import base, plan_tables, profiling
from zoo import engines
from zoo.card import Member, System, Views

GEOMETRY = Geometry(resize=384, side=384, interpolation="linear", antialias=False, crops=1)


def run(*words: object) -> Done:
    return CliRunner().invoke(cli.main, [str(word) for word in words], env={"COLUMNS": "300"})


def member(name: str = "one", folds: int = 5, image_s: float = 0.4, loading_s: float = 2.0) -> Networks:
    return Networks(
        member=name, folds=folds, classes=8, geometry=GEOMETRY, weight_bytes=50_000_000, image_s=image_s,
        loading_s=loading_s, basis="predict", source="measured",
    )  # fmt: skip


@given(
    images=some.integers(1, 10**6),
    folds=some.integers(1, 9),
    members=some.integers(1, 4),
    image_s=some.floats(1e-4, 60),
    nodes=some.integers(1, 64),
    each=some.integers(1, 8),
    launcher=some.sampled_from(["ray", "slurm"]),
    price=some.floats(0, 100),
)
def test_nothing_is_lost_and_no_process_has_more_than_a_portion_too_much(
    images, folds, members, image_s, nodes, each, launcher, price
) -> None:
    own = [member(str(number), folds, image_s) for number in range(members)]
    machines = Machines(launcher=launcher, nodes=nodes, processes=nodes * each, price=price)
    overhead = Overhead(unit_s=0.01, start_s=0.0, source="")
    found = planned("system", own, images, machines, image_bytes=1000.0, overhead=overhead)
    work = found.compute_hours + found.loading_hours + found.overhead_hours
    assert found.units == -(-images // SHARD) * folds * members
    assert found.compute_hours == pytest.approx(images * folds * members * image_s / 3600)
    assert found.hours <= work * (1 + 1e-9)
    assert found.hours * machines.processes >= work * (1 - 1e-9)
    assert found.hours <= work / machines.processes + work / found.portions * (1 + 1e-9)
    assert found.node_hours == pytest.approx(nodes * found.hours)
    assert found.cost == pytest.approx(price * found.node_hours)
    assert found.read_bytes is not None
    assert found.read_bytes >= 2 * 1000 * images
    copies = nodes if launcher == "ray" else machines.processes
    assert found.shipped_bytes == copies * folds * members * 50_000_000
    slower = planned("system", [member("1", folds, 2 * image_s)], images, machines, overhead=overhead)
    faster = planned("system", [member("1", folds, image_s)], images, machines, overhead=overhead)
    assert slower.hours > faster.hours
    assert slower.read_bytes is None


@given(images=some.integers(1, 700), folds=some.integers(1, 7), processes=some.integers(1, 9))
def test_a_plan_has_the_portions_that_a_run_makes(images, folds, processes) -> None:
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (first,) = networks(untrained(zoo.card("sge_b3"), 0, folds=[0]), how)
    several = [msgspec.structs.replace(first, key=str(number)) for number in range(folds)]
    all_images = [
        TestImage(id=str(number), path=Path(f"{number}.jpg"), sha256=f"{number:064d}", size=1)
        for number in range(images)
    ]
    work = Work(images=all_images, networks=tuple(several), features=(None,) * folds)
    made = portions([unit for index in range(folds) for unit in work.units(index)], processes)
    own = msgspec.structs.replace(member(folds=folds), geometry=first.geometry)
    machines = Machines(launcher="ray", nodes=1, processes=processes)
    found = planned("sge_b3", [own], images, machines)
    assert found.portions == len(made)
    assert found.units == sum(map(len, made))


def test_the_time_of_the_process_that_has_most_to_do() -> None:
    assert longest(100.0, 10, 10) == 10.0
    assert longest(100.0, 11, 10) == pytest.approx(200 / 11)


@pytest.mark.parametrize("classes", [1, 2, 9])
def test_the_size_of_kept_results_is_about_right(classes: int) -> None:
    random = np.random.default_rng(0)
    took = Took(seconds=6.123456789012, loading=0.0, processor="Some Processor 9B14 96-Core", threads=2)
    result = Result(probabilities=random.dirichlet(np.ones(classes), SHARD), batch_size=16, took=took)
    if classes == 1:
        result = msgspec.structs.replace(result, probabilities=random.uniform(size=(SHARD, 1)))
    assert result_bytes(SHARD, classes) == pytest.approx(len(encoded(result)), rel=0.2)


@pytest.fixture
def small() -> Iterator[System]:
    """A system of one quick network that can be counted, and two views."""
    network = Member(name="small", backbone="test_efficientnet", size=32, classes=("MEL", "NV"), melanoma=0)
    yield zoo.register(
        System(
            schema=1, name="small", title="Small", group="test", summary="A small one.", folds=2, members=(network,),
            views=Views(transforms=("identity", "rows")),
        )
    )  # fmt: skip
    zoo.unregister("small")


@pytest.fixture
def test_set(tmp_path: Path, draw: Callable[..., None]) -> TestSet:
    for number in range(40):
        draw(tmp_path / "images" / f"I_{number:03d}.png", number)
    return read_test_set(tmp_path / "images")


WORDS = ("--images", 400_000, "--launcher", "ray", "--nodes", 8)


@pytest.mark.usefixtures("kept")
def test_a_plan_takes_the_times_of_units_of_an_earlier_run(small: System, test_set: TestSet) -> None:
    (before,) = json.loads(run("plan", "small", *WORDS, "--json").stdout)
    assert (before["basis"], before["source"]) == ("operations", "estimated from operations")
    assert before["read_bytes"] is None
    predict([untrained(small, 0)], test_set, launcher=Local(1))
    (found,) = json.loads(run("plan", "small", *WORDS, "--json").stdout)
    assert found["basis"] == "predict"
    assert found["source"].startswith("measured: predict of 40 images, ")
    (one,) = found["networks"]
    assert one["image_s"] > 0
    assert one["loading_s"] > 0
    assert found["units"] == 2 * 25_000
    assert found["machines"] == {"launcher": "ray", "nodes": 8, "processes": 8, "price": None}
    assert found["compute_hours"] == pytest.approx(400_000 * 2 * one["image_s"] / 3600)
    size = sum(image.size for image in test_set.images) / 40
    assert found["read_bytes"] == pytest.approx(400_000 * size * 2)
    predict([untrained(small, 0, folds=[0])], msgspec.structs.replace(test_set, images=test_set.images[:16]), launcher=Local(1))  # fmt: skip
    (after,) = json.loads(run("plan", "small", *WORDS, "--json").stdout)
    assert after == found, "a run of fewer images changes nothing"
    (wide,) = json.loads(run("plan", "small", *WORDS, "--image-mb", "2", "--json").stdout)
    assert wide["read_bytes"] == 400_000 * 2e6 * 2
    shown = run("plan", "small", *WORDS, "--price", "2.5").stdout
    assert "Plan: 400,000 images, --launcher ray on 8 nodes" in shown
    assert "measured: predict of 40 images" in shown
    assert "Overhead: of the launcher; measured: benchmarks/results/scaling.md" in shown
    assert "stimate" not in shown
    other = run("plan", "small", *WORDS, "--precision", "bf16", "--json").stdout
    assert json.loads(other)[0]["basis"] == "operations", "another precision was not measured"


@pytest.mark.usefixtures("kept")
def test_times_of_another_processor_are_told(small: System, test_set: TestSet, kept: Path) -> None:
    predict([untrained(small, 0)], test_set, launcher=Local(1))
    (file,) = kept.glob("unit-times-*")
    content = json.loads(file.read_bytes())
    content[0]["processor"] = "Another CPU"
    file.write_text(json.dumps(content))
    (found,) = json.loads(run("plan", "small", "--images", 1000, "--json").stdout)
    assert found["source"].endswith(" on Another CPU")
    for broken in ("[{", json.dumps([{**content[0], "images": 0}])):
        file.write_text(broken)
        (found,) = json.loads(run("plan", "small", "--images", 1000, "--json").stdout)
        assert found["basis"] == "operations", "a broken file says nothing"


@pytest.mark.usefixtures("kept")
def test_loading_that_is_known_of_some_members_is_not_shown_as_the_whole(
    small: System, test_set: TestSet
) -> None:
    other = msgspec.structs.replace(small.members[0], name="other", size=48)
    two = zoo.register(
        msgspec.structs.replace(small, name="two", title="Two", members=(*small.members, other))
    )
    try:
        before = run("plan", "two", *WORDS).stdout
        predict([untrained(two, 0, members=["small"])], test_set, launcher=Local(1))
        (found,) = json.loads(run("plan", "two", *WORDS, "--json").stdout)
        shown = run("plan", "two", *WORDS).stdout
    finally:
        zoo.unregister("two")
    first, second = found["networks"]
    assert first["loading_s"] > 0
    assert second["loading_s"] is None
    assert found["loading_members"] == 1
    assert f"{plan_tables.hours(found['loading_hours'])} (1 of 2 members)" in shown
    assert "(0 of" not in before
    for each in (before, shown):
        assert "Hours are without making networks where that was not measured" in each


@pytest.mark.usefixtures("kept")
def test_times_of_other_threads_are_scaled_and_it_is_said(
    small: System, test_set: TestSet, kept: Path
) -> None:
    predict([untrained(small, 0)], test_set, launcher=Local(1))
    (file,) = kept.glob("unit-times-*")
    (timing,) = json.loads(file.read_bytes())
    two = {**timing, "threads": 2, "seconds": 80.0, "images": 80, "loading": 6.0, "loads": 2}
    file.write_text(json.dumps([two]))
    words = ("plan", "small", "--images", 1000, "--device", "cpu", "--launcher", "ray")

    def planned_with(*more: object) -> tuple[dict[str, Any], str]:
        (found,) = json.loads(run(*words, *more, "--json").stdout)
        return found, " ".join(run(*words, *more).stdout.split())

    found, shown = planned_with()
    assert (found["threads"], found["networks"][0]["image_s"]) == (2, 1.0)
    assert found["networks"][0]["scaled_from"] is None
    assert "with 2 threads (predict --cpus 2)" in shown
    assert "caled" not in shown
    found, shown = planned_with("--cpus", 8)
    assert (found["threads"], found["networks"][0]["image_s"]) == (8, 0.25)
    assert found["networks"][0]["loading_s"] == 3.0, "making a network is not quicker with more threads"
    assert found["networks"][0]["scaled_from"] == 2
    assert found["source"] == "measured: predict of 40 images, 2 threads, scaled to 8 threads"
    assert "Scaled: twice the threads are taken to need half the time" in shown
    file.write_text(json.dumps([two, {**two, "threads": 8, "seconds": 16.0, "images": 32}]))
    found, shown = planned_with("--cpus", 8)
    assert (found["networks"][0]["image_s"], found["networks"][0]["scaled_from"]) == (0.5, None)
    assert "caled" not in shown
    local = ("plan", "small", "--images", 1000, "--device", "cpu", "--processes", 2, "--json")
    (found,) = json.loads(run(*local).stdout)
    assert found["threads"] == Processes(2).threads, "they share the cores of this machine"


def profile_row(system: str, **changes: Any) -> dict[str, Any]:
    usual = {
        "device": "cpu",
        "precision": "fp32",
        "memory_format": "contiguous",
        "threads": 2,
        "compiled": False,
    }
    row = Row(system=system, title=system, network="small", scenario="throughput", images_per_s=10.0, **usual)  # type: ignore[arg-type]
    return {**asdict(row), **changes}


@pytest.mark.usefixtures("kept")
def test_a_plan_takes_a_profile_where_predict_has_measured_nothing(small: System, tmp_path: Path) -> None:
    record = base.counted([small])
    rows = [
        profile_row("small"),
        profile_row("small", images_per_s=20.0, flags=("noisy", "busy")),
        profile_row("small", precision="bf16", images_per_s=99.0),
        profile_row("small", compiled=True, images_per_s=99.0),
        profile_row("small", scenario="end-to-end", images_per_s=99.0),
        profile_row("other", images_per_s=99.0),
    ]
    record["profile"] = {"rows": rows, "machine": {"cpu": "Another CPU"}}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    (found,) = json.loads(run("plan", "small", *WORDS, "--counts", path, "--device", "cpu", "--json").stdout)
    assert found["source"] == "measured: profile, throughput, 2 threads, noisy, busy on Another CPU"
    assert found["networks"][0]["image_s"] == pytest.approx(2 / 20), "two views"
    asked = profiling.Asked(
        scenarios=("throughput",),
        devices=("cpu",),
        memory_formats=("contiguous",),
        threads=("all",),
        quick=True,
    )
    options, taker = profiling.prepare(asked)
    (target,) = base.targets(base.counted([small]), builder=lambda _: worker.STANDARD)
    (line,) = lines([target], options)
    reading = {"batch": 8, "images": 16, "samples_ms": [400.0, 400.0, 300.0]}
    profiling.Store(profiling._cache()).keep(taker.name(line.cell), reading)
    (found,) = json.loads(run("plan", "small", *WORDS, "--device", "cpu", "--json").stdout)
    threads = line.cell.variant.threads
    assert found["source"] == f"measured: profile, throughput, {threads} thread{'s' * (threads > 1)}, quick"
    assert found["networks"][0]["image_s"] == pytest.approx(2 * 0.2 / 8)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("words", [("--threads", "1"), WORDS], ids=["profile", "predict"])
def test_an_engine_that_is_not_installed_here_can_be_planned_with(
    small: System, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    monkeypatch.setitem(engines._PACKAGES, "openvino", ("no-such-package",))
    done = run("plan", small.name, *words, "--engine", "openvino", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    assert small.name in done.stdout.lower()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--nodes", "8"), "--nodes is of a run of predict; say on how many images: --images 400000"),
        (("--price", "2"), "--price is of a run of predict"),
        (("--cpus", "2"), "--cpus is of a run of predict"),
        (("--images", "100", "--cpus", "2"), "--cpus and --gpus are for --launcher ray or slurm"),
        (("--images", "100", "--launcher", "ray", "--device", "cuda", "--cpus", "2"), "--cpus 2: networks would run on GPUs"),
        *((("--images", wrong), f"{wrong!r}: a number of images is whole and at least 1") for wrong in ("0", "-4", "1e6", "400,000", "2.5")),
        (("--images", "100", "--price", "nan"), "'nan' is not a finite number"),
        (("--images", "100", "--image-mb", "inf"), "'inf' is not a finite number"),
        (("--images", "100", "--results", "gopher://x"), "gopher://x: no file system is known by gopher://"),
        (("--images", "100", "--nodes", "2"), "--nodes 2: --launcher local is one machine; choose ray or slurm"),
        (("--images", "100", "--launcher", "ray", "--nodes", "8", "--processes", "4"), "--processes 4: 4 of 8 nodes would have nothing to do"),
        (("--images", "100", "--scenario", "latency"), "--scenario says how profile measures"),
        (("--images", "100", "--quick"), "--quick says how profile measures"),
        (("--images", "100", "--precision", "fp32,bf16"), "--precision fp32,bf16: a run of predict has one; choose"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said(words: tuple[str, ...], message: str) -> None:
    done = run("plan", "sge_b3", *words)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())


def test_a_folder_whose_name_is_a_number_is_the_folder(
    tmp_path: Path, draw: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "12" / "I_0.png")
    done = run("plan", "sge_b3", "--images", "12")
    assert done.exit_code == 0, done.output
    assert "rows, about" in done.stdout
    assert "Plan: 13 images" in run("plan", "sge_b3", "--images", "13").stdout


def test_a_folder_that_is_not_there_is_a_missing_input() -> None:
    done = run("plan", "sge_b3", "--images", "nowhere")
    assert done.exit_code == 3, done.output
    assert "nowhere: there is no such folder (--images)" in " ".join(done.stderr.split())


@given(
    images=some.integers(1, 4000),
    folds=some.integers(1, 6),
    processes=some.integers(1, 5),
    slurm=some.booleans(),
)
def test_networks_are_made_as_often_as_a_run_makes_them(images, folds, processes, slurm) -> None:
    """One process, or tasks of Slurm: there it is known beforehand which portions follow each other."""
    if not slurm:
        processes = 1
    how = How(device="cpu", device_name="cpu", precision="fp32", batch_size=None, engine="torch")
    (first,) = networks(untrained(zoo.card("sge_b3"), 0, folds=[0]), how)
    several = [msgspec.structs.replace(first, key=str(number)) for number in range(folds)]
    image = TestImage(id="1", path=Path("1.jpg"), sha256="", size=1)
    own = msgspec.structs.replace(member(folds=folds, loading_s=3600.0), geometry=first.geometry)
    machines = Machines(launcher="slurm" if slurm else "ray", nodes=1, processes=processes)
    found = planned("sge_b3", [own], images, machines)
    shards = [
        Unit(network=each, start=start, images=(image,), features=None, name=f"{each.key} {start}")
        for start in range(0, images, SHARD)
        for each in several
    ]
    cut = portions(shards, processes)
    assert len(cut) == found.portions
    made = 0
    for number in range(processes):
        units = [unit for portion in cut[number::processes] for unit in portion]
        joined = [unit.network.key for portion in portions(units, 1) for unit in portion]
        made += sum(a != b for a, b in zip(["", *joined], joined, strict=False))
    assert found.loading_hours is not None
    # Tasks that have less to do than the first make networks less often.
    assert made <= found.loading_hours * (1 + 1e-9)
    whole = all(len({unit.network.key for unit in portion}) == folds for portion in cut)
    if whole and found.portions % processes == 0:
        assert made == pytest.approx(found.loading_hours)
