"""The figures of a report: sums, rates, latencies and causes of the runs of one or more journals.

A time line is drawn over the time in which any of the runs was at work. So the hours between a run and its
resume take no room, and the rates of shards that ran side by side add up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, frozen

from bandwidth_async._version import __version__
from bandwidth_async.journal.facts import EXAMPLES, SLOWEST, Part, RunFacts, read_facts
from bandwidth_async.journal.shard import gaps
from bandwidth_async.journal.timeline import LATENCIES, Moment
from bandwidth_async.outcome import OutcomeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from os import PathLike

# Cells of a time line at most, and the seconds that a cell may have. Behind the last one they double.
_CELLS = 120
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)

# Seconds without any run at work that are cut out of the time line, and its uncut pieces at most.
_GAP, _PIECES = 5.0, 20

# What a report shows at most: causes of errors, journals and starts.
_CAUSES, _JOURNALS, _STARTS = 20, 50, 20

# More attempts than this are counted together.
_ATTEMPTS = 10

# Characters of an id or a text that a report shows at most.
_LONGEST = 300

_PERCENTILES = (0.5, 0.9, 0.99)


@frozen(kw_only=True)
class JournalFigures:
    """One journal: its run, its shard (``0/4``) or None, and how far it has come.

    ``state`` is ``finished``, ``unfinished``, ``going on`` or ``input incomplete``.
    """

    run: str
    account_id: str
    created: str
    shard: str | None
    total: int
    settled: int
    state: str


@frozen(kw_only=True)
class Start:
    """A start or a resume of a run: with which program and settings, at which host, from when to when.

    ``ended`` is None while it goes on, and if its process was killed.
    """

    run: str
    began: str
    ended: str | None
    host: str | None
    program: str | None
    python: str | None
    settings: dict[str, float | bool | None]


@define(kw_only=True)
class Cell:
    """Some seconds of the time line, from ``at`` on.

    ``attempts``, ``retries``, ``refused`` and ``failed`` count requests, as `Timeline` does. ``settled``
    counts ids. ``paused`` is the share of the time in which nothing was sent, and
    ``pause_reason`` why for the most part. ``limit`` is the requests per second that the server is believed
    to allow, None if that is not known, and ``set_rate`` those that the user allowed, if any. Counts
    have fractions where a second of a run belongs to two cells.
    """

    at: str
    seconds: float
    attempts: float = 0.0
    retries: float = 0.0
    refused: float = 0.0
    failed: float = 0.0
    settled: float = 0.0
    paused: float = 0.0
    pause_reason: str | None = None
    limit: float | None = None
    set_rate: float | None = None


@frozen(kw_only=True)
class TimelineFigures:
    """What happened when.

    ``seconds`` is the time in which any run was at work. ``paused`` has the seconds of pauses by their reason
    (``hint``, ``refused``, ``unavailable``), those of several runs added up. ``ids`` are the settled ids
    that are on the time line; a process that is killed loses its last second of it. ``limit`` and
    ``set_rate`` are the last ones. ``cuts`` are the indexes of cells before which no run was at work for a
    while.
    """

    seconds: float
    attempts: int
    retries: int
    refused: int
    failed: int
    ids: int
    paused: dict[str, float]
    limit: float | None
    set_rate: float | None
    cuts: list[int]
    cells: list[Cell]


@frozen(kw_only=True)
class Bin:
    """How many responses took at most ``up_to`` seconds and longer than the bin before; None for no bound."""

    up_to: float | None
    responses: int


@frozen(kw_only=True)
class Latencies:
    """The times from sending a request to the status of its response; estimates of them, in seconds."""

    responses: int
    p50: float
    p90: float
    p99: float
    bins: list[Bin]


@frozen(kw_only=True)
class Tries:
    """How many ids took how many attempts; the last row has those that took ``attempts`` or more."""

    attempts: int
    ids: int


@frozen(kw_only=True)
class Trouble:
    """A cause of errors, the ids that met it, and a few of them."""

    outcome: str
    cause: str
    ids: int
    examples: list[str]


@frozen(kw_only=True)
class Slow:
    """One of the ids that took longest."""

    conference_id: str
    outcome: str
    seconds: float
    attempts: int


@frozen(kw_only=True)
class Figures:
    """All that a report tells, and what it does not know, as sentences in ``notes``.

    Times are ISO 8601 in UTC. ``outcomes`` has all seven kinds. While a run goes on, ids that are
    taken up and have no outcome yet are ``in_work``, and those before their turn ``waiting``. ``timeline``
    and ``latencies`` are None if they are not known. `to_dict` returns the same as plain values: the JSON of
    a report.
    """

    made: str
    program: str
    accounts: list[str]
    hosts: list[str]
    began: str
    total: int
    settled: int
    going_on: bool
    complete: bool
    verify: bool
    hang_up: bool
    attempts: int
    in_work: int
    waiting: int
    outcomes: dict[str, int]
    notes: list[str]
    timeline: TimelineFigures | None
    latencies: Latencies | None
    tries: list[Tries]
    troubles: list[Trouble]
    other_troubles: int
    slowest: list[Slow]
    journals: list[JournalFigures]
    other_journals: int
    starts: list[Start]
    other_starts: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values. ``format`` is the version of how they look."""
        return {"format": 1, **asdict(self)}


