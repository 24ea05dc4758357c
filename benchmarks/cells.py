"""What is measured: cells, as plain data that another process can read without this project's parsers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.results import Machine, Row
from benchmarks.timing import FULL, Rules
from benchmarks.worker import STANDARD

Scenario = Literal["latency", "throughput", "end-to-end"]
Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
MemoryFormat = Literal["contiguous", "channels-last"]
Engine = Literal["torch", "onnxruntime", "openvino"]

SCENARIOS: tuple[str, ...] = get_args(Scenario)
PRECISIONS: tuple[str, ...] = get_args(Precision)
MEMORY_FORMATS: tuple[str, ...] = get_args(MemoryFormat)

ASSEMBLED = "assembled"
"""What a card calls a network of the standard assembly."""

HOMES = {
    **dict.fromkeys((*SCENARIOS, "sweep", "protocol"), "benchmarks.stopwatch:measure"),
    "memory": "benchmarks.memory:measure",
    "energy": "benchmarks.energy:measure",
    "drift": "benchmarks.drift:measure",
    "ceilings": "benchmarks.ceilings:measure",
}
"""What measures a cell in the worker, by the cell's kind."""

_CODE = (
    *sorted({home.partition(":")[0] for home in HOMES.values()}),
    "benchmarks.allowance",
    "benchmarks.nvml",
    "benchmarks.others",
    "benchmarks.rapl",
    "benchmarks.subject",
    "benchmarks.timing",
    "benchmarks.traffic",
    "benchmarks.worker",
    "zoo.networks",
    "zoo.attention",
    "zoo.runtime",
)

_OF_KINDS = ("zoo.kinds", "zoo.exported", "zoo.onnx_file", "zoo.whole")
"""What makes networks that are not of the standard assembly, of a file among them."""

