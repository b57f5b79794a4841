"""The connections of a session, and how a request is sent over them without the session.

The request that ends a conference needs nothing of what aiohttp's session does for a request: no redirect,
cookie, proxy or form. Sent directly over a connection, it takes half the processor time.

aiohttp has no public interface for this. `_PROTOCOL_PARTS`, `_DIRECT_PARTS` and `_SESSION_PARTS` list every
name that this file takes from aiohttp beyond its documentation. On import, each name is looked up, its
signature is checked, and a response is read without a network. Where a part is missing, the session sends all
requests; `lacking` names the part, and the log says so once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import aiohttp
from attrs import define
from yarl import URL

from bandwidth_async.http.delivery import Delivery, UnfitConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.http import HttpProcessingError

    from bandwidth_async.retry_after import Headers
else:
    # Where a name is missing, its stand-in is not used: the session sends everything.
    try:
        from aiohttp.client_proto import ResponseHandler
    except ImportError:
        ResponseHandler = object
    try:
        from aiohttp.http import HttpProcessingError
    except ImportError:
        HttpProcessingError = aiohttp.ClientError

_log = logging.getLogger("bandwidth_async.http")

_RECEIVE_SIZE = 64 * 1024  # bytes that are received at once
_SHORT_BODY = 4096  # bytes that a connection certainly takes at once
_LONGEST_HEAD = 256 * 1024  # bytes of headers, those of interim responses included
_MOST_LINES = 4096  # lines of headers, likewise
_LONGEST_FIRST_LINE = 8190  # bytes
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")

# How aiohttp reads a response. It fails at a coding that it does not know, though the status counts whatever
# the body is packed in. Its limits for headers are too narrow for what some gateways add.
READING: dict[str, Any] = {
    "auto_decompress": False,
    "max_line_size": 64 * 1024,
    "max_field_size": 64 * 1024,
    "max_headers": 1024,
}


def is_final(status: int) -> bool:
    """Return True for a final status, False for an interim 1xx."""
    return not 100 <= status < 200 or status == 101


class Writes:
    """The requests that are about to be written, all in one turn of the event loop.

    A server or proxy on the same machine is then woken once for all of them. To wake it for each takes a
    fifth of the time of an end, in the kernel. And one callback of the event loop serves for all.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._writes: list[Callable[[float], None]] = []

    def add(self, write: Callable[[float], None]) -> None:
        """Write a request in two or three turns. ``write`` is given the time of the loop.

        In the turns before that, the event loop receives what has already arrived. That is no response to
        this request.
        """
        self._writes.append(write)
        if len(self._writes) == 1:
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        writes, self._writes = self._writes, []
        if len(writes) == 1:
            self._loop.call_soon(self._write_all, writes)
        else:
            # Some may have been added in this turn.
            self._loop.call_soon(self._loop.call_soon, self._write_all, writes)

    def _write_all(self, writes: Iterable[Callable[[float], None]]) -> None:
        now = self._loop.time()
        for write in writes:
            write(now)


