"""The command line: it reads the environment, prints, and turns results and errors into exit codes."""

from bandwidth_async.cli.app import main

__all__ = ["main"]
