"""What the command line knows of the rate of an account from one command to the next."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import Knowledge
from bandwidth_async.cli import main, rates
from bandwidth_async.limiter import Limiter, RateLimit
from tests.test_cli import served, use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.sandbox import Sandbox

QUOTA = 60
DAY = 24 * 3600.0


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory where the state is kept by default."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "bandwidth-async"


@pytest.fixture
def sandbox(state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve conferences within a quota, and set the environment for them."""
    with served(conferences=400, quota=f"token-bucket:rate={QUOTA},burst=20", hint="reset-ms") as stand_in:
        use(stand_in, monkeypatch)
        yield stand_in


@pytest.fixture
def end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., float | None]:
    """Return a function that ends ids with options, and returns the rate that the log says it began at."""

    def run(ids: Sequence[str], *options: str) -> float | None:
        (tmp_path / "ids.txt").write_text("\n".join(ids))
        caplog.clear()
        with caplog.at_level(logging.INFO, "bandwidth_async.cli"):
            assert main(["end", "--from", str(tmp_path / "ids.txt"), "--yes", *options]) == 0
        told = [re.match(r"begins at ([\d.]+) requests a second", one.getMessage()) for one in caplog.records]
        return next((float(one[1]) for one in told if one), None)

    return run


def files(state: Path) -> list[Path]:
    """Return the files of all accounts and hosts."""
    folder = state / "rates"
    return sorted(folder.iterdir()) if folder.exists() else []


def known_in(state: Path) -> dict[str, Any]:
    """Return what the only file says."""
    (file,) = files(state)
    return dict(json.loads(file.read_text()))


def know(sandbox: Sandbox, state: Path, **changed: float) -> Path:
    """Write what an earlier run could have learned, and return the file."""
    limiter = Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=150, stood=140)))
    rates.keep(limiter)
    (file,) = files(state)
    file.write_text(json.dumps({**known_in(state), **changed}))
    return file


def test_the_next_run_begins_near_the_limit_that_the_first_found(
    state: Path, sandbox: Sandbox, end: Callable[..., float | None]
) -> None:
    """The first run begins with nothing, the second where the first came to. The log tells it."""
    ids = sandbox.conference_ids
    assert end(ids[:250]) is None
    known = known_in(state)
    # On a machine that does other work the measure is rough.
    assert QUOTA / 2 <= known["rate"] <= 2 * QUOTA
    assert known["at"] == pytest.approx(time.time(), abs=60)
    assert end(ids[250:]) == pytest.approx(known["rate"], rel=0.01)


