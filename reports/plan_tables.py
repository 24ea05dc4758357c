"""Plans of a run of `predict` as tables: what each system takes, and what that is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluate.planning import Machines, Planned
from reports.render import Table


def tables(found: Sequence[Planned], machines: Machines) -> list[Table]:
    """Plans as tables: what they come to, and what that is made of."""
    images = f"{found[0].images:,} images" if found else "no images"
    nodes = f" on {machines.nodes} nodes" if machines.nodes > 1 else ""
    priced = machines.price is not None
    summary = Table(
        f"Plan: {images}, --launcher {machines.launcher}{nodes}",
        ("System", "Hours", "Node-hours", *(["Cost"] if priced else []), "Times are"),
        tuple(
            (
                each.system,
                hours(each.hours),
                hours(each.node_hours),
                *(
                    [f"{each.cost:,.0f}" if each.cost >= 100 else f"{each.cost:,.2f}"]
                    if each.cost is not None
                    else []
                ),
                each.source,
            )
            for each in found
        ),
        tuple(_notes(found, machines)),
        align="lrr" + "r" * priced + "l",
    )
    parts = Table(
        "Hours of all processes, and GB that are moved",
        ("System", "Units", "Compute", "Loading", "Overhead", "Read", "Shipped", "Kept"),
        tuple(
            (
                each.system,
                f"{each.units:,}",
                hours(each.compute_hours),
                _loading(each),
                hours(each.overhead_hours),
                "n/a" if each.read_bytes is None else gigabytes(each.read_bytes),
                gigabytes(each.shipped_bytes),
                gigabytes(each.written_bytes),
            )
            for each in found
        ),
        tuple(_parts_notes(found)),
    )
    return [summary, parts]


def _loading(one: Planned) -> str:
    if one.loading_hours is None:
        return "n/a"
    some = one.loading_members < len(one.networks)
    return hours(one.loading_hours) + f" ({one.loading_members} of {len(one.networks)} members)" * some


def _notes(found: Sequence[Planned], machines: Machines) -> Iterator[str]:
    threads = sorted({each.threads for each in found if each.threads is not None})
    several = machines.processes > 1
    yield (
        f"{machines.processes} process{'es' if several else ''} at a time{_of_threads(threads, machines)}, each as "
        "fast as one alone; where a node has room for several, say --processes."
    )
    scaled = {one.scaled_from for each in found for one in each.networks if one.scaled_from is not None}
    if scaled:
        yield (
            "Scaled: twice the threads are taken to need half the time for networks, which promises too much of "
            "many threads; predict with as many measures."
        )
    if any(each.loading_members < len(each.networks) for each in found):
        yield "Hours are without making networks where that was not measured: see Loading."
    if any(each.basis == "profile" for each in found):
        yield (
            "profile times the passes of a network as it is: predict folds batch norms, which is quicker, and "
            "decodes images."
        )
    if any(each.basis == "operations" for each in found):
        yield "An estimate from operations may be wrong by several times; predict with --limit 128 measures."


def _of_threads(threads: Sequence[int], machines: Machines) -> str:
    """Such as ` with 2 threads (predict --cpus 2)`."""
    if not threads:
        return ""
    numbers = " or ".join(map(str, threads))
    given = f" (predict --cpus {numbers})" if machines.launcher != "local" else ""
    return f" with {numbers} thread{'s' * (threads[-1] > 1)}{given}"


def _parts_notes(found: Sequence[Planned]) -> Iterator[str]:
    if any(each.loading_members < len(each.networks) for each in found):
        yield "Loading: making networks, of those members that predict has measured it of; n/a where it has of none."
    yield from dict.fromkeys(f"Overhead: of the launcher; {each.overhead}." for each in found)
    if any(each.read_bytes is None for each in found):
        yield "Read, n/a: no run of predict says how large images are; give --image-mb."


def hours(value: float) -> str:
    """Hours with three digits that matter.

    >>> hours(1234.5), hours(12.34), hours(0.0123)
    ('1,234', '12.3', '0.012')
    """
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def gigabytes(value: float) -> str:
    """Bytes in GB (10**9).

    >>> gigabytes(43_200_000), gigabytes(43.2e9), gigabytes(0)
    ('0.043', '43.2', '0')
    """
    if value >= 10e9:
        return f"{value / 1e9:,.1f}"
    return f"{value / 1e9:.2f}" if value >= 0.1e9 else f"{value / 1e9:.3f}" if value else "0"
