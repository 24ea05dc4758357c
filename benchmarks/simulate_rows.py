"""How much memory files of many images take: made-up scores of five trainings, and links to a few small images.

    python -m benchmarks.simulate_rows --images 40000 400000

Prints a Markdown table, each row of a process of its own:

- csv: the published layout from a file of predictions, as `predict --csv` writes it.
- drift: how far scores are from those in single precision of eight images, as `predict` measures it.
- scores: what `compare` reads, of five systems in place of five trainings.
- folder: reading and checking a folder of images without a table (`read_test_set`).

*Peak* is the resident memory of the process at its highest, *before* what it had when all was imported.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

import zoo
from evaluate.drifting import measure
from evaluate.prediction_file import read_rows, write_rows
from evaluate.predictions import Predictions, find
from evaluate.published import write_published
from evaluate.testset import read_test_set

AT_A_TIME = 8192
TRAININGS = 5


def scores(system: str, count: int, folds: range) -> Iterator[pd.DataFrame]:
    """Rows of some trainings of a system's first member."""
    member = zoo.card(system).members[0].name
    for fold in folds:
        random = np.random.default_rng(fold)
        for start in range(0, count, AT_A_TIME):
            ids = [f"I_{number:07d}" for number in range(start, min(start + AT_A_TIME, count))]
            yield pd.DataFrame(
                {"image": ids, "member": member, "fold": fold, "score": random.random(len(ids))}
            )


def prepare(place: Path, count: int) -> None:
    """The files of so many images."""
    from benchmarks.simulate_launchers import link  # with torch, which what is measured does without

    names = [name for name in zoo.systems() if zoo.card(name).members][:TRAININGS]
    files = {"one.parquet": (names[0], range(TRAININGS))}
    files |= {f"systems/{name}.parquet": (name, range(1)) for name in names}
    for folder in ("systems", "images"):
        (place / folder).mkdir()
    for file, (name, folds) in files.items():
        rows = scores(name, count, folds)
        write_rows(rows, place / file, system=name, kind="probability", metadata={})
    link(place / "images", count)


def published(place: Path) -> None:
    """The published layout."""
    write_published(place / "one.parquet", None, place / "one.csv")


def drift(place: Path) -> None:
    """Drift of the first eight images."""
    columns = ["image", "member", "fold", "score"]
    parts = [part[part["image"] < "I_0000008"] for part in read_rows(place / "one.parquet", columns)]
    exact = Predictions(system="one", kind="probability", table=pd.concat(parts, ignore_index=True))
    measure(read_rows(place / "one.parquet", columns), exact, None)


def systems(place: Path) -> None:
    """All scores of several systems, which stay in memory."""
    find(place / "systems")


def images(place: Path) -> None:
    """The images of a folder."""
    read_test_set(place / "images")


WHAT: dict[str, Callable[[Path], None]] = {
    "csv": published,
    "drift": drift,
    "scores": systems,
    "folder": images,
}


def measured(what: str, place: Path) -> tuple[float, float, float]:
    """Seconds, and MiB before and at the peak."""
    before, start = _peak(), time.perf_counter()
    WHAT[what](place)
    return time.perf_counter() - start, before, _peak()


def _peak() -> float:
    unit = 2**10 if sys.platform == "linux" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main(words: Sequence[str] | None = None) -> None:
    """Measures, and prints the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--images", type=int, nargs="+", default=[40_000])
    given = asked.parse_args(words)
    print("| what | images | seconds | before, MiB | peak, MiB |\n|:--|--:|--:|--:|--:|", flush=True)
    fresh = multiprocessing.get_context("spawn")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        for count in given.images:
            place = Path(name) / str(count)
            place.mkdir()
            # A process begins with the peak of the one that started it.
            with ProcessPoolExecutor(1, fresh) as pool:
                pool.submit(prepare, place, count).result()
            for what in WHAT:
                with ProcessPoolExecutor(1, fresh) as pool:
                    seconds, before, peak = pool.submit(measured, what, place).result()
                print(f"| {what} | {count:,} | {seconds:.1f} | {before:.0f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
