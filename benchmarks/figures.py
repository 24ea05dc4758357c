"""From readings to rows: what the workers sent back, as figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import nvml
from benchmarks.cells import Cell
from benchmarks.results import Ceiling, Row
from benchmarks.roofline import roofline
from benchmarks.samples import CHOICE, NEEDED, NOISY, UNKNOWN, Scatter, Summary, flags, summarise

RANDOM, OWN = "random", "the file's own"
"""What the weights of a network are: random, unless its card names a file that holds all of it."""

NO_NUMBERS = "outputs are no numbers"
"""Flag of a figure whose network computes nothing of use that way, however fast."""

Answer = Mapping[str, Any]
"""Of a worker: `{"result": ...}` or `{"error": reason}`."""


def timed(row: Row, cell: Cell, answers: Sequence[Answer], machine: Scatter = UNKNOWN) -> Row:
    """A row with its times. Rounds that failed do not count, nor those of a larger batch than fitted in all.

    Args:
        row: Without them.
        cell: What was measured.
        answers: Of each round.
        machine: How far rounds lie apart on this machine, by those of all rows like this one.
    """
    errors = list(dict.fromkeys(each["error"] for each in answers if "error" in each))
    readings = _counted(answers)
    if not readings:
        return replace(row, error=errors[0] if errors else "not measured")
    batch = readings[0]["batch"]
    cycle = _cycle(cell, batch)
    found = _summary(cell, readings)
    device_ms = [per_pass(each, each["device_ms"]) for each in readings if each["device_ms"]]
    lesion = cell.kind == "protocol"
    return replace(
        row,
        batch=None if lesion else batch,
        ms=found.typical,
        device_ms=summarise(device_ms, cycle=cycle).typical if device_ms else None,
        p90_ms=found.p90,
        p99_ms=found.p99,
        images_per_s=None if lesion else 1e3 * batch / found.typical,
        samples=found.samples,
        rounds=len(readings),
        iqr=found.iqr,
        between_rounds=found.scatter.of_means if found.scatter.freedom else None,
        spread=max(found.iqr, found.scatter.of_repeats, machine.of_repeats, CHOICE if row.sweep else 0.0),
        load_ms=statistics.median(each["load_ms"] for each in readings),
        first_ms=statistics.median(each["first_ms"] for each in readings),
        flags=(
            *_flags(cell, found, readings, batch),
            *_fewer(len(readings), len(answers), errors),
            *([] if all(each.get("finite", True) for each in readings) else [NO_NUMBERS]),
        ),
        reasons={**row.reasons, **_missing(found, cycle)},
        gpu=nvml.together([each["gpu"] for each in readings]),
        settings=all_of([each["settings"] for each in readings]),
    )


def scatter(cell: Cell, answers: Sequence[Answer]) -> Scatter:
    """How far the rounds of a row lie apart."""
    readings = _counted(answers)
    return _summary(cell, readings).scatter if readings else UNKNOWN


def _counted(answers: Sequence[Answer]) -> list[Mapping[str, Any]]:
    """The readings that count."""
    readings = [each["result"] for each in answers if "result" in each]
    batch = min((each["batch"] for each in readings), default=None)
    return [each for each in readings if each["batch"] == batch]


def _summary(cell: Cell, readings: Sequence[Mapping[str, Any]]) -> Summary:
    samples = [per_pass(each, each["samples_ms"]) for each in readings]
    return summarise(samples, cycle=_cycle(cell, readings[0]["batch"]))


def all_of(settings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Settings of all rounds; where rounds differ in one, each of its values.

    >>> all_of([{"threads": "2", "engine": "torch"}, {"threads": "1", "engine": "torch"}])
    {'threads': '2 / 1', 'engine': 'torch'}
    """
    names = dict.fromkeys(name for each in settings for name in each)
    return {
        name: " / ".join(dict.fromkeys(each.get(name, "not told") for each in settings)) for name in names
    }


def pass_ms(cell: Cell, reading: Mapping[str, Any]) -> float:
    """Milliseconds of one pass by one reading of a cell, as its row would report them."""
    samples = per_pass(reading, reading["samples_ms"])
    return summarise([samples], cycle=_cycle(cell, reading["batch"])).typical