class SingleResponseProtocol(ResponseHandler):
    """A connection on which each request has one response; the connection is closed if anything else arrives.

    aiohttp's parser forgets a 204 when the bytes of a body directly follow it. And what arrives on an idle
    connection, aiohttp takes for the response to the next request, which is about another conference.
    """

    # Whether aiohttp's session tells when it has written a request; `_try_session` finds that out.
    hears_of_writing: bool = False
    # Whether a request was sent over it before.
    used: bool = False
    # Whether the session has not yet written its request.
    _unwritten = False
    # Whether it has written one, a CONNECT, before it prepared for the response.
    _written_early = False
    # That of the session's request, until it is written.
    _delivery: Delivery | None = None
    # Whether aiohttp's parser is the one for direct requests, which reads any number of responses.
    _reads_directly = False
    # Whether a request was written, and the headers of its response are not complete.
    _awaited = False
    # The final status of the response, once the first line was read. What follows may never be.
    status: int | None = None
    # Of the response that is being read, as far as it has arrived.
    _first_line = b""
    _body: aiohttp.StreamReader | None = None
    # Of all headers since the request.
    _head_size = _head_lines = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the transport receive less at once than asyncio's 256 KiB.

        Most responses are 150 bytes long. To allocate and free the rest of 256 KiB takes a fifth of the time
        of an end. Over TLS, asyncio's own TLS layer does that. A `BufferedProtocol` does not help there: its
        reader loses bytes.
        """
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = _RECEIVE_SIZE

    def send(self, message: bytes, delivery: Delivery, writes: Writes) -> None:
        """Write a request soon, together with others, and prepare for its response."""
        if self._reads_directly:
            self._forget_response()
        else:
            self.set_response_params(read_until_eof=True, **READING)
            self._reads_directly, self._unwritten = True, False
        self._awaited = False
        writes.add(partial(self._write, message, delivery))

    def _write(self, message: bytes, delivery: Delivery, now: float) -> None:
        transport = self.transport
        if transport is None or transport.is_closing():
            self.set_exception(aiohttp.ServerDisconnectedError())
            return
        self._awaited = True
        delivery.on_write(self, now)
        try:
            transport.write(message)
        except (OSError, RuntimeError) as error:
            self.set_exception(aiohttp.ClientOSError(str(error)), error)

    def set_response_params(self, **params: Any) -> None:
        """Prepare for a response. aiohttp calls this before it writes a request, but after a CONNECT."""
        self.used = True
        self._reads_directly = False
        self._unwritten = self.hears_of_writing and not self._written_early
        self._written_early = False
        self._awaited = not self._unwritten
        self._delivery = None
        self._forget_response()
        super().set_response_params(**params)

    def _forget_response(self) -> None:
        self.status = self._body = None
        if self._head_size:
            self._first_line = b""
            self._head_size = self._head_lines = 0

    def start_timeout(self) -> None:
        """Start to wait for a response; aiohttp's session calls this in the turn in which it has written."""
        self._note_writing()
        super().start_timeout()

    def pause_writing(self) -> None:
        """Wait until the rest of a request can be written. The server may respond before that."""
        self._note_writing()
        super().pause_writing()

    def tell_when_written(self, delivery: Delivery) -> None:
        """Tell ``delivery`` when the session writes its request; at once if the session does not say when."""
        if self._unwritten:
            self._delivery = delivery
        else:
            delivery.on_write(self, self._loop.time())

    def _note_writing(self) -> None:
        self._written_early = not self.used
        if self._unwritten:
            self._unwritten, self._awaited = False, True
            if self._delivery is not None:
                self._delivery.on_write(self, self._loop.time())
                self._delivery = None

    def feed_data(self, data: Any, *size: int) -> None:
        """Take a response whose headers are complete. aiohttp 3.14 also passes a size."""
        message, self._body = data
        self._first_line = b""
        self._awaited = not is_final(message.code)
        if not self._awaited:
            self.status = message.code
        if message.code == 101:
            # The server speaks another protocol from now on.
            self.force_close()
        super().feed_data(data, *size)

    def data_received(self, data: bytes) -> None:
        """Parse headers line by line, so that nothing that follows can spoil them."""
        start, length = 0, len(data)
        if self._awaited and data.startswith(b"HTTP/") and data.find(b"\r\n\r\n") == length - 4:
            # Nearly always the headers arrive whole, and nothing follows them.
            super().data_received(data)
            if self.exception() is not None:
                self._note_status(data)
            return
        while self._awaited and start < length:
            end = data.find(b"\n", start) + 1 or length
            self._receive_line(data[start:end])
            start = end if self.exception() is None else length
        rest = data[start:] if start else data
        if self._body is not None and not self._body.is_eof():
            # Without data, too: this is how aiohttp resumes after a pause.
            super().data_received(rest)
        elif rest:
            self.force_close()
            self.close()

    def _receive_line(self, line: bytes) -> None:
        """Parse a line of the headers, or the part of it that has arrived."""
        self._note_status(line)
        self._head_size += len(line)
        self._head_lines += line.endswith(b"\n")
        if self._head_size > _LONGEST_HEAD or self._head_lines > _MOST_LINES:
            self.set_exception(aiohttp.ClientPayloadError("the headers do not end"))
            if self.transport is not None:
                self.transport.close()
        else:
            super().data_received(line)

    def _note_status(self, data: bytes) -> None:
        """Note the final status, if ``data`` completes the first line of a response."""
        if self._first_line.endswith(b"\n") or len(self._first_line) > _LONGEST_FIRST_LINE:
            return
        self._first_line = (self._first_line + data).lstrip(b"\r\n")
        if (found := _STATUS_LINE.match(self._first_line)) and is_final(int(found[1])):
            self.status = int(found[1])


