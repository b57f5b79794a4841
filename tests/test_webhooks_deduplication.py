"""Which events came before: each once, in bounded memory, with the time passed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.webhooks import ConferenceCompleted, Deduplicator, Memory
from bandwidth_async.webhooks.deduplication import Recent

TIME = datetime(2026, 11, 22, tzinfo=UTC)


def event(number: int) -> ConferenceCompleted:
    """Return one of many different events."""
    return ConferenceCompleted(conference_id="conf-1", event_time=TIME + timedelta(seconds=number))


def test_an_event_is_new_once() -> None:
    """The same, made anew, is not."""
    seen = Deduplicator()
    assert [seen.is_new(event(number), now=0) for number in (1, 2, 1, 2, 3)] == [
        True,
        True,
        False,
        False,
        True,
    ]


def test_it_is_forgotten_with_age() -> None:
    """Counted from when it came first: coming again does not keep it."""
    seen = Deduplicator(Memory(age=10))
    assert [seen.is_new(event(1), now=now) for now in (0, 5, 9.9, 10, 19.9)] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_the_oldest_makes_room() -> None:
    """What was forgotten for want of room counts as new."""
    seen = Deduplicator(Memory(size=2))
    assert [seen.is_new(event(number), now=0) for number in (1, 2, 3, 3, 2, 1)] == [
        *(True, True, True),
        *(False, False, True),
    ]


def test_memory_is_bounded_by_default() -> None:
    """10,000 events, however many come."""
    seen = Deduplicator()
    assert all(seen.is_new(event(number), now=0) for number in range(20_000))
    assert len(seen) == 10_000
    assert repr(seen) == "<Deduplicator of 10000 events>"


def test_what_is_too_old_leaves_at_the_next() -> None:
    """Memory is given back without anybody asking for the old ones."""
    seen = Deduplicator(Memory(age=10))
    for number in range(100):
        seen.is_new(event(number), now=0)
    seen.is_new(event(100), now=10)
    assert len(seen) == 1


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 6)), max_size=60),
    st.integers(1, 5),
    st.floats(0.5, 8),
)
def test_it_keeps_the_newest_and_nothing_else(steps: list[tuple[float, int]], size: int, age: float) -> None:
    """Against a plain model: the last ``size`` that were put, as far as they are young enough."""
    recent: Recent[int, int] = Recent(Memory(size=size, age=age))
    puts: list[tuple[int, float]] = []
    now = 0.0
    for number, (pause, key) in enumerate(steps):
        now += pause
        model = {kept: since for kept, since in puts[-size:] if now - since < age}
        assert {kept for kept in range(7) if recent.get(kept, now) is not None} == set(model)
        recent.put(key, number, now)
        puts = [(kept, since) for kept, since in puts if kept != key] + [(key, now)]
        assert recent.get(key, now) == number
        assert len(recent) == len([since for _, since in puts[-size:] if now - since < age])


def test_what_is_forgotten_is_gone() -> None:
    """Also when it was never there; another value in its place is not."""
    recent: Recent[str, list[int]] = Recent(Memory())
    first, second = [1], [1]
    recent.put("a", first, 0)
    recent.forget("b", first)
    recent.forget("a", second)
    assert recent.get("a", 0) is first
    recent.forget("a", first)
    assert (recent.get("a", 0), len(recent)) == (None, 0)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": "many"}, {"age": 0}, {"age": float("inf")}])
def test_a_memory_without_bounds_is_refused(wrong: dict[str, float]) -> None:
    """Neither none nor endless."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Memory(**wrong)  # type: ignore[arg-type]  # wrong on purpose
