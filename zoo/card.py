"""What a system *is*: the typed form of a TOML card.

A card says everything that the rest of the project needs to build, run, count, score and
report a system. Reading one (`zoo.reading`) is strict: an unknown key, a wrong type or an
inconsistent value is refused with the file and the line.
"""

from __future__ import annotations

from typing import Literal

from zoo.errors import UnknownNameError
from zoo.facts import (
    Assumption,
    Checkpoints,
    Expected,
    MetadataFeature,
    PublishedPredictions,
    Source,
    TrainingSet,
)
from zoo.fields import Name, Positive, SystemName, Table, Text
from zoo.member import Attention, Member, Metadata, Preprocess

__all__ = [
    "VIEWS",
    "Assumption",
    "Attention",
    "Blend",
    "Checkpoints",
    "Expected",
    "Member",
    "Metadata",
    "MetadataFeature",
    "Preprocess",
    "PublishedPredictions",
    "Source",
    "System",
    "TrainingSet",
    "Views",
]

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


class Views(Table, frozen=True):
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


class Blend(Table, frozen=True):
    """How the members become one score: mean of probabilities, or mean of percentile ranks."""

    members: Literal["mean", "rank_mean"] = "mean"


class System(Table, frozen=True):
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
