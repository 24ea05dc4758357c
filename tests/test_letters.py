from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evaluate.letters import letters


@st.composite
def verdicts(draw):
    """Up to eight systems, best first, and the pairs of them that can be told apart."""
    systems = list(range(draw(st.integers(0, 8))))
    pairs = [frozenset(pair) for pair in combinations(systems, 2)]
    return systems, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


def marks(text):
    """The letters of a system one by one; each may carry a number."""
    parts = []
    for character in text:
        if character.isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return set(parts)


@given(verdicts())
@example((list(range(6)), [frozenset(pair) for pair in [(0, 3), (1, 4), (2, 5)]]))
def test_two_systems_share_a_letter_if_and_only_if_they_cannot_be_told_apart(given_):
    systems, apart = given_
    found = {system: marks(text) for system, text in letters(systems, apart).items()}
    assert list(found) == systems
    assert all(found.values())
    for pair in map(frozenset, combinations(systems, 2)):
        a, b = pair
        assert bool(found[a] & found[b]) == (pair not in apart)


@given(verdicts())
def test_no_group_lies_within_another(given_):
    found = {system: marks(text) for system, text in letters(*given_).items()}
    members = [{s for s in found if mark in found[s]} for mark in set().union(*found.values())]
    assert not any(one < other or one == other for one, other in combinations(members, 2))
    assert not any(other < one for one, other in combinations(members, 2))


@given(verdicts(), st.randoms())
def test_the_order_of_the_pairs_does_not_matter(given_, random):
    systems, apart = given_
    shuffled = list(apart)
    random.shuffle(shuffled)
    assert letters(systems, shuffled) == letters(systems, apart)


@given(verdicts())
def test_the_best_system_has_the_first_letter(given_):
    systems, apart = given_
    found = letters(systems, apart)
    assert not systems or "a" in marks(found[systems[0]])


@pytest.mark.parametrize("many", [26, 60])
def test_more_groups_than_letters(many):
    """Neighbours alone are alike: as many groups as neighbours."""
    systems = list(range(many))
    apart = [frozenset(pair) for pair in combinations(systems, 2) if abs(pair[0] - pair[1]) > 1]
    found = letters(systems, apart)
    assert len(set().union(*(marks(text) for text in found.values()))) == many - 1
    assert found[0] == "a"
