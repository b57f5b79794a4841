"""The stores that processes can share a limit over, by their URLs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sharing.over_redis import SCHEMES, RedisCarrier, reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.sharing.carrier import Carrier

LOCAL = "local:"


def carrier_for(store: str) -> Callable[[str], Carrier]:
    """Return a function that makes the carrier of a store, given the name that the processes share.

    Raises `ConfigurationError` for another kind of store, a URL that cannot be read, or a missing extra.
    """
    scheme = store.partition(":")[0].lower()
    if scheme in SCHEMES:
        return partial(RedisCarrier, reading(store))
    raise ConfigurationError(
        f"a store is redis://…, rediss://…, redis+sentinel://…, redis+cluster://… or {LOCAL}"
    )