def figures_of(paths: Sequence[str | PathLike[str]], now: datetime | None = None) -> Figures:
    """Return the figures of the runs of some journals, which may still be going on. Raises `JournalError`."""
    return _figures([read_facts(path) for path in paths], now or datetime.now(UTC))


def _figures(runs: list[RunFacts], now: datetime) -> Figures:
    infos = [run.info for run in runs]
    counts, in_work, waiting = _counted(runs)
    parts = [part for run in runs for part in run.parts or ()]
    moments = [one for part in parts for _, _, one in part.moments]
    starts = sorted(_starts(runs), key=lambda start: start.began)
    journals = [_journal(run) for run in runs]
    troubles, others = _troubles(runs)
    timeline = _timeline(parts)
    return Figures(
        made=_iso(now.timestamp()),
        program=__version__,
        accounts=sorted({info.account_id for info in infos}),
        hosts=sorted({start.host for start in starts if start.host}),
        began=_iso(min(info.created.timestamp() for info in infos)),
        total=counts.total() + in_work + waiting,
        settled=sum(one.settled for one in journals),
        going_on=any(info.in_use for info in infos),
        complete=all(info.complete for info in infos),
        verify=any(run.verify for run in runs),
        hang_up=any(run.hang_up for run in runs),
        attempts=sum(run.sent for run in runs),
        in_work=in_work,
        waiting=waiting,
        outcomes={kind.value: counts[kind] for kind in OutcomeKind},
        notes=list(_notes(runs, timeline)),
        timeline=timeline,
        latencies=_latencies(moments),
        tries=_tries(sum((run.attempts for run in runs), Counter[int]())),
        troubles=troubles,
        other_troubles=others,
        slowest=_slowest(runs),
        journals=journals[:_JOURNALS],
        other_journals=len(journals[_JOURNALS:]),
        starts=starts[-_STARTS:],
        other_starts=len(starts[:-_STARTS]),
    )


def _counted(runs: list[RunFacts]) -> tuple[Counter[str], int, int]:
    """Return how many ids have which outcome, and how many of runs that go on are in work or wait."""
    counts, in_work, waiting = Counter[str](), 0, 0
    for run in runs:
        counts.update(run.info.counts)
        if run.info.in_use:
            in_work += run.in_work
            counts[OutcomeKind.UNKNOWN] -= run.in_work
            waiting += run.info.counts[OutcomeKind.NOT_ATTEMPTED]
            counts[OutcomeKind.NOT_ATTEMPTED] -= run.info.counts[OutcomeKind.NOT_ATTEMPTED]
    return counts, in_work, waiting


