"""The command line behind a proxy: which hosts it reaches through it, and what it says when it does not."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import define, field

from bandwidth_async.cli import main
from bandwidth_async.cli.app import COMMANDS, cli
from bandwidth_async.sandbox import Sandbox
from tests.test_cli import in_thread

# They talk to nobody but this machine.
LOCAL = {"runs", "outcomes", "report", "limit", "profiles", "completion", "man", "sandbox", "demo"}
VOICE, API = "voice.nowhere.invalid", "api.nowhere.invalid"


@define(eq=False)
class Proxy:
    """A proxy that opens each tunnel to one port, with TLS of its own there, and notes what it was asked.

    ``wants`` are the name and password that it asks for, and ``refuses`` has a status for some hosts.
    """

    port: int
    tls: ssl.SSLContext
    wants: str = ""
    refuses: dict[str, str] = field(factory=dict)
    url: str = ""
    asked: list[str] = field(factory=list)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.url.removeprefix("http://")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        with suppress(OSError, EOFError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.partition("\r\n")[0].split(" ")
            self.asked.append(f"{method} {target}")
            status = self.refuses.get(target.partition(":")[0])
            given = base64.b64decode(head.partition("Proxy-Authorization: Basic ")[2].partition("\r\n")[0])
            if given != self.wants.encode():
                status = f"407 Not {given.decode()}"
            if status:
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
            else:
                await self._let_through(method, head, reader, writer)
        writer.close()

    async def _let_through(
        self, method: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.drain()
            await writer.start_tls(self.tls)
        else:
            far_writer.write(head.encode())
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Create a certificate authority that only these tests trust."""
    return trustme.CA()


