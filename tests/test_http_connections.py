"""The client's own connections: written together, used directly if possible, and by the session if not."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import logging
import sys
from collections.abc import Callable
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import create_autospec, patch

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aioresponses import aioresponses
from yarl import URL

from bandwidth_async import wire
from bandwidth_async.http import Delivery, Server, Timeouts, TimeoutTimer, exchange, lacking, open_session
from bandwidth_async.http import connections as own
from bandwidth_async.http.connections import SingleResponseProtocol, Writes, direct_connections
from bandwidth_async.updates import UpdateConference
from tests.wire_server import NO_CONTENT, answered, wire_server


class FakeTransport:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.error: Exception | None = None

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        if self.error:
            raise self.error
        self.written.append(data)


def connected() -> tuple[Any, FakeTransport]:
    transport = FakeTransport()
    protocol = SingleResponseProtocol(asyncio.get_running_loop())
    protocol.transport = cast("Any", transport)
    return protocol, transport


async def turns(count: int) -> None:
    """Wait for so many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_requests_of_one_turn_leave_together() -> None:
    """Each in its second turn or later: in its first, the event loop receives what had already arrived."""
    connections = [connected() for _ in range(2)]
    writes = Writes(asyncio.get_running_loop())
    for protocol, _ in connections:
        protocol.send(b"POST", Delivery(), writes)
    await turns(2)
    assert [transport.written for _, transport in connections] == [[], []]
    await turns(1)
    assert [transport.written for _, transport in connections] == [[b"POST"], [b"POST"]]


@pytest.mark.parametrize("how", ["closing", "gone"])
async def test_nothing_is_written_to_a_closed_connection(how: str) -> None:
    """The task that waits for the response gets an error, and nothing was sent."""
    protocol, transport = connected()
    delivery = Delivery()
    delivery.is_watched = True
    protocol.send(b"POST", delivery, Writes(asyncio.get_running_loop()))
    transport.closing = True
    if how == "gone":
        protocol.transport = None
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await protocol.read()
    assert (transport.written, delivery.unsent) == ([], True)


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("the handler is closed")])
async def test_a_write_that_fails_is_an_error_at_once(error: Exception) -> None:
    """Part of the request may have been written."""
    protocol, transport = connected()
    transport.error = error
    delivery = Delivery()
    delivery.is_watched = True
    protocol.send(b"POST", delivery, Writes(asyncio.get_running_loop()))
    with pytest.raises(aiohttp.ClientOSError, match=str(error)):
        await protocol.read()
    assert delivery.unsent is False


async def test_a_status_is_known_as_soon_as_its_headers_are_read() -> None:
    """Also if the task that waits for the response is cancelled in the same turn of the event loop."""
    protocol, _ = connected()
    protocol.send(b"POST", Delivery(), Writes(asyncio.get_running_loop()))
    await turns(3)
    protocol.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert protocol.status is None
    protocol.data_received(answered("404 Not Found"))
    assert protocol.status == 404


async def test_a_connection_reads_any_number_of_responses() -> None:
    """Whole ones, ones in pieces and ones with a body, with more headers than one response may have."""
    protocol, _ = connected()
    writes = Writes(asyncio.get_running_loop())
    headers = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 100) for number in range(30))
    empty = b"HTTP/1.1 204 No Content\r\n%b\r\n" % headers
    chunked = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    pieces = [empty[start : start + 99] for start in range(0, len(empty), 99)]
    for script, status, body in [([empty], 204, b""), ([chunked], 404, b"abc"), (pieces, 204, b"")] * 400:
        protocol.send(b"POST", Delivery(), writes)
        await turns(3)
        for data in script:
            protocol.data_received(data)
        head, content = await protocol.read()
        assert (head.code, await content.read(), protocol.should_close) == (status, body, False)


# When requests are sent directly

fits = pytest.mark.skipif(
    bool(lacking()), reason=f"aiohttp {aiohttp.__version__} lacks {lacking()}: nothing is sent directly"
)


