"""The shapes of the chart of a time line, as SVG paths that a style sheet colours and stretches."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bandwidth_async.report.figures import Cell, TimelineFigures

# The units of the picture, which is stretched to the room that there is. A cut is as wide as this.
WIDTH, HEIGHT, STRIP = 1000.0, 240.0, 24.0
_CUT = 12.0

# How far a limit may stand above the busiest moment and still be in the picture.
_HEADROOM = 1.6


@frozen(kw_only=True)
class Chart:
    """The paths of a chart. ``top`` is the requests per second at its upper edge, ``cuts`` are at these x.

    ``refused`` and ``paused`` are strips of the height `STRIP`. ``ticks`` are seconds since the beginning of
    the cell, with the index of the cell, at a quarter of the width each.
    """

    top: float
    requests: str
    settled: str
    limit: str
    set_rate: str
    refused: str
    paused: dict[str, str]
    cuts: list[float]
    ticks: list[tuple[int, float]]


def chart_of(line: TimelineFigures) -> Chart:
    """Return the chart of a time line."""
    cells, places = line.cells, _places(line)
    busiest = max(max(cell.attempts, cell.settled) / _seconds(cell) for cell in cells)
    limits = [one for cell in cells for one in (cell.limit, cell.set_rate) if one is not None]
    shown = [limit for limit in limits if limit <= _HEADROOM * busiest]
    top = _round_up(max([busiest, *shown]) or 1.0)
    most_refused = max(cell.refused / _seconds(cell) for cell in cells) or 1.0
    reasons = sorted({cell.pause_reason for cell in cells if cell.pause_reason})

    def bars(height: float, share: Callable[[Cell], float]) -> str:
        return "".join(_bars(cells, places, height, share))

    return Chart(
        top=top,
        requests=bars(HEIGHT, lambda cell: cell.attempts / _seconds(cell) / top),
        settled=bars(HEIGHT, lambda cell: cell.settled / _seconds(cell) / top),
        limit=_steps([cell.limit for cell in cells], places, top),
        set_rate=_steps([cell.set_rate for cell in cells], places, top),
        refused=bars(STRIP, lambda cell: _at_least(cell.refused / _seconds(cell) / most_refused)),
        paused={
            reason: bars(STRIP, lambda cell, r=reason: cell.paused if cell.pause_reason == r else 0.0)  # type: ignore[misc]  # r is no argument of `bars`
            for reason in reasons
        },
        cuts=[round(places[index][0] - _CUT / 2, 1) for index in line.cuts],
        ticks=[_tick(cells, places, quarter * WIDTH / 4) for quarter in range(5)],
    )


def _seconds(cell: Cell) -> float:
    return cell.seconds or 1.0


def _at_least(share: float) -> float:
    """Return a share that can be seen, if there is any."""
    return max(share, 0.15) if share else 0.0


def _places(line: TimelineFigures) -> list[tuple[float, float]]:
    """Return where each cell begins and ends."""
    room = WIDTH - _CUT * len(line.cuts)
    unit = room / sum(_seconds(cell) for cell in line.cells)
    places, x, cuts = [], 0.0, set(line.cuts)
    for index, cell in enumerate(line.cells):
        x += _CUT if index in cuts else 0.0
        places.append((x, x + _seconds(cell) * unit))
        x = places[-1][1]
    return places


def _bars(
    cells: Sequence[Cell],
    places: Sequence[tuple[float, float]],
    height: float,
    share: Callable[[Cell], float],
) -> Iterator[str]:
    """Yield a rectangle for each cell that has anything, next to each other without a seam."""
    for cell, (left, right) in zip(cells, places, strict=True):
        tall = round(height * min(1.0, share(cell)), 1)
        if tall:
            yield f"M{left:.1f} {height:g}V{height - tall:.1f}H{right:.1f}V{height:g}Z"


def _steps(rates: Sequence[float | None], places: Sequence[tuple[float, float]], top: float) -> str:
    """Return the line of a rate, with a gap where it is not known or above the picture."""
    path = ""
    rows = zip(rates, places, strict=True)
    for known, row in groupby(rows, lambda one: one[0] is not None and one[0] <= top):
        if not known:
            continue
        points = [(left, right, HEIGHT * (1 - (rate or 0.0) / top)) for rate, (left, right) in row]
        path += f"M{points[0][0]:.1f} {points[0][2]:.1f}"
        path += "".join(f"V{y:.1f}H{right:.1f}" for _, right, y in points)
    return path


def _tick(cells: Sequence[Cell], places: Sequence[tuple[float, float]], x: float) -> tuple[int, float]:
    """Return the cell at ``x``, and the seconds from its beginning to there."""
    for index, (left, right) in enumerate(places):
        if x <= right:
            share = max(0.0, (x - left) / (right - left))
            return index, share * cells[index].seconds
    return len(cells) - 1, cells[-1].seconds


def _round_up(value: float) -> float:
    """Return the next number that reads well: 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 with any zeros."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(one * power for one in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if one * power >= value)
