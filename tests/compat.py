"""Run the tests with every Python and every version of a dependency that is allowed: ``make compat``.

Each row has a virtual environment of its own in ``build/compat``. ``lowest`` has the oldest version that
``pyproject.toml`` allows of each package that it names, as far as this Python can have it without a compiler.
``highest`` has the newest of each. ``next`` has the newest pre-release of aiohttp, where there is one.
Warnings are errors in each. The matrix says what a row ran: the whole suite, or the tests that were named.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROWS = {
    "lowest": ["--resolution", "lowest-direct"],
    "highest": ["--resolution", "highest"],
    # uv considers the pre-releases of a package only if a requirement names one.
    "next": ["--resolution", "highest", "aiohttp>0.dev0"],
}


def named() -> list[str]:
    """Return the names of the packages that the library and its extras ask for."""
    extras = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in [*PROJECT["dependencies"], *extras]]
    return [name for name in names if name != PROJECT["name"]]


@frozen
class Row:
    """A line of the matrix: a Python, what is installed with it, and what pytest said."""

    python: str
    name: str
    versions: dict[str, str]
    said: str
    passed: bool

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {self.versions.get(name, 'none')}" for name in named())
        verdict = "ok  " if self.passed else "FAIL"
        return f"{verdict}  {self.python}  {self.name:<7}  {self.said}\n      {packages}"


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run uv in the project. It installs no Python and compiles nothing."""
    command = [sys.executable, "-m", "uv", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def row(python: str, name: str, tests: Sequence[str]) -> Row:
    """Make the environment of a row and run the tests in it. Their output is beside it, in a file."""
    place = ROOT / "build" / "compat" / f"{Path(python).name}-{name}"
    interpreter = str(place / "bin" / "python")
    installing = ["pip", "install", "--python", interpreter, "--only-binary", ":all:"]
    for step in (
        ["venv", "--clear", "--no-python-downloads", "--python", python, str(place)],
        [*installing, *ROWS[name], "--requirements", "pyproject.toml", "--all-extras", "--group", "test"],
        ["pip", "install", "--python", interpreter, "--no-deps", "--editable", "."],
    ):
        done = uv(*step)
        if done.returncode != 0:
            return Row(python, name, {}, f"cannot be installed:\n{done.stderr.strip()}", passed=False)
    versions = {
        one["name"]: one["version"]
        for one in json.loads(uv("pip", "list", "--python", interpreter, "--format", "json").stdout)
    }
    if name == "next" and not re.search(r"[a-z]", versions["aiohttp"]):
        said = f"not run: no pre-release is newer than aiohttp {versions['aiohttp']}"
        return Row(python, name, versions, said, passed=True)
    return tested(python, name, versions, tests)


def tested(python: str, name: str, versions: dict[str, str], tests: Sequence[str]) -> Row:
    """Run the tests in the environment of a row."""
    place = ROOT / "build" / "compat" / f"{Path(python).name}-{name}"
    began = time.monotonic()
    with open(f"{place}.log", "w", encoding="utf-8") as log:
        command = [str(place / "bin" / "python"), "-m", "pytest", "-p", "no:cacheprovider", *tests]
        code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    last = Path(log.name).read_text(encoding="utf-8").strip().splitlines()[-1:]
    what = " ".join(one for one in tests if not one.startswith("-")) or "the whole suite"
    said = f"{' '.join(last).strip('= ')} ({time.monotonic() - began:.0f} s: {what})"
    return Row(python, name, versions, said, passed=code == 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print each row when it is done. Return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__.partition("\n")[0])
    parser.add_argument("--python", action="append", help="a Python, by name or path; may be repeated")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="a row; may be repeated")
    parser.add_argument("tests", nargs="*", help="arguments of pytest; without any, it runs the whole suite")
    chosen = parser.parse_args(arguments)
    rows = []
    for python in chosen.python or [sys.executable]:
        for name in chosen.row or ROWS:
            rows.append(row(python, name, chosen.tests or ["--numprocesses=auto"]))
            print(rows[-1], flush=True)
    return 0 if all(one.passed for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
