"""What a system *is*: the typed form of a TOML card.

A card says everything that the rest of the project needs to build, run, count, score and
report a system. Reading is strict: an unknown key, a wrong type or an inconsistent value is
refused with the file and the line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from zoo.errors import CardError, UnknownNameError

Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*$")]
SystemName = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]*|(timm|torch|onnx|csv):\S.*)$")]
Network = Annotated[
    str, Meta(pattern=r"^(assembled|timm|torch|onnx|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)$")
]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Probability = Annotated[float, Meta(ge=0, le=1)]

VIEWS = (
    "identity",
    "rows",
    "columns",
    "rows+columns",
    "transpose",
    "transpose+rows",
    "transpose+columns",
    "transpose+rows+columns",
)
"""The eight symmetries of a square image: transpose first, then flip rows, then columns."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A TOML table that refuses keys it does not know."""


class Attention(_Table, frozen=True):
    """Attention modules inserted into the backbone.

    Attributes:
        module: Name of the module: `sge`, `spatial`, `s2_mlp_v2` or `cbam`.
        after: Stages of the backbone (counted from 0) that it follows.
        options: Keyword arguments of the module, beyond its number of channels.
    """

    module: Literal["sge", "spatial", "s2_mlp_v2", "cbam"]
    after: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)]
    options: dict[str, int] = {}


class Metadata(_Table, frozen=True):
    """The branch that reads patient metadata: `features` → `hidden` → `out`, joined to the image features."""

    features: Positive
    hidden: Positive
    out: Positive


class Preprocess(_Table, frozen=True):
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


class Member(_Table, frozen=True, kw_only=True):
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
    options: dict[str, bool | int | float | str] = {}
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
        if self.preprocess.keep_shape and (self.preprocess.resize or self.size) < self.size:
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


class Views(_Table, frozen=True):
    """Test-time views of one image, and how their outputs are averaged.

    Attributes:
        transforms: Distinct symmetries, each one of `VIEWS`.
        weights: How often the published procedure counts each of them; once each where empty.
        crops: The largest number of square crops slid along the long side; 1 is the whole image.
        average: What is averaged over the views: class probabilities or logits.
        note: Where the native procedure takes other views than these.
    """

    transforms: tuple[str, ...] = ("identity",)
    weights: tuple[Positive, ...] = ()
    crops: Positive = 1
    average: Literal["probabilities", "logits"] = "probabilities"
    note: str = ""

    def __post_init__(self) -> None:
        unknown = [view for view in self.transforms if view not in VIEWS]
        if unknown:
            raise ValueError(f"unknown view {unknown[0]!r}; views are {', '.join(VIEWS)}")
        if not self.transforms or len(set(self.transforms)) < len(self.transforms):
            raise ValueError("transforms must be distinct views; count one twice in weights")
        if self.weights and len(self.weights) != len(self.transforms):
            raise ValueError(f"{len(self.weights)} weights for {len(self.transforms)} transforms")

    @property
    def distinct(self) -> int:
        """Forward passes per image, network and fold."""
        return len(self.transforms) * self.crops

    @property
    def published(self) -> int:
        """Forward passes that the published procedure spends, counting repeated views again."""
        return sum(self.weights or (1,) * len(self.transforms)) * self.crops


class Blend(_Table, frozen=True):
    """How the members become one score: mean of probabilities, or mean of percentile ranks."""

    members: Literal["mean", "rank_mean"] = "mean"


class MetadataFeature(_Table, frozen=True):
    """One input of the metadata branch, and how it is made from a test set's table.

    Attributes:
        name: Its name.
        definition: How it is made, in words.
        kind: How it is made: `code` gives a value's number in `codes`; `scaled` divides a number by
            `divisor`; `one_hot` has a column for each of `categories` and one for unknown;
            `log_count` is log(1 + how many images of the set have the same value); `log_file_size`
            is the log of the file's bytes. Logarithms are natural. None where only words say it,
            as in records of older versions.
        role: What the column it reads is to the test set (`evaluate.labels.COLUMNS`); none for
            `log_file_size`.
        codes: For `code`: the number of each value.
        divisor: For `scaled`.
        categories: For `one_hot`: values in the order of their columns.
        unknown: What a missing value gives: the number itself for `code` and `scaled`, the count
            for `log_count`.
        width: Number of columns it takes.
        whole_test_set: Whether it depends on the other images of the test set.
    """

    name: Text
    definition: Text
    kind: Literal["code", "scaled", "one_hot", "log_count", "log_file_size"] | None = None
    role: Literal["sex", "age", "site", "patient", "lesion"] | None = None
    codes: dict[str, float] = {}
    divisor: Annotated[float, Meta(gt=0)] = 1.0
    categories: tuple[Text, ...] = ()
    unknown: float = 0.0
    width: Positive = 1
    whole_test_set: bool = False

    def __post_init__(self) -> None:
        if self.kind is None:
            return
        if (self.role is None) != (self.kind == "log_file_size"):
            raise ValueError("every kind but log_file_size reads a column, and needs its role")
        if bool(self.codes) != (self.kind == "code"):
            raise ValueError("kind code needs codes, and no other kind has them")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("two categories are the same")
        columns = len(self.categories) + 1
        if self.width != columns:
            raise ValueError(f"width is {self.width}, its categories and unknown make {columns}")


