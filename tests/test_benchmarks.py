"""The benchmarks run, and they apply the rules that they print. These tests measure no time."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from attrs import evolve

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import goodput_sockets  # noqa: E402  # the path comes first
from growth import Row  # noqa: E402
from hot_path import Figure, Spread, goals, ratios, table  # noqa: E402
from hot_path_drawing import draw  # noqa: E402
from hot_path_server import served, serving, why_not  # noqa: E402
from rate_pictures import PICTURES, Drawing, watch  # noqa: E402
from shared import jain  # noqa: E402
from startup import help_share, imports_aiohttp  # noqa: E402

needs_nginx = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark as a user does."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def figure(client: str, cpu: float, *, turn: int = 0, rate: float = 1000.0) -> Figure:
    """Make a figure at concurrency 100."""
    return Figure(client=client, concurrency=100, turn=turn, count=10, cpu=cpu, rate=rate, peak=30.0)


@pytest.mark.long
@needs_nginx
def test_clients_end_everything(tmp_path: Path) -> None:
    """Each client without extra packages ends all conferences, and its figures are saved."""
    clients = ["naive", "naive + tenacity", "raw protocol", "ours", "ours, journal"]
    saved = tmp_path / "figures.json"
    done = run("hot_path.py", "--short", "--repeat", "1", "--json", str(saved), "--only", *clients)
    assert done.returncode == 0, done.stderr
    figures = json.loads(saved.read_text())["figures"]
    assert {(one["client"], one["concurrency"]) for one in figures} == {
        (client, concurrency) for client in clients for concurrency in (10, 100, 1000)
    }
    assert all(one["count"] == 300 and one["cpu"] > 0 and one["rate"] > 0 for one in figures)


@needs_nginx
def test_server_counts_and_leaves_nothing() -> None:
    """The server counts its requests, and its port is free again afterwards."""
    with serving(None) as base:
        assert served(base) + 1 == served(base)
    with pytest.raises(OSError, match="refused"):
        served(base)


def test_without_nginx_a_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    """The benchmark does not run, and prints no traceback."""
    done = run("hot_path.py", "--short", PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "nginx is not in the path; install it: apt-get install nginx-light, or brew install nginx\n"
    )


def test_ratios_are_formed_within_a_turn() -> None:
    """Each ratio compares figures of one turn. A slower machine in the second turn changes no ratio."""
    figures = [
        figure("naive", 0.25),
        figure("ours", 0.125),
        figure("naive", 0.5, turn=1),
        figure("ours", 0.5, turn=1),
    ]
    assert ratios(figures, lambda one: one.cpu, "naive")[100, "ours"] == Spread(0.75, 0.5, 1.0)
    assert "ours                    0.75 (0.50-1.00)" in table(figures)


def test_where_a_peer_did_not_run_nothing_is_compared_with_it() -> None:
    """Slow clients do not run at a concurrency of 1,000, so there is no ratio to them."""
    figures = [figure("naive", 0.1), figure("ours", 0.1), evolve(figure("ours", 0.1), concurrency=1000)]
    assert list(ratios(figures, lambda one: one.cpu, "naive")) == [(100, "naive"), (100, "ours")]


@pytest.mark.parametrize(("cpu", "rate", "met"), [(0.1, 850.0, [True, True]), (0.101, 849.0, [False, False])])
def test_goals_are_judged_at_their_edge(cpu: float, rate: float, met: list[bool]) -> None:
    """The limits are the processor time of the bare loop, and 0.85 of the rate with a journal."""
    figures = [figure("naive", 0.1), figure("ours", cpu), figure("ours, journal", 0.2, rate=rate)]
    assert [fine for _, fine in goals(figures)] == met


def test_picture_is_svg_with_every_client() -> None:
    """Each client has a bar, the smallest first. A bar that is too long is cut but keeps its number."""
    picture = ET.fromstring(draw({"httpx": 71.2, "naive": 1.0, "ours": 0.9}))  # noqa: S314  # our own
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[-6:] == ["bandwidth_async", "0.90", "aiohttp, semaphore, gather", "1.00", "httpx", "71 →"]


def test_a_picture_of_the_rate_shows_what_the_run_did() -> None:
    """Some seconds of the first picture: the rate grows from 20, and the server refuses something."""
    picture = evolve(PICTURES[0], seconds=4.0, row=evolve(PICTURES[0].row, count=300))
    seen = watch(picture)
    assert seen.rates[0] == (0.0, 20.0)
    assert max(rate for _, rate in seen.rates) > 50
    assert seen.pauses
    kinds = [one.get("class") for one in ET.fromstring(str(Drawing(picture, seen))).iter()]  # noqa: S314  # our own
    assert {"rate", "quota", "let-in", "pause"} <= set(kinds)


def test_growth_of_kept_outcomes_is_judged_by_the_million() -> None:
    """300 bytes for each of a million outcomes are allowed, or 10 MB in total if no outcome is kept."""
    allowed = 300 * 1_000_000 / 1024**2
    row = Row(kind="kept", count=1_000_000, wall=1.0, cpu=1.0, grown=allowed)
    assert row.is_fine
    assert not Row(kind="kept", count=1_000_000, wall=1.0, cpu=1.0, grown=allowed + 1).is_fine
    assert Row(kind="stub", count=1_000_000, wall=1.0, cpu=1.0, grown=10.0).is_fine
    assert not Row(kind="sent", count=1_000_000, wall=1.0, cpu=1.0, grown=10.1).is_fine


@pytest.mark.long
def test_growth_runs() -> None:
    """The smallest rows run, each in a process of its own."""
    done = run("growth.py", "--most", "1000")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [
        ["stub", "1,000"],
        ["kept", "1,000"],
    ]


def test_shards_run(tmp_path: Path) -> None:
    """A small input is read and ended, and the journal of a run that was stopped is gone on with."""
    saved = tmp_path / "shards.json"
    done = run("shards.py", "--count", "300", "--shard", "1/2", "--ends", "50", "--json", str(saved))
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(saved.read_text())
    assert (row["count"], row["shard"], row["ends"]) == (300, "1/2", 50)
    assert row["read_peak_mb"] > 0


def test_micro_runs(tmp_path: Path) -> None:
    """Every part has a figure."""
    saved = tmp_path / "micro.json"
    done = run("micro.py", "--short", "--repeat", "1", "--json", str(saved))
    assert done.returncode == 0, done.stderr
    assert all(micros > 0 for micros in json.loads(saved.read_text()).values())


def test_help_does_not_import_aiohttp() -> None:
    """The import of aiohttp would take half of the start time."""
    assert not imports_aiohttp("bandwidth-async --help")
    assert not imports_aiohttp("bandwidth-async --version")
    assert imports_aiohttp("import aiohttp")


def test_help_is_judged_without_clicks_own_import() -> None:
    """The time that click adds to a bare interpreter is subtracted first."""
    times = {"bandwidth-async --help": [70.0], "import click": [40.0], "python -c pass": [10.0]}
    assert help_share(times) == [4.0]


def test_clients_of_the_extra_end_everything_too() -> None:
    """The other clients need the packages that `make bench` installs."""
    missing = [name for name in ("aiohttp_retry", "httpx", "bandwidth", "uvloop") if not _found(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install --group bench")
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with serving(None) as base:
        for client in ("aiohttp-retry", "httpx", "bandwidth-sdk, threads", "ours, uvloop", "naive, uvloop"):
            done = run("hot_path_clients.py", client, base, "20", "5", "")
            assert done.returncode == 0, done.stderr


def _found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def limited(name: str) -> goodput_sockets.Server:
    """Return the server of this name, or skip the test."""
    server = goodput_sockets.SERVERS[name]
    if (reason := server.why_not()) is not None:
        pytest.skip(reason)
    return server


def test_conferences_end_at_a_limiter_on_a_socket(tmp_path: Path) -> None:
    """The client that is told nothing ends all conferences of a short run."""
    server, saved = limited("nginx 50/s burst=20 nodelay"), tmp_path / "runs.json"
    arguments = ("--short", "--servers", f"^{server.name}$", "--only", "ours", "--json", str(saved))
    done = run("goodput_sockets.py", *arguments)
    assert done.returncode == 0, done.stderr
    (only,) = json.loads(saved.read_text())
    assert (only["server"], only["lost"]) == (server.name, 0)


@pytest.mark.parametrize("name", ["nginx 50/s", "nginx 50/s 503", "haproxy 500/10s retry-after 10"])
async def test_limiter_on_a_socket_refuses_what_is_over_its_quota(name: str) -> None:
    """Of many requests at once some pass, and the others get the status that the benchmark counts."""
    server = limited(name)
    with server.serving() as base:
        async with aiohttp.ClientSession(base) as session:
            answers = await asyncio.gather(*(session.post("/conference", data=b"{}") for _ in range(600)))
    assert {answer.status for answer in answers} == {204, server.status}
    refused = next(answer for answer in answers if answer.status != 204)
    assert refused.headers.get("Retry-After") == ("10" if "retry-after" in name else None)


def test_limiter_that_is_not_there_is_said_and_left_out(tmp_path: Path) -> None:
    """The benchmark names each missing server once with the way to get it, and this is no error."""
    done = run("goodput_sockets.py", "--short", PATH=str(tmp_path))
    assert done.returncode == 0
    assert [line.partition(" is not in the path; install it: ")[0] for line in done.stderr.splitlines()] == [
        "haproxy",
        "nginx",
        "node",
    ]


def test_no_limiter_of_that_name() -> None:
    """The names that there are help with a mistyped one."""
    done = run("goodput_sockets.py", "--servers", "apache")
    assert done.returncode == 1
    assert done.stderr.startswith("no server matches 'apache'; there are: nginx 200/s burst=20 nodelay, ")


def test_overload_runs(tmp_path: Path) -> None:
    """A family runs and meets its goals. Its figures are saved."""
    saved = tmp_path / "overload.json"
    arguments = ("--short", "--check", "--families", "silence", "--only", "fixed", "--json", str(saved))
    done = run("overload.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["row"][2] for row in json.loads(saved.read_text())] == [0.3, 1.0, 5.0]


def test_the_benchmark_of_shared_limits_says_what_it_takes() -> None:
    """Its help names the options, and equal counts are as fair as can be."""
    assert "--commands" in run("shared.py", "--help").stdout
    assert jain([3, 3, 3]) == 1
    assert jain([1, 0]) == 0.5
