"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from strokeseg.errors import DiskFull, NotWritable


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that at every moment, a kill included, either the old or the new one lies there whole.

    Raises
    ------
    OSError
        As the system tells it; the old file is then as it was.
    """
    beside = _partial_path(path)
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: bytes, remedy: str, *, parents: bool = True) -> None:
    """Do as :func:`replace` does, and say in our words what went wrong.

    Parameters
    ----------
    parents : bool, default: True
        Make the folder if it is missing.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise _to_output_error(path, error, remedy) from error


def check_writable(path: Path, remedy: str, *, parents: bool = True) -> None:
    """Find out, before long work whose result it is for, whether a file can be written; see :func:`write`.

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


def _partial_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _to_output_error(path: Path, error: OSError, remedy: str) -> NotWritable | DiskFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{path}: no space is left", "Free some and try again; nothing was left half-written.")
    return NotWritable(f"{path}: cannot be written ({error.strerror})", remedy)