@fits
async def test_a_session_of_ours_has_a_direct_connections() -> None:
    async with open_session() as session:
        assert direct_connections(session, b"{}") is session.connector


async def test_a_given_session_has_none() -> None:
    """It may have middlewares, headers or cookies, and those apply to every request."""
    async with aiohttp.ClientSession() as session:
        assert direct_connections(session, b"{}") is None


async def test_none_with_an_aiohttp_that_lacks_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(own._missing, "a part", True)
    async with open_session() as session:
        assert direct_connections(session, b"{}") is None


async def with_settings(**settings: Any) -> aiohttp.ClientSession:
    """Open a session while a tool makes every session have these settings."""
    theirs = aiohttp.ClientSession.__init__

    def patched(*args: Any, **more: Any) -> None:
        theirs(*args, **(more | settings))

    with patch.object(aiohttp.ClientSession, "__init__", patched):
        return open_session()


@fits
@pytest.mark.parametrize(
    "settings",
    [
        {"trace_configs": [aiohttp.TraceConfig()]},  # as OpenTelemetry and Sentry do
        {"trust_env": True},
        {"proxy": "http://127.0.0.1:1"},
        {"middlewares": (lambda request, handler: handler(request),)},
        {"headers": {"X-Deployment": "1"}},
        {"skip_auto_headers": ["User-Agent"]},
        {"request_class": type("Request", (aiohttp.ClientRequest,), {})},
        {"response_class": type("Response", (aiohttp.ClientResponse,), {})},
    ],
    ids=lambda settings: next(iter(settings)),
)
async def test_none_where_sessions_are_made_otherwise(settings: dict[str, Any]) -> None:
    """What a tool makes every session do applies to an end, too."""
    async with await with_settings(**settings) as session:
        assert direct_connections(session, b"{}") is None
    async with await with_settings() as session:
        assert direct_connections(session, b"{}") is not None


async def test_none_where_sessions_are_of_another_class() -> None:
    """Also after aiohttp's own class has been restored."""
    with pytest.warns(DeprecationWarning, match="Inheritance"):
        other = type("Session", (aiohttp.ClientSession,), {})
    with patch.object(aiohttp, "ClientSession", other):
        session = open_session()
    async with session:
        assert direct_connections(session, b"{}") is None


@fits
async def test_none_for_a_body_that_may_not_be_written_at_once() -> None:
    """After an early response, the rest of the body would be sent with the next request."""
    async with open_session() as session:
        assert [direct_connections(session, bytes(size)) is None for size in (0, 4096, 4097)] == [
            False,
            False,
            True,
        ]


@fits
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (aiohttp.ClientSession, "request"),
        (aiohttp.ClientSession, "_request"),
        (aiohttp.ClientRequest, "send"),
        (aiohttp.ClientResponse, "start"),
    ],
)
async def test_none_where_a_method_of_aiohttp_s_is_replaced(owner: type, name: str) -> None:
    """By a mock, by a wrapper with the same name, or by a callable object."""
    theirs = getattr(owner, name)

    @functools.wraps(theirs)
    def wrapped(*args: Any, **more: Any) -> Any:
        return theirs(*args, **more)

    assert own._is_genuine(theirs)
    async with open_session() as session:
        for other in wrapped, functools.partial(theirs), create_autospec(theirs):
            assert not own._is_genuine(other)
            with patch.object(owner, name, other):
                assert direct_connections(session, b"{}") is None
        assert direct_connections(session, b"{}") is not None


@fits
async def test_none_under_aioresponses() -> None:
    """Also for a session that was already open."""
    async with open_session() as session:
        with aioresponses():
            assert direct_connections(session, b"{}") is None
        assert direct_connections(session, b"{}") is not None


# What if aiohttp changes the parts that are taken from it

