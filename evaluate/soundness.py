"""Whether a network does what the rest of the project takes for granted.

Each check is a function of the network in question; what fails says how to mend it.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from evaluate import views
from evaluate.blend import blend
from evaluate.loading import elsewhere, network, probe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evaluate.jobs import Training
    from zoo.card import Member, System
    from zoo.registry import Builder

State = Literal["pass", "fail", "n.a."]

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest of them or 1, that counts as rounding."""

SLOWEST_S = 60.0
"""Seconds of one forward pass of one image on the CPU above which a network is not usable here."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one check.

    Attributes:
        name: What was checked.
        state: `pass`, `fail`, or `n.a.` where it does not apply.
        detail: What was seen, or why it does not apply.
        mend: What to do where it failed.
        member: Which network of the system; empty where it is the system's.
    """

    name: str
    state: State
    detail: str = ""
    mend: str = ""
    member: str = ""


def sound(training: Training, card: System, build: Builder | None = None) -> Iterator[Check]:
    """Checks one network, from building it to exporting it.

    Args:
        training: The member, and its trained file or the seed of random weights.
        card: Its system.
        build: Makes it, where it was registered with a builder; as the card says where None.

    Yields:
        A check after the other; where the network cannot be built, there is nothing after that.
    """
    import torch

    member = training.member
    yield _on_meta(member, build)
    try:
        made = network(training, build)
    except Exception as error:  # A builder is somebody else's code.
        yield _check(member, "builds", error, "mend the builder, or what the card says of backbone, attention and options")  # fmt: skip
        return
    size = f"{sum(p.numel() for p in made.parameters()):,} parameters"
    yield _passed(member, "builds", "from its file" if member.complete else size)
    with torch.inference_mode():
        try:
            found = made(*probe(training, 8))
        except Exception as error:
            yield _check(member, "output", error, "make forward take images (N, 3, size, size) of the card's size")  # fmt: skip
            return
        output = _output(member, found)
        yield output
        if output.state == "fail":
            return
        # One image will do where the batch is not what is looked at: forward passes are what a check costs.
        single = made(*probe(training, 1))
        yield _same(member, "same again", lambda: made(*probe(training, 1)), single, "it changes from call to call: switch dropout and random parts off in eval mode")  # fmt: skip
        yield _same(member, "batch 1 and 8", lambda: _one_by_one(made, probe(training, 8)), found, "an image's logits depend on the others of its batch: use no statistics of the batch in eval mode")  # fmt: skip
        yield _same(member, "channels last", lambda: _channels_last(made, probe(training, 1)), single, "use reshape in place of view, and no strides of your own")  # fmt: skip
        yield _second_process(training, single, build)
        yield _views(training, card, made)
        yield _speed(training, made)
    yield _exports(training, made)


def blends(card: System) -> Check:
    """Whether members' made-up scores blend to scores, and a better one is never blended to less."""
    if len(card.members) == 1 and card.folds == 1:
        return Check(name="blend", state="n.a.", detail="one network, one fold")
    random = np.random.default_rng(0)
    made_up = {member.name: random.random((50, card.folds)) for member in card.members}
    low = blend(made_up, card.blend.members)
    raised = {name: np.vstack([scores[:1] * 0 + 1, scores[1:]]) for name, scores in made_up.items()}
    high = blend(raised, card.blend.members)
    if low.min() < 0 or low.max() > 1 or high[0] < low[0]:
        return Check(name="blend", state="fail", detail="scores leave [0, 1], or fall where a member's rise", mend="correct the card's blend")  # fmt: skip
    return Check(
        name="blend", state="pass", detail=f"{len(card.members)} × {card.folds}, {card.blend.members}"
    )


def _on_meta(member: Member, build: Builder | None) -> Check:
    import torch

    from zoo.networks import assemble

    if member.complete:
        return Check(
            name="builds on meta", state="n.a.", detail="it comes whole, from a file", member=member.name
        )
    try:
        with torch.device("meta"):
            made = (build or assemble)(member)
        loose = [name for name, tensor in made.state_dict().items() if not tensor.is_meta]
    except Exception as error:  # A builder is somebody else's code.
        return _check(member, "builds on meta", error, "compute with no values of tensors while building")
    if loose:
        return _failed(member, "builds on meta", f"{loose[0]} is not on the meta device", "make tensors without naming a device")  # fmt: skip
    return _passed(member, "builds on meta")


def _output(member: Member, found: object) -> Check:
    import torch

    wanted = (8, len(member.classes))
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != wanted:
        is_ = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        return _failed(member, "output", f"{is_} for 8 images, not {wanted}", "return logits (N, classes), as many as the card's classes")  # fmt: skip
    if not found.isfinite().all():
        share = int((~found.isfinite()).any(1).sum())
        return _failed(member, "output", f"not finite for {share} of 8 images", "look for a division by zero or an overflow; are the weights whole?")  # fmt: skip
    if found.shape[1] > 1 and found.min() >= 0 and torch.allclose(found.sum(1), torch.ones(8), atol=1e-4):
        return _failed(member, "output", "rows of probabilities, not logits", "return logits; of an exported file say outputs=probabilities")  # fmt: skip
    return _passed(member, "output", f"{wanted} for 8 images, finite")


