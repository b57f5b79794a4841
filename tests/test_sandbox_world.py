"""The conferences, their ending, their paging, and the truth about them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.draws import Draws
from bandwidth_async.sandbox.facts import Conference, wire_time
from bandwidth_async.sandbox.listing import Listing, next_link
from bandwidth_async.sandbox.world import World

NOW = datetime(2026, 11, 22, 8, 0, 0, 123_987, tzinfo=UTC)
HEX = "[0-9a-f]"
UUID_SHAPE = f"{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}"


def populated(number: int, *, members: tuple[int, int] = (0, 4), seed: int = 1) -> World:
    """Return a world of ``number`` conferences."""
    world = World(members=members, seed=seed)
    world.populate(number, NOW)
    return world


def conferences(world: World) -> list[Conference]:
    """Return all conferences, oldest first."""
    return world.page(wanted=lambda _: True, among=world.positions(), start=0, size=10_000)[0]


def test_the_seed_makes_the_ids() -> None:
    """The same seed gives the same ids, another seed none of them; they look like Bandwidth's."""
    ids = populated(50).ids
    assert ids == populated(50).ids
    assert len({*ids, *populated(50, seed=2).ids}) == 100
    assert all(re.fullmatch(f"conf-{HEX}{{8}}-{UUID_SHAPE}", it) for it in ids)


def test_conferences_were_created_one_after_the_other_within_three_hours() -> None:
    """The list is oldest first, in whole milliseconds, and nothing is from the future."""
    times = [conference.created_at for conference in conferences(populated(100))]
    assert times == sorted(set(times))
    assert NOW - timedelta(hours=3, milliseconds=1) <= times[0] <= times[-1] < NOW
    assert all(time.microsecond % 1000 == 0 for time in times)


def test_some_conferences_have_a_tag_and_some_an_event_url() -> None:
    """With and without each of them there are many."""
    facts = [(bool(it.tag), bool(it.event_url)) for it in conferences(populated(60))]
    assert {pair: facts.count(pair) for pair in facts} == {
        (False, False): 10,
        (True, True): 20,
        (True, False): 20,
        (False, True): 10,
    }


def test_members_are_drawn_within_the_span_and_stay_the_same() -> None:
    """Asking twice gives the same calls; their ids are unique and look like Bandwidth's."""
    world = populated(60, members=(1, 3))
    calls = [world.members(it) for it in conferences(world)]
    assert calls == [world.members(it) for it in conferences(world)]
    assert {len(it) for it in calls} == {1, 2, 3}
    ids = [call.id for it in calls for call in it]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(f"c-{HEX}{{8}}-{UUID_SHAPE}", it) for it in ids)


def test_ending_ejects_the_members_and_counts_every_request() -> None:
    """The first end request ends, later ones change nothing but the count."""
    world = World(members=(2, 2), seed=1)
    first, second = world.add(at=NOW), world.add(at=NOW)
    assert [world.end(first, NOW), world.end(first, NOW + timedelta(hours=1))] == [True, False]
    ended, active = conferences(world)
    assert (world.members(ended), len(world.members(active))) == ([], 2)
    assert dict(world.truth(recordings=lambda _: 7)) == {
        first: {
            "ended_at": "2026-11-22T08:00:00.123Z",
            "end_requests": 2,
            "members": 0,
            "active_calls": 2,
            "recordings": 7,
        },
        second: {"ended_at": None, "end_requests": 0, "members": 2, "active_calls": 2, "recordings": 7},
    }


def test_a_conference_can_be_added_with_name_and_members() -> None:
    """What is given is kept; it comes last, even when the clock went backwards."""
    world = populated(2)
    added = world.add(at=NOW - timedelta(days=1), name="my.conf_1-a", members=7)
    last = conferences(world)[-1]
    assert last == Conference(
        position=2, id=added, name="my.conf_1-a", created_at=conferences(world)[1].created_at, members=7
    )
    assert len(world.members(last)) == 7
    assert (world.get(added), world.get("conf-unknown")) == (last, None)


