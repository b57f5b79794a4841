"""The progress of a run: a live view on a terminal, lines elsewhere, nothing when it is to be quiet."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

import pytest
from attrs import evolve
from rich.cells import cell_len

from bandwidth_async.cli.live import LiveView, spark_line
from bandwidth_async.cli.progress import Lines, Silence, display
from bandwidth_async.cli.run_state import RunState, duration, figure
from bandwidth_async.limiter import LimiterSnapshot, Paused, RateChanged, Unavailable
from bandwidth_async.outcome import Outcome, OutcomeKind, Report

if TYPE_CHECKING:
    from bandwidth_async.cli.progress import Display

TITLE = ("account 9900000", "voice.bandwidth.com", "run 20261127T123016Z-337878")


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


class Fed:
    """The state of a run, with a clock that stands still and a limiter that says what it is told."""

    def __init__(self, total: int = 1000) -> None:
        self.now = 100.0
        self.report = Report()
        self.seen = LimiterSnapshot(
            rate=200.0,
            quota=None,
            paused_for=0.0,
            pause_reason=None,
            waiting_interactive=0,
            waiting_bulk=0,
            in_flight=7,
            refusals=0,
        )
        self.state = RunState(total, lambda: self.seen, TITLE, clock=lambda: self.now)

    def come(self, display: Display, count: int, **kinds: str | None) -> None:
        """Let ``count`` conferences end, and one for each of ``kinds`` fail with that error."""
        for _ in range(count):
            self._settle(display, Outcome("c", OutcomeKind.ENDED, 1))
        for kind, error in kinds.items():
            self._settle(display, Outcome("c", OutcomeKind(kind), 3, error))

    def _settle(self, display: Display, outcome: Outcome) -> None:
        self.report.counts[outcome.kind] += 1
        self.report.attempts += outcome.attempts
        display.update(outcome, self.report)


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal of 100 columns. Not a fixture: pytest sets its own for each phase."""
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm")
    _at_a_quarter_past_eight(monkeypatch)
    return made


def _at_a_quarter_past_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bandwidth_async.cli.progress.time.strftime", lambda *_: "08:15:00")


async def test_a_terminal_gets_a_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells the counts, the latest reasons without ids, and what was sent. Other lines appear above it."""
    screen, fed = terminal(monkeypatch), Fed()
    shown = display(fed.state)
    with shown:
        fed.come(shown, 499, unknown="end conference c: no answer for c (after 3 attempts)")
        shown.print_line("conf-1  unknown  [not markup]")
    assert isinstance(shown, LiveView)
    text = screen.getvalue()
    assert "conf-1  unknown  [not markup]\n" in text
    for words in (
        "500 of 1,000   50%",
        "499 ended, 1 unknown",
        "502 requests, 2 retries, 0 times 429, 0:00 paused",
        "1 x no answer for \u2026",
        ", ".join(TITLE),
        "sending; 7 in flight",
    ):
        assert words in text


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
    """A live view would show nothing there until the end, or fill the terminal with pieces of itself."""
    terminal(monkeypatch)
    assert isinstance(display(Fed().state), LiveView)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    assert isinstance(display(Fed().state), Lines)


@pytest.mark.parametrize("columns", [40, 80, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
async def test_no_line_of_the_view_wraps(
    monkeypatch: pytest.MonkeyPatch, columns: int, encoding: str
) -> None:
    """Whatever it tells, each line fits, and a terminal that knows ASCII only gets nothing else."""
    screen = terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(Terminal, "encoding", encoding, raising=False)
    fed = Fed(12_345_678)
    with display(fed.state) as shown:
        for second in range(300):
            fed.now = 100.0 + second
            fed.come(shown, second % 7, failed="word " * 60)
        fed.seen = evolve(fed.seen, paused_for=3.2, pause_reason="unavailable", quota=123456.0)
        shown.on_event(Unavailable(3.2))
    last = screen.getvalue().rpartition("ending")[2]
    lines = ("ending" + re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last)).splitlines()
    assert len(lines) == 7
    assert all(cell_len(line) <= columns for line in lines)
    assert last.isascii() is (encoding == "ascii")


async def test_a_small_terminal_shows_the_first_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told first matters most, and nothing scrolls away."""
    screen = terminal(monkeypatch)
    monkeypatch.setenv("LINES", "4")
    with display(Fed().state):
        pass
    assert "no outcome yet" not in screen.getvalue()
    assert "sending" in screen.getvalue()


