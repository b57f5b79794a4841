"""The time line of a journal: what happened in each second, bounded, and kept through kills and resumes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, field

from bandwidth_async import BasicCredentials, RateLimit, RetryPolicy, VoiceClient
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.journal import Journal, file, schema
from bandwidth_async.journal.timeline import LATENCIES, MOST, Moment, Timeline
from bandwidth_async.limiter import LimiterSnapshot, PaceEvent, Paused
from bandwidth_async.outcome import OutcomeKind
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

BEGAN = 1_795_344_312.5
virtual_time = pytest.mark.looptime


@define
class Limited:
    """A limiter whose state the test sets."""

    until: float = 0.0
    quota: float | None = None
    listeners: list[Callable[[PaceEvent], object]] = field(factory=list)

    def snapshot(self) -> LimiterSnapshot:
        """Return the state at this moment."""
        left = max(0.0, self.until - asyncio.get_running_loop().time())
        return LimiterSnapshot(
            rate=50.0,
            quota=self.quota,
            paused_for=left,
            pause_reason="hint" if left else None,
            waiting_interactive=0,
            waiting_bulk=0,
            in_flight=0,
            refusals=0,
        )

    @contextmanager
    def listening(self, listener: Callable[[PaceEvent], object]) -> Iterator[None]:
        """Keep the listener."""
        self.listeners.append(listener)
        yield
        self.listeners.remove(listener)

    def pause(self, seconds: float) -> None:
        """Pause as the server asked, from now on."""
        self.until = asyncio.get_running_loop().time() + seconds
        for listener in self.listeners:
            listener(Paused(seconds, hinted=True))


@define
class Written:
    """The rows of a journal, in memory."""

    parts: dict[int, schema.Row] = field(factory=dict)
    rows: dict[int, schema.Row] = field(factory=dict)

    def write(self, statement: schema.Statement, rows: Sequence[schema.Row]) -> asyncio.Future[None]:
        """Write at once."""
        for row in rows:
            (self.parts if statement is schema.PART else self.rows)[row[0]] = row
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def moments(self) -> list[tuple[float, Moment]]:
        """Return the seconds and the facts of each row that has any."""
        return [(row[2], Moment.from_json(row[3])) for row in self.rows.values() if row[2]]


def begun(written: Written, limiter: Limited | None = None, part: int = 1) -> Timeline:
    """Return a time line that has begun."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    clock = lambda: BEGAN + loop.time() - started  # noqa: E731  # a clock is a function
    line = Timeline(written.write, lambda: part, {"host": "a"}, limiter, clock)
    line.begin()
    return line


@virtual_time
async def test_each_second_has_its_counts() -> None:
    """What is counted goes into the row of its second, and the last row ends with the run."""
    written = Written()
    line = begun(written)
    now = asyncio.get_running_loop().time
    line.answered(now() - 0.004, False)
    line.now.outcomes[OutcomeKind.ENDED] += 1
    await asyncio.sleep(1.5)
    line.answered(now() - 0.2, False)
    line.turned_down(refused=True, failed=False)
    line.answered(now() - 99.0, True)
    line.turned_down(refused=False, failed=True)
    line.unanswered(False)
    await line.end()
    (first, one), (second, two) = written.moments()
    assert (first, second) == (1.0, 0.5)
    assert (one.attempts, one.outcomes, one.latency[LATENCIES.index(0.005)]) == (1, {"ended": 1}, 1)
    assert (two.attempts, two.retries, two.refused, two.failed, two.latency[-1]) == (3, 1, 1, 1, 1)
    ended = json.loads(written.parts[1][2])
    assert (written.parts[1][1], ended) == (BEGAN, {"host": "a", "ended": BEGAN + 1.5})


@virtual_time
async def test_a_process_that_is_killed_loses_no_more_than_its_last_second() -> None:
    """The row that grows is written each second, also when a row is many seconds long."""
    written = Written()
    line = begun(written)
    await asyncio.sleep(MOST + 10.5)
    line.now.outcomes[OutcomeKind.ENDED] += 1
    await asyncio.sleep(1)
    assert sum(moment.outcomes.total() for _, moment in written.moments()) == 1
    assert "ended" not in json.loads(written.parts[1][2])
    await line.end()


@virtual_time
async def test_a_long_run_has_no_more_rows_than_a_short_one() -> None:
    """Two rows become one when they are full. Nothing is lost, and the seconds add up."""
    written, seconds = Written(), 3 * MOST + 100
    line = begun(written)
    for _ in range(seconds):
        line.unanswered(False)
        line.now.outcomes[OutcomeKind.ENDED] += 1
        await asyncio.sleep(1)
    await line.end()
    moments = written.moments()
    assert MOST // 2 < len(moments) <= len(written.rows) <= MOST
    assert sum(span for span, _ in moments) == pytest.approx(seconds)
    assert sum(moment.attempts for _, moment in moments) == seconds
    assert sum(moment.outcomes["ended"] for _, moment in moments) == seconds
    ats = [row[1] for row in written.rows.values() if row[2]]
    assert ats == sorted(ats)


@virtual_time
async def test_a_pause_is_counted_in_the_seconds_that_it_covers() -> None:
    """From the moment at which it begins, for as long as it lasts, with its reason."""
    written, limiter = Written(), Limited()
    line = begun(written, limiter)
    await asyncio.sleep(0.25)
    limiter.pause(1.25)
    limiter.quota = 40.0
    await asyncio.sleep(2.5)
    await line.end()
    assert [moment.paused for _, moment in written.moments()][:3] == [{"hint": 0.75}, {"hint": 0.5}, {}]
    assert written.moments()[-1][1].quota == 40.0
    assert limiter.listeners == []


