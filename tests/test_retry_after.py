"""How long a response asks us to wait, in every form, with every wrong clock."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from bandwidth_async.retry_after import parse_hint, read_hint

NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT
HOUR = 3600.0

whole_seconds = st.integers(0, 999_999_999)
moments = st.datetimes(datetime(1971, 1, 1), datetime(9999, 1, 1)).map(  # noqa: DTZ001  # made aware below
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
dates = moments.map(lambda moment: format_datetime(moment, usegmt=True))
numbers = st.one_of(
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.decimals(),
    st.sampled_from(["1e309", "0x1", "١٢", "1_0", "²"]),
).map(str)
DATE_PARTS = (
    "Wed, Wednesday, Wed 21 Oct 2015 21-Oct-15 07:28:00 12.34.56.78 GMT +9999 -0000 99999999 , - -- : :: + 1:"
)
date_parts = st.lists(st.sampled_from(DATE_PARTS.split()), max_size=7).map(" ".join)
HINT_PARTS = '"day" ; r t remaining reset = , 0 7 1.5 s ms d hours P PT 1445412485'
hint_parts = st.lists(st.sampled_from(HINT_PARTS.split()), max_size=9).map("".join)
NAMES = "Retry-After retry-after Retry-After-Ms X-RateLimit-Reset X-RateLimit-Remaining RateLimit Date Age"
names = st.sampled_from(NAMES.split())
values = st.one_of(st.text(), numbers, dates, date_parts, hint_parts)
headers = st.lists(st.tuples(names, values), max_size=6)


def http_date(moment: float) -> str:
    """Return epoch seconds as an HTTP date."""
    return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("1.5", 1.5),
        ("0.001", 0.001),
        (" 1 ", 1.0),
        ("\t60\r\n", 60.0),
        ("007", 7.0),
        ("900", 900.0),
        ("999999999", 999_999_999.0),
        ("1, 2", 2.0),
        ("2,1", 2.0),
        ("1, soon", 1.0),
        ("-1", None),
        ("+1", None),
        ("", None),
        (" ", None),
        (",", None),
        ("abc", None),
        ("soon", None),
        ("60 s", 60.0),
        ("60s", 60.0),
        ("1500ms", 1.5),
        ("2 seconds", 2.0),
        ("1 minute 30 seconds", 90.0),
        ("1 hour", 3600.0),
        ("6m0s", 360.0),
        ("1H2M3.5S", 3723.5),
        ("PT30S", 30.0),
        ("P1DT1H", 90_000.0),
        ("1s, 500 ms", 1.0),
        ("P1M", None),
        ("P", None),
        ("PT", None),
        ("30x", None),
        ("s", None),
        ("-30s", None),
        ("5\u017f", None),
        ("99999d", None),
        ("1.", None),
        (".5", None),
        ("1.5.2", None),
        ("inf", None),
        ("Infinity", None),
        ("nan", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("\uff11", None),
        ("\u0661", None),
        ("1000000000", None),
        ("9" * 35, None),
        ("9" * 5000, None),
        ("Wed, 21 Oct 2015 07:28:03 GMT", 3.0),
        (" Wed, 21 Oct 2015 07:28:03 GMT ", 3.0),
        ("Wednesday, 21-Oct-15 07:28:03 GMT", 3.0),
        ("Wed Oct 21 07:28:03 2015", 3.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:27:59 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Wed, 21 Oct 100000 07:28:03 GMT", None),
        ("Wed, 21 Okt 2015 07:28:03 GMT", None),
        ("Wed, 32 Oct 2015 07:28:03 GMT", None),
        ("Wed, 21 Oct 2015 25:28:03 GMT", None),
        ("Wed, 21 Oct 2015", None),
        ("2015-10-21T07:28:03Z", 3.0),
        ("2015-10-21T08:28:03.5+01:00", 3.5),
        ("20151021T072803", 3.0),
        ("2015-10-21 07:27:00", 0.0),
        ("2015-10-21T25:00:00Z", None),
        ("171201230405060", None),
        ("Wed, 21 Oct 2015 07:28:03 GMT, Wed, 21 Oct 2015 07:28:09 GMT", 9.0),
    ],
)
def test_retry_after(value: str, wait: float | None) -> None:
    """Plain seconds, seconds with units, dates and a folded list are understood. Anything else is no hint."""
    assert parse_hint(CIMultiDict({"Retry-After": value}), NOW) == wait


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("1445412485", 5.0),
        ("1445412485.5", 5.5),
        ("1445412485000", 5.0),
        ("1445412485250", 5.25),
        (" 1445412485 ", 5.0),
        ("0", 0.0),
        ("30", 30.0),
        ("0.5", 0.5),
        ("86400", 86_400.0),
        ("86401", None),
        ("999999999", None),
        ("1445412480", 0.0),
        ("1445412479", 0.0),
        ("1445412479999", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e12", None),
        ("9" * 35, None),
        ("Wed, 21 Oct 2015 07:28:03 GMT", 3.0),
        ("2015-10-21T07:28:03Z", 3.0),
        ("1m30s", 90.0),
        ("12ms", 0.012),
        ("2d", None),
        ("9999999999999d", None),
    ],
)
@pytest.mark.parametrize(
    "name", ["X-RateLimit-Reset", "RateLimit-Reset", "X-Rate-Limit-Reset", "X-RateLimit-Reset-After"]
)
def test_the_end_of_a_window(name: str, value: str, wait: float | None) -> None:
    """Epoch seconds, epoch milliseconds and up to a day of seconds are told apart by their size."""
    assert parse_hint(CIMultiDict({name: value}), NOW) == wait


@pytest.mark.parametrize(
    ("pairs", "wait"),
    [
        ([], None),
        ([("Date", http_date(NOW)), ("Age", "5")], None),
        ([("RETRY-AFTER", "4")], 4.0),
        ([("Retry-After", "1"), ("retry-after", "7")], 7.0),
        ([("Retry-After", "7"), ("Retry-After", "1")], 7.0),
        ([("Retry-After", "7"), ("Retry-After", "soon")], 7.0),
        ([("Retry-After", "3"), ("X-RateLimit-Reset", "1445412485")], 3.0),
        ([("Retry-After", "1"), ("X-RateLimit-Reset", "3000")], 1.0),
        ([("Retry-After", "soon"), ("X-RateLimit-Reset", "4")], 4.0),
        ([("Retry-After", "9"), ("X-RateLimit-Reset", "1445412485000")], 9.0),
        ([("Retry-After", http_date(NOW + 9)), ("X-RateLimit-Reset", "4")], 9.0),
        ([("Retry-After", "0"), ("X-RateLimit-Reset", "soon")], 0.0),
        ([("Retry-After", "-1"), ("X-RateLimit-Reset", "4")], 4.0),
        ([("X-RateLimit-Reset", "4"), ("X-RateLimit-Reset", "6")], 6.0),
        ([("Retry-After", "soon"), ("X-RateLimit-Reset", "soon")], None),
        ([("X-RateLimit-Reset", "60, 3600")], 3600.0),
        ([("Retry-After-Ms", "1500")], 1.5),
        ([("X-Ms-Retry-After-Ms", "250")], 0.25),
        ([("Retry-After", "1"), ("Retry-After-Ms", "850")], 1.0),
        ([("Retry-After", "0"), ("Retry-After-Ms", "850")], 0.85),
        ([("X-Retry-In", "1.5s")], 1.5),
        ([("X-Rate-Limit-Retry-After-Seconds", "40")], 40.0),
        ([("X-RateLimit-Reset-Ms", "1500")], 1.5),
        ([("X-RateLimit-Reset-Ms", "1445412485000")], 5.0),
        ([("X-RateLimit-Reset-Msgs", "5")], 5.0),
        ([("RateLimit-ResetTime", http_date(NOW + 9))], 9.0),
        ([("X-RateLimit-Limit", "10, 10;w=1"), ("RateLimit-Policy", '"a";q=10;w=60')], None),
    ],
)
def test_the_longest_valid_hint_wins(pairs: list[tuple[str, str]], wait: float | None) -> None:
    """Of several hints of one header the longest counts. The case of header names does not matter.

    A readable ``Retry-After`` is the server's word for this refusal, so no other header overrules it.
    """
    assert parse_hint(CIMultiDict(pairs), NOW) == wait


@pytest.mark.parametrize(
    ("status", "remaining", "wait"),
    [
        (429, None, 50.0),
        (429, "0", 50.0),
        (429, "some", 50.0),
        (429, "91234", None),
        (403, None, None),
        (403, "0", 50.0),
        (403, "7", None),
        (408, None, None),
        (500, "0", None),
        (503, None, None),
        (503, "0", None),
        (404, "0", None),
    ],
)
def test_a_reset_counts_where_the_quota_refused(
    status: int, remaining: str | None, wait: float | None
) -> None:
    """Many APIs send it with every response: on a 500 it says nothing of when to try again."""
    pairs = [("X-RateLimit-Reset", "50")] + ([("X-RateLimit-Remaining", remaining)] if remaining else [])
    assert parse_hint(CIMultiDict(pairs), NOW, status) == wait
    assert parse_hint(CIMultiDict([*pairs, ("Retry-After", "2")]), NOW, status) == 2.0


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("limit=100, remaining=0, reset=12", 12.0),
        ("limit=100, remaining=7, reset=12", None),
        ("limit=100, reset=12", 12.0),
        ("limit=100;w=60, remaining=0, reset=12", 12.0),
        ('"default";r=0;t=12', 12.0),
        ('"default";r=7;t=12', None),
        ('"default";t=12', 12.0),
        ("default;r=0;t=12", 12.0),
        ('"default" ; R = 0 ; T = 12', 12.0),
        ('"default";r=0', None),
        ('"default";r=0;t=-1', None),
        ('"default";r=0;t=86401', None),
        ('"burst";r=0;t=2, "daily";r=800;t=40000', 2.0),
        ('"burst";r=5;t=2, "daily";r=0;t=40000', 40_000.0),
        ('"burst";r=0;t=2, "hour";r=0;t=30', 30.0),
        ('"a";t=2, "b";r=0;t=3', 3.0),
        ('"a,b;r=9;t=9\\"";r=0;t=3;pk=:aa+t=:', 3.0),
        ("", None),
        ('"', None),
        ("soon", None),
    ],
)
def test_the_ietf_s_own_header(value: str, wait: float | None) -> None:
    """Of several policies the one counts that is used up, whichever version of the draft the server has."""
    headers = CIMultiDict({"RateLimit": value})
    assert parse_hint(headers, NOW) == wait
    assert parse_hint(headers, NOW, 503) is None
    assert parse_hint(CIMultiDict({**headers, "Retry-After": "1"}), NOW) == 1.0


@pytest.mark.parametrize(
    ("pairs", "wait"),
    [
        ("RateLimit-Limit: 10 | RateLimit-Remaining: 0 | RateLimit-Reset: 2", 2.0),
        ("RateLimit-Remaining: 595 | RateLimit-Reset: 1445412540", None),
        ("X-RateLimit-Remaining-Minute: 0 | RateLimit-Remaining: 0 | RateLimit-Reset: 41", 41.0),
        ("X-RateLimit-Remaining: 0 | X-RateLimit-Reset-After: 1.25", 1.25),
        ("X-RateLimit-Remaining: 3 | X-RateLimit-Reset-After: 1.25", None),
        (
            "X-RateLimit-Remaining-Requests: 0 | X-RateLimit-Reset-Requests: 1s"
            " | X-RateLimit-Remaining-Tokens: 149000 | X-RateLimit-Reset-Tokens: 6m0s",
            1.0,
        ),
        (
            "Acme-RateLimit-Requests-Remaining: 0 | Acme-RateLimit-Requests-Reset: 2015-10-21T07:28:30Z"
            " | Acme-RateLimit-Tokens-Remaining: 9 | Acme-RateLimit-Tokens-Reset: 2015-10-21T08:00:00Z",
            30.0,
        ),
        ("X-RateLimit-Remaining: 0, 800 | X-RateLimit-Reset: 2, 3000", 2.0),
        ("X-RateLimit-Remaining: 0 | X-RateLimit-Reset: 2, 3000", 3000.0),
        ("X-RateLimit-Remaining: 800 | X-RateLimit-Reset: 3000 | RateLimit-Reset: 2", 2.0),
        ("X-RateLimit-Remaining: 0 | X-RateLimit-Reset: 2 | RateLimit-Reset: 3000", 2.0),
        ('RateLimit: "a";r=0;t=4 | X-RateLimit-Remaining: 91234 | X-RateLimit-Reset: 3000', 4.0),
    ],
)
def test_the_window_counts_that_is_used_up(pairs: str, wait: float | None) -> None:
    """A window in which requests remain is not what refused, whatever the headers are called."""
    split = (pair.partition(": ") for pair in pairs.split(" | "))
    headers = CIMultiDict([(name, value) for name, _, value in split])
    assert parse_hint(headers, NOW) == wait
    assert parse_hint(headers, NOW, 500) is None


@pytest.mark.parametrize("skew", [-HOUR, -3.0, 0.0, 3.0, HOUR, -30 * 365 * 24 * HOUR])
@pytest.mark.parametrize(
    "hint",
    [
        ("Retry-After", http_date(NOW + 5)),
        ("Retry-After", "5"),
        ("X-RateLimit-Reset", "1445412485"),
        ("X-RateLimit-Reset", "1445412485000"),
        ("X-RateLimit-Reset", "5"),
    ],
)
@pytest.mark.parametrize(
    "clock",
    [
        [("Date", http_date(NOW))],
        [("Date", http_date(NOW - 10)), ("Age", "10")],
        [("Date", http_date(NOW)), ("Age", "a while")],
        [("Date", http_date(NOW)), ("Age", "-10")],
    ],
)
def test_a_wrong_local_clock_does_no_harm(
    skew: float, hint: tuple[str, str], clock: list[tuple[str, str]]
) -> None:
    """Moments count from the response's own ``Date``, and the ``Age`` that a cache adds to it."""
    assert parse_hint(CIMultiDict([hint, *clock]), NOW + skew) == 5.0


