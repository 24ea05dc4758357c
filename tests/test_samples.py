"""From samples to figures: known answers, and every flag by a made condition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.cells import Cell, Variant
from benchmarks.figures import (
    ceiling,
    pass_ms,
    per_pass,
    scatter,
    summed,
    timed,
    whole,
    with_drift,
    with_energy,
    with_memory,
    with_roofline,
)
from benchmarks.results import Ceiling, Row
from benchmarks.roofline import roofline
from benchmarks.samples import Scatter, flags, pooled, student, summarise
from benchmarks.timing import FULL, QUICK
from reports.repeats import normalised_error, repeated

CELL = Cell(kind="latency", variant=Variant(), rules=FULL)
ROW = Row(
    system="a", title="A", network="n", scenario="latency", device="cpu", precision="fp32",
    memory_format="contiguous", threads=1, compiled=False,
)  # fmt: skip


def reading(samples: list[float], **changes: object) -> dict[str, dict[str, object]]:
    made = {
        "samples_ms": samples, "device_ms": [], "images": 1, "batch": 1, "load_ms": 100.0, "first_ms": 50.0,
        "settled": True, "others": 0.0, "gpu": {}, "settings": {"threads": "1"},
    }  # fmt: skip
    return {"result": {**made, **changes}}


def test_figures_of_a_known_sample() -> None:
    found = summarise([[float(each) for each in range(1, 1001)]])
    assert found.typical == 500.5
    assert found.p90 == pytest.approx(900.1)
    assert found.p99 == pytest.approx(990.01)
    assert found.iqr == pytest.approx(499.5 / 500.5)
    assert (found.samples, found.scatter) == (1000, Scatter())


@pytest.mark.parametrize(
    ("samples", "p90", "p99"), [(63, False, False), (64, True, False), (661, True, False), (662, True, True)]
)
def test_a_percentile_needs_its_samples(samples: int, p90: bool, p99: bool) -> None:
    found = summarise([[1.0] * samples])
    assert (found.p90 is not None, found.p99 is not None) == (p90, p99)


@given(st.lists(st.lists(st.floats(1, 1000), min_size=1, max_size=30), min_size=1, max_size=4))
def test_figures_are_those_of_all_rounds_together(rounds: list[list[float]]) -> None:
    found = summarise(rounds)
    every = np.concatenate(rounds)
    assert found.typical == pytest.approx(np.median(every))
    low, high = np.quantile(every, [0.25, 0.75])
    assert found.iqr == pytest.approx((high - low) / np.median(every))
    medians = [np.median(each) for each in rounds]
    if len(rounds) == 1:
        assert (found.scatter, found.scatter.of_means, found.scatter.of_repeats) == (Scatter(), 0.0, 0.0)
        return
    freedom = len(rounds) - 1
    assert found.scatter.freedom == freedom
    # Half the intervals of a difference of two means, and of two rounds, by the standard library of statistics.
    limit = stats.t.ppf(0.975, df=freedom) * np.std(medians, ddof=1) * np.sqrt(2) / np.median(every)
    assert found.scatter.of_repeats == pytest.approx(limit, rel=1e-3, abs=1e-12)
    assert found.scatter.of_means == pytest.approx(limit / np.sqrt(len(rounds)), rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("freedom", [*range(1, 40), 100, 1000])
def test_the_quantile_is_that_of_the_library(freedom: int) -> None:
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, df=freedom), rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=6))
def test_scatter_of_several_rows_weighs_each_by_what_it_knows(rows: list[tuple[float, int]]) -> None:
    found = pooled([Scatter(*each) for each in rows])
    assert found.freedom == sum(freedom for _, freedom in rows)
    if found.freedom:
        mean = np.average([deviation**2 for deviation, _ in rows], weights=[freedom for _, freedom in rows])
        assert found.deviation == pytest.approx(np.sqrt(mean), abs=1e-9)


def test_end_to_end_is_all_images_by_all_of_the_time() -> None:
    """Steps of a pipeline that works ahead: most are short, since what they need is ready."""
    cell = Cell(kind="end-to-end", batch=8, images=("a",) * 32, variant=Variant(), rules=FULL)
    rounds = [[2.0, 2.0, 2.0, each] for each in (10.0, 12.0, 14.0)]
    row = timed(ROW, cell, [reading(each, batch=8, images=8, device_ms=each) for each in rounds])
    assert row.images_per_s == pytest.approx(1e3 * 8 * 12 / sum(map(sum, rounds)))
    assert row.ms == row.device_ms == pytest.approx(4.5)
    scale = stats.t.ppf(0.975, df=2) * np.sqrt(2 / 3)
    assert row.between_rounds == pytest.approx(scale * np.std([4.0, 4.5, 5.0], ddof=1) / 4.5, rel=1e-3)
    assert pass_ms(cell, reading(rounds[0], batch=8, images=8)["result"]) == 4.0
    throughput = replace(cell, kind="throughput")
    assert pass_ms(throughput, reading(rounds[0], batch=8, images=8)["result"]) == 2.0
    assert timed(ROW, throughput, [reading(rounds[0], batch=8, images=8)]).ms == 2.0


def test_what_differs_between_the_files_of_a_cycle_is_no_noise() -> None:
    """Four batches of unlike files, over and over: each cycle takes as long as any other."""
    cell = Cell(kind="end-to-end", batch=8, images=("a",) * 32, variant=Variant(), rules=FULL)
    steady = [[1.0, 9.0, 2.0, 8.0] * 20] * 3
    row = timed(ROW, cell, [reading(each, batch=8, images=8) for each in steady])
    assert (row.iqr, row.spread, row.flags) == (0.0, 0.0, ())
    assert row.p90_ms is None
    assert "pipeline" in row.reasons["p90_ms"]
    uneven = [[1.0, 9.0, 2.0, 8.0, 2.0, 18.0, 4.0, 16.0] * 10] * 3
    assert timed(ROW, cell, [reading(each, batch=8, images=8) for each in uneven]).flags == ("invalid",)


def wandering(rng: np.random.Generator, exponent: float) -> np.ndarray:
    """A machine's speed over the nine rounds of three runs: noise whose power falls with frequency, of deviation 1."""
    frequencies = np.fft.rfftfreq(1024)
    frequencies[0] = np.inf
    parts = rng.normal(size=len(frequencies)) + 1j * rng.normal(size=len(frequencies))
    series = np.fft.irfft(frequencies ** (-exponent / 2) * parts, 1024)
    begin = rng.integers(0, 1015)
    return (series / series.std())[begin : begin + 9]


