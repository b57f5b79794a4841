"""The report of a run: its figures, and a page that shows the same, loads nothing and escapes everything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError, JournalError
from bandwidth_async.journal import Journal, Shard
from bandwidth_async.journal.facts import Cause, Part, cause_of, read_facts
from bandwidth_async.journal.timeline import LATENCIES, MOST, Moment
from bandwidth_async.outcome import Outcome, OutcomeKind
from bandwidth_async.report import Figures, figures_of, to_html, to_json
from bandwidth_async.report import page as page_module
from bandwidth_async.report.figures import Trouble, _figures, _timeline
from bandwidth_async.report.page import is_report, shown
from tests.test_journal_timeline import earlier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BEGAN = 1_795_344_312.5
NOW = datetime.fromtimestamp(BEGAN + 1000, UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</title></style></svg><b>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202egpj.exe",  # right to left
    "\u2066hidden\u2069\u200b",
    "\x1b[2J\x07\r\n",
    "&lt;&#60;&amp;",
    "=1+1",
    "\ud800".encode(errors="replace").decode(),
    "é😀漢",
]


def outcome(id_: str, kind: OutcomeKind = OutcomeKind.ENDED, attempts: int = 1, **more: Any) -> Outcome:
    return Outcome(id_, kind, attempts, more.pop("error", None), more.pop("elapsed", 0.1))


def recorded(path: Path, outcomes: Sequence[Outcome], **settings_: Any) -> Path:
    """Make a journal with these outcomes."""

    async def record() -> None:
        async with Journal.create(path, account_id="9900000", created=BEGAN, **settings_) as journal:
            await journal.record(one.conference_id for one in outcomes)
            kept = list(journal.unsettled())
            known = {one.conference_id: one for one in outcomes}
            await asyncio.gather(*(journal.settle(one, known[one.conference_id]) for one in kept))

    asyncio.run(record())
    return path


def lived(path: Path, moments: Sequence[Moment], *, part: int = 1, at: float = BEGAN, **facts: Any) -> None:
    """Give a journal a part of a time line, of a second for each moment."""
    facts = {"host": "voice.example", "ended": at + len(moments), **facts}
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO parts VALUES (?, ?, ?)", (part, at, json.dumps(facts)))
        rows = [(part * MOST + n, at + n, 1.0, moment.to_json()) for n, moment in enumerate(moments)]
        connection.executemany("INSERT INTO timeline VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


def moment(ended: int = 0, **more: Any) -> Moment:
    made = Moment(attempts=more.pop("attempts", ended), **more)
    made.outcomes["ended"] += ended
    made.latency[LATENCIES.index(0.1)] += ended
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a journal with every kind of thing in it."""
    path = recorded(
        tmp_path / "20261128T014512Z-abc123.journal",
        [
            *(outcome(f"conf-{number}", elapsed=number / 10) for number in range(1, 31)),
            outcome("slow", attempts=12, elapsed=99.5),
            outcome("gone", OutcomeKind.NOT_FOUND),
            *(
                outcome(f"bad-{n}", OutcomeKind.FAILED, 5, error=f"end conference bad-{n}: answered 503")
                for n in range(4)
            ),
            outcome("lost", OutcomeKind.UNKNOWN, 2, error="no answer within 15 s"),
        ],
    )
    moments = [moment(10, retries=2, rate=50.0), moment(0, refused=3), moment(20, failed=4, quota=40.0)]
    moments[1].pause("hint", 0.75)
    lived(path, moments, settings={"rate": None, "concurrency": 100, "verify": True})
    return path


# Figures


def test_the_figures_of_a_run(path: Path) -> None:
    """Outcomes, attempts, causes and the slowest ids are those of the journal."""
    figures = figures_of([path], NOW)
    assert (figures.total, figures.settled, figures.attempts) == (37, 32, 30 + 12 + 1 + 20 + 2)
    met = {kind: count for kind, count in figures.outcomes.items() if count}
    assert met == {"ended": 31, "not_found": 1, "failed": 4, "unknown": 1}
    assert list(figures.outcomes) == list(OutcomeKind)
    assert [(one.attempts, one.ids) for one in figures.tries] == [(1, 31), (2, 1), (5, 4), (10, 1)]
    failed, unknown = figures.troubles
    assert (failed.cause, failed.ids, failed.examples) == ("answered 503", 4, ["bad-0", "bad-1", "bad-2"])
    assert (unknown.outcome, unknown.cause) == ("unknown", "no answer within … s")
    assert [one.conference_id for one in figures.slowest][:2] == ["slow", "conf-30"]
    assert (figures.hosts, figures.accounts, figures.notes) == (["voice.example"], ["9900000"], [])


