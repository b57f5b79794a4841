"""How JSON becomes our values: strict about what an item is called, patient with everything else of it.

A field of another kind than documented is None, as if it were left out: one oddity of one conference is no
reason to lose a page of a thousand. An item without an id is an error, also inside another: nothing in its
place would be true. So is an object that says why something failed and has nothing of the item but an id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from attrs import NOTHING, fields, has, resolve_types
from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from bandwidth_async.errors import TransportError
from bandwidth_async.models import CallbackMethod, camel_case
from bandwidth_async.server_text import reason_in

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = Callable[[Any, Any], Any]

T = TypeVar("T")


def read_json(body: bytes) -> Any:
    """Return what ``body`` holds. Raises `TransportError` when it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TransportError("the answer is not JSON") from error


def structure(value: object, kind: type[T]) -> T:
    """Return ``value``, as JSON has it, as a ``kind``; unknown fields are ignored.

    Raises `TransportError`, which says where, when it or something in it has no id, or is nothing at all.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:  # cattrs raises groups of whatever the hooks raised
        raise TransportError(
            f"the answer does not have the documented shape: {'; '.join(transform_error(error))}"
        ) from error


def _structure_id(value: object, _: type) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise TypeError("not an id")
    return str(value)


def _structure_text(value: object, _: type) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("not a text")
    return str(value)


def _structure_number(value: object, _: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _structure_flag(value: object, _: type) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _structure_time(value: object, _: type) -> datetime:
    if not isinstance(value, str):
        raise TypeError("not a time")  # a number would be read as a date: 20261122
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _structure_method(value: object, _: object) -> CallbackMethod | str | None:
    if not isinstance(value, str):
        return None
    try:
        return CallbackMethod(value)
    except ValueError:
        return value


def _structure_free_keys(value: object, _: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return {key: inner if isinstance(inner, str) else json.dumps(inner) for key, inner in value.items()}


def _patient(hook: Hook) -> Hook:
    """Return the hook of a field that may be missing: of another kind, it is.

    Items in a list are looked at by their own hook, which has the last word.
    """

    def read(value: object, kind: object) -> object:
        try:
            return hook(value, kind)
        except Exception:  # whatever the hook makes of it
            if isinstance(value, list) and any(has(one) for one in _elements(kind)):
                raise
            return None

    return read


def _elements(kind: Any) -> set[Any]:
    """Return the types that a type is made of: ``tuple[X, ...] | None`` of tuple, X and None."""
    inner = {part for argument in get_args(kind) for part in _elements(argument)}
    return {kind, *inner}


def _is_object(kind: object) -> bool:
    return get_origin(kind) is Mapping


def _is_array(kind: object) -> bool:
    return get_origin(kind) in {list, tuple}


def _make_converter() -> Converter:
    converter = Converter()

    def camel_cased(kind: type[Any]) -> Any:
        names: dict[str, Any] = {}
        told = {camel_case(a.name) for a in fields(kind) if a.default is not NOTHING}
        for a in fields(resolve_types(kind)):
            hook = _structure_id if a.default is NOTHING else _patient(converter.get_structure_hook(a.type))
            names[a.name] = override(rename=camel_case(a.name), struct_hook=hook)
        make = make_dict_structure_fn(kind, converter, **names)

        def checked(value: Any, kind: Any) -> Any:
            """Refuse an error: Bandwidth's have an ``id`` too, and would be taken for a conference's."""
            if isinstance(value, dict) and told and told.isdisjoint(value) and reason_in(value):
                raise TypeError("an error")
            return make(value, kind)

        return checked

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
    converter.register_structure_hook(int, _structure_number)
    converter.register_structure_hook(bool, _structure_flag)
    converter.register_structure_hook_factory(_is_array, from_array)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(_is_object, _structure_free_keys)
    converter.register_structure_hook_func(
        lambda kind: kind == CallbackMethod | str | None, _structure_method
    )
    return converter


_converter = _make_converter()
