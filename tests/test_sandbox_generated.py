"""Counts and ids computed from the seed, and the position computed back from an id."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.sandbox.generated import SeededGenerator, format_uuid

POSITIONS = st.integers(0, 10_000_000)
SLOTS = st.integers(0, 19)


@given(seed=st.integers(0, 5), position=POSITIONS, slot=SLOTS)
def test_the_position_is_computed_back_from_an_id(seed: int, position: int, slot: int) -> None:
    """Within one seed. With another seed the id is unknown."""
    call = SeededGenerator(seed).make_id("c", position, slot)
    assert SeededGenerator(seed).locate(call) == (position, slot)
    assert SeededGenerator(seed + 1).locate(call) is None


@pytest.mark.parametrize("change", ["", "c-", "c-0", "x", "c-zzzzzzzz-0", "c--1234567"])
def test_text_that_is_not_an_id_is_unknown(change: str) -> None:
    """However it looks."""
    assert SeededGenerator(1).locate(change) is None


@given(where=st.integers(0, 46), what=st.sampled_from("0123456789abcdef-Zé"))
def test_an_id_with_any_character_changed_is_unknown(where: int, what: str) -> None:
    """The whole id counts, not only the part that encodes the position."""
    call = SeededGenerator(1).make_id("c", 7, 3)
    changed = call[:where] + what + call[where + 1 :]
    assert SeededGenerator(1).locate(changed) == ((7, 3) if changed == call else None)


def test_ids_look_like_those_of_bandwidth_and_are_unique() -> None:
    """Prefix, eight hex digits, a UUID of version 4."""
    ids = [SeededGenerator(1).make_id("c", position, slot) for position in range(100) for slot in range(20)]
    assert len(set(ids)) == 2000
    shape = r"c-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(shape, it) for it in ids)


@given(number=st.integers(0, 2**128 - 1))
def test_a_uuid_is_written_as_the_standard_library_writes_it(number: int) -> None:
    """With the version and the variant in their places."""
    assert format_uuid(f"{number:032x}") == str(UUID(int=number, version=4))


def test_numbers_are_spread_over_their_span() -> None:
    """Both ends occur, nothing beyond them, and the same arguments give the same number."""
    numbers = [SeededGenerator(1).count("members", position, (2, 5)) for position in range(4000)]
    assert numbers == [SeededGenerator(1).count("members", position, (2, 5)) for position in range(4000)]
    assert set(numbers) == {2, 3, 4, 5}
    assert all(900 < numbers.count(it) < 1100 for it in set(numbers))
    assert SeededGenerator(1).count("members", 0, (3, 3)) == 3


def test_noise_has_its_length_and_its_name() -> None:
    """Two names make two noises."""
    first, second = (SeededGenerator(1).noise(name, 100) for name in ("r-1", "r-2"))
    assert (len(first), len(second), first == second) == (100, 100, False)
    assert first == SeededGenerator(1).noise("r-1", 100)
