"""A network as a worker measures it: built in its variant, with its input beside it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter_ns
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.allowance import usable_processors
from benchmarks.cells import ASSEMBLED, Cell, Variant
from benchmarks.worker import STANDARD, imported
from zoo import runtime

if TYPE_CHECKING:
    from zoo.card import Member

T = TypeVar("T")

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Subject:
    """A network on its device, ready to be run.

    Attributes:
        cell: What it was made for.
        networks: One network, or those of a whole protocol.
        device: Where they are.
        load_ms: Building them and moving them there.
        settings: Threads, precision and allocator they run with.
    """

    cell: Cell
    networks: list[nn.Module]
    device: torch.device
    load_ms: float
    settings: dict[str, str]

    @cached_property
    def inputs(self) -> list[list[Tensor]]:
        """Seeded random input of each network, on the device."""
        return [self.pixels(member, self.cell.batch) for member in self.cell.members]

    def pixels(self, member: Mapping[str, Any], batch: int) -> list[Tensor]:
        """Seeded random images, and metadata where the network reads some."""
        generator = torch.Generator(self.device).manual_seed(self.cell.seed)
        size = member["size"]
        image = torch.rand((batch, 3, size, size), generator=generator, device=self.device)
        more = [torch.rand((batch, branch["features"]), generator=generator, device=self.device)
                for branch in [member.get("metadata")] if branch]  # fmt: skip
        return [self.formatted(image), *more]

    def formatted(self, image: Tensor) -> Tensor:
        """An image in the variant's memory format, on the device."""
        channels_last = self.cell.variant.memory_format == "channels-last"
        return image.to(
            self.device, memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )

    def forward(self, network: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
        """One forward pass, as the variant says."""
        with autocast(self.cell.variant):
            out: Tensor = network(*inputs)
        return out

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def prepare(cell: Cell) -> Subject:
    """Builds a cell's networks with seeded random weights, in eval mode."""
    variant = cell.variant
    allocator = tune_allocator()
    device = torch.device(variant.device)
    torch.set_num_threads(variant.threads)
    set_precision(variant)
    torch.zeros(1, device=device)  # Starting CUDA is no part of loading a network.
    imported(cell.builder)  # Neither is importing timm.
    start = perf_counter_ns()
    torch.manual_seed(cell.seed)
    networks = [build(cell, member, device) for member in cell.members for _ in range(cell.folds)]
    subject = Subject(cell, networks, device, 0.0, settings(variant, allocator))
    subject.synchronize()
    subject.load_ms = (perf_counter_ns() - start) / 1e6
    return subject


def build(cell: Cell, member: Mapping[str, Any], device: torch.device) -> nn.Module:
    """A member's network in a cell's variant."""
    variant = cell.variant
    network: nn.Module = imported(cell.builder)(member_of(member, cell.builder)).eval().to(device)
    if variant.engine != "torch":
        from zoo import engines  # a machine that only times torch may lack what it needs

        return engines.prepare(
            network, _of_card(member), variant.engine, variant.precision, "cpu", batch=cell.batch
        )
    if variant.memory_format == "channels-last":
        network = network.to(memory_format=torch.channels_last)
    if variant.compiled:
        network = torch.compile(network, dynamic=False)  # type: ignore[assignment]
    return network


def member_of(fields: Mapping[str, Any], builder: str = STANDARD) -> Any:
    """A member from the fields of its card; for the standard assembly what that reads of them will do."""
    if builder != STANDARD or fields.get("network", ASSEMBLED) != ASSEMBLED:
        return _of_card(fields)
    attention = [SimpleNamespace(**each) for each in fields.get("attention") or ()]
    metadata = SimpleNamespace(**fields["metadata"]) if fields.get("metadata") else None
    plain = {"network": ASSEMBLED, "pool": "average", **fields, "attention": attention, "metadata": metadata}
    return SimpleNamespace(**plain)


def _of_card(fields: Mapping[str, Any]) -> Member:
    import msgspec

    from zoo.card import Member

    return msgspec.convert(fields, Member)


def autocast(variant: Variant) -> AbstractContextManager[Any]:
    """Half precision where the variant asks for it."""
    if variant.precision not in _HALF:
        return nullcontext()
    return torch.autocast(variant.device, _HALF[variant.precision])


def set_precision(variant: Variant) -> None:
    """Lets matrix units round fp32 inputs to TF32, or forbids it.

    Raises:
        MachineError: The device is not there, or has no such precision.
    """
    runtime.check(variant.device, variant.precision)
    tf32 = variant.precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def settings(variant: Variant, allocator: str) -> dict[str, str]:
    """What decides the speed and is no part of the network, as it is in this process."""
    return {
        "threads": str(torch.get_num_threads()),
        "processors": str(usable_processors()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cuDNN TF32": str(torch.backends.cudnn.allow_tf32),
        "cuDNN benchmark": str(torch.backends.cudnn.benchmark),
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "autocast": str(_HALF.get(variant.precision, "off")).removeprefix("torch."),
        "memory format": variant.memory_format,
        "compiled": str(variant.compiled),
        "engine": variant.engine,
        "allocator": allocator,
        **(_of_gpu() if variant.device == "cuda" else {}),
    }


def _of_gpu() -> dict[str, str]:
    return {"GPU": torch.cuda.get_device_name(), "cuDNN": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]


def tune_allocator() -> str:
    """What `zoo.runtime.tune_allocator` set, for the record."""
    tuned = runtime.tune_allocator()
    return "M_MMAP_MAX=0, M_TRIM_THRESHOLD=-1, M_TOP_PAD=256 MiB, M_ARENA_MAX=1" if tuned else "default"


def backing_off(batch: int, attempt: Callable[[int], T]) -> tuple[T, int]:
    """Tries with smaller and smaller batches until the memory suffices.

    Only errors of too little memory halve the batch; any other is raised.

    Returns:
        What the attempt returned, and the batch that it succeeded with.
    """
    while True:
        try:
            return attempt(batch), batch
        except Exception as error:
            if batch == 1 or not runtime.out_of_memory(error):
                raise
        batch //= 2
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
