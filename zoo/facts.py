"""What a card says beside its networks: inputs from a table, files, published figures, and sources."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from zoo.fields import Positive, Sha256, Table, Text


class MetadataFeature(Table, frozen=True):
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
    codes: dict[str, float] = field(default_factory=dict)
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


class Checkpoints(Table, frozen=True):
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
    sha256: dict[str, Sha256] = field(default_factory=dict)

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


class PublishedPredictions(Table, frozen=True):
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


class TrainingSet(Table, frozen=True):
    """A set of images that networks of the system were trained on, as far as a source says so.

    Attributes:
        name: What it is called.
        labels: Whether its labels are diagnoses or other networks' predictions (pseudo-labels).
        note: Which networks, or what else a reader must know.
    """

    name: Text
    labels: Literal["diagnosis", "pseudo"] = "diagnosis"
    note: str = ""


class Expected(Table, frozen=True):
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


class Source(Table, frozen=True):
    """Where the facts of a card come from."""

    title: Text
    url: Text
    licence: str = ""


class Assumption(Table, frozen=True):
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
