"""Write the public API down, as text that a reviewer can compare.

``python -m tests.public_api`` renews ``tests/public_api.txt``.
"""

from __future__ import annotations

import inspect
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, is_typeddict

import click

from bandwidth_async.cli.app import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).with_suffix(".txt")

# The public modules. A module without ``__all__`` has its public names here.
MODULES: dict[str, list[str]] = {
    "bandwidth_async": [],
    "bandwidth_async.celery": ["ConferenceTask", "conference_task", "run_on"],
    "bandwidth_async.chunks": [],
    "bandwidth_async.otel": ["OpenTelemetry"],
    "bandwidth_async.pytest_plugin": ["BandwidthSandbox", "bandwidth_sandbox", "serving"],
    "bandwidth_async.report": [],
    "bandwidth_async.sandbox": [],
    "bandwidth_async.webhooks": [],
    "bandwidth_async.webhooks.aiohttp_handler": ["aiohttp_handler"],
}


class _Bare(str):
    """An annotation that `inspect.Signature` shows without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def text() -> str:
    """Return one line for each public name, member and command-line option."""
    lines = [line for module, names in MODULES.items() for line in _module(module, names)]
    return "\n".join([*lines, *_commands()]) + "\n"


def _module(name: str, names: list[str]) -> Iterator[str]:
    module = import_module(name)
    yield f"# {name}"
    for public in sorted(names or module.__all__):
        if public != "__version__":
            yield from described(public, getattr(module, public))
    yield ""


def described(name: str, value: Any) -> Iterator[str]:
    """Yield the lines of one public name."""
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        # Python writes the constructors of these, and each version writes others.
        given = issubclass(value, Enum) or is_typeddict(value) or getattr(value, "_is_protocol", False)
        yield f"class {name}({bases})" if given else f"class {name}({bases}): {_signature(value)}"
        for member, annotation in sorted(_members(value).items()):
            yield _member(f"  .{member}", annotation, inspect.getattr_static(value, member, None))
    elif callable(value) and not get_args(value):
        yield f"def {name}{_signature(value)}"
    else:
        union = all(map(inspect.isclass, get_args(value)))
        parts = [one.__name__ for one in get_args(value)] if union else [inspect.formatannotation(value)]
        yield f"{name} = {' | '.join(parts)}"


def _members(value: type) -> dict[str, str | None]:
    """Return the public members that a class or its bases in this package define, with their annotations."""
    found: dict[str, str | None] = {}
    for base in reversed([one for one in value.__mro__ if one.__module__.startswith("bandwidth_async")]):
        found |= dict.fromkeys(vars(base))
        annotations = inspect.get_annotations(base)
        found |= {name: getattr(one, "__forward_arg__", str(one)) for name, one in annotations.items()}
    return {name: annotation for name, annotation in found.items() if not name.startswith("_")}


def _member(name: str, annotation: str | None, value: Any) -> str:
    if annotation is not None:
        return f"{name}: {annotation}"
    if isinstance(value, Enum):
        return f"{name} = {value.value!r}"
    if isinstance(value, classmethod | staticmethod):
        return f"{name}{_signature(value.__func__)} {type(value).__name__}"
    if isinstance(value, property):
        return f"{name}{_signature(value.fget)} property"
    return f"{name}{_signature(value)}" if inspect.isroutine(value) else name


def _signature(value: Any) -> str:
    """Return the parameters with their annotations as the source has them."""
    signature = inspect.signature(value)
    parameters = [one.replace(annotation=_bare(one.annotation)) for one in signature.parameters.values()]
    returns = _bare(signature.return_annotation)
    shown = str(signature.replace(parameters=parameters, return_annotation=returns))
    return f"{shown} async" if inspect.iscoroutinefunction(value) else shown


def _bare(annotation: Any) -> Any:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


def _commands() -> Iterator[str]:
    yield "# The command line"
    for path, command in _walk("bandwidth-async", cli):
        yield path
        for option in command.params:
            kind = "flag" if getattr(option, "is_flag", False) else option.type.name
            flags = " ".join(sorted([*option.opts, *option.secondary_opts]))
            yield f"  {flags if flags.startswith('-') else option.human_readable_name} {kind}"


def _walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            if (found := command.get_command(context, name)) and not found.hidden:
                yield from _walk(f"{path} {name}", found)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
