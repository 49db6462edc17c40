"""A zip's members as bytes, within bounds, and never onto the disk."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from strokeseg.errors import EmptyInput, TooLarge, UnreadableFile, UnsafeArchive

MOST_FILES = 20_000
MOST_BYTES = 4 * 2**30
MOST_RATIO = 200
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True)
class Member:
    """A file by name, with its bytes where it comes from an archive, or its path where it lies on the disk."""

    name: str
    path: Path | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Give the bytes.

        Raises
        ------
        UnreadableFile
            `unreadable`, if the system refuses
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"{self.name}: {error.strerror}") from None

    def head(self, size: int = 256) -> bytes:
        """Give the first bytes; empty where the system refuses."""
        if self.data is not None:
            return self.data[:size]
        assert self.path is not None
        try:
            with self.path.open("rb") as stream:
                return stream.read(size)
        except OSError:
            return b""


def is_litter(name: str) -> bool:
    """Whether a file is left behind by a file manager and no content."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "__MACOSX" in parts or parts[-1].startswith("._") or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini")


def from_folder(folder: Path) -> list[Member]:
    """List a folder's files, at any depth, in the order of their names; links that leave the folder are left out."""
    root = folder.resolve()
    members = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or is_litter(str(path.relative_to(folder))):
            continue
        if path.is_symlink() and root not in path.resolve().parents:
            continue
        members.append(Member(str(path.relative_to(folder)), path=path))
        if len(members) > MOST_FILES:
            raise TooLarge(f"{folder.name}: more than {MOST_FILES} files", "Give the folder of one series.")
    if not members:
        raise EmptyInput(f"{folder.name or folder}: the folder holds no files")
    return members


def from_zip(path: Path) -> list[Member]:
    """Read a zip's files into memory.

    Raises
    ------
    UnsafeArchive
        `unsafe-archive`, if a member's name leaves the archive, a member is a link, an archive or encrypted, or the
        whole unpacks to more than 200 times its size
    TooLarge
        `too-large`, beyond 20,000 files or 4 GiB
    UnreadableFile, EmptyInput
        `unreadable`, if it is damaged; `empty`
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir() and not is_litter(info.filename)]
            _check(path, infos)
            return [Member(info.filename, data=archive.read(info)) for info in sorted(infos, key=lambda i: i.filename)]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path.name}: the zip is damaged: {error}", "Make the zip again.") from None
    except OSError as error:
        raise UnreadableFile(f"{path.name}: {error.strerror or error}") from None


def _check(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if not infos:
        raise EmptyInput(f"{path.name}: the zip holds no files")
    if len(infos) > MOST_FILES:
        raise TooLarge(f"{path.name}: {len(infos)} files; at most {MOST_FILES} are read")
    unpacked = sum(info.file_size for info in infos)
    if unpacked > MOST_BYTES:
        raise TooLarge(f"{path.name}: unpacks to {unpacked / 2**30:.1f} GiB; at most {MOST_BYTES // 2**30} are read")
    if unpacked > 100 * 2**20 and unpacked > MOST_RATIO * max(1, path.stat().st_size):
        raise UnsafeArchive(f"{path.name}: unpacks to more than {MOST_RATIO} times its size")
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise UnsafeArchive(f"{path.name}: the member {info.filename!r} points out of the archive")
        if (info.external_attr >> 16) & 0o170000 == 0o120000:
            raise UnsafeArchive(f"{path.name}: the member {info.filename!r} is a link")
        if info.flag_bits & 1:
            raise UnsafeArchive(f"{path.name}: the member {info.filename!r} is encrypted")
        if name.suffix.lower() in _ARCHIVES and not info.filename.lower().endswith(".nii.gz"):
            raise UnsafeArchive(
                f"{path.name}: the member {info.filename!r} is an archive inside an archive",
                "Unpack the inner archive and give it alone.",
            )