def _same(member: Member, name: str, compute: Callable[[], Tensor], expected: Tensor, mend: str) -> Check:
    try:
        found = compute()
    except Exception as error:
        return _check(member, name, error, mend)
    difference = float((found - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    detail = f"largest difference of logits {difference:.1e}"
    return _passed(member, name, detail) if difference <= allowed else _failed(member, name, detail, mend)


def _one_by_one(made: nn.Module, inputs: list[Tensor]) -> Tensor:
    import torch

    return torch.cat([made(*(each[i : i + 1] for each in inputs)) for i in range(len(inputs[0]))])


def _channels_last(made: nn.Module, inputs: list[Tensor]) -> Tensor:
    import torch

    found: Tensor = made(inputs[0].to(memory_format=torch.channels_last), *inputs[1:])
    return found


def _second_process(training: Training, single: Tensor, build: Builder | None) -> Check:
    import torch

    member = training.member
    if build is not None:
        return Check(name="second process", state="n.a.", detail="registered in code, which no other process runs", member=member.name)  # fmt: skip
    return _same(member, "second process", lambda: torch.tensor(elsewhere(training)), single, "it depends on more than card, weights and seed: read nothing of the process or the clock, and seed what is random")  # fmt: skip


def _views(training: Training, card: System, made: nn.Module) -> Check:
    """The views together, and some of them alone, since all of them would cost twice as much."""
    from evaluate.forward import Forward

    member = training.member
    pixels = np.random.default_rng(0).integers(0, 256, (1, member.size, member.size, 3), np.uint8)
    rows = None if member.metadata is None else np.zeros((1, member.metadata.features), np.float32)
    try:
        forward = Forward(made, member, device="cpu", precision="fp32", batch_size=4)
        (together,) = forward([pixels], card.views.transforms, rows)
        some = sorted({0, len(together) // 2, len(together) - 1})
        alone = np.concatenate([forward([pixels], [card.views.transforms[i]], rows)[0] for i in some])
        (mean,) = views.average([together], card.views)
    except Exception as error:
        return _check(
            member, "views", error, "make forward take any batch of images, in channels-last order too"
        )
    difference = float(np.abs(together[some] - alone).max())
    whole = len(mean) == 1 or abs(float(mean.sum()) - 1) < TOLERANCE
    if difference > TOLERANCE * max(1.0, float(np.abs(alone).max())) or not whole or mean.min() < 0:
        return _failed(member, "views", f"views differ by {difference:.1e} from those computed alone", "an image's logits depend on the others of its batch")  # fmt: skip
    distinct = card.views.distinct
    return _passed(member, "views", f"{distinct} of them, averaged to probabilities" if distinct > 1 else "the image itself")  # fmt: skip


def _speed(training: Training, made: nn.Module) -> Check:
    import torch

    member, inputs = training.member, probe(training, 1)
    wide = [name for name, tensor in made.state_dict().items() if tensor.dtype == torch.float64]
    if wide:
        return _failed(member, "speed and memory", f"{wide[0]} is of double precision", "build it in single precision")  # fmt: skip
    made(*inputs)
    before, start = _tensor_bytes(), time.perf_counter()
    for _ in range(3):
        made(*inputs)
    seconds = (time.perf_counter() - start) / 3
    grown = _tensor_bytes() - before
    detail = f"{seconds * 1000:,.0f} ms for one image, roughly"
    if seconds > SLOWEST_S:
        return _failed(member, "speed and memory", detail, "is it computed on the CPU by a loop over pixels?")
    if grown > 2**28:
        return _failed(member, "speed and memory", f"memory grows by {grown / 3e6:,.0f} MB with each image", "keep no tensors between calls")  # fmt: skip
    return _passed(member, "speed and memory", detail)


def _tensor_bytes() -> int:
    """Memory of all tensors of this process; its resident memory may be large already, and not grow."""
    import torch

    tensors = (each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter))
    stores = (each.untyped_storage() for each in tensors if each.layout is torch.strided)
    return sum({store.data_ptr(): store.nbytes() for store in stores}.values())


def _exports(training: Training, made: nn.Module) -> Check:
    import torch

    member, inputs = training.member, probe(training, 1)
    if member.complete:
        return Check(name="exports", state="n.a.", detail="it is an exported file", member=member.name)
    # What torch warns of while it exports says nothing of the network.
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        try:
            program = torch.export.export(made, tuple(inputs)).module()
        except Exception as error:
            return _check(
                member, "exports", error, "see torch.export's own advice; `forward` must not branch on values"
            )
        return _same(
            member,
            "exports",
            lambda: program(*inputs),
            made(*inputs),
            "the exported program differs: keep nothing between calls",
        )


def _passed(member: Member, name: str, detail: str = "") -> Check:
    return Check(name=name, state="pass", detail=detail, member=member.name)


def _failed(member: Member, name: str, detail: str, mend: str) -> Check:
    return Check(name=name, state="fail", detail=detail, mend=mend, member=member.name)


def _check(member: Member, name: str, error: Exception, mend: str) -> Check:
    """A check that failed with an error."""
    said = " ".join(f"{type(error).__name__}: {error}".split())[:240]
    return _failed(member, name, said, mend)
