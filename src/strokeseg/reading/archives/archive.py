"""Zips and tars: their members by name, within bounds, none of them let out.

A member that points out of its archive, a link or a device is refused with the whole archive: none belongs into an
export of images. Nothing is unpacked: a zip's member is inflated when it is read, a tar's is a part of one stream.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

from strokeseg.errors import EmptyInput, StrokesegError, TooLarge, UnreadableFile, UnsafeArchive
from strokeseg.reading import input_file
from strokeseg.reading.input_file import InputFile, describe_archive_error, is_system_file

_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the others zipfile unpacks any amount at a time
_TAR_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
_TAR_ENDINGS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
_ALWAYS_ALLOWED_BYTES = 100 * 2**20  # below, a ratio means nothing: pixels of air pack well
# A zip's list of members, or a tar's record of one name: read in one piece, it may be of any size that the file claims.
_MAX_LISTING_BYTES = 16 * 2**20
_START_BYTES = 8192  # of each member of a compressed tar, kept: most headers fit, and the stream is read once less


@contextmanager
def open_archive(path: Path) -> Iterator[list[InputFile] | None]:
    """Open a zip or tar and list its members; None where the file is neither.

    Raises
    ------
    UnsafeArchive
        `unsafe-archive`, if a member's name leaves the archive, a member is a link, a device, encrypted, or packed
        neither with deflate nor not at all, or the whole unpacks to more than 200 times its size.
    TooLarge
        `too-large`, beyond 20,000 files or 4 GiB.
    UnreadableFile, EmptyInput
        `unreadable`, if it is damaged; `empty`.
    """
    start = InputFile(path.name, path=path).read_start(262)
    with ExitStack() as stack:
        if start[:4] in _ZIP_SIGNATURES or path.suffix.lower() == ".zip":
            yield _list_members(path, "zip", _list_zip, stack)
        elif start[257:262] == b"ustar" or _has_tar_name(path) or _is_compressed_tar(path, start):
            yield _list_members(path, "tar", _list_tar, stack)
        else:
            yield None


def _list_members(path: Path, kind: str, reader: Any, stack: ExitStack) -> list[InputFile]:
    try:
        members: list[InputFile] = reader(path, stack)
    except StrokesegError:
        raise
    except (
        Exception
    ) as error:  # a damaged archive shows itself in a dozen ways: BadZipFile, zlib, lzma, struct, EOF ...
        said = f"{path.name}: the {kind} is damaged: {describe_archive_error(error)}"
        raise UnreadableFile(said, f"Make the {kind} again.") from None
    if not members:
        raise EmptyInput(f"{path.name}: the {kind} holds no files")
    return sorted(members, key=lambda member: member.name)


def _has_tar_name(path: Path) -> bool:
    return path.name.lower().endswith(_TAR_ENDINGS)


def _is_compressed_tar(path: Path, start: bytes) -> bool:
    """Whether a compressed file, of any name but a NIfTI's, holds a tar."""
    opener = _TAR_OPENERS.get(start[:2])
    if opener is None or path.name.lower().endswith(".nii.gz"):
        return False
    try:
        with opener(path) as stream:
            return bool(stream.read(262)[257:262] == b"ustar")
    except Exception:  # as in _list
        return False


def _list_zip(path: Path, stack: ExitStack) -> list[InputFile]:
    guard = stack.enter_context(_BoundedStream(path, path.open("rb")))
    whole = stack.enter_context(zipfile.ZipFile(cast(IO[bytes], guard)))
    guard.max_read_bytes = None
    infos = [info for info in whole.infolist() if not (info.is_dir() or is_system_file(info.filename))]
    _check_count(path, len(infos))
    unpacked = sum(info.file_size for info in infos)
    _check_bytes(path, unpacked)
    for info in infos:
        _check_name(path, info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UnsafeArchive(f"{path.name}: the member {info.filename!r} is a link")
        if info.flag_bits & 1:
            said = f"{path.name}: the member {info.filename!r} is encrypted"
            raise UnsafeArchive(said, "Unpack the archive with its password and give the folder.")
        if info.compress_type not in _ZIP_COMPRESSIONS:
            said = f"{path.name}: the member {info.filename!r} is packed in another way than deflate"
            raise UnsafeArchive(said, "Unpack the archive and give the folder, or make a plain zip.")
    infos.sort(key=lambda info: info.header_offset)
    return [
        InputFile(info.filename, opener=_make_zip_opener(whole, info, path), order=order)
        for order, info in enumerate(infos)
    ]


def _make_zip_opener(whole: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Any:
    def open_it() -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, whole.open(info)), 8192))

    return open_it


