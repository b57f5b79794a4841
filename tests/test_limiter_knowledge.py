"""What a limiter has learned: saved, restored, begun with, and never more than was learned."""

from __future__ import annotations

import json
import math
import time
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import ConfigurationError, Knowledge
from bandwidth_async.limiter.adaptive import AdaptivePace
from tests.test_limiter_adaptive import (
    Admit,
    bucket,
    fixed_window,
    is_closed,
    no_hint,
    simulate,
    sliding_window,
    unlimited,
    whole_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 24 * 3600.0
SAVED = {"version": 1, "rate": 98.5, "stood": 97.0, "window": 0.0, "at": 1_795_000_000.0}


def learned_at(admit: Admit, *, items: int, seed: int = 1) -> Knowledge | None:
    """Return what a pace knows after a run of so many items."""
    pace = AdaptivePace()
    simulate(admit, items=items, pace=pace, seed=seed)
    return pace.knowledge


@pytest.mark.parametrize(
    ("server", "ideal", "first_at_most", "next_at_most"),
    [
        (lambda: bucket(20, (0, 100)), 30.0, 1.05, 1.02),
        (lambda: fixed_window(100), 30.0, 1.07, 1.05),
        (lambda: sliding_window(100), 30.0, 1.11, 1.08),
        (lambda: bucket(100, (0, 1000)), 3.0, 1.7, 1.25),
        (lambda: fixed_window(1000), 3.0, 1.6, 1.1),
        (lambda: sliding_window(1000), 3.0, 1.6, 1.25),
    ],
)
def test_the_second_run_knows_what_the_first_found_out(
    server: Callable[[], Admit],
    ideal: float,
    first_at_most: float,
    next_at_most: float,
    full: bool,
    show: Callable[[str], None],
) -> None:
    """3,000 ids at 100/s and 1,000/s: the second run is nearer to the ideal than the first."""
    first, second = [], []
    for seed in range(10 if full else 3):
        pace = AdaptivePace()
        first.append(simulate(server(), items=3000, pace=pace, seed=seed))
        assert pace.knowledge is not None
        known = Knowledge.from_dict(json.loads(json.dumps(pace.knowledge.to_dict())))
        second.append(simulate(server(), items=3000, pace=AdaptivePace(knowledge=known), seed=seed + 50))
    before, after = (fmean(run.seconds for run in runs) / ideal for runs in (first, second))
    show(f"{before:.3f} of the ideal, then {after:.3f}")
    assert before <= first_at_most
    assert after <= next_at_most
    assert after < before
    assert fmean(run.share for run in second) <= 0.03


@pytest.mark.parametrize(
    ("known", "at_most"),
    [
        (Knowledge(rate=20, stood=20), 1.15),
        (Knowledge(rate=20, stood=100), 1.1),
        (Knowledge(rate=5, stood=5), 1.4),
        (Knowledge(rate=1000, stood=1000), 1.1),
    ],
)
def test_knowledge_that_is_wrong_costs_seconds(known: Knowledge, at_most: float) -> None:
    """A quota of 100/s that was another before is found again."""
    runs = [
        simulate(bucket(20, (0, 100)), items=3000, pace=AdaptivePace(knowledge=known), seed=seed)
        for seed in range(3)
    ]
    assert fmean(run.seconds for run in runs) / 30 <= at_most
    assert fmean(run.share for run in runs) <= 0.05


def test_a_server_that_refused_nothing_has_taught_nothing() -> None:
    """The rate that a run reached says how fast the run was."""
    assert learned_at(unlimited, items=3000) is None


@pytest.mark.parametrize("items", [3, 10, 99])
def test_a_few_requests_teach_nothing(items: int) -> None:
    """Neighbours used up the quota, and the run had three requests or ten."""
    assert learned_at(bucket(2, (0, 3)), items=items) is None
    before = Knowledge(rate=98, stood=97)
    pace = AdaptivePace(knowledge=before)
    simulate(bucket(2, (0, 3)), items=items, pace=pace)
    assert pace.knowledge is before


def test_a_ban_teaches_nothing() -> None:
    """A server that refuses everything for ten minutes leaves what was known."""
    before = Knowledge(rate=98, stood=97)
    pace = AdaptivePace(knowledge=before)
    simulate(lambda _, __: 1.0, until=600, pace=pace)
    assert is_closed(pace)
    assert pace.knowledge is before


def test_neighbours_that_took_most_are_no_truth_for_the_next_run() -> None:
    """The best rate that stood is kept, and the next run is back there within seconds."""
    pace = AdaptivePace(knowledge=Knowledge(rate=98, stood=97))
    simulate(bucket(5, (0, 10)), items=300, pace=pace)
    known = pace.knowledge
    assert known is not None
    assert known.rate == pytest.approx(10, rel=0.2)
    run = simulate(bucket(20, (0, 100)), items=3000, pace=AdaptivePace(knowledge=known), seed=2)
    assert run.seconds <= 1.15 * 30


def test_a_quota_that_rose_is_learned_though_nothing_was_refused() -> None:
    """A rate that stood for a second counts, or each run would begin at the old quota again."""
    pace = AdaptivePace(knowledge=Knowledge(rate=20, stood=20))
    simulate(unlimited, items=3000, pace=pace)
    assert pace.quota is None
    assert pace.knowledge is not None
    assert 100 < pace.knowledge.rate <= pace.rate


def test_a_start_rate_wins_over_what_is_known() -> None:
    """What is known is still there for the rest."""
    assert AdaptivePace(start=5, knowledge=Knowledge(rate=98, stood=97)).rate == 5


@pytest.mark.parametrize("hint", [no_hint, whole_seconds])
def test_what_comes_back_is_what_was_saved(hint: Any) -> None:
    """It is plain JSON, with a version and the moment."""
    pace = AdaptivePace()
    simulate(bucket(20, (0, 100)), hint, items=1000, pace=pace)
    known = pace.knowledge
    assert known is not None
    assert known.at == pytest.approx(time.time(), abs=60)
    saved = json.loads(json.dumps(known.to_dict()))
    assert saved["version"] == 1
    assert Knowledge.from_dict(saved) == known


@pytest.mark.parametrize("age", [DAY + 60, 400 * DAY, -2 * DAY])
def test_old_knowledge_is_only_a_start(age: float) -> None:
    """A day, or a clock that was set, makes it a hint. It stays as old as it is. A slow one is dropped."""
    at = time.time() - age
    for rate, start in ((98, 98), (2, 20)):
        known = Knowledge.from_dict(Knowledge(rate=rate, stood=97, window=10, at=at).to_dict())
        assert known == Knowledge(rate=start, at=at)
    fresh = Knowledge(rate=98, stood=97, window=10, at=time.time() - DAY + 60)
    assert Knowledge.from_dict(fresh.to_dict()) == fresh


@pytest.mark.parametrize("rate", [0.001, 0.9])
def test_a_saved_rate_of_next_to_nothing_does_not_hold_the_next_run(rate: float) -> None:
    """Its first requests would be seconds or minutes apart. A rate of one a second is kept."""
    at = time.time()
    known = Knowledge.from_dict(Knowledge(rate=rate, stood=rate, window=60, at=at).to_dict())
    assert known == Knowledge(rate=20, at=at)
    slow = Knowledge(rate=1, stood=1, window=60, at=at)
    assert Knowledge.from_dict(slow.to_dict()) == slow


@pytest.mark.parametrize(
    "saved",
    [
        None,
        [],
        "98",
        {},
        {**SAVED, "version": 2},
        {**SAVED, "version": "1"},
        {**SAVED, "more": 1},
        {key: value for key, value in SAVED.items() if key != "at"},
        {**SAVED, "rate": "98"},
        {**SAVED, "rate": None},
        {**SAVED, "rate": 0},
        {**SAVED, "rate": -98.5},
        {**SAVED, "rate": True},
        {**SAVED, "rate": math.nan},
        {**SAVED, "stood": math.inf},
        {**SAVED, "window": 10**400},
        {**SAVED, "window": -1},
    ],
)
def test_anything_else_is_an_error(saved: Any) -> None:
    """Damaged content, another version, and values that no limiter can have learned."""
    with pytest.raises(ConfigurationError):
        Knowledge.from_dict(saved)
