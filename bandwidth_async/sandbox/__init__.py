"""A stand-in for Bandwidth's Voice API and its OAuth2 token endpoint, for tests and rehearsals.

It is stateful, serves on this machine only unless told otherwise, and can be as slow, strict and
faulty as wanted.

``GET /_sandbox/truth`` tells what really happened: ``conferences`` has for each id when it ended and how
many valid end requests reached it; ``requests`` counts the answers of each kind (token, list, get, end,
redirect, other) by status as sent, by the name of the fault when no answer was given (reset-before,
reset-after, hang-before, hang-after), or as ``abandoned`` when the client left before the work began.

Faithful to what Bandwidth publishes (OpenAPI description, errors page): paths and methods, the fields of
a conference, the validation of an update, 204 for an accepted one, ending ejects the members while their
calls live on, listing oldest first with ``Link: <url>; rel="next"``, the form of errors, the types of
400, 401, 403, 404, 405 and 503, OAuth2 client credentials and Basic authentication.

Guesses, where nothing is published:

- updating an ended conference: 404 (settings ``already_ended``: 404, 409, 204; a redirect never gets 204)
- ended conferences are kept for ever (setting ``forget_ended``)
- the quota and the unit of ``Retry-After`` (settings ``quota`` and ``hint``); one quota covers the account
- ``redirectMethod`` and ``redirectFallbackMethod``, documented as not allowed with ``completed``, are
  tolerated there, as Bandwidth's own SDK sends them; so are credentials; unknown fields are ignored
- null in an update means absent; a conference's absent fields are left out rather than null
- the order of checks: path 404, 401, 403, 429, 405, 415, 413, 400, conference 404, 409
- the error types of 409, 413, 415 (``validation``), 429 (``too-many-requests``) and 500 (``internal-error``);
  all descriptions; the limit of 1 MiB on a request
- a time without a zone in a listing is UTC; unknown query parameters are ignored
- ``application/json`` comes without a charset (the errors page shows one, the description does not)
- a token lives an hour (setting ``token_lifetime``); client credentials are taken from Basic alone
- no webhooks are sent, and redirecting changes nothing that can be seen
"""

from bandwidth_async.sandbox.faults import FaultMix
from bandwidth_async.sandbox.hints import Hint
from bandwidth_async.sandbox.quota import (
    Concurrency,
    FixedWindow,
    Quota,
    SlidingWindow,
    TokenBucket,
    Unlimited,
)
from bandwidth_async.sandbox.service import Truth
from bandwidth_async.sandbox.stand_in import Sandbox

__all__ = [
    "Concurrency",
    "FaultMix",
    "FixedWindow",
    "Hint",
    "Quota",
    "Sandbox",
    "SlidingWindow",
    "TokenBucket",
    "Truth",
    "Unlimited",
]
