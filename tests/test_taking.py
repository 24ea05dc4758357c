"""Readings: each in a process of its own, none of which touches the next, and kept at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cells, worker
from benchmarks import sweep as sweeping
from benchmarks.cells import Cell, Variant, from_fields, key
from benchmarks.estimate import kept_rate, plan
from benchmarks.lines import Network, Options, Target, lines
from benchmarks.machine import fingerprint
from benchmarks.profile import profile
from benchmarks.results import Machine
from benchmarks.store import Store
from benchmarks.sweep import Sweep, Turn, merged, once, times
from benchmarks.taking import Taker
from benchmarks.timing import FULL, QUICK
from reports import pixels
from zoo import engines

MEMBER = {"name": "small", "backbone": "resnet18", "size": 32, "classes": ["MEL", "NV"], "melanoma": 0}
CELL = Cell(kind="memory", members=(MEMBER,), variant=Variant(threads=1), rules=QUICK)

BUILDERS = """
import os, signal, time
from torch import nn, zeros

kept = []

def odd(member):
    if member.name == "leaks":
        kept.append(zeros(150_000_000).add_(1))
    if member.name == "crashes":
        os.abort()
    if member.name == "hangs":
        time.sleep(60)
    if member.name == "takes the worker with it":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if member.name == "too large":
        return nn.Linear(2**40, 2**20)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * member.size**2, 2))
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cell]:
    (tmp_path / "odd_cells.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield replace(CELL, builder="odd_cells:odd")
    sys.modules.pop("odd_cells", None)


def called(cell: Cell, name: str) -> Cell:
    return replace(cell, members=({**MEMBER, "name": name},))


def test_one_cell_does_not_touch_the_next(odd: Cell, tmp_path: Path) -> None:
    names = ("leaks", "crashes", "hangs", "too large", "takes the worker with it", "works")
    with Taker(fingerprint(), Store(tmp_path / "store"), limit_s=10) as taker:
        answers = {name: taker.take(called(odd, name)) for name in names}
        assert taker.take(called(odd, "crashes"), turn=1) == answers["crashes"], "not tried again"
    assert answers["crashes"]["error"] == "ended by SIGABRT"
    assert answers["hangs"]["error"] == "ended by SIGALRM (over the time limit)"
    assert "memory" in answers["too large"]["error"]
    if worker.FORKS:
        assert answers["takes the worker with it"]["error"].startswith("ended by SIGKILL")
    leak, fine = answers["leaks"]["result"], answers["works"]["result"]
    assert leak["peak_rss"] > leak["before"] + 500_000_000
    assert fine["peak_rss"] < leak["peak_rss"] - 400_000_000
    assert len(list((tmp_path / "store").iterdir())) == 2, "what failed is not kept"


def test_readings_are_kept_at_once_and_taken_only_when_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    asked: list[str] = []

    class Running:
        def __enter__(self) -> Any:
            return lambda call, fields, **_: (
                asked.append(call) or {"result": {"peak_rss": len(asked), "others": 0.3}}
            )

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(worker, "running", lambda *_, **__: Running())
    with Taker(fingerprint(), store) as taker:
        assert taker.take(CELL) == {"result": {"peak_rss": 1, "others": 0.3}}
        assert taker.take(CELL, turn=1)["result"]["peak_rss"] == 2
        assert taker.take(CELL)["result"]["peak_rss"] == 1
        assert taker.kept(CELL, turn=1) == {"peak_rss": 2, "others": 0.3}
    with Taker(fingerprint(), store, resume=True) as again:
        assert again.take(CELL)["result"]["peak_rss"] == 1
        assert again.take(CELL, turn=2)["result"]["peak_rss"] == 3
    with Taker(fingerprint(), store, resume=True, repeat=1) as repeated:
        assert repeated.take(CELL)["result"]["peak_rss"] == 4, "a repeat measures for itself"
    with Taker(fingerprint(), store) as anew:
        assert anew.take(CELL)["result"]["peak_rss"] == 5
    assert set(asked) == {"benchmarks.memory:measure"}


def test_memory_and_energy_are_of_the_batch_that_was_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, set[int]] = {}

    def answer(call: str, given: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.setdefault(given["kind"], set()).add(given["batch"])
        if given["kind"] != "throughput":
            return {"error": "not told here"}
        timed = {"samples_ms": [8.0], "device_ms": [], "first_ms": 1.0, "load_ms": 1.0, "settled": True}
        more = {"others": 0.0, "gpu": {}, "settings": {}}
        return {"result": {**timed, **more, "batch": 4, "images": 4}}  # memory did not suffice for 16

    class Running:
        def __enter__(self) -> Any:
            return answer

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(worker, "running", lambda *_, **__: Running())
    network = Network(member=MEMBER, macs=1, weight_bytes=1)
    target = Target(name="t", title="T", networks=(network,))
    options = Options(scenarios=("throughput",), batch=16, rules=QUICK)
    with Taker(fingerprint(), Store(tmp_path)) as taker:
        (row,), _, _ = profile([target], options, taker)
    assert (row.batch_asked, row.batch) == (16, 4)
    assert "batch 4 of 16" in row.flags
    assert asked == {"ceilings": {1}, "throughput": {16}, "memory": {4}, "energy": {4}}
    assert row.reasons["joules"] == row.reasons["peak_rss_bytes"] == "not told here"


def test_all_rows_of_a_scenario_say_how_restless_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One network happened to take the same time in all rounds; the other did not."""
    about = {
        "device_ms": [], "images": 1, "batch": 1, "load_ms": 1.0, "first_ms": 1.0, "settled": True, "others": 0.0,
        "gpu": {}, "settings": {},
    }  # fmt: skip

    def taken(_: Taker, cell: Cell, turn: int = 0) -> worker.Answer:
        if cell.kind != "latency":
            return {"error": "not asked for"}
        return {"result": {**about, "samples_ms": [10.0 + turn * (cell.members[0]["size"] == 64)]}}

    monkeypatch.setattr(Taker, "take", taken)
    networks = tuple(
        Network(member={**MEMBER, "name": name, "size": size}, macs=1, weight_bytes=1)
        for name, size in (("steady", 32), ("restless", 64))
    )
    targets = [Target(name="t", title="T", networks=networks, whole=False)]
    variants = (Variant(threads=1), Variant(threads=2))
    with Taker(fingerprint(), Store(tmp_path)) as taker:
        rows, _, _ = profile(targets, Options(variants=variants, rules=FULL), taker)
        (alone, _), _, _ = profile(
            [replace(targets[0], networks=networks[:1])], Options(variants=variants, rules=FULL), taker
        )
    assert alone.spread == 0.0
    steady = [row for row in rows if row.network == "steady"]
    assert [row.between_rounds for row in steady] == [0.0, 0.0]
    # t of 4 degrees of freedom, √2 and the pooled deviation, 1 ms of 11 over √2.
    assert [row.spread for row in steady] == [pytest.approx(2.776 / 11)] * 2


@pytest.mark.parametrize("ended_by", ["an error", "too little memory"])
def test_a_sweep_is_resumed_and_planned_as_it_ended(
    ended_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is not kept, and memory that is free now may have been full then: the choice is kept itself."""
    asked: list[str] = []
    fails = ended_by == "an error"

    def answer(call: str, given: dict[str, Any], **_: Any) -> dict[str, Any]:
        kind, batch = given["kind"], given["batch"]
        asked.append(kind)
        if kind == "memory":
            return {"result": {"peak_rss": 1, "before": 1, "traffic": 1}}
        if kind == "energy":
            return {"result": {"reason": "no counter"}}
        if kind == "ceilings" or (batch > 2 and fails):
            return {"error": "OutOfMemoryError: CUDA out of memory"}
        timed = {"samples_ms": [8.0], "device_ms": [], "first_ms": 1.0, "load_ms": 1.0, "settled": True}
        more = {"others": 0.0, "gpu": {}, "settings": {}, "peak_rss": batch}
        return {"result": {**timed, **more, "batch": batch, "images": batch}}

    class Running:
        def __enter__(self) -> Any:
            return answer

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(worker, "running", lambda *_, **__: Running())
    monkeypatch.setattr(sweeping, "available_memory", lambda: None if fails else 3)
    target = Target(name="t", title="T", networks=(Network(member=MEMBER, macs=1, weight_bytes=1),))
    options = Options(scenarios=("throughput",))
    with Taker(fingerprint(), Store(tmp_path)) as taker:
        (row,), _, _ = profile([target], options, taker)
    assert (row.batch, row.sweep, row.rounds) == (2, {1: 125.0, 2: 250.0}, 3)
    assert row.sweep_end == (
        "batch 4: OutOfMemoryError: CUDA out of memory" if fails else "batch 4 might not fit into memory"
    )
    asked.clear()
    monkeypatch.setattr(sweeping, "available_memory", lambda: None)
    with Taker(fingerprint(), Store(tmp_path), resume=True) as taker:
        _, planned = plan([target], options, taker)
        (line,) = lines([target], options)
        assert (planned.rounds, planned.kept, planned.seconds) == (3, 3, 0.0)
        assert kept_rate(line, options, taker) == 250.0
        assert profile([target], options, taker)[0] == [row]
    assert set(asked) == {"ceilings"}, "which had failed"
    with Taker(fingerprint(), Store(tmp_path)) as taker:
        (anew,), _, _ = profile([target], options, taker)
    assert anew.batch == (2 if fails else 64), "without --resume nothing is taken from before"


THREADS = """
def counted(_):
    import cv2, torch
    return {"cv2": cv2.getNumThreads(), "torch": torch.get_num_threads()}
"""


def test_a_worker_has_the_threads_that_it_is_given_and_opencv_adds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "threads_of_worker.py").write_text(THREADS)
    monkeypatch.syspath_prepend(tmp_path)
    with worker.running(threads=2) as ask:
        assert ask("threads_of_worker:counted", {})["result"] == {"cv2": 1, "torch": 2}


