"""The loop of a command: uvloop where it is there, and a garbage collector that is given back."""

from __future__ import annotations

import asyncio
import builtins
import gc
import sys
from typing import Any

import pytest

from bandwidth_async.cli import loop


async def seen() -> tuple[str, int]:
    """Return what runs it, and from how many new objects on the collector looks."""
    return type(asyncio.get_running_loop()).__module__, gc.get_threshold()[0]


def test_the_collector_is_given_back() -> None:
    """Only a command's own time has other settings, also when it fails."""
    before = gc.get_threshold()
    assert loop.run(seen())[1] == 50_000

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.run(fails())
    assert gc.get_threshold() == before


def test_uvloop_is_used_where_it_is_installed() -> None:
    """An extra: nothing has to be said to use it."""
    pytest.importorskip("uvloop", reason="the extra 'fast' is not installed")
    assert loop.run(seen())[0].startswith("uvloop")


def test_without_uvloop_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody is the worse for it."""
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "uvloop":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert loop.run(seen())[0].startswith("asyncio")
