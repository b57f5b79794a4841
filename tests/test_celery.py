"""Runs on Celery without a server: eager, and with a worker in this process."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

from bandwidth_async import Journal
from bandwidth_async.celery import ConferenceTask, conference_task, run_on
from bandwidth_async.errors import AuthenticationError, ConfigurationError, MissingCredentialsError
from bandwidth_async.journal import read_outcomes
from bandwidth_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

LEASE = 2.0


@pytest.fixture(autouse=True)
def logging_stays_as_it_is() -> Iterator[None]:
    """Answer the signal by which Celery asks whether it shall set up the root logger."""

    def leave(**_: object) -> None:
        pass

    signals.setup_logging.connect(leave)
    yield
    signals.setup_logging.disconnect(leave)


@pytest.fixture
async def sandbox(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """Start a sandbox that the environment names."""
    async with Sandbox(conferences=150, faults="503=3%,reset=2%", seed=3) as sandbox:
        for name, value in sandbox.environ.items():
            monkeypatch.setenv(name, value)
        yield sandbox


@pytest.fixture
def eager() -> Iterator[ConferenceTask]:
    """Return the queue of an app in eager mode, as tests of applications have it."""
    app = Celery("eager", broker="redis://nowhere.invalid", backend="redis://nowhere.invalid")
    app.conf.task_always_eager = True
    queue = conference_task(app)
    yield queue
    queue.close()


async def test_eager_mode_needs_no_server(eager: ConferenceTask, sandbox: Sandbox, tmp_path: Path) -> None:
    """The same lines end all conferences, with a journal."""
    async with Journal.create(tmp_path / "journal", account_id=sandbox.account_id) as journal:
        await journal.record([*sandbox.conference_ids, "conf-none"])
        report = await run_on(eager, journal, lease=LEASE, chunk_size=40)
    assert report.ok
    assert report.counts["ended"] + report.counts["already_ended"] == 150
    assert report.counts["not_found"] == 1
    outcomes = {outcome.conference_id: outcome for outcome in read_outcomes(tmp_path / "journal")}
    assert outcomes.keys() == {*sandbox.conference_ids, "conf-none"}
    assert report.attempts == sum(outcome.attempts for outcome in outcomes.values())
    assert all(fact["ended_at"] is not None for fact in sandbox.truth()["conferences"].values())


async def test_a_run_that_was_stopped_is_resumed(
    eager: ConferenceTask, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The journal knows what is left."""
    async with Journal.create(tmp_path / "journal", account_id=sandbox.account_id) as journal:
        await journal.record(sandbox.conference_ids)
        first = await run_on(eager, journal, lease=LEASE, deadline=0)
        assert first.counts == {"not_attempted": 150}
        assert (await run_on(eager, journal, lease=LEASE)).ok


async def test_a_worker_in_this_process_needs_no_server(sandbox: Sandbox) -> None:
    """The broker and the backend of Celery in memory carry a run."""
    app = Celery("memory", broker="memory://", backend="cache+memory://")
    queue = conference_task(app)
    with start_worker(app, pool="threads", perform_ping_check=False, shutdown_timeout=30):
        report = await run_on(queue, sandbox.conference_ids, lease=LEASE, chunk_size=40)
    queue.close()
    assert report.ok
    assert report.total == 150


async def test_a_wrong_secret_of_the_worker_stops_the_run(
    eager: ConferenceTask, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the error that a run in one process would have."""
    monkeypatch.setenv("BW_CLIENT_SECRET", "wrong")
    report = await run_on(eager, sandbox.conference_ids, lease=LEASE)
    assert isinstance(report.stopped, AuthenticationError)
    assert report.counts == {"not_attempted": 150}


async def test_a_run_needs_an_account(eager: ConferenceTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a worker of another account could not be noticed."""
    monkeypatch.delenv("BW_ACCOUNT_ID", raising=False)
    with pytest.raises(MissingCredentialsError, match="BW_ACCOUNT_ID is not set; set it, or pass account_id"):
        await run_on(eager, ["conf-1"])


async def test_an_app_without_a_result_backend_is_refused() -> None:
    """It has no place for leases."""
    queue = conference_task(Celery("bare", broker="memory://"))
    with pytest.raises(ConfigurationError, match="no result backend"):
        await run_on(queue, ["conf-1"], account_id="1")


async def test_a_visibility_timeout_shorter_than_a_lease_is_refused() -> None:
    """Celery would deliver again what waits in a worker, again and again."""
    app = Celery("hasty", broker="memory://", backend="cache+memory://")
    app.conf.broker_transport_options = {"visibility_timeout": 5}
    with pytest.raises(ConfigurationError, match=r"visibility_timeout is 5 s.*set 15 s or more"):
        await run_on(conference_task(app), ["conf-1"], account_id="1")


def test_celery_delivers_nothing_again_by_itself() -> None:
    """The task acknowledges a chunk as it begins it, whatever the app says of its other tasks."""
    app = Celery("late", broker="memory://", task_acks_late=True, task_reject_on_worker_lost=True)
    conference_task(app, name="end")
    assert app.tasks["end"].acks_late is False
    assert not app.tasks["end"].reject_on_worker_lost


def test_each_app_has_a_task_of_its_own() -> None:
    """Celery gives a task to every app of the process unless told otherwise, and the first one wins."""
    apps = [Celery("one", broker="memory://"), Celery("two", broker="memory://")]
    for app in apps:
        conference_task(app, name="end")
    assert [app.tasks["end"].app for app in apps] == apps


def test_without_celery_the_error_says_what_to_install() -> None:
    """The extra is named."""
    program = """
        import sys
        sys.modules["celery"] = None
        try:
            import bandwidth_async.celery
        except ModuleNotFoundError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "a run on Celery needs it: pip install 'bandwidth_async[celery]'"
