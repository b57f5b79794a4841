"""What can be an id: one word that stays in its own segment of a path."""

from __future__ import annotations

from bandwidth_async.errors import ConfigurationError

# The semicolon is among them as some servers drop it with what follows, before they look for dots.
_UNSAFE = frozenset("/\\%?#;")


def checked_id(value: object, what: str) -> str:
    """Return ``value`` where it can be an id.

    Raises `ConfigurationError` for whatever could leave its segment or hide there: empty text, dots only,
    slashes, percent signs, ``?``, ``#``, ``;``, white space and everything that does not print.
    """
    if (
        isinstance(value, str)
        and value.strip(".")
        and value.isprintable()
        and not any(c.isspace() for c in value)
        and _UNSAFE.isdisjoint(value)
    ):
        return value
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    raise ConfigurationError(f"{shown} is no {what}: it has to be one word without blanks and / \\ % ? # ;")