@pytest.mark.parametrize("date", ["", "yesterday", "Wed, 21 Okt 2015 07:28:00 GMT", "1445412480"])
def test_without_a_readable_date_the_local_clock_counts(date: str) -> None:
    """If ``Date`` cannot be read, our own clock counts."""
    assert parse_hint(CIMultiDict({"Date": date, "Retry-After": http_date(NOW + 5)}), NOW + 2) == 3.0


@pytest.mark.parametrize("skew", [-2.0, -0.5, 0.5, 2.0])
def test_a_clock_that_is_about_right_is_the_finer_one(skew: float) -> None:
    """``Date`` has whole seconds only, so our own clock counts if it differs by up to 2 s."""
    both = CIMultiDict({"Date": http_date(NOW), "X-RateLimit-Reset": "1445412485"})
    assert parse_hint(both, NOW + skew) == 5.0 - skew


@pytest.mark.parametrize(
    ("pairs", "coarse"),
    [
        ([("Retry-After", "1")], True),
        ([("Retry-After", "1.0")], False),
        ([("Retry-After", "1.5s")], False),
        ([("Retry-After", "PT1S")], True),
        ([("Retry-After", "1m30s")], True),
        ([("Retry-After", "2 minutes")], True),
        ([("Retry-After", "1000ms")], False),
        ([("Retry-After", "1000 milliseconds")], False),
        ([("Retry-After-Ms", "1000")], False),
        ([("Retry-After", http_date(NOW + 1))], True),
        ([("Retry-After", "2015-10-21T07:28:01Z")], True),
        ([("Retry-After", "2015-10-21T07:28:01.000Z")], False),
        ([("X-RateLimit-Reset", "1445412481")], True),
        ([("X-RateLimit-Reset", "1445412481.0")], False),
        ([("X-RateLimit-Reset", "1445412481000")], False),
        ([("X-RateLimit-Reset-Ms", "1000")], False),
        ([("RateLimit", '"default";r=0;t=1')], True),
        ([("Retry-After", "1"), ("Retry-After-Ms", "1000")], False),
        ([("Retry-After-Ms", "850"), ("Retry-After", "1")], True),
    ],
)
def test_whether_a_form_can_tell_parts_of_a_second(pairs: list[tuple[str, str]], *, coarse: bool) -> None:
    """A date and an epoch time are as coarse as whole seconds. Read to the hundredth they looked exact."""
    hint = read_hint(CIMultiDict(pairs), NOW + 0.25)
    assert hint is not None
    assert hint.coarse is coarse


