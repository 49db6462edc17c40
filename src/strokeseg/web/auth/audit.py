"""The audit log: who did or saw what of which study, when, from where, and the outcome. It contains no patient data.

One JSON object per line, appended and on the disk before the action is answered. A full file is renamed to a name with
the time and never deleted: the hospital decides how long it must be kept.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from strokeseg import atomic_write
from strokeseg.errors import DiskFull, NotWritable, OutputError
from strokeseg.web import private_files

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
GATHER_S = 300.0
"""Time in which repeated looks of a user at the same part of a study have one line."""
_MAX_GATHERED = 20_000


class AuditLog:
    """A log that several processes append to.

    Parameters
    ----------
    path : Path
        The file; its folder is created if missing.
    max_bytes : int
        A file that reaches this size is renamed, and a new one is started.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`; also from :meth:`append`.
    """

    def __init__(self, path: Path, max_bytes: int = 64 * 2**20) -> None:
        self._path, self._max_bytes = path, max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open())
            private_files.restrict(path, "the audit log")
        except OSError as error:
            raise _to_output_error(error) from error

    def append(self, user: str | None, action: str, study: str | None, outcome: str, address: str) -> None:
        """Append a line; returns once it is on the disk."""
        now = time.time()
        line = {
            "time": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
            "user": user,
            "action": action,
            # Our IDs are short; anything else that a path contained is not logged.
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
            if size and size + len(content) > self._max_bytes:
                stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
                os.rename(self._path, self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
                os.close(descriptor)
                descriptor = self._locked()
                size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, content) != len(content):
                    raise OSError(errno.ENOSPC, "no space left")
                os.fsync(descriptor)
            except OSError:
                # Remove the partial line: the next one would be appended to it.
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def _locked(self) -> int:
        """Open the file and lock it; repeated if another process renamed it in between."""
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


class Views:
    """Gathers looks: one view of a study makes some forty requests, and deserves a line, not forty.

    Parameters
    ----------
    clock : callable
        Seconds by a clock that only goes forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[tuple[str | None, ...], float] = {}

    def is_new(self, *look: str | None) -> bool:
        """Return whether a look must be logged: the same one was not logged in the last five minutes."""
        now = self._clock()
        with self._lock:
            if self._logged.get(look, -GATHER_S) + GATHER_S > now:
                return False
            if len(self._logged) >= _MAX_GATHERED:
                self._logged = {key: at for key, at in self._logged.items() if at + GATHER_S > now}
            return True

    def remember(self, *look: str | None) -> None:
        """Remember a look that was logged; beyond 20,000 of them in five minutes each is logged again."""
        with self._lock:
            if len(self._logged) < _MAX_GATHERED:
                self._logged[look] = self._clock()


def _to_output_error(error: OSError) -> OutputError:
    remedy = "Actions that cannot be logged are refused. Free space, or choose another file with --audit."
    if atomic_write.is_disk_full(error):
        return DiskFull("no space left for the audit log", remedy)
    return NotWritable(f"the audit log cannot be written ({error.strerror})", remedy)