@pytest.fixture
def proxy(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Serve ten conferences behind a proxy, at hosts with names that only the proxy knows."""
    trusting, presenting = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(trusting)
    authority.issue_cert(VOICE, API).configure_cert(presenting)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    found, stand_in = Proxy(0, presenting), Sandbox(conferences=10)
    with in_thread(_serving(found, stand_in)):
        for name, value in stand_in.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("BW_VOICE_URL", f"https://{VOICE}")
        monkeypatch.setenv("BW_API_URL", f"https://{API}")
        yield found


@asynccontextmanager
async def _serving(proxy: Proxy, stand_in: Sandbox) -> AsyncIterator[None]:
    async with stand_in:
        proxy.port = int(stand_in.url.rpartition(":")[2])
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listener:
            proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            yield


def listed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """List the conferences that are active, and return their ids."""
    assert main(["list", "--active", "--format", "jsonl"]) == 0
    return [json.loads(line)["conference_id"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_command_goes_through_the_proxy_of_the_environment(
    proxy: Proxy,
    variable: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both hosts do, whose names this machine does not know."""
    monkeypatch.setenv(variable, f"{scheme}{proxy.address}")
    ids = listed(capsys)
    assert len(ids) == 10
    assert main(["end", *ids]) == 0
    assert capsys.readouterr().out.count(" ended ") == 10
    assert set(proxy.asked) == {f"CONNECT {VOICE}:443", f"CONNECT {API}:443"}
    assert listed(capsys) == []


def test_a_command_goes_through_the_proxy_that_it_is_given(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It wins over the variables, which may be of a kind that is not served. An empty one is none."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    assert main(["list", "--proxy", proxy.address]) == 0
    assert f"CONNECT {VOICE}:443" in proxy.asked
    proxy.asked.clear()
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert main(["list", "--proxy", ""]) == 1
    assert "through the proxy" not in capsys.readouterr().err
    assert proxy.asked == []


COMMAND_LINES = {
    "end": ["end", "conf-1"],
    "end --all-active": ["end", "--all-active", "--yes"],
    "list": ["list"],
    "whoami": ["whoami"],
    "get": ["get", "conf-1"],
    "members": ["members", "conf-1"],
    "mute": ["mute", "conf-1", "c-1"],
    "unmute": ["unmute", "conf-1", "c-1"],
    "hold": ["hold", "conf-1", "c-1"],
    "unhold": ["unhold", "conf-1", "--all"],
    "redirect": ["redirect", "conf-1", "https://example.com/bxml"],
    "announce": ["announce", "conf-1", "--bxml", "hello.xml"],
    "wait": ["wait", "conf-1"],
    "recordings": ["recordings", "conf-1"],
    "download": ["download", "conf-1", "r-1"],
    "resume": ["resume", "a.journal"],
}


@pytest.mark.parametrize("line", COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_every_command_has_a_proxy(
    line: list[str], proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Each that talks to Bandwidth says so in its help, asks the proxy once, and tells what that refuses."""
    monkeypatch.chdir(tmp_path)
    Path("hello.xml").write_text("<Bxml><SpeakSentence>Hello</SpeakSentence></Bxml>")
    if line[0] == "resume":
        main(["end", "conf-1", "--journal", "a.journal", "--proxy", "http://127.0.0.1:9"])
    proxy.refuses = {VOICE: "403 Forbidden", API: "403 Forbidden"}
    capsys.readouterr()
    assert main([*line, "--proxy", proxy.address]) == 1
    out, err = capsys.readouterr()
    assert f"the proxy {proxy.address} does not let us through to {API}:443 (403 Forbidden)" in err
    assert "try again" not in err
    assert "unknown" not in out + err
    assert proxy.asked == [f"CONNECT {API}:443"]
    assert main([line[0], "--help"]) == 0
    assert "--proxy URL" in capsys.readouterr().out


def test_no_command_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    """The test before this one has them all, and the others take no proxy."""
    assert {name.partition(" ")[0] for name in COMMAND_LINES} == set(COMMANDS) - LOCAL
    for name in LOCAL:
        command = cli.get_command(None, name)  # type: ignore[arg-type]  # it needs none
        assert command is not None
        assert "--proxy" not in [option for one in command.params for option in one.opts]
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "HTTPS_PROXY (for plain http: http_proxy) or ALL_PROXY, and NO_PROXY" in said


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_a_proxy_with_a_name_and_password(
    way: str,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is told if they are missing or wrong, and they are shown nowhere: output, log, or journal."""
    proxy.wants = "me:hunter2@é/"
    journal = tmp_path / "a.journal"

    def end(address: str) -> str:
        line = ["-v", "end", "conf-1", "--journal", str(journal)]
        if way == "variable":
            monkeypatch.setenv("HTTPS_PROXY", address)
        else:
            line += ["--proxy", address]
        journal.unlink(missing_ok=True)
        code = main(line)
        out, err = capsys.readouterr()
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir()).decode("latin-1")
        assert "hunter" not in out + err + kept
        assert "unknown" not in out
        return f"{code} {err}"

    where = f"the proxy {proxy.address}" + (" in HTTPS_PROXY" if way == "variable" else "")
    assert f"{where} wants a name and password: write it as" in end(proxy.address)
    said = end(f"http://me:hunter3@{proxy.address}")
    assert said.startswith("1 ")
    assert f"{where} does not accept the name and password in its URL (407" in said
    assert len(proxy.asked) == 2
    assert end(f"http://me:hunter2%40%C3%A9%2F@{proxy.address}").startswith("3 ")


def test_no_proxy_for_one_of_the_two_hosts(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other one is reached through the proxy, whether it was given or found."""
    for exempt, host in (("localhost", "127.0.0.1"), ("127.0.0.0/8", "localhost")):
        monkeypatch.setenv("BW_VOICE_URL", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("BW_API_URL", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", exempt)
        monkeypatch.setenv("http_proxy", proxy.url)
        for given in ([], ["--proxy", proxy.url]):
            proxy.asked.clear()
            assert main(["list", *given]) == 0
            assert [one.split("/")[2] for one in proxy.asked] == [f"{host}:{proxy.port}"]
    capsys.readouterr()


@pytest.mark.parametrize("spelled", ["socks5h://127.0.0.1:9", "http://127.0.0.1:99999", "not a url"])
def test_what_is_no_proxy_is_a_usage_error(
    spelled: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence names the flag or the variable, and nothing is sent."""
    assert main(["end", "conf-1", "--proxy", spelled]) == 6
    out, err = capsys.readouterr()
    assert err.startswith("bandwidth-async: --proxy must look like http://host:port or https://host:port")
    monkeypatch.setenv("all_proxy", spelled)
    assert main(["end", "conf-1"]) == 6
    out, err = capsys.readouterr()
    assert err.startswith("bandwidth-async: the proxy in all_proxy must look like http://host:port or")
    assert "socks5h is not served" in err or "socks" not in spelled
    assert (out, proxy.asked) == ("", [])


def test_the_demo_asks_no_proxy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sandbox is on this machine."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert main(["demo", "--conferences", "5"]) == 0
    assert "they agree" in capsys.readouterr().out
    assert proxy.asked == []
