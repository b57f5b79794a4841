"""What each quota admits, how long a refused request has to wait, and the header of a 429."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.quota import (
    Concurrency,
    FixedWindow,
    Hint,
    Quota,
    Refusal,
    SlidingWindow,
    TokenBucket,
    Unlimited,
    hint_from,
    parse_quota,
    quota_from,
)

WALL = 1_700_000_000.25
gaps = st.lists(st.floats(min_value=0, max_value=3), max_size=120)
starts = st.floats(min_value=0, max_value=1e6)


def admitted(quota: Quota, start: float, waits: list[float]) -> list[float]:
    """Return the times at which ``quota`` admitted a request, one asked after each wait."""
    times, now = [], start
    for wait in waits:
        now += wait
        if quota.admit(now) is None:
            times.append(now)
    return times


def test_a_token_bucket_gives_its_burst_then_its_rate() -> None:
    """After a pause the burst passes at once; then one request passes every 1/rate seconds."""
    bucket = TokenBucket(rate=4, burst=2)
    assert [bucket.admit(now) for now in (10, 10, 10, 10.125, 10.25, 10.25)] == [
        None,
        None,
        Refusal(seconds=0.25),
        Refusal(seconds=0.125),
        None,
        Refusal(seconds=0.25),
    ]


def test_a_fixed_window_starts_at_multiples_of_its_length() -> None:
    """The limit is new at every multiple of the window, however late in it the last one was used."""
    window = FixedWindow(limit=2, window=10)
    assert [window.admit(now) for now in (7, 8, 9, 10, 10, 14)] == [
        None,
        None,
        Refusal(seconds=1),
        None,
        None,
        Refusal(seconds=6),
    ]


def test_a_sliding_window_looks_back_from_every_request() -> None:
    """A place is free again one window after it was taken, not before."""
    window = SlidingWindow(limit=2, window=10)
    assert [window.admit(now) for now in (7, 8, 10, 17, 17, 18)] == [
        None,
        None,
        Refusal(seconds=7),
        None,
        Refusal(seconds=1),
        None,
    ]


def test_concurrency_counts_requests_in_progress() -> None:
    """A place is free when a request leaves; nobody knows when that will be."""
    quota = Concurrency(limit=1)
    assert [quota.admit(0), quota.admit(1)] == [None, Refusal(seconds=None)]
    quota.release()
    assert [quota.admit(2), quota.admit(3)] == [None, Refusal(seconds=None)]


def test_no_quota_admits_everything() -> None:
    """Without a quota nothing is refused, and leaving changes nothing."""
    quota = Unlimited()
    quota.release()
    assert [quota.admit(0) for _ in range(1000)] == [None] * 1000


@given(start=starts, waits=gaps, rate=st.floats(0.1, 50), burst=st.integers(1, 20))
def test_a_token_bucket_never_passes_more_than_burst_and_rate(
    start: float, waits: list[float], rate: float, burst: int
) -> None:
    """Between any two admissions there are at most burst + rate x time."""
    times = admitted(TokenBucket(rate=rate, burst=burst), start, waits)
    for first, earliest in enumerate(times):
        for last, latest in enumerate(times[first:], start=first):
            assert last - first + 1 <= burst + rate * (latest - earliest) + 1e-4


@given(start=starts, waits=gaps, limit=st.integers(1, 10), window=st.floats(0.1, 10))
def test_a_sliding_window_never_passes_more_than_its_limit(
    start: float, waits: list[float], limit: int, window: float
) -> None:
    """Any limit + 1 admissions in a row span at least one window."""
    times = admitted(SlidingWindow(limit=limit, window=window), start, waits)
    for earliest, latest in zip(times, times[limit:], strict=False):
        assert latest - earliest >= window - 1e-6


@given(start=starts, waits=gaps, limit=st.integers(1, 10), window=st.floats(0.1, 10))
def test_a_fixed_window_never_passes_more_than_twice_its_limit(
    start: float, waits: list[float], limit: int, window: float
) -> None:
    """A span shorter than a window meets at most two of them."""
    times = admitted(FixedWindow(limit=limit, window=window), start, waits)
    for earliest, latest in zip(times, times[2 * limit :], strict=False):
        assert latest - earliest >= window - 1e-6


@given(
    start=starts,
    waits=gaps,
    quota=st.one_of(
        st.builds(TokenBucket, rate=st.floats(0.1, 50), burst=st.integers(1, 20)),
        st.builds(FixedWindow, limit=st.integers(1, 10), window=st.floats(0.1, 10)),
        st.builds(SlidingWindow, limit=st.integers(1, 10), window=st.floats(0.1, 10)),
    ),
)
def test_a_request_after_the_announced_wait_is_admitted(
    start: float, waits: list[float], quota: Quota
) -> None:
    """The seconds of a refusal are enough, and the refused request does not count."""
    now = start
    for wait in waits:
        now += wait
        refusal = quota.admit(now)
        if refusal is not None:
            assert refusal.seconds is not None
            assert refusal.seconds > 0
            now += refusal.seconds
            assert quota.admit(now) is None


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("none", Unlimited()),
        ("token-bucket:rate=200,burst=20", TokenBucket(rate=200, burst=20)),
        (" token-bucket : burst = 1.5 , rate = 0.5 ", TokenBucket(rate=0.5, burst=1.5)),
        ("fixed-window:limit=100,window=1s", FixedWindow(limit=100, window=1)),
        ("sliding-window:limit=5,window=2m", SlidingWindow(limit=5, window=120)),
        ("concurrency:limit=25", Concurrency(limit=25)),
    ],
)
def test_a_quota_is_read_from_text(text: str, quota: Quota) -> None:
    """Every model has a written form; spaces and order do not matter."""
    assert parse_quota(text) == quota


@pytest.mark.parametrize(
    "text",
    [
        "",
        "leaky-bucket:rate=1",
        "token-bucket",
        "token-bucket:rate=200",
        "token-bucket:rate=fast,burst=1",
        "concurrency:limit=25,window=1s",
        "concurrency:limit=2.5",
        "none:limit=1",
    ],
)
def test_text_that_is_no_quota_names_the_forms(text: str) -> None:
    """The error repeats the text and shows how a quota is written."""
    with pytest.raises(ConfigurationError, match=r"write none, token-bucket:rate=200,burst=20") as caught:
        parse_quota(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "token-bucket:rate=0,burst=1",
        "token-bucket:rate=nan,burst=1",
        "token-bucket:rate=1,burst=0.5",
        "token-bucket:rate=1,burst=inf",
        "fixed-window:limit=0,window=1s",
        "sliding-window:limit=1,window=0s",
        "concurrency:limit=-1",
    ],
)
def test_a_quota_that_admits_nothing_or_everything_is_refused(text: str) -> None:
    """Numbers out of range are named with what to give instead."""
    with pytest.raises(ConfigurationError, match=r"the quota's \w+ is .*: give a number"):
        parse_quota(text)


def test_a_quota_may_be_given_as_value_text_or_nothing() -> None:
    """A value is taken as it is, so that two sandboxes may share one quota."""
    shared = Concurrency(limit=1)
    assert quota_from(shared) is shared
    assert quota_from("concurrency:limit=1") == shared
    assert quota_from(None) == Unlimited()


@pytest.mark.parametrize(
    ("hint", "seconds", "headers"),
    [
        (Hint.RETRY_AFTER, 0.01, {"Retry-After": "1"}),
        (Hint.RETRY_AFTER, 2.0, {"Retry-After": "2"}),
        (Hint.RETRY_AFTER, 2.1, {"Retry-After": "3"}),
        (Hint.RETRY_AFTER, None, {"Retry-After": "1"}),
        (Hint.RESET_MS, 0.5, {"X-RateLimit-Reset": "1700000000750"}),
        (Hint.RESET_S, 0.5, {"X-RateLimit-Reset": "1700000001"}),
        (Hint.RESET_S, 1.0, {"X-RateLimit-Reset": "1700000002"}),
        (Hint.DATE, 0.5, {"Retry-After": "Tue, 14 Nov 2023 22:13:21 GMT"}),
        (Hint.NONE, 5.0, {}),
    ],
)
def test_a_hint_rounds_up(hint: Hint, seconds: float | None, headers: dict[str, str]) -> None:
    """A client that obeys a hint is never too early. An unknown wait is 1 second."""
    assert hint.headers(seconds, WALL) == headers


def test_a_hint_is_read_by_name() -> None:
    """A hint may be given as value or name; another name lists the right ones."""
    assert [hint_from("reset-ms"), hint_from(Hint.DATE)] == [Hint.RESET_MS, Hint.DATE]
    with pytest.raises(ConfigurationError, match="choose one of retry-after, reset-ms, reset-s, date, none"):
        hint_from("soon")