def _list_tar(path: Path, stack: ExitStack) -> list[InputFile]:
    start = InputFile(path.name, path=path).read_start(2)
    packed = start in _TAR_OPENERS
    guard = stack.enter_context(_BoundedStream(path, _TAR_OPENERS.get(start, open)(path, "rb")))
    whole = stack.enter_context(tarfile.open(fileobj=cast(IO[bytes], guard), mode="r:"))  # noqa: SIM115
    members: list[InputFile] = []
    for seen, info in enumerate(whole, start=1):
        _check_count(path, seen)
        whole.members.clear()  # type: ignore[attr-defined]  # TarFile keeps each: not needed, and not bounded
        if info.isdir() or is_system_file(info.name):
            continue
        _check_name(path, info.name)
        if not info.isreg() or info.issparse():
            kind = "a link" if info.issym() or info.islnk() else "no plain file"
            raise UnsafeArchive(f"{path.name}: the member {info.name!r} is {kind}")
        _check_bytes(path, info.offset_data + info.size)
        head = b""
        if packed:
            guard.seek(info.offset_data)
            head = guard.read(min(_START_BYTES, info.size))
        part = _TarMemberStream(guard, info.offset_data, info.size, head)
        members.append(InputFile(info.name, opener=part.open, order=len(members)))
    guard.seek(whole.offset)
    if guard.read(1) != b"\0":  # tarfile takes a broken record, and a cut between two, for the end
        raise EOFError("it breaks off")
    guard.max_read_bytes = None
    return members


def _check_count(path: Path, count: int) -> None:
    if count > input_file.MAX_FILES:
        raise TooLarge(f"{path.name}: {count:,} files or more; at most {input_file.MAX_FILES:,} are read")


def _check_bytes(path: Path, unpacked: int) -> None:
    if unpacked > input_file.MAX_BYTES:
        said = f"{path.name}: unpacks to {unpacked / 2**30:.1f} GiB"
        raise TooLarge(f"{said}; at most {input_file.MAX_BYTES // 2**30} are read")
    if unpacked > _ALWAYS_ALLOWED_BYTES and unpacked > input_file.MAX_COMPRESSION_RATIO * max(1, path.stat().st_size):
        raise UnsafeArchive(f"{path.name}: unpacks to more than {input_file.MAX_COMPRESSION_RATIO} times its size")


def _check_name(path: Path, name: str) -> None:
    if any(ord(letter) < 32 for letter in name):  # a wrong length made it swallow a file, which may name the patient
        raise UnreadableFile(f"{path.name}: the archive is damaged: a member's name is none", "Make the archive again.")
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or re.match("[A-Za-z]:", name):
        raise UnsafeArchive(f"{path.name}: the member {name!r} points out of the archive")


class _BoundedStream(io.BufferedIOBase):
    """An archive's stream, unpacked as it is read, that stops where more comes out of it than an archive may hold."""

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self.stream = path, stream
        self.max_read_bytes: int | None = _MAX_LISTING_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self.stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and offset > 0 and not isinstance(self.stream, io.BufferedReader):
            _check_bytes(self.path, offset)
        return int(self.stream.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        limit = self.max_read_bytes
        if limit is not None and size is not None and size > limit:
            raise TooLarge(f"{self.path.name}: its list of files is larger than {limit // 2**20} MiB")
        data: bytes = self.stream.read(size)
        return data

    def close(self) -> None:
        self.stream.close()
        super().close()


@dataclass
class _TarMemberStream(io.RawIOBase):
    """One member of a tar, as a stream of its own; its first bytes need no look into the archive."""

    archive: _BoundedStream
    start: int
    size: int
    head: bytes
    position: int = 0
    name: str = ""  # pydicom asks every stream for one

    def open(self) -> BinaryIO:
        part = _TarMemberStream(self.archive, self.start, self.size, self.head)
        return cast(BinaryIO, io.BufferedReader(part, max(1, min(_START_BYTES, self.size))))

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
        wanted = max(0, min(len(buffer), self.size - self.position))
        if wanted == 0:
            return 0
        data = self.head[self.position : self.position + wanted]
        if not data:
            self.archive.seek(self.start + self.position)
            data = self.archive.read(wanted)
            if not data:
                raise EOFError("the archive breaks off")
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)
