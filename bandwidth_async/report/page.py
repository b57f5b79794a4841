"""The page of a report: one HTML file that loads nothing, and its figures as JSON.

Everything that comes from a server or an input is escaped, and characters that do not print (those that turn
the direction of text around among them) are shown by their codes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.outcome import OutcomeKind
from bandwidth_async.report.chart import HEIGHT, STRIP, WIDTH, chart_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from jinja2 import Environment

    from bandwidth_async.report.figures import Figures, TimelineFigures

# How a report is known again, so that a later one may replace it.
GENERATOR = "bandwidth-async report"

MEANINGS = {
    OutcomeKind.ENDED: "the run ended it",
    OutcomeKind.ALREADY_ENDED: "it is over, but perhaps not through this run",
    OutcomeKind.NOT_FOUND: "the server does not know it",
    OutcomeKind.REFUSED: "the server said no, and would say no again",
    OutcomeKind.FAILED: "given up; certainly not ended, or some of its calls go on",
    OutcomeKind.UNKNOWN: "given up; it may have ended",
    OutcomeKind.NOT_ATTEMPTED: "the run stopped before its turn",
}

# Ids of a run that goes on which have no outcome yet.
OPEN = {
    "in_work": "taken up, and no answer is recorded yet",
    "waiting": "it is tried later, if the run goes on until then",
}

PAUSES = {
    "hint": "as the server asked",
    "refused": "after a 429 without a time",
    "unavailable": "because the server failed or did not answer",
}

# With this the JSON begins.
_JSON_HEAD = '{\n "format": 1,\n "made":'

# The settings of a start in words; those that are not on are left out.
_SETTINGS = {
    "rate": "{} requests a second",
    "concurrency": "{} conferences at once",
    "deadline": "deadline {} s",
    "attempts": "{} attempts for each id",
    "attempt_timeout": "{} s for an attempt",
    "outage": "waits {} s for a server that is down",
    "verify": "reads each ended conference back",
    "hang_up": "hangs up the calls",
}


def to_json(figures: Figures) -> str:
    """Return the figures as JSON. `Figures` says what they are."""
    return json.dumps(figures.to_dict(), indent=1) + "\n"


def to_html(figures: Figures, zone: tzinfo | None = None) -> str:
    """Return the page, with times in ``zone``: by default that of this machine.

    Raises `ConfigurationError` if jinja2 is not installed.
    """
    environment = load()
    facts = figures.to_dict()
    local = partial(_local, zone=zone)
    style = _read("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        facts=facts,
        f=partial(_figure, facts),
        generator=GENERATOR,
        style=style,
        digest=digest,
        verdict=verdict(figures),
        meanings={kind.value: meaning for kind, meaning in MEANINGS.items()},
        open=OPEN,
        pauses=PAUSES,
        chart=_chart(figures.timeline, local) if figures.timeline else None,
        local=local,
        settings=_in_words,
    )


@cache
def load() -> Environment:
    """Return what makes a page. Raises `ConfigurationError` if jinja2 is not installed."""
    try:
        # Nothing but a page needs it.
        from jinja2 import Environment, FunctionLoader, StrictUndefined  # noqa: PLC0415 - as the line above says
    except ImportError:
        raise ConfigurationError(
            "a report needs jinja2: pip install 'bandwidth_async[cli]'; its figures alone are JSON and do not"
        ) from None
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_read),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(shown=shown, duration=duration, figure=_number)
    return environment


def _read(name: str) -> str:
    return files("bandwidth_async.report").joinpath(name).read_text(encoding="utf-8")


def is_report(head: str) -> bool:
    """Return whether a file that begins so is a report, HTML or JSON."""
    return f'<meta name="generator" content="{GENERATOR}' in head or head.startswith(_JSON_HEAD)


def shown(text: str) -> str:
    """Return a text with every character that does not print as its code."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def verdict(figures: Figures) -> tuple[str, str]:
    """Return how it stands (``good``, ``open`` or ``bad``), and a sentence that says so."""
    total, counts = figures.total, figures.outcomes
    trouble = sum(counts[kind] for kind in OutcomeKind if kind.trouble)
    fine = sum(counts[kind] for kind in OutcomeKind if kind.fine)
    if figures.going_on:
        so_far = f"The run is going on: {figures.settled:,} of {total:,} conferences are settled so far."
        return "open", so_far if total else "The run has not begun: it reads its input, or waits for a yes."
    if not figures.complete:
        return "bad", "The run never began: its input was not recorded to the end, so nothing was sent."
    if not total:
        return "open", "There were no conferences to end."
    if counts["not_found"] == total:
        return "bad", f"None of the {total:,} conferences was found. The account may be the wrong one."
    if fine == total:
        return "good", f"Every one of the {total:,} conferences is over, as far as the server says."
    untried = counts["not_attempted"]
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in OutcomeKind if kind.trouble and counts[kind])
    parts = [f"{trouble:,} of {total:,} conferences may still be active: {kinds}."] if trouble else []
    if untried:
        parts.append(f"{untried:,} of {total:,} were not attempted.")
    if figures.settled < total:
        parts.append(f"A resume tries {total - figures.settled:,} again.")
    return "bad" if trouble else "open", " ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as a person reads it: 350 ms, 4.2 s, 42 s, 5 min 07 s, 26 h 05 min."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "less than 1 ms"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _figure(facts: dict[str, Any], path: str, how: str = "") -> Any:
    """Return the figure at a path, marked with it, so that the page can be compared with the JSON."""
    from markupsafe import Markup  # noqa: PLC0415 - jinja2 brings it

    value: Any = facts
    for name in path.split("."):
        value = value[int(name) if isinstance(value, list) else name]
    if value is None:
        return "not known"
    forms: dict[str, Callable[[float], str]] = {"": _number, "duration": duration, "share": "{:.0%}".format}
    text = forms[how](value)
    return Markup('<data value="{}" data-figure="{}">{}</data>').format(value, path, text)


def _number(value: float) -> str:
    """Return a number with thousands apart, and with two digits or more."""
    if isinstance(value, int) or value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def _local(iso: str, how: str = "%Y-%m-%d %H:%M:%S %:z", *, zone: tzinfo | None) -> str:
    """Return a time in a zone."""
    moment = datetime.fromisoformat(iso).astimezone(zone)
    offset = moment.strftime("%z")
    return moment.strftime(how.replace("%:z", f"{offset[:3]}:{offset[3:5]}"))


def _chart(line: TimelineFigures, local: Any) -> dict[str, Any]:
    """Return the shapes of the chart, and the times below it."""
    chart = chart_of(line)
    days = {local(line.cells[index].at, "%Y-%m-%d") for index, _ in chart.ticks}
    how = "%d %b %H:%M" if len(days) > 1 else "%H:%M" if line.seconds > 1200 else "%H:%M:%S"
    times = [
        local((datetime.fromisoformat(line.cells[index].at) + timedelta(seconds=seconds)).isoformat(), how)
        for index, seconds in chart.ticks
    ]
    return {"shapes": chart, "times": times, "width": WIDTH, "height": HEIGHT, "strip": STRIP}


def _in_words(settings: dict[str, Any]) -> str:
    """Return the settings of a start in words."""
    said = [] if settings.get("rate") else ["the rate was found out"]
    for name, words in _SETTINGS.items():
        value = settings.get(name)
        if value is not None and value is not False:
            said.append(words.format("" if value is True else _number(value)))
    return ", ".join(said)