@pytest.mark.parametrize(
    ("exponent", "own", "least", "most"),
    [(0, 1.0, 0.98, 1.0), (1, 0.0, 0.92, 0.97), (1, 0.6, 0.97, 1.0), (2, 0.6, 0.97, 1.0)],
    ids=["chance alone", "1/f alone", "1/f and chance", "a walk and chance"],
)
def test_a_repeat_lies_within_the_spread_as_often_as_is_said(
    exponent: float, own: float, least: float, most: float
) -> None:
    """Two networks in three runs of three rounds, on a machine that wanders, with chance of each round's own."""
    rng = np.random.default_rng(0)
    within, agree = [], []
    for _ in range(500):
        host = wandering(rng, exponent) if exponent else np.zeros(9)
        levels = np.sqrt(1 - own**2) * host + own * rng.normal(size=(2, 9))
        runs = (100 * (1 + 0.05 * levels)).reshape(2, 3, 3, 1)
        machine = pooled([summarise(network[0]).scatter for network in runs])
        for network in runs:
            first, *others = (
                timed(ROW, CELL, [reading(list(each)) for each in run], machine) for run in network
            )
            within += [repeated(first, other) for other in others]
            agree += [(normalised_error(first, other) or 0.0) <= 1 for other in others]
    assert least < np.mean(within) < most
    assert np.mean(agree) > 0.95


def test_a_row_whose_rounds_happen_to_be_alike_is_no_surer_than_the_machine() -> None:
    alike = [reading([10.0]), reading([10.0]), reading([10.0])]
    apart = [reading([10.0]), reading([11.0]), reading([12.0])]
    assert timed(ROW, CELL, alike).spread == 0.0
    machine = pooled([scatter(CELL, alike), scatter(CELL, apart)])
    assert machine == Scatter(pytest.approx(1 / 11 / np.sqrt(2)), 4)
    assert timed(ROW, CELL, alike, machine).spread == pytest.approx(2.776 / 11)
    assert timed(ROW, CELL, apart, machine).spread == pytest.approx(4.303 * np.sqrt(2) / 11), (
        "its own is wider"
    )
    assert timed(ROW, CELL, alike[:1], machine).spread == pytest.approx(2.776 / 11), (
        "that of a single round too"
    )


