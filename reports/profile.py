"""A profile as tables: time by scenario, memory and energy, and the machine's ceilings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.results import Ceiling, Machine, Profile, Row
from benchmarks.samples import BUSY, INVALID, NEEDED, NOISY
from reports.figures import megabytes, milliseconds
from reports.ranking import headline, ranking, variant
from reports.render import Table

Column = tuple[str, Callable[[Row], str]]
"""A header, and the text of a row's cell."""

_QUICK = "Quick: shortened far below the protocol; an order of magnitude, no more."


def tables(profile: Profile) -> list[Table]:
    """All tables of a profile."""
    found = [_times(scenario, *shown, profile) for scenario, shown in _SCENARIOS.items()]
    return [
        *filter(None, found),
        *_sweeps(profile),
        *_resources(profile),
        *_gpus(profile),
        *_ceilings(profile),
        *ranking([profile]),
    ]


def _figure(row: Row) -> str:
    """A row's figure with what makes it doubtful, or why there is none."""
    value = headline(row)
    if value is None:
        return f"n/a ({row.error or 'not measured'})"
    return " ".join([milliseconds(value), *([f"[{'; '.join(row.flags)}]"] if row.flags else [])])


def _number(key: str, shown: Callable[[float], str]) -> Callable[[Row], str]:
    """A column of a figure that may be missing; its reason is shown where it has one."""

    def text(row: Row) -> str:
        value = getattr(row, key)
        if value is not None:
            return shown(value)
        reason = row.reasons.get(key)
        return f"n/a ({reason})" if reason else "–"

    return text


def _percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def _seconds(value: float) -> str:
    return milliseconds(value / 1e3)


def _scientific(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}".replace("-", "−")


_WHOSE: Column = ("Network", lambda row: row.title)
_SPREAD: Column = ("Spread", _number("spread", _percent))
_BATCH: Column = ("Batch", lambda row: str(row.batch or "–"))
_LIMITS: tuple[Column, ...] = (
    ("GFLOP/s", _number("gflops", milliseconds)),
    ("Of compute ceiling", _number("compute_share", _percent)),
    ("Of memory ceiling", _number("memory_share", _percent)),
    ("Nearer to", lambda row: row.limit or "–"),
)
_SCENARIOS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "latency": (
        "Latency: one image at a time, pixels already on the device",
        (
            ("Median, ms", _figure),
            ("p90", lambda row: milliseconds(row.p90_ms) if row.p90_ms else "–"),
            ("p99", lambda row: milliseconds(row.p99_ms) if row.p99_ms else "–"),
            _SPREAD,
            *_LIMITS,
        ),
    ),
    "throughput": (
        "Throughput: images per second at the best batch, pixels already on the device",
        (("Images/s", _figure), _BATCH, _SPREAD, *_LIMITS),
    ),
    "end-to-end": (
        "End to end: decoding, resizing, normalising and passing image files",
        (("Images/s", _figure), _BATCH, _SPREAD),
    ),
    "protocol": (
        "The whole published protocol for one lesion image: all members, folds and distinct views",
        (
            ("Time, ms", _figure),
            ("Sum of members, ms", _number("summed_ms", milliseconds)),
            ("How", lambda row: row.how),
            _SPREAD,
        ),
    ),
}


def _times(scenario: str, title: str, columns: Sequence[Column], profile: Profile) -> Table | None:
    rows = [row for row in profile.rows if row.scenario == scenario]
    if not rows:
        return None
    return _table(title, rows, columns, _notes(scenario, profile))


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column], notes: Sequence[str] = ()) -> Table:
    shown = (_WHOSE, ("Variant", variant), *columns)
    return Table(
        title,
        tuple(header for header, _ in shown),
        tuple(tuple(text(row) for _, text in shown) for row in rows),
        tuple(notes),
        align="ll" + "r" * len(columns),
    )


def _notes(scenario: str, profile: Profile) -> list[str]:
    notes = [_QUICK] if profile.quick else []
    spread = f"Spread: interquartile range / median, or the range of the rounds' medians where that is larger; noisy above {NOISY:.0%}, invalid above {INVALID:.0%}. "
    if scenario == "protocol":
        notes.append(
            "Summed: latencies of the members × folds × distinct views; measured as a whole where that is short "
            "enough. Passes of batch 1, one after another; decoding and the blend are not in it."
        )
        return notes
    notes.append(
        f"{spread}{profile.rounds} fresh process{'es' * (profile.rounds > 1)} each, in shuffled order, seed {profile.seed}; weights: "
        f"{profile.weights}. Busy: other processes took more than {BUSY:.0%} of the processors. "
        f"Measured on {_machine(profile.machine)}."
    )
    if scenario == "latency":
        notes.append(f"p90 needs {NEEDED[90]} samples and p99 {NEEDED[99]}; with fewer they stay blank (–).")
    if scenario == "end-to-end":
        kind = "image files that were given" if profile.images_real else "made-up JPEG files of 1024x768 px"
        notes.append(f"{profile.images} {kind}, read from a warm cache of the file system.")
    else:
        notes.append(
            "GFLOP/s: two per counted multiply-accumulate. Compute ceiling: the faster of a large matrix product "
            "and a large convolution here, in the same precision with the same threads. Memory ceiling: bytes of "
            "all operands and results at the rate of a large copy; above 100% where caches keep them."
        )
    return notes


