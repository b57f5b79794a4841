"""What a query asks for when it lists conferences, and the link to the next page."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bandwidth_async.sandbox.conferences import ConferenceStore
from bandwidth_async.sandbox.listing import Listing, next_link


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
    ("query", "error"),
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
def test_a_wrong_listing_names_the_parameter(query: dict[str, str], error: str) -> None:
    """What cannot be read is refused, not ignored."""
    with pytest.raises(ValueError, match=error):
        Listing.read(query)


def test_both_times_of_a_listing_are_included() -> None:
    """A conference created at the very minimum or maximum is listed."""
    store = ConferenceStore(seed=1)
    for second in range(5):
        store.add(at=datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC), name=f"n{second}")
    listing = Listing.read(
        {"minCreatedTime": "2026-01-01T00:00:01.000Z", "maxCreatedTime": "2026-01-01T00:00:03Z"}
    )
    assert list(store.positions(earliest=listing.earliest, latest=listing.latest)) == [1, 2, 3]
    assert list(store.positions(name="n4", earliest=listing.earliest)) == [4]
    assert list(store.positions(name="n4", latest=listing.latest)) == []


def test_the_next_link_keeps_the_query() -> None:
    """Only the page token changes from page to page."""
    link = next_link("http://h/c", {"name": "a b", "pageSize": "2", "pageToken": "old"}, 2)
    assert link == '<http://h/c?name=a+b&pageSize=2&pageToken=eyJzdGFydCI6IDJ9>; rel="next"'
