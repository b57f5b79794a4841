"""The API's wire format, without any I/O: requests built from our values, answers read into them."""

from bandwidth_async.wire.answers import (
    Token,
    error_from,
    parse_conference,
    parse_conferences,
    parse_token,
    printable,
)
from bandwidth_async.wire.requests import (
    Request,
    get_conference,
    list_conferences,
    next_page,
    path_segment,
    token,
    update_conference,
)

__all__ = [
    "Request",
    "Token",
    "error_from",
    "get_conference",
    "list_conferences",
    "next_page",
    "parse_conference",
    "parse_conferences",
    "parse_token",
    "path_segment",
    "printable",
    "token",
    "update_conference",
]
