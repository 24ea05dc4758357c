"""All engines, precisions and batch sizes of `predict` against the published loop, on real images.

    python -m benchmarks.bench_engines --images DIR --labels TABLE > benchmarks/results/engines.md

One network (SGE-B3, one fold, the ten published views, of which `predict` computes the eight distinct
ones) with the same seeded weights on the same images, half of them melanomas where the table says so;
a fresh process for each row, one after another. A time is everything from the files to probabilities,
as in `benchmarks.bench_predict`. Exports are made and checked beforehand, as they are for the second run of a
user; what they cost stands below the table. CPU only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bench_predict import PUBLISHED_BATCH, SYSTEM, loop

PRECISIONS = {"torch": ("fp32", "bf16"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}


class Row(NamedTuple):
    """What is measured: the published `loop`, or an engine; how; and at which batch size (0: its own choice)."""

    what: str
    precision: str
    batch: int


def predicted(row: Row, images: Path, weights: Path) -> Any:
    """`predict` of this project in one way; a table of scores."""
    import zoo
    from evaluate.jobs import trained
    from evaluate.predict import Settings, predict
    from evaluate.testset import read_test_set
    from weights.files import WeightFile

    card = zoo.card(SYSTEM)
    job = trained(card, [WeightFile(member=card.member().name, fold=0, path=weights)])
    settings = Settings(
        device="cpu", precision=row.precision, batch_size=row.batch or None, engine=row.what, drift=0  # type: ignore[arg-type]
    )  # fmt: skip
    (found,) = predict([job], read_test_set(images), settings)
    return found.table["score"].tolist()


def prepared(row: Row, weights: Path) -> None:
    """Exports and checks the network for an engine, as `predict` will run it."""
    import zoo
    from evaluate.forward import Forward
    from weights import load
    from zoo.networks import assemble

    member = zoo.card(SYSTEM).member()
    Forward(
        load(assemble(member), weights).eval(), member, device="cpu", precision=row.precision,  # type: ignore[arg-type]
        batch_size=row.batch or None, engine=row.what,  # type: ignore[arg-type]
    )  # fmt: skip


def measure(row: Row, images: Path, weights: Path, only_prepare: bool) -> None:
    """Runs one row in this process, and prints its time, peak memory and probabilities as JSON."""
    import albumentations  # noqa: F401 (imports are not measured)
    import pandas  # noqa: F401
    import timm  # noqa: F401
    import torch  # noqa: F401

    start = time.perf_counter()
    scores: Any = []
    if only_prepare:
        prepared(row, weights)
    elif row.what == "loop":
        scores = loop(sorted(images.iterdir()), weights, row.batch, "cpu", row.precision)
    else:
        scores = predicted(row, images, weights)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "scores": scores}))


def fresh(row: Row, place: Path, *more: str) -> dict[str, Any]:
    """The answer of a fresh process, in which exports are kept and results are not."""
    for kept in (place / "kept").glob("probabilities-*"):
        kept.unlink()
    words = [*map(str, row), str(place / "images"), str(place / "weights.pth"), *more]
    command = [sys.executable, "-m", "benchmarks.bench_engines", "--measure", *words]
    environment = {**os.environ, "MELANOMA_ZOO_CACHE": str(place / "kept"), "NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(*row, *more, f"{answer['seconds']:.1f} s", file=sys.stderr, flush=True)
    return answer


def main() -> None:
    """Measures row after row, and prints the table."""
    if sys.argv[1:2] == ["--measure"]:
        what, precision, batch, images, weights, *more = sys.argv[2:]
        measure(Row(what, precision, int(batch)), Path(images), Path(weights), bool(more))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of real images")
    parser.add_argument("--labels", type=Path, help="their table, where it is not the folder's own")
    parser.add_argument("--count", type=int, default=40, help="images taken")
    parser.add_argument("--rounds", type=int, default=1, help="repeats of each row")
    parser.add_argument("--batches", type=int, nargs="+", default=[0, 1, 8], help="of predict; 0 is auto")
    parser.add_argument(
        "--loop-batches", type=int, nargs="*", default=[1, PUBLISHED_BATCH], help="of the loop"
    )
    given = parser.parse_args()
    import torch

    import zoo
    from evaluate.drifting import sample
    from evaluate.testset import read_test_set
    from weights.untrained import enliven
    from zoo.engines import check
    from zoo.errors import MachineError

    some = sample(read_test_set(given.images, given.labels), given.count)
    rows = [Row("loop", "fp32", batch) for batch in given.loop_batches]
    for engine, precisions in PRECISIONS.items():
        for precision in precisions:
            try:
                check(engine, "cpu", precision)  # type: ignore[arg-type]
            except MachineError as error:
                print(error, file=sys.stderr)
                continue
            rows += [Row(engine, precision, batch) for batch in given.batches]
    found: dict[Row, list[dict[str, Any]]] = {row: [] for row in rows}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "images").mkdir()
        # Their order is that of their names, in the loop and in predict.
        files = {f"{number:04d}": image for number, image in enumerate(some.images)}
        for number, image in files.items():
            (place / "images" / f"{number}{image.path.suffix}").symlink_to(image.path.resolve())
        network = zoo.build(SYSTEM, seed=0)
        enliven(network, 0)
        with torch.no_grad():  # so that probabilities of real images are neither 0 nor 1
            network.head.weight.mul_(0.25)
        torch.save(network.state_dict(), place / "weights.pth")
        exports: dict[str, float] = {}
        for row in rows:
            if row.what not in ("loop", "torch"):
                # The first makes the export; the others are checked in their own precision and batch.
                seconds = fresh(row, place, "prepare")["seconds"]
                exports.setdefault(row.what, seconds)
        for _ in range(given.rounds):
            for row in rows:
                found[row].append(fresh(row, place))
    _report(found, exports, some, given.rounds)


def _report(
    found: dict[Row, list[dict[str, Any]]], exports: dict[str, float], some: Any, rounds: int
) -> None:
    from benchmarks.machine import default_threads, fingerprint
    from zoo.engines import versions

    machine = fingerprint()
    packages: dict[str, str] = {}
    for engine in exports:
        packages |= versions(engine)  # type: ignore[arg-type]
    medians = {row: statistics.median(each["seconds"] for each in answers) for row, answers in found.items()}
    loops = {row: seconds for row, seconds in medians.items() if row.what == "loop"}
    best = min(loops, key=lambda row: loops[row], default=None)
    published = Row("loop", "fp32", PUBLISHED_BATCH)
    count = len(some.images)
    said = ", ".join(f"{package} {number}" for package, number in packages.items())
    print("# Engines on a CPU\n")
    print(
        f"`python -m benchmarks.bench_engines`: {SYSTEM}, one fold, {count} images, every row in a fresh process,"
    )
    print(
        f"{rounds} {'run' if rounds == 1 else 'runs, medians'}; weights are random, so drift is that of no trained network.\n"
    )
    print(
        f"A batch of more than {count} is one of {count}. Peak memory is that of the process itself, without the "
        "workers that the loop decodes in.\n"
    )
    print(
        f"{machine.cpu}, {machine.cores} cores, {default_threads()} threads, {machine.memory_gib} GiB; {machine.os},"
    )
    print(
        f"Python {machine.python}, torch {machine.torch}, timm {machine.timm}{', ' if said else ''}{said}.\n"
    )
    print(
        "| what | precision | batch | seconds | images/s | × loop at 128 | × loop at its best | peak MiB "
        "| max Δp | decisions changed | ROC-AUC difference (95%) |"
    )
    print("|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|:--|")
    exact = found.get(Row("torch", "fp32", min(row.batch for row in found if row.what == "torch")))
    for row, answers in found.items():
        seconds = medians[row]
        against = [
            f"{medians[other] / seconds:.2f}" if other in medians else "n/a"
            for other in (published, best or published)
        ]
        peak = max(each["peak_mib"] for each in answers)
        moved = _drift(answers[0]["scores"], exact[0]["scores"] if exact else None, some)
        what = "published loop" if row.what == "loop" else row.what
        print(
            f"| {what} | {row.precision} | {row.batch or 'auto'} | {seconds:.1f} | {count / seconds:.2f} "
            f"| {' | '.join(against)} | {peak:,.0f} | {moved} |"
        )
    print()
    for what, seconds in exports.items():
        print(f"Export and check for {what}, once for the same weights: {seconds:.1f} s.")


def _drift(scores: list[float], exact: list[float] | None, some: Any) -> str:
    """Cells that say how far scores are from those of torch in single precision."""
    import pandas as pd

    from evaluate.drifting import measure as moved
    from evaluate.predictions import Predictions

    if exact is None or scores is exact:
        return "– | – | –"
    ids = [image.id for image in some.images]
    own, reference = (
        Predictions(
            system=SYSTEM, kind="probability", path="",
            table=pd.DataFrame({"image": ids, "member": "", "fold": 0, "score": values}),
        )
        for values in (scores, exact)
    )  # fmt: skip
    one = moved([own.table], reference, some.labels)
    auc = f"n/a ({one.auc_reason})"
    if one.auc_difference is not None:
        auc = f"{one.auc_difference:+.4f}"
        auc += (
            f" ({one.auc_low:+.4f} to {one.auc_high:+.4f})" if one.auc_low is not None else " (ranks alike)"
        )
    return f"{one.max_difference:.1e} | {one.changed} of {one.images} at {one.threshold:.3g} | {auc}"


if __name__ == "__main__":
    main()
