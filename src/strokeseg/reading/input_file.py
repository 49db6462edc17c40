"""Input files: on the disk, in an archive, or as bytes. Members of an archive are never unpacked to disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from strokeseg.errors import EmptyInput, StrokesegError, TooLarge, UnreadableFile
from strokeseg.reading import limits

_ARCHIVE_ENDINGS = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".7z", ".rar")
_SYSTEM_FOLDERS = {
    ".git",
    "__MACOSX",
    ".Spotlight-V100",
    ".Trashes",
    ".fseventsd",
    "$RECYCLE.BIN",
    "System Volume Information",
}
_ANNEX_FOLDER = ".git/annex/objects/"
_SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class InputFile:
    """A file with its name: on the disk, in an archive, or as bytes.

    Attributes
    ----------
    name : str
        Name with its parent folders, as error messages show it.
    path : Path, optional
        Path of a file on the disk.
    data : bytes, optional
        Content of a file in memory.
    opener : callable, optional
        Opens a member of an archive; works only while the archive is open.
    order : int, default 0
        Position in an archive that is fast to read only from start to end.
    member_bytes : int, optional
        Size of a member of an archive, as its list of files states it; never more is read.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    opener: Callable[[], BinaryIO] | None = None
    order: int = 0
    member_bytes: int | None = None

    def open(self) -> BinaryIO:
        """Open the file for reading.

        Raises
        ------
        UnreadableFile
            `unreadable`, if the operating system refuses or the archive is damaged at this member.
        """
        if self.path is None and self.opener is None:
            return io.BytesIO(self.data or b"")
        try:
            return self.opener() if self.opener else self.path.open("rb")  # type: ignore[union-attr]
        except MemoryError:
            raise
        except Exception as error:  # an OSError, or one of a dozen errors of a damaged archive
            raise self._make_error(error) from None

    def read(self) -> bytes:
        """Read all bytes; raises as :meth:`open`."""
        return self.read_start(-1)

    def open_guarded(self) -> BinaryIO:
        """Open the file for reading; while it is read, errors are raised as by :meth:`open`."""
        return cast(BinaryIO, io.BufferedReader(_GuardedStream(self.open(), self._make_error), 2**16))

    def measure_bytes(self) -> int:
        """Return the file's size; raises as :meth:`open`."""
        if self.path is not None:
            try:
                return self.path.stat().st_size
            except OSError as error:
                raise self._make_error(error) from None
        return len(self.data or b"") if self.member_bytes is None else self.member_bytes

    def check_bytes(self, max_bytes: int) -> None:
        """Raise TooLarge (`too-large`) if the file is larger than ``max_bytes``."""
        limits.check_size(self.measure_bytes(), max_bytes, self.name)

    def verify(self) -> None:
        """Read the whole file and discard it; raises as :meth:`open`, also for a wrong checksum."""
        if self.data is None:
            with self.open() as stream:
                try:
                    while stream.read(2**20):
                        pass
                except (StrokesegError, MemoryError):
                    raise
                except Exception as error:  # see open
                    raise self._make_error(error) from None

    def read_start(self, size: int) -> bytes:
        """Read the first ``size`` bytes, or all bytes if ``size`` is -1; raises as :meth:`open`."""
        if self.data is not None:
            return self.data if size < 0 else self.data[:size]
        with self.open() as stream:
            try:
                return stream.read(size)
            except (StrokesegError, MemoryError):
                raise
            except Exception as error:  # see open
                raise self._make_error(error) from None

    def _make_error(self, error: Exception) -> UnreadableFile:
        if isinstance(error, OSError) and error.strerror:
            return UnreadableFile(f"{self.name}: {error.strerror}")
        return UnreadableFile(
            f"{self.name}: the archive is damaged at this file: {describe_archive_error(error)}",
            "Create the archive again.",
        )


