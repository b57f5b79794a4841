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

What Bandwidth publishes is simulated exactly, and tests check it. The sources are the OpenAPI description and
the pages on errors, webhooks, BXML, ``<Conference>``, recording and conferences at dev.bandwidth.com:

- all paths, methods, fields, media types and types of the conference endpoints and of a call's; 204 and 200
  for success; OAuth2 client credentials and Basic authentication
- the form, type, id and media type of errors; 401 also for an account without access
- the validation of an update, with credentials also allowed beside ``completed``; listing oldest first with
  ``Link: <url>; rel="next"``
- ending ejects the members while their calls go on; the last member that leaves completes a conference; a
  call is known for 7 days after its end, and a recording is kept for 30
- BXML in a conference has six verbs and 64 KB at most; relative URLs lead to the server that it came from
- recordings are made by BXML, as WAV or MP3 with one channel; a second start, and stopping, pausing or
  resuming none, has no effect; pauses do not count in ``duration``; the tag, ``transcribe`` and
  ``multiChannel`` are ignored; the event has the conference's tag and goes to ``recordingAvailableUrl`` alone
- webhooks: fields, POST with JSON or GET with a query, no Authorization before a Basic challenge, 15 seconds
  unless ``callbackTimeout`` is 1 to 25 (setting ``event_timeout``); BXML in a response is played, but ignored
  after conferenceCompleted and conferenceRecordingAvailable; these two have a second attempt after a
  connection error; a fallback is asked if there is no response

Where nothing is published, the sandbox guesses:

- updating an ended conference: 404 (setting ``already_ended``: 404, 409, 204; a redirect and BXML never get
  204); when the 409 of a call that ended recently becomes a 404: never (setting ``call_already_ended``: 409,
  404, 200)
- ended conferences are kept for ever (setting ``forget_ended``), their members are not
- the quota and the unit of ``Retry-After`` (settings ``quota`` and ``hint``); one quota covers the account
- ``redirectMethod`` and ``redirectFallbackMethod``, documented as not allowed with ``completed``, are allowed
  there, as Bandwidth's own SDK sends them; so is a call's fallback URL
- unknown fields are ignored; redirect URLs are http or https, as the example of an error has it, with a
  host, a valid port, and no spaces or control characters
- null in an update means absent; a response leaves out a field without a value rather than send null
- the order of checks: path 404, 401, 429, 405, 415, 413, 400, conference, member or call 404, 409
- 413 and the limit of 1 MiB on a request; 400 for BXML of more than 64 KB; most descriptions of errors; JSON
  has to be UTF-8
- a time without a zone in a listing is UTC; unknown query parameters are ignored
- a token is valid for an hour (setting ``token_lifetime``); client credentials are accepted by Basic alone
- a conference that never had a member stays active until it is ended; a member may coach beside another
- a redirected call leaves its conference at once; its redirect and its tag have no other effect
- calls are inbound, answered when their conference was created, and end by ``hangup``
- a recording in progress is listed as ``processing`` without media, end and duration; its file is sent whole,
  a WAV file with 16 bits at 48 kHz, an MP3 file with silence
- BXML is refused with a document type, and with text or elements where a verb has none
- a relative URL in BXML that came in a request leads to the server of the conference's events
- each attempt of a webhook has its own time, with credentials too; redirects are not followed; a fallback is
  also asked if the response is not 2xx, and after a second attempt; the events of a conference follow each
  other (settings ``event_duplicates`` and ``event_disorder`` change that)

Not simulated: roles, and so the 403 without one (``plan("403")`` sends it); the minutes until a call can be
read; the end of a conference after 24 hours; https for the credentials of a recording's webhook;
transcriptions, audio that anyone hears, members who join or call back, signed or mutual TLS.
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
