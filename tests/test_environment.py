"""How the ``BW_…`` variables are read, and when they are ignored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.client import VoiceClient
from bandwidth_async.credentials import BasicCredentials, ClientCredentials
from bandwidth_async.environment import Environment, read_environment
from bandwidth_async.errors import BandwidthError, ConfigurationError, MissingCredentialsError

PROD = {"voice_url": "https://voice.bandwidth.com", "api_url": "https://api.bandwidth.com"}
TEST = {"voice_url": "https://test.voice.bandwidth.com", "api_url": "https://test.api.bandwidth.com"}
ACCOUNT = {"BW_ACCOUNT_ID": "9900000"}
OAUTH = {"BW_CLIENT_ID": "client", "BW_CLIENT_SECRET": "secret"}
BASIC = {"BW_USERNAME": "user", "BW_PASSWORD": "pass"}
NAMES = [*ACCOUNT, *OAUTH, *BASIC, "BW_ENVIRONMENT", "BW_VOICE_URL", "BW_API_URL"]

NO_ACCOUNT = "BW_ACCOUNT_ID is not set; set it, with BW_CLIENT_ID and BW_CLIENT_SECRET"
NO_CREDENTIALS = "no credentials are set; set BW_CLIENT_ID and BW_CLIENT_SECRET"
NO_SECRET = "BW_CLIENT_SECRET is not set; OAuth2 needs BW_CLIENT_ID and BW_CLIENT_SECRET"
NO_CLIENT = "BW_CLIENT_ID is not set; OAuth2 needs BW_CLIENT_ID and BW_CLIENT_SECRET"


@pytest.mark.parametrize(
    ("variables", "credentials"),
    [
        (OAUTH, ClientCredentials("client", "secret")),
        (BASIC, BasicCredentials("user", "pass")),
        ({**OAUTH, **BASIC}, ClientCredentials("client", "secret")),
        ({"BW_CLIENT_ID": "client", **BASIC}, BasicCredentials("user", "pass")),
        ({"BW_CLIENT_SECRET": "secret", **BASIC}, BasicCredentials("user", "pass")),
        ({"BW_CLIENT_ID": "", "BW_CLIENT_SECRET": "", **BASIC}, BasicCredentials("user", "pass")),
        ({**OAUTH, "BW_USERNAME": "user"}, ClientCredentials("client", "secret")),
    ],
)
def test_oauth2_goes_before_the_legacy_pair(
    variables: dict[str, str], credentials: ClientCredentials | BasicCredentials
) -> None:
    """A complete OAuth2 pair wins. Half of one does not get in the way of a user name and password."""
    assert read_environment({**ACCOUNT, **variables}) == Environment(
        account_id="9900000", credentials=credentials, **PROD
    )


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, NO_ACCOUNT),
        ({"BW_ACCOUNT_ID": "", **OAUTH}, NO_ACCOUNT),
        ({**OAUTH, "BW_PASSWORD": "vault"}, NO_ACCOUNT),
        (BASIC, NO_ACCOUNT),
        (ACCOUNT, NO_CREDENTIALS),
        ({**ACCOUNT, "BW_PASSWORD": "vault"}, NO_CREDENTIALS),
        ({**ACCOUNT, "BW_USERNAME": "user"}, NO_CREDENTIALS),
        ({**ACCOUNT, "BW_USERNAME": "user", "BW_PASSWORD": ""}, NO_CREDENTIALS),
        ({**ACCOUNT, "BW_CLIENT_ID": "client"}, NO_SECRET),
        ({**ACCOUNT, "BW_CLIENT_ID": "client", "BW_CLIENT_SECRET": ""}, NO_SECRET),
        ({**ACCOUNT, "BW_CLIENT_ID": "client", "BW_PASSWORD": "vault"}, NO_SECRET),
        ({**ACCOUNT, "BW_CLIENT_SECRET": "secret"}, NO_CLIENT),
    ],
)
def test_what_is_missing_is_named(variables: dict[str, str], sentence: str) -> None:
    """The error names the variables to set.

    Bitwarden's tools set BW_CLIENT_ID, BW_CLIENT_SECRET and BW_PASSWORD too: without BW_ACCOUNT_ID they
    are not ours, and a password without BW_USERNAME is not either.
    """
    with pytest.raises(MissingCredentialsError) as caught:
        read_environment(variables)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("variables", "hosts"),
    [
        ({}, PROD),
        ({"BW_ENVIRONMENT": ""}, PROD),
        ({"BW_ENVIRONMENT": "prod"}, PROD),
        ({"BW_ENVIRONMENT": "test"}, TEST),
        ({"BW_ENVIRONMENT": "uat"}, TEST),
        ({"BW_ENVIRONMENT": " UAT\n"}, TEST),
        ({"BW_ENVIRONMENT": "Prod"}, PROD),
        ({"BW_ENVIRONMENT": " \t"}, PROD),
        ({"BW_VOICE_URL": "http://localhost:1"}, {**PROD, "voice_url": "http://localhost:1"}),
        ({"BW_API_URL": "http://localhost:2"}, {**PROD, "api_url": "http://localhost:2"}),
        (
            {"BW_ENVIRONMENT": "test", "BW_API_URL": "http://localhost:2"},
            {**TEST, "api_url": "http://localhost:2"},
        ),
        ({"BW_VOICE_URL": "", "BW_API_URL": ""}, PROD),
    ],
)
def test_where_the_api_is(variables: dict[str, str], hosts: dict[str, str]) -> None:
    """BW_ENVIRONMENT selects the hosts, as with `band`. BW_VOICE_URL and BW_API_URL each replace one."""
    assert read_environment({**ACCOUNT, **OAUTH, **variables}) == Environment(
        account_id="9900000", credentials=ClientCredentials("client", "secret"), **hosts
    )


@pytest.mark.parametrize("name", ["production", "pro d", "staging", "prod,test"])
def test_an_unknown_environment_is_refused(name: str) -> None:
    """A misspelt environment is an error: guessing could end conferences in production."""
    with pytest.raises(ConfigurationError) as caught:
        read_environment({**ACCOUNT, **OAUTH, "BW_ENVIRONMENT": name})
    assert str(caught.value) == (
        f"BW_ENVIRONMENT is {name!r}; it can be 'prod' or 'test' (or 'uat', which means 'test')"
    )


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.sampled_from(["", "test", "a b", "a:b", " ", "\n"]) | st.text()
    )
)
def test_any_environment_is_read_or_refused(variables: dict[str, str]) -> None:
    """Whatever the variables hold, the result is settings or one of our errors."""
    try:
        environment = read_environment(variables)
    except BandwidthError:
        return
    assert environment.account_id == variables["BW_ACCOUNT_ID"]


def test_the_secret_is_not_shown() -> None:
    """A log line, a traceback or a debugger that shows the settings does not show the secret."""
    secret = "s3cr3t-and-more"
    holder = read_environment({**ACCOUNT, **OAUTH, "BW_CLIENT_SECRET": secret})
    for shown in (repr(holder), str(holder), f"{holder}", f"{[holder]}"):
        assert secret not in shown


@pytest.mark.parametrize(
    ("variables", "is_told"),
    [
        ({"BW_VOICE_URL": "http://127.0.0.1:4010"}, True),
        ({"BW_API_URL": "https://api.example.com"}, True),
        ({"BW_VOICE_URL": "https://test.voice.bandwidth.com"}, True),
        ({"BW_VOICE_URL": "https://VOICE.bandwidth.com/"}, False),
        ({"BW_VOICE_URL": "https://voice.bandwidth.com", "BW_ENVIRONMENT": "test"}, True),
        ({"BW_VOICE_URL": "https://test.voice.bandwidth.com", "BW_ENVIRONMENT": "uat"}, False),
        ({"BW_VOICE_URL": "http://127.0.0.1:4010", "BW_API_URL": "http://127.0.0.1:4010"}, False),
        ({"BW_VOICE_URL": "https://one.example.com", "BW_API_URL": "https://other.example.com"}, False),
        ({}, False),
    ],
)
def test_a_host_of_bandwidth_beside_another_is_told(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    *,
    is_told: bool,
) -> None:
    """So is a host of the test environment beside one of production. Settings that are passed are meant."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**ACCOUNT, **OAUTH, **variables}.items():
        monkeypatch.setenv(name, value)
    VoiceClient.from_env()
    assert ("is that meant?" in caplog.text) == is_told
    caplog.clear()
    VoiceClient.from_env(voice_url="http://127.0.0.1:1")
    assert not caplog.text


def test_settings_that_say_all_need_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the environment is not read, and may be wrong."""
    monkeypatch.setenv("BW_ENVIRONMENT", "lab")
    given = {"account_id": "1", "credentials": ClientCredentials("a", "b"), **PROD}
    assert VoiceClient.from_env(**given).account_id == "1"  # type: ignore[arg-type]  # a dict of mixed values
