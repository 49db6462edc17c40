"""Files by name, of a folder or of a zip: a zip's members as bytes, within bounds, and never onto the disk."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from strokeseg.errors import EmptyInput, StrokesegError, TooLarge, UnreadableFile, UnsafeArchive

MOST_FILES = 20_000
MOST_BYTES = 4 * 2**30
MOST_RATIO = 200
MOST_PIXELS = 4096 * 4096
MOST_VOXELS = 2**30
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Member:
    """A file by name, with its bytes where it comes from an archive, or its path where it lies on the disk."""

    name: str
    path: Path | None = None
    data: bytes | None = None

    def open(self) -> BinaryIO:
        """Open for reading.

        Raises
        ------
        UnreadableFile
            `unreadable`, if the system refuses
        """
        if self.path is None:
            return io.BytesIO(self.data or b"")
        try:
            return self.path.open("rb")
        except OSError as error:
            raise UnreadableFile(f"{self.name}: {error.strerror or error}") from None

    def read(self) -> bytes:
        """Give the bytes; raises as :meth:`open`."""
        if self.data is not None:
            return self.data
        with self.open() as stream:
            try:
                return stream.read()
            except OSError as error:
                raise UnreadableFile(f"{self.name}: {error.strerror or error}") from None

    def head(self, size: int) -> bytes:
        """Give the first bytes; raises as :meth:`open`."""
        if self.data is not None:
            return self.data[:size]
        with self.open() as stream:
            try:
                return stream.read(size)
            except OSError as error:
                raise UnreadableFile(f"{self.name}: {error.strerror or error}") from None


def is_litter(name: str) -> bool:
    """Whether a file is left behind by a file manager and no content."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts:
        return True
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


def from_folder(folder: Path) -> list[Member]:
    """List a folder's files, at any depth, in the order of their names; links to folders are not followed.

    Raises
    ------
    EmptyInput, TooLarge, UnreadableFile
        `empty`; `too-large`, beyond 20,000 files; `unreadable`, if the system refuses to list a folder
    """
    members = []
    for place, folders, files in os.walk(folder, onerror=_refused):
        folders.sort()
        for file in files:
            path = Path(place, file)
            name = path.relative_to(folder).as_posix()
            if not is_litter(name) and path.is_file():
                members.append(Member(name, path=path))
        if len(members) > MOST_FILES:
            raise TooLarge(f"{folder.name}: more than {MOST_FILES:,} files", "Give the folder of one series.")
    if not members:
        raise EmptyInput(f"{folder.name or folder}: the folder holds no files")
    return sorted(members, key=lambda member: member.name)


def _refused(error: OSError) -> None:
    name = Path(error.filename).name if error.filename else "a folder"
    raise UnreadableFile(f"{name}: the folder cannot be listed: {error.strerror or error}", "Check its permissions.")


def from_zip(path: Path) -> list[Member]:
    """Read a zip's files into memory.

    Raises
    ------
    UnsafeArchive
        `unsafe-archive`, if a member's name leaves the archive, a member is a link or encrypted, or the whole
        unpacks to more than 200 times its size
    TooLarge
        `too-large`, beyond 20,000 files or 4 GiB
    UnreadableFile, EmptyInput
        `unreadable`, if it is damaged; `empty`
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not (info.is_dir() or is_litter(info.filename))]
            _check(path, infos)
            return [Member(info.filename, data=archive.read(info)) for info in sorted(infos, key=lambda i: i.filename)]
    except StrokesegError:
        raise
    except Exception as error:  # a damaged zip shows itself in a dozen ways: BadZipFile, zlib, lzma, struct, EOF ...
        reason = str(error) or type(error).__name__
        raise UnreadableFile(f"{path.name}: the zip is damaged: {reason}", "Make the zip again.") from None


def is_archive(name: str) -> bool:
    """Whether a file is named like an archive; a compressed NIfTI is none."""
    return name.lower().endswith(_ARCHIVES) and not name.lower().endswith(".nii.gz")


def _check(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if not infos:
        raise EmptyInput(f"{path.name}: the zip holds no files")
    if len(infos) > MOST_FILES:
        raise TooLarge(f"{path.name}: {len(infos):,} files; at most {MOST_FILES:,} are read")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MOST_BYTES:
        raise TooLarge(f"{path.name}: unpacks to {unpacked / 2**30:.1f} GiB; at most {MOST_BYTES // 2**30} are read")
    if unpacked > 100 * 2**20 and unpacked > MOST_RATIO * max(1, path.stat().st_size):
        raise UnsafeArchive(f"{path.name}: unpacks to more than {MOST_RATIO} times its size")
    for info in infos:
        _check_member(path, info)


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    said = f"{path.name}: the member {info.filename!r}"
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or re.match("[A-Za-z]:", info.filename):
        raise UnsafeArchive(f"{said} points out of the archive")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsafeArchive(f"{said} is a link")
    if info.flag_bits & 1:
        raise UnsafeArchive(f"{said} is encrypted", "Unpack the archive with its password and give the folder.")
