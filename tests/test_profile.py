"""Profiles from end to end: real processes, the record, the tables, the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
import zoo
from benchmarks import figures
from benchmarks.cells import Variant
from benchmarks.lines import Network, Options, Target, lines
from benchmarks.machine import fingerprint
from benchmarks.results import Ceiling, Profile, Row
from benchmarks.timing import QUICK
from reports import base, outputs, pixels, profiling, record
from reports.profile import tables
from reports.ranking import incomparable, places, ranked, ranking
from reports.repeats import normalised_error, repeats
from zoo.card import Member, System
from zoo.errors import InputError, MachineError, UnknownNameError, UsageError

ROOT = Path(__file__).parents[1]
CLASSES = ("MEL", "NV")
TINY = System(
    schema=1, name="tiny", title="Tiny", group="mine", summary="Two small networks.", folds=2,
    members=(
        Member(name="first", backbone="resnet18", size=32, classes=CLASSES, melanoma=0),
        Member(name="second", backbone="resnet18", size=64, classes=CLASSES, melanoma=0),
    ),
)  # fmt: skip

ONE = System(
    schema=1, name="one", title="One", group="mine", summary="One small network.", folds=1, members=TINY.members[:1]
)  # fmt: skip


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "300"})


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record with cards and counts, as one made elsewhere."""
    path = tmp_path_factory.mktemp("counts") / "record.json"
    for system in (TINY, ONE):
        zoo.register(system)
    try:
        path.write_text(json.dumps(base.counted([TINY, ONE])))
    finally:
        for system in (TINY, ONE):
            zoo.unregister(system.name)
    return path