exchange_module = sys.modules["bandwidth_async.http.exchange"]
END = wire.update_conference("9900000", "conf-1", UpdateConference(status="completed"))
GET = wire.get_conference("9900000", "conf-1")
CONFERENCE = answered("200 OK", b'{"id": "conf-1"}')


class Lookalike:
    """A module or class of aiohttp's that lacks one name."""

    def __init__(self, whole: object, lacks: str) -> None:
        self._whole = whole
        self._lacks = lacks

    def __getattr__(self, name: str) -> Any:
        if name == self._lacks:
            raise AttributeError(name)
        return getattr(self._whole, name)


class Gone:
    """A name that a class lacks, though its parents have it; aiohttp itself still finds ``instead``."""

    def __init__(self, instead: Any = None) -> None:
        self.instead = instead

    def __get__(self, owner: object, _: object = None) -> Any:
        if owner is None or self.instead is None:
            raise AttributeError("gone")
        return self.instead.__get__(owner)


class Hidden:
    """An attribute that aiohttp has renamed: it finds its own, this package does not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, _: object = None) -> Any:
        if owner is None or sys._getframe(1).f_code.co_filename == own.__file__:
            raise AttributeError(self.name)
        return owner.__dict__[self.name]

    def __set__(self, owner: Any, value: object) -> None:
        owner.__dict__[self.name] = value


def taken_away(patched: pytest.MonkeyPatch, part: str) -> None:
    """Have aiohttp lack a part, given by its dotted name."""
    parent, _, name = part.rpartition(".")
    if not parent or parent in {"client_proto", "http"}:
        patched.delattr(f"aiohttp.{part}")
        return
    whole = attrgetter(parent)(aiohttp)
    if parent == "client_proto.ResponseHandler":
        patched.setattr(aiohttp.client_proto, "ResponseHandler", type("Changed", (whole,), {name: Gone()}))
    elif parent == "TCPConnector":
        patched.setattr(
            aiohttp, "TCPConnector", type("Changed", (whole,), {name: Gone(getattr(whole, name))})
        )
    elif parent == "connector.Connection":
        patched.setattr(aiohttp, "connector", SimpleNamespace(Connection=Lookalike(whole, name)))
    else:
        patched.setattr(aiohttp, parent, Lookalike(whole, name))


def loaded_again(change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module as it is when it is imported with a changed aiohttp, and have `exchange` use it."""
    spec = importlib.util.spec_from_file_location("bandwidth_async.http.loaded_again", own.__file__)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patched:
        change(patched)
        spec.loader.exec_module(module)
    for name in (
        "DirectResponse",
        "can_be_watched",
        "direct_connections",
        "middlewares_of",
        "tell_when_written",
    ):
        monkeypatch.setattr(exchange_module, name, getattr(module, name))
    return module


async def ask_for_all(module: Any) -> tuple[list[tuple[int, bytes]], list[str], bool]:
    """Send five requests; return their responses, what arrived, and whether they might be sent directly."""
    scripts = [(NO_CONTENT,), (CONFERENCE,), (NO_CONTENT,), (NO_CONTENT,), (CONFERENCE,)]
    timer = TimeoutTimer()
    async with wire_server(*scripts) as server:
        to = Server(url=URL(server.url), timer=timer)
        async with module.open_session() as session:
            responses = [
                await exchange(session, to, request, "Bearer t", Timeouts(connect=1.0, attempt=5.0))
                for request in (END, GET, END, END, GET)
            ]
            directly = module.direct_connections(session, b"{}") is not None
        timer.close()
    return [(one.status, one.body) for one in responses], [one.line for one in server.arrived], directly


ALL_RIGHT = [(204, b""), (200, b'{"id": "conf-1"}'), (204, b""), (204, b""), (200, b'{"id": "conf-1"}')]