@define
class DirectResponse:
    """A response to a request that was sent directly, its body still unread. The receiver releases it.

    ``content`` is None if nothing but the status could be read, and then there is no connection to release.
    """

    status: int
    headers: Headers
    content: aiohttp.StreamReader | None = None
    _connection: Connection | None = None

    def release(self) -> None:
        """Give the connection back; it is closed if the body was not read to its end."""
        if self._connection is not None:
            self._connection.release()


class Connections(aiohttp.TCPConnector):
    """The connections of a session, over which requests can also be sent directly."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        self.is_direct: bool = False  # whether requests may bypass the session
        self._writes = Writes(asyncio.get_running_loop())
        # The server of the last request, and what `connect` wants to know of it.
        self._server: URL | None = None
        self._target: aiohttp.ClientRequest
        # The headers of the last request as they are sent, and what tells them from those of another one.
        self._head, self._head_key = b"", tuple[object, ...]()
        self._seen: WeakSet[Any] = WeakSet()  # connections with aiohttp's own protocol that have been used
        if _PROTOCOL_FITS and not _note_missing(self, "TCPConnector", ("_factory", "_loop")):
            protocol: Callable[..., ResponseHandler] = SingleResponseProtocol
            self._factory = partial(protocol, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        """Return a new or a used connection on which nothing has arrived, for the session.

        Raises `aiohttp.ServerDisconnectedError` if something has arrived on a new one.
        """
        while True:
            connection = await super().connect(*args, **kwargs)
            used = self._was_used(connection)
            protocol: Any = getattr(connection, "protocol", None)
            if protocol is None:
                return connection
            try:
                # In these two turns the event loop receives what has already arrived.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except BaseException:
                connection.close()
                raise
            if protocol.is_connected() and not getattr(protocol, "should_close", False):
                return connection
            connection.close()
            if not used:
                raise aiohttp.ServerDisconnectedError

    def _was_used(self, connection: Connection) -> bool:
        protocol: Any = getattr(connection, "protocol", None)
        if isinstance(protocol, SingleResponseProtocol):
            return protocol.used
        _note_unfit(self)
        if protocol is None:
            return False
        seen = protocol in self._seen
        self._seen.add(protocol)
        return seen

    async def send(
        self,
        server: URL,
        start: str,
        headers: Callable[[], dict[str, str]],
        body: bytes,
        *,
        key: tuple[object, ...],
        limits: aiohttp.ClientTimeout,
        delivery: Delivery,
    ) -> DirectResponse:
        """Send a request that starts with ``start`` (method and path) and return the response to it.

        ``headers`` returns all but those of the host and the length. Where ``key`` is the same, so are they.
        Of ``limits`` only the one for connecting counts. Raises what a session's ``request`` raises, and
        `UnfitConnectionError` before anything is sent.
        """
        delivery.is_watched = True
        if server is not self._server:
            self._server = server
            self._target = aiohttp.ClientRequest("POST", server, loop=self._loop)
        target = self._target
        message = self._message(start, headers, body, key)
        while True:
            try:
                connection = await super().connect(target, [], limits)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {server} in time") from error
            protocol = connection.protocol
            if not delivery.trust.doubts(protocol):
                break
            connection.close()
        if not isinstance(protocol, SingleResponseProtocol):
            connection.close()
            _note_unfit(self)
            raise UnfitConnectionError("it does not have the protocol of this client")
        try:
            protocol.send(message, delivery, self._writes)
            while True:
                head, content = await protocol.read()
                if is_final(head.code):
                    return DirectResponse(head.code, head.headers, content, connection)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(
                target.request_info, (), status=error.code, message=error.message
            ) from error
        except BaseException:
            connection.close()
            raise

    def _message(
        self, start: str, headers: Callable[[], dict[str, str]], body: bytes, key: tuple[object, ...]
    ) -> bytes:
        key = self._server, len(body), *key
        if key != self._head_key:
            named = {"Host": self._target.headers["Host"], **headers(), "Content-Length": len(body)}
            lines = (_line(f"{name}: {value}") for name, value in named.items())
            self._head, self._head_key = b"".join(lines) + b"\r\n", key
        return _line(f"{start} HTTP/1.1") + self._head + body


def _line(text: str) -> bytes:
    if not text.isprintable():
        raise ValueError("a header contains a line break or another control character")
    return f"{text}\r\n".encode()


# What is taken from aiohttp beyond its documentation


# The values are the arguments that are passed, ``self`` included. With None the signature is not checked: the
# name is no function, or `_try_protocol` or `_try_request` calls it.
_Parts = dict[str, tuple[object, ...] | None]

# Without these, connections keep aiohttp's own protocol.
_PROTOCOL_PARTS: _Parts = {
    "client_proto.ResponseHandler": None,
    "client_proto.ResponseHandler.connection_made": None,
    "client_proto.ResponseHandler.set_response_params": None,
    "client_proto.ResponseHandler.feed_data": None,
    "client_proto.ResponseHandler.data_received": None,
    "client_proto.ResponseHandler.read": None,
    "client_proto.ResponseHandler.exception": None,
    "client_proto.ResponseHandler.set_exception": (None, None, None),
    "client_proto.ResponseHandler.is_connected": None,
    "client_proto.ResponseHandler.force_close": None,
    "client_proto.ResponseHandler.close": None,
}

# Without these, the session sends all requests.
_DIRECT_PARTS: _Parts = {
    "http.HttpProcessingError": None,
    "connector.Connection.protocol": None,
    "connector.Connection.release": (None,),
    "connector.Connection.close": (None,),
    "TCPConnector.connect": (None, None, [], None),
    "ClientRequest": None,
    "ClientSession._request": None,
    "ClientRequest.send": None,
    "ClientResponse.start": None,
}

# Attributes that only an open session has. They tell whether it changes requests.
_SESSION_PARTS = ("_request_class", "_response_class", "_default_proxy", "_middlewares")

_LESS_PROTECTED = " Data that no request asked for is recognized only if it arrives before the next request."

# The missing parts, each with whether the log has named it. Only the functions below change this.
_missing: dict[str, bool] = {}


def lacking() -> tuple[str, ...]:
    """Return the parts of aiohttp that are missing, as dotted names; empty when requests are sent directly.

    Most parts are known on import, the others once a session was opened and has connected. Not among them:
    what a tool for tests or tracing has replaced, which also makes the session send all requests.
    """
    return tuple(_missing)


def _find_missing(parts: _Parts) -> bool:
    """Note which parts are missing or cannot be called as they are here; return True if there are any."""
    found = len(_missing)
    for name, arguments in parts.items():
        if name.rpartition(".")[0] in _missing:
            continue
        try:
            part = attrgetter(name)(aiohttp)
        except AttributeError:
            _missing.setdefault(name, False)
            continue
        if arguments is not None and not _can_be_called(part, arguments):
            _missing.setdefault(f"{name} (another signature)", False)
    return len(_missing) > found


def _can_be_called(function: Any, arguments: tuple[object, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _note_missing(thing: object, kind: str, names: tuple[str, ...]) -> bool:
    """Note which attributes an object of aiohttp's does not have; return True if there are any."""
    absent = [f"{kind}.{name}" for name in names if not hasattr(thing, name)]
    for name in absent:
        _missing.setdefault(name, False)
    return bool(absent)


