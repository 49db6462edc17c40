"""What a compressed frame says of its own form, before a decoder sees it: a header that lies never reaches one."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG_2000_BOX = b"\x00\x00\x00\x0cjP  "
_END_MARKER = b"\xff\xd9"  # of every one of them
# Frame headers: all SOF, but not the tables DHT, JPG and DAC between them; F7 is that of JPEG-LS.
_HUFFMAN_TABLE, _JPEG_LS, _START_OF_SCAN = 0xC4, 0xF7, 0xDA
_FRAME_MARKERS = {*range(0xC0, 0xD0), _JPEG_LS} - {_HUFFMAN_TABLE, 0xC8, 0xCC}
_KINDS = {0xC0: "jpeg", 0xC1: "jpeg", 0xC2: "jpeg", 0xC3: "jpeg-lossless", _JPEG_LS: "jpeg-ls"}


@dataclass(frozen=True)
class CodestreamHeader:
    """Form of a frame of pixels.

    Parameters
    ----------
    kind : str
        "jpeg", "jpeg-lossless", "jpeg-ls", "jpeg-2000" (high-throughput too), or "" for a JPEG that no CT has.
    rows, columns, samples, bits : int
        Of the frame.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    bits: int


def is_codestream(data: bytes) -> bool:
    """Whether bytes begin as a code stream does."""
    return data.startswith((_JPEG + b"\xff", _JPEG_2000, _JPEG_2000_BOX[:4]))


def has_end_marker(frame: bytes) -> bool:
    """Whether a code stream has its end mark: decoders fill what is cut off with grey, or turn in circles."""
    return frame.rstrip(b"\0").endswith(_END_MARKER)


def strip_jp2_boxes(frame: bytes) -> bytes:
    """Return a JPEG 2000's code stream without the boxes around it; anything else as it is.

    The boxes say a form of their own, which a decoder may take instead: they are walked, and only the first `jp2c` box
    is let through. Empty where there is none.
    """
    if not frame.startswith(_JPEG_2000_BOX):
        return frame
    place = 0
    while len(frame) - place >= 8:
        size, kind = struct.unpack_from(">I4s", frame, place)
        head = 8
        if size == 1 and len(frame) - place >= 16:  # of the long form
            size, head = struct.unpack_from(">Q", frame, place + 8)[0], 16
        end = len(frame) if size == 0 else place + size
        if kind == b"jp2c":
            return frame[place + head : end]
        if end < place + head:
            break
        place = end
    return b""


def parse_header(frame: bytes) -> CodestreamHeader | None:
    """Read a JPEG, JPEG-LS or JPEG 2000 frame's own header, without boxes; None where there is none."""
    try:
        if frame.startswith(_JPEG_2000):
            width, height, left, top = struct.unpack_from(">4I", frame, 8)
            samples, depth = struct.unpack_from(">HB", frame, 40)
            return CodestreamHeader("jpeg-2000", height - top, width - left, samples, (depth & 0x7F) + 1)
        return _parse_jpeg(frame) if frame.startswith(_JPEG) else None
    except (struct.error, ValueError, IndexError):
        return None


def _parse_jpeg(frame: bytes) -> CodestreamHeader | None:
    """Walk from marker to marker up to the scan; None where the chain breaks or the scan's table is missing."""
    place, found, tables = 2, None, False
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == _START_OF_SCAN:
            return found if tables else None
        if marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            found = CodestreamHeader(_KINDS.get(marker, ""), rows, columns, samples, bits)
        tables = tables or marker in (_HUFFMAN_TABLE, _JPEG_LS)
        place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None