def _notes(runs: list[RunFacts], timeline: TimelineFigures | None) -> Iterator[str]:
    """Yield a sentence for each thing that the figures do not know, or that is missing."""
    infos = [run.info for run in runs]
    yield from gaps([info.shard for info in infos if info.shard is not None])
    if len({info.digest for info in infos if info.shard and info.digest}) > 1:
        yield "these shards are not of the same input: an id may be in none of them"
    if any(info.in_use and not info.complete for info in infos):
        yield "a run has not begun: it reads its input, or waits for a yes"
    if not all(info.complete or info.in_use for info in infos):
        yield "the input was not recorded to its end, so nothing was sent for it"
    old = sum(run.parts is None for run in runs)
    if old:
        which = "The journal was" if len(runs) == 1 else f"{old} of {len(runs)} journals were"
        yield (
            f"{which} begun by an earlier version of the program, which kept no time line: rates, pauses,"
            " 429s, response times and settings are not known"
        )
    if any(part.ended is None for run in runs for part in run.parts or () if not run.info.in_use):
        yield "a process was killed, so the last second before that is not on the time line"
    if timeline is not None and not timeline.attempts and timeline.ids:
        yield "the workers of a queue sent the requests: 429s, pauses and response times are not known"


def _journal(run: RunFacts) -> JournalFigures:
    info = run.info
    settled = sum(info.counts[kind] for kind in OutcomeKind if kind.settled)
    state = "finished" if settled == info.total else "unfinished"
    if not info.complete:
        state = "input incomplete"
    if info.in_use:
        state = "going on"
    return JournalFigures(
        run=_cut(info.path.stem),
        account_id=_cut(info.account_id),
        created=_iso(info.created.timestamp()),
        shard=str(info.shard) if info.shard else None,
        total=info.total,
        settled=settled,
        state=state,
    )


def _starts(runs: list[RunFacts]) -> Iterator[Start]:
    for run in runs:
        for part in run.parts or ():
            host, program, python = (_text(part.facts.get(name)) for name in ("host", "program", "python"))
            settings = part.facts.get("settings")
            known = settings.items() if isinstance(settings, dict) else ()
            yield Start(
                run=_cut(run.info.path.stem),
                began=_iso(part.began),
                ended=None if part.ended is None else _iso(part.ended),
                host=host,
                program=program,
                python=python,
                settings={name: value for name, value in known if value is None or type(value) in _PLAIN},
            )


_PLAIN = {bool, int, float}


def _tries(attempts: Counter[int]) -> list[Tries]:
    rows = Counter[int]()
    for count, ids in attempts.items():
        rows[min(count, _ATTEMPTS)] += ids
    return [Tries(attempts=count, ids=ids) for count, ids in sorted(rows.items())]


def _troubles(runs: list[RunFacts]) -> tuple[list[Trouble], int]:
    """Return the most frequent causes, and how many ids met another."""
    found: dict[tuple[str, str], Trouble] = {}
    for run in runs:
        for cause in run.causes:
            key = (cause.kind.value, cause.text)
            one = found.get(key) or Trouble(outcome=key[0], cause=_cut(key[1]), ids=0, examples=[])
            examples = [*one.examples, *map(_cut, cause.examples)][:EXAMPLES]
            found[key] = Trouble(
                outcome=one.outcome, cause=one.cause, ids=one.ids + cause.ids, examples=examples
            )
    troubles = sorted(found.values(), key=lambda one: -one.ids)
    others = sum(one.ids for one in troubles[_CAUSES:]) + sum(run.other_causes for run in runs)
    return troubles[:_CAUSES], others


