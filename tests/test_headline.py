"""The sentences at the top of the page say no more than the comparison does."""

from __future__ import annotations

import msgspec
import pytest

from reports.page.headline import headline
from reports.record import Record


@pytest.mark.parametrize(
    ("separable", "sentence"),
    [
        (True, "Every other system can be told apart from it."),
        (None, "Whether all others can be told apart from it could not be judged."),
    ],
)
def test_systems_are_told_apart_only_where_that_was_judged(
    record: Record, separable: bool | None, sentence: str
) -> None:
    changed = tuple(
        msgspec.structs.replace(
            scores,
            differences=tuple(
                msgspec.structs.replace(each, separable=separable) for each in scores.differences
            ),
        )
        for scores in record.scores
    )
    said = headline(msgspec.structs.replace(record, scores=changed))
    assert sentence in said
    assert sum("told apart" in each for each in said) == 1


def test_a_smaller_system_that_cannot_be_told_apart_is_named(record: Record) -> None:
    changed = tuple(
        msgspec.structs.replace(
            scores,
            differences=tuple(msgspec.structs.replace(each, separable=False) for each in scores.differences),
        )
        for scores in record.scores
    )
    said = " ".join(headline(msgspec.structs.replace(record, scores=changed)))
    assert "fewer parameters (counting networks) and cannot be told apart from it" in said
    assert "That does not make them equal." in said
