"""Proxies: which one is on the way to which host, what is refused, and what a proxy's refusal means."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from yarl import URL

from bandwidth_async import (
    BasicCredentials,
    ClientCredentials,
    ConfigurationError,
    RateLimit,
    RetryPolicy,
    Timeouts,
    TransportError,
    VoiceClient,
)
from bandwidth_async.http import proxy_of
from tests.wire_server import CLOSE, HANG, NO_CONTENT, Script, WireServer, answered, wire_server

ATTEMPTS = 5
VOICE = URL("https://voice.bandwidth.com")
API = URL("https://api.bandwidth.com")
REFUSED = answered("407 Proxy Authentication Required")

virtual_time = pytest.mark.looptime


def address_of(base: URL | str, proxy: str | None = None, *, trust_env: bool = True) -> str | None:
    """Return the address of the proxy for a base URL."""
    found = proxy_of(URL(base), proxy, trust_env=trust_env)
    return str(found.url) if found else None


# Which one


@pytest.mark.parametrize(
    ("variables", "secure", "plain"),
    [
        ({}, None, None),
        ({"https_proxy": "http://a:1"}, "http://a:1", None),
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1", None),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2"}, "http://a:1", None),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:2"}, "http://b:2", None),
        ({"https_proxy": " ", "ALL_PROXY": "http://c:3"}, "http://c:3", "http://c:3"),
        ({"all_proxy": "http://a:1", "ALL_PROXY": "http://b:2"}, "http://a:1", "http://a:1"),
        (
            {"HTTPS_PROXY": "http://a:1", "all_proxy": "socks5://b:2", "http_proxy": "c:3"},
            "http://a:1",
            "http://c:3",
        ),
        ({"http_proxy": "http://a:1"}, None, "http://a:1"),
        ({"HTTP_PROXY": "http://a:1"}, None, None),
    ],
)
def test_the_variables_are_those_of_curl(
    variables: dict[str, str], secure: str | None, plain: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small one of two counts, an empty one is not set, and HTTP_PROXY is not read at all."""
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert address_of("https://h") == secure
    assert address_of("http://h") == plain
    assert address_of("https://h", trust_env=False) is None
    assert address_of("https://h", "given:1") == "http://given:1"
    assert address_of("https://h", "") is None


