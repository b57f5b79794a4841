"""A stand-in for Bandwidth's Voice API and its OAuth2 token endpoint, for tests and rehearsals.

It is stateful, serves on this machine only unless told otherwise, and can be as slow, strict and
faulty as wanted.

``GET /_sandbox/truth`` tells what really happened: ``conferences`` has for each id when it ended, how many
valid end requests reached it, how many members it has now, how many of its calls are alive, and how many
recordings there are; ``requests`` counts the answers of each kind of request by status as sent, by the
name of the fault when no whole answer was given (reset-before, reset-after, hang-before, hang-after, cut),
or as ``abandoned`` when the client left before the work began; ``events`` counts what became of each kind
of webhook, in the words of `sandbox.sender`. ``GET /_sandbox/active-calls`` has the ids of all calls alive.
Both go out bit by bit while other requests are answered: each conference is told as it is in its turn.

Faithful to what Bandwidth publishes (OpenAPI description, errors page), and held against it by the tests:

- all paths, methods, fields, media types and types of the conference endpoints and of a call's; 204 and
  200 for what is accepted; the form of errors, the types of 400, 401, 403, 404, 405 and 503; OAuth2 client
  credentials and Basic authentication
- the validation of an update; listing oldest first with ``Link: <url>; rel="next"``
- ending ejects the members while their calls live on; the last member that leaves completes a conference;
  a call is known for 7 days after its end
- BXML in a conference has six verbs; recordings are made by it and have one channel
- webhooks: fields, POST with JSON or GET with a query, no Authorization before a Basic challenge, 15
  seconds, one second try on a connection error; BXML that answers one is played

Guesses, where nothing is published:

- updating an ended conference: 404 (settings ``already_ended``: 404, 409, 204; a redirect and BXML never get
  204), or an ended call: 409 (``call_already_ended``: 409, 404, 200)
- ended conferences are kept for ever (setting ``forget_ended``); so are recordings, members are not
- the quota and the unit of ``Retry-After`` (settings ``quota`` and ``hint``); one quota covers the account
- ``redirectMethod`` and ``redirectFallbackMethod``, documented as not allowed with ``completed``, are
  tolerated there, as Bandwidth's own SDK sends them; so are credentials, and a call's fallback URL
- unknown fields are ignored; redirect URLs are http or https, as the example of an error has it, with a host,
  a port that can be, and no spaces or control characters
- null in an update means absent; what a thing lacks is left out of an answer rather than null
- the order of checks: path 404, 401, 403, 429, 405, 415, 413, 400, conference, member or call 404, 409
- the error types of 409, 413, 415 (``validation``), 429 (``too-many-requests``) and 500 (``internal-error``);
  all descriptions; the limit of 1 MiB on a request; JSON has to be UTF-8, NaN is none
- a time without a zone in a listing is UTC; unknown query parameters are ignored
- ``application/json`` comes without a charset (the errors page shows one, the description does not)
- a token lives an hour (setting ``token_lifetime``); client credentials are taken from Basic alone
- a conference that never had a member stays active until it is ended
- a redirected call leaves its conference at once; its redirect, and its tag, have no other effect
- calls are inbound, answered when their conference was created, and end by ``hangup``
- a recording under way is listed as ``processing`` without media, end and duration; starting another one
  meanwhile, and stopping, pausing or resuming none, has no effect; it stops with its conference; pauses
  do not count in ``duration``; at rest its file is 16-bit WAV at 48 kHz, always sent whole
- BXML is refused with a document type, with text or elements where a verb has none, with ``mp3``, and with a
  relative ``recordingAvailableUrl``; the recording's tag is told instead of the conference's
- conferenceRecordingAvailable goes to the recording's own URL, else to the conference's
- each attempt of a webhook has its own 15 seconds, with credentials too; redirects are not followed; a
  redirect's fallback is asked when the first answer is not 2xx; one conference's events follow each other
  (settings ``event_duplicates`` and ``event_disorder`` say otherwise)

Not there: transcriptions, audio that anyone hears, members who join or call back, signed or mutual TLS.
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
