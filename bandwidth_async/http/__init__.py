"""How a request is sent: connections, timeouts, and one attempt with its errors. Imports aiohttp."""

from bandwidth_async.http.connections import lacking, open_session
from bandwidth_async.http.delivery import Delivery
from bandwidth_async.http.exchange import ResponseInfo, exchange
from bandwidth_async.http.proxy import check_proxy, proxy_of
from bandwidth_async.http.server import Server, connections_of, is_loopback, origin
from bandwidth_async.http.timeouts import Timeout, Timeouts, TimeoutTimer

__all__ = [
    "Delivery",
    "ResponseInfo",
    "Server",
    "Timeout",
    "TimeoutTimer",
    "Timeouts",
    "check_proxy",
    "connections_of",
    "exchange",
    "is_loopback",
    "lacking",
    "open_session",
    "origin",
    "proxy_of",
]
