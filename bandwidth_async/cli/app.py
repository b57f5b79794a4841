"""The command group, and the one place where errors become a sentence and an exit code.

A command's module is imported when the command is run, so that ``--help`` and ``--version`` need not wait
for aiohttp and the rest: that is most of what a short command costs.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async._version import __version__
from bandwidth_async.cli import exits
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where each command is, and its sentence in the list of them.
COMMANDS = {
    "end": ("end:end", "End conferences: the members are ejected, their calls go on."),
    "resume": ("journals:resume", "Go on with a run that was cut off."),
    "runs": ("journals:runs", "List the runs that left a journal."),
    "outcomes": ("journals:outcomes", "Print what became of each id of a run."),
    "list": ("look:list_", "List conferences, oldest first."),
    "get": ("look:get", "Show one conference with its members."),
    "members": ("members:members", "List the members of a conference."),
    "mute": ("members:mute", "Mute members: they hear the others and are not heard."),
    "unmute": ("members:unmute", "Let members be heard again."),
    "hold": ("members:hold", "Put members on hold: they neither hear nor are heard."),
    "unhold": ("members:unhold", "Take members off hold."),
    "redirect": ("conference:redirect", "Send a conference to the BXML at a URL."),
    "announce": ("conference:announce", "Give a conference BXML from a file: play, speak, record."),
    "wait": ("conference:wait", "Wait until a conference has completed."),
    "recordings": ("recordings:recordings", "List the recordings of a conference."),
    "download": ("recordings:download", "Fetch the audio of a recording."),
    "sandbox": ("play:sandbox", "Serve a stand-in for Bandwidth's Voice API on this machine."),
    "demo": ("play:demo", "Watch conferences being ended on a sandbox."),
}


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
    epilog=exits.HELP,
)
@click.version_option(__version__, prog_name="bandwidth-async")
@click.option("-v", "--verbose", is_flag=True, help="Log every request and retry to standard error.")
def cli(verbose: bool) -> None:
    """End conferences on Bandwidth's Voice API, one or a million.

    Signs in with BW_ACCOUNT_ID, BW_CLIENT_ID and BW_CLIENT_SECRET from the environment (legacy:
    BW_USERNAME and BW_PASSWORD). BW_ENVIRONMENT=test chooses Bandwidth's test hosts; BW_VOICE_URL and
    BW_API_URL choose any other, such as the sandbox.
    """
    if verbose:
        logging.basicConfig(
            stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s"
        )
        logging.getLogger("bandwidth_async").setLevel(logging.DEBUG)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever went wrong is one sentence on stderr."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  # closed by our caller: >&-
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115  # 2>&-
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an id that cannot be spelled is no reason to stop
    try:
        return cli.main(list(arguments), prog_name="bandwidth-async", standalone_mode=False) or 0
    except BrokenPipeError:
        from bandwidth_async.cli import records  # noqa: PLC0415 - see the module

        records.abandon(sys.stdout)
        return exits.Exit.GENERAL
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return exits.Exit.USAGE
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = _explain(error)
        print(f"bandwidth-async: {sentence}", file=sys.stderr)
        return code


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case click.UsageError():
            help_ = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            return f"{error.format_message()}{help_}", exits.Exit.USAGE
        case click.ClickException():
            return error.format_message(), exits.Exit.GENERAL
        case BandwidthError():
            return str(error), exits.exit_for_error(error)
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", 130
        case OSError():
            return f"cannot go on: {error.strerror or error}", exits.Exit.GENERAL
        case _:
            logging.getLogger("bandwidth_async.cli").debug("unexpected", exc_info=error)
            kind = type(error).__name__
            return f"unexpected {kind}: {error}; please report it with what -v shows", exits.Exit.GENERAL