async def test_a_narrower_terminal_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal has wrapped the old lines, so the view begins on a clear screen."""
    screen, fed = terminal(monkeypatch), Fed()
    view = LiveView(fed.state)
    with view:
        view._console.width = 60
        view._redraw()
        assert "\x1b[2J\x1b[H" in screen.getvalue()
        screen.truncate(0)
        view._redraw()
    assert "\x1b[2J" not in screen.getvalue()


async def test_the_view_tells_the_limit_and_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why nothing is sent, until when, and how long the run takes with such pauses."""
    screen, fed = terminal(monkeypatch), Fed()
    with display(fed.state) as shown:
        fed.now += 5
        fed.come(shown, 100)
        shown.on_event(Paused(45.0, hinted=True))
        fed.seen = evolve(fed.seen, quota=198.2, paused_for=45.0, pause_reason="hint", refusals=3)
    text = screen.getvalue()
    assert "limit 198/s" in text
    assert "paused until 08:15:00 (45 s) as the server asked" in text
    assert "3 times 429, 0:45 paused" in text
    # 100 in 50 s, so 900 take nine times as long, after the pause.
    assert "8:15 left" in text


@pytest.mark.parametrize("elapsed", [0.0, 20.0, 44.0])
def test_the_time_that_is_left_counts_down_in_a_pause(elapsed: float) -> None:
    """It is not frozen, and it does not grow."""
    fed = Fed()
    fed.now += 5
    fed.come(Lines(fed.state, lambda: fed.now), 100)
    fed.state.on_event(Paused(45.0, hinted=True))
    fed.now += elapsed
    fed.seen = evolve(fed.seen, paused_for=45.0 - elapsed, pause_reason="hint")
    assert fed.state.seconds_left() == pytest.approx(45.0 - elapsed + 450.0)


def test_no_time_is_promised_in_an_outage() -> None:
    """Nobody knows how long it lasts. The view tells since when it does."""
    fed = Fed()
    fed.come(Lines(fed.state, lambda: fed.now), 100)
    fed.state.on_event(Unavailable(3.0))
    fed.seen = evolve(fed.seen, paused_for=3.0, pause_reason="unavailable")
    assert fed.state.seconds_left() is None
    assert "fails or does not answer since " in fed.state.wait()
    fed.seen = evolve(fed.seen, paused_for=0.0, pause_reason=None)
    assert not fed.state.wait()
    fed.seen = evolve(fed.seen, paused_for=3.0, pause_reason="unavailable")
    assert "since" not in fed.state.wait()


def test_a_pause_that_grows_counts_once() -> None:
    """Refusals of one burst name nearly the same end."""
    fed = Fed()
    for _ in range(3):
        fed.state.on_event(Paused(10.0, hinted=True))
        fed.now += 1.0
    fed.state.on_event(RateChanged(20.0, None))
    assert fed.state.paused == pytest.approx(12.0)


def test_reasons_are_kept_apart_up_to_a_number() -> None:
    """A server that invents a sentence for each id fills no memory."""
    fed = Fed()
    for number in range(1000):
        fed.come(Lines(fed.state, lambda: fed.now), 0, failed=f"reason {number}")
    assert fed.state.latest_reasons(2) == [("reason 99", 1), ("reason 98", 1)]
    fed.come(Lines(fed.state, lambda: fed.now), 0, failed="reason 7")
    assert fed.state.latest_reasons(1) == [("reason 7", 2)]


