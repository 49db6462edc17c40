"""Pixel data of DICOM files: their format, and the bytes of one frame without reading the other frames."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from strokeseg.reading.dicom import codestream, deflate
from strokeseg.reading.input_file import InputFile

_MAX_FRAGMENTS = 250_000
_ITEM_TAG, _SEQUENCE_END_TAG = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# A member of an archive up to this size is read whole, so that its checksum is verified.
_MAX_WHOLE_BYTES = 64 * 2**20
_PIECE_BYTES = 2**24


@dataclass(frozen=True)
class PixelFormat:
    """Format of the pixel data, as a header states it.

    Attributes
    ----------
    offset : int
        First byte of the pixels in the file that :func:`~strokeseg.reading.dicom.deflate.open_inflated` opens.
    length : int or None
        Bytes of the pixel data; None for fragments.
    transfer_syntax : str
        UID; empty if the file states none.
    little_endian : bool
        Byte order with which the header was parsed.
    rows, columns, samples, frame_count, bits_allocated, bits_stored, high_bit : int
        As in the header.
    signed : bool
        Whether a stored number may be negative.
    padding : tuple of (int, int) or None
        (value, limit of the range), as stored; None if not given.
    embedded_overlay : bool
        Whether an overlay lies in the bits that the pixels leave unused.
    """

    offset: int
    length: int | None
    transfer_syntax: str
    little_endian: bool
    rows: int
    columns: int
    samples: int
    frame_count: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    embedded_overlay: bool

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame, bytes."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True)
class EncodedFrame:
    """One frame as stored.

    Attributes
    ----------
    data : bytes
        Bytes as stored, fragments joined.
    compressed : bool
        Whether they are compressed; this follows from the bytes, not from the transfer syntax.
    """

    data: bytes
    compressed: bool


class FrameReader:
    """Read frames one after the other; the file that was opened last stays open."""

    def __init__(self) -> None:
        self._key: int | None = None
        self._stream: BinaryIO | None = None
        self._fragments: list[list[tuple[int, int]]] = []
        self._compressed = False

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def read(self, file: InputFile, pixel_format: PixelFormat, index: int) -> EncodedFrame:
        """Read one frame.

        Parameters
        ----------
        file : InputFile
            The DICOM file.
        pixel_format : PixelFormat
            Format of its pixel data.
        index : int
            Index of the frame, from 0.

        Returns
        -------
        EncodedFrame
            The frame's bytes.

        Raises
        ------
        EOFError, ValueError
            If bytes are missing or the chain of fragments is broken; also what reading the file raises.
        """
        if self._key != id(pixel_format) or self._stream is None:
            self._open(file, pixel_format)
        assert self._stream is not None
        data = b"".join(_read_exactly(self._stream, start, size) for start, size in self._fragments[index])
        return EncodedFrame(data, self._compressed)

    def _open(self, file: InputFile, pixel_format: PixelFormat) -> None:
        self.__exit__()
        stream = deflate.open_inflated(file)
        total_bytes = pixel_format.offset + pixel_format.frame_bytes * pixel_format.frame_count
        if file.opener is not None and total_bytes < _MAX_WHOLE_BYTES:
            with stream:
                stream = deflate.open_inflated(InputFile(file.name, data=stream.read()))
        self._key, self._stream = id(pixel_format), stream
        stream.seek(pixel_format.offset)
        start = stream.read(4)
        size, native, count = pixel_format.length, pixel_format.frame_bytes, pixel_format.frame_count
        self._compressed = True
        if size is None or (start == _ITEM_TAG and size != native * count):
            self._fragments = _group_fragments(stream, pixel_format)
        elif count == 1 and size < native and codestream.is_codestream(start):  # a code stream without fragments
            self._fragments = [[(pixel_format.offset, size)]]
        else:
            self._compressed = False
            if not 0 <= size - native * count < max(4, native // max(1, pixel_format.rows)):
                raise ValueError(f"{size} bytes of pixels for {native * count}")
            self._fragments = [[(pixel_format.offset + native * index, native)] for index in range(count)]


def _read_exactly(stream: BinaryIO, start: int, size: int) -> bytes:
    stream.seek(start)
    # In pieces: reading at once takes the memory of a damaged size before the stream is found to be shorter.
    pieces = iter(lambda: stream.read(min(_PIECE_BYTES, start + size - stream.tell())), b"")
    data = b"".join(pieces)
    if len(data) != size:
        raise EOFError("the pixels break off")
    return data


def _group_fragments(stream: BinaryIO, pixel_format: PixelFormat) -> list[list[tuple[int, int]]]:
    """Return (start, size) of each frame's fragments.

    They are grouped by the offset table if it fits; else one fragment is one frame if their numbers agree; else a frame
    begins where a code stream begins.
    """
    table, fragments = _list_fragments(stream, pixel_format.offset)
    count = pixel_format.frame_count
    if count == 1:
        return [fragments]
    first = fragments[0][0] - 8 if fragments else 0
    numbers = {start - 8 - first: number for number, (start, _) in enumerate(fragments)}
    if len(table) == count and all(offset in numbers for offset in table) and sorted(set(table)) == table:
        bounds = [numbers[offset] for offset in table] + [len(fragments)]
    elif len(fragments) == count:
        return [[fragment] for fragment in fragments]
    else:
        bounds = [
            number
            for number, (start, size) in enumerate(fragments)
            if codestream.is_codestream(_read_exactly(stream, start, min(size, 4)))
        ]
        bounds.append(len(fragments))
        if len(bounds) - 1 != count or bounds[0] != 0:
            raise ValueError(f"{len(fragments)} fragments for {count} frames")
    return [fragments[low:high] for low, high in pairwise(bounds)]


def _list_fragments(stream: BinaryIO, offset: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Read the basic offset table, and (start, size) of every fragment."""
    items: list[tuple[int, int]] = []
    position = offset
    while True:
        stream.seek(position)
        item_header = stream.read(8)
        if item_header[:4] == _SEQUENCE_END_TAG or (items and len(item_header) < 8):
            break
        if item_header[:4] != _ITEM_TAG or len(item_header) < 8:
            raise ValueError("the chain of fragments is broken")
        if len(items) > _MAX_FRAGMENTS:
            raise ValueError("too many fragments")
        size = int.from_bytes(item_header[4:], "little")
        items.append((position + 8, size))
        position += 8 + size
    start, size = items[0]
    table = _read_exactly(stream, start, size) if size else b""
    return [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table) - 3, 4)], items[1:]
