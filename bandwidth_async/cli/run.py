"""A run on the command line: it shows progress, writes outcomes, stops on signals and prints a summary."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import click
from attrs import evolve, frozen

from bandwidth_async.cli import account, event_loop, exit_codes, formats, logs, rates, signals, terminal
from bandwidth_async.cli.account_options import again
from bandwidth_async.cli.progress import display
from bandwidth_async.cli.run_state import RunState, figure, in_words
from bandwidth_async.cli.sharing import announced
from bandwidth_async.errors import (
    AuthenticationError,
    BandwidthError,
    DeadlineExceededError,
    JournalError,
    PermissionDeniedError,
    RateLimitError,
)
from bandwidth_async.journal import Journal, remove
from bandwidth_async.limiter import RateLimit
from bandwidth_async.outcome import OutcomeKind
from bandwidth_async.retry import RetryPolicy
from bandwidth_async.run import GRACE, Stop
from bandwidth_async.sharing import SharedLimiter
from bandwidth_async.wire import token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from signal import Signals

    from bandwidth_async.cli.progress import Display
    from bandwidth_async.client import VoiceClient
    from bandwidth_async.models import Conference
    from bandwidth_async.outcome import Outcome, Report


# A table on a terminal has a row for each of that many ids; of more, only those that need a look.
EVERY_ROW_UP_TO = 100


@frozen(kw_only=True)
class RunOptions:
    """How a run goes and where its outcomes are written, as its command was told."""

    rate: float | None
    start_rate: float | None
    concurrency: int
    deadline: float | None  # seconds
    verify: bool
    hang_up: bool
    strict: bool
    ignore_not_found: bool
    form: str
    only: frozenset[str] | None
    output: Path | None
    report: Path | None
    force: bool
    quiet: bool
    on_hangup: str = "stop"

    def after(self, began: float) -> RunOptions:
        """Return what is left when something has taken the time since ``began`` (`time.monotonic`)."""
        if self.deadline is None:
            return self
        return evolve(self, deadline=max(self.deadline - (time.monotonic() - began), 0.001))

    def exit_code(self, whole: Report, stopped_by: Signals | None = None) -> int:
        """Return the exit code of a run."""
        return exit_codes.exit_for_run(
            whole, strict=self.strict, stopped_by=stopped_by, ignore_not_found=self.ignore_not_found
        )

    def limit(self) -> RateLimit:
        """Return the rate limit that was asked for."""
        if self.rate is None:
            return RateLimit.adaptive(start=self.start_rate)
        if self.start_rate is not None:
            raise click.UsageError(
                "--rate is kept to, --start-rate is where finding out begins: give one of them"
            )
        return RateLimit.fixed(self.rate)

    def kept(self, settings: Mapping[str, Any], given: Sequence[str]) -> RunOptions:
        """Return the same with what the ``settings`` of an earlier part keep, but for the options ``given``.

        Who names a rate to begin with wants it found out.
        """
        rate, concurrency = settings.get("rate"), settings.get("concurrency")
        how = self
        if isinstance(rate, int | float) and rate > 0 and not {"rate", "start_rate"}.intersection(given):
            how = evolve(how, rate=float(rate))
        if isinstance(concurrency, int | float) and concurrency >= 1 and "concurrency" not in given:
            how = evolve(how, concurrency=int(concurrency))
        return how

    def into(self, output: Path | None, report: Path | None) -> RunOptions:
        """Return the same, with the outcomes and the report written to other files."""
        return evolve(self, output=output, report=report)


@frozen(kw_only=True)
class Run:
    """What to end, how, and where to write the outcomes. ``total`` is the number of conferences.

    ``can_begin_anew`` says that nothing is lost with a new journal if nothing is sent: its input can be read
    again.
    """

    source: list[str | Conference] | Journal
    total: int
    how: RunOptions
    stream: IO[str]
    can_begin_anew: bool = False


def _state(client: VoiceClient, run: Run, stop: Stop) -> RunState:
    title = [
        f"account {client.account_id}{account.in_force().of_profile()}",
        client.voice_url.partition("//")[2],
    ]
    if isinstance(run.source, Journal):
        title.append(f"run {run.source.path.stem}")
    limiter = client.limiter
    shared = limiter if isinstance(limiter, SharedLimiter) else None
    return RunState(
        run.total,
        limiter.snapshot,
        tuple(title),
        rate=run.how.rate,
        setting=lambda: shared.setting if shared else None,
        sharers=lambda: shared.processes if shared else 1,
        patience=lambda: limiter.breaker.patience(RetryPolicy().outage),
        stop=stop,
    )


async def carry_out(client: VoiceClient, run: Run) -> int:
    """End the conferences of a run and return the exit code. With a journal it is that of the whole run."""
    stop = Stop()
    logs.hush()
    with (
        display(_state(client, run, stop), quiet=run.how.quiet) as shown,
        _stopping_on_signals(stop, shown) as received,
        client.limiter.listening(shown.on_event),
        announced(client.limiter, shown.print_line),
    ):
        writer = _OutcomeWriter(run, shown, stop)
        report = await _end_all(client, run, stop, writer, received)
        writer.finish()
    if isinstance(report.stopped, DeadlineExceededError) and not received:
        refusal = refusal_until(client, run.how.deadline)
        met = f"; {refusal.message}" if refusal else ""
        report.stopped = DeadlineExceededError(
            f"{report.stopped.message}{met}",
            last_error=refusal,
            retry_after=refusal.retry_after if refusal else None,
        )
    whole = report
    if isinstance(run.source, Journal):
        # A journal that failed during the run cannot report. Then this part has to stand for the whole.
        with suppress(JournalError):
            whole = evolve(run.source.report(), stopped=report.stopped)
    code = run.how.exit_code(whole, received[0] if received else None)
    anew = _forget(run, whole)
    if code or not run.how.quiet:
        _print_summary(client, run, report, whole, anew=anew)
    rates.keep(client.limiter)
    # A terminal that is closed takes no rows either: then the signal is the reason.
    if writer.fault and not (received and received[0].name == "SIGHUP"):
        raise click.ClickException(f"the outcomes could not all be written: {writer.fault}")
    if code:
        terminal.ending.because = reason(whole)
    return code


def _forget(run: Run, whole: Report) -> bool:
    """Remove a new journal if nobody could sign in, so that no later resume takes up the run."""
    signed_in = whole.attempts or whole.total != whole.counts[OutcomeKind.NOT_ATTEMPTED]
    if not run.can_begin_anew or signed_in or not isinstance(whole.stopped, AuthenticationError):
        return False
    if isinstance(run.source, Journal):
        remove(run.source.path)
    return True


def refusal_until(client: VoiceClient, deadline: float | None) -> RateLimitError | None:
    """Return the error of a server that let nothing in, by 429s, for most of the time until the deadline."""
    seen = client.limiter.snapshot()
    shut_for = client.limiter.closure.lasted(asyncio.get_running_loop().time()) + seen.paused_for
    if deadline is None or not seen.refusals or shut_for < deadline / 2:
        return None
    return RateLimitError(
        "the rate limit of Bandwidth let nothing in (429)", status=429, retry_after=seen.paused_for or None
    )


async def _end_all(
    client: VoiceClient, run: Run, stop: Stop, writer: _OutcomeWriter, received: list[Signals]
) -> Report:
    """Run, and write each outcome. After a second signal, write only those of ids that were sent."""
    left_out = 0
    async with (
        client,
        client.ending_conferences(
            run.source,
            concurrency=run.how.concurrency,
            deadline=run.how.deadline,
            stop=stop,
            verify=run.how.verify,
            hang_up=run.how.hang_up,
        ) as outcomes,
    ):
        async for outcome in outcomes:
            if len(received) > 1 and outcome.kind is OutcomeKind.NOT_ATTEMPTED:
                left_out += 1
                # The workers and the queue hold no more than this, so no id that was sent can follow.
                if left_out > 2 * run.how.concurrency:
                    break
            else:
                writer.put(outcome, outcomes.report)
    report = outcomes.report
    if not report.complete:
        # The run was left before it could say so itself.
        report.counts[OutcomeKind.NOT_ATTEMPTED] += max(0, run.total - report.total)
        report.stopped = report.stopped or stop.reason
    return report


def _print_summary(client: VoiceClient, run: Run, report: Report, whole: Report, *, anew: bool) -> None:
    """Print the counts of this part and of the whole run, and how to resume it, or begin ``anew``."""
    seen = client.limiter.snapshot()
    # Without a 429 the run has not met the server's limit.
    quota = seen.quota if seen.refusals else None
    lines = _summary(report, quota, seen.refusals)
    nothing_found = _nothing_found(whole, ignored=run.how.ignore_not_found)
    if nothing_found or _is_of_account(report.stopped):
        ended = " Or have they all ended before?" if nothing_found else ""
        setting = account.in_force().named("BW_ACCOUNT_ID")
        lines.append(f"is {client.account_id} the right account id ({setting})?{ended}")
    if anew:
        # What the command has written to a file would be in the way.
        force = "" if run.stream is sys.stdout else " with --force"
        lines.append(f"nothing was sent, so the journal is removed: give the same command again{force}")
    elif isinstance(run.source, Journal):
        doubted = nothing_found or _is_of_account(report.stopped)
        lines += _journal_lines(whole, report, run.source.path, doubted=doubted)
    is_taken = run.stream is sys.stdout or isinstance(sys.stdout, terminal.Closed)
    # If nobody reads the stream any more, the exit code still tells the result.
    with suppress(OSError):
        text = terminal.shown("\n".join(lines))
        print(text, file=sys.stderr if is_taken else sys.stdout, flush=True)


class _OutcomeWriter:
    """Writes outcomes and shows progress. When the stream cannot be written, it stops the run.

    The reader of a pipe may go while there is a journal: then the run goes on without it. A terminal that is
    lost does not stop a run that ignores SIGHUP.
    """

    def __init__(self, run: Run, shown: Display, stop: Stop) -> None:
        self.fault: str | None = None
        # Whoever reads the output may go. Its rows are in the journal too.
        self.left = False
        self._may_be_left = isinstance(run.source, Journal) and str(run.how.output or "-") == "-"
        self._writer = formats.Writer(run.stream, run.how.form, formats.OUTCOMES, in_bulk=True)
        self._shown = shown
        self._stop = stop
        # A terminal that is lost says that it is none.
        on_terminal = self._writer.on_terminal
        self._may_be_lost = on_terminal and signals.hang_up_is_ignored()
        self._is_lost = False
        few = run.total <= EVERY_ROW_UP_TO or not on_terminal
        self._is_table = run.how.form == "table"
        self._every = not self._is_table or (few and not run.how.quiet)
        self._how = run.how

    def put(self, outcome: Outcome, report: Report) -> None:
        self._write(outcome)
        self._shown.update(outcome, report)

    def _write(self, outcome: Outcome) -> None:
        if self.fault or self.left or self._is_lost or not self._is_wanted(outcome.kind):
            return
        record = formats.outcome_record(outcome)
        if self._is_table:
            record["error"] = formats.reason(outcome)
        lines = list(self._writer.lines(record))
        if self._writer.on_terminal and self._shown.redraws and all(map(self._shown.print_line, lines)):
            return
        with self._noting_faults():
            self._writer.write_lines(lines, at_once=outcome.kind is not OutcomeKind.NOT_ATTEMPTED)

    def _is_wanted(self, kind: OutcomeKind) -> bool:
        if self._how.only is not None:
            return kind in self._how.only
        missing = kind is OutcomeKind.NOT_FOUND and not (self._how.quiet or self._how.ignore_not_found)
        return kind.trouble or missing or self._every

    def finish(self) -> None:
        """Write what still waits for other rows."""
        if not self.left:
            with self._noting_faults():
                self._writer.end()
                self._writer.flush()

    @contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer.abandon()
            if self._may_be_lost:
                self._is_lost = True
                return
            if isinstance(error, BrokenPipeError) and self._may_be_left:
                self.left = True
                self._shown.print_line("nobody reads the outcomes any more; the journal has them all")
                return
            self.fault = error.strerror or str(error)
            self._stop.request(BandwidthError("the outcomes could not be written"))


@contextmanager
def _stopping_on_signals(stop: Stop, shown: Display) -> Iterator[list[Signals]]:
    """Stop the run at the first signal, and at once at the second. Yields the received ones."""
    received: list[Signals] = []

    def on_signal(number: Signals) -> None:
        received.append(number)
        stop.request(
            DeadlineExceededError(f"stopped by {number.name}"), grace=GRACE if len(received) == 1 else 0.0
        )
        if len(received) == 1:
            # A second SIGHUP is not heard.
            again = "send SIGTERM" if number.name == "SIGHUP" else "repeat it"
            shown.print_line(
                f"{number.name}: waiting up to {GRACE:g} s for requests in flight; {again} to stop at once"
            )

    with event_loop.on_signals(on_signal):
        yield received


def _summary(report: Report, quota: float | None, refusals: int) -> list[str]:
    done = sum(report.counts[kind] for kind in OutcomeKind if kind.fine)
    lines = [
        f"{plural(report.total, 'conference')} in {report.elapsed:.1f} s: {in_words(report.counts)}",
        plural(report.attempts, "request") + (f", {refusals:,} of them answered 429" if refusals else ""),
    ]
    if done and report.elapsed:
        rate = figure(done / report.elapsed)
        lines[-1] += f", {rate} conference{'' if rate == '1' else 's'} a second"
    if quota is not None:
        lines.append(f"the server's limit seems to be about {figure(quota)} requests a second")
    if report.stopped:
        lines.append(_why_stopped(report))
    return lines


def _why_stopped(report: Report) -> str:
    told = str(report.stopped)
    if told.startswith("stopped by "):
        return f"stopped early, {told.removeprefix('stopped ')}"
    early = report.unsettled or not report.complete
    return f"{'stopped early' if early else 'every conference was refused'}: {told}"


def reason(report: Report) -> str:
    """Return why a run ends with an exit code other than 0."""
    if report.stopped:
        return _why_stopped(report)
    if report.nothing_found:
        return f"not one of {plural(report.total, 'conference')} was found"
    not_fine = [kind for kind in OutcomeKind if not kind.fine or kind is OutcomeKind.NOT_FOUND]
    return f"of {plural(report.total, 'conference')}, {in_words(report.counts, not_fine)}"


def _nothing_found(report: Report, *, ignored: bool) -> bool:
    """Return whether the 404s of a run are worth a question. Of one id, a 404 says all there is to say."""
    return report.nothing_found and report.total > 1 and not ignored


def _is_of_account(error: BandwidthError | None) -> bool:
    """Return whether the reason of a stop may be a wrong account id."""
    if isinstance(error, AuthenticationError):
        return error.request != token().name
    return isinstance(error, PermissionDeniedError)


def _journal_lines(whole: Report, report: Report, path: Path, *, doubted: bool) -> list[str]:
    """Return lines with the counts of the whole run, and with the command that resumes it.

    The journal belongs to its account. So with a ``doubted`` one it is no way on if another is right.
    """
    lines = []
    if whole.total != report.total:
        lines.append(f"in the whole run: {in_words(whole.counts)} of {whole.total:,}")
    if whole.unsettled:
        are = "is" if whole.unsettled == 1 else "are"
        if_so = "if it is, " if doubted else ""
        lines.append(f"{whole.unsettled:,} {are} not settled; {if_so}resume with: {resume_command(path)}")
    if whole.unsettled and doubted:
        lines.append(
            "if it is not, set the right one (--account ID) and begin again with another journal: this one "
            "belongs to its account"
        )
    return lines


def resume_command(path: Path | str) -> str:
    """Return the command that resumes a journal's run, quoted for a shell, to be pasted as it is.

    It has the options of the account and the connection that this command has.
    """
    name = str(path)
    quoted = shlex.quote(name) if name.isprintable() else _quoted_bytes(name)
    return f"bandwidth-async resume {quoted}{again()}"


def _quoted_bytes(name: str) -> str:
    """Return a name in the quotes in which shells read escapes: $'…' (POSIX.1-2024, 2.2.4)."""
    plain = "".join(map(chr, range(0x20, 0x7F))).translate({ord("\\"): None, ord("'"): None})
    escaped = (chr(byte) if chr(byte) in plain else f"\\{byte:03o}" for byte in os.fsencode(name))
    return f"$'{''.join(escaped)}'"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
