"""The keyword settings: the same everywhere, named by help(), and a slip of the pen is a type error."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import CallSettings, ClientSettings, RunSettings, VoiceClient

if TYPE_CHECKING:
    from pathlib import Path

RUNS = {"end_conferences", "ending_conferences"}
OPERATIONS = [
    name
    for name, member in inspect.getmembers(VoiceClient, inspect.isroutine)
    if not name.startswith("_") and name not in {*RUNS, "from_env", "aclose"}
]


def test_from_env_takes_what_the_class_takes() -> None:
    """The dictionary of settings has each parameter of the class, with its type."""
    own = inspect.signature(VoiceClient.__init__).parameters.values()
    parameters = {one.name: one.annotation for one in own if one.name != "self"}
    assert parameters == {name: hint.__forward_arg__ for name, hint in ClientSettings.__annotations__.items()}


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        *((name, CallSettings) for name in OPERATIONS),
        *((name, RunSettings) for name in sorted(RUNS)),
        ("from_env", ClientSettings),
    ],
)
def test_help_names_the_settings(method: str, settings: type) -> None:
    """Whoever reads help() or the reference finds each setting in the signature, and no nameless rest."""
    shown = pydoc.plain(pydoc.render_doc(getattr(VoiceClient, method)))
    # Python 3.14 gives each parameter of a long signature a line.
    signature = shown.partition(f"{method}(")[2].partition(") -> ")[0]
    assert [name for name in settings.__annotations__ if f"{name}: " not in signature] == []
    assert "**" not in signature


SLIPS = """
from bandwidth_async import VoiceClient, wire
from bandwidth_async.models import Call

client = VoiceClient.from_env(dedline=5.0)  # from_env

async def use() -> None:
    await client.get_conference("conf-1", deadline="soon")  # a wrong type
    await client.end_conference("conf-1", retries=3)  # an unknown setting

async def wrong_pair() -> Call:
    return await client._ask(wire.get_conference("1", "conf-1"), {})  # the reader of another request
"""


def test_a_slip_of_the_pen_is_a_type_error(tmp_path: Path) -> None:
    """A misspelt setting, a setting of the wrong type, and a value of another request's kind."""
    script = tmp_path / "slips.py"
    script.write_text(SLIPS)
    # A process of its own: mypy sets the recursion limit of the one that it runs in.
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(script)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    wrong = [number for number, line in enumerate(SLIPS.splitlines(), 1) if "#" in line]
    found = {int(line.split(":")[1]) for line in said.splitlines() if "error:" in line}
    assert found == set(wrong), said