class _GuardedStream(io.RawIOBase):
    """Stream of a file that turns errors of the system and of archives into those of StrokeSeg."""

    def __init__(self, stream: BinaryIO, make_error: Callable[[Exception], UnreadableFile]) -> None:
        self._stream, self._make_error = stream, make_error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (StrokesegError, MemoryError):
            raise
        except Exception as error:  # see InputFile.open
            raise self._make_error(error) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def describe_archive_error(error: Exception) -> str:
    """Describe an error of a damaged archive without its message: zipfile may quote a whole file with patient data."""
    return "it breaks off" if isinstance(error, EOFError) else type(error).__name__


def is_system_file(name: str) -> bool:
    """Whether a file was left behind by a file manager and holds no content."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return (
        not parts or parts[-1].startswith("._") or parts[-1] in _SYSTEM_FILES or not _SYSTEM_FOLDERS.isdisjoint(parts)
    )


def list_folder(folder: Path) -> list[InputFile]:
    """List a folder's regular files at any depth, sorted by name.

    Links to files inside the folder are read as those files. Other links are not followed: an export may come from
    anyone, and the content of a file ends up in the results. Links of git-annex (DataLad) stand for the files of a data
    set: a folder with one that cannot be read is refused, because its scan would have holes.

    Raises
    ------
    EmptyInput, TooLarge, UnreadableFile
        `empty`; `too-large`, above 20,000 files; `unreadable`, if a folder cannot be listed, or for a link of
        git-annex.
    """
    files, pending, entry_count, link_count, root = [], [folder], 0, 0, folder.resolve()
    while pending:
        current = pending.pop()
        try:
            with os.scandir(current) as entries:
                for entry in entries:  # one at a time: a folder of a million files is never held as a list
                    entry_count += 1
                    if entry_count > limits.MAX_FILES:
                        message = f"{folder.name or folder}: more than {limits.MAX_FILES:,} files"
                        raise TooLarge(message, "Give the folder of one series.")
                    name = Path(entry.path).relative_to(folder).as_posix()
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif not is_system_file(name) and _is_file_within(entry, root):
                        files.append(InputFile(name, path=Path(entry.path)))
                    elif entry.is_symlink():
                        link_count += 1
                        if is_annex_link(Path(entry.path)):
                            raise make_link_error(name, Path(entry.path))
        except OSError as error:
            message = f"{current.name}: the folder cannot be listed: {error.strerror or error}"
            raise UnreadableFile(message, "Check its permissions.") from None
    if not files and link_count:
        message = f"{folder.name or folder}: the folder holds only links to files outside the folder"
        remedy = "Give the folder that the links point to, or a copy of the files: cp -rL FOLDER COPY."
        raise EmptyInput(message, remedy)
    if not files:
        raise EmptyInput(f"{folder.name or folder}: the folder holds no files")
    return sorted(files, key=lambda file: file.name)


def is_annex_link(path: Path) -> bool:
    """Whether a link points to an object of git-annex, which DataLad uses."""
    try:
        return _ANNEX_FOLDER in os.readlink(path).replace("\\", "/")
    except OSError:
        return False


def make_link_error(name: str, path: Path) -> UnreadableFile:
    """Return the error (`unreadable`) for a link that is not read: its file is missing or outside of the input."""
    if not is_annex_link(path):
        return UnreadableFile(f"{name}: a link to a file that does not exist", "Give the file itself.")
    if path.exists():
        return UnreadableFile(
            f"{name}: a link of git-annex (DataLad) to a file outside of the input",
            "Copy the files without links and give the copy: cp -rL FOLDER COPY.",
        )
    return UnreadableFile(
        f"{name}: a link of git-annex (DataLad) whose file was not downloaded",
        "Download it in the data set: datalad get FOLDER (or git annex get FOLDER). Then copy the files without links "
        "and give the copy: cp -rL FOLDER COPY.",
    )


def _is_file_within(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether an entry is a regular file, or a link to one below ``root``."""
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):  # a circular or broken link
        return False
    return target.is_relative_to(root) and target.is_file()


def has_archive_name(name: str) -> bool:
    """Whether a file is named like an archive; a compressed NIfTI file is not."""
    return name.lower().endswith(_ARCHIVE_ENDINGS) and not name.lower().endswith(".nii.gz")