async def still_right(module: Any, caplog: pytest.LogCaptureFixture, part: str, *, protected: bool) -> None:
    """Check that every request is still right, that none is sent directly, and that the log says so once."""
    for _ in range(2):
        responses, arrived, directly = await ask_for_all(module)
        assert responses == ALL_RIGHT
        assert [line.partition(" ")[0] for line in arrived] == ["POST", "GET", "POST", "POST", "GET"]
        assert not directly
    (warning,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert warning.name == "bandwidth_async.http"
    assert f"aiohttp {aiohttp.__version__} lacks" in warning.getMessage()
    assert part in warning.getMessage()
    assert ("Data that no request asked for" in warning.getMessage()) is not protected
    assert any(name.startswith(part) for name in module.lacking())


async def test_nothing_is_said_where_nothing_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The module that is loaded again for these tests is like the first one."""
    module = loaded_again(lambda _: None, monkeypatch)
    responses, _, directly = await ask_for_all(module)
    assert (responses, directly, module.lacking()) == (ALL_RIGHT, not lacking(), lacking())
    assert lacking() or not [record for record in caplog.records if record.levelno >= logging.WARNING]


@fits
@pytest.mark.parametrize("part", [*own._PROTOCOL_PARTS, *own._DIRECT_PARTS])
async def test_a_part_that_is_taken_away(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever aiohttp renames, its session sends every request, and the log names the part."""
    module = loaded_again(lambda patched: taken_away(patched, part), monkeypatch)
    protected = part in own._DIRECT_PARTS and part != "connector.Connection.protocol"
    await still_right(module, caplog, part, protected=protected)


@fits
@pytest.mark.parametrize("name", [*own._SESSION_PARTS, "_factory", "_loop"])
async def test_an_attribute_that_is_taken_away(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that only an object has: it is missed when the first session is opened."""
    owner = aiohttp.ClientSession if name in own._SESSION_PARTS else aiohttp.TCPConnector
    monkeypatch.setattr(owner, name, Hidden(name), raising=False)
    module = loaded_again(lambda _: None, monkeypatch)
    assert module.lacking() == ()
    await still_right(module, caplog, f"{owner.__name__}.{name}", protected=owner is aiohttp.ClientSession)


class HiddenProtocol(Hidden):
    """As `Hidden`, for a property of a connection."""

    def __get__(self, owner: Any, _: object = None) -> Any:
        if owner is None or sys._getframe(1).f_code.co_filename == own.__file__:
            raise AttributeError(self.name)
        return owner._protocol


@fits
async def test_a_connection_that_does_not_tell_its_protocol(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be known of what has arrived on it."""
    part = "connector.Connection.protocol"
    monkeypatch.setattr("aiohttp.connector.Connection.protocol", HiddenProtocol("protocol"))
    module = loaded_again(lambda patched: taken_away(patched, part), monkeypatch)
    await still_right(module, caplog, part, protected=False)


class WithoutSize(ResponseHandler):
    """It passes a response on without a size."""

    def feed_data(self, data: Any) -> None:  # type: ignore[override]  # it is the change
        super().feed_data(data, 0)

    def data_received(self, data: bytes) -> None:
        self.__dict__["feed_data"] = lambda message, _size: type(self).feed_data(self, message)
        super().data_received(data)


@fits
async def test_a_coming_protocol_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken from aiohttp counts, not its version."""
    monkeypatch.setattr(aiohttp, "__version__", "3.99.0")
    module = loaded_again(
        lambda patched: patched.setattr(aiohttp.client_proto, "ResponseHandler", WithoutSize), monkeypatch
    )
    responses, _, directly = await ask_for_all(module)
    assert (responses, directly, module.lacking()) == (ALL_RIGHT, True, ())


class Sized(ResponseHandler):
    def feed_data(self, data: Any, size: int, _more: object) -> None:  # type: ignore[override]  # the change
        super().feed_data(data, size)


class AnotherHook(ResponseHandler):
    def data_received(self, data: bytes) -> None:
        self.feed_data = functools.partial(ResponseHandler.feed_data, self)  # type: ignore[method-assign]
        super().data_received(data)


class AnotherMessage(ResponseHandler):
    async def read(self) -> Any:
        message, body = await super().read()
        return SimpleNamespace(status=message.code, headers=message.headers), body


class KeywordsOnly(ResponseHandler):
    def set_exception(self, *, exc: BaseException) -> None:  # type: ignore[override]  # it is the change
        super().set_exception(exc)


class AnotherReader(ResponseHandler):
    def set_response_params(self, *, until_eof: bool = False) -> None:  # type: ignore[override]  # the change
        super().set_response_params(read_until_eof=until_eof)


class NeverReads(ResponseHandler):
    async def read(self) -> Any:
        await asyncio.sleep(0)


@fits
@pytest.mark.parametrize(
    "changed", [Sized, AnotherHook, AnotherMessage, KeywordsOnly, AnotherReader, NeverReads]
)
async def test_a_protocol_that_works_otherwise(
    changed: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its names are all there, but a response is read in another manner: the trial on import sees it."""
    module = loaded_again(
        lambda patched: patched.setattr(aiohttp.client_proto, "ResponseHandler", changed), monkeypatch
    )
    await still_right(module, caplog, "client_proto.ResponseHandler", protected=False)


class WithoutTraces(aiohttp.TCPConnector):
    async def connect(  # type: ignore[override]  # it is the change
        self,
        req: Any,
        timeout: Any,  # noqa: ASYNC109  # as aiohttp calls it
        *,
        traces: Any = (),
    ) -> Any:
        return await super().connect(req, traces, timeout)


class NoCoroutine(aiohttp.TCPConnector):
    def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        return super().connect(req, traces, timeout)


class AnotherHost(aiohttp.ClientRequest):
    def update_auto_headers(self, *_: Any) -> None:
        self.headers["Host"] = "another"


class WithoutLoop(aiohttp.ClientRequest):
    def __init__(self, method: str, url: URL) -> None:
        raise NotImplementedError


@fits
@pytest.mark.parametrize(
    ("name", "changed", "part"),
    [
        ("TCPConnector", WithoutTraces, "TCPConnector.connect"),
        ("TCPConnector", NoCoroutine, "ClientRequest"),
        ("ClientRequest", AnotherHost, "ClientRequest"),
        ("ClientRequest", WithoutLoop, "ClientRequest"),
    ],
)
async def test_a_connector_or_request_that_works_otherwise(
    name: str, changed: type, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    module = loaded_again(lambda patched: patched.setattr(aiohttp, name, changed), monkeypatch)
    await still_right(module, caplog, part, protected=True)


@fits
@pytest.mark.parametrize("first", [END, GET], ids=["end", "get"])
async def test_a_protocol_that_is_not_asked_for(
    first: wire.Request[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first connection shows it, before anything is sent on it; the request goes by the session."""
    module = loaded_again(lambda _: None, monkeypatch)

    async def create(self: Any, *args: Any, **more: Any) -> Any:
        self._factory = functools.partial(ResponseHandler, loop=self._loop)
        return await theirs(self, *args, **more)

    theirs = aiohttp.TCPConnector._create_connection
    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", create)
    assert module.lacking() == ()
    await still_right(module, caplog, "TCPConnector._factory (not used)", protected=False)


@fits
async def test_a_stray_response_without_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it arrives before the next request is sent, it is still not taken for that request's response."""
    module = loaded_again(
        lambda patched: taken_away(patched, "client_proto.ResponseHandler.read"), monkeypatch
    )
    stray = answered("404 Not Found")
    timer = TimeoutTimer()
    async with wire_server((NO_CONTENT,), (NO_CONTENT,)) as server, module.open_session() as session:
        to = Server(url=URL(server.url), timer=timer)
        assert (await exchange(session, to, END, "Bearer t", Timeouts())).status == 204
        server.say(1, stray)
        assert (await exchange(session, to, END, "Bearer t", Timeouts())).status == 204
        assert [one.connection for one in server.arrived] == [1, 2]
    timer.close()