_OF_CHOICES = ("benchmarks.sweep", "benchmarks.figures", "benchmarks.samples")
"""What chooses a batch."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a network is run: each combination is a row of its own, and none are averaged.

    Attributes:
        device: Where it runs.
        precision: fp32; tf32 (matrix units of CUDA GPUs round fp32 inputs); bf16 or fp16 by autocast.
        memory_format: Order of the elements of weights and pixels.
        threads: Threads of an operator on the CPU.
        compiled: Whether torch.compile ran over it.
        engine: The library that runs it. Others than torch have their own memory format.
    """

    device: Device = "cpu"
    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous"
    threads: int = 1
    compiled: bool = False
    engine: Engine = "torch"

    @classmethod
    def of(cls, row: Row) -> Variant:
        """How a row's network was run."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})

    @property
    def parts(self) -> tuple[str, ...]:
        """Each of them in a word; threads are empty on a GPU."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else ""
        if self.engine != "torch":
            return self.device, threads, self.precision, "", self.engine
        how = "compiled" if self.compiled else "eager"
        return self.device, threads, self.precision, self.memory_format, how

    @property
    def label(self) -> str:
        """It in words.

        >>> Variant(threads=2, precision="bf16").label
        'cpu, 2 threads, bf16, contiguous'
        """
        return ", ".join(part for part in self.parts if part not in ("", "eager"))

    @property
    def reference(self) -> bool:
        """Whether it is what others' accuracy is compared with: fp32, contiguous, eager."""
        return self == Variant(device=self.device, threads=self.threads)

    @property
    def impossible(self) -> str:
        """Why no machine could run it; empty where one could."""
        if self.device == "cpu" and self.precision == "tf32":
            return "TF32 is a mode of CUDA GPUs"
        if self.device == "cuda" and self.engine != "torch":
            return f"{self.engine} runs networks on CPUs only"
        if self.engine == "onnxruntime" and self.precision != "fp32":
            return f"onnxruntime has no {self.precision} on a CPU"
        return ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to measure.

    Attributes:
        kind: A scenario, a pass that reads something else than time, or the `choice` of a batch.
        members: The networks, as the fields of their cards; several for a whole protocol only.
        builder: What makes them, as `module:function`.
        variant: How they run.
        batch: Images per forward pass.
        folds: Trainings of each member (a whole protocol only).
        views: Forward passes of each of them (a whole protocol only).
        images: Real image files.
        reader: What makes a member's input of an image file, as `module:function`. The module may name in
            `CODE` the modules, and in `PACKAGES` the packages, that decide what that costs or gives.
        seed: Seed of weights and pixels.
        rules: How long to measure.
    """

    kind: str
    members: tuple[dict[str, Any], ...] = ()
    builder: str = STANDARD
    variant: Variant
    batch: int = 1
    folds: int = 1
    views: int = 1
    images: tuple[str, ...] = ()
    reader: str = ""
    seed: int = 0
    rules: Rules = FULL

    def fields(self) -> dict[str, Any]:
        """It as plain data."""
        return asdict(self)

    def of(self, kind: str, **changes: Any) -> Cell:
        """The same network and variant, measured otherwise."""
        return replace(self, kind=kind, **changes)


def from_fields(fields: Mapping[str, Any]) -> Cell:
    """A cell from its plain data."""
    changed = {"variant": Variant(**fields["variant"]), "rules": Rules(**fields["rules"])}
    listed = {name: tuple(fields[name]) for name in ("members", "images")}
    return Cell(**{**fields, **changed, **listed})


def key(cell: Cell, machine: Machine, turn: int = 0, repeat: int = 0) -> str:
    """The name under which a reading of a cell is kept: everything that decides it.

    Networks of the standard assembly that agree in all but names, classes and preprocessing have
    one name; preprocessing counts where images are read.

    Args:
        cell: What is measured.
        machine: What it is measured on.
        turn: Which round it is.
        repeat: Which repeat of the whole run.
    """
    fields = cell.fields()
    packages: dict[str, str] = {}
    if cell.builder == STANDARD:
        fields["members"] = [specification(member, pixels=bool(cell.images)) for member in cell.members]
    for library in _libraries(cell):
        from zoo.engines import versions  # a machine that only times torch may lack what it needs

        packages |= versions(library)
    packages |= _installed(_of_reader(cell, "PACKAGES"))
    # A plan names images that are made when they are needed: no reading of them can have been kept.
    fields["images"] = [_content(path) if (path := Path(image)).exists() else "" for image in cell.images]
    code = [_source(module) for module in (*_CODE, *_outside(cell))]
    about = [fields, packages, asdict(machine), turn, repeat, code]
    if cell.variant.device == "cuda":  # Which of several GPUs it is.
        about.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    content = json.dumps(about, sort_keys=True, default=list)
    return f"{cell.kind}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def specification(member: Mapping[str, Any], *, pixels: bool = False) -> dict[str, Any]:
    """What a member's cost depends on: all that makes its network, and its preprocessing where images are read."""
    names = ["backbone", "size", "pool", "attention", "metadata", *(["preprocess"] if pixels else [])]
    found = {"classes": len(member["classes"]), **{name: member.get(name) for name in names}}
    if member.get("network", ASSEMBLED) != ASSEMBLED:
        import msgspec

        from zoo.card import Member
        from zoo.kinds import origin

        made_by = {name: member.get(name) for name in ("network", "options")}
        found |= made_by | {"origin": origin(msgspec.convert(member, Member))}
    return found


def _outside(cell: Cell) -> Sequence[str]:
    """Modules outside this room whose code decides a cell too."""
    named = (cell.builder, cell.reader)
    others = [call.partition(":")[0] for call in named if call and call != STANDARD]
    others += _of_reader(cell, "CODE")
    others += () if _assembled(cell) else _OF_KINDS
    others += _OF_CHOICES if cell.kind == "choice" else ()
    return (
        others if cell.variant.engine == "torch" else [*others, "zoo.engines", "zoo.export", "zoo.sessions"]
    )


def _assembled(cell: Cell) -> bool:
    """Whether all of its networks are of the standard assembly."""
    return all(member.get("network", ASSEMBLED) == ASSEMBLED for member in cell.members)


def _libraries(cell: Cell) -> list[Engine]:
    """Others than torch that run a cell; networks of ONNX files are run by ONNX Runtime in any engine."""
    of_files: list[Engine] = ["onnxruntime" for member in cell.members if member.get("network") == "onnx"]
    return [each for each in dict.fromkeys([cell.variant.engine, *of_files]) if each != "torch"]


def _of_reader(cell: Cell, what: str) -> tuple[str, ...]:
    """What the module of a cell's reader names of its own; nothing where it names none, or nothing is read."""
    module = cell.reader.partition(":")[0]
    found: tuple[str, ...] = getattr(import_module(module), what, ()) if module else ()
    return found


def _installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _content(file: Path) -> str:
    state = file.stat()
    return _digest(file, state.st_mtime_ns, state.st_size)


@cache
def _digest(file: Path, _changed: int, _size: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None, module
    assert spec.origin is not None, module
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
