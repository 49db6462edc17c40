"""Temporary folders for fetched files, and the removal of those whose process was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "strokeseg-batch-"


@contextmanager
def provide_folder() -> Iterator[Path]:
    """Provide a folder in the system's temporary folder; first remove those of this user whose process has ended.

    A process holds its folder locked. The kernel releases the lock when the process ends, even by `kill -9`, so that
    the files of a patient stay no longer than until the next batch.

    Yields
    ------
    Path
        The folder; it is removed at the end of the block.
    """
    _remove_abandoned()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # a file system without locks: nobody can take the lock, so nobody removes the folder
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():  # otherwise another process took it for an abandoned one before it was locked
            break
        os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another process was faster, or it belongs to another user
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
