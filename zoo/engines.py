"""Which library runs a network: torch, ONNX Runtime or OpenVINO.

All of them compute in single precision unless a lower one is asked for. The last two run what
`zoo.export` makes of a network, and only after their probabilities were compared with those of torch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache as memoised
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from zoo import cache
from zoo.errors import MachineError, UsageError
from zoo.runtime import Precision

if TYPE_CHECKING:
    from torch import nn

    from zoo.card import Member
    from zoo.export import Check, Kept

Engine = Literal["auto", "torch", "onnxruntime", "openvino"]
Library = Literal["torch", "onnxruntime", "openvino"]

WORTH_EXPORTING = 500
"""Forward passes of one network from which `auto` takes an engine that needs an export.

An export and its check take about as long as this many passes are quicker for it: measured with
EfficientNet-B3 at 384 px on two cores, and larger networks pay for theirs sooner.
"""

_MOST_FIXED = 8
"""Batches up to this one are compiled for: larger ones gain little, and take long to check."""

_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}
_PACKAGES = {"torch": (), "onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The library that runs a network.

    Attributes:
        engine: Its name.
        why: Why `auto` took it; empty where it was asked for by name.
    """

    engine: Library
    why: str = ""


def installed(engine: Library) -> bool:
    """Whether the packages of an engine are there."""
    return len(versions(engine)) == len(_PACKAGES[engine])


def missing(engine: Library) -> str:
    """What to install where an engine is not there; empty where it is."""
    if installed(engine):
        return ""
    return f"engine {engine} is not installed; pip install 'melanoma-zoo[{_EXTRAS[engine]}]'"


def versions(engine: Library) -> dict[str, str]:
    """The packages that an engine has beyond those that every run needs, and their versions.

    Those that are not installed are left out: what is kept of an engine has a name here all the same.
    """
    found = {}
    for package in _PACKAGES[engine]:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def check(
    engine: Engine, device: Literal["cpu", "cuda"], precision: Precision, *, compiled: bool = False
) -> None:
    """Makes sure that an engine is there and can do what is asked.

    Args:
        engine: By name, or `auto`.
        device: Where networks run.
        precision: What they compute in.
        compiled: Whether `torch.compile` is to make them.

    Raises:
        UsageError: It is to compile, and is not torch.
        MachineError: It is not installed, or does not run on the device or in the precision.
    """
    if compiled and engine not in ("auto", "torch"):
        raise UsageError(
            f"--compile is torch's, and engine {engine} compiles by itself; leave one of them out"
        )
    if engine == "auto" or engine == "torch":
        return
    if lacking := missing(engine):
        raise MachineError(f"{lacking}, or choose --engine torch")
    if device != "cpu":
        raise MachineError(f"engine {engine} runs on CPUs only; choose --device cpu or --engine torch")
    if engine == "onnxruntime" and precision != "fp32":
        raise MachineError(
            f"engine onnxruntime has no {precision} on a CPU; choose --precision fp32, "
            "or --engine torch or openvino"
        )
    if engine == "openvino" and _CAPABILITIES.get(precision, "") not in _openvino_capabilities():
        raise MachineError(
            f"engine openvino has no {precision} on this CPU; choose --precision fp32, or --engine torch"
        )


def choose(
    asked: Engine,
    device: Literal["cpu", "cuda"],
    precision: Precision,
    forwards: int,
    *,
    compiled: bool = False,
) -> Choice:
    """The engine that is meant. For `auto` the answer is the same at every run on a machine.

    Args:
        asked: By name, or `auto`.
        device: Where networks run.
        precision: What they compute in.
        forwards: Views that go through each network: images × distinct views.
        compiled: Whether `torch.compile` is to make them.

    >>> choose("auto", "cpu", "fp32", 20).why
    '20 forward passes of each network do not pay for an export (500 would)'
    """
    if asked != "auto":
        return Choice(engine=asked)
    if compiled:
        return Choice(engine="torch", why="it alone compiles networks by torch.compile")
    if device == "cuda":
        return Choice(engine="torch", why="there is a GPU")
    if forwards < WORTH_EXPORTING:
        return Choice(
            engine="torch",
            why=f"{forwards:,} forward passes of each network do not pay for an export ({WORTH_EXPORTING} would)",
        )
    wanted: Library = "onnxruntime" if precision == "fp32" else "openvino"
    try:
        check(wanted, device, precision)
    except MachineError as error:
        return Choice(engine="torch", why=str(error).partition(";")[0])
    return Choice(
        engine=wanted, why=f"{forwards:,} forward passes of each network on a CPU in {precision} pay for an export"
    )  # fmt: skip


