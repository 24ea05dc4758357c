"""Parameters and operations of a network, by three counters that must not disagree unexplained.

The headline figure is that of torch's own counter, halved: it counts two FLOPs for each
multiply-accumulate of a convolution or matrix product, and nothing else. fvcore and thop count
each multiply-accumulate once, and both count more than this family; thop also less.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.explain import ByType, by_type, fvcore_gaps, thop_gaps
from benchmarks.onnx_counts import count_onnx
from benchmarks.results import Operations
from zoo.card import Member
from zoo.errors import InputError
from zoo.networks import assemble
from zoo.whole import Whole

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    from fvcore.nn import FlopCountAnalysis
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="distutils Version classes are deprecated")
    from thop.profile import profile as thop_profile
    from thop.profile import register_hooks as THOP_RULES


def count(member: Member, build: Callable[[Member], nn.Module] | None = None) -> Operations:
    """Counts a member's network.

    Args:
        member: One network of a card.
        build: Makes it; the standard assembly where None.

    Raises:
        CardError: The card asks for a network that cannot be built.
        InputError: The network cannot read an input of its card's size.
    """
    if build is None and member.network == "onnx":
        return count_onnx(member)
    network = (build or assemble)(member).eval()
    tensors = [*network.parameters(), *network.buffers()]
    parameters = sum(tensor.numel() for tensor in network.parameters())
    inputs: tuple[Tensor, ...] = (torch.zeros(1, 3, member.size, member.size),)
    if member.metadata:
        inputs += (torch.zeros(1, member.metadata.features),)
    sizes = {
        "size": member.size,
        "parameters": parameters,
        "buffers": sum(tensor.numel() for tensor in tensors) - parameters,
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    }
    try:
        with torch.inference_mode():
            fvcore, unknown = _fvcore(network, inputs) if traceable(network) else ({}, {})
            # The two others need no arithmetic.
            network, inputs = network.to("meta"), tuple(tensor.to("meta") for tensor in inputs)
            macs = _torch(network, inputs)
            thop = _thop(network, inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{member.name}: a forward pass at {member.size}x{member.size} px fails: {_first_line(error)}; "
            "check the size and metadata of its card, or its builder"
        ) from error
    return Operations(
        **sizes,
        macs=_total(macs),
        counters={
            "torch": _total(macs),
            **({"fvcore": _total(fvcore)} if traceable(network) else {}),
            "thop": _total(thop),
        },
        gaps=tuple(
            chain(
                fvcore_gaps(macs, fvcore, unknown) if traceable(network) else (),
                thop_gaps(macs, thop, THOP_RULES),
            )
        ),
    )


def count_fields(member: Mapping[str, Any]) -> dict[str, Any]:
    """Counts a network of the standard assembly for another process: plain data in, plain data out."""
    return asdict(count(msgspec.convert(member, Member)))


def traceable(network: nn.Module) -> bool:
    """Whether fvcore can look into a network: its tracer takes no program that was exported for any batch."""
    return not (isinstance(network, Whole) and network.form.batch is None)


def _fvcore(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[ByType, ByType]:
    """Counts by fvcore, and how often it met operators without a rule."""
    analysis = FlopCountAnalysis(network, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    counts: dict[str, Counter[str]] = analysis.by_module_and_operator()
    unknown = {path: analysis.unsupported_ops(path) for path in counts}
    return by_type(network, counts), by_type(network, unknown)


def _torch(network: nn.Module, inputs: tuple[Tensor, ...]) -> ByType:
    """Counts by torch, in MACs."""
    with FlopCounterMode(display=False) as mode:
        network(*inputs)
    # Paths begin with the class of the root; "Global" and modules that are nobody's child are in it too.
    root = type(network).__name__
    counts = {
        path.removeprefix(root).removeprefix("."): Counter(
            {str(operator): flops // 2 for operator, flops in by_operator.items()}
        )
        for path, by_operator in mode.get_flop_counts().items()
        if path == root or path.startswith(f"{root}.")
    }
    return by_type(network, counts)


def _thop(network: nn.Module, inputs: tuple[Tensor, ...]) -> ByType:
    """Counts by thop, which leaves buffers behind in the network."""
    total, _, layers = thop_profile(network, inputs, verbose=False, ret_layer_info=True)
    return by_type(network, {"": Counter(thop=int(total)), **dict(_walk(layers))})


def _walk(layers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Counter[str]]]:
    for name, (macs, _, below) in layers.items():
        yield prefix + name, Counter(thop=int(macs))
        yield from _walk(below, f"{prefix}{name}.")


def _total(counts: ByType) -> int:
    return sum(counter.total() for counter in counts.values())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
