"""The event loop of a command: uvloop where it is installed, and the garbage collector's setting."""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
from typing import Any

import pytest

from bandwidth_async.cli import event_loop


async def seen() -> tuple[str, int]:
    """Return the module of the event loop, and the collector's threshold."""
    return type(asyncio.get_running_loop()).__module__, gc.get_threshold()[0]


def test_the_collector_is_given_back() -> None:
    """Its setting holds only while the command runs, also when the command fails."""
    before = gc.get_threshold()
    assert event_loop.run(seen())[1] == 50_000

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        event_loop.run(fails())
    assert gc.get_threshold() == before


def test_uvloop_is_used_where_it_is_installed() -> None:
    """uvloop is an optional package. The command uses it when it is installed."""
    pytest.importorskip("uvloop", reason="the extra 'fast' is not installed")
    assert event_loop.run(seen())[0].startswith("uvloop")


def test_without_uvloop_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command works without uvloop too."""
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert event_loop.run(seen())[0].startswith("asyncio")
