"""The conferences: how they are generated, added, filtered and paged."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.conferences import Conference, ConferenceStore, format_time

NOW = datetime(2026, 11, 22, 8, 0, 0, 123_987, tzinfo=UTC)
HEX = "[0-9a-f]"
UUID_SHAPE = f"{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}"


def populated(number: int, *, seed: int = 1) -> ConferenceStore:
    """Return a store of ``number`` conferences."""
    store = ConferenceStore(seed=seed)
    store.populate(number, NOW)
    return store


def test_the_seed_makes_the_ids() -> None:
    """The same seed gives the same ids, another seed none of them; they look like Bandwidth's."""
    ids = populated(50).ids
    assert ids == populated(50).ids
    assert len({*ids, *populated(50, seed=2).ids}) == 100
    assert all(re.fullmatch(f"conf-{HEX}{{8}}-{UUID_SHAPE}", it) for it in ids)


def test_conferences_were_created_one_after_the_other_within_three_hours() -> None:
    """The list is oldest first, in whole milliseconds, and nothing is from the future."""
    times = [conference.created_at for conference in populated(100)]
    assert times == sorted(set(times))
    assert NOW - timedelta(hours=3, milliseconds=1) <= times[0] <= times[-1] < NOW
    assert all(time.microsecond % 1000 == 0 for time in times)


def test_some_conferences_have_a_tag() -> None:
    """With and without one there are many."""
    tags = [bool(it.tag) for it in populated(60)]
    assert (tags.count(True), tags.count(False)) == (40, 20)


def test_a_conference_can_be_added_with_name_and_members() -> None:
    """What is given is kept; it comes last, even when the clock went backwards."""
    store = populated(2)
    added = store.add(at=NOW - timedelta(days=1), name="my.conf_1-a", members=7)
    last = list(store)[-1]
    assert last == Conference(
        position=2, id=added, name="my.conf_1-a", created_at=list(store)[1].created_at, members=7
    )
    assert (store.get(added), store.get("conf-unknown")) == (last, None)


@pytest.mark.parametrize("name", ["", "with space", "ä", "x" * 101, "a\n"])
def test_a_conference_needs_a_documented_name(name: str) -> None:
    """Bandwidth documents up to 100 letters, digits and -_. for a name."""
    with pytest.raises(ConfigurationError, match="use 1 to 100 letters, digits and"):
        ConferenceStore(seed=1).add(at=NOW, name=name)


@pytest.mark.parametrize("members", [-1, 21])
def test_a_conference_holds_up_to_twenty(members: int) -> None:
    """Bandwidth documents at most 20 calls for a conference."""
    with pytest.raises(ConfigurationError, match="a conference holds 0 to 20"):
        ConferenceStore(seed=1).add(at=NOW, members=members)


@given(number=st.integers(0, 40), size=st.integers(1, 45), data=st.data())
def test_paging_neither_skips_nor_repeats_while_conferences_end(
    number: int, size: int, data: st.DataObject
) -> None:
    """Whatever ends between two pages, each conference that stays active is listed exactly once."""
    store = populated(number)
    ended: set[str] = set()
    seen: list[str] = []

    def still_active(conference: Conference) -> bool:
        return conference.id not in ended

    start: int | None = 0
    while start is not None:
        page, start = store.page(wanted=still_active, among=store.positions(), start=start, size=size)
        seen += [it.id for it in page]
        if store.ids:
            ended |= data.draw(st.sets(st.sampled_from(store.ids)))
    assert len(seen) == len(set(seen))
    assert [it for it in store.ids if it not in ended] == [it for it in seen if it not in ended]


def test_a_time_on_the_wire_has_milliseconds_and_z() -> None:
    """Also a whole second has its three zeros."""
    assert format_time(NOW) == "2026-11-22T08:00:00.123Z"
    assert format_time(NOW.replace(microsecond=0)) == "2026-11-22T08:00:00.000Z"


NAMES = st.sampled_from(
    [None, None, "a", "b", "conference-000002", "conference-000004", "conference-0000001"]
)
TIMES = st.integers(-1, 12).map(lambda second: NOW.replace(microsecond=0) + timedelta(seconds=second))


@given(
    given_names=st.lists(NAMES, max_size=10),
    name=NAMES,
    earliest=st.none() | TIMES,
    latest=st.none() | TIMES,
    start=st.integers(0, 12),
    size=st.integers(1, 4),
)
def test_a_page_has_what_a_look_at_every_conference_finds(
    given_names: list[str | None],
    name: str | None,
    earliest: datetime | None,
    latest: datetime | None,
    start: int,
    size: int,
) -> None:
    """By its given or its default name, between two times; two conferences may have the same time."""
    store = ConferenceStore(seed=1)
    for number, own in enumerate(given_names):
        store.add(at=NOW.replace(microsecond=0) + timedelta(seconds=number // 2 * 2), name=own)
    found = [
        it
        for it in list(store)[start:]
        if (name is None or it.name == name)
        and (earliest is None or it.created_at >= earliest)
        and (latest is None or it.created_at <= latest)
    ]
    among = store.positions(name=name, earliest=earliest, latest=latest)
    following = found[size].position if len(found) > size else None
    page = store.page(wanted=lambda _: True, among=among, start=start, size=size)
    assert page == (found[:size], following)


def test_a_conference_without_a_name_is_named_by_its_position() -> None:
    """Counted from one."""
    store = populated(2)
    store.add(at=NOW, name="conference-000001")
    assert [it.name for it in store] == [
        "conference-000001",
        "conference-000002",
        "conference-000001",
    ]
    assert [list(store.positions(name=f"conference-{it}")) for it in ("000001", "000002", "000003")] == [
        [0, 2],
        [1],
        [],
    ]
