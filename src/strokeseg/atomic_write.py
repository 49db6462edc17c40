"""Write files atomically and durably: a file is either complete or absent, also after a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from strokeseg.errors import DiskFull, NotWritable


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that at every moment, even if the power is cut, the old or the new file is complete.

    When this returns, the new file would survive a power cut under its name.

    Parameters
    ----------
    path : Path
        Path of the file.
    content : bytes
        New content.

    Raises
    ------
    OSError
        As the system raises it; the old file is then unchanged.
    """
    partial = _partial_path(path)
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Return when the content of a file is on the disk; its name is only after :func:`sync_folder`."""
    with path.open("r+b") as stream:  # Windows syncs only what may be written
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk: files that were created, renamed or removed in it."""
    if os.name != "posix":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise
    finally:
        os.close(handle)


def create_folders(folder: Path) -> list[Path]:
    """Create a folder and its missing parents durably, and return those that were created, from the outermost.

    Raises
    ------
    OSError
        As the system raises it; no folder is left then.
    """
    created: list[Path] = []
    try:
        for path in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            path.mkdir(exist_ok=True)
            created.append(path)
            sync_folder(path.parent)
    except OSError:
        for path in reversed(created):
            path.rmdir()
        raise
    return created


def write_file(path: Path, content: bytes, remedy: str, *, parents: bool = True) -> None:
    """Write a file as :func:`replace_file` does; raise StrokeSeg's errors.

    Parameters
    ----------
    path : Path
        Path of the file.
    content : bytes
        New content.
    remedy : str
        What the user can do if the file cannot be written.
    parents : bool, default True
        Create the folder if it is missing.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    try:
        if parents:
            create_folders(path.parent)
        replace_file(path, content)
    except OSError as error:
        raise _to_output_error(path, error, remedy) from error


def check_writable(path: Path, remedy: str, *, parents: bool = True) -> None:
    """Check that a file can be written, before the long work that produces its content.

    Parameters
    ----------
    path : Path
        Path of the file.
    remedy : str
        What the user can do if the file cannot be written.
    parents : bool, default True
        Create the folder if it is missing.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    if path.is_dir():
        raise NotWritable(f"{path}: is a folder, a file is needed", remedy)
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        _partial_path(path).touch()
        _partial_path(path).unlink()
    except OSError as error:
        raise _to_output_error(path, error, remedy) from error


def is_disk_full(error: OSError) -> bool:
    """Whether an error of the operating system means that no space or quota is left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _to_output_error(path: Path, error: OSError, remedy: str) -> NotWritable | DiskFull:
    if is_disk_full(error):
        return DiskFull(f"{path}: no space is left", "Free space and try again; no incomplete file was left.")
    return NotWritable(f"{path}: cannot be written ({error.strerror})", remedy)
