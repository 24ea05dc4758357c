"""Assembly of a member's network from its card.

All networks of the comparison are of one family: a timm backbone, attention modules between
its stages, a pooling, a metadata branch beside it, and one linear head. Keys of a state_dict
begin with `backbone.`, `meta.` or `head.`; the rest of a backbone key is timm's own.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import timm
import torch
from torch import Tensor, nn

from zoo.attention import MODULES
from zoo.errors import CardError, UsageError
from zoo.kinds import make

if TYPE_CHECKING:
    from zoo.card import Attention, Member, Metadata


class GeM(nn.Module):
    """Generalised-mean pooling with a learned exponent, (N, C, H, W) → (N, C).

    `mean(x^p)^(1/p)` over the positions, `x` clamped from below; p = 1 is the average and
    large p the maximum. Radenović, Tolias & Chum 2018, https://arxiv.org/abs/1711.02512.

    Args:
        p: What the exponent starts at.
        eps: Lower bound of `x`.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), p))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Pools over all positions."""
        # A cube leaves the range of half precision where the map itself is far inside it.
        wide = x.to(torch.promote_types(x.dtype, torch.float32)).clamp(min=self.eps)
        return wide.pow(self.p).mean((2, 3)).pow(1 / self.p).to(x.dtype)


class Network(nn.Module):
    """A backbone, an optional metadata branch and a linear head.

    Args:
        backbone: Maps images to features (N, F).
        meta: Maps metadata to features (N, M), or None.
        head: Maps (N, F + M) to logits.
    """

    def __init__(self, backbone: nn.Module, meta: nn.Sequential | None, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.meta = meta
        self.head = head

    def forward(self, image: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits of a batch.

        Args:
            image: (N, 3, size, size), preprocessed.
            metadata: (N, features), for a network with a metadata branch.

        Returns:
            Logits, (N, classes).

        Raises:
            UsageError: Metadata is missing, or given to a network that reads none.
        """
        if (self.meta is None) != (metadata is None):
            raise UsageError(
                "this network reads no metadata; call it with the image alone"
                if self.meta is None
                else f"this network reads metadata too; pass metadata of shape (N, {self.meta[0].in_features})"
            )
        features = self.backbone(image)
        if self.meta is not None:
            features = torch.cat((features, self.meta(metadata)), dim=1)
        logits: Tensor = self.head(features)
        return logits


def assemble(member: Member) -> nn.Module:
    """The network that a card describes, with random weights, in training mode.

    Other kinds than the standard assembly are made by `zoo.kinds`. Builds on whatever device is the default, the meta device too.

    Args:
        member: One network of a card.

    Raises:
        CardError: The card asks for a backbone that timm does not have, or for attention or
            pooling that this backbone cannot take; the message says what it can.
    """
    if member.network != "assembled":
        return make(member)
    known_backbone(member)
    backbone = timm.create_model(member.backbone, pretrained=False, num_classes=0)
    if member.attention:
        backbone.blocks = _with_attention(getattr(backbone, "blocks", None), member)
    if member.pool == "gem":
        if not isinstance(getattr(backbone, "global_pool", None), nn.Module):
            raise CardError(
                f"{member.name}: {member.backbone} has no global pooling that GeM could replace; "
                'set pool = "average"'
            )
        backbone.global_pool = GeM()
    meta = _metadata_branch(member.metadata) if member.metadata else None
    width = backbone.head_hidden_size + (member.metadata.out if member.metadata else 0)
    return Network(backbone, meta, nn.Linear(width, len(member.classes)))


def known_backbone(member: Member) -> None:
    """Makes sure that timm has a member's backbone.

    Raises:
        CardError: It has not; the message has the nearest names.
    """
    if not timm.is_model(member.backbone):
        near = difflib.get_close_matches(member.backbone, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() has the names"
        raise CardError(f"{member.name}: timm has no backbone {member.backbone!r}; {hint}")


def _with_attention(stages: nn.Module | None, member: Member) -> nn.Sequential:
    """The stages with attention modules between them, counted on: keys of later stages move up."""
    if not isinstance(stages, nn.Sequential):
        raise CardError(
            f"{member.name}: {member.backbone} has no `blocks` to put attention between; "
            "choose a backbone of timm's EfficientNet family, or leave attention out"
        )
    last = len(stages) - 1
    for attention in member.attention:
        if max(attention.after) > last:
            raise CardError(
                f"{member.name}: attention after stage {max(attention.after)}, "
                f"but {member.backbone} has stages 0 to {last}"
            )
    modules: list[nn.Module] = []
    for index, (stage, channels) in enumerate(zip(stages, _channels(member), strict=True)):
        modules.append(stage)
        modules.extend(_module(a, channels, member) for a in member.attention if index in a.after)
    return nn.Sequential(*modules)


def _channels(member: Member) -> list[int]:
    """Channels after each stage, read off a forward pass on the meta device (no memory, no arithmetic)."""
    shapes: list[torch.Size] = []
    with torch.device("meta"):
        probe = timm.create_model(member.backbone, pretrained=False, num_classes=0).eval()
        for stage in probe.blocks:
            stage.register_forward_hook(lambda _stage, _args, out: shapes.append(out.shape))
        probe(torch.empty(1, *probe.default_cfg["input_size"]))
    if any(len(shape) != 4 for shape in shapes):
        raise CardError(
            f"{member.name}: the blocks of {member.backbone} hand on no feature maps that attention could "
            "weight; choose a backbone of timm's EfficientNet family, or leave attention out"
        )
    return [shape[1] for shape in shapes]


def _module(attention: Attention, channels: int, member: Member) -> nn.Module:
    try:
        return MODULES[attention.module](channels, **attention.options)
    except (TypeError, ValueError) as error:
        raise CardError(f"{member.name}: attention {attention.module!r}: {error}") from error


def _metadata_branch(metadata: Metadata) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(metadata.features, metadata.hidden),
        nn.BatchNorm1d(metadata.hidden),
        nn.SiLU(),
        nn.Dropout(0.3),
        nn.Linear(metadata.hidden, metadata.out),
        nn.BatchNorm1d(metadata.out),
        nn.SiLU(),
    )
