"""Modules that are loaded when one of their names is first used: a Tab and --help need few of them.

Source: https://docs.python.org/3.11/library/importlib.html#implementing-lazy-imports
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import LazyLoader, find_spec, module_from_spec

# What carries a command out. Commands say `from bandwidth_async.cli import run` and then `run.carry_out`: an
# import of a name out of these modules would load them at once.
_LATE = (
    "bandwidth_async.journal",
    "bandwidth_async.sandbox",
    "bandwidth_async.server_text",
    "bandwidth_async.sharing",
    "bandwidth_async.wire",
    "bandwidth_async.outcome",
    "bandwidth_async.updates",
    "bandwidth_async.cli.account",
    "bandwidth_async.cli.event_loop",
    "bandwidth_async.cli.formats",
    "bandwidth_async.cli.inputs",
    "bandwidth_async.cli.journals",
    "bandwidth_async.cli.logs",
    "bandwidth_async.cli.plan",
    "bandwidth_async.cli.profile_files",
    "bandwidth_async.cli.progress",
    "bandwidth_async.cli.rates",
    "bandwidth_async.cli.report_file",
    "bandwidth_async.cli.question",
    "bandwidth_async.cli.run",
    "bandwidth_async.cli.run_names",
    "bandwidth_async.cli.run_state",
    "bandwidth_async.cli.screen",
)


def postpone() -> None:
    """Let the modules of what carries a command out wait for the first use of one of their names."""
    for name in _LATE:
        if name not in sys.modules:
            spec = find_spec(name)
            if spec is None or spec.loader is None:
                continue
            spec.loader = LazyLoader(spec.loader)
            module = sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(module)
            package, _, own_name = name.rpartition(".")
            setattr(import_module(package), own_name, module)