DYING = """
import os

def die(_):
    os._exit(3)
"""


def test_a_worker_that_has_ended_is_not_killed_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_worker.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)
    killed: list[int] = []

    def kill(number: int, _: int) -> None:
        killed.append(number)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", kill)
    with worker.running(threads=1) as ask:
        assert ask("dying_worker:die", {}) == {"error": "ended early", "ended": True}
    assert killed == []
    with worker.running(threads=1):
        pass
    assert len(killed) == 1, "and one that may not be killed ends with what it reads from"


def test_what_cannot_be_run_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "running", None)
    absent = {"cuda": "there is no GPU", "end-to-end": "there is no decoder"}
    with Taker(fingerprint(), Store(tmp_path), absent=absent) as taker:
        assert taker.take(CELL.of("end-to-end")) == {"error": "there is no decoder"}
        cuda = replace(CELL, variant=Variant(device="cuda"))
        tf32 = replace(CELL, variant=Variant(precision="tf32"))
        assert taker.take(cuda) == {"error": "there is no GPU"}
        assert taker.take(tf32) == {"error": "TF32 is a mode of CUDA GPUs"}


def test_a_broken_or_unwritable_store_costs_a_line_and_no_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    store = Store(tmp_path)
    assert store.load("a") is store.load("b") is store.load("c") is None
    Store(tmp_path / "a.json").keep("d", {})
    assert "cannot be written" in caplog.text


