"""Shards: each id belongs to exactly one part, and a journal says which part of which input it holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async import ConfigurationError, Journal, JournalError, Outcome, OutcomeKind, Shard
from bandwidth_async.journal import Recorded, describe, read_outcomes

if TYPE_CHECKING:
    from pathlib import Path

IDS = [f"conf-{number}" for number in range(5000)]
ACCOUNT = "9900000"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a journal that is not there yet."""
    return tmp_path / "run.journal"


def opened(path: Path, **facts: Any) -> Journal:
    return Journal.open_or_create(path, account_id=ACCOUNT, **facts)


@given(id_=st.text(), count=st.integers(1, 50))
def test_each_id_belongs_to_exactly_one_shard(id_: str, count: int) -> None:
    """No id is left out, and none is ended by two."""
    assert sum(Shard(number, count).holds(id_) for number in range(count)) == 1


@pytest.mark.parametrize("count", [2, 3, 4, 16, 100])
def test_the_shards_are_of_about_the_same_size(count: int) -> None:
    """Ids that differ in their last digits only are dealt evenly too: within five standard deviations."""
    sizes = [sum(map(Shard(number, count).holds, IDS)) for number in range(count)]
    expected = len(IDS) / count
    assert sum(sizes) == len(IDS)
    assert max(abs(size - expected) for size in sizes) < 5 * expected**0.5


def test_an_id_stays_in_its_shard_for_ever() -> None:
    """Journals on disk rely on it: another hash would leave ids out of a run that goes on."""
    held = [next(number for number in range(16) if Shard(number, 16).holds(id_)) for id_ in IDS[:12]]
    assert held == [8, 11, 1, 10, 8, 15, 0, 2, 12, 3, 11, 11]


@pytest.mark.parametrize(("number", "count"), [(4, 4), (-1, 4), (0, 0), (1, 1)])
def test_there_is_no_such_shard(number: int, count: int) -> None:
    """The sentence says which one is the last, because people count from 1."""
    with pytest.raises(ConfigurationError, match=rf"^{number}/{count}: "):
        Shard(number, count)
    with pytest.raises(ConfigurationError, match=r"^4/4: shards count from 0, .* the last is 3/4$"):
        Shard(4, 4)


async def test_the_journals_of_all_shards_hold_the_input(tmp_path: Path) -> None:
    """Each keeps its ids in the order of the input, and a duplicate comes to the shard of its first."""
    kept: list[str] = []
    for number in range(3):
        path = tmp_path / f"{number}.journal"
        async with opened(path, shard=Shard(number, 3)) as journal:
            recorded = await journal.record([*IDS, *reversed(IDS)])
        ids = [outcome.conference_id for outcome in read_outcomes(path)]
        assert (ids, recorded) == (sorted(ids, key=IDS.index), Recorded(len(ids), len(ids)))
        assert describe(path).shard == Shard(number, 3)
        kept += ids
    assert sorted(kept) == sorted(IDS)


async def test_a_journal_is_gone_on_with(path: Path) -> None:
    """The next start finds the outcomes of the last one, and needs no input."""
    async with opened(path, shard=Shard(0, 1), digest="a", verify=True) as journal:
        assert not journal.recorded
        await journal.record(["conf-1", "conf-2"])
        first, second = journal.unsettled()
        await journal.settle(first, Outcome("conf-1", OutcomeKind.ENDED, 1))
    async with opened(path, shard=Shard(0, 1), digest="a") as journal:
        assert (journal.recorded, journal.verify, list(journal.unsettled())) == (True, True, [second])


async def test_an_input_that_was_cut_off_is_recorded_anew(path: Path) -> None:
    """Nothing was sent, so the journal takes the input, shard and settings of the new start."""
    async with opened(path, shard=Shard(1, 2), digest="a") as journal:
        await journal.record(IDS, whole=False)
    async with opened(path, digest="b", hang_up=True) as journal:
        assert (journal.recorded, journal.shard, journal.hang_up) == (False, None, True)
        assert await journal.record(["conf-1"]) == Recorded(1, 0)
    assert [outcome.conference_id for outcome in read_outcomes(path)] == ["conf-1"]
    async with Journal.create(path.with_name("2"), account_id=ACCOUNT):
        pass
    async with opened(path.with_name("2")) as journal:
        await journal.record(["conf-1"])
    assert describe(path.with_name("2")).complete


async def test_an_input_may_come_in_parts(path: Path) -> None:
    """A duplicate in a later part is found too. Until all parts are there, no run begins."""
    async with opened(path) as journal:
        assert await journal.record(["conf-1", "conf-2"], whole=False) == Recorded(2, 0)
        assert await journal.record(["conf-2", "conf-3"], whole=False) == Recorded(3, 1)
        with pytest.raises(JournalError, match="is not recorded yet"):
            journal.unsettled()
        await journal.complete()
        assert [target.conference_id for target in journal.unsettled()] == ["conf-1", "conf-2", "conf-3"]
        with pytest.raises(JournalError, match="has been recorded: a journal has only one"):
            await journal.record(["conf-4"])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"shard": Shard(0, 2)}, "is of shard 1/2, not of shard 0/2"),
        ({"shard": Shard(1, 3)}, "is of shard 1/2, not of shard 1/3"),
        ({"shard": None}, "is of shard 1/2, not of the whole input"),
        ({"digest": "b"}, "is of another input"),
    ],
)
async def test_a_journal_of_other_ids_is_refused(path: Path, facts: dict[str, Any], reason: str) -> None:
    """It would be gone on with, and the ids that are meant would never be ended."""
    right: dict[str, Any] = {"shard": Shard(1, 2), "digest": "a"}
    async with opened(path, **right) as journal:
        await journal.record(IDS[:10])
    with pytest.raises(JournalError, match=reason):
        opened(path, **right | facts)
    with pytest.raises(JournalError, match=f"is of account {ACCOUNT}, not of 1"):
        Journal.open_or_create(path, account_id="1", **right)
    async with opened(path, **right), Journal.create(path.with_name("plain"), account_id=ACCOUNT) as plain:
        await plain.record(IDS[:10])
    # Nobody knows what input this one had.
    async with opened(path.with_name("plain"), digest="b") as journal:
        assert journal.recorded


async def test_a_second_start_finds_the_journal_in_use(path: Path) -> None:
    """Also while the first one records its input."""
    async with opened(path) as journal:
        for whole in (False, True):
            with pytest.raises(JournalError, match="is in use: another process is at work on it") as caught:
                opened(path)
            assert caught.value.in_use
            await journal.record(["conf-1"], whole=whole)


async def test_an_empty_file_is_no_obstacle(path: Path) -> None:
    """Where a file system has no links, a process that is killed may leave one."""
    path.touch()  # noqa: ASYNC240  # a test waits for nobody
    async with opened(path) as journal:
        await journal.record(["conf-1"])
    assert describe(path).complete


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM origin",
        "PRAGMA ignore_check_constraints = 1; INSERT INTO origin VALUES (2, 0, 1, NULL)",
        "PRAGMA ignore_check_constraints = 1; UPDATE origin SET shard = 9",
        "PRAGMA ignore_check_constraints = 1; UPDATE origin SET shard = 'x'",
        "DROP TABLE origin",
    ],
)
async def test_a_journal_that_does_not_say_what_it_holds_is_damaged(path: Path, statement: str) -> None:
    """Neither a resume nor a look guesses."""
    async with opened(path, shard=Shard(1, 2)) as journal:
        await journal.record(IDS[:10])
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(statement)
    for look in (describe, Journal.open):
        with pytest.raises(JournalError, match="is damaged: it does not "):
            look(path)
