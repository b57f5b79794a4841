"""The main table of the hot path as a picture: an SVG with bars, for light and for dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROW = 26  # pixels, like the next three
_LABELS = 210
_BARS = 380
_WIDTH = _LABELS + _BARS + 70
# The longest bar, in times of the bare loop. Longer bars are cut, and have an arrow behind their number.
_LONGEST = 3.0

# The colours follow the reader's theme. Without a theme they are the light ones.
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 }
  .peer { fill: #8c959f }
  .ours { fill: #0969da }
  .line { stroke: #57606a; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .peer { fill: #6e7681 }
    .ours { fill: #58a6ff }
    .line { stroke: #8b949e }
  }
"""
_NAMES = {
    "raw protocol": "raw asyncio protocol (the limit)",
    "naive": "aiohttp, semaphore, gather",
    "naive, uvloop": "aiohttp … on uvloop",
    "naive + tenacity": "aiohttp … with tenacity",
    "bandwidth-sdk, threads": "bandwidth-sdk in threads",
    "ours": "bandwidth_async",
    "ours, journal": "bandwidth_async with journal",
    "ours, uvloop": "bandwidth_async on uvloop",
}


def draw(ratios: Mapping[str, float]) -> str:
    """Return a picture of the processor time per end ÷ that of the bare aiohttp loop, the smallest first."""
    rows = sorted(ratios.items(), key=lambda row: row[1])
    height = 64 + _ROW * len(rows)
    one = _LABELS + _BARS / _LONGEST
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>Processor time per conference ended, at concurrency 100, aiohttp alone being 1</title>",
        f"<style>{_STYLE}</style>",
        '<text class="title" x="8" y="20">Processor time per end, at concurrency 100 (less is better)</text>',
        f'<line class="line" x1="{one:.0f}" x2="{one:.0f}" y1="34" y2="{height - 22}"/>',
        f'<text x="{one:.0f}" y="{height - 6}" text-anchor="middle">1 = aiohttp alone</text>',
        *(_bar(38 + _ROW * index, client, ratio) for index, (client, ratio) in enumerate(rows)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(top: int, client: str, ratio: float) -> str:
    width = min(ratio, _LONGEST) / _LONGEST * _BARS
    kind = "ours" if client.startswith("ours") else "peer"
    number = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    name, cut = escape(_NAMES.get(client, client)), " →" if ratio > _LONGEST else ""
    return (
        f'<text x="{_LABELS - 8}" y="{top + 14}" text-anchor="end">{name}</text>'
        f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="18" rx="2"/>'
        f'<text x="{_LABELS + width + 6:.1f}" y="{top + 14}">{number}{cut}</text>'
    )
