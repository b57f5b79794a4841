"""Whether a text can be an answer in BXML, before Bandwidth finds out during a call."""

from __future__ import annotations

from bandwidth_async import bxml as documents


def check_bxml(text: str, *, for_conference: bool = True) -> str:
    """Return ``text`` when it can answer an event: well-formed, its root ``<Bxml>`` or ``<Response>``.

    With ``for_conference`` it has only the verbs that a conference takes, as an update with BXML has; without
    it, for the events of calls, any. Raises `ConfigurationError` otherwise, for another encoding than UTF-8,
    and for a document type, which BXML has no use for and which could make a small text a very large one.
    """
    documents.outgoing(text, for_conference=for_conference)
    return text
