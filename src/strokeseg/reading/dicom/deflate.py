"""Deflated DICOM files, inflated within limits before they are parsed."""

from __future__ import annotations

import io
import zlib
from typing import BinaryIO

from strokeseg.errors import TooLarge
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile

_DEFLATED_SYNTAX = b"1.2.840.10008.1.2.1.99"
_EXPLICIT_SYNTAX = b"1.2.840.10008.1.2.1\0\0\0"  # padded to the same length, so that nothing else of the file changes
_MAX_BYTES = 2**30
_ALWAYS_ALLOWED_BYTES = 100 * 2**20
_GROUP_LENGTH_END = 132 + 12  # preamble, "DICM", and the element with the length of group 0002


def open_inflated(file: InputFile) -> BinaryIO:
    """Open a DICOM file; a deflated file is inflated in memory.

    Raises
    ------
    TooLarge
        `too-large`, if it inflates to more than 1 GiB, or to more than 100 MiB and 200 times its size.
    """
    start = file.read_start(1024)
    if start[128:132] != b"DICM" or _DEFLATED_SYNTAX not in start:
        return file.open()
    data = file.read()
    end = _GROUP_LENGTH_END + int.from_bytes(data[_GROUP_LENGTH_END - 4 : _GROUP_LENGTH_END], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    max_bytes = min(_MAX_BYTES, max(_ALWAYS_ALLOWED_BYTES, limits.MAX_COMPRESSION_RATIO * len(data)))
    body = inflater.decompress(data[end:], max_bytes)
    if inflater.unconsumed_tail:
        raise TooLarge(f"{file.name}: inflates to more than {max_bytes // 2**20} MiB", "Give an uncompressed copy.")
    if not inflater.eof:
        raise EOFError("the deflated data break off")
    return io.BytesIO(data[:end].replace(_DEFLATED_SYNTAX, _EXPLICIT_SYNTAX) + body)