@pytest.mark.parametrize(
    ("condition", "flag"),
    [
        ({"iqr": 0.11}, "noisy"),
        ({"iqr": 0.26}, "invalid"),
        ({"quick": True}, "quick"),
        ({"settled": False}, "not warm"),
        ({"others": 0.06}, "busy"),
        ({"shared_gpu": True}, "busy"),
        ({"throttled": ["power cap"]}, "throttled: power cap"),
        ({"batch": (16, 4)}, "batch 4 of 16"),
    ],
)
def test_each_condition_has_its_flag(condition: dict[str, object], flag: str) -> None:
    quiet = {"iqr": 0.09, "others": 0.04, "batch": (8, 8)}
    assert flags(**quiet) == ()  # type: ignore[arg-type]
    assert flags(**{**quiet, **condition}) == (flag,)  # type: ignore[arg-type]


def test_what_nobody_counted_is_no_flag() -> None:
    assert flags(0.0, others=None) == ()


def test_a_row_has_the_figures_and_flags_of_its_rounds() -> None:
    rounds = [reading([10.0, 10.0]), reading([20.0, 20.0], others=0.3, first_ms=70.0), reading([10.0, 10.0])]
    row = timed(ROW, CELL, rounds)
    assert (row.ms, row.images_per_s, row.samples, row.rounds) == (10.0, 100.0, 6, 3)
    assert (row.load_ms, row.first_ms) == (100.0, 50.0)
    assert row.between_rounds == pytest.approx(4.303 * 10 / 3**0.5 * (2 / 3) ** 0.5 / 10)
    assert row.spread == pytest.approx(4.303 * 10 / 3**0.5 * 2**0.5 / 10)
    assert row.flags == ("invalid", "busy")
    assert row.p90_ms is None
    assert row.reasons["p90_ms"] == "needs 64 samples, not 6"


def test_the_state_of_a_row_is_the_worst_of_its_rounds() -> None:
    """Only the second of three was slow and hot, and another process had the GPU."""
    calm = {"clock_mhz": [1965, 1980], "temperature_c": 50, "slowed": "0x1", "throttled": [], "shared": False}
    slow = {
        "clock_mhz": [900, 1980], "temperature_c": 83, "slowed": "0x24", "throttled": ["power cap"], "shared": True
    }  # fmt: skip
    row = timed(
        ROW,
        CELL,
        [
            reading([10.0], gpu=calm),
            reading([10.0], gpu=slow, settings={"threads": "1", "autocast": "off"}),
            reading([10.0], gpu={**calm, "clock_mhz": [1980, 1995]}),
        ],
    )
    assert row.gpu == {
        "clock_mhz": [900, 1995], "temperature_c": 83, "slowed": "0x25", "throttled": ["power cap"],
        "shared": True, "reasons": {},
    }  # fmt: skip
    assert row.flags == ("busy", "throttled: power cap")
    assert row.settings == {"threads": "1", "autocast": "not told / off"}
    untold = timed(ROW, CELL, [reading([10.0], gpu={"reason": "no driver"}), reading([10.0], gpu=calm)])
    assert untold.gpu == {**calm, "reasons": {}}, "what one round could not tell another did"


def test_a_round_that_failed_is_named_and_the_others_count() -> None:
    row = timed(ROW, CELL, [reading([10.0]), {"error": "ended by SIGSEGV"}])
    assert (row.ms, row.rounds) == (10.0, 1)
    assert row.flags == ("1 of 2 rounds (ended by SIGSEGV)",)
    assert timed(ROW, CELL, [{"error": "ended by SIGSEGV"}] * 3).error == "ended by SIGSEGV"


def test_blocks_of_passes_are_divided() -> None:
    block = reading([100.0, 100.0], images=40, batch=8, device_ms=[90.0, 90.0])
    assert per_pass(block["result"], [100.0]) == [20.0]
    row = timed(ROW, Cell(kind="throughput", batch=8, variant=Variant(), rules=QUICK), [block])
    assert (row.ms, row.device_ms, row.images_per_s, row.batch) == (20.0, 18.0, 400.0, 8)
    assert row.flags == ("quick",)