def other(machine: Machine) -> Machine:
    return replace(machine, torch="0.0")


def test_a_name_depends_on_everything_that_decides_the_reading(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(b"one")
    machine = fingerprint()
    timed = CELL.of("latency", images=(str(tmp_path / "image.jpg"),), reader="reports.pixels:read")
    names = {
        key(cell, about, turn)
        for cell, about, turn in (
            (CELL, machine, 0),
            (CELL, machine, 1),
            (CELL, other(machine), 0),
            (CELL.of("energy"), machine, 0),
            (CELL.of("memory", batch=2), machine, 0),
            (replace(CELL, seed=1), machine, 0),
            (replace(CELL, rules=FULL), machine, 0),
            (replace(CELL, variant=Variant(threads=2)), machine, 0),
            (replace(CELL, members=({**MEMBER, "size": 64},)), machine, 0),
            (timed, machine, 0),
        )
    }
    assert len(names) == 10
    twin = {**MEMBER, "name": "twin", "classes": ["NV", "MEL"], "melanoma": 1}
    assert key(replace(CELL, members=(twin,)), machine) == key(CELL, machine)


def test_a_library_that_is_not_installed_costs_its_own_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Running:
        def __enter__(self) -> Any:
            return lambda *_, **__: {"error": "engine openvino is not installed"}

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setitem(engines._PACKAGES, "openvino", ("no-such-package",))
    monkeypatch.setattr(worker, "running", lambda *_, **__: Running())
    cell = replace(CELL.of("latency"), variant=Variant(engine="openvino"))
    with Taker(fingerprint(), Store(tmp_path)) as taker:
        assert taker.take(cell) == {"error": "engine openvino is not installed"}


def test_a_reading_of_a_gpu_is_that_of_the_gpus_that_were_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, cuda = fingerprint(), replace(CELL, variant=Variant(device="cuda"))
    names = []
    for visible in ("0", "1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        names.append((key(cuda, machine), key(CELL, machine)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    names.append((key(cuda, machine), key(CELL, machine)))
    on_gpu, on_cpu = map(set, zip(*names, strict=True))
    assert (len(on_gpu), len(on_cpu)) == (3, 1)


@pytest.mark.parametrize("kind", ["end-to-end", "drift"])
def test_a_reading_of_images_is_that_of_what_reads_them(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image.jpg").write_bytes(b"one")
    machine = fingerprint()
    plain = CELL.of("latency")
    cell = CELL.of(kind, images=(str(tmp_path / "image.jpg"),), reader=pixels.READER)
    names = {"now": key(cell, machine)}
    without = key(plain, machine)
    real_version, real_source = cells.version, cells._source
    for package in ("opencv-python-headless", "simplejpeg", "pillow", "numpy"):
        monkeypatch.setattr(
            cells, "version", lambda name, p=package: "0" if name == p else real_version(name)
        )
        names[package] = key(cell, machine)
    monkeypatch.setattr(cells, "version", real_version)
    for module in ("evaluate.images", "evaluate.preprocess", "evaluate.views", "reports.pixels"):
        monkeypatch.setattr(cells, "_source", lambda name, m=module: "0" if name == m else real_source(name))
        names[module] = key(cell, machine)
        assert key(plain, machine) == without, "what reads no image does not depend on it"
    assert len(set(names.values())) == len(names)
    monkeypatch.setattr(cells, "_source", real_source)
    assert key(cell, machine) == names["now"]


def test_what_a_reader_names_is_what_it_imports() -> None:
    """A module of `evaluate` that decoding comes to need must be named too."""
    code = (
        "import sys, evaluate.preprocess; print(*sorted(m for m in sys.modules if m.startswith('evaluate.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == pixels.CODE


def test_networks_that_a_card_does_not_assemble_never_share_a_reading(tmp_path: Path) -> None:
    """Two files of the same size and classes look alike on their cards."""
    machine = fingerprint()

    def name(**changes: Any) -> str:
        return key(replace(CELL, members=({**MEMBER, **changes},)), machine)

    files = [tmp_path / "a.pt2", tmp_path / "b.pt2"]
    for path in files:
        path.write_text(path.name)
    names = [
        name(),
        name(network="timm"),
        name(network="timm", options={"drop_rate": 0.5}),
        *(name(network="torch", file=str(path)) for path in files),
    ]
    assert len(set(names)) == len(names)
    files[0].write_text("trained anew")
    assert name(network="torch", file=str(files[0])) not in names


def test_a_reading_is_that_of_what_makes_and_runs_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of an ONNX file is run by ONNX Runtime, whatever engine runs what torch makes."""
    (tmp_path / "a.onnx").write_text("a")
    machine, plain = fingerprint(), CELL.of("latency")
    timm, onnx = (
        replace(plain, members=({**MEMBER, "network": kind, **more},))
        for kind, more in (("timm", {}), ("onnx", {"file": str(tmp_path / "a.onnx")}))
    )

    def named() -> list[str]:
        return [key(each, machine) for each in (plain, timm, onnx)]

    before, real = named(), cells._source
    for module in ("zoo.kinds", "zoo.exported", "zoo.onnx_file", "zoo.whole"):
        monkeypatch.setattr(cells, "_source", lambda name, m=module: "0" if name == m else real(name))
        changed = [now != then for now, then in zip(named(), before, strict=True)]
        assert changed == [False, True, True], module
    monkeypatch.setattr(cells, "_source", real)
    monkeypatch.setattr(engines, "versions", lambda engine: {engine: "0"})
    assert [now != then for now, then in zip(named(), before, strict=True)] == [False, False, True]


def test_the_choice_of_a_batch_is_that_of_the_code_that_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, real = fingerprint(), cells._source
    choice, timed = CELL.of("choice"), CELL.of("throughput")
    before = key(choice, machine), key(timed, machine)
    for module in ("benchmarks.sweep", "benchmarks.figures", "benchmarks.samples"):
        monkeypatch.setattr(cells, "_source", lambda name, m=module: "0" if name == m else real(name))
        assert key(choice, machine) != before[0], module
        assert key(timed, machine) == before[1], "its readings are as they were"


def test_a_cell_survives_the_way_to_a_worker() -> None:
    cell = replace(CELL, images=("a", "b"), variant=Variant(precision="bf16", compiled=True))
    assert from_fields(json.loads(json.dumps(cell.fields()))) == cell


def speeds(**images_per_s: float) -> Any:
    """Takes sweeps of a made-up network: images per second by batch, and what fails."""

    def take(cell: Cell, turn: int) -> dict[str, Any]:
        speed = images_per_s.get(f"b{cell.batch}")
        if speed is None:
            return {"error": "OutOfMemoryError: CUDA out of memory"}
        samples = [1e3 * cell.batch / speed]
        return {
            "result": {
                "samples_ms": samples,
                "batch": cell.batch,
                "images": cell.batch,
                "peak_rss": cell.batch,
            }
        }

    return take


THROUGHPUT = CELL.of("throughput", variant=Variant(device="cuda"))


def sweep(cell: Cell, take: Any, available: int | None = None) -> Sweep:
    return merged([once(cell, turn, take, available) for turn in range(times(cell.rules))])


@pytest.mark.parametrize(
    ("take", "batch", "tried", "end"),
    [
        (speeds(b1=10, b2=20, b4=40, b8=41, b16=40.1, b32=40), 4, 32, "no gain after batch 8"),
        (speeds(b1=10, b2=9, b4=12, b8=12.1, b16=12), 4, 16, "no gain after batch 4"),
        (speeds(b1=10, b2=20), 2, 2, "batch 4: OutOfMemoryError: CUDA out of memory"),
        (speeds(), 1, 0, "batch 1: OutOfMemoryError: CUDA out of memory"),
        (speeds(**{f"b{2**n}": 2.0**n for n in range(12)}), 1024, 1024, "batch 1024 is the largest tried"),
    ],
)
def test_a_sweep_ends_where_nothing_is_gained_or_nothing_fits(
    take: Any, batch: int, tried: int, end: str
) -> None:
    found = sweep(THROUGHPUT, take)
    assert (found.batch, max(found.found, default=0), found.end) == (batch, tried, end)


def test_a_flat_curve_gives_the_same_batch_whatever_the_noise() -> None:
    for noise in (-0.01, 0.0, 0.01):
        flat = sweep(THROUGHPUT, speeds(b1=10 * (1 - noise), b2=10 * (1 + noise), b4=10 * (1 - noise)))
        assert flat.batch == 1


def test_a_slow_minute_decides_neither_the_batch_nor_the_end_of_a_sweep() -> None:
    """In the first round batches of 2 and 4 met other work, so that it ended there; in the last one batch 1 did."""
    true = speeds(b1=10, b2=12, b4=14, b8=17, b16=17.1, b32=17)
    slow = {(2, 0): 0.6, (4, 0): 0.5, (1, 2): 0.5}

    def take(cell: Cell, turn: int) -> dict[str, Any]:
        answer: dict[str, Any] = true(cell, turn)
        taken = [each / slow.get((cell.batch, turn), 1.0) for each in answer["result"]["samples_ms"]]
        return {"result": {**answer["result"], "samples_ms": taken}}

    found = sweep(replace(THROUGHPUT, rules=FULL), take)
    assert (found.batch, found.end) == (8, "no gain after batch 8")
    assert found.found == pytest.approx({1: 10, 2: 12, 4: 14, 8: 17, 16: 17.1, 32: 17})
    quick = sweep(THROUGHPUT, take)
    assert (quick.batch, quick.end) == (1, "no gain after batch 1"), "once, as it is marked"


def test_a_sweep_ends_as_its_longest_turn_did() -> None:
    slow = Turn({1: 10.0, 2: 9.0, 4: 9.0}, "")
    full = Turn({1: 10.0, 2: 20.0, 4: 40.0, 8: 80.0}, "batch 16: OutOfMemoryError")
    for turns in ([slow, full], [full, slow]):
        assert merged(turns) == (8, full.found, full.end)


def test_the_end_of_a_sweep_is_told_by_the_rates_that_it_tells() -> None:
    """In the first round batch 1 met other work, so that 2 seemed a gain; by the best of the rounds it is none."""
    true = speeds(b1=10, b2=10, b4=10, b8=10)

    def take(cell: Cell, turn: int) -> dict[str, Any]:
        answer: dict[str, Any] = true(cell, turn)
        slow = 2.0 if (cell.batch, turn) == (1, 0) else 1.0
        return {"result": {**answer["result"], "samples_ms": [slow * each for each in answer["result"]["samples_ms"]]}}  # fmt: skip

    found = sweep(replace(THROUGHPUT, rules=FULL), take)
    assert found.found == pytest.approx({1: 10, 2: 10, 4: 10, 8: 10})
    assert (found.batch, found.end) == (1, "no gain after batch 1")


def test_a_sweep_on_a_cpu_stops_before_memory_is_full() -> None:
    take = speeds(**{f"b{2**n}": 2.0**n for n in range(12)})
    found = sweep(CELL.of("throughput"), take, available=15)
    assert (found.batch, found.end) == (8, "batch 16 might not fit into memory")
