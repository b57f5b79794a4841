"""What is made up and never stored: counts and ids, and the way back from an id."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.sandbox.draws import Draws, uuid_text

POSITIONS = st.integers(0, 10_000_000)
SLOTS = st.integers(0, 19)


@given(seed=st.integers(0, 5), position=POSITIONS, slot=SLOTS)
def test_an_id_leads_back_to_its_place(seed: int, position: int, slot: int) -> None:
    """Within one seed; to another seed it is unknown."""
    call = Draws(seed).id("c", position, slot)
    assert Draws(seed).place(call) == (position, slot)
    assert Draws(seed + 1).place(call) is None


@pytest.mark.parametrize("change", ["", "c-", "c-0", "x", "c-zzzzzzzz-0", "c--1234567"])
def test_what_is_no_id_leads_nowhere(change: str) -> None:
    """However it looks."""
    assert Draws(1).place(change) is None


@given(where=st.integers(0, 46), what=st.sampled_from("0123456789abcdef-Zé"))
def test_an_id_with_any_character_changed_leads_nowhere(where: int, what: str) -> None:
    """The whole id counts, not only the part that holds the place."""
    call = Draws(1).id("c", 7, 3)
    changed = call[:where] + what + call[where + 1 :]
    assert Draws(1).place(changed) == ((7, 3) if changed == call else None)


def test_ids_look_like_those_of_bandwidth_and_are_unique() -> None:
    """Prefix, eight hex digits, a UUID of version 4."""
    ids = [Draws(1).id("c", position, slot) for position in range(100) for slot in range(20)]
    assert len(set(ids)) == 2000
    shape = r"c-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(shape, it) for it in ids)


@given(number=st.integers(0, 2**128 - 1))
def test_a_uuid_is_written_as_the_standard_library_writes_it(number: int) -> None:
    """With the version and the variant in their places."""
    assert uuid_text(f"{number:032x}") == str(UUID(int=number, version=4))


def test_numbers_are_spread_over_their_span() -> None:
    """Both ends occur, nothing beyond them, and each draw is the same again."""
    numbers = [Draws(1).number("members", position, (2, 5)) for position in range(4000)]
    assert numbers == [Draws(1).number("members", position, (2, 5)) for position in range(4000)]
    assert set(numbers) == {2, 3, 4, 5}
    assert all(900 < numbers.count(it) < 1100 for it in set(numbers))
    assert Draws(1).number("members", 0, (3, 3)) == 3


def test_noise_has_its_length_and_its_name() -> None:
    """Two names make two noises."""
    first, second = (Draws(1).noise(name, 100) for name in ("r-1", "r-2"))
    assert (len(first), len(second), first == second) == (100, 100, False)
    assert first == Draws(1).noise("r-1", 100)
