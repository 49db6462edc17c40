"""Files by name, of a folder or of an archive, whose members are read where they lie and never unpacked to disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from strokeseg.errors import EmptyInput, StrokesegError, TooLarge, UnreadableFile

MAX_FILES = 20_000
MAX_BYTES = 4 * 2**30
MAX_COMPRESSION_RATIO = 200
MAX_PIXELS = 4096 * 4096
MAX_VOXELS = 2**30
_ARCHIVE_ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")
_SYSTEM_FOLDERS = {"__MACOSX", ".Spotlight-V100", ".Trashes", ".fseventsd", "$RECYCLE.BIN", "System Volume Information"}
_SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class InputFile:
    """A file by name: on the disk, in an archive, or as bytes.

    Parameters
    ----------
    name : str
        With the folders above it, as a sentence about the file gives it.
    path : Path, optional
        Where it lies on the disk.
    data : bytes, optional
        Its bytes.
    opener : callable, optional
        Opens it in its archive; only while the archive is open.
    order : int, default: 0
        Its place in an archive that is quickly read only from its start to its end.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    opener: Callable[[], BinaryIO] | None = None
    order: int = 0

    def open(self) -> BinaryIO:
        """Open for reading.

        Raises
        ------
        UnreadableFile
            `unreadable`, if the system refuses or the archive is damaged there.
        """
        if self.path is None and self.opener is None:
            return io.BytesIO(self.data or b"")
        try:
            return self.opener() if self.opener else self.path.open("rb")  # type: ignore[union-attr]
        except Exception as error:  # the system's word, or one of the dozen of a damaged archive
            raise self._make_error(error) from None

    def read(self) -> bytes:
        """Return the bytes; raises as :meth:`open`."""
        return self.read_start(-1)

    def verify(self) -> None:
        """Read all of it and keep nothing; raises as :meth:`open`, where a check sum is wrong too."""
        if self.data is None:
            with self.open() as stream:
                try:
                    while stream.read(2**20):
                        pass
                except StrokesegError:
                    raise
                except Exception as error:  # as above
                    raise self._make_error(error) from None

    def read_start(self, size: int) -> bytes:
        """Return the first bytes, all where ``size`` is -1; raises as :meth:`open`."""
        if self.data is not None:
            return self.data if size < 0 else self.data[:size]
        with self.open() as stream:
            try:
                return stream.read(size)
            except StrokesegError:
                raise
            except Exception as error:  # as above
                raise self._make_error(error) from None

    def _make_error(self, error: Exception) -> UnreadableFile:
        if isinstance(error, OSError) and error.strerror:
            return UnreadableFile(f"{self.name}: {error.strerror}")
        return UnreadableFile(
            f"{self.name}: the archive is damaged there: {describe_archive_error(error)}", "Make the archive again."
        )


def describe_archive_error(error: Exception) -> str:
    """Say what a damaged archive raised, without its own words: zipfile quotes up to a whole file, patient and all."""
    return "it breaks off" if isinstance(error, EOFError) else type(error).__name__


def is_system_file(name: str) -> bool:
    """Whether a file is left behind by a file manager and no content."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return (
        not parts or parts[-1].startswith("._") or parts[-1] in _SYSTEM_FILES or not _SYSTEM_FOLDERS.isdisjoint(parts)
    )


def list_folder(folder: Path) -> list[InputFile]:
    """List a folder's regular files, at any depth, in the order of their names.

    A link to a file in the folder is that file; other links are not followed: an export may come from anyone, and what
    is read ends in the results.

    Raises
    ------
    EmptyInput, TooLarge, UnreadableFile
        `empty`; `too-large`, beyond 20,000 files; `unreadable`, if the system refuses to list a folder.
    """
    members, places, seen, links, home = [], [folder], 0, 0, folder.resolve()
    while places:
        place = places.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:  # one at a time: a folder of a million files is never held as a list
                    seen += 1
                    if seen > MAX_FILES:
                        said = f"{folder.name or folder}: more than {MAX_FILES:,} files"
                        raise TooLarge(said, "Give the folder of one series.")
                    name = Path(entry.path).relative_to(folder).as_posix()
                    if entry.is_dir(follow_symlinks=False):
                        places.append(Path(entry.path))
                    elif not is_system_file(name) and _is_file_within(entry, home):
                        members.append(InputFile(name, path=Path(entry.path)))
                    else:
                        links += entry.is_symlink()
        except OSError as error:
            said = f"{place.name}: the folder cannot be listed: {error.strerror or error}"
            raise UnreadableFile(said, "Check its permissions.") from None
    if not members and links:
        said = f"{folder.name or folder}: the folder holds links out of it and no files"
        raise EmptyInput(said, "Give the folder that they point to.")
    if not members:
        raise EmptyInput(f"{folder.name or folder}: the folder holds no files")
    return sorted(members, key=lambda member: member.name)


def _is_file_within(entry: os.DirEntry[str], home: Path) -> bool:
    """Whether an entry is a regular file, or a link to one below ``home``."""
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # a circle, or nothing there
        return False
    return target.is_relative_to(home) and target.is_file()


def has_archive_name(name: str) -> bool:
    """Whether a file is named like an archive; a compressed NIfTI is none."""
    return name.lower().endswith(_ARCHIVE_ENDINGS) and not name.lower().endswith(".nii.gz")
