"""A network under `torch.compile`, for batches of one shape.

A shape is compiled at its first pass, which takes from seconds to minutes; what the compiler made of it
stays in its own folder on disk, so other folds of a member, and later runs, take seconds.
"""

from __future__ import annotations

import warnings
from threading import Lock
from typing import Literal

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


class Compiled(nn.Module):
    """What `torch.compile` makes of a network.

    It is called with batches of few shapes (one, unless memory ends), on a GPU always by the same thread.

    Args:
        network: On its device, in eval mode.
        device: Which that is.
        name: Whose network it is, for errors.
    """

    def __init__(self, network: nn.Module, device: Literal["cpu", "cuda"], name: str) -> None:
        super().__init__()
        if device == "cuda":
            torch.cuda.synchronize()
        # torch compiles the same lines of code for eight networks and runs others as they are; and it
        # would keep the graphs of the network before this one, with their memory.
        torch.compiler.reset()
        self._run = torch.compile(network, dynamic=False, mode=MODES[device])
        self._name = name
        self._known: set[tuple[torch.Size, ...]] = set()
        self._first = Lock()

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the network returns for a batch.

        Raises:
            MachineError: It cannot be compiled here.
        """
        shapes = tuple(each.shape for each in inputs)
        if shapes in self._known:
            return self._pass(inputs)
        # Whoever comes first compiles for all.
        with self._first:
            if shapes in self._known:
                return self._pass(inputs)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    output = self._pass(inputs)
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise MachineError(
                    f"{self._name}: torch.compile fails here ({_first_line(error)}); leave --compile out"
                ) from error
            self._known.add(shapes)
            return output

    def _pass(self, inputs: tuple[Tensor, ...]) -> Tensor:
        # The next pass of a CUDA graph writes its output to the same place.
        output: Tensor = self._run(*inputs).clone()
        return output


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:300]
