"""The sandbox's settings: as values or as text, checked before anything is served."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from bandwidth_async.cli import sandbox as cli_sandbox
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox import FaultMix, Hint, Sandbox, TokenBucket, Unlimited


def settings(sandbox: Sandbox) -> dict[str, object]:
    """Return what can be given as text."""
    names = (
        "conferences quota hint latency faults token_lifetime members already_ended forget_ended host port "
        "call_already_ended recordings recording_size event_url event_method event_duplicates event_disorder "
        "event_fallback_url event_fallback_method event_timeout"
    )
    return {name: getattr(sandbox, name) for name in names.split()}


def test_by_default_nothing_goes_wrong() -> None:
    """No conference, no quota, no fault, no latency, one hour for a token, on this machine alone."""
    assert settings(Sandbox()) == {
        "conferences": 0,
        "quota": Unlimited(),
        "hint": Hint.RETRY_AFTER,
        "latency": (0.0, 0.0),
        "faults": FaultMix(),
        "token_lifetime": 3600.0,
        "members": (0, 4),
        "already_ended": 404,
        "forget_ended": False,
        "host": "127.0.0.1",
        "port": 0,
        "call_already_ended": 409,
        "recordings": (0, 0),
        "recording_size": 96_044,
        "event_url": None,
        "event_method": "POST",
        "event_duplicates": 0.0,
        "event_disorder": 0.0,
        "event_fallback_url": None,
        "event_fallback_method": "POST",
        "event_timeout": 15.0,
    }


def test_text_and_values_mean_the_same() -> None:
    """The command line gives text, Python values."""
    text = Sandbox(
        conferences="3",
        quota="token-bucket:rate=200,burst=20",
        hint="date",
        latency="20-200ms",
        faults="503=2%",
        token_lifetime="30m",
        members="1-2",
        already_ended="409",
        port="8080",
        call_already_ended="200",
        recordings="0-2",
        recording_size="200MB",
        event_url="",
        event_duplicates="5%",
        event_disorder="0.1",
        event_fallback_url="http://127.0.0.1/f",
        event_timeout="2500ms",
    )
    values = Sandbox(
        conferences=3,
        quota=TokenBucket(rate=200, burst=20),
        hint=Hint.DATE,
        latency=(0.02, 0.2),
        faults=FaultMix.parse("503=2%"),
        token_lifetime=1800,
        members=(1, 2),
        already_ended=409,
        port=8080,
        call_already_ended=200,
        recordings=(0, 2),
        recording_size=200_000_000,
        event_url=None,
        event_duplicates=0.05,
        event_disorder=0.1,
        event_fallback_url="http://127.0.0.1/f",
        event_timeout=2.5,
    )
    assert settings(text) == settings(values)
    assert (Sandbox(members=2).members, Sandbox(members="2").members) == ((2, 2), (2, 2))
    assert (Sandbox(latency=0.5).latency, Sandbox(latency="500ms").latency) == ((0.5, 0.5), (0.5, 0.5))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"conferences": -1}, "-1 is not a number of conferences: write 0 or more"),
        ({"conferences": "many"}, "'many' is not a number of conferences: write 0 or more"),
        ({"quota": "some"}, "'some' is not a quota: write none, token-bucket:rate=200,burst=20, "),
        ({"hint": "x"}, "'x' is not a hint: choose one of retry-after, reset-ms, reset-s, date, none"),
        ({"latency": "quick"}, "'quick' is not a duration: write 250ms, 30s, 10m, 2h or plain seconds"),
        (
            {"latency": (0.2, 0.1)},
            "(0.2, 0.1) is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds",
        ),
        ({"latency": (-1, 1)}, "(-1, 1) is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds"),
        ({"faults": "fire=1%"}, "'fire' is not a fault: write an HTTP status from 200 to 599, "),
        ({"token_lifetime": "0s"}, "'0s' is not a token lifetime: write 1h, 90s or seconds above 0"),
        ({"token_lifetime": float("inf")}, "inf is not a token lifetime: write 1h, 90s or seconds above 0"),
        ({"members": "4-0"}, "'4-0' members do not fit: write 0-4 or 2, at most 20"),
        ({"members": 21}, "21 members do not fit: write 0-4 or 2, at most 20"),
        ({"latency": (1,)}, "(1,) is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds"),
        ({"latency": ("1", 2)}, "('1', 2) is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds"),
        (
            {"latency": [0, 1, 2]},
            "[0, 1, 2] is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds",
        ),
        ({"latency": {}}, "{} is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds"),
        ({"quota": 5}, "5 is not a quota: write none, token-bucket:rate=200,burst=20, "),
        ({"faults": 0.1}, "0.1 is not a mix of faults: write an HTTP status from 200 to 599, "),
        ({"token_lifetime": None}, "None is not a token lifetime: write 1h, 90s or seconds above 0"),
        ({"members": None}, "None is not a number of members: write 0-4 or 2, at most 20"),
        ({"members": (1,)}, "(1,) is not a number of members: write 0-4 or 2, at most 20"),
        ({"members": (0.5, 2)}, "(0.5, 2) is not a number of members: write 0-4 or 2, at most 20"),
        ({"recordings": {}}, "{} is not a number of recordings: write 0-4 or 2, at most 20"),
        ({"members": "few"}, "'few' is not a number of members: write 0-4 or 2, at most 20"),
        ({"already_ended": 200}, "200 is not a status for an ended conference: choose 404, 409 or 204"),
        ({"call_already_ended": 204}, "204 is not a status for an ended call: choose 409, 404 or 200"),
        ({"recordings": 21}, "21 recordings do not fit: write 0-4 or 2, at most 20"),
        ({"recordings": "x"}, "'x' is not a number of recordings: write 0-4 or 2, at most 20"),
        ({"recording_size": "42"}, "'42' is not a size of a recording: write 200MB, 64KiB or an even number"),
        (
            {"recording_size": "5GB"},
            "'5GB' is not a size of a recording: write 200MB, 64KiB or an even number",
        ),
        ({"recording_size": 101}, "101 is not a size of a recording: write 200MB, 64KiB or an even number"),
        (
            {"recording_size": "big"},
            "'big' is not a size of a recording: write 200MB, 64KiB or an even number",
        ),
        ({"event_url": "ftp://127.0.0.1"}, "'ftp://127.0.0.1' is not a URL for events: write http://127"),
        ({"event_method": "PUT"}, "'PUT' is not a method for events: choose POST or GET"),
        ({"event_fallback_url": "x"}, "'x' is not a URL for events: write http://127"),
        ({"event_fallback_method": "PUT"}, "'PUT' is not a method for events: choose POST or GET"),
        *(
            ({"event_timeout": wrong}, f"{wrong!r} is not a timeout for events: write 15s, from 1s to 25s")
            for wrong in ("500ms", 26, float("nan"), None)
        ),
        ({"event_duplicates": "101%"}, "'101%' is not a share: write 5% or 0.05, at most 100%"),
        ({"event_disorder": -0.1}, "-0.1 is not a share: write 5% or 0.05, at most 100%"),
        ({"port": 65536}, "65536 is not a port: write 1 to 65535, or 0 for a free one"),
        ({"port": "http"}, "'http' is not a port: write 1 to 65535, or 0 for a free one"),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting: dict[str, Any], sentence: str) -> None:
    """Every setting is checked when the sandbox is made, and the error has the accepted forms."""
    with pytest.raises(ConfigurationError, match="^" + re.escape(sentence)):
        Sandbox(**setting)


def test_the_environment_makes_a_client_use_the_sandbox() -> None:
    """The variables are those of Bandwidth's own tools; both APIs are at one address."""
    sandbox = Sandbox(port=8080, account_id="1", client_id="c", client_secret="s")
    assert sandbox.environ == {
        "BW_ACCOUNT_ID": "1",
        "BW_CLIENT_ID": "c",
        "BW_CLIENT_SECRET": "s",
        "BW_VOICE_URL": "http://127.0.0.1:8080",
        "BW_API_URL": "http://127.0.0.1:8080",
    }
    assert Sandbox(host="::1", port=1).url == "http://[::1]:1"


