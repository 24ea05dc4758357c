"""In which order a profile is taken, and which protocols it measures as a whole: without measuring."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest

from benchmarks import profile as profiling
from benchmarks import sweep
from benchmarks.cells import Cell, Variant
from benchmarks.lines import Network, Options, Target
from benchmarks.profile import fits, profile
from benchmarks.results import Row
from benchmarks.timing import FULL, QUICK, Rules

PASS_MS = {"fast": 10.0, "other": 20.0, "slow": 600.0}


class Taker:
    """Answers as a worker would, by the made-up speed of a network, and keeps the order."""

    joules = 0.0
    resumes = False

    def __init__(self, **failing: str) -> None:
        self.order: list[tuple[int, str, str]] = []
        self._answers: dict[str, dict[str, Any]] = {}
        self._failing = failing

    def name(self, cell: Cell, turn: int = 0) -> str:
        return f"{cell.kind}/{cell.members}/{cell.variant}/{cell.batch}/{turn}"

    def refusal(self, cell: Cell) -> str:
        return cell.variant.impossible

    def give_up(self, cell: Cell, answer: dict[str, Any]) -> None: ...

    def keep(self, cell: Cell, reading: dict[str, Any]) -> None: ...

    def take(self, cell: Cell, turn: int = 0) -> dict[str, Any]:
        name = self.name(cell, turn)
        if name not in self._answers:
            whose = "+".join(member["name"] for member in cell.members)
            self.order.append((turn, cell.kind, whose))
            self._answers[name] = self._new(cell, turn)
        return self._answers[name]

    def _new(self, cell: Cell, turn: int) -> dict[str, Any]:
        if cell.kind in self._failing:
            return {"error": self._failing[cell.kind]}
        if cell.kind == "energy" and self.joules:
            usual = {"unsure": 0.0, "idle_before_w": 1.0, "idle_after_w": 1.0, "others": None, "gpu": {}}
            return {"result": {**usual, "joules": self.joules}}
        if cell.kind not in ("latency", "protocol", "throughput", "sweep"):
            return {"error": "not asked here"}
        passes = cell.folds * cell.views
        ms = passes * sum(PASS_MS[member["name"]] for member in cell.members) + turn / 100
        reading = {
            "samples_ms": [ms] * 3, "device_ms": [], "images": cell.batch, "batch": cell.batch, "peak_rss": 1, "load_ms": 1.0, "first_ms": 1.0,
            "settled": True, "others": None, "gpu": {}, "settings": {},
        }  # fmt: skip
        return {"result": reading}


def target(name: str, *networks: str, weight_bytes: int = 1, **changes: Any) -> Target:
    made = tuple(
        Network(
            member={"name": each, "size": 8, "classes": [], "backbone": each},
            macs=1,
            weight_bytes=weight_bytes,
        )
        for each in networks
    )
    return Target(name=name, title=name, networks=made, **{"folds": 5, "views": 8, **changes})


SHORT, PAIR, LONG = target("short", "fast"), target("pair", "fast", "other"), target("long", "slow")


def profiled(
    taker: Taker, *targets: Target, rules: Rules = FULL, **asked: Any
) -> tuple[list[Row], list[dict[str, Any]]]:
    rows, _, samples = profile(targets, Options(rules=rules, **asked), taker)  # type: ignore[arg-type]
    return rows, samples


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "available_memory", lambda: 10**9)


def test_whole_protocols_are_timed_among_the_rows_that_they_are_compared_with() -> None:
    taker = Taker()
    profiled(taker, SHORT, PAIR, LONG)
    timed = [each for each in taker.order if each[1] in ("latency", "protocol")]
    rows = {("latency", name) for name in ("fast", "other", "slow")}
    wholes = {("protocol", "fast"), ("protocol", "fast+other")}
    assert [turn for turn, *_ in timed] == [0] * 5 + [1] * 5 + [2] * 5
    in_rounds = [[(kind, whose) for turn, kind, whose in timed if turn == each] for each in range(3)]
    assert all(set(each) == rows | wholes for each in in_rounds)
    assert set(in_rounds[0][3:]) == wholes, "in the first round they wait for the latencies"
    assert any(set(each[3:]) != wholes for each in in_rounds[1:]), "in the others they lie anywhere"
    assert len({tuple(each) for each in in_rounds}) == 3
    others = [each for each in taker.order if each not in timed]
    assert taker.order.index(timed[-1]) < taker.order.index(next(e for e in others if e[1] == "memory"))


def test_sweeps_go_through_their_batches_in_turn() -> None:
    """A slow minute then falls on one turn of each, and the best of three is of another."""
    taker = Taker()
    profiled(taker, SHORT, target("other", "other"), scenarios=("throughput",))
    swept = [(turn, whose) for turn, kind, whose in taker.order if kind == "sweep"]
    runs = [run for run, _ in groupby(swept)]
    assert [turn for turn, _ in runs] == [0, 0, 1, 1, 2, 2]
    assert set(runs) == {(turn, whose) for turn in range(3) for whose in ("fast", "other")}


def test_a_protocol_is_measured_where_it_is_short_and_summed_otherwise() -> None:
    taker = Taker()
    rows, samples = profiled(taker, SHORT, PAIR, LONG)
    short, pair, long = (row for row in rows if row.scenario == "protocol")
    assert (short.how, short.ms, short.summed_ms) == ("measured", 400.01, pytest.approx(400.4))
    assert (pair.how, pair.summed_ms) == ("measured", pytest.approx(400.4 + 800.4))
    assert (long.how, long.ms, long.summed_ms, long.flags) == (
        "summed",
        long.summed_ms,
        pytest.approx(24_000.4),
        ("summed",),
    )
    assert (short.rounds, short.samples) == (3, 9)
    kept = [(each["system"], each["round"]) for each in samples if each["scenario"] == "protocol"]
    assert sorted(set(kept)) == [(name, turn) for name in ("pair", "short") for turn in range(3)]
    assert not any(kind == "protocol" and whose == "slow" for _, kind, whose in taker.order)


def test_a_quick_run_measures_wholes_in_its_only_round() -> None:
    rows, _ = profiled(Taker(), SHORT, LONG, rules=QUICK, whole_s=2.0)
    assert [row.how for row in rows if row.scenario == "protocol"] == ["measured", "summed"]


@pytest.mark.parametrize(("rules", "flags"), [(QUICK, ("quick",)), (FULL, ())])
def test_the_energy_of_a_quick_run_is_marked_as_its_time_is(rules: Rules, flags: tuple[str, ...]) -> None:
    taker = Taker()
    taker.joules = 2.0
    row = profiled(taker, SHORT, rules=rules)[0][0]
    assert (row.joules, row.energy_flags, row.flags) == (2.0, flags, flags)


def test_a_protocol_whose_networks_fill_the_memory_is_summed() -> None:
    large = target("large", "fast", weight_bytes=10**9 // 10)
    (line,) = (profiling.protocol_line(each, Variant(), Options()) for each in [large])
    assert not fits(line, 0.4, Options())
    assert fits(replace(line, target=replace(large, folds=4)), 0.4, Options())
    assert fits(profiling.protocol_line(SHORT, Variant(), Options()), 20.0, Options())
    assert not fits(profiling.protocol_line(SHORT, Variant(), Options()), 20.1, Options())
    on_a_gpu = profiling.protocol_line(large, Variant(device="cuda"), Options())
    assert fits(on_a_gpu, 0.4, Options()), "whose memory is not that of the machine"
    assert not fits(on_a_gpu, 20.1, Options())
    (row,) = (row for row in profiled(Taker(), large)[0] if row.scenario == "protocol")
    assert (row.how, row.flags) == ("summed", ("summed",))


def test_a_protocol_without_a_latency_is_told_why_and_not_measured() -> None:
    taker = Taker(latency="ended by SIGSEGV")
    rows, _ = profiled(taker, SHORT)
    (row,) = (row for row in rows if row.scenario == "protocol")
    assert (row.how, row.ms, row.error) == ("summed", None, "ended by SIGSEGV")
    assert not any(kind == "protocol" for _, kind, _ in taker.order)
    assert profiled(Taker(), SHORT, scenarios=("throughput",), batch=1)[0][-1].scenario == "throughput"


def test_a_whole_that_fails_is_the_sum_of_its_parts() -> None:
    rows, _ = profiled(Taker(protocol="ended by SIGKILL"), SHORT)
    (row,) = (row for row in rows if row.scenario == "protocol")
    assert (row.how, row.ms, row.flags) == (
        "summed",
        pytest.approx(400.4),
        ("summed", "as a whole: ended by SIGKILL"),
    )