def test_the_time_line_of_a_run(path: Path) -> None:
    """Each second is a cell of a short run. The sums are those of the seconds."""
    line = figures_of([path], NOW).timeline
    assert line is not None
    assert (line.seconds, line.attempts, line.ids, line.retries, line.refused, line.failed) == (
        *(3.0, 30, 30),
        *(2, 3, 4),
    )
    assert (line.paused, line.limit, line.cuts) == ({"hint": 0.8}, 40.0, [])
    assert [(cell.settled, cell.paused, cell.pause_reason, cell.limit) for cell in line.cells] == [
        (10, 0.0, None, None),
        (0, 0.75, "hint", None),
        (20, 0.0, None, 40.0),
    ]


def test_shards_side_by_side_add_up_and_a_gap_is_cut_out(tmp_path: Path) -> None:
    """The limits of shards that share one are not added, those of others are."""
    for number, (shared, quota) in enumerate([(False, 30.0), (False, 20.0), (True, 7.0), (True, 7.0)]):
        shard = recorded(tmp_path / str(number), [outcome(f"conf-{number}")], shard=Shard(number, 5))
        lived(shard, [moment(10, quota=quota)] * 2, shared=shared)
        lived(shard, [moment(1)], part=2, at=BEGAN + 9000)
    figures = figures_of([tmp_path / str(number) for number in range(4)], NOW)
    line = figures.timeline
    assert line is not None
    assert [(cell.settled, cell.limit) for cell in line.cells] == [(40, 57), (40, 57), (4, None)]
    assert (line.seconds, line.cuts) == (3.0, [2])
    assert figures.notes == ["shard 4/5 is not among these journals"]
    assert [one.shard for one in figures.journals] == ["0/5", "1/5", "2/5", "3/5"]


def test_what_a_stop_gives_up_is_not_settled(tmp_path: Path) -> None:
    """The last second of an outage would otherwise look like the fastest of the run."""
    stopped = moment(2)
    stopped.outcomes.update({"failed": 50, "unknown": 40, "not_attempted": 900, "not_found": 3})
    lived(recorded(tmp_path / "j", [outcome("a")]), [stopped])
    line = figures_of([tmp_path / "j"]).timeline
    assert line is not None
    assert (line.ids, line.cells[0].settled) == (5, 5)


def test_a_rate_that_was_set_is_no_limit_of_the_server(tmp_path: Path) -> None:
    """Nothing was to be found out. It has a line of its own."""
    lived(recorded(tmp_path / "j", [outcome("a")]), [moment(20, rate=25.0)], settings={"rate": 25.0})
    line = figures_of([tmp_path / "j"]).timeline
    assert line is not None
    assert (line.limit, line.set_rate, line.cells[0].set_rate) == (None, 25.0, 25.0)
    page = to_html(figures_of([tmp_path / "j"]))
    assert "rate that was set (--rate)" in page
    assert "limit of the server</li>" not in page


spans = st.lists(
    st.tuples(st.floats(0, 2e5), st.floats(0.001, 5000), st.integers(0, 1000)), min_size=1, max_size=60
)


@given(spans)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_no_request_is_lost_between_cells(given_spans: list[tuple[float, float, int]]) -> None:
    """However long the run, however odd its seconds: few cells, in order, whose sum is that of the run."""
    moments = [(BEGAN + at, seconds, moment(count)) for at, seconds, count in sorted(given_spans)]
    line = _timeline([Part(BEGAN, None, {}, moments)])
    assert line is not None
    assert len(line.cells) <= 140
    assert sum(cell.attempts for cell in line.cells) == pytest.approx(line.attempts, abs=1.0)
    assert all(one.at <= two.at for one, two in pairwise(line.cells))
    assert all(0 <= cell.paused <= 1 for cell in line.cells)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("end conference c-1: answered 503 (after 5 attempts)", "answered 503"),
        ("answered 429 (try again in 3.25 s)", "answered 429 (try again in … s)"),
        ("answered 500: request 7f9c2b1e-77aa-4d1c-9f00-1234567890ab", "answered 500: request …"),
        ("answered 403 (no access)", "answered 403 (no access)"),
        ("c-1 is in use", "… is in use"),
    ],
)
def test_a_cause_leaves_out_what_each_id_has_of_its_own(error: str, cause: str) -> None:
    """Otherwise a thousand failures would be a thousand causes."""
    assert cause_of(error, "c-1") == cause


