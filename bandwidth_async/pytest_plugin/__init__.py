"""The pytest plugin: the fixture ``bandwidth_sandbox``, a running sandbox with clients for it.

pytest loads this module at every start, also for tests that need no sandbox. So it has only the marker and
the fixture's name; everything else is in `served`, which is imported when it is used.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from bandwidth_async.pytest_plugin.served import BandwidthSandbox as BandwidthSandbox
else:

    def __getattr__(name: str) -> object:
        if name == "BandwidthSandbox":
            from bandwidth_async.pytest_plugin import served  # noqa: PLC0415 - see this module's docstring

            return served.BandwidthSandbox
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_MARKER = "bandwidth_sandbox"


def serving(**settings: Any) -> AbstractContextManager[BandwidthSandbox]:
    """Serve a `Sandbox` with these settings inside a ``with``. Use it for fixtures of another scope.

    ::

        @pytest.fixture(scope="session")
        def bandwidth():
            with serving(conferences=100) as bandwidth:
                yield bandwidth

    Raises `ConfigurationError` for settings that cannot work.
    """
    from bandwidth_async.pytest_plugin import served  # noqa: PLC0415 - see this module's docstring

    return served.serving(**settings)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**settings): set up the sandbox of the fixture {_MARKER} for this test, "
        'for example with conferences=5, faults="503=10%".',
    )


@pytest.fixture
def bandwidth_sandbox(request: pytest.FixtureRequest) -> Iterator[BandwidthSandbox]:
    """A running stand-in for Bandwidth's Voice API: .sandbox, .client() and .environ. See its marker."""
    from bandwidth_async.errors import ConfigurationError  # noqa: PLC0415 - see this module's docstring

    settings = _settings(request.node)
    with ExitStack() as stack:
        try:
            served = stack.enter_context(serving(**settings))
        except (ConfigurationError, TypeError, ValueError) as error:
            raise pytest.fail.Exception(f"@pytest.mark.{_MARKER}: {error}", pytrace=False) from None
        yield served


def _settings(test: pytest.Item) -> dict[str, Any]:
    """Return the settings of the markers of the test, its class and its module. The nearest one counts."""
    settings: dict[str, Any] = {}
    for marker in test.iter_markers(_MARKER):
        if marker.args:
            pytest.fail(f"@pytest.mark.{_MARKER} takes settings by name: conferences=5", pytrace=False)
        settings = {**marker.kwargs, **settings}
    return settings
