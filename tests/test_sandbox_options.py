"""The sandbox's settings: as values or as text, checked before anything is served."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox import FaultMix, Hint, Sandbox, TokenBucket, Unlimited


def settings(sandbox: Sandbox) -> dict[str, object]:
    """Return what can be given as text."""
    names = (
        "conferences quota hint latency faults token_lifetime members already_ended forget_ended host port"
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
    )
    assert settings(text) == settings(values)
    assert (Sandbox(members=2).members, Sandbox(members="2").members) == ((2, 2), (2, 2))
    assert (Sandbox(latency=0.5).latency, Sandbox(latency="500ms").latency) == ((0.5, 0.5), (0.5, 0.5))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"conferences": -1}, "-1 is no number of conferences: write 0 or more"),
        ({"conferences": "many"}, "'many' is no number of conferences: write 0 or more"),
        ({"quota": "some"}, "'some' is not a quota: write none, token-bucket:rate=200,burst=20, "),
        ({"hint": "x"}, "'x' is not a hint: choose one of retry-after, reset-ms, reset-s, date, none"),
        ({"latency": "quick"}, "'quick' is not a duration: write 250ms, 30s, 10m, 2h or plain seconds"),
        (
            {"latency": (0.2, 0.1)},
            "(0.2, 0.1) is no latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds",
        ),
        ({"latency": (-1, 1)}, "(-1, 1) is no latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds"),
        ({"faults": "fire=1%"}, "'fire' is not a fault: write an HTTP status from 200 to 599, "),
        ({"token_lifetime": "0s"}, "'0s' is no token lifetime: write 1h, 90s or seconds above 0"),
        ({"token_lifetime": float("inf")}, "inf is no token lifetime: write 1h, 90s or seconds above 0"),
        ({"members": "4-0"}, "'4-0' members do not fit: write 0-4 or 2, at most 20"),
        ({"members": 21}, "21 members do not fit: write 0-4 or 2, at most 20"),
        ({"members": "few"}, "'few' is no number of members: write 0-4 or 2, at most 20"),
        ({"already_ended": 200}, "200 is no answer for an ended conference: choose 404, 409 or 204"),
        ({"port": 65536}, "65536 is no port: write 1 to 65535, or 0 for a free one"),
        ({"port": "http"}, "'http' is no port: write 1 to 65535, or 0 for a free one"),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting: dict[str, Any], sentence: str) -> None:
    """Every setting is checked when the sandbox is made, and the error tells the accepted forms."""
    with pytest.raises(ConfigurationError, match="^" + re.escape(sentence)):
        Sandbox(**setting)


def test_the_environment_leads_a_client_here() -> None:
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
    """The representation tells the settings and keeps the secrets."""
    shown = repr(Sandbox(client_secret="hidden-1", password="hidden-2"))
    assert "conferences=0" in shown
    assert "hidden" not in shown


def test_settings_are_fixed() -> None:
    """A setting changed later would do nothing, so it cannot be."""
    with pytest.raises(AttributeError):
        Sandbox().seed = 5
