"""Check requests, responses and events against Bandwidth's published API description.

The file belongs to Bandwidth and is not part of this project. `find` returns its path: the value of
``BANDWIDTH_OPENAPI``, or a path beside the checkout. The checks are stricter than a JSON schema. A field that
the description does not have is an error, in requests of the client and in responses of the sandbox.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import jsonschema
import yaml

from bandwidth_async.sandbox.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bandwidth_async.sandbox.faults import Delivery
    from bandwidth_async.sandbox.messages import Moment
    from bandwidth_async.sandbox.service import Exchange

BESIDE = Path(__file__).parents[2] / "shared" / "spec" / "bandwidth-conferences-openapi.yml"
BASE = "/api/v2"

# Statuses that the description does not list. 409 is an option of the sandbox for ended conferences and
# calls. 413 is its limit for request bodies. 503 is on Bandwidth's page of errors.
ALSO_ANSWERED = {409, 413, 503}

FORMATS = jsonschema.FormatChecker(())


@FORMATS.checks("date-time", raises=ValueError)
def is_date_time(value: object) -> bool:
    """Check for a time of RFC 3339: a date, T, a time, and a zone."""
    return not isinstance(value, str) or (
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value) is not None
        and datetime.fromisoformat(value).tzinfo is not None
    )


@FORMATS.checks("uri", raises=ValueError)
def is_uri(value: object) -> bool:
    """Check for an absolute URI of printable ASCII."""
    return not isinstance(value, str) or (
        bool(urlsplit(value).scheme) and re.fullmatch(r"[!-~]+", value) is not None
    )


class Violation(AssertionError):  # noqa: N818  # a finding of the checks, not an error in them
    """A request, response or event that differs from the description."""


def missing() -> str | None:
    """Return why the description cannot be read, or None if it can."""
    path = find()
    return None if path.is_file() else f"Bandwidth's description is not at {path}: set BANDWIDTH_OPENAPI"


def find() -> Path:
    """Return the path where the description should be."""
    return Path(os.environ.get("BANDWIDTH_OPENAPI", BESIDE))


class Description:
    """The parsed description. `load` keeps one for the whole test run."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._paths = {
            re.compile(re.sub(r"\\\{.*?\\\}", "[^/]+", re.escape(path))): path for path in document["paths"]
        }

    @staticmethod
    @cache
    def load() -> Description:
        """Return the description. Raises OSError if there is none."""
        return Description(yaml.safe_load(find().read_text()))

    @property
    def operations(self) -> set[str]:
        """The names of all operations."""
        return {
            operation["operationId"]
            for methods in self._document["paths"].values()
            for operation in methods.values()
            if isinstance(operation, dict)
        }

    def operation(self, method: str, path: str) -> str:
        """Return the name of an operation, or the method if the path has no such operation."""
        return str(self._methods(path).get(method.lower(), {"operationId": method})["operationId"])

    def check_request(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, *, allow_null: bool = False
    ) -> None:
        """Check a request. ``path`` may have a query. Raises `Violation`."""
        operation = self._methods(path).get(method.lower())
        if operation is None:
            raise Violation(f"{method} {path} is not described")
        if not headers.get("Authorization"):
            raise Violation(f"{method} {path} has no Authorization")
        self._check_query(operation, path)
        described = self._resolve(operation.get("requestBody", {}))
        if not described:
            if body:
                raise Violation(f"{method} {path} has a body")
            return
        content = self._content(described["content"], headers, f"{method} {path}")
        if content["schema"].get("type") == "string":
            if not body:
                raise Violation(f"{method} {path} has no body")
            return
        value = _json(body, f"{method} {path}")
        if allow_null and isinstance(value, dict):
            value = {name: it for name, it in value.items() if it is not None}
        self._check(value, content["schema"], f"{method} {path}")

    def check_response(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Check a response. Raises `Violation`."""
        about = f"{method} {path}: {status}"
        responses = self._methods(path).get(method.lower(), _OF_NO_METHOD)["responses"]
        if str(status) not in responses and status not in ALSO_ANSWERED:
            raise Violation(f"{about} is not described")
        described = self._resolve(responses.get(str(status), _ERROR))
        if status == 405 and not headers.get("Allow"):
            raise Violation(f"{about} has no Allow")
        if "content" not in described:
            if body:
                raise Violation(f"{about} has a body: {body[:100]!r}")
            return
        content = self._content(described["content"], headers, about)
        if content["schema"].get("format") != "binary":
            self._check(_json(body, about), content["schema"], about)

    def check_event(self, fields: Mapping[str, object]) -> None:
        """Check the fields of a webhook against the schema of its event. Raises `Violation`."""
        schema = {"$ref": f"#/components/schemas/{fields['eventType']}Callback"}
        self._check(dict(fields), schema, str(fields["eventType"]))

    def _methods(self, path: str) -> dict[str, Any]:
        """Return the operations of a path, by their methods in lower case."""
        plain = path.partition("?")[0].removeprefix(BASE)
        for pattern, template in self._paths.items():
            if pattern.fullmatch(plain):
                return dict(self._document["paths"][template])
        raise Violation(f"{path} is not described")

    def _check_query(self, operation: dict[str, Any], path: str) -> None:
        described = {
            parameter["name"]: parameter["schema"]
            for parameter in map(self._resolve, operation.get("parameters", []))
            if parameter["in"] == "query"
        }
        for name, text in parse_qsl(urlsplit(path).query, keep_blank_values=True):
            if name not in described:
                raise Violation(f"{path}: the parameter {name} is not described")
            value = int(text) if described[name]["type"] == "integer" else text
            self._check(value, described[name], f"{path}: {name}")

    def _content(self, content: dict[str, Any], headers: Mapping[str, str], about: str) -> dict[str, Any]:
        media_type = headers.get("Content-Type", "").partition(";")[0]
        if media_type not in content:
            raise Violation(f"{about} has the media type {media_type!r}, not one of {sorted(content)}")
        return dict(content[media_type])

    def _resolve(self, value: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in value:
            return value
        here: Any = self._document
        for part in value["$ref"].removeprefix("#/").split("/"):
            here = here[part]
        return dict(here)

    def _schema(self, described: dict[str, Any]) -> dict[str, Any]:
        """Return a JSON schema without references and ``nullable`` that allows no other fields."""
        schema = self._resolve(described)
        plain = {key: it for key, it in schema.items() if key in _KEPT}
        if "properties" in schema:
            plain["properties"] = {name: self._schema(it) for name, it in schema["properties"].items()}
            plain["additionalProperties"] = False
        if "items" in schema:
            plain["items"] = self._schema(schema["items"])
        return {"anyOf": [{"type": "null"}, plain]} if schema.get("nullable") else plain

    def _check(self, value: object, described: dict[str, Any], about: str) -> None:
        validator = jsonschema.Draft202012Validator(self._schema(described), format_checker=FORMATS)
        problem = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if problem is not None:
            raise Violation(f"{about}: {problem.json_path}: {problem.message}")


_ERROR = {"$ref": "#/components/responses/voiceInternalServerError"}
# A method that the path does not have gets a 405, or the error of an earlier check.
_OF_NO_METHOD = {"responses": dict.fromkeys(("401", "403", "405", "429"), _ERROR)}
_KEPT = ("type", "enum", "format", "maxLength", "minimum", "maximum", "additionalProperties")


def _json(body: bytes, about: str) -> object:
    try:
        return json.loads(body)
    except ValueError as exc:
        raise Violation(f"{about}: no JSON: {body[:100]!r}") from exc


class Watch:
    """The numbers of requests and responses that were checked, by operation, and the violations."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[tuple[str, int]] = Counter()
        self.violations: list[Violation] = []


@contextmanager
def watching(description: Description, *, requests: bool = False) -> Iterator[Watch]:
    """Check every response of all sandboxes in this process until the context ends.

    With ``requests`` also check the requests. Use that for tests with this project's client. Responses of
    planned or random faults are not checked. Raises the first `Violation` at the end.
    """
    watch, respond = Watch(), Service.respond

    def watched(service: Service, exchange: Exchange, at: Moment) -> Delivery:
        delivery = respond(service, exchange, at)
        try:
            _look(description, watch, exchange, delivery, requests)
        except Violation as violation:
            watch.violations.append(violation)
        return delivery

    with mock.patch.object(Service, "respond", watched):
        yield watch
    if watch.violations:
        raise watch.violations[0]


def _look(
    description: Description, watch: Watch, exchange: Exchange, delivery: Delivery, requests: bool
) -> None:
    request, answer = exchange.routed.request, delivery.response
    path = "/" + "/".join(quote(segment, safe="") for segment in request.segments)
    if not path.startswith(f"{BASE}/") or exchange.route is None:
        return
    if requests:
        headers = {"Authorization": request.authorization, "Content-Type": request.media_type}
        asked = f"{path}?{urlencode(request.query)}" if request.query else path
        description.check_request(request.method, asked, headers, request.body or b"")
        watch.requests[description.operation(request.method, path)] += 1
    if answer is not None and exchange.fault is None:
        name = description.operation(request.method, path)
        body = answer.body if answer.stream is None else b"streamed"
        description.check_response(request.method, path, answer.status, answer.headers, body)
        watch.responses[name, answer.status] += 1
