"""Spans and metrics of OpenTelemetry, made from the events of a client.

::

    from bandwidth_async.otel import OpenTelemetry

    async with VoiceClient.from_env(on_event=OpenTelemetry()) as client:
        ...

It needs opentelemetry-api (extra ``otel``). Where the spans and metrics go is up to the SDK that your
application sets up. Names and attributes follow the semantic conventions for HTTP clients
(https://opentelemetry.io/docs/specs/semconv/http/), and those that they do not have begin with
``bandwidth_async``. No attribute holds a credential or a token.

Metrics, all durations in seconds:

``http.client.request.duration``
    A histogram of attempts by method, server, path template, status and error.
``bandwidth_async.limiter.wait.duration``
    A histogram of the time that an attempt waited in the limiter's queue.
``bandwidth_async.operation.duration``
    A histogram of operations by name, outcome and error. Its count is the number of outcomes of each kind.
``bandwidth_async.limiter.pauses``
    Pauses of all requests by reason: ``hint``, ``refused``, ``unavailable``.
``bandwidth_async.limiter.rate``, ``bandwidth_async.limiter.quota``
    Requests per second that are sent at most, and that the server is believed to allow, at their last change.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import define, field

from bandwidth_async._version import __version__
from bandwidth_async.errors import ConfigurationError
from bandwidth_async.events import AttemptEnded, Event, OperationEnded, OperationStarted
from bandwidth_async.limiter import Paused, RateChanged, Unavailable

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as _error:
    raise ConfigurationError(
        "OpenTelemetry is not installed: pip install 'bandwidth_async[otel]'"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    Attributes = dict[str, str | int | float | bool]

_NAME = "bandwidth_async"

# Outcomes of an operation that met no trouble.
_FINE = frozenset({"ok", "ended", "already_ended", "not_found", "not_attempted"})

# Seconds: the buckets that the conventions advise for the duration of a request.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


@define
class _Open:
    """An operation that is under way: its attempts, and the span if there is one already."""

    attempts: list[AttemptEnded] = field(factory=list)
    span: trace.Span | None = None
    token: Token[context.Context] | None = None


class OpenTelemetry:
    """Makes spans and metrics: pass it as ``on_event`` to any number of clients.

    ``tracer_provider``, ``meter_provider``
        Where spans and metrics go; the global ones unless given. A ``NoOpTracerProvider`` switches spans off,
        and a ``NoOpMeterProvider`` metrics.
    ``aiohttp_instrumented``
        True where aiohttp's own instrumentation makes a span for each attempt, so that this makes none. They
        are children of the span of their operation.
    ``every_id``
        Whether each id of a run has a span. Otherwise those have one that took more than one attempt, or
        whose conference may still be active.

    A single operation has an INTERNAL span while it is under way, so that your logs name it. An id of a run
    has its span afterwards, with the true times. Each attempt has a CLIENT span as its child.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        aiohttp_instrumented: bool = False,
        every_id: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        self._aiohttp_instrumented = aiohttp_instrumented
        self._every_id = every_id
        self._open: dict[int, _Open] = {}
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        histogram = partial(meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_BUCKETS)
        self._requests = histogram(
            "http.client.request.duration",
            description="Duration of HTTP client requests.",
        )
        self._waits = histogram(
            "bandwidth_async.limiter.wait.duration",
            description="Time that an attempt waited in the limiter's queue.",
        )
        self._operations = histogram(
            "bandwidth_async.operation.duration",
            description="Duration of operations, with all their attempts and waits.",
        )
        self._pauses = meter.create_counter(
            "bandwidth_async.limiter.pauses", unit="{pause}", description="Pauses of all requests."
        )
        self._rate = meter.create_gauge(
            "bandwidth_async.limiter.rate", unit="{request}/s", description="Requests sent at most."
        )
        self._quota = meter.create_gauge(
            "bandwidth_async.limiter.quota",
            unit="{request}/s",
            description="The rate believed to be allowed.",
        )

    def __call__(self, event: Event) -> None:
        match event:
            case AttemptEnded():
                self._on_attempt(event)
            case OperationStarted():
                self._on_start(event)
            case OperationEnded():
                self._on_end(event)
            case RateChanged(rate, quota):
                self._rate.set(rate)
                if quota is not None:
                    self._quota.set(quota)
            case Paused(_, hinted):
                self._pauses.add(1, {"reason": "hint" if hinted else "refused"})
            case Unavailable():
                self._pauses.add(1, {"reason": "unavailable"})

    def _on_start(self, event: OperationStarted) -> None:
        under_way = self._open[event.serial] = _Open()
        if not event.bulk or self._aiohttp_instrumented:
            span = self._tracer.start_span(event.operation, attributes=_about(event))
            under_way.span, under_way.token = span, context.attach(trace.set_span_in_context(span))

    def _on_attempt(self, event: AttemptEnded) -> None:
        attributes = _of_request(event)
        self._requests.record(event.elapsed, attributes)
        self._waits.record(event.waited, {"bandwidth_async.operation": event.operation})
        if self._aiohttp_instrumented:
            return
        under_way = self._open.get(event.serial)
        if under_way is not None:
            under_way.attempts.append(event)
        else:
            self._add_attempt(event, None)

    def _on_end(self, event: OperationEnded) -> None:
        under_way = self._open.pop(event.serial, None) or _Open()
        attributes: Attributes = {
            "bandwidth_async.operation": event.operation,
            "bandwidth_async.outcome": event.outcome,
        }
        if event.error is not None:
            attributes["error.type"] = event.error
        self._operations.record(event.elapsed, attributes)
        if under_way.token is not None:
            context.detach(under_way.token)
        troubled = event.attempts > 1 or event.outcome not in _FINE
        if under_way.span is not None or (event.attempts and (troubled or self._every_id)):
            self._add_operation(event, under_way)

    def _add_operation(self, event: OperationEnded, under_way: _Open) -> None:
        """End the span of an operation, or make it after the fact, with those of its attempts."""
        span = under_way.span or self._tracer.start_span(
            event.operation, attributes=_about(event), start_time=_nanoseconds(event.ended_at - event.elapsed)
        )
        parent = trace.set_span_in_context(span)
        for attempt in under_way.attempts:
            self._add_attempt(attempt, parent)
        span.set_attribute("bandwidth_async.outcome", event.outcome)
        span.set_attribute("bandwidth_async.attempts", event.attempts)
        if event.error is not None:
            span.set_attribute("error.type", event.error)
            span.set_status(StatusCode.ERROR, event.message)
        span.end(_nanoseconds(event.ended_at))

    def _add_attempt(self, event: AttemptEnded, parent: context.Context | None) -> None:
        attributes = _of_request(event)
        attributes["url.full"] = event.server + event.path
        attributes["bandwidth_async.wait"] = event.waited
        if event.resend_count:
            attributes["http.request.resend_count"] = event.resend_count
        span = self._tracer.start_span(
            f"{event.method} {event.template}",
            context=parent,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=_nanoseconds(event.ended_at - event.elapsed),
        )
        if event.error is not None:
            # The status says it all where there is one; the conventions want no description then.
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(event.ended_at))


def _about(event: OperationStarted | OperationEnded) -> Mapping[str, str | bool]:
    about: dict[str, str | bool] = {"bandwidth_async.bulk": event.bulk}
    if event.id:
        about["bandwidth_async.id"] = event.id
    if event.conference_id:
        about["bandwidth_async.conference_id"] = event.conference_id
    return about


def _of_request(event: AttemptEnded) -> Attributes:
    """Return the attributes of low cardinality of an attempt."""
    scheme, address, port = _where(event.server)
    attributes: Attributes = {
        "http.request.method": event.method,
        "server.address": address,
        "server.port": port,
        "url.scheme": scheme,
        "url.template": event.template,
    }
    if event.status is not None:
        attributes["http.response.status_code"] = event.status
    if event.error is not None:
        attributes["error.type"] = (
            str(event.status) if event.status is not None and event.status >= 400 else event.error
        )
    return attributes


@lru_cache(maxsize=16)
def _where(server: str) -> tuple[str, str, int]:
    """Return the scheme, address and port of a server."""
    parts = urlsplit(server)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
