"""The command line over a million ids and more: memory, journal and time of one shard, with a stub sender.

    python benchmarks/shards.py [--count 1000000] [--shard 0/1] [--ends N] [--json FILE]

The command reads its input from a file of random ids as long as Bandwidth's, keeps a journal, and is started
once more when it has ended. Only the sender is a stub. With ``--ends`` the run is stopped after N ends. The
files are in a temporary directory, and take some 500 bytes an id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from attrs import define

from bandwidth_async import Journal, Outcome, OutcomeKind, VoiceClient
from bandwidth_async.cli import main as command_line
from bandwidth_async.journal.claims import Claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bandwidth_async.run import Stop, Target

ENVIRON = {"BW_ACCOUNT_ID": "9900000", "BW_CLIENT_ID": "id", "BW_CLIENT_SECRET": "secret"}


def write_ids(path: Path, count: int) -> None:
    """Write an input of random ids."""
    random = Random(1)
    with path.open("w") as stream:
        for _ in range(count):
            text = f"{random.getrandbits(144):036x}"
            stream.write(
                f"conf-{text[:8]}-{text[8:16]}-{text[16:20]}-{text[20:24]}-{text[24:28]}-{text[28:]}\n"
            )


@define
class Sender:
    """A stub that ends every conference, and stops the run after some."""

    left: int

    async def end(self, target: Target, stop: Stop) -> Outcome:
        """Stand for the requests of one end."""
        await asyncio.sleep(0)
        self.left -= 1
        if not self.left:
            stop.request()
        return Outcome(target.conference_id, OutcomeKind.ENDED, 1)


def used() -> dict[str, float]:
    """Return what this process has used so far: seconds of time and processor, and its peak memory in MB."""
    return {
        "wall": time.perf_counter(),
        "cpu": time.process_time(),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def one_command(words: list[str], ends: int) -> None:
    """Run a command line in this process with the stub, and print what its two halves used."""
    marks = [used()]
    complete = Journal.complete

    async def completed(self: Journal) -> None:
        await complete(self)
        marks.append(used())

    sender = Sender(ends)
    with (
        patch.object(Journal, "complete", completed),
        patch.object(VoiceClient, "_run", lambda _, journal, *__, **___: (Claims(journal), sender.end, None)),
    ):
        code = command_line(words)
    print(json.dumps({"code": code, "marks": [*marks, used()]}))


def measured(words: list[str], ends: int) -> list[dict[str, float]]:
    """Run a command line in a new process, and return what it had used at each mark."""
    command = [sys.executable, __file__, "--words", json.dumps(words), "--ends", str(ends)]
    done = subprocess.run(  # noqa: S603  # our own words
        command, env={**os.environ, **ENVIRON}, stdout=subprocess.PIPE, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    if told["code"] not in {0, 5}:
        sys.exit(f"the command exited {told['code']}")
    marks: list[dict[str, float]] = told["marks"]
    return marks


def measure(count: int, shard: str, ends: int) -> dict[str, Any]:
    """Measure one shard of an input of ``count`` ids."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ids(folder / "ids.txt", count)
        words = ["end", "--from", str(folder / "ids.txt"), "--yes", "--shard", shard, "--continue"]
        words += ["--journal", str(folder / "run.journal"), "--output", os.devnull, "--format", "jsonl"]
        start, read, ended = measured(words, ends)
        again = measured(words, 1)
        row: dict[str, Any] = {"count": count, "shard": shard, "ends": ends}
        for half, before, after in (
            ("read", start, read),
            ("end", read, ended),
            ("again", again[0], again[-1]),
        ):
            row[f"{half}_wall"] = round(after["wall"] - before["wall"], 1)
            row[f"{half}_cpu"] = round(after["cpu"] - before["cpu"], 1)
            row[f"{half}_peak_mb"] = round(after["peak"])
        row["journal_mb"] = round((folder / "run.journal").stat().st_size / 2**20)
        return row


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument(
        "--count", type=int, nargs="+", default=[1_000_000], metavar="N", help="ids of the input"
    )
    parser.add_argument("--shard", default="0/1", metavar="K/N", help="the shard that is ended")
    parser.add_argument("--ends", type=int, default=0, metavar="N", help="stop the run after N ends")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the rows there")
    parser.add_argument("--words", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.words:
        one_command(options.words, options.ends)
        return 0
    rows = []
    for count in options.count:
        rows.append(measure(count, options.shard, options.ends))
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
