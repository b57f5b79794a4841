"""Each public name says what it does, its units, what it raises, and where its rules come from.

The reference of the documentation is made of these docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

import bandwidth_async
from bandwidth_async import BandwidthError, SyncVoiceClient, VoiceClient
from tests.pages import ROOT
from tests.public_api import MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator

ERRORS = {
    name
    for name in bandwidth_async.__all__
    if inspect.isclass(getattr(bandwidth_async, name)) and name.endswith("Error")
}


def public_names() -> Iterator[tuple[str, Any]]:
    """Yield each public name with its module, and its value."""
    for module, names in MODULES.items():
        loaded = import_module(module)
        for name in names or loaded.__all__:
            if name != "__version__":
                yield f"{module}.{name}", getattr(loaded, name)


def functions() -> dict[str, tuple[Any, str]]:
    """Return each public function and method of our own, with the docstring of its class."""
    found: dict[str, tuple[Any, str]] = {}
    for path, value in public_names():
        if inspect.isfunction(value):
            found[path] = (value, "")
        for name, member in vars(value).items() if inspect.isclass(value) else ():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if inspect.isfunction(function) and (not name.startswith("_") or name == "__init__"):
                found[f"{path}.{name}"] = (function, value.__doc__ or "")
    return {path: one for path, one in found.items() if one[0].__module__.startswith("bandwidth_async")}


FUNCTIONS = functions()


def test_a_public_class_has_a_docstring() -> None:
    """Of its own, and not what attrs or Python wrote."""
    classes = [(path, value) for path, value in public_names() if inspect.isclass(value)]
    assert [
        path for path, value in classes if (value.__doc__ or " ").strip()[-1:] not in {".", "`", ":"}
    ] == []


def test_every_public_function_has_a_docstring() -> None:
    """Methods that override another have the docstring of that one."""
    bare = [path for path, (function, _) in FUNCTIONS.items() if not inspect.getdoc(function)]
    overriding = {path for path in bare if path.rpartition(".")[2] in {"__init__", "admit", "release", "key"}}
    assert set(bare) - overriding == set()


def raised_in(function: Any) -> set[str]:
    """Return our errors that the body of a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    calls = [one.func if isinstance(one, ast.Call) else one for one in raised]
    return {one.id for one in calls if isinstance(one, ast.Name)} & ERRORS


def test_an_error_that_is_raised_is_named() -> None:
    """In the docstring of the method, or of its class."""
    silent: dict[str, set[str]] = {}
    for path, (function, of_class) in FUNCTIONS.items():
        said = f"{inspect.getdoc(function)}{of_class}"
        errors = {error for error in raised_in(inspect.unwrap(function)) if f"`{error}`" not in said}
        silent |= {path: errors} if errors else {}
    assert silent == {}


def test_a_method_that_asks_bandwidth_names_its_errors_and_its_source() -> None:
    """The source is an operation of Bandwidth's description. The synchronous client leads to it."""
    asking = [
        name
        for name, one in vars(VoiceClient).items()
        if inspect.isfunction(one) and name[0] != "_" and "retry" in inspect.signature(one).parameters
    ]
    assert len(asking) >= 14
    for name in asking:
        said = inspect.getdoc(getattr(VoiceClient, name)) or ""
        assert re.search(r"\b[Rr]aise[sd]\b", said), name
        assert "Source: ``" in said or "Raises what `end_conferences` raises" in said, name
        assert f"`VoiceClient.{name}`" in (inspect.getdoc(getattr(SyncVoiceClient, name)) or ""), name


@pytest.mark.parametrize("kind", ["VoiceClient", "RateLimit", "RetryPolicy", "Timeouts"])
def test_a_setting_says_what_it_means(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of settings shows it, with a unit for each number."""
    pytest.importorskip("sphinx", reason="the group `docs` is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    tables = import_module("from_the_code")
    for _, unit, default, meaning in tables.settings_of(getattr(bandwidth_async, kind)):
        assert meaning
        assert unit != tables.NONE or not re.search(
            r"\d|no limit", default.replace("[429]", "").partition("://")[0]
        )


def test_every_public_name_is_in_the_reference() -> None:
    """A page has a directive for it."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: (\S+)", pages, re.MULTILINE))
    shown |= {
        f"{module}.{name}"
        for name, module in re.findall(r"^\.\. py:data:: (\w+)\n +:module: (\S+)", pages, re.MULTILINE)
    }
    assert {path for path, _ in public_names()} - shown == set()


def test_every_error_of_the_package_is_public() -> None:
    """A class that is raised can be imported and caught."""
    assert {one.__name__ for one in BandwidthError.__subclasses__()} <= ERRORS
