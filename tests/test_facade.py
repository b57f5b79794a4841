"""The public names of ``bandwidth_async``, their docstrings and their types."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bandwidth_async


def public_parts(name: str) -> list[tuple[str, object]]:
    """Return a public class or function, with the public methods and properties of a class."""
    value = getattr(bandwidth_async, name)
    if not inspect.isclass(value):
        return [(name, value)] if callable(value) else []
    inside = [
        (f"{name}.{part}", getattr(member, "__func__", member))
        for part, member in vars(value).items()
        if not part.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]
    return [(name, value), *inside]


# Unions of other names, for annotations. Their docstring would be that of the union type.
ALIASES = {"Credentials", "Event", "PaceEvent", "Source"}

PARTS = [part for name in bandwidth_async.__all__ if name not in ALIASES for part in public_parts(name)]


def test_the_names_are_sorted_and_named_once() -> None:
    """``__all__`` is sorted and has no duplicates."""
    assert bandwidth_async.__all__ == sorted(set(bandwidth_async.__all__))


def test_the_names_are_all_there_is() -> None:
    """``dir`` returns the public names only, and each name is an object of this package."""
    assert dir(bandwidth_async) == bandwidth_async.__all__
    for name in set(bandwidth_async.__all__) - {"__version__", *ALIASES}:
        value = getattr(bandwidth_async, name)
        assert value.__module__.startswith("bandwidth_async."), name
        assert value is getattr(sys.modules[value.__module__], name)


def test_a_name_that_is_not_there() -> None:
    """A misspelt name raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'VoiceCleint'"):
        _ = bandwidth_async.VoiceCleint  # type: ignore[attr-defined]  # misspelt on purpose


def test_a_star_import_gives_them() -> None:
    """A star import imports every name of ``__all__``."""
    names: dict[str, object] = {}
    exec("from bandwidth_async import *", names)  # noqa: S102  # a star import is not allowed in a function
    assert set(bandwidth_async.__all__) <= set(names)


@pytest.mark.parametrize("value", [value for _, value in PARTS], ids=[name for name, _ in PARTS])
def test_everything_public_has_a_sentence(value: object) -> None:
    """Every public class, function, method and property has a docstring with a sentence."""
    docstring = value.__doc__  # `inspect.getdoc` would return that of a base class
    assert docstring
    assert re.search(r"[.:](\s|$)", docstring)


def test_the_version_is_one() -> None:
    """The version has a form that installers can sort."""
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc|\.dev)\d+)?", bandwidth_async.__version__)


@pytest.mark.timeout(600)
def test_the_type_of_every_name_is_known(pyright: str) -> None:
    """pyright reports complete types for the package: no type is unknown or only inferred."""
    command = [pyright, "--verifytypes", "bandwidth_async", "--ignoreexternal", "--outputjson"]
    # For a package, pyright ignores --pythonpath and takes the first Python on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    incomplete = [
        (symbol["name"], [one["message"] for one in symbol["diagnostics"]])
        for symbol in found["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    assert incomplete == []
    assert found["completenessScore"] == 1
    names = {symbol["name"].removeprefix("bandwidth_async.") for symbol in found["symbols"]}
    assert set(bandwidth_async.__all__) - names <= {"__version__"}
