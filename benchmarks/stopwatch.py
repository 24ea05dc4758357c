"""Time of a network's forward passes in this process.

Eager, fp32, contiguous; allocator and precision as torch has them by default, and recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.worker import Time, Timing, imported

if TYPE_CHECKING:
    from zoo.card import Member


def time(request: Time) -> Timing:
    """Times single forward passes, after one that is timed apart and a warm-up.

    On CUDA the device is waited for before and after each.
    """
    torch.set_num_threads(request.threads)
    device = torch.device(request.device)
    start = perf_counter_ns()
    torch.manual_seed(request.seed)
    network = imported(request.builder)(request.member).eval().to(device)
    _synchronize(device)
    load_ms = (perf_counter_ns() - start) / 1e6
    inputs = _pixels(request.member, device, request.seed)

    def forward() -> float:
        _synchronize(device)
        start = perf_counter_ns()
        network(*inputs)
        _synchronize(device)
        return (perf_counter_ns() - start) / 1e6

    with torch.inference_mode():
        first_ms = forward()
        _repeat(forward, 0, request.warm_up_s - first_ms / 1e3)
        samples_ms = _repeat(forward, request.samples, request.seconds)
    return Timing(load_ms=load_ms, first_ms=first_ms, samples_ms=samples_ms, settings=_settings())


def _pixels(member: Member, device: torch.device, seed: int) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(seed)
    shapes: list[tuple[int, ...]] = [(1, 3, member.size, member.size)]
    if member.metadata:
        shapes.append((1, member.metadata.features))
    return [torch.rand(shape, generator=generator, device=device) for shape in shapes]


def _repeat(forward: Callable[[], float], times: int, seconds: float) -> tuple[float, ...]:
    """Repeats until both the number and the time are reached."""
    samples: list[float] = []
    start = perf_counter_ns()
    while len(samples) < times or perf_counter_ns() - start < seconds * 1e9:
        samples.append(forward())
    return tuple(samples)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _settings() -> dict[str, str]:
    return {
        "threads": str(torch.get_num_threads()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cuDNN TF32": str(torch.backends.cudnn.allow_tf32),
        "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        "allocator": "default",
    }
