"""The versions that pyproject.toml allows: each bound has its reason, and ``make compat`` runs each row."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests import compat

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE = """
import aiohttp, aiohttp.http_parser
from bandwidth_async.http import lacking
in_c = aiohttp.http_parser.HttpResponseParser is not aiohttp.http_parser.HttpResponseParserPy
print(aiohttp.__version__, "C" if in_c else "Python", *lacking(), sep="|")
"""
INSTALLED = {"aiohttp": "3.13.4", "attrs": "23.1.0"}


def python(*arguments: str, **environment: str) -> str:
    """Run Python in the project, and return what it prints."""
    done = subprocess.run(
        (sys.executable, *arguments),
        cwd=compat.ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-5000:]
    return done.stdout.strip()


@pytest.mark.long
@pytest.mark.parametrize("parser", ["C", "Python"])
def test_the_installed_aiohttp(parser: str, show: Callable[[str], None]) -> None:
    """Both of its parsers do; the one in Python is used where there is no compiled one."""
    environment = {"AIOHTTP_NO_EXTENSIONS": "1" if parser == "Python" else ""}
    version, used, *missing = python("-c", PROBE, **environment).split("|")
    if used != parser:
        pytest.skip("this aiohttp is installed without its parser in C")
    assert missing == []
    tests = ["-q", "-p", "no:cacheprovider", "tests/test_http_connections.py"]
    said = python("-m", "pytest", *tests, **environment).splitlines()[-1]
    show(f"aiohttp {version}, parser in {parser}: {said}")


def test_each_bound_has_its_reason() -> None:
    """The line above a requirement says why no older version will do."""
    text = (compat.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pairs = re.findall(r'^ *(.*)\n *"([\w.-]+)(?:\[\w+\])?>=[^"]*",$', text, re.MULTILINE)
    reasons = {name: above for above, name in pairs if re.match(r"# \S.*\.$", above)}
    assert list(reasons) == compat.named()


class Uv:
    """Notes what uv is told. It tells that it installed `INSTALLED`, or that it failed."""

    def __init__(self, failing: str = "") -> None:
        self.told: list[str] = []
        self._failing = failing

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.told.append(" ".join(arguments))
        if self._failing and self._failing in arguments:
            return subprocess.CompletedProcess(arguments, 1, "", "error: no wheel")
        listed = json.dumps([{"name": name, "version": version} for name, version in INSTALLED.items()])
        return subprocess.CompletedProcess(arguments, 0, listed, "")


def test_a_row_that_cannot_be_installed_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its line says why, the other rows are run, and the exit code is 1."""
    monkeypatch.setattr(compat, "uv", Uv(failing="lowest-direct"))
    monkeypatch.setattr(
        compat,
        "tested",
        lambda python, name, versions, _: compat.Row(python, name, versions, "1 passed", True),
    )
    assert compat.main(["--python", "python3.11", "--row", "lowest", "--row", "highest"]) == 1
    lowest, _, _, highest, packages = capsys.readouterr().out.splitlines()
    assert lowest == "FAIL  python3.11  lowest   cannot be installed:"
    assert highest == "ok    python3.11  highest  1 passed"
    assert packages.strip().startswith("aiohttp 3.13.4, attrs 23.1.0, cattrs none")


def test_no_pre_release_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The row says that nothing was run. uv installs no Python, and compiles no package."""
    monkeypatch.setattr(compat, "uv", uv := Uv())
    assert compat.main(["--row", "next"]) == 0
    assert "not run: no pre-release is newer than aiohttp 3.13.4" in capsys.readouterr().out
    make, install, *_ = uv.told
    assert "--no-python-downloads" in make
    assert "--only-binary :all: --resolution highest aiohttp>0.dev0" in install


def test_a_row_says_what_it_ran(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A few tests are not the whole suite; the last line of pytest has the figures."""

    def run(command: list[str], *, stdout: object, **_: object) -> subprocess.CompletedProcess[str]:
        print("noise\n===== 3 passed, 1 failed in 2.00s =====", file=stdout)  # type: ignore[call-overload]  # a file
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(compat, "uv", Uv())
    monkeypatch.setattr(subprocess, "run", run)
    (compat.ROOT / "build" / "compat").mkdir(parents=True, exist_ok=True)
    assert compat.main(["--row", "lowest", "--python", "a", "tests/test_run.py"]) == 1
    assert compat.main(["--row", "lowest", "--python", "a"]) == 1
    few, _, whole, _ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"FAIL  a  lowest   3 passed, 1 failed in 2.00s \(0 s: tests/test_run.py\)", few)
    assert whole.endswith("(0 s: the whole suite)")