class Checkpoints(_Table, frozen=True):
    """Where trained files are and what they are called.

    Attributes:
        layout: Name of the key mapping in `weights/layouts.toml`.
        pattern: File name with `{member}`, `{stage}` and `{fold}`.
        stages: What `{stage}` may be, the published choice first.
        source: Where the files can be had; empty where they are not public.
        kaggle: The data set on Kaggle that holds them, as `owner/name`; empty where there is none.
        sha256: Checksums of the files, by their names, as far as they are pinned.
    """

    layout: Text
    pattern: Text
    stages: tuple[Text, ...] = ()
    source: str = ""
    kaggle: Annotated[str, Meta(pattern=r"^([\w-]+/[\w-]+)?$")] = ""
    sha256: dict[str, Sha256] = {}

    def __post_init__(self) -> None:
        try:
            inside = self.pattern.format(member="member", fold=0, stage="stage")
        except (LookupError, ValueError, AttributeError, TypeError):
            raise ValueError(
                f"pattern {self.pattern!r} may have {{member}}, {{stage}} and {{fold}} and no other braces"
            ) from None
        if inside.startswith("/") or ".." in inside.split("/") or "\\" in inside:
            raise ValueError(f"pattern {self.pattern!r} leads out of the folder of trained files")
        if ("{stage}" in self.pattern) != bool(self.stages):
            raise ValueError(f"pattern {self.pattern!r} has {{stage}} if, and only if, stages are listed")


class PublishedPredictions(_Table, frozen=True):
    """A published file of per-image scores.

    Attributes:
        file: Its name.
        kind: Whether its scores are probabilities or ranks.
        note: What a reader must know of it.
        departures: Where the run that made it departs from the system, so that its scores may be
            weaker than the system is.
    """

    file: Text
    kind: Literal["probability", "rank"]
    note: str = ""
    departures: tuple[Text, ...] = ()


class TrainingSet(_Table, frozen=True):
    """A set of images that networks of the system were trained on, as far as a source says so.

    Attributes:
        name: What it is called.
        labels: Whether its labels are diagnoses or other networks' predictions (pseudo-labels).
        note: Which networks, or what else a reader must know.
    """

    name: Text
    labels: Literal["diagnosis", "pseudo"] = "diagnosis"
    note: str = ""


class Expected(_Table, frozen=True):
    """A figure that a source printed for the system.

    Attributes:
        metric: Name of the metric.
        value: The figure as printed.
        tolerance: Largest difference from a recomputed figure that still rounds to it.
        test_set: What it was measured on.
        source: Who printed it.
        note: What a reader must know of it.
    """

    metric: Text
    value: float
    tolerance: Annotated[float, Meta(ge=0)]
    test_set: Text
    source: Text
    note: str = ""


class Source(_Table, frozen=True):
    """Where the facts of a card come from."""

    title: Text
    url: Text
    licence: str = ""


class Assumption(_Table, frozen=True):
    """Something that no source says and that the results rest on.

    Attributes:
        about: What it is about.
        text: What is assumed, and why.
        option: The option of an attention module that holds it, such as `cbam.kernel_size`, where
            the shapes in a trained file can tell.
        settled: What the trained files say of it; empty where none was asked.
    """

    about: Text
    text: Text
    option: str = ""
    settled: str = ""

    @property
    def kind(self) -> Literal["assumed", "settled"]:
        """Whether it is still an assumption."""
        return "settled" if self.settled else "assumed"

    @property
    def statement(self) -> str:
        """What is known of it.

        >>> Assumption(about="kernel", text="49x49.", settled="7 in the trained files").statement
        '7 in the trained files (was assumed: 49x49.)'
        """
        return f"{self.settled} (was assumed: {self.text})" if self.settled else self.text