def _slowest(runs: list[RunFacts]) -> list[Slow]:
    outcomes = sorted((one for run in runs for one in run.slowest), key=lambda one: -one.elapsed)
    return [
        Slow(
            conference_id=_cut(one.conference_id),
            outcome=one.kind.value,
            seconds=round(one.elapsed, 3),
            attempts=one.attempts,
        )
        for one in outcomes[:SLOWEST]
    ]


def _latencies(moments: Iterable[Moment]) -> Latencies | None:
    """Return how long responses took, None without any."""
    counts = [sum(column) for column in zip(*(moment.latency for moment in moments), strict=True)]
    if not sum(counts):
        return None
    p50, p90, p99 = (_percentile(counts, share) for share in _PERCENTILES)
    used = [index for index, count in enumerate(counts) if count]
    bins = [
        Bin(up_to=LATENCIES[index] if index < len(LATENCIES) else None, responses=counts[index])
        for index in range(used[0], used[-1] + 1)
    ]
    return Latencies(responses=sum(counts), p50=p50, p90=p90, p99=p99, bins=bins)


def _percentile(counts: Sequence[int], share: float) -> float:
    """Return the latency that this share of the responses did not exceed, as if those of a bin were even."""
    wanted, before = share * sum(counts), 0
    for index, count in enumerate(counts):
        if count and before + count >= wanted:
            low = LATENCIES[index - 1] if index else 0.0
            high = LATENCIES[min(index, len(LATENCIES) - 1)]
            return round(low + (high - low) * (wanted - before) / count, 4)
        before += count
    return LATENCIES[-1]


# The time line


def _timeline(parts: list[Part]) -> TimelineFigures | None:
    """Return the time line of all parts together, None without any."""
    spans = sorted((at, at + seconds) for part in parts for at, seconds, _ in part.moments)
    if not spans:
        return None
    pieces = _pieces(spans)
    grid = _Grid(pieces)
    moments = [one for part in parts for _, _, one in part.moments]
    paused: dict[str, float] = {}
    for part in parts:
        grid.add(part)
        for _, _, moment in part.moments:
            for reason, seconds in moment.paused.items():
                paused[reason] = round(paused.get(reason, 0.0) + seconds, 1)
    cells = grid.finished()
    return TimelineFigures(
        seconds=round(sum(end - begin for begin, end in pieces), 1),
        attempts=sum(one.attempts for one in moments),
        retries=sum(one.retries for one in moments),
        refused=sum(one.refused for one in moments),
        failed=sum(one.failed for one in moments),
        ids=sum(_settled(one) for one in moments),
        paused=paused,
        limit=_last(cell.limit for cell in reversed(cells)),
        set_rate=_last(cell.set_rate for cell in reversed(cells)),
        cuts=grid.cuts,
        cells=cells,
    )


def _last(backwards: Iterable[float | None]) -> float | None:
    return next((one for one in backwards if one is not None), None)