def test_a_call_is_known_for_a_week_after_its_end() -> None:
    """As Bandwidth documents it; one that is alive is known for ever, one that never was at no time."""
    world = populated(3, members=(2, 2))
    first, second = world.calls.of(conferences(world)[1])
    assert world.calls.hang_up(first, NOW)
    assert not world.calls.hang_up(first, NOW)
    for later, known in ((timedelta(days=6, hours=23), first), (timedelta(days=7, seconds=1), None)):
        assert world.call(first.id, NOW + later) == known
    assert world.call(second.id, NOW + timedelta(days=100)) == second
    draws = Draws(1)
    beyond = (
        draws.id("c", 1, 2),
        draws.id("c", 3, 0),
        draws.id("r", 1, 0),
        draws.id("conf", 1, 0),
        "c-1",
        "",
    )
    assert [world.call(it, NOW) for it in beyond] == [None] * 6


def test_the_truth_counts_members_and_calls() -> None:
    """Who leaves is alive, who hangs up is not; a conference counts its own."""
    world = populated(2, members=(3, 3))
    first, second = conferences(world)
    leaving, ending, _ = world.calls.of(first)
    world.calls.leave(leaving, NOW)
    world.calls.leave(leaving, NOW)
    world.calls.hang_up(ending, NOW)
    facts = dict(world.truth(recordings=lambda it: it.position))
    assert [(it["members"], it["active_calls"], it["recordings"]) for it in facts.values()] == [
        (1, 2, 0),
        (3, 3, 1),
    ]
    assert [len(world.members(it)) for it in (first, second)] == [1, 3]
    alive = [call.id for it in (first, second) for call in world.calls.of(it) if call != ending]
    assert list(world.active_calls()) == alive


@pytest.mark.parametrize("name", ["", "with space", "ä", "x" * 101, "a\n"])
def test_a_conference_needs_a_documented_name(name: str) -> None:
    """Bandwidth documents up to 100 letters, digits and -_. for a name."""
    with pytest.raises(ConfigurationError, match="use 1 to 100 letters, digits and"):
        World(members=(0, 0), seed=1).add(at=NOW, name=name)


@pytest.mark.parametrize("members", [-1, 21])
def test_a_conference_holds_up_to_twenty(members: int) -> None:
    """Bandwidth documents at most 20 calls for a conference."""
    with pytest.raises(ConfigurationError, match="a conference holds 0 to 20"):
        World(members=(0, 0), seed=1).add(at=NOW, members=members)


@given(number=st.integers(0, 40), size=st.integers(1, 45), data=st.data())
def test_paging_neither_skips_nor_repeats_while_conferences_end(
    number: int, size: int, data: st.DataObject
) -> None:
    """Whatever ends between two pages, each conference active throughout is seen exactly once."""
    world = populated(number)
    ended: set[str] = set()
    seen: list[str] = []

    def still_active(conference: Conference) -> bool:
        return conference.id not in ended

    start: int | None = 0
    while start is not None:
        page, start = world.page(wanted=still_active, among=world.positions(), start=start, size=size)
        seen += [it.id for it in page]
        if world.ids:
            ended |= data.draw(st.sets(st.sampled_from(world.ids)))
    assert len(seen) == len(set(seen))
    assert [it for it in world.ids if it not in ended] == [it for it in seen if it not in ended]


def test_a_time_on_the_wire_has_milliseconds_and_z() -> None:
    """Also a whole second has its three zeros."""
    assert wire_time(NOW) == "2026-11-22T08:00:00.123Z"
    assert wire_time(NOW.replace(microsecond=0)) == "2026-11-22T08:00:00.000Z"


