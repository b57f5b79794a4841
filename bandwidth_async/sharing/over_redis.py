"""A carrier over Redis: single servers, Sentinel, Cluster and TLS, as redis-py knows them.

All keys of one account and host have the same hash tag, so a cluster keeps them together::

    bandwidth_async:{…}:leader      who leads, for the time of the lease
    bandwidth_async:{…}:reports     a list of reports to the leader
    bandwidth_async:{…}:to:…        a list of letters for each process
    bandwidth_async:{…}:state       what the leader published last
    bandwidth_async:{…}:setting     the rate that an operator has set

Every key expires by itself. Leases and terms are by the clock of Redis.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import frozen

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sharing.carrier import CarrierError, Lease, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMES = {
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
}

# A URL with several hosts, which redis-py has none for.
_SEVERAL = re.compile(
    r"(rediss?)\+(sentinel|cluster)://(?:([^@/?]*)@)?([^/?@]+)(/[^?]*)?(\?.*)?", re.IGNORECASE
)

# Seconds that a connection may take, and an answer, which readers wait for longer.
_CONNECT, _ANSWER = 2.0, 2.5

# Milliseconds after which messages that nobody reads are dropped, and what holds for the next runs too.
_MESSAGES_FOR, _STATE_FOR = 10_000, 3_600_000

# Messages that are kept for a reader.
_KEPT = 1000

# Whoever holds the lead, or takes it as nobody does, has it for the time given.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if not holder and ARGV[1] ~= '' then
  holder = ARGV[1]
  if not string.find(holder, ':') then
    local time = redis.call('TIME')
    holder = holder .. ':' .. string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
  end
  redis.call('SET', KEYS[1], holder)
end
local mine = holder and string.match(holder, '^[^:]*') == string.match(ARGV[1], '^[^:]*')
if mine then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
"""
_CLAIM = (
    _HOLD
    + """
if mine then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end
return {mine and 1 or 0, holder, redis.call('GET', KEYS[2]), redis.call('GET', KEYS[3])}
"""
)
_SEND = (
    _HOLD
    + """
if not mine then return 0 end
if ARGV[3] ~= '' then redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
for at = 3, #KEYS do
  redis.call('RPUSH', KEYS[at], ARGV[at + 4])
  redis.call('LTRIM', KEYS[at], -ARGV[6], -1)
  redis.call('PEXPIRE', KEYS[at], ARGV[5])
end
return 1
"""
)
_REPORT = """
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""
_RESIGN = """
local holder = redis.call('GET', KEYS[1])
if holder and string.match(holder, '^[^:]*') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


@frozen
class Address:
    """Where Redis is: the kind of it, its hosts, and a URL as redis-py reads it, for the first host.

    ``shown`` is what an operator calls it, and ``secrets`` are the passwords, which are never shown.
    """

    kind: str
    hosts: list[tuple[str, int]]
    url: str
    service: str
    shown: str
    secrets: tuple[str, ...]

    @classmethod
    def read(cls, url: str) -> Self:
        """Return the address in a URL. Raises `ConfigurationError`, which does not quote it."""
        several = _SEVERAL.fullmatch(url)
        try:
            address = cls._of_one(url) if several is None else cls._of_several(several)
        except ValueError:
            address = None
        if address is None:
            raise ConfigurationError(
                "the URL of the store cannot be read; write redis://host:port/0, "
                "redis+sentinel://host:port,host:port/service or redis+cluster://host:port,host:port"
            )
        return address

    @classmethod
    def _of_one(cls, url: str) -> Self | None:
        split = urlsplit(url)
        if "+" in split.scheme or split.port == 0 or not (split.hostname or split.scheme == "unix"):
            return None
        shown = f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"
        return cls("single", [], url, "", shown, _secrets(url))

    @classmethod
    def _of_several(cls, parts: re.Match[str]) -> Self | None:
        scheme, kind, user, hosts, path, query = (part or "" for part in parts.groups())
        kind = kind.lower()
        service, _, database = path.strip("/").partition("/") if kind == "sentinel" else ("", "", "")
        default = 26379 if kind == "sentinel" else 6379
        given = [urlsplit(f"//{host.strip()}") for host in hosts.split(",")]
        pairs = [(one.hostname or "", one.port or default) for one in given]
        if not all(host for host, _ in pairs) or (kind == "sentinel" and not service):
            return None
        first = f"[{pairs[0][0]}]" if ":" in pairs[0][0] else pairs[0][0]
        at = f"{user}@" if user else ""
        plain = f"{scheme.lower()}://{at}{first}:{pairs[0][1]}/{database}{query}"
        return cls(kind, pairs, plain, service, f"{scheme}+{kind}://{hosts}{path}", _secrets(plain))


