"""The options ``--profile``, ``--account`` and ``--env-file``, before a command or behind it.

What they mean is in `account`, which ``--help`` and completion do not wait for.
"""

from __future__ import annotations

import shlex
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

# The keys of the context under which the options, and what is in force, are kept.
GIVEN, IN_FORCE = "bandwidth_async.given", "bandwidth_async.in_force"
# Likewise, the options that a command which goes on with this one needs too.
_AGAIN = "bandwidth_async.again"


def repeat(context: click.Context, parameter: click.Parameter, value: Any, *, is_url: bool = False) -> None:
    """Note an option for `again`. A URL that may have a password is left out."""
    words = [parameter.opts[0]]
    if value is not True:
        words.append(str(value.absolute() if isinstance(value, Path) else value))
    told = "" if is_url and set("@?") & set(words[-1]) else f" {shlex.join(words)}"
    context.meta.setdefault(_AGAIN, {})[parameter.name] = told


def again() -> str:
    """Return the options of this command that say where and how it connects, to stand behind another."""
    context = click.get_current_context(silent=True)
    noted = context.meta.get(_AGAIN, {}).values() if context else ()
    return "".join(filter(str.isprintable, noted))


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # What stands behind the command wins over what stands before it.
    if value is not None:
        if not str(value).strip():
            raise click.BadParameter("it is empty")
        context.meta.setdefault(GIVEN, {})[parameter.name] = value
        repeat(context, parameter, value)
        context.meta.pop(IN_FORCE, None)


_OPTIONS = (
    click.option(
        "--profile",
        metavar="NAME",
        expose_value=False,
        callback=_keep,
        help="Use the account of this profile (see profiles). [default: BW_PROFILE]",
    ),
    click.option(
        "--account",
        "--account-id",
        "account",
        metavar="ID",
        expose_value=False,
        callback=_keep,
        help="Use this account. [default: BW_ACCOUNT_ID]",
    ),
    click.option(
        "--env-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_keep,
        help="Read the BW_… variables that the environment does not have from a .env file.",
    ),
)


def account_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--profile``, ``--account`` and ``--env-file``, which `in_force` reads, to a command."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)