@pytest.fixture(scope="module")
def profiled(counts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real profile: CPU and an absent GPU, two memory formats, a fixed batch."""
    folder = tmp_path_factory.mktemp("profiled")
    done = run(
        "profile", "Tiny", "--counts", counts, "--quick", "--threads", "1", "--device", "cpu,cuda",
        "--memory-format", "contiguous,channels-last", "--scenario", "latency,throughput", "--batch-size", "2",
        "--output", folder,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def found(profiled: Path) -> Profile:
    profile = record.load(profiled / "record.json").profile
    assert profile is not None
    return profile


def of(profile: Profile, **wanted: Any) -> list[Row]:
    return [row for row in profile.rows if all(getattr(row, key) == value for key, value in wanted.items())]


@pytest.mark.slow
def test_every_combination_is_a_row(found: Profile) -> None:
    scenarios = [row.scenario for row in found.rows]
    assert scenarios.count("latency") == scenarios.count("throughput") == 2 * 2 * 2
    assert scenarios.count("protocol") == 2 * 2
    assert len({(r.scenario, r.network, r.device, r.memory_format) for r in found.rows}) == len(found.rows)


@pytest.mark.slow
def test_an_engine_is_a_row(counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path / "cache"))  # others resume their own readings
    done = run(
        "profile", "Tiny", "--counts", counts, "--quick", "--threads", "1", "--member", "0",
        "--engine", "torch,onnxruntime", "--output", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = record.load(tmp_path / "record.json").profile
    assert found is not None
    plain, other = of(found, scenario="latency")
    assert (plain.engine, plain.drift) == ("torch", None)
    assert (other.engine, other.settings["engine"], other.error) == ("onnxruntime", "onnxruntime", "")
    assert other.ms
    assert 0 < other.drift < 1e-5
    assert "onnxruntime" in done.stdout


def test_threads_that_affinity_leaves_no_processor_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with pytest.raises(UsageError, match=r"^--threads 2: this process may use 1 processor; ask for no more$"):
        profiling._variants(profiling.Asked(threads=("1", "2")), ["cpu"])


def test_each_engine_is_asked_for_what_it_can() -> None:
    asked = profiling.Asked(
        engines=("torch", "openvino"),
        compiled=True,
        memory_formats=("contiguous", "channels-last"),
        threads=("1",),
    )
    found = [(each.engine, each.memory_format, each.compiled) for each in profiling._variants(asked, ["cpu"])]
    assert found == [
        ("torch", "contiguous", False), ("torch", "contiguous", True),
        ("torch", "channels-last", False), ("torch", "channels-last", True),
        ("openvino", "contiguous", False),
    ]  # fmt: skip
    low = Variant(engine="onnxruntime", precision="bf16")
    assert low.impossible == "onnxruntime has no bf16 on a CPU"
    assert Variant(engine="onnxruntime", device="cuda").impossible == "onnxruntime runs networks on CPUs only"
    assert low.label == "cpu, 1 thread, bf16, onnxruntime"
    assert not Variant(engine="openvino").reference


@pytest.mark.slow
def test_an_absent_gpu_is_told_in_its_rows_and_the_rest_goes_on(found: Profile) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA GPU")
    assert all("finds no CUDA GPU here" in row.error for row in of(found, device="cuda"))
    assert all(row.error == "" and row.ms for row in of(found, device="cpu"))


@pytest.mark.slow
def test_the_figures_of_a_row_fit_together(counts: Path, found: Profile) -> None:
    target, _ = base.targets(base.read(counts))
    macs = {network.member["name"]: network.macs for network in target.networks}
    for row in of(found, device="cpu", scenario="throughput"):
        assert (row.batch_asked, row.batch) == (2, 2)
        assert row.images_per_s == pytest.approx(2e3 / row.ms)
        assert row.gflops == pytest.approx(2 * macs[row.network] * row.images_per_s / 1e9)
        assert "quick" in row.flags
        assert row.peak_rss_bytes > row.before_bytes > 10_000_000
        assert row.traffic_bytes > 40_000_000
        assert row.compute_share > 0
        assert row.limit in ("compute", "memory")
        assert row.settings["threads"] == "1"
        assert row.joules is not None or row.reasons["joules"]
    plain, channels_last = of(found, device="cpu", scenario="latency", network="first")
    assert (plain.drift, plain.memory_format) == (None, "contiguous")
    assert 0 <= channels_last.drift < 1e-5
    assert channels_last.drift_on == "8 images of random pixels, random weights"


@pytest.mark.slow
def test_a_whole_protocol_stands_beside_the_sum_of_its_members(found: Profile) -> None:
    for whole in of(found, device="cpu", scenario="protocol"):
        members = of(found, device="cpu", scenario="latency", memory_format=whole.memory_format)
        assert whole.how == "measured"
        assert whole.summed_ms == pytest.approx(2 * sum(row.ms for row in members))
        assert whole.ms > 0


@pytest.mark.slow
def test_raw_samples_are_kept_beside_the_record(profiled: Path, found: Profile) -> None:
    assert found.samples == "samples.parquet"
    samples = pd.read_parquet(profiled / found.samples)
    for row in of(found, device="cpu", scenario="latency"):
        own = samples[
            (samples["network"] == row.network) & (samples["scenario"] == "latency")
            & (samples["memory_format"] == row.memory_format)
        ]  # fmt: skip
        assert len(own) == row.samples
        assert row.ms == pytest.approx(np.median(own["ms"]))
    assert (samples["scenario"] == "protocol").sum() == sum(
        row.samples for row in of(found, scenario="protocol")
    )


@pytest.mark.slow
def test_flags_and_reasons_are_printed_with_the_figures(profiled: Path, found: Profile) -> None:
    printed = (profiled / "printed.txt").read_text()
    assert "[quick" in printed
    assert "finds no CUDA GPU here" in printed or of(found, device="cuda")[0].ms
    for ending in ("md", "tex", "csv", "txt"):
        assert "quick" in (profiled / f"profile.{ending}").read_text(encoding="utf-8")
    assert len(pd.read_csv(profiled / "profile.csv")) == len(found.rows)


@pytest.mark.slow
def test_accuracy_stands_beside_speed(found: Profile) -> None:
    for table in tables(found):
        if "max |Δp|" in table.headers:
            drift = table.headers.index("max |Δp|")
            shown = {row[drift] for row in table.rows}
            assert "reference" in shown
            assert any("e−" in each for each in shown)
            assert table.headers[2] in ("Median, ms", "Images/s")
    assert sum("max |Δp|" in table.headers for table in tables(found)) == 2


def test_what_all_rows_share_stands_below_the_table() -> None:
    fast = made(5.0, precision="bf16", compiled=True)
    (latency, *_) = tables(profile_of(made(10.0), fast))
    assert latency.headers[:2] == ("Network", "Variant")
    assert [row[1] for row in latency.rows] == ["fp32, eager", "bf16, compiled"]
    assert latency.notes[-1] == "All rows: cpu, 1 thread, contiguous."
    (latency, *_) = tables(profile_of(made(10.0)))
    assert latency.headers[:2] == ("Network", "Median, ms")
    assert latency.notes[-1] == "All rows: cpu, 1 thread, fp32, contiguous."


@pytest.mark.slow
def test_the_clock_stands_beside_the_machine_and_decides_nothing(profiled: Path, found: Profile) -> None:
    assert found.clocks is not None
    assert (found.clocks.start_mhz is None) == ("start_mhz" in found.clocks.reasons)
    assert "clock" not in json.dumps(asdict(found.machine))
    method = tables(found)[0].notes[1]
    assert "CPU clock" in method
    slower = replace(found, clocks=replace(found.clocks, start_mhz=(1, 1), most_mhz=2))
    assert ranking({"this run": found, "another": slower})
    older = replace(found, clocks=None)
    assert "CPU clock" not in tables(older)[0].notes[1]


@pytest.mark.slow
def test_the_record_renders_again(profiled: Path, found: Profile) -> None:
    loaded = record.load(profiled / "record.json")
    assert loaded.entries[0].card == TINY
    shown = {table.title for table in outputs.tables(loaded)}
    assert {table.title for table in tables(found)} <= shown


@pytest.mark.slow
def test_resuming_measures_nothing_again(counts: Path, profiled: Path) -> None:
    words = (
        "one",
        "--counts",
        counts,
        "--quick",
        "--threads",
        "1",
        "--device",
        "cpu",
        "--scenario",
        "latency",
    )
    kept = json.loads(run("plan", *words, "--json").stdout)
    latency = [each for each in kept if each["scenario"] == "latency"]
    assert [(each["rounds"], each["kept"]) for each in latency] == [(1, 1)], (
        "its network is the same as Tiny's first"
    )
    first, again = (
        [
            row["ms"]
            for row in json.loads(run("profile", *words, "--resume", "--json").stdout)["rows"]
            if row["scenario"] == "latency"
        ]
        for _ in range(2)
    )
    assert first == again
    assert all(first)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(counts: Path, tmp_path: Path) -> None:
    words = ("profile", "one", "--counts", str(counts), "--quick", "--threads", "1")
    # A shell in the background starts its programs deaf to Ctrl-C.
    code = "import signal, sys, cli; signal.signal(signal.SIGINT, signal.default_int_handler); cli.main(sys.argv[1:])"
    running = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", code, *words],
        env={**os.environ, "MELANOMA_ZOO_CACHE": str(tmp_path)}, cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("readings/latency-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    try:
        _, said = running.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGABRT)
        _, said = running.communicate()
    assert running.returncode == 130, said
    assert said.splitlines()[-1] == "Error: stopped; finished readings are kept, and --resume takes them"
    assert "Traceback" not in said


def made(ms: float | None, spread: float = 0.01, **changes: Any) -> Row:
    row = Row(
        system="a", title="A", network="n", scenario="latency", device="cpu", precision="fp32",
        memory_format="contiguous", threads=1, compiled=False, ms=ms, images_per_s=1e3 / ms if ms else None, spread=spread,
    )  # fmt: skip
    return replace(row, **changes)


def profile_of(*rows: Row, **machine: Any) -> Profile:
    return Profile(
        rows=rows, ceilings=(), machine=replace(fingerprint(), **machine), seed=0, rounds=3, quick=False
    )  # fmt: skip


def test_rates_stand_with_the_doubts_of_their_time_and_of_their_ceiling() -> None:
    hot = Ceiling(device="cpu", precision="fp32", threads=1, flags=("quick", "busy", "throttled: power cap"))
    other = replace(hot, threads=2, flags=("quick",))
    rates = {"gflops": 20.0, "compute_share": 0.2, "reasons": {"memory_share": "bytes could not be counted"}}
    found = replace(
        profile_of(made(10.0, flags=("invalid", "busy"), **rates), made(10.0, precision="bf16", **rates)),
        ceilings=(hot, other),
    )
    (limits,) = [table for table in tables(found) if "Doubts" in table.headers]
    assert [row[-3:] for row in limits.rows] == [
        (
            "n/a (bytes could not be counted)",
            "–",
            "invalid; busy; ceiling: busy; ceiling: throttled: power cap",
        ),
        ("n/a (bytes could not be counted)", "–", "–"),
    ]


def test_figures_within_their_spread_share_a_place() -> None:
    rows = [made(30.0), made(10.0), made(10.05), made(11.0, spread=0.2), made(50.0)]
    assert [(place, row.ms) for place, row in places(rows)] == [
        (1, 10.0), (1, 10.05), (1, 11.0), (4, 30.0), (5, 50.0),
    ]  # fmt: skip
    fast = [replace(row, scenario="throughput") for row in rows]
    assert next(row.images_per_s for _, row in places(fast)) == 100.0


def test_rounds_of_one_run_are_shuffled_and_those_of_several_are_not() -> None:
    """What wanders for hours falls on all rows of a run alike, and on another run as on no row of this one."""
    known = {"iqr": 0.01, "between_rounds": 0.02, "spread": 0.2}
    rows = [made(10.0, **known), made(11.0, title="B", **known)]
    assert [place for place, _ in places(rows)] == [1, 2]
    assert [place for place, _ in places(rows, several=True)] == [1, 1]
    alone, several = (
        {"this run": profile_of(*rows)},
        {"this run": profile_of(rows[0]), "old": profile_of(rows[1])},
    )
    assert [each.place for each in ranked(alone)] == [1, 2]
    assert [each.place for each in ranked(several)] == [1, 1]


@pytest.mark.parametrize("scenario", ["latency", "throughput"])
def test_an_unsure_figure_shares_no_place_with_one_that_is_farther_off(scenario: str) -> None:
    """Also where it may be off by more than itself."""
    rows = [
        made(10.0, scenario=scenario, iqr=0.2, between_rounds=0.9, spread=1.5),
        made(18.0, scenario=scenario, iqr=0.02, between_rounds=0.02, spread=0.02),
        made(100.0, scenario=scenario, iqr=0.02, between_rounds=0.02, spread=0.02),
    ]
    assert [place for place, _ in places(rows)] == [1, 1, 3]
    assert [place for place, _ in places(rows, several=True)] == [1, 1, 3]


def test_a_single_round_is_as_unsure_as_the_other_rows_say() -> None:
    rows = [
        made(10.0, iqr=0.01, spread=0.2),
        made(10.5, title="B", iqr=0.01, between_rounds=0.01, spread=0.2),
    ]
    assert [place for place, _ in places(rows)] == [1, 1]


@pytest.mark.parametrize(
    ("rounds", "says"),
    [
        (1, "range / median within one process, or 3% where a sweep chose the batch, which says nothing of"),
        (3, "Spread: how far the time of a repeat that follows at once may lie (95%), by the scatter"),
    ],
)
def test_tables_say_what_their_spread_is(rounds: int, says: str) -> None:
    found = replace(profile_of(made(10.0, sweep={"1": 100.0})), rounds=rounds)
    assert says in " ".join(tables(found)[0].notes)


def test_only_the_same_scenario_and_variant_is_ranked() -> None:
    first, second = made(10.0), made(20.0, title="B")
    alone = made(1.0, precision="bf16")
    failed = made(None, error="ended early")
    (table,) = ranking({"this run": profile_of(first, second, alone, failed)})
    assert [row[2:4] for row in table.rows] == [("1", "A"), ("2", "B")]
    assert ranking({"this run": profile_of(first, alone)}) == []


def test_other_images_and_short_measurements_are_not_ranked_beside() -> None:
    first, second = (profile_of(made(ms, scenario="end-to-end")) for ms in (10.0, 20.0))
    same, other = replace(first, images_sha256="a"), replace(second, images_sha256="b")
    short = replace(other, images_sha256="a", quick=True)
    assert ranked({"this run": same, "old.json": other}) == []
    assert ranked({"this run": same, "old.json": short}) == []
    assert incomparable({"this run": same, "old.json": other, "short.json": short}) == {
        "old.json": "the nearest rows differ in images: a / b",
        "short.json": "the nearest rows differ in length: full / quick",
    }
    beside = {"this run": same, "old.json": replace(other, images_sha256="a")}
    assert [(each.place, each.of, each.figure) for each in ranked(beside)] == [
        (1, "this run", 100.0),
        (2, "old.json", 50.0),
    ]
    assert incomparable(beside) == {}


def test_a_record_that_nothing_is_ranked_of_is_named_with_what_differs() -> None:
    this = profile_of(made(10.0), made(12.0, title="B"))
    low = profile_of(made(5.0, precision="bf16", compiled=True), made(6.0, precision="bf16"))
    table, left = ranking(
        {"this run": this, "low.json": low, "none.json": profile_of(made(None, error="ended"))}
    )
    assert [row[4] for row in table.rows] == ["this run", "this run"]
    assert left.rows == (
        ("low.json", "the nearest rows differ in precision: fp32 / bf16"),
        ("none.json", "none.json holds no figure"),
    )


def test_a_ranking_says_whose_figure_it_is_and_what_makes_it_doubtful() -> None:
    now, before = made(10.0, flags=("quick", "busy")), made(20.0)
    (table,) = ranking({"this run": profile_of(now), "old.json": profile_of(before)})
    assert table.headers[-2:] == ("Of", "ms or images/s")
    assert [row[2:] for row in table.rows] == [
        ("1", "A", "this run", "10.0 [quick; busy]"), ("2", "A", "old.json", "20.0"),
    ]  # fmt: skip


def test_other_machines_are_refused_with_the_fields_that_differ() -> None:
    here, there = profile_of(made(10.0)), profile_of(made(20.0), cpu="Another", torch="1.0")
    with pytest.raises(UsageError, match=r"not ranked; these differ in cpu: .* / Another; torch: .* / 1\.0$"):
        ranking({"this run": here, "old.json": there})
    with pytest.raises(UsageError, match="cpu"):
        repeats([here, there])


@pytest.mark.slow
def test_an_earlier_record_of_another_machine_is_refused_before_anything_is_measured(
    profiled: Path, counts: Path, tmp_path: Path
) -> None:
    content = json.loads((profiled / "record.json").read_bytes())
    content["profile"]["machine"]["cpu"] = "Another"
    (tmp_path / "record.json").write_text(json.dumps(content))
    said = run("profile", "--counts", counts, "--against", tmp_path / "record.json")
    assert said.exit_code == 2
    assert "these differ in cpu: " in said.stderr
    assert "holds no profile" in run("profile", "--counts", counts, "--against", counts).stderr


def test_a_protocol_measured_as_a_whole_stands_beside_its_sum() -> None:
    whole = made(1020.0, scenario="protocol", summed_ms=1000.0)
    summed = made(1000.0, scenario="protocol", summed_ms=1000.0, how="summed", flags=("summed",))
    (table,) = [each for each in tables(profile_of(whole, summed)) if "Whole / sum" in each.headers]
    column = table.headers.index("Whole / sum")
    assert [row[column] for row in table.rows] == ["1.020", "–"]


def test_repeats_name_the_batch_that_each_sweep_chose() -> None:
    swept = [
        profile_of(made(10.0, scenario="throughput", sweep={1: 90.0, 2: 100.0}, batch=batch))
        for batch in (1, 2)
    ]
    assert repeats(swept).rows[0][3:5] == ("100 at batch 1", "100 at batch 2")
    failed = made(None, scenario="throughput", sweep={1: 90.0}, batch=None, error="ended by SIGKILL")
    assert repeats([*swept, profile_of(failed)]).rows[0][5] == "n/a (ended by SIGKILL)"


def test_repeats_lie_within_their_spread_or_are_called_out() -> None:
    steady = [profile_of(made(each, spread=0.03)) for each in (10.0, 10.1, 10.2)]
    table = repeats(steady)
    assert table.title == "Repeats: 1 of 1 figures within the spread of the first run, 1 by the spreads of all runs (E_n up to 1)"  # fmt: skip
    assert table.rows[0][-4:] == ("3.0%", "2.0%", "0.66", "within")
    jumping = [profile_of(made(each, spread=0.03)) for each in (10.0, 10.1, 12.0)]
    table = repeats(jumping)
    assert table.title == "Repeats: 0 of 1 figures within the spread of the first run, 0 by the spreads of all runs (E_n up to 1)"  # fmt: skip
    assert table.rows[0][-5:] == ("12.0", "3.0%", "20.0%", "6.04", "OUTSIDE: run 3")
    failed = [profile_of(made(10.0)), profile_of(made(None, error="ended early"))]
    assert repeats(failed).rows[0][-1] == "n/a (ended early)"


def test_two_runs_are_judged_by_what_both_of_their_spreads_allow() -> None:
    calm, restless = made(100.0, spread=0.03), made(107.0, spread=0.14)
    assert normalised_error(calm, restless) == pytest.approx(7 / ((3**2 + 14.98**2) / 2) ** 0.5)
    assert normalised_error(restless, calm) == normalised_error(calm, restless)
    assert normalised_error(made(100.0, spread=0.0), made(107.0, spread=0.0)) is None
    per_second = (replace(each, scenario="throughput") for each in (calm, restless))
    assert normalised_error(*per_second) == pytest.approx(normalised_error(calm, restless))


def test_repeats_say_whether_the_machine_was_in_the_same_state() -> None:
    """Others on the host took bandwidth of its memory in the second run, and nothing of its processors."""
    one = Ceiling(device="cpu", precision="fp32", threads=1, matmul_flops=96e9, copy_bytes_per_s=20e9)
    both = replace(one, threads=2, matmul_flops=190e9, copy_bytes_per_s=40e9)
    taken = replace(one, copy_bytes_per_s=16e9), replace(both, copy_bytes_per_s=36e9, convolution_flops=1e9)
    runs = [replace(profile_of(made(10.0)), ceilings=each) for each in ((one, both), taken, ())]
    (said,) = [note for note in repeats(runs).notes if note.startswith("Ceilings")]
    assert said.startswith(
        "Ceilings of each run, of run 1's: run 2: matrix product 100%, copy 80% to 90%. Where"
    )
    assert not [note for note in repeats(runs[::-1]).notes if note.startswith("Ceilings")]


def test_a_repeat_is_judged_by_the_spread_of_the_first_run_and_no_other() -> None:
    spreads = (0.03, 0.5, 0.03)
    wide = [profile_of(made(ms, spread=each)) for ms, each in zip((10.0, 11.0, 10.1), spreads, strict=True)]
    assert repeats(wide).rows[0][-2:] == ("0.33", "OUTSIDE: run 2"), (
        "by both spreads it agrees, and that is told too"
    )
    assert repeats([wide[1], wide[0], wide[2]]).rows[0][-1] == "within"


def test_a_repeat_of_a_rate_is_judged_by_its_time() -> None:
    """A spread of 25% is one of the time: from 100 images/s down to 80."""
    first, slower, slowest = (
        profile_of(made(ms, spread=0.25, scenario="throughput")) for ms in (10.0, 12.4, 12.6)
    )
    assert repeats([first, slower]).rows[0][-1] == "within"
    assert repeats([first, slowest]).rows[0][-1] == "OUTSIDE: run 2"


def test_repeats_of_one_round_say_that_they_were_promised_nothing() -> None:
    quick = [replace(profile_of(made(10.0)), rounds=1, quick=True)] * 2
    assert any("says nothing of a repeat" in note for note in repeats(quick).notes)
    assert not any("says nothing of a repeat" in note for note in repeats([profile_of(made(10.0))] * 2).notes)
    said = "95 of 100 repeats that follow at once do on a machine that wanders"
    assert said in repeats([profile_of(made(10.0))] * 2).notes[0]
    assert not any(said in note for note in repeats(quick).notes)


def test_a_plan_lists_every_cell_and_measures_nothing(monkeypatch: pytest.MonkeyPatch, counts: Path) -> None:
    from benchmarks import worker

    monkeypatch.setattr(worker, "running", None)
    words = ("Tiny", "--counts", counts, "--precision", "fp32,tf32", "--device", "cpu", "--threads", "1,2",
             "--scenario", "latency,throughput")  # fmt: skip
    listed = json.loads(run("plan", *words, "--json").stdout)
    scenarios = [each["scenario"] for each in listed]
    variants = 2 * 2
    assert [scenarios.count(each) for each in ("ceilings", "latency", "throughput", "protocol")] == [
        variants, 2 * variants, 2 * variants, variants,
    ]  # fmt: skip
    assert {each["batch"] for each in listed if each["scenario"] == "throughput"} == {None}
    assert {each["refused"] for each in listed} == {"", "TF32 is a mode of CUDA GPUs"}
    possible = [each for each in listed if not each["refused"]]
    assert all(each["seconds"] > 5 and each["memory"] > 1e8 for each in possible)
    assert all(each["seconds"] > 30 for each in possible if each["scenario"] != "ceilings")
    assert all(each["seconds"] == 0 for each in listed if each["refused"])
    shown = run("profile", *words, "--dry-run")
    assert shown.exit_code == 0
    assert "Plan: 20 rows, about" in shown.stdout, "as many as the profile has: ceilings are no rows of it"


def test_an_engine_that_is_not_installed_costs_a_plan_no_time(
    counts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import engines

    monkeypatch.setitem(engines._PACKAGES, "openvino", ("no-such-package",))
    words = (
        "plan",
        "one",
        "--counts",
        counts,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--engine",
        "torch,openvino",
    )
    listed = json.loads(run(*words, "--json").stdout)
    (absent,) = [each for each in listed if each["scenario"] == "latency" and each["refused"]]
    assert absent["variant"]["engine"] == "openvino"
    assert absent["refused"] == "engine openvino is not installed; pip install 'melanoma-zoo[openvino]'"
    assert [each["variant"]["engine"] for each in listed if each["seconds"] > 0 and each["scenario"] == "latency"] == ["torch"]  # fmt: skip


def test_a_plan_holds_the_energy_of_processors_where_it_can_be_read(
    counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import rapl

    def seconds() -> list[float]:
        words = ("plan", "one", "--counts", counts, "--device", "cpu", "--threads", "1", "--json")
        return [each["seconds"] for each in json.loads(run(*words).stdout) if each["scenario"] == "latency"]

    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    (without,) = seconds()
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("0")
    (package / "max_energy_range_uj").write_text("9")
    (with_energy,) = seconds()
    # 30 s of passes, 5 s of idle power before and after them, and a pause of 1 s before each of these.
    assert with_energy == pytest.approx(without + 42)


@pytest.mark.parametrize("command", [("plan",), ("profile", "--dry-run")])
def test_a_plan_of_several_runs_is_of_all_of_them(
    counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path))
    words = (*command, "one", "--counts", counts, "--device", "cpu", "--threads", "1")
    once, thrice = (json.loads(run(*words, "--repeat", repeat, "--json").stdout) for repeat in ("1", "3"))
    assert [each["rounds"] for each in thrice] == [3 * each["rounds"] for each in once]
    assert [each["seconds"] for each in thrice] == pytest.approx([3 * each["seconds"] for each in once])
    shown = run(*words, "--repeat", "3").stdout
    minutes = sum(each["seconds"] for each in thrice) / 60
    assert f"Plan: {len(once) - 1} rows in each of 3 runs, about {minutes:,.0f} min" in shown
    assert "3 × 3 runs" in shown


def test_a_plan_makes_no_images(counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELANOMA_ZOO_CACHE", str(tmp_path))
    words = (
        "one",
        "--counts",
        counts,
        "--device",
        "cpu",
        "--scenario",
        "end-to-end",
        "--precision",
        "fp32,bf16",
    )
    for command in (("plan",), ("profile", "--dry-run")):
        shown = run(*command, *words)
        assert shown.exit_code == 0, shown.output
        assert "end-to-end" in shown.stdout
        assert not list(tmp_path.rglob("*"))
    assert pixels.made_up(tmp_path, 0, made=False) == pixels.made_up(tmp_path, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threads", "0"), "'0' is not one of all,N"),
        (("--threads", "99999"), "--threads 99999: this process may use"),
        (("--scenario", "speed"), "'speed' is not one of latency,throughput,end-to-end"),
        (("--precision", "fp32,fp8"), "'fp8' is not one of fp32,tf32,bf16,fp16"),
        (("tiny", "--member", "third"), "tiny has no member 'third'; its members are: 0 first, 1 second"),
        (("nobody",), "no system is called 'nobody'; the record has tiny, one"),
    ],
)
def test_wrong_words_are_one_line(counts: Path, words: tuple[str, ...], said: str) -> None:
    done = run("plan", "--counts", counts, *words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_wrong_words_leave_the_verdicts_of_earlier_repeats(counts: Path, tmp_path: Path) -> None:
    kept = tmp_path / "repeats.md"
    kept.write_text("of earlier runs")
    done = run("profile", "--counts", counts, "tiny", "--member", "third", "--output", tmp_path)
    assert done.exit_code == 2
    assert kept.read_text() == "of earlier runs"


def test_a_member_alone_and_no_folder_of_images(counts: Path, tmp_path: Path) -> None:
    tiny = base.only(base.read(counts), ["TINY"])
    chosen = base.targets(tiny, member="second")
    assert [network.member["name"] for network in chosen[0].networks] == ["second"]
    assert not chosen[0].whole
    assert base.targets(tiny, member="0")[0].networks[0].member["size"] == 32
    with pytest.raises(UsageError, match="--member is for one system, not 8"):
        base.targets(base.read(), member="0")
    with pytest.raises(InputError, match=r"holds no \.jpg or \.png file"):
        pixels.images_in(tmp_path)
    with pytest.raises(UnknownNameError):
        base.only(base.read(), ["nobody"])
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="is not a record with cards and counts"):
        base.read(tmp_path / "a.json")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry["members"][0].pop("operations"),
        lambda entry: entry["members"].pop(),
        lambda entry: entry["card"].pop("folds"),
        lambda entry: entry["card"]["members"][0].pop("size"),
        lambda entry: entry.update(card=None),
    ],
)
def test_a_record_that_lacks_something_is_one_line(counts: Path, tmp_path: Path, spoil: Any) -> None:
    content = json.loads(counts.read_bytes())
    spoil(content["entries"][0])
    (tmp_path / "record.json").write_text(json.dumps(content))
    done = run("plan", "--counts", tmp_path / "record.json")
    assert done.exit_code == 3
    assert "is not a record with cards and counts" in done.stderr


def with_others(counts: Path, folder: Path) -> Path:
    """The record with a system of scores alone, and one that could not be counted."""
    content = json.loads(counts.read_bytes())
    one = next(entry for entry in content["entries"] if entry["card"]["name"] == "one")
    for name, members in (("csv:a.csv", []), ("broken", one["card"]["members"])):
        card = {**one["card"], "name": name, "members": members}
        content["entries"].append({**one, "card": card, "members": []})
    content["missing"] = {"broken": "cannot be counted: net: no width"}
    (folder / "record.json").write_text(json.dumps(content))
    return folder / "record.json"


@pytest.mark.parametrize(
    "words", [("profile", "--dry-run"), ("plan",), ("plan", "--images", "100")], ids=" ".join
)
def test_a_system_that_cannot_be_run_is_named_and_the_others_are(
    counts: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    given = (*words, "--counts", with_others(counts, tmp_path), "--device", "cpu", "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines() == [
        "left out: csv:a.csv: it has no network",
        "left out: broken: cannot be counted: net: no width",
    ]
    assert "tiny" in done.stdout.lower()
    assert "csv:a.csv" not in done.stdout
    alone = run(*given, "broken")
    assert alone.exit_code == 2
    assert alone.stderr.splitlines() == [
        "Error: no network to run: broken: cannot be counted: net: no width"
    ], "once"


@pytest.mark.parametrize("words", [("profile",), ("profile", "--scenario", "throughput"), ("plan",)], ids=" ".join)  # fmt: skip
def test_scores_alone_cannot_be_profiled(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "a.csv").write_text("image_name,target\nI_1,0.5\nI_2,0.25\n")
    done = run(*words, f"csv:{tmp_path / 'a.csv'}", "--quick")
    assert done.exit_code == 2, done.output
    assert "Error: no network to run: csv:" in done.stderr


def test_an_image_that_cannot_be_read_is_told_before_anything_is_measured(
    counts: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    done = run("profile", "one", "--counts", counts, "--images", tmp_path, "--quick")
    assert done.exit_code == 3
    assert "a.jpg: neither a JPEG nor a PNG image" in done.stderr
    assert "take it out of the folder" in done.stderr


@pytest.mark.slow
def test_what_was_measured_is_shown_even_where_it_cannot_be_written(
    counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports import profiling

    def full(*_: object) -> None:
        raise MachineError("record.json: cannot be written: No space left on device")

    monkeypatch.setattr(profiling, "write_all", full)
    words = ("one", "--counts", counts, "--quick", "--threads", "1", "--output", tmp_path)
    done = run("profile", *words)
    assert done.exit_code == 4
    assert "Latency: one image at a time" in done.stdout
    assert "No space left on device" in done.stderr


def given_runs(monkeypatch: pytest.MonkeyPatch, *profiles: Profile) -> None:
    """Lets `profile` find these, one after another, and measure nothing."""
    told = iter(profiles)
    monkeypatch.setattr(profiling, "run", lambda *_, **__: (next(told), []))


WORDS = ("profile", "one", "--device", "cpu", "--threads", "1")


def test_the_verdict_on_repeats_stands_in_files_and_in_json(
    counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [profile_of(made(ms, spread=0.03), made(5.0, title="B")) for ms in (10.0, 10.1, 12.0)]
    given_runs(monkeypatch, *runs)
    done = run(*WORDS, "--counts", counts, "--repeat", "3", "--output", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [[row["ms"] for row in each["rows"]] for each in told["runs"]] == [[10.0, 5.0], [10.1, 5.0], [12.0, 5.0]]  # fmt: skip
    first, second = told["repeats"]
    assert first["figures"] == [10.0, 10.1, 12.0]
    assert (first["outside"], first["error"]) == ([3], "")
    assert first["normalised_error"] == pytest.approx(2 / (0.03 * (10.0**2 + 12.0**2) ** 0.5 / 2**0.5))
    assert first["farthest"] == pytest.approx(0.2)
    assert (second["outside"], second["spread"]) == ([], 0.01)
    assert [(each["place"], each["title"]) for each in told["ranking"]] == [(1, "B"), (2, "A")]
    assert {path.name for path in tmp_path.iterdir()} == {
        "run-1", "run-2", "run-3", "repeats.csv", "repeats.md", "repeats.tex", "repeats.txt",
    }  # fmt: skip
    for ending in ("md", "tex", "txt"):
        text = (tmp_path / f"repeats.{ending}").read_text(encoding="utf-8")
        assert "Repeats: 1 of 2 figures within the spread of the first run, 1 by the spreads" in " ".join(
            text.split()
        )
        assert "OUTSIDE: run 3" in text
    lines = pd.read_csv(tmp_path / "repeats.csv")
    assert lines[["run_1", "run_2", "run_3", "spread", "verdict"]].to_numpy().tolist() == [
        [10.0, 10.1, 12.0, 0.03, "OUTSIDE: run 3"],
        [5.0, 5.0, 5.0, 0.01, "within"],
    ]
    assert str(tmp_path / "repeats.md") in done.stderr
    given_runs(monkeypatch, runs[0])
    assert run(*WORDS, "--counts", counts, "--output", tmp_path).exit_code == 0
    assert not list(tmp_path.glob("repeats.*")), "they judge other runs than the one that lies there now"


def test_a_ranking_beside_an_earlier_record_stands_in_files_and_in_json(
    counts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, low = profile_of(made(20.0, title="B")), profile_of(made(5.0, precision="bf16"))
    given_runs(monkeypatch, before, low, profile_of(made(10.0)))
    for name in ("before", "low"):
        assert run(*WORDS, "--counts", counts, "--output", tmp_path / name).exit_code == 0
    paths = [str(tmp_path / name / "record.json") for name in ("before", "low")]
    against = [word for path in paths for word in ("--against", path)]
    done = run(*WORDS, "--counts", counts, *against, "--output", tmp_path / "now", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["rows"][0]["ms"] == 10.0
    assert [(each["place"], each["of"], each["figure"]) for each in told["ranking"]] == [
        (1, "this run", 10.0), (2, paths[0], 20.0),
    ]  # fmt: skip
    assert told["not_ranked"] == {paths[1]: "the nearest rows differ in precision: fp32 / bf16"}
    for ending in ("md", "txt"):
        text = (tmp_path / "now" / f"profile.{ending}").read_text(encoding="utf-8")
        assert "From fast to slow" in text
        assert "the nearest rows differ in precision: fp32 / bf16" in text
        assert "From fast to slow" not in (tmp_path / "before" / f"profile.{ending}").read_text(
            encoding="utf-8"
        )


def test_how_long_all_of_it_takes_is_said_before_it_begins(
    counts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_runs(monkeypatch, *[profile_of(made(10.0))] * 4)
    words = (*WORDS, "--counts", counts, "--repeat", "2")
    shown = run("plan", *words[1:]).stdout.splitlines()[0]
    said = run(*words).stderr.splitlines()
    assert said[0] == shown.removeprefix("Plan: ")
    assert "rows in each of 2 runs, about" in said[0]
    assert "rows" not in run(*words, "--quick").stderr, "what is over at once needs no word"


def test_a_figure_that_is_no_number_is_never_written(counts: Path, tmp_path: Path) -> None:
    wrong = profile_of(made(10.0, drift=float("nan")))
    with pytest.raises(ValueError, match="JSON compliant"):
        profiling.write_all(base.read(counts), wrong, [], tmp_path)
    assert not list(tmp_path.iterdir())
    why = "outputs are no numbers (NaN or infinite) in cpu, 1 thread, fp16, contiguous"
    row = made(10.0, precision="fp16", flags=(figures.NO_NUMBERS,), reasons={"drift": why})
    profiling.write_all(base.read(counts), profile_of(row), [], tmp_path)
    loaded = record.load(tmp_path / "record.json").profile
    assert loaded is not None
    (latency, *_) = tables(loaded)
    assert latency.rows[0][1] == "10.0 [outputs are no numbers]"
    assert latency.rows[0][-1] == f"n/a ({why})"


def test_a_builder_that_no_other_process_can_import_is_told_before() -> None:
    entries = {"entries": [{"card": {"name": "a", "members": [{}]}, "members": [{}]}]}
    with pytest.raises(UsageError, match="put it into a module of its own"):
        base.targets(entries, builder=lambda _: None)


@pytest.mark.slow
def test_the_counts_for_machines_without_this_project_are_current() -> None:
    from reports.cards import in_order

    current = base.counted(in_order([zoo.card(name) for name in zoo.systems()]))
    stored = base.read()

    def measured(each: dict[str, Any]) -> Any:
        return json.loads(json.dumps([base.targets(each), [e["members"] for e in each["entries"]]], default=msgspec.to_builtins))  # fmt: skip

    assert measured(stored) == measured(current), "run: python -m reports.base"
    assert record.decode(base.COUNTS.read_bytes(), "counts").entries


def test_lines_pair_every_network_with_every_variant() -> None:
    networks = tuple(Network(member={"name": name, "classes": []}, macs=1, weight_bytes=1) for name in "ab")
    target = Target(name="t", title="T", networks=networks)
    found = lines(
        [target], Options(scenarios=("latency", "end-to-end"), images=("x",), reader="m:f", rules=QUICK)
    )
    assert [(line.cell.kind, line.row.title) for line in found] == [
        ("latency", "T: a"), ("latency", "T: b"), ("end-to-end", "T: a"), ("end-to-end", "T: b"),
    ]  # fmt: skip
    assert [line.cell.images for line in found] == [(), (), ("x",), ("x",)]
    assert [line.cell.batch for line in found] == [1, 1, 8, 8]
    full = lines([target], Options(scenarios=("latency", "throughput", "end-to-end")))
    assert [line.cell.rules.samples for line in full] == [662, 662, 64, 64, 64, 64]


READER = """
import numpy as np

def read(path, member):
    value = int(open(path, "rb").read())
    return np.full((3, member.size, member.size), value / 255, dtype=np.float32)
"""


@pytest.mark.slow
def test_end_to_end_reads_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.cells import HOMES, Cell, Variant
    from benchmarks.worker import running

    (tmp_path / "plain_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(tmp_path)
    images = [tmp_path / f"{index}.jpg" for index in range(3)]
    for index, path in enumerate(images):
        path.write_text(str(index))
    cell = Cell(
        kind="end-to-end", members=(msgspec.to_builtins(TINY.members[0]),), variant=Variant(), batch=4,
        images=tuple(map(str, images)), reader="plain_reader:read", rules=QUICK,
    )  # fmt: skip
    with running(1) as ask:
        reading = ask(HOMES["end-to-end"], cell.fields(), copy=True)["result"]
        images[1].unlink()
        broken = ask(HOMES["end-to-end"], cell.fields(), copy=True)
        drifted = ask(HOMES["drift"], replace(cell, images=cell.images[:1], variant=Variant(precision="bf16")).fields(), copy=True)  # fmt: skip
    assert (reading["batch"], reading["images"]) == (4, 4)
    assert len(reading["samples_ms"]) >= 3
    assert broken["error"].startswith("FileNotFoundError")
    assert (drifted["result"]["images"], drifted["result"]["files"]) == (1, True)


SLOW_READER = """
import time
import numpy as np

def read(path, member):
    time.sleep(float(open(path).read()))
    return np.zeros((3, member.size, member.size), dtype=np.float32)
"""


@pytest.mark.slow
def test_what_was_read_ahead_is_no_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of three are there at once, and the third waits for a fifth of a second."""
    from benchmarks.cells import HOMES, Cell
    from benchmarks.figures import timed
    from benchmarks.worker import running

    (tmp_path / "slow_reader.py").write_text(SLOW_READER)
    monkeypatch.syspath_prepend(tmp_path)
    images = [tmp_path / f"{index:02}.jpg" for index in range(12)]
    for index, path in enumerate(images):
        path.write_text("0.05" if index < 4 else "0")
    cell = Cell(
        kind="end-to-end", members=(msgspec.to_builtins(TINY.members[0]),), variant=Variant(), batch=4,
        images=tuple(map(str, images)), reader="slow_reader:read", rules=replace(QUICK, seconds=2.0),
    )  # fmt: skip
    with running(1) as ask:
        answer = ask(HOMES["end-to-end"], cell.fields(), copy=True)
    row = timed(made(None), cell, [answer])
    # No machine passes twelve images in less than 0.2 s; the ends of the run may hide a few of them.
    assert row.images_per_s is not None
    assert row.images_per_s < 1.3 * 12 / 0.2


def test_images_are_read_as_cards_say(tmp_path: Path) -> None:
    pytest.importorskip("evaluate.images", reason="needs the decoding of evaluate")
    member = zoo.card("baseline_b3").member()
    paths = pixels.made_up(tmp_path, seed=0)
    assert pixels.images_in(tmp_path) == paths
    assert pixels.digest(paths) == pixels.digest(paths) != pixels.digest(paths[1:])
    found = pixels.read(paths[0], member)
    assert found.shape == (3, member.size, member.size)
    assert abs(float(found.mean())) < 2


def seen(**changes: Any) -> dict[str, Any]:
    usual = {
        "uuid": "GPU-12", "index": 1, "power_limit_w": 350.0, "persistence": False, "compute_mode": "default",
        "clock_mhz": [900, 1500], "temperature_c": 61, "slowed": "0x4", "throttled": ["power cap"], "shared": False,
    }  # fmt: skip
    return {**usual, "reasons": {}, **changes}


def test_a_gpu_is_told_with_its_settings_and_what_is_missing() -> None:
    def shown(**changes: Any) -> Any:
        row = made(10.0, device="cuda", gpu=seen(**changes))
        return next(each for each in tables(profile_of(row)) if "SM clock, MHz" in each.headers)

    table = shown()
    assert table.rows[0][-3:] == ("900–1500", "61", "power cap")
    assert table.notes[0] == "GPU 1 (GPU-12), power limit 350 W, persistence mode off, compute mode default."
    assert shown(throttled=[]).rows[0][-1] == "nothing"
    table = shown(temperature_c=None, index=None, reasons={"temperature_c": "error 3"})
    assert table.rows[0][-3:] == ("900–1500", "n/a", "power cap")
    assert table.notes[:2] == (
        "GPU GPU-12, power limit 350 W, persistence mode off, compute mode default.", "n/a: temperature_c: error 3.",
    )  # fmt: skip
    row = made(10.0, device="cuda", gpu={"reason": "no driver"})
    (table,) = [each for each in tables(profile_of(row)) if "SM clock, MHz" in each.headers]
    assert set(table.rows[0][-3:]) == {"n/a (no driver)"}


def test_energy_stands_with_what_makes_it_doubtful() -> None:
    doubtful = made(10.0, joules=2.0, joules_unsure=0.3, energy_flags=("busy",))
    older, none = made(10.0, joules=1.5), made(10.0, reasons={"joules": "no counter"})
    (table,) = [
        each for each in tables(profile_of(doubtful, older, none)) if "Energy, J/image" in each.headers
    ]
    column = table.headers.index("Energy, J/image")
    assert [row[column] for row in table.rows] == ["2.00 ±0.30 [busy]", "1.50", "n/a"]


def test_gpus_of_other_models_are_not_ranked_together() -> None:
    fast, slow, same = (
        made(ms, title=name, settings={"GPU": name[0]}) for ms, name in ((1.0, "A"), (2.0, "B"), (3.0, "A2"))
    )
    (table,) = ranking({"this run": profile_of(fast, slow, same)})
    assert [row[2:4] for row in table.rows] == [("1", "A"), ("2", "A2")]


@pytest.mark.parametrize("name", ["cuDNN", "CPU capability", "allocator"])
def test_rows_of_other_settings_are_not_ranked_together(name: str) -> None:
    one, other, same = (
        made(ms, title=title, settings={name: value})
        for ms, title, value in ((1.0, "A", "x"), (2.0, "B", "y"), (3.0, "C", "x"))
    )
    (table,) = ranking({"this run": profile_of(one, other, same)})
    assert [row[2:4] for row in table.rows] == [("1", "A"), ("2", "C")]


def test_rates_are_ranked_beside_those_of_the_same_batch_asked_for() -> None:
    def both(scenario: str, *asked: int | None) -> dict[str, Profile]:
        rows = (made(10.0, scenario=scenario, batch=8, batch_asked=each) for each in asked)
        return {str(place): profile_of(row) for place, row in enumerate(rows)}

    assert ranked(both("throughput", None, 8)) == []
    assert ranked(both("throughput", 8, 16)) == []
    assert len(ranked(both("throughput", 8, 8))) == 2
    assert len(ranked(both("throughput", None, None))) == 2
    assert len(ranked(both("latency", None, 1))) == 2


def test_a_protocol_that_was_summed_is_ranked_beside_one_that_was_measured() -> None:
    settings = {"allocator": "default"}
    part = made(10.0, settings=settings)
    total = figures.summed(made(None, scenario="protocol"), [part, part], passes=8)
    whole = made(150.0, title="B", scenario="protocol", settings=settings)
    (table,) = ranking({"this run": profile_of(total, whole)})
    assert [row[2:4] for row in table.rows] == [("1", "B"), ("2", "A")]
