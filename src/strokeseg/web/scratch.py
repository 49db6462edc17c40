"""A process's folder for files in transit, and the removal of those whose process has ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

from strokeseg.web import private_files

_DAY_S = 86400.0


class ScratchFolder:
    """A new folder beside those of other processes, which may run in other containers or on other machines.

    Beside each folder lies a lease, a file that its process holds locked. The kernel releases the lock when the process
    ends, even by `kill -9`. A process number would say nothing: every container has its own.

    Parameters
    ----------
    base : Path
        The folder of all processes; folders in it whose lease is free are deleted.

    Attributes
    ----------
    path : Path
        This process's folder.
    """

    def __init__(self, base: Path) -> None:
        private_files.create_folder(base)
        _remove_abandoned(base)
        self.path = base / uuid4().hex
        self._lease = _create_lease(self.path.with_suffix(".lease"))
        private_files.create_folder(self.path)

    def __del__(self) -> None:
        """Release the lease."""
        if hasattr(self, "_lease"):
            os.close(self._lease)


def _create_lease(path: Path) -> int:
    """Create and lock a lease; again, if another process has deleted it between the two."""
    while True:
        private_files.create_file(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, private_files.FILE_MODE)
        try:
            if _try_lock(descriptor, path):
                return descriptor
        except OSError:  # a file system without locks: nobody can take the lease, so nobody deletes the folder
            return descriptor
        os.close(descriptor)


def _try_lock(descriptor: int, path: Path) -> bool:
    """Lock a lease; return whether it is free and still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _remove_abandoned(base: Path) -> None:
    """Delete the folders whose lease is free, and those without one, of version 0.1.0, after a day."""
    for lease in base.glob("*.lease"):
        try:
            descriptor = os.open(lease, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # another process was faster, or it belongs to another user
            continue
        try:
            if _try_lock(descriptor, lease):
                shutil.rmtree(lease.with_suffix(""), ignore_errors=True)
                lease.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    for folder in base.glob("pid-*"):
        if folder.is_dir() and folder.stat().st_mtime < time.time() - _DAY_S:
            shutil.rmtree(folder, ignore_errors=True)
