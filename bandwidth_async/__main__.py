"""Run the command line, as ``bandwidth-async`` or ``python -m bandwidth_async``."""

import gc
import sys

from bandwidth_async.cli import signals


def main() -> None:
    """Run the command line. If its libraries are missing, say how to install them."""
    signals.leave_at_once()
    # What is imported stays. A collector that looks for garbage in it takes a tenth of the time of a Tab.
    gc.set_threshold(50_000)
    try:
        from bandwidth_async.cli.app import main as run  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.exit(
            f"the command line needs {error.name}: pip install 'bandwidth-async[cli]' "
            "(in a checkout: pip install '.[cli]')"
        )
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
