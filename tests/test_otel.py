"""Spans and metrics of OpenTelemetry, as the SDK records them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from bandwidth_async import NotFoundError, RateLimit
from bandwidth_async.otel import OpenTelemetry
from bandwidth_async.sandbox import Sandbox
from tests.test_events import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

END = "POST /api/v2/accounts/{accountId}/conferences/{conferenceId}"
TOKEN = "POST /api/v1/oauth2/token"


@define
class Telemetry:
    """A hook, and what came of it."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer_provider: TracerProvider
    meter_provider: MeterProvider

    @classmethod
    def new(cls) -> Telemetry:
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return cls(exporter, reader, provider, MeterProvider([reader]))

    def hook(self, **settings: Any) -> OpenTelemetry:
        return OpenTelemetry(self.tracer_provider, self.meter_provider, **settings)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self) -> Iterator[tuple[str, Any]]:
        found = self.reader.get_metrics_data()
        for resource in found.resource_metrics if found else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point


@pytest.fixture
def telemetry() -> Telemetry:
    """Return where spans and metrics go."""
    return Telemetry.new()


def parent_of(span: ReadableSpan, spans: list[ReadableSpan]) -> ReadableSpan | None:
    return next((one for one in spans if span.parent and one.context.span_id == span.parent.span_id), None)


async def test_the_spans_of_an_operation_with_two_retries(telemetry: Telemetry) -> None:
    """An INTERNAL span has three CLIENT spans as children, with the attributes of the conventions."""
    async with Sandbox(conferences=1) as sandbox:
        (only,) = sandbox.conference_ids
        async with client_of(sandbox, on_event=telemetry.hook()) as client:
            sandbox.plan("503", times=2)
            await client.end_conference(only)
        spans = telemetry.spans
        (operation,) = [one for one in spans if one.name == "end conference"]
        attempts = [one for one in spans if one.name == END]
        (token,) = [one for one in spans if one.name == TOKEN]
    assert {parent_of(one, spans) for one in (*attempts, token)} == {operation}
    assert operation.kind is SpanKind.INTERNAL
    assert operation.status.status_code is StatusCode.UNSET
    assert dict(operation.attributes or {}) == {
        "bandwidth_async.bulk": False,
        "bandwidth_async.id": only,
        "bandwidth_async.conference_id": only,
        "bandwidth_async.outcome": "ended",
        "bandwidth_async.attempts": 3,
    }
    assert {one.kind for one in attempts} == {SpanKind.CLIENT}
    found = [dict(one.attributes or {}) for one in attempts]
    assert [one.pop("bandwidth_async.wait") for one in found] != []
    port = int(sandbox.url.rpartition(":")[2])
    always = {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.scheme": "http",
        "url.template": "/api/v2/accounts/{accountId}/conferences/{conferenceId}",
        "url.full": f"{sandbox.url}/api/v2/accounts/9900000/conferences/{only}",
    }
    failed = {"http.response.status_code": 503, "error.type": "503"}
    assert found == [
        always | failed,
        always | failed | {"http.request.resend_count": 1},
        always | {"http.response.status_code": 204, "http.request.resend_count": 2},
    ]
    assert [one.status.status_code for one in attempts] == [StatusCode.ERROR] * 2 + [StatusCode.UNSET]
    for one in attempts:
        assert one.start_time is not None
        assert operation.start_time <= one.start_time <= one.end_time <= operation.end_time  # type: ignore[operator]  # all are set


async def test_a_run_has_spans_of_its_troubled_ids_only(telemetry: Telemetry) -> None:
    """Three ids of thirty: one was retried, one refused, one not ended. The metrics count all."""
    async with Sandbox(conferences=28) as sandbox:
        first, retried, *rest = sandbox.conference_ids
        async with client_of(
            sandbox, on_event=telemetry.hook(), rate_limit=RateLimit.adaptive(start=500)
        ) as client:
            await client.end_conference(first)
            telemetry.exporter.clear()
            sandbox.plan("500")
            sandbox.plan("400", kind="end")
            sandbox.plan("501", kind="end")
            report = await client.end_conferences([retried, *rest, "conf-none"], concurrency=1)
    spans = telemetry.spans
    operations = [one for one in spans if one.name == "end conference"]
    assert Counter(dict(one.attributes or {})["bandwidth_async.outcome"] for one in operations) == {
        "ended": 1,
        "refused": 2,
    }
    assert len(spans) == 3 + 4
    assert {parent_of(one, spans) for one in spans if one.name == END} == set(operations)
    told = Counter[str]()
    for name, point in telemetry.points():
        if name == "bandwidth_async.operation.duration":
            told[point.attributes["bandwidth_async.outcome"]] += point.count
    told["ended"] -= 1
    assert told == report.counts


