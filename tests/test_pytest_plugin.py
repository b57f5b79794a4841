"""The pytest plugin, run as users run it: in a pytest of its own, with every warning as an error."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bandwidth_async import ClientStateError, ConfigurationError, RetryPolicy
from bandwidth_async.pytest_plugin import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from bandwidth_async.pytest_plugin import BandwidthSandbox

    Run = Callable[..., pytest.RunResult]

pytest_plugins = "pytester"

ROOT = Path(__file__).parents[1]
PLUGIN = "bandwidth_async.pytest_plugin"

ASYNC_TEST = """
    import pytest
    pytestmark = pytest.mark.{marker}

    @pytest.mark.bandwidth_sandbox(conferences=1)
    async def test_it(bandwidth_sandbox):
        sandbox = bandwidth_sandbox.sandbox
        (only,) = sandbox.conference_ids
        sandbox.plan("503", times=2)
        async with bandwidth_sandbox.client() as client:
            assert (await client.end_conference(only)).attempts == 3
        await sandbox.events_told()
        assert sandbox.truth()["requests"]["end"] == {{"503": 2, "204": 1}}
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest with this plugin and the named ones, and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source: str, *plugins: str, **settings: str) -> pytest.RunResult:
        pytester.makepyfile(source)
        named = [word for plugin in (PLUGIN, *plugins) for word in ("-p", plugin)]
        set_ = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return pytester.runpytest_subprocess(
            "-W", "error", "--strict-markers", "-p", "no:cacheprovider", *named, *set_
        )

    return run


def test_pytest_finds_it_by_itself() -> None:
    """Installing the package is enough to have the fixture."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"bandwidth_async": PLUGIN}


def test_the_example_runs_without_other_plugins(run: Run) -> None:
    """The example has planned faults, settings by marker and a separate program. It runs unchanged."""
    run((ROOT / "examples" / "test_with_sandbox.py").read_text()).assert_outcomes(passed=3)


def test_under_pytest_asyncio(run: Run) -> None:
    """The client uses the test's event loop. The sandbox uses its own."""
    scope = "asyncio_default_fixture_loop_scope"
    result = run(ASYNC_TEST.format(marker="asyncio"), "pytest_asyncio.plugin", **{scope: "function"})
    result.assert_outcomes(passed=1)


def test_under_anyio(run: Run) -> None:
    """It works as under pytest-asyncio."""
    pytest.importorskip("anyio")
    source = ASYNC_TEST.format(marker="anyio")
    source += """
    @pytest.fixture
    def anyio_backend():
        return "asyncio"
    """
    run(source, "anyio.pytest_plugin").assert_outcomes(passed=1)


def test_pytest_without_the_fixture_does_not_pay_for_it(run: Run) -> None:
    """Loading the plugin loads neither aiohttp nor the sandbox."""
    result = run("""
        import sys

        def test_it():
            assert "bandwidth_async.pytest_plugin" in sys.modules
            assert not {"aiohttp", "bandwidth_async.client", "bandwidth_async.sandbox"} & set(sys.modules)
    """)
    result.assert_outcomes(passed=1)


def test_every_start_of_pytest_gets_two_modules() -> None:
    """Loading the plugin brings itself and the package's name, and no library of its own or of Python."""
    script = f"""if True:
        import sys, pytest
        before = set(sys.modules)
        import {PLUGIN} as plugin
        print(*sorted(set(sys.modules) - before))
        assert not hasattr(plugin, "pytest_plugins")
        assert not set(sys.modules) & {{"{PLUGIN}.served"}}
        assert plugin.BandwidthSandbox.__name__ == "BandwidthSandbox"
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["bandwidth_async", "bandwidth_async._version", PLUGIN]


def test_the_nearest_marker_counts(run: Run) -> None:
    """Markers of module, class and test add up, and the test's wins. Each test has a new sandbox."""
    result = run("""
        import pytest
        pytestmark = pytest.mark.bandwidth_sandbox(members=3, seed=5)

        @pytest.mark.bandwidth_sandbox(conferences=2)
        class TestIt:
            def test_class(self, bandwidth_sandbox):
                sandbox = bandwidth_sandbox.sandbox
                assert (len(sandbox.conference_ids), sandbox.members, sandbox.seed) == (2, (3, 3), 5)
                assert bandwidth_sandbox.environ["BW_VOICE_URL"] == sandbox.url
                sandbox.add_conference()

            @pytest.mark.bandwidth_sandbox(conferences="1", seed=6)
            def test_test(self, bandwidth_sandbox):
                sandbox = bandwidth_sandbox.sandbox
                assert (len(sandbox.conference_ids), sandbox.members, sandbox.seed) == (1, (3, 3), 6)

        four = pytest.param(4, marks=pytest.mark.bandwidth_sandbox(conferences=4))

        @pytest.mark.parametrize("number", [four])
        def test_parameter(bandwidth_sandbox, number):
            assert len(bandwidth_sandbox.sandbox.conference_ids) == number
    """)
    result.assert_outcomes(passed=3)


