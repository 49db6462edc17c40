"""How a file stores its pixels, and the bytes of one frame, native or in fragments, without reading the others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from strokeseg.read import codestream, deflated
from strokeseg.read.archive import Member

_MOST_FRAGMENTS = 250_000
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# A member of an archive up to this size is read whole, so that its check sum is looked at.
_WHOLE = 64 * 2**20


@dataclass(frozen=True)
class Stored:
    """What a header says of its pixels.

    Parameters
    ----------
    offset : of the first byte of the pixels, in the file as :func:`deflated.opened` gives it
    length : bytes; None for fragments
    syntax : UID; empty where the file names none
    little : the byte order that the header was parsed with
    rows, columns, samples, frames, bits_allocated, bits_stored, high_bit : as the header has them
    signed : whether a stored number may be negative
    padding : (value, limit of the range), as stored; None where none is given
    overlaid : an overlay lies in the bits that the pixels leave unused
    """

    offset: int
    length: int | None
    syntax: str
    little: bool
    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    overlaid: bool

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame that is not compressed."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True)
class Frame:
    """One frame's bytes, and whether they are compressed, whatever the header says."""

    data: bytes
    packed: bool


class Frames:
    """Gives the frames of files, one after the other; the file that was opened last stays open."""

    def __init__(self) -> None:
        self._key: int | None = None
        self._stream: BinaryIO | None = None
        self._places: list[list[tuple[int, int]]] = []
        self._packed = False

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def frame(self, member: Member, stored: Stored, index: int) -> Frame:
        """Read one frame.

        Raises
        ------
        EOFError, ValueError, and what reading raises
            if the bytes are not there or their chain is broken
        """
        if self._key != id(stored) or self._stream is None:
            self._open(member, stored)
        assert self._stream is not None
        return Frame(b"".join(_read(self._stream, *place) for place in self._places[index]), self._packed)

    def _open(self, member: Member, stored: Stored) -> None:
        self.__exit__()
        stream = deflated.opened(member)
        if member.opener is not None and stored.offset + stored.frame_bytes * stored.frames < _WHOLE:
            with stream:
                stream = deflated.opened(Member(member.name, data=stream.read()))
        self._key, self._stream = id(stored), stream
        stream.seek(stored.offset)
        start = stream.read(4)
        size, native = stored.length, stored.frame_bytes
        self._packed = True
        if size is None or (start == _ITEM and size != native * stored.frames):
            self._places = _grouped(stream, stored)
        elif stored.frames == 1 and size < native and codestream.begins(start):  # a bare code stream
            self._places = [[(stored.offset, size)]]
        else:
            self._packed = False
            if not 0 <= size - native * stored.frames < max(4, native // max(1, stored.rows)):
                raise ValueError(f"{size} bytes of pixels for {native * stored.frames}")
            self._places = [[(stored.offset + native * index, native)] for index in range(stored.frames)]


def _read(stream: BinaryIO, start: int, size: int) -> bytes:
    stream.seek(start)
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the pixels break off")
    return data


def _grouped(stream: BinaryIO, stored: Stored) -> list[list[tuple[int, int]]]:
    """Give each frame's fragments: by the table of offsets if it fits, else one each, else by where a frame begins."""
    table, fragments = _fragments(stream, stored.offset)
    count = stored.frames
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
            n for n, (place, size) in enumerate(fragments) if codestream.begins(_read(stream, place, min(size, 4)))
        ]
        bounds.append(len(fragments))
        if len(bounds) - 1 != count or bounds[0] != 0:
            raise ValueError(f"{len(fragments)} fragments for {count} frames")
    return [fragments[low:high] for low, high in pairwise(bounds)]


def _fragments(stream: BinaryIO, offset: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Walk the items: the basic table of offsets, and (start, size) of every fragment."""
    places: list[tuple[int, int]] = []
    place = offset
    while True:
        stream.seek(place)
        mark = stream.read(8)
        if mark[:4] == _END or (places and len(mark) < 8):
            break
        if mark[:4] != _ITEM or len(mark) < 8:
            raise ValueError("the chain of fragments is broken")
        if len(places) > _MOST_FRAGMENTS:
            raise ValueError("too many fragments")
        size = int.from_bytes(mark[4:], "little")
        places.append((place + 8, size))
        place += 8 + size
    start, size = places[0]
    table = _read(stream, start, size) if size else b""
    return [int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table) - 3, 4)], places[1:]
