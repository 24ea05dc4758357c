"""How a network is made to run: device, precision, memory and folded batch norms.

Nothing here changes what a network computes beyond rounding; what does (a lower precision) has
to be asked for. torch is imported where it is used.
"""

from __future__ import annotations

import copy
import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, TypeVar

from zoo.errors import MachineError

if TYPE_CHECKING:
    from torch import Tensor, nn

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""Single precision; TensorFloat-32 (CUDA only); autocast to bfloat16; autocast to half precision."""

AnyNetwork = TypeVar("AnyNetwork", bound="nn.Module")

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD_BYTES = 256 * 2**20

_FOLD_TOLERANCE = 1e-4

_AMPERE = {"tf32": "computes in fp32 instead", "bf16": "only emulates it"}
"""What GPUs older than compute capability 8.0 (Ampere) make of a precision, without a word."""


def resolve(device: Device) -> Literal["cpu", "cuda"]:
    """The device that is meant: for `auto` CUDA where torch finds a GPU, else the CPU.

    Raises:
        MachineError: It is not there.
    """
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise MachineError(
        f"device cuda: torch {torch.__version__} finds no CUDA GPU here; choose cpu or auto, "
        "or install a GPU build of torch and its driver"
    )


def check(device: Device, precision: Precision) -> Literal["cpu", "cuda"]:
    """The device that is meant, after making sure that it has the precision.

    Raises:
        MachineError: The device is not there, or has no such precision.
    """
    found = resolve(device)
    if precision == "tf32" and found != "cuda":
        raise MachineError("precision tf32 is NVIDIA's; on a CPU choose fp32 or bf16")
    if found == "cuda" and precision in _AMPERE:
        import torch

        have = torch.cuda.get_device_capability()
        if have < (8, 0):
            raise MachineError(
                f"precision {precision}: {torch.cuda.get_device_name()} (compute capability {have[0]}.{have[1]}) "
                f"{_AMPERE[precision]}; choose fp32 or fp16"
            )
    return found


def tune_allocator() -> bool:
    """Keeps freed memory in the process, on Linux with glibc; does nothing elsewhere.

    By default glibc gives the large blocks of every batch back to the kernel, and the kernel
    clears each page again when it is asked for: EfficientNet-B3 at batch 8 runs several times
    slower for it. Threads share one arena: those that glibc gives to each thread hold no large
    blocks, which would go back after all.

    Returns:
        Whether it was done.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_TOP_PAD: _TOP_PAD_BYTES, _M_ARENA_MAX: 1}
    accepted = [mallopt(parameter, value) == 1 for parameter, value in settings.items()]
    return all(accepted)


@contextmanager
def arithmetic(device: Literal["cpu", "cuda"], precision: Precision) -> Iterator[None]:
    """Runs what stands in the block in a precision, without gradients.

    Single precision means it: TensorFloat-32 is switched off where it is not asked for, and the
    process gets its own setting back afterwards.

    Raises:
        MachineError: The device is not there, or has no such precision.
    """
    import torch

    check(device, precision)
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    cast = torch.autocast(device, dtype=low) if low else nullcontext()
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        with torch.inference_mode(), cast:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice, on a GPU or a CPU."""
    import torch

    # What compiles a network hands on the errors that it met as text.
    said = any(
        words in str(error)
        for words in ("can't allocate memory", "CUDA out of memory", "CUDA error: out of memory")
    )
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def fold_batch_norm(network: AnyNetwork, *inputs: Tensor) -> AnyNetwork:
    """A copy of a network with its batch norms multiplied into the convolutions before them.

    Which belong together is watched in a forward pass: a batch norm whose input is the very tensor
    that a convolution has just returned. An activation that stands in the same module stays. The copy
    must return what the network returns; where it does not (what a convolution returns is used
    elsewhere too), there is no folding.

    Args:
        network: In eval mode, on the CPU.
        inputs: What it is called with, batch 1; small images are enough.

    Returns:
        A copy whose keys are no longer those of trained files, or the network itself.
    """
    import torch
    from torch import nn

    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    folded = copy.deepcopy(network)
    with torch.inference_mode():
        pairs = _norms_after_convolutions(folded, inputs)
    with torch.no_grad():
        for norm, conv in pairs.items():
            _fold(conv, norm)
    _replace(folded, pairs)
    with torch.inference_mode():
        expected, found = network(*inputs), folded(*inputs)
    tolerance = _FOLD_TOLERANCE * max(1.0, float(expected.abs().max()))
    return folded if float((found - expected).abs().max()) <= tolerance else network


def _norms_after_convolutions(
    network: nn.Module, inputs: tuple[Tensor, ...]
) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Batch norms and the convolutions that feed them, where both are called exactly once."""
    from torch import nn

    convolutions: dict[int, tuple[Tensor, nn.Conv2d]] = {}
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    calls: dict[nn.Module, int] = {}

    def returned(module: nn.Module, _: object, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            # The tensor is kept: a freed one's id may be given to another.
            convolutions[id(output)] = output, module

    def called(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        before = convolutions.get(id(given[0]))
        if before and isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            pairs[module] = before[1]

    watched = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(returned) for module in watched]
    hooks += [module.register_forward_pre_hook(called) for module in watched]
    try:
        network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    fed = list(pairs.values())
    return {
        norm: conv for norm, conv in pairs.items() if calls[norm] == calls[conv] == 1 and fed.count(conv) == 1
    }


def _replace(network: nn.Module, folded: Mapping[nn.BatchNorm2d, nn.Conv2d]) -> None:
    """Leaves of each folded batch norm the activation that stands in it, or nothing."""
    from torch import nn

    left = {id(norm): getattr(norm, "act", nn.Identity()) for norm in folded}
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if id(child) in left:
                setattr(parent, name, left[id(child)])


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Changes a convolution so that it returns what the batch norm would."""
    import torch
    from torch import nn

    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.double()
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    shifted = (bias - norm.running_mean.double()) * scale
    if norm.affine:
        shifted = shifted + norm.bias.double()
    conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
    conv.bias = nn.Parameter(shifted.to(conv.weight.dtype), requires_grad=False)
