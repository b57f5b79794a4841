"""A run on a queue loses no id and sends none twice without need, whatever becomes of queue and workers."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import pytest
from attrs import define, field

from bandwidth_async import Journal, Outcome, OutcomeKind, Report, Stop, VoiceClient
from bandwidth_async.chunks import ChunkWorker, Engine, Record, run_on
from bandwidth_async.errors import (
    AuthenticationError,
    BandwidthError,
    ConfigurationError,
    DeadlineExceededError,
    MissingCredentialsError,
    NotFoundError,
    PermissionDeniedError,
    TransportError,
)
from bandwidth_async.run import Target, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.looptime

ACCOUNT = "9900000"
LEASE = 15.0
IDS = [f"conf-{number}" for number in range(250)]


@define
class Bandwidth:
    """A server that ends one conference in some seconds, and counts the requests for each."""

    seconds: float = 0.05
    active: set[str] = field(factory=lambda: set(IDS))
    requests: Counter[str] = field(factory=Counter)
    sent_at: list[float] = field(factory=list)
    refusal: Callable[[str], BandwidthError | None] = lambda _: None

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """End one, as `Ender.end` does."""
        if stop.requested:
            raise DeadlineExceededError("stopped")
        self.requests[target.conference_id] += 1
        self.sent_at.append(asyncio.get_running_loop().time())
        error = self.refusal(target.conference_id)
        if error is not None:
            error.attempts = 1
            if isinstance(error, AuthenticationError):
                stop.request(error)
            raise error
        found = target.conference_id in self.active
        self.active.discard(target.conference_id)
        try:
            async with asyncio.timeout(None) as patience:
                now = asyncio.get_running_loop().time
                with stop.listening(lambda grace: patience.reschedule(now() + grace)):
                    await asyncio.sleep(self.seconds)
        except TimeoutError:
            raise TransportError("stopped before an answer", ambiguous=True, attempts=1) from None
        if not found and not (target.existed or target.ambiguous):
            raise NotFoundError("answered 404", status=404, attempts=1)
        return Outcome(target.conference_id, OutcomeKind.ENDED if found else OutcomeKind.ALREADY_ENDED, 1)

    @property
    def sent_twice(self) -> int:
        """Return how many ids got more than one request."""
        return sum(count > 1 for count in self.requests.values())


@define
class Client:
    """A client of the server above, as a worker needs it. It ends ten at a time."""

    server: Bandwidth
    account_id: str = ACCOUNT

    async def end_conferences(self, targets: list[Target], **settings: Any) -> Report:
        """Run as `VoiceClient.end_conferences` does."""
        assert settings.pop("verify") is False
        return await run(targets, self.server.end, **{**settings, "concurrency": 10})

    async def aclose(self) -> None:
        """Close nothing."""


@define(eq=False)
class Queue:
    """A queue in memory. What it keeps is JSON."""

    chunks: asyncio.Queue[tuple[Record, bool]] = field(factory=asyncio.Queue)
    records: dict[str, str] = field(factory=dict)
    copies: int = 1
    redelivered: bool = False
    gone: bool = False
    # Seconds that each step takes.
    seconds: float = 0.0
    # All that was ever sent or kept.
    seen: list[str] = field(factory=list)

    def flush(self) -> None:
        """Forget all, as a Redis does that keeps nothing on disk."""
        self.records.clear()
        while not self.chunks.empty():
            self.chunks.get_nowait()


@define(eq=False)
class Line(Engine):
    """The way of one process to the queue, which may be cut."""

    queue: Queue
    cut: bool = False

    async def send(self, chunk: Record) -> None:
        """Queue a chunk, as often as ``copies`` says."""
        await self._pass()
        self.queue.seen.append(json.dumps(chunk))
        for _ in range(self.queue.copies):
            self.queue.chunks.put_nowait((json.loads(json.dumps(chunk)), self.queue.redelivered))

    async def read(self, key: str) -> Record | None:
        """Read a record."""
        await self._pass()
        record: Record | None = json.loads(self.queue.records.get(key, "null"))
        return record

    async def write(self, key: str, record: Record) -> None:
        """Write a record."""
        await self._pass()
        self.queue.records[key] = json.dumps(record)
        self.queue.seen.append(self.queue.records[key])

    async def _pass(self) -> None:
        if self.queue.gone:
            raise ConnectionRefusedError("no queue here")
        if self.cut:
            await asyncio.Event().wait()
        if self.queue.seconds:
            await asyncio.sleep(self.queue.seconds)


@define(eq=False)
class Machine:
    """A worker process, which ends one chunk after the other until it is killed."""

    line: Line
    client: Callable[[], Client]
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take chunks."""
        self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        worker = ChunkWorker(self.line, cast("Callable[[], VoiceClient]", self.client))
        while True:
            chunk, redelivered = await self.line.queue.chunks.get()
            # What an engine does with an error of a task.
            with suppress(OSError):
                await worker.end(chunk, redelivered=redelivered)

    async def kill(self) -> None:
        """Let it do nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


@pytest.fixture
def server() -> Bandwidth:
    """Return a server with all conferences active."""
    return Bandwidth()


@pytest.fixture
def queue() -> Queue:
    """Return an empty queue."""
    return Queue()


def workers(queue: Queue, server: Bandwidth, count: int = 3) -> list[Machine]:
    """Start machines with a worker each."""
    machines = [Machine(Line(queue), lambda: Client(server)) for _ in range(count)]
    for machine in machines:
        machine.start()
    return machines


async def end(
    queue: Queue, ids: list[str] = IDS, line: Line | None = None, **settings: Any
) -> tuple[Report, dict[str, Outcome]]:
    """Run, and return the report and the outcomes. Each id has one outcome."""
    outcomes: list[Outcome] = []
    settings = {"account_id": ACCOUNT, "chunk_size": 20, "lease": LEASE, **settings}
    report = await run_on(line or Line(queue), ids, on_outcome=outcomes.append, **settings)
    assert sorted(outcome.conference_id for outcome in outcomes) == sorted(ids)
    return report, {outcome.conference_id: outcome for outcome in outcomes}


async def test_each_id_has_its_outcome_and_is_sent_once(queue: Queue, server: Bandwidth) -> None:
    """Workers end all, and what does not exist is not found."""
    workers(queue, server)
    report, outcomes = await end(queue, [*IDS, "conf-none"])
    assert report.ok
    assert report.counts == {"ended": 250, "not_found": 1}
    assert report.attempts == 251
    assert outcomes["conf-none"].error == "answered 404"
    assert server.sent_twice == 0


async def test_what_a_killed_worker_left_goes_to_others_when_its_lease_has_lapsed(
    queue: Queue, server: Bandwidth
) -> None:
    """Only ids without an outcome are sent again, and a 404 means then that the conference has ended."""
    machines = workers(queue, server)
    task = asyncio.create_task(end(queue))
    await asyncio.sleep(2)
    before = server.requests.total()
    await machines[0].kill()
    report, _ = await task
    assert 0 < before < 250
    assert report.ok
    assert set(report.counts) == {"ended", "already_ended"}
    assert 0 < server.sent_twice == report.counts["already_ended"] <= 20
    assert LEASE <= report.elapsed < 2 * LEASE


async def test_time_in_the_queue_counts_for_nothing(queue: Queue, server: Bandwidth) -> None:
    """If no worker is up for ten minutes, nothing is sent twice, and nothing is taken for ended."""
    task = asyncio.create_task(end(queue, [*IDS, "conf-none"]))
    await asyncio.sleep(600)
    assert queue.chunks.qsize() > 13  # offered again and again
    workers(queue, server)
    report, _ = await task
    assert report.counts == {"ended": 250, "not_found": 1}
    assert server.sent_twice == 0


async def test_a_chunk_that_is_delivered_twice_is_begun_once(queue: Queue, server: Bandwidth) -> None:
    """The second delivery is dropped, also while the first is in work."""
    queue.copies = 2
    workers(queue, server)
    report, _ = await end(queue)
    assert report.counts == {"ended": 250}
    assert server.sent_twice == 0


@pytest.mark.parametrize("copies", [1, 2])
async def test_workers_that_take_copies_of_a_chunk_at_the_same_moment_begin_it_once(
    queue: Queue, server: Bandwidth, copies: int
) -> None:
    """All copies were offered before the first worker was up, and it takes time to look who has begun."""
    queue.seconds, queue.copies = 0.01, copies
    task = asyncio.create_task(end(queue, [*IDS[:19], "conf-none"]))
    await asyncio.sleep(100)
    assert queue.chunks.qsize() > 1
    workers(queue, server, 2)
    report, _ = await task
    assert server.sent_twice == 0
    assert report.counts == {"ended": 19, "not_found": 1}


async def test_workers_that_are_at_work_take_copies_of_a_chunk_and_begin_it_once(
    queue: Queue, server: Bandwidth
) -> None:
    """They have seen the coordinator before, so they do not wait for a sign of life."""
    queue.seconds, queue.copies = 0.01, 3
    workers(queue, server)
    report, _ = await end(queue, [*IDS, "conf-none"])
    assert server.sent_twice == 0
    assert report.counts == {"ended": 250, "not_found": 1}


async def test_the_ids_of_a_redelivered_chunk_are_ambiguous(queue: Queue, server: Bandwidth) -> None:
    """The engine says that someone else may have begun it. So a 404 does not mean that there was nothing."""
    queue.redelivered = True
    server.active.remove(IDS[7])
    workers(queue, server)
    report, _ = await end(queue)
    assert report.counts == {"ended": 249, "already_ended": 1}


async def test_a_stop_reaches_the_workers(queue: Queue, server: Bandwidth) -> None:
    """What is in work is finished, and what nobody sent is not attempted."""
    workers(queue, server)
    stop = Stop()
    asyncio.get_running_loop().call_later(2, stop.request)
    report, outcomes = await end(queue, stop=stop)
    assert set(report.counts) == {"ended", "not_attempted"}
    assert report.counts["ended"] == server.requests.total()
    assert {one.error for one in outcomes.values() if one.kind == "not_attempted"} == {stop.why}
    assert report.elapsed < 2 + LEASE / 4
    assert report.stopped is stop.reason


async def test_a_stop_with_the_queue_gone_says_unknown_only_of_what_was_sent(
    queue: Queue, server: Bandwidth
) -> None:
    """Chunks that are in the queue may be begun. What never left is not attempted."""
    task = asyncio.create_task(end(queue, chunks=2, stop=(stop := Stop())))
    await asyncio.sleep(2)
    queue.gone = True
    stop.request()
    report, _ = await task
    in_queue = sum(len(json.loads(sent)["targets"]) for sent in queue.seen if "targets" in sent)
    assert report.counts == {"unknown": in_queue, "not_attempted": 250 - in_queue}
    assert 0 < in_queue < 250
    assert server.requests.total() == 0


async def test_a_chunk_that_a_stopped_run_left_in_the_queue_is_dropped(
    queue: Queue, server: Bandwidth
) -> None:
    """Its ids were said not to be attempted, so nobody ends them later."""
    stop = Stop()
    asyncio.get_running_loop().call_later(2, stop.request)
    report, _ = await end(queue, stop=stop)
    assert report.counts == {"not_attempted": 250}
    assert queue.chunks.qsize() > 0
    workers(queue, server)
    await asyncio.sleep(100)
    assert queue.chunks.empty()
    assert server.requests.total() == 0


MANY = [f"more-{number}" for number in range(1000)]


async def begun_and_cut_off(queue: Queue, server: Bandwidth) -> float:
    """Run 1,000 ids with one worker, cut off the coordinator after two seconds, and return the time."""
    server.active.update(MANY)
    line = Line(queue)
    task = asyncio.create_task(end(queue, MANY, line, chunk_size=400))
    await asyncio.sleep(2)
    line.cut = True
    task.cancel()
    await asyncio.wait([task])
    return asyncio.get_running_loop().time()


async def test_workers_stop_when_their_coordinator_is_gone(queue: Queue, server: Bandwidth) -> None:
    """They stop within half a lease, and begin nothing else that it has sent."""
    workers(queue, server, 1)
    gone_at = await begun_and_cut_off(queue, server)
    await asyncio.sleep(100)
    assert server.sent_at[-1] <= gone_at + LEASE / 2 + LEASE / 15
    assert queue.chunks.empty()


async def test_a_worker_that_starts_later_begins_nothing_of_a_coordinator_that_is_gone(
    queue: Queue, server: Bandwidth
) -> None:
    """The record of the coordinator is there, but nothing moves in it."""
    await begun_and_cut_off(queue, server)
    workers(queue, server, 1)
    await asyncio.sleep(100)
    assert queue.chunks.empty()
    assert server.requests.total() == 0


async def test_the_next_coordinator_takes_over_what_the_workers_did(
    queue: Queue, server: Bandwidth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume sends nothing twice that a worker has ended, told of or not."""
    epochs = count()
    monkeypatch.setattr(secrets, "token_hex", lambda size: "run" if size == 16 else f"epoch-{next(epochs)}")
    server.seconds = 0.3
    workers(queue, server)
    line, told = Line(queue), list[Outcome]()
    settings: dict[str, Any] = {"account_id": ACCOUNT, "chunk_size": 20, "on_outcome": told.append}
    first = asyncio.create_task(run_on(line, IDS, **settings))
    await asyncio.sleep(2)
    line.cut = True
    first.cancel()
    await asyncio.wait([first])
    before, ended = len(told), server.requests.total()
    known = {outcome.conference_id for outcome in told}
    left = [Target(id_, ambiguous=True) for id_ in IDS if id_ not in known]
    report = await run_on(Line(queue), left, **settings)
    assert report.ok
    assert before < ended < 250
    assert server.sent_twice == 0
    assert Counter(outcome.kind for outcome in told) == {"ended": 250}