def prepare(
    network: nn.Module | Kept,
    member: Member,
    engine: Library,
    precision: Precision,
    device: Literal["cpu", "cuda"],
    streams: int = 1,
    batch: int | None = None,
) -> nn.Module:
    """A network as an engine runs it: called with images (and metadata), it returns logits.

    It is to be called inside `zoo.runtime.arithmetic`, which sets torch's precision; the other
    engines have theirs built in.

    Args:
        network: In eval mode, on the CPU; it is left as it is. Or what is kept of it.
        member: Its card's entry.
        engine: What runs it.
        precision: What it computes in.
        device: Where it runs.
        streams: Threads that call it at the same time, each of which computes with its share of the cores.
        batch: Images of most calls, where that is known; it runs any other number too.

    Raises:
        MachineError: As of `check`; the network cannot be exported; or the engine's probabilities
            in single precision are further from those of torch than `zoo.export.TOLERANCE`.
    """
    import torch

    from zoo import export

    check(engine, device, precision)

    def make() -> nn.Module:
        return network.make() if isinstance(network, export.Kept) else network

    if engine == "torch":
        whole = make()
        folded = export.fold(whole, member)
        if folded is whole:
            folded = copy.deepcopy(whole)
        return folded.to(device=device).to(memory_format=torch.channels_last)
    fixed = batch if batch is not None and batch <= _MOST_FIXED else None
    made = network.made if isinstance(network, export.Kept) else export.export(network, member)
    try:
        ready = _session(engine, made.model, precision, streams, fixed)
    except ValueError as error:
        if made.fresh:
            raise MachineError(f"{member.name}: {error}; choose --engine torch") from error
        # What was kept is broken: a disk, or somebody's hand.
        made = export.export(make(), member, anew=True)
        try:
            ready = _session(engine, made.model, precision, streams, fixed)
        except ValueError as again:
            raise MachineError(f"{member.name}: {again}; choose --engine torch") from error

    def single() -> nn.Module:
        return ready if precision == "fp32" else _session(engine, made.model, "fp32", streams, fixed)

    _verify(make, member, engine, made.name, single, fixed)
    return ready


def _session(
    engine: Library, model: bytes, precision: Precision, streams: int, batch: int | None
) -> nn.Module:
    import torch

    from zoo.sessions import OnnxRuntime, OpenVino

    # torch counts physical cores, and hears OMP_NUM_THREADS.
    threads = max(1, torch.get_num_threads() // streams)
    if engine == "onnxruntime":
        return OnnxRuntime(model, threads)
    return OpenVino(model, threads, _HINTS[precision], streams, batch, _forms(precision))


def _forms(precision: Precision) -> Path | None:
    """The folder of compiled forms of a precision, by which OpenVINO does not name them; None where none can be kept."""
    folder = cache.folder() / "openvino" / precision
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache.warn_unwritable()
        return None
    return folder if os.access(folder, os.W_OK) else None


def _verify(
    make: Callable[[], nn.Module], member: Member, engine: Library, name: str, single: Callable[[], nn.Module], batch: int | None
) -> None:  # fmt: skip
    """Refuses an engine whose results are off; what was found good once is not computed again."""
    from zoo import export

    key = cache.key("checked", name, engine, versions(engine), batch, code=("zoo.engines", "zoo.sessions"))
    found: Check | None = cache.load(key, export.Check)
    if found is None:
        found = export.compare(make(), single(), member, batch)
        if found.close:
            cache.keep(key, found)
    if not found.close:
        raise MachineError(
            f"{member.name}: engine {engine} in fp32 differs from torch by {found.probabilities:.1e} in a "
            f"probability and {found.logits:.1e} of the largest logit, on seeded images "
            f"(up to {export.TOLERANCE:.0e} and {export.RELATIVE:.0e} are rounding); choose --engine torch"
        )


@memoised
def _openvino_capabilities() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
