"""Draw how the rate is found: pictures for the documentation, of runs in virtual time.

    python benchmarks/rate_pictures.py [FOLDER]

The real client ends conferences at a simulated server, as in `goodput.py`. A picture shows the quota, the
rate of the limiter, what the server let in, and the pauses.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import field, frozen
from goodput_clock import run_virtually
from goodput_rows import CONCURRENCY, MS, NONE, SECONDS, Row
from goodput_servers import ChangingBucket, PhasedWindow, Server
from goodput_strategies import without_warnings

from bandwidth_async import BasicCredentials, Limiter, Paused, RateChanged, RateLimit, VoiceClient
from bandwidth_async.sandbox.quota import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bandwidth_async import PaceEvent

FOLDER = Path(__file__).parents[1] / "docs" / "explanation" / "pictures"

# Pixels.
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 280, 48, 14, 52, 36

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 13px }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .quota { stroke: #57606a; stroke-dasharray: 5 4; fill: none; stroke-width: 1.5 }
  .rate { stroke: #0969da; fill: none; stroke-width: 2 }
  .let-in { fill: #54aeff; fill-opacity: 0.35 }
  .pause { fill: #cf222e; fill-opacity: 0.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .quota { stroke: #b1bac4 }
    .rate { stroke: #58a6ff }
    .pause { fill: #f85149 }
  }
"""


@frozen(kw_only=True)
class Picture:
    """One run to draw: the server, its quota over time in requests per second, and what the title says."""

    name: str
    title: str
    row: Row
    seconds: float
    quota: tuple[tuple[float, float], ...]


@frozen(kw_only=True)
class Seen:
    """What a run showed: the rates and the pauses by their time, and when each end was let in."""

    rates: list[tuple[float, float]] = field(factory=list)
    pauses: list[tuple[float, float]] = field(factory=list)
    ended: list[float] = field(factory=list)


_FALLING = ((0.0, 200.0), (20.0, 40.0), (50.0, 200.0))

PICTURES = (
    Picture(
        name="start",
        title="The start: a token bucket of 50 per second, of which the client knows nothing",
        row=Row(name="start", quota=lambda _: TokenBucket(rate=50, burst=50), hint=NONE, count=2000),
        seconds=30.0,
        quota=((0.0, 50.0),),
    ),
    Picture(
        name="window",
        title="A fixed window: 100 per second, with Retry-After in whole seconds",
        row=Row(
            name="window",
            quota=lambda _: PhasedWindow(limit=100, window=1, phase=0.4),
            hint=SECONDS,
            count=4000,
        ),
        seconds=30.0,
        quota=((0.0, 100.0),),
    ),
    Picture(
        name="change",
        title="A quota that falls from 200 to 40 per second, and rises again",
        row=Row(name="change", quota=lambda _: ChangingBucket(20.0, _FALLING), hint=MS, count=14000),
        seconds=80.0,
        quota=_FALLING,
    ),
)


def watch(picture: Picture) -> Seen:
    """Make the run, in virtual time."""
    row, seen = picture.row, Seen()
    server = Server(row.quota(random.Random(1)), row.hint, row.latency, random.Random(1), row.status)

    def note(event: PaceEvent) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(event, RateChanged):
            seen.rates.append((now, event.rate))
        elif isinstance(event, Paused):
            seen.pauses.append((now, event.seconds))

    async def run() -> None:
        limiter = Limiter(RateLimit.adaptive(), random.Random(1), on_event=note)
        async with VoiceClient(
            account_id="1",
            credentials=BasicCredentials("user", "password"),
            voice_url="http://127.0.0.1",
            session=server.session,
            limiter=limiter,
            random=random.Random(1),
        ) as client:
            seen.rates.append((0.0, client.rate))
            ids = (f"conf-{number}" for number in range(row.count))
            await client.end_conferences(ids, concurrency=CONCURRENCY, deadline=picture.seconds)

    run_virtually(run())
    seen.ended.extend(server.books.ended)
    return seen


@frozen
class Drawing:
    """A run as SVG."""

    picture: Picture
    seen: Seen

    def x(self, second: float) -> float:
        """Return where a second is."""
        return _LEFT + min(second / self.picture.seconds, 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        """Return where a rate is. The highest is a little above the quota."""
        highest = 1.3 * max(quota for _, quota in self.picture.quota)
        return _HEIGHT - _BOTTOM - min(rate / highest, 1.0) * (_HEIGHT - _TOP - _BOTTOM)

    def steps(self, kind: str, values: Sequence[tuple[float, float]]) -> str:
        """Return a line that goes on at each value until the next."""
        ends = [*(second for second, _ in values[1:]), self.picture.seconds]
        corners = [
            f"{self.x(at):.1f},{self.y(rate):.1f}"
            for (start, rate), end in zip(values, ends, strict=True)
            for at in (start, end)
        ]
        return f'<polyline class="{kind}" points="{" ".join(corners)}"/>'

    def bars(self) -> list[str]:
        """Return what was let in within each second."""
        counts = Counter(int(second) for second in self.seen.ended if second < self.picture.seconds)
        width = self.x(1) - self.x(0) - 0.5
        return [
            f'<rect class="let-in" x="{self.x(second):.1f}" y="{self.y(count):.1f}" width="{width:.1f}" '
            f'height="{self.y(0) - self.y(count):.1f}"/>'
            for second, count in sorted(counts.items())
        ]

    def pauses(self) -> list[str]:
        """Return the pauses, each at least a pixel wide."""
        return [
            f'<rect class="pause" x="{self.x(second):.1f}" y="{self.y(0)}" '
            f'width="{max(self.x(second + length) - self.x(second), 1):.1f}" height="5"/>'
            for second, length in self.seen.pauses
            if second < self.picture.seconds
        ]

    def labels(self) -> list[str]:
        """Return the numbers at the two axes."""
        seconds = [part * self.picture.seconds / 4 for part in range(5)]
        rates = sorted({0.0, *(quota for _, quota in self.picture.quota)})
        return [
            *(
                f'<text x="{self.x(one):.0f}" y="{_HEIGHT - 14}" text-anchor="middle">{one:g} s</text>'
                for one in seconds
            ),
            *(
                f'<text x="{_LEFT - 6}" y="{self.y(one) + 4:.0f}" text-anchor="end">{one:g}</text>'
                for one in rates
            ),
        ]

    def __str__(self) -> str:
        title, bottom = self.picture.title, self.y(0)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            f"<title>{title}</title>",
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="8" y="16">{title}</text>',
            *_legend(),
            *self.bars(),
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>',
            *self.pauses(),
            self.steps("quota", self.picture.quota),
            self.steps("rate", self.seen.rates),
            *self.labels(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"


def _legend() -> list[str]:
    """Return what the lines mean, in one row."""
    return [
        '<line class="quota" x1="48" x2="72" y1="34" y2="34"/><text x="78" y="38">quota</text>',
        '<line class="rate" x1="140" x2="164" y1="34" y2="34"/>'
        '<text x="170" y="38">rate of the limiter</text>',
        '<rect class="let-in" x="300" y="28" width="14" height="12"/>'
        '<text x="320" y="38">let in, each second</text>',
        '<rect class="pause" x="450" y="32" width="14" height="5"/><text x="470" y="38">pause</text>',
    ]


def main(folder: Path) -> None:
    """Draw all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        (folder / f"{picture.name}.svg").write_text(str(Drawing(picture, watch(picture))), encoding="utf-8")


if __name__ == "__main__":
    without_warnings()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