def test_a_resume_begins_there_too(
    state: Path, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """So does each command with a client."""
    know(sandbox, state)
    journal = str(tmp_path / "run.journal")
    ids = sandbox.conference_ids[:3]
    assert main(["end", *ids, "--journal", journal, "--deadline", "0.001"]) == 5
    for command in (["resume", journal], ["get", ids[0]], ["end", "--all-active", "--yes"]):
        caplog.clear()
        with caplog.at_level(logging.INFO, "bandwidth_async.cli"):
            assert main(command) == 0
        assert [one.getMessage().partition(",")[0] for one in caplog.records] == [
            "begins at 150.0 requests a second"
        ]


def test_a_start_rate_overrules_and_a_fixed_rate_neither_reads_nor_writes(
    state: Path, sandbox: Sandbox, end: Callable[..., float | None]
) -> None:
    """A run that begins elsewhere learns as others do."""
    ids = sandbox.conference_ids
    assert end(ids[:150], "--rate", "5000") is None
    assert files(state) == []
    file = know(sandbox, state, at=time.time() - 3600)
    before = file.read_text()
    assert end(ids[150:160], "--rate", "100") is None
    assert file.read_text() == before
    assert end(ids[200:350], "--start-rate", "1000") is None
    assert file.read_text() != before


def test_a_run_of_a_few_ids_changes_nothing(
    state: Path, sandbox: Sandbox, end: Callable[..., float | None]
) -> None:
    """Others have used up the quota, and it was refused."""
    ids = sandbox.conference_ids
    sandbox.plan("429", times=4)
    end(ids[:10])
    assert files(state) == []
    file = know(sandbox, state)
    before = file.read_text()
    sandbox.plan("429", times=4)
    assert end(ids[10:20]) == 150
    assert file.read_text() == before


def test_each_account_and_host_has_a_private_file_whose_name_tells_nothing(
    state: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no journal, either."""
    know(sandbox, state)
    monkeypatch.setenv("BW_ACCOUNT_ID", "5555555")
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=150, stood=140))))
    monkeypatch.setenv("BW_VOICE_URL", "https://voice.example")
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=150, stood=140))))
    assert len(files(state)) == 3
    for file in files(state):
        assert re.fullmatch(r"[0-9a-f]{32}\.json", file.name)
        if os.name == "posix":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert set(json.loads(file.read_text())) == {"version", "rate", "stood", "window", "at"}


@pytest.mark.parametrize(
    "case",
    [
        "",
        "{",
        "[" * 100_000,
        '{"version": 2}',
        "\xff",
        '{"version": 1, "rate": 1e999}',
        '{"version": 1, "rate": 9, "stood": 9, "window": 0, "at": 1e300}',
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    state: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """The run does without, and the next one that learns something writes it anew."""
    file = know(sandbox, state)
    file.write_bytes(case.encode("latin-1"))
    assert main(["end", *sandbox.conference_ids[:2]]) == 0
    sentences = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("bandwidth-async: ")
    ]
    assert len(sentences) == 1
    assert str(file) in sentences[0]
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=90, stood=90))))
    assert known_in(state)["rate"] == 90


def test_a_state_directory_that_cannot_be_written_fails_no_run(
    state: Path, sandbox: Sandbox, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One sentence tells it, after the summary."""
    (tmp_path / "state").write_text("a file, and no directory")
    ids = sandbox.conference_ids[:150]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    assert main(["end", "--from", str(tmp_path / "ids.txt"), "--yes", "--no-journal"]) == 0
    sentences = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("bandwidth-async: ")
    ]
    assert len(sentences) == 1
    assert sentences[0].startswith("bandwidth-async: the next run has to find out the rate again: ")


def test_without_a_home_directory_nothing_is_known(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with little to send says nothing of it."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert main(["end", sandbox.conference_ids[0]]) == 0
    assert "bandwidth-async: " not in capsys.readouterr().err
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=150, stood=140))))
    assert "again: there is no home directory to keep" in capsys.readouterr().err


def test_old_files_and_the_oldest_of_many_go(state: Path, sandbox: Sandbox) -> None:
    """Each sandbox has a port of its own, so each test run on one would leave a file."""
    folder = know(sandbox, state).parent
    for number in range(150):
        (folder / f"{number:032x}.json").write_text("{}")
        os.utime(folder / f"{number:032x}.json", (time.time() - number * DAY,) * 2)
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=160, stood=140))))
    assert len(files(state)) == 31
    for number in range(150):
        (folder / f"{number:032x}.json").write_text("{}")
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=160, stood=140))))
    assert len(files(state)) == 100
    assert any("rate" in json.loads(file.read_text()) for file in files(state))


def test_what_another_run_has_learned_since_is_kept(state: Path, sandbox: Sandbox) -> None:
    """A long run that learned nothing ends after a short one that did."""
    file = know(sandbox, state)
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=3, stood=3, at=time.time() - 60))))
    assert json.loads(file.read_text())["rate"] == 150


def test_a_clock_that_was_wrong_once_does_not_stop_the_learning(state: Path, sandbox: Sandbox) -> None:
    """What was learned in the year 3000 is replaced."""
    know(sandbox, state, at=32_503_680_000.0)
    rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=90, stood=90))))
    assert known_in(state)["rate"] == 90


def test_command_lines_at_the_same_time_leave_a_whole_file(state: Path, sandbox: Sandbox) -> None:
    """Whoever reads meanwhile gets one of theirs."""
    file = know(sandbox, state)
    done = threading.Event()
    seen: set[float] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(json.loads(file.read_text())["rate"])

    def write(rate: int) -> None:
        for _ in range(50):
            rates.keep(Limiter(RateLimit.adaptive(knowledge=Knowledge(rate=rate, stood=rate))))

    reader = threading.Thread(target=look)
    writers = [threading.Thread(target=write, args=(rate,)) for rate in (10, 20, 30)]
    reader.start()
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    done.set()
    reader.join()
    assert seen <= {150, 10, 20, 30}
    assert [one.name for one in files(state)] == [file.name]
