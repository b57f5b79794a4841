"""The progress of a run: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import sys
from collections import Counter

import pytest

from bandwidth_async.cli.progress import Bar, Lines, display, figure
from bandwidth_async.limiter import Paused, RateChanged, Unavailable
from bandwidth_async.outcome import OutcomeKind, Report

HALF = Report(counts=Counter({OutcomeKind.ENDED: 499, OutcomeKind.UNKNOWN: 1}))


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar shows the counts and the number of unknown ids. Other lines appear above it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    shown = display(1000)
    with shown:
        shown.update(HALF)
        shown.print_line("conf-1  unknown  [not markup]")
    assert isinstance(shown, Bar)
    text = terminal.getvalue()
    assert "500/1000" in text
    assert "50%" in text
    assert "1 unknown" in text
    assert "conf-1  unknown  [not markup]\n" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TERM", "dumb"),
        ("TERM", "unknown"),
        ("TERM", ""),
        ("TERM", None),
        ("COLUMNS", "1"),
        ("COLUMNS", "20"),
        ("TTY_INTERACTIVE", "0"),
        ("TTY_COMPATIBLE", "0"),
    ],
)
def test_a_terminal_without_room_or_cursor_gets_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """A bar would show nothing there until the end, or fill the terminal with pieces of itself."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display(1000), Bar)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert isinstance(display(1000), Lines)


def test_a_pipe_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line appears at most every 5 s, with the rate since the last and the time left. None is empty."""
    clock = iter([0.0, 4.9, 5.0, 9.9, 10.0, 20.0])
    reports = [Report(counts=Counter({OutcomeKind.ENDED: done, OutcomeKind.UNKNOWN: 1})) for done in (9, 499)]
    monkeypatch.setattr("bandwidth_async.cli.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("bandwidth_async.cli.progress.time.strftime", lambda _: "08:15:00")
    shown = display(1000)
    with shown:
        for report in (reports[0], reports[0], reports[1], reports[1], reports[1]):
            shown.update(report)
    assert isinstance(shown, Lines)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 10 of 1,000 (1%), 2/s, 8:15 left, 1 unknown",
        "08:15:00 500 of 1,000 (50%), 98/s, 0:06 left, 1 unknown",
    ]


def test_the_bar_shows_the_limit_and_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """They appear at once, without the next outcome."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    with display(1000) as shown:
        shown.on_event(RateChanged(20.0, None))
        shown.on_event(RateChanged(194.0, 198.2))
        shown.on_event(Paused(12.0, hinted=True))
    assert "limit 198/s, paused 12 s as the server asked" in terminal.getvalue()


def test_lines_tell_the_limit_and_long_pauses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long pause gets its own line, a short one is in the next line, a tiny one is not shown."""
    clock = iter([0.0, 4.0, 5.0, 7.0, 10.0])
    monkeypatch.setattr("bandwidth_async.cli.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("bandwidth_async.cli.progress.time.strftime", lambda _: "08:15:00")
    with display(1000) as shown:
        shown.on_event(RateChanged(194.0, 198.2))
        shown.on_event(Paused(0.1, hinted=False))
        shown.on_event(Paused(2.0, hinted=False))
        shown.update(Report(counts=Counter({OutcomeKind.ENDED: 10})))
        shown.on_event(Paused(12.0, hinted=True))
        shown.update(HALF)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 10 of 1,000 (1%), 2/s, 8:15 left, limit 198/s, paused 1 s after a 429",
        "08:15:00 paused 12 s as the server asked",
        "08:15:00 500 of 1,000 (50%), 98/s, 0:06 left, limit 198/s, paused 9 s as the server asked, "
        "1 unknown",
    ]


def test_lines_tell_that_the_server_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage gets a line at its beginning and now and then, and a long pause always gets one."""
    clock = iter([0.0, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 7.0])
    monkeypatch.setattr("bandwidth_async.cli.progress.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("bandwidth_async.cli.progress.time.strftime", lambda _: "08:15:00")
    with display(1000) as shown:
        shown.on_event(Unavailable(0.7))
        shown.on_event(Unavailable(1.4))
        shown.on_event(Unavailable(14.2))
        shown.update(Report())
        shown.update(HALF)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 paused 1 s because the server fails or does not answer",
        "08:15:00 paused 15 s because the server fails or does not answer",
        "08:15:00 500 of 1,000 (50%), 71/s, 0:07 left, paused 10 s because the server fails or does not "
        "answer, 1 unknown",
    ]


@pytest.mark.parametrize(
    ("rate", "text"), [(0.519, "0.52"), (4.84, "4.8"), (9.97, "10"), (198.4, "198"), (1000.0, "1,000")]
)
def test_a_rate_as_a_person_reads_it(rate: float, text: str) -> None:
    """It has two significant digits, or all digits before the point."""
    assert figure(rate) == text