def test_the_choice_of_a_batch_is_part_of_the_spread() -> None:
    steady = reading([8.0] * 9)
    assert timed(ROW, CELL, [steady]).spread == 0.0
    assert timed(replace(ROW, sweep={1: 125.0}), CELL, [steady]).spread == 0.03


def test_the_batch_that_fitted_counts() -> None:
    cell = Cell(kind="throughput", batch=8, variant=Variant(), rules=FULL)
    row = timed(ROW, cell, [reading([8.0], batch=8, images=8), reading([4.0], batch=4, images=4)])
    assert (row.batch, row.ms, row.rounds) == (4, 4.0, 1)
    assert row.flags == ("batch 4 of 8", "1 of 2 rounds"), (
        "one process, whose tight spread says nothing of another"
    )
    both = timed(row, cell, [reading([4.0], batch=4, images=4)] * 3)
    assert both.flags == ("batch 4 of 8",)


def test_a_variant_whose_outputs_are_no_numbers_is_not_fast_without_a_word() -> None:
    row = timed(ROW, CELL, [reading([10.0])])
    why = "outputs are no numbers (NaN or infinite) in cpu, 1 thread, fp16, contiguous"
    told = {"reason": why, "images": 8, "files": False}
    broken = with_drift(row, {"result": {**told, "broken": True}})
    assert (broken.ms, broken.drift, broken.reasons["drift"]) == (10.0, None, why)
    assert broken.flags == ("outputs are no numbers",)
    reference = with_drift(row, {"result": {**told, "broken": False}})
    assert (reference.flags, reference.reasons["drift"]) == ((), why), "its own outputs are numbers"
    total = summed(ROW, [broken], passes=40)
    assert total.flags == ("summed", "outputs are no numbers")
    assert whole(row, total).flags == ("outputs are no numbers",), "the whole protocol is made of it"


def test_passes_of_their_own_fill_their_columns_or_say_why_not() -> None:
    memory = {"peak_rss": 9, "before": 4, "traffic": 7, "allocated": 2, "reserved": 3, "nvml_reason": "no"}
    row = with_memory(ROW, {"result": memory})
    assert (row.peak_rss_bytes, row.before_bytes, row.traffic_bytes) == (9, 4, 7)
    assert (row.allocated_bytes, row.reserved_bytes, row.nvml_bytes) == (2, 3, None)
    assert row.reasons == {"nvml_bytes": "no"}
    row = with_energy(with_drift(ROW, {"error": "a"}), {"result": {"reason": "b"}})
    assert row.reasons == {"drift": "a", "joules": "b"}
    row = with_energy(with_drift(ROW, {"result": {"drift": 0.5, "images": 3, "files": True}}),
                      {"result": energy_reading()})  # fmt: skip
    assert (row.drift, row.joules, row.joules_unsure) == (0.5, 1.5, 0.1)
    assert (row.idle_w, row.idle_before_w, row.idle_after_w, row.energy_flags) == (21.0, 20.0, 22.0, ())
    assert row.drift_on == "3 real images, random weights"
    made_up = with_drift(ROW, {"result": {"drift": 0.5, "images": 3, "files": True}}, made_up=True)
    assert made_up.drift_on == "3 made-up JPEG files, random weights"


def energy_reading(**changes: Any) -> dict[str, Any]:
    usual = {
        "joules": 1.5,
        "unsure": 0.1,
        "idle_before_w": 20.0,
        "idle_after_w": 22.0,
        "others": 0.0,
        "gpu": {},
    }
    return {**usual, **changes}


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"others": 0.2}, "busy"),
        ({"gpu": {"shared": True}}, "busy"),
        ({"gpu": {"throttled": ["power cap"]}}, "throttled: power cap"),
        ({"gpu": {"throttled": None, "shared": None}}, ""),
        ({"others": None}, ""),
        ({"unsure": 0.16}, "idle 20.0 W before, 22.0 W after"),
        ({"joules": -0.1, "unsure": 0.02}, "idle 20.0 W before, 22.0 W after"),
    ],
)
def test_what_makes_energy_doubtful_stands_beside_it(changes: dict[str, Any], doubt: str) -> None:
    row = with_energy(ROW, {"result": energy_reading(**changes)})
    assert row.energy_flags == tuple(filter(None, [doubt]))
    assert row.joules is not None