class RedisCarrier:
    """Carries messages over Redis. ``name`` is what the processes share."""

    def __init__(self, address: Address, name: str) -> None:
        self._address = address
        self._key = f"bandwidth_async:{{{name}}}:"
        # A client of redis-py. Its kinds share no type.
        self._client: Any = None
        self._sentinels: list[Any] = []
        # This process with its term, once it has the lead; and the time of its lease.
        self._holder, self._lease = "", 0
        self._reads_many = address.kind != "cluster"

    def __str__(self) -> str:
        return self._address.shown

    def __repr__(self) -> str:
        return f"<RedisCarrier {self._address.shown}>"

    async def claim(self, me: str, seconds: float) -> Lease:
        """Take or keep the lead, by the clock of Redis."""
        self._lease = round(seconds * 1000)
        keys = self._keys("leader", "state", "setting")
        mine, holder, state, setting = await self._eval(_CLAIM, keys, me, self._lease, _STATE_FOR)
        if mine:
            self._holder = holder
        return Lease(bool(mine), int(holder.rpartition(":")[2]), state, _rate(setting))

    async def resign(self, me: str) -> None:
        """Give the lead back."""
        await self._eval(_RESIGN, self._keys("leader"), me)

    async def report(self, me: str, message: str) -> None:
        """Send a message to the leader."""
        await self._eval(_REPORT, self._keys("reports"), message, _KEPT, _MESSAGES_FOR)

    async def reports(self, seconds: float) -> list[str]:
        """Wait for messages to the leader."""
        return await self._read("reports", seconds)

    async def send(self, letters: Mapping[str, list[str]], state: str | None) -> bool:
        """Send letters and publish the state, if the lead is still free or one's own."""
        pairs = [(f"to:{name}", text) for name, texts in letters.items() for text in texts]
        keys = self._keys("leader", "state", *(name for name, _ in pairs))
        values = [text for _, text in pairs]
        bounds = (_STATE_FOR, _MESSAGES_FOR, _KEPT)
        return bool(await self._eval(_SEND, keys, self._holder, self._lease, state or "", *bounds, *values))

    async def letters(self, me: str, seconds: float) -> list[str]:
        """Wait for letters to a process."""
        return await self._read(f"to:{me}", seconds)

    async def look(self) -> Seen:
        """Return what an operator sees."""
        with self._explained():
            holder, state, setting = await self._opened().mget(self._keys("leader", "state", "setting"))
        return Seen(holder is not None, state, _rate(setting))

    async def set_rate(self, rate: float | None) -> None:
        """Set the rate for all, until nobody has shared it for an hour."""
        with self._explained():
            if rate is None:
                await self._opened().delete(f"{self._key}setting")
            else:
                await self._opened().set(f"{self._key}setting", rate, px=_STATE_FOR)

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        with self._explained():
            for one in (client, *self._sentinels):
                if one is not None:
                    await one.aclose()

    def _keys(self, *names: str) -> list[str]:
        return [self._key + name for name in names]

    async def _eval(self, script: str, keys: list[str], *values: str | float) -> Any:
        with self._explained():
            return await self._opened().eval(script, len(keys), *keys, *values)

    async def _read(self, name: str, seconds: float) -> list[str]:
        """Return all messages in a list, or one where the server can take only one at a time."""
        client, key = self._opened(), self._key + name
        with self._explained():
            if self._reads_many:
                from redis.exceptions import ResponseError  # noqa: PLC0415 - an extra

                try:
                    found = await client.blmpop(seconds, 1, key, direction="LEFT", count=_KEPT)
                    return list(found[1]) if found else []
                except ResponseError as error:
                    # Redis has it since version 7.
                    if "unknown command" not in str(error).lower():
                        raise
                    self._reads_many = False
            found = await client.blpop([key], timeout=seconds)
            return [found[1]] if found else []

    def _opened(self) -> Any:
        if self._client is None:
            self._client, self._sentinels = _open(self._address)
        return self._client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise whatever Redis and its client raise as a `CarrierError`, without a password."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        try:
            yield
        # An option that redis-py does not know is a TypeError.
        except (RedisError, OSError, TypeError, ValueError) as error:
            reason = str(error).partition(" script:")[0].strip() or type(error).__name__
            for secret in self._address.secrets:
                reason = reason.replace(secret, "…")
            raise CarrierError(reason) from error


def reading(url: str) -> Address:
    """Return the address in a URL. Raises `ConfigurationError`, also without the extra."""
    try:
        from redis.asyncio.connection import parse_url  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "sharing a limit over Redis needs redis-py: pip install 'bandwidth_async[redis]'"
        ) from None
    address = Address.read(url)
    try:
        parse_url(address.url)
    except ValueError:
        raise ConfigurationError(f"an option in the URL of {address.shown} cannot be read") from None
    return address


def _open(address: Address) -> tuple[Any, list[Any]]:
    """Return a client that leaves retries to the caller, and the clients of the sentinels."""
    from redis.asyncio import Redis, RedisCluster, Sentinel  # noqa: PLC0415 - an extra
    from redis.asyncio.cluster import ClusterNode  # noqa: PLC0415 - an extra
    from redis.asyncio.connection import parse_url  # noqa: PLC0415 - an extra
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - an extra
    from redis.backoff import NoBackoff  # noqa: PLC0415 - an extra

    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_connect_timeout": _CONNECT,
        "socket_timeout": _ANSWER,
        "retry": Retry(NoBackoff(), 0),
    }
    if address.kind == "single":
        return Redis.from_url(address.url, **options), []
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        return RedisCluster.from_url(address.url, startup_nodes=nodes, **options), []
    given: dict[str, Any] = dict(parse_url(address.url))
    secure = given.pop("connection_class", None) is not None
    given.pop("host", None), given.pop("port", None)
    own = {
        key.removeprefix("sentinel_"): given.pop(key) for key in list(given) if key.startswith("sentinel_")
    }
    shared = {key: value for key, value in given.items() if key.startswith("ssl_")} | {"ssl": secure}
    sentinel: Any = Sentinel(address.hosts, sentinel_kwargs={**options, **shared, **own})  # type: ignore[no-untyped-call]  # redis
    return sentinel.master_for(address.service, **{**options, **given, "ssl": secure}), sentinel.sentinels


def _rate(setting: str | None) -> float | None:
    try:
        rate = float(setting or "")
    except ValueError:
        return None
    return rate if rate > 0 else None


def _secrets(url: str) -> tuple[str, ...]:
    split = urlsplit(url)
    given = [split.password or ""] + [value for name, value in parse_qsl(split.query) if "password" in name]
    return tuple({spelling for one in given if one for spelling in (one, unquote(one))})
