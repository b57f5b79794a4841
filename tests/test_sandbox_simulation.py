"""What follows from an action, and the truth about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bandwidth_async.sandbox import Sandbox
from bandwidth_async.sandbox.simulation import Simulation

NOW = datetime(2026, 11, 22, 8, 0, 0, 123_987, tzinfo=UTC)


def simulation(*, members: int, recordings: tuple[int, int]) -> Simulation:
    """Return a simulation of two conferences with these numbers of recordings."""
    made = Sandbox(members=members)._simulation
    for number in recordings:
        made.conferences.add(at=NOW, recordings=number)
    return made


def test_ending_ejects_the_members_and_counts_every_request() -> None:
    """The first end request ends, later ones change nothing but the count."""
    state = simulation(members=2, recordings=(7, 7))
    ended, active = state.conferences
    assert [state.end(ended, NOW), state.end(ended, NOW + timedelta(hours=1))] == [True, False]
    assert (state.calls.members(ended), len(state.calls.members(active))) == ([], 2)
    assert dict(state.truth()) == {
        ended.id: {
            "ended_at": "2026-11-22T08:00:00.123Z",
            "end_requests": 2,
            "members": 0,
            "active_calls": 2,
            "recordings": 7,
        },
        active.id: {"ended_at": None, "end_requests": 0, "members": 2, "active_calls": 2, "recordings": 7},
    }


def test_the_truth_counts_members_and_calls() -> None:
    """A call that leaves is active, one that hangs up is not. Each conference counts its own."""
    state = simulation(members=3, recordings=(0, 1))
    first, second = state.conferences
    leaving, ending, _ = state.calls.of(first)
    state.calls.leave(leaving, NOW)
    state.calls.leave(leaving, NOW)
    state.calls.hang_up(ending, NOW)
    facts = dict(state.truth())
    assert [(it["members"], it["active_calls"], it["recordings"]) for it in facts.values()] == [
        (1, 2, 0),
        (3, 3, 1),
    ]
    assert [len(state.calls.members(it)) for it in (first, second)] == [1, 3]
    alive = [call.id for it in (first, second) for call in state.calls.of(it) if call != ending]
    assert list(state.calls.active_ids()) == alive