def test_a_listing_is_read_from_its_query() -> None:
    """All filters are optional; a time may have any zone, and none is UTC."""
    assert Listing.read({}) == Listing(name=None, earliest=None, latest=None, size=1000, start=0)
    query = {
        "name": "a",
        "minCreatedTime": "2026-11-22T08:00:00",
        "maxCreatedTime": "2026-11-22T10:00:00.5+01:00",
        "pageSize": "7",
        "pageToken": "eyJzdGFydCI6IDJ9",
        "other": "ignored",
    }
    assert Listing.read(query) == Listing(
        name="a",
        earliest=datetime(2026, 11, 22, 8, tzinfo=UTC),
        latest=datetime(2026, 11, 22, 9, 0, 0, 500_000, tzinfo=UTC),
        size=7,
        start=2,
    )


@pytest.mark.parametrize(
    ("query", "objection"),
    [
        *(
            ({"pageSize": size}, rf"pageSize must be within the range \[1, 1000\], but was {size}")
            for size in ("0", "1001", "x", "-1", "٣", "1e2", "")
        ),
        *(
            ({"pageToken": token}, "Invalid pageToken: follow the Link header")
            for token in (
                "",
                "x",
                "e30=",
                "W10=",
                "eyJzdGFydCI6IC0xfQ==",
                "eyJzdGFydCI6ICIxIn0=",
                "eyJzdGFydCI6IHRydWV9",
                "ä",
            )
        ),
        ({"minCreatedTime": "yesterday"}, "Invalid minCreatedTime: must be an ISO-8601 time"),
        ({"maxCreatedTime": ""}, "Invalid maxCreatedTime: must be an ISO-8601 time"),
    ],
)
def test_a_wrong_listing_names_the_parameter(query: dict[str, str], objection: str) -> None:
    """What cannot be read is refused, not ignored."""
    with pytest.raises(ValueError, match=objection):
        Listing.read(query)


def test_both_times_of_a_listing_are_included() -> None:
    """A conference created at the very minimum or maximum is listed."""
    world = World(members=(0, 0), seed=1)
    for second in range(5):
        world.add(at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), name=f"n{second}")
    listing = Listing.read(
        {"minCreatedTime": "2026-01-01T00:00:01.000Z", "maxCreatedTime": "2026-01-01T00:00:03Z"}
    )
    assert list(world.positions(earliest=listing.earliest, latest=listing.latest)) == [1, 2, 3]
    assert list(world.positions(name="n4", earliest=listing.earliest)) == [4]
    assert list(world.positions(name="n4", latest=listing.latest)) == []


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
    """By its given name or the one it has of its own, between two times; two may be of one moment."""
    world = World(members=(0, 0), seed=1)
    for number, own in enumerate(given_names):
        world.add(at=NOW.replace(microsecond=0) + timedelta(seconds=number // 2 * 2), name=own)
    found = [
        it
        for it in conferences(world)[start:]
        if (name is None or it.name == name)
        and (earliest is None or it.created_at >= earliest)
        and (latest is None or it.created_at <= latest)
    ]
    among = world.positions(name=name, earliest=earliest, latest=latest)
    following = found[size].position if len(found) > size else None
    page = world.page(wanted=lambda _: True, among=among, start=start, size=size)
    assert page == (found[:size], following)


def test_a_conference_without_a_name_is_called_by_its_position() -> None:
    """Counted from one."""
    world = populated(2)
    world.add(at=NOW, name="conference-000001")
    assert [it.name for it in conferences(world)] == [
        "conference-000001",
        "conference-000002",
        "conference-000001",
    ]
    assert [list(world.positions(name=f"conference-{it}")) for it in ("000001", "000002", "000003")] == [
        [0, 2],
        [1],
        [],
    ]


def test_the_next_link_keeps_the_query() -> None:
    """Only the page token changes from page to page."""
    link = next_link("http://h/c", {"name": "a b", "pageSize": "2", "pageToken": "old"}, 2)
    assert link == '<http://h/c?name=a+b&pageSize=2&pageToken=eyJzdGFydCI6IDJ9>; rel="next"'
