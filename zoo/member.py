"""One network of a system: what it is made of, and what an image goes through before it."""

from __future__ import annotations

from math import inf, isfinite
from typing import Annotated, Literal

from msgspec import Meta, field

from zoo.fields import Network, Positive, Table, Text


class Attention(Table, frozen=True):
    """Attention modules inserted into the backbone.

    Attributes:
        module: Name of the module: `sge`, `spatial`, `s2_mlp_v2` or `cbam`.
        after: Stages of the backbone (counted from 0) that it follows.
        options: Keyword arguments of the module, beyond its number of channels.
    """

    module: Literal["sge", "spatial", "s2_mlp_v2", "cbam"]
    after: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)]
    options: dict[str, int] = field(default_factory=dict)


class Metadata(Table, frozen=True):
    """The branch that reads patient metadata: `features` → `hidden` → `out`, joined to the image features."""

    features: Positive
    hidden: Positive
    out: Positive


class Preprocess(Table, frozen=True):
    """From a decoded 8-bit RGB image to the network's input, in this order.

    Attributes:
        resize: Side in pixels of the square that the image is resized to (without keeping
            its shape); the network's input side where None.
        keep_shape: Resize the short side to `resize` and keep the image's shape instead, as timm
            and torchvision do; what sticks out of the central square is cut off.
        crop: Side in pixels of the central crop taken after that, or None.
        interpolation: OpenCV's interpolation.
        antialias: Whether the resize smooths before it shrinks.
        mean: Subtracted per channel after division by 255.
        std: Divided by per channel after that.
    """

    resize: Positive | None = None
    keep_shape: bool = False
    crop: Positive | None = None
    interpolation: Literal["bilinear", "bicubic", "area"] = "bilinear"
    antialias: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not all(map(isfinite, self.mean)) or not all(0 < each < inf for each in self.std):
            raise ValueError("mean and std must be finite numbers, and std above 0")


class Member(Table, frozen=True, kw_only=True):
    """One network of a system.

    Attributes:
        name: The authors' name for it (kernel type), as its files are called.
        backbone: Name in timm, for networks that are `assembled` or timm's own; else what to call
            the architecture in tables.
        network: What makes it. `assembled` is a backbone of timm, attention modules, a pooling, a
            metadata branch and a linear head; `timm` is timm's model with its own head, whose trained
            files have timm's keys; `torch` and `onnx` are a `file` that holds the whole network;
            `package.module:function` is a builder of your own, called with the member.
        file: For `torch` and `onnx`: the file, from the card's folder.
        options: Keyword arguments of timm's model, or what a builder of your own reads. For `torch`
            and `onnx`, `outputs = "probabilities"` says that they are not logits.
        size: Side of its square input, in pixels.
        classes: Class names, in the order of the outputs. A single class is a sigmoid output.
        melanoma: Index of melanoma in `classes`.
        pool: Pooling of the last feature map: average, or generalised mean (GeM) with a learned exponent.
        attention: Attention modules between the backbone's stages.
        metadata: The metadata branch, or None.
        preprocess: How an image becomes its input.
    """

    name: Text
    backbone: str = ""
    network: Network = "assembled"
    file: str = ""
    options: dict[str, bool | int | float | str] = field(default_factory=dict)
    size: Positive
    classes: Annotated[tuple[Text, ...], Meta(min_length=1)]
    melanoma: Annotated[int, Meta(ge=0)]
    pool: Literal["average", "gem"] = "average"
    attention: tuple[Attention, ...] = ()
    metadata: Metadata | None = None
    preprocess: Preprocess = Preprocess()

    def __post_init__(self) -> None:
        if self.melanoma >= len(self.classes):
            raise ValueError(f"melanoma = {self.melanoma} is not an index of {len(self.classes)} classes")
        if self.classes[self.melanoma] != "MEL":
            raise ValueError(f"class {self.melanoma} is {self.classes[self.melanoma]!r}, not 'MEL'")
        if self.preprocess.crop not in (None, self.size):
            raise ValueError(f"preprocess.crop = {self.preprocess.crop} is not the input size {self.size}")
        if self.classes.count("MEL") > 1:
            raise ValueError("two classes are 'MEL'; give the one that is not melanoma another name")
        if (self.preprocess.resize or self.size) < self.size:
            raise ValueError(
                f"preprocess.resize = {self.preprocess.resize} is less than the input size {self.size}"
            )
        if self.network in ("assembled", "timm") and not self.backbone:
            raise ValueError("Object missing required field `backbone`")
        if bool(self.file) != self.complete:
            raise ValueError(
                f"network {self.network!r} needs its file"
                if self.complete
                else f"a file makes networks of kind torch and onnx, not {self.network!r}"
            )

    @property
    def complete(self) -> bool:
        """Whether its file holds the whole network, weights and all."""
        return self.network in ("torch", "onnx")

    @property
    def architecture(self) -> str:
        """What makes its layers: the backbone and its attention modules, whatever the head.

        >>> Member(name="a", backbone="resnet18", size=64, classes=("MEL",), melanoma=0).architecture
        'resnet18'
        """
        inserts = [f"{a.module}@{','.join(map(str, a.after))}" for a in self.attention]
        own = [] if self.network in ("assembled", "timm") else [self.file or self.network]
        return "+".join([*filter(None, [self.backbone]), *own, *inserts])