def _cycle(cell: Cell, batch: int) -> int:
    """Batches after which the same image files come again; 0 where pixels are on the device already."""
    if cell.kind != "end-to-end":
        return 0
    return math.lcm(batch, len(cell.images) or 1) // batch


def per_pass(reading: Mapping[str, Any], samples_ms: Sequence[float]) -> list[float]:
    """Samples as the time of one pass, where each is a block of several."""
    share = reading["batch"] / reading["images"]
    return [sample * share for sample in samples_ms]


def _flags(cell: Cell, found: Summary, readings: Sequence[Mapping[str, Any]], batch: int) -> tuple[str, ...]:
    gpu = nvml.together([each["gpu"] for each in readings])
    others = [each["others"] for each in readings if each["others"] is not None]
    return flags(
        found.iqr,
        quick=cell.rules.quick,
        settled=all(each["settled"] for each in readings),
        others=max(others, default=None),
        throttled=gpu.get("throttled") or (),
        shared_gpu=bool(gpu.get("shared")),
        batch=(cell.batch, batch),
    )


def _fewer(counted: int, asked: int, errors: Sequence[str]) -> tuple[str, ...]:
    """That not all rounds count, and why where they failed; that others fitted a larger batch its flag says."""
    why = f" ({', '.join(errors)})" if errors else ""
    return (f"{counted} of {asked} rounds{why}",) if counted < asked else ()


def _missing(found: Summary, cycle: int) -> dict[str, str]:
    """Why there is no percentile."""
    if cycle:
        return dict.fromkeys(
            ("p90_ms", "p99_ms"), "batches of a pipeline that reads ahead take no time of their own"
        )
    values = {90: found.p90, 99: found.p99}
    return {
        f"p{share}_ms": f"needs {NEEDED[share]} samples, not {found.samples}"
        for share, value in values.items()
        if value is None
    }


def with_memory(row: Row, answer: Answer) -> Row:
    """A row with the memory of its own pass."""
    if "error" in answer:
        return replace(row, reasons={**row.reasons, "peak_rss_bytes": answer["error"]})
    reading = answer["result"]
    reasons = {"nvml_bytes": reading["nvml_reason"]} if "nvml_reason" in reading else {}
    return replace(
        row,
        peak_rss_bytes=reading["peak_rss"],
        before_bytes=reading["before"],
        allocated_bytes=reading.get("allocated"),
        reserved_bytes=reading.get("reserved"),
        nvml_bytes=reading.get("nvml"),
        traffic_bytes=reading["traffic"],
        reasons={**row.reasons, **reasons},
    )


def with_energy(row: Row, answer: Answer, *, quick: bool = False) -> Row:
    """A row with the energy of its own pass, or why there is none; `quick` where that was shortened."""
    reading = answer.get("result", {})
    reason = answer.get("error") or reading.get("reason")
    if reason:
        return replace(row, reasons={**row.reasons, "joules": reason})
    before, after = reading["idle_before_w"], reading["idle_after_w"]
    gpu = reading["gpu"]
    doubts = flags(
        0.0,
        quick=quick,
        others=reading["others"],
        throttled=gpu.get("throttled") or (),
        shared_gpu=bool(gpu.get("shared")),
    )
    if reading["unsure"] > NOISY * abs(reading["joules"]):
        doubts = (*doubts, f"idle {before:.1f} W before, {after:.1f} W after")
    return replace(
        row,
        joules=reading["joules"],
        joules_unsure=reading["unsure"],
        idle_w=(before + after) / 2,
        idle_before_w=before,
        idle_after_w=after,
        energy_flags=doubts,
    )


def with_drift(row: Row, answer: Answer, *, made_up: bool = False, weights: str = RANDOM) -> Row:
    """A row with how far its probabilities moved; flagged where its own are no numbers.

    Args:
        row: With its times.
        answer: The worker's.
        made_up: Whether the image files, where some were read, are no real ones.
        weights: What the network's weights are.
    """
    if "error" in answer:
        return replace(row, reasons={**row.reasons, "drift": answer["error"]})
    reading = answer["result"]
    if "reason" in reading:
        flagged = dict.fromkeys([*row.flags, *([NO_NUMBERS] if reading["broken"] else [])])
        return replace(row, flags=tuple(flagged), reasons={**row.reasons, "drift": reading["reason"]})
    files = "made-up JPEG files" if made_up else "real images"
    kind = files if reading["files"] else "images of random pixels"
    return replace(row, drift=reading["drift"], drift_on=f"{reading['images']} {kind}, {weights} weights")


