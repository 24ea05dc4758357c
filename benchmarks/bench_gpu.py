"""What a GPU could do, what the forward passes reach, and what `predict` leaves of it, on JPEG files.

    python -m benchmarks.bench_gpu --images DIR > benchmarks/results/gpu.md

For one backbone, batch and precision after another, in fresh processes, in turn:

* timm: the backbone alone, as timm's `benchmark.py --bench inference --channels-last` measures it (with
  `--amp` for bf16 and fp16). It is written again here by that script's method, since timm's package does not have
  it: seeded normal pixels on the device, cuDNN's choice of kernels by time, 10 passes to warm up, then the
  images of 40 passes over their time, each waited for. TensorFloat-32 is on for tf32 alone, in all rows.
* forward: the network as `predict` runs it, by the same loop; then under `torch.compile`.
* predict: from files to probabilities, with random weights. *Whole* is everything, with reading and checking the
  files, making the network, and compiling it; *going* is what comes after the first batch, or the first unit of images.

The second table has what threads of the processor decode and resize, and torchvision's decoder (nvJPEG on a
GPU) beside it, with how far its pixels are from those that `predict` takes. Nothing is judged.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from zoo.runtime import Precision

SYSTEM = "baseline_b3"
WARM, PASSES = 10, 40
"""Passes of timm's script, to warm up and to time."""

_LOW = {"bf16": "bfloat16", "fp16": "float16"}
_COMPARED = 32
"""Images that decoders are compared on."""


class Row(NamedTuple):
    """What is measured (`timm`, `forward`, `predict` or `decode`), in which precision, and whether compiled."""

    what: str
    precision: Precision
    compiled: bool


