"""Members of a zip archive."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, cast

from strokeseg.errors import UnsafeArchive
from strokeseg.reading.archives.bounded_stream import BoundedStream
from strokeseg.reading.archives.checks import check_count, check_name, check_unpacked_bytes
from strokeseg.reading.input_file import InputFile, is_system_file

_ALLOWED_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # with others zipfile inflates without a limit


def list_zip(path: Path, stack: ExitStack) -> list[InputFile]:
    """Open a zip and list its members.

    Parameters
    ----------
    path : Path
        Path of the archive.
    stack : ExitStack
        Closes the archive; members can be read until then.

    Raises
    ------
    UnsafeArchive, TooLarge
        `unsafe-archive`, `too-large`; damaged archives raise other errors.
    """
    stream = stack.enter_context(BoundedStream(path, path.open("rb")))
    archive = stack.enter_context(zipfile.ZipFile(cast(IO[bytes], stream)))
    stream.max_read_bytes = None
    infos = [info for info in archive.infolist() if not (info.is_dir() or is_system_file(info.filename))]
    check_count(path, len(infos))
    check_unpacked_bytes(path, sum(info.file_size for info in infos))
    for info in infos:
        _check_member(path, info)
    infos.sort(key=lambda info: info.header_offset)
    return [
        InputFile(info.filename, opener=_make_opener(archive, info), order=order, member_bytes=info.file_size)
        for order, info in enumerate(infos)
    ]


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    check_name(path, info.filename)
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsafeArchive(f"{path.name}: the member {info.filename!r} is a link")
    if info.flag_bits & 1:
        message = f"{path.name}: the member {info.filename!r} is encrypted"
        raise UnsafeArchive(message, "Unpack the archive with its password and give the folder.")
    if info.compress_type not in _ALLOWED_COMPRESSIONS:
        message = f"{path.name}: the member {info.filename!r} is not compressed with deflate"
        raise UnsafeArchive(message, "Unpack the archive and give the folder, or create a plain zip.")


def _make_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def open_member() -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, archive.open(info)), 8192))

    return open_member
