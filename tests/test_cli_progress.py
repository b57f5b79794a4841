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
from bandwidth_async.cli.screen import is_plain
from bandwidth_async.errors import DeadlineExceededError
from bandwidth_async.limiter import LimiterSnapshot, Paused, RateChanged, Unavailable
from bandwidth_async.outcome import Outcome, OutcomeKind, Report
from bandwidth_async.run import Stop

if TYPE_CHECKING:
    from bandwidth_async.cli.progress import Display

TITLE = ("account 9900000", "voice.bandwidth.com", "run 20261127T123016Z-337878")


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


class Fed:
    """The state of a run, with a clock that stands still and a limiter that says what it is told."""

    def __init__(
        self,
        total: int = 1000,
        *,
        rate: float | None = None,
        setting: float | None = None,
        sharers: int = 1,
        patience: float = 0.0,
    ) -> None:
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
        self.state = RunState(
            total,
            lambda: self.seen,
            TITLE,
            clock=lambda: self.now,
            rate=rate,
            setting=lambda: setting,
            sharers=lambda: sharers,
            patience=lambda: patience,
        )

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
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
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
        "502 requests, 0 retries, 0 times 429, 0:00 paused",
        "1 x no answer for \u2026",
        ", ".join(TITLE),
        "sending, 7 in flight",
        "ended after 0:00",
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
    with LiveView(fed.state) as shown:
        for second in range(300):
            fed.now = 100.0 + second
            fed.come(shown, second % 7, failed="word " * 60)
        fed.seen = evolve(fed.seen, paused_for=3.2, pause_reason="unavailable", quota=123456.0)
        shown.on_event(Unavailable(3.2))
        shown._draw()
        lines = Drawn(columns, screen.getvalue()).lines
    assert len(lines) == 7
    assert all(cell_len(line) < columns for line in lines)
    assert lines[1].startswith("now     server fails since 08:15:00")
    assert screen.getvalue().isascii() is (encoding == "ascii")


async def test_a_small_terminal_shows_the_first_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told first matters most, and nothing scrolls away."""
    screen = terminal(monkeypatch)
    monkeypatch.setenv("LINES", "4")
    with display(Fed().state):
        pass
    assert "no outcome yet" not in screen.getvalue()
    assert "sending" in screen.getvalue()


class Drawn:
    """What a terminal shows after a text: a small model of one whose screen is high enough."""

    def __init__(self, columns: int, text: str = "", *, reflows: bool = True) -> None:
        self.columns = columns
        self._reflows = reflows
        # Each line of the screen, and whether the terminal has wrapped it into the next.
        self._cells: list[tuple[str, bool]] = [("", False)]
        self._row = self._column = 0
        self.feed(text)

    @property
    def lines(self) -> list[str]:
        """The lines without the blanks behind them."""
        return [line.rstrip() for line, _ in self._cells]

    def feed(self, text: str) -> None:
        """Obey a text."""
        for order, count, kind, character in re.findall(r"(\x1b\[([0-9;]*)([A-Za-z]))|(.|\n)", text):
            if not order:
                self._put(character)
            elif kind == "A":
                self._row = max(0, self._row - int(count))
            elif kind == "C":
                self._column += int(count)
            elif kind in "JK":
                line, _ = self._cells[self._row]
                self._cells[self._row] = (line[: self._column], False)
                if kind == "J":
                    del self._cells[self._row + 1 :]

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
            return
        if character == "\n" or self._column == self.columns:
            line, _ = self._cells[self._row]
            self._cells[self._row] = (line, character != "\n")
            self._row, self._column = self._row + 1, 0
            if self._row == len(self._cells):
                self._cells.append(("", False))
        if character != "\n":
            line, wrapped = self._cells[self._row]
            line = line.ljust(self._column)
            self._cells[self._row] = (
                f"{line[: self._column]}{character}{line[self._column + 1 :]}",
                wrapped,
            )
            self._column += 1

    def resize(self, columns: int) -> None:
        """Get another width. The cursor is in the first column of a line."""
        whole, row = [""], 0
        for number, (line, wrapped) in enumerate(self._cells):
            if number == self._row:
                row = len(whole) - 1
            whole[-1] += line
            whole += [] if wrapped else [""]
        self._cells, self.columns = [], columns
        for number, line in enumerate(whole[:-1]):
            if number == row:
                self._row = len(self._cells)
            parts = [line[at : at + columns] for at in range(0, len(line), columns)] or [""]
            parts = parts if self._reflows else parts[:1]
            self._cells += [(part, part is not parts[-1]) for part in parts]


@pytest.mark.parametrize("reflows", [True, False])
async def test_a_view_survives_any_change_of_the_width(
    monkeypatch: pytest.MonkeyPatch, reflows: bool
) -> None:
    """Nothing above it is lost, nothing of it is left behind, and lines can be printed at any moment."""
    monkeypatch.setenv("XTERM_VERSION", "XTerm(390)")
    if reflows:
        monkeypatch.delenv("XTERM_VERSION")
    screen, fed = terminal(monkeypatch), Fed()
    drawn, above = Drawn(100, reflows=reflows), ["before"]
    drawn.feed("before\n")
    with LiveView(fed.state) as view:
        for number, columns in enumerate((60, 42, 159, 100, 58, 58, 80)):
            drawn.feed(screen.getvalue())
            screen.truncate(0)
            screen.seek(0)
            drawn.resize(columns)
            view._console.width = columns
            if number % 2:
                above.append(f"line {number}")
                view.print_line(above[-1])
            fed.come(view, 1, failed=f"reason {number} " * 12)
            view._draw()
            drawn.feed(screen.getvalue())
            screen.truncate(0)
            screen.seek(0)
            assert drawn.lines[: len(above)] == above
            names = [line[:8].strip() for line in drawn.lines[len(above) :]]
            assert names == ["ending", "now", "rate", "ids", "sent", "run", "errors"] + [""] * bool(number)
    drawn.feed(screen.getvalue())
    assert drawn.lines[-1] == ""


async def test_what_has_not_changed_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal at rest gets nothing, and a pause that counts down gets one line."""
    screen, fed = terminal(monkeypatch), Fed()
    with LiveView(fed.state) as view:
        before = screen.tell()
        view._draw()
        assert screen.tell() == before
        fed.seen = evolve(fed.seen, in_flight=8)
        view._draw()
        written = screen.getvalue()[before:]
    assert "8 in flight" in written
    assert "no outcome yet" not in written


