"""A profile as tables: time by scenario, how near to the machine's limits, memory and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from benchmarks.cells import Variant
from benchmarks.clocks import Clocks
from benchmarks.results import Ceiling, Machine, Profile, Row
from benchmarks.samples import BUSY, CHOICE, INVALID, NEEDED, NOISY
from reports import gpus
from reports.figures import megabytes, milliseconds
from reports.ranking import apart, figure, ranking
from reports.render import Table

Column = tuple[str, Callable[[Row], str]]
"""A header, and the text of a row's cell."""

_QUICK = "Quick: shortened far below the protocol; an order of magnitude, no more."


def tables(profile: Profile, earlier: Mapping[str, Profile] | None = None) -> list[Table]:
    """All tables of a profile.

    Args:
        profile: The profile.
        earlier: Others of the same machine, by what they are called, for the ranking.
    """
    found = [_times(scenario, *shown, profile) for scenario, shown in _SCENARIOS.items()]
    return [
        *_with_method(list(filter(None, found)), profile),
        *_sweeps(profile),
        *_limits(profile),
        *_resources(profile),
        *_gpus(profile),
        *_ceilings(profile),
        *ranking({"this run": profile, **(earlier or {})}),
    ]


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


def _joules(row: Row) -> str:
    if row.joules is None:
        return "n/a"
    unsure = f" ±{milliseconds(row.joules_unsure)}" if row.joules_unsure is not None else ""
    doubts = f" [{'; '.join(row.energy_flags)}]" if row.energy_flags else ""
    return f"{milliseconds(row.joules)}{unsure}{doubts}"


def _drift(row: Row) -> str:
    return "reference" if Variant.of(row).reference else _number("drift", _scientific)(row)


def _whole_of_sum(row: Row) -> str:
    return f"{row.ms / row.summed_ms:.3f}" if row.how == "measured" and row.ms and row.summed_ms else "–"


_SPREAD: Column = ("Spread", _number("spread", _percent))
_BATCH: Column = ("Batch", lambda row: str(row.batch or "–"))
_SCENARIOS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "latency": (
        "Latency: one image at a time, pixels already on the device",
        (
            ("Median, ms", figure),
            ("p90", lambda row: milliseconds(row.p90_ms) if row.p90_ms else "–"),
            ("p99", lambda row: milliseconds(row.p99_ms) if row.p99_ms else "–"),
            _SPREAD,
        ),
    ),
    "throughput": (
        "Throughput: images per second at the best batch, pixels already on the device",
        (("Images/s", figure), _BATCH, _SPREAD),
    ),
    "end-to-end": (
        "End to end: decoding, resizing, normalising and passing image files",
        (("Images/s", figure), _BATCH, _SPREAD),
    ),
    "protocol": (
        "The whole published protocol for one lesion image: all members, folds and distinct views",
        (
            ("Time, ms", figure),
            ("Sum of members, ms", _number("summed_ms", milliseconds)),
            ("Whole / sum", _whole_of_sum),
            ("How", lambda row: row.how),
            _SPREAD,
        ),
    ),
}


def _times(scenario: str, title: str, columns: Sequence[Column], profile: Profile) -> Table | None:
    rows = [row for row in profile.rows if row.scenario == scenario]
    if not rows:
        return None
    notes = _notes(scenario, profile)
    if scenario != "protocol" and not all(Variant.of(row).reference for row in rows):
        drifts = sorted({row.drift_on for row in rows if row.drift_on})
        columns = [*columns, ("max |Δp|", _drift)]
        notes.append(
            "max |Δp|: largest change of a class probability against fp32, contiguous, eager, on the same device"
            + (f"; on {'; '.join(drifts)}." if drifts else ".")
        )
    return _table(title, rows, columns, notes)


def _table(title: str, rows: Sequence[Row], columns: Sequence[Column], notes: Sequence[str] = ()) -> Table:
    """A line per row; how networks were run stands in it as far as rows differ, and below the table otherwise."""
    variants, common = apart([Variant.of(row) for row in rows])
    several = any(variants)
    return Table(
        title,
        ("Network", *(["Variant"] if several else []), *(header for header, _ in columns)),
        tuple(
            (row.title, *([variant] if several else []), *(text(row) for _, text in columns))
            for row, variant in zip(rows, variants, strict=True)
        ),
        (*notes, f"All rows: {common}.") if common else tuple(notes),
        align="l" + "l" * several + "r" * len(columns),
    )


def _with_method(found: Sequence[Table], profile: Profile) -> list[Table]:
    """Tables of times, the first with how all of them were taken."""
    method = [_QUICK] if profile.quick else []
    method.append(
        f"Each figure: {profile.rounds} fresh process{'es' * (profile.rounds > 1)}, in shuffled order, seed {profile.seed}; "
        f"weights: {profile.weights}. Measured on {_machine(profile.machine)}{_clock(profile.clocks)}. {_spread(profile)}; "
        f"noisy: interquartile range / median above {NOISY:.0%}, invalid: above {INVALID:.0%}. Busy: other "
        f"processes took more than {BUSY:.0%} of the processors."
    )
    return [replace(each, notes=(*method, *each.notes)) if each is found[0] else each for each in found]


