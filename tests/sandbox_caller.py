"""A plain client of the sandbox for its own tests, which checks all responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from bandwidth_async.sandbox import Sandbox
from tests.description import Description, missing, watching

ACCOUNT = "/api/v2/accounts/9900000"
LIST = f"{ACCOUNT}/conferences"
TOKEN = "/api/v1/oauth2/token"


class Reply:
    """A complete response."""

    def __init__(self, status: int, headers: CIMultiDictProxy[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Caller:
    """A client of one sandbox, with Basic authentication by default."""

    def __init__(self, sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self._session = session

    @property
    def basic(self) -> str:
        """The header of the API user."""
        return aiohttp.encode_basic_auth(self.sandbox.username, self.sandbox.password)

    async def ask(self, method: str, path: str, *, authorization: str | None = None, **options: Any) -> Reply:
        """Send one request and return its complete response."""
        credentials = {"Authorization": self.basic if authorization is None else authorization}
        headers = {**credentials, **options.pop("headers", {})}
        url = URL(self.sandbox.url + path if path.startswith("/") else path, encoded=True)
        async with self._session.request(method, url, headers=headers, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def token(self, **changes: Any) -> Reply:
        """Ask for a token."""
        client = aiohttp.encode_basic_auth(self.sandbox.client_id, self.sandbox.client_secret)
        options = {"data": {"grant_type": "client_credentials"}, "authorization": client, **changes}
        return await self.ask("POST", TOKEN, **options)

    async def bearer(self) -> str:
        """Return the header with a fresh token."""
        return f"Bearer {(await self.token()).json['access_token']}"

    def requests(self) -> dict[str, dict[str, int]]:
        """Return the counts of requests in the truth."""
        counts = self.sandbox.truth()["requests"]
        assert isinstance(counts, dict)
        return counts


@asynccontextmanager
async def calling(**settings: Any) -> AsyncIterator[Caller]:
    """Run a sandbox of these settings and a client of it.

    Every response of the API is checked with the published description, if there is a copy of it.
    """
    watch: AbstractContextManager[object] = nullcontext() if missing() else watching(Description.load())
    with watch:
        async with Sandbox(**settings) as sandbox, aiohttp.ClientSession() as session:
            yield Caller(sandbox, session)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it never happened")
