"""How a request leaves: aiohttp's home."""
