"""The names that ``bandwidth_async.webhooks`` exports, with a docstring for each."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from bandwidth_async import webhooks

EXPLAINED = [name for name in webhooks.__all__ if name not in {"Event", "Receiver"}]  # these are only types


def test_the_names_are_sorted_and_all_there_is() -> None:
    """The package exports all that it imports, and nothing else."""
    found = {
        name
        for name, value in vars(webhooks).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert webhooks.__all__ == sorted(found)


@pytest.mark.parametrize("name", EXPLAINED)
def test_everything_public_has_a_sentence(name: str) -> None:
    """So has each public method and property."""
    value = getattr(webhooks, name)
    members = vars(value).items() if inspect.isclass(value) else ()
    public = [
        member
        for part, member in members
        if not part.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]
    for documented in (value, *public):
        assert re.search(r"[.:](\s|$)", documented.__doc__ or "")
