"""Deflated DICOM files, inflated within limits before they are parsed: pydicom itself inflates without any."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from strokeseg.errors import TooLarge
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile

_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
_EXPLICIT_SYNTAX = b"1.2.840.10008.1.2.1\0\0\0"  # padded to the same length, so that nothing else of the file changes
_MAX_BYTES = 2**30
_ALWAYS_ALLOWED_BYTES = 100 * 2**20
_PIECE_BYTES = 2**18
_SHORT_VRS = (b"UL", b"UI", b"SH", b"AE")  # of group 0002; their length has two bytes


def open_inflated(file: InputFile) -> BinaryIO:
    """Open a DICOM file; a deflated file is inflated in memory.

    Raises
    ------
    TooLarge
        `too-large`, if it inflates to more than 1 GiB, or to more than 100 MiB and 200 times its size.
    """
    max_bytes = max(_ALWAYS_ALLOWED_BYTES, limits.MAX_COMPRESSION_RATIO * file.measure_bytes())
    stream = open_header(file, min(_MAX_BYTES, max_bytes))
    if isinstance(stream, _InflatingStream):
        with _closing_on_error(stream):
            stream.read()
            stream.seek(0)
    return stream


def open_header(file: InputFile, max_bytes: int) -> BinaryIO:
    """Open a DICOM file; a deflated file is inflated as far as it is read.

    Parameters
    ----------
    file : InputFile
        The file.
    max_bytes : int
        Bytes that a deflated file may inflate to.

    Returns
    -------
    BinaryIO
        The file; reading from it raises TooLarge (`too-large`) beyond the limit, and EOFError if deflated data break
        off.
    """
    if not _may_be_deflated(file.read_start(1024)):
        return file.open()
    stream = file.open()
    with _closing_on_error(stream):
        meta = _read_deflated_meta(stream)
    return stream if meta is None else _InflatingStream(meta, stream, file.name, max_bytes)


def check_inflated_size(file: InputFile, max_bytes: int) -> None:
    """Check what a deflated file inflates to, without keeping it.

    Parameters
    ----------
    file : InputFile
        Any file; one that is not deflated is not checked.
    max_bytes : int
        The limit.

    Raises
    ------
    TooLarge
        `too-large`.
    EOFError, zlib.error
        If the deflated data break off or are damaged.
    """
    if not _may_be_deflated(file.read_start(1024)):
        return
    with file.open() as stream:
        if _read_deflated_meta(stream) is None:
            return
        total = 0
        for piece in _inflate(stream):
            total += len(piece)
            if total > max_bytes:
                raise _make_size_error(file.name, max_bytes)


class _InflatingStream(io.BytesIO):
    """A file whose data set is inflated as far as it is read."""

    def __init__(self, meta: bytes, stream: BinaryIO, name: str, max_bytes: int) -> None:
        super().__init__(meta)
        self._bytes, self._limit = len(meta), len(meta) + max_bytes
        self._stream, self._pieces = stream, _inflate(stream)
        self._name, self._max_bytes = name, max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        position = self.tell()
        end = self._limit + 1 if size is None or size < 0 else position + size
        while self._bytes < end and (piece := next(self._pieces, None)) is not None:
            if self._bytes + len(piece) > self._limit:
                raise _make_size_error(self._name, self._max_bytes)
            self.seek(self._bytes)
            self._bytes += self.write(piece)
        self.seek(position)
        return super().read(size)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _closing_on_error(stream: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _may_be_deflated(start: bytes) -> bool:
    """Whether the first bytes of a file leave it open that pydicom would inflate the file."""
    if _DEFLATED_SYNTAX in start:
        return True
    position = 132 if start[128:132] == b"DICM" else 0
    while position + 12 <= len(start):
        if start[position : position + 2] != b"\x02\x00":
            return False
        vr = start[position + 4 : position + 6]
        if vr in _SHORT_VRS:
            position += 8 + int.from_bytes(start[position + 6 : position + 8], "little")
        elif vr == b"OB":
            position += 12 + int.from_bytes(start[position + 8 : position + 12], "little")
        else:
            return True
    return position > 0


def _read_deflated_meta(stream: Any) -> bytes | None:
    """Read preamble and group 0002 of a deflated file, and return them as those of a file that is not deflated.

    If the file is not deflated, rewind the stream and return None.
    """
    read_preamble(stream, force=True)
    # pydicom's own reader of group 0002: it must never see the file as deflated where this module does not.
    syntax = _read_file_meta_info(stream).get("TransferSyntaxUID")
    end = stream.tell()
    stream.seek(0)
    if syntax != DeflatedExplicitVRLittleEndian:
        return None
    return bytes(stream.read(end)).replace(_DEFLATED_SYNTAX, _EXPLICIT_SYNTAX)


def _inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Inflate what is left of a stream, in pieces of limited size.

    Raises
    ------
    EOFError
        If the data break off.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof:
        data = inflater.unconsumed_tail or stream.read(_PIECE_BYTES)
        piece = inflater.decompress(data, _PIECE_BYTES)
        if piece:
            yield piece
        elif not data:
            raise EOFError("the deflated data break off")


def _make_size_error(name: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"{name}: inflates to more than {max_bytes // 2**20} MiB", "Give an uncompressed copy.")
