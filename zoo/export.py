"""Trained networks in ONNX form: exported once, checked against torch, and kept.

An export is named by everything that decides it: the weights, the card's description of the network,
the source of its modules, and the versions of the libraries. Its batch is dynamic and its image size
is the card's: the padding of timm's `tf_*` networks depends on the size.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from zoo import cache
from zoo.errors import MachineError
from zoo.files import write
from zoo.runtime import fold_batch_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.card import Member

TOLERANCE = 1e-4
"""How far a probability of an engine in single precision may be from that of torch."""

RELATIVE = 1e-3
"""The same for logits, as a share of the largest: probabilities of 0 and 1 hide a difference."""

_FOLD_SIDE = 64
_OPSET = 17
_EXPORT_BATCH, _CHECK_BATCH = 2, 3
_LAYERS = ((2, 0.5), (6, 0.3), (24, 0.15), (96, 0.05))
"""Side and strength of the noise that makes images: mostly large shapes, as photographs have."""


class Export(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A network in ONNX form.

    Attributes:
        name: What it is kept under.
        model: Serialised.
        fresh: Whether it was made just now.
    """

    name: str
    model: bytes
    fresh: bool


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """How far an engine's output is from that of torch in single precision, on seeded images.

    Attributes:
        probabilities: Largest absolute difference of a probability.
        logits: Largest absolute difference of a logit, as a share of the largest logit (or of 1).
    """

    probabilities: float
    logits: float

    @property
    def close(self) -> bool:
        """Whether the engine may be used. A difference that is no number is none that passes."""
        return self.probabilities <= TOLERANCE and self.logits <= RELATIVE


def export(network: nn.Module, member: Member, *, anew: bool = False) -> Export:
    """A network in ONNX form, from the folder of kept results where it is there.

    Args:
        network: In eval mode, on the CPU, with its batch norms.
        member: Its card's entry.
        anew: Do not take what is kept.

    Raises:
        MachineError: The exporter cannot translate the network; the message says what it met.
    """
    name = _name(network, member)
    if not anew:
        with suppress(OSError):
            return Export(name=name, model=_path(name).read_bytes(), fresh=False)
    model = _exported(network, member)
    try:
        write(_path(name), model)
    except MachineError:
        cache.warn_unwritable()
    return Export(name=name, model=model, fresh=True)


class Kept(NamedTuple):
    """A network of which there is an export: itself it is made only where that does not suffice.

    Attributes:
        made: The export.
        make: Makes the network, in eval mode, on the CPU.
    """

    made: Export
    make: Callable[[], nn.Module]


def recalled(make: Callable[[], nn.Module], member: Member, known: str) -> Kept:
    """An export by what is known of a network before it is made; exported where it is not kept.

    Args:
        make: Makes the network, in eval mode, on the CPU.
        member: Its card's entry.
        known: A key of everything that decides the network, its weights too, and nothing of how it is run.

    Raises:
        MachineError: As of `export`.
    """
    alias = cache.key("exported", known, code=(__name__,))
    if name := cache.load(alias, str):
        with suppress(OSError):
            return Kept(Export(name=name, model=_path(name).read_bytes(), fresh=False), make)
    network = make()
    made = export(network, member)
    cache.keep(alias, made.name)
    return Kept(made, lambda: network)


def compare(
    network: nn.Module, engine: Callable[..., Tensor], member: Member, batch: int | None = None
) -> Check:
    """Runs a network and what an engine made of it on the same seeded images.

    Args:
        network: In eval mode, on the CPU.
        engine: What it became.
        member: Its card's entry.
        batch: Images of a call of the engine, and then of one with a single image, as what is left over may be; all at
            once where None.
    """
    import torch

    size = batch or _CHECK_BATCH
    left = 1 if batch is not None and batch > 1 else 0
    inputs = sample(member, math.ceil(_CHECK_BATCH / size) * size + left)
    with torch.inference_mode():
        expected = network(*inputs).double()
        found = torch.cat(
            [engine(*some) for some in zip(*(torch.split(each, size) for each in inputs), strict=True)]
        )
        found = found.double()
    if found.shape != expected.shape:
        raise MachineError(
            f"{member.name}: the engine returns {tuple(found.shape)} instead of {tuple(expected.shape)}"
        )
    scale = max(1.0, float(expected.abs().max()))
    return Check(
        probabilities=float((found.softmax(1) - expected.softmax(1)).abs().max()),
        logits=float((found - expected).abs().max()) / scale,
    )


