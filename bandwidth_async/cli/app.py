"""The command group, and the one place where errors become a sentence and an exit code.

A command's module is imported when the command is run. So ``--help`` and ``--version`` do not wait for
aiohttp and the other imports, which take most of the time of a short command.
"""

from __future__ import annotations

import io
import logging
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import IO, TYPE_CHECKING

import click

from bandwidth_async._version import __version__
from bandwidth_async.cli import exit_codes, signals, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The module and name of each command, and its sentence in the list of commands. A new module goes into
# `_name_all_modules` too.
COMMANDS = {
    "end": ("end:end", "End conferences. Their calls go on unless you give --hang-up."),
    "resume": ("runs:resume", "Resume a run that was stopped or killed."),
    "runs": ("runs:runs", "List the runs that have a journal."),
    "outcomes": ("runs:outcomes", "Print the outcome of each id of a run."),
    "list": ("conferences:list_", "List conferences, oldest first."),
    "get": ("conferences:get", "Show one conference with its members."),
    "members": ("members:members", "List the members of a conference."),
    "mute": ("members:mute", "Mute members. They hear the others but are not heard."),
    "unmute": ("members:unmute", "Unmute members, so that they are heard again."),
    "hold": ("members:hold", "Put members on hold. They neither hear nor are heard."),
    "unhold": ("members:unhold", "Take members off hold."),
    "redirect": ("conferences:redirect", "Send a conference to the BXML at a URL."),
    "announce": ("conferences:announce", "Send BXML from a file to a conference: play, speak, record."),
    "wait": ("conferences:wait", "Wait until a conference has ended."),
    "recordings": ("recordings:recordings", "List the recordings of a conference."),
    "download": ("recordings:download", "Download the audio of a recording."),
    "limit": ("limit:limit", "Look at the rate that processes share, or set it for all."),
    "profiles": ("profiles:list_profiles", "List the accounts that --profile may name."),
    "sandbox": ("sandbox:sandbox", "Run a local stand-in for Bandwidth's Voice API."),
    "demo": ("sandbox:demo", "Watch a run end conferences on a sandbox."),
}


def _name_all_modules() -> None:
    """Name the modules of the commands in an import statement. Nobody calls this.

    PyInstaller and its like put into a program what such statements name, wherever they stand.
    """
    from bandwidth_async.cli import (  # noqa: F401, PLC0415 - as the docstring says
        conferences,
        end,
        limit,
        members,
        profiles,
        recordings,
        runs,
        sandbox,
    )


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"bandwidth_async.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exit_codes.HELP,
)
@click.version_option(__version__, prog_name="bandwidth-async")
@click.option("-v", "--verbose", is_flag=True, help="Log every request and retry to standard error.")
@account_options
def cli(verbose: bool) -> None:
    """End conferences on Bandwidth's Voice API, one or a million.

    Set BW_ACCOUNT_ID, BW_CLIENT_ID and BW_CLIENT_SECRET in the environment to sign in, or in the file of
    --env-file, or choose a profile with --profile: see bandwidth-async profiles --help. BW_USERNAME and
    BW_PASSWORD work until Bandwidth removes API users on 2 December 2026. Set BW_ENVIRONMENT=test (or uat)
    for Bandwidth's test hosts. Set BW_VOICE_URL and BW_API_URL for any other host, such as the sandbox.

    Behind a proxy, set HTTPS_PROXY (for plain http: http_proxy) or ALL_PROXY, and NO_PROXY for the hosts that
    need none, as for curl. Or give the command --proxy.
    """
    click.get_current_context().with_resource(signals.handled(signals.interrupt))
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Shown("%(asctime)s %(name)s: %(message)s"))
        logging.basicConfig(handlers=[handler], level=logging.WARNING)
        logging.getLogger("bandwidth_async").setLevel(logging.DEBUG)
    else:
        click.get_current_context().with_resource(_saying_warnings())


@contextmanager
def _saying_warnings() -> Iterator[None]:
    """Say each warning of the library once for a command, and as the command says everything."""
    log, warnings = logging.getLogger("bandwidth_async"), _Warnings()
    log.addHandler(warnings)
    try:
        yield
    finally:
        log.removeHandler(warnings)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self._said:
            self._said.add(sentence)
            terminal.complain(sentence)


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return terminal.shown(super().format(record))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Every error is one sentence on standard error."""
    # A shell can start us with these streams closed (>&- and 2>&-). Python then sets them to None.
    terminal.occupy_closed_streams()
    sys.stdout = sys.stdout or terminal.Closed()
    sys.stderr = sys.stderr or terminal.Closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An id with characters that the stream cannot encode must not stop the command.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        if isinstance(sys.stdout, terminal.Closed) and sys.stdout.lost_rows:
            terminal.complain("standard output is closed, so nobody gets the rows")
        return code
    finally:
        for stream in (sys.stdout, sys.stderr):
            _finish(stream)
        signals.relent()


def _run(arguments: Sequence[str]) -> int:
    try:
        code = cli.main(list(arguments), prog_name="bandwidth-async", standalone_mode=False) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        return exit_codes.Exit.GENERAL
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message())
        return exit_codes.Exit.USAGE
    except (Exception, signals.Interrupted) as error:
        sentence, code = _explain(error)
        terminal.complain(sentence)
    return code


def _finish(stream: IO[str]) -> None:
    """Flush a stream that can be written. Python would make an exit code of its own of one that cannot."""
    try:
        stream.flush()
    except OSError:
        terminal.abandon(stream)


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case click.UsageError():
            help_ = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            sentence = error.format_message().removesuffix(".")
            return f"{sentence}{help_}", exit_codes.Exit.USAGE
        case click.ClickException():
            return error.format_message(), exit_codes.Exit.GENERAL
        case BandwidthError():
            return str(error), exit_codes.exit_for_error(error)
        case signals.Interrupted(code=int(code)):
            return "interrupted", code
        case OSError():
            return f"cannot go on: {error.strerror or error}", exit_codes.Exit.GENERAL
        case _:
            logging.getLogger("bandwidth_async.cli").debug("unexpected", exc_info=error)
            kind = type(error).__name__
            return (
                f"unexpected {kind}: {error}; please report it with the output of -v",
                exit_codes.Exit.GENERAL,
            )
