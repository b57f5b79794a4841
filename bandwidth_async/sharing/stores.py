"""The stores that processes can share a limit over, by their URLs."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bandwidth_async.directories import state_directory
from bandwidth_async.errors import ConfigurationError, JournalError
from bandwidth_async.sharing.over_redis import SCHEMES, RedisCarrier, reading
from bandwidth_async.sharing.over_socket import AVAILABLE, SocketCarrier

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
    if scheme == LOCAL.rstrip(":"):
        if not AVAILABLE:
            raise ConfigurationError("on this system processes cannot share a limit without Redis")
        return partial(SocketCarrier, _directory(store.partition(":")[2]))
    raise ConfigurationError(
        f"a store is redis://…, rediss://…, redis+sentinel://…, redis+cluster://… or {LOCAL}"
    )


def _directory(given: str) -> Path:
    """Return the directory in which the processes of this machine meet."""
    if given:
        if not Path(given).is_absolute():
            raise ConfigurationError(f"give {LOCAL} a directory from the root on, or none")
        return Path(given)
    try:
        return state_directory(os.environ) / "shared"
    except JournalError as error:
        raise ConfigurationError(str(error)) from None