async def test_every_id_has_a_span_where_that_is_wanted(telemetry: Telemetry) -> None:
    """Within the span that was current when the run began."""
    tracer = telemetry.tracer_provider.get_tracer("test")
    hook = telemetry.hook(every_id=True)
    async with Sandbox(conferences=3) as sandbox, client_of(sandbox, on_event=hook) as client:
        with tracer.start_as_current_span("teardown"):
            await client.end_conferences(sandbox.conference_ids)
    spans = telemetry.spans
    (teardown,) = [one for one in spans if one.name == "teardown"]
    operations = [one for one in spans if one.name == "end conference"]
    assert [parent_of(one, spans) for one in operations] == [teardown] * 3
    assert len({one.context.trace_id for one in spans}) == 1


async def test_an_error_is_that_of_the_span(telemetry: Telemetry) -> None:
    """Its class and its sentence, and the span is current no longer."""
    async with Sandbox() as sandbox, client_of(sandbox, on_event=telemetry.hook()) as client:
        with pytest.raises(NotFoundError) as caught:
            await client.get_conference("conf-none")
    assert not get_current_span().get_span_context().is_valid
    (operation,) = [one for one in telemetry.spans if one.name == "get conference"]
    assert operation.status.status_code is StatusCode.ERROR
    assert operation.status.description == caught.value.message
    assert (operation.attributes or {})["error.type"] == "NotFoundError"


async def test_concurrent_operations_have_traces_of_their_own(telemetry: Telemetry) -> None:
    """The neighbour of one operation: tasks do not become each other's parents."""
    async with Sandbox(conferences=5) as sandbox, client_of(sandbox, on_event=telemetry.hook()) as client:
        await asyncio.gather(*map(client.end_conference, sandbox.conference_ids))
    spans = telemetry.spans
    operations = [one for one in spans if one.name == "end conference"]
    assert [parent_of(one, spans) for one in operations] == [None] * 5
    assert Counter(parent_of(one, spans) for one in spans if one.name == END) == dict.fromkeys(operations, 1)


async def test_where_aiohttp_is_instrumented_no_attempt_has_two_spans(telemetry: Telemetry) -> None:
    """The spans of aiohttp's instrumentation are the children of ours, in a run too."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracer_provider)
    try:
        async with Sandbox(conferences=3) as sandbox:
            first, *rest = sandbox.conference_ids
            hook = telemetry.hook(aiohttp_instrumented=True)
            async with client_of(sandbox, on_event=hook) as client:
                sandbox.plan("503")
                await client.end_conference(first)
                await client.end_conferences(rest)
    finally:
        instrumentor.uninstrument()
    spans = telemetry.spans
    operations = [one for one in spans if one.name == "end conference"]
    requests = [one for one in spans if one.kind is SpanKind.CLIENT]
    assert len(operations) == 3
    # Four ends and the token.
    assert len(requests) == 5
    assert {parent_of(one, spans) for one in requests} == set(operations)


async def test_metrics_have_the_names_and_attributes_of_the_conventions(telemetry: Telemetry) -> None:
    """And none of them has an id."""
    async with Sandbox(conferences=3) as sandbox, client_of(sandbox, on_event=telemetry.hook()) as client:
        sandbox.plan("429")
        await client.end_conferences(sandbox.conference_ids)
        ids = sandbox.conference_ids
    names, keys = set[str](), set[str]()
    for name, point in telemetry.points():
        names.add(name)
        if name == "http.client.request.duration":
            keys |= set(point.attributes)
        assert not set(ids) & set(map(str, point.attributes.values()))
    assert names >= {
        "http.client.request.duration",
        "bandwidth_async.limiter.wait.duration",
        "bandwidth_async.operation.duration",
        "bandwidth_async.limiter.pauses",
        "bandwidth_async.limiter.rate",
    }
    assert keys == {
        "http.request.method",
        "http.response.status_code",
        "server.address",
        "server.port",
        "url.scheme",
        "url.template",
        "error.type",
    }


async def test_no_secret_is_in_a_span_or_a_metric(telemetry: Telemetry) -> None:
    """No credential, no token and no header, also where a server quotes them."""
    issued: list[str] = []
    async with Sandbox(conferences=3, client_secret="s3cr3t-of-the-client") as sandbox:
        issue = sandbox._authentication._issue

        def noted(now: float) -> str:
            issued.append(issue(now))
            return issued[-1]

        sandbox._authentication._issue = noted  # type: ignore[method-assign]  # to know the tokens
        async with client_of(sandbox, on_event=telemetry.hook(every_id=True)) as client:
            sandbox.plan("401")
            sandbox.plan("503")
            await client.end_conferences([*sandbox.conference_ids, "conf-none"])
    written = "".join(one.to_json() for one in telemetry.spans) + str(list(telemetry.points()))
    assert issued
    assert "end conference" in written
    for secret in ("s3cr3t-of-the-client", "Bearer", "Basic", *issued):
        assert secret not in written


def test_without_the_api_a_sentence_says_what_to_install() -> None:
    """And the library works without it."""
    script = """
import sys
sys.modules["opentelemetry"] = None
import bandwidth_async.exports
try:
    import bandwidth_async.otel
except bandwidth_async.exports.ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "OpenTelemetry is not installed: pip install 'bandwidth_async[otel]'\n"