def sample(member: Member, count: int, seed: int = 0) -> list[Tensor]:
    """Seeded inputs of a network: images of coloured blobs, and metadata where it reads them.

    Args:
        member: Whose inputs.
        count: How many.
        seed: Of the noise.
    """
    import torch
    from torch.nn.functional import interpolate

    generator = torch.Generator().manual_seed(seed)
    size = (member.size, member.size)
    layers = [
        strength * interpolate(torch.randn(count, 3, side, side, generator=generator), size=size, mode="bilinear")
        for side, strength in _LAYERS
    ]  # fmt: skip
    inputs = [torch.stack(layers).sum(0)]
    if member.metadata:
        inputs.append(torch.rand(count, member.metadata.features, generator=generator))
    return inputs


def fold(network: nn.Module, member: Member) -> nn.Module:
    """`fold_batch_norm` with inputs of the right kinds: small images, which some networks do not take."""
    import torch

    metadata = [torch.zeros(1, member.metadata.features)] if member.metadata else []
    try:
        return fold_batch_norm(network, torch.zeros(1, 3, _FOLD_SIDE, _FOLD_SIDE), *metadata)
    except (RuntimeError, AssertionError, ValueError, TypeError):
        return fold_batch_norm(network, torch.zeros(1, 3, member.size, member.size), *metadata)


def _exported(network: nn.Module, member: Member) -> bytes:
    import torch

    inputs = tuple(sample(member, _EXPORT_BATCH))
    names = ["image", "metadata"][: len(inputs)]
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        # The tracing exporter takes every network of the zoo, in a tenth of the time of its successor,
        # which cannot decompose a batch norm over metadata. Both say so in warnings.
        warnings.simplefilter("ignore")
        path = Path(place) / "network.onnx"
        try:
            torch.onnx.export(
                _padded(fold(network, member), inputs), inputs, path, dynamo=False, opset_version=_OPSET,
                input_names=names, output_names=["logits"],
                dynamic_axes={each: {0: "batch"} for each in [*names, "logits"]},
            )  # fmt: skip
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise MachineError(
                f"{member.name}: cannot be exported to ONNX ({type(error).__name__}: {said}); "
                "choose --engine torch"
            ) from error
        return path.read_bytes()


def _padded(network: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    """A copy whose convolutions have the padding of this image size as numbers.

    The `tf_*` networks of timm compute it from the size; as a part of the graph that keeps libraries
    from joining it with the convolution, and EfficientNet-B3 is a fifth slower for it.
    """
    import torch
    from timm.layers import Conv2dSame

    fixed = copy.deepcopy(network)
    sizes: dict[nn.Module, set[tuple[int, int]]] = {}

    def called(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes.setdefault(module, set()).add((given[0].shape[2], given[0].shape[3]))

    hooks = [m.register_forward_pre_hook(called) for m in fixed.modules() if isinstance(m, Conv2dSame)]
    try:
        with torch.inference_mode():
            fixed(*(each[:1] for each in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    for parent in list(fixed.modules()):
        for name, child in list(parent.named_children()):
            if len(sizes.get(child, ())) == 1:
                (size,) = sizes[child]
                setattr(parent, name, _with_padding(child, size))
    return fixed


def _with_padding(conv: Any, size: tuple[int, int]) -> nn.Module:
    """A convolution with TensorFlow's `SAME` padding of an image size: the odd one goes to the end."""
    from torch import nn

    def ends(axis: int) -> tuple[int, int]:
        side, stride = size[axis], conv.stride[axis]
        reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
        total = max((math.ceil(side / stride) - 1) * stride + reach - side, 0)
        return total // 2, total - total // 2

    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, 0, conv.dilation, conv.groups,
        bias=conv.bias is not None, device="meta",
    )  # fmt: skip
    plain.weight, plain.bias = conv.weight, conv.bias
    return nn.Sequential(nn.ZeroPad2d((*ends(1), *ends(0))), plain)


def _path(name: str) -> Path:
    return cache.folder() / f"{name}.onnx"


def _name(network: nn.Module, member: Member) -> str:
    return cache.key(
        "export",
        _digest(network),
        sorted({_source(kind) for kind in {type(module) for module in network.modules()}}),
        cache.specification(member),
        code=("zoo.export", "zoo.runtime"),
        packages=("torch", "timm"),
    )


def _digest(network: nn.Module) -> str:
    """Of its structure and all numbers in it."""
    digest = hashlib.sha256(repr(network).encode())
    for key, tensor in network.state_dict().items():
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(_bytes()).numpy())
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8


def _source(kind: type) -> str:
    """A class and the digest of the file that it stands in."""
    try:
        digest = hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # made without a file
        digest = ""
    return f"{kind.__module__}.{kind.__qualname__} {digest}"
