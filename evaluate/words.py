"""Counts as words."""


def many(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    >>> many(1, "lesion"), many(29, "lesion"), many(2, "copy", "copies")
    ('1 lesion', '29 lesions', '2 copies')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
