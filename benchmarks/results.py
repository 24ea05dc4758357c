"""What the measurements hand out: operations, latencies, and the machine they were taken on.

Plain dataclasses without torch, so that whoever only reads results stays quick, and without msgspec,
so that a machine where nothing can be installed measures all the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why a counter's total differs from the headline figure, for one type of module.

    Attributes:
        counter: The counter.
        module: The type of the modules that it counts differently.
        macs: How much more (or less, where negative) it counts in all of them.
        reason: Why, or `unexplained`.
    """

    counter: str
    module: str
    macs: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Size of a network, and the operations of ONE forward pass of batch 1 at its own input size.

    Operations are multiply-accumulates (MACs), whatever the counter prints; FLOPs are twice as many.
    For every counter, `counters[counter] == macs + sum(gap.macs for its gaps)` exactly.

    Attributes:
        size: Side of the square input in pixels.
        parameters: Elements of the network's parameters.
        buffers: Elements of its buffers, such as running statistics.
        weight_bytes: Bytes of both, in the precision they are built in.
        macs: Convolutions and matrix products; the headline figure.
        counters: Totals by the name of the counter.
        gaps: Every difference between a total and `macs`.
    """

    size: int
    parameters: int
    buffers: int
    weight_bytes: int
    macs: int
    counters: dict[str, int]
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a figure was measured on. Figures of different machines are not comparable.

    Attributes:
        cpu: Model of the processor.
        cores: Physical cores.
        logical_cores: Logical cores.
        memory_gib: Memory, in whole GiB.
        gpus: Model and memory of each GPU.
        driver: Version of the GPU driver.
        cuda: Newest CUDA version that the driver serves.
        os: Operating system and the release of its kernel.
        python: Version of Python.
        torch: Version of torch.
        timm: Version of timm.
        settings: Threads and precision in the process that computed; None where none did.
    """

    cpu: str
    cores: int
    logical_cores: int
    memory_gib: int
    gpus: tuple[str, ...]
    driver: str | None
    cuda: str | None
    os: str
    python: str
    torch: str
    timm: str
    settings: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time of one forward pass of batch 1, pixels already on the device.

    Attributes:
        median_ms: Median of the samples in milliseconds; None where the network could not be timed.
        error: Why it could not.
        spread: Interquartile range of the samples, divided by their median.
        samples_ms: All samples, in order.
        first_ms: The first forward pass, which is not among the samples.
        load_ms: Building the network and moving it to the device.
        flags: `quick`, and `noisy` or `invalid` by the spread.
        device: `cpu` or `cuda`.
        precision: Floating-point type of weights and pixels.
        memory_format: Order of their elements.
        quick: Whether it was a shortened measurement.
        measured: When, in UTC (ISO 8601).
        machine: What it ran on.
    """

    median_ms: float | None
    error: str = ""
    spread: float | None = None
    samples_ms: tuple[float, ...] = ()
    first_ms: float | None = None
    load_ms: float | None = None
    flags: tuple[str, ...] = ()
    device: str
    precision: str = "fp32"
    memory_format: str = "contiguous"
    quick: bool = True
    measured: str
    machine: Machine