def test_a_wrong_setting_is_a_sentence(run: Run) -> None:
    """The test does not run, the plugin prints no traceback, and no thread is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentences = {
            "conference=5": "a sandbox has no setting 'conference'; it has conferences, quota, hint, *",
            "faults='503=200%'": "the faults add up to 200 % of all requests; 100 % is the most",
            "conferences='many'": "*many*",
            "latency=object()": "<object object at *> is not a latency: write 20-200ms, 50ms, or *",
            "latency=(1,)": "(1,) is not a latency: write 20-200ms, 50ms, or (0.02, 0.2) in seconds",
            "members=None": "None is not a number of members: write 0-4 or 2, at most 20",
            "event_url='https://example.com/'": "'https://example.com/' is not on this machine: *",
            f"port={port}": f"cannot serve on 127.0.0.1 port {port} *",
        }
        tests = [
            f"@pytest.mark.bandwidth_sandbox({setting})\ndef test_{number}(bandwidth_sandbox): pass"
            for number, setting in enumerate(sentences)
        ]
        last = "def test_threads(): assert threading.active_count() == 1"
        result = run("\n".join(["import pytest, threading", *tests, last]))
    result.assert_outcomes(errors=8, passed=1)
    for sentence in sentences.values():
        result.stdout.fnmatch_lines([f"@pytest.mark.bandwidth_sandbox: {sentence}"])
    assert "Traceback" not in result.stdout.str()
    assert "During handling of the above exception" not in result.stdout.str()
    assert "pytest_plugin.py" not in result.stdout.str()


def test_a_setting_without_a_name_is_a_sentence(run: Run) -> None:
    """The meaning of such a setting would not be clear."""
    result = run("""
        import pytest

        @pytest.mark.bandwidth_sandbox(5)
        def test_it(bandwidth_sandbox):
            pass
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["@pytest.mark.bandwidth_sandbox takes settings by name: conferences=5"])


def test_the_marker_is_explained(run: Run) -> None:
    """``pytest --markers`` and ``--fixtures`` show it, and --strict-markers accepts it."""
    result = run("", addopts="--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.bandwidth_sandbox(?*settings): set up the sandbox*"])
    result = run("", addopts="--fixtures")
    result.stdout.fnmatch_lines(["bandwidth_sandbox*", "*A running stand-in for Bandwidth's Voice API*"])


def test_nothing_is_left_behind(run: Run) -> None:
    """No thread, socket or loop is left, also after a test that failed during a request."""
    result = run("""
        import asyncio, contextlib, gc, socket, threading
        import pytest
        urls = []

        @pytest.mark.bandwidth_sandbox(conferences=1)
        def test_fails(bandwidth_sandbox):
            sandbox = bandwidth_sandbox.sandbox
            urls.append(sandbox.port)
            sandbox.plan("hang")

            async def give_up():
                async with bandwidth_sandbox.client() as client, asyncio.timeout(0.2):
                    await client.get_conference(sandbox.conference_ids[0])

            asyncio.run(give_up())

        def test_after():
            gc.collect()
            assert threading.active_count() == 1
            with contextlib.closing(socket.socket()) as again:
                assert again.connect_ex(("127.0.0.1", urls[0])) != 0
    """)
    result.assert_outcomes(failed=1, passed=1)
    assert "ResourceWarning" not in result.stdout.str()