def _machine(machine: Machine) -> str:
    parts = [*machine.gpus, machine.cpu, f"{machine.cores} cores", f"torch {machine.torch}"]
    return ", ".join(parts)


def _sweeps(profile: Profile) -> list[Table]:
    """Images per second of every batch that was tried, from the short runs that chose one."""
    rows = [row for row in profile.rows if row.sweep]
    if not rows:
        return []
    batches = sorted({batch for row in rows for batch in row.sweep})

    def at(batch: int) -> Column:
        return str(batch), lambda row: milliseconds(row.sweep[batch]) if batch in row.sweep else "–"

    columns = [*map(at, batches), ("Ended", lambda row: row.sweep_end)]
    notes = ["Short runs that only choose the batch; the figures themselves are taken anew."]
    found = _table("Images per second by batch", rows, columns, notes)
    return [Table(found.title, found.headers, found.rows, found.notes, found.align[:-1] + "l")]


def _resources(profile: Profile) -> list[Table]:
    rows = [row for row in profile.rows if row.scenario in ("latency", "throughput") and not row.error]
    if not rows:
        return []
    cuda = [
        ("CUDA allocated, MB", _number("allocated_bytes", megabytes)),
        ("reserved", _number("reserved_bytes", megabytes)),
        ("by driver", _number("nvml_bytes", megabytes)),
    ]
    reasons = sorted({row.reasons["joules"] for row in rows if "joules" in row.reasons})
    drifts = sorted({row.drift_on for row in rows if row.drift_on})
    columns: list[Column] = [
        ("Batch", lambda row: str(row.batch)),
        ("Load, ms", _number("load_ms", milliseconds)),
        ("First pass, ms", _number("first_ms", milliseconds)),
        ("Peak RSS, MB", _number("peak_rss_bytes", megabytes)),
        ("before the network", _number("before_bytes", megabytes)),
        *(cuda if any(row.device == "cuda" for row in rows) else []),
        ("Energy, J/image", lambda row: "n/a" if row.joules is None else milliseconds(row.joules)),
        ("max |Δp|", _drift),
    ]
    notes = [
        "Load: building the network with random weights and moving it to the device. Peak RSS: of a fresh "
        "process; before the network: Python and torch alone.",
        "Energy: above that of the idle machine." + (f" n/a: {'; '.join(reasons)}." if reasons else ""),
        "max |Δp|: largest change of a class probability against fp32, contiguous, eager, on the same device"
        + (f"; on {'; '.join(drifts)}." if drifts else "."),
    ]
    return [_table("Memory, loading, energy and accuracy", rows, columns, notes)]


def _drift(row: Row) -> str:
    reference = (row.precision, row.memory_format, row.compiled) == ("fp32", "contiguous", False)
    return "reference" if reference else _number("drift", _scientific)(row)


def _gpus(profile: Profile) -> list[Table]:
    rows = [row for row in profile.rows if row.gpu]
    if not rows:
        return []
    columns: list[Column] = [
        ("Scenario", lambda row: row.scenario),
        ("Own clock, ms", _number("device_ms", milliseconds)),
        ("SM clock, MHz", lambda row: "–".join(map(str, row.gpu.get("clock_mhz", ["n/a"])))),
        ("°C", lambda row: str(row.gpu.get("temperature_c", "n/a"))),
        (
            "Slowed by",
            lambda row: ", ".join(row.gpu.get("throttled", ())) or row.gpu.get("reason", "nothing"),
        ),
    ]
    return [_table("The GPU while it was timed", rows, columns)]


def _ceilings(profile: Profile) -> list[Table]:
    if not profile.ceilings:
        return []
    return [
        Table(
            "What this machine can do at most",
            ("Device", "Precision", "Threads", "Matrix product, GFLOP/s", "Convolution, GFLOP/s", "Copy, GB/s", ""),
            tuple(_ceiling(each) for each in profile.ceilings),
            ("The best of some repeats, each measured here. Copy: bytes read and written.",),
            align="llrrrrl",
        )
    ]  # fmt: skip


def _ceiling(found: Ceiling) -> tuple[str, ...]:
    about = (found.device, found.precision, str(found.threads) if found.device == "cpu" else "–")
    rates = (found.matmul_flops, found.convolution_flops, found.copy_bytes_per_s)
    shown = tuple("n/a" if rate is None else milliseconds(rate / 1e9) for rate in rates)
    return (*about, *shown, found.error or ", ".join(found.flags))
