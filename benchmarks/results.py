"""What the measurements hand out: operations, latencies, and the machine they were taken on.

Plain dataclasses without torch, so that whoever only reads results stays quick, and without msgspec,
so that a machine where nothing can be installed measures all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.clocks import Clocks


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
        usable_processors: Logical processors that the process was allowed (its affinity). This and what follows is
            None in records of older versions.
        cpu_quota: How many processors' time its control groups allowed it; 0 where they set no limit.
        power_limits: Power above which the driver slows each GPU down; None where nothing tells it.
        environment: Inherited variables that change results or speed, as `NAME=value`, without folders.
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
    usable_processors: int | None = None
    cpu_quota: float | None = None
    power_limits: tuple[str, ...] | None = None
    environment: tuple[str, ...] | None = None
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
        flags: What makes it doubtful: `quick`, and more as of a row.
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


@dataclass(frozen=True, kw_only=True)
class Row:
    """A network (or a whole protocol) in one scenario and one variant.

    Attributes:
        system: The system's name.
        title: Its name in tables, with the member's where it is one of several.
        network: The member's name; empty for the whole protocol of a system.
        scenario: `latency`, `throughput`, `end-to-end`, or `protocol` (one lesion image through all
            members, folds and views).
        device: `cpu` or `cuda`.
        precision: `fp32`, `tf32`, `bf16` or `fp16`.
        memory_format: `contiguous` or `channels-last`.
        threads: Threads of an operator on the CPU.
        compiled: Whether torch.compile ran over it.
        engine: The library that ran it.
        how: `measured`, or `summed` from the latencies of the members.
        batch_asked: Images per pass that were asked for; None where a sweep chose them.
        batch: Images per pass.
        ms: Time of a pass (latency), of a batch (throughput, end-to-end) or of a lesion (protocol), in ms: the
            median, and end to end all of the time / all batches.
        summed_ms: Of a protocol: latencies of its members × folds × distinct views.
        device_ms: The same by the GPU's own clock.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        images_per_s: Images per second: of throughput by the median block of passes, end to end all images / all
            of the time.
        samples: Samples that it rests on.
        rounds: Fresh processes that they come from; where fewer than were asked for, a flag says so.
        iqr: Interquartile range of the samples / median.
        between_rounds: How far another row of the run may lie from `ms` that is as fast, by the scatter of the rounds' own
            (95%) / `ms`; None where there is a single round.
        spread: How far a repeat of the run may lie from `ms` (95%): the largest of `iqr`, of what the scatter of the
            row's own rounds lets expect, of what that of all rows lets expect that agree in scenario, device and
            threads, and of 3% where a sweep chose the batch.
        load_ms: Building the network and moving it to the device, median of the rounds.
        first_ms: The first pass, median of the rounds.
        gflops: Thousand millions of FLOP/s that it reached, two per counted multiply-accumulate.
        compute_share: Share of the compute ceiling that this is.
        memory_share: Time that its operators' bytes would take at the rate of a large copy / its time.
        limit: The ceiling it is nearer to: `compute` or `memory`; empty where one of them is unknown.
        peak_rss_bytes: Peak resident memory of a fresh process that loads it and passes a batch through.
        before_bytes: Peak of the same process before the network was built: Python and torch.
        allocated_bytes: Peak of torch's CUDA tensors, after the first pass.
        reserved_bytes: Peak of torch's CUDA memory.
        nvml_bytes: CUDA memory of the process by the driver.
        traffic_bytes: What the operators of one pass read and write.
        joules: Energy per image above that of the idle machine.
        joules_unsure: How far the change of the idle power makes that unsure, either way.
        idle_w: Power of the idle machine: the mean of what was read before and after.
        idle_before_w: Before the passes.
        idle_after_w: After them.
        energy_flags: What makes the energy doubtful.
        drift: Largest change of a class probability against fp32, contiguous, eager, same device; None, and the row
            flagged, where probabilities are no numbers.
        drift_on: What that was computed on.
        sweep: Images per second by batch, from the short runs that chose it.
        sweep_end: Why the sweep ended.
        flags: What makes the figure doubtful.
        reasons: Why a figure is missing, by its name.
        error: Why there is nothing.
        gpu: Which GPU it was and how it is set up; lowest and highest clock, highest temperature and all reasons
            for slowing down, of all rounds.
        settings: Threads, precision and allocator of the processes; where they differ, each value.
    """

    system: str
    title: str
    network: str = ""
    scenario: str
    device: str
    precision: str
    memory_format: str
    threads: int
    compiled: bool
    engine: str = "torch"
    how: str = "measured"
    batch_asked: int | None = None
    batch: int | None = None
    ms: float | None = None
    summed_ms: float | None = None
    device_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    images_per_s: float | None = None
    samples: int = 0
    rounds: int = 0
    iqr: float | None = None
    between_rounds: float | None = None
    spread: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    gflops: float | None = None
    compute_share: float | None = None
    memory_share: float | None = None
    limit: str = ""
    peak_rss_bytes: int | None = None
    before_bytes: int | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    nvml_bytes: int | None = None
    traffic_bytes: int | None = None
    joules: float | None = None
    joules_unsure: float | None = None
    idle_w: float | None = None
    idle_before_w: float | None = None
    idle_after_w: float | None = None
    energy_flags: tuple[str, ...] = ()
    drift: float | None = None
    drift_on: str = ""
    sweep: dict[int, float] = field(default_factory=dict)
    sweep_end: str = ""
    flags: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)
    error: str = ""
    gpu: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """The highest rates measured on a device, in one precision with one number of threads.

    Attributes:
        device: `cpu` or `cuda`.
        precision: As in a row.
        threads: As in a row.
        matmul_flops: A large matrix product, FLOP/s.
        convolution_flops: A large 3x3 convolution, FLOP/s.
        copy_bytes_per_s: A large copy, bytes read and written per second.
        flags: What makes them doubtful.
        error: Why there are none.
    """

    device: str
    precision: str
    threads: int
    matmul_flops: float | None = None
    convolution_flops: float | None = None
    copy_bytes_per_s: float | None = None
    flags: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one run of `profile` measured.

    Attributes:
        rows: One per network, scenario and variant, in the order of the tables.
        ceilings: What the machine can do at most.
        machine: What it ran on.
        clocks: The CPU's clock around it; None in records of older versions.
        seed: Seed of weights, pixels and the order of cells.
        rounds: Fresh processes per cell.
        quick: Whether it was a shortened measurement.
        images: How many image files were read.
        images_real: Whether they were given; else they were made up.
        images_sha256: Digest of their contents, in order; empty where none were read.
        weights: What the networks' weights were.
        samples: Name of the file with the raw samples, beside the record.
    """

    rows: tuple[Row, ...]
    ceilings: tuple[Ceiling, ...]
    machine: Machine
    seed: int
    rounds: int
    quick: bool
    images: int = 0
    images_real: bool = False
    images_sha256: str = ""
    weights: str = "random"
    samples: str = ""
    clocks: Clocks | None = None
