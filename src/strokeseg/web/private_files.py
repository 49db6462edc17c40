"""Files and folders that only the server's user can read, whatever the umask."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

from strokeseg import atomic_write

log = logging.getLogger("strokeseg.serve")
FOLDER_MODE, FILE_MODE = 0o700, 0o600


def create_folder(path: Path) -> None:
    """Create a folder and its missing parents durably with mode 0700; an existing folder is not changed."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir(FOLDER_MODE)
            set_mode(folder, FOLDER_MODE)
            atomic_write.sync_folder(folder.parent)


def create_file(path: Path) -> None:
    """Create an empty file with mode 0600; an existing file is not changed."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
        set_mode(path, FILE_MODE)


def set_mode(path: Path, mode: int) -> None:
    """Set a mode against the umask; a file system without modes, such as CIFS, keeps its own."""
    with contextlib.suppress(PermissionError):
        path.chmod(mode)


def restrict(path: Path, what: str) -> None:
    """Take the rights of the group and of all others from an existing file or folder, and log that.

    Parameters
    ----------
    path : Path
        The file or folder; a missing one is ignored.
    what : str
        What it is, for the log, such as "the database".
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not mode & 0o077:
        return
    wanted = mode & 0o700
    try:
        path.chmod(wanted)
    except OSError as error:
        log.warning(
            "%s %s: other users of this machine may read it (mode %04o), and it cannot be changed (%s). Its owner must "
            "run: chmod %04o %s",
            *(what, path, mode, error.strerror, wanted, path),
        )
    else:
        log.warning("%s %s: other users of this machine could read it (mode %04o); now %04o", what, path, mode, wanted)
