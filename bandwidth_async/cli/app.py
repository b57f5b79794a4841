"""The command group, and the one place where errors become a sentence and an exit code.

A command's module is imported when the command is run. So ``--help`` and ``--version`` do not wait for
aiohttp and the other imports, which take most of the time of a short command.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from bandwidth_async._version import __version__
from bandwidth_async.cli import exit_codes, signals, terminal
from bandwidth_async.cli.account_options import account_options
from bandwidth_async.cli.choices import Suggesting
from bandwidth_async.cli.log_options import log_options
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The module and name of each command, and its sentence in the list of commands. A new module goes into
# `_name_all_modules` too.
COMMANDS = {
    "end": ("end:end", "End conferences. Their calls go on unless you give --hang-up."),
    "resume": ("runs:resume", "Resume a run that was stopped or killed."),
    "runs": ("runs:runs", "List the runs that have a journal."),
    "outcomes": ("runs:outcomes", "Print the outcome of each id of a run."),
    "whoami": ("whoami:whoami", "Prove that account, credentials and host belong together."),
    "report": ("report:report", "Show a run on one page: rates, pauses, errors, settings."),
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
    "completion": ("shells:completion", "Print the script that completes commands in your shell."),
    "man": ("shells:man", "Print the manual page."),
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
        report,
        runs,
        sandbox,
        shells,
        whoami,
    )


class _Commands(Suggesting):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        from bandwidth_async.cli.loading import postpone  # noqa: PLC0415 - the list of commands needs none

        postpone()
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"bandwidth_async.cli.{module}"), name)
        _let_log(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that went away is no error; click would make a code of its own of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return exit_codes.BROKEN_PIPE

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a Tab offers, without loading the commands for their sentences."""
        commands = [
            CompletionItem(name, help=sentence)
            for name, (_, sentence) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


def _let_log(command: click.Command) -> None:
    """Give a command, and those in it, the options of the log."""
    if "--log-file" not in {name for option in command.params for name in option.opts}:
        command.params += log_options()
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _let_log(inner)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exit_codes.HELP,
)
@click.version_option(__version__, prog_name="bandwidth-async")
@account_options
def cli() -> None:
    """End conferences on Bandwidth's Voice API, one or a million.

    Set BW_ACCOUNT_ID, BW_CLIENT_ID and BW_CLIENT_SECRET in the environment to sign in, or in the file of
    --env-file, or choose a profile with --profile: see bandwidth-async profiles --help. BW_USERNAME and
    BW_PASSWORD work until Bandwidth removes API users on 2 December 2026. Set BW_ENVIRONMENT=test (or uat)
    for Bandwidth's test hosts. Set BW_VOICE_URL and BW_API_URL for any other host, such as the sandbox.

    Behind a proxy, set HTTPS_PROXY (for plain http: http_proxy) or ALL_PROXY, and NO_PROXY for the hosts that
    need none, as for curl. Or give the command --proxy.
    """
    from bandwidth_async.cli import logs  # noqa: PLC0415 - neither a Tab nor --help logs

    click.get_current_context().with_resource(signals.handled(signals.interrupt))
    click.get_current_context().with_resource(logs.spoken())


_let_log(cli)


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
    terminal.begin(as_json=_wants_json(arguments))
    try:
        code = cli.main(list(arguments), prog_name="bandwidth-async", standalone_mode=False) or 0
        sys.stdout.flush()
        if code != exit_codes.BROKEN_PIPE:
            terminal.ending.conclude(code)
    except BrokenPipeError:
        return exit_codes.BROKEN_PIPE
    except click.exceptions.NoArgsIsHelpError as error:
        terminal.say(error.format_message())
        return exit_codes.Exit.USAGE
    except (Exception, signals.Interrupted) as error:
        sentence, code = _explain(error)
        terminal.ending.fail(sentence, code)
    return code


def _wants_json(arguments: Sequence[str]) -> bool:
    """Return whether the command line asks for JSON, as far as it can be understood."""
    told = [
        value if equals else follower
        for (name, equals, value), follower in zip(
            (one.partition("=") for one in arguments), [*arguments[1:], ""], strict=False
        )
        if name == "--format"
    ]
    # The last one counts, as it does for click.
    return told[-1:] in (["json"], ["jsonl"])


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
            import logging  # noqa: PLC0415 - not for a Tab

            logging.getLogger("bandwidth_async.cli").debug("unexpected", exc_info=error)
            kind = type(error).__name__
            return (
                f"unexpected {kind}: {error}; please report it with the output of -v",
                exit_codes.Exit.GENERAL,
            )