@given(headers, st.floats(0, 4e9))
def test_whatever_the_headers_hold_there_is_an_answer(
    pairs: list[tuple[str, str]], wall_clock: float
) -> None:
    """The parser never raises. It returns seconds that one can wait, or None."""
    wait = parse_hint(CIMultiDict(pairs), wall_clock)
    assert wait is None or (math.isfinite(wait) and wait >= 0)


@pytest.mark.parametrize("name", ["Retry-After", "RateLimit", "X-RateLimit-Reset"])
@pytest.mark.parametrize("text", ['"\\', ",", ", ", ",a", "1s", "1", "r=0;", "\\"])
def test_a_long_header_does_not_hold_up_the_event_loop(name: str, text: str) -> None:
    """Twice the length takes some twice the time, not four times."""

    def seconds(count: int) -> float:
        headers = CIMultiDict({name: text * count + "!"})
        started = time.process_time()
        parse_hint(headers, NOW)
        return time.process_time() - started

    assert min(seconds(8000) for _ in range(3)) < 6 * min(seconds(2000) for _ in range(3)) + 0.02


@given(whole_seconds)
def test_whole_seconds_are_never_taken_for_a_date(seconds: int) -> None:
    """Any plain number up to the limit is that many seconds."""
    assert parse_hint(CIMultiDict({"Retry-After": str(seconds)}), NOW) == seconds


@given(st.lists(whole_seconds, min_size=1, max_size=5))
def test_folded_or_apart_is_the_same(delays: list[int]) -> None:
    """RFC 9110 lets a proxy fold headers of one name into one line. The result is the same."""
    apart = CIMultiDict([("Retry-After", str(delay)) for delay in delays])
    folded = CIMultiDict({"Retry-After": ", ".join(map(str, delays))})
    assert parse_hint(apart, NOW) == parse_hint(folded, NOW) == max(delays)


@given(moments, moments)
def test_a_date_is_waited_for_until_it_comes(opens: datetime, sent: datetime) -> None:
    """The wait is the time from the response to that date, and never negative."""
    both = CIMultiDict(
        {"Date": format_datetime(sent, usegmt=True), "Retry-After": format_datetime(opens, usegmt=True)}
    )
    assert parse_hint(both, sent.timestamp()) == max(0.0, (opens - sent).total_seconds())