async def test_a_worker_that_is_cut_off_stops_before_others_begin(queue: Queue, server: Bandwidth) -> None:
    """No id is in work at two workers. What the lost one has ended is found to have ended."""
    machines = workers(queue, server, 2)
    server.active.update(MANY)
    task = asyncio.create_task(end(queue, MANY, chunk_size=400, chunks=3))
    await asyncio.sleep(4)
    machines[0].line.cut = True
    report, _ = await task
    assert report.ok
    assert report.counts["already_ended"] == server.sent_twice > 0
    assert max(server.requests.values()) == 2


async def test_what_a_worker_left_unanswered_as_it_saw_no_coordinator_goes_to_others(
    queue: Queue, server: Bandwidth
) -> None:
    """A starved machine, or a short cut: the worker stops in the midst of its requests and tells of it."""
    machines = workers(queue, server, 1)
    server.active.update(MANY)
    task = asyncio.create_task(end(queue, MANY))
    await asyncio.sleep(2)
    server.seconds = LEASE
    machines[0].line.cut = True
    await asyncio.sleep(LEASE * 0.75)
    server.seconds = 0.05
    machines[0].line.cut = False
    report, _ = await task
    assert report.ok
    assert set(report.counts) == {"ended", "already_ended"}
    assert server.sent_twice == report.counts["already_ended"] == 10