def _note_unfit(connections: Connections) -> None:
    """Note that aiohttp made a connection with its own protocol, if it should have had ours."""
    connections.is_direct = False
    if not _missing:
        _missing["TCPConnector._factory (not used)"] = False
    _log_missing()


def _log_missing() -> None:
    """Name the missing parts in the log, each part once in a process.

    The level is WARNING: an operator who sees it can choose another version of aiohttp, or accept the cost.
    """
    unnamed = [name for name, is_logged in _missing.items() if not is_logged]
    if not unnamed:
        return
    _missing.update(dict.fromkeys(unnamed, True))
    _log.warning(
        "aiohttp %s lacks what is needed to send requests directly over a connection: %s. "
        "Its session sends them, which takes twice the processor time.%s",
        aiohttp.__version__,
        ", ".join(unnamed),
        "" if _recognizes_all_unasked_data() else _LESS_PROTECTED,
    )


def _recognizes_all_unasked_data() -> bool:
    needed = "TCPConnector._", "connector.Connection.protocol"
    return _PROTOCOL_FITS and not any(name.startswith(needed) for name in _missing)


class _TrialTransport(asyncio.Transport):
    """Keeps what is written. For the trials only."""

    written: bytes = b""
    closed: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class _TrialLoop:
    """Runs what is to be called soon at once. For the trials only."""

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        callback(*args)

    def time(self) -> float:
        return 0.0

    def get_debug(self) -> bool:
        return False


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns, which has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    coroutine.close()
    raise RuntimeError("it waits")


