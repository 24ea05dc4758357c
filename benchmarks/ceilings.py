"""What this machine can do at most: a large matrix product, a large convolution and a large copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.cells import Device, from_fields
from benchmarks.nvml import Watch
from benchmarks.others import Others
from benchmarks.subject import autocast, set_precision, settings, tune_allocator
from benchmarks.timing import sample, warm_up

Sizes = tuple[int, tuple[int, int, int], int]
"""Side of the matrices; images, channels and side of the 3x3 convolution; MiB of the copy."""

_SIZES: dict[Device, Sizes] = {"cpu": (2048, (8, 128, 56), 256), "cuda": (8192, (64, 256, 56), 2048)}
_QUICK: Sizes = (512, (2, 64, 28), 64)


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The highest rates seen in a device, precision and number of threads.

    Returns:
        `matmul` and `convolution` in FLOP/s, `copy` in bytes/s (read and written), `others`, `gpu` (clocks,
        reasons for slowing down, others on it), `settings`.
    """
    cell = from_fields(fields)
    variant, rules = cell.variant, cell.rules
    allocator, device = tune_allocator(), torch.device(cell.variant.device)
    torch.set_num_threads(variant.threads)
    set_precision(variant)
    torch.manual_seed(cell.seed)
    side, (images, channels, width), mib = sizes(variant.device, quick=rules.quick)
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    maps = torch.rand(images, channels, width, width, device=device)
    maps = maps.to(memory_format=torch.channels_last)
    kernels = torch.rand(channels, channels, 3, 3, device=device).to(memory_format=torch.channels_last)
    if variant.precision in ("bf16", "fp16"):
        half = torch.bfloat16 if variant.precision == "bf16" else torch.float16
        a, b, maps, kernels = (each.to(half) for each in (a, b, maps, kernels))
    source, target = (torch.rand(mib << 18, device=device) for _ in range(2))
    others = Others()

    def rate(work: Callable[[], object], amount: float) -> float:
        def step() -> None:
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        warm_up(step, rules)
        return amount / (min(sample(step, rules)) / 1e3)

    with torch.inference_mode(), autocast(variant), Watch(device) as watch:
        found = {
            "matmul": rate(lambda: torch.mm(a, b), 2 * side**3),
            "convolution": rate(
                lambda: torch.conv2d(maps, kernels, padding=1), 2 * images * width**2 * 9 * channels**2
            ),
            "copy": rate(lambda: target.copy_(source), 2 * source.nbytes),
        }
        share = others.share()
    return {**found, "others": share, "gpu": watch.seen(), "settings": settings(variant, allocator)}


def sizes(device: Device, *, quick: bool) -> Sizes:
    """How large the work is; less only on a CPU, since a GPU is done with little before the next is started."""
    return _QUICK if quick and device == "cpu" else _SIZES[device]
