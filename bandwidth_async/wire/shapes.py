"""How JSON becomes our values: the shapes of the answers, strict in structure, patient with what is new."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, get_origin

from attrs import fields, has
from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from bandwidth_async.errors import TransportError
from bandwidth_async.models import CallbackMethod, camel_case

T = TypeVar("T")


def read_json(body: bytes) -> Any:
    """Return what ``body`` holds. Raises `TransportError` when it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TransportError("the answer is not JSON") from error


def structure(value: object, kind: type[T]) -> T:
    """Return ``value``, as JSON has it, as a ``kind``; unknown fields are ignored.

    Raises `TransportError` when it does not have the documented shape.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:  # cattrs raises groups of whatever the hooks raised
        raise TransportError(
            f"the answer does not have the documented shape: {'; '.join(transform_error(error))}"
        ) from error


def _structure_text(value: object, _: type) -> str:
    if not isinstance(value, str | int | float):
        raise TypeError("not a text")
    return str(value)


def _structure_flag(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _structure_time(value: object, _: type) -> datetime:
    moment = datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _structure_method(value: object, _: object) -> CallbackMethod | str | None:
    try:
        return None if value is None else CallbackMethod(str(value))
    except ValueError:
        return str(value)


def _structure_free_keys(value: object, _: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return {key: inner if isinstance(inner, str) else json.dumps(inner) for key, inner in value.items()}


def _is_object(kind: object) -> bool:
    return get_origin(kind) is Mapping


def _is_array(kind: object) -> bool:
    return get_origin(kind) in {list, tuple}


def _make_converter() -> Converter:
    converter = Converter()

    def camel_cased(kind: type[Any]) -> Any:
        names: dict[str, Any] = {a.name: override(rename=camel_case(a.name)) for a in fields(kind)}
        return make_dict_structure_fn(kind, converter, **names)

    def from_array(kind: Any) -> Any:
        """Take only an array: cattrs would take the letters of a text and the keys of an object too."""
        make = list_structure_factory if get_origin(kind) is list else homogenous_tuple_structure_factory
        elements = make(kind, converter)

        def checked(value: object, kind: Any) -> Any:
            if not isinstance(value, list):
                raise TypeError("not an array")
            return elements(value, kind)

        return checked

    converter.register_structure_hook_factory(has, camel_cased)
    converter.register_structure_hook(str, _structure_text)
    converter.register_structure_hook(bool, _structure_flag)
    converter.register_structure_hook_factory(_is_array, from_array)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(_is_object, _structure_free_keys)
    converter.register_structure_hook_func(
        lambda kind: kind == CallbackMethod | str | None, _structure_method
    )
    return converter


_converter = _make_converter()