def _spread(profile: Profile) -> str:
    swept = (
        f", or {CHOICE:.0%} where a sweep chose the batch" if any(row.sweep for row in profile.rows) else ""
    )
    if profile.rounds == 1:
        return f"Spread, of the time: interquartile range / median within one process{swept}, which says nothing of a repeat"
    return (
        "Spread: how far the time of a repeat that follows at once may lie (95%), by the scatter of the rounds, of this row and of "
        f"all like it; or the interquartile range / median where that is larger{swept}"
    )


def _notes(scenario: str, profile: Profile) -> list[str]:
    if scenario == "protocol":
        return [
            "Summed: latencies of the members × folds × distinct views; measured as a whole where that is short "
            "enough, and then the sum stands beside it. Passes of batch 1, one after another; decoding and the "
            "blend are not in it."
        ]
    if scenario == "latency":
        return [f"p90 needs {NEEDED[90]} samples and p99 {NEEDED[99]}; with fewer they stay blank (–)."]
    if scenario == "end-to-end" and profile.images:
        kind = "image files that were given" if profile.images_real else "made-up JPEG files of 1024x768 px"
        return [
            "Images/s: all images of all rounds / all of their time, since files are read ahead. "
            f"{profile.images} {kind}, read from a warm cache of the file system, in as many threads beside the "
            "network's own as it has."
        ]
    if scenario == "throughput":
        return ["Images/s: by the median block of passes."]
    return []


def _machine(machine: Machine) -> str:
    parts = [*machine.gpus, machine.cpu, f"{machine.cores} cores", f"torch {machine.torch}"]
    return ", ".join(parts)


def _clock(clocks: Clocks | None) -> str:
    """The CPU's clock around the run; nothing where the record is older than that figure."""
    if clocks is None:
        return ""
    if clocks.start_mhz is None or clocks.end_mhz is None:
        why = clocks.reasons.get("start_mhz", "not told at the end")
        return f", CPU clock n/a ({why})"
    begun, ended = (
        "–".join(f"{mhz:,}" for mhz in dict.fromkeys(each)) for each in (clocks.start_mhz, clocks.end_mhz)
    )
    most = f" of at most {clocks.most_mhz:,}" if clocks.most_mhz else ""
    return f", CPU clock {begun} MHz before and {ended} after{most}"


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


def _limits(profile: Profile) -> list[Table]:
    """How near each network comes to what the machine can do."""
    rows = [row for row in profile.rows if row.gflops is not None]
    if not rows:
        return []
    columns: list[Column] = [
        ("Scenario", lambda row: row.scenario),
        ("GFLOP/s", _number("gflops", milliseconds)),
        ("Of compute ceiling", _number("compute_share", _percent)),
        ("Of memory ceiling", _number("memory_share", _percent)),
        ("Nearer to", lambda row: row.limit or "–"),
        ("Doubts", lambda row: "; ".join([*row.flags, *_of_ceiling(row, profile)]) or "–"),
    ]
    note = (
        "GFLOP/s: two per counted multiply-accumulate. Compute ceiling: the faster of a large matrix product "
        "and a large convolution here, in the same precision with the same threads. Memory ceiling: bytes of "
        "all operands and results at the rate of a large copy; above 100% where caches keep them."
    )
    return [_table("How near to the machine's limits", rows, columns, [note])]


def _of_ceiling(row: Row, profile: Profile) -> list[str]:
    """What makes the ceilings of a row doubtful; that a run was short is said of its time."""
    return [
        f"ceiling: {flag}"
        for each in profile.ceilings
        if (each.device, each.precision, each.threads) == (row.device, row.precision, row.threads)
        for flag in each.flags
        if flag != "quick"
    ]


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
    columns: list[Column] = [
        _BATCH,
        ("Load, ms", _number("load_ms", milliseconds)),
        ("First pass, ms", _number("first_ms", milliseconds)),
        ("Peak RSS, MB", _number("peak_rss_bytes", megabytes)),
        ("before the network", _number("before_bytes", megabytes)),
        *(cuda if any(row.device == "cuda" for row in rows) else []),
        ("Energy, J/image", _joules),
    ]
    notes = [
        "Load: building the network with its weights and moving it to the device. Peak RSS: of a fresh "
        "process; before the network: Python and torch alone. Memory and energy: of passes of their own, of the batch "
        "that the times were taken at.",
        "Energy: above that of the idle machine, whose power is the mean of what was read before and after; ±: what half "
        "of their difference makes." + (f" n/a: {'; '.join(reasons)}." if reasons else ""),
    ]
    return [_table("Memory, loading and energy", rows, columns, notes)]


def _gpus(profile: Profile) -> list[Table]:
    rows = [row for row in profile.rows if row.gpu]
    if not rows:
        return []
    columns: list[Column] = [
        ("Scenario", lambda row: row.scenario),
        ("Own clock, ms", _number("device_ms", milliseconds)),
        *gpus.COLUMNS,
    ]
    return [_table("The GPU while it was timed", rows, columns, gpus.notes(rows))]


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
