"""The commands ``sandbox``, which serves a stand-in for Bandwidth, and ``demo``, which runs against one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bandwidth_async import outcome
from bandwidth_async import sandbox as served
from bandwidth_async.cli import event_loop, exit_codes, progress, run_state

if TYPE_CHECKING:
    from bandwidth_async.outcome import OutcomeKind
    from bandwidth_async.sandbox import Sandbox, Truth


@click.command(epilog=exit_codes.HELP)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Serve on this address. On one that other machines reach, events are sent to --event-url and "
    "--event-fallback-url only.",
)
@click.option("--port", default="4010", show_default=True, help="Serve on this port; 0 picks a free one.")
@click.option(
    "--conferences", default="100", show_default=True, help="Start with this many active conferences."
)
@click.option("--members", default="0-4", show_default=True, help="Put this many calls in each, 2 or 0-4.")
@click.option(
    "--quota",
    default="none",
    show_default=True,
    help="Limit the requests: none, token-bucket:rate=200,burst=20, fixed-window:limit=100,window=1s, "
    "sliding-window:limit=100,window=1s or concurrency:limit=25.",
)
@click.option(
    "--hint",
    default="retry-after",
    show_default=True,
    help="Tell in a 429 when to try again: as retry-after, reset-ms, reset-s, date or none.",
)
@click.option(
    "--latency",
    default="0ms",
    show_default=True,
    help="Answer after this time, 50ms or 20-200ms. A number without a unit is in seconds.",
)
@click.option(
    "--faults",
    default="",
    help="Let these shares of the requests fail: 503=2%,reset=1%,hang=0.1%. A fault is a status from 200, "
    "reset, hang, slow, garbage, cut, or cut@0.3 (of the body). Add -before or -after to let it happen "
    "before or after the request takes effect.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Draw all ids and faults from this seed."
)
@click.option(
    "--token-lifetime", default="1h", show_default=True, help="Let access tokens expire after this time."
)
@click.option(
    "--already-ended",
    default="404",
    show_default=True,
    help="Answer with this status when a conference is ended again: 404, 409 or 204. Nobody knows what "
    "Bandwidth does.",
)
@click.option("--forget-ended", is_flag=True, help="Leave ended conferences out of get and list.")
@click.option(
    "--call-already-ended",
    default="409",
    show_default=True,
    help="Answer with this status when a call is hung up again: 409, as Bandwidth does soon after its end, "
    "404, as it does later, or 200.",
)
@click.option(
    "--recordings",
    default="0",
    show_default=True,
    help="Put this many finished recordings in each conference, 2 or 0-2.",
)
@click.option(
    "--recording-size",
    default="96044",
    show_default=True,
    help="Give each recording a file of this size, 200MB or 64KiB.",
)
@click.option(
    "--event-url", help="Send the events of all conferences to this URL, http://127.0.0.1:8000/events."
)
@click.option("--event-method", default="POST", show_default=True, help="Send events by POST or GET.")
@click.option("--event-username", help="Sign in with this name if the webhook asks for Basic authentication.")
@click.option("--event-password", help="Sign in with this password.")
@click.option("--event-fallback-url", help="Send an event to this URL if the other one fails.")
@click.option(
    "--event-fallback-method", default="POST", show_default=True, help="Send it there by POST or GET."
)
@click.option("--event-fallback-username", help="Sign in with this name there.")
@click.option("--event-fallback-password", help="Sign in with this password there.")
@click.option(
    "--event-timeout",
    default="15s",
    show_default=True,
    help="Wait this long for the response to an event: callbackTimeout, 1 to 25 seconds.",
)
@click.option(
    "--event-duplicates", default="0%", show_default=True, help="Send this share of the events twice."
)
@click.option(
    "--event-disorder", default="0%", show_default=True, help="Send this share of the events later."
)
@click.option("--events-anywhere", is_flag=True, help="Allow events to URLs on other machines.")
def sandbox(**settings: Any) -> int:
    """Serve a stand-in for Bandwidth's Voice API on this machine, until Ctrl-C.

    Prints its URL and the variables that you need to export. GET /_sandbox/truth returns the state of each
    conference, and how many requests of each kind got which status.
    """
    event_loop.run(_serve(served.Sandbox(**settings)))
    return exit_codes.Exit.OK


async def _serve(stand_in: Sandbox) -> None:
    import asyncio  # noqa: PLC0415 - not for --help

    stopped = asyncio.Event()
    async with stand_in:
        with event_loop.on_signals(lambda _: stopped.set()):
            print(f"# sandbox with {len(stand_in.conference_ids):,} active conferences at {stand_in.url}")
            if stand_in.exposed:
                print(_warning(stand_in))
            for name, value in stand_in.environ.items():
                print(f"export {name}={value}")
            sys.stdout.flush()
            await stopped.wait()


def _warning(stand_in: Sandbox) -> str:
    where = (
        "to any URL that they name" if stand_in.events_anywhere else "to --event-url only, and its fallback"
    )
    return f"# warning: others may reach {stand_in.host}, and the credentials are public; events go {where}"


@click.command(epilog=exit_codes.HELP)
@click.option(
    "--conferences",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="End this many conferences.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Draw the faults from this seed.")
def demo(conferences: int, seed: int) -> int:
    """Watch a run end conferences on a sandbox, and compare its outcomes with the sandbox's state.

    The sandbox allows 200 requests a second. The client is not told, and finds out. The sandbox answers in 20
    to 80 ms and fails 2 % of the requests: half of them with 503, half by cutting the connection.
    """
    return event_loop.run(_demo(conferences, seed))


async def _demo(conferences: int, seed: int) -> int:
    from bandwidth_async.client import VoiceClient  # noqa: PLC0415 - it loads aiohttp
    from bandwidth_async.credentials import ClientCredentials  # noqa: PLC0415 - likewise

    kinds: dict[str, OutcomeKind] = {}
    async with served.Sandbox(
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
            state = run_state.RunState(conferences, client.limiter.snapshot, ("a sandbox on this machine",))
            with progress.display(state) as shown, client.limiter.listening(shown.on_event):
                async with client.ending_conferences(stand_in.conference_ids) as stream:
                    async for one in stream:
                        kinds[one.conference_id] = one.kind
                        shown.update(one, stream.report)
        truth, quota = stand_in.truth(), client.limiter.snapshot().quota
    return _compare(kinds, stream.report.elapsed, truth, quota)


def _compare(kinds: dict[str, OutcomeKind], elapsed: float, truth: Truth, quota: float | None) -> int:
    """Print what the client and the sandbox say about each conference, and return the exit code."""
    total = len(truth["conferences"])
    ended = {key for key, fact in truth["conferences"].items() if fact["ended_at"]}
    said = {
        key
        for key, kind in kinds.items()
        if kind in {outcome.OutcomeKind.ENDED, outcome.OutcomeKind.ALREADY_ENDED}
    }
    refused = sum(count.get("429", 0) for count in truth["requests"].values())
    print(f"the client says:  {len(said):,} of {total:,} ended, in {elapsed:.1f} s")
    print(f"the sandbox says: {len(ended):,} ended, {refused:,} requests answered 429")
    if quota is not None:
        print(f"the client found out that about {run_state.figure(quota)} requests a second are allowed")
    wrong = len(said ^ ended)
    print("they agree, id by id" if not wrong else f"they disagree about {wrong:,} conferences")
    return exit_codes.Exit.OK if not wrong and len(said) == total else exit_codes.Exit.GENERAL