def measured(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process."""
    if row.what == "timm":
        return timm_rate(given.system, row.precision, given.batch, given.device)
    if row.what == "forward":
        return forward_rate(given.system, row, given.batch, given.device)
    if row.what == "predict":
        return predict_rates(given.system, row, given)
    return decoders(given.images, given.system, given.device)


def timm_rate(system: str, precision: str, batch: int, device: str) -> dict[str, Any]:
    """Images per second of a system's backbone alone, by the method of timm's script."""
    import timm
    import torch

    import zoo
    from benchmarks.subject import backing_off

    member = zoo.card(system).members[0]
    # That script lets cuDNN choose by time, which `predict` does not: another run may choose otherwise.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    network = timm.create_model(member.backbone, num_classes=len(member.classes)).eval().to(device)
    network = network.to(memory_format=torch.channels_last)
    low = getattr(torch, _LOW.get(precision, ""), None)

    def attempt(count: int) -> float:
        images = pixels(count, member.size, device)
        with torch.no_grad(), torch.autocast(device, dtype=low, enabled=low is not None):
            return rate(lambda: network(images), count, device)

    found, used = backing_off(batch, attempt)
    return {"rate": found, "batch": used}


def forward_rate(system: str, row: Row, batch: int, device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    """Views per second of a system's first network as `predict` prepares it, without pixels to prepare."""
    import torch

    import zoo
    from benchmarks.subject import backing_off
    from evaluate.forward import Forward
    from evaluate.jobs import untrained
    from evaluate.loading import network
    from zoo.runtime import arithmetic, tune_allocator

    tune_allocator()
    card = zoo.card(system)
    member = card.members[0]
    (training,) = untrained(card, 0, members=[member.name], folds=[0]).trainings
    made = network(training, zoo.builder(system))

    def attempt(count: int) -> float:
        ready = Forward(
            made, member, device=device, precision=row.precision, batch_size=count, compiled=row.compiled
        ).network  # fmt: skip
        inputs = [pixels(count, member.size, device)]
        if member.metadata:
            inputs.append(torch.zeros(count, member.metadata.features, device=device))
        with arithmetic(device, row.precision):
            return rate(lambda: ready(*inputs), count, device)

    found, used = backing_off(batch, attempt)
    return {"rate": found, "batch": used}


def pixels(count: int, size: int, device: str) -> Any:
    """Seeded normal pixels on the device, channels last."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(count, 3, size, size, generator=generator, device=device)
    return images.to(memory_format=torch.channels_last)


def rate(step: Callable[[], object], batch: int, device: str) -> float:
    """Images per second of a step: after `WARM` of them, over `PASSES` of which each is waited for."""
    import torch

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM):
        step()
        wait()
    start = time.perf_counter()
    for _ in range(PASSES):
        step()
        wait()
    return PASSES * batch / (time.perf_counter() - start)


def predict_rates(system: str, row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """Views per second of `predict`, with an empty folder of kept results: of all of it, and while it is going."""
    import zoo
    from evaluate.compute import TOGETHER
    from evaluate.jobs import untrained
    from evaluate.launchers.base import cores
    from evaluate.predict import Settings, predict
    from evaluate.testset import read_test_set
    from evaluate.units import SHARD

    card = zoo.card(system)
    job = untrained(card, 0, members=[card.members[0].name], folds=[0], number_of_views=given.views)
    settings = Settings(
        device=given.device, precision=row.precision, batch_size=given.batch, workers=given.workers, drift=0,
        compiled=row.compiled,
    )  # fmt: skip
    marks: list[tuple[float, int]] = []
    start = time.perf_counter()
    test_set = read_test_set(given.images, workers=given.workers or cores())
    (found,) = predict(
        [job], test_set, settings, lambda _, done, __: marks.append((time.perf_counter(), done))
    )
    seconds = time.perf_counter() - start
    views = job.card.views.distinct
    last, every = marks[-1]
    (used,) = found.metadata["batch_sizes"].values()
    # Units that share a batch come at the same time.
    together = math.ceil(min(used) / (SHARD * views)) if TOGETHER[given.device] else 1
    first, some = next(mark for mark in marks if mark[1] >= min(together * SHARD, every))
    return {
        "rate": len(test_set.images) * views / seconds,
        "going": (every - some) * views / (last - first) if every > some else None,
        "batch": min(used),
    }


def decoders(images: Path, system: str, device: str) -> dict[str, Any]:
    """Images per second that each decoder reaches, and how far torchvision's pixels are from those of `predict`."""
    import numpy as np
    import torch

    import zoo
    from evaluate.decoding import Decoder
    from evaluate.images import decode
    from evaluate.launchers.base import cores
    from evaluate.preprocess import Geometry
    from evaluate.testset import read_test_set

    card = zoo.card(system)
    geometry = Geometry.of(card.members[0], card.views)
    found = read_test_set(images, workers=cores()).images
    with closing(Decoder(cores())) as decoder:
        before = time.perf_counter()
        ready = decoder.start({index: (image, [geometry]) for index, image in enumerate(found)})
        for index in range(len(found)):
            ready(index)
        threads = len(found) / (time.perf_counter() - before)
    answer: dict[str, Any] = {"threads": cores(), "rate": threads}
    try:
        from torchvision.io import ImageReadMode, decode_jpeg

        some = [
            torch.frombuffer(bytearray(image.path.read_bytes()), dtype=torch.uint8)
            for image in found[:_COMPARED]
        ]
        with warnings.catch_warnings():  # It is to move to another package one day.
            warnings.simplefilter("ignore")
            decode_jpeg(some, ImageReadMode.RGB, device=device)  # what is set up at first is not timed
            before = time.perf_counter()
            theirs = decode_jpeg(some, ImageReadMode.RGB, device=device)
            if device == "cuda":
                torch.cuda.synchronize()
        seconds = time.perf_counter() - before
    except (ImportError, RuntimeError) as error:
        return {**answer, "reason": " ".join(str(error).split())[:120]}
    apart = [
        np.abs(decode(image.path).astype(np.int16) - their.permute(1, 2, 0).cpu().numpy())
        for image, their in zip(found, theirs, strict=False)
    ]
    return {
        **answer,
        "torchvision": len(some) / seconds,
        "compared": len(some),
        "largest": max(int(each.max()) for each in apart),
        "mean": float(np.mean([each.mean() for each in apart])),
    }


def copies(sources: Sequence[Path], count: int, folder: Path) -> None:
    """So many different files of some JPEG images: bytes that no decoder reads stand behind each."""
    folder.mkdir()
    for number in range(count):
        content = sources[number % len(sources)].read_bytes()
        (folder / f"{number:06d}.jpg").write_bytes(content + b"%d" % number)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files; made-up ones without it")
    parser.add_argument("--count", type=int, default=1024, help="files; given ones are repeated")
    parser.add_argument("--system", default=SYSTEM, help="whose first network is taken")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--views", type=int, default=1, help="the first views of the published sequence")
    parser.add_argument("--precisions", nargs="+", help="by default tf32 and bf16; bf16 on a CPU")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--workers", type=int, help="threads that decode; the cores by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, help="write the tables to this file too")
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "PRECISION", "0|1"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measures in turn, and prints the tables."""
    given = arguments()
    if given.measure:
        what, precision, compiled = given.measure
        print(json.dumps(measured(Row(what, precision, compiled == "1"), given)))
        return
    try:
        from evaluate import predict  # noqa: F401
        from reports.pixels import made_up
        from zoo.errors import MelanomaZooError
        from zoo.files import write
        from zoo.runtime import resolve
    except ModuleNotFoundError as error:
        # Not a failure of `make gpu`, which a machine may run that has little else than torch.
        print(f"bench_gpu: not run, since it needs {error.name}; pip install melanoma-zoo", file=sys.stderr)
        return
    try:
        resolve(given.device)
        rows = wanted(given)
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            real = given.images is not None
            folder = given.images if real else place
            sources = sorted(folder.glob("*.jpg")) if real else list(map(Path, made_up(place, 0)))
            if not sources:
                sys.exit(f"{folder}: holds no .jpg file; name a folder of images")
            copies(sources, given.count, place / "images")
            given.images = place / "images"
            found: dict[Row, list[dict[str, Any]]] = {row: [] for row in rows}
            for number in range(given.rounds):
                for row in rows if number == 0 else rows[:-1]:  # decoders once
                    found[row].append(fresh(row, given, place / f"kept-{number}"))
        text = report(found, given, real)
        if given.output:
            write(given.output, text)
    except MelanomaZooError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(text, end="")


def wanted(given: argparse.Namespace) -> list[Row]:
    """The rows, in the order of the table."""
    ways = (False,) if given.no_compile else (False, True)
    rows = []
    for precision in given.precisions or (["tf32", "bf16"] if given.device == "cuda" else ["bf16"]):
        rows += [Row("timm", precision, False)]
        rows += [Row(what, precision, way) for way in ways for what in ("forward", "predict")]
    return [*rows, Row("decode", "", False)]


def fresh(row: Row, given: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """The answer of a fresh process; `error` where it has none."""
    words = ["--measure", row.what, row.precision, str(int(row.compiled))]
    for name in ("images", "system", "batch", "views", "device", "workers"):
        value = getattr(given, name)
        words += [] if value is None else [f"--{name}", str(value)]
    environment = {**os.environ, "MELANOMA_ZOO_CACHE": str(kept / "-".join(map(str, row)))}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.bench_gpu", *words],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {"error": last[0][:200]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(*row, {key: value for key, value in answer.items() if value is not None}, file=sys.stderr)
    return answer


def report(found: dict[Row, list[dict[str, Any]]], given: argparse.Namespace, real: bool) -> str:
    """The tables, as Markdown."""
    import zoo
    from benchmarks.machine import fingerprint

    machine, member = fingerprint(), zoo.card(given.system).members[0]
    files = "JPEG files" if real else "made-up JPEG files of 1024×768 px"
    lines = [
        "# predict beside timm's benchmark\n",
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
        base = found[Row("timm", row.precision, False)]
        own = found[Row("forward", row.precision, row.compiled)] if row.what != "timm" else None
        for key, name in {"rate": _NAMES[row.what], **({"going": "predict, going"} if row.what == "predict" else {})}.items():  # fmt: skip
            said = f"{name}{', compiled' if row.compiled else ''}"
            lines.append(f"| {row.precision} | {said} | {_cells(answers, key, base, own)} |")
    (decoded, *_) = found[Row("decode", "", False)]
    return "\n".join([*lines, "", *_decoders(decoded, given.device), ""])


_NAMES = {"timm": "timm: the backbone alone", "forward": "forward", "predict": "predict, whole"}


def _cells(
    answers: list[dict[str, Any]], key: str, base: list[dict[str, Any]], own: list[dict[str, Any]] | None
) -> str:
    """Batch, rate with its range, and its shares of two others."""
    if failed := [answer["error"] for answer in answers if "error" in answer]:
        return f"– | n/a ({failed[0].replace('|', '/')}) | – | –"
    rates = [answer[key] for answer in answers if answer[key]]
    if not rates:
        return f"{answers[0]['batch']} | n/a (all images go through at once) | – | –"
    median = statistics.median(rates)
    shares = [
        f"{median / statistics.median(known):.2f}"
        if (known := [answer["rate"] for answer in other or () if "rate" in answer])
        else "–"
        for other in (base, own)
    ]
    cells = f"{answers[0]['batch']} | {median:,.1f} ({min(rates):,.1f}–{max(rates):,.1f})"
    return f"{cells} | {shares[0]} | {shares[1]}"


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
    main()
