"""How far a variant's probabilities move from those of fp32, eager, on the same device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import Cell, Variant, from_fields
from benchmarks.subject import Subject, member_of, prepare
from benchmarks.worker import imported

_RANDOM = 8
"""Random images where there are no files."""


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The largest change of a class probability over some images.

    Returns:
        `drift` (or the `reason` why there is none, and whether the variant itself is `broken`), `images` (how many), and
        whether they were read from `files`.
    """
    cell = from_fields(fields)
    reference = Variant(device=cell.variant.device, threads=cell.variant.threads)
    images = _images(cell)
    changed = _probabilities(prepare(cell), images)
    plain = _probabilities(prepare(replace(cell, variant=reference)), images)
    about = {"images": len(images[0]), "files": bool(cell.images)}
    for found, variant in ((plain, reference), (changed, cell.variant)):
        if not found.isfinite().all():
            reason = f"outputs are no numbers (NaN or infinite) in {variant.label}"
            return {"reason": reason, "broken": bool(not changed.isfinite().all()), **about}
    return {"drift": (changed - plain).abs().max().item(), **about}


def _images(cell: Cell) -> list[Tensor]:
    member = cell.members[0]
    generator = torch.Generator().manual_seed(cell.seed)
    if cell.images:
        read, described = imported(cell.reader), member_of(member, cell.reader)
        pixels = torch.stack([torch.as_tensor(read(path, described)) for path in cell.images])
    else:
        pixels = torch.rand((_RANDOM, 3, member["size"], member["size"]), generator=generator)
    if not member.get("metadata"):
        return [pixels]
    return [pixels, torch.rand((len(pixels), member["metadata"]["features"]), generator=generator)]


def _probabilities(subject: Subject, inputs: list[Tensor]) -> Tensor:
    """Of every class, image by image; NaN where a logit is no finite number, which may make a probability of 0 or 1."""
    found = []
    with torch.inference_mode():
        for each in range(len(inputs[0])):
            image, *metadata = (tensor[each : each + 1] for tensor in inputs)
            given = [subject.formatted(image), *(tensor.to(subject.device) for tensor in metadata)]
            logits = subject.forward(subject.networks[0], given).float()
            logits = logits.where(logits.isfinite(), torch.nan)
            found.append((logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)).cpu())
    return torch.cat(found)
