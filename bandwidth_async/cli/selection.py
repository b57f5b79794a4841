"""The choice among listed conferences: by name, by time of creation, or by age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bandwidth_async.durations import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable


# The units of `parse_duration`, one or several: 4h, 1h30m.
_PART = r"\d{1,12}(?:\.\d{1,9})?\s*(?:ms|[smhd])"


class Moment(NamedTuple):
    """A time as it was ``given``, and as it was understood: ``at`` is aware."""

    given: str
    at: datetime
    is_age: bool = False

    def in_words(self) -> str:
        """Return the time as it was understood, and why."""
        if self.is_age:
            return f"{in_utc(self.at)} ({self.given} ago)"
        named = datetime.fromisoformat(self.given.strip()).tzinfo
        return f"{in_utc(self.at)}{'' if named else ' (no zone given, so UTC)'}"

    def __repr__(self) -> str:
        # An age is another time at each start of a command. So only what was given identifies it.
        return self.given if self.is_age else repr(self.at)


def moment(context: click.Context, parameter: click.Parameter, value: str | None) -> Moment | None:
    """Return the time that an option names; an option callback.

    It is an ISO 8601 date or time, UTC where it names no zone, or an age.
    """
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        try:
            return age(context, parameter, value)
        except click.BadParameter:
            raise click.BadParameter(
                f"{value!r} is not a time; write 2026-11-22, 2026-11-22T08:30Z, or 4h for 4 hours ago"
            ) from None
    return Moment(value, at if at.tzinfo else at.replace(tzinfo=UTC))


def age(_: click.Context, __: click.Parameter, value: str | None) -> Moment | None:
    """Return the time that was 4h, 2d or 1h30m ago; an option callback."""
    if value is None:
        return None
    text = value.strip().lower()
    if not re.fullmatch(rf"(?:{_PART}\s*)+", text, re.ASCII):
        raise click.BadParameter(f"{value!r} is not an age: write 90m, 4h, 2d or 1h30m")
    seconds = sum(map(parse_duration, re.findall(_PART, text, re.ASCII)))
    try:
        return Moment(value.strip(), datetime.now(UTC) - timedelta(seconds=seconds), is_age=True)
    except OverflowError:
        raise click.BadParameter(f"{value!r} is longer than there is a calendar") from None


class Selection(NamedTuple):
    """Which of the listed conferences are meant. None stands for no condition."""

    name: str | None = None
    created_before: Moment | None = None
    created_after: Moment | None = None

    def query(self) -> dict[str, Any]:
        """Return it as `VoiceClient.list_conferences` takes it."""
        return {
            "name": self.name,
            "min_created_time": self.created_after and self.created_after.at,
            "max_created_time": self.created_before and self.created_before.at,
        }

    def in_words(self) -> str:
        """Return the conditions as they were understood: named x, created before 2026-11-27 12:00:00 UTC."""
        conditions = [f"named {self.name}"] if self.name is not None else []
        times = (("after", self.created_after), ("before", self.created_before))
        conditions += [f"created {word} {one.in_words()}" for word, one in times if one]
        return ", ".join(conditions)


def in_utc(at: datetime) -> str:
    """Return a time to the second in UTC, as a person reads it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def chosen(
    name: str | None, created_before: Moment | None, created_after: Moment | None, older_than: Moment | None
) -> Selection:
    """Return the selection of these options."""
    if created_before and older_than:
        raise click.UsageError("--created-before and --older-than say the same: give one of them")
    return Selection(name=name, created_before=created_before or older_than, created_after=created_after)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose among listed conferences."""
    for option in (
        click.option(
            "--older-than",
            metavar="AGE",
            callback=age,
            help="Only those created that long ago or earlier: 90m, 4h, 2d, 1h30m.",
        ),
        click.option(
            "--created-after",
            metavar="T",
            callback=moment,
            help="Only those created at T or later.",
        ),
        click.option(
            "--created-before",
            metavar="T",
            callback=moment,
            help="Only those created at T or earlier. T is a date or time in ISO 8601, in UTC unless it has "
            "a zone (2026-11-22T08:30-05:00), or an age (2d: two days ago).",
        ),
        click.option("--name", metavar="N", help="Only those named exactly N."),
    ):
        command = option(command)
    return command
