"""The commands ``completion`` and ``man``: the script of a shell, and the manual page, from the help."""

from __future__ import annotations

import re
import sys
from inspect import cleandoc
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from bandwidth_async._version import __version__
from bandwidth_async.cli import exit_codes, formats

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "bandwidth-async"

_SHELLS = ("bash", "zsh", "fish")

# A paragraph of click's help that keeps its line breaks begins with this line.
_AS_IT_IS = "\b\n"


@click.command(epilog=exit_codes.HELP)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="|".join(_SHELLS))
def completion(shell: str) -> int:
    """Print the script that completes commands, options, files and the names of runs in your shell.

    \b
    bash  eval "$(bandwidth-async completion bash)"         in ~/.bashrc
    zsh   eval "$(bandwidth-async completion zsh)"          in ~/.zshrc, behind compinit
    fish  bandwidth-async completion fish > ~/.config/fish/completions/bandwidth-async.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    variable = f"_{PROGRAM}_complete".replace("-", "_").upper()
    script = made(click.get_current_context().find_root().command, {}, PROGRAM, variable)
    formats.write_text(sys.stdout, f"{script.source_template % script.source_vars()}\n")
    return exit_codes.Exit.OK


@click.command(epilog=exit_codes.HELP)
def man() -> int:
    """Print the manual page.

    \b
    bandwidth-async man | man -l -
    bandwidth-async man > ~/.local/share/man/man1/bandwidth-async.1
    """
    root = click.get_current_context().find_root()
    formats.write_text(sys.stdout, "".join(f"{line}\n" for line in _page(root)))
    return exit_codes.Exit.OK


def _page(root: click.Context) -> Iterator[str]:
    """Yield the lines of the page, in the macros of man(7)."""
    yield f'.TH {PROGRAM.upper()} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    # No hyphenation and no even margin, so that a long name need not be broken.
    yield from (".nh", ".ad l")
    yield from (".SH NAME", _text(f"{PROGRAM} - end conferences on Bandwidth's Voice API, one or a million"))
    yield from (".SH SYNOPSIS", _text(f"{PROGRAM} [OPTIONS] COMMAND [ARGUMENTS]"))
    yield from (".SH DESCRIPTION", *_paragraphs(root.command.help or ""))
    yield from (".SH OPTIONS", *_options(root))
    yield ".SH COMMANDS"
    for context in _commands(root):
        pieces = " ".join(context.command.collect_usage_pieces(context))
        yield from (f".SS {_text(f'{context.command_path} {pieces}'.removeprefix(f'{PROGRAM} '))}",)
        yield from _paragraphs(context.command.help or "")
        yield from _options(context)
    yield from (".SH EXIT STATUS", *_paragraphs(exit_codes.HELP))


def _commands(parent: click.Context) -> Iterator[click.Context]:
    """Yield a context for each command, and for those in a group."""
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is not None:
            context = click.Context(command, parent=parent, info_name=name)
            yield context
            yield from _commands(context)


def _options(context: click.Context) -> Iterator[str]:
    for option in context.command.get_params(context):
        record = option.get_help_record(context)
        if isinstance(option, click.Option) and record is not None:
            names, sentence = record
            yield from (".TP", f"\\fB{_text(names)}\\fR", _text(sentence))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", cleandoc(text)):
        if paragraph.startswith(_AS_IT_IS):
            yield from (".PP", ".nf", *map(_text, paragraph.removeprefix(_AS_IT_IS).split("\n")), ".fi")
        else:
            yield from (".PP", _text(" ".join(paragraph.split())))


def _text(words: str) -> str:
    """Return text that groff shows as it is: a line that begins with a dot or an apostrophe is a macro."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-")
    # What is in ASCII can be read in every locale, and copied.
    escaped = escaped.replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    escaped = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
