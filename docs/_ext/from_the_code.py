"""Tables that are read off the code: settings, outcomes, errors and exit codes. None of them is typed."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from typing import TYPE_CHECKING, Any

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import bandwidth_async
from bandwidth_async import BandwidthError, OutcomeKind, SyncVoiceClient, VoiceClient
from bandwidth_async.cli.app import cli
from bandwidth_async.cli.exit_codes import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from docutils.nodes import Node
    from sphinx.application import Sphinx

Row = tuple[str, ...]

HELP_WIDTH = 88

# In a cell that has nothing to say. A bare dash would begin a list.
NONE = r"\-"


def items(docstring: str) -> dict[str, str]:
    """Return what a docstring says of each of its ``names``, by name.

    An item is a line of names between double backticks, with its text indented below.
    """
    found: dict[str, str] = {}
    pattern = r"^((?:``\w+``(?:, )?)+)\n((?:[ ]{4}.*\n|\n(?=[ ]{4}))+)"
    for names, text in re.findall(pattern, inspect.cleandoc(docstring) + "\n", re.MULTILINE):
        said = " ".join(textwrap.dedent(text).split())
        found |= dict.fromkeys(re.findall(r"\w+", names), said)
    return found


def settings_of(kind: type) -> Iterator[Row]:
    """Yield name, unit, default and meaning of each setting of a public class or of the client."""
    said = items(kind.__doc__ or "")
    units = {one.name: unit_of(one.validator) for one in getattr(kind, "__attrs_attrs__", ())}
    for name, parameter in inspect.signature(kind).parameters.items():
        yield name, units.get(name) or unit_in(said[name]), shown(parameter.default), said[name]


def settings_of_runs() -> Iterator[Row]:
    """Yield the same for the parameters of a run."""
    said = items(VoiceClient.end_conferences.__doc__ or "")
    for name, parameter in inspect.signature(VoiceClient.end_conferences).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and name in said:
            yield name, unit_in(said[name]), shown(parameter.default), said[name]


def unit_of(validator: object) -> str:
    """Return the unit that a validator knows."""
    return str(getattr(getattr(validator, "validator", validator), "unit", ""))


def unit_in(meaning: str) -> str:
    """Return the unit that a meaning begins to speak of."""
    found = re.search(r"\b(seconds|requests per second|ids|conferences at once)\b", meaning, re.IGNORECASE)
    return found[1].lower() if found else NONE


def shown(value: object) -> str:
    """Return a default as a reader knows it."""
    if value is inspect.Parameter.empty:
        return "required"
    if value is None:
        return NONE
    if isinstance(value, float) and not isinstance(value, bool):
        return "no limit" if math.isinf(value) else f"``{value:g}``"
    return f"``{sorted(value) if isinstance(value, frozenset) else value}``"


def errors() -> Iterator[Row]:
    """Yield each error, when it is raised, and the public methods that say they raise it."""
    for name in bandwidth_async.__all__:
        kind = getattr(bandwidth_async, name)
        if inspect.isclass(kind) and issubclass(kind, BandwidthError):
            by = ", ".join(f"`{owner}`" for owner in raisers(name))
            yield f"`{name}`", first_sentence(kind), by or NONE


def methods() -> Iterator[Row]:
    """Yield each method of the client that asks Bandwidth, and the errors that it names."""
    for name, method in vars(VoiceClient).items():
        if name[0] != "_" and inspect.isfunction(method) and "retry" in inspect.signature(method).parameters:
            named = dict.fromkeys(re.findall(r"`(\w+Error)`", method.__doc__ or ""))
            yield f"`{name} <VoiceClient.{name}>`", ", ".join(f"`{error}`" for error in named) or NONE


def raisers(error: str) -> list[str]:
    """Return the public methods and classes whose docstring names an error."""
    found = []
    for name in bandwidth_async.__all__:
        kind = getattr(bandwidth_async, name)
        if not inspect.isclass(kind) or issubclass(kind, BandwidthError | SyncVoiceClient):
            continue
        own = {f"{name}.{member}": vars(kind)[member] for member in vars(kind) if member[0] != "_"}
        for owner, value in {name: kind, **own}.items():
            if f"`{error}`" in (_docstring(value) or "") and "aise" in (_docstring(value) or ""):
                found.append(owner)
    return found


def _docstring(value: object) -> str | None:
    return getattr(getattr(value, "__func__", value), "__doc__", None)


def first_sentence(kind: type) -> str:
    """Return the first sentence of a docstring."""
    paragraph = " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph)[0]


def outcomes() -> Iterator[Row]:
    """Yield each outcome with what the code says of it."""
    for kind in OutcomeKind:
        yield f"``{kind}``", *("yes" if one else "no" for one in (kind.settled, kind.fine, kind.trouble))


def exit_codes() -> Iterator[Row]:
    """Yield the exit codes with their names."""
    for code in Exit:
        yield f"``{code.value}``", code.name.lower().replace("_", " ")


TABLES: dict[str, tuple[Row, Callable[[], Iterable[Row]]]] = {
    "outcomes": (("outcome", "settled", "fine", "trouble"), outcomes),
    "errors": (("error", "when", "named by"), errors),
    "methods": (("method", "names"), methods),
    "exit-codes": (("code", "name"), exit_codes),
    "run-settings": (("setting", "unit", "default", "meaning"), settings_of_runs),
}


def table(header: Row, rows: Iterable[Row]) -> str:
    """Return a table as reStructuredText."""
    widths = "   :widths: 25 35 40\n" if header == ("error", "when", "named by") else ""
    lines = [".. list-table::", "   :header-rows: 1", widths]
    for row in (header, *rows):
        lines += [f"   {'*' if not index else ' '} - {cell}" for index, cell in enumerate(row)]
    return "\n".join(lines)


class FromTheCode(SphinxDirective):
    """``.. from-the-code:: errors``, or ``settings RetryPolicy``: a table as the code has it."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> Sequence[Node]:
        self.env.note_reread()
        name, *kind = self.arguments
        if kind:
            rows = ((f"``{one}``", *rest) for one, *rest in settings_of(getattr(bandwidth_async, kind[0])))
            text = table(("setting", "unit", "default", "meaning"), rows)
        else:
            header, make = TABLES[name]
            text = table(header, make())
        return self.parse_text_to_nodes(text)


class Help(SphinxDirective):
    """``{help}``: a section for each command, with what its ``--help`` prints."""

    def run(self) -> list[Node]:
        self.env.note_reread()
        context = cli.make_context("bandwidth-async", ["demo"])
        context.terminal_width = HELP_WIDTH
        commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
        return [self._section(name, command, context) for name, command in commands.items() if command]

    def _section(self, name: str, command: click.Command, parent: click.Context) -> Node:
        context = click.Context(command, info_name=name, parent=parent, terminal_width=HELP_WIDTH)
        section = nodes.section(ids=[f"cli-{context.command_path.partition(' ')[2].replace(' ', '-')}"])
        section += nodes.title("", context.command_path.partition(" ")[2])
        section += nodes.literal_block(text := command.get_help(context), text, language="text")
        for inner in command.commands.items() if isinstance(command, click.Group) else ():
            section += self._section(*inner, context)
        return section


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("from-the-code", FromTheCode)
    app.add_directive("help", Help)
    return {"parallel_read_safe": True}
