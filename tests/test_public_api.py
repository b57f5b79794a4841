"""The public API is written down in ``public_api.txt``, so that no change of it goes unnoticed."""

from __future__ import annotations

from difflib import unified_diff

import pytest

pytest.importorskip("celery", reason="Celery is not installed: pip install '.[celery]'")

from tests import public_api  # it imports what is public, Celery's module too


def test_the_public_api_is_the_one_that_is_written_down() -> None:
    """A name, a parameter, a default or an option that changes shows as a line of a diff."""
    written = public_api.FILE.read_text(encoding="utf-8").splitlines()
    now = public_api.text().splitlines()
    diff = "\n".join(unified_diff(written, now, "written", "now", lineterm="", n=0))
    advice = (
        "If you meant it, run `python -m tests.public_api`, put it into CHANGELOG.md and read what "
        "CONTRIBUTING.md says of names that go away."
    )
    assert not diff, f"The public API is another one.\n{diff}\n{advice}"


def test_a_parameter_that_is_renamed_shows() -> None:
    """The signature is on the line of the name, with its annotations and defaults."""

    def end(conference_id: str, *, deadline: float = 60.0) -> None:
        """Only its signature is of use."""

    async def wait(conference_id: str) -> None:
        """Only its signature is of use."""

    assert list(public_api.described("end", end)) == [
        "def end(conference_id: str, *, deadline: float = 60.0) -> None"
    ]
    assert list(public_api.described("wait", wait)) == ["def wait(conference_id: str) -> None async"]


def test_every_public_module_of_the_readme_is_there() -> None:
    """The modules that the guide calls public are those that are compared."""
    guide = (public_api.FILE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    promise = guide.partition("## What is public")[2].partition("\n## ")[0]
    for module in public_api.MODULES:
        assert f"`{module}`" in promise
