"""What each row of `benchmarks.bench_gpu` is measured by, in a process of its own."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from zoo.runtime import Precision

WARM, PASSES = 10, 40
"""Passes of timm's script, to warm up and to time."""

_LOW = {"bf16": "bfloat16", "fp16": "float16"}
_COMPARED = 32
"""Images that decoders are compared on."""


class Row(NamedTuple):
    """What is measured: `timm`, `forward`, `predict` or `decode`.

    Attributes:
        what: Which of them.
        precision: What it computes in.
        compiled: Whether `torch.compile` ran over the network.
        batch: Images or views at a time, as asked for; 0 where there is none.
    """

    what: str
    precision: Precision
    compiled: bool
    batch: int = 0


def measured(row: Row, given: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process."""
    if row.what == "timm":
        return timm_rate(given.system, row.precision, row.batch, given.device)
    if row.what == "forward":
        return forward_rate(given.system, row, row.batch, given.device)
    if row.what == "predict":
        return predict_rates(given.system, row, given)
    return decoders(given.images, given.system, given.device)


def timm_rate(
    system: str, precision: Precision, batch: int, device: Literal["cpu", "cuda"]
) -> dict[str, Any]:
    """Images per second of a system's backbone alone, by the method of timm's script.

    Raises:
        MachineError: The device has no such precision.
    """
    import timm
    import torch

    import zoo
    from benchmarks.subject import backing_off
    from zoo.runtime import check

    check(device, precision)
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
    from evaluate.jobs import untrained
    from evaluate.launchers.base import cores
    from evaluate.predict import Settings, predict
    from evaluate.testset import read_test_set

    card = zoo.card(system)
    job = untrained(card, 0, members=[card.members[0].name], folds=[0], number_of_views=given.views)
    settings = Settings(
        device=given.device, precision=row.precision, batch_size=row.batch, workers=given.workers, drift=0,
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
    (used,) = found.metadata["batch_sizes"].values()
    return {
        "rate": len(test_set.images) * views / seconds,
        "going": going(marks, batch_images(given.device, min(used), views), views),
        "batch": min(used),
    }


def batch_images(device: Literal["cpu", "cuda"], batch: int, views: int) -> int:
    """Images whose results `predict` has at once: those of a batch's units on a GPU, of one unit on a CPU."""
    from evaluate.compute import TOGETHER
    from evaluate.units import SHARD

    return SHARD * max(1, batch // (SHARD * views)) if TOGETHER[device] else SHARD


def going(marks: Sequence[tuple[float, int]], first: int, views: int) -> float | None:
    """Views per second after the first batch; None where there is no other.

    Args:
        marks: When so many images were done, in order. All units of a batch are so at once.
        first: Images of the first batch.
        views: Of each image.

    >>> going([(0.0, 0), (9.0, 16), (9.0, 32), (10.0, 48), (10.0, 64)], 32, 2)
    64.0
    """
    last, every = marks[-1]
    begun = [(when, done) for when, done in marks if done >= first]
    if not begun or begun[0][1] == every:
        return None
    when, done = begun[0]
    return (every - done) * views / (last - when)


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