async def test_an_empty_queue_after_a_restart_loses_nothing(queue: Queue, server: Bandwidth) -> None:
    """Workers write again what they know. What nobody has begun is sent again, as ambiguous."""
    server.seconds = 0.5
    server.active.remove(IDS[100])
    machines = workers(queue, server)
    task = asyncio.create_task(end(queue))
    await asyncio.sleep(1.5)
    assert not server.requests[IDS[100]]
    queue.flush()
    await machines[0].kill()
    report, outcomes = await task
    assert report.ok
    assert report.elapsed < 2 * LEASE
    assert outcomes[IDS[100]].kind == "already_ended"
    assert report.counts["already_ended"] == server.sent_twice + 1


async def test_workers_that_live_through_a_flush_send_nothing_twice(queue: Queue, server: Bandwidth) -> None:
    """Their records are whole again at the next renewal. Only what is done and not read is lost."""
    server.seconds = 0.5
    workers(queue, server)
    task = asyncio.create_task(end(queue))
    await asyncio.sleep(1.5)
    queue.flush()
    report, _ = await task
    assert report.ok
    assert server.sent_twice <= 1


async def test_a_queue_that_is_gone_for_20_seconds_costs_time_only(queue: Queue, server: Bandwidth) -> None:
    """Workers deliver their outcomes when it is back, and give back what they have not sent."""
    server.active.update(MANY)
    workers(queue, server)
    task = asyncio.create_task(end(queue, MANY, chunk_size=100))
    await asyncio.sleep(2)
    queue.gone = True
    await asyncio.sleep(20)
    queue.gone = False
    report, _ = await task
    assert report.counts == {"ended": 1000}
    assert server.sent_twice == 0


