"""Import and start: the time that the package adds to an interpreter, compared with aiohttp and click.

    python benchmarks/startup.py [--repeat 15] [--json FILE] [--check]

New interpreters start in turn, A B C A B C, with warm caches. The first column has milliseconds of wall time.
The other columns are differences and ratios within a turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BARE = "python -c pass"
_CLICK = "import click"
_CLI = ["-m", "bandwidth_async"]
COMMANDS = {
    _BARE: ["-c", "pass"],
    _CLICK: ["-c", "import click"],
    "import aiohttp": ["-c", "import aiohttp"],
    "import bandwidth_async": ["-c", "import bandwidth_async"],
    "bandwidth-async --version": [*_CLI, "--version"],
    "bandwidth-async --help": [*_CLI, "--help"],
}
# Without click's own import, --help may take this many times as long as a bare interpreter.
_MOST = 3.0


def run(name: str) -> float:
    """Return the milliseconds that one start takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *COMMANDS[name]], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return (time.perf_counter() - started) * 1000


def imports_aiohttp(name: str) -> bool:
    """Return True if a start imports aiohttp."""
    command = [sys.executable, "-X", "importtime", *COMMANDS[name]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own words
    return any(line.rpartition("|")[2].strip() == "aiohttp" for line in done.stderr.splitlines())


def measure(repeat: int) -> dict[str, list[float]]:
    """Return the milliseconds of every start, by command and turn."""
    for name in COMMANDS:
        run(name)  # compiles modules that are not compiled yet
    turns = [{name: run(name) for name in COMMANDS} for _ in range(repeat)]
    return {name: [turn[name] for turn in turns] for name in COMMANDS}


def spread(values: Sequence[float], places: int = 0) -> str:
    """Return the median, the minimum and the maximum as text."""
    return f"{statistics.median(values):.{places}f} ({min(values):.{places}f}-{max(values):.{places}f})"


def help_share(times: dict[str, list[float]]) -> list[float]:
    """Return for each turn the time of --help, without click's own import, ÷ that of a bare interpreter."""
    turns = zip(times["bandwidth-async --help"], times[_CLICK], times[_BARE], strict=True)
    return [(help_ - (click - bare)) / bare for help_, click, bare in turns]


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=15, metavar="N", help="turns (15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every time there")
    parser.add_argument("--check", action="store_true", help="exit 1 when the goal is missed")
    options = parser.parse_args(arguments)
    times = measure(options.repeat)
    print(f"{'start':<27} {'ms':<18} {'ms over bare':<18} {'÷ bare':<18} imports aiohttp")
    for name, mine in times.items():
        pairs = list(zip(mine, times[_BARE], strict=True))
        over = spread([one - bare for one, bare in pairs])
        ratio = spread([one / bare for one, bare in pairs], 2)
        has = "yes" if imports_aiohttp(name) else "no"
        print(f"{name:<27} {spread(mine):<18} {over:<18} {ratio:<18} {has}")
    share = help_share(times)
    met = statistics.median(share) <= _MOST and not imports_aiohttp("bandwidth-async --help")
    print(
        f"--help, without click's own import, ÷ bare: {spread(share, 2)}; goal <= {_MOST:g}, without aiohttp"
    )
    if options.json:
        options.json.write_text(json.dumps(times, indent=1) + "\n")
    return 1 if options.check and not met else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
