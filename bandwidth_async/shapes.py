"""How JSON becomes our values: strict about ids, lenient about everything else.

A field of another type than documented becomes None, as if it were left out. One odd field must not cost you
a page of a thousand conferences. An object without an id is an error, also inside another object: any value
in its place would be wrong. So is an object that says why something failed and has nothing of the item but an
id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import GenericAlias
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from attrs import NOTHING, fields, has, resolve_types
from cattrs import Converter, transform_error
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, override

from bandwidth_async.errors import TransportError
from bandwidth_async.models import CallbackMethod, camel_case
from bandwidth_async.server_text import reason_in

if TYPE_CHECKING:
    from collections.abc import Callable

    Hook = Callable[[Any, Any], Any]

T = TypeVar("T")


def read_json(body: bytes) -> Any:
    """Return the JSON value in ``body``. Raises `TransportError` if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise TransportError("the answer is not JSON") from error


def structure(value: object, kind: type[T]) -> T:
    """Return ``value``, which was read from JSON, as a ``kind``. Unknown fields are ignored.

    Raises `TransportError` if it has another shape, or if it or an object in it has no id. The message says
    where.
    """
    try:
        return _converter.structure(value, kind)
    except Exception as error:
        # cattrs raises a group of all that the hooks raised.
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
        raise TypeError("not a time")
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


def _lenient(hook: Hook) -> Hook:
    """Return the hook of an optional field: it returns None if ``hook`` fails.

    The error of an object in a list is raised nevertheless: the object has no id.
    """

    def read(value: object, kind: object) -> object:
        try:
            return hook(value, kind)
        except Exception:
            if isinstance(value, list) and any(has(one) for one in _elements(kind)):
                raise
            return None

    return read


def _elements(kind: Any) -> set[Any]:
    """Return the types in a type: ``tuple[X, ...] | None`` contains tuple, X and None."""
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
            hook = _structure_id if a.default is NOTHING else _lenient(converter.get_structure_hook(a.type))
            names[a.name] = override(rename=camel_case(a.name), struct_hook=hook)
        make = make_dict_structure_fn(kind, converter, **names)

        def checked(value: Any, kind: Any) -> Any:
            """Refuse an error: Bandwidth's have an ``id`` too, and would be taken for a conference's."""
            if isinstance(value, dict) and told and told.isdisjoint(value) and reason_in(value):
                raise TypeError("an error")
            return make(value, kind)

        return checked

    def from_array(kind: Any) -> Any:
        """Accept only an array. cattrs would also accept the letters of text and the keys of an object."""
        make: Any = get_origin(kind)
        in_list: Any = GenericAlias(list, get_args(kind)[:1])
        elements = list_structure_factory(in_list, converter)

        def checked(value: object, _: Any) -> Any:
            if not isinstance(value, list):
                raise TypeError("not an array")
            return make(elements(value, in_list))

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