async def test_what_others_say_appears_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning, or a line of the log, that is written to standard error meanwhile."""
    screen = terminal(monkeypatch)
    with LiveView(Fed().state):
        print("a warn", end="", file=sys.stderr)
        print("ing\nand another", file=sys.stderr)
    assert sys.stderr is screen
    lines = Drawn(100, screen.getvalue()).lines
    assert lines[:2] == ["a warning", "and another"]
    assert [line[:6] for line in lines].count("ending") == 1


@pytest.mark.parametrize(
    ("environ", "plain"),
    [
        ({"LANG": "en_US.UTF-8"}, False),
        ({}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, True),
        ({"LC_CTYPE": "UTF-8"}, False),
        ({"LC_CTYPE": "C", "LANG": "en_US.UTF-8"}, True),
        ({"LC_CTYPE": "de_DE.UTF-8", "LANG": "C"}, False),
        ({"TERM": "linux", "LANG": "en_US.UTF-8"}, True),
    ],
)
def test_ascii_where_the_terminal_has_no_more(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], plain: bool
) -> None:
    """Python takes the C locale for UTF-8, and the Linux console has few characters."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert is_plain("utf-8") is plain
    assert is_plain("iso8859-1")


async def test_the_view_tells_how_a_run_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it stops while requests are in flight, and at the end why it did."""
    screen, fed = terminal(monkeypatch), Fed()
    fed.state.stop = Stop()
    with LiveView(fed.state) as view:
        fed.state.stop.request(DeadlineExceededError("stopped by SIGINT"))
        fed.seen = evolve(fed.seen, paused_for=9.0, pause_reason="hint")
        view._draw()
        assert "stopping: stopped by SIGINT; 7 in flight" in Drawn(100, screen.getvalue()).lines[1]
        fed.now += 4
    assert Drawn(100, screen.getvalue()).lines[1] == "now     stopped by SIGINT after 0:04"


async def test_a_run_that_is_finished_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thing that the view shows is no request in flight, and no time that is left."""
    screen, fed = terminal(monkeypatch), Fed(10)
    with LiveView(fed.state) as view:
        fed.now += 7
        fed.come(view, 10)
    lines = Drawn(100, screen.getvalue()).lines
    assert lines[0].endswith("\u2501  10 of 10  100%")
    assert lines[1] == "now     finished after 0:07"


async def test_the_view_tells_the_limit_and_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why nothing is sent, until when, and how long the run takes with such pauses."""
    screen, fed = terminal(monkeypatch), Fed()
    with LiveView(fed.state) as shown:
        fed.now += 5
        fed.come(shown, 100)
        shown.on_event(Paused(45.0, hinted=True))
        fed.seen = evolve(fed.seen, quota=198.2, paused_for=45.0, pause_reason="hint", refusals=3)
        shown._draw()
    text = screen.getvalue()
    assert "limit 198/s" in text
    assert "paused until 08:15:00 (45 s) as the server asked" in text
    # The pause has only begun.
    assert "3 times 429, 0:00 paused" in text
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


def test_no_time_is_promised_in_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows how long it lasts. The view tells since when, until when, and when the run gives up."""
    fed = Fed(patience=900.0)
    monkeypatch.setattr("bandwidth_async.cli.run_state.time.time", lambda: 36000.0 + fed.now)
    monkeypatch.setattr(
        "bandwidth_async.cli.run_state.time.strftime", lambda _, at: f"{at.tm_min:02}:{at.tm_sec:02}"
    )
    fed.come(Lines(fed.state, lambda: fed.now), 100)
    fed.state.on_event(Unavailable(3.0))
    fed.seen = evolve(fed.seen, paused_for=3.0, pause_reason="unavailable")
    fed.now += 20
    assert fed.state.seconds_left() is None
    assert fed.state.wait() == "server fails since 01:40; next try 02:03 (3 s); gives up 16:40"
    fed.seen = evolve(fed.seen, paused_for=0.0, pause_reason=None)
    fed.state.observe()
    assert not fed.state.wait()
    fed.now += 20
    fed.state.on_event(Unavailable(1.0))
    fed.seen = evolve(fed.seen, paused_for=1.0, pause_reason="unavailable")
    assert fed.state.wait().startswith("server fails since 02:20; ")


