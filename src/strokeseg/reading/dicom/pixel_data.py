"""How a file stores its pixels, and the bytes of one frame, native or in fragments, without reading the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from strokeseg.reading.dicom import codestream, deflate
from strokeseg.reading.input_file import InputFile

_MAX_FRAGMENTS = 250_000
_ITEM_TAG, _SEQUENCE_END_TAG = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# A member of an archive up to this size is read whole, so that its check sum is looked at.
_MAX_WHOLE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class PixelFormat:
    """What a header says of its pixels.

    Parameters
    ----------
    offset : int
        Of the first byte of the pixels, in the file as :func:`deflated.opened` gives it.
    length : int or None
        Bytes; None for fragments.
    syntax : object
        UID; empty where the file names none.
    little : object
        The byte order that the header was parsed with.
    rows, columns, samples, frames, bits_allocated, bits_stored, high_bit : int
        As the header has them.
    signed : bool
        Whether a stored number may be negative.
    padding : tuple of (int, int) or None
        (value, limit of the range), as stored; None where none is given.
    overlaid : object
        An overlay lies in the bits that the pixels leave unused.
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
        """Bytes of one frame that is not compressed."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True)
class EncodedFrame:
    """One frame's bytes, and whether they are compressed, whatever the header says."""

    data: bytes
    compressed: bool


class FrameReader:
    """Gives the frames of files, one after the other; the file that was opened last stays open."""

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

    def read(self, member: InputFile, stored: PixelFormat, index: int) -> EncodedFrame:
        """Read one frame.

        Raises
        ------
        EOFError, ValueError, and what reading raises
            If the bytes are not there or their chain is broken.
        """
        if self._key != id(stored) or self._stream is None:
            self._open(member, stored)
        assert self._stream is not None
        return EncodedFrame(
            b"".join(_read_exactly(self._stream, *place) for place in self._fragments[index]), self._compressed
        )

    def _open(self, member: InputFile, stored: PixelFormat) -> None:
        self.__exit__()
        stream = deflate.open_inflated(member)
        if member.opener is not None and stored.offset + stored.frame_bytes * stored.frame_count < _MAX_WHOLE_BYTES:
            with stream:
                stream = deflate.open_inflated(InputFile(member.name, data=stream.read()))
        self._key, self._stream = id(stored), stream
        stream.seek(stored.offset)
        start = stream.read(4)
        size, native = stored.length, stored.frame_bytes
        self._compressed = True
        if size is None or (start == _ITEM_TAG and size != native * stored.frame_count):
            self._fragments = _group_fragments(stream, stored)
        elif stored.frame_count == 1 and size < native and codestream.is_codestream(start):  # a bare code stream
            self._fragments = [[(stored.offset, size)]]
        else:
            self._compressed = False
            if not 0 <= size - native * stored.frame_count < max(4, native // max(1, stored.rows)):
                raise ValueError(f"{size} bytes of pixels for {native * stored.frame_count}")
            self._fragments = [[(stored.offset + native * index, native)] for index in range(stored.frame_count)]


def _read_exactly(stream: BinaryIO, start: int, size: int) -> bytes:
    stream.seek(start)
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the pixels break off")
    return data


def _group_fragments(stream: BinaryIO, stored: PixelFormat) -> list[list[tuple[int, int]]]:
    """Return each frame's fragments: by the table of offsets if it fits, else one each, else by where a frame begins."""
    table, fragments = _list_fragments(stream, stored.offset)
    count = stored.frame_count
    if count == 1:
        return [fragments]
    first = fragments[0][0] - 8 if fragments else 0
    starts = {place - 8 - first: number for number, (place, _) in enumerate(fragments)}
    if len(table) == count and all(offset in starts for offset in table) and sorted(set(table)) == table:
        bounds = [starts[offset] for offset in table] + [len(fragments)]
    elif len(fragments) == count:
        return [[fragment] for fragment in fragments]
    else:
        bounds = [
            n
            for n, (place, size) in enumerate(fragments)
            if codestream.is_codestream(_read_exactly(stream, place, min(size, 4)))
        ]
        bounds.append(len(fragments))
        if len(bounds) - 1 != count or bounds[0] != 0:
            raise ValueError(f"{len(fragments)} fragments for {count} frames")
    return [fragments[low:high] for low, high in pairwise(bounds)]


def _list_fragments(stream: BinaryIO, offset: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Walk the items: the basic table of offsets, and (start, size) of every fragment."""
    places: list[tuple[int, int]] = []
    place = offset
    while True:
        stream.seek(place)
        mark = stream.read(8)
        if mark[:4] == _SEQUENCE_END_TAG or (places and len(mark) < 8):
            break
        if mark[:4] != _ITEM_TAG or len(mark) < 8:
            raise ValueError("the chain of fragments is broken")
        if len(places) > _MAX_FRAGMENTS:
            raise ValueError("too many fragments")
        size = int.from_bytes(mark[4:], "little")
        places.append((place + 8, size))
        place += 8 + size
    start, size = places[0]
    table = _read_exactly(stream, start, size) if size else b""
    return [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table) - 3, 4)], places[1:]
