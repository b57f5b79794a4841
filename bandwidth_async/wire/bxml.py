"""The BXML that a conference can be given, checked before Bandwidth finds a mistake during the conference."""

from __future__ import annotations

from bandwidth_async import bxml as documents


def conference_bxml(bxml: str) -> bytes:
    """Return ``bxml`` as it is sent, in UTF-8.

    Raises `ConfigurationError` for what is not well-formed, has another root than ``<Bxml>`` (or
    ``<Response>``), a document type or another encoding, or holds a verb that no conference takes.
    """
    return documents.outgoing(bxml)