def test_what_every_id_has_for_itself_is_counted_together(tmp_path: Path) -> None:
    """A server that says something new each time makes no long page."""
    failed = [outcome(f"c{n}", OutcomeKind.FAILED, error="x" * n) for n in range(1, 1101)]
    figures = figures_of([recorded(tmp_path / "j", failed)])
    assert (len(figures.troubles), figures.other_troubles) == (20, 1080)


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_of_an_earlier_version_tells_what_is_not_known(version: int, tmp_path: Path) -> None:
    """The page has all sections, and no figure that nobody knows."""
    earlier(tmp_path / "old.journal", version)
    figures = figures_of([tmp_path / "old.journal"])
    assert (figures.timeline, figures.latencies, figures.total) == (None, None, 2)
    (note,) = figures.notes
    assert note.startswith("The journal was begun by an earlier version")
    assert "begun by an earlier version" in to_html(figures)


def test_a_run_that_was_killed_is_told_as_that(tmp_path: Path) -> None:
    """Its last start has no end."""
    lived(recorded(tmp_path / "j", [outcome("a")]), [moment(1)])
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as connection:
        connection.execute("UPDATE parts SET facts = '{}'")
    figures = figures_of([tmp_path / "j"])
    assert figures.notes == ["a process was killed, so the last second before that is not on the time line"]
    assert "Cut off: the process was killed." in to_html(figures)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("facts", "[]"),
        ("facts", "1"),
        ("facts", '{"attempts": "x"}'),
        ("facts", '{"attempts": 1e999}'),
        ("facts", '{"attempts": -1}'),
        ("facts", f'{{"retries": {10**400}}}'),
        ("facts", '{"latency": {"99": 1}}'),
        ("facts", '{"latency": {"-1": 1}}'),
        ("facts", '{"outcomes": {"ended": 1e999}}'),
        ("facts", '{"paused": 3}'),
        ("facts", '{"paused": {"hint": -1e999}}'),
        ("facts", '{"rate": 1e999}'),
        ("facts", '{"quota": -1}'),
        ("at", 9e999),
        ("at", -1e300),
        ("at", 1e15),
        ("seconds", 9e999),
        ("seconds", 1e300),
        ("seconds", 1e13),
        ("began", 9e999),
        ("began", 1e300),
        ("part_facts", "[1]"),
        ("part_facts", '{"ended": 1e999}'),
        ("part_facts", '{"ended": "x"}'),
        ("part_facts", '{"settings": {"rate": 1e999}}'),
    ],
)
def test_a_time_line_that_nobody_wrote(path: Path, column: str, value: str | float) -> None:
    """It is one sentence that names the file, and no traceback."""
    table = "parts" if column in {"began", "part_facts"} else "timeline"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE {table} SET {column.removeprefix('part_')} = ?", (value,))  # noqa: S608  # names of our own
    with pytest.raises(JournalError, match=r"abc123\.journal is damaged: its time line cannot be read"):
        figures_of([path])


# The page


@define
class Page(HTMLParser):
    """What a page is made of."""

    tags: list[tuple[str, dict[str, str | None]]] = field(factory=list)
    texts: list[str] = field(factory=list)
    figures: dict[str, str] = field(factory=dict)
    open: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        HTMLParser.__init__(self)

    @classmethod
    def of(cls, text: str) -> Page:
        """Parse a page."""
        page = cls()
        page.feed(text)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, and the figure of a ``data`` element."""
        facts = dict(attrs)
        self.tags.append((tag, facts))
        if tag == "data":
            self.figures[str(facts["data-figure"])] = str(facts["value"])

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all tags of a name."""
        return [facts for name, facts in self.tags if name == tag]