async def test_a_queue_that_is_not_there_is_an_error_at_once(queue: Queue) -> None:
    """A wrong URL does not wait for ever."""
    queue.gone = True
    with pytest.raises(TransportError, match="the queue cannot be reached: ConnectionRefusedError: no queue"):
        await end(queue)


async def test_an_engine_that_keeps_no_records_is_refused(queue: Queue) -> None:
    """Without records there are no leases."""

    class Forgetful(Line):
        async def write(self, key: str, record: Record) -> None:
            """Keep nothing."""

    with pytest.raises(ConfigurationError, match="does not keep records by their key"):
        await end(queue, line=Forgetful(queue))


async def test_workers_of_an_earlier_program_may_be_unsure_too(queue: Queue, server: Bandwidth) -> None:
    """Their records do not say whether the worker was cut off. What they do not know is told as unknown."""

    class Earlier(Line):
        async def write(self, key: str, record: Record) -> None:
            """Write what that program wrote."""
            await super().write(key, {name: value for name, value in record.items() if name != "cut"})

    server.refusal = lambda _: TransportError("no answer", ambiguous=True, attempts=1)
    Machine(Earlier(queue), lambda: Client(server)).start()
    report, _ = await end(queue)
    assert report.counts == {"unknown": 250}


async def test_wrong_credentials_of_a_worker_stop_the_run(queue: Queue, server: Bandwidth) -> None:
    """The error is that of the worker, and says on which machine."""
    server.refusal = lambda _: AuthenticationError("the client id is refused", status=401)
    workers(queue, server)
    report, _ = await end(queue)
    assert isinstance(report.stopped, AuthenticationError)
    assert "the client id is refused (on the worker " in str(report.stopped)
    assert report.stopped.status == 401
    assert report.counts["failed"] + report.counts["not_attempted"] == 250
    assert server.requests.total() <= 3 * 10


