"""Random weights for trials: as quick to make as a network, and alive like a trained one.

A new network of this depth says the same of every image: what it sees is halved by each gate and
never normalised, since the statistics of its batch norms are made up. Here they are measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

_IMAGES, _SIDE = 8, 128
_LAYERS = ((1, 1.0), (2, 1.0), (6, 0.5), (24, 0.3), (_SIDE, 0.1))
"""Side and strength of the noise that makes the images: mostly large shapes, as photographs have."""

_LEAST_VARIANCE = 0.05
"""Share of a layer's mean variance that every channel has at least, so that none is blown up."""


def enliven(network: nn.Module, seed: int, features: int = 0, side: int = 128) -> None:
    """Gives a network with random weights the statistics of seeded noise, in place.

    Every batch norm takes the mean and variance of what reaches it, and the head is scaled and
    shifted so that logits over the noise have mean 0 and standard deviation 1 on average.

    Args:
        network: In eval mode, on the CPU; with a linear layer `head`, or timm's classifier, where it has one.
        seed: Of the noise.
        features: Metadata features that it reads; 0 where it reads none.
        side: Of the noise, in pixels, where the network takes only one.
    """
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    inputs = [_noise(generator, side)]
    if features:
        inputs.append(torch.randn(_IMAGES, features, generator=generator))
    head = getattr(network, "head", None)
    if not isinstance(head, nn.Linear) and hasattr(network, "get_classifier"):
        head = network.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear) and not head.weight.any():
        # Training of some networks begins with a head of zeros, which has nothing to scale.
        nn.init.normal_(head.weight, std=head.in_features**-0.5, generator=generator)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_measure) for norm in norms]
    try:
        with torch.inference_mode():
            logits = network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(head, nn.Linear):
        scale = 1 / logits.std(0).mean()
        with torch.no_grad():
            head.weight.mul_(scale)
            if head.bias is not None:
                head.bias.copy_((head.bias - logits.mean(0)) * scale)


def _measure(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
    """Puts the statistics of a batch norm's input into it, before it runs."""
    values = given[0].transpose(0, 1).flatten(1)
    variance = values.var(1, correction=0)
    norm.get_buffer("running_mean").copy_(values.mean(1))
    norm.get_buffer("running_var").copy_(variance.clamp(min=_LEAST_VARIANCE * float(variance.mean())))


def _noise(generator: Generator, size: int) -> Tensor:
    import torch
    from torch.nn.functional import interpolate

    layers = [
        strength
        * interpolate(
            torch.randn(_IMAGES, 3, side, side, generator=generator), size=(size, size), mode="bilinear"
        )
        for side, strength in _LAYERS
    ]
    return torch.stack(layers).sum(0)
