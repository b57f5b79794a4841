"""The hot path: the cost of an end with all features, compared with alternatives that people use.

    python benchmarks/hot_path.py [--repeat 5] [--only CLIENT …] [--short] [--json FILE] [--check]
    python benchmarks/hot_path.py --draw [--json FILE]

The server is an nginx that answers 204 at once, on one core. Each client is a new process on another core.
The clients take turns, A B C A B C. Ratios compare figures of one turn, because the speed of the machine
changes between turns. A cell has the median of the turns, the minimum and the maximum.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen
from hot_path_clients import CLIENTS, WARMING
from hot_path_drawing import draw
from hot_path_server import cores, served, serving, why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
FIGURES = HERE / "figures" / "hot_path.json"
DRAWING = HERE / "hot_path.svg"

COUNTS = {10: 10_000, 100: 20_000, 1000: 20_000}  # concurrency: conferences
_SHORT_COUNT = 300
# These clients are slow, so they end fewer conferences: the count ÷ this number.
_SLOW = {"httpx": 40, "bandwidth-sdk, threads": 4}
# At concurrency 100, the ratio of processor times that the first client may have to the second.
_GOALS = {
    ("ours", "naive"): 1.0,
    ("ours", "naive + tenacity"): 0.6,
    ("ours", "bandwidth-sdk, threads"): 0.4,
    ("ours, uvloop", "naive"): 0.65,
}
_JOURNAL_GOAL = 0.85  # of the rate without a journal


@frozen(kw_only=True)
class Figure:
    """One run of one client."""

    client: str
    concurrency: int
    turn: int
    count: int
    cpu: float  # seconds per 1,000 ends
    rate: float  # ends per second
    peak: float  # MB


@frozen
class Spread:
    """The median, minimum and maximum of some values."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def measure(client: str, concurrency: int, turn: int, count: int, *, base: str, core: int | None) -> Figure:
    """Make one run. Exit if the server has not received exactly one request for each end."""
    before = served(base)
    arguments = [client, base, str(count), str(concurrency), "" if core is None else str(core)]
    command = [sys.executable, str(HERE / "hot_path_clients.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    if done.returncode:
        sys.exit(f"{client} failed:\n{done.stderr}")
    seen = served(base) - before - 1
    if seen != count + min(WARMING, count):
        sys.exit(f"{client} was to send {count} requests and {WARMING} before, but the server saw {seen}")
    said = json.loads(done.stdout)
    return Figure(
        client=client,
        concurrency=concurrency,
        turn=turn,
        count=count,
        cpu=said["cpu"] / count * 1000,
        rate=count / said["wall"],
        peak=said["peak"],
    )


def measure_all(clients: Sequence[str], repeat: int, *, short: bool) -> list[Figure]:
    """Make all runs, turn by turn."""
    server_core, client_core = cores()
    figures = []
    with serving(server_core) as base:
        for concurrency, full in COUNTS.items():
            for turn in range(repeat):
                for client in clients:
                    if concurrency == 1000 and client in _SLOW:
                        continue
                    count = _SHORT_COUNT if short else full
                    count = max(100, count // _SLOW.get(client, 1))
                    figures.append(measure(client, concurrency, turn, count, base=base, core=client_core))
                    print(figures[-1], file=sys.stderr)
    return figures


def spread(figures: Sequence[Figure], what: Callable[[Figure], float]) -> dict[tuple[int, str], Spread]:
    """Return the spread of a figure, by concurrency and client."""
    found = defaultdict(list)
    for figure in figures:
        found[figure.concurrency, figure.client].append(what(figure))
    return {key: Spread.of(values) for key, values in found.items()}


def ratios(
    figures: Sequence[Figure], what: Callable[[Figure], float], to: str
) -> dict[tuple[int, str], Spread]:
    """Return the spread of a figure ÷ that of the client ``to`` in the same turn, if ``to`` ran there."""
    bases = {(one.concurrency, one.turn): what(one) for one in figures if one.client == to}
    beside = [one for one in figures if (one.concurrency, one.turn) in bases]
    return spread(beside, lambda one: what(one) / bases[one.concurrency, one.turn])


def _cpu(figure: Figure) -> float:
    return figure.cpu


def _rate(figure: Figure) -> float:
    return figure.rate


def _peak(figure: Figure) -> float:
    return figure.peak


def table(figures: Sequence[Figure]) -> str:
    """Return the table."""
    columns = [spread(figures, _cpu), spread(figures, _rate), spread(figures, _peak)]
    to_naive = ratios(figures, _cpu, "naive")
    lines = [
        f"{'at once':>7}  {'client':<23} {'CPU ÷ naive (span)':<20} {'s/1,000':>8} {'ends/s':>8} {'MB':>5}",
        "-" * 80,
    ]
    for concurrency, client in to_naive:
        cpu, rate, peak = (column[concurrency, client].median for column in columns)
        ratio = to_naive[concurrency, client]
        lines.append(f"{concurrency:>7}  {client:<23} {ratio!s:<20} {cpu:>8.3f} {rate:>8.0f} {peak:>5.0f}")
    return "\n".join(lines)


def goals(figures: Sequence[Figure]) -> list[tuple[str, bool]]:
    """Return a sentence for each goal with figures, and whether it is met."""
    found = []
    clients = {figure.client for figure in figures}
    for (client, to), most in _GOALS.items():
        if {client, to} <= clients:
            ratio = ratios(figures, _cpu, to)[100, client]
            found.append((f"CPU of {client} ÷ {to}: {ratio}, goal <= {most}", ratio.median <= most))
    if {"ours", "ours, journal"} <= clients:
        ratio = ratios(figures, _rate, "ours")[100, "ours, journal"]
        found.append((f"ends/s with journal ÷ without: {ratio}, goal >= 0.85", ratio.median >= _JOURNAL_GOAL))
    return found


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="turns (5)")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS), help="clients")
    parser.add_argument("--short", action="store_true", help="few ends: shows that it works, no more")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="figures, to save or draw")
    parser.add_argument("--draw", action="store_true", help=f"draw {DRAWING.name} from saved figures")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Measure, print and save the figures, or draw saved ones."""
    options = parse(arguments)
    if options.draw:
        saved = json.loads((options.json or FIGURES).read_text())
        figures = [Figure(**figure) for figure in saved["figures"]]
        cells = ratios([one for one in figures if one.concurrency == 100], _cpu, "naive")
        DRAWING.write_text(draw({client: one.median for (_, client), one in cells.items()}))
        print(DRAWING)
        return 0
    if (reason := why_not()) is not None:
        sys.exit(reason)
    clients = [client for client in CLIENTS if client in {"naive", *options.only}]
    figures = measure_all(clients, options.repeat, short=options.short)
    print(table(figures))
    judged = goals(figures)
    for sentence, met in judged:
        print(f"{'met   ' if met else 'MISSED'}  {sentence}")
    if options.json or not options.short:
        about = {"python": platform.python_version(), "machine": platform.machine(), "repeat": options.repeat}
        saved = {**about, "figures": [asdict(figure) for figure in figures]}
        path = options.json or FIGURES
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(saved, indent=1) + "\n")
    return 1 if options.check and not all(met for _, met in judged) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
