"""The audit log: who did what to which study, when, from where, and how it ended. Nothing of the patient.

One JSON object a line, appended and on the disk before the action is answered. A full file is set aside under a name
with its time and never deleted: how long it must be kept is the hospital's to say.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from strokeseg.errors import DiskFull, NotWritable, OutputError

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}")


class AuditLog:
    """A log that several processes append to.

    Parameters
    ----------
    path : Path
        The file; its folder is made if missing.
    most_bytes : object
        A file that has grown beyond it is set aside.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`; also from :meth:`append`.
    """

    def __init__(self, path: Path, max_bytes: int = 64 * 2**20) -> None:
        self._path, self._most_bytes = path, max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open())
        except OSError as error:
            raise _to_output_error(error) from error

    def append(self, user: str | None, action: str, study: str | None, outcome: str, address: str) -> None:
        """Write a line, and return when it is on the disk."""
        now = time.time()
        line = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "user": user,
            "action": action,
            # An id is ours and short; whatever else stood in a path is not repeated.
            "study": study if study is not None and _ID.fullmatch(study) else None,
            "outcome": outcome,
            "address": address,
        }
        content = json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            self._write(content, now)
        except OSError as error:
            raise _to_output_error(error) from error

    def _write(self, content: bytes, now: float) -> None:
        descriptor = self._locked()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(content) > self._most_bytes:
                stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
                os.rename(self._path, self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
                os.close(descriptor)
                descriptor = self._locked()
                size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, content) != len(content):
                    raise OSError(errno.ENOSPC, "no space is left")
                os.fsync(descriptor)
            except OSError:
                # No half line: the next one would be glued to it.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def _locked(self) -> int:
        """Open the file and lock it; once more where another process set it aside in between."""
        while True:
            descriptor = self._open()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                    return descriptor
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _to_output_error(error: OSError) -> OutputError:
    remedy = "What cannot be logged is not done: give another place with --audit, or free space."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull("no space is left for the audit log", remedy)
    return NotWritable(f"the audit log cannot be written ({error.strerror})", remedy)
