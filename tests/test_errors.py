"""What can go wrong: the tree, what an error carries, and what it says."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import TYPE_CHECKING, Any

import pytest

from bandwidth_async import errors
from bandwidth_async.errors import (
    APIError,
    BandwidthError,
    CertificateError,
    ClientStateError,
    ConfigurationError,
    DeadlineExceededError,
    MissingCredentialsError,
    RateLimitError,
    TransportError,
    WebhookError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# One value for every keyword of every error. A new keyword has to be added here: then it is tested.
VALUES: dict[str, Any] = {
    "attempts": 3,
    "retry_after": 1.5,
    "ambiguous": True,
    "status": 503,
    "type": "system-overloaded",
    "description": "too much",
    "error_id": "9f3c",
    "request": "end conference conf-1",
    "dropped": True,
    "calls_ended": ("c-1",),
    "calls_left": ("c-2", "c-3"),
    "lasting": True,
    "last_error": RateLimitError(
        "end conference conf-1: answered 429", status=429, retry_after=0.5, attempts=2
    ),
}


def family(root: type[BandwidthError]) -> list[type[BandwidthError]]:
    """Return ``root`` and everything below it that the package defines."""
    below = [kind for child in root.__subclasses__() for kind in family(child)]
    return [root, *(kind for kind in below if kind.__module__ == errors.__name__)]


def keywords(kind: type[BandwidthError]) -> dict[str, Any]:
    """Return a value for every keyword that ``kind`` takes."""
    return {
        name: VALUES[name]
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def facts(error: BandwidthError) -> tuple[type, tuple[Any, ...], dict[str, Any]]:
    """Return everything an error is made of, comparable."""
    carried = {
        name: facts(value) if isinstance(value, BandwidthError) else value
        for name, value in vars(error).items()
    }
    return type(error), error.args, carried


def drawn_tree(docstring: str) -> dict[str, str]:
    """Return child and parent of every line of the tree in a docstring."""
    parents: dict[str, str] = {}
    way: list[str] = []
    for branch, name in re.findall(r"^    ([ │├└─]*)(\w+Error)\b", docstring, re.MULTILINE):
        depth = len(branch) // 4
        way[depth:] = [name]
        parents[name] = way[depth - 1] if depth else ""
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    """The tree in the module's docstring names every error, each under its parent."""
    real = {
        kind.__name__: next(base.__name__ for base in kind.__bases__ if base.__module__ == errors.__name__)
        for kind in family(BandwidthError)[1:]
    }
    assert drawn_tree(errors.__doc__ or "") == {"BandwidthError": "", **real}


def test_no_error_stands_outside_the_tree() -> None:
    """``except BandwidthError`` catches whatever the module defines."""
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(family(BandwidthError))


@pytest.mark.parametrize("kind", family(BandwidthError)[1:])
def test_each_error_says_when_it_is_raised(kind: type[BandwidthError]) -> None:
    """The first sentence of its docstring says when, on one line."""
    assert (kind.__doc__ or "").startswith("Raised ")
    assert re.search(r"[.]", (kind.__doc__ or "").splitlines()[0])


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        (ConfigurationError, ValueError),
        (MissingCredentialsError, ValueError),
        (ClientStateError, RuntimeError),
        (DeadlineExceededError, TimeoutError),
        (WebhookError, ValueError),
    ],
)
def test_an_error_is_also_what_python_calls_it(kind: type[BandwidthError], built_in: type[Exception]) -> None:
    """Code that expects Python's own error for such a case catches ours."""
    assert issubclass(kind, built_in)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301  # our own bytes
@pytest.mark.parametrize("kind", family(BandwidthError))
def test_copied_or_pickled_it_keeps_everything(
    kind: type[BandwidthError], again: Callable[[BandwidthError], BandwidthError]
) -> None:
    """An error that was pickled, or copied for another waiter, keeps all that the first one holds."""
    error = kind("it went wrong", **keywords(kind))
    twin = again(error)
    assert twin is not error
    assert facts(twin) == facts(error)
    assert str(twin) == str(error)


@pytest.mark.parametrize("kind", family(BandwidthError))
def test_every_keyword_becomes_an_attribute(kind: type[BandwidthError]) -> None:
    """Each argument of an error can be read back under the same name."""
    assert vars(kind("it went wrong", **keywords(kind))) == keywords(kind)


@pytest.mark.parametrize("kind", family(BandwidthError))
def test_a_bare_error_claims_nothing(kind: type[BandwidthError]) -> None:
    """Without arguments an error has no attempts, is not ambiguous, knows no wait and has no text."""
    error = kind()
    assert (error.attempts, error.ambiguous, error.retry_after) == (0, False, None)
    assert (error.message, str(error)) == ("", "")


@pytest.mark.parametrize(
    ("attempts", "retry_after", "text"),
    [
        (0, None, "no"),
        (1, None, "no"),
        (2, None, "no (after 2 attempts)"),
        (1, 0.0, "no (try again in 0 s)"),
        (1, 0.25, "no (try again in 0.25 s)"),
        (1, 1.5, "no (try again in 1.5 s)"),
        (1, 300.0, "no (try again in 300 s)"),
        (5, 900.0, "no (after 5 attempts, try again in 900 s)"),
        (1, 3600.0, "no (try again in 3600 s)"),
        (1, 86400.0, "no (try again in 86400 s)"),
    ],
)
def test_the_text_tells_attempts_and_the_wait(attempts: int, retry_after: float | None, text: str) -> None:
    """The text names more than one attempt and a known wait, in readable figures."""
    error = BandwidthError("no", attempts=attempts, retry_after=retry_after)
    assert str(error) == text
    assert error.message == "no"


def test_attributes_set_later_are_in_the_text() -> None:
    """The operation adds its attempts to an error before it is raised, and they appear in the text."""
    error = TransportError("no answer")
    error.attempts = 4
    assert str(error) == "no answer (after 4 attempts)"


@pytest.mark.parametrize(
    ("status", "transient"),
    [
        (0, False),
        (302, False),
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (408, True),
        (409, False),
        (415, False),
        (429, True),
        (500, True),
        (501, False),
        (502, True),
        (503, True),
        (504, True),
        (505, False),
        (520, True),
        (599, True),
    ],
)
def test_the_status_says_whether_it_may_pass(status: int, *, transient: bool) -> None:
    """408, 429 and 5xx may succeed later, but 501 and 505 will not."""
    assert APIError("no", status=status).transient is transient


def test_a_bad_certificate_is_a_transport_error() -> None:
    """Code that handles missing responses handles this one too."""
    assert issubclass(CertificateError, TransportError)