def numbers_in(facts: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the path and value of each number of the JSON."""
    if isinstance(facts, dict | list):
        pairs = facts.items() if isinstance(facts, dict) else enumerate(facts)
        for name, value in pairs:
            yield from numbers_in(value, f"{path}.{name}" if path else str(name))
    elif isinstance(facts, int | float) and not isinstance(facts, bool):
        yield path, facts


def test_the_page_and_the_json_have_the_same_figures(path: Path) -> None:
    """Each number of the page is the one of the JSON, and each of the JSON is on the page."""
    figures = figures_of([path, recorded(path.with_name("2"), [outcome("x")])], NOW)
    facts = json.loads(to_json(figures))
    said = Page.of(to_html(figures)).figures
    wanted = dict(numbers_in(facts))
    # Told in words: the settings. Told by other figures: empty leftovers, sums, and bounds of a bin.
    for name in list(wanted):
        if re.fullmatch(
            r"format|in_work|waiting|starts\..*|other_\w+|timeline\.(attempts|failed|ids|cuts.*)|.*up_to|\w+\.attempts",
            name,
        ):
            del wanted[name]
    assert wanted.items() <= {name: float(value) for name, value in said.items()}.items()
    for name, value in said.items():
        assert float(value) == dict(numbers_in(facts))[name], name


def test_the_page_loads_nothing_and_runs_nothing(path: Path) -> None:
    """Its policy allows its own style alone, known by its hash."""
    text = to_html(figures_of([path], NOW))
    page = Page.of(text)
    names = {name for name, _ in page.tags}
    assert names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "use"} == set()
    attributes = {attribute for _, facts in page.tags for attribute in facts}
    assert not {one for one in attributes if one.startswith("on")} | attributes & {"style", "src", "href"}
    assert not re.search(r"url\(|@import|https?:", text)
    (style,) = re.findall(r"<style>(.*)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [one["content"] for one in page.named("meta") if "http-equiv" in one]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_page_can_be_read_aloud(path: Path) -> None:
    """It has a language, landmarks, headings in order, labelled regions and tables with headers."""
    page = Page.of(to_html(figures_of([path], NOW)))
    assert page.named("html") == [{"lang": "en"}]
    for landmark in ("header", "main", "footer", "h1", "title"):
        assert len(page.named(landmark)) == 1
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert all(two <= one + 1 for one, two in pairwise(levels))
    ids = {facts["id"] for _, facts in page.tags if "id" in facts}
    assert {facts["aria-labelledby"] for _, facts in page.tags if "aria-labelledby" in facts} <= ids
    assert all("scope" in facts for facts in page.named("th"))
    for picture in page.named("svg"):
        assert picture.get("aria-hidden") == "true" or (picture["role"] == "img" and picture["aria-label"])
    # The chart has a table with the same figures.
    assert len(page.named("figure")) == len(page.named("figcaption")) == len(page.named("details")) == 1


def test_colours_can_be_told_apart() -> None:
    """Texts have a contrast of 4.5 to 1 at least, and shapes of 3 to 1, in light, dark and print."""
    css = page_module._read("report.css")
    blocks = re.findall(r":root \{.*?\}", css, re.DOTALL)
    palettes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]
    assert len(palettes) == 3
    for colours in palettes:
        for ground in ("paper", "card"):
            for text in ("ink", "soft", "link"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, colours)
        for shape in ("settled", "limit", "good", "open", "bad", *OutcomeKind):
            assert contrast(colours[shape], colours["paper"]) >= 3, (shape, colours)


def contrast(one: str, two: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Return the figures of a small run."""
    path = recorded(tmp_path_factory.mktemp("plain") / "run.journal", [outcome("conf-1")])
    lived(path, [moment(1)])
    return figures_of([path], NOW)


def with_texts(figures: Figures, text: str) -> Figures:
    """Return figures that have a text wherever one can come from outside."""
    return evolve(
        figures,
        accounts=[text],
        hosts=[text],
        notes=[f"n{text}"],
        troubles=[Trouble(outcome="failed", cause=text, ids=3, examples=[text, text])],
        slowest=[evolve(one, conference_id=text) for one in figures.slowest],
        journals=[evolve(one, run=text) for one in figures.journals],
        starts=[evolve(one, host=text, program=text, python=text, run=text) for one in figures.starts],
    )


def check_escaped(plain: Figures, text: str) -> None:
    safe, hostile = (Page.of(to_html(with_texts(plain, one))) for one in ("plain", text))
    assert [name for name, _ in hostile.tags] == [name for name, _ in safe.tags]
    assert [set(facts) for _, facts in hostile.tags] == [set(facts) for _, facts in safe.tags]
    whole = "".join(hostile.texts)
    assert whole.count(shown(text)) >= 8
    assert all(one.isprintable() or one == "\n" for one in whole)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_a_text(plain: Figures, text: str) -> None:
    """No element, no attribute, no direction of text comes of it."""
    check_escaped(plain, text)


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=60)
def test_any_text_is_a_text(plain: Figures, text: str) -> None:
    """Also those that nobody has thought of."""
    check_escaped(plain, text.strip() or "x")