def with_roofline(row: Row, macs: int, ceiling: Ceiling | None) -> Row:
    """A row with what it reaches of the machine's ceilings.

    Args:
        row: With its times and memory.
        macs: Multiply-accumulates for one image.
        ceiling: The highest rates; None where they were not measured.
    """
    if row.ms is None or row.batch is None:
        return row
    seconds, macs = row.ms / 1e3, macs * row.batch
    row = replace(row, gflops=2 * macs / seconds / 1e9)
    if not (ceiling and ceiling.matmul_flops and ceiling.convolution_flops and ceiling.copy_bytes_per_s):
        reason = ceiling.error if ceiling else "the ceilings were not measured"
        return replace(row, reasons={**row.reasons, "compute_share": reason})
    found = roofline(
        macs,
        row.traffic_bytes,
        seconds,
        {
            "matmul": ceiling.matmul_flops,
            "convolution": ceiling.convolution_flops,
            "copy": ceiling.copy_bytes_per_s,
        },
    )
    uncounted = {"memory_share": "bytes could not be counted"} if found.memory is None else {}
    return replace(
        row,
        compute_share=found.compute,
        memory_share=found.memory,
        limit=found.limit,
        reasons={**row.reasons, **uncounted},
    )


def ceiling(cell: Cell, answer: Answer) -> Ceiling:
    """The ceilings of a device, precision and number of threads."""
    variant = cell.variant
    empty = Ceiling(device=variant.device, precision=variant.precision, threads=variant.threads)
    if "error" in answer:
        return replace(empty, error=answer["error"])
    reading = answer["result"]
    gpu = reading["gpu"]
    return replace(
        empty,
        matmul_flops=reading["matmul"],
        convolution_flops=reading["convolution"],
        copy_bytes_per_s=reading["copy"],
        flags=flags(
            0.0,
            quick=cell.rules.quick,
            others=reading["others"],
            throttled=gpu.get("throttled") or (),
            shared_gpu=bool(gpu.get("shared")),
        ),
    )


def summed(row: Row, parts: Sequence[Row], passes: int) -> Row:
    """A whole protocol as the sum of its members' latencies.

    Args:
        row: The protocol's.
        parts: Latencies of the members, in the same variant.
        passes: Forward passes of each member: folds × distinct views.
    """
    missing = next((each for each in parts if each.ms is None), None)
    if missing:
        whose = f"{missing.network}: " if len(parts) > 1 else ""
        return replace(row, how="summed", error=f"{whose}{missing.error}")
    total = sum(each.ms or 0.0 for each in parts)

    def together(shares: Sequence[float | None]) -> float | None:
        # Parts that are all slow at once spread as far as their sum does; independent ones less.
        known = [share for share in shares if share is not None]
        if len(known) < len(parts):
            return None
        return sum(share * (each.ms or 0.0) for share, each in zip(known, parts, strict=True)) / total

    return replace(
        row,
        how="summed",
        ms=total * passes,
        summed_ms=total * passes,
        iqr=together([each.iqr for each in parts]),
        between_rounds=together([each.between_rounds for each in parts]),
        spread=together([each.spread for each in parts]),
        samples=min(each.samples for each in parts),
        rounds=min(each.rounds for each in parts),
        flags=("summed", *dict.fromkeys(flag for each in parts for flag in each.flags)),
        settings=all_of([each.settings for each in parts]),
    )


def whole(row: Row, total: Row) -> Row:
    """A whole protocol as it was measured, with the sum of its members beside it; the sum where that failed."""
    if row.error:
        return replace(total, flags=(*total.flags, f"as a whole: {row.error}"))
    # What their own passes found of its networks holds for it too.
    broken = (NO_NUMBERS,) if NO_NUMBERS in total.flags else ()
    return replace(row, summed_ms=total.ms, flags=(*row.flags, *broken))