def test_a_pause_counts_as_it_passes() -> None:
    """It counts once, though refusals of one burst name nearly the same end, and not in advance."""
    fed = Fed()
    for _ in range(3):
        fed.state.on_event(Paused(10.0, hinted=True))
        assert fed.state.paused == pytest.approx(fed.now - 100.0)
        fed.now += 1.0
    fed.state.on_event(RateChanged(20.0, None))
    for later, paused in ((5.0, 8.0), (20.0, 12.0)):
        fed.now = 103.0 + later
        assert fed.state.paused == pytest.approx(paused)
    fed.state.on_event(Paused(4.0, hinted=True))
    fed.now += 1.0
    assert fed.state.paused == pytest.approx(13.0)


def test_a_pause_may_end_early_or_last() -> None:
    """The limiter knows best: it may be let in sooner, and a probe may take its time."""
    fed = Fed()
    fed.state.on_event(Paused(10.0, hinted=True))
    fed.now += 4.0
    fed.state.observe()
    fed.now += 20.0
    assert fed.state.paused == pytest.approx(4.0)
    fed.state.on_event(Unavailable(2.0))
    fed.seen = evolve(fed.seen, paused_for=1.0, pause_reason="unavailable")
    for _ in range(6):
        fed.now += 1.0
        fed.state.observe()
    assert fed.state.paused == pytest.approx(4.0 + 6.0)


def test_a_rate_of_the_users_own_is_told_as_such() -> None:
    """So is that it causes the 429s, and that other runs share it."""
    fed = Fed(rate=80.0)
    assert fed.state.limit() == "your --rate 80/s"
    fed.seen = evolve(fed.seen, refusals=3)
    assert fed.state.limit() == "your --rate 80/s gets 429s"
    assert Fed(sharers=3).state.limit() == "3 runs share it"
    assert Fed(rate=80.0, setting=15.0, sharers=2).state.limit() == "limit set 15/s, 2 runs share it"


def test_the_time_that_is_left_is_bounded_by_the_known_rate() -> None:
    """A first burst promises nothing that the rate does not hold, and the rate is known before it."""
    fed = Fed(rate=50.0)
    assert fed.state.seconds_left() == pytest.approx(20.0)
    fed.now += 1
    fed.come(Lines(fed.state, lambda: fed.now), 100)
    assert fed.state.seconds_left() == pytest.approx(18.0)
    assert Fed(setting=5.0, rate=50.0, sharers=2).state.seconds_left() == pytest.approx(200.0)


async def test_retries_are_counted_with_what_they_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an outage lasts there are no outcomes, and the reason is to be seen all the same."""
    screen, fed = terminal(monkeypatch), Fed()
    with LiveView(fed.state) as view:
        fed.come(view, 5)
        for met in ("answered 503", "end conference c-1: answered 503", "end conference c: answered 429"):
            fed.state.on_retry(met)
    text = screen.getvalue()
    assert "2 x answered 503" in text
    assert "x answered 429" not in text
    assert fed.state.sent(ended=False) == (8, 3)
    # At the end it is known that a stop has prevented them.
    assert fed.state.sent(ended=True) == (5, 0)


def test_reasons_are_kept_apart_up_to_a_number() -> None:
    """A server that invents a sentence for each id fills no memory."""
    fed = Fed()
    for number in range(1000):
        fed.come(Lines(fed.state, lambda: fed.now), 0, failed=f"reason {number}")
    assert fed.state.latest_reasons(2) == [("reason 98", 1), ("reason 99", 1)]
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
    fed.seen = evolve(fed.seen, paused_for=12.0, pause_reason="hint")
    shown.on_event(Paused(12.0, hinted=True))
    fed.now, fed.seen = 110.0, evolve(fed.seen, paused_for=0.2, pause_reason="hint")
    fed.come(shown, 1)
    assert capsys.readouterr().err.splitlines() == [
        "08:15:00 1 of 1,000 (0%), 0.2/s, 99:55 left, limit 198/s, paused until 08:15:00 (1 s) after a 429",
        "08:15:00 paused 12 s as the server asked, 28:15 left",
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
        "08:15:00 server fails since 08:15:00; next try 08:15:00 (1 s)",
        "08:15:00 server fails since 08:15:00; next try 08:15:00 (15 s)",
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