def test_no_secret_is_shown() -> None:
    """The representation has the settings, without the secrets."""
    shown = repr(Sandbox(client_secret="hidden-1", password="hidden-2", event_password="hidden-3"))
    assert "conferences=0" in shown
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("text", "size"),
    [("44", 44), ("64KiB", 65_536), ("1k", 1000), ("2 MiB", 2 * 1024**2), ("4GB", 4 * 10**9)],
)
def test_a_size_has_decimal_and_binary_units(text: str, size: int) -> None:
    """KB is 1000 and KiB 1024, as everywhere today."""
    assert Sandbox(recording_size=text).recording_size == size


def test_settings_are_fixed() -> None:
    """A setting changed later would do nothing, so it cannot be."""
    with pytest.raises(AttributeError):
        Sandbox().seed = 5


def test_the_command_line_has_every_setting_and_the_same_defaults() -> None:
    """What is served by default differs in the number of conferences and the port alone."""
    given: dict[str, Any] = cli_sandbox.sandbox.make_context("sandbox", []).params
    own = {"account_id", "client_id", "client_secret", "username", "password"}
    fields = {it.name for it in attrs.fields(Sandbox) if it.init}
    assert given.keys() == fields - own
    assert settings(Sandbox(**given)) == settings(Sandbox(conferences=100, port=4010))


def test_a_plan_names_a_kind_of_request_that_there_is() -> None:
    """A plan for another would wait for ever."""
    with pytest.raises(
        ConfigurationError, match="'stop' is not a kind of request: choose one of token, list, get"
    ):
        Sandbox().plan("503", kind="stop")
