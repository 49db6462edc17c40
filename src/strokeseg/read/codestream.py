"""What a compressed frame says of its own form, before a decoder written in C++ sees it.

gdcm 3.2.6 ends the whole process, not just the call, where a JPEG-LS frame is smaller than the header says
(gdcmBitmap.cxx:737) and where the marker before a JPEG's Huffman table is broken (gdcmJPEGBITSCodec.hxx:782). So the
frame's own header is walked first. What else may be so is not known: tests/read/test_fuzz.py found no more.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG_2000_BOX = b"\x00\x00\x00\x0cjP  "
# Frame headers: all SOF, but not the tables DHT, JPG and DAC between them; F7 is that of JPEG-LS.
_HUFFMAN, _JPEG_LS, _SCAN = 0xC4, 0xF7, 0xDA
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {_HUFFMAN, 0xC8, 0xCC}


@dataclass(frozen=True)
class Form:
    """Form of a frame of pixels."""

    rows: int
    columns: int
    samples: int
    bits: int


def form(frame: bytes) -> Form | None:
    """Read a JPEG, JPEG-LS or JPEG 2000 frame's own header; None where there is none."""
    try:
        if frame.startswith(_JPEG_2000_BOX):
            frame = frame[frame.index(_JPEG_2000) :]
        if frame.startswith(_JPEG_2000):
            width, height, left, top = struct.unpack_from(">4I", frame, 8)
            samples, depth = struct.unpack_from(">HB", frame, 40)
            return Form(height - top, width - left, samples, (depth & 0x7F) + 1)
        return _jpeg(frame) if frame.startswith(_JPEG) else None
    except (struct.error, ValueError, IndexError):
        return None


def _jpeg(frame: bytes) -> Form | None:
    """Walk from marker to marker up to the scan; None where the chain breaks or the scan's table is missing."""
    place, found, tables = 2, None, False
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == _SCAN:
            return found if tables else None
        if marker in _FRAMES:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            found = Form(rows, columns, samples, bits)
        tables = tables or marker in (_HUFFMAN, _JPEG_LS)
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None
