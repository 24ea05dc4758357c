"""What a GPU could do, what the forward passes reach, and what `predict` leaves of it, on JPEG files.

    python -m benchmarks.bench_gpu --images DIR

For one backbone, batch and precision after another, in fresh processes, in turn:

* timm: the backbone alone, as timm's `benchmark.py --bench inference --channels-last` measures it (with
  `--amp` for bf16 and fp16). It is written again here by that script's method, since timm's package does not have
  it: seeded normal pixels on the device, cuDNN's choice of kernels by time, 10 passes to warm up, then the
  images of 40 passes over their time, each waited for. TensorFloat-32 is on for tf32 alone, in all rows.
* forward: the network as `predict` runs it, by the same loop; then under `torch.compile`.
* predict: from files to probabilities, with random weights. *Whole* is everything, with reading and checking the
  files, making the network, and compiling it; *going* is what comes after the first batch.

The second table has what threads of the processor decode and resize, and torchvision's decoder (nvJPEG on a
GPU) beside it, with how far its pixels are from those that `predict` takes. Nothing is judged. The tables are printed,
and written to `predict.md` in the folder of `make gpu`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import limited
from benchmarks.bench_gpu_rates import Row, measured
from zoo.errors import InputError, MachineError, MelanomaZooError

SYSTEM = "baseline_b3"

COUNT = {"cuda": 8192, "cpu": 1024}
"""Files by default: a quick GPU is through with a thousand in less than a second."""

BATCH = {"cuda": 256, "cpu": 16}
ROUNDS = 3
QUICK = 8
"""Of so many files one is taken by `--quick`, and one round."""

_JPEG = (".jpg", ".jpeg")


def copies(sources: Sequence[Path], count: int, folder: Path) -> None:
    """So many different files of some JPEG images: bytes that no decoder reads stand behind each.

    Raises:
        InputError: One of the images cannot be read.
        MachineError: There is no room for them.
    """
    try:
        folder.mkdir()
        for number in range(count):
            content = _content(sources[number % len(sources)])
            (folder / f"{number:06d}.jpg").write_bytes(content + b"%d" % number)
    except OSError as error:
        raise MachineError(
            f"{folder.parent}: {count:,} image files: {error.strerror}; name another place for them with TMPDIR, "
            "or take fewer with --count of python -m benchmarks.bench_gpu"
        ) from error


def _content(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        raise InputError(f"{image}: cannot be read: {error.strerror}; take it out of the folder") from error


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for: by these words, or those of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files; made-up ones without it")
    parser.add_argument(
        "--count", type=int, help="files, 8192 by default, 1024 on a CPU; given ones are repeated, each a file of its own"
    )  # fmt: skip
    parser.add_argument("--system", default=SYSTEM, help="whose first network is taken")
    parser.add_argument("--batch", type=int, help="256 by default, 16 on a CPU")
    parser.add_argument("--views", type=int, default=1, help="the first views of the published sequence")
    parser.add_argument("--precisions", nargs="+", help="by default tf32 and bf16; bf16 on a CPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=int, help="threads that decode; the cores by default")
    parser.add_argument("--rounds", type=int, help="3 by default")
    parser.add_argument("--quick", action="store_true", help="one round, and an eighth of the files")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--output", type=Path, help="file of the tables; predict.md in the folder of make gpu without it"
    )
    parser.add_argument("--limit", type=int, default=1800, help="seconds for a process")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "PRECISION", "0|1"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.count = given.count or COUNT[given.device] // (QUICK if given.quick else 1)
    given.batch = given.batch or BATCH[given.device]
    given.rounds = given.rounds or (1 if given.quick else ROUNDS)
    return given


def main(words: Sequence[str] | None = None) -> None:
    """Measures in turn, prints the tables and writes them.

    Where a package is missing that `predict` needs, or no JPEG file is among the images, that is said, and nothing is
    measured: `make gpu` goes on without.

    Args:
        words: As on a command line; those of this process where None.

    Raises:
        MelanomaZooError: There is no such system or folder, the device is not there, or files cannot be written.
    """
    given = arguments(words)
    if given.measure:
        what, precision, compiled = given.measure
        print(json.dumps(measured(Row(what, precision, compiled == "1", given.batch), given)))
        return
    from reports.pixels import lacking

    if why := lacking("evaluate.predict", "evaluate.testset", what="predict"):
        print(f"bench_gpu: not run: {why}", file=sys.stderr)
        return
    from reports.gpu import results
    from zoo.files import make_folder, write
    from zoo.runtime import resolve

    resolve(given.device)
    rows = wanted(given, fitting(given))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        real = given.images is not None
        sources = images(given.images, place)
        if not sources:
            print(f"bench_gpu: not run: {given.images} holds no JPEG file", file=sys.stderr)
            return
        output = given.output or results(given.device) / "predict.md"
        make_folder(output.parent)
        copies(sources, given.count, place / "images")
        given.images = place / "images"
        found: dict[Row, list[dict[str, Any]]] = {row: [] for row in rows}
        for number in range(given.rounds):
            for row in rows if number == 0 else rows[:-1]:  # decoders once
                found[row].append(fresh(row, given, place / f"kept-{number}"))
    text = report(found, given, real)
    write(output, text)
    print(text, end="")
    print(f"wrote {output}", file=sys.stderr)


def images(folder: Path | None, place: Path) -> list[Path]:
    """The JPEG files of a folder, in order; made up at a place where there is no folder.

    Raises:
        InputError: There is no such folder.
    """
    from reports.pixels import made_up

    if folder is None:
        return list(map(Path, made_up(place, 0)))
    if not folder.is_dir():
        raise InputError(f"--images {folder}: there is no such folder")
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in _JPEG and each.is_file())


def fitting(given: argparse.Namespace) -> int:
    """Views that `predict` passes at a time: what is asked for; on a CPU all of one unit where those are fewer."""
    import zoo
    from evaluate.compute import TOGETHER
    from evaluate.jobs import untrained
    from evaluate.units import SHARD

    job = untrained(zoo.card(given.system), 0, folds=[0], number_of_views=given.views)
    return given.batch if TOGETHER[given.device] else min(given.batch, SHARD * job.card.views.distinct)


def wanted(given: argparse.Namespace, batch: int) -> list[Row]:
    """The rows, in the order of the table; `batch` is that of predict."""
    ways = (False,) if given.no_compile else (False, True)
    rows = []
    for precision in given.precisions or (["tf32", "bf16"] if given.device == "cuda" else ["bf16"]):
        rows.append(Row("timm", precision, False, given.batch))
        for way in ways:
            rows += [Row("forward", precision, way, each) for each in dict.fromkeys((given.batch, batch))]
            rows.append(Row("predict", precision, way, batch))
    return [*rows, Row("decode", "", False)]


def fresh(row: Row, given: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """The answer of a fresh process; `error` where it has none."""
    words = ["--measure", row.what, row.precision, str(int(row.compiled))]
    for name in ("images", "system", "batch", "views", "device", "workers"):
        value = row.batch if name == "batch" and row.batch else getattr(given, name)
        words += [] if value is None else [f"--{name}", str(value)]
    environment = {**os.environ, "MELANOMA_ZOO_CACHE": str(kept / "-".join(map(str, row)))}
    done = limited.run([sys.executable, "-m", "benchmarks.bench_gpu", *words], given.limit, env=environment)
    if done.late:
        return {"error": f"not done after {given.limit} s"}
    if done.code:
        last = done.err.strip().splitlines()[-1:] or [f"exit code {done.code}"]
        return {"error": last[0][:200]}
    answer: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    print(*row, {key: value for key, value in answer.items() if value is not None}, file=sys.stderr)
    return answer


def report(found: dict[Row, list[dict[str, Any]]], given: argparse.Namespace, real: bool) -> str:
    """The tables, as Markdown."""
    import zoo
    from benchmarks.machine import fingerprint

    machine, member = fingerprint(), zoo.card(given.system).members[0]
    files = "JPEG files" if real else "made-up JPEG files of 1024×768 px"
    lines = [
        f"# predict beside timm's benchmark{' (quick)' if given.quick else ''}\n",
        f"`python -m benchmarks.bench_gpu`: {given.system}, {member.backbone} at {member.size} px, random weights, "
        f"{given.count:,} {files},",
        f"{given.views} {'view' if given.views == 1 else 'views'} of each, on {given.device}; every row in a fresh "
        f"process, {given.rounds} in turn, medians (range).\n",
        f"{', '.join(machine.gpus) or 'no GPU'}; {machine.cpu}, {machine.cores} cores; driver "
        f"{machine.driver or 'n/a'}, {machine.os}, Python {machine.python}, torch {machine.torch}, timm {machine.timm}.\n",
        "| precision | what | batch | views/s | of timm's | of the forward rate |",
        "|:--|:--|--:|--:|--:|--:|",
    ]
    for row, answers in found.items():
        if row.what == "decode":
            continue
        base = next(found[each] for each in found if (each.what, each.precision) == ("timm", row.precision))
        own = found[row._replace(what="forward")] if row.what != "timm" else None
        for key, name in {"rate": _NAMES[row.what], **({"going": "predict, going"} if row.what == "predict" else {})}.items():  # fmt: skip
            said = f"{name}{', compiled' if row.compiled else ''}"
            lines.append(f"| {row.precision} | {said} | {_cells(answers, key, base, own)} |")
    least = min(row.batch for row in found if row.what == "predict")
    if least < given.batch:
        lines.append(
            f"\npredict passes {least} views at a time, those of one unit of images; its rates are shares of forward "
            "passes of that batch, and timm's are of the batch that was asked for."
        )
    (decoded, *_) = found[Row("decode", "", False)]
    return "\n".join([*lines, "", *_decoders(decoded, given.device), ""])


_NAMES = {"timm": "timm: the backbone alone", "forward": "forward", "predict": "predict, whole"}


def _cells(
    answers: list[dict[str, Any]], key: str, base: list[dict[str, Any]], own: list[dict[str, Any]] | None
) -> str:
    """Batch, rate with its range, and its shares of two others."""
    failed = [answer["error"].replace("|", "/") for answer in answers if "error" in answer]
    if len(failed) == len(answers):
        return f"– | n/a ({failed[0]}) | – | –"
    rates = [answer[key] for answer in answers if answer.get(key)]
    if not rates:
        return f"{_batches(answers)} | n/a (all images go through at once) | – | –"
    median = statistics.median(rates)
    lost = f" [{len(failed)} of {len(answers)} rounds failed: {failed[0]}]" if failed else ""
    cells = f"{_batches(answers)} | {median:,.1f} ({min(rates):,.1f}–{max(rates):,.1f}){lost}"
    alike = not own or _batches(own) in ("", _batches(answers))
    # Where memory did not suffice for one of them, they are no longer of one batch.
    return f"{cells} | {_share(median, base)} | {_share(median, own) if alike else f'– (forward at {_batches(own or [])})'}"


def _batches(answers: Sequence[dict[str, Any]]) -> str:
    """Batches that were used; one, unless memory sufficed for less in some rounds."""
    return ", ".join(map(str, sorted({answer["batch"] for answer in answers if "batch" in answer})))


def _share(rate: float, others: list[dict[str, Any]] | None) -> str:
    known = [answer["rate"] for answer in others or () if "rate" in answer]
    return f"{rate / statistics.median(known):.2f}" if known else "–"


def _decoders(answer: dict[str, Any], device: str) -> list[str]:
    if "error" in answer:
        return [f"Decoders: n/a ({answer['error']})."]
    lines = [
        "| decoder | images/s | largest pixel difference | mean |",
        "|:--|--:|--:|--:|",
        f"| {answer['threads']} threads, with the resize | {answer['rate']:,.1f} | 0 | 0 |",
    ]
    if "reason" in answer:
        return [*lines, f"| torchvision on {device} | n/a ({answer['reason'].replace('|', '/')}) | – | – |"]
    return [
        *lines,
        f"| torchvision on {device}, without it, over {answer['compared']} images | {answer['torchvision']:,.1f} "
        f"| {answer['largest']} | {answer['mean']:.3f} |",
    ]


if __name__ == "__main__":
    try:
        main()
    except MelanomaZooError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
