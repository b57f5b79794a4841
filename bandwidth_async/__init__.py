"""End conferences on Bandwidth's Voice API: one or a million, each with a certain outcome.

The public names are those of `bandwidth_async.exports`. They are loaded when you first use one, so that the
command line's ``--help`` need not wait for aiohttp.
"""

from typing import TYPE_CHECKING

from bandwidth_async._version import __version__ as __version__

if TYPE_CHECKING:
    from bandwidth_async.exports import *  # noqa: F403  # its __all__ is the list of public names
    from bandwidth_async.exports import __all__ as __all__
else:

    def __getattr__(name: str) -> object:
        # Python asks here for submodules too, and `exports` imports those.
        if name == "__all__" or name[:1].isupper():
            from bandwidth_async import exports  # noqa: PLC0415  # loaded at the first use

            for public in (*exports.__all__, "__all__"):
                globals()[public] = getattr(exports, public)
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __getattr__("__all__")
