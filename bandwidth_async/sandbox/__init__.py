"""A stand-in for Bandwidth's Voice API and its OAuth2 token endpoint, for tests and rehearsals.

The sandbox keeps state and serves this machine only, unless you set another host. It can be as slow, strict
and faulty as you want.

``GET /_sandbox/truth`` returns what really happened:

- ``conferences``, by id: when it ended, how many valid end requests it got, how many members it has now, how
  many of its calls have not ended, and how many recordings it has
- ``requests``, by kind and by the status that was sent. If no whole response was sent, the name of the fault
  is counted (reset-before, reset-after, hang-before, hang-after, cut). ``abandoned`` counts requests whose
  client left before the work began
- ``events``, by kind and outcome. `sandbox.sender` lists the outcomes

``GET /_sandbox/active-calls`` returns the ids of all calls that have not ended. Both responses are sent in
blocks, and the sandbox handles other requests between two blocks. So each conference is reported as it is
when its turn comes.

What Bandwidth publishes is simulated exactly (OpenAPI description, errors page), and tests check it:

- all paths, methods, fields, media types and types of the conference endpoints and of a call's; 204 and 200
  for success; the form of errors, and the types of 400, 401, 403, 404, 405 and 503; OAuth2 client
  credentials and Basic authentication
- the validation of an update; listing oldest first with ``Link: <url>; rel="next"``
- ending ejects the members while their calls go on; the last member that leaves completes a conference; a
  call is known for 7 days after its end
- BXML in a conference has six verbs; recordings are made by it and have one channel
- webhooks: fields, POST with JSON or GET with a query, no Authorization before a Basic challenge, 15
  seconds, a second attempt after a connection error; BXML in a response is played

Where nothing is published, the sandbox guesses:

- updating an ended conference: 404 (setting ``already_ended``: 404, 409, 204; a redirect and BXML never get
  204), or an ended call: 409 (``call_already_ended``: 409, 404, 200)
- ended conferences are kept for ever (setting ``forget_ended``); so are recordings, members are not
- the quota and the unit of ``Retry-After`` (settings ``quota`` and ``hint``); one quota covers the account
- ``redirectMethod`` and ``redirectFallbackMethod``, documented as not allowed with ``completed``, are allowed
  there, as Bandwidth's own SDK sends them; so are credentials, and a call's fallback URL
- unknown fields are ignored; redirect URLs are http or https, as the example of an error has it, with a
  host, a valid port, and no spaces or control characters
- null in an update means absent; a response leaves out a field without a value rather than send null
- the order of checks: path 404, 401, 403, 429, 405, 415, 413, 400, conference, member or call 404, 409
- the error types of 409, 413, 415 (``validation``), 429 (``too-many-requests``) and 500
  (``internal-error``); all descriptions; the limit of 1 MiB on a request; JSON has to be UTF-8 without NaN
- a time without a zone in a listing is UTC; unknown query parameters are ignored
- ``application/json`` comes without a charset (the errors page shows one, the description does not)
- a token is valid for an hour (setting ``token_lifetime``); client credentials are accepted by Basic alone
- a conference that never had a member stays active until it is ended
- a redirected call leaves its conference at once; its redirect and its tag have no other effect
- calls are inbound, answered when their conference was created, and end by ``hangup``
- a recording in progress is listed as ``processing`` without media, end and duration; starting another one
  meanwhile, and stopping, pausing or resuming none, has no effect; it stops with its conference; pauses do
  not count in ``duration``; its file is 16-bit WAV at 48 kHz, always sent whole
- BXML is refused with a document type, with text or elements where a verb has none, with ``mp3``, and with a
  relative ``recordingAvailableUrl``; the event has the recording's tag instead of the conference's
- conferenceRecordingAvailable is sent to the recording's own URL, else to the conference's
- each attempt of a webhook has its own 15 seconds, with credentials too; redirects are not followed; a
  redirect's fallback is asked if the first response is not 2xx; the events of a conference follow each
  other (settings ``event_duplicates`` and ``event_disorder`` change that)

Not simulated: transcriptions, audio that anyone hears, members who join or call back, signed or mutual TLS.
"""

from bandwidth_async.sandbox.faults import FaultMix
from bandwidth_async.sandbox.quota import (
    Concurrency,
    FixedWindow,
    Hint,
    Quota,
    SlidingWindow,
    TokenBucket,
    Unlimited,
)
from bandwidth_async.sandbox.sandbox import Sandbox
from bandwidth_async.sandbox.service import Truth

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