def _pieces(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the pieces of time in which something was at work. Short gaps belong to them."""
    gap = _GAP
    while True:
        pieces = [spans[0]]
        for begin, end in spans[1:]:
            if begin - pieces[-1][1] > gap:
                pieces.append((begin, end))
            else:
                pieces[-1] = (pieces[-1][0], max(pieces[-1][1], end))
        if len(pieces) <= _PIECES:
            return pieces
        gap *= 2


class _Grid:
    """The cells of a time line, filled part by part."""

    def __init__(self, pieces: list[tuple[float, float]]) -> None:
        width = _width([end - begin for begin, end in pieces])
        self._bounds: list[tuple[float, float]] = []
        self.cuts: list[int] = []
        for begin, end in pieces:
            if self._bounds:
                self.cuts.append(len(self._bounds))
            # What is left over at the end belongs to the last cell.
            count = max(1, round((end - begin) / width))
            edges = [begin + index * width for index in range(count)] + [end]
            self._bounds += pairwise(edges)
        # The rates of the runs in each cell: whether they were set, and whether runs share them.
        self._rates: dict[tuple[bool, bool], dict[int, list[float]]] = {
            (is_set, shared): {} for is_set in (False, True) for shared in (False, True)
        }
        self._begins = [begin for begin, _ in self._bounds]
        self._cells = [Cell(at=_iso(begin), seconds=round(end - begin, 3)) for begin, end in self._bounds]
        self._paused: list[dict[str, float]] = [{} for _ in self._bounds]
        # The seconds for which some run was at work, by the cell.
        self._at_work = [0.0] * len(self._bounds)

    def add(self, part: Part) -> None:
        """Add the moments of a part."""
        is_set, rates = _is_set(part), dict[int, float]()
        for at, seconds, moment in part.moments:
            rate = moment.rate if is_set else moment.quota
            for index, share in self._shares(at, seconds):
                self._count(index, share, moment)
                self._at_work[index] += share * seconds
                if rate is not None:
                    rates[index] = rate
        of = self._rates[is_set, part.facts.get("shared") is True]
        for index, rate in rates.items():
            of.setdefault(index, []).append(rate)

    def finished(self) -> list[Cell]:
        """Return the cells, rounded."""
        for index, cell in enumerate(self._cells):
            paused, at_work = self._paused[index], self._at_work[index]
            for name in ("attempts", "retries", "refused", "failed", "settled"):
                setattr(cell, name, round(getattr(cell, name), 2))
            cell.paused = round(min(1.0, sum(paused.values()) / at_work), 3) if at_work else 0.0
            cell.pause_reason = max(paused, key=lambda one: paused[one]) if cell.paused else None
            cell.limit, cell.set_rate = self._rate(index, is_set=False), self._rate(index, is_set=True)
        return self._cells

    def _rate(self, index: int, *, is_set: bool) -> float | None:
        """Return the rates of a cell together: runs that share one have it once."""
        own, shared = (self._rates[is_set, one].get(index, []) for one in (False, True))
        return round(sum(own) + max(shared, default=0.0), 2) if own or shared else None

    def _shares(self, at: float, seconds: float) -> Iterator[tuple[int, float]]:
        """Yield the cells that a moment belongs to, and the share of it that each has."""
        index = max(0, bisect_right(self._begins, at) - 1)
        left, end = 1.0, at + seconds
        while index + 1 < len(self._begins) and self._begins[index + 1] < end:
            share = min(left, max(0.0, min(end, self._bounds[index][1]) - at) / seconds)
            if share > 0:
                yield index, share
            left, index = left - share, index + 1
            at = max(at, self._begins[index])
        yield index, max(left, 0.0)

    def _count(self, index: int, share: float, moment: Moment) -> None:
        cell, paused = self._cells[index], self._paused[index]
        cell.attempts += share * moment.attempts
        cell.retries += share * moment.retries
        cell.refused += share * moment.refused
        cell.failed += share * moment.failed
        cell.settled += share * _settled(moment)
        for reason, seconds in moment.paused.items():
            paused[reason] = paused.get(reason, 0.0) + share * seconds


def _settled(moment: Moment) -> int:
    """Return how many ids were settled. A stop gives up those in work and leaves the rest, all at once."""
    return sum(moment.outcomes[kind] for kind in OutcomeKind if kind.settled)


def _is_set(part: Part) -> bool:
    """Return whether the user set the rate, so that none was found out."""
    settings = part.facts.get("settings")
    return isinstance(settings, dict) and settings.get("rate") is not None


def _width(lengths: list[float]) -> float:
    """Return the seconds of a cell."""
    width = 0.0
    for width in _WIDTHS:
        if sum(max(1, round(length / width)) for length in lengths) <= _CELLS:
            return width
    while sum(max(1, round(length / width)) for length in lengths) > _CELLS:
        width *= 2
    return width


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")


def _text(value: object) -> str | None:
    return _cut(value) if isinstance(value, str) else None


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
