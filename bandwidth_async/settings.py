"""The keyword settings that a `VoiceClient`, its operations and its runs take, as typed dictionaries."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    import aiohttp
    from yarl import URL

    from bandwidth_async.credentials import Credentials
    from bandwidth_async.events import Event
    from bandwidth_async.http import ResponseInfo, Timeouts
    from bandwidth_async.limiter import Limiter, RateLimit
    from bandwidth_async.retry import RetryPolicy

F = TypeVar("F", bound="Callable[..., Any]")

# Ids of a run that are in work at once.
DEFAULT_CONCURRENCY = 100


class RunSettings(TypedDict, total=False):
    """Settings of each operation of a run, where they differ from the client's.

    ``retry``
        How often it is tried: a `RetryPolicy`.
    ``timeouts``
        The limits of one attempt: a `Timeouts`.
    """

    retry: RetryPolicy
    timeouts: Timeouts


class CallSettings(RunSettings, total=False):
    """Settings of one operation, where they differ from the client's.

    ``deadline``
        Seconds for the whole operation, ``math.inf`` for none.
    ``retry``
        How often it is tried: a `RetryPolicy`.
    ``timeouts``
        The limits of one attempt: a `Timeouts`.
    ``on_response``
        A plain function that is called with the `ResponseInfo` of each success: once for most methods, once a
        page for a listing. The details of a refusal are on its error.
    """

    deadline: float
    on_response: Callable[[ResponseInfo], object]


class ClientSettings(TypedDict, total=False):
    """Settings of a `VoiceClient`, as `VoiceClient.from_env` takes them."""

    account_id: str
    credentials: Credentials
    voice_url: str
    api_url: str
    rate_limit: RateLimit | None
    limiter: Limiter | None
    on_event: Callable[[Event], object] | None
    retry: RetryPolicy | None
    timeouts: Timeouts | None
    deadline: float
    session: aiohttp.ClientSession | None
    proxy: str | URL | None
    trust_env: bool
    allow_http: bool
    random: Random | None


class _NotGiven:
    """Stands in a signature for a setting whose default is that of the client, or of the class."""

    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN = _NotGiven()


def names_settings(settings: type) -> Callable[[F], F]:
    """Show the keys of ``settings`` in the signature of a function that takes them as ``**settings``.

    Type checkers know the keys already. With this ``help()`` and documentation tools name them too.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    keys = [
        inspect.Parameter(name, kind, default=_NOT_GIVEN, annotation=hint.__forward_arg__)
        for name, hint in settings.__annotations__.items()
    ]

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        shown = signature.replace(parameters=own + keys)
        function.__signature__ = shown  # type: ignore[attr-defined]  # inspect reads it
        return function

    return decorate