def test_a_million_ids_weigh_as_much_as_a_thousand(path: Path) -> None:
    """The page is bounded in all that it lists: 300 kB at most, with everything at its longest."""
    busy = moment(123_456, refused=99_999, quota=123_456.78)
    busy.pause("unavailable", 0.123)
    facts = {"host": "h" * 300, "settings": {"rate": 1234567.891}}
    causes = [
        Cause(OutcomeKind.NOT_ATTEMPTED, chr(33 + n % 90) * 300, 10**9, ["i" * 300] * 3) for n in range(90)
    ]
    one = evolve(read_facts(path), causes=causes, slowest=[outcome("i" * 300, elapsed=1e5)] * 10)
    runs = [
        evolve(
            one,
            info=evolve(one.info, path=path.with_name(f"{n:0300}"), shard=Shard(n, 52)),
            parts=[Part(BEGAN + n, None, facts, [(BEGAN + 1000 * n + at, 1.0, busy) for at in range(99)])],
        )
        for n in range(52)
    ]
    figures = _figures(runs, NOW)
    assert (figures.other_journals, figures.other_starts) == (2, 32)
    assert len(to_html(figures).encode()) <= 300_000


@pytest.mark.parametrize(
    ("counts", "changes", "how", "sentence"),
    [
        ({"ended": 3}, {}, "good", "Every one of the 3 conferences is over, as far as the server says."),
        (
            {"ended": 1, "refused": 1, "failed": 2, "not_attempted": 4},
            {},
            "bad",
            "3 of 8 conferences may still be active: 1 refused, 2 failed. 4 of 8 were not attempted."
            " A resume tries 6 again.",
        ),
        (
            {"ended": 1},
            {"going_on": True},
            "open",
            "The run is going on: 1 of 1 conferences are settled so far.",
        ),
        (
            {"not_found": 2},
            {},
            "bad",
            "None of the 2 conferences was found. The account may be the wrong one.",
        ),
        ({}, {}, "open", "There were no conferences to end."),
        (
            {"not_attempted": 2},
            {"complete": False},
            "bad",
            "The run never began: its input was not recorded to the end, so nothing was sent.",
        ),
    ],
)
def test_the_first_sentence(
    plain: Figures, counts: dict[str, int], changes: dict[str, Any], how: str, sentence: str
) -> None:
    """It says whether anything is left to do."""
    outcomes = {kind.value: counts.get(kind, 0) for kind in OutcomeKind}
    settled = sum(count for kind, count in outcomes.items() if OutcomeKind(kind).settled)
    figures = evolve(plain, outcomes=outcomes, total=sum(outcomes.values()), settled=settled, **changes)
    assert page_module.verdict(figures) == (how, sentence)
    assert sentence in to_html(figures)


def test_times_name_their_zone(path: Path) -> None:
    """A colleague elsewhere reads them right."""
    text = to_html(figures_of([path], NOW), timezone(timedelta(hours=5, minutes=30)))
    began = datetime.fromtimestamp(BEGAN, UTC)
    assert f"{began + timedelta(hours=5, minutes=30):%Y-%m-%d %H:%M:%S} +05:30" in text


def test_without_jinja2_the_figures_are_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    page_module.load.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    figures = figures_of([path])
    assert json.loads(to_json(figures))["total"] == 37
    with pytest.raises(ConfigurationError, match=r"pip install 'bandwidth_async\[cli\]'"):
        to_html(figures)


def test_a_report_is_known_again(plain: Figures) -> None:
    """So a later one may replace it, and no other file."""
    assert is_report(to_html(plain)[:2000])
    assert is_report(to_json(plain)[:2000])
    assert not is_report("<!DOCTYPE html>")
    assert not is_report('{"format": 1}')


def test_counts_of_a_report_are_a_counter_of_kinds(path: Path) -> None:
    """The sum of the outcomes is the total."""
    figures = figures_of([path])
    assert Counter(figures.outcomes).total() == figures.total
