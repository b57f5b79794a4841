"""The architecture: modules import only from lower floors, and each dependency has its allowed importers."""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

import bandwidth_async

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "bandwidth_async"

# A package is on one floor with all its modules. If you add a module, add its floor here.
FLOORS = {
    "errors": 0,
    "_version": 0,
    "meanings": 1,
    "models": 1,
    "bxml": 1,
    "validators": 1,
    "retry_after": 1,
    "durations": 1,
    "directories": 1,
    "server_text": 1,
    "updates": 2,
    "shapes": 2,
    "credentials": 2,
    "retry": 2,
    "outcome": 2,
    "polling": 2,
    "media": 2,
    "limiter": 2,
    "events": 3,
    "webhooks": 3,
    "wire": 3,
    "run": 3,
    "http": 4,
    "listing": 4,
    "journal": 4,
    "operation": 5,
    "settings": 5,
    "sharing": 5,
    "report": 5,
    "ending": 6,
    "watching": 6,
    "otel": 6,
    "environment": 6,
    "client": 7,
    "sync": 8,
    "": 9,  # the package itself, with its list of names in `exports`
    "sandbox": 9,
    "chunks": 9,
    "celery": 10,
    "pytest_plugin": 10,
    "cli": 10,
    "__main__": 11,
}

# The modules that may import each third-party package. No other package may be imported.
DOORS = {
    "aiohttp": {"http", "media", "sandbox", "webhooks"},
    "uvloop": {"cli"},
    "pytest": {"pytest_plugin"},
    "sqlite3": {"journal"},
    "multidict": {"http"},
    "yarl": {"http"},
    "tenacity": {"retry"},
    "cattrs": {"shapes", "sharing"},
    "redis": {"sharing"},
    "click": {"cli"},
    "rich": {"cli"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "dotenv": {"cli"},
    "keyring": {"cli"},
    "celery": {"celery"},
    "opentelemetry": {"otel"},
    "attrs": set(FLOORS),
}

# Imports for type checkers only. They do not happen at run time.
TYPE_ONLY_DOORS = {
    **DOORS,
    "aiohttp": {*DOORS["aiohttp"], "operation", "settings", "client", "watching"},
    "yarl": {*DOORS["yarl"], "operation", "settings", "environment", "client", "watching"},
    "multidict": {"http", "retry_after"},
}

SHAPELESS = {"utils", "util", "helpers", "helper", "common", "base", "manager", "config", "misc", "tools"}


@frozen
class Import:
    """One import of a module. It is ``eager`` if it happens when the importer is loaded."""

    importer: str
    imported: str
    line: int
    type_only: bool
    eager: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name. Packages have no ``__init__`` in it."""
    folder = Path(bandwidth_async.__file__).parent
    names = {path: path.relative_to(folder.parent).with_suffix("").parts for path in folder.rglob("*.py")}
    return {".".join(name).removesuffix(".__init__"): path for path, name in sorted(names.items())}


def home(module: str) -> str:
    """Return the part of a dotted name that has a floor: ``sandbox`` of ``bandwidth_async.sandbox.quota``."""
    part = module.removeprefix(ROOT).removeprefix(".").partition(".")[0]
    return "" if part == "exports" else part


def is_ours(module: str) -> bool:
    """Return whether a dotted name belongs to this package."""
    return module.partition(".")[0] == ROOT


def statements(node: ast.AST, *, type_only: bool, eager: bool) -> Iterator[tuple[ast.stmt, bool, bool]]:
    """Yield every import below ``node``, and whether it is for types only and whether it is eager."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, type_only, eager
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from statements(child, type_only=True, eager=eager)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from statements(child, type_only=type_only, eager=eager and not is_function)


def targets(statement: ast.stmt) -> Iterator[str]:
    """Yield the modules that an import names. For ``from a import b`` it is ``a.b`` if that is a module."""
    if isinstance(statement, ast.Import):
        yield from (name.name for name in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "relative imports hide the floor: write the whole name"
        for name in statement.names:
            whole = f"{statement.module}.{name.name}"
            yield whole if whole in modules() else str(statement.module)


@cache
def imports() -> list[Import]:
    """Return every import of every module."""
    return [
        Import(module, imported, statement.lineno, type_only, eager)
        for module, path in modules().items()
        for statement, type_only, eager in statements(
            ast.parse(path.read_text()), type_only=False, eager=True
        )
        for imported in sorted(set(targets(statement)))
    ]


def third_party_imports() -> Iterator[Import]:
    """Yield the imports of third-party packages, and those of the standard library that DOORS restricts."""
    for one in imports():
        package = one.imported.partition(".")[0]
        if package in DOORS or not (is_ours(one.imported) or package in sys.stdlib_module_names):
            yield one


def loaded_by(module: str) -> set[str]:
    """Return every module that importing ``module`` loads, third parties included."""
    loaded: set[str] = set()
    new = {module}
    while new:
        loaded |= new
        new = {
            one.imported for one in imports() if one.importer in new and one.eager and not one.type_only
        } - loaded
    return loaded


def test_every_module_has_a_floor() -> None:
    """Every module has a floor in FLOORS, and every floor there has a module."""
    assert {home(module) for module in modules()} == set(FLOORS)


def test_imports_of_every_kind_are_seen() -> None:
    """The code of these tests finds each kind of import, shown by one known import of each."""
    seen = {(one.importer, one.imported, one.type_only, one.eager) for one in imports()}
    assert {
        (f"{ROOT}.http.exchange", "aiohttp", False, True),
        (f"{ROOT}.http.exchange", f"{ROOT}.wire", False, True),  # from bandwidth_async import wire
        (f"{ROOT}.operation", "aiohttp", True, True),  # for types
        (f"{ROOT}.__main__", f"{ROOT}.cli.app", False, False),  # in a function
        (ROOT, f"{ROOT}.exports", True, True),
    } <= seen


def test_imports_point_down() -> None:
    """A module imports only from lower floors or from its own package."""
    upward = [
        str(one)
        for one in imports()
        if is_ours(one.imported)
        and not one.type_only
        and home(one.imported) != home(one.importer)
        and FLOORS[home(one.imported)] >= FLOORS[home(one.importer)]
    ]
    assert upward == []


def test_imports_for_types_do_not_point_up() -> None:
    """An import for types may be from the same floor, but not from a higher one."""
    upward = [
        str(one)
        for one in imports()
        if is_ours(one.imported) and one.type_only and FLOORS[home(one.imported)] > FLOORS[home(one.importer)]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """There is no import cycle, also within a package and for types. A cycle means a misplaced definition."""
    graph: dict[str, set[str]] = {}
    for one in imports():
        if is_ours(one.imported) and one.eager:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_third_parties_enter_at_their_door() -> None:
    """Only the allowed modules import a third-party package, so that it can be replaced there."""
    strays = [
        str(one)
        for one in third_party_imports()
        if home(one.importer)
        not in (TYPE_ONLY_DOORS if one.type_only else DOORS).get(one.imported.partition(".")[0], set())
    ]
    assert strays == []


def test_the_library_does_not_load_its_extras() -> None:
    """``import bandwidth_async`` works without click and rich, and does not load the sandbox."""
    loaded = loaded_by(f"{ROOT}.exports")
    assert f"{ROOT}.client" in loaded
    assert {
        module for module in loaded if home(module) in {"sandbox", "cli", "__main__"} and is_ours(module)
    } == set()
    assert {module.partition(".")[0] for module in loaded} & {"click", "rich"} == set()


def test_no_module_is_a_drawer_for_everything() -> None:
    """No module has a vague name such as ``utils``. A function belongs beside its callers."""
    parts = {part for module in modules() for part in module.split(".")}
    assert parts & SHAPELESS == set()


@pytest.mark.parametrize("module", sorted(set(modules()) - {f"{ROOT}._version"}))
def test_a_module_says_what_it_is_for(module: str) -> None:
    """The first line of a module's docstring is one sentence that states its purpose."""
    docstring = ast.get_docstring(ast.parse(modules()[module].read_text()))
    assert docstring
    assert docstring.splitlines()[0].rstrip().endswith((".", ":"))


def test_the_picture_in_the_readme_shows_every_part() -> None:
    """The picture in the README shows each module on its floor."""
    readme = (Path(bandwidth_async.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    picture = readme.partition("## How it is built")[2].partition("```")[2].partition("```")[0]
    shown: dict[str, int] = {}
    floor = -1
    for line in picture.strip("\n").splitlines():
        number, parts = line[:3].strip(), line[4:52]
        floor = int(number) if number else floor
        shown |= dict.fromkeys(parts.split(), floor)
    assert shown == {
        part: number for part, number in FLOORS.items() if part not in {"", "__main__", "_version"}
    }


def test_the_names_are_loaded_at_their_first_use() -> None:
    """A bare import loads only the version. `exports` contains imports and names, and no logic."""
    assert loaded_by(ROOT) <= {ROOT, f"{ROOT}._version", "typing"}
    assert f"{ROOT}.client" in loaded_by(f"{ROOT}.exports")
    body = ast.parse(modules()[f"{ROOT}.exports"].read_text()).body[1:]
    assert {type(statement) for statement in body} == {ast.ImportFrom, ast.Assign}


def test_asking_for_help_does_not_load_the_client() -> None:
    """The command line imports a command only when it is run."""
    loaded = loaded_by(f"{ROOT}.cli.app")
    assert f"{ROOT}.errors" in loaded
    assert {one.partition(".")[0] for one in loaded} & {
        "aiohttp",
        "attrs",
        "asyncio",
        "jinja2",
        "rich",
    } == set()
