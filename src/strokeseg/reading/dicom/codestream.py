"""Headers of compressed frames, parsed before a decoder sees the frame."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_JPEG = b"\xff\xd8"
_JPEG_2000 = b"\xff\x4f\xff\x51"
_JPEG_2000_BOX = b"\x00\x00\x00\x0cjP  "
_END_MARKER = b"\xff\xd9"  # the same in JPEG, JPEG-LS and JPEG 2000
# Frame headers are all SOF markers, without DHT, JPG and DAC, which lie between them; F7 is the one of JPEG-LS.
_HUFFMAN_TABLE, _JPEG_LS, _START_OF_SCAN = 0xC4, 0xF7, 0xDA
_NO_FILL = re.compile(rb"\xff*")
_FRAME_MARKERS = {*range(0xC0, 0xD0), _JPEG_LS} - {_HUFFMAN_TABLE, 0xC8, 0xCC}
_KINDS = {0xC0: "jpeg", 0xC1: "jpeg", 0xC2: "jpeg", 0xC3: "jpeg-lossless", _JPEG_LS: "jpeg-ls"}


@dataclass(frozen=True)
class CodestreamHeader:
    """Kind and size of a compressed frame.

    Attributes
    ----------
    kind : str
        "jpeg", "jpeg-lossless", "jpeg-ls", "jpeg-2000" (also high-throughput), or "" for a JPEG not used for CT.
    rows, columns, samples, bits : int
        Size of the frame, samples per pixel, bits per sample.
    """

    kind: str
    rows: int
    columns: int
    samples: int
    bits: int


def is_codestream(data: bytes) -> bool:
    """Whether bytes begin as a code stream does."""
    return data.startswith((_JPEG + b"\xff", _JPEG_2000, _JPEG_2000_BOX[:4]))


def strip_padding(frame: bytes) -> bytes:
    """Return a code stream without the bytes behind its end marker that pad it to an even length: 00, or FF by some."""
    return frame.rstrip(b"\0\xff")


def has_end_marker(frame: bytes) -> bool:
    """Whether a code stream without padding has its end marker.

    Without one decoders fill the rest with grey, or loop for seconds.
    """
    return frame.endswith(_END_MARKER)


def strip_jp2_boxes(frame: bytes) -> bytes:
    """Return a JPEG 2000's code stream without the boxes around it; other data are returned unchanged.

    The boxes state a size of their own, which a decoder may use instead. Only the content of the first `jp2c` box is
    returned; empty if there is none.
    """
    if not frame.startswith(_JPEG_2000_BOX):
        return frame
    position = 0
    while len(frame) - position >= 8:
        size, kind = struct.unpack_from(">I4s", frame, position)
        header_size = 8
        if size == 1 and len(frame) - position >= 16:  # a box with a long length
            size, header_size = struct.unpack_from(">Q", frame, position + 8)[0], 16
        end = len(frame) if size == 0 else position + size
        if kind == b"jp2c":
            return frame[position + header_size : end]
        if end < position + header_size:
            break
        position = end
    return b""


def parse_header(frame: bytes) -> CodestreamHeader | None:
    """Parse the header of a JPEG, JPEG-LS or JPEG 2000 frame without boxes; None if there is none."""
    try:
        if frame.startswith(_JPEG_2000):
            width, height, left, top = struct.unpack_from(">4I", frame, 8)
            samples, depth = struct.unpack_from(">HB", frame, 40)
            return CodestreamHeader("jpeg-2000", height - top, width - left, samples, (depth & 0x7F) + 1)
        return _parse_jpeg(frame) if frame.startswith(_JPEG) else None
    except (struct.error, ValueError, IndexError):
        return None


def _parse_jpeg(frame: bytes) -> CodestreamHeader | None:
    """Follow the markers up to the scan; None if a marker is missing or the scan has no table."""
    position, header, has_table = 2, None, False
    while frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill bytes, of any number
            position = _NO_FILL.match(frame, position).end() - 1  # type: ignore[union-attr]
            marker = frame[position + 1]
        if marker == _START_OF_SCAN:
            return header if has_table else None
        if marker in _FRAME_MARKERS:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, position + 4)
            header = CodestreamHeader(_KINDS.get(marker, ""), rows, columns, samples, bits)
        has_table = has_table or marker in (_HUFFMAN_TABLE, _JPEG_LS)
        position += 2 + struct.unpack_from(">H", frame, position + 2)[0]
    return None
