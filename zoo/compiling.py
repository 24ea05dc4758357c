"""A network under `torch.compile`, for batches of one shape.

A shape is compiled at its first pass, which takes from seconds to minutes. What was compiled stays in the
process, and takes the weights of the next network that differs from it in those alone: another fold of a
member, or the same one for other images. What the compiler made also stays in its own folder on disk, so
that later runs take seconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import MachineError
from zoo.runtime import out_of_memory

MODES: dict[Literal["cpu", "cuda"], str] = {"cpu": "default", "cuda": "reduce-overhead"}
"""torch's mode of each device.

On a GPU a pass is one CUDA graph: the host starts it with one call, and its cores are free to decode.
The modes that time kernels against each other (`max-autotune`) are not taken: they compile for many
minutes, and two runs may choose kernels that round differently.
"""

KEPT_BYTES = 2**32
"""Weights of networks that stay compiled, at most: those of one system, if it is not among the largest."""

_MOST = 64
"""Networks that stay compiled, at most."""


class _Resident:
    """A network that was compiled, and those of its kind that it has been since.

    Attributes:
        network: On its device, in eval mode.
        run: What `torch.compile` made of it.
        known: What it was compiled for: shapes, and the precision of autocast.
    """

    def __init__(self, network: nn.Module, device: Literal["cpu", "cuda"]) -> None:
        self.network = network
        self.run = torch.compile(network, dynamic=False, mode=MODES[device])
        self.known: set[tuple[Any, ...]] = set()
        self.owner: weakref.ref[Compiled] | None = None

    @property
    def free(self) -> bool:
        """Whether nobody runs it any more."""
        return self.owner is None or self.owner() is None

    @property
    def bytes(self) -> int:
        """Memory of its weights."""
        return sum(each.nbytes for each in _tensors(self.network) if each is not None)


_residents: list[_Resident] = []
_TAKING = Lock()


class Compiled(nn.Module):
    """What `torch.compile` makes of a network.

    It is called with batches of few shapes (one, unless memory ends), on a GPU always by the same thread.

    Args:
        network: On its device, in eval mode. It may be given up for one that is compiled and takes its weights.
        device: Which that is.
        name: Whose network it is, for errors.
    """

    def __init__(self, network: nn.Module, device: Literal["cpu", "cuda"], name: str) -> None:
        super().__init__()
        if device == "cuda":
            torch.cuda.synchronize()
        self._device = device
        self._name = name
        self._first = Lock()
        with _TAKING:
            self._resident = _resident(network, device)
            self._resident.owner = weakref.ref(self)

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network returns for a batch.

        Raises:
            MachineError: It cannot be compiled here.
        """
        cast = torch.is_autocast_enabled(self._device) and torch.get_autocast_dtype(self._device)
        key = (cast, *(each.shape for each in inputs))
        if key in self._resident.known:
            return self._pass(inputs)
        # Whoever comes first compiles for all.
        with self._first:
            if key in self._resident.known:
                return self._pass(inputs)
            try:
                # torch would compile the same lines of code for eight networks, and run others as they are.
                with torch._dynamo.config.patch(
                    recompile_limit=8 * _MOST, accumulated_recompile_limit=8 * _MOST
                ):
                    output = self._pass(inputs)
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise MachineError(
                    f"{self._name}: torch.compile fails here ({_first_line(error)}); leave --compile out"
                ) from error
            self._resident.known.add(key)
            return output

    def _pass(self, inputs: tuple[Tensor, ...]) -> Tensor:
        # The next pass of a CUDA graph writes its output to the same place.
        output: Tensor = self._resident.run(*inputs).clone()
        return output


def forget() -> bool:
    """Frees what is compiled and not run any more; what is run will be compiled again.

    Returns:
        Whether there was any.
    """
    before = len(_residents)
    _residents[:] = [each for each in _residents if not each.free]
    for each in _residents:
        each.known.clear()
    # It would keep the graphs of networks that are gone, with their memory.
    torch.compiler.reset()
    return len(_residents) < before


def _resident(network: nn.Module, device: Literal["cpu", "cuda"]) -> _Resident:
    """One that is compiled and has the weights of this network now; else a new one."""
    for each in _residents:
        if each.free and _alike(each.network, network):
            with torch.inference_mode():
                for mine, other in zip(_tensors(each.network), _tensors(network), strict=True):
                    if mine is not None and other is not None:
                        mine.copy_(other)
            return each
    made = _Resident(network, device)
    if len(_residents) == _MOST or sum(each.bytes for each in [*_residents, made]) > KEPT_BYTES:
        forget()
    _residents.append(made)
    return made


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two networks differ in the values of parameters and buffers alone; where it is not sure, they are not."""
    try:
        return _made_of(one) == _made_of(other) and _kinds(one) == _kinds(other)
    except (RuntimeError, TypeError, ValueError):  # Arrays and tensors among the attributes.
        return False


_HELD = ("_parameters", "_buffers", "_modules")


def _made_of(network: nn.Module) -> list[tuple[Any, ...]]:
    """Each module: its name and kind, the names of its tensors, and all else that it has."""
    return [
        (
            name,
            type(module),
            [*module._parameters, *module._buffers],
            {key: value for key, value in vars(module).items() if key not in _HELD},
        )
        for name, module in network.named_modules()
    ]


def _tensors(network: nn.Module) -> Iterator[Tensor | None]:
    """Parameters and buffers, also those that are in no file, as often as modules have them."""
    for module in network.modules():
        yield from module._parameters.values()
        yield from module._buffers.values()


def _kinds(network: nn.Module) -> list[tuple[Any, ...]]:
    """What each of these is, and which of them are the same one."""
    first: dict[int, int] = {}
    found: list[tuple[Any, ...]] = []
    for number, each in enumerate(_tensors(network)):
        kind = () if each is None else (each.shape, each.dtype, each.device, each.stride())
        found.append((first.setdefault(id(each), number), *kind))
    return found


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:300]
