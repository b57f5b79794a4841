"""The bytes of a recording: a real WAV file of noise, made while it is sent and never whole in memory.

16-bit mono at 48 kHz. The noise differs from recording to recording and from block to block, so that a
download with a block lost, doubled or swapped is not the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

HEADER = 44
BYTES_A_SECOND = 96_000
_RATE = 48_000
BLOCK = 64 * 1024
"""Bytes in a block, and of the noise that `wav` draws from."""
_NUMBER = 8


_MOST = 2**32 - 1


def wav_header(data: int) -> bytes:
    """Return the 44 bytes before ``data`` bytes of samples.

    A length that is over 4 GB is written as the largest that there is, as programs do that record without
    knowing when they will stop: half a day of sound, and the form has 32 bits.
    """
    riff = struct.pack("<4sI4s", b"RIFF", min(HEADER - 8 + data, _MOST), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, BYTES_A_SECOND, 2, 16)
    return riff + form + struct.pack("<4sI", b"data", min(data, _MOST))


def wav(noise: bytes, size: int) -> Iterator[bytes]:
    """Yield a file of ``size`` bytes, header included, in blocks; ``noise`` is 64 KiB to draw from."""
    yield wav_header(size - HEADER)
    for number, start in enumerate(range(HEADER, size, BLOCK)):
        block = number.to_bytes(_NUMBER, "little") + noise[_NUMBER:BLOCK]
        yield block[: size - start]