@pytest.mark.parametrize(
    ("entries", "exempt", "not_exempt"),
    [
        ("*", ["https://voice.test", "http://127.0.0.1"], []),
        (" * ", ["https://voice.test"], []),
        ("voice.test", ["https://voice.test", "https://VOICE.test:8443"], ["https://voice.test.org"]),
        ("voice.test", ["https://a.voice.test", "https://a.b.voice.test"], ["https://avoice.test"]),
        (".voice.test", ["https://voice.test", "https://a.voice.test"], ["https://avoice.test"]),
        ("*.voice.test", ["https://a.voice.test"], ["https://avoice.test"]),
        ("VOICE.test.", ["https://voice.test"], ["https://test"]),
        ("voice.test:8443", ["https://voice.test:8443"], ["https://voice.test"]),
        ("voice.test:443", ["https://voice.test"], ["https://voice.test:8443"]),
        ("a.test,b.test", ["https://a.test", "https://b.test"], ["https://c.test"]),
        (" a.test , ,b.test c.test,", ["https://b.test", "https://c.test"], ["https://d.test"]),
        ("127.0.0.1", ["http://127.0.0.1:4010"], ["http://127.0.0.2", "http://localhost:4010"]),
        ("127.0.0.1:4010", ["http://127.0.0.1:4010"], ["http://127.0.0.1"]),
        ("0.0.1", [], ["http://127.0.0.1"]),
        ("127.0.0.0/8,10.1.2.3/16", ["http://127.9.9.9", "http://10.1.0.1"], ["http://10.2.0.1"]),
        ("10.0.0.0/33,10.0.0.0/x", [], ["http://10.0.0.0"]),
        ("::1", ["http://[::1]:4010"], ["http://[::2]"]),
        ("[::1]", ["http://[::1]:4010"], ["http://[::2]"]),
        ("[::1]:4010", ["http://[::1]:4010"], ["http://[::1]"]),
        ("fe80::/10", ["http://[fe80::9]"], ["http://[::1]", "http://127.0.0.1"]),
        ("", [], ["https://voice.test", "http://127.0.0.1"]),
        (",.,:,[],/8", [], ["https://voice.test", "http://127.0.0.1"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_exempts_hosts(
    entries: str, exempt: list[str], not_exempt: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Domains, addresses and networks, with or without a port; also from a proxy that is given (curl)."""
    monkeypatch.setenv("ALL_PROXY", "http://a:1")
    monkeypatch.setenv(name, entries)
    for given in (None, "http://b:2"):
        assert [base for base in exempt if address_of(base, given)] == []
        assert [base for base in not_exempt if not address_of(base, given)] == []
    assert [base for base in exempt if not address_of(base, "http://b:2", trust_env=False)] == []


def test_a_host_that_needs_no_proxy_does_not_ask_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each host is decided by itself, so a proxy that is not served matters to the hosts behind it only."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://a:1")
    monkeypatch.setenv("no_proxy", "voice.bandwidth.com")
    assert address_of(VOICE) is None
    with pytest.raises(ConfigurationError, match=r"the proxy in HTTPS_PROXY .* socks5 is not served"):
        address_of(API)


# Spellings


@pytest.mark.parametrize(
    ("spelled", "address", "user_and_password"),
    [
        ("127.0.0.1:3128", "http://127.0.0.1:3128", None),
        ("//127.0.0.1:3128", "http://127.0.0.1:3128", None),
        ("http://127.0.0.1:3128/", "http://127.0.0.1:3128", None),
        ("HTTP://Proxy.Test:3128", "http://proxy.test:3128", None),
        ("  http://proxy.test:3128\r\n", "http://proxy.test:3128", None),
        ("https://proxy.test", "https://proxy.test", None),
        ("proxy.test", "http://proxy.test", None),
        ("[::1]:3128", "http://[::1]:3128", None),
        ("me:hunter2@proxy.test:1", "http://proxy.test:1", "me:hunter2"),
        ("http://me:p%40ss%2Fw%3A%25@proxy.test:1", "http://proxy.test:1", "me:p@ss/w:%"),
        ("http://me:p@ss:w@proxy.test:1", "http://proxy.test:1", "me:p@ss:w"),
        ("http://m%C3%A9:%E2%82%AC@proxy.test:1", "http://proxy.test:1", "mé:€"),
        ("http://token@proxy.test:1", "http://proxy.test:1", "token:"),
        ("http://:hunter2@proxy.test:1", "http://proxy.test:1", ":hunter2"),
    ],
)
def test_spellings_that_are_served(spelled: str, address: str, user_and_password: str | None) -> None:
    """A proxy without a scheme is one for http. The name and password may be escaped, and are UTF-8."""
    found = proxy_of(VOICE, spelled, trust_env=False)
    assert found is not None
    assert str(found.url) == address
    sent = base64.b64decode(found.authorization.removeprefix("Basic ")).decode()
    assert sent == (user_and_password or "")
    assert found.authorization not in f"{found!r} {found}" or not found.authorization
    assert "hunter2" not in f"{found!r} {found}"


@pytest.mark.parametrize(
    "spelled",
    [
        *("socks5://me:hunter2@proxy.test:1", "socks5h://proxy.test", "SOCKS4://proxy.test:1", "socks4a://p:1"),
        *("ftp://me:hunter2@proxy.test", "http://", "http://[::1", "http://me:hunter2@proxy.test:99999"),
        *("me:hunter2@proxy.test:x", "://", "http://me:hunter2@exa mple:1", "http://me:hunter2@[::1:1"),
        *("127.1:3128", "http://me:hunter2@:1", "me:hun/ter2@proxy.test:1", "me:hun#ter2@proxy.test:1"),
        *("http://me:hunter2@proxy.test:0", "not a url", "//", "::1:3128", "http:proxy.test:3128"),
        *("http://me:12/ter2@proxy.test:1", "http://me:12?ter2@proxy.test:1", "me:1#ter2@proxy.test:1"),
        *('"http://proxy.test:3128"', "'proxy.test'", "a:1,b:2", "http://m%3Ae:hunter2@proxy.test:1"),
        *("me:hunter2://proxy.test:1", "http://a;b:1", "http:/proxy.test:1", "http://http://proxy.test:1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("trust_env", [False, True])
def test_what_is_no_proxy_is_refused_before_anything_is_sent(
    spelled: str, trust_env: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names the setting, and nothing that may be a password."""
    monkeypatch.setenv("https_proxy", spelled)
    with pytest.raises(ConfigurationError) as caught:
        proxy_of(VOICE, None if trust_env else spelled, trust_env=trust_env)
    name = "the proxy in https_proxy" if trust_env else "proxy"
    assert str(caught.value).startswith(f"{name} must look like http://host:port or https://host:port")
    text = "".join(traceback.format_exception(caught.value))
    assert "ter2" not in text
    is_socks = spelled.lower().startswith("socks")
    assert is_socks is ("is not served" in text and "socks" in text.lower())


# What a proxy answers


@asynccontextmanager
async def tunnel(
    *script: Any, user: str = "", **settings: Any
) -> AsyncIterator[tuple[WireServer, VoiceClient]]:
    """Give a proxy that answers each CONNECT with ``script``, and a client behind it."""
    async with wire_server(otherwise=script) as proxy:
        url = proxy.url.replace("//", f"//{user}@") if user else proxy.url
        async with client_of(url, **settings) as client:
            yield proxy, client


def client_of(address: str, **settings: Any) -> VoiceClient:
    """Return a client behind a proxy that retries without a pause."""
    defaults: dict[str, Any] = {
        "account_id": "9900000",
        "credentials": BasicCredentials("me", "s3cr3t-of-the-client"),
        "voice_url": "https://voice.test",
        "api_url": "https://api.test",
        "proxy": address,
        "rate_limit": RateLimit(100_000, 1000),
        "retry": RetryPolicy(attempts=ATTEMPTS, backoff_base=0),
        "timeouts": Timeouts(connect=1.0, attempt=5.0),
        "random": Random(3),
    }
    return VoiceClient(**{**defaults, **settings})


def at(proxy: WireServer) -> str:
    """Return how a sentence calls a proxy."""
    return f"the proxy {proxy.url.removeprefix('http://')}"


async def failure(client: VoiceClient) -> TransportError:
    """End a conference, and return why that was not possible."""
    with pytest.raises(TransportError) as caught:
        await client.end_conference("conf-1")
    assert not caught.value.ambiguous
    return caught.value


LASTING = {
    "407 Proxy Authentication Required": "wants a name and password: write it as http://name:password@",
    "403 Forbidden": "does not let us through to voice.test:443 (403 Forbidden)",
    "405 Method Not Allowed": "does not let us through to voice.test:443 (405 Method Not Allowed)",
    "404 Not Found": "does not let us through to voice.test:443",
    "302 Found": "does not let us through to voice.test:443",
    "501 Not Implemented": "does not let us through to voice.test:443",
}
PASSING = {
    status: f"cannot reach voice.test:443 ({status})"
    for status in (
        "429 Slower",
        "500 Oops",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    )
}


@pytest.mark.parametrize(("status", "words"), {**LASTING, **PASSING}.items())
@virtual_time
async def test_a_refused_tunnel_is_told_as_what_it_is(status: str, words: str) -> None:
    """Only a proxy that cannot reach the server now is asked again."""
    async with tunnel(answered(status)) as (proxy, client):
        error = await failure(client)
        assert error.message.startswith(f"end conference conf-1: {at(proxy)} {words}")
        assert error.lasting is (status in LASTING)
        assert error.attempts == len(proxy.arrived) == (1 if error.lasting else ATTEMPTS)


@pytest.mark.parametrize(("status", "words"), LASTING.items())
@pytest.mark.parametrize("credentials", [BasicCredentials("me", "s3cr3t"), ClientCredentials("me", "s3cr3t")])
@virtual_time
async def test_a_proxy_that_refuses_ends_a_run_at_once(status: str, words: str, credentials: Any) -> None:
    """Every other id would meet the same. Nothing has left, so nothing is unknown, and all can be resumed."""
    async with tunnel(answered(status), credentials=credentials) as (proxy, client):
        report = await client.end_conferences([f"conf-{n}" for n in range(50)], concurrency=8)
        assert len(proxy.arrived) == 1
        assert isinstance(report.stopped, TransportError)
        assert words.partition(" to voice")[0] in str(report.stopped)
        assert report.unsettled == report.total == 50
        assert report.counts["failed"] == report.attempts <= 1
        assert report.counts["not_attempted"] == 50 - report.attempts


@pytest.mark.parametrize("credentials", [BasicCredentials("me", "s3cr3t"), ClientCredentials("me", "s3cr3t")])
@virtual_time
async def test_a_proxy_that_refuses_in_the_middle_of_a_run_ends_it(credentials: Any) -> None:
    """Over plain http the 407 comes in place of the server's answer, and says nothing of an id."""
    token = answered("200 OK", b'{"access_token": "t", "expires_in": 3600}')
    scripts = [(token,)] * isinstance(credentials, ClientCredentials) + [(NO_CONTENT,)] * 20
    plain = {"voice_url": "http://127.0.0.1:1", "api_url": "http://127.0.0.1:2", "credentials": credentials}
    async with wire_server(*scripts, otherwise=(REFUSED,)) as proxy, client_of(proxy.url, **plain) as client:
        report = await client.end_conferences([f"conf-{n}" for n in range(50)], concurrency=1)
        assert report.counts == {"ended": 20, "failed": 1, "not_attempted": 29}
        assert f"{at(proxy)} wants a name and password" in str(report.stopped)
        assert len(proxy.arrived) == len(scripts) + 1


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        (("Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"), "by Negotiate, NTLM, and only Basic"),
        (
            ("Proxy-Authenticate: Negotiate, Basic realm=x",),
            "does not accept the name and password in its URL",
        ),
        (("Proxy-Authenticate: BASIC realm=x",), "does not accept the name and password in its URL"),
        ((), "does not accept the name and password in its URL"),
    ],
)
@pytest.mark.parametrize("way", ["tunnel", "plain"])
@virtual_time
async def test_a_proxy_that_does_not_take_our_credentials_says_which(
    headers: tuple[str, ...], words: str, way: str
) -> None:
    """A proxy for Windows domains may want others than a name and password."""
    plain = {"voice_url": "http://127.0.0.1:1"} if way == "plain" else {}
    async with tunnel(answered("407 No", b"", *headers), user="me:hunter2", **plain) as (proxy, client):
        error = await failure(client)
        assert words in error.message
        assert (error.lasting, len(proxy.arrived)) == (True, 1)


@pytest.mark.parametrize("way", ["tunnel", "plain"])
@virtual_time
async def test_the_credentials_go_to_the_proxy_with_every_request(way: str) -> None:
    """In a tunnel the server does not see them."""
    plain = {"voice_url": "http://127.0.0.1:1"} if way == "plain" else {}
    sent = b"proxy-authorization: basic " + base64.b64encode("mé:p@ss€".encode()).lower()
    script = NO_CONTENT if way == "plain" else answered("502 Bad Gateway")
    async with tunnel(script, user="m%C3%A9:p%40ss%E2%82%AC", **plain) as (proxy, client):
        if way == "plain":
            for n in range(3):
                await client.end_conference(f"conf-{n}")
        else:
            await failure(client)
        assert all(sent in one.request.lower() for one in proxy.arrived)
        assert len(proxy.arrived) >= 3


@pytest.mark.parametrize("user", ["me:hunter2", "token-of-mine", "m%C3%A9:hunter2"])
@pytest.mark.parametrize("status", ["407", "403", "502"])
@virtual_time
async def test_a_proxy_that_quotes_its_credentials_is_not_quoted(
    user: str, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither errors, their causes, outcomes nor logs contain them."""
    caplog.set_level(logging.DEBUG)
    secret = proxy_of(VOICE, f"http://{user}@h", trust_env=False)
    assert secret is not None
    quote = f"{status} hunter2 token-of-mine {secret.authorization}".encode()
    refusal = b"HTTP/1.1 " + quote + b"\r\nProxy-Authenticate: hunter2\r\nContent-Length: 0\r\n\r\n"
    outcomes: list[Any] = []
    async with tunnel(refusal, user=user) as (_, client):
        error = await failure(client)
        report = await client.end_conferences(["conf-1"], on_outcome=outcomes.append)
        text = f"{client!r} {error!r} {report!r} {outcomes!r} {caplog.text}"
    text += "".join(traceback.format_exception(error))
    assert ("token-of-mine" if "token" in user else "hunter2") not in text
    assert secret.authorization.removeprefix("Basic ") not in text


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ((HANG,), "no connection within the timeout"),
        ((CLOSE,), "the connection was closed before the request"),
        ((b"what do you want?\r\n\r\n",), "no connection ("),
        ((b"HTTP/1.1 200 OK\r\n\r\n", HANG), "no connection within the timeout"),
    ],
)
@virtual_time
async def test_what_fails_on_the_way_through_a_proxy_names_it(script: Script, words: str) -> None:
    """It may be the proxy's fault."""
    async with tunnel(*script) as (proxy, client):
        error = await failure(client)
        assert words in error.message
        assert error.message.endswith(f", through {at(proxy)}")
        assert not error.lasting


@pytest.mark.parametrize("voice", ["https://voice.test", "http://127.0.0.1:1"])
@pytest.mark.parametrize("address", ["127.0.0.1:9", "proxy.invalid:3128", "[::1]:9"])
@virtual_time
async def test_a_proxy_that_cannot_be_reached_is_named(
    voice: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come back, so it is tried again. A variable is named too."""
    async with client_of(address, voice_url=voice) as client:
        error = await failure(client)
        assert "no connection" in error.message
        assert f"the proxy {address}" in error.message
        assert (error.lasting, error.attempts) == (False, ATTEMPTS)
    monkeypatch.setenv("all_proxy", address)
    async with client_of(address, voice_url=voice, proxy=None, trust_env=True) as client:
        assert f"the proxy {address} in all_proxy" in (await failure(client)).message


@virtual_time
async def test_waiting_for_an_end_stops_at_a_proxy_that_refuses() -> None:
    """It would refuse for ever, and a token is not asked for again either."""
    async with tunnel(REFUSED, credentials=ClientCredentials("me", "s3cr3t")) as (_, client):
        for _ in range(2):
            with pytest.raises(TransportError, match="wants a name and password") as caught:
                await asyncio.wait_for(client.wait_until_completed("conf-1"), 600)
            assert caught.value.retry_after is None