def test_energy_of_a_short_run_is_marked() -> None:
    row = with_energy(ROW, {"result": energy_reading(others=0.2)}, quick=True)
    assert row.energy_flags == ("quick", "busy")


def test_the_roofline_names_the_nearer_ceiling() -> None:
    ceilings = {"matmul": 1e10, "convolution": 2e10, "copy": 1e9}
    assert roofline(10**9, 10**8, 0.5, ceilings).limit == "compute"
    memory = roofline(10**8, 4 * 10**8, 0.5, ceilings)
    assert (memory.limit, memory.memory, memory.compute) == ("memory", 0.8, 0.02)
    unknown = roofline(10**9, None, 0.5, ceilings)
    assert (unknown.limit, unknown.memory) == ("", None)


@pytest.mark.parametrize(
    ("changes", "doubts"),
    [
        ({}, ()),
        ({"others": 0.2}, ("busy",)),
        ({"gpu": {"shared": True}}, ("busy",)),
        ({"gpu": {"throttled": ["power cap"], "shared": None}}, ("throttled: power cap",)),
    ],
)
def test_what_makes_a_ceiling_doubtful_stands_with_it(
    changes: dict[str, Any], doubts: tuple[str, ...]
) -> None:
    rates = {"matmul": 1e11, "convolution": 5e10, "copy": 1e10}
    answer = {"result": {**rates, "others": 0.0, "gpu": {}, **changes}}
    assert ceiling(CELL.of("ceilings"), answer).flags == doubts
    assert ceiling(CELL.of("ceilings", rules=QUICK), answer).flags == ("quick", *doubts)


def test_a_row_reaches_a_share_of_the_ceiling_of_its_own_precision() -> None:
    row = timed(ROW, CELL, [reading([100.0])])
    highest = Ceiling(
        device="cpu", precision="fp32", threads=1, matmul_flops=1e11, convolution_flops=5e10, copy_bytes_per_s=1e10
    )  # fmt: skip
    found = with_roofline(
        with_memory(row, {"result": {"peak_rss": 1, "before": 1, "traffic": 10**8}}), 10**9, highest
    )
    assert (found.gflops, found.compute_share, found.memory_share) == (20.0, 0.2, pytest.approx(0.1))
    assert found.limit == "compute"
    uncounted = with_roofline(row, 10**9, highest)
    assert (uncounted.compute_share, uncounted.memory_share, uncounted.limit) == (0.2, None, "")
    assert uncounted.reasons["memory_share"] == "bytes could not be counted"
    without = with_roofline(row, 10**9, None)
    assert (without.gflops, without.compute_share) == (20.0, None)
    assert without.reasons["compute_share"] == "the ceilings were not measured"


def test_a_protocol_is_the_sum_of_its_members_times_folds_and_views() -> None:
    first, second = (timed(ROW, CELL, [reading([each] * 64)]) for each in (10.0, 30.0))
    total = summed(ROW, [first, second], passes=5 * 8)
    assert (total.ms, total.summed_ms, total.how) == (1600.0, 1600.0, "summed")
    assert total.flags == ("summed",)
    assert (total.iqr, total.between_rounds, total.spread) == (0.0, None, 0.0)
    sure, unsure = (
        replace(each, iqr=iqr, between_rounds=2 * iqr, spread=4 * iqr)
        for each, iqr in ((first, 0.0), (second, 0.1))
    )
    wide = summed(ROW, [sure, unsure], passes=40)
    assert (wide.iqr, wide.between_rounds, wide.spread) == pytest.approx((0.075, 0.15, 0.3))
    broken = timed(ROW, CELL, [{"error": "ended early"}])
    failed = summed(ROW, [first, broken], passes=40)
    assert (failed.ms, failed.error) == (None, "n: ended early")
    assert summed(ROW, [broken], passes=40).error == "ended early"
    assert whole(first, total).ms == 10.0
    assert whole(first, total).summed_ms == 1600.0
    kept = whole(broken, total)
    assert (kept.ms, kept.how, kept.flags) == (1600.0, "summed", ("summed", "as a whole: ended early"))
