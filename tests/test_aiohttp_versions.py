"""Every aiohttp that pyproject.toml allows: requests are sent directly, and the wire tests pass.

The short form checks the installed aiohttp, with its parser in C and the one in Python. The long form (``make
compat``) has pip install the oldest, the newest and the newest pre-release into a folder that Python searches
first, and runs the wire tests with each.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PROBE = """
import aiohttp, aiohttp.http_parser
from bandwidth_async.http import lacking
in_c = aiohttp.http_parser.HttpResponseParser is not aiohttp.http_parser.HttpResponseParserPy
print(aiohttp.__version__, "C" if in_c else "Python", *lacking(), sep="|")
"""
WIRE_TESTS = [
    *("tests/test_http_connections.py", "tests/test_http_exchange.py", "tests/test_http_timeouts.py"),
    *("tests/test_http_proxy.py", "tests/test_wire_faults.py", "tests/test_wire_tls.py"),
]
QUICK_TESTS = ["tests/test_http_connections.py"]


def allowed() -> tuple[str, str]:
    """Return the requirement for aiohttp, and the oldest version that it allows."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = (one for one in project["dependencies"] if one.startswith("aiohttp>"))
    return requirement, requirement.partition(">=")[2].partition(",")[0]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project."""
    return subprocess.run(
        (sys.executable, *arguments),
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def probed(**environment: str) -> list[str]:
    """Return aiohttp's version, its parser, and what it lacks."""
    finished = python("-c", PROBE, **environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip().split("|")


def passed(tests: list[str], **environment: str) -> str:
    """Run tests and return pytest's last line."""
    finished = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, **environment)
    assert finished.returncode == 0, finished.stdout[-5000:]
    return finished.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("parser", ["C", "Python"])
def test_the_installed_aiohttp(parser: str, show: Callable[[str], None]) -> None:
    """Both of its parsers do; the one in Python is used where there is no compiled one."""
    environment = {"AIOHTTP_NO_EXTENSIONS": "1" if parser == "Python" else ""}
    version, used, *missing = probed(**environment)
    if used != parser:
        pytest.skip("this aiohttp is installed without its parser in C")
    assert missing == []
    show(f"aiohttp {version}, parser in {parser}: {passed(QUICK_TESTS, **environment)}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["oldest", "newest", "pre-release"])
def test_every_aiohttp_that_is_allowed(
    which: str, full: bool, tmp_path: Path, show: Callable[[str], None]
) -> None:
    """From the lower bound to what pip finds today. A pre-release may lack a part: the session serves."""
    if not full:
        pytest.skip("the long form (make compat) has pip install other versions of aiohttp")
    requirement, oldest = allowed()
    wanted = {
        "oldest": [f"aiohttp=={oldest}"],
        "newest": [requirement],
        "pre-release": ["--pre", requirement],
    }
    # What is installed in a folder of PYTHONPATH takes the place of what .venv has.
    pip = python("-m", "pip", "install", "--quiet", "--target", str(tmp_path), *wanted[which])
    if pip.returncode != 0:
        reason = (pip.stderr.strip().splitlines() or ["it said nothing"])[-1]
        pytest.skip(f"pip cannot install {wanted[which][-1]}: {reason}")
    version, _, *missing = probed(PYTHONPATH=str(tmp_path))
    if which == "pre-release" and version.replace(".", "").isdigit():
        pytest.skip(f"no pre-release is newer than aiohttp {version}")
    assert which == "pre-release" or missing == []
    assert which != "oldest" or version == oldest
    lacks = f", which lacks {', '.join(missing)}" if missing else ""
    show(f"aiohttp {version}{lacks}: {passed(WIRE_TESTS, PYTHONPATH=str(tmp_path))}")