def test_a_chart_is_as_high_as_its_values() -> None:
    """The highest is full, and no value at all is flat."""
    assert spark_line([0, 50, 100]) == "\u2581\u2585\u2588"
    assert spark_line([0, 50, 100], plain=True) == "_+@"
    assert spark_line([0, 0]) == "\u2581\u2581"


def test_a_pipe_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line appears at most every 5 s, with the rate since the last and the time left. None is empty."""
    _at_a_quarter_past_eight(monkeypatch)
    fed = Fed()
    shown = Lines(fed.state, lambda: fed.now)
    with shown:
        for at, count, kinds in ((4.9, 8, {"unknown": None}), (5.0, 1, {}), (9.9, 489, {}), (10.0, 1, {})):
            fed.now = 100.0 + at
            fed.come(shown, count, **kinds)
    assert isinstance(display(fed.state), Lines)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 10 of 1,000 (1%), 2/s, 8:15 left, 1 unknown",
        "08:15:00 500 of 1,000 (50%), 98/s, 0:10 left, 1 unknown",
    ]


def test_lines_tell_the_limit_and_long_pauses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long pause gets its own line, a short one is in the next line, a tiny one is not shown."""
    _at_a_quarter_past_eight(monkeypatch)
    fed = Fed()
    shown = Lines(fed.state, lambda: fed.now)
    shown.on_event(RateChanged(194.0, 198.2))
    shown.on_event(Paused(0.1, hinted=False))
    shown.on_event(Paused(2.0, hinted=False))
    fed.now, fed.seen = 105.0, evolve(fed.seen, quota=198.2, paused_for=1.0, pause_reason="refused")
    fed.come(shown, 10)
    shown.on_event(Paused(12.0, hinted=True))
    fed.now, fed.seen = 110.0, evolve(fed.seen, paused_for=0.2, pause_reason="hint")
    fed.come(shown, 1)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 1 of 1,000 (0%), 0.2/s, 99:55 left, limit 198/s, paused until 08:15:00 (1 s) after a 429",
        "08:15:00 paused 12 s as the server asked",
        "08:15:00 11 of 1,000 (1%), 2/s, 15:18 left, limit 198/s",
    ]


def test_lines_tell_that_the_server_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage gets a line at its beginning and now and then, and a long pause always gets one."""
    _at_a_quarter_past_eight(monkeypatch)
    fed = Fed()
    shown = Lines(fed.state, lambda: fed.now)
    for at, seconds in ((1.0, 0.7), (1.5, 1.4), (2.0, 14.2)):
        fed.now = 100.0 + at
        shown.on_event(Unavailable(seconds))
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 paused 1 s because the server fails or does not answer",
        "08:15:00 paused 15 s because the server fails or does not answer",
    ]


def test_who_asks_for_quiet_gets_none_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """But a line that has to be read is printed."""
    fed = Fed()
    with display(fed.state, quiet=True) as shown:
        fed.now += 60
        fed.come(shown, 500)
        shown.on_event(Paused(60.0, hinted=True))
        assert shown.print_line("SIGTERM: waiting")
    assert isinstance(shown, Silence)
    assert capsys.readouterr().err == "SIGTERM: waiting\n"


@pytest.mark.parametrize(
    ("rate", "text"), [(0.519, "0.52"), (4.84, "4.8"), (9.97, "10"), (198.4, "198"), (1000.0, "1,000")]
)
def test_a_rate_as_a_person_reads_it(rate: float, text: str) -> None:
    """It has two significant digits, or all digits before the point."""
    assert figure(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (6.2, "0:07"), (4520, "75:20"), (93_900, "26 h 05 min")]
)
def test_a_time_as_a_person_reads_it(seconds: float, text: str) -> None:
    """Minutes and seconds, or hours where there are many."""
    assert duration(seconds) == text
