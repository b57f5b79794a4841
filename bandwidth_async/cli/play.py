"""``sandbox`` and ``demo``: the stand-in for Bandwidth, to rehearse with and to watch."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import click

from bandwidth_async.cli import exits
from bandwidth_async.cli.progress import display, figure
from bandwidth_async.client import VoiceClient
from bandwidth_async.credentials import ClientCredentials
from bandwidth_async.outcome import Outcome, OutcomeKind
from bandwidth_async.sandbox import Sandbox


@click.command(epilog=exits.HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option("--port", default="4010", show_default=True, help="Port to serve on; 0 picks a free one.")
@click.option("--conferences", default="100", show_default=True, help="Active conferences at the start.")
@click.option("--members", default="0-4", show_default=True, help="Calls in each.")
@click.option(
    "--quota",
    default="none",
    show_default=True,
    help="none, token-bucket:rate=200,burst=20, fixed-window:limit=100,window=1s, "
    "sliding-window:limit=100,window=1s or concurrency:limit=25.",
)
@click.option(
    "--hint",
    default="retry-after",
    show_default=True,
    help="How a 429 tells when to come back: retry-after, reset-ms, reset-s, date or none.",
)
@click.option("--latency", default="0ms", show_default=True, help="Time to an answer, 50ms or 20-200ms.")
@click.option(
    "--faults",
    default="",
    help="Shares of the requests that fail, as 503=2%,reset=1%,hang=0.1%: any status from 400, reset, hang, "
    "slow, garbage, cut or cut@0.3 (of the body); with -before or -after for before or after the work is "
    "done.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all ids and faults.")
@click.option("--token-lifetime", default="1h", show_default=True, help="How long an access token holds.")
@click.option(
    "--already-ended",
    default="404",
    show_default=True,
    help="Answer to ending a conference again, 404, 409 or 204; what Bandwidth does is not known.",
)
@click.option("--forget-ended", is_flag=True, help="Let ended conferences vanish from get and list.")
@click.option(
    "--call-already-ended",
    default="409",
    show_default=True,
    help="Answer to hanging up a call again, 409, 404 or 200; what Bandwidth does is not known.",
)
@click.option("--recordings", default="0", show_default=True, help="Finished recordings in each, 2 or 0-2.")
@click.option(
    "--recording-size", default="96044", show_default=True, help="Of each one's file: 200MB, 64KiB."
)
@click.option("--event-url", help="Tell all events there, on this machine: http://127.0.0.1:8000/events.")
@click.option("--event-method", default="POST", show_default=True, help="POST or GET.")
@click.option("--event-username", help="For a webhook that asks for Basic authentication.")
@click.option("--event-password", help="Belongs to it.")
@click.option("--event-duplicates", default="0%", show_default=True, help="Share of events told twice.")
@click.option("--event-disorder", default="0%", show_default=True, help="Share of events held back a while.")
@click.option("--events-anywhere", is_flag=True, help="Let events leave this machine.")
def sandbox(**settings: Any) -> int:
    """Serve a stand-in for Bandwidth's Voice API on this machine, until Ctrl-C.

    Prints its URL and the variables to export. GET /_sandbox/truth tells what really became of each
    conference, and how many requests of each kind were answered how.
    """
    asyncio.run(_serve(Sandbox(**settings)))
    return exits.Exit.OK


async def _serve(stand_in: Sandbox) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with stand_in:
        print(f"# sandbox with {len(stand_in.conference_ids):,} active conferences at {stand_in.url}")
        for name, value in stand_in.environ.items():
            print(f"export {name}={value}")
        sys.stdout.flush()
        await stopped.wait()


@click.command(epilog=exits.HELP)
@click.option(
    "--conferences", type=click.IntRange(min=1), default=2000, show_default=True, help="How many to end."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Of the faults.")
def demo(conferences: int, seed: int) -> int:
    """Watch conferences being ended on a sandbox, and compare the outcomes with the truth.

    The sandbox admits 200 requests a second, which the client is not told, answers in 20 to 80 ms, and
    fails 2 % of the requests: half of them with 503, half by cutting the connection.
    """
    return asyncio.run(_demo(conferences, seed))


async def _demo(conferences: int, seed: int) -> int:
    outcomes: dict[str, Outcome] = {}
    async with Sandbox(
        conferences=conferences,
        quota="token-bucket:rate=200,burst=20",
        hint="reset-ms",
        latency="20-80ms",
        faults="503=1%,reset=1%",
        seed=seed,
    ) as stand_in:
        print(f"{conferences:,} active conferences, 200 requests a second, 2 % faults")
        async with VoiceClient(
            account_id=stand_in.account_id,
            credentials=ClientCredentials(stand_in.client_id, stand_in.client_secret),
            voice_url=stand_in.url,
            api_url=stand_in.url,
        ) as client:
            with display(conferences) as shown, client.limiter.listening(shown.hear):
                async with client.ending_conferences(stand_in.conference_ids) as stream:
                    async for outcome in stream:
                        outcomes[outcome.conference_id] = outcome
                        shown.update(stream.report)
        report, truth, seen = stream.report, stand_in.truth(), client.limiter.snapshot()
    ended = {key for key, fact in truth["conferences"].items() if fact["ended_at"]}
    said = {key for key, outcome in outcomes.items() if outcome.kind in _ENDED}
    refused = sum(count.get("429", 0) for count in truth["requests"].values())
    print(f"the client says:  {len(said):,} of {conferences:,} ended, in {report.elapsed:.1f} s")
    print(f"the sandbox says: {len(ended):,} ended, {refused:,} requests refused (429)")
    if seen.quota is not None:
        print(f"the client found out that about {figure(seen.quota)} requests a second are allowed")
    wrong = len(said ^ ended)
    print("they agree, id by id" if not wrong else f"they disagree about {wrong:,} conferences")
    return exits.Exit.OK if not wrong and len(said) == conferences else exits.Exit.GENERAL


_ENDED = (OutcomeKind.ENDED, OutcomeKind.ALREADY_ENDED)
