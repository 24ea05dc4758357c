"""Our `predict` against a plain loop as the published script has it, on real images.

    python -m benchmarks.bench_predict --images DIR --count 40 --rounds 3

Prints a Markdown table. Both run the same network (SGE-B3, one fold, all ten published views, of which
ours computes the eight distinct ones) with the same seeded weights on the same images, each time in a
fresh process, one after another in turn. A time is everything from the files to probabilities: building
the network, loading its weights, decoding, all views. The table names what was measured on what.
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
from typing import Any

SYSTEM = "sge_b3"
LOOP_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
PUBLISHED_BATCH = 128


def loop(files: list[Path], weights: Path, batch_size: int, device: str, precision: str) -> Any:
    """The published procedure: fp32, NCHW, ten views one after another.

    cv2 and albumentations decode in the workers of a DataLoader.
    """
    import albumentations
    import cv2
    import torch
    from torch.utils.data import DataLoader, Dataset

    import zoo

    member = zoo.card(SYSTEM).member()

    class Images(Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.transform = albumentations.Compose(
                [albumentations.Resize(member.size, member.size), albumentations.Normalize()]
            )

        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> torch.Tensor:
            image = cv2.cvtColor(cv2.imread(str(files[index])), cv2.COLOR_BGR2RGB)
            return torch.tensor(self.transform(image=image)["image"].transpose(2, 0, 1)).float()

    def view(image: torch.Tensor, number: int) -> torch.Tensor:
        if number >= 4:
            image = image.transpose(2, 3)
        flips = {0: (), 1: (2,), 2: (3,), 3: (2, 3)}[number % 4]
        return image.flip(flips) if flips else image

    network = zoo.build(SYSTEM)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.to(device).eval()
    loader = DataLoader(Images(), batch_size=batch_size, num_workers=os.cpu_count() or 1)
    found = []
    # What stands as fp32 is fp32 on a GPU too, as in `predict`.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    with torch.no_grad(), torch.autocast(device, dtype=low, enabled=low is not None):
        for images in loader:
            given = images.to(device)
            total = torch.zeros(len(given), len(member.classes), device=device)
            for number in range(10):
                total += network(view(given, number)).softmax(1)
            found += (total / 10)[:, member.melanoma].cpu().tolist()
    return found


def ours(files: list[Path], weights: Path, batch_size: int | None, device: str, precision: str) -> Any:
    """`predict` of this project, with an empty folder of kept results."""
    import zoo
    from evaluate.jobs import trained
    from evaluate.predict import Settings, predict
    from evaluate.testset import read_test_set
    from weights.files import WeightFile

    card = zoo.card(SYSTEM)
    test_set = read_test_set(files[0].parent)
    job = trained(card, [WeightFile(member=card.member().name, fold=0, path=weights)])
    settings = Settings(device=device, precision=precision, batch_size=batch_size)  # type: ignore[arg-type]
    (found,) = predict([job], test_set, settings)
    return found.table["score"].tolist()


def measure(what: str, files: list[Path], weights: Path, batch: int, device: str, precision: str) -> None:
    """Runs one of them in this process, and prints its time, peak memory and probabilities as JSON."""
    import albumentations  # noqa: F401 (imports are not measured)
    import pandas  # noqa: F401
    import timm  # noqa: F401
    import torch

    run = loop if what == "loop" else ours
    start = time.perf_counter()
    probabilities = run(files, weights, batch or None, device, precision)  # type: ignore[arg-type]
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "probabilities": probabilities}))


def fresh(*words: object, cache: str) -> dict[str, Any]:
    """The answer of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_predict", *map(str, words)]
    environment = {**os.environ, "MELANOMA_ZOO_CACHE": cache, "NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)  # noqa: S603
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    """Measures in turn, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of real images")
    parser.add_argument("--count", type=int, default=40, help="images taken")
    parser.add_argument("--rounds", type=int, default=3, help="repeats of each")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=LOOP_BATCHES, help="of the loop")
    parser.add_argument(
        "--measure", nargs=4, metavar=("WHAT", "WEIGHTS", "BATCH", "PRECISION"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    files = sorted(file for file in given.images.iterdir() if file.suffix == ".jpg")[: given.count]
    if given.measure:
        what, weights, batch, precision = given.measure
        measure(what, files, Path(weights), int(batch), given.device, precision)
        return
    import torch

    import zoo
    from benchmarks.machine import fingerprint
    from weights.untrained import enliven

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "images").mkdir()
        for file in files:
            (place / "images" / file.name).symlink_to(file.resolve())
        network = zoo.build(SYSTEM, seed=0)
        enliven(network, 0)
        torch.save(network.state_dict(), place / "weights.pth")
        variants = [("loop", batch, "fp32") for batch in given.batches]
        variants += [("ours", 0, "fp32"), ("ours", 0, "bf16")]
        found: dict[tuple[str, int, str], list[dict[str, Any]]] = {variant: [] for variant in variants}
        for number in range(given.rounds):
            for variant in variants:
                what, batch, precision = variant
                answer = fresh(
                    "--images", place / "images", "--device", given.device, "--measure", what,
                    place / "weights.pth", batch, precision, cache=str(place / f"kept-{number}"),
                )  # fmt: skip
                found[variant].append(answer)
                print(variant, f"{answer['seconds']:.1f} s", file=sys.stderr, flush=True)
    _report(found, len(files), given, fingerprint())


def _report(
    found: dict[tuple[str, int, str], list[dict[str, Any]]], count: int, given: Any, machine: Any
) -> None:
    own = statistics.median(each["seconds"] for each in found["ours", 0, "fp32"])
    exact = found["ours", 0, "fp32"][0]["probabilities"]
    print(
        f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.gpus) or 'no GPU'}; Python {machine.python}, torch {machine.torch},"
    )
    print(f"timm {machine.timm}. {count} images, {given.rounds} rounds in turn, medians (range).\n")
    print(
        "| what | batch | precision | seconds | images/s | ours fp32 is faster by | peak memory, MiB | max difference of p |"
    )
    print("|:--|--:|:--|--:|--:|--:|--:|--:|")
    for (what, batch, precision), answers in found.items():
        times = [each["seconds"] for each in answers]
        median = statistics.median(times)
        peak = max(each["peak_mib"] for each in answers)
        apart = max(abs(a - b) for a, b in zip(answers[0]["probabilities"], exact, strict=True))
        print(
            f"| {'published loop' if what == 'loop' else 'predict'} | {batch or 'auto'} | {precision} "
            f"| {median:.1f} ({min(times):.1f}–{max(times):.1f}) | {count / median:.2f} | {median / own:.2f} "
            f"| {peak:,.0f} | {apart:.1e} |"
        )


if __name__ == "__main__":
    main()
