"""The calls: how they are generated, and how long they are known."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from bandwidth_async.sandbox.calls import CallStore
from bandwidth_async.sandbox.conferences import ConferenceStore
from bandwidth_async.sandbox.generated import SeededGenerator

NOW = datetime(2026, 11, 22, 8, 0, 0, 123_987, tzinfo=UTC)
HEX = "[0-9a-f]"
UUID_SHAPE = f"{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}"


def populated(number: int, *, members: tuple[int, int]) -> tuple[ConferenceStore, CallStore]:
    """Return ``number`` conferences and their calls."""
    conferences = ConferenceStore(seed=1)
    conferences.populate(number, NOW)
    calls = CallStore(conferences=conferences, members=members, generator=SeededGenerator(1))
    return conferences, calls


def test_members_are_generated_within_the_span_and_stay_the_same() -> None:
    """Asking twice gives the same calls; their ids are unique and look like Bandwidth's."""
    conferences, calls = populated(60, members=(1, 3))
    members = [calls.members(it) for it in conferences]
    assert members == [calls.members(it) for it in conferences]
    assert {len(it) for it in members} == {1, 2, 3}
    ids = [call.id for it in members for call in it]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(f"c-{HEX}{{8}}-{UUID_SHAPE}", it) for it in ids)


def test_a_conference_that_is_added_with_members_has_them() -> None:
    """``members`` overrides the span that generated conferences have."""
    conferences, calls = populated(2, members=(0, 4))
    conferences.add(at=NOW, members=7)
    assert len(calls.members(list(conferences)[-1])) == 7


def test_a_call_is_known_for_a_week_after_its_end() -> None:
    """As Bandwidth documents it. A call that goes on is known for ever, an invented id never."""
    conferences, calls = populated(3, members=(2, 2))
    first, second = calls.of(list(conferences)[1])
    assert calls.hang_up(first, NOW)
    assert not calls.hang_up(first, NOW)
    for later, known in ((timedelta(days=6, hours=23), first), (timedelta(days=7, seconds=1), None)):
        assert calls.find(first.id, NOW + later) == known
    assert calls.find(second.id, NOW + timedelta(days=100)) == second
    generator = SeededGenerator(1)
    beyond = (
        generator.make_id("c", 1, 2),
        generator.make_id("c", 3, 0),
        generator.make_id("r", 1, 0),
        generator.make_id("conf", 1, 0),
        "c-1",
        "",
    )
    assert [calls.find(it, NOW) for it in beyond] == [None] * 6