def _try_protocol() -> None:
    """Send two requests without a network. Raises anything if aiohttp reads the responses otherwise."""
    transport = _TrialTransport()
    loop = cast("asyncio.AbstractEventLoop", _TrialLoop())
    protocol, writes = SingleResponseProtocol(loop=loop), Writes(loop)
    protocol.connection_made(transport)
    protocol.send(b"one,", Delivery(), writes)
    protocol.data_received(b"HTTP/1.1 204 No Content\r\n\r\n")
    codes = [_finish(protocol.read())[0].code]
    protocol.send(b"two", Delivery(), writes)
    protocol.data_received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    protocol.data_received(b"unasked")
    (interim, _), (message, body) = _finish(protocol.read()), _finish(protocol.read())
    seen = (
        transport.written,
        (*codes, interim.code, message.code, message.headers["content-length"]),
        (body.is_eof(), body.read_nowait()),
        (transport.closed, protocol.is_connected(), protocol.exception()),
    )
    if seen != (b"one,two", (204, 100, 200, "2"), (True, b"{}"), (True, False, None)):
        raise RuntimeError("it reads a response otherwise")


def _try_request() -> None:
    """Make what `connect` is given. Raises anything if aiohttp works otherwise."""
    loop = cast("asyncio.AbstractEventLoop", _TrialLoop())
    request = aiohttp.ClientRequest("POST", URL("http://localhost:1"), loop=loop)
    aiohttp.ClientResponseError(request.request_info, (), status=400, message="")
    if (request.headers["Host"], request.connection_key.port) != ("localhost:1", 1):
        raise RuntimeError("it has another Host")
    if not inspect.iscoroutinefunction(aiohttp.TCPConnector.connect):
        raise RuntimeError("connect() is not a coroutine function")


def _try_session() -> None:
    """Write a request as the session does. Raises anything if the protocol does not hear of that."""
    loop = cast("asyncio.AbstractEventLoop", _TrialLoop())
    for body in (None, b"body"):
        transport = _TrialTransport()
        protocol = SingleResponseProtocol(loop=loop)
        protocol.hears_of_writing = True
        protocol.connection_made(transport)
        protocol.set_response_params(read_until_eof=True, **READING)
        request = aiohttp.ClientRequest("POST", URL("http://localhost:1"), data=body, loop=loop)
        connection: Any = SimpleNamespace(protocol=protocol, _connector=SimpleNamespace(force_close=False))
        if body is None:
            _finish(request.send(connection))
        else:
            writer = aiohttp.http.StreamWriter(protocol, loop)
            _finish(writer.write_headers("POST / HTTP/1.1", request.headers))
            _finish(request.write_bytes(writer, connection, len(body)))
        if not transport.written.endswith(body or b"\r\n\r\n") or not protocol._awaited:
            raise RuntimeError("it does not tell when it has written")


