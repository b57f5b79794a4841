"""What is in a JSON body, read strictly: UTF-8, one object, no NaN or Infinity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NoReturn

Fields = Mapping[str, object]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def read_object(body: bytes | None) -> Fields | None:
    """Return the fields that the body sets, null meaning absent; None when it is not a JSON object."""
    try:
        value = _DECODER.decode((body or b"").decode())
    except (ValueError, RecursionError):
        return None
    return {name: it for name, it in value.items() if it is not None} if isinstance(value, dict) else None
