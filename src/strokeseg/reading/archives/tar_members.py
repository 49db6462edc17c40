"""Members of a tar archive, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from strokeseg.errors import UnsafeArchive
from strokeseg.reading.archives.bounded_stream import BoundedStream
from strokeseg.reading.archives.checks import check_count, check_name, check_unpacked_bytes
from strokeseg.reading.input_file import InputFile, is_system_file

_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_ENDINGS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# Start of each member of a compressed tar that is kept: most headers fit, and the stream is read once less.
_START_BYTES = 8192


def has_tar_name(path: Path) -> bool:
    """Whether a file is named like a tar."""
    return path.name.lower().endswith(_ENDINGS)


def is_compressed_tar(path: Path, start: bytes) -> bool:
    """Whether a compressed file of any name holds a tar; files named like NIfTI are not checked.

    Parameters
    ----------
    path : Path
        Path of the file.
    start : bytes
        Its first bytes, at least two.
    """
    opener = _OPENERS.get(start[:2])
    if opener is None or path.name.lower().endswith(".nii.gz"):
        return False
    try:
        with opener(path) as stream:
            return bool(stream.read(262)[257:262] == b"ustar")
    except Exception:  # damaged data raise a dozen errors
        return False


def list_tar(path: Path, stack: ExitStack) -> list[InputFile]:
    """Open a tar and list its members.

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
    signature = InputFile(path.name, path=path).read_start(2)
    compressed = signature in _OPENERS
    stream = stack.enter_context(BoundedStream(path, _OPENERS.get(signature, open)(path, "rb")))
    archive = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:"))  # noqa: SIM115
    members: list[InputFile] = []
    for count, info in enumerate(archive, start=1):
        check_count(path, count)
        archive.members.clear()  # type: ignore[attr-defined]  # TarFile keeps every one, without a limit
        if info.isdir() or is_system_file(info.name):
            continue
        check_name(path, info.name)
        if not info.isreg() or info.issparse():
            kind = "a link" if info.issym() or info.islnk() else "not a regular file"
            raise UnsafeArchive(f"{path.name}: the member {info.name!r} is {kind}")
        check_unpacked_bytes(path, info.offset_data + info.size)
        start = b""
        if compressed:
            stream.seek(info.offset_data)
            start = stream.read(min(_START_BYTES, info.size))
        member_stream = _TarMemberStream(stream, info.offset_data, info.size, start)
        members.append(InputFile(info.name, opener=member_stream.reopen, order=len(members), member_bytes=info.size))
    stream.seek(archive.offset)
    if stream.read(1) != b"\0":  # tarfile takes a damaged record, or a cut between two records, for the end
        raise EOFError("it breaks off")
    stream.max_read_bytes = None
    return members


@dataclass
class _TarMemberStream(io.RawIOBase):
    """One member of a tar as a stream.

    Attributes
    ----------
    archive : BoundedStream
        Stream of the whole archive.
    offset : int
        Byte of the archive at which the member begins.
    size : int
        Bytes of the member.
    start : bytes
        First bytes of the member; they are read without the archive.
    position : int, default 0
        Byte of the member that is read next.
    name : str, default ""
        Pydicom asks every stream for a name.
    """

    archive: BoundedStream
    offset: int
    size: int
    start: bytes
    position: int = 0
    name: str = ""

    def reopen(self) -> BinaryIO:
        """Open the member from its first byte."""
        stream = _TarMemberStream(self.archive, self.offset, self.size, self.start)
        return cast(BinaryIO, io.BufferedReader(stream, max(1, min(_START_BYTES, self.size))))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self.size - self.position))
        if count == 0:
            return 0
        data = self.start[self.position : self.position + count]
        if not data:
            self.archive.seek(self.offset + self.position)
            data = self.archive.read(count)
            if not data:
                raise EOFError("the archive breaks off")
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
