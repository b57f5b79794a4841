"""Shares as people write them: ``5%`` or ``0.05``."""

from __future__ import annotations

import re

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)", re.ASCII)


def read_share(text: str) -> float | None:
    """Return the share that ``text`` gives, 1 for all; it may be more. None when it gives none."""
    match = _SHARE.fullmatch(text.strip())
    return float(match[1]) / (100 if match[2] else 1) if match else None