def _fails(name: str, trial: Callable[[], None]) -> bool:
    """Note that a part works otherwise, if it does; return True then."""
    try:
        trial()
    except Exception as error:
        # Whatever an unknown aiohttp raises here, its session still works.
        _missing.setdefault(f"{name} ({type(error).__name__}: {error})", False)
        return True
    return False


_PROTOCOL_FITS = not (_find_missing(_PROTOCOL_PARTS) or _fails("client_proto.ResponseHandler", _try_protocol))
if _PROTOCOL_FITS:
    # Without this, an unasked response may be taken for one if it comes just before the session writes.
    with suppress(Exception):
        _try_session()
        SingleResponseProtocol.hears_of_writing = True
_find_missing(_DIRECT_PARTS) or _fails("ClientRequest", _try_request)


# When the session has to send a request

_CLASSES = tuple(
    getattr(aiohttp, name, None) for name in ("ClientSession", "ClientRequest", "ClientResponse")
)

# Tools for tests and tracing replace these methods. Where aiohttp lacks one, `_missing` has named it.
_methods = attrgetter(
    "ClientSession.request", "ClientSession._request", "ClientRequest.send", "ClientResponse.start"
)
_METHODS: tuple[object, ...] = ()
with suppress(AttributeError):
    _METHODS = _methods(aiohttp)


def _is_genuine(method: object) -> bool:
    return type(method) is FunctionType and method.__globals__.get("__name__", "").startswith("aiohttp.")


# Whether no method had been replaced already when this module was imported.
_ALL_GENUINE = all(map(_is_genuine, _METHODS))


def open_session() -> aiohttp.ClientSession:
    """Return a session for this client: without cookies or a limit of its own. Needs a running event loop."""
    connections = Connections()
    session = aiohttp.ClientSession(connector=connections, cookie_jar=aiohttp.DummyCookieJar())
    connections.is_direct = _changes_nothing(session)
    _log_missing()
    return session


def direct_connections(session: aiohttp.ClientSession, body: bytes) -> Connections | None:
    """Return the connections of a session if a request may be sent directly over them, otherwise None.

    The session has to be from `open_session`, and nothing may observe or replace its requests: no tracing,
    no replaced method, no setting that `open_session` does not use. The body has to be written all at once:
    an early response would leave the rest of it to the next request.
    """
    connections = session.connector
    if _missing or not isinstance(connections, Connections) or not connections.is_direct:
        return None
    is_replaced = _methods(aiohttp) != _METHODS
    return None if is_replaced or len(body) > _SHORT_BODY else connections


def can_be_watched() -> bool:
    """Return True if a request of the session can be watched as it is written."""
    needed = "ClientRequest.send", "connector.Connection.protocol"
    return not any(name.startswith(needed) for name in _missing)


def tell_when_written(connection: Any, delivery: Delivery, now: float) -> None:
    """Tell ``delivery`` when the session writes its request to a connection; it is about to do so."""
    if isinstance(connection.protocol, SingleResponseProtocol):
        connection.protocol.tell_when_written(delivery)
    else:
        delivery.on_write(connection.protocol, now)


def middlewares_of(session: aiohttp.ClientSession) -> tuple[aiohttp.ClientMiddlewareType, ...] | None:
    """Return the middlewares that a session was opened with, or None if this aiohttp does not tell."""
    middlewares = getattr(session, "_middlewares", None)
    return None if middlewares is None else tuple(middlewares)


def _changes_nothing(session: aiohttp.ClientSession) -> bool:
    """Return True if a session sends requests as it is given them.

    A tool that changes how sessions are opened makes this False.
    """
    if _note_missing(session, "ClientSession", _SESSION_PARTS) or not _ALL_GENUINE:
        return False
    classes = type(session), session._request_class, session._response_class
    settings = (
        session.headers,
        session.skip_auto_headers,
        session.auth,
        session.trust_env,
        session.trace_configs,
        session._default_proxy,
        session._middlewares,
    )
    return classes == _CLASSES and not any(settings)
