"""Networks that come whole, as one file: what all kinds of such files have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import CardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Form(NamedTuple):
    """What a file says of its network.

    Attributes:
        size: Side of its square input in pixels; None where any will do.
        outputs: How many it has for an image; None where the file leaves it open.
        batch: How many images it takes at a time; None where any number will do.
        inputs: How many inputs it has: the image, and perhaps metadata.
    """

    size: int | None
    outputs: int | None
    batch: int | None
    inputs: int = 1


def form(images: list[Any], outputs: list[Any], inputs: int, where: str) -> Form:
    """Reads the shapes of a network's image input and of what it returns.

    Args:
        images: Shape of the image input; what is no number is open.
        outputs: Shape of what it returns.
        inputs: How many inputs it has.
        where: The file, for error messages.

    Raises:
        CardError: It is no classifier of square colour images.

    >>> form(["batch", 3, 64, 64], ["batch", 2], 1, "a.onnx")
    Form(size=64, outputs=2, batch=None, inputs=1)
    """
    shape, returned = (
        [side if isinstance(side, int) else None for side in each] for each in (images, outputs)
    )
    if len(shape) != 4 or shape[1] not in (None, 3) or shape[2] != shape[3]:
        raise CardError(
            f"{where}: its input is {_shown(shape)}, not square colour images (N, 3, side, side); "
            "export it with an input of that shape"
        )
    if len(returned) not in (1, 2):
        raise CardError(
            f"{where}: it returns {_shown(returned)}, not logits (N, classes); export the classifier alone"
        )
    return Form(shape[2], 1 if len(returned) == 1 else returned[1], shape[0], inputs)


def _shown(shape: list[int | None]) -> str:
    return f"({', '.join('?' if side is None else str(side) for side in shape)})"


class Whole(nn.Module):
    """A network that came as one file.

    Images go through in pieces where the file fixes how many it takes; the last piece is filled up
    with its own first image. It has no training mode.

    Args:
        form: What the file says of it.
        probabilities: Whether it returns probabilities; logits with the same softmax or sigmoid are
            made of them.
        where: The file, for error messages.
    """

    def __init__(self, form: Form, *, probabilities: bool, where: str) -> None:
        super().__init__()
        self.form = form
        self.probabilities = probabilities
        self.where = where
        self.training = False

    def train(self, mode: bool = True) -> Whole:  # noqa: ARG002
        """Nothing: an exported network is as it was exported."""
        return self

    def once(self, *inputs: Tensor) -> Tensor:
        """What the file's network returns for as many images as it takes."""
        raise NotImplementedError

    def forward(self, image: Tensor, metadata: Tensor | None = None) -> Tensor:
        """Logits of a batch.

        Args:
            image: (N, 3, size, size), preprocessed.
            metadata: (N, features), for a network that reads them.

        Returns:
            Logits, (N, classes).

        Raises:
            UsageError: A lower precision was asked for: the file fixes it.
        """
        if image.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(image.device.type):
            raise UsageError(
                f"{self.where}: an exported network computes in the precision that it was exported in; "
                "leave --precision at fp32"
            )
        inputs = (image,) if metadata is None else (image, metadata)
        pieces = [self._piece(*piece) for piece in _pieces(inputs, self.form.batch)]
        found = torch.cat(pieces)
        found = found[:, None] if found.ndim == 1 else found
        return _logits(found) if self.probabilities else found

    def _piece(self, *inputs: Tensor) -> Tensor:
        count, batch = len(inputs[0]), self.form.batch or len(inputs[0])
        if count < batch:
            inputs = tuple(
                torch.cat([each, each[:1].expand(batch - count, *each.shape[1:])]) for each in inputs
            )
        return self.once(*(each.contiguous() for each in inputs))[:count]


def _pieces(inputs: tuple[Tensor, ...], batch: int | None) -> list[tuple[Tensor, ...]]:
    if batch is None:
        return [inputs]
    return list(zip(*(torch.split(each, batch) for each in inputs), strict=True))


def _logits(probabilities: Tensor) -> Tensor:
    """Logits whose softmax (of one output: sigmoid) is the probabilities."""
    least = torch.finfo(probabilities.dtype).tiny
    if probabilities.shape[1] == 1:
        return torch.logit(probabilities, eps=torch.finfo(probabilities.dtype).eps)
    return probabilities.clamp(min=least).log()


def trusted(read: Callable[[], Any], where: str) -> Any:
    """What a reader makes of a file; whatever is wrong with the file is one line."""
    try:
        return read()
    except (CardError, UsageError):
        raise
    except Exception as error:  # The libraries fail in their own ways, and a broken file may fail anywhere.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CardError(
            f"{where}: damaged, or not the kind of file that its name says ({reason}); export it again"
        ) from error
