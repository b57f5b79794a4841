"""How a run is shown: a bar on a terminal, whole lines anywhere else."""

from __future__ import annotations

import io
import sys
from collections import Counter

import pytest

from bandwidth_async.cli.progress import Bar, Lines, display
from bandwidth_async.teardown import OutcomeKind, Report

HALF = Report(counts=Counter({OutcomeKind.ENDED: 499, OutcomeKind.UNKNOWN: 1}))


class Terminal(io.StringIO):
    """A terminal of 100 columns that remembers what it was sent."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how many of how many, the rate, and what went wrong; lines stand above it."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    shown = display(1000)
    with shown:
        shown.update(HALF)
        shown.say("conf-1  unknown  [not markup]")
    assert isinstance(shown, Bar)
    text = terminal.getvalue()
    assert "500/1000" in text
    assert "50%" in text
    assert "1 unknown" in text
    assert "conf-1  unknown  [not markup]\n" in text


def test_a_pipe_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one in five seconds, whole, with the rate since the last; none when nothing moved."""
    clock = iter([0.0, 4.9, 5.0, 9.9, 10.0, 20.0])
    reports = [Report(counts=Counter({OutcomeKind.ENDED: done, OutcomeKind.UNKNOWN: 1})) for done in (9, 499)]
    monkeypatch.setattr("bandwidth_async.cli.progress.time.monotonic", lambda: next(clock))
    shown = display(1000)
    with shown:
        for report in (reports[0], reports[0], reports[1], reports[1], reports[1]):
            shown.update(report)
    assert isinstance(shown, Lines)
    assert capsys.readouterr().err.splitlines() == [
        "10 of 1,000 (1%), 2/s, 1 unknown",
        "500 of 1,000 (50%), 98/s, 1 unknown",
    ]