@pytest.fixture
def unheard() -> str:
    """Return a URL on this machine where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}/"


def test_its_switches_are_turned_in_its_own_thread(unheard: str) -> None:
    """A new conference sends its event from that thread. Here, without a loop, it would fail."""
    with serving(event_url=unheard, event_disorder="100%") as bandwidth:
        sandbox = bandwidth.sandbox
        added = sandbox.add_conference(members=0)
        asyncio.run(sandbox.events_told())
        truth = sandbox.truth()
    assert list(truth["conferences"]) == [added]
    assert truth["events"]["conferenceCreated"] == {"connection-error": 1}


def test_what_is_wrong_there_is_raised_here() -> None:
    """An impossible plan raises the same error as on a sandbox in this thread."""
    with serving() as bandwidth:
        with pytest.raises(ConfigurationError, match="'nonsense' is not a fault"):
            bandwidth.sandbox.plan("nonsense")
        with pytest.raises(KeyError, match="conf-none"):
            bandwidth.sandbox.call_ids("conf-none")


def test_its_insides_are_out_of_reach() -> None:
    """Private attributes belong to the other thread. You cannot read them, and you cannot set any."""
    with serving() as bandwidth:
        with pytest.raises(
            AttributeError, match="_simulation of a sandbox in another thread is out of reach"
        ):
            _ = bandwidth.sandbox._simulation
        with pytest.raises(AttributeError):
            bandwidth.sandbox.port = 1
        assert bandwidth.sandbox.url in repr(bandwidth.sandbox)
        assert bandwidth.sandbox.client_secret not in repr(bandwidth)


def test_what_is_kept_beyond_its_test_says_that_it_has_ended() -> None:
    """Every use raises that error, and only its repr still works."""
    with serving() as bandwidth:
        assert repr(bandwidth.sandbox).endswith(f" is at {bandwidth.sandbox.url}>")
        sandbox, told = bandwidth.sandbox, bandwidth.sandbox.events_told
        plan = sandbox.plan
    assert repr(sandbox).startswith("<Sandbox(")
    assert " was at http://" in repr(sandbox)

    def wait() -> None:
        asyncio.run(told())

    for use in (
        lambda: sandbox.truth()["requests"],
        lambda: plan("503"),
        bandwidth.client,
        lambda: bandwidth.environ,
        wait,
    ):
        with pytest.raises(
            ClientStateError, match="this sandbox ended with its test or fixture: use it earlier"
        ):
            use()


def test_it_can_be_down_for_a_while() -> None:
    """It stops and starts again at the same address, with its conferences unchanged."""
    with serving(conferences=1) as bandwidth:
        asyncio.run(_through_an_outage(bandwidth))


async def _through_an_outage(bandwidth: BandwidthSandbox) -> None:
    sandbox = bandwidth.sandbox
    (only,) = sandbox.conference_ids
    async with bandwidth.client(retry=RetryPolicy(attempts=1)) as client:
        await sandbox.stop()
        with pytest.raises(Exception, match="no connection"):
            await client.get_conference(only)
        await sandbox.start()
    async with bandwidth.client() as client:
        assert (await client.get_conference(only)).active


def test_its_thread_ends_with_it() -> None:
    """The thread also ends when the start fails because the port is taken."""
    before = threading.active_count()
    with serving() as bandwidth:
        assert threading.active_count() == before + 1
        with (
            pytest.raises(ConfigurationError, match="cannot serve"),
            serving(port=bandwidth.sandbox.port),
        ):
            pass  # pragma: no cover
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_client_takes_its_own_settings() -> None:
    """Its settings override those of the fixture, so that a test can use wrong ones."""
    with serving() as bandwidth:
        assert bandwidth.client().account_id == bandwidth.environ["BW_ACCOUNT_ID"]
        assert bandwidth.client(account_id="1").account_id == "1"


def test_many_threads_can_ask_at_once() -> None:
    """Each call runs between two requests, so none is lost."""
    with serving() as bandwidth:
        threads = [threading.Thread(target=bandwidth.sandbox.add_conference) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(bandwidth.sandbox.conference_ids)) == 20
