"""End conferences, with metrics for Prometheus while the run goes on.

Set the BW_… variables, ``pip install 'bandwidth-async[otel]' opentelemetry-exporter-prometheus``, and run
``python examples/prometheus_metrics.py CONFERENCE_ID …``. The metrics are at http://127.0.0.1:9464/metrics.
At the end the program prints those of the conferences.
"""

import asyncio
import os
import sys

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import generate_latest, start_http_server

from bandwidth_async import BandwidthError, VoiceClient
from bandwidth_async.otel import OpenTelemetry


async def main(ids: list[str]) -> int:
    """End them, and return the exit code."""
    telemetry = OpenTelemetry(meter_provider=MeterProvider([PrometheusMetricReader()]))
    async with VoiceClient.from_env(on_event=telemetry) as client:
        report = await client.end_conferences(ids)
    return 0 if report.ok else 1


if __name__ == "__main__":
    server, _ = start_http_server(int(os.environ.get("METRICS_PORT", "9464")), addr="127.0.0.1")
    try:
        code = asyncio.run(main(sys.argv[1:]))
    except BandwidthError as error:
        sys.exit(str(error))
    shown = ("http_client_request_duration_seconds_count", "bandwidth_async_")
    lines = generate_latest().decode().splitlines()
    print(*(line for line in lines if line.startswith(shown) and "_bucket{" not in line), sep="\n")
    server.shutdown()
    server.server_close()
    sys.exit(code)
