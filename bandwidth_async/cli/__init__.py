"""The command line: reads the environment, prints, and turns what happened into exit codes."""

from bandwidth_async.cli.app import main

__all__ = ["main"]
