"""The command group, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bandwidth_async._version import __version__
from bandwidth_async.cli import exits, records
from bandwidth_async.cli.end import end
from bandwidth_async.cli.look import get, list_
from bandwidth_async.cli.play import demo, sandbox
from bandwidth_async.errors import BandwidthError

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=exits.HELP
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


for command in (end, list_, get, sandbox, demo):
    cli.add_command(command)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever went wrong is one sentence on stderr."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  # closed by our caller: >&-
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115  # 2>&-
    try:
        return cli.main(list(arguments), prog_name="bandwidth-async", standalone_mode=False) or 0
    except BrokenPipeError:
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