def execute(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query over a journal."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


async def end_all(sandbox: Sandbox, journal: Journal, **settings: Any) -> int:
    """End what a journal has, and return the attempts of it so far."""
    credentials = BasicCredentials(sandbox.username, sandbox.password)
    client = VoiceClient(
        account_id="9900000", credentials=credentials, voice_url=sandbox.url, api_url=sandbox.url, **settings
    )
    async with client:
        await client.end_conferences(journal, concurrency=5)
    return journal.report().attempts


async def test_a_run_and_its_resume_each_have_a_part(tmp_path: Path) -> None:
    """Its attempts are those of the outcomes. Host, version and settings are kept, and no secret."""
    path = tmp_path / "run.journal"
    async with Sandbox(conferences=40, faults="503=20%", seed=1) as sandbox:
        async with Journal.create(path, account_id="9900000") as journal:
            await journal.record(sandbox.conference_ids)
            attempts = await end_all(sandbox, journal, rate_limit=RateLimit.fixed(500))
        async with Journal.open(path) as journal:
            await end_all(sandbox, journal)
        password = sandbox.password
    facts = [json.loads(text) for (text,) in execute(path, "SELECT facts FROM parts ORDER BY part")]
    assert [one["settings"]["rate"] for one in facts] == [500, None]
    assert facts[0]["host"] == sandbox.url.partition("//")[2]
    assert password not in str(facts)
    moments = [Moment.from_json(text) for (text,) in execute(path, "SELECT facts FROM timeline")]
    assert sum(one.attempts for one in moments) == attempts > 40
    assert sum(one.retries for one in moments) == sum(one.failed for one in moments) == attempts - 40
    assert sum(sum(one.latency) for one in moments) == attempts
    assert sum(one.outcomes["ended"] for one in moments) == 40


async def test_runs_that_are_made_before_one_begins_have_a_part_each(tmp_path: Path) -> None:
    """A part belongs to the run that begins it, so the second does not write over the first."""
    path = tmp_path / "run.journal"
    async with Sandbox(conferences=2) as sandbox, Journal.create(path, account_id="9900000") as journal:
        await journal.record(sandbox.conference_ids)
        async with VoiceClient(
            account_id="9900000",
            credentials=BasicCredentials(sandbox.username, sandbox.password),
            voice_url=sandbox.url,
            api_url=sandbox.url,
        ) as client:
            for made in [client.ending_conferences(journal) for _ in range(2)]:
                async with made as outcomes:
                    assert len([one async for one in outcomes]) == outcomes.report.total
    assert execute(path, "SELECT part FROM parts ORDER BY part") == [(1,), (2,)]


@pytest.mark.parametrize("version", [schema.VERSION, schema.WITH_ORIGIN])
async def test_a_journal_of_an_earlier_version_is_resumed_without_a_time_line(
    version: int, tmp_path: Path
) -> None:
    """It stays of its version, so that the earlier program can go on with it too."""
    path = tmp_path / "run.journal"
    earlier(path, version)
    async with Sandbox(conferences=3) as sandbox, Journal.open(path) as journal:
        assert await end_all(sandbox, journal) > 0
    assert execute(path, "PRAGMA user_version") == [(version,)]
    assert execute(path, "SELECT count(*) FROM sqlite_master WHERE name = 'timeline'") == [(0,)]


def earlier(path: Path, version: int, ids: Sequence[str] = ("conf-1", "conf-2")) -> None:
    """Make a journal as the program of an earlier version made it."""
    row = file.RunRow(account_id="9900000", created=BEGAN, verify=False, hang_up=False, version=version)
    opened = file.create(path, row)
    opened.writer.executemany(
        "INSERT INTO conferences (conference_id, existed) VALUES (?, 0)", [(one,) for one in ids]
    )
    opened.writer.execute("UPDATE run SET given = ?, total = ?", (len(ids), len(ids)))
    opened.reader.close()
    opened.shut()


async def test_a_run_goes_on_only_where_it_was_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Elsewhere its ids mean nothing. Only a sandbox may come back at another port, which is told."""
    path = tmp_path / "run.journal"
    async with (
        Sandbox(conferences=3) as sandbox,
        Journal.create(path, account_id=sandbox.account_id) as journal,
    ):
        await journal.record(sandbox.conference_ids)
        settings: dict[str, Any] = {
            "account_id": sandbox.account_id,
            "credentials": BasicCredentials("a", "b"),
        }
        assert journal.host is None
        async with VoiceClient(**settings, voice_url=sandbox.url) as client:
            await client.end_conferences(journal, deadline=0)
        assert journal.host == sandbox.url.partition("//")[2]
        async with VoiceClient(**settings) as client:
            with pytest.raises(ConfigurationError, match=r"is of a run at 127\.0\.0\.1:"):
                await client.end_conferences(journal)
        async with VoiceClient(**settings, voice_url="http://127.0.0.1:1") as client:
            assert (await client.end_conferences(journal, deadline=0)).counts == {"not_attempted": 3}
        assert "goes on at 127.0.0.1:1" in caplog.text
        assert not sandbox.truth()["requests"]["end"]


async def test_settings_without_end_are_no_fault_of_a_journal(tmp_path: Path) -> None:
    """JSON has no infinity. The run is as good as one without a journal."""
    path = tmp_path / "run.journal"
    async with (
        Sandbox(conferences=3) as sandbox,
        Journal.create(path, account_id=sandbox.account_id) as journal,
    ):
        await journal.record(sandbox.conference_ids)
        async with VoiceClient(
            account_id=sandbox.account_id,
            credentials=BasicCredentials(sandbox.username, sandbox.password),
            voice_url=sandbox.url,
            retry=RetryPolicy(outage=float("inf")),
        ) as client:
            assert (await client.end_conferences(journal, deadline=float("inf"))).ok
