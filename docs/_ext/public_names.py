"""Lead each name of a docstring or signature to its public page; names of other packages are only shown.

Signatures name a class by the module that defines it, and docstrings by its last part. Both mean the public
name. A name of ours that has no page is a warning, as Sphinx is nitpicky.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# Python's own names, and packages whose types the signatures name. No inventory is fetched for them.
_OTHERS = re.compile(
    r"(?:(?:aiohttp|_?asyncio|abc|attrs|celery|collections|contextlib|datetime|enum|fractions|functools|math|os"
    r"|pathlib|pytest|random|typing|yarl|opentelemetry|trace|metrics)(?:\.\w+)*"
    r"|None|NoneType|True|False|bool|bytes|bytearray|dict|float|frozenset|int|list|object|self|set|str|tuple|type|inf"
    r"|Any|Awaitable|Callable|ClassVar|Coroutine|Counter|Generator|Hashable|Iterable|Iterator|Literal|Mapping"
    r"|MutableMapping|NoReturn|Self|Sequence|StrEnum|Enum|Unpack|Protocol|Future|AbstractAsyncContextManager"
    r"|AbstractContextManager|AsyncGenerator|AsyncIterable|AsyncIterator|AbstractEventLoop|ABC|PathLike|Path|Random"
    r"|Application|ClientSession|ClientResponse|URL|Celery|FixtureRequest|Request|StreamResponse|TracerProvider|MeterProvider"
    r"|tzinfo|Callable\[\[\]|\w*(?:Exception|OSError|TimeoutError|RuntimeError|ValueError|TypeError|KeyError|CancelledError))"
)

_OURS = {"bandwidth_async", "webhooks"}

# Types in signatures that users neither make nor read: a run, a queue or a limiter uses them.
_NOT_PUBLIC = {
    "Admission",
    "E",
    "Carrier",
    "Completion",
    "Fault",
    "Handler",
    "Headers",
    "JournalFigures",
    "Latencies",
    "OnOutcome",
    "OpenFile",
    "Pace",
    "Progress",
    "Properties",
    "Raw",
    "Refusal",
    "Slow",
    "Start",
    "SyncMedia",
    "Target",
    "Timeline",
    "TimelineFigures",
    "Tries",
    "Trouble",
    "Watched",
    "place",
    "served",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-process-signature", _show_defaults)
    return {"parallel_read_safe": True}


def _show_defaults(
    _app: Sphinx,
    _what: str,
    _name: str,
    _obj: object,
    _options: object,
    shown: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    """Write the default of a setting that is the client's as Python can read it."""
    return shown and shown.replace("<not given>", "..."), returns


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element) -> Element | None:
    if node.get("refdomain") != "py":
        return None
    *owners, last = node["reftarget"].split(".")
    # A field of an attrs class stands on the page of its class.
    for ending in ([*owners[-1:], last], [last], owners[-1:]):
        found = _public(env, ".".join(ending), f"{node.get('py:module')}.{node.get('py:class')}")
        if found and (len(ending) == 2 or ending != [last] or not owners or owners[0] in _OURS):
            domain = env.domains.python_domain
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found, node, shown)
    if _OTHERS.fullmatch(node["reftarget"]) or last in _NOT_PUBLIC:
        return shown
    return None


def _public(env: BuildEnvironment, ending: str, owner: str) -> str | None:
    """Return the shortest public name that ends so, one of the same class first."""
    found = (
        [name for name in env.domains.python_domain.objects if name.endswith(f".{ending}")] if ending else []
    )
    return min(found, key=lambda name: (not name.startswith(owner), len(name)), default=None)