async def test_a_worker_without_credentials_stops_the_run(queue: Queue) -> None:
    """Its environment lacks a variable, which the error names."""

    def client() -> Client:
        raise MissingCredentialsError("BW_CLIENT_ID is not set")

    Machine(Line(queue), client).start()
    report, _ = await end(queue)
    assert isinstance(report.stopped, MissingCredentialsError)
    assert "BW_CLIENT_ID is not set" in str(report.stopped)
    assert report.counts == {"not_attempted": 250}


async def test_a_worker_of_another_account_refuses(queue: Queue, server: Bandwidth) -> None:
    """It would say of each id that there is no such conference."""
    Machine(Line(queue), lambda: Client(server, "1234567")).start()
    report, _ = await end(queue)
    assert "BW_ACCOUNT_ID is not the account of the run" in str(report.stopped)
    assert server.requests.total() == 0


async def test_a_worker_of_another_version_refuses(queue: Queue, server: Bandwidth) -> None:
    """Whoever updates the workers and not the coordinator is told, and does not wait for ever."""

    class Newer(Line):
        async def send(self, chunk: Record) -> None:
            await super().send({**chunk, "version": 2, "colour": "blue"})

    workers(queue, server)
    report, _ = await end(queue, line=Newer(queue))
    assert isinstance(report.stopped, ConfigurationError)
    assert report.stopped.message.startswith("the worker has another release of bandwidth_async than the run")
    assert report.counts == {"not_attempted": 250}
    assert server.requests.total() == 0


async def test_a_user_who_may_do_nothing_stops_the_run(queue: Queue, server: Bandwidth) -> None:
    """Denials count over all workers."""
    server.refusal = lambda _: PermissionDeniedError("no role", status=403)
    workers(queue, server)
    report, _ = await end(queue)
    assert isinstance(report.stopped, PermissionDeniedError)
    assert set(report.counts) == {"refused", "not_attempted"}
    assert report.counts["refused"] < 100


async def test_some_denials_in_a_chunk_do_not_stop_the_run(queue: Queue, server: Bandwidth) -> None:
    """A chunk that begins with a few ids of somebody else is no reason to stop."""
    server.refusal = lambda id_: (
        PermissionDeniedError("not yours", status=403) if id_ in IDS[100:105] else None
    )
    workers(queue, server, 1)
    report, _ = await end(queue)
    assert report.stopped is None
    assert report.counts == {"ended": 245, "refused": 5}


async def test_what_travels_holds_no_account(queue: Queue, server: Bandwidth) -> None:
    """The account is a hash, which differs from run to run."""
    workers(queue, server)
    await end(queue)
    assert not [text for text in [*queue.seen, *queue.records] if ACCOUNT in text]


async def test_a_run_that_hangs_up_calls_is_refused(queue: Queue, tmp_path: Path) -> None:
    """A worker that dies would lose the calls of a conference that it has ended."""
    async with Journal.create(tmp_path / "journal", account_id=ACCOUNT, hang_up=True) as journal:
        with pytest.raises(ConfigurationError, match="hangs up calls, which a queue cannot"):
            await run_on(Line(queue), journal)