class System(_Table, frozen=True):
    """An entry of the comparison: one network, or an ensemble of several.

    Attributes:
        schema: Version of the card format.
        name: Its name here.
        title: Its name in tables.
        group: What kind of entry it is: `attention`, `baseline`, `winner`, or one of your own.
        summary: One sentence.
        aliases: Other names it goes by, among them those of prediction files.
        folds: Trainings of each member, averaged.
        members: Its networks; none where there are only scores that were made elsewhere.
        views: Test-time views.
        blend: How members become one score.
        metadata: The inputs of members that have a metadata branch.
        checkpoints: Trained files.
        trained_on: Training sets that matter to a test set, as far as a source names them.
        predictions: Published per-image scores.
        expected: Published figures.
        assumptions: What no source says.
        limits: What the system cannot do, or what its published scores suffer from.
        sources: Papers and code.
    """

    schema: Literal[1]
    name: SystemName
    title: Text
    group: Name
    summary: Text
    members: tuple[Member, ...]
    folds: Positive
    aliases: tuple[Text, ...] = ()
    views: Views = Views()
    blend: Blend = Blend()
    metadata: tuple[MetadataFeature, ...] = ()
    checkpoints: Checkpoints | None = None
    trained_on: tuple[TrainingSet, ...] = ()
    predictions: tuple[PublishedPredictions, ...] = ()
    expected: tuple[Expected, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    limits: tuple[Text, ...] = ()
    sources: tuple[Source, ...] = ()

    def __post_init__(self) -> None:
        if not self.members and not self.predictions:
            raise ValueError("a system needs members, or predictions that were made elsewhere")
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError("two members have the same name")
        width = sum(feature.width for feature in self.metadata)
        for member in self.members:
            if member.metadata and member.metadata.features != width:
                raise ValueError(
                    f"member {member.name!r} reads {member.metadata.features} metadata features, "
                    f"the card's metadata tables describe {width}"
                )
        options = {
            f"{attention.module}.{option}"
            for member in self.members
            for attention in member.attention
            for option in attention.options
        }
        for assumption in self.assumptions:
            if assumption.option and assumption.option not in options:
                raise ValueError(
                    f"assumption {assumption.about!r}: no attention of a member has the option {assumption.option!r}"
                )
        pattern = self.checkpoints.pattern if self.checkpoints else "{member}{fold}"
        for several, placeholder in ((len(self.members), "{member}"), (self.folds, "{fold}")):
            if several > 1 and placeholder not in pattern:
                raise ValueError(
                    f"checkpoints.pattern needs {placeholder}, or {several} networks would share a file"
                )

    def _repr_html_(self) -> str:
        from zoo.display import html

        return html(self)

    @property
    def output(self) -> Literal["probability", "rank"]:
        """What its scores are after the blend."""
        return "rank" if self.blend.members == "rank_mean" else "probability"

    def member(self, key: int | str | None = None) -> Member:
        """A member by index or by its kernel name; the first one where no key is given.

        Raises:
            UnknownNameError: There is no such member.
        """
        if not self.members:
            raise UnknownNameError(f"{self.name} has no network: its scores were made elsewhere")
        if isinstance(key, str):
            for member in self.members:
                if member.name == key:
                    return member
        elif key is None or 0 <= key < len(self.members):
            return self.members[key or 0]
        listed = ", ".join(f"{i} {member.name}" for i, member in enumerate(self.members))
        raise UnknownNameError(f"{self.name} has no member {key!r}; its members are: {listed}")


def parse(text: str, where: str = "card") -> System:
    """A system from the text of its card.

    A `[defaults]` table holds what all members share; a member's own keys win over it.

    Args:
        text: TOML.
        where: The file's name, for error messages.

    Raises:
        CardError: The text is not TOML, or not a card; says where and why.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CardError(f"{where}: not valid TOML: {error}") from error
    try:
        return msgspec.convert(_with_defaults(raw), System)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `")
        line = _line_of(text, path.rstrip("`").removeprefix("$"), reason)
        raise CardError(f"{where}:{line}: {reason}") from error


def checked(system: System) -> System:
    """A system that was made or changed in code, validated as its card would be.

    Raises:
        CardError: It would not be a valid card.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(system), System)
    except msgspec.ValidationError as error:
        raise CardError(f"{system.name}: not a valid card: {error}") from error


def read(path: Path) -> System:
    """A system from its card's file.

    Raises:
        CardError: The file cannot be read or is not a card.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as a card: {error}") from error
    return parse(text, str(path))


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    defaults = raw.get("defaults", {})
    members = raw.get("members")
    if not isinstance(defaults, dict) or not isinstance(members, list):
        return raw
    merged = [{**defaults, **member} if isinstance(member, dict) else member for member in members]
    return {**{key: value for key, value in raw.items() if key != "defaults"}, "members": merged}


_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_.\"'-]+)\s*=")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


def _line_of(text: str, path: str, reason: str) -> int:
    """The line (from 1) that comes closest to a path such as `.members[1].views`.

    tomllib keeps no positions, so the headers and keys are walked again; a value inside an
    inline table resolves to the line of its key.
    """
    target = re.findall(r"[^.\[\]]+", path)
    unknown = _UNKNOWN.search(reason)
    if unknown:
        target.append(unknown[1])
    targets = [target]
    if target[:1] == ["members"] and len(target) > 2:
        targets.append(["defaults", *target[2:]])
    best_line, best_depth = 1, 0
    prefix: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            name = header[2]
            if header[1] == "[[":
                seen[name] = seen.get(name, -1) + 1
                prefix = [*name.split("."), str(seen[name])]
            else:
                prefix = name.split(".")
            here = prefix
        elif key := _KEY.match(line):
            here = [*prefix, *key[1].replace('"', "").replace("'", "").split(".")]
        else:
            continue
        for wanted in targets:
            depth = len(here)
            if depth > best_depth and wanted[:depth] == here:
                best_line, best_depth = number, depth
    return best_line
